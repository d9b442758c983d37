//! Names of messages and deliveries: `01jd8x3m5k9qz`, `01jd8x3m5k9qz.4`.
//!
//! A message id is shown as 13 characters of Crockford's base32, lower case; a delivery is its
//! message, a dot, and the position of its recipient in the envelope.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// 32 characters without i, l, o and u.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of a message id: 13 × 5 bits hold 64.
const CHARACTERS: usize = 13;

/// A message's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; CHARACTERS];
        for (i, c) in text.iter_mut().rev().enumerate() {
            *c = ALPHABET[(self.0 >> (5 * i)) as usize & 31];
        }
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// What is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a message id (13 characters such as 01jd8x3m5k9qz) or a delivery's \
     (01jd8x3m5k9qz.0)"
)]
pub struct NotAnId(String);

impl FromStr for MessageId {
    type Err = NotAnId;
    /// Reads upper case too, and o, i and l as the digits that they look like.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let wrong = || NotAnId(text.to_owned());
        if text.len() != CHARACTERS {
            return Err(wrong());
        }
        let mut id = 0u64;
        for (i, c) in text.bytes().enumerate() {
            let c = match c.to_ascii_lowercase() {
                b'o' => b'0',
                b'i' | b'l' => b'1',
                c => c,
            };
            let digit = ALPHABET.iter().position(|a| *a == c).ok_or_else(wrong)?;
            // 65 bits in the text, 64 in the id.
            if i == 0 && digit > 15 {
                return Err(wrong());
            }
            id = id << 5 | digit as u64;
        }
        Ok(Self(id))
    }
}

/// All deliveries of a message, or one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliverySelector {
    /// The message.
    pub message: MessageId,
    /// The position of the recipient; `None`: all of them.
    pub recipient: Option<u32>,
}

impl fmt::Display for DeliverySelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.recipient {
            Some(index) => write!(f, "{}.{index}", self.message),
            None => self.message.fmt(f),
        }
    }
}

impl FromStr for DeliverySelector {
    type Err = NotAnId;
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let wrong = |_| NotAnId(text.to_owned());
        Ok(match text.split_once('.') {
            Some((message, index)) => Self {
                message: message.parse().map_err(wrong)?,
                recipient: Some(index.parse().map_err(|_| NotAnId(text.to_owned()))?),
            },
            None => Self {
                message: text.parse().map_err(wrong)?,
                recipient: None,
            },
        })
    }
}

macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
as_text!(MessageId, DeliverySelector);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_have_13_characters() {
        assert_eq!(MessageId(0).to_string(), "0000000000000");
        assert_eq!(MessageId(u64::MAX).to_string(), "fzzzzzzzzzzzz");
        assert_eq!("FZZZZZZZZZZZZ".parse(), Ok(MessageId(u64::MAX)));
        assert_eq!("oooooooooooil".parse(), Ok(MessageId(33)));
        for wrong in [
            "",
            "g000000000000",
            "000000000000",
            "000000000000u",
            "00000000000é",
        ] {
            assert!(wrong.parse::<MessageId>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(id: u64, recipient: Option<u32>) {
            let it = DeliverySelector { message: MessageId(id), recipient };
            prop_assert_eq!(it.to_string().parse(), Ok(it));
            prop_assert_eq!(it.to_string().to_uppercase().parse(), Ok(it));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,20}") {
            let _ = text.parse::<DeliverySelector>();
        }

        #[test]
        fn texts_sort_as_ids_do(a: u64, b: u64) {
            let text = |id| MessageId(id).to_string();
            prop_assert_eq!(a.cmp(&b), text(a).cmp(&text(b)));
        }
    }
}
