//! A delivery session never allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use courser_core::mail::address::{Mailbox, ReversePath};
use courser_core::smtp::client::{
    EhloName, Envelope, Envelopes, Event, Input, Options, Outcome, Output, Session, TransactionId,
};
use courser_core::smtp::command::{MailParams, RcptParams};
use courser_core::time::Instant;

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of `f`.
fn allocations(f: impl FnOnce()) -> usize {
    let before = COUNT.get();
    f();
    COUNT.get() - before
}

struct Letter;

impl Envelope for &Letter {
    fn mail(&self) -> (ReversePath<'_>, MailParams<'_>) {
        let from = ReversePath::parse("list@example.org").unwrap();
        (from, MailParams::default())
    }
    fn recipients(&self) -> usize {
        3
    }
    fn recipient(&self, i: usize) -> (Mailbox<'_>, RcptParams<'_>) {
        let to = ["a@example.net", "b@example.net", "c@example.net"][i];
        (Mailbox::parse(to).unwrap(), RcptParams::default())
    }
    fn size(&self) -> u64 {
        1000
    }
    fn eight_bit(&self) -> bool {
        true
    }
    fn utf8(&self) -> bool {
        true
    }
}

impl Envelopes for Letter {
    type Envelope<'a> = &'a Letter;
    fn envelope(&self, _: TransactionId) -> Option<&Letter> {
        Some(self)
    }
}

/// A whole session with two messages; gives how many were delivered and refused.
fn session(ehlo: &[u8], replies: &[&[u8]]) -> (usize, usize) {
    let name = EhloName::new("out.example.org").unwrap();
    let mut session = Session::new(Instant::ZERO, Options::new(name));
    let mut out = [0; 2048];
    let (mut delivered, mut refused, mut begun) = (0, 0, 0);
    let opening: [&[u8]; 2] = [b"220 mx\r\n", ehlo];
    for reply in opening.iter().chain(replies) {
        let mut rest = *reply;
        while !rest.is_empty() {
            let taken = session
                .handle(Instant::ZERO, Input::Received(rest))
                .unwrap();
            rest = &rest[taken..];
            loop {
                if begun < 2 && session.can_begin() {
                    session.begin(TransactionId(begun)).unwrap();
                    begun += 1;
                }
                match session.poll(Instant::ZERO, &Letter, &mut out) {
                    Output::Event(Event::Recipient { .. }) => refused += 1,
                    Output::Event(Event::Message { outcome, .. }) => {
                        assert!(session.reply().is_some());
                        delivered += usize::from(matches!(outcome, Outcome::Delivered { .. }));
                    }
                    Output::SendBody { txn, .. } => {
                        session.handle(Instant::ZERO, Input::BodySent(txn)).unwrap();
                    }
                    Output::Wait(_) | Output::Close => break,
                    _ => {}
                }
            }
        }
    }
    session.handle(Instant::ZERO, Input::Closed).unwrap();
    (delivered, refused)
}

#[test]
fn no_session_allocates() {
    let pipelined = b"250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n";
    let chunked = b"250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n";
    let batch = b"250 ok\r\n250 ok\r\n550-5.1.1 no\r\n550 5.1.1 such user\r\n250 ok\r\n354 go\r\n";
    let bdat = b"250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n250 queued\r\n250 reset\r\n\
        250 ok\r\n250 ok\r\n250 ok\r\n450 later\r\n250 queued\r\n";
    let count = allocations(|| {
        let end = b"250 queued\r\n";
        assert_eq!(session(pipelined, &[batch, end, batch, end]), (2, 2));
        assert_eq!(session(chunked, &[bdat]), (2, 2));
    });
    assert_eq!(count, 0);
}

#[test]
fn the_counter_counts() {
    assert!(allocations(|| drop(std::hint::black_box(vec![1_u8; 10]))) > 0);
}
