//! What a delivery session costs: transactions against canned replies, without a network.

use courser_bench::client::{
    CHUNKING, GO, Letter, NOTHING, OK, PIPELINING, QUEUED, drain, hear, ready,
};
use courser_core::smtp::client::TransactionId;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn transactions(c: &mut Criterion) {
    let mut group = c.benchmark_group("client");
    let mut out = [0; 16384];
    for recipients in [1, 100] {
        group.throughput(Throughput::Elements(recipients as u64));
        let letter = Letter(recipients);
        let rcpt = OK.repeat(recipients);
        let cases = [
            ("DATA, one by one", NOTHING, vec![]),
            (
                "DATA, pipelined",
                PIPELINING,
                vec![format!("{OK}{rcpt}{GO}"), QUEUED.into()],
            ),
            (
                "BDAT, pipelined",
                CHUNKING,
                vec![format!("{OK}{rcpt}{QUEUED}")],
            ),
        ];
        for (name, ehlo, mut replies) in cases {
            if replies.is_empty() {
                replies = vec![OK.into(); recipients + 1];
                replies.extend([GO.into(), QUEUED.into()]);
            }
            let mut session = ready(&letter, ehlo, &mut out);
            group.bench_function(format!("{name}, to {recipients}"), |b| {
                b.iter(|| {
                    session.begin(TransactionId(1)).expect("ready");
                    drain(&mut session, &letter, &mut out);
                    let mut told = 0;
                    for reply in &replies {
                        told += hear(&mut session, &letter, reply.as_bytes(), &mut out);
                    }
                    assert_eq!(told, 1);
                });
            });
        }
    }
    group.finish();
}

fn two_in_flight(c: &mut Criterion) {
    let letter = Letter(1);
    let mut out = [0; 16384];
    let mut session = ready(&letter, CHUNKING, &mut out);
    let first = format!("{OK}{OK}{QUEUED}");
    let behind = format!("{OK}{first}");
    let mut group = c.benchmark_group("client");
    group.throughput(Throughput::Elements(1));
    session.begin(TransactionId(0)).expect("ready");
    drain(&mut session, &letter, &mut out);
    let mut id = 0;
    let mut replies = &first;
    group.bench_function("BDAT, the next behind it, to 1", |b| {
        b.iter(|| {
            id += 1;
            session.begin(TransactionId(id)).expect("room for two");
            drain(&mut session, &letter, &mut out);
            assert_eq!(hear(&mut session, &letter, replies.as_bytes(), &mut out), 1);
            replies = &behind;
        });
    });
    group.finish();
}

fn whole_session(c: &mut Criterion) {
    let letter = Letter(1);
    let mut out = [0; 16384];
    c.bench_function("client/whole session with BDAT, to 1", |b| {
        b.iter(|| {
            let mut session = ready(&letter, CHUNKING, &mut out);
            session.begin(TransactionId(1)).expect("ready");
            session.quit();
            drain(&mut session, &letter, &mut out);
            let replies = [OK, OK, QUEUED].concat();
            assert_eq!(hear(&mut session, &letter, replies.as_bytes(), &mut out), 1);
            hear(&mut session, &letter, b"221 2.0.0 Bye\r\n", &mut out);
        });
    });
}

criterion_group!(benches, transactions, two_in_flight, whole_session);
criterion_main!(benches);
