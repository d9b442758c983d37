//! Reading the spool when it is opened.
//!
//! Segments are read in order, headers and heads only. A group of records counts when its last
//! one is there. What was being written when the server stopped is cut off (it was never
//! acknowledged); a message there that didn't reach the disk whole before a power failure is made
//! void. Damage before that is stepped over, copied to `corrupt/` and reported. Where a group has
//! lost a member, its messages count and its outcomes don't: in doubt a message is sent twice rather
//! than never.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::disk::write_all;
use super::envelope::Envelope;
use super::index::{Index, Ledger, Place};
use super::record::{
    BODY_BYTES_MAX, Deferral, Endings, HEADER_BYTES, Header, Kind, Meta, Outcome, OutcomeKind,
    decode_outcomes, decode_tombstone,
};
use super::segment::{Found, Scanner, SegmentName};
use super::store::{Options, SpoolError};

/// A delivery that hasn't ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenDelivery {
    /// The recipient's index in the envelope.
    pub recipient: u32,
    /// Its last deferral; `None`: not tried yet.
    pub last: Option<Deferral>,
    /// Held until it is released.
    pub held: bool,
    /// The sender was told of the delay.
    pub delay_dsn_sent: bool,
}

/// A message that isn't finished. Its content is at [`Spool::read_body`](super::Spool::read_body).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredMessage {
    /// Its envelope.
    pub envelope: Envelope,
    /// The deliveries that haven't ended, by recipient; at least one.
    pub open: Vec<OpenDelivery>,
}

/// What is wrong with bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// The end of the last write; it was cut off. Usual after a crash.
    TornTail,
    /// Written, but not all of it reached the disk before a power failure; never acknowledged.
    NotSynced,
    /// Changed on disk.
    Corrupt,
    /// The disk can't read it. The segment is left as it is.
    Unreadable,
}

/// Bytes of the spool that are no good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment's file.
    pub path: PathBuf,
    /// First byte.
    pub from: u64,
    /// Behind the last byte.
    pub to: u64,
    /// What is wrong.
    pub kind: DamageKind,
    /// The message, where the header still says so.
    pub id: Option<u64>,
    /// Where the bytes were copied to.
    pub set_aside: Option<PathBuf>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            DamageKind::TornTail => "an unfinished write was cut off",
            DamageKind::NotSynced => "a write didn't reach the disk whole and was left out",
            DamageKind::Corrupt => "a damaged record",
            DamageKind::Unreadable => "the disk can't read",
        };
        write!(
            f,
            "{}: {what}, bytes {} to {}",
            self.path.display(),
            self.from,
            self.to
        )?;
        if let Some(id) = self.id {
            write!(f, ", message {id}")?;
        }
        match &self.set_aside {
            Some(path) => write!(f, ", kept in {}", path.display()),
            None => Ok(()),
        }
    }
}

/// A delivery that ended shortly before the spool was closed, or the server died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedDelivery {
    /// The envelope of its message.
    pub envelope: Envelope,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// The recipient's index, and what became of it.
    pub outcome: Outcome,
}

/// Most deliveries in [`Recovery::ended`].
pub const ENDED_MAX: usize = 1 << 20;

/// What was found when the spool was opened.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The messages that aren't finished, by id.
    pub messages: Vec<RecoveredMessage>,
    /// What was damaged, in the order of the segments. Already logged.
    pub warnings: Vec<Damage>,
    /// The deliveries that ended since [`Options::endings_since_ms`], in the order of their ends; the
    /// first [`ENDED_MAX`] of them.
    pub ended: Vec<EndedDelivery>,
    /// Segments read.
    pub segments: usize,
    /// Their bytes; bodies were not read.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// What [`Store::open`](super::Store::open) builds the spool from.
#[derive(Default)]
pub(super) struct Scan {
    pub(super) index: Index,
    pub(super) ledger: Ledger,
    pub(super) next_segment: u32,
    pub(super) next_seq: u64,
    pub(super) ids_below: u64,
    /// Messages whose deliveries have all ended, but that have no tombstone.
    pub(super) finished: Vec<u64>,
    pub(super) recovery: Recovery,
}

