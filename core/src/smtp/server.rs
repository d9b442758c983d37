//! A submission session (RFC 5321, RFC 6409; LMTP, RFC 2033).
//!
//! # How it is used
//!
//! Make a [`Session`] when a client connects, then [`Session::poll`] with what the client sent
//! and do what it says, until it says [`Output::Wait`]; then read more and poll again. Events
//! marked **Answer** hold the session until [`Session::handle`] gets the answer, at once or much
//! later; meanwhile `poll` consumes nothing. The example on [`Session`] drives a whole session.
//!
//! # How it works
//!
//! ```text
//!              delay over
//!   Greeting ──────────────► Command ◄───────────────────────────────────────┐
//!                             │ ▲ │                                          │
//!                  line too   │ │ │ EHLO MAIL RCPT AUTH      answer          │
//!                  long       │ │ ├────────────────────► Answering ──────────┤
//!                 SkipLine ◄──┘ │ │                      ▲     │ challenge  │
//!                     └─────────┘ │                 line │     ▼            │
//!                      line end   │                      AuthLine ── "*" ───┤
//!                                 │ DATA             354                     │
//!                                 ├────────► BodyOffered ──► Data            │
//!                                 │               │refused    │ .            │
//!                                 │               │           ▼     answer   │
//!                                 │               │        Answering ────────┤
//!                                 │               │           ▲ LAST         │
//!                                 │ BDAT          ▼           │   not LAST   │
//!                                 ├───────────────┼───────► Chunk ───────────┤
//!                                 │               ▼   refused │ Data         │
//!                                 │            Command        ▼   the end    │
//!                                 │                 SkipData, SkipChunk ─────┤
//!                                 │                      └─ LMTP: Refusing ──┤
//!                                 │ STARTTLS         sent     TLS is up      │
//!                                 ├────────► TlsReply ──► Handshake ─────────┘
//!                                 │ QUIT, 421, 521           sent
//!                                 └────────► Closing ───────────► Closed
//! ```
//!
//! From every state a deadline leads to `Closing` with 421 4.4.2, `Closed` leads to `Closed`.
//! A transaction is open from an accepted MAIL to the answer after its body, to RSET, or to a
//! refusal of its body.
//!
//! **Line ends.** CRLF is the only one (RFC 5321 2.3.8). After a bare CR or LF in a command or in
//! DATA nobody can know where the client thinks that the next command starts, which is what SMTP
//! smuggling lives on: 521 5.5.2 and close. In BDAT the length is known: the message gets
//! 554 5.6.0, and the session goes on (BODY=BINARYMIME allows them). A BDAT line without a
//! readable size gets 501 5.5.4 and close, for the same reason.
//!
//! **Other protocols.** Who can make a web browser or another server send a request here can put
//! commands into its path or body, and would be trusted as the machine that it comes from. A line that
//! begins with a method of HTTP, and a field of a header, get 521 5.5.1 and close.
//!
//! **Replies** are queued and sent together as late as RFC 2920 3.2 allows: before the session
//! waits, after a command that must not be grouped, and when the queue is full.
//!
//! **Errors.** After a refused MAIL or BDAT, the RCPT, DATA and BDAT that the client had
//! pipelined behind it are answered, but not counted as errors.

mod answer;
mod application;
mod body;
mod command;
mod event;
mod line;
mod options;
mod queue;
#[cfg(test)]
mod tests;

pub use event::{Event, Greeting, Input, Misuse, Output};
pub use options::{BadName, EarlyTalker, Limits, Offer, Options, Timeouts};

use crate::smtp::data::{BdatReader, Findings, Unstuffer};
use crate::smtp::extension::{AuthMechanisms, Capabilities};
use crate::time::Instant;
use answer::Answer;
use core::borrow::Borrow;
use queue::Queue;

