//! AUTH.

use super::harness::{Letter, options};
use super::*;
use crate::smtp::extension::AuthMechanisms;
use crate::smtp::sasl::client::Fault;
use crate::smtp::sasl::client::{Exchange, Login};
use crate::smtp::sasl::{Channel, Mechanism, Nonce};
use std::format;
use std::string::String;

fn auth(without_tls: bool) -> Options {
    let mechanisms = AuthMechanisms {
        plain: true,
        login: true,
        scram_sha_256: true,
        scram_sha_256_plus: true,
        ..AuthMechanisms::default()
    };
    Options {
        auth: Some(Auth {
            mechanisms,
            without_tls,
        }),
        ..options()
    }
}

/// A session whose EHLO is answered with this, and what it does then.
fn offered(options: Options, keyword: &str) -> (Run, String) {
    offered_to(Some(true), options, keyword)
}

/// The same, where a line is said to be complete or not, or isn't sent.
fn offered_to(complete: Option<bool>, options: Options, keyword: &str) -> (Run, String) {
    let mut run = Run::new(options);
    run.auth_complete = complete;
    run.drain();
    run.hear("220 mx\r\n");
    run.lines.clear();
    let said = run.hear(&format!("250-mx\r\n250 {keyword}\r\n"));
    (run, said)
}

#[test]
fn the_best_that_is_offered() {
    let all = "AUTH LOGIN PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS CRAM-MD5";
    let first = |options: Options, keyword| offered(options, keyword).1;
    assert_eq!(first(auth(true), all), "> (auth SCRAM-SHA-256)");
    assert_eq!(first(auth(true), "AUTH LOGIN PLAIN"), "> (auth PLAIN)");
    assert_eq!(first(auth(true), "AUTH=LOGIN"), "> (auth LOGIN)");
    let secured = Options {
        tls: TlsMode::Implicit,
        ..auth(false)
    };
    assert_eq!(first(secured, all), "> (auth SCRAM-SHA-256-PLUS)");
    let none = "broken (temporary Host at Hello: AuthNotOffered)\n> QUIT";
    for keyword in [
        "AUTH CRAM-MD5 GSSAPI",
        "AUTH SCRAM-SHA-256-PLUS",
        "AUTH",
        "DSN",
    ] {
        assert_eq!(first(auth(true), keyword), none, "{keyword}");
    }
    // HELO offers nothing.
    let mut run = Run::new(auth(true));
    run.drain();
    run.hear("220 mx\r\n");
    run.hear("500 what\r\n");
    assert_eq!(run.hear("250 mx\r\n"), none);
}

#[test]
fn only_over_tls() {
    let no = "broken (temporary Host at Hello: AuthNeedsTls)\n> QUIT";
    assert_eq!(offered(auth(false), "AUTH PLAIN").1, no);
    let opportunistic = Options {
        tls: TlsMode::Opportunistic,
        ..auth(false)
    };
    // Somebody may have taken STARTTLS away.
    assert_eq!(offered(opportunistic.clone(), "AUTH PLAIN").1, no);
    let (mut run, said) = offered(opportunistic, "STARTTLS");
    assert_eq!(said, "> STARTTLS");
    let mut refused = run.clone();
    let said = refused.hear("454 not now\r\n");
    assert_eq!(said, no.replace("Hello", "StartTls"));
    run.hear("220 go\r\n");
    assert_eq!(run.tell(Input::TlsEstablished), "> EHLO out.example.org");
    assert_eq!(run.hear("250-mx\r\n250 AUTH PLAIN\r\n"), "> (auth PLAIN)");
    assert_eq!(run.hear("235 2.7.0 hello ann\r\n"), "ready “hello ann”");
    assert!(run.session.is_authenticated());
}

#[test]
fn yes_and_then_nobody_is_vouched_for() {
    let (mut run, _) = offered(auth(true), "AUTH PLAIN");
    assert!(!run.session.is_authenticated() && !run.session.can_begin());
    run.hear("235 ok\r\n");
    assert_eq!(
        run.begin(Letter::to(1)),
        "> MAIL FROM:<s@example.org> AUTH=<>"
    );
    let (mut run, _) = offered(auth(true), "AUTH PLAIN");
    run.hear("235 ok\r\n");
    let mut named = Letter::to(1);
    named.mail.auth = Some(b"ann@example.org");
    assert_eq!(
        run.begin(named),
        "> MAIL FROM:<s@example.org> AUTH=ann@example.org"
    );
    // To a peer that we are nobody to, nothing is said of it.
    let mut run = Run::ready(options(), &["AUTH PLAIN"]);
    assert_eq!(run.begin(Letter::to(1)), "> MAIL FROM:<s@example.org>");
}

