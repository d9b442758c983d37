//! Events: one typed fact for everything that happens to mail, as lines of JSON in files.
//!
//! # How it is used
//!
//! 1. [`EventLog::open`] the folder once; clone its [`EventSink`] for every shard.
//! 2. A shard gathers the events of one turn of its loop in a `Vec` and gives it to
//!    [`EventSink::try_send`]. If the queue has no room for all of them, the rest stays in the
//!    `Vec`, and the shard does one of two things: keeps them and tries again at its next turn, or
//!    awaits [`EventSink::send`] before it starts more deliveries.
//! 3. [`EventSink::subscribe`] to see events as they pass (control socket, demo).
//! 4. [`EventLog::close`] at the end: what is queued is written and synced.
//!
//! # What is promised
//!
//! Events never block delivery without bound, and are never dropped silently:
//!
//! - The queue is bounded by count and by bytes. [`EventSink::try_send`] never waits.
//! - [`EventSink::send`] waits at most [`EVENT_BLOCK_MS`] for room, so a dead disk slows
//!   deliveries down and can't stop them.
//! - What finds no room by then is dropped loudly: it is counted, logged as an error, and an
//!   event [`Lost`](EventKind::Lost) with the count and the time goes into the file as soon as
//!   there is room again.
//! - When the disk refuses a write, what was being written stays in memory, still within the
//!   bound, and is tried again in a new file, after a pause that doubles from
//!   [`RETRY_MS_MIN`] to [`RETRY_MS_MAX`]; [`EventSink::status`] says what is wrong.
//! - A file that somebody removed is noticed by its link count after each write; what was just
//!   written to it is written again to a new one.
//!
//! A kill -9 takes what was queued: what came in the last [`GATHER_MS`], unless the disk was
//! slow. A power failure takes up to a second more. A line that was cut is ended with a newline
//! at the next start, so that every other line stays readable. What became of a delivery is kept by
//! the [spool](crate::spool), whose record doesn't depend on this: the next start looks with
//! [`recent`] which ends have no event, and [makes them up](Event::made_up), without what the
//! receiver said. Before the spool lets go of such a record, [`EventSink::settle`] sees that its event
//! is on disk.
//!
//! # Files
//!
//! `events-20260731T235959-0.jsonl`: UTC time of its first event, and a number that tells apart
//! files of one second. Names sort by time. A file is closed when it is large or old enough; closed ones
//! are compressed (`.jsonl.zst`) by a thread of their own, and the oldest are deleted by count,
//! bytes and age.

pub mod event;
mod files;
pub mod log;
mod recent;

pub use event::{
    AuthBlocked, AuthFailed, Client, Connection, Damage, Delivery, DeliveryEvent, Dsn, Event,
    EventKind, Lane, MADE_UP, Message, Peer, Received, Refused, Reply, Throttled, Time, Timing,
    Tls, TlsFailed, TlsPolicy, TlsReport, Verdict,
};
pub use log::{
    EVENT_BLOCK_MS, EventLog, EventSink, EventStatus, GATHER_MS, Options, RETRY_MS_MAX,
    RETRY_MS_MIN,
};
pub use recent::{Recent, recent};
