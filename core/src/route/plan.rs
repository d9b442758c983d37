//! Where the mail of a domain goes, or why it goes nowhere.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use sha2::{Digest, Sha256};

use crate::dns::Name;
use crate::feedback::verdict::{Class, Scope};
use crate::smtp::reply::EnhancedCode;

/// Names a site: the set of hosts that take a domain's mail. Domains with the same set of MX
/// hosts have the same key, whatever the order, the preferences and the addresses. The key is a
/// hash that stays the same from run to run and from version to version, so it may be stored.
///
/// It is the first half of SHA-256, so that nobody can give a domain of his the key of
/// another's site.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteKey(u128);

impl SiteKey {
    /// The key of a set of hosts, in any order; each once or several times, in any case.
    pub fn of_hosts<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hosts: Vec<String> = hosts.into_iter().map(str::to_ascii_lowercase).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let mut hash = Sha256::new();
        for host in &hosts {
            hash.update(host.as_bytes());
            // No host has a line feed, so no two sets run together to the same bytes.
            hash.update(b"\n");
        }
        let mut half = [0; 16];
        for (to, from) in half.iter_mut().zip(hash.finalize()) {
            *to = from;
        }
        Self(u128::from_be_bytes(half))
    }

    /// The key that [`get`](Self::get) gave.
    pub const fn from_raw(raw: u128) -> Self {
        Self(raw)
    }

    /// The key as a number.
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Display for SiteKey {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
impl fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One host of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanHost {
    /// Its name as the MX record or the route has it: what the peer's certificate should name.
    /// An address in brackets, where there is no name.
    pub name: Arc<str>,
    /// Where its addresses were found: the end of the CNAME chain of its name, or the name.
    /// `None` where there is no name. DANE looks here first (RFC 7672 2.2.2).
    pub canonical: Option<Name>,
    /// Its preference; lower comes first. Zero without MX.
    pub preference: u16,
    /// TCP port.
    pub port: u16,
    /// Its addresses, in the order to try them; never empty, each once.
    pub addresses: Vec<IpAddr>,
    /// Whether MX and address records were DNSSEC-secure: only then DANE applies (RFC 7672 2.2).
    pub secure: bool,
}

/// Where the mail of a domain goes: hosts in the order to try them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// At least one, at most [`MX_HOSTS_MAX`](crate::limits::MX_HOSTS_MAX).
    pub hosts: Vec<PlanHost>,
    /// The site.
    pub site: SiteKey,
    /// The hosts that make the site, sorted; for provider rules. Hosts that have no usable
    /// address now are among them.
    pub mx_names: Vec<Arc<str>>,
    /// How long the plan holds.
    pub valid_for: Duration,
    /// The domain has no MX; its own address is used (RFC 5321 5.1).
    pub implicit: bool,
    /// Whether the MX answer was DNSSEC-secure.
    pub secure: bool,
}

impl Plan {
    /// The plan of a static route to an address: no DNS, holds until the configuration changes.
    pub fn fixed(to: SocketAddr) -> Self {
        let name = literal(to.ip());
        // The port makes another server of it, and two servers are two sites.
        let site = SiteKey::of_hosts([alloc::format!("{name}:{}", to.port()).as_str()]);
        Self {
            mx_names: alloc::vec![name.clone()],
            hosts: alloc::vec![PlanHost {
                name,
                canonical: None,
                preference: 0,
                port: to.port(),
                addresses: alloc::vec![to.ip()],
                secure: false,
            }],
            site,
            valid_for: Duration::MAX,
            implicit: false,
            secure: false,
        }
    }

    /// Leaves out the hosts of a plan by MX that `allows` says no to, perhaps all of them, and gives
    /// those. The site becomes that of the hosts that stay: connections to a site are for all domains
    /// that have it.
    pub fn keep(&mut self, allows: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
        let before = self.mx_names.len();
        self.mx_names.retain(|name| allows(name));
        let mut left_out = Vec::new();
        self.hosts.retain(|host| {
            let stays = allows(&host.name);
            if !stays {
                left_out.push(host.name.clone());
            }
            stays
        });
        if self.mx_names.len() < before {
            self.site = SiteKey::of_hosts(self.mx_names.iter().map(|name| &**name));
        }
        left_out
    }

    /// Every host and socket address in the order to try them.
    pub fn addresses(&self) -> impl Iterator<Item = (&PlanHost, SocketAddr)> {
        self.hosts.iter().flat_map(|host| {
            host.addresses
                .iter()
                .map(move |&ip| (host, SocketAddr::new(ip, host.port)))
        })
    }
}

/// `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 4.1.3).
pub(super) fn literal(ip: IpAddr) -> Arc<str> {
    match ip {
        IpAddr::V4(v4) => alloc::format!("[{v4}]").into(),
        IpAddr::V6(v6) => alloc::format!("[IPv6:{v6}]").into(),
    }
}

