//! Commands (RFC 5321 4.1) with the parameters of the extensions that the core knows.
//!
//! [`Command::parse`] takes one line without its CRLF and borrows from it; [`Command::emit`]
//! writes the line with its CRLF. What a server answers to a line that doesn't parse is
//! [`CommandError::reply`].
//!
//! ```
//! use courser_core::smtp::command::{Command, CommandErrorKind};
//! let command = Command::parse(b"mail from:<a@example.org> size=1024 BODY=8BITMIME").unwrap();
//! let mut out = [0; 512];
//! let n = command.emit(&mut out).unwrap();
//! assert_eq!(&out[..n], b"MAIL FROM:<a@example.org> SIZE=1024 BODY=8BITMIME\r\n");
//! let error = Command::parse(b"MAIL FROM:<a@example.org> X=1").unwrap_err();
//! assert_eq!(error.kind, CommandErrorKind::ParameterUnknown);
//! assert_eq!(error.reply().0.get(), 555);
//! ```
//!
//! ```text
//! line      = verb [ SP argument ]                                    verbs in any case
//! MAIL      = "MAIL FROM:" reverse-path *( SP parameter )
//! RCPT      = "RCPT TO:" forward-path *( SP parameter )
//! parameter = keyword [ "=" value ]                                   keywords in any case
//! ```
//!
//! Taken although the grammar forbids it, because senders do it: white space after `FROM:` and
//! `TO:` and at the end of a line (RFC 5321 4.1.1), several spaces between parameters, any
//! printable name after EHLO and HELO. Refused although some servers take it: a path without
//! brackets, a parameter given twice, control characters anywhere.

mod params;

use crate::limits::{
    COMMAND_LINE_BYTES_MAX, HELLO_NAME_BYTES_MAX, MECHANISM_BYTES_MAX, SIZE_DIGITS_MAX,
};
use crate::mail::address::{self, AddressError, Mailbox, ReversePath};
use crate::smtp::reply::{EnhancedCode, ReplyCode};
use crate::smtp::{Buffer, BufferFull};
use core::fmt;

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

/// Why a line is no command that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandError {
    /// What is wrong.
    pub kind: CommandErrorKind,
    /// For [`CommandErrorKind::Address`]: what is wrong with the address.
    pub address: Option<AddressError>,
    sender: bool,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandErrorKind {
    /// No verb that we know: 500 5.5.1.
    Unrecognised,
    /// More than [`COMMAND_LINE_BYTES_MAX`] octets: 500 5.5.2.
    LineTooLong,
    /// The argument doesn't have the form that the verb asks for: 501 5.5.4.
    Syntax,
    /// A control character or an octet that is no UTF-8: 501 5.5.2.
    Character,
    /// A parameter that the core doesn't know: 555 5.5.4.
    ParameterUnknown,
    /// A parameter with a value that it can't have: 501 5.5.4.
    ParameterValue,
    /// A parameter given twice, or one that excludes another: 501 5.5.4.
    ParameterDuplicate,
    /// The address is malformed: 553 5.1.7 in MAIL, 553 5.1.3 in RCPT.
    Address,
}

impl CommandError {
    fn new(kind: CommandErrorKind) -> Self {
        Self {
            kind,
            address: None,
            sender: false,
        }
    }

    /// The reply that says so: code, enhanced code and a text without CRLF.
    pub fn reply(&self) -> (ReplyCode, EnhancedCode, &'static str) {
        use CommandErrorKind as K;
        let (code, enhanced, text) = match self.kind {
            K::Unrecognised => (500, (5, 1), "Command not recognised"),
            K::LineTooLong => (500, (5, 2), "Line too long"),
            K::Syntax => (501, (5, 4), "Syntax error in parameters or arguments"),
            K::Character => (501, (5, 2), "Control character or invalid UTF-8 in command"),
            K::ParameterUnknown => (555, (5, 4), "Parameter not recognised"),
            K::ParameterValue => (501, (5, 4), "Parameter has an invalid value"),
            K::ParameterDuplicate => (501, (5, 4), "Parameter given twice or excluded by another"),
            K::Address if self.sender => (553, (1, 7), "Malformed sender address"),
            K::Address => (553, (1, 3), "Malformed recipient address"),
        };
        (
            ReplyCode::constant(code),
            EnhancedCode::new(5, enhanced.0, enhanced.1),
            text,
        )
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reply().2)?;
        match self.address {
            Some(address) => write!(f, ": {address}"),
            None => Ok(()),
        }
    }
}
impl core::error::Error for CommandError {}

