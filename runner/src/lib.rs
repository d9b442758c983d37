//! The Courser mail server.
#![deny(missing_docs)]

pub mod net;
