//! A connection and its machine: bytes in, bytes out, deadlines, in the order that
//! [`client::Session`] asks for. What the events mean is the caller's business.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use courser_core::route::tlsrpt::ResultType;
use courser_core::smtp::client::{self, Event, Input, Output, TransactionId};
use courser_core::smtp::sasl::Mechanism;
use courser_core::time::Instant;
use tokio::sync::Notify;

use super::auth::Identity;
use super::transaction::Transactions;
use crate::net::clock;
use crate::net::tls::{Attempt, Conn, Fault, Receive};

/// Bytes of one receive: replies are short, and thousands of sessions wait in one at a time.
pub const RECEIVE_BYTES: usize = 1024;
/// Commands that are gathered before they are sent.
pub const COMMAND_BYTES: usize = 8192;
/// Bytes of a body that go to the kernel in one operation: after each the block timeout
/// (RFC 5321 4.5.3.2.5) starts again.
pub const SEND_STEP_BYTES: usize = 256 * 1024;
/// So long a peer has to take that TLS ends.
const GOODBYE: Duration = Duration::from_millis(500);
/// So long the kernel has to hand over what a peer said that then stopped reading.
const OVERHEAR: Duration = Duration::from_millis(50);

/// One connection with its machine.
pub struct Link {
    stream: Conn,
    /// The handshake that the machine may ask for.
    attempt: Option<Attempt>,
    /// Why that failed.
    fault: Option<Box<Fault>>,
    /// In a box: thousands of sessions wait at a time, and a future keeps a copy for each step that
    /// it moves through.
    machine: Box<client::Session>,
    /// Who we are, while the machine authenticates.
    identity: Option<Box<Identity>>,
    receiving: Option<Pin<Box<Receive>>>,
    deadline: Option<Instant>,
    /// The time for each part of a body (RFC 5321 4.5.3.2.5).
    block: Duration,
    /// What came and the machine hasn't taken: it takes a reply at a time.
    heard: Vec<u8>,
    taken: usize,
    ended: bool,
    /// The peer didn't read what was sent in time, so that the end is ours and not its.
    late: bool,
}

/// Why [`Link::drive`] came back.
#[derive(Debug, PartialEq, Eq)]
pub enum Paused {
    /// The machine takes another transaction and has nothing else under way that could be waited
    /// for first, or `wake` rang.
    CanBegin,
    /// Close it; everything begun has been told.
    Over,
}

impl Link {
    /// A link whose machine waits for the greeting. `attempt` is the handshake that it may ask for,
    /// if its options let it.
    pub fn new(stream: Conn, options: client::Options, attempt: Option<Attempt>) -> Self {
        Self {
            stream,
            attempt,
            fault: None,
            block: options.timeouts.block,
            machine: Box::new(client::Session::new(clock::now(), options)),
            identity: None,
            receiving: None,
            deadline: None,
            heard: Vec::new(),
            taken: 0,
            ended: false,
            late: false,
        }
    }

    /// The machine, to begin transactions and to read the reply behind an event.
    pub fn machine(&mut self) -> &mut client::Session {
        &mut self.machine
    }

    /// Who we are to this peer, from now on or no longer.
    pub fn set_identity(&mut self, identity: Option<Identity>) {
        self.identity = identity.map(Box::new);
    }

    pub(super) fn identity(&mut self) -> Option<&mut Identity> {
        self.identity.as_deref_mut()
    }

    /// The connection.
    pub fn stream(&self) -> &Conn {
        &self.stream
    }

