//! Header fields (RFC 5322 2.2): an iterator over them, and the ones that we write.
//!
//! Reading: [`Header::of`] cuts a message into header and body; [`Header::fields`] walks the
//! fields on the bytes as they lie, [`Header::find`] looks one up, and [`Header::survey`] answers
//! in one pass what a relay asks of every message: how many hops, and whether Date, From and
//! Message-ID are there.
//!
//! Writing: a [`Received`] field goes into the caller's buffer with [`Received::emit`].
//!
//! ```text
//! fields = *(name *WSP ":" value CRLF)
//! value  = what follows up to a line end that no space or tab follows
//! ```
//!
//! Lines end with CRLF; a bare LF is taken as well, because files and old software have it. A line
//! that is no field (no colon, a space in the name, the `From ` of an mbox) is handed out as such
//! and the walk goes on.

use crate::limits::{HEADER_BYTES_MAX, LINE_BYTES_MAX, LINE_BYTES_WISHED, RECEIVED_MAX};
use crate::mail::address::{Domain, Mailbox};
use crate::mail::date::Date;
use crate::smtp::reply::Lossy;
use crate::smtp::{Buffer, BufferFull};
use core::fmt;
use core::net::IpAddr;

/// The header of a message, borrowed, not longer than [`HEADER_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a>(&'a [u8]);

/// The header is longer than [`HEADER_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderTooLong;

impl fmt::Display for HeaderTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the header is longer than {HEADER_BYTES_MAX} bytes")
    }
}
impl core::error::Error for HeaderTooLong {}

/// What one line with its continuations is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A field.
    Field(Field<'a>),
    /// Something else, with its line end.
    Junk(&'a [u8]),
}

/// One header field as it lies in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    name: &'a str,
    value: &'a [u8],
    raw: &'a [u8],
}

/// What a relay asks of every header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// `Received:` fields.
    pub received: usize,
    /// There is a `Date:`.
    pub date: bool,
    /// There is a `From:`.
    pub from: bool,
    /// There is a `Message-ID:`.
    pub message_id: bool,
    /// There is an octet above 127: the header needs SMTPUTF8, or is plain wrong.
    pub eight_bit: bool,
    /// Lines that are no fields.
    pub junk: usize,
}

impl Survey {
    /// More hops than any honest way has (RFC 5321 6.3): answer 5.4.6.
    pub const fn is_loop(&self) -> bool {
        self.received > RECEIVED_MAX
    }
}

impl<'a> Header<'a> {
    /// Cuts `message` into its header and what follows the empty line. Without an empty line, all
    /// of it is header.
    ///
    /// # Errors
    /// [`HeaderTooLong`] if no empty line comes within [`HEADER_BYTES_MAX`].
    pub fn of(message: &'a [u8]) -> Result<(Self, &'a [u8]), HeaderTooLong> {
        match split(message) {
            Some((header, _)) if header.len() > HEADER_BYTES_MAX => Err(HeaderTooLong),
            Some((header, body)) => Ok((Self(header), body)),
            None if message.len() > HEADER_BYTES_MAX => Err(HeaderTooLong),
            None => Ok((Self(message), &[])),
        }
    }

    /// Its bytes, without the empty line.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Its lines in order, folded ones whole.
    pub const fn lines(self) -> Lines<'a> {
        Lines(self.0)
    }

    /// Its fields in order; what is no field is left out.
    pub fn fields(self) -> impl Iterator<Item = Field<'a>> + Clone {
        self.lines().filter_map(|line| match line {
            Line::Field(field) => Some(field),
            Line::Junk(_) => None,
        })
    }

    /// The first field of this name, in any case.
    pub fn find(self, name: &str) -> Option<Field<'a>> {
        self.fields().find(|f| f.is(name))
    }

    /// What a relay asks, in one pass.
    pub fn survey(self) -> Survey {
        let mut seen = Survey {
            eight_bit: !self.0.is_ascii(),
            ..Survey::default()
        };
        for line in self.lines() {
            match line {
                Line::Junk(_) => seen.junk += 1,
                Line::Field(f) => match f.name.len() {
                    4 if f.is("date") => seen.date = true,
                    4 if f.is("from") => seen.from = true,
                    8 if f.is("received") => seen.received += 1,
                    10 if f.is("message-id") => seen.message_id = true,
                    _ => {}
                },
            }
        }
        seen
    }
}

