//! Dates of header fields (RFC 5322 3.3), in both directions.
//!
//! ```text
//! date-time = [ day-name "," ] day month year hour ":" minute [ ":" second ] zone
//! zone      = ("+" / "-") 4DIGIT / obs-zone
//! ```
//!
//! Write one with [`Date::utc`] or [`Date::new`] and `Display`; read one with [`Date::parse`],
//! which also takes what RFC 5322 4.3 calls obsolete and mail still carries: years of two and
//! three digits, zones by name, comments and folding anywhere between the tokens. A day name is
//! read past, right or wrong: the date says which day it was.

use crate::time::Wall;
use core::fmt;

const DAY_S: i64 = 86_400;
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
/// Largest offset from UTC, minutes: what `hhmm` of RFC 5322 3.3 can say.
const ZONE_MAX: i16 = 99 * 60 + 59;
/// The last second of the year 9999: a year has four digits in what we write.
const LAST_S: i64 = 253_402_300_799;

/// A date-time with the zone that it was or will be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Date {
    wall: Wall,
    zone: i16,
}

/// Why bytes are no date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateError {
    /// A token is missing or isn't what stands there in a date.
    Syntax,
    /// A number is out of range: the 30th of February, hour 24.
    Range,
}

impl fmt::Display for DateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "not a date of a header field",
            Self::Range => "a date that no calendar has",
        })
    }
}
impl core::error::Error for DateError {}

impl Date {
    /// `wall` in the zone `minutes` east of UTC; the zone is brought into ±9959.
    pub const fn new(wall: Wall, minutes: i16) -> Self {
        let zone = if minutes > ZONE_MAX {
            ZONE_MAX
        } else if minutes < -ZONE_MAX {
            -ZONE_MAX
        } else {
            minutes
        };
        Self { wall, zone }
    }

    /// `wall`, written in UTC.
    pub const fn utc(wall: Wall) -> Self {
        Self { wall, zone: 0 }
    }

    /// The point in time.
    pub const fn wall(self) -> Wall {
        self.wall
    }

    /// Minutes east of UTC.
    pub const fn zone_minutes(self) -> i16 {
        self.zone
    }

    /// Reads a date; white space, folding and comments may stand before and after it.
    ///
    /// # Errors
    /// [`DateError`] says whether it isn't a date or isn't in the calendar.
    pub fn parse(value: &[u8]) -> Result<Self, DateError> {
        let mut rest = Tokens(value);
        let mut token = rest.next().ok_or(DateError::Syntax)?;
        if let Token::Word(_) = token {
            // Day name, with its comma or (in the wild) without.
            token = rest.next().ok_or(DateError::Syntax)?;
            if token == Token::Mark(b',') {
                token = rest.next().ok_or(DateError::Syntax)?;
            }
        }
        let (day, _) = token.number(1, 2)?;
        let month = rest.month()?;
        let (year, digits) = rest.number(2, 4)?;
        let year = match (digits, year) {
            (2, 0..=49) => year + 2000,
            (2 | 3, _) => year + 1900,
            _ => year,
        };
        let (hour, _) = rest.number(1, 2)?;
        rest.colon()?;
        let (minute, _) = rest.number(1, 2)?;
        let mut after = rest;
        let second = if after.next() == Some(Token::Mark(b':')) {
            rest = after;
            rest.number(1, 2)?.0
        } else {
            0
        };
        let zone = rest.zone()?;
        // What follows but comments (already skipped) is somebody's decoration: ignored.
        if !(1..=days_in_month(year, month)).contains(&day)
            || hour > 23
            || minute > 59
            || second > 60
        {
            return Err(DateError::Range);
        }
        // A leap second counts as the second before it: Wall has none.
        let local = days(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second.min(59);
        Ok(Self {
            wall: Wall::from_unix(local - i64::from(zone) * 60),
            zone,
        })
    }
}

/// `Mon, 23 Nov 2026 21:13:17 +0000`. Years outside of 0 to 9999 become the first or the last
/// second of those.
impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = days(0, 1, 1) * DAY_S;
        let local = self
            .wall
            .unix()
            .saturating_add(i64::from(self.zone) * 60)
            .clamp(first, LAST_S);
        let day_number = local.div_euclid(DAY_S);
        let (year, month, day) = civil(day_number);
        // 1970-01-01 was a Thursday.
        let weekday = name(&WEEKDAYS, (day_number + 4).rem_euclid(7));
        let month = name(&MONTHS, month - 1);
        let s = local.rem_euclid(DAY_S);
        let (hour, minute, second) = (s / 3600, s / 60 % 60, s % 60);
        let sign = if self.zone < 0 { '-' } else { '+' };
        let zone = self.zone.unsigned_abs();
        write!(
            f,
            "{weekday}, {day} {month} {year:04} {hour:02}:{minute:02}:{second:02} {sign}{:02}{:02}",
            zone / 60,
            zone % 60
        )
    }
}

