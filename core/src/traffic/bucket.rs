//! Integer token bucket: how many messages or connections may go in how much time.
//!
//! Use: parse or make a [`Rate`], keep a [`Bucket`] beside it, ask [`Bucket::try_take`] before each
//! thing that counts, and [`Bucket::next`] for when to ask again.
//!
//! It is the generic cell rate algorithm (ITU-T I.371 annex A): the bucket is one number, the
//! theoretical arrival time of the next token. That time is counted in `1/count` of a nanosecond,
//! so nothing is ever rounded: in any window of length `t`, no more than
//! `burst + count × t / per` pass, and at full demand no token comes a nanosecond later than that.

use crate::limits::{RATE_BURST_MAX, RATE_COUNT_MAX, RATE_PERIOD_S_MAX};
use crate::time::{Duration, Instant};
use core::fmt;
use core::str::FromStr;

/// So many per so long, and how many of them may come at once.
///
/// Written as `100/s`, `5k/h`, `1.5k/min`, `2M/d`, `10/5min`, `100/s burst 20`:
///
/// ```text
/// rate  = count "/" [number] unit [" burst " count]
/// count = digits ["." digits] ["k" / "M"]      ; a whole number when multiplied out, at least 1
/// unit  = "s" / "sec" / "second" / "m" / "min" / "minute" / "h" / "hour" / "d" / "day"
/// ```
///
/// Without `burst`, a tenth of a second's worth may come at once, and at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    count: u32,
    burst: u32,
    per_s: u32,
}

/// Why a text is no [`Rate`]; says what would be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateError {
    /// No `/`.
    NoPeriod,
    /// What stands before the `/` is not a number.
    Count,
    /// Nothing may pass.
    Zero,
    /// More than 4 thousand million per period, or a fraction of one.
    CountRange,
    /// What stands after the `/` is not a time.
    Period,
    /// Longer than 31 days, or nothing.
    PeriodRange,
    /// What stands after the period is not `burst` and a number.
    Burst,
}

impl fmt::Display for RateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPeriod => "a rate needs a period: write 100/s, 5k/h or 2M/d",
            Self::Count => "the count must be a number, optionally with k or M: 100/s, 1.5k/min, 2M/d",
            Self::Zero => "a rate of zero would never let anything pass: write at least 1/d, or hold the mail instead",
            Self::CountRange => "the count must be a whole number from 1 to 4000M: 100/s, 1.5k/min, 2M/d",
            Self::Period => "the period must be s, min, h or d, optionally with a number: 100/s, 10/5min",
            Self::PeriodRange => "the period must be from 1s to 31d: 100/s, 10/5min",
            Self::Burst => "after the period only a burst may follow: 100/s burst 20",
        })
    }
}

impl core::error::Error for RateError {}

impl Rate {
    /// `count` per `per_s` seconds, with the usual burst. Out-of-range values are brought to the
    /// nearest that is allowed.
    pub const fn new(count: u32, per_s: u32) -> Self {
        let count = clamp(count, 1, RATE_COUNT_MAX);
        let per_s = clamp(per_s, 1, RATE_PERIOD_S_MAX);
        Self {
            count,
            per_s,
            burst: default_burst(count, per_s),
        }
    }

    /// The same rate, but `burst` may come at once (at least 1).
    pub const fn with_burst(self, burst: u32) -> Self {
        Self {
            burst: clamp(burst, 1, RATE_BURST_MAX),
            ..self
        }
    }

    /// How many per [`period`](Self::period).
    pub const fn count(self) -> u32 {
        self.count
    }

    /// In how long.
    pub const fn period(self) -> Duration {
        Duration::from_secs(self.per_s as u64)
    }

    /// How many may come at once.
    pub const fn burst(self) -> u32 {
        self.burst
    }

    const fn per_ns(self) -> u128 {
        self.per_s as u128 * 1_000_000_000
    }
}

const fn clamp(n: u32, low: u32, high: u32) -> u32 {
    if n < low {
        low
    } else if n > high {
        high
    } else {
        n
    }
}

