//! What the application says: its answers, the handshake, the end.

use super::answer::{self, Answer};
use super::{AfterBody, Greeting, Input, Misuse, Options, Question, Session, State};
use crate::smtp::reply::{EnhancedCode, Reply};
use crate::time::Instant;
use core::borrow::Borrow;

impl<O: Borrow<Options>> Session<O> {
    /// Takes what happened outside. Then `poll` again.
    ///
    /// # Errors
    /// [`Misuse`] if nothing of the kind is due; the session is as before.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) -> Result<(), Misuse> {
        if self.state == State::Closed {
            return match input {
                Input::Closed | Input::DeadlinePassed | Input::Shutdown => Ok(()),
                _ => Err(Misuse::Over),
            };
        }
        match input {
            Input::DeadlinePassed => return Ok(()), // The next poll sees it by itself.
            Input::Shutdown => self.shutdown = true,
            Input::Closed => {
                self.queue.clear();
                self.state = State::Closed;
            }
            Input::TlsEstablished => self.tls_established()?,
            Input::Accept => self.accept(None)?,
            Input::AcceptWith(reply) if reply.code.is_success() => self.accept(Some(reply))?,
            Input::Refuse(reply) if is_refusal(&reply) => {
                self.refuse(reply, reply.code.get() == 421)?;
            }
            Input::RefuseAndClose(reply) if is_refusal(&reply) => self.refuse(reply, true)?,
            Input::AcceptWith(_) | Input::Refuse(_) | Input::RefuseAndClose(_) => {
                return Err(Misuse::ReplyClass);
            }
            Input::AuthChallenge(challenge) => self.challenge(challenge)?,
            Input::AuthDone => self.auth_ended(true)?,
            Input::AuthFailed => self.auth_ended(false)?,
        }
        self.since = now;
        Ok(())
    }

    /// RFC 3207 4.2: nothing that came before TLS counts.
    fn tls_established(&mut self) -> Result<(), Misuse> {
        match self.state {
            State::Greeting if !self.tls => {}
            State::Handshake => {
                self.greeting = None;
                self.authenticated = false;
                self.transaction = None;
                self.aftermath = false;
                self.state = State::Command;
            }
            _ => return Err(Misuse::NoHandshake),
        }
        self.tls = true;
        Ok(())
    }

    fn accept(&mut self, reply: Option<Reply<'_>>) -> Result<(), Misuse> {
        match self.state {
            State::Answering(Question::Hello(greeting)) => {
                self.accept_hello(greeting, reply);
                self.state = State::Command;
            }
            State::Answering(Question::Mail(transaction)) => {
                self.transaction = Some(transaction);
                self.reply_or(reply, answer::SENDER_OK);
                self.state = State::Command;
            }
            State::Answering(Question::Rcpt) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.accepted = transaction.accepted.saturating_add(1);
                }
                self.reply_or(reply, answer::RECIPIENT_OK);
                self.state = State::Command;
            }
            State::Answering(Question::BodyEnd { size, recipient }) => {
                self.counts.errors = 0;
                self.counts.junk = 0;
                self.counts.refused_recipients = 0;
                self.reply_or(reply, answer::MESSAGE_OK);
                self.end_of_message(size, recipient);
            }
            State::Answering(Question::Auth) => return Err(Misuse::WrongAnswer),
            // BodyStart and Body need no answer, but a yes does no harm.
            State::BodyOffered | State::Data | State::Chunk { .. } if reply.is_none() => {}
            _ => return Err(Misuse::NothingPending),
        }
        Ok(())
    }

    fn accept_hello(&mut self, greeting: Greeting, reply: Option<Reply<'_>>) {
        self.greeting = Some(greeting);
        let offered = self.capabilities();
        let text = reply.map_or(&b""[..], |reply| reply.text);
        let name = self.options.borrow().name();
        match greeting {
            Greeting::Helo => self.queue.push_helo(name, text),
            Greeting::Ehlo | Greeting::Lhlo => self.queue.push_ehlo(name, text, &offered),
        }
        self.send_now = true;
    }

    fn refuse(&mut self, reply: Reply<'_>, close: bool) -> Result<(), Misuse> {
        match self.state {
            State::Answering(question) => {
                self.state = State::Command;
                self.refuse_question(question, reply);
            }
            State::BodyOffered => {
                self.transaction = None;
                self.aftermath = true;
                self.push_reply(reply);
                self.send_now = true;
                self.state = State::Command;
            }
            State::Data if !close => {
                self.hold(reply.code, Some(enhanced_of(&reply)), reply.text);
                self.discarded = 0;
                self.state = State::SkipData {
                    then: AfterBody::EndOfMessage,
                };
            }
            State::Chunk { last } if !close => {
                self.hold(reply.code, Some(enhanced_of(&reply)), reply.text);
                self.skip_rest_of_chunk(last);
            }
            // It is refused already.
            State::SkipData { .. } | State::SkipChunk { .. } if !close => {}
            State::Closing => return Err(Misuse::Over),
            // No plaintext may go between the records of a handshake.
            State::Handshake if close => {}
            _ if close => {
                self.queue.forget_held();
                self.push_reply(reply);
            }
            _ => return Err(Misuse::NothingPending),
        }
        if close {
            self.state = State::Closing;
        }
        Ok(())
    }

    fn refuse_question(&mut self, question: Question, reply: Reply<'_>) {
        match question {
            Question::Hello(_) => self.send_now = true,
            Question::Mail(_) => self.aftermath = true,
            Question::Rcpt => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.refused = transaction.refused.saturating_add(1);
                }
                self.counts.refused_recipients = self.counts.refused_recipients.saturating_add(1);
                let limit = self.options().limits.refused_recipients;
                if limit > 0 && self.counts.refused_recipients > limit {
                    self.close_with(answer::TOO_MANY_REFUSED);
                    return;
                }
            }
            Question::Auth => {
                self.send_now = true;
                if reply.code.is_permanent() && !self.count_error() {
                    return;
                }
            }
            Question::BodyEnd { size, recipient } => self.end_of_message(size, recipient),
        }
        self.push_reply(reply);
    }

    /// One recipient of the message is answered (LMTP), or all are (SMTP).
    fn end_of_message(&mut self, size: u64, recipient: u32) {
        let accepted = self.transaction.map_or(0, |t| t.accepted);
        let next = recipient.saturating_add(1);
        if self.options().lmtp && next < accepted {
            self.state = State::NextRecipient {
                size,
                recipient: next,
            };
        } else {
            self.transaction = None;
            self.state = State::Command;
        }
    }

    fn challenge(&mut self, challenge: &[u8]) -> Result<(), Misuse> {
        self.is_auth_due()?;
        if !self.queue.push_challenge(challenge) {
            return Err(Misuse::Challenge);
        }
        self.send_now = true;
        self.state = State::AuthLine;
        Ok(())
    }

    fn auth_ended(&mut self, is_good: bool) -> Result<(), Misuse> {
        self.is_auth_due()?;
        self.state = State::Command;
        self.send_now = true;
        if is_good {
            self.authenticated = true;
            self.reply(answer::AUTHENTICATED);
        } else {
            self.error(answer::AUTH_FAILED);
        }
        Ok(())
    }

    fn is_auth_due(&self) -> Result<(), Misuse> {
        match self.state {
            State::Answering(Question::Auth) => Ok(()),
            State::Answering(_) => Err(Misuse::WrongAnswer),
            _ => Err(Misuse::NothingPending),
        }
    }

    fn reply_or(&mut self, reply: Option<Reply<'_>>, or: Answer) {
        match reply {
            Some(reply) => self.push_reply(reply),
            None => self.reply(or),
        }
    }

    fn push_reply(&mut self, reply: Reply<'_>) {
        let enhanced = (self.options().offer.enhanced_status_codes).then(|| enhanced_of(&reply));
        self.queue.push(reply.code, enhanced, reply.text);
    }
}

fn is_refusal(reply: &Reply<'_>) -> bool {
    reply.code.is_transient() || reply.code.is_permanent()
}

/// RFC 2034 4: every reply has an enhanced code, and its class is the reply code's.
fn enhanced_of(reply: &Reply<'_>) -> EnhancedCode {
    let class = match reply.code.get() / 100 {
        2 => 2,
        4 => 4,
        _ => 5,
    };
    match reply.enhanced {
        Some(enhanced) => EnhancedCode { class, ..enhanced },
        None => EnhancedCode::new(class, 0, 0),
    }
}
