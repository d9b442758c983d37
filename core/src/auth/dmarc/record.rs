//! The record that a domain publishes at `_dmarc` (RFC 9989 4.7 and 4.8, RFC 7489 6.3 and 6.4).
//!
//! [`Record::read`] is how a receiver reads: what is wrong in one tag costs that tag only, and is
//! told as a [`Fault`]. [`Record::parse`] is how a publisher should look at a record of his own: any
//! fault is an error. [`Record`]'s `Display` writes one.
//!
//! ```
//! use courser_core::auth::dmarc::{Policy, Record};
//! let text = "v=DMARC1; p=quarantine; sp=rejekt; rua=mailto:dmarc@example.org";
//! let (record, faults) = Record::read(text).unwrap();
//! assert_eq!(record.policy(), Some(Policy::None), "RFC 9989 4.10.1: the sp can't be read");
//! assert_eq!(faults.len(), 1);
//! assert!(Record::parse(text).is_err());
//! let record = Record { p: Some(Policy::Reject), ..Record::default() };
//! assert_eq!(record.to_string(), "v=DMARC1; p=reject");
//! ```
//!
//! ```text
//! record  = version *( *WSP ";" *WSP tag ) [ *WSP ";" *WSP ]
//! version = "v" *WSP "=" *WSP %s"DMARC1"                              the name in any case
//! tag     = 1*ALPHA *WSP "=" *WSP 1*( %x20-3A / %x3C-7E )             names and values in any case
//! p, sp, np   = "none" / "quarantine" / "reject"
//! adkim, aspf = "r" / "s"
//! t = "y" / "n"                psd = "y" / "n" / "u"
//! fo = option *( *WSP ":" *WSP option )                option = "0" / "1" / "d" / "s"
//! rua, ruf = list of uris      (see `uri`)
//! pct = 1*3DIGIT   ri = 1*DIGIT   rf = keyword *( ":" keyword )       RFC 7489 only
//! ```
//!
//! What is decided here:
//! - A tag that is given twice is faulty in all its places (RFC 6376 3.2 forbids it, RFC 9989 4.8
//!   says that a syntax error falls back to the default): which of two policies is meant must not
//!   depend on the reader.
//! - Without a readable `p` a record is of use only if it asks for aggregate reports, and then as
//!   `p=none`; the same goes for an `sp` or `np` that can't be read (RFC 9989 4.10.1, RFC 7489
//!   6.6.3). [`Record::policy`] says so.
//! - `0` and `1` in one `fo` are taken, as RFC 7489 allows.
//! - `p` may stand anywhere after `v`, as RFC 9989 allows.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use super::uri::{ReportUri, UriError};

/// What a domain wants done with mail that fails, from mild to severe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// Nothing.
    #[default]
    None,
    /// Treat it as suspicious.
    Quarantine,
    /// Refuse it.
    Reject,
}

impl Policy {
    fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::Quarantine, Self::Reject]
            .into_iter()
            .find(|p| text.eq_ignore_ascii_case(p.as_str()))
    }

    /// `none`, `quarantine` or `reject`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }

    /// The next milder one: what `t=y` asks for (RFC 9989 4.7), and what mail gets that `pct`
    /// leaves out (RFC 7489 6.6.4).
    pub const fn milder(self) -> Self {
        match self {
            Self::Reject => Self::Quarantine,
            Self::Quarantine | Self::None => Self::None,
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How near an authenticated domain must be to the one in From (RFC 9989 4.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Alignment {
    /// The same organizational domain.
    #[default]
    Relaxed,
    /// The same domain.
    Strict,
}

impl Alignment {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Relaxed => "r",
            Self::Strict => "s",
        }
    }
}

/// `psd=`: what the domain is (RFC 9989 4.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Psd {
    /// `y`: others register domains below it.
    Yes,
    /// `n`: an organizational domain, whatever stands above it.
    No,
    /// `u`: not said.
    #[default]
    Unknown,
}

