//! Mail of our own that is about no other message: TLS reports.

use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::net::clock;
use crate::shard::Shard;
use crate::shard::keep::NotKept;
use crate::spool::{Batch, EnvelopeFields};

/// A mail that has to be signed, kept and sent.
pub struct OwnMail {
    fields: EnvelopeFields,
    content: Vec<u8>,
    kept: oneshot::Sender<Result<(), NotQueued>>,
    go: oneshot::Receiver<()>,
}

/// Why a mail of our own isn't in the spool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotQueued {
    /// No key signs for the domain of its From.
    #[error("no DKIM key signs for the domain of its From, and unsigned it would be ignored")]
    Unsigned,
    /// The spool doesn't take it.
    #[error("the spool doesn't take it: {0}")]
    Refused(String),
    /// The spool has failed: it may be there after a restart, or not.
    #[error("the spool has failed: {0}")]
    Unsure(String),
}

impl OwnMail {
    /// A mail; then what tells whether it is in the spool, and what lets it go from there. Where that
    /// is dropped it goes after the next start.
    pub fn new(
        fields: EnvelopeFields,
        content: Vec<u8>,
    ) -> (
        Self,
        oneshot::Receiver<Result<(), NotQueued>>,
        oneshot::Sender<()>,
    ) {
        let (kept, is_kept) = oneshot::channel();
        let (let_go, go) = oneshot::channel();
        let mail = Self {
            fields,
            content,
            kept,
            go,
        };
        (mail, is_kept, let_go)
    }
}

impl Shard {
    /// Signs a mail of our own, keeps it, and sends it when it may go.
    pub async fn queue_own(self: Rc<Self>, mail: OwnMail) {
        let OwnMail {
            mut fields,
            mut content,
            kept,
            go,
        } = mail;
        let turn = self.turn_to_sign().await;
        let (signatures, made) = self.shared().keys().signatures_of(&content, clock::wall());
        self.signed(made);
        drop(turn);
        if made == 0 {
            let _ = kept.send(Err(NotQueued::Unsigned));
            return;
        }
        content.splice(0..0, signatures);
        fields.body_len = content.len() as u64;
        let envelope = match fields.encode() {
            Ok(envelope) => envelope,
            Err(error) => {
                let _ = kept.send(Err(NotQueued::Refused(error.to_string())));
                return;
            }
        };
        let content = Bytes::from(content);
        let batch = Batch::new().message(envelope.clone(), vec![content.clone()]);
        let done = self.append_batch(batch).await.map_err(|why| match why {
            NotKept::Refused(why) => NotQueued::Refused(why.to_string()),
            NotKept::Failed(why) => NotQueued::Unsure(why.to_string()),
        });
        let is_kept = done.is_ok();
        let _ = kept.send(done);
        if is_kept && go.await.is_ok() {
            self.admit(envelope, content, false);
        }
    }
}
