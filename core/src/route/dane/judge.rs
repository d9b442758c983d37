//! A chain of certificates against TLSA records (RFC 7671 5, RFC 7672 3).
//!
//! ```text
//! usage 3   the first certificate, or its key, is the record's          ─▶ pass
//!           (its names and dates don't matter: RFC 7672 3.1.1)
//! usage 2   another certificate of the chain is the record's            ─┐
//!           the record has a certificate (2 0 0)                         ├▶ the first names the
//!           the record has a key that issued one of the chain (2 1 0)   ─┘  host, and a path leads
//!                                                                           from it there ─▶ pass
//! ```
//!
//! One record that matches is enough, so that certificates and keys can be changed with both
//! published.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::certificate::Certificate;
use super::record::{Matching, Selector, Unusable, Usable, Usage};
use crate::dns::{Name, Tlsa};
use crate::limits::{DANE_CHAIN_MAX, DANE_NAMES_SHOWN_MAX, DANE_PATHS_MAX, DANE_RECORDS_MAX};
use crate::time::Wall;

/// Bytes of a record that a text about it has: `3 1 2 ` and a SHA-512.
const RECORD_SHOWN_BYTES: usize = 6 + 2 * 64;

/// What a path ends at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor<'a> {
    /// This certificate, in DER; it is trusted as it is.
    Certificate(&'a [u8]),
    /// This key, in the name of `subject`.
    Key {
        /// A Name, in DER.
        subject: &'a [u8],
        /// A SubjectPublicKeyInfo, in DER.
        public_key: &'a [u8],
    },
}

/// A question to a [`PathValidator`].
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    /// Where the path must end.
    pub anchor: Anchor<'a>,
    /// Where it begins: the server's certificate, in DER.
    pub leaf: &'a [u8],
    /// What may lie between, in DER, in any order.
    pub between: &'a [&'a [u8]],
    /// When each certificate must be valid.
    pub now: Wall,
}

/// Validates paths (RFC 5280 6): signatures, dates, what each certificate may be used for. Names of
/// hosts are none of its business.
pub trait PathValidator {
    /// Whether there is a path for a TLS server.
    ///
    /// # Errors
    /// [`PathFault`] says what is in its way.
    fn validate(&self, path: &Path<'_>) -> Result<(), PathFault>;
}

/// What is wrong with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathFault {
    /// A certificate has expired.
    Expired,
    /// A certificate is not valid yet.
    NotYetValid,
    /// No certificate was signed by the anchor.
    NotTrusted,
    /// Something else, in words.
    Other(Box<str>),
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("a certificate has expired"),
            Self::NotYetValid => f.write_str("a certificate is not valid yet"),
            Self::NotTrusted => f.write_str("no path of signatures leads there"),
            Self::Other(what) => f.write_str(what),
        }
    }
}
impl core::error::Error for PathFault {}

/// Who the server says it is.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// Its certificates in DER, its own first, as the handshake had them. Of more than
    /// [`DANE_CHAIN_MAX`] the rest is not looked at.
    pub chain: &'a [&'a [u8]],
    /// Names of which its certificate must have one, for usage 2
    /// ([`reference_names`](super::reference_names)).
    pub names: &'a [Name],
    /// The time.
    pub now: Wall,
}

/// What becomes of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// The peer is who it should be, by this record.
    Pass(&'a Tlsa),
    /// It isn't.
    Fail(DaneFault),
    /// No record is usable, the first for this reason: TLS is enough, whoever the peer is (RFC 7672
    /// 2.2).
    Unusable(Unusable),
    /// There are no records.
    NoRecords,
}

/// Why a chain fails: the nearest that any record came to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DaneFault {
    /// The peer has no certificate.
    NoCertificate,
    /// Its certificate can't be read.
    Malformed,
    /// No record is about any certificate of the chain.
    NoMatch,
    /// A record of usage 2 is, but the certificate names none of the hosts that it should.
    Names {
        /// The hosts it names, the first few.
        has: Box<str>,
        /// The hosts it should name one of.
        wants: Box<str>,
    },
    /// A record of usage 2 is, but no valid path leads there.
    Path(PathFault),
}

impl fmt::Display for DaneFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("the host has no certificate"),
            Self::Malformed => f.write_str("the host's certificate can't be read"),
            Self::NoMatch => f.write_str("no TLSA record is about a certificate of the host"),
            Self::Names { has, wants } => write!(
                f,
                "the host's certificate is for {has}, and should be for {wants}"
            ),
            Self::Path(fault) => write!(
                f,
                "a TLSA record names a trust anchor, but the host's certificate does not lead to it: {fault}"
            ),
        }
    }
}
impl core::error::Error for DaneFault {}

