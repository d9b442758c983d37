//! Where every live message lies, and what every segment still holds.
//!
//! The [`Index`] is read by everybody and changed by the writer alone, so a message may be moved
//! to another segment and its readers only notice that they find it there. The [`Ledger`] is the
//! writer's own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::record::{ALIGN, HEADER_BYTES, Header};
use super::segment::SegmentName;

/// Where a message's record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u32,
    /// Offset of the record, in units of [`ALIGN`].
    at: u32,
    pub(super) head_len: u32,
    pub(super) body_len: u32,
    pub(super) body_crc: u32,
}

impl Place {
    pub(super) fn new(segment: u32, at: u64, header: &Header) -> Self {
        Self {
            segment,
            at: (at / ALIGN as u64) as u32,
            head_len: header.head_len,
            body_len: header.body_len,
            body_crc: header.body_crc,
        }
    }

    pub(super) fn at(&self) -> u64 {
        u64::from(self.at) * ALIGN as u64
    }

    pub(super) fn body_at(&self) -> u64 {
        self.at() + HEADER_BYTES as u64 + u64::from(self.head_len)
    }

    fn record_len(&self) -> u64 {
        let len = HEADER_BYTES as u64 + u64::from(self.head_len) + u64::from(self.body_len);
        len + super::record::padding(len)
    }
}

/// How many bytes of outcomes a message has in which segments. Most have none or one.
#[derive(Debug, Default)]
pub(super) enum OutcomeBytes {
    #[default]
    None,
    One(u32, u32),
    /// Boxed to keep the entry of every other message small.
    #[allow(clippy::box_collection)]
    Many(Box<Vec<(u32, u32)>>),
}

impl OutcomeBytes {
    fn each(&self) -> &[(u32, u32)] {
        match self {
            Self::Many(list) => list,
            _ => &[],
        }
    }

    fn visit(&self, mut f: impl FnMut(u32, u32)) {
        if let Self::One(segment, bytes) = self {
            f(*segment, *bytes);
        }
        self.each()
            .iter()
            .for_each(|(segment, bytes)| f(*segment, *bytes));
    }

    fn add(&mut self, segment: u32, bytes: u32) {
        match self {
            Self::None => *self = Self::One(segment, bytes),
            Self::One(s, b) if *s == segment => *b += bytes,
            Self::One(s, b) => *self = Self::Many(Box::new(vec![(*s, *b), (segment, bytes)])),
            Self::Many(list) => match list.iter_mut().find(|(s, _)| *s == segment) {
                Some((_, b)) => *b += bytes,
                None => list.push((segment, bytes)),
            },
        }
    }

    /// Takes up to `bytes` away; returns how many it were.
    fn take(&mut self, segment: u32, bytes: u32) -> u32 {
        match self {
            Self::One(s, b) if *s == segment => {
                let taken = bytes.min(*b);
                *b -= taken;
                if *b == 0 {
                    *self = Self::None;
                }
                taken
            }
            Self::Many(list) => {
                let Some(i) = list.iter().position(|(s, _)| *s == segment) else {
                    return 0;
                };
                let taken = bytes.min(list[i].1);
                list[i].1 -= taken;
                if list[i].1 == 0 {
                    list.swap_remove(i);
                }
                taken
            }
            _ => 0,
        }
    }
}

#[derive(Debug)]
struct Entry {
    place: Place,
    outcomes: OutcomeBytes,
}

/// Message id → place, in parts with a lock each.
#[derive(Debug, Default)]
pub(super) struct Index {
    parts: [Mutex<HashMap<u64, Entry>>; 16],
}

