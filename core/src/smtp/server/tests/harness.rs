//! A caller with an application behind it, for scripts of client input.

use crate::smtp::extension::AuthMechanisms;
use crate::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use crate::smtp::server::{Event, Input, Options, Output, Session};
use crate::time::Instant;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

pub(super) const HELLO: &str = "EHLO c.example\r\n";

/// Plays the caller of one session.
pub(super) struct Caller {
    pub(super) session: Session,
    pub(super) now: Instant,
    /// What the client sent and the session has not consumed.
    pub(super) buffer: Vec<u8>,
    /// Events and replies in order, one line each, body octets left out.
    pub(super) log: Vec<String>,
    /// All replies.
    pub(super) sent: Vec<u8>,
    /// How many writes the replies took.
    pub(super) writes: usize,
    /// The octets of the open message.
    pub(super) body: Vec<u8>,
    /// The messages that were accepted.
    pub(super) messages: Vec<Vec<u8>>,
    pub(super) closed: bool,
    /// What the application says.
    pub(super) policy: fn(&Event<'_>) -> Option<Input<'static>>,
    pub(super) out: Vec<u8>,
}

pub(super) fn reply(code: u16, enhanced: (u8, u16, u16), text: &'static str) -> Reply<'static> {
    Reply {
        code: ReplyCode::new(code).unwrap(),
        enhanced: Some(EnhancedCode::new(enhanced.0, enhanced.1, enhanced.2)),
        text: text.as_bytes(),
    }
}

/// Refuses senders, recipients and greetings whose local part or name begins with `bad`.
pub(super) fn usual(event: &Event<'_>) -> Option<Input<'static>> {
    let no = Input::Refuse(reply(550, (5, 7, 1), "No"));
    match event {
        Event::Hello { name, .. } if name.starts_with("bad") => Some(no),
        Event::Mail(path, _) if path.mailbox().is_some_and(|m| m.local().starts_with("bad")) => {
            Some(no)
        }
        Event::Rcpt(mailbox, _) if mailbox.local().starts_with("bad") => Some(no),
        Event::Hello { .. } | Event::Mail(..) | Event::Rcpt(..) | Event::BodyEnd { .. } => {
            Some(Input::Accept)
        }
        Event::Auth { initial: None, .. } => Some(Input::AuthChallenge(b"Z28=")),
        Event::Auth { .. } | Event::AuthResponse(b"Z29vZA==") => Some(Input::AuthDone),
        Event::AuthResponse(_) => Some(Input::AuthFailed),
        _ => None,
    }
}

pub(super) fn options() -> Options {
    Options::new("mx.example").unwrap()
}

/// With AUTH PLAIN, before TLS as well.
pub(super) fn with_auth() -> Options {
    let mut options = options();
    options.auth = AuthMechanisms {
        plain: true,
        ..AuthMechanisms::default()
    };
    options.auth_needs_tls = false;
    options
}

/// A session that has greeted and was greeted.
pub(super) fn hello(options: Options) -> Caller {
    let mut caller = Caller::greeted(options);
    caller.ask(if caller.session.options().lmtp {
        "LHLO c.example\r\n"
    } else {
        HELLO
    });
    caller.forget();
    caller
}

impl Caller {
    pub(super) fn new(options: Options) -> Self {
        Self {
            session: Session::new(Instant::ZERO, options),
            now: Instant::ZERO,
            buffer: Vec::new(),
            log: Vec::new(),
            sent: Vec::new(),
            writes: 0,
            body: Vec::new(),
            messages: Vec::new(),
            closed: false,
            policy: usual,
            out: std::vec![0; 512],
        }
    }

    /// A session that has greeted, with its greeting forgotten.
    pub(super) fn greeted(options: Options) -> Self {
        let mut caller = Self::new(options);
        caller.run();
        caller.forget();
        caller
    }

    pub(super) fn forget(&mut self) {
        self.log.clear();
        self.sent.clear();
        self.writes = 0;
    }

    /// The client sends this.
    pub(super) fn send(&mut self, input: &[u8]) -> &mut Self {
        self.buffer.extend_from_slice(input);
        self.run();
        self
    }

    /// The client sends this, and these are the replies.
    pub(super) fn ask(&mut self, input: &str) -> String {
        let from = self.sent.len();
        self.send(input.as_bytes());
        String::from_utf8(self.sent[from..].to_vec()).unwrap()
    }

    pub(super) fn handle(&mut self, input: Input<'_>) {
        self.session.handle(self.now, input).unwrap();
        self.run();
    }

    pub(super) fn replies(&self) -> String {
        String::from_utf8(self.sent.clone()).unwrap()
    }

    /// Polls until `Wait` or `Close`, and says until when.
    pub(super) fn run(&mut self) -> Option<Instant> {
        for _ in 0..200_000 {
            let buffer = core::mem::take(&mut self.buffer);
            let (consumed, output) = self.session.poll(self.now, &buffer, &mut self.out);
            assert!(consumed <= buffer.len());
            let mut end = None;
            match output {
                Output::Send(n) => {
                    assert!(n > 0);
                    self.writes += 1;
                    self.sent.extend_from_slice(&self.out[..n]);
                }
                Output::Event(event) => {
                    if let Event::Body(part) = event {
                        // In place, never a copy.
                        assert!(buffer.as_ptr_range().contains(&part.as_ptr()));
                    }
                    self.note(&event);
                    if let Some(answer) = (self.policy)(&event) {
                        self.session.handle(self.now, answer).unwrap();
                    }
                }
                Output::StartTls => {
                    self.log.push("STARTTLS".to_string());
                    self.session
                        .handle(self.now, Input::TlsEstablished)
                        .unwrap();
                }
                Output::Wait(until) => end = Some(until),
                Output::Close => {
                    self.closed = true;
                    end = Some(None);
                }
            }
            self.buffer = buffer[consumed..].to_vec();
            if let Some(end) = end {
                return end;
            }
        }
        panic!("poll never ends: {:?}", self.session);
    }

    fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Body(part) => {
                assert!(!part.is_empty());
                self.body.extend_from_slice(part);
                return;
            }
            Event::BodyStart | Event::Reset => self.body.clear(),
            Event::BodyEnd { size, recipient: 0 } => {
                assert_eq!(*size, self.body.len() as u64);
                self.messages.push(core::mem::take(&mut self.body));
            }
            _ => {}
        }
        self.log.push(format!("{event:?}"));
    }
}
