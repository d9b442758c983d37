//! One shard: does what the scheduler says, as `runner/src/shard/drive.rs`, `sessions.rs` and
//! `feedback/settle.rs` do, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use courser::config::{Rate, Retry};
use courser::feedback::settle::{Fate, Said, lane_rest};
use courser::queue::message::Message;
use courser::queue::providers::schedule;
use courser::queue::sites::Sites;
use courser::queue::{Entry, Known, Queue};
use courser::route::Routed;
use courser::session::LaneTask;
use courser::session::connect::Unreachable;
use courser::session::transaction::Leased;
use courser::shard::drive::route_verdict;
use courser::spool::{Batch, Deferral, Outcome, OutcomeKind};
use courser_core::dns::{Answer, Asked, Input, Output, QueryId, Question, Resolver, Token};
use courser_core::feedback::verdict::{Scope, Verdict};
use courser_core::limits::DNS_QUERY_BYTES_MAX;
use courser_core::mail::address::Domain;
use courser_core::route::tls::{Demand, Level};
use courser_core::route::{MxLookup, Step};
use courser_core::smtp::client::EhloName;
use courser_core::time::{Instant, Wall};
use courser_core::traffic::hosts::{Hosts, Memory};
use courser_core::traffic::retry;
use courser_core::traffic::scheduler::{
    self, Action, BlockReason, Cause, Closed, DeliveryId, DestId, Open, Report, Route, Scheduler,
    Take,
};

use crate::checkers::Turns;
use crate::mutations::Fault;
use crate::names::SERVERS;
use crate::session::Client;
use crate::world::{Event, World};

/// As in the runner.
const ROUTE_AGAIN_MIN: Duration = Duration::from_secs(5);
const ROUTE_AGAIN_MAX: Duration = Duration::from_secs(300);
const SWEEP: u32 = 20_000;
const SWEEP_EVERY: Duration = Duration::from_secs(1);
const BUSY_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Shard {
    pub(crate) queue: Queue,
    pub(crate) hosts: Hosts,
    pub(crate) liars: BTreeSet<SocketAddr>,
    pub(crate) troubles: BTreeMap<(u16, u32), (LaneTask, Unreachable)>,
    /// Sessions that take transactions, by source and site.
    pub(crate) working: BTreeMap<(u16, u32), BTreeSet<u32>>,
    /// Sessions of the scheduler, as the world numbers them.
    pub(crate) by_session: BTreeMap<u32, u64>,
    pub(crate) sessions_max: u32,
    pub(crate) turns: Turns,
    pub(crate) drive_at: Option<u64>,
    swept: Instant,
    resolver: Resolver,
    dns_at: Option<u64>,
    routes: BTreeMap<u64, Routing>,
    waiting: BTreeMap<u64, (u64, Question)>,
    next: u64,
}

/// A domain whose route is being found.
struct Routing {
    domain: Arc<str>,
    lookup: MxLookup,
}

/// Deliveries that go to other shards, by shard and domain.
type Outgoing = BTreeMap<(usize, Arc<str>), (Routed, Vec<Entry>)>;

/// Something that comes back from a name server.
pub(crate) enum Dns {
    Datagram(SocketAddr, u16, Vec<u8>),
    Tcp(QueryId, Option<Vec<u8>>),
}

