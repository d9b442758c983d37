//! From a domain to the hosts that take its mail (RFC 5321 5.1, RFC 7505).
//!
//! [`MxLookup`] asks for DNS by saying the question and is told the answer, so any resolver does:
//!
//! ```text
//!  new ──▶ MX of the domain ──┬─ MX hosts ───────────┬─▶ A, AAAA of all hosts ──▶ Plan
//!   │                         ├─ none: the domain ───┘   (asked all at once)  └─▶ RouteError
//!   │                         └─ null MX, NXDOMAIN, ourselves first, failure ───▶ RouteError
//!   ├─ address literal ─────────────────────────────────────────────────────────▶ Plan
//! fixed ─ static route ──▶ A, AAAA of its hosts
//! ```
//!
//! What the rules leave open is decided like this:
//!
//! | found | becomes |
//! |---|---|
//! | no MX record, the name exists | the domain is its own only host (RFC 5321 5.1) |
//! | the MX question fails (SERVFAIL, no answer) | 4.4.3, temporary; never the implicit host |
//! | the domain does not exist | 5.1.2, permanent |
//! | a single MX with the exchange `.` | 5.1.10, permanent (RFC 7505 4) |
//! | `.` beside other MX records, an IP address as exchange, an odd name | that record is skipped |
//! | MX host without addresses | skipped; if that was the last one, 5.4.4, permanent |
//! | the same, but for one of them DNS failed | 4.4.3, temporary |
//! | neither MX nor address | 5.1.2, permanent |
//! | MX host that is a CNAME | followed; skipped if [`Options::refuse_cname`] (RFC 2181 10.3) |
//! | one of the hosts is us | it and what is not preferred to it go (RFC 5321 5.1); if nothing remains, 5.4.6, permanent |
//! | static route whose hosts have no address | 4.4.4, temporary: a slip of ours bounces nothing |
//! | loopback, private, link-local, multicast and other special addresses | skipped unless [`Options::allow_special`]; if nothing remains, 5.4.4, permanent |

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use super::address::{special, within};
use super::plan::{Fault, Plan, PlanHost, RouteError, SiteKey, literal};
use crate::dns::{Answer, Failure, Kind, Mx, Name, Outcome, Question};
use crate::limits::{HOST_ADDRESSES_MAX, MX_HOSTS_MAX, PLAN_ADDRESSES_MAX};
use crate::mail::address::Domain;
use crate::smtp::reply::EnhancedCode;
use crate::time::Instant;

/// Which address family is tried first within a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum FamilyOrder {
    /// IPv6, then IPv4.
    Prefer6,
    /// IPv4, then IPv6. The default: receivers are stricter with IPv6 sources.
    #[default]
    Prefer4,
    /// In turns, IPv6 first (RFC 8305 4).
    Interleave,
    /// IPv4 only; AAAA is not asked.
    Only4,
    /// IPv6 only; A is not asked.
    Only6,
}

impl FamilyOrder {
    fn asks(self, kind: Kind) -> bool {
        match self {
            Self::Only4 => kind == Kind::A,
            Self::Only6 => kind == Kind::Aaaa,
            _ => true,
        }
    }
}

/// How domains are routed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which address family is tried first.
    pub order: FamilyOrder,
    /// Names that we answer to: an MX with one of them is us.
    pub own_names: Vec<Name>,
    /// Addresses that we listen on: a host that has one of them is us.
    pub own_addresses: Vec<IpAddr>,
    /// Loopback, private and other special networks that mail may go to all the same: an address
    /// and the length of its prefix, bits. Unspecified and multicast addresses stay refused.
    pub allow_special: Vec<(IpAddr, u8)>,
    /// Skip MX hosts that are CNAMEs (RFC 2181 10.3 forbids them; most senders follow them).
    pub refuse_cname: bool,
    /// TCP port of MX hosts.
    pub port: u16,
    /// A plan holds at least this long, whatever the TTLs say.
    pub valid_min: Duration,
    /// A plan holds no longer than this.
    pub valid_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            order: FamilyOrder::default(),
            own_names: Vec::new(),
            own_addresses: Vec::new(),
            allow_special: Vec::new(),
            refuse_cname: false,
            port: 25,
            valid_min: Duration::from_secs(60),
            valid_max: Duration::from_secs(3600),
        }
    }
}

