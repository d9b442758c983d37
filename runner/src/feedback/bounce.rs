//! Delivery status notifications: written when a delivery ends badly, is late, or was asked about.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courser_core::feedback::verdict::Verdict;
use courser_core::mail::address::{Mailbox, ReversePath};
use courser_core::mail::dsn::{self, Action, Diagnostic, Recipient, Remote, Report, Wanted};
use courser_core::smtp::command::BodyType;
use courser_core::smtp::reply::Reply;
use courser_core::time::Wall;

use super::settle::{Attempt, Said};
use crate::control::{DeliverySelector, MessageId};
use crate::net::{clock, ring};
use crate::queue::message::Message;
use crate::session::transaction::Leased;
use crate::shard::Shard;
use crate::spool::{Batch, EnvelopeFields, Outcome as Record, OutcomeKind, RecipientFields};

/// A notification that couldn't be kept is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Counts as something that has to end before the server may stop, until it is dropped.
struct Busy(Rc<Shard>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy(-1);
    }
}

impl Shard {
    /// Writes a notification when it is its turn.
    pub fn notify(
        self: &Rc<Self>,
        notice: Notice,
        message: Arc<Message>,
        leased: Leased,
        ends: Option<OutcomeKind>,
    ) {
        self.busy(1);
        let busy = Busy(self.clone());
        ring::spawn(async move {
            let shard = &busy.0;
            let _turn = shard.turn_to_notify().await;
            notice.send(shard, &message, leased, ends).await;
        });
    }
}

/// A notification to be written.
pub struct Notice {
    wanted: Wanted,
    verdict: Verdict,
    said: Said,
    remote: Option<(Arc<str>, std::net::IpAddr)>,
    attempted: Option<Wall>,
    retry_until: Option<Wall>,
}

impl Notice {
    /// The notification that the sender wants of this outcome, if any.
    pub fn wanted(
        shard: &Shard,
        attempt: &Attempt<'_>,
        outcome: dsn::Outcome,
        verdict: Verdict,
        said: Said,
    ) -> Option<Self> {
        let view = attempt.message.envelope();
        let sender = ReversePath::parse(view.sender()).ok()?;
        let recipient = view.recipient(attempt.leased.recipient as usize)?;
        let wanted = dsn::wanted(outcome, &sender, recipient.notify, view.ret(), true)?;
        let retry_until = (wanted.action == Action::Delayed).then(|| {
            let life = shard.life_of(&view);
            Wall::from_unix((view.received_ms() / 1000) as i64).plus_s(life.as_secs() as i64)
        });
        Some(Self {
            wanted,
            verdict,
            said,
            remote: attempt.peer.map(|p| (p.host.clone(), p.address.ip())),
            attempted: attempt.peer.map(|_| clock::wall()),
            retry_until,
        })
    }

