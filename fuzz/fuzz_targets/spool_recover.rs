//! Segment files that were written well and then harmed: opening the spool never panics, finds
//! nothing that wasn't written, loses nothing that wasn't harmed, reports what was, and finds the
//! same again.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use courser::spool::disk::Disk;
use courser::spool::record::{
    Endings, HEADER_BYTES, Header, Kind, Meta, SEQ_MAX, encode_outcomes, encode_tombstone, padding,
};
use courser::spool::{
    Deferral, Envelope, EnvelopeFields, Options, Outcome, OutcomeKind, ReadError, RecipientFields,
    RecoveredMessage, Recovery, Spool as Store, SpoolError, SpoolState, Stepped,
};
use courser_core::time::Wall;
use libfuzzer_sys::fuzz_target;

/// Longer than sparse segments are left alone.
const SETTLED: Duration = Duration::from_secs(11);
const SEGMENTS_MAX: usize = 4;
const RECORDS_MAX: usize = 40;
/// Ids from here on have their ends told with the time too.
const TOLD_FROM: u8 = 224;

#[derive(Arbitrary, Debug)]
struct World {
    /// Near the ends of the ranges too.
    first_segment: u32,
    first_seq: u64,
    writes: Vec<Write>,
    harms: Vec<Harm>,
}

#[derive(Arbitrary, Debug)]
enum Write {
    /// A second one with the same id is a copy, as compaction makes it; there is none once the message
    /// is over.
    Message { id: u8, recipients: u8, body: (u16, u8), goes_on: bool, synced: bool },
    Outcomes { id: u8, outcomes: Vec<(u8, u8)>, goes_on: bool },
    Tombstone { id: u8, goes_on: bool },
    Meta { ids_below: u32 },
    /// Sound as a record, with a head that may make no sense.
    Odd { kind: u8, id: u8, head: Vec<u8> },
    Segment,
}

#[derive(Arbitrary, Debug)]
enum Harm {
    Flip { segment: u8, at: u16, bits: u8 },
    Zero { segment: u8, at: u16, len: u16 },
    Cut { segment: u8, to: u16 },
    /// Bytes of one place over those of another, as a write that went astray.
    Astray { segment: u8, from: u16, to: u16, len: u16 },
    Grow { segment: u8, with: Vec<u8> },
    Remove { segment: u8 },
    /// A header with a checksum that is right and numbers that may not be.
    Forge { record: u8, field: u8, value: u64 },
    /// A file that is no segment.
    Stray { name: u8 },
}

/// A record as it was written.
struct Record {
    segment: usize,
    at: usize,
    header: Header,
    /// Behind the last byte of its head, of its body.
    head_end: usize,
    end: usize,
}

#[derive(Clone)]
struct Letter {
    envelope: Envelope,
    body: Vec<u8>,
}

#[derive(Default)]
struct Spool {
    first_seq: u64,
    /// The number of the first segment.
    first: u32,
    segments: Vec<Vec<u8>>,
    records: Vec<Record>,
    letters: BTreeMap<u64, Letter>,
    outcomes: BTreeMap<u64, Vec<Outcome>>,
    tombstones: BTreeSet<u64>,
    /// Ends that were told with their time.
    endings: Vec<Outcome>,
    /// Odd records stand for anything.
    odd: BTreeSet<u64>,
    /// Records of a group that has no end yet.
    open_group: Vec<usize>,
    lost_groups: BTreeSet<usize>,
}

struct NoSync;

