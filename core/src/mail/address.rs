//! Paths and mailboxes (RFC 5321 4.1.2, RFC 6531 3.3).
//!
//! Raw text becomes a [`Mailbox`], [`Domain`] or [`ReversePath`] once, at the edge, and is then
//! known to be well formed. All of them borrow the text that they were parsed from, and
//! `Display` writes them back as they go on the wire (without the angle brackets, except that
//! the null path is `<>`).
//!
//! ```
//! use courser_core::mail::address::{Domain, Mailbox, ReversePath};
//! let mailbox = Mailbox::parse("\"john doe\"@[192.0.2.1]").unwrap();
//! assert_eq!(mailbox.local(), "\"john doe\"");
//! assert_eq!(mailbox.domain(), Some(Domain::Literal([192, 0, 2, 1].into())));
//! assert_eq!(ReversePath::parse("<>"), Ok(ReversePath::Null));
//! assert!(Mailbox::parse("two..dots@example.org").is_err());
//! ```
//!
//! ```text
//! path       = "<" [ at-domain *( "," at-domain ) ":" ] mailbox ">"     source route is ignored
//! mailbox    = local "@" ( domain / literal )
//! local      = atom *( "." atom ) / DQUOTE *( qtext / "\" %d32-126 ) DQUOTE
//! domain     = label *( "." label )                                     letters, digits, hyphens
//! literal    = "[" ( IPv4 / "IPv6:" IPv6 ) "]"
//! ```
//!
//! What is decided here and not by the grammar:
//! - UTF-8 is taken in local parts and labels (RFC 6531); whether the session may carry it is the
//!   caller's question, [`Mailbox::is_ascii`]. C1 controls, white space and the full stops that
//!   IDNA maps to a dot are refused in labels. A label is not checked against the tables of
//!   RFC 5892; that happens where it is turned into an A-label for DNS.
//! - An A-label (`xn--`) must be letters, digits and hyphens of at most 63 octets like any other
//!   label; that its punycode decodes is not checked.
//! - A local part counts at most 64 octets with its quotes, a domain 255, a path 256 with its
//!   brackets (RFC 5321 4.5.3.1).
//! - IPv4 literals with leading zeros are refused, since readers disagree about their base.
//! - `::` may stand for a single group of an IPv6 literal (RFC 4291 2.2 allows it; RFC 5321's
//!   grammar asks for two, which senders don't respect).

use crate::limits::{
    DOMAIN_BYTES_MAX, LABEL_BYTES_MAX, LABEL_CHARS_MAX, LOCAL_PART_BYTES_MAX, PATH_BYTES_MAX,
};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use nom::branch::alt;
use nom::bytes::complete::{tag, tag_no_case, take_till, take_while1};
use nom::character::complete::{char, satisfy};
use nom::combinator::recognize;
use nom::multi::many0_count;
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

/// A checked mailbox `local@domain`, borrowed. Only [`Mailbox::parse`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mailbox<'a> {
    local: &'a str,
    domain: Option<Domain<'a>>,
}

/// A checked domain or address literal, borrowed.
///
/// Equality is of the text as written; see [`Domain::is_same`] for the DNS's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Domain<'a> {
    /// A domain name without a trailing dot, ASCII or UTF-8 (U-labels), as it was written.
    Name(&'a str),
    /// `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
    Literal(IpAddr),
}

