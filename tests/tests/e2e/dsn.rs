//! Delivery status notifications: what is passed on, what is told, and to whom never.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use courser_tests::client::{small, submit};
use courser_tests::eventually;
use courser_tests::need::need;
use courser_tests::receiver::{Answer, EXTENSIONS, Mail, Receiver};
use courser_tests::server::{Server, smart_host};
use serde_json::Value;

/// A receiver that knows nobody but the sender, who gets the notifications.
fn nobody_home() -> Receiver {
    Receiver::start(|line| match line {
        l if l.starts_with("RCPT TO:<sender@") => Answer::Usual,
        l if l.starts_with("RCPT") => Answer::say("550 5.1.1 <x@dest.test>: no such user here"),
        _ => Answer::Usual,
    })
}

/// A notification as Python's email package reads it: the types of its parts, the fields of the
/// status by group, and the defects that it found.
fn parse(mail: &Mail) -> Value {
    let dir = courser_tests::server::scratch();
    let file = dir.path().join("dsn.eml");
    std::fs::write(&file, &mail.content).expect("a scratch file");
    let script = "import email, email.policy, json, sys\n\
        m = email.message_from_bytes(open(sys.argv[1], 'rb').read(), policy=email.policy.default)\n\
        parts = list(m.iter_parts())\n\
        groups = [dict((k.lower(), str(v)) for k, v in g.items()) for g in parts[1].iter_parts()] if len(parts) > 1 else []\n\
        defects = [str(d) for p in m.walk() for d in p.defects]\n\
        last = parts[2] if len(parts) > 2 else None\n\
        returned = '' if last is None else (last.get_content() if last.get_content_type() == 'text/rfc822-headers' else str(last))\n\
        print(json.dumps(dict(type=m.get_content_type(), report=m.get_param('report-type'),\
        to=str(m['to']), origin=str(m['from']), auto=str(m['auto-submitted']), subject=str(m['subject']),\
        parts=[p.get_content_type() for p in parts], text=parts[0].get_content() if parts else '',\
        groups=groups, defects=defects, returned=returned)))\n";
    let out = Command::new("python3")
        .arg("-c")
        .arg(script)
        .arg(file)
        .output()
        .expect("python3 starts");
    assert!(
        out.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&out.stderr),
        mail.text()
    );
    serde_json::from_slice(&out.stdout).expect("JSON from Python")
}

pub(crate) fn failure() {
    if !need(&["python3"]) {
        return;
    }
    let receiver = nobody_home();
    let server = Server::start(&smart_host(receiver.address));
    let id = submit(
        server.address,
        "<sender@sender.test> RET=HDRS ENVID=QQ314159",
        &["<x@dest.test> ORCPT=rfc822;Alias@Elsewhere.test"],
        &small("failure"),
    );
    let mail = &receiver.wait(1)[0];
    assert_eq!(mail.sender(), "");
    assert_eq!(mail.recipients(), ["sender@sender.test"]);
    let dsn = parse(mail);
    assert_eq!(dsn["type"], "multipart/report", "{dsn:#}");
    assert_eq!(dsn["report"], "delivery-status");
    assert_eq!(dsn["defects"], serde_json::json!([]));
    assert_eq!(
        dsn["parts"],
        serde_json::json!([
            "text/plain",
            "message/delivery-status",
            "text/rfc822-headers"
        ])
    );
    assert_eq!(dsn["auto"], "auto-replied");
    assert!(
        dsn["origin"]
            .as_str()
            .unwrap_or_default()
            .contains("MAILER-DAEMON@courser.test"),
        "{dsn:#}"
    );
    let (message, recipient) = (&dsn["groups"][0], &dsn["groups"][1]);
    assert_eq!(message["reporting-mta"], "dns; courser.test");
    assert_eq!(message["original-envelope-id"], "QQ314159");
    assert!(message["arrival-date"].is_string());
    assert_eq!(recipient["final-recipient"], "rfc822; x@dest.test");
    assert_eq!(
        recipient["original-recipient"],
        "rfc822; Alias@Elsewhere.test"
    );
    assert_eq!(recipient["action"], "failed");
    assert_eq!(recipient["status"], "5.1.1");
    assert!(
        recipient["diagnostic-code"]
            .as_str()
            .unwrap_or_default()
            .contains("no such user here"),
        "{dsn:#}"
    );
    assert!(
        recipient["remote-mta"]
            .as_str()
            .unwrap_or_default()
            .contains("127.0.0.1"),
        "{dsn:#}"
    );
    assert!(
        dsn["text"]
            .as_str()
            .unwrap_or_default()
            .contains("x@dest.test")
    );
    let returned = dsn["returned"].as_str().unwrap_or_default();
    assert!(
        returned.contains("Subject: failure") && !returned.contains("Hello."),
        "{returned}"
    );
    let event = server.wait_event("dsn", |e| e["message"] == id.as_str());
    assert_eq!(
        (&event["action"], &event["envid"]),
        (&"failed".into(), &"QQ314159".into())
    );
    server.wait_empty();
}

