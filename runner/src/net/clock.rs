//! The one file that reads a clock or draws a random number.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use courser_core::time::{Instant, Wall};

static EPOCH: OnceLock<std::time::Instant> = OnceLock::new();

/// Monotonic time since the first call of this process.
pub fn now() -> Instant {
    let epoch = *EPOCH.get_or_init(std::time::Instant::now);
    // One second of head start: subtracting a little from "now" never meets zero.
    let ns = epoch.elapsed().as_nanos() as u64 + 1_000_000_000;
    Instant::from_nanos(ns)
}

/// Civil time, milliseconds since the Unix epoch.
pub fn wall_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(d) => i64::try_from(d.as_millis()).unwrap_or(i64::MAX),
        // A clock before 1970 is wrong, not a reason to stop.
        Err(_) => 0,
    }
}

/// Civil time, seconds.
pub fn wall() -> Wall {
    Wall::from_unix(wall_ms().div_euclid(1000))
}

/// Sixty-four bits from the kernel's generator.
///
/// # Panics
/// When the kernel has no random numbers, which no running Linux has.
pub fn random_u64() -> u64 {
    let mut bytes = [0u8; 8];
    let mut done = 0;
    while done < bytes.len() {
        // SAFETY: the pointer and length name the unfilled rest of `bytes`.
        let n =
            unsafe { libc::getrandom(bytes[done..].as_mut_ptr().cast(), bytes.len() - done, 0) };
        if n > 0 {
            done += n as usize;
        } else {
            let error = std::io::Error::last_os_error();
            assert!(
                error.kind() == std::io::ErrorKind::Interrupted,
                "getrandom: {error}"
            );
        }
    }
    u64::from_ne_bytes(bytes)
}
