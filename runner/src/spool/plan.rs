//! Laying out records and writing them, with the books that go with it.

use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::batch::{Group, Moved, Record};
use super::disk::write_all;
use super::index::{Ledger, Place};
use super::queue::Written;
use super::record::{
    ALIGN, HEADER_BYTES, Header, Kind, Meta, decode_tombstone, encode_tombstone, padding,
};
use super::segment::{SEGMENT_NUMBER_MAX, SegmentFile, SegmentName};
use super::store::{Shared, lock};
use super::writer::Writer;

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

impl Writer {
    /// Writes the groups with one call and enters them in the books, or changes nothing.
    pub(super) fn write(&mut self, groups: &[Group], size: usize) -> io::Result<()> {
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
                    at,
                    header,
                    head: None,
                    ..
                }) = record
                    && !self.ledger.was_moved(*from, *at)
                {
                    self.ledger
                        .outcomes_gone(&shared.index, header.id, *from, header.record_len());
                }
            }
        }
        for record in groups.iter().flat_map(|g| &g.batch.records) {
            if let Record::Moved(moved) = record {
                self.ledger.moved(moved.from, moved.at);
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
                    body_damaged: false,
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
                    Record::Endings { id, head } => {
                        header.id = *id;
                        header.kind = Kind::Endings;
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
                        let again = self.ledger.was_moved(moved.from, moved.at);
                        let lives = match moved.header.kind {
                            Kind::Message => {
                                place.is_some_and(|p| p.segment == moved.from && p.at() == moved.at)
                            }
                            Kind::Outcomes => place.is_some() && !again,
                            Kind::Tombstone if again => false,
                            Kind::Tombstone => {
                                self.ledger.needs_tombstone(id, moved.of, moved.from)
                            }
                            Kind::Meta | Kind::Void | Kind::Endings => false,
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
                        header.body_damaged = moved.header.body_damaged;
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
    ///
    /// The one before has to be synced by then, so that at most the last two segments have
    /// anything that isn't: those are what the recovery looks at closely.
    fn roll(&mut self) -> io::Result<()> {
        while let Some((before, end)) = &self.before
            && before.synced() < *end
            && self.shared.failed().is_none()
        {
            (self.nap)(&self.shared);
        }
        let (active, at) = make_segment(&self.shared, self.next_segment, self.seq)?;
        self.ledger.open(active.name, at);
        self.ledger.shrunk = true;
        let before = std::mem::replace(&mut self.active, active);
        self.ledger.close(before.name.number, self.now);
        self.before = Some((before, self.at));
        self.at = at;
        self.abandoned = false;
        self.next_segment += 1;
        self.seq += 1;
        self.hand_to_syncer(Written {
            segment: Some(self.active.clone()),
            end: at,
            new_file: true,
            durable: true,
            ..Written::default()
        });
        Ok(())
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
                ledger.tombstone_gone(id, moved.of, moved.from, moved.header.record_len());
                ledger.tombstone(id, moved.of, segment, len);
            }
            (Kind::Tombstone, _) => {
                let of = decode_tombstone(p.head.bytes()).unwrap_or(segment);
                ledger.finished(index, id, of, segment, len);
            }
            (Kind::Meta | Kind::Void | Kind::Endings, _) => {}
        }
    }
}

/// Length of a segment that has only its first record.
const META_BYTES: u64 = HEADER_BYTES as u64 + 16;

/// Makes a segment and writes its first record.
pub(super) fn make_segment(
    shared: &Shared,
    number: u32,
    seq: u64,
) -> io::Result<(Arc<SegmentFile>, u64)> {
    use std::hash::{BuildHasher, Hasher};
    if number > SEGMENT_NUMBER_MAX {
        return Err(io::Error::other("the spool's segment numbers have run out"));
    }
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
        body_damaged: false,
        salt: name.salt,
        id: 0,
        seq,
        head_len: head.len() as u32,
        body_len: 0,
        head_crc: crc32c::crc32c(&head),
        body_crc: 0,
        synced: 0,
    };
    let disk = &shared.options.disk;
    let file = disk.create(&path)?;
    let bytes = header.encode();
    let mut slices = [IoSlice::new(&bytes), IoSlice::new(&head)];
    if let Err(e) = write_all(&**disk, &file, &mut slices, 0) {
        let _ = disk.remove(&path);
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
