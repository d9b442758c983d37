//! A report as a message: multipart/report (RFC 6522) of what a person reads, what a program
//! reads (RFC 3464) and the message it is about.

use super::Action;
use crate::limits::LINE_BYTES_MAX;
#[cfg(doc)]
use crate::limits::{DSN_HEADER_BYTES_MAX, DSN_RETURN_BYTES_MAX};
use crate::mail::address::{Domain, Mailbox};
use crate::mail::date::Date;
use crate::mail::header::{Header, write_folded};
use crate::smtp::command::Ret;
use crate::smtp::reply::{EnhancedCode, Lossy, Reply};
use crate::time::Wall;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::net::IpAddr;

/// A report to be written.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Who reports: our EHLO name.
    pub reporting_mta: &'a str,
    /// The address in From; empty is `MAILER-DAEMON` of `reporting_mta`.
    pub from: &'a str,
    /// The name beside it; may be empty.
    pub from_name: &'a str,
    /// To whom: the reverse-path of the message.
    pub sender: Mailbox<'a>,
    /// Left part of this report's Message-ID; must be unique for `reporting_mta`.
    pub id: &'a str,
    /// When the report is written.
    pub date: Wall,
    /// `ENVID=` of MAIL, as it came (xtext).
    pub envid: Option<&'a [u8]>,
    /// When the message came to us.
    pub arrival: Option<Wall>,
    /// What the client called itself that brought it.
    pub received_from: Option<&'a str>,
    /// One for each recipient; at least one.
    pub recipients: &'a [Recipient<'a>],
    /// The message, or as much of it as is at hand, with CRLF.
    pub original: &'a [u8],
    /// How much of it goes back.
    pub ret: Ret,
    /// Longest message that goes back whole, bytes; [`DSN_RETURN_BYTES_MAX`] is a good one.
    pub return_max: usize,
    /// Most that goes back of a header, bytes; [`DSN_HEADER_BYTES_MAX`] is a good one.
    pub header_max: usize,
    /// The way back takes SMTPUTF8, so that addresses beyond ASCII can be written as they are.
    pub utf8: bool,
    /// For the boundary. The same report with the same seed is the same bytes.
    pub seed: u64,
}

/// What became of one recipient.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    /// Who.
    pub mailbox: Mailbox<'a>,
    /// `ORCPT=` of RCPT, as it came: type and encoded address.
    pub original: Option<(&'a [u8], &'a [u8])>,
    /// What happened.
    pub action: Action,
    /// The status; see [`Verdict::status`](crate::feedback::verdict::Verdict::status).
    pub status: EnhancedCode,
    /// Which host said so.
    pub remote: Option<Remote<'a>>,
    /// What was said.
    pub diagnostic: Diagnostic<'a>,
    /// When it was last tried.
    pub last_attempt: Option<Wall>,
    /// Until when it will be tried.
    pub retry_until: Option<Wall>,
    /// Our id of the delivery.
    pub log_id: Option<&'a str>,
}

/// A host of the other side.
#[derive(Clone, Copy, Debug)]
pub struct Remote<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address.
    pub address: Option<IpAddr>,
}

/// What is known of the reason.
#[derive(Clone, Copy)]
pub enum Diagnostic<'a> {
    /// The other side's reply.
    Smtp(Reply<'a>),
    /// Our own words; a [`Cause`](crate::feedback::verdict::Cause) will do.
    Local(&'a dyn fmt::Display),
    /// Nothing.
    None,
}

impl fmt::Debug for Diagnostic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smtp(reply) => write!(f, "Smtp({reply})"),
            Self::Local(words) => write!(f, "Local({words})"),
            Self::None => f.write_str("None"),
        }
    }
}

/// What the transport of the report needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// It has octets above 127: send it with BODY=8BITMIME.
    pub eight_bit: bool,
    /// Its header, or that of a part, is UTF-8: send it with SMTPUTF8.
    pub utf8: bool,
    /// All of the message went back, not only its header.
    pub full: bool,
}

