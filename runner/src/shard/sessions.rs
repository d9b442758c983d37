//! The shard and its delivery sessions: work to take, trouble to report.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use courser_core::feedback::verdict::{Scope, Verdict};
use courser_core::time::Instant;
use courser_core::traffic::retry;
use courser_core::traffic::scheduler::{
    BlockReason, Closed, DeliveryId, Report, SessionId, Take, View,
};
use tokio::sync::Notify;

use super::Shard;
use crate::config::Retry;
use crate::feedback::bounce::Notice;
use crate::feedback::settle::{Attempt, Said, lane_rest};
use crate::net::{clock, ring};
use crate::queue::Queue;
use crate::queue::message::Message;
use crate::queue::providers::schedule;
use crate::session::connect::{Peer, Unreachable};
use crate::session::transaction::Leased;
use crate::session::{self, LaneTask};
use crate::spool::EnvelopeView;

/// What a session gets when it asks for work.
pub enum Work {
    /// One transaction.
    Batch {
        /// The message.
        message: Arc<Message>,
        /// Its deliveries.
        leased: Vec<Leased>,
    },
    /// Nothing now; look again after so long, or when the bell rings.
    Wait(Duration),
    /// Quit.
    Close,
}

/// Rings when a session should look again, and says when it should end.
#[derive(Default)]
pub struct Bell {
    /// Look again.
    pub ring: Notify,
    /// End when nothing is in flight.
    pub close: std::cell::Cell<bool>,
}

/// How long a session without work waits when nothing says how long.
const IDLE_LOOK: Duration = Duration::from_secs(3600);
/// How long the place of a connection that the receiver didn't want stays empty.
const STEP_ASIDE: Duration = Duration::from_secs(30);
/// How often it is looked whether the others still work.
const STEP_ASIDE_LOOK: Duration = Duration::from_secs(1);

/// The place of a running session: given back however it ends.
struct Place {
    shard: Rc<Shard>,
    task: Rc<LaneTask>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                source = %self.task.source,
                site = %self.task.site,
                "a delivery session panicked; its mail goes back into the queue, and its lane pauses"
            );
            self.shard.close_session(&self.task, Closed::Unreachable);
            self.shard.kick();
        }
        self.shard.busy(-1);
    }
}

impl Shard {
    /// Starts a session.
    pub(super) fn open_session(self: &Rc<Self>, task: LaneTask) {
        self.busy(1);
        self.bells
            .borrow_mut()
            .insert(task.session.0, Rc::new(Bell::default()));
        let task = Rc::new(task);
        let place = Place {
            shard: self.clone(),
            task: task.clone(),
        };
        ring::spawn(async move {
            session::run(place.shard.clone(), task).await;
            drop(place);
        });
    }

    /// The bell of a session.
    pub fn bell(&self, task: &LaneTask) -> Rc<Bell> {
        self.bells
            .borrow_mut()
            .entry(task.session.0)
            .or_default()
            .clone()
    }

    pub(super) fn ring_session(&self, session: SessionId, close: bool) {
        if let Some(bell) = self.bells.borrow().get(&session.0) {
            if close {
                bell.close.set(true);
            }
            bell.ring.notify_one();
        }
    }

    /// The next transaction for a session.
    pub fn take_work(&self, task: &LaneTask, recipients_max: Option<u32>) -> Work {
        if !self.can_keep() || self.events_are_stuck() {
            return Work::Wait(Duration::from_millis(100));
        }
        if self.is_draining() {
            return Work::Close;
        }
        let now = clock::now();
        let mut batch: Vec<DeliveryId> = Vec::new();
        let mut queue = self.queue.borrow_mut();
        let taken = queue.scheduler.take(
            now,
            task.session,
            recipients_max.unwrap_or(u32::MAX).max(1),
            &mut batch,
        );
        match taken {
            Take::Batch(_) => {
                let mut message = None;
                let mut leased = Vec::with_capacity(batch.len());
                for id in batch {
                    if let Some((m, l)) = queue.leased(id) {
                        message.get_or_insert(m);
                        leased.push(l);
                    }
                }
                match message {
                    Some(message) => Work::Batch { message, leased },
                    None => Work::Close,
                }
            }
            Take::Wait(until) | Take::Idle(until) => Work::Wait(until.since(now).min(IDLE_LOOK)),
            Take::Close(_) => Work::Close,
        }
    }

    /// A session takes transactions.
    pub fn session_opened(&self, task: &LaneTask, _peer: &Peer) {
        let key = (task.source_id.0, task.site_id.0);
        self.working
            .borrow_mut()
            .entry(key)
            .or_default()
            .insert(task.session.0);
        self.troubles.borrow_mut().remove(&key);
        let _ = self
            .queue
            .borrow_mut()
            .scheduler
            .opened(clock::now(), task.session);
        self.kick();
    }

