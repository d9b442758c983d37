//! Kinds of mail: large, to many, 8-bit, UTF-8; and what receivers offer for them.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use courser_tests::client::{Client, small, submit};
use courser_tests::need::need;
use courser_tests::receiver::{Answer, EXTENSIONS, Receiver};
use courser_tests::server::{Server, smart_host};

/// `size` bytes of header and lines, with dots where they hurt.
fn large(size: usize) -> Vec<u8> {
    let mut message = small("large");
    let line =
        b".The quick brown fox jumps over the lazy dog, again and again, until it is tired.\r\n";
    while message.len() + line.len() < size {
        message.extend_from_slice(line);
    }
    message
}

fn offering(without: &[&str]) -> Vec<&'static str> {
    EXTENSIONS
        .iter()
        .copied()
        .filter(|e| !without.contains(e))
        .collect()
}

fn receiver(without: &[&str]) -> Receiver {
    Receiver::start_at(([127, 0, 0, 1], 0).into(), &offering(without), |_| {
        Answer::Usual
    })
}

pub(crate) fn twenty_five_megabytes() {
    let message = large(25_000_000);
    for (chunking_in, chunking_out) in [(false, false), (true, true)] {
        let receiver = receiver(if chunking_out { &[] } else { &["CHUNKING"] });
        let server = Server::start(&smart_host(receiver.address));
        let mut client = Client::hello(server.address);
        if chunking_in {
            client
                .command("MAIL FROM:<sender@sender.test> SIZE=25000000")
                .expect_code("250");
            client.command("RCPT TO:<one@dest.test>").expect_code("250");
            let (first, rest) = message.split_at(10_000_001);
            for (chunk, last) in [(first, ""), (rest, " LAST")] {
                client
                    .send(format!("BDAT {}{last}\r\n", chunk.len()).as_bytes())
                    .expect("sent");
                client.send(chunk).expect("sent");
                client.expect("250 2.0.0");
            }
        } else {
            client.submit(
                "<sender@sender.test> SIZE=25000000",
                &["<one@dest.test>"],
                &message,
            );
        }
        let mail = &receiver.wait(1)[0];
        assert_eq!(mail.bdat, chunking_out);
        assert!(
            mail.without_received() == message,
            "{} bytes came",
            mail.content.len()
        );
        let delivered = server.wait_event("delivered", |_| true);
        assert_eq!(delivered["size"], mail.content.len());
        server.wait_empty();
    }
}

pub(crate) fn a_large_mail_is_read_back_from_the_spool() {
    // Bodies don't fit into memory, and the first attempt fails.
    let tries = AtomicUsize::new(0);
    let receiver = Receiver::start(move |line| {
        let first = line.starts_with("RCPT") && tries.fetch_add(1, Ordering::AcqRel) == 0;
        if first {
            Answer::say("451 4.2.1 Later")
        } else {
            Answer::Usual
        }
    });
    let server = Server::start(&format!(
        "limits.body_memory = \"1MiB\"\n{}",
        smart_host(receiver.address)
    ));
    let message = large(3_000_000);
    let id = submit(
        server.address,
        "<sender@sender.test>",
        &["<one@dest.test>"],
        &message,
    );
    server.wait_reason(&id, "retry-time");
    server.ask(&["queue", "retry", &id, "--json"]);
    assert!(receiver.wait(1)[0].without_received() == message);
}

pub(crate) fn a_thousand_recipients_in_transactions_of_a_hundred() {
    let recipients: Vec<String> = (0..1000).map(|i| format!("<r{i}@dest.test>")).collect();
    let receiver = Receiver::friendly();
    let server = Server::start(&smart_host(receiver.address));
    submit(
        server.address,
        "<sender@sender.test>",
        &recipients,
        &small("thousand"),
    );
    let mails = receiver.wait(10);
    let most = mails.iter().map(|m| m.rcpt.len()).max();
    assert_eq!(most, Some(100));
    let mut all: Vec<String> = mails.iter().flat_map(|m| m.recipients()).collect();
    all.sort();
    let mut expected: Vec<String> = (0..1000).map(|i| format!("r{i}@dest.test")).collect();
    expected.sort();
    assert_eq!(all, expected);
    server.wait_empty();
    assert_eq!(server.wait_events("delivered", 1000, |_| true).len(), 1000);
    assert_eq!(server.events_of("received")[0]["recipients"], 1000);
}

