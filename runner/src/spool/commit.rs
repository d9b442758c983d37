//! Group commit: the queue that shards append to, the writer, and the syncer.

use std::collections::{HashSet, VecDeque};
use std::fs::OpenOptions;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::disk::write_all;
use super::envelope::Envelope;
use super::index::{Ledger, Place};
use super::reclaim::{Job, Jobs};
use super::record::{
    ALIGN, BODY_BYTES_MAX, HEADER_BYTES, Header, Kind, Meta, OUTCOMES_MAX, Outcome,
    encode_outcomes, encode_tombstone, padding,
};
use super::segment::{SegmentFile, SegmentName};
use super::store::{Shared, SpoolError, SpoolState, lock};

/// Outcomes that nobody waits for are synced within this time, milliseconds. After a power
/// failure, deliveries of so long a time may be made again.
pub const OUTCOME_SYNC_MS: u64 = 50;
/// While a sync runs, the writer gathers for so long before it writes, microseconds: nobody can
/// be told before that sync ends anyway. After a kill -9, deliveries of so long a time may be
/// made again.
pub const GATHER_US: u64 = 200;
/// How often the room on the disk is looked at, at the least.
const TICK: Duration = Duration::from_millis(500);
/// How often outcomes that couldn't be written are tried again, and how long messages are
/// refused after a failed write.
const RETRY: Duration = Duration::from_millis(250);
/// The room on the disk is looked at after so many bytes.
const ROOM_EVERY_BYTES: u64 = 8 << 20;

/// Why an append was refused at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedWhy {
    /// The queue is full: 451, try again in a moment.
    #[error("too much is waiting to be written")]
    Busy,
    /// No room: 452.
    #[error("{0}")]
    Full(Arc<str>),
    /// A write failed a moment ago: 451.
    #[error("{0}")]
    Trouble(Arc<str>),
    /// The spool has failed: 451 until the server is started again.
    #[error("{0}")]
    Failed(Arc<str>),
    /// The content is larger than [`BODY_BYTES_MAX`]: 552.
    #[error("the message is too large for the spool")]
    TooLarge,
    /// The spool was closed.
    #[error("the spool is closed")]
    Closed,
}

impl RefusedWhy {
    pub(super) fn of(state: &SpoolState) -> Self {
        match state {
            SpoolState::Open => Self::Busy,
            SpoolState::NearlyFull { reason } => Self::Full(reason.clone()),
            SpoolState::Trouble { reason } => Self::Trouble(reason.clone()),
            SpoolState::Failed { reason } => Self::Failed(reason.clone()),
        }
    }
}

/// An append that was refused at once, with what was to be appended.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    /// Why.
    pub why: RefusedWhy,
    /// What; may be appended again.
    pub batch: Batch,
}

/// An append that was taken but couldn't be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No room: 452.
    #[error("{0}")]
    Full(Arc<str>),
    /// The write failed: 451.
    #[error("{0}")]
    Trouble(Arc<str>),
    /// The spool has failed: 451. The records may or may not be there after a restart.
    #[error("{0}")]
    Failed(Arc<str>),
}

/// One completed append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// What the shard gave with it.
    pub token: u64,
    /// `Ok`: on disk and synced.
    pub result: Result<(), AppendError>,
}

/// Where a shard hears of its completed appends. Called on the syncer's thread, once per batch:
/// hand the list over (a channel and one wake-up) and return.
pub trait CommitSink: Send {
    /// These appends of this shard have ended.
    fn committed(&self, results: Vec<Committed>);
}

/// Records that are appended together.
#[derive(Debug, Default)]
pub struct Batch {
    records: Vec<Record>,
}

#[derive(Debug)]
enum Record {
    Message {
        envelope: Envelope,
        body: Vec<Bytes>,
    },
    Outcomes {
        id: u64,
        head: Vec<u8>,
    },
    Tombstone {
        id: u64,
    },
    /// Copies of records of an older segment, with their old sequence numbers.
    Moved(Moved),
}

