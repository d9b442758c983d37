//! A message in the queue: shared by all shards that deliver it.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

use crate::spool::{Envelope, EnvelopeView, Spool};

/// A message whose deliveries have not all ended.
pub struct Message {
    envelope: Envelope,
    open: AtomicU32,
    body: Mutex<Option<Kept>>,
}

impl Message {
    /// A message of which `open` deliveries are still to be made.
    pub fn new(envelope: Envelope, open: u32) -> Arc<Self> {
        Arc::new(Self {
            envelope,
            open: AtomicU32::new(open),
            body: Mutex::new(None),
        })
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

/// Bodies in memory, within a budget; what doesn't fit is read back from the spool when its turn
/// comes. The oldest go first: a body is wanted soon after it came, and again only at a retry.
pub struct Bodies {
    budget: u64,
    used: Arc<AtomicU64>,
    order: Mutex<VecDeque<Weak<Message>>>,
}

impl Bodies {
    /// At most `budget` bytes stay in memory beside those that are being sent.
    pub fn new(budget: u64) -> Self {
        Self {
            budget,
            used: Arc::default(),
            order: Mutex::new(VecDeque::new()),
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
            let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
            order.push_back(Arc::downgrade(message));
            // Messages that ended leave an empty place behind; they are many times cheaper than
            // bodies, so looking at the front now and then is enough.
            while order.len() > 64 && order.front().is_some_and(|m| m.strong_count() == 0) {
                order.pop_front();
            }
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

    /// The body: from memory, or read from the spool on a blocking thread.
    ///
    /// # Errors
    /// When the spool can't give it: the disk's error, or a checksum that doesn't fit.
    pub async fn get(&self, spool: &Spool, message: &Arc<Message>) -> io::Result<Bytes> {
        if let Some(body) = message.cached() {
            return Ok(body);
        }
        let (spool, id) = (spool.clone(), message.id());
        let body = tokio::task::spawn_blocking(move || spool.read_body(id))
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?;
        self.keep(message, body.clone());
        Ok(body)
    }
}
