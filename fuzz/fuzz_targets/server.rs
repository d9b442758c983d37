//! The submission session under any input and any order of calls: no panic, no poll without end,
//! and the octets of each message are as many as it says. Time alone ends every session. What the
//! client sends is understood the same however it is cut, and nothing is passed on that another
//! server could read as two messages.
//!
//! The input is a list of calls: a byte that says which, and for what the client sends a length
//! and that many bytes.
#![no_main]

use courser_core::smtp::command::BodyType;
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

/// Deadlines until a session that hears nothing more must be over.
const DEADLINES_MAX: usize = 4;

/// An application that says yes to everything.
#[derive(Debug, Default, PartialEq)]
struct Agreed {
    told: Vec<String>,
    sent: Vec<u8>,
    body: Vec<u8>,
    binary: bool,
    over: bool,
}

impl Agreed {
    /// Plays what the client sends, `cut` bytes at a time, until it waits for more.
    fn play(options: Options, client: &[u8], cut: usize) -> Self {
        let mut it = Self::default();
        let mut session = Session::new(Instant::ZERO, options);
        let (mut buffer, mut out) = (Vec::new(), [0; 300]);
        it.drain(&mut session, &mut buffer, &mut out);
        for piece in client.chunks(cut) {
            buffer.extend_from_slice(piece);
            it.drain(&mut session, &mut buffer, &mut out);
            if it.over {
                return it;
            }
        }
        // Nobody says anything any more.
        let (mut now, mut deadlines) = (Instant::ZERO, 0);
        loop {
            match session.poll(now, &buffer, &mut out).1 {
                Output::Close => return it,
                Output::Wait(deadline) => {
                    deadlines += 1;
                    assert!(deadlines <= DEADLINES_MAX, "time doesn't end it: {session:?}");
                    now = deadline.expect("it waits for the client").max(now);
                    session.handle(now, Input::DeadlinePassed).unwrap();
                }
                _ => {}
            }
        }
    }

    fn drain(&mut self, session: &mut Session, buffer: &mut Vec<u8>, out: &mut [u8]) {
        let now = Instant::ZERO;
        loop {
            let (consumed, output) = session.poll(now, buffer, out);
            let mut answer = None;
            match output {
                Output::Send(n) => self.sent.extend_from_slice(&out[..n]),
                Output::Wait(_) => {
                    buffer.drain(..consumed);
                    return;
                }
                Output::Close | Output::StartTls => {
                    self.over = true;
                    return;
                }
                Output::Event(Event::Body(part)) => self.body.extend_from_slice(part),
                // What comes later than STARTTLS itself is the handshake's, so this tells the cuts.
                Output::Event(Event::Injected { .. }) => {}
                Output::Event(event) => {
                    self.told.push(format!("{event:?}"));
                    match event {
                        Event::Hello { .. } | Event::Rcpt(..) => answer = Some(Input::Accept),
                        Event::Mail(_, params) => {
                            self.binary = params.body == Some(BodyType::BinaryMime);
                            answer = Some(Input::Accept);
                        }
                        Event::BodyStart => self.body.clear(),
                        Event::BodyEnd { .. } => {
                            self.told.push(format!("{:?}", self.body));
                            if !self.binary {
                                self.lines_are_whole();
                            }
                            answer = Some(Input::Accept);
                        }
                        Event::Auth { .. } | Event::AuthResponse(_) => {
                            answer = Some(Input::AuthFailed);
                        }
                        _ => {}
                    }
                }
            }
            buffer.drain(..consumed);
            if let Some(answer) = answer {
                session.handle(now, answer).unwrap();
            }
        }
    }

    /// What is passed on has no line end but CRLF, so every server sees the same lines in it.
    fn lines_are_whole(&self) {
        let body = &self.body;
        for (i, b) in body.iter().enumerate() {
            match b {
                b'\n' => assert!(i > 0 && body[i - 1] == b'\r', "a bare LF"),
                b'\r' => assert_eq!(body.get(i + 1), Some(&b'\n'), "a bare CR"),
                _ => {}
            }
        }
    }
}

/// What the client says in all of the calls.
fn client(mut data: &[u8]) -> Vec<u8> {
    let mut said = Vec::new();
    while let Some((&call, rest)) = data.split_first() {
        let len = if call < 128 { rest.len().min(call.into()) } else { 0 };
        said.extend_from_slice(&rest[..len]);
        data = &rest[len..];
    }
    said
}

/// What was sent, but for the last word of a session that closes: of a body that is far too large
/// and has a bare CR or LF, either is found first.
fn refused(it: &Agreed) -> &[u8] {
    let last = [
        &b"552 5.3.4 Message is larger than allowed\r\n"[..],
        b"521 5.5.2 Bare CR or LF in the message\r\n",
    ];
    let sent = |words: &&[u8]| it.sent.strip_suffix(*words).filter(|_| it.over);
    last.iter().find_map(sent).unwrap_or(&it.sent)
}

fuzz_target!(|data: &[u8]| {
    let Some((&flags, mut data)) = data.split_first() else {
        return;
    };
    let client = client(data);
    let whole = Agreed::play(options(flags), &client, usize::MAX);
    for cut in [1, usize::from(flags % 61) + 2] {
        let pieces = Agreed::play(options(flags), &client, cut);
        assert_eq!(whole.told, pieces.told, "cut by {cut}");
        assert_eq!(refused(&whole), refused(&pieces), "cut by {cut}");
    }
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
