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

/// Where the trigram of these three (folded) bytes is noted.
const fn slot(a: u8, b: u8, c: u8) -> (usize, u64) {
    let key = (a as u32) | ((b as u32) << 8) | ((c as u32) << 16);
    // Fibonacci hashing: the top 12 bits of the product.
    let hash = (key.wrapping_mul(0x9E37_79B1) >> 20) as usize;
    (hash / 64, 1 << (hash % 64))
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
            let (word, bit) = slot(a, b, c);
            folded.trigrams[word % (TRIGRAM_BITS / 64)] |= bit;
            (a, b) = (b, c);
        }
        folded
    }

    /// The folded text.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// Whether `needle` is in the text, in any case.
    pub(super) fn contains(&self, needle: &str) -> bool {
        let needle = needle.as_bytes();
        let possible = needle.windows(3).all(|w| {
            let (word, bit) = match w {
                [a, b, c] => slot(
                    a.to_ascii_lowercase(),
                    b.to_ascii_lowercase(),
                    c.to_ascii_lowercase(),
                ),
                _ => return false,
            };
            self.trigrams[word % (TRIGRAM_BITS / 64)] & bit != 0
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
        }
    }
}