pub(crate) fn whole_messages_are_returned_when_asked_for() {
    let receiver = nobody_home();
    let server = Server::start(&smart_host(receiver.address));
    submit(
        server.address,
        "<sender@sender.test> RET=FULL",
        &["<x@dest.test>"],
        &small("full"),
    );
    let text = receiver.wait(1)[0].text();
    assert!(
        text.contains("Content-Type: message/rfc822") && text.contains("Hello.\r\n"),
        "{text}"
    );
}

pub(crate) fn who_is_not_told() {
    let receiver = nobody_home();
    let server = Server::start(&smart_host(receiver.address));
    let quiet = [
        ("<sender@sender.test>", "<x@dest.test> NOTIFY=NEVER"),
        ("<sender@sender.test>", "<y@dest.test> NOTIFY=SUCCESS"),
        ("<sender@sender.test>", "<z@dest.test> NOTIFY=DELAY"),
        ("<>", "<x@dest.test>"),
    ];
    for (mail, rcpt) in quiet {
        submit(server.address, mail, &[rcpt], &small("quiet"));
    }
    server.wait_events("bounced", 4, |_| true);
    server.wait_empty();
    assert_eq!(receiver.count(), 0, "{:#?}", receiver.mails());
    // And no notification about a notification, when its receiver is gone too.
    let nowhere = Receiver::start(|line| match line {
        l if l.starts_with("RCPT") => Answer::say("550 5.1.1 no such user here"),
        _ => Answer::Usual,
    });
    let server = Server::start(&smart_host(nowhere.address));
    submit(
        server.address,
        "<sender@sender.test>",
        &["<x@dest.test>"],
        &small("twice"),
    );
    server.wait_events("bounced", 2, |_| true);
    server.wait_empty();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.events_of("bounced").len(), 2);
    assert_eq!(
        server
            .events_of("dsn")
            .iter()
            .filter(|e| e["dsn"].is_string())
            .count(),
        1
    );
}

pub(crate) fn parameters_are_passed_on() {
    let receiver = Receiver::friendly();
    let server = Server::start(&smart_host(receiver.address));
    submit(
        server.address,
        "<sender@sender.test> RET=FULL ENVID=id+2B1",
        &[
            "<x@dest.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;orig+2Bx@dest.test",
            "<y@dest.test> NOTIFY=NEVER",
        ],
        &small("passed"),
    );
    let mail = &receiver.wait(1)[0];
    assert!(
        mail.mail.contains("RET=FULL") && mail.mail.contains("ENVID=id+2B1"),
        "{}",
        mail.mail
    );
    let x = mail
        .rcpt
        .iter()
        .find(|r| r.contains("<x@"))
        .expect("x is there");
    assert!(
        x.contains("NOTIFY=SUCCESS,DELAY") && x.contains("ORCPT=rfc822;orig+2Bx@dest.test"),
        "{x}"
    );
    let y = mail
        .rcpt
        .iter()
        .find(|r| r.contains("<y@"))
        .expect("y is there");
    assert!(y.contains("NOTIFY=NEVER"), "{y}");
    server.wait_empty();
    // Whoever got them reports; we don't.
    assert_eq!(receiver.count(), 1);
}

pub(crate) fn success_at_the_end_of_dsn_is_relayed() {
    let without: Vec<&str> = EXTENSIONS.iter().copied().filter(|e| *e != "DSN").collect();
    let receiver = Receiver::start_at(([127, 0, 0, 1], 0).into(), &without, |_| Answer::Usual);
    let server = Server::start(&smart_host(receiver.address));
    let recipients = ["<x@dest.test> NOTIFY=SUCCESS,FAILURE", "<y@dest.test>"];
    submit(
        server.address,
        "<sender@sender.test> ENVID=abc",
        &recipients,
        &small("relayed"),
    );
    let mails = receiver.wait(2);
    let mail = mails
        .iter()
        .find(|m| m.sender() != "")
        .expect("the message");
    assert!(
        !mail.mail.contains("ENVID") && mail.rcpt.iter().all(|r| !r.contains("NOTIFY")),
        "{mail:?}"
    );
    let report = mails
        .iter()
        .find(|m| m.sender().is_empty())
        .expect("the report")
        .text();
    assert!(report.contains("Action: relayed\r\n"), "{report}");
    assert!(
        report.contains("Final-Recipient: rfc822; x@dest.test\r\n"),
        "{report}"
    );
    assert!(
        !report.contains("y@dest.test"),
        "nobody asked about y: {report}"
    );
    assert!(report.contains("Status: 2."), "{report}");
    server.wait_empty();
    assert_eq!(receiver.count(), 2);
}

