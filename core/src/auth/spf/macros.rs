//! Macro-strings (RFC 7208 7.1): what stands in domain names and explanations of SPF.
//!
//! ```text
//! domain-spec    = macro-string domain-end
//! domain-end     = ( "." toplabel [ "." ] ) / macro-expand
//! toplabel       = alphanum and "-", not "-" at its ends, not digits alone
//! explain-string = *( macro-string / SP )
//! macro-string   = *( macro-expand / %x21-24 / %x26-7E )
//! macro-expand   = ( "%{" macro-letter *DIGIT [ "r" ] *delimiter "}" ) / "%%" / "%_" / "%-"
//! macro-letter   = "s" / "l" / "o" / "d" / "i" / "p" / "h" / "c" / "r" / "t" / "v"
//! delimiter      = "." / "-" / "+" / "," / "/" / "_" / "="
//! ```
//!
//! [`MacroString::parse`] checks once; `domain` and `explanation` expand what it checked. `Display`
//! gives the text back.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use core::net::IpAddr;

use super::record::{SyntaxError, What};
use crate::limits::{SPF_EXPLANATION_BYTES_MAX, SPF_TARGET_BYTES_MAX};
use crate::time::Wall;

/// Where a macro-string stands; decides what may be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A domain-spec: ends like a domain; no spaces, none of `c`, `r` and `t`.
    Domain,
    /// The value of a modifier that nobody knows: no spaces, none of `c`, `r` and `t`.
    Modifier,
    /// The text of an explanation: everything.
    Explanation,
}

/// What a macro stands for (RFC 7208 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Letter {
    /// `s`: the sender.
    Sender,
    /// `l`: the sender's local part.
    Local,
    /// `o`: the sender's domain.
    SenderDomain,
    /// `d`: the domain whose record is evaluated.
    Domain,
    /// `i`: the client's address, in dots.
    Address,
    /// `p`: the client's validated name.
    Validated,
    /// `v`: `in-addr` or `ip6`.
    Version,
    /// `h`: the name in HELO or EHLO.
    Hello,
    /// `c`: the client's address, as people write it.
    Readable,
    /// `r`: the name of the host that checks.
    Receiver,
    /// `t`: seconds since 1970.
    Time,
}

impl Letter {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte.to_ascii_lowercase() {
            b's' => Self::Sender,
            b'l' => Self::Local,
            b'o' => Self::SenderDomain,
            b'd' => Self::Domain,
            b'i' => Self::Address,
            b'p' => Self::Validated,
            b'v' => Self::Version,
            b'h' => Self::Hello,
            b'c' => Self::Readable,
            b'r' => Self::Receiver,
            b't' => Self::Time,
            _ => return None,
        })
    }

    /// Only for explanations (RFC 7208 7.2).
    fn explains(self) -> bool {
        matches!(self, Self::Readable | Self::Receiver | Self::Time)
    }
}

/// `%{…}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Macro<'a> {
    /// What it stands for.
    pub(crate) letter: Letter,
    /// Whether the letter is upper case: what comes out is escaped for a URL.
    pub(crate) escape: bool,
    /// How many parts are kept, from the right; `None` for all.
    pub(crate) keep: Option<usize>,
    /// Whether the parts are reversed first.
    pub(crate) reverse: bool,
    /// What lies between the parts; `.` where empty.
    pub(crate) delimiters: &'a str,
}

