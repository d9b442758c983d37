//! What a policy in force makes of a plan (RFC 8461 5).
//!
//! | mode | hosts that the policy doesn't allow | the others |
//! |---|---|---|
//! | `enforce` | leave the plan; if none stays, mail waits | get mail only over TLS that is [`Verified`](Level::Verified) |
//! | `testing` | get mail, and are named | get mail as if there were no policy |
//! | `none` | as if there were no policy | as if there were no policy |

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::time::Duration;

use super::known::Cached;
use super::policy::{Mode, Policy};
use crate::dns::Name;
use crate::route::plan::{Fault, Plan, RouteError};
use crate::route::tls::Level;
use crate::smtp::reply::EnhancedCode;
use crate::time::Wall;

/// Names that an error's text has at the most, of hosts and of patterns.
const SHOWN_MAX: usize = 5;

/// A policy in force, and what it says of the hosts of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The domain whose policy it is.
    pub domain: Name,
    /// The policy: to enforce, or to test.
    pub policy: Arc<Policy>,
    /// Until when it holds.
    pub expires: Wall,
    /// Hosts of the plan that it doesn't allow. With [`Mode::Enforce`] they have left it.
    pub not_allowed: Vec<Arc<str>>,
}

impl Applied {
    /// Applies the policy of `domain` to its plan by MX, which holds no longer than the policy then;
    /// `None` if the policy asks for nothing.
    ///
    /// # Errors
    /// A temporary one, since the domain's owner may correct the policy or the MX records: the policy
    /// is to be enforced, and allows none of the hosts.
    pub fn to(
        plan: &mut Plan,
        domain: &Name,
        cached: &Cached,
        now: Wall,
    ) -> Result<Option<Self>, RouteError> {
        let (policy, expires) = (&cached.policy, cached.expires());
        let left_s = u64::try_from(expires.unix().saturating_sub(now.unix())).unwrap_or(0);
        let valid_for = plan.valid_for.min(Duration::from_secs(left_s));
        let hosts = || plan.hosts.iter().map(|host| &host.name);
        let not_allowed: Vec<Arc<str>> = match policy.mode {
            Mode::None => return Ok(None),
            Mode::Testing => hosts().filter(|h| !policy.allows(h)).cloned().collect(),
            Mode::Enforce => plan.keep(|name| policy.allows(name)),
        };
        plan.valid_for = valid_for;
        if plan.hosts.is_empty() {
            return Err(none_allowed(domain, policy, &not_allowed, valid_for));
        }
        Ok(Some(Self {
            domain: domain.clone(),
            policy: policy.clone(),
            expires,
            not_allowed,
        }))
    }

    /// How much TLS it asks for.
    pub fn level(&self) -> Option<Level> {
        (self.policy.mode == Mode::Enforce).then_some(Level::Verified)
    }
}

fn none_allowed(
    domain: &Name,
    policy: &Policy,
    hosts: &[Arc<str>],
    valid_for: Duration,
) -> RouteError {
    RouteError {
        fault: Fault::Policy,
        permanent: false,
        enhanced: EnhancedCode::new(4, 7, 10),
        text: alloc::format!(
            "{domain}: its MTA-STS policy allows none of its MX hosts ({}), but {}; the domain's owner \
             must correct the policy or the MX records; it will be tried again",
            list(hosts),
            list(&policy.mx)
        ),
        valid_for,
    }
}

/// The first of them, and how many more there are.
fn list(all: &[impl ToString]) -> String {
    let shown: Vec<String> = all
        .iter()
        .take(SHOWN_MAX)
        .map(ToString::to_string)
        .collect();
    let mut text = shown.join(", ");
    if all.len() > SHOWN_MAX {
        let _ = write!(text, " and {} more", all.len() - SHOWN_MAX);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::plan::{PlanHost, SiteKey};

    fn plan(names: &[&str]) -> Plan {
        let one = Plan::fixed("192.0.2.1:25".parse().unwrap());
        let host = |name: &&str| PlanHost {
            name: (*name).into(),
            ..one.hosts[0].clone()
        };
        Plan {
            hosts: names.iter().map(host).collect(),
            mx_names: names.iter().map(|n| Arc::from(*n)).collect(),
            site: SiteKey::of_hosts(names.iter().copied()),
            valid_for: Duration::from_secs(3600),
            ..one
        }
    }

    fn cached(mode: Mode) -> Cached {
        let text = alloc::format!(
            "version: STSv1\nmode: {mode}\nmx: mx1.example.net\nmx: *.mail.example\nmax_age: 86400\n"
        );
        Cached {
            policy: Policy::parse(text.as_bytes()).unwrap().into(),
            id: None,
            fetched: Wall::from_unix(1_800_000_000),
        }
    }

    const NOW: Wall = Wall::from_unix(1_800_000_000 + 86_300);

    fn to(plan: &mut Plan, mode: Mode) -> Result<Option<Applied>, RouteError> {
        Applied::to(
            plan,
            &Name::parse("example.net").unwrap(),
            &cached(mode),
            NOW,
        )
    }

    #[test]
    fn by_mode() {
        let names = ["mx1.example.net", "MX2.example.net", "a.mail.example"];
        let mut plan_of = plan(&names);
        assert_eq!(to(&mut plan_of, Mode::None), Ok(None));
        assert_eq!(plan_of, plan(&names));

        let applied = to(&mut plan_of, Mode::Testing).unwrap().unwrap();
        assert_eq!(applied.not_allowed, [Arc::from("MX2.example.net")]);
        assert_eq!(applied.level(), None);
        // It holds as long as the policy; all else stays.
        assert_eq!(plan_of.valid_for, Duration::from_secs(100));
        assert_eq!((plan_of.hosts.len(), plan_of.site), (3, plan(&names).site));

        let applied = to(&mut plan_of, Mode::Enforce).unwrap().unwrap();
        assert_eq!(applied.not_allowed, [Arc::from("MX2.example.net")]);
        assert_eq!(applied.level(), Some(Level::Verified));
        let left = ["mx1.example.net", "a.mail.example"];
        assert_eq!(plan_of.site, SiteKey::of_hosts(left));
        assert_eq!(plan_of.hosts.len(), 2);
        // Nothing more leaves it.
        let applied = to(&mut plan_of, Mode::Enforce).unwrap().unwrap();
        assert!(applied.not_allowed.is_empty());
    }

    #[test]
    fn no_host_is_allowed() {
        let error = to(&mut plan(&["mx9.example.net"]), Mode::Enforce).unwrap_err();
        assert!(!error.permanent && error.fault == Fault::Policy);
        assert_eq!(error.valid_for, Duration::from_secs(100));
        assert_eq!(
            alloc::format!("{error}"),
            "4.7.10 example.net: its MTA-STS policy allows none of its MX hosts (mx9.example.net), but \
             mx1.example.net, *.mail.example; the domain's owner must correct the policy or the MX \
             records; it will be tried again"
        );
        let many: Vec<String> = (0..9).map(|i| alloc::format!("m{i}.example")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let error = to(&mut plan(&many), Mode::Enforce).unwrap_err();
        assert!(
            error.text.contains(
                "(m0.example, m1.example, m2.example, m3.example, m4.example and 4 more)"
            ),
            "{error}"
        );
        // Tested only, it goes there.
        let applied = to(&mut plan(&many), Mode::Testing).unwrap().unwrap();
        assert_eq!(applied.not_allowed.len(), 9);
    }
}
