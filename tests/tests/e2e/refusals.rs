//! Each bad input on the wire, and the exact reply that it gets.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use courser_tests::client::{Client, Reply, small};
use courser_tests::eventually;
use courser_tests::receiver::Receiver;
use courser_tests::server::{Server, smart_host};

/// A server that delivers to a friendly receiver, with small limits.
fn strict(more: &str) -> (Receiver, Server) {
    let receiver = Receiver::friendly();
    let server = Server::start(&format!("{more}\n{}", smart_host(receiver.address)));
    (receiver, server)
}

fn begun(server: &Server) -> Client {
    let mut client = Client::hello(server.address);
    client
        .command("MAIL FROM:<sender@sender.test>")
        .expect_code("250 2.1.0");
    client
        .command("RCPT TO:<one@dest.test>")
        .expect_code("250 2.1.5");
    client
}

pub(crate) fn smuggling() {
    let (receiver, server) = strict("");
    let second =
        "MAIL FROM:<smuggled@evil.test>\r\nRCPT TO:<victim@dest.test>\r\nDATA\r\nsmuggled\r\n.\r\n";
    // What some receivers somewhere take for the end of a message.
    let ends = [
        "\n.\n",
        "\r\n.\n",
        "\n.\r\n",
        "\r.\r",
        "\r\n.\r",
        "\r.\r\n",
        "\n.\r",
        "\r.\n",
        "\r\n\r.\r\n",
    ];
    for end in ends {
        let mut client = begun(&server);
        client.command("DATA").expect_code("354");
        client
            .send(format!("Subject: first\r\n\r\nfirst{end}{second}").as_bytes())
            .expect("sent");
        assert_eq!(
            client.read(),
            "521 5.5.2 Bare CR or LF in the message",
            "{end:?}"
        );
        assert!(client.closes(), "{end:?}");
    }
    // In BDAT the length is known: the message is refused and the session goes on.
    for bare in ["a\nb", "a\rb", "a\n.\nb", "a\r\n.\rb"] {
        let mut client = begun(&server);
        assert_eq!(
            client.command(&format!(
                "BDAT {} LAST\r\nSubject: x\r\n\r\n{bare}",
                14 + 2 + bare.len()
            )),
            "554 5.6.0 Bare CR or LF in the message",
            "{bare:?}"
        );
        assert_eq!(client.command("NOOP"), "250 2.0.0 Ok");
    }
    for line in [
        "NOOP\nNOOP\r\n",
        "NOOP\rNOOP\r\n",
        "NOOP\n",
        "MAIL FROM:<a@b.test>\nRCPT TO:<x@y.test>\r\n",
    ] {
        let mut client = Client::hello(server.address);
        client.send(line.as_bytes()).expect("sent");
        assert_eq!(
            client.read(),
            "521 5.5.2 Bare CR or LF in a command",
            "{line:?}"
        );
        assert!(client.closes(), "{line:?}");
    }
    // The server is well, and nothing of that came out.
    Client::hello(server.address).submit(
        "<sender@sender.test>",
        &["<one@dest.test>"],
        &small("after"),
    );
    receiver.wait(1);
    assert_eq!(receiver.count(), 1, "{:#?}", receiver.mails());
}

