//! `[dkim]`: with which keys mail is signed.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use courser_core::time::Wall;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use toml::de::DeValue;

use super::names::{DomainName, DomainPattern, Name, words};
use super::tree::{Scalar, Section};
use super::units::{quoted, text};

/// How a part of the message is made the same before it is signed (RFC 6376 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canonicalization {
    /// Header and body relaxed: what relays do to white space breaks nothing.
    RelaxedRelaxed,
    /// The header relaxed, the body as it is.
    RelaxedSimple,
    /// The header as it is, the body relaxed.
    SimpleRelaxed,
    /// Both as they are.
    SimpleSimple,
}
words!(Canonicalization {
    "relaxed/relaxed" => RelaxedRelaxed, "relaxed/simple" => RelaxedSimple,
    "simple/relaxed" => SimpleRelaxed, "simple/simple" => SimpleSimple
});

/// A day or an instant, in UTC: `2026-12-01` or `2026-12-01T08:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct When(pub Wall);

impl FromStr for When {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let second = match text.parse::<Date>() {
            Ok(day) if text.len() == 10 => day
                .to_zoned(TimeZone::UTC)
                .map(|z| z.timestamp().as_second())
                .ok(),
            _ => text
                .parse::<jiff::Timestamp>()
                .map(jiff::Timestamp::as_second)
                .ok(),
        };
        second
            .map(|s| Self(Wall::from_unix(s)))
            .ok_or_else(|| format!("{text:?} is no day and no time"))
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0.unix()) {
            Ok(at) => at.fmt(f),
            Err(_) => write!(f, "@{}", self.0.unix()),
        }
    }
}

impl Scalar for When {
    const EXPECTED: &'static str = "a day such as \"2026-12-01\", which begins at 0:00 UTC, or a time such as \"2026-12-01T08:00:00Z\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::Datetime(at) => at.to_string().parse(),
            other => text(other)?.parse(),
        }
    }
    fn show(&self) -> String {
        quoted(self)
    }
}

/// `[[dkim.key]]`: one key.
#[derive(Clone, Debug, PartialEq)]
pub struct DkimKey {
    /// The `d=` of its signatures.
    pub domain: DomainName,
    /// The `s=` of its signatures: its record stands at `SELECTOR._domainkey.DOMAIN`.
    pub selector: DomainName,
    /// The private key in PEM.
    pub file: PathBuf,
    /// It signs mail whose From is in one of these. Empty: its own domain and what lies below it,
    /// unless a key is there for a domain that is closer.
    pub sign_for: Vec<DomainPattern>,
    /// It signs mail of these tenants. Empty: mail of every tenant.
    pub tenants: Vec<Name>,
    /// It signs from then on.
    pub from: Option<When>,
    /// It signs until then.
    pub until: Option<When>,
}

/// `[dkim]`
#[derive(Clone, Debug, PartialEq)]
pub struct Dkim {
    /// A folder of further keys, `DOMAIN/SELECTOR.pem`.
    pub dir: Option<PathBuf>,
    /// The `c=` of signatures.
    pub canonicalization: Canonicalization,
    /// Header fields that are signed where they are there, besides the usual ones.
    pub headers: Vec<String>,
    /// Signatures expire so long after they are made (`x=`); `None`: never.
    pub expire_after: Option<Duration>,
    /// The keys that are named one by one.
    pub keys: Vec<DkimKey>,
}

/// Field names that `dkim.headers` may name, at most.
const HEADERS_MAX: usize = 32;

impl Dkim {
    pub(super) fn read(mut s: Section<'_, '_>) -> Self {
        let mut read = Self {
            dir: s.optional("dir"),
            canonicalization: s.get("canonicalization", Canonicalization::RelaxedRelaxed),
            headers: s.get("headers", Vec::new()),
            expire_after: s.get("expire_after", None),
            keys: Vec::new(),
        };
        if read
            .expire_after
            .is_some_and(|x| x < Duration::from_secs(3600))
        {
            s.wrong(
                "expire_after",
                "is so short that mail in a receiver's queue would lose its signature",
                "write at least \"1h\"; \"7d\" is usual, and \"off\" is the default",
            );
        }
        if read.headers.len() > HEADERS_MAX {
            let what = format!("{} fields are too many", read.headers.len());
            s.wrong("headers", what, format!("name at most {HEADERS_MAX}"));
        }
        for (i, name) in read.headers.iter().enumerate() {
            let good = |b: u8| b.is_ascii_graphic() && b != b':' && b != b';';
            if name.is_empty() || !name.bytes().all(good) {
                let what = format!("{name:?} is not the name of a header field");
                s.wrong_item("headers", i, what, "write names such as \"X-Mailer\"");
            }
            // RFC 6376 5.4.1: what relays change or remove.
            let changes = ["received", "return-path", "dkim-signature", "bcc"];
            if changes.iter().any(|c| name.eq_ignore_ascii_case(c)) {
                let what = format!("{name} is changed on the way, which would break the signature");
                s.wrong_item("headers", i, what, "leave it out");
            }
        }
        let mut taken = HashSet::new();
        for mut k in s.sections("key") {
            let domain: Option<DomainName> =
                k.required("domain", "say whose signature: domain = \"example.org\"");
            let selector: Option<DomainName> =
                k.required("selector", "name the key's record: selector = \"s1\"");
            if let (Some(domain), Some(selector)) = (&domain, &selector) {
                k.label(&format!("{selector}._domainkey.{domain}"));
            }
            let file: Option<PathBuf> = k.required(
                "file",
                "say where it is: file = \"/etc/courser/dkim/s1.pem\"",
            );
            let (sign_for, tenants, from, until) = (
                k.get("sign_for", Vec::new()),
                k.get("tenants", Vec::new()),
                k.optional::<When>("from"),
                k.optional::<When>("until"),
            );
            if let (Some(from), Some(until)) = (from, until)
                && until <= from
            {
                let what = format!("the key would end at {until}, before it begins at {from}");
                k.wrong("until", what, "make `until` later than `from`");
            }
            if let (Some(domain), Some(selector), Some(file)) = (domain, selector, file) {
                if !taken.insert(format!("{selector}._domainkey.{domain}")) {
                    let what = format!("{selector}._domainkey.{domain} stands here twice");
                    k.wrong(
                        "selector",
                        what,
                        "give each key of a domain its own selector",
                    );
                }
                read.keys.push(DkimKey {
                    domain,
                    selector,
                    file,
                    sign_for,
                    tenants,
                    from,
                    until,
                });
            }
            k.finish();
        }
        s.finish();
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_times() {
        let unix = |text: &str| text.parse::<When>().map(|w| w.0.unix());
        assert_eq!(unix("2026-12-01"), Ok(1_796_083_200));
        assert_eq!(unix("2026-12-01T08:00:00Z"), Ok(1_796_112_000));
        assert_eq!(unix("2026-12-01T09:00:00+01:00"), Ok(1_796_112_000));
        for wrong in ["", "soon", "2026-13-01", "2026-12-01T08:00", "12.2026"] {
            assert!(unix(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(
            "2026-12-01".parse::<When>().unwrap().to_string(),
            "2026-12-01T00:00:00Z"
        );
    }
}
