//! Delivery reports of the wild are read, and ours are read by others.

#[path = "common/vectors.rs"]
mod shared;

use courser_core::feedback::verdict::{Class, Rules};
use courser_core::mail::address::Mailbox;
use courser_core::mail::dsn::{
    Action, Diagnostic, Recipient, RecipientStatus, Remote, Report, parse,
};
use courser_core::smtp::command::Ret;
use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use courser_core::time::Wall;
use serde_json::Value;
use shared::vectors;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// What sisimai says of one recipient.
struct Expected {
    status: String,
    reason: String,
    hard: bool,
}

/// Each message that has a delivery report: its name, what is in it, what should be.
fn reports(folder: &Path) -> Vec<(String, Vec<RecipientStatus>, Vec<Expected>)> {
    let list = std::fs::read(folder.join("expected.json")).unwrap();
    let list: Value = serde_json::from_slice(&list).unwrap();
    let text = |v: &Value, key: &str| v[key].as_str().unwrap_or_default().to_owned();
    let mut out = Vec::new();
    for entry in list.as_array().unwrap() {
        let file = text(entry, "file");
        let message = std::fs::read(folder.join(&file)).unwrap();
        let seen = match parse(&message) {
            Ok(notification) => notification.recipients,
            Err(_) => Vec::new(),
        };
        let expected = entry["expect"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| Expected {
                status: text(e, "status"),
                reason: text(e, "reason"),
                hard: e["hardbounce"].as_bool().unwrap_or_default(),
            })
            .collect();
        let has_report = String::from_utf8_lossy(&message)
            .to_ascii_lowercase()
            .lines()
            .any(|l| {
                l.starts_with("content-type: message/delivery-status")
                    || l.starts_with("content-type: message/global-delivery-status")
            });
        if has_report {
            out.push((file, seen, expected));
        }
    }
    out
}

#[test]
fn real_reports_are_read() {
    let Some(folder) = vectors("bounces") else {
        return;
    };
    let reports = reports(&folder);
    let (mut recipients, mut status, mut total) = (0, 0, 0);
    for (file, seen, expected) in &reports {
        total += expected.len();
        if seen.len() == expected.len() {
            recipients += expected.len();
        } else {
            println!(
                "{file}: {} recipients read of {}",
                seen.len(),
                expected.len()
            );
        }
        for (seen, expected) in seen.iter().zip(expected) {
            let got = seen.status.map(|s| s.to_string()).unwrap_or_default();
            if got == expected.status {
                status += 1;
            } else {
                println!("{file}: status {got}, sisimai says {}", expected.status);
            }
        }
    }
    println!(
        "{} reports, {total} recipients: {recipients} read, {status} of equal status",
        reports.len()
    );
    assert!(reports.len() >= 100);
    assert!(recipients >= RECIPIENTS_FLOOR);
    assert!(status >= STATUS_FLOOR);
}

// What was measured; it may grow. sisimai also takes recipients and statuses out of the words of a
// report, and finds a second report in the message that came back.
const RECIPIENTS_FLOOR: usize = 173;
const STATUS_FLOOR: usize = 153;
const PERMANENCE_FLOOR: usize = 167;
const CLASS_FLOOR: usize = 153;

