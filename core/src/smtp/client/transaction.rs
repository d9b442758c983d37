//! One transaction: how far its commands are written and how far they are answered.
//!
//! Both are a [`Step`]; the first is never behind the second, and what lies between them is
//! unanswered. Answers come in the order of the commands, so two positions are all there is to
//! know, however many commands are pipelined.
//!
//! ```text
//!   Reset ─► Mail ─► Rcpt(0) ─► … ─► Rcpt(n-1) ─► Data ─► Body ─► End(0) ─► … ─► Over
//!     │                                            │       │        │
//!     └ only behind a transaction that was left    │       │        └ LMTP: one for each
//!       open, or whose BDAT is unanswered          │       │          accepted recipient
//!                                   DATA or BDAT n LAST    └ with BDAT only written,
//!                                                            never answered
//! ```

use crate::limits::RECIPIENTS_PER_TRANSACTION_MAX;
use crate::smtp::reply::{EnhancedCode, ReplyCode};

use super::outcome::{Framing, State, TransactionId};

/// A place in the commands of a transaction. Ordered as they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// RSET.
    Reset,
    /// MAIL.
    Mail,
    /// RCPT of this recipient.
    Rcpt(u16),
    /// DATA, or BDAT with all octets announced.
    Data,
    /// The body, or the lone dot of a transaction without recipients.
    Body,
    /// The answer to the body: of the n-th accepted recipient with LMTP, else the only one.
    End(u16),
    /// Nothing more.
    Over,
}

impl Step {
    /// What a failure calls this place.
    pub(super) const fn state(self) -> State {
        match self {
            Self::Reset => State::Reset,
            Self::Mail => State::Mail,
            Self::Rcpt(_) => State::Rcpt,
            Self::Data => State::Data,
            Self::Body => State::Body,
            Self::End(_) | Self::Over => State::End,
        }
    }
}

/// A set of recipient indexes of one transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct Recipients {
    words: [u64; RECIPIENTS_PER_TRANSACTION_MAX / 64],
    len: u16,
}

impl Recipients {
    /// Adds `index`; out of range it does nothing.
    fn insert(&mut self, index: u16) {
        let bit = 1 << (index % 64);
        let word = self.words.get_mut(usize::from(index / 64));
        if let Some(word) = word.filter(|word| **word & bit == 0) {
            *word |= bit;
            self.len += 1;
        }
    }

    /// How many.
    pub(super) const fn len(&self) -> u16 {
        self.len
    }

    /// The `n`-th smallest index.
    pub(super) fn nth(&self, n: u16) -> Option<usize> {
        let mut left = u32::from(n);
        for (at, &word) in self.words.iter().enumerate() {
            if left >= word.count_ones() {
                left -= word.count_ones();
                continue;
            }
            let mut word = word;
            for _ in 0..left {
                word &= word - 1;
            }
            return Some(at * 64 + word.trailing_zeros() as usize);
        }
        None
    }
}

/// Where the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Not asked for yet.
    Kept,
    /// Asked for with `SendBody`.
    Going,
    /// The network has it.
    Sent,
}

/// One transaction in flight.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) id: TransactionId,
    pub(super) framing: Framing,
    /// Whether the envelope was looked at; before that the counts below mean nothing.
    pub(super) checked: bool,
    /// Whether any of it was written.
    pub(super) started: bool,
    /// Recipients of the envelope.
    pub(super) total: usize,
    /// Those of them that this transaction names; the others are postponed.
    pub(super) named: u16,
    /// The next one to be told postponed.
    pub(super) postpone_next: usize,
    /// Octets of the body.
    pub(super) size: u64,
    /// The next thing to write.
    pub(super) write: Step,
    /// The next thing to be answered.
    pub(super) answer: Step,
    /// Recipients that the peer accepted.
    pub(super) accepted: Recipients,
    /// Recipients that had their outcome.
    pub(super) told: usize,
    /// No recipient is without an outcome, or is to be.
    pub(super) settled: bool,
    /// Nothing good can come of it: only what is already written is gone through.
    pub(super) dead: bool,
    /// Commands were written while others were unanswered.
    pub(super) pipelined: bool,
    /// The peer may hold a transaction open, so that RSET has to come before the next.
    pub(super) open: bool,
    pub(super) body: Body,
    /// A positive answer that came before the body was sent, as far as we know.
    pub(super) early: Option<(ReplyCode, Option<EnhancedCode>)>,
}

