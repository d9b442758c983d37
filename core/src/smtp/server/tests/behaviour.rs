//! What a client and an application see, one promise each.

use super::harness::{Caller, HELLO, hello, options, reply, with_auth};
use crate::smtp::extension::Capabilities;
use crate::smtp::server::{EarlyTalker, Event, Greeting, Input, Limits, Misuse, Options, Session};
use crate::time::{Duration, Instant};
use std::format;
use std::string::String;

const ENVELOPE: &str = "MAIL FROM:<a@c.example>\r\nRCPT TO:<b@d.example>\r\n";
const ENVELOPE_OK: &str = "250 2.1.0 Sender ok\r\n250 2.1.5 Recipient ok\r\n";

fn limits(change: fn(&mut Limits)) -> Options {
    let mut options = options();
    change(&mut options.limits);
    options
}

#[test]
fn a_session_is_small() {
    let size = size_of::<Session<&Options>>();
    std::println!(
        "Session<&Options>: {size} bytes, Options: {} bytes",
        size_of::<Options>()
    );
    assert!(size <= 1536, "{size}");
}

#[test]
fn a_whole_session() {
    let mut c = Caller::new(options());
    c.run();
    assert_eq!(c.replies(), "220 mx.example ESMTP\r\n");
    let ehlo = c.ask(HELLO);
    assert_eq!(
        ehlo,
        "250-mx.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n\
         250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n250-SIZE 52428800\r\n250 HELP\r\n"
    );
    assert_eq!(c.ask(ENVELOPE), ENVELOPE_OK);
    assert_eq!(c.ask("DATA\r\n"), "354 End with <CRLF>.<CRLF>\r\n");
    assert_eq!(c.ask("Hi\r\n..\r\n.\r\n"), "250 2.0.0 Message accepted\r\n");
    assert_eq!(c.messages, [b"Hi\r\n.\r\n"]);
    assert_eq!(c.ask("QUIT\r\n"), "221 2.0.0 Bye\r\n");
    assert!(c.closed);
}

#[test]
fn the_ehlo_answer_reads_back_as_the_capabilities() {
    let mut all = with_auth();
    all.offer.binarymime = true;
    all.offer.requiretls = true;
    all.offer.mt_priority = true;
    all.offer.deliver_by = Some(60);
    all.offer.future_release = Some(86_400);
    all.offer.rcpt_max = true;
    all.offer.mail_max = true;
    all.offer.starttls = true;
    all.limits.transactions = 7;
    let mut plain = options();
    plain.offer.size = false;
    for (options, tls) in [(all.clone(), false), (all, true), (plain, false)] {
        let mut c = Caller::new(options);
        if tls {
            c.session
                .handle(Instant::ZERO, Input::TlsEstablished)
                .unwrap();
        }
        c.run();
        let answer = c.ask(HELLO);
        let mut read = Capabilities::default();
        for line in answer.lines().skip(1) {
            read.from_line(&line.as_bytes()[4..]);
        }
        assert_eq!(read, c.session.capabilities());
    }
}

#[test]
fn grouped_replies_go_out_in_one_write() {
    let mut c = hello(options());
    c.send(format!("{ENVELOPE}RCPT TO:<e@d.example>\r\nDATA\r\n").as_bytes());
    assert_eq!(c.writes, 1);
    c.forget();
    c.send(b"x\r\n.\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<b@d.example>\r\nBDAT 3 LAST\r\nx\r\n");
    assert_eq!(
        c.replies(),
        format!("250 2.0.0 Message accepted\r\n{ENVELOPE_OK}250 2.0.0 Message accepted\r\n")
    );
    assert_eq!(c.writes, 1);
    // RFC 2920 3.2: never behind these.
    c.forget();
    c.send(b"NOOP\r\nNOOP\r\nVRFY x\r\nFOO\r\n");
    assert_eq!(c.writes, 4);
}

