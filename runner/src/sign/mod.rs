//! Accepted: mail gets its DKIM signatures (RFC 6376).
//!
//! | file | does |
//! |---|---|
//! | [`alignment`] | what is missing for mail to pass DMARC and SPF, where a stream requires that |
//! | [`keys`] | reads the keys of the configuration, and says which of them sign a message |
//! | [`published`] | asks DNS whether receivers can check the signatures |
//! | [`signer`] | signs with aws-lc-rs, several times faster than what `core` has |

pub mod alignment;
pub mod keys;
pub mod published;
pub mod signer;

pub use keys::{Key, KeyFault, KeyFaults, Keys};