impl From<CommandErrorKind> for CommandError {
    fn from(kind: CommandErrorKind) -> Self {
        Self::new(kind)
    }
}

impl<'a> Command<'a> {
    /// Parses one line without its CRLF.
    ///
    /// # Errors
    /// [`CommandError`]; [`CommandError::reply`] is what to answer.
    pub fn parse(line: &'a [u8]) -> Result<Self, CommandError> {
        use CommandErrorKind as K;
        if line.len() > COMMAND_LINE_BYTES_MAX - b"\r\n".len() {
            return Err(K::LineTooLong.into());
        }
        // Trailing white space: RFC 5321 4.1.1.
        let line = trim_end(line);
        if line.iter().any(u8::is_ascii_control) {
            return Err(K::Character.into());
        }
        let split = line.iter().position(|&b| b == b' ').unwrap_or(line.len());
        let (verb, argument) = line.split_at(split);
        let argument = argument.trim_ascii_start();
        let verb = Verb::find(verb).ok_or(K::Unrecognised)?;
        let bare = |command| {
            if argument.is_empty() {
                Ok(command)
            } else {
                Err(CommandError::from(K::Syntax))
            }
        };
        match verb {
            Verb::Ehlo => hello(argument).map(Self::Ehlo),
            Verb::Helo => hello(argument).map(Self::Helo),
            Verb::Lhlo => hello(argument).map(Self::Lhlo),
            Verb::Mail => {
                let path = after_keyword(text(argument)?, "FROM:")?;
                let (rest, sender) = address::reverse_path(path).map_err(|e| CommandError {
                    kind: K::Address,
                    address: Some(e),
                    sender: true,
                })?;
                Ok(Self::Mail(sender, MailParams::parse(rest)?))
            }
            Verb::Rcpt => {
                let path = after_keyword(text(argument)?, "TO:")?;
                let (rest, recipient) = address::forward_path(path).map_err(|e| CommandError {
                    kind: K::Address,
                    address: Some(e),
                    sender: false,
                })?;
                Ok(Self::Rcpt(recipient, RcptParams::parse(rest)?))
            }
            Verb::Data => bare(Self::Data),
            Verb::Bdat => bdat(argument),
            Verb::Rset => bare(Self::Rset),
            Verb::Noop => Ok(Self::Noop(argument)),
            Verb::Quit => bare(Self::Quit),
            Verb::Help => Ok(Self::Help(argument)),
            Verb::Vrfy | Verb::Expn if argument.is_empty() => Err(K::Syntax.into()),
            Verb::Vrfy => Ok(Self::Vrfy(argument)),
            Verb::Expn => Ok(Self::Expn(argument)),
            Verb::StartTls => bare(Self::StartTls),
            Verb::Auth => auth(argument),
        }
    }

