//! Domain names as the resolver keeps them.
//!
//! [`Name::parse`] takes what a person or a configuration wrote (ASCII, with or without the final
//! dot), [`Name::from_domain`] takes the domain of an address, U-labels included. Names that come
//! out of answers are kept whatever bytes they have (RFC 2181 11), unusual ones escaped as in a
//! zone file (`\032`), so that they can be shown; [`Name::is_hostname`] says which of them can be
//! the name of a host.
//!
//! A name is lower-case text behind one shared pointer: copies cost a counter, and comparing two
//! of them compares bytes (RFC 4343: case does not matter).

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use core::net::IpAddr;
use core::ops::Deref;

use hickory_proto::rr::Name as WireName;
use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

use crate::limits::{DNS_NAME_BYTES_MAX, LABEL_BYTES_MAX};

/// A domain name in lower case without the final dot; empty for the root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text is not a domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// A label between two dots is empty.
    EmptyLabel,
    /// A label has more than 63 octets (RFC 1035 2.3.4).
    LabelTooLong,
    /// The name has more than 255 octets on the wire (RFC 1035 2.3.4).
    TooLong,
    /// A character that no domain of mail has: anything but letters, digits, `-` and `_`.
    Character(char),
    /// The U-labels have no A-labels (RFC 5891, UTS 46).
    Idna,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyLabel => f.write_str("two dots without a label between them"),
            Self::LabelTooLong => f.write_str("a label is longer than 63 octets"),
            Self::TooLong => f.write_str("the name is longer than 255 octets"),
            Self::Character(c) => write!(f, "{c:?} can't stand in a domain name"),
            Self::Idna => f.write_str("the international name has no ASCII form (IDNA)"),
        }
    }
}
impl core::error::Error for NameError {}

impl Name {
    /// The root, `.`; the exchange of a null MX.
    pub fn root() -> Self {
        Self(Arc::from(""))
    }

