//! The server's dealings with its spool: what `runner/src/shard/keep.rs`, `admit.rs` and
//! `feedback/bounce.rs` do, in virtual time, and how it stops and starts again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use courser::feedback::settle::Said;
use courser::queue::message::{LAST_CHANCE, Message};
use courser::queue::{Entry, Last, Queue};
use courser::route::Routed;
use courser::session::transaction::Leased;
use courser::spool::{
    AppendError, Batch, CommitSink, Committed, Envelope, EnvelopeFields, Options, Outcome,
    OutcomeKind, RecipientFields, RefusedWhy, Spool, Stepped,
};
use courser_core::mail::address::ReversePath;
use courser_core::mail::dsn;
use courser_core::time::{Instant, Wall};
use courser_core::traffic::scheduler::{Class, SourceId};

use crate::checkers::{Mail, Recipient, With};
use crate::mutations::Fault;
use crate::names::domain;
use crate::session::Client;
use crate::shape::{How, STREAMS};
use crate::shard::Shard;
use crate::world::{Event, World};

/// Civil time at virtual time zero, milliseconds since 1970.
pub(crate) const WALL_BEGINS_MS: i64 = 1_700_000_000_000;
/// As in the runner.
const KEEP_AGAIN: Duration = Duration::from_millis(20);
const NOTIFY_AGAIN: Duration = Duration::from_secs(1);
/// A submitter that was refused comes back after this.
const SUBMIT_AGAIN: Duration = Duration::from_secs(20);

/// Everything that a `kill -9` takes away.
pub(crate) struct Server {
    pub(crate) spool: Spool,
    pub(crate) stepped: Stepped,
    committed: Arc<Mutex<Vec<Committed>>>,
    pub(crate) shards: Vec<Shard>,
    pub(crate) clients: BTreeMap<u64, Client>,
    tickets: BTreeMap<u64, Ticket>,
    next_ticket: u64,
    unkept: VecDeque<Batch>,
    pub(crate) spool_failed: bool,
    /// Notices that wait for others of their message.
    gathering: BTreeMap<u64, Vec<Notice>>,
    write_at: Option<u64>,
    sync_at: Option<u64>,
    reclaim_at: Option<u64>,
}

/// Who waits for an append.
enum Ticket {
    /// A submitter.
    Submitted { key: u32, envelope: Envelope },
    /// Notices.
    Noticed {
        key: u32,
        envelope: Envelope,
        of: Arc<Message>,
        recipients: Vec<u32>,
        again: Again,
    },
}

/// What it takes to append a notification once more.
#[derive(Clone)]
pub(crate) struct Again {
    pub(crate) envelope: Envelope,
    pub(crate) key: u32,
    pub(crate) of: Arc<Message>,
    pub(crate) records: Vec<Outcome>,
}

struct Notice {
    leased: Leased,
    kind: OutcomeKind,
}

struct Sink(Arc<Mutex<Vec<Committed>>>);

impl CommitSink for Sink {
    fn committed(&self, results: Vec<Committed>) {
        self.0.lock().expect("one thread").extend(results);
    }
}

impl Server {
    /// Whether outcomes can be written down; if not, nothing may be delivered.
    pub(crate) fn can_keep(&self) -> bool {
        self.unkept.is_empty() && !self.spool_failed
    }
}

impl World {
    pub(crate) fn wall_ms(&self) -> i64 {
        WALL_BEGINS_MS + (self.now / 1_000_000) as i64
    }

    fn std_instant(&self) -> std::time::Instant {
        self.base + Duration::from_nanos(self.now)
    }

    // -- starting and stopping --

