//! TLS toward receivers: how much of it mail gets, by its level and by what the receiver can do.

use std::net::IpAddr;
use std::time::Duration;

use courser_tests::client::{Client, small, submit};
use courser_tests::dns::Nsd;
use courser_tests::need::need;
use courser_tests::net::free_port_on;
use courser_tests::peers::Postfix;
use courser_tests::receiver::{Answer, EXTENSIONS, Receiver};
use courser_tests::server::{Server, run, scratch, smart_host};
use courser_tests::tls::{Authority, Valid};
use courser_tests::{eventually, need_root};
use serde_json::Value;

/// What a receiver does about TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A certificate that is right in all.
    Good,
    /// One of an authority that is unknown.
    Strange,
    /// One for another name.
    Misnamed,
    /// One that has expired.
    Expired,
    /// It, or somebody in between, offers none.
    Stripped,
    /// It refuses STARTTLS.
    Refuses,
    /// It says 220 and then something that is not TLS.
    Garbage,
    /// It says 220 and more behind it.
    Injects,
    /// It closes after 220.
    Closes,
    /// It says nothing after 220.
    Silent,
    /// It begins a record and closes.
    Truncates,
    /// It begins a record and says no more.
    Stalls,
}

use Kind::{
    Closes, Expired, Garbage, Good, Injects, Misnamed, Refuses, Silent, Stalls, Strange, Stripped,
    Truncates,
};

const KINDS: [Kind; 12] = [
    Good, Strange, Misnamed, Expired, Stripped, Refuses, Garbage, Injects, Closes, Silent,
    Truncates, Stalls,
];

impl Kind {
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    fn ip(self) -> [u8; 4] {
        [127, 0, 2, 1 + self as u8]
    }

    /// What it answers to STARTTLS, if it doesn't speak TLS.
    fn answer(self) -> Option<Answer> {
        let go = (Duration::ZERO, b"220 2.0.0 Go ahead\r\n".to_vec());
        let after = |ms, bytes: &[u8]| {
            Answer::Bytes(vec![
                go.clone(),
                (Duration::from_millis(ms), bytes.to_vec()),
            ])
        };
        let long = 20_000;
        Some(match self {
            Good | Strange | Misnamed | Expired => return None,
            Stripped => Answer::say("502 5.5.1 Unknown command"),
            Refuses => Answer::say("454 4.7.0 TLS not available now"),
            Garbage => after(100, b"250 this is no TLS\r\n"),
            Injects => Answer::Bytes(vec![(
                Duration::ZERO,
                b"220 2.0.0 Go ahead\r\n250 injected\r\n".to_vec(),
            )]),
            Closes => Answer::Bytes(vec![go]),
            Silent => after(long, b""),
            // The head of a record of 256 bytes, and some of them.
            Truncates => after(100, &[22, 3, 3, 1, 0, 2, 0, 0, 80, 3, 3]),
            Stalls => Answer::Bytes(vec![
                go,
                (Duration::from_millis(100), vec![22, 3, 3, 1, 0, 2, 0, 0]),
                (Duration::from_millis(long), Vec::new()),
            ]),
        })
    }
}

struct World {
    receivers: Vec<Receiver>,
    /// Settings that all servers have.
    common: String,
    _nsd: Nsd,
    _dir: tempfile::TempDir,
}

