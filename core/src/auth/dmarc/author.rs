//! Whose message it says it is: the domain in From (RFC 9989 5.3.1, RFC 7489 6.6.1).
//!
//! ```text
//! From         = mailbox *( "," mailbox )                              RFC 5322 3.6.2, RFC 6854
//! mailbox      = [ display-name ] "<" [ route ] addr-spec ">" / addr-spec
//! group        = phrase ":" [ mailbox *( "," mailbox ) ] ";"
//! phrase       = 1*( atom / "." / quoted-string )                      RFC 5322 3.2.5, 4.1
//! ```
//!
//! Comments and white space may stand between any two parts. What is decided here:
//! - Several addresses of one domain are one author domain. Those of several domains are exempt
//!   from DMARC (RFC 9989 5.3.1): [`AuthorError::Domains`].
//! - No From, two of them, or one without an address break RFC 5322 3.6, and no DMARC result says
//!   anything about them. A receiver that wants DMARC to protect its users refuses such mail, since
//!   each reader may show another author (RFC 9989 11.5); the error says why.
//! - What can be read in two ways is malformed: nothing but comments may follow `>`, and an
//!   address has one `@` outside quotes. A reader that guesses here could be shown another domain
//!   than the one that was checked. So is the name of a group that could be taken for an address
//!   or a route: it must be a phrase. (A display name with an `@` is too common to refuse.)
//! - Control characters are malformed wherever they stand, quoted strings and comments included,
//!   and so are line ends that fold nothing: RFC 5322 4.1 has readers take them, and some end the
//!   value there.
//! - The domain may be any [`Name`]: with `_`, and with a final dot. DNS has a policy for it, whatever
//!   hosts may be called.
//! - An address literal has no domain, so it counts as malformed. U-labels become A-labels.

use alloc::string::String;
use core::fmt;

use crate::dns::Name;
use crate::mail::address::is_atext;
use crate::mail::header::{Field, Header};

/// Why a header has no author domain that DMARC could check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthorError {
    /// There is no From field.
    Missing,
    /// There are several From fields.
    Fields,
    /// The field can't be read, or only by guessing.
    Malformed,
    /// The field has no address.
    Empty,
    /// Its addresses are of several domains.
    Domains,
}

impl fmt::Display for AuthorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "there is no From field",
            Self::Fields => "there are several From fields",
            Self::Malformed => "the From field is malformed",
            Self::Empty => "the From field has no address",
            Self::Domains => "the From field has addresses of several domains",
        })
    }
}
impl core::error::Error for AuthorError {}

/// The domain of the author of a message.
///
/// # Errors
/// [`AuthorError`] says why there is none.
pub fn author(header: Header<'_>) -> Result<Name, AuthorError> {
    author_of(from_field(header)?)
}

/// Shows every address in From to `see`: the local part as it is written, and the domain.
///
/// # Errors
/// [`AuthorError`] says why the addresses can't be told, or what `see` gave.
pub fn each_author(
    header: Header<'_>,
    see: impl FnMut(&str, Name) -> Result<(), AuthorError>,
) -> Result<(), AuthorError> {
    each_address(from_field(header)?, see)
}

fn from_field(header: Header<'_>) -> Result<&str, AuthorError> {
    let mut fields = header.fields().filter(|f: &Field<'_>| f.is("from"));
    let field = fields.next().ok_or(AuthorError::Missing)?;
    if fields.next().is_some() {
        return Err(AuthorError::Fields);
    }
    core::str::from_utf8(field.value()).map_err(|_| AuthorError::Malformed)
}

/// The domain in the value of a From field.
///
/// # Errors
/// [`AuthorError`] says why there is none.
pub fn author_of(value: &str) -> Result<Name, AuthorError> {
    let mut found: Option<Name> = None;
    each_address(value, |_, domain| match &found {
        Some(other) if *other != domain => Err(AuthorError::Domains),
        _ => {
            found = Some(domain);
            Ok(())
        }
    })?;
    found.ok_or(AuthorError::Empty)
}

/// Shows every address of a list to `see`; there is at least one.
fn each_address(
    value: &str,
    mut see: impl FnMut(&str, Name) -> Result<(), AuthorError>,
) -> Result<(), AuthorError> {
    if !is_text(value) {
        return Err(AuthorError::Malformed);
    }
    let mut any = false;
    let mut rest = value;
    let mut in_group = false;
    loop {
        let part = Part::take(&mut rest)?;
        if let Some(address) = part.address() {
            let (local, domain) = parts(address).ok_or(AuthorError::Malformed)?;
            see(local, domain)?;
            any = true;
        } else if !part.is_blank() && part.end != Delimiter::GroupStart {
            return Err(AuthorError::Malformed);
        }
        match part.end {
            // RFC 5322 4.4: empty list members are obsolete, and read.
            Delimiter::Comma => {}
            Delimiter::GroupStart if in_group || !part.is_phrase() => {
                return Err(AuthorError::Malformed);
            }
            Delimiter::GroupStart => in_group = true,
            Delimiter::GroupEnd if !in_group => return Err(AuthorError::Malformed),
            Delimiter::GroupEnd => in_group = false,
            Delimiter::Value if in_group => return Err(AuthorError::Malformed),
            Delimiter::Value if any => return Ok(()),
            Delimiter::Value => return Err(AuthorError::Empty),
        }
    }
}

/// No control characters but tabs and the line ends of folding (RFC 5322 2.2.3), and perhaps one
/// at the end.
fn is_text(value: &str) -> bool {
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        let good = match c {
            '\r' => chars.peek() == Some(&'\n'),
            '\n' => matches!(chars.peek(), None | Some(' ' | '\t')),
            c => c == '\t' || !c.is_control(),
        };
        if !good {
            return false;
        }
    }
    true
}

