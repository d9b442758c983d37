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
use memchr::{memmem, memrchr};

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
        let end = match memmem::find(self.rest, b"\n.") {
            Some(lf) => {
                self.dot = true;
                lf + 1
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
    /// Compares each octet with the one behind it, in blocks that the compiler makes vectors of.
    fn of(part: &[u8]) -> Self {
        const BLOCK: usize = 64;
        let next = part.get(1..).unwrap_or(&[]);
        let (mut high, mut nul, mut unpaired) = (0_u8, 0_u8, 0_u8);
        let mut blocks = part.chunks_exact(BLOCK).zip(next.chunks_exact(BLOCK));
        let mut look = |a: &[u8], b: &[u8]| {
            for (&a, &b) in a.iter().zip(b) {
                high |= a;
                nul |= u8::from(a == 0);
                unpaired |= u8::from(a == b'\r') ^ u8::from(b == b'\n');
            }
        };
        let mut done = 0;
        for (a, b) in &mut blocks {
            look(a, b);
            done += BLOCK;
        }
        look(
            part.get(done..).unwrap_or(&[]),
            next.get(done..).unwrap_or(&[]),
        );
        // The last octet has none behind it.
        let last = part.last().copied().unwrap_or(1);
        Self {
            eight_bit: (high | last) & 0x80 != 0,
            nul: nul != 0 || last == 0,
            unpaired: unpaired != 0,
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
        let end = memmem::find(rest, b"\n.").map_or(rest.len(), |lf| lf + 1);
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
    /// [`DataError`], and the same for every later push. The chunk's end is still known: skip
    /// [`BdatReader::remaining`] octets, answer with an error, and go on.
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
