//! A day's results, until they are reported (RFC 8460 4.1).
//!
//! One [`Collector`] is one day in UTC. It adds up sessions by the domain that the mail is for, the
//! policy that they were judged by, and how they failed. What it takes in memory is bounded
//! ([`TLSRPT_COLLECTED_BYTES_MAX`]): beyond it, what is known goes on being counted, and what is new
//! is counted together.
//!
//! It can be stored as the reports that it gives, and made of them again by
//! [`Collector::add_report`]; so can several be made one.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;

use super::report::{AppliedPolicy, Failure, FailureDetail, PolicyReport, Report};
use crate::dns::Name;
use crate::limits::{TLSRPT_COLLECTED_BYTES_MAX, TLSRPT_FAILURES_MAX, TLSRPT_POLICIES_MAX};
use crate::smtp::rfc3339::Utc;
use crate::time::Wall;

const DAY_S: i64 = 86_400;

/// The first second of the day in UTC that `at` lies in.
pub fn day_of(at: Wall) -> Wall {
    Wall::from_unix(at.unix().div_euclid(DAY_S).saturating_mul(DAY_S))
}

/// It belongs to another day: report this one, and begin another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnotherDay;

impl fmt::Display for AnotherDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this belongs to another day than is collected")
    }
}
impl core::error::Error for AnotherDay {}

/// Who reports.
#[derive(Clone, Copy, Debug)]
pub struct Reporter<'a> {
    /// `organization-name`.
    pub organization: &'a str,
    /// `contact-info`: an address.
    pub contact: &'a str,
    /// The sending host or domain: it stands in ids and file names.
    pub submitter: &'a Name,
}

/// What became of the sessions under a policy.
#[derive(Clone, Debug, Default)]
struct Tally {
    successes: u64,
    failures: u64,
    details: BTreeMap<Failure, u64>,
}

/// A day's results.
#[derive(Clone, Debug)]
pub struct Collector {
    day: Wall,
    domains: BTreeMap<Name, BTreeMap<AppliedPolicy, Tally>>,
    /// Bytes of all that is in there, roughly.
    weight: usize,
    unreported: u64,
}

impl Collector {
    /// For the day in UTC that `at` lies in.
    pub fn new(at: Wall) -> Self {
        Self {
            day: day_of(at),
            domains: BTreeMap::new(),
            weight: 0,
            unreported: 0,
        }
    }

    /// The day: its first second in UTC.
    pub fn day(&self) -> Wall {
        self.day
    }

    /// Whether the day is over.
    pub fn is_over(&self, now: Wall) -> bool {
        now >= self.day.plus_s(DAY_S)
    }

    /// Sessions of which no more is known than that they were: there was no room for their policy.
    pub fn unreported(&self) -> u64 {
        self.unreported
    }

    /// Domains that there is something to report about.
    pub fn domains(&self) -> impl Iterator<Item = &Name> {
        self.domains.keys()
    }

    /// Whether there is something to report about `domain`.
    pub fn has(&self, domain: &Name) -> bool {
        self.domains.contains_key(domain)
    }

    /// One session of mail for `domain` (or for the smart host that all its mail goes to), at `at`,
    /// judged by `policy`: it succeeded, or failed in this way. Where a policy of MTA-STS is only
    /// tested, and mail was delivered all the same, it has failed.
    ///
    /// # Errors
    /// [`AnotherDay`] if `at` is not in this one; nothing is counted then.
    pub fn add(
        &mut self,
        at: Wall,
        domain: &Name,
        policy: &AppliedPolicy,
        failure: Option<&Failure>,
    ) -> Result<(), AnotherDay> {
        if day_of(at) != self.day {
            return Err(AnotherDay);
        }
        match failure {
            None => self.count(domain, policy, 1, 0, []),
            Some(failure) => self.count(domain, policy, 0, 1, [(failure, 1)]),
        }
        Ok(())
    }

