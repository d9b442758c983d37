//! Waiting for the committer, without an allocation per wait.
//!
//! A task takes a ticket, gives its number to the spool, and awaits [`Tickets::wait`]; the shard
//! calls [`Tickets::settle`] when the number comes back.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

enum Slot<T> {
    Free(Option<u32>),
    Waiting(Option<Waker>),
    Done(T),
    /// Whoever waited has gone; freed when the answer comes.
    Abandoned,
}

/// The tickets of one shard.
pub struct Tickets<T> {
    inner: RefCell<Inner<T>>,
}

struct Inner<T> {
    slots: Vec<Slot<T>>,
    free: Option<u32>,
    waiting: usize,
}

impl<T> Default for Tickets<T> {
    fn default() -> Self {
        Self {
            inner: RefCell::new(Inner {
                slots: Vec::new(),
                free: None,
                waiting: 0,
            }),
        }
    }
}

/// A number that will be settled once. Dropping it before is allowed.
pub struct Ticket<'a, T> {
    tickets: &'a Tickets<T>,
    number: u32,
}

impl<T> Tickets<T> {
    /// A new ticket.
    pub fn take(&self) -> Ticket<'_, T> {
        let inner = &mut *self.inner.borrow_mut();
        inner.waiting += 1;
        let number = match inner.free {
            Some(number) => {
                if let Slot::Free(next) = inner.slots[number as usize] {
                    inner.free = next;
                }
                inner.slots[number as usize] = Slot::Waiting(None);
                number
            }
            None => {
                inner.slots.push(Slot::Waiting(None));
                (inner.slots.len() - 1) as u32
            }
        };
        Ticket {
            tickets: self,
            number,
        }
    }

    /// Tells the holder of `number` its result. Unknown numbers are ignored.
    pub fn settle(&self, number: u64, value: T) {
        let inner = &mut *self.inner.borrow_mut();
        let Ok(index) = usize::try_from(number) else {
            return;
        };
        match inner.slots.get_mut(index) {
            Some(slot @ Slot::Waiting(_)) => {
                if let Slot::Waiting(Some(waker)) = std::mem::replace(slot, Slot::Done(value)) {
                    waker.wake();
                }
            }
            Some(Slot::Abandoned) => inner.release(index as u32),
            _ => {}
        }
    }

    /// Frees a number whose ticket was dropped and that nobody will settle.
    pub fn forget(&self, number: u64) {
        let inner = &mut *self.inner.borrow_mut();
        let Ok(index) = u32::try_from(number) else {
            return;
        };
        if let Some(Slot::Abandoned) = inner.slots.get(index as usize) {
            inner.release(index);
        }
    }

    /// Tickets that are not yet settled and awaited.
    pub fn waiting(&self) -> usize {
        self.inner.borrow().waiting
    }
}

impl<T> Inner<T> {
    fn release(&mut self, number: u32) {
        self.slots[number as usize] = Slot::Free(self.free);
        self.free = Some(number);
        self.waiting -= 1;
    }
}

impl<T> Ticket<'_, T> {
    /// What to hand to the one who will settle it.
    pub fn number(&self) -> u64 {
        u64::from(self.number)
    }

    /// Waits for [`Tickets::settle`].
    pub async fn wait(self) -> T {
        poll_fn(|cx| {
            let inner = &mut *self.tickets.inner.borrow_mut();
            let slot = &mut inner.slots[self.number as usize];
            if let Slot::Done(_) = slot {
                // The drop of the ticket puts the slot back on the free list.
                if let Slot::Done(value) = std::mem::replace(slot, Slot::Free(None)) {
                    return Poll::Ready(value);
                }
            }
            *slot = Slot::Waiting(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }
}

impl<T> Drop for Ticket<'_, T> {
    fn drop(&mut self) {
        let inner = &mut *self.tickets.inner.borrow_mut();
        match inner.slots[self.number as usize] {
            Slot::Waiting(_) => inner.slots[self.number as usize] = Slot::Abandoned,
            _ => inner.release(self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tickets_are_settled_once_and_reused() {
        let tickets = Tickets::default();
        for round in 0..100u32 {
            let (a, b, gone) = (tickets.take(), tickets.take(), tickets.take());
            let (na, nb, ng) = (a.number(), b.number(), gone.number());
            assert_eq!(tickets.waiting(), 3);
            drop(gone);
            tickets.settle(nb, round + 1);
            tickets.settle(ng, 0);
            let (ra, rb) = tokio::join!(a.wait(), async {
                let b = b.wait().await;
                tickets.settle(na, round);
                b
            });
            assert_eq!((ra, rb), (round, round + 1));
            assert_eq!(tickets.waiting(), 0);
        }
        assert_eq!(tickets.inner.borrow().slots.len(), 3);
    }

    #[tokio::test]
    async fn a_number_that_nobody_holds_is_ignored() {
        let tickets = Tickets::default();
        tickets.settle(7, ());
        let ticket = tickets.take();
        tickets.settle(ticket.number(), ());
        ticket.wait().await;
    }
}
