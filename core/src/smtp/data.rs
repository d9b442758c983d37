//! The message body on the wire (RFC 5321 4.5.2, RFC 3030): dots out, dots in, line checks.
//!
//! **Sending with DATA:** give each piece of the body to [`Stuffer::walk`], write the chunks that
//! it yields, then [`Stuffer::terminator`]. The chunks are slices of the body as it lies, so one
//! vectored write sends it. With BDAT the body goes as it is.
//!
//! **Receiving with DATA:** [`Unstuffer::push`] until it is done. **With BDAT:** for each chunk
//! [`BdatReader::begin`], then [`BdatReader::push`] until the chunk is done. Both yield slices
//! of the input; the body is their concatenation. Both refuse a CR without LF and an LF without
//! CR, which is what SMTP smuggling is made of, and find out on the way what a server wants to
//! know of a body: [`Findings`].
//!
//! ```
//! use courser_core::smtp::data::{Chunk, Stuffer, Unstuffer};
//! let mut stuffer = Stuffer::new();
//! let chunks: Vec<_> = stuffer.walk(b"a\r\n.b\r\n").collect();
//! assert_eq!(chunks, [Chunk::Body(b"a\r\n"), Chunk::Dot, Chunk::Body(b".b\r\n")]);
//! assert_eq!(stuffer.terminator(), b".\r\n");
//!
//! let mut unstuffer = Unstuffer::new();
//! let mut input: &[u8] = b"a\r\n..b\r\n.\r\nQUIT\r\n";
//! let mut body = Vec::new();
//! loop {
//!     let part = unstuffer.push(input).unwrap();
//!     body.extend_from_slice(part.body);
//!     input = &input[part.consumed..];
//!     if part.done { break }
//! }
//! assert_eq!(body, b"a\r\n.b\r\n");
//! assert_eq!(input, b"QUIT\r\n");
//! ```

use crate::limits::TEXT_LINE_BYTES_MAX;
use core::fmt;
use memchr::{memchr_iter, memrchr};

/// A piece of a body that is sent with DATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// Octets of the body, as they are.
    Body(&'a [u8]),
    /// One `.` to put in.
    Dot,
}

impl<'a> Chunk<'a> {
    /// The octets to write.
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Body(bytes) => bytes,
            Self::Dot => b".",
        }
    }
}

/// Where the first line after an LF starts that starts with a dot.
///
/// Such lines are rare and lines are not, so blocks are first asked whether they have one, which
/// the compiler makes vectors of.
fn dotted_line(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 128;
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let (nexts, _) = bytes.get(1..)?.as_chunks::<BLOCK>();
    let has = |(a, b): (&[u8; BLOCK], &[u8; BLOCK])| {
        let pair = |(&a, &b): (&u8, &u8)| u8::from(a == b'\n') & u8::from(b == b'.');
        a.iter().zip(b).map(pair).fold(0, |all, one| all | one) != 0
    };
    let block = blocks.iter().zip(nexts).position(has);
    let from = block.unwrap_or(nexts.len()) * BLOCK;
    let rest = bytes.get(from..)?;
    memchr_iter(b'\n', rest)
        .map(|lf| lf + 1)
        .find(|&start| rest.get(start) == Some(&b'.'))
        .map(|start| from + start)
}

/// What a body ends with so far, seen by the sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tail {
    /// Nothing, or CRLF.
    #[default]
    Line,
    /// An LF without CR.
    BareLf,
    /// A CR.
    Cr,
    /// Anything else.
    Inside,
}

/// Puts dots before the dots that start a line (RFC 5321 4.5.2).
///
/// Call [`Stuffer::walk`] for each piece of the body in order, then [`Stuffer::terminator`]. A
/// line starts after any LF: the body should have no bare one, and if it does, a dot behind it
/// must not end the message at a receiver that is lax about line ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stuffer {
    tail: Tail,
}

impl Stuffer {
    /// At the start of a body.
    pub const fn new() -> Self {
        Self { tail: Tail::Line }
    }

