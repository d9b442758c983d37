//! What an answer does to the transaction that awaits it.

use super::transaction::{Body, Step, Transaction};
use super::{Answer, Cause, Event, Failure, Framing, Outcome, Session, State, TransactionId};
use crate::feedback::verdict::Scope;
use crate::smtp::reply::{EnhancedCode, ReplyCode};

impl Session {
    /// An answer for the oldest command that has none.
    pub(super) fn on_transaction_reply(&mut self, answer: Answer) {
        let Some(slot) = self.transactions.iter().position(Transaction::awaits) else {
            return self.break_off(Cause::UnexpectedReply(answer.code));
        };
        let Some(step) = self.transactions.get(slot).map(|txn| txn.answer) else {
            return;
        };
        // Only DATA has an intermediate reply.
        if answer.code.is_intermediate() && step != Step::Data {
            return self.break_off(Cause::UnexpectedReply(answer.code));
        }
        match step {
            Step::Reset => self.on_reset(slot, answer),
            Step::Mail => self.on_mail(slot, answer),
            Step::Rcpt(index) => self.on_rcpt(slot, index, answer),
            Step::Data => self.on_data(slot, answer),
            Step::End(nth) => self.on_end(slot, nth, answer),
            Step::Body | Step::Over => {}
        }
    }

    fn txn(&mut self, slot: usize) -> Option<&mut Transaction> {
        self.transactions.get_mut(slot)
    }

    /// After a RSET that failed nothing is sure.
    fn on_reset(&mut self, slot: usize, answer: Answer) {
        if !answer.code.is_success() {
            self.reply_stands = true;
            return self.break_off(answer.cause());
        }
        if let Some(txn) = self.txn(slot) {
            txn.answer = Step::Mail;
        }
    }

    fn on_mail(&mut self, slot: usize, answer: Answer) {
        let failure = self.refusal(Scope::Message, answer);
        let Some(txn) = self.txn(slot) else { return };
        txn.answer = Step::Rcpt(0);
        if answer.code.is_success() {
            txn.open = true;
        } else {
            // The answers to what was pipelined behind it still come.
            txn.dead = true;
            let id = txn.id;
            self.settle_with_reply(id, Outcome::Failed(failure));
        }
    }

    fn on_rcpt(&mut self, slot: usize, index: u16, answer: Answer) {
        let failure = self.refusal(Scope::Recipient, answer);
        let accepted = answer.code.is_success();
        if !accepted && self.is_out_of_turn(slot, answer) {
            return self.break_for_pipelining(answer);
        }
        let Some(txn) = self.txn(slot) else { return };
        txn.answer = txn.after_rcpt(index);
        if accepted {
            txn.accept(index);
        }
        let outcome = if is_too_many(txn, answer) {
            Outcome::Postponed
        } else {
            Outcome::Failed(failure)
        };
        let settled = txn.settled;
        txn.dead = txn.is_hopeless();
        if !accepted && !settled {
            txn.told += 1;
            txn.settled = txn.told == txn.total;
            let event = Event::Recipient {
                txn: txn.id,
                index: usize::from(index),
                outcome,
            };
            self.tell_with_reply(event);
        }
    }

    fn on_data(&mut self, slot: usize, answer: Answer) {
        let failure = self.refusal(Scope::Message, answer);
        if answer.code.is_success() {
            return self.break_off(Cause::UnexpectedReply(answer.code));
        }
        if answer.code.is_intermediate() {
            return self.on_go_ahead(slot, answer);
        }
        if self.is_out_of_turn(slot, answer) {
            return self.break_for_pipelining(answer);
        }
        self.note_batch(slot);
        let Some(txn) = self.txn(slot) else { return };
        txn.answer = Step::Over;
        let id = txn.id;
        self.settle_with_reply(id, Outcome::Failed(failure));
    }

    /// 354: the body, or the lone dot if nobody is to have it (RFC 2920 3.1).
    fn on_go_ahead(&mut self, slot: usize, answer: Answer) {
        let lmtp = self.options.lmtp;
        self.note_batch(slot);
        let Some(txn) = self.txn(slot) else { return };
        // A peer that takes recipients without a sender would deliver the empty message; and
        // with LMTP a dot for nobody has no answer (RFC 2033 4.2).
        let stray = txn.dead && (txn.accepted.len() > 0 || lmtp);
        if stray {
            return self.break_off(Cause::UnexpectedReply(answer.code));
        }
        txn.answer = Step::End(0);
    }

    fn on_end(&mut self, slot: usize, nth: u16, answer: Answer) {
        let lmtp = self.options.lmtp;
        let Some(txn) = self.txn(slot) else { return };
        let success = answer.code.is_success();
        if !success && txn.framing == Framing::Bdat && self.is_out_of_turn(slot, answer) {
            return self.break_for_pipelining(answer);
        }
        self.note_batch(slot);
        let Some(txn) = self.txn(slot) else { return };
        // After the dot the transaction is over either way, after BDAT only if it was taken.
        txn.open &= !(success || txn.framing == Framing::Dot);
        if txn.dead {
            txn.answer = Step::Over;
        } else if lmtp {
            self.on_recipient_end(slot, nth, answer);
        } else {
            self.on_message_end(slot, answer);
        }
    }

