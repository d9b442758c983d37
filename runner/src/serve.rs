//! `courser serve`: everything starts, runs and ends here.
//!
//! Start: configuration → control socket (so that two servers don't begin) → listeners bound →
//! spool, with its recovery → event log → shards → control plane. End: listeners closed → sessions
//! finish what they have, within the drain time → shards → spool → event log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use courser_core::dns::Name;
use courser_core::traffic::scheduler::SourceId;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::config::{self, Config, reload_plan};
use crate::control::protocol::{
    Filter, Gauges, PAGE_ROWS_MAX, Pong, QueuePage, Request, Response, Status, Subject, Time,
    Totals,
};
use crate::control::server::BoxFuture;
use crate::control::{ControlBackend, ControlServer};
use crate::events::{self, Event, EventKind, EventLog, EventSink};
use crate::intake::clients::Clients;
use crate::intake::smtp::Entrance;
use crate::logging::LogHandle;
use crate::login::{Loaded, Logins};
use crate::memory::{Trim, resident_bytes};
use crate::net::tcp::BoundListener;
use crate::net::{clock, tls};
use crate::queue::providers::Providers;
use crate::route::mta_sts::{self, Policies};
use crate::shard::control::ShardStatus;
use crate::shard::shared::{Mail, Shared};
use crate::shard::{self, admit};
use crate::sign::Keys;
use crate::spool::{self, SpoolState, Store};
use crate::tls_reports::{self, Desk};

/// How often the spool's state is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Shards give their events to the log within this.
const EVENTS_PASSED_ON: Duration = Duration::from_millis(20);
/// How long the removal of segments waits for events to be synced; a log that can't be written must not
/// fill the spool.
const EVENTS_SETTLED: Duration = Duration::from_secs(5);
/// How often the end of draining is looked at.
const LOOK_DRAINING: Duration = Duration::from_millis(20);
/// How long a port that is still in use is waited for at the start.
const PORT_PATIENCE: Duration = Duration::from_secs(3);
/// The control plane's threads: it is never on the path of a message.
const CONTROL_THREADS: usize = 1;
/// How often the shards are asked the same while deliveries move between them.
const ASKED_AGAIN_MAX: usize = 5;
/// Sockets of the resolver in each shard: each adds a port that a spoofer has to guess.
const DNS_SOCKETS: u16 = 4;

