//! Greeting, EHLO, STARTTLS, QUIT.

use super::harness::{Letter, options, seconds};
use super::*;

fn greeted(options: Options) -> Run {
    let mut run = Run::new(options);
    run.drain();
    run.hear("220 mx ready\r\n");
    run.lines.clear();
    run
}

fn tls(mode: TlsMode) -> Options {
    Options {
        tls: mode,
        ..options()
    }
}

#[test]
fn capabilities_are_told() {
    let mut run = greeted(options());
    let ehlo = "250-mx hello PIPELINING\r\n250-SIZE 1000\r\n250-DSN\r\n250 LIMITS RCPTMAX=7\r\n";
    assert_eq!(
        run.hear(ehlo),
        "ready “mx hello PIPELINING SIZE 1000 DSN LIMITS RCPTMAX=7”"
    );
    let Event::Ready(offered) = run.events[0] else {
        panic!()
    };
    assert!(!offered.pipelining, "the first line is a greeting");
    assert_eq!((offered.size, offered.rcpt_max), (Some(1000), Some(7)));
    assert_eq!(run.poll(), Output::Wait(None), "idle");
}

#[test]
fn helo_after_ehlo_is_refused() {
    let mut run = greeted(options());
    assert_eq!(run.hear("502 what?\r\n"), "> HELO out.example.org");
    assert_eq!(
        run.hear("250-mx\r\n250 PIPELINING\r\n"),
        "ready “mx PIPELINING”"
    );
    assert!(
        !run.session.capabilities().pipelining,
        "HELO offers nothing"
    );
}

#[test]
fn a_host_that_refuses_gets_its_quit() {
    for (refusal, line) in [
        (
            "554 no service\r\n",
            "broken (permanent Host at Greeting: 554) “no service”\n> QUIT",
        ),
        (
            "450 later\r\n",
            "broken (temporary Host at Greeting: 450) “later”\n> QUIT",
        ),
    ] {
        let mut run = Run::new(options());
        run.drain();
        assert_eq!(run.hear(refusal), line);
        assert_eq!(run.hear("221 bye\r\n"), "close");
    }
    let mut run = greeted(options());
    run.hear("550 who are you?\r\n");
    let line = "broken (permanent Host at Hello: 550) “go away”\n> QUIT";
    assert_eq!(run.hear("550 go away\r\n"), line);
    assert_eq!(run.tell(Input::Closed), "close");
    let mut run = greeted(options());
    let line = "broken (temporary Host at Hello: 451) “busy”\n> QUIT";
    assert_eq!(run.hear("451 busy\r\n"), line);
    assert_eq!(run.time_out(), "close");
    assert_eq!(run.now, seconds(5));
}

#[test]
fn service_closing_needs_no_quit() {
    let mut run = Run::new(options());
    let line = "broken (temporary Lane at Greeting: 421) “too many”\nclose";
    assert_eq!(run.hear("421 too many\r\n"), line);
    let mut run = greeted(options());
    let line = "broken (temporary Lane at Hello: 421) “x”\nclose";
    assert_eq!(
        run.hear("421-4.7.0 x\r\n421 4.7.0\r\n").replace(" ”", "”"),
        line
    );
    let mut run = Run::ready(options(), &[]);
    let line = "broken (temporary Lane at Idle: 421) “idle”\nclose";
    assert_eq!(run.hear("421 idle\r\n"), line);
}

#[test]
fn a_greeting_in_single_bytes() {
    let mut run = Run::new(options());
    for byte in b"220-welcome\r\n220 to mx\r\n" {
        run.hear_bytes(&[*byte]);
    }
    assert_eq!(run.lines, ["> EHLO out.example.org"]);
}

#[test]
fn no_reply_at_all() {
    for (junk, cause) in [
        ("HTTP/1.1 400 Bad Request\r\n", "ReplyMalformed"),
        ("250-a\r\n550 b\r\n", "ReplyMalformed"),
        (&"220 ".repeat(1000), "ReplyTooLong"),
        (&"220-x\r\n".repeat(1000), "ReplyTooLong"),
    ] {
        let mut run = Run::new(options());
        let mut rest = junk.as_bytes();
        while let Ok(taken) = run.session.handle(run.now, Input::Received(rest)) {
            rest = &rest[taken..];
        }
        let line = std::format!("broken (temporary Host at Greeting: {cause})\nclose");
        assert_eq!(run.drain(), line);
    }
}

#[test]
fn starttls_then_ehlo_again() {
    let mut run = greeted(tls(TlsMode::Required));
    assert_eq!(
        run.hear("250-mx\r\n250-PIPELINING\r\n250 STARTTLS\r\n"),
        "> STARTTLS"
    );
    assert_eq!(run.hear("220 go\r\n"), "> (tls)");
    assert_eq!(run.session.state(), State::Handshake);
    assert_eq!(run.tell(Input::TlsEstablished), "> EHLO out.example.org");
    assert!(!run.session.capabilities().pipelining, "forgotten");
    assert_eq!(
        run.hear("250-mx\r\n250 STARTTLS\r\n"),
        "ready “mx STARTTLS”"
    );
    assert!(run.session.is_secured());
}

