//! A shard's part of the answers to the control socket.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use courser_core::feedback::verdict::{Class, Scope, Verdict};
use courser_core::time::Instant;
use courser_core::traffic::hosts::Hosts;
use courser_core::traffic::scheduler::{
    BlockReason, DeliveryId, DestId, LaneView, View, Where, Why,
};

use super::Shard;
use super::admit::held_kind;
use crate::control::protocol::Attempt as LastAttempt;
use crate::control::protocol::{
    DeliveryDetail, DeliveryState, Filter, Gauges, LaneRow, QueuePage, QueueRow, Request, Response,
    Subject, Time, Totals, WaitReason, Waiting,
};
use crate::control::{DeliverySelector, MessageId};
use crate::feedback::settle::Said;
use crate::net::{clock, ring};
use crate::queue::{Known, Queue};
use crate::spool::{Batch, Outcome as Record};

/// Deliveries of one page of a list that a shard offers; the answers of all are merged.
const ROWS_MAX: usize = crate::control::protocol::PAGE_ROWS_MAX;
/// Deliveries that are looked at before others have their turn: about a millisecond.
const LOOK_STEP: u32 = 4000;
/// Deliveries that are changed before others have their turn: some milliseconds.
const CHANGE_STEP: usize = 500;
/// Lanes in a status.
const LANES_MAX: usize = 200;

/// A shard's numbers, before they are added up.
pub struct ShardStatus {
    /// Since the start.
    pub totals: Totals,
    /// Now.
    pub gauges: Gauges,
    /// Its lanes, the fullest first.
    pub lanes: Vec<LaneRow>,
}

/// A delivery that was found.
struct Found {
    id: DeliveryId,
    message: u64,
    recipient: u32,
}

impl Shard {
    /// Answers a request with this shard's part.
    pub(super) async fn answer(self: &Rc<Self>, request: Request) -> Response {
        match request {
            Request::QueueList {
                filter,
                limit,
                cursor,
            } => self.list(&filter, limit, cursor.as_deref()),
            Request::QueueShow { id } => {
                let filter = Filter {
                    id: Some(id),
                    ..Filter::default()
                };
                let found = self.find(&filter).await;
                let deliveries = found
                    .into_iter()
                    .filter(|found| self.is_still(found))
                    .map(|found| self.detail(found.id))
                    .collect();
                Response::Deliveries { deliveries }
            }
            Request::Hold { filter, reason } => {
                self.change(&filter, |shard, id| shard.hold(id, &reason))
                    .await
            }
            Request::Release { filter } => self.change(&filter, Self::release).await,
            Request::Retry { filter } => {
                let mut asked = HashSet::new();
                self.change(&filter, |shard, id| shard.retry(id, &mut asked))
                    .await
            }
            Request::Bounce { filter, reason } => {
                self.change(&filter, |shard, id| shard.end_by_hand(id, Some(&reason)))
                    .await
            }
            Request::Drop { filter } => {
                self.change(&filter, |shard, id| shard.end_by_hand(id, None))
                    .await
            }
            _ => Response::error("the shards don't answer this", ""),
        }
    }

    async fn change(
        self: &Rc<Self>,
        filter: &Filter,
        mut change: impl FnMut(&Rc<Self>, DeliveryId) -> bool,
    ) -> Response {
        let mut count = 0;
        for step in self.find(filter).await.chunks(CHANGE_STEP) {
            if count > 0 {
                ring::breathe().await;
            }
            for found in step {
                if self.is_still(found) && change(self, found.id) {
                    count += 1;
                }
            }
            self.kick();
        }
        Response::Changed { count }
    }

    /// Everything that a filter means, as it was when it was come to.
    async fn find(&self, filter: &Filter) -> Vec<Found> {
        let mut all = Vec::new();
        self.look_through(|queue, view| {
            if let Some(message) = queue.message(view.delivery.message)
                && self.is_meant(queue, view, filter)
            {
                all.push(Found {
                    id: view.id,
                    message: message.id(),
                    recipient: view.delivery.recipient,
                });
            }
        })
        .await;
        all
    }

    /// Shows every delivery, in steps.
    async fn look_through(&self, mut look: impl FnMut(&Queue, &View)) {
        let mut from = 0;
        loop {
            let next = from + LOOK_STEP;
            let end = {
                let queue = self.queue.borrow();
                let end = queue.scheduler.ids_end();
                (from..next.min(end))
                    .filter_map(|id| queue.scheduler.get(DeliveryId(id)))
                    .for_each(|view| look(&queue, &view));
                end
            };
            if next >= end {
                return;
            }
            from = next;
            ring::breathe().await;
        }
    }