impl Report<'_> {
    /// Appends the report to `out`, a whole message with CRLF.
    ///
    /// Nothing that a peer or a client said can begin a field, a part or a line of its own: replies
    /// are folded, control characters become spaces, and the boundary is checked against all of
    /// the content. Lines are at most 998 octets. A message that is longer than `return_max`, or has
    /// longer lines, NUL or bare CR or LF, goes back as its
    /// header only, whatever `ret` says.
    pub fn emit(&self, out: &mut Vec<u8>) -> Emitted {
        // Beyond ASCII in an address: RFC 6533 types if the way back can, or has to, take them.
        let wide = |m: &Mailbox<'_>| !m.is_ascii();
        let global = wide(&self.sender)
            || !self.from.is_ascii()
            || (self.utf8 && self.recipients.iter().any(|r| wide(&r.mailbox)));
        let (returned, full) = self.returned();
        let human = self.human();
        let status = self.status(global);
        let boundary = self.boundary(&[human.as_bytes(), status.as_bytes(), &returned]);
        let eight = |part: &[u8]| if part.is_ascii() { "7bit" } else { "8bit" };
        let eight_bit = global || !(human.is_ascii() && status.is_ascii() && returned.is_ascii());
        let mut head = self.head(&boundary, eight_bit);
        let status_type = if global {
            "message/global-delivery-status"
        } else {
            "message/delivery-status"
        };
        let returned_type = match (global, full) {
            (true, true) => "message/global",
            (true, false) => "message/global-headers",
            (false, true) => "message/rfc822",
            (false, false) => "text/rfc822-headers",
        };
        // Writing into a String can't fail.
        let _ = write!(
            head,
            "\r\n\
             This is a delivery report in MIME form.\r\n\
             --{boundary}\r\n\
             Content-Description: Notification\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: {}\r\n\
             \r\n\
             {human}\r\n\
             --{boundary}\r\n\
             Content-Description: Delivery report\r\n\
             Content-Type: {status_type}\r\n\
             Content-Transfer-Encoding: {}\r\n\
             \r\n\
             {status}\r\n\
             --{boundary}\r\n\
             Content-Description: {}\r\n\
             Content-Type: {returned_type}\r\n\
             Content-Transfer-Encoding: {}\r\n\
             \r\n",
            eight(human.as_bytes()),
            eight(status.as_bytes()),
            if full {
                "The message"
            } else {
                "Header of the message"
            },
            eight(&returned),
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&returned);
        out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        Emitted {
            eight_bit,
            utf8: global,
            full,
        }
    }

    /// The worst that happened to any recipient.
    fn worst(&self) -> Action {
        self.recipients
            .iter()
            .map(|r| r.action)
            .max()
            .unwrap_or(Action::Failed)
    }

    fn head(&self, boundary: &str, eight_bit: bool) -> String {
        let mut out = String::new();
        let mta = atom(self.reporting_mta);
        let subject = match self.worst() {
            Action::Failed => "Undelivered mail: your message could not be delivered",
            Action::Delayed => "Delayed mail: your message is still being tried",
            Action::Relayed => "Relayed mail: your message was passed on",
            Action::Delivered => "Delivered mail: your message has arrived",
            Action::Expanded => "Expanded mail: your message went to a list",
        };
        let mut field = |name: &str, value: &str| {
            let _ = write_folded(&mut out, name, value);
        };
        let address = match self.from {
            "" => format!("MAILER-DAEMON@{mta}"),
            address => address.to_string(),
        };
        field(
            "From",
            format!("{} <{address}>", phrase(self.from_name)).trim_start(),
        );
        field("To", &format!("<{}>", self.sender));
        field("Subject", subject);
        field("Date", &Date::utc(self.date).to_string());
        field("Message-ID", &format!("<{}@{mta}>", atom(self.id)));
        if let Some(id) = self.original_message_id() {
            field("In-Reply-To", &id);
            field("References", &id);
        }
        // RFC 3834 5: the answer of a program to one message.
        field("Auto-Submitted", "auto-replied");
        field("MIME-Version", "1.0");
        field(
            "Content-Type",
            &format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\""),
        );
        field(
            "Content-Transfer-Encoding",
            if eight_bit { "8bit" } else { "7bit" },
        );
        out
    }

    /// The Message-ID of the original, if it is one word that any header can carry.
    fn original_message_id(&self) -> Option<String> {
        let header = Header::of(self.original).ok()?.0;
        let id = header.find("message-id")?.trimmed();
        let sound = (3..=250).contains(&id.len())
            && id.starts_with(b"<")
            && id.ends_with(b">")
            && id.iter().all(u8::is_ascii_graphic);
        sound.then(|| String::from_utf8_lossy(id).into_owned())
    }

    /// What a person reads.
    fn human(&self) -> String {
        let mut out = String::new();
        let mut text = |indent: &str, words: &str| paragraph(&mut out, indent, words);
        text(
            "",
            &format!("This is the mail system at {}.", atom(self.reporting_mta)),
        );
        let of = |action| self.recipients.iter().filter(move |r| r.action == action);
        for (action, words) in [
            (
                Action::Failed,
                "Your message could not be delivered to the recipients below, and will not be \
                 tried again. If you still want it to arrive, look at the reason, and send it \
                 anew.",
            ),
            (
                Action::Delayed,
                "Your message has not yet been delivered to the recipients below. Nothing is \
                 lost: it will be tried again, and you need not send it anew.",
            ),
            (
                Action::Relayed,
                "Your message was passed on to the hosts below. They do not report delivery, so \
                 you will hear nothing more unless it fails.",
            ),
            (
                Action::Delivered,
                "Your message was delivered to the recipients below.",
            ),
            (
                Action::Expanded,
                "Your message was sent on to the members of the lists below.",
            ),
        ] {
            if of(action).next().is_none() {
                continue;
            }
            text("", "");
            text("", words);
            for r in of(action) {
                text("", "");
                text("", &format!("<{}>", r.mailbox));
                let host = r.remote.map(|remote| host(&remote));
                match (&r.diagnostic, host) {
                    (Diagnostic::Smtp(reply), Some(host)) => {
                        text("    ", &format!("The host {host} said:"));
                        text("    ", &reply.to_string());
                    }
                    (Diagnostic::Smtp(reply), None) => {
                        text("    ", "The other host said:");
                        text("    ", &reply.to_string());
                    }
                    (Diagnostic::Local(words), Some(host)) => {
                        text("    ", &format!("Host {host}: {words}."));
                    }
                    (Diagnostic::Local(words), None) => text("    ", &format!("{words}.")),
                    (Diagnostic::None, Some(host)) => text("    ", &format!("Host {host}.")),
                    (Diagnostic::None, None) => {}
                }
                if let (Action::Delayed, Some(until)) = (action, r.retry_until) {
                    text(
                        "    ",
                        &format!("It will be tried until {}.", Date::utc(until)),
                    );
                }
            }
        }
        out
    }

    /// What a program reads (RFC 3464 2).
    fn status(&self, global: bool) -> String {
        let mut out = String::new();
        let mut field = |name: &str, value: &str| put_field(&mut out, global, name, value);
        if let Some(id) = self.envid {
            let id = unxtext(id);
            field("Original-Envelope-Id", &Lossy(&id).to_string());
        }
        field(
            "Reporting-MTA",
            &format!("dns; {}", atom(self.reporting_mta)),
        );
        if let Some(from) = self.received_from {
            field("Received-From-MTA", &format!("dns; {}", atom(from)));
        }
        if let Some(at) = self.arrival {
            field("Arrival-Date", &Date::utc(at).to_string());
        }
        for r in self.recipients {
            out.push_str("\r\n");
            let mut field = |name: &str, value: &str| put_field(&mut out, global, name, value);
            if let Some((kind, address)) = r.original {
                let kind = Lossy(kind).to_string();
                // RFC 6533 3: the utf-8 type has its own encoding, good in either form.
                let address = if kind.eq_ignore_ascii_case("utf-8") {
                    Lossy(address).to_string()
                } else {
                    Lossy(&unxtext(address)).to_string()
                };
                field("Original-Recipient", &format!("{}; {address}", atom(&kind)));
            }
            let recipient = r.mailbox.to_string();
            let typed = if recipient.is_ascii() {
                format!("rfc822; {recipient}")
            } else if global {
                format!("utf-8; {recipient}")
            } else {
                format!("utf-8; {}", utf8_addr_xtext(&recipient))
            };
            field("Final-Recipient", &typed);
            field("Action", r.action.name());
            field("Status", &r.status.to_string());
            if let Some(remote) = r.remote {
                field("Remote-MTA", &format!("dns; {}", atom(remote.name)));
            }
            match &r.diagnostic {
                Diagnostic::Smtp(reply) => field("Diagnostic-Code", &format!("smtp; {reply}")),
                Diagnostic::Local(words) => {
                    field("Diagnostic-Code", &format!("x-courser; {words}"));
                }
                Diagnostic::None => {}
            }
            if let Some(at) = r.last_attempt {
                field("Last-Attempt-Date", &Date::utc(at).to_string());
            }
            // RFC 3464 2.3.8: only for what is delayed.
            if let (Action::Delayed, Some(until)) = (r.action, r.retry_until) {
                field("Will-Retry-Until", &Date::utc(until).to_string());
            }
            if let Some(id) = r.log_id {
                field("Final-Log-ID", &atom(id));
            }
        }
        out
    }

    /// What goes back of the message, and whether that is all of it.
    fn returned(&self) -> (Vec<u8>, bool) {
        let full = self.ret == Ret::Full
            && self.original.len() <= self.return_max
            && is_text(self.original);
        if full {
            return (self.original.to_vec(), true);
        }
        let header = match Header::of(self.original) {
            Ok((header, _)) => header.as_bytes(),
            Err(_) => self.original,
        };
        let mut out = Vec::with_capacity(header.len().min(self.header_max) + 2);
        for line in header.split(|b| *b == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            // The piece after the last line end, or what is too long in all.
            if line.is_empty() || out.len() + line.len() > self.header_max {
                break;
            }
            let cut = line.get(..LINE_BYTES_MAX).unwrap_or(line);
            let safe = |b: &u8| match b {
                0 | b'\r' => b' ',
                b => *b,
            };
            out.extend(cut.iter().map(safe));
            out.extend_from_slice(b"\r\n");
        }
        (out, false)
    }

    /// A boundary that no line of `parts` begins with (RFC 2046 5.1.1).
    fn boundary(&self, parts: &[&[u8]]) -> String {
        let mut state = self.seed;
        loop {
            let boundary = format!("=_{}_{:016x}", "courser", mix(&mut state));
            let delimiter = boundary.as_bytes();
            let taken = parts
                .iter()
                .any(|part| part.windows(delimiter.len()).any(|w| w == delimiter));
            if !taken {
                return boundary;
            }
        }
    }
}

