//! One thread of the server: completions → stages → submissions.
//!
//! ```text
//!   intake ──accept──▶ spool ──committed──▶ admit ──▶ scheduler ──open──▶ session ──▶ settle
//!  (smtp.rs)          (keep.rs)           (admit.rs)  (drive.rs)       (sessions.rs)    │
//!                                                          ▲                            │
//!                                                          └──── reported, dated anew ──┘
//! ```
//!
//! | file | does |
//! |---|---|
//! | [`shared`] | what all threads share |
//! | [`inbox`], [`tickets`] | what other threads tell a shard, and who waits for it |
//! | [`admit`] | deliveries find the shard that owns their lanes |
//! | [`drive`] | does what the scheduler says |
//! | [`delays`] | tells senders that their mail waits |
//! | [`sessions`] | gives sessions their work |
//! | [`keep`] | appends to the spool |
//! | [`tell`] | events and counts |
//! | [`counted`] | what sessions came to about TLS, for reports |
//! | [`control`] | answers the control socket |

pub mod admit;
pub mod control;
pub mod counted;
pub mod delays;
pub mod drive;
pub mod inbox;
pub mod keep;
pub mod sessions;
pub mod shared;
pub mod tell;
pub mod tickets;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use courser_core::auth::{Evaluate, Step};
use courser_core::dns::{Answer, Failure, Outcome, Question};
use courser_core::time::Instant;
use courser_core::traffic::hosts::{Hosts, Memory};
use courser_core::traffic::scheduler::{self, Scheduler};
use tokio::sync::{Notify, Semaphore};

pub use self::sessions::{Bell, Work};
pub use self::shared::Shared;
use self::shared::{Mail, ShardSink, Unkept};
use self::tickets::Tickets;
use crate::config::Config;
use crate::control::protocol::Totals;
use crate::events::Event;
use crate::intake::smtp::{self, Entrance};
use crate::net::tcp::{BoundListener, Listener};
use crate::net::{clock, ring};
use crate::queue::Queue;
use crate::queue::providers::Providers;
use crate::queue::sites::Sites;
use crate::route::Router;
use crate::route::dns::Dns;
use crate::session::LaneTask;
use crate::session::connect::Unreachable;
use crate::sign::alignment::Findings;
use crate::spool::{AppendError, Spool};
use crate::tls_reports::Counted;

/// Addresses of peers that offer PIPELINING and can't do it, that a shard remembers.
pub const LIARS_MAX: usize = 10_000;
/// Notifications that a shard writes at the same time: each holds a whole message in memory.
const NOTICES_AT_ONCE: usize = 32;

/// Counts of one lane since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct LaneCounts {
    /// Delivered.
    pub delivered: u64,
    /// To be tried again.
    pub deferrals: u64,
    /// Given up.
    pub bounced: u64,
}

/// One shard.
pub struct Shard {
    index: usize,
    shared: Arc<Shared>,
    config: RefCell<Arc<Config>>,
    queue: RefCell<Queue>,
    router: RefCell<Rc<Router>>,
    own_addresses: Vec<IpAddr>,
    dns: Rc<Dns>,
    tickets: Tickets<Result<(), AppendError>>,
    unkept: RefCell<Unkept>,
    spool_failed: Cell<bool>,
    kick: Notify,
    drain_bell: Rc<Notify>,
    bells: RefCell<HashMap<u32, Rc<Bell>>>,
    hosts: RefCell<Hosts>,
    /// Hosts with which there is no TLS.
    no_tls: RefCell<Hosts>,
    liars: RefCell<HashSet<SocketAddr>>,
    troubles: RefCell<HashMap<(u16, u32), (LaneTask, Unreachable)>>,
    /// Sessions that take transactions, by source and site.
    working: RefCell<HashMap<(u16, u32), HashSet<u32>>>,
    /// Notifications that are written at the same time.
    notices: Semaphore,
    signing: Semaphore,
    alignment: RefCell<Findings>,
    /// Signatures made since the sockets had their turn.
    signed: Cell<u32>,
    gathered: RefCell<Vec<Event>>,
    /// For TLS reports, until it is given to the control plane.
    tls_results: RefCell<Vec<Counted>>,
    events_bell: Notify,
    /// Where [`Shard::tell_delays`] goes on.
    delay_hand: Cell<u32>,
    totals: RefCell<Totals>,
    lane_counts: RefCell<HashMap<(u16, u32), LaneCounts>>,
    listeners: RefCell<Vec<Rc<Listener>>>,
}

/// What a shard's thread begins with.
pub struct Start {
    /// Its number.
    pub index: usize,
    /// What all share.
    pub shared: Arc<Shared>,
    /// Its listeners.
    pub listeners: Vec<(Arc<Entrance>, BoundListener)>,
    /// Its resolver's settings.
    pub dns: courser_core::dns::Config,
    /// The addresses that the server listens on.
    pub own_addresses: Vec<IpAddr>,
    /// Providers and their limits.
    pub providers: Arc<Providers>,
}