    /// The server starts: reads the spool, and goes on with what it finds.
    pub(crate) fn start(&mut self) {
        let options = Options {
            segment_bytes: self.shape.segment_bytes,
            reserve_bytes: 1 << 20,
            disk: self.disk.clone(),
            ..Options::default()
        };
        let troubles = self.troubles();
        self.disk.set_troubles(Default::default());
        let harms = self.disk.harms();
        let opened = Stepped::open(
            &self.dir,
            options,
            self.std_instant(),
            self.wall_ms() as u64,
        );
        self.disk.set_troubles(troubles);
        let (spool, stepped, recovery) = match opened {
            Ok(opened) => opened,
            Err(error) if self.disk.is_dead() => {
                self.say(|| format!("stopped while starting: {error}"));
                return self.down_again();
            }
            Err(error) if self.disk_is_full() => {
                self.say(|| format!("can't start: {error}"));
                return self.down_again();
            }
            Err(error) => return self.violation(format!("the spool can't be opened: {error}")),
        };
        if self.disk.is_dead() {
            self.say(|| "stopped while starting".into());
            return self.down_again();
        }
        let committed = Arc::new(Mutex::new(Vec::new()));
        let shards = (0..self.shape.shards)
            .map(|n| {
                spool.register_sink(n as u16, Box::new(Sink(committed.clone())));
                Shard::new(self, n)
            })
            .collect();
        let found = recovery.messages.len();
        self.say(|| {
            format!(
                "started: {found} messages in the spool, {} damaged",
                recovery.warnings.len()
            )
        });
        for damage in &recovery.warnings {
            self.say(|| format!("damaged: {damage}"));
        }
        let right = self.check_damage(&harms, &recovery);
        self.check(right);
        self.disk.mended();
        let how = std::mem::replace(&mut self.stopped, How::Close);
        let appending = std::mem::take(&mut self.appending);
        let now = self.instant();
        // Nobody knows whether they were taken: the submitter hands them in again if not.
        let unanswered: Vec<u32> = (0..self.letters.len() as u32)
            .filter(|key| self.books.mails[*key as usize].with == With::Spool)
            .collect();
        let right = self.books.recovered(now, how, &recovery, &appending);
        for key in unanswered {
            self.at_delay(SUBMIT_AGAIN, Event::Submit(key));
        }
        self.check(right);
        self.server = Some(Server {
            spool,
            stepped,
            committed,
            shards,
            clients: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            unkept: VecDeque::new(),
            spool_failed: false,
            gathering: BTreeMap::new(),
            write_at: None,
            sync_at: None,
            reclaim_at: None,
        });
        self.after_spool();
        for (n, recovered) in recovery.messages.into_iter().enumerate() {
            let received_ms = recovered.envelope.view().received_ms() as i64;
            let before = Duration::from_millis((self.wall_ms() - received_ms).max(0) as u64);
            let open = recovered.open.len() as u32;
            let message = Message::new(recovered.envelope, open, now, before);
            if let Some(&key) = self.books.by_id.get(&message.id()) {
                // It has its last chance even if it was away all its life.
                let chance = LAST_CHANCE.min(self.retry_of(&message).life);
                self.books.mails[key as usize].last_chance = now + chance;
            }
            let hold = message.envelope().hold_until().map_or(0, Wall::unix);
            let shard = n % self.shape.shards;
            let mut entries = Vec::new();
            for open in recovered.open {
                if self.fault == Some(Fault::ForgetsOneOfRecovered) && open.recipient == 1 {
                    continue;
                }
                let mut entry = Entry {
                    message: message.clone(),
                    recipient: open.recipient,
                    attempts: 0,
                    due: self.due_at(hold),
                    source: None,
                    held: open.held,
                    last: None,
                };
                if let Some(deferral) = open.last {
                    entry.attempts = u16::try_from(deferral.attempts).unwrap_or(u16::MAX);
                    let wait_s = (deferral.due.unix() - deferral.at.unix()).max(0);
                    let latest = now + Duration::from_secs(wait_s as u64);
                    entry.due = self.due_at(deferral.due.unix()).min(latest);
                    let source = self
                        .config
                        .sources
                        .iter()
                        .position(|s| *s.name == *deferral.source);
                    entry.source = source.map(|s| SourceId(s as u16));
                    entry.last = Some(Last {
                        text: (&*deferral.text).into(),
                        at_ms: deferral.at.unix().saturating_mul(1000),
                        delay_told: open.delay_dsn_sent,
                    });
                }
                entries.push(entry);
            }
            self.take_over(shard, None, entries);
        }
        for shard in 0..self.shape.shards {
            self.kick(shard);
        }
    }

    /// It ended while it started.
    fn down_again(&mut self) {
        self.disk.revive();
        if self.stopped == How::Power {
            self.cut_power();
        }
        self.at_delay(Duration::from_secs(5), Event::Start);
    }

    fn cut_power(&mut self) {
        if let Err(error) = self.disk.cut_power() {
            self.violation(format!("the model of the disk: {error}"));
        }
    }

