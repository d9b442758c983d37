//! What a delivery to a domain would do about TLS, and why: found out by asking DNS and shaking hands
//! with each host, without sending mail.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use courser_core::route::mta_sts::Policy;
use courser_core::route::tls::{Demand, Level};
use courser_core::route::{Plan, PlanHost, dane};
use courser_core::smtp::client::{self, Cause, EhloName, Event, Options, State, TlsMode};
use serde::Serialize;
use tokio::sync::Notify;

use super::link::Link;
use super::transaction::Transactions;
use super::wanted::wanted;
use crate::config::Config;
use crate::net::clock;
use crate::net::path::WebPki;
use crate::net::tcp::Stream;
use crate::net::tls::{Client, Conn, Leaf, Trust};
use crate::route::Router;
use crate::route::dns::Dns;
use crate::route::mta_sts::fetch::{self, FetchError};
use crate::route::mta_sts::{Policies, store::Store};

/// What one host showed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Probed {
    /// Its name, from MX or a route.
    pub host: String,
    /// Its preference.
    pub preference: u16,
    /// The address that was tried; none if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// Whether DNSSEC vouches for its MX and address records.
    pub secure: bool,
    /// Its TLSA records, where DNSSEC vouches for them.
    pub tlsa: Vec<String>,
    /// How much TLS mail wants there.
    pub level: String,
    /// By whom it has to be verified: `authorities`, `dane`, or nobody.
    pub verified_by: String,
    /// Whether it offers STARTTLS.
    pub starttls: bool,
    /// `TLSv1.3`
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Cipher suite.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cipher: String,
    /// Group of the key exchange.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its certificates, its own first.
    pub chain: Vec<Leaf>,
    /// What the authorities that are trusted here say of it: `valid`, or what is wrong.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub authorities: String,
    /// What its TLSA records say of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dane: String,
    /// What went wrong before that.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trouble: String,
    /// Whether a delivery would go there.
    pub delivers: bool,
    /// How it would go there, or why not.
    pub verdict: String,
}

/// The domain's own policy (RFC 8461), as it is published now.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sts {
    /// `enforce`, `testing` or `none`; empty if it can't be fetched.
    pub mode: String,
    /// The hosts that it allows.
    pub mx: Vec<String>,
    /// How long it holds, seconds.
    pub max_age_s: u32,
    /// Hosts of the domain's MX records that it doesn't allow.
    pub not_allowed: Vec<String>,
    /// Why it can't be fetched.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trouble: String,
}

/// What a domain's mail would meet.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The domain.
    pub domain: String,
    /// Why it has no hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How much TLS the configuration wants for it.
    pub level: String,
    /// Whether DNSSEC vouches for its MX records.
    pub secure: bool,
    /// Its own policy, if it says that it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mta_sts: Option<Sts>,
    /// Its hosts, in the order in which they would be tried.
    pub hosts: Vec<Probed>,
}

/// What a probe works with.
pub struct Prober<'a> {
    /// The configuration.
    pub config: &'a Arc<Config>,
    /// Asks DNS.
    pub dns: Rc<Dns>,
    /// Shakes hands.
    pub client: &'a Client,
    /// How long a host has to answer.
    pub patience: Duration,
}

impl Sts {
    fn of(fetched: Result<Policy, FetchError>) -> Self {
        match fetched {
            Ok(policy) => Self {
                mode: policy.mode.to_string(),
                mx: policy.patterns(),
                max_age_s: policy.max_age_s,
                ..Self::default()
            },
            Err(error) => Self {
                trouble: error.text,
                ..Self::default()
            },
        }
    }
}

