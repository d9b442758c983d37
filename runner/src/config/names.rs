//! Names and addresses: domains, mailboxes, networks, hosts with ports, and words to choose from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use toml::de::DeValue;

use super::tree::Scalar;
use super::units::{quoted, text};

/// What an operator calls a listener, source, pool, stream, provider, tenant or campaign:
/// 1 to 64 of letters, digits and `-_.`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Longest [`Name`], bytes.
const NAME_BYTES_MAX: usize = 64;

impl Name {
    /// The name that things have when the configuration doesn't name one.
    pub(super) fn default_name() -> Self {
        Self("default".into())
    }
    /// The name as shared text.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl FromStr for Name {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        match text.len() {
            1..=NAME_BYTES_MAX if text.chars().all(good) => Ok(Self(text.into())),
            _ => Err(format!("{text:?} is not a name")),
        }
    }
}

impl Scalar for Name {
    const EXPECTED: &'static str = "a name of 1 to 64 letters, digits, '-', '_' or '.'";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        text(value)?.parse()
    }
    fn show(&self) -> String {
        quoted(self)
    }
}

/// A domain name in ASCII (A-labels), lower case, without a trailing dot (RFC 1123 2.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainName(Arc<str>);

impl FromStr for DomainName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if !text.is_ascii() {
            return Err(format!("{text:?} is not ASCII; write its A-labels (xn--…)"));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let label = |l: &str| {
            (1..=63).contains(&l.len())
                && l.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        if name.len() > courser_core::limits::DOMAIN_BYTES_MAX || !name.split('.').all(label) {
            return Err(format!("{text:?} is not a domain name"));
        }
        if IpAddr::from_str(name).is_ok() {
            return Err(format!("{text:?} is an address, not a domain name"));
        }
        Ok(Self(name.to_ascii_lowercase().into()))
    }
}

impl Scalar for DomainName {
    const EXPECTED: &'static str = "a domain name such as \"mail.example.org\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        text(value)?.parse()
    }
    fn show(&self) -> String {
        quoted(self)
    }
}

/// A full host name, as it is said in a greeting: at least two labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(DomainName);

impl FromStr for HostName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let name: DomainName = text.parse()?;
        if name.contains('.') || &*name == "localhost" {
            Ok(Self(name))
        } else {
            Err(format!("{text:?} is not a full name: it has no domain"))
        }
    }
}

impl HostName {
    /// A stand-in for one that is missing.
    pub(super) fn placeholder() -> Self {
        Self(DomainName("mail.example.org".into()))
    }
    /// The name as shared text.
    pub fn shared(&self) -> Arc<str> {
        self.0.0.clone()
    }
}

impl Scalar for HostName {
    const EXPECTED: &'static str = "a full host name such as \"mail.example.org\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        text(value)?.parse()
    }
    fn show(&self) -> String {
        quoted(self)
    }
}

/// A mailbox `local@domain`, in ASCII, without quotes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EmailAddress(Arc<str>);

impl EmailAddress {
    /// `local` at this host. `local` is one of our own words.
    pub(super) fn at(local: &'static str, host: &HostName) -> Self {
        Self(format!("{local}@{host}").into())
    }
}

impl FromStr for EmailAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a mail address");
        let (local, domain) = text.rsplit_once('@').ok_or_else(wrong)?;
        // atext of RFC 5322 3.2.3, and the dots between.
        let atext = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
        let dot_atom = local
            .split('.')
            .all(|a| !a.is_empty() && a.bytes().all(atext));
        if !dot_atom || local.len() > courser_core::limits::LOCAL_PART_BYTES_MAX {
            return Err(wrong());
        }
        let domain: DomainName = domain.parse().map_err(|_| wrong())?;
        Ok(Self(format!("{local}@{domain}").into()))
    }
}

impl Scalar for EmailAddress {
    const EXPECTED: &'static str = "a mail address such as \"postmaster@example.org\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        text(value)?.parse()
    }
    fn show(&self) -> String {
        quoted(self)
    }
}

macro_rules! texts {
    ($($type:ident => $inner:ty),*) => {$(
        impl Deref for $type {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self)
            }
        }
    )*};
}
texts!(Name => Arc<str>, DomainName => Arc<str>, HostName => DomainName, EmailAddress => Arc<str>);

impl Scalar for IpAddr {
    const EXPECTED: &'static str = "an IP address such as \"192.0.2.1\" or \"2001:db8::1\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = text(value)?;
        text.parse()
            .map_err(|_| format!("{text:?} is not an IP address"))
    }
    fn show(&self) -> String {
        quoted(self)
    }
}

