//! What a delivery session costs: transactions against canned replies, without a network.

use courser_core::mail::address::{Mailbox, ReversePath};
use courser_core::smtp::client::{
    EhloName, Envelope, Envelopes, Event, Input, Options, Output, Session, TransactionId,
};
use courser_core::smtp::command::{MailParams, RcptParams};
use courser_core::time::Instant;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

/// An envelope to so many.
struct Letter(usize);

impl Envelope for &Letter {
    fn mail(&self) -> (ReversePath<'_>, MailParams<'_>) {
        let from = ReversePath::parse("bounces+4711@news.example.org").expect("an address");
        (from, MailParams::default())
    }
    fn recipients(&self) -> usize {
        self.0
    }
    fn recipient(&self, _: usize) -> (Mailbox<'_>, RcptParams<'_>) {
        let to = Mailbox::parse("somebody.else@example.net").expect("an address");
        (to, RcptParams::default())
    }
    fn size(&self) -> u64 {
        30_000
    }
    fn eight_bit(&self) -> bool {
        false
    }
    fn utf8(&self) -> bool {
        false
    }
}

impl Envelopes for Letter {
    type Envelope<'a> = &'a Letter;
    fn envelope(&self, _: TransactionId) -> Option<&Letter> {
        Some(self)
    }
}

/// Polls to quiet; counts the recipients or messages that were told of, and the bytes.
fn drain(session: &mut Session, letter: &Letter, out: &mut [u8]) -> usize {
    let mut told = 0;
    loop {
        match session.poll(Instant::ZERO, letter, out) {
            Output::Send(n) => {
                black_box(&out[..n]);
            }
            Output::SendBody { txn, .. } => {
                let sent = session.handle(Instant::ZERO, Input::BodySent(txn));
                sent.expect("the body was asked for");
            }
            Output::Event(Event::Finished { .. }) => told += 1,
            Output::Event(event) => {
                black_box(event);
            }
            _ => return told,
        }
    }
}

fn hear(session: &mut Session, letter: &Letter, mut bytes: &[u8], out: &mut [u8]) -> usize {
    let mut told = 0;
    while !bytes.is_empty() {
        let taken = session.handle(Instant::ZERO, Input::Received(bytes));
        bytes = &bytes[taken.expect("in turn")..];
        told += drain(session, letter, out);
    }
    told
}

fn ready(letter: &Letter, ehlo: &[u8], out: &mut [u8]) -> Session {
    let name = EhloName::new("out.example.org").expect("a name");
    let mut session = Session::new(Instant::ZERO, Options::new(name));
    hear(&mut session, letter, b"220 mx ESMTP\r\n", out);
    hear(&mut session, letter, ehlo, out);
    session
}

const OK: &str = "250 2.1.0 Ok\r\n";
const GO: &str = "354 End data with <CR><LF>.<CR><LF>\r\n";
const QUEUED: &str = "250 2.0.0 Ok: queued as 4ZkQ3p0Bx1z9vL7\r\n";
const PIPELINING: &[u8] = b"250-mx\r\n250-PIPELINING\r\n250 SIZE 52428800\r\n";
const CHUNKING: &[u8] = b"250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 SIZE 52428800\r\n";
const NOTHING: &[u8] = b"250 mx\r\n";

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
