//! TLS toward submitters.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use courser_tests::client::{Client, small};
use courser_tests::need::need;
use courser_tests::peers::Postfix;
use courser_tests::receiver::Receiver;
use courser_tests::server::{Server, run, scratch, smart_host, succeeds};
use courser_tests::tls::{Authority, Valid};
use courser_tests::{eventually, need_root, net};

/// A server that speaks TLS with certificates for one.test and two.test.
struct World {
    server: Server,
    receiver: Receiver,
    authority: Authority,
    /// Where TLS comes first.
    implicit: u16,
    dir: tempfile::TempDir,
}

fn world(more: &str) -> World {
    let dir = scratch();
    let authority = Authority::new();
    let one = authority.issue(&["one.test", "*.below.test"]);
    let two = authority.issue(&["two.test"]);
    let receiver = Receiver::friendly();
    let implicit = net::free_port();
    let server = Server::start(&format!(
        "tls.certificate = [{}, {}]\n{}[[listener]]\ncommand_timeout = \"2s\"\n{more}\n\
         [[listener]]\nname = \"implicit\"\naddress = [\"127.0.0.1:{implicit}\"]\ntls = \"implicit\"\n\
         command_timeout = \"2s\"\n",
        one.toml(dir.path(), "one"),
        two.toml(dir.path(), "two"),
        smart_host(receiver.address)
    ));
    World {
        server,
        receiver,
        authority,
        implicit,
        dir,
    }
}

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&[&*out.stdout, &*out.stderr].concat()).into_owned()
}

/// Runs a client that must be content.
fn content(command: &mut Command) -> String {
    text(&succeeds(command.stdin(Stdio::null())))
}

/// `openssl s_client` toward a port, with these words, that sends `say`.
fn s_client(port: u16, words: &[&str], say: &str) -> String {
    use std::io::Write;
    let mut child = Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            &format!("127.0.0.1:{port}"),
            "-crlf",
            "-ign_eof",
        ])
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let _ = stdin.write_all(say.as_bytes());
    drop(stdin);
    text(&child.wait_with_output().expect("openssl ends"))
}

