//! What the tests of the spool share.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use courser::spool::disk::Disk;
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
