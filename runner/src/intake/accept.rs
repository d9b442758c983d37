//! Draft → Accepted → Spooled: after this the message is ours.

use std::rc::Rc;

use bytes::Bytes;

use super::draft::Flaw;
use crate::config::Listener;
use crate::net::clock;
use crate::net::tls::Facts;
use crate::shard::Shard;
use crate::shard::keep::NotKept;
use crate::spool::{
    AppendError, Batch, EnvelopeFields, Outcome as Record, OutcomeKind, RefusedWhy,
};

fn flaw(code: u16, enhanced: (u8, u16, u16), text: impl Into<String>) -> Flaw {
    Flaw {
        code,
        enhanced,
        text: text.into(),
    }
}

/// Whether a message could be taken now; asked at MAIL, before anything is sent.
///
/// # Errors
/// What is full.
pub fn room(shard: &Shard) -> Result<(), Flaw> {
    shard.spool().accepting().map_err(|why| refused(&why))?;
    if shard.shared().queue_is_full() {
        return Err(flaw(452, (4, 3, 1), "The queue is full, try again later"));
    }
    if shard.events_are_stuck() {
        return Err(flaw(
            451,
            (4, 3, 0),
            "The event log can't be written, try again later",
        ));
    }
    Ok(())
}

fn refused(why: &RefusedWhy) -> Flaw {
    match why {
        RefusedWhy::Busy => flaw(451, (4, 3, 2), "Busy, try again in a moment"),
        RefusedWhy::Full(_) => flaw(
            452,
            (4, 3, 1),
            "Insufficient system storage, try again later",
        ),
        RefusedWhy::Trouble(_) | RefusedWhy::Failed(_) => {
            flaw(451, (4, 3, 0), "Storage trouble here, try again later")
        }
        RefusedWhy::TooLarge => flaw(552, (5, 3, 4), "The message is too large"),
        RefusedWhy::Closed => flaw(421, (4, 3, 2), "Shutting down"),
    }
}

/// Writes the message, waits until it is synced, and queues it; where there is a reason to hold it,
/// it waits for an operator.
///
/// # Errors
/// When it could not be kept; then nothing of it is.
pub async fn accept(
    shard: &Rc<Shard>,
    (listener, tls): (&Listener, Option<&Facts>),
    fields: &mut EnvelopeFields,
    body: Bytes,
    hold: Option<&str>,
) -> Result<(), Flaw> {
    room(shard)?;
    let envelope = fields
        .encode()
        .map_err(|e| flaw(554, (5, 6, 0), e.to_string()))?;
    let began = clock::now();
    let mut batch = Batch::new().message(envelope.clone(), vec![body.clone()]);
    if hold.is_some() {
        let held: Vec<Record> = (0..fields.recipients.len() as u32)
            .map(|recipient| Record {
                recipient,
                kind: OutcomeKind::Held,
            })
            .collect();
        batch = batch.outcomes(fields.id, &held);
    }
    shard.append_batch(batch).await.map_err(|e| match e {
        NotKept::Refused(why) => refused(&why),
        NotKept::Failed(AppendError::Full(_)) => flaw(
            452,
            (4, 3, 1),
            "Insufficient system storage, try again later",
        ),
        NotKept::Failed(_) => flaw(451, (4, 3, 0), "Storage trouble here, try again later"),
    })?;
    let commit = clock::now().since(began);
    shard.tell_received(
        &envelope.view(),
        &listener.name,
        tls.map(Into::into),
        commit,
    );
    if let Some(why) = hold {
        shard.tell_held_from_the_start(envelope.view(), why);
    }
    shard.admit(envelope, body, hold.is_some());
    Ok(())
}
