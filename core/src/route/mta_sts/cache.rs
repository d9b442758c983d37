//! What is known of all domains, within bounds.
//!
//! A policy in force has to be kept for as long as it holds: who could make us forget it could send
//! mail where he likes. So where there is no room ([`MTA_STS_DOMAINS_MAX`],
//! [`MTA_STS_CACHE_BYTES_MAX`]) what is [spent](Known::is_spent) goes first, then fetches that failed
//! where there is no policy, and then the policies that were used the longest ago.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::known::{Cached, Decision, FetchFault, Known};
use super::policy::Policy;
use super::record::PolicyId;
use crate::dns::{Name, Outcome};
use crate::limits::{MTA_STS_CACHE_BYTES_MAX, MTA_STS_DOMAINS_MAX};
use crate::time::Wall;

/// Bytes of a domain besides its name and its policy's patterns, roughly.
const DOMAIN_BYTES: usize = 256;
/// Bytes of a pattern besides its text, roughly.
const PATTERN_BYTES: usize = 32;

/// Nothing is known.
static NOTHING: Known = Known {
    cached: None,
    failure: None,
};

#[derive(Clone, Debug)]
struct Entry {
    known: Known,
    /// When mail last asked for it.
    used: Wall,
}

/// What is known of all domains. Whoever stores policies elsewhere too forgets there what this says
/// is forgotten.
#[derive(Clone, Debug)]
pub struct Cache {
    domains: BTreeMap<Name, Entry>,
    weight: usize,
    domains_max: usize,
    bytes_max: usize,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            domains: BTreeMap::new(),
            weight: 0,
            domains_max: MTA_STS_DOMAINS_MAX,
            bytes_max: MTA_STS_CACHE_BYTES_MAX,
        }
    }
}

impl Cache {
    /// Takes in a policy that was stored, and gives what is forgotten for it. One that no longer holds
    /// is among that.
    pub fn restore(&mut self, domain: Name, cached: Cached, now: Wall) -> Vec<Name> {
        let used = cached.fetched;
        self.change(domain, now, |entry| {
            entry.known.cached = Some(cached);
            entry.used = used;
        })
    }