    /// The chunks to send for the next piece of the body. Drain the iterator before the next
    /// piece.
    pub fn walk<'a>(&mut self, piece: &'a [u8]) -> Chunks<'a> {
        let starts_line = matches!(self.tail, Tail::Line | Tail::BareLf);
        let dot = starts_line && piece.first() == Some(&b'.');
        self.tail = match piece {
            [] => self.tail,
            [.., b'\r', b'\n'] => Tail::Line,
            [b'\n'] if self.tail == Tail::Cr => Tail::Line,
            [.., b'\n'] => Tail::BareLf,
            [.., b'\r'] => Tail::Cr,
            _ => Tail::Inside,
        };
        Chunks { rest: piece, dot }
    }

    /// What ends the message: `.` CRLF, behind a CRLF if the body doesn't end with one.
    pub const fn terminator(&self) -> &'static [u8] {
        match self.tail {
            Tail::Line => b".\r\n",
            _ => b"\r\n.\r\n",
        }
    }
}

/// The chunks of one piece; see [`Stuffer::walk`].
#[derive(Clone, Debug)]
pub struct Chunks<'a> {
    rest: &'a [u8],
    /// `rest` starts with a dot that needs another before it.
    dot: bool,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        if core::mem::take(&mut self.dot) {
            return Some(Chunk::Dot);
        }
        if self.rest.is_empty() {
            return None;
        }
        let end = match dotted_line(self.rest) {
            Some(start) => {
                self.dot = true;
                start
            }
            None => self.rest.len(),
        };
        let (body, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(Chunk::Body(body))
    }
}

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataError {
    /// A CR that no LF follows (RFC 5321 2.3.8).
    BareCr,
    /// An LF that follows no CR (RFC 5321 2.3.8).
    BareLf,
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BareCr => "bare CR in message data",
            Self::BareLf => "bare LF in message data",
        })
    }
}
impl core::error::Error for DataError {}

/// What was found in a body on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Octets of the body.
    pub octets: u64,
    /// An octet above 127: needs 8BITMIME.
    pub eight_bit: bool,
    /// A NUL: needs BINARYMIME.
    pub nul: bool,
    /// A line of more than 998 octets without its CRLF (RFC 5321 4.5.3.1.6): needs BINARYMIME.
    pub long_line: bool,
}

/// A part of a received body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unstuffed<'a> {
    /// Octets of the body, a slice of the input; may be empty.
    pub body: &'a [u8],
    /// Octets of the input that are dealt with; push the rest again.
    pub consumed: usize,
    /// The message (DATA) or the chunk (BDAT) ends here.
    pub done: bool,
}

/// The checks of lines, over parts of a body.
#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    findings: Findings,
    /// The last octet was a CR.
    cr: bool,
    /// Octets since the last line end.
    column: usize,
}

impl Lines {
    /// Looks at the next part of the body: eight-bit, NUL, length of lines, and, where `strict`,
    /// that CR and LF come only together.
    fn look(&mut self, part: &[u8], strict: bool) -> Result<(), DataError> {
        let (Some(&first), Some(&last)) = (part.first(), part.last()) else {
            return Ok(());
        };
        if strict {
            match (self.cr, first == b'\n') {
                (true, false) => return Err(DataError::BareCr),
                (false, true) => return Err(DataError::BareLf),
                _ => {}
            }
        }
        let seen = Seen::of(part);
        if strict && seen.unpaired {
            return Err(which_is_bare(part));
        }
        self.cr = last == b'\r';
        self.findings.eight_bit |= seen.eight_bit;
        self.findings.nul |= seen.nul;
        self.findings.octets = self.findings.octets.saturating_add(part.len() as u64);
        if !self.findings.long_line {
            self.measure(part);
        }
        Ok(())
    }

    /// Looks for a line that is too long. Since every window of a thousand octets must hold an
    /// LF, only the last one of each window is looked for, from its end.
    fn measure(&mut self, mut rest: &[u8]) {
        while let Some(window) = rest.get(..TEXT_LINE_BYTES_MAX - self.column) {
            match memrchr(b'\n', window) {
                Some(lf) => {
                    rest = rest.get(lf + 1..).unwrap_or(&[]);
                    self.column = 0;
                }
                None => {
                    self.findings.long_line = true;
                    return;
                }
            }
        }
        self.column = match memrchr(b'\n', rest) {
            Some(lf) => rest.len() - lf - 1,
            None => self.column + rest.len(),
        };
    }
}