impl Scalar for SocketAddr {
    const EXPECTED: &'static str =
        "an IP address and a port, such as \"192.0.2.1:25\" or \"[2001:db8::1]:25\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = text(value)?;
        text.parse().map_err(|_| match IpAddr::from_str(text) {
            Ok(ip) => format!("{text:?} has no port; write \"{}\"", Self::new(ip, 25)),
            Err(_) => format!("{text:?} is not an IP address and a port"),
        })
    }
    fn show(&self) -> String {
        quoted(self)
    }
}

/// Addresses that share a prefix: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(ipnet::IpNet);

impl Network {
    /// Whether `address` lies in it. An IPv4-mapped IPv6 address is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Whether it is so wide that it takes in strangers: it isn't inside a private range and is
    /// wider than any single holder's network (IPv4 /8, IPv6 /16).
    pub fn is_everyone(&self) -> bool {
        match self.0 {
            ipnet::IpNet::V4(net) => net.prefix_len() < 8,
            ipnet::IpNet::V6(net) => {
                let first = net.network().segments()[0];
                let unique_local = net.prefix_len() >= 7 && first & 0xfe00 == 0xfc00;
                let link_local = net.prefix_len() >= 10 && first & 0xffc0 == 0xfe80;
                net.prefix_len() < 16 && !unique_local && !link_local
            }
        }
    }

    /// Its first address and the length of its prefix.
    pub fn parts(&self) -> (IpAddr, u8) {
        (self.0.network(), self.0.prefix_len())
    }

    /// 127.0.0.0/8 and ::1.
    pub fn loopback() -> Vec<Self> {
        let v4 = ipnet::Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
        let v6 = ipnet::Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);
        vec![Self(v4.into()), Self(v6.into())]
    }
}

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let net: ipnet::IpNet = match IpAddr::from_str(text) {
            Ok(ip) => ip.into(),
            Err(_) => text
                .parse()
                .map_err(|_| format!("{text:?} is not a network"))?,
        };
        if net.addr() != net.network() {
            let right = net.trunc();
            return Err(format!(
                "{text:?} has address bits beyond its prefix; did you mean \"{right}\"?"
            ));
        }
        // ::ffff:a.b.c.d/n is an IPv4 network in other words, and clients are compared as IPv4.
        if let ipnet::IpNet::V6(v6) = net
            && let Some(v4) = v6.network().to_ipv4_mapped()
            && let Some(prefix) = v6.prefix_len().checked_sub(96)
            && let Ok(v4) = ipnet::Ipv4Net::new(v4, prefix)
        {
            return Ok(Self(v4.into()));
        }
        Ok(Self(net))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            self.0.addr().fmt(f)
        } else {
            self.0.fmt(f)
        }
    }
}

impl Scalar for Network {
    const EXPECTED: &'static str =
        "a network such as \"10.1.0.0/16\" or \"2001:db8::/32\", or one address";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        text(value)?.parse()
    }
    fn show(&self) -> String {
        quoted(self)
    }
}

/// A host that mail is handed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name to look up.
    Name(DomainName),
    /// An address.
    Address(IpAddr),
}

/// A host and perhaps a port: `mx.example.org`, `mx.example.org:2525`, `192.0.2.1:25`,
/// `[2001:db8::1]:25`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port; `None` is the usual one.
    pub port: Option<u16>,
}

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let address = |ip, port| Self {
            host: Host::Address(ip),
            port,
        };
        if let Ok(at) = text.parse::<SocketAddr>() {
            return Ok(address(at.ip(), Some(at.port()))).and_then(Self::port_is_not_zero);
        }
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(text).parse::<IpAddr>() {
            return Ok(address(ip, None));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => {
                let port = port
                    .parse()
                    .map_err(|_| format!("{port:?} is not a port"))?;
                (name, Some(port))
            }
            None => (text, None),
        };
        let host = Host::Name(name.parse()?);
        Self { host, port }.port_is_not_zero()
    }
}

impl Target {
    fn port_is_not_zero(self) -> Result<Self, String> {
        match self.port {
            Some(0) => Err("port 0 is no port".into()),
            _ => Ok(self),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::Name(name), None) => write!(f, "{name}"),
            (Host::Name(name), Some(port)) => write!(f, "{name}:{port}"),
            (Host::Address(ip), None) => write!(f, "{ip}"),
            (Host::Address(ip), Some(port)) => SocketAddr::new(*ip, port).fmt(f),
        }
    }
}

impl Scalar for Target {
    const EXPECTED: &'static str =
        "a host and perhaps a port, such as \"smtp.example.net:587\" or \"[2001:db8::1]:25\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        text(value)?.parse()
    }
    fn show(&self) -> String {
        quoted(self)
    }
}

/// Which domains a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DomainPattern {
    /// `*`: every domain.
    Any,
    /// `*.example.org` or `.example.org`: every domain below, not `example.org` itself.
    Below(DomainName),
    /// `example.org`.
    Exactly(DomainName),
}

