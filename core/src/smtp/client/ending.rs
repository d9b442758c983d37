//! How a session ends: what is told of transactions in flight, QUIT, close.

use super::transaction::Transaction;
use super::{Answer, Cause, Event, Failure, Outcome, Output, Phase, Session, TransactionId};
use crate::feedback::verdict::Scope;
use crate::smtp::command::Command;
use crate::time::Instant;

/// Why the session ends, and what is still to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) failure: Failure,
    /// The transaction that the failure answers, so that it is refused and not only unsent.
    refused: Option<TransactionId>,
    /// QUIT before closing.
    politely: bool,
}

impl Session {
    /// Ends the session for a cause that no transaction is to blame for.
    pub(super) fn break_off(&mut self, cause: Cause) {
        let failure = self.host_failure(cause);
        self.end(failure, None, false);
    }

    /// Ends the session with QUIT, because the peer listens and waits for it.
    pub(super) fn end_politely(&mut self, failure: Failure) {
        self.end(failure, None, true);
    }

    /// Ends the session; `refused` is the transaction that `failure` is the answer to.
    pub(super) fn end(&mut self, failure: Failure, refused: Option<TransactionId>, politely: bool) {
        self.phase = Phase::Ending(Ending {
            failure,
            refused,
            politely,
        });
    }

    /// 421: the peer closes the channel, whatever it was asked (RFC 5321 3.8, 4.2.1).
    pub(super) fn on_service_closing(&mut self, answer: Answer) {
        self.reply_stands = true;
        let failure = Failure {
            scope: Scope::Lane,
            permanent: false,
            pipelining_suspect: false,
            ..self.host_failure(answer.cause())
        };
        let met = self.awaiting().or_else(|| {
            let mut unsettled = self.transactions.iter().filter(|txn| !txn.settled);
            unsettled.next()
        });
        let met = met.map(|txn| txn.id);
        self.end(failure, met, false);
    }

    pub(super) fn on_closed(&mut self) -> usize {
        self.reply_stands = false;
        if matches!(self.phase, Phase::Quit { .. }) {
            self.phase = Phase::Closed;
        } else {
            self.break_off(Cause::Closed);
        }
        0
    }

    /// One event for what is left, in the order of the transactions; `Broken` is the last.
    pub(super) fn tell_what_is_left(&mut self, ending: Ending) -> Option<Event> {
        let Some(txn) = self.transactions.front_mut() else {
            self.phase = if ending.politely {
                Phase::Quit { written: false }
            } else {
                Phase::Closed
            };
            return Some(Event::Broken {
                failure: ending.failure,
            });
        };
        let id = txn.id;
        if core::mem::replace(&mut txn.settled, true) {
            self.transactions.pop_front();
            return Some(Event::Finished { txn: id });
        }
        let outcome = last_outcome(txn, &ending);
        Some(Event::Message { txn: id, outcome })
    }

    /// Tells that the oldest transaction is over, if it is.
    pub(super) fn finish_front(&mut self) -> Option<Event> {
        if !self.transactions.front().is_some_and(Transaction::is_over) {
            return None;
        }
        let txn = self.transactions.pop_front()?;
        if txn.started {
            self.open = txn.open;
        } else {
            self.begun = self.begun.saturating_sub(1);
        }
        Some(Event::Finished { txn: txn.id })
    }

    pub(super) fn write_quit(&mut self, now: Instant, out: &mut [u8]) -> Output {
        let Ok(len) = Command::Quit.emit(out) else {
            return self.no_room(out.len());
        };
        self.phase = Phase::Quit { written: true };
        self.sent(now, len)
    }

    /// Whatever it is: all is told.
    pub(super) fn on_quit_reply(&mut self) {
        if self.reading.due {
            self.phase = Phase::Closed;
        }
    }
}

/// What to say of the recipients that have no outcome yet.
fn last_outcome(txn: &Transaction, ending: &Ending) -> Outcome {
    if ending.refused == Some(txn.id) {
        Outcome::Failed(ending.failure)
    } else if ending.refused.is_some() && txn.early.is_none() {
        // Behind the one that met a 421; the peer goes through them in order.
        Outcome::Unsent(ending.failure)
    } else if txn.may_be_taken() {
        Outcome::Unknown(ending.failure)
    } else {
        Outcome::Unsent(ending.failure)
    }
}
