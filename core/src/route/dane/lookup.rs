//! Where the TLSA records of a host are (RFC 7672 2.2.2, 2.2.3).
//!
//! ```text
//!  MX or addresses not secure, no host name ───────────────────────▶ None
//!  _25._tcp.canonical TLSA ──┬─ secure records ────────────────────▶ Found
//!         ▲                  ├─ failed (bogus, SERVFAIL, silence) ─▶ Defer
//!         │                  └─ none, or not secure ─▶ the same for the name itself ─▶ None
//!  where the CNAMEs of its addresses end
//! ```
//!
//! A failure defers, whatever the other name would have: who could make that question fail could
//! switch DANE off otherwise (RFC 7672 2.1.2).

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

use crate::auth::Step;
use crate::dns::{Answer, Failure, Name, Outcome, Question, Records, Tlsa};
use crate::route::plan::PlanHost;

/// What the TLSA lookup of a host comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tlsas {
    /// DANE doesn't apply.
    None(NoDane),
    /// DNSSEC-secure records.
    Found {
        /// The TLSA base domain: the name that they are under, without `_25._tcp` (RFC 6698 3).
        base: Name,
        /// The records; never empty.
        records: Box<[Tlsa]>,
    },
    /// Nobody knows, so nothing may be delivered to the host now.
    Defer {
        /// The question that failed.
        question: Question,
        /// How.
        failure: Failure,
    },
}

/// Why DANE doesn't apply to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoDane {
    /// DNSSEC doesn't vouch for its MX or its addresses.
    Insecure,
    /// It has no name, only an address.
    NoName,
    /// It has no TLSA records that DNSSEC vouches for.
    NoRecords,
}

impl fmt::Display for NoDane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Insecure => "DNSSEC does not vouch for its MX or address records",
            Self::NoName => "it is an address without a name",
            Self::NoRecords => "it has no TLSA records that DNSSEC vouches for",
        })
    }
}

/// Looks for the TLSA records of one host.
///
/// Order of calls: [`step`](Self::step); for each [`Step::Ask`] one [`answer`](Self::answer), then
/// `step` again, until [`Step::Done`]. Until it is answered, `step` gives the same question again. It
/// is no [`Evaluate`](crate::auth::Evaluate), because it has to know whether an answer is secure.
///
/// At most two questions, which the resolver's cache answers while their TTL lasts: run it for each
/// connection.
#[derive(Clone, Debug)]
pub struct TlsaLookup {
    /// Names to look under, with their questions.
    candidates: VecDeque<(Name, Question)>,
    result: Option<Tlsas>,
}

impl TlsaLookup {
    /// For a host of a plan.
    pub fn new(host: &PlanHost) -> Self {
        let ended = |why| Self {
            candidates: VecDeque::new(),
            result: Some(Tlsas::None(why)),
        };
        let name = match (&host.canonical, Name::parse(&host.name)) {
            (Some(_), Ok(name)) if name.is_hostname() => name,
            _ => return ended(NoDane::NoName),
        };
        if !host.secure {
            return ended(NoDane::Insecure);
        }
        let mut names: Vec<Name> = host.canonical.iter().cloned().collect();
        if !names.contains(&name) {
            names.push(name);
        }
        let candidates = names.into_iter().filter_map(|name| {
            // A name that is too long for it can't have such records.
            let question = Question::tlsa(host.port, &name).ok()?;
            Some((name, question))
        });
        Self {
            candidates: candidates.collect(),
            result: None,
        }
    }

    /// What it wants next.
    pub fn step(&self) -> Step<Tlsas> {
        match (&self.result, self.candidates.front()) {
            (Some(result), _) => Step::Done(result.clone()),
            (None, Some((_, question))) => Step::Ask(question.clone()),
            (None, None) => Step::Done(Tlsas::None(NoDane::NoRecords)),
        }
    }

    /// What came of the question that [`step`](Self::step) gave last. Without such a question it
    /// does nothing.
    pub fn answer(&mut self, answer: &Answer) {
        if self.result.is_some() {
            return;
        }
        let Some((base, question)) = self.candidates.pop_front() else {
            return;
        };
        match &answer.outcome {
            Outcome::Found(Records::Tlsa(records)) if answer.secure && !records.is_empty() => {
                let records = records.clone();
                self.result = Some(Tlsas::Found { base, records });
            }
            Outcome::Failed(failure) => {
                let failure = *failure;
                self.result = Some(Tlsas::Defer { question, failure });
            }
            _ => {}
        }
    }
}

