//! Whatever the peer does: each recipient has one outcome, and the session ends.

use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::harness::{Letter, Letters, Run, assert_accounted, options};
use super::*;

/// One thing that happens to a session.
#[derive(Clone, Debug)]
enum Step {
    Bytes(Vec<u8>),
    Reply(String),
    Begin(Letter),
    BodySent,
    Progress,
    Tls(bool),
    Deadline,
    Later(u16),
    OutBytes(usize),
    Quit,
    Closed,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Letter to {}, utf8 {}, {}",
            self.to.len(),
            self.utf8,
            self.size
        )
    }
}

fn a_reply() -> impl Strategy<Value = String> {
    let code = prop_oneof![
        12 => Just("250"), 4 => Just("354"), 2 => Just("550"), 1 => Just("450"),
        1 => Just("220"), 1 => Just("421"), 1 => Just("503"), 1 => Just("500"),
    ];
    let text = prop_oneof![
        Just(""),
        Just(" ok"),
        Just(" 4.5.3 many"),
        Just("-PIPELINING"),
        Just("-CHUNKING"),
    ];
    (code, text, 1..4_usize).prop_map(|(code, text, lines)| {
        let mut reply = String::new();
        for _ in 1..lines {
            reply += &format!("{code}-{}\r\n", text.trim_start_matches(['-', ' ']));
        }
        reply + &format!("{code}{}\r\n", text.replace('-', " "))
    })
}

fn a_letter() -> impl Strategy<Value = Letter> {
    let recipients = prop_oneof![8 => 0..5_usize, 1 => 1000..1030_usize];
    let size = prop_oneof![Just(0), Just(100), Just(1_u64 << 30)];
    (recipients, prop::bool::weighted(0.1), size).prop_map(|(n, utf8, size)| Letter {
        utf8,
        size,
        ..Letter::to(n)
    })
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => a_reply().prop_map(Step::Reply),
        8 => a_letter().prop_map(Step::Begin),
        4 => Just(Step::BodySent),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Bytes),
        1 => Just(Step::Progress),
        1 => any::<bool>().prop_map(Step::Tls),
        1 => Just(Step::Deadline),
        1 => any::<u16>().prop_map(Step::Later),
        1 => (512..3000_usize).prop_map(Step::OutBytes),
        1 => Just(Step::Quit),
        1 => Just(Step::Closed),
    ]
}

fn any_options() -> impl Strategy<Value = Options> {
    let tls = prop_oneof![6 => Just(TlsMode::Off), 1 => Just(TlsMode::Opportunistic),
        1 => Just(TlsMode::Required)];
    (tls, any::<bool>(), any::<bool>(), prop::bool::weighted(0.2)).prop_map(
        |(tls, pipelining, chunking, lmtp)| Options {
            tls,
            pipelining,
            chunking,
            lmtp,
            ..options()
        },
    )
}

fn an_ehlo() -> impl Strategy<Value = String> {
    const KEYWORDS: &[&str] = &[
        "PIPELINING",
        "CHUNKING",
        "SIZE 1000",
        "STARTTLS",
        "SMTPUTF8",
        "LIMITS RCPTMAX=2 MAILMAX=3",
    ];
    prop::sample::subsequence(KEYWORDS, 0..=KEYWORDS.len()).prop_map(|keywords| {
        let lines: String = keywords.iter().map(|k| format!("250-{k}\r\n")).collect();
        format!("250-mx\r\n{lines}250 HELP\r\n")
    })
}

/// A run and the ids of the bodies that are on their way.
struct World {
    run: Run,
    bodies: usize,
}

