//! A delivery session (RFC 5321): greeting, EHLO, transactions, QUIT.
//!
//! # How to drive it
//!
//! 1. Connect, then [`Session::new`].
//! 2. Call [`Session::poll`] again and again and do what it says, until it says
//!    [`Output::Wait`] or [`Output::Close`]. Whatever it gave to send until then ([`Output::Send`]
//!    and [`Output::SendBody`], in order) may go out in one vectored write.
//! 3. Tell what happened with [`Session::handle`] (bytes, a body sent, a deadline, the end of the
//!    connection), then poll again. [`Input::Received`] says how many bytes it took; while some
//!    are left, poll and hand in the rest.
//! 4. After [`Event::Ready`], [`Session::begin`] a transaction whenever [`Session::can_begin`],
//!    and poll. The session takes what it needs of the envelope from [`Envelopes`] while it
//!    polls; it never sees the body.
//! 5. [`Session::quit`] when there is no more to send; poll until [`Output::Close`].
//!
//! Each recipient of each begun transaction gets **exactly one** outcome, by its own
//! [`Event::Recipient`] or by the [`Event::Message`] that speaks for all who had none, then
//! [`Event::Finished`] ends the transaction: whatever the peer does.
//!
//! ```
//! use courser_core::mail::address::{Mailbox, ReversePath};
//! use courser_core::smtp::client::*;
//! use courser_core::smtp::command::{MailParams, RcptParams};
//! use courser_core::time::Instant;
//!
//! /// One envelope for every transaction.
//! struct Mine;
//! impl Envelope for &Mine {
//!     fn mail(&self) -> (ReversePath<'_>, MailParams<'_>) {
//!         (ReversePath::parse("list@example.org").unwrap(), MailParams::default())
//!     }
//!     fn recipients(&self) -> usize { 2 }
//!     fn recipient(&self, i: usize) -> (Mailbox<'_>, RcptParams<'_>) {
//!         let to = ["ann@example.net", "bob@example.net"][i];
//!         (Mailbox::parse(to).unwrap(), RcptParams::default())
//!     }
//!     fn size(&self) -> u64 { 14 }
//!     fn eight_bit(&self) -> bool { false }
//!     fn utf8(&self) -> bool { false }
//! }
//! impl Envelopes for Mine {
//!     type Envelope<'a> = &'a Mine;
//!     fn envelope(&self, _: TransactionId) -> Option<&Mine> { Some(self) }
//! }
//!
//! // What the peer will answer to each of our writes.
//! let mut answers = [
//!     "250-mx.example.net\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
//!     "250 ok\r\n250 ok\r\n550 5.1.1 no bob\r\n250 2.0.0 queued\r\n",
//!     "221 bye\r\n",
//! ].into_iter();
//!
//! let now = Instant::ZERO; // from the caller's clock
//! let mut session = Session::new(now, Options::new(EhloName::new("out.example.org").unwrap()));
//! let (mut wire, mut told) = (Vec::new(), Vec::new());
//! let mut received = "220 mx.example.net ESMTP\r\n".as_bytes();
//! let mut out = [0; 4096];
//! loop {
//!     let taken = session.handle(now, Input::Received(received)).unwrap();
//!     received = &received[taken..];
//!     let mut wrote = false;
//!     loop {
//!         match session.poll(now, &Mine, &mut out) {
//!             Output::Send(n) => { wire.extend_from_slice(&out[..n]); wrote = true }
//!             Output::SendBody { txn, framing: Framing::Bdat } => {
//!                 wire.extend_from_slice(b"Subject: hi\r\n\r");
//!                 session.handle(now, Input::BodySent(txn)).unwrap();
//!             }
//!             Output::Event(Event::Ready(_)) => session.begin(TransactionId(7)).unwrap(),
//!             Output::Event(Event::Finished { .. }) => session.quit(),
//!             Output::Event(event) => {
//!                 told.push(event);
//!                 assert!(session.reply().is_some(), "what the peer said");
//!             }
//!             Output::Wait(_) => break,
//!             Output::Close => {
//!                 assert_eq!(wire, b"EHLO out.example.org\r\n\
//!                     MAIL FROM:<list@example.org>\r\n\
//!                     RCPT TO:<ann@example.net>\r\nRCPT TO:<bob@example.net>\r\n\
//!                     BDAT 14 LAST\r\nSubject: hi\r\n\rQUIT\r\n");
//!                 assert!(matches!(told[..], [
//!                     Event::Recipient { index: 1, outcome: Outcome::Failed(_), .. },
//!                     Event::Message { outcome: Outcome::Delivered { .. }, .. },
//!                 ]));
//!                 return;
//!             }
//!             other => unreachable!("{other:?}"),
//!         }
//!     }
//!     if wrote { received = answers.next().unwrap().as_bytes() }
//! }
//! ```
//!
//! # How it works
//!
//! ```text
//!          220         2yz to EHLO              220                TLS
//! Greeting ───► Hello ────────────► StartTls ───────► Handshake ─────────► Hello (again)
//!    │          │   ▲│ 5yz: HELO       │ 4yz, 5yz,
//!    │          │   └┘                 ▼ and TLS is not required
//!    │          ├──────────────────► Auth ◄───┐ 334
//!    │          │ options ask for AUTH │ └────┘
//!    │          │                      ▼ 235
//!    │          └──────────────────► Ready ◄──┐
//!    │  2yz, no STARTTLS wanted or     │      │ transactions (transaction.rs),
//!    │  offered                        ├──────┘ two at most
//!    │                                 │
//!    │ 4yz, 5yz                        │ quit(), nothing in flight
//!    ▼                                 ▼
//! Ending ─ after a refusal ──────────► Quit ─── 221, or anything, or 5 s ───► Closed
//!    └───── after all else ───────────────────────────────────────────────────►┘
//!    ▲
//!    └── from everywhere: 421, closed, deadline, no reply, reply out of turn
//! ```
//!
//! | file | has |
//! |---|---|
//! | `options` | [`Options`], [`Timeouts`] |
//! | `outcome` | [`Input`], [`Output`], [`Event`], [`Outcome`], [`Failure`], the traits |
//! | `transaction` | how far one transaction is written and answered |
//! | `opening` | greeting, EHLO, STARTTLS |
//! | `auth` | AUTH, and [`AuthLines`] |
//! | `writing` | what to send next |
//! | `answers` | what an answer does to a transaction |
//! | `ending` | what is told of what is left |
//!
//! **Writing and answers are apart.** A transaction has one position for what is written and one
//! for what is answered; pipelining only lets the first run ahead. A reply that comes while
//! nothing is unanswered ends the session: an answer taken for that of another command could
//! report mail as delivered that was refused.
//!
//! **RSET** is sent only before a transaction that follows one which the peer may still hold
//! open: all recipients refused before DATA, DATA refused, or BDAT refused (after which RFC 3030
//! 2 demands it). A transaction pipelined behind an unanswered BDAT can't know, so it has one too.
//!
//! **Pipelining that isn't:** when a session breaks while several commands are unanswered, and
//! no batch of it was answered well before, the failure says
//! [`pipelining_suspect`](Failure::pipelining_suspect).

