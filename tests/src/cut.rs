//! Somebody in between who lets a TLS handshake behind STARTTLS get so far and no further.
//!
//! It knows the handshake by its records alone, as everybody on the way does. A connection without
//! STARTTLS passes as it is.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A connection over which nothing comes for so long is over, so that no thread outlives its test for
/// long.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is held back is the end of what was said when nothing more comes for so long. It decides
/// only when a connection is closed, never how much got through.
const PAUSE: Duration = Duration::from_millis(200);

/// Record types (RFC 8446 5.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// Bytes of a record before its content.
const HEAD: usize = 5;

/// How far it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing comes from the server.
    BeforeServerHello,
    /// Some of the ServerHello.
    WithinServerHello,
    /// The ServerHello, to the end of its record.
    AfterServerHello,
    /// Some of the server's certificate.
    WithinCertificate,
    /// Everything from the server up to its Finished, of which the end is missing.
    WithinServerFinished,
    /// Everything but the client's Finished.
    WithoutClientFinished,
    /// The whole handshake, and of the first answer over TLS all but its end.
    WithinFirstAnswer,
}

/// What comes behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing, while the connection stays.
    Stalls,
    /// The end of the connection.
    Closes,
}

/// All steps, in their order.
pub const STEPS: [Step; 7] = [
    Step::BeforeServerHello,
    Step::WithinServerHello,
    Step::AfterServerHello,
    Step::WithinCertificate,
    Step::WithinServerFinished,
    Step::WithoutClientFinished,
    Step::WithinFirstAnswer,
];

/// A running one.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    step: Step,
    end: End,
    sessions: AtomicUsize,
    held: AtomicUsize,
    passed: AtomicUsize,
    stop: AtomicBool,
}

impl Proxy {
    /// One at `address` that connects to `to`.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn start_at(address: SocketAddr, to: SocketAddr, step: Step, end: End) -> Self {
        let listener = TcpListener::bind(address).expect("a free address");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            to,
            step,
            end,
            sessions: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            passed: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                accepting.sessions.fetch_add(1, Ordering::AcqRel);
                let _ = pass(&accepting, stream);
            }
        });
        Self { address, shared }
    }

    /// Connections so far.
    pub fn sessions(&self) -> usize {
        self.shared.sessions.load(Ordering::Acquire)
    }

    /// Connections so far in which something was held back.
    pub fn held(&self) -> usize {
        self.shared.held.load(Ordering::Acquire)
    }

    /// The most bytes of TLS that got through from the server in one connection.
    pub fn passed(&self) -> usize {
        self.shared.passed.load(Ordering::Acquire)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_millis(200));
    }
}

