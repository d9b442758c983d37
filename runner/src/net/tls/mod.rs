//! TLS (RFC 8446, 5246) by rustls, over the sockets of a ring. No other file names rustls.
//!
//! | file | has |
//! |---|---|
//! | [`conn`] | a connection that is plaintext at first and TLS after a handshake |
//! | [`client`] | TLS toward receivers: whom it trusts, sessions that go on, what went wrong |
//! | [`server`] | TLS toward clients: certificates by the names that clients ask for |
//! | [`leaf`] | what stands in a certificate |
//! | [`pem`] | certificates and keys in files |
//! | [`sealed`] | TLS for who moves the bytes himself |

pub mod client;
pub mod conn;
pub mod leaf;
pub mod pem;
pub mod sealed;
pub mod server;

pub use client::{Attempt, Client, Dane, Trust};
pub use conn::{Conn, Facts, Fault, FaultKind, Receive};
pub use leaf::Leaf;
pub use pem::FileFault;
pub use sealed::Sealed;
pub use server::{Certificates, Server, Servers, servers};