    /// Why there is no TLS, where a handshake failed.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_deref()
    }

    /// Lets the machine speak and listen until it is ready for another transaction or over. Every
    /// event goes to `hear`, with the machine for its reply and the transactions.
    ///
    /// With `idle`, it first waits for the peer or for the bell, at most that long.
    pub async fn drive(
        &mut self,
        transactions: &mut Transactions,
        hear: &mut impl FnMut(&client::Session, &mut Transactions, Event),
        wake: &Notify,
        idle: Option<Duration>,
    ) -> Paused {
        let mut idle = idle;
        loop {
            if self.speak(transactions, hear).await {
                if self.fault.is_none() && !self.ended {
                    let goodbye = Box::pin(self.stream.say_goodbye());
                    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
                }
                self.stream.abort();
                return Paused::Over;
            }
            match idle.take() {
                None if self.machine.can_begin() => return Paused::CanBegin,
                Some(left) if self.machine.can_begin() => {
                    tokio::select! {
                        biased;
                        () = self.listen() => {}
                        () = wake.notified() => return Paused::CanBegin,
                        () = tokio::time::sleep(left) => return Paused::CanBegin,
                    }
                }
                _ => self.listen().await,
            }
        }
    }

    /// Polls the machine until it waits, and sends all that it said in as few operations as it
    /// takes. `true` if it is over.
    async fn speak(
        &mut self,
        transactions: &mut Transactions,
        hear: &mut impl FnMut(&client::Session, &mut Transactions, Event),
    ) -> bool {
        loop {
            let Speech {
                parts,
                sent,
                start_tls,
                auth,
                over,
            } = self.gather(transactions, hear);
            if start_tls {
                self.shake_hands().await;
                continue;
            }
            if let Some(mechanism) = auth {
                // It comes alone: whatever was said before was answered.
                Box::pin(self.authenticate(mechanism)).await;
                continue;
            }
            if parts.is_empty() {
                if over || !self.hand_in() {
                    return over;
                }
                continue;
            }
            let went_out = self.send(parts).await;
            let now = clock::now();
            for txn in sent {
                if went_out {
                    if let Some(t) = transactions.get_mut(txn) {
                        t.went_out(now);
                    }
                    let _ = self.machine.handle(now, Input::BodySent(txn));
                }
            }
            if over {
                return true;
            }
        }
    }

    /// Polls the machine until it waits.
    fn gather(
        &mut self,
        transactions: &mut Transactions,
        hear: &mut impl FnMut(&client::Session, &mut Transactions, Event),
    ) -> Speech {
        let mut room = [0; COMMAND_BYTES];
        let mut outbox = Outbox::new(&mut room);
        let mut sent = Vec::new();
        let mut start_tls = false;
        let mut auth = None;
        let over = loop {
            match self.machine.poll(clock::now(), transactions, outbox.room()) {
                Output::Send(n) => outbox.said(n),
                Output::BufferTooSmall => outbox.cut(),
                Output::SendBody { txn, framing } => {
                    outbox.cut();
                    if let Some(transaction) = transactions.get(txn) {
                        transaction.wire_body(framing, &mut outbox.parts);
                    }
                    sent.push(txn);
                }
                Output::Event(event) => hear(&self.machine, transactions, event),
                // The next poll says until when.
                Output::StartTls => start_tls = true,
                Output::SendAuth(mechanism) => {
                    auth = Some(mechanism);
                    break false;
                }
                Output::Wait(deadline) => {
                    self.deadline = deadline;
                    break false;
                }
                Output::Close => break true,
            }
        };
        outbox.cut();
        Speech {
            parts: outbox.parts,
            sent,
            start_tls,
            auth,
            over,
        }
    }

    /// The handshake that the machine asked for, within the time that it gives.
    async fn shake_hands(&mut self) {
        let left = self.deadline.map_or(self.block, |d| d.since(clock::now()));
        let outcome = match self.attempt.take() {
            // Bytes that came before it began, or still may, would count as its own.
            Some(attempt) if self.receiving.is_none() => {
                let shaking = Box::pin(self.stream.start_client(attempt));
                tokio::time::timeout(left, shaking)
                    .await
                    .unwrap_or_else(|_| Err(Fault::silent(left)))
            }
            _ => Err(Fault::new(
                ResultType::ValidationFailure,
                "no TLS handshake was prepared",
            )),
        };
        self.heard.clear();
        self.taken = 0;
        let input = match outcome {
            Ok(()) => Input::TlsEstablished,
            Err(fault) => {
                self.fault = Some(Box::new(fault));
                self.stream.abort();
                Input::TlsFailed
            }
        };
        if let Err(misuse) = self.machine.handle(clock::now(), input) {
            tracing::error!(%misuse, "the delivery machine was called out of turn");
            let _ = self.machine.handle(clock::now(), Input::Closed);
        }
    }

    /// Gives the machine more of what came; `false` if there is nothing.
    fn hand_in(&mut self) -> bool {
        let now = clock::now();
        if self.taken < self.heard.len() {
            match self
                .machine
                .handle(now, Input::Received(&self.heard[self.taken..]))
            {
                Ok(taken) if taken > 0 => self.taken += taken,
                // Nothing is taken any more: the session is over.
                _ => self.taken = self.heard.len(),
            }
            return true;
        }
        if self.ended {
            self.ended = false;
            if std::mem::take(&mut self.late)
                && self.machine.handle(now, Input::DeadlinePassed).is_ok()
            {
                // If its deadline hasn't come after all, the connection is gone all the same.
                let _ = self.machine.handle(now, Input::Closed);
                return true;
            }
            return self.machine.handle(now, Input::Closed).is_ok();
        }
        false
    }

    /// Sends in steps; `false` when the peer is gone or too slow.
    pub(super) async fn send(&mut self, mut parts: Vec<Bytes>) -> bool {
        let mut left = self.deadline.map_or(self.block, |d| d.since(clock::now()));
        loop {
            let rest = split_off_after(&mut parts, SEND_STEP_BYTES);
            let mut sending = Box::pin(self.stream.send(parts));
            let outcome = tokio::time::timeout(left, &mut sending).await;
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(_)) => {
                    // What the peer said before it closed may be waiting: the receive tells.
                    return false;
                }
                Err(_) => {
                    // A peer that reads no more may have said why.
                    Self::overhear(&self.stream, &mut self.receiving).await;
                    self.late = true;
                    self.stream.abort();
                    let _ = sending.await;
                    return false;
                }
            }
            if rest.is_empty() {
                return true;
            }
            let _ = self.machine.handle(clock::now(), Input::BodyProgress);
            left = self.block;
            parts = rest;
        }
    }

    /// Leaves the kernel time to put what has already come into the receive, which the next
    /// [`listen`](Self::listen) then finds done.
    async fn overhear(stream: &Conn, receiving: &mut Option<Pin<Box<Receive>>>) {
        if receiving.is_none() {
            *receiving = Some(Box::pin(stream.receive(Vec::with_capacity(RECEIVE_BYTES))));
            tokio::time::sleep(OVERHEAR).await;
        }
    }

    /// Waits for bytes, the end of the stream or the deadline, and tells the machine. May be
    /// dropped at any time: the receive stays under way.
    async fn listen(&mut self) {
        let receiving = self.receiving.get_or_insert_with(|| {
            let mut buf = std::mem::take(&mut self.heard);
            buf.clear();
            buf.reserve(RECEIVE_BYTES);
            Box::pin(self.stream.receive(buf))
        });
        let (result, buf) = match self.deadline {
            None => receiving.as_mut().await,
            Some(deadline) => {
                let left = deadline.since(clock::now());
                match tokio::time::timeout(left, receiving.as_mut()).await {
                    Ok(done) => done,
                    Err(_) => {
                        let _ = self.machine.handle(clock::now(), Input::DeadlinePassed);
                        return;
                    }
                }
            }
        };
        self.receiving = None;
        if let Err(error) = &result
            && self.fault.is_none()
        {
            self.fault = Fault::told(error).map(Box::new);
        }
        self.ended = !matches!(result, Ok(n) if n > 0);
        self.heard = buf;
        self.taken = 0;
        self.hand_in();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Completes the pending receive, so the descriptor is freed.
        self.stream.abort();
    }
}

