//! One function per command.

use super::answer::{self, Answer};
use super::line::{self, Line, Rest};
use super::{AfterBody, Event, Greeting, Options, Question, Session, State, Step, Transaction};
use crate::limits::{COMMAND_LINE_BYTES_MAX, SERVER_SKIPPED_LINE_BYTES_MAX};
use crate::mail::address::{Mailbox, ReversePath};
use crate::smtp::command::{
    BodyType, Command, CommandError, CommandErrorKind, FutureRelease, MailParams, RcptParams,
};
use crate::time::Instant;
use core::borrow::Borrow;

impl<O: Borrow<Options>> Session<O> {
    /// Reads one command line and does what it says.
    pub(super) fn command<'b>(&mut self, now: Instant, input: &'b [u8]) -> Step<'b> {
        if self.shutdown {
            self.close_with(answer::SHUTTING_DOWN);
            return Step::Took(0);
        }
        if now >= self.session_deadline() {
            self.close_with(answer::TIMED_OUT);
            return Step::Took(0);
        }
        let max = if is_auth(input) && self.options().offers_auth() {
            self.options().input_bytes_min()
        } else {
            COMMAND_LINE_BYTES_MAX
        };
        match line::first(input, max) {
            Line::Partial => Step::Starve,
            Line::Whole(line, used) => match self.line(now, line, used) {
                // RFC 3207 4: what came behind STARTTLS in plaintext may be injected. It is gone.
                Step::Took(_) if self.state == State::TlsReply && used < input.len() => {
                    let octets = input.len().saturating_sub(used);
                    Step::Tell(input.len(), Event::Injected { octets })
                }
                step => step,
            },
            // By what is there of it, however it was cut.
            Line::TooLong(used) if input.get(..used).is_some_and(is_foreign) => {
                self.close_with(answer::FOREIGN);
                Step::Took(used)
            }
            Line::TooLong(used) => {
                self.state = State::SkipLine { bytes: used as u64 };
                self.send_now = true;
                self.error(answer::LINE_TOO_LONG);
                Step::Took(used)
            }
            Line::Bare => {
                self.close_with(answer::BARE_IN_COMMAND);
                Step::Took(0)
            }
        }
    }

    /// Throws the rest of an over-long line away.
    pub(super) fn skip_line<'b>(&mut self, bytes: u64, input: &'b [u8]) -> Step<'b> {
        if self.shutdown {
            self.close_with(answer::SHUTTING_DOWN);
            return Step::Took(0);
        }
        let rest = line::rest(input);
        let (Rest::More(used) | Rest::End(used) | Rest::Bare(used)) = rest;
        let bytes = bytes.saturating_add(used as u64);
        if bytes > SERVER_SKIPPED_LINE_BYTES_MAX {
            self.close_with(answer::LINE_ENDLESS);
            return Step::Took(used);
        }
        match rest {
            Rest::More(0) => return Step::Starve,
            Rest::More(_) => self.state = State::SkipLine { bytes },
            Rest::End(_) => self.state = State::Command,
            Rest::Bare(_) => self.close_with(answer::BARE_IN_COMMAND),
        }
        Step::Took(used)
    }

    fn line<'b>(&mut self, now: Instant, line: &'b [u8], used: usize) -> Step<'b> {
        let command = parse(line);
        if matches!(
            command,
            Ok(Command::Ehlo(_) | Command::Helo(_) | Command::Lhlo(_))
        ) {
            // Nothing of the old state may be left when the answer is given (RFC 5321 4.1.4).
            if !self.queue.is_sent() {
                return Step::Flush;
            }
            if self.transaction.take().is_some() {
                return Step::Tell(0, Event::Reset);
            }
        }
        self.counts.commands = self.counts.commands.saturating_add(1);
        if self.counts.commands > self.options().limits.commands {
            self.close_with(answer::TOO_MANY_COMMANDS);
            return Step::Took(used);
        }
        match command {
            Ok(command) => self.dispatch(now, command, used),
            Err(error) => {
                let (code, enhanced, text) = error.reply();
                let answer = Answer {
                    code,
                    enhanced,
                    text,
                };
                if error.kind == CommandErrorKind::Unrecognised && is_foreign(line) {
                    self.close_with(answer::FOREIGN);
                } else if is_verb(line, b"BDAT") {
                    // Octets follow, and nobody knows how many.
                    self.close_with(answer);
                } else if is_verb(line, b"MAIL") {
                    self.refuse_mail(answer);
                } else if is_verb(line, b"RCPT") {
                    self.refuse_rcpt(answer);
                } else {
                    self.send_now = true;
                    self.error(answer);
                }
                Step::Took(used)
            }
        }
    }

    fn dispatch<'b>(&mut self, now: Instant, command: Command<'b>, used: usize) -> Step<'b> {
        if self.options().require_tls && !self.tls && !is_allowed_before_tls(&command) {
            return self.refuse_command(now, &command, answer::TLS_FIRST, used);
        }
        match command {
            Command::Ehlo(name) => self.hello(Greeting::Ehlo, name, used),
            Command::Helo(name) => self.hello(Greeting::Helo, name, used),
            Command::Lhlo(name) => self.hello(Greeting::Lhlo, name, used),
            Command::Mail(path, params) => self.mail(path, params, used),
            Command::Rcpt(mailbox, params) => self.rcpt(mailbox, params, used),
            Command::Data => self.offer_body(used),
            Command::Bdat { size, last } => self.bdat(now, size, last, used),
            Command::Rset => self.rset(used),
            Command::Noop(_) => self.courtesy(answer::OK, used),
            Command::Help(_) => self.courtesy(answer::HELP, used),
            Command::Vrfy(_) => self.courtesy(answer::WILL_TRY, used),
            Command::Expn(_) => self.courtesy(answer::NO_EXPN, used),
            Command::StartTls => self.start_tls_command(used),
            Command::Auth { mechanism, initial } => self.auth(mechanism, initial, used),
            Command::Quit => self.quit(used),
        }
    }

    /// An error for any command; the octets of a BDAT are read before it is answered.
    fn refuse_command<'b>(
        &mut self,
        now: Instant,
        command: &Command<'b>,
        answer: Answer,
        used: usize,
    ) -> Step<'b> {
        match *command {
            Command::Bdat { size, .. } => {
                self.refuse_chunk(now, size, answer, AfterBody::Reply);
                Step::Took(used)
            }
            _ => self.refused(answer, used),
        }
    }

    pub(super) fn refused<'b>(&mut self, answer: Answer, used: usize) -> Step<'b> {
        self.error(answer);
        Step::Took(used)
    }

    fn hello<'b>(&mut self, greeting: Greeting, name: &'b str, used: usize) -> Step<'b> {
        self.send_now = true;
        match (self.options().lmtp, greeting) {
            (true, Greeting::Ehlo | Greeting::Helo) => self.refused(answer::SPEAK_LMTP, used),
            (false, Greeting::Lhlo) => self.refused(answer::SPEAK_SMTP, used),
            _ if self.is_too_much_junk() => Step::Took(used),
            _ => {
                self.aftermath = false;
                self.state = State::Answering(Question::Hello(greeting));
                Step::Tell(used, Event::Hello { greeting, name })
            }
        }
    }

    fn mail<'b>(&mut self, path: ReversePath<'b>, params: MailParams<'b>, used: usize) -> Step<'b> {
        if let Some(answer) = self.mail_error(&path, &params) {
            self.refuse_mail(answer);
            return Step::Took(used);
        }
        let limit = self.options().limits.transactions;
        self.counts.transactions = self.counts.transactions.saturating_add(1);
        if limit > 0 && self.counts.transactions > limit {
            self.close_with(answer::TOO_MANY_TRANSACTIONS);
            return Step::Took(used);
        }
        self.aftermath = false;
        self.state = State::Answering(Question::Mail(Transaction {
            smtputf8: params.smtputf8,
            binary: params.body == Some(BodyType::BinaryMime),
            accepted: 0,
            refused: 0,
            chunked: false,
            received: 0,
        }));
        Step::Tell(used, Event::Mail(path, params))
    }

    fn refuse_mail(&mut self, answer: Answer) {
        self.aftermath = self.transaction.is_none();
        self.error(answer);
    }

    fn refuse_rcpt(&mut self, answer: Answer) {
        if let Some(transaction) = &mut self.transaction {
            transaction.refused = transaction.refused.saturating_add(1);
        }
        self.error(answer);
    }

    fn mail_error(&self, path: &ReversePath<'_>, params: &MailParams<'_>) -> Option<Answer> {
        let limits = &self.options().limits;
        let too_big = |size: u64| limits.message_bytes > 0 && size > limits.message_bytes;
        if self.greeting.is_none() {
            Some(answer::HELLO_FIRST)
        } else if self.options().require_auth && !self.authenticated {
            Some(answer::AUTH_FIRST)
        } else if self.transaction.is_some() {
            Some(answer::NESTED_MAIL)
        } else if self.has_unoffered(params) {
            Some(answer::PARAMETER_UNOFFERED)
        } else if self.holds_too_long(params) {
            Some(answer::HOLD_TOO_LONG)
        } else if !params.smtputf8 && !path.is_ascii() {
            Some(answer::UTF8_UNANNOUNCED)
        } else if params.size.is_some_and(too_big) {
            Some(answer::TOO_BIG)
        } else {
            None
        }
    }

    /// A parameter of MAIL whose extension was not offered to this client (RFC 5321 4.1.1.11).
    fn has_unoffered(&self, params: &MailParams<'_>) -> bool {
        let offered = self.capabilities();
        let extended = self.greeting != Some(Greeting::Helo);
        let body = match params.body {
            None => true,
            Some(BodyType::BinaryMime) => offered.binarymime,
            Some(BodyType::SevenBit | BodyType::EightBitMime) => offered.eightbitmime,
        };
        let dsn = params.ret.is_some() || params.envid.is_some();
        let is_offered = body
            && (params.size.is_none() || offered.size.is_some())
            && (!params.smtputf8 || offered.smtputf8)
            && (!dsn || offered.dsn)
            && (params.auth.is_none() || offered.auth != Default::default())
            && (!params.requiretls || offered.requiretls)
            && (params.mt_priority.is_none() || offered.mt_priority)
            && (params.by.is_none() || offered.deliver_by.is_some())
            && (params.hold.is_none() || offered.future_release.is_some());
        !is_offered || (!extended && *params != MailParams::default())
    }

    /// RFC 4865 4: no longer than we said. HOLDUNTIL needs a calendar, which the application has.
    fn holds_too_long(&self, params: &MailParams<'_>) -> bool {
        match (params.hold, self.options().offer.future_release) {
            (Some(FutureRelease::HoldFor(seconds)), Some(max)) => seconds > max,
            _ => false,
        }
    }

    fn rcpt<'b>(&mut self, mailbox: Mailbox<'b>, params: RcptParams<'b>, used: usize) -> Step<'b> {
        let Some(transaction) = self.transaction else {
            return self.out_of_order(answer::MAIL_FIRST, used);
        };
        let has_dsn = self.options().offer.dsn && self.greeting != Some(Greeting::Helo);
        if transaction.chunked {
            self.error(answer::BODY_STARTED);
        } else if params != RcptParams::default() && !has_dsn {
            self.refuse_rcpt(answer::PARAMETER_UNOFFERED);
        } else if !transaction.smtputf8 && !mailbox.is_ascii() {
            self.refuse_rcpt(answer::UTF8_UNANNOUNCED);
        } else if transaction.accepted >= self.options().limits.recipients {
            // No error of the client's: RFC 5321 4.5.3.1.10 tells it to go on and send the rest
            // in another transaction.
            self.reply(answer::TOO_MANY_RECIPIENTS);
        } else {
            self.state = State::Answering(Question::Rcpt);
            return Step::Tell(used, Event::Rcpt(mailbox, params));
        }
        Step::Took(used)
    }

    /// A command whose place is later, counted as an error unless it is only the rest of what the
    /// client had pipelined behind a refusal.
    pub(super) fn out_of_order<'b>(&mut self, answer: Answer, used: usize) -> Step<'b> {
        if self.aftermath {
            self.reply(answer);
            Step::Took(used)
        } else {
            self.refused(answer, used)
        }
    }

    fn rset<'b>(&mut self, used: usize) -> Step<'b> {
        self.aftermath = false;
        if self.is_too_much_junk() {
            return Step::Took(used);
        }
        self.reply(answer::OK);
        match self.transaction.take() {
            Some(_) => Step::Tell(used, Event::Reset),
            None => Step::Took(used),
        }
    }

    /// A command that changes nothing.
    fn courtesy<'b>(&mut self, answer: Answer, used: usize) -> Step<'b> {
        if !self.is_too_much_junk() {
            self.reply_now(answer);
        }
        Step::Took(used)
    }

    fn quit<'b>(&mut self, used: usize) -> Step<'b> {
        self.close_with(answer::BYE);
        Step::Tell(used, Event::Quit)
    }

    /// Counts a command that brings no mail. True if it was one too many: 421 is queued then.
    fn is_too_much_junk(&mut self) -> bool {
        self.counts.junk = self.counts.junk.saturating_add(1);
        let too_much = self.counts.junk > self.options().limits.junk_commands;
        if too_much {
            self.close_with(answer::TOO_MUCH_JUNK);
        }
        too_much
    }

    /// RFC 3207 4.
    fn start_tls_command<'b>(&mut self, used: usize) -> Step<'b> {
        self.send_now = true;
        if self.tls {
            self.refused(answer::TLS_ALREADY, used)
        } else if !self.options().offer.starttls {
            self.refused(answer::NO_STARTTLS, used)
        } else if self.transaction.is_some() {
            self.refused(answer::IN_TRANSACTION, used)
        } else {
            self.reply_now(answer::START_TLS);
            self.state = State::TlsReply;
            Step::Took(used)
        }
    }

    /// RFC 4954 4.
    fn auth<'b>(&mut self, mechanism: &'b str, initial: Option<&'b [u8]>, used: usize) -> Step<'b> {
        self.send_now = true;
        let options = self.options();
        let refusal = if !options.offers_auth() {
            Some(answer::NO_AUTH)
        } else if !matches!(self.greeting, Some(Greeting::Ehlo | Greeting::Lhlo)) {
            Some(answer::HELLO_FIRST)
        } else if self.authenticated {
            Some(answer::AUTH_ALREADY)
        } else if self.transaction.is_some() {
            Some(answer::IN_TRANSACTION)
        } else if options.auth_needs_tls && !self.tls {
            Some(answer::AUTH_NEEDS_TLS)
        } else if !self.mechanisms().has(mechanism) {
            Some(answer::MECHANISM_UNKNOWN)
        } else {
            None
        };
        if let Some(answer) = refusal {
            return self.refused(answer, used);
        }
        if self.is_too_much_junk() {
            return Step::Took(used);
        }
        self.state = State::Answering(Question::Auth);
        Step::Tell(used, Event::Auth { mechanism, initial })
    }

    /// The client's next line of an AUTH exchange.
    pub(super) fn auth_line<'b>(&mut self, input: &'b [u8]) -> Step<'b> {
        if self.shutdown {
            self.close_with(answer::SHUTTING_DOWN);
            return Step::Took(0);
        }
        match line::first(input, self.options().limits.auth_line_bytes) {
            Line::Partial => Step::Starve,
            Line::Whole(b"*", used) => {
                self.state = State::Command;
                self.send_now = true;
                self.error(answer::AUTH_CANCELLED);
                Step::Tell(used, Event::AuthCancelled)
            }
            Line::Whole(line, used) => {
                self.state = State::Answering(Question::Auth);
                Step::Tell(used, Event::AuthResponse(line))
            }
            Line::TooLong(used) => {
                self.state = State::SkipLine { bytes: used as u64 };
                self.send_now = true;
                self.error(answer::AUTH_LINE_TOO_LONG);
                Step::Tell(used, Event::AuthCancelled)
            }
            Line::Bare => {
                self.close_with(answer::BARE_IN_COMMAND);
                Step::Took(0)
            }
        }
    }
}

