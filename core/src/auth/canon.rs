//! Canonicalization (RFC 6376 3.4): the form of header fields and bodies that is hashed.
//!
//! A body goes through [`Body`] slice by slice as it comes from the network; any split gives the
//! same bytes. What it hands on are slices of the input, as long as they can be, and a few static
//! ones; it allocates nothing. [`field`] does the same for one header field.
//!
//! ```
//! use courser_core::auth::canon::{Body, Canon};
//! let mut out = Vec::new();
//! let mut body = Body::new(Canon::Relaxed);
//! for piece in [b" C \r\nD \t E\r" as &[u8], b"\n\r\n\r\n"] {
//!     body.update(piece, |bytes| out.extend_from_slice(bytes));
//! }
//! body.finish(|bytes| out.extend_from_slice(bytes));
//! assert_eq!(out, b" C\r\nD E\r\n");
//! ```
//!
//! **What a line is.** A line ends with CRLF (RFC 6376 2.8, 3.4). A CR or an LF alone is an octet
//! like any other: it is hashed as it is, it ends no line, and white space before it stays. To take
//! a bare LF for a line end would give two different messages one hash, and receivers disagree
//! about where such lines end, which is what smuggling lives of; mail that we take in has none
//! ([`smtp::data`](crate::smtp::data)).
//!
//! **A body that does not end with CRLF** is treated as if it did, by both algorithms: 3.4.3 and
//! 3.4.4 say so, and a last line of nothing but white space is then an empty line.

use core::fmt;
use memchr::memchr;

/// One of the two algorithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Canon {
    /// Nothing changes but the empty lines at the end of a body (RFC 6376 3.4.1, 3.4.3).
    #[default]
    Simple,
    /// Case of names, folding, and amounts of white space don't matter (RFC 6376 3.4.2, 3.4.4).
    Relaxed,
}

impl Canon {
    /// The algorithm of this name in `c=`, in any case.
    pub fn parse(name: &[u8]) -> Option<Self> {
        if name.eq_ignore_ascii_case(b"simple") {
            Some(Self::Simple)
        } else if name.eq_ignore_ascii_case(b"relaxed") {
            Some(Self::Relaxed)
        } else {
            None
        }
    }
}

impl fmt::Display for Canon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Simple => "simple",
            Self::Relaxed => "relaxed",
        })
    }
}

/// Canonicalizes one body as it comes.
///
/// Order of calls: [`update`](Self::update) with each piece, then [`finish`](Self::finish).
#[derive(Clone, Debug)]
pub struct Body {
    canon: Canon,
    /// Line ends that were seen and not handed on: they may be the body's last.
    line_ends: u64,
    /// White space was seen after them that may be the line's last. Relaxed only.
    blank: bool,
    /// A CR was seen after that, which may be half of a line end.
    cr: bool,
    /// Something was handed on.
    begun: bool,
}

impl Body {
    /// An empty body.
    pub const fn new(canon: Canon) -> Self {
        Self {
            canon,
            line_ends: 0,
            blank: false,
            cr: false,
            begun: false,
        }
    }

    /// Takes the next piece and gives what is certain of the canonical form to `sink`.
    pub fn update(&mut self, piece: &[u8], mut sink: impl FnMut(&[u8])) {
        let mut piece = piece;
        if self.cr {
            match piece.split_first() {
                None => return,
                Some((b'\n', rest)) => {
                    self.end_line();
                    piece = rest;
                }
                Some(_) => self.bare_cr(&mut sink),
            }
        }
        match self.canon {
            Canon::Simple => self.simple(piece, &mut sink),
            Canon::Relaxed => self.relaxed(piece, &mut sink),
        }
    }

    /// The body is over; gives what was held back to `sink`.
    pub fn finish(mut self, mut sink: impl FnMut(&[u8])) {
        if self.cr {
            self.bare_cr(&mut sink);
        }
        // 3.4.3: an empty body is one line end. 3.4.4: an empty body is nothing.
        if self.begun || self.canon == Canon::Simple {
            sink(b"\r\n");
        }
    }

    fn end_line(&mut self) {
        self.cr = false;
        self.blank = false;
        self.line_ends = self.line_ends.saturating_add(1);
    }

    /// The CR that was held back is an octet like any other.
    fn bare_cr(&mut self, sink: &mut impl FnMut(&[u8])) {
        self.cr = false;
        self.flush(sink);
        sink(b"\r");
    }

