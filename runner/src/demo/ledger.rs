//! What became of each recipient, by the events.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::events::Line;
use super::letter;
use super::world::World;

/// Longest time in the queue that is told apart, ms.
const QUEUED_MS_MAX: u64 = 600_000;

/// Where a delivery is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not ended.
    #[default]
    Open,
    /// The receiver took it.
    Delivered,
    /// Refused for good.
    Bounced,
    /// Its time ran out.
    Expired,
    /// Not to be sent.
    Suppressed,
}

/// Counts by class of verdict.
pub type ByClass = BTreeMap<String, u64>;

/// What became of the recipients of one provider.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many recipients there are.
    pub recipients: u64,
    /// Delivered.
    pub delivered: u64,
    /// Of them, over TLS.
    pub encrypted: u64,
    /// Bounced, and why.
    pub bounced: ByClass,
    /// Expired, and for what they had waited.
    pub expired: ByClass,
    /// Suppressed.
    pub suppressed: u64,
    /// Failed attempts that were repeated, and why they failed.
    pub deferrals: ByClass,
}

impl Tally {
    /// Recipients that have come to an end.
    pub fn ended(&self) -> u64 {
        self.delivered + sum(&self.bounced) + sum(&self.expired) + self.suppressed
    }
}

/// All of them together.
pub fn sum(counts: &ByClass) -> u64 {
    counts.values().sum()
}

/// Everything.
#[derive(Debug)]
pub struct Ledger {
    world: Arc<World>,
    states: Vec<State>,
    /// By provider.
    pub tallies: Vec<Tally>,
    /// Time in the queue of those that were delivered, ms.
    pub queued: Histogram<u64>,
    /// When how many had ended, for the rate.
    pub course: Vec<(Instant, u64)>,
    /// Recipients that ended more than once.
    pub ended_twice: Vec<String>,
    /// Addresses in events that are nobody's.
    pub unknown: Vec<String>,
    /// Deliveries that were bounced or expired by notifications.
    pub notified: u64,
    notifications: HashSet<String>,
    /// Notifications that weren't sent.
    pub not_notified: u64,
    /// Notifications that were delivered.
    pub notifications_delivered: u64,
    /// Notifications that couldn't be delivered.
    pub notifications_lost: u64,
    /// Events that the server could not write.
    pub lost_events: u64,
    /// Connections that ended, or couldn't begin.
    pub connections: u64,
    /// Times that a lane was slowed down.
    pub throttled: u64,
    /// Notifications are sent to it.
    sender: String,
    began: Instant,
}

impl Ledger {
    /// Nobody has anything yet.
    pub fn new(world: Arc<World>) -> Self {
        let mut tallies = vec![Tally::default(); world.providers.len()];
        for i in 0..world.recipients() {
            tallies[world.home(i)].recipients += 1;
        }
        Self {
            states: vec![State::Open; world.recipients() as usize],
            tallies,
            queued: Histogram::new_with_bounds(1, QUEUED_MS_MAX, 3).expect("its bounds are right"),
            course: Vec::new(),
            ended_twice: Vec::new(),
            unknown: Vec::new(),
            notified: 0,
            notifications: HashSet::new(),
            not_notified: 0,
            notifications_delivered: 0,
            notifications_lost: 0,
            lost_events: 0,
            connections: 0,
            throttled: 0,
            sender: letter::sender(),
            world,
            began: Instant::now(),
        }
    }

    /// Where recipient `i` is.
    pub fn state(&self, i: u32) -> State {
        self.states[i as usize]
    }

    /// Whether every recipient has come to an end.
    pub fn is_complete(&self) -> bool {
        self.ended() == u64::from(self.world.recipients()) && self.notified >= self.failed()
    }

    /// Recipients that have come to an end.
    pub fn ended(&self) -> u64 {
        self.tallies.iter().map(Tally::ended).sum()
    }

    /// Recipients that bounced or expired.
    pub fn failed(&self) -> u64 {
        let failed = |t: &Tally| sum(&t.bounced) + sum(&t.expired);
        self.tallies.iter().map(failed).sum()
    }

    /// Different notifications of failure.
    pub fn notifications(&self) -> u64 {
        self.notifications.len() as u64
    }

    /// Recipients that were delivered.
    pub fn delivered(&self) -> u64 {
        self.tallies.iter().map(|t| t.delivered).sum()
    }

