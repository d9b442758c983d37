//! Records and policies of MTA-STS against published vectors.

#[path = "common/vectors.rs"]
mod shared;

use std::fs;

use courser_core::route::mta_sts;
use shared::vectors;

/// Judges each of the `n` inputs of `file` in records/goodbad.json that `judge` has a word for; `None`
/// passes one over.
fn judge(file: &str, n: usize, judge: impl Fn(&str, &[u8]) -> Option<Result<(), String>>) {
    let Some(path) = vectors("records/goodbad.json") else {
        return;
    };
    let all: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
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

fn said<T, E: ToString>(result: Result<T, E>) -> Result<(), String> {
    result.map(|_| ()).map_err(|error| error.to_string())
}
