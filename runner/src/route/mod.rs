//! Due → Plan: where the mail of a domain goes now.
//!
//! [`Router::route`] asks the configuration's routes first, then DNS through [`dns`], and then the
//! domain's own policy through [`mta_sts`]. The rules are [`courser_core::route`]'s; this drives them.

pub mod dns;
pub mod mta_sts;

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use courser_core::dns::{Name, Outcome, Question};
use courser_core::limits::MX_HOSTS_MAX;
use courser_core::mail::address::Domain;
use courser_core::route::mta_sts::{Applied, FetchFault, question};
use courser_core::route::tls::{Demand, Level};
use courser_core::route::{
    FamilyOrder, Fault, FixedHost, MxLookup, Options, Plan, RouteError, Step,
};
use courser_core::smtp::reply::EnhancedCode;
use courser_core::time::Wall;

use self::dns::Dns;
use self::mta_sts::Policies;
use crate::config::{AddressFamily, Config, Host, Route};
use crate::net::clock;

/// Where a domain's mail goes.
#[derive(Clone, Debug)]
pub struct Routed {
    /// Hosts and addresses.
    pub plan: Arc<Plan>,
    /// They speak LMTP.
    pub lmtp: bool,
    /// How much TLS the configuration wants for the domain or its route, or the domain itself.
    pub tls: Option<Level>,
    /// The domain's own policy, to enforce or to test.
    pub sts: Option<Arc<Applied>>,
    /// Why there is none where there should be one, and until when that stands.
    pub sts_fault: Option<(Arc<FetchFault>, Wall)>,
    /// They speak TLS from the first byte.
    pub implicit_tls: bool,
    /// The route whose user and password we have there.
    pub login: Option<Arc<str>>,
}

/// The options of the core's rules, from the configuration; `own_addresses` are those that the
/// server listens on.
pub fn options(config: &Config, own_addresses: &[std::net::IpAddr]) -> Options {
    let name = |text: &str| Name::parse(text).ok();
    let delivery = &config.delivery;
    Options {
        order: match delivery.address_family {
            AddressFamily::Ipv4First => FamilyOrder::Prefer4,
            AddressFamily::Ipv6First => FamilyOrder::Prefer6,
            AddressFamily::Interleave => FamilyOrder::Interleave,
            AddressFamily::Ipv4Only => FamilyOrder::Only4,
            AddressFamily::Ipv6Only => FamilyOrder::Only6,
        },
        own_names: delivery
            .own_names
            .iter()
            .filter_map(|n| name(n))
            .chain(name(&config.hostname))
            .chain(config.sources.iter().filter_map(|s| name(&s.ehlo)))
            .chain(config.listeners.iter().filter_map(|l| name(&l.hostname)))
            .collect(),
        own_addresses: delivery
            .own_addresses
            .iter()
            .chain(own_addresses)
            .copied()
            .chain(config.sources.iter().filter_map(|s| s.address))
            .collect(),
        allow_special: delivery.allow_private.iter().map(|n| n.parts()).collect(),
        port: delivery.port,
        ..Options::default()
    }
}

/// What a domain's own policy comes to.
#[derive(Default)]
struct OfPolicy {
    sts: Option<Arc<Applied>>,
    sts_fault: Option<(Arc<FetchFault>, Wall)>,
    /// There may be one that can't be had now.
    unknown: bool,
}

/// Whether anything may go to an address that is no mail host's.
///
/// # Errors
/// The address, and why not.
pub fn allowed(options: &Options, ip: IpAddr) -> Result<(), String> {
    match options.refuses(ip) {
        Some(what) => Err(format!(
            "{ip}, {what}; delivery.allow_private would allow it"
        )),
        None => Ok(()),
    }
}

/// Routes domains for one shard.
pub struct Router {
    dns: Rc<Dns>,
    options: Arc<Options>,
    config: Arc<Config>,
    policies: Arc<Policies>,
}

impl Router {
    /// A router over `dns`.
    pub fn new(
        dns: Rc<Dns>,
        options: Arc<Options>,
        config: Arc<Config>,
        policies: Arc<Policies>,
    ) -> Self {
        Self {
            dns,
            options,
            config,
            policies,
        }
    }

