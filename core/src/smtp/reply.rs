//! Replies (RFC 5321 4.2) with enhanced status codes (RFC 2034, RFC 3463).
//!
//! Receiving: give what arrives to [`ReplyReader::push`], which stops after each line. After a
//! line of several ([`ReplyState::Line`]) look at [`ReplyReader::line`] if lines matter, as for
//! EHLO; after the last ([`ReplyState::Complete`]) take [`ReplyReader::reply`]. The next push
//! starts the next reply. Sending: [`Reply::emit`].
//!
//! ```
//! use courser_core::smtp::reply::{ReplyReader, ReplyState};
//! let mut reader = ReplyReader::new();
//! let mut input: &[u8] = b"250-2.1.5 first\r\n250 2.1.5 second\r\n354 go\r\n";
//! let mut states = [ReplyState::Incomplete; 2];
//! for state in &mut states {
//!     let pushed = reader.push(input).unwrap();
//!     input = &input[pushed.consumed..];
//!     *state = pushed.state;
//! }
//! assert_eq!(states, [ReplyState::Line, ReplyState::Complete]);
//! assert_eq!(reader.reply().unwrap().text, b"first\nsecond");
//! assert_eq!(input, b"354 go\r\n");
//! ```
//!
//! ```text
//! reply = *( code "-" [ text ] CRLF ) code [ SP [ text ] ] CRLF      all codes the same
//! code  = %x32-35 %x30-39 %x30-39
//! text  = [ enhanced ( SP / end ) ] *octet
//! ```
//!
//! Taken although the grammar forbids it: LF alone as the end of a line (a reply carries no
//! data that could be smuggled), any octet in a text, second digits above 5, an enhanced code
//! whose class isn't the reply code's. An enhanced code that stands on every line is cut from
//! every line; one that differs from the first line's stays in the text.

use crate::limits::{
    REPLY_LINE_BYTES, REPLY_LINE_BYTES_MAX, REPLY_LINES_MAX, REPLY_TEXT_BYTES_MAX,
};
use crate::smtp::{Buffer, BufferFull};
use core::fmt;
use memchr::memchr;
use nom::branch::alt;
use nom::bytes::complete::take_while_m_n;
use nom::character::complete::{char, one_of};
use nom::combinator::{eof, map_opt, value};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};

/// A three-digit reply code, 200 to 599.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyCode(u16);