/// The next of a sequence that walks all 64-bit numbers (SplitMix64).
fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Lines with CRLF of at most 998 octets, no NUL: what message/rfc822 may hold.
fn is_text(message: &[u8]) -> bool {
    let sound_lines = message
        .split(|b| *b == b'\n')
        .all(|line| line.len() <= LINE_BYTES_MAX + 1 && !line.contains(&0));
    let mut last = 0;
    let sound_ends = message.iter().all(|&b| {
        let sound = (b == b'\n') == (last == b'\r');
        last = b;
        sound
    });
    sound_lines && sound_ends && last != b'\r'
}

/// Words as lines of at most 78 columns, each behind `indent`; no words are an empty line.
/// Nothing in them can end a line.
fn paragraph(out: &mut String, indent: &str, words: &str) {
    let blank = |c: char| c == ' ' || c.is_control();
    let mut column = 0;
    for word in words.split(blank).filter(|w| !w.is_empty()) {
        if column > 0 && column + 1 + word.len() > crate::limits::LINE_BYTES_WISHED {
            out.push_str("\r\n");
            column = 0;
        }
        if column == 0 {
            out.push_str(indent);
            column = indent.len();
        } else {
            out.push(' ');
            column += 1;
        }
        for c in word.chars() {
            if column + c.len_utf8() > LINE_BYTES_MAX {
                out.push_str("\r\n");
                out.push_str(indent);
                column = indent.len();
            }
            out.push(c);
            column += c.len_utf8();
        }
    }
    out.push_str("\r\n");
}