/// A receiver of each kind, which takes the mail of a domain of its name.
fn world() -> Option<World> {
    if !need(&["nsd"]) {
        return None;
    }
    let dir = scratch();
    let authority = Authority::new();
    let ips: Vec<IpAddr> = KINDS.map(|k| IpAddr::from(k.ip())).to_vec();
    let port = free_port_on(&ips);
    let receivers = KINDS.map(|kind| {
        let own = format!("mx.{}.test", kind.name());
        let issued = match kind {
            Strange => Authority::new().issue(&[&own]),
            Misnamed => authority.issue(&["mx.elsewhere.test"]),
            Expired => authority.issue_valid(&[&own], Valid::Over),
            _ => authority.issue(&[&own]),
        };
        let address = (kind.ip(), port).into();
        match kind.answer() {
            None => Receiver::start_tls(address, issued.server(), |_| Answer::Usual),
            Some(answer) => {
                let offered = [EXTENSIONS, &["STARTTLS"]].concat();
                let offers = if kind == Stripped {
                    EXTENSIONS
                } else {
                    &offered
                };
                Receiver::start_at(address, offers, move |line| match line {
                    "STARTTLS" => answer.clone(),
                    _ => Answer::Usual,
                })
            }
        }
    });
    let zones = KINDS.map(|kind| {
        let [a, b, c, d] = kind.ip();
        (
            format!("{}.test", kind.name()),
            format!("@ IN MX 10 mx\nmx IN A {a}.{b}.{c}.{d}\n"),
        )
    });
    let zones: Vec<(&str, &str)> = zones.iter().map(|(n, z)| (&**n, &**z)).collect();
    let nsd = Nsd::start(dir.path(), &zones);
    let common = format!(
        "dns = {{ servers = [\"{}\"] }}\ndelivery.port = {port}\ndelivery.timeouts.ehlo = \"1s\"\n\
         tls.ca_file = \"{}\"\n",
        nsd.address,
        authority.write(dir.path()).display()
    );
    Some(World {
        receivers: receivers.into(),
        common,
        _nsd: nsd,
        _dir: dir,
    })
}

pub(crate) fn levels_and_receivers() {
    let Some(w) = world() else { return };
    for level in ["off", "opportunistic", "required", "verified"] {
        let server = Server::start(&format!("{}tls.level = \"{level}\"\n", w.common));
        let before: Vec<usize> = w.receivers.iter().map(Receiver::count).collect();
        let ids = KINDS.map(|kind| {
            let to = format!("<you@{}.test>", kind.name());
            submit(server.address, "<me@sender.test>", &[to], &small(level))
        });
        for ((kind, id), (receiver, before)) in
            KINDS.iter().zip(&ids).zip(w.receivers.iter().zip(before))
        {
            let event = server.fate(id);
            let speaks = kind.answer().is_none();
            let (delivered, encrypted, failed) = match level {
                "off" => (true, false, false),
                // Nothing is said of those that offer none, or not now.
                "opportunistic" => (true, speaks, !speaks && !matches!(kind, Stripped | Refuses)),
                "required" => (speaks, true, !speaks),
                _ => (*kind == Good, true, *kind != Good),
            };
            let what = format!("{level}, {kind:?}: {event:#}");
            assert_eq!(event["kind"] == "delivered", delivered, "{what}");
            let mails = receiver.mails().split_off(before);
            assert_eq!(mails.len(), usize::from(delivered), "{what}");
            if delivered {
                assert_eq!(mails[0].tls, encrypted, "{what}");
                assert_eq!(event["tls"]["version"] == "TLSv1.3", encrypted, "{what}");
                let verified = event["tls"]["verified"].as_str();
                let expected = (level == "verified").then_some("authorities");
                assert_eq!(verified, expected, "{what}");
            }
            let failures: Vec<Value> = server
                .events_of("tls-failed")
                .into_iter()
                .filter(|e| e["peer_host"] == format!("mx.{}.test", kind.name()))
                .collect();
            assert_eq!(!failures.is_empty(), failed, "{what}\n{failures:#?}");
            if let Some(failure) = failures.first() {
                assert_eq!(
                    failure["plaintext"],
                    level == "opportunistic",
                    "{failure:#}"
                );
                assert_eq!(failure["level"], level);
                let (result, words) = match kind {
                    Good => unreachable!("{failure:#}"),
                    Strange => (
                        "certificate-not-trusted",
                        "no certificate authority that is trusted",
                    ),
                    Misnamed => ("certificate-host-mismatch", "mx.elsewhere.test"),
                    Expired => ("certificate-expired", "has expired"),
                    Stripped => ("starttls-not-supported", "doesn't offer STARTTLS"),
                    Refuses => ("validation-failure", "TLS not available now"),
                    Garbage => ("validation-failure", "something that is not TLS"),
                    Injects => (
                        "validation-failure",
                        "plaintext behind its answer to STARTTLS",
                    ),
                    Closes | Truncates => ("validation-failure", "within the TLS handshake"),
                    Silent | Stalls => ("validation-failure", "no TLS handshake within 1 s"),
                };
                assert_eq!(failure["result"], result, "{failure:#}");
                let cause = failure["cause"].as_str().unwrap_or_default();
                assert!(cause.contains(words), "{failure:#}");
                if !delivered {
                    // The delivery says the same.
                    let said = event.to_string();
                    assert!(said.contains(words), "{what}");
                    assert_eq!(event["kind"], "deferred", "{what}");
                }
            }
        }
    }
}

