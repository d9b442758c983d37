//! Whatever a peer sends, however it is cut and whenever it leaves, each recipient of each
//! transaction has exactly one outcome, nothing counts as delivered whose body was not asked for,
//! nobody waits without a deadline, and the session ends.
#![no_main]

use courser_core::mail::address::{Mailbox, ReversePath};
use courser_core::smtp::client::{
    Auth, EhloName, Envelope, Envelopes, Event, Input, Misuse, Options, Outcome, Output,
    Session, State, TlsMode, TransactionId,
};
use courser_core::smtp::command::{MailParams, RcptParams};
use courser_core::smtp::extension::AuthMechanisms;
use courser_core::time::{Duration, Instant};
use libfuzzer_sys::fuzz_target;

/// How many recipients each transaction has, by its number.
struct Letters(Vec<usize>);
struct Letter(usize);

impl Envelope for Letter {
    fn mail(&self) -> (ReversePath<'_>, MailParams<'_>) {
        (ReversePath::Null, MailParams::default())
    }
    fn recipients(&self) -> usize {
        self.0
    }
    fn recipient(&self, _: usize) -> (Mailbox<'_>, RcptParams<'_>) {
        (
            Mailbox::parse("a@example.net").unwrap(),
            RcptParams::default(),
        )
    }
    fn size(&self) -> u64 {
        3
    }
    fn eight_bit(&self) -> bool {
        false
    }
    fn utf8(&self) -> bool {
        false
    }
}

impl Envelopes for Letters {
    type Envelope<'a> = Letter;
    fn envelope(&self, txn: TransactionId) -> Option<Letter> {
        self.0.get(txn.0 as usize).copied().map(Letter)
    }
}

/// Deadlines until a session that hears nothing more must be over.
const DEADLINES_MAX: usize = 12;

/// A session, and what it told of each transaction: outcomes by recipient, whether one spoke for
/// all, whether it is finished.
struct World {
    session: Session,
    letters: Letters,
    now: Instant,
    told: Vec<(Vec<u8>, bool, bool)>,
    going: Vec<TransactionId>,
    /// Transactions whose bodies were asked for.
    bodies: Vec<TransactionId>,
    wire: Vec<u8>,
    events: Vec<String>,
    deadline: Option<Instant>,
    over: bool,
    /// Bytes of the peer that are handed in at once.
    cut: usize,
    /// Whether they come with time between them, so that it is polled after each.
    apart: bool,
}

impl World {
    fn drain(&mut self) {
        let mut out = [0; 2048];
        for _ in 0..100_000 {
            match self.session.poll(self.now, &self.letters, &mut out) {
                Output::Wait(deadline) => {
                    // Nothing is waited for without a deadline while something is in flight.
                    assert!(deadline.is_some() || self.session.state() == State::Idle);
                    self.deadline = deadline;
                    return;
                }
                Output::Close => {
                    self.over = true;
                    return;
                }
                Output::Send(n) => {
                    assert!(n > 0 && n <= out.len());
                    self.wire.extend_from_slice(&out[..n]);
                }
                Output::SendBody { txn, .. } => {
                    self.going.push(txn);
                    self.bodies.push(txn);
                }
                Output::StartTls => {}
                Output::SendAuth(mechanism) => {
                    assert!(self.session.challenge().is_none_or(|text| text.len() < 1024));
                    self.events.push(format!("{mechanism} {:?}", self.session.challenge()));
                    let input = match self.session.challenge() {
                        Some(b"") => Input::AuthFailed,
                        challenge => Input::AuthSent {
                            complete: challenge.is_some(),
                        },
                    };
                    self.session.handle(self.now, input).unwrap();
                }
                Output::BufferTooSmall => panic!("OUT_BYTES_MIN was given"),
                Output::Event(event) => self.note(event),
            }
        }
        panic!("polls without end");
    }

    fn note(&mut self, event: Event) {
        self.events.push(format!("{event:?}"));
        if let Event::Recipient { txn, outcome: Outcome::Delivered { .. }, .. }
        | Event::Message { txn, outcome: Outcome::Delivered { .. }, .. } = event
        {
            assert!(self.bodies.contains(&txn), "delivered without its body");
        }
        match event {
            Event::Recipient { txn, index, .. } => {
                let (told, spoken, finished) = &mut self.told[txn.0 as usize];
                assert!(!*spoken && !*finished && told[index] == 0);
                told[index] = 1;
            }
            Event::Message { txn, .. } => {
                let (_, spoken, finished) = &mut self.told[txn.0 as usize];
                assert!(!*spoken && !*finished);
                *spoken = true;
            }
            Event::Finished { txn } => {
                let (told, spoken, finished) = &mut self.told[txn.0 as usize];
                assert!(!*finished && (*spoken || told.iter().all(|&n| n == 1)));
                *finished = true;
            }
            Event::Ready(_) | Event::Broken { .. } => {}
        }
    }