impl Disk for NoSync {
    fn sync_data(&self, _: &fs::File) -> io::Result<()> {
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

fn salt(segment: usize) -> u64 {
    0x9e37_79b9_7f4a_7c15 ^ segment as u64
}

fn outcome((recipient, kind): (u8, u8)) -> Outcome {
    Outcome {
        recipient: u32::from(recipient % 4),
        kind: match kind % 9 {
            0 => OutcomeKind::Delivered,
            1 => OutcomeKind::Bounced,
            2 => OutcomeKind::Expired,
            3 => OutcomeKind::Suppressed,
            4 => OutcomeKind::Held,
            5 => OutcomeKind::Released,
            6 => OutcomeKind::DelayDsnSent,
            _ => OutcomeKind::Deferred(Deferral {
                attempts: kind.into(),
                at: Wall::from_unix(kind.into()),
                due: Wall::from_unix(60),
                text: "451 later".into(),
                source: "a".into(),
            }),
        },
    }
}

impl Spool {
    fn begin(&mut self) {
        for record in self.open_group.drain(..) {
            self.lost_groups.insert(record);
        }
        self.segments.push(Vec::new());
        let meta = Meta { ids_below: 0, made_ms: 0 }.encode();
        self.append(Kind::Meta, 0, &meta, &[], false, false);
    }

    fn append(&mut self, kind: Kind, id: u64, head: &[u8], body: &[u8], goes_on: bool, synced: bool) {
        let segment = self.segments.len() - 1;
        let file = &mut self.segments[segment];
        let at = file.len();
        let header = Header {
            kind,
            group_goes_on: goes_on,
            group_began: !self.open_group.is_empty(),
            salt: salt(segment),
            id,
            seq: self.first_seq.saturating_add(self.records.len() as u64),
            head_len: head.len() as u32,
            body_len: body.len() as u32,
            head_crc: crc32c::crc32c(head),
            body_crc: crc32c::crc32c(body),
            body_damaged: false,
            synced: if synced { (at / 8) as u32 } else { 0 },
        };
        file.extend(header.encode());
        file.extend(head);
        let head_end = file.len();
        file.extend(body);
        let end = file.len();
        file.resize(end + padding(end as u64) as usize, 0);
        self.open_group.push(self.records.len());
        if !goes_on {
            self.open_group.clear();
        }
        self.records.push(Record { segment, at, header, head_end, end });
    }

    /// In one group with what follows.
    fn append_endings(&mut self, id: u64, mut ends: Vec<Outcome>) {
        ends.retain(|o| o.kind.ends());
        self.append(Kind::Endings, id, &Endings::encode(id, &ends), &[], true, false);
        self.endings.extend(ends);
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::Message { id, recipients, body: (len, fill), goes_on, synced } => {
                let id = u64::from(*id % 16);
                if self.tombstones.contains(&id) {
                    return;
                }
                let letter = self.letters.entry(id).or_insert_with(|| {
                    let body: Vec<u8> = (0..len % 2048).map(|n| fill ^ (n as u8)).collect();
                    let fields = EnvelopeFields {
                        id,
                        sender: "a@b.example".into(),
                        body_len: body.len() as u64,
                        recipients: (0..recipients % 3 + 1)
                            .map(|n| RecipientFields {
                                address: format!("{n}@c.example"),
                                ..RecipientFields::default()
                            })
                            .collect(),
                        ..EnvelopeFields::default()
                    };
                    Letter { envelope: fields.encode().expect("it fits"), body }
                });
                let Letter { envelope, body } = letter.clone();
                self.append(Kind::Message, id, envelope.as_bytes(), &body, *goes_on, *synced);
            }
            Write::Outcomes { id: id_byte, outcomes, goes_on } => {
                let id = u64::from(*id_byte % 16);
                let told = *id_byte >= TOLD_FROM;
                let outcomes: Vec<Outcome> = outcomes.iter().copied().map(outcome).collect();
                if told {
                    let ends = outcomes.iter().filter(|o| o.kind.ends()).cloned().collect();
                    self.append_endings(id, ends);
                }
                let mut head = Vec::new();
                encode_outcomes(&outcomes, &mut head);
                self.append(Kind::Outcomes, id, &head, &[], *goes_on, false);
                self.outcomes.entry(id).or_default().extend(outcomes);
            }
            Write::Tombstone {
                id: id_byte,
                goes_on,
            } => {
                let id = u64::from(*id_byte % 16);
                let lies = |r: &&Record| r.header.kind == Kind::Message && r.header.id == id;
                let written = self.records.iter().rev().find(lies);
                let Some(message) = written.filter(|_| !self.tombstones.contains(&id)) else {
                    return;
                };
                let of = encode_tombstone(self.first + message.segment as u32);
                if *id_byte >= TOLD_FROM {
                    self.append_endings(id, vec![outcome((*id_byte, *id_byte))]);
                }
                self.append(Kind::Tombstone, id, &of, &[], *goes_on, false);
                self.tombstones.insert(id);
            }
            Write::Meta { ids_below } => {
                let meta = Meta { ids_below: u64::from(*ids_below), made_ms: 0 };
                self.append(Kind::Meta, 0, &meta.encode(), &[], false, false);
            }
            Write::Odd { kind, id, head } => {
                let kind = [Kind::Message, Kind::Outcomes, Kind::Tombstone, Kind::Meta][usize::from(*kind) % 4];
                let id = u64::from(*id % 16);
                self.append(kind, id, head, &[], false, false);
                self.odd.insert(id);
            }
            Write::Segment if self.segments.len() < SEGMENTS_MAX => self.begin(),
            Write::Segment => {}
        }
    }

    /// Where a delivery must be open: its message was not ended by anything that was written.
    fn surely_open(&self, id: u64) -> Vec<u32> {
        if self.tombstones.contains(&id) || self.odd.contains(&id) {
            return Vec::new();
        }
        let ended: BTreeSet<u32> = self
            .outcomes
            .get(&id)
            .into_iter()
            .flatten()
            .filter(|o| o.kind.ends())
            .map(|o| o.recipient)
            .collect();
        let count = self.letters[&id].envelope.view().recipients().len() as u32;
        (0..count).filter(|n| !ended.contains(n)).collect()
    }
}

/// The files after the harms; `None` is a file that is gone. Whether all harms are of the kind that
/// disks and crashes do, and whether some record has another version.
fn harm(spool: &Spool, harms: &[Harm], stray: &mut Vec<&'static str>) -> (Vec<Option<Vec<u8>>>, bool, bool) {
    let mut files: Vec<Option<Vec<u8>>> = spool.segments.iter().cloned().map(Some).collect();
    let (mut honest, mut versions) = (spool.odd.is_empty(), false);
    let count = files.len();
    let which = |segment: u8| usize::from(segment) % count;
    for harm in harms {
        match harm {
            Harm::Flip { segment, at, bits } => {
                if let Some(file) = &mut files[which(*segment)] && !file.is_empty() {
                    let len = file.len();
                    file[usize::from(*at) % len] ^= bits;
                }
            }
            Harm::Zero { segment, at, len } => {
                if let Some(file) = &mut files[which(*segment)] && !file.is_empty() {
                    let from = usize::from(*at) % file.len();
                    let to = file.len().min(from + usize::from(*len));
                    file[from..to].fill(0);
                }
            }
            Harm::Cut { segment, to } => {
                if let Some(file) = &mut files[which(*segment)] && !file.is_empty() {
                    file.truncate(usize::from(*to) % file.len());
                }
            }
            Harm::Astray { segment, from, to, len } => {
                if let Some(file) = &mut files[which(*segment)] && !file.is_empty() {
                    let (from, to) = (usize::from(*from) % file.len(), usize::from(*to) % file.len());
                    let len = usize::from(*len).min(file.len() - from.max(to));
                    file.copy_within(from..from + len, to);
                    honest = false;
                }
            }
            Harm::Grow { segment, with } => {
                if let Some(file) = &mut files[which(*segment)] {
                    file.extend(with);
                }
            }
            Harm::Remove { segment } => files[which(*segment)] = None,
            Harm::Forge { record, field, value } => {
                let n = usize::from(*record) % spool.records.len();
                let record = &spool.records[n];
                let mut header = record.header;
                match field % 8 {
                    0 => header.id = *value,
                    1 => header.seq = *value,
                    2 => header.head_len = *value as u32,
                    3 => header.body_len = *value as u32,
                    4 => header.synced = *value as u32,
                    5 => header.group_goes_on ^= true,
                    6 => header.group_began ^= true,
                    _ => header.head_crc = *value as u32,
                }
                let mut bytes = header.encode();
                if field % 16 == 15 {
                    bytes[4] = *value as u8;
                    let crc = crc32c::crc32c(&bytes[..52]);
                    bytes[52..].copy_from_slice(&crc.to_le_bytes());
                    versions = true;
                }
                if let Some(file) = &mut files[record.segment]
                    && let Some(place) = file.get_mut(record.at..record.at + HEADER_BYTES)
                {
                    place.copy_from_slice(&bytes);
                }
                honest = false;
            }
            Harm::Stray { name } => {
                let names = ["lost+found", "0000000001-00.log", "4294967295-0000000000000000.log", "x", "+000000001-0000000000000001.log"];
                stray.push(names[usize::from(*name) % names.len()]);
            }
        }
    }
    (files, honest, versions)
}

fn options() -> Options {
    Options {
        segment_bytes: 64 << 10,
        min_free_bytes: 0,
        min_free_percent: 0,
        reserve_bytes: 0,
        corrupt_bytes: 1 << 16,
        disk: Arc::new(NoSync),
        endings_since_ms: Some(0),
        ..Options::default()
    }
}

fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        base.join(format!("courser-fuzz-{}", std::process::id()))
    })
}

