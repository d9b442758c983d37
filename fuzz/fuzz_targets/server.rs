//! The submission session under any input and any order of calls: no panic, no poll without end,
//! and the octets of each message are as many as it says.
//!
//! The input is a list of calls: a byte that says which, and for what the client sends a length
//! and that many bytes.
#![no_main]

use courser_core::smtp::extension::AuthMechanisms;
use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use courser_core::smtp::server::{Event, Input, Options, Output, Session};
use courser_core::time::{Duration, Instant};
use libfuzzer_sys::fuzz_target;

fn options(flags: u8) -> Options {
    let mut options = Options::new("mx.example").unwrap();
    options.lmtp = flags & 1 != 0;
    options.offer.starttls = flags & 2 != 0;
    options.offer.chunking = flags & 4 == 0;
    options.offer.binarymime = flags & 8 != 0;
    options.auth_needs_tls = flags & 16 == 0;
    options.auth = AuthMechanisms {
        plain: flags & 32 != 0,
        ..Default::default()
    };
    options.limits.auth_line_bytes = 64;
    if flags & 64 != 0 {
        options.limits.message_bytes = 100;
        options.limits.discarded_bytes = 100;
        options.limits.recipients = 3;
    }
    options
}

fn answer(which: u8) -> Input<'static> {
    let reply = |code: u16| Reply {
        code: ReplyCode::new(code).unwrap(),
        enhanced: Some(EnhancedCode::new((code / 100) as u8, 0, 0)),
        text: b"text\nmore text",
    };
    match which % 14 {
        0 => Input::AcceptWith(reply(250)),
        1 => Input::Refuse(reply(550)),
        2 => Input::Refuse(reply(421)),
        3 => Input::RefuseAndClose(reply(451)),
        4 => Input::AuthChallenge(b"eA=="),
        5 => Input::AuthDone,
        6 => Input::AuthFailed,
        7 => Input::TlsEstablished,
        8 => Input::Closed,
        9 => Input::DeadlinePassed,
        10 => Input::Shutdown,
        _ => Input::Accept,
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&flags, mut data)) = data.split_first() else {
        return;
    };
    let mut session = Session::new(Instant::ZERO, options(flags));
    let (mut now, mut buffer, mut out) = (Instant::ZERO, Vec::new(), [0; 64]);
    let mut octets = 0;
    while let Some((&call, rest)) = data.split_first() {
        data = rest;
        match call {
            // Mostly, the client sends something.
            0..128 => {
                let (piece, rest) = data.split_at(data.len().min(usize::from(call)));
                buffer.extend_from_slice(piece);
                data = rest;
            }
            128..160 => now = now + Duration::from_secs(u64::from(call)),
            _ => drop(session.handle(now, answer(call))),
        }
        let bound = 4 * (buffer.len() + 2000);
        for polls in 0.. {
            assert!(polls < bound, "polls without end: {session:?}");
            let (consumed, output) = session.poll(now, &buffer, &mut out);
            let pauses = matches!(output, Output::Wait(_) | Output::Close);
            match output {
                Output::Event(Event::BodyStart | Event::Reset) => octets = 0,
                Output::Event(Event::Body(part)) => {
                    assert!(!part.is_empty());
                    octets += part.len() as u64;
                }
                Output::Event(Event::BodyEnd { size, .. }) => assert_eq!(size, octets),
                _ => {}
            }
            buffer.drain(..consumed);
            if pauses {
                break;
            }
        }
    }
});
