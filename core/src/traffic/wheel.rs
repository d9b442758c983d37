//! A hierarchical timer wheel over the records of a slab: a million timers cost their own links
//! and nothing more, and setting, cancelling or firing one is a few steps whatever their number.
//!
//! Use: [`Wheel::insert`] a record that says when it is due ([`Timed`]), [`Wheel::cancel`] it or
//! let [`Wheel::advance`] hand it out; [`Wheel::next`] says when to call again.
//!
//! Eight levels of 64 slots (Varghese and Lauck 1987, scheme 7). A tick is 2^20 ns; level `n` has
//! slots of 64^n ticks. A timer lies on the level of the highest digit in which its tick differs
//! from the present one, so each timer moves down at most seven times before it fires. No timer
//! fires before it is due, nor more than one tick late.

use super::slab::{Linked, List, Slab};
use crate::time::Instant;
use alloc::boxed::Box;

const LEVELS: usize = 8;
const SLOTS: usize = 64;
/// Nanoseconds of a tick, as a power of two: 1.05 ms.
const TICK_BITS: u32 = 20;
/// The list of those that were due when they came.
const DUE: u32 = (LEVELS * SLOTS) as u32;

/// A record that can wait on a wheel through its link number `N`.
pub trait Timed<const N: usize>: Linked<N> {
    /// When to fire; must not change while it waits.
    fn due(&self) -> Instant;
    /// Where on the wheel it is: the wheel's own note.
    fn place(&mut self) -> &mut u32;
}

/// See the module's docs.
#[derive(Debug)]
pub struct Wheel<const N: usize> {
    slots: Box<[List<N>]>,
    occupied: [u64; LEVELS],
    /// The present tick.
    tick: u64,
    /// The slot that is being emptied since the present tick began.
    current: u32,
}

impl<const N: usize> Default for Wheel<N> {
    fn default() -> Self {
        Self {
            slots: (0..=DUE).map(|_| List::default()).collect(),
            occupied: [0; LEVELS],
            tick: 0,
            current: DUE,
        }
    }
}

impl<const N: usize> Wheel<N> {
    /// Lets a record wait until it is due.
    pub fn insert<T: Timed<N>>(&mut self, slab: &mut Slab<T>, id: u32) {
        let slot = self.slot(tick_up(slab[id].due()));
        *slab[id].place() = slot;
        self.slots[slot as usize].push_back(slab, id);
        if slot != DUE {
            self.occupied[slot as usize / SLOTS] |= 1 << (slot as usize % SLOTS);
        }
    }

    /// Takes a waiting record off.
    pub fn cancel<T: Timed<N>>(&mut self, slab: &mut Slab<T>, id: u32) {
        let slot = *slab[id].place();
        let list = &mut self.slots[slot as usize];
        list.unlink(slab, id);
        if list.is_empty() && slot != DUE {
            self.occupied[slot as usize / SLOTS] &= !(1 << (slot as usize % SLOTS));
        }
    }

    /// The next record that is due, taken off. `None` when there is none, or when `budget` steps
    /// were made without finding one; then [`Wheel::next`] says "now".
    pub fn advance<T: Timed<N>>(
        &mut self,
        slab: &mut Slab<T>,
        now: Instant,
        budget: &mut u32,
    ) -> Option<u32> {
        let target = now.as_nanos() >> TICK_BITS;
        loop {
            while let Some(id) = self.slots[self.current as usize].front() {
                *budget = budget.checked_sub(1)?;
                self.slots[self.current as usize].unlink(slab, id);
                if self.current == DUE || (self.current as usize) < SLOTS {
                    return Some(id);
                }
                self.insert(slab, id);
            }
            if self.current != DUE {
                self.current = DUE;
                continue;
            }
            match self.first() {
                Some((slot, tick)) if tick <= target => {
                    self.tick = tick;
                    self.current = slot;
                    self.occupied[slot as usize / SLOTS] &= !(1 << (slot as usize % SLOTS));
                }
                _ => {
                    self.tick = self.tick.max(target);
                    return None;
                }
            }
        }
    }

    /// When [`Wheel::advance`] will have something to do; [`Instant::ZERO`] is: at once.
    pub fn next(&self) -> Option<Instant> {
        if !self.slots[self.current as usize].is_empty() || !self.slots[DUE as usize].is_empty() {
            return Some(Instant::ZERO);
        }
        self.first()
            .map(|(_, tick)| Instant::from_nanos(tick.saturating_mul(1 << TICK_BITS)))
    }

    /// The earliest slot with something in it, and its first tick. All slots of a level lie after
    /// the present tick and before those of the level above.
    fn first(&self) -> Option<(u32, u64)> {
        let level = self.occupied.iter().position(|o| *o != 0)?;
        let digit = self.occupied[level].trailing_zeros();
        let shift = level as u32 * 6;
        let above = self.tick >> (shift + 6) << (shift + 6);
        let slot = level as u32 * SLOTS as u32 + digit;
        Some((slot, above | (u64::from(digit) << shift)))
    }