/// A piece of a macro-string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Text that stands for itself.
    Literal(&'a str),
    /// `%{…}`.
    Macro(Macro<'a>),
    /// `%%`, `%_` or `%-`: what it stands for.
    Escaped(&'static str),
}

/// What macros stand for in one evaluation (RFC 7208 7.2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// The client's address.
    pub(crate) ip: IpAddr,
    /// The sender's local part.
    pub(crate) local: &'a str,
    /// The sender's domain.
    pub(crate) sender_domain: &'a str,
    /// The domain whose record is evaluated.
    pub(crate) domain: &'a str,
    /// The name in HELO or EHLO.
    pub(crate) helo: &'a str,
    /// The name of the host that checks; `unknown` where it has none (RFC 7208 7.3).
    pub(crate) receiver: &'a str,
    /// The client's validated name, or `unknown`.
    pub(crate) validated: &'a str,
    /// Now.
    pub(crate) now: Wall,
}

/// A macro-string that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacroString<'a>(&'a str);

impl<'a> MacroString<'a> {
    /// Reads `text`, which is printable ASCII, as it may stand at `place`.
    ///
    /// # Errors
    /// What is wrong, and at which octet of `text`.
    pub fn parse(text: &'a str, place: Place) -> Result<Self, SyntaxError> {
        let mut parts = Parts { text, at: 0 };
        let mut last = None;
        loop {
            let at = parts.at;
            let Some(part) = parts.read().map_err(|what| SyntaxError { at, what })? else {
                break;
            };
            match part {
                Part::Literal(literal) => {
                    let bad = |b: u8| match b {
                        b' ' => place != Place::Explanation,
                        b => !b.is_ascii_graphic(),
                    };
                    if let Some((n, byte)) = literal.bytes().enumerate().find(|&(_, b)| bad(b)) {
                        return Err(SyntaxError {
                            at: at + n,
                            what: What::Character(byte),
                        });
                    }
                }
                Part::Macro(m) if m.letter.explains() && place != Place::Explanation => {
                    return Err(SyntaxError {
                        at,
                        what: What::MacroOfExplanation,
                    });
                }
                _ => {}
            }
            last = Some((at, part));
        }
        if place == Place::Domain {
            match last {
                None => {
                    return Err(SyntaxError {
                        at: 0,
                        what: What::NoDomain,
                    });
                }
                Some((at, Part::Literal(literal))) if !ends_in_top_label(literal) => {
                    return Err(SyntaxError {
                        at,
                        what: What::TopLabel,
                    });
                }
                _ => {}
            }
        }
        Ok(Self(text))
    }

    /// The text as it was read.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Its pieces, in order.
    fn parts(self) -> Parts<'a> {
        Parts {
            text: self.0,
            at: 0,
        }
    }

    /// Whether a macro of this kind is in it.
    pub(crate) fn uses(self, letter: Letter) -> bool {
        self.0.contains('%')
            && self
                .parts()
                .any(|part| matches!(part, Part::Macro(m) if m.letter == letter))
    }

    /// The domain that it stands for, without a final dot. Of one that is too long, labels are
    /// cut off at the left (RFC 7208 7.3). It need not be a valid name.
    pub(crate) fn domain(self, context: &Context<'_>) -> String {
        self.domain_of(|part, out| expand(part, context, out))
    }

    /// The same with another way to expand. It goes from the right and stops where all that is
    /// left would be cut off: a record can stand for a hundred times its length.
    fn domain_of(self, mut expand: impl FnMut(Part<'a>, &mut String)) -> String {
        // What can matter: the domain, the dot before it and the final one.
        const ENOUGH: usize = 1 + SPF_TARGET_BYTES_MAX + 1;
        let (mut starts, mut parts) = (Vec::new(), self.parts());
        while let (at, Some(_)) = (parts.at, parts.next()) {
            starts.push(at);
        }
        let (mut out, mut piece) = (String::with_capacity(64), String::new());
        while let Some(at) = starts.pop() {
            if let Some(part) = (Parts { at, ..parts }).next() {
                expand(part, &mut piece);
                out.insert_str(0, &piece);
                piece.clear();
            }
            if out.len() >= ENOUGH {
                break;
            }
        }
        if out.ends_with('.') {
            out.pop();
        }
        if out.len() > SPF_TARGET_BYTES_MAX {
            let mut from = out.len() - SPF_TARGET_BYTES_MAX - 1;
            while !out.is_char_boundary(from) {
                from += 1;
            }
            if let Some(dot) = out.get(from..).and_then(|tail| tail.find('.')) {
                out.drain(..=from + dot);
            }
        }
        out
    }

    /// The explanation that it stands for; `None` where it is too long, or where something that
    /// is not printable ASCII got into it (RFC 7208 6.2).
    pub(crate) fn explanation(self, context: &Context<'_>) -> Option<String> {
        let mut out = String::with_capacity(128);
        for part in self.parts() {
            expand(part, context, &mut out);
            if out.len() > SPF_EXPLANATION_BYTES_MAX {
                return None;
            }
        }
        out.bytes()
            .all(|b| b == b' ' || b.is_ascii_graphic())
            .then_some(out)
    }
}

impl fmt::Display for MacroString<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// `"." toplabel [ "." ]` at the end.
fn ends_in_top_label(literal: &str) -> bool {
    let text = literal.strip_suffix('.').unwrap_or(literal);
    let Some((_, label)) = text.rsplit_once('.') else {
        return false;
    };
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && label.bytes().any(|b| !b.is_ascii_digit())
}

/// Cuts pieces off.
struct Parts<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parts<'a> {
    /// The next piece; after an error the place is that of the error.
    fn read(&mut self) -> Result<Option<Part<'a>>, What> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let Some(behind) = rest.strip_prefix('%') else {
            if rest.is_empty() {
                return Ok(None);
            }
            let (literal, _) = rest.split_at(rest.find('%').unwrap_or(rest.len()));
            self.at += literal.len();
            return Ok(Some(Part::Literal(literal)));
        };
        let (part, length) = match behind.bytes().next() {
            Some(b'%') => (Part::Escaped("%"), 2),
            Some(b'_') => (Part::Escaped(" "), 2),
            Some(b'-') => (Part::Escaped("%20"), 2),
            Some(b'{') => {
                let inside = behind.get(1..).unwrap_or_default();
                let end = inside.find('}').ok_or(What::MacroOpen)?;
                let inside = inside.get(..end).unwrap_or_default();
                (Part::Macro(Macro::parse(inside)?), end + 3)
            }
            _ => return Err(What::Percent),
        };
        self.at += length;
        Ok(Some(part))
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        self.read().ok().flatten()
    }
}