#[test]
fn no_is_for_the_operator_and_bounces_nothing() {
    for (reply, line) in [
        (
            "535 5.7.8 wrong",
            "AuthRefused { code: 535, enhanced: Some(5.7.8) }) “wrong”",
        ),
        (
            "504 what?",
            "AuthRefused { code: 504, enhanced: None }) “what?”",
        ),
        ("454 4.7.0 later", "454) “later”"),
    ] {
        let (mut run, _) = offered(auth(true), "AUTH PLAIN");
        let said = run.hear(&format!("{reply}\r\n"));
        let said = said.replace("ReplyCode(", "").replace("),", ",");
        let want = format!("broken (temporary Host at Auth: {line}\n> QUIT");
        assert_eq!(said, want, "{reply}");
        assert_eq!(run.hear("221 bye\r\n"), "close");
    }
    let (mut run, _) = offered(auth(true), "AUTH PLAIN");
    let said = run.hear("421 4.7.0 too many\r\n");
    assert_eq!(
        said,
        "broken (temporary Lane at Auth: 421) “too many”\nclose"
    );
    let refused = Cause::AuthRefused {
        code: ReplyCode::new(535).unwrap(),
        enhanced: Some(crate::smtp::reply::EnhancedCode::new(5, 7, 8)),
    };
    assert_eq!(format!("{}", refused.enhanced(false).unwrap()), "4.7.8");
}

#[test]
fn challenges_are_answered_one_by_one() {
    let (mut run, _) = offered_to(Some(false), auth(true), "AUTH LOGIN");
    assert_eq!(
        run.hear("334 VXNlcm5hbWU6\r\n"),
        "> (auth LOGIN to “VXNlcm5hbWU6”)"
    );
    run.auth_complete = Some(true);
    assert_eq!(
        run.hear("334 UGFzc3dvcmQ6\r\n"),
        "> (auth LOGIN to “UGFzc3dvcmQ6”)"
    );
    assert_eq!(run.hear("235 ok\r\n"), "ready “ok”");
    // All at once: what nobody asked for yet is out of turn.
    let (mut run, _) = offered_to(None, auth(true), "AUTH LOGIN");
    let mut early = run.clone();
    let mut rest = &b"334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n"[..];
    run.session
        .handle(run.now, Input::AuthSent { complete: false })
        .unwrap();
    let taken = run.session.handle(run.now, Input::Received(rest)).unwrap();
    rest = &rest[taken..];
    assert_eq!(rest, b"334 UGFzc3dvcmQ6\r\n");
    assert_eq!(
        run.session.handle(run.now, Input::Closed),
        Err(Misuse::PollFirst)
    );
    assert_eq!(run.drain(), "> (auth LOGIN to “VXNlcm5hbWU6”)");
    let said = run.hear_bytes(rest);
    assert!(
        said.starts_with("broken (temporary Host at Auth: UnexpectedReply"),
        "{said}"
    );
    // So is a yes before the command.
    let said = early.hear("235 ok\r\n");
    assert!(
        said.starts_with("broken (temporary Host at Auth: UnexpectedReply"),
        "{said}"
    );
}

#[test]
fn a_yes_before_the_proof_is_none() {
    let (mut run, _) = offered_to(Some(false), auth(true), "AUTH SCRAM-SHA-256");
    run.hear("334 abcd\r\n");
    let unproven = "broken (temporary Host at Auth: AuthUnproven)\nclose";
    assert_eq!(run.hear("235 ok\r\n"), unproven);
    let (mut run, _) = offered_to(None, auth(true), "AUTH SCRAM-SHA-256");
    run.session
        .handle(run.now, Input::AuthSent { complete: false })
        .unwrap();
    run.hear("334 abcd\r\n");
    assert_eq!(run.tell(Input::AuthFailed), unproven);
    // More than the reader keeps can't be answered.
    let (mut run, _) = offered(auth(true), "AUTH SCRAM-SHA-256");
    let long = format!("334 {}\r\n", "A".repeat(1500));
    assert_eq!(run.hear(&long), unproven);
    for (code, out_of_turn) in [("250", true), ("334", false), ("354", true)] {
        let (mut run, _) = offered(auth(true), "AUTH PLAIN");
        let said = run.hear(&format!("{code} x\r\n"));
        assert_eq!(said.contains("UnexpectedReply"), out_of_turn, "{said}");
    }
}

