//! A message in the queue: shared by all shards that deliver it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use courser_core::time::{Duration, Instant};
use tokio::sync::OnceCell;

use crate::spool::{Envelope, EnvelopeView, Spool};

/// The order of bodies is not tidied below so many places.
const ORDER_TIDY_MIN: usize = 1024;

/// What had its life behind it when the server started lives so long yet: each delivery is tried
/// once more, since it may be the server that was away, or the civil clock that is wrong.
pub const LAST_CHANCE: Duration = Duration::from_secs(10 * 60);

/// A message whose deliveries have not all ended.
///
/// How long it has waited is measured, not read off the civil clock: that may be set forward or back
/// while the message waits. Only what passed before this process is the difference of civil times.
pub struct Message {
    envelope: Envelope,
    open: AtomicU32,
    body: Mutex<Option<Kept>>,
    /// When it came into this process.
    since: Instant,
    /// How long it had waited by then.
    before: Duration,
}

impl Message {
    /// A message of which `open` deliveries are still to be made; `now` it has waited for `before`
    /// already.
    pub fn new(envelope: Envelope, open: u32, now: Instant, before: Duration) -> Arc<Self> {
        Arc::new(Self {
            envelope,
            open: AtomicU32::new(open),
            body: Mutex::new(None),
            since: now,
            before,
        })
    }

    /// How long it has waited since it was accepted.
    pub fn waited(&self, now: Instant) -> Duration {
        self.before.saturating_add(now.since(self.since))
    }

    /// For how long it has been on its way: since it was accepted, or since it was to go.
    pub fn age(&self, now: Instant) -> Duration {
        self.waited(now).saturating_sub(self.asked_to_wait())
    }

    /// When a life of `life` ends.
    pub fn expires(&self, life: Duration) -> Instant {
        let left = life
            .saturating_add(self.asked_to_wait())
            .saturating_sub(self.before);
        let least = if self.before.is_zero() {
            Duration::ZERO
        } else {
            LAST_CHANCE.min(life)
        };
        self.since + left.max(least)
    }

    /// How long its sender wanted it to be held (RFC 4865).
    fn asked_to_wait(&self) -> Duration {
        let view = self.envelope.view();
        let until_ms = view
            .hold_until()
            .map_or(0, |at| at.unix().max(0).saturating_mul(1000) as u64);
        Duration::from_millis(until_ms.saturating_sub(view.received_ms()))
    }

    /// Its id in the spool.
    pub fn id(&self) -> u64 {
        self.envelope.id()
    }

    /// Its envelope.
    pub fn envelope(&self) -> EnvelopeView<'_> {
        self.envelope.view()
    }

    /// One delivery ended; `true` if it was the last.
    pub fn ended(&self) -> bool {
        self.open.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Deliveries that have not ended.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Acquire)
    }

    fn has_body(&self) -> bool {
        self.body
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    fn cached(&self) -> Option<Bytes> {
        self.body
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|kept| kept.body.clone())
    }
}

/// A body in memory; its bytes are given back when it goes, however it goes.
struct Kept {
    body: Bytes,
    used: Arc<AtomicU64>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.used
            .fetch_sub(self.body.len() as u64, Ordering::Relaxed);
    }
}

/// Messages whose bodies were kept, the oldest first.
#[derive(Default)]
struct Order {
    messages: VecDeque<Weak<Message>>,
    /// Places are looked through when there are so many.
    tidy_at: usize,
}

impl Order {
    fn push(&mut self, message: &Arc<Message>) {
        if self.messages.len() >= self.tidy_at {
            // Those that ended left a place behind. Each look pays for as many as it found.
            self.messages
                .retain(|m| m.upgrade().is_some_and(|m| m.has_body()));
            self.tidy_at = (2 * self.messages.len()).max(ORDER_TIDY_MIN);
        }
        self.messages.push_back(Arc::downgrade(message));
    }
}

