//! The encodings of DSN parameters: xtext (RFC 3461 4), utf-8-addr-xtext and
//! utf-8-addr-unitext (RFC 6533 3).
//!
//! Encoding is `Display` of [`Xtext`], [`Utf8AddrXtext`] or [`Utf8AddrUnitext`], decoding an
//! iterator from [`decode`] or [`decode_utf8_addr`]; none of them needs a buffer of its own.
//!
//! ```
//! use courser_core::smtp::xtext::{Utf8AddrXtext, Xtext, decode, decode_utf8_addr};
//! assert_eq!(Xtext(b"a+b=c d").to_string(), "a+2Bb+3Dc+20d");
//! assert!(decode(b"a+2Bb").unwrap().eq(*b"a+b"));
//! assert_eq!(Utf8AddrXtext("p+ü@example.org").to_string(), r"p\x{2B}\x{FC}@example.org");
//! assert!(decode_utf8_addr(r"p\x{2B}ü").unwrap().eq("p+ü".chars()));
//! ```
//!
//! ```text
//! xtext              = *( %x21-7E without "+" and "=" / "+" 2HEXDIG )
//! utf-8-addr-xtext   = 1*( %x21-7E without "+", "=", "\" / embedded )
//! utf-8-addr-unitext = the same, and UTF-8 as it is
//! embedded           = "\x{" 2*6HEXDIG "}"
//! ```
//!
//! Lower case hex is taken although the grammars ask for upper case.

use core::fmt;

/// Octets, shown as xtext (RFC 3461 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xtext<'a>(pub &'a [u8]);

impl fmt::Display for Xtext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for &b in self.0 {
            match b {
                b'+' | b'=' => write!(f, "+{b:02X}")?,
                b'!'..=b'~' => f.write_char(char::from(b))?,
                _ => write!(f, "+{b:02X}")?,
            }
        }
        Ok(())
    }
}

/// Whether `bytes` are xtext; nothing at all is.
pub fn is_xtext(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        match take_octet(rest) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

/// The octets that `encoded` stands for, or `None` if it is no xtext. They may be any, also CR
/// and LF; [`is_text`] is what protocol elements need.
pub fn decode(encoded: &[u8]) -> Option<Decoded<'_>> {
    is_xtext(encoded).then_some(Decoded { rest: encoded })
}

/// Whether `bytes` are xtext of a text without control characters, as `ENVID=` (RFC 3461 4.4)
/// and addresses must be: what is decoded then can't break a header field or a command.
pub fn is_text(bytes: &[u8]) -> bool {
    decode(bytes).is_some_and(|mut octets| octets.all(|b| !b.is_ascii_control()))
}

/// The octets of an xtext; see [`decode`].
#[derive(Clone, Debug)]
pub struct Decoded<'a> {
    rest: &'a [u8],
}

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (octet, rest) = take_octet(self.rest)?;
        self.rest = rest;
        Some(octet)
    }
}

fn take_octet(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        [b'+', high, low, rest @ ..] => {
            let digit = |d: u8| char::from(d).to_digit(16);
            let octet = digit(*high)? << 4 | digit(*low)?;
            Some((u8::try_from(octet).ok()?, rest))
        }
        [b'+' | b'=', ..] => None,
        [octet @ b'!'..=b'~', rest @ ..] => Some((*octet, rest)),
        _ => None,
    }
}

/// An address, shown in ASCII as utf-8-addr-xtext: the form for a peer without SMTPUTF8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utf8AddrXtext<'a>(pub &'a str);

/// An address, shown as utf-8-addr-unitext: the form for a peer with SMTPUTF8 and for
/// `message/global-delivery-status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utf8AddrUnitext<'a>(pub &'a str);

/// The ASCII characters that stand for themselves (QCHAR).
fn is_qchar(c: char) -> bool {
    matches!(c, '!'..='~') && !matches!(c, '+' | '=' | '\\')
}

fn embed(f: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    write!(f, "\\x{{{:02X}}}", u32::from(c))
}

impl fmt::Display for Utf8AddrXtext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        self.0.chars().try_for_each(|c| match is_qchar(c) {
            true => f.write_char(c),
            false => embed(f, c),
        })
    }
}

impl fmt::Display for Utf8AddrUnitext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        let itself = |c: char| is_qchar(c) || !c.is_ascii() && !c.is_control();
        self.0.chars().try_for_each(|c| match itself(c) {
            true => f.write_char(c),
            false => embed(f, c),
        })
    }
}