/// Names of which a certificate must have one, for usage 2: the TLSA base domain, and the domain
/// that the mail is for or that its route names (RFC 7672 3.2.2).
pub fn reference_names(base: &Name, next_hop: &Name) -> Vec<Name> {
    let mut names = Vec::from([base.clone()]);
    if next_hop != base && !next_hop.is_root() {
        names.push(next_hop.clone());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;
    use alloc::string::ToString;

    fn host(name: &str, canonical: Option<&str>, secure: bool) -> PlanHost {
        PlanHost {
            name: name.into(),
            canonical: canonical.map(|name| Name::parse(name).unwrap()),
            preference: 10,
            port: 25,
            addresses: Vec::from([[192, 0, 2, 1].into()]),
            secure,
        }
    }

    fn records() -> Box<[Tlsa]> {
        [Tlsa::parse("3 1 1 00").unwrap()].into()
    }

    fn answer(outcome: Outcome, secure: bool) -> Answer {
        Answer {
            outcome,
            // An alias of the TLSA name itself changes nothing.
            canonical: Name::parse("elsewhere.example").unwrap(),
            secure,
            expires: Instant::ZERO,
        }
    }

    /// Asks under these names, of which each is answered, and comes to this.
    fn run(host: &PlanHost, answers: &[(&str, Answer)]) -> Tlsas {
        let mut lookup = TlsaLookup::new(host);
        for (name, answer) in answers {
            let Step::Ask(question) = lookup.step() else {
                panic!("{name} is not asked");
            };
            assert_eq!(question.to_string(), alloc::format!("{name} TLSA"));
            assert_eq!(lookup.step(), Step::Ask(question));
            lookup.answer(answer);
        }
        let Step::Done(result) = lookup.step() else {
            panic!("asks more than {answers:?}");
        };
        // What comes late changes nothing.
        lookup.answer(&answer(Outcome::Found(Records::Tlsa(records())), true));
        assert_eq!(lookup.step(), Step::Done(result.clone()));
        result
    }

    #[test]
    fn the_canonical_name_first() {
        let found = |secure| answer(Outcome::Found(Records::Tlsa(records())), secure);
        let (alias, own) = ("_25._tcp.host.example", "_25._tcp.mx.example");
        let host = host("MX.example", Some("host.example"), true);
        let at = |base| Tlsas::Found {
            base: Name::parse(base).unwrap(),
            records: records(),
        };
        let none = Tlsas::None(NoDane::NoRecords);
        assert_eq!(run(&host, &[(alias, found(true))]), at("host.example"));
        for nothing in [
            answer(Outcome::NoData, true),
            answer(Outcome::NoName, true),
            answer(Outcome::NoName, false),
            found(false),
        ] {
            let both = |second| run(&host, &[(alias, nothing.clone()), (own, second)]);
            assert_eq!(both(found(true)), at("mx.example"));
            assert_eq!(both(found(false)), none);
            assert_eq!(both(answer(Outcome::NoData, true)), none);
        }
        let failed = answer(Outcome::Failed(Failure::ServerFailure), false);
        for answers in [
            &[(alias, failed.clone())][..],
            &[(alias, answer(Outcome::NoData, true)), (own, failed)],
        ] {
            let Tlsas::Defer { question, failure } = run(&host, answers) else {
                panic!("not deferred");
            };
            assert_eq!(failure, Failure::ServerFailure);
            assert_eq!(question.name.as_str(), answers[answers.len() - 1].0);
        }
    }

    #[test]
    fn where_nothing_is_asked() {
        let insecure = host("mx.example", Some("mx.example"), false);
        assert_eq!(run(&insecure, &[]), Tlsas::None(NoDane::Insecure));
        let literal = host("[192.0.2.1]", None, true);
        assert_eq!(run(&literal, &[]), Tlsas::None(NoDane::NoName));
        // `_25._tcp.` doesn't fit before it.
        let long = "abcdefg.".repeat(31) + "abcde";
        let long = host(&long, Some(&long), true);
        assert_eq!(run(&long, &[]), Tlsas::None(NoDane::NoRecords));
        // Without an alias it is one question, at the port of the host.
        let mut smart = host("mx.example", Some("mx.example"), true);
        smart.port = 587;
        let nothing = answer(Outcome::NoData, true);
        let result = run(&smart, &[("_587._tcp.mx.example", nothing)]);
        assert_eq!(result, Tlsas::None(NoDane::NoRecords));
    }

    #[test]
    fn names_of_certificates() {
        let name = |text| Name::parse(text).unwrap();
        let names = reference_names(&name("mx.example"), &name("example"));
        assert_eq!(names, [name("mx.example"), name("example")]);
        assert_eq!(reference_names(&name("a"), &name("a")), [name("a")]);
        assert_eq!(reference_names(&name("a"), &Name::root()), [name("a")]);
    }
}
