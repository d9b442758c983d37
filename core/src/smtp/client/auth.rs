//! AUTH (RFC 4954): asked for line by line, so that no password comes into the session.

use zeroize::Zeroize;

use super::{Answer, Cause, Failure, Misuse, Output, Phase, Session};
use crate::feedback::verdict::Scope;
use crate::limits::{COMMAND_LINE_BYTES, REPLY_TEXT_BYTES_MAX};
use crate::smtp::extension::AuthMechanisms;
use crate::smtp::reply::Reply;
use crate::smtp::sasl::Mechanism;
use crate::smtp::sasl::client::{self, Fault, Login, Step};
use crate::smtp::sasl::scram::{ClientKeys, Recipe};
use crate::time::Instant;

/// Where an AUTH command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    mechanism: Mechanism,
    turn: Turn,
    /// The reader holds a challenge.
    challenged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// A line is to be asked for.
    Ours,
    /// It was.
    Asked,
    /// The peer's answer is to come; with `complete`, a yes counts.
    Theirs { complete: bool },
}

impl Exchange {
    pub(super) fn is_ours(self) -> bool {
        self.turn == Turn::Ours
    }

    pub(super) fn is_theirs(self) -> bool {
        matches!(self.turn, Turn::Theirs { .. })
    }
}

impl Session {
    /// The challenge that the line which [`Output::SendAuth`] asks for answers, as it came
    /// (base64); `None`: the line is the AUTH command. Stands until the next
    /// [`handle`](Self::handle).
    pub fn challenge(&self) -> Option<&[u8]> {
        match self.phase {
            Phase::Auth(exchange) if exchange.challenged => {
                self.reader.reply().map(|reply: Reply<'_>| reply.text)
            }
            _ => None,
        }
    }

    /// AUTH where the options ask for it, else ready.
    pub(super) fn authenticate(&mut self) {
        let Some(auth) = self.options.auth else {
            return self.ready();
        };
        if !self.secured && !auth.without_tls {
            let failure = self.host_failure(Cause::AuthNeedsTls);
            return self.end_politely(failure);
        }
        let offered = AuthMechanisms {
            // Without TLS there is nothing to bind.
            scram_sha_256_plus: self.capabilities.auth.scram_sha_256_plus && self.secured,
            ..self.capabilities.auth
        };
        match Mechanism::best(offered, auth.mechanisms) {
            Some(mechanism) => {
                self.phase = Phase::Auth(Exchange {
                    mechanism,
                    turn: Turn::Ours,
                    challenged: false,
                });
            }
            None => {
                let failure = self.host_failure(Cause::AuthNotOffered);
                self.end_politely(failure);
            }
        }
    }

    pub(super) fn ask_for_auth(&mut self, now: Instant, exchange: Exchange) -> Output {
        self.since = now;
        self.phase = Phase::Auth(Exchange {
            turn: Turn::Asked,
            ..exchange
        });
        Output::SendAuth(exchange.mechanism)
    }

    pub(super) fn on_auth_sent(&mut self, now: Instant, complete: bool) -> Result<usize, Misuse> {
        match self.phase {
            Phase::Auth(exchange) if exchange.turn == Turn::Asked => {
                self.since = now;
                self.reply_stands = false;
                self.phase = Phase::Auth(Exchange {
                    turn: Turn::Theirs { complete },
                    challenged: false,
                    ..exchange
                });
                Ok(0)
            }
            _ => Err(Misuse::NoAuth),
        }
    }

    pub(super) fn on_auth_failed(&mut self) -> Result<usize, Misuse> {
        match self.phase {
            Phase::Auth(exchange) if exchange.turn == Turn::Asked => {
                self.reply_stands = false;
                self.break_off(Cause::AuthUnproven);
                Ok(0)
            }
            _ => Err(Misuse::NoAuth),
        }
    }

    /// RFC 4954 4 and 6.
    pub(super) fn on_auth_reply(&mut self, exchange: Exchange, answer: Answer) {
        let complete = exchange.turn == Turn::Theirs { complete: true };
        match answer.code.get() {
            334 => {
                let whole = |reply: Reply<'_>| reply.text.len() < REPLY_TEXT_BYTES_MAX;
                if !self.reader.reply().is_some_and(whole) {
                    return self.break_off(Cause::AuthUnproven);
                }
                self.phase = Phase::Auth(Exchange {
                    turn: Turn::Ours,
                    challenged: true,
                    ..exchange
                });
            }
            235 if complete => {
                self.authenticated = true;
                self.ready();
            }
            235 => self.break_off(Cause::AuthUnproven),
            _ if answer.code.is_permanent() => {
                self.reply_stands = true;
                let failure = Failure {
                    scope: Scope::Host,
                    permanent: false,
                    ..self.host_failure(Cause::AuthRefused {
                        code: answer.code,
                        enhanced: answer.enhanced,
                    })
                };
                self.end_politely(failure);
            }
            _ => self.refused(answer),
        }
    }
}

/// Writes the lines that [`Output::SendAuth`] asks for.
///
/// ```
/// use courser_core::smtp::client::{AuthLine, AuthLines};
/// use courser_core::smtp::sasl::client::{Exchange, Login};
/// use courser_core::smtp::sasl::{Channel, Mechanism, Nonce};
///
/// let login = Login { user: "ann", password: b"sesame" };
/// let nonce = Nonce::of_random([7; 18]); // from your source of chance
/// let exchange = Exchange::new(Mechanism::Plain, nonce, Channel::none(), false);
/// let (mut lines, mut out) = (AuthLines::new(exchange), [0; 2048]);
/// // At SendAuth, with Session::challenge:
/// let line = lines.next(None, login, &mut out);
/// let AuthLine::Send { len, complete } = line else { panic!() };
/// assert_eq!(&out[..len], b"AUTH PLAIN AGFubgBzZXNhbWU=\r\n");
/// // Then Input::AuthSent { complete }, and wipe `out`.
/// assert!(complete);
/// ```
#[derive(Debug)]
pub struct AuthLines {
    exchange: client::Exchange,
    /// The initial response is too long for the command, and follows an empty challenge.
    later: bool,
}

/// What comes of a line that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthLine {
    /// The first so many bytes of `out` are the line, with CRLF.
    Send {
        /// Bytes.
        len: usize,
        /// For [`Input::AuthSent`](super::Input::AuthSent).
        complete: bool,
    },
    /// Make [`ClientKeys`] of [`AuthLines::recipe`], and ask [`AuthLines::with_keys`]. It may take
    /// half a second of a processor.
    Keys,
    /// There is none, so [`Input::AuthFailed`](super::Input::AuthFailed).
    Failed(Fault),
}

