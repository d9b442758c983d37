//! Messages on their way over one connection.

use std::sync::Arc;

use bytes::Bytes;
use courser_core::mail::address::{Mailbox, ReversePath};
use courser_core::smtp::client::{Envelope, Envelopes, Framing, TransactionId};
use courser_core::smtp::command::{BodyType, DeliverBy, MailParams, RcptParams};
use courser_core::smtp::data::{Chunk, Stuffer};
use courser_core::time::Instant;
use courser_core::traffic::scheduler::DeliveryId;

use crate::net::clock;
use crate::queue::message::Message;
use crate::spool::EnvelopeView;

/// One delivery that a session was given.
#[derive(Clone, Copy, Debug)]
pub struct Leased {
    /// Its id in the scheduler.
    pub delivery: DeliveryId,
    /// Its recipient's position in the message's envelope.
    pub recipient: u32,
}

/// One message with the deliveries that go in one transaction.
pub struct Transaction {
    /// The machine's name for it.
    pub id: TransactionId,
    /// The message.
    pub message: Arc<Message>,
    /// The recipients, in the order of their RCPT.
    pub leased: Vec<Leased>,
    /// Which of them had their outcome, by position.
    pub told: Vec<bool>,
    /// The receiver said what it thinks of the message or of a recipient, so that this session
    /// made progress.
    pub answered: bool,
    /// The content, until it is out: most of a session's time is the receiver's, which decides.
    body: Bytes,
    /// Its octets.
    size: u64,
    /// When it began.
    pub began: Instant,
    /// When the body was out.
    pub sent: Option<Instant>,
}

impl Transaction {
    /// A transaction that hasn't begun.
    pub fn new(
        id: TransactionId,
        message: Arc<Message>,
        leased: Vec<Leased>,
        body: Bytes,
        now: Instant,
    ) -> Self {
        let told = vec![false; leased.len()];
        Self {
            id,
            message,
            leased,
            told,
            answered: false,
            size: body.len() as u64,
            body,
            began: now,
            sent: None,
        }
    }

    /// The content is out, and not needed any more: it is never sent twice in a session.
    pub fn went_out(&mut self, now: Instant) {
        self.sent = Some(now);
        self.body = Bytes::new();
    }

    /// The content as it goes over the wire: where it lies, with dots between where they are
    /// needed, and the final dot.
    pub fn wire_body(&self, framing: Framing, parts: &mut Vec<Bytes>) {
        match framing {
            Framing::Bdat => parts.push(self.body.clone()),
            Framing::Dot => {
                let mut stuffer = Stuffer::new();
                for chunk in stuffer.walk(&self.body) {
                    match chunk {
                        Chunk::Body(slice) => parts.push(self.body.slice_ref(slice)),
                        Chunk::Dot => parts.push(Bytes::from_static(b".")),
                    }
                }
                parts.push(Bytes::from_static(stuffer.terminator()));
            }
        }
    }
}

/// The transactions in flight on one connection; at most two.
#[derive(Default)]
pub struct Transactions {
    inflight: Vec<Transaction>,
}

impl Transactions {
    /// None in flight.
    pub fn is_empty(&self) -> bool {
        self.inflight.is_empty()
    }

    /// Adds one.
    pub fn add(&mut self, transaction: Transaction) {
        self.inflight.push(transaction);
    }

    /// The one called `id`.
    pub fn get_mut(&mut self, id: TransactionId) -> Option<&mut Transaction> {
        self.inflight.iter_mut().find(|t| t.id == id)
    }

    /// The one called `id`.
    pub fn get(&self, id: TransactionId) -> Option<&Transaction> {
        self.inflight.iter().find(|t| t.id == id)
    }

    /// Takes the one called `id` out.
    pub fn remove(&mut self, id: TransactionId) -> Option<Transaction> {
        let at = self.inflight.iter().position(|t| t.id == id)?;
        Some(self.inflight.remove(at))
    }

    /// Takes all out.
    pub fn drain(&mut self) -> impl Iterator<Item = Transaction> + '_ {
        self.inflight.drain(..)
    }
}

