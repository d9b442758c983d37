//! The Courser mail server.
#![deny(missing_docs)]

pub mod cli;
pub mod config;
pub mod control;
pub mod events;
pub mod logging;
pub mod net;
pub mod spool;
