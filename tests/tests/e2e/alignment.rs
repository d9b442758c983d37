//! `require_alignment`: mail that receivers would not find authenticated doesn't leave unseen.

use std::path::Path;

use courser_tests::client::{Client, submit};
use courser_tests::dns::Nsd;
use courser_tests::eventually;
use courser_tests::need::need;
use courser_tests::receiver::{Answer, Receiver};
use courser_tests::server::{Server, run, scratch, smart_host};

/// The address that mail leaves from.
const SOURCE: &str = "127.0.0.7";

/// Makes a key for a domain.
fn keygen(keys: &Path, domain: &str) {
    let file = keys.join(domain).join("s.pem");
    let out = run(&[
        "dkim",
        "keygen",
        "--domain",
        domain,
        "--selector",
        "s",
        "--type",
        "ed25519",
        "--file",
        &file.display().to_string(),
    ]);
    assert!(out.status.success(), "{out:?}");
    let said = String::from_utf8(out.stdout).expect("text");
    for line in ["[[dkim.key]]", "domain = ", "selector = \"s\"", "file = "] {
        assert!(said.contains(line), "{said}");
    }
}

fn overrides(keys: &Path, dns: &str, receiver: &Receiver, stream: &str) -> String {
    format!(
        "dkim = {{ dir = \"{}\" }}\ndns = {{ servers = [\"{dns}\"] }}\n\
         [[source]]\nname = \"seven\"\naddress = \"{SOURCE}\"\nehlo = \"mta.right.test\"\n\
         [[stream]]\nname = \"default\"\nrequire_alignment = \"{stream}\"\n{}",
        keys.display(),
        smart_host(receiver.address)
    )
}

fn mail(from: &str) -> Vec<u8> {
    format!("From: {from}\r\nTo: you@dest.test\r\nSubject: s\r\n\r\nHello.\r\n").into_bytes()
}

/// What the server answers to a message.
fn answer(server: &Server, sender: &str, from: &str) -> String {
    let mut client = Client::hello(server.address);
    let reply = client.try_submit(&format!("<{sender}>"), &["<you@dest.test>"], &mail(from));
    reply.expect("a working connection").trim().to_owned()
}

/// The reply with what it says on all of its lines.
fn has(reply: &str, words: &[&str]) {
    let text = reply.replace("\r\n", " ");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {reply}");
    }
}

pub(crate) fn refused_with_the_record_that_helps() {
    if !need(&["nsd"]) {
        return;
    }
    let dir = scratch();
    let keys = dir.path().join("keys");
    for domain in ["right.test", "nospf.test", "short.test"] {
        keygen(&keys, domain);
    }
    let right = format!(
        "@ IN TXT \"v=spf1 ip4:{SOURCE} -all\"\nmta IN TXT \"v=spf1 a -all\"\nmta IN A {SOURCE}\n"
    );
    let short = "@ IN TXT \"v=spf1 ip4:127.0.0.8 ~all\"\n";
    let broken = "@ IN TXT \"v=spf1 ip4:127.0.0 -all\"\n";
    let zones = [
        ("right.test", &*right),
        ("nospf.test", ""),
        ("short.test", short),
        ("broken.test", broken),
    ];
    let nsd = Nsd::start(dir.path(), &zones);
    let receiver = Receiver::start(|_| Answer::Usual);
    let dns = nsd.address.to_string();
    let mut server = Server::start(&overrides(&keys, &dns, &receiver, "refuse"));

    for (sender, from) in [
        ("a@right.test", "a@right.test"),
        ("a@right.test", "News <a@news.right.test>"),
        // The null reverse-path is judged by the name in EHLO.
        ("", "a@right.test"),
        // Aligned by DKIM, and the other domain's SPF includes the source.
        ("a@right.test", "a@nospf.test"),
    ] {
        has(&answer(&server, sender, from), &["250 2.0.0 Queued"]);
    }
    assert_eq!(receiver.wait(4).len(), 4);

    let unsigned = answer(&server, "a@right.test", "a@nokey.test");
    has(
        &unsigned,
        &[
            "550 5.7.22",
            "for nokey.test",
            "SELECTOR._domainkey.nokey.test",
            "courser dkim keygen",
        ],
    );
    let two = answer(&server, "a@right.test", "a@right.test, b@short.test");
    has(&two, &["550 5.7.22", "several domains"]);
    let fails = answer(&server, "a@short.test", "a@right.test");
    has(
        &fails,
        &[
            "550 5.7.23",
            "short.test gives softfail",
            "add ip4:127.0.0.7 to its record",
        ],
    );
    let wrong = answer(&server, "a@broken.test", "a@right.test");
    has(&wrong, &["550 5.7.24", "broken.test", "ip4:127.0.0"]);
    let none = answer(&server, "a@nospf.test", "a@nospf.test");
    has(&none, &["550 5.7.23", "nospf.test has no SPF record"]);
    let refused = eventually(10, || {
        let refused = server.events_of("refused");
        (refused.len() == 5).then_some(refused)
    });
    assert!(refused.is_some(), "{:#?}", server.events_of("refused"));

    // The record of the reply is the record that helps.
    let text = none.replace("\r\n", " ");
    let record = text
        .split('"')
        .nth(1)
        .expect("a record in quotes")
        .to_owned();
    assert!(record.starts_with("v=spf1 "), "{record}");
    let other = scratch();
    let told = format!("@ IN TXT \"{record}\"\n");
    let nsd = Nsd::start(other.path(), &[("nospf.test", &told)]);
    server.stop();
    server.configure(&overrides(
        &keys,
        &nsd.address.to_string(),
        &receiver,
        "refuse",
    ));
    server.restart();
    has(
        &answer(&server, "a@nospf.test", "a@nospf.test"),
        &["250 2.0.0 Queued"],
    );
    receiver.wait(5);
    server.stop();
}

