//! `courser demo` on a small scale: everyone is accounted for.

use std::process::Command;
use std::time::{Duration, Instant};

use courser_tests::process::Process;
use courser_tests::server::{program, scratch};

pub(crate) fn a_newsletter_to_five_hundred() {
    let dir = scratch();
    let began = Instant::now();
    let mut demo = Command::new(program());
    demo.args(["demo", "--recipients", "500"])
        .env("TMPDIR", dir.path());
    let mut demo = Process::start("demo", dir.path(), &mut demo);
    let status = demo.wait(Duration::from_secs(120));
    let said = demo.output();
    assert!(
        status.success(),
        "{status} after {:?}\n{said}",
        began.elapsed()
    );
    assert!(said.contains("Every recipient is accounted for"), "{said}");
}
