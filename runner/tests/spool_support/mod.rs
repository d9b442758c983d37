//! What the tests of the spool share.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use courser::spool::disk::{Disk, Os, Room};
use courser::spool::{
    AppendError, CommitSink, Committed, Envelope, EnvelopeFields, Options, RecipientFields, Spool,
};

/// Small segments, no demands on the disk that the tests run on.
pub fn small() -> Options {
    Options {
        segment_bytes: 64 << 10,
        min_free_bytes: 0,
        min_free_percent: 0,
        reserve_bytes: 1 << 20,
        settle: Duration::ZERO,
        ..Options::default()
    }
}

pub fn envelope(id: u64, recipients: usize, body_len: u64) -> Envelope {
    let recipients = (0..recipients)
        .map(|i| RecipientFields {
            address: format!("user{i}@example.org"),
            ..RecipientFields::default()
        })
        .collect();
    EnvelopeFields {
        id,
        sender: "sender@example.com".into(),
        body_len,
        recipients,
        ..EnvelopeFields::default()
    }
    .encode()
    .unwrap()
}

struct Sink(Sender<Vec<Committed>>);

impl CommitSink for Sink {
    fn committed(&self, results: Vec<Committed>) {
        let _ = self.0.send(results);
    }
}

/// Hears completions of one shard.
pub struct Waiter(Receiver<Vec<Committed>>);

impl Waiter {
    pub fn register(spool: &Spool, shard: u16) -> Self {
        let (send, receive) = channel();
        spool.register_sink(shard, Box::new(Sink(send)));
        Self(receive)
    }

    /// At least `count` completions.
    pub fn wait(&self, count: usize) -> Vec<(u64, Result<(), AppendError>)> {
        let mut all = Vec::new();
        while all.len() < count {
            let some = self
                .0
                .recv_timeout(Duration::from_secs(20))
                .expect("a completion within 20 s");
            all.extend(some.into_iter().map(|c| (c.token, c.result)));
        }
        all
    }

    pub fn quiet(&self) -> bool {
        self.0.try_recv().is_err()
    }
}

/// Waits until something is so.
pub fn until(mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "it didn't become so within 20 s"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub struct SlowSync(pub Duration);

impl Disk for SlowSync {
    fn sync_data(&self, file: &File) -> io::Result<()> {
        std::thread::sleep(self.0);
        file.sync_data()
    }
}

/// Leaves out syncs, which tests that never cut the power don't need.
pub struct NoSync;

impl Disk for NoSync {
    fn sync_data(&self, _: &File) -> io::Result<()> {
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

pub fn quick() -> Options {
    Options {
        disk: Arc::new(NoSync),
        reserve_bytes: 0,
        ..small()
    }
}

/// A disk that fails when told to.
#[derive(Default)]
pub struct Faulty {
    pub sync_fails: AtomicBool,
    /// Writes fail with this error number; 0: they don't.
    pub write_error: AtomicI32,
    /// Bytes that one write takes at most, before it fails too; 0: all.
    pub write_some: AtomicUsize,
    /// Free bytes to tell; 0: what there are.
    pub free: AtomicU64,
}

impl Disk for Faulty {
    fn write_at(&self, file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let (error, some) = (
            self.write_error.load(Relaxed),
            self.write_some.load(Relaxed),
        );
        if error == 0 {
            let all: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).collect();
            let n = if some > 0 {
                some.min(all.len())
            } else {
                all.len()
            };
            return file.write_at(&all[..n], offset);
        }
        if some > 0 {
            // Some of it reaches the disk before the error.
            let first = bufs
                .iter()
                .find(|b| !b.is_empty())
                .map_or(&[][..], |b| &b[..]);
            file.write_at(&first[..some.min(first.len())], offset)?;
        }
        Err(io::Error::from_raw_os_error(error))
    }
    fn sync_data(&self, file: &File) -> io::Result<()> {
        if self.sync_fails.load(Relaxed) {
            Err(io::Error::from_raw_os_error(5))
        } else {
            file.sync_data()
        }
    }
    fn room(&self, dir: &Path) -> io::Result<Room> {
        let room = Os.room(dir)?;
        Ok(match self.free.load(Relaxed) {
            0 => room,
            free => Room { free, ..room },
        })
    }
}

/// Takes its time to write.
pub struct SlowWrite;

impl Disk for SlowWrite {
    fn write_at(&self, file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        std::thread::sleep(Duration::from_millis(20));
        Os.write_at(file, bufs, offset)
    }
}

/// A folder in memory where there is one: for tests of thousands of starts.
pub fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}
