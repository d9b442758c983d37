//! Handshakes with anyone that remember whether the peer has the key of the certificate that it
//! shows: for who wants to judge it afterwards. Without, a copy of somebody's certificate is as good
//! as the certificate.

use std::fmt;
use std::sync::{Arc, OnceLock};

use courser_core::route::tlsrpt::ResultType;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};

use super::client::{Attempt, Client, Trust, by_key_tls12, by_key_tls13, config, provider};
use super::fault::Fault;

/// What a handshake showed about the peer's key, once it is over.
#[derive(Clone, Default)]
pub struct Proof(Arc<OnceLock<Result<(), Fault>>>);

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proof").field(&self.0.get()).finish()
    }
}

impl Proof {
    /// Whether the peer has the key of its certificate.
    ///
    /// # Errors
    /// Why [`Trust::Authorities`] and [`Trust::Dane`] would not have taken the handshake.
    pub fn check(&self) -> Result<(), Fault> {
        self.0.get().cloned().unwrap_or_else(|| {
            let text = "the peer did not show that it has the key of a certificate";
            Err(Fault::new(ResultType::ValidationFailure, text))
        })
    }
}

impl Client {
    /// As [`attempt`](Self::attempt) with [`Trust::Anyone`], for the name that `trust` would ask for,
    /// and what it shows about the peer's key. No earlier session goes on.
    ///
    /// # Errors
    /// When it can't begin.
    pub fn attempt_with_proof(&self, host: &str, trust: &Trust) -> Result<(Attempt, Proof), Fault> {
        let (provider, proof) = (provider(), Proof::default());
        let verifier = Arc::new(Witness {
            algorithms: provider.signature_verification_algorithms,
            proof: proof.clone(),
        });
        let mut attempt = self.attempt(trust.asks_for(host), &Trust::Anyone)?;
        attempt.config = config(&provider, verifier, 1);
        Ok((attempt, proof))
    }
}

/// Takes every certificate and every signature, as a delivery does that wants TLS with anyone, and
/// says what the signature is worth.
#[derive(Debug)]
struct Witness {
    algorithms: WebPkiSupportedAlgorithms,
    proof: Proof,
}

impl Witness {
    fn note(&self, verified: Result<HandshakeSignatureValid, rustls::Error>) {
        let outcome = verified.map(drop).map_err(|error| match error {
            rustls::Error::InvalidCertificate(CertificateError::BadSignature) => Fault::new(
                ResultType::ValidationFailure,
                "the peer shows a certificate whose key it does not have: it is somebody else's",
            ),
            error => Fault::of(&error),
        });
        // There is one signature in a handshake.
        let _ = self.proof.0.set(outcome);
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let verified = by_key_tls12(message, leaf, signature, &self.algorithms);
        self.note(verified);
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let verified = by_key_tls13(message, leaf, signature, &self.algorithms);
        self.note(verified);
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
