//! Transactions one command at a time, with peers that offer nothing else.

use super::harness::{Letter, Run, assert_accounted, options};
use super::*;
use crate::smtp::command::{BodyType, DeliverBy, MailParams, Notify, RcptParams, Ret};
use crate::smtp::reply::EnhancedCode;

/// Runs a transaction through these replies; says all that was said.
fn through(run: &mut Run, replies: &[&str]) -> std::string::String {
    run.lines.clear();
    for reply in replies {
        run.hear(&std::format!("{reply}\r\n"));
    }
    run.lines.join("\n")
}

#[test]
fn one_by_one() {
    let mut run = Run::ready(options(), &[]);
    assert_eq!(run.begin(Letter::to(2)), "> MAIL FROM:<s@example.org>");
    assert_eq!(run.hear("250 ok\r\n"), "> RCPT TO:<r0@example.net>");
    assert_eq!(run.hear("250 ok\r\n"), "> RCPT TO:<r1@example.net>");
    assert_eq!(
        run.hear("550 5.1.1 no such\r\n"),
        "0/1 failed (permanent Recipient at Rcpt: 550) “no such”\n> DATA"
    );
    assert_eq!(run.hear("354 go\r\n"), "> (body 0 Dot)");
    assert_eq!(
        run.hear("250 2.0.0 queued as 1\r\n"),
        "0/* delivered 250 2.0.0 “queued as 1”\n0 finished"
    );
    assert_eq!(run.poll(), Output::Wait(None));
    assert_eq!(run.quit(), "> QUIT");
    assert_eq!(run.hear("221 bye\r\n"), "close");
    assert_accounted(&run.letters, &run.events);
}

#[test]
fn all_refused_then_another() {
    let mut run = Run::ready(options(), &[]);
    run.begin(Letter::to(1));
    let said = through(&mut run, &["250 ok", "450 4.2.1 later"]);
    assert!(said.ends_with("0/0 failed (temporary Recipient at Rcpt: 450) “later”\n0 finished"));
    assert_eq!(
        run.begin(Letter::to(1)),
        "> RSET",
        "the peer still has the sender"
    );
    assert_eq!(run.hear("250 ok\r\n"), "> MAIL FROM:<s@example.org>");
    assert_accounted(&harness::Letters(run.letters.0[..1].to_vec()), &run.events);
}

#[test]
fn sender_refused_needs_no_reset() {
    let mut run = Run::ready(options(), &[]);
    run.begin(Letter::to(3));
    assert_eq!(
        run.hear("550 5.7.1 not you\r\n"),
        "0/* failed (permanent Message at Mail: 550) “not you”\n0 finished"
    );
    assert_eq!(run.begin(Letter::to(1)), "> MAIL FROM:<s@example.org>");
}

#[test]
fn data_refused_needs_a_reset() {
    let mut run = Run::ready(options(), &[]);
    run.begin(Letter::to(1));
    let said = through(&mut run, &["250 ok", "250 ok", "451 disk"]);
    assert!(said.ends_with("0/* failed (temporary Message at Data: 451) “disk”\n0 finished"));
    assert_eq!(run.begin(Letter::to(1)), "> RSET");
    assert_eq!(
        run.hear("500 what\r\n"),
        "1/* unsent (temporary Host at Reset: 500) “what”\n1 finished\n\
         broken (temporary Host at Reset: 500) “what”\nclose"
    );
}

#[test]
fn body_refused_needs_none() {
    let mut run = Run::ready(options(), &[]);
    run.begin(Letter::to(1));
    let said = through(&mut run, &["250 ok", "250 ok", "354 go", "554 5.6.0 spam"]);
    assert!(said.ends_with("0/* failed (permanent Message at End: 554) “spam”\n0 finished"));
    assert_eq!(run.begin(Letter::to(1)), "> MAIL FROM:<s@example.org>");
}