impl Index {
    fn with<R>(&self, id: u64, f: impl FnOnce(&mut HashMap<u64, Entry>) -> R) -> R {
        let part = &self.parts[(id % 16) as usize];
        f(&mut part.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn place(&self, id: u64) -> Option<Place> {
        self.with(id, |map| map.get(&id).map(|e| e.place))
    }

    pub(super) fn len(&self) -> usize {
        let lock =
            |part: &Mutex<HashMap<_, _>>| part.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.parts.iter().map(lock).sum()
    }
}

/// What a segment still holds.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) name: SegmentName,
    /// Length of the file, bytes.
    pub(super) size: u64,
    /// Bytes of live messages and of outcomes of live messages.
    live: u64,
    /// Bytes of tombstones here, by each other segment with a copy of their messages.
    tombstones: HashMap<u32, u64>,
    /// To be copied forward before any other: it has damage, or old copies of messages that were
    /// being moved when the server stopped.
    pub(super) urgent: bool,
    /// Outcomes and tombstones before this offset were moved, and forgotten here. Copying forward
    /// that is refused begins anew.
    moved_to: u64,
    /// When it was closed, if that was in this run.
    pub(super) closed: Option<Instant>,
    /// Copying forward has failed; left alone until the next start.
    pub(super) stuck: bool,
}

impl Account {
    pub(super) fn needed(&self) -> u64 {
        self.live + self.tombstones.values().sum::<u64>()
    }
}

/// Copies in a segment of messages that were moved out of it.
#[derive(Debug, Default)]
struct Left {
    ids: HashSet<u64>,
    /// Any message with a lower id may have one, where the segment couldn't be read to its end.
    below: u64,
}

impl Left {
    fn has(&self, id: u64) -> bool {
        id < self.below || self.ids.contains(&id)
    }
}

/// Where copies of a finished message are, if these segments still exist: `of`, where it lay at its
/// end, and wherever it was moved from.
fn copies(left: &BTreeMap<u32, Left>, id: u64, of: u32) -> impl Iterator<Item = u32> {
    let left = left.iter().filter(move |(s, l)| **s != of && l.has(id));
    std::iter::once(of).chain(left.map(|(segment, _)| *segment))
}

/// All segments. Every change of the [`Index`] goes through here.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) segments: BTreeMap<u32, Account>,
    /// What was moved out of segments that still exist. Most are unlinked right afterwards; one that
    /// couldn't be copied whole stays.
    left: BTreeMap<u32, Left>,
    pub(super) total: u64,
    pub(super) live: u64,
    /// Something died since reclaiming was last thought about.
    pub(super) shrunk: bool,
}

impl Ledger {
    pub(super) fn open(&mut self, name: SegmentName, size: u64) {
        self.total += size;
        self.segments.insert(
            name.number,
            Account {
                name,
                size,
                live: 0,
                tombstones: HashMap::new(),
                urgent: false,
                moved_to: 0,
                closed: None,
                stuck: false,
            },
        );
    }

    pub(super) fn close(&mut self, segment: u32, now: Instant) {
        if let Some(account) = self.segments.get_mut(&segment) {
            account.closed = Some(now);
        }
    }

    pub(super) fn grew(&mut self, segment: u32, bytes: u64) {
        if let Some(account) = self.segments.get_mut(&segment) {
            account.size += bytes;
            self.total += bytes;
        }
    }

    pub(super) fn shrank(&mut self, segment: u32, bytes: u64) {
        if let Some(account) = self.segments.get_mut(&segment) {
            account.size -= bytes;
            self.total -= bytes;
        }
    }

    pub(super) fn remove(&mut self, segment: u32) {
        if let Some(account) = self.segments.remove(&segment) {
            self.total -= account.size;
            self.shrunk = true;
            self.left.remove(&segment);
            for other in self.segments.values_mut() {
                other.tombstones.remove(&segment);
            }
        }
    }

    fn add(&mut self, segment: u32, bytes: u64) {
        if let Some(account) = self.segments.get_mut(&segment) {
            account.live += bytes;
            self.live += bytes;
        }
    }

    fn take(&mut self, segment: u32, bytes: u64) {
        if let Some(account) = self.segments.get_mut(&segment) {
            debug_assert!(
                account.live >= bytes,
                "segment {segment} holds less than {bytes} bytes"
            );
            account.live = account.live.saturating_sub(bytes);
            self.live = self.live.saturating_sub(bytes);
            self.shrunk = true;
        }
    }

