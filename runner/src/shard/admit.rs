//! Spooled → Due: deliveries find the shard that owns their lanes.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use courser_core::time::Instant;
use courser_core::traffic::scheduler::SourceId;

use super::Shard;
use super::shared::Mail;
use crate::net::clock;
use crate::queue::message::Message;
use crate::queue::{Entry, Last, Queue};
use crate::route::Routed;
use crate::spool::{Envelope, EnvelopeView, OutcomeKind, RecoveredMessage};

/// Deliveries that recovery hands to a shard at once.
const RECOVERY_STEP: usize = 1000;

impl Shard {
    /// A message was committed: its deliveries are queued.
    pub fn admit(self: &Rc<Self>, envelope: Envelope, body: Bytes) {
        let count = envelope.view().recipients_len() as u32;
        let message = Message::new(envelope, count);
        self.shared.deliveries.take_anyway(u64::from(count));
        if !body.is_empty() {
            self.shared.bodies.keep(&message, body);
        }
        let now = clock::now();
        let due = due_at(now, message.envelope().hold_until().map_or(0, |w| w.unix()));
        let mut elsewhere: HashMap<(usize, String), (Routed, Vec<Entry>)> = HashMap::new();
        let config = self.config();
        let mut queue = self.queue.borrow_mut();
        for (i, recipient) in message.envelope().recipients().enumerate() {
            let entry = Entry {
                message: message.clone(),
                recipient: i as u32,
                attempts: 0,
                due,
                source: None,
                held: false,
                last: None,
            };
            let domain = Queue::domain(recipient.address);
            match queue.known_elsewhere(&domain, now) {
                Some((shard, routed)) => {
                    elsewhere
                        .entry((shard, domain))
                        .or_insert_with(|| (routed, Vec::new()))
                        .1
                        .push(entry);
                }
                None => {
                    let expires = self.expires(now, &message.envelope());
                    if queue.enqueue(&config, now, entry, expires).is_err() {
                        tracing::error!("the scheduler is full; the delivery waits for a restart");
                    }
                }
            }
        }
        drop(queue);
        for ((shard, domain), (routed, entries)) in elsewhere {
            self.hand_over(shard, domain.into(), Some(routed), entries);
        }
        self.kick();
    }

    /// When a message's life in the queue ends.
    pub fn expires(&self, now: Instant, view: &EnvelopeView<'_>) -> Instant {
        let age =
            Duration::from_millis((clock::wall_ms() - view.received_ms() as i64).max(0) as u64);
        let life = self.life_of(view);
        // A message that was to wait lives from then on.
        let begins = view
            .hold_until()
            .map_or(0, |at| at.unix() - (view.received_ms() / 1000) as i64)
            .max(0);
        now + (life + Duration::from_secs(begins as u64)).saturating_sub(age)
    }

    /// Gives deliveries to the shard that owns their lanes.
    pub(super) fn hand_over(
        &self,
        shard: usize,
        domain: Arc<str>,
        routed: Option<Routed>,
        entries: Vec<Entry>,
    ) {
        if let Some(inbox) = self.shared.inboxes.get(shard) {
            let count = entries.len() as u64;
            self.shared.moved.fetch_add(count, Ordering::AcqRel);
            inbox.put(Mail::Deliveries {
                domain,
                routed,
                entries,
            });
        }
    }

    /// Takes deliveries that another shard, or the recovery, hands over.
    pub(super) fn take_over(&self, domain: &str, routed: Option<Routed>, entries: Vec<Entry>) {
        let now = clock::now();
        let config = self.config();
        let mut queue = self.queue.borrow_mut();
        for entry in entries {
            let expires = self.expires(now, &entry.message.envelope());
            if queue.enqueue(&config, now, entry, expires).is_err() {
                tracing::error!("the scheduler is full; the delivery waits for a restart");
            }
        }
        drop(queue);
        if let Some(routed) = routed {
            self.learn_route(domain, &routed, true);
        }
        self.kick();
    }
}

/// The instant of a civil time, seconds; the past is now.
fn due_at(now: Instant, unix: i64) -> Instant {
    let ahead_ms = unix.saturating_mul(1000) - clock::wall_ms();
    now + Duration::from_millis(ahead_ms.max(0) as u64)
}

/// What recovery found, as deliveries for the shards: by message, in steps.
pub fn recovered(
    messages: Vec<RecoveredMessage>,
    source: impl Fn(&str) -> Option<SourceId>,
    mut put: impl FnMut(usize, Vec<Entry>),
) -> u64 {
    let now = clock::now();
    let mut count = 0;
    let mut step = Vec::new();
    let mut turn = 0;
    for recovered in messages {
        let message = Message::new(recovered.envelope, recovered.open.len() as u32);
        let hold_until = message.envelope().hold_until().map_or(0, |w| w.unix());
        for open in recovered.open {
            let mut entry = Entry {
                message: message.clone(),
                recipient: open.recipient,
                attempts: 0,
                due: due_at(now, hold_until),
                source: None,
                held: open.held,
                last: None,
            };
            if let Some(deferral) = open.last {
                entry.attempts = u16::try_from(deferral.attempts).unwrap_or(u16::MAX);
                entry.due = due_at(now, deferral.due.unix());
                entry.source = source(&deferral.source);
                entry.last = Some(Last {
                    text: (&*deferral.text).into(),
                    at_ms: deferral.at.unix().saturating_mul(1000),
                    delay_told: open.delay_dsn_sent,
                });
            } else if open.delay_dsn_sent {
                entry.last = Some(Last {
                    text: "".into(),
                    at_ms: 0,
                    delay_told: true,
                });
            }
            step.push(entry);
            count += 1;
        }
        if step.len() >= RECOVERY_STEP {
            put(turn, std::mem::take(&mut step));
            turn += 1;
        }
    }
    if !step.is_empty() {
        put(turn, step);
    }
    count
}

/// The record that says that an operator holds a delivery, or lets it go.
pub fn held_kind(held: bool) -> OutcomeKind {
    if held {
        OutcomeKind::Held
    } else {
        OutcomeKind::Released
    }
}