/// Where the body begins: after the first empty line. The header keeps the end of its last line.
fn split(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut from = 0;
    loop {
        let line = message.get(from..)?;
        if let Some(body) = line.strip_prefix(b"\r\n").or(line.strip_prefix(b"\n")) {
            return Some((message.get(..from)?, body));
        }
        // One byte past the bound is enough to know that it was passed.
        if from > HEADER_BYTES_MAX {
            return Some((message.get(..from)?, line));
        }
        from += line_len(line)?;
    }
}

/// Bytes of the first line with its LF; `None` if there is no LF.
fn line_len(text: &[u8]) -> Option<usize> {
    text.iter().position(|b| *b == b'\n').map(|at| at + 1)
}

/// The lines of a header; see [`Header::lines`].
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    /// The lines of `fields`, cut out of a message by other means than [`Header::of`].
    pub const fn of(fields: &'a [u8]) -> Self {
        Self(fields)
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let mut len = 0;
        loop {
            let rest = self.0.get(len..)?;
            match line_len(rest) {
                Some(line) => len += line,
                None => {
                    len = self.0.len();
                    break;
                }
            }
            if !matches!(self.0.get(len), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (raw, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(match Field::cut(raw) {
            Some(field) => Line::Field(field),
            None => Line::Junk(raw),
        })
    }
}

impl<'a> Field<'a> {
    fn cut(raw: &'a [u8]) -> Option<Self> {
        let colon = raw.iter().position(|b| *b == b':')?;
        let (name, value) = raw.split_at_checked(colon)?;
        // RFC 5322 4.5.3: white space between name and colon is obsolete, and read.
        let name = name.trim_ascii_end();
        if name.is_empty() || !name.iter().all(|b| matches!(b, b'!'..=b'~')) {
            return None;
        }
        let value = value.get(1..)?;
        let value = value.strip_suffix(b"\n").unwrap_or(value);
        Some(Self {
            name: core::str::from_utf8(name).ok()?,
            value: value.strip_suffix(b"\r").unwrap_or(value),
            raw,
        })
    }

    /// Its name as written.
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// Whether it has this name, in any case.
    pub const fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// What follows the colon, folding and leading space included, without the last line end.
    pub const fn value(&self) -> &'a [u8] {
        self.value
    }

    /// The value without white space at its ends.
    pub const fn trimmed(&self) -> &'a [u8] {
        self.value.trim_ascii()
    }

    /// All of it, with its line end.
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The trimmed value unfolded (RFC 5322 2.2.3): the line ends taken out, the white space that
    /// follows them left.
    pub fn unfolded(&self) -> impl Iterator<Item = u8> + Clone + 'a {
        self.trimmed()
            .iter()
            .copied()
            .filter(|b| !matches!(b, b'\r' | b'\n'))
    }
}

/// How a message came, for `with` (RFC 3848, RFC 6531 3.7.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct With {
    /// LMTP rather than SMTP.
    pub lmtp: bool,
    /// EHLO rather than HELO.
    pub extended: bool,
    /// SMTPUTF8 was asked for.
    pub utf8: bool,
    /// Over TLS.
    pub tls: bool,
    /// After AUTH.
    pub auth: bool,
}

/// `SMTP`, `ESMTPSA`, `UTF8LMTPS` …
impl fmt::Display for With {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.lmtp, self.utf8, self.extended) {
            (true, true, _) => "UTF8LMTP",
            (true, false, _) => "LMTP",
            (false, true, _) => "UTF8SMTP",
            (false, false, true) => "ESMTP",
            // Plain SMTP has neither TLS nor AUTH.
            (false, false, false) => return f.write_str("SMTP"),
        })?;
        f.write_str(if self.tls { "S" } else { "" })?;
        f.write_str(if self.auth { "A" } else { "" })
    }
}

/// A `Received:` field of ours (RFC 5321 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// What the client called itself in EHLO or HELO. Untrusted.
    pub hello: &'a str,
    /// Where the connection came from; `None` for what came by another way than a socket.
    pub peer: Option<IpAddr>,
    /// The name of that address, where DNS confirmed it.
    pub peer_name: Option<&'a str>,
    /// Who we are.
    pub by: &'a str,
    /// By which protocol.
    pub with: With,
    /// Our id of the message.
    pub id: &'a str,
    /// The recipient, where there is only one: more would tell each of the others
    /// (RFC 5321 7.2).
    pub recipient: Option<Mailbox<'a>>,
    /// The TLS cipher suite (RFC 8314 4.3) and the version, such as `TLS_AES_256_GCM_SHA384` and
    /// `TLSv1.3`.
    pub tls: Option<(&'a str, &'a str)>,
    /// When the message came.
    pub date: Date,
}

