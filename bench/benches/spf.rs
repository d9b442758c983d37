//! What SPF costs beside DNS: reading a record, and a check through three includes.

use std::hint::black_box;

use courser_bench::spf::{RECORD, check};
use courser_core::auth::spf::{Record, Result};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn spf(c: &mut Criterion) {
    let mut group = c.benchmark_group("spf");
    group.throughput(Throughput::Bytes(RECORD.len() as u64));
    group.bench_function("parse", |b| {
        b.iter(|| Record::parse(black_box(RECORD)).is_ok());
    });
    group.finish();
    let client = [203, 0, 113, 77];
    let report = check(client);
    assert_eq!((report.result, report.lookups), (Result::Pass, 5));
    c.bench_function("spf/check, 3 includes", |b| {
        b.iter(|| check(black_box(client)));
    });
}

criterion_group!(benches, spf);
criterion_main!(benches);
