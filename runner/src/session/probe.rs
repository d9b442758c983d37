//! What a delivery to a domain would do about TLS, and why: found out by asking DNS and shaking hands
//! with each host, without sending mail.
//!
//! Routes, levels and what a host has to show are found as for a delivery. What differs is the
//! handshake: it takes anyone, and is judged afterwards, so that all can be shown that is wrong.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use courser_core::dns::Name;
use courser_core::route::mta_sts::{FetchFault, Policy};
use courser_core::route::tls::{Demand, Level};
use courser_core::route::{Plan, PlanHost, RouteError, dane};
use courser_core::smtp::client::{self, Cause, EhloName, Event, Options, State, TlsMode};
use serde::Serialize;
use tokio::sync::Notify;

use super::link::Link;
use super::transaction::Transactions;
use super::wanted::{Wanted, wanted};
use crate::config::{self, Config, Host, Route, Source};
use crate::net::clock;
use crate::net::path::WebPki;
use crate::net::tcp::Stream;
use crate::net::tls::{Client, Conn, Fault, Leaf, Proof, Trust};
use crate::queue::providers::Providers;
use crate::route::Router;
use crate::route::dns::Dns;
use crate::route::mta_sts::fetch;
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
    /// It said itself that it takes nothing.
    #[serde(skip)]
    refused: bool,
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

/// What becomes of mail from one source.
#[derive(Clone, Debug, Serialize)]
pub struct OfSource {
    /// Its name.
    pub source: String,
    /// How much TLS its mail wants.
    pub level: String,
    /// What in the configuration, or who, wants that much.
    pub asked_by: String,
    /// Whether a host would get it.
    pub delivers: bool,
    /// Which one and how, or why it waits.
    pub verdict: String,
}

/// A stream whose mail wants more TLS than the report is about, or less.
#[derive(Clone, Debug, Serialize)]
pub struct OfStream {
    /// Its name.
    pub stream: String,
    /// How much its mail wants.
    pub level: String,
}

/// What a domain's mail would meet.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The domain.
    pub domain: String,
    /// Why it has no hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its mail bounces for that, instead of waiting.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bounces: bool,
    /// The stream whose mail this is about; empty: mail of which no stream says anything.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    /// How much TLS the configuration wants for it; where sources differ, the strictest.
    pub level: String,
    /// What in the configuration, or who, wants that much: `tls.level`, `source a`.
    pub asked_by: String,
    /// The domains of the route that says where its mail goes; empty: DNS does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route: String,
    /// Its hosts are spoken to in LMTP.
    pub lmtp: bool,
    /// Its hosts speak TLS from the first byte.
    pub implicit_tls: bool,
    /// We would log in there; a probe doesn't.
    pub login: bool,
    /// Whether DNSSEC vouches for its MX records.
    pub secure: bool,
    /// Its own policy, if it says that it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mta_sts: Option<Sts>,
    /// What becomes of its mail, by the source that it leaves from.
    pub sources: Vec<OfSource>,
    /// Streams whose mail wants more TLS, or less, and isn't looked at.
    pub streams: Vec<OfStream>,
    /// Its hosts, in the order in which they would be tried, as mail of the strictest source finds them.
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
    /// The stream that the mail would be of; `None`: of the only one, or of none that says anything.
    pub stream: Option<&'a config::Stream>,
}

/// Port of submission over TLS from the first byte (RFC 8314 7.3).
const SUBMISSIONS: u16 = 465;

/// Where mail goes, and how one speaks there.
struct Way<'a> {
    plan: Arc<Plan>,
    /// How much TLS mail wants, whatever it is and wherever it comes from, and who says so.
    wishes: Vec<(String, Option<Level>)>,
    route: Option<&'a Route>,
    implicit_tls: bool,
}

/// A source, and how much TLS its mail wants.
struct Sender<'a> {
    source: &'a Source,
    level: Level,
    asked_by: String,
}

impl Sender<'_> {
    fn reaches(&self, ip: IpAddr) -> bool {
        let own = self.source.address;
        own.is_none_or(|own| own.is_ipv4() == ip.is_ipv4())
    }
}

