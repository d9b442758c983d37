//! A message as a report, whoever wrote it.
//!
//! Notifications of the wild come with broken boundaries, inside other multiparts, with their
//! report quoted-printable or base64, without the empty lines between recipients. So this looks for
//! the first part that says it is a delivery report (see `part`), and takes each `Final-Recipient`
//! (or empty line) as the start of another recipient.

use super::Action;
use crate::feedback::verdict::{Rules, Stage, Verdict};
use crate::limits::{DSN_RECIPIENTS_MAX, DSN_REPORT_BYTES_MAX};
use crate::mail::date::Date;
use crate::mail::header::{Field, Header};
use crate::mail::part::{Part, base64, begins};
use crate::smtp::reply::{EnhancedCode, Lossy, Reply, ReplyCode};
use crate::time::Wall;
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// A `type; value` of a report: an address, a host, a diagnostic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// The type, lower case: `rfc822`, `dns`, `smtp`, `x-unix` …; empty where none was given.
    pub kind: String,
    /// The value, unfolded, without control characters.
    pub value: String,
}

/// What a report says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notification<'a> {
    /// `Original-Envelope-Id`.
    pub envelope_id: Option<String>,
    /// `Reporting-MTA`.
    pub reporting_mta: Option<Typed>,
    /// `Arrival-Date`.
    pub arrival: Option<Wall>,
    /// One for each recipient, at most [`DSN_RECIPIENTS_MAX`].
    pub recipients: Vec<RecipientStatus>,
    /// What came back of the message, as it lies in the report: its header, or all of it.
    pub returned: Option<&'a [u8]>,
}

/// What a report says of one recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecipientStatus {
    /// `Original-Recipient`.
    pub original: Option<Typed>,
    /// `Final-Recipient`.
    pub recipient: Option<Typed>,
    /// `Action`.
    pub action: Option<Action>,
    /// `Status`.
    pub status: Option<EnhancedCode>,
    /// `Remote-MTA`.
    pub remote: Option<Typed>,
    /// `Diagnostic-Code`.
    pub diagnostic: Option<Typed>,
    /// `Last-Attempt-Date`.
    pub last_attempt: Option<Wall>,
    /// `Will-Retry-Until`.
    pub retry_until: Option<Wall>,
}

/// There is no delivery report with a recipient in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotADsn;

impl fmt::Display for NotADsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no delivery report in this message")
    }
}
impl core::error::Error for NotADsn {}

/// Reads the delivery report in `message`, with CRLF or LF.
///
/// Whether the message is one that may be believed (null reverse-path, an envelope id or a
/// recipient that was really written to) is for the caller to ask.
///
/// # Errors
/// [`NotADsn`] if there is none, or none that names a recipient or a status.
pub fn parse(message: &[u8]) -> Result<Notification<'_>, NotADsn> {
    let part = Part::find(message, is_report).ok_or(NotADsn)?;
    let content = part.decoded();
    let content = content.get(..DSN_REPORT_BYTES_MAX).unwrap_or(&content);
    let mut seen = read(content);
    if seen.recipients.is_empty() {
        // Base64 that said so before its type, or didn't.
        let content = base64(part.body.get(..DSN_REPORT_BYTES_MAX).unwrap_or(part.body));
        seen = read(&content);
    }
    if seen.recipients.is_empty() {
        return Err(NotADsn);
    }
    seen.returned = Part::find(part.rest, is_returned).map(|p| p.body);
    Ok(seen)
}

fn is_report(kind: &[u8]) -> bool {
    begins(kind, b"message/delivery-status") || begins(kind, b"message/global-delivery-status")
}

fn is_returned(kind: &[u8]) -> bool {
    [
        &b"message/rfc822"[..],
        b"text/rfc822-headers",
        b"message/global",
        b"message/partial",
    ]
    .iter()
    .any(|known| begins(kind, known))
}

