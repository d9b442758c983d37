//! What it costs to keep a message: commits of one and of 64, and the scan at the start.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use courser::spool::{CommitSink, Committed, Options, Spool, Store};
use courser_bench::spool::{BODY, envelope};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

struct Sink(Sender<Vec<Committed>>);

impl CommitSink for Sink {
    fn committed(&self, results: Vec<Committed>) {
        let _ = self.0.send(results);
    }
}

fn listen(spool: &Spool) -> Receiver<Vec<Committed>> {
    let (send, receive) = channel();
    spool.register_sink(0, Box::new(Sink(send)));
    receive
}

/// Appends so many messages at once and waits until all are synced; their ids.
fn commit(spool: &Spool, done: &Receiver<Vec<Committed>>, body: &Bytes, count: usize) -> Vec<u64> {
    let ids: Vec<u64> = (0..count).map(|_| spool.next_id()).collect();
    for &id in &ids {
        spool
            .append_message(0, id, envelope(id), vec![body.clone()])
            .expect("room in the queue");
    }
    let mut heard = 0;
    while heard < count {
        let results = done.recv().expect("the spool lives");
        assert!(results.iter().all(|c| c.result.is_ok()));
        heard += results.len();
    }
    ids
}

fn commits(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let (spool, _) = Store::open(dir.path(), Options::default()).expect("a spool");
    let done = listen(&spool);
    let body = Bytes::from(vec![b'x'; BODY]);
    let mut group = c.benchmark_group("spool");
    group.measurement_time(Duration::from_secs(5));
    for count in [1, 64] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("commit of {count} x 10 kB"), |b| {
            b.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    let start = Instant::now();
                    let ids = commit(&spool, &done, &body, count);
                    took += start.elapsed();
                    // Delivered: the disk isn't filled, and reclaiming runs beside as it would.
                    ids.into_iter().for_each(|id| drop(spool.finish(id)));
                }
                took
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    let kept = commit(&spool, &done, &body, 1)[0];
    group.bench_function("read a body of 10 kB", |b| {
        b.iter(|| spool.read_body(kept).expect("the body"));
    });
    group.finish();
}

fn recovery(c: &mut Criterion) {
    const MESSAGES: usize = 100_000;
    let dir = tempfile::tempdir().expect("a folder");
    let options = Options {
        sync: false,
        ..Options::default()
    };
    let (spool, _) = Store::open(dir.path(), options.clone()).expect("a spool");
    let done = listen(&spool);
    let body = Bytes::from(vec![b'x'; BODY]);
    for _ in 0..MESSAGES / 100 {
        commit(&spool, &done, &body, 100);
    }
    drop(spool);
    let mut group = c.benchmark_group("spool");
    group.sample_size(10);
    group.throughput(Throughput::Elements(MESSAGES as u64));
    group.bench_function("recovery of 100,000 messages", |b| {
        b.iter_batched(
            || (),
            |()| {
                let opened = Store::open(dir.path(), options.clone()).expect("a spool");
                assert_eq!(opened.1.messages.len(), MESSAGES);
                opened
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, commits, recovery);
criterion_main!(benches);
