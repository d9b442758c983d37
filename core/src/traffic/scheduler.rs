//! What to do next, and when: the deliveries, lanes, limits and timers of one shard.
//!
//! # How it is used
//!
//! One [`Scheduler`] per shard; it owns all lanes of that shard, so nothing is locked. It never
//! reads a clock: each call is told `now`, which must not go backwards. Names are interned by the
//! caller ([`ids`](super::ids)); a message is a `u32` of the caller's, and deliveries with the
//! same one may share a transaction.
//!
//! 1. Configure: [`set_pool`](Scheduler::set_pool), [`set_limits`](Scheduler::set_limits) for each
//!    gate that has its own. All of it may be called again at any time.
//! 2. [`enqueue`](Scheduler::enqueue) each delivery, new or recovered, and keep its
//!    [`DeliveryId`].
//! 3. After any other call, and when [`next_wakeup`](Scheduler::next_wakeup) has come, call
//!    [`poll`](Scheduler::poll) until it says `None`, and do what it says:
//!    - [`Action::Resolve`]: find the destination's route, then answer
//!      [`route`](Scheduler::route), [`route_failed`](Scheduler::route_failed) or, when another
//!      shard owns its lanes, [`route_elsewhere`](Scheduler::route_elsewhere).
//!    - [`Action::Open`]: open a connection. Then [`opened`](Scheduler::opened) and step 4, or
//!      [`closed`](Scheduler::closed) with [`Closed::Unreachable`].
//!    - [`Action::Wake`]: that session calls `take` again.
//!    - [`Action::Close`]: that session ends its connection when nothing is in flight on it.
//!    - [`Action::Settle`]: this delivery is yours without an attempt, for the cause given; end it
//!      or date it anew with [`report`](Scheduler::report), or [`remove`](Scheduler::remove) it to
//!      give it to another shard.
//! 4. A session asks for work with [`take`](Scheduler::take): a [`Take::Batch`] is one transaction.
//!    It may take the next before the last is answered (pipelining). On [`Take::Wait`] and
//!    [`Take::Idle`] it does nothing until its [`Action::Wake`] or [`Action::Close`] comes; on
//!    [`Take::Close`] it quits.
//! 5. [`report`](Scheduler::report) each delivery that was taken, exactly once, then
//!    [`closed`](Scheduler::closed) when the connection is gone. What was taken and not reported by
//!    then goes back to the front of its lane as if it had never been taken; so report whatever
//!    may have reached the receiver first.
//!
//! # The way of a delivery
//!
//! ```text
//!              due            route known                 session asks
//!   Waiting ─────────► Parked ───────────► Queued ───────────────────────► InFlight
//!  (wheel)   │       (destination)  │      (lane)                             │
//!     ▲      └──route fresh─────────┴───────►│  ▲                              │ report
//!     │                │                     │  └──────────NotTried────────────┤
//!     │                │ route failed,       │ expired,                        │
//!     │                ▼ elsewhere           ▼ flushed                         │
//!     │             Settling ◄───────────────┘                                 │
//!     │                └──────Action::Settle──────► InFlight (the caller's) ───┤
//!     └───────────────────────────Deferred─────────────────────────────────────┼──► gone
//! ```
//!
//! `hold` takes it out of any of these but `InFlight` (from there it is held when it comes back),
//! `release` puts it in again.
//!
//! # How it decides
//!
//! A *gate* holds the limits of one source toward one provider (or one site that no rule names);
//! *lanes* are the sites behind it. Connections are given out round robin over the gates that may
//! open one, then over the gate's lanes, more often to those with more urgent mail
//! ([`Class::SHARES`]). When all places are taken and somebody waits, idle sessions are closed, and
//! busy ones make way after [`SESSION_TURN_MESSAGES`](crate::limits::SESSION_TURN_MESSAGES). Inside
//! a lane see [`lane`](super::lane). No step's cost depends on how many deliveries are queued.

use super::delivery::{Delivery, State};
use super::gate::Gate;
pub use super::gate::{Allowance, Block, BlockReason, Counts, Limits};
use super::ids::Map;
pub use super::ids::{
    CampaignId, Class, DeliveryId, DestId, GateId, LaneId, PoolId, SessionId, SiteId, SourceId,
    TenantId,
};
use super::lane::{Flows, Lane, Shares};
use super::pool::{Chooser, Pool};
use super::slab::{Link, Linked, List, NIL, Slab};
use super::wheel::{Timed, Wheel};
use crate::limits::POLL_STEPS_MAX;
use crate::time::Instant;
use alloc::vec::Vec;
use core::fmt;

mod arrive;
mod configure;
mod decide;
mod explain;
mod session;
#[cfg(test)]
mod tests;

pub use explain::{LaneView, Totals, View, Waiting, Where, Why};

