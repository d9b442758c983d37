//! Why there is no TLS, in words that say what to look at.

use std::fmt;
use std::io;

use courser_core::route::dane::DaneFault;
use courser_core::route::tlsrpt::ResultType;
use rustls::{AlertDescription, CertificateError, PeerIncompatible, PeerMisbehaved};

/// Why there is no TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What reports call it (RFC 8460 4.3).
    pub result: ResultType,
    /// In words that say what to look at.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// One that reports call this.
    pub fn new(result: ResultType, text: impl Into<String>) -> Self {
        Self {
            result,
            text: text.into(),
        }
    }

    /// The peer said nothing for so long.
    pub fn silent(limit: std::time::Duration) -> Self {
        let seconds = limit.as_secs_f64().ceil();
        let text = format!("no TLS handshake within {seconds} s");
        Self::new(ResultType::ValidationFailure, text)
    }

    /// Why a handshake failed.
    pub(super) fn of_handshake(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|e| e.downcast_ref());
        inner.map_or_else(|| Self::broken(error), Self::of)
    }

    pub(super) fn broken(error: &io::Error) -> Self {
        Self::new(
            ResultType::ValidationFailure,
            format!("the connection broke within the TLS handshake: {error}"),
        )
    }

    pub(super) fn of(error: &rustls::Error) -> Self {
        use rustls::Error as E;
        let (result, text) = match error {
            E::InvalidCertificate(bad) => return Self::of_certificate(bad),
            E::AlertReceived(AlertDescription::HandshakeFailure) => (
                ResultType::ValidationFailure,
                "the peer found no common cipher or parameter (handshake_failure)".to_owned(),
            ),
            E::AlertReceived(AlertDescription::ProtocolVersion) => (
                ResultType::ValidationFailure,
                "the peer takes no TLS version of ours, 1.2 or 1.3 (protocol_version)".to_owned(),
            ),
            E::AlertReceived(alert) => (
                ResultType::ValidationFailure,
                format!("the peer broke off the TLS handshake: {alert:?}"),
            ),
            E::PeerIncompatible(
                PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SignatureAlgorithmsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::ServerDoesNotSupportTls12Or13,
            ) => (
                ResultType::ValidationFailure,
                "the peer speaks an old TLS version only; 1.2 is the least".to_owned(),
            ),
            E::PeerIncompatible(why) => (
                ResultType::ValidationFailure,
                format!("the peer's TLS doesn't go together with ours: {why:?}"),
            ),
            E::InvalidMessage(_) => (
                ResultType::ValidationFailure,
                "the peer answered with something that is not TLS".to_owned(),
            ),
            E::PeerMisbehaved(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec) => (
                ResultType::ValidationFailure,
                "the peer sent data in plaintext within the TLS handshake".to_owned(),
            ),
            other => (ResultType::ValidationFailure, format!("TLS: {other}")),
        };
        Self::new(result, text)
    }

    fn of_certificate(bad: &CertificateError) -> Self {
        use CertificateError as C;
        let (result, text) = match bad {
            C::Expired | C::ExpiredContext { .. } => (
                ResultType::CertificateExpired,
                format!("the peer's certificate has expired ({bad})"),
            ),
            C::NotValidYet | C::NotValidYetContext { .. } => (
                ResultType::CertificateExpired,
                format!("the peer's certificate is not valid yet ({bad}); is our clock right?"),
            ),
            C::NotValidForName | C::NotValidForNameContext { .. } => (
                ResultType::CertificateHostMismatch,
                format!("the peer's certificate is for another name ({bad})"),
            ),
            C::UnknownIssuer => (
                ResultType::CertificateNotTrusted,
                "no certificate authority that is trusted here signed the peer's certificate"
                    .to_owned(),
            ),
            C::Revoked => (
                ResultType::CertificateNotTrusted,
                "the peer's certificate was revoked".to_owned(),
            ),
            // Ours alone say this: DANE's.
            C::Other(other) => {
                let result = match other.0.downcast_ref::<DaneFault>() {
                    Some(fault) => fault.into(),
                    None => ResultType::ValidationFailure,
                };
                (result, other.to_string())
            }
            bad => (
                ResultType::ValidationFailure,
                format!("the peer's certificate is not valid ({bad})"),
            ),
        };
        Self::new(result, text)
    }
}
