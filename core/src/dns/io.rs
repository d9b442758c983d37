//! What goes into the [`Resolver`](super::Resolver) and what comes out of it.

use alloc::sync::Arc;
use core::net::SocketAddr;
use core::time::Duration;

use super::query::{Answer, Question};
use crate::time::Instant;

/// The caller's own number for who asked; the resolver only hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// One query that was sent; names it when its fate is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId {
    pub(super) lookup: u64,
    pub(super) attempt: u32,
}

/// What [`Resolver::ask`](super::Resolver::ask) says at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The answer was in the cache. No [`Output::Answer`] will come.
    Answered(Arc<Answer>),
    /// Exactly one [`Output::Answer`] with the token will come, within
    /// [`give_up`](super::Config::give_up).
    Pending,
    /// Too much is open; ask again later. No [`Output::Answer`] will come.
    Busy,
}

/// What happened outside.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A datagram came in from `from` on UDP socket number `socket`.
    Datagram {
        /// Its sender.
        from: SocketAddr,
        /// The socket's number, as in [`Output::SendUdp`].
        socket: u16,
        /// All of it.
        bytes: &'a [u8],
    },
    /// The response to a TCP query, without the two length bytes in front (RFC 1035 4.2.2).
    TcpReply {
        /// Which query.
        query: QueryId,
        /// All of it.
        bytes: &'a [u8],
    },
    /// The TCP connection could not be made, or broke before the response was there.
    TcpFailed {
        /// Which query.
        query: QueryId,
    },
    /// The datagram could not be sent, or came back (ICMP port unreachable).
    SendFailed {
        /// Which query.
        query: QueryId,
    },
}

/// What to do outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send the first `len` bytes of `out` to `to` from UDP socket number `socket`.
    SendUdp {
        /// The server.
        to: SocketAddr,
        /// Number of the socket, below [`Config::sockets`](super::Config::sockets). If the caller has one socket for each
        /// address family, a number stands for the pair.
        socket: u16,
        /// Bytes of `out`.
        len: usize,
        /// For [`Input::SendFailed`].
        query: QueryId,
    },
    /// Send the first `len` bytes of `out` to `to` by TCP, with the two length bytes in front
    /// (RFC 1035 4.2.2), and report one of [`Input::TcpReply`] and [`Input::TcpFailed`].
    SendTcp {
        /// The server.
        to: SocketAddr,
        /// Bytes of `out`.
        len: usize,
        /// For the report.
        query: QueryId,
    },
    /// This is the answer that `token` waits for.
    Answer {
        /// Who asked.
        token: Token,
        /// What was asked.
        question: Question,
        /// What came of it.
        answer: Arc<Answer>,
    },
    /// Nothing to do before something comes in or this instant has come; call
    /// [`Resolver::poll`](super::Resolver::poll) then. `None`: nothing is open.
    Wait(Option<Instant>),
}

/// How a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// Its address.
    pub address: SocketAddr,
    /// Failures since it last answered.
    pub failures: u32,
    /// Left alone until then; in the past for a server in use.
    pub retry_at: Instant,
    /// Smoothed round trip, once one was seen.
    pub round_trip: Option<Duration>,
}