    /// Whether an id is still that delivery's: ids are used again.
    fn is_still(&self, found: &Found) -> bool {
        let leased = self.queue.borrow().leased(found.id);
        leased.is_some_and(|(message, leased)| {
            message.id() == found.message && leased.recipient == found.recipient
        })
    }

    fn is_meant(&self, queue: &Queue, view: &View, filter: &Filter) -> bool {
        let Some(message) = queue.message(view.delivery.message) else {
            return false;
        };
        // The common case, without looking at texts.
        if filter.id.is_some_and(|id| id.message.0 != message.id()) {
            return false;
        }
        let envelope = message.envelope();
        let recipient = envelope
            .recipient(view.delivery.recipient as usize)
            .map_or("", |r| r.address);
        let domain = queue.domain_name(view.delivery.dest);
        let provider =
            queue
                .sites
                .provider_of(&self.config(), &domain, queue.site_of(view.delivery.dest));
        filter.matches(&Subject {
            message: message.id(),
            recipient_index: view.delivery.recipient,
            sender: envelope.sender(),
            recipient,
            domain: &domain,
            tenant: envelope.tenant(),
            campaign: envelope.campaign(),
            stream: envelope.stream(),
            provider: provider.as_deref(),
            state: state(view),
        })
    }

    fn list(&self, filter: &Filter, limit: usize, cursor: Option<&str>) -> Response {
        let after: Option<(u64, u32)> = cursor.and_then(|c| {
            let at: DeliverySelector = c.parse().ok()?;
            Some((at.message.0, at.recipient.unwrap_or(0)))
        });
        let limit = limit.min(ROWS_MAX);
        let queue = self.queue.borrow();
        let mut found: Vec<((u64, u32), DeliveryId)> = queue
            .scheduler
            .deliveries(DeliveryId(0))
            .filter(|view| self.is_meant(&queue, view, filter))
            .filter_map(|view| {
                Some((
                    (
                        queue.message(view.delivery.message)?.id(),
                        view.delivery.recipient,
                    ),
                    view.id,
                ))
            })
            .collect();
        let total = found.len() as u64;
        found.retain(|(key, _)| after.is_none_or(|after| *key > after));
        let more = found.len() > limit;
        if more {
            found.select_nth_unstable(limit);
            found.truncate(limit);
        }
        found.sort_unstable();
        drop(queue);
        let rows: Vec<QueueRow> = found.into_iter().map(|(_, id)| self.row(id)).collect();
        let next = if more {
            rows.last().map(|r| r.id.to_string())
        } else {
            None
        };
        Response::Queue(QueuePage {
            rows,
            next,
            total: Some(total),
        })
    }

    fn row(&self, id: DeliveryId) -> QueueRow {
        let now = clock::now();
        let config = self.config();
        let queue = self.queue.borrow();
        let view = queue
            .scheduler
            .get(id)
            .expect("found a moment ago on this thread");
        let message = queue
            .message(view.delivery.message)
            .expect("every delivery has its message");
        let envelope = message.envelope();
        let recipient = envelope
            .recipient(view.delivery.recipient as usize)
            .map_or("", |r| r.address);
        let domain = queue.domain_name(view.delivery.dest);
        let site = queue.site_of(view.delivery.dest);
        let source = view
            .delivery
            .source
            .and_then(|s| config.sources.get(usize::from(s.0)));
        QueueRow {
            id: DeliverySelector {
                message: MessageId(message.id()),
                recipient: Some(view.delivery.recipient),
            },
            sender: envelope.sender().to_owned(),
            recipient: recipient.to_owned(),
            tenant: envelope.tenant().to_owned(),
            campaign: envelope.campaign().to_owned(),
            stream: envelope.stream().to_owned(),
            provider: queue
                .sites
                .provider_of(&config, &domain, site)
                .map(|p| p.to_string()),
            site: site
                .and_then(|s| queue.sites.get(s))
                .map(|s| s.name.to_string()),
            source: source.map(|s| s.name.to_string()),
            domain: domain.to_string(),
            state: state(&view),
            attempts: u32::from(view.delivery.attempts),
            received: Time::from_unix_ms(envelope.received_ms() as i64),
            size: envelope.body_len(),
            waiting: self.waiting(&queue, &view, now),
            last_reply: queue
                .last(id)
                .map(|l| l.text.to_string())
                .filter(|t| !t.is_empty()),
        }
    }