/// `name [address]`.
fn host(remote: &Remote<'_>) -> String {
    match remote.address {
        Some(address) => format!("{} {}", atom(remote.name), Domain::Literal(address)),
        None => atom(remote.name),
    }
}

/// A display name (RFC 5322 3.2.5): as it is, quoted, or as encoded words (RFC 2047 5).
fn phrase(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b" !#$%&'*+-/=?^_`{|}~".contains(&b);
    if name.bytes().all(plain) {
        return name.into();
    }
    let mut out = String::new();
    if name.is_ascii() {
        out.push('"');
        for c in name.chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
        return out;
    }
    let mut word = String::new();
    for c in name.chars() {
        let mut bytes = [0; 4];
        let mut encoded = String::new();
        for b in c.encode_utf8(&mut bytes).bytes() {
            let _ = match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => write!(encoded, "{}", char::from(b)),
                b' ' => write!(encoded, "_"),
                b => write!(encoded, "={b:02X}"),
            };
        }
        // At most 75 in a word (RFC 2047 2), and no character in two.
        if word.len() + encoded.len() > 75 - "=?utf-8?q??=".len() {
            let _ = write!(out, "=?utf-8?q?{word}?= ");
            word.clear();
        }
        word.push_str(&encoded);
    }
    let _ = write!(out, "=?utf-8?q?{word}?=");
    out
}