#[test]
fn enough_recipients() {
    let mut run = Run::ready(options(), &[]);
    run.begin(Letter::to(4));
    let said = through(
        &mut run,
        &[
            "250 ok",
            "452 4.5.3 too many",
            "250 ok",
            "452 4.5.3 too many",
            "552 too many",
        ],
    );
    assert_eq!(
        said,
        "> RCPT TO:<r0@example.net>\n\
         0/0 failed (temporary Recipient at Rcpt: 452) “too many”\n\
         > RCPT TO:<r1@example.net>\n> RCPT TO:<r2@example.net>\n\
         0/2 postponed “too many”\n> RCPT TO:<r3@example.net>\n\
         0/3 postponed “too many”\n> DATA"
    );
    // A full mailbox is none of that.
    let mut run = Run::ready(options(), &[]);
    run.begin(Letter::to(2));
    let said = through(&mut run, &["250 ok", "250 ok", "552 5.2.2 full"]);
    assert!(said.contains("0/1 failed (permanent Recipient at Rcpt: 552)"));
}

#[test]
fn limits_of_the_peer() {
    let mut run = Run::ready(options(), &["LIMITS RCPTMAX=1 MAILMAX=2"]);
    assert_eq!(
        run.begin(Letter::to(3)),
        "0/1 postponed\n0/2 postponed\n> MAIL FROM:<s@example.org>"
    );
    through(&mut run, &["250 ok", "250 ok", "354 go", "250 ok"]);
    assert_accounted(&run.letters, &run.events);
    assert!(run.session.can_begin());
    run.begin(Letter::to(1));
    through(&mut run, &["250 ok", "250 ok", "354 go", "250 ok"]);
    assert!(!run.session.can_begin());
}

#[test]
fn more_recipients_than_a_session_keeps() {
    let mut run = Run::ready(options(), &["PIPELINING"]);
    let said = run.begin(Letter::to(1030));
    assert_eq!(said.matches("postponed").count(), 6);
    assert_eq!(said.matches("RCPT").count(), 1024);
    run.hear(&"250 ok\r\n".repeat(1025));
    run.hear("354 go\r\n250 ok\r\n");
    assert_accounted(&run.letters, &run.events);
}

#[test]
fn refused_before_anything_is_sent() {
    let plain = Letter::to(2);
    let cases = [
        (
            Letter {
                utf8: true,
                ..plain.clone()
            },
            "permanent Message at Mail: Utf8NotOffered",
        ),
        (
            Letter {
                eight_bit: true,
                ..plain.clone()
            },
            "permanent Message at Mail: EightBitNotOffered",
        ),
        (
            Letter {
                size: 1001,
                ..plain.clone()
            },
            "permanent Message at Mail: TooLarge { limit: 1000 }",
        ),
        (
            Letter {
                mail: MailParams {
                    requiretls: true,
                    ..MailParams::default()
                },
                ..plain.clone()
            },
            "permanent Host at Mail: RequireTlsNotOffered",
        ),
        (
            Letter {
                mail: MailParams {
                    body: Some(BodyType::BinaryMime),
                    ..MailParams::default()
                },
                ..plain.clone()
            },
            "permanent Message at Mail: BinaryNotOffered",
        ),
        (
            Letter {
                mail: MailParams {
                    by: Some(DeliverBy {
                        seconds: 60,
                        returns: true,
                        trace: false,
                    }),
                    ..MailParams::default()
                },
                ..plain
            },
            "permanent Message at Mail: DeliverByNotOffered",
        ),
        (Letter::to(0), "permanent Message at Mail: NoRecipients"),
    ];
    for (letter, failure) in cases {
        let mut run = Run::ready(options(), &["SIZE 1000", "REQUIRETLS", "BINARYMIME"]);
        let said = run.begin(letter);
        assert_eq!(said, std::format!("0/* failed ({failure})\n0 finished"));
        assert_eq!(run.poll(), Output::Wait(None), "still of use");
        assert_eq!(
            run.begin(Letter::to(1)),
            "> MAIL FROM:<s@example.org> SIZE=100"
        );
    }
    let codes = [
        (Cause::Utf8NotOffered, "5.6.7"),
        (Cause::RequireTlsNotOffered, "5.7.30"),
        (Cause::TooLarge { limit: 1 }, "5.3.4"),
    ];
    for (cause, code) in codes {
        let said = cause.enhanced(true).map(|code| std::format!("{code}"));
        assert_eq!(said.as_deref(), Some(code));
    }
    assert_eq!(
        Cause::Timeout.enhanced(false),
        Some(EnhancedCode::new(4, 4, 2))
    );
}

