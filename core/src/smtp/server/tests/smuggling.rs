//! SMTP smuggling: sequences that one server takes for the end of a message and another doesn't; and
//! commands within another protocol.

use super::harness::{Caller, options};
use std::format;
use std::string::String;
use std::vec::Vec;

const ENVELOPE: &str = "MAIL FROM:<a@c.example>\r\nRCPT TO:<b@d.example>\r\n";
const SMUGGLED: &str =
    "MAIL FROM:<admin@d.example>\r\nRCPT TO:<v@d.example>\r\nDATA\r\nsmuggled\r\n.\r\n";

/// Every line end before the dot with every line end behind it, but the true one.
fn false_ends() -> Vec<String> {
    let line_ends = [
        "\r\n", "\n", "\r", "\r\r\n", "\n\r", "\r\n\n", "\r\n\r", "\n\r\n", "\r\r",
    ];
    let mut all = Vec::new();
    for before in line_ends {
        for behind in line_ends {
            // CRLF . CRLF LF is a true end and a command that begins with LF.
            if before != "\r\n" || !behind.starts_with("\r\n") {
                all.push(format!("{before}.{behind}"));
            }
        }
    }
    all
}

fn ready() -> Caller {
    let mut c = Caller::greeted(options());
    c.ask("EHLO c.example\r\n");
    c.ask(ENVELOPE);
    c.forget();
    c
}

#[test]
fn in_data_no_false_end_ends_the_message() {
    let ends = false_ends();
    assert_eq!(ends.len(), 78);
    for end in ends {
        let script = format!("DATA\r\nhello{end}{SMUGGLED}");
        for cut in 6..script.len() {
            let mut c = ready();
            c.send(&script.as_bytes()[..cut]);
            c.send(&script.as_bytes()[cut..]);
            assert_eq!(
                c.replies(),
                "354 End with <CRLF>.<CRLF>\r\n521 5.5.2 Bare CR or LF in the message\r\n",
                "{end:?} cut at {cut}"
            );
            assert!(c.closed);
            assert_eq!(c.log, ["BodyStart", "Reset"], "{end:?}");
            assert!(c.messages.is_empty());
        }
    }
}

#[test]
fn behind_a_true_end_a_bare_line_end_begins_no_command() {
    for behind in ["\n", "\r", "\r\r\n"] {
        let mut c = ready();
        c.ask(&format!("DATA\r\nhello\r\n.\r\n{behind}{SMUGGLED}"));
        assert!(
            c.replies().ends_with(
                "250 2.0.0 Message accepted\r\n521 5.5.2 Bare CR or LF in a command\r\n"
            ),
            "{behind:?} {}",
            c.replies()
        );
        assert_eq!(c.messages, [b"hello\r\n"]);
        assert!(c.closed);
    }
}

#[test]
fn in_a_refused_body_as_well() {
    for end in false_ends() {
        let mut options = options();
        options.limits.message_bytes = 2;
        let mut c = Caller::greeted(options);
        c.ask(&format!("EHLO c\r\n{ENVELOPE}DATA\r\nhello"));
        c.forget();
        c.ask(&format!("{end}{SMUGGLED}"));
        assert_eq!(c.replies(), "521 5.5.2 Bare CR or LF in the message\r\n");
        assert!(c.closed);
    }
}

#[test]
fn in_bdat_the_message_is_refused_and_the_session_goes_on() {
    for end in false_ends() {
        let body = format!("hello{end}{SMUGGLED}");
        let script = format!("BDAT {} LAST\r\n{body}NOOP\r\n", body.len());
        let mut c = ready();
        c.ask(&script);
        assert_eq!(
            c.replies(),
            "554 5.6.0 Bare CR or LF in the message\r\n250 2.0.0 Ok\r\n",
            "{end:?}"
        );
        assert_eq!(c.log, ["BodyStart", "Reset"]);
        assert!(c.messages.is_empty() && !c.closed);
    }
}

#[test]
fn a_line_end_may_be_split_between_chunks_but_not_left_open() {
    let mut c = ready();
    let ok = "250 2.0.0 Chunk received\r\n250 2.0.0 Message accepted\r\n";
    assert_eq!(c.ask("BDAT 3\r\nhi\rBDAT 1 LAST\r\n\n"), ok);
    c.ask(ENVELOPE);
    assert_eq!(
        c.ask("BDAT 3 LAST\r\nhi\rNOOP\r\n"),
        "554 5.6.0 Bare CR or LF in the message\r\n250 2.0.0 Ok\r\n"
    );
    c.ask(ENVELOPE);
    assert_eq!(
        c.ask("BDAT 3\r\nhi\rBDAT 0 LAST\r\nNOOP\r\n"),
        "250 2.0.0 Chunk received\r\n554 5.6.0 Bare CR or LF in the message\r\n250 2.0.0 Ok\r\n"
    );
}

#[test]
fn dots_that_are_not_alone_are_body() {
    for (sent, body) in [
        ("..\r\n", ".\r\n"),
        (". \r\n", " \r\n"),
        (".\0\r\n", "\0\r\n"),
        ("\0.\r\n", "\0.\r\n"),
        ("x.\r\n", "x.\r\n"),
        (".x\r\n", "x\r\n"),
        ("...\r\n", "..\r\n"),
    ] {
        let mut c = ready();
        c.ask(&format!("DATA\r\na\r\n{sent}b\r\n.\r\n"));
        assert_eq!(
            c.messages,
            [format!("a\r\n{body}b\r\n").into_bytes()],
            "{sent:?}"
        );
    }
}

#[test]
fn in_commands() {
    for line in [
        "NOOP\n",
        "NOOP\rx",
        "NOOP\r\r\n",
        "\nNOOP\r\n",
        "MAIL FROM:<a@b>\nRCPT TO:<c@d>\r\n",
        "MAIL FROM:<a@b>\rRCPT TO:<c@d>\r\n",
    ] {
        for cut in 0..line.len() {
            let mut c = Caller::greeted(options());
            c.send(&line.as_bytes()[..cut]);
            c.send(&line.as_bytes()[cut..]);
            assert_eq!(
                c.replies(),
                "521 5.5.2 Bare CR or LF in a command\r\n",
                "{line:?}"
            );
            assert!(c.closed && c.log.is_empty());
        }
    }
}

#[test]
fn in_http_no_command_is_taken() {
    let long = format!("GET /{}", "x".repeat(3000));
    let begins = [
        "POST / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /\r\n",
        &long,
        "Host: x\r\n\r\n",
        "X-Custom:\r\n",
    ];
    for begin in begins {
        let script = format!("{begin}\r\nEHLO c.example\r\n{SMUGGLED}");
        for cut in (1..script.len()).step_by(7) {
            let mut c = Caller::greeted(options());
            c.forget();
            c.send(&script.as_bytes()[..cut]);
            c.send(&script.as_bytes()[cut..]);
            assert_eq!(
                c.replies(),
                "521 5.5.1 This is SMTP, not HTTP or a header\r\n",
                "{begin:?} cut at {cut}"
            );
            assert!(c.closed && c.messages.is_empty(), "{begin:?}");
        }
    }
}