/// The fields of a report, in groups for each recipient.
fn read<'a>(content: &[u8]) -> Notification<'a> {
    let mut seen = Notification::default();
    let mut current = RecipientStatus::default();
    let mut rest = content;
    while !rest.is_empty() {
        // Groups are parted by empty lines, and so are headers.
        let Ok((group, behind)) = Header::of(rest) else {
            break;
        };
        for field in group.fields() {
            message_field(&mut seen, &field);
            let again = (field.is("final-recipient") && current.recipient.is_some())
                || (field.is("original-recipient") && current.original.is_some());
            if again {
                keep(&mut seen, &mut current);
            }
            recipient_field(&mut current, &field);
        }
        // An empty line ends a recipient, if it was one: some put it in the middle of one.
        if current.recipient.is_some() && current.status.is_some() {
            keep(&mut seen, &mut current);
        }
        if behind.len() >= rest.len() {
            break;
        }
        rest = behind;
    }
    keep(&mut seen, &mut current);
    seen
}

fn keep(seen: &mut Notification<'_>, current: &mut RecipientStatus) {
    let done = core::mem::take(current);
    let says = done.recipient.is_some()
        || done.original.is_some()
        || done.status.is_some()
        || done.action.is_some();
    if !says {
        return;
    }
    // A group without an address goes on about the recipient before it.
    if done.recipient.is_none()
        && done.original.is_none()
        && let Some(last) = seen.recipients.last_mut()
    {
        last.action = last.action.or(done.action);
        last.status = last.status.or(done.status);
        last.diagnostic = last.diagnostic.take().or(done.diagnostic);
        last.remote = last.remote.take().or(done.remote);
        return;
    }
    if seen.recipients.len() < DSN_RECIPIENTS_MAX {
        seen.recipients.push(done);
    }
}

fn message_field(seen: &mut Notification<'_>, field: &Field<'_>) {
    if field.is("original-envelope-id") {
        seen.envelope_id.get_or_insert_with(|| plain(field));
    } else if field.is("reporting-mta") {
        seen.reporting_mta.get_or_insert_with(|| typed(field));
    } else if field.is("arrival-date") {
        seen.arrival = seen.arrival.or(date(field));
    }
}

fn recipient_field(current: &mut RecipientStatus, field: &Field<'_>) {
    if field.is("original-recipient") {
        current.original.get_or_insert_with(|| address(field));
    } else if field.is("final-recipient") {
        current.recipient.get_or_insert_with(|| address(field));
    } else if field.is("action") {
        current.action = current.action.or(action(field.trimmed()));
    } else if field.is("status") {
        current.status = current.status.or(status(field.trimmed()));
    } else if field.is("remote-mta") {
        current.remote.get_or_insert_with(|| typed(field));
    } else if field.is("diagnostic-code") {
        current.diagnostic.get_or_insert_with(|| typed(field));
    } else if field.is("last-attempt-date") {
        current.last_attempt = current.last_attempt.or(date(field));
    } else if field.is("will-retry-until") {
        current.retry_until = current.retry_until.or(date(field));
    }
}

fn date(field: &Field<'_>) -> Option<Wall> {
    Date::parse(field.trimmed()).ok().map(Date::wall)
}

/// The value on one line: white space as one space, what isn't printable as U+FFFD.
fn plain(field: &Field<'_>) -> String {
    let bytes: Vec<u8> = field.unfolded().collect();
    let text = Lossy(&bytes).to_string();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

fn typed(field: &Field<'_>) -> Typed {
    let text = plain(field);
    // A type is one word; a `;` further on is part of the text.
    match text.split_once(';') {
        Some((kind, value)) if !kind.trim().is_empty() && !kind.trim().contains(' ') => Typed {
            kind: kind.trim().to_ascii_lowercase(),
            value: value.trim().to_owned(),
        },
        _ => Typed {
            kind: String::new(),
            value: text,
        },
    }
}

/// An address, out of the brackets that some put around it.
fn address(field: &Field<'_>) -> Typed {
    let mut found = typed(field);
    let inner = found
        .value
        .strip_prefix('<')
        .and_then(|v| v.strip_suffix('>'));
    if let Some(inner) = inner {
        found.value = inner.trim().to_owned();
    }
    found
}

fn action(text: &[u8]) -> Option<Action> {
    [
        (&b"fail"[..], Action::Failed),
        (b"delay", Action::Delayed),
        (b"deliver", Action::Delivered),
        (b"relay", Action::Relayed),
        (b"expand", Action::Expanded),
    ]
    .into_iter()
    .find_map(|(word, action)| begins(text, word).then_some(action))
}

/// The code at the start, whatever comment or point follows.
fn status(text: &[u8]) -> Option<EnhancedCode> {
    let text = text.strip_prefix(b"#").unwrap_or(text);
    let len = text
        .iter()
        .take_while(|b| b.is_ascii_digit() || **b == b'.')
        .count();
    let code = text.get(..len)?;
    let code = code.strip_suffix(b".").unwrap_or(code);
    EnhancedCode::take(code).map(|(code, _)| code)
}

impl Typed {
    /// The SMTP reply in a diagnostic, where there is one: `550-5.1.1 The account ...`, or
    /// `host mx.example said: 550 ...`. The codes that multi-line replies repeat in the middle are
    /// left in the text.
    pub fn reply(&self) -> Option<Reply<'_>> {
        let text = self.value.as_str();
        let behind = |words: &str| text.split_once(words).and_then(|(_, rest)| reply_at(rest));
        reply_at(text)
            .or_else(|| behind("said: "))
            .or_else(|| behind("error "))
    }
}