#[test]
fn a_thousand_replies_pass_through_the_queue() {
    let mut c = hello(options());
    let mut script = String::from("MAIL FROM:<>\r\n");
    for i in 0..1000 {
        script += &format!("RCPT TO:<r{i}@d.example>\r\n");
    }
    c.out = std::vec![0; 13];
    c.send(script.as_bytes());
    assert_eq!(
        c.replies().matches("250 2.1.5 Recipient ok\r\n").count(),
        1000
    );
    assert_eq!(
        c.ask("RCPT TO:<one.more@d.example>\r\n"),
        "452 4.5.3 Too many recipients in one transaction\r\n"
    );
    assert_eq!(c.ask("BDAT 0 LAST\r\n"), "250 2.0.0 Message accepted\r\n");
}

#[test]
fn the_session_waits_for_a_late_answer() {
    let mut c = hello(options());
    c.policy = |_| None;
    let script = format!("{ENVELOPE}DATA\r\n");
    c.send(script.as_bytes());
    assert_eq!(c.log.len(), 1);
    let rest = c.buffer.clone();
    assert_eq!(rest, b"RCPT TO:<b@d.example>\r\nDATA\r\n");
    c.now = Instant::from_nanos(1 << 60);
    assert_eq!(c.run(), None, "the application's time isn't counted");
    assert_eq!(c.buffer, rest, "nothing is consumed");
    c.handle(Input::AcceptWith(reply(250, (2, 1, 0), "Sure")));
    c.handle(Input::Refuse(reply(451, (4, 3, 0), "Later\nor never")));
    assert_eq!(
        c.replies(),
        "250 2.1.0 Sure\r\n451-4.3.0 Later\r\n451 4.3.0 or never\r\n554 5.5.1 No valid recipients\r\n"
    );
}

#[test]
fn data_is_refused_before_the_body() {
    let mut c = hello(options());
    c.policy = |event| match event {
        Event::BodyStart => Some(Input::Refuse(reply(452, (4, 3, 1), "Disk full"))),
        event => super::harness::usual(event),
    };
    assert_eq!(
        c.ask(&format!("{ENVELOPE}DATA\r\n")),
        format!("{ENVELOPE_OK}452 4.3.1 Disk full\r\n")
    );
    // The transaction is over.
    assert_eq!(c.ask("DATA\r\n"), "503 5.5.1 Need MAIL first\r\n");
    // A chunk comes whether we want it or not.
    assert_eq!(
        c.ask(&format!(
            "{ENVELOPE}BDAT 4\r\nRSETBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"
        )),
        format!(
            "{ENVELOPE_OK}452 4.3.1 Disk full\r\n503 5.5.1 Need MAIL first\r\n250 2.0.0 Ok\r\n"
        )
    );
}

#[test]
fn a_refused_body_is_read_to_its_end() {
    let mut c = hello(options());
    c.policy = |event| match event {
        Event::Body(_) => Some(Input::Refuse(reply(554, (5, 6, 0), "Spam"))),
        event => super::harness::usual(event),
    };
    let data = c.ask(&format!("{ENVELOPE}DATA\r\nfirst\r\n"));
    assert!(data.ends_with("<CRLF>.<CRLF>\r\n"), "{data}");
    assert_eq!(c.ask("second\r\n"), "");
    assert_eq!(c.ask(".\r\nNOOP\r\n"), "554 5.6.0 Spam\r\n250 2.0.0 Ok\r\n");
    assert!(c.messages.is_empty());
}

