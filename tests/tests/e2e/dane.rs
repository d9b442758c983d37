//! DANE: unbound validates signed zones, and receivers have the certificate that their TLSA records
//! say, or another one.

use std::fmt::Write as _;
use std::net::IpAddr;

use courser_tests::client::{Client, small, submit};
use courser_tests::dnssec::{NEEDS, Unbound, Zone};
use courser_tests::need::need;
use courser_tests::net::free_port_on;
use courser_tests::receiver::{Answer, EXTENSIONS, Receiver};
use courser_tests::server::{Server, run, scratch};
use courser_tests::tls::{Authority, Issued, Valid};
use rustls::ALL_VERSIONS;
use rustls::version::{TLS12, TLS13};
use serde_json::Value;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The association data of a certificate, whole and by SHA-256.
fn whole(der: &[u8]) -> (String, String) {
    use sha2::Digest;
    (hex(der), hex(&sha2::Sha256::digest(der)))
}

/// `openssl` says what a key's hash is: another reader of certificates than ours.
fn key_hash(dir: &std::path::Path, issued: &Issued, digest: &str) -> String {
    let (file, _) = issued.write(dir, "hashed");
    let script = format!(
        "openssl x509 -in {} -pubkey -noout | openssl pkey -pubin -outform DER | openssl dgst -{digest} -r",
        file.display()
    );
    let out = std::process::Command::new("sh")
        .args(["-c", &script])
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    said.split(' ').next().unwrap_or_default().to_owned()
}

/// A certificate of version 1, as openssl makes it where it is told of no extension.
fn version1(dir: &std::path::Path) -> Issued {
    let script = "openssl req -new -newkey rsa:2048 -nodes -subj /CN=old -keyout old.key -out old.csr \
        && openssl x509 -req -in old.csr -signkey old.key -days 3650 -out old.pem \
        && openssl x509 -in old.pem -noout -text | grep -q 'Version: 1 '";
    let done = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(dir)
        .output()
        .expect("a shell");
    assert!(done.status.success(), "{done:?}");
    let read = |name| std::fs::read_to_string(dir.join(name)).expect("what openssl wrote");
    Issued {
        chain: read("old.pem"),
        key: read("old.key"),
    }
}

struct Host {
    name: &'static str,
    receiver: Receiver,
    ip: [u8; 4],
    issued: Option<Issued>,
}

