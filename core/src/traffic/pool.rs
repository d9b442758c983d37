//! Which source of a weighted pool takes a delivery.
//!
//! A [`Pool`] is the configured set; a [`Chooser`] is where one site stands in it. Each site has
//! its own, since one turn for all sites falls into step with the order of a mailing list: of two
//! sources, one would get all of one receiver's mail.
//!
//! The choice is smooth weighted round robin: each source earns its weight per delivery, the
//! richest is taken and pays what all earned. Over any run of deliveries, each source's part is
//! within one of its share, and no source comes twice in a row needlessly. Where a site begins in
//! the cycle is a hash, so that a thousand sites with one delivery each are shared out too.
//! Recipients of one message stay together for [`SAME_SOURCE_RUN`] deliveries, so that they can
//! share a transaction; the others catch up afterwards.
//!
//! A delivery that is tried again keeps its source (greylisting remembers the address), unless it
//! is told to avoid it or the source is gone; see [`Pool::usable`].

use super::ids::{SourceId, mix};
use crate::limits::SAME_SOURCE_RUN;
use alloc::vec::Vec;

/// A source in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub source: SourceId,
    /// Its part, relative to the others'. 0 takes nothing new, but what is tried again.
    pub weight: u32,
    /// Whether it may take anything at all.
    pub usable: bool,
}

/// A weighted set of sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    members: Vec<Member>,
    /// Counts changes, so that choosers notice.
    version: u32,
}

/// Where one site stands in a pool.
#[derive(Clone, Debug, Default)]
pub struct Chooser {
    version: u32,
    credit: Vec<i64>,
    run: Option<Run>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    message: u32,
    member: u32,
    left: u32,
}

impl Pool {
    /// A pool of these.
    pub fn new(members: impl IntoIterator<Item = Member>) -> Self {
        let mut pool = Self::default();
        pool.set(members);
        pool
    }

    /// Replaces the members.
    pub fn set(&mut self, members: impl IntoIterator<Item = Member>) {
        self.members = members.into_iter().collect();
        self.version = self.version.wrapping_add(1);
    }

    /// The members.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Whether a delivery that went over this source may go over it again.
    pub fn usable(&self, source: SourceId) -> bool {
        self.members.iter().any(|m| m.usable && m.source == source)
    }

    /// Whether there is any source to take.
    pub fn is_usable(&self) -> bool {
        self.members.iter().any(|m| m.usable && m.weight > 0)
    }

    /// The source for a new delivery of `message`, another than `avoid` where there is one.
    /// `None` when no source may be used. `seed` tells where the cycle of a new chooser begins.
    pub fn choose(
        &self,
        chooser: &mut Chooser,
        message: u32,
        avoid: Option<SourceId>,
        seed: u64,
    ) -> Option<SourceId> {
        if chooser.version != self.version || chooser.credit.len() != self.members.len() {
            chooser.version = self.version;
            chooser.run = None;
            self.begin(&mut chooser.credit, mix(seed ^ u64::from(message)));
        }
        let may = |m: &Member| m.usable && m.weight > 0;
        let others = self
            .members
            .iter()
            .any(|m| may(m) && Some(m.source) != avoid);
        let may = |m: &Member| may(m) && !(others && Some(m.source) == avoid);

        let mut total = 0i64;
        for (m, credit) in self.members.iter().zip(&mut chooser.credit) {
            if m.usable && m.weight > 0 {
                *credit = credit.saturating_add(i64::from(m.weight));
                total += i64::from(m.weight);
            }
        }
        let same = chooser
            .run
            .filter(|run| run.message == message && run.left > 0)
            .map(|run| run.member as usize)
            .filter(|i| self.members.get(*i).is_some_and(may));
        let i = same.or_else(|| {
            let richest = |(_, credit): &(usize, i64)| *credit;
            (0..self.members.len())
                .filter(|i| may(&self.members[*i]))
                .map(|i| (i, chooser.credit[i]))
                // The first of equals.
                .rev()
                .max_by_key(richest)
                .map(|(i, _)| i)
        })?;
        chooser.credit[i] = chooser.credit[i].saturating_sub(total);
        let left = match chooser.run {
            Some(run) if same.is_some() => run.left - 1,
            _ => SAME_SOURCE_RUN - 1,
        };
        chooser.run = Some(Run {
            message,
            member: i as u32,
            left,
        });
        Some(self.members[i].source)
    }

