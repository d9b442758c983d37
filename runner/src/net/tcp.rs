//! TCP streams and listeners.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::op::{self, Receive, SEND_PARTS_MAX, SharedFd};

/// Connections that the kernel holds for us before we accept them.
pub const LISTEN_BACKLOG: i32 = 1024;

/// One TCP connection of this thread.
///
/// [`receive`](Self::receive) and [`send`](Self::send) may be under way at the same time. After
/// [`abort`](Self::abort) both complete with an error or the end of the stream.
#[derive(Clone)]
pub struct Stream {
    fd: SharedFd,
    peer: SocketAddr,
    local: SocketAddr,
}

impl Stream {
    /// Connects to `to`, from `source` where one is given, within `limit`.
    ///
    /// # Errors
    /// The operating system's, `TimedOut` after `limit`, and `AddrNotAvailable` with the source's
    /// name when it is not an address of this machine.
    pub async fn connect(
        to: SocketAddr,
        source: Option<IpAddr>,
        limit: Duration,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(source) = source {
            // The port is chosen at connect, so the same one serves many destinations.
            set_bind_address_no_port(&socket)?;
            socket
                .bind(&SocketAddr::new(source, 0).into())
                .map_err(|e| {
                    io::Error::new(
                        e.kind(),
                        format!("can't send from {source}: {e}; is it an address of this machine?"),
                    )
                })?;
        }
        socket.set_tcp_nodelay(true)?;
        let fd: SharedFd = Rc::new(OwnedFd::from(socket));
        let mut connecting = op::connect(&fd, to);
        match tokio::time::timeout(limit, &mut connecting).await {
            Ok(done) => done?,
            Err(_) => {
                // Makes the pending connect complete, so the descriptor is freed.
                let _ = SockRef::from(&*fd).shutdown(Shutdown::Both);
                let _ = connecting.await;
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no connection within {limit:?}"),
                ));
            }
        }
        let local = SockRef::from(&*fd)
            .local_addr()?
            .as_socket()
            .unwrap_or(SocketAddr::new(to.ip(), 0));
        Ok(Self {
            fd,
            peer: to,
            local,
        })
    }

    /// The other end's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Our own address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Receives into the spare capacity of `buf`.
    pub fn receive(&self, buf: Vec<u8>) -> Receive {
        op::receive(&self.fd, buf)
    }

    /// Sends all of `parts`, in order.
    ///
    /// # Errors
    /// The operating system's; how much went out before is unknown.
    pub async fn send(&self, mut parts: Vec<Bytes>) -> io::Result<()> {
        parts.retain(|p| !p.is_empty());
        while !parts.is_empty() {
            let rest = if parts.len() > SEND_PARTS_MAX {
                parts.split_off(SEND_PARTS_MAX)
            } else {
                Vec::new()
            };
            let (sent, mut back) = op::send(&self.fd, parts).await;
            let mut sent = sent?;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let mut whole = 0;
            for part in &mut back {
                if sent < part.len() {
                    part.advance(sent);
                    break;
                }
                sent -= part.len();
                whole += 1;
            }
            back.drain(..whole);
            back.extend(rest);
            parts = back;
        }
        Ok(())
    }

    /// Ends the connection at once in both directions; pending operations complete.
    pub fn abort(&self) {
        let _ = SockRef::from(&*self.fd).shutdown(Shutdown::Both);
    }

    /// Says that nothing more will be sent.
    pub fn finish(&self) {
        let _ = SockRef::from(&*self.fd).shutdown(Shutdown::Write);
    }
}

fn set_bind_address_no_port(socket: &Socket) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let on: libc::c_int = 1;
    // SAFETY: `on` outlives the call, and its size is given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A bound and listening socket that can be handed to a shard.
pub struct BoundListener {
    socket: Socket,
    address: SocketAddr,
}

impl BoundListener {
    /// Binds `address` for `shards` listeners that share it by SO_REUSEPORT; the kernel spreads
    /// connections over them.
    ///
    /// A first socket without SO_REUSEPORT is bound and dropped before, because with it a second
    /// server on the same port would start in silence and take half of the connections.
    ///
    /// # Errors
    /// The operating system's, naming the address.
    pub fn bind(address: SocketAddr, shards: usize) -> io::Result<Vec<Self>> {
        let named = |e: io::Error| {
            let hint = match e.kind() {
                io::ErrorKind::AddrInUse => "; is another mail server running?",
                io::ErrorKind::PermissionDenied => {
                    "; ports below 1024 need root or CAP_NET_BIND_SERVICE"
                }
                io::ErrorKind::AddrNotAvailable => "; it is not an address of this machine",
                _ => "",
            };
            io::Error::new(e.kind(), format!("can't listen on {address}: {e}{hint}"))
        };
        let probe = Self::open(address, false).map_err(named)?;
        let bound = probe
            .local_addr()
            .map_err(named)?
            .as_socket()
            .unwrap_or(address);
        drop(probe);
        (0..shards.max(1))
            .map(|_| {
                let socket = Self::open(bound, true).map_err(named)?;
                socket.listen(LISTEN_BACKLOG).map_err(named)?;
                Ok(Self {
                    socket,
                    address: bound,
                })
            })
            .collect()
    }