/// Runs the server until it is told to stop.
///
/// # Errors
/// Whatever keeps it from starting, in words that say what to do.
pub fn run(path: &Path, config: Config, logging: LogHandle) -> anyhow::Result<()> {
    let started = Time::now();
    raise_open_files(config.limits.open_files);
    let config = Arc::new(config);
    let shards = match config.server.shards {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()?;
    // A hangup while the spool is read is a wish to reload, and not the end, as it is by default.
    let hangups = {
        let _inside = runtime.enter();
        signal(SignalKind::hangup())?
    };
    let control = ControlServer::bind(&config.server.control_socket)?;
    let keys = Arc::new(Keys::load(&config.dkim)?);
    let servers = tls::servers(&config, clock::wall())?;
    let client = Arc::new(tls::Client::load(config.tls.ca_file.as_deref())?);
    let logins = Logins::new(Arc::new(Loaded::load(&config, None)?), config.logins.0);
    let mut doors = bind(&config, &logins.loaded(), &servers, shards)?;
    let recent = events::recent(&config.events.dir).unwrap_or_else(|error| {
        tracing::warn!(%error, dir = %config.events.dir.display(), "the last events can't be read; whether some are missing isn't known");
        None
    });
    let settled = Arc::new(OnceLock::new());
    let options = spool::Options {
        endings_since_ms: recent.as_ref().map(|r| r.since.0),
        before_unlink: Some(wait_for_events(settled.clone())),
        ..config.spool.options()
    };
    // The spool's lock comes before the event files: a second server must not touch them.
    let (spool, recovery) = Store::open(&config.spool.dir, options)?;
    let log = EventLog::open(&config.events.dir, config.events.options())
        .map_err(|e| anyhow::anyhow!("the event log in {}: {e}", config.events.dir.display()))?;
    let sink = log.sink();
    // First of all: should this start die too, the next one finds out from where it has to look.
    if let Some(mut missing) = recent
        .map(|r| r.missing(&recovery.ended))
        .filter(|m| !m.is_empty())
    {
        tracing::warn!(
            count = missing.len(),
            "deliveries ended without an event when the server died; their events were made up"
        );
        sink.send_blocking(&mut missing);
    }
    let _ = settled.set(sink.clone());
    tracing::info!(
        messages = recovery.messages.len(),
        segments = recovery.segments,
        took_ms = recovery.took.as_millis() as u64,
        "the spool is open"
    );
    for warning in tls_reports::warnings(&config, &keys, clock::wall()) {
        tracing::warn!("{warning}");
    }
    let spooled = |id| recovery.messages.iter().any(|m| m.envelope.id() == id);
    let book = tls_reports::book::Book::load(&config.spool.dir, clock::wall(), spooled);
    let desk = Arc::new(Desk::new(book));
    let kept = mta_sts::store::Store::beside(&config.spool.dir);
    let (policies, wanted) = Policies::load(kept, clock::wall());
    let shared = Shared::new(
        config.clone(),
        keys,
        (client, policies),
        logins,
        spool.clone(),
        sink.clone(),
        shards,
    );
    let say = |kind| sink.send_blocking(&mut vec![Event::now(kind)]);
    for damage in &recovery.warnings {
        say(EventKind::Damage(Box::new(damage.into())));
    }
    let providers = Arc::new(Providers::new(&config));
    let own: Vec<_> = doors
        .iter()
        .map(|(_, bound)| bound[0].address().ip())
        .filter(|ip| !ip.is_unspecified())
        .collect();
    let mut threads: Vec<JoinHandle<io::Result<()>>> = Vec::new();
    for index in 0..shards {
        let start = shard::Start {
            index,
            shared: shared.clone(),
            listeners: doors
                .iter_mut()
                .filter_map(|(e, bound)| Some((e.clone(), bound.pop()?)))
                .collect(),
            dns: dns_config(&config)?,
            own_addresses: own.clone(),
            providers: providers.clone(),
        };
        let thread = std::thread::Builder::new().name(format!("shard-{index}"));
        threads.push(thread.spawn(move || shard::run(start))?);
    }
    let messages = recovery.messages.len() as u64;
    let source = |name: &str| {
        config
            .sources
            .iter()
            .position(|s| &*s.name == name)
            .map(|i| SourceId(i as u16))
    };
    let deliveries = admit::recovered(recovery.messages, source, |turn, entries| {
        shared.deliveries.take_anyway(entries.len() as u64);
        let mail = Mail::Deliveries {
            domain: Arc::from(""),
            routed: None,
            entries,
        };
        shared.inboxes[turn % shards].put(mail);
    });
    let version = env!("CARGO_PKG_VERSION").to_owned();
    say(EventKind::Started {
        version: version.clone(),
        pid: std::process::id(),
        messages,
        deliveries,
    });
    for (entrance, _) in &doors {
        let terms = entrance.terms();
        tracing::info!(listener = %terms.listener.name, addresses = ?terms.listener.address, "listening");
    }
    let pong = Pong {
        version,
        pid: std::process::id(),
        hostname: config.hostname.to_string(),
        started,
    };
    let plane = Arc::new(Plane {
        shared: shared.clone(),
        pong,
        path: path.to_owned(),
        logging,
        entrances: doors.iter().map(|d| d.0.clone()).collect(),
        desk: desk.clone(),
    });
    runtime.spawn(desk.clone().run(shared.clone()));
    runtime.spawn(mta_sts::fetch::run(shared.clone(), wanted));
    let reason = runtime.block_on(control_plane(plane, control, hangups, &threads))?;
    for inbox in &shared.inboxes {
        inbox.put(Mail::Stop);
    }
    let mut trouble = None;
    for thread in threads {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                trouble = Some(anyhow::anyhow!(
                    "a shard ended: {error}; is io_uring allowed here (sysctl kernel.io_uring_disabled, seccomp)?"
                ))
            }
            Err(_) => trouble = Some(anyhow::anyhow!("a shard panicked; see the log")),
        }
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    desk.finish(&shared);
    let rest = shared.deliveries.used();
    spool.close();
    sink.send_blocking(&mut vec![Event::now(EventKind::Stopped {
        reason: reason.clone(),
        deliveries: rest,
    })]);
    log.close();
    tracing::info!(%reason, deliveries = rest, "stopped");
    trouble.map_or(Ok(()), Err)
}