    /// Why a delivery hasn't gone yet, and when it will be tried.
    pub(super) fn waiting(&self, queue: &Queue, view: &View, now: Instant) -> Waiting {
        let Some(waiting) = queue.scheduler.explain(now, view.id) else {
            return Waiting::new(WaitReason::InFlight, None, "");
        };
        if self.is_draining() && !matches!(waiting.why, Why::InFlight) {
            return Waiting::new(
                WaitReason::Stopping,
                None,
                "it goes on after the next start",
            );
        }
        let config = self.config();
        let site = queue.site_of(view.delivery.dest);
        let site_name = site
            .and_then(|s| queue.sites.get(s))
            .map(|s| s.name.clone());
        let source = view
            .delivery
            .source
            .and_then(|s| config.sources.get(usize::from(s.0)))
            .map(|s| s.name.to_string());
        let lane = match (&source, &site_name) {
            (Some(source), Some(site)) => format!("from {source} toward {site}"),
            _ => String::new(),
        };
        let limits = site
            .and_then(|s| queue.sites.get(s))
            .map(|s| queue.scheduler.limits_of(s.gate));
        let domain = queue.domain_name(view.delivery.dest);
        let trouble = || self.trouble_text(queue, view).unwrap_or_default();
        let (reason, text) = match waiting.why {
            Why::RetryTime => {
                let text = queue.last(view.id).map(|l| l.text.to_string());
                let text = text.unwrap_or_default();
                // Not a receiver's answer but none of DNS: that is what to look at.
                let reason = match queue.known(view.delivery.dest) {
                    Some(Known::Failed { error }) if text.ends_with(&error.text) => WaitReason::Dns,
                    _ => WaitReason::RetryTime,
                };
                (reason, text)
            }
            Why::Scheduled => (WaitReason::Scheduled, String::new()),
            Why::Dns => {
                let text = match queue.known(view.delivery.dest) {
                    Some(Known::Failed { error }) => error.text.clone(),
                    _ => format!("asking where {domain} takes mail"),
                };
                (WaitReason::Dns, text)
            }
            Why::Hold => (WaitReason::Held, String::new()),
            Why::SourceDisabled => (
                WaitReason::Blocked,
                "no source of its pool may be used".to_owned(),
            ),
            Why::DeadHost => (WaitReason::DeadHost, trouble()),
            Why::Blocked(BlockReason::Operator) => (
                WaitReason::Blocked,
                "an operator stopped the lane".to_owned(),
            ),
            Why::Blocked(_) => (
                WaitReason::Blocked,
                format!("the receiver wants less {lane}"),
            ),
            Why::Rate => {
                let rate = limits
                    .and_then(|l| l.message_rate)
                    .map(|r| format!("{r} "))
                    .unwrap_or_default();
                (WaitReason::MessageRate, format!("{rate}{lane}"))
            }
            Why::Concurrency => {
                let most = limits
                    .map(|l| format!("{} connections ", l.concurrency))
                    .unwrap_or_default();
                (WaitReason::Concurrency, format!("{most}{lane}"))
            }
            Why::Sessions => (WaitReason::Sessions, String::new()),
            Why::ConnectionRate => {
                let rate = limits
                    .and_then(|l| l.connection_rate)
                    .map(|r| format!("{r} "))
                    .unwrap_or_default();
                (WaitReason::ConnectionRate, format!("{rate}{lane}"))
            }
            Why::Connecting => (
                WaitReason::Turn,
                format!("a connection is being opened {lane}"),
            ),
            Why::Turn { ahead, lane: all } => (
                WaitReason::Turn,
                format!("{ahead} of its campaign before it, {all} in its lane, {lane}"),
            ),
            Why::InFlight => (WaitReason::InFlight, lane),
            Why::Settling => (WaitReason::Turn, "being settled".to_owned()),
        };
        let until = waiting.until.map(|at| civil(now, at));
        Waiting::new(reason, until, text)
    }

