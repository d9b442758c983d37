//! Parts of reports of the wild, found by their type.
//!
//! They come with broken boundaries, inside other multiparts, encoded without saying so. So this
//! doesn't follow the MIME structure from the top (RFC 2046 5.1): it looks for the first part that
//! says it is what is looked for, and takes what stands up to the next boundary line.

use crate::mail::header::{Header, Line, Lines};
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// Whether `text` begins with `word`, in any case.
pub(crate) fn begins(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len())
        .is_some_and(|t| t.eq_ignore_ascii_case(word))
}

/// A MIME part, found by its type.
pub(crate) struct Part<'a> {
    encoding: &'a [u8],
    /// As it lies there, up to the next boundary line.
    pub(crate) body: &'a [u8],
    /// From that line on.
    pub(crate) rest: &'a [u8],
}

impl<'a> Part<'a> {
    /// The first part in `text` whose Content-Type `is` what is looked for. One pass: each line is
    /// looked at once, and the first part found is the answer, sound or not.
    pub(crate) fn find(text: &'a [u8], is: fn(&[u8]) -> bool) -> Option<Self> {
        let mut from = 0;
        loop {
            let rest = text.get(from..)?;
            if begins(rest, b"content-type")
                && let Some(Line::Field(field)) = Lines::of(rest).next()
                && field.is("content-type")
                && is(field.trimmed())
            {
                return Self::cut(rest);
            }
            from += line_len(rest)?;
        }
    }

    /// The part whose header has its Content-Type at the start of `text`. Of the other fields only
    /// the encoding matters, and only where it stands behind.
    fn cut(text: &'a [u8]) -> Option<Self> {
        let (header, body) = Header::of(text).ok()?;
        let encoding = header.find("content-transfer-encoding");
        let (body, rest) = body.split_at_checked(boundary_line(body))?;
        Some(Self {
            encoding: encoding.map_or(&[][..], |f| f.trimmed()),
            body,
            rest,
        })
    }

    /// The body without its transfer encoding.
    pub(crate) fn decoded(&self) -> Cow<'a, [u8]> {
        if begins(self.encoding, b"quoted-printable") {
            return Cow::Owned(quoted_printable(self.body));
        }
        if begins(self.encoding, b"base64") {
            return Cow::Owned(base64(self.body));
        }
        // Some encode without saying so.
        let soft = self.body.windows(2).any(|w| w == b"=\n")
            || self.body.windows(3).any(|w| w == b"=\r\n");
        if soft {
            return Cow::Owned(quoted_printable(self.body));
        }
        Cow::Borrowed(self.body)
    }
}

/// Bytes of the first line with its LF; `None` on the last line.
fn line_len(text: &[u8]) -> Option<usize> {
    text.iter().position(|b| *b == b'\n').map(|at| at + 1)
}

/// Where the next line that begins with `--` and a word begins, or the end.
fn boundary_line(text: &[u8]) -> usize {
    let mut from = 0;
    loop {
        let Some(rest) = text.get(from..) else {
            return text.len();
        };
        if let [b'-', b'-', c, ..] = rest
            && !c.is_ascii_whitespace()
        {
            return from;
        }
        match line_len(rest) {
            Some(len) => from += len,
            None => return text.len(),
        }
    }
}

/// Decodes quoted-printable (RFC 2045 6.7); what is none stays as it is.
fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match (byte, after) {
            (b'=', [b'\r', b'\n', tail @ ..] | [b'\n', tail @ ..]) => tail,
            (b'=', [a, b, tail @ ..]) => match (digit(*a), digit(*b)) {
                (Some(a), Some(b)) => {
                    out.push(a * 16 + b);
                    tail
                }
                _ => {
                    out.push(byte);
                    after
                }
            },
            _ => {
                out.push(byte);
                after
            }
        };
    }
    out
}

/// Decodes base64 (RFC 2045 6.8): other octets are passed over, padding ends it.
pub(crate) fn base64(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0u32);
    for &byte in text {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => break,
            _ => continue,
        };
        bits = (bits << 6) | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xFF).unwrap_or(0));
        }
    }
    out
}
