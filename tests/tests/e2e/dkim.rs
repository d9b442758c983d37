//! DKIM: what goes out is signed, and other people's verifiers agree.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64ct::{Base64, Encoding};
use courser_tests::client::{Client, submit};
use courser_tests::clock::unix_and;
use courser_tests::dns::Nsd;
use courser_tests::eventually;
use courser_tests::need::{need, perl_module, python};
use courser_tests::receiver::{Answer, Receiver};
use courser_tests::server::{Server, run, scratch, smart_host};

/// Makes a key and gives its record as a line of a zone.
fn keygen(file: &Path, domain: &str, selector: &str, kind: &str) -> String {
    let file = file.display().to_string();
    let words = [
        "dkim",
        "keygen",
        "--domain",
        domain,
        "--selector",
        selector,
        "--type",
        kind,
        "--file",
    ];
    let out = run(&[&words[..], &[&file]].concat());
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let said = String::from_utf8(out.stdout).expect("text");
    let record = said.lines().find(|l| !l.starts_with(';'));
    format!("{}\n", record.expect("a record"))
}

/// Messages that are easy to get wrong.
fn odd_messages() -> Vec<(&'static str, Vec<u8>)> {
    let head = "From: Shop <news@sender.test>\r\nTo: you@dest.test\r\nSubject: S\r\n";
    let with = |rest: &str| format!("{head}{rest}").into_bytes();
    let mut all = vec![
        ("plain", with("\r\nhello\r\n")),
        ("no body", with("\r\n")),
        ("empty lines at the end", with("\r\nhello\r\n\r\n\r\n\r\n")),
        (
            "spaces at line ends",
            with("\r\nhello  \t \r\n  \r\n\t\r\nx \r\n \r\n"),
        ),
        ("only spaces", with("\r\n   \r\n\t\r\n")),
        ("dots", with("\r\n.\r\n..\r\n.x\r\n")),
        (
            "folded",
            with(
                "X-A: 1\r\nList-Unsubscribe: <https://sender.test/u>,\r\n\t<mailto:u@sender.test>\r\nMIME-Version:   1.0\r\n\r\nx\r\n",
            ),
        ),
        (
            "two of a field",
            with("Cc: a@b.test\r\nCc: c@d.test\r\n\r\nx\r\n"),
        ),
        ("eight bits", with("\r\nZürich — naïve\r\n")),
        (
            "odd spaces in the header",
            with("Reply-To:   a@b.test  \t \r\nX: \r\n\r\nx\r\n"),
        ),
    ];
    let mut long = with("\r\n");
    for _ in 0..40 {
        long.extend(std::iter::repeat_n(b'a', 900));
        long.extend_from_slice(b" \t b\r\n");
    }
    all.push(("long lines", long));
    let mut large = with("\r\n");
    for i in 0..20_000 {
        large.extend_from_slice(format!("line {i} of a large message  \r\n").as_bytes());
    }
    all.push(("a megabyte", large));
    all
}

/// `courser` with two keys of sender.test, nsd with their records, and a receiver.
struct World {
    server: Server,
    receiver: Receiver,
    nsd: Nsd,
    records: String,
    dir: tempfile::TempDir,
}

fn world(more: &str) -> World {
    let dir = scratch();
    let keys = dir.path().join("keys");
    let rsa = keygen(&keys.join("sender.test/r.pem"), "sender.test", "r", "rsa");
    let ed = keygen(
        &keys.join("sender.test/e.pem"),
        "sender.test",
        "e",
        "ed25519",
    );
    let records = rsa + &ed;
    let nsd = Nsd::start(dir.path(), &[("sender.test", &records)]);
    let receiver = Receiver::start(|_| Answer::Usual);
    let server = Server::start(&format!(
        "dkim = {{ dir = \"{}\" }}\ndns = {{ servers = [\"{}\"] }}\n{more}{}",
        keys.display(),
        nsd.address,
        smart_host(receiver.address)
    ));
    World {
        server,
        receiver,
        nsd,
        records,
        dir,
    }
}

/// Runs a program with `input`, and gives what it printed.
fn filter(command: &mut Command, input: &[u8]) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the verifier starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let out = child.wait_with_output().expect("the verifier ends");
    writer.join().expect("the writer ends");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

