//! Datagram sockets, for DNS.
//!
//! A resolver's socket gets a few datagrams for each new domain, none per message, so this goes
//! through the same vectored operations with an address beside them.

use std::io;
use std::net::SocketAddr;

/// Largest datagram that we read: more than any EDNS size that we announce.
pub const DATAGRAM_BYTES_MAX: usize = 4096;

/// A bound UDP socket of this thread.
pub struct Datagrams {
    inner: tokio_uring::net::UdpSocket,
}

impl Datagrams {
    /// Binds a random port of the right address family for talking to `server`. Each socket has a
    /// port of its own, one more thing that a spoofer has to guess (RFC 5452 9.2).
    ///
    /// # Errors
    /// The operating system's.
    pub fn toward(server: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = if server.is_ipv4() {
            (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = std::net::UdpSocket::bind(any)?;
        Ok(Self {
            inner: tokio_uring::net::UdpSocket::from_std(socket),
        })
    }

    /// The next datagram and who sent it. Kept pending for the life of the socket.
    ///
    /// # Errors
    /// The operating system's: a refused port shows here as an error that passes.
    pub async fn receive(&self, buf: Vec<u8>) -> (io::Result<(usize, SocketAddr)>, Vec<u8>) {
        self.inner.recv_from(buf).await
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn send(&self, datagram: Vec<u8>, to: SocketAddr) -> io::Result<()> {
        self.inner.send_to(datagram, to).await.0.map(|_| ())
    }

    /// Makes the pending receive complete.
    pub fn abort(&self) {
        use std::os::fd::{AsRawFd, BorrowedFd};
        // SAFETY: the descriptor lives as long as `inner`, which we borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(self.inner.as_raw_fd()) };
        let _ = socket2::SockRef::from(&fd).shutdown(std::net::Shutdown::Both);
    }
}