    /// Where mail for `domain` that asks for this goes. `seed` shuffles hosts of equal preference.
    ///
    /// # Errors
    /// Why nowhere, or not now.
    pub async fn route(
        &self,
        domain: &str,
        demand: &Demand,
        seed: u64,
    ) -> Result<Routed, RouteError> {
        let name = Name::from_domain(domain);
        let key = name.as_ref().map_or(domain, |name| name.as_str());
        let of_domain = self.config.tls.of_domain(key);
        let Some(route) = self.config.route_for(key) else {
            let lookup = match Domain::parse(domain) {
                Ok(parsed) => MxLookup::new(parsed, self.options.clone(), seed),
                // Says in its own words that it is no domain.
                Err(_) => MxLookup::new(Domain::Name(domain), self.options.clone(), seed),
            };
            let mut plan = self.drive(lookup).await?;
            let OfPolicy {
                sts,
                sts_fault,
                unknown,
            } = match &name {
                Ok(name) if name.is_hostname() && self.config.tls.asks_for_policy(key, demand) => {
                    self.policy(name, &mut plan).await?
                }
                _ => OfPolicy::default(),
            };
            let of_policy = sts.as_ref().and_then(|sts| sts.level());
            if demand.required && !plan.secure && of_policy.is_none() {
                return Err(RouteError::insecure(domain, unknown));
            }
            return Ok(Routed {
                plan: Arc::new(plan),
                lmtp: false,
                tls: of_domain.max(of_policy),
                sts,
                sts_fault,
                implicit_tls: false,
                login: None,
            });
        };
        let plan = if route.mx {
            self.smart_host_mx(route, domain, seed).await?
        } else {
            self.fixed(route, domain, seed).await?
        };
        Ok(Routed {
            plan: Arc::new(plan),
            lmtp: route.lmtp,
            tls: of_domain.max(route.level()),
            login: route.auth.as_ref().map(|_| route.domain.to_string().into()),
            sts: None,
            sts_fault: None,
            implicit_tls: route.implicit_tls,
        })
    }

    /// What the domain's own policy makes of its plan, which holds no longer than what DNS says of the
    /// policy then; and whether there may be a policy that can't be had now.
    async fn policy(&self, domain: &Name, plan: &mut Plan) -> Result<OfPolicy, RouteError> {
        // A name that is too long for the question has no policy.
        let Ok(question) = question(domain) else {
            return Ok(OfPolicy::default());
        };
        let answer = self.dns.ask_patiently(question).await;
        let asked = self.policies.ask(domain, &answer.outcome).await;
        let now = clock::wall();
        let mut unknown = matches!(answer.outcome, Outcome::Failed(_));
        let mut valid_for = match unknown {
            // A server that can't answer is not asked all the time.
            true => Duration::MAX,
            false => answer.ttl(clock::now()),
        };
        let again = asked.again.filter(|again| *again > now);
        if let Some(again) = again {
            let wait_s = again.unix().saturating_sub(now.unix());
            valid_for = valid_for.min(Duration::from_secs(wait_s.unsigned_abs()));
            unknown = true;
        }
        plan.valid_for = plan.valid_for.min(valid_for.max(self.options.valid_min));
        let mut found = OfPolicy {
            unknown,
            ..OfPolicy::default()
        };
        match asked.cached {
            None => found.sts_fault = asked.fault.zip(again),
            Some(cached) => found.sts = Applied::to(plan, domain, &cached, now)?.map(Arc::new),
        }
        Ok(found)
    }

    /// The addresses of a host that isn't one of mail, in the order to try them.
    ///
    /// # Errors
    /// Why there are none that may be gone to, in words.
    pub async fn addresses(&self, host: &Name) -> Result<Vec<IpAddr>, String> {
        let asking = self.options.address_questions(host).into_iter();
        // All are asked before the first is awaited.
        let asking: Vec<_> = asking
            .map(|question| {
                let dns = self.dns.clone();
                crate::net::ring::spawn(async move { dns.ask_patiently(question).await })
            })
            .collect();
        let (mut found, mut why) = (Vec::new(), format!("{host} has no address"));
        for answer in asking {
            let Ok(answer) = answer.await else { continue };
            if let Outcome::Failed(failure) = &answer.outcome {
                why = format!("the address of {host} can't be found: {failure}");
            }
            let v4 = answer.a().iter().map(|ip| IpAddr::from(*ip));
            found.extend(v4.chain(answer.aaaa().iter().map(|ip| IpAddr::from(*ip))));
        }
        found.retain(|ip| match allowed(&self.options, *ip) {
            Err(what) => {
                why = format!("{host} has the address {what}");
                false
            }
            Ok(()) => true,
        });
        match found.is_empty() {
            true => Err(why),
            false => Ok(self.options.order(found, clock::random_u64())),
        }
    }