    /// Writes the command with its CRLF and says how many octets that is.
    ///
    /// Control characters in an argument are written as `?`, so that one command stays one line.
    ///
    /// # Errors
    /// [`BufferFull`] if `out` is too short; what it holds then is of no use.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, BufferFull> {
        let mut out = Buffer::new(out);
        self.emit_into(&mut out)?;
        Ok(out.written())
    }

    /// Like [`Command::emit`], behind what is already in `out`.
    ///
    /// # Errors
    /// [`BufferFull`]; a part of the command may have been written.
    pub fn emit_into(&self, out: &mut Buffer<'_>) -> Result<(), BufferFull> {
        match self {
            Self::Ehlo(name) => emit_argument(out, b"EHLO", name.as_bytes())?,
            Self::Helo(name) => emit_argument(out, b"HELO", name.as_bytes())?,
            Self::Lhlo(name) => emit_argument(out, b"LHLO", name.as_bytes())?,
            Self::Mail(ReversePath::Null, params) => {
                out.put(b"MAIL FROM:<>")?;
                params.emit(out)?;
            }
            Self::Mail(ReversePath::Mailbox(sender), params) => {
                out.put_fmt(format_args!("MAIL FROM:<{sender}>"))?;
                params.emit(out)?;
            }
            Self::Rcpt(recipient, params) => {
                out.put_fmt(format_args!("RCPT TO:<{recipient}>"))?;
                params.emit(out)?;
            }
            Self::Data => out.put(b"DATA")?,
            Self::Bdat { size, last } => {
                out.put_fmt(format_args!("BDAT {size}"))?;
                out.put(if *last { b" LAST" } else { b"" })?;
            }
            Self::Rset => out.put(b"RSET")?,
            Self::Noop(argument) => emit_argument(out, b"NOOP", argument)?,
            Self::Quit => out.put(b"QUIT")?,
            Self::Help(argument) => emit_argument(out, b"HELP", argument)?,
            Self::Vrfy(argument) => emit_argument(out, b"VRFY", argument)?,
            Self::Expn(argument) => emit_argument(out, b"EXPN", argument)?,
            Self::StartTls => out.put(b"STARTTLS")?,
            Self::Auth { mechanism, initial } => {
                emit_argument(out, b"AUTH", mechanism.as_bytes())?;
                if let Some(initial) = initial {
                    emit_argument(out, b"", initial)?;
                }
            }
        }
        out.put(b"\r\n")
    }
}

#[derive(Clone, Copy)]
enum Verb {
    Ehlo,
    Helo,
    Lhlo,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Quit,
    Help,
    Vrfy,
    Expn,
    StartTls,
    Auth,
}

impl Verb {
    fn find(verb: &[u8]) -> Option<Self> {
        // The verbs of a session come first.
        const VERBS: [(&[u8], Verb); 15] = [
            (b"RCPT", Verb::Rcpt),
            (b"MAIL", Verb::Mail),
            (b"DATA", Verb::Data),
            (b"BDAT", Verb::Bdat),
            (b"EHLO", Verb::Ehlo),
            (b"QUIT", Verb::Quit),
            (b"RSET", Verb::Rset),
            (b"STARTTLS", Verb::StartTls),
            (b"AUTH", Verb::Auth),
            (b"NOOP", Verb::Noop),
            (b"HELO", Verb::Helo),
            (b"LHLO", Verb::Lhlo),
            (b"VRFY", Verb::Vrfy),
            (b"EXPN", Verb::Expn),
            (b"HELP", Verb::Help),
        ];
        let found = VERBS
            .iter()
            .find(|(name, _)| verb.eq_ignore_ascii_case(name));
        found.map(|&(_, verb)| verb)
    }
}

/// Cuts spaces and tabs, and not a CR: that would hide a bare one.
fn trim_end(line: &[u8]) -> &[u8] {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let kept = line
        .iter()
        .rposition(|b| !blank(b))
        .map_or(0, |last| last + 1);
    line.get(..kept).unwrap_or(line)
}

fn text(argument: &[u8]) -> Result<&str, CommandError> {
    core::str::from_utf8(argument).map_err(|_| CommandErrorKind::Character.into())
}

/// What follows `FROM:` or `TO:`, and the spaces that some clients put there.
fn after_keyword<'a>(argument: &'a str, keyword: &str) -> Result<&'a str, CommandError> {
    match argument.split_at_checked(keyword.len()) {
        Some((head, rest)) if head.eq_ignore_ascii_case(keyword) => Ok(rest.trim_ascii_start()),
        _ => Err(CommandErrorKind::Syntax.into()),
    }
}