impl Psd {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "y",
            Self::No => "n",
            Self::Unknown => "u",
        }
    }
}

/// `fo=`: when a failure report is wanted (RFC 9989 4.7). Nothing at all means `0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FailureOptions {
    /// `0`: if nothing passes aligned.
    pub all: bool,
    /// `1`: if something doesn't pass aligned.
    pub any: bool,
    /// `d`: if a DKIM signature fails.
    pub dkim: bool,
    /// `s`: if SPF fails.
    pub spf: bool,
}

impl FailureOptions {
    fn parse(text: &str) -> Option<Self> {
        let mut options = Self::default();
        for option in text.split(':') {
            let seen = match option.trim_matches(BLANK) {
                "0" => &mut options.all,
                "1" => &mut options.any,
                "d" | "D" => &mut options.dkim,
                "s" | "S" => &mut options.spf,
                _ => return None,
            };
            if core::mem::replace(seen, true) {
                return None;
            }
        }
        Some(options)
    }

    /// Whether a failure report is wanted if nothing passes aligned, which is the default.
    pub fn wants_all(&self) -> bool {
        self.all || *self == Self::default()
    }
}

impl fmt::Display for FailureOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (wanted, letter) in [
            (self.all, "0"),
            (self.any, "1"),
            (self.dkim, "d"),
            (self.spf, "s"),
        ] {
            if wanted {
                write!(f, "{separator}{letter}")?;
                separator = ":";
            }
        }
        Ok(())
    }
}

/// A format of failure reports, of `rf=`; `afrf` is the only one (RFC 7489 6.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReportFormat(Box<str>);

impl ReportFormat {
    /// A keyword: letters, digits and hyphens, no hyphen at the end (RFC 5321 4.1.2).
    pub fn parse(text: &str) -> Option<Self> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let keyword = text.bytes().all(inner) && !text.is_empty() && !text.ends_with('-');
        keyword.then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// The keyword in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A DMARC record. Every field at its default means: not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Policy for the domain. Who applies a record asks [`Record::policy`].
    pub p: Option<Policy>,
    /// Policy for subdomains.
    pub sp: Option<Policy>,
    /// Policy for subdomains that don't exist (RFC 9989 4.7, RFC 9091).
    pub np: Option<Policy>,
    /// Alignment of DKIM.
    pub adkim: Alignment,
    /// Alignment of SPF.
    pub aspf: Alignment,
    /// When failure reports are wanted.
    pub fo: FailureOptions,
    /// Test mode: the next milder policy is to be applied (RFC 9989 4.7).
    pub t: bool,
    /// What the domain is.
    pub psd: Psd,
    /// Where aggregate reports go.
    pub rua: Vec<ReportUri>,
    /// Where failure reports go.
    pub ruf: Vec<ReportUri>,
    /// Percentage of failing mail that the policy is for (RFC 7489 6.3; RFC 9989 doesn't know it).
    pub pct: Option<u8>,
    /// Seconds between aggregate reports (RFC 7489 6.3; RFC 9989 doesn't know it).
    pub ri: Option<u32>,
    /// Formats of failure reports (RFC 7489 6.3; RFC 9989 doesn't know it).
    pub rf: Vec<ReportFormat>,
    /// A `p`, `sp` or `np` was there and could not be read. This is not written.
    pub policy_unread: bool,
}

/// What is wrong in a record; the rest of it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The tag as written; empty if that is what is wrong.
    pub tag: Box<str>,
    /// What is wrong with it.
    pub kind: FaultKind,
}