/// What a part of a body holds.
#[derive(Clone, Copy, Default)]
struct Seen {
    eight_bit: bool,
    nul: bool,
    /// A CR and an LF that don't stand together.
    unpaired: bool,
}

impl Seen {
    /// Compares each octet with the one behind it. What is seen is gathered in as many lanes as a
    /// block has octets, so that the compiler makes vectors of the loop and looks across the
    /// lanes only once.
    fn of(part: &[u8]) -> Self {
        const BLOCK: usize = 32;
        let next = part.get(1..).unwrap_or(&[]);
        let (mut high, mut nul, mut unpaired) = ([0_u8; BLOCK], [0_u8; BLOCK], [0_u8; BLOCK]);
        let (blocks, _) = part.as_chunks::<BLOCK>();
        let (nexts, rest_next) = next.as_chunks::<BLOCK>();
        for (a, b) in blocks.iter().zip(nexts) {
            for i in 0..BLOCK {
                high[i] |= a[i];
                nul[i] |= u8::from(a[i] == 0);
                unpaired[i] |= u8::from(a[i] == b'\r') ^ u8::from(b[i] == b'\n');
            }
        }
        let rest = part.get(nexts.len() * BLOCK..).unwrap_or(&[]);
        for (i, (&a, &b)) in rest.iter().zip(rest_next).enumerate() {
            high[i] |= a;
            nul[i] |= u8::from(a == 0);
            unpaired[i] |= u8::from(a == b'\r') ^ u8::from(b == b'\n');
        }
        // The last octet has none behind it.
        let last = part.last().copied().unwrap_or(1);
        let any = |lanes: [u8; BLOCK]| lanes.iter().fold(0, |all, lane| all | lane);
        Self {
            eight_bit: (any(high) | last) & 0x80 != 0,
            nul: any(nul) != 0 || last == 0,
            unpaired: any(unpaired) != 0,
        }
    }
}

/// The first of the octets that don't stand together.
#[cold]
fn which_is_bare(part: &[u8]) -> DataError {
    let pairs = part.iter().zip(part.iter().skip(1));
    for (&a, &b) in pairs {
        match (a == b'\r', b == b'\n') {
            (true, false) => return DataError::BareCr,
            (false, true) => return DataError::BareLf,
            _ => {}
        }
    }
    DataError::BareLf
}

/// Where a receiver is in the stream of DATA.
///
/// ```text
///             ┌──────── any other ────────┐
///             ▼                           │
/// Line ─"."─► Dot ─CR─► DotCr ─LF─► Done  │
///  ▲ │         └──────────────────────────┤
///  │ └── any other ─► Body ◄──────────────┘
///  └──────── CRLF ─────┘
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// At the start of a line.
    #[default]
    Line,
    /// In a line.
    Body,
    /// Behind a dot that started a line.
    Dot,
    /// Behind that and a CR.
    DotCr,
    /// The message has ended.
    Done,
}

/// Receives a body that is sent with DATA: takes the dots away and finds the end.
///
/// Only CRLF is a line end, so only CRLF `.` CRLF ends the message (RFC 5321 4.1.1.4).
#[derive(Clone, Copy, Debug, Default)]
pub struct Unstuffer {
    place: Place,
    lines: Lines,
    failed: Option<DataError>,
}

