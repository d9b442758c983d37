//! What a session sends in its transactions, and the checks before it sends anything.

use super::transaction::{Body, Step, Transaction};
use super::{
    Cause, EightBit, Envelope, Envelopes, Event, Failure, Framing, Misuse, Outcome, Output, Phase,
    Session, TransactionId,
};
use crate::feedback::verdict::Scope;
use crate::limits::{
    ENVID_BYTES_MAX, MAIL_AUTH_BYTES_MAX, ORCPT_BYTES_MAX, OUT_BYTES_MIN,
    RECIPIENTS_PER_TRANSACTION_MAX,
};
use crate::smtp::BufferFull;
use crate::smtp::command::{BodyType, Command, MailParams, RcptParams};
use crate::smtp::extension::Capabilities;
use crate::time::Instant;

/// What a transaction wants next.
enum Next {
    /// Something to tell.
    Tell(Event),
    /// A command to write.
    Write(Step),
    /// Its body to be sent.
    SendBody,
    /// Nothing until an answer comes.
    Nothing,
}

impl Session {
    /// Writes as many commands as may go and as `out` holds.
    pub(super) fn write_transactions<E: Envelopes>(
        &mut self,
        now: Instant,
        envelopes: &E,
        out: &mut [u8],
    ) -> Output {
        let room = out.len();
        let mut len = 0;
        let mut slot = 0;
        while slot < self.transactions.len() && !self.must_poll() {
            match self.next_of(slot, envelopes) {
                // What is written goes out before what comes behind it.
                Next::Tell(_) | Next::SendBody if len > 0 => break,
                Next::Tell(event) => {
                    self.note_told(slot, &event);
                    return Output::Event(event);
                }
                Next::SendBody => return self.send_body(now, slot),
                Next::Write(step) => {
                    let rest = out.get_mut(len..).unwrap_or_default();
                    match self.write_step(slot, step, envelopes, rest) {
                        Ok(written) => len += written,
                        Err(BufferFull) if len > 0 => break,
                        Err(BufferFull) => return self.no_room_for(slot, room),
                    }
                }
                Next::Nothing => {
                    if !self.is_next_free(slot) {
                        break;
                    }
                    slot += 1;
                }
            }
        }
        if len > 0 {
            self.sent(now, len)
        } else if let Some(event) = self.next_event() {
            // The envelope was lost, or a check failed.
            Output::Event(event)
        } else if self.quitting && self.transactions.is_empty() {
            self.phase = Phase::Quit { written: false };
            self.write_quit(now, out)
        } else {
            self.wait()
        }
    }

    /// Whether the transaction behind `slot` may be written: BDAT's octets are counted, so
    /// commands can follow the body at once; and whatever is over is no hindrance.
    fn is_next_free(&self, slot: usize) -> bool {
        self.transactions.get(slot).is_some_and(|txn| {
            txn.is_over() || (self.pipelining() && txn.framing == Framing::Bdat && txn.is_written())
        })
    }

    fn next_of<E: Envelopes>(&mut self, slot: usize, envelopes: &E) -> Next {
        let (pipelining, ahead) = (self.pipelining(), self.options.body_ahead_bytes_max);
        if self.transactions.get(slot).is_some_and(|txn| !txn.checked) {
            self.check(slot, envelopes);
        }
        let Some(txn) = self.transactions.get(slot) else {
            return Next::Nothing;
        };
        if !txn.settled && txn.write <= Step::Mail && txn.postpone_next < txn.total {
            return Next::Tell(Event::Recipient {
                txn: txn.id,
                index: txn.postpone_next,
                outcome: Outcome::Postponed,
            });
        }
        match txn.next_write(pipelining, ahead) {
            Some(Step::Body) if !txn.wants_lone_dot() => Next::SendBody,
            Some(step) => Next::Write(step),
            None => Next::Nothing,
        }
    }

    /// Notes a postponed recipient.
    fn note_told(&mut self, slot: usize, event: &Event) {
        self.reply_stands = false;
        if let (Some(txn), Event::Recipient { .. }) = (self.transactions.get_mut(slot), event) {
            txn.postpone_next += 1;
            txn.told += 1;
        }
    }

    /// Looks at an envelope for the first time: what it needs against what the peer offers.
    fn check<E: Envelopes>(&mut self, slot: usize, envelopes: &E) {
        let behind = slot > 0 && self.transactions.front().is_some_and(|txn| txn.started);
        let reset = self.open || behind;
        let framing = if self.chunking() {
            Framing::Bdat
        } else {
            Framing::Dot
        };
        let rcpt_max = usize::try_from(self.capabilities.rcpt_max.unwrap_or(u32::MAX));
        let most = rcpt_max
            .unwrap_or(usize::MAX)
            .clamp(1, RECIPIENTS_PER_TRANSACTION_MAX);
        let Some(id) = self.transactions.get(slot).map(|txn| txn.id) else {
            return;
        };
        let envelope = envelopes.envelope(id);
        let checked = match &envelope {
            None => Err(Cause::EnvelopeMissing),
            Some(envelope) => self.needs(envelope, framing),
        };
        let total = envelope.as_ref().map_or(0, Envelope::recipients);
        let size = envelope.as_ref().map_or(0, Envelope::size);
        let Some(txn) = self.transactions.get_mut(slot) else {
            return;
        };
        txn.checked = true;
        txn.framing = framing;
        txn.size = size;
        txn.total = total;
        let named = total.min(most);
        txn.named = u16::try_from(named).unwrap_or(u16::MAX);
        txn.postpone_next = named;
        if reset {
            txn.write = Step::Reset;
            txn.answer = Step::Reset;
        }
        if let Err(cause) = checked {
            self.fail_locally(slot, cause);
        }
    }

