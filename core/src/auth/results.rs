//! The field `Authentication-Results:` (RFC 8601).
//!
//! Writing: fill [`Results`] and [`write`](Results::write) it on top of the message. Reading:
//! [`Results::parse`] the value of a field. At intake, what came from outside the trust boundary
//! and claims to be ours is found by [`forged`], and taken out of the message (RFC 8601 5).
//!
//! ```
//! use courser_core::auth::results::{MethodResult, Results};
//! let spf = MethodResult::new("spf", "pass").property("smtp", "mailfrom", "ann@example.org");
//! let results = Results { authserv_id: "mx.example.net".into(), results: vec![spf], ..Results::default() };
//! let mut field = String::new();
//! results.write(&mut field).unwrap();
//! assert_eq!(
//!     field,
//!     "Authentication-Results: mx.example.net;\r\n\tspf=pass smtp.mailfrom=ann@example.org\r\n"
//! );
//! let value = field.strip_prefix("Authentication-Results:").unwrap();
//! assert_eq!(Results::parse(value).unwrap(), results);
//! ```
//!
//! ```text
//! value    = authserv-id [ version ] ( ";" "none" / 1*( ";" resinfo ) )       RFC 8601 2.2
//! resinfo  = method [ "/" version ] "=" result [ "reason" "=" word ]
//!            *( ptype "." property "=" pvalue )
//! method, result, ptype, property = keyword
//! word     = token / quoted-string
//! pvalue   = word / [ [ local-part ] "@" ] domain
//! ```
//! with comments and folding white space between any two of these.
//!
//! Taken although the grammar forbids it, because servers write it: any printable character but
//! `;`, `(` and `"` in a value without quotes, no value at all, a property without ptype (`action=none`),
//! `_` in keywords, a `;` at the end, and no result at all.
//!
//! Kept of comments is the first one behind a result; the others say nothing to a program.

mod reader;

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use self::reader::{Reader, is_keyword};
use crate::dns::to_ascii;
use crate::limits::{AUTH_RESULTS_MAX, AUTH_VALUE_BYTES_MAX, LINE_BYTES_WISHED};
use crate::mail::header::{Field, Header};

/// The name of the field.
pub const FIELD_NAME: &str = "Authentication-Results";

/// One field: who checked, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// Who checked: usually the host or the domain of the receiver (RFC 8601 2.5).
    pub authserv_id: String,
    /// The version of the field, where it is written: 1 (RFC 8601 2.2).
    pub version: Option<u32>,
    /// What was checked; nothing is written as `none`.
    pub results: Vec<MethodResult>,
}

/// The result of one method.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MethodResult {
    /// The method, as `spf`, `dkim`, `dmarc`, `arc` (RFC 8601 2.7).
    pub method: Cow<'static, str>,
    /// The version of the method, where it is written.
    pub method_version: Option<u32>,
    /// The result, as `pass`, `fail`, `temperror`.
    pub result: Cow<'static, str>,
    /// What the comment behind the result says.
    pub comment: Option<String>,
    /// Why, for people.
    pub reason: Option<String>,
    /// What was checked.
    pub properties: Vec<Property>,
}

/// A property `ptype.property=value` of what was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Property {
    /// Where it comes from: `smtp`, `header`, `body`, `policy`, `dns`, `polrec` (RFC 8601 2.3);
    /// empty where it was read without.
    pub ptype: Cow<'static, str>,
    /// What it is.
    pub property: Cow<'static, str>,
    /// What it says.
    pub value: String,
}

impl MethodResult {
    /// `method=result`.
    pub fn new(method: impl Into<Cow<'static, str>>, result: impl Into<Cow<'static, str>>) -> Self {
        Self {
            method: method.into(),
            result: result.into(),
            ..Self::default()
        }
    }

    /// With one more property.
    #[must_use]
    pub fn property(
        mut self,
        ptype: &'static str,
        property: &'static str,
        value: impl Into<String>,
    ) -> Self {
        self.properties.push(Property {
            ptype: ptype.into(),
            property: property.into(),
            value: value.into(),
        });
        self
    }

