//! The differences that we know and stand by.

use super::streams::Stream;

/// A difference between Postfix and Courser that we stand by.
pub(super) struct Known {
    /// How Postfix's reply begins; empty: none came any more.
    pub(super) postfix: &'static str,
    /// How Courser's begins; empty: none came any more.
    pub(super) courser: &'static str,
    /// Why Courser's is right, or good enough.
    pub(super) because: &'static str,
    /// Only where there is a BDAT in the stream.
    bdat: bool,
    /// Both go on as they were, so that what follows can be compared reply by reply.
    pub(super) goes_on: bool,
    /// Why messages that only one of them takes may follow, where Courser has not refused.
    pub(super) more: Option<&'static str>,
}

impl Known {
    const fn with_bdat(self) -> Self {
        Self { bdat: true, ..self }
    }

    const fn goes_on(self) -> Self {
        Self {
            goes_on: true,
            ..self
        }
    }

    const fn more(self, because: &'static str) -> Self {
        Self {
            more: Some(because),
            ..self
        }
    }

    /// As a row of the table of what was found.
    pub(super) fn row(&self, because: &str) -> String {
        format!("{:45} | {:45} | {because}", self.postfix, self.courser)
    }

    /// The one that says this of these two replies.
    pub(super) fn find(stream: &Stream, postfix: &str, courser: &str) -> Option<&'static Self> {
        let fits = |reply: &str, known: &str| match known {
            "" => reply.is_empty(),
            _ => reply.starts_with(known),
        };
        REPLIES.iter().find(|k| {
            fits(postfix, k.postfix) && fits(courser, k.courser) && (!k.bdat || stream.has_bdat())
        })
    }
}

const fn known(postfix: &'static str, courser: &'static str, because: &'static str) -> Known {
    Known {
        postfix,
        courser,
        because,
        bdat: false,
        goes_on: false,
        more: None,
    }
}