/// Runs a shard on this thread until the server is told to stop and nothing is under way.
///
/// # Errors
/// When the kernel gives no io_uring or socket.
pub fn run(start: Start) -> io::Result<()> {
    ring::run(async move {
        let shard = Shard::start(start)?;
        shard.clone().read_mail().await
    })?
}

impl Shard {
    fn start(start: Start) -> io::Result<Rc<Self>> {
        let config = start.shared.config();
        let inbox = start.shared.inboxes[start.index].clone();
        let dns = Dns::start(start.dns, || Vital {
            name: "resolver",
            inbox: inbox.clone(),
        })?;
        let router = Router::new(
            dns.clone(),
            Arc::new(crate::route::options(&config, &start.own_addresses)),
            config.clone(),
            start.shared.policies.clone(),
        );
        let sessions_max = sessions_share(&config, start.index, start.shared.inboxes.len());
        let scheduler = Scheduler::new(scheduler::Config {
            sessions_max,
            limits: crate::queue::providers::limits(
                &config.delivery.limits,
                config.delivery.idle_keepalive,
            ),
            unreachable_first: config.delivery.dead_host.first,
            unreachable_max: config.delivery.dead_host.max,
        });
        let mut queue = Queue::new(scheduler, Sites::new(start.providers));
        queue.set_pools(&config);
        let shard = Rc::new(Self {
            index: start.index,
            queue: RefCell::new(queue),
            router: RefCell::new(Rc::new(router)),
            own_addresses: start.own_addresses,
            dns,
            tickets: Tickets::default(),
            unkept: RefCell::default(),
            spool_failed: Cell::new(false),
            kick: Notify::new(),
            drain_bell: Rc::new(Notify::new()),
            bells: RefCell::default(),
            hosts: RefCell::new(Hosts::new(memory(&config))),
            no_tls: RefCell::new(Hosts::new(tls_memory(&config))),
            liars: RefCell::default(),
            troubles: RefCell::default(),
            working: RefCell::default(),
            notices: Semaphore::new(NOTICES_AT_ONCE),
            signing: Semaphore::new(1),
            alignment: RefCell::default(),
            signed: Cell::new(0),
            gathered: RefCell::default(),
            tls_results: RefCell::default(),
            events_bell: Notify::new(),
            delay_hand: Cell::new(0),
            totals: RefCell::default(),
            lane_counts: RefCell::default(),
            listeners: RefCell::default(),
            config: RefCell::new(config),
            shared: start.shared,
        });
        shard
            .shared
            .spool
            .register_sink(shard.index as u16, Box::new(ShardSink(shard.inbox())));
        for (entrance, bound) in start.listeners {
            let listener = Rc::new(Listener::new(bound));
            shard.listeners.borrow_mut().push(listener.clone());
            shard.spawn_vital("listener", smtp::serve(shard.clone(), entrance, listener));
        }
        shard.spawn_vital("scheduler", shard.clone().drive());
        let events = shard.clone();
        shard.spawn_vital("event log", async move { events.pass_events_on().await });
        if shard.index == 0 {
            ring::spawn(crate::sign::published::watch(shard.clone()));
        }
        Ok(shard)
    }

    /// Starts a task without which the shard is of no use: if it panics, the shard ends, and the
    /// server with it, instead of going on without it.
    fn spawn_vital(&self, name: &'static str, task: impl Future<Output = ()> + 'static) {
        let vital = Vital {
            name,
            inbox: self.inbox(),
        };
        ring::spawn(async move {
            let _vital = vital;
            task.await;
        });
    }

    fn inbox(&self) -> Arc<inbox::Inbox<Mail>> {
        self.shared.inboxes[self.index].clone()
    }

    /// Reads what other threads say, until the server stops.
    async fn read_mail(self: Rc<Self>) -> io::Result<()> {
        let inbox = self.inbox();
        loop {
            for mail in inbox.take().await {
                match mail {
                    Mail::Committed(results) => {
                        for done in results {
                            if let Err(AppendError::Failed(_)) = done.result {
                                self.spool_failed.set(true);
                            }
                            self.tickets.settle(done.token, done.result);
                        }
                    }
                    Mail::Deliveries {
                        domain,
                        routed,
                        entries,
                    } => {
                        let many = entries.len() >= admit::RECOVERY_STEP;
                        self.take_over(&domain, routed, entries);
                        // A start with a large queue serves its sockets meanwhile.
                        if many {
                            ring::breathe().await;
                        }
                    }
                    // These go through the whole queue, and others have their turn meanwhile.
                    Mail::Control(request, answer) => {
                        let shard = self.clone();
                        ring::spawn(async move { drop(answer.send(shard.answer(request).await)) });
                    }
                    Mail::Status(answer) => {
                        let shard = self.clone();
                        ring::spawn(async move { drop(answer.send(shard.status().await)) });
                    }
                    Mail::Own(mail) => {
                        let shard = self.clone();
                        ring::spawn(shard.queue_own(*mail));
                    }
                    Mail::Ask(question, answer) => {
                        let shard = self.clone();
                        ring::spawn(
                            async move { drop(answer.send(shard.ask_dns(question).await)) },
                        );
                    }
                    Mail::Addresses(host, answer) => {
                        let router = self.router.borrow().clone();
                        ring::spawn(
                            async move { drop(answer.send(router.addresses(&host).await)) },
                        );
                    }
                    Mail::Reload(config, providers) => self.reload(config, providers),
                    Mail::Drain => self.begin_drain(),
                    Mail::Stop => {
                        self.pass_tls_results_on();
                        let mut rest = std::mem::take(&mut *self.gathered.borrow_mut());
                        self.shared.events.send(&mut rest).await;
                        return Ok(());
                    }
                    Mail::Broken(task) => {
                        return Err(io::Error::other(format!("its {task} task panicked")));
                    }
                }
            }
        }
    }