    /// What a report about `domain` says, for a collector that was stored or is to be joined.
    ///
    /// # Errors
    /// [`AnotherDay`] if the report isn't about this one, or doesn't say; nothing is counted then.
    pub fn add_report(&mut self, domain: &Name, report: &Report) -> Result<(), AnotherDay> {
        if report.start != Some(self.day) {
            return Err(AnotherDay);
        }
        for policy in &report.policies {
            let details = policy.details.iter().map(|d| (&d.failure, d.sessions));
            let (successes, failures) = (policy.successes, policy.failures);
            self.count(domain, &policy.policy, successes, failures, details);
        }
        Ok(())
    }

    /// Forgets what is known about `domain`, and gives its memory back.
    pub fn forget(&mut self, domain: &Name) {
        for (policy, tally) in self.domains.remove(domain).unwrap_or_default() {
            let details = tally.details.keys().map(weight_of_failure);
            let gone = weight_of_domain(domain) + weight_of_policy(&policy);
            self.weight = self.weight.saturating_sub(gone + details.sum::<usize>());
        }
    }

    fn count<'a>(
        &mut self,
        domain: &Name,
        policy: &AppliedPolicy,
        successes: u64,
        failures: u64,
        details: impl IntoIterator<Item = (&'a Failure, u64)>,
    ) {
        let full = |weight: usize, more: usize| weight + more > TLSRPT_COLLECTED_BYTES_MAX;
        if self
            .domains
            .get(domain)
            .is_none_or(|p| !p.contains_key(policy))
        {
            let more = weight_of_domain(domain) + weight_of_policy(policy);
            let policies = self.domains.get(domain).map_or(0, BTreeMap::len);
            if policies >= TLSRPT_POLICIES_MAX || full(self.weight, more) {
                let sessions = successes.saturating_add(failures);
                self.unreported = self.unreported.saturating_add(sessions);
                return;
            }
            self.weight += more;
            let policies = self.domains.entry(domain.clone()).or_default();
            policies.insert(policy.clone(), Tally::default());
        }
        let policies = self.domains.get_mut(domain);
        let Some(tally) = policies.and_then(|policies| policies.get_mut(policy)) else {
            return;
        };
        tally.successes = tally.successes.saturating_add(successes);
        tally.failures = tally.failures.saturating_add(failures);
        for (failure, sessions) in details {
            if let Some(known) = tally.details.get_mut(failure) {
                *known = known.saturating_add(sessions);
                continue;
            }
            let more = weight_of_failure(failure);
            if tally.details.len() < TLSRPT_FAILURES_MAX && !full(self.weight, more) {
                self.weight += more;
                tally.details.insert(failure.clone(), sessions);
            }
        }
    }

    /// The report about `domain`; `None` if there is nothing to report. The same day gives the same
    /// id, so that a report that is sent again is known as the same.
    pub fn report(&self, domain: &Name, reporter: &Reporter<'_>) -> Option<Report> {
        let policies = self.domains.get(domain)?.iter().map(|(policy, tally)| {
            let details = tally
                .details
                .iter()
                .map(|(failure, sessions)| FailureDetail {
                    failure: failure.clone(),
                    sessions: *sessions,
                });
            PolicyReport {
                policy: policy.clone(),
                successes: tally.successes,
                failures: tally.failures,
                details: details.collect(),
            }
        });
        // An id that a mail can have in its Subject (RFC 8460 5.3), so without colons.
        let day: String = alloc::format!("{}", Utc(self.day));
        let day: String = day.chars().take(10).filter(|c| *c != '-').collect();
        Some(Report {
            organization: Some(reporter.organization.into()),
            contact: Some(reporter.contact.into()),
            id: alloc::format!("{day}.{domain}@{}", reporter.submitter),
            start: Some(self.day),
            end: Some(self.day.plus_s(DAY_S - 1)),
            policies: policies.collect(),
            omitted: 0,
        })
    }
}

// Bytes in memory, with what maps and allocations add, roughly.
const ENTRY_BYTES: usize = 64;

fn weight_of_domain(domain: &Name) -> usize {
    ENTRY_BYTES + domain.len()
}