impl<'a> Macro<'a> {
    /// Reads what stands between the braces.
    fn parse(inside: &'a str) -> Result<Self, What> {
        let first = inside.bytes().next().ok_or(What::MacroLetter)?;
        let letter = Letter::of(first).ok_or(What::MacroLetter)?;
        let rest = inside.get(1..).unwrap_or_default();
        let behind = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = rest.get(..rest.len() - behind.len()).unwrap_or_default();
        let keep = if digits.is_empty() {
            None
        } else {
            // More parts than any name has are all parts.
            let n = digits.bytes().fold(0usize, |n, d| {
                n.saturating_mul(10)
                    .saturating_add(usize::from(d.wrapping_sub(b'0')))
            });
            // RFC 7208 7.3: must be nonzero.
            Some(n)
                .filter(|&n| n > 0)
                .ok_or(What::MacroZero)
                .map(Some)?
        };
        let delimiters = behind.strip_prefix(['r', 'R']).unwrap_or(behind);
        if delimiters
            .bytes()
            .any(|b| !matches!(b, b'.' | b'-' | b'+' | b',' | b'/' | b'_' | b'='))
        {
            return Err(What::MacroDelimiter);
        }
        Ok(Self {
            letter,
            escape: first.is_ascii_uppercase(),
            keep,
            reverse: delimiters.len() < behind.len(),
            delimiters,
        })
    }