    fn open(address: SocketAddr, share: bool) -> io::Result<Socket> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(share)?;
        socket.bind(&address.into())?;
        if !share {
            // SO_REUSEADDR lets two sockets bind until one of them listens.
            socket.listen(1)?;
        }
        Ok(socket)
    }

    /// The address, with the port that the kernel chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A listener of this thread.
pub struct Listener {
    fd: SharedFd,
    address: SocketAddr,
}

impl Listener {
    /// Takes a bound listener over to this thread.
    pub fn new(bound: BoundListener) -> Self {
        Self {
            fd: Rc::new(OwnedFd::from(bound.socket)),
            address: bound.address,
        }
    }

    /// The next connection. One task per listener calls this, in a loop, and nothing cancels it
    /// but [`stop`](Self::stop).
    ///
    /// # Errors
    /// The operating system's; `InvalidInput` after [`stop`](Self::stop).
    pub async fn accept(&self) -> io::Result<Stream> {
        loop {
            let fd = match op::accept(&self.fd).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                accepted => accepted?,
            };
            // One that has gone already is no trouble of the listener's.
            if let Ok((peer, local)) = self.greet(&fd) {
                return Ok(Stream {
                    fd: Rc::new(fd),
                    peer,
                    local,
                });
            }
        }
    }

    fn greet(&self, fd: &OwnedFd) -> io::Result<(SocketAddr, SocketAddr)> {
        let socket = SockRef::from(fd);
        socket.set_tcp_nodelay(true)?;
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let peer = socket.peer_addr()?.as_socket().ok_or_else(gone)?;
        let local = socket.local_addr()?.as_socket().unwrap_or(self.address);
        Ok((peer, local))
    }

    /// Stops listening; the pending accept completes with an error.
    pub fn stop(&self) {
        let _ = SockRef::from(&*self.fd).shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ring;

    #[test]
    fn bytes_cross_in_order_and_the_end_is_seen() {
        ring::run(async {
            let bound = BoundListener::bind("127.0.0.1:0".parse().unwrap(), 1)
                .unwrap()
                .remove(0);
            let to = bound.address();
            let listener = Listener::new(bound);
            let server = ring::spawn(async move {
                let stream = listener.accept().await.unwrap();
                let mut buf = Vec::with_capacity(3 << 20);
                loop {
                    let (n, back) = stream.receive(buf).await;
                    buf = back;
                    if n.unwrap() == 0 {
                        return buf;
                    }
                }
            });
            let stream = Stream::connect(
                to,
                Some("127.0.0.9".parse().unwrap()),
                Duration::from_secs(5),
            )
            .await
            .unwrap();
            assert_eq!(stream.local().ip(), "127.0.0.9".parse::<IpAddr>().unwrap());
            let parts: Vec<Bytes> = (0..3000u32)
                .map(|i| Bytes::from(vec![i as u8; 700]))
                .collect();
            let all: Vec<u8> = parts.iter().flat_map(|p| p.iter().copied()).collect();
            stream.send(parts).await.unwrap();
            stream.finish();
            assert!(server.await.unwrap() == all);
        })
        .unwrap();
    }

    #[test]
    fn a_second_server_on_the_port_is_refused() {
        let first = BoundListener::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let error = BoundListener::bind(first[0].address(), 1).err().unwrap();
        assert!(error.to_string().contains("another mail server"), "{error}");
    }

    #[test]
    fn abort_ends_a_pending_receive_and_stop_a_pending_accept() {
        ring::run(async {
            let bound = BoundListener::bind("127.0.0.1:0".parse().unwrap(), 1)
                .unwrap()
                .remove(0);
            let to = bound.address();
            let listener = Rc::new(Listener::new(bound));
            let accepting = {
                let listener = listener.clone();
                ring::spawn(async move {
                    let first = listener.accept().await.unwrap();
                    (listener.accept().await.is_err(), first)
                })
            };
            let stream = Stream::connect(to, None, Duration::from_secs(5))
                .await
                .unwrap();
            let mut receiving = stream.receive(Vec::with_capacity(16));
            assert!(
                tokio::time::timeout(Duration::from_millis(50), &mut receiving)
                    .await
                    .is_err()
            );
            stream.abort();
            let (n, _) = receiving.await;
            assert!(matches!(n, Ok(0) | Err(_)));
            listener.stop();
            assert!(accepting.await.unwrap().0);
        })
        .unwrap();
    }
}