impl ReplyCode {
    /// The code `n`, if its digits are ones that RFC 5321 4.2 allows.
    pub const fn new(n: u16) -> Option<Self> {
        if n >= 200 && n <= 599 {
            Some(Self(n))
        } else {
            None
        }
    }
    /// A code that stands in the source. What isn't allowed becomes 500.
    pub(crate) const fn constant(n: u16) -> Self {
        match Self::new(n) {
            Some(code) => code,
            None => Self(500),
        }
    }
    fn parse(digits: &[u8]) -> Option<Self> {
        let &[a, b, c] = digits else { return None };
        let all = digits.iter().all(u8::is_ascii_digit);
        let digit = |d: u8| u16::from(d - b'0');
        all.then(|| digit(a) * 100 + digit(b) * 10 + digit(c))
            .and_then(Self::new)
    }
    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
    /// 2yz.
    pub const fn is_success(self) -> bool {
        self.0 / 100 == 2
    }
    /// 3yz.
    pub const fn is_intermediate(self) -> bool {
        self.0 / 100 == 3
    }
    /// 4yz.
    pub const fn is_transient(self) -> bool {
        self.0 / 100 == 4
    }
    /// 5yz.
    pub const fn is_permanent(self) -> bool {
        self.0 / 100 == 5
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
impl fmt::Debug for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An enhanced status code `class.subject.detail` (RFC 3463 2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnhancedCode {
    /// 2 success, 4 transient, 5 permanent.
    pub class: u8,
    /// 0 to 999.
    pub subject: u16,
    /// 0 to 999.
    pub detail: u16,
}

impl EnhancedCode {
    /// `class.subject.detail`; a table of constants reads better with a short name.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self {
            class,
            subject,
            detail,
        }
    }

    /// Takes an enhanced code from the start of a text, and says what follows it and its space.
    pub fn take(text: &[u8]) -> Option<(Self, &[u8])> {
        enhanced(text).ok().map(|(rest, code)| (code, rest))
    }
}

/// RFC 3463 2: class, subject and detail; nothing but a space or the end may follow.
fn enhanced(text: &[u8]) -> IResult<&[u8], EnhancedCode, ()> {
    let number = || {
        map_opt(
            take_while_m_n(1, 3, |b: u8| b.is_ascii_digit()),
            |d: &[u8]| core::str::from_utf8(d).ok()?.parse::<u16>().ok(),
        )
    };
    let class = map_opt(one_of("245"), |c| {
        c.to_digit(10).and_then(|c| u8::try_from(c).ok())
    });
    let code = (
        class,
        preceded(char('.'), number()),
        preceded(char('.'), number()),
    );
    let end = alt((value((), char(' ')), value((), eof)));
    terminated(code, end)
        .map(|(class, subject, detail)| EnhancedCode::new(class, subject, detail))
        .parse(text)
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}
impl fmt::Debug for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One whole reply, borrowed from where it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The reply code.
    pub code: ReplyCode,
    /// The enhanced status code of the first line, where there is one.
    pub enhanced: Option<EnhancedCode>,
    /// The text of all lines without codes, joined by `\n`, cut at
    /// [`REPLY_TEXT_BYTES_MAX`]. Whatever the peer sent:
    /// printable or not.
    pub text: &'a [u8],
}

/// Why an answer is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// A line doesn't start with a reply code of 200 to 599 and a space, a hyphen or its end.
    NotAReply,
    /// A line of more than [`REPLY_LINE_BYTES_MAX`] octets.
    LineTooLong,
    /// More than [`REPLY_LINES_MAX`] lines.
    TooManyLines,
    /// The lines of one reply have different codes (RFC 5321 4.2.1).
    CodeMismatch,
    /// [`Reply::parse`] was given a part of a reply, or more than one.
    Incomplete,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAReply => "the answer is no SMTP reply",
            Self::LineTooLong => "a reply line is too long",
            Self::TooManyLines => "the reply has too many lines",
            Self::CodeMismatch => "the lines of a reply have different codes",
            Self::Incomplete => "not exactly one reply",
        })
    }
}
impl core::error::Error for ReplyError {}

impl<'a> Reply<'a> {
    /// A reply of our own.
    pub const fn new(code: ReplyCode, enhanced: Option<EnhancedCode>, text: &'a [u8]) -> Self {
        Self {
            code,
            enhanced,
            text,
        }
    }

    /// Parses a reply that is one line, with or without its line end, in place. Text after an
    /// inner `\n` counts as text, so this also reads what `Display` and records hold. A reply of
    /// several lines as it comes from the wire needs a [`ReplyReader`].
    ///
    /// # Errors
    /// [`ReplyError::NotAReply`], or [`ReplyError::Incomplete`] for a line that says that others
    /// follow.
    pub fn parse(input: &'a [u8]) -> Result<Self, ReplyError> {
        let line = input.strip_suffix(b"\n").unwrap_or(input);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (code, rest) = line.split_at_checked(3).ok_or(ReplyError::NotAReply)?;
        let code = ReplyCode::parse(code).ok_or(ReplyError::NotAReply)?;
        let text = match rest {
            [] => rest,
            [b' ', text @ ..] => text,
            [b'-', ..] => return Err(ReplyError::Incomplete),
            _ => return Err(ReplyError::NotAReply),
        };
        let (enhanced, text) = match EnhancedCode::take(text) {
            Some((enhanced, text)) => (Some(enhanced), text),
            None => (None, text),
        };
        Ok(Self::new(code, enhanced, text))
    }