    /// With a reason.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// With a comment.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// The value of a property.
    pub fn find(&self, ptype: &str, property: &str) -> Option<&str> {
        let same = |p: &&Property| {
            p.ptype.eq_ignore_ascii_case(ptype) && p.property.eq_ignore_ascii_case(property)
        };
        self.properties.iter().find(same).map(|p| &*p.value)
    }
}

/// Why a value can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResultsError {
    /// It doesn't begin with who checked.
    AuthservId,
    /// A version other than 1, which readers must not guess at (RFC 8601 2.2).
    Version,
    /// `method=result` was expected.
    Method,
    /// `ptype.property=value` was expected.
    Property,
    /// Quotes that don't end, or a control character in them.
    Value,
    /// A comment that doesn't end.
    Comment,
    /// More than [`AUTH_RESULTS_MAX`] results or [`AUTH_PROPERTIES_MAX`](crate::limits::AUTH_PROPERTIES_MAX)
    /// properties of one.
    TooMany,
}

impl fmt::Display for ResultsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AuthservId => "it doesn't begin with an authserv-id",
            Self::Version => "a version other than 1",
            Self::Method => "a result that is no method=result",
            Self::Property => "a property that is no ptype.property=value",
            Self::Value => "a quoted string that is malformed",
            Self::Comment => "a comment that doesn't end",
            Self::TooMany => "too many results or properties",
        })
    }
}
impl core::error::Error for ResultsError {}

impl Results {
    /// Parses the value of a field, folded or not.
    ///
    /// # Errors
    /// [`ResultsError`] says what can't be read.
    pub fn parse(value: &str) -> Result<Self, ResultsError> {
        let mut reader = Reader { rest: value };
        let authserv_id = reader.authserv_id()?;
        let mut results = Self {
            authserv_id,
            ..Self::default()
        };
        if reader.rest.starts_with(|c: char| c.is_ascii_digit()) {
            let version = reader.number().filter(|v| *v == 1);
            results.version = Some(version.ok_or(ResultsError::Version)?);
            reader.skip()?;
        }
        while reader.take(';') {
            reader.skip()?;
            if reader.rest.is_empty() {
                break;
            }
            if results.results.is_empty() && reader.none()? {
                return Ok(results);
            }
            if results.results.len() >= AUTH_RESULTS_MAX {
                return Err(ResultsError::TooMany);
            }
            results.results.push(reader.result()?);
        }
        match reader.rest {
            "" => Ok(results),
            _ if results.results.is_empty() => Err(ResultsError::AuthservId),
            _ => Err(ResultsError::Property),
        }
    }

    /// Writes the field with its line ends: each result on a line of its own, longer ones folded
    /// between two properties, and longer comments and reasons within, so that a line has no more
    /// than [`LINE_BYTES_WISHED`] octets where the values let it. Values longer than
    /// [`AUTH_VALUE_BYTES_MAX`] are cut, control characters in them become `?`, and what can't stand
    /// in a keyword `-`. Text beyond ASCII stays as it is (RFC 8616), which only a message with SMTPUTF8 may carry.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl fmt::Write) -> fmt::Result {
        let mut folder = Folder {
            out,
            column: 0,
            width: LINE_BYTES_WISHED,
        };
        folder.raw(FIELD_NAME)?;
        folder.raw(": ")?;
        self.write_value(&mut folder)?;
        folder.raw("\r\n")
    }

    fn write_value<W: fmt::Write>(&self, out: &mut Folder<'_, W>) -> fmt::Result {
        out.raw(&word(&self.authserv_id, false))?;
        if let Some(version) = self.version {
            out.raw(&alloc::format!(" {version}"))?;
        }
        if self.results.is_empty() {
            return out.raw("; none");
        }
        for result in &self.results {
            out.raw(";")?;
            out.fold()?;
            let version = result.method_version.map(|v| alloc::format!("/{v}"));
            out.raw(&alloc::format!(
                "{}{}={}",
                keyword(&result.method),
                version.as_deref().unwrap_or(""),
                keyword(&result.result)
            ))?;
            if let Some(comment) = &result.comment {
                out.words(&comment_of(comment))?;
            }
            if let Some(reason) = &result.reason {
                out.words(&alloc::format!("reason={}", word(reason, false)))?;
            }
            for property in &result.properties {
                let ptype = match &*property.ptype {
                    "" => String::new(),
                    ptype => alloc::format!("{}.", keyword(ptype)),
                };
                out.property(&alloc::format!(
                    "{ptype}{}={}",
                    keyword(&property.property),
                    word(&property.value, true)
                ))?;
            }
        }
        Ok(())
    }

    /// Whether this field claims to be of `authserv_id`.
    pub fn is_of(&self, authserv_id: &str) -> bool {
        same_id(&self.authserv_id, authserv_id)
    }
}

