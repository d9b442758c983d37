//! The memory of this process: how much it is, and giving back what was needed for a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often it is looked whether there is something to give back.
const TRIM_LOOK: Duration = Duration::from_secs(5);
/// Less growth than this isn't worth it, bytes.
const TRIM_BYTES_MIN: u64 = 8 << 20;

/// Resident bytes; 0 where the system doesn't say.
pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|s| s.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Gives memory back to the system that the allocator would keep, in the arena of each thread: what a
/// start needed to read a large queue, or a moment with many messages; that is a third of all.
pub struct Trim {
    looked: Instant,
    /// Resident bytes after the last time.
    resident: Arc<AtomicU64>,
    runs: Option<tokio::task::JoinHandle<()>>,
}

impl Default for Trim {
    /// Has given nothing back yet, so that the first look does.
    fn default() -> Self {
        Self {
            looked: Instant::now(),
            resident: Arc::default(),
            runs: None,
        }
    }
}

impl Trim {
    /// Looks now and then, and gives back when memory has grown by a tenth since the last time: while
    /// a queue fills, that happens a few times in all. To be called inside a runtime of tokio.
    pub fn when_grown(&mut self) {
        if self.looked.elapsed() < TRIM_LOOK {
            return;
        }
        self.looked = Instant::now();
        let last = self.resident.load(Ordering::Acquire);
        let grown = resident_bytes() > last + (last / 10).max(TRIM_BYTES_MIN);
        if !grown || self.runs.as_ref().is_some_and(|r| !r.is_finished()) {
            return;
        }
        let after = self.resident.clone();
        self.runs = Some(tokio::task::spawn_blocking(move || {
            give_back();
            after.store(resident_bytes(), Ordering::Release);
        }));
    }
}

fn give_back() {
    // SAFETY: it takes no pointer, and only unused pages are given back.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_memory() {
        let before = resident_bytes();
        let touched = std::hint::black_box(vec![1_u8; 256 << 20]);
        let with = resident_bytes();
        // Other tests take and give back meanwhile.
        assert!(
            before > 0 && with >= touched.len() as u64,
            "{before}, {with}"
        );
        drop(touched);
    }
}
