//! The writer: takes what waits, decides what is written, refused or kept for later.
//!
//! How records are laid out and written is in [`plan`](super::plan), how much room there is in
//! [`room`](super::room).

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{TryRecvError, sync_channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::batch::{AppendError, Batch, Committed, Group};
use super::index::{Account, Ledger};
use super::plan::make_segment;
use super::queue::{Command, Written};
use super::reclaim::{Compacted, Job, Jobs};
use super::segment::SegmentFile;
use super::store::{Shared, SpoolError, SpoolState, lock};
use super::syncer::sync_at_once;

/// For so long the writer gathers at most before it writes, microseconds: while a sync runs, since
/// nobody can be told before that ends anyway, and until as many wait as lately came together,
/// since a sync costs as much as all else that is done for a message. After a kill -9, deliveries
/// of so long a time may be made again.
pub const GATHER_US: u64 = 500;
/// How often the room on the disk is looked at, at the least.
pub(super) const TICK: Duration = Duration::from_millis(500);
/// How often outcomes that couldn't be written are tried again, and how long messages are
/// refused after a failed write.
const RETRY: Duration = Duration::from_millis(250);
/// How long reclaiming pauses when its copies couldn't be written.
const RECLAIM_RETRY: Duration = Duration::from_secs(1);

/// Writes what waits, and keeps the books.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) ledger: Ledger,
    pub(super) active: Arc<SegmentFile>,
    /// End of the active segment.
    pub(super) at: u64,
    /// The segment before, and its end.
    pub(super) before: Option<(Arc<SegmentFile>, u64)>,
    /// The active segment couldn't be cut back: write to another one.
    pub(super) abandoned: bool,
    pub(super) next_segment: u32,
    pub(super) seq: u64,
    /// Outcomes that couldn't be written yet.
    pub(super) parked: VecDeque<Group>,
    pub(super) try_again: Option<Instant>,
    pub(super) reserve_held: bool,
    pub(super) room_looked: Instant,
    pub(super) room_due: u64,
    pub(super) jobs: Jobs,
    pub(super) job_runs: bool,
    /// No job before this.
    pub(super) reclaim_after: Option<Instant>,
    /// When the next sparse segment has been closed for long enough.
    pub(super) settles: Option<Instant>,
    /// When this step began.
    pub(super) now: Instant,
    /// Lets the syncer work, when there is nothing to do before it has. At first there is none.
    pub(super) nap: fn(&Shared),
}

fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::WriteZero
            | io::ErrorKind::FileTooLarge
    )
}

impl Writer {
    /// Makes the first segment of this run and syncs it.
    pub(super) fn open(
        shared: Arc<Shared>,
        ledger: Ledger,
        next_segment: u32,
        seq: u64,
        jobs: Jobs,
        now: Instant,
    ) -> Result<Self, SpoolError> {
        let dir = shared.segments_dir();
        let made = make_segment(&shared, next_segment, seq).or_else(|error| {
            // What is there can be delivered on a full disk too: that is what the reserve is for.
            let reserve = shared.dir.join("reserve");
            match is_full(&error) && std::fs::remove_file(reserve).is_ok() {
                true => make_segment(&shared, next_segment, seq),
                false => Err(error),
            }
        });
        let (active, at) = made.map_err(SpoolError::io(&dir))?;
        let disk = &shared.options.disk;
        disk.sync_data(&active.file).map_err(SpoolError::io(&dir))?;
        disk.sync_dir(&dir).map_err(SpoolError::io(&dir))?;
        active.synced.store(at, Ordering::Relaxed);
        let mut writer = Self {
            shared,
            ledger,
            active,
            at,
            before: None,
            abandoned: false,
            next_segment: next_segment + 1,
            seq: seq + 1,
            parked: VecDeque::new(),
            try_again: None,
            reserve_held: false,
            room_looked: now,
            room_due: 0,
            jobs,
            job_runs: false,
            reclaim_after: None,
            settles: None,
            now,
            nap: sync_at_once,
        };
        writer.ledger.open(writer.active.name, at);
        writer.ledger.shrunk = true;
        writer.look_at_room();
        writer.publish();
        Ok(writer)
    }

    /// Ends messages whose deliveries had all ended when the server stopped.
    pub(super) fn finish_recovered(&mut self, ids: Vec<u64>) {
        if ids.is_empty() {
            return;
        }
        let group = |id| Group {
            size: 0,
            batch: Batch::new().finish(id),
            crcs: Vec::new(),
            token: None,
            notify: None,
        };
        self.append(ids.into_iter().map(group).collect());
    }