/// What a part of the list ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delimiter {
    Comma,
    GroupStart,
    GroupEnd,
    Value,
}

/// A part of the list without its comments and quoted display names.
struct Part {
    /// What stands outside angle brackets, without white space.
    plain: String,
    /// What stands in them, without white space.
    angle: String,
    has_angle: bool,
    /// What stands outside of them are words (RFC 5322 3.2.5, 4.1) and nothing else.
    words: bool,
    end: Delimiter,
}

impl Part {
    fn take(rest: &mut &str) -> Result<Self, AuthorError> {
        let mut part = Self {
            plain: String::new(),
            angle: String::new(),
            has_angle: false,
            words: true,
            end: Delimiter::Value,
        };
        let mut open = false;
        let mut chars = rest.char_indices();
        // Two atoms with nothing between them but white space: a phrase, and no address.
        let mut gap = false;
        while let Some((at, c)) = chars.next() {
            let text = match open {
                true => &mut part.angle,
                false => &mut part.plain,
            };
            match c {
                ' ' | '\t' | '\r' | '\n' => gap = true,
                '(' => {
                    comment(&mut chars)?;
                    gap = true;
                }
                '"' | '[' => {
                    if !open && part.has_angle {
                        return Err(AuthorError::Malformed);
                    }
                    part.words &= open || c == '"';
                    let start = text.len();
                    text.push(c);
                    verbatim(&mut chars, if c == '"' { '"' } else { ']' }, text)?;
                    mark_gap(text, start, &mut gap);
                }
                '<' if open || part.has_angle => return Err(AuthorError::Malformed),
                '<' => {
                    open = true;
                    part.has_angle = true;
                    gap = false;
                }
                '>' if !open => return Err(AuthorError::Malformed),
                '>' => {
                    open = false;
                    gap = false;
                }
                ',' | ':' | ';' if !open => {
                    part.end = match c {
                        ',' => Delimiter::Comma,
                        ':' => Delimiter::GroupStart,
                        _ => Delimiter::GroupEnd,
                    };
                    *rest = rest.get(at + 1..).unwrap_or("");
                    return Ok(part);
                }
                _ if !open && part.has_angle => return Err(AuthorError::Malformed),
                c => {
                    part.words &= open || c == '.' || is_atext(c);
                    let start = text.len();
                    text.push(c);
                    mark_gap(text, start, &mut gap);
                }
            }
        }
        if open {
            return Err(AuthorError::Malformed);
        }
        *rest = "";
        Ok(part)
    }

    fn is_blank(&self) -> bool {
        self.plain.is_empty() && !self.has_angle
    }

    fn is_phrase(&self) -> bool {
        self.words && !self.plain.is_empty() && !self.has_angle
    }

    /// The address, if it is one rather than nothing or the name of a group.
    fn address(&self) -> Option<&str> {
        if self.has_angle {
            return Some(&self.angle);
        }
        let plain = !self.plain.is_empty() && self.end != Delimiter::GroupStart;
        plain.then_some(&self.plain)
    }
}

/// Puts back the space between two words that nothing else parts, so that `a b@c` doesn't become
/// `ab@c`. Around `.` and `@` RFC 5322 4.4 lets space stand.
fn mark_gap(text: &mut String, start: usize, gap: &mut bool) {
    if !core::mem::take(gap) || start == 0 {
        return;
    }
    let parts = |c: Option<char>| matches!(c, Some('.' | '@' | ',' | ':'));
    let (before, after) = text.split_at(start);
    if !parts(before.chars().next_back()) && !parts(after.chars().next()) {
        text.insert(start, ' ');
    }
}