const fn default_burst(count: u32, per_s: u32) -> u32 {
    clamp(count / per_s / 10, 1, RATE_BURST_MAX)
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(s: &str) -> Result<Self, RateError> {
        let (count, rest) = s.split_once('/').ok_or(RateError::NoPeriod)?;
        let count = parse_count(count.trim())?;
        let mut words = rest.split_ascii_whitespace();
        let per_s = parse_period(words.next().ok_or(RateError::Period)?)?;
        let rate = Self::new(count, per_s);
        match (words.next(), words.next(), words.next()) {
            (None, _, _) => Ok(rate),
            (Some("burst"), Some(n), None) => match parse_count(n) {
                Ok(n) if n <= RATE_BURST_MAX => Ok(rate.with_burst(n)),
                _ => Err(RateError::Burst),
            },
            _ => Err(RateError::Burst),
        }
    }
}

fn parse_count(s: &str) -> Result<u32, RateError> {
    let (number, scale) = match s.as_bytes().last() {
        Some(b'k' | b'K') => (&s[..s.len() - 1], 1_000u64),
        Some(b'M') => (&s[..s.len() - 1], 1_000_000),
        _ => (s, 1),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let plain = |d: &str| !d.is_empty() && d.len() <= 10 && d.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(fraction) {
        return Err(RateError::Count);
    }
    let mut count = whole.parse::<u64>().map_err(|_| RateError::Count)? * scale;
    let mut unit = scale;
    for digit in fraction.bytes() {
        let digit = u64::from(digit - b'0');
        if digit != 0 && unit % 10 != 0 {
            return Err(RateError::CountRange);
        }
        unit /= 10;
        count += digit * unit;
    }
    match u32::try_from(count) {
        Ok(0) => Err(RateError::Zero),
        Ok(n) if n <= RATE_COUNT_MAX => Ok(n),
        _ => Err(RateError::CountRange),
    }
}

fn parse_period(s: &str) -> Result<u32, RateError> {
    let digits = s.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = s.split_at(digits);
    let unit = match unit {
        "s" | "sec" | "second" => 1,
        "m" | "min" | "minute" => 60,
        "h" | "hour" => 3600,
        "d" | "day" => 86_400,
        _ => return Err(RateError::Period),
    };
    let number = match number {
        "" => 1,
        n => n.parse::<u32>().map_err(|_| RateError::PeriodRange)?,
    };
    match number.checked_mul(unit) {
        Some(s) if (1..=RATE_PERIOD_S_MAX).contains(&s) => Ok(s),
        _ => Err(RateError::PeriodRange),
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_count(f, self.count)?;
        let (n, unit) = match self.per_s {
            s if s % 86_400 == 0 => (s / 86_400, "d"),
            s if s % 3600 == 0 => (s / 3600, "h"),
            s if s % 60 == 0 => (s / 60, "min"),
            s => (s, "s"),
        };
        match n {
            1 => write!(f, "/{unit}")?,
            n => write!(f, "/{n}{unit}")?,
        }
        if self.burst != default_burst(self.count, self.per_s) {
            write!(f, " burst {}", self.burst)?;
        }
        Ok(())
    }
}

fn write_count(f: &mut fmt::Formatter<'_>, count: u32) -> fmt::Result {
    match count {
        n if n % 1_000_000 == 0 => write!(f, "{}M", n / 1_000_000),
        n if n % 1_000 == 0 => write!(f, "{}k", n / 1_000),
        n => write!(f, "{n}"),
    }
}

/// How full a bucket is; belongs to one [`Rate`], which is given with each call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Theoretical arrival time in `1/count` ns.
    tat: u128,
}

impl Bucket {
    /// A full bucket.
    pub const fn new() -> Self {
        Self { tat: 0 }
    }

    /// Takes `n` tokens if they are there.
    ///
    /// More than the burst at once can never be there; such an `n` is let through when the bucket
    /// is full, and paid for afterwards.
    pub fn try_take(&mut self, rate: Rate, now: Instant, n: u32) -> bool {
        if self.ready_at(rate, n) > now {
            return false;
        }
        let start = self.tat.max(at(rate, now));
        self.tat = start.saturating_add(rate.per_ns() * u128::from(n));
        true
    }

    /// When one token will be there; `now` if it is.
    pub fn next(&self, rate: Rate, now: Instant) -> Instant {
        self.nth(rate, now, 1)
    }

    /// When the `n`th token from now will be there if all before it are taken as early as they
    /// can; `now` if it is.
    pub fn nth(&self, rate: Rate, now: Instant, n: u32) -> Instant {
        let start = self.tat.max(at(rate, now));
        let end = start.saturating_add(rate.per_ns() * u128::from(n.max(1)));
        instant(
            rate,
            end.saturating_sub(rate.per_ns() * u128::from(rate.burst)),
        )
        .max(now)
    }

