//! The resolver: questions in, datagrams out, datagrams in, answers out.
//!
//! ```text
//!            ask                poll                    handle: an answer that fits
//! (question) ───▶ waiting turn ──────▶ in flight ─────────────────────────────────▶ done
//!                     ▲                   │  │                                        ▲
//!                     │  no answer in time, │ CNAME to elsewhere, cut answer,         │
//!                     └──── SERVFAIL, … ◀───┘ other case: ask on, or by TCP           │
//!                     └──────────── given up: every server failed, or time is up ─────┘
//! ```
//!
//! A *lookup* is one open question with everybody who waits for it. It is asked of one server
//! after another, each time with a new id, socket and case pattern; an answer to an earlier
//! attempt still counts while the lookup is open. Deadlines lie in an ordered set, so a poll costs
//! nothing for the lookups that it has nothing to do with.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::cache::Cache;
use super::config::{Config, Dnssec, Stats};
use super::io::{Asked, Input, Output, QueryId, ServerStatus, Token};
use super::name::Name;
use super::query::{
    self, Answer, Decoded, Failure, Fit, Flags, Outcome, Question, Said, question_of,
};
use super::servers::{Mask, Servers, bit};
use crate::limits::{DNS_ATTEMPTS_MAX, DNS_CNAME_CHAIN_MAX};
use crate::time::Instant;

/// One query on its way.
struct Attempt {
    number: u32,
    server: usize,
    /// The socket; `None` for TCP.
    socket: Option<u16>,
    id: u16,
    sent: Instant,
    edns: bool,
    /// The question section as it was sent.
    question: Box<[u8]>,
}

/// One open question.
struct Lookup {
    question: Question,
    /// The name to ask for now: the question's, or where its CNAMEs led.
    asking: Name,
    waiters: Vec<Token>,
    /// Links of the CNAME chain that were followed by asking on.
    links: usize,
    /// Smallest TTL of these links, seconds.
    ttl_s: u32,
    /// Whether all answers so far were secure.
    secure: bool,
    /// In flight, not waiting its turn.
    in_flight: bool,
    tcp: bool,
    /// Ask this server next: what it said asks for it.
    prefer: Option<usize>,
    /// Servers that will not do for this name.
    failed: Mask,
    /// Servers that were asked.
    asked: Mask,
    attempts: Vec<Attempt>,
    /// Queries sent for this name.
    sent: usize,
    /// Those of them that weren't the same question to the same server in another form.
    tries: usize,
    /// Number of the latest attempt.
    latest: u32,
    last_failure: Option<Failure>,
    give_up: Instant,
    /// The entry in the set of deadlines.
    deadline: Instant,
}

/// A sans-IO stub resolver with a cache.
///
/// Order of calls: [`ask`](Self::ask) whenever an answer is wanted; [`handle`](Self::handle) for
/// everything that happens; after either, and when the instant of the last
/// [`Output::Wait`] has come, [`poll`](Self::poll) until it says `Wait` again. It is best to ask
/// everything that is to be asked, and to hand in all datagrams that are there, and only then to
/// poll.
///
/// ```
/// use courser_core::dns::{Asked, Config, Kind, Name, Output, Question, Resolver, Token};
/// use courser_core::time::Instant;
///
/// let config = Config::new(vec!["127.0.0.1:53".parse().unwrap()]);
/// let mut resolver = Resolver::new(config, [7; 32]); // the seed: real random bytes
/// let question = Question::new(Name::parse("example.com").unwrap(), Kind::Mx);
/// assert_eq!(resolver.ask(Instant::ZERO, Token(1), question), Asked::Pending);
///
/// let mut out = [0; courser_core::limits::DNS_QUERY_BYTES_MAX];
/// let Output::SendUdp { to, socket, len, .. } = resolver.poll(Instant::ZERO, &mut out) else {
///     panic!("a query goes out first")
/// };
/// // sockets[socket].send_to(&out[..len], to)
/// # assert_eq!((to.port(), socket, len), (53, 0, 40));
/// let Output::Wait(Some(_deadline)) = resolver.poll(Instant::ZERO, &mut out) else {
///     panic!("then there is nothing to do but to wait")
/// };
/// ```
pub struct Resolver {
    config: Config,
    random: StdRng,
    servers: Servers,
    cache: Cache,
    stats: Stats,
    next: u64,
    lookups: BTreeMap<u64, Lookup>,
    by_question: BTreeMap<Question, u64>,
    /// (id, socket, server) of every UDP query that may still be answered.
    by_wire: BTreeMap<(u16, u16, usize), QueryId>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Lookups whose turn it is, in order; ended ones are passed over.
    turns: VecDeque<u64>,
    in_flight: usize,
    waiters: usize,
    answers: VecDeque<(Token, Question, Arc<Answer>)>,
}