/// What is wrong with a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// Nothing between two semicolons.
    Empty,
    /// No `=`, or a name of other characters than letters.
    Tag,
    /// No value.
    NoValue,
    /// A character that a record can't have: a control, or one beyond ASCII.
    Character,
    /// A value that the tag can't have.
    Value,
    /// A report URI that can't be used.
    Uri(UriError),
    /// The tag is there twice, so it doesn't count at all.
    Twice,
    /// There is no `p`, and no `rua` either, so the record is of no use (RFC 9989 4.10.1).
    NoPolicy,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = &self.tag;
        match self.kind {
            FaultKind::Empty => f.write_str("nothing stands between two semicolons"),
            FaultKind::Tag => write!(f, "{tag:?} is no name=value"),
            FaultKind::NoValue => write!(f, "{tag} has no value"),
            FaultKind::Character => write!(f, "{tag} has a character that is not printable ASCII"),
            FaultKind::Value => write!(f, "{tag} has a value that it can't have"),
            FaultKind::Uri(error) => write!(f, "{tag} has a URI that can't be used: {error}"),
            FaultKind::Twice => write!(f, "{tag} is given twice, so it doesn't count"),
            FaultKind::NoPolicy => f.write_str("there is neither a p that can be read nor a rua"),
        }
    }
}

/// Why a text is no DMARC record, or no faultless one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// It doesn't begin with `v=DMARC1`, alone in its tag and in this case: no DMARC record, and
    /// to be passed over (RFC 9989 4.7, 4.10).
    NotDmarc,
    /// The first thing that is wrong in it.
    Fault(Fault),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDmarc => f.write_str("it doesn't begin with v=DMARC1"),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}
impl core::error::Error for RecordError {}

const BLANK: [char; 2] = [' ', '\t'];

/// The tags that are known, for the one that is given twice.
const TAGS: [&str; 14] = [
    "v", "p", "sp", "np", "adkim", "aspf", "fo", "t", "psd", "rua", "ruf", "pct", "ri", "rf",
];

