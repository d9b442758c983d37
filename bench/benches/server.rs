//! The submission session: whole transactions of 10 kB, by DATA and by BDAT, pipelined and cut
//! into packets, with an application that says yes to all.

use courser_core::smtp::data::Stuffer;
use courser_core::smtp::server::{Event, Input, Options, Output, Session};
use courser_core::time::Instant;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const BODY_BYTES: usize = 10_000;

/// Lines of 72 octets, some of which begin with a dot.
fn body() -> Vec<u8> {
    let mut body = b"From: <a@c.example>\r\nSubject: bench\r\n\r\n".to_vec();
    let mut line = 0;
    while body.len() < BODY_BYTES {
        body.push(if line % 16 == 0 { b'.' } else { b'x' });
        body.extend_from_slice(&[b'y'; 71]);
        body.extend_from_slice(b"\r\n");
        line += 1;
    }
    body
}

fn envelope(recipients: usize) -> Vec<u8> {
    let mut script = b"MAIL FROM:<bounce+12345@news.example> SIZE=10240 BODY=8BITMIME\r\n".to_vec();
    for i in 0..recipients {
        script.extend_from_slice(format!("RCPT TO:<subscriber{i}@there.example>\r\n").as_bytes());
    }
    script
}

fn with_data(recipients: usize) -> Vec<u8> {
    let (mut script, body, mut stuffer) = (envelope(recipients), body(), Stuffer::new());
    script.extend_from_slice(b"DATA\r\n");
    for chunk in stuffer.walk(&body) {
        script.extend_from_slice(chunk.bytes());
    }
    script.extend_from_slice(stuffer.terminator());
    script
}

fn with_bdat(recipients: usize) -> Vec<u8> {
    let (mut script, body) = (envelope(recipients), body());
    script.extend_from_slice(format!("BDAT {} LAST\r\n", body.len()).as_bytes());
    script.extend_from_slice(&body);
    script
}

/// Plays `script` in packets of `packet` bytes; returns the octets of the bodies.
fn play(session: &mut Session<&Options>, script: &[u8], packet: usize, out: &mut [u8]) -> usize {
    let now = Instant::ZERO;
    let (mut from, mut to, mut octets) = (0, script.len().min(packet), 0);
    loop {
        let (consumed, output) = session.poll(now, &script[from..to], out);
        from += consumed;
        match output {
            Output::Event(Event::Body(part)) => octets += black_box(part).len(),
            Output::Event(
                Event::Hello { .. } | Event::Mail(..) | Event::Rcpt(..) | Event::BodyEnd { .. },
            ) => session.handle(now, Input::Accept).unwrap(),
            Output::Wait(_) if to == script.len() => return octets,
            Output::Wait(_) => to = script.len().min(to + packet),
            Output::Close => panic!("closed"),
            _ => {}
        }
    }
}

fn greeted(options: &Options) -> Session<&Options> {
    let mut session = Session::new(Instant::ZERO, options);
    play(
        &mut session,
        b"EHLO client.example\r\n",
        100,
        &mut [0; 1024],
    );
    session
}

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
