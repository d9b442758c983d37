//! TLS toward clients: certificates by the names that clients ask for.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use courser_core::time::Wall;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{
    ClientHello, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, ServerConnection, version};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::client::provider;
use super::fault::Fault;
use super::leaf::{end_point, names};
use super::pem::{self, FileFault};
use crate::config::{self, Certificate, Config, ListenerTls, TlsVersion};

/// Sessions that are kept for clients that come again.
const SESSIONS_MAX: usize = 20_000;

/// One certificate with its key.
#[derive(Debug)]
pub struct Loaded {
    /// Where it was read.
    pub file: PathBuf,
    /// The names that it is for, in lower case; `*.` where it is for all below.
    pub names: Vec<String>,
    /// Until when it is valid.
    pub not_after: Wall,
    /// What logins are bound to; see [`end_point`].
    end_point: Vec<u8>,
    key: Arc<CertifiedKey>,
}

/// All certificates of a server; the first is for clients that ask for none of their names.
#[derive(Debug, Default)]
pub struct Certificates {
    /// In the order of the configuration.
    pub all: Vec<Loaded>,
    by_name: HashMap<String, usize>,
}

impl Certificates {
    /// Reads them and their keys.
    ///
    /// # Errors
    /// What is wrong with the first that is no good, and what would be right.
    pub fn load(certificates: &[Certificate], now: Wall) -> Result<Self, FileFault> {
        let mut this = Self::default();
        for one in certificates {
            let loaded = load(one, now)?;
            for name in &loaded.names {
                // The first that names it stays.
                this.by_name.entry(name.clone()).or_insert(this.all.len());
            }
            this.all.push(loaded);
        }
        Ok(this)
    }

    fn of(&self, name: Option<&str>) -> Option<&Loaded> {
        let found = name.and_then(|name| {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            self.by_name.get(&name).or_else(|| {
                // One label only (RFC 6125 6.4.3).
                let (_, parent) = name.split_once('.')?;
                self.by_name.get(&format!("*.{parent}"))
            })
        });
        self.all.get(found.copied().unwrap_or(0))
    }
}

fn load(one: &Certificate, now: Wall) -> Result<Loaded, FileFault> {
    let chain = pem::certificates(&one.file)?;
    let fault = |what: String| FileFault::new(&one.file, what);
    let (_, leaf) = X509Certificate::from_der(&chain[0])
        .map_err(|e| fault(format!("its first certificate is damaged: {e}")))?;
    let show = |at: i64| config::When(Wall::from_unix(at)).to_string();
    let (from, to) = (
        leaf.validity().not_before.timestamp(),
        leaf.validity().not_after.timestamp(),
    );
    if now.unix() > to {
        let what = format!(
            "its first certificate expired at {}; renew it, then send SIGHUP",
            show(to)
        );
        return Err(fault(what));
    }
    if now.unix() < from {
        let what = format!(
            "its first certificate is valid from {} on only; is the clock right?",
            show(from)
        );
        return Err(fault(what));
    }
    let names = names(&leaf);
    if names.is_empty() {
        return Err(fault(
            "its first certificate names no host (no DNS name in subjectAltName); the server's own \
             comes first, then those that signed it"
                .to_owned(),
        ));
    }
    let key = pem::key(&one.key)?;
    let signer = aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|_| FileFault::new(&one.key, "is no RSA, ECDSA or Ed25519 key that works"))?;
    let key = CertifiedKey::new(chain.clone(), signer);
    if key.keys_match().is_err() {
        return Err(FileFault::new(
            &one.key,
            format!(
                "this key doesn't belong to the certificate in {}; renew both together",
                one.file.display()
            ),
        ));
    }
    Ok(Loaded {
        file: one.file.clone(),
        names,
        not_after: Wall::from_unix(to),
        end_point: end_point(&chain[0]),
        key: Arc::new(key),
    })
}

/// What each listener of the configuration that speaks TLS needs for it, by its name.
pub type Servers = HashMap<config::Name, Arc<Server>>;

/// Reads the certificates of the configuration for its listeners.
///
/// # Errors
/// What is wrong with the first file that is no good, and what would be right.
pub fn servers(config: &Config, now: Wall) -> Result<Servers, FileFault> {
    let certificates = Arc::new(Certificates::load(&config.tls.certificates, now)?);
    let speaking = config
        .listeners
        .iter()
        .filter(|l| l.tls != ListenerTls::Off);
    speaking
        .map(|l| {
            let certificates = certificates.clone();
            let server = Server::new(certificates, config.tls.min_version, l.client_ca.as_deref())?;
            Ok((l.name.clone(), Arc::new(server)))
        })
        .collect()
}

/// Clients get the certificate for the name that they ask for.
#[derive(Debug)]
struct BySni(Arc<Certificates>);

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.of(hello.server_name()).map(|one| one.key.clone())
    }
}

/// Makes TLS connections with clients.
pub struct Server {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// With these certificates, from `least` on. With `client_ca` clients may show a certificate that
    /// one of its authorities signed; any other ends the handshake.
    ///
    /// # Errors
    /// When `client_ca` is no good.
    pub fn new(
        certificates: Arc<Certificates>,
        least: TlsVersion,
        client_ca: Option<&Path>,
    ) -> Result<Self, FileFault> {
        let versions: &[_] = match least {
            TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
            TlsVersion::Tls13 => &[&version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("the provider has ciphers of TLS 1.2 and 1.3");
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                let (taken, _) = roots.add_parsable_certificates(pem::certificates(file)?);
                if taken == 0 {
                    return Err(FileFault::new(file, "has no certificate of an authority"));
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                        .allow_unauthenticated()
                        .build()
                        .map_err(|e| FileFault::new(file, e.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(BySni(certificates.clone())));
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        // Keys that change by themselves; without one, sessions go on from memory.
        if let Ok(ticketer) = aws_lc_rs::Ticketer::new() {
            config.ticketer = ticketer;
        }
        Ok(Self {
            config: Arc::new(config),
            certificates,
        })
    }

    /// With a certificate for `name` that it makes itself, and nobody has reason to trust.
    ///
    /// # Errors
    /// When none can be made for such a name.
    pub fn self_signed(name: &str) -> Result<Self, String> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()])
            .map_err(|e| format!("no certificate can be made for {name:?}: {e}"))?;
        let der = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let signer = aws_lc_rs::sign::any_supported_type(&der).map_err(|e| e.to_string())?;
        let key = CertifiedKey::new(vec![made.cert.der().clone()], signer);
        let mut certificates = Certificates::default();
        certificates.all.push(Loaded {
            file: PathBuf::new(),
            names: vec![name.to_owned()],
            not_after: Wall::from_unix(i64::MAX),
            end_point: end_point(made.cert.der()),
            key: Arc::new(key),
        });
        Self::new(Arc::new(certificates), TlsVersion::Tls12, None).map_err(|e| e.to_string())
    }

    /// What logins are bound to where a client asked for this name.
    pub(super) fn end_point(&self, name: Option<&str>) -> Vec<u8> {
        let certificate = self.certificates.of(name);
        certificate.map_or(Vec::new(), |one| one.end_point.clone())
    }

    pub(super) fn begin(&self) -> Result<ServerConnection, Fault> {
        ServerConnection::new(self.config.clone()).map_err(|e| Fault::of(&e))
    }
}
