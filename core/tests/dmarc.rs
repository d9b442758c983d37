//! DMARC records and organizational domains against published vectors.

#[path = "common/vectors.rs"]
mod shared;

use courser_core::auth::dmarc::{Record, psl};
use courser_core::dns::Name;
use std::fs;

/// A shared vector file, or `None` with a word about it.
fn vectors(name: &str) -> Option<String> {
    shared::vectors(name).map(|path| fs::read_to_string(path).unwrap())
}

/// A domain and its registrable domain, `None` where there is none.
type Case<'a> = (Option<&'a str>, Option<&'a str>);

fn check(file: &str, cases: &[Case<'_>]) {
    assert!(cases.len() > 70, "{file} has only {} cases", cases.len());
    let mut wrong = Vec::new();
    for &(domain, expected) in cases {
        // No domain at all and one that starts with a dot are no names.
        let name = domain.and_then(|d| Name::from_domain(d).ok());
        let got = name.as_ref().and_then(psl::registrable_domain);
        let expected = expected.map(|e| Name::from_domain(e).unwrap());
        if got != expected {
            wrong.push(format!("{domain:?}: {got:?}, and not {expected:?}"));
        }
        if let (Some(name), None) = (&name, &got) {
            assert_eq!(psl::organizational_domain(name), *name);
        }
    }
    println!("{file}: {} of {}", cases.len() - wrong.len(), cases.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn public_suffixes() {
    if let Some(text) = vectors("psl/tests.txt") {
        let word = |w: &'static str| (w != "null").then_some(w);
        let text: &'static str = text.leak();
        let cases: Vec<Case<'_>> = text
            .lines()
            .filter(|line| !line.starts_with("//"))
            .filter_map(|line| line.split_once(' '))
            .map(|(domain, expected)| (word(domain), word(expected)))
            .collect();
        check("psl/tests.txt", &cases);
    }
    if let Some(text) = vectors("psl/test_psl.txt") {
        let word = |w: &'static str| w.strip_prefix('\'')?.strip_suffix('\'');
        let text: &'static str = text.leak();
        let cases: Vec<Case<'_>> = text
            .lines()
            .filter_map(|line| line.strip_prefix("checkPublicSuffix("))
            .filter_map(|line| line.strip_suffix(");")?.split_once(", "))
            .map(|(domain, expected)| (word(domain), word(expected)))
            .collect();
        check("psl/test_psl.txt", &cases);
    }
}

/// Where a receiver that reads by RFC 9989 takes what mox, by RFC 7489, refuses, and why.
const USED: [(&str, &str); 1] = [(
    "v=DMARC1; sp=reject; p=reject",
    "RFC 9989 4.8 lets p stand anywhere after v",
)];

/// Where a record that mox takes is not without fault.
const FAULTY: [(&str, &str); 1] = [(
    "v=DMARC1; p=reject; sp=invalid; rua=mailto:mjl@mox.example",
    "it is used as p=none (RFC 9989 4.10.1), but its publisher should know",
)];

#[test]
fn records_of_mox() {
    let Some(text) = vectors("records/goodbad.json") else {
        return;
    };
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = all["dmarc/parse_test.go"].as_array().unwrap();
    assert!(cases.len() > 30);
    let is = |list: &[(&str, &str)], text: &str| list.iter().any(|(t, _)| *t == text);
    let (mut used, mut faultless, mut wrong) = (0, 0, Vec::new());
    for case in cases {
        let text = case["input"].as_str().unwrap();
        let good = case["kind"] == "valid";
        // What a receiver does with it, and what its publisher hears.
        let applies = Record::read(text).is_ok_and(|(record, _)| record.policy().is_some());
        let parsed = Record::parse(text);
        used += usize::from(applies == good);
        faultless += usize::from(parsed.is_ok() == good);
        if (applies == good) == is(&USED, text) {
            wrong.push(format!("used: {applies}: {text:?}"));
        }
        let excepted = is(&USED, text) || is(&FAULTY, text);
        if (parsed.is_ok() == good) == excepted {
            wrong.push(format!("{parsed:?}: {text:?}"));
        }
    }
    let n = cases.len();
    println!(
        "records/goodbad.json, DMARC: used as expected {used} of {n}, faultless as expected {faultless} of {n}"
    );
    for (text, why) in USED.iter().chain(&FAULTY) {
        println!("  differs: {text:?}: {why}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