/// A server that has a key for right.test, whose zone has these records, and a receiver.
struct World {
    server: Server,
    receiver: Receiver,
    _nsd: Nsd,
    _dir: tempfile::TempDir,
}

/// `tenants` are those of the key, as TOML, if it is for some only.
fn world(records: &str, stream: &str, tenants: Option<&str>) -> Option<World> {
    if !need(&["nsd"]) {
        return None;
    }
    let dir = scratch();
    let keys = dir.path().join("keys");
    keygen(&keys, "right.test");
    let nsd = Nsd::start(dir.path(), &[("right.test", records)]);
    let receiver = Receiver::start(|_| Answer::Usual);
    let mut config = overrides(&keys, &nsd.address.to_string(), &receiver, stream);
    if let Some(tenants) = tenants {
        let (_, rest) = config.split_once('\n').expect("a line about keys");
        config = format!(
            "dkim = {{ key = [{{ domain = \"right.test\", selector = \"s\", file = \"{}\", tenants = {tenants} }}] }}\n{rest}",
            keys.join("right.test/s.pem").display()
        );
    }
    Some(World {
        server: Server::start(&config),
        receiver,
        _nsd: nsd,
        _dir: dir,
    })
}

/// SPF that includes the source.
const SPF: &str = "@ IN TXT \"v=spf1 ip4:127.0.0.7 -all\"\n";

pub(crate) fn held_until_it_is_released() {
    let Some(World {
        mut server,
        receiver,
        _nsd,
        _dir,
    }) = world(SPF, "hold", None)
    else {
        return;
    };
    let to = ["<you@dest.test>".to_owned(), "<they@other.test>".to_owned()];
    let sender = "<a@right.test>";
    let held = submit(server.address, sender, &to, &mail("a@nokey.test"));
    submit(server.address, sender, &to[..1], &mail("a@right.test"));
    // With its event its end is on disk, so that the kill doesn't send it again.
    server.wait_event("delivered", |_| true);
    assert_eq!(receiver.count(), 1);
    let said = eventually(10, || {
        let held = server.events_of("held");
        (held.len() == 2).then_some(held)
    });
    let said = said.expect("an event for each delivery that is held");
    for event in &said {
        let cause = event["cause"].as_str().unwrap_or_default();
        assert!(
            cause.contains("SELECTOR._domainkey.nokey.test"),
            "{event:#}"
        );
    }
    for _ in 0..2 {
        server.wait_reason(&held, "held");
        assert_eq!(server.queue().len(), 2);
        assert_eq!(receiver.count(), 1);
        // It is still held after a crash.
        server.kill9();
        server.restart();
    }
    let out = server.courser(&["queue", "release", &held]);
    assert!(out.status.success(), "{out:?}");
    // Both recipients in one transaction.
    assert_eq!(receiver.wait(2)[1].recipients().len(), 2);
    server.wait_empty();
    server.stop();
}

pub(crate) fn warned_about_once() {
    let Some(World {
        mut server,
        receiver,
        _nsd,
        _dir,
    }) = world("", "warn", None)
    else {
        return;
    };
    let to = ["<you@dest.test>"];
    for from in [
        "a@nokey.test",
        "a@nokey.test",
        "a@right.test",
        "a@right.test",
    ] {
        submit(server.address, "<a@right.test>", &to, &mail(from));
    }
    receiver.wait(4);
    server.stop();
    let log = server.log();
    for words in [
        "No DKIM key here signs for nokey.test",
        "right.test has no SPF record",
    ] {
        assert_eq!(log.matches(words).count(), 1, "{words}\n{log}");
    }
}

pub(crate) fn dns_that_does_not_answer_decides_nothing() {
    let dir = scratch();
    let keys = dir.path().join("keys");
    keygen(&keys, "right.test");
    let receiver = Receiver::start(|_| Answer::Usual);
    let judge = |demand: &str| {
        // Nobody listens there.
        let mut server = Server::start(&overrides(&keys, "127.0.0.1:9", &receiver, demand));
        let late = answer(&server, "a@right.test", "a@right.test");
        has(&late, &["451 4.7.24", "can't be looked up now"]);
        // What needs no DNS is known.
        let unsigned = answer(&server, "a@right.test", "a@nokey.test");
        let wanted = if demand == "refuse" {
            "550 5.7.22"
        } else {
            "250 2.0.0"
        };
        has(&unsigned, &[wanted]);
        server.stop();
    };
    // Both at once: DNS takes its time to give up.
    std::thread::scope(|scope| {
        scope.spawn(|| judge("refuse"));
        scope.spawn(|| judge("hold"));
    });
    assert_eq!(receiver.count(), 0);
}

pub(crate) fn a_key_signs_for_its_tenants() {
    let Some(World {
        mut server,
        receiver,
        _nsd,
        _dir,
    }) = world(SPF, "refuse", Some("[\"acme\"]"))
    else {
        return;
    };
    let of = |tenant: &str| {
        let body = [
            format!("X-Courser-Tenant: {tenant}\r\n").as_bytes(),
            &mail("a@right.test"),
        ]
        .concat();
        let mut client = Client::hello(server.address);
        let reply = client.try_submit("<a@right.test>", &["<you@dest.test>"], &body);
        reply.expect("a working connection")
    };
    has(&of("acme"), &["250 2.0.0"]);
    has(&of("other"), &["550 5.7.22"]);
    let mails = receiver.wait(1);
    assert!(
        mails[0].text().contains("d=right.test"),
        "{}",
        mails[0].text()
    );
    server.stop();
}