fn name(names: &'static [&'static str], at: i64) -> &'static str {
    usize::try_from(at)
        .ok()
        .and_then(|at| names.get(at))
        .unwrap_or(&"")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Digits(&'a [u8]),
    Word(&'a [u8]),
    Mark(u8),
}

impl Token<'_> {
    /// Its value and how many digits it has, of at least `min` and at most `max`.
    fn number(self, min: usize, max: usize) -> Result<(i64, usize), DateError> {
        let Self::Digits(digits) = self else {
            return Err(DateError::Syntax);
        };
        if digits.len() < min || digits.len() > max {
            return Err(DateError::Syntax);
        }
        let value = digits
            .iter()
            .fold(0, |n, d| n * 10 + i64::from(d.wrapping_sub(b'0')));
        Ok((value, digits.len()))
    }
}

/// Digits, words and single marks; white space, line ends and comments lie between.
#[derive(Clone, Copy)]
struct Tokens<'a>(&'a [u8]);

impl<'a> Tokens<'a> {
    fn number(&mut self, min: usize, max: usize) -> Result<(i64, usize), DateError> {
        self.next().ok_or(DateError::Syntax)?.number(min, max)
    }

    fn colon(&mut self) -> Result<(), DateError> {
        match self.next() {
            Some(Token::Mark(b':')) => Ok(()),
            _ => Err(DateError::Syntax),
        }
    }

    fn month(&mut self) -> Result<i64, DateError> {
        let mut token = self.next();
        // `1-Jan-2020` is written by some.
        if token == Some(Token::Mark(b'-')) {
            token = self.next();
        }
        let Some(Token::Word(word)) = token else {
            return Err(DateError::Syntax);
        };
        let short = word.get(..3).unwrap_or(word);
        let at = MONTHS
            .iter()
            .position(|m| m.as_bytes().eq_ignore_ascii_case(short))
            .ok_or(DateError::Syntax)?;
        let mut after = *self;
        if after.next() == Some(Token::Mark(b'-')) {
            *self = after;
        }
        i64::try_from(at + 1).map_err(|_| DateError::Range)
    }

    /// RFC 5322 3.3 and 4.3; a missing zone is UTC.
    fn zone(&mut self) -> Result<i16, DateError> {
        let hours = match self.next() {
            None => 0,
            Some(Token::Mark(sign @ (b'+' | b'-'))) => {
                let (hhmm, _) = self.number(4, 4)?;
                let minutes = hhmm / 100 * 60 + hhmm % 100;
                let minutes = i16::try_from(minutes).map_err(|_| DateError::Range)?;
                if hhmm % 100 > 59 {
                    return Err(DateError::Range);
                }
                return Ok(if sign == b'-' { -minutes } else { minutes });
            }
            Some(Token::Word(word)) => match upper_3(word) {
                [b'E', b'D', b'T'] => -4,
                [b'E', b'S', b'T'] | [b'C', b'D', b'T'] => -5,
                [b'C', b'S', b'T'] | [b'M', b'D', b'T'] => -6,
                [b'M', b'S', b'T'] | [b'P', b'D', b'T'] => -7,
                [b'P', b'S', b'T'] => -8,
                // UT, GMT, Z; and military letters and unknown names, which tell nothing
                // (RFC 5322 4.3).
                _ => 0,
            },
            Some(_) => return Err(DateError::Syntax),
        };
        Ok(hours * 60)
    }
}

/// Three bytes in upper case, zeros for a word of another length: no zone's name.
fn upper_3(word: &[u8]) -> [u8; 3] {
    match word {
        [a, b, c] => [a, b, c].map(u8::to_ascii_uppercase),
        _ => [0; 3],
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;
    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let &first = self.0.first()?;
            match first {
                b' ' | b'\t' | b'\r' | b'\n' => self.0 = self.0.get(1..)?,
                b'(' => self.0 = after_comment(self.0)?,
                _ => break,
            }
        }
        let &first = self.0.first()?;
        let is_kin: fn(&u8) -> bool = if first.is_ascii_digit() {
            u8::is_ascii_digit
        } else if first.is_ascii_alphabetic() {
            u8::is_ascii_alphabetic
        } else {
            self.0 = self.0.get(1..)?;
            return Some(Token::Mark(first));
        };
        let len = self.0.iter().take_while(|b| is_kin(b)).count();
        let (token, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(if first.is_ascii_digit() {
            Token::Digits(token)
        } else {
            Token::Word(token)
        })
    }
}

/// What follows the comment at the start of `text` (RFC 5322 3.2.2: they nest); `None` if it
/// never ends.
fn after_comment(text: &[u8]) -> Option<&[u8]> {
    let (mut depth, mut quoted) = (0usize, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if quoted => quoted = false,
            b'\\' => quoted = true,
            b'(' => depth += 1,
            b')' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return text.get(at + 1..);
                }
            }
            _ => {}
        }
    }
    None
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years are counted from March, so
/// that the leap day is the last of its year.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // Months from March have 31, 30, 31, 30, 31 days, over and over: 153 in five.
    365 * year + leaps + (153 * month + 2) / 5 + (day - 1) - 719_468
}

