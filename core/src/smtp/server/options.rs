//! What one listener offers, bounds and asks for.

use crate::limits;
use crate::smtp::extension::AuthMechanisms;
use crate::time::Duration;
use core::fmt;

/// Settings of a submission session. Share one value among all sessions of a listener:
/// [`Session`](super::Session) takes `&Options`, `Rc<Options>` or `Arc<Options>`.
#[derive(Clone, Debug)]
pub struct Options {
    name: heapless::String<{ limits::DOMAIN_BYTES_MAX }>,
    /// LMTP (RFC 2033): LHLO, and one answer per accepted recipient at the end of the body.
    pub lmtp: bool,
    /// Extensions that the EHLO answer names; a parameter of any other gets 555 5.5.4.
    pub offer: Offer,
    /// SASL mechanisms that the EHLO answer names, SCRAM-SHA-256-PLUS only under TLS; none: AUTH
    /// gets 502.
    pub auth: AuthMechanisms,
    /// AUTH is neither offered nor taken before TLS (RFC 4954 4; 538 5.7.11).
    pub auth_needs_tls: bool,
    /// MAIL gets 530 5.7.0 until AUTH succeeded (RFC 4954 6).
    pub require_auth: bool,
    /// All but EHLO, NOOP, STARTTLS and QUIT gets 530 5.7.0 until TLS is up (RFC 3207 4).
    pub require_tls: bool,
    /// How long the greeting is held back.
    pub greeting_delay: Duration,
    /// What to do about a client that speaks before it was greeted (RFC 5321 3.1).
    pub early_talker: EarlyTalker,
    /// How much a client may ask for.
    pub limits: Limits,
    /// How long a client may take.
    pub timeouts: Timeouts,
}

impl Options {
    /// The defaults of a plain submission listener that calls itself `name`: PIPELINING, SIZE,
    /// 8BITMIME, SMTPUTF8, CHUNKING, DSN and ENHANCEDSTATUSCODES; no TLS, no AUTH.
    ///
    /// # Errors
    /// `name` must be 1 to 255 printable ASCII octets without space: it opens the greeting.
    pub fn new(name: &str) -> Result<Self, BadName> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(BadName);
        }
        Ok(Self {
            name: heapless::String::try_from(name).map_err(|_| BadName)?,
            lmtp: false,
            offer: Offer::default(),
            auth: AuthMechanisms::default(),
            auth_needs_tls: true,
            require_auth: false,
            require_tls: false,
            greeting_delay: Duration::ZERO,
            early_talker: EarlyTalker::Ignore,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
        })
    }

    /// What this server calls itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes that the caller's input buffer must hold at least: the longest line that can come.
    /// A smaller buffer could be full without a line end, and the session would wait for more
    /// until its deadline.
    pub fn input_bytes_min(&self) -> usize {
        if self.offers_auth() {
            self.limits
                .auth_line_bytes
                .max(limits::COMMAND_LINE_BYTES_MAX)
        } else {
            limits::COMMAND_LINE_BYTES_MAX
        }
    }

    /// Whether anybody can authenticate, with TLS at least.
    pub fn offers_auth(&self) -> bool {
        self.auth != AuthMechanisms::default()
    }

    /// The mechanisms that are offered with or without TLS: there is nothing to bind without it.
    pub(super) fn mechanisms(&self, tls: bool) -> AuthMechanisms {
        match tls {
            true => self.auth,
            false if self.auth_needs_tls => AuthMechanisms::default(),
            false => AuthMechanisms {
                scram_sha_256_plus: false,
                ..self.auth
            },
        }
    }
}

/// A server name that can't stand in a greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadName;

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a server name is 1 to 255 printable ASCII octets without space")
    }
}

impl core::error::Error for BadName {}

