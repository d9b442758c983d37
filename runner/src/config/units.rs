//! Numbers with units, as an operator writes them: `"30s"`, `"25MiB"`, `"100/s"`, `"5%"`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use courser_core::traffic::bucket::Rate;
use toml::de::DeValue;

use super::tree::{Scalar, described};

/// A text value, or what stands in its place.
pub(super) fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value
        .as_str()
        .ok_or_else(|| format!("is {}, not a string", described(value)))
}

/// TOML of a string.
pub(super) fn quoted(text: impl fmt::Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

impl Scalar for bool {
    const EXPECTED: &'static str = "true or false";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        value
            .as_bool()
            .ok_or_else(|| format!("is {}, not true or false", described(value)))
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Scalar for String {
    const EXPECTED: &'static str = "a string in quotes";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        text(value).map(str::to_owned)
    }
    fn show(&self) -> String {
        quoted(self)
    }
}

impl Scalar for PathBuf {
    const EXPECTED: &'static str = "a path in quotes";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match text(value)? {
            "" => Err("is empty".into()),
            path => Ok(path.into()),
        }
    }
    fn show(&self) -> String {
        quoted(self.display())
    }
}

fn integer(value: &DeValue<'_>) -> Result<i128, String> {
    let wrong = || format!("is {}, not a whole number", described(value));
    let n = value.as_integer().ok_or_else(wrong)?;
    i128::from_str_radix(n.as_str(), n.radix()).map_err(|_| wrong())
}

macro_rules! whole_numbers {
    ($($type:ty),*) => {$(
        impl Scalar for $type {
            const EXPECTED: &'static str = "a whole number without quotes";
            fn read(value: &DeValue<'_>) -> Result<Self, String> {
                let n = integer(value)?;
                Self::try_from(n).map_err(|_| {
                    let how = if n < 0 { "negative" } else { "too large" };
                    format!("{n} is {how}")
                })
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
whole_numbers!(u8, u16, u32, u64, usize);

impl Scalar for f64 {
    const EXPECTED: &'static str = "a number such as 2 or 1.5";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        if let DeValue::Float(x) = value {
            return x
                .as_str()
                .replace('_', "")
                .parse()
                .map_err(|_| format!("{x} is no number"));
        }
        integer(value)
            .map(|n| n as Self)
            .map_err(|_| format!("is {}, not a number", described(value)))
    }
    fn show(&self) -> String {
        format!("{self:?}")
    }
}

/// `"off"`, or a value.
impl<T: Scalar> Scalar for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn expected() -> String {
        format!("{}; or \"off\"", T::EXPECTED)
    }
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("off") => Ok(None),
            _ => T::read(value).map(Some),
        }
    }
    fn show(&self) -> String {
        self.as_ref().map_or(quoted("off"), Scalar::show)
    }
}

/// Splits `"25 MiB"` into its number and its unit.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = number.replace('_', "").parse().ok()?;
    Some((number, unit.trim()))
}

// -- durations --

const SECOND: u64 = 1000;
/// Longest first, in milliseconds; the first spelling is the one we write.
const TIME_UNITS: [(&[&str], u64); 6] = [
    (&["w", "week", "weeks"], 7 * 86_400 * SECOND),
    (&["d", "day", "days"], 86_400 * SECOND),
    (&["h", "hour", "hours"], 3600 * SECOND),
    (&["m", "min", "minute", "minutes"], 60 * SECOND),
    (&["s", "sec", "second", "seconds"], SECOND),
    (&["ms"], 1),
];
/// Longest duration that an option may hold, ms: ten years. Sums of them can't overflow.
const DURATION_MAX_MS: u64 = 3650 * 86_400 * SECOND;

/// Reads `"90s"`, `"1h30m"`, `"4h"`, `"250ms"`, `"5d"`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration");
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = 0u64;
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(|| format!("{text:?} has no unit"))?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let letters = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let (_, ms) = TIME_UNITS
            .iter()
            .find(|(names, _)| names.contains(&&rest[..letters]))
            .ok_or_else(wrong)?;
        if *ms >= smallest {
            return Err(wrong());
        }
        smallest = *ms;
        total = number
            .checked_mul(*ms)
            .and_then(|n| n.checked_add(total))
            .filter(|n| *n <= DURATION_MAX_MS)
            .ok_or_else(|| format!("{text:?} is longer than ten years"))?;
        rest = rest[letters..].trim_start();
    }
    if smallest == u64::MAX {
        return Err(wrong());
    }
    Ok(Duration::from_millis(total))
}

