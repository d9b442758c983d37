//! The same bytes to Courser's server and to Postfix's: what each takes, and whether every
//! difference is one that we know and stand by.
//!
//! Each stream is sent whole, over a connection of its own from an address of its own, which the
//! trace field of each message that comes out at the other end names. Three things are compared:
//!
//! 1. **Courser with the stream itself.** [`read_strictly`] reads the stream as RFC 5321 has it,
//!    with nothing but Courser's replies to go by: lines end with CRLF, a message ends with
//!    CRLF.CRLF or after as many octets as BDAT says. Each reply must belong to one command or one
//!    message of that reading, and what the receiver got must be those messages, octet by octet. So
//!    Courser never takes more than what is honestly there, whatever Postfix does.
//! 2. **What is passed on** has no line end but CRLF, so the next server can't split it elsewhere.
//! 3. **Courser with Postfix**: replies in order until the first one of another class; the
//!    messages before it are the same but for what [`BODIES`] lists, and the difference itself
//!    must stand in [`REPLIES`], each with our judgement. What isn't listed fails the test.
//!
//! Postfix runs as Debian has it (`smtpd_forbid_bare_newline = no`) and as later versions do
//! (`normalize`). Before bodies are compared, the trace field that each server adds is taken off;
//! Postfix is told to add no other fields. `DIFFERENTIAL=20000` plays so many mutations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use courser_tests::need::need;
use courser_tests::peers::Postfix;
use courser_tests::receiver::Receiver;
use courser_tests::server::{Server, scratch, smart_host};
use courser_tests::{eventually, need_root, net, say};

/// Mutations that are played when nobody says how many.
const MUTATIONS: usize = 400;
/// Streams at once.
const LANES: usize = 8;

/// What a stream begins with, where nothing else is said.
const HELLO: &str = "EHLO client.test\r\n";
const MAIL: &str = "MAIL FROM:<sender@sender.test>\r\n";
const RCPT: &str = "RCPT TO:<one@dest.test>\r\n";
const TEXT: &str = "Subject: first\r\n\r\nfirst";
/// What somebody would like to smuggle in.
const SECOND: &str = "MAIL FROM:<smuggled@evil.test>\r\nRCPT TO:<victim@dest.test>\r\nDATA\r\nSubject: second\r\n\r\nsmuggled\r\n.\r\n";
const QUIT: &str = "QUIT\r\n";

// -- the streams --

/// A transaction up to DATA with `text` behind it.
fn data(text: &str) -> String {
    format!("{HELLO}{MAIL}{RCPT}DATA\r\n{text}{QUIT}")
}

/// A session with a MAIL and a RCPT of its own, and a small message.
fn envelope(mail: &str, rcpt: &str) -> String {
    format!("{HELLO}{mail}\r\n{rcpt}\r\nDATA\r\n{TEXT}\r\n.\r\n{QUIT}")
}

/// A transaction with these chunks behind it.
fn chunks(chunks: &str) -> String {
    format!("{HELLO}{MAIL}{RCPT}{chunks}{QUIT}")
}

fn chunk(text: &str, last: &str) -> String {
    format!("BDAT {}{last}\r\n{text}", text.len())
}

/// Every line end in front of the dot with every one behind it.
fn ends() -> Vec<String> {
    let line_ends = [
        "\r\n", "\n", "\r", "\r\r\n", "\n\r", "\r\n\n", "\r\n\r", "\n\r\n", "\r\r", "\0\r\n",
        "\r\0\n", "\r\n\0",
    ];
    line_ends
        .iter()
        .flat_map(|before| {
            line_ends
                .iter()
                .map(move |behind| format!("{before}.{behind}"))
        })
        .collect()
}

