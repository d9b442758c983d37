//! Whether one more connection or one more message may go there now.
//!
//! A gate holds the limits of one source toward one provider, or toward one site where no rule
//! names a provider: all lanes of that source into that provider share it.

use super::bucket::{Bucket, Rate};
use super::ids::{GateId, SourceId};
use super::lane::Shares;
use super::slab::{Link, Linked, List};
use crate::limits::OPEN_AHEAD_MS;
use crate::time::{Duration, Instant};

/// What one source may do toward one provider or site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub concurrency: u32,
    /// Connections opened per time.
    pub connection_rate: Option<Rate>,
    /// Messages, or recipients as [`Limits::counts`] says, per time.
    pub message_rate: Option<Rate>,
    /// What the message rate counts.
    pub counts: Counts,
    /// Messages over one connection.
    pub messages_per_connection: u32,
    /// Recipients in one transaction.
    pub recipients_per_transaction: u32,
    /// How long a connection without work is kept open.
    pub idle: Duration,
    /// Another connection is opened for each so many waiting deliveries.
    pub queue_per_connection: u32,
}

/// What a message rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counts {
    /// Transactions.
    Messages,
    /// Recipients.
    Recipients,
}

impl Default for Limits {
    /// What senders commonly start from toward a receiver that they know nothing about.
    fn default() -> Self {
        Self {
            concurrency: 10,
            connection_rate: Some(Rate::new(100, 60)),
            message_rate: Some(Rate::new(100, 1)),
            counts: Counts::Messages,
            messages_per_connection: 100,
            recipients_per_transaction: 100,
            idle: Duration::from_secs(60),
            queue_per_connection: 4,
        }
    }
}

/// What is allowed on top of the limits for now: set from outside by what learns from the
/// receivers' answers, or by a warm-up plan. The smaller of the two counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Connections at once.
    pub concurrency: u32,
    /// Messages per time, counted as the limits say.
    pub message_rate: Option<Rate>,
}

impl Default for Allowance {
    /// As much as the limits.
    fn default() -> Self {
        Self {
            concurrency: u32::MAX,
            message_rate: None,
        }
    }
}

/// Why nothing goes through a lane or gate for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockReason {
    /// None of its hosts could be reached.
    DeadHost,
    /// The receiver asked for a pause.
    Throttled,
    /// An operator said so.
    Operator,
}

/// A pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its end; [`Instant::FAR`] is: until it is lifted.
    pub until: Instant,
    /// Why.
    pub reason: BlockReason,
}

/// Whether a pause is on.
pub(super) fn blocked(block: Option<Block>, now: Instant) -> Option<Block> {
    block.filter(|b| b.until > now)
}

/// Why no connection may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Blocked(Block),
    Concurrency,
    ConnectionRate(Instant),
    /// There would be no token for its first message.
    Rate(Instant),
}

impl Refusal {
    /// When to ask again; `None` is: when a connection closes.
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            Self::Blocked(b) => Some(b.until),
            Self::Concurrency => None,
            Self::ConnectionRate(at) => Some(at),
            // A connection for that token is opened a little earlier.
            Self::Rate(at) => Some(at - Duration::from_millis(OPEN_AHEAD_MS)),
        }
    }
}

/// See the module's docs.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) source: SourceId,
    pub(super) key: GateId,
    pub(super) limits: Limits,
    pub(super) allowance: Allowance,
    connections: Bucket,
    messages: Bucket,
    pub(super) block: Option<Block>,
    /// Lanes that go through here.
    pub(super) lanes: u32,
    /// Sessions, whatever their state.
    pub(super) sessions: u32,
    /// Of these, those that will ask for a token soon: opening, woken, or waiting for one.
    pub(super) unassigned: u32,
    /// Of these, those that were told to ask.
    pub(super) woken: u32,
    /// Sessions that were told to close.
    pub(super) closing: u32,
    /// Lanes that want a session, by their most urgent class.
    pub(super) wanting: [List<0>; 3],
    pub(super) wants: u32,
    pub(super) shares: Shares,
    /// Sessions that wait for a token.
    pub(super) waiting: List<1>,
    /// Sessions without work.
    pub(super) idle: List<1>,
    /// On the scheduler's list of gates that may open a connection, of this class.
    pub(super) open_class: Option<u8>,
    pub(super) link: Link,
    pub(super) alarm: u32,
}

impl Linked<0> for Gate {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
    fn link_ref(&self) -> &Link {
        &self.link
    }
}

