//! The shape that the TXT records of MTA-STS and TLS-RPT share (RFC 8461 3.1, RFC 8460 3).
//!
//! ```text
//! record    = version 1*( delim field ) [ delim ]      delim = *WSP ";" *WSP
//! version   = %s"v=STSv1" / %s"v=TLSRPTv1"
//! field     = name "=" value
//! name      = (ALPHA / DIGIT) *31( ALPHA / DIGIT / "_" / "-" / "." )
//! extension = 1*( %x21-3A / %x3C / %x3E-7E )           the value of an unknown field
//! ```
//!
//! White space at the very end is taken, with or without a `;` before it.

use alloc::boxed::Box;
use core::fmt;

use crate::dns::{Failure, Outcome, Records};
use crate::limits::FIELD_NAME_BYTES_MAX;

/// What is wrong in a record or a policy of `name` and value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldError {
    /// It doesn't begin with the version, which is this.
    Version(&'static str),
    /// An octet that is no printable ASCII.
    Octet,
    /// Nothing stands between two semicolons, or there is no field at all.
    Empty,
    /// A part is no `name=value`, or its name is too long or has other characters than letters,
    /// digits, `_`, `-` and `.`.
    Name,
    /// This field has a value that it can't have.
    Value(Box<str>),
    /// This field is missing.
    Missing(&'static str),
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "it doesn't begin with {version};"),
            Self::Octet => f.write_str("it has an octet that is not printable ASCII"),
            Self::Empty => f.write_str("nothing stands where a field should"),
            Self::Name => f.write_str(
                "a field is no name=value, the name of at most 32 letters, digits, \"_\", \"-\", \".\"",
            ),
            Self::Value(name) => write!(f, "{name} has a value that it can't have"),
            Self::Missing(name) => write!(f, "there is no {name}"),
        }
    }
}
impl core::error::Error for FieldError {}

/// What a domain publishes under a name where one record should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published<T> {
    /// This.
    Record(T),
    /// Nothing.
    Nothing,
    /// Several records, which count as none.
    Several,
    /// One with this fault, which counts as none.
    Faulty(FieldError),
    /// Nobody knows, for now.
    Unknown(Failure),
}

impl<T> Published<T> {
    /// Reads what came of the TXT question: of the records that begin with `version` there must be
    /// one, and `parse` must like it.
    pub(super) fn read(
        outcome: &Outcome,
        version: &str,
        parse: impl FnOnce(&[u8]) -> Result<T, FieldError>,
    ) -> Self {
        let texts = match outcome {
            Outcome::Found(Records::Txt(texts)) => texts,
            Outcome::Failed(failure) => return Self::Unknown(*failure),
            _ => return Self::Nothing,
        };
        let mut ours = texts.iter().filter(|text| begins(text, version));
        match (ours.next(), ours.next()) {
            (None, _) => Self::Nothing,
            (Some(_), Some(_)) => Self::Several,
            (Some(text), None) => match parse(text) {
                Ok(record) => Self::Record(record),
                Err(error) => Self::Faulty(error),
            },
        }
    }

    /// The record.
    pub fn record(self) -> Option<T> {
        match self {
            Self::Record(record) => Some(record),
            _ => None,
        }
    }
}

/// Whether a record is of this version: it and a semicolon come first.
fn begins(text: &[u8], version: &str) -> bool {
    let rest = text.strip_prefix(version.as_bytes());
    rest.is_some_and(|rest| rest.trim_ascii_start().starts_with(b";"))
}

/// White space of ABNF (RFC 5234 B.1).
pub(super) const WSP: [char; 2] = [' ', '\t'];

/// The fields behind the version, each name checked, values as they are. What is wrong ends them.
pub(super) fn fields<'a>(
    text: &'a [u8],
    version: &'static str,
) -> Result<impl Iterator<Item = Result<(&'a str, &'a str), FieldError>>, FieldError> {
    let right = |b: &u8| b.is_ascii_graphic() || matches!(b, b' ' | b'\t');
    let text = match core::str::from_utf8(text) {
        Ok(text) if text.as_bytes().iter().all(right) => text,
        _ => return Err(FieldError::Octet),
    };
    let rest = text
        .strip_prefix(version)
        .map(|rest| rest.trim_matches(WSP));
    let rest = match rest {
        Some("") => return Err(FieldError::Empty),
        Some(rest) => rest.strip_prefix(';'),
        None => None,
    };
    let rest = rest.ok_or(FieldError::Version(version))?;
    // A semicolon may end the last field.
    let rest = rest.strip_suffix(';').unwrap_or(rest);
    Ok(rest.split(';').map(|part| {
        let part = part.trim_matches(WSP);
        if part.is_empty() {
            return Err(FieldError::Empty);
        }
        match part.split_once('=') {
            Some((name, value)) if is_name(name) => Ok((name, value)),
            _ => Err(FieldError::Name),
        }
    }))
}

/// Whether an unknown field may have this name.
pub(super) fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    name.len() <= FIELD_NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(inner)
}

/// Checks a field that is not known, which is passed over.
pub(super) fn extension(name: &str, value: &str) -> Result<(), FieldError> {
    let right = |b: u8| b.is_ascii_graphic() && b != b'=';
    if value.is_empty() || !value.bytes().all(right) {
        return Err(FieldError::Value(name.into()));
    }
    Ok(())
}
