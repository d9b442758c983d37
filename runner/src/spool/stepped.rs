//! The spool without threads: a simulation drives the writer, the syncer and the reclaimer one
//! step at a time, and says what time it is.
//!
//! Everything else is as in production. The caller decides in which order the three work and what
//! happens in between; with a [`Disk`](super::disk::Disk) of its own it also decides which writes
//! and syncs succeed, and what is left of them after a crash. To crash, drop all handles.

use std::path::Path;
use std::time::Instant;

use super::reclaim::Reclaimer;
use super::recover::Recovery;
use super::store::{Opened, Options, Shared, Spool, SpoolError, SpoolState, lock};
use super::syncer::Syncer;
use super::writer::{TICK, Writer};

/// The writer, the syncer and the reclaimer of one spool.
pub struct Stepped {
    writer: Writer,
    syncer: Syncer,
    reclaimer: Reclaimer,
}

/// When the steps have something to do; a time in the past is at once, `None` is not by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// [`Stepped::write`].
    pub write: Option<Instant>,
    /// [`Stepped::sync`].
    pub sync: Option<Instant>,
    /// A job of the reclaimer is under way: [`Stepped::reclaim`] after each of the others.
    pub reclaim: bool,
    /// Outcomes that couldn't be written yet.
    pub parked: usize,
}

impl Stepped {
    /// [`Store::open`](super::Store::open) at a time that the caller says: `now`, and `wall_ms`
    /// since 1970.
    ///
    /// # Errors
    /// The same.
    pub fn open(
        dir: &Path,
        options: Options,
        now: Instant,
        wall_ms: u64,
    ) -> Result<(Spool, Self, Recovery), SpoolError> {
        let opened = Opened::new(dir, options, now, wall_ms)?;
        let stepped = Self {
            writer: opened.writer,
            syncer: Syncer::new(opened.shared.clone()),
            reclaimer: opened.reclaimer,
        };
        Ok((
            Spool::new(opened.shared, Vec::new()),
            stepped,
            opened.recovery,
        ))
    }

    fn shared(&self) -> &Shared {
        &self.writer.shared
    }

    /// What there is to do.
    pub fn pending(&mut self, now: Instant) -> Pending {
        let writer = &self.writer;
        let queue = lock(&writer.shared.queue);
        let room = matches!(
            writer.shared.state(),
            SpoolState::NearlyFull { .. } | SpoolState::Trouble { .. }
        )
        .then_some(writer.room_looked + TICK);
        let write = match queue.commands.is_empty() {
            false => Some(now),
            true => [writer.try_again, writer.reclaim_after, writer.settles, room]
                .into_iter()
                .flatten()
                .min(),
        };
        let ready = self.syncer.is_ready(&queue.written, now);
        Pending {
            write,
            sync: if ready { Some(now) } else { self.syncer.due },
            reclaim: writer.job_runs,
            parked: writer.parked.len(),
        }
    }

    /// The writer takes all that waits and writes it.
    pub fn write(&mut self, now: Instant) {
        let commands = lock(&self.shared().queue).take_commands();
        self.writer.step(now, commands, false);
    }

    /// The syncer syncs what was written, if somebody waits for it or its time has come; whether
    /// it did.
    pub fn sync(&mut self, now: Instant) -> bool {
        let mut queue = lock(&self.writer.shared.queue);
        if !self.syncer.is_ready(&queue.written, now) {
            return false;
        }
        let written = std::mem::take(&mut queue.written);
        drop(queue);
        self.syncer.commit(written);
        true
    }

    /// The reclaimer goes on with its job until it has to wait; whether it did anything.
    pub fn reclaim(&mut self) -> bool {
        self.reclaimer.step()
    }

    /// What [`Spool::close`] does: everything that is pending is written and synced.
    pub fn close(mut self, now: Instant) {
        let mut queue = lock(&self.writer.shared.queue);
        queue.closed = true;
        let commands = queue.take_commands();
        drop(queue);
        self.writer.step(now, commands, true);
        let written = std::mem::take(&mut lock(&self.shared().queue).written);
        self.syncer.commit(written);
        self.writer.end();
    }
}