/// Bodies in memory, within a budget; what doesn't fit is read back from the spool when its turn
/// comes. The oldest go first: a body is wanted soon after it came, and again only at a retry.
pub struct Bodies {
    budget: u64,
    used: Arc<AtomicU64>,
    order: Mutex<Order>,
    /// Those that are read from the spool now, by message.
    reading: Mutex<HashMap<u64, Arc<OnceCell<Bytes>>>>,
}

impl Bodies {
    /// At most `budget` bytes stay in memory beside those that are being sent.
    pub fn new(budget: u64) -> Self {
        Self {
            budget,
            used: Arc::default(),
            order: Mutex::default(),
            reading: Mutex::default(),
        }
    }

    /// Bytes held now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Keeps `body` for `message` if the budget has room, after dropping older ones.
    pub fn keep(&self, message: &Arc<Message>, body: Bytes) {
        let size = body.len() as u64;
        if size > self.budget {
            return;
        }
        while self.used.load(Ordering::Relaxed) + size > self.budget {
            let oldest = self
                .order
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .messages
                .pop_front();
            let Some(oldest) = oldest else { return };
            if let Some(oldest) = oldest.upgrade() {
                self.release(&oldest);
            }
        }
        let mut slot = message.body.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            self.used.fetch_add(size, Ordering::Relaxed);
            *slot = Some(Kept {
                body,
                used: self.used.clone(),
            });
            drop(slot);
            self.order
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(message);
        }
    }

    /// Forgets the body of `message`: it ended, or every delivery waits for a retry.
    pub fn release(&self, message: &Message) {
        drop(
            message
                .body
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }

    /// The body: from memory, or read from the spool on a blocking thread. A message that many
    /// sessions begin at the same time is read once for all of them.
    ///
    /// # Errors
    /// When the spool can't give it: the disk's error, or a checksum that doesn't fit.
    pub async fn get(&self, spool: &Spool, message: &Arc<Message>) -> io::Result<Bytes> {
        let id = message.id();
        self.get_with(message, async || {
            let spool = spool.clone();
            tokio::task::spawn_blocking(move || spool.read_body(id))
                .await
                .map_err(io::Error::other)?
                .map_err(io::Error::other)
        })
        .await
    }

    async fn get_with(
        &self,
        message: &Arc<Message>,
        read: impl AsyncFnOnce() -> io::Result<Bytes>,
    ) -> io::Result<Bytes> {
        if let Some(body) = message.cached() {
            return Ok(body);
        }
        let read_by_all = self.join(message.id());
        // Whoever comes first reads. If that fails or is given up, the next one tries.
        let body = read_by_all.cell.get_or_try_init(async || {
            // It may have been read and kept here since the first look.
            if let Some(body) = message.cached() {
                return Ok(body);
            }
            let body = read().await?;
            self.keep(message, body.clone());
            Ok(body)
        });
        body.await.cloned()
    }

    fn join(&self, id: u64) -> Reading<'_> {
        let cell = self.reading().entry(id).or_default().clone();
        Reading {
            bodies: self,
            id,
            cell,
        }
    }

    fn reading(&self) -> MutexGuard<'_, HashMap<u64, Arc<OnceCell<Bytes>>>> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part in the reading of a body. The first to leave, however it leaves, ends the gathering: who
