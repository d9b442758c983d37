//! The TXT record at `_smtp._tls` (RFC 8460 3), which says where reports go.
//!
//! ```text
//! record = %s"v=TLSRPTv1" 1*( delim field ) [ delim ]  (see `fields`)
//! field  = %s"rua=" uri *( *WSP "," *WSP uri ) / extension
//! uri    = URI of RFC 3986, without "," "!" and ";"; mailto and https are of use
//! ```
//!
//! `rua` may come several times. URIs of other schemes are passed over; a record without any of use
//! is faulty.

use alloc::vec::Vec;
use core::fmt;

use crate::auth::dmarc::ReportUri;
use crate::dns::{Kind, Name, NameError, Outcome, Question};
use crate::limits::TLSRPT_URIS_MAX;
use crate::route::fields::{FieldError, Published, WSP, extension, fields};

const VERSION: &str = "v=TLSRPTv1";

/// A domain wants reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where they go, `mailto:` and `https:`: any of them that takes it is enough. At least one, at
    /// most [`TLSRPT_URIS_MAX`].
    pub rua: Vec<ReportUri>,
}

impl Record {
    /// Parses the text of one record.
    ///
    /// # Errors
    /// [`FieldError`] says what is wrong; the domain then counts as one that wants no reports.
    pub fn parse(text: &[u8]) -> Result<Self, FieldError> {
        let wrong = || FieldError::Value("rua".into());
        let (mut rua, mut seen) = (Vec::new(), false);
        for field in fields(text, VERSION)? {
            let ("rua", list) = field.clone()? else {
                let (name, value) = field?;
                extension(name, value)?;
                continue;
            };
            seen = true;
            for uri in list.split(',') {
                let uri = uri.trim_matches(WSP);
                // Where DMARC has a size.
                if uri.contains('!') {
                    return Err(wrong());
                }
                let uri = ReportUri::parse(uri).map_err(|_| wrong())?;
                if is_of_use(&uri) && rua.len() < TLSRPT_URIS_MAX {
                    rua.push(uri);
                }
            }
        }
        match rua.is_empty() {
            true if seen => Err(wrong()),
            true => Err(FieldError::Missing("rua")),
            false => Ok(Self { rua }),
        }
    }
}

fn is_of_use(uri: &ReportUri) -> bool {
    let scheme = uri.as_str().split(':').next().unwrap_or("");
    scheme.eq_ignore_ascii_case("mailto") || scheme.eq_ignore_ascii_case("https")
}

/// As it is published.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}; rua=")?;
        for (n, uri) in self.rua.iter().enumerate() {
            write!(f, "{}{uri}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// What to ask about `domain`.
///
/// # Errors
/// The name is too long to have one, and so the domain wants no reports.
pub fn question(domain: &Name) -> Result<Question, NameError> {
    Ok(Question::new(domain.under("_smtp._tls")?, Kind::Txt))
}

/// What the domain publishes, by what came of [`question`]. Records that don't begin with
/// `v=TLSRPTv1;` are passed over; several that do are none.
pub fn published(outcome: &Outcome) -> Published<Record> {
    Published::read(outcome, VERSION, Record::parse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Records;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn good_ones() {
        for (text, again) in [
            (
                "v=TLSRPTv1;rua=mailto:reports@example.com",
                "v=TLSRPTv1; rua=mailto:reports@example.com",
            ),
            (
                "v=TLSRPTv1 ; rua=MailTo:a@b.example , \thttps://b.example/t?x=1 ;",
                "v=TLSRPTv1; rua=MailTo:a@b.example,https://b.example/t?x=1",
            ),
            (
                "v=TLSRPTv1; x=1; rua=mailto:a@b.example; rua=ftp://b.example,https://b.example",
                "v=TLSRPTv1; rua=mailto:a@b.example,https://b.example",
            ),
        ] {
            let record = Record::parse(text.as_bytes()).unwrap();
            assert_eq!(record.to_string(), again);
            assert_eq!(Record::parse(again.as_bytes()), Ok(record));
        }
        let many = alloc::format!(
            "v=TLSRPTv1; rua={}mailto:z@b.example",
            "mailto:a@b.example,".repeat(20)
        );
        assert_eq!(
            Record::parse(many.as_bytes()).unwrap().rua.len(),
            TLSRPT_URIS_MAX
        );
        let coded = Record::parse(b"v=TLSRPTv1; rua=mailto:a%21b@b.example").unwrap();
        assert_eq!(coded.rua[0].mailto().unwrap(), "a!b@b.example");
    }

    #[test]
    fn bad_ones() {
        let value = |name: &str| FieldError::Value(name.into());
        for (text, error) in [
            (
                "v=TLSRPTv10; rua=mailto:a@b.example",
                FieldError::Version(VERSION),
            ),
            ("v=TLSRPTv1", FieldError::Empty),
            ("v=TLSRPTv1; x=1", FieldError::Missing("rua")),
            (
                "v=TLSRPTv1; RUA=mailto:a@b.example",
                FieldError::Missing("rua"),
            ),
            ("v=TLSRPTv1; rua=", value("rua")),
            ("v=TLSRPTv1; rua=a@b.example", value("rua")),
            ("v=TLSRPTv1; rua=mailto:a@b.example,", value("rua")),
            ("v=TLSRPTv1; rua=mailto:a@b.example!10m", value("rua")),
            ("v=TLSRPTv1; rua=mailto:", value("rua")),
            ("v=TLSRPTv1; rua=http://b.example", value("rua")),
            ("v=TLSRPTv1; rua=mailto:a@b.example; x=a=b", value("x")),
            ("v=TLSRPTv1; rua=mailto:a@b.example;;", FieldError::Empty),
        ] {
            assert_eq!(Record::parse(text.as_bytes()), Err(error), "{text:?}");
        }
    }

    #[test]
    fn what_is_published() {
        let domain = Name::parse("example.net").unwrap();
        assert_eq!(
            question(&domain).unwrap().to_string(),
            "_smtp._tls.example.net TXT"
        );
        let text = b"v=TLSRPTv1; rua=mailto:a@b.example".as_slice();
        let one = Outcome::Found(Records::Txt(
            [b"other".as_slice().into(), text.into()].into(),
        ));
        assert_eq!(published(&one).record(), Record::parse(text).ok());
        let two = Outcome::Found(Records::Txt([text.into(), text.into()].into()));
        assert_eq!(published(&two), Published::Several);
    }

    proptest! {
        #[test]
        fn any_octets(text in proptest::collection::vec(any::<u8>(), 0..200), tail in "[ -~]{0,60}") {
            let _ = Record::parse(&text);
            let text = alloc::format!("{VERSION}; rua={tail}");
            if let Ok(record) = Record::parse(text.as_bytes()) {
                prop_assert_eq!(Record::parse(record.to_string().as_bytes()), Ok(record));
            }
        }
    }
}