/// Waits until the events of what has ended so far are on disk, or can't be; the log is known once what
/// the last server left behind is told.
fn wait_for_events(log: Arc<OnceLock<EventSink>>) -> Arc<dyn Fn() + Send + Sync> {
    Arc::new(move || {
        let began = Instant::now();
        loop {
            // Shards gather what they give to the log.
            std::thread::sleep(EVENTS_PASSED_ON);
            match log.get() {
                Some(sink) => return sink.settle(EVENTS_SETTLED),
                None if began.elapsed() > EVENTS_SETTLED => return,
                None => {}
            }
        }
    })
}

/// Entrances with one bound listener for each shard.
type Doors = Vec<(Arc<Entrance>, Vec<BoundListener>)>;

fn bind(
    config: &Arc<Config>,
    logins: &Loaded,
    servers: &tls::Servers,
    shards: usize,
) -> io::Result<Doors> {
    let mut doors = Doors::new();
    for listener in &config.listeners {
        let clients = Arc::new(Clients::default());
        for address in &listener.address {
            let entrance = Arc::new(Entrance::new(
                config.clone(),
                listener.clone(),
                clients.clone(),
                logins,
                servers.get(&listener.name).cloned(),
            ));
            doors.push((entrance, bind_patiently(*address, shards)?));
        }
    }
    Ok(doors)
}

/// A server that was killed a moment ago may still hold its ports: the kernel takes an io_uring with
/// pending accepts apart in the background.
fn bind_patiently(address: std::net::SocketAddr, shards: usize) -> io::Result<Vec<BoundListener>> {
    let began = Instant::now();
    loop {
        match BoundListener::bind(address, shards) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && began.elapsed() < PORT_PATIENCE =>
            {
                std::thread::sleep(LOOK);
            }
            done => return done,
        }
    }
}

/// As many open files as the configuration asks for, or as the system gives.
fn raise_open_files(wanted: u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit fills the struct that it is given.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return;
    }
    if wanted > limit.rlim_max {
        tracing::warn!(
            wanted,
            hard_limit = limit.rlim_max,
            "fewer open files are allowed than limits.open_files asks for; raise the hard limit (LimitNOFILE=)"
        );
    }
    limit.rlim_cur = match wanted {
        0 => limit.rlim_max,
        wanted => wanted.min(limit.rlim_max).max(limit.rlim_cur),
    };
    // SAFETY: setrlimit reads the struct that it is given.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}

/// How DNS is asked.
///
/// # Errors
/// When no name server is known.
pub fn dns_config(config: &Config) -> anyhow::Result<courser_core::dns::Config> {
    let d = &config.dns;
    let mut servers: Vec<_> = d.servers.iter().map(|s| s.0).collect();
    if servers.is_empty() {
        servers = name_servers(&d.resolv_conf)?;
    }
    let mut dns = courser_core::dns::Config::new(servers);
    dns.sockets = DNS_SOCKETS;
    dns.case_randomisation = d.mixed_case;
    if d.trusted {
        dns.dnssec = courser_core::dns::Dnssec::Ad;
    }
    dns.udp_timeout = d.timeout;
    dns.tcp_timeout = d.timeout * 2;
    dns.attempts_max = d.attempts as usize;
    // Each round over the servers waits twice as long as the one before, and one exchange by TCP may
    // follow.
    let servers = dns.servers.len().max(1) as u32;
    let waits = (0..d.attempts).map(|i| d.timeout * (1 << (i / servers).min(4)));
    dns.give_up = waits.sum::<Duration>() + dns.tcp_timeout;
    dns.ttl_min = d.ttl_min;
    dns.ttl_max = d.ttl_max;
    dns.negative_ttl_max = d.negative_ttl_max;
    dns.cache_entries_max = d.cache_entries;
    Ok(dns)
}

