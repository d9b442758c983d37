//! What is known of a domain's policy, and what to do next (RFC 8461 3.3, 5.1, 10.2).
//!
//! ```text
//!              cached policy in force                       none, or expired
//!  record ──▶  its id ───────────▶ Use (refresh when due)   ───▶ Fetch
//!              another id ───────▶ Fetch
//!  no record, several, faulty,
//!  DNS fails ▶ Use (refresh when due)                       ───▶ Without
//!
//!  a fetch failed, and the time for another one has not come:
//!              ───────────────────▶ Use                     ───▶ Without
//! ```
//!
//! What is decided here:
//! - A policy in force is used as long as it holds, whatever DNS says and whether it can be fetched
//!   or not: otherwise whoever can disturb DNS or HTTPS could switch it off (10.2). A domain gets
//!   rid of it by a policy with `mode: none` (8.3).
//! - Another id is fetched before anything is delivered, since the hosts may be others now; a
//!   refresh goes beside deliveries. It is due after a day (3.3) or half of the time that the policy
//!   holds, whichever comes first, and whatever DNS says: HTTPS is what vouches for a policy.
//! - After a failure five minutes pass (3.3), and twice as long after each further one, up to an
//!   hour. Another id is tried at once.
//! - A policy holds for five minutes at least: it would have to be fetched for each delivery
//!   otherwise.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use crate::dns::Outcome;
use crate::limits::{
    MTA_STS_MAX_AGE_S_MAX, MTA_STS_REFRESH_S, MTA_STS_RETRY_S_MAX, MTA_STS_RETRY_S_MIN,
};
use crate::route::tlsrpt::ResultType;
use crate::time::Wall;

use super::policy::Policy;
use super::record::{PolicyId, published};

/// A policy that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// The policy.
    pub policy: Arc<Policy>,
    /// The id that DNS had for it; `None` if it was fetched without one.
    pub id: Option<PolicyId>,
    /// When it was fetched.
    pub fetched: Wall,
}

impl Cached {
    /// Until when it holds.
    pub fn expires(&self) -> Wall {
        let max_age_s = self.policy.max_age_s.min(MTA_STS_MAX_AGE_S_MAX);
        self.fetched
            .plus_s(i64::from(max_age_s.max(MTA_STS_RETRY_S_MIN)))
    }

    /// Whether it holds.
    pub fn in_force(&self, now: Wall) -> bool {
        now < self.expires()
    }

    /// From when on it is to be fetched again, so that it doesn't expire.
    pub fn refresh_at(&self) -> Wall {
        let half_s = self.policy.max_age_s / 2;
        let after_s = half_s.clamp(MTA_STS_RETRY_S_MIN, MTA_STS_REFRESH_S);
        self.fetched.plus_s(i64::from(after_s))
    }
}

/// Why a policy can't be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchFault {
    /// What reports call it (RFC 8460 4.3.2.2).
    pub result: ResultType,
    /// In words.
    pub text: String,
}

impl fmt::Display for FetchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl core::error::Error for FetchFault {}

/// Fetches that failed, since the last one that didn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchFailure {
    /// The id that DNS had; `None` if it had none.
    pub id: Option<PolicyId>,
    /// When the last one failed.
    pub at: Wall,
    /// How many in a row, for this id.
    pub times: u32,
    /// Why the last one did.
    pub fault: Arc<FetchFault>,
}

impl FetchFailure {
    /// When the next one may be tried.
    pub fn retry_at(&self) -> Wall {
        let doubled = self.times.saturating_sub(1).min(16);
        let wait_s = (u64::from(MTA_STS_RETRY_S_MIN) << doubled).min(MTA_STS_RETRY_S_MAX.into());
        self.at.plus_s(i64::try_from(wait_s).unwrap_or(i64::MAX))
    }
}

/// What is known of a domain. Both parts are public, so that they can be stored and come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The policy that was fetched last, in force or not.
    pub cached: Option<Cached>,
    /// Fetches that failed since.
    pub failure: Option<FetchFailure>,
}

/// What to do about a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// Go on as if the domain had no MTA-STS.
    Without,
    /// Go on by this policy.
    Use {
        /// The policy. With [`Mode::None`](super::Mode::None) it asks for nothing.
        cached: &'a Cached,
        /// Fetch it again, beside what is delivered, and tell [`Known::fetched`] or
        /// [`Known::failed`] with `None` for the id: it has not changed.
        refresh: bool,
    },
    /// Fetch the policy that DNS has this id for, and decide again before anything is delivered.
    Fetch(PolicyId),
}