impl AuthLines {
    /// The lines of an exchange that hasn't begun.
    pub const fn new(exchange: client::Exchange) -> Self {
        Self {
            exchange,
            later: false,
        }
    }

    /// What keys are to be made with, after [`AuthLine::Keys`].
    pub fn recipe(&self) -> Option<Recipe> {
        self.exchange.recipe()
    }

    /// The next line. `out` needs [`OUT_BYTES_MIN`](crate::limits::OUT_BYTES_MIN) bytes.
    pub fn next(&mut self, challenge: Option<&[u8]>, login: Login<'_>, out: &mut [u8]) -> AuthLine {
        let Some(challenge) = challenge else {
            return self.command(login, out);
        };
        let step = if core::mem::take(&mut self.later) {
            self.exchange.begin(login, out)
        } else {
            self.exchange.challenge(login, challenge, out)
        };
        self.line(step, 0, out)
    }

    /// The next line, where it needed keys.
    pub fn with_keys(&mut self, login: Login<'_>, keys: &ClientKeys, out: &mut [u8]) -> AuthLine {
        let step = self.exchange.keys(login, keys, out);
        self.line(step, 0, out)
    }

    fn command(&mut self, login: Login<'_>, out: &mut [u8]) -> AuthLine {
        let name = self.exchange.mechanism().name();
        let verb = "AUTH ".len() + name.len();
        let put = |at: usize, text: &[u8], out: &mut [u8]| {
            let room = out.get_mut(at..at + text.len())?;
            room.copy_from_slice(text);
            Some(())
        };
        let begun = put(0, b"AUTH ", out).and_then(|()| put(5, name.as_bytes(), out));
        let Some(rest) = begun.and_then(|()| out.get_mut(verb + 1..)) else {
            return AuthLine::Failed(Fault::TooLong);
        };
        match self.exchange.begin(login, rest) {
            Step::Response(n) if verb + n + " \r\n".len() <= COMMAND_LINE_BYTES => {
                let _ = put(verb, b" ", out);
                self.line(Step::Response(n), verb + 1, out)
            }
            Step::Response(n) => {
                // RFC 4954 4: the command is no longer than others.
                rest.get_mut(..n).unwrap_or_default().zeroize();
                self.exchange.rewind();
                self.later = true;
                self.line(Step::Wait, verb, out)
            }
            step => self.line(step, verb, out),
        }
    }

    /// Ends the line behind a response that begins at `from`.
    fn line(&self, step: Step, from: usize, out: &mut [u8]) -> AuthLine {
        let n = match step {
            Step::Response(n) => n,
            Step::Wait => 0,
            Step::Keys => return AuthLine::Keys,
            Step::Failed(fault) => return AuthLine::Failed(fault),
        };
        let end = from.saturating_add(n);
        match out.get_mut(end..end.saturating_add(2)) {
            Some(room) => room.copy_from_slice(b"\r\n"),
            None => return AuthLine::Failed(Fault::TooLong),
        }
        AuthLine::Send {
            len: end + 2,
            complete: self.exchange.is_complete(),
        }
    }
}