pub(crate) fn clients_of_all_kinds() {
    if !need(&["swaks", "openssl", "python3", "gnutls-cli"]) {
        return;
    }
    let w = world("");
    let port = w.server.address.port();
    let ca = w.authority.write(w.dir.path());
    let ca = ca.display().to_string();
    let at = w.server.address.to_string();
    let submission = [
        "--from",
        "a@sender.test",
        "--to",
        "b@dest.test",
        "--server",
        &at,
    ];
    content(Command::new("swaks").args(submission).args([
        "-tls",
        "--tls-verify",
        "--tls-ca-path",
        &ca,
        "--tls-sni",
        "one.test",
        "--helo",
        "client.test",
    ]));
    let implicit = format!("127.0.0.1:{}", w.implicit);
    content(Command::new("swaks").args([
        "--from",
        "a@sender.test",
        "--to",
        "b@dest.test",
        "--server",
        &implicit,
        "--tls-on-connect",
        "--helo",
        "client.test",
    ]));
    let python = "import smtplib, ssl, sys\n\
        port, implicit, ca = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]\n\
        context = ssl.create_default_context(cafile=ca)\n\
        class To(smtplib.SMTP):\n    _host = 'two.test'\n\
        s = To(); s.connect('127.0.0.1', port); s._host = 'two.test'\n\
        s.starttls(context=context); s.sendmail('a@sender.test', ['b@dest.test'], 'Subject: p\\r\\n\\r\\nHello.\\r\\n'); s.quit()\n\
        sock = context.wrap_socket(__import__('socket').create_connection(('127.0.0.1', implicit)), server_hostname='www.below.test')\n\
        s = smtplib.SMTP(); s.sock = sock; s.file = None; code, _ = s.getreply(); assert code == 220\n\
        s.sendmail('a@sender.test', ['b@dest.test'], 'Subject: p\\r\\n\\r\\nHello.\\r\\n'); s.quit()\n";
    content(Command::new("python3").args([
        "-c",
        python,
        &port.to_string(),
        &w.implicit.to_string(),
        &ca,
    ]));
    let mails = w.receiver.wait(4);
    for mail in &mails {
        let received = mail.text();
        assert!(
            received.contains(" with ESMTPS id ")
                && received.contains("tls TLS_")
                && received.contains("(TLSv1.3)"),
            "{received}"
        );
    }
    let events = w.server.wait_events("received", 4, |_| true);
    for event in &events {
        assert_eq!(event["client_tls"]["version"], "TLSv1.3", "{event:#}");
        assert!(
            event["client_tls"]["cipher"]
                .as_str()
                .is_some_and(|c| c.starts_with("TLS_")),
            "{event:#}"
        );
    }

    // Each name has its certificate; 1.2 goes, 1.1 doesn't.
    for (name, subject) in [
        ("one.test", "one.test"),
        ("www.below.test", "one.test"),
        ("two.test", "two.test"),
        ("else.test", "one.test"),
    ] {
        let verify = if name == "else.test" { subject } else { name };
        let said = s_client(
            port,
            &[
                "-starttls",
                "smtp",
                "-servername",
                name,
                "-verify_hostname",
                verify,
                "-CAfile",
                &ca,
            ],
            "QUIT\n",
        );
        assert!(
            said.contains("Verify return code: 0 (ok)"),
            "{name}: {said}"
        );
        assert!(said.contains("221 2.0.0"), "{said}");
    }
    let said = s_client(w.implicit, &["-tls1_2", "-CAfile", &ca], "EHLO x\nQUIT\n");
    assert!(
        said.contains("TLSv1.2") && said.contains("221 2.0.0"),
        "{said}"
    );
    assert!(!said.contains("STARTTLS"), "offered within TLS: {said}");
    let said = s_client(w.implicit, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "");
    assert!(said.contains("alert handshake failure"), "{said}");
    let refused = w.server.wait_event("refused", |e| e["stage"] == "tls");
    assert!(
        refused["cause"]
            .as_str()
            .is_some_and(|c| c.contains("old TLS version") && c.contains("1.2")),
        "{refused:#}"
    );

    // A session that goes on needs no certificate again.
    let file = w.dir.path().join("session");
    let file = file.display().to_string();
    s_client(w.implicit, &["-tls1_2", "-sess_out", &file], "QUIT\n");
    let said = s_client(w.implicit, &["-tls1_2", "-sess_in", &file], "QUIT\n");
    assert!(said.contains("Reused, TLSv1.2"), "{said}");

    let gnutls = Command::new("sh")
        .args(["-c", &format!("printf 'EHLO x\\nQUIT\\n' | gnutls-cli --crlf --starttls-proto=smtp --x509cafile {ca} --sni-hostname=two.test --verify-hostname=two.test -p {port} 127.0.0.1")])
        .output()
        .expect("a shell");
    let said = text(&gnutls);
    assert!(
        said.contains("The certificate is trusted") && said.contains("Handshake was completed"),
        "{said}"
    );
}

pub(crate) fn nothing_from_before_the_handshake_counts() {
    let w = world("");
    let trusting = w.authority.client(None);
    // Of one that waits, as it must, nothing is told.
    Client::hello(w.server.address).start_tls(trusting.clone(), "one.test");
    let injected = "MAIL FROM:<evil@evil.test>\r\nRCPT TO:<victim@dest.test>\r\n";
    let mut client = Client::hello(w.server.address);
    client
        .send(format!("STARTTLS\r\n{injected}").as_bytes())
        .expect("it reads");
    client.expect("220");
    let mut client = client.secure(trusting, "one.test").expect("a handshake");
    let refused = w.server.wait_event("refused", |e| e["stage"] == "tls");
    let words = format!(
        "{} bytes of plaintext came behind STARTTLS, before TLS: thrown away",
        injected.len()
    );
    let cause = refused["cause"].as_str().unwrap_or_default();
    assert!(cause.starts_with(&words), "{refused:#}");
    assert_eq!(
        (&refused["client_address"], &refused["listener"]),
        (&"127.0.0.1".into(), &"test".into()),
        "{refused:#}"
    );
    // Neither the commands nor the EHLO before count.
    client
        .command("RCPT TO:<victim@dest.test>")
        .expect_code("503");
    let hello = client.command("EHLO client.test").0;
    assert!(
        hello.starts_with("250") && !hello.contains("STARTTLS"),
        "{hello}"
    );
    client.command("STARTTLS").expect_code("503");
    client.submit("<a@sender.test>", &["<b@dest.test>"], &small("after"));
    let mails = w.receiver.wait(1);
    assert_eq!((mails.len(), mails[0].sender()), (1, "a@sender.test"));
    let told = w.server.events_of("refused");
    let told = told.iter().filter(|e| e["stage"] == "tls").count();
    assert_eq!(told, 1, "the one that waited is among them");
}