/// A reply at the start of `text`.
fn reply_at(text: &str) -> Option<Reply<'_>> {
    let (digits, rest) = text.trim_start().split_at_checked(3)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let code = ReplyCode::new(digits.parse().ok()?)?;
    let rest = match rest.as_bytes().first() {
        None => rest,
        Some(b' ' | b'-') => rest.get(1..)?,
        Some(_) => return None,
    };
    let rest = rest.trim_start();
    let bare = rest.trim_start_matches(['(', '#', '\'']);
    let (enhanced, text) = match EnhancedCode::take(bare.as_bytes()) {
        Some((enhanced, text)) => (Some(enhanced), text),
        None => (None, rest.as_bytes()),
    };
    Some(Reply {
        code,
        enhanced,
        text,
    })
}

impl RecipientStatus {
    /// The reply that this is about: the one in the diagnostic, else one made from the status (or
    /// from the action) and whatever words there are.
    pub fn reply(&self) -> Option<Reply<'_>> {
        if let Some(reply) = self.diagnostic.as_ref().and_then(Typed::reply) {
            return Some(Reply {
                enhanced: reply.enhanced.or(self.status),
                ..reply
            });
        }
        let class = match (self.status, self.action) {
            (Some(status), _) => status.class,
            (None, Some(Action::Failed)) => 5,
            (None, Some(Action::Delayed)) => 4,
            (None, _) => return None,
        };
        // 554 and 451 say least of all codes.
        let code = match class {
            2 => 250,
            4 => 451,
            _ => 554,
        };
        Some(Reply {
            code: ReplyCode::new(code)?,
            enhanced: self.status,
            text: self
                .diagnostic
                .as_ref()
                .map_or(&[][..], |d| d.value.as_bytes()),
        })
    }

    /// What it means, by the same rules as a reply in a session.
    pub fn verdict(&self, rules: &Rules<'_>) -> Option<Verdict> {
        Some(rules.judge(&self.reply()?, Stage::Rcpt, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feedback::verdict::Class;
    use proptest::prelude::*;
    use std::format;

    fn message(encoding: &str, report: &str) -> String {
        format!(
            "From: <>\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\
             Content-Type: text/plain\r\n\r\nSorry.\r\n--b\r\n\
             Content-Type: message/delivery-status;\r\n charset=us-ascii\r\n\
             Content-Transfer-Encoding: {encoding}\r\n\r\n{report}\r\n--b\r\n\
             Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nbody\r\n--b--\r\n"
        )
    }

    /// RFC 3464 appendix E, the second example.
    const EXAMPLE: &str = "Reporting-MTA: dns; cs.utk.edu\r\n\
        Original-Envelope-Id: 1234\r\n\
        \r\n\
        Original-Recipient: rfc822;arathib@vnet.ibm.com\r\n\
        Final-Recipient: rfc822;arathib@vnet.ibm.com\r\n\
        Action: failed\r\n\
        Status: 5.0.0 (permanent failure)\r\n\
        Diagnostic-Code: smtp;  550 'arathib@vnet.IBM.COM' is not a\r\n registered gateway user\r\n\
        Remote-MTA: dns; vnet.ibm.com\r\n\
        \r\n\
        Final-Recipient: rfc822;<johnh@hpnjld.njd.hp.com>\r\n\
        Action: delayed\r\n\
        Status: 4.0.0 (hpnjld.njd.jp.com: host name lookup failure)\r\n\
        Will-Retry-Until: Thu, 7 Jul 1994 17:15:49 -0400\r\n";

    #[test]
    fn example_of_rfc_3464() {
        let text = message("7bit", EXAMPLE);
        let seen = parse(text.as_bytes()).unwrap();
        assert_eq!(seen.envelope_id.as_deref(), Some("1234"));
        assert_eq!(seen.returned, Some(&b"Subject: x\r\n\r\nbody\r\n"[..]));
        let [first, second] = &seen.recipients[..] else {
            panic!("{seen:?}")
        };
        assert_eq!(first.action, Some(Action::Failed));
        assert_eq!(first.status, Some(EnhancedCode::new(5, 0, 0)));
        let diagnostic = first.diagnostic.as_ref().unwrap();
        assert_eq!(diagnostic.kind, "smtp");
        assert_eq!(
            diagnostic.value,
            "550 'arathib@vnet.IBM.COM' is not a registered gateway user"
        );
        assert_eq!(
            first.verdict(&Rules::built_in()).unwrap().class,
            Class::Relay
        );
        assert_eq!(
            second.recipient.as_ref().unwrap().value,
            "johnh@hpnjld.njd.hp.com"
        );
        assert_eq!(second.action, Some(Action::Delayed));
        assert_eq!(second.retry_until.unwrap().unix(), 773_615_749);
    }

    #[test]
    fn encodings_and_missing_empty_lines() {
        let plain = message("7bit", EXAMPLE);
        let want = parse(plain.as_bytes()).unwrap().recipients;
        let soft = message(
            "quoted-printable",
            &EXAMPLE.replace("Status", "Sta=\r\ntus"),
        );
        assert_eq!(parse(soft.as_bytes()).unwrap().recipients, want);
        let unsaid = message("7bit", &EXAMPLE.replace("Status", "Sta=\r\ntus"));
        assert_eq!(parse(unsaid.as_bytes()).unwrap().recipients, want);
        let glued = message("7bit", &EXAMPLE.replace("\r\n\r\n", "\r\n"));
        assert_eq!(parse(glued.as_bytes()).unwrap().recipients, want);
        let bare = plain.replace("\r\n", "\n");
        assert_eq!(parse(bare.as_bytes()).unwrap().recipients, want);
        let base = message(
            "base64",
            "RmluYWwtUmVjaXBpZW50OiByZmM4MjI7YUBiCkFjdGlvbjogZmFpbGVkClN0YXR1czogNS4xLjEK",
        );
        let seen = parse(base.as_bytes()).unwrap();
        assert_eq!(seen.recipients[0].status, Some(EnhancedCode::new(5, 1, 1)));
    }

    #[test]
    fn what_is_no_report() {
        for text in [
            "",
            "Subject: message/delivery-status\r\n\r\n",
            "Content-Type: message/delivery-status\r\n\r\n",
            "Content-Type: message/delivery-status\r\n\r\nSubject: x\r\n",
            "Content-Type: text/plain; message/delivery-status\r\n\r\nStatus: 5.0.0\r\n",
        ] {
            assert_eq!(parse(text.as_bytes()), Err(NotADsn), "{text}");
        }
    }

    #[test]
    fn replies_in_diagnostics() {
        let reply = |value: &str| {
            let typed = Typed {
                kind: "smtp".into(),
                value: value.into(),
            };
            typed.reply().map(|r| (r.code.get(), r.enhanced))
        };
        let code = EnhancedCode::new(5, 1, 0);
        assert_eq!(
            reply("550 #5.1.0 Address rejected."),
            Some((550, Some(code)))
        );
        assert_eq!(reply("550-5.1.0 x 550 5.1.0 y"), Some((550, Some(code))));
        assert_eq!(reply("550"), Some((550, None)));
        assert_eq!(reply("5.1.0 Address rejected."), None);
        assert_eq!(reply("5505 x"), None);
        assert_eq!(reply("ünd"), None);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_report(text in "((Final-Recipient|Action|Status|Diagnostic-Code|X): ?[a-z0-9.;<>=é -]{0,12}\r?\n|\r?\n){0,12}") {
            let text = message("quoted-printable", &text);
            if let Ok(seen) = parse(text.as_bytes()) {
                prop_assert!(!seen.recipients.is_empty());
                for r in &seen.recipients {
                    let _ = r.verdict(&Rules::built_in());
                }
            }
        }
    }
}