/// The `nameserver` lines of resolv.conf.
fn name_servers(path: &Path) -> anyhow::Result<Vec<std::net::SocketAddr>> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        anyhow::anyhow!("{}: {e}; name the resolvers in dns.servers", path.display())
    })?;
    let servers: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let ip = line
                .trim()
                .strip_prefix("nameserver")?
                .trim()
                .split('%')
                .next()?;
            Some(std::net::SocketAddr::new(ip.parse().ok()?, 53))
        })
        .collect();
    anyhow::ensure!(
        !servers.is_empty(),
        "{} names no nameserver; name the resolvers in dns.servers",
        path.display()
    );
    Ok(servers)
}

/// Signals, the control socket and the watch over draining; gives the reason for the end.
async fn control_plane(
    plane: Arc<Plane>,
    control: ControlServer,
    mut hup: Signal,
    threads: &[JoinHandle<io::Result<()>>],
) -> io::Result<String> {
    let shared = plane.shared.clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let backend = plane.clone();
    let serving = tokio::spawn(async move {
        control
            .run(backend, async move {
                let _ = stopped.await;
            })
            .await
    });
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let mut looks = tokio::time::interval(LOOK);
    let mut reason = String::new();
    let mut drain_ends: Option<tokio::time::Instant> = None;
    let mut trim = Trim::default();
    loop {
        let begin = tokio::select! {
            _ = term.recv() => Some("SIGTERM"),
            _ = int.recv() => Some("SIGINT"),
            _ = hup.recv() => {
                match plane.reload() {
                    Response::Error { message, .. } => tracing::error!("the configuration was not read again: {message}"),
                    Response::Reloaded { applied, needs_restart } => {
                        tracing::info!(?applied, ?needs_restart, "the configuration was read again");
                    }
                    _ => {}
                }
                None
            }
            _ = looks.tick() => None,
        };
        if let Some(begin) = begin {
            if drain_ends.is_some() {
                // Asked twice: what is in flight is left as it is, and tried again after a start.
                begin.clone_into(&mut reason);
                break;
            }
            begin.clone_into(&mut reason);
            shared.drain();
        }
        if shared.is_draining() && drain_ends.is_none() {
            if reason.is_empty() {
                "told to by the control socket".clone_into(&mut reason);
            }
            tracing::info!(%reason, "stopping: nothing more is accepted, what is in flight is finished");
            looks = tokio::time::interval(LOOK_DRAINING);
            drain_ends =
                Some(tokio::time::Instant::now() + plane.shared.config().server.drain_timeout);
        }
        if let Some(end) = drain_ends {
            if shared.busy() == 0 && shared.intake_sessions.used() == 0 {
                break;
            }
            if tokio::time::Instant::now() >= end {
                tracing::warn!(
                    sessions = shared.busy(),
                    "the drain time is over; what is in flight is tried again after the next start"
                );
                break;
            }
        }
        if threads.iter().any(JoinHandle::is_finished) {
            "a shard ended".clone_into(&mut reason);
            break;
        }
        tell_of_spool(&shared).await;
        trim.when_grown();
    }
    tell_of_spool(&shared).await;
    let _ = stop.send(());
    let _ = tokio::time::timeout(Duration::from_secs(2), serving).await;
    Ok(reason)
}

/// What became of the spool since this was told last.
async fn tell_of_spool(shared: &Shared) {
    let mut events = Vec::new();
    for now in shared.spool.state_changes() {
        let (state, reason) = match now {
            SpoolState::Open => ("open", String::new()),
            SpoolState::NearlyFull { reason } => ("nearly-full", reason.to_string()),
            SpoolState::Trouble { reason } => ("trouble", reason.to_string()),
            SpoolState::Failed { reason } => ("failed", reason.to_string()),
        };
        events.push(Event::now(EventKind::Spool {
            state: state.into(),
            reason,
        }));
    }
    for damage in shared.spool.new_damage() {
        events.push(Event::now(EventKind::Damage(Box::new((&damage).into()))));
    }
    if !events.is_empty() {
        shared.events.send(&mut events).await;
    }
}

