//! Passwords and names in the one form that both ends compare (RFC 4013).
//!
//! Printable ASCII is what it is. Of the rest: spaces of all kinds become the usual one (2.1),
//! characters that say nothing go (2.1, RFC 3454 B.1), then comes NFKC (2.2), and what can't be
//! told by eye (controls, private use, noncharacters, changes of direction, tags; 2.3) is refused.
//! Left out of RFC 4013: that right-to-left text must not be mixed (2.4) and that characters newer
//! than Unicode 3.2 are no matter of comparison (2.5). They would only refuse passwords, and both
//! ends come to the same octets without them.

use alloc::string::String;
use core::fmt;

use icu_normalizer::ComposingNormalizerBorrowed;
use zeroize::Zeroizing;

/// A character that can't be told by eye, so that nobody could type it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prohibited;

impl fmt::Display for Prohibited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a character that can't be typed again, such as a control character")
    }
}
impl core::error::Error for Prohibited {}

/// `text` as it is to be hashed, compared or looked up. It is wiped when it is dropped.
///
/// # Errors
/// [`Prohibited`].
pub fn prepare(text: &str) -> Result<Zeroizing<String>, Prohibited> {
    if text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return Ok(Zeroizing::new(String::from(text)));
    }
    // Room for the worst that NFKC makes of ordinary text: a string that grows leaves its old
    // octets behind.
    let mut mapped = Zeroizing::new(String::with_capacity(text.len()));
    for c in text.chars().filter(|c| !says_nothing(*c)) {
        mapped.push(if is_space(c) { ' ' } else { c });
    }
    let normalizer = ComposingNormalizerBorrowed::new_nfkc();
    let mut normal = Zeroizing::new(String::with_capacity(text.len().saturating_mul(2)));
    for c in normalizer.normalize_iter(mapped.chars()) {
        if is_prohibited(c) {
            return Err(Prohibited);
        }
        normal.push(c);
    }
    Ok(normal)
}

/// RFC 3454 C.1.2.
const fn is_space(c: char) -> bool {
    matches!(
        c,
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200b}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
    )
}

/// RFC 3454 B.1; the zero width space is a space, as in RFC 4013 2.1.
const fn says_nothing(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{1806}' | '\u{180b}'..='\u{180d}' | '\u{200c}' | '\u{200d}'
            | '\u{2060}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
    )
}

/// RFC 3454 C.2 to C.9.
fn is_prohibited(c: char) -> bool {
    let point = u32::from(c);
    c.is_control()
        || matches!(
            c,
            '\u{6dd}' | '\u{70f}' | '\u{180e}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2061}'..='\u{2063}' | '\u{206a}'..='\u{206f}' | '\u{2ff0}'..='\u{2ffb}'
                | '\u{340}' | '\u{341}' | '\u{fff9}'..='\u{fffd}' | '\u{e0001}'
                | '\u{e0020}'..='\u{e007f}' | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}'
                | '\u{1d173}'..='\u{1d17a}' | '\u{f0000}'..='\u{10ffff}'
        )
        || point & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn examples_of_rfc_4013() {
        for (text, prepared) in [
            ("I\u{ad}X", Some("IX")),
            ("user", Some("user")),
            ("USER", Some("USER")),
            ("\u{aa}", Some("a")),
            ("\u{2168}", Some("IX")),
            ("\u{7}", None),
        ] {
            assert_eq!(prepare(text).ok().as_deref().map(|s| &**s), prepared);
        }
    }

    #[test]
    fn the_same_to_the_eye_is_the_same() {
        let all = ["cafe\u{301}\u{a0}\u{216b}", "caf\u{e9} XII", "ca\u{fb01}"];
        assert_eq!(*prepare(all[0]).unwrap(), *prepare(all[1]).unwrap());
        assert_eq!(**prepare(all[2]).unwrap(), *"cafi");
        for bad in [
            "a\u{202e}b",
            "\u{e000}",
            "\u{10ffff}",
            "tab\t",
            "\u{fffd}",
            "\u{7f}",
        ] {
            assert!(prepare(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_prepared_stays(text: String) {
            if let Ok(once) = prepare(&text) {
                prop_assert_eq!(prepare(&once), Ok(once));
            }
        }
    }
}