pub(crate) fn who_may_ask_for_more() {
    let Some(w) = world() else { return };
    let asking = [
        (
            "[[tls.domain]]\ndomains = [\"stripped.test\"]\nlevel = \"required\"\n",
            "a domain",
        ),
        (
            "[[provider]]\nname = \"p\"\nmx = [\"mx.stripped.test\"]\ntls = \"required\"\n",
            "a provider",
        ),
        ("[[source]]\nname = \"s\"\ntls = \"required\"\n", "a source"),
        (
            "[[stream]]\nname = \"default\"\ntls = \"required\"\n",
            "a stream",
        ),
        (
            "[[route]]\ndomain = \"stripped.test\"\nto = [\"mx.stripped.test\"]\ntls = \"required\"\n",
            "a route",
        ),
    ];
    for (more, who) in asking {
        // Less of it, said of the whole server, weakens nothing.
        let server = Server::start(&format!("{}tls.level = \"off\"\n{more}", w.common));
        let to = ["<you@stripped.test>".to_owned()];
        let id = submit(server.address, "<me@sender.test>", &to, &small("asked"));
        let event = server.fate(&id);
        assert!(
            event["kind"] == "deferred" && event.to_string().contains("doesn't offer STARTTLS"),
            "{who}: {event:#}"
        );
        // The domain stands in events and lists as it is.
        assert_eq!(event["domain"], "stripped.test", "{who}: {event:#}");
        assert_eq!(server.queue()[0]["domain"], "stripped.test", "{who}");
    }
    // Mail of two streams to one domain: each goes as its stream wants.
    let server = Server::start(&format!(
        "{}tls.level = \"off\"\n[[stream]]\nname = \"default\"\n[[stream]]\nname = \"safe\"\ntls = \"required\"\n",
        w.common
    ));
    let to = ["<you@good.test>".to_owned()];
    let tagged = [b"X-Courser-Stream: safe\r\n", &small("safe")[..]].concat();
    submit(server.address, "<me@sender.test>", &to, &small("plain"));
    submit(server.address, "<me@sender.test>", &to, &tagged);
    let delivered = server.wait_events("delivered", 2, |_| true);
    for event in delivered {
        assert_eq!(
            event["stream"] == "safe",
            event["tls"].is_object(),
            "{event:#}"
        );
    }
}

pub(crate) fn sessions_go_on() {
    let Some(w) = world() else { return };
    for (level, trusted) in [("opportunistic", true), ("verified", true)] {
        let server = Server::start(&format!(
            "{}tls.level = \"{level}\"\n[delivery.limits]\nmessages_per_connection = 1\nconnections = 1\n",
            w.common
        ));
        let before = w.receivers[0].count();
        for _ in 0..4 {
            let to = ["<you@good.test>".to_owned()];
            submit(server.address, "<me@sender.test>", &to, &small(level));
        }
        let mails = w.receivers[0].wait(before + 4).split_off(before);
        let resumed = mails.iter().filter(|m| m.resumed).count();
        assert!(mails.iter().all(|m| m.tls) && trusted);
        // The first of this server can't; the others go on.
        assert_eq!(resumed, 3, "{level}");
        server.wait_events("delivered", 4, |e| e["tls"]["version"] == "TLSv1.3");
    }
}

