//! A connection that is plaintext at first and TLS after a handshake.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use courser_core::route::tlsrpt::ResultType;
use courser_core::smtp::sasl::Channel;

use super::super::op;
use super::super::tcp::Stream;
use super::client::Attempt;
use super::fault::Fault;
use super::leaf;
use super::sealed::Sealed;
use super::server::Server;

/// Bytes of one receive during a handshake: a flight with its certificates often fits.
const HANDSHAKE_RECEIVE_BYTES: usize = 4096;
/// Bytes that a peer may send in one handshake; certificates take a few thousand.
const HANDSHAKE_BYTES_MAX: usize = 256 * 1024;
/// Room for a receive into a buffer that has none left.
const RECEIVE_BYTES_MIN: usize = 256;

/// One connection of this thread: plaintext, or TLS after a handshake.
///
/// [`receive`](Self::receive) and one [`send`](Self::send) may be under way at the same time. After
/// [`abort`](Self::abort) both complete.
pub struct Conn {
    stream: Stream,
    tls: Option<Rc<Layer>>,
}

struct Layer {
    sealed: RefCell<Sealed>,
    /// Plaintext that came with the end of the handshake.
    early: RefCell<Vec<u8>>,
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
    /// A server's: the client showed a certificate, which one of the authorities of `client_ca` signed,
    /// of [this name](leaf::name).
    pub client_certificate: Option<String>,
}

impl Facts {
    /// Whether a login can be bound to tls-exporter. In TLS 1.2 that would take an extension that not
    /// all have (RFC 9266 4.2).
    pub fn has_exporter(&self) -> bool {
        self.version == "TLSv1.3"
    }
}

/// How many bytes came, and the buffer with them.
type Received = (io::Result<usize>, Vec<u8>);

/// A receive under way; resolves to the buffer with the plaintext appended. The end of the stream is
/// zero bytes.
pub enum Receive {
    /// Of the socket itself.
    Plain(op::Receive),
    /// Through TLS.
    Tls(Pin<Box<dyn Future<Output = Received>>>),
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
        let tls = self.tls.as_deref();
        tls.map_or_else(Vec::new, |tls| tls.sealed.borrow().peer_chain())
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
        if tls.facts.has_exporter()
            && let Some(material) = tls.sealed.borrow().export(b"EXPORTER-Channel-Binding")
        {
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
            Some(tls) => vec![tls.sealed.borrow_mut().seal(&parts)],
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
            let last = tls.sealed.borrow_mut().seal_the_end();
            let _ = self.stream.send(vec![last]).await;
        }
    }

    /// The handshake as client. Nothing that came before it counts.
    ///
    /// # Errors
    /// Why there is no TLS; the connection is of no use then. Dropped before its end, too.
    pub async fn start_client(&mut self, attempt: Attempt) -> Result<(), Fault> {
        let client = Sealed::client(attempt)?;
        self.shake_hands(client, Vec::new(), None).await?;
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
        server: &Server,
        heard: Vec<u8>,
        receiving: Option<Pin<Box<Receive>>>,
    ) -> Result<(), Fault> {
        self.shake_hands(Sealed::server(server)?, heard, receiving)
            .await?;
        let name = self.facts().and_then(|facts| facts.server_name.as_deref());
        let end_point = server.end_point(name);
        self.bind_to(end_point);
        Ok(())
    }

    fn bind_to(&mut self, end_point: Vec<u8>) {
        if let Some(tls) = self.tls.as_mut().and_then(Rc::get_mut) {
            tls.end_point = end_point;
        }
    }

    async fn shake_hands(
        &mut self,
        mut sealed: Sealed,
        heard: Vec<u8>,
        mut receiving: Option<Pin<Box<Receive>>>,
    ) -> Result<(), Fault> {
        let (mut heard, mut early, mut total) = (heard, Vec::new(), 0);
        loop {
            let taken = sealed.take(&heard, &mut early);
            heard.clear();
            // An alert that says why is sent before we leave.
            let out = sealed.to_send();
            if !out.is_empty() {
                let sent = self.stream.send(vec![out]).await;
                if taken.is_ok() {
                    sent.map_err(|e| Fault::broken(&e))?;
                }
            }
            taken?;
            if sealed.is_up() {
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
                    ResultType::ValidationFailure,
                    "the peer closed the connection within the TLS handshake",
                ));
            }
            if total > HANDSHAKE_BYTES_MAX {
                return Err(Fault::new(
                    ResultType::ValidationFailure,
                    format!("the peer's TLS handshake is larger than {HANDSHAKE_BYTES_MAX} bytes"),
                ));
            }
        }
        self.tls = Some(Rc::new(Layer {
            facts: sealed.facts(),
            sealed: RefCell::new(sealed),
            early: RefCell::new(early),
            end_point: Vec::new(),
        }));
        Ok(())
    }
}

async fn receive(stream: Stream, tls: Rc<Layer>, buf: Vec<u8>) -> Received {
    let mut buf = buf;
    let before = buf.len();
    let early = std::mem::take(&mut *tls.early.borrow_mut());
    if !early.is_empty() {
        buf.extend_from_slice(&early);
        return (Ok(early.len()), buf);
    }
    let mut plaintext = Vec::new();
    while !tls.sealed.borrow().has_ended() {
        // Records take the place that their plaintext will have.
        if buf.capacity() == buf.len() {
            buf.reserve(RECEIVE_BYTES_MIN);
        }
        let (n, back) = stream.receive(buf).await;
        buf = back;
        if !matches!(n, Ok(n) if n > 0) {
            return (n, buf);
        }
        let taken = tls.sealed.borrow_mut().take(&buf[before..], &mut plaintext);
        buf.truncate(before);
        buf.extend_from_slice(&plaintext);
        match taken {
            // What came before a fault counts; the stream ends with it.
            _ if !plaintext.is_empty() => return (Ok(plaintext.len()), buf),
            Ok(()) => {}
            Err(fault) => return (Err(io::Error::new(io::ErrorKind::InvalidData, fault)), buf),
        }
    }
    (Ok(0), buf)
}
