//! What a session says: events, outcomes and failures.

use crate::feedback::verdict::{Scope, Stage};
use crate::mail::address::{Mailbox, ReversePath};
use crate::smtp::command::{MailParams, RcptParams};
use crate::smtp::extension::Capabilities;
use crate::smtp::reply::{EnhancedCode, ReplyCode};
use crate::smtp::sasl::Mechanism;
use crate::time::Instant;

/// The caller's name for a transaction. No two in flight have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub u32);

/// Where a session finds the envelopes of the transactions it was told to begin.
pub trait Envelopes {
    /// One envelope.
    type Envelope<'a>: Envelope
    where
        Self: 'a;
    /// The envelope of `txn`. It has to stay the same from
    /// [`begin`](super::Session::begin) to [`Event::Finished`]. `None` fails the transaction.
    fn envelope(&self, txn: TransactionId) -> Option<Self::Envelope<'_>>;
}

/// What goes with one message in one transaction.
pub trait Envelope {
    /// Sender and parameters of MAIL. Of the parameters only those that the peer offers are
    /// sent; `size`, `smtputf8` and an 8-bit `body` come from the methods below.
    fn mail(&self) -> (ReversePath<'_>, MailParams<'_>);
    /// How many recipients.
    fn recipients(&self) -> usize;
    /// Recipient `i` and its parameters of RCPT; called with `i < recipients()` only.
    fn recipient(&self, i: usize) -> (Mailbox<'_>, RcptParams<'_>);
    /// Octets of the body as stored, without dot-stuffing. BDAT announces exactly so many.
    fn size(&self) -> u64;
    /// Whether the body has octets above 127.
    fn eight_bit(&self) -> bool;
    /// Whether an address or a header field needs SMTPUTF8 (RFC 6531).
    fn utf8(&self) -> bool;
}

/// What happened to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// Bytes came. See [`Session::handle`](super::Session::handle) for how many are taken.
    Received(&'a [u8]),
    /// The peer closed, or reading or writing failed. Told after all bytes that came before it:
    /// a refusal is often the last thing that a peer says.
    Closed,
    /// The handshake that [`Output::StartTls`] asked for is done.
    TlsEstablished,
    /// It failed.
    TlsFailed,
    /// The line that [`Output::SendAuth`] asked for is out.
    AuthSent {
        /// Nothing more is to be said: the peer's yes counts.
        complete: bool,
    },
    /// There is no such line: the peer can't do the mechanism, or isn't who it should be.
    AuthFailed,
    /// A part of a body was taken by the network: restarts the block timeout
    /// (RFC 5321 4.5.3.2.5). Optional for bodies that surely go out within it.
    BodyProgress,
    /// The whole body of this transaction, its final dot included, was taken by the network.
    /// Told before any [`Input::Closed`] that came after it.
    BodySent(TransactionId),
    /// The instant of the last [`Output::Wait`] is reached. An early one is ignored.
    DeadlinePassed,
}

/// How a body goes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// DATA: dot-stuffed, with the final dot (see [`smtp::data`](crate::smtp::data)).
    Dot,
    /// BDAT: [`Envelope::size`] octets as they are.
    Bdat,
}

/// What the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send the first so many bytes of `out`, in order with all other sends and bodies.
    Send(usize),
    /// Send this transaction's body, in order with all sends, and tell
    /// [`Input::BodySent`] when the network has taken it.
    SendBody {
        /// Whose body.
        txn: TransactionId,
        /// How it goes over the wire.
        framing: Framing,
    },
    /// Start TLS as client, then tell [`Input::TlsEstablished`] or [`Input::TlsFailed`].
    StartTls,
    /// Send the next line of AUTH with this mechanism, then tell [`Input::AuthSent`] or
    /// [`Input::AuthFailed`]. [`Session::challenge`](super::Session::challenge) has what it
    /// answers; [`AuthLines`](super::AuthLines) writes it.
    SendAuth(Mechanism),
    /// Something to know. [`Session::reply`](super::Session::reply) has the text behind it.
    Event(Event),
    /// Nothing more until the next input; at this instant at the latest tell
    /// [`Input::DeadlinePassed`]. Without an instant the session is idle:
    /// [`begin`](super::Session::begin) or [`quit`](super::Session::quit).
    Wait(Option<Instant>),
    /// `out` can't hold the next command. Poll again with
    /// [`OUT_BYTES_MIN`](crate::limits::OUT_BYTES_MIN) bytes; with so many it never happens.
    BufferTooSmall,
    /// Close the connection. Everything begun has been finished.
    Close,
}

