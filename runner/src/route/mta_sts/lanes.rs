//! Whose policies the mail of a site goes by.
//!
//! Domains with the same hosts and the same level of TLS share a site and its connections, and each
//! may have a policy of its own: what a connection came to is a result for all of them (RFC 8460).

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use courser_core::route::mta_sts::{Applied, FetchFault, Mode};
use courser_core::route::tlsrpt::Sts;
use courser_core::time::Wall;

use crate::route::Routed;

/// Domains of one site whose policies are remembered.
const DOMAINS_MAX: usize = 20_000;
/// So many at least come between two looks for policies that no longer hold.
const SWEEP_MIN: usize = 100;

/// What the mail of a domain goes by.
#[derive(Clone, Debug, PartialEq)]
pub enum SitePolicy {
    /// A policy, to enforce or to test.
    Applied(Arc<Applied>),
    /// None, since it can't be had: why, and until when that stands.
    Unfetched(Arc<FetchFault>, Wall),
}

impl SitePolicy {
    /// What the mail that is routed so goes by; `None`: there is no policy.
    pub fn of(routed: &Routed) -> Option<Self> {
        match (&routed.sts, &routed.sts_fault) {
            (Some(applied), _) => Some(Self::Applied(applied.clone())),
            (None, Some((fault, until))) => Some(Self::Unfetched(fault.clone(), *until)),
            (None, None) => None,
        }
    }

    /// The same for reports.
    pub fn for_report(&self) -> Sts<'_> {
        match self {
            Self::Applied(applied) => Sts::Policy(&applied.policy),
            Self::Unfetched(fault, _) => Sts::Unfetched(fault),
        }
    }

    fn expires(&self) -> Wall {
        match self {
            Self::Applied(applied) => applied.expires,
            Self::Unfetched(_, until) => *until,
        }
    }

    fn is(&self, mode: Mode) -> bool {
        matches!(self, Self::Applied(applied) if applied.policy.mode == mode)
    }
}

/// The policies of the domains whose mail goes to one site, by domain.
#[derive(Debug, Default)]
pub struct SitePolicies(RefCell<Noted>);

#[derive(Debug, Default)]
struct Noted {
    all: HashMap<Box<str>, SitePolicy>,
    /// How many of them are only tested: each connection asks.
    testing: usize,
    /// At how many they are looked through again.
    sweep_at: usize,
}

impl Noted {
    fn put(&mut self, domain: &str, policy: Option<SitePolicy>) {
        let tests = |policy: &Option<SitePolicy>| {
            usize::from(policy.as_ref().is_some_and(|p| p.is(Mode::Testing)))
        };
        self.testing += tests(&policy);
        let before = match policy {
            None => self.all.remove(domain),
            Some(policy) => self.all.insert(domain.into(), policy),
        };
        self.testing -= tests(&before);
    }

    fn sweep(&mut self, now: Wall) {
        self.all.retain(|_, policy| now < policy.expires());
        let testing = self.all.values().filter(|p| p.is(Mode::Testing));
        self.testing = testing.count();
        self.sweep_at = (2 * self.all.len()).clamp(SWEEP_MIN, DOMAINS_MAX);
    }
}

impl SitePolicies {
    /// Notes by which policy the mail of `domain` goes, `None`: by none. Those that no longer hold go
    /// now and then; where there is no room all the same, this one isn't noted.
    pub fn note(&self, domain: &str, policy: Option<SitePolicy>, now: Wall) {
        let mut noted = self.0.borrow_mut();
        if policy.is_some() && !noted.all.contains_key(domain) {
            if noted.all.len() >= noted.sweep_at {
                noted.sweep(now);
            }
            if noted.all.len() >= DOMAINS_MAX {
                return;
            }
        }
        noted.put(domain, policy);
    }

    /// What the mail of `domain` goes by; `None`: there is no policy.
    pub fn of(&self, domain: &str) -> Option<SitePolicy> {
        self.0.borrow().all.get(domain).cloned()
    }

    /// Whether there is a domain whose policy is only tested.
    pub fn is_testing(&self) -> bool {
        self.0.borrow().testing > 0
    }

    /// A domain whose policy is enforced.
    pub fn enforced(&self) -> Option<Arc<Applied>> {
        let noted = self.0.borrow();
        noted.all.values().find_map(|policy| match policy {
            SitePolicy::Applied(applied) if policy.is(Mode::Enforce) => Some(applied.clone()),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use courser_core::dns::Name;
    use courser_core::route::mta_sts::Policy;

    fn applied(mode: Mode, expires: i64) -> SitePolicy {
        let policy = format!("version: STSv1\nmode: {mode}\nmx: a.example\nmax_age: 1\n");
        SitePolicy::Applied(Arc::new(Applied {
            domain: Name::parse("a.example").unwrap(),
            policy: Arc::new(Policy::parse(policy.as_bytes()).unwrap()),
            expires: Wall::from_unix(expires),
            not_allowed: Vec::new(),
        }))
    }

    #[test]
    fn by_domain() {
        let all = SitePolicies::default();
        let now = Wall::from_unix(100);
        let (test, enforce) = (applied(Mode::Testing, 200), applied(Mode::Enforce, 100));
        all.note("a.example", Some(test.clone()), now);
        assert_eq!(
            (all.of("a.example"), all.of("b.example")),
            (Some(test), None)
        );
        assert_eq!(all.enforced(), None);
        assert!(all.is_testing());
        all.note("a.example", Some(enforce.clone()), now);
        let found = all.enforced().map(SitePolicy::Applied);
        assert_eq!(found, Some(enforce.clone()));
        assert!(!all.is_testing());
        for i in 1..DOMAINS_MAX {
            all.note(
                &format!("{i}.example"),
                Some(applied(Mode::Testing, 200)),
                now,
            );
        }
        assert!(all.of("a.example").is_none(), "it no longer holds");
        all.note("a.example", Some(applied(Mode::Testing, 100)), now);
        // That one goes; then there is no room for another one.
        all.note("b.example", Some(enforce.clone()), now);
        assert!(all.of("a.example").is_none() && all.of("b.example").is_some());
        let full = applied(Mode::Testing, 200);
        all.note("b.example", Some(full.clone()), now);
        all.note("c.example", Some(full.clone()), now);
        assert_eq!(
            (all.of("c.example"), all.of("b.example")),
            (None, Some(full))
        );
        assert!(all.is_testing());
        let later = Wall::from_unix(200);
        all.note("b.example", None, later);
        assert_eq!(all.of("b.example"), None);
        all.note("c.example", Some(applied(Mode::Enforce, 300)), later);
        assert_eq!(all.0.borrow().all.len(), DOMAINS_MAX);
        all.note("d.example", Some(applied(Mode::Enforce, 300)), later);
        assert_eq!(all.0.borrow().all.len(), 2);
        assert!(!all.is_testing());
    }
}