/// A delivery to be scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct New {
    /// The caller's number of its message. Deliveries with the same one may share a transaction.
    pub message: u32,
    /// The caller's number of the recipient in it.
    pub recipient: u32,
    /// Where to.
    pub dest: DestId,
    /// Over which sources.
    pub pool: PoolId,
    /// Over this source if it may be used: the one that it went over before.
    pub source: Option<SourceId>,
    /// Whose.
    pub tenant: TenantId,
    /// Of which campaign.
    pub campaign: CampaignId,
    /// How urgent.
    pub class: Class,
    /// Attempts so far.
    pub attempts: u16,
    /// Not before then.
    pub due: Instant,
    /// After that (rounded up to a second) it is handed back as [`Cause::Expired`] instead of
    /// being sent; [`Instant::FAR`] is never, and so is what is 136 years after [`Instant::ZERO`].
    pub expires: Instant,
    /// Held from the start.
    pub hold: bool,
}

/// Where a destination's mail goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// To this set of hosts.
    pub site: SiteId,
    /// Under these limits ([`Scheduler::set_limits`]; the default ones where none were set).
    pub gate: GateId,
    /// Ask again for what becomes due after that. What was due already goes this way anyhow.
    pub valid_until: Instant,
}

/// What the caller is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Find the route of this destination.
    Resolve(DestId),
    /// Open a connection.
    Open(Open),
    /// There may be something to do: call [`Scheduler::take`].
    Wake(SessionId),
    /// End the connection as soon as nothing is in flight on it, then [`Scheduler::closed`].
    Close(SessionId),
    /// The delivery is the caller's, without an attempt.
    Settle(DeliveryId, Cause),
}

/// A connection to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its name from now until it is closed.
    pub session: SessionId,
    /// The lane that it serves.
    pub lane: LaneId,
    /// From there.
    pub source: SourceId,
    /// To there.
    pub site: SiteId,
    /// Under these limits.
    pub gate: GateId,
}

/// Why a delivery is handed out to be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// Its destination has no route, as [`Scheduler::route_failed`] said.
    RouteFailed,
    /// Another shard owns the lanes of its destination.
    Elsewhere,
    /// Its lane was flushed by [`Scheduler::flush_lane`].
    Flushed,
    /// Its life is over.
    Expired,
}

/// What a session gets when it asks for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// One transaction: so many deliveries of one message were added to `out`.
    Batch(u32),
    /// A rate allows no more before then. The connection stays; [`Action::Wake`] follows.
    Wait(Instant),
    /// There is nothing to do. The connection stays until then, [`Action::Wake`] or
    /// [`Action::Close`] follows.
    Idle(Instant),
    /// Quit, and say [`Scheduler::closed`].
    Close(CloseReason),
}

/// Why a connection is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It carried as many messages as a connection may.
    MessagesPerConnection,
    /// Its place is needed for another lane.
    MakeWay,
    /// More connections are open than may be, since a limit was lowered.
    Concurrency,
    /// The next message may go only much later.
    Rate(Instant),
    /// The lane or its gate is blocked.
    Blocked(Block),
    /// The source is not to be used any more.
    SourceDisabled,
    /// It was told to close before, or nobody knows it.
    Closed,
}

/// What became of a delivery that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The receiver took it.
    Delivered,
    /// It ended otherwise: bounced, expired, suppressed.
    Ended,
    /// It was tried; try it again at `due`, over another source if `exclude_source`.
    Deferred {
        /// When.
        due: Instant,
        /// Over another source, where its pool has one.
        exclude_source: bool,
    },
    /// It was not tried after all: at once again, before the others of its campaign.
    NotTried,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It was open once.
    Done,
    /// No host of the site could be reached. The lane pauses, longer each time in a row.
    Unreachable,
}

/// Whether a source may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceState {
    /// For everything.
    #[default]
    Enabled,
    /// For what is in its lanes already and for what went over it before; nothing new.
    Draining,
    /// For nothing. What is in its lanes goes over the other sources of its pool, or waits.
    Disabled,
}

/// A call that makes no sense now. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misuse {
    /// There is no such delivery.
    UnknownDelivery,
    /// There is no such session.
    UnknownSession,
    /// There is no such lane.
    UnknownLane,
    /// The delivery is handed out; it can be held, but not taken away.
    InFlight,
    /// The delivery is not handed out, so there is nothing to report.
    NotInFlight,
    /// Every number is in use: 4 thousand million deliveries.
    Full,
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownDelivery => "no such delivery",
            Self::UnknownSession => "no such session",
            Self::UnknownLane => "no such lane",
            Self::InFlight => "the delivery is in flight",
            Self::NotInFlight => "the delivery is not in flight",
            Self::Full => "the queue is full",
        })
    }
}

