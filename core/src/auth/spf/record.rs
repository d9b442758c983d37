//! SPF records (RFC 7208 4.5, 4.6, 5, 6; the grammar of 12).
//!
//! ```text
//! record     = "v=spf1" *( 1*SP ( directive / modifier ) ) *SP
//! directive  = [ "+" / "-" / "?" / "~" ] mechanism
//! mechanism  = "all"
//!            / "include" ":" domain-spec
//!            / "a"   [ ":" domain-spec ] [ dual-cidr-length ]
//!            / "mx"  [ ":" domain-spec ] [ dual-cidr-length ]
//!            / "ptr" [ ":" domain-spec ]
//!            / "ip4" ":" ip4-network [ "/" ip4-cidr-length ]
//!            / "ip6" ":" ip6-network [ "/" ip6-cidr-length ]
//!            / "exists" ":" domain-spec
//! modifier   = "redirect" "=" domain-spec
//!            / "exp" "=" domain-spec
//!            / name "=" macro-string
//! name       = ALPHA *( ALPHA / DIGIT / "-" / "_" / "." )
//! dual-cidr-length = [ "/" ip4-cidr-length ] [ "//" ip6-cidr-length ]
//! ```
//!
//! [`Record::parse`] reads a whole record, since a mistake anywhere in it makes all of it wrong
//! (4.6). It borrows the text; [`Record::terms`] walks it again, term by term. `Display` of a
//! record gives it back as it was, that of a term writes it in its usual form.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::macros::{MacroString, Place};

/// How every record begins, in any case.
const VERSION: &str = "v=spf1";

/// A record without mistakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a>(&'a str);

/// What a match means (RFC 7208 4.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Qualifier {
    /// `+`, or nothing.
    #[default]
    Pass,
    /// `-`.
    Fail,
    /// `~`.
    SoftFail,
    /// `?`.
    Neutral,
}

/// A directive or a modifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term<'a> {
    /// Decides, when it matches.
    Directive(Directive<'a>),
    /// Says something else.
    Modifier(Modifier<'a>),
}

/// What to say when a mechanism matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directive<'a> {
    /// What a match means.
    pub qualifier: Qualifier,
    /// What matches.
    pub mechanism: Mechanism<'a>,
}

/// Lengths of the networks around addresses, bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// For IPv4, at most 32.
    pub v4: u8,
    /// For IPv6, at most 128.
    pub v6: u8,
}

impl Cidr {
    /// The addresses alone.
    pub const WHOLE: Self = Self { v4: 32, v6: 128 };
}

