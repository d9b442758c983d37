//! What all threads of the server share.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use courser_core::dns::{Answer, Name, Question};
use tokio::sync::{Notify, oneshot};

use super::control::ShardStatus;
use super::inbox::Inbox;
use crate::config::Config;
use crate::control::protocol::{Request, Response};
use crate::events::EventSink;
use crate::feedback::bounce::Gathering;
use crate::feedback::own::OwnMail;
use crate::login::Logins;
use crate::net::{clock, tls};
use crate::queue::Entry;
use crate::queue::message::Bodies;
use crate::queue::providers::Providers;
use crate::route::Routed;
use crate::route::mta_sts::Policies;
use crate::sign::Keys;
use crate::spool::{CommitSink, Committed, Spool};
use crate::tls_reports::Results;

/// What one thread tells a shard.
pub enum Mail {
    /// These appends have ended.
    Committed(Vec<Committed>),
    /// Deliveries whose lanes this shard owns, all to one domain, with its route.
    Deliveries {
        /// The domain.
        domain: Arc<str>,
        /// Where its mail goes.
        routed: Option<Routed>,
        /// They.
        entries: Vec<Entry>,
    },
    /// A request from the control socket.
    Control(Request, oneshot::Sender<Response>),
    /// A question about this shard's numbers.
    Status(oneshot::Sender<ShardStatus>),
    /// A mail of our own to send.
    Own(Box<OwnMail>),
    /// A question for DNS, of who has no resolver of its own.
    Ask(Question, oneshot::Sender<Arc<Answer>>),
    /// A question for the addresses of a host; the answer says where one may go, or why nowhere.
    Addresses(Name, oneshot::Sender<Result<Vec<IpAddr>, String>>),
    /// The configuration was read again.
    Reload(Arc<Config>, Arc<Providers>),
    /// Stop: finish what is in flight.
    Drain,
    /// A task of the shard that it can't be without panicked.
    Broken(&'static str),
    /// End.
    Stop,
}

/// A number that goes up and down below a bound.
pub struct Budget {
    used: AtomicU64,
    max: AtomicU64,
}

impl Budget {
    /// Nothing used of `max`.
    pub fn new(max: u64) -> Self {
        Self {
            used: AtomicU64::new(0),
            max: AtomicU64::new(max),
        }
    }