/// The value without folding, on one line.
impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_value(&mut Folder {
            out: f,
            column: 0,
            width: usize::MAX,
        })
    }
}

/// The fields in a header that claim to be of one of our own authserv-ids, or that some reader might
/// take for ours: see [`may_be_of`]. In a message that came from outside they are forged and must
/// go (RFC 8601 5); so must not those that a trusted host of ours wrote. What else must not stay in
/// such a message is found by [`inbound`](super::inbound).
pub fn forged<'a>(header: Header<'a>, ours: &[&str]) -> impl Iterator<Item = Field<'a>> {
    header
        .fields()
        .filter(move |field| field.is(FIELD_NAME) && may_be_of(field.value(), ours))
}

/// Whether the value of a field may be taken for one of our own authserv-ids: unless it is beyond
/// doubt another's it is, since leaving out what a stranger found costs less than believing him.
///
/// Beyond doubt is a token, quoted or not, with nothing but comments, white space and a version
/// between it and the results. Not so are `mx.example.net/1`, `mx.example.net spf=pass`, an encoded
/// word, octets that are no UTF-8, or no id at all. Ids are compared as domains: without regard to
/// case, to a final dot, and to whether they are written with U-labels or A-labels (RFC 8616 5).
pub fn may_be_of(value: &[u8], ours: &[&str]) -> bool {
    let value = core::str::from_utf8(value).ok();
    let id = value.and_then(|rest| Reader { rest }.clear_authserv_id());
    match id {
        Some(id) if to_ascii(&id).is_ok() => ours.iter().any(|our| same_id(&id, our)),
        _ => true,
    }
}

fn same_id(a: &str, b: &str) -> bool {
    fn plain(id: &str) -> Cow<'_, str> {
        to_ascii(id).unwrap_or(Cow::Borrowed(id))
    }
    let (a, b) = (plain(a), plain(b));
    let dots = |id| str::trim_matches(id, '.');
    dots(&a).eq_ignore_ascii_case(dots(&b))
}

// -- writing --

struct Folder<'a, W> {
    out: &'a mut W,
    column: usize,
    /// Longest line that is wished for, octets.
    width: usize,
}