pub(crate) fn postfix_sends_over_tls() {
    if !need_root() || !need(&["postfix"]) {
        return;
    }
    let w = world("");
    let ca = w.authority.write(w.dir.path());
    let relay = format!(
        "relayhost = [127.0.0.1]:{}\nsmtp_tls_CAfile = {}\nsmtp_tls_loglevel = 1\n",
        w.server.address.port(),
        ca.display()
    );
    let mut sent = 0;
    for (settings, version, trust) in [
        ("smtp_tls_security_level = encrypt\n", "TLSv1.3", "Trusted"),
        (
            "smtp_tls_security_level = encrypt\nsmtp_tls_mandatory_protocols = TLSv1.2\n",
            "TLSv1.2",
            "Trusted",
        ),
        (
            "smtp_tls_security_level = verify\nsmtp_tls_verify_cert_match = one.test\n",
            "TLSv1.3",
            "Verified",
        ),
        (
            "smtp_tls_security_level = secure\nsmtp_tls_secure_cert_match = two.test\n\
             smtp_tls_servername = two.test\n",
            "TLSv1.3",
            "Verified",
        ),
    ] {
        let home = scratch();
        let settings = format!("{relay}{settings}");
        let postfix = Postfix::start(home.path(), [127, 0, 0, 1].into(), &settings);
        let mut client = Client::hello(postfix.address);
        for i in 0..3 {
            // Bodies of several records too.
            let mut body = small(&format!("from-postfix-{i}"));
            body.extend(format!("{}\r\n", "x".repeat(900)).repeat(i * 30).bytes());
            let to = [format!("<user{i}@dest.test>")];
            let reply = client.try_submit("<a@sender.test>", &to, &body);
            assert!(
                reply.as_ref().is_ok_and(|r| r.starts_with("250")),
                "{reply:?}"
            );
        }
        let there = eventually(25, || (w.receiver.count() >= sent + 3).then_some(()));
        assert!(there.is_some(), "{settings}{}", postfix.log());
        for mail in &w.receiver.mails()[sent..] {
            let text = mail.text();
            assert!(text.contains("from postfix.test"), "{text}");
            assert!(text.contains(" with ESMTPS id "), "{text}");
            assert!(text.contains(&format!("({version})")), "{text}");
        }
        let received = w.server.wait_events("received", sent + 3, |_| true);
        for event in &received[sent..] {
            let tls = &event["client_tls"];
            assert_eq!(tls["version"], version, "{settings}{event:#}");
            let cipher = tls["cipher"].as_str().unwrap_or_default();
            assert!(cipher.starts_with("TLS_"), "{event:#}");
            assert_eq!(event["client_helo"], "postfix.test", "{event:#}");
        }
        let words = format!("{trust} TLS connection established to 127.0.0.1");
        assert!(postfix.log().contains(&words), "{words}: {}", postfix.log());
        sent += 3;
    }
    // Whom it takes for somebody else gets nothing.
    let home = scratch();
    let settings = format!(
        "{relay}smtp_tls_security_level = secure\nsmtp_tls_secure_cert_match = else.test\n"
    );
    let postfix = Postfix::start(home.path(), [127, 0, 0, 1].into(), &settings);
    let reply = Client::hello(postfix.address).try_submit(
        "<a@sender.test>",
        &["<b@dest.test>"],
        &small("to-somebody-else"),
    );
    assert!(
        reply.as_ref().is_ok_and(|r| r.starts_with("250")),
        "{reply:?}"
    );
    let words = "Server certificate not verified";
    let waits = eventually(25, || postfix.log().contains(words).then_some(()));
    assert!(waits.is_some(), "{}", postfix.log());
    assert_eq!(w.receiver.count(), sent);
}

pub(crate) fn no_mail_in_plaintext_where_tls_is_required() {
    let w = world("require_tls = true");
    let mut client = Client::hello(w.server.address);
    client
        .command("MAIL FROM:<a@sender.test>")
        .expect_code("530");
    let mut client = client.start_tls(w.authority.client(None), "one.test");
    client.submit("<a@sender.test>", &["<b@dest.test>"], &small("safe"));
    assert!(w.receiver.wait(1)[0].text().contains("ESMTPS"));
}

