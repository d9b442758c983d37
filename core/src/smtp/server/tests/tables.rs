//! The transitions, and what each bad input gets, as tables.

use super::harness::{Caller, options, reply, usual};
use crate::smtp::extension::AuthMechanisms;
use crate::smtp::server::{Event, Input, Options, Question, Session, State};
use crate::time::Instant;
use std::fmt::Write;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

fn everything() -> Options {
    let mut options = options();
    options.offer.starttls = true;
    options.auth = AuthMechanisms {
        plain: true,
        ..AuthMechanisms::default()
    };
    options.auth_needs_tls = false;
    options
}

/// The name of a state; [`State::Command`] by what it would take next.
fn name(session: &Session) -> &'static str {
    match session.state {
        State::Greeting => "Greeting",
        State::Command => match (session.greeting, session.transaction) {
            (None, _) => "Command(fresh)",
            (_, None) if session.authenticated => "Command(authenticated)",
            (_, None) => "Command(ready)",
            (_, Some(t)) if t.chunked => "Command(chunks)",
            (_, Some(t)) if t.accepted > 0 => "Command(recipients)",
            (_, Some(_)) => "Command(sender)",
        },
        State::SkipLine { .. } => "SkipLine",
        State::Answering(Question::Hello(_)) => "Answering(Hello)",
        State::Answering(Question::Mail(_)) => "Answering(Mail)",
        State::Answering(Question::Rcpt) => "Answering(Rcpt)",
        State::Answering(Question::Auth) => "Answering(Auth)",
        State::Answering(Question::BodyEnd { .. }) => "Answering(BodyEnd)",
        State::AuthLine => "AuthLine",
        State::BodyOffered => "BodyOffered",
        State::Data => "Data",
        State::Chunk { .. } => "Chunk",
        State::NextRecipient { .. } => "NextRecipient",
        State::SkipData { .. } => "SkipData",
        State::SkipChunk { .. } => "SkipChunk",
        State::Refusing { .. } => "Refusing",
        State::TlsReply => "TlsReply",
        State::Handshake => "Handshake",
        State::Closing => "Closing",
        State::Closed => "Closed",
    }
}

/// Three digits of each reply in `sent`.
fn codes(sent: &str) -> String {
    let codes: Vec<&str> = sent
        .lines()
        .filter(|line| line.as_bytes().get(3) == Some(&b' '))
        .map(|line| &line[..3])
        .collect();
    if codes.is_empty() {
        "-".to_string()
    } else {
        codes.join(" ")
    }
}

const COMMANDS: &[&str] = &[
    "EHLO c\r\n",
    "LHLO c\r\n",
    "MAIL FROM:<a@b>\r\n",
    "MAIL FROM:<bad@b>\r\n",
    "RCPT TO:<a@b>\r\n",
    "RCPT TO:<bad@b>\r\n",
    "DATA\r\n",
    "BDAT 0\r\n",
    "BDAT 2 LAST\r\n\r\n",
    "BDAT 5\r\nx",
    "BDAT\r\n",
    "RSET\r\n",
    "NOOP\r\n",
    "VRFY a\r\n",
    "EXPN a\r\n",
    "HELP\r\n",
    "AUTH PLAIN\r\n",
    "AUTH PLAIN Z29vZA==\r\n",
    "STARTTLS\r\n",
    "QUIT\r\n",
    "FOO\r\n",
    "FO",
    "\n",
];

#[test]
fn transitions() {
    let long = "x".repeat(3000);
    let envelope = "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\n";
    let mut table = String::new();
    // States that read commands.
    for script in [
        "",
        "EHLO c\r\n",
        "EHLO c\r\nAUTH PLAIN Z29vZA==\r\n",
        "EHLO c\r\nMAIL FROM:<a@b>\r\n",
        envelope,
        &format!("{envelope}BDAT 0\r\n"),
    ] {
        for command in COMMANDS {
            let mut c = Caller::greeted(everything());
            c.ask(script);
            row(&mut table, &mut c, &format!("{command:?}"), |c| {
                c.send(command.as_bytes());
            });
        }
        events(&mut table, script, usual);
    }
    // States that read octets.
    for (script, octets) in [
        (
            "EHLO c\r\nAUTH PLAIN\r\n".to_string(),
            &["Z29vZA==\r\n", "bad\r\n", "*\r\n"][..],
        ),
        (long, &["x", "\r\n", "\rx"]),
        (
            format!("{envelope}DATA\r\n"),
            &["x\r\n", ".\r\n", "\n", ".\r"],
        ),
        (format!("{envelope}BDAT 3\r\n"), &["x", "x\r\n", "\nxx"]),
        (
            format!("{envelope}BDAT 3 LAST\r\n"),
            &["x", "x\r\n", "x\n\n", "xx\r"],
        ),
        ("EHLO c\r\nBDAT 3\r\n".to_string(), &["x", "xxx"]),
    ] {
        for octets in octets {
            let mut c = Caller::greeted(everything());
            c.ask(&script);
            row(&mut table, &mut c, &format!("{octets:?}"), |c| {
                c.send(octets.as_bytes());
            });
        }
        events(&mut table, &script, usual);
    }
    // States that wait for the application.
    for script in [
        "EHLO c\r\n".to_string(),
        "EHLO later\r\n".to_string(),
        "EHLO c\r\nMAIL FROM:<later@b>\r\n".to_string(),
        "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<later@b>\r\n".to_string(),
        "EHLO c\r\nAUTH PLAIN bGF0ZXI=\r\n".to_string(),
        format!("{envelope}BDAT 0 LAST\r\n"),
        format!("{envelope}DATA\r\n.\r\n"),
    ] {
        events(&mut table, &script, later);
    }
    insta::assert_snapshot!(table);
}