impl Gate {
    pub(super) fn new(
        source: SourceId,
        key: GateId,
        limits: Limits,
        allowance: Allowance,
        alarm: u32,
    ) -> Self {
        Self {
            source,
            key,
            limits,
            allowance,
            connections: Bucket::new(),
            messages: Bucket::new(),
            block: None,
            lanes: 0,
            sessions: 0,
            unassigned: 0,
            woken: 0,
            closing: 0,
            wanting: [List::default(); 3],
            wants: 0,
            shares: Shares::default(),
            waiting: List::default(),
            idle: List::default(),
            open_class: None,
            link: Link::default(),
            alarm,
        }
    }

    /// Connections that may be open at once.
    pub(super) fn concurrency(&self) -> u32 {
        self.limits.concurrency.min(self.allowance.concurrency)
    }

    /// The message rate that counts: the slower of limit and allowance.
    fn message_rate(&self) -> Option<Rate> {
        match (self.limits.message_rate, self.allowance.message_rate) {
            (Some(a), Some(b)) => {
                // count / period, compared without division
                let speed = |x: Rate, y: Rate| u128::from(x.count()) * y.period().as_nanos();
                Some(if speed(a, b) <= speed(b, a) { a } else { b })
            }
            (a, b) => a.or(b),
        }
    }

    /// Takes new limits and allowance; what was used up under the old ones stays used up.
    pub(super) fn change(&mut self, limits: Limits, allowance: Allowance) {
        let old = (self.limits.connection_rate, self.message_rate());
        self.limits = limits;
        self.allowance = allowance;
        let new = (self.limits.connection_rate, self.message_rate());
        for (bucket, from, to) in [
            (&mut self.connections, old.0, new.0),
            (&mut self.messages, old.1, new.1),
        ] {
            match (from, to) {
                (Some(from), Some(to)) => bucket.rescale(from, to),
                _ => *bucket = Bucket::new(),
            }
        }
    }

    /// Whether one more connection may be opened.
    pub(super) fn may_open(&self, now: Instant) -> Result<(), Refusal> {
        if let Some(block) = blocked(self.block, now) {
            return Err(Refusal::Blocked(block));
        }
        if self.sessions >= self.concurrency() {
            return Err(Refusal::Concurrency);
        }
        if let Some(rate) = self.limits.connection_rate {
            let at = self.connections.next(rate, now);
            if at > now {
                return Err(Refusal::ConnectionRate(at));
            }
        }
        let at = self.token_at(now, self.unassigned.saturating_add(1));
        if at > now + Duration::from_millis(OPEN_AHEAD_MS) {
            return Err(Refusal::Rate(at));
        }
        Ok(())
    }

    /// A connection is being opened.
    pub(super) fn opening(&mut self, now: Instant) {
        if let Some(rate) = self.limits.connection_rate {
            self.connections.try_take(rate, now, 1);
        }
    }

    /// When there is a token for the `n`th session that asks for one; `now` if there is.
    pub(super) fn token_at(&self, now: Instant, n: u32) -> Instant {
        self.message_rate()
            .map_or(now, |rate| self.messages.nth(rate, now, n))
    }

    /// How many recipients a transaction may have now, of `wanted`; 0 is: not now.
    pub(super) fn recipients(&self, now: Instant, wanted: u32) -> u32 {
        let wanted = wanted.min(self.limits.recipients_per_transaction).max(1);
        match (self.message_rate(), self.limits.counts) {
            (None, _) => wanted,
            (Some(rate), Counts::Messages) => wanted * self.messages.available(rate, now).min(1),
            (Some(rate), Counts::Recipients) => wanted.min(self.messages.available(rate, now)),
        }
    }

    /// A transaction with so many recipients goes.
    pub(super) fn sending(&mut self, now: Instant, recipients: u32) {
        let n = match self.limits.counts {
            Counts::Messages => 1,
            Counts::Recipients => recipients,
        };
        if let Some(rate) = self.message_rate() {
            self.messages.try_take(rate, now, n);
        }
    }

    /// When nothing of the past would be forgotten with this gate.
    pub(super) fn spotless_at(&self) -> Instant {
        let full = |bucket: &Bucket, rate: Option<Rate>| {
            rate.map_or(Instant::ZERO, |rate| bucket.full_at(rate))
        };
        full(&self.connections, self.limits.connection_rate)
            .max(full(&self.messages, self.message_rate()))
            .max(self.block.map_or(Instant::ZERO, |b| b.until))
    }

    /// The most urgent class of which a lane wants a session.
    pub(super) fn wanted_class(&self) -> Option<u8> {
        (0..3u8).find(|c| !self.wanting[usize::from(*c)].is_empty())
    }

    /// The lane whose turn it is to have a connection opened; it stays on its list.
    pub(super) fn pick_lane(&mut self) -> Option<u32> {
        let waits = [0, 1, 2].map(|c: usize| !self.wanting[c].is_empty());
        let class = self.shares.pick(waits)?;
        self.shares.charge(class);
        self.wanting[class].front()
    }
}