/// Something to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The session takes transactions; this is what the peer offers. `rcpt_max` and `mail_max`
    /// are kept by the session too.
    Ready(Capabilities),
    /// What became of one recipient.
    Recipient {
        /// Of which transaction.
        txn: TransactionId,
        /// Which recipient of the envelope.
        index: usize,
        /// What became of it.
        outcome: Outcome,
    },
    /// What became of all recipients of the transaction that had no [`Event::Recipient`]. At
    /// most one per transaction; after it no recipient of the transaction is told of.
    Message {
        /// Which transaction.
        txn: TransactionId,
        /// What became of them.
        outcome: Outcome,
    },
    /// The transaction is over: each recipient had its outcome, its body is no longer needed,
    /// its id may be used again.
    Finished {
        /// Which transaction.
        txn: TransactionId,
    },
    /// The session takes no more transactions and will close. All transactions were finished
    /// before. Not told after [`quit`](super::Session::quit) went well.
    Broken {
        /// Why.
        failure: Failure,
    },
}

/// What became of a recipient. It is told exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer took responsibility.
    Delivered {
        /// Its reply code.
        code: ReplyCode,
        /// Its enhanced status code.
        enhanced: Option<EnhancedCode>,
        /// The peer offers DSN, so the duty to notify went with the message (RFC 3461 5.2.2).
        /// Where false and NOTIFY=SUCCESS was asked, we owe a "relayed" notification.
        dsn: bool,
    },
    /// Too many recipients for one transaction, by the peer's word (452 4.5.3), its LIMITS or
    /// ours: no failure, to be sent at once in another transaction. Some other recipient of this
    /// transaction was taken, so sending again makes progress.
    Postponed,
    /// The peer, or a check before anything was sent, refused.
    Failed(Failure),
    /// The session ended first. The peer can't have taken the message, and nobody refused it.
    Unsent(Failure),
    /// The session ended after the whole body was sent and before its answer: the peer may have
    /// taken the message (RFC 1047). Sending again may make a duplicate.
    Unknown(Failure),
}

/// Why something failed, whom it is about and whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whom it is about, as far as the state tells;
    /// [`feedback::verdict`](crate::feedback::verdict) reads the reply for more.
    pub scope: Scope,
    /// Trying again the same way can't help.
    pub permanent: bool,
    /// Which answer was awaited, or which step was about to be taken.
    pub state: State,
    /// What happened.
    pub cause: Cause,
    /// Several pipelined commands were unanswered, or one met a reply out of turn, and this peer
    /// hasn't answered a pipelined batch properly before: it may lie about PIPELINING. Try its
    /// host again with [`Options::pipelining`](super::Options::pipelining) off.
    pub pipelining_suspect: bool,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The peer said so; [`Session::reply`](super::Session::reply) has the text.
    Reply {
        /// Its reply code.
        code: ReplyCode,
        /// Its enhanced status code.
        enhanced: Option<EnhancedCode>,
    },
    /// No answer in time.
    Timeout,
    /// The connection ended.
    Closed,
    /// A reply line, or a whole reply, longer than
    /// [`REPLY_LINE_BYTES_MAX`](crate::limits::REPLY_LINE_BYTES_MAX) or
    /// [`REPLY_LINES_MAX`](crate::limits::REPLY_LINES_MAX).
    ReplyTooLong,
    /// What came is no reply.
    ReplyMalformed,
    /// A reply that nothing asked for, or of a kind that this command can't have. Which answer
    /// belongs to which command is no longer sure, so the session ends.
    UnexpectedReply(ReplyCode),
    /// Bytes came between the answer to STARTTLS and the handshake (CVE-2011-0411).
    PlaintextInjected,
    /// TLS is required and the peer doesn't offer STARTTLS.
    TlsNotOffered,
    /// The handshake failed.
    TlsFailed,
    /// We are to authenticate, and the peer offers no mechanism that may be used.
    AuthNotOffered,
    /// We are to authenticate, and only over TLS, which there isn't.
    AuthNeedsTls,
    /// The peer doesn't take our user and password; [`Session::reply`](super::Session::reply) has
    /// its words. It is temporary, since mail has to wait until an operator has seen it.
    AuthRefused {
        /// Its reply code.
        code: ReplyCode,
        /// Its enhanced status code.
        enhanced: Option<EnhancedCode>,
    },
    /// The peer doesn't keep to the mechanism, or could not prove that it knows the password.
    AuthUnproven,
    /// Needs SMTPUTF8 (RFC 6531 3.2).
    Utf8NotOffered,
    /// Needs 8BITMIME.
    EightBitNotOffered,
    /// Needs BINARYMIME and CHUNKING (RFC 3030 3).
    BinaryNotOffered,
    /// Larger than the peer's SIZE (RFC 1870 6.1).
    TooLarge {
        /// The peer's limit, octets.
        limit: u64,
    },
    /// Needs REQUIRETLS over TLS (RFC 8689 4.2.1).
    RequireTlsNotOffered,
    /// Must be returned at its deadline, which needs DELIVERBY (RFC 2852).
    DeliverByNotOffered,
    /// The caller's envelope has no recipients.
    NoRecipients,
    /// The caller has no such envelope, or it lost recipients on the way.
    EnvelopeMissing,
    /// A command of this envelope would exceed
    /// [`COMMAND_LINE_BYTES_MAX`](crate::limits::COMMAND_LINE_BYTES_MAX).
    CommandTooLong,
}