    /// What to do about mail for a domain, by what came of its TXT question ([`Known::decide`]).
    pub fn decide(&mut self, domain: &Name, dns: &Outcome, now: Wall) -> Decision<'_> {
        match self.domains.get_mut(domain) {
            None => NOTHING.decide(dns, now),
            Some(entry) => {
                entry.used = now;
                entry.known.decide(dns, now)
            }
        }
    }

    /// What is known of a domain.
    pub fn known(&self, domain: &Name) -> &Known {
        self.domains
            .get(domain)
            .map_or(&NOTHING, |entry| &entry.known)
    }

    /// A policy was fetched ([`Known::fetched`]). Gives the domains that are forgotten for it.
    pub fn fetched(
        &mut self,
        domain: &Name,
        policy: Policy,
        id: Option<PolicyId>,
        now: Wall,
    ) -> Vec<Name> {
        self.change(domain.clone(), now, |e| e.known.fetched(policy, id, now))
    }

    /// A fetch failed ([`Known::failed`]). Gives the domains that are forgotten for it.
    pub fn failed(
        &mut self,
        domain: &Name,
        id: Option<PolicyId>,
        fault: Arc<FetchFault>,
        now: Wall,
    ) -> Vec<Name> {
        self.change(domain.clone(), now, |entry| {
            entry.known.failed(id, fault, now)
        })
    }

    /// Domains whose policy is to be fetched again now ([`Known::due`]), the one that expires first
    /// before the others.
    pub fn due(&self, now: Wall) -> Vec<Name> {
        let mut due: Vec<(Wall, &Name)> = Vec::new();
        for (domain, entry) in &self.domains {
            if entry.known.due(now).is_some_and(|at| at <= now)
                && let Some(cached) = &entry.known.cached
            {
                due.push((cached.expires(), domain));
            }
        }
        due.sort_unstable();
        due.into_iter().map(|(_, domain)| domain.clone()).collect()
    }

    /// Forgets what is spent, and gives it.
    pub fn forget_spent(&mut self, now: Wall) -> Vec<(Name, Known)> {
        let spent =
            |(domain, entry): (&Name, &Entry)| entry.known.is_spent(now).then(|| domain.clone());
        let spent: Vec<Name> = self.domains.iter().filter_map(spent).collect();
        let gone = spent.into_iter().filter_map(|domain| {
            let known = self.forget(&domain)?;
            Some((domain, known))
        });
        gone.collect()
    }

    /// How many domains something is known of.
    pub fn len(&self) -> usize {
        self.domains.len()
    }

    /// Whether nothing is known of any.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    fn change(&mut self, domain: Name, now: Wall, change: impl FnOnce(&mut Entry)) -> Vec<Name> {
        let entry = self.domains.entry(domain.clone()).or_insert_with(|| {
            self.weight += DOMAIN_BYTES + domain.len();
            Entry {
                known: Known::default(),
                used: now,
            }
        });
        let before = weight_of(&entry.known);
        change(entry);
        self.weight = self.weight - before + weight_of(&entry.known);
        self.make_room(&domain, now)
    }

    fn forget(&mut self, domain: &Name) -> Option<Known> {
        let known = self.domains.remove(domain)?.known;
        let gone = DOMAIN_BYTES + domain.len() + weight_of(&known);
        self.weight = self.weight.saturating_sub(gone);
        Some(known)
    }

    /// Forgets more than is needed, so that it isn't gone through all for each domain.
    fn make_room(&mut self, newest: &Name, now: Wall) -> Vec<Name> {
        let over = |this: &Self, domains_max, bytes_max| {
            this.domains.len() > domains_max || this.weight > bytes_max
        };
        if !over(self, self.domains_max, self.bytes_max) {
            return Vec::new();
        }
        let spent = self.forget_spent(now).into_iter();
        let mut forgotten: Vec<Name> = spent.map(|(domain, _)| domain).collect();
        let (domains_max, bytes_max) = (
            self.domains_max - self.domains_max / 16,
            self.bytes_max - self.bytes_max / 16,
        );
        if over(self, domains_max, bytes_max) {
            let mut all: Vec<(bool, Wall, Name)> = self
                .domains
                .iter()
                .filter(|(domain, _)| *domain != newest)
                .map(|(d, e)| (e.known.in_force(now).is_some(), e.used, d.clone()))
                .collect();
            all.sort_unstable();
            for (.., domain) in all {
                if !over(self, domains_max, bytes_max) {
                    break;
                }
                self.forget(&domain);
                forgotten.push(domain);
            }
        }
        forgotten
    }
}

