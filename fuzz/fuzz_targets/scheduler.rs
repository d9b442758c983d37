//! The scheduler under any operations in any order, sensible or not, against a model: nothing is
//! lost or in two places, no limit is exceeded, a misuse changes nothing, and when all obstacles
//! are taken away everything is delivered.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::{Arbitrary, Unstructured};
use courser_core::time::{Duration, Instant};
use courser_core::traffic::bucket::Rate;
use courser_core::traffic::scheduler::*;
use libfuzzer_sys::fuzz_target;

const DELIVERIES_MAX: usize = 60;
const SOURCES: u16 = 3;
const GATES: u32 = 4;
/// Actions until the scheduler must have nothing more to say at one instant.
const ACTIONS_MAX: usize = 100_000;

#[derive(Arbitrary, Debug)]
enum Op {
    Enqueue { message: u8, dest: u8, flags: u8, due: u16, life: u16, copies: u8 },
    Route { dest: u8, how: u8, valid: u16 },
    Opened(u8),
    Unreachable(u8),
    Closed(u8),
    Take(u8, u8),
    Report { which: u8, how: u8, due: u16 },
    Hold(u8),
    Release(u8),
    RetryNow(u8),
    Remove(u8),
    Block { lane: u8, until: u16 },
    Unblock(u8),
    Flush(u8),
    BlockGate { source: u8, gate: u8, until: u16 },
    UnblockGate { source: u8, gate: u8 },
    Source { source: u8, state: u8 },
    Pool { pool: u8, members: [(u8, u8); 2] },
    Limits { gate: u8, limits: Numbers },
    DefaultLimits(Numbers),
    Allowance { source: u8, gate: u8, concurrency: u8, rate: u8 },
    SessionsMax(u8),
    Sweep(u8),
    Forget(u8),
    Pass(u16),
    PassToWakeup,
    /// Calls with ids that were never given.
    Nonsense(u32),
}

#[derive(Arbitrary, Debug, Clone, Copy)]
struct Numbers {
    concurrency: u8,
    connection: (u8, u8),
    message: (u8, u8),
    recipients: bool,
    messages_per_connection: u8,
    recipients_per_transaction: u8,
    idle: u16,
    queue_per_connection: u8,
}

fn rate((count, burst): (u8, u8)) -> Option<Rate> {
    (count != 0).then(|| Rate::new(count.into(), 3).with_burst(burst.into()))
}

