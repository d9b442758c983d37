//! Counting instructions with valgrind's callgrind: the same at every run, however busy the machine
//! is, so that a change of one percent is seen.
//!
//! The program runs itself again under valgrind. Only inside of [`measured`] is counted, and each
//! return from it makes callgrind write what it counted to a file of its own.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::cases::cases;

/// Calls that are counted at once.
const CALLS: u32 = 10;
/// Calls before: what is made at the first use isn't counted.
const WARM_UP: u32 = 3;

/// Tells the program to run the cases under valgrind instead of starting valgrind.
pub const INSIDE: &str = "COURSER_UNDER_CALLGRIND";

/// What callgrind looks for.
#[inline(never)]
fn measured(run: &mut dyn FnMut()) {
    for _ in 0..CALLS {
        run();
    }
    // The last call isn't made a jump, which would hide the return.
    std::hint::black_box(CALLS);
}

/// Runs every case; what [`count`] does under valgrind.
pub fn run_cases() {
    for mut case in cases() {
        (0..WARM_UP).for_each(|_| (case.run)());
        println!("{}", case.name);
        measured(&mut *case.run);
    }
}

/// Names of the cases, and instructions of one call.
///
/// # Errors
///
/// When valgrind can't be run, or doesn't end well.
pub fn count() -> io::Result<Vec<(String, u64)>> {
    let dir = tempfile::tempdir()?;
    let function = "courser_bench::callgrind::measured";
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={function}"))
        .arg(format!("--dump-after={function}"))
        .arg(format!(
            "--callgrind-out-file={}",
            dir.path().join("counts").display()
        ))
        .arg(std::env::current_exe()?)
        .env(INSIDE, "1")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(io::Error::other(format!("valgrind failed:\n{said}")));
    }
    let names = String::from_utf8_lossy(&output.stdout);
    let read = |(i, name): (usize, &str)| {
        let counted = totals(&dir.path().join(format!("counts.{}", i + 1)))?;
        Ok((name.to_owned(), counted / u64::from(CALLS)))
    };
    names.lines().enumerate().map(read).collect()
}

fn totals(path: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    let line = text.lines().find_map(|l| l.strip_prefix("totals: "));
    line.and_then(|n| n.trim().parse().ok())
        .ok_or_else(|| io::Error::other(format!("no totals in {}", path.display())))
}