impl Shard {
    pub(crate) fn new(world: &mut World, index: usize) -> Self {
        let config = world.config.clone();
        let max = config.limits.max_delivery_sessions;
        let shards = world.shape.shards;
        let more = usize::from(world.fault == Some(Fault::OneSessionMore));
        let share = (max / shards + usize::from(index < max % shards)).max(1) + more;
        let share = share as u32;
        let mut limits = courser::queue::providers::limits(
            &config.delivery.limits,
            config.delivery.idle_keepalive,
        );
        let twice = |r: Rate| {
            let per_s = r.period().as_secs() as u32;
            Rate::new(r.count() * 2, per_s).with_burst(r.burst() + 1)
        };
        match world.fault {
            Some(Fault::OneConnectionMore) => limits.concurrency += 1,
            Some(Fault::TwiceAsFast) => limits.message_rate = limits.message_rate.map(twice),
            Some(Fault::ConnectsTwiceAsFast) => {
                limits.connection_rate = limits.connection_rate.map(twice);
            }
            Some(Fault::OneRecipientMore) => limits.recipients_per_transaction += 1,
            Some(Fault::OneMessageMore) => limits.messages_per_connection += 1,
            _ => {}
        }
        let scheduler = Scheduler::new(scheduler::Config {
            sessions_max: share,
            limits,
            unreachable_first: config.delivery.dead_host.first,
            unreachable_max: config.delivery.dead_host.max,
        });
        let mut queue = Queue::new(scheduler, Sites::new(world.providers.clone()));
        queue.set_pools(&config);
        let mut dns = courser_core::dns::Config::new(SERVERS.to_vec());
        dns.sockets = 2;
        let mut seed = [0; 32];
        for part in seed.chunks_exact_mut(8) {
            part.copy_from_slice(&world.random.next().to_le_bytes());
        }
        Self {
            queue,
            hosts: Hosts::new(Memory {
                first: config.delivery.dead_host.first,
                max: config.delivery.dead_host.max,
                ..Memory::default()
            }),
            liars: BTreeSet::new(),
            troubles: BTreeMap::new(),
            working: BTreeMap::new(),
            by_session: BTreeMap::new(),
            sessions_max: share,
            turns: Turns::default(),
            drive_at: None,
            swept: world.instant(),
            resolver: Resolver::new(dns, seed),
            dns_at: None,
            routes: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next: 0,
        }
    }
}

impl World {
    /// A shard of the server that runs.
    pub(crate) fn shard(&mut self, n: usize) -> Option<&mut Shard> {
        self.server.as_mut().map(|s| &mut s.shards[n])
    }

    /// The scheduler may have something to do.
    pub(crate) fn kick(&mut self, shard: usize) {
        let at = self.now + self.random.below(50_000);
        self.drive_by(shard, at);
    }

    fn drive_by(&mut self, n: usize, at: u64) {
        let Some(shard) = self.shard(n) else { return };
        if shard.drive_at.is_none_or(|set| set > at) {
            shard.drive_at = Some(at);
            self.at(at, Event::Drive(n));
        }
    }

    /// Drives the scheduler until it has nothing to do.
    pub(crate) fn drive(&mut self, n: usize) {
        let now = self.now;
        let at = self.instant();
        let Some(shard) = self.shard(n) else { return };
        if shard.drive_at != Some(now) {
            return;
        }
        shard.drive_at = None;
        if at.since(shard.swept) >= SWEEP_EVERY {
            shard.swept = at;
            shard.queue.scheduler.sweep(at, SWEEP);
        }
        let mut outgoing = Outgoing::new();
        let mut quiet = 0;
        while self.broken.is_none() {
            let Some(shard) = self.shard(n) else { return };
            match shard.queue.scheduler.poll(at) {
                Some(action) => {
                    quiet = 0;
                    self.act(n, action, &mut outgoing);
                }
                // It may have stopped only to let others work.
                None if quiet < 4
                    && shard
                        .queue
                        .scheduler
                        .next_wakeup()
                        .is_some_and(|wake| wake <= at) =>
                {
                    quiet += 1;
                }
                None => break,
            }
        }
        for ((shard, domain), (routed, entries)) in outgoing {
            self.hand_over(shard, domain, routed, entries);
        }
        self.note_order(n);
        let Some(shard) = self.shard(n) else { return };
        if let Some(wake) = shard.queue.scheduler.next_wakeup() {
            let at = wake.as_nanos().max(now + 1_000);
            self.drive_by(n, at);
        }
    }

    pub(crate) fn sweep(&mut self, n: usize) {
        let at = self.instant();
        if let Some(shard) = self.shard(n) {
            shard.swept = at;
            shard.queue.scheduler.sweep(at, SWEEP);
            self.kick(n);
        }
    }

    fn act(&mut self, n: usize, action: Action, outgoing: &mut Outgoing) {
        match action {
            Action::Resolve(dest) => self.resolve(n, dest),
            Action::Open(open) => self.open(n, open),
            Action::Wake(session) => {
                self.say(|| format!("{session} is woken"));
                if self.fault != Some(Fault::MissesWakeUps) {
                    self.ring(n, session.0, false);
                }
            }
            Action::Close(session) => {
                self.say(|| format!("{session} is to close"));
                self.ring(n, session.0, true);
            }
            Action::Settle(delivery, cause) => self.settle_alone(n, delivery, cause, outgoing),
        }
    }