/// A record of an older segment that is copied forward if it still lives.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) from: u32,
    pub(super) at: u64,
    pub(super) header: Header,
    /// `None`: replaced by later outcomes in the same segment; it only has to be forgotten.
    pub(super) head: Option<Vec<u8>>,
    pub(super) body: Vec<u8>,
    /// Of a tombstone: where its message lay.
    pub(super) of: u32,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message. Its content is the concatenation of `body`; it is not copied.
    #[must_use]
    pub fn message(mut self, envelope: Envelope, body: Vec<Bytes>) -> Self {
        self.records.push(Record::Message { envelope, body });
        self
    }

    /// Adds what became of deliveries of the message `id`.
    #[must_use]
    pub fn outcomes(mut self, id: u64, outcomes: &[Outcome]) -> Self {
        for some in outcomes.chunks(OUTCOMES_MAX) {
            let mut head = Vec::with_capacity(some.len() * 8);
            encode_outcomes(some, &mut head);
            self.records.push(Record::Outcomes { id, head });
        }
        self
    }

    /// Adds the end of the message `id`.
    #[must_use]
    pub fn finish(mut self, id: u64) -> Self {
        self.records.push(Record::Tombstone { id });
        self
    }

    /// The messages in it, with their content, in order.
    pub fn into_messages(self) -> impl Iterator<Item = (Envelope, Vec<Bytes>)> {
        self.records.into_iter().filter_map(|record| match record {
            Record::Message { envelope, body } => Some((envelope, body)),
            _ => None,
        })
    }

    /// True if it holds nothing that has already happened, so that it may be refused for want of
    /// room.
    pub(super) fn refusable(&self) -> bool {
        self.records
            .iter()
            .all(|r| matches!(r, Record::Message { .. }))
    }

    fn size(&self) -> usize {
        self.records
            .iter()
            .map(|r| HEADER_BYTES + ALIGN + r.len())
            .sum()
    }
}

impl Record {
    fn len(&self) -> usize {
        match self {
            Self::Message { envelope, body } => {
                envelope.as_bytes().len() + body.iter().map(Bytes::len).sum::<usize>()
            }
            Self::Outcomes { head, .. } => head.len(),
            Self::Tombstone { .. } => 8,
            Self::Moved(moved) => moved.head.as_ref().map_or(0, Vec::len) + moved.body.len(),
        }
    }
}

/// A batch on its way, and who waits for it.
#[derive(Debug)]
struct Group {
    batch: Batch,
    /// crc32c of the body of each message, computed by the shard.
    crcs: Vec<u32>,
    token: Option<(u16, u64)>,
    notify: Option<SyncSender<bool>>,
    size: usize,
}

impl Group {
    fn durable(&self) -> bool {
        self.token.is_some() || self.notify.is_some()
    }

    /// Messages are refused when they can't be written, and moves given up; outcomes never.
    fn may_fail(&self) -> bool {
        self.batch
            .records
            .iter()
            .all(|r| matches!(r, Record::Message { .. } | Record::Moved(_)))
    }
}

#[derive(Debug)]
enum Command {
    Append(Group),
    Unlinked(Vec<u32>),
    Compacted { segment: u32, done: bool },
}

/// Something for the syncer.
#[derive(Default)]
struct Written {
    segment: Option<Arc<SegmentFile>>,
    end: u64,
    records: u64,
    new_file: bool,
    durable: bool,
    results: Vec<(u16, Committed)>,
    notify: Vec<SyncSender<bool>>,
}

/// Between shards, writer and syncer.
#[derive(Default)]
pub(super) struct Queue {
    commands: Vec<Command>,
    message_bytes: usize,
    outcome_bytes: usize,
    written: Vec<Written>,
    writer_sleeps: bool,
    writer_gathers: bool,
    syncing: bool,
    pub(super) closed: bool,
    writer_done: bool,
}

impl Queue {
    pub(super) fn pending_bytes(&self) -> usize {
        self.message_bytes + self.outcome_bytes
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
        queue.commands.push(command);
        let wake = std::mem::take(&mut queue.writer_sleeps);
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

    pub(super) fn push_compacted(&self, segment: u32, done: bool) {
        self.enqueue(lock(&self.queue), Command::Compacted { segment, done });
    }
}

/// Writes what waits, and keeps the books.
pub(super) struct Writer {
    shared: Arc<Shared>,
    ledger: Ledger,
    active: Arc<SegmentFile>,
    /// End of the active segment.
    at: u64,
    /// The active segment couldn't be cut back: write to another one.
    abandoned: bool,
    next_segment: u32,
    seq: u64,
    /// Outcomes that couldn't be written yet.
    parked: VecDeque<Group>,
    try_again: Option<Instant>,
    reserve_held: bool,
    room_looked: Instant,
    room_due: u64,
    jobs: Jobs,
    job_runs: bool,
}

/// One record about to be written.
struct Planned<'a> {
    record: &'a Record,
    at: u64,
    header: Header,
    head: Head<'a>,
}

