//! The only place that names tokio-uring, io-uring, rustls and the clock.
//!
//! | file | gives |
//! |---|---|
//! | [`https`] | a request by HTTPS, on the control plane |
//! | [`clock`] | the monotonic and the civil clock, and seeds |
//! | [`ring`] | one thread's io_uring runtime and its tasks |
//! | [`op`] | single operations on a descriptor: connect, receive, send, accept |
//! | [`tcp`] | streams and listeners made of them |
//! | [`tls`] | TLS over streams |
//! | [`udp`] | datagram sockets |
//! | [`path`] | paths of certificates |
//!
//! An operation that was submitted is never forgotten: dropping its future leaves the buffer and
//! the descriptor with the kernel until it completes, so whoever gives up on a socket calls
//! [`tcp::Stream::abort`], which makes every pending operation complete.

pub mod clock;
pub mod https;
pub mod op;
pub mod path;
pub mod ring;
pub mod tcp;
pub mod tls;
pub mod udp;
