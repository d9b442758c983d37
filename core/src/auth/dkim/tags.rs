//! Tag lists (RFC 6376 3.2): what signatures and key records are written in.
//!
//! ```text
//! tag-list  = tag-spec *( ";" tag-spec ) [ ";" ]
//! tag-spec  = [FWS] tag-name [FWS] "=" [FWS] tag-value [FWS]
//! tag-name  = ALPHA *( ALPHA / DIGIT / "_" )
//! tag-value = [ tval *( 1*FWS tval ) ]     tval = 1*( %x21-3A / %x3C-7E / UTF-8 )
//! ```
//!
//! White space behind the last `;` is taken, because many records have it. Beyond ASCII, UTF-8 is
//! taken (RFC 8616 4). A list in which a tag comes twice is invalid as a whole.

use crate::limits::DKIM_TAGS_MAX;
use core::fmt;
use core::ops::Range;
use heapless::Vec;

/// One `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag<'a> {
    /// Its name; case matters.
    pub name: &'a str,
    /// Its value without white space at the ends; there may be folding within.
    pub value: &'a str,
    /// Where everything between `=` and `;` lies in the list.
    pub span: Range<usize>,
}

/// A tag list, borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tags<'a>(Vec<Tag<'a>, DKIM_TAGS_MAX>);

/// Why a text is no tag list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TagError {
    /// There is no tag.
    Empty,
    /// A part between semicolons is no `name=value`.
    Syntax,
    /// An octet that no value has: a control character, or not UTF-8.
    Octet,
    /// A tag comes twice.
    Duplicate,
    /// More than [`DKIM_TAGS_MAX`].
    TooMany,
}

impl fmt::Display for TagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it has no tags"),
            Self::Syntax => f.write_str("a part between semicolons is not name=value"),
            Self::Octet => f.write_str("a control character, or an octet that is not UTF-8"),
            Self::Duplicate => f.write_str("a tag comes twice"),
            Self::TooMany => write!(f, "more than {DKIM_TAGS_MAX} tags"),
        }
    }
}
impl core::error::Error for TagError {}

impl<'a> Tags<'a> {
    /// Reads a tag list.
    pub fn parse(list: &'a [u8]) -> Result<Self, TagError> {
        let list = core::str::from_utf8(list).map_err(|_| TagError::Octet)?;
        if list
            .bytes()
            .any(|b| b.is_ascii_control() && !matches!(b, b'\t' | b'\r' | b'\n'))
        {
            return Err(TagError::Octet);
        }
        let mut tags = Self(Vec::new());
        let mut from = 0;
        for part in list.split(';') {
            let at = from;
            from += part.len() + 1;
            if from > list.len() && trim(part).is_empty() && !tags.0.is_empty() {
                break;
            }
            if trim(part).is_empty() && from > list.len() {
                return Err(TagError::Empty);
            }
            let (name, value) = part.split_once('=').ok_or(TagError::Syntax)?;
            let span = at + name.len() + 1..at + part.len();
            let name = trim(name);
            let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.bytes().all(good) {
                return Err(TagError::Syntax);
            }
            if tags.get(name).is_some() {
                return Err(TagError::Duplicate);
            }
            let value = trim(value);
            let tag = Tag { name, value, span };
            tags.0.push(tag).map_err(|_| TagError::TooMany)?;
        }
        Ok(tags)
    }

    /// The value of the tag of this name.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.find(name).map(|tag| tag.value)
    }

    /// The tag of this name.
    pub fn find(&self, name: &str) -> Option<&Tag<'a>> {
        self.0.iter().find(|tag| tag.name == name)
    }

    /// The first tag.
    pub fn first(&self) -> Option<&Tag<'a>> {
        self.0.first()
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = &Tag<'a>> {
        self.0.iter()
    }
}

/// `name=value; name=value`, values without folding.
impl fmt::Display for Tags<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, tag) in self.iter().enumerate() {
            let between = if n == 0 { "" } else { "; " };
            write!(f, "{between}{}=", tag.name)?;
            for (n, word) in tag.value.split_ascii_whitespace().enumerate() {
                write!(f, "{}{word}", if n == 0 { "" } else { " " })?;
            }
        }
        Ok(())
    }
}

/// `text` without white space and folding at its ends.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(|c| matches!(c, ' ' | '\t' | '\r' | '\n'))
}

/// The parts of a list with colons, trimmed.
pub(crate) fn colons(list: &str) -> impl Iterator<Item = &str> + Clone {
    list.split(':').map(trim)
}

/// The octets that base64 `text` stands for; white space in it is passed over (RFC 6376 3.2).
pub(crate) fn base64(text: &str) -> Option<alloc::vec::Vec<u8>> {
    use base64ct::{Base64, Encoding};
    if text.bytes().any(|b| b.is_ascii_whitespace()) {
        let text: alloc::string::String = text.split_ascii_whitespace().collect();
        return Base64::decode_vec(&text).ok();
    }
    Base64::decode_vec(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn lists_that_are_right() {
        for (list, shown) in [
            ("a=b", "a=b"),
            ("a=b;", "a=b"),
            ("a=b; \r\n", "a=b"),
            (" a = b c\r\n\td ;e_1=", "a=b c d; e_1="),
            ("a=b=c; A=1", "a=b=c; A=1"),
            ("n=Gr\u{fc}\u{df}e", "n=Gr\u{fc}\u{df}e"),
        ] {
            let tags = Tags::parse(list.as_bytes()).unwrap();
            assert_eq!(tags.to_string(), shown, "{list:?}");
        }
        let list = "v=1; b= x\r\n y ;c=";
        let tags = Tags::parse(list.as_bytes()).unwrap();
        assert_eq!(&list[tags.find("b").unwrap().span.clone()], " x\r\n y ");
        assert_eq!(tags.get("c"), Some(""));
        assert_eq!(tags.get("d"), None);
    }

    #[test]
    fn lists_that_are_wrong() {
        for (list, error) in [
            (b"" as &[u8], TagError::Empty),
            (b" \r\n", TagError::Empty),
            (b";", TagError::Syntax),
            (b"a=b;;c=d", TagError::Syntax),
            (b"a", TagError::Syntax),
            (b"=b", TagError::Syntax),
            (b"1a=b", TagError::Syntax),
            (b"a-b=c", TagError::Syntax),
            (b"a b=c", TagError::Syntax),
            (b"a=b; a=c", TagError::Duplicate),
            (b"a=\0", TagError::Octet),
            (b"a=\xff", TagError::Octet),
        ] {
            assert_eq!(Tags::parse(list), Err(error), "{list:?}");
        }
        let many: alloc::string::String = (0..=DKIM_TAGS_MAX)
            .map(|n| alloc::format!("t{n}=;"))
            .collect();
        assert_eq!(Tags::parse(many.as_bytes()), Err(TagError::TooMany));
    }

    #[test]
    fn base64_with_folding() {
        assert_eq!(base64("YWJj\r\n ZA=="), Some(b"abcd".to_vec()));
        assert_eq!(base64("YWJjZA"), None);
        assert_eq!(base64("Y!=="), None);
    }

    proptest! {
        #[test]
        fn spans_lie_in_the_list(list in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(tags) = Tags::parse(&list) {
                for tag in tags.iter() {
                    let text = core::str::from_utf8(&list[tag.span.clone()]).unwrap();
                    prop_assert_eq!(trim(text), tag.value);
                }
            }
        }
    }
}