    /// An octet of content follows: what was held back counts.
    fn flush(&mut self, sink: &mut impl FnMut(&[u8])) {
        const LINE_ENDS: [u8; 64] =
            *b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\
            \r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n";
        self.begun = true;
        while self.line_ends > 0 {
            let lines = self.line_ends.min(LINE_ENDS.len() as u64 / 2);
            let bytes = usize::try_from(lines * 2).unwrap_or(LINE_ENDS.len());
            sink(LINE_ENDS.get(..bytes).unwrap_or(&LINE_ENDS));
            self.line_ends -= lines;
        }
        if self.blank {
            self.blank = false;
            sink(b" ");
        }
    }

    /// 3.4.3: all but the line ends at the end.
    fn simple(&mut self, piece: &[u8], sink: &mut impl FnMut(&[u8])) {
        let (rest, cr) = match piece.strip_suffix(b"\r") {
            Some(rest) => (rest, true),
            None => (piece, false),
        };
        let (content, line_ends) = strip_line_ends(rest);
        if !content.is_empty() {
            self.flush(sink);
            sink(content);
        }
        self.line_ends = self.line_ends.saturating_add(line_ends);
        self.cr = cr;
    }

    /// 3.4.4.
    fn relaxed(&mut self, piece: &[u8], sink: &mut impl FnMut(&[u8])) {
        let mut rest = piece;
        while let Some(first) = rest.first() {
            match first {
                b' ' | b'\t' => {
                    self.blank = true;
                    rest = rest.get(blanks(rest, 0)..).unwrap_or(&[]);
                }
                b'\r' => match rest.get(1) {
                    None => {
                        self.cr = true;
                        return;
                    }
                    Some(b'\n') => {
                        self.end_line();
                        rest = rest.get(2..).unwrap_or(&[]);
                    }
                    Some(_) => {
                        self.bare_cr(sink);
                        rest = rest.get(1..).unwrap_or(&[]);
                    }
                },
                _ => {
                    self.flush(sink);
                    rest = self.content(rest, sink);
                }
            }
        }
    }

    /// Hands on from a first octet of content as far as it is certain, in slices that are as long
    /// as they can be, and returns the rest, of which nothing was handed on.
    fn content<'a>(&mut self, text: &'a [u8], sink: &mut impl FnMut(&[u8])) -> &'a [u8] {
        let part = |from: usize, to: usize| text.get(from..to).unwrap_or(&[]);
        let mut start = 0;
        let mut at = 0;
        loop {
            let stop = change(text, at);
            let after = blanks(text, stop);
            let certain = match text.get(after) {
                // The white space is one blank within a line, and the line ends before it, if any,
                // are not the body's last.
                Some(next) if *next != b'\r' && after > stop => {
                    sink(part(start, stop));
                    start = match text.get(after - 1) {
                        Some(b' ') => after - 1,
                        _ => {
                            sink(b" ");
                            after
                        }
                    };
                    at = after;
                    continue;
                }
                Some(_) => part(start, stop),
                // The end of the piece.
                None if after > stop => part(start, stop),
                None => part(start, stop)
                    .strip_suffix(b"\r")
                    .unwrap_or(part(start, stop)),
            };
            let (content, _) = strip_line_ends(certain);
            if !content.is_empty() {
                sink(content);
            }
            return text.get(start + content.len()..).unwrap_or(&[]);
        }
    }
}

/// `text` without the line ends at its end, and how many they were.
fn strip_line_ends(text: &[u8]) -> (&[u8], u64) {
    let mut content = text;
    let mut line_ends = 0;
    while let Some(shorter) = content.strip_suffix(b"\r\n") {
        content = shorter;
        line_ends += 1;
    }
    (content, line_ends)
}

/// Where the run of white space that starts `at` ends.
fn blanks(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or(&[]);
    at + rest
        .iter()
        .position(|b| !matches!(b, b' ' | b'\t'))
        .unwrap_or(rest.len())
}

/// Whether white space starts here that is not one space within a line, or may not be.
const fn changes(here: u8, next: u8) -> bool {
    // No shortcuts: the compiler makes vectors of this.
    (here == b'\t') | ((here == b' ') & ((next == b' ') | (next == b'\t') | (next == b'\r')))
}