/// Whether `text` is a utf-8-addr-xtext or utf-8-addr-unitext; nothing at all is.
pub fn is_utf8_addr(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        match take_char(rest) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

/// The characters that `encoded` stands for, or `None` if it has neither form.
pub fn decode_utf8_addr(encoded: &str) -> Option<DecodedUtf8Addr<'_>> {
    is_utf8_addr(encoded).then_some(DecodedUtf8Addr { rest: encoded })
}

/// The characters of an encoded address; see [`decode_utf8_addr`].
#[derive(Clone, Debug)]
pub struct DecodedUtf8Addr<'a> {
    rest: &'a str,
}

impl Iterator for DecodedUtf8Addr<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let (c, rest) = take_char(self.rest)?;
        self.rest = rest;
        Some(c)
    }
}

fn take_char(text: &str) -> Option<(char, &str)> {
    if let Some(rest) = text.strip_prefix("\\x{") {
        let (hex, rest) = rest.split_once('}')?;
        let c = point(hex)?;
        return Some((c, rest));
    }
    let mut chars = text.chars();
    let c = chars.next()?;
    let itself = is_qchar(c) || !c.is_ascii() && !c.is_control();
    itself.then_some((c, chars.as_str()))
}

/// HEXPOINT of RFC 6533 3: of ASCII only what can't stand for itself, no leading zeros, no
/// surrogates. Control characters, some of which the grammar lets through, are in no address
/// and are refused.
fn point(hex: &str) -> Option<char> {
    let digits = hex.bytes().all(|b| b.is_ascii_hexdigit());
    if !digits || !(2..=6).contains(&hex.len()) || hex.starts_with('0') {
        return None;
    }
    let c = char::from_u32(u32::from_str_radix(hex, 16).ok()?)?;
    (!c.is_control() && !is_qchar(c)).then_some(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    #[test]
    fn xtext_refused() {
        for bad in ["+", "+2", "+2G", "a=b", "a b", "\u{7f}", "ü", "a\n", "+ 2"] {
            assert!(!is_xtext(bad.as_bytes()), "{bad:?}");
            assert!(decode(bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert!(is_xtext(b"a+0D+0A") && !is_text(b"a+0D+0A") && is_text(b"a+20b"));
        assert!(is_xtext(b"") && is_xtext(b"<>") && is_xtext(b"+2b"));
    }

    #[test]
    fn utf8_addr_refused() {
        for bad in [
            "a+b",
            "a=b",
            "a b",
            "\\",
            "\\x",
            "\\x{",
            "\\x{}",
            "\\x{2}",
            "\\x{41}",
            "\\x{00}",
            "\\x{0D}",
            "\\x{7F}",
            "\\x{85}",
            "\\x{D800}",
            "\\x{110000}",
            "\\x{00FC}",
            "\\x{0000020}",
            "\\x{+2B}",
            "\u{85}",
        ] {
            assert!(!is_utf8_addr(bad), "{bad:?}");
        }
    }

    #[test]
    fn unitext_leaves_utf8_alone() {
        assert_eq!(
            Utf8AddrUnitext("ü+\\ é").to_string(),
            "ü\\x{2B}\\x{5C}\\x{20}é"
        );
    }

    proptest! {
        #[test]
        fn xtext_decodes_to_what_was_encoded(raw: Vec<u8>) {
            let text = Xtext(&raw).to_string();
            prop_assert!(is_xtext(text.as_bytes()));
            prop_assert_eq!(decode(text.as_bytes()).map(Iterator::collect), Some(raw));
        }

        #[test]
        fn utf8_addr_decodes_to_what_was_encoded(raw in "\\PC*") {
            let ascii = Utf8AddrXtext(&raw).to_string();
            prop_assert!(ascii.is_ascii());
            prop_assert_eq!(decode_utf8_addr(&ascii).map(String::from_iter), Some(raw.clone()));
            let utf8 = Utf8AddrUnitext(&raw).to_string();
            prop_assert_eq!(decode_utf8_addr(&utf8).map(String::from_iter), Some(raw.clone()));
        }

        #[test]
        fn any_text(text: String) {
            let _ = decode(text.as_bytes()).map(Iterator::count);
            let _ = decode_utf8_addr(&text).map(Iterator::count);
        }
    }
}
