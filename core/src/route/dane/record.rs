//! Which TLSA records are usable, and what follows from them (RFC 6698 2.1, RFC 7672 2.2, 3.1).

use core::fmt;

use sha2::{Digest, Sha256, Sha512};

use super::certificate::{Certificate, is_public_key};
use crate::dns::Tlsa;

/// Whose certificate a record is about (RFC 7218 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Usage {
    /// 2: that of an authority which signed the server's.
    DaneTa,
    /// 3: the server's own.
    DaneEe,
}

/// What of the certificate it is about (RFC 7218 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// 0: all of it.
    Certificate,
    /// 1: its SubjectPublicKeyInfo.
    PublicKey,
}

/// How the record has it (RFC 7218 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Matching {
    /// 0: as it is.
    Full,
    /// 1: its SHA-256.
    Sha256,
    /// 2: its SHA-512.
    Sha512,
}

/// A record that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usable<'a> {
    /// Whose certificate it is about.
    pub usage: Usage,
    /// What of it.
    pub selector: Selector,
    /// How.
    pub matching: Matching,
    /// The certificate, the key, or the digest.
    pub data: &'a [u8],
}

/// Why a record can't be used; it is then passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unusable {
    /// Neither 2 nor 3 (RFC 7672 3.1.3).
    Usage(u8),
    /// Neither 0 nor 1.
    Selector(u8),
    /// None of 0, 1 and 2.
    Matching(u8),
    /// A digest of so many octets.
    Length(usize),
    /// What stands there as it is, is no certificate or no key.
    Malformed,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(usage) => write!(f, "usage {usage} is not for SMTP, which has 2 and 3"),
            Self::Selector(selector) => write!(f, "selector {selector} is neither 0 nor 1"),
            Self::Matching(matching) => write!(f, "matching type {matching} is none of 0, 1, 2"),
            Self::Length(octets) => {
                write!(f, "{octets} octets are no SHA-256 (32) or SHA-512 (64)")
            }
            Self::Malformed => f.write_str("the data are no certificate or no public key in DER"),
        }
    }
}

impl<'a> Usable<'a> {
    /// Judges a record by itself.
    ///
    /// # Errors
    /// [`Unusable`] says why it can't be used.
    pub fn of(record: &'a Tlsa) -> Result<Self, Unusable> {
        let usage = match record.usage {
            2 => Usage::DaneTa,
            3 => Usage::DaneEe,
            other => return Err(Unusable::Usage(other)),
        };
        let selector = match record.selector {
            0 => Selector::Certificate,
            1 => Selector::PublicKey,
            other => return Err(Unusable::Selector(other)),
        };
        let (matching, right) = match record.matching {
            0 => (Matching::Full, None),
            1 => (Matching::Sha256, Some(32)),
            2 => (Matching::Sha512, Some(64)),
            other => return Err(Unusable::Matching(other)),
        };
        let data = &*record.data;
        match (right, selector) {
            (Some(right), _) if data.len() != right => return Err(Unusable::Length(data.len())),
            (Some(_), _) => {}
            (None, Selector::Certificate) => {
                Certificate::parse(data).map_err(|_| Unusable::Malformed)?;
            }
            (None, Selector::PublicKey) if !is_public_key(data) => return Err(Unusable::Malformed),
            (None, Selector::PublicKey) => {}
        }
        Ok(Self {
            usage,
            selector,
            matching,
            data,
        })
    }

    /// Whether it is of this certificate.
    pub fn matches(&self, certificate: &Certificate<'_>) -> bool {
        let selected = match self.selector {
            Selector::Certificate => certificate.der,
            Selector::PublicKey => certificate.public_key,
        };
        match self.matching {
            Matching::Full => selected == self.data,
            Matching::Sha256 => *Sha256::digest(selected) == *self.data,
            Matching::Sha512 => *Sha512::digest(selected) == *self.data,
        }
    }
}

/// What the session to a host with TLSA records has to be (RFC 7672 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    /// Whatever it would be without DANE: there are no records.
    Nothing,
    /// TLS, whoever the peer is: no record is usable.
    Encrypted,
    /// TLS, with a chain that [`judge`](super::judge) passes.
    Authenticated,
}

impl Requirement {
    /// By DNSSEC-secure records.
    pub fn of(records: &[Tlsa]) -> Self {
        match records {
            [] => Self::Nothing,
            _ if records.iter().any(|record| Usable::of(record).is_ok()) => Self::Authenticated,
            _ => Self::Encrypted,
        }
    }
}