    /// Why the lane of a delivery can't be reached.
    pub(super) fn trouble_of(&self, view: &View) -> Option<(LaneTask, Unreachable)> {
        let site = self.queue.borrow().site_of(view.delivery.dest)?;
        self.troubles
            .borrow()
            .get(&(view.delivery.source?.0, site.0))
            .cloned()
    }

    /// The same in words.
    pub(super) fn trouble_text(&self, queue: &Queue, view: &View) -> Option<String> {
        let site = queue.site_of(view.delivery.dest)?;
        self.troubles
            .borrow()
            .get(&(view.delivery.source?.0, site.0))
            .map(|(_, t)| t.said.line())
    }

    /// A session is over.
    pub fn session_closed(&self, task: &LaneTask) {
        self.close_session(task, Closed::Done);
        self.kick();
    }

    /// The session's place is free; until when its lane pauses, if it does.
    fn close_session(&self, task: &LaneTask, how: Closed) -> Option<Instant> {
        self.bells.borrow_mut().remove(&task.session.0);
        let mut working = self.working.borrow_mut();
        let key = (task.source_id.0, task.site_id.0);
        if let Some(sessions) = working.get_mut(&key) {
            sessions.remove(&task.session.0);
            if sessions.is_empty() {
                working.remove(&key);
            }
        }
        drop(working);
        let mut queue = self.queue.borrow_mut();
        let closed = queue.scheduler.closed(clock::now(), task.session, how);
        closed.ok().flatten()
    }

    /// Whether a connection of the lane takes transactions now.
    pub fn lane_works(&self, task: &LaneTask) -> bool {
        self.working
            .borrow()
            .contains_key(&(task.source_id.0, task.site_id.0))
    }

    /// Whether another connection of the lane takes transactions now.
    fn others_work(&self, task: &LaneTask) -> bool {
        let key = (task.source_id.0, task.site_id.0);
        let working = self.working.borrow();
        let sessions = working.get(&key);
        sessions.is_some_and(|all| all.iter().any(|session| *session != task.session.0))
    }

    /// A connection more than the receiver wants from this source: its place stays empty for a
    /// while, so that there are so many fewer, and the others go on.
    pub async fn step_aside(&self, task: &LaneTask, trouble: &Unreachable) {
        tracing::debug!(
            source = %task.source,
            site = %task.site,
            "no further connection: {}", trouble.said.line()
        );
        let bell = self.bell(task);
        let ends = clock::now() + STEP_ASIDE;
        while clock::now() < ends && self.lane_works(task) && !bell.close.get() {
            let _ = tokio::time::timeout(STEP_ASIDE_LOOK, bell.ring.notified()).await;
        }
        self.session_closed(task);
    }

    /// No host of a lane takes us now: the lane pauses, and what was ready in it counts an attempt.
    pub fn lane_unreachable(self: &Rc<Self>, task: &LaneTask, trouble: &Unreachable) {
        let now = clock::now();
        let rest = self
            .close_session(task, Closed::Unreachable)
            .map_or(Duration::ZERO, |until| until.since(now));
        let _ = self.queue.borrow_mut().scheduler.flush_lane(now, task.lane);
        if !rest.is_zero() {
            self.tell_throttled(task, &trouble.verdict, trouble.said.line(), rest);
        }
        let key = (task.source_id.0, task.site_id.0);
        self.troubles
            .borrow_mut()
            .insert(key, (task.clone(), trouble.clone()));
        self.kick();
    }

    /// The session ended in a way that says something about its host.
    pub fn lane_trouble(&self, task: &LaneTask, peer: &Peer, verdict: &Verdict) {
        if verdict.scope == Scope::Host {
            // A host that drops one connection while others of the lane work is not dead.
            if !self.others_work(task) {
                self.host_failed(peer.address);
            }
        } else if let Some(rest) = lane_rest(verdict) {
            self.rest_lane(task, rest, verdict);
        }
    }

    /// The receiver wants the lane to stay away for a while.
    pub fn rest_lane(&self, task: &LaneTask, rest: Duration, verdict: &Verdict) {
        let until = clock::now() + rest;
        let mut queue = self.queue.borrow_mut();
        let blocked = queue
            .scheduler
            .lane_view(task.lane)
            .and_then(|l| l.block)
            .is_some_and(|b| b.until >= until);
        if !blocked {
            let _ =
                queue
                    .scheduler
                    .block_lane(clock::now(), task.lane, until, BlockReason::Throttled);
            drop(queue);
            let words = format!("{}: the receiver wants less", events_class(verdict));
            self.tell_throttled(task, verdict, words, rest);
            self.kick();
        }
    }

