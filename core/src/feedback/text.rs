//! Reply text folded for many searches.
//!
//! A judge asks some hundreds of needles of one text. So the text is folded once (lower case, one
//! space for each run of white space) and its trigrams are noted in a small bit set: nearly every
//! needle that isn't there is refused after one or two bits.

use crate::limits::REPLY_TEXT_BYTES_MAX;

/// Bits of the trigram set; a power of two. A text of 200 bytes fills a twentieth of it.
const TRIGRAM_BITS: usize = 4096;

/// Folded text of bounded length.
pub(super) struct Folded {
    bytes: [u8; REPLY_TEXT_BYTES_MAX],
    len: usize,
    trigrams: [u64; TRIGRAM_BITS / 64],
}

/// The place of the trigram of these three bytes, folded or not.
const fn slot(a: u8, b: u8, c: u8) -> u16 {
    let key = (a.to_ascii_lowercase() as u32)
        | ((b.to_ascii_lowercase() as u32) << 8)
        | ((c.to_ascii_lowercase() as u32) << 16);
    // Fibonacci hashing: the top 12 bits of the product.
    (key.wrapping_mul(0x9E37_79B1) >> 20) as u16
}

/// The first and the last trigram of a needle, so that one that is asked often can be refused
/// without looking at it.
#[derive(Clone, Copy)]
pub(super) struct Probe {
    first: u16,
    last: u16,
}

impl Probe {
    /// For an array to be filled.
    pub(super) const NONE: Self = Self { first: 0, last: 0 };

    /// The probe of `needle`, of at least three bytes.
    pub(super) const fn of(needle: &str) -> Self {
        let n = needle.as_bytes();
        let last = n.len() - 3;
        Self {
            first: slot(n[0], n[1], n[2]),
            last: slot(n[last], n[last + 1], n[last + 2]),
        }
    }
}

impl Folded {
    /// Folds `text`; what is longer than a reply may be is cut.
    pub(super) fn new(text: &[u8]) -> Self {
        let mut folded = Self {
            bytes: [0; REPLY_TEXT_BYTES_MAX],
            len: 0,
            trigrams: [0; TRIGRAM_BITS / 64],
        };
        let (mut a, mut b) = (0, 0);
        for &byte in text {
            let c = match byte {
                b' ' | b'\t' | b'\r' | b'\n' if b == b' ' => continue,
                b'\t' | b'\r' | b'\n' => b' ',
                other => other.to_ascii_lowercase(),
            };
            let Some(place) = folded.bytes.get_mut(folded.len) else {
                break;
            };
            *place = c;
            folded.len += 1;
            let place = usize::from(slot(a, b, c));
            folded.trigrams[place / 64 % (TRIGRAM_BITS / 64)] |= 1 << (place % 64);
            (a, b) = (b, c);
        }
        folded
    }

    /// The folded text.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    fn has(&self, slot: u16) -> bool {
        let place = usize::from(slot);
        self.trigrams[place / 64 % (TRIGRAM_BITS / 64)] & (1 << (place % 64)) != 0
    }

    /// False if the needle of this probe can't be in the text.
    pub(super) fn may_contain(&self, probe: Probe) -> bool {
        self.has(probe.first) && self.has(probe.last)
    }

    /// Whether `needle` is in the text, in any case.
    pub(super) fn contains(&self, needle: &str) -> bool {
        let needle = needle.as_bytes();
        let possible = needle.windows(3).all(|w| match w {
            [a, b, c] => self.has(slot(*a, *b, *c)),
            _ => false,
        });
        possible
            && (needle.is_empty()
                || self
                    .as_bytes()
                    .windows(needle.len())
                    .any(|w| w.eq_ignore_ascii_case(needle)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::String;

    #[test]
    fn folds_case_and_white_space() {
        let text = Folded::new(b"Too  Many\r\n\tConnections");
        assert_eq!(text.as_bytes(), b"too many connections");
        assert!(text.contains("MANY conn"));
        assert!(text.contains("s") && text.contains("") && !text.contains("manyc"));
    }

    proptest! {
        /// The trigram set never hides what is there.
        #[test]
        fn finds_what_a_plain_search_finds(text in "[a-d ]{0,60}", needle in "[a-d]{0,5}") {
            let folded = Folded::new(text.as_bytes());
            let plain = String::from_utf8(folded.as_bytes().into()).unwrap().contains(&needle);
            prop_assert_eq!(folded.contains(&needle), plain);
            if needle.len() >= 3 {
                prop_assert!(folded.may_contain(Probe::of(&needle)) || !plain);
            }
        }
    }
}