/// Answers the control socket by asking every shard.
struct Plane {
    shared: Arc<Shared>,
    pong: Pong,
    path: PathBuf,
    logging: LogHandle,
    entrances: Vec<Arc<Entrance>>,
    desk: Arc<Desk>,
}

impl Plane {
    async fn ask(&self, request: &Request) -> Vec<Response> {
        let mut open = Vec::new();
        for inbox in &self.shared.inboxes {
            let (answer, answered) = oneshot::channel();
            inbox.put(Mail::Control(request.clone(), answer));
            open.push(answered);
        }
        let mut answers = Vec::new();
        for answered in open {
            if let Ok(answer) = answered.await {
                answers.push(answer);
            }
        }
        answers
    }

    /// Asks every shard, and again while deliveries go from one to another, since both may have been
    /// asked when one was in neither.
    async fn ask_until_nothing_moves(&self, request: &Request) -> Vec<Response> {
        let mut all = Vec::new();
        for _ in 0..ASKED_AGAIN_MAX {
            let before = self.shared.moved.load(Ordering::Acquire);
            all.extend(self.ask(request).await);
            if self.shared.moved.load(Ordering::Acquire) == before {
                break;
            }
        }
        all
    }

    async fn queue_list(&self, mut request: Request) -> Response {
        // A shard gives no more, so the rows beyond would not be the next ones of all.
        let limit = match &mut request {
            Request::QueueList { limit, .. } => {
                *limit = (*limit).clamp(1, PAGE_ROWS_MAX);
                *limit
            }
            _ => 0,
        };
        let mut all = QueuePage {
            total: Some(0),
            ..QueuePage::default()
        };
        let mut more = false;
        for answer in self.ask(&request).await {
            if let Response::Queue(page) = answer {
                more |= page.next.is_some();
                all.rows.extend(page.rows);
                all.total = all.total.zip(page.total).map(|(a, b)| a + b);
            }
        }
        all.rows.sort_by_key(|r| (r.id.message, r.id.recipient));
        // One that went to another shard meanwhile is in both answers.
        all.rows.dedup_by_key(|r| r.id);
        if all.rows.len() > limit {
            all.rows.truncate(limit);
            more = true;
        }
        all.next = if more {
            all.rows.last().map(|r| r.id.to_string())
        } else {
            None
        };
        Response::Queue(all)
    }

    async fn status(&self) -> Response {
        let mut open = Vec::new();
        for inbox in &self.shared.inboxes {
            let (answer, answered) = oneshot::channel();
            inbox.put(Mail::Status(answer));
            open.push(answered);
        }
        let (mut totals, mut gauges, mut lanes) =
            (Totals::default(), Gauges::default(), Vec::new());
        for answered in open {
            let Ok(ShardStatus {
                totals: t,
                gauges: g,
                lanes: l,
            }) = answered.await
            else {
                continue;
            };
            totals.add(&t);
            gauges.add(&g);
            lanes.extend(l);
        }
        lanes.sort_by_key(|l: &crate::control::protocol::LaneRow| {
            std::cmp::Reverse(l.ready + l.deferred + l.in_flight)
        });
        let spool = self.shared.spool.status();
        gauges.intake_sessions = self.shared.intake_sessions.used();
        gauges.spool_bytes = spool.bytes;
        gauges.spool_free_bytes = spool.free_bytes;
        gauges.memory_bytes = resident_bytes();
        let mut warnings = Vec::new();
        match &spool.state {
            SpoolState::Open => {}
            SpoolState::NearlyFull { reason } => warnings.push(format!(
                "the spool is nearly full, messages are refused: {reason}"
            )),
            SpoolState::Trouble { reason } => warnings.push(format!(
                "writing to the spool failed, messages are refused: {reason}"
            )),
            SpoolState::Failed { reason } => warnings.push(format!(
                "the spool has failed, nothing is accepted or delivered until a restart: {reason}"
            )),
        }
        if spool.damaged > 0 {
            warnings.push(format!(
                "{} damaged records were found in the spool; see {}/corrupt",
                spool.damaged,
                self.shared.config().spool.dir.display()
            ));
        }
        if self.shared.queue_is_full() {
            warnings
                .push("the queue is full, messages are refused (limits.max_deliveries)".to_owned());
        }
        let events = self.shared.events.status();
        if let Some(trouble) = events.trouble {
            warnings.push(format!("events can't be written: {trouble}"));
        }
        warnings.extend(self.shared.key_warnings());
        warnings.extend(self.shared.logins.warnings());
        Response::Status(Box::new(Status {
            server: self.pong.clone(),
            now: Time::now(),
            draining: self.shared.is_draining(),
            shards: self.shared.inboxes.len() as u32,
            totals,
            gauges,
            logins: self
                .shared
                .config()
                .listeners
                .iter()
                .any(|l| l.auth.is_some())
                .then(|| self.shared.logins.counts()),
            lanes,
            warnings,
        }))
    }

