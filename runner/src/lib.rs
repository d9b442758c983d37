//! The Courser mail server.
#![deny(missing_docs)]

pub mod config;
pub mod control;
pub mod net;
