//! Command lines: CRLF and nothing else ends one (RFC 5321 2.3.8, 4.1.1).

/// The first line of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'b> {
    /// A line without its CRLF, and its length with it.
    Whole(&'b [u8], usize),
    /// No line end yet.
    Partial,
    /// Longer than allowed; so many bytes of it are known not to hold its end.
    TooLong(usize),
    /// A CR without LF or an LF without CR.
    Bare,
}

/// Finds the first line of `input`, at most `max` bytes with its CRLF. The result depends only
/// on the bytes of the line, not on how much of it has come.
pub(super) fn first(input: &[u8], max: usize) -> Line<'_> {
    let window = input.get(..max).unwrap_or(input);
    let Some(at) = terminator(window) else {
        return if window.len() == max {
            Line::TooLong(max)
        } else {
            Line::Partial
        };
    };
    if window.get(at) == Some(&b'\n') {
        return Line::Bare;
    }
    if at + 2 > max {
        return Line::TooLong(at);
    }
    match input.get(at + 1) {
        Some(b'\n') => Line::Whole(input.get(..at).unwrap_or_default(), at + 2),
        Some(_) => Line::Bare,
        None => Line::Partial,
    }
}

/// Where the rest of an over-long line ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// The line goes on after so many bytes.
    More(usize),
    /// The line end is before so many bytes.
    End(usize),
    /// A bare CR or LF after so many bytes.
    Bare(usize),
}

/// Looks for the end of the line that `input` is in the middle of.
pub(super) fn rest(input: &[u8]) -> Rest {
    let Some(at) = terminator(input) else {
        return Rest::More(input.len());
    };
    match (input.get(at), input.get(at + 1)) {
        (Some(b'\r'), Some(b'\n')) => Rest::End(at + 2),
        (Some(b'\r'), None) => Rest::More(at),
        _ => Rest::Bare(at),
    }
}

fn terminator(input: &[u8]) -> Option<usize> {
    memchr::memchr2(b'\r', b'\n', input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (input, want) in [
            (&b"NOOP\r\nx"[..], Line::Whole(b"NOOP", 6)),
            (b"\r\n", Line::Whole(b"", 2)),
            (b"123456\r\n", Line::Whole(b"123456", 8)),
            (b"NOOP\r", Line::Partial),
            (b"NOOP", Line::Partial),
            (b"", Line::Partial),
            (b"NO\nOP\r\n", Line::Bare),
            (b"NO\rOP\r\n", Line::Bare),
            (b"NOOP\n", Line::Bare),
            (b"\r\r\n", Line::Bare),
            (b"1234567\r", Line::TooLong(7)),
            (b"1234567\r\n", Line::TooLong(7)),
            (b"12345678\r\n", Line::TooLong(8)),
            (b"1234567", Line::Partial),
        ] {
            assert_eq!(first(input, 8), want, "{input:?}");
        }
    }

    #[test]
    fn rests() {
        for (input, want) in [
            (&b"abc\r\nx"[..], Rest::End(5)),
            (b"abc", Rest::More(3)),
            (b"abc\r", Rest::More(3)),
            (b"\r", Rest::More(0)),
            (b"a\nb", Rest::Bare(1)),
            (b"a\rb", Rest::Bare(1)),
        ] {
            assert_eq!(rest(input), want, "{input:?}");
        }
    }
}
