//! The submission session: whole transactions of 10 kB, by DATA and by BDAT, pipelined and cut
//! into packets, with an application that says yes to all.

use courser_bench::server::{BODY_BYTES, greeted, play, with_bdat, with_data};
use courser_core::smtp::server::Options;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

fn transactions(c: &mut Criterion) {
    let mut options = Options::new("mx.example").unwrap();
    options.limits.commands = u32::MAX;
    let mut group = c.benchmark_group("server/transaction");
    for (name, script, packet) in [
        ("10kB, DATA, one input", with_data(1), usize::MAX),
        ("10kB, BDAT, one input", with_bdat(1), usize::MAX),
        ("10kB, DATA, 1448-byte packets", with_data(1), 1448),
        ("10kB, BDAT, 1448-byte packets", with_bdat(1), 1448),
        ("10kB, DATA, 100 recipients", with_data(100), usize::MAX),
    ] {
        let mut out = [0; 4096];
        let mut session = greeted(&options);
        group.throughput(Throughput::Bytes(script.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let octets = play(&mut session, black_box(&script), packet, &mut out);
                assert!(octets >= BODY_BYTES);
            });
        });
    }
    group.finish();
}

fn sessions(c: &mut Criterion) {
    let options = Options::new("mx.example").unwrap();
    c.bench_function("server/session, greeting and EHLO", |b| {
        b.iter_batched(
            || (),
            |()| greeted(black_box(&options)),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, transactions, sessions);
criterion_main!(benches);