/// [`Command::parse`], and an AUTH line of any length: its initial response may be longer than
/// other lines (RFC 4954 4).
fn parse(line: &[u8]) -> Result<Command<'_>, CommandError> {
    if line.len() + b"\r\n".len() <= COMMAND_LINE_BYTES_MAX {
        return Command::parse(line);
    }
    let space = line.iter().rposition(|&b| b == b' ').unwrap_or(0);
    let (head, initial) = line.split_at_checked(space).unwrap_or((line, &[]));
    let initial = initial.trim_ascii_start();
    match Command::parse(head)? {
        Command::Auth {
            mechanism,
            initial: None,
        } if initial.iter().all(u8::is_ascii_graphic) => Ok(Command::Auth {
            mechanism,
            initial: Some(initial),
        }),
        _ => Err(CommandErrorKind::Syntax.into()),
    }
}

fn is_allowed_before_tls(command: &Command<'_>) -> bool {
    matches!(
        command,
        Command::Ehlo(_)
            | Command::Helo(_)
            | Command::Lhlo(_)
            | Command::Noop(_)
            | Command::StartTls
            | Command::Quit
    )
}

fn is_verb(line: &[u8], verb: &[u8]) -> bool {
    let word = line.split(|&b| b == b' ').next().unwrap_or_default();
    word.eq_ignore_ascii_case(verb)
}

/// What begins with a method of HTTP (RFC 9110 9, RFC 5789, the preface of RFC 9113 3.4) or is a field
/// of a header. No command does, nor is one.
fn is_foreign(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 10] = [
        b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH",
        b"PRI",
    ];
    let word = line.split(|&b| b == b' ').next().unwrap_or_default();
    let field = word.iter().position(|&b| b == b':').is_some_and(|n| n > 0);
    METHODS.contains(&word) || field
}

fn is_auth(input: &[u8]) -> bool {
    input
        .get(..5)
        .is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "))
}