/// Smuggling first. The first that fits counts.
#[rustfmt::skip]
const REPLIES: &[Known] = &[
    // What smuggling is made of.
    known("250 2.0.0 Queued", "521 5.5.2 Bare CR or LF in the message", SMUGGLING),
    known("", "521 5.5.2 Bare CR or LF in the message", SMUGGLING),
    known("5", "521 5.5.2 Bare CR or LF in the message", SMUGGLING),
    known("250 2.0.0 Queued", "554 5.6.0 Bare CR or LF in the message", SMUGGLING),
    known("", "521 5.5.2 Bare CR or LF in a command", LINE_ENDS),
    known("2", "521 5.5.2 Bare CR or LF in a command", LINE_ENDS),
    known("354 ", "521 5.5.2 Bare CR or LF in a command", LINE_ENDS),
    known("45", "521 5.5.2 Bare CR or LF in a command", LINE_ENDS),
    known("5", "521 5.5.2 Bare CR or LF in a command", LINE_ENDS),
    known("2", "501 5.5.2 Control character or invalid UTF-8 in command", CONTROLS),
    known("354 ", "501 5.5.2 Control character or invalid UTF-8 in command", CONTROLS),
    known("250 2.0.0 Ok: ", "554 5.6.0 Bare CR or LF in the message", SMUGGLING),
    known("", "554 5.6.0 Bare CR or LF in the message", SMUGGLING),
    // Where the end of a body or a chunk isn't sure.
    known("521 5.5.4 Syntax: BDAT count [LAST]", "5", CHUNKS).with_bdat(),
    known("", "501 5.5.2 Control character or invalid UTF-8 in command", CHUNKS).with_bdat(),
    known("5", "", CHUNKS).with_bdat(),
    known("503 5.5.1 Error: MAIL after BDAT", "250 2.1.0 Sender ok", RESET).with_bdat().more(ONLY_HERE),
    known("503 5.5.1 Error: nested MAIL command", "250 2.1.0 Sender ok", RESET).with_bdat().more(ONLY_HERE),
    known("", "503 5.5.1 Need RCPT first", HALF_CHUNK).with_bdat(),
    known("5", "501 5.5.4 Syntax error in parameters or arguments", CHUNKS).with_bdat(),
    known("", "503 5.5.1 Need MAIL first", HALF_CHUNK).with_bdat(),
    known("", "552 5.3.4 Message is larger than allowed", HALF_CHUNK).with_bdat(),
    known("", "554 5.5.1 No valid recipients", HALF_CHUNK).with_bdat(),
    known("221 2.7.0 Error: I can break rules", "521 5.5.1 This is SMTP", HEADERS),
    known("500 5.5.2", "521 5.5.1 This is SMTP", "RFC 5321 4.1.1: no command has a colon in its verb; Postfix takes only some such lines for fields, and refuses the others one by one"),
    // Commands.
    known("250 2.1.0 Ok", "503 5.5.1 Say EHLO first", "RFC 5321 4.1.4: EHLO or HELO comes before mail; Postfix asks for it with smtpd_helo_required"),
    known("250 2.1.0 Ok", "553 5.1.7 Malformed sender address", ADDRESSES),
    known("250 2.1.5 Ok", "553 5.1.3 Malformed recipient address", ADDRESSES),
    known("250 2.1.0 Ok", "501 5.5.4 Syntax error in parameters or arguments", ADDRESSES),
    known("250 2.1.5 Ok", "501 5.5.4 Syntax error in parameters or arguments", ADDRESSES),
    known("501 5.1.7 Bad sender address syntax", "250 2.1.0 Sender ok", NUMBERS).more(ONLY_HERE),
    known("501 5.1.3 Bad recipient address syntax", "250 2.1.5 Recipient ok", NUMBERS).more(ONLY_HERE),
    known("501 5.1.3 Bad recipient address syntax", "252 2.0.0", "RFC 5321 3.5.3: VRFY needs no mailbox, and 252 says nothing about it").goes_on(),
    known("250 2.1.", "553 5.6.7 Address is not ASCII", "RFC 6531 3.4: such an address needs the SMTPUTF8 parameter; Postfix takes it without, unless strict_smtputf8 is on"),
    known("250 2.1.0 Ok", "501 5.5.4 Parameter given twice", "RFC 5321 4.1.1.11: a parameter stands once; which of two would count?"),
    known("250 2.1.5 Ok", "501 5.5.4 Parameter given twice", "RFC 5321 4.1.1.11: a parameter stands once; which of two would count?"),
    known("250 2.1.", "501 5.5.4 Parameter has an invalid value", "RFC 3461 4: Postfix passes on what isn't in the grammar"),
    known("250 2.1.", "555 5.5.4 Parameter of an extension that is not offered", "RFC 5321 4.1.1.11; Postfix takes AUTH= without offering AUTH"),
    known("250 2.0.0 Ok", "500 5.5.2 Line too long", "RFC 5321 4.5.3.1.4: 512 octets and what extensions add; Postfix cuts the line to 2048 and takes the rest for nothing"),
    known("250 CHUNKING", "501 5.5.4 Syntax error in parameters or arguments", NAMES),
    known("250 postfix.test", "501 5.5.4 Syntax error in parameters or arguments", NAMES),
    known("221 2.0.0 Bye", "501 5.5.4 Syntax error in parameters or arguments", "RFC 5321 4.1.1.10: QUIT has no argument"),
    known("250 2.0.0 Ok", "501 5.5.4 Syntax error in parameters or arguments", "RFC 5321 4.1.1.5: RSET has no argument"),
    known("354 ", "501 5.5.4 Syntax error in parameters or arguments", "RFC 5321 4.1.1.4: DATA has no argument"),
    known("2", "500 5.5.1 Command not recognised", SPACES),
    known("354 ", "500 5.5.1 Command not recognised", SPACES),
    known("500 5.5.2 Error: command not recognized", "214 2.0.0", "RFC 5321 4.1.1.8: HELP is answered").goes_on(),
    known("459 <", "500 5.5.1 Command not recognised", "ETRN (RFC 1985) is of no use to a server that sends").goes_on(),
];