/// What is wrong with a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// It is not a domain name.
    BadName,
    /// It does not exist.
    NoSuchDomain,
    /// It exists, but has neither MX nor address.
    NoAddress,
    /// It says that it takes no mail (RFC 7505).
    NullMx,
    /// None of its MX hosts can be used.
    NoUsableMx,
    /// Its mail would come back to us.
    Loop,
    /// It leads to addresses where public mail does not go.
    SpecialAddress,
    /// A policy of its owner's forbids every host that it has.
    Policy,
    /// DNS does not answer, for now.
    Dns,
    /// Nothing vouches for its MX, and the mail may go to verified hosts only (RFC 8689 4.2.1).
    Insecure,
}

/// Why a domain has no [`Plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteError {
    /// What is wrong.
    pub fault: Fault,
    /// True when trying again can't help.
    pub permanent: bool,
    /// For the DSN (RFC 3463, RFC 7505 4).
    pub enhanced: EnhancedCode,
    /// For a person: which domain, what was found, what to do.
    pub text: String,
    /// How long this holds: no use in asking again before.
    pub valid_for: Duration,
}

impl RouteError {
    /// Mail that asks for REQUIRETLS, to a domain whose MX neither DNSSEC nor MTA-STS vouches for.
    pub fn insecure(domain: &str) -> Self {
        Self {
            fault: Fault::Insecure,
            permanent: true,
            enhanced: EnhancedCode::new(5, 7, 10),
            text: alloc::format!(
                "the message asks for REQUIRETLS, and neither DNSSEC nor MTA-STS vouches for the MX \
                 of {domain}"
            ),
            valid_for: Duration::from_secs(60),
        }
    }

    /// What kind of trouble it is, for a verdict.
    pub const fn class(&self) -> Class {
        match self.fault {
            Fault::Policy => Class::Authentication,
            _ => Class::Dns,
        }
    }

    /// Whom it is about: every recipient in the domain, and nobody else.
    pub const fn scope(&self) -> Scope {
        Scope::Recipient
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.enhanced, self.text)
    }
}
impl core::error::Error for RouteError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn site_keys_are_sets_and_stay_the_same() {
        let one = SiteKey::of_hosts(["mx2.example", "MX1.example", "mx1.example"]);
        assert_eq!(one, SiteKey::of_hosts(["mx1.example", "mx2.example"]));
        assert_ne!(one, SiteKey::of_hosts(["mx1.example"]));
        assert_ne!(
            SiteKey::of_hosts(["a", "bc"]),
            SiteKey::of_hosts(["ab", "c"])
        );
        // printf 'mx1.example\nmx2.example\n' | sha256sum | cut -c1-32
        assert_eq!(one.to_string(), "013de76143b839be9dbd06c56b240bea");
        assert_eq!(SiteKey::from_raw(one.get()), one);
    }

    #[test]
    fn hosts_that_are_left_out() {
        let mut plan = Plan::fixed("192.0.2.1:25".parse().unwrap());
        let host = |name: &str| PlanHost {
            name: name.into(),
            ..Plan::fixed("192.0.2.1:25".parse().unwrap()).hosts[0].clone()
        };
        // c has no address now.
        plan.mx_names = ["a.example", "b.example", "c.example"]
            .map(Arc::from)
            .into();
        plan.hosts = alloc::vec![host("b.example"), host("a.example")];
        plan.site = SiteKey::of_hosts(["a.example", "b.example", "c.example"]);
        let before = plan.clone();
        assert!(plan.keep(|_| true).is_empty());
        assert_eq!(plan, before);
        let left_out = plan.keep(|name| name != "b.example");
        assert_eq!(left_out, [Arc::from("b.example")]);
        assert_eq!(plan.hosts.len(), 1);
        assert_eq!(plan.site, SiteKey::of_hosts(["c.example", "a.example"]));
        // One that has no address now makes another site of it too.
        assert!(plan.keep(|name| name != "c.example").is_empty());
        assert_eq!(plan.site, SiteKey::of_hosts(["a.example"]));
        assert_eq!(plan.keep(|_| false).len(), 1);
        assert!(plan.hosts.is_empty());
    }

    #[test]
    fn fixed_plans() {
        let plan = Plan::fixed("127.0.0.1:2525".parse().unwrap());
        let (host, address) = plan.addresses().next().unwrap();
        assert_eq!(
            (&*host.name, address.to_string().as_str()),
            ("[127.0.0.1]", "127.0.0.1:2525")
        );
        assert_ne!(plan.site, Plan::fixed("127.0.0.1:25".parse().unwrap()).site);
        let plan = Plan::fixed("[::1]:25".parse().unwrap());
        assert_eq!(&*plan.hosts[0].name, "[IPv6:::1]");
    }
}
