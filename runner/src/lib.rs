//! The Courser mail server.
//!
//! | module | stage |
//! |---|---|
//! | [`serve`] | starts and ends everything |
//! | [`intake`] | bytes → Draft → Accepted |
//! | [`login`] | who hands in, and who we are to smart hosts |
//! | [`sign`] | DKIM signatures |
//! | [`spool`] | Spooled |
//! | [`queue`], [`shard`] | Due |
//! | [`route`] | Plan |
//! | [`session`] | Outcome |
//! | [`feedback`], [`events`] | Event |
//! | [`tls_reports`] | domains hear what came of TLS with their hosts |
//! | [`memory`] | how much it takes, and what is given back |
//! | [`net`] | sockets, the ring and the clock |
//! | [`private`] | files that only the server may read |
//! | [`sink`] | modelled receivers, for tests |
//! | [`demo`] | all of it at work on one machine |
//! | [`config`], [`control`], [`cli`] | what an operator says and asks |
#![deny(missing_docs)]

pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod events;
pub mod feedback;
pub mod intake;
pub mod logging;
pub mod login;
pub mod memory;
pub mod net;
pub mod private;
pub mod queue;
pub mod route;
pub mod serve;
pub mod session;
pub mod shard;
pub mod sign;
pub mod sink;
pub mod spool;
pub mod tls_reports;
