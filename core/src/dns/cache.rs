//! Answers until they expire, bounded by number and bytes.
//!
//! A clock runs over the entries when room is needed: what has expired or was not used since the
//! hand last came by goes first (the "second chance" rule), so the cost of an insertion does not
//! grow with the cache.
//!
//! A name that does not exist has no records of any kind, so NXDOMAIN is kept for the name and
//! answers for every kind (RFC 2308 5); everything else is kept for name and kind.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::name::Name;
use super::query::{Answer, Kind, Outcome, Question};
use crate::time::Instant;

/// What an entry costs beside its records and names, bytes.
const ENTRY_BYTES: usize = 256;

type Key = (Name, Option<Kind>);

struct Entry {
    key: Key,
    answer: Arc<Answer>,
    bytes: usize,
    used: bool,
}

pub(super) struct Cache {
    slots: Vec<Option<Entry>>,
    free: Vec<usize>,
    index: BTreeMap<Key, usize>,
    bytes: usize,
    hand: usize,
    entries_max: usize,
    bytes_max: usize,
}

impl Cache {
    pub(super) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: BTreeMap::new(),
            bytes: 0,
            hand: 0,
            entries_max,
            bytes_max,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The answer to `question`, if one is there and still true.
    pub(super) fn get(&mut self, now: Instant, question: &Question) -> Option<Arc<Answer>> {
        let mut key = (question.name.clone(), Some(question.kind));
        let found = self.live(now, &key);
        if found.is_some() {
            return found;
        }
        key.1 = None;
        self.live(now, &key)
    }

    fn live(&mut self, now: Instant, key: &Key) -> Option<Arc<Answer>> {
        let slot = *self.index.get(key)?;
        let entry = self.slots.get_mut(slot)?.as_mut()?;
        if entry.answer.expires > now {
            entry.used = true;
            return Some(entry.answer.clone());
        }
        self.remove(slot);
        None
    }

