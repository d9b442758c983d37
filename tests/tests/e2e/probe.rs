//! `courser tls probe`: it says what then happens to mail.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use courser_tests::client::{small, submit};
use courser_tests::dns::Nsd;
use courser_tests::need::need;
use courser_tests::need_root;
use courser_tests::receiver::{Answer, Receiver};
use courser_tests::server::{Server, run, scratch, smart_host};
use courser_tests::tls::Authority;
use serde_json::Value;

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&[&*out.stdout, &*out.stderr].concat()).into_owned()
}

fn probe(server: &Server, target: &str, more: &[&str]) -> Output {
    let config = server.config().display().to_string();
    let words = ["tls", "probe", target, "--config", &config, "--wait", "2"];
    run(&[&words[..], more].concat())
}

/// What it says to a program, and whether it is content.
fn report(server: &Server, target: &str, more: &[&str]) -> (Value, bool) {
    let out = probe(server, target, &[&["--json"], more].concat());
    let report = serde_json::from_slice(&out.stdout);
    let report = report.unwrap_or_else(|e| panic!("{e}: {}", text(&out)));
    (report, out.status.success())
}

/// What really happens to mail.
fn fate(server: &Server) -> Value {
    let to = ["<you@dest.test>".to_owned()];
    let id = submit(server.address, "<me@sender.test>", &to, &small("real"));
    server.fate(&id)
}

fn says(value: &Value, words: &str) -> bool {
    value.as_str().is_some_and(|said| said.contains(words))
}

pub(crate) fn tls_from_the_first_byte() {
    let dir = scratch();
    let authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1", "127.0.3.1", "courser.test"]);
    let receiver = Receiver::friendly();
    // The port says it where no route does.
    let by_port = need_root().then(|| SocketAddr::from(([127, 0, 3, 1], 465)));
    let listener = by_port.map_or(String::new(), |at| {
        format!("[[listener]]\nname = \"port\"\naddress = [\"{at}\"]\ntls = \"implicit\"\n")
    });
    let relay = Server::start(&format!(
        "tls.certificate = [{}]\n{}[[listener]]\ntls = \"implicit\"\n{listener}",
        issued.toml(dir.path(), "relay"),
        smart_host(receiver.address)
    ));
    let tls = format!("ca_file = \"{}\"", authority.write(dir.path()).display());
    let server = Server::start(&format!(
        "tls = {{ {tls}, level = \"verified\" }}\n{}implicit_tls = true\n",
        smart_host(relay.address)
    ));
    // By the domain, and by the host, which the route knows.
    for target in ["dest.test".to_owned(), relay.address.to_string()] {
        let target = target.replace("127.0.0.1", "[127.0.0.1]");
        let (report, content) = report(&server, &target, &[]);
        let host = &report["hosts"][0];
        assert!(content && host["delivers"] == true, "{report:#}");
        assert!(
            says(&host["verdict"], "verified by an authority"),
            "{report:#}"
        );
        assert_eq!(host["starttls"], false, "{report:#}");
        assert_eq!(report["implicit_tls"], true, "{report:#}");
        assert_eq!(report["route"], "*", "{report:#}");
    }
    assert_eq!(fate(&server)["tls"]["verified"], "authorities");
    if let Some(at) = by_port {
        let target = format!("[{}]:465", at.ip());
        let (report, content) = report(&server, &target, &[]);
        assert!(content && report["implicit_tls"] == true, "{report:#}");
        assert!(
            says(&report["sources"][0]["verdict"], "verified by an authority"),
            "{report:#}"
        );
        let said = text(&probe(&server, &target, &[]));
        assert!(
            said.contains("TLS from the first byte, because of its port"),
            "{said}"
        );
    }
    // Whoever speaks first doesn't speak that.
    let plain = Receiver::friendly();
    let server = Server::start(&format!(
        "tls = {{ {tls} }}\ndelivery.timeouts.ehlo = \"1s\"\n{}implicit_tls = true\n",
        smart_host(plain.address)
    ));
    let (report, content) = report(&server, "dest.test", &[]);
    assert!(!content, "{report:#}");
    assert!(
        says(&report["sources"][0]["verdict"], "deferred: ")
            && says(&report["hosts"][0]["verdict"], "not TLS"),
        "{report:#}"
    );
    assert_eq!(fate(&server)["kind"], "deferred");
    assert_eq!(plain.count_of("EHLO"), 0);
}