    fn open(&mut self, n: usize, open: Open) {
        let config = self.config.clone();
        let now = self.now;
        let Some(shard) = self.shard(n) else { return };
        let (Some(source), Some(site)) = (
            config.sources.get(usize::from(open.source.0)),
            shard.queue.sites.get(open.site),
        ) else {
            return self.violation(format!("{open:?} is of nothing"));
        };
        let task = LaneTask {
            session: open.session,
            lane: open.lane,
            plan: site.plan.clone(),
            site: site.name.clone(),
            provider: site.provider.clone(),
            source: Arc::from(&*source.name),
            source_address: source.address,
            ehlo_name: EhloName::new(&source.ehlo).expect("a checked name"),
            lmtp: site.lmtp,
            tls: Level::Off,
            demand: Demand::default(),
            login: None,
            sts: site.sts.clone(),
            implicit_tls: false,
            config: config.clone(),
            source_id: open.source,
            site_id: open.site,
        };
        self.next_client += 1;
        let number = self.next_client;
        let Some(shard) = self.shard(n) else { return };
        if shard.by_session.insert(open.session.0, number).is_some() {
            return self.violation(format!("{} is opened twice", open.session));
        }
        let client = Client::new(n, number, task, self.instant());
        self.say(|| format!("session {number} opens toward {}", client.task.site));
        let limits = self.limits_toward(&client.toward);
        let right = self.network.watch.begins(&client.toward, &limits, now);
        self.check(right);
        let most = self
            .config
            .limits
            .max_delivery_sessions
            .max(self.shape.shards);
        if self.network.watch.sessions as usize > most {
            let sessions = self.network.watch.sessions;
            return self.violation(format!("{sessions} sessions, {most} may be"));
        }
        if let Some(server) = &mut self.server {
            server.clients.insert(number, client);
        }
        self.with_client(number, World::try_next);
    }

    /// What a receiver's limits are, by the configuration.
    pub(crate) fn limits_toward(
        &self,
        toward: &crate::network::Toward,
    ) -> courser::config::LaneLimits {
        let config = &self.shape.config;
        let provider = config.providers.iter().find(|p| *p.name == toward.1);
        provider.map_or_else(
            || config.delivery.limits.clone(),
            |provider| provider.limits.clone(),
        )
    }

    // -- routes --

    fn resolve(&mut self, n: usize, dest: DestId) {
        let seed = self.random.next();
        let options = self.route_options.clone();
        let Some(shard) = self.shard(n) else { return };
        let domain = shard.queue.domain_name(dest);
        let lookup = match Domain::parse(&domain) {
            Ok(parsed) => MxLookup::new(parsed, options, seed),
            Err(_) => MxLookup::new(Domain::Name(&domain), options, seed),
        };
        shard.next += 1;
        let number = shard.next;
        shard.routes.insert(number, Routing { domain, lookup });
        self.route_on(n, number);
    }

    /// Goes on with a route: asks what it wants to be asked.
    fn route_on(&mut self, n: usize, number: u64) {
        let now = self.instant();
        loop {
            let Some(shard) = self.shard(n) else { return };
            let Some(routing) = shard.routes.get_mut(&number) else {
                return;
            };
            match routing.lookup.poll() {
                Step::Ask(question) => self.ask(n, number, question),
                Step::Wait => break,
                Step::Done(result) => {
                    let domain = routing.domain.clone();
                    shard.routes.remove(&number);
                    match result {
                        Ok(plan) => {
                            let routed = Routed {
                                plan: Arc::new(plan),
                                lmtp: false,
                                tls: None,
                                login: None,
                                sts: None,
                                sts_fault: None,
                                implicit_tls: false,
                            };
                            self.say(|| format!("{domain} goes to {:?}", routed.plan.mx_names));
                            self.learn_route(n, &domain, &routed, false);
                        }
                        Err(error) => {
                            self.say(|| format!("{domain} has no route: {error}"));
                            let again = error.valid_for.clamp(ROUTE_AGAIN_MIN, ROUTE_AGAIN_MAX);
                            let Some(shard) = self.shard(n) else { return };
                            if let Some(dest) = shard.queue.dest(&domain) {
                                let error = Arc::new(error);
                                shard.queue.know(dest, Some(Known::Failed { error }));
                                shard.queue.scheduler.route_failed(dest, now + again);
                            }
                        }
                    }
                    return self.kick(n);
                }
            }
        }
        self.poll_dns(n);
    }