impl Transaction {
    pub(super) fn new(id: TransactionId) -> Self {
        Self {
            id,
            framing: Framing::Dot,
            checked: false,
            started: false,
            total: 0,
            named: 0,
            postpone_next: 0,
            size: 0,
            write: Step::Mail,
            answer: Step::Mail,
            accepted: Recipients::default(),
            told: 0,
            settled: false,
            dead: false,
            pipelined: false,
            open: false,
            body: Body::Kept,
            early: None,
        }
    }

    /// Whether something written is unanswered.
    pub(super) fn awaits(&self) -> bool {
        match (self.answer, self.framing) {
            (Step::Over, _) => false,
            (Step::End(_), Framing::Dot) => self.write > Step::Body,
            (Step::End(_), Framing::Bdat) => self.write > Step::Data,
            (answer, _) => answer < self.write,
        }
    }

    /// How many replies are still to come, as far as it matters: two and more are the same.
    pub(super) fn unanswered(&self) -> usize {
        if !self.awaits() {
            0
        } else {
            let one_more = match (self.answer, self.write) {
                (Step::Reset, write) => write > Step::Mail,
                (Step::Mail, write) => write > Step::Rcpt(0),
                (Step::Rcpt(i), Step::Rcpt(j)) => j.saturating_sub(i) > 1,
                (Step::Rcpt(i), Step::Data) => self.named.saturating_sub(i) > 1,
                (Step::Rcpt(_), write) => write > Step::Data,
                _ => false,
            };
            1 + usize::from(one_more)
        }
    }

    /// What may be written now. `pipelining`: other commands may be unanswered; `ahead`: the
    /// largest BDAT that may go before the answers to RCPT.
    pub(super) fn next_write(&self, pipelining: bool, ahead: u64) -> Option<Step> {
        let free = pipelining || !self.awaits();
        match (self.write, self.framing) {
            (Step::Body, Framing::Bdat) => Some(Step::Body),
            (Step::Body, Framing::Dot) => matches!(self.answer, Step::End(_)).then_some(Step::Body),
            (Step::End(_) | Step::Over, _) => None,
            _ if self.dead => None,
            (Step::Data, Framing::Bdat) if self.size > ahead => {
                matches!(self.answer, Step::End(_)).then_some(Step::Data)
            }
            (step, _) => free.then_some(step),
        }
    }

    /// Whether all is written that will ever be.
    pub(super) fn is_written(&self) -> bool {
        self.write > Step::Body || (self.dead && self.write < Step::Body)
    }

    /// Whether the body of this one is only the dot that ends it: nobody is to have it.
    pub(super) fn wants_lone_dot(&self) -> bool {
        self.dead && self.framing == Framing::Dot
    }

    /// Whether nothing of it is left: no answer to come, no body on its way, no dot to write.
    pub(super) fn is_over(&self) -> bool {
        self.checked
            && self.body != Body::Going
            && (self.answer == Step::Over || (self.dead && !self.awaits() && self.is_written()))
    }

    /// The RCPT behind `step` or what follows the last one.
    pub(super) fn after_rcpt(&self, index: u16) -> Step {
        match self.framing {
            _ if index + 1 < self.named => Step::Rcpt(index + 1),
            Framing::Dot => Step::Data,
            Framing::Bdat => Step::End(0),
        }
    }

    /// Notes that recipient `index` was accepted.
    pub(super) fn accept(&mut self, index: u16) {
        self.accepted.insert(index);
    }

    /// Whether all RCPT were answered and none was accepted, or the like.
    pub(super) fn is_hopeless(&self) -> bool {
        self.dead || (self.answer >= Step::Data && self.accepted.len() == 0)
    }

    /// Whether the peer may have taken the message although no answer says so.
    pub(super) fn may_be_taken(&self) -> bool {
        let whole = self.body == Body::Sent || self.early.is_some();
        whole && !self.is_hopeless()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_are_found_in_order() {
        let mut set = Recipients::default();
        for i in [1023, 64, 3, 63, 64, 2000] {
            set.insert(i);
        }
        assert_eq!(set.len(), 4);
        let all: std::vec::Vec<_> = (0..6).map(|n| set.nth(n)).collect();
        assert_eq!(all, [Some(3), Some(63), Some(64), Some(1023), None, None]);
    }

    #[test]
    fn steps_are_in_the_order_of_the_wire() {
        let order = [
            Step::Reset,
            Step::Mail,
            Step::Rcpt(0),
            Step::Rcpt(1),
            Step::Data,
            Step::Body,
            Step::End(0),
            Step::End(1),
            Step::Over,
        ];
        assert!(order.is_sorted());
    }
}