impl DomainPattern {
    /// Whether `domain` (lower case A-labels) is meant.
    pub fn matches(&self, domain: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(name) => domain == &**name,
            Self::Below(name) => domain
                .strip_suffix(&**name)
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        }
    }
}

impl FromStr for DomainPattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.").or(text.strip_prefix('.')) {
            Some(name) => name.parse().map(Self::Below),
            None => text.parse().map(Self::Exactly),
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Exactly(name) => write!(f, "{name}"),
        }
    }
}

impl Scalar for DomainPattern {
    const EXPECTED: &'static str = "\"example.org\", \"*.example.org\" or \"*\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        text(value)?.parse()
    }
    fn show(&self) -> String {
        quoted(self)
    }
}

/// Makes an enum readable from the words beside its variants.
macro_rules! words {
    ($type:ty { $first:literal => $first_variant:ident $(, $word:literal => $variant:ident)* $(,)? }) => {
        impl $crate::config::tree::Scalar for $type {
            const EXPECTED: &'static str = concat!("one of \"", $first, "\"" $(, ", \"", $word, "\"")*);
            fn read(value: &toml::de::DeValue<'_>) -> Result<Self, String> {
                let text = $crate::config::units::text(value)?;
                match text {
                    $first => Ok(<$type>::$first_variant),
                    $($word => Ok(<$type>::$variant),)*
                    _ => Err($crate::config::names::unknown_word(text, &[$first $(, $word)*])),
                }
            }
            fn show(&self) -> String {
                #[allow(unreachable_patterns)]
                $crate::config::units::quoted(match self {
                    <$type>::$first_variant => $first,
                    $(<$type>::$variant => $word,)*
                    _ => "?",
                })
            }
        }
    };
}
pub(super) use words;

pub(super) fn unknown_word(word: &str, known: &[&str]) -> String {
    match super::problem::did_you_mean(word, known.iter().copied()) {
        Some(near) => format!("{word:?} is unknown; did you mean {near:?}?"),
        None => format!("{word:?} is unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn networks_that_take_in_strangers_are_known() {
        let everyone = |t: &str| t.parse::<Network>().unwrap().is_everyone();
        for net in [
            "0.0.0.0/0",
            "::/0",
            "128.0.0.0/1",
            "2000::/3",
            "::ffff:0:0/96",
            "::/7",
        ] {
            assert!(everyone(net), "{net}");
        }
        for net in [
            "10.0.0.0/8",
            "127.0.0.0/8",
            "fc00::/7",
            "fe80::/10",
            "2001:db8::/32",
            "::1",
        ] {
            assert!(!everyone(net), "{net}");
        }
    }

    #[test]
    fn a_mapped_network_is_the_ipv4_network() {
        let net: Network = "::ffff:10.0.0.0/104".parse().unwrap();
        assert_eq!(net.to_string(), "10.0.0.0/8");
        assert!(net.contains("10.9.9.9".parse().unwrap()));
        assert!(net.contains("::ffff:10.9.9.9".parse().unwrap()));
        assert!(!net.contains("11.0.0.1".parse().unwrap()));
    }

    #[test]
    fn patterns_match_whole_labels() {
        let below: DomainPattern = ".Example.org".parse().unwrap();
        assert!(below.matches("a.example.org"));
        assert!(!below.matches("example.org"));
        assert!(!below.matches("badexample.org"));
        assert!(!below.matches(".example.org"));
        assert_eq!("*.example.org".parse(), Ok(below));
    }

    #[test]
    fn targets_are_read() {
        for (text, port) in [
            ("mx.example.org", None),
            ("mx.example.org:2525", Some(2525)),
            ("192.0.2.1", None),
            ("192.0.2.1:25", Some(25)),
            ("2001:db8::1", None),
            ("[2001:db8::1]:26", Some(26)),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!((target.port, target.to_string()), (port, text.to_owned()));
        }
        for wrong in ["", "a:b", "a:0", "1.2.3.4:0", "a b", "[x]:25", "a:70000"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,30}") {
            if let Ok(t) = text.parse::<Target>() {
                prop_assert_eq!(t.to_string().parse(), Ok(t));
            }
            if let Ok(t) = text.parse::<DomainPattern>() {
                prop_assert_eq!(t.to_string().parse(), Ok(t));
            }
            let _ = (text.parse::<Network>(), text.parse::<EmailAddress>(), text.parse::<Name>());
        }

        #[test]
        fn networks_hold_their_addresses(bits: u32, len in 0u8..=32) {
            let net = ipnet::Ipv4Net::new(bits.into(), len).unwrap().trunc();
            let read: Network = net.to_string().parse().unwrap();
            prop_assert!(read.contains(IpAddr::V4(bits.into())));
        }
    }
}
