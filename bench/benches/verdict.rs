//! How long it takes to judge a reply: on every failure of a delivery.

use courser_bench::verdict::replies;
use courser_core::feedback::verdict::{Rules, Stage};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

fn judge(c: &mut Criterion) {
    let mut group = c.benchmark_group("verdict");
    for (name, reply) in replies() {
        group.bench_function(name, |b| {
            b.iter(|| Rules::built_in().judge(black_box(&reply), Stage::Rcpt, None));
        });
    }
    group.finish();
}

criterion_group!(benches, judge);
criterion_main!(benches);
