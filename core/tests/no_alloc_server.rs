//! A submission session never touches the heap: a counting allocator watches whole sessions.

use courser_core::smtp::extension::AuthMechanisms;
use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use courser_core::smtp::server::{Event, Input, Options, Output, Session};
use courser_core::time::Instant;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // A thread that ends has no counter any more.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const SESSION: &[u8] = b"EHLO c.example\r\nAUTH PLAIN\r\nZ29vZA==\r\nNOOP\r\nVRFY x\r\nFOO\r\n\
    MAIL FROM:<a@c.example> SIZE=20 BODY=8BITMIME RET=HDRS ENVID=x\r\n\
    RCPT TO:<b@d.example> NOTIFY=FAILURE ORCPT=rfc822;b@d.example\r\nRCPT TO:<bad@d.example>\r\n\
    DATA\r\nSubject: x\r\n\r\n..\r\n.\r\n\
    MAIL FROM:<a@c.example>\r\nRCPT TO:<b@d.example>\r\nBDAT 4\r\nab\r\nBDAT 4 LAST\r\ncd\r\n\
    MAIL FROM:<a@c.example>\r\nRCPT TO:<b@d.example>\r\nBDAT 4 LAST\r\na\nb\n\
    RSET\r\nSTARTTLS\r\nEHLO thrown away\r\n";
const AFTER_TLS: &[u8] = b"EHLO c.example\r\nQUIT\r\n";

/// Plays a session, `step` bytes more of input at a time. Returns how many messages came.
fn play(options: &Options, step: usize) -> usize {
    let now = Instant::ZERO;
    let mut session = Session::new(now, options);
    let mut out = [0; 512];
    let (mut script, mut from, mut to) = (SESSION, 0, 0);
    let mut messages = 0;
    let no = Reply {
        code: ReplyCode::new(550).unwrap(),
        enhanced: Some(EnhancedCode::new(5, 1, 1)),
        text: b"No such user",
    };
    loop {
        let (consumed, output) = session.poll(now, &script[from..to], &mut out);
        from += consumed;
        let answer = match output {
            Output::Send(_) => None,
            Output::Event(Event::Rcpt(mailbox, _)) if mailbox.local() == "bad" => {
                Some(Input::Refuse(no))
            }
            Output::Event(Event::Hello { .. } | Event::Mail(..) | Event::Rcpt(..)) => {
                Some(Input::Accept)
            }
            Output::Event(Event::BodyEnd { .. }) => {
                messages += 1;
                Some(Input::Accept)
            }
            Output::Event(Event::Auth { .. }) => Some(Input::AuthChallenge(b"eA==")),
            Output::Event(Event::AuthResponse(_)) => Some(Input::AuthDone),
            Output::Event(_) => None,
            Output::StartTls => {
                (script, from, to) = (AFTER_TLS, 0, 0);
                Some(Input::TlsEstablished)
            }
            Output::Wait(_) => {
                assert!(to < script.len(), "waits for more than there is");
                to = script.len().min(to + step);
                None
            }
            Output::Close => return messages,
        };
        if let Some(answer) = answer {
            session.handle(now, answer).unwrap();
        }
    }
}

#[test]
fn a_session_never_allocates() {
    let mut options = Options::new("mx.example").unwrap();
    options.offer.starttls = true;
    options.auth = AuthMechanisms {
        plain: true,
        ..AuthMechanisms::default()
    };
    options.auth_needs_tls = false;
    for step in [1, 7, usize::MAX / 2] {
        let before = ALLOCATIONS.with(Cell::get);
        let messages = play(&options, step);
        let allocations = ALLOCATIONS.with(Cell::get) - before;
        assert_eq!((messages, allocations), (2, 0), "{step} bytes at a time");
    }
    // The counter counts.
    let before = ALLOCATIONS.with(Cell::get);
    drop(std::hint::black_box(vec![1, 2, 3]));
    assert_eq!(ALLOCATIONS.with(Cell::get), before + 1);
}
