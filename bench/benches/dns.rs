//! What DNS costs: reading an answer, asking the cache, a whole lookup, and one lookup among many
//! open ones.

use std::hint::black_box;
use std::time::Duration;

use courser_core::dns::query::parse_answer;
use courser_core::dns::{Asked, Config, Input, Kind, Name, Output, Question, Resolver, Token};
use courser_core::limits::DNS_QUERY_BYTES_MAX;
use courser_core::time::Instant;
use criterion::{Criterion, criterion_group, criterion_main};

const NOW: Instant = Instant::from_nanos(1 << 40);

fn resolver() -> Resolver {
    let mut config = Config::new(vec!["192.0.2.1:53".parse().expect("an address")]);
    config.sockets = 16;
    config.in_flight_max = 60_000;
    Resolver::new(config, [5; 32])
}

fn question(text: &str) -> Question {
    Question::new(Name::parse(text).expect("a name"), Kind::Mx)
}

/// The response to a query: five MX records, as a large provider has them, and an OPT record.
fn respond(query: &[u8], response: &mut Vec<u8>) {
    let question = query.len() - 11;
    response.clear();
    response.extend_from_slice(&query[..question]);
    response[2..4].copy_from_slice(&[0x81, 0x80]);
    response[6..8].copy_from_slice(&[0, 5]);
    for n in 0..5u8 {
        // Owner, MX, IN, 300 s, preference, "mxN" under the question's name.
        response.extend_from_slice(&[0xc0, 12, 0, 15, 0, 1, 0, 0, 1, 44, 0, 8, 0, n * 10]);
        response.extend_from_slice(&[3, b'm', b'x', b'0' + n, 0xc0, 12]);
    }
    response.extend_from_slice(&query[question..]);
}

/// Asks, answers, and takes the answer out.
fn lookup(resolver: &mut Resolver, now: Instant, question: Question, response: &mut Vec<u8>) {
    let mut out = [0; DNS_QUERY_BYTES_MAX];
    assert_eq!(resolver.ask(now, Token(1), question), Asked::Pending);
    loop {
        match resolver.poll(now, &mut out) {
            Output::SendUdp {
                to, socket, len, ..
            } => {
                respond(&out[..len], response);
                let bytes = &response[..];
                resolver.handle(
                    now,
                    Input::Datagram {
                        from: to,
                        socket,
                        bytes,
                    },
                );
            }
            Output::Answer { answer, .. } => {
                assert_eq!(answer.mx().len(), 5);
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}

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
