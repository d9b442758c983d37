//! One attempt's outcome: recorded in the spool, told as an event, reported to the scheduler.
//!
//! The order matters. A notification is written in one batch with the ends of the deliveries that it
//! tells of, so that after a crash there are both or neither. The scheduler forgets a delivery at
//! once, so that nobody takes it again; a crash before its end is written brings it back.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use courser_core::feedback::verdict::{Cause, Class, Scope, Verdict};
use courser_core::mail::dsn;
use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use courser_core::time::Instant;

use super::bounce::Notice;
use crate::net::clock;
use crate::queue::message::Message;
use crate::session::LaneTask;
use crate::session::connect::Peer;
use crate::session::transaction::Leased;
use crate::shard::Shard;
use crate::spool::{Batch, Deferral, Outcome as Record, OutcomeKind};

/// A lane that was told to slow down, without being told for how long, rests this long.
pub const LANE_REST: Duration = Duration::from_secs(60);
/// A lane whose source was refused for good, whatever it sends, rests this long.
pub const LANE_REFUSED_REST: Duration = Duration::from_secs(15 * 60);

/// What the other side, or we ourselves, said about a delivery.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// The reply code; `None` for our own words.
    pub code: Option<ReplyCode>,
    /// The enhanced status code.
    pub enhanced: Option<EnhancedCode>,
    /// The text.
    pub text: String,
    /// What it answered.
    pub stage: &'static str,
    /// The configured rule that says what it means; empty: none of them.
    pub rule: String,
}

impl Said {
    /// Our own words.
    pub fn locally(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// Reads what [`line`](Self::line) wrote.
    pub fn of_line(line: &str) -> Self {
        let reply = Reply::parse(line.as_bytes()).ok();
        match reply.filter(|r| !r.code.is_success()) {
            Some(reply) => Self {
                code: Some(reply.code),
                enhanced: reply.enhanced,
                text: reply.text().to_string(),
                ..Self::default()
            },
            None => Self::locally(line),
        }
    }

    /// As one line, codes in front.
    pub fn line(&self) -> String {
        let mut line = String::new();
        if let Some(code) = self.code {
            line.push_str(&code.to_string());
            line.push(' ');
        }
        if let Some(enhanced) = self.enhanced {
            line.push_str(&enhanced.to_string());
            line.push(' ');
        }
        line.push_str(&self.text);
        line
    }
}

/// One attempt at one delivery.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// The lane it was made in; `None` where it ended before it had one.
    pub task: Option<&'a LaneTask>,
    /// Who was at the other end, if anyone.
    pub peer: Option<&'a Peer>,
    /// The message.
    pub message: &'a Arc<Message>,
    /// The delivery.
    pub leased: Leased,
    /// When it began.
    pub began: Instant,
    /// When the body was out.
    pub sent: Option<Instant>,
    /// Now.
    pub now: Instant,
    /// The first transaction of its connection.
    pub first: bool,
}

