//! Senders whose mail waits long are told, wherever it waits.

use std::rc::Rc;
use std::time::Duration;

use courser_core::feedback::verdict::{Cause, Verdict};
use courser_core::mail::dsn;
use courser_core::traffic::scheduler::{DeliveryId, View, Where};

use super::Shard;
use crate::control::protocol::WaitReason;
use crate::feedback::bounce::Notice;
use crate::feedback::settle::{Attempt, Said};
use crate::net::clock;
use crate::queue::Queue;

/// Senders that one look tells at most; the next look goes on from there.
const TOLD_AT_ONCE: usize = 500;

impl Shard {
    /// Looks at the next `max` deliveries, round and round over all, and tells the senders of those
    /// that have waited for longer than their stream says.
    pub(super) fn tell_delays(self: &Rc<Self>, max: u32) {
        let config = self.config();
        let delays = config.streams.iter().filter_map(|s| s.delay_dsn_after);
        let Some(shortest) = delays.min() else {
            return;
        };
        let mut late = Vec::new();
        let mut queue = self.queue.borrow_mut();
        let end = queue.scheduler.ids_end();
        let mut hand = self.delay_hand.get();
        for _ in 0..max.min(end) {
            if hand >= end {
                hand = 0;
            }
            let id = DeliveryId(hand);
            hand += 1;
            if self.is_late(&queue, id, shortest) && queue.note_delay_told(id) {
                late.push(id);
                if late.len() >= TOLD_AT_ONCE {
                    break;
                }
            }
        }
        self.delay_hand.set(hand);
        drop(queue);
        for id in late {
            self.tell_delay(id);
        }
    }

    fn is_late(&self, queue: &Queue, id: DeliveryId, shortest: Duration) -> bool {
        let Some(view) = queue.scheduler.get(id) else {
            return false;
        };
        if !waits(&view) || queue.last(id).is_some_and(|l| l.delay_told) {
            return false;
        }
        let Some(message) = queue.message(view.delivery.message) else {
            return false;
        };
        let envelope = message.envelope();
        let age = message.age(clock::now());
        age >= shortest
            && self
                .delay_after(&envelope)
                .is_some_and(|after| age >= after)
    }

    fn tell_delay(self: &Rc<Self>, id: DeliveryId) {
        let now = clock::now();
        let queue = self.queue.borrow();
        let (Some(view), Some((message, leased))) = (queue.scheduler.get(id), queue.leased(id))
        else {
            return;
        };
        let said = match queue.last(id) {
            Some(last) if !last.text.is_empty() => Said::of_line(&last.text),
            _ => {
                let domain = queue.domain_name(view.delivery.dest);
                Said::locally(match self.waiting(&queue, &view, now).reason {
                    WaitReason::Dns => format!("the name servers of {domain} don't answer"),
                    WaitReason::DeadHost => format!("the mail hosts of {domain} don't answer"),
                    _ => format!("waiting for its turn at {domain}"),
                })
            }
        };
        drop(queue);
        let verdict = Verdict {
            permanent: false,
            ..Cause::Expired.verdict()
        };
        let attempt = Attempt::local(None, &message, leased, now);
        let outcome = dsn::Outcome::Delayed;
        if let Some(notice) = Notice::wanted(self, &attempt, outcome, verdict, said) {
            self.notify(&message, notice);
        }
    }
}

/// Whether a delivery waits for something that its sender didn't ask for.
fn waits(view: &View) -> bool {
    match view.state {
        Where::Waiting => view.delivery.attempts > 0,
        Where::Parked | Where::Stranded | Where::Queued(_) => true,
        Where::InFlight(_) | Where::Settling | Where::Held => false,
    }
}