    /// What the message needs and this peer doesn't offer.
    fn needs(&self, envelope: &impl Envelope, framing: Framing) -> Result<(), Cause> {
        let offered = &self.capabilities;
        let (_, params) = envelope.mail();
        if envelope.recipients() == 0 {
            return Err(Cause::NoRecipients);
        }
        if envelope.utf8() && !offered.smtputf8 {
            return Err(Cause::Utf8NotOffered);
        }
        if params.requiretls && !(offered.requiretls && self.secured) {
            return Err(Cause::RequireTlsNotOffered);
        }
        let limit = offered.size.filter(|&limit| limit != 0);
        if let Some(limit) = limit.filter(|&limit| envelope.size() > limit) {
            return Err(Cause::TooLarge { limit });
        }
        let binary = params.body == Some(BodyType::BinaryMime);
        if binary && !(offered.binarymime && framing == Framing::Bdat) {
            return Err(Cause::BinaryNotOffered);
        }
        let lacks_8bit = envelope.eight_bit() && !binary && !offered.eightbitmime;
        if lacks_8bit && self.options.eight_bit == EightBit::Refuse {
            return Err(Cause::EightBitNotOffered);
        }
        if params.by.is_some_and(|by| by.returns) && offered.deliver_by.is_none() {
            return Err(Cause::DeliverByNotOffered);
        }
        Ok(())
    }

    /// Fails a transaction of which nothing was sent.
    fn fail_locally(&mut self, slot: usize, cause: Cause) {
        let scope = match cause {
            // Another MX may offer it (RFC 8689 4.2.1).
            Cause::RequireTlsNotOffered => Scope::Host,
            _ => Scope::Message,
        };
        let failure = Failure {
            scope,
            permanent: cause != Cause::EnvelopeMissing,
            state: super::State::Mail,
            cause,
            pipelining_suspect: false,
        };
        if let Some(txn) = self.transactions.get_mut(slot) {
            txn.dead = true;
            txn.settled = true;
            self.reply_stands = false;
            self.pending = Some(Event::Message {
                txn: txn.id,
                outcome: Outcome::Failed(failure),
            });
        }
    }

    /// Writes one command.
    fn write_step<E: Envelopes>(
        &mut self,
        slot: usize,
        step: Step,
        envelopes: &E,
        out: &mut [u8],
    ) -> Result<usize, BufferFull> {
        let Some(txn) = self.transactions.get_mut(slot) else {
            return Ok(0);
        };
        let pipelined = txn.awaits() || slot > 0;
        let written = match step {
            Step::Reset => Command::Rset.emit(out).map(Some),
            Step::Mail => envelopes
                .envelope(txn.id)
                .map(|envelope| emit_mail(&envelope, &self.capabilities, self.authenticated, out))
                .transpose(),
            Step::Rcpt(index) => envelopes
                .envelope(txn.id)
                .filter(|envelope| usize::from(index) < envelope.recipients())
                .map(|envelope| emit_rcpt(&envelope, index, &self.capabilities, out))
                .transpose(),
            Step::Data => emit_data(txn, out).map(Some),
            // All recipients were refused, and the peer wants a message all the same
            // (RFC 2920 3.1).
            Step::Body => emit_lone_dot(out).map(Some),
            Step::End(_) | Step::Over => Ok(Some(0)),
        }?;
        let Some(written) = written else {
            self.break_off(Cause::EnvelopeMissing);
            return Ok(0);
        };
        txn.started = true;
        txn.pipelined |= pipelined;
        txn.write = match step {
            Step::Reset => Step::Mail,
            Step::Mail => Step::Rcpt(0),
            Step::Rcpt(index) if index + 1 < txn.named => Step::Rcpt(index + 1),
            Step::Rcpt(_) => Step::Data,
            Step::Data => Step::Body,
            Step::Body | Step::End(_) | Step::Over => Step::End(0),
        };
        Ok(written)
    }

    fn send_body(&mut self, now: Instant, slot: usize) -> Output {
        self.since = now;
        let Some(txn) = self.transactions.get_mut(slot) else {
            return self.wait();
        };
        txn.write = Step::End(0);
        txn.body = Body::Going;
        Output::SendBody {
            txn: txn.id,
            framing: txn.framing,
        }
    }

