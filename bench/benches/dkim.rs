//! Canonicalizing, hashing, signing and verifying, with the keys of the core. `bench/compare` has them
//! beside mail-auth, with their allocations.

use courser_bench::dkim::{ED25519, Hop, RSA, bodies, canonicalize, message};
use courser_core::auth::canon::Canon;
use courser_core::auth::dkim::Status;
use courser_core::auth::hash::HashedBody;
use courser_core::time::Wall;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const NOW: Wall = Wall::from_unix(1_790_000_000);

fn canon(c: &mut Criterion) {
    for (name, body) in bodies(100_000) {
        let mut group = c.benchmark_group(format!("body/{name}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        for canon in [Canon::Simple, Canon::Relaxed] {
            group.bench_function(format!("{canon}"), |b| {
                b.iter(|| canonicalize(canon, black_box(&body)));
            });
            group.bench_function(format!("{canon} and SHA-256"), |b| {
                b.iter(|| HashedBody::of(black_box(&body), &[canon]));
            });
        }
        group.bench_function("both and SHA-256", |b| {
            b.iter(|| HashedBody::of(black_box(&body), &[Canon::Simple, Canon::Relaxed]));
        });
        group.finish();
    }
}

fn sign_and_verify(c: &mut Criterion) {
    for (kind, key) in [("rsa-2048", RSA), ("ed25519", ED25519)] {
        let hop = Hop::new(key, NOW);
        for kb in [10, 100] {
            let message = message(kb * 1000);
            let mut signed = hop.sign(&message);
            signed.extend_from_slice(&message);
            assert_eq!(hop.verify(&signed).status(), Status::Pass);
            let mut group = c.benchmark_group(format!("{kind}/{kb} kB"));
            group.bench_function("sign", |b| b.iter(|| hop.sign(black_box(&message))));
            group.bench_function("verify", |b| b.iter(|| hop.verify(black_box(&signed))));
            group.finish();
        }
    }
}

criterion_group!(benches, canon, sign_and_verify);
criterion_main!(benches);
