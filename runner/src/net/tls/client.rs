//! TLS toward receivers: whom it trusts, sessions that go on, what went wrong.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::conn::{Fault, FaultKind};
use super::pem::{self, FileFault};

/// Hosts whose sessions are kept for connections to come.
const SESSIONS_MAX: usize = 10_000;

/// Whom a handshake takes for the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Anyone: against listening, not against somebody in between (RFC 7435).
    Anyone,
    /// Who has a certificate for the host's name from an authority that is trusted here.
    Authorities,
}

impl Trust {
    /// By whom the peer is verified, for events.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Anyone => "",
            Self::Authorities => "authorities",
        }
    }
}

/// Makes TLS connections toward receivers. Each kind of trust has its own sessions: one that began
/// with anyone must not go on as one with somebody who was verified.
pub struct Client {
    anyone: Arc<ClientConfig>,
    authorities: Option<Arc<ClientConfig>>,
    roots: usize,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({} authorities)", self.roots)
    }
}

/// A handshake that can begin.
pub struct Attempt {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// The cryptography of all legs.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

impl Client {
    /// Trusts the authorities of `ca_file`, or those of the system.
    ///
    /// # Errors
    /// When the file is no good. A system without authorities is no error: where one is needed, its
    /// lack is said then.
    pub fn load(ca_file: Option<&Path>) -> Result<Self, FileFault> {
        let mut roots = RootCertStore::empty();
        match ca_file {
            Some(file) => {
                let all = pem::certificates(file)?;
                let (taken, left) = roots.add_parsable_certificates(all);
                if taken == 0 || left > 0 {
                    let what = format!("{left} of its certificates can't be an authority's");
                    return Err(FileFault::new(file, what));
                }
            }
            None => {
                // Systems have old ones among theirs that are of no use; the others are.
                let _ =
                    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let provider = provider();
        let config = |verifier: Arc<dyn ServerCertVerifier>| {
            let mut config = ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .expect("the provider has ciphers of TLS 1.2 and 1.3")
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth();
            config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
            Arc::new(config)
        };
        let count = roots.len();
        let authorities = (count > 0).then(|| {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()
        });
        let authorities = authorities.and_then(Result::ok).map(|v| config(v));
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self {
            anyone: config(Arc::new(Anyone { algorithms })),
            authorities,
            roots: count,
        })
    }

    /// A handshake with `host`, a name or an address in brackets.
    ///
    /// # Errors
    /// When it can't begin: no authority is trusted here, or `host` can be in no certificate.
    pub fn attempt(&self, host: &str, trust: Trust) -> Result<Attempt, Fault> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = host.strip_prefix("IPv6:").unwrap_or(host);
        let name = ServerName::try_from(host.trim_end_matches('.').to_owned());
        let config = match trust {
            Trust::Anyone => self.anyone.clone(),
            Trust::Authorities => self.authorities.clone().ok_or_else(|| {
                let text = "no certificate authority is trusted here: install the system's \
                            (ca-certificates), or name a file in tls.ca_file";
                Fault::new(FaultKind::NotTrusted, text)
            })?,
        };
        let name = match (name, trust) {
            (Ok(name), _) => name,
            // A name that can't stand in a certificate (an underscore) is not asked for.
            (Err(_), Trust::Anyone) => ServerName::IpAddress(
                std::net::IpAddr::from(std::net::Ipv4Addr::UNSPECIFIED).into(),
            ),
            (Err(_), Trust::Authorities) => {
                let text = format!("{host} is no name that a certificate could have");
                return Err(Fault::new(FaultKind::HostMismatch, text));
            }
        };
        Ok(Attempt { config, name })
    }
}

impl Attempt {
    /// What it takes, for a connection that isn't one of a ring.
    pub(in crate::net) fn into_parts(self) -> (Arc<ClientConfig>, ServerName<'static>) {
        (self.config, self.name)
    }

    pub(super) fn begin(self) -> Result<ClientConnection, Fault> {
        ClientConnection::new(self.config, self.name).map_err(|e| Fault::of(&e))
    }
}

/// Takes every certificate, and so every signature: who is in between could show his own.
#[derive(Debug)]
struct Anyone {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Anyone {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