    /// The text for a person: one line, whatever the peer sent.
    pub fn text(&self) -> Lossy<'a> {
        Lossy(self.text)
    }

    /// Writes the reply with its CRLFs: one line for each line of the text, lines of more than
    /// 512 octets split at a space where there is one (RFC 5321 4.5.3.1.5), the enhanced code on
    /// each (RFC 2034 4). Control characters become `?`.
    ///
    /// # Errors
    /// [`BufferFull`] if `out` is too short; what it holds then is of no use.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, BufferFull> {
        let mut out = Buffer::new(out);
        self.emit_into(&mut out)?;
        Ok(out.written())
    }

    /// Like [`Reply::emit`], behind what is already in `out`.
    ///
    /// # Errors
    /// [`BufferFull`]; a part of the reply may have been written.
    pub fn emit_into(&self, out: &mut Buffer<'_>) -> Result<(), BufferFull> {
        // "250-", "5.999.999 " and CRLF.
        const TEXT_BYTES: usize = REPLY_LINE_BYTES - 4 - 10 - 2;
        let mut rest = self.text;
        loop {
            let line_end = memchr(b'\n', rest);
            let line = rest.get(..line_end.unwrap_or(rest.len())).unwrap_or(rest);
            let cut = cut(line, TEXT_BYTES);
            let (text, after) = rest.split_at_checked(cut).unwrap_or((rest, &[]));
            let ended = cut == line.len();
            let last = ended && line_end.is_none();
            self.emit_line(out, last, text)?;
            if last {
                return Ok(());
            }
            rest = if ended {
                after.get(1..).unwrap_or(&[])
            } else {
                after
            };
        }
    }

    fn emit_line(&self, out: &mut Buffer<'_>, last: bool, text: &[u8]) -> Result<(), BufferFull> {
        let separator = if last { ' ' } else { '-' };
        out.put_fmt(format_args!("{}{separator}", self.code))?;
        if let Some(enhanced) = self.enhanced {
            out.put_fmt(format_args!("{enhanced} "))?;
        }
        out.put_printable(text.strip_suffix(b"\r").unwrap_or(text))?;
        out.put(b"\r\n")
    }
}

/// Where to end a line of at most `most` octets: behind its last space, else between two
/// characters.
fn cut(line: &[u8], most: usize) -> usize {
    let Some(head) = line.get(..most).filter(|_| line.len() > most) else {
        return line.len();
    };
    if let Some(space) = memchr::memrchr(b' ', head).filter(|&at| at > 0) {
        return space + 1;
    }
    // A UTF-8 character has at most three continuation octets.
    let inside = |&at: &usize| line.get(at).is_some_and(|b| b & 0xc0 == 0x80);
    let back = (most - 3..=most).rev().find(|at| !inside(at));
    back.unwrap_or(most)
}

/// The reply on one line: code, enhanced code, text.
impl fmt::Display for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        if self.text.is_empty() {
            return Ok(());
        }
        write!(f, " {}", self.text())
    }
}

/// Octets of a peer, shown on one line: line ends as spaces, what is no UTF-8 and other control
/// characters as U+FFFD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lossy<'a>(pub &'a [u8]);

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                f.write_char(match c {
                    '\n' | '\t' => ' ',
                    c if c.is_control() => char::REPLACEMENT_CHARACTER,
                    c => c,
                })?;
            }
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

/// How far a [`ReplyReader`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyState {
    /// More input is needed.
    #[default]
    Incomplete,
    /// A line was read and others follow.
    Line,
    /// The last line was read.
    Complete,
}

/// What [`ReplyReader::push`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Octets taken from the input; push the rest again.
    pub consumed: usize,
    /// How far the reply is.
    pub state: ReplyState,
}