/// The name of a greeting. RFC 5321 4.1.4 forbids refusing mail for what it says, and hosts say
/// names with underscores and worse; so it only has to be one printable word.
fn hello(argument: &[u8]) -> Result<&str, CommandError> {
    let name = text(argument)?;
    if name.is_empty() || name.len() > HELLO_NAME_BYTES_MAX || name.contains(' ') {
        return Err(CommandErrorKind::Syntax.into());
    }
    Ok(name)
}

/// Decimal digits; more than 64 bits saturate (RFC 1870 and RFC 3030 allow twenty digits).
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > SIZE_DIGITS_MAX {
        return None;
    }
    digits.iter().try_fold(0_u64, |n, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        Some(n.saturating_mul(10).saturating_add(digit))
    })
}

/// RFC 3030 2.
fn bdat(argument: &[u8]) -> Result<Command<'_>, CommandError> {
    let mut words = argument.split(|&b| b == b' ').filter(|w| !w.is_empty());
    let size = words.next().and_then(number);
    let last = words.next();
    match (size, last, words.next()) {
        (Some(size), None, None) => Ok(Command::Bdat { size, last: false }),
        (Some(size), Some(word), None) if word.eq_ignore_ascii_case(b"LAST") => {
            Ok(Command::Bdat { size, last: true })
        }
        _ => Err(CommandErrorKind::Syntax.into()),
    }
}

/// RFC 4954 4.
fn auth(argument: &[u8]) -> Result<Command<'_>, CommandError> {
    let mut words = text(argument)?.split(' ').filter(|w| !w.is_empty());
    let is_mechanism = |m: &&str| {
        m.len() <= MECHANISM_BYTES_MAX
            && m.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let is_base64 = |w: &str| {
        w.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
    };
    let mechanism = words.next().filter(is_mechanism);
    let initial = words.next();
    match (mechanism, words.next()) {
        (Some(mechanism), None) if initial.is_none_or(is_base64) => Ok(Command::Auth {
            mechanism,
            initial: initial.map(str::as_bytes),
        }),
        _ => Err(CommandErrorKind::Syntax.into()),
    }
}

fn emit_argument(out: &mut Buffer<'_>, verb: &[u8], argument: &[u8]) -> Result<(), BufferFull> {
    out.put(verb)?;
    if argument.is_empty() {
        return Ok(());
    }
    out.put(b" ")?;
    out.put_printable(argument)
}

#[cfg(test)]
mod tests {
    use super::*;
    use CommandErrorKind as K;
    use std::string::String;
    use std::vec;

    fn emitted(command: &Command<'_>) -> String {
        let mut out = [0; COMMAND_LINE_BYTES_MAX];
        let n = command.emit(&mut out).unwrap();
        let line = out[..n].strip_suffix(b"\r\n").unwrap();
        String::from_utf8(line.to_vec()).unwrap()
    }

    /// Lines that are emitted as they were read.
    #[test]
    fn canonical_lines() {
        for line in [
            "EHLO mail.example.org",
            "EHLO [192.0.2.1]",
            "EHLO under_score",
            "HELO a",
            "LHLO [IPv6:2001:db8::1]",
            "MAIL FROM:<>",
            "MAIL FROM:<a@example.org>",
            "MAIL FROM:<\"a b\"@[192.0.2.1]> SIZE=0",
            "MAIL FROM:<ü@bücher.example> BODY=8BITMIME SMTPUTF8",
            "MAIL FROM:<a@b.c> SIZE=18446744073709551615 BODY=BINARYMIME SMTPUTF8 RET=FULL \
             ENVID=QQ+2B314 AUTH=<> REQUIRETLS MT-PRIORITY=-9 BY=-120;N HOLDFOR=999999999",
            "MAIL FROM:<a@b.c> BODY=7BIT RET=HDRS AUTH=e+3Dmc2@example.com MT-PRIORITY=9 BY=120;RT",
            "MAIL FROM:<a@b.c> HOLDUNTIL=2026-11-23T21:00:00Z",
            "RCPT TO:<a@example.org>",
            "RCPT TO:<Postmaster>",
            "RCPT TO:<a@b.c> NOTIFY=NEVER",
            "RCPT TO:<a@b.c> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;a+2Bb@b.c",
            "RCPT TO:<a@b.c> ORCPT=utf-8;\\x{FC}@b.c",
            "DATA",
            "BDAT 0 LAST",
            "BDAT 86400",
            "RSET",
            "NOOP",
            "NOOP whatever it is",
            "QUIT",
            "HELP",
            "HELP MAIL",
            "VRFY smith",
            "EXPN list",
            "STARTTLS",
            "AUTH PLAIN dGVzdAB0ZXN0ADEyMzQ=",
            "AUTH SCRAM-SHA-256",
            "AUTH EXTERNAL =",
        ] {
            let command = Command::parse(line.as_bytes()).unwrap();
            assert_eq!(emitted(&command), line);
        }
    }

