//! Faults on purpose: each has to be found by the checker that is there for it, or the checker is
//! worth nothing.

use crate::shape::{How, Letter, Shape, Stop};
use std::time::Duration;

/// What the world does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// 250 before the message is synced.
    AnswersBeforeTheSync,
    /// Syncs that do nothing.
    SyncsNothing,
    /// What became of a delivery isn't written down.
    LosesOutcomes,
    /// The ends are not in one batch with the notification that tells of them.
    EndsWithoutItsNotification,
    /// A recovered delivery isn't queued.
    ForgetsOneOfRecovered,
    /// A delivery is lost on its way to another shard.
    LosesBetweenShards,
    /// One connection more than may be.
    OneConnectionMore,
    /// Messages twice as fast as may be.
    TwiceAsFast,
    /// A retry in half the time.
    RetriesEarly,
    /// A delivered message is sent again.
    SendsAgain,
    /// No answer to a message is taken for yes.
    TakesSilenceForYes,
    /// A session isn't woken when there is work.
    MissesWakeUps,
    /// All mail is one tenant's and one campaign's to the scheduler.
    OneQueueForAll,
    /// All mail is of one campaign to the scheduler.
    OneCampaignForAll,
    /// All mail is bulk mail to the scheduler.
    OneClassForAll,
    /// Three times the wait that the schedule says.
    WaitsTooLong,
    /// A delivery that was not tried after all goes behind the others of its lane.
    PutsBackBehind,
    /// Messages live three times as long as they may.
    LivesTooLong,
    /// One recipient more in a transaction than may be.
    OneRecipientMore,
    /// One message more on a connection than may be.
    OneMessageMore,
    /// Connections twice as fast as may be.
    ConnectsTwiceAsFast,
    /// One session more than all shards together may have.
    OneSessionMore,
    /// A byte of each segment changes while the server is down.
    BytesRot,
    /// The same after a stop in order.
    BytesRotInOrder,
}

pub(crate) const ALL: [Fault; 24] = [
    Fault::AnswersBeforeTheSync,
    Fault::SyncsNothing,
    Fault::LosesOutcomes,
    Fault::EndsWithoutItsNotification,
    Fault::ForgetsOneOfRecovered,
    Fault::LosesBetweenShards,
    Fault::OneConnectionMore,
    Fault::TwiceAsFast,
    Fault::RetriesEarly,
    Fault::SendsAgain,
    Fault::TakesSilenceForYes,
    Fault::MissesWakeUps,
    Fault::OneQueueForAll,
    Fault::OneCampaignForAll,
    Fault::OneClassForAll,
    Fault::WaitsTooLong,
    Fault::PutsBackBehind,
    Fault::LivesTooLong,
    Fault::OneRecipientMore,
    Fault::OneMessageMore,
    Fault::ConnectsTwiceAsFast,
    Fault::OneSessionMore,
    Fault::BytesRot,
    Fault::BytesRotInOrder,
];

impl Fault {
    /// The checker that is there for it, by words that only it says.
    pub(crate) fn found_by(self) -> &'static [&'static str] {
        match self {
            Self::AnswersBeforeTheSync | Self::SyncsNothing => &["got 250 and is lost"],
            Self::LosesOutcomes => &["that was on disk, and it is back"],
            Self::EndsWithoutItsNotification => &["has ended and its notification"],
            Self::ForgetsOneOfRecovered | Self::LosesBetweenShards => {
                &["deliveries in the schedulers"]
            }
            Self::OneConnectionMore => &["sessions toward", "may be"],
            Self::TwiceAsFast => &["messages toward", "faster than"],
            Self::RetriesEarly => &["is tried", "before its time"],
            Self::SendsAgain => &["arrived", "times, 0 excused"],
            Self::TakesSilenceForYes => &["has been delivered and nobody has it"],
            Self::MissesWakeUps => &["all its sessions sleep until after"],
            Self::OneQueueForAll => &["recipients of tenant", "in a row"],
            Self::OneCampaignForAll => &["recipients of campaign", "in a row"],
            Self::OneClassForAll => &["transactions in", "while class"],
            Self::WaitsTooLong => &["waits", "s after attempt"],
            Self::PutsBackBehind => &["was taken before", "which came to the lane before it"],
            Self::LivesTooLong => &["has expired", "too late"],
            Self::OneRecipientMore => &["recipients in one transaction toward"],
            Self::OneMessageMore => &["messages on one connection toward"],
            Self::ConnectsTwiceAsFast => &["connections toward", "faster than"],
            Self::OneSessionMore => &["sessions, ", "may be"],
            Self::BytesRot => &["damage where nothing was lost"],
            Self::BytesRotInOrder => &["damage after a stop in order"],
        }
    }

    /// Sees to it that the occasion comes: a crash, a second shard, a rush.
    pub(crate) fn bend(self, shape: &mut Shape) {
        match self {
            Self::AnswersBeforeTheSync | Self::SyncsNothing => stop(shape, How::Power),
            Self::LosesOutcomes
            | Self::EndsWithoutItsNotification
            | Self::ForgetsOneOfRecovered
            | Self::BytesRot => stop(shape, How::Kill),
            Self::BytesRotInOrder => stop(shape, How::Close),
            Self::LosesBetweenShards => shape.shards = 2,
            Self::OneClassForAll => rush(shape),
            _ => {}
        }
    }
}

/// Much bulk mail of one campaign to one domain, and urgent mail behind it.
fn rush(shape: &mut Shape) {
    let one = Letter {
        at: 0,
        tenant: 0,
        campaign: 0,
        hold_s: 0,
        ..shape.letters[0].clone()
    };
    shape.letters = (0..200)
        .map(|n| Letter {
            stream: if n < 190 { 2 } else { 0 },
            ..one.clone()
        })
        .collect();
}

fn stop(shape: &mut Shape, how: How) {
    for stop in &mut shape.stops {
        stop.how = how;
    }
    if shape.stops.is_empty() {
        shape.stops.push(Stop {
            at: 2_000_000_000,
            how,
            in_ops: None,
            down: Duration::from_secs(5),
        });
    }
}