pub(crate) fn a_receiver_that_takes_fewer_recipients() {
    // 452 after 30 of one transaction: the rest goes in another, at once.
    let receiver = {
        let seen = AtomicUsize::new(0);
        Receiver::start(move |line| {
            if line.starts_with("MAIL") {
                seen.store(0, Ordering::Release);
            }
            if line.starts_with("RCPT") && seen.fetch_add(1, Ordering::AcqRel) >= 30 {
                return Answer::say("452 4.5.3 Too many recipients");
            }
            Answer::Usual
        })
    };
    let server = Server::start(&format!(
        "delivery.limits.connections = 1\n{}",
        smart_host(receiver.address)
    ));
    let recipients: Vec<String> = (0..100).map(|i| format!("<r{i}@dest.test>")).collect();
    submit(
        server.address,
        "<sender@sender.test>",
        &recipients,
        &small("fewer"),
    );
    server.wait_empty();
    let mails = receiver.mails();
    let mut all: Vec<String> = mails.iter().flat_map(|m| m.recipients()).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 100);
    assert_eq!(
        mails.iter().map(|m| m.rcpt.len()).sum::<usize>(),
        100,
        "nobody got it twice"
    );
    assert!(server.events_of("bounced").is_empty());
}

pub(crate) fn some_recipients_of_one_transaction() {
    let receiver = Receiver::start(|line| match line {
        l if l.starts_with("RCPT TO:<unknown") => Answer::say("550 5.1.1 No such user"),
        l if l.starts_with("RCPT TO:<full") => Answer::say("452 4.2.2 Mailbox full"),
        _ => Answer::Usual,
    });
    let server = Server::start(&smart_host(receiver.address));
    let recipients = [
        "<one@dest.test>",
        "<unknown@dest.test>",
        "<full@dest.test>",
        "<two@dest.test>",
    ];
    let id = submit(
        server.address,
        "<sender@sender.test>",
        &recipients,
        &small("some"),
    );
    let mail = receiver
        .wait(1)
        .into_iter()
        .find(|m| m.sender() == "sender@sender.test")
        .expect("it came");
    assert_eq!(mail.recipients(), ["one@dest.test", "two@dest.test"]);
    let bounced = server.wait_event("bounced", |_| true);
    assert_eq!(bounced["recipient"], "unknown@dest.test");
    assert_eq!(bounced["class"], "unknown-recipient");
    let deferred = server.wait_event("deferred", |_| true);
    assert_eq!(
        (&deferred["recipient"], &deferred["class"]),
        (&"full@dest.test".into(), &"mailbox-full".into())
    );
    assert_eq!(deferred["delivery"], format!("{id}.2"));
    let bounce = receiver
        .wait(2)
        .into_iter()
        .find(|m| m.sender().is_empty())
        .expect("a bounce");
    assert_eq!(bounce.recipients(), ["sender@sender.test"]);
    assert_eq!(server.queue().len(), 1);
}

pub(crate) fn a_recipient_given_twice_gets_one() {
    let receiver = Receiver::friendly();
    let server = Server::start(&smart_host(receiver.address));
    let recipients = [
        "<one@dest.test>",
        "<ONE@dest.test>",
        "<one@DEST.test>",
        "<one@dest.test>",
    ];
    submit(
        server.address,
        "<sender@sender.test>",
        &recipients,
        &small("twice"),
    );
    // Local parts may differ by case, domains don't.
    server.wait_empty();
    assert_eq!(
        receiver.mails().iter().map(|m| m.rcpt.len()).sum::<usize>(),
        2
    );
}

fn eight_bit() -> Vec<u8> {
    let mut message = small("eight-bit");
    message.extend_from_slice("Grüße, 日本\r\n".as_bytes());
    message
}

pub(crate) fn eight_bit_mail() {
    let friend = receiver(&[]);
    let server = Server::start(&smart_host(friend.address));
    submit(
        server.address,
        "<a@sender.test> BODY=8BITMIME",
        &["<one@dest.test>"],
        &eight_bit(),
    );
    let mail = &friend.wait(1)[0];
    assert!(mail.mail.contains("BODY=8BITMIME"), "{}", mail.mail);
    assert_eq!(mail.without_received(), eight_bit());
    // 7-bit mail goes without the word.
    submit(
        server.address,
        "<a@sender.test>",
        &["<one@dest.test>"],
        &small("seven"),
    );
    assert!(!friend.wait(2)[1].mail.contains("BODY=8BITMIME"));

    // A receiver of the last century: sent as it is, unless the configuration says otherwise.
    let old = receiver(&["8BITMIME", "SMTPUTF8", "CHUNKING"]);
    let server = Server::start(&smart_host(old.address));
    submit(
        server.address,
        "<a@sender.test> BODY=8BITMIME",
        &["<one@dest.test>"],
        &eight_bit(),
    );
    let mail = &old.wait(1)[0];
    assert!(!mail.mail.contains("BODY"), "{}", mail.mail);
    assert_eq!(mail.without_received(), eight_bit());

    let strict = receiver(&["8BITMIME", "SMTPUTF8", "CHUNKING"]);
    let server = Server::start(&format!(
        "delivery.eight_bit = \"refuse\"\n{}",
        smart_host(strict.address)
    ));
    submit(
        server.address,
        "<a@sender.test> BODY=8BITMIME",
        &["<one@dest.test>"],
        &eight_bit(),
    );
    let bounced = server.wait_event("bounced", |_| true);
    assert!(
        bounced["cause"]
            .as_str()
            .unwrap_or_default()
            .contains("8BITMIME"),
        "{bounced:#}"
    );
    let bounce = &strict.wait(1)[0];
    assert!(
        bounce.text().contains("Status: 5.6.3\r\n"),
        "{}",
        bounce.text()
    );
    assert!(
        bounce.content.is_ascii(),
        "the notification itself must get through"
    );
}

