//! What senders in the world hand in arrives as they wrote it.

use std::path::Path;
use std::process::Command;

use courser_tests::client::{Client, small};
use courser_tests::need::need;
use courser_tests::peers::{SmtpSink, smtp_source};
use courser_tests::receiver::{Mail, Receiver};
use courser_tests::server::{Server, scratch, smart_host, succeeds};
use courser_tests::{eventually, net};

/// A message with what is easily broken: dots, a long line, 8-bit text, empty lines at the end.
fn awkward() -> Vec<u8> {
    let mut message = b"From: Sender <sender@sender.test>\r\nTo: one@dest.test\r\nSubject: awkward\r\n\
        Message-ID: <awkward@sender.test>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
        .\r\n..\r\n.leading\r\nFrom here\r\n\ttab \xc3\xa9\xe2\x82\xac\r\n"
        .to_vec();
    message.extend_from_slice(&[b'x'; 990]);
    message.extend_from_slice(b"\r\n\r\n\r\n.\r\n\r\n");
    message
}

fn check(mail: &Mail, message: &[u8], recipients: &[&str]) {
    assert_eq!(
        String::from_utf8_lossy(mail.without_received()),
        String::from_utf8_lossy(message)
    );
    assert_eq!(mail.without_received(), message);
    assert_eq!(mail.sender(), "sender@sender.test");
    assert_eq!(mail.recipients(), recipients);
    assert_eq!(mail.hello, "courser.test");
    let received = mail.text();
    let received = &received[..received.len() - message.len().min(received.len())];
    assert!(received.contains("by courser.test"), "{received}");
    assert!(received.contains("[127.0.0.1]"), "{received}");
}

fn write(dir: &Path, message: &[u8]) -> std::path::PathBuf {
    let file = dir.join("message.eml");
    std::fs::write(&file, message).expect("a scratch file");
    file
}

fn lf(message: &[u8]) -> Vec<u8> {
    message.iter().copied().filter(|b| *b != b'\r').collect()
}

pub(crate) fn swaks() {
    if !need(&["swaks"]) {
        return;
    }
    let receiver = Receiver::friendly();
    let server = Server::start(&smart_host(receiver.address));
    // A line with only a dot at the end is the end to it, and it ends with empty lines of its own.
    let whole = awkward();
    let message = whole
        .strip_suffix(b"\r\n\r\n\r\n.\r\n\r\n")
        .expect("the message ends so");
    let file = write(server.dir(), &lf(message));
    succeeds(
        Command::new("swaks")
            .args([
                "--server",
                &server.address.to_string(),
                "--from",
                "sender@sender.test",
            ])
            .args([
                "--to",
                "one@dest.test,two@dest.test",
                "--helo",
                "swaks.test",
            ])
            .arg("--data")
            .arg(format!("@{}", file.display())),
    );
    let mail = &receiver.wait(1)[0];
    let end = mail
        .without_received()
        .get(message.len()..)
        .unwrap_or_default()
        .to_vec();
    assert!(
        !end.is_empty() && end.chunks(2).all(|c| c == b"\r\n"),
        "{end:?}"
    );
    check(
        mail,
        &[message, &end].concat(),
        &["one@dest.test", "two@dest.test"],
    );
    server.wait_empty();
}

pub(crate) fn python_smtplib() {
    if !need(&["python3"]) {
        return;
    }
    let receiver = Receiver::friendly();
    let server = Server::start(&smart_host(receiver.address));
    let file = write(server.dir(), &awkward());
    let script = format!(
        "import smtplib\n\
         s = smtplib.SMTP('127.0.0.1', {}, local_hostname='python.test')\n\
         m = open({:?}, 'rb').read()\n\
         assert s.sendmail('sender@sender.test', ['one@dest.test'], m, mail_options=['BODY=8BITMIME']) == {{}}\n\
         assert s.sendmail('sender@sender.test', ['two@dest.test', 'three@dest.test'], m) == {{}}\n\
         s.quit()\n",
        server.address.port(),
        file.display().to_string(),
    );
    succeeds(Command::new("python3").arg("-c").arg(script));
    let mut mails = receiver.wait(2);
    mails.sort_by_key(|m| m.rcpt.len());
    check(&mails[0], &awkward(), &["one@dest.test"]);
    check(&mails[1], &awkward(), &["two@dest.test", "three@dest.test"]);
    assert!(mails[0].mail.contains("BODY=8BITMIME"), "{}", mails[0].mail);
}