fn weight_of_policy(policy: &AppliedPolicy) -> usize {
    let texts = policy
        .lines
        .iter()
        .chain(&policy.mx)
        .chain([&policy.domain]);
    let texts: usize = texts.map(|text| ENTRY_BYTES + text.len()).sum();
    ENTRY_BYTES + size_of::<(AppliedPolicy, Tally)>() + policy.kind.as_str().len() + texts
}

fn weight_of_failure(failure: &Failure) -> usize {
    let texts = [
        &failure.receiving_mx_hostname,
        &failure.receiving_mx_helo,
        &failure.additional_information,
        &failure.failure_reason_code,
    ];
    let texts: usize = texts
        .into_iter()
        .flatten()
        .map(|text| ENTRY_BYTES + text.len())
        .sum();
    ENTRY_BYTES + size_of::<(Failure, u64)>() + failure.result.as_str().len() + texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::tlsrpt::{PolicyType, ResultType};
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// 2027-01-15, a quarter past eight.
    const AT: Wall = Wall::from_unix(1_800_000_900);

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn policy(n: usize) -> AppliedPolicy {
        let mut policy = AppliedPolicy::new(PolicyType::Sts, &name("a.example"));
        policy.lines.push(alloc::format!("max_age: {n}"));
        policy
    }

    fn failure(n: usize) -> Failure {
        let mut failure = Failure::new(ResultType::CertificateExpired);
        failure.receiving_mx_hostname = Some(alloc::format!("mx{n}.example"));
        failure
    }

    fn report(day: &Collector, domain: &str) -> Option<Report> {
        let submitter = &name("mail.example.org");
        day.report(
            &name(domain),
            &Reporter {
                organization: "Example",
                contact: "a@example.org",
                submitter,
            },
        )
    }

    #[test]
    fn sums_of_a_day() {
        let mut day = Collector::new(AT);
        let (a, b) = (name("a.example"), name("b.example"));
        let mut add = |domain, n, failed: Option<usize>| {
            let failed = failed.map(failure);
            day.add(AT, domain, &policy(n), failed.as_ref()).unwrap();
        };
        add(&a, 1, None);
        add(&a, 1, Some(1));
        add(&a, 1, Some(2));
        add(&a, 1, Some(1));
        add(&a, 2, None);
        add(&b, 1, None);
        assert_eq!(day.domains().collect::<Vec<_>>(), [&a, &b]);
        let found = report(&day, "a.example").unwrap();
        assert_eq!(found.id, "20270115.a.example@mail.example.org");
        assert_eq!(found.start, Some(Wall::from_unix(1_799_971_200)));
        assert_eq!(found.end, Some(Wall::from_unix(1_799_971_200 + DAY_S - 1)));
        let sums: Vec<_> = found
            .policies
            .iter()
            .map(|p| (p.successes, p.failures))
            .collect();
        assert_eq!(sums, [(1, 3), (1, 0)]);
        let details: Vec<_> = found.policies[0]
            .details
            .iter()
            .map(|d| d.sessions)
            .collect();
        assert_eq!(details, [2, 1]);
        assert_eq!(report(&day, "b.example").unwrap().policies.len(), 1);
        assert_eq!(report(&day, "c.example"), None);
    }

    #[test]
    fn what_is_forgotten_takes_nothing() {
        let mut day = Collector::new(AT);
        let (a, b) = (name("a.example"), name("b.example"));
        day.add(AT, &b, &policy(1), Some(&failure(1))).unwrap();
        let before = day.weight;
        for n in 0..3 {
            day.add(AT, &a, &policy(n), Some(&failure(n))).unwrap();
            day.add(AT, &a, &policy(n), None).unwrap();
        }
        assert!(day.weight > before);
        day.forget(&a);
        day.forget(&a);
        assert_eq!(day.weight, before);
        assert_eq!(day.domains().collect::<Vec<_>>(), [&b]);
        assert!(day.has(&b) && !day.has(&a));
    }

    #[test]
    fn days_in_utc() {
        let mut day = Collector::new(AT);
        let start = day.day();
        let end = start.plus_s(DAY_S);
        assert_eq!(day_of(end.plus_s(-1)), start);
        let mut add = |at| day.add(at, &name("a.example"), &policy(1), None);
        assert_eq!(add(start), Ok(()));
        assert_eq!(add(end.plus_s(-1)), Ok(()));
        assert_eq!(
            (add(start.plus_s(-1)), add(end)),
            (Err(AnotherDay), Err(AnotherDay))
        );
        assert!(!day.is_over(end.plus_s(-1)) && day.is_over(end));
        let found = report(&day, "a.example").unwrap();
        assert_eq!(found.policies[0].successes, 2);
        let mut next = Collector::new(end);
        assert_eq!(next.add_report(&name("a.example"), &found), Err(AnotherDay));
        assert_eq!(next.domains().count(), 0);
        assert_eq!(day_of(Wall::from_unix(-1)), Wall::from_unix(-DAY_S));
        let _ = (
            day_of(Wall::from_unix(i64::MIN)),
            day_of(Wall::from_unix(i64::MAX)),
        );
    }

    #[test]
    fn everything_is_bounded() {
        let mut day = Collector::new(AT);
        let a = name("a.example");
        for n in 0..TLSRPT_FAILURES_MAX + 5 {
            day.add(AT, &a, &policy(0), Some(&failure(n))).unwrap();
        }
        let found = report(&day, "a.example").unwrap();
        assert_eq!(found.policies[0].details.len(), TLSRPT_FAILURES_MAX);
        assert_eq!(found.policies[0].failures, TLSRPT_FAILURES_MAX as u64 + 5);
        for n in 1..TLSRPT_POLICIES_MAX + 5 {
            day.add(AT, &a, &policy(n), None).unwrap();
        }
        assert_eq!(
            report(&day, "a.example").unwrap().policies.len(),
            TLSRPT_POLICIES_MAX
        );
        assert_eq!(day.unreported(), 5);
        // Large policies of many domains.
        let mut large = policy(0);
        large.lines =
            Vec::from([alloc::string::String::from_utf8([b'x'; 1 << 20].into()).unwrap()]);
        for n in 0..100 {
            day.add(AT, &name(&alloc::format!("{n}.example")), &large, None)
                .unwrap();
        }
        assert!(day.weight <= TLSRPT_COLLECTED_BYTES_MAX);
        let domains = day.domains().count();
        assert!((60..65).contains(&domains), "{domains}");
        assert_eq!(day.unreported(), 5 + 101 - domains as u64);
        // What is known goes on.
        day.add(AT, &name("0.example"), &large, None).unwrap();
        assert_eq!(report(&day, "0.example").unwrap().policies[0].successes, 2);
    }

    proptest! {
        #[test]
        fn stored_and_joined(
            sessions in proptest::collection::vec((0..3_usize, 0..3_usize, proptest::option::of(0..3_usize)), 0..40),
            cut in any::<prop::sample::Index>(),
        ) {
            let domain = |n: usize| name(["a.example", "b.example", "c.example"][n]);
            let collect = |sessions: &[(usize, usize, Option<usize>)]| {
                let mut day = Collector::new(AT);
                for (d, p, f) in sessions {
                    day.add(AT, &domain(*d), &policy(*p), f.map(failure).as_ref()).unwrap();
                }
                day
            };
            let whole = collect(&sessions);
            let (one, two) = sessions.split_at(cut.index(sessions.len() + 1));
            let mut joined = Collector::new(AT);
            for part in [collect(one), collect(two)] {
                for domain in part.domains() {
                    let stored = report(&part, domain).unwrap().to_json();
                    joined.add_report(domain, &Report::read(stored.as_bytes()).unwrap()).unwrap();
                }
            }
            prop_assert_eq!(joined.weight, whole.weight);
            for n in 0..3 {
                prop_assert_eq!(report(&joined, &domain(n)), report(&whole, &domain(n)));
            }
        }
    }
}
