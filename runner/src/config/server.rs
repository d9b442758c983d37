//! `[server]`, `[limits]`, `[spool]`, `[events]` and `[log]`: the program itself.

use std::path::PathBuf;
use std::time::Duration;

use super::names::words;
use super::tree::Section;
use super::units::{ByteSize, Percent};

/// `[server]`
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Shards, each one thread with one io_uring; 0 is one for each core.
    pub shards: usize,
    /// How long SIGTERM waits for sessions that are in flight before it cuts them.
    pub drain_timeout: Duration,
    /// The Unix socket of `courser queue` and `courser status`.
    pub control_socket: PathBuf,
}

/// Most shards.
pub const SHARDS_MAX: usize = 256;

impl Server {
    pub(super) fn read(mut s: Section<'_, '_>) -> Self {
        let read = Self {
            shards: s.bounded("shards", 0, 0..=SHARDS_MAX),
            drain_timeout: s.get("drain_timeout", Duration::from_secs(30)),
            control_socket: s.get("control_socket", "/run/courser/control.sock".into()),
        };
        // sun_path holds 108 bytes with its end (unix(7)).
        if read.control_socket.as_os_str().len() > 107 {
            s.wrong(
                "control_socket",
                "the path is longer than 107 bytes, which Unix sockets can't have",
                "choose a shorter path",
            );
        }
        s.finish();
        read
    }
}

/// `[limits]`: bounds of the whole process.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Most deliveries in the queue; intake answers 452 when it is reached.
    pub max_deliveries: usize,
    /// Most sessions at once with senders, over all listeners.
    pub max_intake_sessions: usize,
    /// Most sessions at once with receivers.
    pub max_delivery_sessions: usize,
    /// Memory for messages that are being received; intake answers 452 when it is reached.
    pub intake_memory: ByteSize,
    /// Memory for bodies of queued messages; beyond it they are read back from the spool.
    pub body_memory: ByteSize,
    /// Open files to ask the system for; 0 is as many as its hard limit allows.
    pub open_files: u64,
}

impl Limits {
    pub(super) fn read(mut s: Section<'_, '_>) -> Self {
        let read = Self {
            max_deliveries: s.bounded("max_deliveries", 10_000_000, 1..=4_000_000_000),
            max_intake_sessions: s.bounded("max_intake_sessions", 10_000, 1..=1_000_000),
            max_delivery_sessions: s.bounded("max_delivery_sessions", 10_000, 1..=1_000_000),
            intake_memory: s.bounded(
                "intake_memory",
                ByteSize::mib(512),
                ByteSize::mib(1)..=ByteSize::gib(1024),
            ),
            body_memory: s.bounded(
                "body_memory",
                ByteSize::mib(256),
                ByteSize(0)..=ByteSize::gib(1024),
            ),
            open_files: s.get("open_files", 0),
        };
        s.finish();
        read
    }
}

/// `[spool]`
#[derive(Clone, Debug, PartialEq)]
pub struct Spool {
    /// Directory of the segments; one server only.
    pub dir: PathBuf,
    /// When a segment is full and the next one begins.
    pub segment_size: ByteSize,
    /// Disk that the spool may use in all; `None`: as much as there is.
    pub max_bytes: Option<ByteSize>,
    /// Intake answers 452 while less than this is free on the spool's file system.
    pub min_free: ByteSize,
    /// And while less than this part of it is free.
    pub min_free_percent: Percent,
    /// Allocated at the start and given up when the disk is full, so that outcomes can still be
    /// written.
    pub reserve: ByteSize,
    /// Messages that wait to be synced at most; more are refused as busy.
    pub pending: ByteSize,
    /// Outcomes that wait to be synced at most.
    pub pending_outcomes: ByteSize,
    /// A closed segment with less than this part alive is copied forward.
    pub compact_below: Percent,
    /// But not before it has been closed for so long, unless disk space is short.
    pub compact_after: Duration,
    /// Segments that are kept open for reading at most.
    pub open_segments: usize,
    /// Damaged records that are kept for inspection at most.
    pub keep_corrupt: ByteSize,
}

impl Spool {
    /// As [`crate::spool::Spool`] takes it.
    pub fn options(&self) -> crate::spool::Options {
        crate::spool::Options {
            segment_bytes: self.segment_size.bytes(),
            max_bytes: self.max_bytes.map_or(u64::MAX, ByteSize::bytes),
            min_free_bytes: self.min_free.bytes(),
            min_free_percent: self.min_free_percent.0,
            reserve_bytes: self.reserve.bytes(),
            pending_bytes: self.pending.as_usize(),
            pending_outcome_bytes: self.pending_outcomes.as_usize(),
            sparse_percent: self.compact_below.0,
            settle: self.compact_after,
            open_files: self.open_segments,
            corrupt_bytes: self.keep_corrupt.bytes(),
            ..crate::spool::Options::default()
        }
    }