enum Head<'a> {
    Borrowed(&'a [u8]),
    Tombstone([u8; 8]),
}

impl Head<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Tombstone(bytes) => bytes,
        }
    }
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
    ) -> Result<Self, SpoolError> {
        let dir = shared.segments_dir();
        let (active, at) =
            make_segment(&shared, next_segment, seq).map_err(SpoolError::io(&dir))?;
        let disk = &shared.options.disk;
        disk.sync_data(&active.file).map_err(SpoolError::io(&dir))?;
        disk.sync_dir(&dir).map_err(SpoolError::io(&dir))?;
        active.synced.store(at, Ordering::Relaxed);
        let mut writer = Self {
            shared,
            ledger,
            active,
            at,
            abandoned: false,
            next_segment: next_segment + 1,
            seq: seq + 1,
            parked: VecDeque::new(),
            try_again: None,
            reserve_held: false,
            room_looked: Instant::now(),
            room_due: 0,
            jobs,
            job_runs: false,
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
                    Command::Compacted { segment, done } => self.compacted(segment, done),
                }
            }
            self.tick(closed);
            self.append(groups);
            self.consider_reclaiming(closed);
            self.publish();
            if closed {
                break;
            }
        }
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
        // The queue holds what came while the last write was made: it isn't gathered further
        // unless a sync runs, behind which it would have to wait anyway.
        let until = Instant::now() + Duration::from_micros(GATHER_US);
        while queue.syncing && !queue.closed && !queue.commands.is_empty() {
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
        (std::mem::take(&mut queue.commands), queue.closed)
    }

    fn hand_to_syncer(&self, written: Written) {
        let mut queue = lock(&self.shared.queue);
        queue.written.push(written);
        drop(queue);
        self.shared.syncer_wake.notify_one();
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
        self.try_again = Some(Instant::now() + RETRY);
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

    /// Takes back what a failed write may have left.
    fn cut_back(&mut self, full: bool) {
        let cut = self.shared.options.disk.set_len(&self.active.file, self.at);
        // After anything but a full disk, this file isn't trusted any further.
        self.abandoned |= cut.is_err() || !full;
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

    /// Writes the groups with one call and enters them in the books, or changes nothing.
    fn write(&mut self, groups: &[Group], size: usize) -> io::Result<()> {
        let shared = self.shared.clone();
        let options = &shared.options;
        let outcomes = !groups.iter().all(Group::may_fail);
        if outcomes && self.ledger.total + size as u64 > options.max_bytes {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the spool's max_bytes are used up",
            ));
        }
        if size > 0
            && (self.abandoned
                || (self.at + size as u64 > options.segment_bytes && self.has_records()))
        {
            self.roll()?;
        }

        let (planned, end) = self.plan(groups);
        if !planned.is_empty() {
            let headers: Vec<_> = planned.iter().map(|p| p.header.encode()).collect();
            let mut slices = Vec::with_capacity(planned.len() * 4);
            for (p, header) in planned.iter().zip(&headers) {
                slices.push(IoSlice::new(header));
                slices.push(IoSlice::new(p.head.bytes()));
                match p.record {
                    Record::Message { body, .. } => {
                        slices.extend(body.iter().map(|part| IoSlice::new(part)))
                    }
                    Record::Moved(moved) => slices.push(IoSlice::new(&moved.body)),
                    _ => {}
                }
                let len = HEADER_BYTES as u64
                    + u64::from(p.header.head_len)
                    + u64::from(p.header.body_len);
                slices.push(IoSlice::new(&[0; ALIGN][..padding(len) as usize]));
            }
            write_all(&*options.disk, &self.active.file, &mut slices, self.at)?;
        }
        self.seq += planned.len() as u64;
        let grown = end - self.at;
        self.at = end;
        self.room_due = self.room_due.saturating_sub(grown);
        enter(
            &shared,
            &mut self.ledger,
            self.active.name.number,
            grown,
            &planned,
        );
        for group in groups {
            for record in &group.batch.records {
                if let Record::Moved(Moved {
                    from,
                    header,
                    head: None,
                    ..
                }) = record
                {
                    self.ledger
                        .outcomes_gone(&shared.index, header.id, *from, header.record_len());
                }
            }
        }
        Ok(())
    }

    fn has_records(&self) -> bool {
        self.ledger
            .segments
            .get(&self.active.name.number)
            .is_none_or(|a| a.size > META_BYTES)
    }

    /// Lays out the records of the groups behind the end of the active segment.
    fn plan<'a>(&self, groups: &'a [Group]) -> (Vec<Planned<'a>>, u64) {
        let active = self.active.name.number;
        let index = &self.shared.index;
        let synced = (self.active.synced() / ALIGN as u64) as u32;
        // What earlier records of this very write change; the index learns of it afterwards.
        let mut new: HashSet<u64> = HashSet::new();
        let mut finished: HashSet<u64> = HashSet::new();
        let mut moved_here: HashSet<u64> = HashSet::new();
        let mut planned: Vec<Planned<'a>> = Vec::new();
        let mut at = self.at;
        for group in groups {
            let first = planned.len();
            let mut crcs = group.crcs.iter();
            for record in &group.batch.records {
                let mut header = Header {
                    kind: Kind::Message,
                    group_goes_on: false,
                    group_began: false,
                    salt: self.active.name.salt,
                    id: 0,
                    seq: self.seq + planned.len() as u64,
                    head_len: 0,
                    body_len: 0,
                    head_crc: 0,
                    body_crc: 0,
                    synced,
                };
                let head = match record {
                    Record::Message { envelope, body } => {
                        header.id = envelope.id();
                        header.body_len = body.iter().map(Bytes::len).sum::<usize>() as u32;
                        header.body_crc = crcs.next().copied().unwrap_or_default();
                        new.insert(header.id);
                        Head::Borrowed(envelope.as_bytes())
                    }
                    Record::Outcomes { id, head } => {
                        header.id = *id;
                        header.kind = Kind::Outcomes;
                        Head::Borrowed(head)
                    }
                    Record::Tombstone { id } => {
                        let place = index.place(*id).map(|p| p.segment);
                        let here = new.contains(id) || moved_here.contains(id);
                        let lies = if here { Some(active) } else { place };
                        let Some(lies) = lies.filter(|_| finished.insert(*id)) else {
                            continue;
                        };
                        header.id = *id;
                        header.kind = Kind::Tombstone;
                        Head::Tombstone(encode_tombstone(lies))
                    }
                    Record::Moved(moved) => {
                        let Some(head) = &moved.head else { continue };
                        let id = moved.header.id;
                        let place = index.place(id).filter(|_| !finished.contains(&id));
                        let lives = match moved.header.kind {
                            Kind::Message => {
                                place.is_some_and(|p| p.segment == moved.from && p.at() == moved.at)
                            }
                            Kind::Outcomes => place.is_some(),
                            Kind::Tombstone => {
                                moved.of != moved.from
                                    && self.ledger.segments.contains_key(&moved.of)
                            }
                            Kind::Meta => false,
                        };
                        if !lives {
                            continue;
                        }
                        if moved.header.kind == Kind::Message {
                            moved_here.insert(id);
                        }
                        header.id = id;
                        header.kind = moved.header.kind;
                        header.seq = moved.header.seq;
                        header.body_len = moved.body.len() as u32;
                        header.body_crc = moved.header.body_crc;
                        Head::Borrowed(head)
                    }
                };
                header.head_len = head.bytes().len() as u32;
                header.head_crc = crc32c::crc32c(head.bytes());
                let len = header.record_len();
                planned.push(Planned {
                    record,
                    at,
                    header,
                    head,
                });
                at += len;
            }
            // Copies stand for themselves: each was a whole before.
            let group = planned.get_mut(first..).unwrap_or_default();
            let len = group.len();
            for (i, p) in group.iter_mut().enumerate() {
                let alone = matches!(p.record, Record::Moved(_));
                p.header.group_began = !alone && i > 0;
                p.header.group_goes_on = !alone && i + 1 < len;
            }
        }
        (planned, at)
    }

    /// Closes the active segment and goes on in a new one.
    fn roll(&mut self) -> io::Result<()> {
        let (active, at) = make_segment(&self.shared, self.next_segment, self.seq)?;
        self.ledger.open(active.name, at);
        self.ledger.shrunk = true;
        self.active = active;
        self.at = at;
        self.abandoned = false;
        self.next_segment += 1;
        self.seq += 1;
        self.hand_to_syncer(Written {
            segment: Some(self.active.clone()),
            end: at,
            new_file: true,
            ..Written::default()
        });
        Ok(())
    }

    /// What has to be done from time to time.
    fn tick(&mut self, closing: bool) {
        let now = Instant::now();
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

    /// Messages are refused above this.
    fn message_limit(&self) -> u64 {
        let o = &self.shared.options;
        o.max_bytes - (o.reserve_bytes + o.segment_bytes).min(o.max_bytes / 4)
    }

    fn look_at_room(&mut self) {
        self.look_at_room_for(0);
    }

    /// Looks whether there is room for `more` bytes of messages, and sets the state.
    fn look_at_room_for(&mut self, more: u64) {
        let shared = self.shared.clone();
        let options = &shared.options;
        self.room_looked = Instant::now();
        let Ok(room) = options.disk.room(&shared.dir) else {
            return;
        };
        shared.counters.free.store(room.free, Ordering::Relaxed);
        let percent_free = room.total / 100 * u64::from(options.min_free_percent.min(100));
        let min_free = options.min_free_bytes.max(percent_free);
        let total = self.ledger.total;
        let limit = self.message_limit();
        let was_full = matches!(shared.state(), SpoolState::NearlyFull { .. });
        // Once full, a little more than the least has to be free, so that it doesn't flap.
        let slack = |bytes: u64| if was_full { bytes / 32 } else { 0 };
        if !self.reserve_held
            && self.parked.is_empty()
            && room.free > min_free.saturating_add(options.reserve_bytes)
        {
            self.take_reserve();
        }
        let mb = |bytes: u64| bytes.div_ceil(1 << 20);
        let short: Option<Arc<str>> = if total + more > limit - slack(limit) {
            Some(
                format!(
                    "the spool holds {} MB and may hold {} MB",
                    mb(total),
                    mb(limit)
                )
                .into(),
            )
        } else if room.free < min_free + slack(min_free) + more {
            Some(
                format!(
                    "{} MB are free for the spool and {} MB have to stay free",
                    mb(room.free),
                    mb(min_free)
                )
                .into(),
            )
        } else if !self.reserve_held && options.reserve_bytes > 0 {
            Some("the spool's reserve can't be allocated".into())
        } else {
            None
        };
        self.room_due = ROOM_EVERY_BYTES
            .min(room.free.saturating_sub(min_free))
            .max(more);
        match short {
            Some(reason) => shared.set_state(SpoolState::NearlyFull { reason }),
            None if self.try_again.is_none() => shared.set_state(SpoolState::Open),
            None => {}
        }
    }

    fn reserve_path(&self) -> std::path::PathBuf {
        self.shared.dir.join("reserve")
    }

    fn take_reserve(&mut self) {
        let options = &self.shared.options;
        if options.reserve_bytes == 0 {
            self.reserve_held = true;
            return;
        }
        let path = self.reserve_path();
        let take = || {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            options.disk.allocate(&file, options.reserve_bytes)
        };
        match take() {
            Ok(()) => self.reserve_held = true,
            // A file system that can't allocate: go without.
            Err(e) if e.kind() == io::ErrorKind::Unsupported => {
                tracing::warn!(
                    "the file system of the spool can't allocate a reserve; going without"
                );
                self.reserve_held = true;
            }
            Err(error) => {
                tracing::warn!(%error, "the spool's reserve can't be allocated");
                let _ = std::fs::remove_file(&path);
            }
        }
    }

    /// Gives the reserve up; false if it wasn't held.
    fn release_reserve(&mut self) -> bool {
        let held = std::mem::take(&mut self.reserve_held);
        held && std::fs::remove_file(self.reserve_path()).is_ok()
    }

    fn compacted(&mut self, segment: u32, done: bool) {
        self.job_runs = false;
        self.ledger.shrunk = true;
        let Some(account) = self.ledger.segments.get_mut(&segment) else {
            return;
        };
        if !done {
            // Tried again when something has changed; a broken segment isn't.
            account.stuck = true;
            return;
        }
        self.shared
            .counters
            .compacted
            .fetch_add(1, Ordering::Relaxed);
        account.urgent = false;
        if account.needed() > 0 {
            account.stuck = true;
            tracing::error!(
                segment,
                bytes = account.needed(),
                "not everything in a segment of the spool could be copied forward; it is left where it is"
            );
        }
    }

    /// Starts a job for the reclaimer if there is one.
    fn consider_reclaiming(&mut self, closing: bool) {
        if self.job_runs || closing || !self.ledger.shrunk || self.shared.failed().is_some() {
            return;
        }
        self.ledger.shrunk = false;
        let active = self.active.name.number;
        let closed = || {
            self.ledger
                .segments
                .values()
                .filter(|a| a.name.number != active && !a.stuck)
        };
        let full = matches!(self.shared.state(), SpoolState::NearlyFull { .. });
        let percent = u64::from(self.shared.options.sparse_percent) * if full { 2 } else { 1 };
        // Small segments count as if they were large: many starts leave many of them.
        let share = |a: &super::index::Account| {
            a.needed() * 100 / a.size.max(self.shared.options.segment_bytes / 4).max(1)
        };
        let job = if let Some(a) = closed().find(|a| a.urgent) {
            Job::Compact(a.name)
        } else {
            let empty: Vec<_> = closed()
                .filter(|a| a.needed() == 0)
                .map(|a| a.name)
                .collect();
            if !empty.is_empty() {
                Job::Unlink(empty)
            } else {
                match closed()
                    .min_by_key(|a| share(a))
                    .filter(|a| share(a) < percent.min(90))
                {
                    Some(a) => Job::Compact(a.name),
                    None => return,
                }
            }
        };
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

/// Enters written records in the books.
fn enter(shared: &Shared, ledger: &mut Ledger, segment: u32, grown: u64, planned: &[Planned<'_>]) {
    let index = &shared.index;
    ledger.grew(segment, grown);
    for p in planned {
        let (id, len) = (p.header.id, p.header.record_len());
        match (p.header.kind, p.record) {
            (Kind::Message, _) => ledger.message(index, id, Place::new(segment, p.at, &p.header)),
            (Kind::Outcomes, record) => {
                if let Record::Moved(moved) = record {
                    ledger.outcomes_gone(index, id, moved.from, moved.header.record_len());
                }
                ledger.outcomes(index, id, segment, len);
            }
            (Kind::Tombstone, Record::Moved(moved)) => {
                ledger.tombstone_gone(moved.of, moved.from, moved.header.record_len());
                ledger.tombstone(moved.of, segment, len);
            }
            (Kind::Tombstone, _) => ledger.finished(index, id, segment, len),
            (Kind::Meta, _) => {}
        }
    }
}

/// Length of a segment that has only its first record.
const META_BYTES: u64 = HEADER_BYTES as u64 + 16;

/// Makes a segment and writes its first record.
fn make_segment(shared: &Shared, number: u32, seq: u64) -> io::Result<(Arc<SegmentFile>, u64)> {
    use std::hash::{BuildHasher, Hasher};
    // Std's hasher keys are the system's random numbers.
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u32(number);
    let name = SegmentName {
        number,
        salt: hasher.finish(),
    };
    let path = name.path(&shared.segments_dir());
    let made_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64);
    let head = Meta {
        ids_below: shared.ids_below(),
        made_ms,
    }
    .encode();
    let header = Header {
        kind: Kind::Meta,
        group_goes_on: false,
        group_began: false,
        salt: name.salt,
        id: 0,
        seq,
        head_len: head.len() as u32,
        body_len: 0,
        head_crc: crc32c::crc32c(&head),
        body_crc: 0,
        synced: 0,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    let bytes = header.encode();
    let mut slices = [IoSlice::new(&bytes), IoSlice::new(&head)];
    if let Err(e) = write_all(&*shared.options.disk, &file, &mut slices, 0) {
        let _ = std::fs::remove_file(&path);
        return Err(e);
    }
    lock(&shared.salts).insert(name.number, name.salt);
    Ok((
        Arc::new(SegmentFile {
            name,
            file: Arc::new(file),
            synced: AtomicU64::new(0),
        }),
        META_BYTES,
    ))
}

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