/// Which of our classes are what sisimai means by a reason; empty where it means nothing of ours.
fn classes(reason: &str) -> &'static [Class] {
    use Class::*;
    match reason {
        "authfailure" => &[Authentication],
        "badreputation" => &[Reputation, Blocklisted],
        "blocked" => &[Blocklisted, Policy, Reputation, RateLimited],
        "contenterror" => &[Protocol, Content],
        "exceedlimit" => &[TooLarge, TooManyRecipients],
        "expired" => &[Network, Busy, Greylisted],
        "filtered" => &[UnknownRecipient, Policy],
        "hasmoved" | "suspend" | "userunknown" | "notaccept" => &[UnknownRecipient],
        "hostunknown" => &[UnknownRecipient, Dns],
        "mailboxfull" => &[MailboxFull],
        "mailererror" | "onhold" | "undefined" => &[],
        "mesgtoobig" => &[TooLarge],
        "networkerror" => &[Network, Dns, Relay],
        "norelaying" => &[Relay],
        "notcompliantrfc" => &[Protocol],
        "policyviolation" => &[Policy, Authentication, Content, Protocol],
        "rejected" => &[Policy, UnknownRecipient],
        "requireptr" => &[Authentication],
        "securityerror" => &[Authentication, Policy, Relay],
        "spamdetected" | "virusdetected" => &[Content],
        "speeding" | "toomanyconn" => &[RateLimited],
        "syntaxerror" => &[Protocol],
        "systemerror" => &[Busy, Other],
        "systemfull" => &[Busy],
        _ => &[],
    }
}

#[test]
fn verdicts_on_real_reports() {
    let Some(folder) = vectors("bounces") else {
        return;
    };
    let rules = Rules::built_in();
    let (mut total, mut permanence) = (0, 0);
    let (mut classed, mut agreed) = (0, 0);
    let mut apart: BTreeMap<String, usize> = BTreeMap::new();
    for (file, seen, expected) in reports(&folder) {
        for (seen, expected) in seen.iter().zip(&expected) {
            let (Some(reply), Some(verdict)) = (seen.reply(), seen.verdict(&rules)) else {
                continue;
            };
            // sisimai's hard bounce means "don't write to this address again"; what compares with
            // permanence is the first digit of its status.
            if let Some(digit) = expected.status.bytes().next() {
                total += 1;
                if verdict.permanent == (digit == b'5') {
                    permanence += 1;
                } else {
                    println!(
                        "{file}: permanent {}, sisimai {} : {reply}",
                        verdict.permanent, expected.status
                    );
                }
            }
            let wanted = classes(&expected.reason);
            if wanted.is_empty() {
                continue;
            }
            classed += 1;
            if wanted.contains(&verdict.class) {
                agreed += 1;
            } else {
                let key = format!("{} -> {}", expected.reason, verdict.class);
                *apart.entry(key).or_default() += 1;
                println!(
                    "{file}: {}{}, we say {}: {reply}",
                    expected.reason,
                    if expected.hard { " (hard)" } else { "" },
                    verdict.class
                );
            }
        }
    }
    println!("permanence agrees for {permanence} of {total}, class for {agreed} of {classed}");
    println!("apart: {apart:#?}");
    assert!(total >= 100 && classed >= 100);
    assert!(permanence >= PERMANENCE_FLOOR);
    assert!(agreed >= CLASS_FLOOR);
}

/// A report about three recipients, beyond ASCII if `wide`.
fn ours(wide: bool) -> Vec<u8> {
    let words = "temporarily out of words";
    let reply = Reply {
        code: ReplyCode::new(550).unwrap(),
        enhanced: Some(EnhancedCode::new(5, 1, 1)),
        text: b"No such user\n\nSubject: injected\nand a very long line of text that has to be folded \
                somewhere before it reaches the end of what a line may be",
    };
    let recipient = |address, action, status, diagnostic| Recipient {
        mailbox: Mailbox::parse(address).unwrap(),
        original: Some((b"rfc822", b"a+2Btag@b.example")),
        action,
        status,
        remote: Some(Remote {
            name: "mx.b.example",
            address: None,
        }),
        diagnostic,
        last_attempt: Some(Wall::from_unix(1_790_000_000)),
        retry_until: Some(Wall::from_unix(1_790_400_000)),
        log_id: Some("0123456789abc.0"),
    };
    let first = if wide {
        "jürgen@b.example"
    } else {
        "a@b.example"
    };
    let recipients = [
        recipient(
            first,
            Action::Failed,
            EnhancedCode::new(5, 1, 1),
            Diagnostic::Smtp(reply),
        ),
        recipient(
            "b@b.example",
            Action::Delayed,
            EnhancedCode::new(4, 2, 2),
            Diagnostic::Local(&words),
        ),
        recipient(
            "c@b.example",
            Action::Relayed,
            EnhancedCode::new(2, 0, 0),
            Diagnostic::None,
        ),
    ];
    let mut out = Vec::new();
    Report {
        reporting_mta: "out.example",
        from: "",
        from_name: "Mail Delivery System",
        return_max: courser_core::limits::DSN_RETURN_BYTES_MAX,
        header_max: courser_core::limits::DSN_HEADER_BYTES_MAX,
        sender: Mailbox::parse("news@s.example").unwrap(),
        id: "0123456789abc.dsn",
        date: Wall::from_unix(1_790_000_001),
        envid: Some(b"campaign+2B7"),
        arrival: Some(Wall::from_unix(1_789_000_000)),
        received_from: Some("client.example"),
        recipients: &recipients,
        original:
            b"Message-ID: <1@s.example>\r\nFrom: <news@s.example>\r\nSubject: News\r\n\r\nHi\r\n",
        ret: Ret::Full,
        utf8: true,
        seed: 7,
    }
    .emit(&mut out);
    out
}