    /// The server stops.
    pub(crate) fn stop(&mut self, how: How, down: Duration) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        self.say(|| format!("stops: {how:?}, for {down:?}"));
        self.stops += 1;
        self.epoch += 1;
        self.down += down;
        self.stopped = how;
        for ticket in server.tickets.values() {
            match ticket {
                Ticket::Noticed { key, .. } => self.appending.push(*key),
                Ticket::Submitted { .. } => {}
            }
        }
        for client in std::mem::take(&mut server.clients).into_values() {
            for delivery in client.holds() {
                if let Some((message, leased)) = server.shards[client.shard].queue.leased(delivery)
                    && let Some(&key) = self.books.by_id.get(&message.id())
                {
                    self.books.recipient(key, leased.recipient).in_flight = true;
                }
            }
            if let Some(conn) = client.conn {
                self.near_closes(conn);
            }
        }
        let Server { spool, stepped, .. } = server;
        if how == How::Close && !self.disk.is_dead() {
            let failures = self.disk.counts().1;
            let failed = matches!(
                spool.status().state,
                courser::spool::SpoolState::Failed { .. }
            );
            stepped.close(self.std_instant());
            // It may also have ended in the middle of that.
            let whole = !failed && self.disk.counts().1 == failures && !self.disk.is_dead();
            if whole {
                self.books.in_memory.clear();
                self.books.unsynced.clear();
            } else {
                // What couldn't be written, or not since it has failed, is lost, as by a kill.
                self.stopped = How::Kill;
            }
        } else {
            drop(stepped);
        }
        drop(spool);
        self.network.watch.forget();
        self.disk.revive();
        if how == How::Power {
            self.cut_power();
        }
        if matches!(self.fault, Some(Fault::BytesRot | Fault::BytesRotInOrder))
            && let Err(error) = self.disk.rot()
        {
            self.violation(format!("the model of the disk: {error}"));
        }
        self.at_delay(down, Event::Start);
    }

    // -- handing in --

    /// A submitter hands a message in.
    pub(crate) fn submit(&mut self, key: u32) {
        if self.books.mails[key as usize].with != With::Submitter {
            return;
        }
        let refused = match &self.server {
            None => Some("the server is down".to_owned()),
            Some(server) if server.spool_failed => Some("the spool has failed".into()),
            Some(server) => server.spool.accepting().err().map(|why| why.to_string()),
        };
        if let Some(why) = refused {
            self.say(|| format!("m{key} is refused at once: {why}"));
            return self.at_delay(SUBMIT_AGAIN, Event::Submit(key));
        }
        let letter = self.letters[key as usize].clone();
        let id = self.server.as_ref().map_or(0, |s| s.spool.next_id());
        let received_ms = self.wall_ms() as u64;
        let hold = (letter.hold_s > 0)
            .then(|| Wall::from_unix((received_ms / 1000) as i64).plus_s(letter.hold_s as i64));
        let mail = &self.books.mails[key as usize];
        let (tenants, campaigns, class) = match self.fault {
            Some(Fault::OneQueueForAll) => (0, 0, mail.class),
            Some(Fault::OneCampaignForAll) => (1, 0, mail.class),
            Some(Fault::OneClassForAll) => (1, 1, Class::Bulk),
            _ => (1, 1, mail.class),
        };
        let fields = EnvelopeFields {
            id,
            received_ms,
            sender: if letter.sender {
                format!("s{key}@{}", domain(letter.to[0]))
            } else {
                String::new()
            },
            hold_until: hold,
            tenant: format!("t{}", letter.tenant * tenants),
            campaign: format!("c{}", letter.campaign * campaigns),
            stream: STREAMS[letter.stream].into(),
            class: class as u8,
            body_len: mail.body.len() as u64,
            recipients: letter
                .to
                .iter()
                .enumerate()
                .map(|(n, to)| RecipientFields {
                    address: format!("m{key}-{n}@{}", domain(*to)),
                    ..RecipientFields::default()
                })
                .collect(),
            ..EnvelopeFields::default()
        };
        let envelope = fields.encode().expect("within all bounds");
        let body = mail.body.clone();
        let life = self.config.streams[letter.stream].retry.life;
        let now = self.instant();
        // Kept in whole seconds.
        let due = hold.map(|at| self.due_at(at.unix()));
        let mail = &mut self.books.mails[key as usize];
        mail.received = now;
        mail.expires = now + life + Duration::from_secs(letter.hold_s);
        mail.held = due;
        for r in &mut mail.recipients {
            r.due = due;
        }
        let batch = Batch::new().message(envelope.clone(), vec![body]);
        let shard = (key as usize) % self.shape.shards;
        let ticket = Ticket::Submitted { key, envelope };
        self.say(|| format!("m{key} is handed in"));
        match self.append(batch, shard, ticket) {
            Ok(()) => {
                let mail = &mut self.books.mails[key as usize];
                mail.with = With::Spool;
                mail.ids.push(id);
                self.books.by_id.insert(id, key);
                if self.fault == Some(Fault::AnswersBeforeTheSync) {
                    self.books.mails[key as usize].with = With::Server;
                }
            }
            Err(why) => {
                self.say(|| format!("m{key} is refused: {why}"));
                self.at_delay(SUBMIT_AGAIN, Event::Submit(key));
            }
        }
    }

    /// Appends records that somebody waits for.
    fn append(&mut self, batch: Batch, shard: usize, ticket: Ticket) -> Result<(), RefusedWhy> {
        let Some(server) = &mut self.server else {
            return Err(RefusedWhy::Closed);
        };
        let token = server.next_ticket;
        server.next_ticket += 1;
        server
            .spool
            .append(batch, Some((shard as u16, token)))
            .map_err(|refused| refused.why)?;
        server.tickets.insert(token, ticket);
        self.after_spool();
        Ok(())
    }

    /// Appends outcomes; when the spool has no room, they wait, and nothing is delivered.
    pub(crate) fn keep(&mut self, batch: Batch) {
        let Some(server) = &mut self.server else {
            return;
        };
        if self.fault == Some(Fault::LosesOutcomes) {
            return;
        }
        if !server.unkept.is_empty() {
            server.unkept.push_back(batch);
        } else if let Err(refused) = server.spool.append(batch, None) {
            server.unkept.push_back(refused.batch);
            self.at_delay(KEEP_AGAIN, Event::KeepAgain);
        }
        self.after_spool();
    }

    pub(crate) fn keep_again(&mut self) {
        let Some(server) = &mut self.server else {
            return;
        };
        while let Some(batch) = server.unkept.pop_front() {
            if let Err(refused) = server.spool.append(batch, None) {
                let over = matches!(refused.why, RefusedWhy::Failed(_) | RefusedWhy::Closed);
                server.unkept.push_front(refused.batch);
                if over {
                    return self.spool_has_failed();
                }
                break;
            }
        }
        if server.unkept.is_empty() {
            for shard in 0..self.shape.shards {
                self.kick(shard);
            }
        } else {
            self.at_delay(KEEP_AGAIN, Event::KeepAgain);
        }
        self.after_spool();
    }

    /// The spool has failed: somebody notices, and starts the server anew. What the kernel lost is
    /// lost, as if the power had failed.
    fn spool_has_failed(&mut self) {
        if let Some(server) = &mut self.server
            && !std::mem::replace(&mut server.spool_failed, true)
        {
            self.say(|| "the spool has failed".into());
            self.at_delay(Duration::from_secs(30), Event::Restart(How::Power));
        }
    }

    // -- the spool's steps --

    /// Looks what the spool has to do, and when.
    fn after_spool(&mut self) {
        let now = self.std_instant();
        let Some(server) = &mut self.server else {
            return;
        };
        let pending = server.stepped.pending(now);
        let base = self.base;
        let at = |t: std::time::Instant| t.saturating_duration_since(base).as_nanos() as u64;
        let mut plan = Vec::new();
        if let Some(due) = pending.write
            && server
                .write_at
                .is_none_or(|w| w > at(due).max(self.now + 300_000))
        {
            let when = at(due).max(self.now) + self.random.below(200_000);
            server.write_at = Some(when);
            plan.push((when, Event::Write));
        }
        if let Some(due) = pending.sync
            && server
                .sync_at
                .is_none_or(|s| s > at(due).max(self.now + 5_000_000))
        {
            let when = at(due).max(self.now) + self.random.scale(50_000, 5_000_000);
            server.sync_at = Some(when);
            plan.push((when, Event::Sync));
        }
        if pending.reclaim && server.reclaim_at.is_none() {
            let when = self.now + self.random.below(3_000_000);
            server.reclaim_at = Some(when);
            plan.push((when, Event::Reclaim));
        }
        for (when, event) in plan {
            self.at(when, event);
        }
    }

    pub(crate) fn write_step(&mut self) {
        let now = self.std_instant();
        let at = self.now;
        let Some(server) = &mut self.server else {
            return;
        };
        if server.write_at != Some(at) {
            return;
        }
        server.write_at = None;
        let failures = self.disk.counts().1;
        server.stepped.write(now);
        let failed = matches!(
            server.spool.status().state,
            courser::spool::SpoolState::Failed { .. }
        );
        let parked = server.stepped.pending(now).parked;
        if self.disk.is_dead() {
            return;
        }
        if failed {
            self.spool_has_failed();
        }
        let Some(server) = &mut self.server else {
            return;
        };
        // What a failed write left out is tried again, later.
        if parked == 0 && server.unkept.is_empty() && self.disk.counts().1 == failures {
            self.books.written();
        }
        // The writer may have had to wait for a sync.
        self.hear();
    }

    pub(crate) fn sync_step(&mut self) {
        let now = self.std_instant();
        let at = self.now;
        let Some(server) = &mut self.server else {
            return;
        };
        if server.sync_at != Some(at) {
            return;
        }
        server.sync_at = None;
        let synced = server.stepped.sync(now);
        let failed = matches!(
            server.spool.status().state,
            courser::spool::SpoolState::Failed { .. }
        );
        if self.disk.is_dead() {
            return;
        }
        if synced && !failed {
            self.books.synced();
        }
        if failed {
            self.spool_has_failed();
        }
        self.hear();
    }

    /// What the syncer has said.
    fn hear(&mut self) {
        let Some(server) = &mut self.server else {
            return;
        };
        let results = std::mem::take(&mut *server.committed.lock().expect("one thread"));
        for done in results {
            self.settled(done);
        }
        self.after_spool();
    }

    pub(crate) fn reclaim_step(&mut self) {
        let at = self.now;
        let Some(server) = &mut self.server else {
            return;
        };
        if server.reclaim_at != Some(at) {
            return;
        }
        server.reclaim_at = None;
        server.stepped.reclaim();
        self.after_spool();
    }

    fn settled(&mut self, done: Committed) {
        let Some(server) = &mut self.server else {
            return;
        };
        let Some(ticket) = server.tickets.remove(&done.token) else {
            return self.violation("an append ended twice".into());
        };
        match (ticket, done.result) {
            (Ticket::Submitted { key, envelope }, Ok(())) => {
                self.say(|| format!("m{key} gets 250"));
                self.books.accepted(key);
                self.admit(key, envelope);
            }
            (Ticket::Submitted { key, .. }, Err(error)) => {
                self.say(|| format!("m{key} is not taken: {error}"));
                if !matches!(error, AppendError::Failed(_)) {
                    let mail = &mut self.books.mails[key as usize];
                    if mail.with == With::Spool {
                        mail.with = With::Submitter;
                    }
                    // Its id will not come back.
                    if let Some(id) = mail.ids.pop() {
                        self.books.by_id.remove(&id);
                    }
                }
                self.at_delay(SUBMIT_AGAIN, Event::Submit(key));
            }
            (
                Ticket::Noticed {
                    key,
                    envelope,
                    of,
                    recipients,
                    ..
                },
                Ok(()),
            ) => {
                let Some(&of_key) = self.books.by_id.get(&of.id()) else {
                    return self.violation("a notification of nothing".into());
                };
                self.say(|| format!("m{key} notifies of m{of_key}: {recipients:?}"));
                for recipient in &recipients {
                    self.books.noticed.remove(&(of_key, *recipient));
                }
                self.books.accepted(key);
                self.admit(key, envelope);
                if recipients.iter().filter(|_| of.ended()).count() > 0 {
                    self.keep(Batch::new().finish(of.id()));
                }
            }
            (Ticket::Noticed { again, .. }, Err(error)) => {
                if !matches!(error, AppendError::Failed(_)) {
                    self.at_delay(NOTIFY_AGAIN, Event::NotifyAgain(Box::new(again)));
                }
            }
        }
    }

    // -- into the queue --

    /// The instant of a civil time, seconds; the past is now.
    fn due_at(&self, unix: i64) -> Instant {
        let ahead_ms = unix.saturating_mul(1000) - self.wall_ms();
        self.instant() + Duration::from_millis(ahead_ms.max(0) as u64)
    }

    /// A message was committed: its deliveries are queued.
    fn admit(&mut self, key: u32, envelope: Envelope) {
        let count = envelope.view().recipients_len() as u32;
        let now = self.instant();
        let message = Message::new(envelope, count, now, Duration::ZERO);
        let shard = (key as usize) % self.shape.shards;
        let due = self.due_at(message.envelope().hold_until().map_or(0, Wall::unix));
        let mut elsewhere: BTreeMap<(usize, String), (Routed, Vec<Entry>)> = BTreeMap::new();
        let mut here = Vec::new();
        for (n, recipient) in message.envelope().recipients().enumerate() {
            let entry = Entry {
                message: message.clone(),
                recipient: n as u32,
                attempts: 0,
                due,
                source: None,
                held: false,
                last: None,
            };
            let domain = Queue::domain(recipient.address);
            let known = self
                .server
                .as_ref()
                .and_then(|s| s.shards[shard].queue.known_elsewhere(&domain, now));
            match known {
                Some((shard, routed)) => {
                    let list = elsewhere.entry((shard, domain));
                    list.or_insert_with(|| (routed, Vec::new())).1.push(entry);
                }
                None => here.push(entry),
            }
        }
        self.take_over(shard, None, here);
        for ((shard, domain), (routed, entries)) in elsewhere {
            self.hand_over(shard, domain.into(), routed, entries);
        }
    }

    /// Deliveries go to the shard that owns their lanes.
    pub(crate) fn hand_over(
        &mut self,
        shard: usize,
        domain: Arc<str>,
        routed: Routed,
        entries: Vec<Entry>,
    ) {
        self.books.moving += entries.len() as u64;
        let after = Duration::from_micros(self.random.below(300));
        let moved = Box::new((domain, routed, entries));
        self.at_delay(after, Event::Handover(shard, moved));
    }

    pub(crate) fn handed_over(&mut self, shard: usize, moved: (Arc<str>, Routed, Vec<Entry>)) {
        self.books.moving -= moved.2.len() as u64;
        self.take_over(shard, Some((moved.0, moved.1)), moved.2);
    }

    /// Takes deliveries that another shard, or the recovery, hands over.
    fn take_over(&mut self, shard: usize, routed: Option<(Arc<str>, Routed)>, entries: Vec<Entry>) {
        let now = self.instant();
        let config = self.config.clone();
        for mut entry in entries {
            let life = self.retry_of(&entry.message).life;
            if entry.message.age(now) >= life {
                entry.due = now;
                if let Some(&key) = self.books.by_id.get(&entry.message.id()) {
                    self.books.recipient(key, entry.recipient).due = None;
                }
            }
            let expires = entry.message.expires(life);
            let Some(server) = &mut self.server else {
                return;
            };
            let added = server.shards[shard]
                .queue
                .enqueue(&config, now, entry, expires);
            if let Err(misuse) = added {
                return self.violation(format!("enqueue: {misuse}"));
            }
            // The sweep that finds it when its life is over.
            let over = expires.as_nanos().saturating_add(2_000_000_000);
            self.at(over, Event::Sweep(shard));
        }
        if let Some((domain, routed)) = routed {
            self.learn_route(shard, &domain, &routed, true);
        }
        self.kick(shard);
    }

    // -- notifications --

    /// The delivery is over: writes that down, with a notification where its sender wants one.
    pub(crate) fn end(
        &mut self,
        shard: usize,
        message: &Arc<Message>,
        leased: Leased,
        kind: OutcomeKind,
        _said: &Said,
    ) {
        let Some(&key) = self.books.by_id.get(&message.id()) else {
            return self.violation("an end of nothing".into());
        };
        let name = (key, leased.recipient);
        let now = self.instant();
        let slack = self.slack();
        self.say(|| format!("m{}-{} {kind:?}", name.0, name.1));
        let right = self.books.ended(now, name.0, name.1, &kind, slack);
        self.check(right);
        let view = message.envelope();
        let failed = kind != OutcomeKind::Delivered;
        let sender = ReversePath::parse(view.sender()).ok();
        let wanted = failed
            && self.config.dsn.failures
            && sender.is_some_and(|s| {
                dsn::wanted(dsn::Outcome::Failed, &s, None, view.ret(), true).is_some()
            });
        if wanted {
            self.books.noticed.insert(name);
            let wait = self.config.dsn.gather;
            let Some(server) = &mut self.server else {
                return;
            };
            let list = server.gathering.entry(message.id()).or_default();
            list.push(Notice { leased, kind });
            if list.len() == 1 {
                let event = Event::Notify(message.clone());
                self.at_delay(wait, event);
            }
        } else {
            self.books.in_memory.push(name);
            let batch = if message.ended() {
                Batch::new().finish(message.id())
            } else {
                let recipient = leased.recipient;
                Batch::new().outcomes(message.id(), &[Outcome { recipient, kind }])
            };
            self.keep(batch);
        }
        let Some(server) = &mut self.server else {
            return;
        };
        let queue = &mut server.shards[shard].queue;
        let before = queue.scheduler.len();
        queue.ended(
            now,
            leased.delivery,
            courser_core::traffic::scheduler::Report::Ended,
        );
        if queue.scheduler.len() + 1 != before {
            return self.violation(format!("m{}-{} can't be ended", name.0, name.1));
        }
        self.kick(shard);
    }

    /// The notices of a message become one notification.
    pub(crate) fn notify(&mut self, of: &Arc<Message>) {
        let Some(server) = &mut self.server else {
            return;
        };
        let notices = server.gathering.remove(&of.id()).unwrap_or_default();
        if notices.is_empty() {
            return;
        }
        let id = server.spool.next_id();
        let key = self.books.mails.len() as u32;
        let view = of.envelope();
        let to = view
            .sender()
            .rsplit_once('@')
            .map_or("", |s| s.1)
            .to_owned();
        let recipients: Vec<u32> = notices.iter().map(|n| n.leased.recipient).collect();
        let body = Bytes::from(format!(
            "X-Key: {key}\r\nSubject: failed\r\n\r\n{recipients:?}\r\n"
        ));
        let stream = &self.config.streams[self.config.dsn.stream];
        let fields = EnvelopeFields {
            id,
            received_ms: self.wall_ms() as u64,
            tenant: view.tenant().to_owned(),
            campaign: view.campaign().to_owned(),
            stream: stream.name.to_string(),
            class: stream.class as u8,
            body_len: body.len() as u64,
            recipients: vec![RecipientFields {
                address: format!("m{key}-0@{to}"),
                ..RecipientFields::default()
            }],
            ..EnvelopeFields::default()
        };
        let envelope = fields.encode().expect("within all bounds");
        let now = self.instant();
        let life = stream.retry.life;
        let of_key = self.books.by_id[&of.id()];
        let (tenant, campaign) = {
            let of = &self.books.mails[of_key as usize];
            (of.tenant, of.campaign)
        };
        self.books.mails.push(Mail {
            with: With::Submitter,
            tenant,
            campaign,
            class: Class::ALL[stream.class as usize],
            ids: vec![id],
            body,
            received: now,
            expires: now + life,
            held: None,
            last_chance: now,
            recipients: vec![Recipient::default()],
            tells: Some((of_key, recipients)),
        });
        self.books.by_id.insert(id, key);
        let records = notices
            .into_iter()
            .map(|n| Outcome {
                recipient: n.leased.recipient,
                kind: n.kind,
            })
            .collect();
        self.notify_again(Again {
            envelope,
            key,
            of: of.clone(),
            records,
        });
    }

    pub(crate) fn notify_again(&mut self, again: Again) {
        let body = self.books.mails[again.key as usize].body.clone();
        let mut batch = Batch::new().message(again.envelope.clone(), vec![body]);
        if self.fault == Some(Fault::EndsWithoutItsNotification) {
            let alone = Batch::new().outcomes(again.of.id(), &again.records);
            self.keep(alone);
        } else {
            batch = batch.outcomes(again.of.id(), &again.records);
        }
        let shard = again.key as usize % self.shape.shards;
        self.books.mails[again.key as usize].with = With::Spool;
        let ticket = Ticket::Noticed {
            key: again.key,
            envelope: again.envelope.clone(),
            of: again.of.clone(),
            recipients: again.records.iter().map(|r| r.recipient).collect(),
            again: again.clone(),
        };
        if let Err(why) = self.append(batch, shard, ticket) {
            self.books.mails[again.key as usize].with = With::Submitter;
            let over = matches!(why, RefusedWhy::Failed(_) | RefusedWhy::Closed);
            if !over {
                self.at_delay(NOTIFY_AGAIN, Event::NotifyAgain(Box::new(again)));
            }
        }
    }
}