/// What the machine said until it waited.
struct Speech {
    parts: Vec<Bytes>,
    /// Whose bodies are among the parts.
    sent: Vec<TransactionId>,
    /// It wants a handshake; it said nothing then.
    start_tls: bool,
    /// A line of AUTH comes next.
    auth: Option<Mechanism>,
    /// It says nothing more.
    over: bool,
}

/// What the machine says, gathered. Its room lies on the stack: a session that sends keeps only
/// what it sends.
struct Outbox<'a> {
    parts: Vec<Bytes>,
    text: &'a mut [u8],
    filled: usize,
}

impl<'a> Outbox<'a> {
    fn new(text: &'a mut [u8]) -> Self {
        Self {
            parts: Vec::new(),
            text,
            filled: 0,
        }
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.text[self.filled..]
    }

    fn said(&mut self, n: usize) {
        self.filled += n;
    }

    /// Puts the commands so far in front of what follows.
    fn cut(&mut self) {
        if self.filled > 0 {
            self.parts
                .push(Bytes::copy_from_slice(&self.text[..self.filled]));
            self.filled = 0;
        }
    }
}

/// Leaves about `bytes` in `parts` and gives back the rest.
fn split_off_after(parts: &mut Vec<Bytes>, bytes: usize) -> Vec<Bytes> {
    let mut left = bytes;
    for i in 0..parts.len() {
        if parts[i].len() > left {
            let mut rest = parts.split_off(i);
            if left > 0 {
                parts.push(rest[0].split_to(left));
            }
            return rest;
        }
        left -= parts[i].len();
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitting_keeps_every_byte_in_order() {
        let whole: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        for step in [1, 7, 250, 999, 1000, 2000] {
            let mut parts: Vec<Bytes> = whole.chunks(250).map(Bytes::copy_from_slice).collect();
            let mut seen = Vec::new();
            while !parts.is_empty() {
                let rest = split_off_after(&mut parts, step);
                let got: Vec<u8> = parts.iter().flat_map(|p| p.iter().copied()).collect();
                assert!(!got.is_empty() && got.len() <= step);
                seen.extend(got);
                parts = rest;
            }
            assert_eq!(seen, whole);
        }
    }
}