    fn step(&mut self, kind: u8, bytes: &[u8]) {
        match kind % 16 {
            0 if self.session.can_begin() => {
                let recipients = bytes.len() * 37 % 1100;
                let id = TransactionId(self.told.len() as u32);
                self.letters.0.push(recipients);
                self.told.push((vec![0; recipients], false, false));
                self.session.begin(id).unwrap();
            }
            1 if !self.going.is_empty() => {
                let txn = self.going.remove(0);
                let _ = self.session.handle(self.now, Input::BodySent(txn));
            }
            2 => self.session.quit(),
            3 => {
                self.now = self.now + Duration::from_secs(1 << (bytes.len() % 12));
                self.session
                    .handle(self.now, Input::DeadlinePassed)
                    .unwrap();
            }
            4 => drop(self.session.handle(self.now, Input::TlsEstablished)),
            5 => drop(self.session.handle(self.now, Input::TlsFailed)),
            6 => drop(self.session.handle(self.now, Input::Closed)),
            _ => {
                for piece in bytes.chunks(self.cut) {
                    let mut rest = piece;
                    while !rest.is_empty() {
                        match self.session.handle(self.now, Input::Received(rest)) {
                            Ok(taken) => rest = &rest[taken..],
                            Err(misuse) => {
                                assert_eq!(misuse, Misuse::PollFirst);
                                self.drain();
                            }
                        }
                        if self.apart {
                            self.drain();
                        }
                    }
                }
            }
        }
        self.drain();
    }
}

type Steps = (u8, Vec<(u8, Vec<u8>)>);

fn play((flags, steps): &Steps, cut: usize, apart: bool) -> World {
    let mut options = Options::new(EhloName::new("a.example").unwrap());
    options.lmtp = flags & 1 != 0;
    options.pipelining = flags & 2 == 0;
    options.chunking = flags & 4 == 0;
    if flags & 8 != 0 {
        options.tls = TlsMode::Opportunistic;
    }
    if flags & 64 != 0 {
        options.auth = Some(Auth {
            mechanisms: AuthMechanisms {
                plain: true,
                login: true,
                scram_sha_256: true,
                scram_sha_256_plus: true,
                ..AuthMechanisms::default()
            },
            without_tls: flags & 128 != 0,
        });
    }
    let mut world = World {
        session: Session::new(Instant::ZERO, options),
        letters: Letters(Vec::new()),
        now: Instant::ZERO,
        told: Vec::new(),
        going: Vec::new(),
        bodies: Vec::new(),
        wire: Vec::new(),
        events: Vec::new(),
        deadline: None,
        over: false,
        cut,
        apart,
    };
    world.drain();
    if flags & 16 == 0 {
        world.step(7, b"220 mx\r\n");
        world.step(7, b"250-mx\r\n250-PIPELINING\r\n250-AUTH PLAIN\r\n250 CHUNKING\r\n");
    }
    for (kind, bytes) in steps {
        world.step(*kind, bytes);
    }
    if flags & 32 == 0 {
        world.step(6, b"");
    } else {
        // Deadlines alone bring it to its end.
        world.session.quit();
        world.drain();
        for _ in 0..DEADLINES_MAX {
            if world.over {
                break;
            }
            world.now = world.deadline.expect("a deadline").max(world.now);
            world.session.handle(world.now, Input::DeadlinePassed).unwrap();
            world.drain();
        }
        assert!(world.over, "{:?}", world.session.state());
    }
    assert!(world.told.iter().all(|(_, _, finished)| *finished));
    world
}

fuzz_target!(|input: Steps| {
    let whole = play(&input, usize::MAX, false);
    let pieces = play(&input, 1, false);
    assert_eq!(whole.events, pieces.events);
    assert_eq!(whole.wire, pieces.wire);
    // With time between, a peer that talks ahead is read otherwise: its next reply may come after
    // the command that it is for.
    play(&input, 1, true);
});
