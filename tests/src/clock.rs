//! The civil clock of a server, which a test can set while it runs (libfaketime).
//!
//! Only what the system calls the real-time clock moves; the monotonic one goes on, as it does when
//! an operator, NTP or a virtual machine sets the time.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A clock that begins right.
pub struct CivilClock {
    file: PathBuf,
    library: PathBuf,
}

impl CivilClock {
    /// One whose file is in `dir`.
    ///
    /// # Panics
    /// When libfaketime is not where Debian puts it; ask [`need`](crate::need::need) for `faketime`.
    pub fn new(dir: &Path) -> Self {
        let architectures = std::fs::read_dir("/usr/lib").expect("/usr/lib");
        let library = architectures
            .flatten()
            .map(|a| a.path().join("faketime/libfaketimeMT.so.1"))
            .find(|l| l.is_file())
            .expect("libfaketime, which the test asked for");
        let clock = Self {
            file: dir.join("civil-clock"),
            library,
        };
        clock.set(0);
        clock
    }

    /// What the server needs in its environment.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", &*self.library.to_string_lossy()),
            ("FAKETIME_TIMESTAMP_FILE", &*self.file.to_string_lossy()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
    }

    /// Sets it so many seconds off the right time.
    ///
    /// # Panics
    /// When its file can't be written.
    pub fn set(&self, off_s: i64) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{off_s:+}\n")).expect("the clock's file");
        std::fs::rename(&new, &self.file).expect("the clock's file");
    }
}

/// The right time and so many seconds, since the Unix epoch.
pub fn unix_and(off_s: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| d.as_secs() as i64) + off_s
}

/// A time like `2026-11-25T03:51:58.115Z` as seconds since the Unix epoch.
pub fn unix_of(time: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| time.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    // Days since 0000-03-01 in the proleptic Gregorian calendar.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + number(11..13)?) * 60 + number(14..16)?) * 60 + number(17..19)?)
}
