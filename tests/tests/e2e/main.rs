//! `courser serve` against real peers, over loopback. One file for each promise or group of peers.
#![allow(missing_docs)]

mod check_config;
mod dns;
mod dsn;
mod explain;
mod mail;
mod refusals;
mod submit;
