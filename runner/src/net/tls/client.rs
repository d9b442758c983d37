//! TLS toward receivers: whom it trusts, sessions that go on, what went wrong.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use courser_core::dns::{Name, Tlsa};
use courser_core::route::dane;
use courser_core::route::tlsrpt::ResultType;
use courser_core::time::Wall;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, OtherError,
    PeerMisbehaved, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};
use webpki::RawPublicKeyEntity;

use super::fault::Fault;
use super::pem::{self, FileFault};
use super::resume::Sessions;
use crate::net::path::WebPki;

/// Hosts with TLSA records whose sessions are kept for connections to come.
const DANE_HOSTS_MAX: usize = 2000;
/// Hosts without whose sessions are kept, of each kind of trust.
const SESSIONS_MAX: usize = 4000;

/// Whom a handshake takes for the right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Anyone: against listening, not against somebody in between (RFC 7435).
    Anyone,
    /// Who has a certificate for the host's name from an authority that is trusted here.
    Authorities,
    /// Who has a certificate that is the host's by its TLSA records (RFC 7672).
    Dane(Arc<Dane>),
}

/// What DNSSEC says of a host's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dane {
    /// Names of which it must have one, for usage 2; the first is the one that the client asks for.
    pub names: Vec<Name>,
    /// The TLSA records; of which one at least is usable.
    pub records: Box<[Tlsa]>,
}

impl Dane {
    /// Says the same of the same names and records, and of no other.
    fn key(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for name in &self.names {
            hash.update(name.as_str());
            hash.update("\n");
        }
        for record in &self.records {
            hash.update(record.to_string());
            hash.update("\n");
        }
        hash.finalize().into()
    }
}

impl Trust {
    /// The name that `host` is asked for: where its TLSA records are, there is its certificate
    /// (RFC 7672 8.1).
    pub(super) fn asks_for<'a>(&'a self, host: &'a str) -> &'a str {
        match self {
            Self::Dane(dane) => dane.names.first().map_or(host, Name::as_str),
            _ => host,
        }
    }

    /// By whom the peer is verified, for events.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Anyone => "",
            Self::Authorities => "authorities",
            Self::Dane(_) => "dane",
        }
    }
}

/// Makes TLS connections toward receivers. Each kind of trust has its own sessions: one that began
/// with anyone must not go on as one with somebody who was verified.
pub struct Client {
    anyone: Arc<ClientConfig>,
    authorities: Option<Arc<ClientConfig>>,
    verifier: Option<Arc<WebPkiServerVerifier>>,
    roots: usize,
    /// By what DNSSEC says: a session that began under other records must not go on.
    dane: Mutex<HashMap<[u8; 32], Arc<ClientConfig>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({} authorities)", self.roots)
    }
}