/// One submission session.
///
/// # The order of calls
///
/// 1. [`Session::new`] when the client connects. Where TLS comes first, do the handshake and
///    [`handle`](Session::handle)`(`[`Input::TlsEstablished`]`)`.
/// 2. [`poll`](Session::poll) with the bytes that the client sent and that were not consumed yet,
///    from the first. Drop as many as it consumed, once you are through with its output (events
///    borrow from them).
/// 3. Do what the output says. If it is an event that wants an answer, `handle` the answer now or
///    when you have it. Poll again, until [`Output::Wait`].
/// 4. Then write what was to be sent, and wait for input, for the answer that is due, or for the
///    instant; go to 2. When the client is gone, `handle` [`Input::Closed`].
///
/// The input buffer must hold at least [`Options::input_bytes_min`] bytes: an incomplete line is
/// not consumed, it stays there. A line that is too long is answered with 500 and skipped. `out`
/// can have any length but 0.
///
/// ```
/// use courser_core::smtp::server::{Event, Input, Options, Output, Session};
/// use courser_core::time::Instant;
///
/// let options = Options::new("mx.example").unwrap();
/// let now = Instant::ZERO; // from your clock
/// let mut session = Session::new(now, &options);
/// let (mut out, mut sent, mut message) = ([0; 512], Vec::new(), Vec::new());
/// let mut input: &[u8] = b"EHLO client.example\r\n\
///     MAIL FROM:<a@client.example>\r\nRCPT TO:<b@there.example>\r\nDATA\r\n\
///     Subject: hi\r\n\r\n..dot\r\n.\r\nQUIT\r\n";
/// loop {
///     let (consumed, output) = session.poll(now, input, &mut out);
///     input = &input[consumed..];
///     match output {
///         Output::Send(n) => sent.extend_from_slice(&out[..n]),
///         Output::Event(event) => match event {
///             Event::Hello { .. } | Event::Mail(..) | Event::Rcpt(..) => {
///                 session.handle(now, Input::Accept).unwrap()
///             }
///             Event::Body(octets) => message.extend_from_slice(octets),
///             // The message is on disk:
///             Event::BodyEnd { .. } => session.handle(now, Input::Accept).unwrap(),
///             _ => {}
///         },
///         Output::Wait(_) => unreachable!("all input is there"),
///         Output::StartTls => unreachable!("not offered"),
///         Output::Close => break,
///     }
/// }
/// assert_eq!(message, b"Subject: hi\r\n\r\n.dot\r\n");
/// let sent = String::from_utf8(sent).unwrap();
/// assert!(sent.starts_with("220 mx.example ESMTP\r\n250-mx.example\r\n"));
/// assert!(sent.ends_with("354 End with <CRLF>.<CRLF>\r\n\
///     250 2.0.0 Message accepted\r\n221 2.0.0 Bye\r\n"));
/// ```
#[derive(Clone)]
pub struct Session<O = Options> {
    options: O,
    state: State,
    queue: Queue,
    /// A reply was queued that must not wait for others (RFC 2920 3.2).
    send_now: bool,
    greeting: Option<Greeting>,
    tls: bool,
    /// Nothing of TLS that a login could be bound to.
    unbound: bool,
    authenticated: bool,
    transaction: Option<Transaction>,
    /// MAIL or BDAT failed; what the client had pipelined behind it fails innocently.
    aftermath: bool,
    unstuffer: Unstuffer,
    chunks: BdatReader,
    /// Octets of a refused body that were thrown away.
    discarded: u64,
    counts: Counts,
    early: bool,
    shutdown: bool,
    started: Instant,
    /// The last thing that renewed the deadline.
    since: Instant,
    body_since: Instant,
}

/// See the diagram of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Command,
    SkipLine { bytes: u64 },
    Answering(Question),
    AuthLine,
    BodyOffered,
    Data,
    Chunk { last: bool },
    NextRecipient { size: u64, recipient: u32 },
    SkipData { then: AfterBody },
    SkipChunk { left: u64, then: AfterBody },
    Refusing { replies: u32 },
    TlsReply,
    Handshake,
    Closing,
    Closed,
}

/// The event that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Hello(Greeting),
    Mail(Transaction),
    Rcpt,
    Auth,
    BodyEnd { size: u64, recipient: u32 },
}

/// What happens when a refused body has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterBody {
    /// One reply; the transaction, if there is one, stays (BDAT where CHUNKING isn't offered).
    Reply,
    /// One reply, and the transaction is over.
    End,
    /// In LMTP one reply for each accepted recipient, and the transaction is over.
    EndOfMessage,
}

/// What an accepted MAIL began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transaction {
    smtputf8: bool,
    binary: bool,
    accepted: u32,
    refused: u32,
    /// BDAT has begun.
    chunked: bool,
    received: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    commands: u32,
    transactions: u32,
    // Since the last accepted message:
    errors: u32,
    junk: u32,
    refused_recipients: u32,
}

/// One step of [`Session::poll`].
enum Step<'b> {
    /// So many bytes were consumed, or the state changed.
    Took(usize),
    /// So many bytes were consumed, and this is to be told.
    Tell(usize, Event<'b>),
    /// What is queued must be sent before this state can go on.
    Flush,
    /// More input is needed.
    Starve,
    /// The application's answer is needed.
    Hold,
    /// The handshake is due.
    StartTls,
    /// Over.
    Close,
}