    async fn tls_report(&self, domain: Option<String>, send: bool) -> Response {
        if !self.shared.config().tls.report.enabled {
            return Response::error(
                "TLS reports are not made here",
                "set tls.report.enabled = true",
            );
        }
        let only = match domain.as_deref().map(Name::from_domain).transpose() {
            Ok(only) => only,
            Err(error) => {
                let domain = domain.unwrap_or_default();
                return Response::error(
                    format!("{domain} is no domain: {error}"),
                    "write one such as example.net",
                );
            }
        };
        let (reports, lost) = self.desk.today(&self.shared, only.clone()).await;
        let sent = match send {
            true => self.desk.send_now(&self.shared, only).await,
            false => Vec::new(),
        };
        Response::TlsReports {
            reports,
            lost,
            sent,
        }
    }

    /// Reads the configuration again and puts in force what can be.
    fn reload(&self) -> Response {
        let new = match config::load(&self.path) {
            Ok(new) => new,
            Err(error) => {
                self.tell_reload(false, Vec::new(), vec![error.to_string()]);
                return Response::error(error.to_string(), "the old configuration stays in force");
            }
        };
        let keys = match Keys::load(&new.dkim) {
            Ok(keys) => keys,
            Err(faults) => {
                let each = faults.0.iter().map(ToString::to_string).collect();
                self.tell_reload(false, Vec::new(), each);
                let right = "the old configuration and keys stay in force";
                return Response::error(faults.to_string(), right);
            }
        };
        let old = self.shared.config();
        let plan = reload_plan(&old, &new);
        let new = Arc::new(plan.merged(&old, new));
        let load = || {
            let servers = tls::servers(&new, clock::wall())?;
            let client = tls::Client::load(new.tls.ca_file.as_deref())?;
            Ok::<_, tls::FileFault>((servers, client))
        };
        let (servers, client) = match load() {
            Ok(loaded) => loaded,
            Err(fault) => {
                self.tell_reload(false, Vec::new(), vec![fault.to_string()]);
                let right = "the old configuration and certificates stay in force";
                return Response::error(fault.to_string(), right);
            }
        };
        let before = self.shared.logins.loaded();
        let loaded = match Loaded::load(&new, Some(&before)) {
            Ok(loaded) => loaded,
            Err(faults) => {
                let each = faults.0.iter().map(ToString::to_string).collect();
                self.tell_reload(false, Vec::new(), each);
                let right = "the old configuration and users stay in force";
                return Response::error(faults.to_string(), right);
            }
        };
        self.shared.set_config(new.clone());
        self.shared.set_keys(Arc::new(keys));
        self.shared.set_tls(Arc::new(client));
        let changes = loaded.changes(&before);
        let loaded = Arc::new(loaded);
        self.shared.logins.reload(loaded.clone(), new.logins.0);
        self.shared.keys_bell.notify_one();
        self.logging.set_level(new.log.level);
        let providers = Arc::new(Providers::new(&new));
        for entrance in &self.entrances {
            if let Some(listener) = new
                .listeners
                .iter()
                .find(|l| l.name == entrance.terms().listener.name)
            {
                let tls = servers.get(&listener.name).cloned();
                entrance.reload(new.clone(), listener.clone(), &loaded, tls);
            }
        }
        for inbox in &self.shared.inboxes {
            inbox.put(Mail::Reload(new.clone(), providers.clone()));
        }
        let mut applied: Vec<String> = plan.applied.iter().map(ToString::to_string).collect();
        applied.extend(changes);
        let needs_restart: Vec<String> =
            plan.needs_restart.iter().map(ToString::to_string).collect();
        self.tell_reload(true, applied.clone(), needs_restart.clone());
        Response::Reloaded {
            applied,
            needs_restart,
        }
    }