/// The streams that somebody thought of, smuggling first.
fn written() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, stream: String| all.push((name.to_owned(), stream.into_bytes()));
    for end in ends() {
        add(
            &format!("end {end:?}"),
            data(&format!("{TEXT}{end}{SECOND}")),
        );
    }
    for dot in [
        ". ", ".\t", "..", ".\0", "\0.", " .", ".x", ".\r", "\x08.", "．", "\u{ff0e}",
    ] {
        add(
            &format!("dot {dot:?}"),
            data(&format!("{TEXT}\r\n{dot}\r\n{SECOND}")),
        );
    }
    for behind in ["\n", "\r", "\r\r\n", "\r\n", " ", "\0", "x"] {
        add(
            &format!("behind the end {behind:?}"),
            data(&format!("{TEXT}\r\n.\r\n{behind}{SECOND}")),
        );
    }
    for (name, text) in [
        ("empty", ".\r\n"),
        ("a line end", "\r\n.\r\n"),
        ("no header", "first\r\n.\r\n"),
        ("no body", "Subject: first\r\n.\r\n"),
        (
            "no empty line",
            "Subject: first\r\nfirst line without a colon\r\nsecond\r\n.\r\n",
        ),
        ("no header, colons", "a: b\r\nc d: e\r\n\r\nx\r\n.\r\n"),
        ("only a colon", ":\r\n\r\nx\r\n.\r\n"),
        (
            "field without a name",
            "Subject: x\r\n: y\r\n\r\nx\r\n.\r\n",
        ),
        ("space before the colon", "Subject : x\r\n\r\nx\r\n.\r\n"),
        ("folded", "Subject: x\r\n y\r\n\tz\r\n\r\nx\r\n.\r\n"),
        ("folded first", " x\r\nSubject: x\r\n\r\nx\r\n.\r\n"),
        (
            "white line in the header",
            "Subject: x\r\n \r\nTo: y\r\n\r\nx\r\n.\r\n",
        ),
        (
            "mbox line",
            "From a@b Mon Nov 23 10:00:00 2026\r\nSubject: x\r\n\r\nx\r\n.\r\n",
        ),
        (
            "quoted mbox line",
            ">From a@b Mon Nov 23 10:00:00 2026\r\nSubject: x\r\n\r\nx\r\n.\r\n",
        ),
        (
            "From in the body",
            "Subject: x\r\n\r\nFrom a@b\r\n>From c\r\n.\r\n",
        ),
        (
            "return path",
            "Return-Path: <x@y>\r\nSubject: x\r\n\r\nx\r\n.\r\n",
        ),
        (
            "content length",
            "Content-Length: 5\r\nSubject: x\r\n\r\nx\r\n.\r\n",
        ),
        ("bcc", "Bcc: x@y.test\r\nSubject: x\r\n\r\nx\r\n.\r\n"),
        (
            "resent bcc",
            "Resent-Bcc: x@y.test\r\nSubject: x\r\n\r\nx\r\n.\r\n",
        ),
        (
            "received",
            "Received: from a by b; Mon, 23 Nov 2026 10:00:00 +0000\r\nSubject: x\r\n\r\nx\r\n.\r\n",
        ),
        (
            "delivered to",
            "Delivered-To: one@dest.test\r\nSubject: x\r\n\r\nx\r\n.\r\n",
        ),
        (
            "errors to",
            "Errors-To: x@y\r\nSubject: x\r\n\r\nx\r\n.\r\n",
        ),
        (
            "stuffed",
            "Subject: x\r\n\r\n..\r\n..x\r\n...\r\n.y\r\n.\r\n",
        ),
        ("stuffed header", ".Subject: x\r\n\r\nx\r\n.\r\n"),
        ("NUL", "Subject: x\r\n\r\na\0b\r\n.\r\n"),
        ("NUL in the header", "Subject: a\0b\r\n\r\nx\r\n.\r\n"),
        ("8 bit", "Subject: x\r\n\r\nG\u{fc}\u{df}e\r\n.\r\n"),
        (
            "8 bit in the header",
            "Subject: G\u{fc}\u{df}e\r\n\r\nx\r\n.\r\n",
        ),
        (
            "controls",
            "Subject: x\r\n\r\n\x01\x02\x08\x0b\x0c\x1b[0m\x7f\r\n.\r\n",
        ),
        (
            "commands",
            "Subject: x\r\n\r\nRSET\r\nQUIT\r\nMAIL FROM:<a@b.test>\r\nDATA\r\n.\r\n",
        ),
        (
            "multipart",
            "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\na\r\n--x--\r\n.\r\n",
        ),
        ("no end", "Subject: x\r\n\r\nx\r\n"),
        ("no line end at the end", "Subject: x\r\n\r\nx"),
    ] {
        add(&format!("data: {name}"), data(text));
    }
    for n in [78, 998, 999, 1000, 2047, 2048, 2049, 5000, 70_000] {
        add(
            &format!("a line of {n}"),
            data(&format!("Subject: x\r\n\r\n{}\r\n.\r\n", "a".repeat(n))),
        );
        add(
            &format!("a field of {n}"),
            data(&format!("Subject: {}\r\n\r\nx\r\n.\r\n", "a".repeat(n))),
        );
    }
    add(
        "a header of 150 kB",
        data(&format!(
            "{}\r\nx\r\n.\r\n",
            "X-A: 0123456789012345678901234567890123456789\r\n".repeat(3000)
        )),
    );
    for n in [400, 512, 513, 900, 1024, 2047, 2048, 2049, 4096, 10_000] {
        add(
            &format!("a command of {n}"),
            format!(
                "{HELLO}NOOP {}\r\n{}",
                "a".repeat(n - 7),
                &data(&format!("{TEXT}\r\n.\r\n"))[HELLO.len()..]
            ),
        );
        add(
            &format!("an address of {n}"),
            envelope(
                &format!("MAIL FROM:<{}@sender.test>", "a".repeat(n)),
                RCPT.trim_end(),
            ),
        );
    }
    for (name, list) in [
        ("whole", chunk(&format!("{TEXT}\r\n"), " LAST")),
        (
            "two",
            chunk("Subject: x\r\n\r\n", "") + &chunk("x\r\n", " LAST"),
        ),
        (
            "nothing last",
            chunk(&format!("{TEXT}\r\n"), "") + "BDAT 0 LAST\r\n",
        ),
        ("nothing at all", "BDAT 0 LAST\r\n".into()),
        ("no line end at the end", chunk(TEXT, " LAST")),
        (
            "a line end cut in two",
            chunk("Subject: x\r", "") + &chunk("\n\r\nx\r\n", " LAST"),
        ),
        ("a dot line", chunk("Subject: x\r\n\r\n.\r\n", " LAST")),
        ("dots", chunk("Subject: x\r\n\r\n..\r\n.x\r\n", " LAST")),
        (
            "a false end",
            chunk(&format!("{TEXT}\r\n.\r\n{SECOND}"), " LAST"),
        ),
        ("bare LF", chunk("Subject: x\r\n\r\na\nb\r\n", " LAST")),
        ("bare CR", chunk("Subject: x\r\n\r\na\rb\r\n", " LAST")),
        (
            "bare LF and a dot",
            chunk("Subject: x\r\n\r\na\n.\nb\r\n", " LAST"),
        ),
        ("CR at the end", chunk("Subject: x\r\n\r\na\r", " LAST")),
        ("LF at the end", chunk("Subject: x\r\n\r\na\n", " LAST")),
        ("NUL", chunk("Subject: x\r\n\r\na\0b\r\n", " LAST")),
        (
            "one octet too few",
            format!("BDAT {} LAST\r\n{TEXT}\r\n", TEXT.len() + 1),
        ),
        (
            "one octet too many",
            format!("BDAT {} LAST\r\n{TEXT}\r\n", TEXT.len() + 3),
        ),
        ("no size", "BDAT\r\n".into()),
        ("negative", "BDAT -1 LAST\r\n".into()),
        (
            "signed",
            format!("BDAT +{} LAST\r\n{TEXT}\r\n", TEXT.len() + 2),
        ),
        ("hexadecimal", "BDAT 0x10 LAST\r\n0123456789abcdef".into()),
        (
            "leading zeros",
            format!("BDAT 000{} LAST\r\n{TEXT}\r\n", TEXT.len() + 2),
        ),
        ("huge", "BDAT 99999999999999999999999999 LAST\r\nx".into()),
        ("2^32", "BDAT 4294967296 LAST\r\nx".into()),
        ("2^64", "BDAT 18446744073709551616 LAST\r\nx".into()),
        (
            "lower case",
            chunk(&format!("{TEXT}\r\n"), " last").replace("BDAT", "bdat"),
        ),
        ("another word", chunk(&format!("{TEXT}\r\n"), " FIRST")),
        ("a word behind", chunk(&format!("{TEXT}\r\n"), " LAST x")),
        ("two spaces", chunk(&format!("{TEXT}\r\n"), "  LAST")),
        (
            "DATA behind BDAT",
            chunk("Subject: x\r\n\r\n", "") + "DATA\r\nx\r\n.\r\n",
        ),
        (
            "RCPT behind BDAT",
            chunk("Subject: x\r\n\r\n", "") + RCPT + &chunk("x\r\n", " LAST"),
        ),
        (
            "MAIL behind BDAT",
            chunk("Subject: x\r\n\r\n", "") + MAIL + &chunk("x\r\n", " LAST"),
        ),
        (
            "RSET behind BDAT",
            chunk("Subject: x\r\n\r\n", "") + "RSET\r\n" + &chunk("x\r\n", " LAST"),
        ),
        (
            "again",
            chunk(&format!("{TEXT}\r\n"), " LAST") + &chunk("x\r\n", " LAST"),
        ),
        (
            "NOOP between",
            chunk("Subject: x\r\n\r\n", "") + "NOOP\r\n" + &chunk("x\r\n", " LAST"),
        ),
    ] {
        add(&format!("bdat: {name}"), chunks(&list));
    }
    add(
        "bdat without rcpt",
        format!("{HELLO}{MAIL}{}{QUIT}", chunk(SECOND, " LAST")),
    );
    add(
        "bdat without mail",
        format!("{HELLO}{}{QUIT}", chunk(SECOND, " LAST")),
    );
    add(
        "bdat after helo",
        format!(
            "HELO client.test\r\n{MAIL}{RCPT}{}{QUIT}",
            chunk(&format!("{TEXT}\r\n"), " LAST")
        ),
    );
    add(
        "bdat behind a refused rcpt",
        format!(
            "{HELLO}{MAIL}RCPT TO:<>\r\n{}{QUIT}",
            chunk(SECOND, " LAST")
        ),
    );
    for (name, commands) in [
        (
            "data without rcpt",
            format!("{HELLO}{MAIL}DATA\r\n{SECOND}{QUIT}"),
        ),
        (
            "data without mail",
            format!("{HELLO}DATA\r\n{SECOND}{QUIT}"),
        ),
        ("rcpt without mail", format!("{HELLO}{RCPT}{SECOND}{QUIT}")),
        (
            "no hello",
            format!("{MAIL}{RCPT}DATA\r\n{TEXT}\r\n.\r\n{QUIT}"),
        ),
        (
            "helo",
            data(&format!("{TEXT}\r\n.\r\n")).replace("EHLO", "HELO"),
        ),
        (
            "lhlo",
            data(&format!("{TEXT}\r\n.\r\n")).replace("EHLO", "LHLO"),
        ),
        (
            "lower case",
            data(&format!("{TEXT}\r\n.\r\n"))
                .replace("EHLO", "ehlo")
                .replace("MAIL FROM", "mail from")
                .replace("RCPT TO", "rcpt to")
                .replace("DATA", "data"),
        ),
        (
            "mixed case",
            data(&format!("{TEXT}\r\n.\r\n"))
                .replace("EHLO", "eHlO")
                .replace("MAIL FROM", "mAiL fRoM")
                .replace("RCPT TO", "rCpT tO")
                .replace("DATA", "dAtA"),
        ),
        (
            "ehlo twice",
            format!("{HELLO}{}", data(&format!("{TEXT}\r\n.\r\n"))),
        ),
        (
            "ehlo between",
            format!("{HELLO}{MAIL}{RCPT}{HELLO}DATA\r\n{SECOND}{QUIT}"),
        ),
        (
            "helo between",
            format!("{HELLO}{MAIL}{RCPT}HELO x.test\r\nDATA\r\n{SECOND}{QUIT}"),
        ),
        (
            "rset between",
            format!("{HELLO}{MAIL}{RCPT}RSET\r\n{SECOND}{QUIT}"),
        ),
        (
            "rset with a word",
            format!("{HELLO}{MAIL}{RCPT}RSET x\r\n{SECOND}{QUIT}"),
        ),
        (
            "data with a word",
            format!("{HELLO}{MAIL}{RCPT}DATA x\r\n{SECOND}{QUIT}"),
        ),
        (
            "noop with words",
            format!("{HELLO}NOOP a b\r\n{SECOND}{QUIT}"),
        ),
        ("quit with a word", format!("{HELLO}{SECOND}QUIT now\r\n")),
        ("behind quit", format!("{HELLO}{QUIT}{SECOND}")),
        (
            "mail twice",
            format!("{HELLO}{MAIL}{MAIL}{RCPT}DATA\r\n{TEXT}\r\n.\r\n{QUIT}"),
        ),
        (
            "rcpt twice",
            format!("{HELLO}{MAIL}{RCPT}{RCPT}DATA\r\n{TEXT}\r\n.\r\n{QUIT}"),
        ),
        (
            "three messages",
            format!("{HELLO}{SECOND}{SECOND}{SECOND}{QUIT}"),
        ),
        ("no quit", format!("{HELLO}{SECOND}")),
        (
            "unknown",
            format!("{HELLO}FOO\r\nXFOO bar\r\n{SECOND}{QUIT}"),
        ),
        ("empty lines", format!("{HELLO}\r\n\r\n{SECOND}{QUIT}")),
        ("space in front", format!("{HELLO} NOOP\r\n{SECOND}{QUIT}")),
        (
            "space behind",
            format!("{HELLO}NOOP \r\nRSET \r\n{SECOND}{QUIT}").replace("DATA\r\n", "DATA \r\n"),
        ),
        (
            "tab for a space",
            format!("{HELLO}NOOP\tx\r\n{SECOND}{QUIT}").replace("MAIL FROM", "MAIL\tFROM"),
        ),
        (
            "vrfy",
            format!("{HELLO}VRFY a\r\nEXPN a\r\nHELP\r\nTURN\r\nETRN x\r\n{SECOND}{QUIT}"),
        ),
        (
            "auth",
            format!("{HELLO}AUTH PLAIN AGEAYg==\r\n{SECOND}{QUIT}"),
        ),
        ("starttls", format!("{HELLO}STARTTLS\r\n{SECOND}{QUIT}")),
        (
            "http",
            format!("GET / HTTP/1.1\r\nHost: x\r\n\r\n{HELLO}{SECOND}{QUIT}"),
        ),
        (
            "post",
            format!("POST / HTTP/1.1\r\nHost: x\r\n\r\n{HELLO}{SECOND}{QUIT}"),
        ),
        (
            "bare LF everywhere",
            format!("{HELLO}{SECOND}{QUIT}").replace("\r\n", "\n"),
        ),
        (
            "bare CR everywhere",
            format!("{HELLO}{SECOND}{QUIT}").replace("\r\n", "\r"),
        ),
        (
            "bare LF behind a command",
            format!("{HELLO}NOOP\n{SECOND}{QUIT}"),
        ),
        (
            "bare CR in a command",
            format!("{HELLO}NOOP\rNOOP\r\n{SECOND}{QUIT}"),
        ),
        (
            "NUL in a command",
            format!("{HELLO}NOOP a\0b\r\n{SECOND}{QUIT}"),
        ),
        (
            "NUL behind a command",
            format!("{HELLO}NOOP\0\r\n{SECOND}{QUIT}"),
        ),
        (
            "8 bit in a command",
            format!("{HELLO}NOOP \u{fc}\r\n{SECOND}{QUIT}"),
        ),
        (
            "101 recipients",
            format!(
                "{HELLO}{MAIL}{}DATA\r\n{TEXT}\r\n.\r\n{QUIT}",
                (0..101)
                    .map(|n| format!("RCPT TO:<r{n}@dest.test>\r\n"))
                    .collect::<String>()
            ),
        ),
        (
            "data refused, then a body",
            format!("{HELLO}{MAIL}RCPT TO:<>\r\nDATA\r\n{TEXT}\r\n.\r\n{SECOND}{QUIT}"),
        ),
    ] {
        add(name, commands);
    }
    for name in [
        "",
        "client.test",
        "client_x.test",
        "[127.0.0.1]",
        "[IPv6:::1]",
        "127.0.0.1",
        "a b",
        "-",
        "client.test.",
        "..",
        "\u{fc}.test",
        "<a>",
        "a;b",
        "(x)",
    ] {
        add(
            &format!("ehlo {name:?}"),
            data(&format!("{TEXT}\r\n.\r\n")).replacen("client.test", name, 1),
        );
        add(
            &format!("helo {name:?}"),
            data(&format!("{TEXT}\r\n.\r\n")).replacen(
                "EHLO client.test",
                &format!("HELO {name}"),
                1,
            ),
        );
    }
    for mail in [
        "MAIL FROM: <a@b.test>",
        "MAIL FROM:a@b.test",
        "MAIL FROM: a@b.test",
        "MAIL FROM <a@b.test>",
        "MAIL FROM:<a@b.test",
        "MAIL FROM:a@b.test>",
        "MAIL FROM :<a@b.test>",
        "MAIL  FROM:<a@b.test>",
        "MAIL FROM:<a@b.test> ",
        "MAIL FROM:<a@b.test>x",
        "MAIL FROM:<>",
        "MAIL FROM:< >",
        "MAIL FROM:<<a@b.test>>",
        "MAIL FROM:<a@b.test> <c@d.test>",
        "MAIL FROM:Name <a@b.test>",
        "MAIL FROM:<a@b.test> (comment)",
        "MAIL FROM:",
        "MAIL",
        "MAIL FROM",
        "MAIL FROM:<a>",
        "MAIL FROM:<@b.test>",
        "MAIL FROM:<a@>",
        "MAIL FROM:<@x.test:a@b.test>",
        "MAIL FROM:<@x.test,@y.test:a@b.test>",
        "MAIL FROM:<\"a b\"@b.test>",
        "MAIL FROM:<\"a\"@b.test>",
        "MAIL FROM:<\"a\\\"b\"@b.test>",
        "MAIL FROM:<\"a@b\"@b.test>",
        "MAIL FROM:<a\\@x@b.test>",
        "MAIL FROM:<a b@b.test>",
        "MAIL FROM:<a..b@b.test>",
        "MAIL FROM:<.a@b.test>",
        "MAIL FROM:<a.@b.test>",
        "MAIL FROM:<a@b..test>",
        "MAIL FROM:<a@b.test.>",
        "MAIL FROM:<a@-b.test>",
        "MAIL FROM:<a@b_c.test>",
        "MAIL FROM:<a@[127.0.0.1]>",
        "MAIL FROM:<a@[IPv6:::1]>",
        "MAIL FROM:<a@127.0.0.1>",
        "MAIL FROM:<a@[x]>",
        "MAIL FROM:<a@b@c.test>",
        "MAIL FROM:<a%b@c.test>",
        "MAIL FROM:<x!a@c.test>",
        "MAIL FROM:<\u{fc}@b.test>",
        "MAIL FROM:<\u{fc}@b.test> SMTPUTF8",
        "MAIL FROM:<a@\u{fc}.test> SMTPUTF8",
        "MAIL FROM:<a@b.test> SIZE=10",
        "MAIL FROM:<a@b.test> SIZE=0",
        "MAIL FROM:<a@b.test> SIZE=99999999999",
        "MAIL FROM:<a@b.test> SIZE=-1",
        "MAIL FROM:<a@b.test> SIZE=",
        "MAIL FROM:<a@b.test> SIZE",
        "MAIL FROM:<a@b.test> SIZE=1 SIZE=2",
        "MAIL FROM:<a@b.test> SIZE=x",
        "MAIL FROM:<a@b.test> BODY=8BITMIME",
        "MAIL FROM:<a@b.test> BODY=7BIT",
        "MAIL FROM:<a@b.test> BODY=BINARYMIME",
        "MAIL FROM:<a@b.test> BODY=x",
        "MAIL FROM:<a@b.test> BODY=7BIT BODY=8BITMIME",
        "MAIL FROM:<a@b.test> body=8bitmime",
        "MAIL FROM:<a@b.test> RET=HDRS ENVID=x",
        "MAIL FROM:<a@b.test> RET=x",
        "MAIL FROM:<a@b.test> ENVID=",
        "MAIL FROM:<a@b.test> AUTH=<>",
        "MAIL FROM:<a@b.test> FOO=bar",
        "MAIL FROM:<a@b.test> FOO",
        "MAIL FROM:<a@b.test>  SIZE=10",
        "MAIL FROM:<a@b.test>SIZE=10",
        "MAIL FROM:<a@b.test> REQUIRETLS",
        "MAIL FROM:<a\0b@c.test>",
        "MAIL FROM:<a\tb@c.test>",
    ] {
        add(&format!("{mail:?}"), envelope(mail, RCPT.trim_end()));
    }
    for rcpt in [
        "RCPT TO: <a@b.test>",
        "RCPT TO:a@b.test",
        "RCPT TO <a@b.test>",
        "RCPT TO:<a@b.test",
        "RCPT TO:a@b.test>",
        "RCPT TO:<>",
        "RCPT TO:<a>",
        "RCPT TO:<postmaster>",
        "RCPT TO:<Postmaster>",
        "RCPT TO:<@b.test>",
        "RCPT TO:<a@>",
        "RCPT TO:<@x.test:a@b.test>",
        "RCPT TO:<@x.test,@y.test:a@b.test>",
        "RCPT TO:<\"a b\"@b.test>",
        "RCPT TO:<\"a\"@b.test>",
        "RCPT TO:<a@b.test> <c@d.test>",
        "RCPT TO:<a@b.test>,<c@d.test>",
        "RCPT TO:<a@b.test,c@d.test>",
        "RCPT TO:<a@[127.0.0.1]>",
        "RCPT TO:<a@127.0.0.1>",
        "RCPT TO:<a@b@c.test>",
        "RCPT TO:<a%b@c.test>",
        "RCPT TO:<x!a>",
        "RCPT TO:<a@b..test>",
        "RCPT TO:<a@b.test.>",
        "RCPT TO:<A@B.TEST>",
        "RCPT TO:<\u{fc}@b.test>",
        "RCPT TO:<a@b.test> NOTIFY=NEVER",
        "RCPT TO:<a@b.test> NOTIFY=NEVER,SUCCESS",
        "RCPT TO:<a@b.test> NOTIFY=x",
        "RCPT TO:<a@b.test> NOTIFY=",
        "RCPT TO:<a@b.test> ORCPT=rfc822;x",
        "RCPT TO:<a@b.test> ORCPT=x",
        "RCPT TO:<a@b.test> FOO=bar",
        "RCPT TO:<a@b.test> NOTIFY=NEVER NOTIFY=NEVER",
        "RCPT TO:",
        "RCPT",
        "RCPT TO:<a b@c.test>",
        "RCPT TO:<a@b.test> ",
        "RCPT TO:<|cmd@b.test>",
        "RCPT TO:</etc/passwd@b.test>",
        "RCPT TO:<-f@b.test>",
    ] {
        add(&format!("{rcpt:?}"), envelope(MAIL.trim_end(), rcpt));
    }
    // Octets that are no UTF-8.
    for (name, octets) in [
        ("latin 1", &b"\xfc"[..]),
        ("surrogate", b"\xed\xa0\x80"),
        ("0xff", b"\xff"),
    ] {
        let place = |stream: String| -> Vec<u8> {
            let stream = stream.into_bytes();
            let at = stream
                .iter()
                .position(|b| *b == b'@' || *b == b'#')
                .unwrap_or(0);
            [&stream[..at], octets, &stream[at..]].concat()
        };
        all.push((
            format!("address in {name}"),
            place(envelope("MAIL FROM:<a@b.test>", RCPT.trim_end())),
        ));
        all.push((
            format!("text in {name}"),
            place(
                data("Subject: x\r\n\r\n#\r\n.\r\n")
                    .replace('@', "%")
                    .replacen("%", "@", 0)
                    .replace("sender%", "sender")
                    .replace("one%", "one"),
            ),
        ));
    }
    all
}

