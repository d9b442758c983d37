//! The world: virtual time, and everything in it, out of one seed.
//!
//! Events wait in a heap and happen one after the other; each is handled to its end before the
//! next. Nothing reads a clock, and nothing depends on the order of a hash map, so two runs of one
//! seed are the same to the last event ([`Trace::hash`]).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use courser::config::Config;
use courser::queue::Entry;
use courser::queue::message::Message;
use courser::queue::providers::Providers;
use courser::route::Routed;
use courser_core::dns::Question;
use courser_core::feedback::verdict::Cause as LocalCause;
use courser_core::time::Instant;
use courser_core::traffic::scheduler::Class;

use crate::checkers::{Books, Mail, Recipient, With};
use crate::disk::{SimDisk, Troubles};
use crate::keeping::{Again, Server};
use crate::mutations::Fault;
use crate::names::NameServers;
use crate::network::Network;
use crate::random::Random;
use crate::receivers::Receivers;
use crate::shape::{How, Letter, Shape};
use crate::shard::Dns;
use crate::trace::Trace;

/// What happens.
pub(crate) enum Event {
    // The outside.
    Submit(u32),
    Start,
    Stop(usize),
    Mood(usize),
    Zone(usize),
    Full(bool),
    Up(u32),
    FarWakes(u32),
    // The server: gone when it stops.
    Restart(How),
    Drive(usize),
    Sweep(usize),
    Write,
    Sync,
    Reclaim,
    KeepAgain,
    Notify(Arc<Message>),
    NotifyAgain(Box<Again>),
    Handover(usize, Box<(Arc<str>, Routed, Vec<Entry>)>),
    Dns(usize, Dns),
    DnsWake(usize),
    AskAgain(usize, u64, Box<Question>),
    Connected(u64, Result<(), LocalCause>),
    Rung(u64),
    Deadline(u64),
    Pause(u64),
    Down(u64, u32),
}

impl Event {
    /// For the trace: which, and of what.
    fn number(&self) -> u64 {
        let (kind, of) = match self {
            Self::Submit(key) => (1, u64::from(*key)),
            Self::Start => (2, 0),
            Self::Stop(n) => (3, *n as u64),
            Self::Mood(n) => (4, *n as u64),
            Self::Zone(n) => (5, *n as u64),
            Self::Full(full) => (6, u64::from(*full)),
            Self::Up(conn) => (7, u64::from(*conn)),
            Self::FarWakes(conn) => (8, u64::from(*conn)),
            Self::Restart(_) => (9, 0),
            Self::Drive(n) => (10, *n as u64),
            Self::Sweep(n) => (11, *n as u64),
            Self::Write => (12, 0),
            Self::Sync => (13, 0),
            Self::Reclaim => (14, 0),
            Self::KeepAgain => (15, 0),
            Self::Notify(message) => (16, message.id()),
            Self::NotifyAgain(again) => (17, u64::from(again.key)),
            Self::Handover(n, _) => (18, *n as u64),
            Self::Dns(n, _) => (19, *n as u64),
            Self::DnsWake(n) => (20, *n as u64),
            Self::AskAgain(_, n, _) => (21, *n),
            Self::Connected(n, _) => (22, *n),
            Self::Rung(n) => (23, *n),
            Self::Deadline(n) => (24, *n),
            Self::Pause(n) => (25, *n),
            Self::Down(n, _) => (26, *n),
        };
        kind << 56 ^ of
    }

    fn outlives_the_server(&self) -> bool {
        matches!(
            self,
            Self::Submit(_)
                | Self::Start
                | Self::Stop(_)
                | Self::Mood(_)
                | Self::Zone(_)
                | Self::Full(_)
                | Self::Up(_)
                | Self::FarWakes(_)
        )
    }
}

