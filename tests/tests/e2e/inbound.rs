//! Mail from strangers to domains of ours: checked, and marked with what was found.

use std::net::IpAddr;
use std::process::Command;

use base64ct::{Base64, Encoding};
use courser_tests::client::Client;
use courser_tests::clock::unix_and;
use courser_tests::dns::Nsd;
use courser_tests::need::{need, python};
use courser_tests::receiver::{Answer, Mail, Receiver};
use courser_tests::server::{Server, eval, run, scratch, smart_host};

/// Where SPF of sender.test says its mail comes from, and somewhere else.
const SENDER: &str = "127.0.0.5";
const FORGER: &str = "127.0.0.6";

/// Hands a message in from this address; gives the last reply.
fn hand_in(server: &Server, from: &str, mail: &str, to: &str, body: &[u8]) -> String {
    let from: IpAddr = from.parse().expect("an address");
    let mut client = Client::open_from(from, server.address).expect("a connection");
    client.expect("220");
    client
        .send(b"EHLO out.sender.test\r\n")
        .expect("a working connection");
    client.expect("250");
    let reply = client.try_submit(mail, &[to], body);
    reply.expect("a working connection")
}

/// Signs `message` as sender.test.
fn signed(key: &str, message: &[u8]) -> Vec<u8> {
    let question = serde_json::json!({
        "message_b64": Base64::encode_string(message), "now": unix_and(0),
        "domain": "sender.test", "selector": "s", "key_pem": key,
    });
    let said = eval("dkim-sign", &question);
    let field = said["header"].as_str().expect("a field");
    [field.trim_end().as_bytes(), b"\r\n", message].concat()
}

/// The fields of this name at the top of a mail, unfolded.
fn fields(mail: &Mail, name: &str) -> Vec<String> {
    let text = mail.text().replace("\r\n\t", " ").replace("\r\n ", " ");
    let (header, _) = text.split_once("\r\n\r\n").expect("a header");
    let name = format!("{}:", name.to_lowercase());
    let fields = header
        .split("\r\n")
        .filter(|l| l.to_lowercase().starts_with(&name));
    fields.map(str::to_owned).collect()
}