/// Year, month and day of the day `days` after 1970-01-01.
const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    // Of 400 years, the leap days before `day` are taken out; the rest are years of 365.
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (400 * era + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    fn unix(text: &str) -> Result<i64, DateError> {
        Date::parse(text.as_bytes()).map(|d| d.wall().unix())
    }

    #[test]
    fn examples_of_rfc_5322() {
        // Appendices A.1.1, A.5, A.6.2, A.6.3.
        assert_eq!(unix("Fri, 21 Nov 1997 09:55:06 -0600"), Ok(880_127_706));
        assert_eq!(
            unix(
                "Thu,\r\n      13\r\n        Feb\r\n          1969\r\n      23:32\r\n               -0330 (Newfoundland Time)"
            ),
            Ok(-27_723_480)
        );
        assert_eq!(unix("21 Nov 97 09:55:06 GMT"), Ok(880_106_106));
        assert_eq!(
            unix("Fri, 21 Nov 1997 09(comment):   55  :  06 -0600"),
            Ok(880_127_706)
        );
    }

    #[test]
    fn dates_of_the_wild() {
        assert_eq!(
            unix("Thu, 29 Apr 2013 23:45:00 +0900 (JST)"),
            Ok(1_367_246_700)
        );
        assert_eq!(unix("29-Apr-2013 23:45:00 +0900"), Ok(1_367_246_700));
        assert_eq!(unix("Thu 29 April 2013 14:45:00"), Ok(1_367_246_700));
        assert_eq!(unix("1 Jan 70 00:00 UT"), Ok(0));
        assert_eq!(unix("1 Jan 00 00:00 Z"), Ok(946_684_800));
        assert_eq!(unix("31 Dec 1998 23:59:60 +0000"), Ok(915_148_799));
        assert_eq!(unix("1 Jan 1970 00:00:00 EST"), Ok(5 * 3600));
        assert_eq!(unix("1 Jan 1970 00:00:00 A"), Ok(0));
    }

    #[test]
    fn refused() {
        for (text, error) in [
            ("", DateError::Syntax),
            ("Fri", DateError::Syntax),
            ("21 Now 1997 09:55 GMT", DateError::Syntax),
            ("21 Nov 1997 09.55 GMT", DateError::Syntax),
            ("21 Nov 1997 09:55 +060", DateError::Syntax),
            ("21 Nov 1 09:55 GMT", DateError::Syntax),
            ("21 Nov (never ends 1997 09:55 GMT", DateError::Syntax),
            ("30 Feb 2000 09:55 GMT", DateError::Range),
            ("29 Feb 1900 09:55 GMT", DateError::Range),
            ("0 Jan 2000 09:55 GMT", DateError::Range),
            ("1 Jan 2000 24:00 GMT", DateError::Range),
            ("1 Jan 2000 00:60 GMT", DateError::Range),
            ("1 Jan 2000 00:00 +0060", DateError::Range),
        ] {
            assert_eq!(unix(text), Err(error), "{text}");
        }
    }

    #[test]
    fn written() {
        let text = |s| Date::utc(Wall::from_unix(s)).to_string();
        assert_eq!(text(0), "Thu, 1 Jan 1970 00:00:00 +0000");
        assert_eq!(text(951_782_400), "Tue, 29 Feb 2000 00:00:00 +0000");
        assert_eq!(text(i64::MIN), "Sat, 1 Jan 0000 00:00:00 +0000");
        assert_eq!(text(i64::MAX), "Fri, 31 Dec 9999 23:59:59 +0000");
        let date = Date::new(Wall::from_unix(880_127_706), -360);
        assert_eq!(date.to_string(), "Fri, 21 Nov 1997 09:55:06 -0600");
        assert_eq!(Date::new(Wall::from_unix(0), i16::MAX).zone_minutes(), 5999);
    }

    #[test]
    fn each_day_follows_the_day_before() {
        let mut last = civil(-1);
        for day in 0..146_097 * 2 {
            let (y, m, d) = civil(day);
            assert_eq!(days(y, m, d), day);
            let next = if last.2 < days_in_month(last.0, last.1) {
                (last.0, last.1, last.2 + 1)
            } else if last.1 < 12 {
                (last.0, last.1 + 1, 1)
            } else {
                (last.0 + 1, 1, 1)
            };
            assert_eq!((y, m, d), next);
            last = (y, m, d);
        }
    }

    proptest! {
        #[test]
        fn parse_inverts_display(
            unix in -62_000_000_000_i64..253_000_000_000,
            zone in -5999i16..=5999,
        ) {
            let date = Date::new(Wall::from_unix(unix), zone);
            // Three-digit years are read as RFC 5322 4.3 has them, so we stay above.
            if unix > -30_000_000_000 {
                prop_assert_eq!(Date::parse(date.to_string().as_bytes()), Ok(date));
            }
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Date::parse(&bytes);
        }

        #[test]
        fn anything_like_a_date(text in "[A-Z][a-z]{2}, [0-9]{1,2} [JFMASOND][a-z]{2} [0-9]{1,5} [0-9]{1,2}:[0-9]{1,2}(:[0-9]{1,2})? [+-]?[0-9A-Z]{0,5}") {
            let _ = Date::parse(text.as_bytes());
        }
    }
}