/// Octets that the reader holds: the text that is kept, and behind it a whole line more, so that
/// [`ReplyReader::line`] sees every line of a long EHLO answer.
const HELD_BYTES: usize = REPLY_TEXT_BYTES_MAX + REPLY_LINE_BYTES;

/// Reads replies from a stream that may be cut anywhere, in bounded memory.
#[derive(Clone, Debug)]
pub struct ReplyReader {
    /// Text of the earlier lines up to `line_start`, then that of the current line.
    held: [u8; HELD_BYTES],
    line_start: usize,
    line_end: usize,
    /// Octets of the current line that came in, with its code.
    line_bytes: usize,
    /// The current line's code and separator.
    head: [u8; 4],
    ends_in_cr: bool,
    lines: usize,
    code: Option<ReplyCode>,
    enhanced: Option<EnhancedCode>,
    state: ReplyState,
    failed: Option<ReplyError>,
}

impl Default for ReplyReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplyReader {
    /// A reader at the start of a reply.
    pub const fn new() -> Self {
        Self {
            held: [0; HELD_BYTES],
            line_start: 0,
            line_end: 0,
            line_bytes: 0,
            head: [0; 4],
            ends_in_cr: false,
            lines: 0,
            code: None,
            enhanced: None,
            state: ReplyState::Incomplete,
            failed: None,
        }
    }

