//! `courser serve` against real peers, over loopback. One file for each promise or group of peers.
#![allow(missing_docs)]

mod check_config;
mod crash;
mod demo;
mod dns;
mod dsn;
mod explain;
mod full;
mod mail;
mod operate;
mod receivers;
mod refusals;
mod submit;