impl Cause {
    /// The reply code, where a reply is the cause.
    pub const fn code(&self) -> Option<ReplyCode> {
        match *self {
            Self::Reply { code, .. }
            | Self::AuthRefused { code, .. }
            | Self::UnexpectedReply(code) => Some(code),
            _ => None,
        }
    }

    /// The enhanced status code for a report: the peer's, or the one of RFC 3463 (and its
    /// registry) that says the local cause. `permanent` chooses between 4 and 5 as its class.
    pub fn enhanced(&self, permanent: bool) -> Option<EnhancedCode> {
        let (subject, detail) = match *self {
            Self::Reply { enhanced, .. } => return enhanced,
            Self::Timeout | Self::Closed => (4, 2),
            Self::ReplyTooLong | Self::ReplyMalformed | Self::UnexpectedReply(_) => (5, 0),
            Self::PlaintextInjected | Self::TlsNotOffered | Self::TlsFailed => (7, 10),
            Self::AuthNotOffered => (7, 4),
            Self::AuthNeedsTls => (7, 11),
            // The peer's class is "permanent", ours is not.
            Self::AuthRefused { enhanced, .. } => {
                enhanced.map_or((7, 8), |code| (code.subject, code.detail))
            }
            Self::AuthUnproven => (7, 0),
            Self::Utf8NotOffered => (6, 7),
            Self::EightBitNotOffered | Self::BinaryNotOffered => (6, 3),
            Self::TooLarge { .. } => (3, 4),
            Self::RequireTlsNotOffered => (7, 30),
            Self::DeliverByNotOffered => (5, 4),
            Self::NoRecipients => (1, 0),
            Self::EnvelopeMissing => (3, 0),
            Self::CommandTooLong => (5, 4),
        };
        let class = if permanent { 5 } else { 4 };
        Some(EnhancedCode::new(class, subject, detail))
    }
}

/// Where a session stands: what it does or whose answer it awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Awaits the greeting.
    Greeting,
    /// EHLO, HELO or LHLO.
    Hello,
    /// STARTTLS.
    StartTls,
    /// The handshake.
    Handshake,
    /// AUTH.
    Auth,
    /// Takes transactions, has none.
    Idle,
    /// RSET.
    Reset,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The body goes out.
    Body,
    /// The body is out, its answer isn't in.
    End,
    /// QUIT.
    Quit,
    /// Over.
    Closed,
}

