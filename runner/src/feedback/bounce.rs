//! Delivery status notifications: written when a delivery ends badly, is late, or was asked about.
//!
//! [`Shard::notify`] gathers what is to be told of one message, and writes it in one batch with the
//! ends of the deliveries it is about.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use courser_core::feedback::verdict::Verdict;
use courser_core::limits::DSN_RETURN_BYTES_MAX;
use courser_core::mail::address::{Mailbox, ReversePath};
use courser_core::mail::dsn::{self, Action, Diagnostic, Recipient, Remote, Report, Wanted};
use courser_core::smtp::command::{BodyType, Ret};
use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use courser_core::time::Wall;

use super::settle::{Attempt, Said, ending_now};
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

/// Recipients in one notification; more go into another one. Few programs read longer ones.
pub const RECIPIENTS_MAX: usize = 1000;

/// What a notification says of one delivery.
pub struct Notice {
    wanted: Wanted,
    verdict: Verdict,
    said: Said,
    remote: Option<(Arc<str>, std::net::IpAddr)>,
    attempted: Option<Wall>,
    retry_until: Option<Wall>,
    leased: Leased,
    ends: Option<OutcomeKind>,
}

/// Notices that wait for others of their message with the same action, from all shards. The shard
/// that brings the first one of them writes them down when their time is over.
///
/// Until then the deliveries have not ended in the spool: after a crash they are tried again, get
/// the same answer, and are told of then.
#[derive(Default)]
pub struct Gathering(Mutex<HashMap<(u64, Action), Vec<Notice>>>);

impl Gathering {
    /// Adds a notice; whether it is the first one.
    fn add(&self, message: u64, notice: Notice) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let list = all.entry((message, notice.wanted.action)).or_default();
        list.push(notice);
        list.len() == 1
    }

    fn take(&self, message: u64, action: Action) -> Vec<Notice> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&(message, action)).unwrap_or_default()
    }
}

impl Notice {
    /// What is to be told of this outcome, if anything: as the sender wants it, and the
    /// configuration.
    pub fn wanted(
        shard: &Shard,
        attempt: &Attempt<'_>,
        outcome: dsn::Outcome,
        verdict: Verdict,
        said: Said,
    ) -> Option<Self> {
        let config = shard.config();
        if outcome == dsn::Outcome::Failed && !config.dsn.failures {
            return None;
        }
        let view = attempt.message.envelope();
        let sender = ReversePath::parse(view.sender()).ok()?;
        let recipient = view.recipient(attempt.leased.recipient as usize)?;
        let small = view.body_len() <= config.dsn.return_size.bytes();
        let ret = view.ret().or(small.then_some(Ret::Full));
        let wanted = dsn::wanted(outcome, &sender, recipient.notify, ret, true)?;
        let retry_until = (wanted.action == Action::Delayed).then(|| {
            let left = attempt
                .message
                .expires(shard.life_of(&view))
                .since(attempt.now);
            clock::wall().plus_s(left.as_secs() as i64)
        });
        Some(Self {
            wanted,
            verdict,
            said,
            remote: attempt.peer.map(|p| (p.host.clone(), p.address.ip())),
            attempted: attempt.peer.map(|_| clock::wall()),
            retry_until,
            leased: attempt.leased,
            ends: None,
        })
    }

    /// The delivery ends with it.
    pub fn ending(self, kind: OutcomeKind) -> Self {
        Self {
            ends: Some(kind),
            ..self
        }
    }

    /// What is written down with the notification.
    fn record(&self) -> Record {
        Record {
            recipient: self.leased.recipient,
            kind: self.ends.clone().unwrap_or(OutcomeKind::DelayDsnSent),
        }
    }

    /// Its status code (RFC 3464 2.3.4): what was said, if that agrees with the outcome.
    fn status(&self) -> EnhancedCode {
        let code = self.said.code.or(ReplyCode::new(451));
        let reply = code.map(|code| Reply {
            code,
            enhanced: self.said.enhanced,
            text: b"",
        });
        self.verdict.status(reply.as_ref())
    }
}

impl Shard {
    /// Has a notice told, together with others of the same message within `dsn.gather`. When it is
    /// queued, its delivery ends, if it ends with it.
    pub fn notify(self: &Rc<Self>, message: &Arc<Message>, notice: Notice) {
        let action = notice.wanted.action;
        if !self.shared().gathering.add(message.id(), notice) {
            return;
        }
        self.busy(1);
        let (busy, message) = (Busy(self.clone()), message.clone());
        ring::spawn(async move {
            let shard = &busy.0;
            shard.gather(action).await;
            let _turn = shard.turn_to_notify().await;
            let mut notices = shard.shared().gathering.take(message.id(), action);
            while !notices.is_empty() {
                let rest = notices.split_off(notices.len().min(RECIPIENTS_MAX));
                shard.send_notification(&message, &notices).await;
                notices = rest;
            }
        });
    }

    /// Waits for more notices of the same kind.
    async fn gather(&self, action: Action) {
        // What was delivered is written down as soon as can be, since a crash would send it again;
        // the answers to one transaction come together.
        let wait = match action {
            Action::Failed | Action::Delayed => self.config().dsn.gather,
            Action::Delivered | Action::Relayed | Action::Expanded => Duration::ZERO,
        };
        let draining = self.draining();
        let stop = draining.notified();
        if wait.is_zero() || self.is_draining() {
            return ring::breathe().await;
        }
        let _ = tokio::time::timeout(wait, stop).await;
    }

