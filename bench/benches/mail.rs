//! What each message costs in header fields, and each bounce in reports.

use courser_bench::mail::{message, received, recipient, report};
use courser_core::mail::date::Date;
use courser_core::mail::dsn::parse;
use courser_core::mail::header::Header;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

fn header(c: &mut Criterion) {
    let message = message();
    let (header, _) = Header::of(&message).expect("a header");
    let mut group = c.benchmark_group("header");
    group.throughput(Throughput::Bytes(header.as_bytes().len() as u64));
    group.bench_function("cut and survey", |b| {
        b.iter(|| Header::of(black_box(&message)).map(|(header, _)| header.survey()));
    });
    group.bench_function("find the last field", |b| {
        b.iter(|| black_box(header).find("list-unsubscribe"));
    });
    group.finish();
    let received = received();
    let mut out = [0; 2048];
    c.bench_function("received/emit", |b| {
        b.iter(|| black_box(&received).emit(&mut out));
    });
    c.bench_function("date/parse", |b| {
        b.iter(|| Date::parse(black_box(b"Mon, 23 Nov 2026 21:13:17 +0000 (UTC)")));
    });
}

fn dsn(c: &mut Criterion) {
    let message = message();
    let recipients = [recipient()];
    let report = report(&message, &recipients);
    let mut out = Vec::with_capacity(16_384);
    let mut group = c.benchmark_group("dsn");
    group.bench_function("emit", |b| {
        b.iter(|| {
            out.clear();
            black_box(&report).emit(&mut out)
        });
    });
    out.clear();
    report.emit(&mut out);
    group.bench_function("parse", |b| {
        b.iter(|| parse(black_box(&out)).map(|n| n.recipients.len()));
    });
    group.finish();
}

criterion_group!(benches, header, dsn);
criterion_main!(benches);
