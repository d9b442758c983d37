//! The local control socket: how `courser queue`, `courser status` and other local programs talk
//! to a running server.
//!
//! A Unix stream socket, mode 0600. The client writes one [`Request`] as a line of JSON and reads
//! [`Response`]s, each a line of JSON; one for each request, except [`Request::Events`], which is
//! answered by events until the client goes. Requests of one connection are answered in order.
//!
//! | | |
//! |---|---|
//! | [`protocol`] | what is said |
//! | [`id`] | how messages and deliveries are named |
//! | [`server`] | the server's side, over a [`ControlBackend`] |
//! | [`client`] | the other side, blocking |

pub mod client;
pub mod id;
pub mod protocol;
pub mod server;

pub use client::{Client, ClientError};
pub use id::{DeliverySelector, MessageId};
pub use protocol::{Request, Response};
pub use server::{ControlBackend, ControlServer};
