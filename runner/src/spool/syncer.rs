//! The syncer: one `fdatasync` for everything that was written meanwhile.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::batch::{AppendError, Committed};
use super::queue::Written;
use super::segment::SegmentFile;
use super::store::{Shared, SpoolState, lock};

/// Outcomes that nobody waits for are synced within this time, milliseconds. After a power
/// failure, deliveries of so long a time may be made again.
pub const OUTCOME_SYNC_MS: u64 = 50;

/// Syncs what was written and tells those who wait.
pub(super) struct Syncer {
    shared: Arc<Shared>,
    /// When what was written and nobody waits for is synced.
    pub(super) due: Option<Instant>,
}

impl Syncer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, due: None }
    }

    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            let mut queue = lock(&shared.queue);
            queue.syncing = false;
            if std::mem::take(&mut queue.writer_gathers) {
                shared.writer_wake.notify_one();
            }
            while !queue.writer_done {
                let now = Instant::now();
                if self.is_ready(&queue.written, now) {
                    break;
                }
                queue.syncer_sleeps = true;
                let wake = &shared.syncer_wake;
                queue = match self.due {
                    Some(due) => {
                        wake.wait_timeout(queue, due - now)
                            .unwrap_or_else(PoisonError::into_inner)
                            .0
                    }
                    None => wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
                };
            }
            queue.syncer_sleeps = false;
            if queue.written.is_empty() && queue.writer_done {
                return;
            }
            queue.syncing = true;
            let written = std::mem::take(&mut queue.written);
            drop(queue);
            self.commit(written);
        }
    }

    /// Whether what was written is to be synced now: somebody waits for it, or its time has come.
    pub(super) fn is_ready(&mut self, written: &[Written], now: Instant) -> bool {
        if self.due.is_none() && written.iter().any(|w| w.segment.is_some()) {
            self.due = Some(now + Duration::from_millis(OUTCOME_SYNC_MS));
        }
        let urgent = written.iter().any(|w| w.durable || w.segment.is_none());
        urgent || self.due.is_some_and(|due| now >= due)
    }

    pub(super) fn commit(&mut self, written: Vec<Written>) {
        self.due = None;
        commit(&self.shared, written);
    }
}

/// Instead of waiting for a syncer, where there is none: does its work.
pub(super) fn sync_at_once(shared: &Shared) {
    let written = std::mem::take(&mut lock(&shared.queue).written);
    commit(shared, written);
}

/// Syncs what was written and tells those who wait.
fn commit(shared: &Shared, written: Vec<Written>) {
    let mut error = shared.failed();
    if error.is_none()
        && let Err(e) = sync(shared, &written)
    {
        let reason: Arc<str> = format!("syncing {}: {e}", shared.segments_dir().display()).into();
        shared.set_state(SpoolState::Failed {
            reason: reason.clone(),
        });
        error = Some(reason);
    }
    if error.is_none() {
        let records = written.iter().map(|w| w.records).sum();
        shared.counters.synced.fetch_add(records, Ordering::Relaxed);
    }
    let mut by_shard: Vec<Vec<Committed>> = Vec::new();
    for w in written {
        for (shard, mut committed) in w.results {
            // Also what was refused: whether it is gone isn't known now.
            if let Some(reason) = &error {
                committed.result = Err(AppendError::Failed(reason.clone()));
            }
            let shard = usize::from(shard);
            if by_shard.len() <= shard {
                by_shard.resize_with(shard + 1, Vec::new);
            }
            by_shard[shard].push(committed);
        }
        for notify in w.notify {
            let _ = notify.try_send(error.is_none());
        }
    }
    let sinks = lock(&shared.sinks);
    for (shard, results) in by_shard.into_iter().enumerate() {
        if let (false, Some(Some(sink))) = (results.is_empty(), sinks.get(shard)) {
            sink.committed(results);
        }
    }
}

fn sync(shared: &Shared, written: &[Written]) -> io::Result<()> {
    let disk = &shared.options.disk;
    let mut ends: Vec<(&Arc<SegmentFile>, u64)> = Vec::new();
    for w in written {
        let Some(segment) = &w.segment else { continue };
        match ends.last_mut() {
            Some((last, end)) if last.name == segment.name => *end = w.end,
            _ => ends.push((segment, w.end)),
        }
    }
    for (segment, end) in ends {
        if shared.options.sync {
            disk.sync_data(&segment.file)?;
        }
        if !disk.is_linked(&segment.file)? {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the segment that is being written was removed",
            ));
        }
        shared.counters.commits.fetch_add(1, Ordering::Relaxed);
        segment.synced.store(end, Ordering::Relaxed);
    }
    if shared.options.sync && written.iter().any(|w| w.new_file) {
        disk.sync_dir(&shared.segments_dir())?;
    }
    Ok(())
}