pub(crate) fn postfix_receives_over_tls() {
    if !need_root() || !need(&["postfix"]) {
        return;
    }
    let dir = scratch();
    let authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1", "postfix.test"]);
    let (chain, key) = issued.write(dir.path(), "postfix");
    for (protocols, version) in [(">=TLSv1.2", "TLSv1.3"), ("TLSv1.2", "TLSv1.2")] {
        let home = scratch();
        let postfix = Postfix::start(
            home.path(),
            [127, 0, 0, 1].into(),
            &format!(
                "smtpd_relay_restrictions = reject_unauth_destination\nsmtpd_tls_security_level = encrypt\n\
                 smtpd_tls_cert_file = {}\nsmtpd_tls_key_file = {}\nsmtpd_tls_received_header = yes\n\
                 smtpd_tls_mandatory_protocols = {protocols}\nsmtpd_tls_loglevel = 1\n",
                chain.display(),
                key.display()
            ),
        );
        let server = Server::start(&format!(
            "tls = {{ level = \"verified\", ca_file = \"{}\" }}\n{}",
            authority.write(dir.path()).display(),
            smart_host(postfix.address)
        ));
        let mut client = Client::hello(server.address);
        for i in 0..10 {
            // Bodies of several records too.
            let mut body = small(&format!("tls-{i}"));
            body.extend(format!("{}\r\n", "x".repeat(900)).repeat(i * 20).bytes());
            client.submit(
                "<me@sender.test>",
                &[format!("<user{i}@postfix.test>")],
                &body,
            );
        }
        server.wait_events("delivered", 10, |e| {
            e["tls"]["version"] == version && e["tls"]["verified"] == "authorities"
        });
        let there = eventually(20, || (postfix.mailbox().len() >= 10).then_some(()));
        assert!(
            there.is_some(),
            "{} of 10\n{}",
            postfix.mailbox().len(),
            postfix.log()
        );
        for mail in postfix.mailbox() {
            let text = String::from_utf8_lossy(&mail);
            assert!(
                text.contains(&format!("(using {version} with cipher")),
                "{text}"
            );
        }
    }
}

pub(crate) fn tls_from_the_first_byte() {
    let dir = scratch();
    let authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1", "courser.test"]);
    let receiver = Receiver::friendly();
    let relay = Server::start(&format!(
        "tls.certificate = [{}]\n{}[[listener]]\ntls = \"implicit\"\n",
        issued.toml(dir.path(), "relay"),
        smart_host(receiver.address)
    ));
    let server = Server::start(&format!(
        "tls = {{ level = \"verified\", ca_file = \"{}\" }}\n{}implicit_tls = true\n",
        authority.write(dir.path()).display(),
        smart_host(relay.address)
    ));
    for i in 0..5 {
        let to = [format!("<you{i}@dest.test>")];
        submit(server.address, "<me@sender.test>", &to, &small("implicit"));
    }
    for mail in receiver.wait(5) {
        assert!(mail.text().contains("with ESMTPS"), "{}", mail.text());
    }
    server.wait_events("delivered", 5, |e| e["tls"]["verified"] == "authorities");
    // To who doesn't speak it nothing goes out.
    let plain = Receiver::friendly();
    let server = Server::start(&format!(
        "delivery.timeouts.ehlo = \"1s\"\n{}implicit_tls = true\n",
        smart_host(plain.address)
    ));
    let to = ["<you@dest.test>".to_owned()];
    let id = submit(server.address, "<me@sender.test>", &to, &small("plain"));
    let event = server.fate(&id);
    assert_eq!(event["kind"], "deferred", "{event:#}");
    assert_eq!(plain.count(), 0);
}

