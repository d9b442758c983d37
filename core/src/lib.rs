//! The protocol core of Courser: every decision of an outbound mail server, and no effect.
//!
//! Nothing here reads a clock, draws a random number, opens a socket or touches a file. Machines
//! are driven by `handle` with what happened and by `poll` until they have nothing more to say;
//! each says on its type in which order the calls come.
//!
//! ```text
//! bytes → Draft → Accepted → Spooled → Due → Plan → Outcome → Event
//!        smtp::server                  traffic  route  smtp::client + feedback
//! ```
//!
//! | module | decides |
//! |---|---|
//! | [`smtp`] | commands, replies, extensions, message data, and both ends of a session |
//! | [`mail`] | addresses, header fields, dates, delivery status notifications |
//! | [`auth`] | whether a message is from whom it says: DKIM, ARC, SPF, DMARC |
//! | [`dns`] | questions and answers, retries, caching |
//! | [`route`] | which hosts and addresses take a domain's mail |
//! | [`traffic`] | how fast, over which source, in which order, and when again |
//! | [`feedback`] | what a reply means |
//!
//! The SMTP path (`smtp`, `mail::address`, `feedback::verdict`) never allocates and builds
//! without the `alloc` feature.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(feature = "alloc")]
pub mod auth;
#[cfg(feature = "alloc")]
pub mod dns;
pub mod feedback;
pub mod limits;
pub mod mail;
#[cfg(feature = "alloc")]
pub mod route;
pub mod smtp;
pub mod time;
#[cfg(feature = "alloc")]
pub mod traffic;