impl World {
    fn apply(&mut self, step: &Step) {
        let run = &mut self.run;
        match step {
            Step::Bytes(bytes) => drop(run.hear_bytes(bytes)),
            Step::Reply(reply) => drop(run.hear(reply)),
            Step::Begin(letter) if run.session.can_begin() => drop(run.begin(letter.clone())),
            Step::Begin(_) => {}
            Step::BodySent => self.body_sent(),
            Step::Progress => drop(run.tell(Input::BodyProgress)),
            Step::Tls(established) => {
                let input = if *established {
                    Input::TlsEstablished
                } else {
                    Input::TlsFailed
                };
                let _ = run.session.handle(run.now, input);
                run.drain();
            }
            Step::Deadline => drop(run.time_out()),
            Step::Later(s) => run.now = run.now + core::time::Duration::from_secs(u64::from(*s)),
            Step::OutBytes(n) => run.out = std::vec![0; *n],
            Step::Quit => drop(run.quit()),
            Step::Closed => drop(run.tell(Input::Closed)),
        }
    }

    /// Tells of the next body that was asked for.
    fn body_sent(&mut self) {
        let asked = self
            .run
            .lines
            .iter()
            .filter(|line| line.starts_with("> (body"));
        let Some(line) = asked.clone().nth(self.bodies) else {
            return;
        };
        self.bodies += 1;
        let id: u32 = line.split(' ').nth(2).unwrap().parse().unwrap();
        let sent = Input::BodySent(TransactionId(id));
        let _ = self.run.session.handle(self.run.now, sent);
        self.run.drain();
    }
}

/// Nothing is waited for without a deadline while something is in flight.
fn assert_awake(run: &mut Run) {
    let idle = run.poll() == Output::Wait(None);
    assert!(
        !idle || run.session.state() == State::Idle,
        "{:?}",
        run.session.state()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn exactly_one_outcome(
        options in any_options(),
        ehlo in an_ehlo(),
        greet in prop::bool::weighted(0.9),
        steps in prop::collection::vec(a_step(), 0..60),
    ) {
        let mut world = World { run: Run::new(options), bodies: 0 };
        world.run.prompt = false;
        world.run.drain();
        if greet {
            world.run.hear("220 mx\r\n");
            world.run.hear(&ehlo);
        }
        for step in &steps {
            world.apply(step);
            assert_awake(&mut world.run);
        }
        world.apply(&Step::Closed);
        prop_assert_eq!(world.run.poll(), Output::Close);
        assert_accounted(&world.run.letters, &world.run.events);
    }

    /// Deadlines alone bring every session to its end.
    #[test]
    fn deadlines_end_it(
        ehlo in an_ehlo(),
        steps in prop::collection::vec(a_step(), 0..20),
    ) {
        let mut world = World { run: Run::new(options()), bodies: 0 };
        world.run.prompt = false;
        world.run.hear("220 mx\r\n");
        world.run.hear(&ehlo);
        for step in &steps {
            world.apply(step);
        }
        world.run.quit();
        for _ in 0..10 {
            world.run.time_out();
        }
        prop_assert_eq!(world.run.poll(), Output::Close);
        assert_accounted(&world.run.letters, &world.run.events);
    }

    /// How the network cuts a reply changes nothing. (Where the next one begins does: one that
    /// comes before its command went out was never asked for.)
    #[test]
    fn cuts_change_nothing(
        ehlo in an_ehlo(),
        letters in prop::collection::vec(a_letter(), 1..3),
        replies in prop::collection::vec(a_reply(), 0..30),
        sizes in prop::collection::vec(1..9_usize, 1..20),
    ) {
        let mut whole = Run::new(options());
        whole.hear("220 mx\r\n");
        whole.hear(&ehlo);
        for letter in letters {
            if whole.session.can_begin() {
                whole.begin(letter);
            }
        }
        let mut cut = whole.clone();
        let mut sizes = sizes.iter().cycle();
        for reply in &replies {
            whole.hear(reply);
            let mut rest = reply.as_bytes();
            while !rest.is_empty() {
                let (head, tail) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                cut.hear_bytes(head);
                rest = tail;
            }
        }
        prop_assert_eq!(whole.events, cut.events);
        prop_assert_eq!(whole.lines, cut.lines);
    }
}

#[test]
fn the_checker_can_fail() {
    let letters = Letters(std::vec![Letter::to(1)]);
    let told = std::panic::catch_unwind(|| assert_accounted(&letters, &[]));
    assert!(told.is_err());
}