/// The path of `MAIL FROM:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReversePath<'a> {
    /// `<>`: bounces; nothing is ever sent back to it.
    Null,
    /// An ordinary sender.
    Mailbox(Mailbox<'a>),
}

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressError {
    /// `<` or `>` is missing.
    Brackets,
    /// The source route before the mailbox is malformed.
    Route,
    /// The local part is missing or has a character that needs quotes, or its quotes are open.
    LocalPart,
    /// More than 64 octets before the `@`.
    LocalPartTooLong,
    /// No `@domain`; only `Postmaster` may stand alone.
    NoDomain,
    /// A label is empty, starts or ends with a hyphen, or has another character than letters,
    /// digits and hyphens.
    Domain,
    /// A label of more than 63 octets, or a domain of more than 255.
    DomainTooLong,
    /// What is in `[ ]` is no IPv4 and no `IPv6:` address.
    Literal,
    /// More than 256 octets with the brackets.
    PathTooLong,
    /// Something follows the address.
    Trailing,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Brackets => "the address is not in angle brackets",
            Self::Route => "malformed source route",
            Self::LocalPart => "malformed local part",
            Self::LocalPartTooLong => "local part is longer than 64 octets",
            Self::NoDomain => "no domain",
            Self::Domain => "malformed domain",
            Self::DomainTooLong => "domain is too long",
            Self::Literal => "malformed address literal",
            Self::PathTooLong => "address is too long",
            Self::Trailing => "something follows the address",
        })
    }
}
impl core::error::Error for AddressError {}

impl<'a> Mailbox<'a> {
    /// Parses `local@domain` without brackets; `Postmaster` may stand alone, in any case.
    ///
    /// # Errors
    /// [`AddressError`] says which part is wrong.
    pub fn parse(text: &'a str) -> Result<Self, AddressError> {
        match mailbox(text)? {
            ("", mailbox) => Ok(mailbox),
            _ => Err(AddressError::Trailing),
        }
    }

    /// The local part as written, quotes included.
    pub fn local(&self) -> &'a str {
        self.local
    }

    /// The domain; `None` only for `<Postmaster>` (RFC 5321 4.1.1.3).
    pub fn domain(&self) -> Option<Domain<'a>> {
        self.domain
    }

    /// No octet above 127: needs no SMTPUTF8.
    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii() && self.domain.is_none_or(|d| d.is_ascii())
    }
}

impl<'a> Domain<'a> {
    /// Parses a domain name or an address literal.
    ///
    /// # Errors
    /// [`AddressError`] says which part is wrong.
    pub fn parse(text: &'a str) -> Result<Self, AddressError> {
        match domain(text)? {
            ("", domain) => Ok(domain),
            _ => Err(AddressError::Domain),
        }
    }

    /// No octet above 127.
    pub fn is_ascii(&self) -> bool {
        match self {
            Self::Name(name) => name.is_ascii(),
            Self::Literal(_) => true,
        }
    }

    /// Whether both name the same host, letters without regard to ASCII case.
    pub fn is_same(&self, other: &Domain<'_>) -> bool {
        match (self, other) {
            (Self::Name(a), Domain::Name(b)) => a.eq_ignore_ascii_case(b),
            (Self::Literal(a), Domain::Literal(b)) => a == b,
            _ => false,
        }
    }
}

impl<'a> ReversePath<'a> {
    /// Parses a sender: nothing or `<>` is the null path; brackets and a source route may be
    /// there or not.
    ///
    /// # Errors
    /// [`AddressError`] says which part is wrong.
    pub fn parse(text: &'a str) -> Result<Self, AddressError> {
        let (rest, parsed) = match text {
            "" => return Ok(Self::Null),
            _ if text.starts_with('<') => reverse_path(text)?,
            _ => mailbox(text).map(|(rest, m)| (rest, Self::Mailbox(m)))?,
        };
        match rest {
            "" => Ok(parsed),
            _ => Err(AddressError::Trailing),
        }
    }

    /// The mailbox, unless the path is null.
    pub fn mailbox(&self) -> Option<Mailbox<'a>> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(*mailbox),
        }
    }

    /// No octet above 127: needs no SMTPUTF8.
    pub fn is_ascii(&self) -> bool {
        self.mailbox().is_none_or(|m| m.is_ascii())
    }
}

/// `<…>` at the start of `text`, and what follows it.
pub(crate) fn reverse_path(text: &str) -> Result<(&str, ReversePath<'_>), AddressError> {
    if let Some(rest) = text.strip_prefix("<>") {
        return Ok((rest, ReversePath::Null));
    }
    forward_path(text).map(|(rest, mailbox)| (rest, ReversePath::Mailbox(mailbox)))
}