fn weight_of(known: &Known) -> usize {
    let patterns = known.cached.iter().flat_map(|cached| &cached.policy.mx);
    patterns.map(|mx| PATTERN_BYTES + mx.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Records;
    use alloc::string::String;
    use proptest::prelude::*;

    fn name(n: usize) -> Name {
        Name::parse(&alloc::format!("d{n}.example")).unwrap()
    }

    fn fault() -> Arc<FetchFault> {
        Arc::new(FetchFault {
            result: crate::route::tlsrpt::ResultType::StsPolicyFetchError,
            text: "it answers 404".into(),
        })
    }

    fn policy(patterns: usize) -> Policy {
        let mut text = String::from("version: STSv1\nmode: enforce\nmax_age: 86400\n");
        for i in 0..patterns {
            text.push_str(&alloc::format!("mx: mx{i}.example\n"));
        }
        Policy::parse(text.as_bytes()).unwrap()
    }

    fn at(s: i64) -> Wall {
        Wall::from_unix(1_800_000_000 + s)
    }

    fn cache(domains_max: usize) -> Cache {
        Cache {
            domains_max,
            ..Cache::default()
        }
    }

    fn dns() -> Outcome {
        Outcome::Found(Records::Txt([b"v=STSv1; id=a".as_slice().into()].into()))
    }

    fn used(cache: &mut Cache, n: usize, now: Wall) -> bool {
        matches!(
            cache.decide(&name(n), &Outcome::NoName, now),
            Decision::Use { .. }
        )
    }

    #[test]
    fn who_is_forgotten() {
        let mut cache = cache(4);
        let id = PolicyId::parse("a");
        for n in 0..3 {
            assert!(
                cache
                    .fetched(&name(n), policy(1), id.clone(), at(n as i64))
                    .is_empty()
            );
        }
        assert!(used(&mut cache, 0, at(10)));
        assert!(
            cache
                .failed(&name(3), id.clone(), fault(), at(20))
                .is_empty()
        );
        // One that failed goes before a policy in force.
        assert_eq!(
            cache.fetched(&name(4), policy(1), id.clone(), at(21)),
            [name(3)]
        );
        // Then the one that was used the longest ago.
        assert_eq!(
            cache.fetched(&name(5), policy(1), id.clone(), at(22)),
            [name(1)]
        );
        // The newest stays, whatever it is.
        assert_eq!(
            cache.failed(&name(6), id.clone(), fault(), at(23)),
            [name(2)]
        );
        assert_eq!(cache.decide(&name(6), &dns(), at(24)), Decision::Without);
        // Spent ones go before all, and all of them.
        assert_eq!(cache.fetched(&name(7), policy(1), id, at(5000)), [name(6)]);
        assert!(used(&mut cache, 0, at(5000)));
        let end = at(86_400 + 10);
        let spent = cache.forget_spent(end);
        assert_eq!(spent.len(), 1);
        assert!(spent[0].0 == name(0) && spent[0].1.cached.is_some());
        assert_eq!(cache.len(), 3);
    }

    #[test]
    fn what_was_stored() {
        let mut cache = cache(4);
        let cached = |fetched| Cached {
            policy: policy(1).into(),
            id: None,
            fetched,
        };
        for n in 0..2 {
            cache.restore(name(n), cached(at(-43_200 - n as i64)), at(0));
        }
        cache.restore(name(2), cached(at(-90_000)), at(0));
        cache.restore(name(3), cached(at(-10)), at(0));
        assert_eq!(cache.due(at(0)), [name(1), name(0)]);
        let spent: Vec<Name> = cache.forget_spent(at(0)).into_iter().map(|s| s.0).collect();
        assert_eq!(spent, [name(2)]);
        // It fails, and is due when it may be tried again.
        cache.failed(&name(1), None, fault(), at(0));
        assert_eq!(cache.due(at(299)), [name(0)]);
        assert_eq!(cache.due(at(300)), [name(1), name(0)]);
        cache.fetched(&name(0), policy(2), None, at(300));
        assert_eq!(cache.due(at(300)), [name(1)]);
        assert_eq!(
            cache
                .known(&name(0))
                .cached
                .as_ref()
                .unwrap()
                .policy
                .mx
                .len(),
            2
        );
        assert_eq!(cache.known(&name(9)), &Known::default());
    }

    #[test]
    fn bounds() {
        let mut cache = Cache {
            bytes_max: 20_000,
            ..Cache::default()
        };
        let mut forgotten = 0;
        for n in 0..100 {
            forgotten += cache
                .fetched(&name(n), policy(100), None, at(n as i64))
                .len();
            assert!(cache.weight <= 20_000, "{}", cache.weight);
        }
        assert!(!cache.is_empty() && cache.len() + forgotten == 100);
        // One policy that is larger than all that there is room for stays alone.
        cache.bytes_max = 100;
        cache.fetched(&name(100), policy(100), None, at(100));
        assert_eq!(cache.len(), 1);
        assert!(used(&mut cache, 100, at(100)));
    }

    proptest! {
        #[test]
        fn what_it_weighs_is_known(
            steps in proptest::collection::vec((0..12_usize, 0..4_usize, 0..5_usize), 1..80),
        ) {
            let mut cache = cache(8);
            let mut now = at(0);
            for (n, what, patterns) in steps {
                now = now.plus_s(7200);
                match what {
                    0 => drop(cache.failed(&name(n), None, fault(), now)),
                    1 => drop(cache.forget_spent(now)),
                    2 => drop(used(&mut cache, n, now)),
                    _ => drop(cache.fetched(&name(n), policy(patterns.max(1)), None, now)),
                }
                let all = cache.domains.iter();
                let weight: usize = all.map(|(d, e)| DOMAIN_BYTES + d.len() + weight_of(&e.known)).sum();
                prop_assert_eq!(cache.weight, weight);
                prop_assert!(cache.len() <= 8);
            }
        }
    }
}
