//! What one decision of the scheduler costs with a thousand and with a million deliveries queued:
//! the same, apart from the processor's caches.

use courser_core::time::{Duration, Instant};
use courser_core::traffic::bucket::{Bucket, Rate};
use courser_core::traffic::scheduler::*;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const SITES: u32 = 100;

fn new(n: u32) -> New {
    New {
        message: n,
        recipient: 0,
        dest: DestId(n % SITES),
        pool: PoolId(0),
        source: None,
        tenant: TenantId(n % 17),
        campaign: CampaignId(n % 31),
        class: Class::ALL[n as usize % 3],
        attempts: 0,
        due: Instant::ZERO,
        expires: Instant::FAR,
        hold: false,
    }
}

fn scheduler() -> Scheduler {
    let mut s = Scheduler::new(Config {
        sessions_max: 1000,
        limits: Limits {
            message_rate: Some(Rate::new(1_000_000_000, 1)),
            connection_rate: None,
            messages_per_connection: u32::MAX,
            ..Limits::default()
        },
        ..Config::default()
    });
    s.set_pool(PoolId(0), &[(SourceId(0), 2), (SourceId(1), 1)]);
    for n in 0..SITES {
        let route = Route {
            site: SiteId(n),
            gate: GateId(n / 2),
            valid_until: Instant::FAR,
        };
        s.route(DestId(n), route);
    }
    s
}

/// With so many due deliveries in the lanes, and sessions that serve them.
fn due(n: u32) -> (Scheduler, Vec<SessionId>) {
    let mut s = scheduler();
    for i in 0..n {
        let _ = s.enqueue(Instant::ZERO, new(i));
    }
    let mut sessions = Vec::new();
    while let Some(action) = s.poll(Instant::ZERO) {
        if let Action::Open(open) = action {
            let _ = s.opened(Instant::ZERO, open.session);
            sessions.push(open.session);
        }
    }
    (s, sessions)
}

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