    /// The name that `text` spells in ASCII: labels of letters, digits, `-` and `_`, with or
    /// without a final dot. `.` is the root, the empty text is an error.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text == "." {
            return Ok(Self::root());
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        check_lengths(text.as_bytes())?;
        if let Some(odd) = text
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
        {
            return Err(NameError::Character(odd));
        }
        Ok(Self(lower(text)))
    }

    /// The name of the domain of a mail address: as [`parse`](Self::parse), and U-labels become
    /// A-labels (RFC 5891, with the mapping of UTS 46 for people who type upper case).
    pub fn from_domain(domain: &str) -> Result<Self, NameError> {
        if domain.is_ascii() {
            return Self::parse(domain);
        }
        Self::parse(&to_ascii(domain)?)
    }

    /// The name whose labels are the bytes between dots, whatever they are, with or without a
    /// final dot: what SPF's macros make of what strangers said (RFC 7208 7.3). Bytes that need it
    /// are escaped.
    pub fn from_bytes(text: &[u8]) -> Result<Self, NameError> {
        let text = text.strip_suffix(b".").unwrap_or(text);
        check_lengths(text)?;
        Ok(Self::of_labels(text.split(|&b| b == b'.'), text.len()))
    }

    /// Labels of any bytes, escaped where they need it.
    fn of_labels<'a>(labels: impl Iterator<Item = &'a [u8]>, length: usize) -> Self {
        let mut text = String::with_capacity(length);
        for label in labels {
            if !text.is_empty() {
                text.push('.');
            }
            for &byte in label {
                escape(byte, &mut text);
            }
        }
        Self(Arc::from(text))
    }

    /// The name whose PTR records name the host at `ip` (RFC 1035 3.5, RFC 3596 2.5).
    pub fn reverse(ip: IpAddr) -> Self {
        let mut text = String::with_capacity(80);
        // Writing to a String can't fail.
        match ip {
            IpAddr::V4(v4) => {
                for octet in v4.octets().iter().rev() {
                    let _ = write!(text, "{octet}.");
                }
                text.push_str("in-addr.arpa");
            }
            IpAddr::V6(v6) => {
                for octet in v6.octets().iter().rev() {
                    let _ = write!(text, "{:x}.{:x}.", octet & 15, octet >> 4);
                }
                text.push_str("ip6.arpa");
            }
        }
        Self(Arc::from(text))
    }

    /// `prefix.self`, as in `_25._tcp.mx.example.net`.
    pub fn under(&self, prefix: &str) -> Result<Self, NameError> {
        if self.is_root() {
            return Self::parse(prefix);
        }
        let mut text = String::with_capacity(prefix.len() + 1 + self.0.len());
        text.push_str(prefix);
        text.push('.');
        text.push_str(&self.0);
        Self::parse(&text)
    }

    /// The text: lower case, no final dot, empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a host can have this name: letters, digits, `-` and `_` (which hosts should not
    /// have, but some receivers' do), and a last label that is not a number, so that it is not an
    /// IP address in a name's clothes (RFC 1123 2.1, RFC 3696 2).
    pub fn is_hostname(&self) -> bool {
        !self.is_root()
            && self
                .0
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && self
                .0
                .rsplit('.')
                .next()
                .is_some_and(|last| last.bytes().any(|b| !b.is_ascii_digit()))
    }

    /// Whether this name is `zone` or lies under it.
    pub fn is_within(&self, zone: &Self) -> bool {
        zone.is_root()
            || self
                .0
                .strip_suffix(&*zone.0)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// From the wire: any bytes.
    pub(crate) fn from_wire(wire: &WireName) -> Self {
        Self::of_labels(wire.iter(), wire.len())
    }

    /// For the wire, with the case of each letter chosen by `upper` (draft-vixie-dnsext-dns0x20).
    pub(crate) fn to_wire(&self, mut upper: impl FnMut() -> bool) -> Option<WireName> {
        if self.is_root() {
            return Some(WireName::root());
        }
        let mut labels: Vec<Vec<u8>> = Vec::with_capacity(8);
        let mut label = Vec::with_capacity(16);
        let mut bytes = self.0.bytes();
        while let Some(byte) = bytes.next() {
            let byte = match byte {
                b'.' => {
                    labels.push(core::mem::take(&mut label));
                    continue;
                }
                b'\\' => {
                    let mut value = 0u8;
                    for _ in 0..3 {
                        let digit = bytes.next()?.checked_sub(b'0')?;
                        value = value.checked_mul(10)?.checked_add(digit)?;
                    }
                    value
                }
                b'a'..=b'z' if upper() => byte.to_ascii_uppercase(),
                byte => byte,
            };
            label.push(byte);
        }
        labels.push(label);
        WireName::from_labels(labels.iter().map(Vec::as_slice)).ok()
    }

    /// Whether `wire` is this name, whatever its case, without allocating.
    pub(crate) fn matches_wire(&self, wire: &WireName) -> bool {
        let mut text = self.0.as_bytes();
        let mut first = true;
        for label in wire.iter() {
            if !first {
                let Some(rest) = text.strip_prefix(b".") else {
                    return false;
                };
                text = rest;
            }
            first = false;
            for &byte in label {
                if is_plain(byte) {
                    match text.split_first() {
                        Some((&b, rest)) if b == byte.to_ascii_lowercase() => text = rest,
                        _ => return false,
                    }
                } else {
                    let escaped = escaped(byte);
                    match text.strip_prefix(&escaped) {
                        Some(rest) => text = rest,
                        None => return false,
                    }
                }
            }
        }
        text.is_empty()
    }
}

/// Whether the labels between the dots of `text`, which has no final dot, fit into a name (RFC 1035
/// 2.3.4).
fn check_lengths(text: &[u8]) -> Result<(), NameError> {
    // Two length octets more than text: the first label's, and the root's zero.
    if text.len() + 2 > DNS_NAME_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    for label in text.split(|&b| b == b'.') {
        if label.is_empty() {
            return Err(NameError::EmptyLabel);
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err(NameError::LabelTooLong);
        }
    }
    Ok(())
}

/// Bytes that stand for themselves. A dot or a backslash inside a label is escaped.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'.' && byte != b'\\'
}

/// `\DDD` (RFC 1035 5.1).
fn escaped(byte: u8) -> [u8; 4] {
    [
        b'\\',
        b'0' + byte / 100,
        b'0' + byte / 10 % 10,
        b'0' + byte % 10,
    ]
}

fn escape(byte: u8, text: &mut String) {
    if is_plain(byte) {
        text.push(byte.to_ascii_lowercase() as char);
    } else {
        text.extend(escaped(byte).map(char::from));
    }
}

fn lower(text: &str) -> Arc<str> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        Arc::from(text.to_ascii_lowercase())
    } else {
        Arc::from(text)
    }
}