/// One word without what means something in a field: white space, comments, brackets, quotes.
fn atom(text: &str) -> String {
    if text.is_empty() {
        return "unknown".into();
    }
    text.chars()
        .take(crate::limits::DOMAIN_BYTES_MAX)
        .map(|c| match c {
            '(' | ')' | '<' | '>' | '@' | ',' | ';' | '\\' | '"' => '?',
            c if c.is_control() || c.is_whitespace() || !c.is_ascii() => '?',
            c => c,
        })
        .collect()
}

/// Appends a field of the delivery report, in ASCII unless it is a global one.
fn put_field(out: &mut String, global: bool, name: &str, value: &str) {
    // Writing into a String can't fail.
    let _ = if global {
        write_folded(out, name, value)
    } else {
        write_folded(out, name, &ascii(value))
    };
}

/// ASCII, with `?` for what isn't (RFC 3464 2.1: the fields are 7 bit).
fn ascii(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii() { c } else { '?' })
        .collect()
}

/// Decodes xtext (RFC 3461 4); what is none stays as it is.
fn unxtext(text: &[u8]) -> Vec<u8> {
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match after {
            [a, b, tail @ ..] if byte == b'+' => match (digit(*a), digit(*b)) {
                (Some(a), Some(b)) => {
                    out.push(a * 16 + b);
                    tail
                }
                _ => {
                    out.push(byte);
                    after
                }
            },
            _ => {
                out.push(byte);
                after
            }
        };
    }
    out
}