// -- chance --

/// xorshift64*: the test's own chance, from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % n.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// What mutations put in.
const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\r\n.\r\n",
    "\n.\n",
    "\r\n.\n",
    "\n.\r\n",
    "\r.\r",
    ".",
    "..",
    "\0",
    " ",
    "\t",
    "\r\n\r\n",
    ":",
    "<",
    ">",
    "@",
    "\"",
    "\\",
    "\u{fc}",
    HELLO,
    MAIL,
    RCPT,
    "DATA\r\n",
    TEXT,
    SECOND,
    QUIT,
    "RSET\r\n",
    "NOOP\r\n",
    "BDAT 5 LAST\r\n",
    "BDAT 0 LAST\r\n",
    "BDAT 3\r\na\r\n",
    "HELO x.test\r\n",
    " SIZE=100",
    " BODY=8BITMIME",
    " BODY=BINARYMIME",
    " SMTPUTF8",
    " NOTIFY=NEVER",
    "MAIL FROM:<>\r\n",
    "Received: x\r\n",
    "From a\r\n",
];

/// Streams made of `bases` by chance.
fn mutated(bases: &[Vec<u8>], count: usize, seed: u64) -> Vec<(String, Vec<u8>)> {
    let mut chance = Chance(seed);
    (0..count)
        .map(|n| {
            let mut stream = chance.of(bases).clone();
            for _ in 0..=chance.below(4) {
                let at = chance.below(stream.len() + 1);
                let end = (at + chance.below(12)).min(stream.len());
                match chance.below(7) {
                    0 => drop(stream.splice(at..at, chance.of(PIECES).bytes())),
                    1 => drop(stream.splice(at..end, chance.of(PIECES).bytes())),
                    2 => drop(stream.drain(at..end)),
                    3 => drop(stream.splice(at..at, stream[at..end].to_vec())),
                    4 => stream.truncate(at),
                    5 => stream.extend_from_slice(chance.of::<Vec<u8>>(bases)),
                    // At a line end, where commands and bodies meet.
                    _ => {
                        let line = stream[at..]
                            .iter()
                            .position(|b| *b == b'\n')
                            .map_or(stream.len(), |i| at + i + 1);
                        drop(stream.splice(line..line, chance.of(PIECES).bytes()));
                    }
                }
            }
            stream.truncate(1 << 17);
            (format!("mutation {n} of seed {seed}"), stream)
        })
        .collect()
}