    /// Lines that are taken and emitted otherwise.
    #[test]
    fn lenient_lines() {
        for (line, canonical) in [
            ("ehlo a", "EHLO a"),
            (
                "mail from:<a@b.c> size=7 body=8bitmime Ret=hdrs",
                "MAIL FROM:<a@b.c> SIZE=7 BODY=8BITMIME RET=HDRS",
            ),
            ("MAIL FROM: <a@b.c>", "MAIL FROM:<a@b.c>"),
            ("MAIL  FROM:<a@b.c>   SIZE=1  ", "MAIL FROM:<a@b.c> SIZE=1"),
            (
                "MAIL FROM:<@x.example,@y.example:a@b.c>",
                "MAIL FROM:<a@b.c>",
            ),
            ("RCPT TO:<@x.example:postmaster>", "RCPT TO:<postmaster>"),
            ("rcpt to:  <a@b.c> \t", "RCPT TO:<a@b.c>"),
            (
                "MAIL FROM:<a@b.c> SIZE=99999999999999999999",
                "MAIL FROM:<a@b.c> SIZE=18446744073709551615",
            ),
            ("MAIL FROM:<a@b.c> BY=+5;r", "MAIL FROM:<a@b.c> BY=5;R"),
            (
                "MAIL FROM:<a@b.c> HOLDUNTIL=2026-11-23T22:00:00.5+01:00",
                "MAIL FROM:<a@b.c> HOLDUNTIL=2026-11-23T21:00:00Z",
            ),
            (
                "RCPT TO:<a@b.c> NOTIFY=delay,delay",
                "RCPT TO:<a@b.c> NOTIFY=DELAY",
            ),
            ("bdat 5 last", "BDAT 5 LAST"),
            ("QUIT ", "QUIT"),
        ] {
            let command = Command::parse(line.as_bytes()).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(emitted(&command), canonical, "{line}");
        }
    }

