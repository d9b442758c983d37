//! What other threads put before a shard.
//!
//! A thread that adds to an empty inbox wakes the shard, the others don't: under load a shard is
//! woken once for many things. There is no bound here, because everything that arrives is bounded
//! where it begins: commits by the submissions under way, deliveries by the queue's limit, control
//! requests by the control socket's clients.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// A queue from any thread to one shard.
pub struct Inbox<T> {
    things: Mutex<VecDeque<T>>,
    arrived: Notify,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self {
            things: Mutex::new(VecDeque::new()),
            arrived: Notify::new(),
        }
    }
}

impl<T> Inbox<T> {
    /// Adds one thing.
    pub fn put(&self, thing: T) {
        let was_empty = {
            let mut things = self.things.lock().unwrap_or_else(PoisonError::into_inner);
            things.push_back(thing);
            things.len() == 1
        };
        if was_empty {
            self.arrived.notify_one();
        }
    }

    /// Waits until something is there, and takes all of it.
    pub async fn take(&self) -> VecDeque<T> {
        loop {
            let things =
                std::mem::take(&mut *self.things.lock().unwrap_or_else(PoisonError::into_inner));
            if !things.is_empty() {
                return things;
            }
            self.arrived.notified().await;
        }
    }

    /// Takes what is there, without waiting.
    pub fn take_now(&self) -> VecDeque<T> {
        std::mem::take(&mut *self.things.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn nothing_is_lost_between_threads() {
        let inbox = Arc::new(Inbox::default());
        let writers: Vec<_> = (0..4)
            .map(|w| {
                let inbox = inbox.clone();
                std::thread::spawn(move || (0..10_000).for_each(|i| inbox.put((w, i))))
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut next = [0; 4];
        runtime.block_on(async {
            while next != [10_000; 4] {
                for (w, i) in inbox.take().await {
                    assert_eq!(next[w], i);
                    next[w] += 1;
                }
            }
        });
        writers.into_iter().for_each(|w| w.join().unwrap());
    }
}