pub(crate) fn lmtp_delivers_and_says_so() {
    let receiver = Receiver::start_lmtp(|line| match line {
        ". full@dest.test" => Answer::say("452 4.2.2 Mailbox full"),
        ". gone@dest.test" => Answer::say("550 5.2.1 Mailbox disabled"),
        _ => Answer::Usual,
    });
    let outside = Receiver::friendly();
    let server = Server::start(&format!(
        "[[route]]\ndomain = \"dest.test\"\nto = [\"{}\"]\nlmtp = true\n{}",
        receiver.address,
        smart_host(outside.address)
    ));
    let recipients = [
        "<x@dest.test> NOTIFY=SUCCESS",
        "<full@dest.test>",
        "<gone@dest.test>",
        "<y@dest.test>",
    ];
    submit(
        server.address,
        "<sender@sender.test>",
        &recipients,
        &small("lmtp"),
    );
    server.wait_events("delivered", 2, |e| e["domain"] == "dest.test");
    let bounced = server.wait_event("bounced", |_| true);
    assert_eq!(bounced["recipient"], "gone@dest.test");
    assert_eq!(
        server.wait_event("deferred", |_| true)["recipient"],
        "full@dest.test"
    );
    assert!(receiver.count_of("LHLO courser.test") > 0);
    let reports = outside.wait(2);
    let all: String = reports.iter().map(Mail::text).collect();
    assert!(
        all.contains("Action: delivered\r\n") && all.contains("Action: failed\r\n"),
        "{all}"
    );
}

pub(crate) fn delay_is_told_once_and_then_it_expires() {
    let receiver = Receiver::start(|line| match line {
        l if l.starts_with("RCPT TO:<sender@") => Answer::Usual,
        l if l.starts_with("RCPT") => Answer::say("451 4.2.1 Not now"),
        _ => Answer::Usual,
    });
    let short = "[[stream]]\ndelay_dsn_after = \"2s\"\nretry = { intervals = [\"1s\"], life = \"6s\", jitter = \"0%\" }\n";
    let mut server = Server::start(&format!("{short}{}", smart_host(receiver.address)));
    let id = submit(
        server.address,
        "<sender@sender.test>",
        &["<x@dest.test>"],
        &small("delay"),
    );
    let quiet = submit(
        server.address,
        "<sender@sender.test>",
        &["<q@dest.test> NOTIFY=FAILURE"],
        &small("no-delay"),
    );
    let delayed = receiver.wait(1)[0].text();
    assert!(
        delayed.contains("Action: delayed\r\n") && delayed.contains("Will-Retry-Until: "),
        "{delayed}"
    );
    assert!(
        delayed.contains("Final-Recipient: rfc822; x@dest.test\r\n"),
        "{delayed}"
    );
    assert!(delayed.contains("Status: 4.2.1\r\n"), "{delayed}");
    // It is not told again after a restart either.
    server.stop();
    server.restart();
    let expired = server.wait_event("expired", |e| e["message"] == id.as_str());
    assert!(expired["attempt"].as_u64().unwrap_or(0) >= 2, "{expired:#}");
    server.wait_event("expired", |e| e["message"] == quiet.as_str());
    server.wait_empty();
    let reports: Vec<String> = receiver.wait(3).iter().map(Mail::text).collect();
    let count = |word: &str| reports.iter().filter(|r| r.contains(word)).count();
    assert_eq!(
        (count("Action: delayed\r\n"), count("Action: failed\r\n")),
        (1, 2),
        "{reports:#?}"
    );
}

pub(crate) fn a_receiver_that_recovers() {
    let down = Arc::new(AtomicBool::new(true));
    let is_down = down.clone();
    let receiver = Receiver::start(move |line| match line {
        "CONNECT" if is_down.load(Ordering::Acquire) => {
            Answer::SayAndClose("421 4.3.2 Closed for lunch".into())
        }
        _ => Answer::Usual,
    });
    let retries = "[[stream]]\nretry = { intervals = [\"1s\"], life = \"1h\" }\ndelay_dsn_after = \"off\"\n\
                   [delivery]\ndead_host = { first = \"1s\", max = \"2s\" }\n";
    let server = Server::start(&format!("{retries}{}", smart_host(receiver.address)));
    for i in 0..20 {
        submit(
            server.address,
            "<sender@sender.test>",
            &["<x@dest.test>"],
            &small(&format!("lunch-{i}")),
        );
    }
    let tried = eventually(10, || (receiver.sessions() > 0).then_some(()));
    assert!(tried.is_some());
    assert_eq!(server.queue().len(), 20);
    down.store(false, Ordering::Release);
    receiver.wait(20);
    server.wait_empty();
    assert_eq!(receiver.count(), 20);
    assert!(server.events_of("bounced").is_empty());
}