    fn slot(&self, tick: u64) -> u32 {
        if tick <= self.tick {
            return DUE;
        }
        let level = (63 - (tick ^ self.tick).leading_zeros()) / 6;
        let digit = (tick >> (level * 6)) as u32 & (SLOTS as u32 - 1);
        level * SLOTS as u32 + digit
    }
}

/// The first tick that does not begin before `due`.
const fn tick_up(due: Instant) -> u64 {
    let ns = due.as_nanos();
    (ns >> TICK_BITS) + (ns & ((1 << TICK_BITS) - 1) != 0) as u64
}

#[cfg(test)]
mod tests {
    use super::super::slab::{Link, NIL};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    struct Timer {
        due: Instant,
        place: u32,
        link: Link,
    }
    impl Linked<0> for Timer {
        fn link(&mut self) -> &mut Link {
            &mut self.link
        }
        fn link_ref(&self) -> &Link {
            &self.link
        }
    }
    impl Timed<0> for Timer {
        fn due(&self) -> Instant {
            self.due
        }
        fn place(&mut self) -> &mut u32 {
            &mut self.place
        }
    }
    fn add(slab: &mut Slab<Timer>, wheel: &mut Wheel<0>, due: u64) -> u32 {
        let id = slab
            .insert(Timer {
                due: Instant::from_nanos(due),
                place: NIL,
                link: Link::default(),
            })
            .unwrap();
        wheel.insert(slab, id);
        id
    }

    #[test]
    fn far_away_and_now() {
        let (mut slab, mut wheel) = (Slab::default(), Wheel::default());
        let far = add(&mut slab, &mut wheel, u64::MAX);
        let now = add(&mut slab, &mut wheel, 0);
        let mut budget = 100;
        assert_eq!(wheel.next(), Some(Instant::ZERO));
        assert_eq!(
            wheel.advance(&mut slab, Instant::ZERO, &mut budget),
            Some(now)
        );
        assert_eq!(wheel.advance(&mut slab, Instant::ZERO, &mut budget), None);
        assert!(wheel.next() > Some(Instant::ZERO));
        let end = Instant::from_nanos(u64::MAX);
        while wheel.next().is_some_and(|t| t < end) {
            assert_eq!(
                wheel.advance(&mut slab, wheel.next().unwrap(), &mut budget),
                None
            );
        }
        wheel.cancel(&mut slab, far);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_budget_bounds_one_call() {
        let (mut slab, mut wheel) = (Slab::default(), Wheel::default());
        for _ in 0..1000 {
            add(&mut slab, &mut wheel, 1 << 40);
        }
        let now = Instant::from_nanos(1 << 40);
        let (mut calls, mut fired) = (0, 0);
        while wheel.next().is_some_and(|t| t <= now) {
            let mut budget = 10;
            calls += 1;
            while wheel.advance(&mut slab, now, &mut budget).is_some() {
                fired += 1;
            }
        }
        assert_eq!(fired, 1000);
        assert!(calls > 100, "{calls}");
    }

    proptest! {
        #[test]
        fn fires_like_a_sorted_set(
            ops in proptest::collection::vec((0u8..4, 0u32..48, any::<u64>()), 1..300),
        ) {
            let (mut slab, mut wheel) = (Slab::default(), Wheel::<0>::default());
            let mut model: BTreeSet<(u64, u32)> = BTreeSet::new();
            let mut now = 0u64;
            for (op, bits, n) in ops {
                let n = n & ((1 << bits) - 1);
                match op {
                    0 | 1 => {
                        let due = (now + n).saturating_sub(1000);
                        let id = add(&mut slab, &mut wheel, due);
                        model.insert((due, id));
                    }
                    2 => {
                        let some = model.iter().nth(n as usize % model.len().max(1)).copied();
                        if let Some((due, id)) = some {
                            wheel.cancel(&mut slab, id);
                            slab.remove(id);
                            model.remove(&(due, id));
                        }
                    }
                    _ => {
                        now += n;
                        let told = wheel.next();
                        let mut fired = Vec::new();
                        let mut budget = u32::MAX;
                        while let Some(id) = wheel.advance(&mut slab, Instant::from_nanos(now), &mut budget) {
                            let due = slab.remove(id).unwrap().due.as_nanos();
                            prop_assert!(due <= now, "fired early");
                            prop_assert!(model.remove(&(due, id)));
                            fired.push(tick_up(Instant::from_nanos(due)));
                        }
                        if !fired.is_empty() {
                            prop_assert!(told.is_some_and(|t| t.as_nanos() <= now));
                        }
                        let tick = 1u64 << TICK_BITS;
                        prop_assert!(model.iter().all(|(due, _)| due + tick > now), "late");
                        prop_assert!(wheel.next().is_none_or(|t| t.as_nanos() > now));
                    }
                }
                prop_assert_eq!(wheel.next().is_some(), !model.is_empty());
            }
        }
    }
}
