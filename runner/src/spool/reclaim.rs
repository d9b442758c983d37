//! Getting disk space back, on a thread of its own.
//!
//! The writer decides, one [`Job`] at a time. A sparse segment is scanned twice, first for the
//! last outcome of each delivery, then for what to copy; the slices go to the writer, which
//! leaves out what has died meanwhile. One slice is under way at a time and each waits for its
//! sync, so commits are never behind more than [`SLICE_BYTES`] of copies.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use super::batch::Moved;
use super::record::{
    HEADER_BYTES, Header, Kind, decode_outcomes, decode_tombstone, encode_outcomes,
};
use super::segment::{Found, Scanner, SegmentName, read_exact};
use super::store::Shared;

/// Copies that the writer gets at once, bytes (a single record may be larger).
const SLICE_BYTES: usize = 512 << 10;

/// What the reclaimer is to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Remove these segments: nothing in them is needed.
    Unlink(Vec<SegmentName>),
    /// Copy what lives in this segment forward.
    Compact(SegmentName),
}

/// How copying a segment forward ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compacted {
    /// Everything that lives was copied and is synced.
    Done,
    /// The writer couldn't write.
    Refused,
    /// The disk couldn't read.
    Unreadable,
}

/// Where the writer leaves jobs.
pub(super) struct Jobs(SyncSender<Job>);

impl Jobs {
    /// True if the job will be done and the writer will hear of its end.
    pub(super) fn start(&self, job: Job) -> bool {
        self.0.try_send(job).is_ok()
    }
}

pub(super) struct Reclaimer {
    shared: Arc<Shared>,
    jobs: Receiver<Job>,
    doing: Option<Doing>,
}

/// A job that waits until everything that was written so far is synced.
struct Doing {
    what: What,
    synced: Receiver<bool>,
}

enum What {
    Unlink(Vec<SegmentName>),
    Compact(Box<Compacting>),
}

impl Reclaimer {
    pub(super) fn new(shared: Arc<Shared>) -> (Self, Jobs) {
        let (send, jobs) = sync_channel(1);
        let reclaimer = Self {
            shared,
            jobs,
            doing: None,
        };
        (reclaimer, Jobs(send))
    }

    pub(super) fn run(mut self) {
        while let Ok(job) = self.jobs.recv() {
            self.begin(job);
            while let Some(doing) = self.doing.take() {
                let synced = doing.synced.recv() == Ok(true);
                self.go_on(doing.what, synced);
            }
        }
    }

    /// Does one thing, if there is one that needn't wait; whether there was.
    pub(super) fn step(&mut self) -> bool {
        match self.doing.take() {
            Some(doing) => match doing.synced.try_recv() {
                Err(TryRecvError::Empty) => {
                    self.doing = Some(doing);
                    return false;
                }
                synced => self.go_on(doing.what, synced == Ok(true)),
            },
            None => match self.jobs.try_recv() {
                Ok(job) => self.begin(job),
                Err(_) => return false,
            },
        }
        true
    }

    fn begin(&mut self, job: Job) {
        match job {
            // What ended the messages in them may not be on disk yet.
            Job::Unlink(names) => self.wait(What::Unlink(names), Vec::new()),
            Job::Compact(name) => match Compacting::open(&self.shared, name) {
                Ok(compacting) => self.copy_on(Box::new(compacting)),
                Err(error) => self.unreadable(name, &error),
            },
        }
    }

    fn go_on(&mut self, what: What, synced: bool) {
        match what {
            What::Unlink(names) => {
                // The events of what ended in them are made up from them after a crash.
                if let Some(events) = &self.shared.options.before_unlink {
                    events();
                }
                self.unlink(names, synced);
            }
            What::Compact(compacting) if synced && !compacting.over => self.copy_on(compacting),
            What::Compact(compacting) => {
                let how = match synced {
                    true => Compacted::Done,
                    false => Compacted::Refused,
                };
                self.shared.push_compacted(compacting.name.number, how);
            }
        }
    }

    /// Waits until `moved` and everything that was written so far is synced.
    fn wait(&mut self, what: What, moved: Vec<Moved>) {
        let (send, synced) = sync_channel(1);
        self.shared.push_moved(moved, send);
        self.doing = Some(Doing { what, synced });
    }

    fn copy_on(&mut self, mut compacting: Box<Compacting>) {
        match compacting.slice(&self.shared) {
            Ok(slice) => self.wait(What::Compact(compacting), slice),
            Err(error) => self.unreadable(compacting.name, &error),
        }
    }

    fn unreadable(&self, name: SegmentName, error: &io::Error) {
        tracing::error!(segment = name.number, %error, "a segment of the spool can't be read; it is left where it is");
        self.shared
            .push_compacted(name.number, Compacted::Unreadable);
    }