/// What both directions of one connection know.
#[derive(Default)]
struct Talk {
    /// The client said STARTTLS.
    asked: bool,
    /// The server said yes.
    granted: bool,
    /// What came of TLS from the client and from the server.
    client: Vec<u8>,
    server: Vec<u8>,
    held: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

fn pass(shared: &Arc<Shared>, client: TcpStream) -> io::Result<()> {
    let server = TcpStream::connect_timeout(&shared.to, PATIENCE)?;
    let talk = Arc::new(Mutex::new(Talk::default()));
    for (from, near, far) in [
        (Side::Client, &client, &server),
        (Side::Server, &server, &client),
    ] {
        let (shared, talk) = (shared.clone(), talk.clone());
        let (mut near, mut far) = (near.try_clone()?, far.try_clone()?);
        near.set_nodelay(true)?;
        std::thread::spawn(move || {
            let _ = pump(&shared, &talk, from, &mut near, &mut far);
            let _ = near.shutdown(Shutdown::Both);
            let _ = far.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}

/// Passes one direction on, until either end closes, or this one is to be closed.
fn pump(
    shared: &Shared,
    talk: &Mutex<Talk>,
    from: Side,
    near: &mut TcpStream,
    far: &mut TcpStream,
) -> io::Result<()> {
    let mut some = [0; 4096];
    let mut passed = 0;
    let mut holding = false;
    loop {
        let closes = holding && shared.end == End::Closes;
        near.set_read_timeout(Some(if closes { PAUSE } else { PATIENCE }))?;
        let n = near.read(&mut some)?;
        if n == 0 {
            return Ok(());
        }
        let mut talk = talk.lock().unwrap_or_else(PoisonError::into_inner);
        if !talk.granted {
            let some = &some[..n];
            match from {
                Side::Client => talk.asked |= some.starts_with(b"STARTTLS\r\n"),
                Side::Server => talk.granted = talk.asked && some.starts_with(b"220"),
            }
            drop(talk);
            far.write_all(some)?;
            continue;
        }
        match from {
            Side::Client => talk.client.extend_from_slice(&some[..n]),
            Side::Server => talk.server.extend_from_slice(&some[..n]),
        }
        let may = may_pass(shared.step, from, &talk);
        let all = match from {
            Side::Client => &talk.client,
            Side::Server => &talk.server,
        };
        let next = all.get(passed..may).unwrap_or_default().to_vec();
        holding = may < all.len();
        if holding && !std::mem::replace(&mut talk.held, true) {
            shared.held.fetch_add(1, Ordering::AcqRel);
        }
        drop(talk);
        passed += next.len();
        if from == Side::Server {
            shared.passed.fetch_max(passed, Ordering::AcqRel);
        }
        far.write_all(&next)?;
    }
}

/// How many bytes of what came from there get through.
fn may_pass(step: Step, from: Side, talk: &Talk) -> usize {
    let all = match from {
        Side::Client => &talk.client,
        Side::Server => &talk.server,
    };
    match (step, from) {
        (Step::BeforeServerHello, Side::Server) => 0,
        // Its version and some of its random.
        (Step::WithinServerHello, Side::Server) => all.len().min(HEAD + 20),
        (Step::AfterServerHello, Side::Server) => server_hello(all).unwrap_or(all.len()),
        // What stands between takes less, and a chain of two more.
        (Step::WithinCertificate, Side::Server) => {
            server_hello(all).map_or(all.len(), |end| all.len().min(end + 300))
        }
        // In TLS 1.3 the server's flight ends with it, and in 1.2 what follows the client's.
        (Step::WithinServerFinished, Side::Server) => match is_1_3(all) {
            true => all.len().saturating_sub(20),
            false => end_of_first(all, CHANGE_CIPHER_SPEC)
                .map_or(all.len(), |end| all.len().min(end + HEAD + 8)),
        },
        // The ChangeCipherSpec of TLS 1.3 means nothing, but stands there too.
        (Step::WithoutClientFinished, Side::Client) => {
            end_of_first(all, CHANGE_CIPHER_SPEC).unwrap_or(all.len())
        }
        (Step::WithinFirstAnswer, Side::Server)
            if end_of_first(&talk.client, APPLICATION_DATA).is_some() =>
        {
            all.len().saturating_sub(10)
        }
        _ => all.len(),
    }
}

/// The whole records in `bytes`: type, content and where each ends.
fn records(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8], usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let head = bytes.get(at..at + HEAD)?;
        let start = at + HEAD;
        let end = start + usize::from(u16::from_be_bytes([head[3], head[4]]));
        let content = bytes.get(start..end)?;
        at = end;
        Some((head[0], content, end))
    })
}

fn end_of_first(bytes: &[u8], kind: u8) -> Option<usize> {
    records(bytes).find_map(|(is, _, end)| (is == kind).then_some(end))
}

/// Where the record ends in which the first handshake message does, which is the ServerHello.
fn server_hello(bytes: &[u8]) -> Option<usize> {
    let mut message = Vec::new();
    records(bytes)
        .take_while(|(kind, ..)| *kind == HANDSHAKE)
        .find_map(|(_, content, end)| {
            message.extend_from_slice(content);
            let [_, a, b, c, ..] = message[..] else {
                return None;
            };
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            (message.len() >= 4 + length).then_some(end)
        })
}

/// The server speaks TLS 1.3: what follows its ServerHello is a ChangeCipherSpec, or sealed.
fn is_1_3(bytes: &[u8]) -> bool {
    let Some(hello) = server_hello(bytes) else {
        return false;
    };
    records(bytes).any(|(kind, _, end)| end > hello && kind == APPLICATION_DATA)
        && !records(bytes).any(|(kind, _, end)| end > hello && kind == HANDSHAKE)
}
