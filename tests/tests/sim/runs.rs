//! Running worlds: one with its trace, a thousand in CI, a million once.

use std::ffi::OsString;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use courser_tests::suite;

use crate::Tests;
use crate::mutations;
use crate::seeds;
use crate::trace::Trace;
use crate::world::{Summary, World};

/// Lines of a trace that are shown of a world that went wrong.
const TAIL: usize = 60;

/// Reads `--seed N` and `--seeds A..B`, and runs what they ask for, or the tests.
pub(crate) fn main(tests: Tests, replay: &suite::Test) -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let at = arguments
        .iter()
        .position(|a| a.to_string_lossy().starts_with("--seeds"));
    let Some(at) = at else {
        let asked = arguments
            .iter()
            .any(|a| a.to_string_lossy().starts_with("--seed"));
        return match asked {
            true => suite::run(std::slice::from_ref(replay)),
            false => suite::run(tests),
        };
    };
    let argument = arguments.remove(at).to_string_lossy().into_owned();
    let range = match argument.strip_prefix("--seeds=") {
        Some(range) => range.to_owned(),
        None if at < arguments.len() => arguments.remove(at).to_string_lossy().into_owned(),
        None => String::new(),
    };
    let parsed = range
        .split_once("..")
        .and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    match parsed {
        Some(range) => many(range),
        None => {
            eprintln!("--seeds wants a range, as in --seeds 0..1000, not {range:?}");
            ExitCode::from(2)
        }
    }
}

/// A folder for the files of worlds: in memory where the system has one.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix("courser-sim-");
    let made = match memory.is_dir() {
        true => builder.tempdir_in(memory),
        false => builder.tempdir(),
    };
    made.expect("a folder for the worlds' files")
}

fn live(seed: u64, dir: &Path, trace: Trace) -> (Result<Summary, String>, Trace) {
    live_in(seed, dir, trace, |dir, trace| {
        World::new(seed, dir, None, trace)
    })
}

/// Lets a world live that was made in an empty folder.
fn live_in(
    seed: u64,
    dir: &Path,
    trace: Trace,
    make: impl FnOnce(&Path, Trace) -> World,
) -> (Result<Summary, String>, Trace) {
    let dir: PathBuf = dir.join(format!("w{seed}"));
    std::fs::create_dir(&dir).expect("a folder for a world");
    let mut world = make(&dir, trace);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    let outcome = outcome.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or(panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(format!("a panic: {}", text.unwrap_or_default()))
    });
    let trace = std::mem::take(&mut world.trace);
    drop(world);
    let _ = std::fs::remove_dir_all(&dir);
    (outcome, trace)
}

/// One world; a violation as an error, with the way to see it again.
fn world(seed: u64, dir: &Path) -> Result<Summary, String> {
    let (outcome, _) = live(seed, dir, Trace::default());
    outcome.map_err(|wrong| {
        let trace = Trace {
            lines: Some(Vec::new()),
            ..Trace::default()
        };
        let (_, trace) = live(seed, dir, trace);
        let lines = trace.lines.unwrap_or_default();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        format!(
            "seed {seed}: {wrong}\n{tail}\nreplay: cargo test -p courser-tests sim -- --seed {seed}"
        )
    })
}

/// `--seed N`: prints everything that happens.
pub(crate) fn replay() {
    let seed = suite::seed().unwrap_or_default();
    let dir = scratch();
    let trace = Trace {
        loud: true,
        ..Trace::default()
    };
    let (outcome, _) = live(seed, dir.path(), trace);
    match outcome {
        Ok(summary) => println!("seed {seed}: {summary:?}"),
        Err(wrong) => panic!("seed {seed}: {wrong}"),
    }
}

/// A seed, and what is wrong in its world.
type Wrong = (u64, String);

/// What is done about a world that went wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// No further world is begun.
    Stop,
    /// It is told of at once, and the others go on.
    GoOn,
}