/// An address as utf-8-addr-xtext (RFC 6533 3): ASCII only.
fn utf8_addr_xtext(address: &str) -> String {
    let mut out = String::new();
    for c in address.chars() {
        match c {
            '\\' | '+' | '=' => {
                let _ = write!(out, "\\x{{{:02X}}}", u32::from(c));
            }
            '!'..='~' => out.push(c),
            c => {
                let _ = write!(out, "\\x{{{:02X}}}", u32::from(c));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feedback::verdict::Cause;
    use crate::mail::dsn::parse;
    use crate::smtp::reply::ReplyCode;
    use proptest::prelude::*;

    const ORIGINAL: &[u8] = b"Message-ID: <1@s.example>\r\nSubject: News\r\n\r\nbody\r\n";

    fn reply(text: &[u8]) -> Reply<'_> {
        Reply {
            code: ReplyCode::new(550).unwrap(),
            enhanced: Some(EnhancedCode::new(5, 1, 1)),
            text,
        }
    }

    fn recipient<'a>(address: &'a str, diagnostic: Diagnostic<'a>) -> Recipient<'a> {
        Recipient {
            mailbox: Mailbox::parse(address).unwrap(),
            original: Some((b"rfc822", b"a+2Bb@b.example")),
            action: Action::Failed,
            status: EnhancedCode::new(5, 1, 1),
            remote: Some(Remote {
                name: "mx.b.example",
                address: Some("192.0.2.1".parse().unwrap()),
            }),
            diagnostic,
            last_attempt: Some(Wall::from_unix(1_000)),
            retry_until: Some(Wall::from_unix(100_000)),
            log_id: Some("0123456789abc.0"),
        }
    }

    fn report<'a>(recipients: &'a [Recipient<'a>]) -> Report<'a> {
        Report {
            reporting_mta: "out.example",
            from: "",
            from_name: "Mail Delivery System",
            return_max: crate::limits::DSN_RETURN_BYTES_MAX,
            header_max: crate::limits::DSN_HEADER_BYTES_MAX,
            sender: Mailbox::parse("news@s.example").unwrap(),
            id: "0123456789abc.dsn",
            date: Wall::from_unix(2_000),
            envid: Some(b"QQ+2B1"),
            arrival: Some(Wall::from_unix(0)),
            received_from: Some("client.example"),
            recipients,
            original: ORIGINAL,
            ret: Ret::Full,
            utf8: true,
            seed: 1,
        }
    }

    fn emit(report: &Report<'_>) -> (Vec<u8>, Emitted) {
        let mut out = Vec::new();
        let emitted = report.emit(&mut out);
        (out, emitted)
    }

    #[test]
    fn names_are_written_so_that_a_header_can_carry_them() {
        assert_eq!(phrase("Mail Delivery System"), "Mail Delivery System");
        assert_eq!(phrase(r#"The "Post", Inc."#), r#""The \"Post\", Inc.""#);
        assert_eq!(phrase("Für Post"), "=?utf-8?q?F=C3=BCr_Post?=");
        let long = phrase(&"ü".repeat(40));
        assert!(long.split(' ').all(|word| word.len() <= 75), "{long}");
    }

    #[test]
    fn snapshot_of_a_failure() {
        let recipients = [
            recipient(
                "a@b.example",
                Diagnostic::Smtp(reply(b"No such user here\nreally")),
            ),
            Recipient {
                action: Action::Delayed,
                status: EnhancedCode::new(4, 4, 1),
                original: None,
                ..recipient("c@b.example", Diagnostic::Local(&Cause::ConnectTimeout))
            },
        ];
        let (out, emitted) = emit(&report(&recipients));
        assert_eq!(
            emitted,
            Emitted {
                eight_bit: false,
                utf8: false,
                full: true
            }
        );
        insta::assert_snapshot!(String::from_utf8(out).unwrap().replace("\r\n", "\n"));
    }

    #[test]
    fn snapshot_beyond_ascii() {
        let recipients = [recipient(
            "jürgen@b.example",
            Diagnostic::Smtp(reply("nö".as_bytes())),
        )];
        let wide = Report {
            ret: Ret::Headers,
            ..report(&recipients)
        };
        let (out, emitted) = emit(&wide);
        assert!(emitted.utf8 && emitted.eight_bit && !emitted.full);
        insta::assert_snapshot!(String::from_utf8(out).unwrap().replace("\r\n", "\n"));
        // The way back can't: ASCII, but for what the person reads.
        let (out, emitted) = emit(&Report {
            utf8: false,
            ..wide
        });
        assert!(!emitted.utf8 && emitted.eight_bit);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("Final-Recipient: utf-8; j\\x{FC}rgen@b.example\r\n"));
        assert!(text.contains("Content-Type: message/delivery-status\r\n"));
        assert!(text.contains("Diagnostic-Code: smtp; 550 5.1.1 n?\r\n"));
    }

    #[test]
    fn what_goes_back() {
        let recipients = [recipient("a@b.example", Diagnostic::None)];
        let with = |original: &[u8], ret| {
            let (out, emitted) = emit(&Report {
                original,
                ret,
                ..report(&recipients)
            });
            (String::from_utf8_lossy(&out).into_owned(), emitted)
        };
        let (text, e) = with(ORIGINAL, Ret::Headers);
        assert!(!e.full && !text.contains("\r\nbody\r\n") && text.contains("Subject: News"));
        let (text, e) = with(b"Subject: \xFC\r\n\r\nb\xFCdy\r\n", Ret::Full);
        assert!(e.full && e.eight_bit && !e.utf8);
        assert_eq!(text.matches("Transfer-Encoding: 8bit").count(), 2);
        // Too long in all, a line too long, bare LF, NUL: header only.
        let mut long = ORIGINAL.to_vec();
        while long.len() <= crate::limits::DSN_RETURN_BYTES_MAX {
            long.extend_from_slice(b"and so on and so on and so on\r\n");
        }
        assert!(!with(&long, Ret::Full).1.full);
        let line = [ORIGINAL, &[b'x'; 999], b"\r\n"].concat();
        assert!(!with(&line, Ret::Full).1.full);
        let line = [ORIGINAL, &[b'x'; 998], b"\r\n"].concat();
        assert!(with(&line, Ret::Full).1.full);
        for odd in [&b"a\nb"[..], b"a\rb", b"a\0b", b"a\r"] {
            assert!(!with(&[ORIGINAL, odd].concat(), Ret::Full).1.full);
        }
        let header = [b"X: ".as_slice(), &[b'x'; 5000], b"\r\n\r\nbody"].concat();
        let (text, _) = with(&header, Ret::Headers);
        assert!(text.split("\r\n").all(|l| l.len() <= 998));
    }

    #[test]
    fn a_boundary_that_the_message_knows() {
        let recipients = [recipient("a@b.example", Diagnostic::None)];
        let plain = report(&recipients);
        let taken = plain.boundary(&[]);
        let original = format!("Subject: x\r\n\r\n--{taken}\r\n--{taken}--\r\n");
        let (out, _) = emit(&Report {
            original: original.as_bytes(),
            ..plain
        });
        let text = String::from_utf8(out).unwrap();
        let own = text
            .split("boundary=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        assert_ne!(own, taken);
        assert_eq!(text.matches(&format!("--{own}\r\n")).count(), 3);
    }

    proptest! {
        /// Whatever a receiver, a client or a message says, the report is of three parts, has
        /// short lines and CRLF only, and says the same when it is read back.
        #[test]
        fn hostile_words(
            text in "([ -~ü\r\n\t]|\r\nBcc: |\r\n\r\n|--=_courser_){0,100}",
            hello in "[a-z\r\n: ]{0,20}",
            envid in proptest::collection::vec(any::<u8>(), 0..40),
            original in proptest::collection::vec(any::<u8>(), 0..400),
            seed in any::<u64>(),
        ) {
            let recipients = [recipient("a@b.example", Diagnostic::Smtp(reply(text.as_bytes())))];
            let report = Report {
                received_from: Some(&hello),
                envid: Some(&envid),
                original: &original,
                seed,
                ..report(&recipients)
            };
            let (out, emitted) = emit(&report);
            prop_assert!(is_text(&out));
            prop_assert_eq!(emitted.eight_bit, !out.is_ascii());
            let boundary = report.boundary(&[]);
            let delimiter = format!("\r\n--{boundary}");
            let count = out.windows(delimiter.len()).filter(|w| *w == delimiter.as_bytes()).count();
            prop_assert_eq!(count, 4);
            let (header, _) = Header::of(&out).unwrap();
            prop_assert_eq!(header.fields().count(), header.lines().count());
            prop_assert!(header.find("bcc").is_none());
            let back = parse(&out).unwrap();
            prop_assert_eq!(back.recipients.len(), 1);
            prop_assert_eq!(back.recipients[0].action, Some(Action::Failed));
            prop_assert_eq!(back.recipients[0].status, Some(EnhancedCode::new(5, 1, 1)));
        }

        #[test]
        fn xtext_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut encoded = String::new();
            for b in &bytes {
                match b {
                    b'+' | b'=' => write!(encoded, "+{b:02X}").unwrap(),
                    b'!'..=b'~' => encoded.push(char::from(*b)),
                    b => write!(encoded, "+{b:02X}").unwrap(),
                }
            }
            prop_assert_eq!(unxtext(encoded.as_bytes()), bytes);
        }
    }
}
