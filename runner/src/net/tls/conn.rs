//! A connection that is plaintext at first and TLS after a handshake.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io::{self, BufRead, IoSlice, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use courser_core::smtp::sasl::Channel;
use rustls::{
    AlertDescription, CertificateError, Connection, HandshakeKind, PeerIncompatible,
    PeerMisbehaved, ProtocolVersion,
};

use super::super::op;
use super::super::tcp::Stream;
use super::client::Attempt;
use super::leaf;

/// Bytes of one receive during a handshake: a flight with its certificates often fits.
const HANDSHAKE_RECEIVE_BYTES: usize = 4096;
/// Bytes that a peer may send in one handshake; certificates take a few thousand.
const HANDSHAKE_BYTES_MAX: usize = 256 * 1024;
/// What a record takes besides its plaintext, at most (RFC 8446 5.2).
const RECORD_OVERHEAD: usize = 5 + 256;
/// Plaintext of one record, at most (RFC 8446 5.1).
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// One connection of this thread: plaintext, or TLS after a handshake.
///
/// [`receive`](Self::receive) and one [`send`](Self::send) may be under way at the same time. After
/// [`abort`](Self::abort) both complete.
pub struct Conn {
    stream: Stream,
    tls: Option<Rc<Layer>>,
}

struct Layer {
    rustls: RefCell<Connection>,
    /// What logins are bound to (RFC 5929 4).
    end_point: Vec<u8>,
    facts: Facts,
}

/// What a handshake came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `TLSv1.3`
    pub version: &'static str,
    /// The cipher suite's name of the IANA.
    pub cipher: String,
    /// The group of the key exchange, `X25519` for instance; empty in a session that went on.
    pub group: String,
    /// The name that the client asked for (RFC 6066 3).
    pub server_name: Option<String>,
    /// A session went on that an earlier handshake had begun.
    pub resumed: bool,
}

/// Why there is no TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it is for reports.
    pub kind: FaultKind,
    /// In words that say what to look at.
    pub text: String,
}

impl FaultKind {
    /// Its word in reports (RFC 8460 4.3).
    pub const fn word(self) -> &'static str {
        match self {
            Self::HostMismatch => "certificate-host-mismatch",
            Self::Expired => "certificate-expired",
            Self::NotTrusted => "certificate-not-trusted",
            Self::NotOffered => "starttls-not-supported",
            Self::Tlsa => "tlsa-invalid",
            Self::Dnssec => "dnssec-invalid",
            Self::Validation | Self::Broken => "validation-failure",
        }
    }
}