impl<O: Borrow<Options>> Session<O> {
    /// A session whose client has just connected.
    pub fn new(now: Instant, options: O) -> Self {
        Self {
            options,
            state: State::Greeting,
            queue: Queue::new(),
            send_now: false,
            greeting: None,
            tls: false,
            unbound: false,
            authenticated: false,
            transaction: None,
            aftermath: false,
            unstuffer: Unstuffer::new(),
            chunks: BdatReader::new(false),
            discarded: 0,
            counts: Counts::default(),
            early: false,
            shutdown: false,
            started: now,
            since: now,
            body_since: now,
        }
    }

    /// Says what is to be done next; `input` is what the client sent and `poll` has not consumed
    /// yet. Also says how many bytes of it are consumed now.
    ///
    /// Each call consumes, changes state, sends, or says `Wait` or `Close`: a loop until one of
    /// these ends.
    pub fn poll<'b>(
        &mut self,
        now: Instant,
        input: &'b [u8],
        out: &mut [u8],
    ) -> (usize, Output<'b>) {
        let mut consumed = 0;
        loop {
            if !self.queue.is_sent() && (self.send_now || !self.queue.has_room()) {
                if out.is_empty() {
                    return (consumed, Output::Wait(None));
                }
                let n = self.queue.take(out);
                self.send_now &= !self.queue.is_sent();
                return (consumed, Output::Send(n));
            }
            let rest = input.get(consumed..).unwrap_or_default();
            let step = self.step(now, rest);
            match step {
                Step::Took(n) | Step::Tell(n, _) if n > 0 => {
                    consumed = consumed.saturating_add(n).min(input.len());
                    // An over-long line must not renew the deadline with every piece.
                    if !matches!(self.state, State::SkipLine { .. }) {
                        self.since = now;
                    }
                }
                _ => {}
            }
            match step {
                Step::Took(_) => {}
                Step::Tell(_, event) => return (consumed, Output::Event(event)),
                Step::StartTls => return (consumed, Output::StartTls),
                // Before any pause, everything goes out (RFC 2920 3.2).
                _ if !self.queue.is_sent() => self.send_now = true,
                Step::Flush => {}
                Step::Hold => return (consumed, Output::Wait(None)),
                Step::Close => {
                    self.state = State::Closed;
                    return (consumed, Output::Close);
                }
                Step::Starve => {
                    let deadline = self.deadline();
                    if now < deadline {
                        return (consumed, Output::Wait(Some(deadline)));
                    }
                    self.time_out();
                }
            }
        }
    }

    /// The extensions that an EHLO answer names now.
    pub fn capabilities(&self) -> Capabilities {
        let options = self.options();
        let (offer, limits) = (options.offer, options.limits);
        Capabilities {
            pipelining: offer.pipelining,
            chunking: offer.chunking,
            binarymime: offer.binarymime && offer.chunking,
            eightbitmime: offer.eightbitmime,
            smtputf8: offer.smtputf8,
            dsn: offer.dsn,
            enhanced_status_codes: offer.enhanced_status_codes,
            starttls: offer.starttls && !self.tls,
            requiretls: offer.requiretls && self.tls,
            size: offer.size.then_some(limits.message_bytes),
            mt_priority: offer.mt_priority,
            deliver_by: offer.deliver_by,
            future_release: offer.future_release,
            rcpt_max: offer.rcpt_max.then_some(limits.recipients),
            mail_max: (offer.mail_max && limits.transactions > 0).then_some(limits.transactions),
            auth: self.mechanisms(),
        }
    }

    /// There is nothing of TLS that the client could bind a login to, as of TLS 1.2 without
    /// tls-unique: SCRAM-SHA-256-PLUS is not offered. To be said before the handshake is told of.
    pub fn cannot_bind(&mut self) {
        self.unbound = true;
    }

    /// The mechanisms that are offered now.
    fn mechanisms(&self) -> AuthMechanisms {
        let mut offered = self.options().mechanisms(self.tls);
        offered.scram_sha_256_plus &= !self.unbound;
        offered
    }

    /// The settings.
    pub fn options(&self) -> &Options {
        self.options.borrow()
    }

    /// TLS is up.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// AUTH succeeded (since TLS came up).
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// How the client introduced itself.
    pub fn greeting(&self) -> Option<Greeting> {
        self.greeting
    }

    /// Input came before the greeting went out.
    pub fn early_talker(&self) -> bool {
        self.early
    }

    /// What was found in the body so far: whether it has eight-bit octets, NULs, long lines.
    /// Final at [`Event::BodyEnd`].
    pub fn findings(&self) -> Findings {
        match self.transaction {
            Some(transaction) if transaction.chunked => self.chunks.findings(),
            _ => self.unstuffer.findings(),
        }
    }

    fn step<'b>(&mut self, now: Instant, input: &'b [u8]) -> Step<'b> {
        match self.state {
            State::Greeting => self.greet(now, input),
            State::Command => self.command(now, input),
            State::SkipLine { bytes } => self.skip_line(bytes, input),
            State::Answering(_) => Step::Hold,
            State::AuthLine => self.auth_line(input),
            State::BodyOffered => self.start_data(now),
            State::Data => self.data(input),
            State::Chunk { last } => self.chunk(last, input),
            State::NextRecipient { size, recipient } => self.ask_body_end(0, size, recipient),
            State::SkipData { then } => self.skip_data(then, input),
            State::SkipChunk { left, then } => self.skip_chunk(left, then, input),
            State::Refusing { replies } => self.refuse_for_each(replies),
            State::TlsReply => self.start_tls(),
            State::Handshake => Step::Starve,
            State::Closing | State::Closed => Step::Close,
        }
    }

    /// Greets when the delay is over, and watches for a client that can't wait.
    fn greet<'b>(&mut self, now: Instant, input: &'b [u8]) -> Step<'b> {
        let options = self.options.borrow();
        if !input.is_empty() && !self.early {
            self.early = true;
            match options.early_talker {
                EarlyTalker::Ignore => {}
                EarlyTalker::Flag => return Step::Tell(0, Event::EarlyTalker),
                EarlyTalker::Refuse => {
                    self.close_with(answer::SPOKE_TOO_EARLY);
                    return Step::Took(0);
                }
            }
        }
        if self.shutdown {
            self.close_with(answer::SHUTTING_DOWN);
        } else if now < self.started + options.greeting_delay {
            return Step::Starve;
        } else {
            self.queue.push_greeting(options.name(), options.lmtp);
            self.send_now = true;
            self.since = now;
            self.state = State::Command;
        }
        Step::Took(0)
    }

    fn start_tls<'b>(&mut self) -> Step<'b> {
        if !self.queue.is_sent() {
            return Step::Flush;
        }
        self.state = State::Handshake;
        Step::StartTls
    }

    /// When the client's time is over in this state.
    fn deadline(&self) -> Instant {
        let timeouts = &self.options().timeouts;
        match self.state {
            State::Greeting => self.started + self.options().greeting_delay,
            State::Data
            | State::Chunk { .. }
            | State::SkipData { .. }
            | State::SkipChunk { .. } => {
                (self.since + timeouts.data_block).min(self.body_since + timeouts.message)
            }
            _ => (self.since + timeouts.command).min(self.session_deadline()),
        }
    }

    fn time_out(&mut self) {
        if self.state == State::Handshake {
            // No plaintext may go between the records of a handshake.
            self.state = State::Closed;
        } else {
            self.close_with(answer::TIMED_OUT);
        }
    }

    fn session_deadline(&self) -> Instant {
        match self.options().timeouts.session {
            Some(session) => self.started + session,
            None => Instant::FAR,
        }
    }

    /// Queues one of our own replies.
    fn reply(&mut self, answer: Answer) {
        let enhanced = (self.options().offer.enhanced_status_codes
            && !answer.code.is_intermediate())
        .then_some(answer.enhanced);
        self.queue
            .push(answer.code, enhanced, answer.text.as_bytes());
    }

    /// Queues one of our own replies that must not wait for others (RFC 2920 3.2).
    fn reply_now(&mut self, answer: Answer) {
        self.reply(answer);
        self.send_now = true;
    }

    /// Queues an error reply, or 421 where it was one too many.
    fn error(&mut self, answer: Answer) {
        if self.count_error() {
            self.reply(answer);
        }
    }

    /// Counts an error. False if it was one too many: 421 is queued then.
    fn count_error(&mut self) -> bool {
        self.counts.errors = self.counts.errors.saturating_add(1);
        let is_fine = self.counts.errors < self.options().limits.errors;
        if !is_fine {
            self.close_with(answer::TOO_MANY_ERRORS);
        }
        is_fine
    }

    /// A last reply. A refusal that was held for the end of a body is dropped.
    fn close_with(&mut self, answer: Answer) {
        self.queue.forget_held();
        self.reply(answer);
        self.state = State::Closing;
    }
}

impl<O> core::fmt::Debug for Session<O> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session")
            .field("state", &self.state)
            .field("greeting", &self.greeting)
            .field("tls", &self.tls)
            .field("authenticated", &self.authenticated)
            .field("transaction", &self.transaction)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}