const DKIMPY: &str = "import sys, dkim, dns.resolver\n\
    r = dns.resolver.Resolver(configure=False)\n\
    r.nameservers = ['127.0.0.1']; r.port = int(sys.argv[1])\n\
    def txt(name, timeout=5):\n\
    \x20   name = name.decode() if isinstance(name, bytes) else name\n\
    \x20   return b''.join(r.resolve(name, 'TXT')[0].strings)\n\
    m = sys.stdin.buffer.read()\n\
    d = dkim.DKIM(m)\n\
    n = sum(1 for h, _ in d.headers if h.lower() == b'dkim-signature')\n\
    print(' '.join('pass' if d.verify(i, dnsfunc=txt) else 'fail' for i in range(n)))\n";

const MAIL_DKIM: &str = "use Mail::DKIM::Verifier; use Mail::DKIM::DNS; use Net::DNS;\
    Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(nameservers => ['127.0.0.1'], port => $ARGV[0], recurse => 0));\
    my $d = Mail::DKIM::Verifier->new(); binmode STDIN;\
    while (read STDIN, my $piece, 65536) { $d->PRINT($piece) } $d->CLOSE;\
    print join(' ', map { $_->result } $d->signatures), \"\\n\";";

/// `opendkim -t`, with the records in a file.
fn opendkim(world: &World) -> Option<PathBuf> {
    if !need(&["opendkim"]) {
        return None;
    }
    let keys = world.dir.path().join("opendkim.keys");
    let mut lines = String::new();
    for line in world.records.lines() {
        let (name, rest) = line.split_once(". IN TXT ").expect("a record");
        let text: String = rest.split('"').skip(1).step_by(2).collect();
        lines.push_str(&format!("{name} {text}\n"));
    }
    std::fs::write(&keys, lines).expect("a scratch file");
    let conf = world.dir.path().join("opendkim.conf");
    let text = format!(
        "Mode v\nTestPublicKeys {}\nSyslog no\nAlwaysAddARHeader yes\nAuthservID verifier.test\n",
        keys.display()
    );
    std::fs::write(&conf, text).expect("a scratch file");
    Some(conf)
}

pub(crate) fn other_verifiers_agree() {
    if !need(&["nsd"]) {
        return;
    }
    let world = world("");
    let interpreter = python(&["dkimpy", "pynacl", "dnspython", "authres"]);
    let perl = perl_module("Mail::DKIM::Verifier", "libmail-dkim-perl");
    let opendkim = opendkim(&world);
    let port = world.nsd.address.port().to_string();
    let mut checked = [0; 3];
    for (n, (name, message)) in odd_messages().into_iter().enumerate() {
        submit(
            world.server.address,
            "<news@sender.test> BODY=8BITMIME",
            &["<you@dest.test>"],
            &message,
        );
        let mail = &world.receiver.wait(n + 1)[n];
        let head = mail.text();
        assert!(
            head.starts_with("DKIM-Signature: "),
            "{name}: {}",
            &head[..head.len().min(400)]
        );
        assert_eq!(head.matches("DKIM-Signature: ").count(), 2, "{name}");
        if let Some(python) = &interpreter {
            let mut command = Command::new(python);
            let said = filter(command.args(["-c", DKIMPY, &port]), &mail.content);
            assert_eq!(said.trim(), "pass pass", "dkimpy, {name}");
            checked[0] += 1;
        }
        if perl {
            let mut command = Command::new("perl");
            let said = filter(command.args(["-e", MAIL_DKIM, &port]), &mail.content);
            // Ed25519 comes first; versions that don't know it call it invalid.
            assert!(
                matches!(said.trim(), "pass pass" | "invalid pass"),
                "Mail::DKIM, {name}: {said}"
            );
            checked[1] += 1;
        }
        if let Some(conf) = &opendkim {
            let file = world.dir.path().join("message.eml");
            std::fs::write(&file, &mail.content).expect("a scratch file");
            let mut command = Command::new(courser_tests::need::find("opendkim").expect("found"));
            command.arg("-x").arg(conf).arg("-vv").arg("-t").arg(&file);
            let said = filter(&mut command, b"");
            assert_eq!(
                said.matches("dkim=pass").count(),
                2,
                "opendkim, {name}: {said}"
            );
            checked[2] += 1;
        }
    }
    courser_tests::say(&format!(
        "signed mail with RSA and Ed25519, verified by dkimpy {}, Mail::DKIM {}, opendkim {} messages\n",
        checked[0], checked[1], checked[2]
    ));
}

