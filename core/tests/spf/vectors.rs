//! Other people's cases, read in place: the YAML form of the openspf suite, and a list of right and
//! wrong records. Each case that differs stands here with its reason.

use std::collections::BTreeSet;
use std::fs;

use courser_core::auth::spf::Record;
use serde_json::Value;

use crate::shared::vectors;
use crate::zone::Zone;

/// Cases whose expected result is not that of RFC 7208, and what is.
const DIFFERENT: &[(&str, &str, &str)] = &[
    (
        "resolution-with-10-lookups",
        "permerror",
        "12: include:d11 is no domain-spec, which has a dot",
    ),
    (
        "mx-resolution-10-terms",
        "none",
        "4.3: mx10 is not a multi-label domain",
    ),
    (
        "mx-resolution-11-terms",
        "none",
        "4.3: mx11 is not a multi-label domain",
    ),
    (
        "one-mx-not-found",
        "none",
        "4.3: d00 is not a multi-label domain",
    ),
    (
        "all-mx-not-found",
        "none",
        "4.3: d01 is not a multi-label domain",
    ),
    (
        "include-not-found",
        "none",
        "4.3: d02 is not a multi-label domain",
    ),
    (
        "redirect-not-found",
        "none",
        "4.3: d03 is not a multi-label domain",
    ),
];

#[test]
fn yaml_suites() {
    let Some(folder) = vectors("spf") else { return };
    let (mut same, mut different, mut qualified) = (0, BTreeSet::new(), 0);
    for entry in fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "yml") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("the file");
        let scenarios: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
        for scenario in &scenarios {
            let outcome = run(scenario);
            for (name, expected, got) in &outcome {
                if expected.contains(got) {
                    same += 1;
                    continue;
                }
                let known = DIFFERENT.iter().find(|(known, ..)| known == name);
                let Some((_, ours, why)) = known else {
                    panic!("{name}: {got}, not {expected:?}");
                };
                assert_eq!(got, ours, "{name}");
                println!("{name}: {got}, not {expected:?}; RFC 7208 {why}");
                different.insert(name.clone());
            }
            // With names of two labels all of them must agree.
            for (name, expected, got) in run(&two_labels(scenario)) {
                assert!(
                    expected.contains(&got),
                    "{name}, qualified: {got}, not {expected:?}"
                );
                qualified += 1;
            }
        }
    }
    assert_eq!(
        different.len(),
        DIFFERENT.len(),
        "a known difference is none any more"
    );
    // So that none is lost.
    assert_eq!((same, qualified), (14, 21));
    println!(
        "spf: {same} of {} agree; {qualified} of {qualified} with names of two labels",
        same + different.len()
    );
}

/// Name, expected results, our result.
fn run(scenario: &Value) -> Vec<(String, Vec<String>, String)> {
    let zone = zone(&scenario["zonedata"]);
    let tests = scenario["tests"].as_object().expect("tests");
    tests
        .iter()
        .map(|(name, test)| {
            let text = |key: &str| test[key].as_str().unwrap_or_default();
            let report = zone.check(text("host"), text("mailfrom"), text("helo"));
            match test["explanation"].as_str() {
                Some("DEFAULT") => assert_eq!(report.explanation, None, "{name}"),
                Some(words) => assert_eq!(report.explanation.as_deref(), Some(words), "{name}"),
                None => {}
            }
            let expected = match &test["result"] {
                Value::Array(any) => any
                    .iter()
                    .filter_map(Value::as_str)
                    .map(Into::into)
                    .collect(),
                one => vec![one.as_str().expect("a result").to_owned()],
            };
            (name.clone(), expected, report.result.to_string())
        })
        .collect()
}

fn zone(data: &Value) -> Zone {
    let mut zone = Zone::default();
    for (owner, records) in data.as_object().expect("zonedata") {
        let records = records.as_array().expect("records");
        // The suite's rule: records of type SPF stand for TXT where there is no TXT.
        let has_txt = records.iter().any(|r| r.get("TXT").is_some());
        zone.add(owner, "EXISTS", "");
        for record in records {
            let (kind, value) = match record {
                Value::String(kind) => (kind.as_str(), &Value::Null),
                other => other
                    .as_object()
                    .and_then(|o| o.iter().next())
                    .map(|(kind, value)| (kind.as_str(), value))
                    .expect("a record"),
            };
            let text = match value {
                Value::Array(parts) if kind == "MX" => {
                    format!("{} {}", parts[0], parts[1].as_str().expect("a host"))
                }
                Value::Array(parts) => parts.iter().filter_map(Value::as_str).collect(),
                other => other.as_str().unwrap_or_default().to_owned(),
            };
            match kind {
                "SPF" if has_txt => {}
                "SPF" => zone.add(owner, "TXT", &text),
                "TXT" if text == "NONE" => {}
                kind => zone.add(owner, kind, &text),
            }
        }
    }
    zone
}

/// The same with `.test` behind every name of one label that the zone has.
fn two_labels(scenario: &Value) -> Value {
    let zone = scenario["zonedata"].as_object().expect("zonedata");
    let short: BTreeSet<&str> = zone
        .keys()
        .map(String::as_str)
        .filter(|n| !n.contains('.'))
        .collect();
    fn longer(text: &str, short: &BTreeSet<&str>) -> String {
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let mut out = String::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            out.push_str(word);
            if short.contains(word) {
                out.push_str(".test");
            }
            let next = behind.find(part).unwrap_or(behind.len());
            out.push_str(&behind[..next]);
            rest = &behind[next..];
        }
        out
    }
    fn walk(value: &Value, short: &BTreeSet<&str>) -> Value {
        match value {
            Value::String(text) => longer(text, short).into(),
            Value::Array(all) => all.iter().map(|v| walk(v, short)).collect(),
            Value::Object(all) => all
                .iter()
                .map(|(key, v)| {
                    let keep = matches!(key.as_str(), "description" | "host" | "result");
                    let v = if keep { v.clone() } else { walk(v, short) };
                    (longer(key, short), v)
                })
                .collect(),
            other => other.clone(),
        }
    }
    walk(scenario, &short)
}

#[test]
fn right_and_wrong_records() {
    let Some(file) = vectors("records/goodbad.json") else {
        return;
    };
    let text = fs::read_to_string(file).expect("the file");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let (mut same, mut different) = (0, 0);
    for case in all["spf/parse_test.go"].as_array().expect("cases") {
        let input = case["input"].as_str().expect("a record");
        let good = !case["line"].as_str().expect("a line").contains(", nil)");
        let read = Record::parse(input.as_bytes());
        if read.is_ok() == good {
            same += 1;
            continue;
        }
        // RFC 7208 12: a domain-spec ends in a dot and a top-level label, or in a macro; `a:x` and
        // the like don't.
        let error = read.expect_err("a wrong one is not taken").to_string();
        assert!(
            input.starts_with("V=spf1 all Include:example.org"),
            "{input}: {error}"
        );
        assert_eq!(
            error,
            "the domain does not end in a dot and a top-level label, or in a macro (character 48)"
        );
        let longer = ["a:x", "mx:x", "ptr:x", "exists:x", "REDIRECT=x", "exp=X"]
            .iter()
            .fold(input.to_owned(), |text, term| {
                text.replace(term, &format!("{term}.y"))
            });
        assert!(Record::parse(longer.as_bytes()).is_ok(), "{longer}");
        println!("{input}: {error}");
        different += 1;
    }
    assert_eq!((same, different), (26, 1));
    println!("records of kind spf: {same} of {} agree", same + different);
}
