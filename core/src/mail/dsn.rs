//! Delivery status notifications (RFC 3461, RFC 3464, RFC 6533): decide, write, read.
//!
//! When a delivery comes to an end or takes long:
//!
//! 1. [`wanted`] says whether the sender is told, as what [`Action`], and how much of the message
//!    goes back.
//! 2. Fill a [`Report`] with one [`Recipient`] for each delivery of that message that ended alike,
//!    and call [`Report::emit`]. It appends a whole message, and says what its transport needs.
//! 3. Send it from the null reverse-path, so that nothing ever answers it (RFC 5321 4.5.5).
//!
//! When a notification comes in, [`parse`] reads it, whoever wrote it, and
//! [`RecipientStatus::verdict`] says what it means.
//!
//! | file | is |
//! |---|---|
//! | `emit` | a report as a message |
//! | `parse` | a message as a report, tolerantly |

mod emit;
mod parse;

pub use emit::{Diagnostic, Emitted, Recipient, Remote, Report};
pub use parse::{NotADsn, Notification, RecipientStatus, Typed, parse};

use crate::mail::address::ReversePath;
use crate::smtp::command::{Notify, Ret};
use core::fmt;

/// What happened to a recipient, as a report says it (RFC 3464 2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Sent on to more than one recipient.
    Expanded,
    /// Delivered to the mailbox.
    Delivered,
    /// Handed to a host that won't report.
    Relayed,
    /// Not yet delivered; it will be tried again.
    Delayed,
    /// Not delivered, and it won't be tried again.
    Failed,
}

impl Action {
    /// Its word in `Action:`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expanded => "expanded",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Delayed => "delayed",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Given up: refused for good, or expired.
    Failed,
    /// Still waiting after as long as a sender may want to know of.
    Delayed,
    /// In the mailbox: an LMTP server said so.
    Delivered,
    /// Taken by the next host.
    Relayed {
        /// That host offers DSN and got NOTIFY and ORCPT: reporting success is now its duty.
        reports: bool,
    },
    /// Sent on to a list's members.
    Expanded,
}

/// Whether and what the sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// As what.
    pub action: Action,
    /// How much of the message goes back.
    pub ret: Ret,
}

/// Whether `sender` is told of `outcome` (RFC 3461 4.1, 5.2, 6.2).
///
/// | NOTIFY | failure | delay | success |
/// |---|---|---|---|
/// | not given | yes | if `delays` | no |
/// | NEVER | no | no | no |
/// | a list | if FAILURE | if DELAY | if SUCCESS |
///
/// The null sender is never told anything. `delays` is our own policy for senders that said
/// nothing. RET is about failures only; other reports carry the header (RFC 3461 4.3). Where it
/// wasn't given, so do failures: bulk mail shouldn't go back at full length.
pub fn wanted(
    outcome: Outcome,
    sender: &ReversePath<'_>,
    notify: Option<Notify>,
    ret: Option<Ret>,
    delays: bool,
) -> Option<Wanted> {
    if *sender == ReversePath::Null || notify.is_some_and(|n| n.never) {
        return None;
    }
    let success = notify.is_some_and(|n| n.success);
    let (action, asked) = match outcome {
        Outcome::Failed => (Action::Failed, notify.is_none_or(|n| n.failure)),
        Outcome::Delayed => (Action::Delayed, notify.map_or(delays, |n| n.delay)),
        Outcome::Delivered => (Action::Delivered, success),
        Outcome::Relayed { reports } => (Action::Relayed, success && !reports),
        Outcome::Expanded => (Action::Expanded, success),
    };
    asked.then_some(Wanted {
        action,
        ret: match action {
            Action::Failed => ret.unwrap_or(Ret::Headers),
            _ => Ret::Headers,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::address::Mailbox;

    #[test]
    fn who_is_told_what() {
        let sender = ReversePath::Mailbox(Mailbox::parse("a@b.example").unwrap());
        let list = |success, failure, delay| {
            Some(Notify {
                never: false,
                success,
                failure,
                delay,
            })
        };
        let never = Some(Notify {
            never: true,
            ..Notify::default()
        });
        let blind = Outcome::Relayed { reports: false };
        let seeing = Outcome::Relayed { reports: true };
        for (outcome, notify, delays, action) in [
            (Outcome::Failed, None, false, Some(Action::Failed)),
            (Outcome::Failed, never, true, None),
            (Outcome::Failed, list(true, false, true), true, None),
            (
                Outcome::Failed,
                list(false, true, false),
                false,
                Some(Action::Failed),
            ),
            (Outcome::Delayed, None, false, None),
            (Outcome::Delayed, None, true, Some(Action::Delayed)),
            (Outcome::Delayed, list(false, true, false), true, None),
            (
                Outcome::Delayed,
                list(false, true, true),
                false,
                Some(Action::Delayed),
            ),
            (Outcome::Delivered, None, true, None),
            (
                Outcome::Delivered,
                list(true, false, false),
                false,
                Some(Action::Delivered),
            ),
            (blind, None, true, None),
            (blind, list(true, true, false), false, Some(Action::Relayed)),
            (seeing, list(true, true, false), false, None),
            (
                Outcome::Expanded,
                list(true, false, false),
                false,
                Some(Action::Expanded),
            ),
        ] {
            let got = wanted(outcome, &sender, notify, Some(Ret::Full), delays);
            assert_eq!(got.map(|w| w.action), action, "{outcome:?} {notify:?}");
            if let Some(w) = got {
                assert_eq!(w.ret == Ret::Full, w.action == Action::Failed);
            }
            assert_eq!(
                wanted(outcome, &ReversePath::Null, notify, None, delays),
                None
            );
        }
    }
}