pub(crate) fn keys_are_checked_against_dns() {
    if !need(&["nsd"]) {
        return;
    }
    let mut world = world("");
    let config = world.server.config().display().to_string();
    let check = || run(&["dkim", "check", "--config", &config]);
    let out = check();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{said}");
    assert!(said.contains("r._domainkey.sender.test: right"), "{said}");
    assert!(said.contains("e._domainkey.sender.test: right"), "{said}");
    let out = run(&["dkim", "record", "--config", &config]);
    assert_eq!(
        String::from_utf8_lossy(&out.stdout)
            .lines()
            .collect::<std::collections::BTreeSet<_>>(),
        world.records.lines().collect()
    );

    // A key that nobody published, and one whose record is another's.
    let keys = world.dir.path().join("keys/sender.test");
    keygen(&keys.join("new.pem"), "sender.test", "new", "rsa");
    std::fs::rename(keys.join("e.pem"), keys.join("e.old")).expect("renamed");
    keygen(&keys.join("e.pem"), "sender.test", "e", "ed25519");
    let out = check();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(!out.status.success(), "{said}");
    assert!(
        said.contains("new._domainkey.sender.test: NOT PUBLISHED"),
        "{said}"
    );
    assert!(
        said.contains("e._domainkey.sender.test: WRONG: the record holds another key"),
        "{said}"
    );
    assert!(said.contains("r._domainkey.sender.test: right"), "{said}");

    // The server finds it out by itself.
    let out = world.server.courser(&["reload"]);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let warned = eventually(30, || {
        let status = world.server.ask(&["status", "--json"])[0]["warnings"].to_string();
        (status.contains("new._domainkey") && status.contains("another key")).then_some(())
    });
    assert!(warned.is_some(), "{}", world.server.log());
    world.server.stop();
}