    /// Reads `input` up to the end of a line.
    ///
    /// # Errors
    /// [`ReplyError`]; the stream has lost its meaning, and every later push says so again.
    pub fn push(&mut self, input: &[u8]) -> Result<Pushed, ReplyError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.read(input);
        self.failed = result.err();
        result
    }

    /// The text of the line that was read last, without codes; cut at 512 octets or more.
    pub fn line(&self) -> &[u8] {
        match self.state {
            ReplyState::Incomplete => &[],
            _ => self.held.get(self.line_start..self.line_end).unwrap_or(&[]),
        }
    }

    /// The reply, once it is complete and until the next push.
    pub fn reply(&self) -> Option<Reply<'_>> {
        let code = self.code.filter(|_| self.state == ReplyState::Complete)?;
        let kept = self.line_end.min(REPLY_TEXT_BYTES_MAX);
        Some(Reply {
            code,
            enhanced: self.enhanced,
            text: self.held.get(..kept).unwrap_or(&[]),
        })
    }

    /// Whether a part of a reply has come in.
    pub fn is_within(&self) -> bool {
        self.state == ReplyState::Line || self.line_bytes > 0
    }

    fn read(&mut self, input: &[u8]) -> Result<Pushed, ReplyError> {
        if input.is_empty() {
            return Ok(Pushed {
                consumed: 0,
                state: ReplyState::Incomplete,
            });
        }
        self.resume();
        let line_end = memchr(b'\n', input);
        let line = input
            .get(..line_end.unwrap_or(input.len()))
            .unwrap_or(input);
        self.append(line)?;
        let Some(line_end) = line_end else {
            return Ok(Pushed {
                consumed: input.len(),
                state: ReplyState::Incomplete,
            });
        };
        self.state = self.finish_line()?;
        Ok(Pushed {
            consumed: line_end + 1,
            state: self.state,
        })
    }

    /// Leaves the line or the reply that the last push ended.
    fn resume(&mut self) {
        match self.state {
            ReplyState::Incomplete => return,
            ReplyState::Line => {
                self.line_start = self.line_end.min(REPLY_TEXT_BYTES_MAX);
                // The line end, where there is room for a character behind it.
                if let Some(b) = self
                    .held
                    .get_mut(self.line_start)
                    .filter(|_| self.line_start < REPLY_TEXT_BYTES_MAX)
                {
                    *b = b'\n';
                    self.line_start += 1;
                }
            }
            ReplyState::Complete => {
                self.line_start = 0;
                self.lines = 0;
                self.code = None;
                self.enhanced = None;
            }
        }
        self.line_end = self.line_start;
        self.state = ReplyState::Incomplete;
    }

    /// Takes octets of the current line, none of them LF.
    fn append(&mut self, mut part: &[u8]) -> Result<(), ReplyError> {
        let before = self.line_bytes;
        self.line_bytes = before.saturating_add(part.len());
        if let Some(&last) = part.last() {
            self.ends_in_cr = last == b'\r';
        }
        if before < self.head.len() {
            let free = self.head.get_mut(before..).unwrap_or(&mut []);
            let taken = free.len().min(part.len());
            let (head, rest) = part.split_at_checked(taken).unwrap_or((part, &[]));
            for (slot, b) in free.iter_mut().zip(head) {
                *slot = *b;
            }
            part = rest;
            // Garbage is known at once, not when its line ends or grows too long: the error does
            // not depend on how the line was cut.
            self.check_head()?;
        }
        if self.line_bytes > REPLY_LINE_BYTES_MAX {
            return Err(ReplyError::LineTooLong);
        }
        let free = self.held.get_mut(self.line_end..).unwrap_or(&mut []);
        let kept = free.len().min(part.len());
        if let (Some(free), Some(part)) = (free.get_mut(..kept), part.get(..kept)) {
            free.copy_from_slice(part);
        }
        self.line_end += kept;
        Ok(())
    }

    fn check_head(&self) -> Result<(), ReplyError> {
        let seen = self.line_bytes.min(self.head.len());
        for (i, b) in self.head.iter().take(seen).enumerate() {
            let good = match i {
                0 => (b'2'..=b'5').contains(b),
                1 | 2 => b.is_ascii_digit(),
                _ => matches!(b, b' ' | b'-' | b'\r'),
            };
            if !good {
                return Err(ReplyError::NotAReply);
            }
        }
        Ok(())
    }

    fn finish_line(&mut self) -> Result<ReplyState, ReplyError> {
        let length = self.line_bytes - usize::from(self.ends_in_cr);
        let (digits, separator) = self.head.split_at(3);
        // "250\rx": a CR may only stand before the LF.
        if length > 3 && separator == b"\r" || length < 3 {
            return Err(ReplyError::NotAReply);
        }
        let last = length == 3 || separator == b" ";
        let code = ReplyCode::parse(digits).ok_or(ReplyError::NotAReply)?;
        if *self.code.get_or_insert(code) != code {
            return Err(ReplyError::CodeMismatch);
        }
        self.lines += 1;
        if self.lines > REPLY_LINES_MAX {
            return Err(ReplyError::TooManyLines);
        }
        // The CR is held, unless the line was cut or the CR is the separator.
        let whole = self.line_end - self.line_start + self.head.len() == self.line_bytes;
        if self.ends_in_cr && whole && self.line_end > self.line_start {
            self.line_end -= 1;
        }
        self.cut_enhanced();
        self.line_bytes = 0;
        self.ends_in_cr = false;
        Ok(if last {
            ReplyState::Complete
        } else {
            ReplyState::Line
        })
    }

    /// Cuts the enhanced code from the line that just ended.
    fn cut_enhanced(&mut self) {
        let line = self.held.get(self.line_start..self.line_end);
        let Some((enhanced, rest)) = line.and_then(EnhancedCode::take) else {
            return;
        };
        if self.lines > 1 && self.enhanced != Some(enhanced) {
            return;
        }
        let text_start = self.line_end - rest.len();
        self.enhanced = Some(enhanced);
        self.held
            .copy_within(text_start..self.line_end, self.line_start);
        self.line_end -= text_start - self.line_start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::{String, ToString};
    use std::vec;
    use std::vec::Vec;

    /// The lines, the codes and the text.
    type Read = Result<(Vec<Vec<u8>>, String, Vec<u8>), ReplyError>;

    /// Reads `wire` in pieces of `size`.
    fn read(wire: &[u8], size: usize) -> Read {
        let mut reader = ReplyReader::new();
        let mut lines = Vec::new();
        for mut piece in wire.chunks(size) {
            while !piece.is_empty() {
                let pushed = reader.push(piece)?;
                assert!(pushed.consumed > 0, "no progress");
                if pushed.state != ReplyState::Incomplete {
                    lines.push(reader.line().to_vec());
                }
                piece = &piece[pushed.consumed..];
            }
        }
        let reply = reader.reply().ok_or(ReplyError::Incomplete)?;
        let codes = match reply.enhanced {
            Some(enhanced) => std::format!("{} {enhanced}", reply.code),
            None => reply.code.to_string(),
        };
        Ok((lines, codes, reply.text.to_vec()))
    }

    #[test]
    fn a_long_line_of_garbage_is_garbage_however_it_is_cut() {
        let mut wire = vec![b'x'; REPLY_LINE_BYTES_MAX + 1];
        for size in [1, 11, usize::MAX] {
            assert_eq!(read(&wire, size), Err(ReplyError::NotAReply), "{size}");
        }
        wire[..4].copy_from_slice(b"550 ");
        for size in [1, 11, usize::MAX] {
            assert_eq!(read(&wire, size), Err(ReplyError::LineTooLong), "{size}");
        }
    }

    #[test]
    fn replies_of_all_shapes() {
        for (wire, codes, text) in [
            ("250 OK\r\n", "250", "OK"),
            ("250\r\n", "250", ""),
            ("250 \r\n", "250", ""),
            ("250 ok\n", "250", "ok"),
            ("250\n", "250", ""),
            ("250-a\n250\n", "250", "a\n"),
            ("550 5.1.1 No such user\r\n", "550 5.1.1", "No such user"),
            ("250 2.0.0\r\n", "250 2.0.0", ""),
            (
                "250-2.1.0 a\r\n250-2.1.0 b\r\n250 2.1.0 c\r\n",
                "250 2.1.0",
                "a\nb\nc",
            ),
            ("550-5.1.1 a\r\n550 b\r\n", "550 5.1.1", "a\nb"),
            ("550-5.1.1 a\r\n550 5.1.2 b\r\n", "550 5.1.1", "a\n5.1.2 b"),
            ("550-a\r\n550 5.1.2 b\r\n", "550", "a\n5.1.2 b"),
            ("550-\r\n550-\r\n550 x\r\n", "550", "\n\nx"),
            ("220 4.3.2.1 ESMTP\r\n", "220", "4.3.2.1 ESMTP"),
            ("220 1.2.3 ESMTP\r\n", "220", "1.2.3 ESMTP"),
            ("421 4.7.0001 x\r\n", "421", "4.7.0001 x"),
            ("421 5.7.28 x\r\n", "421 5.7.28", "x"),
            ("599 999\r\n", "599", "999"),
            ("250 a\rb\0\u{fc}\r\n", "250", "a\rb\0\u{fc}"),
        ] {
            for size in 1..=wire.len() {
                let (_, got, got_text) = read(wire.as_bytes(), size).unwrap();
                assert_eq!(
                    (&*got, &*got_text),
                    (codes, text.as_bytes()),
                    "{wire:?} by {size}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_reply() {
        use ReplyError as E;
        for (wire, error) in [
            ("\r\n", E::NotAReply),
            ("\n", E::NotAReply),
            ("25\r\n", E::NotAReply),
            ("25\n", E::NotAReply),
            ("2x0 a", E::NotAReply),
            ("199 a", E::NotAReply),
            ("600 a", E::NotAReply),
            ("250a\r\n", E::NotAReply),
            ("2500\r\n", E::NotAReply),
            ("250\ra\r\n", E::NotAReply),
            ("250\r\r\n", E::NotAReply),
            ("HTTP/1.1 400", E::NotAReply),
            ("\u{16}\u{3}\u{1}", E::NotAReply),
            (" 250 a", E::NotAReply),
            ("250-a\r\n251 b\r\n", E::CodeMismatch),
            ("250-a\r\nhello\r\n", E::NotAReply),
            ("250-a\r\n", E::Incomplete),
        ] {
            for size in 1..=wire.len() {
                assert_eq!(
                    read(wire.as_bytes(), size),
                    Err(error),
                    "{wire:?} by {size}"
                );
            }
        }
    }

    #[test]
    fn garbage_is_known_before_its_line_ends() {
        assert_eq!(ReplyReader::new().push(b"S"), Err(ReplyError::NotAReply));
        let mut reader = ReplyReader::new();
        assert!(reader.push(b"25").is_ok());
        assert_eq!(reader.push(b"x"), Err(ReplyError::NotAReply));
        assert_eq!(reader.push(b"250 a\r\n"), Err(ReplyError::NotAReply));
    }

    #[test]
    fn bounds() {
        let line = |n: usize, sep: char| std::format!("250{sep}{}\r\n", "x".repeat(n - 6));
        assert!(read(line(REPLY_LINE_BYTES_MAX - 2, ' ').as_bytes(), 7).is_ok());
        let over = line(REPLY_LINE_BYTES_MAX + 4, ' ');
        assert_eq!(read(over.as_bytes(), 7), Err(ReplyError::LineTooLong));
        let many = |n| line(10, '-').repeat(n) + "250 x\r\n";
        assert!(read(many(REPLY_LINES_MAX - 1).as_bytes(), 99).is_ok());
        assert_eq!(
            read(many(REPLY_LINES_MAX).as_bytes(), 99),
            Err(ReplyError::TooManyLines)
        );
    }

    #[test]
    fn text_is_cut_but_every_line_is_seen() {
        // Forty lines of 60 octets: an EHLO answer longer than the text that is kept.
        let mut wire = String::new();
        for i in 0..40 {
            let sep = if i == 39 { ' ' } else { '-' };
            wire += &std::format!("250{sep}X{i:058}Y\r\n");
        }
        for size in [1, 10, 100, 10_000] {
            let (lines, _, text) = read(wire.as_bytes(), size).unwrap();
            assert_eq!(lines.len(), 40);
            for (i, line) in lines.iter().enumerate() {
                assert_eq!(line, std::format!("X{i:058}Y").as_bytes());
            }
            assert_eq!(text.len(), REPLY_TEXT_BYTES_MAX);
            assert!(text.starts_with(&[&lines[0][..], b"\n", &lines[1][..], b"\n"].concat()));
        }
    }

    #[test]
    fn replies_follow_each_other() {
        let mut reader = ReplyReader::new();
        let mut input: &[u8] = b"250-2.0.0 a\r\n250 2.0.0 b\r\n354 go\r\n";
        let mut texts = Vec::new();
        while !input.is_empty() {
            let pushed = reader.push(input).unwrap();
            if let Some(reply) = reader.reply() {
                texts.push(reply.to_string());
            }
            assert_eq!(reader.is_within(), pushed.state == ReplyState::Line);
            input = &input[pushed.consumed..];
        }
        assert_eq!(texts, ["250 2.0.0 a b", "354 go"]);
        // An empty push changes nothing.
        assert_eq!(reader.push(b"").unwrap().consumed, 0);
        assert_eq!(reader.reply().unwrap().code.get(), 354);
    }

    #[test]
    fn the_reader_is_small() {
        assert!(size_of::<ReplyReader>() < 1_700);
    }

    fn emitted(code: u16, enhanced: Option<EnhancedCode>, text: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 70_000];
        let reply = Reply::new(ReplyCode::new(code).unwrap(), enhanced, text);
        let n = reply.emit(&mut out).unwrap();
        out.truncate(n);
        out
    }

    #[test]
    fn emitted_forms() {
        let enhanced = Some(EnhancedCode::new(2, 1, 0));
        assert_eq!(emitted(250, enhanced, b"ok"), b"250 2.1.0 ok\r\n");
        assert_eq!(emitted(250, None, b""), b"250 \r\n");
        assert_eq!(emitted(250, enhanced, b""), b"250 2.1.0 \r\n");
        assert_eq!(emitted(250, None, b"a\nb\n"), b"250-a\r\n250-b\r\n250 \r\n");
        assert_eq!(
            emitted(250, enhanced, b"a\r\nb"),
            b"250-2.1.0 a\r\n250 2.1.0 b\r\n"
        );
        assert_eq!(emitted(250, None, b"a\rb\0"), b"250 a?b?\r\n");
    }

    #[test]
    fn long_lines_are_split() {
        let words = "word ".repeat(300);
        let wire = emitted(550, Some(EnhancedCode::new(5, 7, 1)), words.as_bytes());
        for line in wire.split_inclusive(|&b| b == b'\n') {
            assert!(line.len() <= REPLY_LINE_BYTES);
            assert!(line.ends_with(b"word \r\n"));
        }
        // No space to split at, and no character may be.
        let umlauts = "ü".repeat(600);
        for line in emitted(550, None, umlauts.as_bytes()).split_inclusive(|&b| b == b'\n') {
            assert!(line.len() <= REPLY_LINE_BYTES);
            assert!(std::str::from_utf8(line).is_ok());
        }
    }

    #[test]
    fn display_stays_on_one_line() {
        let reply = Reply::parse(b"550 5.1.1 a\nb\x1b\xff \xc3\xbc").unwrap();
        assert_eq!(reply.to_string(), "550 5.1.1 a b\u{fffd}\u{fffd} ü");
    }

    #[test]
    fn whole_replies_in_place() {
        let reply = Reply::parse(b"421 4.7.0 later\r\n").unwrap();
        assert_eq!((reply.code.get(), reply.text), (421, &b"later"[..]));
        assert_eq!(Reply::parse(b"250").unwrap().text, b"");
        assert_eq!(Reply::parse(b"250-a"), Err(ReplyError::Incomplete));
        for bad in ["", "25", "abc", "250x", "199 a", "\u{fc}50 a"] {
            assert_eq!(
                Reply::parse(bad.as_bytes()),
                Err(ReplyError::NotAReply),
                "{bad}"
            );
        }
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec("[ -~ü]{0,80}", 1..8)
            .prop_map(|lines| lines.join("\n").into_bytes())
    }

    proptest! {
        #[test]
        fn reading_inverts_emitting(
            code in 200_u16..600,
            enhanced in proptest::option::of((prop_oneof![Just(2_u8), Just(4), Just(5)], 0_u16..1000, 0_u16..1000)),
            text in text(),
            size in 1_usize..100,
        ) {
            let enhanced = enhanced.map(|(a, b, c)| EnhancedCode::new(a, b, c));
            // A text that itself begins with an enhanced code is another reply.
            prop_assume!(enhanced.is_some() || EnhancedCode::take(&text).is_none());
            let wire = emitted(code, enhanced, &text);
            let (_, codes, got) = read(&wire, size).unwrap();
            let kept = text.len().min(REPLY_TEXT_BYTES_MAX);
            prop_assert_eq!(got, &text[..kept]);
            let expected = match enhanced {
                Some(enhanced) => std::format!("{code} {enhanced}"),
                None => code.to_string(),
            };
            prop_assert_eq!(codes, expected);
        }

        #[test]
        fn any_octets(wire: Vec<u8>, size in 1_usize..20) {
            let _ = read(&wire, size);
            let _ = Reply::parse(&wire).map(|r| r.to_string());
        }

        #[test]
        fn any_cut_reads_the_same(lines in proptest::collection::vec("2[0-5][0-9]?[- ]?[ -~\r]{0,600}\r?\n", 1..6), size in 1_usize..700) {
            let wire = lines.concat();
            prop_assert_eq!(read(wire.as_bytes(), size), read(wire.as_bytes(), usize::MAX));
        }
    }
}