impl Prober<'_> {
    /// Probes the hosts of `domain`, or, with `host`, that one host.
    pub async fn probe(&self, domain: &str, host: Option<&Plan>) -> Report {
        let options = crate::route::options(self.config, &[]);
        let (policies, wanted) = Policies::load(Store::nowhere(), clock::wall());
        let router = Router::new(
            self.dns.clone(),
            Arc::new(options),
            self.config.clone(),
            policies.clone(),
        );
        let demand = Demand::default();
        let mut report = Report {
            domain: domain.to_owned(),
            error: None,
            level: String::new(),
            secure: false,
            mta_sts: None,
            hosts: Vec::new(),
        };
        let (plan, said) = match host {
            Some(plan) => (Arc::new(plan.clone()), None),
            None => {
                let fetched = RefCell::default();
                let routed = tokio::select! {
                    routed = router.route(domain, &demand, clock::random_u64()) => routed,
                    never = fetch::alone(self.client, &router, &policies, wanted, &fetched) => match never {},
                };
                report.mta_sts = fetched.take().map(Sts::of);
                match routed {
                    Ok(routed) => {
                        if let (Some(sts), Some(applied)) = (&mut report.mta_sts, &routed.sts) {
                            let not_allowed = applied.not_allowed.iter();
                            sts.not_allowed = not_allowed.map(ToString::to_string).collect();
                        }
                        (routed.plan, routed.tls)
                    }
                    Err(error) => {
                        report.error = Some(error.text);
                        return report;
                    }
                }
            }
        };
        let provider = crate::queue::providers::Providers::new(self.config);
        let said = said.max(provider.of(domain, &plan).and_then(|p| p.tls));
        let level = Level::decide([said], self.config.tls.level);
        level.word().clone_into(&mut report.level);
        report.secure = plan.secure;
        for host in &plan.hosts {
            report.hosts.push(self.host(host, level, &demand).await);
        }
        report
    }

    async fn host(&self, host: &PlanHost, level: Level, demand: &Demand) -> Probed {
        let mut probed = Probed {
            host: host.name.to_string(),
            preference: host.preference,
            secure: host.secure,
            ..Probed::default()
        };
        let wanted = match wanted(&self.dns, self.config, (level, demand), host).await {
            Ok(wanted) => wanted,
            Err(fault) => {
                probed.verdict = format!("no delivery: {fault}");
                return probed;
            }
        };
        wanted.level.word().clone_into(&mut probed.level);
        wanted.trust.word().clone_into(&mut probed.verified_by);
        if let Trust::Dane(dane) = &wanted.trust {
            probed.tlsa = dane.records.iter().map(ToString::to_string).collect();
        }
        for &ip in &host.addresses {
            let address = SocketAddr::new(ip, host.port);
            probed.address = Some(address);
            probed.trouble.clear();
            if self
                .shake_hands(host, address, &wanted.trust, &mut probed)
                .await
            {
                break;
            }
        }
        (probed.delivers, probed.verdict) = verdict(wanted.level, &wanted.trust, &probed);
        probed
    }

    /// `false` when nobody answers at the address.
    async fn shake_hands(
        &self,
        host: &PlanHost,
        address: SocketAddr,
        trust: &Trust,
        probed: &mut Probed,
    ) -> bool {
        let source = self.config.sources.first();
        let from = source
            .and_then(|s| s.address)
            .filter(|s| s.is_ipv4() == address.is_ipv4());
        let stream = match Stream::connect(address, from, self.patience).await {
            Ok(stream) => stream,
            Err(error) => {
                probed.trouble = format!("no connection: {error}");
                return false;
            }
        };
        let name = source.map_or(&self.config.hostname, |s| &s.ehlo);
        let Ok(ehlo_name) = EhloName::new(name) else {
            return false;
        };
        let patience = self.patience;
        let options = Options {
            tls: TlsMode::Opportunistic,
            timeouts: client::Timeouts {
                greeting: patience,
                hello: patience,
                starttls: patience,
                ..client::Timeouts::default()
            },
            ..Options::new(ehlo_name)
        };
        // With anyone, so that what is wrong with a certificate can be said; judged below.
        let attempt = self.client.attempt(&host.name, &Trust::Anyone).ok();
        let mut link = Link::new(Conn::new(stream), options, attempt);
        let (mut ready, mut broken) = (false, String::new());
        let (mut tls_broken, mut unanswered) = (false, false);
        let never = Notify::new();
        let mut hear = |machine: &client::Session, _: &mut Transactions, event: Event| match event {
            Event::Ready(_) => ready = true,
            Event::Broken { failure } => {
                tls_broken = matches!(failure.state, State::StartTls | State::Handshake);
                unanswered = failure.state == State::Hello
                    && matches!(failure.cause, Cause::Closed | Cause::Timeout);
                let reply = machine.reply().map(|r| r.text().to_string());
                broken = match reply {
                    Some(reply) => format!("{}: {reply}", failure.cause),
                    None => failure.cause.to_string(),
                };
            }
            _ => {}
        };
        link.drive(&mut Transactions::default(), &mut hear, &never, None)
            .await;
        if let Some(fault) = link.fault() {
            probed.starttls = true;
            probed.trouble = fault.to_string();
        } else if !ready {
            probed.starttls = tls_broken || (unanswered && link.stream().facts().is_some());
            probed.trouble = broken;
        } else if let Some(facts) = link.stream().facts() {
            probed.starttls = true;
            facts.version.clone_into(&mut probed.version);
            probed.cipher.clone_from(&facts.cipher);
            probed.group.clone_from(&facts.group);
            let chain = link.stream().peer_chain();
            self.judge(&host.name, &chain, trust, probed);
        }
        link.machine().quit();
        link.drive(
            &mut Transactions::default(),
            &mut |_, _, _| {},
            &never,
            None,
        )
        .await;
        true
    }

    fn judge(&self, host: &str, chain: &[Vec<u8>], trust: &Trust, probed: &mut Probed) {
        let now = clock::wall();
        probed.chain = chain.iter().map(|der| Leaf::of(der)).collect();
        probed.authorities = match self.client.judge(host, chain, now) {
            Ok(()) => "valid".to_owned(),
            Err(fault) => fault.text,
        };
        if let Trust::Dane(dane) = trust {
            let chain: Vec<&[u8]> = chain.iter().map(|der| &der[..]).collect();
            let peer = dane::Peer {
                chain: &chain,
                names: &dane.names,
                now,
            };
            probed.dane = match dane::judge(&peer, &dane.records, &WebPki) {
                dane::Verdict::Pass(_) => "valid".to_owned(),
                other => other.to_string(),
            };
        }
    }
}