mod answers;
mod auth;
mod ending;
mod opening;
mod options;
mod outcome;
mod transaction;
mod writing;

#[cfg(test)]
mod tests;

pub use auth::{AuthLine, AuthLines};
pub use options::{Auth, EhloName, EhloNameError, EightBit, Options, Timeouts, TlsMode};
pub use outcome::{
    Cause, Envelope, Envelopes, Event, Failure, Framing, Input, Misuse, Outcome, Output, State,
    TransactionId,
};

use heapless::Deque;

use crate::feedback::verdict::Scope;
use crate::limits::TRANSACTIONS_IN_FLIGHT_MAX;
use crate::smtp::extension::Capabilities;
use crate::smtp::reply::{Reply, ReplyCode, ReplyError, ReplyReader, ReplyState};
use crate::time::Instant;
use opening::Hello;
use transaction::{Body, Transaction};

/// One delivery session over one connection. It does no I/O and reads no clock.
///
/// The order of calls, each as often as it fits:
///
/// - getters: [`is_secured`](Self::is_secured), [`is_authenticated`](Self::is_authenticated),
///   [`challenge`](Self::challenge), [`capabilities`](Self::capabilities),
///   [`state`](Self::state), [`can_begin`](Self::can_begin), and [`reply`](Self::reply) right
///   after an event;
/// - [`handle`](Self::handle) what happened; before the next, poll to [`Output::Wait`];
/// - [`begin`](Self::begin) and [`quit`](Self::quit), at any time between polls;
/// - [`poll`](Self::poll) after each of these, until [`Output::Wait`] or [`Output::Close`].
///
/// See the [module](self) for an example.
#[derive(Clone, Debug)]
pub struct Session {
    options: Options,
    phase: Phase,
    capabilities: Capabilities,
    secured: bool,
    authenticated: bool,
    reader: ReplyReader,
    reading: Reading,
    transactions: Deque<Transaction, TRANSACTIONS_IN_FLIGHT_MAX>,
    /// Transactions begun in this session, for MAILMAX.
    begun: u32,
    /// The peer may hold a transaction open.
    open: bool,
    /// `quit` was called.
    quitting: bool,
    /// The peer answered a pipelined batch in order.
    pipelining_proven: bool,
    /// Told by the next poll.
    pending: Option<Event>,
    /// The reader holds the reply behind the last event.
    reply_stands: bool,
    /// When something last went forward.
    since: Instant,
}