struct Due {
    at: u64,
    order: u64,
    epoch: Option<u32>,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// See the module's docs.
pub(crate) struct World {
    /// Nanoseconds of virtual time.
    pub(crate) now: u64,
    heap: BinaryHeap<Reverse<Due>>,
    order: u64,
    pub(crate) random: Random,
    pub(crate) trace: Trace,
    pub(crate) fault: Option<Fault>,
    pub(crate) shape: Shape,
    pub(crate) letters: Vec<Letter>,
    pub(crate) most_recipients: u32,
    pub(crate) config: Arc<Config>,
    pub(crate) providers: Arc<Providers>,
    pub(crate) route_options: Arc<courser_core::route::Options>,
    // The server.
    pub(crate) server: Option<Server>,
    pub(crate) epoch: u32,
    pub(crate) next_client: u64,
    /// How it stopped last, and which notifications were being appended then.
    pub(crate) stopped: How,
    pub(crate) appending: Vec<u32>,
    pub(crate) stops: u32,
    pub(crate) down: Duration,
    stopping: Option<(How, Duration)>,
    pub(crate) base: std::time::Instant,
    pub(crate) dir: PathBuf,
    pub(crate) disk: Arc<SimDisk>,
    // The outside.
    pub(crate) network: Network,
    pub(crate) receivers: Receivers,
    pub(crate) names: NameServers,
    // The judges.
    pub(crate) books: Books,
    pub(crate) broken: Option<String>,
    pub(crate) steps: u64,
}

/// What a world came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) steps: u64,
    pub(crate) deliveries: u64,
    pub(crate) delivered: u64,
    pub(crate) bounced: u64,
    pub(crate) expired: u64,
    pub(crate) deferrals: u64,
    pub(crate) duplicates: u64,
    pub(crate) reopened: u64,
    pub(crate) damaged: u64,
    pub(crate) stops: u64,
    pub(crate) connections: u64,
    pub(crate) messages: u64,
    pub(crate) disk_ops: u64,
    pub(crate) disk_failures: u64,
    pub(crate) virtual_s: u64,
    pub(crate) hash: u64,
}

impl std::ops::AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.deliveries += other.deliveries;
        self.delivered += other.delivered;
        self.bounced += other.bounced;
        self.expired += other.expired;
        self.deferrals += other.deferrals;
        self.duplicates += other.duplicates;
        self.reopened += other.reopened;
        self.damaged += other.damaged;
        self.stops += other.stops;
        self.connections += other.connections;
        self.messages += other.messages;
        self.disk_ops += other.disk_ops;
        self.disk_failures += other.disk_failures;
        self.virtual_s += other.virtual_s;
        // Whatever the order of the worlds.
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

/// The disk has no more trouble after this, so that every world comes to rest.
const TROUBLE_ENDS: u64 = 1_500 * 1_000_000_000;
/// Steps after which a world is said to have no end.
const STEPS_MAX: u64 = 3_000_000;

impl World {
    /// The world of a seed, with its files in the folder `dir`, which is empty. A fault also sees to
    /// it that its occasion comes; without it ([`World::fault`]), that is a sound world too.
    pub(crate) fn new(seed: u64, dir: &Path, fault: Option<Fault>, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let mut shape = Shape::new(&mut random.split());
        if let Some(fault) = fault {
            fault.bend(&mut shape);
        }
        let letters = std::mem::take(&mut shape.letters);
        let config = shape.config();
        let disk = Arc::new(SimDisk::new(random.split()));
        let mails = letters
            .iter()
            .enumerate()
            .map(|(key, letter)| {
                let mut body = format!("X-Key: {key}\r\nSubject: letter\r\n\r\n").into_bytes();
                while body.len() < letter.body_bytes {
                    let line: &[u8] = match random.below(6) {
                        0 => b".\r\n",
                        1 => b"..x\r\n",
                        _ => b"The quick brown fox jumps over the lazy dog.\r\n",
                    };
                    body.extend_from_slice(line);
                }
                Mail {
                    with: With::Submitter,
                    tenant: letter.tenant as u32,
                    campaign: letter.campaign as u32,
                    class: Class::ALL[letter.stream],
                    ids: Vec::new(),
                    body: body.into(),
                    received: Instant::ZERO,
                    expires: Instant::ZERO,
                    held: None,
                    last_chance: Instant::ZERO,
                    recipients: vec![Recipient::default(); letter.to.len()],
                    tells: None,
                }
            })
            .collect();
        let receivers = Receivers::new(&shape, random.split());
        let names = NameServers::new(&shape, random.split());
        Self {
            now: 1_000_000_000,
            heap: BinaryHeap::new(),
            order: 0,
            trace,
            fault,
            most_recipients: letters.iter().map(|l| l.to.len()).max().unwrap_or(1) as u32,
            letters,
            providers: Arc::new(Providers::new(&config)),
            route_options: Arc::new(courser::route::options(&config, &[])),
            config,
            server: None,
            epoch: 0,
            next_client: 0,
            stopped: How::Close,
            appending: Vec::new(),
            stops: 0,
            down: Duration::ZERO,
            stopping: None,
            base: std::time::Instant::now(),
            dir: dir.into(),
            disk,
            network: Network::default(),
            receivers,
            names,
            books: Books {
                mails,
                ..Books::default()
            },
            broken: None,
            steps: 0,
            random,
            shape,
        }
    }