    fn on_message_end(&mut self, slot: usize, answer: Answer) {
        let failure = self.refusal(Scope::Message, answer);
        let delivered = self.delivered(answer.code, answer.enhanced);
        let Some(txn) = self.txn(slot) else { return };
        txn.answer = Step::Over;
        let id = txn.id;
        if !answer.code.is_success() {
            self.settle_with_reply(id, Outcome::Failed(failure));
        } else if txn.body == Body::Sent {
            self.settle_with_reply(id, delivered);
        } else {
            // Taken before it was sent, unless the news of its sending is late. It counts when
            // that comes.
            txn.early = Some((answer.code, answer.enhanced));
        }
    }

    /// LMTP: one answer for each accepted recipient, in their order (RFC 2033 4.2).
    fn on_recipient_end(&mut self, slot: usize, nth: u16, answer: Answer) {
        let failure = self.refusal(Scope::Recipient, answer);
        let delivered = self.delivered(answer.code, answer.enhanced);
        let Some(txn) = self.txn(slot) else { return };
        let last = nth + 1 >= txn.accepted.len();
        txn.answer = if last { Step::Over } else { Step::End(nth + 1) };
        txn.settled = last;
        txn.open &= !last;
        txn.told += 1;
        let Some(index) = txn.accepted.nth(nth) else {
            return;
        };
        let event = Event::Recipient {
            txn: txn.id,
            index,
            outcome: if answer.code.is_success() {
                delivered
            } else {
                Outcome::Failed(failure)
            },
        };
        self.tell_with_reply(event);
    }

    /// A batch came through: this peer can pipeline.
    fn note_batch(&mut self, slot: usize) {
        let batch = self.transactions.get(slot).is_some_and(|txn| txn.pipelined);
        self.pipelining_proven |= batch;
    }

    /// A reply that a peer gives which ran the commands of a batch in another order, or threw
    /// some away: "unknown" or "out of sequence" although the command before went well.
    fn is_out_of_turn(&self, slot: usize, answer: Answer) -> bool {
        let suspect = matches!(answer.code.get(), 500 | 502 | 503) && !self.pipelining_proven;
        suspect
            && self.transactions.get(slot).is_some_and(|txn| {
                let rcpt = matches!(txn.answer, Step::Rcpt(_));
                txn.pipelined && !txn.dead && (rcpt || txn.accepted.len() > 0)
            })
    }

    fn break_for_pipelining(&mut self, answer: Answer) {
        self.reply_stands = true;
        // Who refused the body has not taken it.
        if let Some(txn) = self.transactions.iter_mut().find(|txn| txn.awaits()) {
            txn.dead |= matches!(txn.answer, Step::End(_));
        }
        let failure = Failure {
            pipelining_suspect: true,
            ..self.host_failure(answer.cause())
        };
        self.end(failure, None, false);
    }

    /// The failure of a command that was refused.
    fn refusal(&self, scope: Scope, answer: Answer) -> Failure {
        Failure {
            scope,
            permanent: answer.code.is_permanent(),
            state: match self.awaiting() {
                Some(txn) => txn.answer.state(),
                None => State::Idle,
            },
            cause: answer.cause(),
            pipelining_suspect: false,
        }
    }

    pub(super) fn delivered(&self, code: ReplyCode, enhanced: Option<EnhancedCode>) -> Outcome {
        Outcome::Delivered {
            code,
            enhanced,
            dsn: self.capabilities.dsn,
        }
    }

    /// Gives all recipients of a transaction that have no outcome this one.
    pub(super) fn settle(&mut self, id: TransactionId, outcome: Outcome) {
        let mut transactions = self.transactions.iter_mut();
        let Some(txn) = transactions.find(|txn| txn.id == id) else {
            return;
        };
        if !core::mem::replace(&mut txn.settled, true) {
            self.pending = Some(Event::Message { txn: id, outcome });
        }
    }

    fn settle_with_reply(&mut self, id: TransactionId, outcome: Outcome) {
        self.settle(id, outcome);
        self.reply_stands = self.pending.is_some();
    }

    pub(super) fn tell_with_reply(&mut self, event: Event) {
        self.pending = Some(event);
        self.reply_stands = true;
    }
}

/// Whether a refused RCPT only says that the transaction has enough of them: 452 with 4.5.3 or
/// no enhanced code, and 552 as it was once written (RFC 5321 4.5.3.1.10). Where none was taken
/// before, another transaction would meet the same, so there it is an ordinary failure.
fn is_too_many(txn: &Transaction, answer: Answer) -> bool {
    let enhanced = answer.enhanced.map(|code| (code.subject, code.detail));
    let says_so = matches!(
        (answer.code.get(), enhanced),
        (452 | 552, None) | (450..=452 | 552, Some((5, 3)))
    );
    says_so && txn.accepted.len() > 0
}
