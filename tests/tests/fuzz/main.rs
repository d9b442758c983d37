//! Inputs of the fuzz targets, without the fuzzer: `fuzz/seeds/TARGET/*`, each played by the
//! target's own code with the target's own assertions.
//!
//! What fuzzing found is kept there, so that it can't come back unseen where there is no nightly
//! toolchain and no cargo-fuzz.
#![allow(missing_docs)]

mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use courser_tests::suite;

use targets::TARGETS;

fn main() -> ExitCode {
    let mut tests: Vec<suite::Test> = vec![("fuzz::targets_and_seeds", targets_and_seeds)];
    tests.extend(TARGETS.iter().map(|target| (target.test, target.play)));
    suite::run(&tests)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// Names in a folder, without `end`; hidden ones are not ours.
fn names(folder: &Path, end: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.into_string().expect("a name in UTF-8"))
        .filter(|name| !name.starts_with('.'))
        .filter_map(|name| name.strip_suffix(end).map(str::to_owned))
        .collect()
}

/// Plays every input of a target.
fn play(target: &str, code: fn(&[u8]) -> bool) {
    let folder = folder().join("seeds").join(target);
    let mut played = 0;
    for name in names(&folder, "") {
        let input = fs::read(folder.join(&name)).expect("an input");
        let place = format!("fuzz/seeds/{target}/{name}");
        match catch_unwind(AssertUnwindSafe(|| code(&input))) {
            Ok(true) => played += 1,
            Ok(false) => panic!("{place} makes no input of {target}'s type"),
            // What is wrong was printed when it panicked.
            Err(_) => panic!("{target} fails with {place}"),
        }
    }
    println!("{target}: {played} inputs");
    assert!(played > 0, "{target} has no inputs");
}

/// What the fuzzer runs, what is played here, and what there are inputs for are the same.
fn targets_and_seeds() {
    let played: BTreeSet<String> = TARGETS.iter().map(|t| t.name.to_owned()).collect();
    assert_eq!(names(&folder().join("fuzz_targets"), ".rs"), played);
    assert_eq!(names(&folder().join("seeds"), ""), played);

    let manifest = fs::read_to_string(folder().join("Cargo.toml")).expect("a manifest");
    let manifest: toml::Table = manifest.parse().expect("a manifest");
    let programs = manifest["bin"].as_array().expect("programs");
    let programs = programs.iter().map(|p| p["name"].as_str().expect("a name"));
    assert_eq!(programs.map(str::to_owned).collect::<BTreeSet<_>>(), played);
}