impl Verdict<'_> {
    /// Whether mail may go over this session.
    pub fn allows(&self) -> bool {
        !matches!(self, Self::Fail(_))
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass(record) => {
                // A digest fits, of a whole certificate the beginning is enough.
                let text = record.to_string();
                let shown = text.get(..RECORD_SHOWN_BYTES).unwrap_or(&text);
                let more = if shown.len() < text.len() { "..." } else { "" };
                write!(f, "the host's certificate is the one of {shown}{more}")
            }
            Self::Fail(fault) => fault.fmt(f),
            Self::Unusable(why) => write!(f, "no TLSA record can be used: {why}"),
            Self::NoRecords => f.write_str("there are no TLSA records"),
        }
    }
}

/// Judges the chain of `peer` by the DNSSEC-secure `records`, of which the first
/// [`DANE_RECORDS_MAX`] count.
pub fn judge<'a>(peer: &Peer<'_>, records: &'a [Tlsa], paths: &dyn PathValidator) -> Verdict<'a> {
    let mut usable = Vec::new();
    let mut unusable = None;
    for record in records.iter().take(DANE_RECORDS_MAX) {
        match Usable::of(record) {
            Ok(one) => usable.push((record, one)),
            Err(why) => {
                unusable.get_or_insert(why);
            }
        }
    }
    if usable.is_empty() {
        return unusable.map_or(Verdict::NoRecords, Verdict::Unusable);
    }
    let weaker = |one: &Usable<'_>| {
        one.matching == Matching::Sha256
            && usable.iter().any(|(_, other)| {
                (other.usage, other.selector, other.matching)
                    == (one.usage, one.selector, Matching::Sha512)
            })
    };
    let counting = || usable.iter().filter(|(_, one)| !weaker(one));

    let mut chain = peer.chain.iter().take(DANE_CHAIN_MAX).copied();
    let Some(leaf) = chain.next() else {
        return Verdict::Fail(DaneFault::NoCertificate);
    };
    let Ok(leaf) = Certificate::parse(leaf) else {
        return Verdict::Fail(DaneFault::Malformed);
    };
    for (record, one) in counting() {
        if one.usage == Usage::DaneEe && one.matches(&leaf) {
            return Verdict::Pass(record);
        }
    }

    // What can't be read is no anchor, and stands in no path.
    let issuers: Vec<Certificate<'_>> = chain.filter_map(|c| Certificate::parse(c).ok()).collect();
    let mut anchors: Vec<(&'a Tlsa, Anchor<'_>)> = Vec::new();
    for (record, one) in counting().filter(|(_, one)| one.usage == Usage::DaneTa) {
        let found = anchors.len();
        let matching = issuers.iter().filter(|issuer| one.matches(issuer));
        anchors.extend(matching.map(|issuer| (*record, Anchor::Certificate(issuer.der))));
        if anchors.len() > found || one.matching != Matching::Full {
            continue;
        }
        match one.selector {
            // The server's own is none, here as little as in a chain.
            Selector::Certificate if one.data == leaf.der => {}
            Selector::Certificate => anchors.push((record, Anchor::Certificate(one.data))),
            Selector::PublicKey => {
                let all = core::iter::once(&leaf).chain(&issuers);
                anchors.extend(all.map(|signed| {
                    let (subject, public_key) = (signed.issuer, one.data);
                    (
                        *record,
                        Anchor::Key {
                            subject,
                            public_key,
                        },
                    )
                }));
            }
        }
    }
    if anchors.is_empty() {
        return Verdict::Fail(DaneFault::NoMatch);
    }
    if !peer.names.iter().any(|name| leaf.names(name)) {
        return Verdict::Fail(names_fault(&leaf, peer.names));
    }
    let mut nearest = None;
    for (record, anchor) in anchors.iter().take(DANE_PATHS_MAX) {
        let is_anchor = |der: &[u8]| *anchor == Anchor::Certificate(der);
        let between: Vec<&[u8]> = issuers
            .iter()
            .map(|c| c.der)
            .filter(|c| !is_anchor(c))
            .collect();
        let path = Path {
            anchor: *anchor,
            leaf: leaf.der,
            between: &between,
            now: peer.now,
        };
        match paths.validate(&path) {
            Ok(()) => return Verdict::Pass(record),
            // Any other reason says more than that nothing leads there.
            Err(PathFault::NotTrusted) if nearest.is_some() => {}
            Err(fault) => nearest = Some(fault),
        }
    }
    Verdict::Fail(DaneFault::Path(nearest.unwrap_or(PathFault::NotTrusted)))
}

fn names_fault(leaf: &Certificate<'_>, names: &[Name]) -> DaneFault {
    let list = |names: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (n, name) in names.take(DANE_NAMES_SHOWN_MAX).enumerate() {
            text.push_str(if n == 0 { "" } else { ", " });
            text.extend(name.chars().take(crate::limits::DOMAIN_BYTES_MAX));
        }
        if text.is_empty() {
            text.push_str("no host");
        }
        text.into()
    };
    DaneFault::Names {
        has: list(&mut leaf.identifiers()),
        wants: list(&mut names.iter().map(Name::as_str)),
    }
}