/// `<[route:]mailbox>` at the start of `text`, and what follows it.
pub(crate) fn forward_path(text: &str) -> Result<(&str, Mailbox<'_>), AddressError> {
    let inner = text.strip_prefix('<').ok_or(AddressError::Brackets)?;
    let (rest, mailbox) = mailbox(source_route(inner)?)?;
    let rest = rest.strip_prefix('>').ok_or(AddressError::Brackets)?;
    if text.len() - rest.len() > PATH_BYTES_MAX {
        return Err(AddressError::PathTooLong);
    }
    Ok((rest, mailbox))
}

/// Skips `@a,@b:` (RFC 5321 4.1.2: MUST be accepted, SHOULD be ignored).
fn source_route(text: &str) -> Result<&str, AddressError> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let mut rest = text;
    loop {
        rest = rest.strip_prefix('@').ok_or(AddressError::Route)?;
        rest = domain(rest).map_err(|_| AddressError::Route)?.0;
        if let Some(mailbox) = rest.strip_prefix(':') {
            return Ok(mailbox);
        }
        rest = rest.strip_prefix(',').ok_or(AddressError::Route)?;
    }
}

fn mailbox(text: &str) -> Result<(&str, Mailbox<'_>), AddressError> {
    let (rest, local) = local_part(text).map_err(|_| AddressError::LocalPart)?;
    if local.len() > LOCAL_PART_BYTES_MAX {
        return Err(AddressError::LocalPartTooLong);
    }
    let Some(after) = rest.strip_prefix('@') else {
        return match rest.bytes().next() {
            None | Some(b'>') if local.eq_ignore_ascii_case("postmaster") => Ok((
                rest,
                Mailbox {
                    local,
                    domain: None,
                },
            )),
            None | Some(b'>') => Err(AddressError::NoDomain),
            Some(_) => Err(AddressError::LocalPart),
        };
    };
    let (rest, domain) = domain(after)?;
    if text.len() - rest.len() + "<>".len() > PATH_BYTES_MAX {
        return Err(AddressError::PathTooLong);
    }
    let domain = Some(domain);
    Ok((rest, Mailbox { local, domain }))
}

/// RFC 5321 4.1.2 atext, RFC 6531 3.3.
pub(crate) fn is_atext(c: char) -> bool {
    match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => true,
        '!' | '#' | '$' | '%' | '&' | '\'' | '*' | '+' | '-' | '/' | '=' | '?' | '^' | '_'
        | '`' | '{' | '|' | '}' | '~' => true,
        _ => !c.is_ascii() && !c.is_control(),
    }
}

/// RFC 5321 4.1.2 qtextSMTP, RFC 6531 3.3.
fn is_qtext(c: char) -> bool {
    match c {
        '"' | '\\' => false,
        ' '..='~' => true,
        _ => !c.is_ascii() && !c.is_control(),
    }
}

fn local_part(text: &str) -> IResult<&str, &str, ()> {
    let atom = || take_while1(is_atext);
    let dot_string = recognize((atom(), many0_count(preceded(char('.'), atom()))));
    // RFC 6531 widens qtext and not the quoted pair.
    let pair = recognize(preceded(char('\\'), satisfy(|c| (' '..='~').contains(&c))));
    let quoted = recognize(delimited(
        char('"'),
        many0_count(alt((take_while1(is_qtext), pair))),
        char('"'),
    ));
    alt((dot_string, quoted)).parse(text)
}

fn domain(text: &str) -> Result<(&str, Domain<'_>), AddressError> {
    if text.starts_with('[') {
        return literal(text);
    }
    let name: IResult<&str, &str, ()> = take_while1(is_domain_char).parse(text);
    let (rest, name) = name.map_err(|_| AddressError::Domain)?;
    check_name(name)?;
    Ok((rest, Domain::Name(name)))
}

