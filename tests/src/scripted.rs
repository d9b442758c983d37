//! A receiver that does with each connection exactly what the test says, byte by byte.
//!
//! [`receiver`](crate::receiver) is for receivers that speak SMTP and only answer in their own way;
//! this is for those that stall, reset, drip and shout. Most tests let [`Guest::line`] and
//! [`Guest::say`] speak up to the moment that they are about.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// A guest that hears nothing for so long gives up, so that no thread outlives its test for long.
const PATIENCE: Duration = Duration::from_secs(60);

struct Shared {
    open: AtomicUsize,
    sessions: AtomicUsize,
    pumped: AtomicU64,
    stop: AtomicBool,
}

/// A running peer.
pub struct Scripted {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Scripted {
    /// One on 127.0.0.1 that runs `act` for each connection, with its number from 0. An error ends
    /// that connection and nothing else.
    pub fn start(
        act: impl Fn(usize, &mut Guest) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), act)
    }

    /// The same at `address`.
    ///
    /// # Panics
    /// When the address is taken.
    pub fn start_at(
        address: SocketAddr,
        act: impl Fn(usize, &mut Guest) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("a free address");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            open: AtomicUsize::new(0),
            sessions: AtomicUsize::new(0),
            pumped: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let (accepting, act) = (shared.clone(), Arc::new(act));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (shared, act) = (accepting.clone(), act.clone());
                std::thread::spawn(move || {
                    let number = shared.sessions.fetch_add(1, Ordering::AcqRel);
                    shared.open.fetch_add(1, Ordering::AcqRel);
                    let _ = Guest::new(stream, shared.clone())
                        .and_then(|mut guest| act(number, &mut guest));
                    shared.open.fetch_sub(1, Ordering::AcqRel);
                });
            }
        });
        Self { address, shared }
    }

    /// Connections so far.
    pub fn sessions(&self) -> usize {
        self.shared.sessions.load(Ordering::Acquire)
    }

    /// Connections whose script still runs.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// Bytes that [`Guest::pump`] got rid of.
    pub fn pumped(&self) -> u64 {
        self.shared.pumped.load(Ordering::Acquire)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_millis(200));
    }
}

/// One connection.
pub struct Guest {
    stream: BufReader<TcpStream>,
    shared: Arc<Shared>,
}

impl Guest {
    fn new(stream: TcpStream, shared: Arc<Shared>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
            shared,
        })
    }

    /// The next line without its end.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` when the other side has closed.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Reads exactly `n` bytes.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` when the other side has closed.
    pub fn bytes(&mut self, n: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; n];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads a body up to the dot, and leaves the dots in.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` when the other side has closed.
    pub fn dotted(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let at = body.len();
            if self.stream.read_until(b'\n', &mut body)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if &body[at..] == b".\r\n" {
                body.truncate(at);
                return Ok(body);
            }
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The system's.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Sends one byte after the other, with a pause before each.
    ///
    /// # Errors
    /// The system's.
    pub fn drip(&mut self, bytes: impl AsRef<[u8]>, pause: Duration) -> io::Result<()> {
        for byte in bytes.as_ref() {
            std::thread::sleep(pause);
            self.say([*byte])?;
        }
        Ok(())
    }

    /// Sends `bytes` over and over until the other side has closed, or `most` went out.
    ///
    /// # Errors
    /// The system's, which is how it ends when the other side closes.
    pub fn pump(&mut self, bytes: impl AsRef<[u8]>, most: u64) -> io::Result<()> {
        let bytes = bytes.as_ref();
        let mut sent = 0;
        while sent < most {
            self.say(bytes)?;
            sent += bytes.len() as u64;
            self.shared
                .pumped
                .fetch_add(bytes.len() as u64, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Says nothing, and throws away what comes until the other side closes.
    ///
    /// # Errors
    /// The system's.
    pub fn wait_end(&mut self) -> io::Result<()> {
        let mut some = [0; 16 * 1024];
        while self.stream.read(&mut some)? > 0 {}
        Ok(())
    }

    /// Neither says nor reads anything until the other side is gone.
    pub fn deaf(&mut self) {
        let mut poll = libc::pollfd {
            fd: self.stream.get_ref().as_raw_fd(),
            events: libc::POLLRDHUP,
            revents: 0,
        };
        // SAFETY: one descriptor is given, which is open.
        unsafe { libc::poll(&raw mut poll, 1, PATIENCE.as_millis() as i32) };
    }

    /// Closes in good order: nothing more is said, and what comes is thrown away.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(&mut self) -> io::Result<()> {
        self.stream.get_ref().shutdown(Shutdown::Write)?;
        self.wait_end()
    }

    /// Resets the connection when the script ends, instead of closing it in good order.
    ///
    /// # Errors
    /// Always, so that it is the end of a script; the system's if that fails.
    pub fn reset(&mut self) -> io::Result<()> {
        let now = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        // SAFETY: `now` outlives the call, and its size is given.
        unsafe {
            libc::setsockopt(
                self.stream.get_ref().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const now).cast(),
                size_of::<libc::linger>() as libc::socklen_t,
            );
        }
        Err(io::ErrorKind::ConnectionReset.into())
    }
}