/// The envelope of one transaction, read from where the spool keeps it.
pub struct InFlight<'a> {
    transaction: &'a Transaction,
    view: EnvelopeView<'a>,
    sender: ReversePath<'a>,
}

impl Envelopes for Transactions {
    type Envelope<'a> = InFlight<'a>;

    fn envelope(&self, txn: TransactionId) -> Option<InFlight<'_>> {
        let transaction = self.get(txn)?;
        let view = transaction.message.envelope();
        // Checked when it was accepted, and under a checksum since.
        let sender = ReversePath::parse(view.sender()).ok()?;
        let all_readable = transaction.leased.iter().all(|l| {
            view.recipient(l.recipient as usize)
                .is_some_and(|r| Mailbox::parse(r.address).is_ok())
        });
        all_readable.then_some(InFlight {
            transaction,
            view,
            sender,
        })
    }
}

impl Envelope for InFlight<'_> {
    fn mail(&self) -> (ReversePath<'_>, MailParams<'_>) {
        let envid = self.view.envid();
        // What is left of the time from when it was accepted, however the civil clock was set since.
        let received_s = (self.view.received_ms() / 1000) as i64;
        let waited_s = self.transaction.message.waited(clock::now()).as_secs() as i64;
        let by = self.view.deliver_by().map(|by| DeliverBy {
            seconds: (by.at.unix() - received_s - waited_s).clamp(-999_999_999, 999_999_999) as i32,
            returns: by.returns,
            trace: by.trace,
        });
        let params = MailParams {
            body: Some(self.view.body()).filter(|b| *b != BodyType::SevenBit),
            ret: self.view.ret(),
            envid: (!envid.is_empty()).then_some(envid.as_bytes()),
            requiretls: self.view.requiretls(),
            mt_priority: self.view.mt_priority(),
            by,
            ..MailParams::default()
        };
        (self.sender, params)
    }

    fn recipients(&self) -> usize {
        self.transaction.leased.len()
    }

    fn recipient(&self, i: usize) -> (Mailbox<'_>, RcptParams<'_>) {
        let at = self.transaction.leased[i].recipient as usize;
        let recipient = self
            .view
            .recipient(at)
            .expect("checked in Transactions::envelope");
        let mailbox = Mailbox::parse(recipient.address).expect("checked in Transactions::envelope");
        let orcpt = recipient
            .orcpt
            .map(|(kind, address)| (kind.as_bytes(), address.as_bytes()));
        (
            mailbox,
            RcptParams {
                notify: recipient.notify,
                orcpt,
            },
        )
    }

    fn size(&self) -> u64 {
        self.transaction.size
    }

    fn eight_bit(&self) -> bool {
        self.view.eight_bit()
    }

    fn utf8(&self) -> bool {
        self.view.smtputf8()
    }
}

#[cfg(test)]
mod tests {
    use courser_core::time::Duration;

    use super::*;
    use crate::spool::{EnvelopeFields, RecipientFields};

    #[test]
    fn a_content_that_is_out_takes_no_memory_and_keeps_its_size() {
        let fields = EnvelopeFields {
            id: 1,
            recipients: vec![RecipientFields {
                address: "to@example.net".into(),
                ..RecipientFields::default()
            }],
            ..EnvelopeFields::default()
        };
        let leased = Leased {
            delivery: DeliveryId(0),
            recipient: 0,
        };
        let body = Bytes::from(vec![b'x'; 5000]);
        let mut transaction = Transaction::new(
            TransactionId(0),
            Message::new(fields.encode().unwrap(), 1, clock::now(), Duration::ZERO),
            vec![leased],
            body.clone(),
            clock::now(),
        );
        let mut parts = Vec::new();
        transaction.wire_body(Framing::Bdat, &mut parts);
        assert_eq!(parts, std::slice::from_ref(&body));
        drop(parts);
        transaction.went_out(clock::now());
        assert!(body.is_unique());
        let mut transactions = Transactions::default();
        transactions.add(transaction);
        assert_eq!(
            transactions.envelope(TransactionId(0)).unwrap().size(),
            5000
        );
    }
}