/// The seeds of the fuzz targets that speak SMTP, as streams.
fn fuzz_seeds() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds");
    let files = |target: &str| -> Vec<Vec<u8>> {
        let mut paths: Vec<_> = std::fs::read_dir(format!("{folder}/{target}"))
            .expect("fuzz/seeds")
            .flatten()
            .map(|f| f.path())
            .collect();
        paths.sort();
        paths
            .iter()
            .map(|p| std::fs::read(p).expect("a seed"))
            .collect()
    };
    let session = |middle: &[u8]| {
        [
            HELLO.as_bytes(),
            middle,
            b"\r\n",
            MAIL.as_bytes(),
            RCPT.as_bytes(),
            b"DATA\r\n",
            TEXT.as_bytes(),
            b"\r\n.\r\n",
            QUIT.as_bytes(),
        ]
        .concat()
    };
    let commands = files("command").into_iter().map(|c| session(&c));
    // Behind the size of its cuts, a body.
    let bodies = files("data").into_iter().map(|d| {
        [
            HELLO.as_bytes(),
            MAIL.as_bytes(),
            RCPT.as_bytes(),
            b"DATA\r\n",
            d.get(1..).unwrap_or_default(),
            b"\r\n.\r\n",
            QUIT.as_bytes(),
        ]
        .concat()
    });
    // Flags, then calls: what the client sends has its length in front, below 128.
    let sessions = files("server").into_iter().map(|s| {
        let (mut rest, mut stream) = (s.get(1..).unwrap_or_default(), Vec::new());
        while let Some((&call, behind)) = rest.split_first() {
            let (piece, behind) = behind.split_at(if call < 128 {
                behind.len().min(call.into())
            } else {
                0
            });
            stream.extend_from_slice(piece);
            rest = behind;
        }
        stream
    });
    commands.chain(bodies).chain(sessions).collect()
}