/// Where the reader is in a reply.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    /// A reply has begun and isn't complete.
    inside: bool,
    /// Its first byte came while an answer was due.
    due: bool,
    /// Its lines so far.
    lines: usize,
}

/// The drawing above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    Hello {
        by: Hello,
        written: bool,
    },
    StartTls {
        written: bool,
    },
    Handshake {
        asked: bool,
    },
    Auth(auth::Exchange),
    Ready,
    /// Tells what is left, then goes on to `Quit` or `Closed`.
    Ending(ending::Ending),
    Quit {
        written: bool,
    },
    Closed,
}

/// A reply's code and enhanced code.
#[derive(Clone, Copy, Debug)]
struct Answer {
    code: ReplyCode,
    enhanced: Option<crate::smtp::reply::EnhancedCode>,
}

impl Answer {
    const fn cause(self) -> Cause {
        Cause::Reply {
            code: self.code,
            enhanced: self.enhanced,
        }
    }
}

impl Session {
    /// A session over a connection that was just made.
    pub fn new(now: Instant, options: Options) -> Self {
        Self {
            secured: options.tls == TlsMode::Implicit,
            options,
            phase: Phase::Greeting,
            authenticated: false,
            capabilities: Capabilities::default(),
            reader: ReplyReader::new(),
            reading: Reading::default(),
            transactions: Deque::new(),
            begun: 0,
            open: false,
            quitting: false,
            pipelining_proven: false,
            pending: None,
            reply_stands: false,
            since: now,
        }
    }

    // -- getters --

    /// Whether the connection is TLS.
    pub const fn is_secured(&self) -> bool {
        self.secured
    }

