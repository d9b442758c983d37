//! The shard and the spool: what is appended, and what waits to be.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::SemaphorePermit;

use super::Shard;
use crate::net::ring;
use crate::queue::message::Message;
use crate::spool::{AppendError, Batch, RefusedWhy};

/// How often outcomes that the spool had no room for are tried again.
const KEEP_AGAIN: Duration = Duration::from_millis(20);

/// Signatures that a shard makes before its sockets have their turn: an RSA key of 2048 bits takes a
/// quarter of a millisecond.
const SIGNED_AT_ONCE: u32 = 4;

/// Why something could not be kept.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotKept {
    /// Refused at once.
    #[error("{0}")]
    Refused(#[from] RefusedWhy),
    /// Taken, and then it failed.
    #[error("{0}")]
    Failed(#[from] AppendError),
}

impl NotKept {
    /// Whether nothing is kept any more before a restart.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Refused(RefusedWhy::Failed(_) | RefusedWhy::Closed)
                | Self::Failed(AppendError::Failed(_))
        )
    }
}

impl Shard {
    /// Waits until fewer notifications are being written than may be at the same time.
    pub async fn turn_to_notify(&self) -> Option<SemaphorePermit<'_>> {
        self.notices.acquire().await.ok()
    }

    /// Waits until a message may be signed: after [`SIGNED_AT_ONCE`] signatures the sockets have
    /// their turn. What was made then is for [`signed`](Self::signed).
    pub async fn turn_to_sign(&self) -> Option<SemaphorePermit<'_>> {
        let permit = self.signing.acquire().await.ok();
        if self.signed.get() >= SIGNED_AT_ONCE {
            ring::breathe().await;
            self.signed.set(0);
        }
        permit
    }

    /// So many signatures were made.
    pub fn signed(&self, made: u32) {
        self.signed.set(self.signed.get().saturating_add(made));
    }

    /// Appends records and waits until they are synced.
    ///
    /// # Errors
    /// When they are not kept.
    pub async fn append_batch(&self, batch: Batch) -> Result<(), NotKept> {
        let ticket = self.tickets.take();
        let durable = Some((self.index as u16, ticket.number()));
        if let Err(refused) = self.shared.spool.append(batch, durable) {
            let number = ticket.number();
            drop(ticket);
            self.tickets.forget(number);
            return Err(refused.why.into());
        }
        Ok(ticket.wait().await?)
    }

    /// Appends outcomes. They are written at once; when the spool has no room, they wait here, and
    /// nothing more is delivered until they are kept.
    pub fn keep(self: &Rc<Self>, batch: Batch) {
        let mut unkept = self.unkept.borrow_mut();
        if !unkept.0.is_empty() {
            unkept.0.push_back(batch);
            return;
        }
        if let Err(refused) = self.shared.spool.append(batch, None) {
            unkept.0.push_back(refused.batch);
            drop(unkept);
            self.busy(1);
            ring::spawn(self.clone().keep_later());
        }
    }

    async fn keep_later(self: Rc<Self>) {
        loop {
            tokio::time::sleep(KEEP_AGAIN).await;
            let mut unkept = self.unkept.borrow_mut();
            while let Some(batch) = unkept.0.pop_front() {
                if let Err(refused) = self.shared.spool.append(batch, None) {
                    let over = matches!(refused.why, RefusedWhy::Failed(_) | RefusedWhy::Closed);
                    if over {
                        self.spool_failed.set(true);
                    }
                    unkept.0.push_front(refused.batch);
                    if over {
                        // Nothing is kept before a restart, which will find these undone and do
                        // them again: duplicates, but no loss.
                        self.busy(-1);
                        return;
                    }
                    break;
                }
            }
            if unkept.0.is_empty() {
                drop(unkept);
                self.busy(-1);
                self.kick();
                return;
            }
        }
    }

    /// Whether outcomes can be written down; if not, nothing may be delivered.
    pub fn can_keep(&self) -> bool {
        self.unkept.borrow().0.is_empty() && !self.spool_failed.get()
    }

    /// The content of a message.
    ///
    /// # Errors
    /// When the spool can't give it.
    pub async fn body(&self, message: &Arc<Message>) -> std::io::Result<Bytes> {
        self.shared.bodies.get(&self.shared.spool, message).await
    }

    /// The message is over: its content needs no memory.
    pub fn release_body(&self, message: &Message) {
        self.shared.bodies.release(message);
    }
}