    pub(super) fn run(mut self) {
        loop {
            let (commands, closed) = self.wait();
            self.step(Instant::now(), commands, closed);
            if closed {
                break;
            }
        }
        self.end();
    }

    /// Does what the commands say, and what has to be done from time to time.
    pub(super) fn step(&mut self, now: Instant, commands: Vec<Command>, closing: bool) {
        self.now = now;
        let mut groups = Vec::with_capacity(commands.len());
        for command in commands {
            match command {
                Command::Append(group) => groups.push(group),
                Command::Unlinked(segments) => {
                    self.job_runs = false;
                    segments.into_iter().for_each(|s| {
                        self.ledger.remove(s);
                        self.shared.forget_segment(s);
                    });
                }
                Command::Compacted { segment, how } => self.compacted(segment, how),
            }
        }
        self.tick(closing);
        self.append(groups);
        self.consider_reclaiming(closing);
        self.publish();
    }

    /// After the last step.
    pub(super) fn end(self) {
        if !self.parked.is_empty() {
            tracing::error!(
                batches = self.parked.len(),
                "outcomes couldn't be written before the end: their deliveries may be made again"
            );
        }
        let mut queue = lock(&self.shared.queue);
        queue.writer_done = true;
        // What the reclaimer still wanted; it hears that nobody answers.
        let left = std::mem::take(&mut queue.commands);
        drop(queue);
        drop(left);
        self.shared.syncer_wake.notify_one();
    }

