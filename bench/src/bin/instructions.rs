//! Compares the instructions of the hot functions with the numbers in `bench/instructions.toml`.
//!
//! `cargo run --release -p courser-bench --bin instructions` fails when a function needs more than it
//! did; with `--write` it writes the numbers as they are now.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Parser;
use courser_bench::callgrind;
use serde::{Deserialize, Serialize};

/// More than this above the number that is kept is a regression, percent.
const TOLERANCE_PERCENT: u64 = 3;
/// What another compiler, or another processor, may make of the same code, percent.
const OTHERWISE_PERCENT: u64 = 25;
/// Changes of so few instructions are never a regression: an aligned copy more or less.
const TOLERANCE_MIN: u64 = 16;

const HEAD: &str = "\
# Instructions of one call of each hot function, by valgrind's callgrind.
# Compared: cargo run --release -p courser-bench --bin instructions
# Written:  the same with --write, after a change that is worth its price.
";

/// Counts the instructions of the hot functions and compares them with the numbers that are kept.
#[derive(Parser)]
struct Args {
    /// Keep the numbers as they are now.
    #[arg(long)]
    write: bool,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// What made the numbers: `rustc --version`, and the kind of processor, by which the C library and
    /// others choose their functions.
    by: String,
    /// Instructions of one call.
    instructions: BTreeMap<String, u64>,
}

fn main() -> ExitCode {
    if std::env::var_os(callgrind::INSIDE).is_some() {
        callgrind::run_cases();
        return ExitCode::SUCCESS;
    }
    let args = Args::parse();
    if !courser_tests::need::need(&["valgrind"]) {
        return ExitCode::SUCCESS;
    }
    match compare(args.write) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn made_by() -> Result<String, Box<dyn std::error::Error>> {
    let rustc = Command::new("rustc").arg("--version").output()?.stdout;
    #[cfg(target_arch = "x86_64")]
    let wide = std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    let wide = false;
    Ok(format!(
        "{}, {}{}",
        String::from_utf8(rustc)?.trim(),
        std::env::consts::ARCH,
        if wide { " with AVX2" } else { "" }
    ))
}

fn compare(write: bool) -> Result<bool, Box<dyn std::error::Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml");
    let by = made_by()?;
    let counted = callgrind::count()?;
    if write {
        let kept = Kept {
            by,
            instructions: counted.into_iter().collect(),
        };
        fs::write(&path, format!("{HEAD}{}", toml::to_string(&kept)?))?;
        println!("written to {}", path.display());
        return Ok(true);
    }
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut kept: Kept = toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let same = kept.by == by;
    if !same {
        println!("numbers of {}, this is {by}: compared loosely", kept.by);
    }
    let percent = if same {
        TOLERANCE_PERCENT
    } else {
        OTHERWISE_PERCENT
    };
    let mut bad = 0;
    println!("{:44} {:>9} {:>9}", "instructions per call", "kept", "now");
    for (name, now) in counted {
        let Some(before) = kept.instructions.remove(&name) else {
            println!("{name:44} {:>9} {now:>9}  not kept yet", "-");
            bad += 1;
            continue;
        };
        let change = (now as f64 / before.max(1) as f64 - 1.0) * 100.0;
        let limit = before + (before * percent / 100).max(TOLERANCE_MIN);
        let word = if now > limit { "  REGRESSION" } else { "" };
        bad += usize::from(now > limit);
        println!("{name:44} {before:>9} {now:>9} {change:>+6.1} %{word}");
    }
    for name in kept.instructions.keys() {
        println!("{name:44} is kept, but there is no such function any more");
        bad += 1;
    }
    if bad > 0 {
        println!(
            "{bad} differ. Mend it, or keep the new numbers: cargo run --release -p courser-bench \
             --bin instructions -- --write"
        );
    }
    Ok(bad == 0)
}