    /// Stops accepting, and lets sessions finish what they have.
    fn begin_drain(&self) {
        for listener in self.listeners.borrow().iter() {
            listener.stop();
        }
        self.drain_bell.notify_waiters();
        for bell in self.bells.borrow().values() {
            bell.close.set(true);
            bell.ring.notify_one();
        }
        self.kick();
    }

    fn reload(&self, config: Arc<Config>, providers: Arc<Providers>) {
        let mut queue = self.queue.borrow_mut();
        let now = crate::net::clock::now();
        queue.sites.set_providers(providers);
        queue.set_pools(&config);
        let limits = crate::queue::providers::limits(
            &config.delivery.limits,
            config.delivery.idle_keepalive,
        );
        queue.scheduler.set_default_limits(now, limits);
        let own: Vec<_> = queue.sites.limits().collect();
        for (gate, limits) in own {
            queue.scheduler.set_limits(now, gate, limits);
        }
        let dead = &config.delivery.dead_host;
        queue.scheduler.set_unreachable(dead.first, dead.max);
        self.hosts.borrow_mut().set_memory(memory(&config));
        self.no_tls.borrow_mut().set_memory(tls_memory(&config));
        queue.forget_routes();
        drop(queue);
        self.alignment.borrow_mut().clear();
        let options = crate::route::options(&config, &self.own_addresses);
        *self.router.borrow_mut() = Rc::new(Router::new(
            self.dns.clone(),
            Arc::new(options),
            config.clone(),
            self.shared.policies.clone(),
        ));
        *self.config.borrow_mut() = config;
        self.kick();
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// What DNS says.
    pub async fn ask_dns(&self, question: Question) -> Arc<Answer> {
        self.dns.ask_patiently(question).await
    }

    /// Runs an evaluation with what DNS says; what it wasn't asked until then counts as a timeout.
    pub async fn evaluate<E: Evaluate>(&self, mut evaluation: E, until: Instant) -> E::Output {
        loop {
            match evaluation.step() {
                Step::Done(output) => return output,
                Step::Ask(_) if clock::now() >= until => {
                    evaluation.answer(&Outcome::Failed(Failure::Timeout));
                }
                Step::Ask(question) => evaluation.answer(&self.ask_dns(question).await.outcome),
            }
        }
    }

    /// The resolver.
    pub fn dns(&self) -> &Dns {
        &self.dns
    }

    /// What was found of late about who may send what.
    pub const fn alignment(&self) -> &RefCell<Findings> {
        &self.alignment
    }

    /// What all threads share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The spool.
    pub fn spool(&self) -> &Spool {
        &self.shared.spool
    }

    /// Whether the server stops.
    pub fn is_draining(&self) -> bool {
        self.shared.is_draining()
    }

    /// Rings when the server begins to stop.
    pub fn draining(&self) -> Rc<Notify> {
        self.drain_bell.clone()
    }

    /// Something that has to end before the server may stop begins (1) or ends (-1).
    pub fn busy(&self, change: i64) {
        self.shared.busy.fetch_add(change as u64, Ordering::AcqRel);
    }

    fn count_lane(&self, task: Option<&LaneTask>, count: impl FnOnce(&mut LaneCounts)) {
        if let Some(task) = task {
            count(
                self.lane_counts
                    .borrow_mut()
                    .entry((task.source_id.0, task.site_id.0))
                    .or_default(),
            );
        }
    }
}

/// Goes with a task that the shard can't be without, and tells it when that panics.
pub struct Vital {
    name: &'static str,
    inbox: Arc<inbox::Inbox<Mail>>,
}

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.inbox.put(Mail::Broken(self.name));
        }
    }
}

/// A shard's part of the sessions with receivers: all parts together are the limit, but none is
/// less than one.
fn sessions_share(config: &Config, shard: usize, shards: usize) -> u32 {
    let all = config.limits.max_delivery_sessions;
    let share = all / shards + usize::from(shard < all % shards);
    u32::try_from(share.max(1)).unwrap_or(u32::MAX)
}

/// How long hosts without TLS are remembered.
fn tls_memory(config: &Config) -> Memory {
    Memory {
        first: config.tls.retry_after,
        max: config.tls.retry_after,
        ..Memory::default()
    }
}

/// How long dead hosts are remembered.
fn memory(config: &Config) -> Memory {
    let dead = &config.delivery.dead_host;
    Memory {
        first: dead.first,
        max: dead.max,
        ..Memory::default()
    }
}