pub(crate) fn a_route_by_lmtp() {
    let receiver = Receiver::start_lmtp(|line| match line {
        line if line.starts_with("EHLO") => Answer::say("500 5.5.1 LHLO it is"),
        _ => Answer::Usual,
    });
    let server = Server::start(&format!("{}lmtp = true\n", smart_host(receiver.address)));
    let (report, content) = report(&server, "dest.test", &[]);
    assert!(content && report["lmtp"] == true, "{report:#}");
    assert!(
        says(
            &report["sources"][0]["verdict"],
            "in plaintext: it offers no STARTTLS"
        ),
        "{report:#}"
    );
    assert_eq!(
        (
            receiver.count_of("LHLO courser.test"),
            receiver.count_of("EHLO")
        ),
        (1, 0)
    );
    assert_eq!(receiver.count_of("MAIL"), 0);
    let said = text(&probe(&server, "dest.test", &[]));
    assert!(said.contains("by the route for *: LMTP"), "{said}");
    assert_eq!(fate(&server)["kind"], "delivered");
}

pub(crate) fn sources_and_streams_that_ask_for_tls() {
    let receiver = Receiver::friendly();
    let route = smart_host(receiver.address);
    // Its only source wants what the host doesn't have.
    let server = Server::start(&format!(
        "{route}[[source]]\nname = \"s\"\ntls = \"required\"\n"
    ));
    let (one, content) = report(&server, "dest.test", &[]);
    assert!(!content, "{one:#}");
    assert_eq!(
        (&one["level"], &one["asked_by"]),
        (&"required".into(), &"source s".into()),
        "{one:#}"
    );
    assert!(
        says(
            &one["sources"][0]["verdict"],
            "deferred: [127.0.0.1]: it offers no STARTTLS, and TLS is required"
        ),
        "{one:#}"
    );
    let said = text(&probe(&server, "dest.test", &[]));
    assert!(
        said.contains("TLS is required here (source s)") && said.contains("deferred: "),
        "{said}"
    );
    let event = fate(&server);
    assert_eq!(event["kind"], "deferred", "{event:#}");

    // Of two sources one does: a line for each.
    let server = Server::prepare(
        server.dir(),
        &format!(
            "{route}[[source]]\nname = \"a\"\n[[source]]\nname = \"b\"\ntls = \"required\"\n\
             [[pool]]\nname = \"both\"\nmembers = [{{ source = \"a\" }}, {{ source = \"b\" }}]\n\
             [[pool]]\nname = \"easy\"\nmembers = [{{ source = \"a\" }}]\n\
             [[stream]]\n[[stream]]\nname = \"news\"\npool = \"easy\"\n\
             [[stream]]\nname = \"safe\"\npool = \"easy\"\ntls = \"verified\"\n"
        ),
    );
    let (two, content) = report(&server, "dest.test", &[]);
    assert!(!content, "{two:#}");
    let delivers = [
        &two["sources"][0]["delivers"],
        &two["sources"][1]["delivers"],
    ];
    assert_eq!(
        delivers,
        [&Value::Bool(true), &Value::Bool(false)],
        "{two:#}"
    );
    // The host is shown as the strictest finds it.
    assert_eq!(two["level"], "required", "{two:#}");
    assert_eq!(two["hosts"][0]["delivers"], false, "{two:#}");
    let said = text(&probe(&server, "dest.test", &[]));
    for words in [
        "from source a: delivered to [127.0.0.1]: in plaintext: it offers no STARTTLS",
        "from source b: deferred: [127.0.0.1]: it offers no STARTTLS, and TLS is required",
        "would get mail from b",
        "not looked at: mail of stream news, for which TLS is opportunistic",
        "not looked at: mail of stream safe, for which TLS is verified",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // A stream has its own level, and its pool's sources.
    for (stream, level, asked_by, delivers) in [
        ("default", "required", "source b", false),
        ("news", "opportunistic", "tls.level", true),
        ("safe", "verified", "stream safe", false),
    ] {
        let (report, content) = report(&server, "dest.test", &["--stream", stream]);
        assert_eq!(content, delivers, "{report:#}");
        assert_eq!(report["stream"], stream, "{report:#}");
        assert_eq!(
            (&report["level"], &report["asked_by"]),
            (&level.into(), &asked_by.into()),
            "{report:#}"
        );
        let sources = report["sources"].as_array().map(Vec::len);
        assert_eq!(sources, Some(if stream == "default" { 2 } else { 1 }));
        assert_eq!(report["streams"], Value::Array(Vec::new()), "{report:#}");
    }
    let said = text(&probe(&server, "dest.test", &["--stream", "none"]));
    assert!(
        said.contains("there is no stream \"none\"; there are default, news, safe"),
        "{said}"
    );
    assert_eq!(receiver.count_of("MAIL"), 0);
}

pub(crate) fn domains_that_lead_nowhere() {
    if !need(&["nsd"]) {
        return;
    }
    let dir = scratch();
    let nsd = Nsd::start(dir.path(), &[("null.test", "@ IN MX 0 .\n")]);
    let dns = nsd.address;
    for (dns, domain, word) in [
        (dns.to_string(), "null.test", "bounced"),
        ("127.0.0.1:9".to_owned(), "silent.test", "deferred"),
    ] {
        let server = Server::start(&format!("dns = {{ servers = [\"{dns}\"] }}\n"));
        let (report, content) = report(&server, domain, &[]);
        assert!(!content && report["error"].is_string(), "{report:#}");
        assert_eq!(report["bounces"] == true, word == "bounced", "{report:#}");
        let said = text(&probe(&server, domain, &[]));
        let words = format!("{domain}:\n  mail: {word}: ");
        assert!(said.contains(&words), "{said}");
        let to = [format!("<you@{domain}>")];
        let id = submit(server.address, "<me@sender.test>", &to, &small("real"));
        assert_eq!(server.fate(&id)["kind"], word);
    }
}

pub(crate) fn a_password_stays_here_without_tls() {
    let receiver = Receiver::friendly();
    receiver.offer("AUTH PLAIN");
    let dir = scratch();
    let file = dir.path().join("relay.password");
    std::fs::write(&file, "geheim\n").expect("a scratch file");
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a mode");
    let server = Server::start(&format!(
        "{}tls = \"opportunistic\"\n[route.auth]\nuser = \"u\"\npassword_file = \"{}\"\n",
        smart_host(receiver.address),
        file.display()
    ));
    let (report, content) = report(&server, "dest.test", &[]);
    assert!(!content && report["login"] == true, "{report:#}");
    assert!(
        says(&report["sources"][0]["verdict"], "deferred: ")
            && says(&report["hosts"][0]["verdict"], "would go in plaintext"),
        "{report:#}"
    );
    assert_eq!(fate(&server)["kind"], "deferred");
    assert_eq!(receiver.count_of("AUTH"), 0);
}

pub(crate) fn a_stolen_certificate() {
    let dir = scratch();
    let authority = Authority::new();
    let owner = authority.issue(&["127.0.0.1"]);
    let thief = Authority::new().issue(&["127.0.0.1"]);
    let ca = authority.write(dir.path()).display().to_string();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let versions = &[version];
        for stolen in [true, false] {
            let config = match stolen {
                true => owner.server_with_key_of(&thief, versions),
                false => owner.server_of(versions),
            };
            let address = ([127, 0, 0, 1], 0).into();
            let receiver = Receiver::start_tls(address, config, |_| Answer::Usual);
            for level in ["opportunistic", "verified"] {
                let server = Server::start(&format!(
                    "tls = {{ ca_file = \"{ca}\", level = \"{level}\" }}\n{}",
                    smart_host(receiver.address)
                ));
                let (report, content) = report(&server, "dest.test", &[]);
                let host = &report["hosts"][0];
                let what = format!("{stolen}, {level}: {report:#}");
                // Who takes anyone takes a thief.
                let delivers = level == "opportunistic" || !stolen;
                assert_eq!(
                    (content, &host["delivers"]),
                    (delivers, &delivers.into()),
                    "{what}"
                );
                assert_eq!(host["authorities"] == "valid", !stolen, "{what}");
                if stolen {
                    let words = "a certificate whose key it does not have";
                    assert!(says(&host["authorities"], words), "{what}");
                    assert_eq!(says(&host["verdict"], words), !delivers, "{what}");
                }
                assert_eq!(host["chain"].as_array().map(Vec::len), Some(2), "{what}");
                assert_eq!(fate(&server)["kind"] == "delivered", delivers, "{what}");
            }
        }
    }
}