    async fn fixed(&self, route: &Route, domain: &str, seed: u64) -> Result<Plan, RouteError> {
        let hosts = route.to.iter().enumerate().filter_map(|(i, target)| {
            let port = target.port.unwrap_or(self.options.port);
            // In the order of the file: the first one that answers.
            let preference = u16::try_from(i).unwrap_or(u16::MAX);
            match &target.host {
                Host::Address(ip) => Some(FixedHost::Address {
                    address: SocketAddr::new(*ip, port),
                    preference,
                }),
                Host::Name(name) => {
                    let name = Name::parse(name).ok()?;
                    Some(FixedHost::Name {
                        name,
                        port,
                        preference,
                    })
                }
            }
        });
        self.drive(MxLookup::fixed(domain, hosts, self.options.clone(), seed))
            .await
    }

    /// The MX hosts of each domain that the route names, one after the other.
    async fn smart_host_mx(
        &self,
        route: &Route,
        domain: &str,
        seed: u64,
    ) -> Result<Plan, RouteError> {
        let mut whole: Option<Plan> = None;
        let mut trouble = None;
        for target in &route.to {
            let Host::Name(name) = &target.host else {
                continue;
            };
            let options = Options {
                port: target.port.unwrap_or(self.options.port),
                ..(*self.options).clone()
            };
            match self
                .drive(MxLookup::new(Domain::Name(name), Arc::new(options), seed))
                .await
            {
                Ok(plan) => match &mut whole {
                    None => whole = Some(plan),
                    Some(whole) => {
                        let room = MX_HOSTS_MAX.saturating_sub(whole.hosts.len());
                        whole.hosts.extend(plan.hosts.into_iter().take(room));
                        whole.valid_for = whole.valid_for.min(plan.valid_for);
                        whole.secure &= plan.secure;
                    }
                },
                Err(error) => trouble = Some(error),
            }
        }
        match (whole, trouble) {
            (Some(plan), _) => Ok(plan),
            // A slip of ours bounces nothing.
            (None, Some(error)) => Err(RouteError {
                permanent: false,
                enhanced: EnhancedCode::new(4, 4, 4),
                text: format!("the route for {domain} leads nowhere: {}", error.text),
                ..error
            }),
            (None, None) => self.fixed(route, domain, seed).await,
        }
    }

    /// Finds what `lookup` looks for.
    ///
    /// # Errors
    /// Why nowhere, or not now.
    pub async fn drive(&self, mut lookup: MxLookup) -> Result<Plan, RouteError> {
        loop {
            let mut questions: Vec<Question> = Vec::new();
            loop {
                match lookup.poll() {
                    Step::Ask(question) => questions.push(question),
                    Step::Done(result) => return result,
                    Step::Wait => break,
                }
            }
            // All are asked before the first is awaited, so they go out together.
            let mut open: Vec<_> = questions
                .into_iter()
                .map(|question| {
                    let dns = self.dns.clone();
                    let asked = question.clone();
                    (
                        question,
                        crate::net::ring::spawn(async move { dns.ask_patiently(asked).await }),
                    )
                })
                .collect();
            if open.is_empty() {
                debug_assert!(false, "a lookup that waits has asked something");
                return Err(RouteError {
                    fault: Fault::Dns,
                    permanent: false,
                    enhanced: EnhancedCode::new(4, 4, 3),
                    text: "the lookup of its hosts got stuck".to_owned(),
                    valid_for: std::time::Duration::from_secs(60),
                });
            }
            for (question, answer) in open.drain(..) {
                if let Ok(answer) = answer.await {
                    lookup.answer(clock::now(), &question, &answer);
                }
            }
        }
    }
}
