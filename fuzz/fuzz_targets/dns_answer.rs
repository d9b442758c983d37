//! Any datagram as the answer to any question: never panics, and what is accepted is of the
//! asked kind.
#![no_main]

use courser_core::dns::query::parse_answer;
use courser_core::dns::{Kind, Name, Outcome, Question, Records};
use courser_core::time::Instant;
use libfuzzer_sys::fuzz_target;

const KINDS: [Kind; 6] = [
    Kind::A,
    Kind::Aaaa,
    Kind::Mx,
    Kind::Txt,
    Kind::Ptr,
    Kind::Tlsa,
];

fuzz_target!(|input: (u8, &[u8])| {
    let (kind, bytes) = input;
    let kind = KINDS[usize::from(kind) % KINDS.len()];
    let question = Question::new(Name::parse("a.example").expect("a name"), kind);
    // As it came, and behind a head that fits the question.
    let mut fitting = vec![0, 7, 0x81, 0x80, 0, 1, 0, 9, 0, 3, 0, 1];
    fitting.extend(b"\x01a\x07example\x00\x00");
    fitting.extend([
        match kind {
            Kind::A => 1,
            Kind::Aaaa => 28,
            Kind::Mx => 15,
            Kind::Txt => 16,
            Kind::Ptr => 12,
            _ => 52,
        },
        0,
        1,
    ]);
    fitting.extend(bytes);
    for message in [bytes, &fitting] {
        let Some(answer) = parse_answer(Instant::ZERO, &question, message) else {
            continue;
        };
        match (kind, answer.outcome) {
            (Kind::A, Outcome::Found(Records::A(_)))
            | (Kind::Aaaa, Outcome::Found(Records::Aaaa(_)))
            | (Kind::Mx, Outcome::Found(Records::Mx(_)))
            | (Kind::Txt, Outcome::Found(Records::Txt(_)))
            | (Kind::Ptr, Outcome::Found(Records::Ptr(_)))
            | (Kind::Tlsa, Outcome::Found(Records::Tlsa(_)))
            | (_, Outcome::NoData | Outcome::NoName) => {}
            (kind, other) => panic!("{kind}: {other:?}"),
        }
    }
});