impl Options {
    /// What `ip` is, if nothing that DNS says may lead there; `None`: it may.
    pub fn refuses(&self, ip: IpAddr) -> Option<&'static str> {
        let canonical = ip.to_canonical();
        if self.allow_special.iter().any(|n| within(canonical, *n)) {
            // These are nobody's address at all.
            let ip = canonical;
            return (ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::from([255u8; 4]))
                .then(|| special(ip))
                .flatten();
        }
        special(ip)
    }

    /// The questions for the addresses of `host`.
    pub fn address_questions(&self, host: &Name) -> Vec<Question> {
        let mut kinds = [Kind::A, Kind::Aaaa].to_vec();
        kinds.retain(|kind| self.order.asks(*kind));
        kinds
            .into_iter()
            .map(|kind| Question::new(host.clone(), kind))
            .collect()
    }

    /// The addresses in the configured order, each once, shuffled within a family.
    pub fn order(&self, mut addresses: Vec<IpAddr>, seed: u64) -> Vec<IpAddr> {
        let key = |ip: &IpAddr| match ip {
            IpAddr::V4(v4) => shuffle(seed, &v4.octets()),
            IpAddr::V6(v6) => shuffle(seed, &v6.octets()),
        };
        addresses.sort_by_key(|ip| (key(ip), *ip));
        addresses.dedup();
        let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv6);
        // A static route to an address of the other family is still a static route.
        let (first, second) = match self.order {
            FamilyOrder::Prefer4 | FamilyOrder::Only4 => (v4, v6),
            FamilyOrder::Prefer6 | FamilyOrder::Only6 => (v6, v4),
            FamilyOrder::Interleave => {
                let mut turns = Vec::with_capacity(v4.len() + v6.len());
                let (mut v4, mut v6) = (v4.into_iter(), v6.into_iter());
                loop {
                    let pair = (v6.next(), v4.next());
                    if pair == (None, None) {
                        break;
                    }
                    turns.extend(pair.0.into_iter().chain(pair.1));
                }
                (turns, Vec::new())
            }
        };
        let mut all = first;
        all.extend(second);
        all.truncate(HOST_ADDRESSES_MAX);
        all
    }
}

/// One host of a static route or smart host. Special addresses and our own ones are allowed
/// here: the operator wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FixedHost {
    /// A name, whose addresses are asked for.
    Name {
        /// The host.
        name: Name,
        /// TCP port.
        port: u16,
        /// Lower is tried first; equals are shuffled.
        preference: u16,
    },
    /// An address.
    Address {
        /// Where.
        address: SocketAddr,
        /// Lower is tried first; equals are shuffled.
        preference: u16,
    },
}

/// What an [`MxLookup`] wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The answer to this question. More may follow at once.
    Ask(Question),
    /// Nothing before [`MxLookup::answer`] was called.
    Wait,
    /// Done. Said once; the machine is of no more use.
    Done(Result<Plan, RouteError>),
}

/// What is known of one family of one host.
#[derive(Clone, Debug)]
enum Part {
    /// Not wanted.
    Unasked,
    Open,
    Found {
        addresses: Vec<IpAddr>,
        canonical: Name,
        secure: bool,
    },
    Missing,
    Failed(Failure),
}

struct Candidate {
    name: Arc<str>,
    /// The name to ask for; `None` for an address.
    ask: Option<Name>,
    preference: u16,
    port: u16,
    a: Part,
    aaaa: Part,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Mx,
    Addresses,
    Done,
}

/// Routes one domain.
///
/// Order of calls: [`poll`](Self::poll) until it says `Wait`, asking what it wants to know; for
/// each question [`answer`](Self::answer), in any order; then `poll` again, until `Done`.
///
/// ```
/// use courser_core::mail::address::Domain;
/// use courser_core::route::{MxLookup, Options, Step};
/// # use std::sync::Arc;
///
/// let mut lookup = MxLookup::new(Domain::Name("example.com"), Arc::new(Options::default()), 1);
/// let Step::Ask(question) = lookup.poll() else { panic!() };
/// assert_eq!(question.to_string(), "example.com MX");
/// assert_eq!(lookup.poll(), Step::Wait);
/// // Give `question` to the resolver, its answer to lookup.answer(now, &question, &answer), and
/// // go on with lookup.poll().
/// ```
pub struct MxLookup {
    /// As it was written, for people.
    domain: Arc<str>,
    name: Option<Name>,
    options: Arc<Options>,
    seed: u64,
    stage: Stage,
    questions: VecDeque<Question>,
    hosts: Vec<Candidate>,
    /// Smallest TTL so far.
    ttl: Duration,
    fixed: bool,
    implicit: bool,
    secure: bool,
    /// MX hosts that are not in `hosts`, and why, for the error text.
    skipped: Vec<String>,
    result: Option<Result<Plan, RouteError>>,
}