#[test]
fn too_large_is_refused_at_mail_and_while_receiving() {
    let mut c = hello(limits(|l| l.message_bytes = 10));
    assert_eq!(
        c.ask("MAIL FROM:<a@c.example> SIZE=11\r\n"),
        "552 5.3.4 Message is larger than allowed\r\n"
    );
    c.ask(&format!("{ENVELOPE}DATA\r\n"));
    assert_eq!(c.ask("12345678\r\n1\r\n"), "");
    assert_eq!(c.log.last().unwrap(), "Reset");
    assert_eq!(
        c.ask("MAIL FROM:<x@y>\r\n.\r\nNOOP\r\n"),
        "552 5.3.4 Message is larger than allowed\r\n250 2.0.0 Ok\r\n"
    );
    // By chunks: the second is one too much, the third had been pipelined.
    assert_eq!(
        c.ask(&format!(
            "{ENVELOPE}BDAT 8\r\n123456\r\nBDAT 3\r\n1\r\nBDAT 2 LAST\r\n\r\nNOOP\r\n"
        )),
        format!(
            "{ENVELOPE_OK}250 2.0.0 Chunk received\r\n552 5.3.4 Message is larger than allowed\r\n\
             503 5.5.1 Need MAIL first\r\n250 2.0.0 Ok\r\n"
        )
    );
    // Exactly as much as is allowed.
    c.ask(&format!("{ENVELOPE}DATA\r\n12345678\r\n.\r\n"));
    assert_eq!(c.messages.len(), 1);
}

#[test]
fn an_endless_refused_body_is_cut() {
    let options = limits(|l| {
        l.message_bytes = 10;
        l.discarded_bytes = 20;
    });
    let big = "552 5.3.4 Message is larger than allowed\r\n";
    let mut c = hello(options.clone());
    c.ask(&format!("{ENVELOPE}DATA\r\n123456789\r\n"));
    assert_eq!(c.ask("1234567890123456\r\n"), "");
    assert_eq!(c.ask("12"), big);
    assert!(c.closed);
    // A chunk says how long it is.
    let mut c = hello(options.clone());
    c.ask(&format!("{ENVELOPE}BDAT 20\r\n"));
    assert!(!c.closed);
    let mut c = hello(options.clone());
    assert_eq!(
        c.ask(&format!("{ENVELOPE}BDAT 21\r\n")),
        format!("{ENVELOPE_OK}{big}")
    );
    assert!(c.closed);
    // The application refuses in the middle of one.
    let mut unlimited = options;
    unlimited.limits.message_bytes = 0;
    let mut c = hello(unlimited);
    c.policy = |event| match event {
        Event::Body(_) => Some(Input::Refuse(reply(554, (5, 6, 0), "Spam"))),
        event => super::harness::usual(event),
    };
    c.ask(&format!("{ENVELOPE}BDAT 1000\r\nx"));
    assert_eq!(c.ask("12345678901234567890"), "");
    assert_eq!(c.ask("1"), "554 5.6.0 Spam\r\n");
    assert!(c.closed);
}

#[test]
fn chunks_and_data_do_not_mix() {
    let mut c = hello(options());
    assert_eq!(
        c.ask(&format!(
            "{ENVELOPE}BDAT 2\r\nhiDATA\r\nRCPT TO:<x@d.example>\r\nBDAT 0\r\nBDAT 2 LAST\r\n\r\n"
        )),
        format!(
            "{ENVELOPE_OK}250 2.0.0 Chunk received\r\n503 5.5.1 The message has begun\r\n\
             503 5.5.1 The message has begun\r\n250 2.0.0 Chunk received\r\n\
             250 2.0.0 Message accepted\r\n"
        )
    );
    assert_eq!(c.messages, [b"hi\r\n"]);
}

#[test]
fn binary_needs_chunks() {
    let mut options = options();
    options.offer.binarymime = true;
    let mut c = hello(options);
    let replies = c.ask(
        "MAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<b@d.example>\r\nDATA\r\nBDAT 4 LAST\r\n\n\r\0\r",
    );
    assert!(
        replies.ends_with("503 5.6.1 BODY=BINARYMIME needs BDAT\r\n250 2.0.0 Message accepted\r\n")
    );
    assert_eq!(c.messages, [b"\n\r\0\r"]);
}

