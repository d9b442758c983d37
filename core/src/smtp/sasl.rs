//! Who is at the other end: SASL (RFC 4422) within AUTH (RFC 4954).
//!
//! # How it is used
//!
//! A submission session tells [`Event::Auth`](super::server::Event::Auth): make a
//! [`server::Exchange`] of the [`Mechanism`] that it names, give it what the client says, and give
//! the session what it answers. A delivery session that is to authenticate asks for lines with
//! [`Output::SendAuth`](super::client::Output::SendAuth): [`client::Exchange`] writes them. The
//! sessions never see a password.
//!
//! | file | is |
//! |---|---|
//! | [`server`] | one exchange as the server |
//! | [`client`] | one exchange as the client |
//! | [`scram`] | the keys of SCRAM |
//! | [`prepare()`] | passwords and names made comparable |
//!
//! | mechanism | |
//! |---|---|
//! | `PLAIN` | RFC 4616; an authorization identity other than the user is refused |
//! | `LOGIN` | what old clients speak; draft-murchison-sasl-login |
//! | `SCRAM-SHA-256` | RFC 5802, 7677: neither side tells the password, each proves that it has it |
//! | `SCRAM-SHA-256-PLUS` | the same, bound to the TLS connection: nobody stands between |
//!
//! What the mechanisms need of chance (nonces, salts) comes from the caller, and what takes long
//! (a password against a hash, keys from a password) is the caller's to do, on a thread of its
//! choice. Secrets are compared in constant time and wiped when they are dropped.

mod base64;
pub mod client;
mod message;
#[cfg(feature = "alloc")]
mod prepare;
pub mod scram;
mod secret;
pub mod server;
#[cfg(test)]
mod tests;

#[cfg(feature = "alloc")]
pub use prepare::{Prohibited, prepare};
pub use secret::Secret;

use core::fmt;

use crate::limits::{CHANNEL_BINDING_BYTES_MAX, SCRAM_NONCE_BYTES_MAX};
use crate::smtp::extension::AuthMechanisms;

/// A mechanism that both ends of this library speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// `PLAIN` (RFC 4616).
    Plain,
    /// `LOGIN`.
    Login,
    /// `SCRAM-SHA-256` (RFC 7677).
    ScramSha256,
    /// `SCRAM-SHA-256-PLUS` (RFC 7677).
    ScramSha256Plus,
}

impl Mechanism {
    /// All of them, the best first: what proves most and tells least.
    pub const BEST_FIRST: [Self; 4] = [
        Self::ScramSha256Plus,
        Self::ScramSha256,
        Self::Plain,
        Self::Login,
    ];

    /// Its name (RFC 4422 3.1).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
        }
    }

    /// The one of this name, in any case.
    pub fn of(name: &str) -> Option<Self> {
        Self::BEST_FIRST
            .into_iter()
            .find(|m| m.name().eq_ignore_ascii_case(name))
    }

    /// Whether it is among `offered`.
    pub const fn is_in(self, offered: AuthMechanisms) -> bool {
        match self {
            Self::Plain => offered.plain,
            Self::Login => offered.login,
            Self::ScramSha256 => offered.scram_sha_256,
            Self::ScramSha256Plus => offered.scram_sha_256_plus,
        }
    }

    /// Adds it to `offered`.
    pub const fn add_to(self, offered: &mut AuthMechanisms) {
        match self {
            Self::Plain => offered.plain = true,
            Self::Login => offered.login = true,
            Self::ScramSha256 => offered.scram_sha_256 = true,
            Self::ScramSha256Plus => offered.scram_sha_256_plus = true,
        }
    }

    /// The best one that is both offered and allowed.
    pub fn best(offered: AuthMechanisms, allowed: AuthMechanisms) -> Option<Self> {
        Self::BEST_FIRST
            .into_iter()
            .find(|m| m.is_in(offered) && m.is_in(allowed))
    }

    /// Whether it is one of SCRAM, so that a server needs [`scram::Keys`] for it.
    pub const fn is_scram(self) -> bool {
        matches!(self, Self::ScramSha256 | Self::ScramSha256Plus)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One side's part of a SCRAM exchange that nobody can foresee (RFC 5802 5.1, `r=`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(heapless::String<SCRAM_NONCE_BYTES_MAX, u8>);

impl Nonce {
    /// Of octets from a good source of chance; never the same twice.
    pub fn of_random(random: [u8; 18]) -> Self {
        let mut text = [0; 24];
        let text = base64::encode(&random, &mut text)
            .and_then(|n| core::str::from_utf8(text.get(..n)?).ok())
            .unwrap_or_default();
        Self(heapless::String::try_from(text).unwrap_or_default())
    }

    /// Of a text: 1 to [`SCRAM_NONCE_BYTES_MAX`] printable ASCII characters without space and
    /// comma.
    pub fn of_text(text: &str) -> Option<Self> {
        if !message::is_nonce(text) {
            return None;
        }
        heapless::String::try_from(text).map(Self).ok()
    }

    fn as_str(&self) -> &str {
        &self.0
    }
}

/// What both ends of a TLS connection know of it and nobody between them can have on both sides
/// (RFC 5056).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Channel {
    exporter: Option<[u8; 32]>,
    server_end_point: Option<heapless::Vec<u8, CHANNEL_BINDING_BYTES_MAX, u8>>,
}

impl Channel {
    /// Of a connection that nothing is known of: without TLS, or where TLS doesn't tell.
    pub const fn none() -> Self {
        Self {
            exporter: None,
            server_end_point: None,
        }
    }

    /// With `tls-exporter`: 32 octets of keying material with the label `EXPORTER-Channel-Binding`
    /// and an empty context (RFC 9266 2). Not of TLS 1.2 without extended master secret (4.2).
    #[must_use]
    pub const fn with_exporter(mut self, keying_material: [u8; 32]) -> Self {
        self.exporter = Some(keying_material);
        self
    }

    /// With `tls-server-end-point`: the hash of the server's certificate by the hash of its
    /// signature, or by SHA-256 where that is MD5 or SHA-1 (RFC 5929 4.1). More than
    /// [`CHANNEL_BINDING_BYTES_MAX`] octets are no such hash and count as none.
    #[must_use]
    pub fn with_server_end_point(mut self, hash: &[u8]) -> Self {
        self.server_end_point = heapless::Vec::from_slice(hash).ok();
        self
    }

    /// Whether nothing is known of it.
    pub const fn is_none(&self) -> bool {
        self.exporter.is_none() && self.server_end_point.is_none()
    }

    /// What `p=` calls the best binding, and its value.
    fn best(&self) -> Option<(&'static str, &[u8])> {
        ["tls-exporter", "tls-server-end-point"]
            .into_iter()
            .find_map(|name| Some((name, self.named(name)?)))
    }

    /// The value of the binding of this name.
    fn named(&self, name: &str) -> Option<&[u8]> {
        match name {
            "tls-exporter" => self.exporter.as_ref().map(<[u8; 32]>::as_slice),
            "tls-server-end-point" => self.server_end_point.as_deref(),
            _ => None,
        }
    }
}

/// Says which bindings there are, and not their values.
impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("exporter", &self.exporter.is_some())
            .field("server_end_point", &self.server_end_point.is_some())
            .finish()
    }
}