    fn unlink(&self, names: Vec<SegmentName>, synced: bool) {
        let dir = self.shared.segments_dir();
        let disk = &self.shared.options.disk;
        let mut gone = Vec::new();
        if synced {
            for name in names {
                match disk.remove(&name.path(&dir)) {
                    Ok(()) => gone.push(name.number),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => gone.push(name.number),
                    Err(error) => {
                        tracing::warn!(segment = name.number, %error, "a segment of the spool couldn't be removed")
                    }
                }
            }
            // Tombstones elsewhere may go only when these are gone for good.
            if let Err(error) = disk.sync_dir(&dir) {
                tracing::error!(%error, "the spool's folder couldn't be synced");
                gone.clear();
            }
        }
        self.shared.push_unlinked(gone);
    }
}

/// A segment that is being copied forward.
struct Compacting {
    name: SegmentName,
    file: Arc<File>,
    scanner: Scanner<Arc<File>>,
    last: HashMap<Key, Rank>,
    /// The last slice was given out.
    over: bool,
}

impl Compacting {
    fn open(shared: &Shared, name: SegmentName) -> io::Result<Self> {
        let file = Arc::new(File::open(name.path(&shared.segments_dir()))?);
        let len = file.metadata()?.len();
        Ok(Self {
            name,
            last: last_outcomes(&file, name, len)?,
            scanner: Scanner::new(file.clone(), name.salt, len),
            file,
            over: false,
        })
    }

    /// What is copied next.
    fn slice(&mut self, shared: &Shared) -> io::Result<Vec<Moved>> {
        let mut slice = Vec::new();
        let mut size = 0;
        while let Some(found) = self.scanner.next()? {
            let Found::Record { at, header } = found else {
                continue;
            };
            let Some(moved) = self.copy(shared, at, header)? else {
                continue;
            };
            size += moved.head.as_ref().map_or(0, Vec::len) + moved.body.len() + HEADER_BYTES;
            slice.push(moved);
            if size >= SLICE_BYTES {
                return Ok(slice);
            }
        }
        self.over = true;
        Ok(slice)
    }

    /// The copy of a record, if it looks alive.
    fn copy(&mut self, shared: &Shared, at: u64, header: Header) -> io::Result<Option<Moved>> {
        let (name, scanner, file) = (self.name, &mut self.scanner, &self.file);
        let mut moved = Moved {
            from: name.number,
            at,
            header,
            head: None,
            body: Vec::new(),
            of: 0,
        };
        let place = shared.index.place(header.id);
        match header.kind {
            Kind::Meta | Kind::Void | Kind::Endings => return Ok(None),
            Kind::Message => {
                if !place.is_some_and(|p| p.segment == name.number && p.at() == at) {
                    return Ok(None);
                }
                moved.head = Some(scanner.head()?.to_vec());
                let body_at = at + HEADER_BYTES as u64 + u64::from(header.head_len);
                moved.body = read_exact(file, body_at, header.body_len as usize)?;
                if crc32c::crc32c(&moved.body) != header.body_crc {
                    // It is copied with its wrong checksum, so that whoever reads it is told, and the
                    // next start doesn't take the copy for one that never reached the disk.
                    moved.header.body_damaged = true;
                    let to = body_at + u64::from(header.body_len);
                    shared.set_aside(file, name.number, at, to, header.id);
                }
            }
            Kind::Outcomes => {
                if place.is_none() {
                    return Ok(None);
                }
                let mut outcomes = decode_outcomes(scanner.head()?).unwrap_or_default();
                outcomes.retain(|o| {
                    self.last.get(&(header.id, o.recipient, o.kind.class()))
                        == Some(&(o.kind.ends(), header.seq))
                });
                if !outcomes.is_empty() {
                    let mut head = Vec::new();
                    encode_outcomes(&outcomes, &mut head);
                    moved.head = Some(head);
                }
            }
            Kind::Tombstone => {
                let Some(of) = decode_tombstone(scanner.head()?) else {
                    return Ok(None);
                };
                moved.of = of;
                moved.head = Some(scanner.head()?.to_vec());
            }
        }
        Ok(Some(moved))
    }
}

/// Message, recipient, class of outcome.
type Key = (u64, u32, u8);

/// Whether it ends the delivery, and its sequence number: what came after an end doesn't count.
type Rank = (bool, u64);

/// The outcome that counts, of each class of each delivery in a segment.
fn last_outcomes(file: &File, name: SegmentName, len: u64) -> io::Result<HashMap<Key, Rank>> {
    let mut last = HashMap::new();
    let mut scanner = Scanner::new(file, name.salt, len);
    while let Some(found) = scanner.next()? {
        if let Found::Record { header, .. } = found
            && header.kind == Kind::Outcomes
        {
            for o in decode_outcomes(scanner.head()?).unwrap_or_default() {
                let rank = (o.kind.ends(), header.seq);
                let highest = last
                    .entry((header.id, o.recipient, o.kind.class()))
                    .or_insert(rank);
                *highest = rank.max(*highest);
            }
        }
    }
    Ok(last)
}