impl Received<'_> {
    /// Writes the field with its line ends and says how long it is. Each clause has a line of its
    /// own; lines stay under 998 octets however long the names are.
    ///
    /// # Errors
    /// [`BufferFull`] if `out` is too short; [`RECEIVED_BYTES_MAX`] is always enough.
    ///
    /// [`RECEIVED_BYTES_MAX`]: crate::limits::RECEIVED_BYTES_MAX
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, BufferFull> {
        let mut out = Buffer::new(out);
        out.put(b"Received: from ")?;
        let utf8 = self.with.utf8;
        put_name(&mut out, self.hello, utf8)?;
        if let Some(peer) = self.peer {
            out.put(b"\r\n\t(")?;
            if let Some(name) = self.peer_name {
                put_name(&mut out, name, utf8)?;
                out.put(b" ")?;
            }
            out.put_fmt(format_args!("{})", Domain::Literal(peer.to_canonical())))?;
        }
        out.put(b"\r\n\tby ")?;
        put_name(&mut out, self.by, utf8)?;
        out.put_fmt(format_args!(" with {} id ", self.with))?;
        put_name(&mut out, self.id, utf8)?;
        if let Some(recipient) = self.recipient {
            out.put(b"\r\n\tfor <")?;
            out.put_fmt(format_args!("{recipient}"))?;
            out.put(b">")?;
        }
        if let Some((suite, version)) = self.tls {
            out.put(b"\r\n\ttls ")?;
            put_name(&mut out, suite, utf8)?;
            out.put(b" (")?;
            put_name(&mut out, version, utf8)?;
            out.put(b")")?;
        }
        out.put_fmt(format_args!(";\r\n\t{}\r\n", self.date))?;
        Ok(out.written())
    }
}

/// A name that a peer may have chosen: nothing in it may end the line, open a comment or be taken
/// for the next clause; beyond ASCII only where the header may be so (RFC 6532). Longer than a
/// domain is cut.
fn put_name(out: &mut Buffer<'_>, name: &str, utf8: bool) -> Result<(), BufferFull> {
    if name.is_empty() {
        return out.put(b"unknown");
    }
    let mut room = [0; 4];
    let mut left = crate::limits::DOMAIN_BYTES_MAX + 2;
    for c in name.chars() {
        let c = match c {
            '(' | ')' | '<' | '>' | '@' | ',' | ';' | '\\' | '"' => '?',
            c if c.is_control() || c.is_whitespace() || !(utf8 || c.is_ascii()) => '?',
            c => c,
        };
        let bytes = c.encode_utf8(&mut room).as_bytes();
        left = match left.checked_sub(bytes.len()) {
            Some(left) => left,
            None => break,
        };
        out.put(bytes)?;
    }
    Ok(())
}

/// Writes `name: value` with its line end, folded (RFC 5322 2.2.3): at spaces before column 78
/// where there are any, and in any case before 998 octets. Control characters and line ends in
/// `value` become spaces, so that no text can start a field of its own; runs of spaces become one.
///
/// # Errors
/// Those of `out`.
pub fn write_folded(out: &mut impl fmt::Write, name: &str, value: &str) -> fmt::Result {
    out.write_str(name)?;
    out.write_str(":")?;
    let mut column = name.len() + 1;
    let blank = |c: char| c == ' ' || c.is_control();
    for word in value.split(blank).filter(|w| !w.is_empty()) {
        if column + 1 + word.len() > LINE_BYTES_WISHED && column > name.len() + 1 {
            out.write_str("\r\n")?;
            column = 0;
        }
        out.write_str(" ")?;
        column += 1;
        // A word longer than a line may be is cut in two.
        for c in word.chars() {
            if column + c.len_utf8() > LINE_BYTES_MAX {
                out.write_str("\r\n ")?;
                column = 1;
            }
            out.write_char(c)?;
            column += c.len_utf8();
        }
    }
    out.write_str("\r\n")
}