    /// A message lies at `place`, or has moved there.
    pub(super) fn message(&mut self, index: &Index, id: u64, place: Place) {
        let old = index.with(id, |map| match map.get_mut(&id) {
            Some(entry) => Some(std::mem::replace(&mut entry.place, place)),
            None => {
                map.insert(
                    id,
                    Entry {
                        place,
                        outcomes: OutcomeBytes::None,
                    },
                );
                None
            }
        });
        if let Some(old) = old {
            self.take(old.segment, old.record_len());
            self.leave(old.segment, id, place.segment);
        }
        self.add(place.segment, place.record_len());
    }

    /// Outcomes of a message were written; nothing if it is finished.
    pub(super) fn outcomes(&mut self, index: &Index, id: u64, segment: u32, bytes: u64) {
        let bytes32 = u32::try_from(bytes).unwrap_or(u32::MAX);
        let known = index.with(id, |map| {
            map.get_mut(&id).map(|e| e.outcomes.add(segment, bytes32))
        });
        if known.is_some() {
            self.add(segment, u64::from(bytes32));
        }
    }

    /// Outcomes of a message in this segment are no longer needed there.
    pub(super) fn outcomes_gone(&mut self, index: &Index, id: u64, segment: u32, bytes: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let taken = index.with(id, |map| {
            map.get_mut(&id)
                .map_or(0, |e| e.outcomes.take(segment, bytes))
        });
        self.take(segment, u64::from(taken));
    }

    /// A segment may hold copies of all messages below `id`: it can't be read to its end.
    pub(super) fn unread(&mut self, segment: u32, below: u64) {
        self.left.entry(segment).or_default().below = below;
    }

    /// What is [`unread`](Self::unread) so far holds no message from `below` on.
    pub(super) fn unread_below(&mut self, below: u64) {
        for left in self.left.values_mut() {
            left.below = left.below.min(below);
        }
    }

    /// A copy of a message stays in `segment`; the one in `counts` is what counts.
    fn leave(&mut self, segment: u32, id: u64, counts: u32) {
        if segment != counts && self.segments.contains_key(&segment) {
            self.left.entry(segment).or_default().ids.insert(id);
        }
    }

    /// A message is finished; its tombstone of `bytes` lies in `segment` and says that it lay in `of`.
    pub(super) fn finished(&mut self, index: &Index, id: u64, of: u32, segment: u32, bytes: u64) {
        if let Some(entry) = index.with(id, |map| map.remove(&id)) {
            self.take(entry.place.segment, entry.place.record_len());
            entry.outcomes.visit(|s, b| self.take(s, u64::from(b)));
            self.leave(entry.place.segment, id, of);
        }
        self.tombstone(id, of, segment, bytes);
    }

    /// A tombstone in `segment` is needed for as long as another segment has a copy of its message.
    pub(super) fn tombstone(&mut self, id: u64, of: u32, segment: u32, bytes: u64) {
        for of in copies(&self.left, id, of) {
            if of != segment
                && self.segments.contains_key(&of)
                && let Some(account) = self.segments.get_mut(&segment)
            {
                *account.tombstones.entry(of).or_default() += bytes;
            }
        }
    }

    /// Records of `segment` up to the one at `at` were moved out of it.
    pub(super) fn moved(&mut self, segment: u32, at: u64) {
        if let Some(account) = self.segments.get_mut(&segment) {
            account.moved_to = account.moved_to.max(at + 1);
        }
    }

    /// Whether that was so for the record at `at` before.
    pub(super) fn was_moved(&self, segment: u32, at: u64) -> bool {
        let account = self.segments.get(&segment);
        account.is_some_and(|account| at < account.moved_to)
    }

    /// Whether a tombstone in `segment` has to be copied forward before that is unlinked.
    pub(super) fn needs_tombstone(&self, id: u64, of: u32, segment: u32) -> bool {
        copies(&self.left, id, of).any(|of| of != segment && self.segments.contains_key(&of))
    }

    /// A tombstone was moved out of `segment`.
    pub(super) fn tombstone_gone(&mut self, id: u64, of: u32, segment: u32, bytes: u64) {
        let Some(account) = self.segments.get_mut(&segment) else {
            return;
        };
        for of in copies(&self.left, id, of) {
            if let Some(sum) = account.tombstones.get_mut(&of) {
                *sum = sum.saturating_sub(bytes);
                if *sum == 0 {
                    account.tombstones.remove(&of);
                }
            }
        }
    }
}