/// Letters, digits, hyphens, dots, and of the rest what a U-label may hold: not white space,
/// controls, or the other dots of IDNA (RFC 5895 2.3).
fn is_domain_char(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    }
    !c.is_control() && !c.is_whitespace() && !matches!(c, '\u{3002}' | '\u{ff0e}' | '\u{ff61}')
}

fn check_name(name: &str) -> Result<(), AddressError> {
    if name.len() > DOMAIN_BYTES_MAX {
        return Err(AddressError::DomainTooLong);
    }
    for label in name.split('.') {
        if label.is_empty() || label.starts_with('-') || label.ends_with('-') {
            return Err(AddressError::Domain);
        }
        let too_long = if label.is_ascii() {
            label.len() > LABEL_BYTES_MAX
        } else {
            label.chars().count() > LABEL_CHARS_MAX
        };
        if too_long {
            return Err(AddressError::DomainTooLong);
        }
    }
    Ok(())
}

/// RFC 5321 4.1.3.
fn literal(text: &str) -> Result<(&str, Domain<'_>), AddressError> {
    let mut parser = delimited(char('['), take_till(|c| c == ']'), tag("]"));
    let parsed: IResult<&str, &str, ()> = parser.parse(text);
    let (rest, inner) = parsed.map_err(|_| AddressError::Literal)?;
    let v6: IResult<&str, &str, ()> = tag_no_case("IPv6:").parse(inner);
    let address = match v6 {
        Ok((v6, _)) => v6.parse::<Ipv6Addr>().map(IpAddr::from),
        Err(_) => inner.parse::<Ipv4Addr>().map(IpAddr::from),
    };
    let address = address.map_err(|_| AddressError::Literal)?;
    Ok((rest, Domain::Literal(address)))
}

impl fmt::Display for Domain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Literal(IpAddr::V4(v4)) => write!(f, "[{v4}]"),
            Self::Literal(IpAddr::V6(v6)) => write!(f, "[IPv6:{v6}]"),
        }
    }
}

impl fmt::Display for Mailbox<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.local)?;
        match &self.domain {
            Some(domain) => write!(f, "@{domain}"),
            None => Ok(()),
        }
    }
}