    pub(crate) fn ask(&mut self, n: usize, number: u64, question: Question) {
        let now = self.instant();
        let Some(shard) = self.shard(n) else { return };
        shard.next += 1;
        let token = shard.next;
        match shard.resolver.ask(now, Token(token), question.clone()) {
            Asked::Answered(answer) => self.answered(n, number, &question, &answer),
            Asked::Pending => {
                shard.waiting.insert(token, (number, question));
            }
            Asked::Busy => {
                let event = Event::AskAgain(n, number, Box::new(question));
                self.at_delay(BUSY_PAUSE, event);
            }
        }
    }

    fn answered(&mut self, n: usize, number: u64, question: &Question, answer: &Answer) {
        let now = self.instant();
        if let Some(shard) = self.shard(n)
            && let Some(routing) = shard.routes.get_mut(&number)
        {
            routing.lookup.answer(now, question, answer);
        }
    }

    /// Does what the resolver says.
    pub(crate) fn poll_dns(&mut self, n: usize) {
        let now = self.instant();
        let mut out = [0; DNS_QUERY_BYTES_MAX];
        let mut touched = BTreeSet::new();
        let soon = self.now + 1;
        loop {
            let Some(shard) = self.shard(n) else { return };
            match shard.resolver.poll(now, &mut out) {
                Output::SendUdp {
                    to, socket, len, ..
                } => {
                    for (wait, bytes) in self.names.answer(&out[..len], false, &self.receivers) {
                        if let Some(bytes) = bytes {
                            let dns = Dns::Datagram(to, socket, bytes);
                            self.at(self.now + wait, Event::Dns(n, dns));
                        }
                    }
                }
                Output::SendTcp { len, query, .. } => {
                    for (wait, bytes) in self.names.answer(&out[..len], true, &self.receivers) {
                        self.at(self.now + wait, Event::Dns(n, Dns::Tcp(query, bytes)));
                    }
                }
                Output::Answer {
                    token,
                    question,
                    answer,
                } => match shard.waiting.remove(&token.0) {
                    Some((number, asked)) if asked == question => {
                        self.answered(n, number, &question, &answer);
                        touched.insert(number);
                    }
                    _ => {
                        return self
                            .violation(format!("an answer that nobody wants: {question:?}"));
                    }
                },
                Output::Wait(until) => {
                    if let Some(until) = until {
                        let at = until.as_nanos().max(soon);
                        if shard
                            .dns_at
                            .is_none_or(|set| set > at || set <= now.as_nanos())
                        {
                            shard.dns_at = Some(at);
                            self.at(at, Event::DnsWake(n));
                        }
                    }
                    break;
                }
            }
        }
        for number in touched {
            self.route_on(n, number);
        }
    }

    pub(crate) fn dns_wake(&mut self, n: usize) {
        if let Some(shard) = self.shard(n) {
            shard.dns_at = None;
            self.poll_dns(n);
        }
    }

    pub(crate) fn dns_came(&mut self, n: usize, dns: &Dns) {
        let now = self.instant();
        let Some(shard) = self.shard(n) else { return };
        let input = match dns {
            Dns::Datagram(from, socket, bytes) => Input::Datagram {
                from: *from,
                socket: *socket,
                bytes,
            },
            Dns::Tcp(query, Some(bytes)) => Input::TcpReply {
                query: *query,
                bytes,
            },
            Dns::Tcp(query, None) => Input::TcpFailed { query: *query },
        };
        shard.resolver.handle(now, input);
        self.poll_dns(n);
    }

    pub(crate) fn learn_route(&mut self, n: usize, domain: &str, routed: &Routed, mine: bool) {
        let config = self.config.clone();
        let (now, shards) = (self.instant(), self.shape.shards);
        let until = now + routed.plan.valid_for;
        let Some(shard) = self.shard(n) else { return };
        let queue = &mut shard.queue;
        let Some(dest) = queue.dest(domain) else {
            return;
        };
        let owner = queue.sites.owner(&config, domain, &routed.plan, shards);
        if owner != n && !mine {
            queue.know(
                dest,
                Some(Known::Elsewhere {
                    shard: owner,
                    routed: routed.clone(),
                    until,
                }),
            );
            return queue.scheduler.route_elsewhere(dest, until);
        }
        queue.know(dest, None);
        let learned = queue.sites.learn(domain, routed, Demand::default());
        if let Some(limits) = learned.limits {
            queue.scheduler.set_limits(now, learned.gate, limits);
        }
        queue.set_site(dest, learned.site);
        queue.scheduler.route(
            dest,
            Route {
                site: learned.site,
                gate: learned.gate,
                valid_until: until,
            },
        );
    }

