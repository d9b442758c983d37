//! The body of a message: DATA and BDAT, taken or thrown away.

use super::answer::{self, Answer};
use super::{AfterBody, Event, Options, Question, Session, State, Step};
use crate::smtp::data::{BdatReader, Unstuffer};
use crate::smtp::reply::{EnhancedCode, ReplyCode};
use crate::time::Instant;
use core::borrow::Borrow;

impl<O: Borrow<Options>> Session<O> {
    /// DATA: the application may refuse before 354 goes out.
    pub(super) fn offer_body<'b>(&mut self, used: usize) -> Step<'b> {
        self.send_now = true;
        let Some(transaction) = self.transaction else {
            return self.out_of_order(answer::MAIL_FIRST, used);
        };
        if transaction.chunked {
            // RFC 3030 2: DATA and BDAT can't be mixed.
            self.refused(answer::BODY_STARTED, used)
        } else if transaction.binary {
            self.refused(answer::BINARY_NEEDS_BDAT, used)
        } else if let Some(answer) = self.lack_of_recipients() {
            self.out_of_order(answer, used)
        } else {
            // Replies that are queued can go out together with the 354.
            self.send_now = false;
            self.state = State::BodyOffered;
            Step::Tell(used, Event::BodyStart)
        }
    }

    /// Why a body can't come yet. All recipients refused: 554 (RFC 5321 3.3), in LMTP always 503
    /// (RFC 2033 4.2).
    fn lack_of_recipients(&self) -> Option<Answer> {
        match self.transaction {
            None => Some(answer::MAIL_FIRST),
            Some(t) if t.accepted > 0 => None,
            Some(t) if t.refused > 0 && !self.options().lmtp => Some(answer::NO_RECIPIENTS),
            Some(_) => Some(answer::RCPT_FIRST),
        }
    }

    /// Nobody objected: 354.
    pub(super) fn start_data<'b>(&mut self, now: Instant) -> Step<'b> {
        self.reply_now(answer::START_MESSAGE);
        self.unstuffer = Unstuffer::new();
        self.discarded = 0;
        self.since = now;
        self.body_since = now;
        self.state = State::Data;
        Step::Took(0)
    }