/// RFC 5322 3.2.2: comments nest.
fn comment(chars: &mut core::str::CharIndices<'_>) -> Result<(), AuthorError> {
    let mut depth = 1u32;
    while let Some((_, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '(' => depth = depth.saturating_add(1),
            ')' if depth == 1 => return Ok(()),
            ')' => depth -= 1,
            _ => {}
        }
    }
    Err(AuthorError::Malformed)
}

/// A quoted string or an address literal, up to and with its end.
fn verbatim(
    chars: &mut core::str::CharIndices<'_>,
    end: char,
    text: &mut String,
) -> Result<(), AuthorError> {
    while let Some((_, c)) = chars.next() {
        text.push(c);
        if c == end {
            return Ok(());
        }
        if c == '\\' {
            text.extend(chars.next().map(|(_, c)| c));
        }
    }
    Err(AuthorError::Malformed)
}

/// The local part and the domain of `[route:]local@domain`.
fn parts(address: &str) -> Option<(&str, Name)> {
    let address = match address.strip_prefix('@') {
        // RFC 5322 4.4: a source route is obsolete, and what it says is not looked at.
        Some(route) => route.split_once(':')?.1,
        None => address,
    };
    let quoted = address.strip_prefix('"').map(|inner| {
        let mut escaped = false;
        inner.find(|c| {
            let end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            end
        })
    });
    let local = match quoted {
        Some(end) => end? + 2,
        None => address.find('@')?,
    };
    let domain = address.get(local..)?.strip_prefix('@')?;
    let local = address.get(..local)?;
    let plain = |c: char| c == '.' || is_atext(c);
    if local.is_empty() || quoted.is_none() && !local.chars().all(plain) {
        return None;
    }
    // A literal is no name.
    let name = Name::from_domain(domain).ok();
    name.filter(|name| !name.is_root())
        .map(|name| (local, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_domain() {
        for value in [
            "ann@example.org",
            " <ann@example.org>\r\n",
            "Ann <ann@EXAMPLE.org>",
            "Ann B. C. <ann@example.org> (home)",
            "\"Ann, <ann@evil.example>\" <ann@example.org>",
            "=?utf-8?q?A?= <ann@example.org>, bob@example.org",
            "Ann (a comment (with, another) @x) <ann@example.org>",
            "ann(c)@(c)example(c).(c)org",
            "ann @ example . org",
            "<@a.example,@b.example:ann@example.org>",
            "\"ann @ home\"@example.org",
            "\"a\\\"@evil.example\"@example.org",
            "Team: ann@example.org, Bob <bob@example.org>;",
            "Team:; , ann@example.org",
            ",ann@example.org,",
            "Jos\u{e9} <jos\u{e9}@example.org>",
            "Ann\r\n <ann@example.org>",
            "ann@example.org ()",
            "evil@evil.example <ann@example.org>",
            "\"ceo@bank.example: \" <ann@example.org>",
            "Team A. (x) \"b: c@bank.example\": ann@example.org;",
            "\"Ann\r\n\tB\" <ann@example.org>\n",
            "ann@example.org.",
        ] {
            let got = author_of(value);
            assert_eq!(got.as_deref(), Ok("example.org"), "{value}");
        }
        for (value, name) in [
            ("a@b\u{fc}cher.example", "xn--bcher-kva.example"),
            ("a@_x.example.com", "_x.example.com"),
            ("A <a@A_b.example>", "a_b.example"),
            ("a@b\u{fc}_c.example", "xn--b_c-hoa.example"),
            ("a@-x-.example.com", "-x-.example.com"),
        ] {
            assert_eq!(author_of(value).as_deref(), Ok(name), "{value}");
        }
    }

    #[test]
    fn none_or_many() {
        use AuthorError as E;
        for (value, error) in [
            ("", E::Empty),
            ("undisclosed:;", E::Empty),
            ("(nobody)", E::Empty),
            ("ann@example.org, bob@example.net", E::Domains),
            ("Team: ann@example.org; bob@example.net", E::Domains),
            ("Ann", E::Malformed),
            ("<>", E::Malformed),
            ("ann", E::Malformed),
            ("ann@", E::Malformed),
            ("@example.org", E::Malformed),
            ("ann@evil.example@example.org", E::Malformed),
            ("<ann@example.org", E::Malformed),
            ("ann@example.org>", E::Malformed),
            ("<ann@example.org> <bob@example.net>", E::Malformed),
            ("<ann@example.org> bob@example.net", E::Malformed),
            ("a b@example.org", E::Malformed),
            ("ann@example.org bob@example.net", E::Malformed),
            ("ann@[192.0.2.1]", E::Malformed),
            ("\"ann@example.org", E::Malformed),
            ("(ann@example.org", E::Malformed),
            ("Team: ann@example.org", E::Malformed),
            ("ann@example.org;", E::Malformed),
            ("A: B: ann@example.org;;", E::Malformed),
            ("<a@example.org>: b@example.org;", E::Malformed),
            ("ann@exam\u{0}ple.org", E::Malformed),
            ("ann@example..org", E::Malformed),
            ("ann@.", E::Malformed),
            ("ann@exa mple.org", E::Malformed),
            ("ann@exa!mple.org", E::Malformed),
            ("ann)@example.org", E::Malformed),
            ("<ceo@bank.example, ann@example.org>", E::Malformed),
            ("<a,b@example.org>", E::Malformed),
            ("<a:b@example.org>", E::Malformed),
            // Names of groups that are none.
            ("ceo@bank.example: ann@example.org;", E::Malformed),
            ("@bank.example: ann@example.org;", E::Malformed),
            ("[192.0.2.1]: ann@example.org;", E::Malformed),
            ("\"ceo\"@bank.example: ann@example.org;", E::Malformed),
            ("ceo @ (x) bank.example : ann@example.org;", E::Malformed),
            (": ann@example.org;", E::Malformed),
            // Control characters and line ends that fold nothing.
            ("\"ann\u{0}\" <ann@example.org>", E::Malformed),
            ("\"ann\\\u{0}\" <ann@example.org>", E::Malformed),
            ("\"ann\u{7f}@bank.example\"@example.org", E::Malformed),
            ("\"ann\u{85}\" <ann@example.org>", E::Malformed),
            ("\"ann\r\" <ann@example.org>", E::Malformed),
            ("\"ceo@bank.example\nX: \" <ann@example.org>", E::Malformed),
            ("(ann\u{1b}) ann@example.org", E::Malformed),
            ("ann@example.org\r(x)", E::Malformed),
            ("ann@example.org\u{c}", E::Malformed),
        ] {
            assert_eq!(author_of(value), Err(error), "{value:?}");
        }
    }

    #[test]
    fn one_field() {
        let of = |message: &'static [u8]| author(Header::of(message).unwrap().0);
        assert_eq!(
            of(b"FROM : a@example.org\r\n\r\n").as_deref(),
            Ok("example.org")
        );
        assert_eq!(of(b"To: a@example.org\r\n\r\n"), Err(AuthorError::Missing));
        let twice = b"From: a@example.org\r\nFrom: a@example.org\r\n\r\n";
        assert_eq!(of(twice), Err(AuthorError::Fields));
        assert_eq!(
            of(b"From: \xff@example.org\r\n\r\n"),
            Err(AuthorError::Malformed)
        );
    }

    proptest! {
        #[test]
        fn any_text(value in "[ -~\u{e9}\r\n]{0,60}|([a-z<>@.,:;()\"\\[\\] \\\\]{0,40})") {
            let _ = author_of(&value);
        }

        /// Nothing comes out that isn't in the value.
        #[test]
        fn no_domain_is_made_up(
            value in "[a-z]{0,6}(\"[ -!#-\\[\\]-~]{0,8}\")?[:<(]?[a-z@.]{0,8}[>);]?",
        ) {
            if let Ok(name) = author_of(&value) {
                prop_assert!(value.contains(&std::format!("@{name}")), "{} {}", value, name);
            }
        }

        /// A control character makes any From malformed, wherever it stands.
        #[test]
        fn controls_are_malformed(
            name in "(\"[ -!#-\\[\\]-~]{1,8}\" )?",
            domain in "[a-z]{1,5}(\\.[a-z_]{1,5}){0,2}",
            comment in "( \\([a-z ]{1,6}\\))?",
            at in any::<prop::sample::Index>(),
            control in "[\u{0}-\u{8}\u{b}\u{c}\u{e}-\u{1f}\u{7f}-\u{9f}]",
        ) {
            let mut value = std::format!("{name}<a@{domain}>{comment}");
            let read = author_of(&value);
            prop_assert_eq!(read.as_deref(), Ok(&*domain));
            value.insert_str(at.index(value.len() + 1), &control);
            prop_assert_eq!(author_of(&value), Err(AuthorError::Malformed));
        }
    }
}