/// What Python's authres reads in a field: `method=result` for each.
fn as_authres_reads(field: &str) -> Option<Vec<String>> {
    let python = python(&["authres"])?;
    let script = "import authres,sys\n\
        h=authres.AuthenticationResultsHeader.parse(sys.argv[1])\n\
        print(h.authserv_id)\n\
        [print(f'{r.method}={r.result}') for r in h.results]";
    let out = Command::new(python)
        .args(["-c", script, field])
        .output()
        .expect("python starts");
    assert!(
        out.status.success(),
        "{field}\n{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let said = String::from_utf8(out.stdout).expect("text");
    Some(said.lines().map(str::to_owned).collect())
}

struct World {
    server: Server,
    receiver: Receiver,
    key: String,
    _nsd: Nsd,
    _dir: tempfile::TempDir,
}

fn world(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> World {
    let dir = scratch();
    let file = dir.path().join("s.pem").display().to_string();
    let out = run(&[
        "dkim",
        "keygen",
        "--domain",
        "sender.test",
        "--selector",
        "s",
        "--file",
        &file,
    ]);
    let said = String::from_utf8(out.stdout).expect("text");
    let record = said
        .lines()
        .find(|l| !l.starts_with(';'))
        .expect("a record");
    let zone = format!(
        "@ IN TXT \"v=spf1 ip4:{SENDER} -all\"\n_dmarc IN TXT \"v=DMARC1; p=reject\"\n{record}\n"
    );
    let nsd = Nsd::start(dir.path(), &[("sender.test", &zone), ("bounces.test", "")]);
    let receiver = Receiver::start(answer);
    let server = Server::start(&format!(
        "dns = {{ servers = [\"{}\"] }}\n[[listener]]\nrelay_networks = [\"127.0.0.1\"]\n\
         inbound_domains = [\"bounces.test\", \"*.in.test\"]\n\
         [[route]]\ndomain = \"bounces.test\"\nto = [\"{}\"]\n\
         [[route]]\ndomain = \"*.in.test\"\nto = [\"{}\"]\n{}",
        nsd.address,
        receiver.address,
        receiver.address,
        smart_host(receiver.address)
    ));
    World {
        server,
        receiver,
        key: std::fs::read_to_string(file).expect("the key"),
        _nsd: nsd,
        _dir: dir,
    }
}

const MESSAGE: &[u8] =
    b"From: Ann <ann@sender.test>\r\nTo: b@bounces.test\r\nSubject: s\r\n\r\nHello.\r\n";

pub(crate) fn checked_and_marked() {
    if !need(&["nsd"]) {
        return;
    }
    let mut w = world(|_| Answer::Usual);
    let (server, ann, to) = (&w.server, "<ann@sender.test>", "<b@bounces.test>");

    let genuine = signed(&w.key, MESSAGE);
    hand_in(server, SENDER, ann, to, &genuine);
    let mail = w.receiver.wait(1).remove(0);
    let results = fields(&mail, "Authentication-Results");
    assert_eq!(results.len(), 1, "{}", mail.text());
    assert!(
        mail.text()
            .starts_with("Authentication-Results: courser.test;"),
        "{}",
        mail.text()
    );
    for words in [
        "spf=pass",
        "smtp.mailfrom=ann@sender.test",
        "dkim=pass",
        "header.d=sender.test",
        "header.s=s",
        "arc=none",
        "dmarc=pass",
        "header.from=sender.test",
    ] {
        assert!(results[0].contains(words), "{words}: {}", results[0]);
    }
    if let Some(read) = as_authres_reads(&results[0]) {
        assert_eq!(
            read,
            [
                "courser.test",
                "spf=pass",
                "dkim=pass",
                "arc=none",
                "dmarc=pass"
            ]
        );
    }
    // Nothing else was changed.
    assert!(
        mail.text()
            .ends_with(std::str::from_utf8(&genuine).expect("text")),
        "{}",
        mail.text()
    );

    let forged = [
        b"Authentication-Results: courser.test; dkim=pass header.d=sender.test\r\n" as &[u8],
        b"Authentication-Results: COURSER.test. (really) 1; spf=pass\r\n",
        b"Authentication-Results:\r\n \"courser.test\"; dmarc=pass\r\n",
        b"Authentication-Results: other.example; spf=neutral\r\n",
        MESSAGE,
    ]
    .concat();
    hand_in(server, FORGER, ann, "<x@deep.in.test>", &forged);
    let mail = w.receiver.wait(2).remove(1);
    let results = fields(&mail, "Authentication-Results");
    assert_eq!(results.len(), 2, "{}", mail.text());
    for words in ["spf=fail", "dkim=none", "dmarc=fail", "p=reject"] {
        assert!(results[0].contains(words), "{words}: {}", results[0]);
    }
    assert!(results[1].contains("other.example"), "{results:?}");

    // A changed body.
    let changed = [&genuine[..], b"Buy!\r\n"].concat();
    hand_in(server, FORGER, "<>", to, &changed);
    let mail = w.receiver.wait(3).remove(2);
    let results = fields(&mail, "Authentication-Results");
    for words in [
        "dkim=fail",
        "body hash did not verify",
        "smtp.helo=out.sender.test",
        "dmarc=fail",
    ] {
        assert!(results[0].contains(words), "{words}: {}", results[0]);
    }

    // Those whose mail goes out to anyone are not checked, and nobody else's mail goes on.
    hand_in(server, "127.0.0.1", ann, to, MESSAGE);
    let mail = w.receiver.wait(4).remove(3);
    assert_eq!(fields(&mail, "Authentication-Results").len(), 0);
    for to in [
        "<you@dest.test>",
        "<you@in.test>",
        "<you@xbounces.test>",
        "<Postmaster>",
    ] {
        let reply = hand_in(server, SENDER, ann, to, MESSAGE);
        assert!(
            reply.starts_with("550 5.7.1 Relaying denied"),
            "{to}: {reply}"
        );
    }
    assert_eq!(w.receiver.count(), 4);
    w.server.stop();
}

pub(crate) fn only_real_senders_are_told_of_failures() {
    if !need(&["nsd"]) {
        return;
    }
    let mut w = world(|line| match line {
        l if l.starts_with("RCPT") && l.contains("bounces.test") => {
            Answer::say("550 5.1.1 No such mailbox")
        }
        _ => Answer::Usual,
    });
    let to = "<nobody@bounces.test>";
    hand_in(&w.server, FORGER, "<ann@sender.test>", to, MESSAGE);
    hand_in(&w.server, FORGER, "<x@nospf.test>", to, MESSAGE);
    hand_in(&w.server, SENDER, "<ann@sender.test>", to, MESSAGE);
    w.server.wait_empty();
    let told = w.receiver.wait(1);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].recipients(), ["ann@sender.test"]);
    assert!(
        told[0].text().contains("550 5.1.1 No such mailbox"),
        "{}",
        told[0].text()
    );
    w.server.stop();
}
