//! Any text is read as a DMARC record or refused, any From has one author or none, and an
//! evaluation ends after a bounded number of different questions, whatever DNS says.
#![no_main]

use std::collections::BTreeSet;

use courser_core::auth::dmarc::{
    Checked, Discovery, DmarcResult, Evaluation, Identifier, Options, Record, author_of,
};
use courser_core::auth::results::{MethodResult, Results};
use courser_core::auth::{Evaluate, Step};
use courser_core::dns::{Failure, Kind, Name, Outcome, Records};
use courser_core::limits::DMARC_QUESTIONS_MAX;
use libfuzzer_sys::fuzz_target;

/// Lines: options, From, the domain of SPF, the domains of DKIM; each further one is an answer:
/// `!` failure, `?` no such name, empty no records, else texts parted by `|`.
fn answer(line: &str) -> Outcome {
    match line {
        "!" => Outcome::Failed(Failure::Timeout),
        "?" => Outcome::NoName,
        "" => Outcome::NoData,
        texts => Outcome::Found(Records::Txt(
            texts.split('|').map(|t| t.as_bytes().into()).collect(),
        )),
    }
}

fn identifier(text: &str) -> Option<Identifier> {
    let (text, checked) = match text.strip_prefix('~') {
        Some(text) => (text, Checked::TempError),
        None => (text, Checked::Pass),
    };
    let domain = Name::from_domain(text).ok()?;
    Some(Identifier { domain, checked })
}

fn record(text: &str) {
    let Ok((record, faults)) = Record::read(text) else {
        return;
    };
    assert_eq!(Record::parse(text).is_ok(), faults.is_empty());
    let (again, faults_again) = Record::read(&record.to_string()).unwrap();
    assert!(faults_again.len() <= 1);
    if faults.is_empty() {
        assert_eq!(again, record);
    }
    for uri in record.rua.iter().chain(&record.ruf) {
        let _ = uri.mailto();
    }
}

fuzz_target!(|text: &str| {
    record(text);
    let mut lines = text.split('\n');
    let options = lines.next().unwrap_or("");
    let options = Options {
        discovery: match options.starts_with('l') {
            true => Discovery::PublicSuffixList,
            false => Discovery::TreeWalk,
        },
        sample: options.len() as u8 % 100,
    };
    let author = author_of(lines.next().unwrap_or(""));
    let spf = identifier(lines.next().unwrap_or(""));
    let dkim: Vec<_> = lines.next().unwrap_or("").split(' ').filter_map(identifier).collect();
    let answers: Vec<&str> = lines.collect();
    let mut evaluation = Evaluation::new(author.clone(), spf, dkim, options);
    let mut asked = BTreeSet::new();
    let conclusion = loop {
        match evaluation.step() {
            Step::Done(conclusion) => break conclusion,
            Step::Ask(question) => {
                assert!(matches!(question.kind, Kind::Txt | Kind::A));
                let line = answers.get(asked.len() % answers.len().max(1)).unwrap_or(&"?");
                assert!(asked.insert(question), "asked twice");
                assert!(asked.len() <= DMARC_QUESTIONS_MAX);
                record(line);
                evaluation.answer(&answer(line));
            }
        }
    };
    assert!(conclusion.disposition <= conclusion.policy.unwrap_or_default());
    assert_eq!(conclusion.author, author.ok());
    if let DmarcResult::Pass | DmarcResult::Fail = conclusion.result {
        assert!(conclusion.found.is_some());
    }
    let results = Results {
        authserv_id: "mx.example".into(),
        results: vec![MethodResult::from(&conclusion)],
        ..Results::default()
    };
    assert_eq!(Results::parse(&results.to_string()).as_ref(), Ok(&results));
});
