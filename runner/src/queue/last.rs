//! What was said about deliveries last: 24 bytes for each, and each text once.

use std::collections::HashSet;
use std::sync::Arc;

use courser_core::traffic::scheduler::DeliveryId;

/// Different texts of last replies that are shared; receivers repeat themselves.
pub const SHARED_TEXTS_MAX: usize = 4096;
/// Deliveries in one piece of [`Lasts`].
const CHUNK: usize = 512;

/// What is known of a delivery beside its place in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// The last reply or cause; empty before the first attempt.
    pub text: Arc<str>,
    /// When that was, milliseconds since 1970.
    pub at_ms: i64,
    /// The sender was told of the delay.
    pub delay_told: bool,
}

/// One [`Last`], packed.
#[derive(Debug)]
struct Packed {
    text: Arc<str>,
    /// Twice the time, and one more if the sender was told.
    at_and_told: i64,
}

/// The last of each delivery, by its number in the scheduler. Numbers are small and used again, so
/// that places cost their own bytes; growing copies nothing.
#[derive(Debug, Default)]
pub(super) struct Lasts {
    chunks: Vec<Box<[Option<Packed>]>>,
}

impl Lasts {
    pub(super) fn get(&self, id: DeliveryId) -> Option<Last> {
        let id = id.0 as usize;
        let packed = self.chunks.get(id / CHUNK)?[id % CHUNK].as_ref()?;
        Some(Last {
            text: packed.text.clone(),
            at_ms: packed.at_and_told >> 1,
            delay_told: packed.at_and_told & 1 == 1,
        })
    }

    pub(super) fn put(&mut self, id: DeliveryId, last: Last) {
        let id = id.0 as usize;
        while self.chunks.len() <= id / CHUNK {
            self.chunks.push((0..CHUNK).map(|_| None).collect());
        }
        self.chunks[id / CHUNK][id % CHUNK] = Some(Packed {
            text: last.text,
            at_and_told: last.at_ms << 1 | i64::from(last.delay_told),
        });
    }

    pub(super) fn take(&mut self, id: DeliveryId) -> Option<Last> {
        let last = self.get(id)?;
        let id = id.0 as usize;
        self.chunks[id / CHUNK][id % CHUNK] = None;
        Some(last)
    }
}

/// Texts that many deliveries have, each once in memory; at most [`SHARED_TEXTS_MAX`] of them.
#[derive(Debug, Default)]
pub struct Texts {
    all: HashSet<Arc<str>>,
}

impl Texts {
    /// The same text once.
    pub fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.all.get(text) {
            return shared.clone();
        }
        let shared: Arc<str> = text.into();
        if self.all.len() >= SHARED_TEXTS_MAX {
            self.all.retain(|t| Arc::strong_count(t) > 1);
        }
        if self.all.len() < SHARED_TEXTS_MAX {
            self.all.insert(shared.clone());
        }
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_comes_back_and_costs_24_bytes() {
        assert_eq!(size_of::<Option<Packed>>(), 24);
        let (mut lasts, mut texts) = (Lasts::default(), Texts::default());
        let last = |texts: &mut Texts, n: u32| Last {
            text: texts.share(["", "451 later", "421 busy"][n as usize % 3]),
            at_ms: i64::from(n) * 1_000_003 - 5_000_000,
            delay_told: n % 2 == 1,
        };
        for n in (0..2000).rev() {
            lasts.put(DeliveryId(n), last(&mut texts, n));
        }
        assert_eq!(lasts.take(DeliveryId(7)), Some(last(&mut texts, 7)));
        for n in 0..2000 {
            let wanted = (n != 7).then(|| last(&mut texts, n));
            assert_eq!(lasts.get(DeliveryId(n)), wanted);
        }
        assert_eq!(lasts.get(DeliveryId(u32::MAX)), None);
        assert_eq!(texts.all.len(), 3);
    }

    #[test]
    fn shared_texts_are_bounded_and_those_in_use_stay() {
        let mut texts = Texts::default();
        let kept = texts.share("kept");
        for n in 0..3 * SHARED_TEXTS_MAX {
            texts.share(&n.to_string());
            assert!(texts.all.len() <= SHARED_TEXTS_MAX);
        }
        assert!(Arc::ptr_eq(&kept, &texts.share("kept")));
    }
}
