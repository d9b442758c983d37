//! `[delivery]`, `[[provider]]` and `[[route]]`: how mail goes out, how fast, and where to.

use std::net::IpAddr;
use std::time::Duration;

use courser_core::route::tls::Level;
use courser_core::traffic::bucket::Rate;

use super::egress::{name_of, names};
use super::login::RouteAuth;
use super::names::{DomainName, DomainPattern, Name, Network, Target, words};
use super::tree::Section;

/// Which address families are used, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFamily {
    /// IPv6 first where a host has both.
    Ipv6First,
    /// IPv4 first where a host has both.
    Ipv4First,
    /// In turns, IPv6 first (RFC 8305 4).
    Interleave,
    /// Never IPv4.
    Ipv6Only,
    /// Never IPv6.
    Ipv4Only,
}
words!(AddressFamily {
    "ipv6-first" => Ipv6First, "ipv4-first" => Ipv4First, "interleave" => Interleave,
    "ipv6-only" => Ipv6Only, "ipv4-only" => Ipv4Only
});

/// What happens to 8-bit mail when the receiver doesn't offer 8BITMIME (RFC 6152).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EightBit {
    /// Bounce it, as the RFC says.
    Refuse,
    /// Send it as it is: nearly every receiver takes it.
    Send,
}
words!(EightBit { "refuse" => Refuse, "send" => Send });

/// `[delivery.timeouts]`: how long we wait for the receiver (RFC 5321 4.5.3.2).
#[derive(Clone, Debug, PartialEq)]
pub struct Timeouts {
    /// The TCP handshake.
    pub connect: Duration,
    /// The greeting.
    pub greeting: Duration,
    /// The answer to EHLO or HELO.
    pub ehlo: Duration,
    /// The answer to MAIL.
    pub mail: Duration,
    /// The answer to RCPT.
    pub rcpt: Duration,
    /// The answer to DATA.
    pub data: Duration,
    /// Each piece of the body to leave.
    pub data_block: Duration,
    /// The answer to the end of the body.
    pub data_end: Duration,
    /// The answer to RSET and QUIT.
    pub quit: Duration,
}

impl Timeouts {
    fn read(mut s: Section<'_, '_>) -> Self {
        let mut get = |key, default_s| {
            s.bounded(
                key,
                Duration::from_secs(default_s),
                Duration::from_millis(10)..=Duration::from_secs(3600),
            )
        };
        let read = Self {
            connect: get("connect", 30),
            greeting: get("greeting", 300),
            ehlo: get("ehlo", 300),
            mail: get("mail", 300),
            rcpt: get("rcpt", 300),
            data: get("data", 120),
            data_block: get("data_block", 180),
            data_end: get("data_end", 600),
            quit: get("quit", 5),
        };
        s.finish();
        read
    }
}

/// How long a host that doesn't answer is left alone.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadHost {
    /// After the first failure; doubles with each further one.
    pub first: Duration,
    /// At most.
    pub max: Duration,
}

/// What a lane may do: one source toward one site or provider.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneLimits {
    /// Most connections at once.
    pub connections: u32,
    /// New connections.
    pub connection_rate: Rate,
    /// Messages.
    pub message_rate: Rate,
    /// Messages before a connection is closed and another one opened.
    pub messages_per_connection: u32,
    /// Recipients of one message in one transaction.
    pub recipients_per_transaction: u32,
}

impl LaneLimits {
    fn read(mut s: Section<'_, '_>, default: &Self) -> Self {
        let read = Self {
            connections: s.bounded("connections", default.connections, 1..=100_000),
            connection_rate: s.get("connection_rate", default.connection_rate),
            message_rate: s.get("message_rate", default.message_rate),
            messages_per_connection: s.bounded(
                "messages_per_connection",
                default.messages_per_connection,
                1..=u32::MAX,
            ),
            recipients_per_transaction: s.bounded(
                "recipients_per_transaction",
                default.recipients_per_transaction,
                1..=50_000,
            ),
        };
        s.finish();
        read
    }
}

