//! What one decision of the scheduler costs with a thousand and with a million deliveries queued:
//! the same, apart from the processor's caches.

use courser_bench::scheduler::{due, new, scheduler};
use courser_core::time::{Duration, Instant};
use courser_core::traffic::bucket::{Bucket, Rate};
use courser_core::traffic::scheduler::{New, Report};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;

fn decisions(c: &mut Criterion) {
    let mut group = c.benchmark_group("scheduler");
    for n in [1_000, 1_000_000] {
        let (mut s, sessions) = due(n);
        let mut now = Instant::from_nanos(1);
        let (mut turn, mut out) = (0, Vec::new());
        // One transaction, its deferral to now, and what is to be done after both.
        group.bench_function(BenchmarkId::new("take, report, poll", n), |b| {
            b.iter(|| {
                now = now + Duration::from_micros(10);
                turn = (turn + 1) % sessions.len();
                out.clear();
                black_box(s.take(now, sessions[turn], 100, &mut out));
                for id in &out {
                    let report = Report::Deferred {
                        due: now,
                        exclude_source: false,
                    };
                    let _ = s.report(now, *id, report);
                }
                black_box(s.poll(now))
            });
        });
        drop(s);

        let mut s = scheduler();
        let at = |i: u32| Instant::ZERO + Duration::from_millis(u64::from(i) * 7919 % 14_400_000);
        for i in 0..n {
            let due = at(i);
            let _ = s.enqueue(Instant::ZERO, New { due, ..new(i) });
        }
        let mut i = n;
        group.bench_function(BenchmarkId::new("enqueue for later, remove", n), |b| {
            b.iter(|| {
                i = i.wrapping_add(1);
                let due = at(i) + Duration::from_secs(1);
                let id = s.enqueue(Instant::ZERO, New { due, ..new(i) });
                id.map(|id| black_box(s.remove(Instant::ZERO, id)))
            });
        });
    }
    group.finish();
}

fn bucket(c: &mut Criterion) {
    let rate = Rate::new(5000, 3600).with_burst(50);
    let mut bucket = Bucket::new();
    let mut now = Instant::from_nanos(1);
    c.bench_function("bucket/try_take", |b| {
        b.iter(|| {
            now = now + Duration::from_millis(700);
            black_box(bucket.try_take(rate, now, 1))
        });
    });
}

criterion_group!(benches, decisions, bucket);
criterion_main!(benches);
