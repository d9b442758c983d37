//! Receivers of the world: Postfix's smtp-sink in its moods, and Postfix itself, at both ends.

use std::io::Write;
use std::process::{Command, Stdio};

use courser_tests::client::{Client, small, submit};
use courser_tests::need::need;
use courser_tests::peers::{Postfix, SmtpSink};
use courser_tests::receiver::{Receiver, without_received};
use courser_tests::server::{Server, scratch, smart_host};
use courser_tests::{eventually, need_root, net};

struct Sink {
    sink: SmtpSink,
    server: Server,
    _dir: tempfile::TempDir,
}

fn sink(options: &[&str], more: &str) -> Sink {
    let dir = scratch();
    let sink = SmtpSink::start(
        dir.path(),
        ([127, 0, 0, 1], net::free_port()).into(),
        options,
    );
    let mut route = smart_host(sink.address);
    if options.contains(&"-L") {
        route.push_str("lmtp = true\n");
    }
    let server = Server::start(&format!("{more}\n{route}"));
    Sink {
        sink,
        server,
        _dir: dir,
    }
}

/// Sends five messages to two recipients each; gives what smtp-sink wrote down.
fn through(options: &[&str]) -> Vec<String> {
    let s = sink(options, "");
    let mut client = Client::hello(s.server.address);
    let mut expected = Vec::new();
    for i in 0..5 {
        let mut message = small(&format!("mood-{i}"));
        message.extend_from_slice(b".\r\n..two\r\nlast\r\n");
        expected.push(String::from_utf8_lossy(&message).replace("\r\n", "\n"));
        client.submit(
            "<sender@sender.test>",
            &["<one@dest.test>", "<two@dest.test>"],
            &message,
        );
    }
    s.server.wait_events("delivered", 10, |_| true);
    s.server.wait_empty();
    let got: Vec<String> = s
        .sink
        .messages()
        .iter()
        .map(|m| String::from_utf8_lossy(m).into_owned())
        .collect();
    assert_eq!(got.len(), 5, "{options:?}: {got:#?}");
    for message in expected {
        let found = got
            .iter()
            .filter(|g| g.trim_end().ends_with(message.trim_end()))
            .count();
        assert_eq!(found, 1, "{options:?}: {message}\nis not in\n{got:#?}");
    }
    for message in &got {
        assert!(
            message.contains("X-Mail-Args: <sender@sender.test>"),
            "{message}"
        );
        assert!(
            message.contains("X-Rcpt-Args: <one@dest.test>")
                && message.contains("X-Rcpt-Args: <two@dest.test>")
        );
    }
    got
}

pub(crate) fn smtp_sink_in_its_moods() {
    if !need(&["smtp-sink"]) {
        return;
    }
    for options in [&[][..], &["-8"], &["-p"], &["-N"], &["-E"], &["-w", "1"]] {
        for message in through(options) {
            assert!(message.contains("X-Client-Proto: ESMTP"), "{message}");
            assert!(message.contains("X-Helo-Args: courser.test"), "{message}");
        }
    }
}

pub(crate) fn smtp_sink_without_esmtp() {
    if !need(&["smtp-sink"]) {
        return;
    }
    for options in [&["-e"][..], &["-P"]] {
        for message in through(options) {
            assert!(
                message.contains("X-Client-Proto: SMTP"),
                "{options:?}: {message}"
            );
        }
    }
}

pub(crate) fn smtp_sink_as_lmtp() {
    if !need(&["smtp-sink"]) {
        return;
    }
    for message in through(&["-L"]) {
        assert!(message.contains("X-Client-Proto: LMTP"), "{message}");
    }
}

/// What became of one message to a sink that refuses.
fn fate(options: &[&str]) -> serde_json::Value {
    let s = sink(options, "");
    let id = submit(
        s.server.address,
        "<>",
        &["<one@dest.test>"],
        &small("refused"),
    );
    let event = s.server.fate(&id);
    if event["kind"] == "deferred" {
        assert!(
            s.server.show(&id).is_some(),
            "{options:?}: it isn't in the queue"
        );
    }
    event
}

pub(crate) fn smtp_sink_that_refuses() {
    if !need(&["smtp-sink"]) {
        return;
    }
    for (command, stage) in [
        ("MAIL", "mail"),
        ("RCPT", "rcpt"),
        ("DATA", "data"),
        (".", "body"),
    ] {
        let event = fate(&["-f", command]);
        assert_eq!(
            (&event["kind"], &event["code"]),
            (&"bounced".into(), &500.into()),
            "-f {command}: {event:#}"
        );
        let event = fate(&["-r", command]);
        assert_eq!(
            (&event["kind"], &event["code"]),
            (&"deferred".into(), &450.into()),
            "-r {command}: {event:#}"
        );
        if command != "DATA" {
            assert_eq!(event["stage"], stage, "-r {command}: {event:#}");
        }
    }
    // A session that ends for no reason of the message's is no reason to bounce it.
    for command in ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        for how in ["-q", "-Q"] {
            let event = fate(&[how, command]);
            assert_eq!(event["kind"], "deferred", "{how} {command}: {event:#}");
        }
    }
    for command in ["CONNECT", "HELO,EHLO"] {
        let event = fate(&["-r", command]);
        assert_eq!(event["kind"], "deferred", "-r {command}: {event:#}");
    }
    // EHLO alone refused: HELO will do.
    assert_eq!(fate(&["-f", "EHLO"])["kind"], "delivered");
}

