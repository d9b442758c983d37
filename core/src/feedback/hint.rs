//! Times in reply texts: "try again in 300 seconds", "retry in 5 minutes", "in 00:05:00".

use crate::limits::RETRY_HINT_S_MAX;
use core::time::Duration;

/// Words that make a number after them a time to wait. One must stand somewhere before it.
const ASKS: [&[u8]; 10] = [
    b"try",
    b"again",
    b"wait",
    b"greylist",
    b"graylist",
    b"come back",
    b"delay",
    b"defer",
    b"resend",
    b"blocked for",
];
/// Words that must stand right before the number.
const LEADS: [&[u8]; 9] = [
    b"in", b"after", b"for", b"wait", b"least", b"about", b"next", b"another", b"=",
];
/// Digits that are read of one number; more is no time.
const DIGITS_MAX: usize = 6;

/// How long `text` (folded: lower case, single spaces) asks to wait, at most
/// [`RETRY_HINT_S_MAX`]. Numbers that don't clearly say so are left alone.
pub(super) fn retry_after(text: &[u8]) -> Option<Duration> {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if !byte.is_ascii_digit() {
            at += 1;
            continue;
        }
        let before = text.get(..at)?;
        let rest = text.get(at..)?;
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let after = rest.get(digits..)?;
        if let Some(seconds) = seconds(rest, digits, after)
            && leads(before)
        {
            let seconds = seconds.min(RETRY_HINT_S_MAX);
            return (seconds > 0).then(|| Duration::from_secs(seconds));
        }
        // Don't read the middle of `00:05:00` or `1.2.3.4` as another number.
        at += digits;
        while text
            .get(at)
            .is_some_and(|b| matches!(b, b':' | b'.' | b'0'..=b'9'))
        {
            at += 1;
        }
    }
    None
}

/// The number at the start of `rest`, of `digits` digits, with the unit in `after`, as seconds.
fn seconds(rest: &[u8], digits: usize, after: &[u8]) -> Option<u64> {
    let number = decimal(rest.get(..digits)?)?;
    // hh:mm:ss or mm:ss, nothing glued to it.
    if let Some(clock) = after.strip_prefix(b":") {
        let len = clock
            .iter()
            .take_while(|b| b.is_ascii_digit() || **b == b':')
            .count();
        let mut parts = clock.get(..len)?.split(|b| *b == b':');
        let second = parts.next().filter(|p| p.len() == 2).and_then(decimal)?;
        let third = match parts.next() {
            Some(p) => Some(Some(p).filter(|p| p.len() == 2).and_then(decimal)?),
            None => None,
        };
        if parts.next().is_some() || second > 59 || third.is_some_and(|s| s > 59) {
            return None;
        }
        return Some(match third {
            Some(s) => number * 3600 + second * 60 + s,
            None => number * 60 + second,
        });
    }
    let unit = after
        .strip_prefix(b" ")
        .or_else(|| after.strip_prefix(b"-"))
        .unwrap_or(after);
    let word = unit.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    let factor = match unit.get(..word)? {
        b"s" | b"sec" | b"secs" | b"second" | b"seconds" => 1,
        b"m" | b"min" | b"mins" | b"minute" | b"minutes" => 60,
        b"h" | b"hr" | b"hrs" | b"hour" | b"hours" => 3600,
        b"d" | b"day" | b"days" => 86_400,
        _ => return None,
    };
    Some(number * factor)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    Some(
        digits
            .iter()
            .fold(0, |n, d| n * 10 + u64::from(d.wrapping_sub(b'0'))),
    )
}

/// Whether the words before a number make it a time to wait.
fn leads(before: &[u8]) -> bool {
    let trimmed = before.trim_ascii_end();
    let trimmed = trimmed.strip_suffix(b"(").unwrap_or(trimmed);
    let lead = LEADS.iter().any(|lead| {
        trimmed.strip_suffix(*lead).is_some_and(|rest| {
            *lead == b"=" || rest.last().is_none_or(|b| !b.is_ascii_alphanumeric())
        })
    });
    lead && ASKS
        .iter()
        .any(|ask| trimmed.windows(ask.len()).any(|w| w == *ask))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_of_known_wordings() {
        for (text, want) in [
            ("greylisted, please try again in 300 seconds", Some(300)),
            ("please retry in 5 minutes", Some(300)),
            (
                "greylisting in action, please come back in 00:05:00",
                Some(300),
            ),
            ("greylisted, come back in 04:59", Some(299)),
            ("too many connections, try again after 1 hour", Some(3600)),
            ("you have been greylisted for 60s", Some(60)),
            ("wait at least 10 min and resend", Some(600)),
            ("try again in 1 day", Some(86_400)),
            ("retry in 99999 days", Some(RETRY_HINT_S_MAX)),
            ("retry in 0 seconds", None),
            // Rates and sizes are no times.
            ("limit of 100 messages in 60 minutes reached", None),
            ("try again later, 50 messages per 5 minutes", None),
            ("retry in 12:99:00", None),
            ("retry in 12345678 seconds", None),
            ("try again later [192.0.2.1]", None),
            ("greylisted", None),
            ("", None),
        ] {
            assert_eq!(
                retry_after(text.as_bytes()).map(|d| d.as_secs()),
                want,
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn bounded_on_any_text(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(d) = retry_after(&text) {
                prop_assert!(d.as_secs() > 0 && d.as_secs() <= RETRY_HINT_S_MAX);
            }
        }
        #[test]
        fn any_number_and_unit(n in 1u64..100_000, u in 0usize..4) {
            let (unit, factor) = [("sec", 1), ("minutes", 60), ("hours", 3600), ("day", 86400)][u];
            let text = std::format!("try again in {n} {unit}.");
            let want = (n * factor).min(RETRY_HINT_S_MAX);
            prop_assert_eq!(retry_after(text.as_bytes()).unwrap().as_secs(), want);
        }
    }
}