    /// How long it took until this part of the recipients had ended.
    pub fn until(&self, part: f64) -> Option<Duration> {
        let wanted = (f64::from(self.world.recipients()) * part).ceil() as u64;
        let reached = self.course.iter().find(|(_, ended)| *ended >= wanted);
        reached.map(|(at, _)| at.duration_since(self.began))
    }

    /// Takes an event.
    pub fn apply(&mut self, line: &Line<'_>) {
        match &*line.kind {
            "delivered" => {
                if !line.tls.is_null()
                    && let Some(i) = self.world.recipient(&line.recipient)
                {
                    self.tallies[self.world.home(i)].encrypted += 1;
                }
                self.end(line, State::Delivered)
            }
            "bounced" => self.end(line, State::Bounced),
            "expired" => self.end(line, State::Expired),
            "suppressed" => self.end(line, State::Suppressed),
            "deferred" => {
                if let Some(i) = self.world.recipient(&line.recipient) {
                    let tally = &mut self.tallies[self.world.home(i)];
                    count(&mut tally.deferrals, &line.class);
                }
            }
            "dsn" if line.action == "failed" => {
                let deliveries = line.deliveries.as_array().map_or(0, Vec::len) as u64;
                match &line.dsn {
                    Some(id) => {
                        self.notifications.insert(id.clone().into_owned());
                        self.notified += deliveries;
                    }
                    None => self.not_notified += deliveries,
                }
            }
            "lost" => self.lost_events += line.count,
            "connection" => self.connections += 1,
            "throttled" => self.throttled += 1,
            _ => {}
        }
    }

    fn end(&mut self, line: &Line<'_>, state: State) {
        if line.recipient == self.sender {
            match state {
                State::Delivered => self.notifications_delivered += 1,
                _ => self.notifications_lost += 1,
            }
            return;
        }
        let Some(i) = self.world.recipient(&line.recipient) else {
            self.unknown.push(line.recipient.clone().into_owned());
            return;
        };
        let slot = &mut self.states[i as usize];
        if *slot != State::Open {
            self.ended_twice.push(line.recipient.clone().into_owned());
            return;
        }
        *slot = state;
        let tally = &mut self.tallies[self.world.home(i)];
        match state {
            State::Open => {}
            State::Delivered => {
                tally.delivered += 1;
                self.queued.saturating_record(line.queued_ms.max(1));
            }
            State::Bounced => count(&mut tally.bounced, &line.class),
            State::Expired => count(&mut tally.expired, &line.class),
            State::Suppressed => tally.suppressed += 1,
        }
        let ended = self.ended();
        // A point each hundredth of a second is enough to draw a rate from.
        let now = Instant::now();
        match self.course.last_mut() {
            Some((at, last)) if now.duration_since(*at) < Duration::from_millis(10) => {
                *last = ended
            }
            _ => self.course.push((now, ended)),
        }
    }
}

fn count(counts: &mut ByClass, class: &str) {
    let class = if class.is_empty() { "other" } else { class };
    match counts.get_mut(class) {
        Some(n) => *n += 1,
        None => {
            counts.insert(class.to_owned(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(ledger: &mut Ledger, text: &str) {
        ledger.apply(&serde_json::from_str(text).unwrap());
    }

    #[test]
    fn each_recipient_ends_once() {
        let world = Arc::new(World::new(3, 1));
        let mut ledger = Ledger::new(world.clone());
        let event = |kind: &str, i: u32| {
            let to = world.address(i);
            format!(r#"{{"kind":"{kind}","recipient":"{to}","class":"busy","queued_ms":7}}"#)
        };
        apply(&mut ledger, &event("deferred", 0));
        apply(&mut ledger, &event("delivered", 0));
        apply(&mut ledger, &event("delivered", 0));
        apply(&mut ledger, &event("bounced", 1));
        assert!(!ledger.is_complete());
        apply(&mut ledger, &event("expired", 2));
        assert!(!ledger.is_complete(), "nobody was told of the failures");
        for i in 1..=2 {
            let dsn = format!(
                r#"{{"kind":"dsn","action":"failed","dsn":"d{i}","deliveries":["m.{i}"]}}"#
            );
            apply(&mut ledger, &dsn);
        }
        assert!(ledger.is_complete());
        assert_eq!(
            (ledger.ended(), ledger.failed(), ledger.delivered()),
            (3, 2, 1)
        );
        assert_eq!((ledger.notifications(), ledger.ended_twice.len()), (2, 1));
        assert_eq!(ledger.tallies[world.home(0)].deferrals["busy"], 1);
    }
}