    /// How many may be taken at once now.
    pub fn available(&self, rate: Rate, now: Instant) -> u32 {
        let full = at(rate, now).saturating_add(rate.per_ns() * u128::from(rate.burst));
        let n = full.saturating_sub(self.tat.max(at(rate, now))) / rate.per_ns();
        u32::try_from(n).unwrap_or(u32::MAX)
    }

    /// When the bucket will be full, if nothing is taken until then.
    pub fn full_at(&self, rate: Rate) -> Instant {
        instant(rate, self.tat)
    }

    /// Keeps the filling over a change of rate: the time until it is full stays.
    pub fn rescale(&mut self, from: Rate, to: Rate) {
        self.tat = (self.tat / u128::from(from.count) + 1).saturating_mul(u128::from(to.count));
    }

    fn ready_at(&self, rate: Rate, n: u32) -> Instant {
        let n = n.min(rate.burst);
        let slack = rate.per_ns() * u128::from(rate.burst - n);
        instant(rate, self.tat.saturating_sub(slack))
    }
}

fn at(rate: Rate, now: Instant) -> u128 {
    u128::from(now.as_nanos()) * u128::from(rate.count)
}

/// The first nanosecond that is not before this time.
fn instant(rate: Rate, tat: u128) -> Instant {
    u64::try_from(tat.div_ceil(u128::from(rate.count))).map_or(Instant::FAR, Instant::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::vec::Vec;

    fn rate(s: &str) -> Rate {
        s.parse().unwrap_or_else(|e| panic!("{s}: {e}"))
    }

    #[test]
    fn texts() {
        for (text, count, per_s, shown) in [
            ("100/s", 100, 1, "100/s"),
            ("5k/h", 5000, 3600, "5k/h"),
            ("1.5k/m", 1500, 60, "1500/min"),
            ("10/min", 10, 60, "10/min"),
            ("2M/d", 2_000_000, 86_400, "2M/d"),
            ("0.25M/day", 250_000, 86_400, "250k/d"),
            ("10 / 5min", 10, 300, "10/5min"),
            ("7/second", 7, 1, "7/s"),
            ("1/90s", 1, 90, "1/90s"),
        ] {
            let r = rate(text);
            assert_eq!((r.count, r.per_s), (count, per_s), "{text}");
            assert_eq!(r.to_string(), shown);
        }
        assert_eq!(rate("100/s").burst(), 10);
        assert_eq!(rate("5k/h").burst(), 1);
        assert_eq!(rate("100/s burst 3").to_string(), "100/s burst 3");
    }

    #[test]
    fn refusals_say_what_is_right() {
        use RateError::*;
        for (text, error) in [
            ("100", NoPeriod),
            ("", NoPeriod),
            ("/s", Count),
            ("-1/s", Count),
            ("1e3/s", Count),
            ("ten/s", Count),
            ("1.5/s", CountRange),
            ("1.2345k/s", CountRange),
            ("9999999999M/s", CountRange),
            ("0/s", Zero),
            ("0k/s", Zero),
            ("10/", Period),
            ("10/fortnight", Period),
            ("10/ms", Period),
            ("10/0s", PeriodRange),
            ("10/32d", PeriodRange),
            ("10/s burst", Burst),
            ("10/s burst x", Burst),
            ("10/s burst 0", Burst),
            ("10/s burst 5 x", Burst),
            ("10/s 5", Burst),
        ] {
            assert_eq!(text.parse::<Rate>(), Err(error), "{text}");
            assert!(error.to_string().contains('/'), "{error} shows an example");
        }
    }

    /// Takes as much as it can at each of the times; returns what passed when.
    fn drive(rate: Rate, times: &[(u64, u32)]) -> Vec<(u64, u32)> {
        let mut bucket = Bucket::new();
        let mut passed = Vec::new();
        for &(t, n) in times {
            let now = Instant::from_nanos(t);
            if bucket.try_take(rate, now, n) {
                passed.push((t, n));
            } else {
                assert!(bucket.available(rate, now) < n);
            }
        }
        passed
    }

    proptest! {
        #[test]
        fn shown_and_read_back(count in 1u32.., per_s in 1u32..=RATE_PERIOD_S_MAX, burst in 1u32..=RATE_BURST_MAX) {
            let r = Rate::new(count, per_s).with_burst(burst);
            prop_assert_eq!(rate(&r.to_string()), r);
            let r = Rate::new(count, per_s);
            prop_assert_eq!(rate(&r.to_string()), r);
        }

        #[test]
        fn any_text_is_read_or_refused(s in "\\PC*|[0-9.kM]{0,9}/[0-9]{0,6}[smhd](in)?( burst [0-9k]*)?", at: u64) {
            match s.parse::<Rate>() {
                Ok(r) => {
                    prop_assert_eq!(rate(&r.to_string()), r);
                    let (mut bucket, now) = (Bucket::new(), Instant::from_nanos(at));
                    prop_assert!(bucket.try_take(r, now, r.burst()));
                    prop_assert_eq!(bucket.available(r, now), 0);
                }
                Err(e) => prop_assert!(!e.to_string().is_empty()),
            }
        }

        #[test]
        fn never_more_than_the_rate_in_any_window(
            count in 1u32..5000, per_s in 1u32..100, burst in 1u32..50,
            steps in proptest::collection::vec((0u64..2_000_000_000, 1u32..4), 1..200),
        ) {
            let r = Rate::new(count, per_s).with_burst(burst);
            let mut t = 0;
            let times: Vec<_> = steps.iter().map(|(d, n)| { t += d; (t, (*n).min(burst)) }).collect();
            let passed = drive(r, &times);
            for (i, first) in passed.iter().enumerate() {
                let mut sum = 0u128;
                for (t, n) in &passed[i..] {
                    sum += u128::from(*n);
                    // sum <= burst + count * window / per, without division
                    let window = u128::from(t - first.0) * u128::from(count);
                    prop_assert!(sum * r.per_ns() <= u128::from(burst) * r.per_ns() + window);
                }
            }
        }

        #[test]
        fn at_full_demand_nothing_is_lost(count in 1u32..100_000, per_s in 1u32..5000, burst in 1u32..5) {
            let r = Rate::new(count, per_s).with_burst(burst);
            let mut bucket = Bucket::new();
            let mut now = Instant::from_nanos(1);
            for taken in 0..500u32 {
                let expected = u128::from(taken.saturating_sub(burst - 1)) * r.per_ns();
                let expected = 1 + expected.div_ceil(u128::from(count)) as u64;
                now = bucket.next(r, now);
                // Things happen on whole nanoseconds; each may cost the next a part of one.
                let late = now.as_nanos() - expected;
                prop_assert!(late <= u64::from(taken), "{late} ns late after {taken}");
                if now > Instant::from_nanos(1) {
                    let before = now - Duration::from_nanos(1);
                    prop_assert!(!bucket.clone().try_take(r, before, 1));
                }
                prop_assert!(bucket.try_take(r, now, 1));
            }
        }

        #[test]
        fn nth_is_what_n_takes_give(count in 1u32..1000, per_s in 1u32..100, burst in 1u32..5, warm in 0u32..10, n in 1u32..20) {
            let r = Rate::new(count, per_s).with_burst(burst);
            let mut bucket = Bucket::new();
            let mut now = Instant::from_nanos(77);
            for _ in 0..warm { bucket.try_take(r, now, 1); }
            let told = bucket.nth(r, now, n);
            for _ in 0..n {
                now = bucket.next(r, now);
                prop_assert!(bucket.try_take(r, now, 1));
            }
            prop_assert!(told <= now && now <= told + Duration::from_nanos(u64::from(n)));
        }

        #[test]
        fn a_change_of_rate_gives_nothing_away(
            a in 1u32..1000, b in 1u32..1000, takes in 0u32..50, at in 0u64..10_000_000_000,
        ) {
            let (from, to) = (Rate::new(a, 1).with_burst(20), Rate::new(b, 1).with_burst(20));
            let now = Instant::from_nanos(at);
            let mut bucket = Bucket::new();
            for _ in 0..takes { bucket.try_take(from, now, 1); }
            let full = bucket.full_at(from);
            bucket.rescale(from, to);
            prop_assert!(bucket.full_at(to) >= full);
            prop_assert!(bucket.full_at(to) <= full + Duration::from_nanos(2));
        }
    }

    #[test]
    fn more_than_the_burst_is_paid_for_afterwards() {
        let r = rate("10/s burst 5");
        let mut bucket = Bucket::new();
        let t = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        assert!(bucket.try_take(r, t(1000), 20));
        assert_eq!(bucket.available(r, t(1000)), 0);
        assert_eq!(bucket.next(r, t(1000)), t(2600));
    }
}
