//! The spool: messages on disk, from their 250 until each of their deliveries has ended.
//!
//! # How it is used
//!
//! 1. [`Store::open`] the folder once. [`Recovery`] holds every message that isn't finished,
//!    with its open deliveries, and what was found damaged.
//! 2. [`Spool::register_sink`] for every shard: there it hears that its records are durable.
//! 3. For a new message: [`Spool::next_id`], [`EnvelopeFields::encode`], then
//!    [`Spool::append_message`]. When [`CommitSink::committed`] says `Ok`, it is on disk and
//!    synced: now, and not before, answer 250. A [`Refused`] append gives everything back.
//! 4. [`Spool::append_outcomes`] whenever something became of deliveries. They are written at
//!    once, so that they outlive the process, and synced with the next commit or within
//!    [`OUTCOME_SYNC_MS`]. A message that arises from an outcome (a DSN) goes into one
//!    [`Batch`] with it: both count or neither.
//!    With the end of a delivery goes when and how it ended ([`Batch::endings`]): the next start
//!    finds the last ones in [`Recovery::ended`], and sees whether their events were written.
//! 5. [`Spool::read_body`] (or [`Spool::locate_body`] for a ring) for the content, by id.
//! 6. [`Spool::finish`] when every delivery has ended.
//! 7. [`Spool::close`], or drop the last handle: everything pending is written and synced.
//!
//! Ask [`Spool::accepting`] at MAIL, so that a full disk is told before the content is sent.
//! When the state is [`SpoolState::Failed`], outcomes can't be kept either: stop delivering.
//!
//! # How it works
//!
//! ```text
//!  shards ──append──▶ queue ──▶ writer ──pwritev──▶ segment ◀──fdatasync── syncer ──▶ sinks
//!            Busy◀─┘ bounded      ▲  │ jobs                                   (once per shard)
//!                                 │  ▼
//!                              reclaimer: reads sparse segments, unlinks empty ones
//! ```
//!
//! The **writer** takes all that waits and writes it with one `pwritev`, from the buffers where
//! it lies. The **syncer** calls one `fdatasync` for all that was written meanwhile and tells the
//! shards. A lone message waits for nobody: it is written and synced at once. Where many come
//! together, and while a sync runs, the writer waits for the others, so that they share one write
//! and the next sync; no longer than [`GATHER_US`], so an outcome is in the kernel's hands within
//! that time.
//!
//! The log is made of segments (`segments/`), the segments of [records](record). Nothing is
//! changed in place. The writer counts for every segment how many bytes in it are still needed:
//! live messages, their outcomes, and tombstones of messages of which another segment still has a
//! copy. A segment that needs nothing is unlinked; a sparse one is read by the reclaimer, which
//! hands what lives to the writer in small slices, one per sync, and is unlinked when the copies
//! are synced. Segments are unlinked one job after the other, and one that can't be copied whole
//! stays with what was moved out of it, so a tombstone never goes before the last copy of its
//! message. Readers find a message through the index, by id, and don't notice a move.
//!
//! # What fails, and what happens then
//!
//! | | |
//! |---|---|
//! | queue full | [`RefusedWhy::Busy`] at once, values given back |
//! | disk or spool nearly full | [`RefusedWhy::Full`] for messages, before it is full; outcomes go on, at last into a reserve that was allocated at the start |
//! | a write fails | the segment is cut back to where it was and that is synced, those messages are refused; outcomes are written to a new segment, or kept and tried again |
//! | an fsync fails | [`SpoolState::Failed`]: everything that waits gets an error, nothing is accepted until the server is started again. What the kernel lost can't be known, so it is never tried again |
//! | crash | whole records count, the rest of the last segment is cut off |
//! | damage | records after it are found by their magic; the damaged bytes are copied to `corrupt/`, reported, and the rest of their segment is copied forward |
//! | two servers | the second gets [`SpoolError::Locked`] with the pid of the first |

mod batch;
pub mod disk;
pub mod envelope;
mod index;
mod plan;
mod queue;
mod reclaim;
pub mod record;
mod recover;
mod room;
mod segment;
mod stepped;
mod store;
mod syncer;
mod writer;

pub use batch::{AppendError, Batch, CommitSink, Committed, Refused, RefusedWhy};
pub use envelope::{
    DeliverUntil, Envelope, EnvelopeError, EnvelopeFields, EnvelopeView, RecipientFields,
    RecipientView,
};
pub use record::{Deferral, Outcome, OutcomeKind};
pub use recover::{
    Damage, DamageKind, ENDED_MAX, EndedDelivery, OpenDelivery, RecoveredMessage, Recovery,
};
#[doc(hidden)]
pub use stepped::{Pending, Stepped};
pub use store::{
    BodyLocation, Options, ReadError, Spool, SpoolError, SpoolState, SpoolStatus, Store,
};
pub use syncer::OUTCOME_SYNC_MS;
pub use writer::GATHER_US;
