//! SMTP (RFC 5321) as data and as machines.
//!
//! | file | is |
//! |---|---|
//! | [`command`] | what a client says |
//! | [`reply`] | what a server answers, with enhanced status codes |
//! | [`extension`] | what an EHLO answer offers |
//! | [`data`] | the message body on the wire: dots, BDAT, line checks |
//! | [`xtext`] | the encodings of DSN parameters |
//! | [`client`] | a delivery session |
//! | [`server`] | a submission session |
//! | [`sasl`] | who is at the other end: PLAIN, LOGIN, SCRAM-SHA-256 |
//! | [`proxy`] | what a load balancer says before the session |
//!
//! Every wire file reads alike: the grammar with its clause, the type, `parse`, `emit` into the
//! caller's bytes, tests. Nothing here allocates.

mod buffer;
pub mod client;
pub mod command;
pub mod data;
pub mod extension;
pub mod proxy;
pub mod reply;
pub(crate) mod rfc3339;
pub mod sasl;
pub mod server;
pub mod xtext;

pub use buffer::{Buffer, BufferFull};