    pub(crate) fn instant(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        let epoch = (!event.outlives_the_server()).then_some(self.epoch);
        self.heap.push(Reverse(Due {
            at: at.max(self.now),
            order: self.order,
            epoch,
            event,
        }));
    }

    /// For what happens at a receiver.
    pub(crate) fn at_far(&mut self, at: u64, event: Event) {
        self.at(at, event);
    }

    pub(crate) fn at_delay(&mut self, wait: Duration, event: Event) {
        let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.at(self.now.saturating_add(wait), event);
    }

    pub(crate) fn say(&mut self, text: impl FnOnce() -> String) {
        self.trace.line(self.now, text);
    }

    /// The first thing that is not as it should be ends the world.
    pub(crate) fn violation(&mut self, text: String) {
        if self.broken.is_none() {
            self.trace.line(self.now, || format!("WRONG: {text}"));
            self.broken = Some(text);
        }
    }

    pub(crate) fn check(&mut self, right: Result<(), String>) {
        if let Err(text) = right {
            self.violation(text);
        }
    }

    pub(crate) fn troubles(&self) -> Troubles {
        if self.now > TROUBLE_ENDS {
            return Troubles::default();
        }
        Troubles {
            write_fails: self.shape.write_fails,
            write_is_short: self.shape.short_writes,
            sync_fails: self.shape.sync_fails,
        }
    }

    pub(crate) fn disk_is_full(&self) -> bool {
        self.shape
            .full
            .is_some_and(|(from, to)| (from..=to + 1_000_000_000).contains(&self.now))
    }

    /// How long after the end of its life a delivery may end: a session that has it may use all of
    /// its patience, and a server that is down can't end anything.
    pub(crate) fn slack(&self) -> Duration {
        let t = &self.config.delivery.timeouts;
        let hosts = self.config.delivery.max_hosts as u32;
        let transaction = t.mail + t.rcpt * 13 + t.data + t.data_block + t.data_end;
        let full = self.shape.full.map_or(0, |(from, to)| to - from);
        (t.connect + t.greeting + t.ehlo) * hosts
            + transaction * 2
            + t.quit
            + self.down
            + Duration::from_nanos(full)
            + Duration::from_secs(120)
    }

    /// Whether there is still mail on its way.
    fn is_busy(&self) -> bool {
        self.books.open > 0
            || self.server.is_none()
            || self.books.mails[..self.letters.len()]
                .iter()
                .any(|m| m.with != With::Server)
    }

