//! Drives a session and writes down what it says.

use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::mail::address::{Mailbox, ReversePath};
use crate::smtp::command::{MailParams, RcptParams};
use core::time::Duration;

/// An envelope, and by its own number all that a test has.
#[derive(Clone)]
pub(super) struct Letter {
    pub(super) to: Vec<String>,
    pub(super) mail: MailParams<'static>,
    pub(super) rcpt: RcptParams<'static>,
    pub(super) size: u64,
    pub(super) eight_bit: bool,
    pub(super) utf8: bool,
}

impl Letter {
    pub(super) fn to(n: usize) -> Self {
        Self {
            to: (0..n).map(|i| format!("r{i}@example.net")).collect(),
            mail: MailParams::default(),
            rcpt: RcptParams::default(),
            size: 100,
            eight_bit: false,
            utf8: false,
        }
    }
}

impl Envelope for &Letter {
    fn mail(&self) -> (ReversePath<'_>, MailParams<'_>) {
        (ReversePath::parse("s@example.org").unwrap(), self.mail)
    }
    fn recipients(&self) -> usize {
        self.to.len()
    }
    fn recipient(&self, i: usize) -> (Mailbox<'_>, RcptParams<'_>) {
        (Mailbox::parse(&self.to[i]).unwrap(), self.rcpt)
    }
    fn size(&self) -> u64 {
        self.size
    }
    fn eight_bit(&self) -> bool {
        self.eight_bit
    }
    fn utf8(&self) -> bool {
        self.utf8
    }
}

/// Letters by the number of their transaction.
#[derive(Clone, Default)]
pub(super) struct Letters(pub(super) Vec<Letter>);

impl Envelopes for Letters {
    type Envelope<'a> = &'a Letter;
    fn envelope(&self, txn: TransactionId) -> Option<&Letter> {
        self.0.get(usize::try_from(txn.0).unwrap())
    }
}

#[derive(Clone)]
pub(super) struct Run {
    pub(super) session: Session,
    pub(super) letters: Letters,
    pub(super) now: Instant,
    pub(super) out: Vec<u8>,
    /// Tells `BodySent` at once.
    pub(super) prompt: bool,
    /// Tells `AuthSent` at once, and that so much is said.
    pub(super) auth_complete: Option<bool>,
    pub(super) lines: Vec<String>,
    pub(super) events: Vec<Event>,
}

pub(super) fn options() -> Options {
    Options::new(EhloName::new("out.example.org").unwrap())
}