impl Unstuffer {
    /// At the start of a body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next part of the body from `input`. Push what it didn't consume again, until
    /// the input is empty or the message is done; what follows the end is left alone.
    ///
    /// # Errors
    /// [`DataError`], and the same for every later push. Where the message ends can't be known
    /// any more, so the session should end.
    pub fn push<'a>(&mut self, input: &'a [u8]) -> Result<Unstuffed<'a>, DataError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.step(input);
        self.failed = result.err();
        result
    }

    /// What was found so far; final when the message is done.
    pub fn findings(&self) -> Findings {
        self.lines.findings
    }

    /// The end has been read.
    pub fn is_done(&self) -> bool {
        self.place == Place::Done
    }

    fn step<'a>(&mut self, input: &'a [u8]) -> Result<Unstuffed<'a>, DataError> {
        let mut consumed = 0;
        // What comes before the next slice of the body: a dot, or the end.
        loop {
            let next = input.get(consumed).copied();
            self.place = match (self.place, next) {
                (Place::Line, Some(b'.')) => Place::Dot,
                (Place::Dot, Some(b'\r')) => Place::DotCr,
                (Place::DotCr, Some(b'\n')) => Place::Done,
                (Place::DotCr, Some(_)) => return Err(DataError::BareCr),
                (Place::Done, _) | (_, None) => {
                    return Ok(Unstuffed {
                        body: &[],
                        consumed,
                        done: self.place == Place::Done,
                    });
                }
                (Place::Line | Place::Body | Place::Dot, Some(_)) => break,
            };
            consumed += 1;
        }
        let rest = input.get(consumed..).unwrap_or(&[]);
        let end = dotted_line(rest).unwrap_or(rest.len());
        let body = rest.get(..end).unwrap_or(rest);
        self.lines.look(body, true)?;
        self.place = if body.last() == Some(&b'\n') {
            Place::Line
        } else {
            Place::Body
        };
        Ok(Unstuffed {
            body,
            consumed: consumed + end,
            done: false,
        })
    }
}

/// Receives the chunks of a body that is sent with BDAT (RFC 3030).
#[derive(Clone, Copy, Debug, Default)]
pub struct BdatReader {
    /// CR and LF must come together; not for BODY=BINARYMIME.
    strict: bool,
    remaining: u64,
    last: bool,
    lines: Lines,
    failed: Option<DataError>,
}

impl BdatReader {
    /// Before the first chunk of a message; `binary` for BODY=BINARYMIME, where CR and LF are
    /// octets like any other.
    pub fn new(binary: bool) -> Self {
        Self {
            strict: !binary,
            ..Self::default()
        }
    }

    /// A chunk of `size` octets follows.
    pub fn begin(&mut self, size: u64, last: bool) {
        self.remaining = size;
        self.last = last;
    }