    #[test]
    fn refused_lines() {
        for (line, kind) in [
            ("", K::Unrecognised),
            (" QUIT", K::Unrecognised),
            ("QUITS", K::Unrecognised),
            ("GET / HTTP/1.1", K::Unrecognised),
            ("MAILFROM:<a@b.c>", K::Unrecognised),
            ("EHLO", K::Syntax),
            ("EHLO a b", K::Syntax),
            ("DATA now", K::Syntax),
            ("RSET x", K::Syntax),
            ("QUIT x", K::Syntax),
            ("STARTTLS x", K::Syntax),
            ("VRFY", K::Syntax),
            ("EXPN ", K::Syntax),
            ("BDAT", K::Syntax),
            ("BDAT -1", K::Syntax),
            ("BDAT 1 FIRST", K::Syntax),
            ("BDAT 1 LAST x", K::Syntax),
            ("BDAT 123456789012345678901", K::Syntax),
            ("AUTH", K::Syntax),
            ("AUTH PLAIN a b", K::Syntax),
            ("AUTH PLAIN a*b", K::Syntax),
            ("AUTH PL*IN", K::Syntax),
            ("AUTH A23456789012345678901", K::Syntax),
            ("MAIL", K::Syntax),
            ("MAIL TO:<a@b.c>", K::Syntax),
            ("MAIL FRO", K::Syntax),
            ("MAIL FROM:<a@b.c>SIZE=1", K::Syntax),
            ("RCPT FROM:<a@b.c>", K::Syntax),
            ("MAIL FROM:", K::Address),
            ("MAIL FROM:a@b.c", K::Address),
            ("MAIL FROM:<a@b.c", K::Address),
            ("MAIL FROM:<a@b..c>", K::Address),
            ("MAIL FROM:<a>", K::Address),
            ("MAIL FROM:< >", K::Address),
            ("RCPT TO:<>", K::Address),
            ("RCPT TO:<@x:>", K::Address),
            ("RCPT TO:<@x a@b.c>", K::Address),
            ("MAIL FROM:<a@b.c> X-UNKNOWN", K::ParameterUnknown),
            ("MAIL FROM:<a@b.c> NOTIFY=NEVER", K::ParameterUnknown),
            ("RCPT TO:<a@b.c> SIZE=1", K::ParameterUnknown),
            ("MAIL FROM:<a@b.c> =1", K::ParameterUnknown),
            ("MAIL FROM:<a@b.c> SIZE", K::ParameterValue),
            ("MAIL FROM:<a@b.c> SIZE=", K::ParameterValue),
            ("MAIL FROM:<a@b.c> SIZE=1k", K::ParameterValue),
            (
                "MAIL FROM:<a@b.c> SIZE=123456789012345678901",
                K::ParameterValue,
            ),
            ("MAIL FROM:<a@b.c> BODY=9BIT", K::ParameterValue),
            ("MAIL FROM:<a@b.c> SMTPUTF8=1", K::ParameterValue),
            ("MAIL FROM:<a@b.c> REQUIRETLS=", K::ParameterValue),
            ("MAIL FROM:<a@b.c> RET=SOME", K::ParameterValue),
            ("MAIL FROM:<a@b.c> ENVID=", K::ParameterValue),
            ("MAIL FROM:<a@b.c> ENVID=a=b", K::ParameterValue),
            ("MAIL FROM:<a@b.c> ENVID=a+0Ab", K::ParameterValue),
            ("MAIL FROM:<a@b.c> AUTH=a+", K::ParameterValue),
            ("MAIL FROM:<a@b.c> MT-PRIORITY=10", K::ParameterValue),
            ("MAIL FROM:<a@b.c> MT-PRIORITY=+1", K::ParameterValue),
            ("MAIL FROM:<a@b.c> BY=1", K::ParameterValue),
            ("MAIL FROM:<a@b.c> BY=0;R", K::ParameterValue),
            ("MAIL FROM:<a@b.c> BY=-1;R", K::ParameterValue),
            ("MAIL FROM:<a@b.c> BY=1;X", K::ParameterValue),
            ("MAIL FROM:<a@b.c> BY=1;RTT", K::ParameterValue),
            ("MAIL FROM:<a@b.c> BY=1000000000;N", K::ParameterValue),
            ("MAIL FROM:<a@b.c> HOLDFOR=1000000000", K::ParameterValue),
            ("MAIL FROM:<a@b.c> HOLDUNTIL=tomorrow", K::ParameterValue),
            ("RCPT TO:<a@b.c> NOTIFY=NEVER,DELAY", K::ParameterValue),
            ("RCPT TO:<a@b.c> NOTIFY=", K::ParameterValue),
            ("RCPT TO:<a@b.c> NOTIFY=DELAY,", K::ParameterValue),
            ("RCPT TO:<a@b.c> ORCPT=a@b.c", K::ParameterValue),
            ("RCPT TO:<a@b.c> ORCPT=rfc822;", K::ParameterValue),
            ("RCPT TO:<a@b.c> ORCPT=;a", K::ParameterValue),
            ("RCPT TO:<a@b.c> ORCPT=rfc822;ü@b.c", K::ParameterValue),
            ("MAIL FROM:<a@b.c> SIZE=1 size=1", K::ParameterDuplicate),
            ("MAIL FROM:<a@b.c> SMTPUTF8 SMTPUTF8", K::ParameterDuplicate),
            (
                "MAIL FROM:<a@b.c> HOLDFOR=1 HOLDUNTIL=2026-11-23T21:00:00Z",
                K::ParameterDuplicate,
            ),
            (
                "RCPT TO:<a@b.c> NOTIFY=DELAY NOTIFY=DELAY",
                K::ParameterDuplicate,
            ),
            ("NOOP a\tb", K::Character),
            ("NOOP \0", K::Character),
            ("DATA\r", K::Character),
            ("NOOP\nDATA", K::Character),
        ] {
            let error = Command::parse(line.as_bytes()).expect_err(line);
            assert_eq!(error.kind, kind, "{line}");
            assert!(error.reply().0.is_permanent());
            assert_eq!(error.address.is_some(), kind == K::Address);
        }
        let latin1 = Command::parse(b"MAIL FROM:<\xfc@b.c>").unwrap_err();
        assert_eq!(latin1.kind, K::Character);
    }