impl Run {
    pub(super) fn new(options: Options) -> Self {
        Self {
            session: Session::new(Instant::ZERO, options),
            letters: Letters::default(),
            now: Instant::ZERO,
            out: vec![0; 65536],
            prompt: true,
            auth_complete: Some(true),
            lines: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Past an EHLO that was answered with these keywords.
    pub(super) fn ready(options: Options, keywords: &[&str]) -> Self {
        let mut run = Self::new(options);
        run.drain();
        run.hear("220 mx\r\n");
        let mut answer = String::from("250-mx\r\n");
        for keyword in keywords {
            answer += &format!("250-{keyword}\r\n");
        }
        run.hear(&(answer + "250 HELP\r\n"));
        run.lines.clear();
        run.events.clear();
        assert!(run.session.can_begin());
        run
    }

    /// Begins a transaction with this letter.
    pub(super) fn begin(&mut self, letter: Letter) -> String {
        let id = u32::try_from(self.letters.0.len()).unwrap();
        self.letters.0.push(letter);
        self.session.begin(TransactionId(id)).unwrap();
        self.drain()
    }

    pub(super) fn hear(&mut self, text: &str) -> String {
        self.hear_bytes(text.as_bytes())
    }

    pub(super) fn hear_bytes(&mut self, mut bytes: &[u8]) -> String {
        let from = self.lines.len();
        while !bytes.is_empty() {
            let input = Input::Received(bytes);
            let taken = self.session.handle(self.now, input).unwrap();
            bytes = &bytes[taken..];
            self.drain();
        }
        self.lines[from..].join("\n")
    }

    pub(super) fn tell(&mut self, input: Input<'_>) -> String {
        self.session.handle(self.now, input).unwrap();
        self.drain()
    }

    /// Lets time pass up to the deadline.
    pub(super) fn time_out(&mut self) -> String {
        if let Output::Wait(Some(at)) = self.poll() {
            self.now = at;
        }
        self.tell(Input::DeadlinePassed)
    }

    pub(super) fn quit(&mut self) -> String {
        self.session.quit();
        self.drain()
    }

    pub(super) fn poll(&mut self) -> Output {
        self.session.poll(self.now, &self.letters, &mut self.out)
    }

    /// Polls to quiet; says what happened, one line each.
    pub(super) fn drain(&mut self) -> String {
        let from = self.lines.len();
        for _ in 0..100_000 {
            match self.poll() {
                Output::Send(n) => {
                    assert!(n > 0 && n <= self.out.len());
                    let text = String::from_utf8(self.out[..n].to_vec()).unwrap();
                    let text = text.strip_suffix("\r\n").expect("whole commands");
                    let lines = text.split("\r\n").map(|line| format!("> {line}"));
                    self.lines.extend(lines);
                }
                Output::SendBody { txn, framing } => {
                    self.lines.push(format!("> (body {} {framing:?})", txn.0));
                    if self.prompt {
                        self.session.handle(self.now, Input::BodySent(txn)).unwrap();
                    }
                }
                Output::StartTls => self.lines.push("> (tls)".into()),
                Output::SendAuth(mechanism) => {
                    let asked = self.session.challenge().map(String::from_utf8_lossy);
                    let asked = asked.map_or(String::new(), |text| format!(" to “{text}”"));
                    self.lines.push(format!("> (auth {mechanism}{asked})"));
                    if let Some(complete) = self.auth_complete {
                        let sent = Input::AuthSent { complete };
                        self.session.handle(self.now, sent).unwrap();
                    }
                }
                Output::Event(event) => {
                    self.events.push(event);
                    let reply = self.session.reply().map(|reply| reply.text().to_string());
                    self.lines.push(say(&event, reply.as_deref()));
                }
                Output::Wait(_) => return self.lines[from..].join("\n"),
                Output::Close => {
                    if self.lines.last().is_none_or(|line| line != "close") {
                        self.lines.push("close".into());
                    }
                    return self.lines[from..].join("\n");
                }
                Output::BufferTooSmall => panic!("buffer too small"),
            }
        }
        panic!("polls without end: {:?}", self.lines.last());
    }
}

use std::string::ToString;

/// An event in a line.
fn say(event: &Event, reply: Option<&str>) -> String {
    let reply = reply.map_or(String::new(), |text| format!(" “{text}”"));
    match event {
        Event::Ready(_) => format!("ready{reply}"),
        Event::Recipient {
            txn,
            index,
            outcome,
        } => format!("{}/{index} {}{reply}", txn.0, say_outcome(outcome)),
        Event::Message { txn, outcome } => format!("{}/* {}{reply}", txn.0, say_outcome(outcome)),
        Event::Finished { txn } => format!("{} finished", txn.0),
        Event::Broken { failure } => format!("broken {}{reply}", say_failure(failure)),
    }
}

fn say_outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered {
            code,
            enhanced,
            dsn,
        } => {
            let enhanced = enhanced.map_or(String::new(), |code| format!(" {code}"));
            let dsn = if *dsn { " with DSN" } else { "" };
            format!("delivered {code}{enhanced}{dsn}")
        }
        Outcome::Postponed => "postponed".into(),
        Outcome::Failed(failure) => format!("failed {}", say_failure(failure)),
        Outcome::Unsent(failure) => format!("unsent {}", say_failure(failure)),
        Outcome::Unknown(failure) => format!("unknown {}", say_failure(failure)),
    }
}

fn say_failure(failure: &Failure) -> String {
    let Failure {
        scope,
        permanent,
        state,
        cause,
        pipelining_suspect,
    } = failure;
    let cause = match cause {
        Cause::Reply { code, .. } => code.to_string(),
        other => format!("{other:?}"),
    };
    let permanent = if *permanent { "permanent" } else { "temporary" };
    let suspect = if *pipelining_suspect {
        ", pipelining?"
    } else {
        ""
    };
    format!("({permanent} {scope:?} at {state:?}: {cause}{suspect})")
}

/// Checks that each recipient of each letter that was begun had exactly one outcome, and that
/// each was finished once.
pub(super) fn assert_accounted(letters: &Letters, events: &[Event]) {
    for (number, letter) in letters.0.iter().enumerate() {
        let id = TransactionId(u32::try_from(number).unwrap());
        let mut told = vec![0; letter.to.len()];
        let (mut spoken_for, mut finished) = (false, 0);
        for event in events {
            match *event {
                Event::Recipient { txn, index, .. } if txn == id => {
                    assert!(!spoken_for && finished == 0, "late word on {id:?}/{index}");
                    told[index] += 1;
                    assert_eq!(told[index], 1, "twice on {id:?}/{index}");
                }
                Event::Message { txn, .. } if txn == id => {
                    assert!(!spoken_for && finished == 0, "late word on {id:?}");
                    spoken_for = true;
                }
                Event::Finished { txn } if txn == id => finished += 1,
                _ => {}
            }
        }
        assert_eq!(finished, 1, "{id:?} is finished once");
        let all = told.iter().all(|&n| n == 1);
        assert!(
            spoken_for != all || letter.to.is_empty(),
            "{id:?}: {told:?}, {spoken_for}"
        );
    }
}

/// Time, to say how long a wait is.
pub(super) fn seconds(s: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(s)
}
