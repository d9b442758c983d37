//! What DNS costs: reading an answer, asking the cache, a whole lookup, and one lookup among many
//! open ones.

use std::hint::black_box;
use std::time::Duration;

use courser_bench::dns::{NOW, lookup, question, resolver, respond};
use courser_core::dns::query::parse_answer;
use courser_core::dns::{Output, Token};
use courser_core::limits::DNS_QUERY_BYTES_MAX;
use criterion::{Criterion, criterion_group, criterion_main};

fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("dns");
    let mut response = Vec::new();

    let mut out = [0; DNS_QUERY_BYTES_MAX];
    let mut r = resolver();
    r.ask(NOW, Token(1), question("example.com"));
    let Output::SendUdp { len, .. } = r.poll(NOW, &mut out) else {
        panic!("no query")
    };
    respond(&out[..len], &mut response);
    let asked = question("example.com");
    assert!(parse_answer(NOW, &asked, &response).is_some_and(|a| a.mx().len() == 5));
    group.bench_function("parse an answer with 5 MX", |b| {
        b.iter(|| parse_answer(NOW, black_box(&asked), black_box(&response)));
    });

    for (label, filled) in [("10^2", 100), ("10^5", 100_000)] {
        let mut r = resolver();
        for n in 0..filled {
            lookup(
                &mut r,
                NOW,
                question(&format!("d{n}.example")),
                &mut response,
            );
        }
        let asked = question("d42.example");
        group.bench_function(format!("cached, {label} entries"), |b| {
            b.iter(|| r.ask(NOW, Token(1), black_box(asked.clone())));
        });
    }

    for (label, open) in [("alone", 0), ("among 50,000 open", 50_000)] {
        let mut r = resolver();
        for n in 0..open {
            r.ask(NOW, Token(n), question(&format!("o{n}.example")));
        }
        while !matches!(r.poll(NOW, &mut out), Output::Wait(_)) {}
        let asked = question("example.com");
        let mut now = NOW;
        group.bench_function(format!("whole lookup, {label}"), |b| {
            b.iter(|| {
                // Not from the cache, and before any time-out.
                r.clear_cache();
                now = now + Duration::from_nanos(1);
                lookup(&mut r, now, black_box(asked.clone()), &mut response);
            });
        });
    }
    group.finish();
}

criterion_group!(dns, benches);
criterion_main!(dns);
