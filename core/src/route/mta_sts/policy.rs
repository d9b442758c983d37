//! The policy itself (RFC 8461 3.2): read, written, and asked whether it allows a host (4.1).
//!
//! ```text
//! policy    = *( field *WSP ( LF / CRLF ) ) [ field *WSP ]
//! field     = name ":" *WSP value
//! version   = %s"STSv1"
//! mode      = %s"enforce" / %s"testing" / %s"none"
//! mx        = [ "*." ] Domain                                    A-labels
//! max_age   = 1*10DIGIT                                          seconds
//! extension = vchar [ *( SP / vchar ) vchar ]     vchar = %x21-7E / UTF8-2 / UTF8-3 / UTF8-4
//! ```
//!
//! What is decided here:
//! - Fields come in any order. Of a field other than `mx` that comes again, the first counts,
//!   whatever the others say (3.2). Unknown fields are passed over.
//! - Empty lines are taken, though the grammar has none: they say nothing, and editors leave them.
//! - A `max_age` above the 31,557,600 seconds that there may be counts as those.
//! - Without `mx` only `none` is a policy; one with more than
//!   [`MTA_STS_MX_MAX`](crate::limits::MTA_STS_MX_MAX) is none.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::limits::{MTA_STS_MAX_AGE_S_MAX, MTA_STS_MX_MAX, MTA_STS_POLICY_BYTES_MAX};
use crate::mail::address::Domain;
use crate::route::fields::{FieldError, WSP, is_name};
use crate::route::reference::stands_for;

/// What a sender does with hosts that the policy does not allow, or that can't do TLS with a
/// certificate that names them (RFC 8461 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It doesn't deliver to them.
    Enforce,
    /// It delivers, and reports them (RFC 8460).
    Testing,
    /// As if there were no policy.
    None,
}

impl Mode {
    /// `enforce`, `testing` or `none`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Testing => "testing",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Hosts that take mail for a domain: one, or with `*.` all that have one label more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MxPattern(Box<str>);

impl MxPattern {
    /// Parses a host name, perhaps behind `*.`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        // Domain of RFC 5321 4.1.2, and A-labels only.
        match Domain::parse(name) {
            Ok(Domain::Name(name)) if name.is_ascii() => {
                Some(Self(text.to_ascii_lowercase().into()))
            }
            _ => None,
        }
    }

    /// How long its text is, octets.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether `host` is one of them, without regard to case and to a final dot (RFC 8461 4.1): the
    /// wildcard stands for exactly one label.
    pub fn matches(&self, host: &str) -> bool {
        stands_for(&self.0, host)
    }
}

impl fmt::Display for MxPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What is done about hosts that fail it.
    pub mode: Mode,
    /// Hosts that take the domain's mail, at most [`MTA_STS_MX_MAX`].
    pub mx: Vec<MxPattern>,
    /// How long it holds from when it was fetched, seconds; at most [`MTA_STS_MAX_AGE_S_MAX`].
    pub max_age_s: u32,
}

/// Why a text is no policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError {
    /// It has more than [`MTA_STS_POLICY_BYTES_MAX`].
    TooLong,
    /// It is not UTF-8, or has a control character.
    Character,
    /// A line is no `name: value`, or its name can't be one.
    Line,
    /// What is wrong with a field.
    Field(FieldError),
    /// It has more than [`MTA_STS_MX_MAX`] `mx`.
    TooManyMx,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it is longer than {MTA_STS_POLICY_BYTES_MAX} bytes"),
            Self::Character => f.write_str("it is not UTF-8, or has a control character"),
            Self::Line => f.write_str("a line is not \"name: value\""),
            Self::Field(error) => error.fmt(f),
            Self::TooManyMx => write!(f, "it has more than {MTA_STS_MX_MAX} mx"),
        }
    }
}
impl core::error::Error for PolicyError {}

/// A field of a policy that may come once.
struct Once<T>(Option<T>);

impl<T> Once<T> {
    fn set(&mut self, name: &str, read: impl FnOnce() -> Option<T>) -> Result<(), PolicyError> {
        if self.0.is_none() {
            let value = read().ok_or(FieldError::Value(name.into()));
            self.0 = Some(value.map_err(PolicyError::Field)?);
        }
        Ok(())
    }