// -- what a server does with a stream --

/// A message as it came out at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Taken {
    from: String,
    to: BTreeSet<String>,
    /// Without the trace field of the server.
    content: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    /// Without the greeting.
    replies: Vec<String>,
    /// In the order of their ids in the replies.
    messages: Vec<Taken>,
}

/// Whether the reply says that a message was taken, and its id.
fn queued(reply: &str) -> Option<&str> {
    let reply = reply.strip_prefix("250 2.0.0 ")?;
    reply
        .strip_prefix("Queued as ")
        .or_else(|| reply.strip_prefix("Ok: queued as "))
        .or_else(|| {
            let (_, id) = reply.split_once("bytes queued as ")?;
            Some(id)
        })
}

/// Greeting, then the whole stream at once, then the end; all replies.
fn play(from: IpAddr, to: SocketAddr, stream: &[u8]) -> Vec<String> {
    let mut tcp = net::connect_from(from, to).expect("a connection");
    tcp.set_read_timeout(Some(Duration::from_secs(180)))
        .expect("a time-out");
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(b"\n") {
        assert_eq!(tcp.read(&mut byte).expect("a greeting"), 1);
        said.push(byte[0]);
    }
    assert!(
        said.starts_with(b"220 "),
        "{}",
        String::from_utf8_lossy(&said)
    );
    said.clear();
    let mut writer = tcp.try_clone().expect("a second handle");
    let stream = stream.to_vec();
    // A server that has closed doesn't read on; that is its right.
    let writing = std::thread::spawn(move || {
        let _ = writer.write_all(&stream);
        let _ = writer.shutdown(Shutdown::Write);
    });
    let mut buffer = [0; 4096];
    loop {
        match tcp.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => said.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(e) => panic!("no end: {e}, so far {}", String::from_utf8_lossy(&said)),
        }
    }
    let _ = writing.join();
    let said = String::from_utf8_lossy(&said).into_owned();
    let (mut replies, mut reply) = (Vec::new(), String::new());
    for line in said.lines() {
        reply.push_str(line);
        if line.as_bytes().get(3) == Some(&b'-') {
            reply.push('\n');
        } else {
            replies.push(std::mem::take(&mut reply));
        }
    }
    replies
}

/// A server under test and the receiver behind it.
struct Side {
    name: &'static str,
    address: SocketAddr,
    receiver: Receiver,
    postfix: Option<Postfix>,
}

impl Side {
    /// Plays all streams, waits until everything that was taken has come out, and sorts it.
    fn play(&self, streams: &[(String, Vec<u8>)], block: u8) -> Vec<Seen> {
        let next = AtomicUsize::new(0);
        let mut seen: Vec<(usize, Seen)> = std::thread::scope(|scope| {
            let lanes: Vec<_> = (0..LANES)
                .map(|_| {
                    scope.spawn(|| {
                        let mut mine = Vec::new();
                        loop {
                            let n = next.fetch_add(1, Ordering::Relaxed);
                            let Some((_, stream)) = streams.get(n) else {
                                return mine;
                            };
                            let from = Ipv4Addr::new(
                                127,
                                block + (n >> 16) as u8,
                                (n >> 8) as u8,
                                n as u8,
                            );
                            let replies = play(from.into(), self.address, stream);
                            mine.push((
                                n,
                                Seen {
                                    replies,
                                    messages: Vec::new(),
                                },
                            ));
                        }
                    })
                })
                .collect();
            lanes
                .into_iter()
                .flat_map(|l| l.join().expect("a lane ends"))
                .collect()
        });
        seen.sort_by_key(|(n, _)| *n);
        let mut seen: Vec<Seen> = seen.into_iter().map(|(_, s)| s).collect();
        let ids: Vec<&str> = seen
            .iter()
            .flat_map(|s| &s.replies)
            .filter_map(|r| queued(r))
            .collect();
        let mut out = BTreeMap::new();
        let all = eventually(180, || {
            out = self.out();
            ids.iter().all(|id| out.contains_key(*id)).then_some(())
        });
        let missing: Vec<_> = ids.iter().filter(|id| !out.contains_key(**id)).collect();
        // Why Postfix has not sent what it took.
        let log: Vec<String> = match &self.postfix {
            Some(postfix) => {
                let log = postfix.log();
                let of = |line: &&str| missing.iter().any(|id| line.contains(**id));
                log.lines().filter(of).take(20).map(str::to_owned).collect()
            }
            None => Vec::new(),
        };
        assert!(
            all.is_some(),
            "{}: {} of {} messages never came out: {:?}\n{log:#?}",
            self.name,
            missing.len(),
            ids.len(),
            &missing[..missing.len().min(5)]
        );
        let count = ids.len();
        for s in &mut seen {
            s.messages = s
                .replies
                .iter()
                .filter_map(|r| queued(r))
                .map(|id| out[id].clone())
                .collect();
        }
        // Nothing came out that nobody was told of.
        let told: BTreeSet<String> = seen
            .iter()
            .flat_map(|s| &s.replies)
            .filter_map(|r| queued(r))
            .map(str::to_owned)
            .collect();
        assert_eq!(told.len(), count);
        let untold: Vec<_> = out
            .iter()
            .filter(|(id, m)| !told.contains(*id) && !m.from.is_empty())
            .collect();
        assert!(
            untold.is_empty(),
            "{}: came out, but nobody was told: {untold:#?}",
            self.name
        );
        seen
    }

