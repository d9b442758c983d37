//! `courser serve` against real peers, over loopback. One file for each promise or group of peers.
#![allow(missing_docs)]

mod check_config;
mod dns;
mod explain;
mod refusals;
mod submit;