/// What went wrong, as reports distinguish it (RFC 8460 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The certificate is for another name.
    HostMismatch,
    /// The certificate's time is over, or has not come.
    Expired,
    /// Nobody who is trusted signed it.
    NotTrusted,
    /// The peer offers none.
    NotOffered,
    /// The certificate isn't the one that its TLSA records say.
    Tlsa,
    /// Its TLSA records can't be found out.
    Dnssec,
    /// Everything else.
    Validation,
    /// The connection broke within the handshake, or the peer was silent.
    Broken,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// One of this kind.
    pub fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    /// The peer said nothing for so long.
    pub fn silent(limit: std::time::Duration) -> Self {
        let seconds = limit.as_secs_f64().ceil();
        let text = format!("no TLS handshake within {seconds} s");
        Self::new(FaultKind::Broken, text)
    }

    /// Why a handshake failed.
    pub(in crate::net) fn of_handshake(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|e| e.downcast_ref());
        inner.map_or_else(|| Self::broken(error), Self::of)
    }

    pub(super) fn broken(error: &io::Error) -> Self {
        Self::new(
            FaultKind::Broken,
            format!("the connection broke within the TLS handshake: {error}"),
        )
    }

    pub(super) fn of(error: &rustls::Error) -> Self {
        use rustls::Error as E;
        let (kind, text) = match error {
            E::InvalidCertificate(bad) => return Self::of_certificate(bad),
            E::AlertReceived(AlertDescription::HandshakeFailure) => (
                FaultKind::Validation,
                "the peer found no common cipher or parameter (handshake_failure)".to_owned(),
            ),
            E::AlertReceived(AlertDescription::ProtocolVersion) => (
                FaultKind::Validation,
                "the peer takes no TLS version of ours, 1.2 or 1.3 (protocol_version)".to_owned(),
            ),
            E::AlertReceived(alert) => (
                FaultKind::Validation,
                format!("the peer broke off the TLS handshake: {alert:?}"),
            ),
            E::PeerIncompatible(
                PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SignatureAlgorithmsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::ServerDoesNotSupportTls12Or13,
            ) => (
                FaultKind::Validation,
                "the peer speaks an old TLS version only; 1.2 is the least".to_owned(),
            ),
            E::PeerIncompatible(why) => (
                FaultKind::Validation,
                format!("the peer's TLS doesn't go together with ours: {why:?}"),
            ),
            E::InvalidMessage(_) => (
                FaultKind::Validation,
                "the peer answered with something that is not TLS".to_owned(),
            ),
            E::PeerMisbehaved(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec) => (
                FaultKind::Validation,
                "the peer sent data in plaintext within the TLS handshake".to_owned(),
            ),
            other => (FaultKind::Validation, format!("TLS: {other}")),
        };
        Self::new(kind, text)
    }

    fn of_certificate(bad: &CertificateError) -> Self {
        use CertificateError as C;
        let (kind, text) = match bad {
            C::Expired | C::ExpiredContext { .. } => (
                FaultKind::Expired,
                format!("the peer's certificate has expired ({bad})"),
            ),
            C::NotValidYet | C::NotValidYetContext { .. } => (
                FaultKind::Expired,
                format!("the peer's certificate is not valid yet ({bad}); is our clock right?"),
            ),
            C::NotValidForName | C::NotValidForNameContext { .. } => (
                FaultKind::HostMismatch,
                format!("the peer's certificate is for another name ({bad})"),
            ),
            C::UnknownIssuer => (
                FaultKind::NotTrusted,
                "no certificate authority that is trusted here signed the peer's certificate"
                    .to_owned(),
            ),
            C::Revoked => (
                FaultKind::NotTrusted,
                "the peer's certificate was revoked".to_owned(),
            ),
            // Ours alone say this: DANE's.
            C::Other(other) => (FaultKind::Tlsa, other.to_string()),
            bad => (
                FaultKind::Validation,
                format!("the peer's certificate is not valid ({bad})"),
            ),
        };
        Self::new(kind, text)
    }
}

/// A receive under way; resolves to the buffer with the plaintext appended. The end of the stream is
/// zero bytes.
pub enum Receive {
    /// Of the socket itself.
    Plain(op::Receive),
    /// Through TLS.
    Tls(Pin<Box<dyn Future<Output = (io::Result<usize>, Vec<u8>)>>>),
}

impl Future for Receive {
    type Output = (io::Result<usize>, Vec<u8>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Plain(receive) => Pin::new(receive).poll(cx),
            Self::Tls(receive) => receive.as_mut().poll(cx),
        }
    }
}

impl Conn {
    /// A connection in plaintext.
    pub fn new(stream: Stream) -> Self {
        Self { stream, tls: None }
    }

    /// The other end's address.
    pub fn peer(&self) -> SocketAddr {
        self.stream.peer()
    }

    /// Our own address.
    pub fn local(&self) -> SocketAddr {
        self.stream.local()
    }

    /// What the handshake came to; `None`: plaintext.
    pub fn facts(&self) -> Option<&Facts> {
        self.tls.as_deref().map(|tls| &tls.facts)
    }

    /// The peer's certificates in DER, its own first.
    pub fn peer_chain(&self) -> Vec<Vec<u8>> {
        let Some(tls) = &self.tls else {
            return Vec::new();
        };
        let rustls = tls.rustls.borrow();
        let chain = rustls.peer_certificates().unwrap_or_default();
        chain.iter().map(|der| der.to_vec()).collect()
    }