pub(crate) fn commands() {
    let (_receiver, server) = strict("[[listener]]\nmax_errors = 100");
    let mut client = Client::open(server.address).expect("a connection");
    assert_eq!(client.read(), "220 courser.test ESMTP");
    let table = [
        ("MAIL FROM:<a@b.test>", "503 5.5.1 Say EHLO first"),
        ("FOO", "500 5.5.1 Command not recognised"),
        ("", "500 5.5.1 Command not recognised"),
        ("EHLO", "501 5.5.4 Syntax error in parameters or arguments"),
        ("LHLO client.test", "500 5.5.1 This is SMTP: say EHLO"),
        ("HELO client.test", "250 courser.test"),
        ("RCPT TO:<one@dest.test>", "503 5.5.1 Need MAIL first"),
        ("DATA", "503 5.5.1 Need MAIL first"),
        ("EXPN staff", "502 5.5.1 EXPN is not implemented"),
        (
            "VRFY one@dest.test",
            "252 2.0.0 Cannot VRFY, but will take mail for it",
        ),
        ("STARTTLS", "502 5.5.1 STARTTLS is not offered"),
        ("AUTH PLAIN AGEAYg==", "502 5.5.1 AUTH is not offered"),
        (
            "MAIL FROM:<a@b.test> FOO=1",
            "555 5.5.4 Parameter not recognised",
        ),
        (
            "MAIL FROM:<a@b.test> SIZE=x",
            "501 5.5.4 Parameter has an invalid value",
        ),
        (
            "MAIL FROM:<a@b.test> SIZE=1 SIZE=2",
            "501 5.5.4 Parameter given twice or excluded by another",
        ),
        ("MAIL FROM:<a@b@c>", "553 5.1.7 Malformed sender address"),
        (
            "MAIL FROM:<a@b.test> REQUIRETLS",
            "555 5.5.4 Parameter of an extension that is not offered",
        ),
        (
            "MAIL FROM:<ü@b.test>",
            "553 5.6.7 Address is not ASCII and SMTPUTF8 was not given",
        ),
        (
            "MAIL a@b.test",
            "501 5.5.4 Syntax error in parameters or arguments",
        ),
        (
            "NOOP \u{1}",
            "501 5.5.2 Control character or invalid UTF-8 in command",
        ),
        ("MAIL FROM:<a@b.test>", "250 2.1.0 Sender ok"),
        ("MAIL FROM:<a@b.test>", "503 5.5.1 MAIL was given already"),
        ("DATA", "503 5.5.1 Need RCPT first"),
        ("RCPT TO:<>", "553 5.1.3 Malformed recipient address"),
        (
            "RCPT TO:<one@-.test>",
            "553 5.1.3 Malformed recipient address",
        ),
        (
            "RCPT TO:<one@dest.test> NOTIFY=NEVER,FAILURE",
            "501 5.5.4 Parameter has an invalid value",
        ),
        ("RSET", "250 2.0.0 Ok"),
        ("BDAT 0 LAST", "503 5.5.1 Need MAIL first"),
        ("QUIT", "221 2.0.0 Bye"),
    ];
    let mut wrong = Vec::new();
    for (command, expected) in table {
        let got = client.command(command);
        if got != expected {
            wrong.push(format!("{command:?}: {got:?} instead of {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(client.closes());

    let mut client = Client::hello(server.address);
    client.command("MAIL FROM:<a@b.test>").expect_code("250");
    assert_eq!(
        client.command("BDAT x LAST"),
        "501 5.5.4 Syntax error in parameters or arguments"
    );
    assert!(client.closes(), "where the chunk ends nobody knows");
}

pub(crate) fn long_lines() {
    let (_receiver, server) = strict("");
    let mut client = Client::hello(server.address);
    assert_eq!(
        client.command(&format!("NOOP {}", "x".repeat(2000))),
        "250 2.0.0 Ok"
    );
    assert_eq!(
        client.command(&format!("NOOP {}", "x".repeat(2100))),
        "500 5.5.2 Line too long"
    );
    assert_eq!(
        client.command(&format!("MAIL FROM:<{}@b.test>", "x".repeat(10_000))),
        "500 5.5.2 Line too long"
    );
    assert_eq!(client.command("NOOP"), "250 2.0.0 Ok");
    // Without an end in sight it isn't even skipped.
    let _ = client.send(&vec![b'x'; 100_000]);
    assert_eq!(client.read(), "500 5.5.2 Line too long");
    assert_eq!(client.read(), "421 4.7.0 Line too long, goodbye");
    assert!(client.closes());
}

pub(crate) fn too_large() {
    let (receiver, server) = strict("[[listener]]\nmax_message_size = \"100KB\"");
    let mut client = Client::hello(server.address);
    assert_eq!(
        client.command("MAIL FROM:<a@b.test> SIZE=100001"),
        "552 5.3.4 Message is larger than allowed"
    );
    let reply = |client: &mut Client, size: usize| {
        let mut body = small("big");
        body.resize(size - 2, b'x');
        for at in (400..size - 2).step_by(400) {
            body[at..at + 2].copy_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"\r\n");
        client
            .try_submit("<a@b.test>", &["<one@dest.test>"], &body)
            .expect("a reply")
    };
    assert!(reply(&mut client, 100_000).starts_with("250 "));
    assert_eq!(
        reply(&mut client, 100_001),
        "552 5.3.4 Message is larger than allowed"
    );
    assert_eq!(
        reply(&mut client, 1_000_000),
        "552 5.3.4 Message is larger than allowed"
    );
    client.command("MAIL FROM:<a@b.test>").expect_code("250");
    client.command("RCPT TO:<one@dest.test>").expect_code("250");
    client.send(b"BDAT 60000\r\n").expect("sent");
    client.send(&[b'x'; 60_000]).expect("sent");
    client.expect("250 2.0.0 Chunk received");
    client.send(b"BDAT 60000 LAST\r\n").expect("sent");
    client.send(&[b'x'; 60_000]).expect("sent");
    assert_eq!(client.read(), "552 5.3.4 Message is larger than allowed");
    assert_eq!(client.command("NOOP"), "250 2.0.0 Ok");
    receiver.wait(1);
    assert_eq!(receiver.count(), 1);
    assert_eq!(server.events_of("received").len(), 1);
}

pub(crate) fn too_many_recipients() {
    let (receiver, server) = strict("[[listener]]\nmax_recipients = 100");
    let mut client = Client::hello(server.address);
    client.command("MAIL FROM:<a@b.test>").expect_code("250");
    for i in 0..100 {
        assert_eq!(
            client.command(&format!("RCPT TO:<r{i}@dest.test>")),
            "250 2.1.5 Recipient ok"
        );
    }
    for i in 100..105 {
        let reply = client.command(&format!("RCPT TO:<r{i}@dest.test>"));
        assert_eq!(reply, "452 4.5.3 Too many recipients in one transaction");
    }
    client.command("DATA").expect_code("354");
    client
        .send(&[small("hundred"), b".\r\n".to_vec()].concat())
        .expect("sent");
    client.expect("250 2.0.0 Queued as ");
    assert_eq!(receiver.wait(1)[0].rcpt.len(), 100);
}

pub(crate) fn too_many_errors() {
    let (_receiver, server) = strict("[[listener]]\nmax_errors = 5");
    let mut client = Client::hello(server.address);
    for _ in 0..4 {
        assert_eq!(client.command("FOO"), "500 5.5.1 Command not recognised");
    }
    client.send(b"FOO\r\n").expect("sent");
    let mut replies = Vec::new();
    while let Ok(Some(reply)) = client.reply() {
        replies.push(reply);
    }
    assert_eq!(
        replies.last().map(String::as_str),
        Some("421 4.7.0 Too many errors"),
        "{replies:?}"
    );
}

pub(crate) fn relaying_for_strangers() {
    let relays = "[[listener]]\nrelay_networks = [\"127.0.0.9/32\"]";
    let (receiver, server) = strict(relays);
    let attempt = |from: [u8; 4], rcpt: &str| -> Reply {
        let mut client =
            Client::open_from(IpAddr::from(from), server.address).expect("a connection");
        client.expect("220");
        client.command("EHLO client.test").expect_code("250");
        client.command("MAIL FROM:<a@b.test>").expect_code("250");
        client.command(rcpt)
    };
    let denied = "550 5.7.1 Relaying denied: your address is not in the listener's relay_networks";
    assert_eq!(attempt([127, 0, 0, 1], "RCPT TO:<one@dest.test>"), denied);
    assert_eq!(attempt([127, 0, 0, 10], "RCPT TO:<one@dest.test>"), denied);
    // Source routes and percent signs were ways around that once.
    assert_eq!(
        attempt([127, 0, 0, 1], "RCPT TO:<@courser.test:one@dest.test>"),
        denied
    );
    assert_eq!(
        attempt([127, 0, 0, 1], "RCPT TO:<one%dest.test@courser.test>"),
        denied
    );
    assert_eq!(
        attempt([127, 0, 0, 9], "RCPT TO:<one@dest.test>"),
        "250 2.1.5 Recipient ok"
    );
    let refused = server.wait_event("refused", |e| e["recipient"] == "one@dest.test");
    assert_eq!(refused["code"], 550);
    assert_eq!(refused["client_address"], "127.0.0.1");
    assert_eq!(receiver.sessions(), 0);
}

pub(crate) fn too_many_connections() {
    let (_receiver, server) =
        strict("[[listener]]\nmax_connections_per_client = 3\nmax_connections = 5");
    let open = |from: [u8; 4]| {
        Client::open_from(IpAddr::from(from), server.address).expect("a connection")
    };
    let mut inside: Vec<Client> = (0..3).map(|_| open([127, 0, 0, 1])).collect();
    inside.iter_mut().for_each(|c| {
        c.expect("220");
    });
    let mut fourth = open([127, 0, 0, 1]);
    assert_eq!(
        fourth.read(),
        "421 4.7.0 Too many sessions from your address"
    );
    assert!(fourth.closes());
    let mut others: Vec<Client> = (0..2).map(|_| open([127, 0, 0, 2])).collect();
    others.iter_mut().for_each(|c| {
        c.expect("220");
    });
    assert_eq!(
        open([127, 0, 0, 3]).read(),
        "421 4.7.0 Too many sessions here, try again later"
    );
    inside.clear();
    let again = eventually(5, || {
        open([127, 0, 0, 3])
            .read()
            .0
            .starts_with("220")
            .then_some(())
    });
    assert!(again.is_some(), "a place that was left isn't free again");
}

pub(crate) fn too_fast() {
    let (_receiver, server) = strict(
        "[[listener]]\nclient_connection_rate = \"1/h burst 3\"\nclient_message_rate = \"1/h burst 2\"",
    );
    let mut client = Client::hello(server.address);
    client.submit("<a@b.test>", &["<one@dest.test>"], &small("one"));
    client.submit("<a@b.test>", &["<one@dest.test>"], &small("two"));
    assert_eq!(
        client.command("MAIL FROM:<a@b.test>"),
        "451 4.7.0 You send too fast, slow down"
    );
    let mut replies = Vec::new();
    for _ in 0..4 {
        replies.push(Client::open(server.address).expect("a connection").read().0);
    }
    assert_eq!(
        replies.last().map(String::as_str),
        Some("421 4.7.0 You connect too fast, slow down"),
        "{replies:?}"
    );
}

pub(crate) fn early_talkers() {
    let (_receiver, server) = strict("[[listener]]\ngreeting_delay = \"1s\"");
    let mut client = Client::open(server.address).expect("a connection");
    client.send(b"EHLO early.test\r\n").expect("sent");
    assert_eq!(client.read(), "554 5.5.1 You spoke before the greeting");
    assert!(client.closes());
    let mut patient = Client::open(server.address).expect("a connection");
    assert_eq!(patient.read(), "220 courser.test ESMTP");
}

pub(crate) fn slow_clients() {
    let (_receiver, server) =
        strict("[[listener]]\ncommand_timeout = \"1s\"\ndata_timeout = \"1s\"");
    let mut client = Client::hello(server.address);
    assert_eq!(client.read(), "421 4.4.2 Timed out waiting for you");
    assert!(client.closes());
    let mut client = begun(&server);
    client.command("DATA").expect_code("354");
    client.send(b"Subject: half a mess").expect("sent");
    assert_eq!(client.read(), "421 4.4.2 Timed out waiting for you");
    assert!(client.closes());
}

pub(crate) fn messages_that_go_in_circles() {
    let (_receiver, server) = strict("[delivery]\nmax_hops = 10");
    let mut client = Client::hello(server.address);
    let hops = |n: usize| {
        [
            b"Received: from a by b; Mon, 23 Nov 2026 10:00:00 +0000\r\n".repeat(n),
            small("x"),
        ]
        .concat()
    };
    client.submit("<a@b.test>", &["<one@dest.test>"], &hops(9));
    let reply = client
        .try_submit("<a@b.test>", &["<one@dest.test>"], &hops(10))
        .expect("a reply");
    assert!(
        reply.starts_with("554 5.4.6 This message has passed 10 servers already"),
        "{reply}"
    );
}

pub(crate) fn proxy_headers() {
    let proxies = "[[listener]]\nproxy_protocol_from = [\"127.0.0.1/32\"]\nrelay_networks = [\"127.0.0.7/32\"]";
    let (receiver, server) = strict(proxies);
    let v1 = |client: &str| format!("PROXY TCP4 {client} 127.0.0.1 4000 25\r\n").into_bytes();
    let v2 = |ip: [u8; 4]| {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        header.extend_from_slice(&ip);
        header.extend_from_slice(&[127, 0, 0, 1, 0x0f, 0xa0, 0, 25]);
        header
    };
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
    let rcpt = |header: &[u8]| -> Reply {
        let mut client = Client::open(server.address).expect("a connection");
        client.send(header).expect("sent");
        client.expect("220");
        client.command("EHLO client.test").expect_code("250");
        client.command("MAIL FROM:<a@b.test>").expect_code("250");
        client.command("RCPT TO:<one@dest.test>")
    };
    for good in [v1("127.0.0.7"), v2([127, 0, 0, 7])] {
        assert_eq!(rcpt(&good), "250 2.1.5 Recipient ok");
    }
    let denied = "550 5.7.1 Relaying denied: your address is not in the listener's relay_networks";
    for stranger in [
        v1("192.0.2.1"),
        v2([192, 0, 2, 1]),
        b"PROXY UNKNOWN\r\n".to_vec(),
        local,
    ] {
        assert_eq!(
            rcpt(&stranger),
            denied,
            "{}",
            String::from_utf8_lossy(&stranger)
        );
    }
    for bad in [
        &b"EHLO client.test\r\n"[..],
        b"PROXY TCP4 127.0.0.7 127.0.0.1 4000\r\n",
        b"PROXY TCP9 127.0.0.7 127.0.0.1 4000 25\r\n",
        b"PROXY TCP4 127.0.0.777 127.0.0.1 4000 25\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c127000000001",
    ] {
        let mut client = Client::open(server.address).expect("a connection");
        client.send(bad).expect("sent");
        assert!(client.closes(), "{}", String::from_utf8_lossy(bad));
    }
    // From anybody else it is no header but a bad command.
    let mut client =
        Client::open_from([127, 0, 0, 2].into(), server.address).expect("a connection");
    client.expect("220");
    client.send(&v1("127.0.0.7")).expect("sent");
    assert_eq!(client.read(), "500 5.5.1 Command not recognised");
    // The client that the header names stands in the trace and in the event.
    let mut client = Client::open(server.address).expect("a connection");
    client.send(&v1("127.0.0.7")).expect("sent");
    client.expect("220");
    client.command("EHLO client.test").expect_code("250");
    client.submit("<a@b.test>", &["<one@dest.test>"], &small("proxied"));
    assert!(receiver.wait(1)[0].text().contains("[127.0.0.7]"));
    server.wait_event("received", |e| e["client_address"] == "127.0.0.7");
}

pub(crate) fn a_client_that_vanishes_leaves_nothing_behind() {
    let (receiver, server) = strict("");
    for cut in [
        &b""[..],
        b"DATA\r\n",
        b"DATA\r\nSubject: x\r\n\r\nhalf",
        b"BDAT 100 LAST\r\nSubject: x\r\n",
    ] {
        let mut client = begun(&server);
        client.send(cut).expect("sent");
        std::thread::sleep(Duration::from_millis(50));
        drop(client);
    }
    let gone = eventually(10, || {
        let status = server.ask(&["status", "--json"]).swap_remove(0);
        (status["gauges"]["intake_sessions"] == 0).then_some(())
    });
    assert!(gone.is_some());
    assert_eq!(server.events_of("received").len(), 0);
    assert_eq!(receiver.sessions(), 0);
}

pub(crate) fn lmtp_intake() {
    let receiver = Receiver::friendly();
    let server = Server::start(&format!(
        "[[listener]]\nkind = \"lmtp\"\n{}",
        smart_host(receiver.address)
    ));
    let mut client = Client::open(server.address).expect("a connection");
    client.expect("220");
    assert_eq!(
        client.command("EHLO client.test"),
        "500 5.5.1 This is LMTP: say LHLO"
    );
    client.command("LHLO client.test").expect_code("250");
    client.command("MAIL FROM:<a@b.test>").expect_code("250");
    client.command("RCPT TO:<one@dest.test>").expect_code("250");
    client.command("RCPT TO:<two@dest.test>").expect_code("250");
    client.command("DATA").expect_code("354");
    client
        .send(&[small("lmtp"), b".\r\n".to_vec()].concat())
        .expect("sent");
    // One reply for each recipient.
    client.expect("250 2.0.0 Queued as ");
    client.expect("250 2.0.0 Queued as ");
    assert_eq!(client.command("NOOP"), "250 2.0.0 Ok");
    assert_eq!(
        receiver.wait(1)[0].recipients(),
        ["one@dest.test", "two@dest.test"]
    );
}

pub(crate) fn the_greeting_names_what_is_offered() {
    let (_receiver, server) = strict("");
    let mut client = Client::open(server.address).expect("a connection");
    client.expect("220 courser.test ESMTP");
    let hello = client.command("EHLO client.test").0;
    for word in [
        "PIPELINING",
        "SIZE 52428800",
        "8BITMIME",
        "SMTPUTF8",
        "CHUNKING",
        "ENHANCEDSTATUSCODES",
        "DSN",
    ] {
        assert!(
            hello.lines().any(|l| &l[4..] == word),
            "{word} is not in {hello}"
        );
    }
    let (_receiver, server) =
        strict("[[listener]]\npipelining = false\nchunking = false\nsmtputf8 = false\ndsn = false");
    let mut client = Client::open(server.address).expect("a connection");
    client.expect("220 courser.test ESMTP");
    let hello = client.command("EHLO client.test").0;
    for word in ["PIPELINING", "SMTPUTF8", "CHUNKING", "DSN"] {
        assert!(
            !hello.lines().any(|l| &l[4..] == word),
            "{word} is in {hello}"
        );
    }
    assert_eq!(
        client.command("MAIL FROM:<a@b.test> RET=HDRS"),
        "555 5.5.4 Parameter of an extension that is not offered"
    );
    let address: SocketAddr = server.address;
    assert!(address.ip().is_loopback());
}