/// Where white space starts, from `at` on, that is more than one space within a line, or that may
/// be the line's last; the end of `text` if there is none.
///
/// In prose and base64 such places are rare and single spaces are not, so long blocks are only asked
/// whether they have one; in HTML with its indents the next is near, so that words come first.
fn change(text: &[u8], at: usize) -> usize {
    let mut at = at;
    for _ in 0..WORDS_FIRST {
        match in_word(text, at) {
            Some(PLACES) => at += PLACES,
            Some(found) => return at + found,
            None => break,
        }
    }
    while in_block::<128>(text, at) == Some(false) {
        at += 128;
    }
    while let Some(found) = in_word(text, at) {
        if found < PLACES {
            return at + found;
        }
        at += PLACES;
    }
    let rest = text.get(at..).unwrap_or(&[]);
    let next = rest.get(1..).unwrap_or(&[]).iter().copied();
    // What follows the piece may be anything.
    at + rest
        .iter()
        .zip(next.chain(core::iter::once(b'\r')))
        .position(|(h, n)| changes(*h, n))
        .unwrap_or(rest.len())
}

/// Whether one of the `N` octets from `at` on changes; `None` where there are fewer.
fn in_block<const N: usize>(text: &[u8], at: usize) -> Option<bool> {
    let here = text.get(at..)?.first_chunk::<N>()?;
    let next = text.get(at + 1..)?.first_chunk::<N>()?;
    let found = here
        .iter()
        .zip(next)
        .fold(0, |found, (h, n)| found | u8::from(changes(*h, *n)));
    Some(found != 0)
}

/// Words that are looked at before blocks are.
const WORDS_FIRST: usize = 8;
/// Octets of a word that have their next in it.
const PLACES: usize = 7;

/// Which of the [`PLACES`] octets from `at` on is the first that [`changes`]; `PLACES` if none is,
/// `None` where there are fewer. All of them at once, in the octets of a word.
fn in_word(text: &[u8], at: usize) -> Option<usize> {
    const LOW: u64 = u64::from_ne_bytes([0x7f; 8]);
    let word = u64::from_le_bytes(*text.get(at..)?.first_chunk()?);
    // The high bit of each octet that is this one.
    let is = |octet: u8| {
        let other = word ^ u64::from_ne_bytes([octet; 8]);
        !(((other & LOW) + LOW) | other | LOW)
    };
    let (tab, space) = (is(b'\t'), is(b' '));
    let next = (tab | space | is(b'\r')) >> 8;
    let found = tab | (space & next);
    Some((found.trailing_zeros() as usize / 8).min(PLACES))
}

/// Gives the canonical form of one header field to `sink`, with its line end. `raw` is the field as
/// it lies in the message ([`Field::raw`](crate::mail::header::Field::raw)).
pub fn field(canon: Canon, raw: &[u8], mut sink: impl FnMut(&[u8])) {
    match canon {
        Canon::Simple => {
            sink(raw);
            // The last line of a message that was cut off.
            if !raw.ends_with(b"\n") {
                sink(b"\r\n");
            }
        }
        Canon::Relaxed => {
            relaxed_field(raw, 0..0, &mut sink);
            sink(b"\r\n");
        }
    }
}

/// As [`field`], without the octets of `raw` in `left_out` and without the last line end: a
/// signature field as it signs itself (RFC 6376 3.7).
pub(crate) fn signature_field(
    canon: Canon,
    raw: &[u8],
    left_out: core::ops::Range<usize>,
    mut sink: impl FnMut(&[u8]),
) {
    match canon {
        Canon::Simple => {
            let raw = without_line_end(raw);
            sink(raw.get(..left_out.start).unwrap_or(raw));
            sink(raw.get(left_out.end..).unwrap_or(&[]));
        }
        Canon::Relaxed => relaxed_field(raw, left_out, &mut sink),
    }
}

fn without_line_end(raw: &[u8]) -> &[u8] {
    let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
    raw.strip_suffix(b"\r").unwrap_or(raw)
}

/// 3.4.2, without the line end.
fn relaxed_field(raw: &[u8], left_out: core::ops::Range<usize>, sink: &mut impl FnMut(&[u8])) {
    let raw = without_line_end(raw);
    let colon = memchr(b':', raw).unwrap_or(raw.len());
    let name = raw.get(..colon).unwrap_or(&[]).trim_ascii();
    for part in name.chunks(32) {
        let mut lower = [0; 32];
        if let Some(lower) = lower.get_mut(..part.len()) {
            lower.copy_from_slice(part);
            lower.make_ascii_lowercase();
            sink(lower);
        }
    }
    sink(b":");
    let mut value = Value::default();
    let from = colon + 1;
    if left_out.start < from {
        value.update(raw.get(from..).unwrap_or(&[]), sink);
    } else {
        value.update(raw.get(from..left_out.start).unwrap_or(&[]), sink);
        value.update(raw.get(left_out.end..).unwrap_or(&[]), sink);
    }
}