    /// Credits such that the first choice falls on each source with its share's probability.
    fn begin(&self, credit: &mut Vec<i64>, seed: u64) {
        credit.clear();
        credit.resize(self.members.len(), 0);
        let weight = |m: &Member| if m.usable { u64::from(m.weight) } else { 0 };
        let total: u64 = self.members.iter().map(weight).sum();
        if total == 0 {
            return;
        }
        let mut at = seed % total;
        for (m, credit) in self.members.iter().zip(credit) {
            let weight = weight(m);
            if at < weight {
                *credit = i64::try_from(total).unwrap_or(i64::MAX);
                return;
            }
            at -= weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    fn pool(weights: &[u32]) -> Pool {
        Pool::new(weights.iter().enumerate().map(|(i, w)| Member {
            source: SourceId(i as u16),
            weight: *w,
            usable: true,
        }))
    }

    #[test]
    fn smooth() {
        let pool = pool(&[5, 1, 1]);
        let mut chooser = Chooser::default();
        let order: Vec<_> = (0..21)
            .map(|m| pool.choose(&mut chooser, m, None, 0).unwrap().0)
            .collect();
        assert_eq!(order[7..14], order[14..]);
        let twice = |w: &[u16]| w[0] == w[1] && w[0] != 0;
        assert!(!order.windows(2).any(twice), "{order:?}");
    }

    #[test]
    fn one_message_keeps_its_source_for_a_transaction() {
        let pool = pool(&[1, 1]);
        let mut chooser = Chooser::default();
        let order: Vec<_> = (0..1000)
            .map(|_| pool.choose(&mut chooser, 7, None, 0).unwrap())
            .collect();
        for run in order.chunks(SAME_SOURCE_RUN as usize) {
            assert!(run.iter().all(|s| s == &run[0]));
        }
        assert_eq!(order.iter().filter(|s| **s == order[0]).count(), 500);
    }

    #[test]
    fn avoids_if_it_can() {
        let mut two = pool(&[1, 1]);
        let mut chooser = Chooser::default();
        for m in 0..10 {
            let s = two.choose(&mut chooser, m, Some(SourceId(0)), 0);
            assert_eq!(s, Some(SourceId(1)));
        }
        let left = |usable: [bool; 2]| {
            two.members()
                .iter()
                .zip(usable)
                .map(|(m, usable)| Member { usable, ..*m })
                .collect::<Vec<_>>()
        };
        let (one, none) = (left([true, false]), left([false, false]));
        two.set(one);
        assert_eq!(
            two.choose(&mut chooser, 11, Some(SourceId(0)), 0),
            Some(SourceId(0))
        );
        two.set(none);
        assert_eq!(two.choose(&mut chooser, 12, None, 0), None);
        assert!(!two.usable(SourceId(0)) && !two.is_usable());
    }

    #[test]
    fn many_sites_with_one_delivery_each_are_shared_out() {
        let pool = pool(&[3, 1]);
        let first = (0..4000u64)
            .filter(|site| {
                let mut c = Chooser::default();
                pool.choose(&mut c, 1, None, *site) == Some(SourceId(0))
            })
            .count();
        assert!((2850..3150).contains(&first), "{first}");
    }

    proptest! {
        #[test]
        fn each_gets_its_share(weights in proptest::collection::vec(1u32..20, 1..6), seed: u64) {
            let pool = pool(&weights);
            let total: u32 = weights.iter().sum();
            let mut chooser = Chooser::default();
            let mut got = vec![0i64; weights.len()];
            for n in 1..=i64::from(total) * 5 {
                let s = pool.choose(&mut chooser, n as u32, None, seed).unwrap();
                got[usize::from(s.0)] += 1;
                for (g, w) in got.iter().zip(&weights) {
                    let off = g * i64::from(total) - n * i64::from(*w);
                    prop_assert!(off.abs() <= 2 * i64::from(total) * 2, "{got:?} of {weights:?}");
                }
            }
        }
    }
}