/// What becomes of mail at one host.
struct Outcome {
    delivers: bool,
    /// How, or why not.
    why: String,
    /// The host itself says that it doesn't want any.
    refused: bool,
}

impl Outcome {
    fn by(how: impl Into<String>) -> Self {
        Self {
            delivers: true,
            why: how.into(),
            refused: false,
        }
    }

    fn none(why: impl Into<String>) -> Self {
        Self {
            delivers: false,
            why: why.into(),
            refused: false,
        }
    }
}

impl Sts {
    fn of(fetched: Result<Policy, FetchFault>) -> Self {
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

impl<'a> Prober<'a> {
    /// Probes the hosts of `domain`, or, with `host`, that one host.
    pub async fn probe(&self, domain: &str, host: Option<&Plan>) -> Report {
        let stream = match (self.stream, &self.config.streams[..]) {
            (None, [only]) => Some(only),
            (given, _) => given,
        };
        let demand = Demand {
            level: stream.and_then(|s| s.tls),
            ..Demand::default()
        };
        let mut report = Report {
            domain: domain.to_owned(),
            stream: stream.map_or(String::new(), |s| s.name.to_string()),
            ..Report::default()
        };
        let way = match host {
            Some(plan) => self.to_host(domain, plan),
            None => match self.to_domain(domain, &demand, &mut report).await {
                Ok(way) => way,
                Err(error) => {
                    report.error = Some(error.text);
                    report.bounces = error.permanent;
                    return report;
                }
            },
        };
        report.secure = way.plan.secure;
        report.implicit_tls = way.implicit_tls;
        if let Some(route) = way.route {
            report.route = route.domain.to_string();
            report.lmtp = route.lmtp;
            report.login = route.auth.is_some();
        }
        let senders = self.senders(stream, &way);
        // The first of the strictest.
        let strictest = senders
            .iter()
            .enumerate()
            .rev()
            .max_by_key(|(_, s)| s.level);
        let Some((strictest, sender)) = strictest else {
            return report;
        };
        sender.level.word().clone_into(&mut report.level);
        report.asked_by.clone_from(&sender.asked_by);
        if stream.is_none() {
            report.streams = self.others(&way, sender.level);
        }
        let mut met = Vec::new();
        for host in &way.plan.hosts {
            let (mut probed, outcomes) = self.host(host, &way, &senders, &demand).await;
            let outcome = &outcomes[strictest];
            probed.delivers = outcome.delivers;
            probed.verdict = match outcome.delivers {
                true => outcome.why.clone(),
                false => format!("no delivery: {}", outcome.why),
            };
            report.hosts.push(probed);
            met.push(outcomes);
        }
        // A delivery tries no more of them.
        met.truncate(self.config.delivery.max_hosts);
        for (i, sender) in senders.iter().enumerate() {
            let outcomes = report.hosts.iter().zip(met.iter().map(|met| &met[i]));
            let (delivers, verdict) = fate(outcomes);
            report.sources.push(OfSource {
                source: sender.source.name.to_string(),
                level: sender.level.word().to_owned(),
                asked_by: sender.asked_by.clone(),
                delivers,
                verdict,
            });
        }
        report
    }

    /// Where the mail of a domain goes.
    async fn to_domain(
        &self,
        domain: &str,
        demand: &Demand,
        report: &mut Report,
    ) -> Result<Way<'a>, RouteError> {
        let options = crate::route::options(self.config, &[]);
        let (policies, wanted) = Policies::load(Store::nowhere(), clock::wall());
        let router = Router::new(
            self.dns.clone(),
            Arc::new(options),
            self.config.clone(),
            policies.clone(),
        );
        let fetched = RefCell::default();
        let routed = tokio::select! {
            routed = router.route(domain, demand, clock::random_u64()) => routed,
            never = fetch::alone(self.client, &router, &policies, wanted, &fetched) => match never {},
        };
        report.mta_sts = fetched.take().map(Sts::of);
        let routed = routed?;
        if let (Some(sts), Some(applied)) = (&mut report.mta_sts, &routed.sts) {
            let not_allowed = applied.not_allowed.iter();
            sts.not_allowed = not_allowed.map(ToString::to_string).collect();
        }
        let name = Name::from_domain(domain);
        let key = name.as_ref().map_or(domain, |name| name.as_str());
        let route = self.config.route_for(key);
        let who = match route {
            Some(route) => format!("the route for {}", route.domain),
            None => "its MTA-STS policy".to_owned(),
        };
        let of_domain = self.config.tls.of_domain(key);
        let mut wishes = vec![("tls.domain".to_owned(), of_domain), (who, routed.tls)];
        wishes.extend(self.of_provider(domain, &routed.plan));
        Ok(Way {
            plan: routed.plan,
            wishes,
            route,
            implicit_tls: routed.implicit_tls,
        })
    }

    /// To one host: as the first route that names it speaks to it, else in SMTP, with TLS from the first
    /// byte where its port is for that.
    fn to_host(&self, host: &str, plan: &Plan) -> Way<'a> {
        let port = plan.hosts.first().map_or(0, |h| h.port);
        let route = route_to(self.config, host, port);
        let mut wishes = Vec::new();
        if let Some(route) = route {
            wishes.push((format!("the route for {}", route.domain), route.level()));
        }
        wishes.extend(self.of_provider(host, plan));
        Way {
            plan: Arc::new(plan.clone()),
            wishes,
            route,
            implicit_tls: route.map_or(port == SUBMISSIONS, |r| r.implicit_tls),
        }
    }