#[test]
fn plaintext_behind_the_answer_to_starttls() {
    let offers = "250-mx\r\n250 STARTTLS\r\n";
    let line = "broken (temporary Host at Handshake: PlaintextInjected)\nclose";
    let mut run = greeted(tls(TlsMode::Required));
    run.hear(offers);
    assert!(run.hear("220 go\r\n250 x\r\n").ends_with(line));
    let mut run = greeted(tls(TlsMode::Required));
    run.hear(offers);
    run.hear("220 go\r\n");
    assert_eq!(run.hear("2"), line);
}

#[test]
fn tls_that_cannot_be() {
    let offers = "250-mx\r\n250 STARTTLS\r\n";
    let mut run = greeted(tls(TlsMode::Required));
    let line = "broken (temporary Host at Hello: TlsNotOffered)\n> QUIT";
    assert_eq!(run.hear("250 mx\r\n"), line);
    let mut run = greeted(tls(TlsMode::Opportunistic));
    assert_eq!(run.hear("250 mx\r\n"), "ready “mx”");
    let mut run = greeted(tls(TlsMode::Required));
    run.hear(offers);
    let line = "broken (temporary Host at StartTls: 454) “no”\n> QUIT";
    assert_eq!(run.hear("454 no\r\n"), line);
    let mut run = greeted(tls(TlsMode::Opportunistic));
    run.hear(offers);
    assert_eq!(run.hear("454 no\r\n"), "ready “no”");
    let mut run = greeted(tls(TlsMode::Opportunistic));
    run.hear(offers);
    run.hear("220 go\r\n");
    let line = "broken (temporary Host at Handshake: TlsFailed)\nclose";
    assert_eq!(run.tell(Input::TlsFailed), line);
    let misuse = Run::new(options())
        .session
        .handle(Instant::ZERO, Input::TlsEstablished);
    assert_eq!(misuse, Err(Misuse::NoHandshake));
}

#[test]
fn lmtp_says_lhlo() {
    let mut run = Run::new(Options {
        lmtp: true,
        ..options()
    });
    assert_eq!(run.hear("220 mx LMTP\r\n"), "> LHLO out.example.org");
    let line = "broken (permanent Host at Hello: 500) “what”\n> QUIT";
    assert_eq!(run.hear("500 what\r\n"), line);
}

#[test]
fn deadlines_of_rfc_5321() {
    let mut run = Run::new(options());
    assert_eq!(run.poll(), Output::Wait(Some(seconds(300))), "greeting");
    run.now = seconds(10);
    run.hear("220 mx\r\n");
    assert_eq!(run.poll(), Output::Wait(Some(seconds(310))), "EHLO");
    run.now = seconds(309);
    assert_eq!(run.tell(Input::DeadlinePassed), "", "too early");
    assert_eq!(run.poll(), Output::Wait(Some(seconds(310))));
    let line = "broken (temporary Host at Hello: Timeout)\nclose";
    assert_eq!(run.time_out(), line);
    assert_eq!(run.poll(), Output::Close, "and stays so");

    let mut run = Run::ready(options(), &[]);
    run.prompt = false;
    assert_eq!(run.poll(), Output::Wait(None), "idle");
    run.begin(Letter::to(1));
    for (reply, wait) in [("250 ok", 300), ("250 ok", 120), ("354 go", 180)] {
        run.hear(&(std::string::String::from(reply) + "\r\n"));
        assert_eq!(run.poll(), Output::Wait(Some(seconds(wait))), "{reply}");
    }
    run.now = seconds(100);
    run.tell(Input::BodyProgress);
    assert_eq!(run.poll(), Output::Wait(Some(seconds(280))), "next block");
    run.tell(Input::BodySent(TransactionId(0)));
    assert_eq!(
        run.poll(),
        Output::Wait(Some(seconds(700))),
        "after the dot"
    );
    run.hear("250 ok\r\n");
    run.quit();
    assert_eq!(run.poll(), Output::Wait(Some(seconds(105))), "QUIT");
}

#[test]
fn calls_out_of_turn() {
    let mut run = Run::new(options());
    assert_eq!(
        run.session.begin(TransactionId(1)),
        Err(Misuse::CannotBegin)
    );
    run.drain();
    run.session
        .handle(run.now, Input::Received(b"554 no\r\n"))
        .unwrap();
    let early = run.session.handle(run.now, Input::Closed);
    assert_eq!(early, Err(Misuse::PollFirst));
    let mut run = Run::ready(options(), &["PIPELINING", "CHUNKING"]);
    run.session.begin(TransactionId(1)).unwrap();
    assert_eq!(
        run.session.begin(TransactionId(1)),
        Err(Misuse::SameTransaction)
    );
    let unasked = run
        .session
        .handle(run.now, Input::BodySent(TransactionId(1)));
    assert_eq!(unasked, Err(Misuse::NoSuchBody));
    run.session.begin(TransactionId(2)).unwrap();
    assert_eq!(
        run.session.begin(TransactionId(3)),
        Err(Misuse::CannotBegin)
    );
}