    /// A delivery that was handed out was not tried after all.
    pub fn put_back(&self, leased: Leased) {
        let _ = self.queue.borrow_mut().scheduler.report(
            clock::now(),
            leased.delivery,
            Report::NotTried,
        );
        self.kick();
    }

    /// A delivery is over.
    pub fn ended(&self, delivery: DeliveryId) {
        self.queue
            .borrow_mut()
            .ended(clock::now(), delivery, Report::Ended);
        self.shared.deliveries.give(1);
        self.kick();
    }

    /// A delivery waits for its next attempt.
    pub fn defer(
        self: &Rc<Self>,
        attempt: &Attempt<'_>,
        wait: Duration,
        verdict: &Verdict,
        said: &Said,
        age: Duration,
    ) {
        let now = clock::now();
        let id = attempt.leased.delivery;
        let mut queue = self.queue.borrow_mut();
        queue.note(id, &said.line(), clock::wall_ms());
        let exclude_source = verdict.scope == Scope::Source;
        let _ = queue.scheduler.report(
            now,
            id,
            Report::Deferred {
                due: now + wait,
                exclude_source,
            },
        );
        let after = self.delay_after(&attempt.message.envelope());
        let tell = after.is_some_and(|after| age >= after) && queue.note_delay_told(id);
        drop(queue);
        if tell {
            let delayed = courser_core::mail::dsn::Outcome::Delayed;
            if let Some(notice) = Notice::wanted(self, attempt, delayed, *verdict, said.clone()) {
                self.notify(attempt.message, notice);
            }
        }
        self.kick();
    }

    /// Attempts at a delivery so far.
    pub fn attempts(&self, delivery: DeliveryId) -> u32 {
        self.queue
            .borrow()
            .scheduler
            .get(delivery)
            .map_or(0, |v| u32::from(v.delivery.attempts))
    }

    fn stream_retry(&self, view: &EnvelopeView<'_>) -> (Retry, Option<Duration>) {
        let config = self.config();
        let stream = config.stream_named(view.stream()).unwrap_or(0);
        let stream = &config.streams[stream];
        (stream.retry.clone(), stream.delay_dsn_after)
    }

    /// How long a delivery may wait before its sender is told.
    pub(super) fn delay_after(&self, view: &EnvelopeView<'_>) -> Option<Duration> {
        self.stream_retry(view).1
    }

    /// How long a message lives in the queue.
    pub fn life_of(&self, view: &EnvelopeView<'_>) -> Duration {
        self.stream_retry(view).0.life
    }

    /// How long to wait before the next attempt; `None`: the message's life is over by then.
    pub fn retry_after(
        &self,
        attempt: &Attempt<'_>,
        attempts: u32,
        age: Duration,
        hint: Option<Duration>,
    ) -> Option<Duration> {
        let (retry, _) = self.stream_retry(&attempt.message.envelope());
        let next = retry::Attempt {
            number: attempts,
            age,
            message: attempt.message.id(),
            retry_after: hint,
        };
        // One seed for all recipients, so that they share a transaction again.
        schedule(&retry).next(&next, 0)
    }

    /// Until when an address is not to be tried, since it couldn't be reached.
    pub fn host_dead_until(&self, address: SocketAddr) -> Option<Instant> {
        self.hosts.borrow().dead_until(clock::now(), address)
    }

    /// Whether a handshake with an address failed a while ago.
    pub fn is_tls_broken(&self, address: SocketAddr) -> bool {
        let no_tls = self.no_tls.borrow();
        no_tls.dead_until(clock::now(), address).is_some()
    }

    /// A handshake with an address failed.
    pub fn tls_failed(&self, address: SocketAddr) {
        self.no_tls.borrow_mut().failed(clock::now(), address);
    }

    /// An address couldn't be reached.
    pub fn host_failed(&self, address: SocketAddr) {
        self.hosts.borrow_mut().failed(clock::now(), address);
    }

    /// An address was reached.
    pub fn host_alive(&self, address: SocketAddr) {
        self.hosts.borrow_mut().reached(address);
    }

    /// Whether a peer offered PIPELINING and couldn't do it.
    pub fn lies_about_pipelining(&self, address: SocketAddr) -> bool {
        self.liars.borrow().contains(&address)
    }

    /// A peer offered PIPELINING and seems not to be able to.
    pub fn suspect_pipelining(&self, address: SocketAddr) {
        let mut liars = self.liars.borrow_mut();
        if liars.len() >= super::LIARS_MAX {
            liars.clear();
        }
        liars.insert(address);
    }
}

fn events_class(verdict: &Verdict) -> &'static str {
    crate::events::event::class_name(verdict.class)
}