impl core::error::Error for Misuse {}

/// What a scheduler starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Connections at once, over all lanes.
    pub sessions_max: u32,
    /// Limits of a gate for which none were set.
    pub limits: Limits,
    /// Pause of a lane after its site could not be reached, for the first time; doubles.
    pub unreachable_first: core::time::Duration,
    /// Longest such pause.
    pub unreachable_max: core::time::Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sessions_max: 5000,
            limits: Limits::default(),
            unreachable_first: core::time::Duration::from_secs(60),
            unreachable_max: core::time::Duration::from_secs(3600),
        }
    }
}

/// See the module's docs.
#[derive(Debug, Default)]
pub struct Scheduler {
    config: Config,
    deliveries: Slab<Delivery>,
    wheel: Wheel<0>,
    tenants: Map<TenantId>,

    dests: Slab<Dest>,
    dest_of: Map<DestId>,
    /// Destinations to be resolved, not said yet.
    resolve: List<0>,
    /// Destinations with a new route whose parked deliveries are on the move.
    draining: List<0>,
    dest_hand: u32,

    pools: Slab<PoolState>,
    pool_of: Map<PoolId>,
    /// Pools with sources again, whose deliveries that waited for one are on the move.
    unstranding: List<0>,
    sources: hashbrown::HashMap<SourceId, SourceState, super::ids::Seeded>,
    sites: Slab<Site>,
    site_of: Map<SiteId>,

    limits: hashbrown::HashMap<GateId, Limits, super::ids::Seeded>,
    allowances: hashbrown::HashMap<(SourceId, GateId), Allowance, super::ids::Seeded>,
    gates: Slab<Gate>,
    gate_of: Map<(SourceId, GateId)>,
    /// Gates that may open a connection, by the most urgent class that wants one.
    openable: [List<0>; 3],
    openable_len: u32,
    shares: Shares,

    lanes: Slab<Lane>,
    lane_of: Map<(SourceId, SiteId, GateId)>,
    flows: Flows,
    /// Lanes that are being emptied: flushed, or their source disabled.
    emptying: List<1>,

    sessions: Slab<Session>,
    /// Sessions that were told to close, or will be.
    closing: u32,
    idle: List<2>,
    wakes: List<2>,
    closes: List<2>,
    settle: List<0>,

    alarms: Slab<Alarm>,
    alarm_wheel: Wheel<0>,
    /// Where [`Scheduler::sweep`] goes on.
    sweep_hand: u32,
}