pub(crate) fn utf8_addresses() {
    let friend = receiver(&[]);
    let server = Server::start(&smart_host(friend.address));
    let recipients = ["<jürgen@dest.test>", "<plain@dest.test>"];
    submit(
        server.address,
        "<größe@sender.test> SMTPUTF8 BODY=8BITMIME",
        &recipients,
        &eight_bit(),
    );
    let mail = &friend.wait(1)[0];
    assert!(mail.mail.contains("SMTPUTF8"), "{}", mail.mail);
    assert_eq!(mail.sender(), "größe@sender.test");
    assert_eq!(mail.recipients(), ["jürgen@dest.test", "plain@dest.test"]);
    assert!(mail.text().contains("with UTF8SMTP"), "{}", mail.text());

    // A receiver without it must not get it (RFC 6531 3.2): 5.6.7, to a sender who can be told.
    let old = receiver(&["SMTPUTF8"]);
    let server = Server::start(&smart_host(old.address));
    submit(
        server.address,
        "<sender@sender.test> SMTPUTF8 BODY=8BITMIME",
        &["<jürgen@dest.test>"],
        &eight_bit(),
    );
    let bounced = server.wait_event("bounced", |_| true);
    assert!(
        bounced["cause"]
            .as_str()
            .unwrap_or_default()
            .contains("SMTPUTF8"),
        "{bounced:#}"
    );
    assert_eq!(bounced["recipient"], "jürgen@dest.test");
    let ended = courser_tests::eventually(10, || server.queue().is_empty().then_some(()));
    assert!(ended.is_some(), "{:#?}", server.queue());
    for mail in old.mails() {
        assert!(
            mail.mail.is_ascii() && mail.rcpt.iter().all(|r| r.is_ascii()),
            "{mail:?}"
        );
    }
}

pub(crate) fn utf8_mail_with_ascii_addresses_and_header() {
    // Announced, but not needed: RFC 6531 lets it go where SMTPUTF8 isn't offered only if nothing
    // of it needs that.
    let old = receiver(&["SMTPUTF8"]);
    let server = Server::start(&smart_host(old.address));
    submit(
        server.address,
        "<sender@sender.test> SMTPUTF8",
        &["<one@dest.test>"],
        &small("ascii"),
    );
    let fate = courser_tests::eventually(10, || {
        server
            .events()
            .into_iter()
            .find(|e| e["kind"] == "delivered" || e["kind"] == "bounced")
    });
    let fate = fate.expect("something became of it");
    if fate["kind"] == "bounced" {
        assert!(
            fate["cause"]
                .as_str()
                .unwrap_or_default()
                .contains("SMTPUTF8"),
            "{fate:#}"
        );
    }
}

pub(crate) fn python_sends_utf8() {
    if !need(&["python3"]) {
        return;
    }
    let friend = receiver(&[]);
    let server = Server::start(&smart_host(friend.address));
    let script = format!(
        "import smtplib\nfrom email.message import EmailMessage\n\
         m = EmailMessage()\nm['From'] = 'größe@sender.test'\nm['To'] = 'jürgen@dest.test'\n\
         m['Subject'] = 'Grüße'\nm.set_content('Schöne Grüße\\n', cte='8bit')\n\
         s = smtplib.SMTP('127.0.0.1', {}, local_hostname='python.test')\n\
         assert s.send_message(m) == {{}}\ns.quit()\n",
        server.address.port()
    );
    let out = Command::new("python3")
        .arg("-c")
        .arg(script)
        .output()
        .expect("python3 starts");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let mail = &friend.wait(1)[0];
    assert_eq!(mail.recipients(), ["jürgen@dest.test"]);
    assert!(
        mail.text().contains("Subject: Grüße\r\n"),
        "{}",
        mail.text()
    );
}

pub(crate) fn a_slow_receiver_within_its_time() {
    let receiver = Receiver::start(|line| match line {
        "CONNECT" | "." => Answer::slowly(Duration::from_millis(700)),
        l if l.starts_with("MAIL") || l.starts_with("EHLO") => {
            Answer::slowly(Duration::from_millis(300))
        }
        _ => Answer::Usual,
    });
    let server = Server::start(&smart_host(receiver.address));
    for i in 0..5 {
        submit(
            server.address,
            "<a@sender.test>",
            &["<one@dest.test>"],
            &small(&format!("slow-{i}")),
        );
    }
    receiver.wait(5);
    server.wait_empty();
    assert_eq!(server.events_of("deferred").len(), 0);
}
