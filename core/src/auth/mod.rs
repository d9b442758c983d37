//! Who a message is from, and how that is proved: DKIM, ARC, SPF, DMARC, Authentication-Results.
//!
//! Evaluations are machines without I/O: each says which question of DNS it has ([`Step::Ask`]), is
//! told what came of it ([`Outcome`]), and is asked again until it is [`Step::Done`]. None of them
//! reads a clock; where time matters it is an argument.
//!
//! | module | holds |
//! |---|---|
//! | [`canon`], [`hash`] | canonical forms and their hashes, made while a message comes |
//! | [`dkim`] | signing and verifying |
//! | [`arc`] | validating and sealing chains |
//! | [`spf`], [`dmarc`] | who may send for a domain, and whose message it says it is |
//! | [`results`] | the field Authentication-Results, read and written |
//! | [`senders`] | as whom a user who authenticated may send |
//! | [`inbound`] | all of it for mail that comes in: what must go, and what is written |

pub mod alignment;
pub mod arc;
pub mod canon;
pub mod dkim;
pub mod dmarc;
pub mod hash;
pub mod inbound;
pub mod results;
pub mod senders;
pub mod spf;

use crate::dns::{Outcome, Question};

/// What an evaluation wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// Ask this, tell [`Evaluate::answer`] what came of it, and go on.
    Ask(Question),
    /// It is over.
    Done(T),
}

/// An evaluation that asks DNS.
///
/// Order of calls: [`step`](Self::step); for each [`Step::Ask`] one [`answer`](Self::answer), then
/// [`step`](Self::step) again. Until it is answered, `step` gives the same question again.
pub trait Evaluate {
    /// What comes of it.
    type Output;

    /// What it wants next.
    fn step(&mut self) -> Step<Self::Output>;

    /// What came of the question that [`step`](Self::step) gave last. Without such a question it
    /// does nothing.
    fn answer(&mut self, outcome: &Outcome);

    /// Runs to the end with answers from `ask`, for callers that have them at hand.
    fn run(&mut self, mut ask: impl FnMut(&Question) -> Outcome) -> Self::Output
    where
        Self: Sized,
    {
        loop {
            match self.step() {
                Step::Ask(question) => self.answer(&ask(&question)),
                Step::Done(output) => return output,
            }
        }
    }
}
