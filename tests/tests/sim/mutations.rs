//! Faults on purpose: each has to be found by a checker, or the checkers are worth nothing.

use crate::shape::{How, Shape, Stop};
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
}

pub(crate) const ALL: [Fault; 13] = [
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
];

impl Fault {
    /// Sees to it that the occasion comes: a crash where the fault needs one.
    pub(crate) fn bend(self, shape: &mut Shape) {
        match self {
            Self::AnswersBeforeTheSync | Self::SyncsNothing => stop(shape, How::Power),
            Self::LosesOutcomes
            | Self::EndsWithoutItsNotification
            | Self::ForgetsOneOfRecovered => stop(shape, How::Kill),
            Self::LosesBetweenShards => shape.shards = 2,
            _ => {}
        }
    }
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
