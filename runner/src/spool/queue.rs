//! The bounded queue between the shards, the writer and the syncer.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, MutexGuard};

use super::batch::{Batch, Committed, Group, Moved, Record, Refused, RefusedWhy};
use super::reclaim::Compacted;
use super::record::BODY_BYTES_MAX;
use super::segment::SegmentFile;
use super::store::{Shared, lock};

#[derive(Debug)]
pub(super) enum Command {
    Append(Group),
    Unlinked(Vec<u32>),
    Compacted { segment: u32, how: Compacted },
}

/// Something for the syncer.
#[derive(Default)]
pub(super) struct Written {
    pub(super) segment: Option<Arc<SegmentFile>>,
    pub(super) end: u64,
    pub(super) records: u64,
    pub(super) new_file: bool,
    pub(super) durable: bool,
    pub(super) results: Vec<(u16, Committed)>,
    pub(super) notify: Vec<SyncSender<bool>>,
}

/// Between shards, writer and syncer.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) commands: Vec<Command>,
    pub(super) message_bytes: usize,
    pub(super) outcome_bytes: usize,
    pub(super) written: Vec<Written>,
    pub(super) writer_sleeps: bool,
    pub(super) writer_gathers: bool,
    pub(super) syncer_sleeps: bool,
    pub(super) syncing: bool,
    /// Groups in `commands` that somebody waits for.
    waiting: usize,
    /// How many of those came together lately.
    together: usize,
    pub(super) closed: bool,
    pub(super) writer_done: bool,
}

impl Queue {
    pub(super) fn pending_bytes(&self) -> usize {
        self.message_bytes + self.outcome_bytes
    }

    /// Whether what waits is better written a little later. Where one sends alone, it never is.
    pub(super) fn wants_more(&self) -> bool {
        self.syncing || (self.together > 1 && self.waiting < self.together)
    }

    pub(super) fn take_commands(&mut self) -> Vec<Command> {
        let came = std::mem::take(&mut self.waiting);
        self.together = came.max(self.together - self.together.div_ceil(8));
        std::mem::take(&mut self.commands)
    }
}

impl Shared {
    /// Puts a batch of a shard into the queue.
    pub(super) fn push(&self, batch: Batch, token: Option<(u16, u64)>) -> Result<(), Refused> {
        let mut crcs = Vec::new();
        for record in &batch.records {
            if let Record::Message { body, .. } = record {
                let len: u64 = body.iter().map(|b| b.len() as u64).sum();
                if len > BODY_BYTES_MAX {
                    return Err(Refused {
                        why: RefusedWhy::TooLarge,
                        batch,
                    });
                }
                crcs.push(
                    body.iter()
                        .fold(0, |crc, part| crc32c::crc32c_append(crc, part)),
                );
            }
        }
        let size = batch.size();
        let message = batch.refusable();
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err(Refused {
                why: RefusedWhy::Closed,
                batch,
            });
        }
        let (pending, max) = match message {
            true => (&mut queue.message_bytes, self.options.pending_bytes),
            false => (&mut queue.outcome_bytes, self.options.pending_outcome_bytes),
        };
        // One that is larger than the bound by itself goes when nothing else waits.
        if *pending != 0 && *pending + size > max {
            return Err(Refused {
                why: RefusedWhy::Busy,
                batch,
            });
        }
        *pending += size;
        self.enqueue(
            queue,
            Command::Append(Group {
                batch,
                crcs,
                token,
                notify: None,
                size,
            }),
        );
        Ok(())
    }

    fn enqueue(&self, mut queue: MutexGuard<'_, Queue>, command: Command) {
        if queue.writer_done {
            return;
        }
        queue.waiting += usize::from(matches!(&command, Command::Append(g) if g.durable()));
        queue.commands.push(command);
        let wake = std::mem::take(&mut queue.writer_sleeps)
            || (queue.writer_gathers && !queue.wants_more());
        drop(queue);
        if wake {
            self.writer_wake.notify_one();
        }
    }

    /// Gives the writer records to copy forward, or nothing. `notify` hears `true` when that and
    /// everything before it is synced.
    pub(super) fn push_moved(&self, moved: Vec<Moved>, notify: SyncSender<bool>) {
        let batch = Batch {
            records: moved.into_iter().map(Record::Moved).collect(),
        };
        let group = Group {
            size: batch.size(),
            batch,
            crcs: Vec::new(),
            token: None,
            notify: Some(notify),
        };
        self.enqueue(lock(&self.queue), Command::Append(group));
    }

    pub(super) fn push_unlinked(&self, segments: Vec<u32>) {
        self.enqueue(lock(&self.queue), Command::Unlinked(segments));
    }

    pub(super) fn push_compacted(&self, segment: u32, how: Compacted) {
        self.enqueue(lock(&self.queue), Command::Compacted { segment, how });
    }
}