impl Record {
    /// Whether `text` is a DMARC record at all: `v=DMARC1` is its first tag.
    pub fn is_dmarc(text: &[u8]) -> bool {
        let first = text.split(|b| *b == b';').next().unwrap_or(text);
        let blank = |b: &u8| matches!(b, b' ' | b'\t');
        let trim = |part: &[u8]| {
            let from = part.iter().position(|b| !blank(b));
            let to = part.iter().rposition(|b| !blank(b));
            from.zip(to).map(|(from, to)| (from, to + 1))
        };
        let mut parts = first.splitn(2, |b| *b == b'=');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            return false;
        };
        let value = trim(value).and_then(|(from, to)| value.get(from..to));
        // Nothing may stand before the name.
        let name = trim(name).and_then(|(_, to)| name.get(..to));
        name.is_some_and(|n| n.eq_ignore_ascii_case(b"v")) && value == Some(b"DMARC1")
    }

    /// Reads a record as a receiver does, and says what in it doesn't count.
    ///
    /// # Errors
    /// [`RecordError::NotDmarc`] if it is none.
    pub fn read(text: &str) -> Result<(Self, Vec<Fault>), RecordError> {
        match Self::is_dmarc(text.as_bytes()) {
            true => Ok(Self::read_tags(text)),
            false => Err(RecordError::NotDmarc),
        }
    }

    /// Reads the tags behind the version of what [is a DMARC record](Self::is_dmarc).
    pub(super) fn read_tags(text: &str) -> (Self, Vec<Fault>) {
        let mut record = Self::default();
        let mut faults = Vec::new();
        let mut tags = text.split(';').skip(1).peekable();
        let mut seen = [false; TAGS.len()];
        if let Some(version) = seen.first_mut() {
            *version = true;
        }
        while let Some(tag) = tags.next() {
            let tag = tag.trim_matches(BLANK);
            if tag.is_empty() {
                // One semicolon may end the record.
                if tags.peek().is_some() {
                    faults.push(fault("", FaultKind::Empty));
                }
                continue;
            }
            let Some((name, value)) = tag.split_once('=') else {
                faults.push(fault(tag, FaultKind::Tag));
                continue;
            };
            let (name, value) = (name.trim_matches(BLANK), value.trim_matches(BLANK));
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
                faults.push(fault(name, FaultKind::Tag));
                continue;
            }
            let known = TAGS.iter().position(|t| name.eq_ignore_ascii_case(t));
            let kind = match known {
                Some(at) if seen.get(at) == Some(&true) => record.twice(TAGS.get(at)),
                Some(at) => {
                    if let Some(seen) = seen.get_mut(at) {
                        *seen = true;
                    }
                    record.take(TAGS.get(at).unwrap_or(&""), value)
                }
                // RFC 9989 4.7: others are passed over.
                None if value.is_empty() => Some(FaultKind::NoValue),
                None => character(value),
            };
            if let Some(kind) = kind {
                faults.push(fault(name, kind));
            }
        }
        if record.p.is_none() && record.rua.is_empty() {
            faults.push(fault("p", FaultKind::NoPolicy));
        }
        (record, faults)
    }

    /// Parses a record that has nothing wrong in it.
    ///
    /// # Errors
    /// [`RecordError`] says what is wrong first.
    pub fn parse(text: &str) -> Result<Self, RecordError> {
        let (record, faults) = Self::read(text)?;
        match faults.into_iter().next() {
            None => Ok(record),
            Some(fault) => Err(RecordError::Fault(fault)),
        }
    }

    /// One tag, in lower case, with its value.
    fn take(&mut self, tag: &str, value: &str) -> Option<FaultKind> {
        let odd = if value.is_empty() {
            Some(FaultKind::NoValue)
        } else {
            character(value)
        };
        if odd.is_some() {
            self.policy_unread |= matches!(tag, "p" | "sp" | "np");
            return odd;
        }
        let good = match tag {
            "p" | "sp" | "np" => {
                let policy = Policy::parse(value);
                self.policy_unread |= policy.is_none();
                match tag {
                    "p" => self.p = policy,
                    "sp" => self.sp = policy,
                    _ => self.np = policy,
                }
                policy.is_some()
            }
            "adkim" => set(&mut self.adkim, parse_alignment(value)),
            "aspf" => set(&mut self.aspf, parse_alignment(value)),
            "fo" => set(&mut self.fo, FailureOptions::parse(value)),
            "t" => set(
                &mut self.t,
                letter(value, &[(b'y', true), (b'n', false)]).copied(),
            ),
            "psd" => {
                const PSD: [(u8, Psd); 3] =
                    [(b'y', Psd::Yes), (b'n', Psd::No), (b'u', Psd::Unknown)];
                set(&mut self.psd, letter(value, &PSD).copied())
            }
            "rua" | "ruf" => {
                let (uris, wrong) = ReportUri::parse_list(value);
                match tag {
                    "rua" => self.rua = uris,
                    _ => self.ruf = uris,
                }
                return wrong.map(FaultKind::Uri);
            }
            "pct" => {
                self.pct = number(value).filter(|pct| *pct <= 100);
                self.pct.is_some()
            }
            "ri" => {
                self.ri = number(value);
                self.ri.is_some()
            }
            "rf" => {
                let formats = value.split(':').map(|f| f.trim_matches(BLANK));
                let formats: Option<_> = formats.map(ReportFormat::parse).collect();
                set(&mut self.rf, formats)
            }
            // A second v is caught before.
            _ => true,
        };
        (!good).then_some(FaultKind::Value)
    }

    /// Takes back what a tag said that comes again.
    fn twice(&mut self, tag: Option<&&str>) -> Option<FaultKind> {
        let fresh = Self::default();
        match *tag? {
            "p" => self.p = None,
            "sp" => self.sp = None,
            "np" => self.np = None,
            "adkim" => self.adkim = fresh.adkim,
            "aspf" => self.aspf = fresh.aspf,
            "fo" => self.fo = fresh.fo,
            "t" => self.t = false,
            "psd" => self.psd = fresh.psd,
            "rua" => self.rua.clear(),
            "ruf" => self.ruf.clear(),
            "pct" => self.pct = None,
            "ri" => self.ri = None,
            "rf" => self.rf.clear(),
            _ => {}
        }
        self.policy_unread |= matches!(*tag?, "p" | "sp" | "np");
        Some(FaultKind::Twice)
    }

    /// Its policy for the domain itself; `None` if the record is to be treated as none at all
    /// (RFC 9989 4.10.1, RFC 7489 6.6.3): without a readable `p`, or with an unreadable `sp` or
    /// `np`, it counts as `p=none` if it asks for aggregate reports, and else not.
    pub fn policy(&self) -> Option<Policy> {
        match self.p {
            Some(policy) if !self.policy_unread => Some(policy),
            _ if !self.rua.is_empty() => Some(Policy::None),
            _ => None,
        }
    }

    /// Its policy for a subdomain that exists or not; `None` as in [`policy`](Self::policy).
    pub fn policy_below(&self, exists: bool) -> Option<Policy> {
        let policy = self.policy()?;
        if self.policy_unread || self.p.is_none() {
            return Some(policy);
        }
        let np = self.np.filter(|_| !exists);
        Some(np.or(self.sp).unwrap_or(policy))
    }
}