impl MxLookup {
    /// Routes `domain` by its MX records. `seed` decides the order among equal preferences; give
    /// every delivery or every plan its own.
    pub fn new(domain: Domain<'_>, options: Arc<Options>, seed: u64) -> Self {
        match domain {
            Domain::Literal(ip) => {
                let mut this = Self::empty(literal(ip), options, seed);
                this.literal(ip);
                this
            }
            Domain::Name(text) => {
                let mut this = Self::empty(text.into(), options, seed);
                match Name::from_domain(text) {
                    Ok(name) if !name.is_root() => {
                        this.questions
                            .push_back(Question::new(name.clone(), Kind::Mx));
                        this.name = Some(name);
                    }
                    Ok(_) => this.error(
                        Fault::BadName,
                        EnhancedCode::new(5, 1, 2),
                        "the root is not a mail domain",
                    ),
                    Err(error) => this.error(
                        Fault::BadName,
                        EnhancedCode::new(5, 1, 2),
                        &alloc::format!("this is not a domain name: {error}"),
                    ),
                }
                this
            }
        }
    }

    /// Routes to `hosts` instead of asking for MX: a static route or smart host. `domain` is for
    /// error texts. With no hosts it fails.
    pub fn fixed(
        domain: &str,
        hosts: impl IntoIterator<Item = FixedHost>,
        options: Arc<Options>,
        seed: u64,
    ) -> Self {
        let mut this = Self::empty(domain.into(), options, seed);
        this.fixed = true;
        this.secure = true;
        for host in hosts.into_iter().take(MX_HOSTS_MAX) {
            match host {
                FixedHost::Name {
                    name,
                    port,
                    preference,
                } => this.candidate(name, port, preference),
                FixedHost::Address {
                    address,
                    preference,
                } => this.hosts.push(Candidate {
                    name: literal(address.ip()),
                    ask: None,
                    preference,
                    port: address.port(),
                    a: Part::Found {
                        addresses: alloc::vec![address.ip()],
                        canonical: Name::root(),
                        secure: false,
                    },
                    aaaa: Part::Unasked,
                }),
            }
        }
        this.ask_addresses();
        this
    }

    fn empty(domain: Arc<str>, options: Arc<Options>, seed: u64) -> Self {
        Self {
            domain,
            name: None,
            options,
            seed,
            stage: Stage::Mx,
            questions: VecDeque::new(),
            hosts: Vec::new(),
            ttl: Duration::MAX,
            fixed: false,
            implicit: false,
            secure: false,
            skipped: Vec::new(),
            result: None,
        }
    }

    /// What is wanted next.
    pub fn poll(&mut self) -> Step {
        if let Some(question) = self.questions.pop_front() {
            return Step::Ask(question);
        }
        match self.result.take() {
            Some(result) => Step::Done(result),
            None => Step::Wait,
        }
    }

    /// Tells the answer to a question. Answers that were not asked for, or that come again, are
    /// ignored.
    pub fn answer(&mut self, now: Instant, question: &Question, answer: &Answer) {
        match self.stage {
            Stage::Mx
                if question.kind == Kind::Mx && self.name.as_ref() == Some(&question.name) =>
            {
                self.ttl = self.ttl.min(answer.ttl(now));
                self.secure = answer.secure;
                self.mx(answer);
            }
            Stage::Addresses => {
                let part = match &answer.outcome {
                    Outcome::Found(_) => Part::Found {
                        addresses: match question.kind {
                            Kind::A => answer.a().iter().map(|&ip| ip.into()).collect(),
                            _ => answer.aaaa().iter().map(|&ip| ip.into()).collect(),
                        },
                        canonical: answer.canonical.clone(),
                        secure: answer.secure,
                    },
                    Outcome::NoData | Outcome::NoName => Part::Missing,
                    Outcome::Failed(failure) => Part::Failed(*failure),
                };
                let mut asked = false;
                for host in &mut self.hosts {
                    let place = match question.kind {
                        Kind::A => &mut host.a,
                        Kind::Aaaa => &mut host.aaaa,
                        _ => return,
                    };
                    if matches!(place, Part::Open) && host.ask.as_ref() == Some(&question.name) {
                        *place = part.clone();
                        asked = true;
                    }
                }
                if asked {
                    self.ttl = self.ttl.min(answer.ttl(now));
                    self.conclude();
                }
            }
            _ => {}
        }
    }

