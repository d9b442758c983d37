//! Whole worlds for the scheduler, in virtual time: seeded operations against a model that checks
//! after each step that nothing is lost, nothing is in two places and no limit is exceeded.

use courser_core::time::{Duration, Instant};
use courser_core::traffic::bucket::Rate;
use courser_core::traffic::scheduler::*;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

const MS: u64 = 1_000_000;

fn ms(n: u64) -> Instant {
    Instant::from_nanos(n * MS)
}

/// xorshift64*: the tests' own chance, from a seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n.max(1)
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn delivery(message: u32, dest: u32) -> New {
    New {
        message,
        recipient: 0,
        dest: DestId(dest),
        pool: PoolId(0),
        source: None,
        tenant: TenantId(0),
        campaign: CampaignId(0),
        class: Class::Normal,
        attempts: 0,
        due: Instant::ZERO,
        expires: Instant::FAR,
        hold: false,
    }
}

fn unlimited() -> Limits {
    Limits {
        message_rate: None,
        connection_rate: None,
        messages_per_connection: u32::MAX,
        ..Limits::default()
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Place {
    Inside,
    InFlight(SessionId),
    Ours,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Route(DestId),
    Opened(SessionId),
    Fails(SessionId),
    Take(SessionId),
    Answers(SessionId, Vec<DeliveryId>),
    Closes(SessionId),
}

struct Link {
    open: Open,
    messages: u32,
    quits: bool,
}

/// What a gate did: times of connections, and times and recipients of transactions.
#[derive(Default)]
struct Record {
    opened: Vec<Instant>,
    sent: Vec<(Instant, u32)>,
    sessions: u32,
}

struct World {
    s: Scheduler,
    now: Instant,
    chance: Chance,
    events: BinaryHeap<(std::cmp::Reverse<(Instant, u64)>, Event)>,
    sequence: u64,
    deliveries: BTreeMap<DeliveryId, (New, Place)>,
    held: BTreeMap<DeliveryId, ()>,
    sessions: HashMap<SessionId, Link>,
    gates: HashMap<(SourceId, GateId), Record>,
    sessions_max: u32,
    /// No more failures, so that everything can end.
    calm: bool,
    done: u64,
    tried: u64,
}

impl World {
    fn new(
        seed: u64,
        sessions_max: u32,
        gates: u32,
        limits: impl Fn(&mut Chance) -> Limits,
    ) -> Self {
        let mut chance = Chance(seed | 1);
        for _ in 0..9 {
            chance.next();
        }
        let mut s = Scheduler::new(Config {
            sessions_max,
            limits: limits(&mut chance),
            unreachable_first: Duration::from_secs(2),
            unreachable_max: Duration::from_secs(20),
        });
        s.set_pool(PoolId(0), &[(SourceId(0), 3), (SourceId(1), 1)]);
        s.set_pool(PoolId(1), &[(SourceId(1), 1), (SourceId(2), 2)]);
        for gate in 0..gates {
            let l = limits(&mut chance);
            s.set_limits(Instant::ZERO, GateId(gate), l);
        }
        Self {
            s,
            now: Instant::ZERO,
            chance,
            events: BinaryHeap::new(),
            sequence: 0,
            deliveries: BTreeMap::new(),
            held: BTreeMap::new(),
            sessions: HashMap::new(),
            gates: HashMap::new(),
            sessions_max,
            calm: false,
            done: 0,
            tried: 0,
        }
    }

    fn after(&mut self, wait_ms: u64, event: Event) {
        self.sequence += 1;
        let wait = Duration::from_nanos(wait_ms * MS + self.sequence % 1000);
        let at = std::cmp::Reverse((self.now + wait, self.sequence));
        self.events.push((at, event));
    }

    /// Does what the scheduler says until it says nothing more.
    fn drain(&mut self) {
        loop {
            while let Some(action) = self.s.poll(self.now) {
                self.act(action);
            }
            if self.s.next_wakeup().is_none_or(|t| t > self.now) {
                return;
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Resolve(dest) => {
                let wait = self.chance.below(200);
                self.after(wait, Event::Route(dest));
            }
            Action::Open(open) => {
                let key = (open.source, open.gate);
                assert_ne!(self.s.source_state(open.source), SourceState::Disabled);
                let limits = self.s.limits_of(open.gate);
                let record = self.gates.entry(key).or_default();
                record.sessions += 1;
                record.opened.push(self.now);
                assert!(record.sessions <= limits.concurrency, "{key:?}");
                let link = Link {
                    open,
                    messages: 0,
                    quits: false,
                };
                assert!(self.sessions.insert(open.session, link).is_none());
                assert!(self.sessions.len() as u32 <= self.sessions_max);
                let wait = 10 + self.chance.below(100);
                let fails = !self.calm && self.chance.one_in(20);
                self.after(
                    wait,
                    if fails {
                        Event::Fails(open.session)
                    } else {
                        Event::Opened(open.session)
                    },
                );
            }
            Action::Wake(session) => {
                assert!(!self.sessions[&session].quits);
                self.after(0, Event::Take(session));
            }
            Action::Close(session) => {
                let link = self.sessions.get_mut(&session).unwrap();
                assert!(!link.quits, "told to close twice");
                link.quits = true;
                let wait = self.chance.below(50);
                self.after(wait, Event::Closes(session));
            }
            Action::Settle(id, cause) => {
                let (new, place) = self.deliveries.get_mut(&id).unwrap();
                assert_eq!(*place, Place::Inside);
                assert!(cause != Cause::Expired || new.expires <= self.now);
                *place = Place::Ours;
                match cause {
                    Cause::Elsewhere => {
                        let given = self.s.remove(self.now, id).unwrap();
                        let (new, _) = self.deliveries.remove(&id).unwrap();
                        assert_eq!(
                            (given.message, given.recipient),
                            (new.message, new.recipient)
                        );
                        self.done += 1;
                    }
                    Cause::Expired => self.end(id),
                    Cause::RouteFailed | Cause::Flushed => self.defer(id),
                }
            }
        }
    }

    fn end(&mut self, id: DeliveryId) {
        self.s.report(self.now, id, Report::Ended).unwrap();
        self.deliveries.remove(&id).unwrap();
        self.held.remove(&id);
        self.done += 1;
    }

    fn defer(&mut self, id: DeliveryId) {
        let due = self.now + Duration::from_millis(self.chance.below(60_000));
        let exclude_source = self.chance.one_in(2);
        let report = Report::Deferred {
            due,
            exclude_source,
        };
        self.s.report(self.now, id, report).unwrap();
        let (new, place) = self.deliveries.get_mut(&id).unwrap();
        *place = Place::Inside;
        new.due = due;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Route(dest) => {
                let until = self.now + Duration::from_millis(self.chance.below(30_000));
                match self.chance.below(if self.calm { 1 } else { 12 }) {
                    10 => self.s.route_failed(dest, until),
                    11 => self.s.route_elsewhere(dest, until),
                    _ => self.s.route(
                        dest,
                        Route {
                            // Several destinations per site, several sites per gate.
                            site: SiteId(dest.0 / 2),
                            gate: GateId(dest.0 / 6),
                            valid_until: until,
                        },
                    ),
                }
            }
            Event::Opened(session) => {
                self.s.opened(self.now, session).unwrap();
                self.take(session);
            }
            Event::Fails(session) => self.closed(session, Closed::Unreachable),
            Event::Take(session) => {
                if self.sessions.get(&session).is_some_and(|l| !l.quits) {
                    self.take(session);
                }
            }
            Event::Answers(session, ids) => {
                let breaks = !self.calm && self.chance.one_in(25);
                for id in ids {
                    let place = &mut self.deliveries.get_mut(&id).unwrap().1;
                    assert_eq!(*place, Place::InFlight(session));
                    match self.chance.below(if self.calm { 1 } else { 10 }) {
                        // Forgotten: closing gives it back.
                        _ if breaks && self.chance.one_in(2) => {}
                        7 | 8 => self.defer(id),
                        9 => {
                            *place = Place::Inside;
                            self.s.report(self.now, id, Report::NotTried).unwrap();
                        }
                        _ => {
                            self.s.report(self.now, id, Report::Delivered).unwrap();
                            assert!(self.s.get(id).is_none());
                            self.deliveries.remove(&id);
                            self.held.remove(&id);
                            self.done += 1;
                        }
                    }
                }
                if breaks {
                    self.closed(session, Closed::Done);
                } else {
                    self.take(session);
                }
            }
            Event::Closes(session) => {
                if self.sessions.contains_key(&session) {
                    self.closed(session, Closed::Done);
                }
            }
        }
    }

    fn take(&mut self, session: SessionId) {
        let mut out = Vec::new();
        let max = 1 + self.chance.below(5) as u32;
        let take = self.s.take(self.now, session, max, &mut out);
        let link = self.sessions.get_mut(&session).unwrap();
        match take {
            Take::Batch(n) => {
                assert_eq!(n as usize, out.len());
                assert!(n >= 1 && n <= max);
                let limits = self.s.limits_of(link.open.gate);
                link.messages += 1;
                assert!(link.messages <= limits.messages_per_connection);
                assert!(n <= limits.recipients_per_transaction);
                let key = (link.open.source, link.open.gate);
                self.gates.get_mut(&key).unwrap().sent.push((self.now, n));
                let message = self.deliveries[&out[0]].0.message;
                for id in &out {
                    let (new, place) = self.deliveries.get_mut(id).unwrap();
                    assert_eq!(*place, Place::Inside);
                    assert!(!self.held.contains_key(id), "held mail goes out");
                    assert!(new.due <= self.now, "early");
                    assert!(new.expires > self.now, "expired mail goes out");
                    assert_eq!(new.message, message);
                    assert_eq!(new.dest.0 / 2, link.open.site.0, "to the wrong site");
                    *place = Place::InFlight(session);
                    assert_eq!(self.s.explain(self.now, *id).unwrap().why, Why::InFlight);
                }
                self.tried += u64::from(n);
                let wait = 5 + self.chance.below(300);
                self.after(wait, Event::Answers(session, out));
            }
            Take::Wait(until) => assert!(until > self.now),
            Take::Idle(until) => assert!(until >= self.now),
            Take::Close(_) => {
                link.quits = true;
                let wait = self.chance.below(50);
                self.after(wait, Event::Closes(session));
            }
        }
    }

    fn closed(&mut self, session: SessionId, how: Closed) {
        self.s.closed(self.now, session, how).unwrap();
        let link = self.sessions.remove(&session).unwrap();
        for (_, place) in self.deliveries.values_mut() {
            if *place == Place::InFlight(session) {
                *place = Place::Inside;
            }
        }
        let key = (link.open.source, link.open.gate);
        self.gates.get_mut(&key).unwrap().sessions -= 1;
    }

    fn any(&mut self) -> Option<DeliveryId> {
        let n = self.chance.below(self.deliveries.len() as u64);
        self.deliveries.keys().nth(n as usize).copied()
    }

    /// Somebody does something.
    fn meddle(&mut self, messages: u32) {
        let now = self.now;
        match self.chance.below(40) {
            0 => {
                if let Some(id) = self.any() {
                    self.s.hold(now, id).unwrap();
                    self.held.insert(id, ());
                }
            }
            1 => {
                let n = self.chance.below(self.held.len() as u64);
                if let Some(id) = self.held.keys().nth(n as usize).copied() {
                    self.s.release(now, id).unwrap();
                    self.held.remove(&id);
                }
            }
            2 => {
                if let Some(id) = self.any() {
                    self.s.retry_now(now, id).unwrap();
                    if self.s.get(id).unwrap().state != Where::Held {
                        self.deliveries.get_mut(&id).unwrap().0.due = Instant::ZERO;
                    }
                }
            }
            3 => {
                if let Some(id) = self.any() {
                    let place = self.deliveries[&id].1;
                    match self.s.remove(now, id) {
                        Ok(_) => {
                            assert_eq!(place, Place::Inside);
                            self.deliveries.remove(&id);
                            self.held.remove(&id);
                            self.done += 1;
                        }
                        Err(e) => {
                            assert_eq!(e, Misuse::InFlight);
                            assert!(matches!(place, Place::InFlight(_)));
                        }
                    }
                }
            }
            4 => {
                let lanes: Vec<_> = self.s.lanes().map(|l| l.id).collect();
                if !lanes.is_empty() {
                    let lane = lanes[self.chance.below(lanes.len() as u64) as usize];
                    let until = now + Duration::from_millis(self.chance.below(20_000));
                    if self.chance.one_in(3) {
                        self.s.flush_lane(now, lane).unwrap();
                    } else {
                        self.s
                            .block_lane(now, lane, until, BlockReason::Throttled)
                            .unwrap();
                    }
                }
            }
            5 => {
                let source = SourceId(self.chance.below(3) as u16);
                let state = match self.chance.below(4) {
                    0 => SourceState::Disabled,
                    1 => SourceState::Draining,
                    _ => SourceState::Enabled,
                };
                self.s.set_source(now, source, state);
            }
            6 => {
                let until = now + Duration::from_millis(self.chance.below(20_000));
                let (source, gate) = (self.chance.below(3) as u16, self.chance.below(4) as u32);
                self.s.block_gate(
                    now,
                    SourceId(source),
                    GateId(gate),
                    until,
                    BlockReason::Operator,
                );
            }
            7 => self.s.sweep(now, 50),
            8 => {
                let dest = DestId(self.chance.below(24) as u32);
                self.s.forget_route(dest);
            }
            9..25 => {
                let message = self.chance.below(u64::from(messages)) as u32;
                // Skewed, so that some destinations and tenants are much busier.
                let (a, b) = (self.chance.below(24), self.chance.below(24));
                for recipient in 0..1 + self.chance.below(6) as u32 {
                    let due = now + Duration::from_millis(self.chance.below(5000));
                    let life = 10_000 + self.chance.below(400_000);
                    let new = New {
                        recipient,
                        pool: PoolId(self.chance.below(2) as u16),
                        tenant: TenantId(message % 5),
                        campaign: CampaignId(message % 7),
                        class: Class::ALL[message as usize % 3],
                        due: if self.chance.one_in(2) { now } else { due },
                        expires: if self.chance.one_in(8) {
                            // What the scheduler rounds up to whole seconds.
                            let s = (now.as_nanos() / 1_000_000_000) + 1 + life / 1000;
                            ms(s * 1000)
                        } else {
                            Instant::FAR
                        },
                        hold: self.chance.one_in(30),
                        ..delivery(message, a.min(b) as u32)
                    };
                    let id = self.s.enqueue(now, new).unwrap();
                    assert!(self.deliveries.insert(id, (new, Place::Inside)).is_none());
                    if new.hold {
                        self.held.insert(id, ());
                    }
                }
            }
            _ => {}
        }
    }

    fn check(&mut self) {
        assert_eq!(self.s.len() as usize, self.deliveries.len());
        let mut n = 0;
        for view in self.s.deliveries(DeliveryId(0)) {
            n += 1;
            let (new, place) = &self.deliveries[&view.id];
            assert_eq!(view.delivery.message, new.message);
            assert_eq!(view.delivery.dest, new.dest);
            match place {
                Place::InFlight(session) => assert_eq!(view.state, Where::InFlight(*session)),
                Place::Ours => assert_eq!(view.state, Where::Settling),
                Place::Inside => assert!(!matches!(view.state, Where::InFlight(_))),
            }
            if *place == Place::Inside {
                let held = self.held.contains_key(&view.id);
                assert_eq!(view.state == Where::Held, held, "{view:?}");
            }
            let waiting = self.s.explain(self.now, view.id).unwrap();
            assert!(waiting.until.is_none_or(|t| t >= self.now), "{waiting:?}");
        }
        assert_eq!(n, self.deliveries.len());
        let mut tenants = BTreeMap::new();
        for (new, _) in self.deliveries.values() {
            *tenants.entry(new.tenant).or_insert(0) += 1;
        }
        assert_eq!(self.s.tenants().collect::<BTreeMap<_, _>>(), tenants);
        let queued: u32 = self.s.lanes().map(|l| l.queued.iter().sum::<u32>()).sum();
        let views = self.s.deliveries(DeliveryId(0));
        let queued_views = views
            .filter(|v| matches!(v.state, Where::Queued(_)))
            .count();
        assert_eq!(queued as usize, queued_views);
    }

    /// Lets time pass until `end`, or until nothing will happen any more.
    fn run(&mut self, end: Instant) {
        self.drain();
        loop {
            let event = self.events.peek().map(|(at, _)| at.0.0);
            let wakeup = self.s.next_wakeup();
            let Some(next) = [event, wakeup].into_iter().flatten().min() else {
                return;
            };
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            while self.events.peek().is_some_and(|(at, _)| at.0.0 <= self.now) {
                let (_, event) = self.events.pop().unwrap();
                self.happen(event);
                // In any order with what else happens.
                if self.chance.one_in(2) {
                    self.drain();
                }
            }
            self.drain();
        }
    }

    fn check_rates(&self) {
        for ((source, gate), record) in &self.gates {
            let limits = self.s.limits_of(*gate);
            let opened: Vec<_> = record.opened.iter().map(|t| (*t, 1)).collect();
            let sent: Vec<_> = match limits.counts {
                Counts::Messages => record.sent.iter().map(|(t, _)| (*t, 1)).collect(),
                Counts::Recipients => record.sent.clone(),
            };
            for (rate, times) in [
                (limits.connection_rate, opened),
                (limits.message_rate, sent),
            ] {
                let Some(rate) = rate else { continue };
                for first in 0..times.len() {
                    let mut sum = 0u128;
                    for (t, n) in times[first..].iter().take(500) {
                        sum += u128::from(*n);
                        let window = t.since(times[first].0).as_nanos() * u128::from(rate.count());
                        let period = rate.period().as_nanos();
                        assert!(
                            sum * period <= u128::from(rate.burst()) * period + window,
                            "{source} {gate} exceeds {rate}"
                        );
                    }
                }
            }
        }
    }
}

fn some_limits(chance: &mut Chance) -> Limits {
    let rate = |chance: &mut Chance, max| {
        let rate = Rate::new(1 + chance.below(max) as u32, 1 + chance.below(3) as u32);
        let rate = rate.with_burst(1 + chance.below(4) as u32);
        (!chance.one_in(4)).then_some(rate)
    };
    Limits {
        concurrency: 1 + chance.below(4) as u32,
        connection_rate: rate(chance, 10),
        message_rate: rate(chance, 60),
        counts: if chance.one_in(2) {
            Counts::Messages
        } else {
            Counts::Recipients
        },
        messages_per_connection: 1 + chance.below(30) as u32,
        recipients_per_transaction: 1 + chance.below(4) as u32,
        idle: Duration::from_millis(chance.below(3000)),
        queue_per_connection: 1 + chance.below(6) as u32,
    }
}

/// One seed, one world: meddling for a while, then everything must end.
fn world(seed: u64) {
    let sessions_max = 1 + (seed % 9) as u32;
    let mut w = World::new(seed, sessions_max, 4, some_limits);
    for step in 0..1500 {
        w.meddle(60);
        let pause = w.chance.below(60);
        let end = w.now + Duration::from_millis(pause);
        w.run(end);
        if step % 50 == 0 {
            w.check();
        }
    }
    w.check();
    w.calm = true;
    for source in 0..3 {
        w.s.set_source(w.now, SourceId(source), SourceState::Enabled);
    }
    for id in std::mem::take(&mut w.held).into_keys() {
        w.s.release(w.now, id).unwrap();
    }
    let end = w.now + Duration::from_secs(7200);
    w.run(end);
    let left: Vec<_> = w
        .deliveries
        .keys()
        .take(5)
        .map(|id| (w.s.get(*id), w.s.explain(w.now, *id)))
        .collect();
    assert_eq!(w.deliveries.len(), 0, "seed {seed}: {left:#?}");
    w.check();
    w.check_rates();
    assert!(w.done > 200 && w.tried > 100, "{} {}", w.done, w.tried);
    let totals = w.s.totals();
    assert_eq!(
        (totals.sessions, totals.lanes, totals.gates),
        (0, 0, 0),
        "seed {seed}: nothing is left behind"
    );
}

#[test]
fn worlds() {
    // `WORLDS=5000` for a long run.
    let worlds = std::env::var("WORLDS").ok().and_then(|n| n.parse().ok());
    for seed in 1..=worlds.unwrap_or(60) {
        let run = std::panic::catch_unwind(|| world(seed));
        if let Err(e) = run {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(e);
        }
    }
}

/// A scheduler whose destination 0… is routed to site and gate of the same number.
fn routed(limits: Limits, sessions_max: u32, dests: u32) -> Scheduler {
    let mut s = Scheduler::new(Config {
        limits,
        sessions_max,
        ..Config::default()
    });
    s.set_pool(PoolId(0), &[(SourceId(0), 1)]);
    for n in 0..dests {
        s.route(
            DestId(n),
            Route {
                site: SiteId(n),
                gate: GateId(n),
                valid_until: Instant::FAR,
            },
        );
    }
    s
}

fn next_open(s: &mut Scheduler, now: Instant) -> Option<Open> {
    loop {
        match s.poll(now) {
            Some(Action::Open(open)) => return Some(open),
            Some(_) => {}
            None if s.next_wakeup().is_some_and(|t| t <= now) => {}
            None => return None,
        }
    }
}

/// Takes and delivers the next transaction; the first delivery as it was.
fn serve(s: &mut Scheduler, now: Instant, session: SessionId) -> Option<New> {
    let mut out = Vec::new();
    match s.take(now, session, 100, &mut out) {
        Take::Batch(_) => {
            let new = s.get(out[0]).unwrap().delivery;
            for id in out {
                s.report(now, id, Report::Delivered).unwrap();
            }
            Some(new)
        }
        _ => None,
    }
}

#[test]
fn one_delivery_behind_another_tenants_campaign_of_100_000() {
    for recipients_each in [1, 100] {
        let mut s = routed(unlimited(), 10, 1);
        for n in 0..100_000 {
            let message = n / recipients_each;
            s.enqueue(ms(0), delivery(message, 0)).unwrap();
        }
        let other = New {
            tenant: TenantId(1),
            ..delivery(u32::MAX, 0)
        };
        let open = next_open(&mut s, ms(0)).unwrap();
        s.opened(ms(0), open.session).unwrap();
        for _ in 0..50 {
            serve(&mut s, ms(0), open.session).unwrap();
        }
        s.enqueue(ms(0), other).unwrap();
        let k = (1..).find(|_| serve(&mut s, ms(0), open.session).unwrap().tenant == TenantId(1));
        assert!(k.unwrap() <= 2, "served as number {k:?}");
    }
}

#[test]
fn campaigns_and_tenants_take_turns_and_large_transactions_cost_more() {
    let mut s = routed(unlimited(), 10, 1);
    let mut message = 0;
    let mut add = |tenant, campaign, messages, recipients| {
        for _ in 0..messages {
            message += 1;
            for _ in 0..recipients {
                let new = New {
                    tenant: TenantId(tenant),
                    campaign: CampaignId(campaign),
                    ..delivery(message, 0)
                };
                s.enqueue(ms(0), new).unwrap();
            }
        }
    };
    add(1, 1, 2000, 1);
    add(1, 2, 2000, 1);
    add(2, 1, 2000, 1);
    add(3, 1, 400, 33);
    let open = next_open(&mut s, ms(0)).unwrap();
    s.opened(ms(0), open.session).unwrap();
    let mut turns = BTreeMap::new();
    for _ in 0..700 {
        let new = serve(&mut s, ms(0), open.session).unwrap();
        *turns.entry((new.tenant.0, new.campaign.0)).or_insert(0) += 1;
    }
    // Tenants 1 and 2: 300 turns each, of which tenant 1's campaigns have half. Tenant 3 pays two
    // turns more for each transaction with 33 recipients.
    let near = |key, n: i32| {
        let turns: i32 = turns[&key];
        assert!((turns - n).abs() <= 3, "{key:?} had {turns} of {n}");
    };
    near((1, 1), 150);
    near((1, 2), 150);
    near((2, 1), 300);
    near((3, 1), 100);
}

#[test]
fn classes_share_as_documented() {
    let mut s = routed(unlimited(), 10, 1);
    for n in 0..3000 {
        let new = New {
            class: Class::ALL[n as usize % 3],
            ..delivery(n, 0)
        };
        s.enqueue(ms(0), new).unwrap();
    }
    let open = next_open(&mut s, ms(0)).unwrap();
    s.opened(ms(0), open.session).unwrap();
    let mut line = String::new();
    for n in 0..63 {
        line.push(match serve(&mut s, ms(0), open.session).unwrap().class {
            Class::Transactional => 'T',
            Class::Normal => 'n',
            Class::Bulk => '.',
        });
        if n % 21 == 20 {
            line.push('\n');
        }
    }
    insta::assert_snapshot!(line, @r"
    TTTTTTTTTTTTTTTTnnnn.
    TTTTTTTTTTTTTTTTnnnn.
    TTTTTTTTTTTTTTTTnnnn.
    ");
}

#[test]
fn a_site_with_100_000_due_deliveries_makes_way() {
    // Two places for all; the giant has both and never runs out of work.
    let mut s = routed(unlimited(), 2, 51);
    for n in 0..100_000 {
        s.enqueue(ms(0), delivery(n, 0)).unwrap();
    }
    let mut sessions: Vec<Open> = Vec::new();
    while let Some(open) = next_open(&mut s, ms(0)) {
        s.opened(ms(0), open.session).unwrap();
        sessions.push(open);
    }
    assert_eq!(sessions.len(), 2);
    for n in 1..=50 {
        s.enqueue(ms(0), delivery(n, n)).unwrap();
    }
    let (mut transactions, mut served) = (0, 0);
    while served < 50 {
        let open = sessions.remove(0);
        match serve(&mut s, ms(0), open.session) {
            Some(new) => {
                transactions += 1;
                served += u32::from(new.dest != DestId(0));
                sessions.push(open);
            }
            None => {
                s.closed(ms(0), open.session, Closed::Done).unwrap();
            }
        }
        if let Some(open) = next_open(&mut s, ms(0)) {
            assert!(sessions.len() < 2);
            s.opened(ms(0), open.session).unwrap();
            sessions.push(open);
        }
    }
    assert!(transactions < 51 * 12, "{transactions} transactions");
}

#[test]
fn sites_of_one_provider_share_its_few_connections() {
    let limits = Limits {
        concurrency: 2,
        ..unlimited()
    };
    let mut s = Scheduler::new(Config {
        limits,
        ..Config::default()
    });
    s.set_pool(PoolId(0), &[(SourceId(0), 1)]);
    for n in 0..200u32 {
        let route = Route {
            site: SiteId(n),
            gate: GateId(0),
            valid_until: Instant::FAR,
        };
        s.route(DestId(n), route);
        for m in 0..if n == 0 { 10_000 } else { 1 } {
            s.enqueue(ms(0), delivery(n * 10_000 + m, n)).unwrap();
        }
    }
    let mut sessions: Vec<Open> = Vec::new();
    let (mut small, mut steps) = (0, 0);
    while small < 199 {
        while let Some(open) = next_open(&mut s, ms(0)) {
            s.opened(ms(0), open.session).unwrap();
            sessions.push(open);
        }
        assert!(!sessions.is_empty() && sessions.len() <= 2);
        steps += 1;
        let open = sessions.remove(0);
        match serve(&mut s, ms(0), open.session) {
            Some(new) => {
                small += u32::from(new.dest != DestId(0));
                sessions.push(open);
            }
            None => {
                s.closed(ms(0), open.session, Closed::Done).unwrap();
            }
        }
    }
    assert!(steps < 199 * 14, "{steps}");
}

/// Enqueues `n` deliveries of many tenants, campaigns and sites, and serves some.
fn cost(n: u32) -> (f64, Scheduler) {
    let mut s = routed(unlimited(), 20_000, 100);
    for i in 0..n {
        let new = New {
            tenant: TenantId(i % 10),
            campaign: CampaignId(i % 30),
            class: Class::ALL[i as usize % 3],
            ..delivery(i / 3, (i / 30) % 100)
        };
        s.enqueue(ms(0), new).unwrap();
    }
    let mut sessions = Vec::new();
    while let Some(open) = next_open(&mut s, ms(0)) {
        s.opened(ms(0), open.session).unwrap();
        sessions.push(open.session);
    }
    let before = s.steps();
    let decisions = 800;
    for i in 0..decisions {
        let session = sessions[i % sessions.len()];
        let mut out = Vec::new();
        s.take(ms(0), session, 100, &mut out);
        for id in out {
            let due = ms(1000 * 3600);
            let report = Report::Deferred {
                due,
                exclude_source: false,
            };
            s.report(ms(0), id, report).unwrap();
        }
    }
    ((s.steps() - before) as f64 / decisions as f64, s)
}

#[test]
fn a_decision_costs_the_same_with_a_thousand_times_as_many_queued() {
    let (few, _) = cost(3_000);
    let (many, _) = cost(1_000_000);
    assert!(
        many <= few * 1.1 + 0.5,
        "{few} steps with few, {many} with many"
    );
}

#[test]
fn bytes_per_queued_delivery() {
    for (what, due) in [("waiting", ms(1000)), ("in lanes", ms(0))] {
        let mut s = routed(unlimited(), 1000, 1000);
        for i in 0..1_000_000 {
            let new = New {
                tenant: TenantId(i % 50),
                campaign: CampaignId(i % 200),
                due,
                ..delivery(i, i / 7 % 1000)
            };
            s.enqueue(ms(0), new).unwrap();
        }
        let each = s.bytes() as f64 / 1e6;
        println!("{what}: {each:.1} bytes per delivery");
        assert!(each <= 96.0, "{what}: {each}");
    }
}
