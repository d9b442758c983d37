//! Whose policies the mail of a site goes by.
//!
//! Domains with the same hosts and the same level of TLS share a site and its connections, and each
//! may have a policy of its own: what a connection came to is a result for all of them (RFC 8460).

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use courser_core::route::mta_sts::{Applied, Mode};
use courser_core::time::Wall;

/// Domains of one site whose policies are remembered.
const DOMAINS_MAX: usize = 20_000;

/// The policies of the domains whose mail goes to one site, by domain.
#[derive(Debug, Default)]
pub struct SitePolicies(RefCell<HashMap<Box<str>, Arc<Applied>>>);

impl SitePolicies {
    /// Notes by which policy the mail of `domain` goes, `None`: by none. Where there is no room those
    /// that no longer hold go; if all do, this one isn't noted.
    pub fn note(&self, domain: &str, applied: Option<&Arc<Applied>>, now: Wall) {
        let mut all = self.0.borrow_mut();
        let Some(applied) = applied else {
            all.remove(domain);
            return;
        };
        if let Some(known) = all.get_mut(domain) {
            *known = applied.clone();
            return;
        }
        if all.len() >= DOMAINS_MAX {
            all.retain(|_, applied| now < applied.expires);
        }
        if all.len() < DOMAINS_MAX {
            all.insert(domain.into(), applied.clone());
        }
    }

    /// The policy by which the mail of `domain` goes, to enforce or to test.
    pub fn of(&self, domain: &str) -> Option<Arc<Applied>> {
        self.0.borrow().get(domain).cloned()
    }

    /// Whether there is a domain whose policy is only tested.
    pub fn is_testing(&self) -> bool {
        let all = self.0.borrow();
        all.values().any(|a| a.policy.mode == Mode::Testing)
    }

    /// A domain whose policy is enforced.
    pub fn enforced(&self) -> Option<Arc<Applied>> {
        let all = self.0.borrow();
        let mut enforced = all.values().filter(|a| a.policy.mode == Mode::Enforce);
        enforced.next().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use courser_core::dns::Name;
    use courser_core::route::mta_sts::Policy;

    fn applied(mode: Mode, expires: i64) -> Arc<Applied> {
        let policy = format!("version: STSv1\nmode: {mode}\nmx: a.example\nmax_age: 1\n");
        Arc::new(Applied {
            domain: Name::parse("a.example").unwrap(),
            policy: Policy::parse(policy.as_bytes()).unwrap(),
            expires: Wall::from_unix(expires),
            not_allowed: Vec::new(),
        })
    }

    #[test]
    fn by_domain() {
        let all = SitePolicies::default();
        let now = Wall::from_unix(100);
        let (test, enforce) = (applied(Mode::Testing, 200), applied(Mode::Enforce, 100));
        all.note("a.example", Some(&test), now);
        assert_eq!(
            (all.of("a.example"), all.of("b.example")),
            (Some(test), None)
        );
        assert_eq!(all.enforced(), None);
        assert!(all.is_testing());
        all.note("a.example", Some(&enforce), now);
        assert_eq!(all.enforced(), Some(enforce.clone()));
        assert!(!all.is_testing());
        for i in 1..DOMAINS_MAX {
            all.note(
                &format!("{i}.example"),
                Some(&applied(Mode::Testing, 200)),
                now,
            );
        }
        // The one that no longer holds goes; then there is no room for another one.
        all.note("b.example", Some(&enforce), now);
        assert!(all.of("a.example").is_none() && all.of("b.example").is_some());
        let full = applied(Mode::Testing, 200);
        all.note("b.example", Some(&full), now);
        all.note("c.example", Some(&full), now);
        assert_eq!(
            (all.of("c.example"), all.of("b.example")),
            (None, Some(full))
        );
        all.note("b.example", None, now);
        assert_eq!(all.of("b.example"), None);
    }
}
