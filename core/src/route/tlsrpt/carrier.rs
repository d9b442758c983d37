//! What a report comes in: JSON, gzip (RFC 1952), mail (RFC 8460 5.3).
//!
//! ```text
//! gzip = %x1f %x8b %x08 flags 6OCTET [ length OCTETs ] [ name NUL ] [ comment NUL ] [ crc16 ]
//!        deflated 4OCTET 4OCTET
//! ```
//!
//! The checksum behind it is not looked at: what was damaged on the way is no JSON either, and a
//! mail has DKIM.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_with_limit};

use super::report::Report;
use crate::limits::TLSRPT_JSON_BYTES_MAX;
use crate::mail::part::{Part, base64, begins};

/// Why there is no report in something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// The mail has no part that is one.
    NoReport,
    /// The gzip can't be read.
    Gzip,
    /// It is longer than [`TLSRPT_JSON_BYTES_MAX`].
    TooLong,
    /// It is no JSON, or no report in JSON: why not, and where.
    Json(Box<str>),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoReport => f.write_str("no TLS report in this message"),
            Self::Gzip => f.write_str("the report's gzip can't be read"),
            Self::TooLong => write!(f, "the report has more than {TLSRPT_JSON_BYTES_MAX} bytes"),
            Self::Json(error) => write!(f, "the report can't be read: {error}"),
        }
    }
}
impl core::error::Error for ReadError {}

impl Report {
    /// Reads a report as it comes by HTTPS or in a file: JSON, gzipped or not.
    ///
    /// # Errors
    /// [`ReadError`] says why it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        if !is_gzip(bytes) {
            return Self::of_json(bytes);
        }
        let deflated = deflated(bytes).ok_or(ReadError::Gzip)?;
        match decompress_to_vec_with_limit(deflated, TLSRPT_JSON_BYTES_MAX) {
            Ok(json) => Self::of_json(&json),
            Err(error) if error.status == TINFLStatus::HasMoreOutput => Err(ReadError::TooLong),
            Err(_) => Err(ReadError::Gzip),
        }
    }

    /// Reads the report in a mail. Whether the mail is who it says it is from, by DKIM, is for the
    /// caller to ask (RFC 8460 3).
    ///
    /// # Errors
    /// [`ReadError`] says why there is none.
    pub fn of_mail(message: &[u8]) -> Result<Self, ReadError> {
        let part = Part::find(message, is_report)
            .or_else(|| Part::find(message, may_be_report))
            .ok_or(ReadError::NoReport)?;
        // Base64 is four thirds as long, and has line ends.
        if part.body.len() > TLSRPT_JSON_BYTES_MAX * 3 / 2 {
            return Err(ReadError::TooLong);
        }
        let mut content = part.decoded();
        let is_known = |bytes: &[u8]| is_gzip(bytes) || bytes.trim_ascii_start().starts_with(b"{");
        if !is_known(&content) {
            // Base64 that said so before its type, or didn't.
            let decoded: Vec<u8> = base64(part.body);
            if is_known(&decoded) {
                content = Cow::Owned(decoded);
            }
        }
        Self::read(&content)
    }
}

/// RFC 8460 6.4, 6.5: `application/tlsrpt+json` and `application/tlsrpt+gzip`; some leave the
/// suffix out.
fn is_report(kind: &[u8]) -> bool {
    begins(kind, b"application/tlsrpt")
}

/// What others call it.
fn may_be_report(kind: &[u8]) -> bool {
    [
        &b"application/gzip"[..],
        b"application/x-gzip",
        b"application/json",
    ]
    .iter()
    .any(|known| begins(kind, known))
}

/// How hard the deflater tries: what most do, between 1 and 10.
const LEVEL: u8 = 6;

/// `json` gzipped, as reports are sent (RFC 8460 5.2): without a name and a time, so that the same
/// report is the same bytes.
pub fn gzip(json: &str) -> Vec<u8> {
    // Method 8, no flags, no time, nothing about the deflater, no system (RFC 1952 2.3.1).
    let mut out = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff].to_vec();
    out.extend(compress_to_vec(json.as_bytes(), LEVEL));
    out.extend(crc32fast::hash(json.as_bytes()).to_le_bytes());
    // The length modulo 2^32.
    out.extend((json.len() as u32).to_le_bytes());
    out
}

fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// What lies behind the header of gzip (RFC 1952 2.3); `None` if it is none.
fn deflated(gzip: &[u8]) -> Option<&[u8]> {
    const CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let [0x1f, 0x8b, 8, flags, _, _, _, _, _, _, rest @ ..] = gzip else {
        return None;
    };
    let mut rest = rest;
    if flags & EXTRA != 0 {
        let (length, behind) = rest.split_first_chunk()?;
        rest = behind.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|b| *b == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & CRC != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use base64ct::{Base64, Encoding};
    use proptest::prelude::*;

    const JSON: &[u8] = br#"{"report-id": "x", "policies": []}"#;

    fn gzipped(flags: u8, between: &[u8], content: &[u8]) -> Vec<u8> {
        let header = [0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 3];
        // A checksum that is wrong, and the length.
        let tail = [9, 9, 9, 9, 0, 0, 0, 0];
        [&header[..], between, &compress_to_vec(content, 6), &tail].concat()
    }

    fn id(report: Result<Report, ReadError>) -> Result<String, ReadError> {
        report.map(|report| report.id)
    }

    #[test]
    fn gzip_of_all_shapes() {
        for (flags, between) in [
            (0, &b""[..]),
            (8, b"a.json\0"),
            (1, b""),
            (4, b"\x03\0abc"),
            (2 + 4 + 8 + 16, b"\0\0name\0comment\0\xff\xff"),
        ] {
            let read = id(Report::read(&gzipped(flags, between, JSON)));
            assert_eq!(read, Ok("x".into()), "{flags}");
        }
        let good = gzipped(8, b"a.json\0", JSON);
        for end in 2..good.len() - 8 {
            assert_eq!(Report::read(&good[..end]), Err(ReadError::Gzip), "{end}");
        }
        let other = [&[0x1f, 0x8b, 7], &good[3..]].concat();
        assert_eq!(Report::read(&other), Err(ReadError::Gzip));
    }

    #[test]
    fn gzip_of_our_own() {
        let json = core::str::from_utf8(JSON).unwrap();
        let ours = gzip(json);
        assert_eq!(id(Report::read(&ours)), Ok("x".into()));
        assert_eq!(ours, gzip(json));
        // As gzip -n writes them.
        assert_eq!(
            ours[ours.len() - 8..][..4],
            crc32fast::hash(JSON).to_le_bytes()
        );
        assert_eq!(ours[ours.len() - 4..], [JSON.len() as u8, 0, 0, 0]);
        // The check value of the CRC.
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn what_grows_is_stopped() {
        let full = [JSON, &b" ".repeat(TLSRPT_JSON_BYTES_MAX - JSON.len())].concat();
        assert_eq!(id(Report::read(&full)), Ok("x".into()));
        assert_eq!(id(Report::read(&gzipped(0, b"", &full))), Ok("x".into()));
        let over = [&full[..], b" "].concat();
        assert_eq!(Report::read(&over), Err(ReadError::TooLong));
        let bomb = gzipped(0, b"", &over);
        assert!(bomb.len() < 20_000);
        assert_eq!(Report::read(&bomb), Err(ReadError::TooLong));
        let mail = [
            b"Content-Type: application/tlsrpt\r\n\r\n",
            &full[..],
            &full,
        ]
        .concat();
        assert_eq!(Report::of_mail(&mail), Err(ReadError::TooLong));
    }

    #[test]
    fn mails() {
        let json = String::from_utf8(JSON.to_vec()).unwrap();
        let coded = Base64::encode_string(&gzipped(0, b"", JSON));
        let (first, second) = coded.split_at(40);
        for (header, body) in [
            ("Content-Type: application/tlsrpt+json", json.as_str()),
            (
                "content-type:\r\n\tApplication/TLSRPT+gzip; x=y\r\nContent-Transfer-Encoding: base64",
                &coded,
            ),
            (
                "Content-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64",
                &alloc::format!("{first}\r\n{second}\r\n"),
            ),
            // The encoding first, and none at all.
            (
                "Content-Transfer-Encoding: base64\r\nContent-Type: application/tlsrpt+gzip",
                &coded,
            ),
            ("Content-Type: application/gzip", &coded),
            (
                "Content-Type: application/tlsrpt+json\r\nContent-Transfer-Encoding: quoted-printable",
                "{\"report-id\": =\r\n\"=78\", \"policies\": []}",
            ),
        ] {
            let part = alloc::format!("{header}\r\n\r\n{body}\r\n");
            assert_eq!(
                id(Report::of_mail(part.as_bytes())),
                Ok("x".into()),
                "{part}"
            );
            let whole = alloc::format!(
                "From: a@b.example\r\nContent-Type: multipart/report; report-type=\"tlsrpt\"; boundary=b\r\n\r\n\
                 --b\r\nContent-Type: text/plain\r\n\r\nHello.\r\n--b\r\n{part}--b--\r\n"
            );
            for text in [whole.replace("\r\n", "\n"), whole] {
                assert_eq!(
                    id(Report::of_mail(text.as_bytes())),
                    Ok("x".into()),
                    "{text}"
                );
            }
        }
        for (mail, words) in [
            ("Subject: x\r\n\r\nHello.\r\n", "no TLS report"),
            (
                "Content-Type: application/tlsrpt+json\r\n\r\nHello.\r\n",
                "can't be read: expected",
            ),
            (
                "Content-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n\r\nH4sIAAAA\r\n",
                "gzip",
            ),
        ] {
            let error = Report::of_mail(mail.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_octets(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Report::read(&octets);
            let _ = Report::of_mail(&octets);
            let _ = Report::read(&gzipped(octets.first().copied().unwrap_or(0), &octets, &octets));
            let _ = Report::of_mail(&[b"Content-Type: application/tlsrpt\n\n", &octets[..]].concat());
        }
    }
}