    pub(super) fn on_body_progress(&mut self, now: Instant) -> usize {
        let mut bodies = self.transactions.iter().map(|txn| txn.body);
        if bodies.any(|body| body == Body::Going) {
            self.since = now;
        }
        0
    }

    /// The body is out: its answer, if it came already, counts.
    pub(super) fn on_body_sent(
        &mut self,
        now: Instant,
        id: TransactionId,
    ) -> Result<usize, Misuse> {
        let mut going = self.transactions.iter_mut();
        let txn = going
            .find(|txn| txn.id == id && txn.body == Body::Going)
            .ok_or(Misuse::NoSuchBody)?;
        txn.body = Body::Sent;
        let early = txn.early.take();
        self.since = now;
        self.reply_stands = false;
        if let Some((code, enhanced)) = early {
            let outcome = self.delivered(code, enhanced);
            self.settle(id, outcome);
        }
        Ok(0)
    }

    pub(super) fn sent(&mut self, now: Instant, len: usize) -> Output {
        self.since = now;
        Output::Send(len)
    }

    /// A command doesn't fit into an empty `out` of `room` bytes.
    pub(super) fn no_room(&mut self, room: usize) -> Output {
        if room < OUT_BYTES_MIN {
            return Output::BufferTooSmall;
        }
        self.break_off(Cause::CommandTooLong);
        self.next_event().map_or(Output::Close, Output::Event)
    }

    /// The same for a command of a transaction, which then is at fault.
    fn no_room_for(&mut self, slot: usize, room: usize) -> Output {
        if room < OUT_BYTES_MIN {
            return Output::BufferTooSmall;
        }
        let failure = Failure {
            scope: Scope::Message,
            permanent: true,
            pipelining_suspect: false,
            ..self.host_failure(Cause::CommandTooLong)
        };
        let id = self.transactions.get(slot).map(|txn| txn.id);
        self.end(failure, id, false);
        self.next_event().map_or(Output::Close, Output::Event)
    }
}

/// MAIL with the parameters that the peer offers.
fn emit_mail(
    envelope: &impl Envelope,
    offered: &Capabilities,
    authenticated: bool,
    out: &mut [u8],
) -> Result<usize, BufferFull> {
    let (from, mut wanted) = envelope.mail();
    if authenticated {
        // RFC 4954 5: a server that we authenticated to is told whose the message is, or that
        // we don't vouch for anybody.
        wanted.auth = wanted.auth.or(Some(b"<>"));
    }
    let params = mail_params(wanted, envelope, offered);
    Command::Mail(from, params).emit(out)
}

fn mail_params<'a>(
    wanted: MailParams<'a>,
    envelope: &impl Envelope,
    offered: &Capabilities,
) -> MailParams<'a> {
    let body = match wanted.body {
        Some(BodyType::BinaryMime) => Some(BodyType::BinaryMime),
        _ if envelope.eight_bit() => Some(BodyType::EightBitMime),
        other => other,
    };
    let fits = |value: &&[u8], most| value.len() <= most;
    MailParams {
        size: offered.size.map(|_| envelope.size()),
        body: body.filter(|&body| body == BodyType::BinaryMime || offered.eightbitmime),
        smtputf8: envelope.utf8() && offered.smtputf8,
        ret: wanted.ret.filter(|_| offered.dsn),
        envid: wanted
            .envid
            .filter(|value| offered.dsn && fits(value, ENVID_BYTES_MAX)),
        auth: wanted
            .auth
            .filter(|value| offered.auth.any() && fits(value, MAIL_AUTH_BYTES_MAX)),
        requiretls: wanted.requiretls && offered.requiretls,
        mt_priority: wanted.mt_priority.filter(|_| offered.mt_priority),
        by: wanted.by.filter(|_| offered.deliver_by.is_some()),
        hold: wanted.hold.filter(|_| offered.future_release.is_some()),
    }
}

/// RCPT with the parameters that the peer offers.
fn emit_rcpt(
    envelope: &impl Envelope,
    index: u16,
    offered: &Capabilities,
    out: &mut [u8],
) -> Result<usize, BufferFull> {
    let (to, wanted) = envelope.recipient(usize::from(index));
    let fits = |(kind, address): &(&[u8], &[u8])| {
        kind.len().saturating_add(address.len()) < ORCPT_BYTES_MAX
    };
    let params = RcptParams {
        notify: wanted.notify.filter(|_| offered.dsn),
        orcpt: wanted.orcpt.filter(|orcpt| offered.dsn && fits(orcpt)),
    };
    Command::Rcpt(to, params).emit(out)
}

fn emit_data(txn: &Transaction, out: &mut [u8]) -> Result<usize, BufferFull> {
    match txn.framing {
        Framing::Dot => Command::Data.emit(out),
        Framing::Bdat => Command::Bdat {
            size: txn.size,
            last: true,
        }
        .emit(out),
    }
}

fn emit_lone_dot(out: &mut [u8]) -> Result<usize, BufferFull> {
    let dot = b".\r\n";
    out.get_mut(..dot.len())
        .ok_or(BufferFull)?
        .copy_from_slice(dot);
    Ok(dot.len())
}