#[test]
fn lmtp_answers_each_recipient() {
    let mut options = options();
    options.lmtp = true;
    options.limits.message_bytes = 10;
    let mut c = hello(options);
    c.policy = |event| match event {
        Event::BodyEnd { recipient: 1, .. } => {
            Some(Input::Refuse(reply(452, (4, 2, 2), "Mailbox full")))
        }
        event => super::harness::usual(event),
    };
    let envelope = "MAIL FROM:<>\r\nRCPT TO:<a@d>\r\nRCPT TO:<bad@d>\r\nRCPT TO:<b@d>\r\n";
    c.ask(envelope);
    let answers = "250 2.0.0 Message accepted\r\n452 4.2.2 Mailbox full\r\n";
    let data = c.ask("DATA\r\nx\r\n.\r\n");
    assert!(data.ends_with(answers), "{data}");
    c.ask(envelope);
    assert_eq!(c.ask("BDAT 0\r\n"), "250 2.0.0 Chunk received\r\n");
    assert_eq!(c.ask("BDAT 0 LAST\r\n"), answers);
    // A refusal as well.
    c.ask(envelope);
    let big = "552 5.3.4 Message is larger than allowed\r\n";
    assert_eq!(
        c.ask("BDAT 11 LAST\r\n123456789\r\nNOOP\r\n"),
        format!("{big}{big}250 2.0.0 Ok\r\n")
    );
    c.ask("MAIL FROM:<>\r\nRCPT TO:<bad@d>\r\n");
    assert_eq!(c.ask("DATA\r\n"), "503 5.5.1 Need RCPT first\r\n");
}

#[test]
fn helo_has_no_extensions() {
    let mut c = Caller::greeted(options());
    assert_eq!(c.ask("HELO c.example\r\n"), "250 mx.example\r\n");
    for (command, answer) in [
        (
            "MAIL FROM:<> SIZE=1\r\n",
            "555 5.5.4 Parameter of an extension that is not offered\r\n",
        ),
        ("MAIL FROM:<>\r\n", "250 2.1.0 Sender ok\r\n"),
        (
            "RCPT TO:<a@b> NOTIFY=NEVER\r\n",
            "555 5.5.4 Parameter of an extension that is not offered\r\n",
        ),
    ] {
        assert_eq!(c.ask(command), answer);
    }
}

#[test]
fn a_new_ehlo_ends_the_transaction() {
    let mut c = hello(options());
    c.ask(ENVELOPE);
    c.policy = |event| match event {
        Event::Reset => None,
        _ => Some(Input::AcceptWith(reply(
            250,
            (2, 0, 0),
            "hello again\nforged",
        ))),
    };
    let answer = c.ask("EHLO again\r\n");
    assert!(
        answer.starts_with("250-mx.example hello again\r\n250-PIPELINING"),
        "{answer}"
    );
    assert_eq!(
        c.log[2..],
        ["Reset", "Hello { greeting: Ehlo, name: \"again\" }"]
    );
    assert_eq!(c.ask("DATA\r\n"), "503 5.5.1 Need MAIL first\r\n");
}

#[test]
fn without_enhanced_codes() {
    let mut options = options();
    options.offer.enhanced_status_codes = false;
    let mut c = hello(options);
    assert_eq!(
        c.ask("MAIL FROM:<>\r\nRCPT TO:<bad@d>\r\nFOO\r\n"),
        "250 Sender ok\r\n550 No\r\n500 Command not recognised\r\n"
    );
}

#[test]
fn errors_are_counted_but_not_those_behind_a_refusal() {
    let mut c = hello(limits(|l| l.errors = 3));
    c.ask("MAIL FROM:<bad@c>\r\nRCPT TO:<a@d>\r\nRCPT TO:<b@d>\r\nRCPT TO:<c@d>\r\nDATA\r\n");
    assert!(!c.closed);
    assert_eq!(c.ask("FOO\r\nBAR\r\n").matches("500 ").count(), 2);
    assert_eq!(c.ask("BAZ\r\nNOOP\r\n"), "421 4.7.0 Too many errors\r\n");
    assert!(c.closed);
    // An accepted message makes good for them.
    let mut c = hello(limits(|l| l.errors = 3));
    let message = format!("FOO\r\nBAR\r\n{ENVELOPE}BDAT 0 LAST\r\n");
    for _ in 0..5 {
        c.ask(&message);
    }
    assert!(!c.closed);
}

