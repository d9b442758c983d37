//! Where everything is, why it hasn't gone yet and when it will be tried.

use super::*;
use crate::limits::EXPLAIN_AHEAD_MAX;
use crate::traffic::gate::{Refusal, blocked};

/// What a delivery waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// For the time of its next attempt.
    RetryTime,
    /// For the time at which it may first be sent.
    Scheduled,
    /// For the route of its destination (DNS, MTA-STS…).
    Dns,
    /// For an operator, who holds it.
    Hold,
    /// For a source: none of its pool may be used.
    SourceDisabled,
    /// For the end of its lane's pause, since no host of the site could be reached.
    DeadHost,
    /// For the end of another pause of its lane or gate.
    Blocked(BlockReason),
    /// For the message rate.
    Rate,
    /// For one of the connections that are already as many as may be, toward this gate.
    Concurrency,
    /// For one of the connections that are already as many as may be, over all.
    Sessions,
    /// For the rate of new connections.
    ConnectionRate,
    /// For a connection that is being opened.
    Connecting,
    /// For its turn.
    Turn {
        /// Deliveries of its campaign in this lane that stand before it, counted up to
        /// [`EXPLAIN_AHEAD_MAX`].
        ahead: u32,
        /// Deliveries of all tenants in this lane, itself included.
        lane: u32,
    },
    /// For nothing: it is being delivered.
    InFlight,
    /// For the caller, who was or will be handed it by [`Action::Settle`].
    Settling,
}

/// Why a delivery hasn't gone yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What for.
    pub why: Why,
    /// Until when, where a time is known; never in the past. Then it goes, or has its turn, or
    /// another reason shows.
    pub until: Option<Instant>,
}

/// Where a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// On the wheel until it is due.
    Waiting,
    /// At its destination, which has no route yet.
    Parked,
    /// At its pool, which has no source.
    Stranded,
    /// In this lane.
    Queued(LaneId),
    /// On this session.
    InFlight(SessionId),
    /// With the caller, or about to be.
    Settling,
    /// Held by an operator.
    Held,
}

/// A delivery as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Its id.
    pub id: DeliveryId,
    /// What it is. Its `due` is the time of the last or next attempt.
    pub delivery: New,
    /// Where it is.
    pub state: Where,
}

/// A lane as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneView {
    /// Its id.
    pub id: LaneId,
    /// From.
    pub source: SourceId,
    /// To.
    pub site: SiteId,
    /// Under these limits.
    pub gate: GateId,
    /// Deliveries queued, by [`Class`].
    pub queued: [u32; 3],
    /// Sessions, whatever their state.
    pub sessions: u32,
    /// Of these, sessions that are being opened, or about to ask for work.
    pub unassigned: u32,
    /// Its pause, or its gate's.
    pub block: Option<Block>,
}

/// What there is in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Deliveries, whatever their state.
    pub deliveries: u32,
    /// Connections, whatever their state.
    pub sessions: u32,
    /// Lanes where something is or is remembered.
    pub lanes: u32,
    /// Gates where something is or is remembered.
    pub gates: u32,
    /// Destinations whose route is known or asked for.
    pub destinations: u32,
}

impl Scheduler {
    /// Why a delivery hasn't gone yet and until when; `None` when there is no such delivery.
    ///
    /// The one question whose cost grows a little with the queue: it counts who stands before.
    pub fn explain(&self, now: Instant, id: DeliveryId) -> Option<Waiting> {
        let d = self.deliveries.get(id.0)?;
        let due = Some(d.due.max(now));
        let (why, until) = match d.state {
            State::Waiting if d.attempts > 0 => (Why::RetryTime, due),
            State::Waiting => (Why::Scheduled, due),
            State::Parked => match self.dests[d.place].on {
                DestList::Draining => self.turn(id.0, 0),
                _ => (Why::Dns, None),
            },
            State::Stranded => (Why::SourceDisabled, None),
            State::Held => (Why::Hold, None),
            State::Settling => (Why::Settling, None),
            State::Leased if d.place == NIL => (Why::Settling, None),
            State::Leased => (Why::InFlight, None),
            State::Queued => self.explain_queued(now, id.0),
        };
        Some(Waiting { why, until })
    }

