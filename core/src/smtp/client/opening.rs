//! Greeting, EHLO, STARTTLS: until AUTH or transactions can begin.

use super::{Answer, Cause, Event, Failure, Misuse, Output, Phase, Reading, Session, TlsMode};
use crate::feedback::verdict::Scope;
use crate::smtp::command::Command;
use crate::smtp::extension::Capabilities;
use crate::smtp::reply::ReplyReader;
use crate::time::Instant;

/// The command that says who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hello {
    Ehlo,
    Helo,
    Lhlo,
}

impl Session {
    /// RFC 5321 3.1.
    pub(super) fn on_greeting(&mut self, answer: Answer) {
        if answer.code.is_success() {
            self.phase = self.hello_phase();
        } else {
            self.refused(answer);
        }
    }

    fn hello_phase(&self) -> Phase {
        let by = if self.options.lmtp {
            Hello::Lhlo
        } else {
            Hello::Ehlo
        };
        Phase::Hello { by, written: false }
    }

    pub(super) fn write_hello(&mut self, now: Instant, by: Hello, out: &mut [u8]) -> Output {
        let name = self.options.ehlo_name.as_str();
        let command = match by {
            Hello::Ehlo => Command::Ehlo(name),
            Hello::Helo => Command::Helo(name),
            Hello::Lhlo => Command::Lhlo(name),
        };
        let Ok(len) = command.emit(out) else {
            return self.no_room(out.len());
        };
        // What was said before, and before TLS above all, is forgotten (RFC 3207 4.2).
        self.capabilities = Capabilities::default();
        self.phase = Phase::Hello { by, written: true };
        self.sent(now, len)
    }

    /// RFC 5321 3.2: who doesn't know EHLO may know HELO.
    pub(super) fn on_hello(&mut self, by: Hello, answer: Answer) {
        if answer.code.is_success() {
            if by == Hello::Helo {
                self.capabilities = Capabilities::default();
            }
            self.after_hello();
        } else if by == Hello::Ehlo && answer.code.is_permanent() {
            self.phase = Phase::Hello {
                by: Hello::Helo,
                written: false,
            };
        } else {
            self.refused(answer);
        }
    }

    /// With capabilities known: TLS where it is wanted, then AUTH.
    fn after_hello(&mut self) {
        let offered = self.capabilities.starttls;
        match self.options.tls {
            _ if self.secured => self.authenticate(),
            TlsMode::Off | TlsMode::Implicit => self.authenticate(),
            TlsMode::Opportunistic | TlsMode::Required if offered => {
                self.phase = Phase::StartTls { written: false };
            }
            TlsMode::Opportunistic => self.authenticate(),
            TlsMode::Required => {
                let failure = self.host_failure(Cause::TlsNotOffered);
                self.end_politely(failure);
            }
        }
    }

    pub(super) fn ready(&mut self) {
        self.phase = Phase::Ready;
        self.tell_with_reply(Event::Ready(self.capabilities));
    }

    pub(super) fn write_start_tls(&mut self, now: Instant, out: &mut [u8]) -> Output {
        let Ok(len) = Command::StartTls.emit(out) else {
            return self.no_room(out.len());
        };
        self.phase = Phase::StartTls { written: true };
        self.sent(now, len)
    }

    /// RFC 3207 4.
    pub(super) fn on_start_tls(&mut self, answer: Answer) {
        if answer.code.is_success() {
            self.phase = Phase::Handshake { asked: false };
        } else if answer.code.is_intermediate() {
            self.break_off(Cause::UnexpectedReply(answer.code));
        } else if self.options.tls == TlsMode::Required {
            self.refused(answer);
        } else {
            self.authenticate();
        }
    }

    pub(super) fn ask_for_tls(&mut self, now: Instant) -> Output {
        self.phase = Phase::Handshake { asked: true };
        self.since = now;
        Output::StartTls
    }

    pub(super) fn on_tls(&mut self, now: Instant, established: bool) -> Result<usize, Misuse> {
        if self.phase != (Phase::Handshake { asked: true }) {
            return Err(Misuse::NoHandshake);
        }
        self.since = now;
        self.reply_stands = false;
        if established {
            self.secured = true;
            self.reader = ReplyReader::new();
            self.reading = Reading::default();
            self.phase = self.hello_phase();
        } else {
            self.break_off(Cause::TlsFailed);
        }
        Ok(0)
    }

    /// The host doesn't want us now, and waits for our QUIT (RFC 5321 3.1).
    pub(super) fn refused(&mut self, answer: Answer) {
        if answer.code.is_success() || answer.code.is_intermediate() {
            return self.break_off(Cause::UnexpectedReply(answer.code));
        }
        self.reply_stands = true;
        let failure = Failure {
            scope: Scope::Host,
            permanent: answer.code.is_permanent(),
            ..self.host_failure(answer.cause())
        };
        self.end_politely(failure);
    }
}