    /// What a login over this connection can be bound to, so that nobody in between can pass it on.
    pub fn channel(&self) -> Channel {
        let Some(tls) = self.tls.as_deref() else {
            return Channel::none();
        };
        let mut channel = Channel::none();
        if !tls.end_point.is_empty() {
            channel = channel.with_server_end_point(&tls.end_point);
        }
        // In TLS 1.2 it would take an extension that not all have (RFC 9266 4.2).
        let exported = (tls.facts.version == "TLSv1.3").then(|| {
            let rustls = tls.rustls.borrow();
            rustls.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[]))
        });
        if let Some(Ok(material)) = exported {
            channel = channel.with_exporter(material);
        }
        channel
    }

    /// Receives into the spare capacity of `buf`. Of TLS a record may be longer than that; the buffer
    /// grows then.
    pub fn receive(&self, buf: Vec<u8>) -> Receive {
        match &self.tls {
            None => Receive::Plain(self.stream.receive(buf)),
            Some(tls) => Receive::Tls(Box::pin(receive(self.stream.clone(), tls.clone(), buf))),
        }
    }

    /// Sends all of `parts`, in order. Only one is under way at a time.
    ///
    /// # Errors
    /// The operating system's; how much went out before is unknown.
    pub async fn send(&self, parts: Vec<Bytes>) -> io::Result<()> {
        let parts = match &self.tls {
            None => parts,
            Some(tls) => vec![tls.seal(&parts)?],
        };
        self.stream.send(parts).await
    }

    /// Ends the connection at once in both directions; pending operations complete.
    pub fn abort(&self) {
        self.stream.abort();
    }

    /// Says that nothing more will be sent.
    pub fn finish(&self) {
        self.stream.finish();
    }

    /// Says within TLS that nothing more will be sent (RFC 8446 6.1); nothing in plaintext.
    pub async fn say_goodbye(&self) {
        if let Some(tls) = &self.tls {
            tls.rustls.borrow_mut().send_close_notify();
            if let Ok(last) = tls.seal(&[]) {
                let _ = self.stream.send(vec![last]).await;
            }
        }
    }

    /// The handshake as client. Nothing that came before it counts.
    ///
    /// # Errors
    /// Why there is no TLS; the connection is of no use then. Dropped before its end, too.
    pub async fn start_client(&mut self, attempt: Attempt) -> Result<(), Fault> {
        let client = attempt.begin()?;
        self.shake_hands(client.into(), Vec::new(), None).await?;
        let end_point = self.peer_chain().first().map(|der| leaf::end_point(der));
        self.bind_to(end_point.unwrap_or_default());
        Ok(())
    }

    /// The handshake as server. `heard` is what came behind the client's STARTTLS already, and
    /// `receiving` a receive that is under way.
    ///
    /// # Errors
    /// Why there is no TLS; the connection is of no use then. Dropped before its end, too.
    pub async fn start_server(
        &mut self,
        server: &super::Server,
        heard: Vec<u8>,
        receiving: Option<Pin<Box<Receive>>>,
    ) -> Result<(), Fault> {
        let certificates = server;
        let rustls = server.begin()?;
        self.shake_hands(rustls.into(), heard, receiving).await?;
        let name = self.facts().and_then(|facts| facts.server_name.clone());
        self.bind_to(certificates.end_point(name.as_deref()));
        Ok(())
    }

    fn bind_to(&mut self, end_point: Vec<u8>) {
        if let Some(tls) = self.tls.as_mut().and_then(Rc::get_mut) {
            tls.end_point = end_point;
        }
    }

    async fn shake_hands(
        &mut self,
        mut rustls: Connection,
        heard: Vec<u8>,
        mut receiving: Option<Pin<Box<Receive>>>,
    ) -> Result<(), Fault> {
        // What is sealed is sent at once, and how much that is is bounded by our callers.
        rustls.set_buffer_limit(None);
        let mut heard = heard;
        let mut total = 0;
        loop {
            let step = hand_in(&mut rustls, &heard);
            heard.clear();
            // An alert that says why is sent before we leave.
            if rustls.wants_write() {
                let mut out = Vec::new();
                while rustls.wants_write() {
                    rustls.write_tls(&mut out).map_err(|e| Fault::broken(&e))?;
                }
                let sent = self.stream.send(vec![out.into()]).await;
                if step.is_ok() {
                    sent.map_err(|e| Fault::broken(&e))?;
                }
            }
            step?;
            if !rustls.is_handshaking() {
                break;
            }
            let (n, back) = match receiving.take() {
                Some(receive) => receive.await,
                None => {
                    heard.reserve(HANDSHAKE_RECEIVE_BYTES);
                    self.stream.receive(heard).await
                }
            };
            heard = back;
            let n = n.map_err(|e| Fault::broken(&e))?;
            total += n;
            if n == 0 {
                return Err(Fault::new(
                    FaultKind::Broken,
                    "the peer closed the connection within the TLS handshake",
                ));
            }
            if total > HANDSHAKE_BYTES_MAX {
                return Err(Fault::new(
                    FaultKind::Validation,
                    format!("the peer's TLS handshake is larger than {HANDSHAKE_BYTES_MAX} bytes"),
                ));
            }
        }
        let facts = Facts::of(&rustls);
        self.tls = Some(Rc::new(Layer {
            rustls: RefCell::new(rustls),
            end_point: Vec::new(),
            facts,
        }));
        Ok(())
    }
}

