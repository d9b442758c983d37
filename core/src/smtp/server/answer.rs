//! The replies that the session gives by itself.

use crate::smtp::reply::{EnhancedCode, ReplyCode};

/// A reply known at compile time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) code: ReplyCode,
    pub(super) enhanced: EnhancedCode,
    pub(super) text: &'static str,
}

const fn answer(code: u16, subject: u16, detail: u16, text: &'static str) -> Answer {
    Answer {
        code: code_of(code),
        // RFC 2034 4: a 3yz reply carries no enhanced code; its class here is never written.
        enhanced: EnhancedCode::new((code / 100) as u8, subject, detail),
        text,
    }
}

/// Evaluated in constants only, where a bad number fails the build.
const fn code_of(n: u16) -> ReplyCode {
    match ReplyCode::new(n) {
        Some(code) => code,
        None => panic!("not a reply code"),
    }
}

// Welcome and farewell.
pub(super) const BYE: Answer = answer(221, 0, 0, "Bye");
pub(super) const SHUTTING_DOWN: Answer = answer(421, 3, 2, "Server is shutting down");
pub(super) const TIMED_OUT: Answer = answer(421, 4, 2, "Timed out waiting for you");
pub(super) const SPOKE_TOO_EARLY: Answer = answer(554, 5, 1, "You spoke before the greeting");

// Yes.
pub(super) const OK: Answer = answer(250, 0, 0, "Ok");
pub(super) const SENDER_OK: Answer = answer(250, 1, 0, "Sender ok");
pub(super) const RECIPIENT_OK: Answer = answer(250, 1, 5, "Recipient ok");
pub(super) const MESSAGE_OK: Answer = answer(250, 0, 0, "Message accepted");
pub(super) const CHUNK_OK: Answer = answer(250, 0, 0, "Chunk received");
pub(super) const START_MESSAGE: Answer = answer(354, 0, 0, "End with <CRLF>.<CRLF>");
pub(super) const START_TLS: Answer = answer(220, 0, 0, "Ready to start TLS");
pub(super) const AUTHENTICATED: Answer = answer(235, 7, 0, "Authenticated");
pub(super) const WILL_TRY: Answer = answer(252, 0, 0, "Cannot VRFY, but will take mail for it");
pub(super) const HELP: Answer = answer(
    214,
    0,
    0,
    "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP QUIT, RFC 5321",
);

// Out of order.
pub(super) const HELLO_FIRST: Answer = answer(503, 5, 1, "Say EHLO first");
pub(super) const MAIL_FIRST: Answer = answer(503, 5, 1, "Need MAIL first");
pub(super) const RCPT_FIRST: Answer = answer(503, 5, 1, "Need RCPT first");
pub(super) const NO_RECIPIENTS: Answer = answer(554, 5, 1, "No valid recipients");
pub(super) const NESTED_MAIL: Answer = answer(503, 5, 1, "MAIL was given already");
pub(super) const BODY_STARTED: Answer = answer(503, 5, 1, "The message has begun");
pub(super) const BINARY_NEEDS_BDAT: Answer = answer(503, 6, 1, "BODY=BINARYMIME needs BDAT");
pub(super) const IN_TRANSACTION: Answer = answer(503, 5, 1, "Not within a transaction");
pub(super) const TLS_ALREADY: Answer = answer(503, 5, 1, "TLS is active already");
pub(super) const AUTH_ALREADY: Answer = answer(503, 5, 1, "You are authenticated already");

// Not here.
pub(super) const NO_EXPN: Answer = answer(502, 5, 1, "EXPN is not implemented");
pub(super) const NO_BDAT: Answer = answer(502, 5, 1, "BDAT is not offered");
pub(super) const NO_STARTTLS: Answer = answer(502, 5, 1, "STARTTLS is not offered");
pub(super) const NO_AUTH: Answer = answer(502, 5, 1, "AUTH is not offered");
pub(super) const SPEAK_LMTP: Answer = answer(500, 5, 1, "This is LMTP: say LHLO");
pub(super) const SPEAK_SMTP: Answer = answer(500, 5, 1, "This is SMTP: say EHLO");
pub(super) const PARAMETER_UNOFFERED: Answer =
    answer(555, 5, 4, "Parameter of an extension that is not offered");
pub(super) const HOLD_TOO_LONG: Answer = answer(501, 5, 4, "HOLDFOR is longer than offered");
pub(super) const UTF8_UNANNOUNCED: Answer =
    answer(553, 6, 7, "Address is not ASCII and SMTPUTF8 was not given");

// Not allowed.
pub(super) const TLS_FIRST: Answer = answer(530, 7, 0, "Must issue STARTTLS first");
pub(super) const AUTH_FIRST: Answer = answer(530, 7, 0, "Authentication required");
pub(super) const AUTH_NEEDS_TLS: Answer = answer(538, 7, 11, "Encryption required for AUTH");
pub(super) const MECHANISM_UNKNOWN: Answer = answer(504, 5, 4, "Mechanism is not offered");
pub(super) const AUTH_FAILED: Answer = answer(535, 7, 8, "Authentication failed");
pub(super) const AUTH_CANCELLED: Answer = answer(501, 7, 0, "Authentication cancelled");
pub(super) const AUTH_LINE_TOO_LONG: Answer = answer(500, 5, 6, "Authentication line too long");

// Too much.
pub(super) const LINE_TOO_LONG: Answer = answer(500, 5, 2, "Line too long");
pub(super) const LINE_ENDLESS: Answer = answer(421, 7, 0, "Line too long, goodbye");
pub(super) const TOO_BIG: Answer = answer(552, 3, 4, "Message is larger than allowed");
pub(super) const TOO_MANY_RECIPIENTS: Answer =
    answer(452, 5, 3, "Too many recipients in one transaction");
pub(super) const TOO_MANY_TRANSACTIONS: Answer = answer(421, 7, 0, "Too many messages, reconnect");
pub(super) const TOO_MANY_COMMANDS: Answer = answer(421, 7, 0, "Too many commands");
pub(super) const TOO_MANY_ERRORS: Answer = answer(421, 7, 0, "Too many errors");
pub(super) const TOO_MUCH_JUNK: Answer = answer(421, 7, 0, "Too many commands without a message");
pub(super) const TOO_MANY_REFUSED: Answer = answer(421, 7, 0, "Too many refused recipients");

// Smuggling, and other protocols.
pub(super) const BARE_IN_COMMAND: Answer = answer(521, 5, 2, "Bare CR or LF in a command");
pub(super) const BARE_IN_DATA: Answer = answer(521, 5, 2, "Bare CR or LF in the message");
pub(super) const BARE_IN_CHUNK: Answer = answer(554, 6, 0, "Bare CR or LF in the message");
pub(super) const FOREIGN: Answer = answer(521, 5, 1, "This is SMTP, not HTTP or a header");