/// Which clients match (RFC 7208 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism<'a> {
    /// Every client (5.1).
    All,
    /// Clients that pass this domain's record (5.2).
    Include(MacroString<'a>),
    /// Clients in the networks of a host's addresses (5.3).
    A {
        /// The host; the domain itself if `None`.
        domain: Option<MacroString<'a>>,
        /// How large the networks are.
        cidr: Cidr,
    },
    /// Clients in the networks of the addresses of a domain's MX hosts (5.4).
    Mx {
        /// The domain; itself if `None`.
        domain: Option<MacroString<'a>>,
        /// How large the networks are.
        cidr: Cidr,
    },
    /// Clients whose validated name is this or under it (5.5).
    Ptr(Option<MacroString<'a>>),
    /// Clients in this network (5.6).
    Ip4 {
        /// Any address in it.
        network: Ipv4Addr,
        /// Its length, at most 32.
        bits: u8,
    },
    /// Clients in this network (5.6).
    Ip6 {
        /// Any address in it.
        network: Ipv6Addr,
        /// Its length, at most 128.
        bits: u8,
    },
    /// All clients, if this name has an IPv4 address (5.7).
    Exists(MacroString<'a>),
}

/// What a record says beside its directives (RFC 7208 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modifier<'a> {
    /// Whose record decides when no mechanism matched (6.1).
    Redirect(MacroString<'a>),
    /// Where the explanation of a fail is (6.2).
    Explanation(MacroString<'a>),
    /// One that has no meaning for SPF version 1.
    Unknown {
        /// Its name as it was written.
        name: &'a str,
        /// Its value.
        value: MacroString<'a>,
    },
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// It doesn't begin with `v=spf1` (4.5).
    Version,
    /// This octet can't stand here.
    Character(u8),
    /// No mechanism has this name.
    UnknownMechanism,
    /// A name is missing before `=`, or doesn't begin with a letter.
    ModifierName,
    /// A modifier has no qualifier.
    QualifiedModifier,
    /// `redirect` or `exp` for the second time (6).
    Twice,
    /// `redirect` and `exp` want `=`, mechanisms want `:`.
    WrongSeparator,
    /// This mechanism takes nothing behind its name, or not this.
    Argument,
    /// The domain is missing.
    NoDomain,
    /// A domain must end in a dot and a top-level label that is not a number, or in a macro.
    TopLabel,
    /// The address is missing.
    NoAddress,
    /// Not an IPv4 address.
    Ip4,
    /// Not an IPv6 address.
    Ip6,
    /// Not the length of a network: 0 to 32 for IPv4, 0 to 128 for IPv6, no leading zero.
    Cidr,
    /// `%` without `{`, `%`, `_` or `-` behind it.
    Percent,
    /// `%{` without `}`.
    MacroOpen,
    /// No macro has this letter.
    MacroLetter,
    /// A macro of zero parts.
    MacroZero,
    /// Something else than a delimiter behind a macro's letter, digits and `r`.
    MacroDelimiter,
    /// `%{c}`, `%{r}` and `%{t}` are for explanations only (7.2).
    MacroOfExplanation,
}

/// Where a record is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// The octet, from 0.
    pub at: usize,
    /// What.
    pub what: What,
}

impl SyntaxError {
    fn new(at: usize, what: What) -> Self {
        Self { at, what }
    }

    fn behind(self, octets: usize) -> Self {
        Self {
            at: self.at + octets,
            ..self
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Character(byte) if byte.is_ascii_graphic() || *byte == b' ' => {
                return write!(f, "{:?} can't stand here", char::from(*byte));
            }
            Self::Character(byte) => return write!(f, "octet {byte:#04x} can't stand here"),
            Self::Version => "an SPF record begins with v=spf1",
            Self::UnknownMechanism => "no mechanism has this name",
            Self::ModifierName => "the name of a modifier begins with a letter",
            Self::QualifiedModifier => "a modifier can't have a qualifier",
            Self::Twice => "redirect and exp may stand only once",
            Self::WrongSeparator => "mechanisms are written with \":\", modifiers with \"=\"",
            Self::Argument => "this can't stand behind the mechanism's name",
            Self::NoDomain => "a domain is missing",
            Self::TopLabel => {
                "the domain does not end in a dot and a top-level label, or in a macro"
            }
            Self::NoAddress => "an address is missing",
            Self::Ip4 => "not an IPv4 address",
            Self::Ip6 => "not an IPv6 address",
            Self::Cidr => "not the length of a network",
            Self::Percent => "behind \"%\" stands \"{\", \"%\", \"_\" or \"-\"",
            Self::MacroOpen => "the macro has no closing \"}\"",
            Self::MacroLetter => "no macro has this letter",
            Self::MacroZero => "a macro keeps at least one part",
            Self::MacroDelimiter => "not a delimiter of macros",
            Self::MacroOfExplanation => "%{c}, %{r} and %{t} are for explanations only",
        };
        f.write_str(text)
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (character {})", self.what, self.at + 1)
    }
}
impl core::error::Error for SyntaxError {}

impl<'a> Record<'a> {
    /// Whether a TXT record is one of SPF, right or wrong (RFC 7208 4.5).
    pub fn is_spf(text: &[u8]) -> bool {
        text.get(..VERSION.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(VERSION.as_bytes()))
            && matches!(text.get(VERSION.len()), None | Some(b' '))
    }

    /// Reads a record.
    ///
    /// # Errors
    /// The first mistake (RFC 7208 4.6: one anywhere makes the record a permanent error).
    pub fn parse(text: &'a [u8]) -> Result<Self, SyntaxError> {
        if !Self::is_spf(text) {
            return Err(SyntaxError::new(0, What::Version));
        }
        // RFC 7208 3.1: ASCII; the grammar has neither controls nor white space but SP.
        if let Some((at, &byte)) = text
            .iter()
            .enumerate()
            .find(|&(_, b)| !b.is_ascii_graphic() && *b != b' ')
        {
            return Err(SyntaxError::new(at, What::Character(byte)));
        }
        let text = core::str::from_utf8(text).map_err(|e| {
            let at = e.valid_up_to();
            SyntaxError::new(at, What::Character(text.get(at).copied().unwrap_or(0)))
        })?;
        let (mut redirect, mut explanation) = (false, false);
        for (at, word) in words(text, TERMS_AT) {
            let seen = match Term::parse(word).map_err(|e| e.behind(at))? {
                Term::Modifier(Modifier::Redirect(_)) => &mut redirect,
                Term::Modifier(Modifier::Explanation(_)) => &mut explanation,
                _ => continue,
            };
            if core::mem::replace(seen, true) {
                return Err(SyntaxError::new(at, What::Twice));
            }
        }
        Ok(Self(text))
    }

    /// The text as it was read.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Its terms in order.
    pub fn terms(self) -> impl Iterator<Item = Term<'a>> {
        words(self.0, TERMS_AT).filter_map(|(_, word)| Term::parse(word).ok())
    }

    /// Whose record decides when no mechanism matched.
    pub fn redirect(self) -> Option<MacroString<'a>> {
        self.redirect_at().map(|(_, _, domain)| domain)
    }

    /// The same, with where that modifier begins, and its text.
    pub(super) fn redirect_at(self) -> Option<(usize, &'a str, MacroString<'a>)> {
        words(self.0, TERMS_AT).find_map(|(at, word)| match Term::parse(word) {
            Ok(Term::Modifier(Modifier::Redirect(domain))) => Some((at, word, domain)),
            _ => None,
        })
    }

    /// Where the explanation of a fail is.
    pub fn explanation(self) -> Option<MacroString<'a>> {
        self.terms().find_map(|term| match term {
            Term::Modifier(Modifier::Explanation(domain)) => Some(domain),
            _ => None,
        })
    }

    /// The record of a text that [`parse`](Self::parse) took before.
    pub(super) fn parsed(text: &'a str) -> Self {
        Self(text)
    }
}