#[test]
fn floods_are_cut() {
    for (change, flood, last) in [
        (
            (|l| l.junk_commands = 3) as fn(&mut Limits),
            "NOOP\r\nRSET\r\nVRFY x\r\n",
            "421 4.7.0 Too many commands without a message\r\n",
        ),
        (
            |l| l.commands = 3,
            "NOOP\r\nMAIL FROM:<>\r\nRSET\r\n",
            "421 4.7.0 Too many commands\r\n",
        ),
        (
            |l| l.refused_recipients = 1,
            "MAIL FROM:<>\r\nRCPT TO:<bad@x>\r\nRCPT TO:<bad@x>\r\n",
            "421 4.7.0 Too many refused recipients\r\n",
        ),
        (
            |l| l.transactions = 1,
            "MAIL FROM:<>\r\nRSET\r\nMAIL FROM:<>\r\n",
            "421 4.7.0 Too many messages, reconnect\r\n",
        ),
    ] {
        let mut c = Caller::greeted(limits(change));
        let replies = c.ask(&format!("{HELLO}{flood}NOOP\r\n"));
        assert!(replies.ends_with(last), "{replies}");
        assert!(c.closed);
    }
}

#[test]
fn time_passes() {
    let s = |s: u64| Instant::ZERO + Duration::from_secs(s);
    let mut options = options();
    options.timeouts.message = Duration::from_secs(400);
    let mut c = Caller::new(options.clone());
    assert_eq!(c.run(), Some(s(300)));
    c.now = s(299);
    // A part of a command renews nothing.
    c.buffer = b"NOO".to_vec();
    assert_eq!(c.run(), Some(s(300)));
    c.buffer = b"EHLO c\r\n".to_vec();
    assert_eq!(c.run(), Some(s(599)));
    c.buffer = format!("{ENVELOPE}DATA\r\n").into_bytes();
    assert_eq!(c.run(), Some(s(299 + 180)));
    c.now = s(400);
    c.buffer = b"x".to_vec();
    assert_eq!(c.run(), Some(s(580)));
    c.now = s(570);
    c.buffer = b"x".to_vec();
    assert_eq!(c.run(), Some(s(699)), "the whole message");
    c.now = s(699);
    c.forget();
    c.handle(Input::DeadlinePassed);
    assert_eq!(c.replies(), "421 4.4.2 Timed out waiting for you\r\n");
    assert!(c.closed);
    // The whole session, at a command.
    options.timeouts.session = Some(Duration::from_secs(60));
    let mut c = hello(options);
    assert_eq!(c.run(), Some(s(60)));
    c.now = s(60);
    assert_eq!(c.ask("NOOP\r\n"), "421 4.4.2 Timed out waiting for you\r\n");
}

#[test]
fn early_talkers() {
    let mut options = options();
    options.greeting_delay = Duration::from_secs(5);
    let until = Instant::ZERO + Duration::from_secs(5);
    let mut c = Caller::new(options.clone());
    assert_eq!(c.run(), Some(until));
    assert_eq!(c.ask(HELLO), "");
    assert!(c.session.early_talker());
    c.now = until;
    c.run();
    assert!(
        c.replies()
            .starts_with("220 mx.example ESMTP\r\n250-mx.example\r\n")
    );
    options.early_talker = EarlyTalker::Flag;
    let mut c = Caller::new(options.clone());
    c.ask("E");
    c.ask("H");
    assert_eq!(c.log, ["EarlyTalker"]);
    options.early_talker = EarlyTalker::Refuse;
    let mut c = Caller::new(options);
    assert_eq!(c.ask("E"), "554 5.5.1 You spoke before the greeting\r\n");
    assert!(c.closed);
}

