//! Delivery sessions against canned replies.

use std::hint::black_box;

use courser_core::mail::address::{Mailbox, ReversePath};
use courser_core::smtp::client::{
    EhloName, Envelope, Envelopes, Event, Input, Options, Output, Session, TransactionId,
};
use courser_core::smtp::command::{MailParams, RcptParams};
use courser_core::time::Instant;

/// An envelope to so many.
pub struct Letter(pub usize);

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
pub fn drain(session: &mut Session, letter: &Letter, out: &mut [u8]) -> usize {
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

/// Takes in what the receiver said; counts as [`drain`] does.
pub fn hear(session: &mut Session, letter: &Letter, mut bytes: &[u8], out: &mut [u8]) -> usize {
    let mut told = 0;
    while !bytes.is_empty() {
        let taken = session.handle(Instant::ZERO, Input::Received(bytes));
        bytes = &bytes[taken.expect("in turn")..];
        told += drain(session, letter, out);
    }
    told
}

/// A session after its EHLO, to which the receiver answered `ehlo`.
pub fn ready(letter: &Letter, ehlo: &[u8], out: &mut [u8]) -> Session {
    let name = EhloName::new("out.example.org").expect("a name");
    let mut session = Session::new(Instant::ZERO, Options::new(name));
    hear(&mut session, letter, b"220 mx ESMTP\r\n", out);
    hear(&mut session, letter, ehlo, out);
    session
}

/// To MAIL and RCPT.
pub const OK: &str = "250 2.1.0 Ok\r\n";
/// To DATA.
pub const GO: &str = "354 End data with <CR><LF>.<CR><LF>\r\n";
/// To the end of a body.
pub const QUEUED: &str = "250 2.0.0 Ok: queued as 4ZkQ3p0Bx1z9vL7\r\n";
/// EHLO response with PIPELINING.
pub const PIPELINING: &[u8] = b"250-mx\r\n250-PIPELINING\r\n250 SIZE 52428800\r\n";
/// EHLO response with CHUNKING.
pub const CHUNKING: &[u8] = b"250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 SIZE 52428800\r\n";
/// EHLO response without extensions.
pub const NOTHING: &[u8] = b"250 mx\r\n";