    fn get(self, name: &'static str) -> Result<T, PolicyError> {
        self.0.ok_or(PolicyError::Field(FieldError::Missing(name)))
    }
}

impl Policy {
    /// Parses the text of a policy, with LF or CRLF.
    ///
    /// # Errors
    /// [`PolicyError`] says what is wrong; the text is then of no use at all.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        if text.len() > MTA_STS_POLICY_BYTES_MAX {
            return Err(PolicyError::TooLong);
        }
        let text = core::str::from_utf8(text).map_err(|_| PolicyError::Character)?;
        let (mut version, mut mode, mut max_age) = (Once(None), Once(None), Once(None));
        let mut mx = Vec::new();
        for line in text.split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line);
            let line = line.trim_end_matches(WSP);
            if line.chars().any(|c| c.is_control() && c != '\t') {
                return Err(PolicyError::Character);
            }
            if line.is_empty() {
                continue;
            }
            let (name, value) = line.split_once(':').ok_or(PolicyError::Line)?;
            let value = value.trim_start_matches(WSP);
            let wrong = || PolicyError::Field(FieldError::Value(name.into()));
            match name {
                "version" => version.set(name, || (value == "STSv1").then_some(()))?,
                "mode" => mode.set(name, || {
                    [Mode::Enforce, Mode::Testing, Mode::None]
                        .into_iter()
                        .find(|mode| mode.as_str() == value)
                })?,
                "max_age" => max_age.set(name, || read_max_age(value))?,
                "mx" if mx.len() == MTA_STS_MX_MAX => return Err(PolicyError::TooManyMx),
                "mx" => mx.push(MxPattern::parse(value).ok_or_else(wrong)?),
                _ if !is_name(name) => return Err(PolicyError::Line),
                _ if value.is_empty() || value.contains('\t') => return Err(wrong()),
                _ => {}
            }
        }
        version.get("version")?;
        let policy = Self {
            mode: mode.get("mode")?,
            mx,
            max_age_s: max_age.get("max_age")?,
        };
        if policy.mx.is_empty() && policy.mode != Mode::None {
            return Err(PolicyError::Field(FieldError::Missing("mx")));
        }
        Ok(policy)
    }

    /// Whether mail may go to the MX host `host`, by its name in the MX record (RFC 8461 4.1). Says
    /// nothing of its certificate, and doesn't look at the mode.
    pub fn allows(&self, host: &str) -> bool {
        self.mx.iter().any(|pattern| pattern.matches(host))
    }

    /// Its lines without their ends: the `policy-string` of a report (RFC 8460 4.4).
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::with_capacity(3 + self.mx.len());
        lines.push("version: STSv1".into());
        lines.push(alloc::format!("mode: {}", self.mode));
        lines.extend(self.mx.iter().map(|mx| alloc::format!("mx: {mx}")));
        lines.push(alloc::format!("max_age: {}", self.max_age_s));
        lines
    }

    /// Its patterns: the `mx-host` of a report (RFC 8460 4.4).
    pub fn patterns(&self) -> Vec<String> {
        self.mx.iter().map(ToString::to_string).collect()
    }
}

/// As it is served, with CRLF.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines()
            .iter()
            .try_for_each(|line| write!(f, "{line}\r\n"))
    }
}

/// One to ten digits, not above the largest that there may be.
fn read_max_age(text: &str) -> Option<u32> {
    let digits = (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let value: u64 = if digits {
        text.parse().ok()?
    } else {
        return None;
    };
    u32::try_from(value.min(MTA_STS_MAX_AGE_S_MAX.into())).ok()
}

/// Why a web server's response has no policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponseError {
    /// Another status than 200; redirects are not followed (RFC 8461 3.3).
    Status(u16),
    /// Another media type than `text/plain`, which is this (RFC 8461 3.2).
    MediaType(Box<str>),
    /// It is no policy.
    Policy(PolicyError),
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code @ 300..=399) => write!(
                f,
                "the policy's server answers {code}, a redirect, which may not be followed"
            ),
            Self::Status(code) => {
                write!(f, "the policy's server answers {code}, and should 200")
            }
            Self::MediaType(kind) => write!(
                f,
                "the policy's server sends it as {kind:?}, and should as text/plain"
            ),
            Self::Policy(error) => write!(f, "the policy can't be used: {error}"),
        }
    }
}
impl core::error::Error for ResponseError {}