    fn explain_queued(&self, now: Instant, id: u32) -> (Why, Option<Instant>) {
        let n = self.flows.lane_of(&self.deliveries[id]);
        let lane = &self.lanes[n];
        let gate = &self.gates[lane.gate];
        if lane.evacuating {
            return (Why::SourceDisabled, Some(now));
        }
        if lane.flushing {
            return (Why::Settling, Some(now));
        }
        if let Some(block) = blocked(lane.block, now).or(blocked(gate.block, now)) {
            return (why_blocked(block), Some(block.until).filter(known));
        }
        let token = gate.token_at(now, 1);
        if token > now {
            return (Why::Rate, Some(token));
        }
        if lane.sessions > 0 {
            if lane.sessions == lane.unassigned {
                return (Why::Connecting, None);
            }
            let turn = self.turn(id, lane.queue.len());
            return match (turn.0, gate.may_open(now)) {
                // Nobody is before it: one connection more is all it lacks.
                (Why::Turn { ahead: 0, .. }, Err(Refusal::Concurrency)) => (Why::Concurrency, None),
                _ => turn,
            };
        }
        match gate.may_open(now) {
            Err(Refusal::Blocked(block)) => (why_blocked(block), Some(block.until).filter(known)),
            Err(Refusal::Concurrency) => (Why::Concurrency, None),
            Err(Refusal::ConnectionRate(at)) => (Why::ConnectionRate, Some(at)),
            Err(Refusal::Rate(at)) => (Why::Rate, Some(at)),
            Ok(()) if self.sessions.len() >= self.config.sessions_max => (Why::Sessions, None),
            Ok(()) => self.turn(id, lane.queue.len()),
        }
    }

    fn turn(&self, id: u32, lane: u32) -> (Why, Option<Instant>) {
        let ahead = self.flows.ahead(&self.deliveries, id, EXPLAIN_AHEAD_MAX);
        (Why::Turn { ahead, lane }, None)
    }

    /// A delivery as it is now.
    pub fn get(&self, id: DeliveryId) -> Option<View> {
        let d = self.deliveries.get(id.0)?;
        let state = match d.state {
            State::Waiting => Where::Waiting,
            State::Parked => Where::Parked,
            State::Stranded => Where::Stranded,
            State::Queued => Where::Queued(LaneId(self.flows.lane_of(d))),
            State::Leased if d.place == NIL => Where::Settling,
            State::Leased => Where::InFlight(SessionId(d.place)),
            State::Settling => Where::Settling,
            State::Held => Where::Held,
        };
        let delivery = New {
            message: d.message,
            recipient: d.recipient,
            dest: d.dest,
            pool: d.pool,
            source: d.source(),
            tenant: d.tenant,
            campaign: d.campaign,
            class: d.class,
            attempts: d.attempts,
            due: d.due,
            expires: d.expires(),
            hold: d.hold || d.state == State::Held,
        };
        Some(View {
            id,
            delivery,
            state,
        })
    }

    /// Deliveries in the order of their ids, from `from` on: a long list can be looked through in
    /// parts, beginning each part after the last id of the one before.
    pub fn deliveries(&self, from: DeliveryId) -> impl Iterator<Item = View> {
        (from.0..self.deliveries.end()).filter_map(|id| self.get(DeliveryId(id)))
    }

    /// All ids of deliveries are below it; not each below it is one.
    pub fn ids_end(&self) -> u32 {
        self.deliveries.end()
    }

    /// A lane as it is now.
    pub fn lane_view(&self, id: LaneId) -> Option<LaneView> {
        let lane = self.lanes.get(id.0)?;
        let gate = &self.gates[lane.gate];
        Some(LaneView {
            id,
            source: lane.source,
            site: lane.site,
            gate: gate.key,
            queued: Class::ALL.map(|class| lane.queue.of_class(class)),
            sessions: lane.sessions,
            unassigned: lane.unassigned,
            block: lane.block.or(gate.block),
        })
    }

    /// All lanes.
    pub fn lanes(&self) -> impl Iterator<Item = LaneView> {
        (0..self.lanes.end()).filter_map(|id| self.lane_view(LaneId(id)))
    }

    /// The lane from a source to a site, if anything is there.
    pub fn find_lane(&self, source: SourceId, site: SiteId, gate: GateId) -> Option<LaneId> {
        self.lane_of.get(&(source, site, gate)).copied().map(LaneId)
    }

    /// All tenants that have deliveries, and how many, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = (TenantId, u32)> {
        self.tenants.iter().map(|(tenant, n)| (*tenant, *n))
    }

    /// What there is in all.
    pub fn totals(&self) -> Totals {
        Totals {
            deliveries: self.deliveries.len(),
            sessions: self.sessions.len(),
            lanes: self.lanes.len(),
            gates: self.gates.len(),
            destinations: self.dests.len(),
        }
    }
}

fn why_blocked(block: Block) -> Why {
    match block.reason {
        BlockReason::DeadHost => Why::DeadHost,
        reason => Why::Blocked(reason),
    }
}

fn known(until: &Instant) -> bool {
    *until < Instant::FAR
}
