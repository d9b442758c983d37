//! SPF under any records and answers: what is read is given back, a check ends within its bound of
//! questions, and its report is sound.
//!
//! The input is lines: the client's address, MAIL FROM and HELO, one each; then answers in the order
//! of the questions, again from the first when they are used up: `T` texts with tabs between them,
//! `A` octets, `M` and `P` names with spaces between them, `0` no data, `X` no name, `F` failure.
#![no_main]

use std::net::IpAddr;

use courser_core::auth::spf::{Check, MacroString, Place, Record, Request, Result, Term};
use courser_core::auth::{Evaluate, Step};
use courser_core::dns::{Failure, Kind, Mx, Name, Outcome, Records};
use courser_core::limits::{
    SPF_EXPLANATION_BYTES_MAX, SPF_LOOKUPS_MAX, SPF_QUESTIONS_MAX, SPF_VOID_LOOKUPS_MAX,
};
use courser_core::time::Wall;
use libfuzzer_sys::fuzz_target;

fn outcome(line: &[u8], kind: Kind) -> Outcome {
    let (what, data) = line.split_first().unwrap_or((&b'0', &[]));
    let data = data.strip_prefix(b" ").unwrap_or(data);
    let names = || data.split(|&b| b == b' ').filter_map(|n| Name::from_bytes(n).ok());
    let found = match what {
        b'T' => Records::Txt(data.split(|&b| b == b'\t').map(Into::into).collect()),
        b'A' if kind == Kind::Aaaa => Records::Aaaa(
            data.chunks(1).map(|d| [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(d[0])].into()).collect(),
        ),
        b'A' => Records::A(data.chunks(1).map(|d| [192, 0, 2, d[0]].into()).collect()),
        b'M' => Records::Mx(
            names()
                .enumerate()
                .map(|(n, exchange)| Mx { preference: n as u16 % 3, exchange })
                .collect(),
        ),
        b'P' => Records::Ptr(names().collect()),
        b'X' => return Outcome::NoName,
        b'F' => return Outcome::Failed(Failure::ServerFailure),
        _ => return Outcome::NoData,
    };
    Outcome::Found(found)
}

fn record(text: &[u8]) {
    match Record::parse(text) {
        Ok(record) => {
            assert!(Record::is_spf(text));
            assert_eq!(record.to_string().as_bytes(), text);
            for term in record.terms() {
                assert_eq!(Term::parse(&term.to_string()), Ok(term));
            }
        }
        Err(error) => assert!(error.at <= text.len(), "{error}"),
    }
    if let Ok(text) = std::str::from_utf8(text) {
        for place in [Place::Domain, Place::Modifier, Place::Explanation] {
            if let Ok(read) = MacroString::parse(text, place) {
                assert_eq!(read.as_str(), text);
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|&b| b == b'\n');
    let mut text = || std::str::from_utf8(lines.next().unwrap_or_default()).unwrap_or_default();
    let (ip, mail_from, helo) = (text(), text(), text());
    let answers: Vec<&[u8]> = lines.collect();
    for answer in &answers {
        if let Some(texts) = answer.strip_prefix(b"T ") {
            texts.split(|&b| b == b'\t').for_each(record);
        }
    }
    let request = Request {
        ip: ip.parse().unwrap_or(IpAddr::from([192, 0, 2, 1])),
        mail_from,
        helo,
        receiver: None,
        now: Wall::from_unix(0),
        explain: true,
    };
    let mut check = Check::new(&request);
    let mut asked = 0;
    let report = loop {
        match check.step() {
            Step::Done(report) => break report,
            Step::Ask(question) => {
                let line = answers.get(asked % answers.len().max(1)).copied().unwrap_or(b"0");
                asked += 1;
                assert!(asked <= SPF_QUESTIONS_MAX, "{question}");
                check.answer(&outcome(line, question.kind));
            }
        }
    };
    assert!(report.lookups <= SPF_LOOKUPS_MAX + 1);
    assert!(report.void_lookups <= SPF_VOID_LOOKUPS_MAX + 1);
    let broken = matches!(report.result, Result::TempError | Result::PermError);
    assert!(!broken || report.error.is_some(), "{report:?}");
    assert!(report.error.is_none_or(|e| !e.to_string().is_empty()));
    assert!(report.result != Result::Fail || report.mechanism.is_some());
    if let Some(words) = report.explanation {
        assert_eq!(report.result, Result::Fail);
        assert!(words.len() <= SPF_EXPLANATION_BYTES_MAX);
        assert!(words.bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
    }
});