    // -- MX --

    fn mx(&mut self, answer: &Answer) {
        match &answer.outcome {
            Outcome::Found(_) => self.exchangers(answer.mx()),
            Outcome::NoData => {
                // A CNAME stands for the name that it leads to (RFC 5321 5.1).
                self.implicit = true;
                let (name, port) = (answer.canonical.clone(), self.options.port);
                if self.options.own_names.contains(&name) {
                    return self.error(
                        Fault::Loop,
                        EnhancedCode::new(5, 4, 6),
                        "it has no MX record and is one of our own names, but is not delivered here",
                    );
                }
                self.candidate(name, port, 0);
                self.ask_addresses();
            }
            Outcome::NoName => self.error(
                Fault::NoSuchDomain,
                EnhancedCode::new(5, 1, 2),
                "the domain does not exist (NXDOMAIN)",
            ),
            Outcome::Failed(failure) => {
                let what = alloc::format!("its MX records can't be found: {failure}");
                self.error(Fault::Dns, EnhancedCode::new(4, 4, 3), &what);
            }
        }
    }

    fn exchangers(&mut self, records: &[Mx]) {
        if let [only] = records
            && only.exchange.is_root()
        {
            return self.error(
                Fault::NullMx,
                EnhancedCode::new(5, 1, 10),
                "the domain says that it takes no mail (null MX)",
            );
        }
        let mut usable: Vec<&Mx> = Vec::with_capacity(records.len());
        for mx in records {
            if mx.exchange.is_hostname() {
                usable.push(mx);
            } else {
                self.skip(&mx.exchange.clone(), "is not a host name");
            }
        }
        // Best first; names make the cut below the same in every run. A host that is named twice
        // keeps its better preference.
        usable.sort_by(|a, b| (a.preference, &a.exchange).cmp(&(b.preference, &b.exchange)));
        let mut hosts: Vec<&Mx> = Vec::with_capacity(usable.len().min(MX_HOSTS_MAX));
        for mx in usable {
            if hosts.len() < MX_HOSTS_MAX && !hosts.iter().any(|h| h.exchange == mx.exchange) {
                hosts.push(mx);
            }
        }
        let ours = hosts
            .iter()
            .find(|mx| self.options.own_names.contains(&mx.exchange))
            .map(|mx| (mx.preference, mx.exchange.clone()));
        if let Some((preference, own)) = ours {
            hosts.retain(|mx| mx.preference < preference);
            if hosts.is_empty() {
                let what = alloc::format!(
                    "its best MX is {own}, which is us, but the domain is not delivered here"
                );
                return self.error(Fault::Loop, EnhancedCode::new(5, 4, 6), &what);
            }
        }
        let port = self.options.port;
        for mx in hosts {
            self.candidate(mx.exchange.clone(), port, mx.preference);
        }
        self.ask_addresses();
    }

    fn candidate(&mut self, name: Name, port: u16, preference: u16) {
        let part = |asks| if asks { Part::Open } else { Part::Unasked };
        self.hosts.push(Candidate {
            name: name.as_str().into(),
            ask: Some(name),
            preference,
            port,
            a: part(self.options.order.asks(Kind::A)),
            aaaa: part(self.options.order.asks(Kind::Aaaa)),
        });
    }

    fn ask_addresses(&mut self) {
        self.stage = Stage::Addresses;
        for host in &self.hosts {
            let Some(name) = &host.ask else { continue };
            for (kind, part) in [(Kind::A, &host.a), (Kind::Aaaa, &host.aaaa)] {
                let question = Question::new(name.clone(), kind);
                if matches!(part, Part::Open) && !self.questions.contains(&question) {
                    self.questions.push_back(question);
                }
            }
        }
        self.conclude();
    }