    /// Sleeps until there is something to do.
    fn wait(&self) -> (Vec<Command>, bool) {
        let wake = &self.shared.writer_wake;
        let mut queue = lock(&self.shared.queue);
        let patience = if self.try_again.is_some() {
            RETRY
        } else {
            TICK
        };
        let until = Instant::now() + patience;
        while queue.commands.is_empty() && !queue.closed {
            let now = Instant::now();
            if now >= until {
                break;
            }
            queue.writer_sleeps = true;
            queue = wake
                .wait_timeout(queue, until - now)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        queue.writer_sleeps = false;
        let until = Instant::now() + Duration::from_micros(GATHER_US);
        while queue.wants_more() && !queue.closed && !queue.commands.is_empty() {
            let now = Instant::now();
            if now >= until {
                break;
            }
            queue.writer_gathers = true;
            queue = wake
                .wait_timeout(queue, until - now)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        queue.writer_gathers = false;
        (queue.take_commands(), queue.closed)
    }

    pub(super) fn hand_to_syncer(&self, written: Written) {
        let mut queue = lock(&self.shared.queue);
        queue.written.push(written);
        let wake = std::mem::take(&mut queue.syncer_sleeps);
        drop(queue);
        if wake {
            self.shared.syncer_wake.notify_one();
        }
    }

    fn release(&self, group: &Group) {
        let mut queue = lock(&self.shared.queue);
        let pending = if group.batch.refusable() {
            &mut queue.message_bytes
        } else {
            &mut queue.outcome_bytes
        };
        *pending = pending.saturating_sub(group.size);
    }

    /// Tells whoever waits for `group` that it failed.
    fn refuse(&self, group: Group, error: &AppendError, written: &mut Written) {
        if group.token.is_some() || group.notify.is_none() {
            self.release(&group);
        }
        if let Some((shard, token)) = group.token {
            written.results.push((
                shard,
                Committed {
                    token,
                    result: Err(error.clone()),
                },
            ));
        }
        if let Some(notify) = group.notify {
            let _ = notify.try_send(false);
        }
    }

    /// Writes groups in order; those that can't be written are refused or parked.
    fn append(&mut self, groups: Vec<Group>) {
        let mut groups: VecDeque<Group> = groups.into();
        while !groups.is_empty() {
            let mut refused = Written::default();
            let mut some = Vec::new();
            let mut size = 0;
            while let Some(group) = groups.pop_front() {
                if let Some(error) = self.objection(&group) {
                    self.refuse(group, &error, &mut refused);
                } else if !self.parked.is_empty() && !group.may_fail() {
                    self.parked.push_back(group);
                } else if !some.is_empty() && !self.fits(size, group.size) {
                    groups.push_front(group);
                    break;
                } else {
                    size += group.size;
                    some.push(group);
                }
            }
            if !refused.results.is_empty() {
                self.hand_to_syncer(refused);
            }
            if !some.is_empty() {
                self.write_or_refuse(some, size);
            }
        }
    }

    /// Whether a group of `more` bytes goes into one write with `size` bytes before it.
    fn fits(&self, size: usize, more: usize) -> bool {
        let together = size + more;
        together <= self.shared.options.write_bytes
            && self.at + together as u64 <= self.shared.options.segment_bytes
    }

    /// Why a group is not even tried.
    fn objection(&mut self, group: &Group) -> Option<AppendError> {
        if let Some(reason) = self.shared.failed() {
            return Some(AppendError::Failed(reason));
        }
        if !group.batch.refusable() || group.batch.records.is_empty() {
            return None;
        }
        if self.ledger.total + group.size as u64 > self.message_limit()
            || self.room_due < group.size as u64
        {
            self.look_at_room_for(group.size as u64);
        }
        match self.shared.state() {
            SpoolState::Open => None,
            SpoolState::NearlyFull { reason } => Some(AppendError::Full(reason)),
            SpoolState::Trouble { reason } => Some(AppendError::Trouble(reason)),
            SpoolState::Failed { reason } => Some(AppendError::Failed(reason)),
        }
    }

    fn write_or_refuse(&mut self, groups: Vec<Group>, size: usize) {
        let Err(error) = self.write(&groups, size) else {
            return self.written(groups);
        };
        let full = is_full(&error);
        let reason: Arc<str> = format!(
            "writing to {}: {error}",
            self.shared.segments_dir().display()
        )
        .into();
        self.cut_back(full);
        if full {
            self.shared.set_state(SpoolState::NearlyFull {
                reason: reason.clone(),
            });
        } else {
            self.shared.set_state(SpoolState::Trouble {
                reason: reason.clone(),
            });
        }
        self.try_again = Some(self.now + RETRY);
        let append_error = if full {
            AppendError::Full(reason)
        } else {
            AppendError::Trouble(reason)
        };
        let mut refused = Written::default();
        let mut kept = Vec::new();
        for group in groups {
            if group.may_fail() {
                self.refuse(group, &append_error, &mut refused);
            } else {
                kept.push(group);
            }
        }
        if !refused.results.is_empty() {
            self.hand_to_syncer(refused);
        }
        if kept.is_empty() {
            return;
        }
        // Without the messages it may fit.
        self.write_or_park(kept);
    }

    /// Writes outcomes, at last into the reserve; false if they had to be parked.
    fn write_or_park(&mut self, groups: Vec<Group>) -> bool {
        let size = groups.iter().map(|g| g.size).sum();
        loop {
            let Err(error) = self.write(&groups, size) else {
                self.written(groups);
                return true;
            };
            let full = is_full(&error);
            self.cut_back(full);
            if !(full && self.release_reserve()) {
                self.parked.extend(groups);
                return false;
            }
        }
    }

    /// Takes back what a failed write may have left, and waits until that is gone for good.
    ///
    /// A power cut would undo a cut that isn't synced, however late. Back would be messages that were
    /// refused, and that their clients have sent again; and those of a move or a batch that was
    /// written elsewhere afterwards, even if they have ended: nobody knows of these copies.
    fn cut_back(&mut self, full: bool) {
        let cut = self.shared.options.disk.set_len(&self.active.file, self.at);
        // After anything but a full disk, this file isn't trusted any further.
        self.abandoned |= cut.is_err() || !full;
        if cut.is_err() {
            // They are still in it: tombstones stay for as long as it does.
            let number = self.active.name.number;
            self.ledger.unread(number, self.shared.ids_below());
            if let Some(account) = self.ledger.segments.get_mut(&number) {
                account.urgent = true;
            }
        }
        let (notify, synced) = sync_channel(1);
        self.hand_to_syncer(Written {
            segment: Some(self.active.clone()),
            end: self.at,
            durable: true,
            notify: vec![notify],
            ..Written::default()
        });
        while synced.try_recv() == Err(TryRecvError::Empty) && self.shared.failed().is_none() {
            (self.nap)(&self.shared);
        }
    }

    /// Books are kept by [`write`](Self::write); here those who wait are handed to the syncer.
    fn written(&mut self, groups: Vec<Group>) {
        let mut written = Written {
            segment: Some(self.active.clone()),
            end: self.at,
            ..Written::default()
        };
        for group in groups {
            self.release_unless_moved(&group);
            written.durable |= group.durable();
            written.records += group.batch.records.len() as u64;
            written.results.extend(group.token.map(|(shard, token)| {
                (
                    shard,
                    Committed {
                        token,
                        result: Ok(()),
                    },
                )
            }));
            written.notify.extend(group.notify);
        }
        self.hand_to_syncer(written);
    }

    fn release_unless_moved(&self, group: &Group) {
        if group.notify.is_none() {
            self.release(group);
        }
    }

    /// What has to be done from time to time.
    fn tick(&mut self, closing: bool) {
        let now = self.now;
        if self.try_again.is_some_and(|t| now >= t || closing) {
            self.try_again = None;
            let mut parked = std::mem::take(&mut self.parked);
            // One by one: what fits a nearly full disk goes through.
            while let Some(group) = parked.pop_front() {
                if !self.write_or_park(vec![group]) {
                    break;
                }
            }
            self.parked.append(&mut parked);
            if !self.parked.is_empty() {
                self.try_again = Some(now + RETRY);
            }
            self.look_at_room();
        } else if now.duration_since(self.room_looked) >= TICK {
            self.look_at_room();
        }
    }

    fn compacted(&mut self, segment: u32, how: Compacted) {
        self.job_runs = false;
        let Some(account) = self.ledger.segments.get_mut(&segment) else {
            return;
        };
        match how {
            // No room, most likely: later.
            Compacted::Refused => self.reclaim_after = Some(self.now + RECLAIM_RETRY),
            Compacted::Unreadable => account.stuck = true,
            Compacted::Done if account.needed() > 0 => {
                account.stuck = true;
                tracing::error!(
                    segment,
                    bytes = account.needed(),
                    "not everything in a segment of the spool could be copied forward; it is left where it is"
                );
            }
            Compacted::Done => {
                account.urgent = false;
                let counter = &self.shared.counters.compacted;
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.ledger.shrunk = true;
    }

    /// Starts a job for the reclaimer if there is one.
    fn consider_reclaiming(&mut self, closing: bool) {
        let settled = self.settles.is_some_and(|at| at <= self.now);
        if self.job_runs
            || closing
            || !(self.ledger.shrunk || settled)
            || self.shared.failed().is_some()
        {
            return;
        }
        if self.reclaim_after.is_some_and(|after| self.now < after) {
            return;
        }
        self.reclaim_after = None;
        self.ledger.shrunk = false;
        let active = self.active.name.number;
        let closed = || {
            self.ledger
                .segments
                .values()
                .filter(|a| a.name.number != active && !a.stuck)
        };
        let full = matches!(self.shared.state(), SpoolState::NearlyFull { .. });
        let options = &self.shared.options;
        // What is on its way empties a segment without help, if it is given the time.
        let hurry = full || self.ledger.total > options.max_bytes / 2;
        let settles = |a: &Account| match a.closed {
            Some(closed) if !hurry => Some(closed + options.settle).filter(|at| *at > self.now),
            _ => None,
        };
        let percent = u64::from(options.sparse_percent) * if full { 2 } else { 1 };
        // Small segments count as if they were large: many starts leave many of them.
        let share = |a: &Account| a.needed() * 100 / a.size.max(options.segment_bytes / 4).max(1);
        let sparse = || closed().filter(|a| share(a) < percent.min(90));
        let next = sparse().filter_map(settles).min();
        let empty: Vec<_> = closed()
            .filter(|a| a.needed() == 0)
            .map(|a| a.name)
            .collect();
        // What frees room first: a full disk refuses copies.
        let job = if !empty.is_empty() {
            Some(Job::Unlink(empty))
        } else if let Some(a) = closed().find(|a| a.urgent) {
            Some(Job::Compact(a.name))
        } else {
            sparse()
                .filter(|a| settles(a).is_none())
                .min_by_key(|a| share(a))
                .map(|a| Job::Compact(a.name))
        };
        self.settles = next;
        let Some(job) = job else { return };
        self.job_runs = self.jobs.start(job);
    }

    fn publish(&self) {
        let counters = &self.shared.counters;
        counters.bytes.store(self.ledger.total, Ordering::Relaxed);
        counters.live.store(self.ledger.live, Ordering::Relaxed);
        counters
            .segments
            .store(self.ledger.segments.len() as u64, Ordering::Relaxed);
    }
}