/// The extensions that a listener offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// `PIPELINING` (RFC 2920). Pipelined input is always understood.
    pub pipelining: bool,
    /// `SIZE` (RFC 1870) with [`Limits::message_bytes`].
    pub size: bool,
    /// `8BITMIME` (RFC 6152).
    pub eightbitmime: bool,
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
    /// `CHUNKING` (RFC 3030).
    pub chunking: bool,
    /// `BINARYMIME` (RFC 3030); needs `chunking`.
    pub binarymime: bool,
    /// `ENHANCEDSTATUSCODES` (RFC 2034). Off: no reply carries an enhanced status code.
    pub enhanced_status_codes: bool,
    /// `DSN` (RFC 3461).
    pub dsn: bool,
    /// `STARTTLS` (RFC 3207); named until TLS is up.
    pub starttls: bool,
    /// `REQUIRETLS` (RFC 8689); named when TLS is up.
    pub requiretls: bool,
    /// `MT-PRIORITY` (RFC 6710).
    pub mt_priority: bool,
    /// `DELIVERBY` (RFC 2852) with the smallest by-time in seconds, 0 for none.
    pub deliver_by: Option<u32>,
    /// `FUTURERELEASE` (RFC 4865) with the longest interval in seconds.
    pub future_release: Option<u32>,
    /// `LIMITS RCPTMAX=` (RFC 9422) with [`Limits::recipients`].
    pub rcpt_max: bool,
    /// `LIMITS MAILMAX=` (RFC 9422) with [`Limits::transactions`].
    pub mail_max: bool,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            pipelining: true,
            size: true,
            eightbitmime: true,
            smtputf8: true,
            chunking: true,
            binarymime: false,
            enhanced_status_codes: true,
            dsn: true,
            starttls: false,
            requiretls: false,
            mt_priority: false,
            deliver_by: None,
            future_release: None,
            rcpt_max: false,
            mail_max: false,
        }
    }
}

/// What to do about input that comes before the greeting went out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyTalker {
    /// Nothing; [`Session::early_talker`](super::Session::early_talker) tells.
    #[default]
    Ignore,
    /// Say so with [`Event::EarlyTalker`](super::Event::EarlyTalker), then greet.
    Flag,
    /// 554 5.5.1 instead of the greeting, and close.
    Refuse,
}

/// How much a client may ask for. 0 is "no limit" where it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest message, octets; 0 is no limit. Beyond: 552 5.3.4.
    pub message_bytes: u64,
    /// Recipients of one transaction. Beyond: 452 4.5.3.
    pub recipients: u32,
    /// Recipients that the application may refuse since the last accepted message; 0 is no limit.
    /// Beyond: 421 4.7.0.
    pub refused_recipients: u32,
    /// Transactions of one session; 0 is no limit. Beyond: 421 4.7.0.
    pub transactions: u32,
    /// The error since the last accepted message that gets 421 4.7.0.
    pub errors: u32,
    /// Commands since the last accepted message that carry no mail (NOOP, RSET, VRFY …). Beyond:
    /// 421 4.7.0.
    pub junk_commands: u32,
    /// Commands of one session. Beyond: 421 4.7.0.
    pub commands: u32,
    /// Octets of a refused body that are still read. Beyond: the refusal, and close.
    pub discarded_bytes: u64,
    /// Longest line of an AUTH exchange, bytes with CRLF. Beyond: 500 5.5.6.
    pub auth_line_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: limits::SERVER_MESSAGE_BYTES_MAX,
            recipients: limits::SERVER_RECIPIENTS_MAX,
            refused_recipients: limits::SERVER_REFUSED_RECIPIENTS_MAX,
            transactions: 0,
            errors: limits::SERVER_ERRORS_MAX,
            junk_commands: limits::SERVER_JUNK_COMMANDS_MAX,
            commands: limits::SERVER_COMMANDS_MAX,
            discarded_bytes: limits::SERVER_DISCARDED_BODY_BYTES_MAX,
            auth_line_bytes: limits::AUTH_LINE_BYTES_MAX,
        }
    }
}

/// How long a client may take; beyond: 421 4.4.2, and close. The application's own time is never
/// counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From one command's reply to the whole next command.
    pub command: Duration,
    /// Between two blocks of a body.
    pub data_block: Duration,
    /// From the first to the last block of a body.
    pub message: Duration,
    /// The whole session, if it is bounded. It ends at a command, never within a body.
    pub session: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            command: Duration::from_secs(limits::SERVER_COMMAND_TIMEOUT_S),
            data_block: Duration::from_secs(limits::SERVER_DATA_BLOCK_TIMEOUT_S),
            message: Duration::from_secs(limits::SERVER_MESSAGE_TIMEOUT_S),
            session: None,
        }
    }
}
