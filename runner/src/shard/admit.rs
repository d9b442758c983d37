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
use crate::queue::{Entry, Last, Queue, Texts};
use crate::route::Routed;
use crate::spool::{Deferral, Envelope, EnvelopeView, OutcomeKind, RecoveredMessage};

/// Deliveries that recovery hands to a shard at once.
pub(super) const RECOVERY_STEP: usize = 1000;

impl Shard {
    /// A message was committed: its deliveries are queued, or held until an operator lets them go.
    pub fn admit(self: &Rc<Self>, envelope: Envelope, body: Bytes, held: bool) {
        let count = envelope.view().recipients_len() as u32;
        let now = clock::now();
        let message = Message::new(envelope, count, now, Duration::ZERO);
        self.shared.deliveries.take_anyway(u64::from(count));
        if !body.is_empty() {
            self.shared.bodies.keep(&message, body);
        }
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
                held,
                last: None,
            };
            let domain = Queue::dest_key(&config, &message.envelope(), recipient.address);
            match queue.known_elsewhere(&domain, now) {
                Some((shard, routed)) => {
                    elsewhere
                        .entry((shard, domain))
                        .or_insert_with(|| (routed, Vec::new()))
                        .1
                        .push(entry);
                }
                None => {
                    let expires = message.expires(self.life_of(&message.envelope()));
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
        for mut entry in entries {
            let life = self.life_of(&entry.message.envelope());
            if entry.message.age(now) >= life {
                entry.due = now;
            }
            let expires = entry.message.expires(life);
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

/// The instant of the next attempt after a restart. A civil clock that was set back meanwhile
/// doesn't make a delivery wait for longer than it was to wait in all.
fn due_again(now: Instant, deferral: &Deferral) -> Instant {
    let wait_s = (deferral.due.unix() - deferral.at.unix()).max(0);
    due_at(now, deferral.due.unix()).min(now + Duration::from_secs(wait_s as u64))
}

/// How long a message had waited when this process found it. Where the civil clock was set back
/// meanwhile that isn't known, and taken for nothing.
fn waited_before(view: &EnvelopeView<'_>) -> Duration {
    Duration::from_millis((clock::wall_ms() - view.received_ms() as i64).max(0) as u64)
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
    let mut texts = Texts::default();
    let mut turn = 0;
    for recovered in messages {
        let before = waited_before(&recovered.envelope.view());
        let open = recovered.open.len() as u32;
        let message = Message::new(recovered.envelope, open, now, before);
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
                entry.due = due_again(now, &deferral);
                entry.source = source(&deferral.source);
                entry.last = Some(Last {
                    text: texts.share(&deferral.text),
                    at_ms: deferral.at.unix().saturating_mul(1000),
                    delay_told: open.delay_dsn_sent,
                });
            } else if open.delay_dsn_sent {
                entry.last = Some(Last {
                    text: texts.share(""),
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

#[cfg(test)]
mod tests {
    use super::*;
    use courser_core::time::Wall;

    #[test]
    fn a_civil_clock_that_was_set_back_parks_no_mail() {
        let now = Instant::from_nanos(1 << 60);
        let deferred = |at: i64, due: i64| Deferral {
            at: Wall::from_unix(at),
            due: Wall::from_unix(due),
            ..Deferral::default()
        };
        let wall = clock::wall().unix();
        let wait = |d: &Deferral| due_again(now, d).since(now).as_secs();
        // Deferred a minute ago, for ten minutes.
        let ordinary = wait(&deferred(wall - 60, wall + 540));
        assert!((538..=540).contains(&ordinary), "{ordinary}");
        assert_eq!(wait(&deferred(wall - 1000, wall - 400)), 0);
        // It was tomorrow then.
        assert_eq!(wait(&deferred(wall + 86_400, wall + 87_000)), 600);
        assert_eq!(wait(&deferred(wall + 86_400, wall + 86_400)), 0);
    }
}