    #[test]
    fn lengths() {
        let long = |prefix: &str, n: usize| {
            let mut line = prefix.as_bytes().to_vec();
            line.extend(vec![b'a'; n]);
            Command::parse(&line).map(|_| ()).map_err(|e| e.kind)
        };
        assert_eq!(long("NOOP ", COMMAND_LINE_BYTES_MAX - 7), Ok(()));
        assert_eq!(
            long("NOOP ", COMMAND_LINE_BYTES_MAX - 6),
            Err(K::LineTooLong)
        );
        assert_eq!(long("EHLO ", 255), Ok(()));
        assert_eq!(long("EHLO ", 256), Err(K::Syntax));
        assert_eq!(long("MAIL FROM:<> ENVID=", 100), Ok(()));
        assert_eq!(long("MAIL FROM:<> ENVID=", 101), Err(K::ParameterValue));
        assert_eq!(long("RCPT TO:<a@b> ORCPT=rfc822;", 493), Ok(()));
        assert_eq!(
            long("RCPT TO:<a@b> ORCPT=rfc822;", 494),
            Err(K::ParameterValue)
        );
    }

    #[test]
    fn replies_name_the_side() {
        let of = |line: &str| Command::parse(line.as_bytes()).unwrap_err().reply();
        assert_eq!(of("MAIL FROM:<a@>").1, EnhancedCode::new(5, 1, 7));
        assert_eq!(of("RCPT TO:<a@>").1, EnhancedCode::new(5, 1, 3));
        assert_eq!(of("RCPT TO:<a@b> X").0.get(), 555);
    }

    #[test]
    fn an_argument_cannot_start_another_command() {
        assert_eq!(emitted(&Command::Noop(b"a\r\nRSET")), "NOOP a??RSET");
        assert_eq!(emitted(&Command::Ehlo("a\nb")), "EHLO a?b");
        let params = MailParams {
            envid: Some(b"a SIZE=1\r\n"),
            ..MailParams::default()
        };
        let mail = Command::Mail(ReversePath::Null, params);
        assert_eq!(emitted(&mail), "MAIL FROM:<> ENVID=a?SIZE=1??");
    }

    #[test]
    fn a_short_buffer_is_full_and_no_panic() {
        let line = b"MAIL FROM:<a@b.c> SIZE=1 BY=1;R";
        let command = Command::parse(line).unwrap();
        for n in 0..line.len() + 2 {
            assert_eq!(command.emit(&mut vec![0; n]), Err(BufferFull));
        }
        assert_eq!(
            command.emit(&mut vec![0; line.len() + 2]),
            Ok(line.len() + 2)
        );
    }
}