    pub(super) fn read(mut s: Section<'_, '_>) -> Self {
        let some = ByteSize::kib(64)..=ByteSize::gib(1024);
        let read = Self {
            dir: s.get("dir", "/var/spool/courser".into()),
            segment_size: s.bounded(
                "segment_size",
                ByteSize::mib(128),
                ByteSize::kib(64)..=ByteSize::gib(16),
            ),
            max_bytes: s.get("max_bytes", None),
            min_free: s.get("min_free", ByteSize::mib(256)),
            min_free_percent: s.get("min_free_percent", Percent(2)),
            reserve: s.get("reserve", ByteSize::mib(16)),
            pending: s.bounded("pending", ByteSize::mib(256), some.clone()),
            pending_outcomes: s.bounded("pending_outcomes", ByteSize::mib(32), some),
            compact_below: s.bounded("compact_below", Percent(35), Percent(0)..=Percent(90)),
            compact_after: s.bounded(
                "compact_after",
                Duration::from_secs(10),
                Duration::ZERO..=Duration::from_secs(86_400),
            ),
            open_segments: s.bounded("open_segments", 64, 1..=100_000),
            keep_corrupt: s.get("keep_corrupt", ByteSize::gib(1)),
        };
        let least = read.segment_size.bytes().saturating_mul(4);
        if let Some(max) = read.max_bytes
            && max.bytes() < least
        {
            let what = format!("{max} is less than four segments of {}", read.segment_size);
            let right = "give the spool more disk, or make `segment_size` smaller";
            s.wrong("max_bytes", what, right);
        }
        s.finish();
        read
    }
}

/// `[events]`
#[derive(Clone, Debug, PartialEq)]
pub struct Events {
    /// Directory of the event files.
    pub dir: PathBuf,
    /// A file this large is closed and the next one begins.
    pub rotate_size: ByteSize,
    /// A file this old is closed and the next one begins.
    pub rotate_every: Duration,
    /// Closed files are deleted after this time; `None` keeps them.
    pub keep: Option<Duration>,
    /// The oldest closed files are deleted while all of them are larger; `None` keeps them.
    pub keep_bytes: Option<ByteSize>,
    /// Most closed files; `None`: any number.
    pub keep_files: Option<usize>,
    /// Whether closed files are compressed with zstd.
    pub compress: bool,
    /// Events that wait for the disk at most; a full buffer holds delivery back.
    pub buffer: usize,
    /// Bytes of them at most.
    pub buffer_bytes: ByteSize,
}

impl Events {
    /// As [`crate::events::EventLog`] takes it.
    pub fn options(&self) -> crate::events::Options {
        crate::events::Options {
            rotate_bytes: self.rotate_size.bytes(),
            rotate_every: self.rotate_every,
            compress: self.compress,
            keep_files: self.keep_files.unwrap_or(usize::MAX),
            keep_bytes: self.keep_bytes.map_or(u64::MAX, ByteSize::bytes),
            keep: self.keep,
            queue_events: self.buffer,
            queue_bytes: self.buffer_bytes.as_usize(),
            ..crate::events::Options::default()
        }
    }

    pub(super) fn read(mut s: Section<'_, '_>) -> Self {
        let read = Self {
            dir: s.get("dir", "/var/log/courser".into()),
            rotate_size: s.bounded(
                "rotate_size",
                ByteSize::mib(256),
                ByteSize::kib(64)..=ByteSize::gib(64),
            ),
            rotate_every: s.bounded(
                "rotate_every",
                Duration::from_secs(86_400),
                Duration::from_secs(1)..=Duration::from_secs(366 * 86_400),
            ),
            keep: s.get("keep", Some(Duration::from_secs(30 * 86_400))),
            keep_bytes: s.get("keep_bytes", Some(ByteSize::gib(20))),
            keep_files: s.get("keep_files", None),
            compress: s.get("compress", true),
            buffer: s.bounded("buffer", 65_536, 64..=10_000_000),
            buffer_bytes: s.bounded(
                "buffer_bytes",
                ByteSize::mib(64),
                ByteSize::kib(64)..=ByteSize::gib(64),
            ),
        };
        s.finish();
        read
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// What an operator must act on.
    Error,
    /// And what may become that.
    Warn,
    /// And starts, stops, reloads.
    Info,
    /// And each session.
    Debug,
    /// And each command.
    Trace,
}
words!(LogLevel {
    "error" => Error, "warn" => Warn, "info" => Info, "debug" => Debug, "trace" => Trace
});

/// What log lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For a terminal.
    Text,
    /// One JSON object a line.
    Json,
}
words!(LogFormat { "text" => Text, "json" => Json });

/// `[log]`: what the program says about itself on standard error. What happens to mail is in
/// the events.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// How much.
    pub level: LogLevel,
    /// In which form.
    pub format: LogFormat,
}

impl Log {
    pub(super) fn read(mut s: Section<'_, '_>) -> Self {
        let read = Self {
            level: s.get("level", LogLevel::Info),
            format: s.get("format", LogFormat::Text),
        };
        s.finish();
        read
    }
}
