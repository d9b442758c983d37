//! Harness for the tests against real peers: it installs them where it may, starts them on
//! loopback addresses, and stops them when a test ends, however it ends.
//!
//! | module | gives |
//! |---|---|
//! | [`need`] | programs from Debian's packages, or a word on what is missing |
//! | [`process`] | children that die with their test, and their output |
//! | [`net`] | free ports and waiting for them |
//! | [`bounds`] | what a server may take of memory, by its configuration |
//! | [`server`] | `courser serve` with a scratch spool, its control socket and its events |
//! | [`dns`] | nsd with zones written in the test |
//! | [`liar`] | a name server that lies as the test says |
//! | [`peers`] | smtp-sink, smtp-source and Postfix |
//! | [`receiver`] | a receiver whose every answer the test writes |
//! | [`scripted`] | a receiver that does with each connection exactly what the test says |
//! | [`cut`] | somebody in between who lets TLS get so far and no further |
//! | [`web`] | a web server by HTTPS, on port 443 |
//! | [`suite`] | the test programs of this package, which take `--seed N` |
//! | [`disk`] | a disk whose power can be cut and that can be made to fail |
//! | [`clock`] | the civil clock of a server, set while it runs |
//! | [`client`] | a submitter that sends exactly the bytes that the test says |
#![deny(missing_docs)]

pub mod bounds;
pub mod client;
pub mod clock;
pub mod cut;
#[cfg(feature = "disk")]
pub mod disk;
pub mod dns;
pub mod dnssec;
pub mod liar;
pub mod need;
pub mod net;
pub mod peers;
pub mod process;
pub mod receiver;
pub mod scripted;
pub mod server;
pub mod suite;
pub mod tls;
pub mod web;

/// Tries `probe` until it gives something or `seconds` have passed.
pub fn eventually<T>(seconds: u64, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if std::time::Instant::now() >= end {
            return None;
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
}

/// The number in the environment variable `name`, or `usual`.
///
/// # Panics
/// When it is set to something else.
#[must_use]
pub fn setting(name: &str, usual: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")),
        Err(_) => usual,
    }
}

/// Whether this process may do what needs root; otherwise prints `skipped: needs root`.
#[must_use]
pub fn need_root() -> bool {
    // SAFETY: geteuid only reads.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        need::skip("root");
    }
    root
}

/// Says something that is seen although the test passes: the test runner swallows what a passing
/// test prints.
pub fn say(text: &str) {
    // SAFETY: the pointer and length are those of `text`.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}