    /// Takes `n` if so much is left.
    pub fn take(&self, n: u64) -> bool {
        let before = self.used.fetch_add(n, Ordering::Relaxed);
        if before + n > self.max.load(Ordering::Relaxed) {
            self.used.fetch_sub(n, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Takes `n` whatever is left: for what is there already.
    pub fn take_anyway(&self, n: u64) {
        self.used.fetch_add(n, Ordering::Relaxed);
    }

    /// Gives `n` back.
    pub fn give(&self, n: u64) {
        let give = |used: u64| Some(used.saturating_sub(n));
        let _ = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, give);
    }

    /// How much is used.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Changes the bound.
    pub fn set_max(&self, max: u64) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Whether everything is used.
    pub fn is_full(&self) -> bool {
        self.used() >= self.max.load(Ordering::Relaxed)
    }
}

/// What all threads of the server share.
pub struct Shared {
    config: RwLock<Arc<Config>>,
    keys: RwLock<Arc<Keys>>,
    tls: RwLock<Arc<tls::Client>>,
    /// Rings when the keys were read again.
    pub keys_bell: Notify,
    key_warnings: Mutex<Vec<String>>,
    /// Users and passwords, and those who fail.
    pub logins: Logins,
    /// The policies of domains.
    pub policies: Arc<Policies>,
    /// The spool.
    pub spool: Spool,
    /// The event log.
    pub events: EventSink,
    /// Bodies in memory.
    pub bodies: Bodies,
    /// Bytes of messages that are coming in.
    pub intake_memory: Budget,
    /// Sessions with submitters.
    pub intake_sessions: Budget,
    /// Deliveries in the queue.
    pub deliveries: Budget,
    /// Notifications that are being gathered.
    pub gathering: Gathering,
    /// What sessions came to, for TLS reports.
    pub tls_results: Results,
    /// Deliveries that one shard gave to another, since the start.
    pub moved: AtomicU64,
    /// The shards' inboxes.
    pub inboxes: Vec<Arc<Inbox<Mail>>>,
    /// Rings when the server begins to drain.
    pub drain_bell: Notify,
    draining: AtomicBool,
    /// Sessions with receivers, and whatever else has to end before the server may stop.
    pub busy: AtomicU64,
}

impl Shared {
    /// For `shards` shards.
    pub fn new(
        config: Arc<Config>,
        keys: Arc<Keys>,
        (tls, policies): (Arc<tls::Client>, Arc<Policies>),
        logins: Logins,
        spool: Spool,
        events: EventSink,
        shards: usize,
    ) -> Arc<Self> {
        let limits = &config.limits;
        Arc::new(Self {
            policies,
            spool,
            events,
            bodies: Bodies::new(limits.body_memory.0),
            intake_memory: Budget::new(limits.intake_memory.0),
            intake_sessions: Budget::new(limits.max_intake_sessions as u64),
            deliveries: Budget::new(limits.max_deliveries as u64),
            gathering: Gathering::default(),
            tls_results: Results::default(),
            moved: AtomicU64::new(0),
            inboxes: (0..shards).map(|_| Arc::new(Inbox::default())).collect(),
            drain_bell: Notify::new(),
            draining: AtomicBool::new(false),
            busy: AtomicU64::new(0),
            config: RwLock::new(config),
            keys: RwLock::new(keys),
            tls: RwLock::new(tls),
            keys_bell: Notify::new(),
            key_warnings: Mutex::default(),
            logins,
        })
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The keys in force.
    pub fn keys(&self) -> Arc<Keys> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.clone()
    }

    /// What makes TLS connections toward receivers.
    pub fn tls(&self) -> Arc<tls::Client> {
        let tls = self.tls.read().unwrap_or_else(PoisonError::into_inner);
        tls.clone()
    }

    /// A shard for what any of them can do; they have the same servers of DNS.
    fn any_inbox(&self) -> Option<&Arc<Inbox<Mail>>> {
        let turn = clock::random_u64() as usize % self.inboxes.len().max(1);
        self.inboxes.get(turn)
    }

    /// Has a mail of our own sent.
    pub fn queue_own(&self, mail: OwnMail) {
        if let Some(inbox) = self.any_inbox() {
            inbox.put(Mail::Own(Box::new(mail)));
        }
    }

    /// What DNS says, for who has no resolver of its own; `None`: the server ends.
    pub async fn ask_dns(&self, question: Question) -> Option<Arc<Answer>> {
        let (answer, answered) = oneshot::channel();
        self.any_inbox()?.put(Mail::Ask(question, answer));
        answered.await.ok()
    }

    /// The addresses of `host` in the order to try them, for who has no resolver of its own.
    ///
    /// # Errors
    /// Why there are none, in words.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        let name = Name::parse(host).map_err(|e| format!("{host} is no name of a host: {e}"))?;
        let (answer, answered) = oneshot::channel();
        if let Some(inbox) = self.any_inbox() {
            inbox.put(Mail::Addresses(name, answer));
        }
        let ended = |_| Err("the server ends".to_owned());
        answered.await.unwrap_or_else(ended)
    }

    /// Puts other authorities in force.
    pub fn set_tls(&self, tls: Arc<tls::Client>) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// Puts other keys in force.
    pub fn set_keys(&self, keys: Arc<Keys>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// What is wrong with the keys' records, as it is known now.
    pub fn key_warnings(&self) -> Vec<String> {
        let known = self.key_warnings.lock();
        known.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what is wrong with the keys' records, and says what wasn't known.
    pub fn warn_of_keys(&self, warnings: Vec<String>) {
        let known = self.key_warnings.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        for warning in warnings.iter().filter(|w| !known.contains(w)) {
            tracing::warn!("{warning}");
        }
        *known = warnings;
    }

    /// Puts another one in force.
    pub fn set_config(&self, config: Arc<Config>) {
        let limits = &config.limits;
        self.intake_memory.set_max(limits.intake_memory.0);
        self.intake_sessions
            .set_max(limits.max_intake_sessions as u64);
        self.deliveries.set_max(limits.max_deliveries as u64);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Whether no more deliveries are taken.
    pub fn queue_is_full(&self) -> bool {
        self.deliveries.is_full()
    }

    /// Whether the server stops.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Begins to stop.
    pub fn drain(&self) {
        if !self.draining.swap(true, Ordering::AcqRel) {
            self.drain_bell.notify_waiters();
            for inbox in &self.inboxes {
                inbox.put(Mail::Drain);
            }
        }
    }

    /// Sessions and notifications that are under way.
    pub fn busy(&self) -> u64 {
        self.busy.load(Ordering::Acquire)
    }
}

/// Brings the committer's word to one shard.
pub struct ShardSink(pub Arc<Inbox<Mail>>);

impl CommitSink for ShardSink {
    fn committed(&self, results: Vec<Committed>) {
        self.0.put(Mail::Committed(results));
    }
}

/// Outcomes that the spool had no room for at the moment.
#[derive(Default)]
pub struct Unkept(pub VecDeque<crate::spool::Batch>);
