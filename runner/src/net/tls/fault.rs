//! Why there is no TLS, in words that say what to look at.

use std::fmt;
use std::io;

use courser_core::limits::{DANE_NAMES_SHOWN_MAX, DOMAIN_BYTES_MAX};
use courser_core::route::dane::DaneFault;
use courser_core::route::tlsrpt::ResultType;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, PeerIncompatible, PeerMisbehaved};

use crate::events::Time;

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
        Self::told(error).unwrap_or_else(|| Self::broken(error))
    }

    /// What TLS says of an error of a connection; `None`: the error is not its.
    pub fn told(error: &io::Error) -> Option<Self> {
        let inner = error.get_ref().and_then(|e| e.downcast_ref());
        inner.map(Self::of)
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
            // Without the time of day: in reports the same fault has to be the same text.
            C::ExpiredContext { not_after, .. } => (
                ResultType::CertificateExpired,
                format!("the peer's certificate has expired on {}", date(*not_after)),
            ),
            C::Expired => (
                ResultType::CertificateExpired,
                "the peer's certificate has expired".to_owned(),
            ),
            C::NotValidYetContext { not_before, .. } => (
                ResultType::CertificateExpired,
                format!(
                    "the peer's certificate is not valid before {}; is our clock right?",
                    date(*not_before)
                ),
            ),
            C::NotValidYet => (
                ResultType::CertificateExpired,
                "the peer's certificate is not valid yet; is our clock right?".to_owned(),
            ),
            C::NotValidForNameContext {
                expected,
                presented,
            } => (
                ResultType::CertificateHostMismatch,
                format!(
                    "the peer's certificate is for {}, and should be for {}",
                    some_of(presented),
                    expected.to_str()
                ),
            ),
            C::NotValidForName => (
                ResultType::CertificateHostMismatch,
                "the peer's certificate is for another name".to_owned(),
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

fn date(time: UnixTime) -> String {
    let at = Time(time.as_secs().saturating_mul(1000));
    at.to_string().chars().take(10).collect()
}

/// The first names of a certificate; a stranger may have put thousands into his.
fn some_of(presented: &[String]) -> String {
    let shown = presented.iter().take(DANE_NAMES_SHOWN_MAX);
    let shown: Vec<String> = shown
        .map(|name| {
            // As rustls-webpki writes it.
            let host = name.strip_prefix("DnsName(\"");
            let host = host.and_then(|host| host.strip_suffix("\")"));
            host.unwrap_or(name)
                .chars()
                .take(DOMAIN_BYTES_MAX)
                .collect()
        })
        .collect();
    match presented.len().saturating_sub(shown.len()) {
        0 if shown.is_empty() => "no name".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} names more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use std::time::Duration;

    fn at(s: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(s))
    }

    #[test]
    fn the_same_fault_is_the_same_at_any_time() {
        let expired = |now| {
            Fault::of_certificate(&CertificateError::ExpiredContext {
                time: at(now),
                not_after: at(978_307_199),
            })
        };
        let early = |now| {
            Fault::of_certificate(&CertificateError::NotValidYetContext {
                time: at(now),
                not_before: at(4_133_980_800),
            })
        };
        assert_eq!(expired(1_800_000_000), expired(1_800_000_001));
        assert_eq!(early(1_800_000_000), early(1_800_000_001));
        assert_eq!(
            expired(0).text,
            "the peer's certificate has expired on 2000-12-31"
        );
        assert_eq!(
            early(0).text,
            "the peer's certificate is not valid before 2101-01-01; is our clock right?"
        );
    }

    #[test]
    fn names_of_strangers_have_an_end() {
        let expected = ServerName::try_from("mx.example.net").unwrap();
        let bad = |presented| CertificateError::NotValidForNameContext {
            expected: expected.clone(),
            presented,
        };
        let name = |n: usize| format!("DnsName(\"{n}.example\")");
        for (n, words) in [
            (0, "for no name, and should be for mx.example.net"),
            (2, "for 0.example, 1.example, and should be for"),
            (5000, "2.example and 4997 names more, and should be for"),
        ] {
            let text = Fault::of_certificate(&bad((0..n).map(name).collect())).text;
            assert!(text.contains(words), "{text}");
        }
        let text = Fault::of_certificate(&bad(vec!["x".repeat(70_000)])).text;
        assert!(text.len() < 400, "{} bytes", text.len());
    }
}