/// The value of a header field, relaxed.
#[derive(Default)]
struct Value {
    blank: bool,
    begun: bool,
}

impl Value {
    fn update(&mut self, text: &[u8], sink: &mut impl FnMut(&[u8])) {
        let (mut at, mut line_end) = (0, 0);
        while let Some(first) = text.get(at) {
            at = match first {
                b' ' | b'\t' => {
                    self.blank = true;
                    blanks(text, at)
                }
                // Unfolding takes the line end and leaves the white space behind it.
                b'\r' if text.get(at + 1) == Some(&b'\n') => at + 2,
                _ => {
                    if self.blank && self.begun {
                        sink(b" ");
                    }
                    self.blank = false;
                    self.begun = true;
                    // Looked for once a line: a line may be long and have many words.
                    if line_end <= at {
                        let rest = text.get(at + 1..).unwrap_or(&[]);
                        line_end = memchr(b'\r', rest).map_or(text.len(), |cr| at + 1 + cr);
                    }
                    let line = text.get(..line_end).unwrap_or(text);
                    let end = change(line, at);
                    sink(line.get(at..end).unwrap_or(&[]));
                    end
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn body(canon: Canon, pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut body = Body::new(canon);
        for piece in pieces {
            body.update(piece, |bytes| out.extend_from_slice(bytes));
        }
        body.finish(|bytes| out.extend_from_slice(bytes));
        out
    }

    fn header(canon: Canon, raw: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        field(canon, raw, |bytes| out.extend_from_slice(bytes));
        out
    }

    /// The rules one after the other, on lines.
    fn plain(canon: Canon, body: &[u8]) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = Vec::from([Vec::new()]);
        let mut bytes = body.iter().peekable();
        while let Some(b) = bytes.next() {
            if *b == b'\r' && bytes.peek() == Some(&&b'\n') {
                bytes.next();
                lines.push(Vec::new());
            } else if let Some(line) = lines.last_mut() {
                line.push(*b);
            }
        }
        if canon == Canon::Relaxed {
            for line in &mut lines {
                for b in line.iter_mut() {
                    *b = if *b == b'\t' { b' ' } else { *b };
                }
                line.dedup_by(|a, b| *a == b' ' && *b == b' ');
                if line.ends_with(b" ") {
                    line.pop();
                }
            }
        }
        while lines.last().is_some_and(Vec::is_empty) {
            lines.pop();
        }
        let mut out = Vec::new();
        for line in &lines {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
        if canon == Canon::Simple && out.is_empty() {
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    #[test]
    fn examples_of_rfc_6376() {
        // 3.4.5.
        let fields: [&[u8]; 2] = [b"A: X\r\n", b"B : Y\t\r\n\tZ  \r\n"];
        assert_eq!(header(Canon::Relaxed, fields[0]), b"a:X\r\n");
        assert_eq!(header(Canon::Relaxed, fields[1]), b"b:Y Z\r\n");
        assert_eq!(header(Canon::Simple, fields[1]), fields[1]);
        let text: &[u8] = b" C \r\nD \t E\r\n\r\n\r\n";
        assert_eq!(body(Canon::Relaxed, &[text]), b" C\r\nD E\r\n");
        assert_eq!(body(Canon::Simple, &[text]), b" C \r\nD \t E\r\n");
    }

    #[test]
    fn empty_and_unfinished_bodies() {
        for (text, simple, relaxed) in [
            (b"" as &[u8], b"\r\n" as &[u8], b"" as &[u8]),
            (b"\r\n\r\n", b"\r\n", b""),
            (b"a", b"a\r\n", b"a\r\n"),
            (b"a \t", b"a \t\r\n", b"a\r\n"),
            (b" ", b" \r\n", b""),
            (b" \r\n\t\r\n", b" \r\n\t\r\n", b""),
            (b"\r", b"\r\r\n", b"\r\r\n"),
            (b"a\nb \n", b"a\nb \n\r\n", b"a\nb \n\r\n"),
            (b"a \rb\r\r\n", b"a \rb\r\r\n", b"a \rb\r\r\n"),
            (b"\r\n\r\na", b"\r\n\r\na\r\n", b"\r\n\r\na\r\n"),
        ] {
            assert_eq!(body(Canon::Simple, &[text]), simple, "{text:?}");
            assert_eq!(body(Canon::Relaxed, &[text]), relaxed, "{text:?}");
        }
    }

    #[test]
    fn odd_fields() {
        for (raw, relaxed) in [
            (b"SUBJECT:\r\n" as &[u8], b"subject:\r\n" as &[u8]),
            (b"Subject \t:  a  b\t c \r\n", b"subject:a b c\r\n"),
            (b"Subject:\r\n a\r\n\t b\r\n \r\n", b"subject:a b\r\n"),
            (b"Subject: a:b", b"subject:a:b\r\n"),
            (b"Subject: a\rb\r\n", b"subject:a\rb\r\n"),
            (b"Subject: \xc3\x9f\n", b"subject:\xc3\x9f\r\n"),
            (b"no colon\r\n", b"no colon:\r\n"),
        ] {
            assert_eq!(header(Canon::Relaxed, raw), relaxed, "{raw:?}");
        }
        let mut out = Vec::new();
        signature_field(Canon::Relaxed, b"X: a; b = c d ; e\r\n", 9..14, |bytes| {
            out.extend_from_slice(bytes);
        });
        assert_eq!(out, b"x:a; b =; e");
        out.clear();
        signature_field(Canon::Simple, b"X: a; b = c d ; e\r\n", 9..14, |bytes| {
            out.extend_from_slice(bytes);
        });
        assert_eq!(out, b"X: a; b =; e");
    }

    /// 3.4.2, one rule after the other.
    fn plain_field(raw: &[u8]) -> Vec<u8> {
        let mut unfolded: Vec<u8> = Vec::new();
        let mut bytes = without_line_end(raw).iter().peekable();
        while let Some(b) = bytes.next() {
            if *b == b'\r' && bytes.peek() == Some(&&b'\n') {
                bytes.next();
            } else {
                unfolded.push(if *b == b'\t' { b' ' } else { *b });
            }
        }
        unfolded.dedup_by(|a, b| *a == b' ' && *b == b' ');
        let colon = unfolded.iter().position(|b| *b == b':').unwrap();
        let (name, value) = unfolded.split_at(colon);
        let trim = |text: &[u8]| {
            let from = text.iter().position(|b| *b != b' ').unwrap_or(text.len());
            let to = text
                .iter()
                .rposition(|b| *b != b' ')
                .map_or(from, |at| at + 1);
            text[from..to].to_vec()
        };
        [
            &trim(&name.to_ascii_lowercase()),
            b":" as &[u8],
            &trim(&value[1..]),
            b"\r\n",
        ]
        .concat()
    }

    /// Bodies of little more than what matters, so that every combination comes.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let token = prop_oneof![
            Just(b" " as &[u8]),
            Just(b"\t" as &[u8]),
            Just(b"\r\n" as &[u8]),
            Just(b"\r" as &[u8]),
            Just(b"\n" as &[u8]),
            Just(b"a" as &[u8]),
            Just(b"words of one line, long enough for a block or two of the fast path, and more of it; \
                   the next line would be this one if there were one, but there is none." as &[u8]),
        ];
        proptest::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #[test]
        fn change_as_octet_by_octet(
            words in proptest::collection::vec("[a-z\\x80 \\t\\r\\n!\\x00]{1,4}|[a-z]{20}", 0..40),
            at in 0..20_usize,
        ) {
            let text = words.concat().into_bytes();
            let at = at.min(text.len());
            let found = (at..text.len())
                .find(|n| changes(text[*n], *text.get(n + 1).unwrap_or(&b'\r')));
            prop_assert_eq!(change(&text, at), found.unwrap_or(text.len()));
        }

        #[test]
        fn any_split_is_as_plain_as_the_rules(
            text in text(),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|i| i.index(text.len() + 1)).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&text[from..cut]);
                from = cut;
            }
            pieces.push(&text[from..]);
            for canon in [Canon::Simple, Canon::Relaxed] {
                prop_assert_eq!(body(canon, &pieces), plain(canon, &text));
            }
        }

        #[test]
        fn byte_by_byte_is_the_same(text in text()) {
            let pieces: Vec<&[u8]> = text.chunks(1).collect();
            for canon in [Canon::Simple, Canon::Relaxed] {
                prop_assert_eq!(body(canon, &pieces), plain(canon, &text));
            }
        }

        #[test]
        fn any_field_is_as_plain_as_the_rules(value in text()) {
            let raw = [b"Name:" as &[u8], &value, b"x\r\n"].concat();
            prop_assert_eq!(header(Canon::Relaxed, &raw), plain_field(&raw));
        }

        /// What is canonical stays as it is.
        #[test]
        fn canonical_once_is_canonical(text in text()) {
            let once = body(Canon::Relaxed, &[&text]);
            prop_assert_eq!(&body(Canon::Relaxed, &[&once]), &once);
        }
    }
}