pub(crate) fn postfix_receives() {
    if !need_root() || !need(&["postfix"]) {
        return;
    }
    let dir = scratch();
    let postfix = Postfix::start(
        dir.path(),
        [127, 0, 0, 1].into(),
        "smtpd_relay_restrictions = reject_unauth_destination\n",
    );
    let server = Server::start(&smart_host(postfix.address));
    let mut client = Client::hello(server.address);
    let mut expected = Vec::new();
    for i in 0..20 {
        let mut message = small(&format!("postfix-{i}"));
        message.extend_from_slice(b".\r\n.dot\r\nG\xc3\xbc\r\n");
        expected.push(String::from_utf8_lossy(&message).replace("\r\n", "\n"));
        client.submit(
            "<sender@sender.test> BODY=8BITMIME",
            &[format!("<user{i}@postfix.test>")],
            &message,
        );
    }
    server.wait_events("delivered", 20, |_| true);
    let there = eventually(20, || (postfix.mailbox().len() >= 20).then_some(()));
    assert!(
        there.is_some(),
        "{} of 20\n{}",
        postfix.mailbox().len(),
        postfix.log()
    );
    let mailbox: Vec<String> = postfix
        .mailbox()
        .iter()
        .map(|m| String::from_utf8_lossy(m).into_owned())
        .collect();
    for message in expected {
        assert_eq!(
            mailbox.iter().filter(|m| m.ends_with(&message)).count(),
            1,
            "{message}\n{:#?}",
            mailbox.first()
        );
    }
    assert!(
        mailbox
            .iter()
            .all(|m| m.contains("Return-Path: <sender@sender.test>")),
        "{:#?}",
        mailbox.first()
    );
    // What it refuses comes back with its words.
    submit(
        server.address,
        "<>",
        &["<user@elsewhere.test>"],
        &small("denied"),
    );
    let bounced = server.wait_event("bounced", |e| e["recipient"] == "user@elsewhere.test");
    assert_eq!(
        (&bounced["code"], &bounced["enhanced"]),
        (&554.into(), &"5.7.1".into()),
        "{bounced:#}"
    );
    assert!(
        bounced["text"]
            .as_str()
            .unwrap_or_default()
            .contains("Relay access denied"),
        "{bounced:#}"
    );
}

pub(crate) fn postfix_sends() {
    if !need_root() || !need(&["postfix"]) {
        return;
    }
    let receiver = Receiver::friendly();
    let server = Server::start(&smart_host(receiver.address));
    let dir = scratch();
    let relay = format!("relayhost = [127.0.0.1]:{}\n", server.address.port());
    let postfix = Postfix::start(dir.path(), [127, 0, 0, 1].into(), &relay);
    let mut client = Client::open(postfix.address).expect("a connection");
    client.expect("220");
    client.command("EHLO client.test").expect_code("250");
    for i in 0..20 {
        let reply = client.try_submit(
            "<sender@sender.test>",
            &[format!("<a{i}@dest.test>"), format!("<b{i}@dest.test>")],
            &small(&format!("from-postfix-{i}")),
        );
        assert!(
            reply.as_ref().is_ok_and(|r| r.starts_with("250")),
            "{reply:?}"
        );
    }
    let there = eventually(25, || (receiver.count() >= 20).then_some(()));
    assert!(
        there.is_some(),
        "{} of 20\n{}",
        receiver.count(),
        postfix.log()
    );
    for mail in receiver.mails() {
        // Ours, then Postfix's, then the message.
        let rest = without_received(without_received(&mail.content));
        assert!(rest.ends_with(b"\r\n\r\nHello.\r\n"), "{}", mail.text());
        assert_eq!(mail.rcpt.len(), 2);
        assert_eq!(mail.sender(), "sender@sender.test");
    }
    // A local program hands in with sendmail.
    let mut sendmail = Command::new("sendmail")
        .arg("-C")
        .arg(postfix.conf())
        .args(["-f", "sender@sender.test", "c@dest.test"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("sendmail starts");
    sendmail
        .stdin
        .take()
        .expect("a pipe")
        .write_all(b"Subject: by sendmail\n\nHello.\n")
        .expect("written");
    if sendmail.wait().is_ok_and(|s| s.success()) {
        receiver.wait(21);
    }
}
