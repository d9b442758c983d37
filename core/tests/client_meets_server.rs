//! The delivery session against the submission session, over a wire that cuts anywhere: what the
//! one reports as delivered is exactly what the other stored.

use std::collections::BTreeMap;

use courser_core::mail::address::{Mailbox, ReversePath};
use courser_core::smtp::client::{
    self, EhloName, Envelope, Envelopes, Event, Framing, Outcome, TransactionId,
};
use courser_core::smtp::command::{MailParams, RcptParams};
use courser_core::smtp::data::Stuffer;
use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use courser_core::smtp::server;
use courser_core::time::Instant;
use proptest::prelude::*;

/// A letter whose addresses say what the server will do: `s3` is the sender of letter 3, `bad3`
/// one that is refused; recipients are `ok…`, `no…`, `later…`.
#[derive(Clone, Debug)]
struct Letter {
    from: String,
    to: Vec<String>,
    body: Vec<u8>,
}

impl Envelope for &Letter {
    fn mail(&self) -> (ReversePath<'_>, MailParams<'_>) {
        (
            ReversePath::parse(&self.from).unwrap(),
            MailParams::default(),
        )
    }
    fn recipients(&self) -> usize {
        self.to.len()
    }
    fn recipient(&self, i: usize) -> (Mailbox<'_>, RcptParams<'_>) {
        (Mailbox::parse(&self.to[i]).unwrap(), RcptParams::default())
    }
    fn size(&self) -> u64 {
        self.body.len() as u64
    }
    fn eight_bit(&self) -> bool {
        false
    }
    fn utf8(&self) -> bool {
        false
    }
}

struct Letters(Vec<Letter>);

impl Envelopes for Letters {
    type Envelope<'a> = &'a Letter;
    fn envelope(&self, txn: TransactionId) -> Option<&Letter> {
        self.0.get(txn.0 as usize)
    }
}

/// Sender, recipient → body.
type Mail = BTreeMap<(String, String), Vec<u8>>;

/// The client, its letters, and what it thinks was delivered.
struct Sender {
    session: client::Session,
    letters: Letters,
    next: u32,
    /// What each recipient of each letter was told.
    told: Vec<Vec<Option<Outcome>>>,
    finished: usize,
    closed: bool,
}

impl Sender {
    /// Polls to quiet; what goes on the wire.
    fn poll(&mut self, wire: &mut Vec<u8>) {
        let mut out = [0; 2048];
        loop {
            if self.session.can_begin() && (self.next as usize) < self.letters.0.len() {
                self.session.begin(TransactionId(self.next)).unwrap();
                self.next += 1;
            }
            match self.session.poll(Instant::ZERO, &self.letters, &mut out) {
                client::Output::Send(n) => wire.extend_from_slice(&out[..n]),
                client::Output::SendBody { txn, framing } => {
                    let body = &self.letters.0[txn.0 as usize].body;
                    match framing {
                        Framing::Bdat => wire.extend_from_slice(body),
                        Framing::Dot => {
                            let mut stuffer = Stuffer::new();
                            for chunk in stuffer.walk(body) {
                                wire.extend_from_slice(chunk.bytes());
                            }
                            wire.extend_from_slice(stuffer.terminator());
                        }
                    }
                    let sent = client::Input::BodySent(txn);
                    self.session.handle(Instant::ZERO, sent).unwrap();
                }
                client::Output::Event(event) => self.note(event),
                client::Output::Wait(_) => return,
                client::Output::Close => {
                    self.closed = true;
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Recipient {
                txn,
                index,
                outcome,
            } => {
                let slot = &mut self.told[txn.0 as usize][index];
                assert_eq!(slot.replace(outcome), None);
            }
            Event::Message { txn, outcome } => {
                let told = &mut self.told[txn.0 as usize];
                told.iter_mut()
                    .filter(|slot| slot.is_none())
                    .for_each(|slot| {
                        *slot = Some(outcome);
                    });
            }
            Event::Finished { .. } => {
                self.finished += 1;
                if self.finished == self.letters.0.len() {
                    self.session.quit();
                }
            }
            Event::Ready(_) => {}
            Event::Broken { failure } => panic!("{failure:?}: {:?}", self.session.reply()),
        }
    }

    fn hear(&mut self, mut bytes: &[u8], wire: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let received = client::Input::Received(bytes);
            let taken = self.session.handle(Instant::ZERO, received).unwrap();
            bytes = &bytes[taken..];
            self.poll(wire);
        }
    }
}

/// The server with the mail that it stored.
struct Receiver {
    session: server::Session,
    lmtp: bool,
    stored: Mail,
    from: String,
    to: Vec<String>,
    body: Vec<u8>,
}

impl Receiver {
    /// Takes what it can of `input`; what goes on the wire.
    fn poll(&mut self, input: &mut Vec<u8>, wire: &mut Vec<u8>) {
        let mut out = [0; 512];
        loop {
            let taken;
            let mut answer = None;
            {
                let (consumed, output) = self.session.poll(Instant::ZERO, input, &mut out);
                taken = consumed;
                match output {
                    server::Output::Send(n) => wire.extend_from_slice(&out[..n]),
                    server::Output::Event(event) => {
                        answer = answer_to(
                            event,
                            self.lmtp,
                            &mut self.stored,
                            &mut self.from,
                            &mut self.to,
                            &mut self.body,
                        );
                    }
                    server::Output::Wait(_) | server::Output::Close => {
                        input.drain(..taken);
                        return;
                    }
                    server::Output::StartTls => panic!("not offered"),
                }
            }
            input.drain(..taken);
            if let Some(answer) = answer {
                self.session.handle(Instant::ZERO, answer).unwrap();
            }
        }
    }
}

fn refusal(code: u16) -> server::Input<'static> {
    let class = if code < 500 { 4 } else { 5 };
    let enhanced = Some(EnhancedCode::new(class, 7, 1));
    server::Input::Refuse(Reply::new(ReplyCode::new(code).unwrap(), enhanced, b"no"))
}

