//! The transition table: every state against every kind of input.

use std::format;
use std::string::String;
use std::vec::Vec;

use super::harness::{Letter, Run, options};
use super::*;

type Start = (&'static str, fn() -> Run);

/// After these replies, one at a time, with a letter to two begun when ready.
fn at(options: Options, replies: &[&str]) -> Run {
    let mut run = Run::new(options);
    run.prompt = false;
    run.drain();
    for reply in replies {
        if *reply == "(tls)" {
            run.tell(Input::TlsEstablished);
        } else {
            run.hear(&format!("{reply}\r\n"));
        }
        if run.session.can_begin() && run.letters.0.is_empty() {
            run.begin(Letter::to(2));
        }
    }
    run
}

fn tls(replies: &[&str]) -> Run {
    let options = Options {
        tls: TlsMode::Required,
        ..options()
    };
    at(options, replies)
}

fn authenticated() -> Options {
    let mechanisms = crate::smtp::extension::AuthMechanisms {
        plain: true,
        ..Default::default()
    };
    Options {
        auth: Some(Auth {
            mechanisms,
            without_tls: true,
        }),
        ..options()
    }
}

fn plain(replies: &[&str]) -> Run {
    let opening = ["220 mx", "250 mx"];
    at(options(), &[&opening, replies].concat())
}

fn pipelined(replies: &[&str]) -> Run {
    let opening = ["220 mx", "250-mx\r\n250 PIPELINING"];
    at(options(), &[&opening, replies].concat())
}

fn chunked(replies: &[&str]) -> Run {
    let opening = ["220 mx", "250-mx\r\n250-PIPELINING\r\n250 CHUNKING"];
    let mut run = at(options(), &opening);
    run.tell(Input::BodySent(TransactionId(0)));
    for reply in replies {
        run.hear(&format!("{reply}\r\n"));
    }
    run
}

fn body_sent(mut run: Run) -> Run {
    run.tell(Input::BodySent(TransactionId(0)));
    run
}

const STARTS: &[Start] = &[
    ("greeting", || at(options(), &[])),
    ("EHLO", || at(options(), &["220 mx"])),
    ("HELO", || at(options(), &["220 mx", "502 no"])),
    ("EHLO, TLS required", || tls(&["220 mx"])),
    ("STARTTLS, TLS required", || {
        tls(&["220 mx", "250-mx\r\n250 STARTTLS"])
    }),
    ("STARTTLS, opportunistic", || {
        let options = Options {
            tls: TlsMode::Opportunistic,
            ..options()
        };
        at(options, &["220 mx", "250-mx\r\n250 STARTTLS"])
    }),
    ("handshake", || {
        tls(&["220 mx", "250-mx\r\n250 STARTTLS", "220 go"])
    }),
    ("EHLO over TLS", || {
        tls(&["220 mx", "250-mx\r\n250 STARTTLS", "220 go", "(tls)"])
    }),
    ("AUTH", || {
        at(authenticated(), &["220 mx", "250-mx\r\n250 AUTH PLAIN"])
    }),
    ("AUTH, a line asked for", || {
        let mut run = Run::new(authenticated());
        run.auth_complete = None;
        run.drain();
        run.hear("220 mx\r\n");
        run.hear("250-mx\r\n250 AUTH PLAIN\r\n");
        run
    }),
    ("idle", || Run::ready(options(), &[])),
    ("RSET", || {
        let mut run = plain(&["250 ok", "550 no", "550 no"]);
        run.begin(Letter::to(1));
        run
    }),
    ("MAIL", || plain(&[])),
    ("RCPT, first of two", || plain(&["250 ok"])),
    ("RCPT, last, one accepted", || plain(&["250 ok", "250 ok"])),
    ("RCPT, last, none accepted", || plain(&["250 ok", "550 no"])),
    ("DATA", || plain(&["250 ok", "250 ok", "250 ok"])),
    ("body going", || {
        plain(&["250 ok", "250 ok", "250 ok", "354 go"])
    }),
    ("body sent", || {
        body_sent(plain(&["250 ok", "250 ok", "250 ok", "354 go"]))
    }),
    ("QUIT", || {
        let mut run = Run::ready(options(), &[]);
        run.quit();
        run
    }),
    ("pipelined MAIL", || pipelined(&[])),
    ("pipelined RCPT", || pipelined(&["250 ok"])),
    ("pipelined RCPT, sender refused", || pipelined(&["550 no"])),
    ("pipelined RCPT, last, none accepted", || {
        pipelined(&["250 ok", "550 no"])
    }),
    ("pipelined DATA", || {
        pipelined(&["250 ok", "250 ok", "250 ok"])
    }),
    ("pipelined DATA, all refused", || {
        pipelined(&["250 ok", "550 no", "550 no"])
    }),
    ("lone dot sent", || {
        pipelined(&["250 ok", "550 no", "550 no", "354 go"])
    }),
    ("BDAT MAIL", || chunked(&[])),
    ("BDAT RCPT", || chunked(&["250 ok"])),
    ("BDAT", || chunked(&["250 ok", "250 ok", "250 ok"])),
    ("BDAT, all refused", || {
        chunked(&["250 ok", "550 no", "550 no"])
    }),
    ("BDAT, another behind", || {
        let mut run = chunked(&["250 ok", "250 ok", "250 ok"]);
        run.begin(Letter::to(1));
        run.tell(Input::BodySent(TransactionId(1)));
        run
    }),
];

const REPLIES: &[&str] = &[
    "250 ok",
    "354 go",
    "450 later",
    "452 4.5.3 enough",
    "503 order",
    "550 no",
    "421 bye",
    "junk",
];

/// Those of AUTH.
const AUTH_REPLIES: &[&str] = &["235 welcome", "334 who?"];

/// What one input does: the outputs, then the state.
fn row(mut run: Run, input: &str) -> String {
    run.lines.clear();
    match input {
        "(closed)" => run.tell(Input::Closed),
        "(deadline)" => run.time_out(),
        reply => run.hear(&format!("{reply}\r\n")),
    };
    let said: Vec<_> = run.lines.iter().map(String::as_str).collect();
    let said = said.join(" | ");
    format!(
        "  {input:<18} {:<10} {said}",
        format!("{:?}", run.session.state())
    )
    .trim_end()
    .into()
}

#[test]
fn transitions() {
    let mut table = String::new();
    for (name, start) in STARTS {
        let run = start();
        table += &format!("{name} ({:?})\n", run.session.state());
        let auth = match run.session.state() {
            State::Auth => AUTH_REPLIES,
            _ => &[],
        };
        for input in auth
            .iter()
            .chain(REPLIES)
            .chain(&["(closed)", "(deadline)"])
        {
            table += &row(run.clone(), input);
            table.push('\n');
        }
        table.push('\n');
    }
    insta::assert_snapshot!(table);
}