    /// Takes octets of the chunk from `input`. A chunk of no octets is done by an empty push.
    ///
    /// # Errors
    /// [`DataError`], and the same for every later push. The chunk's end is still known:
    /// [`BdatReader::skip`] to it, answer with an error, and go on.
    pub fn push<'a>(&mut self, input: &'a [u8]) -> Result<Unstuffed<'a>, DataError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let size = usize::try_from(self.remaining).map_or(input.len(), |n| n.min(input.len()));
        let body = input.get(..size).unwrap_or(input);
        let mut result = self.lines.look(body, self.strict);
        let done = self.remaining == size as u64;
        if done && self.last && self.strict && self.lines.cr {
            result = result.and(Err(DataError::BareCr));
        }
        self.failed = result.err();
        result?;
        self.remaining -= size as u64;
        Ok(Unstuffed {
            body,
            consumed: size,
            done,
        })
    }

    /// Leaves out octets of the chunk, for a message that is refused already: how many of
    /// `available` belong to it, and whether it is done. They count in no finding.
    pub fn skip(&mut self, available: usize) -> (usize, bool) {
        let size = usize::try_from(self.remaining).map_or(available, |n| n.min(available));
        self.remaining -= size as u64;
        (size, self.remaining == 0)
    }

    /// Octets of the chunk that are still to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// What was found so far; final when the last chunk is done.
    pub fn findings(&self) -> Findings {
        self.lines.findings
    }

    /// The last chunk is done.
    pub fn is_done(&self) -> bool {
        self.last && self.remaining == 0 && self.failed.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    /// Sends `body` in pieces of the given sizes, over and over.
    fn stuff(body: &[u8], sizes: &[usize]) -> Vec<u8> {
        let mut stuffer = Stuffer::new();
        let mut wire = Vec::new();
        for piece in pieces(body, sizes) {
            wire.extend(stuffer.walk(piece).flat_map(|c| c.bytes().to_vec()));
        }
        wire.extend_from_slice(stuffer.terminator());
        wire
    }

    fn pieces<'a>(mut rest: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*size).max(1).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces
    }

    /// What arrived, what is left of the wire, and what was found.
    type Received = Result<(Vec<u8>, Vec<u8>, Findings, bool), DataError>;

    fn unstuff(wire: &[u8], sizes: &[usize]) -> Received {
        let mut unstuffer = Unstuffer::new();
        let (mut body, mut left) = (Vec::new(), Vec::new());
        for mut piece in pieces(wire, sizes) {
            while !piece.is_empty() && !unstuffer.is_done() {
                let part = unstuffer.push(piece)?;
                assert!(part.consumed > 0, "no progress");
                body.extend_from_slice(part.body);
                piece = &piece[part.consumed..];
            }
            left.extend_from_slice(piece);
        }
        Ok((body, left, unstuffer.findings(), unstuffer.is_done()))
    }

    /// The same, octet by octet, from the RFC's words.
    fn unstuff_plainly(wire: &[u8]) -> Received {
        let (mut body, mut line) = (Vec::new(), Vec::new());
        let mut found = Findings::default();
        for (i, &b) in wire.iter().enumerate() {
            if b == b'\n' && line.last() != Some(&b'\r') {
                return Err(DataError::BareLf);
            }
            if b != b'\n' && line.last() == Some(&b'\r') {
                return Err(DataError::BareCr);
            }
            line.push(b);
            if line == b".\r\n" {
                return Ok((body, wire[i + 1..].to_vec(), found, true));
            }
            // A dot, and a CR behind it, may still be the end.
            let undecided = line == b"." || line == b".\r";
            let text = line.strip_prefix(b".").unwrap_or(&line);
            if !undecided {
                found.eight_bit |= b >= 128;
                found.nul |= b == 0;
                found.long_line |=
                    text.len() > 1_000 || text.len() == 1_000 && !text.ends_with(b"\r\n");
                body.push(b);
                found.octets += 1;
            }
            if b == b'\n' {
                line.clear();
            }
        }
        Ok((body, Vec::new(), found, false))
    }

    #[test]
    fn dots_are_stuffed() {
        for (body, wire) in [
            ("", ".\r\n"),
            (".", "..\r\n.\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            ("..\r\n", "...\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            ("a.\r\n.b\r\n.\r\n", "a.\r\n..b\r\n..\r\n.\r\n"),
            ("\r\n.\r\nQUIT\r\n", "\r\n..\r\nQUIT\r\n.\r\n"),
            ("a\n.\r\nb\n", "a\n..\r\nb\n\r\n.\r\n"),
            ("a\r", "a\r\r\n.\r\n"),
        ] {
            for size in 1..=body.len().max(1) {
                let sent = stuff(body.as_bytes(), &[size]);
                assert_eq!(sent, wire.as_bytes(), "{body:?} by {size}");
            }
        }
    }

    #[test]
    fn slices_are_few_and_lie_in_the_body() {
        let body = b"one\r\ntwo\r\n.three\r\nfour\r\n";
        let chunks: Vec<_> = Stuffer::new().walk(body).collect();
        assert_eq!(
            chunks,
            [
                Chunk::Body(b"one\r\ntwo\r\n"),
                Chunk::Dot,
                Chunk::Body(b".three\r\nfour\r\n"),
            ]
        );
        assert_eq!(chunks[0].bytes().as_ptr(), body.as_ptr());
    }

    #[test]
    fn dotted_lines_are_found_wherever_they_stand() {
        // Over the blocks of the vector loop and their seams.
        for at in 1..400 {
            let mut bytes = vec![b'.'; 400];
            bytes[at - 1] = b'\n';
            assert_eq!(dotted_line(&bytes), Some(at));
            bytes[at] = b'x';
            assert_eq!(dotted_line(&bytes), None);
            assert_eq!(dotted_line(&bytes[..at]), None);
        }
        assert_eq!(dotted_line(b""), None);
    }

    #[test]
    fn smuggled_ends_are_refused() {
        use DataError::{BareCr, BareLf};
        for (wire, error) in [
            ("a\n.\n", BareLf),
            ("a\n.\r\n", BareLf),
            ("a\r\n.\n", BareLf),
            ("a\r.\r", BareCr),
            ("a\r.\r\n", BareCr),
            ("a\r\n.\r.", BareCr),
            ("a\r\n.\r\r\n", BareCr),
            ("a\r\r\n.\r\n", BareCr),
            ("\n", BareLf),
            ("\n.\r\n", BareLf),
            (".\n", BareLf),
            ("\r.\r\n", BareCr),
            ("\r\n\n", BareLf),
            ("a\0\n.\r\n", BareLf),
            ("a\r\0\n.\r\n", BareCr),
        ] {
            for size in 1..=wire.len() {
                let got = unstuff(wire.as_bytes(), &[size]);
                assert_eq!(got, Err(error), "{wire:?} by {size}");
            }
        }
    }

    #[test]
    fn errors_last() {
        let mut unstuffer = Unstuffer::new();
        assert_eq!(unstuffer.push(b"a\nb"), Err(DataError::BareLf));
        assert_eq!(unstuffer.push(b"\r\n.\r\n"), Err(DataError::BareLf));
    }

    #[test]
    fn bare_ends_are_found_wherever_they_stand() {
        // Over the blocks of the vector loop and their seams.
        for at in 0..300 {
            for (bad, error) in [(b'\n', DataError::BareLf), (b'\r', DataError::BareCr)] {
                let mut wire = vec![b'x'; 300];
                wire[at] = bad;
                wire.extend_from_slice(b"y\r\n.\r\n");
                for sizes in [[1_000], [64], [65], [1]] {
                    assert_eq!(unstuff(&wire, &sizes), Err(error), "{bad} at {at}");
                }
            }
            let mut wire = vec![b'x'; 300];
            wire[at] = 0;
            wire[(at + 150) % 300] = 0x80;
            wire.extend_from_slice(b"\r\n.\r\n");
            let found = unstuff(&wire, &[1_000]).unwrap().2;
            assert!(found.nul && found.eight_bit && !found.long_line);
        }
    }

    #[test]
    fn long_lines_are_flagged() {
        for (length, long) in [(997, false), (998, false), (999, true), (5_000, true)] {
            let mut wire = b"first\r\n".to_vec();
            wire.extend(vec![b'x'; length]);
            wire.extend_from_slice(b"\r\n.\r\n");
            for sizes in [[10_000], [1], [999], [1_000]] {
                let found = unstuff(&wire, &sizes).unwrap().2;
                assert_eq!(found.long_line, long, "{length} by {sizes:?}");
            }
        }
    }

    #[test]
    fn nothing_is_taken_behind_the_end() {
        let mut unstuffer = Unstuffer::new();
        let part = unstuffer.push(b".\r\nQUIT\r\n").unwrap();
        assert!(part.done && part.body.is_empty());
        assert_eq!(part.consumed, 3);
        assert_eq!(unstuffer.push(b"QUIT\r\n").unwrap().consumed, 0);
    }

    #[test]
    fn bdat_counts_over_chunks() {
        let mut reader = BdatReader::new(false);
        reader.begin(3, false);
        let part = reader.push(b"ab\rBDAT").unwrap();
        assert_eq!(
            (part.body, part.consumed, part.done),
            (&b"ab\r"[..], 3, true)
        );
        // The CRLF may lie in two chunks.
        reader.begin(2, true);
        assert!(!reader.push(b"\n").unwrap().done && !reader.is_done());
        assert!(reader.push(b"c").unwrap().done && reader.is_done());
        assert_eq!(reader.findings().octets, 5);
    }

    #[test]
    fn bdat_refuses_bare_ends_unless_binary() {
        for (chunk, error) in [
            ("a\nb", DataError::BareLf),
            ("a\rb", DataError::BareCr),
            ("a\r", DataError::BareCr),
        ] {
            let mut reader = BdatReader::new(false);
            reader.begin(chunk.len() as u64, true);
            assert_eq!(reader.push(chunk.as_bytes()), Err(error), "{chunk:?}");
            assert_eq!(reader.skip(100), (chunk.len(), true));
            assert!(!reader.is_done());
            let mut reader = BdatReader::new(true);
            reader.begin(chunk.len() as u64, true);
            assert!(reader.push(chunk.as_bytes()).unwrap().done);
        }
    }

    #[test]
    fn bdat_of_nothing_ends_a_message() {
        let mut reader = BdatReader::new(false);
        reader.begin(0, true);
        let part = reader.push(b"MAIL").unwrap();
        assert_eq!((part.consumed, part.done), (0, true));
    }

    /// Octets among which dots, CRs and LFs are frequent.
    fn wire() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            4 => Just(b"\r\n".to_vec()),
            4 => Just(b".".to_vec()),
            1 => Just(b"\r".to_vec()),
            1 => Just(b"\n".to_vec()),
            4 => proptest::collection::vec(any::<u8>().prop_filter("line end", |b| !b"\r\n".contains(b)), 0..90),
            1 => (990_usize..1_010).prop_map(|n| vec![b'x'; n]),
        ];
        proptest::collection::vec(part, 0..20).prop_map(|parts| parts.concat())
    }

    /// The same without bare CR and LF.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            4 => Just(b"\r\n".to_vec()),
            4 => Just(b".".to_vec()),
            4 => proptest::collection::vec(any::<u8>().prop_filter("line end", |b| !b"\r\n".contains(b)), 0..90),
        ];
        proptest::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
    }

    fn sizes() -> impl Strategy<Value = Vec<usize>> {
        proptest::collection::vec(1_usize..200, 1..8)
    }

    proptest! {
        #[test]
        fn unstuff_inverts_stuff(body in body(), out in sizes(), into in sizes()) {
            let mut sent = stuff(&body, &out);
            prop_assert_eq!(&sent, &stuff(&body, &[usize::MAX]));
            sent.extend_from_slice(b"NEXT");
            let (mut arrived, left, found, done) = unstuff(&sent, &into).unwrap();
            prop_assert!(done);
            prop_assert_eq!(left, b"NEXT");
            prop_assert_eq!(found.octets, arrived.len() as u64);
            if !body.ends_with(b"\r\n") && !body.is_empty() {
                prop_assert!(arrived.ends_with(b"\r\n"));
                arrived.truncate(arrived.len() - 2);
            }
            prop_assert_eq!(arrived, body);
        }

        #[test]
        fn any_cut_and_the_plain_way_agree(wire in wire(), sizes in sizes()) {
            let plain = unstuff_plainly(&wire);
            // Which error comes first may hang on the cut; that there is one may not.
            for cut in [&sizes[..], &[1], &[usize::MAX]] {
                match (&plain, unstuff(&wire, cut)) {
                    (Ok(plain), Ok(got)) => prop_assert_eq!(plain, &got),
                    (Err(plain), Err(got)) => prop_assert_eq!(plain, &got),
                    (plain, got) => prop_assert!(false, "{:?} {:?}", plain, got),
                }
            }
        }

        #[test]
        fn bdat_gives_what_it_got(wire in wire(), sizes in sizes(), binary: bool) {
            let mut reader = BdatReader::new(binary);
            reader.begin(wire.len() as u64, true);
            let mut body = Vec::new();
            let mut outcome = Ok(());
            for piece in pieces(&wire, &sizes) {
                match reader.push(piece) {
                    Ok(part) => body.extend_from_slice(part.body),
                    Err(error) => outcome = Err(error),
                }
            }
            let pairs = wire.iter().filter(|b| **b == b'\r').count();
            let crlfs = wire.windows(2).filter(|w| *w == b"\r\n").count();
            let lfs = wire.iter().filter(|b| **b == b'\n').count();
            prop_assert_eq!(outcome.is_ok(), binary || pairs == crlfs && lfs == crlfs);
            if outcome.is_ok() {
                prop_assert!(reader.is_done() || wire.is_empty());
                prop_assert_eq!(body, wire);
            }
        }
    }
}