    /// Keeps `answer` until it expires or room is needed.
    pub(super) fn insert(&mut self, now: Instant, question: &Question, answer: Arc<Answer>) {
        let records = match &answer.outcome {
            Outcome::Found(records) => records.weight(),
            _ => 0,
        };
        let bytes = ENTRY_BYTES + question.name.len() + answer.canonical.len() + records;
        // One giant answer must not push everything else out.
        if answer.expires <= now || self.entries_max == 0 || bytes > self.bytes_max / 8 {
            return;
        }
        let kind = match answer.outcome {
            Outcome::NoName => None,
            _ => Some(question.kind),
        };
        let key = (question.name.clone(), kind);
        if let Some(&slot) = self.index.get(&key) {
            self.remove(slot);
        }
        while self.index.len() >= self.entries_max || self.bytes + bytes > self.bytes_max {
            if !self.evict(now) {
                return;
            }
        }
        let entry = Entry {
            key: key.clone(),
            answer,
            bytes,
            used: false,
        };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(entry);
            self.index.insert(key, slot);
            self.bytes += bytes;
        }
    }

    /// Removes one entry; false if there is none.
    fn evict(&mut self, now: Instant) -> bool {
        // The first round takes every second chance, so the second finds something.
        for _ in 0..2 * self.slots.len() {
            let slot = self.hand;
            self.hand = if slot + 1 < self.slots.len() {
                slot + 1
            } else {
                0
            };
            if let Some(Some(entry)) = self.slots.get_mut(slot) {
                if entry.used && entry.answer.expires > now {
                    entry.used = false;
                } else {
                    self.remove(slot);
                    return true;
                }
            }
        }
        false
    }

    fn remove(&mut self, slot: usize) {
        if let Some(entry) = self.slots.get_mut(slot).and_then(Option::take) {
            self.index.remove(&entry.key);
            self.bytes -= entry.bytes;
            self.free.push(slot);
        }
    }

    pub(super) fn clear(&mut self) {
        let (entries_max, bytes_max) = (self.entries_max, self.bytes_max);
        *self = Self::new(entries_max, bytes_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::query::{Failure, Records};
    use alloc::format;
    use alloc::vec;
    use core::net::Ipv4Addr;
    use core::time::Duration;
    use proptest::prelude::*;

    fn answer(outcome: Outcome, expires: Instant) -> Arc<Answer> {
        Arc::new(Answer {
            outcome,
            canonical: Name::parse("x.example").unwrap(),
            secure: false,
            expires,
        })
    }
    fn a(n: usize) -> Outcome {
        Outcome::Found(Records::A(vec![Ipv4Addr::LOCALHOST; n].into()))
    }
    fn question(n: u32, kind: Kind) -> Question {
        Question::new(Name::parse(&format!("n{n}.example")).unwrap(), kind)
    }
    fn at(s: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(s)
    }

    #[test]
    fn expires_and_tells_kinds_apart() {
        let mut cache = Cache::new(10, 100_000);
        cache.insert(at(0), &question(1, Kind::A), answer(a(1), at(10)));
        cache.insert(
            at(0),
            &question(2, Kind::A),
            answer(Outcome::NoName, at(10)),
        );
        cache.insert(
            at(0),
            &question(3, Kind::A),
            answer(Outcome::NoData, at(10)),
        );
        cache.insert(
            at(0),
            &question(4, Kind::A),
            answer(Outcome::Failed(Failure::Timeout), at(10)),
        );
        assert!(cache.get(at(9), &question(1, Kind::A)).is_some());
        assert!(cache.get(at(9), &question(1, Kind::Mx)).is_none());
        assert!(cache.get(at(9), &question(2, Kind::Mx)).is_some());
        assert!(cache.get(at(9), &question(3, Kind::Mx)).is_none());
        assert!(cache.get(at(9), &question(4, Kind::Mx)).is_none());
        assert_eq!(cache.len(), 4);
        for n in 1..=4 {
            assert!(cache.get(at(10), &question(n, Kind::A)).is_none());
        }
        assert_eq!((cache.len(), cache.bytes()), (0, 0));
    }

    #[test]
    fn what_is_used_stays() {
        let mut cache = Cache::new(10, 100_000);
        for n in 0..100 {
            cache.insert(at(0), &question(n, Kind::A), answer(a(1), at(100)));
            assert!(cache.get(at(1), &question(0, Kind::A)).is_some(), "{n}");
        }
        assert_eq!(cache.len(), 10);
    }

    #[test]
    fn a_giant_answer_is_not_kept() {
        let mut cache = Cache::new(10, 8_000);
        cache.insert(at(0), &question(1, Kind::A), answer(a(1), at(100)));
        cache.insert(at(0), &question(2, Kind::A), answer(a(1000), at(100)));
        assert!(cache.get(at(0), &question(1, Kind::A)).is_some());
        assert!(cache.get(at(0), &question(2, Kind::A)).is_none());
    }

    proptest! {
        #[test]
        fn bounds_hold(steps in proptest::collection::vec((0u32..40, 0usize..40, 1u64..50, any::<bool>()), 0..300)) {
            let mut cache = Cache::new(12, 5_000);
            for (s, (n, size, ttl, nx)) in steps.into_iter().enumerate() {
                let now = at(s as u64);
                let outcome = if nx { Outcome::NoName } else { a(size) };
                let question = question(n, Kind::A);
                cache.insert(now, &question, answer(outcome, now + Duration::from_secs(ttl)));
                prop_assert!(cache.len() <= 12 && cache.bytes() <= 5_000);
                prop_assert!(cache.get(now, &question).is_some());
                let held: usize = cache.slots.iter().flatten().map(|e| e.bytes).sum();
                prop_assert_eq!(held, cache.bytes());
                prop_assert_eq!(cache.slots.iter().flatten().count(), cache.len());
            }
        }
    }
}