#[test]
fn what_was_not_asked_for() {
    let mut run = Run::ready(options(), &[]);
    let sent = Input::AuthSent { complete: true };
    assert_eq!(run.session.handle(run.now, sent), Err(Misuse::NoAuth));
    assert_eq!(
        run.session.handle(run.now, Input::AuthFailed),
        Err(Misuse::NoAuth)
    );
    let (mut run, _) = offered(auth(true), "AUTH PLAIN");
    let said = run.time_out();
    assert_eq!(said, "broken (temporary Host at Auth: Timeout)\nclose");
    assert_eq!(run.now, super::harness::seconds(300));
    let (mut run, _) = offered(auth(true), "AUTH PLAIN");
    assert_eq!(
        run.tell(Input::Closed),
        "broken (temporary Host at Auth: Closed)\nclose"
    );
}

fn lines(mechanism: Mechanism) -> AuthLines {
    let nonce = Nonce::of_text("abc").unwrap();
    AuthLines::new(Exchange::new(mechanism, nonce, Channel::none(), false))
}

fn line(lines: &mut AuthLines, challenge: Option<&str>, login: Login<'_>) -> (String, bool) {
    let mut out = [0; 2048];
    match lines.next(challenge.map(str::as_bytes), login, &mut out) {
        AuthLine::Send { len, complete } => {
            (String::from_utf8(out[..len].to_vec()).unwrap(), complete)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn lines_of_each_mechanism() {
    let ann = Login {
        user: "ann",
        password: b"sesame",
    };
    let mut plain = lines(Mechanism::Plain);
    let said = line(&mut plain, None, ann);
    assert_eq!(said, ("AUTH PLAIN AGFubgBzZXNhbWU=\r\n".into(), true));
    let mut login = lines(Mechanism::Login);
    assert_eq!(
        line(&mut login, None, ann),
        ("AUTH LOGIN\r\n".into(), false)
    );
    // Some servers ask in plain words.
    assert_eq!(
        line(&mut login, Some("Who?"), ann),
        ("YW5u\r\n".into(), false)
    );
    assert_eq!(
        line(&mut login, Some(""), ann),
        ("c2VzYW1l\r\n".into(), true)
    );
    let mut out = [0; 2048];
    let third = login.next(Some(b"x"), ann, &mut out);
    assert_eq!(third, AuthLine::Failed(Fault::OutOfTurn));
    let mut scram = lines(Mechanism::ScramSha256);
    let said = line(&mut scram, None, ann);
    assert_eq!(
        said,
        ("AUTH SCRAM-SHA-256 biwsbj1hbm4scj1hYmM=\r\n".into(), false)
    );
}

#[test]
fn what_does_not_fit_the_command_follows_it() {
    let key = "k".repeat(1024);
    let long = Login {
        user: "ann",
        password: key.as_bytes(),
    };
    let mut plain = lines(Mechanism::Plain);
    assert_eq!(
        line(&mut plain, None, long),
        ("AUTH PLAIN\r\n".into(), false)
    );
    let (said, complete) = line(&mut plain, Some(""), long);
    assert!(
        complete && said.len() > 1370 && said.starts_with("AGFubgBr"),
        "{said}"
    );
    // The longest command is as long as a command may be.
    let just = (0..600).map(|n| {
        let login = Login {
            user: "ann",
            password: &key.as_bytes()[..n],
        };
        line(&mut lines(Mechanism::Plain), None, login).0.len()
    });
    assert_eq!(just.max(), Some(509));
    let mut out = [0; 600];
    let full = lines(Mechanism::Plain).next(None, long, &mut out);
    assert_eq!(full, AuthLine::Failed(Fault::TooLong));
    for room in 0..40 {
        let mut out = [0; 40];
        let ann = Login {
            user: "ann",
            password: b"sesame",
        };
        let fits = lines(Mechanism::Plain).next(None, ann, &mut out[..room]);
        assert_eq!(
            fits != AuthLine::Failed(Fault::TooLong),
            room >= 29,
            "{room}"
        );
    }
}