/// Opens, looks at every message, copies forward what is worth it if `copies`, closes. Nothing that
/// wasn't written may be found.
fn open(spool: &Spool, copies: bool) -> Result<(Vec<RecoveredMessage>, usize), SpoolError> {
    let mut now = Instant::now();
    let (store, mut parts, recovery) = Stepped::open(folder(), options(), now, 1)?;
    look(spool, &store, &recovery);
    for _ in 0..if copies { 2 } else { 0 } {
        loop {
            parts.write(now);
            if !(parts.sync(now) | parts.reclaim()) {
                break;
            }
        }
        now += SETTLED;
    }
    look(spool, &store, &recovery);
    assert!(!matches!(store.status().state, SpoolState::Failed { .. }), "{:?}", store.status());
    parts.close(now);
    Ok((recovery.messages, recovery.warnings.len()))
}

fn look(spool: &Spool, store: &Store, recovery: &Recovery) {
    for found in &recovery.messages {
        let id = found.envelope.id();
        let count = found.envelope.view().recipients().len() as u32;
        assert!(!found.open.is_empty());
        assert!(found.open.windows(2).all(|w| w[0].recipient < w[1].recipient));
        assert!(found.open.iter().all(|o| o.recipient < count));
        let written = spool.letters.get(&id).filter(|l| l.envelope == found.envelope);
        assert!(written.is_some() || spool.odd.contains(&id), "never written: {found:?}");
        match (store.read_body(id), written) {
            (Ok(body), Some(letter)) => assert_eq!(body, letter.body, "another body"),
            (Err(ReadError::Unknown), _) => panic!("{id} is found but not there"),
            _ => {}
        }
        match store.read_envelope(id) {
            Ok(envelope) => assert_eq!(envelope, found.envelope),
            Err(ReadError::Unknown) => panic!("{id} is found but not there"),
            Err(_) => {}
        }
    }
    for found in &recovery.ended {
        assert!(spool.endings.contains(&found.outcome), "never ended: {found:?}");
        let written = spool.letters.get(&found.envelope.id());
        let odd = spool.odd.contains(&found.envelope.id());
        assert!(odd || written.is_some_and(|l| l.envelope == found.envelope), "never written: {found:?}");
    }
    for damage in &recovery.warnings {
        assert!(damage.from < damage.to && !damage.to_string().is_empty(), "{damage:?}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(world) = World::arbitrary_take_rest(Unstructured::new(bytes)) else {
        return;
    };
    let first = world.first_segment.clamp(1, u32::MAX - 64);
    let mut spool = Spool {
        first_seq: world.first_seq % (SEQ_MAX / 2),
        first,
        ..Spool::default()
    };
    spool.begin();
    for write in world.writes.iter().take(RECORDS_MAX) {
        spool.write(write);
    }
    for record in spool.open_group.drain(..) {
        spool.lost_groups.insert(record);
    }
    let mut stray = Vec::new();
    let (files, honest, versions) = harm(&spool, &world.harms, &mut stray);

    let segments = folder().join("segments");
    let _ = fs::remove_dir_all(folder());
    fs::create_dir_all(&segments).expect("room");
    for (n, file) in files.iter().enumerate() {
        if let Some(file) = file {
            let name = format!("{:010}-{:016x}.log", first + n as u32, salt(n));
            fs::write(segments.join(name), file).expect("room");
        }
    }
    for name in stray {
        fs::write(segments.join(name), b"cRs\x9d\x01").expect("room");
    }

    // What was made up may mean one thing where it lies, and another where it is copied to.
    let (messages, warnings) = match open(&spool, honest) {
        Ok(found) => found,
        Err(SpoolError::Version { .. }) if versions => return,
        Err(error) => panic!("{error}"),
    };
    // Every record whose head was touched was reported.
    let touched = |record: &Record, end: usize| match &files[record.segment] {
        None => false,
        Some(file) => {
            let was = &spool.segments[record.segment][record.at..end];
            file.len() > record.at && file.get(record.at..end) != Some(was)
        }
    };
    if honest && spool.records.iter().any(|r| touched(r, r.head_end)) {
        assert!(warnings > 0, "harm that nobody was told of");
    }
    // Whatever wasn't touched is there.
    if honest {
        for (n, record) in spool.records.iter().enumerate() {
            let there = files[record.segment].as_ref().is_some_and(|f| f.len() >= record.end);
            let alone = !record.header.group_began && !record.header.group_goes_on;
            if record.header.kind != Kind::Message || !there || touched(record, record.end) || !alone || spool.lost_groups.contains(&n) {
                continue;
            }
            let id = record.header.id;
            let found = messages.iter().find(|m| m.envelope.id() == id);
            for recipient in spool.surely_open(id) {
                assert!(
                    found.is_some_and(|m| m.open.iter().any(|o| o.recipient == recipient)),
                    "message {id}, recipient {recipient} is lost"
                );
            }
        }
        if world.harms.is_empty() {
            assert!(warnings == 0 || !spool.lost_groups.is_empty());
        }
    }
    match open(&spool, honest) {
        Ok((again, more)) => {
            assert_eq!(again, messages, "not the same twice");
            assert!(more <= warnings, "{more} warnings after {warnings}");
        }
        Err(error) => panic!("the second time: {error}"),
    }
});
