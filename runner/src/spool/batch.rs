//! What shards append, and what they hear of it.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use bytes::Bytes;

use super::envelope::Envelope;
use super::record::{ALIGN, Endings, HEADER_BYTES, Header, OUTCOMES_MAX, Outcome, encode_outcomes};
use super::store::SpoolState;

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
    pub(super) records: Vec<Record>,
}

#[derive(Debug)]
pub(super) enum Record {
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
    Endings {
        id: u64,
        head: Vec<u8>,
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

    /// Adds, for the start after a crash, that deliveries of the message `id` ended at `at_ms`
    /// (milliseconds since 1970); what else is in the batch must say so too.
    #[must_use]
    pub fn endings(mut self, id: u64, at_ms: u64, outcomes: &[Outcome]) -> Self {
        for some in outcomes.chunks(OUTCOMES_MAX) {
            let head = Endings::encode(at_ms, some);
            self.records.push(Record::Endings { id, head });
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

    pub(super) fn size(&self) -> usize {
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
            Self::Outcomes { head, .. } | Self::Endings { head, .. } => head.len(),
            Self::Tombstone { .. } => 8,
            Self::Moved(moved) => moved.head.as_ref().map_or(0, Vec::len) + moved.body.len(),
        }
    }
}

/// A batch on its way, and who waits for it.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) batch: Batch,
    /// crc32c of the body of each message, computed by the shard.
    pub(super) crcs: Vec<u32>,
    pub(super) token: Option<(u16, u64)>,
    pub(super) notify: Option<SyncSender<bool>>,
    pub(super) size: usize,
}

impl Group {
    pub(super) fn durable(&self) -> bool {
        self.token.is_some() || self.notify.is_some()
    }

    /// Messages are refused when they can't be written, and moves given up; outcomes never.
    pub(super) fn may_fail(&self) -> bool {
        self.batch
            .records
            .iter()
            .all(|r| matches!(r, Record::Message { .. } | Record::Moved(_)))
    }
}