    /// The next part of a body that ends with a dot.
    pub(super) fn data<'b>(&mut self, input: &'b [u8]) -> Step<'b> {
        if input.is_empty() {
            return Step::Starve;
        }
        let Ok(part) = self.unstuffer.push(input) else {
            self.close_with(answer::BARE_IN_DATA);
            return Step::Tell(0, Event::Reset);
        };
        if part.done {
            let size = self.transaction.map_or(0, |t| t.received);
            self.ask_body_end(part.consumed, size, 0)
        } else if part.body.is_empty() {
            Step::Took(part.consumed)
        } else if self.receive(part.body) {
            Step::Tell(part.consumed, Event::Body(part.body))
        } else {
            self.hold_answer(answer::TOO_BIG);
            self.state = State::SkipData {
                then: AfterBody::EndOfMessage,
            };
            let limit = self.options().limits.message_bytes;
            self.discard(
                self.transaction
                    .map_or(0, |t| t.received)
                    .saturating_sub(limit),
            );
            Step::Tell(part.consumed, Event::Reset)
        }
    }

    /// The next part of a refused body that ends with a dot.
    pub(super) fn skip_data<'b>(&mut self, then: AfterBody, input: &'b [u8]) -> Step<'b> {
        if input.is_empty() {
            return Step::Starve;
        }
        match self.unstuffer.push(input) {
            Err(_) => {
                self.close_with(answer::BARE_IN_DATA);
                Step::Took(0)
            }
            Ok(part) => {
                if self.discard(part.body.len() as u64) && part.done {
                    self.after_refused_body(then);
                }
                Step::Took(part.consumed)
            }
        }
    }

    /// BDAT (RFC 3030 2).
    pub(super) fn bdat<'b>(
        &mut self,
        now: Instant,
        size: u64,
        last: bool,
        used: usize,
    ) -> Step<'b> {
        if !self.options().offer.chunking {
            self.refuse_chunk(now, size, answer::NO_BDAT, AfterBody::Reply);
            return Step::Took(used);
        }
        if let Some(answer) = self.lack_of_recipients() {
            let was_open = self.transaction.is_some();
            self.refuse_chunk(now, size, answer, AfterBody::End);
            return if was_open {
                Step::Tell(used, Event::Reset)
            } else {
                Step::Took(used)
            };
        }
        let limit = self.options().limits.message_bytes;
        let Some(transaction) = &mut self.transaction else {
            return Step::Took(used);
        };
        let is_first = !transaction.chunked;
        if is_first {
            transaction.chunked = true;
            self.chunks = BdatReader::new(transaction.binary);
            self.body_since = now;
        }
        if limit > 0 && transaction.received.saturating_add(size) > limit {
            let then = after_chunk(last);
            self.refuse_chunk(now, size, answer::TOO_BIG, then);
            return Step::Tell(used, Event::Reset);
        }
        self.chunks.begin(size, last);
        self.state = State::Chunk { last };
        if is_first {
            Step::Tell(used, Event::BodyStart)
        } else {
            Step::Took(used)
        }
    }

    /// The next octets of a chunk.
    pub(super) fn chunk<'b>(&mut self, last: bool, input: &'b [u8]) -> Step<'b> {
        if input.is_empty() && self.chunks.remaining() > 0 {
            return Step::Starve;
        }
        let Ok(part) = self.chunks.push(input) else {
            self.hold_answer(answer::BARE_IN_CHUNK);
            self.skip_rest_of_chunk(last);
            return Step::Tell(0, Event::Reset);
        };
        self.receive(part.body);
        if !part.body.is_empty() {
            // The end of the chunk is found by the next, empty push.
            return Step::Tell(part.consumed, Event::Body(part.body));
        }
        if last {
            let size = self.transaction.map_or(0, |t| t.received);
            return self.ask_body_end(0, size, 0);
        }
        self.reply(answer::CHUNK_OK);
        self.state = State::Command;
        Step::Took(0)
    }

    /// The next octets of a refused chunk.
    pub(super) fn skip_chunk<'b>(
        &mut self,
        left: u64,
        then: AfterBody,
        input: &'b [u8],
    ) -> Step<'b> {
        if left == 0 {
            self.after_refused_body(then);
            return Step::Took(0);
        }
        if input.is_empty() {
            return Step::Starve;
        }
        let used = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        self.state = State::SkipChunk {
            left: left - used as u64,
            then,
        };
        self.discard(used as u64);
        Step::Took(used)
    }

    /// Refuses a chunk whose octets have not begun: they are read first (RFC 3030 2), unless they
    /// are too many.
    pub(super) fn refuse_chunk(
        &mut self,
        now: Instant,
        size: u64,
        answer: Answer,
        then: AfterBody,
    ) {
        self.discarded = 0;
        self.since = now;
        self.body_since = now;
        self.state = State::SkipChunk { left: size, then };
        if size > self.options().limits.discarded_bytes {
            self.close_with(answer);
        } else if self.aftermath || self.count_error() {
            self.hold_answer(answer);
        }
    }

    /// Refuses the chunk that is coming in; its refusal is held already.
    pub(super) fn skip_rest_of_chunk(&mut self, last: bool) {
        self.discarded = 0;
        self.state = State::SkipChunk {
            left: self.chunks.remaining(),
            then: after_chunk(last),
        };
    }

    /// Counts octets of the message. False if it is too large now.
    fn receive(&mut self, part: &[u8]) -> bool {
        let limit = self.options().limits.message_bytes;
        let Some(transaction) = &mut self.transaction else {
            return false;
        };
        transaction.received = transaction.received.saturating_add(part.len() as u64);
        limit == 0 || transaction.received <= limit
    }

    /// Counts octets that are thrown away. False if they are too many: the refusal goes out, and
    /// the session closes.
    fn discard(&mut self, octets: u64) -> bool {
        self.discarded = self.discarded.saturating_add(octets);
        let is_fine = self.discarded <= self.options().limits.discarded_bytes;
        if !is_fine {
            self.queue.release(false);
            self.state = State::Closing;
        }
        is_fine
    }

    /// The refused body has been read: now its refusal goes out.
    fn after_refused_body(&mut self, then: AfterBody) {
        let replies = match (then, &self.transaction) {
            (AfterBody::EndOfMessage, Some(t)) if self.options().lmtp => t.accepted.max(1),
            _ => 1,
        };
        if then != AfterBody::Reply {
            self.transaction = None;
            self.aftermath = true;
        }
        self.state = State::Refusing { replies };
    }

    /// Lets the refusal go, once for each reply that is due (RFC 2033 4.2).
    pub(super) fn refuse_for_each<'b>(&mut self, replies: u32) -> Step<'b> {
        if self.queue.is_repeating() {
            return Step::Flush;
        }
        if replies <= 1 {
            self.queue.release(false);
            self.state = State::Command;
            return Step::Took(0);
        }
        self.queue.release(true);
        self.state = State::Refusing {
            replies: replies - 1,
        };
        Step::Took(0)
    }

    /// Asks the application for its answer to the message.
    pub(super) fn ask_body_end<'b>(&mut self, used: usize, size: u64, recipient: u32) -> Step<'b> {
        self.state = State::Answering(Question::BodyEnd { size, recipient });
        Step::Tell(used, Event::BodyEnd { size, recipient })
    }

    fn hold_answer(&mut self, answer: Answer) {
        self.hold(answer.code, Some(answer.enhanced), answer.text.as_bytes());
    }

    /// Writes a refusal down until the body has been read.
    pub(super) fn hold(&mut self, code: ReplyCode, enhanced: Option<EnhancedCode>, text: &[u8]) {
        let enhanced = enhanced.filter(|_| self.options().offer.enhanced_status_codes);
        self.queue.hold(code, enhanced, text);
    }
}

pub(super) fn after_chunk(last: bool) -> AfterBody {
    if last {
        AfterBody::EndOfMessage
    } else {
        AfterBody::End
    }
}