    /// Whether the peer took our user and password.
    pub const fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// What the peer offers, from its last EHLO answer. Empty before, and after HELO.
    pub const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The reply behind the event that the last poll gave, or none if a local cause is behind
    /// it. Stands until the next [`handle`](Self::handle).
    pub fn reply(&self) -> Option<Reply<'_>> {
        self.reader.reply().filter(|_| self.reply_stands)
    }

    /// Where the session stands: whose answer it awaits, else what it does.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Greeting => State::Greeting,
            Phase::Hello { .. } => State::Hello,
            Phase::StartTls { .. } => State::StartTls,
            Phase::Handshake { .. } => State::Handshake,
            Phase::Auth(_) => State::Auth,
            Phase::Ready => self.transaction_state(),
            Phase::Ending(ending) => ending.failure.state,
            Phase::Quit { .. } => State::Quit,
            Phase::Closed => State::Closed,
        }
    }

    fn transaction_state(&self) -> State {
        let Some(txn) = self.awaiting().or(self.transactions.front()) else {
            return State::Idle;
        };
        match txn.body {
            Body::Going => State::Body,
            _ => txn.answer.state(),
        }
    }

    /// Whether [`begin`](Self::begin) takes a transaction now: the session is ready, the peer's
    /// MAILMAX isn't reached, and nothing is in flight, or one transaction is and the peer
    /// offers both PIPELINING and CHUNKING.
    pub fn can_begin(&self) -> bool {
        let room = match self.transactions.len() {
            0 => true,
            1 => self.pipelining() && self.chunking(),
            _ => false,
        };
        let mail_max = self.capabilities.mail_max.unwrap_or(u32::MAX).max(1);
        self.phase == Phase::Ready && !self.quitting && room && self.begun < mail_max
    }

    fn pipelining(&self) -> bool {
        self.options.pipelining && self.capabilities.pipelining
    }

    fn chunking(&self) -> bool {
        self.options.chunking && self.capabilities.chunking
    }

    /// The first transaction that awaits an answer.
    fn awaiting(&self) -> Option<&Transaction> {
        self.transactions.iter().find(|txn| txn.awaits())
    }

    // -- commands --

    /// Begins a transaction, whose envelope the next polls will ask for.
    ///
    /// # Errors
    /// [`Misuse::CannotBegin`] while [`can_begin`](Self::can_begin) is false,
    /// [`Misuse::SameTransaction`] while `txn` is in flight.
    pub fn begin(&mut self, txn: TransactionId) -> Result<(), Misuse> {
        if !self.can_begin() {
            return Err(Misuse::CannotBegin);
        }
        if self.transactions.iter().any(|other| other.id == txn) {
            return Err(Misuse::SameTransaction);
        }
        self.transactions
            .push_back(Transaction::new(txn))
            .map_err(|_| Misuse::CannotBegin)?;
        self.begun = self.begun.saturating_add(1);
        Ok(())
    }

    /// Ends the session once nothing is in flight: QUIT, then [`Output::Close`].
    pub fn quit(&mut self) {
        self.quitting = true;
    }

    // -- handlers --

    /// Tells what happened.
    ///
    /// Says how many bytes of [`Input::Received`] were taken (0 for all other inputs). It stops
    /// behind a reply that gave an event, so that [`reply`](Self::reply) can hold its text: poll
    /// until [`Output::Wait`], then hand in the rest. Give it all bytes that were read: a rest
    /// behind the answer to STARTTLS is how an injection shows.
    ///
    /// # Errors
    /// [`Misuse`]; then nothing has changed.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) -> Result<usize, Misuse> {
        if self.phase == Phase::Closed {
            return Ok(match input {
                Input::Received(bytes) => bytes.len(),
                _ => 0,
            });
        }
        if self.must_poll() {
            return Err(Misuse::PollFirst);
        }
        match input {
            Input::Received(bytes) => Ok(self.on_bytes(now, bytes)),
            Input::Closed => Ok(self.on_closed()),
            Input::TlsEstablished => self.on_tls(now, true),
            Input::TlsFailed => self.on_tls(now, false),
            Input::AuthSent { complete } => self.on_auth_sent(now, complete),
            Input::AuthFailed => self.on_auth_failed(),
            Input::BodyProgress => Ok(self.on_body_progress(now)),
            Input::BodySent(txn) => self.on_body_sent(now, txn),
            Input::DeadlinePassed => Ok(self.on_deadline(now)),
        }
    }

    /// Whether there is something to tell before anything else may happen.
    fn must_poll(&self) -> bool {
        self.pending.is_some()
            || matches!(self.phase, Phase::Ending(_))
            || matches!(self.phase, Phase::Auth(exchange) if exchange.is_ours())
            || self.transactions.front().is_some_and(Transaction::is_over)
    }

    /// Reads replies until one gives an event.
    fn on_bytes(&mut self, now: Instant, bytes: &[u8]) -> usize {
        self.reply_stands = false;
        let mut rest = bytes;
        while !rest.is_empty() && !self.must_poll() {
            if matches!(self.phase, Phase::Handshake { .. }) {
                self.break_off(Cause::PlaintextInjected);
                break;
            }
            if self.phase == Phase::Closed {
                return bytes.len();
            }
            if !self.reading.inside {
                self.reading = Reading {
                    inside: true,
                    due: self.is_answer_due(),
                    lines: 0,
                };
            }
            match self.reader.push(rest) {
                Ok(pushed) => {
                    rest = rest.get(pushed.consumed..).unwrap_or(&[]);
                    self.on_line(now, pushed.state);
                }
                Err(error) => self.on_no_reply(error),
            }
        }
        bytes.len() - rest.len()
    }

    /// Whether a reply is expected.
    fn is_answer_due(&self) -> bool {
        match self.phase {
            Phase::Greeting => true,
            Phase::Hello { written, .. }
            | Phase::StartTls { written }
            | Phase::Quit { written } => written,
            Phase::Auth(exchange) => exchange.is_theirs(),
            Phase::Ready => self.awaiting().is_some(),
            Phase::Handshake { .. } | Phase::Ending(_) | Phase::Closed => false,
        }
    }

    fn on_line(&mut self, now: Instant, state: ReplyState) {
        if state == ReplyState::Incomplete {
            return;
        }
        self.reading.lines += 1;
        if self.reading.lines > 1 && matches!(self.phase, Phase::Hello { .. }) {
            self.capabilities.from_line(self.reader.line());
        }
        if state == ReplyState::Complete {
            self.reading.inside = false;
            if let Some(Reply { code, enhanced, .. }) = self.reader.reply() {
                self.on_reply(now, Answer { code, enhanced });
            }
        }
    }

    fn on_reply(&mut self, now: Instant, answer: Answer) {
        self.since = now;
        if matches!(self.phase, Phase::Quit { .. }) {
            return self.on_quit_reply();
        }
        if answer.code.get() == 421 {
            return self.on_service_closing(answer);
        }
        if !self.reading.due {
            return self.break_off(Cause::UnexpectedReply(answer.code));
        }
        match self.phase {
            Phase::Greeting => self.on_greeting(answer),
            Phase::Hello { by, .. } => self.on_hello(by, answer),
            Phase::StartTls { .. } => self.on_start_tls(answer),
            Phase::Auth(exchange) => self.on_auth_reply(exchange, answer),
            Phase::Ready => self.on_transaction_reply(answer),
            Phase::Handshake { .. } | Phase::Ending(_) | Phase::Quit { .. } | Phase::Closed => {}
        }
    }

    fn on_no_reply(&mut self, error: ReplyError) {
        self.break_off(match error {
            ReplyError::LineTooLong | ReplyError::TooManyLines => Cause::ReplyTooLong,
            _ => Cause::ReplyMalformed,
        });
    }

    // -- polls --

    /// What to do next. Call it until it says [`Output::Wait`] or [`Output::Close`].
    ///
    /// `out` takes commands; [`OUT_BYTES_MIN`](crate::limits::OUT_BYTES_MIN) bytes always do, a
    /// larger buffer holds a whole pipelined batch and saves calls.
    pub fn poll<E: Envelopes>(&mut self, now: Instant, envelopes: &E, out: &mut [u8]) -> Output {
        if let Some(event) = self.next_event() {
            return Output::Event(event);
        }
        match self.phase {
            Phase::Hello { by, written: false } => self.write_hello(now, by, out),
            Phase::StartTls { written: false } => self.write_start_tls(now, out),
            Phase::Handshake { asked: false } => self.ask_for_tls(now),
            Phase::Auth(exchange) if exchange.is_ours() => self.ask_for_auth(now, exchange),
            Phase::Quit { written: false } => self.write_quit(now, out),
            Phase::Ready => self.write_transactions(now, envelopes, out),
            Phase::Closed => Output::Close,
            _ => self.wait(),
        }
    }

    fn next_event(&mut self) -> Option<Event> {
        if let Some(event) = self.pending.take() {
            return Some(event);
        }
        if let Phase::Ending(ending) = self.phase {
            return self.tell_what_is_left(ending);
        }
        self.finish_front()
    }

    fn wait(&self) -> Output {
        Output::Wait(self.deadline())
    }

    /// When the peer has had its time.
    fn deadline(&self) -> Option<Instant> {
        let timeouts = &self.options.timeouts;
        let patience = match self.state() {
            State::Greeting => timeouts.greeting,
            State::Hello | State::Auth => timeouts.hello,
            State::StartTls | State::Handshake => timeouts.starttls,
            State::Reset | State::Mail => timeouts.mail,
            State::Rcpt => timeouts.rcpt,
            State::Data => timeouts.data,
            State::Body => timeouts.block,
            State::End => timeouts.end,
            State::Quit => timeouts.quit,
            State::Idle | State::Closed => return None,
        };
        Some(self.since + patience)
    }

    fn on_deadline(&mut self, now: Instant) -> usize {
        if self.deadline().is_some_and(|at| at <= now) {
            self.reply_stands = false;
            match self.phase {
                Phase::Quit { .. } => self.phase = Phase::Closed,
                _ => self.break_off(Cause::Timeout),
            }
        }
        0
    }

    /// A failure that is nobody's but the host's.
    fn host_failure(&self, cause: Cause) -> Failure {
        Failure {
            scope: Scope::Host,
            permanent: false,
            state: self.state(),
            cause,
            pipelining_suspect: self.is_pipelining_suspect(),
        }
    }

    fn is_pipelining_suspect(&self) -> bool {
        let unanswered: usize = self.transactions.iter().map(Transaction::unanswered).sum();
        !self.pipelining_proven && unanswered > 1
    }
}