    /// Lives to its end, or to the first violation.
    pub(crate) fn run(&mut self) -> Result<Summary, String> {
        if self.fault == Some(Fault::SyncsNothing) {
            self.disk.lie_about_syncs();
        }
        self.at(self.now, Event::Start);
        for key in 0..self.letters.len() {
            let at = self.now + self.letters[key].at + 1_000_000;
            self.at(at, Event::Submit(key as u32));
        }
        for n in 0..self.shape.stops.len() {
            let at = self.now + self.shape.stops[n].at;
            self.at(at, Event::Stop(n));
        }
        for host in 0..self.receivers.hosts.len() {
            let s = self.receivers.random.scale(5, 3000);
            self.at_delay(Duration::from_secs(s), Event::Mood(host));
        }
        for zone in 0..self.names.zones.len() {
            let s = self.names.random.scale(5, 3000);
            self.at_delay(Duration::from_secs(s), Event::Zone(zone));
        }
        if let Some((from, to)) = self.shape.full {
            self.at(self.now + from, Event::Full(true));
            self.at(self.now + to, Event::Full(false));
        }
        while let Some(Reverse(due)) = self.heap.pop() {
            if due.epoch.is_some_and(|epoch| epoch != self.epoch) {
                continue;
            }
            self.now = due.at;
            self.steps += 1;
            self.trace.mark(due.at, due.event.number());
            self.happen(due.event);
            if self.disk.is_dead()
                && self.server.is_some()
                && let Some((how, down)) = self.stopping.take()
            {
                let how = if how == How::Close { How::Kill } else { how };
                self.stop(how, down);
            }
            let right = self.count();
            self.check(right);
            if self.steps > STEPS_MAX {
                self.violation("this world has no end".into());
            }
            if let Some(wrong) = self.broken.take() {
                return Err(wrong);
            }
        }
        self.check_the_end()?;
        let (disk_ops, disk_failures) = self.disk.counts();
        let books = &self.books;
        Ok(Summary {
            steps: self.steps,
            deliveries: books.deliveries,
            delivered: books.delivered,
            bounced: books.bounced,
            expired: books.expired,
            deferrals: books.deferrals,
            duplicates: books.duplicates,
            reopened: books.reopened,
            damaged: books.damaged,
            stops: u64::from(self.stops),
            connections: self.network.watch.connections,
            messages: self.network.watch.messages,
            disk_ops,
            disk_failures,
            virtual_s: self.now / 1_000_000_000,
            hash: self.trace.hash,
        })
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Submit(key) => self.submit(key),
            Event::Start => {
                if self.server.is_none() {
                    self.start();
                }
            }
            Event::Stop(n) => {
                let stop = self.shape.stops[n];
                if self.server.is_none() {
                    return;
                }
                match stop.in_ops {
                    Some(ops) => {
                        self.stopping = Some((stop.how, stop.down));
                        self.disk.stop_in(Some(ops));
                    }
                    None => self.stop(stop.how, stop.down),
                }
            }
            Event::Restart(how) => self.stop(how, Duration::from_secs(10)),
            Event::Mood(host) => {
                if self.is_busy() {
                    let s = self.receivers.change_mood(host);
                    let mood = self.receivers.hosts[host].mood;
                    let name = self.receivers.hosts[host].name.clone();
                    self.say(|| format!("{name} is {mood:?}"));
                    self.at_delay(Duration::from_secs(s), Event::Mood(host));
                }
            }
            Event::Zone(zone) => {
                if self.is_busy() {
                    let s = self.names.change(zone);
                    self.at_delay(Duration::from_secs(s), Event::Zone(zone));
                }
            }
            Event::Full(full) => {
                self.say(|| format!("the disk is full: {full}"));
                self.disk.set_full(full);
            }
            Event::Up(conn) => self.far_hears(conn),
            Event::FarWakes(conn) => self.far_wakes(conn),
            Event::Drive(n) => self.drive(n),
            Event::Sweep(n) => self.sweep(n),
            Event::Write => {
                let troubles = self.troubles();
                self.disk.set_troubles(troubles);
                self.write_step();
            }
            Event::Sync => self.sync_step(),
            Event::Reclaim => self.reclaim_step(),
            Event::KeepAgain => self.keep_again(),
            Event::Notify(message) => self.notify(&message),
            Event::NotifyAgain(again) => self.notify_again(*again),
            Event::Handover(n, moved) => self.handed_over(n, *moved),
            Event::Dns(n, dns) => self.dns_came(n, &dns),
            Event::DnsWake(n) => self.dns_wake(n),
            Event::AskAgain(n, number, question) => {
                self.ask(n, number, *question);
                self.poll_dns(n);
            }
            Event::Connected(n, outcome) => self.with_client(n, |w, c| w.connected(c, outcome)),
            Event::Rung(n) => self.with_client(n, World::rung),
            Event::Deadline(n) => self.with_client(n, World::near_deadline),
            Event::Pause(n) => self.with_client(n, World::pause_over),
            Event::Down(n, conn) => self.with_client(n, |w, c| w.near_hears(c, conn)),
        }
    }
}