/// `<>`, or the mailbox without brackets.
impl fmt::Display for ReversePath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Mailbox(mailbox) => mailbox.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AddressError as E;
    use proptest::prelude::*;
    use std::string::{String, ToString};

    #[test]
    fn taken() {
        for good in [
            "a@b",
            "a.b+c@example.org",
            "\"a b\"@example.org",
            "\"\\\"\"@example.org",
            "a@[192.0.2.1]",
            "a@[IPv6:2001:db8::1]",
            "a@[IPv6:::ffff:192.0.2.1]",
            "ü@bücher.example",
            "\"ü\"@example.org",
            "a@xn--bcher-kva.example",
            "postmaster",
            "PostMaster",
            "用户@例子.广告",
            "a@क्‍ष.example",
        ] {
            let mailbox = Mailbox::parse(good).unwrap_or_else(|e| panic!("{good}: {e}"));
            assert_eq!(mailbox.to_string(), good);
            assert_eq!(mailbox.is_ascii(), good.is_ascii());
        }
    }

    #[test]
    fn refused() {
        for (bad, error) in [
            ("", E::LocalPart),
            ("@b", E::LocalPart),
            ("a", E::NoDomain),
            ("a@", E::Domain),
            ("a b@c", E::LocalPart),
            ("a@b c", E::Trailing),
            ("a@b>", E::Trailing),
            ("a@b_c", E::Trailing),
            ("\"a@b", E::LocalPart),
            ("\"\\ü\"@b", E::LocalPart),
            ("a\u{85}@b", E::LocalPart),
            ("a@b\u{a0}c", E::Trailing),
            ("a@b\u{3002}c", E::Trailing),
            ("a@-b", E::Domain),
            ("a@b.", E::Domain),
            ("a@[192.0.2.01]", E::Literal),
            ("a@[192.0.2.1", E::Literal),
            ("a@[2001:db8::1]", E::Literal),
            ("a@[IPv6:192.0.2.1]", E::Literal),
            ("a@[x-tag:y]", E::Literal),
            ("postmaster@", E::Domain),
        ] {
            assert_eq!(Mailbox::parse(bad), Err(error), "{bad:?}");
        }
    }

    #[test]
    fn lengths() {
        let parse = |local: usize, label: usize, labels: usize| {
            let label = "b".repeat(label);
            let domain = [&*label].repeat(labels).join(".");
            let text = std::format!("{}@{domain}", "a".repeat(local));
            Mailbox::parse(&text).map(|_| ())
        };
        assert_eq!(parse(64, 63, 2), Ok(()));
        assert_eq!(parse(65, 63, 2), Err(E::LocalPartTooLong));
        assert_eq!(parse(1, 64, 1), Err(E::DomainTooLong));
        assert_eq!(parse(1, 1, 126), Ok(()));
        assert_eq!(parse(1, 1, 127), Err(E::PathTooLong));
        assert_eq!(parse(1, 1, 129), Err(E::DomainTooLong));
        assert!(Domain::parse(&"ü".repeat(59)).is_ok());
        assert_eq!(Domain::parse(&"ü".repeat(60)), Err(E::DomainTooLong));
    }

    #[test]
    fn paths() {
        assert_eq!(ReversePath::parse(""), Ok(ReversePath::Null));
        assert_eq!(ReversePath::parse("<>").unwrap().to_string(), "<>");
        assert_eq!(
            ReversePath::parse("a@b"),
            ReversePath::parse("<@c,@d.e:a@b>")
        );
        for (bad, error) in [
            ("<a@b", E::Brackets),
            ("<", E::LocalPart),
            ("<> ", E::Trailing),
            ("<a@b>x", E::Trailing),
            ("<@:a@b>", E::Route),
            ("<@c,:a@b>", E::Route),
            ("<@c;a@b>", E::Route),
            ("<@c:>", E::LocalPart),
        ] {
            assert_eq!(ReversePath::parse(bad), Err(error), "{bad}");
        }
        let long = std::format!("<@{}c:a@b>", "x.".repeat(126));
        assert_eq!(ReversePath::parse(&long), Err(E::PathTooLong));
    }

    #[test]
    fn domains_compare_without_case() {
        let is_same = |a, b| {
            Domain::parse(a)
                .unwrap()
                .is_same(&Domain::parse(b).unwrap())
        };
        assert!(is_same("Example.ORG", "example.org"));
        assert!(is_same("[IPv6:::1]", "[ipv6:0:0:0:0:0:0:0:1]"));
        assert!(!is_same("127.0.0.1", "[127.0.0.1]"));
    }

    proptest! {
        #[test]
        fn any_text(text: String) {
            let _ = ReversePath::parse(&text);
            let _ = Domain::parse(&text);
        }

        /// What is taken is written back as it was, and taken again.
        #[test]
        fn display_inverts_parse(text in "[a-c\"\\\\.@ü]{0,8}@([a-c.ü-]{0,8}|\\[(IPv6:)?[0-9a-f.:]{3,12}\\])") {
            if let Ok(mailbox) = Mailbox::parse(&text) {
                let written = mailbox.to_string();
                prop_assert_eq!(Mailbox::parse(&written), Ok(mailbox));
                if let Some(Domain::Name(_)) = mailbox.domain() {
                    prop_assert_eq!(written, text);
                }
            }
        }

        #[test]
        fn generated_mailboxes_are_taken(text in "([a-z0-9!#-'*+/=?^-~-]{1,10}(\\.[a-z0-9_-]{1,10}){0,3}|\"([a-z @<>]|\\\\[ -~]){0,12}\")@[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\\.[a-z0-9]{1,9}){0,4}") {
            let mailbox = Mailbox::parse(&text);
            prop_assert_eq!(mailbox.map(|m| m.to_string()), Ok(text));
        }
    }
}