/// comes later looks at what was kept, or reads again.
struct Reading<'a> {
    bodies: &'a Bodies,
    id: u64,
    cell: Arc<OnceCell<Bytes>>,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut reading = self.bodies.reading();
        let ours = |cell| Arc::ptr_eq(cell, &self.cell);
        if reading.get(&self.id).is_some_and(ours) {
            reading.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::EnvelopeFields;

    fn message(id: u64) -> Arc<Message> {
        let fields = EnvelopeFields {
            id,
            ..EnvelopeFields::default()
        };
        Message::new(fields.encode().unwrap(), 1, Instant::ZERO, Duration::ZERO)
    }

    #[test]
    fn a_life_is_measured_and_not_read_off_the_civil_clock() {
        let s = Duration::from_secs;
        let at = |n| Instant::ZERO + s(n);
        let made = |hold_s: Option<i64>, before| {
            let fields = EnvelopeFields {
                id: 1,
                received_ms: 1_000_000,
                hold_until: hold_s.map(courser_core::time::Wall::from_unix),
                ..EnvelopeFields::default()
            };
            Message::new(fields.encode().unwrap(), 1, at(100), before)
        };
        let new = made(None, Duration::ZERO);
        assert_eq!((new.waited(at(130)), new.age(at(130))), (s(30), s(30)));
        assert_eq!(new.expires(s(3600)), at(3700));
        assert_eq!(new.expires(s(1)), at(101));
        // One that was to wait for 50 s lives from then on.
        let held = made(Some(1050), Duration::ZERO);
        assert_eq!((held.waited(at(130)), held.age(at(130))), (s(30), s(0)));
        assert_eq!(held.age(at(170)), s(20));
        assert_eq!(held.expires(s(3600)), at(3750));
        // One that was there before, and one whose time is over.
        let old = made(None, s(1000));
        assert_eq!(
            (old.age(at(101)), old.expires(s(3600))),
            (s(1001), at(2700))
        );
        assert_eq!(old.expires(s(900)), at(100) + LAST_CHANCE);
        assert_eq!(old.expires(s(5)), at(105));
    }

    #[test]
    fn bodies_stay_within_the_budget_however_their_messages_go() {
        let bodies = Bodies::new(1000);
        let body = Bytes::from(vec![0; 100]);
        let old = message(1);
        bodies.keep(&old, body.clone());
        // Released, dropped without a word, and kept again after its end.
        for id in 2..10_000 {
            let other = message(id);
            bodies.keep(&other, body.clone());
            match id % 3 {
                0 => bodies.release(&other),
                1 => {
                    bodies.release(&other);
                    bodies.keep(&other, body.clone());
                }
                _ => {}
            }
            assert!(bodies.used() <= 200, "{}", bodies.used());
        }
        assert_eq!(bodies.used(), 100);
        let places = bodies.order.lock().unwrap().messages.len();
        assert!(places <= ORDER_TIDY_MIN + 1, "{places}");
        // Older bodies make room.
        let many: Vec<_> = (0..20).map(|i| message(20_000 + i)).collect();
        many.iter().for_each(|m| bodies.keep(m, body.clone()));
        assert_eq!(bodies.used(), 1000);
        assert!(!old.has_body() && many.last().unwrap().has_body());
        bodies.keep(&message(30_000), Bytes::from(vec![0; 1001]));
        drop(many);
        assert_eq!(bodies.used(), 0);
    }
    #[tokio::test]
    async fn a_body_is_read_once_for_all_who_wait_and_again_after_a_failure() {
        // No budget: what is read is kept by nobody.
        let bodies = Bodies::new(0);
        let message = message(1);
        let reads = AtomicU32::new(0);
        let body = Bytes::from_static(b"content");
        let get = |fails: bool| {
            let (reads, body) = (&reads, &body);
            bodies.get_with(&message, async move || {
                reads.fetch_add(1, Ordering::Relaxed);
                // The others come meanwhile.
                tokio::task::yield_now().await;
                if fails {
                    return Err(io::Error::other("disk"));
                }
                Ok(body.clone())
            })
        };
        let got = tokio::join!(get(false), get(false), get(false));
        assert_eq!(got.0.unwrap(), body);
        assert_eq!(
            (got.1.unwrap(), got.2.unwrap()),
            (body.clone(), body.clone())
        );
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        assert!(bodies.reading().is_empty());
        // The first one's failure is its own: the second reads.
        let got = tokio::join!(get(true), get(false), get(false));
        assert!(got.0.is_err());
        assert_eq!(
            (got.1.unwrap(), got.2.unwrap()),
            (body.clone(), body.clone())
        );
        assert_eq!(reads.load(Ordering::Relaxed), 3);
        assert!(bodies.reading().is_empty());
    }
}