pub(crate) fn keys_that_are_no_good_keep_it_from_starting_and_from_reloading() {
    use std::os::unix::fs::PermissionsExt;
    if !need(&["nsd"]) {
        return;
    }
    let mut world = world("");
    let key = world.dir.path().join("keys/sender.test/r.pem");
    let mode = |mode| {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("chmod");
    };
    mode(0o644);
    let out = world.server.courser(&["reload"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        !out.status.success() && said.contains("chmod 600"),
        "{said}"
    );
    // It goes on with the keys it has.
    let mut client = Client::hello(world.server.address);
    let message = b"From: a@sender.test\r\n\r\nx\r\n";
    client.submit("<a@sender.test>", &["<b@dest.test>"], message);
    assert!(world.receiver.wait(1)[0].text().contains("d=sender.test"));
    drop(client);
    world.server.stop();
    let config = world.server.config().display().to_string();
    let out = run(&["serve", "--config", &config]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success(), "{said}");
    assert!(
        said.contains("r.pem")
            && said.contains("others than its owner may read")
            && said.contains("chmod 600"),
        "{said}"
    );
    assert!(!said.contains("PRIVATE"), "{said}");
    let out = run(&["check-config", &config]);
    assert!(!out.status.success());
    mode(0o600);
    let out = run(&["check-config", &config]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        said.contains("signs now with r._domainkey.sender.test (rsa-sha256)"),
        "{said}"
    );
}

pub(crate) fn only_the_authors_keys_sign() {
    if !need(&["nsd"]) {
        return;
    }
    let dir = scratch();
    let file = dir.path().join("esp.pem");
    keygen(&file, "esp.test", "esp", "rsa");
    let esp = format!(
        "[[dkim.key]]\ndomain = \"esp.test\"\nselector = \"esp\"\nfile = \"{}\"\nsign_for = [\"*\"]\n",
        file.display()
    );
    let world = world("");
    drop(world);
    let receiver = Receiver::start(|line| match line {
        l if l.starts_with("RCPT TO:<nobody@") => Answer::say("550 5.1.1 no such user"),
        _ => Answer::Usual,
    });
    let mut server = Server::start(&format!("{esp}{}", smart_host(receiver.address)));
    let send = |from: &str| {
        let message = format!("{from}Subject: x\r\n\r\nx\r\n");
        submit(
            server.address,
            "<news@sender.test>",
            &["<you@dest.test>"],
            message.as_bytes(),
        );
    };
    send("From: a@sender.test\r\n");
    send("From: <no address\r\n");
    send("");
    let mails = receiver.wait(3);
    let signed = |from: &str| {
        let mail = mails.iter().find(|m| m.text().contains(from));
        mail.expect("it arrived")
            .text()
            .matches("d=esp.test")
            .count()
    };
    assert_eq!(signed("a@sender.test"), 1);
    assert_eq!(signed("<no address"), 0);
    // Notifications of its own are signed too.
    submit(
        server.address,
        "<back@sender.test>",
        &["<nobody@dest.test>"],
        b"From: a@sender.test\r\n\r\nx\r\n",
    );
    let mails = receiver.wait(4);
    let dsn = mails
        .iter()
        .find(|m| m.sender().is_empty())
        .expect("a notification");
    assert!(dsn.text().contains("d=esp.test"), "{}", dsn.text());
    server.stop();
}

/// Messages that dkimpy and Courser sign for each other, unless `DKIM_MESSAGES` says another number.
const CROSS_MESSAGES: u64 = 60;

pub(crate) fn dkimpy_and_courser_sign_for_each_other() {
    let Some(interpreter) = python(&["dkimpy", "pynacl", "dnspython", "authres"]) else {
        return;
    };
    let dir = scratch();
    let rsa = dir.path().join("rsa.pem");
    keygen(&rsa, "example.com", "rsa", "rsa");
    let ed = dir.path().join("ed.seed");
    // RFC 8463 A.2.
    std::fs::write(&ed, "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=\n").expect("a scratch file");
    let record = |file: &Path| {
        let out = run(&["dkim", "record", "--file", &file.display().to_string()]);
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    let messages = courser_tests::setting("DKIM_MESSAGES", CROSS_MESSAGES).to_string();
    let seed = courser_tests::setting("DKIM_SEED", 1).to_string();
    let out = Command::new(interpreter)
        .args(["-c", include_str!("dkim/cross.py")])
        .arg(courser_tests::server::program())
        .arg(&rsa)
        .args([record(&rsa), record(&ed), seed, messages])
        .output()
        .expect("python starts");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && !said.contains("WRONG"),
        "{said}\n{}",
        String::from_utf8_lossy(&out.stderr)
    );
    courser_tests::say(&format!(
        "dkimpy and Courser: {}\n",
        said.trim().replace('\n', "; ")
    ));
}

pub(crate) fn what_opendkim_signs_is_verified() {
    if !need(&["opendkim"]) {
        return;
    }
    let dir = scratch();
    let key = dir.path().join("rsa.pem");
    keygen(&key, "sender.test", "r", "rsa");
    let out = run(&["dkim", "record", "--file", &key.display().to_string()]);
    let record = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    let mut checked = 0;
    for canonicalization in [
        "simple/simple",
        "simple/relaxed",
        "relaxed/simple",
        "relaxed/relaxed",
    ] {
        let conf = dir.path().join("opendkim.conf");
        let text = format!(
            "Mode s\nDomain sender.test\nSelector r\nKeyFile {}\nCanonicalization {canonicalization}\n\
             SignatureAlgorithm rsa-sha256\nSyslog no\nRequireSafeKeys no\n",
            key.display()
        );
        std::fs::write(&conf, text).expect("a scratch file");
        for (name, message) in odd_messages() {
            // A milter is told fields without the white space around them, and signs them so.
            if name == "odd spaces in the header" && canonicalization.starts_with("simple/") {
                continue;
            }
            // Without these it signs nothing.
            let mut whole =
                b"Date: Fri, 27 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@sender.test>\r\n"
                    .to_vec();
            whole.extend_from_slice(&message);
            let file = dir.path().join("message.eml");
            std::fs::write(&file, &whole).expect("a scratch file");
            let mut command = Command::new(courser_tests::need::find("opendkim").expect("found"));
            let said = filter(command.arg("-x").arg(&conf).arg("-t").arg(&file), b"");
            let at = said.find("DKIM-Signature:");
            let at = at.unwrap_or_else(|| panic!("{name}: opendkim signs nothing: {said}"));
            let field = said[at..]
                .trim_end()
                .replace("\r\n", "\n")
                .replace('\n', "\r\n");
            let signed = [field.as_bytes(), b"\r\n", &whole].concat();
            let question = serde_json::json!({
                "message_b64": Base64::encode_string(&signed),
                "now": unix_and(0),
                "dns": {"r._domainkey.sender.test": {"TXT": [&record]}},
            });
            let mut command = Command::new(courser_tests::server::program());
            let said = filter(
                command.args(["eval", "dkim"]),
                format!("{question}\n").as_bytes(),
            );
            assert!(
                said.contains("\"result\":\"pass\""),
                "{name}, {canonicalization}: {said}"
            );
            checked += 1;
        }
    }
    courser_tests::say(&format!(
        "signed by opendkim, verified here: {checked} messages\n"
    ));
}
