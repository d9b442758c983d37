//! When to try again.
//!
//! Use: make a [`Schedule`] per stream (the default suits most), and after each attempt that
//! failed for now ask [`Schedule::next`] how long to wait; `None` is: its life is over.
//!
//! Waits double from 5 minutes to 4 hours, and life is 5 days, as RFC 5321 4.5.4.1 advises ("at
//! least 30 minutes" after some quick ones, give up after "at least 4-5 days"). Each wait is
//! moved by up to the jitter in either direction, by a hash of message, attempt and seed: all
//! recipients of one message that failed together are tried together again, so that they can share
//! a transaction, but two messages are not.

use super::ids::mix;
use crate::limits::RETRY_WAIT_S_MIN;
use crate::time::Duration;
use alloc::vec::Vec;

/// The waits between attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waits {
    /// Each longer than the last by a factor.
    Growing {
        /// After the first attempt.
        first: Duration,
        /// Each to the one before it, percent: 200 doubles. Less than 100 counts as 100.
        factor_percent: u32,
        /// The longest.
        max: Duration,
    },
    /// These, then the last one again and again. None is: no second attempt.
    List(Vec<Duration>),
}

/// When to try again, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Between attempts.
    pub waits: Waits,
    /// By how much a wait is moved in either direction, percent of it, at most 100.
    pub jitter_percent: u8,
    /// From the acceptance of a message to the end of its last attempt.
    pub life: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            waits: Waits::Growing {
                first: Duration::from_secs(300),
                factor_percent: 200,
                max: Duration::from_secs(4 * 3600),
            },
            jitter_percent: 10,
            life: Duration::from_secs(5 * 86_400),
        }
    }
}

/// An attempt that failed for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Attempts so far, this one included.
    pub number: u32,
    /// Since the message was accepted.
    pub age: Duration,
    /// The message.
    pub message: u64,
    /// What the receiver asked for, if it did: no attempt earlier than that.
    pub retry_after: Option<Duration>,
}

impl Schedule {
    /// How long to wait before the next attempt; `None` when its life will be over by then.
    ///
    /// A receiver's wish is followed even beyond the longest wait, but not beyond the life of the
    /// message: then the schedule's own wait counts.
    pub fn next(&self, attempt: &Attempt, seed: u64) -> Option<Duration> {
        let own = self.wait(attempt.number)?;
        let left = self.life.checked_sub(attempt.age)?;
        let own = self.jittered(own, attempt, seed);
        let asked = attempt.retry_after.map(|hint| {
            // Everybody was told the same: later by chance, but never earlier.
            hint.saturating_add(self.spread(hint, attempt, seed))
        });
        [asked.map(|asked| asked.max(own)), Some(own)]
            .into_iter()
            .flatten()
            .find(|wait| *wait <= left)
    }

    /// The wait after attempt `number` (1 is the first), without jitter.
    pub fn wait(&self, number: u32) -> Option<Duration> {
        let wait = match &self.waits {
            Waits::List(list) => *list
                .get(number.max(1) as usize - 1)
                .or_else(|| list.last())?,
            Waits::Growing {
                first,
                factor_percent,
                max,
            } => {
                let (mut ms, max) = (first.as_millis(), max.as_millis());
                let factor = u128::from((*factor_percent).max(100));
                for _ in 1..number {
                    let longer = ms.saturating_mul(factor) / 100;
                    // A wait of a few milliseconds and a small factor don't grow at all.
                    if ms >= max || longer == ms {
                        break;
                    }
                    ms = longer;
                }
                Duration::from_millis(u64::try_from(ms.min(max)).unwrap_or(u64::MAX))
            }
        };
        Some(wait.max(Duration::from_secs(RETRY_WAIT_S_MIN)))
    }

    fn jittered(&self, wait: Duration, attempt: &Attempt, seed: u64) -> Duration {
        let half = percent(wait, self.jitter_percent);
        (wait - half.min(wait))
            .saturating_add(self.spread(wait, attempt, seed))
            .saturating_add(self.spread(wait, attempt, !seed))
            .max(Duration::from_secs(RETRY_WAIT_S_MIN))
    }

    /// From nothing to the jitter of `wait`, by hash.
    fn spread(&self, wait: Duration, attempt: &Attempt, seed: u64) -> Duration {
        let hash = mix(mix(attempt.message ^ seed).wrapping_add(u64::from(attempt.number)));
        let range = percent(wait, self.jitter_percent).as_millis();
        let ms = (range * u128::from(hash)) >> 64;
        Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
    }
}