impl Resolver {
    /// A resolver with an empty cache. `seed` must be random bytes that nobody can guess: ids,
    /// sockets and case patterns come from it (RFC 5452 10).
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        Self {
            random: StdRng::from_seed(seed),
            servers: Servers::new(&config.servers, config.rotate),
            cache: Cache::new(config.cache_entries_max, config.cache_bytes_max),
            stats: Stats::default(),
            next: 0,
            lookups: BTreeMap::new(),
            by_question: BTreeMap::new(),
            by_wire: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            turns: VecDeque::new(),
            in_flight: 0,
            waiters: 0,
            answers: VecDeque::new(),
            config,
        }
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// How the servers do.
    pub fn servers(&self) -> impl Iterator<Item = ServerStatus> + '_ {
        self.servers.iter().map(|s| ServerStatus {
            address: s.address,
            failures: s.failures,
            retry_at: s.retry_at,
            round_trip: s.round_trip,
        })
    }

    /// Answers in the cache, and their bytes, roughly.
    pub fn cached(&self) -> (usize, usize) {
        (self.cache.len(), self.cache.bytes())
    }

    /// Open questions.
    pub fn open(&self) -> usize {
        self.lookups.len()
    }

    /// Forgets what is cached; open questions stay open.
    pub fn clear_cache(&mut self) {
        self.cache.clear();
    }

    /// Asks `question` for `token`. The same question asked twice is sent once.
    pub fn ask(&mut self, now: Instant, token: Token, question: Question) -> Asked {
        self.stats.asked += 1;
        if let Some(answer) = self.cache.get(now, &question) {
            self.stats.cached += 1;
            return Asked::Answered(answer);
        }
        if self.waiters >= self.config.waiters_max {
            self.stats.busy += 1;
            return Asked::Busy;
        }
        if let Some(lookup) = self
            .by_question
            .get(&question)
            .and_then(|id| self.lookups.get_mut(id))
        {
            lookup.waiters.push(token);
            self.waiters += 1;
            self.stats.coalesced += 1;
            return Asked::Pending;
        }
        if self.lookups.len() >= self.config.questions_max {
            self.stats.busy += 1;
            return Asked::Busy;
        }
        let id = self.next;
        self.next += 1;
        let give_up = now + self.config.give_up;
        self.lookups.insert(
            id,
            Lookup {
                asking: question.name.clone(),
                question: question.clone(),
                waiters: alloc::vec![token],
                links: 0,
                ttl_s: u32::MAX,
                secure: true,
                in_flight: false,
                tcp: false,
                prefer: None,
                failed: 0,
                asked: 0,
                attempts: Vec::new(),
                sent: 0,
                tries: 0,
                latest: 0,
                last_failure: None,
                give_up,
                deadline: give_up,
            },
        );
        self.by_question.insert(question, id);
        self.deadlines.insert((give_up, id));
        self.turns.push_back(id);
        self.waiters += 1;
        Asked::Pending
    }

    /// Takes in what happened. Whatever does not fit an open query is counted and ignored.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Datagram {
                from,
                socket,
                bytes,
            } => self.datagram(now, from, socket, bytes),
            Input::TcpReply { query, bytes } => {
                let Some(attempt) = self.attempt(query).filter(|a| a.socket.is_none()) else {
                    self.stats.unmatched += 1;
                    return;
                };
                match query::fit(attempt.id, &attempt.question, bytes) {
                    Fit::Response | Fit::OtherCase => self.response(now, query, bytes),
                    Fit::NotUnderstood => self.not_understood(now, query),
                    Fit::Foreign => {
                        self.stats.wrong_question += 1;
                        self.attempt_failed(now, query, Failure::Malformed);
                    }
                }
            }
            Input::TcpFailed { query } => {
                if self.attempt(query).is_some_and(|a| a.socket.is_none()) {
                    self.stats.send_failures += 1;
                    self.attempt_failed(now, query, Failure::Timeout);
                }
            }
            Input::SendFailed { query } => self.send_failed(now, query),
        }
    }

    /// Says what to do next. `out` must have room for
    /// [`DNS_QUERY_BYTES_MAX`](crate::limits::DNS_QUERY_BYTES_MAX) bytes; a query that has no
    /// room counts as lost.
    pub fn poll(&mut self, now: Instant, out: &mut [u8]) -> Output {
        self.expire(now);
        loop {
            if let Some((token, question, answer)) = self.answers.pop_front() {
                self.waiters -= 1;
                return Output::Answer {
                    token,
                    question,
                    answer,
                };
            }
            if self.in_flight < self.config.in_flight_max.max(1)
                && let Some(id) = self.turns.pop_front()
            {
                if let Some(output) = self.send(now, id, out) {
                    return output;
                }
                continue;
            }
            return Output::Wait(self.deadlines.first().map(|&(at, _)| at));
        }
    }

    // -- sending --

    /// Sends the next query of a lookup; `None` if there is nothing to send.
    fn send(&mut self, now: Instant, id: u64, out: &mut [u8]) -> Option<Output> {
        let lookup = self.lookups.get(&id).filter(|l| !l.in_flight)?;
        let (failed, asked, tcp) = (lookup.failed, lookup.asked, lookup.tcp);
        let rounds = lookup.tries / self.servers.len().max(1);
        let patience = if tcp {
            self.config.tcp_timeout
        } else {
            self.config
                .udp_timeout
                .saturating_mul(1 << rounds.min(4) as u32)
        };
        // The same question in another form to the same server isn't another attempt.
        let enough = self.config.attempts_max.clamp(1, DNS_ATTEMPTS_MAX);
        let done = lookup.tries >= enough && lookup.prefer.is_none();
        let server = if done || lookup.sent >= DNS_ATTEMPTS_MAX {
            None
        } else {
            match lookup.prefer.filter(|&s| failed & bit(s) == 0) {
                Some(server) => Some(server),
                None => self.servers.pick(now, failed, asked, patience),
            }
        };
        let lookup = self.lookups.get_mut(&id)?;
        let Some((server, to)) = server.and_then(|s| Some((s, self.servers.address(s)?))) else {
            let failure = lookup.last_failure.unwrap_or(Failure::Timeout);
            self.fail(now, id, failure);
            return None;
        };
        if lookup.prefer.take() != Some(server) {
            lookup.tries += 1;
        }
        lookup.asked |= bit(server);
        lookup.sent += 1;
        lookup.latest += 1;
        let query = QueryId {
            lookup: id,
            attempt: lookup.latest,
        };

        let edns = self.servers.knows_edns(server, now);
        let flags = Flags {
            edns,
            ad: self.config.dnssec != Dnssec::Off,
            dnssec_ok: self.config.dnssec == Dnssec::Do,
        };
        let socket =
            (!tcp).then(|| (self.random.next_u32() % u32::from(self.config.sockets.max(1))) as u16);
        // 65,536 ids and at most some thousand queries per socket and server: a few draws do.
        let mut wire_id = self.random.next_u32() as u16;
        if let Some(socket) = socket {
            let taken = |id| self.by_wire.contains_key(&(id, socket, server));
            for _ in 0..64 {
                if !taken(wire_id) {
                    break;
                }
                wire_id = self.random.next_u32() as u16;
            }
            if taken(wire_id) {
                // No id is free: this query counts as lost.
                self.set_deadline(id, now + patience);
                self.start(id);
                return None;
            }
        }
        let mix = self.config.case_randomisation;
        let random = &mut self.random;
        let (mut bits, mut left) = (0u32, 0u32);
        let bytes = query::encode(wire_id, &lookup.asking, lookup.question.kind, flags, || {
            if left == 0 {
                (bits, left) = (random.next_u32(), 32);
            }
            left -= 1;
            bits >>= 1;
            mix && bits & 1 == 1
        });
        let Some(bytes) = bytes else {
            // Only a name from the wire can fail to be written again.
            self.fail(now, id, Failure::Malformed);
            return None;
        };
        lookup.attempts.push(Attempt {
            number: query.attempt,
            server,
            socket,
            id: wire_id,
            sent: now,
            edns,
            question: question_of(&bytes).into(),
        });
        if let Some(socket) = socket {
            self.by_wire.insert((wire_id, socket, server), query);
        }
        self.start(id);
        self.set_deadline(id, now + patience);
        let len = bytes.len();
        out.get_mut(..len)?.copy_from_slice(&bytes);
        Some(match socket {
            Some(socket) => {
                self.stats.sent_udp += 1;
                Output::SendUdp {
                    to,
                    socket,
                    len,
                    query,
                }
            }
            None => {
                self.stats.sent_tcp += 1;
                Output::SendTcp { to, len, query }
            }
        })
    }

    /// Marks a lookup as in flight.
    fn start(&mut self, id: u64) {
        if let Some(lookup) = self.lookups.get_mut(&id)
            && !lookup.in_flight
        {
            lookup.in_flight = true;
            self.in_flight += 1;
        }
    }

    /// Gives a lookup the next turn to send.
    fn again(&mut self, id: u64) {
        if let Some(lookup) = self.lookups.get_mut(&id)
            && lookup.in_flight
        {
            lookup.in_flight = false;
            self.in_flight -= 1;
            self.turns.push_front(id);
            let give_up = lookup.give_up;
            self.set_deadline(id, give_up);
        }
    }

    fn set_deadline(&mut self, id: u64, at: Instant) {
        if let Some(lookup) = self.lookups.get_mut(&id) {
            self.deadlines.remove(&(lookup.deadline, id));
            lookup.deadline = at.min(lookup.give_up);
            self.deadlines.insert((lookup.deadline, id));
        }
    }

    /// Deals with every deadline that has come.
    fn expire(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.deadlines.first() {
            if at > now {
                break;
            }
            let Some(lookup) = self.lookups.get(&id) else {
                self.deadlines.pop_first();
                continue;
            };
            if lookup.in_flight
                && let Some(latest) = lookup.attempts.last().filter(|a| a.number == lookup.latest)
            {
                self.stats.timeouts += 1;
                // TCP may be filtered toward a server that is well otherwise.
                if latest.socket.is_some() {
                    self.servers.failed(latest.server, now);
                }
            }
            if now >= lookup.give_up {
                let failure = lookup.last_failure.unwrap_or(Failure::Timeout);
                self.fail(now, id, failure);
            } else {
                self.again(id);
            }
        }
    }

    // -- receiving --

    fn attempt(&self, query: QueryId) -> Option<&Attempt> {
        self.lookups
            .get(&query.lookup)?
            .attempts
            .iter()
            .find(|a| a.number == query.attempt)
    }

    fn datagram(&mut self, now: Instant, from: SocketAddr, socket: u16, bytes: &[u8]) {
        let query = bytes.first_chunk().and_then(|id| {
            let server = self.servers.find(from)?;
            self.by_wire
                .get(&(u16::from_be_bytes(*id), socket, server))
                .copied()
        });
        let Some((query, attempt)) = query.and_then(|q| Some((q, self.attempt(q)?))) else {
            self.stats.unmatched += 1;
            return;
        };
        match query::fit(attempt.id, &attempt.question, bytes) {
            Fit::Response => self.response(now, query, bytes),
            Fit::OtherCase => {
                // A server that folds case, or somebody who guessed the id: TCP tells.
                self.stats.wrong_case += 1;
                self.by_tcp(query);
            }
            Fit::NotUnderstood => self.not_understood(now, query),
            Fit::Foreign => self.stats.wrong_question += 1,
        }
    }

    /// A response that fits an attempt.
    fn response(&mut self, now: Instant, query: QueryId, bytes: &[u8]) {
        let Some(lookup) = self.lookups.get(&query.lookup) else {
            return;
        };
        let Some(attempt) = lookup.attempts.iter().find(|a| a.number == query.attempt) else {
            return;
        };
        self.stats.responses += 1;
        let said = query::decode(
            bytes,
            attempt.question.len(),
            &lookup.asking,
            lookup.question.kind,
            attempt.edns,
        );
        let (server, udp) = (attempt.server, attempt.socket.is_some());
        let took = now.since(attempt.sent);
        match said {
            Said::Truncated if udp => {
                self.servers.succeeded(server, Some(took));
                self.stats.truncated += 1;
                self.by_tcp(query);
            }
            Said::Truncated => {
                self.stats.malformed += 1;
                self.attempt_failed(now, query, Failure::Malformed);
            }
            Said::Answer(decoded) => {
                self.servers.succeeded(server, udp.then_some(took));
                self.stats.foreign_records += decoded.foreign as u64;
                self.done(now, query.lookup, decoded);
            }
            Said::AskOn(decoded) => {
                self.servers.succeeded(server, udp.then_some(took));
                self.stats.foreign_records += decoded.foreign as u64;
                self.ask_on(now, query.lookup, decoded);
            }
            Said::NoEdns => self.not_understood(now, query),
            Said::Failure(failure) => {
                match failure {
                    Failure::ServerFailure | Failure::CnameChain => {
                        // The server is well; it is the domain that is not.
                        self.stats.server_failures += 1;
                        self.servers.succeeded(server, None);
                    }
                    Failure::Malformed => {
                        self.stats.malformed += 1;
                        self.servers.failed(server, now);
                    }
                    Failure::Refused | Failure::Timeout => {
                        self.stats.refused += 1;
                        self.servers.failed(server, now);
                    }
                }
                self.attempt_failed(now, query, failure);
            }
        }
    }

    /// Asks the same server by TCP.
    fn by_tcp(&mut self, query: QueryId) {
        let Some(attempt) = self.close(query) else {
            return;
        };
        if let Some(lookup) = self.lookups.get_mut(&query.lookup)
            && !lookup.tcp
        {
            lookup.tcp = true;
            lookup.prefer = Some(attempt.server);
            self.again(query.lookup);
        }
    }

    /// A server did not understand the query: without EDNS it may.
    fn not_understood(&mut self, now: Instant, query: QueryId) {
        let Some((edns, server)) = self.attempt(query).map(|a| (a.edns, a.server)) else {
            return;
        };
        if !edns {
            self.stats.refused += 1;
            self.servers.failed(server, now);
            self.attempt_failed(now, query, Failure::Refused);
            return;
        }
        self.servers.no_edns(server, now);
        self.close(query);
        let Some(lookup) = self.lookups.get_mut(&query.lookup) else {
            return;
        };
        if query.attempt == lookup.latest {
            lookup.prefer = Some(server);
            self.again(query.lookup);
        }
    }

    /// This server will not do for this name.
    fn attempt_failed(&mut self, now: Instant, query: QueryId, failure: Failure) {
        let Some(attempt) = self.close(query) else {
            return;
        };
        let Some(lookup) = self.lookups.get_mut(&query.lookup) else {
            return;
        };
        lookup.failed |= bit(attempt.server);
        // A server that spoke says more than one that did not.
        if failure != Failure::Timeout || lookup.last_failure.is_none() {
            lookup.last_failure = Some(failure);
        }
        if failure == Failure::CnameChain {
            self.fail(now, query.lookup, failure);
        } else if query.attempt == lookup.latest {
            self.again(query.lookup);
        }
    }

    /// A datagram that did not go out. Another server may be reachable; if there is none, the
    /// query counts as lost and its deadline stands.
    fn send_failed(&mut self, now: Instant, query: QueryId) {
        if self.attempt(query).is_none_or(|a| a.socket.is_none()) {
            return;
        }
        let Some(attempt) = self.close(query) else {
            return;
        };
        self.stats.send_failures += 1;
        self.servers.failed(attempt.server, now);
        if let Some(lookup) = self.lookups.get(&query.lookup)
            && query.attempt == lookup.latest
            && (0..self.servers.len()).any(|s| (lookup.asked | lookup.failed) & bit(s) == 0)
        {
            self.again(query.lookup);
        }
    }

    /// Takes an attempt out: no more answers to it.
    fn close(&mut self, query: QueryId) -> Option<Attempt> {
        let lookup = self.lookups.get_mut(&query.lookup)?;
        let at = lookup
            .attempts
            .iter()
            .position(|a| a.number == query.attempt)?;
        let attempt = lookup.attempts.remove(at);
        if let Some(socket) = attempt.socket {
            self.by_wire.remove(&(attempt.id, socket, attempt.server));
        }
        Some(attempt)
    }

    // -- ending --

    /// A CNAME leads on to a name that this answer says nothing about.
    fn ask_on(&mut self, now: Instant, id: u64, decoded: Decoded) {
        let Some(lookup) = self.lookups.get_mut(&id) else {
            return;
        };
        let Some(target) = decoded.canonical else {
            return;
        };
        lookup.links += decoded.links;
        lookup.ttl_s = lookup.ttl_s.min(decoded.ttl_s.unwrap_or(0));
        lookup.secure &= decoded.secure;
        if lookup.links > DNS_CNAME_CHAIN_MAX {
            self.fail(now, id, Failure::CnameChain);
            return;
        }
        for attempt in core::mem::take(&mut lookup.attempts) {
            if let Some(socket) = attempt.socket {
                self.by_wire.remove(&(attempt.id, socket, attempt.server));
            }
        }
        lookup.asking = target;
        lookup.tcp = false;
        lookup.prefer = None;
        lookup.failed = 0;
        lookup.asked = 0;
        lookup.sent = 0;
        lookup.tries = 0;
        lookup.last_failure = None;
        let known = Question::new(lookup.asking.clone(), lookup.question.kind);
        match self.cache.get(now, &known) {
            Some(answer) if !matches!(answer.outcome, Outcome::Failed(_)) => {
                let lookup = self.lookups.get(&id);
                let (ttl_s, secure) = lookup.map_or((0, false), |l| (l.ttl_s, l.secure));
                let expires = answer
                    .expires
                    .min(now + Duration::from_secs(u64::from(ttl_s)));
                self.finish(
                    now,
                    id,
                    Answer {
                        secure: secure && answer.secure,
                        expires,
                        ..(*answer).clone()
                    },
                );
            }
            _ => self.again(id),
        }
    }

    /// The end of the chain answers.
    fn done(&mut self, now: Instant, id: u64, decoded: Decoded) {
        let Some(lookup) = self.lookups.get(&id) else {
            return;
        };
        if lookup.links + decoded.links > DNS_CNAME_CHAIN_MAX {
            self.fail(now, id, Failure::CnameChain);
            return;
        }
        let positive = matches!(decoded.outcome, Outcome::Found(_));
        let ttl = match decoded.ttl_s {
            Some(ttl_s) => {
                let ttl = Duration::from_secs(u64::from(ttl_s.min(lookup.ttl_s)));
                if positive {
                    ttl.min(self.config.ttl_max).max(self.config.ttl_min)
                } else {
                    ttl.min(self.config.negative_ttl_max())
                }
            }
            // A negative answer without SOA should not be kept (RFC 2308 5).
            None => Duration::ZERO,
        };
        let answer = Answer {
            outcome: decoded.outcome,
            canonical: decoded.canonical.unwrap_or_else(|| lookup.asking.clone()),
            secure: self.config.dnssec != Dnssec::Off && lookup.secure && decoded.secure,
            expires: now + ttl,
        };
        self.finish(now, id, answer);
    }

    fn fail(&mut self, now: Instant, id: u64, failure: Failure) {
        let Some(lookup) = self.lookups.get(&id) else {
            return;
        };
        self.stats.failed += 1;
        let answer = Answer {
            outcome: Outcome::Failed(failure),
            canonical: lookup.asking.clone(),
            secure: false,
            expires: now + self.config.failure_ttl(),
        };
        self.finish(now, id, answer);
    }

    /// Ends a lookup: caches the answer and hands it to all who wait.
    fn finish(&mut self, now: Instant, id: u64, answer: Answer) {
        let Some(lookup) = self.lookups.remove(&id) else {
            return;
        };
        self.by_question.remove(&lookup.question);
        self.deadlines.remove(&(lookup.deadline, id));
        for attempt in &lookup.attempts {
            if let Some(socket) = attempt.socket {
                self.by_wire.remove(&(attempt.id, socket, attempt.server));
            }
        }
        if lookup.in_flight {
            self.in_flight -= 1;
        } else if self.turns.len() > 2 * self.lookups.len() + 64 {
            // Lookups that ended before their turn came leave their number behind.
            let lookups = &self.lookups;
            self.turns.retain(|id| lookups.contains_key(id));
        }
        let answer = Arc::new(answer);
        self.cache.insert(now, &lookup.question, answer.clone());
        self.answers.extend(
            lookup
                .waiters
                .into_iter()
                .map(|token| (token, lookup.question.clone(), answer.clone())),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::query::Kind;
    use crate::limits::DNS_QUERY_BYTES_MAX;

    /// Whatever way lookups end, nothing of them stays behind.
    #[test]
    fn nothing_is_left_behind() {
        let mut config = Config::new(alloc::vec![
            SocketAddr::from(([192, 0, 2, 1], 53)),
            SocketAddr::from(([192, 0, 2, 2], 53)),
        ]);
        config.in_flight_max = 8;
        let mut resolver = Resolver::new(config, [9; 32]);
        let mut out = [0; DNS_QUERY_BYTES_MAX];
        let mut now = Instant::ZERO;
        let mut answers = 0;
        for n in 0..400u32 {
            let name = Name::parse(&alloc::format!("n{n}.example")).unwrap();
            resolver.ask(now, Token(0), Question::new(name, Kind::A));
            loop {
                match resolver.poll(now, &mut out) {
                    Output::SendUdp {
                        to,
                        socket,
                        len,
                        query,
                    } => {
                        if n % 7 == 0 {
                            resolver.handle(now, Input::SendFailed { query });
                            continue;
                        }
                        // NOERROR, NXDOMAIN, SERVFAIL, FORMERR, cut, or silence.
                        let flags = match n % 6 {
                            0 => [0x81, 0x80],
                            1 => [0x81, 0x83],
                            2 => [0x81, 0x82],
                            3 => [0x81, 0x81],
                            4 => [0x83, 0x80],
                            _ => continue,
                        };
                        let mut bytes = out[..len].to_vec();
                        bytes[2..4].copy_from_slice(&flags);
                        let bytes = &bytes[..];
                        let from = to;
                        let datagram = Input::Datagram {
                            from,
                            socket,
                            bytes,
                        };
                        resolver.handle(now, datagram);
                        resolver.handle(now, datagram);
                    }
                    Output::SendTcp { query, .. } => {
                        resolver.handle(now, Input::TcpFailed { query });
                    }
                    Output::Answer { .. } => answers += 1,
                    Output::Wait(_) => break,
                }
            }
            now = now + Duration::from_millis(100);
            assert!(resolver.by_wire.len() <= DNS_ATTEMPTS_MAX * resolver.open());
            assert!(resolver.turns.len() <= 2 * resolver.open() + 65);
        }
        now = now + resolver.config.give_up;
        while let Output::Answer { .. } = resolver.poll(now, &mut out) {
            answers += 1;
        }
        assert_eq!(answers, 400);
        assert!(resolver.by_wire.is_empty() && resolver.by_question.is_empty());
        assert!(resolver.deadlines.is_empty() && resolver.lookups.is_empty());
        assert_eq!((resolver.in_flight, resolver.waiters), (0, 0));
    }
}
