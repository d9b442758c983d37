//! Records of MTA-STS and TLS-RPT, policies and reports against published vectors.

#[path = "common/vectors.rs"]
mod shared;

use std::collections::BTreeSet;
use std::fs;

use courser_core::route::tlsrpt::Report;
use courser_core::route::{mta_sts, tlsrpt};
use serde_json::Value;
use shared::vectors;

/// Judges each of the `n` inputs of `file` in records/goodbad.json that `judge` has a word for; `None`
/// passes one over.
fn judge(file: &str, n: usize, judge: impl Fn(&str, &[u8]) -> Option<Result<(), String>>) {
    let Some(path) = vectors("records/goodbad.json") else {
        return;
    };
    let all: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let (mut right, mut wrong) = (0, Vec::new());
    for case in all[file].as_array().unwrap() {
        let [what, kind, input] = ["fn", "kind", "input"].map(|f| case[f].as_str().unwrap());
        let Some(said) = judge(what, input.as_bytes()) else {
            continue;
        };
        if said.is_ok() == (kind == "good") {
            right += 1;
        } else {
            wrong.push(format!("{what}: {said:?}: {input:?}"));
        }
    }
    println!(
        "records/goodbad.json, {file}: {right} of {}",
        right + wrong.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(right, n, "the number of cases has changed");
}

#[test]
fn mta_sts_of_mox() {
    judge("mtasts/parse_test.go", 41, |what, input| match what {
        "TestRecord" => Some(said(mta_sts::Record::parse(input))),
        "TestParsePolicy" => Some(said(mta_sts::Policy::parse(input))),
        _ => None,
    });
}

#[test]
fn tls_rpt_of_mox() {
    judge("tlsrpt/parse_test.go", 20, |what, input| match what {
        "TestRecord" => Some(said(tlsrpt::Record::parse(input))),
        _ => None,
    });
}

/// Where what we write of a report isn't what it has, and why.
const DIFFER: [(&str, &str, &str); 4] = [
    (
        "rpt01",
        ".policies[0].failure-details[0].sending-mta-ip: \"2001:db8:abcd:0012::1\" is \"2001:db8:abcd:12::1\"",
        "the same address, in the form of RFC 5952",
    ),
    (
        "rpt01",
        ".policies[0].failure-details[1].sending-mta-ip: \"2001:db8:abcd:0013::1\" is \"2001:db8:abcd:13::1\"",
        "the same address, in the form of RFC 5952",
    ),
    (
        "rpt03",
        ".policies[0].summary.total-failure-session-count: null is 0",
        "RFC 8460 4.4 has both sums; none is none",
    ),
    (
        "rpt03",
        ".policies[1].summary.total-failure-session-count: null is 0",
        "RFC 8460 4.4 has both sums; none is none",
    ),
];

#[test]
fn reports_of_mail_auth() {
    let Some(dir) = vectors("tlsrpt") else {
        return;
    };
    let mut differ = Vec::new();
    let (mut reports, mut mails) = (0, 0);
    for name in ["rpt01", "rpt02", "rpt03"] {
        let json = fs::read(dir.join(format!("{name}.json"))).unwrap();
        let report = Report::read(&json).unwrap();
        reports += 1;
        // The same report in a mail, gzipped in the first.
        if let Ok(mail) = fs::read(dir.join(format!("{name}.eml"))) {
            assert_eq!(Report::of_mail(&mail).as_ref(), Ok(&report), "{name}");
            mails += 1;
        }
        let ours = report.to_json();
        assert_eq!(
            Report::read(ours.as_bytes()).as_ref(),
            Ok(&report),
            "{name}"
        );
        let value = |json: &[u8]| serde_json::from_slice(json).unwrap();
        let mut found = Vec::new();
        compare(&value(&json), &value(ours.as_bytes()), "", &mut found);
        differ.extend(found.into_iter().map(|what| (name, what)));
    }
    println!("tlsrpt: {reports} of 3 reports, {mails} of 2 in mails");
    for (name, what, why) in DIFFER {
        println!("  differs: {name}{what}: {why}");
    }
    let expected: Vec<_> = DIFFER
        .iter()
        .map(|(name, what, _)| (*name, what.to_string()))
        .collect();
    assert_eq!(differ, expected);
    assert_eq!((reports, mails), (3, 2));
}

/// Says where `ours` is not `theirs`.
fn compare(theirs: &Value, ours: &Value, at: &str, found: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                compare(&theirs[key], &ours[key], &format!("{at}.{key}"), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                compare(a, b, &format!("{at}[{n}]"), found);
            }
        }
        _ if theirs == ours => {}
        _ => found.push(format!("{at}: {theirs} is {ours}")),
    }
}

fn said<T, E: ToString>(result: Result<T, E>) -> Result<(), String> {
    result.map(|_| ()).map_err(|error| error.to_string())
}