fn answer_to(
    event: server::Event<'_>,
    lmtp: bool,
    stored: &mut Mail,
    from: &mut String,
    to: &mut Vec<String>,
    body: &mut Vec<u8>,
) -> Option<server::Input<'static>> {
    let accept = Some(server::Input::Accept);
    match event {
        server::Event::Hello { .. } => accept,
        server::Event::Mail(path, _) => {
            *from = path.mailbox().unwrap().to_string();
            to.clear();
            body.clear();
            if from.starts_with("bad") {
                Some(refusal(550))
            } else {
                accept
            }
        }
        server::Event::Rcpt(mailbox, _) => match mailbox.to_string() {
            text if text.starts_with("no") => Some(refusal(550)),
            text if text.starts_with("later") => Some(refusal(450)),
            text => {
                to.push(text);
                accept
            }
        },
        server::Event::Body(octets) => {
            body.extend_from_slice(octets);
            None
        }
        server::Event::BodyEnd { recipient, .. } => {
            if body.starts_with(b"refuse") {
                return Some(refusal(554));
            }
            let taken = if lmtp {
                &to[recipient as usize..=recipient as usize]
            } else {
                &to[..]
            };
            for to in taken {
                let before = stored.insert((from.clone(), to.clone()), body.clone());
                assert_eq!(before, None, "stored twice");
            }
            accept
        }
        _ => None,
    }
}

fn a_letter(number: usize) -> impl Strategy<Value = Letter> {
    let recipient = prop_oneof![4 => Just("ok"), 1 => Just("no"), 1 => Just("later")];
    let line = prop_oneof![Just(""), Just("."), Just(".."), Just("text"), Just(".QUIT")];
    (
        prop::bool::weighted(0.1),
        prop::collection::vec(recipient, 1..8),
        prop::bool::weighted(0.1),
        prop::collection::vec(line, 0..20),
    )
        .prop_map(move |(bad, to, refused, lines)| {
            let sender = if bad { "bad" } else { "s" };
            let first = if refused { "refuse" } else { "take" };
            let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let to = to.iter().enumerate();
            Letter {
                from: format!("{sender}{number}@example.org"),
                to: to
                    .map(|(i, kind)| format!("{kind}{i}@example.net"))
                    .collect(),
                body: format!("{first}\r\n{lines}").into_bytes(),
            }
        })
}

fn letters() -> impl Strategy<Value = Vec<Letter>> {
    (
        a_letter(0),
        a_letter(1),
        a_letter(2),
        a_letter(3),
        1..5_usize,
    )
        .prop_map(|(a, b, c, d, n)| {
            let mut all = vec![a, b, c, d];
            all.truncate(n);
            all
        })
}

/// Moves at most `most` bytes from one end of a wire to the other.
fn carry(wire: &mut Vec<u8>, most: usize) -> Vec<u8> {
    let rest = wire.split_off(most.min(wire.len()));
    std::mem::replace(wire, rest)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn delivered_is_stored(
        letters in letters(),
        pipelining in any::<bool>(),
        chunking in any::<bool>(),
        lmtp in any::<bool>(),
        ahead in prop_oneof![Just(0), Just(u64::MAX)],
        recipients in prop_oneof![Just(3), Just(100)],
        cuts in prop::collection::vec(1..200_usize, 1..30),
    ) {
        let mut offers = server::Options::new("mx.example").unwrap();
        offers.lmtp = lmtp;
        offers.limits.recipients = recipients;
        let mut options = client::Options::new(EhloName::new("out.example").unwrap());
        options.lmtp = lmtp;
        options.pipelining = pipelining;
        options.chunking = chunking;
        options.body_ahead_bytes_max = ahead;
        let mut sender = Sender {
            session: client::Session::new(Instant::ZERO, options),
            told: letters.iter().map(|letter| vec![None; letter.to.len()]).collect(),
            letters: Letters(letters),
            next: 0,
            finished: 0,
            closed: false,
        };
        let mut receiver = Receiver {
            session: server::Session::new(Instant::ZERO, offers),
            lmtp,
            stored: Mail::new(),
            from: String::new(),
            to: Vec::new(),
            body: Vec::new(),
        };
        let (mut up, mut down, mut input) = (Vec::new(), Vec::new(), Vec::new());
        sender.poll(&mut up);
        let mut cuts = cuts.iter().copied().cycle();
        while !sender.closed {
            input.extend(carry(&mut up, cuts.next().unwrap()));
            receiver.poll(&mut input, &mut down);
            prop_assert!(!(up.is_empty() && down.is_empty()), "both wait");
            let heard = carry(&mut down, cuts.next().unwrap());
            sender.hear(&heard, &mut up);
        }
        let mut delivered = Mail::new();
        for (letter, told) in sender.letters.0.iter().zip(&sender.told) {
            for (to, outcome) in letter.to.iter().zip(told) {
                let outcome = outcome.expect("an outcome for each");
                if let Outcome::Delivered { .. } = outcome {
                    delivered.insert((letter.from.clone(), to.clone()), letter.body.clone());
                }
                prop_assert!(outcome != Outcome::Postponed || recipients == 3);
            }
        }
        prop_assert_eq!(delivered, receiver.stored);
    }
}