/// Runs a range of seeds on all processors: the sum, and those that went wrong.
fn run_all(range: Range<u64>, then: Then) -> (Summary, Vec<Wrong>) {
    let next = AtomicU64::new(range.start);
    let done = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Summary::default());
    let wrong = Mutex::new(Vec::new());
    let began = Instant::now();
    let threads = threads();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let dir = scratch();
                let mut sum = Summary::default();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= range.end {
                        break;
                    }
                    match world(seed, dir.path()) {
                        Ok(summary) => sum += summary,
                        Err(text) => {
                            if then == Then::GoOn {
                                println!("{text}\n");
                            }
                            stop.store(then == Then::Stop, Ordering::Relaxed);
                            wrong.lock().expect("no panic in here").push((seed, text));
                        }
                    }
                    let n = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if then == Then::GoOn && n.is_multiple_of(1000) {
                        let s = began.elapsed().as_secs_f64();
                        let wrong = wrong.lock().expect("no panic in here").len();
                        // Threads take the seeds in order: all below this are done.
                        let below = (range.start + n).saturating_sub(threads as u64);
                        println!("{n} seeds in {s:.0} s, {wrong} wrong; go on from {below}");
                    }
                }
                *total.lock().expect("no panic in here") += sum;
            });
        }
    });
    let mut wrong = wrong.into_inner().expect("no panic in here");
    wrong.sort_unstable();
    (total.into_inner().expect("no panic in here"), wrong)
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// `--seeds A..B`: all of them, whatever is wrong with some.
fn many(range: Range<u64>) -> ExitCode {
    let began = Instant::now();
    let count = range.end.saturating_sub(range.start);
    let (sum, wrong) = run_all(range, Then::GoOn);
    let s = began.elapsed().as_secs_f64();
    println!("{count} seeds in {s:.0} s, {} wrong\n{sum:#?}", wrong.len());
    for (seed, text) in &wrong {
        println!("{seed}: {}", text.lines().next().unwrap_or_default());
    }
    match wrong.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// The seeds that CI runs.
pub(crate) fn a_thousand_seeds() {
    let began = Instant::now();
    let (sum, wrong) = run_all(0..1000, Then::Stop);
    if let Some((_, text)) = wrong.first() {
        panic!("{text}");
    }
    let s = began.elapsed().as_secs_f64();
    println!("1000 seeds in {s:.1} s: {sum:?}");
    // Worlds in which nothing happens show nothing.
    assert!(sum.deliveries > 20_000 && sum.stops > 500 && sum.deferrals > 5_000);
    assert!(sum.bounced > 500 && sum.expired > 100 && sum.disk_failures > 100);
    assert!(sum.damaged > 50);
}

pub(crate) fn seeds_that_found_something() {
    let dir = scratch();
    for (seed, what) in seeds::FOUND {
        if let Err(text) = world(*seed, dir.path()) {
            panic!("{what}, again? {text}");
        }
    }
}

pub(crate) fn the_same_seed_is_the_same_world() {
    let dir = scratch();
    for seed in 0..60 {
        let hash = |_| {
            let (outcome, trace) = live(seed, dir.path(), Trace::default());
            outcome.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
            trace.hash
        };
        let [first, second] = [0, 1].map(hash);
        assert_eq!(first, second, "seed {seed} was two worlds");
    }
}

/// Worlds that a fault may go unnoticed in, before its checker counts as blind to it.
const BLIND_AFTER: u64 = 150;

/// Each fault is found by the checker that is there for it, in a world that is right without it.
pub(crate) fn every_fault_is_found() {
    let dir = scratch();
    for fault in mutations::ALL {
        let bent = |seed, faulty: bool| {
            let (outcome, _) = live_in(seed, dir.path(), Trace::default(), |dir, trace| {
                let mut world = World::new(seed, dir, Some(fault), trace);
                world.fault = world.fault.filter(|_| faulty);
                world
            });
            outcome.err()
        };
        let mut others = 0;
        let found = (0..BLIND_AFTER).find_map(|seed| {
            let wrong = bent(seed, true)?;
            let its_own = fault.found_by().iter().all(|words| wrong.contains(words));
            others += u32::from(!its_own);
            its_own.then_some((seed, wrong))
        });
        let Some((seed, wrong)) = found else {
            panic!(
                "no checker says {:?} of {fault:?} in {BLIND_AFTER} worlds, {others} were wrong otherwise",
                fault.found_by()
            );
        };
        if let Some(wrong) = bent(seed, false) {
            panic!("seed {seed} is wrong without {fault:?} too: {wrong}");
        }
        println!("{fault:?}: found with seed {seed}, after {others} that others saw: {wrong}");
    }
}
