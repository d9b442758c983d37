//! Submission sessions, with an application that says yes to all.

use std::hint::black_box;

use courser_core::smtp::data::Stuffer;
use courser_core::smtp::server::{Event, Input, Options, Output, Session};
use courser_core::time::Instant;

/// Length of the body, bytes, at the least.
pub const BODY_BYTES: usize = 10_000;

/// Lines of 72 octets, some of which begin with a dot.
pub fn body() -> Vec<u8> {
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

/// A transaction with DATA.
pub fn with_data(recipients: usize) -> Vec<u8> {
    let (mut script, body, mut stuffer) = (envelope(recipients), body(), Stuffer::new());
    script.extend_from_slice(b"DATA\r\n");
    for chunk in stuffer.walk(&body) {
        script.extend_from_slice(chunk.bytes());
    }
    script.extend_from_slice(stuffer.terminator());
    script
}

/// A transaction with one BDAT.
pub fn with_bdat(recipients: usize) -> Vec<u8> {
    let (mut script, body) = (envelope(recipients), body());
    script.extend_from_slice(format!("BDAT {} LAST\r\n", body.len()).as_bytes());
    script.extend_from_slice(&body);
    script
}

/// Plays `script` in packets of `packet` bytes; returns the octets of the bodies.
pub fn play(
    session: &mut Session<&Options>,
    script: &[u8],
    packet: usize,
    out: &mut [u8],
) -> usize {
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

/// A session after its EHLO.
pub fn greeted(options: &Options) -> Session<&Options> {
    let mut session = Session::new(Instant::ZERO, options);
    play(
        &mut session,
        b"EHLO client.example\r\n",
        100,
        &mut [0; 1024],
    );
    session
}