/// Whether a delivery goes to a host that showed this, and how, or why not.
fn verdict(level: Level, trust: &Trust, probed: &Probed) -> (bool, String) {
    let Some(address) = probed.address else {
        return (false, "no delivery: it has no address".to_owned());
    };
    if !probed.starttls && !probed.trouble.is_empty() {
        return (
            false,
            format!("no delivery to {address}: {}", probed.trouble),
        );
    }
    if level == Level::Off {
        return (
            true,
            "in plaintext: the configuration wants no TLS".to_owned(),
        );
    }
    if probed.version.is_empty() {
        let why = match probed.trouble.as_str() {
            "" => "it offers no STARTTLS",
            trouble => trouble,
        };
        return match level.allows_plaintext() {
            true => (true, format!("in plaintext: {why}")),
            false => (false, format!("no delivery: {why}, and TLS is {level}")),
        };
    }
    let how = format!("over {}", probed.version);
    match trust {
        Trust::Anyone => (true, format!("{how}, whoever it is")),
        Trust::Authorities if probed.authorities == "valid" => {
            (true, format!("{how}, verified by an authority"))
        }
        Trust::Authorities => (false, format!("no delivery: {}", probed.authorities)),
        Trust::Dane(_) if probed.dane == "valid" => {
            (true, format!("{how}, verified by its TLSA records"))
        }
        Trust::Dane(_) => (false, format!("no delivery: {}", probed.dane)),
    }
}