#[test]
fn we_read_our_own() {
    for wide in [false, true] {
        let message = ours(wide);
        let seen = parse(&message).unwrap();
        assert_eq!(seen.envelope_id.as_deref(), Some("campaign+7"));
        assert_eq!(seen.arrival.map(Wall::unix), Some(1_789_000_000));
        let actions: Vec<_> = seen.recipients.iter().map(|r| r.action.unwrap()).collect();
        assert_eq!(actions, [Action::Failed, Action::Delayed, Action::Relayed]);
        let first = &seen.recipients[0];
        let address = first.recipient.as_ref().unwrap();
        let want = if wide {
            ("utf-8", "jürgen@b.example")
        } else {
            ("rfc822", "a@b.example")
        };
        assert_eq!((address.kind.as_str(), address.value.as_str()), want);
        assert_eq!(first.original.as_ref().unwrap().value, "a+tag@b.example");
        let verdict = first.verdict(&Rules::built_in()).unwrap();
        assert_eq!(verdict.class, Class::UnknownRecipient);
        assert!(verdict.permanent);
        assert_eq!(
            seen.recipients[1].retry_until.map(Wall::unix),
            Some(1_790_400_000)
        );
        assert!(
            seen.returned
                .unwrap()
                .starts_with(b"Message-ID: <1@s.example>")
        );
    }
}

/// Python's email package reads it as what it is, with nothing to complain about.
#[test]
fn python_reads_ours() {
    let script = r#"
import sys, email, email.policy
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.SMTPUTF8)
assert not m.defects, m.defects
assert m.get_content_type() == "multipart/report", m.get_content_type()
assert m.get_param("report-type") == "delivery-status"
assert m["auto-submitted"] == "auto-replied"
human, status, original = m.get_payload()
for part in (human, status, original):
    assert not part.defects, part.defects
assert human.get_content_type() == "text/plain"
assert status.get_content_type() == "message/delivery-status"
blocks = status.get_payload()
assert len(blocks) == 4, len(blocks)
assert blocks[0]["reporting-mta"] == "dns; out.example"
assert [b["action"] for b in blocks[1:]] == ["failed", "delayed", "relayed"]
assert [b["status"] for b in blocks[1:]] == ["5.1.1", "4.2.2", "2.0.0"]
assert blocks[1]["final-recipient"] == "rfc822; a@b.example"
assert "injected" in blocks[1]["diagnostic-code"] and blocks[1]["subject"] is None
assert original.get_content_type() == "message/rfc822"
assert original.get_payload()[0]["subject"] == "News"
print("read")
"#;
    let child = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        println!("skipped: needs python3");
        return;
    };
    child.stdin.take().unwrap().write_all(&ours(false)).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert_eq!(out.stdout.trim_ascii(), b"read");
}