/// Receivers at addresses of their own, all on one port; without a certificate they speak no TLS.
fn hosts(list: Vec<(&'static str, Option<Issued>, bool)>) -> (Vec<Host>, u16) {
    let ip = |n: usize| [127, 0, 4, 1 + n as u8];
    let ips: Vec<IpAddr> = (0..list.len()).map(|n| IpAddr::from(ip(n))).collect();
    let port = free_port_on(&ips);
    let hosts = list
        .into_iter()
        .enumerate()
        .map(|(n, (name, issued, requiretls))| {
            let address = (ip(n), port).into();
            let receiver = match &issued {
                Some(issued) => {
                    let strange = || Authority::new().issue(&["mx.other.test"]);
                    let tls = match name {
                        // It has many names, and shows what it is asked for.
                        "alias" => {
                            issued.server_by_name("real.alias.test", &strange(), ALL_VERSIONS)
                        }
                        "version1" => issued.server_by_name("", issued, &[&TLS13]),
                        "version12" => issued.server_by_name("", issued, &[&TLS12]),
                        _ => issued.server(),
                    };
                    let receiver = Receiver::start_tls(address, tls, |_| Answer::Usual);
                    if requiretls {
                        receiver.offer("REQUIRETLS");
                    }
                    receiver
                }
                None => Receiver::start_at(address, EXTENSIONS, |_| Answer::Usual),
            };
            Host {
                name,
                receiver,
                ip: ip(n),
                issued,
            }
        });
    (hosts.collect(), port)
}

/// A zone `NAME.test` with one MX host `mx` at the host's address and these TLSA records of it.
fn zone(host: &Host, tlsa: &[String], port: u16) -> String {
    let [a, b, c, d] = host.ip;
    let mut records = format!("@ IN MX 10 mx\nmx IN A {a}.{b}.{c}.{d}\n");
    for record in tlsa {
        let _ = writeln!(records, "_{port}._tcp.mx IN TLSA {record}");
    }
    records
}

fn settings(unbound: &Unbound, port: u16, trusted: bool) -> String {
    format!(
        "dns = {{ servers = [\"{}\"], trusted = {trusted} }}\ndelivery.port = {port}\n",
        unbound.address
    )
}

pub(crate) fn by_what_dnssec_says() {
    if !need(NEEDS) || !need(&["openssl"]) {
        return;
    }
    let dir = scratch();
    let authority = Authority::new();
    let issue = |name: &str| authority.issue(&[&*format!("mx.{name}.test")]);
    let expired = authority.issue_valid(&["elsewhere.test"], Valid::Over);
    let names = [
        "leafkey",
        "leafcert",
        "full",
        "sha512",
        "anchor",
        "anchorname",
        "rollover",
        "wrong",
        "gone",
        "unusable",
        "notls",
        "alias",
        "version1",
        "version12",
        "insecure",
        "bogus",
        "norecord",
    ];
    let list = names
        .iter()
        .map(|name| {
            let issued = match *name {
                "notls" => None,
                // Neither date nor name count where the leaf itself is named (RFC 7671 5.1).
                "leafkey" => Some(expired.clone()),
                "version1" | "version12" => Some(version1(dir.path())),
                "anchorname" => Some(authority.issue(&["mx.elsewhere.test"])),
                name => Some(issue(name)),
            };
            (*name, issued, false)
        })
        .collect();
    let (hosts, port) = hosts(list);
    let at = |name: &str| {
        hosts
            .iter()
            .find(|h| h.name == name)
            .expect("a host of that name")
    };
    let certificate = |name: &str| at(name).issued.as_ref().expect("it has a certificate");
    let other = Authority::new().issue(&["mx.other.test"]);
    let key = |name: &str, digest| key_hash(dir.path(), certificate(name), digest);
    let wrong = format!("3 1 1 {}", key_hash(dir.path(), &other, "sha256"));
    let anchor = whole(&certificate("anchor").chain_der()[1]).1;
    let tlsa = |name: &str| -> Vec<String> {
        match name {
            "leafkey" | "insecure" | "bogus" | "version1" | "version12" => {
                vec![format!("3 1 1 {}", key(name, "sha256"))]
            }
            "leafcert" => vec![format!(
                "3 0 1 {}",
                whole(&certificate(name).chain_der()[0]).1
            )],
            "full" => vec![format!(
                "3 0 0 {}",
                whole(&certificate(name).chain_der()[0]).0
            )],
            "sha512" => vec![format!("3 1 2 {}", key(name, "sha512"))],
            "anchor" | "anchorname" => vec![format!("2 0 1 {anchor}")],
            // The old key and the new one.
            "rollover" => vec![wrong.clone(), format!("3 1 1 {}", key(name, "sha256"))],
            "wrong" | "notls" => vec![wrong.clone()],
            // Usages of the web's authorities, and an unknown matching type.
            "unusable" => vec![format!("1 1 1 {anchor}"), format!("3 1 7 {anchor}")],
            _ => Vec::new(),
        }
    };
    let zones: Vec<Zone<'_>> = hosts
        .iter()
        .map(|host| {
            let mut records = zone(host, &tlsa(host.name), port);
            if host.name == "alias" {
                // The name of the MX is an alias; records are where its addresses are.
                let [a, b, c, d] = host.ip;
                records = format!(
                    "@ IN MX 10 mx\nmx IN CNAME real\nreal IN A {a}.{b}.{c}.{d}\n_{port}._tcp.real IN TLSA 3 1 1 {}\n",
                    key("alias", "sha256")
                );
            }
            let forged = (host.name == "bogus").then(|| {
                let true_one = key("bogus", "sha256");
                let forged = key_hash(dir.path(), &other, "sha256");
                (true_one, forged)
            });
            Zone {
                name: Box::leak(format!("{}.test", host.name).into_boxed_str()),
                records,
                signed: host.name != "insecure",
                forged,
            }
        })
        .collect();
    let unbound = Unbound::start(dir.path(), &zones);
    // Whether DNSSEC is believed, and whom each host then is taken for: `None` is nobody.
    for trusted in [true, false] {
        let server = Server::start(&settings(&unbound, port, trusted));
        let ids: Vec<String> = hosts
            .iter()
            .map(|h| {
                let to = [format!("<you@{}.test>", h.name)];
                submit(server.address, "<me@sender.test>", &to, &small("dane"))
            })
            .collect();
        for (host, id) in hosts.iter().zip(&ids) {
            let event = server.fate(id);
            let what = format!("{}, trusted {trusted}: {event:#}", host.name);
            let expected = match (host.name, trusted) {
                ("notls", false) => Some((false, "")),
                // A resolver that validates answers no lie, whether it is believed or not; without DANE
                // nobody asks for it.
                (_, false) | ("insecure" | "norecord" | "gone" | "unusable", true) => {
                    Some((true, ""))
                }
                ("wrong" | "notls" | "anchorname" | "bogus", true) => None,
                _ => Some((true, "dane")),
            };
            match expected {
                Some((encrypted, verified)) => {
                    assert_eq!(event["kind"], "delivered", "{what}");
                    assert_eq!(event["tls"].is_object(), encrypted, "{what}");
                    assert_eq!(
                        event["tls"]["verified"].as_str().unwrap_or_default(),
                        verified,
                        "{what}"
                    );
                }
                None => {
                    assert_eq!(event["kind"], "deferred", "{what}");
                    let failed = server.wait_event("tls-failed", |e| {
                        e["peer_host"] == format!("mx.{}.test", host.name)
                    });
                    let (result, words) = match host.name {
                        "bogus" => ("dnssec-invalid", "TLSA records can't be found out"),
                        "notls" => ("starttls-not-supported", "doesn't offer STARTTLS"),
                        "anchorname" => (
                            "certificate-host-mismatch",
                            "is for mx.elsewhere.test, and should be for mx.anchorname.test",
                        ),
                        _ => (
                            "validation-failure",
                            "no TLSA record is about a certificate of the host",
                        ),
                    };
                    assert_eq!(failed["result"], result, "{failed:#}");
                    assert_eq!(failed["plaintext"], false, "{failed:#}");
                    assert!(
                        failed["cause"].as_str().is_some_and(|c| c.contains(words)),
                        "{failed:#}"
                    );
                    assert!(event.to_string().contains(words), "{what}");
                }
            }
        }
        // A probe finds the same, without mail.
        if trusted {
            for name in ["alias", "version1", "version12", "leafkey"] {
                let config = server.config().display().to_string();
                let domain = format!("{name}.test");
                let out = run(&["tls", "probe", &domain, "--config", &config, "--json"]);
                let said: Value = serde_json::from_slice(&out.stdout).expect("JSON");
                assert_eq!(said["hosts"][0]["dane"], "valid", "{name}: {said:#}");
                assert!(out.status.success(), "{name}: {said:#}");
            }
        }
        let strict = ["wrong", "notls", "anchorname", "bogus"];
        for host in &hosts {
            let expected = if strict.contains(&host.name) {
                usize::from(!trusted)
            } else {
                1 + usize::from(!trusted)
            };
            assert_eq!(host.receiver.count(), expected, "{}", host.name);
        }
    }
}

/// Two domains have their mail at the same host. DNSSEC vouches for one of them; the other one's mail
/// must not take that away from it.
pub(crate) fn signed_and_unsigned_at_one_host() {
    if !need(NEEDS) || !need(&["openssl"]) {
        return;
    }
    let dir = scratch();
    let issued = Authority::new().issue(&["mx.signed.test"]);
    let (hosts, port) = hosts(vec![("signed", Some(issued), false)]);
    let other = Authority::new().issue(&["mx.other.test"]);
    let wrong = format!("3 1 1 {}", key_hash(dir.path(), &other, "sha256"));
    let zones = [
        Zone {
            name: "signed.test",
            records: zone(&hosts[0], &[wrong], port),
            signed: true,
            forged: None,
        },
        Zone {
            name: "unsigned.test",
            records: "@ IN MX 10 mx.signed.test.\n".to_owned(),
            signed: false,
            forged: None,
        },
    ];
    let unbound = Unbound::start(dir.path(), &zones);
    for first in ["signed", "unsigned"] {
        let server = Server::start(&format!(
            "{}delivery.dead_host.first = \"1s\"\n",
            settings(&unbound, port, true)
        ));
        let second = if first == "signed" {
            "unsigned"
        } else {
            "signed"
        };
        for domain in [first, second, first, second] {
            let to = [format!("<you@{domain}.test>")];
            let id = submit(server.address, "<me@sender.test>", &to, &small("mixed"));
            let event = server.fate(&id);
            let kind = if domain == "signed" {
                "deferred"
            } else {
                "delivered"
            };
            assert_eq!(event["kind"], kind, "{domain}, {first} first: {event:#}");
        }
    }
    assert_eq!(hosts[0].receiver.count(), 4);
}

pub(crate) fn requiretls_and_its_opposite() {
    if !need(NEEDS) || !need(&["openssl"]) {
        return;
    }
    let dir = scratch();
    let authority = Authority::new();
    let issue = |name: &str| Some(authority.issue(&[&*format!("mx.{name}.test")]));
    let strange = Authority::new().issue(&["mx.wrong.test"]);
    let list = vec![
        ("ready", issue("ready"), true),
        ("unready", issue("unready"), false),
        ("insecure", issue("insecure"), true),
        ("wrong", Some(strange), true),
        ("sender", issue("sender"), true),
    ];
    let (hosts, port) = hosts(list);
    let at = |name: &str| {
        hosts
            .iter()
            .find(|h| h.name == name)
            .expect("a host of that name")
    };
    let other = Authority::new().issue(&["mx.other.test"]);
    let mut zones: Vec<Zone<'_>> = hosts
        .iter()
        .map(|host| {
            let hash = match host.name {
                "wrong" => key_hash(dir.path(), &other, "sha256"),
                _ => key_hash(
                    dir.path(),
                    host.issued.as_ref().expect("a certificate"),
                    "sha256",
                ),
            };
            Zone {
                name: Box::leak(format!("{}.test", host.name).into_boxed_str()),
                records: zone(host, &[format!("3 1 1 {hash}")], port),
                signed: host.name != "insecure",
                forged: None,
            }
        })
        .collect();
    // The first host doesn't offer it, and the second does.
    let mut records = String::new();
    for (mx, host) in [("mx1", at("unready")), ("mx2", at("ready"))] {
        let issued = host.issued.as_ref().expect("a certificate");
        let hash = key_hash(dir.path(), issued, "sha256");
        let [a, b, c, d] = host.ip;
        let _ = write!(
            records,
            "@ IN MX {} {mx}\n{mx} IN A {a}.{b}.{c}.{d}\n_{port}._tcp.{mx} IN TLSA 3 1 1 {hash}\n",
            if mx == "mx1" { 10 } else { 20 },
        );
    }
    zones.push(Zone {
        name: "both.test",
        records,
        signed: true,
        forged: None,
    });
    let unbound = Unbound::start(dir.path(), &zones);
    let here = authority.issue(&["courser.test"]);
    let server = Server::start(&format!(
        "{}delivery.dead_host.first = \"1s\"\ntls.certificate = [{}]\n",
        settings(&unbound, port, true),
        here.toml(dir.path(), "here")
    ));
    // It is offered within TLS only.
    let mut client = Client::hello(server.address);
    client
        .command("MAIL FROM:<me@sender.test> REQUIRETLS")
        .expect_code("555");
    let mut client = client.start_tls(authority.client(None), "courser.test");
    let mut send = |to: &str, parameter: &str, header: &str| {
        let body = [header.as_bytes(), &small("required")].concat();
        client.submit(
            &format!("<me@sender.test>{parameter}"),
            &[format!("<you@{to}.test>")],
            &body,
        )
    };
    for (to, kind, words) in [
        ("ready", "delivered", ""),
        ("unready", "bounced", "REQUIRETLS"),
        ("both", "delivered", "mx2.both.test"),
        ("insecure", "bounced", "neither DNSSEC nor MTA-STS vouches"),
        ("wrong", "deferred", "no TLSA record is about"),
    ] {
        let id = send(to, " REQUIRETLS", "");
        let event = server.fate(&id);
        assert!(
            event["kind"] == kind && event.to_string().contains(words),
            "{to}: {event:#}"
        );
    }
    for mail in at("ready").receiver.wait(2) {
        assert!(
            mail.tls && mail.mail.contains(" REQUIRETLS"),
            "{}",
            mail.mail
        );
    }
    assert_eq!(at("unready").receiver.count(), 0);
    assert_eq!(at("insecure").receiver.count(), 0);
    // What is sent back asks for the same, and has no more than the header.
    let notices = at("sender").receiver.wait(2);
    for notice in notices {
        assert!(
            notice.tls && notice.mail.contains(" REQUIRETLS"),
            "{}",
            notice.mail
        );
        assert!(
            !notice.text().contains("\r\n\r\nHello.\r\n"),
            "{}",
            notice.text()
        );
    }
    // Whoever would rather have it arrive gets that; with REQUIRETLS the field says nothing.
    let id = send("wrong", "", "TLS-Required: No\r\n");
    let event = server.fate(&id);
    assert!(
        event["kind"] == "delivered" && event["tls"]["verified"].is_null(),
        "{event:#}"
    );
    let id = send("wrong", " REQUIRETLS", "TLS-Required: No\r\n");
    assert_eq!(server.fate(&id)["kind"], "deferred");
    let mails = at("wrong").receiver.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].text().contains("TLS-Required: No"));
}