impl Numbers {
    fn limits(self) -> Limits {
        Limits {
            concurrency: u32::from(self.concurrency % 5),
            connection_rate: rate(self.connection),
            message_rate: rate(self.message),
            counts: if self.recipients { Counts::Recipients } else { Counts::Messages },
            messages_per_connection: self.messages_per_connection.into(),
            recipients_per_transaction: self.recipients_per_transaction.into(),
            idle: Duration::from_millis(self.idle.into()),
            queue_per_connection: self.queue_per_connection.into(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Place {
    Inside,
    InFlight(SessionId),
    Ours,
}

struct Link {
    open: Open,
    /// It was told to open, and `opened` was not said yet.
    opening: bool,
    quits: bool,
    messages: u32,
}

struct World {
    s: Scheduler,
    now: Instant,
    deliveries: BTreeMap<DeliveryId, (New, Place)>,
    held: BTreeSet<DeliveryId>,
    sessions: BTreeMap<SessionId, Link>,
    asked: BTreeSet<DestId>,
    sessions_max: u32,
    /// Whatever is handed out goes through at once.
    calm: bool,
}

fn nth<K: Copy + Ord, V>(map: &BTreeMap<K, V>, n: u8) -> Option<K> {
    map.keys().nth(usize::from(n) % map.len().max(1)).copied()
}

fn site(dest: DestId) -> SiteId {
    SiteId(dest.0 / 2)
}

impl World {
    fn after(&self, units: u16) -> Instant {
        // From milliseconds to days.
        let ms = u64::from(units & 0x3ff) << (2 * (units >> 10).min(14));
        self.now + Duration::from_millis(ms)
    }

    fn drain(&mut self) {
        for _ in 0..ACTIONS_MAX {
            match self.s.poll(self.now) {
                Some(action) => self.act(action),
                None if self.s.next_wakeup().is_none_or(|t| t > self.now) => return,
                None => {}
            }
        }
        panic!("never quiet: {:?}", self.s.totals());
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Resolve(dest) => {
                self.asked.insert(dest);
                if self.calm {
                    self.route(dest, 0, 0xffff);
                }
            }
            Action::Open(open) => {
                let limits = self.s.limits_of(open.gate);
                assert_ne!(self.s.source_state(open.source), SourceState::Disabled);
                let allowed = self.s.allowance(open.source, open.gate).concurrency;
                let link = Link { open, opening: true, quits: false, messages: 0 };
                assert!(self.sessions.insert(open.session, link).is_none());
                assert!(self.sessions.len() as u32 <= self.sessions_max);
                let same = |l: &&Link| l.open.gate == open.gate && l.open.source == open.source;
                let at_once = self.sessions.values().filter(same).count() as u32;
                assert!(at_once <= limits.concurrency.min(allowed), "{at_once} {limits:?}");
                if self.calm {
                    self.opened(open.session);
                }
            }
            Action::Wake(session) => {
                assert!(!self.sessions[&session].quits);
                if self.calm {
                    self.take(session, 100);
                }
            }
            Action::Close(session) => {
                let link = self.sessions.get_mut(&session).unwrap();
                assert!(!std::mem::replace(&mut link.quits, true), "told to close twice");
                if self.calm {
                    self.closed(session, Closed::Done);
                }
            }
            Action::Settle(id, cause) => {
                let (new, place) = self.deliveries.get_mut(&id).unwrap();
                assert_eq!(*place, Place::Inside);
                assert!(cause != Cause::Expired || new.expires <= self.now);
                assert!(!self.held.contains(&id), "held, and handed out: {cause:?}");
                *place = Place::Ours;
                if self.calm {
                    self.report(id, 0, 0);
                }
            }
        }
    }

    fn route(&mut self, dest: DestId, how: u8, valid: u16) {
        let until = self.after(valid);
        match how % 8 {
            6 => self.s.route_failed(dest, until),
            7 => self.s.route_elsewhere(dest, until),
            _ => {
                let route = Route { site: site(dest), gate: GateId(dest.0 / 6), valid_until: until };
                self.s.route(dest, route);
            }
        }
        self.asked.remove(&dest);
    }

    fn opened(&mut self, session: SessionId) {
        let link = self.sessions.get_mut(&session).unwrap();
        if !std::mem::replace(&mut link.opening, false) {
            return;
        }
        self.s.opened(self.now, session).unwrap();
        self.take(session, 100);
    }

    fn take(&mut self, session: SessionId, max: u8) {
        let link = self.sessions.get_mut(&session).unwrap();
        if link.opening || link.quits {
            return;
        }
        let mut out = Vec::new();
        match self.s.take(self.now, session, max.into(), &mut out) {
            Take::Batch(n) => {
                let limits = self.s.limits_of(link.open.gate);
                link.messages += 1;
                assert_eq!(n as usize, out.len());
                assert!(n >= 1 && n <= u32::from(max).max(1));
                assert!(n <= limits.recipients_per_transaction.max(1));
                assert!(link.messages <= limits.messages_per_connection.max(1));
                let link = link.open;
                let message = self.deliveries[&out[0]].0.message;
                for id in &out {
                    let (new, place) = self.deliveries.get_mut(id).unwrap();
                    assert_eq!(std::mem::replace(place, Place::InFlight(session)), Place::Inside);
                    assert!(!self.held.contains(id), "held mail goes out");
                    assert!(new.due <= self.now, "early");
                    assert!(new.expires > self.now, "expired mail goes out");
                    assert_eq!((new.message, site(new.dest)), (message, link.site));
                }
                if self.calm {
                    out.into_iter().for_each(|id| self.report(id, 0, 0));
                    self.take(session, max);
                }
            }
            Take::Wait(until) => assert!(until > self.now && out.is_empty()),
            Take::Idle(until) => assert!(until >= self.now && out.is_empty()),
            Take::Close(_) => {
                assert!(out.is_empty());
                link.quits = true;
                if self.calm {
                    self.closed(session, Closed::Done);
                }
            }
        }
    }

    fn closed(&mut self, session: SessionId, how: Closed) {
        self.s.closed(self.now, session, how).unwrap();
        self.sessions.remove(&session);
        for (_, place) in self.deliveries.values_mut() {
            if *place == Place::InFlight(session) {
                *place = Place::Inside;
            }
        }
    }

    fn report(&mut self, id: DeliveryId, how: u8, due: u16) {
        let due = self.after(due);
        let report = match how % 4 {
            0 => Report::Delivered,
            1 => Report::Ended,
            2 => Report::Deferred { due, exclude_source: how & 4 != 0 },
            _ => Report::NotTried,
        };
        let said = self.s.report(self.now, id, report);
        let (new, place) = self.deliveries.get_mut(&id).unwrap();
        if *place == Place::Inside {
            return assert_eq!(said, Err(Misuse::NotInFlight));
        }
        said.unwrap();
        match report {
            Report::Delivered | Report::Ended => {
                self.deliveries.remove(&id);
                self.held.remove(&id);
                assert!(self.s.get(id).is_none());
            }
            Report::Deferred { due, .. } => (new.due, *place) = (due, Place::Inside),
            Report::NotTried => *place = Place::Inside,
        }
    }

    fn op(&mut self, op: &Op) {
        let now = self.now;
        let lane = |s: &Scheduler, n: u8| {
            let count = s.lanes().count().max(1);
            s.lanes().nth(usize::from(n) % count).map(|l| l.id)
        };
        let source = |n: u8| SourceId(u16::from(n) % SOURCES);
        let gate = |n: u8| GateId(u32::from(n) % GATES);
        match *op {
            Op::Enqueue { message, dest, flags, due, life, copies } => {
                for recipient in 0..u32::from(copies % 4) + 1 {
                    if self.deliveries.len() >= DELIVERIES_MAX {
                        return;
                    }
                    // The scheduler rounds the end of a life up to whole seconds.
                    let end_s = self.after(life).as_nanos() / 1_000_000_000 + 1;
                    let new = New {
                        message: message.into(),
                        recipient,
                        dest: DestId(u32::from(dest) % 24),
                        pool: PoolId(u16::from(flags & 1)),
                        source: (flags & 2 != 0).then(|| source(flags >> 5)),
                        tenant: TenantId(u32::from(message) % 5),
                        campaign: CampaignId(u32::from(message) % 7),
                        class: Class::ALL[usize::from(message) % 3],
                        attempts: 0,
                        due: if flags & 4 != 0 { self.after(due) } else { now },
                        // What would live 136 years lives for ever.
                        expires: if flags & 8 != 0 && end_s < u64::from(u32::MAX) {
                            Instant::from_nanos(end_s * 1_000_000_000)
                        } else {
                            Instant::FAR
                        },
                        hold: flags & 0x10 != 0,
                    };
                    let id = self.s.enqueue(now, new).unwrap();
                    assert!(self.deliveries.insert(id, (new, Place::Inside)).is_none());
                    if new.hold {
                        self.held.insert(id);
                    }
                }
            }
            Op::Route { dest, how, valid } => {
                // Mostly of those that were asked for, else unasked.
                let asked = self.asked.iter().nth(usize::from(dest)).copied();
                self.route(asked.unwrap_or(DestId(u32::from(dest) % 24)), how, valid);
            }
            Op::Opened(n) => {
                if let Some(session) = nth(&self.sessions, n) {
                    self.opened(session);
                }
            }
            Op::Unreachable(n) => {
                if let Some(session) = nth(&self.sessions, n)
                    && self.sessions[&session].opening
                {
                    self.closed(session, Closed::Unreachable);
                }
            }
            Op::Closed(n) => {
                if let Some(session) = nth(&self.sessions, n) {
                    self.closed(session, Closed::Done);
                }
            }
            Op::Take(n, max) => {
                if let Some(session) = nth(&self.sessions, n) {
                    self.take(session, max);
                }
            }
            Op::Report { which, how, due } => {
                if let Some(id) = nth(&self.deliveries, which) {
                    self.report(id, how, due);
                }
            }
            Op::Hold(n) => {
                if let Some(id) = nth(&self.deliveries, n) {
                    self.s.hold(now, id).unwrap();
                    self.held.insert(id);
                }
            }
            Op::Release(n) => {
                if let Some(id) = nth(&self.deliveries, n) {
                    self.s.release(now, id).unwrap();
                    self.held.remove(&id);
                }
            }
            Op::RetryNow(n) => {
                if let Some(id) = nth(&self.deliveries, n) {
                    let waits = self.s.get(id).is_some_and(|v| v.state == Where::Waiting);
                    self.s.retry_now(now, id).unwrap();
                    if waits {
                        self.deliveries.get_mut(&id).unwrap().0.due = now;
                    }
                }
            }
            Op::Remove(n) => {
                if let Some(id) = nth(&self.deliveries, n) {
                    let (new, place) = self.deliveries[&id];
                    match self.s.remove(now, id) {
                        Ok(given) => {
                            assert!(!matches!(place, Place::InFlight(_)));
                            assert_eq!((given.message, given.recipient), (new.message, new.recipient));
                            self.deliveries.remove(&id);
                            self.held.remove(&id);
                        }
                        Err(error) => {
                            assert_eq!(error, Misuse::InFlight);
                            assert!(matches!(place, Place::InFlight(_)));
                        }
                    }
                }
            }
            Op::Block { lane: n, until } => {
                if let Some(lane) = lane(&self.s, n) {
                    let until = self.after(until);
                    self.s.block_lane(now, lane, until, BlockReason::Throttled).unwrap();
                }
            }
            Op::Unblock(n) => {
                if let Some(lane) = lane(&self.s, n) {
                    self.s.unblock_lane(now, lane).unwrap();
                }
            }
            Op::Flush(n) => {
                if let Some(lane) = lane(&self.s, n) {
                    self.s.flush_lane(now, lane).unwrap();
                }
            }
            Op::BlockGate { source: a, gate: b, until } => {
                let until = self.after(until);
                self.s.block_gate(now, source(a), gate(b), until, BlockReason::Operator);
            }
            Op::UnblockGate { source: a, gate: b } => self.s.unblock_gate(now, source(a), gate(b)),
            Op::Source { source: a, state } => {
                let states = [SourceState::Enabled, SourceState::Draining, SourceState::Disabled];
                self.s.set_source(now, source(a), states[usize::from(state) % 3]);
            }
            Op::Pool { pool, members } => {
                let members = members.map(|(a, weight)| (source(a), weight.into()));
                self.s.set_pool(PoolId(u16::from(pool) % 2), &members);
            }
            Op::Limits { gate: a, limits } => self.s.set_limits(now, gate(a), limits.limits()),
            Op::DefaultLimits(limits) => self.s.set_default_limits(now, limits.limits()),
            Op::Allowance { source: a, gate: b, concurrency, rate: r } => {
                let allowance = Allowance {
                    concurrency: u32::from(concurrency % 5),
                    message_rate: rate((r, r % 4)),
                };
                self.s.set_allowance(now, source(a), gate(b), allowance);
            }
            Op::SessionsMax(max) => {
                self.sessions_max = u32::from(max % 8);
                self.s.set_sessions_max(self.sessions_max);
            }
            Op::Sweep(n) => self.s.sweep(now, n.into()),
            Op::Forget(n) => self.s.forget_route(DestId(u32::from(n) % 24)),
            Op::Pass(units) => self.now = self.after(units),
            Op::PassToWakeup => {
                if let Some(wakeup) = self.s.next_wakeup() {
                    self.now = self.now.max(wakeup.min(self.after(0xffff)));
                }
            }
            Op::Nonsense(n) => {
                let (delivery, session, lane) = (DeliveryId(n), SessionId(n), LaneId(n));
                if !self.deliveries.contains_key(&delivery) {
                    assert_eq!(self.s.report(now, delivery, Report::NotTried), Err(Misuse::UnknownDelivery));
                    assert_eq!(self.s.hold(now, delivery), Err(Misuse::UnknownDelivery));
                    assert_eq!(self.s.release(now, delivery), Err(Misuse::UnknownDelivery));
                    assert_eq!(self.s.retry_now(now, delivery), Err(Misuse::UnknownDelivery));
                    assert_eq!(self.s.remove(now, delivery), Err(Misuse::UnknownDelivery));
                    assert!(self.s.get(delivery).is_none() && self.s.explain(now, delivery).is_none());
                }
                if !self.sessions.contains_key(&session) {
                    assert_eq!(self.s.opened(now, session), Err(Misuse::UnknownSession));
                    assert_eq!(self.s.closed(now, session, Closed::Done), Err(Misuse::UnknownSession));
                    let take = self.s.take(now, session, 1, &mut Vec::new());
                    assert_eq!(take, Take::Close(CloseReason::Closed));
                }
                if self.s.lane_view(lane).is_none() {
                    assert_eq!(self.s.unblock_lane(now, lane), Err(Misuse::UnknownLane));
                    assert_eq!(self.s.flush_lane(now, lane), Err(Misuse::UnknownLane));
                }
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.s.len() as usize, self.deliveries.len());
        let (mut seen, mut queued) = (0, 0);
        for view in self.s.deliveries(DeliveryId(0)) {
            seen += 1;
            let (new, place) = &self.deliveries[&view.id];
            assert_eq!((view.delivery.message, view.delivery.dest), (new.message, new.dest));
            match place {
                Place::InFlight(session) => assert_eq!(view.state, Where::InFlight(*session)),
                Place::Ours => assert_eq!(view.state, Where::Settling),
                Place::Inside => {
                    assert_eq!(view.state == Where::Held, self.held.contains(&view.id), "{view:?}");
                }
            }
            queued += u32::from(matches!(view.state, Where::Queued(_)));
            let waiting = self.s.explain(self.now, view.id).unwrap();
            assert!(waiting.until.is_none_or(|t| t >= self.now), "{waiting:?}");
        }
        assert_eq!(seen, self.deliveries.len());
        assert_eq!(self.s.lanes().map(|l| l.queued.iter().sum::<u32>()).sum::<u32>(), queued);
        assert_eq!(self.s.totals().sessions as usize, self.sessions.len());
        let mut tenants = BTreeMap::new();
        for (new, _) in self.deliveries.values() {
            *tenants.entry(new.tenant).or_insert(0) += 1;
        }
        assert_eq!(self.s.tenants().collect::<BTreeMap<_, _>>(), tenants);
    }

    /// Takes every obstacle away and answers everything at once: all must go.
    fn end(&mut self) {
        self.calm = true;
        let ids: Vec<_> = self.deliveries.iter().map(|(id, (_, place))| (*id, *place)).collect();
        for session in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.closed(session, Closed::Done);
        }
        for (id, place) in ids {
            if place == Place::Ours {
                self.report(id, 0, 0);
            }
        }
        self.sessions_max = 100;
        self.s.set_sessions_max(100);
        let open = Limits {
            concurrency: 10,
            connection_rate: None,
            message_rate: None,
            messages_per_connection: u32::MAX,
            idle: Duration::from_secs(1),
            ..Limits::default()
        };
        self.s.set_default_limits(self.now, open);
        for gate in (0..GATES).map(GateId) {
            self.s.set_limits(self.now, gate, open);
            for source in (0..SOURCES).map(SourceId) {
                self.s.unblock_gate(self.now, source, gate);
                self.s.set_allowance(self.now, source, gate, Allowance::default());
            }
        }
        for source in (0..SOURCES).map(SourceId) {
            self.s.set_source(self.now, source, SourceState::Enabled);
        }
        for pool in [PoolId(0), PoolId(1)] {
            self.s.set_pool(pool, &[(SourceId(0), 1), (SourceId(1), 1)]);
        }
        for id in std::mem::take(&mut self.held) {
            if self.deliveries.contains_key(&id) {
                self.s.release(self.now, id).unwrap();
            }
        }
        for dest in std::mem::take(&mut self.asked) {
            self.route(dest, 0, 0xffff);
        }
        // From wakeup to wakeup: deferrals, pauses of lanes, idle connections.
        for _ in 0..2000 {
            self.drain();
            match self.s.next_wakeup() {
                Some(wakeup) => self.now = self.now.max(wakeup),
                None => break,
            }
        }
        self.check();
        let left: Vec<_> = self.deliveries.keys().map(|id| (self.s.get(*id), self.s.explain(self.now, *id))).collect();
        assert!(left.is_empty(), "{left:#?}");
        let totals = self.s.totals();
        assert_eq!((totals.sessions, totals.lanes, totals.gates), (0, 0, 0));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok((limits, ops)) = <(Numbers, Vec<Op>)>::arbitrary_take_rest(Unstructured::new(bytes)) else {
        return;
    };
    let mut world = World {
        s: Scheduler::new(Config {
            sessions_max: 4,
            limits: limits.limits(),
            ..Config::default()
        }),
        now: Instant::ZERO,
        deliveries: BTreeMap::new(),
        held: BTreeSet::new(),
        sessions: BTreeMap::new(),
        asked: BTreeSet::new(),
        sessions_max: 4,
        calm: false,
    };
    world.s.set_pool(PoolId(0), &[(SourceId(0), 3), (SourceId(1), 1)]);
    world.s.set_pool(PoolId(1), &[(SourceId(1), 1), (SourceId(2), 2)]);
    for op in &ops {
        world.op(op);
        world.drain();
    }
    world.check();
    world.end();
});