    /// Writes it, commits it together with the end of its delivery (or with the note that the
    /// delay was told), and queues it.
    ///
    /// The message is finished only after that: if it were before, by another recipient's end, a
    /// crash in between would lose the notification.
    async fn send(
        self,
        shard: &Rc<Shard>,
        message: &Arc<Message>,
        leased: Leased,
        ends: Option<OutcomeKind>,
    ) {
        let original = match shard.body(message).await {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(message = %MessageId(message.id()), %error, "the notification goes without the message: it can't be read back from the spool");
                Bytes::new()
            }
        };
        let id = shard.spool().next_id();
        let (fields, content) = self.write(shard, message, leased, id, &original);
        let envelope = match fields.encode() {
            Ok(envelope) => envelope,
            Err(error) => {
                // Can't be: its texts are those of an envelope that was encoded before.
                tracing::error!(message = %MessageId(message.id()), %error, "a notification can't be written");
                if let Some(kind) = ends {
                    shard.keep(shard.ending(message, leased, kind));
                }
                return;
            }
        };
        let content = Bytes::from(content);
        let record = Record {
            recipient: leased.recipient,
            kind: ends.clone().unwrap_or(OutcomeKind::DelayDsnSent),
        };
        let mut waited = false;
        loop {
            let batch = Batch::new()
                .message(envelope.clone(), vec![content.clone()])
                .outcomes(message.id(), std::slice::from_ref(&record));
            match shard.append_batch(batch).await {
                Ok(()) => break,
                Err(why) if why.is_final() => {
                    tracing::error!(message = %MessageId(message.id()), %why, "a notification isn't written; the next start finds its delivery undone, and does it again");
                    return;
                }
                Err(why) => {
                    if !std::mem::replace(&mut waited, true) {
                        tracing::warn!(message = %MessageId(message.id()), %why, "a notification waits for the spool");
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        if ends.is_some() && message.ended() {
            shard.release_body(message);
            shard.keep(Batch::new().finish(message.id()));
        }
        shard.tell_notified(message, leased, id, self.wanted.action);
        shard.admit(envelope, content);
    }

    fn write(
        &self,
        shard: &Shard,
        message: &Arc<Message>,
        leased: Leased,
        id: u64,
        original: &[u8],
    ) -> (EnvelopeFields, Vec<u8>) {
        let config = shard.config();
        let view = message.envelope();
        let delivery = DeliverySelector {
            message: MessageId(message.id()),
            recipient: Some(leased.recipient),
        };
        let (delivery, own) = (delivery.to_string(), MessageId(id).to_string());
        let mut content = Vec::with_capacity(4096);
        let mut utf8 = false;
        let mut eight_bit = false;
        let addresses = (
            Mailbox::parse(view.sender()),
            view.recipient(leased.recipient as usize),
        );
        if let (Ok(sender), Some(to)) = addresses {
            let words = self.said.line();
            let diagnostic = match self.said.code {
                Some(code) => Diagnostic::Smtp(Reply {
                    code,
                    enhanced: self.said.enhanced,
                    text: self.said.text.as_bytes(),
                }),
                None if self.said.text.is_empty() => Diagnostic::None,
                None => Diagnostic::Local(&words),
            };
            let reply = self.said.code.map(|code| Reply {
                code,
                enhanced: self.said.enhanced,
                text: b"",
            });
            // Where nobody replied, the cause of our own knows best (5.1.10 of a null MX).
            let status = self
                .said
                .enhanced
                .filter(|e| self.said.code.is_none() && (e.class == 5) == self.verdict.permanent);
            let mailbox = Mailbox::parse(to.address).unwrap_or(sender);
            let recipients = [Recipient {
                mailbox,
                original: to
                    .orcpt
                    .map(|(kind, address)| (kind.as_bytes(), address.as_bytes())),
                action: self.wanted.action,
                status: status.unwrap_or_else(|| self.verdict.status(reply.as_ref())),
                remote: self.remote.as_ref().map(|(name, ip)| Remote {
                    name,
                    address: Some(*ip),
                }),
                diagnostic,
                last_attempt: self.attempted,
                retry_until: self.retry_until,
                log_id: Some(&delivery),
            }];
            let report = Report {
                reporting_mta: &config.hostname,
                sender,
                id: &own,
                date: clock::wall(),
                envid: (!view.envid().is_empty()).then_some(view.envid().as_bytes()),
                arrival: Some(Wall::from_unix((view.received_ms() / 1000) as i64)),
                received_from: (!view.helo().is_empty()).then_some(view.helo()),
                recipients: &recipients,
                original,
                ret: self.wanted.ret,
                utf8: view.smtputf8(),
                seed: clock::random_u64(),
            };
            let emitted = report.emit(&mut content);
            utf8 = emitted.utf8;
            eight_bit = emitted.eight_bit;
        }
        let fields = EnvelopeFields {
            id,
            received_ms: clock::wall_ms().max(0) as u64,
            // Null: nothing is ever sent back about a notification (RFC 3461 6.1).
            sender: String::new(),
            body: if eight_bit {
                BodyType::EightBitMime
            } else {
                BodyType::SevenBit
            },
            smtputf8: utf8,
            eight_bit,
            tenant: view.tenant().to_owned(),
            campaign: view.campaign().to_owned(),
            stream: view.stream().to_owned(),
            pool: view.pool().to_owned(),
            class: view.class(),
            body_len: content.len() as u64,
            recipients: vec![RecipientFields {
                address: view.sender().to_owned(),
                ..RecipientFields::default()
            }],
            ..EnvelopeFields::default()
        };
        (fields, content)
    }
}