    // -- work --

    /// The next transaction for a session.
    pub(crate) fn take_work(&mut self, client: &Client, most: Option<u32>) -> Work {
        let now = self.instant();
        if !self.server.as_ref().is_some_and(|s| s.can_keep()) {
            return Work::Wait(Duration::from_millis(100));
        }
        let before = self.waiting_in(client.shard, client.task.lane);
        let mut batch: Vec<DeliveryId> = Vec::new();
        let Some(shard) = self.shard(client.shard) else {
            return Work::Close;
        };
        let most = most.unwrap_or(u32::MAX).max(1);
        let taken = shard
            .queue
            .scheduler
            .take(now, client.task.session, most, &mut batch);
        // Civil time is read in whole milliseconds; after a restart, dates are in whole seconds.
        let slack = Duration::from_millis(if self.stops > 0 { 3000 } else { 1 });
        let work = match taken {
            Take::Batch(_) => {
                let right = self.check_order(client.shard, client.task.lane, &before, &batch);
                self.check(right);
                let limits = self.limits_toward(&client.toward);
                let given = self.now;
                let right = self.network.watch.gives(&client.toward, &limits, given);
                self.check(right);
                let mut message = None;
                let mut leased = Vec::with_capacity(batch.len());
                for id in batch {
                    let Some(shard) = self.shard(client.shard) else {
                        return Work::Close;
                    };
                    let Some((m, l)) = shard.queue.leased(id) else {
                        self.violation(format!("{id} was taken and has no message"));
                        return Work::Close;
                    };
                    let key = self.books.by_id[&m.id()];
                    let right = self.books.tried(now, key, l.recipient, slack);
                    self.check(right);
                    message.get_or_insert(m);
                    leased.push(l);
                }
                match message {
                    Some(message) => Work::Batch(message, leased),
                    None => Work::Close,
                }
            }
            Take::Wait(until) | Take::Idle(until) => {
                self.say(|| format!("session {} has to wait: {taken:?}", client.number));
                Work::Wait(until.since(now))
            }
            Take::Close(_) => Work::Close,
        };
        // What had expired has to be settled, and the lane may want more sessions.
        self.kick(client.shard);
        work
    }

    /// The session's place is free; until when its lane pauses, if it does.
    pub(crate) fn close_session(&mut self, client: &Client, how: Closed) -> Option<Instant> {
        self.network.watch.ends(&client.toward);
        let now = self.instant();
        let key = (client.task.source_id.0, client.task.site_id.0);
        let session = client.task.session;
        let shard = self.shard(client.shard)?;
        shard.by_session.remove(&session.0);
        if let Some(sessions) = shard.working.get_mut(&key) {
            sessions.remove(&session.0);
            if sessions.is_empty() {
                shard.working.remove(&key);
            }
        }
        match shard.queue.scheduler.closed(now, session, how) {
            Ok(until) => until,
            Err(misuse) => {
                self.violation(format!("closed: {misuse}"));
                None
            }
        }
    }

    /// No host of a lane takes us now: the lane pauses, and what was ready in it counts an attempt.
    pub(crate) fn lane_unreachable(&mut self, client: &Client, trouble: &Unreachable) {
        let now = self.instant();
        self.say(|| format!("session {}: {}", client.number, trouble.said.line()));
        let _ = self.close_session(client, Closed::Unreachable);
        let key = (client.task.source_id.0, client.task.site_id.0);
        let lane = client.task.lane;
        let Some(shard) = self.shard(client.shard) else {
            return;
        };
        // A lane where nothing is left is forgotten.
        let _ = shard.queue.scheduler.flush_lane(now, lane);
        shard.turns.disturbed();
        shard
            .troubles
            .insert(key, (client.task.clone(), trouble.clone()));
        self.kick(client.shard);
    }