/// A destination that has something parked or a route that is still good.
#[derive(Debug)]
struct Dest {
    id: DestId,
    state: DestState,
    parked: List<0>,
    on: DestList,
    link: Link,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DestState {
    Unknown,
    Resolving,
    Routed(Route),
    Failed(Instant),
    Elsewhere(Instant),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DestList {
    None,
    Resolve,
    Draining,
}

impl Linked<0> for Dest {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
    fn link_ref(&self) -> &Link {
        &self.link
    }
}

/// A pool, and the deliveries for which it has no source.
#[derive(Debug, Default)]
struct PoolState {
    /// As configured.
    members: Vec<(SourceId, u32)>,
    /// As the states of the sources allow.
    pool: Pool,
    stranded: List<0>,
    /// What is stranded is on the move.
    moving: bool,
    link: Link,
}

impl Linked<0> for PoolState {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
    fn link_ref(&self) -> &Link {
        &self.link
    }
}

/// What the lanes of a site share.
#[derive(Debug)]
struct Site {
    id: SiteId,
    lanes: u32,
    choosers: Vec<(PoolId, Chooser)>,
}

/// A connection.
#[derive(Debug)]
struct Session {
    lane: u32,
    state: SessionState,
    /// Transactions so far.
    messages: u32,
    leased: List<0>,
    /// On its lane's list of idle ones.
    in_lane: Link,
    /// On its gate's list of idle or waiting ones.
    in_gate: Link,
    /// On one of the scheduler's lists.
    in_all: Link,
    alarm: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionState {
    Opening,
    /// Has work, or is about to ask for it.
    Busy,
    Idle,
    /// For a token.
    Waiting,
    /// To be woken, not said yet.
    Waking,
    /// Was woken and will call `take`.
    Woken,
    /// To be closed, not said yet.
    Closing,
    /// Was told to close.
    Quitting,
}

impl Linked<0> for Session {
    fn link(&mut self) -> &mut Link {
        &mut self.in_lane
    }
    fn link_ref(&self) -> &Link {
        &self.in_lane
    }
}
impl Linked<1> for Session {
    fn link(&mut self) -> &mut Link {
        &mut self.in_gate
    }
    fn link_ref(&self) -> &Link {
        &self.in_gate
    }
}
impl Linked<2> for Session {
    fn link(&mut self) -> &mut Link {
        &mut self.in_all
    }
    fn link_ref(&self) -> &Link {
        &self.in_all
    }
}

/// A timer of a gate, lane or session.
#[derive(Debug)]
struct Alarm {
    due: Instant,
    place: u32,
    link: Link,
    of: Of,
}

#[derive(Clone, Copy, Debug)]
enum Of {
    Gate(u32),
    Lane(u32),
    Session(u32),
}

impl Linked<0> for Alarm {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
    fn link_ref(&self) -> &Link {
        &self.link
    }
}
impl Timed<0> for Alarm {
    fn due(&self) -> Instant {
        self.due
    }
    fn place(&mut self) -> &mut u32 {
        &mut self.place
    }
}

impl Scheduler {
    /// An empty one.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// What to do next; `None` when there is nothing to do before
    /// [`next_wakeup`](Self::next_wakeup).
    ///
    /// It may also say `None` after [`POLL_STEPS_MAX`] steps although there is more; then the next
    /// wakeup is at once, and the caller may look after its sockets in between.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        let mut budget = POLL_STEPS_MAX;
        loop {
            if let Some(action) = self.say() {
                return Some(action);
            }
            let alarm = self.alarm_wheel.advance(&mut self.alarms, now, &mut budget);
            if let Some(alarm) = alarm {
                self.alarms[alarm].place = NIL;
                self.ring(now, alarm);
                continue;
            }
            if let Some(open) = self.open_next(now) {
                return Some(Action::Open(open));
            }
            if !self.wakes.is_empty() || !self.closes.is_empty() {
                continue;
            }
            let due = self.wheel.advance(&mut self.deliveries, now, &mut budget);
            if let Some(id) = due {
                self.deliveries[id].state = State::Held;
                self.arrive(now, id);
                continue;
            }
            if budget > 0 && self.move_one(now) {
                budget -= 1;
                continue;
            }
            self.forget_one_route(now);
            return None;
        }
    }

    /// What earlier calls left to be said.
    fn say(&mut self) -> Option<Action> {
        if let Some(s) = self.wakes.pop_front(&mut self.sessions) {
            self.sessions[s].state = SessionState::Woken;
            return Some(Action::Wake(SessionId(s)));
        }
        if let Some(s) = self.closes.pop_front(&mut self.sessions) {
            self.sessions[s].state = SessionState::Quitting;
            return Some(Action::Close(SessionId(s)));
        }
        if let Some(d) = self.resolve.pop_front(&mut self.dests) {
            self.dests[d].on = DestList::None;
            return Some(Action::Resolve(self.dests[d].id));
        }
        if let Some(id) = self.settle.pop_front(&mut self.deliveries) {
            let d = &mut self.deliveries[id];
            let cause = Cause::from_place(d.place);
            d.state = State::Leased;
            d.place = NIL;
            return Some(Action::Settle(DeliveryId(id), cause));
        }
        None
    }

    /// When to poll again if nothing else happens; a time in the past is at once, `None` never.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let at_once = !self.wakes.is_empty()
            || !self.closes.is_empty()
            || !self.resolve.is_empty()
            || !self.settle.is_empty()
            || !self.draining.is_empty()
            || !self.emptying.is_empty()
            || !self.unstranding.is_empty()
            || (self.openable_len > 0 && self.sessions.len() < self.config.sessions_max);
        if at_once {
            return Some(Instant::ZERO);
        }
        match (self.wheel.next(), self.alarm_wheel.next()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Steps made so far to find whose turn it is: what a decision costs, without a clock.
    pub fn steps(&self) -> u64 {
        self.flows.steps
    }

    /// Deliveries held, in whatever state.
    pub fn len(&self) -> u32 {
        self.deliveries.len()
    }

    /// Whether there is no delivery.
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// Bytes of heap that it takes.
    pub fn bytes(&self) -> usize {
        self.deliveries.bytes()
            + self.dests.bytes()
            + self.pools.bytes()
            + self.sites.bytes()
            + self.gates.bytes()
            + self.lanes.bytes()
            + self.sessions.bytes()
            + self.alarms.bytes()
            + self.flows.bytes()
            + self.dest_of.capacity() * size_of::<(DestId, u32)>()
            + self.site_of.capacity() * size_of::<(SiteId, u32)>()
            + self.gate_of.capacity() * size_of::<((SourceId, GateId), u32)>()
            + self.lane_of.capacity() * size_of::<((SourceId, SiteId, GateId), u32)>()
            + self.tenants.capacity() * size_of::<(TenantId, u32)>()
    }
}

impl Cause {
    const fn from_place(place: u32) -> Self {
        match place {
            0 => Self::RouteFailed,
            1 => Self::Elsewhere,
            2 => Self::Flushed,
            _ => Self::Expired,
        }
    }
}