    fn detail(&self, id: DeliveryId) -> DeliveryDetail {
        let row = self.row(id);
        let now = clock::now();
        let queue = self.queue.borrow();
        let view = queue
            .scheduler
            .get(id)
            .expect("found a moment ago on this thread");
        let message = queue
            .message(view.delivery.message)
            .expect("every delivery has its message");
        let envelope = message.envelope();
        let site = queue
            .site_of(view.delivery.dest)
            .and_then(|s| queue.sites.get(s));
        let hosts = site.map(|s| {
            s.plan
                .addresses()
                .map(|(host, address)| format!("{} {address}", host.name))
                .collect()
        });
        let lane = match view.state {
            Where::Queued(lane) => queue.scheduler.lane_view(lane),
            _ => queue.lane_of(&view),
        };
        let last = queue.last(id);
        let pool = queue.pool_name(view.delivery.pool).map(str::to_owned);
        DeliveryDetail {
            client: envelope
                .client()
                .map(|c| format!("{c} ({})", envelope.helo())),
            pool,
            expires: (view.delivery.expires < Instant::FAR)
                .then(|| civil(now, view.delivery.expires)),
            due: Some(civil(now, view.delivery.due)),
            last_attempt: last
                .as_ref()
                .filter(|l| !l.text.is_empty())
                .map(|l| LastAttempt {
                    at: Time::from_unix_ms(l.at_ms),
                    source: row.source.clone(),
                    peer: None,
                    reply: l.text.to_string(),
                    verdict: None,
                }),
            hosts: hosts.unwrap_or_default(),
            lane: lane.map(|l| self.lane_row(&queue, &l, now)),
            delay_told: last.is_some_and(|l| l.delay_told),
            shard: self.index as u32,
            row,
        }
    }

    fn lane_row(&self, queue: &Queue, lane: &LaneView, now: Instant) -> LaneRow {
        let config = self.config();
        let site = queue.sites.get(lane.site);
        let limits = queue.scheduler.limits_of(lane.gate);
        let counts = self
            .lane_counts
            .borrow()
            .get(&(lane.source.0, lane.site.0))
            .copied()
            .unwrap_or_default();
        let block = lane.block.filter(|b| b.until > now);
        LaneRow {
            source: config
                .sources
                .get(usize::from(lane.source.0))
                .map(|s| s.name.to_string())
                .unwrap_or_default(),
            site: site.map(|s| s.name.to_string()).unwrap_or_default(),
            provider: site.and_then(|s| s.provider.as_deref().map(str::to_owned)),
            ready: lane.queued.iter().map(|n| u64::from(*n)).sum(),
            deferred: 0,
            in_flight: 0,
            connections: lane.sessions,
            connections_max: limits.concurrency,
            message_rate: limits
                .message_rate
                .map(|r| r.to_string())
                .unwrap_or_default(),
            delivered: counts.delivered,
            deferrals: counts.deferrals,
            bounced: counts.bounced,
            waiting: block.map(|b| {
                let reason = match b.reason {
                    BlockReason::DeadHost => WaitReason::DeadHost,
                    _ => WaitReason::Blocked,
                };
                Waiting::new(reason, Some(civil(now, b.until)), "")
            }),
        }
    }

    /// This shard's numbers.
    pub(super) async fn status(&self) -> ShardStatus {
        let mut gauges = Gauges::default();
        let mut deferred_in: std::collections::HashMap<(u16, u32), u64> =
            std::collections::HashMap::new();
        let mut flying_in: std::collections::HashMap<(u16, u32), u64> =
            std::collections::HashMap::new();
        self.look_through(|queue, view| {
            gauges.queued += 1;
            let lane = view
                .delivery
                .source
                .zip(queue.site_of(view.delivery.dest))
                .map(|(s, site)| (s.0, site.0));
            match state(view) {
                DeliveryState::Ready => gauges.ready += 1,
                DeliveryState::Deferred => {
                    gauges.deferred += 1;
                    if let Some(lane) = lane {
                        *deferred_in.entry(lane).or_default() += 1;
                    }
                }
                DeliveryState::Held => gauges.held += 1,
                DeliveryState::InFlight => {
                    gauges.in_flight += 1;
                    if let Some(lane) = lane {
                        *flying_in.entry(lane).or_default() += 1;
                    }
                }
            }
        })
        .await;
        let now = clock::now();
        let queue = self.queue.borrow();
        gauges.delivery_sessions = u64::from(queue.scheduler.totals().sessions);
        let mut lanes: Vec<LaneRow> = queue
            .scheduler
            .lanes()
            .map(|lane| {
                let key = (lane.source.0, lane.site.0);
                LaneRow {
                    deferred: deferred_in.get(&key).copied().unwrap_or_default(),
                    in_flight: flying_in.get(&key).copied().unwrap_or_default(),
                    ..self.lane_row(&queue, &lane, now)
                }
            })
            .collect();
        lanes.sort_by_key(|l| std::cmp::Reverse(l.ready + l.deferred + l.in_flight));
        lanes.truncate(LANES_MAX);
        ShardStatus {
            totals: *self.totals.borrow(),
            gauges,
            lanes,
        }
    }

