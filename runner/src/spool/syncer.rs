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
}

impl Syncer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(super) fn run(self) {
        let mut held: Vec<Written> = Vec::new();
        let mut due: Option<Instant> = None;
        loop {
            let mut queue = lock(&self.shared.queue);
            queue.syncing = false;
            if std::mem::take(&mut queue.writer_gathers) {
                self.shared.writer_wake.notify_one();
            }
            loop {
                held.append(&mut queue.written);
                if due.is_none() && held.iter().any(|w| w.segment.is_some()) {
                    due = Some(Instant::now() + Duration::from_millis(OUTCOME_SYNC_MS));
                }
                let urgent = held.iter().any(|w| w.durable || w.segment.is_none());
                if urgent || queue.writer_done {
                    break;
                }
                let now = Instant::now();
                let wake = &self.shared.syncer_wake;
                queue = match due {
                    Some(due) if now >= due => break,
                    Some(due) => {
                        wake.wait_timeout(queue, due - now)
                            .unwrap_or_else(PoisonError::into_inner)
                            .0
                    }
                    None => wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
                };
            }
            if held.is_empty() && queue.writer_done {
                return;
            }
            queue.syncing = true;
            drop(queue);
            due = None;
            self.commit(std::mem::take(&mut held));
        }
    }

    fn commit(&self, written: Vec<Written>) {
        let shared = &self.shared;
        let mut error = shared.failed();
        if error.is_none()
            && let Err(e) = self.sync(&written)
        {
            let reason: Arc<str> =
                format!("syncing {}: {e}", shared.segments_dir().display()).into();
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
                if let (Some(reason), Ok(())) = (&error, &committed.result) {
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

    fn sync(&self, written: &[Written]) -> io::Result<()> {
        let shared = &self.shared;
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
            shared.counters.commits.fetch_add(1, Ordering::Relaxed);
            segment.synced.store(end, Ordering::Relaxed);
        }
        if shared.options.sync && written.iter().any(|w| w.new_file) {
            disk.sync_dir(&shared.segments_dir())?;
        }
        Ok(())
    }
}