    /// Writes a notification, commits it together with the ends of its deliveries (or with the note
    /// that the delay was told), and queues it.
    async fn send_notification(self: &Rc<Self>, message: &Arc<Message>, notices: &[Notice]) {
        let original = match self.body(message).await {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(message = %MessageId(message.id()), %error, "the notification goes without the message: it can't be read back from the spool");
                Bytes::new()
            }
        };
        let id = self.spool().next_id();
        let records: Vec<Record> = notices.iter().map(Notice::record).collect();
        let ends: Vec<Record> = records.iter().filter(|r| r.kind.ends()).cloned().collect();
        let (mut fields, mut content) = self.write_notification(message, notices, id, &original);
        let keys = self.shared().keys();
        if !keys.is_empty() {
            let _turn = self.turn_to_sign().await;
            let (signatures, made) = keys.signatures_of(&content, clock::wall());
            content.splice(0..0, signatures);
            self.signed(made);
            fields.body_len = content.len() as u64;
        }
        match fields.encode() {
            Ok(envelope) => {
                let content = Bytes::from(content);
                let mut waited = false;
                loop {
                    let batch = ending_now(message.id(), &ends)
                        .message(envelope.clone(), vec![content.clone()])
                        .outcomes(message.id(), &records);
                    match self.append_batch(batch).await {
                        Ok(()) => break,
                        Err(why) if why.is_final() => {
                            tracing::error!(message = %MessageId(message.id()), %why, "a notification isn't written; the next start finds its deliveries undone, and does them again");
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
                self.tell_notified(
                    message,
                    notices.iter().map(|n| n.leased),
                    id,
                    notices[0].wanted.action,
                );
                self.admit(envelope, content, false);
            }
            Err(error) => {
                // Can't be: its texts are those of an envelope that was encoded before.
                tracing::error!(message = %MessageId(message.id()), %error, "a notification can't be written");
                self.keep(ending_now(message.id(), &ends).outcomes(message.id(), &records));
            }
        }
        // Only now, so that the message's end is never written before a notification of it.
        let ended = notices.iter().filter(|n| n.ends.is_some());
        if ended.filter(|_| message.ended()).count() > 0 {
            self.release_body(message);
            self.keep(Batch::new().finish(message.id()));
        }
    }

    fn write_notification(
        &self,
        message: &Arc<Message>,
        notices: &[Notice],
        id: u64,
        original: &[u8],
    ) -> (EnvelopeFields, Vec<u8>) {
        let config = self.config();
        let view = message.envelope();
        let own = MessageId(id).to_string();
        let mut content = Vec::with_capacity(4096);
        let mut utf8 = false;
        let mut eight_bit = false;
        if let Ok(sender) = Mailbox::parse(view.sender()) {
            let texts: Vec<(String, String)> = notices
                .iter()
                .map(|n| {
                    let delivery = DeliverySelector {
                        message: MessageId(message.id()),
                        recipient: Some(n.leased.recipient),
                    };
                    (delivery.to_string(), n.said.line())
                })
                .collect();
            let recipients: Vec<Recipient<'_>> = notices
                .iter()
                .zip(&texts)
                .filter_map(|(n, (log_id, words))| {
                    let to = view.recipient(n.leased.recipient as usize)?;
                    let diagnostic = match n.said.code {
                        Some(code) => Diagnostic::Smtp(Reply {
                            code,
                            enhanced: n.said.enhanced,
                            text: n.said.text.as_bytes(),
                        }),
                        None if n.said.text.is_empty() => Diagnostic::None,
                        None => Diagnostic::Local(words),
                    };
                    Some(Recipient {
                        mailbox: Mailbox::parse(to.address).unwrap_or(sender),
                        original: to
                            .orcpt
                            .map(|(kind, address)| (kind.as_bytes(), address.as_bytes())),
                        action: n.wanted.action,
                        status: n.status(),
                        remote: n.remote.as_ref().map(|(name, ip)| Remote {
                            name,
                            address: Some(*ip),
                        }),
                        diagnostic,
                        last_attempt: n.attempted,
                        retry_until: n.retry_until,
                        log_id: Some(log_id),
                    })
                })
                .collect();
            let mut report = Report {
                reporting_mta: &config.hostname,
                from: &config.dsn.from,
                from_name: &config.dsn.from_name,
                sender,
                id: &own,
                date: clock::wall(),
                envid: (!view.envid().is_empty()).then_some(view.envid().as_bytes()),
                arrival: Some(Wall::from_unix((view.received_ms() / 1000) as i64)),
                received_from: (!view.helo().is_empty()).then_some(view.helo()),
                recipients: &recipients,
                original,
                ret: match view.requiretls() {
                    // What was to be kept from all others is not sent about (RFC 8689 5).
                    true => Ret::Headers,
                    false => notices[0].wanted.ret,
                },
                return_max: config.dsn.return_size.as_usize().max(DSN_RETURN_BYTES_MAX),
                header_max: config.dsn.header_size.as_usize(),
                utf8: view.smtputf8(),
                seed: clock::random_u64(),
            };
            let mut emitted = report.emit(&mut content);
            if emitted.eight_bit
                && emitted.full
                && config.delivery.eight_bit == crate::config::EightBit::Refuse
            {
                // The way back may be as narrow as the way there was.
                content.clear();
                report.ret = Ret::Headers;
                emitted = report.emit(&mut content);
            }
            utf8 = emitted.utf8;
            eight_bit = emitted.eight_bit;
        }
        let stream = &config.streams[config.dsn.stream];
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
            requiretls: view.requiretls(),
            eight_bit,
            tenant: view.tenant().to_owned(),
            campaign: view.campaign().to_owned(),
            stream: stream.name.to_string(),
            class: stream.class as u8,
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