pub(crate) fn curl() {
    if !need(&["curl"]) {
        return;
    }
    let receiver = Receiver::friendly();
    let server = Server::start(&smart_host(receiver.address));
    let file = write(server.dir(), &awkward());
    succeeds(
        Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--fail",
                "--url",
                &format!("smtp://{}/curl.test", server.address),
            ])
            .args([
                "--mail-from",
                "sender@sender.test",
                "--mail-rcpt",
                "one@dest.test",
            ])
            .arg("--upload-file")
            .arg(file),
    );
    check(&receiver.wait(1)[0], &awkward(), &["one@dest.test"]);
}

pub(crate) fn msmtp() {
    if !need(&["msmtp"]) {
        return;
    }
    let receiver = Receiver::friendly();
    let server = Server::start(&smart_host(receiver.address));
    let file = write(server.dir(), &lf(&awkward()));
    succeeds(
        Command::new("msmtp")
            .args([
                "--host=127.0.0.1",
                &format!("--port={}", server.address.port()),
                "--domain=msmtp.test",
            ])
            .args([
                "--file=/dev/null",
                "--set-from-header=off",
                "--set-date-header=off",
            ])
            .args([
                "--from=sender@sender.test",
                "--dsn-notify=failure,delay",
                "--dsn-return=headers",
                "one@dest.test",
            ])
            .stdin(std::fs::File::open(file).expect("a scratch file")),
    );
    let mail = &receiver.wait(1)[0];
    check(mail, &awkward(), &["one@dest.test"]);
    assert!(
        mail.rcpt[0].contains("NOTIFY=FAILURE,DELAY"),
        "{}",
        mail.rcpt[0]
    );
    assert!(mail.mail.contains("RET=HDRS"), "{}", mail.mail);
}

pub(crate) fn smtp_source_with_many_sessions() {
    if !need(&["smtp-source", "smtp-sink"]) {
        return;
    }
    let dir = scratch();
    let sink = SmtpSink::start(dir.path(), ([127, 0, 0, 1], net::free_port()).into(), &[]);
    let server = Server::start(&smart_host(sink.address));
    // 300 messages with 2 recipients each over 10 sessions.
    let options = [
        "-s",
        "10",
        "-m",
        "300",
        "-r",
        "2",
        "-l",
        "4000",
        "-f",
        "sender@sender.test",
        "-t",
        "to@dest.test",
    ];
    smtp_source(server.dir(), server.address, &options);
    server.wait_empty();
    let delivered = server.wait_events("delivered", 600, |_| true);
    assert_eq!(delivered.len(), 600);
    let messages = sink.messages();
    let recipients: usize = messages
        .iter()
        .map(|m| String::from_utf8_lossy(m).matches("X-Rcpt-Args:").count())
        .sum();
    assert_eq!((messages.len(), recipients), (300, 600));
    assert_eq!(server.events_of("received").len(), 300);
}

pub(crate) fn a_message_without_a_header_and_one_without_a_body() {
    let receiver = Receiver::friendly();
    let server = Server::start(&smart_host(receiver.address));
    let mut client = Client::hello(server.address);
    for message in [
        &b"\r\nonly a body\r\n"[..],
        b"Subject: only a header\r\n",
        b"",
        b"Subject: x\r\n\r\n",
    ] {
        client.submit("<sender@sender.test>", &["<one@dest.test>"], message);
        let n = receiver.count();
        let mails = receiver.wait(n.max(1));
        let _ = mails;
        let found = eventually(10, || {
            receiver
                .mails()
                .into_iter()
                .find(|m| m.without_received() == message)
        });
        assert!(
            found.is_some(),
            "{:?} is not among {:#?}",
            String::from_utf8_lossy(message),
            receiver.mails()
        );
    }
    client.submit("<>", &["<one@dest.test>"], &small("null-sender"));
    let null = eventually(10, || {
        receiver.mails().into_iter().find(|m| m.sender().is_empty())
    });
    assert!(null.is_some());
}