/// The shortest text that [`parse_duration`] reads as `duration` (to the millisecond).
pub fn show_duration(duration: Duration) -> String {
    let mut ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".into();
    }
    let mut shown = String::new();
    for (names, unit) in TIME_UNITS {
        // Nobody writes weeks; 14d reads better than 2w.
        if names[0] == "w" || ms < unit {
            continue;
        }
        shown.push_str(&format!("{}{}", ms / unit, names[0]));
        ms %= unit;
    }
    shown
}

impl Scalar for Duration {
    const EXPECTED: &'static str =
        "a duration in quotes with its unit (ms, s, m, h, d), such as \"30s\", \"1h30m\" or \"5d\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        parse_duration(text(value)?)
    }
    fn show(&self) -> String {
        quoted(show_duration(*self))
    }
}

// -- sizes --

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `n` KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }
    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
    /// `n` GiB.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }
    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
    /// The number of bytes as a size in memory; saturates.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl std::str::FromStr for ByteSize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a size");
        let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
        if unit.is_empty() {
            return Err(format!("{text:?} has no unit"));
        }
        let (_, bytes) = SIZE_UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .ok_or_else(wrong)?;
        let size = number * *bytes as f64;
        // 2^53: up to there every whole number of bytes is exact.
        if size > 9.0e15 {
            return Err(format!("{text:?} is too large"));
        }
        Ok(Self(size.round() as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZE_UNITS
            .iter()
            .find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        match unit {
            Some((name, bytes)) => write!(f, "{}{name}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Scalar for ByteSize {
    const EXPECTED: &'static str =
        "a size in quotes with its unit (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB), such as \"25MiB\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        text(value)?.parse()
    }
    fn show(&self) -> String {
        quoted(self)
    }
}

/// A percentage from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u8);

impl Scalar for Percent {
    const EXPECTED: &'static str = "a percentage such as \"10%\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = text(value)?;
        let number = text.trim().strip_suffix('%').map(str::trim);
        match number.and_then(|n| n.parse().ok()) {
            Some(percent @ 0..=100) => Ok(Self(percent)),
            _ => Err(format!("{text:?} is not a percentage from 0% to 100%")),
        }
    }
    fn show(&self) -> String {
        quoted(format!("{}%", self.0))
    }
}

// -- rates --

impl Scalar for Rate {
    const EXPECTED: &'static str =
        "a rate in quotes, such as \"100/s\", \"20/min\", \"5k/h\" or \"10/s burst 50\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = text(value)?;
        text.parse()
            .map_err(|e| format!("{text:?} is not a rate: {e}"))
    }
    fn show(&self) -> String {
        quoted(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read() {
        let read = |t| parse_duration(t).ok().map(|d| d.as_millis());
        assert_eq!(read("30s"), Some(30_000));
        assert_eq!(read("1h30m"), Some(5_400_000));
        assert_eq!(read("1 h 30 min"), Some(5_400_000));
        assert_eq!(read("250ms"), Some(250));
        assert_eq!(read("2w"), Some(14 * 86_400_000));
        assert_eq!(read("0"), Some(0));
        for wrong in [
            "",
            " ",
            "30",
            "s",
            "30x",
            "1m1h",
            "-1s",
            "1.5h",
            "1h1h",
            "99999999999d",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!("25MiB".parse(), Ok(ByteSize::mib(25)));
        assert_eq!("1.5 GB".parse(), Ok(ByteSize(1_500_000_000)));
        assert!("25".parse::<ByteSize>().is_err());
        assert!("25 MegaB".parse::<ByteSize>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(ms in 0..DURATION_MAX_MS, bytes in 0u64..1 << 50) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,20}") {
            let _ = (parse_duration(&text), text.parse::<ByteSize>());
        }
    }
}