#[test]
fn no_envelope() {
    let mut run = Run::ready(options(), &[]);
    run.session.begin(TransactionId(9)).unwrap();
    let line = "9/* failed (temporary Message at Mail: EnvelopeMissing)\n9 finished";
    assert_eq!(run.drain(), line);
    run.begin(Letter::to(2));
    run.letters.0[0].to.pop();
    run.hear("250 ok\r\n");
    run.lines.clear();
    run.hear("250 ok\r\n");
    assert_eq!(
        run.lines[0],
        "0/* unsent (temporary Host at Rcpt: EnvelopeMissing)"
    );
}

#[test]
fn parameters_only_where_offered() {
    let all = Letter {
        mail: MailParams {
            ret: Some(Ret::Headers),
            envid: Some(b"QQ314159"),
            auth: Some(b"<>"),
            mt_priority: Some(3),
            ..MailParams::default()
        },
        rcpt: RcptParams {
            notify: Some(Notify {
                success: true,
                failure: true,
                ..Notify::default()
            }),
            orcpt: Some((b"rfc822", b"o@example.com")),
        },
        eight_bit: true,
        utf8: true,
        ..Letter::to(1)
    };
    let mut run = Run::ready(
        options(),
        &[
            "SIZE",
            "8BITMIME",
            "SMTPUTF8",
            "DSN",
            "AUTH PLAIN",
            "MT-PRIORITY",
            "PIPELINING",
        ],
    );
    let said = run.begin(all.clone());
    for parameter in [
        " SIZE=100",
        " BODY=8BITMIME",
        " SMTPUTF8",
        " RET=HDRS",
        " ENVID=QQ314159",
        " AUTH=<>",
        " MT-PRIORITY=3",
        " NOTIFY=SUCCESS,FAILURE",
        " ORCPT=rfc822;o@example.com",
    ] {
        assert!(said.contains(parameter), "{parameter} in {said}");
    }
    run.hear("250 ok\r\n250 ok\r\n354 go\r\n");
    let said = run.hear("250 ok\r\n");
    assert_eq!(said, "0/* delivered 250 with DSN “ok”\n0 finished");

    let mut run = Run::ready(
        Options {
            eight_bit: EightBit::SendAnyway,
            ..options()
        },
        &["PIPELINING"],
    );
    let said = run.begin(Letter { utf8: false, ..all });
    assert_eq!(
        said,
        "> MAIL FROM:<s@example.org>\n> RCPT TO:<r0@example.net>\n> DATA"
    );
}

#[test]
fn closed_before_and_after_the_body() {
    let mut run = Run::ready(options(), &[]);
    run.begin(Letter::to(2));
    through(&mut run, &["250 ok", "550 no", "250 ok"]);
    let mut before = run.clone();
    assert_eq!(
        before.tell(Input::Closed),
        "0/* unsent (temporary Host at Data: Closed)\n0 finished\n\
         broken (temporary Host at Data: Closed)\nclose"
    );
    run.prompt = false;
    run.hear("354 go\r\n");
    let mut during = run.clone();
    assert!(
        during
            .tell(Input::Closed)
            .starts_with("0/* unsent (temporary Host at Body: Closed)")
    );
    run.tell(Input::BodySent(TransactionId(0)));
    let mut after = run.clone();
    assert!(
        after
            .tell(Input::Closed)
            .starts_with("0/* unknown (temporary Host at End: Closed)")
    );
    assert!(
        run.time_out()
            .starts_with("0/* unknown (temporary Host at End: Timeout)")
    );
    for run in [before, during, after, run] {
        assert_accounted(&run.letters, &run.events);
    }
}

#[test]
fn service_closing_at_any_point() {
    let script = ["250 ok", "250 ok", "250 ok", "354 go"];
    for stop in 0..=script.len() {
        let mut run = Run::ready(options(), &[]);
        run.begin(Letter::to(2));
        through(&mut run, &script[..stop]);
        let state = run.session.state();
        let failure = std::format!("(temporary Lane at {state:?}: 421) “bye”");
        let said = run.hear("421 bye\r\n");
        assert_eq!(
            said,
            std::format!("0/* failed {failure}\n0 finished\nbroken {failure}\nclose")
        );
        assert_accounted(&run.letters, &run.events);
    }
}