pub(crate) fn addresses_of_bad_tls_are_remembered() {
    let Some(w) = world() else { return };
    let closes = &w.receivers[Closes as usize];
    let server = Server::start(&format!(
        "{}tls.retry_after = \"2s\"\n[delivery.limits]\nmessages_per_connection = 1\n",
        w.common
    ));
    let send = |n: usize| {
        let to = ["<you@closes.test>".to_owned()];
        submit(
            server.address,
            "<me@sender.test>",
            &to,
            &small("remembered"),
        );
        closes.wait(n);
    };
    for n in 1..=4 {
        send(n);
    }
    assert_eq!(closes.count_of("STARTTLS"), 1, "{:#?}", closes.commands());
    let again = eventually(20, || {
        send(closes.count() + 1);
        (closes.count_of("STARTTLS") > 1).then_some(())
    });
    assert!(again.is_some(), "it is never tried again");
}

pub(crate) fn a_probe_says_what_a_delivery_would_do() {
    let Some(w) = world() else { return };
    let dir = scratch();
    for level in ["off", "opportunistic", "required", "verified"] {
        let server = Server::prepare(
            dir.path(),
            &format!("{}tls.level = \"{level}\"\n", w.common),
        );
        let config = server.config();
        for kind in KINDS {
            let domain = format!("{}.test", kind.name());
            let words = [
                "tls",
                "probe",
                &domain,
                "--config",
                &config.display().to_string(),
                "--json",
                "--wait",
                "1",
            ];
            let out = run(&words);
            let said = String::from_utf8_lossy(&out.stdout).into_owned();
            let report: Value = serde_json::from_str(&said)
                .unwrap_or_else(|e| panic!("{e}: {said}{}", String::from_utf8_lossy(&out.stderr)));
            let host = &report["hosts"][0];
            let what = format!("{level}, {kind:?}: {report:#}");
            let speaks = kind.answer().is_none();
            let delivers = match level {
                "off" | "opportunistic" => true,
                "required" => speaks,
                _ => kind == Good,
            };
            // What really happens is `levels_and_receivers`.
            assert_eq!(host["delivers"], delivers, "{what}");
            assert_eq!(out.status.success(), delivers, "{what}");
            assert_eq!(report["level"], level, "{what}");
            assert_eq!(host["version"] == "TLSv1.3", speaks, "{what}");
            if speaks {
                assert_eq!(host["authorities"] == "valid", kind == Good, "{what}");
                assert_eq!(host["chain"].as_array().map(Vec::len), Some(2), "{what}");
            }
            let verdict = host["verdict"].as_str().unwrap_or_default();
            let words = match (level, kind) {
                ("off", _) => "in plaintext: the configuration wants no TLS",
                ("opportunistic" | "required", _) if speaks => "over TLSv1.3, whoever it is",
                ("verified", Good) => "verified by an authority",
                ("verified", Strange) => "no certificate authority that is trusted",
                ("verified", Misnamed) => "is for mx.elsewhere.test, and should be for",
                ("verified", Expired) => "has expired",
                ("opportunistic", _) => "in plaintext: ",
                _ => "no delivery: ",
            };
            assert!(verdict.contains(words), "{what}");
        }
        // A person gets a table and the reasons; nobody gets mail.
        let words = [
            "tls",
            "probe",
            "good.test",
            "--config",
            &config.display().to_string(),
        ];
        let said = String::from_utf8_lossy(&run(&words).stdout).into_owned();
        assert!(
            said.contains("mx.good.test") && said.contains("TLSv1.3"),
            "{said}"
        );
    }
    assert!(w.receivers.iter().all(|r| r.count_of("MAIL") == 0));
    // One host alone, by its name and by its address.
    let server = Server::prepare(dir.path(), &w.common);
    let config = server.config();
    let port = w.receivers[0].address.port();
    for target in [
        format!("mx.good.test:{port}"),
        format!("[127.0.2.1]:{port}"),
    ] {
        let out = run(&[
            "tls",
            "probe",
            &target,
            "--config",
            &config.display().to_string(),
            "--json",
        ]);
        let report: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        assert_eq!(report["hosts"][0]["version"], "TLSv1.3", "{report:#}");
    }
}