/// Where the first term of a record may begin.
pub(super) const TERMS_AT: usize = VERSION.len();

/// The words of `text` from octet `at`, each with where it begins.
pub(super) fn words(text: &str, at: usize) -> impl Iterator<Item = (usize, &str)> {
    let mut at = at;
    core::iter::from_fn(move || {
        let rest = text.get(at..)?;
        let word = rest.trim_start_matches(' ');
        if word.is_empty() {
            return None;
        }
        let start = at + (rest.len() - word.len());
        let (word, _) = word.split_at(word.find(' ').unwrap_or(word.len()));
        at = start + word.len();
        Some((start, word))
    })
}

impl Qualifier {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            b'+' => Self::Pass,
            b'-' => Self::Fail,
            b'~' => Self::SoftFail,
            b'?' => Self::Neutral,
            _ => return None,
        })
    }
}

impl<'a> Term<'a> {
    /// Reads one term, printable ASCII.
    ///
    /// # Errors
    /// The first mistake, counted from the term's first octet.
    pub fn parse(text: &'a str) -> Result<Self, SyntaxError> {
        let qualifier = text.bytes().next().and_then(Qualifier::of);
        let start = usize::from(qualifier.is_some());
        let body = text.get(start..).unwrap_or_default();
        let end = body
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
            .unwrap_or(body.len());
        let (name, rest) = body.split_at(end);
        let behind = start + end;
        match rest.bytes().next() {
            Some(b'=') if qualifier.is_some() => {
                return Err(SyntaxError::new(0, What::QualifiedModifier));
            }
            Some(b'=') => {
                let value = rest.get(1..).unwrap_or_default();
                return Modifier::parse(name, value)
                    .map(Self::Modifier)
                    .map_err(|e| match e.what {
                        What::ModifierName | What::WrongSeparator => e,
                        _ => e.behind(behind + 1),
                    });
            }
            None | Some(b':' | b'/') => {}
            Some(byte) => return Err(SyntaxError::new(behind, What::Character(byte))),
        }
        let mechanism = Mechanism::parse(name, rest).map_err(|e| match e.what {
            What::UnknownMechanism | What::WrongSeparator => e.behind(start),
            _ => e.behind(behind),
        })?;
        Ok(Self::Directive(Directive {
            qualifier: qualifier.unwrap_or_default(),
            mechanism,
        }))
    }
}