#[test]
fn answered_before_the_body_was_sent() {
    let mut run = Run::ready(options(), &[]);
    run.prompt = false;
    run.begin(Letter::to(1));
    through(&mut run, &["250 ok", "250 ok", "354 go"]);
    // Good news counts when the body is out.
    let mut good = run.clone();
    assert_eq!(good.hear("250 2.0.0 ok\r\n"), "");
    assert_eq!(
        good.tell(Input::BodySent(TransactionId(0))),
        "0/* delivered 250 2.0.0\n0 finished"
    );
    let mut never = run.clone();
    never.hear("250 2.0.0 ok\r\n");
    assert!(never.tell(Input::Closed).starts_with("0/* unknown"));
    // Bad news counts at once, but the body has to go out all the same.
    assert_eq!(
        run.hear("552 5.3.4 too big\r\n"),
        "0/* failed (permanent Message at End: 552) “too big”"
    );
    assert!(!run.session.can_begin());
    // Taking the rest of the body for commands, as a peer does that was led astray.
    let mut astray = run.clone();
    assert_eq!(
        astray.hear("500 what\r\n"),
        "0 finished\nbroken (temporary Host at Body: UnexpectedReply(500))\nclose"
    );
    assert_eq!(run.tell(Input::BodySent(TransactionId(0))), "0 finished");
}

#[test]
fn replies_that_nobody_asked_for() {
    let broken = "broken (temporary Host at Idle: UnexpectedReply(250))\nclose";
    let mut run = Run::ready(options(), &[]);
    assert_eq!(run.hear("250 ok\r\n"), broken);
    // It began before the command went out, so it can't be its answer.
    let mut run = Run::ready(options(), &[]);
    run.hear("250 o");
    run.begin(Letter::to(1));
    let said = run.hear("k\r\n");
    assert!(said.starts_with("0/* unsent (temporary Host at Mail: UnexpectedReply(250))"));
    let mut run = Run::ready(options(), &[]);
    run.begin(Letter::to(1));
    let said = run.hear("250 ok\r\n250 ok\r\n");
    assert!(
        said.starts_with("0/* unsent"),
        "two answers to MAIL: {said}"
    );
    let mut run = Run::ready(options(), &[]);
    run.begin(Letter::to(1));
    assert!(
        run.hear("354 go\r\n")
            .contains("at Mail: UnexpectedReply(354)")
    );
    let mut run = Run::ready(options(), &[]);
    run.begin(Letter::to(1));
    let said = through(&mut run, &["250 ok", "250 ok", "250 ok"]);
    assert!(said.contains("at Data: UnexpectedReply(250)"));
}

#[test]
fn lmtp_answers_for_each() {
    for keywords in [&["PIPELINING"][..], &["PIPELINING", "CHUNKING"]] {
        let mut run = Run::ready(
            Options {
                lmtp: true,
                ..options()
            },
            keywords,
        );
        run.begin(Letter::to(4));
        run.hear("250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n250 ok\r\n");
        if keywords.len() == 1 {
            run.hear("354 go\r\n");
        }
        run.lines.clear();
        let mut short = run.clone();
        run.hear("250 stored\r\n452 4.2.2 full\r\n250 stored\r\n");
        assert_eq!(
            run.lines.join("\n"),
            "0/0 delivered 250 “stored”\n\
             0/2 failed (temporary Recipient at End: 452) “full”\n\
             0/3 delivered 250 “stored”\n0 finished"
        );
        assert_accounted(&run.letters, &run.events);
        short.hear("250 stored\r\n");
        assert!(short.tell(Input::Closed).starts_with("0/* unknown"));
        assert_accounted(&short.letters, &short.events);
    }
}

#[test]
fn a_small_buffer() {
    let mut run = Run::ready(options(), &["PIPELINING", "CHUNKING"]);
    run.out = std::vec![0; 8];
    run.letters.0.push(Letter::to(1000));
    run.session.begin(TransactionId(0)).unwrap();
    assert_eq!(run.poll(), Output::BufferTooSmall);
    assert_eq!(run.poll(), Output::BufferTooSmall);
    run.out = std::vec![0; 64];
    let said = run.drain();
    assert_eq!(said.matches("RCPT").count(), 1000);
    assert!(said.ends_with("> BDAT 100 LAST\n> (body 0 Bdat)"));
    run.hear(&"250 ok\r\n".repeat(1002));
    assert_accounted(&run.letters, &run.events);
}
