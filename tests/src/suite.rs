//! A test program that is told which tests there are, instead of being given them by the compiler.
//!
//! `cargo test -p courser-tests sim -- --seed N` hands `--seed N` to every test program of the
//! package, and the usual runner ends at an option that it doesn't know. This one takes it out of
//! the arguments ([`seed`]); all others mean what they always mean. A test that is missing in the
//! list is dead code, which clippy refuses.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::setting;

/// How long a test may take, unless `COURSER_TEST_SECONDS` says otherwise.
const SECONDS: u64 = 900;

/// A test: its name, and what it does.
pub type Test = (&'static str, fn());

/// Names tests by their modules: `tests! { crash: { kill_9, drain } }` is what [`run`] wants.
#[macro_export]
macro_rules! tests {
    ($($module:ident: { $($test:ident),+ $(,)? })+) => {
        &[$($((
            concat!(stringify!($module), "::", stringify!($test)),
            $module::$test as fn(),
        )),+),+]
    };
}

static SEED: OnceLock<u64> = OnceLock::new();

/// What `--seed N` asks for, if it was given.
pub fn seed() -> Option<u64> {
    SEED.get().copied()
}

/// Runs the tests that the arguments name, each on a thread of its name, and says how it went.
pub fn run(tests: &[Test]) -> ExitCode {
    match take("--seed", std::env::args_os()) {
        Ok((seed, rest)) => {
            if let Some(seed) = seed {
                let _ = SEED.set(seed);
            }
            run_with(Arguments::from_iter(rest), tests)
        }
        Err(wrong) => {
            eprintln!("{wrong}");
            ExitCode::from(2)
        }
    }
}

/// [`run`] with arguments that were read already.
fn run_with(mut arguments: Arguments, tests: &[Test]) -> ExitCode {
    // They wait for processes and clocks more than they compute.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads = arguments.test_threads.or(Some(cores * 2));
    let patience = Duration::from_secs(setting("COURSER_TEST_SECONDS", SECONDS));
    let trials = tests
        .iter()
        .map(|&(name, test)| Trial::test(name, move || within(name, test, patience)))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Runs a test on a thread of its name, and gives up on it after `patience`: one that hangs must not
/// take all others' results with it. Its thread stays behind until the program ends.
///
/// # Errors
/// It has not ended by then.
pub fn within(name: &str, test: fn(), patience: Duration) -> Result<(), Failed> {
    let (running, ended) = mpsc::channel::<()>();
    let named = std::thread::Builder::new().name(name.into());
    let thread = named.spawn(move || {
        // Dropped when the test returns and when it panics.
        let _running = running;
        test();
    })?;
    if ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
        let text = format!(
            "{name} has not ended within {} s (COURSER_TEST_SECONDS)",
            patience.as_secs()
        );
        eprintln!("{text}");
        return Err(text.into());
    }
    match thread.join() {
        Ok(()) => Ok(()),
        // Its message was printed when it panicked.
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Takes `name N` or `name=N` out of `arguments`.
///
/// # Errors
/// What is wrong with N.
pub fn take(
    name: &str,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<(Option<u64>, Vec<OsString>), String> {
    let mut rest = Vec::new();
    let mut found = None;
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy();
        let value = match text.strip_prefix(name) {
            Some("") => arguments.next().map(|v| v.to_string_lossy().into_owned()),
            Some(v) if v.starts_with('=') => Some(v[1..].to_owned()),
            _ => {
                rest.push(argument);
                continue;
            }
        };
        let value = value.ok_or_else(|| format!("{name} wants a number, as in {name} 7"))?;
        found = Some(value.parse().map_err(|_| {
            format!("{name} wants a number of at most 64 bits, as in {name} 7, not {value:?}")
        })?);
    }
    Ok((found, rest))
}