impl<'a> Modifier<'a> {
    fn parse(name: &'a str, value: &'a str) -> Result<Self, SyntaxError> {
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(SyntaxError::new(0, What::ModifierName));
        }
        if name.eq_ignore_ascii_case("redirect") {
            return MacroString::parse(value, Place::Domain).map(Self::Redirect);
        }
        if name.eq_ignore_ascii_case("exp") {
            return MacroString::parse(value, Place::Domain).map(Self::Explanation);
        }
        let value = MacroString::parse(value, Place::Modifier)?;
        Ok(Self::Unknown { name, value })
    }
}

impl<'a> Mechanism<'a> {
    /// Reads what stands behind the name; places are counted from there.
    fn parse(name: &str, rest: &'a str) -> Result<Self, SyntaxError> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("all") {
            return if rest.is_empty() {
                Ok(Self::All)
            } else {
                Err(SyntaxError::new(0, What::Argument))
            };
        }
        if is("include") {
            return required(rest).map(Self::Include);
        }
        if is("exists") {
            return required(rest).map(Self::Exists);
        }
        if is("ptr") {
            return optional(rest).map(Self::Ptr);
        }
        if is("a") || is("mx") {
            let (spec, cidr) = dual_cidr(rest)?;
            let domain = optional(spec)?;
            return Ok(if is("a") {
                Self::A { domain, cidr }
            } else {
                Self::Mx { domain, cidr }
            });
        }
        if is("ip4") {
            let (network, at, bits) = network(rest)?;
            let network = network
                .parse()
                .map_err(|_| SyntaxError::new(1, What::Ip4))?;
            let bits = bits.map_or(Ok(32), |bits| length(bits, 32, at))?;
            return Ok(Self::Ip4 { network, bits });
        }
        if is("ip6") {
            let (network, at, bits) = network(rest)?;
            let network = network
                .parse()
                .map_err(|_| SyntaxError::new(1, What::Ip6))?;
            let bits = bits.map_or(Ok(128), |bits| length(bits, 128, at))?;
            return Ok(Self::Ip6 { network, bits });
        }
        Err(SyntaxError::new(
            0,
            if is("redirect") || is("exp") {
                What::WrongSeparator
            } else {
                What::UnknownMechanism
            },
        ))
    }
}

/// `":" domain-spec`.
fn required(rest: &str) -> Result<MacroString<'_>, SyntaxError> {
    optional(rest)?.ok_or(SyntaxError::new(0, What::NoDomain))
}

/// `[ ":" domain-spec ]`.
fn optional(rest: &str) -> Result<Option<MacroString<'_>>, SyntaxError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let spec = rest
        .strip_prefix(':')
        .ok_or(SyntaxError::new(0, What::Argument))?;
    MacroString::parse(spec, Place::Domain)
        .map(Some)
        .map_err(|e| e.behind(1))
}

/// Cuts `[ "/" n ] [ "//" n ]` off the end.
fn dual_cidr(rest: &str) -> Result<(&str, Cidr), SyntaxError> {
    let mut cidr = Cidr::WHOLE;
    let mut spec = rest;
    if let Some((before, bits)) = trailing(spec)
        && let Some(before) = before.strip_suffix('/')
    {
        cidr.v6 = length(bits, 128, before.len() + 2)?;
        spec = before;
    }
    if let Some((before, bits)) = trailing(spec) {
        cidr.v4 = length(bits, 32, before.len() + 1)?;
        spec = before;
    }
    Ok((spec, cidr))
}

/// What stands before and behind the last `/`, if only digits stand behind it. No domain ends
/// like that.
fn trailing(text: &str) -> Option<(&str, &str)> {
    text.rsplit_once('/')
        .filter(|(_, digits)| digits.bytes().all(|b| b.is_ascii_digit()))
}

/// `":" address [ "/" length ]`: the address, and where its length begins, and it.
fn network(rest: &str) -> Result<(&str, usize, Option<&str>), SyntaxError> {
    let rest = rest
        .strip_prefix(':')
        .filter(|rest| !rest.is_empty())
        .ok_or(SyntaxError::new(0, What::NoAddress))?;
    Ok(match rest.split_once('/') {
        Some((address, bits)) => (address, address.len() + 2, Some(bits)),
        None => (rest, 0, None),
    })
}