    fn hold(self: &Rc<Self>, id: DeliveryId, reason: &str) -> bool {
        self.set_held(id, true, reason)
    }

    fn release(self: &Rc<Self>, id: DeliveryId) -> bool {
        self.set_held(id, false, "")
    }

    fn set_held(self: &Rc<Self>, id: DeliveryId, held: bool, reason: &str) -> bool {
        let now = clock::now();
        let mut queue = self.queue.borrow_mut();
        let Some(view) = queue.scheduler.get(id) else {
            return false;
        };
        if view.delivery.hold == held {
            return false;
        }
        let done = if held {
            queue.scheduler.hold(now, id)
        } else {
            queue.scheduler.release(now, id)
        };
        let leased = queue.leased(id);
        drop(queue);
        let (Ok(()), Some((message, leased))) = (done, leased) else {
            return false;
        };
        let record = Record {
            recipient: leased.recipient,
            kind: held_kind(held),
        };
        self.keep(Batch::new().outcomes(message.id(), &[record]));
        self.tell_held(&message, leased, held, reason);
        true
    }

    /// Tries one now. `asked` are the domains whose routes this request forgot already.
    fn retry(self: &Rc<Self>, id: DeliveryId, asked: &mut HashSet<DestId>) -> bool {
        let now = clock::now();
        let mut queue = self.queue.borrow_mut();
        let Some(view) = queue.scheduler.get(id) else {
            return false;
        };
        // What is asked for by hand shall not wait for an old answer of DNS, nor for a pause.
        if asked.is_empty() {
            self.hosts
                .replace(Hosts::new(super::memory(&self.config())));
        }
        if asked.insert(view.delivery.dest) {
            queue.scheduler.forget_route(view.delivery.dest);
            if let Some(Known::Failed { .. }) = queue.known(view.delivery.dest) {
                self.dns.forget();
            }
        }
        if let Some(lane) = queue.lane_of(&view) {
            let _ = queue.scheduler.unblock_lane(now, lane.id);
        }
        let due = matches!(view.state, Where::Waiting);
        let blocked = matches!(view.state, Where::Queued(_) | Where::Parked);
        queue.scheduler.retry_now(now, id).is_ok() && (due || blocked)
    }

    /// Bounces with a reason, or drops without one.
    fn end_by_hand(self: &Rc<Self>, id: DeliveryId, reason: Option<&str>) -> bool {
        let queue = self.queue.borrow();
        let (Some(view), Some((message, leased))) = (queue.scheduler.get(id), queue.leased(id))
        else {
            return false;
        };
        drop(queue);
        // One that a session has can't be ended here: its answer may come any moment.
        if matches!(view.state, Where::InFlight(_)) {
            return false;
        }
        match reason {
            Some(reason) => {
                let verdict = Verdict::new(Class::Policy, Scope::Recipient, true);
                let words = if reason.is_empty() {
                    "the operator of this server gave up on it"
                } else {
                    reason
                };
                self.bounce(&message, leased, verdict, Said::locally(words));
            }
            None => self.drop_delivery(&message, leased, Said::locally("dropped by an operator")),
        }
        // It was in no session, so nobody has reported it.
        let _ = self.queue.borrow_mut().remove(clock::now(), id);
        true
    }
}

fn state(view: &View) -> DeliveryState {
    match view.state {
        Where::Waiting => DeliveryState::Deferred,
        Where::Held => DeliveryState::Held,
        Where::InFlight(_) | Where::Settling => DeliveryState::InFlight,
        Where::Parked | Where::Stranded | Where::Queued(_) => DeliveryState::Ready,
    }
}

/// An instant as civil time.
fn civil(now: Instant, at: Instant) -> Time {
    let now_ms = clock::wall_ms();
    let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX / 2);
    if at >= now {
        Time::from_unix_ms(now_ms.saturating_add(ms(at.since(now))))
    } else {
        Time::from_unix_ms(now_ms - ms(now.since(at)))
    }
}
