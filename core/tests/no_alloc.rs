//! The SMTP path never touches the heap: each test runs it under an allocator that counts.

use courser_core::limits::COMMAND_LINE_BYTES_MAX;
use courser_core::mail::address::Mailbox;
use courser_core::smtp::command::Command;
use courser_core::smtp::data::{BdatReader, Stuffer, Unstuffer};
use courser_core::smtp::extension::Capabilities;
use courser_core::smtp::reply::{Reply, ReplyReader, ReplyState};
use courser_core::smtp::xtext::{Xtext, decode};
use courser_core::smtp::{Buffer, BufferFull};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

struct Counting;

thread_local! {
    /// Allocations of this thread; const, so that it needs none itself.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // The thread may be ending; what it allocates then is no business of a test.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(at, layout, size) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work` and returns how often it allocated.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
    assert_eq!(allocations(|| drop(black_box(vec![0_u8; 9]))), 1);
    assert_eq!(allocations(|| ()), 0);
}

#[test]
fn commands() {
    let lines: [&[u8]; 8] = [
        b"EHLO mail.example.org",
        b"MAIL FROM:<a@example.org> SIZE=1000 BODY=8BITMIME RET=HDRS ENVID=x+2By BY=9;R",
        b"MAIL FROM:<> HOLDUNTIL=2026-11-23T21:00:00Z MT-PRIORITY=3",
        "RCPT TO:<\"ü\"@[IPv6:2001:db8::1]> NOTIFY=DELAY,FAILURE ORCPT=rfc822;a@b.c".as_bytes(),
        b"BDAT 1000 LAST",
        b"AUTH PLAIN AGEAYg==",
        b"RCPT TO:<nobody",
        b"NONSENSE",
    ];
    let mut out = [0; COMMAND_LINE_BYTES_MAX];
    let counted = allocations(|| {
        for line in lines {
            match Command::parse(line) {
                Ok(command) => assert!(command.emit(&mut out).is_ok()),
                Err(error) => assert!(error.reply().0.is_permanent()),
            }
        }
    });
    assert_eq!(counted, 0);
}

#[test]
fn replies_and_capabilities() {
    let wire = b"250-mx.example.org\r\n250-SIZE 1000\r\n250-AUTH PLAIN\r\n250 DSN\r\n\
        550-5.1.1 no such user\r\n550 5.1.1 here\r\n250 2.0.0 ok\r\n";
    let mut out = [0; 1024];
    let counted = allocations(|| {
        let mut reader = ReplyReader::new();
        let mut peer = Capabilities::default();
        for piece in wire.chunks(7) {
            let mut piece = piece;
            while !piece.is_empty() {
                let pushed = reader.push(piece).unwrap();
                piece = &piece[pushed.consumed..];
                if pushed.state == ReplyState::Line {
                    peer.from_line(reader.line());
                }
                if let Some(reply) = reader.reply() {
                    reply.emit(&mut out).unwrap();
                }
            }
        }
        assert!(peer.auth.plain);
        assert!(Reply::parse(b"421 4.7.0 later").is_ok());
        assert_eq!(reader.reply().unwrap().emit(&mut [0; 4]), Err(BufferFull));
    });
    assert_eq!(counted, 0);
}

#[test]
fn addresses_and_xtext() {
    let mut out = [0; 128];
    let counted = allocations(|| {
        let mut out = Buffer::new(&mut out);
        let mailbox = Mailbox::parse("\"a b\"@xn--bcher-kva.example").unwrap();
        out.put_fmt(format_args!("{mailbox} {}", Xtext(b"a+b")))
            .unwrap();
        assert!(decode(b"a+2Bb").unwrap().eq(*b"a+b"));
        assert!(Mailbox::parse("a@b..c").is_err());
    });
    assert_eq!(counted, 0);
}

#[test]
fn message_data() {
    let body = b"Subject: x\r\n\r\n.dot\r\n..dots\r\ntext\r\n".repeat(100);
    let mut wire = Vec::with_capacity(2 * body.len());
    let mut arrived = Vec::with_capacity(2 * body.len());
    let counted = allocations(|| {
        let mut stuffer = Stuffer::new();
        for piece in body.chunks(50) {
            stuffer
                .walk(piece)
                .for_each(|chunk| wire.extend_from_slice(chunk.bytes()));
        }
        wire.extend_from_slice(stuffer.terminator());
        let mut unstuffer = Unstuffer::new();
        for piece in wire.chunks(61) {
            let mut piece = piece;
            while !piece.is_empty() {
                let part = unstuffer.push(piece).unwrap();
                arrived.extend_from_slice(part.body);
                piece = &piece[part.consumed..];
            }
        }
        assert!(unstuffer.is_done());
        let mut reader = BdatReader::new(false);
        reader.begin(body.len() as u64, true);
        assert!(reader.push(&body).unwrap().done);
    });
    assert_eq!(counted, 0);
    assert_eq!(arrived, body);
}