#[derive(Default)]
struct Building {
    envelope: Option<Envelope>,
    outcomes: Vec<(u64, Outcome)>,
    /// Segments with outcomes of a message that hasn't been seen yet, and their bytes.
    early: Vec<(u32, u64)>,
}

struct Scanning<'a> {
    dir: &'a Path,
    options: &'a Options,
    scan: Scan,
    building: HashMap<u64, Building>,
    /// Tombstones that were seen.
    ended: std::collections::HashSet<u64>,
    /// Messages of which a copy lies behind their tombstone.
    copied_behind: Vec<u64>,
    /// What ended of late.
    endings: Vec<(u64, Endings)>,
    /// What ended of late beyond [`ENDED_MAX`].
    endings_passed_over: usize,
    /// Envelopes of the messages of `endings`, as far as they are known yet; finished ones are
    /// nowhere else.
    ending: HashMap<u64, Option<Envelope>>,
}

/// Reads all segments of the spool at `dir`.
pub(super) fn scan(dir: &Path, options: &Options) -> Result<Scan, SpoolError> {
    let started = Instant::now();
    let segments = dir.join("segments");
    let mut names = BTreeMap::new();
    for entry in fs::read_dir(&segments).map_err(SpoolError::io(&segments))? {
        let entry = entry.map_err(SpoolError::io(&segments))?;
        match entry.file_name().to_str().and_then(SegmentName::parse) {
            Some(name) => drop(names.insert(name.number, name)),
            None => {
                tracing::warn!(path = %entry.path().display(), "not a segment of the spool; left alone")
            }
        }
    }
    let mut scanning = Scanning {
        dir,
        options,
        scan: Scan {
            next_segment: 1,
            ..Scan::default()
        },
        building: HashMap::new(),
        ended: std::collections::HashSet::new(),
        copied_behind: Vec::new(),
        endings: Vec::new(),
        endings_passed_over: 0,
        ending: HashMap::new(),
    };
    let newest = names.keys().next_back().copied().unwrap_or_default();
    for name in names.into_values() {
        // Writing goes on in the next segment before the last sync of this one. By number, not by place:
        // an old segment stays old where those behind it were removed.
        let maybe_unsynced = name.number + 1 >= newest;
        scanning.segment(name, maybe_unsynced)?;
    }
    let mut scan = scanning.end();
    scan.recovery.took = started.elapsed();
    Ok(scan)
}