/// A handshake that can begin.
pub struct Attempt {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
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
        let count = roots.len();
        let verifier = (count > 0).then(|| {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()
        });
        let verifier = verifier.and_then(Result::ok);
        let authorities = verifier
            .clone()
            .map(|verifier| config(&provider, verifier, SESSIONS_MAX));
        let algorithms = provider.signature_verification_algorithms;
        let anyone = Arc::new(Anyone { algorithms });
        Ok(Self {
            anyone: config(&provider, anyone, SESSIONS_MAX),
            authorities,
            verifier,
            roots: count,
            dane: Mutex::default(),
        })
    }

    /// A handshake with `host`, a name or an address in brackets.
    ///
    /// # Errors
    /// When it can't begin: no authority is trusted here, or `host` can be in no certificate.
    pub fn attempt(&self, host: &str, trust: &Trust) -> Result<Attempt, Fault> {
        let host = trust.asks_for(host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = host.strip_prefix("IPv6:").unwrap_or(host);
        let name = ServerName::try_from(host.trim_end_matches('.').to_owned());
        let config = match trust {
            Trust::Dane(dane) => self.by_dane(dane),
            Trust::Anyone => self.anyone.clone(),
            Trust::Authorities => self.authorities.clone().ok_or_else(|| {
                let text = "no certificate authority is trusted here: install the system's \
                            (ca-certificates), or name a file in tls.ca_file";
                Fault::new(ResultType::CertificateNotTrusted, text)
            })?,
        };
        let name = match (name, trust) {
            (Ok(name), _) => name,
            // A name that can't stand in a certificate (an underscore) is not asked for.
            (Err(_), Trust::Anyone | Trust::Dane(_)) => ServerName::IpAddress(
                std::net::IpAddr::from(std::net::Ipv4Addr::UNSPECIFIED).into(),
            ),
            (Err(_), Trust::Authorities) => {
                let text = format!("{host} is no name that a certificate could have");
                return Err(Fault::new(ResultType::CertificateHostMismatch, text));
            }
        };
        Ok(Attempt { config, name })
    }

    /// What [`Trust::Authorities`] would say of a chain, in DER, of a host's.
    ///
    /// # Errors
    /// Why it is not trusted.
    pub fn judge(&self, host: &str, chain: &[Vec<u8>], now: Wall) -> Result<(), Fault> {
        // What is said of no authorities, or of a host without a name, is said there.
        let Attempt { name, .. } = self.attempt(host, &Trust::Authorities)?;
        let chain: Vec<CertificateDer<'_>> = chain
            .iter()
            .map(|der| CertificateDer::from(&der[..]))
            .collect();
        let (Some(verifier), [leaf, others @ ..]) = (&self.verifier, &chain[..]) else {
            let text = "it has no certificate";
            return Err(Fault::new(ResultType::ValidationFailure, text));
        };
        let since = Duration::from_secs(u64::try_from(now.unix()).unwrap_or(0));
        let now = UnixTime::since_unix_epoch(since);
        verifier
            .verify_server_cert(leaf, others, &name, &[], now)
            .map(drop)
            .map_err(|e| Fault::of(&e))
    }

    fn by_dane(&self, dane: &Arc<Dane>) -> Arc<ClientConfig> {
        let mut known = self.dane.lock().unwrap_or_else(PoisonError::into_inner);
        let key = dane.key();
        if let Some(config) = known.get(&key) {
            return config.clone();
        }
        if known.len() >= DANE_HOSTS_MAX {
            known.clear();
        }
        let provider = provider();
        let verifier = Arc::new(ByDane {
            dane: dane.clone(),
            algorithms: provider.signature_verification_algorithms,
        });
        let made = config(&provider, verifier, 1);
        known.insert(key, made.clone());
        made
    }
}

pub(super) fn config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
    sessions: usize,
) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider has ciphers of TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::store(Arc::new(Sessions::of(sessions)));
    Arc::new(config)
}

impl Attempt {
    pub(super) fn begin(self) -> Result<ClientConnection, Fault> {
        ClientConnection::new(self.config, self.name).map_err(|e| Fault::of(&e))
    }
}

/// The key of a certificate. rustls reads none whose version or extensions it doesn't like, which is
/// nothing that counts where DNSSEC names the key or the certificate itself (RFC 7671 5.1).
fn public_key<'a>(
    leaf: &'a CertificateDer<'_>,
) -> Result<SubjectPublicKeyInfoDer<'a>, CertificateError> {
    let leaf = dane::Certificate::parse(leaf).map_err(|_| CertificateError::BadEncoding)?;
    Ok(SubjectPublicKeyInfoDer::from(leaf.public_key))
}

/// Whether the peer has the key of the certificate that it shows.
pub(super) fn by_key_tls12(
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    known: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let mut known = known.mapping.iter();
    let (_, algorithms) = known
        .find(|(scheme, _)| *scheme == signature.scheme)
        .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    let key = public_key(leaf)?;
    let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
    // One scheme of TLS 1.2 stands for several curves.
    let right = algorithms.iter().any(|algorithm| {
        let done = key.verify_signature(*algorithm, message, signature.signature());
        done.is_ok()
    });
    match right {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(CertificateError::BadSignature.into()),
    }
}

/// The same in TLS 1.3.
pub(super) fn by_key_tls13(
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    known: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    verify_tls13_signature_with_raw_key(message, &public_key(leaf)?, signature, known)
}

/// Takes the certificates that DNSSEC says.
#[derive(Debug)]
struct ByDane {
    dane: Arc<Dane>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ByDane {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain: Vec<&[u8]> = std::iter::once(leaf)
            .chain(others)
            .map(|der| der.as_ref())
            .collect();
        let peer = dane::Peer {
            chain: &chain,
            names: &self.dane.names,
            now: Wall::from_unix(i64::try_from(now.as_secs()).unwrap_or(i64::MAX)),
        };
        match dane::judge(&peer, &self.dane.records, &WebPki) {
            dane::Verdict::Fail(fault) => {
                Err(CertificateError::Other(OtherError(Arc::new(fault))).into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        by_key_tls12(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        by_key_tls13(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
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