pub(crate) fn handshakes_that_come_to_nothing() {
    let w = world("");
    // Silence, garbage and the end, at STARTTLS and where TLS comes first.
    for implicit in [false, true] {
        let open = || match implicit {
            true => Client::open(([127, 0, 0, 1], w.implicit).into()).expect("a connection"),
            false => {
                let mut client = Client::hello(w.server.address);
                client.command("STARTTLS").expect_code("220");
                client
            }
        };
        let before = w.server.events_of("refused").len();
        let mut garbage = open();
        let _ = garbage.send(b"EHLO in.plaintext.test\r\n");
        let mut half = open();
        // The beginning of a record, and no more.
        let _ = half.send(&[22, 3, 1, 2, 0, 1]);
        let gone = open();
        drop(gone);
        let mut mine = Vec::new();
        let found = eventually(45, || {
            mine = w.server.events_of("refused").split_off(before);
            (mine.len() >= 3).then_some(())
        });
        assert!(found.is_some(), "implicit {implicit}: {mine:#?}");
        let has = |words: &str| {
            mine.iter().any(|e| {
                e["stage"] == "tls" && e["cause"].as_str().is_some_and(|c| c.contains(words))
            })
        };
        assert!(
            has("something that is not TLS")
                && has("no TLS handshake within")
                && has("closed the connection within"),
            "implicit {implicit}: {mine:#?}"
        );
        // Others are served meanwhile and after.
        let mut client = Client::hello(w.server.address);
        client.submit("<a@sender.test>", &["<b@dest.test>"], &small("others"));
        drop((garbage, half));
    }
    w.receiver.wait(2);
}

pub(crate) fn certificates_of_clients() {
    let dir = scratch();
    let clients = Authority::new();
    let w = world(&format!(
        "client_ca = \"{}\"",
        clients.write(dir.path()).display()
    ));
    let known = clients.issue(&["client.test"]);
    let strange = Authority::new().issue(&["client.test"]);
    for certificate in [None, Some(&known)] {
        let mut client =
            Client::hello(w.server.address).start_tls(w.authority.client(certificate), "one.test");
        let id = client.submit("<a@sender.test>", &["<b@dest.test>"], &small("certified"));
        let received = w
            .server
            .wait_event("received", |e| e["message"] == id.as_str());
        let tls = &received["client_tls"];
        let of_whom = (tls["verified"].as_str(), tls["certificate"].as_str());
        let shown = (Some("authorities"), Some("client.test"));
        let expected = certificate.map_or((None, None), |_| shown);
        assert_eq!(of_whom, expected, "{received:#}");
    }
    w.receiver.wait(2);
    let mut client = Client::hello(w.server.address);
    client.command("STARTTLS").expect_code("220");
    // In TLS 1.3 a client hears of it only behind its own handshake.
    if let Ok(mut client) = client.secure(w.authority.client(Some(&strange)), "one.test") {
        assert!(client.send(b"EHLO client.test\r\n").is_err() || client.reply().is_err());
    }
    let refused = w.server.wait_event("refused", |e| e["stage"] == "tls");
    assert!(
        refused["cause"]
            .as_str()
            .is_some_and(|c| c.contains("no certificate authority that is trusted")),
        "{refused:#}"
    );
}

pub(crate) fn events_name_the_certificates_of_clients() {
    if !need(&["swaks", "openssl"]) {
        return;
    }
    let dir = scratch();
    let clients = Authority::new();
    let ca = clients.write(dir.path()).display().to_string();
    let w = world(&format!("client_ca = \"{ca}\""));
    let (chain, key) = clients.issue(&["app.test"]).write(dir.path(), "app");
    let (chain, key) = (chain.display().to_string(), key.display().to_string());
    let shows = ["--tls-cert", &chain, "--tls-key", &key];
    for (shows, whose) in [(&shows[..], Some("app.test")), (&[], None)] {
        let before = w.server.events_of("received").len();
        let at = w.server.address.to_string();
        content(Command::new("swaks").args(shows).args([
            "--from",
            "a@sender.test",
            "--to",
            "b@dest.test",
            "--server",
            &at,
            "-tls",
            "--helo",
            "client.test",
        ]));
        let event = w.server.wait_events("received", before + 1, |_| true);
        let certificate = event[before]["client_tls"]["certificate"].as_str();
        assert_eq!(certificate, whose, "{:#}", event[before]);
    }
    // A session that goes on is still the same client's; a refusal names it, too.
    let port = w.server.address.port();
    let file = dir.path().join("session").display().to_string();
    for (more, resumed) in [("-sess_out", false), ("-sess_in", true)] {
        let before = w.server.events_of("refused").len();
        let shows = [
            "-starttls",
            "smtp",
            "-tls1_2",
            "-cert",
            &chain,
            "-key",
            &key,
        ];
        let words = [&shows[..], &["-cert_chain", &chain, more, &file]].concat();
        let said = s_client(
            port,
            &words,
            "EHLO client.test\nMAIL FROM:<a@sender.test> HOLDUNTIL=2200-01-01T00:00:00Z\nQUIT\n",
        );
        assert_eq!(said.contains("Reused, TLSv1.2"), resumed, "{said}");
        let event = w.server.wait_events("refused", before + 1, |_| true);
        let tls = &event[before]["client_tls"];
        assert_eq!(
            tls["certificate"], "app.test",
            "{said}\n{:#}",
            event[before]
        );
    }
}