fn percent(wait: Duration, percent: u8) -> Duration {
    let ms = wait.as_millis() * u128::from(percent.min(100)) / 100;
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write;
    use std::string::String;
    use std::vec;

    fn table(schedule: &Schedule, message: u64) -> String {
        let (mut age, mut number, mut text) = (Duration::ZERO, 1, String::new());
        loop {
            let attempt = Attempt {
                number,
                age,
                message,
                retry_after: None,
            };
            let Some(wait) = schedule.next(&attempt, 1) else {
                let _ = write!(text, "after attempt {number}: over");
                return text;
            };
            age += wait;
            number += 1;
            let (s, w) = (age.as_secs(), wait.as_secs());
            if number <= 9 || number % 8 == 0 {
                let _ = writeln!(
                    text,
                    "{number:>2}  +{:>2}:{:02}:{:02}  {}d {:02}:{:02}:{:02}",
                    w / 3600,
                    w / 60 % 60,
                    w % 60,
                    s / 86_400,
                    s / 3600 % 24,
                    s / 60 % 60,
                    s % 60
                );
            }
        }
    }

    #[test]
    fn the_default_schedule() {
        insta::assert_snapshot!(table(&Schedule::default(), 42), @r"
         2  + 0:04:55  0d 00:04:55
         3  + 0:10:15  0d 00:15:11
         4  + 0:21:02  0d 00:36:13
         5  + 0:42:41  0d 01:18:54
         6  + 1:14:23  0d 02:33:18
         7  + 2:34:41  0d 05:07:59
         8  + 3:53:39  0d 09:01:38
         9  + 3:40:10  0d 12:41:49
        16  + 4:11:52  1d 16:26:40
        24  + 4:13:03  3d 00:24:58
        32  + 4:18:08  4d 08:30:42
        after attempt 35: over
        ");
        let exact = Schedule {
            jitter_percent: 0,
            ..Schedule::default()
        };
        insta::assert_snapshot!(table(&exact, 42), @r"
         2  + 0:05:00  0d 00:05:00
         3  + 0:10:00  0d 00:15:00
         4  + 0:20:00  0d 00:35:00
         5  + 0:40:00  0d 01:15:00
         6  + 1:20:00  0d 02:35:00
         7  + 2:40:00  0d 05:15:00
         8  + 4:00:00  0d 09:15:00
         9  + 4:00:00  0d 13:15:00
        16  + 4:00:00  1d 17:15:00
        24  + 4:00:00  3d 01:15:00
        32  + 4:00:00  4d 09:15:00
        after attempt 35: over
        ");
    }

    #[test]
    fn a_list_and_a_short_life() {
        let m = |n: u64| Duration::from_secs(n * 60);
        let schedule = Schedule {
            waits: Waits::List(vec![m(1), m(5), m(15)]),
            jitter_percent: 0,
            life: m(60),
        };
        insta::assert_snapshot!(table(&schedule, 1), @r"
         2  + 0:01:00  0d 00:01:00
         3  + 0:05:00  0d 00:06:00
         4  + 0:15:00  0d 00:21:00
         5  + 0:15:00  0d 00:36:00
         6  + 0:15:00  0d 00:51:00
        after attempt 6: over
        ");
        let once = Schedule {
            waits: Waits::List(vec![]),
            ..schedule
        };
        assert_eq!(table(&once, 1), "after attempt 1: over");
    }

    #[test]
    fn the_receivers_wish() {
        let schedule = Schedule::default();
        let ask = |hint_s: u64, age_s: u64| {
            let attempt = Attempt {
                number: 1,
                age: Duration::from_secs(age_s),
                message: 9,
                retry_after: Some(Duration::from_secs(hint_s)),
            };
            schedule.next(&attempt, 3).map(|d| d.as_secs())
        };
        // A shorter wish than the schedule's doesn't hurry us.
        assert!((270..=330).contains(&ask(60, 0).unwrap()));
        assert!((86_400..=95_040).contains(&ask(86_400, 0).unwrap()));
        // Beyond its life the schedule's own wait counts, while that fits.
        assert!((270..=330).contains(&ask(86_400, 5 * 86_400 - 3600).unwrap()));
        assert_eq!(ask(86_400, 5 * 86_400 - 60), None);
    }

    proptest! {
        #[test]
        fn within_the_jitter_and_the_life(
            first in 1u64..10_000, factor in 0u32..1000, max in 1u64..100_000, jitter in 0u8..=255,
            life in 1u64..1_000_000, number in 0u32..50, age in 0u64..1_000_000,
            message: u64, seed: u64, hint in proptest::option::of(0u64..100_000),
        ) {
            let schedule = Schedule {
                waits: Waits::Growing {
                    first: Duration::from_secs(first),
                    factor_percent: factor,
                    max: Duration::from_secs(max),
                },
                jitter_percent: jitter,
                life: Duration::from_secs(life),
            };
            let attempt = Attempt {
                number,
                age: Duration::from_secs(age),
                message,
                retry_after: hint.map(Duration::from_secs),
            };
            let next = schedule.next(&attempt, seed);
            prop_assert_eq!(next, schedule.next(&attempt, seed));
            if let Some(next) = next {
                prop_assert!(next >= Duration::from_secs(RETRY_WAIT_S_MIN));
                prop_assert!(attempt.age + next <= schedule.life);
                let wait = schedule.wait(number).unwrap();
                let jitter = percent(wait, jitter);
                prop_assert!(next + jitter >= wait);
                if hint.is_none() {
                    prop_assert!(next <= wait + jitter);
                }
            }
        }
    }

    #[test]
    fn a_wait_that_does_not_grow_ends_the_search() {
        for (first, factor_percent) in [(0, 200), (1, 101), (50, 101), (99, 101), (7, 100)] {
            let schedule = Schedule {
                waits: Waits::Growing {
                    first: Duration::from_millis(first),
                    factor_percent,
                    max: Duration::from_secs(3600),
                },
                ..Schedule::default()
            };
            // With a step for each attempt this would take minutes.
            for _ in 0..100 {
                let wait = schedule.wait(u32::MAX);
                assert_eq!(wait, Some(Duration::from_secs(RETRY_WAIT_S_MIN)));
            }
        }
    }

    #[test]
    fn messages_are_spread_and_recipients_stay_together() {
        let schedule = Schedule::default();
        let wait = |message| {
            let attempt = Attempt {
                number: 3,
                age: Duration::ZERO,
                message,
                retry_after: None,
            };
            schedule.next(&attempt, 5).unwrap().as_millis()
        };
        let mut waits: Vec<_> = (0..1000).map(wait).collect();
        let mean = waits.iter().sum::<u128>() / 1000;
        assert!((1_190_000..1_210_000).contains(&mean), "{mean}");
        waits.sort_unstable();
        waits.dedup();
        assert!(waits.len() > 980);
    }
}
