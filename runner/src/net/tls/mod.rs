//! TLS (RFC 8446, 5246) by rustls, over the sockets of a ring. But for tests no other file
//! names rustls; what reads certificates names their types (rustls-pki-types), and
//! [`path`](super::path) the webpki below it.
//!
//! | file | has |
//! |---|---|
//! | [`conn`] | a connection that is plaintext at first and TLS after a handshake |
//! | [`client`] | TLS toward receivers: whom it trusts, sessions that go on, what went wrong |
//! | [`proof`] | handshakes with anyone that tell whether a certificate is the peer's own |
//! | [`web`] | TLS over streams that aren't of a ring, for HTTPS |
//! | [`server`] | TLS toward clients: certificates by the names that clients ask for |
//! | [`fault`] | why there is no TLS |
//! | [`leaf`] | what stands in a certificate |
//! | [`pem`] | certificates and keys in files |
//! | [`sealed`] | one end of TLS, without a socket |

pub mod client;
pub mod conn;
pub mod fault;
pub mod leaf;
pub mod pem;
pub mod proof;
mod resume;
pub mod sealed;
pub mod server;
pub mod web;

pub use client::{Attempt, Client, Dane, Trust};
pub use conn::{Conn, Facts, Receive};
pub use fault::Fault;
pub use leaf::Leaf;
pub use pem::FileFault;
pub use proof::Proof;
pub use sealed::Sealed;
pub use server::{Certificates, Server, Servers, servers};
