//! What it costs to report a delivery.

use courser::events::{EventLog, Options};
use courser_bench::events::delivered;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

fn events(c: &mut Criterion) {
    let mut group = c.benchmark_group("events");
    group.throughput(Throughput::Elements(1));
    let event = delivered();
    let mut line = Vec::new();
    group.bench_function("a line", |b| {
        b.iter(|| {
            line.clear();
            event.write_line(&mut line);
            line.len()
        });
    });
    let dir = tempfile::tempdir().expect("a folder");
    let log = EventLog::open(dir.path(), Options::default()).expect("a log");
    let sink = log.sink();
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 through the log", |b| {
        let batch = || vec![event.clone(); 64];
        b.iter_batched(
            batch,
            |mut events| sink.send_blocking(&mut events),
            BatchSize::SmallInput,
        );
    });
    assert_eq!(sink.status().lost, 0);
    group.finish();
}

criterion_group!(benches, events);
criterion_main!(benches);
