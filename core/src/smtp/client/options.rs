//! How a session is to behave, and how long it waits.

use core::fmt;
use core::time::Duration;

use crate::limits::DOMAIN_BYTES_MAX;
use crate::smtp::extension::AuthMechanisms;

/// What we call ourselves in EHLO, HELO or LHLO: a domain or an address literal
/// (RFC 5321 4.1.1.1).
#[derive(Clone, PartialEq, Eq)]
pub struct EhloName(heapless::String<DOMAIN_BYTES_MAX, u8>);

/// Why a text is no [`EhloName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EhloNameError {
    /// Nothing there.
    Empty,
    /// More than [`DOMAIN_BYTES_MAX`] bytes.
    TooLong,
    /// Something else than printable ASCII without spaces. Internationalized names are given as
    /// A-labels: the peer hasn't offered SMTPUTF8 yet.
    NotAscii,
}

impl EhloName {
    /// Checks that the name can stand in a command line.
    ///
    /// # Errors
    /// [`EhloNameError`].
    pub fn new(name: &str) -> Result<Self, EhloNameError> {
        if name.is_empty() {
            return Err(EhloNameError::Empty);
        }
        if !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(EhloNameError::NotAscii);
        }
        heapless::String::try_from(name)
            .map(Self)
            .map_err(|_| EhloNameError::TooLong)
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for EhloName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl fmt::Debug for EhloName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// When TLS is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Never. For callers that can't do TLS, and for a second try after a failed handshake.
    #[default]
    Off,
    /// STARTTLS where the peer offers it; plaintext where it doesn't or refuses (RFC 7435).
    Opportunistic,
    /// STARTTLS or nothing (MTA-STS, DANE, REQUIRETLS).
    Required,
    /// The connection has been TLS from its first byte (RFC 8314 3); there is nothing to start.
    Implicit,
}

/// What to do with an 8-bit body when the peer lacks 8BITMIME (RFC 6152).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EightBit {
    /// Fail the transaction with
    /// [`Cause::EightBitNotOffered`](super::Cause::EightBitNotOffered); the caller converts the
    /// body or bounces it.
    #[default]
    Refuse,
    /// Send the octets without `BODY=`. Not what RFC 6152 3 asks, but what most senders do and
    /// nearly all receivers stand.
    SendAnyway,
}

/// How long to wait for what (RFC 5321 4.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the greeting: 5 min (4.5.3.2.1).
    pub greeting: Duration,
    /// For the answer to EHLO, HELO or LHLO, and for each one of AUTH: 5 min, like MAIL; the RFC
    /// names none.
    pub hello: Duration,
    /// For the answer to STARTTLS, and then for the handshake: 2 min; no RFC names one.
    pub starttls: Duration,
    /// For the answer to MAIL: 5 min (4.5.3.2.2). RSET uses it too.
    pub mail: Duration,
    /// For the answer to each RCPT: 5 min (4.5.3.2.3).
    pub rcpt: Duration,
    /// For the 354 to DATA: 2 min (4.5.3.2.4).
    pub data: Duration,
    /// For each block of the body to be taken by the network: 3 min (4.5.3.2.5). Restarted by
    /// [`Input::BodyProgress`](super::Input::BodyProgress).
    pub block: Duration,
    /// For the answer to the end of the body: 10 min (4.5.3.2.6).
    pub end: Duration,
    /// For the answer to QUIT: 5 s. All is settled by then, so a slow peer only costs a slot.
    pub quit: Duration,
}

impl Timeouts {
    /// The values of RFC 5321 4.5.3.2.
    pub const RFC: Self = Self {
        greeting: Duration::from_secs(5 * 60),
        hello: Duration::from_secs(5 * 60),
        starttls: Duration::from_secs(2 * 60),
        mail: Duration::from_secs(5 * 60),
        rcpt: Duration::from_secs(5 * 60),
        data: Duration::from_secs(2 * 60),
        block: Duration::from_secs(3 * 60),
        end: Duration::from_secs(10 * 60),
        quit: Duration::from_secs(5),
    };
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::RFC
    }
}

/// How to authenticate (RFC 4954). Who we are stays with the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Mechanisms that may be used; of those that are offered as well, the best one is.
    /// SCRAM-SHA-256-PLUS belongs here only if the caller can tell the
    /// [`Channel`](crate::smtp::sasl::Channel).
    pub mechanisms: AuthMechanisms,
    /// Do so without TLS, too: whoever listens has the password, or may guess it at leisure.
    pub without_tls: bool,
}

/// How a session is to behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What we call ourselves.
    pub ehlo_name: EhloName,
    /// Speak LMTP (RFC 2033): LHLO, and one answer per accepted recipient after the body.
    pub lmtp: bool,
    /// Pipeline where the peer offers it (RFC 2920). Off for a second try with a peer that lied.
    pub pipelining: bool,
    /// BDAT instead of DATA where the peer offers it (RFC 3030).
    pub chunking: bool,
    /// With CHUNKING: the largest body, octets, that is sent before the answers to RCPT are
    /// known. A larger one waits for them, so that it isn't sent for nobody.
    pub body_ahead_bytes_max: u64,
    /// 8-bit bodies toward peers without 8BITMIME.
    pub eight_bit: EightBit,
    /// STARTTLS.
    pub tls: TlsMode,
    /// AUTH before anything is sent, or nothing is.
    pub auth: Option<Auth>,
    /// How long to wait.
    pub timeouts: Timeouts,
}

impl Options {
    /// SMTP with pipelining and chunking where offered, without TLS and AUTH, with the RFC's
    /// timeouts.
    pub fn new(ehlo_name: EhloName) -> Self {
        Self {
            ehlo_name,
            lmtp: false,
            pipelining: true,
            chunking: true,
            body_ahead_bytes_max: crate::limits::BODY_AHEAD_BYTES_MAX,
            eight_bit: EightBit::default(),
            tls: TlsMode::default(),
            auth: None,
            timeouts: Timeouts::RFC,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_stand_in_a_command() {
        assert!(EhloName::new("mail.example.com").is_ok());
        assert!(EhloName::new("[IPv6:2001:db8::1]").is_ok());
        assert_eq!(EhloName::new(""), Err(EhloNameError::Empty));
        for bad in ["a b", "a\r\nQUIT", "münchen.example"] {
            assert_eq!(EhloName::new(bad), Err(EhloNameError::NotAscii));
        }
        let long = "a".repeat(DOMAIN_BYTES_MAX + 1);
        assert_eq!(EhloName::new(&long), Err(EhloNameError::TooLong));
    }
}
