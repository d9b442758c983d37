//! Under any records and any answers: no panic, an end within the bound, and a sound report.

use courser_core::auth::{Evaluate, Step, spf};
use courser_core::dns::{Failure, Kind, Mx, Outcome, Question, Records};
use courser_core::limits::SPF_QUESTIONS_MAX;
use courser_core::time::Wall;
use proptest::prelude::*;
use proptest::string::string_regex;

use crate::zone::{name, sound};

fn term() -> impl Strategy<Value = String> {
    let spec = "(%\\{[sdlohipvSDLOHIPV][1-3]?r?[-.+]?\\}\\.)?[a-c]\\.example";
    let regex = |text: &str| string_regex(text).unwrap();
    prop_oneof![
        3 => regex(&format!("[+?~-]?(include|a|mx|exists|ptr):{spec}")),
        1 => regex("[+?~-]?(all|a|mx|ptr)(/[0-9]{1,2})?"),
        1 => regex(&format!("(redirect|exp)={spec}")),
        1 => regex("[+?~-]?ip4:192\\.0\\.2\\.[0-9](/[0-9]{1,2})?"),
        1 => regex("[ -~]{0,9}"),
    ]
}

fn record() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => proptest::collection::vec(term(), 0..8)
            .prop_map(|terms| format!("v=spf1 {}", terms.join(" ")).into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => "[ -~]{0,40}".prop_map(String::into_bytes),
    ]
}

/// An answer of any kind, also one that doesn't fit its question.
fn outcome() -> impl Strategy<Value = Outcome> {
    let host = || {
        (0u8..5).prop_map(|n| {
            name(["a.example", "b.example", "c.example", ".", "x y.z"][usize::from(n)])
        })
    };
    prop_oneof![
        4 => proptest::collection::vec(record(), 1..3)
            .prop_map(|all| Outcome::Found(Records::Txt(all.into_iter().map(Into::into).collect()))),
        2 => proptest::collection::vec((0u8..3, 0u8..9), 1..4).prop_map(|all| {
            Outcome::Found(Records::A(all.into_iter().map(|(c, d)| [192, 0, c, d].into()).collect()))
        }),
        1 => proptest::collection::vec(any::<u128>(), 1..4)
            .prop_map(|all| Outcome::Found(Records::Aaaa(all.into_iter().map(Into::into).collect()))),
        2 => proptest::collection::vec((any::<u16>(), host()), 1..12).prop_map(|all| {
            let mx = |(preference, exchange)| Mx { preference, exchange };
            Outcome::Found(Records::Mx(all.into_iter().map(mx).collect()))
        }),
        2 => proptest::collection::vec(host(), 1..14)
            .prop_map(|all| Outcome::Found(Records::Ptr(all.into()))),
        1 => Just(Outcome::NoData),
        1 => Just(Outcome::NoName),
        1 => Just(Outcome::Failed(Failure::Timeout)),
    ]
}

/// Whether an answer is one that a resolver gives.
fn fits(question: &Question, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Found(Records::Txt(_)) => question.kind == Kind::Txt,
        Outcome::Found(Records::A(_)) => question.kind == Kind::A,
        Outcome::Found(Records::Aaaa(_)) => question.kind == Kind::Aaaa,
        Outcome::Found(Records::Mx(_)) => question.kind == Kind::Mx,
        Outcome::Found(Records::Ptr(_)) => question.kind == Kind::Ptr,
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_world(
        ip in prop_oneof![Just("192.0.2.5"), Just("2001:db8::5"), Just("::ffff:192.0.2.5")],
        mail_from in prop_oneof!["[a-z+-]{0,5}@[abc]\\.example", "\\PC{0,30}", Just(String::new())],
        helo in prop_oneof!["[abc]\\.example", "\\PC{0,30}"],
        outcomes in proptest::collection::vec(outcome(), 1..40),
        strict in any::<bool>(),
    ) {
        let request = spf::Request {
            ip: ip.parse().unwrap(),
            mail_from: &mail_from,
            helo: &helo,
            receiver: None,
            now: Wall::from_unix(0),
            explain: true,
        };
        let mut check = spf::Check::new(&request);
        let mut asked = 0;
        let report = loop {
            match check.step() {
                Step::Done(report) => break report,
                Step::Ask(question) => {
                    // The same until it is answered.
                    prop_assert_eq!(check.step(), Step::Ask(question.clone()));
                    asked += 1;
                    prop_assert!(asked <= SPF_QUESTIONS_MAX);
                    let mut rest = outcomes.iter().cycle().skip(asked).take(outcomes.len());
                    let answer = rest.find(|o| !strict || fits(&question, o));
                    check.answer(answer.unwrap_or(&Outcome::NoData));
                }
            }
        };
        sound(&report);
        // Nothing changes it any more.
        check.answer(&outcomes[0]);
        prop_assert_eq!(check.step(), Step::Done(report));
    }
}