    fn of_provider(&self, domain: &str, plan: &Plan) -> Option<(String, Option<Level>)> {
        let providers = Providers::new(self.config);
        let provider = providers.of(domain, plan)?;
        Some((format!("provider {}", provider.name), provider.tls))
    }

    /// The sources that mail leaves from: those of the stream's pool, or all.
    fn senders(&self, stream: Option<&config::Stream>, way: &Way<'_>) -> Vec<Sender<'a>> {
        let config: &'a Config = self.config;
        let of_pool = |stream: &config::Stream| {
            let members = config.pools[stream.pool].members.iter();
            members.map(|m| &config.sources[m.source]).collect()
        };
        let sources: Vec<&Source> = match stream {
            Some(stream) => of_pool(stream),
            None => config.sources.iter().collect(),
        };
        let senders = sources.into_iter().map(|source| {
            let mut wishes = way.wishes.clone();
            if let Some(stream) = stream {
                wishes.push((format!("stream {}", stream.name), stream.tls));
            }
            wishes.push((format!("source {}", source.name), source.tls));
            let set = wishes.iter().map(|(_, level)| *level);
            let level = Level::decide(set, config.tls.level);
            let who = wishes.into_iter().find(|(_, set)| *set == Some(level));
            Sender {
                source,
                level,
                asked_by: who.map_or_else(|| "tls.level".to_owned(), |(who, _)| who),
            }
        });
        senders.collect()
    }

    /// The streams whose mail wants something else.
    fn others(&self, way: &Way<'_>, level: Level) -> Vec<OfStream> {
        let streams = self.config.streams.iter();
        let wants = streams.filter_map(|stream| {
            let senders = self.senders(Some(stream), way);
            let wants = senders.iter().map(|s| s.level).max()?;
            (wants != level).then(|| OfStream {
                stream: stream.name.to_string(),
                level: wants.word().to_owned(),
            })
        });
        wants.collect()
    }

    /// What a host shows, and what becomes of each sender's mail there.
    async fn host(
        &self,
        host: &PlanHost,
        way: &Way<'_>,
        senders: &[Sender<'_>],
        demand: &Demand,
    ) -> (Probed, Vec<Outcome>) {
        let mut probed = Probed {
            host: host.name.to_string(),
            preference: host.preference,
            secure: host.secure,
            ..Probed::default()
        };
        let mut all = Vec::new();
        for sender in senders {
            let wanted = wanted(&self.dns, self.config, (sender.level, demand), host).await;
            all.push(wanted);
        }
        let strictest = all.iter().flatten().max_by_key(|w| w.level);
        let Some(strictest) = strictest else {
            let faults = all.into_iter().filter_map(Result::err);
            let outcomes = faults.map(|fault| Outcome::none(fault.text));
            return (probed, outcomes.collect());
        };
        strictest.level.word().clone_into(&mut probed.level);
        strictest.trust.word().clone_into(&mut probed.verified_by);
        if let Trust::Dane(dane) = &strictest.trust {
            probed.tlsa = dane.records.iter().map(ToString::to_string).collect();
        }
        let mut outcomes: Vec<Outcome> = all
            .iter()
            .map(|wanted| match wanted {
                Ok(_) => Outcome::none("it has no address that the source can reach"),
                Err(fault) => Outcome::none(fault.text.clone()),
            })
            .collect();
        let mut shown: Option<(bool, Probed)> = None;
        for &ip in &host.addresses {
            let fitting = senders.iter().filter(|s| s.reaches(ip));
            let Some(sender) = fitting.max_by_key(|s| s.level) else {
                continue;
            };
            let address = SocketAddr::new(ip, host.port);
            let mut seen = probed.clone();
            seen.address = Some(address);
            let answers = self
                .shake_hands(host, sender.source, way, &strictest.trust, &mut seen)
                .await;
            let mut waiting = false;
            for ((sender, wanted), outcome) in senders.iter().zip(&all).zip(&mut outcomes) {
                if let Ok(wanted) = wanted
                    && !outcome.delivers
                    && sender.reaches(ip)
                {
                    *outcome = outcome_of(wanted, way, &seen);
                }
                waiting |= !outcome.delivers;
            }
            // Of those that don't do, the first one that speaks says most.
            let speaks = shown.as_ref().is_some_and(|(answers, _)| *answers);
            if !waiting || shown.is_none() || (answers && !speaks) {
                shown = Some((answers, seen));
            }
            if !waiting {
                break;
            }
        }
        (shown.map_or(probed, |(_, shown)| shown), outcomes)
    }

    /// `false` when nobody answers at the address.
    async fn shake_hands(
        &self,
        host: &PlanHost,
        source: &Source,
        way: &Way<'_>,
        trust: &Trust,
        probed: &mut Probed,
    ) -> bool {
        let (Some(address), Ok(ehlo_name)) = (probed.address, EhloName::new(&source.ehlo)) else {
            return false;
        };
        let patience = self.patience;
        let stream = match Stream::connect(address, source.address, patience).await {
            Ok(stream) => stream,
            Err(error) => {
                probed.trouble = format!("no connection: {error}");
                return false;
            }
        };
        let mut stream = Conn::new(stream);
        // With anyone, so that what is wrong with a certificate can be said; judged below.
        let (mut attempt, proof) = match self.client.attempt_with_proof(&host.name, trust) {
            Ok((attempt, proof)) => (Some(attempt), proof),
            Err(_) => (None, Proof::default()),
        };
        if let Some(attempt) = attempt.take_if(|_| way.implicit_tls) {
            let shaking = Box::pin(stream.start_client(attempt));
            let done = tokio::time::timeout(patience, shaking).await;
            if let Err(fault) = done.unwrap_or_else(|_| Err(Fault::silent(patience))) {
                stream.abort();
                probed.trouble = fault.text;
                return true;
            }
        }
        let options = Options {
            lmtp: way.route.is_some_and(|r| r.lmtp),
            tls: match way.implicit_tls {
                true => TlsMode::Implicit,
                false => TlsMode::Opportunistic,
            },
            timeouts: client::Timeouts {
                greeting: patience,
                hello: patience,
                starttls: patience,
                ..client::Timeouts::default()
            },
            ..Options::new(ehlo_name)
        };
        let mut link = Link::new(stream, options, attempt);
        let (mut ready, mut broken) = (false, String::new());
        let (mut tls_broken, mut unanswered) = (false, false);
        let never = Notify::new();
        let mut hear = |machine: &client::Session, _: &mut Transactions, event: Event| match event {
            Event::Ready(_) => ready = true,
            Event::Broken { failure } => {
                tls_broken = matches!(failure.state, State::StartTls | State::Handshake);
                unanswered = failure.state == State::Hello
                    && matches!(failure.cause, Cause::Closed | Cause::Timeout);
                let reply = machine.reply();
                probed.refused = reply.is_some_and(|r| (500..600).contains(&r.code.get()));
                broken = match reply {
                    Some(reply) => format!("{}: {}", failure.cause, reply.text()),
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
            probed.starttls = !way.implicit_tls;
            facts.version.clone_into(&mut probed.version);
            probed.cipher.clone_from(&facts.cipher);
            probed.group.clone_from(&facts.group);
            let chain = link.stream().peer_chain();
            self.judge(&host.name, &chain, &proof, trust, probed);
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

    fn judge(
        &self,
        host: &str,
        chain: &[Vec<u8>],
        proof: &Proof,
        trust: &Trust,
        probed: &mut Probed,
    ) {
        let now = clock::wall();
        probed.chain = chain.iter().map(|der| Leaf::of(der)).collect();
        let judged = self.client.judge(host, chain, now);
        probed.authorities = match judged.and_then(|()| proof.check()) {
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
                dane::Verdict::Pass(_) => match proof.check() {
                    Ok(()) => "valid".to_owned(),
                    Err(fault) => fault.text,
                },
                other => other.to_string(),
            };
        }
    }
}

/// The first route that leads to this host.
fn route_to<'a>(config: &'a Config, host: &str, port: u16) -> Option<&'a Route> {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let literal: Option<IpAddr> = literal.parse().ok();
    config.routes.iter().find(|route| {
        let leads_there = route.to.iter().any(|to| {
            let is_it = match &to.host {
                Host::Address(ip) => literal == Some(*ip),
                Host::Name(name) => name.eq_ignore_ascii_case(host),
            };
            is_it && to.port.unwrap_or(config.delivery.port) == port
        });
        leads_there && !route.mx
    })
}

/// What becomes of mail that wants this, at an address that showed that.
fn outcome_of(wanted: &Wanted, way: &Way<'_>, probed: &Probed) -> Outcome {
    let level = wanted.level;
    if !probed.starttls && !probed.trouble.is_empty() {
        return Outcome {
            refused: probed.refused,
            ..Outcome::none(&*probed.trouble)
        };
    }
    let in_plaintext = |why: &str| match way.route.and_then(|r| r.auth.as_ref()) {
        Some(auth) if !auth.without_tls => Outcome::none(format!(
            "the password for the route would go in plaintext: {why}"
        )),
        _ => Outcome::by(format!("in plaintext: {why}")),
    };
    if level == Level::Off && !way.implicit_tls {
        return in_plaintext("the configuration wants no TLS");
    }
    if probed.version.is_empty() {
        let why = match probed.trouble.as_str() {
            "" => "it offers no STARTTLS",
            trouble => trouble,
        };
        return match level.allows_plaintext() {
            true => in_plaintext(why),
            false => Outcome::none(format!("{why}, and TLS is {level}")),
        };
    }
    let how = format!("over {}", probed.version);
    match &wanted.trust {
        Trust::Anyone => Outcome::by(format!("{how}, whoever it is")),
        Trust::Authorities if probed.authorities == "valid" => {
            Outcome::by(format!("{how}, verified by an authority"))
        }
        Trust::Authorities => Outcome::none(&*probed.authorities),
        Trust::Dane(_) if probed.dane == "valid" => {
            Outcome::by(format!("{how}, verified by its TLSA records"))
        }
        Trust::Dane(_) => Outcome::none(&*probed.dane),
    }
}

/// What becomes of mail that met these hosts one after the other.
fn fate<'o>(met: impl Iterator<Item = (&'o Probed, &'o Outcome)>) -> (bool, String) {
    let (mut refused, mut last) = (true, "it has no host".to_owned());
    for (probed, outcome) in met {
        if outcome.delivers {
            let verdict = format!("delivered to {}: {}", probed.host, outcome.why);
            return (true, verdict);
        }
        refused &= outcome.refused;
        last = format!("{}: {}", probed.host, outcome.why);
    }
    // Whether a refusal is for good is up to the rules.
    let word = match refused {
        true => "refused",
        false => "deferred",
    };
    (false, format!("{word}: {last}"))
}