/// Behind a refusal that doesn't close, Courser may take messages that Postfix doesn't.
pub(super) const BLIND: &str = "RFC 2920 3.1: who sends a body without waiting for 354 sends commands where DATA, or the envelope, is refused; Postfix has taken it and reads them as text, or has hung up";
const ONLY_HERE: &str = "the transaction that Postfix refused";
const SMUGGLING: &str = "RFC 5321 2.3.8: a CR or LF alone is no line end and may not be sent; Postfix takes it as one, or as text, and passes on something else than was sent";
const LINE_ENDS: &str = "RFC 5321 2.3.7, 2.3.8: a command ends with CRLF; Postfix takes LF alone too, and CR as a space";
const CONTROLS: &str = "RFC 5321 4.1.2: no command has a control character; Postfix takes them for spaces or text, and a NUL for the end";
const CHUNKS: &str =
    "RFC 3030 2: where a chunk of unknown size ends nobody knows, so both close; only when differs";
const RESET: &str = "RFC 3030 2: a refused chunk ends its transaction and nothing of it is left; Postfix waits for RSET as well";
const HALF_CHUNK: &str = "Courser refuses a chunk that is too large before it comes; Postfix reads it first, and here it never came";
const HEADERS: &str = "both hang up on a field of a header and on HTTP, Courser with a refusal";
const ADDRESSES: &str = "RFC 5321 4.1.2, 4.5.3.1: angle brackets, the grammar of paths, 64 octets of local part, 255 of domain; Postfix repairs or passes on what it can (strict_rfc821_envelopes = no)";
const NUMBERS: &str =
    "RFC 5321 4.1.2: digits and dots are a domain by the grammar; it is looked up, and not found";
const NAMES: &str = "RFC 5321 4.1.1.1: the name is a domain or an address literal; Postfix takes any text (smtpd_helo_restrictions is empty)";
const SPACES: &str = "RFC 5321 4.1.1: verbs stand first in the line, with nothing in front; Postfix skips spaces and unknown words";

/// A change that Postfix makes to content, and Courser doesn't.
pub(super) struct Change {
    pub(super) what: &'static str,
    pub(super) change: fn(&[u8]) -> Vec<u8>,
    pub(super) because: &'static str,
}

/// In the order in which Postfix makes them.
pub(super) const BODIES: &[Change] = &[
    Change {
        what: "a line end is put behind the last line of chunks that have none",
        change: end_last_line,
        because: "RFC 3030 2: chunks are passed on as they are; where they can't be, DATA needs one",
    },
    Change {
        what: "X-Mailbox-Line: is put before a first line that begins with From and a space",
        change: name_mailbox_line,
        because: "an mbox separator is content like any other; it may be signed",
    },
    Change {
        what: "a field ends at a NUL",
        change: cut_fields_at_nul,
        because: "content isn't changed; RFC 5322 forbids NUL, and nobody reads two messages in it",
    },
    Change {
        what: "Bcc, Resent-Bcc, Return-Path and Content-Length are taken out",
        change: drop_fields,
        because: "content isn't changed; that is the matter of who wrote it (RFC 6409 8)",
    },
    Change {
        what: "spaces before the colon of a field are taken out",
        change: trim_names,
        because: "content isn't changed; it may be signed",
    },
    Change {
        what: "an empty line is put between a header and a body without one",
        change: split_header,
        because: "content isn't changed; it may be signed",
    },
];

fn end_last_line(content: &[u8]) -> Vec<u8> {
    let end = match content {
        [] | [.., b'\r', b'\n'] => &b""[..],
        _ => b"\r\n",
    };
    [content, end].concat()
}