/// Leaves what has `later` in it, and every message, unanswered.
fn later(event: &Event<'_>) -> Option<Input<'static>> {
    let text = format!("{event:?}");
    if text.contains("later") || matches!(event, Event::BodyEnd { .. } | Event::Auth { .. }) {
        return None;
    }
    usual(event)
}

fn events(table: &mut String, script: &str, policy: fn(&Event<'_>) -> Option<Input<'static>>) {
    for (label, input) in [
        ("Accept", Input::Accept),
        (
            "AcceptWith 250",
            Input::AcceptWith(reply(250, (2, 0, 0), "")),
        ),
        ("Refuse 450", Input::Refuse(reply(450, (4, 0, 0), ""))),
        ("Refuse 421", Input::Refuse(reply(421, (4, 0, 0), ""))),
        (
            "RefuseAndClose 550",
            Input::RefuseAndClose(reply(550, (5, 0, 0), "")),
        ),
        ("AuthChallenge", Input::AuthChallenge(b"")),
        ("AuthDone", Input::AuthDone),
        ("AuthFailed", Input::AuthFailed),
        ("TlsEstablished", Input::TlsEstablished),
        ("Closed", Input::Closed),
        ("Shutdown", Input::Shutdown),
        ("DeadlinePassed", Input::DeadlinePassed),
    ] {
        let mut c = Caller::greeted(everything());
        c.policy = policy;
        c.ask(script);
        if input == Input::DeadlinePassed {
            c.now = Instant::FAR;
        }
        let mut misuse = None;
        row(table, &mut c, label, |c| {
            misuse = c.session.handle(c.now, input).err();
            c.run();
        });
        if let Some(misuse) = misuse {
            // The row says that nothing happened; why is the interesting part.
            let from = table[..table.len() - 1].rfind('\n').map_or(0, |i| i + 1);
            let before = name(&c.session);
            table.truncate(from);
            let _ = writeln!(
                table,
                "{before:<22} {label:<26} {:<12} {misuse:?}",
                "misuse"
            );
        }
    }
}

fn row(table: &mut String, c: &mut Caller, label: &str, act: impl FnOnce(&mut Caller)) {
    c.forget();
    let before = name(&c.session);
    act(c);
    let _ = writeln!(
        table,
        "{before:<22} {label:<26} {:<12} {}",
        codes(&c.replies()),
        name(&c.session)
    );
}

#[test]
fn each_bad_input_has_its_reply() {
    let mut table = String::new();
    let long = format!("NOOP {}\r\n", "x".repeat(2048));
    let endless = "x".repeat(70_000);
    let envelope = "MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\n";
    let in_transaction = |rest: &str| format!("{envelope}{rest}");
    for (label, script) in [
        ("unknown verb", "FOO\r\n".to_string()),
        ("empty line", "\r\n".to_string()),
        ("HTTP request", "POST / HTTP/1.1\r\nNOOP\r\n".to_string()),
        (
            "HTTP request, too long",
            format!("GET /{}", "x".repeat(3000)),
        ),
        ("field of a header", "Host:x\r\nNOOP\r\n".to_string()),
        ("NUL in a command", "NO\0OP\r\n".to_string()),
        (
            "C1 control in a path",
            "MAIL FROM:<\u{80}@b>\r\n".to_string(),
        ),
        ("line too long", long),
        ("line endless", endless),
        ("bare LF in a command", "NOOP\n".to_string()),
        ("bare CR in a command", "NOOP\rNOOP\r\n".to_string()),
        ("EHLO without name", "EHLO\r\n".to_string()),
        ("LHLO in SMTP", "LHLO c\r\n".to_string()),
        ("MAIL without FROM", "MAIL <a@b>\r\n".to_string()),
        ("MAIL with a bad path", "MAIL FROM:<a@>\r\n".to_string()),
        ("MAIL without brackets", "MAIL FROM:a@b\r\n".to_string()),
        (
            "MAIL with an unknown parameter",
            "MAIL FROM:<a@b> FOO=1\r\n".to_string(),
        ),
        (
            "MAIL with a parameter twice",
            "MAIL FROM:<a@b> SIZE=1 SIZE=1\r\n".to_string(),
        ),
        (
            "MAIL with a bad value",
            "MAIL FROM:<a@b> SIZE=x\r\n".to_string(),
        ),
        (
            "MAIL with SIZE too large",
            "MAIL FROM:<a@b> SIZE=999999999999\r\n".to_string(),
        ),
        (
            "MAIL with BINARYMIME unoffered",
            "MAIL FROM:<a@b> BODY=BINARYMIME\r\n".to_string(),
        ),
        (
            "MAIL with AUTH unoffered",
            "MAIL FROM:<a@b> AUTH=<>\r\n".to_string(),
        ),
        (
            "MAIL with REQUIRETLS unoffered",
            "MAIL FROM:<a@b> REQUIRETLS\r\n".to_string(),
        ),
        (
            "MAIL with MT-PRIORITY unoffered",
            "MAIL FROM:<a@b> MT-PRIORITY=3\r\n".to_string(),
        ),
        (
            "MAIL with BY unoffered",
            "MAIL FROM:<a@b> BY=120;R\r\n".to_string(),
        ),
        (
            "MAIL with HOLDFOR unoffered",
            "MAIL FROM:<a@b> HOLDFOR=60\r\n".to_string(),
        ),
        (
            "MAIL in UTF-8 without SMTPUTF8",
            "MAIL FROM:<ä@b>\r\n".to_string(),
        ),
        (
            "MAIL within a transaction",
            in_transaction("MAIL FROM:<a@b>\r\n"),
        ),
        ("RCPT before MAIL", "RCPT TO:<a@b>\r\n".to_string()),
        (
            "RCPT with a bad path",
            in_transaction("RCPT TO:<a b@c>\r\n"),
        ),
        ("RCPT with the null path", in_transaction("RCPT TO:<>\r\n")),
        (
            "RCPT with an unknown parameter",
            in_transaction("RCPT TO:<a@b> FOO\r\n"),
        ),
        (
            "RCPT with a bad NOTIFY",
            in_transaction("RCPT TO:<a@b> NOTIFY=NEVER,DELAY\r\n"),
        ),
        (
            "RCPT in UTF-8 without SMTPUTF8",
            in_transaction("RCPT TO:<ä@b>\r\n"),
        ),
        ("DATA before MAIL", "DATA\r\n".to_string()),
        (
            "DATA without recipients",
            "MAIL FROM:<a@b>\r\nDATA\r\n".to_string(),
        ),
        (
            "DATA with all recipients refused",
            "MAIL FROM:<a@b>\r\nRCPT TO:<bad@b>\r\nDATA\r\n".to_string(),
        ),
        ("DATA with an argument", in_transaction("DATA x\r\n")),
        ("bare LF in DATA", in_transaction("DATA\r\na\nb")),
        ("bare CR in DATA", in_transaction("DATA\r\na\rb")),
        (
            "false end of DATA",
            in_transaction("DATA\r\na\n.\nQUIT\r\n"),
        ),
        ("BDAT before MAIL", "BDAT 6\r\nQUIT\r\n".to_string()),
        (
            "BDAT without recipients",
            "MAIL FROM:<a@b>\r\nBDAT 6\r\nQUIT\r\n".to_string(),
        ),
        ("BDAT without size", in_transaction("BDAT\r\n")),
        ("BDAT with a bad size", in_transaction("BDAT x LAST\r\n")),
        (
            "BDAT with a giant size",
            in_transaction("BDAT 18446744073709551616\r\n"),
        ),
        (
            "BDAT with a bad keyword",
            in_transaction("BDAT 1 FIRST\r\nx"),
        ),
        ("bare LF in BDAT", in_transaction("BDAT 3\r\na\nb")),
        ("DATA behind BDAT", in_transaction("BDAT 1\r\nxDATA\r\n")),
        (
            "RCPT behind BDAT",
            in_transaction("BDAT 1\r\nxRCPT TO:<a@b>\r\n"),
        ),
        (
            "MAIL behind BDAT",
            in_transaction("BDAT 1\r\nxMAIL FROM:<a@b>\r\n"),
        ),
        ("STARTTLS unoffered", "STARTTLS\r\n".to_string()),
        ("STARTTLS with an argument", "STARTTLS now\r\n".to_string()),
        ("AUTH unoffered", "AUTH PLAIN\r\n".to_string()),
        ("AUTH without mechanism", "AUTH\r\n".to_string()),
        ("EXPN", "EXPN list\r\n".to_string()),
        ("VRFY without argument", "VRFY\r\n".to_string()),
        ("RSET with an argument", "RSET x\r\n".to_string()),
    ] {
        let mut c = Caller::greeted(options());
        c.ask("EHLO c\r\n");
        c.forget();
        c.ask(&script);
        let replies = c.replies();
        let last = replies.lines().last().unwrap_or("-");
        let end = if c.closed { " (closed)" } else { "" };
        let _ = writeln!(table, "{label:<34} {last}{end}");
    }
    insta::assert_snapshot!(table);
}
