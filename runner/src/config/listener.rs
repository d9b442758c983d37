//! `[[listener]]`: where mail comes in, from whom, and with which tags.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use courser_core::traffic::bucket::Rate;

use super::delivery::Route;
use super::egress::{Pool, Stream};
use super::login::ListenerAuth;
use super::names::{DomainPattern, HostName, Name, Network, words};
use super::tls::ListenerTls;
use super::tree::Section;
use super::units::ByteSize;

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// SMTP (RFC 5321).
    Smtp,
    /// LMTP (RFC 2033): one answer for each recipient.
    Lmtp,
}
words!(ListenerKind { "smtp" => Smtp, "lmtp" => Lmtp });

/// `[[listener]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Its name in events and logs.
    pub name: Name,
    /// Where it listens.
    pub address: Vec<SocketAddr>,
    /// What it speaks.
    pub kind: ListenerKind,
    /// The name it greets with; the server's `hostname` if nothing else is said.
    pub hostname: HostName,
    /// Clients whose mail goes out to anyone. Never everybody.
    pub relay_networks: Vec<Network>,
    /// Users whose mail goes out to anyone; `None`: nobody can log in.
    pub auth: Option<ListenerAuth>,
    /// Domains of ours: anybody may send mail to them. It is checked, gets its
    /// Authentication-Results, and goes where a [`Route`] says.
    pub inbound_domains: Vec<DomainPattern>,
    /// Proxies whose PROXY header (version 1 or 2) says who the client is. A connection from
    /// them must begin with one; from anybody else it must not. Empty: no PROXY protocol.
    pub proxy_protocol_from: Vec<Network>,
    /// Whether `X-Courser-Tenant`, `-Campaign`, `-Stream` and `-Pool` in mail from
    /// `relay_networks` set its tags. They are removed from the mail in any case.
    pub tag_headers: bool,
    /// Largest message.
    pub max_message_size: ByteSize,
    /// Most recipients of one message.
    pub max_recipients: usize,
    /// Most sessions at once.
    pub max_connections: usize,
    /// Most sessions at once from one client address.
    pub max_connections_per_client: usize,
    /// How fast one client may open sessions; `None`: as fast as it likes.
    pub client_connection_rate: Option<Rate>,
    /// How fast one client may hand in messages; beyond it 451. `None`: as fast as it likes.
    pub client_message_rate: Option<Rate>,
    /// Messages in one session; then 421.
    pub max_messages_per_connection: u32,
    /// Mistakes in one session; then 421.
    pub max_errors: u32,
    /// How long the client may think before a command (RFC 5321 4.5.3.2.7).
    pub command_timeout: Duration,
    /// How long the client may pause inside a message.
    pub data_timeout: Duration,
    /// How long one session may last; then 421 between two messages.
    pub session_timeout: Duration,
    /// Wait before the greeting; who talks before it is refused. Zero: none.
    pub greeting_delay: Duration,
    /// Offer PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// Offer CHUNKING (RFC 3030).
    pub chunking: bool,
    /// Offer SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// Offer DSN (RFC 3461).
    pub dsn: bool,
    /// When it speaks TLS, with the server's certificates.
    pub tls: ListenerTls,
    /// Take no mail in plaintext.
    pub require_tls: bool,
    /// Authorities in PEM: clients may show a certificate that one of them signed. `None`: nobody is
    /// asked for one.
    pub client_ca: Option<PathBuf>,
    /// Tenant of mail that says no other.
    pub tenant: Name,
    /// Campaign of mail that says no other.
    pub campaign: Option<Name>,
    /// Stream of mail that says no other: a position in [`super::Config::streams`].
    pub stream: usize,
    /// Pool of mail that says no other, a position in [`super::Config::pools`]; `None`: the
    /// stream's.
    pub pool: Option<usize>,
}

