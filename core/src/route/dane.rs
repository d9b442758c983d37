//! DANE for SMTP (RFC 7672, over RFC 6698 and RFC 7671): a host says in DNSSEC which certificate it
//! has.
//!
//! How it is used, for each host of a [`Plan`](super::Plan):
//!
//! 1. Run a [`TlsaLookup`]. It says [`Tlsas::None`] (go on without DANE), [`Tlsas::Found`] or
//!    [`Tlsas::Defer`] (don't deliver to this host now). [`Requirement::of`] the records says what
//!    the session must be.
//! 2. After the handshake [`judge`] the chain of certificates. Names that a certificate may have are
//!    [`reference_names`].
//!
//! Which certificate signed which, and when they are valid, is for a [`PathValidator`] to find out,
//! over any library that can; it is only asked about usage 2, trust anchors.
//!
//! What is decided here:
//! - Of records that differ in nothing but their digest, and of all others of their usage and
//!   selector, those with SHA-512 count where there are any (RFC 7671 9).
//! - A trust anchor is a certificate behind the first of the chain, or stands whole in its record. A
//!   bare key in a record may be the issuer of any certificate of the chain, unless its certificate
//!   is in it.
//! - Without a DNS name in the certificate's SubjectAltName, its common name counts (RFC 7672 3.2.3).
//! - Usages 0 and 1 are unusable (RFC 7672 3.1.3).
//! - A host whose name is a DNSSEC-secure alias of an insecure one has no DANE: the plan doesn't
//!   tell it from an insecure one (RFC 7672 2.2.3 would look at the alias alone).
//!
//! | file | holds |
//! |---|---|
//! | `record` | which records are usable |
//! | `certificate` | what DANE needs of a certificate |
//! | `judge` | the chain against the records |
//! | `lookup` | where the records are |

mod certificate;
mod judge;
mod lookup;
mod record;

pub use certificate::{Certificate, NotACertificate, contents};
pub use judge::{Anchor, DaneFault, Path, PathFault, PathValidator, Peer, Verdict, judge};
pub use lookup::{NoDane, TlsaLookup, Tlsas, reference_names};
pub use record::{Matching, Requirement, Selector, Unusable, Usable, Usage};