impl Known {
    /// What to do, by what came of the TXT question `dns`.
    pub fn decide(&self, dns: &Outcome, now: Wall) -> Decision<'_> {
        let id = published(dns).record().map(|record| record.id);
        match (self.in_force(now), id) {
            (Some(cached), Some(id))
                if cached.id.as_ref() != Some(&id) && self.may_fetch(Some(&id), now) =>
            {
                Decision::Fetch(id)
            }
            (Some(cached), id) => {
                let id = id.or_else(|| cached.id.clone());
                let refresh = now >= cached.refresh_at() && self.may_fetch(id.as_ref(), now);
                Decision::Use { cached, refresh }
            }
            (None, Some(id)) if self.may_fetch(Some(&id), now) => Decision::Fetch(id),
            (None, _) => Decision::Without,
        }
    }

    /// The policy in force.
    pub fn in_force(&self, now: Wall) -> Option<&Cached> {
        self.cached.as_ref().filter(|cached| cached.in_force(now))
    }

    /// Whether nothing is left to remember: no policy in force, and no failure to wait after.
    pub fn is_spent(&self, now: Wall) -> bool {
        let waits = self.failure.as_ref().is_some_and(|f| now < f.retry_at());
        self.in_force(now).is_none() && !waits
    }

    /// When the policy in force is to be fetched again although nothing is delivered, so that it
    /// doesn't expire: the later of when it is due and when a fetch may be tried again.
    pub fn due(&self, now: Wall) -> Option<Wall> {
        let cached = self.in_force(now)?;
        let due = cached.refresh_at();
        let failure = self.failure.as_ref().filter(|f| f.id == cached.id);
        Some(failure.map_or(due, |failure| due.max(failure.retry_at())))
    }

    /// A policy was fetched. `id` is that of [`Decision::Fetch`]; without one, that of the policy
    /// before it stays.
    pub fn fetched(&mut self, policy: Policy, id: Option<PolicyId>, now: Wall) {
        let before = self.cached.take().and_then(|cached| cached.id);
        self.failure = None;
        self.cached = Some(Cached {
            policy: Arc::new(policy),
            id: id.or(before),
            fetched: now,
        });
    }

    /// A fetch failed. `id` is that of [`Decision::Fetch`]; without one, it is that of the policy
    /// that was to be refreshed.
    pub fn failed(&mut self, id: Option<PolicyId>, fault: Arc<FetchFault>, now: Wall) {
        let id = id.or_else(|| self.cached.as_ref()?.id.clone());
        let times = match &self.failure {
            Some(before) if before.id == id => before.times.saturating_add(1),
            _ => 1,
        };
        self.failure = Some(FetchFailure {
            id,
            at: now,
            times,
            fault,
        });
    }

    /// Whether no fetch for this id failed a short while ago. A failure in the future, by a clock
    /// that was set back, doesn't count.
    fn may_fetch(&self, id: Option<&PolicyId>, now: Wall) -> bool {
        let recent = |f: &&FetchFailure| f.at <= now && now < f.retry_at();
        let failure = self.failure.as_ref().filter(recent);
        failure.is_none_or(|failure| failure.id.as_ref() != id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Failure, Records};
    use crate::route::mta_sts::Mode;
    use proptest::prelude::*;

    const DAY_S: i64 = 86_400;

    fn dns(id: &str) -> Outcome {
        let text = alloc::format!("v=STSv1; id={id}");
        Outcome::Found(Records::Txt([text.into_bytes().into()].into()))
    }

    fn id(text: &str) -> Option<PolicyId> {
        PolicyId::parse(text)
    }

    fn at(s: i64) -> Wall {
        Wall::from_unix(1_800_000_000 + s)
    }

    fn fault() -> Arc<FetchFault> {
        Arc::new(FetchFault {
            result: ResultType::StsPolicyFetchError,
            text: "it answers 404".into(),
        })
    }

    fn policy(max_age_s: u32) -> Policy {
        Policy {
            mode: Mode::None,
            mx: [].into(),
            max_age_s,
        }
    }

    fn known(max_age_s: u32) -> Known {
        let mut known = Known::default();
        known.fetched(policy(max_age_s), id("a"), at(0));
        known
    }

    /// `Some(refresh)` if the policy in force is used.
    fn used(decision: Decision<'_>) -> Option<bool> {
        match decision {
            Decision::Use { refresh, .. } => Some(refresh),
            _ => None,
        }
    }

    #[test]
    fn nothing_cached() {
        let mut known = Known::default();
        for none in [
            Outcome::NoName,
            Outcome::NoData,
            Outcome::Failed(Failure::Timeout),
            dns("not-an-id"),
        ] {
            assert_eq!(known.decide(&none, at(0)), Decision::Without);
        }
        let fetch = |text| Decision::Fetch(id(text).unwrap());
        assert_eq!(known.decide(&dns("a"), at(0)), fetch("a"));
        // RFC 8461 3.3: not again for five minutes, unless it is another one.
        known.failed(id("a"), fault(), at(0));
        assert_eq!(known.decide(&dns("a"), at(299)), Decision::Without);
        assert_eq!(known.decide(&dns("b"), at(1)), fetch("b"));
        assert!(!known.is_spent(at(299)) && known.is_spent(at(300)));
        assert_eq!(known.decide(&dns("a"), at(300)), fetch("a"));
        // A clock that was set back is not waited for.
        assert_eq!(known.decide(&dns("a"), at(-1)), fetch("a"));
        for (at_s, next_s) in [
            (300, 600),
            (900, 1200),
            (2100, 2400),
            (4500, 3600),
            (8100, 3600),
        ] {
            known.failed(id("a"), fault(), at(at_s));
            let failure = known.failure.as_ref().unwrap();
            assert_eq!(failure.retry_at(), at(at_s + next_s), "{failure:?}");
        }
        known.failed(id("b"), fault(), at(9000));
        assert_eq!(known.failure.as_ref().unwrap().times, 1);
        known.fetched(policy(600), id("b"), at(9001));
        assert_eq!(
            (known.failure.clone(), known.is_spent(at(9002))),
            (None, false)
        );
    }

    #[test]
    fn a_policy_in_force_stays_whatever_dns_says() {
        let mut known = known(10 * 86_400);
        for dns in [
            dns("a"),
            dns("not-an-id"),
            Outcome::NoName,
            Outcome::NoData,
            Outcome::Failed(Failure::ServerFailure),
        ] {
            for (s, refresh) in [
                (0, false),
                (DAY_S - 1, false),
                (DAY_S, true),
                (10 * DAY_S - 1, true),
            ] {
                assert_eq!(
                    used(known.decide(&dns, at(s))),
                    Some(refresh),
                    "{dns:?} {s}"
                );
            }
        }
        assert_eq!(known.due(at(0)), Some(at(DAY_S)));
        // A refresh that fails changes nothing but when it is tried again.
        known.failed(None, fault(), at(DAY_S));
        assert_eq!(
            used(known.decide(&Outcome::NoName, at(DAY_S + 299))),
            Some(false)
        );
        assert_eq!(known.due(at(DAY_S)), Some(at(DAY_S + 300)));
        assert_eq!(used(known.decide(&dns("a"), at(DAY_S + 300))), Some(true));
        // Expired: without a record it is gone, with one it is fetched.
        let end = at(10 * DAY_S);
        assert_eq!((known.in_force(end), known.due(end)), (None, None));
        assert_eq!(known.decide(&Outcome::NoName, end), Decision::Without);
        assert_eq!(
            known.decide(&dns("a"), end),
            Decision::Fetch(id("a").unwrap())
        );
        known.failed(id("a"), fault(), end);
        assert_eq!(known.decide(&dns("a"), end), Decision::Without);
        // Refreshed without a record it keeps its id.
        known.fetched(policy(600), None, end);
        assert_eq!(known.cached.as_ref().unwrap().id, id("a"));
    }

    #[test]
    fn another_id_is_fetched_first() {
        let mut known = known(10 * 86_400);
        let fetch = Decision::Fetch(id("b").unwrap());
        assert_eq!(known.decide(&dns("b"), at(1)), fetch);
        // RFC 8461 5.1: what was cached goes on if that fails.
        known.failed(id("b"), fault(), at(1));
        assert_eq!(used(known.decide(&dns("b"), at(2))), Some(false));
        // That failure is not the old one's.
        assert_eq!(used(known.decide(&dns("a"), at(DAY_S))), Some(true));
        assert_eq!(known.due(at(2)), Some(at(DAY_S)));
        assert_eq!(known.decide(&dns("b"), at(301)), fetch);
    }

    #[test]
    fn short_and_long_lives() {
        for (max_age_s, expires_s, refresh_s) in [
            (0, 300, 300),
            (300, 300, 300),
            (1000, 1000, 500),
            (86_400, DAY_S, DAY_S / 2),
            (31_557_600, 31_557_600, DAY_S),
            (u32::MAX, 31_557_600, DAY_S),
        ] {
            let known = known(max_age_s);
            let cached = known.cached.as_ref().unwrap();
            assert_eq!(cached.expires(), at(expires_s), "{max_age_s}");
            assert_eq!(cached.refresh_at(), at(refresh_s), "{max_age_s}");
            // Just fetched, it is used: deciding again ends.
            assert_eq!(used(known.decide(&dns("a"), at(0))), Some(false));
        }
    }

    proptest! {
        #[test]
        fn deciding_ends(
            max_age_s in any::<u32>(),
            steps in proptest::collection::vec((any::<bool>(), 0..4_usize, -900..90_000_i64), 1..20),
        ) {
            let mut known = Known::default();
            let mut now = at(0);
            for (works, what, later_s) in steps {
                now = now.plus_s(later_s);
                let dns = [dns("a"), dns("b"), Outcome::NoName, Outcome::Failed(Failure::Timeout)][what].clone();
                let before = known.in_force(now).cloned();
                if let Decision::Fetch(id) = known.decide(&dns, now) {
                    if works {
                        known.fetched(policy(max_age_s), Some(id), now);
                    } else {
                        known.failed(Some(id), fault(), now);
                    }
                }
                match known.decide(&dns, now) {
                    Decision::Fetch(_) => prop_assert!(false, "fetched twice"),
                    Decision::Use { cached, .. } => prop_assert!(cached.in_force(now)),
                    // What held is never given up.
                    Decision::Without => prop_assert_eq!(before, None),
                }
            }
        }
    }
}
