//! Getting disk space back, on a thread of its own.
//!
//! The writer decides, one [`Job`] at a time. A sparse segment is scanned twice, first for the
//! last outcome of each delivery, then for what to copy; the slices go to the writer, which
//! leaves out what has died meanwhile. One slice is under way at a time and each waits for its
//! sync, so commits are never behind more than [`SLICE_BYTES`] of copies.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

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
}

impl Reclaimer {
    pub(super) fn new(shared: Arc<Shared>) -> (Self, Jobs) {
        let (send, jobs) = sync_channel(1);
        (Self { shared, jobs }, Jobs(send))
    }

    pub(super) fn run(self) {
        while let Ok(job) = self.jobs.recv() {
            match job {
                Job::Unlink(names) => self.unlink(names),
                Job::Compact(name) => {
                    let how = self.compact(name).unwrap_or_else(|error| {
                        tracing::error!(segment = name.number, %error, "a segment of the spool can't be read; it is left where it is");
                        Compacted::Unreadable
                    });
                    self.shared.push_compacted(name.number, how);
                }
            }
        }
    }

    /// Waits until everything that was written so far is synced.
    fn synced(&self, moved: Vec<Moved>) -> bool {
        let (send, done) = sync_channel(1);
        self.shared.push_moved(moved, send);
        done.recv() == Ok(true)
    }

    fn unlink(&self, names: Vec<SegmentName>) {
        let dir = self.shared.segments_dir();
        let mut gone = Vec::new();
        // What ended the messages in them may not be on disk yet.
        if self.synced(Vec::new()) {
            for name in names {
                match fs::remove_file(name.path(&dir)) {
                    Ok(()) => gone.push(name.number),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => gone.push(name.number),
                    Err(error) => {
                        tracing::warn!(segment = name.number, %error, "a segment of the spool couldn't be removed")
                    }
                }
            }
            // Tombstones elsewhere may go only when these are gone for good.
            if let Err(error) = self.shared.options.disk.sync_dir(&dir) {
                tracing::error!(%error, "the spool's folder couldn't be synced");
                gone.clear();
            }
        }
        self.shared.push_unlinked(gone);
    }

    fn compact(&self, name: SegmentName) -> io::Result<Compacted> {
        let file = File::open(name.path(&self.shared.segments_dir()))?;
        let len = file.metadata()?.len();
        let last = last_outcomes(&file, name, len)?;
        let mut slice = Vec::new();
        let mut size = 0;
        let mut scanner = Scanner::new(&file, name.salt, len);
        while let Some(found) = scanner.next()? {
            let Found::Record { at, header } = found else {
                continue;
            };
            let Some(moved) = self.copy(&mut scanner, &file, name, at, header, &last)? else {
                continue;
            };
            size += moved.head.as_ref().map_or(0, Vec::len) + moved.body.len() + HEADER_BYTES;
            slice.push(moved);
            if size >= SLICE_BYTES {
                if !self.synced(std::mem::take(&mut slice)) {
                    return Ok(Compacted::Refused);
                }
                size = 0;
            }
        }
        Ok(match self.synced(slice) {
            true => Compacted::Done,
            false => Compacted::Refused,
        })
    }

    /// The copy of a record, if it looks alive.
    fn copy(
        &self,
        scanner: &mut Scanner<'_>,
        file: &File,
        name: SegmentName,
        at: u64,
        header: Header,
        last: &HashMap<Key, Rank>,
    ) -> io::Result<Option<Moved>> {
        let mut moved = Moved {
            from: name.number,
            at,
            header,
            head: None,
            body: Vec::new(),
            of: 0,
        };
        let place = self.shared.index.place(header.id);
        match header.kind {
            Kind::Meta | Kind::Void => return Ok(None),
            Kind::Message => {
                if !place.is_some_and(|p| p.segment == name.number && p.at() == at) {
                    return Ok(None);
                }
                moved.head = Some(scanner.head()?.to_vec());
                let body_at = at + HEADER_BYTES as u64 + u64::from(header.head_len);
                moved.body = read_exact(file, body_at, header.body_len as usize)?;
                if crc32c::crc32c(&moved.body) != header.body_crc {
                    // It is copied with its wrong checksum, so that whoever reads it is told.
                    let to = body_at + u64::from(header.body_len);
                    self.shared.set_aside(file, name.number, at, to);
                    tracing::error!(
                        id = header.id,
                        segment = name.number,
                        "a message in the spool is damaged; its record was copied to corrupt/"
                    );
                }
            }
            Kind::Outcomes => {
                if place.is_none() {
                    return Ok(None);
                }
                let mut outcomes = decode_outcomes(scanner.head()?).unwrap_or_default();
                outcomes.retain(|o| {
                    last.get(&(header.id, o.recipient, o.kind.class()))
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