/// What else the configuration has that listeners refer to.
pub(super) struct There<'a> {
    pub hostname: &'a HostName,
    pub pools: &'a [Pool],
    pub streams: &'a [Stream],
    pub routes: &'a [Route],
    /// Whether there is a certificate.
    pub certificates: bool,
}

impl Listener {
    /// Whether mail from `client` goes out to anyone.
    pub fn relays_for(&self, client: IpAddr) -> bool {
        self.relay_networks.iter().any(|n| n.contains(client))
    }

    /// Whether anybody may send mail to `domain` (lower case A-labels).
    pub fn takes_in(&self, domain: &str) -> bool {
        self.inbound_domains.iter().any(|d| d.matches(domain))
    }

    pub(super) fn read_all(sections: Vec<Section<'_, '_>>, there: &There<'_>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for s in sections {
            let read = Self::read(s, there, &all);
            all.push(read);
        }
        all
    }

    fn read(mut s: Section<'_, '_>, there: &There<'_>, before: &[Self]) -> Self {
        let There {
            hostname,
            pools,
            streams,
            routes,
            certificates,
        } = *there;
        let name = s.get("name", Name::default_name());
        if !s.has_problems() && before.iter().any(|l| l.name == name) {
            let what = format!("there is another listener {:?}", &*name);
            s.wrong("name", what, "give each its own `name`");
        }
        s.label(&name);
        let pool_names: Vec<&str> = pools.iter().map(|p| &*p.name).collect();
        let stream_names: Vec<&str> = streams.iter().map(|p| &*p.name).collect();
        let address = if s.is_absent() {
            s.get("address", vec![SocketAddr::from(([127, 0, 0, 1], 2525))])
        } else {
            let right = "say where to listen, such as address = [\"127.0.0.1:2525\"]";
            s.required("address", right).unwrap_or_default()
        };
        if s.has("address") && s.is_empty_list("address") {
            s.wrong("address", "the list is empty", "name at least one address");
        }
        for (i, at) in address.iter().enumerate() {
            if at.port() == 0 {
                s.wrong_item("address", i, "port 0 is no port", "name the port");
            }
            let taken = before.iter().find(|l| l.address.contains(at));
            let what = match taken {
                Some(other) => format!("{at} belongs to listener {:?} already", &*other.name),
                None if address[..i].contains(at) => format!("{at} stands here twice"),
                None => continue,
            };
            s.wrong_item("address", i, what, "listen once on each address and port");
        }
        let read = Self {
            name,
            address,
            kind: s.get("kind", ListenerKind::Smtp),
            hostname: s.get("hostname", hostname.clone()),
            relay_networks: s.get("relay_networks", Network::loopback()),
            auth: ListenerAuth::read(s.section("auth")),
            inbound_domains: s.get("inbound_domains", Vec::new()),
            proxy_protocol_from: s.get("proxy_protocol_from", Vec::new()),
            tag_headers: s.get("tag_headers", true),
            max_message_size: s.bounded(
                "max_message_size",
                ByteSize::mib(50),
                ByteSize::kib(64)..=ByteSize::gib(1),
            ),
            max_recipients: s.bounded(
                "max_recipients",
                1000,
                courser_core::limits::RECIPIENTS_MIN..=50_000,
            ),
            max_connections: s.bounded("max_connections", 5000, 1..=1_000_000),
            max_connections_per_client: s.bounded("max_connections_per_client", 500, 1..=1_000_000),
            client_connection_rate: s.get("client_connection_rate", None),
            client_message_rate: s.get("client_message_rate", None),
            max_messages_per_connection: s.bounded(
                "max_messages_per_connection",
                100_000,
                1..=u32::MAX,
            ),
            max_errors: s.bounded("max_errors", 20, 1..=100_000),
            command_timeout: timeout(&mut s, "command_timeout", 300),
            data_timeout: timeout(&mut s, "data_timeout", 180),
            session_timeout: timeout(&mut s, "session_timeout", 86_400),
            greeting_delay: s.bounded(
                "greeting_delay",
                Duration::ZERO,
                Duration::ZERO..=Duration::from_secs(60),
            ),
            pipelining: s.get("pipelining", true),
            chunking: s.get("chunking", true),
            smtputf8: s.get("smtputf8", true),
            dsn: s.get("dsn", true),
            tls: s.get(
                "tls",
                match certificates {
                    true => ListenerTls::StartTls,
                    false => ListenerTls::Off,
                },
            ),
            require_tls: s.get("require_tls", false),
            client_ca: s.optional("client_ca"),
            tenant: s.get("tenant", Name::default_name()),
            campaign: s.optional("campaign"),
            stream: s.reference("stream", "stream", &stream_names, 0),
            pool: {
                let name: Option<String> = s.optional("pool");
                name.and_then(|n| s.position("pool", "pool", &pool_names, &n))
            },
        };
        if read.tls != ListenerTls::Off && !certificates {
            s.wrong(
                "tls",
                "there is no certificate",
                "write [[tls.certificate]] with file = \"….pem\" and key = \"….pem\"",
            );
        }
        if read.tls == ListenerTls::Off {
            for (key, set) in [
                ("require_tls", read.require_tls),
                ("client_ca", read.client_ca.is_some()),
            ] {
                if set {
                    s.wrong(
                        key,
                        "this listener speaks no TLS",
                        "set tls = \"starttls\" or \"implicit\"",
                    );
                }
            }
        }
        for (key, what, list) in [
            (
                "relay_networks",
                "would make this an open relay",
                &read.relay_networks,
            ),
            (
                "proxy_protocol_from",
                "would let anyone claim to be any client, so make this an open relay",
                &read.proxy_protocol_from,
            ),
        ] {
            for (i, net) in list.iter().enumerate().filter(|(_, n)| n.is_everyone()) {
                s.wrong_item(
                    key,
                    i,
                    format!("\"{net}\" takes in strangers and {what}"),
                    "name your own networks only, such as \"10.1.0.0/16\" or \"192.0.2.7\"; \
                     there is no option to allow everybody",
                );
            }
        }
        if read.auth.as_ref().is_some_and(|a| a.required) && !read.inbound_domains.is_empty() {
            s.wrong(
                "inbound_domains",
                "strangers can't log in, and auth.required lets nobody else hand in",
                "take mail from strangers at another [[listener]]",
            );
        }
        for (i, pattern) in read.inbound_domains.iter().enumerate() {
            if *pattern == DomainPattern::Any {
                s.wrong_item(
                    "inbound_domains",
                    i,
                    "\"*\" is every domain, which would make this an open relay",
                    "name domains of your own, such as \"bounces.example.org\"",
                );
            } else if !routes.iter().any(|r| leads(&r.domain, pattern)) {
                s.wrong_item(
                    "inbound_domains",
                    i,
                    format!(
                        "no [[route]] says where mail to {pattern} goes; its MX is this server"
                    ),
                    format!("write [[route]] with domain = \"{pattern}\" and to = [\"host:port\"]"),
                );
            }
        }
        s.finish();
        read
    }
}

/// Whether a route for `route` is one for all of `inbound`. A smart host isn't: mail would come back.
fn leads(route: &DomainPattern, inbound: &DomainPattern) -> bool {
    match (route, inbound) {
        (DomainPattern::Any, _) | (_, DomainPattern::Any) => false,
        (route, DomainPattern::Exactly(name)) => route.matches(name),
        (DomainPattern::Below(_), DomainPattern::Below(name)) => {
            route == inbound || route.matches(name)
        }
        (DomainPattern::Exactly(_), DomainPattern::Below(_)) => false,
    }
}

fn timeout(s: &mut Section<'_, '_>, key: &'static str, default_s: u64) -> Duration {
    s.bounded(
        key,
        Duration::from_secs(default_s),
        Duration::from_secs(1)..=Duration::from_secs(7 * 86_400),
    )
}