/// The policy in a response of HTTPS: its status, its field Content-Type, its body.
///
/// # Errors
/// [`ResponseError`] says what is wrong. A body that was cut because it is too long must be given
/// with a byte more than may be, so that it isn't taken for a whole one.
pub fn read_response(
    status: u16,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<Policy, ResponseError> {
    if status != 200 {
        return Err(ResponseError::Status(status));
    }
    let content_type = content_type.unwrap_or("");
    let kind = content_type.split(';').next().unwrap_or("").trim();
    if !kind.eq_ignore_ascii_case("text/plain") {
        let shown: String = kind.chars().take(64).collect();
        return Err(ResponseError::MediaType(shown.into()));
    }
    Policy::parse(body).map_err(ResponseError::Policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(error: FieldError) -> PolicyError {
        PolicyError::Field(error)
    }

    fn wrong(name: &str) -> PolicyError {
        field(FieldError::Value(name.into()))
    }

    /// RFC 8461 3.2.
    const EXAMPLE: &str = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\n\
                           mx: *.example.net\r\nmx: backupmx.example.com\r\nmax_age: 604800\r\n";

    #[test]
    fn example_of_the_rfc() {
        let policy = Policy::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!((policy.mode, policy.max_age_s), (Mode::Enforce, 604_800));
        assert_eq!(policy.to_string(), EXAMPLE);
        let patterns = ["mail.example.com", "*.example.net", "backupmx.example.com"];
        assert_eq!(policy.patterns(), patterns);
        assert_eq!(policy.lines().len(), 6);
    }

    #[test]
    fn what_is_taken() {
        for text in [
            "max_age:60\nmx:a.example\nmode:testing\nversion:STSv1",
            "version: STSv1 \t\nmode:\t testing\t\r\nmx: A.example \nmax_age: 0060\n",
            "version: STSv1\n\nmode: testing\nmx: a.example\nmax_age: 60\n\r\n\n",
            "version: STSv1\nmode: testing\nmode: enforce\nmode: what\nmx: a.example\nmax_age: 60\n\
             max_age: x\nversion: STSv2\n",
            "version: STSv1\nmode: testing\nmx: a.example\nmax_age: 60\nmore: words in UTF-8: \u{e9}",
        ] {
            let policy = Policy::parse(text.as_bytes()).unwrap();
            assert_eq!(
                policy.to_string(),
                "version: STSv1\r\nmode: testing\r\nmx: a.example\r\nmax_age: 60\r\n",
                "{text:?}"
            );
        }
        let none = Policy::parse(b"version: STSv1\nmode: none\nmax_age: 9999999999").unwrap();
        assert_eq!(none.max_age_s, 31_557_600);
        assert!(!none.allows("a.example"));
    }

    #[test]
    fn what_is_not() {
        let with = |line: &str| {
            alloc::format!("version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 60\n{line}")
        };
        let mut cases = Vec::from([
            (String::new(), field(FieldError::Missing("version"))),
            (
                "version: STSv1\nmx: a.example\nmax_age: 60".into(),
                field(FieldError::Missing("mode")),
            ),
            (
                "version: STSv1\nmode: none\nmx: a.example".into(),
                field(FieldError::Missing("max_age")),
            ),
            (
                "version: STSv1\nmode: testing\nmax_age: 60".into(),
                field(FieldError::Missing("mx")),
            ),
            ("version: STSv2\nmode: none".into(), wrong("version")),
            ("version: stsv1\nmode: none".into(), wrong("version")),
            (
                "Version: STSv1\nmode: none".into(),
                field(FieldError::Missing("version")),
            ),
            ("version: STSv1\nmode: None".into(), wrong("mode")),
            ("version: STSv1\nmax_age: 1.5".into(), wrong("max_age")),
            ("version: STSv1\nmax_age: -1".into(), wrong("max_age")),
            ("version: STSv1\nmax_age: ".into(), wrong("max_age")),
            (
                "version: STSv1\nmax_age: 12345678901".into(),
                wrong("max_age"),
            ),
            ("version STSv1".into(), PolicyError::Line),
            (
                "version: STSv1\rmode: none\rmax_age: 60".into(),
                PolicyError::Character,
            ),
            (with("mx: "), wrong("mx")),
            (with("x:"), wrong("x")),
            (with("x: a\tb"), wrong("x")),
            (with("x : a"), PolicyError::Line),
            (with(" x: a"), PolicyError::Line),
            (with("x: a\0"), PolicyError::Character),
            (
                with(&"mx: a.example\n".repeat(MTA_STS_MX_MAX)),
                PolicyError::TooManyMx,
            ),
            (
                with(&"\n".repeat(MTA_STS_POLICY_BYTES_MAX)),
                PolicyError::TooLong,
            ),
        ]);
        for mx in [
            "*",
            "*.",
            "*.*.example",
            "**.example",
            "a*.example",
            "a.*.example",
            "a..example",
            "-a.example",
            "a-.example",
            "a.example.",
            "m\u{f8}x.example",
            "a_b.example",
            "[192.0.2.1]",
            "a b.example",
            "https://a.example",
        ] {
            cases.push((with(&alloc::format!("mx: {mx}")), wrong("mx")));
        }
        for (text, error) in cases {
            assert_eq!(Policy::parse(text.as_bytes()), Err(error), "{text:.120}");
        }
        assert_eq!(Policy::parse(b"version: \xff"), Err(PolicyError::Character));
    }

    #[test]
    fn which_hosts() {
        let policy = Policy::parse(EXAMPLE.as_bytes()).unwrap();
        for (host, allowed) in [
            ("mail.example.com", true),
            ("MX.example.NET", true),
            ("mx.example.com", false),
            ("a.mx.example.net", false),
        ] {
            assert_eq!(policy.allows(host), allowed, "{host}");
        }
    }

    #[test]
    fn responses() {
        let read =
            |status, kind| read_response(status, kind, EXAMPLE.as_bytes()).map(|p| p.mx.len());
        assert_eq!(read(200, Some("Text/Plain; charset=utf-8; x=y")), Ok(3));
        assert_eq!(read(200, Some("text/plain")), Ok(3));
        for (status, kind, words) in [
            (301, Some("text/plain"), "answers 301, a redirect"),
            (404, Some("text/plain"), "answers 404, and should 200"),
            (204, Some("text/plain"), "answers 204"),
            (200, Some("text/html"), "\"text/html\", and should"),
            (200, Some("text/plainly"), "\"text/plainly\""),
            (200, None, "as \"\""),
        ] {
            let error = read(status, kind).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let error = read_response(200, Some("text/plain"), b"<html>").unwrap_err();
        assert_eq!(error, ResponseError::Policy(PolicyError::Line));
    }

    proptest! {
        #[test]
        fn any_octets(text in proptest::collection::vec(any::<u8>(), 0..300), lines in "([a-z_]{1,7}: ?[ -~]{0,12}\n){0,6}") {
            let _ = Policy::parse(&text);
            if let Ok(policy) = Policy::parse(lines.as_bytes()) {
                prop_assert_eq!(Policy::parse(policy.to_string().as_bytes()), Ok(policy));
            }
        }

        #[test]
        fn reads_what_it_writes(
            mode in 0..3_usize,
            mx in proptest::collection::vec(r"(\*\.)?[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?(\.[a-z]{2,4}){0,3}", 1..9),
            max_age_s in 0..=MTA_STS_MAX_AGE_S_MAX,
        ) {
            let policy = Policy {
                mode: [Mode::Enforce, Mode::Testing, Mode::None][mode],
                mx: mx.iter().map(|mx| MxPattern::parse(mx).unwrap()).collect(),
                max_age_s,
            };
            for pattern in &policy.mx {
                let host = pattern.to_string().replace('*', "a");
                prop_assert!(policy.allows(&host));
            }
            prop_assert_eq!(Policy::parse(policy.to_string().as_bytes()), Ok(policy));
        }
    }
}