#[test]
fn shutdown_waits_for_the_body_and_its_answer() {
    let bye = "421 4.3.2 Server is shutting down\r\n";
    let mut c = hello(options());
    c.ask(&format!("{ENVELOPE}DATA\r\nx"));
    c.handle(Input::Shutdown);
    assert!(!c.closed);
    assert_eq!(
        c.ask("\r\n.\r\nNOOP\r\n"),
        format!("250 2.0.0 Message accepted\r\n{bye}")
    );
    assert!(c.closed);
    let mut c = hello(options());
    c.handle(Input::Shutdown);
    assert_eq!(c.replies(), bye);
    let mut c = Caller::new(options());
    c.handle(Input::Shutdown);
    assert_eq!(c.replies(), bye);
}

#[test]
fn the_application_closes() {
    let no = Input::RefuseAndClose(reply(554, (5, 7, 1), "Not you"));
    let mut c = Caller::new(options());
    c.handle(no);
    assert_eq!(c.replies(), "554 5.7.1 Not you\r\n");
    assert!(c.closed);
    let mut c = hello(options());
    c.ask(&format!("{ENVELOPE}DATA\r\nx"));
    c.forget();
    c.handle(no);
    assert_eq!(c.replies(), "554 5.7.1 Not you\r\n");
    // 421 closes by itself.
    let mut c = hello(options());
    c.policy = |_| Some(Input::Refuse(reply(421, (4, 7, 0), "Enough")));
    assert_eq!(c.ask("MAIL FROM:<>\r\nNOOP\r\n"), "421 4.7.0 Enough\r\n");
    assert!(c.closed);
}

#[test]
fn misuse_is_named() {
    let mut c = hello(options());
    let ok = reply(250, (2, 0, 0), "");
    let no = reply(550, (5, 0, 0), "");
    let mut say = |input| c.session.handle(Instant::ZERO, input);
    assert_eq!(say(Input::Accept), Err(Misuse::NothingPending));
    assert_eq!(say(Input::Refuse(no)), Err(Misuse::NothingPending));
    assert_eq!(say(Input::Refuse(ok)), Err(Misuse::ReplyClass));
    assert_eq!(say(Input::AcceptWith(no)), Err(Misuse::ReplyClass));
    assert_eq!(say(Input::AuthDone), Err(Misuse::NothingPending));
    assert_eq!(say(Input::TlsEstablished), Err(Misuse::NoHandshake));
    c.policy = |_| None;
    c.send(b"MAIL FROM:<>\r\n");
    let mut say = |input| c.session.handle(Instant::ZERO, input);
    assert_eq!(say(Input::AuthDone), Err(Misuse::WrongAnswer));
    assert_eq!(say(Input::Closed), Ok(()));
    assert_eq!(say(Input::Accept), Err(Misuse::Over));
    assert_eq!(c.session.greeting(), Some(Greeting::Ehlo));
    c.run();
    assert!(c.closed);
    let mut c = hello(with_auth());
    c.policy = |_| None;
    c.send(b"AUTH PLAIN\r\n");
    let mut say = |input| c.session.handle(Instant::ZERO, input);
    assert_eq!(say(Input::Accept), Err(Misuse::WrongAnswer));
    assert_eq!(say(Input::AuthChallenge(b"a\r\n")), Err(Misuse::Challenge));
    assert_eq!(
        say(Input::AuthChallenge(&[b'A'; 2000])),
        Err(Misuse::Challenge)
    );
    assert_eq!(say(Input::AuthChallenge(b"")), Ok(()));
}

#[test]
fn names_are_checked() {
    assert!(Options::new("").is_err());
    assert!(Options::new("a b").is_err());
    assert!(Options::new("a\r\n250 b").is_err());
    assert!(Options::new(&"a".repeat(256)).is_err());
    assert_eq!(Options::new("[192.0.2.1]").unwrap().name(), "[192.0.2.1]");
}