impl fmt::Display for Field<'_> {
    /// Name and unfolded value on one line, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, Lossy(self.trimmed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::RECEIVED_BYTES_MAX;
    use crate::time::Wall;
    use proptest::prelude::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    const MESSAGE: &[u8] = b"From old@mbox Thu Jan  1 00:00:00 1970\r\n\
        Received: from a\r\n\tby b;\r\n Thu, 1 Jan 1970 00:00:00 +0000\r\n\
        received : second\r\n\
        Subject:\r\n\
        X-Folded: one\r\n  two\r\n\
        no colon here\r\n\
        Date: x\r\n\
        \r\n\
        Message-ID: <in the body>\r\n";

    #[test]
    fn walks_the_fields() {
        let (header, body) = Header::of(MESSAGE).unwrap();
        assert_eq!(body, b"Message-ID: <in the body>\r\n");
        let names: Vec<&str> = header.fields().map(|f| f.name()).collect();
        assert_eq!(
            names,
            ["Received", "received", "Subject", "X-Folded", "Date"]
        );
        let folded = header.find("x-folded").unwrap();
        assert_eq!(folded.value(), b" one\r\n  two");
        assert_eq!(folded.raw(), b"X-Folded: one\r\n  two\r\n");
        assert_eq!(folded.unfolded().collect::<Vec<u8>>(), b"one  two");
        assert_eq!(header.find("subject").unwrap().value(), b"");
        assert_eq!(header.find("nothing"), None);
        assert_eq!(
            header.survey(),
            Survey {
                received: 2,
                date: true,
                junk: 2,
                ..Survey::default()
            }
        );
    }

    #[test]
    fn ends_of_headers() {
        for (message, header, body) in [
            (&b""[..], &b""[..], &b""[..]),
            (b"\r\n", b"", b""),
            (b"\r\nbody", b"", b"body"),
            (b"A: b", b"A: b", b""),
            (b"A: b\r\n", b"A: b\r\n", b""),
            (b"A: b\r\n\r\n", b"A: b\r\n", b""),
            (b"A: b\n\nbody", b"A: b\n", b"body"),
            // A line of spaces continues the field before it.
            (b"A: b\r\n \r\n\r\nc", b"A: b\r\n \r\n", b"c"),
        ] {
            let (h, b) = Header::of(message).unwrap();
            assert_eq!((h.as_bytes(), b), (header, body));
        }
    }

    #[test]
    fn too_long() {
        let field = b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n";
        let mut message = Vec::new();
        while message.len() + field.len() <= HEADER_BYTES_MAX {
            message.extend_from_slice(field);
        }
        let mut fits = message.clone();
        fits.extend_from_slice(b"\r\nbody");
        assert!(Header::of(&fits).is_ok());
        message.extend_from_slice(field);
        assert_eq!(Header::of(&message), Err(HeaderTooLong));
        message.extend_from_slice(b"\r\nbody");
        assert_eq!(Header::of(&message), Err(HeaderTooLong));
        assert_eq!(
            Header::of(&std::vec![b'x'; HEADER_BYTES_MAX + 1]),
            Err(HeaderTooLong)
        );
    }

    #[test]
    fn loops() {
        let seen = |received| Survey {
            received,
            ..Survey::default()
        };
        assert!(!seen(RECEIVED_MAX).is_loop());
        assert!(seen(RECEIVED_MAX + 1).is_loop());
    }

    fn received<'a>() -> Received<'a> {
        Received {
            hello: "client.example",
            peer: Some("192.0.2.1".parse().unwrap()),
            peer_name: Some("host.client.example"),
            by: "mx.example",
            with: With {
                extended: true,
                tls: true,
                auth: true,
                ..With::default()
            },
            id: "0123456789abc",
            recipient: Some(Mailbox::parse("a@b.example").unwrap()),
            tls: Some(("TLS_AES_256_GCM_SHA384", "TLSv1.3")),
            date: Date::utc(Wall::from_unix(0)),
        }
    }

    fn emitted(field: &Received<'_>) -> String {
        let mut out = [0; RECEIVED_BYTES_MAX];
        let len = field.emit(&mut out).unwrap();
        String::from_utf8(out[..len].into()).unwrap()
    }

    #[test]
    fn received_in_full() {
        assert_eq!(
            emitted(&received()),
            "Received: from client.example\r\n\
             \t(host.client.example [192.0.2.1])\r\n\
             \tby mx.example with ESMTPSA id 0123456789abc\r\n\
             \tfor <a@b.example>\r\n\
             \ttls TLS_AES_256_GCM_SHA384 (TLSv1.3);\r\n\
             \tThu, 1 Jan 1970 00:00:00 +0000\r\n"
        );
    }

    #[test]
    fn received_in_short() {
        let short = Received {
            hello: "[IPv6:2001:db8::1]",
            peer: Some("2001:db8::1".parse().unwrap()),
            peer_name: None,
            with: With::default(),
            recipient: None,
            tls: None,
            ..received()
        };
        assert_eq!(
            emitted(&short),
            "Received: from [IPv6:2001:db8::1]\r\n\
             \t([IPv6:2001:db8::1])\r\n\
             \tby mx.example with SMTP id 0123456789abc;\r\n\
             \tThu, 1 Jan 1970 00:00:00 +0000\r\n"
        );
    }

    #[test]
    fn every_protocol_name() {
        // The IANA registry "Mail Transmission Types", WITH protocol types.
        let names: Vec<String> = (0..32u8)
            .map(|n| {
                With {
                    lmtp: n & 16 != 0,
                    utf8: n & 8 != 0,
                    extended: n & 4 != 0,
                    tls: n & 2 != 0,
                    auth: n & 1 != 0,
                }
                .to_string()
            })
            .collect();
        for name in [
            "SMTP",
            "ESMTP",
            "ESMTPA",
            "ESMTPS",
            "ESMTPSA",
            "LMTP",
            "LMTPA",
            "LMTPS",
            "LMTPSA",
            "UTF8SMTP",
            "UTF8SMTPA",
            "UTF8SMTPS",
            "UTF8SMTPSA",
            "UTF8LMTP",
            "UTF8LMTPA",
            "UTF8LMTPS",
            "UTF8LMTPSA",
        ] {
            assert!(names.iter().any(|n| n == name), "{name}");
        }
    }

    #[test]
    fn the_longest_received_fits() {
        let name = "ü".repeat(400);
        let local = "l".repeat(64);
        let domain = [["d"; 63].concat(), ["e"; 63].concat(), ["f"; 60].concat()].join(".");
        let address = std::format!("{local}@{domain}");
        let long = Received {
            hello: &name,
            peer: Some("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()),
            peer_name: Some(&name),
            by: &name,
            id: &name,
            tls: Some((&name, "TLSv1.3")),
            recipient: Some(Mailbox::parse(&address).unwrap()),
            ..received()
        };
        let text = emitted(&long);
        assert!(text.lines().all(|l| l.len() <= 998));
    }

    #[test]
    fn folds() {
        let folded = |value: &str| {
            let mut out = String::new();
            write_folded(&mut out, "Diagnostic-Code", value).unwrap();
            out
        };
        assert_eq!(folded(""), "Diagnostic-Code:\r\n");
        assert_eq!(
            folded("smtp; 550\r\nBcc: x@y"),
            "Diagnostic-Code: smtp; 550 Bcc: x@y\r\n"
        );
        assert_eq!(
            folded("smtp; 550-5.1.1 The email account that you tried to reach does not exist"),
            "Diagnostic-Code: smtp; 550-5.1.1 The email account that you tried to reach\r\n \
             does not exist\r\n"
        );
        let long = folded(&"x".repeat(3000));
        assert!(long.lines().all(|l| l.len() <= 998) && long.lines().count() == 4);
    }

    proptest! {
        /// Whatever a text says, it stays one field, its lines short, its words whole.
        #[test]
        fn folding_keeps_words(value in "([!-~ü]{0,90}[ \r\n\t]{0,3}){0,20}") {
            let mut out = String::new();
            write_folded(&mut out, "X", &value).unwrap();
            let header = Header(out.as_bytes());
            prop_assert_eq!(header.lines().count(), 1);
            prop_assert!(out.split("\r\n").all(|l| l.len() <= 998));
            let field = header.find("X").unwrap();
            let back = String::from_utf8(field.unfolded().collect()).unwrap();
            let words: Vec<&str> = value.split_ascii_whitespace().collect();
            prop_assert_eq!(back, words.join(" "));
        }

        /// The lines of a header are all of it, in order.
        #[test]
        fn nothing_is_lost(text in "([A-Z a-z:\t]{0,10}\r?\n){0,8}[a-z:]{0,5}") {
            let header = Header(text.as_bytes());
            let all: Vec<u8> = header.lines().flat_map(|l| match l {
                Line::Field(f) => f.raw().to_vec(),
                Line::Junk(raw) => raw.to_vec(),
            }).collect();
            prop_assert_eq!(all, text.as_bytes());
        }

        #[test]
        fn any_message(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (header, body) = Header::of(&bytes).unwrap();
            prop_assert!(header.as_bytes().len() + body.len() <= bytes.len());
            let _ = header.survey();
        }

        /// Whatever a client calls itself, the field stays one field with our clauses.
        #[test]
        fn hostile_names(hello in "\\PC*|[\r\n\t ();<>a-z]*", id in "[\r\n a-z]*") {
            let field = Received { hello: &hello, id: &id, ..received() };
            let text = emitted(&field);
            let lines: Vec<Line<'_>> = Header(text.as_bytes()).lines().collect();
            prop_assert_eq!(lines.len(), 1);
            prop_assert_eq!(text.matches("\r\n").count(), 6);
            prop_assert_eq!(text.matches(';').count(), 1);
        }
    }
}