    /// What came out so far, by the id in the trace field.
    fn out(&self) -> BTreeMap<String, Taken> {
        let mut out: BTreeMap<String, Taken> = BTreeMap::new();
        for mail in self.receiver.mails() {
            let (trace, rest) = split_trace(&mail.content);
            let id = trace
                .split(" id ")
                .nth(1)
                .and_then(|t| t.split(['\r', '\n', ';', ' ']).next())
                .unwrap_or_default();
            let taken = Taken {
                from: mail.sender().to_owned(),
                to: mail.recipients().into_iter().collect(),
                content: rest.to_vec(),
            };
            // Recipients may go in several transactions.
            match out.get_mut(id) {
                Some(there) => {
                    assert_eq!(
                        (&there.from, &there.content),
                        (&taken.from, &taken.content),
                        "{id}: two contents"
                    );
                    there.to.extend(taken.to);
                }
                None => drop(out.insert(id.to_owned(), taken)),
            }
        }
        out
    }
}

/// The trace field that the server added, which ends with a date, and the content behind it, which
/// may begin with a space.
fn split_trace(content: &[u8]) -> (String, &[u8]) {
    let end = |line: &[u8]| line.ends_with(b" +0000\r\n") || line.ends_with(b" +0000 (UTC)\r\n");
    let mut at = 0;
    for line in content.split_inclusive(|b| *b == b'\n').take(10) {
        at += line.len();
        if end(line) {
            break;
        }
    }
    let (trace, rest) = content.split_at(at);
    (String::from_utf8_lossy(trace).into_owned(), rest)
}

// -- the strict reading --

/// Reads a stream as RFC 5321 and 3030 have it, with the replies that were given: the messages
/// that are in it, each as its content and number of recipients. An error is where replies and
/// stream don't fit.
fn read_strictly(stream: &[u8], replies: &[String]) -> Result<Vec<(Vec<u8>, usize)>, String> {
    let mut replies = replies.iter();
    let (mut rest, mut messages) = (stream, Vec::new());
    let (mut recipients, mut chunked) = (0, Vec::new());
    loop {
        let line_end = rest.windows(2).position(|w| w == b"\r\n");
        let Some(reply) = replies.next() else {
            // No more replies: there is no whole command any more, or no whole chunk behind it.
            return match line_end {
                None => Ok(messages),
                Some(end)
                    if chunk_size(&rest[..end]).is_some_and(|(n, _)| n > rest.len() - end - 2) =>
                {
                    Ok(messages)
                }
                Some(_) => Err(format!(
                    "no reply to {:?}",
                    String::from_utf8_lossy(&rest[..rest.len().min(60)])
                )),
            };
        };
        if reply.starts_with("421") || reply.starts_with("521") || reply.starts_with("221") {
            return match replies.next() {
                None => Ok(messages),
                Some(more) => Err(format!("a reply behind the last one: {more}")),
            };
        }
        let Some(end) = line_end else {
            return Err(format!("a reply without a command: {reply}"));
        };
        let line = String::from_utf8_lossy(&rest[..end]).to_ascii_uppercase();
        rest = &rest[end + 2..];
        let yes = reply.starts_with('2');
        match line.split(' ').next().unwrap_or_default() {
            "EHLO" | "HELO" | "RSET" if yes => (recipients, chunked) = (0, Vec::new()),
            "MAIL" if yes => (recipients, chunked) = (0, Vec::new()),
            "RCPT" if yes => recipients += 1,
            "DATA" if reply.starts_with("354") => {
                let Some((content, behind)) = unstuff(rest) else {
                    // It never ended: at most a refusal follows.
                    return match replies.next() {
                        Some(last) if last.starts_with('2') => Err(format!("no end, but {last}")),
                        _ => Ok(messages),
                    };
                };
                rest = behind;
                match replies.next() {
                    Some(last) if last.starts_with('2') => messages.push((content, recipients)),
                    Some(last) if last.starts_with("421") || last.starts_with("521") => {
                        return Ok(messages);
                    }
                    Some(_) => {}
                    None => return Err("no reply to a message".into()),
                }
                recipients = 0;
            }
            "BDAT" => {
                // Where the chunk ends isn't known, or its end never comes: nothing may follow.
                let chunk = chunk_size(line.as_bytes()).filter(|(size, _)| *size <= rest.len());
                let Some((size, last)) = chunk else {
                    return match (yes, replies.next()) {
                        (true, _) => Err("a chunk that isn't there was taken".into()),
                        (_, Some(more)) => Err(format!("a reply behind half a chunk: {more}")),
                        (_, None) => Ok(messages),
                    };
                };
                let (chunk, behind) = rest.split_at(size);
                rest = behind;
                if !yes {
                    (recipients, chunked) = (0, Vec::new());
                    continue;
                }
                chunked.extend_from_slice(chunk);
                if last {
                    messages.push((std::mem::take(&mut chunked), recipients));
                    recipients = 0;
                }
            }
            _ => {}
        }
    }
}

/// The size in a BDAT command, and whether it is the last (RFC 3030 2); octets that may not be there
/// count as far too many.
fn chunk_size(line: &[u8]) -> Option<(usize, bool)> {
    let line = String::from_utf8_lossy(line).to_ascii_uppercase();
    let mut words = line.split(' ').filter(|w| !w.is_empty());
    let (verb, size) = (words.next()?, words.next()?);
    let last = match words.next() {
        None => false,
        Some("LAST") => true,
        Some(_) => return None,
    };
    let digits = size.bytes().all(|b| b.is_ascii_digit());
    let fine = verb == "BDAT" && digits && words.next().is_none();
    fine.then(|| (size.parse().unwrap_or(usize::MAX), last))
}