/// The ASCII form of a domain: U-labels as A-labels (RFC 5891, UTS 46 without transitional
/// processing). ASCII domains come back as they are, underscores and all.
///
/// ```
/// assert_eq!(courser_core::dns::to_ascii("Bücher.example").unwrap(), "xn--bcher-kva.example");
/// ```
pub fn to_ascii(domain: &str) -> Result<Cow<'_, str>, NameError> {
    if domain.is_ascii() {
        return Ok(Cow::Borrowed(domain));
    }
    Uts46::new()
        .to_ascii(
            domain.as_bytes(),
            AsciiDenyList::URL,
            Hyphens::Allow,
            DnsLength::VerifyAllowRootDot,
        )
        .map_err(|_| NameError::Idna)
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_root() { "." } else { &self.0 })
    }
}
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;

    #[test]
    fn parses_what_mail_uses() {
        for (text, name) in [
            ("Example.COM", "example.com"),
            ("example.com.", "example.com"),
            ("_25._tcp.mx.example", "_25._tcp.mx.example"),
            (".", ""),
        ] {
            assert_eq!(Name::parse(text).unwrap().as_str(), name);
        }
        let label = "a".repeat(64);
        let long = "abcdefg.".repeat(32);
        for (text, error) in [
            ("", NameError::EmptyLabel),
            ("a..b", NameError::EmptyLabel),
            ("..", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("a b", NameError::Character(' ')),
            ("a\\b", NameError::Character('\\')),
            ("a\u{e9}b", NameError::Character('\u{e9}')),
            (label.as_str(), NameError::LabelTooLong),
            (long.as_str(), NameError::TooLong),
        ] {
            assert_eq!(Name::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn names_of_any_bytes() {
        for (text, name) in [
            (
                b"Strong-Bad.lp._spf.example.".as_slice(),
                "strong-bad.lp._spf.example",
            ),
            (b"a b.c\\d.example", "a\\032b.c\\092d.example"),
            (b"\xff.ptr:example.com", "\\255.ptr:example.com"),
        ] {
            assert_eq!(Name::from_bytes(text).unwrap().as_str(), name);
        }
        for (text, error) in [
            (b"".as_slice(), NameError::EmptyLabel),
            (b".", NameError::EmptyLabel),
            (b"a..b", NameError::EmptyLabel),
            (&[b'a'; 64], NameError::LabelTooLong),
            (&b"abcdefg.".repeat(32), NameError::TooLong),
        ] {
            assert_eq!(Name::from_bytes(text), Err(error));
        }
        // As it comes out of an answer.
        let wire = WireName::from_labels([b"a b".as_slice(), b"example"]).unwrap();
        assert!(
            Name::from_bytes(b"A b.example")
                .unwrap()
                .matches_wire(&wire)
        );
    }

    #[test]
    fn international_domains_become_ascii() {
        assert_eq!(
            Name::from_domain("BÜCHER.example").unwrap().as_str(),
            "xn--bcher-kva.example"
        );
        assert_eq!(
            Name::from_domain("例え。テスト").unwrap().as_str(),
            "xn--r8jz45g.xn--zckzah"
        );
        assert_eq!(
            Name::from_domain("a_b.example").unwrap().as_str(),
            "a_b.example"
        );
        for bad in ["\u{200d}.example", "é..example", "é b.example"] {
            assert!(Name::from_domain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reverse_names() {
        assert_eq!(
            Name::reverse(Ipv4Addr::new(192, 0, 2, 1).into()).as_str(),
            "1.2.0.192.in-addr.arpa"
        );
        assert_eq!(
            Name::reverse(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x1f).into()).as_str(),
            "f.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
    }

    #[test]
    fn hostnames_and_zones() {
        let name = |t| Name::parse(t).unwrap();
        assert!(name("mx_1.example").is_hostname());
        assert!(!name("192.0.2.1").is_hostname());
        assert!(!Name::root().is_hostname());
        assert!(name("a.example").is_within(&name("example")));
        assert!(name("a.example").is_within(&Name::root()));
        assert!(name("example").is_within(&name("example")));
        assert!(!name("aexample").is_within(&name("example")));
        assert!(!name("example").is_within(&name("a.example")));
        assert_eq!(Name::root().to_string(), ".");
        assert_eq!(
            name("mx.example").under("_25._tcp").unwrap().as_str(),
            "_25._tcp.mx.example"
        );
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails(text in ".{0,300}") {
            let _ = Name::parse(&text);
            let _ = Name::from_domain(&text);
        }

        #[test]
        fn wire_and_back(labels in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 1..20), 0..10), case in any::<u64>()) {
            let wire = WireName::from_labels(labels.iter().map(|l| l.as_slice())).unwrap();
            let name = Name::from_wire(&wire);
            prop_assert!(name.matches_wire(&wire));
            let mut bits = case;
            let again = name.to_wire(|| { bits = bits.rotate_left(1); bits & 1 == 1 }).unwrap();
            prop_assert!(name.matches_wire(&again));
            prop_assert_eq!(Name::from_wire(&again), name.clone());
            let longer = name.under("x");
            if let Ok(longer) = longer {
                prop_assert!(!longer.matches_wire(&wire));
            }
        }
    }
}