fn fault(tag: &str, kind: FaultKind) -> Fault {
    Fault {
        tag: tag.into(),
        kind,
    }
}

/// RFC 9989 4.8 dmarc-value; tabs around it are cut before.
fn character(value: &str) -> Option<FaultKind> {
    let good = value
        .bytes()
        .all(|b| (b' '..=b'~').contains(&b) || b == b'\t');
    (!good).then_some(FaultKind::Character)
}

fn set<T>(field: &mut T, value: Option<T>) -> bool {
    match value {
        Some(value) => {
            *field = value;
            true
        }
        None => false,
    }
}

fn letter<'a, T>(value: &str, letters: &'a [(u8, T)]) -> Option<&'a T> {
    let &[byte] = value.as_bytes() else {
        return None;
    };
    let byte = byte.to_ascii_lowercase();
    letters.iter().find(|(l, _)| *l == byte).map(|(_, v)| v)
}

fn parse_alignment(value: &str) -> Option<Alignment> {
    const ALIGNMENTS: [(u8, Alignment); 2] =
        [(b'r', Alignment::Relaxed), (b's', Alignment::Strict)];
    letter(value, &ALIGNMENTS).copied()
}

fn number<T: core::str::FromStr>(value: &str) -> Option<T> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| value.parse().ok()).flatten()
}

/// As it is published: tags in the order of RFC 7489 6.4, defaults left out.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("v=DMARC1")?;
        for (tag, policy) in [("p", self.p), ("sp", self.sp), ("np", self.np)] {
            if let Some(policy) = policy {
                write!(f, "; {tag}={policy}")?;
            }
        }
        for (tag, alignment) in [("adkim", self.adkim), ("aspf", self.aspf)] {
            if alignment != Alignment::default() {
                write!(f, "; {tag}={}", alignment.as_str())?;
            }
        }
        if self.psd != Psd::default() {
            write!(f, "; psd={}", self.psd.as_str())?;
        }
        if self.t {
            f.write_str("; t=y")?;
        }
        write_uris(f, "rua", &self.rua)?;
        write_uris(f, "ruf", &self.ruf)?;
        if self.fo != FailureOptions::default() {
            write!(f, "; fo={}", self.fo)?;
        }
        if let Some((first, others)) = self.rf.split_first() {
            write!(f, "; rf={}", first.as_str())?;
            others
                .iter()
                .try_for_each(|format| write!(f, ":{}", format.as_str()))?;
        }
        if let Some(seconds) = self.ri {
            write!(f, "; ri={seconds}")?;
        }
        if let Some(percent) = self.pct {
            write!(f, "; pct={percent}")?;
        }
        Ok(())
    }
}

fn write_uris(f: &mut fmt::Formatter<'_>, tag: &str, uris: &[ReportUri]) -> fmt::Result {
    let Some((first, others)) = uris.split_first() else {
        return Ok(());
    };
    write!(f, "; {tag}={first}")?;
    others.iter().try_for_each(|uri| write!(f, ",{uri}"))
}

#[cfg(test)]
mod tests;
