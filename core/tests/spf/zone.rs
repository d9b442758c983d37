//! A zone written in lines, and checks against it.

use std::collections::BTreeMap;

use courser_core::auth::{Evaluate, spf};
use courser_core::dns::{Failure, Kind, Mx, Name, Outcome, Question, Records};
use courser_core::limits::{SPF_LOOKUPS_MAX, SPF_QUESTIONS_MAX, SPF_VOID_LOOKUPS_MAX};
use courser_core::time::Wall;

/// What `%{t}` gives.
pub(crate) const NOW: i64 = 1_790_000_000;

/// Records by name; an absent name does not exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zone(BTreeMap<Name, Node>);

#[derive(Clone, Debug, Default)]
struct Node {
    a: Vec<std::net::Ipv4Addr>,
    aaaa: Vec<std::net::Ipv6Addr>,
    mx: Vec<Mx>,
    txt: Vec<Box<[u8]>>,
    ptr: Vec<Name>,
    failure: Option<Failure>,
}

pub(crate) fn name(text: &str) -> Name {
    if matches!(text, "" | ".") {
        return Name::root();
    }
    Name::from_bytes(&bytes(text)).expect("a name")
}

impl Zone {
    /// Lines of a name, a type (`A AAAA MX TXT PTR`, or `TIMEOUT`, `SERVFAIL`, `EXISTS`), and data.
    /// `\xNN` in names and in TXT is a byte.
    pub(crate) fn of(lines: &str) -> Self {
        let mut zone = Self::default();
        for line in lines.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (owner, rest) = line.split_once(' ').expect("a name and a type");
            let (kind, data) = rest
                .trim_start()
                .split_once(' ')
                .unwrap_or((rest.trim(), ""));
            zone.add(owner, kind, data);
        }
        zone
    }

    pub(crate) fn add(&mut self, owner: &str, kind: &str, data: &str) {
        let node = self.0.entry(name(owner)).or_default();
        match kind {
            "A" => node.a.push(data.parse().expect("an address")),
            "AAAA" => node.aaaa.push(data.parse().expect("an address")),
            "PTR" => node.ptr.push(name(data)),
            "TXT" => node.txt.push(bytes(data)),
            "MX" => {
                let (preference, host) = data.split_once(' ').expect("preference and host");
                node.mx.push(Mx {
                    preference: preference.parse().expect("a preference"),
                    exchange: name(host),
                });
            }
            "TIMEOUT" => node.failure = Some(Failure::Timeout),
            "SERVFAIL" => node.failure = Some(Failure::ServerFailure),
            "EXISTS" => {}
            other => panic!("{other} is no type"),
        }
    }

    pub(crate) fn answer(&self, question: &Question) -> Outcome {
        fn found<T: Clone>(all: &[T], records: fn(Box<[T]>) -> Records) -> Outcome {
            if all.is_empty() {
                Outcome::NoData
            } else {
                Outcome::Found(records(all.into()))
            }
        }
        let Some(node) = self.0.get(&question.name) else {
            return Outcome::NoName;
        };
        let outcome = match question.kind {
            Kind::A => found(&node.a, Records::A),
            Kind::Aaaa => found(&node.aaaa, Records::Aaaa),
            Kind::Mx => found(&node.mx, Records::Mx),
            Kind::Txt => found(&node.txt, Records::Txt),
            Kind::Ptr => found(&node.ptr, Records::Ptr),
            _ => Outcome::NoData,
        };
        // What is there is answered even by a zone that fails otherwise.
        match (outcome, node.failure) {
            (Outcome::NoData, Some(failure)) => Outcome::Failed(failure),
            (outcome, _) => outcome,
        }
    }

    pub(crate) fn check(&self, ip: &str, mail_from: &str, helo: &str) -> spf::Report {
        let request = spf::Request {
            ip: ip.parse().expect("an address"),
            mail_from,
            helo,
            receiver: None,
            now: Wall::from_unix(NOW),
            explain: true,
        };
        self.run(&request)
    }

    /// Runs a check, and looks after what holds of every one.
    pub(crate) fn run(&self, request: &spf::Request<'_>) -> spf::Report {
        let mut asked = 0;
        let report = spf::Check::new(request).run(|question| {
            asked += 1;
            self.answer(question)
        });
        assert!(asked <= SPF_QUESTIONS_MAX, "{asked} questions");
        sound(&report);
        report
    }
}

/// What holds of every report.
pub(crate) fn sound(report: &spf::Report) {
    use spf::Result::{Fail, None, PermError, TempError};
    assert!(report.lookups <= SPF_LOOKUPS_MAX + 1, "{report:?}");
    assert!(
        report.void_lookups <= SPF_VOID_LOOKUPS_MAX + 1,
        "{report:?}"
    );
    let broken = matches!(report.result, TempError | PermError);
    assert!(!broken || report.error.is_some(), "{report:?}");
    assert!(
        report.error.is_none() || broken || report.result == None,
        "{report:?}"
    );
    assert!(
        report.mechanism.is_none() || !(broken || report.result == None),
        "{report:?}"
    );
    assert!(
        report.explanation.is_none() || report.result == Fail,
        "{report:?}"
    );
    assert!(
        report.result != Fail || report.mechanism.is_some(),
        "{report:?}"
    );
    if let Some(error) = &report.error {
        assert!(!error.to_string().is_empty());
    }
}

fn bytes(text: &str) -> Box<[u8]> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("\\x") {
        out.extend_from_slice(before.as_bytes());
        out.push(u8::from_str_radix(&behind[..2], 16).expect("two digits"));
        rest = &behind[2..];
    }
    out.extend_from_slice(rest.as_bytes());
    out.into()
}