impl<W: fmt::Write> Folder<'_, W> {
    fn raw(&mut self, text: &str) -> fmt::Result {
        self.column += text.len();
        self.out.write_str(text)
    }

    fn fold(&mut self) -> fmt::Result {
        if self.width == usize::MAX {
            return self.raw(" ");
        }
        self.out.write_str("\r\n\t")?;
        self.column = 1;
        Ok(())
    }

    /// Whether so many octets more, and the semicolon that may follow them, still fit.
    fn has_room(&self, len: usize) -> bool {
        self.column + len < self.width
    }

    /// What separates something so long from what is before it.
    fn space(&mut self, len: usize) -> fmt::Result {
        match self.has_room(1 + len) {
            true => self.raw(" "),
            false => self.fold(),
        }
    }

    /// A property: programs compare it, so it stays in one piece.
    fn property(&mut self, text: &str) -> fmt::Result {
        self.space(text.len())?;
        self.raw(text)
    }

    /// A comment or a reason, for people: if it is longer than a line, it is folded before spaces.
    fn words(&mut self, text: &str) -> fmt::Result {
        self.space(text.len())?;
        let mut rest = text;
        while !self.has_room(rest.len()) {
            let (piece, more) = rest
                .split_at_checked(fold_point(rest))
                .unwrap_or((rest, ""));
            self.raw(piece)?;
            rest = more;
            if rest.is_empty() {
                break;
            }
            let next = rest.get(..fold_point(rest)).unwrap_or(rest);
            if !self.has_room(next.len()) {
                self.out.write_str("\r\n")?;
                self.column = 0;
            }
        }
        self.raw(rest)
    }
}

/// Where `text` may be folded first: before a space that follows no other, so that no line is made
/// of blanks alone (RFC 5322 3.2.2).
fn fold_point(text: &str) -> usize {
    let bytes = text.as_bytes();
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let mut pairs = bytes.iter().zip(bytes.iter().skip(1));
    let before = pairs.position(|(a, b)| !blank(a) && *b == b' ');
    before.map_or(text.len(), |at| at + 1)
}

/// Longest keyword that is written; registered ones have a dozen characters.
const KEYWORD_CHARS_MAX: usize = 63;

fn cut(text: &str) -> &str {
    let most = AUTH_VALUE_BYTES_MAX.min(text.len());
    // Not within a character.
    let end = (0..=most).rev().find(|&at| text.is_char_boundary(at));
    text.get(..end.unwrap_or(0)).unwrap_or("")
}

fn printable(text: &str) -> impl Iterator<Item = char> {
    cut(text)
        .chars()
        .map(|c| if c.is_control() && c != '\t' { '?' } else { c })
}

fn keyword(text: &str) -> String {
    let good = |c| if is_keyword(c) { c } else { '-' };
    let text: String = text.chars().map(good).take(KEYWORD_CHARS_MAX).collect();
    if text.is_empty() {
        String::from("unknown")
    } else {
        text
    }
}

/// A token, an address where it may be one, or a quoted string.
fn word(text: &str, pvalue: bool) -> String {
    let text = cut(text);
    if is_token(text) || pvalue && is_address(text) {
        return text.into();
    }
    let mut quoted = String::from("\"");
    for c in printable(text) {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

fn comment_of(text: &str) -> String {
    let mut comment = String::from("(");
    for c in printable(text) {
        if matches!(c, '(' | ')' | '\\') {
            comment.push('\\');
        }
        comment.push(c);
    }
    comment.push(')');
    comment
}

/// RFC 2045 5.1, and text beyond ASCII (RFC 8616 5).
fn is_token(text: &str) -> bool {
    let special = |c: char| "()<>@,;:\\\"/[]?=".contains(c);
    let good = |c: char| c.is_ascii_graphic() && !special(c) || !c.is_ascii() && !c.is_control();
    !text.is_empty() && text.chars().all(good)
}

/// `[local-part]@domain`, the local part a dot-atom or quoted.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let atom = |c: char| {
        c.is_ascii_alphanumeric()
            || "!#$%&'*+-/=?^_`{|}~.".contains(c)
            || !c.is_ascii() && !c.is_control()
    };
    let quoted = || {
        let inner = local.strip_prefix('"').and_then(|l| l.strip_suffix('"'));
        let odd = |c: char| c.is_control() || matches!(c, '"' | '\\');
        inner.is_some_and(|inner| !inner.contains(odd))
    };
    let label = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '-' | '_' | '.')
            || !c.is_ascii() && !c.is_control()
    };
    (local.chars().all(atom) || quoted()) && !domain.is_empty() && domain.chars().all(label)
}

#[cfg(test)]
mod tests;
