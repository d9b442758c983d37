//! What goes into a session and what comes out of it.

use crate::mail::address::{Mailbox, ReversePath};
use crate::smtp::command::{MailParams, RcptParams};
use crate::smtp::reply::Reply;
use crate::time::Instant;
use core::fmt;

/// What the caller is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Output<'b> {
    /// Write the first so many bytes of `out` to the client. Gather what comes until `Wait`,
    /// `StartTls` or `Close` and write it at once if you can.
    Send(usize),
    /// Something for the application.
    Event(Event<'b>),
    /// Begin the TLS handshake as server, then [`Input::TlsEstablished`] or [`Input::Closed`].
    /// Plaintext that came behind STARTTLS in the same input was consumed and thrown away with it
    /// ([`Event::Injected`] said so). Bytes that are in the caller's buffer now came after
    /// that and belong to the handshake.
    StartTls,
    /// Nothing to do before more input, an answer or this instant
    /// ([`Input::DeadlinePassed`], or just `poll`).
    Wait(Option<Instant>),
    /// Close the connection. A transaction that is open then is over, nothing of it was taken.
    /// On TCP, stop writing and read for a moment before that: unread input would make the kernel
    /// reset the connection, and the client might lose the last reply.
    Close,
}

/// What the client wants. All slices lie in the caller's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// Input came before the greeting went out, and the options say to flag it. No answer.
    EarlyTalker,
    /// EHLO, HELO or LHLO. **Answer.** `AcceptWith` puts its text behind our name.
    Hello {
        /// Which of them.
        greeting: Greeting,
        /// What the client calls itself: a domain or an address literal.
        name: &'b str,
    },
    /// MAIL. **Answer.**
    Mail(ReversePath<'b>, MailParams<'b>),
    /// RCPT. **Answer.**
    Rcpt(Mailbox<'b>, RcptParams<'b>),
    /// DATA or the first BDAT. No answer is needed; `Refuse` before the next `poll` refuses DATA
    /// before the client sends anything.
    BodyStart,
    /// The next octets of the message: never empty, dots removed, line ends CRLF (except for
    /// BODY=BINARYMIME). No answer is needed; `Refuse` now or at the next one stops these events,
    /// the rest is read and thrown away, and the client gets the refusal at the end.
    Body(&'b [u8]),
    /// The message has ended. **Answer**: `Accept` means that it is safe with you.
    BodyEnd {
        /// Octets of all [`Event::Body`].
        size: u64,
        /// Which of the recipients that you accepted is answered, in order, from 0. In SMTP the
        /// event comes once, for all of them; in LMTP once for each (RFC 2033 4.2).
        recipient: u32,
    },
    /// The open transaction is over and nothing of it was taken: RSET, a new EHLO, or a body that
    /// the session refuses by itself. No answer.
    Reset,
    /// AUTH. **Answer** with `AuthChallenge`, `AuthDone`, `AuthFailed` or `Refuse`.
    Auth {
        /// SASL mechanism as sent; one that the options offer.
        mechanism: &'b str,
        /// Initial response, base64; `=` is an empty one.
        initial: Option<&'b [u8]>,
    },
    /// The client's answer to a challenge, base64, not decoded. **Answer** as for `Auth`.
    AuthResponse(&'b [u8]),
    /// The exchange was cancelled, by `*` or by a line too long. No answer.
    AuthCancelled,
    /// Plaintext came behind STARTTLS in the same input, and was thrown away. A client waits for
    /// our reply there (RFC 3207 4), so somebody between us may have put it in. No answer; the
    /// handshake follows.
    Injected {
        /// How much of it there was.
        octets: usize,
    },
    /// QUIT; 221 and `Close` follow. No answer.
    Quit,
}

/// How a client introduced itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// HELO: no extensions.
    Helo,
    /// EHLO.
    Ehlo,
    /// LHLO (RFC 2033).
    Lhlo,
}

/// What happened outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// Yes to the event that waits for an answer, in our words.
    Accept,
    /// Yes, in yours: a 2yz reply, for instance with the queue id. Reply texts are cut to
    /// [`SERVER_REPLY_BYTES_MAX`](crate::limits::SERVER_REPLY_BYTES_MAX).
    AcceptWith(Reply<'a>),
    /// No: a 4yz or 5yz reply. A 421 closes.
    Refuse(Reply<'a>),
    /// No, and close after it. Allowed at any time; before the greeting it stands in its place.
    /// While a body comes in, its rest is not read.
    RefuseAndClose(Reply<'a>),
    /// 334 with this base64 text (printable, at most
    /// [`SERVER_REPLY_BYTES_MAX`](crate::limits::SERVER_REPLY_BYTES_MAX) with code and CRLF).
    AuthChallenge(&'a [u8]),
    /// 235: the client is who it says.
    AuthDone,
    /// 535: it is not.
    AuthFailed,
    /// TLS is up: after `StartTls`, or before the first `poll` where it comes first (port 465).
    TlsEstablished,
    /// The client is gone, or the handshake failed.
    Closed,
    /// The instant of the last `Wait` may have passed.
    DeadlinePassed,
    /// Stop: 421 4.3.2 at the next command, and close. A body that comes in is finished and
    /// answered first.
    Shutdown,
}

/// The caller called in the wrong order. The session is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misuse {
    /// No event waits for an answer.
    NothingPending,
    /// The event that waits wants another kind of answer.
    WrongAnswer,
    /// `AcceptWith` without 2yz, or a refusal without 4yz or 5yz.
    ReplyClass,
    /// The challenge is too long, or not printable.
    Challenge,
    /// There was no `StartTls`.
    NoHandshake,
    /// The session is over.
    Over,
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NothingPending => "no event waits for an answer",
            Self::WrongAnswer => "the event that waits wants another kind of answer",
            Self::ReplyClass => "the reply has a code of the wrong class",
            Self::Challenge => "the challenge is too long or not printable",
            Self::NoHandshake => "no TLS handshake is due",
            Self::Over => "the session is over",
        })
    }
}

impl core::error::Error for Misuse {}
