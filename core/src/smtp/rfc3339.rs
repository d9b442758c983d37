//! The date-time of HOLDUNTIL and of TLS reports (RFC 3339 5.6), to [`Wall`] and back.
//!
//! ```text
//! date-time = 4DIGIT "-" 2DIGIT "-" 2DIGIT "T" 2DIGIT ":" 2DIGIT ":" 2DIGIT
//!             [ "." 1*DIGIT ] ( "Z" / ( "+" / "-" ) 2DIGIT ":" 2DIGIT )
//! ```
//!
//! Fractions of a second are cut off, a leap second counts as the second before it.

use crate::time::Wall;
use core::fmt;
use nom::branch::alt;
use nom::bytes::complete::{tag_no_case, take_while_m_n, take_while1};
use nom::character::complete::{char, one_of};
use nom::combinator::{all_consuming, map, map_opt, opt};
use nom::sequence::{preceded, separated_pair};
use nom::{IResult, Parser};

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// `n` digits whose value lies in `min..=max`.
fn digits<'a>(n: usize, min: i64, max: i64) -> impl Parser<&'a str, Output = i64, Error = ()> {
    let digits = take_while_m_n(n, n, |c: char| c.is_ascii_digit());
    map_opt(digits, move |d: &str| {
        d.parse().ok().filter(|v| (min..=max).contains(v))
    })
}

/// Seconds east of UTC.
fn offset(input: &str) -> IResult<&str, i64, ()> {
    let zulu = map(tag_no_case("Z"), |_| 0);
    let hours = (
        one_of("+-"),
        separated_pair(digits(2, 0, 23), char(':'), digits(2, 0, 59)),
    );
    let numeric = map(hours, |(sign, (h, m))| {
        let s = h * 3_600 + m * 60;
        if sign == '-' { -s } else { s }
    });
    alt((zulu, numeric)).parse(input)
}

fn date_time(input: &str) -> IResult<&str, Wall, ()> {
    let date = (
        digits(4, 0, 9_999),
        preceded(char('-'), digits(2, 1, 12)),
        preceded(char('-'), digits(2, 1, 31)),
    );
    let time = (
        preceded(tag_no_case("T"), digits(2, 0, 23)),
        preceded(char(':'), digits(2, 0, 59)),
        preceded(char(':'), digits(2, 0, 60)),
    );
    let fraction = opt(preceded(
        char('.'),
        take_while1(|c: char| c.is_ascii_digit()),
    ));
    map_opt(
        (date, time, fraction, offset),
        |((y, mo, d), (h, mi, s), _, off)| {
            if d > days_in_month(y, mo) {
                return None;
            }
            let seconds = h * 3_600 + mi * 60 + s.min(59) - off;
            Some(Wall::from_unix(days(y, mo, d) * DAY_S + seconds))
        },
    )
    .parse(input)
}

/// The instant that `text` names, if it is one.
pub(crate) fn parse(text: &str) -> Option<Wall> {
    all_consuming(date_time)
        .parse(text)
        .ok()
        .map(|(_, wall)| wall)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. The year is taken to begin in
/// March, so that the leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719_468 is 0000-03-01 to 1970-01-01; (153 m + 2) / 5 sums months of 31 and 30 days.
    365 * year + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// The inverse of [`days`]: year, month, day.
fn date(days: i64) -> (i64, i64, i64) {
    let since = days + 719_468;
    let cycle = since.div_euclid(146_097);
    let day_of_cycle = since.rem_euclid(146_097);
    let year = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524
        - day_of_cycle / 146_096)
        / 365;
    let day_of_year = day_of_cycle - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = (month + 2) % 12 + 1;
    let year = cycle * 400 + year + i64::from(month <= 2);
    (year, month, day)
}

/// Writes a time as `YYYY-MM-DDTHH:MM:SSZ`; what lies outside of the years 0 to 9999 becomes
/// their first or last second.
pub(crate) struct Utc(pub(crate) Wall);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = (days(9_999, 12, 31) + 1) * DAY_S - 1;
        let unix = self.0.unix().clamp(days(0, 1, 1) * DAY_S, last);
        let (y, mo, d) = date(unix.div_euclid(DAY_S));
        let s = unix.rem_euclid(DAY_S);
        let (h, mi, s) = (s / 3_600, s / 60 % 60, s % 60);
        write!(f, "{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    #[test]
    fn examples_of_rfc_3339() {
        // Section 5.8.
        let unix = |t| parse(t).map(Wall::unix);
        assert_eq!(unix("1985-04-12T23:20:50.52Z"), Some(482_196_050));
        assert_eq!(unix("1996-12-19T16:39:57-08:00"), Some(851_042_397));
        assert_eq!(unix("1990-12-31T23:59:60Z"), unix("1990-12-31T23:59:59Z"));
        assert_eq!(unix("1937-01-01T12:00:27.87+00:20"), Some(-1_041_337_173));
        assert_eq!(unix("1970-01-01t00:00:00z"), Some(0));
        assert_eq!(unix("2000-02-29T00:00:00Z"), Some(951_782_400));
    }

    #[test]
    fn refused() {
        for bad in [
            "",
            "1970",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-13-01T00:00:00Z",
            "1970-00-01T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "1970-04-31T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:60:00Z",
            "1970-01-01T00:00:61Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00+0100",
            "1970-01-01T00:00:00Zz",
            "1970-1-01T00:00:00Z",
            "+970-01-01T00:00:00Z",
            "1970-01-01 00:00:00Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_ends_of_time() {
        let text = |s| Utc(Wall::from_unix(s)).to_string();
        assert_eq!(text(i64::MIN), "0000-01-01T00:00:00Z");
        assert_eq!(text(i64::MAX), "9999-12-31T23:59:59Z");
    }

    proptest! {
        #[test]
        fn parse_inverts_display(unix in -62_167_219_200_i64..=253_402_300_799) {
            let wall = Wall::from_unix(unix);
            prop_assert_eq!(parse(&Utc(wall).to_string()), Some(wall));
        }

        #[test]
        fn any_text(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