impl Scanning<'_> {
    fn segment(&mut self, name: SegmentName, maybe_unsynced: bool) -> Result<(), SpoolError> {
        let path = name.path(&self.dir.join("segments"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(SpoolError::io(&path))?;
        let len = file.metadata().map_err(SpoolError::io(&path))?.len();
        self.scan.ledger.open(name, len);
        self.scan.next_segment = name.number + 1;
        self.scan.recovery.segments += 1;
        self.scan.recovery.bytes += len;

        let mut end = len;
        let synced = match self.records(name, &path, &file, &mut end, maybe_unsynced)? {
            Ok(synced) => synced,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "a segment of the spool can't be read");
                self.damage(Damage {
                    path,
                    from: 0,
                    to: len,
                    kind: DamageKind::Unreadable,
                    id: None,
                    set_aside: None,
                });
                self.stay(name.number);
                self.scan.ledger.unread(name.number, u64::MAX);
                return Ok(());
            }
        };
        if end < len {
            match self.options.disk.set_len(&file, end) {
                Ok(()) => {
                    self.scan.ledger.shrank(name.number, len - end);
                    if end > 0 {
                        self.mark_end(name, &path, &file, end, synced);
                    }
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "an unfinished write couldn't be cut off; its segment is left as it is until the next start");
                    // Copied forward, a part of it would count.
                    self.stay(name.number);
                }
            }
        }
        // After a kill -9 the end of it is in the kernel's hands only. What was found is acted on
        // from now on, and later starts take older segments for synced: a power failure must not
        // undo it.
        if maybe_unsynced && self.options.sync {
            self.options
                .disk
                .sync_data(&file)
                .map_err(SpoolError::io(&path))?;
        }
        Ok(())
    }

    /// Walks over the records of one segment. `end` becomes where a torn tail begins. Up to where
    /// everything was synced when it was written.
    fn records(
        &mut self,
        name: SegmentName,
        path: &Path,
        file: &File,
        end: &mut u64,
        maybe_unsynced: bool,
    ) -> Result<io::Result<u64>, SpoolError> {
        let len = *end;
        let synced = match maybe_unsynced {
            true => match synced_up_to(file, name.salt, len) {
                Ok(synced) => synced,
                Err(e) => return Ok(Err(e)),
            },
            false => len,
        };
        let mut scanner = Scanner::new(file, name.salt, len);
        let mut group: Vec<(u64, Header, Vec<u8>)> = Vec::new();
        let mut tail = None;
        let kind_at = |to: u64| {
            if to > synced {
                DamageKind::NotSynced
            } else {
                DamageKind::Corrupt
            }
        };
        loop {
            let mut void = false;
            let found = match scanner.next() {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(e) => return Ok(Err(e)),
            };
            let bad = match found {
                Found::Version(version) => {
                    return Err(SpoolError::Version {
                        path: path.into(),
                        version,
                    });
                }
                Found::Tail { from, to } => {
                    tail = Some((from, to));
                    break;
                }
                Found::Hole { from, to } => Some((from, to, None)),
                Found::BadHead { at, header } => Some((at, at + header.record_len(), Some(header))),
                Found::Record { header, .. } if header.kind == Kind::Void => {
                    // Its group has lost it, as at the start that found it.
                    self.broken(name, path, file, &mut group)?;
                    self.seen(&header);
                    None
                }
                Found::Record { at, header } => {
                    let head = match scanner.head() {
                        Ok(head) => head.to_vec(),
                        Err(e) => return Ok(Err(e)),
                    };
                    let to = at + header.record_len();
                    // What can't be read may be good all the same.
                    let body_torn = match to > synced && !header.body_damaged {
                        true => match body_sound(file, at, &header) {
                            Ok(sound) => !sound,
                            Err(e) => return Ok(Err(e)),
                        },
                        false => false,
                    };
                    if !sound(&header, &head) {
                        Some((at, to, Some(header)))
                    } else if body_torn {
                        void = true;
                        Some((at, to, Some(header)))
                    } else {
                        if !header.group_began {
                            self.broken(name, path, file, &mut group)?;
                        }
                        let lost_some = header.group_began && group.is_empty();
                        group.push((at, header, head));
                        if lost_some {
                            self.broken(name, path, file, &mut group)?;
                        } else if !header.group_goes_on {
                            group.drain(..).for_each(|(at, header, head)| {
                                self.apply(name.number, at, &header, &head)
                            });
                        }
                        None
                    }
                }
            };
            if let Some((from, to, header)) = bad {
                self.broken(name, path, file, &mut group)?;
                if let Some(header) = &header {
                    self.seen(header);
                }
                let (id, kind, to) = (header.map(|h| h.id), kind_at(to), to.min(len));
                let kept = self.set_aside(name, path, file, from, to, kind, id);
                // Only the newest segments are looked at so closely that what didn't reach the disk
                // is told from damage, and from a message that did. A later start must take it for
                // neither, nor for the newer copy of a message.
                if void || (kept && kind == DamageKind::NotSynced) {
                    self.make_void(name, path, file, from, to, header)?;
                }
                if let Some(account) = self.scan.ledger.segments.get_mut(&name.number) {
                    account.urgent = true;
                }
            }
        }
        // A group without its end is part of the torn tail.
        let from = group
            .first()
            .map(|(at, ..)| *at)
            .or(tail.map(|(from, _)| from));
        if let Some(from) = from
            && self.set_aside(name, path, file, from, len, DamageKind::TornTail, None)
        {
            *end = from;
        }
        Ok(Ok(synced))
    }

    /// Puts a record of nothing over bytes that are none, where it fits.
    fn make_void(
        &self,
        name: SegmentName,
        path: &Path,
        file: &File,
        from: u64,
        to: u64,
        header: Option<Header>,
    ) -> Result<(), SpoolError> {
        let room = to.saturating_sub(from).checked_sub(HEADER_BYTES as u64);
        let fits = room.filter(|n| *n <= BODY_BYTES_MAX);
        let Some(body_len) = fits.and_then(|n| u32::try_from(n).ok()) else {
            return Ok(());
        };
        let void = Header {
            id: header.map_or(0, |h| h.id),
            seq: header.map_or(0, |h| h.seq),
            synced: header.map_or(0, |h| h.synced),
            body_len,
            ..Header::void(name.salt)
        };
        self.write_header(path, file, from, void)
    }

    /// Marks where a tail was cut off: behind damage there is still a record, so that it isn't taken
    /// for a torn tail next time, with the rest of its group in front; and how far the segment is
    /// synced is still known, so that damage there isn't taken for what was never acknowledged.
    fn mark_end(&mut self, name: SegmentName, path: &Path, file: &File, end: u64, synced: u64) {
        let mark = Header {
            synced: (synced.min(end) / super::record::ALIGN as u64) as u32,
            ..Header::void(name.salt)
        };
        match self.write_header(path, file, end, mark) {
            Ok(()) => self.scan.ledger.grew(name.number, HEADER_BYTES as u64),
            // All that was found is there; what is torn of the mark is cut off next time.
            Err(error) => tracing::warn!(%error, "the end of a segment couldn't be marked"),
        }
    }

    /// Neither its id nor its number in the order is given again.
    fn seen(&mut self, header: &Header) {
        self.scan.next_seq = self.scan.next_seq.max(header.seq + 1);
        self.scan.ids_below = self.scan.ids_below.max(header.id.saturating_add(1));
    }

    fn write_header(
        &self,
        path: &Path,
        file: &File,
        at: u64,
        header: Header,
    ) -> Result<(), SpoolError> {
        let bytes = header.encode();
        let mut slices = [IoSlice::new(&bytes)];
        write_all(&*self.options.disk, file, &mut slices, at).map_err(SpoolError::io(path))
    }

    /// A group that lost a member: its messages count. What else it says is made void, as it would
    /// count again where it was copied forward, without the others of its group.
    fn broken(
        &mut self,
        name: SegmentName,
        path: &Path,
        file: &File,
        group: &mut Vec<(u64, Header, Vec<u8>)>,
    ) -> Result<(), SpoolError> {
        for (at, header, head) in group.drain(..) {
            match header.kind {
                Kind::Message => self.apply(name.number, at, &header, &head),
                Kind::Meta | Kind::Void => {}
                Kind::Outcomes | Kind::Tombstone | Kind::Endings => {
                    self.seen(&header);
                    // Without its padding, which the end of the file may lack.
                    let len = u64::from(header.head_len) + u64::from(header.body_len);
                    let to = at + HEADER_BYTES as u64 + len;
                    self.make_void(name, path, file, at, to, Some(header))?;
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, segment: u32, at: u64, header: &Header, head: &[u8]) {
        self.seen(header);
        let scan = &mut self.scan;
        let id = header.id;
        match header.kind {
            Kind::Void => {}
            Kind::Meta => {
                if let Some(meta) = Meta::decode(head) {
                    scan.ledger.unread_below(meta.ids_below);
                    scan.ids_below = scan.ids_below.max(meta.ids_below);
                }
            }
            Kind::Message => {
                let place = Place::new(segment, at, header);
                if self.ended.contains(&id) {
                    // Its tombstone couldn't be read at an earlier start, and it was moved. It
                    // gets another, which is kept for as long as this copy.
                    scan.ledger.message(&scan.index, id, place);
                    self.copied_behind.push(id);
                    return;
                }
                // A second copy: moving it was interrupted. The old one goes before anything else.
                if let Some(older) = scan.index.place(id).filter(|p| p.segment != segment)
                    && let Some(account) = scan.ledger.segments.get_mut(&older.segment)
                {
                    account.urgent = true;
                }
                let building = self.building.entry(id).or_default();
                building.envelope = Envelope::from_bytes(head).ok();
                scan.ledger.message(&scan.index, id, place);
                for (segment, bytes) in std::mem::take(&mut building.early) {
                    scan.ledger.outcomes(&scan.index, id, segment, bytes);
                }
            }
            Kind::Outcomes => {
                if self.ended.contains(&id) {
                    return;
                }
                let building = self.building.entry(id).or_default();
                let outcomes = decode_outcomes(head).unwrap_or_default();
                building
                    .outcomes
                    .extend(outcomes.into_iter().map(|o| (header.seq, o)));
                match building.envelope {
                    Some(_) => scan
                        .ledger
                        .outcomes(&scan.index, id, segment, header.record_len()),
                    None => building.early.push((segment, header.record_len())),
                }
            }
            Kind::Endings => {
                let recent = Endings::decode(head).filter(|e| {
                    let since = self.options.endings_since_ms;
                    since.is_some_and(|since| e.at_ms >= since)
                });
                let Some(endings) = recent else { return };
                if self.endings.len() >= ENDED_MAX {
                    self.endings_passed_over += endings.outcomes.len();
                    return;
                }
                self.endings.push((id, endings));
                let known = self.ending.entry(id).or_default();
                if known.is_none() {
                    *known = self.building.get(&id).and_then(|b| b.envelope.clone());
                }
            }
            Kind::Tombstone => {
                self.ended.insert(id);
                let building = self.building.remove(&id);
                if let Some(known @ None) = self.ending.get_mut(&id) {
                    *known = building.and_then(|b| b.envelope);
                }
                let (of, len) = (decode_tombstone(head), header.record_len());
                let of = of.unwrap_or(segment);
                scan.ledger.finished(&scan.index, id, of, segment, len);
            }
        }
    }

    /// A segment is neither copied forward nor removed in this run.
    fn stay(&mut self, segment: u32) {
        if let Some(account) = self.scan.ledger.segments.get_mut(&segment) {
            account.stuck = true;
        }
    }

    fn damage(&mut self, damage: Damage) {
        match damage.kind {
            DamageKind::TornTail => tracing::warn!("{damage}"),
            _ => tracing::error!("{damage}"),
        }
        self.scan.recovery.warnings.push(damage);
    }

    /// Copies bytes to `corrupt/` and reports them; false if they are nowhere else yet.
    #[allow(clippy::too_many_arguments)]
    fn set_aside(
        &mut self,
        name: SegmentName,
        path: &Path,
        file: &File,
        from: u64,
        to: u64,
        kind: DamageKind,
        id: Option<u64>,
    ) -> bool {
        let kept = keep(
            self.dir,
            self.options.corrupt_bytes,
            file,
            name.number,
            from,
            to,
        );
        if let Err(error) = &kept {
            tracing::error!(%error, path = %path.display(), from, to, "damaged bytes couldn't be copied to corrupt/; their segment is left as it is");
            self.stay(name.number);
        }
        let good = kept.is_ok();
        let set_aside = kept.ok().map(|(path, _)| path);
        self.damage(Damage {
            path: path.into(),
            from,
            to,
            kind,
            id,
            set_aside,
        });
        good
    }

    fn end(mut self) -> Scan {
        self.scan.ledger.unread_below(self.scan.ids_below);
        let mut ended = Vec::new();
        for (id, endings) in self.endings {
            let building = || self.building.get(&id).and_then(|b| b.envelope.as_ref());
            let known = self.ending.get(&id).and_then(Option::as_ref);
            let Some(envelope) = known.or_else(building) else {
                continue;
            };
            let room = ENDED_MAX - ended.len();
            self.endings_passed_over += endings.outcomes.len().saturating_sub(room);
            ended.extend(
                endings
                    .outcomes
                    .into_iter()
                    .take(room)
                    .map(|outcome| EndedDelivery {
                        envelope: envelope.clone(),
                        at_ms: endings.at_ms,
                        outcome,
                    }),
            );
        }
        if self.endings_passed_over > 0 {
            tracing::warn!(
                count = self.endings_passed_over,
                most = ENDED_MAX,
                "more deliveries ended of late than are looked at; those whose event a crash took have none"
            );
        }
        self.scan.recovery.ended = ended;
        let mut messages = Vec::with_capacity(self.building.len());
        for (id, building) in self.building {
            let Some(envelope) = building.envelope else {
                continue;
            };
            let open = open_deliveries(&envelope, building.outcomes);
            if open.is_empty() {
                self.scan.finished.push(id);
            } else {
                messages.push(RecoveredMessage { envelope, open });
            }
        }
        messages.sort_unstable_by_key(|m| m.envelope.id());
        // Unless one followed.
        let index = &self.scan.index;
        self.copied_behind.retain(|id| index.place(*id).is_some());
        self.scan.finished.append(&mut self.copied_behind);
        self.scan.finished.sort_unstable();
        self.scan.finished.dedup();
        self.scan.recovery.messages = messages;
        self.scan
    }
}

/// The highest offset that a record says was synced when it was written.
fn synced_up_to(file: &File, salt: u64, len: u64) -> io::Result<u64> {
    let mut scanner = Scanner::new(file, salt, len);
    let mut synced = 0;
    while let Some(found) = scanner.next()? {
        match found {
            Found::Record { header, .. } | Found::BadHead { header, .. } => {
                synced = synced.max(header.synced)
            }
            Found::Version(_) => break,
            Found::Hole { .. } | Found::Tail { .. } => {}
        }
    }
    Ok(u64::from(synced) * super::record::ALIGN as u64)
}

/// Whether the head says what the header says.
fn sound(header: &Header, head: &[u8]) -> bool {
    match header.kind {
        Kind::Message => {
            super::envelope::EnvelopeView::parse(head).is_ok_and(|e| e.id() == header.id)
        }
        Kind::Outcomes => decode_outcomes(head).is_some(),
        Kind::Tombstone => decode_tombstone(head).is_some(),
        Kind::Meta => Meta::decode(head).is_some(),
        Kind::Endings => Endings::decode(head).is_some(),
        Kind::Void => true,
    }
}

fn body_sound(file: &File, at: u64, header: &Header) -> io::Result<bool> {
    let at = at + HEADER_BYTES as u64 + u64::from(header.head_len);
    let body = super::segment::read_exact(file, at, header.body_len as usize)?;
    Ok(crc32c::crc32c(&body) == header.body_crc)
}

/// Folds the outcomes of a message, oldest first, into what is still open.
fn open_deliveries(envelope: &Envelope, mut outcomes: Vec<(u64, Outcome)>) -> Vec<OpenDelivery> {
    let count = envelope.view().recipients_len();
    let mut open: Vec<Option<OpenDelivery>> = (0..count as u32)
        .map(|recipient| {
            Some(OpenDelivery {
                recipient,
                ..OpenDelivery::default()
            })
        })
        .collect();
    outcomes.sort_by_key(|(seq, _)| *seq);
    for (_, outcome) in outcomes {
        let Some(slot) = open.get_mut(outcome.recipient as usize) else {
            continue;
        };
        let Some(delivery) = slot else { continue };
        match outcome.kind {
            OutcomeKind::Deferred(deferral) => delivery.last = Some(deferral),
            OutcomeKind::Held => delivery.held = true,
            OutcomeKind::Released => delivery.held = false,
            OutcomeKind::DelayDsnSent => delivery.delay_dsn_sent = true,
            OutcomeKind::Delivered
            | OutcomeKind::Bounced
            | OutcomeKind::Expired
            | OutcomeKind::Suppressed => *slot = None,
        }
    }
    open.into_iter().flatten().collect()
}

/// Copies bytes of a segment to `corrupt/`; `true` if they weren't there yet.
pub(super) fn keep(
    dir: &Path,
    bytes_max: u64,
    file: &File,
    segment: u32,
    from: u64,
    to: u64,
) -> io::Result<(PathBuf, bool)> {
    let folder = dir.join("corrupt");
    let path = folder.join(format!("{segment:010}-{from}-{}.bin", to - from));
    let mut used = to - from;
    for entry in fs::read_dir(&folder)? {
        used += entry?.metadata().map_or(0, |m| m.len());
    }
    if fs::metadata(&path).is_ok_and(|m| m.len() == to - from) {
        return Ok((path, false));
    }
    if used > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::StorageFull,
            "corrupt/ has as much as it may have",
        ));
    }
    let part = path.with_extension("part");
    let copy = || {
        let out = File::create(&part)?;
        let mut chunk = vec![0; 1 << 20];
        let mut at = from;
        while at < to {
            let want = usize::try_from(to - at)
                .unwrap_or(usize::MAX)
                .min(chunk.len());
            let n = file.read_at(&mut chunk[..want], at)?;
            if n == 0 {
                break;
            }
            out.write_all_at(&chunk[..n], at - from)?;
            at += n as u64;
        }
        out.sync_all()?;
        fs::rename(&part, &path)?;
        File::open(&folder)?.sync_all()
    };
    if let Err(e) = copy() {
        let _ = fs::remove_file(&part);
        return Err(e);
    }
    Ok((path, true))
}