    /// What it stands for before it is transformed.
    fn value<'c>(&self, context: &Context<'c>) -> Cow<'c, str> {
        let written = |f: &dyn Fn(&mut String) -> fmt::Result| {
            let mut text = String::with_capacity(64);
            // Writing to a String can't fail.
            let _ = f(&mut text);
            Cow::Owned(text)
        };
        match self.letter {
            Letter::Sender => {
                written(&|t| write!(t, "{}@{}", context.local, context.sender_domain))
            }
            Letter::Local => Cow::Borrowed(context.local),
            Letter::SenderDomain => Cow::Borrowed(context.sender_domain),
            Letter::Domain => Cow::Borrowed(context.domain),
            Letter::Validated => Cow::Borrowed(context.validated),
            Letter::Hello => Cow::Borrowed(context.helo),
            Letter::Receiver => Cow::Borrowed(context.receiver),
            Letter::Version => Cow::Borrowed(match context.ip {
                IpAddr::V4(_) => "in-addr",
                IpAddr::V6(_) => "ip6",
            }),
            Letter::Readable => written(&|t| write!(t, "{}", context.ip)),
            Letter::Time => written(&|t| write!(t, "{}", context.now.unix())),
            // RFC 7208 7.3: of an IPv6 address, its nibbles.
            Letter::Address => written(&|t| match context.ip {
                IpAddr::V4(ip) => write!(t, "{ip}"),
                IpAddr::V6(ip) => ip.octets().iter().enumerate().try_for_each(|(n, octet)| {
                    let dot = if n == 0 { "" } else { "." };
                    write!(t, "{dot}{:x}.{:x}", octet >> 4, octet & 15)
                }),
            }),
        }
    }

    /// Adds what it stands for (RFC 7208 7.3).
    fn expand(&self, context: &Context<'_>, out: &mut String) {
        let value = self.value(context);
        if self.keep.is_none() && !self.reverse && self.delimiters.is_empty() {
            self.push(&value, out);
            return;
        }
        let delimiters = if self.delimiters.is_empty() {
            "."
        } else {
            self.delimiters
        };
        let delimits = |c: char| delimiters.contains(c);
        let last = self.keep.map_or(usize::MAX, |n| n.saturating_sub(1));
        // Of reversed parts, those at the right stood at the left.
        if self.reverse {
            let cut = value.match_indices(delimits).nth(last);
            let kept = value.get(..cut.map_or(value.len(), |(at, _)| at));
            self.join(kept.unwrap_or_default().rsplit(delimits), out);
        } else {
            let cut = value.rmatch_indices(delimits).nth(last);
            let kept = value.get(cut.map_or(0, |(at, _)| at + 1)..);
            self.join(kept.unwrap_or_default().split(delimits), out);
        }
    }

    fn join<'p>(&self, parts: impl Iterator<Item = &'p str>, out: &mut String) {
        for (n, part) in parts.enumerate() {
            if n > 0 {
                out.push('.');
            }
            self.push(part, out);
        }
    }

    fn push(&self, text: &str, out: &mut String) {
        if !self.escape {
            out.push_str(text);
            return;
        }
        for byte in text.bytes() {
            // Unreserved characters of RFC 3986 2.3.
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

fn expand(part: Part<'_>, context: &Context<'_>, out: &mut String) {
    match part {
        Part::Literal(text) => out.push_str(text),
        Part::Escaped(text) => out.push_str(text),
        Part::Macro(m) => m.expand(context, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;
    use proptest::prelude::*;

    const CONTEXT: Context<'_> = Context {
        ip: IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 3)),
        local: "strong-bad",
        sender_domain: "email.example.com",
        domain: "email.example.com",
        helo: "mx.example.org",
        receiver: "mx.example.net",
        validated: "mx.example.org",
        now: Wall::from_unix(1_790_000_000),
    };

    fn explanation(text: &str, context: &Context<'_>) -> String {
        MacroString::parse(text, Place::Explanation)
            .unwrap()
            .explanation(context)
            .unwrap()
    }

    /// RFC 7208 7.4.
    #[test]
    fn examples_of_the_rfc() {
        for (text, expanded) in [
            ("%{s}", "strong-bad@email.example.com"),
            ("%{o}", "email.example.com"),
            ("%{d}", "email.example.com"),
            ("%{d4}", "email.example.com"),
            ("%{d3}", "email.example.com"),
            ("%{d2}", "example.com"),
            ("%{d1}", "com"),
            ("%{dr}", "com.example.email"),
            ("%{d2r}", "example.email"),
            ("%{l}", "strong-bad"),
            ("%{l-}", "strong.bad"),
            ("%{lr}", "strong-bad"),
            ("%{lr-}", "bad.strong"),
            ("%{l1r-}", "strong"),
            (
                "%{ir}.%{v}._spf.%{d2}",
                "3.2.0.192.in-addr._spf.example.com",
            ),
            ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
            (
                "%{lr-}.lp.%{ir}.%{v}._spf.%{d2}",
                "bad.strong.lp.3.2.0.192.in-addr._spf.example.com",
            ),
            (
                "%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}",
                "3.2.0.192.in-addr.strong.lp._spf.example.com",
            ),
            (
                "%{d2}.trusted-domains.example.net",
                "example.com.trusted-domains.example.net",
            ),
        ] {
            let spec = MacroString::parse(text, Place::Domain).unwrap();
            assert_eq!(spec.domain(&CONTEXT), expanded, "{text}");
            assert_eq!(spec.to_string(), text);
        }
        let v6 = Context {
            ip: "2001:db8::cb01".parse().unwrap(),
            ..CONTEXT
        };
        assert_eq!(
            explanation("%{ir}.%{v}._spf.%{d2}", &v6),
            "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com"
        );
        assert_eq!(explanation("%{c}", &v6), "2001:db8::cb01");
    }

    #[test]
    fn letters_and_transformers() {
        let odd = Context {
            local: "jack&jill=up-a_b.c+d,e/f",
            sender_domain: "email.example.com",
            ..CONTEXT
        };
        for (text, expanded) in [
            ("%{L}", "jack%26jill%3Dup-a_b.c%2Bd%2Ce%2Ff"),
            (
                "%{S}",
                "jack%26jill%3Dup-a_b.c%2Bd%2Ce%2Ff%40email.example.com",
            ),
            ("%{l=}", "jack&jill.up-a_b.c+d,e/f"),
            ("%{l-_.+,/=}", "jack&jill.up.a.b.c.d.e.f"),
            ("%{l2/}", "jack&jill=up-a_b.c+d,e.f"),
            ("%{l1r/}", "jack&jill=up-a_b.c+d,e"),
            ("%{L1,}", "e%2Ff"),
            ("%{l99999999999999999999999}", "jack&jill=up-a_b.c+d,e/f"),
            ("%{c}|%{r}|%{t}", "192.0.2.3|mx.example.net|1790000000"),
            ("%{V} %{H} %{P}", "in-addr mx.example.org mx.example.org"),
            ("%{i1}", "3"),
            ("%{iR}", "3.2.0.192"),
            ("%%%_%-", "% %20"),
            ("a  b", "a  b"),
            ("", ""),
        ] {
            assert_eq!(explanation(text, &odd), expanded, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_and_where() {
        use Place::{Domain, Explanation, Modifier};
        for (text, place, at, what) in [
            ("a.%{x}", Domain, 2, What::MacroLetter),
            ("a.%{}", Domain, 2, What::MacroLetter),
            ("%{d", Domain, 0, What::MacroOpen),
            ("%{d0}.a.b", Domain, 0, What::MacroZero),
            ("%{d00}.a.b", Domain, 0, What::MacroZero),
            ("%{d2x}.a", Domain, 0, What::MacroDelimiter),
            ("%{drr}.a", Domain, 0, What::MacroDelimiter),
            ("%{d.2}.a", Domain, 0, What::MacroDelimiter),
            ("%{d:}.a", Domain, 0, What::MacroDelimiter),
            ("100%", Explanation, 3, What::Percent),
            ("100% of it", Explanation, 3, What::Percent),
            ("100%(d)", Explanation, 3, What::Percent),
            ("a.%{t}", Domain, 2, What::MacroOfExplanation),
            ("%{R}", Modifier, 0, What::MacroOfExplanation),
            ("%{c}.a", Domain, 0, What::MacroOfExplanation),
            ("a b", Modifier, 1, What::Character(b' ')),
            ("a\tb", Explanation, 1, What::Character(b'\t')),
            ("", Domain, 0, What::NoDomain),
            ("museum", Domain, 0, What::TopLabel),
            ("museum.", Domain, 0, What::TopLabel),
            ("%{d}com", Domain, 4, What::TopLabel),
            ("a.b..", Domain, 0, What::TopLabel),
            ("a.-b", Domain, 0, What::TopLabel),
            ("a.b-", Domain, 0, What::TopLabel),
            ("a.123", Domain, 0, What::TopLabel),
            ("a.b_c", Domain, 0, What::TopLabel),
            ("a.b/c", Domain, 0, What::TopLabel),
        ] {
            assert_eq!(
                MacroString::parse(text, place),
                Err(SyntaxError { at, what }),
                "{text}"
            );
        }
        for text in [
            "a.b",
            "a.b.",
            "a.1b",
            "a.b-1",
            "a.1-1",
            "foo:bar/b@z.example",
            "a..b",
            ".b",
            "%{d}",
            "a%%",
            "%{d}.b.",
            "_spf.a.b",
            "%{ir}.%{l1r+-}._spf.%{d}",
        ] {
            assert!(MacroString::parse(text, Domain).is_ok(), "{text}");
        }
    }

    /// The letter of RFC 7208 7.3, whatever it costs.
    fn expanded_then_cut(spec: MacroString<'_>, context: &Context<'_>) -> String {
        let mut whole = String::new();
        spec.parts()
            .for_each(|part| expand(part, context, &mut whole));
        let mut kept = whole.strip_suffix('.').unwrap_or(&whole);
        while kept.len() > SPF_TARGET_BYTES_MAX {
            match kept.split_once('.') {
                Some((_, rest)) => kept = rest,
                None => break,
            }
        }
        kept.into()
    }

    /// RFC 7208 7.3: labels are cut off at the left until it fits.
    #[test]
    fn long_targets_are_cut_at_dots() {
        let label = "a".repeat(50);
        let long = format!("{label}.{label}.{label}.{label}.{label}.{label}.example.com");
        let text = MacroString::parse(&long, Place::Domain).unwrap();
        let cut = text.domain(&CONTEXT);
        assert_eq!(cut, format!("{label}.{label}.{label}.{label}.example.com"));
        // 253 fits, 254 doesn't.
        for (length, fits) in [(253, true), (254, false)] {
            let text = format!("{}.b.c", "a".repeat(length - 4));
            let spec = MacroString::parse(&text, Place::Domain).unwrap();
            assert_eq!(spec.domain(&CONTEXT) == text, fits);
            assert!(fits || spec.domain(&CONTEXT) == "b.c");
        }
        // A hostile record expands to megabytes; what is kept stays small.
        let many = format!("{}.%{{d}}", "%{s}.".repeat(15_000));
        let text = MacroString::parse(&many, Place::Domain).unwrap();
        let cut = text.domain(&CONTEXT);
        assert!(cut.len() <= SPF_TARGET_BYTES_MAX && cut.ends_with(".com..email.example.com"));
        // Nor is more of it expanded than what is kept: nine senders, the domain and what is between.
        let mut expanded = 0;
        let counted = text.domain_of(|part, out| {
            expanded += 1;
            expand(part, &CONTEXT, out);
        });
        assert_eq!((counted, expanded), (cut, 19));
        assert!(
            MacroString::parse(&many, Place::Explanation)
                .unwrap()
                .explanation(&CONTEXT)
                .is_none()
        );
    }

    #[test]
    fn explanations_are_printable_ascii() {
        for local in ["b\u{e4}r", "a\r\nb", "\0"] {
            let context = Context { local, ..CONTEXT };
            let text = MacroString::parse("%{l}", Place::Explanation).unwrap();
            assert_eq!(text.explanation(&context), None);
            let text = MacroString::parse("%{L}", Place::Explanation).unwrap();
            assert!(text.explanation(&context).is_some());
        }
    }

    proptest! {
        #[test]
        fn any_text(text in "(\\PC|%\\{[a-zA-Z][0-9]{0,3}r?[-.+,/_=]{0,2}\\}|%[%_-]|[a-z.]){0,40}",
                    local in "\\PC{0,300}") {
            for place in [Place::Domain, Place::Modifier, Place::Explanation] {
                if let Ok(read) = MacroString::parse(&text, place) {
                    let context = Context { local: &local, ..CONTEXT };
                    let _ = read.explanation(&context);
                    let domain = read.domain(&context);
                    let whole = expanded_then_cut(read, &context);
                    if whole.len() <= SPF_TARGET_BYTES_MAX {
                        prop_assert_eq!(domain, whole);
                    } else {
                        // A label that is too long for any name.
                        prop_assert!(!whole.contains('.'));
                        prop_assert!(domain.len() > SPF_TARGET_BYTES_MAX);
                    }
                    prop_assert_eq!(read.as_str(), text.as_str());
                }
            }
        }
    }
}