/// A number of bits without a leading zero.
fn length(digits: &str, max: u8, at: usize) -> Result<u8, SyntaxError> {
    let plain = !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    digits
        .parse()
        .ok()
        .filter(|&bits| plain && bits <= max)
        .ok_or(SyntaxError::new(at, What::Cidr))
}

/// Whether `ip` lies in the network of `bits` bits around `network`, both of one family.
pub(super) fn within(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let differ = a.to_bits() ^ b.to_bits();
            differ.leading_zeros() >= u32::from(bits)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let differ = a.to_bits() ^ b.to_bits();
            differ.leading_zeros() >= u32::from(bits)
        }
        _ => false,
    }
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for Qualifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "",
            Self::Fail => "-",
            Self::SoftFail => "~",
            Self::Neutral => "?",
        })
    }
}

impl fmt::Display for Term<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directive(d) => write!(f, "{}{}", d.qualifier, d.mechanism),
            Self::Modifier(m) => write!(f, "{m}"),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.v4 != Self::WHOLE.v4 {
            write!(f, "/{}", self.v4)?;
        }
        if self.v6 != Self::WHOLE.v6 {
            write!(f, "//{}", self.v6)?;
        }
        Ok(())
    }
}

impl fmt::Display for Mechanism<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |f: &mut fmt::Formatter<'_>, name, domain: &Option<MacroString<'_>>| {
            f.write_str(name)?;
            domain.map_or(Ok(()), |domain| write!(f, ":{domain}"))
        };
        match self {
            Self::All => f.write_str("all"),
            Self::Include(domain) => write!(f, "include:{domain}"),
            Self::A { domain, cidr } => {
                host(f, "a", domain)?;
                write!(f, "{cidr}")
            }
            Self::Mx { domain, cidr } => {
                host(f, "mx", domain)?;
                write!(f, "{cidr}")
            }
            Self::Ptr(domain) => host(f, "ptr", domain),
            Self::Ip4 { network, bits: 32 } => write!(f, "ip4:{network}"),
            Self::Ip4 { network, bits } => write!(f, "ip4:{network}/{bits}"),
            Self::Ip6 { network, bits: 128 } => write!(f, "ip6:{network}"),
            Self::Ip6 { network, bits } => write!(f, "ip6:{network}/{bits}"),
            Self::Exists(domain) => write!(f, "exists:{domain}"),
        }
    }
}