    // -- the end --

    fn literal(&mut self, ip: IpAddr) {
        if self.is_own(ip) {
            return self.error(
                Fault::Loop,
                EnhancedCode::new(5, 4, 6),
                "this is one of our own addresses, but the mailbox is not delivered here",
            );
        }
        if let Some(what) = self.options.refuses(ip) {
            let what = alloc::format!("mail does not go to {what}");
            return self.error(Fault::SpecialAddress, EnhancedCode::new(5, 4, 4), &what);
        }
        self.stage = Stage::Done;
        let mut plan = Plan::fixed(SocketAddr::new(ip, self.options.port));
        plan.site = SiteKey::of_hosts([&*self.domain]);
        plan.secure = false;
        plan.valid_for = self.options.valid_max;
        self.result = Some(Ok(plan));
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let own = &self.options.own_addresses;
        own.iter().any(|own| own.to_canonical() == ip)
    }

    /// When every address is known: the plan, or why there is none.
    fn conclude(&mut self) {
        let open = |part: &Part| matches!(part, Part::Open);
        if self.hosts.iter().any(|h| open(&h.a) || open(&h.aaaa)) {
            return;
        }
        let mut names: Vec<Arc<str>> = self.hosts.iter().map(|h| h.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let site = if self.fixed {
            let hosts = self
                .hosts
                .iter()
                .map(|h| alloc::format!("{}:{}", h.name, h.port))
                .collect::<Vec<_>>();
            SiteKey::of_hosts(hosts.iter().map(String::as_str))
        } else {
            SiteKey::of_hosts(names.iter().map(|n| &**n))
        };

        let mut hosts: Vec<PlanHost> = Vec::with_capacity(self.hosts.len());
        // Preference of the best host that is us, the first host that DNS fails for, and the
        // first special address.
        let mut ours: Option<u16> = None;
        let mut failed: Option<(Arc<str>, u16, Failure)> = None;
        let mut special: Option<String> = None;
        for host in core::mem::take(&mut self.hosts) {
            let mut addresses: Vec<IpAddr> = Vec::new();
            let mut canonical = None;
            let mut secure = self.secure && host.ask.is_some();
            let mut why = "has no address";
            for part in [&host.a, &host.aaaa] {
                match part {
                    Part::Found {
                        addresses: found,
                        canonical: end,
                        secure: this,
                    } => {
                        addresses.extend(found.iter().copied());
                        canonical.get_or_insert_with(|| end.clone());
                        secure &= this;
                    }
                    Part::Failed(failure) => {
                        if failed.as_ref().is_none_or(|(_, p, _)| host.preference < *p) {
                            failed = Some((host.name.clone(), host.preference, *failure));
                        }
                        why = "has no address that DNS would tell now";
                    }
                    Part::Missing | Part::Open | Part::Unasked => {}
                }
            }
            let alias = host.ask.is_some() && canonical.as_ref() != host.ask.as_ref();
            if !addresses.is_empty() && alias && self.options.refuse_cname && !self.fixed {
                addresses.clear();
                why = "is an alias (CNAME), which an MX must not be (RFC 2181 10.3)";
            }
            if !self.fixed {
                if addresses.iter().any(|&ip| self.is_own(ip)) {
                    ours = Some(ours.map_or(host.preference, |p| p.min(host.preference)));
                    self.skip(&host.name, "is us");
                    continue;
                }
                addresses.retain(|&ip| match self.options.refuses(ip) {
                    Some(what) => {
                        why = "has only addresses where public mail does not go";
                        special.get_or_insert_with(|| {
                            alloc::format!("{} has the address {ip}, {what}", host.name)
                        });
                        false
                    }
                    None => true,
                });
            }
            let addresses = self.options.order(addresses, self.seed);
            if addresses.is_empty() {
                self.skip(&host.name, why);
                continue;
            }
            hosts.push(PlanHost {
                canonical: canonical.filter(|_| host.ask.is_some()),
                name: host.name,
                preference: host.preference,
                port: host.port,
                addresses,
                secure,
            });
        }
        // RFC 5321 5.1: a relay that finds itself among the hosts drops itself and the ones that
        // are not better.
        if let Some(ours) = ours {
            hosts.retain(|host| host.preference < ours);
            failed = failed.filter(|(_, preference, _)| *preference < ours);
        }
        let seed = self.seed;
        hosts.sort_by_key(|host| (host.preference, shuffle(seed, host.name.as_bytes())));
        let mut room = PLAN_ADDRESSES_MAX;
        for host in &mut hosts {
            host.addresses.truncate(room);
            room -= host.addresses.len();
        }
        hosts.retain(|host| !host.addresses.is_empty());

        if hosts.is_empty() {
            return self.nowhere(ours.is_some(), failed, special);
        }
        self.stage = Stage::Done;
        let mut valid_for = self.ttl.clamp(
            self.options.valid_min,
            self.options.valid_max.max(self.options.valid_min),
        );
        if failed.is_some() {
            // Better hosts may be missing: look again soon.
            valid_for = self.options.valid_min;
        }
        self.result = Some(Ok(Plan {
            hosts,
            site,
            mx_names: names,
            valid_for,
            implicit: self.implicit,
            secure: self.secure,
        }));
    }

    /// No host remains.
    fn nowhere(
        &mut self,
        ours: bool,
        failed: Option<(Arc<str>, u16, Failure)>,
        special: Option<String>,
    ) {
        if let Some((host, _, failure)) = failed {
            let what = alloc::format!("the address of {host} can't be found: {failure}");
            return self.error(Fault::Dns, EnhancedCode::new(4, 4, 3), &what);
        }
        if ours {
            return self.error(
                Fault::Loop,
                EnhancedCode::new(5, 4, 6),
                "its mail leads back to one of our own addresses, but the domain is not delivered \
                 here",
            );
        }
        if let Some(what) = special {
            return self.error(Fault::SpecialAddress, EnhancedCode::new(5, 4, 4), &what);
        }
        if self.implicit {
            return self.error(
                Fault::NoAddress,
                EnhancedCode::new(5, 1, 2),
                "the domain has neither an MX record nor an address",
            );
        }
        if self.fixed {
            // A slip in our configuration must not bounce other people's mail.
            return self.error(
                Fault::NoUsableMx,
                EnhancedCode::new(4, 4, 4),
                "none of the hosts of its static route has an address",
            );
        }
        self.error(
            Fault::NoUsableMx,
            EnhancedCode::new(5, 4, 4),
            "none of its MX hosts can be used",
        );
    }

    fn error(&mut self, fault: Fault, enhanced: EnhancedCode, what: &str) {
        self.stage = Stage::Done;
        let mut text = alloc::format!("{}: {what}", self.domain);
        if matches!(fault, Fault::NoUsableMx | Fault::Loop) && !self.skipped.is_empty() {
            let _ = write!(text, " ({})", self.skipped.join("; "));
        }
        let permanent = enhanced.class == 5;
        text.push_str(match fault {
            Fault::BadName | Fault::NoSuchDomain => "; check the spelling of the address",
            Fault::NoUsableMx if self.fixed => "; correct the route in the configuration",
            Fault::NoAddress | Fault::NoUsableMx | Fault::SpecialAddress => {
                "; the domain's owner must correct its DNS, or set a static route"
            }
            Fault::NullMx => "; remove its recipients from the list",
            Fault::Loop => "; accept the domain locally, or set a static route",
            // MX records lead to no policy; it is asked behind them.
            Fault::Dns | Fault::Policy => "; it will be tried again",
            // Found out by others.
            Fault::Insecure => "",
        });
        let valid_for = if permanent {
            self.ttl.clamp(
                self.options.valid_min,
                self.options.valid_max.max(self.options.valid_min),
            )
        } else {
            // As long as the resolver keeps the failure, and no longer.
            self.ttl.min(self.options.valid_max)
        };
        self.result = Some(Err(RouteError {
            fault,
            permanent,
            enhanced,
            text,
            valid_for,
        }));
    }

    /// Notes a host that is not used; a few are enough for a text.
    fn skip(&mut self, host: &str, why: &str) {
        if self.skipped.len() < 4 {
            let host = if host.is_empty() { "\".\"" } else { host };
            self.skipped.push(alloc::format!("{host} {why}"));
        }
    }
}

/// A number that looks random and is the same for the same seed and bytes: FNV-1a, then the
/// finalizer of SplitMix64 so that every bit of the seed counts.
fn shuffle(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64 ^ seed;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