/// Every line up to the first one that is no such line, which then must not look like a part of it.
fn name_mailbox_line(content: &[u8]) -> Vec<u8> {
    let (mut named, mut rest) = (Vec::new(), content);
    loop {
        let name = rest.iter().position(|b| *b != b'>').unwrap_or(0);
        if !rest[name..].starts_with(b"From ") {
            break;
        }
        let end = rest.iter().position(|b| *b == b'\n');
        let (line, behind) = rest.split_at(end.map_or(rest.len(), |n| n + 1));
        named.extend_from_slice(b"X-Mailbox-Line: ");
        named.extend_from_slice(line);
        rest = behind;
    }
    if !named.is_empty() && matches!(rest, [b' ' | b'\t', ..]) {
        named.extend_from_slice(b"\r\n");
    }
    named.extend_from_slice(rest);
    named
}

/// The length of a field's name as Postfix reads it, and where its value begins.
fn field_name(line: &[u8]) -> Option<(usize, usize)> {
    let name = line
        .iter()
        .position(|b| !(33..=126).contains(b) || *b == b':')?;
    let colon = name
        + line[name..]
            .iter()
            .position(|b| !matches!(b, b' ' | b'\t'))?;
    (name > 0 && line[colon] == b':').then_some((name, colon + 1))
}

/// The fields of a header, each with its folded lines, and what is behind them.
fn fields(content: &[u8]) -> (Vec<Vec<u8>>, &[u8]) {
    let (mut fields, mut at): (Vec<Vec<u8>>, usize) = (Vec::new(), 0);
    for line in content.split_inclusive(|b| *b == b'\n') {
        if field_name(line).is_some() {
            fields.push(line.to_vec());
        } else if let ([b' ' | b'\t', ..], Some(field)) = (line, fields.last_mut()) {
            field.extend_from_slice(line);
        } else {
            break;
        }
        at += line.len();
    }
    (fields, &content[at..])
}

fn change_fields(content: &[u8], change: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let (fields, body) = fields(content);
    let mut all: Vec<u8> = fields.into_iter().flat_map(change).collect();
    all.extend_from_slice(body);
    all
}

/// Postfix reads lines in records of 2048 octets, each of which ends at a NUL.
fn cut_fields_at_nul(content: &[u8]) -> Vec<u8> {
    change_fields(content, |field| {
        let cut =
            |record: &[u8]| -> Vec<u8> { record.iter().copied().take_while(|b| *b != 0).collect() };
        let lines = field.split_inclusive(|b| *b == b'\n');
        lines
            .flat_map(|line| {
                let text = line.strip_suffix(b"\r\n").unwrap_or(line);
                let mut cut: Vec<u8> = text.chunks(2048).flat_map(cut).collect();
                cut.extend_from_slice(&line[text.len()..]);
                cut
            })
            .collect()
    })
}

fn drop_fields(content: &[u8]) -> Vec<u8> {
    const DROPPED: [&[u8]; 4] = [b"bcc", b"resent-bcc", b"return-path", b"content-length"];
    change_fields(content, |field| {
        let name = field_name(&field).map_or(0, |(name, _)| name);
        let dropped = DROPPED.contains(&&*field[..name].to_ascii_lowercase());
        if dropped { Vec::new() } else { field }
    })
}

fn trim_names(content: &[u8]) -> Vec<u8> {
    change_fields(content, |field| match field_name(&field) {
        Some((name, value)) => [&field[..name], b":", &field[value..]].concat(),
        None => field,
    })
}

fn split_header(content: &[u8]) -> Vec<u8> {
    let (fields, body) = fields(content);
    let gap = if body.is_empty() || body.starts_with(b"\r\n") {
        &b""[..]
    } else {
        b"\r\n"
    };
    [&fields.concat(), gap, body].concat()
}

/// An address as Postfix writes it: no quotes that aren't needed, and its own name for ours.
pub(super) fn as_postfix_writes(address: &str) -> String {
    let address = address.replace("@courser.test", "@postfix.test");
    let Some((local, domain)) = address.rsplit_once('@') else {
        return address;
    };
    let inner = local.strip_prefix('"').and_then(|l| l.strip_suffix('"'));
    let atom = |s: &str| {
        !s.is_empty()
            && s.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
    };
    match inner {
        Some(inner) if inner.split('.').all(atom) => format!("{inner}@{domain}"),
        _ => address,
    }
}