impl fmt::Display for Modifier<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redirect(domain) => write!(f, "redirect={domain}"),
            Self::Explanation(domain) => write!(f, "exp={domain}"),
            Self::Unknown { name, value } => write!(f, "{name}={value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use proptest::string::string_regex;

    #[test]
    fn every_term() {
        let text = "v=spf1 +all Include:A.example a ?mx/24//64 -a:b.example//0 ~mx:%{d}/0 ptr \
                    PTR:c.example ip4:192.0.2.0/24 IP4:192.0.2.1 ip6:2001:DB8::/32 \
                    ip6:::ffff:192.0.2.1 exists:%{ir}.%{d2} redirect=d.example EXP=e.example \
                    moo.cow-far_out=man:dog/cat x=  ";
        let record = Record::parse(text.as_bytes()).unwrap();
        assert_eq!(record.to_string(), text);
        let terms: Vec<String> = record.terms().map(|t| t.to_string()).collect();
        assert_eq!(
            terms.join(" "),
            "all include:A.example a ?mx/24//64 -a:b.example//0 ~mx:%{d}/0 ptr ptr:c.example \
             ip4:192.0.2.0/24 ip4:192.0.2.1 ip6:2001:db8::/32 ip6:::ffff:192.0.2.1 \
             exists:%{ir}.%{d2} redirect=d.example exp=e.example moo.cow-far_out=man:dog/cat x="
        );
        assert_eq!(record.redirect().unwrap().as_str(), "d.example");
        assert_eq!(record.explanation().unwrap().as_str(), "e.example");
        let Some(Term::Directive(directive)) = record.terms().nth(3) else {
            panic!("a directive");
        };
        assert_eq!(directive.qualifier, Qualifier::Neutral);
        assert_eq!(
            directive.mechanism,
            Mechanism::Mx {
                domain: None,
                cidr: Cidr { v4: 24, v6: 64 }
            }
        );
    }

    #[test]
    fn which_texts_are_records() {
        for text in ["v=spf1", "V=SPF1 ", "v=spf1 nonsense", "v=sPf1 -all"] {
            assert!(Record::is_spf(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "v=spf",
            "v=spf10",
            "v=spf1-all",
            "v=spf1\tall",
            " v=spf1",
            "v=spf2.0/pra",
        ] {
            assert!(!Record::is_spf(text.as_bytes()), "{text}");
            assert_eq!(
                Record::parse(text.as_bytes()),
                Err(SyntaxError::new(0, What::Version))
            );
        }
        for text in ["v=spf1", "v=spf1   ", "v=spf1  a   -all ", "V=SPF1 ALL"] {
            assert!(Record::parse(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_and_where() {
        for (term, at, what) in [
            ("foo", 0, What::UnknownMechanism),
            ("-foo:b.c", 1, What::UnknownMechanism),
            ("all.", 0, What::UnknownMechanism),
            ("-", 1, What::UnknownMechanism),
            ("++all", 1, What::Character(b'+')),
            ("!", 0, What::Character(b'!')),
            ("a,mx", 1, What::Character(b',')),
            ("all:b.c", 3, What::Argument),
            ("all/8", 3, What::Argument),
            ("include", 7, What::NoDomain),
            ("include:", 8, What::NoDomain),
            ("include:b.c/24", 8, What::TopLabel),
            ("include/24", 7, What::Argument),
            ("exists", 6, What::NoDomain),
            ("exists:", 7, What::NoDomain),
            ("ptr:", 4, What::NoDomain),
            ("ptr/24", 3, What::Argument),
            ("a:", 2, What::NoDomain),
            ("a:/24", 2, What::NoDomain),
            ("a/33", 2, What::Cidr),
            ("a/", 2, What::Cidr),
            ("a/08", 2, What::Cidr),
            ("a//129", 3, What::Cidr),
            ("a:b.c/24/64", 9, What::Cidr),
            ("a/24//", 6, What::Cidr),
            ("a/24///64", 5, What::Cidr),
            ("mx//064", 4, What::Cidr),
            ("a:b.c/+8", 2, What::TopLabel),
            ("a:b.c:8080", 2, What::TopLabel),
            ("a:192.0.2.1", 2, What::TopLabel),
            ("a:museum", 2, What::TopLabel),
            ("mx:a.b.%{x}", 7, What::MacroLetter),
            ("ip4", 3, What::NoAddress),
            ("ip4:", 3, What::NoAddress),
            ("ip4/24", 3, What::NoAddress),
            ("ip4:192.0.2", 4, What::Ip4),
            ("ip4:192.0.2.256", 4, What::Ip4),
            ("ip4:192.0.2.01", 4, What::Ip4),
            ("ip4:192.0.2.1:25", 4, What::Ip4),
            ("ip4:192.0.2.1/", 14, What::Cidr),
            ("ip4:192.0.2.1/33", 14, What::Cidr),
            ("ip4:192.0.2.1/032", 14, What::Cidr),
            ("ip4:192.0.2.1//32", 14, What::Cidr),
            ("ip4:2001:db8::1", 4, What::Ip4),
            ("ip6", 3, What::NoAddress),
            ("ip6:2001:db8:::1", 4, What::Ip6),
            ("ip6:192.0.2.1", 4, What::Ip6),
            ("ip6:fe80::1%25eth0", 4, What::Ip6),
            ("ip6:::1/129", 8, What::Cidr),
            ("ip6:::1//33", 8, What::Cidr),
            ("-redirect=b.c", 0, What::QualifiedModifier),
            ("redirect:b.c", 0, What::WrongSeparator),
            ("?exp:b.c", 1, What::WrongSeparator),
            ("redirect=", 9, What::NoDomain),
            ("redirect=b.c/24", 9, What::TopLabel),
            ("exp=", 4, What::NoDomain),
            ("exp=%{t}.b.c", 4, What::MacroOfExplanation),
            ("=b.c", 0, What::ModifierName),
            ("1up=b.c", 0, What::ModifierName),
            ("moo=%abc", 4, What::Percent),
            ("moo=%{c}", 4, What::MacroOfExplanation),
        ] {
            let record = format!("v=spf1 mx  {term} -all");
            assert_eq!(
                Record::parse(record.as_bytes()),
                Err(SyntaxError::new(at + 11, what)),
                "{term}"
            );
        }
        for (record, at, what) in [
            ("v=spf1 redirect=a.b Redirect=a.b", 20, What::Twice),
            ("v=spf1 exp=a.b -all exp=a.b", 20, What::Twice),
            ("v=spf1 a:b.c\u{fe}", 12, What::Character(0xc3)),
            ("v=spf1 a:b.c\tall", 12, What::Character(b'\t')),
            ("v=spf1 a:b.c\0all", 12, What::Character(0)),
        ] {
            assert_eq!(
                Record::parse(record.as_bytes()),
                Err(SyntaxError::new(at, what)),
                "{record}"
            );
        }
        assert_eq!(
            Record::parse(b"v=spf1 ip4:10.0.0.256")
                .unwrap_err()
                .to_string(),
            "not an IPv4 address (character 12)"
        );
    }

    #[test]
    fn networks() {
        let within = |ip: &str, network: &str, bits| {
            within(ip.parse().unwrap(), network.parse().unwrap(), bits)
        };
        assert!(within("192.0.2.1", "192.0.2.1", 32));
        assert!(!within("192.0.2.0", "192.0.2.1", 32));
        assert!(within("192.0.2.0", "192.0.2.1", 31));
        assert!(within("1.2.3.4", "192.0.2.1", 0));
        assert!(!within("64.0.0.0", "192.0.2.1", 1));
        assert!(within("2001:db8::1", "2001:db8:ffff::", 32));
        assert!(!within("2001:db9::1", "2001:db8::", 32));
        assert!(!within("::1.2.3.4", "1.2.3.4", 0));
    }

    /// Terms as records have them.
    fn term() -> impl Strategy<Value = String> {
        let domain =
            "(%\\{[sdlohipv][1-9]?r?[-.]?\\}\\.)?[a-z0-9_]{1,5}\\.(example|org|1a|a-b)\\.?";
        let host = format!(
            "[+?~-]?(a|mx|A|MX)(:{domain})?(/(0|[1-9]|[12][0-9]|32))?(//(0|[1-9]|1[01][0-9]))?"
        );
        let regex = |text: &str| string_regex(text).unwrap();
        prop_oneof![
            regex("[+?~-]?(all|ALL|ptr)"),
            regex(&format!("[+?~-]?(include|exists|ptr|Include):{domain}")),
            regex(&host),
            regex("[+?~-]?ip4:[1-9]\\.1[0-9]\\.2[0-4][0-9]\\.0(/(0|[1-9]|[12][0-9]|32))?"),
            regex("[+?~-]?ip6:2001:db8::[0-9a-f]{1,4}(/(0|[1-9]|1[01][0-9]))?"),
            regex("[A-Za-z][a-z0-9._-]{0,5}=[!-$&-~]{0,9}"),
        ]
        .prop_filter("redirect and exp have a syntax of their own", |t| {
            !t.starts_with("exp=")
        })
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Record::parse(&bytes);
            let mut record = b"v=spf1 ".to_vec();
            record.extend(bytes);
            if let Err(error) = Record::parse(&record) {
                prop_assert!(error.at <= record.len());
                prop_assert!(!error.to_string().is_empty());
            }
        }

        /// A record is given back as it was; terms in their usual form mean the same.
        #[test]
        fn display_inverts_parse(terms in proptest::collection::vec(term(), 0..12)) {
            let text = format!("v=spf1 {}", terms.join("  "));
            let record = Record::parse(text.as_bytes())
                .map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
            prop_assert_eq!(record.to_string(), text.as_str());
            let read: Vec<Term<'_>> = record.terms().collect();
            prop_assert_eq!(read.len(), terms.len());
            for term in read {
                let usual = term.to_string();
                prop_assert_eq!(Term::parse(&usual), Ok(term));
            }
        }
    }
}