/// Gives rustls what arrived.
fn hand_in(rustls: &mut Connection, mut heard: &[u8]) -> Result<(), Fault> {
    while !heard.is_empty() {
        rustls.read_tls(&mut heard).map_err(|e| Fault::broken(&e))?;
        rustls.process_new_packets().map_err(|e| Fault::of(&e))?;
    }
    Ok(())
}

impl Facts {
    fn of(rustls: &Connection) -> Self {
        Self {
            version: match rustls.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLS",
            },
            cipher: rustls
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                // The registry names those of 1.3 without their version.
                .map(|name| name.replacen("TLS13_", "TLS_", 1))
                .unwrap_or_default(),
            group: rustls
                .negotiated_key_exchange_group()
                .map(|group| format!("{:?}", group.name()))
                .unwrap_or_default(),
            server_name: match rustls {
                Connection::Server(server) => server.server_name().map(str::to_owned),
                Connection::Client(_) => None,
            },
            resumed: rustls.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

impl Layer {
    /// The parts as records, and whatever else TLS has to say first.
    fn seal(&self, parts: &[Bytes]) -> io::Result<Bytes> {
        let mut rustls = self.rustls.borrow_mut();
        let whole: usize = parts.iter().map(Bytes::len).sum();
        let mut left: Vec<IoSlice<'_>> = parts.iter().map(|p| IoSlice::new(p)).collect();
        let mut slices = &mut left[..];
        while slices.iter().any(|s| !s.is_empty()) {
            let n = rustls.writer().write_vectored(slices)?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut slices, n);
        }
        let records = whole / RECORD_BYTES_MAX + 2;
        let mut out = Vec::with_capacity(whole + records * RECORD_OVERHEAD);
        while rustls.wants_write() {
            rustls.write_tls(&mut out)?;
        }
        Ok(out.into())
    }

    /// Moves the plaintext that is there to the end of `buf`; `None`: nothing, and more may come.
    ///
    /// # Errors
    /// The stream was cut off: the peer didn't say that it ends (RFC 8446 6.1).
    fn take_plaintext(&self, buf: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let mut rustls = self.rustls.borrow_mut();
        let before = buf.len();
        loop {
            let mut reader = rustls.reader();
            let n = match reader.fill_buf() {
                Ok([]) => return Ok(Some(buf.len() - before)),
                Ok(plaintext) => {
                    buf.extend_from_slice(plaintext);
                    plaintext.len()
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let n = buf.len() - before;
                    return Ok((n > 0).then_some(n));
                }
                Err(_) if buf.len() > before => return Ok(Some(buf.len() - before)),
                Err(e) => return Err(e),
            };
            reader.consume(n);
        }
    }

    /// Takes in what arrived, nothing at the end of the stream. Gives the plaintext that rustls should
    /// not keep, since it keeps little; the rest is there for
    /// [`take_plaintext`](Self::take_plaintext).
    fn open(&self, mut heard: &[u8]) -> io::Result<Vec<u8>> {
        let mut plaintext = Vec::new();
        if heard.is_empty() {
            self.rustls.borrow_mut().read_tls(&mut heard)?;
        }
        while !heard.is_empty() {
            let mut rustls = self.rustls.borrow_mut();
            rustls.read_tls(&mut heard)?;
            rustls
                .process_new_packets()
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, Fault::of(&e)))?;
            drop(rustls);
            if !heard.is_empty() {
                self.take_plaintext(&mut plaintext)?;
            }
        }
        Ok(plaintext)
    }
}

async fn receive(stream: Stream, tls: Rc<Layer>, buf: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
    let mut buf = buf;
    let before = buf.len();
    loop {
        match tls.take_plaintext(&mut buf) {
            Ok(None) => {}
            Ok(Some(n)) => return (Ok(n), buf),
            Err(e) => return (Err(e), buf),
        }
        // Records take the place that their plaintext will have.
        if buf.capacity() == buf.len() {
            buf.reserve(RECORD_OVERHEAD);
        }
        let (n, back) = stream.receive(buf).await;
        buf = back;
        let opened = match n {
            Ok(_) => tls.open(&buf[before..]),
            Err(e) => Err(e),
        };
        buf.truncate(before);
        match opened {
            Ok(plaintext) => buf.extend_from_slice(&plaintext),
            Err(e) => return (Err(e), buf),
        }
        if buf.len() > before {
            let n = buf.len() - before;
            let more = tls.take_plaintext(&mut buf).ok().flatten();
            return (Ok(n + more.unwrap_or(0)), buf);
        }
    }
}