fn check(dir: &Path, config: &str) -> Output {
    let file = dir.join("check.toml");
    std::fs::write(&file, config).expect("a scratch file");
    run(&["check-config", &file.display().to_string()])
}

pub(crate) fn certificates_that_are_no_good() {
    use std::os::unix::fs::PermissionsExt;
    let dir = scratch();
    let d = dir.path();
    let authority = Authority::new();
    let good = authority.issue(&["mail.test"]);
    let (chain, key) = good.write(d, "good");
    let other = authority.issue(&["mail.test"]);
    let (_, other_key) = other.write(d, "other");
    let (over, over_key) = authority
        .issue_valid(&["mail.test"], Valid::Over)
        .write(d, "over");
    let (early, early_key) = authority
        .issue_valid(&["mail.test"], Valid::NotYet)
        .write(d, "early");
    let (open, open_key) = good.write(d, "open");
    std::fs::set_permissions(&open_key, std::fs::Permissions::from_mode(0o644)).expect("a mode");
    let authority_file = authority.write(d);
    let missing = d.join("missing.pem");
    let no_key = d.join("empty.key");
    std::fs::copy(&key, &no_key)
        .and_then(|_| std::fs::write(&no_key, "nothing\n"))
        .expect("a scratch file");
    for (file, key, words) in [
        (
            &chain,
            &other_key,
            "this key doesn't belong to the certificate in",
        ),
        (&over, &over_key, "expired at 2001-01-01"),
        (&early, &early_key, "valid from 2101-01-01"),
        (
            &open,
            &open_key,
            "others may read or change this key (mode 644); chmod 600",
        ),
        (&missing, &key, "missing.pem: can't be opened: No such file"),
        (&key, &key, "has no certificate"),
        (&chain, &no_key, "has no private key"),
        (&authority_file, &key, "names no host"),
    ] {
        let out = check(
            d,
            &format!(
                "hostname = \"mail.test\"\n[[tls.certificate]]\nfile = \"{}\"\nkey = \"{}\"\n",
                file.display(),
                key.display()
            ),
        );
        let said = text(&out);
        assert!(
            out.status.code() == Some(3) && said.contains(words),
            "{words}: {said}"
        );
        assert!(!said.contains("PRIVATE KEY-----\n"), "{said}");
    }
    let right = format!(
        "hostname = \"mail.test\"\n[[tls.certificate]]\nfile = \"{}\"\nkey = \"{}\"\n",
        chain.display(),
        key.display()
    );
    let out = check(d, &right);
    let said = text(&out);
    assert!(
        out.status.success() && said.contains("speaks TLS as mail.test until 2100-01-01"),
        "{said}"
    );
    let out = check(
        d,
        "hostname = \"mail.test\"\n[[listener]]\naddress = [\"127.0.0.1:2525\"]\ntls = \"starttls\"\n",
    );
    assert!(
        text(&out).contains("there is no certificate"),
        "{}",
        text(&out)
    );

    // Renewed under a running server: a session that is open goes on, the next one sees the new one,
    // and a bad one changes nothing.
    let w = world("");
    let mut open = Client::hello(w.server.address).start_tls(w.authority.client(None), "one.test");
    let second = Authority::new();
    let renewed = second.issue(&["one.test"]);
    renewed.write(w.dir.path(), "one");
    w.server.signal(libc::SIGHUP);
    w.server.wait_event("reloaded", |e| e["applied"] == true);
    Client::hello(w.server.address).start_tls(second.client(None), "one.test");
    open.submit("<a@sender.test>", &["<b@dest.test>"], &small("open"));
    let (_, key) = second.issue(&["one.test"]).write(w.dir.path(), "stray");
    std::fs::copy(key, w.dir.path().join("one.key")).expect("a copy");
    w.server.signal(libc::SIGHUP);
    let event = w.server.wait_event("reloaded", |e| e["applied"] == false);
    assert!(
        event["problems"][0]
            .as_str()
            .is_some_and(|p| p.contains("doesn't belong")),
        "{event:#}"
    );
    Client::hello(w.server.address).start_tls(second.client(None), "one.test");
    w.receiver.wait(1);
}