/// `[delivery]`
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The port of receivers that no route names.
    pub port: u16,
    /// Which address families, in which order.
    pub address_family: AddressFamily,
    /// Loopback, private and link-local networks that mail may go to although DNS says so.
    pub allow_private: Vec<Network>,
    /// Hosts of one domain that one attempt tries before the delivery waits.
    pub max_hosts: usize,
    /// Use PIPELINING where it is offered.
    pub pipelining: bool,
    /// Use CHUNKING where it is offered.
    pub chunking: bool,
    /// What to do with 8-bit mail for old receivers.
    pub eight_bit: EightBit,
    /// A connection without work is closed after this.
    pub idle_keepalive: Duration,
    /// Other names of this server: an MX of one of them is a loop (RFC 5321 5.1).
    pub own_names: Vec<DomainName>,
    /// Other addresses of this server: an MX with one of them is a loop.
    pub own_addresses: Vec<IpAddr>,
    /// Received fields in a message that mean a loop (RFC 5321 6.3).
    pub max_hops: u32,
    /// How long we wait for the receiver.
    pub timeouts: Timeouts,
    /// How long a host that doesn't answer is left alone.
    pub dead_host: DeadHost,
    /// Limits of lanes that no provider names.
    pub limits: LaneLimits,
}

impl Delivery {
    pub(super) fn read(mut s: Section<'_, '_>) -> Self {
        let read = Self {
            port: s.bounded("port", 25, 1..=u16::MAX),
            address_family: s.get("address_family", AddressFamily::Ipv4First),
            allow_private: s.get("allow_private", Vec::new()),
            max_hosts: s.bounded("max_hosts", 5, 1..=100),
            pipelining: s.get("pipelining", true),
            chunking: s.get("chunking", true),
            eight_bit: s.get("eight_bit", EightBit::Send),
            idle_keepalive: s.bounded(
                "idle_keepalive",
                Duration::from_secs(30),
                Duration::ZERO..=Duration::from_secs(3600),
            ),
            own_names: s.get("own_names", Vec::new()),
            own_addresses: s.get("own_addresses", Vec::new()),
            max_hops: s.bounded("max_hops", 50, 10..=1000),
            timeouts: Timeouts::read(s.section("timeouts")),
            dead_host: {
                let mut d = s.section("dead_host");
                let day = Duration::from_secs(86_400);
                let dead = DeadHost {
                    first: d.bounded("first", Duration::from_secs(60), Duration::ZERO..=day),
                    max: d.bounded("max", Duration::from_secs(3600), Duration::ZERO..=day),
                };
                if dead.max < dead.first {
                    d.wrong("max", "is shorter than `first`", "make it at least `first`");
                }
                d.finish();
                dead
            },
            limits: LaneLimits::read(
                s.section("limits"),
                &LaneLimits {
                    connections: 10,
                    connection_rate: Rate::new(100, 60),
                    message_rate: Rate::new(100, 1),
                    messages_per_connection: 100,
                    recipients_per_transaction: 100,
                },
            ),
        };
        s.finish();
        read
    }
}

/// `[[provider]]`: sites that share limits and rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Its name in events, rules and filters.
    pub name: Name,
    /// A site of which an MX host is one of these or lies below one belongs here; the best host
    /// that is decides.
    pub mx: Vec<DomainName>,
    /// Domains that belong here whatever their MX.
    pub domains: Vec<DomainPattern>,
    /// What each lane toward it may do; what isn't said is as in `[delivery.limits]`.
    pub limits: LaneLimits,
    /// How much TLS mail to it wants; `None`: nothing is said here.
    pub tls: Option<Level>,
}

