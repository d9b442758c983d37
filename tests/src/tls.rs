//! Certificates of the tests' own, and TLS for peers that the harness plays.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    StreamOwned, SupportedProtocolVersion,
};

/// What is spoken when nothing else is said.
const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A certificate authority that nobody else trusts.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, both in PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, then the authority's.
    pub chain: String,
    /// The key.
    pub key: String,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Valid {
    /// Now.
    Now,
    /// Until 2001.
    Over,
    /// From 2101 on.
    NotYet,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// One with a key of its own.
    ///
    /// # Panics
    /// When a key can't be made.
    pub fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, format!("Authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        Self { issuer }
    }

    /// Its own certificate in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes its own certificate into a file of `dir`.
    ///
    /// # Panics
    /// When it can't.
    pub fn write(&self, dir: &Path) -> PathBuf {
        let file = dir.join("authority.pem");
        std::fs::write(&file, self.pem()).expect("a file of the scratch directory");
        file
    }

    /// A client that trusts it alone, and shows `certificate` to who asks.
    ///
    /// # Panics
    /// When rustls doesn't take it.
    pub fn client(&self, certificate: Option<&Issued>) -> Arc<ClientConfig> {
        self.client_of(BOTH, certificate)
    }

    /// The same with these versions only.
    ///
    /// # Panics
    /// When rustls doesn't take it.
    pub fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        certificate: Option<&Issued>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.issuer.der().clone())
            .expect("a certificate of an authority");
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("versions that there are")
            .with_root_certificates(roots);
        Arc::new(match certificate {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let (chain, key) = issued.der();
                builder
                    .with_client_auth_cert(chain, key)
                    .expect("a key that works")
            }
        })
    }

    /// A certificate for these names.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_valid(names, Valid::Now)
    }

    /// A certificate for these names that is valid then.
    pub fn issue_valid(&self, names: &[&str], valid: Valid) -> Issued {
        self.make(names, valid, None)
    }

    /// A certificate for these names and this key, in PEM.
    pub fn issue_for_key(&self, names: &[&str], key: &str) -> Issued {
        self.make(names, Valid::Now, Some(key))
    }

    fn make(&self, names: &[&str], valid: Valid, key: Option<&str>) -> Issued {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names that can be certified");
        (params.not_before, params.not_after) = match valid {
            Valid::Now => (date_time_ymd(2020, 1, 1), date_time_ymd(2100, 1, 1)),
            Valid::Over => (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1)),
            Valid::NotYet => (date_time_ymd(2101, 1, 1), date_time_ymd(2102, 1, 1)),
        };
        let key = match key {
            Some(pem) => KeyPair::from_pem(pem).expect("a key in PEM"),
            None => KeyPair::generate().expect("a key"),
        };
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued {
            chain: certificate.pem() + &self.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Issued {
    /// Writes `NAME.pem` and `NAME.key` into `dir`, the key for its owner only; gives both files.
    ///
    /// # Panics
    /// When it can't.
    pub fn write(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        use std::os::unix::fs::OpenOptionsExt;
        let (chain, key) = (
            dir.join(format!("{name}.pem")),
            dir.join(format!("{name}.key")),
        );
        std::fs::write(&chain, &self.chain).expect("a file of the scratch directory");
        let _ = std::fs::remove_file(&key);
        std::fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&key)
            .and_then(|mut file| file.write_all(self.key.as_bytes()))
            .expect("a file of the scratch directory");
        (chain, key)
    }

    /// `[[tls.certificate]]` of it, as a value in braces.
    pub fn toml(&self, dir: &Path, name: &str) -> String {
        let (chain, key) = self.write(dir, name);
        format!(
            "{{ file = \"{}\", key = \"{}\" }}",
            chain.display(),
            key.display()
        )
    }

    fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key in PEM");
        (chain.expect("certificates in PEM"), key)
    }

    /// The certificates in DER, its own first.
    pub fn chain_der(&self) -> Vec<Vec<u8>> {
        self.der().0.iter().map(|der| der.to_vec()).collect()
    }

    /// What a receiver needs that shows it.
    ///
    /// # Panics
    /// When rustls doesn't take it.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server_of(BOTH)
    }

    /// The same with these versions only.
    ///
    /// # Panics
    /// When rustls doesn't take it.
    pub fn server_of(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
        let (chain, key) = self.der();
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("versions that there are")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a key that goes with its certificate");
        Arc::new(config)
    }

    fn certified(&self) -> Arc<CertifiedKey> {
        let (chain, key) = self.der();
        let key = provider()
            .key_provider
            .load_private_key(key)
            .expect("a key of a known kind");
        Arc::new(CertifiedKey::new(chain, key))
    }

    /// What a receiver needs that shows it to who asks for `name`, and `other` to all others. Nothing
    /// looks at whether it is a good one.
    ///
    /// # Panics
    /// When rustls doesn't take it.
    pub fn server_by_name(
        &self,
        name: &str,
        other: &Self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("versions that there are")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByName {
                name: name.to_owned(),
                asked_for: self.certified(),
                other: other.certified(),
            }));
        Arc::new(config)
    }
}

#[derive(Debug)]
struct ByName {
    name: String,
    asked_for: Arc<CertifiedKey>,
    other: Arc<CertifiedKey>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(match hello.server_name() == Some(&self.name) {
            true => self.asked_for.clone(),
            false => self.other.clone(),
        })
    }
}

impl Issued {
    /// What a thief's receiver needs: it shows this certificate, and has another's key.
    ///
    /// # Panics
    /// When rustls doesn't take it.
    pub fn server_with_key_of(
        &self,
        thief: &Self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let ((chain, _), (_, key)) = (self.der(), thief.der());
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key);
        let shown = CertifiedKey::new(chain, signer.expect("a key that works"));
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("versions that there are")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
        Arc::new(config)
    }
}

/// A connection of a peer that the harness plays.
pub enum Wire {
    /// In plaintext.
    Plain(TcpStream),
    /// Over TLS, as server.
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
    /// Over TLS, as client.
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// The handshake as server; it happens with the first byte.
    ///
    /// # Errors
    /// When TLS is up already.
    pub fn secured(self, config: Arc<ServerConfig>) -> io::Result<Self> {
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let stream = self.plain()?;
        Ok(Self::Server(Box::new(StreamOwned::new(connection, stream))))
    }

    /// The handshake as client with `name`.
    ///
    /// # Errors
    /// When TLS is up already, or the handshake fails.
    pub fn secure(self, config: Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, self.plain()?);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self::Client(Box::new(stream)))
    }

    fn plain(self) -> io::Result<TcpStream> {
        match self {
            Self::Plain(stream) => Ok(stream),
            _ => Err(io::Error::other("TLS is up already")),
        }
    }

    /// Whether the session of this server began in an earlier connection.
    pub fn is_resumed(&self) -> bool {
        match self {
            Self::Server(stream) => stream.conn.handshake_kind() == Some(HandshakeKind::Resumed),
            _ => false,
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buf),
            Self::Server(stream) => stream.read(buf),
            Self::Client(stream) => stream.read(buf),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buf),
            Self::Server(stream) => stream.write(buf),
            Self::Client(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Server(stream) => stream.flush(),
            Self::Client(stream) => stream.flush(),
        }
    }
}