/// The content up to CRLF.CRLF without the dots of DATA, and what is behind it.
fn unstuff(stream: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (mut content, mut rest) = (Vec::new(), stream);
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n")? + 2;
        let (line, behind) = rest.split_at(end);
        rest = behind;
        if line == b".\r\n" {
            return Some((content, rest));
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
}

/// Whether every server sees the same lines in it.
fn lines_are_whole(content: &[u8]) -> bool {
    content.iter().enumerate().all(|(i, b)| match b {
        b'\n' => i > 0 && content[i - 1] == b'\r',
        b'\r' => content.get(i + 1) == Some(&b'\n'),
        _ => true,
    })
}

fn readable(messages: &[(Vec<u8>, usize)]) -> Vec<(String, usize)> {
    let text = |(content, to): &(Vec<u8>, usize)| {
        let end = content.len().min(400);
        (String::from_utf8_lossy(&content[..end]).into_owned(), *to)
    };
    messages.iter().map(text).collect()
}

// -- the known differences --

/// A difference between Postfix and Courser that we stand by.
struct Known {
    /// How Postfix's reply begins; empty: none came any more.
    postfix: &'static str,
    /// How Courser's begins; empty: none came any more.
    courser: &'static str,
    /// Why Courser's is right, or good enough.
    because: &'static str,
}

const fn known(postfix: &'static str, courser: &'static str, because: &'static str) -> Known {
    Known {
        postfix,
        courser,
        because,
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
    known("521 5.5.4 Syntax: BDAT count [LAST]", "5", CHUNKS),
    known("", "501 5.5.2 Control character or invalid UTF-8 in command", CHUNKS),
    known("2", "", CHUNKS),
    known("354 ", "", CHUNKS),
    known("5", "", CHUNKS),
    known("503 5.5.1 Error: MAIL after BDAT", "250 2.1.0 Sender ok", RESET),
    known("503 5.5.1 Error: nested MAIL command", "250 2.1.0 Sender ok", RESET),
    known("", "503 5.5.1 Need RCPT first", HALF_CHUNK),
    known("5", "501 5.5.4 Syntax error in parameters or arguments", CHUNKS),
    known("", "503 5.5.1 Need MAIL first", HALF_CHUNK),
    known("", "552 5.3.4 Message is larger than allowed", HALF_CHUNK),
    known("", "554 5.5.1 No valid recipients", HALF_CHUNK),
    known("221 2.7.0 Error: I can break rules", "", HEADERS),
    known("221 2.7.0 Error: I can break rules", "5", HEADERS),
    // Commands.
    known("250 2.1.0 Ok", "503 5.5.1 Say EHLO first", "RFC 5321 4.1.4: EHLO or HELO comes before mail; Postfix asks for it with smtpd_helo_required"),
    known("250 2.1.0 Ok", "553 5.1.7 Malformed sender address", ADDRESSES),
    known("250 2.1.5 Ok", "553 5.1.3 Malformed recipient address", ADDRESSES),
    known("250 2.1.0 Ok", "501 5.5.4 Syntax error in parameters or arguments", ADDRESSES),
    known("250 2.1.5 Ok", "501 5.5.4 Syntax error in parameters or arguments", ADDRESSES),
    known("501 5.1.7 Bad sender address syntax", "250 2.1.0 Sender ok", NUMBERS),
    known("501 5.1.3 Bad recipient address syntax", "250 2.1.5 Recipient ok", NUMBERS),
    known("501 5.1.3 Bad recipient address syntax", "252 2.0.0", "RFC 5321 3.5.3: VRFY needs no mailbox, and 252 says nothing about it"),
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
    known("500 5.5.2 Error: command not recognized", "214 2.0.0", "RFC 5321 4.1.1.8: HELP is answered"),
    known("459 <", "500 5.5.1 Command not recognised", "ETRN (RFC 1985) is of no use to a server that sends"),
];

const SMUGGLING: &str = "RFC 5321 2.3.8: a CR or LF alone is no line end and may not be sent; Postfix takes it as one, or as text, and passes on something else than was sent";
const LINE_ENDS: &str = "RFC 5321 2.3.7, 2.3.8: a command ends with CRLF; Postfix takes LF alone too, and CR as a space";
const CONTROLS: &str = "RFC 5321 4.1.2: no command has a control character; Postfix takes them for spaces or text, and a NUL for the end";
const CHUNKS: &str =
    "RFC 3030 2: where a chunk of unknown size ends nobody knows, so both close; only when differs";
const RESET: &str = "RFC 3030 2: a refused chunk ends its transaction and nothing of it is left; Postfix waits for RSET as well";
const HALF_CHUNK: &str = "Courser refuses a chunk that is too large before it comes; Postfix reads it first, and here it never came";
const HEADERS: &str = "Postfix hangs up on a command that looks like a field of a header; Courser refuses each, up to the limit of mistakes";
const ADDRESSES: &str = "RFC 5321 4.1.2, 4.5.3.1: angle brackets, the grammar of paths, 64 octets of local part, 255 of domain; Postfix repairs or passes on what it can (strict_rfc821_envelopes = no)";
const NUMBERS: &str =
    "RFC 5321 4.1.2: digits and dots are a domain by the grammar; it is looked up, and not found";
const NAMES: &str = "RFC 5321 4.1.1.1: the name is a domain or an address literal; Postfix takes any text (smtpd_helo_restrictions is empty)";
const SPACES: &str = "RFC 5321 4.1.1: verbs stand first in the line, with nothing in front; Postfix skips spaces and unknown words";

/// A change that Postfix makes to content, and Courser doesn't.
struct Change {
    what: &'static str,
    change: fn(&[u8]) -> Vec<u8>,
    because: &'static str,
}

/// In the order in which Postfix makes them.
const BODIES: &[Change] = &[
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

fn name_mailbox_line(content: &[u8]) -> Vec<u8> {
    let name = content.iter().position(|b| *b != b'>').unwrap_or(0);
    let name = content[name..]
        .starts_with(b"From ")
        .then_some(&b"X-Mailbox-Line: "[..]);
    [name.unwrap_or_default(), content].concat()
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
fn as_postfix_writes(address: &str) -> String {
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

/// What was found: each difference, how often, and the first stream that showed it.
#[derive(Default)]
struct Found {
    known: BTreeMap<String, (usize, String)>,
    unknown: BTreeMap<String, (usize, String)>,
}

impl Found {
    fn note(&mut self, known: bool, difference: String, stream: &str) {
        let map = if known {
            &mut self.known
        } else {
            &mut self.unknown
        };
        map.entry(difference)
            .or_insert_with(|| (0, stream.to_owned()))
            .0 += 1;
    }

    fn compare(&mut self, stream: &str, postfix: &Seen, courser: &Seen) {
        // Two refusals are the same, but not when one of them closes.
        let class = |seen: &Seen, i: usize| {
            let reply = seen.replies.get(i)?;
            let closes = ["421", "521", "221"]
                .iter()
                .any(|code| reply.starts_with(code));
            Some((reply.bytes().next(), closes))
        };
        let most = postfix.replies.len().max(courser.replies.len());
        let first = (0..most).find(|&i| class(postfix, i) != class(courser, i));
        let taken = |seen: &Seen| {
            seen.replies[..first.unwrap_or(most).min(seen.replies.len())]
                .iter()
                .filter(|r| queued(r).is_some())
                .count()
        };
        let (p, c) = (taken(postfix), taken(courser));
        if p != c {
            self.note(false, format!("{p} messages and {c}"), stream);
            return;
        }
        for (p, c) in postfix.messages[..p].iter().zip(&courser.messages[..c]) {
            self.compare_messages(stream, p, c);
        }
        if let Some(i) = first {
            let reply = |seen: &Seen| {
                let reply = seen.replies.get(i).map_or("", String::as_str);
                let last = reply.lines().last().unwrap_or_default();
                // Ids and sizes would make every one another.
                match queued(last) {
                    Some(_) => "250 2.0.0 Queued".to_owned(),
                    None => last.to_owned(),
                }
            };
            let (p, c) = (reply(postfix), reply(courser));
            let fits = |reply: &str, known: &str| {
                if known.is_empty() {
                    reply.is_empty()
                } else {
                    reply.starts_with(known)
                }
            };
            let known = REPLIES
                .iter()
                .find(|k| fits(&p, k.postfix) && fits(&c, k.courser));
            match known {
                Some(k) => self.note(
                    true,
                    format!("{:45} | {:45} | {}", k.postfix, k.courser, k.because),
                    stream,
                ),
                None => self.note(false, format!("{p:60} | {c}"), stream),
            }
        }
    }

    fn compare_messages(&mut self, stream: &str, postfix: &Taken, courser: &Taken) {
        let from = as_postfix_writes(&courser.from);
        let to: BTreeSet<String> = courser.to.iter().map(|to| as_postfix_writes(to)).collect();
        let lower = |to: &BTreeSet<String>| -> BTreeSet<String> {
            to.iter()
                .map(|t| t.replace("Postmaster@", "postmaster@"))
                .collect()
        };
        if (&postfix.from, lower(&postfix.to)) == (&from, lower(&to)) {
            if (&postfix.from, &postfix.to) != (&courser.from, &courser.to) {
                self.note(
                    true,
                    format!("{:93} | {}", "quotes that aren't needed are taken off; <postmaster> gets the server's own name", "RFC 5321 4.1.2: the same mailbox; addresses are passed on as they came"),
                    stream,
                );
            }
        } else {
            self.note(
                false,
                format!(
                    "envelope {:?} {:?} | {:?} {:?}",
                    postfix.from, postfix.to, courser.from, courser.to
                ),
                stream,
            );
        }
        let mut content = courser.content.clone();
        for change in BODIES {
            if content == postfix.content {
                return;
            }
            let changed = (change.change)(&content);
            if changed != content {
                self.note(
                    true,
                    format!("{:93} | {}", change.what, change.because),
                    stream,
                );
                content = changed;
            }
        }
        if content != postfix.content {
            let at = content
                .iter()
                .zip(&postfix.content)
                .position(|(a, b)| a != b)
                .unwrap_or(content.len().min(postfix.content.len()));
            let near = |c: &[u8]| {
                String::from_utf8_lossy(&c[at.saturating_sub(20)..(at + 30).min(c.len())])
                    .into_owned()
            };
            self.note(
                false,
                format!(
                    "content {:?} | {:?}",
                    near(&postfix.content),
                    near(&content)
                ),
                stream,
            );
        }
    }

    fn table(&self, map: &BTreeMap<String, (usize, String)>) -> String {
        let mut table = String::new();
        for (difference, (count, stream)) in map {
            let _ = writeln!(table, "{count:6} | {difference} | {stream}");
        }
        table
    }
}

pub(crate) fn postfix_and_courser_take_the_same() {
    if !need_root() || !need(&["postfix"]) {
        return;
    }
    let count = std::env::var("DIFFERENTIAL")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(MUTATIONS);
    let mut streams = written();
    let bases: Vec<Vec<u8>> = streams
        .iter()
        .map(|(_, s)| s.clone())
        .filter(|s| s.len() < 4000)
        .chain(fuzz_seeds())
        .collect();
    streams.extend(
        fuzz_seeds()
            .into_iter()
            .enumerate()
            .map(|(n, s)| (format!("fuzz seed {n}"), s)),
    );
    streams.extend(mutated(&bases, count, 1));

    let scratch = [scratch(), scratch()];
    let postfix = |dir: &std::path::Path, receiver: &Receiver, bare: &str| {
        let to = receiver.address.port();
        // As many mistakes as Courser allows; no waiting, no fields added, nothing converted.
        let settings = format!(
            "mydestination =\nrelayhost = [127.0.0.1]:{to}\nsmtpd_forbid_bare_newline = {bare}\n\
             smtpd_forbid_bare_newline_exclusions =\nlocal_header_rewrite_clients =\n\
             smtpd_error_sleep_time = 0\nsmtpd_soft_error_limit = 1000\nsmtpd_hard_error_limit = 1000\n\
             smtpd_junk_command_limit = 1000\nsmtp_line_length_limit = 0\ndisable_mime_output_conversion = yes\n\
             initial_destination_concurrency = 20\nsmtpd_client_connection_count_limit = 0\n\
             smtp_connection_cache_on_demand = no\nenable_long_queue_ids = yes\nlocal_transport = smtp:[127.0.0.1]:{to}\n"
        );
        Postfix::start(dir, [127, 0, 0, 1].into(), &settings)
    };
    let receivers = [
        Receiver::friendly(),
        Receiver::friendly(),
        Receiver::friendly(),
    ];
    let lax = postfix(scratch[0].path(), &receivers[0], "no");
    let normal = postfix(scratch[1].path(), &receivers[1], "normalize");
    let more = format!(
        "[[listener]]\nmax_errors = 1000\n{}",
        smart_host(receivers[2].address)
    );
    let server = Server::start(&more);
    let [a, b, c] = receivers;
    let sides = [
        Side {
            name: "Courser",
            address: server.address,
            receiver: c,
            postfix: None,
        },
        Side {
            name: "Postfix, no",
            address: lax.address,
            receiver: a,
            postfix: Some(lax),
        },
        Side {
            name: "Postfix, normalize",
            address: normal.address,
            receiver: b,
            postfix: Some(normal),
        },
    ];
    let seen: Vec<Vec<Seen>> = sides
        .iter()
        .zip([10, 30, 50])
        .map(|(side, block)| side.play(&streams, block))
        .collect();

    // Courser, with the streams themselves.
    let mut wrong = String::new();
    for ((name, stream), seen) in streams.iter().zip(&seen[0]) {
        let taken: Vec<(Vec<u8>, usize)> = seen
            .messages
            .iter()
            .map(|m| (m.content.clone(), m.to.len()))
            .collect();
        match read_strictly(stream, &seen.replies) {
            Ok(honest)
                if honest.len() == taken.len()
                    && honest
                        .iter()
                        .zip(&taken)
                        .all(|(h, t)| h.0 == t.0 && h.1 >= t.1) => {}
            other => {
                let _ = writeln!(
                    wrong,
                    "{name}: {:?}\n  read strictly: {:?}\n  taken: {:?}\n  replies: {:?}",
                    String::from_utf8_lossy(&stream[..stream.len().min(400)]),
                    other.map(|m| readable(&m)),
                    readable(&taken),
                    seen.replies
                );
            }
        }
        for message in &seen.messages {
            if !lines_are_whole(&message.content) {
                let _ = writeln!(wrong, "{name}: a bare CR or LF is passed on");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");

    for (n, side) in sides.iter().enumerate().skip(1) {
        let mut found = Found::default();
        for ((name, _), (postfix, courser)) in streams.iter().zip(seen[n].iter().zip(&seen[0])) {
            found.compare(name, postfix, courser);
        }
        let split =
            streams.iter().zip(&seen[n]).filter(|((_, stream), seen)| {
                match read_strictly(stream, &seen.replies) {
                    Ok(honest) => honest.len() < seen.messages.len(),
                    Err(_) => !seen.messages.is_empty(),
                }
            });
        say(&format!(
            "\n{}: {} streams, {} messages (Courser: {}); {} streams it reads otherwise than RFC 5321\n{}",
            side.name,
            streams.len(),
            seen[n].iter().map(|s| s.messages.len()).sum::<usize>(),
            seen[0].iter().map(|s| s.messages.len()).sum::<usize>(),
            split.count(),
            found.table(&found.known),
        ));
        // For each that isn't listed, the first stream that showed it and what both said to it.
        let mut streams_too = found.table(&found.unknown);
        for (_, name) in found.unknown.values() {
            let at = streams.iter().position(|(n, _)| n == name).unwrap_or(0);
            let stream = &streams[at].1[..streams[at].1.len().min(1000)];
            let _ = writeln!(
                streams_too,
                "\n{name}: {:?}\n  {}: {:?}\n  Courser: {:?}",
                String::from_utf8_lossy(stream),
                side.name,
                seen[n][at].replies,
                seen[0][at].replies
            );
        }
        if !found.unknown.is_empty() {
            let _ = writeln!(wrong, "{}: not listed:\n{streams_too}", side.name);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
