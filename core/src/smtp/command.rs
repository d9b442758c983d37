//! Commands (RFC 5321 4.1) with the parameters of the extensions that the core knows.

use crate::mail::address::{Mailbox, ReversePath};

/// `BODY=` (RFC 6152, RFC 3030).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyType {
    /// Seven bits, lines of at most 998 octets.
    #[default]
    SevenBit,
    /// Eight bits, lines.
    EightBitMime,
    /// Any octets; needs BDAT.
    BinaryMime,
}

/// `RET=` (RFC 3461 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// The whole message goes back.
    Full,
    /// Only its header goes back.
    Headers,
}

/// `NOTIFY=` (RFC 3461 4.1). Absent means: failure and, where policy says so, delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// `NEVER`; excludes the others.
    pub never: bool,
    /// `SUCCESS`.
    pub success: bool,
    /// `FAILURE`.
    pub failure: bool,
    /// `DELAY`.
    pub delay: bool,
}

/// `BY=` (RFC 2852).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverBy {
    /// Seconds until the deadline; negative when it has passed.
    pub seconds: i32,
    /// `R` returns the message at the deadline, `N` only notifies.
    pub returns: bool,
    /// `T`: ask for trace.
    pub trace: bool,
}

/// `HOLDFOR=` and `HOLDUNTIL=` (RFC 4865).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FutureRelease {
    /// Hold for so many seconds.
    HoldFor(u32),
    /// Hold until this unix time, seconds.
    HoldUntil(crate::time::Wall),
}

/// Parameters of MAIL. Every field at its default means: not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailParams<'a> {
    /// `SIZE=` octets (RFC 1870).
    pub size: Option<u64>,
    /// `BODY=`.
    pub body: Option<BodyType>,
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
    /// `RET=`.
    pub ret: Option<Ret>,
    /// `ENVID=`, still xtext-encoded (RFC 3461 4.4).
    pub envid: Option<&'a [u8]>,
    /// `AUTH=`, still xtext-encoded (RFC 4954 5).
    pub auth: Option<&'a [u8]>,
    /// `REQUIRETLS` (RFC 8689).
    pub requiretls: bool,
    /// `MT-PRIORITY=` -9 to 9 (RFC 6710).
    pub mt_priority: Option<i8>,
    /// `BY=`.
    pub by: Option<DeliverBy>,
    /// `HOLDFOR=` or `HOLDUNTIL=`.
    pub hold: Option<FutureRelease>,
}

/// Parameters of RCPT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RcptParams<'a> {
    /// `NOTIFY=`.
    pub notify: Option<Notify>,
    /// `ORCPT=`: address type and address, the latter still xtext (or utf-8-addr-xtext) encoded
    /// (RFC 3461 4.2, RFC 6533 3).
    pub orcpt: Option<(&'a [u8], &'a [u8])>,
}

/// One command of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `EHLO` with what the client calls itself (domain or address literal).
    Ehlo(&'a str),
    /// `HELO`.
    Helo(&'a str),
    /// `LHLO` (RFC 2033).
    Lhlo(&'a str),
    /// `MAIL FROM:`.
    Mail(ReversePath<'a>, MailParams<'a>),
    /// `RCPT TO:`. `<Postmaster>` has no domain.
    Rcpt(Mailbox<'a>, RcptParams<'a>),
    /// `DATA`.
    Data,
    /// `BDAT size [LAST]` (RFC 3030).
    Bdat {
        /// Octets that follow the command line.
        size: u64,
        /// The last chunk of the message.
        last: bool,
    },
    /// `RSET`.
    Rset,
    /// `NOOP`, with its ignored argument.
    Noop(&'a [u8]),
    /// `QUIT`.
    Quit,
    /// `HELP`, with its argument.
    Help(&'a [u8]),
    /// `VRFY`, with its argument.
    Vrfy(&'a [u8]),
    /// `EXPN`, with its argument.
    Expn(&'a [u8]),
    /// `STARTTLS` (RFC 3207).
    StartTls,
    /// `AUTH mechanism [initial-response]` (RFC 4954), the response still base64 (`=` is empty).
    Auth {
        /// SASL mechanism, upper or lower case as sent.
        mechanism: &'a str,
        /// Initial response, still base64.
        initial: Option<&'a [u8]>,
    },
}