impl State {
    /// What [`feedback::verdict`](crate::feedback::verdict) calls a reply that came here.
    pub const fn stage(self) -> Stage {
        match self {
            Self::Greeting => Stage::Greeting,
            Self::Hello
            | Self::StartTls
            | Self::Handshake
            | Self::Auth
            | Self::Idle
            | Self::Reset
            | Self::Quit
            | Self::Closed => Stage::Hello,
            Self::Mail => Stage::Mail,
            Self::Rcpt => Stage::Rcpt,
            Self::Data => Stage::Data,
            Self::Body | Self::End => Stage::Body,
        }
    }
}

impl core::fmt::Display for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Greeting => "awaiting the greeting",
            Self::Hello => "in answer to EHLO",
            Self::StartTls => "in answer to STARTTLS",
            Self::Handshake => "in the TLS handshake",
            Self::Auth => "in answer to AUTH",
            Self::Idle => "between transactions",
            Self::Reset => "in answer to RSET",
            Self::Mail => "in answer to MAIL",
            Self::Rcpt => "in answer to RCPT",
            Self::Data => "in answer to DATA",
            Self::Body => "while the message was sent",
            Self::End => "in answer to the end of the message",
            Self::Quit => "in answer to QUIT",
            Self::Closed => "after the end",
        })
    }
}

impl core::fmt::Display for Cause {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Reply { code, .. } => write!(f, "the peer said {code}"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Closed => f.write_str("the peer closed the connection"),
            Self::ReplyTooLong => f.write_str("the peer's reply is too long"),
            Self::ReplyMalformed => f.write_str("what the peer said is no reply"),
            Self::UnexpectedReply(code) => write!(f, "the peer said {code} out of turn"),
            Self::PlaintextInjected => f.write_str("plaintext came before the TLS handshake"),
            Self::TlsNotOffered => f.write_str("TLS is required and the peer doesn't offer it"),
            Self::TlsFailed => f.write_str("the TLS handshake failed"),
            Self::AuthNotOffered => {
                f.write_str("the peer offers no mechanism of AUTH that may be used")
            }
            Self::AuthNeedsTls => {
                f.write_str("user and password are sent over TLS only, and the connection has none")
            }
            Self::AuthRefused { code, .. } => {
                write!(f, "the peer refused our user and password with {code}")
            }
            Self::AuthUnproven => f.write_str(
                "the peer doesn't keep to the mechanism of AUTH, or doesn't know the password",
            ),
            Self::Utf8NotOffered => {
                f.write_str("the message needs SMTPUTF8 and the peer doesn't offer it")
            }
            Self::EightBitNotOffered => {
                f.write_str("the message needs 8BITMIME and the peer doesn't offer it")
            }
            Self::BinaryNotOffered => {
                f.write_str("the message needs BINARYMIME and the peer doesn't offer it")
            }
            Self::TooLarge { limit } => {
                write!(
                    f,
                    "the message is larger than the peer's limit of {limit} octets"
                )
            }
            Self::RequireTlsNotOffered => {
                f.write_str("the message needs REQUIRETLS and the peer doesn't offer it")
            }
            Self::DeliverByNotOffered => {
                f.write_str("the message needs DELIVERBY and the peer doesn't offer it")
            }
            Self::NoRecipients => f.write_str("the envelope has no recipients"),
            Self::EnvelopeMissing => f.write_str("the envelope is missing"),
            Self::CommandTooLong => f.write_str("a command would be longer than SMTP allows"),
        }
    }
}

/// A call out of turn. The session is as it was before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misuse {
    /// An event waits: `poll` to [`Output::Wait`] first.
    PollFirst,
    /// `begin` while [`can_begin`](super::Session::can_begin) is false.
    CannotBegin,
    /// `begin` with the id of a transaction in flight.
    SameTransaction,
    /// `BodySent` of a body that wasn't asked for.
    NoSuchBody,
    /// `TlsEstablished` or `TlsFailed` without [`Output::StartTls`].
    NoHandshake,
    /// `AuthSent` or `AuthFailed` without [`Output::SendAuth`].
    NoAuth,
}

impl core::fmt::Display for Misuse {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::PollFirst => "an event waits: poll until Wait first",
            Self::CannotBegin => "no transaction can begin now",
            Self::SameTransaction => "a transaction in flight has this id",
            Self::NoSuchBody => "this body was not asked for",
            Self::NoHandshake => "no TLS handshake was asked for",
            Self::NoAuth => "no line of AUTH was asked for",
        })
    }
}
impl core::error::Error for Misuse {}