impl<'a> Attempt<'a> {
    /// An attempt that ended on our side.
    pub fn local(
        task: Option<&'a LaneTask>,
        message: &'a Arc<Message>,
        leased: Leased,
        now: Instant,
    ) -> Self {
        Self {
            task,
            peer: None,
            message,
            leased,
            began: now,
            sent: None,
            now,
            first: false,
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum Fate {
    /// The receiver took it.
    Delivered {
        /// Its reply.
        said: Said,
        /// It got the DSN parameters and reports by itself.
        reports: bool,
    },
    /// It didn't.
    Failed {
        /// What that means.
        verdict: Verdict,
        /// Its reply, or our words.
        said: Said,
        /// The body was out and the answer never came: it may have been taken (RFC 1047).
        unknown: bool,
    },
    /// It wasn't this delivery's turn after all; tried again at once, and not counted.
    PutBack,
}

impl Shard {
    /// Ends the attempt.
    pub fn settle(self: &Rc<Self>, attempt: Attempt<'_>, fate: Fate) {
        match fate {
            Fate::PutBack => self.put_back(attempt.leased),
            Fate::Delivered { said, reports } => self.settle_delivered(&attempt, said, reports),
            Fate::Failed {
                verdict,
                said,
                unknown,
            } => self.settle_failed(&attempt, &verdict, said, unknown),
        }
    }

    fn settle_delivered(self: &Rc<Self>, attempt: &Attempt<'_>, said: Said, reports: bool) {
        self.tell_delivered(attempt, &said);
        let lmtp = attempt.task.is_some_and(|t| t.lmtp);
        let outcome = if lmtp {
            dsn::Outcome::Delivered
        } else {
            dsn::Outcome::Relayed { reports }
        };
        self.end(
            attempt,
            OutcomeKind::Delivered,
            outcome,
            Verdict::new(Class::Delivered, Scope::Recipient, false),
            said,
        );
    }

    fn settle_failed(
        self: &Rc<Self>,
        attempt: &Attempt<'_>,
        verdict: &Verdict,
        said: Said,
        unknown: bool,
    ) {
        if let Some(task) = attempt.task {
            self.lane_verdict(task, verdict);
        }
        if verdict.permanent {
            self.tell_failed(attempt, verdict, &said, unknown, Ending::Bounced);
            return self.end(
                attempt,
                OutcomeKind::Bounced,
                dsn::Outcome::Failed,
                *verdict,
                said,
            );
        }
        let attempts = self.attempts(attempt.leased.delivery) + 1;
        let age = attempt.message.age(attempt.now);
        let wait = self.retry_after(attempt, attempts, age, verdict.retry_after);
        let Some(wait) = wait else {
            self.tell_failed(attempt, verdict, &said, unknown, Ending::Expired);
            return self.end(
                attempt,
                OutcomeKind::Expired,
                dsn::Outcome::Failed,
                expired(verdict),
                said,
            );
        };
        let due = clock::wall().plus_s(wait.as_secs() as i64);
        self.tell_failed(
            attempt,
            verdict,
            &said,
            unknown,
            Ending::Deferred { attempts, due },
        );
        let record = Record {
            recipient: attempt.leased.recipient,
            kind: OutcomeKind::Deferred(Deferral {
                attempts,
                at: clock::wall(),
                due,
                text: said.line().into(),
                source: attempt.task.map_or("", |t| &t.source).into(),
            }),
        };
        self.keep(Batch::new().outcomes(attempt.message.id(), &[record]));
        self.defer(attempt, wait, verdict, &said, age);
    }

    /// The delivery is over: writes that down, with a notification where its sender wants one.
    ///
    /// The scheduler forgets it at once, so that nobody can take it again; until it is written
    /// down, a crash brings it back.
    pub(super) fn end(
        self: &Rc<Self>,
        attempt: &Attempt<'_>,
        kind: OutcomeKind,
        outcome: dsn::Outcome,
        verdict: Verdict,
        said: Said,
    ) {
        match Notice::wanted(self, attempt, outcome, verdict, said) {
            None => self.keep(self.ending(attempt.message, attempt.leased, kind)),
            Some(notice) => self.notify(attempt.message, notice.ending(kind)),
        }
        self.ended(attempt.leased.delivery);
    }

    /// The records that end a delivery: with the last one of a message, the message's end is
    /// enough.
    pub(super) fn ending(
        &self,
        message: &Arc<Message>,
        leased: Leased,
        kind: OutcomeKind,
    ) -> Batch {
        let outcome = [Record {
            recipient: leased.recipient,
            kind,
        }];
        let batch = ending_now(message.id(), &outcome);
        if message.ended() {
            self.release_body(message);
            return batch.finish(message.id());
        }
        batch.outcomes(message.id(), &outcome)
    }

    /// Ends a delivery whose time ran out while it waited.
    pub fn expire(self: &Rc<Self>, message: &Arc<Message>, leased: Leased, said: Said) {
        let attempt = Attempt::local(None, message, leased, clock::now());
        let verdict = Cause::Expired.verdict();
        let said = Said {
            enhanced: said.enhanced.or(Some(Cause::Expired.status())),
            ..said
        };
        self.tell_failed(&attempt, &verdict, &said, false, Ending::Expired);
        self.end(
            &attempt,
            OutcomeKind::Expired,
            dsn::Outcome::Failed,
            verdict,
            said,
        );
    }

    /// Ends a delivery because its domain takes no mail, or because an operator says so.
    pub fn bounce(
        self: &Rc<Self>,
        message: &Arc<Message>,
        leased: Leased,
        verdict: Verdict,
        said: Said,
    ) {
        let attempt = Attempt::local(None, message, leased, clock::now());
        self.tell_failed(&attempt, &verdict, &said, false, Ending::Bounced);
        self.end(
            &attempt,
            OutcomeKind::Bounced,
            dsn::Outcome::Failed,
            verdict,
            said,
        );
    }

    /// Ends a delivery and tells nobody but the events.
    pub fn drop_delivery(self: &Rc<Self>, message: &Arc<Message>, leased: Leased, said: Said) {
        let attempt = Attempt::local(None, message, leased, clock::now());
        self.tell_dropped(&attempt, &said);
        self.keep(self.ending(message, leased, OutcomeKind::Suppressed));
        self.ended(leased.delivery);
    }

    /// What a reply says about more than its recipient.
    fn lane_verdict(&self, task: &LaneTask, verdict: &Verdict) {
        if let Some(rest) = lane_rest(verdict) {
            self.rest_lane(task, rest, verdict);
        }
    }
}

/// A batch that says that these deliveries of a message end now.
pub(super) fn ending_now(message: u64, outcomes: &[Record]) -> Batch {
    Batch::new().endings(message, clock::wall_ms().max(0) as u64, outcomes)
}

/// How long a lane rests after a verdict that is about it, or about its source.
///
/// A source on a block list gets 5yz for whatever it sends. What was refused is bounced, as the
/// receiver said, but the rest of the queue has time until somebody has looked after it.
pub fn lane_rest(verdict: &Verdict) -> Option<Duration> {
    let about_us = matches!(verdict.scope, Scope::Lane | Scope::Source);
    match verdict {
        _ if !about_us => None,
        Verdict {
            permanent: true, ..
        } => Some(LANE_REFUSED_REST),
        Verdict { pressure: true, .. } => Some(verdict.retry_after.unwrap_or(LANE_REST)),
        _ => None,
    }
}

/// The status of a delivery that expired is that of its last trouble, made permanent.
fn expired(verdict: &Verdict) -> Verdict {
    Verdict {
        permanent: true,
        retry_after: None,
        ..*verdict
    }
}

/// How a failed attempt leaves its delivery.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// Refused for good.
    Bounced,
    /// Its time ran out.
    Expired,
    /// Tried again later.
    Deferred {
        /// Attempts so far.
        attempts: u32,
        /// When the next one is due.
        due: courser_core::time::Wall,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_rests_for_what_is_about_it_and_nothing_else() {
        let rest = |class, scope, permanent| lane_rest(&Verdict::new(class, scope, permanent));
        let listed = rest(Class::Blocklisted, Scope::Source, true);
        assert_eq!(listed, Some(LANE_REFUSED_REST));
        assert_eq!(
            rest(Class::RateLimited, Scope::Lane, false),
            Some(LANE_REST)
        );
        assert_eq!(rest(Class::Busy, Scope::Lane, false), None);
        assert_eq!(rest(Class::UnknownRecipient, Scope::Recipient, true), None);
        assert_eq!(rest(Class::Content, Scope::Message, true), None);
        let hinted = Verdict {
            retry_after: Some(Duration::from_secs(7)),
            ..Verdict::new(Class::RateLimited, Scope::Lane, false)
        };
        assert_eq!(lane_rest(&hinted), Some(Duration::from_secs(7)));
    }
}