    pub(crate) fn rest_lane(&mut self, n: usize, task: &LaneTask, rest: Duration) {
        let now = self.instant();
        let until = now + rest;
        let lane = task.lane;
        let Some(shard) = self.shard(n) else {
            return;
        };
        let scheduler = &mut shard.queue.scheduler;
        let view = scheduler.lane_view(lane);
        if let Some(view) = view
            && (view.source, view.site) != (task.source_id, task.site_id)
        {
            return self.violation(format!("{lane} is another lane by now, and is to rest"));
        }
        let blocked = view.and_then(|l| l.block).is_some_and(|b| b.until >= until);
        if !blocked {
            let rested = scheduler.block_lane(now, lane, until, BlockReason::Throttled);
            if let Err(misuse) = rested {
                return self.violation(format!("block_lane: {misuse}"));
            }
            self.say(|| format!("{lane} rests for {rest:?}"));
            self.kick(n);
        }
    }

    /// A delivery that was handed out was not tried after all.
    pub(crate) fn put_back(&mut self, n: usize, message: &Message, leased: Leased) {
        let now = self.instant();
        let key = self.books.by_id[&message.id()];
        self.books.recipient(key, leased.recipient).in_flight = false;
        let report = match self.fault {
            Some(Fault::PutsBackBehind) => Report::Deferred {
                due: now,
                exclude_source: false,
            },
            _ => Report::NotTried,
        };
        let Some(shard) = self.shard(n) else { return };
        shard.turns.comes_back(leased.delivery);
        let scheduler = &mut shard.queue.scheduler;
        let reported = scheduler.report(now, leased.delivery, report);
        if let Err(misuse) = reported {
            return self.violation(format!("put back: {misuse}"));
        }
        self.note_order(n);
        self.kick(n);
    }

    // -- outcomes --

    pub(crate) fn retry_of(&self, message: &Message) -> Retry {
        let view = message.envelope();
        let stream = self.config.stream_named(view.stream()).unwrap_or(0);
        let mut retry = self.config.streams[stream].retry.clone();
        if self.fault == Some(Fault::LivesTooLong) {
            retry.life *= 3;
        }
        retry
    }

