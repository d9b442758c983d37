//! The TXT record at `_mta-sts` (RFC 8461 3.1), which says that there is a policy, and by its id
//! whether it is another one than before.
//!
//! ```text
//! record = %s"v=STSv1" 1*( delim field ) [ delim ]     (see `fields`)
//! field  = %s"id=" 1*32( ALPHA / DIGIT ) / extension
//! ```
//!
//! Of several `id`, the first counts (3.2).

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use crate::dns::{Kind, Name, NameError, Outcome, Question};
use crate::limits::MTA_STS_ID_BYTES_MAX;
use crate::route::fields::{FieldError, Published, extension, fields};

const VERSION: &str = "v=STSv1";

/// Names a version of a policy: another one, another policy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId(Box<str>);

impl PolicyId {
    /// 1 to 32 letters and digits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let right = (1..=MTA_STS_ID_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric());
        right.then(|| Self(text.into()))
    }

    /// Its letters and digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A domain says that it has a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which one.
    pub id: PolicyId,
}

impl Record {
    /// Parses the text of one record.
    ///
    /// # Errors
    /// [`FieldError`] says what is wrong; the domain then counts as one without a policy.
    pub fn parse(text: &[u8]) -> Result<Self, FieldError> {
        let mut found = None;
        for field in fields(text, VERSION)? {
            match field? {
                ("id", _) if found.is_some() => {}
                ("id", value) => {
                    found = Some(PolicyId::parse(value).ok_or(FieldError::Value("id".into()))?);
                }
                (name, value) => extension(name, value)?,
            }
        }
        let id = found.ok_or(FieldError::Missing("id"))?;
        Ok(Self { id })
    }
}

/// As it is published.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}; id={};", self.id)
    }
}

/// What to ask about `domain`.
///
/// # Errors
/// The name is too long to have one, and so the domain has no policy.
pub fn question(domain: &Name) -> Result<Question, NameError> {
    Ok(Question::new(domain.under("_mta-sts")?, Kind::Txt))
}

/// What the domain publishes, by what came of [`question`]. Records that don't begin with
/// `v=STSv1;` are passed over; several that do are none.
pub fn published(outcome: &Outcome) -> Published<Record> {
    Published::read(outcome, VERSION, Record::parse)
}

/// The host that has the policy of `domain`: its certificate must be valid for this name (3.3).
pub fn policy_host(domain: &Name) -> String {
    alloc::format!("mta-sts.{domain}")
}

/// Where the policy of `domain` is (3.3).
pub fn policy_url(domain: &Name) -> String {
    alloc::format!("https://{}/.well-known/mta-sts.txt", policy_host(domain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Failure, Records};
    use alloc::string::ToString;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn found(texts: &[&str]) -> Outcome {
        let texts: Vec<Box<[u8]>> = texts.iter().map(|t| t.as_bytes().into()).collect();
        Outcome::Found(Records::Txt(texts.into()))
    }

    #[test]
    fn good_ones() {
        for (text, id) in [
            ("v=STSv1; id=20160831085700Z;", "20160831085700Z"),
            ("v=STSv1;id=a", "a"),
            ("v=STSv1 \t; \tid=A1 \t; \t", "A1"),
            ("v=STSv1; ext=x:y<z; id=a; id=b; id=???", "a"),
            (
                "v=STSv1; id=01234567890123456789012345678901",
                "01234567890123456789012345678901",
            ),
        ] {
            let record = Record::parse(text.as_bytes()).unwrap();
            assert_eq!(record.id.as_str(), id, "{text}");
            assert_eq!(Record::parse(record.to_string().as_bytes()), Ok(record));
        }
    }

    #[test]
    fn bad_ones() {
        let value = |name: &str| FieldError::Value(name.into());
        for (text, error) in [
            ("", FieldError::Version(VERSION)),
            (" v=STSv1; id=a", FieldError::Version(VERSION)),
            ("v=STSv10; id=a", FieldError::Version(VERSION)),
            ("v=stsv1; id=a", FieldError::Version(VERSION)),
            ("v =STSv1; id=a", FieldError::Version(VERSION)),
            ("v=STSv1 id=a", FieldError::Version(VERSION)),
            ("v=STSv1", FieldError::Empty),
            ("v=STSv1;", FieldError::Empty),
            ("v=STSv1;; id=a", FieldError::Empty),
            ("v=STSv1; id=a;;", FieldError::Empty),
            ("v=STSv1; x=1", FieldError::Missing("id")),
            ("v=STSv1; ID=a", FieldError::Missing("id")),
            ("v=STSv1; id", FieldError::Name),
            ("v=STSv1; id =a", FieldError::Name),
            ("v=STSv1; _x=a; id=a", FieldError::Name),
            ("v=STSv1; id= a", value("id")),
            ("v=STSv1; id=", value("id")),
            ("v=STSv1; id=a-b", value("id")),
            ("v=STSv1; id=012345678901234567890123456789012", value("id")),
            ("v=STSv1; id=a; x=", value("x")),
            ("v=STSv1; id=a; x=a b", value("x")),
            ("v=STSv1; id=\u{e9}", FieldError::Octet),
            ("v=STSv1; id=a\r\n", FieldError::Octet),
        ] {
            assert_eq!(Record::parse(text.as_bytes()), Err(error), "{text:?}");
        }
    }

    #[test]
    fn what_is_published() {
        let record = |id| {
            Published::Record(Record {
                id: PolicyId::parse(id).unwrap(),
            })
        };
        for (texts, expected) in [
            (&["v=STSv1; id=a"] as &[&str], record("a")),
            (
                &["v=spf1 -all", "v=STSv1; id=a", "v=STSv2; id=b"],
                record("a"),
            ),
            // No semicolon: not of this version.
            (&["v=STSv1", "v=STSv1; id=a"], record("a")),
            (&["v=STSv1; id=a", "v=STSv1; id=a"], Published::Several),
            // The second is faulty, but one.
            (&["v=STSv1; id=a", "v=STSv1; x"], Published::Several),
            (
                &["v=STSv1; x=1"],
                Published::Faulty(FieldError::Missing("id")),
            ),
            (&["v=spf1 -all"], Published::Nothing),
        ] {
            assert_eq!(published(&found(texts)), expected, "{texts:?}");
        }
        assert_eq!(published(&Outcome::NoName), Published::Nothing);
        assert_eq!(published(&Outcome::NoData), Published::Nothing);
        let failed = Outcome::Failed(Failure::Timeout);
        assert_eq!(published(&failed), Published::Unknown(Failure::Timeout));
    }

    proptest! {
        #[test]
        fn any_octets(text in proptest::collection::vec(any::<u8>(), 0..200), tail in "[ -~]{0,60}") {
            let _ = Record::parse(&text);
            let text = alloc::format!("{VERSION}; id=a; {tail}");
            if let Ok(record) = Record::parse(text.as_bytes()) {
                prop_assert_eq!(record.id.as_str(), "a");
            }
        }

        #[test]
        fn reads_what_it_writes(id in "[A-Za-z0-9]{1,32}") {
            let record = Record { id: PolicyId::parse(&id).unwrap() };
            prop_assert_eq!(Record::parse(record.to_string().as_bytes()), Ok(record));
        }
    }
}