    fn tell_reload(&self, applied: bool, changed: Vec<String>, problems: Vec<String>) {
        let event = Event::now(EventKind::Reloaded {
            applied,
            changed,
            problems,
        });
        self.shared.events.try_send(&mut vec![event]);
    }
}

impl ControlBackend for Plane {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            match request {
                Request::Ping => Response::Pong(self.pong.clone()),
                Request::Status => self.status().await,
                Request::QueueList { .. } => self.queue_list(request).await,
                Request::QueueShow { .. } => {
                    let mut deliveries = Vec::new();
                    for answer in self.ask_until_nothing_moves(&request).await {
                        if let Response::Deliveries { deliveries: some } = answer {
                            deliveries.extend(some);
                        }
                    }
                    deliveries.sort_by_key(|d: &crate::control::protocol::DeliveryDetail| {
                        (d.row.id.message, d.row.id.recipient)
                    });
                    deliveries.dedup_by_key(|d| d.row.id);
                    Response::Deliveries { deliveries }
                }
                Request::Reload => self.reload(),
                Request::TlsReport { domain, send } => self.tls_report(domain, send).await,
                Request::Drain => {
                    self.shared.drain();
                    Response::Draining
                }
                Request::Events { .. } => Response::error("events are a stream", ""),
                Request::Hold { .. }
                | Request::Release { .. }
                | Request::Retry { .. }
                | Request::Bounce { .. }
                | Request::Drop { .. } => {
                    let mut count = 0;
                    // A second retry is not for those of the first.
                    let answers = match request {
                        Request::Retry { .. } => self.ask(&request).await,
                        _ => self.ask_until_nothing_moves(&request).await,
                    };
                    for answer in answers {
                        if let Response::Changed { count: some } = answer {
                            count += some;
                        }
                    }
                    Response::Changed { count }
                }
            }
        })
    }

    fn events(&self, filter: Filter) -> mpsc::Receiver<serde_json::Value> {
        let (send, receive) = mpsc::channel(1024);
        let mut tap = self.shared.events.subscribe();
        tokio::spawn(async move {
            while let Ok(event) = tap.recv().await {
                if event_is_meant(&event, &filter) {
                    let Ok(value) = serde_json::to_value(&*event) else {
                        continue;
                    };
                    // Full: the client reads too slowly, and is let go.
                    if send.try_send(value).is_err() {
                        return;
                    }
                }
            }
        });
        receive
    }
}

fn event_is_meant(event: &Event, filter: &Filter) -> bool {
    if filter.is_everything() {
        return true;
    }
    let Some(e) = event.delivery() else {
        return false;
    };
    filter.matches(&Subject {
        message: e.message.message.0,
        recipient_index: e.delivery.delivery.recipient.unwrap_or_default(),
        sender: &e.message.sender,
        recipient: &e.delivery.recipient,
        domain: &e.delivery.domain,
        tenant: &e.message.tenant,
        campaign: &e.message.campaign,
        stream: &e.message.stream,
        provider: e
            .lane
            .as_ref()
            .map(|l| l.provider.as_str())
            .filter(|p| !p.is_empty()),
        state: filter
            .state
            .unwrap_or(crate::control::protocol::DeliveryState::InFlight),
    })
}
