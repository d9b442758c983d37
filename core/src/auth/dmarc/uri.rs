//! Where reports go: the URIs of `rua` and `ruf`.
//!
//! ```text
//! uri  = dmarc-uri [ "!" 1*DIGIT [ "k" / "m" / "g" / "t" ] ]           RFC 9989 4.8, RFC 7489 6.2
//! dmarc-uri = scheme ":" *( uchar / "%" HEXDIG HEXDIG )                RFC 3986 without "," and "!"
//! list = uri *( *WSP "," *WSP uri )
//! ```
//!
//! The size is RFC 7489's, which a report had to stay under; RFC 9989 reads it and doesn't mind it.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

/// A URI that reports are sent to, of any scheme.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReportUri {
    uri: Box<str>,
    /// Largest report that is taken, octets (RFC 7489 6.2; obsolete in RFC 9989 4.8).
    pub size: Option<u64>,
}

/// Why a text is no URI that a report can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UriError {
    /// There is no scheme: letters, digits, `+`, `-` and `.` before a colon.
    Scheme,
    /// Nothing follows the scheme.
    Empty,
    /// A character that can't stand in a URI, or that has to be percent-encoded here.
    Character,
    /// A `%` without two hexadecimal digits.
    Percent,
    /// `mailto:` without an address.
    Address,
    /// What follows `!` is no size: digits and perhaps one of k, m, g, t.
    Size,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "no scheme such as mailto: before the address",
            Self::Empty => "nothing follows the scheme",
            Self::Character => "a character that must be percent-encoded in a URI",
            Self::Percent => "% without two hexadecimal digits",
            Self::Address => "mailto: without an address",
            Self::Size => "the size after ! is not a number with k, m, g or t",
        })
    }
}
impl core::error::Error for UriError {}

/// Letters of sizes, and powers of two that they mean (RFC 7489 6.2).
const UNITS: [(char, u32); 4] = [('t', 40), ('g', 30), ('m', 20), ('k', 10)];

impl ReportUri {
    /// Parses one URI with its size.
    ///
    /// # Errors
    /// [`UriError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let (uri, size) = match text.split_once('!') {
            Some((uri, size)) => (uri, Some(parse_size(size).ok_or(UriError::Size)?)),
            None => (text, None),
        };
        let (scheme, rest) = uri.split_once(':').ok_or(UriError::Scheme)?;
        let scheme_char = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            || !scheme.bytes().all(scheme_char)
        {
            return Err(UriError::Scheme);
        }
        check(rest)?;
        if scheme.eq_ignore_ascii_case("mailto") {
            let address = rest.split('?').next().unwrap_or(rest);
            match address.rsplit_once('@') {
                Some((local, domain)) if !local.is_empty() && !domain.is_empty() => {}
                _ => return Err(UriError::Address),
            }
        }
        Ok(Self {
            uri: uri.into(),
            size,
        })
    }

    /// Parses a list of them; what is no URI is left out and counted.
    pub(crate) fn parse_list(text: &str) -> (Vec<Self>, Option<UriError>) {
        let mut wrong = None;
        let uris = text
            .split(',')
            .filter_map(|uri| {
                Self::parse(uri.trim_matches([' ', '\t']))
                    .map_err(|error| wrong = wrong.or(Some(error)))
                    .ok()
            })
            .collect();
        (uris, wrong)
    }

    /// The URI as written, without the size.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The address that a `mailto:` URI names, decoded; `None` for other schemes and for what
    /// decodes to no UTF-8.
    pub fn mailto(&self) -> Option<Cow<'_, str>> {
        let (scheme, rest) = self.uri.split_once(':')?;
        if !scheme.eq_ignore_ascii_case("mailto") {
            return None;
        }
        let address = rest.split('?').next()?;
        if !address.contains('%') {
            return Some(Cow::Borrowed(address));
        }
        let mut octets = Vec::with_capacity(address.len());
        let mut bytes = address.bytes();
        let hex = |b: Option<u8>| char::from(b?).to_digit(16);
        while let Some(byte) = bytes.next() {
            octets.push(match byte {
                b'%' => u8::try_from(hex(bytes.next())? * 16 + hex(bytes.next())?).ok()?,
                byte => byte,
            });
        }
        alloc::string::String::from_utf8(octets)
            .ok()
            .map(Cow::Owned)
    }
}

/// RFC 3986 2: reserved, unreserved and percent-encoded characters; `,` and `!` end a DMARC URI.
fn check(rest: &str) -> Result<(), UriError> {
    if rest.is_empty() {
        return Err(UriError::Empty);
    }
    let mut bytes = rest.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let hex = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_hexdigit());
                if !(hex(bytes.next()) && hex(bytes.next())) {
                    return Err(UriError::Percent);
                }
            }
            b if b.is_ascii_alphanumeric() => {}
            b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b'?' | b'#' | b'[' | b']' | b'@' | b'$'
            | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b'=' => {}
            _ => return Err(UriError::Character),
        }
    }
    Ok(())
}

fn parse_size(text: &str) -> Option<u64> {
    let unit = text.chars().next_back()?.to_ascii_lowercase();
    let (digits, shift) = match UNITS.iter().find(|(letter, _)| *letter == unit) {
        Some(&(_, shift)) => (text.get(..text.len() - 1)?, shift),
        None => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// As it stands in a record.
impl fmt::Display for ReportUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)?;
        match self.size {
            None => Ok(()),
            Some(size) => match UNITS
                .iter()
                .find(|(_, shift)| size > 0 && size % (1 << shift) == 0)
            {
                Some((letter, shift)) => write!(f, "!{}{letter}", size >> shift),
                None => write!(f, "!{size}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn uris_and_sizes() {
        for (text, size, again) in [
            ("mailto:a@example.org", None, "mailto:a@example.org"),
            (
                "MailTo:a@example.org!10m",
                Some(10 << 20),
                "MailTo:a@example.org!10m",
            ),
            (
                "mailto:a@example.org!1024K",
                Some(1 << 20),
                "mailto:a@example.org!1m",
            ),
            ("mailto:a@example.org!0G", Some(0), "mailto:a@example.org!0"),
            (
                "https://example.org/r?x=1!77",
                Some(77),
                "https://example.org/r?x=1!77",
            ),
        ] {
            let uri = ReportUri::parse(text).unwrap();
            assert_eq!((uri.size, &*uri.to_string()), (size, again));
        }
        for (text, error) in [
            ("bogus", UriError::Scheme),
            ("1x:a", UriError::Scheme),
            ("mailto:", UriError::Empty),
            ("mailto:nobody", UriError::Address),
            ("mailto:@example.org", UriError::Address),
            ("mailto:a b@example.org", UriError::Character),
            ("mailto:a%4@example.org", UriError::Percent),
            ("mailto:a@example.org!", UriError::Size),
            ("mailto:a@example.org!10p", UriError::Size),
            ("mailto:a@example.org!18014398509481984k", UriError::Size),
        ] {
            assert_eq!(ReportUri::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn addresses_are_decoded() {
        let address = |text: &str| {
            let uri = ReportUri::parse(text).unwrap();
            uri.mailto().map(|a| a.to_string())
        };
        assert_eq!(
            address("mailto:a%2Cb%21@example.org?subject=x").as_deref(),
            Some("a,b!@example.org")
        );
        assert_eq!(address("mailto:a%FF@example.org"), None);
        assert_eq!(address("https://example.org"), None);
    }
}