    /// Ends an attempt. `task`: the lane that it was made in.
    pub(crate) fn settle(
        &mut self,
        n: usize,
        task: Option<&LaneTask>,
        message: &Arc<Message>,
        leased: Leased,
        fate: Fate,
    ) {
        match fate {
            Fate::PutBack => self.put_back(n, message, leased),
            Fate::Delivered { said, .. } => {
                if self.fault == Some(Fault::SendsAgain) && leased.recipient == 0 {
                    return self.put_back(n, message, leased);
                }
                self.end(n, message, leased, OutcomeKind::Delivered, &said);
            }
            Fate::Failed {
                verdict,
                said,
                unknown,
            } => self.settle_failed(n, task, message, leased, &verdict, &said, unknown),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn settle_failed(
        &mut self,
        n: usize,
        task: Option<&LaneTask>,
        message: &Arc<Message>,
        leased: Leased,
        verdict: &Verdict,
        said: &Said,
        unknown: bool,
    ) {
        let key = self.books.by_id[&message.id()];
        self.books.recipient(key, leased.recipient).excuses += u32::from(unknown);
        if let Some(task) = task
            && let Some(rest) = lane_rest(verdict)
        {
            self.rest_lane(n, task, rest);
        }
        if verdict.permanent {
            return self.end(n, message, leased, OutcomeKind::Bounced, said);
        }
        let now = self.instant();
        let retry = self.retry_of(message);
        let Some(shard) = self.shard(n) else { return };
        let Some(view) = shard.queue.scheduler.get(leased.delivery) else {
            return self.violation(format!("{} was tried and isn't there", leased.delivery));
        };
        let attempts = u32::from(view.delivery.attempts) + 1;
        let age = message.age(now);
        let next = retry::Attempt {
            number: attempts,
            age,
            message: message.id(),
            retry_after: verdict.retry_after,
        };
        let Some(wait) = schedule(&retry).next(&next, 0) else {
            return self.end(n, message, leased, OutcomeKind::Expired, said);
        };
        let wait = match self.fault {
            Some(Fault::WaitsTooLong) => wait * 3,
            _ => wait,
        };
        self.say(|| {
            format!(
                "m{key}-{} deferred for {wait:?}: {}",
                leased.recipient,
                said.line()
            )
        });
        let hint = verdict.retry_after;
        let right = self
            .books
            .deferred(now, key, leased.recipient, attempts, wait, hint, &retry);
        self.check(right);
        let wall = Wall::from_unix(self.wall_ms().div_euclid(1000));
        let record = Outcome {
            recipient: leased.recipient,
            kind: OutcomeKind::Deferred(Deferral {
                attempts,
                at: wall,
                due: wall.plus_s(wait.as_secs() as i64),
                text: said.line().into(),
                source: task.map_or("", |t| &t.source).into(),
            }),
        };
        self.keep(Batch::new().outcomes(message.id(), &[record]));
        let wait = match self.fault {
            Some(Fault::RetriesEarly) => wait / 2,
            _ => wait,
        };
        let wall_ms = self.wall_ms();
        let Some(shard) = self.shard(n) else { return };
        shard.queue.note(leased.delivery, &said.line(), wall_ms);
        let reported = shard.queue.scheduler.report(
            now,
            leased.delivery,
            Report::Deferred {
                due: now + wait,
                exclude_source: verdict.scope == Scope::Source,
            },
        );
        if let Err(misuse) = reported {
            return self.violation(format!("deferred: {misuse}"));
        }
        self.kick(n);
    }

    fn settle_alone(
        &mut self,
        n: usize,
        delivery: DeliveryId,
        cause: Cause,
        outgoing: &mut Outgoing,
    ) {
        let now = self.instant();
        let Some(shard) = self.shard(n) else { return };
        let queue = &mut shard.queue;
        let (Some(view), Some((message, leased))) =
            (queue.scheduler.get(delivery), queue.leased(delivery))
        else {
            return self.violation(format!("{delivery} is settled and isn't there"));
        };
        shard.turns.disturbed();
        let known = queue.known(view.delivery.dest).cloned();
        match (cause, known) {
            (Cause::Elsewhere, Some(Known::Elsewhere { shard, routed, .. })) => {
                let domain = queue.domain_name(view.delivery.dest);
                match queue.remove(now, delivery) {
                    Ok((new, last)) => {
                        let entry = Entry {
                            message,
                            recipient: new.recipient,
                            attempts: new.attempts,
                            due: new.due,
                            source: new.source,
                            held: new.hold,
                            last,
                        };
                        if self.fault == Some(Fault::LosesBetweenShards) && new.recipient == 1 {
                            return;
                        }
                        let list = outgoing.entry((shard, domain));
                        list.or_insert_with(|| (routed, Vec::new())).1.push(entry);
                    }
                    Err(misuse) => self.violation(format!("remove: {misuse}")),
                }
            }
            (Cause::RouteFailed, Some(Known::Failed { error })) => {
                let said = Said {
                    enhanced: Some(error.enhanced),
                    ..Said::locally(error.text.clone())
                };
                let fate = Fate::Failed {
                    verdict: route_verdict(&error),
                    said,
                    unknown: false,
                };
                self.settle(n, None, &message, leased, fate);
            }
            (Cause::Elsewhere | Cause::RouteFailed, _) => {
                queue.scheduler.forget_failure(view.delivery.dest);
                self.not_tried(n, delivery);
            }
            (Cause::Flushed, _) => {
                let trouble = queue.site_of(view.delivery.dest).and_then(|site| {
                    let source = view.delivery.source?;
                    shard.troubles.get(&(source.0, site.0)).cloned()
                });
                match trouble {
                    Some((task, trouble)) => {
                        let fate = Fate::Failed {
                            verdict: trouble.verdict,
                            said: trouble.said,
                            unknown: false,
                        };
                        self.settle(n, Some(&task), &message, leased, fate);
                    }
                    None => self.not_tried(n, delivery),
                }
            }
            (Cause::Expired, _) => {
                let said = Said::locally("expired");
                self.end(n, &message, leased, OutcomeKind::Expired, &said);
            }
        }
    }

    fn not_tried(&mut self, n: usize, delivery: DeliveryId) {
        let now = self.instant();
        let Some(shard) = self.shard(n) else { return };
        let reported = shard
            .queue
            .scheduler
            .report(now, delivery, Report::NotTried);
        if let Err(misuse) = reported {
            self.violation(format!("not tried: {misuse}"));
        }
    }
}

/// What a session gets when it asks for work.
pub(crate) enum Work {
    /// One transaction.
    Batch(Arc<Message>, Vec<Leased>),
    /// Nothing now; look again after so long, or when the bell rings.
    Wait(Duration),
    /// Quit.
    Close,
}
