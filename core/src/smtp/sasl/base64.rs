//! Base64 as SASL within SMTP has it (RFC 4954 4, RFC 4648 4): with padding, without anything
//! else, and only one text for each value.

use base64ct::{Base64, Encoding};

use super::Secret;

/// What `text` says, if it is base64 of no more than `N` octets.
pub(super) fn decode<const N: usize>(text: &[u8]) -> Option<Secret<N>> {
    Secret::filled(|room| Some(Base64::decode(text, room).ok()?.len()))
}

/// Writes `bytes` to `out`; how many characters they are. `None` if they don't fit.
pub(super) fn encode(bytes: &[u8], out: &mut [u8]) -> Option<usize> {
    Some(Base64::encode(bytes, out).ok()?.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn only_one_text_for_each_value() {
        for (text, value) in [
            ("", Some(&b""[..])),
            ("AA==", Some(&[0])),
            ("AAA=", Some(&[0, 0])),
            ("AAAA", Some(&[0, 0, 0])),
            // Not padded, too much of it, bits that say nothing, other alphabets, other octets.
            ("AA", None),
            ("AA=", None),
            ("AAAA====", None),
            ("AB==", None),
            ("AAB=", None),
            ("-_8=", None),
            ("AA ==", None),
            ("AA==\n", None),
            ("=", None),
            ("====", None),
            ("AA==AA==", None),
        ] {
            assert_eq!(decode::<8>(text.as_bytes()).as_deref(), value, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut text = [0; 64];
            let n = encode(&bytes, &mut text).unwrap();
            let read = decode::<40>(&text[..n]);
            prop_assert_eq!(read.as_deref(), Some(&bytes[..]));
            // And into no less room than it needs.
            let small = decode::<20>(&text[..n]);
            prop_assert_eq!(small.is_some(), bytes.len() <= 20);
        }

        #[test]
        fn what_is_read_is_what_would_be_written(text: Vec<u8>) {
            if let Some(value) = decode::<64>(&text) {
                let mut again = [0; 128];
                let n = encode(&value, &mut again).unwrap();
                prop_assert_eq!(&again[..n], &text[..]);
            }
        }
    }
}