impl Provider {
    pub(super) fn read_all(sections: Vec<Section<'_, '_>>, default: &LaneLimits) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for mut s in sections {
            let taken = names(&all, |p: &Self| &p.name);
            let name = name_of(&mut s, "provider", &taken);
            let provider = Self {
                name,
                mx: s.get("mx", Vec::new()),
                domains: s.get("domains", Vec::new()),
                limits: LaneLimits::read(s.section("limits"), default),
                tls: s.optional("tls"),
            };
            for (i, suffix) in provider.mx.iter().enumerate() {
                if let Some(other) = all.iter().find(|p| p.mx.contains(suffix)) {
                    let what = format!("{suffix} belongs to provider {:?} already", &*other.name);
                    s.wrong_item("mx", i, what, "name each suffix once");
                }
            }
            for (i, domain) in provider.domains.iter().enumerate() {
                if let Some(other) = all.iter().find(|p| p.domains.contains(domain)) {
                    let what = format!("{domain} belongs to provider {:?} already", &*other.name);
                    s.wrong_item("domains", i, what, "name each domain once");
                }
            }
            if provider.mx.is_empty() && provider.domains.is_empty() {
                s.wrong(
                    "",
                    format!("provider {:?} names no site", &*provider.name),
                    "write mx = [\"mx.example.net\"] or domains = [\"example.net\"]",
                );
            }
            s.finish();
            all.push(provider);
        }
        all
    }
}

/// `[[route]]`: domains whose mail doesn't go where DNS says.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The domains.
    pub domain: DomainPattern,
    /// The hosts that take it, the first one that answers.
    pub to: Vec<Target>,
    /// Whether the names in `to` are domains whose MX are looked up, instead of hosts.
    pub mx: bool,
    /// Whether the hosts speak LMTP.
    pub lmtp: bool,
    /// How much TLS its hosts want; `None`: nothing is said here.
    pub tls: Option<Level>,
    /// Whether its hosts speak TLS from the first byte (RFC 8314 3), as on port 465.
    pub implicit_tls: bool,
    /// Who we are to them; `None`: nobody.
    pub auth: Option<RouteAuth>,
}

impl Route {
    /// How much TLS its hosts want, by what it says or has a password for.
    pub fn level(&self) -> Option<Level> {
        // A password is not for whoever answers there.
        self.tls.or(match &self.auth {
            Some(auth) if !auth.without_tls => Some(Level::Verified),
            _ => None,
        })
    }

    pub(super) fn read_all(sections: Vec<Section<'_, '_>>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for mut s in sections {
            let domain: Option<DomainPattern> = s.required(
                "domain",
                "say which domains: \"example.org\", \"*.example.org\", or \"*\" for a smart host",
            );
            if let Some(domain) = &domain {
                s.label(&domain.to_string());
            }
            let to = s.required("to", "say where to: to = [\"relay.example.net:25\"]");
            let route = Self {
                domain: domain.clone().unwrap_or(DomainPattern::Any),
                to: to.unwrap_or_default(),
                mx: s.get("mx", false),
                lmtp: s.get("lmtp", false),
                tls: s.optional("tls"),
                implicit_tls: s.get("implicit_tls", false),
                auth: RouteAuth::read(s.section("auth")),
            };
            if route.implicit_tls && route.tls == Some(Level::Off) {
                let what = "the route's hosts speak nothing but TLS";
                s.wrong("tls", what, "leave it out, or set implicit_tls = false");
            }
            if route.to.is_empty() && s.has("to") && s.is_empty_list("to") {
                s.wrong("to", "the list is empty", "name at least one host");
            }
            if domain.is_some() && all.iter().any(|r| r.domain == route.domain) {
                let what = format!("there is another route for {}", route.domain);
                s.wrong("domain", what, "put all hosts into the `to` of one route");
            }
            if route.mx && route.auth.is_some() {
                let what = "whoever can forge the MX records would get the password";
                s.wrong(
                    "mx",
                    what,
                    "name the hosts themselves in `to`, and leave mx out",
                );
            }
            if route.mx {
                for (i, target) in route.to.iter().enumerate() {
                    if matches!(target.host, super::names::Host::Address(_)) {
                        let what = format!("{target} is an address and has no MX");
                        s.wrong_item("to", i, what, "name a domain, or set mx = false");
                    }
                }
            }
            s.finish();
            all.push(route);
        }
        all
    }
}
