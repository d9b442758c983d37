//! Courser logs in elsewhere.

use super::*;

use courser_tests::need::{need, sasl_plugin};
use courser_tests::need_root;
use courser_tests::peers::Postfix;
use courser_tests::receiver::{Answer, EXTENSIONS};
use std::net::SocketAddr;

/// A file with a password.
fn password(dir: &Path, text: &str) -> PathBuf {
    let file = dir.join("relay.password");
    std::fs::write(&file, format!("{text}\n")).expect("a scratch file");
    private(&file);
    file
}

/// A route for all mail to `to`, as this user.
fn route(to: SocketAddr, user: &str, file: &Path, more: &str) -> String {
    format!(
        "[[route]]\ndomain = \"*\"\nto = [\"{to}\"]\n\
         auth = {{ user = \"{user}\", password_file = \"{}\"{more} }}\n\
         [[stream]]\nname = \"default\"\n[stream.retry]\nintervals = [\"1s\"]\n\
         [delivery.dead_host]\nfirst = \"1s\"\nmax = \"1s\"\n",
        file.display()
    )
}

fn send(server: &Server) -> String {
    courser_tests::client::submit(
        server.address,
        "<x@bounces.shop.test>",
        &["<one@dest.test>"],
        &letter("a@shop.test"),
    )
}

pub(crate) fn courser_logs_in_at_courser() {
    let (dir, file) = users();
    let (receiver, relay) = server(&file, "");
    let secret = password(dir.path(), PASSWORD);
    for (user, mechanisms, used) in [
        ("ann", "", "SCRAM-SHA-256"),
        ("ann", ", mechanisms = [\"PLAIN\", \"LOGIN\"]", "PLAIN"),
        ("ann", ", mechanisms = [\"LOGIN\"]", "LOGIN"),
        ("bob", ", mechanisms = [\"PLAIN\"]", "PLAIN"),
    ] {
        let more = format!(", without_tls = true{mechanisms}");
        let server = Server::start(&route(relay.address, user, &secret, &more));
        let before = receiver.count();
        for _ in 0..3 {
            send(&server);
        }
        server.wait_empty();
        assert_eq!(receiver.wait(before + 3).len(), before + 3, "{used}");
        let delivered = server.wait_events("delivered", 3, |_| true);
        assert_eq!(delivered.len(), 3, "{used}");
    }
    let received = relay.wait_events("received", 12, |_| true);
    assert_eq!(received.len(), 12);
    assert!(
        received[..9].iter().all(|e| e["client_user"] == "ann"),
        "{received:#?}"
    );
    assert!(received[9..].iter().all(|e| e["client_user"] == "bob"));
    let status = relay.ask(&["status", "--json"]).swap_remove(0);
    assert!(status["logins"]["good"].as_u64() >= Some(4), "{status:#}");
    assert_eq!(status["logins"]["failed"], 0);
    // The awkward one, which both ends have to prepare.
    let secret = password(dir.path(), AWKWARD);
    let server = Server::start(&route(
        relay.address,
        "jo\u{308}rg",
        &secret,
        ", without_tls = true",
    ));
    send(&server);
    relay.wait_event("received", |e| e["client_user"] == "j\u{f6}rg");
}

pub(crate) fn mail_waits_while_the_password_is_refused() {
    let (dir, file) = users();
    let (receiver, relay) = server(
        &file,
        "failures_per_user = 1000\nfailures_per_address = 1000\n",
    );
    let secret = password(dir.path(), "not the password");
    let server = Server::start(&route(
        relay.address,
        "ann",
        &secret,
        ", without_tls = true",
    ));
    let id = send(&server);
    let deferred = server.wait_event("deferred", |e| e["message"] == id.as_str());
    assert_eq!(deferred["code"], 535, "{deferred:#}");
    assert_eq!(
        (&deferred["stage"], &deferred["class"]),
        (&"auth".into(), &"authentication".into())
    );
    assert_eq!(
        (&deferred["scope"], &deferred["permanent"]),
        (&"host".into(), &false.into())
    );
    assert!(deferred["next_attempt"].is_string());
    let status = server.ask(&["status", "--json"]).swap_remove(0);
    let warnings = status["warnings"].to_string();
    assert!(
        warnings.contains("mail for route * waits")
            && warnings.contains("refuses our user and password: 535"),
        "{warnings}"
    );
    assert!(
        server.log().contains("refuses our user and password"),
        "{}",
        server.log()
    );
    assert!(server.events_of("bounced").is_empty());
    assert_eq!(receiver.count(), 0);
    // Put right, it goes.
    password(dir.path(), PASSWORD);
    assert!(server.courser(&["reload"]).status.success());
    server.ask(&["queue", "retry", &id, "--json"]);
    server.wait_event("delivered", |e| e["message"] == id.as_str());
    let status = server.ask(&["status", "--json"]).swap_remove(0);
    assert_eq!(
        status["warnings"].as_array().map(Vec::len),
        Some(0),
        "{status:#}"
    );
    // A file that is no good keeps the old one in force, and keeps a server from starting.
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o604))
        .expect("ours");
    let out = server.courser(&["reload"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        !out.status.success() && said.contains("chmod 600"),
        "{said}"
    );
    let again = send(&server);
    server.wait_event("delivered", |e| e["message"] == again.as_str());
    let out = run(&["check-config", &server.config().display().to_string()]);
    assert_eq!(out.status.code(), Some(3));
}

pub(crate) fn mail_waits_where_the_password_would_be_overheard() {
    let (dir, _) = users();
    let secret = password(dir.path(), PASSWORD);
    let mut offered: Vec<&str> = EXTENSIONS.to_vec();
    offered.push("AUTH PLAIN");
    let receiver = Receiver::start_at(([127, 0, 0, 1], 0).into(), &offered, |_| Answer::Usual);
    let server = Server::start(&route(receiver.address, "ann", &secret, ""));
    let id = send(&server);
    let deferred = server.wait_event("deferred", |e| e["message"] == id.as_str());
    let cause = deferred["cause"].as_str().unwrap_or_default();
    // Where a password goes, TLS is verified unless the route says otherwise.
    assert!(
        cause.contains("doesn't offer STARTTLS, and TLS is verified"),
        "{deferred:#}"
    );
    // And where it offers nothing that we may use.
    let receiver = Receiver::friendly();
    let server = Server::start(&route(
        receiver.address,
        "ann",
        &secret,
        ", without_tls = true",
    ));
    let id = send(&server);
    let deferred = server.wait_event("deferred", |e| e["message"] == id.as_str());
    let cause = deferred["cause"].as_str().unwrap_or_default();
    assert!(cause.contains("offers no mechanism"), "{deferred:#}");
    let status = server.ask(&["status", "--json"]).swap_remove(0);
    assert!(
        status["warnings"]
            .to_string()
            .contains("offers no mechanism"),
        "{status:#}"
    );
    assert_eq!(receiver.count(), 0);
}

/// Postfix with Cyrus SASL and one user, who alone may relay.
fn postfix(dir: &Path) -> Postfix {
    // Where Debian's Postfix looks for it, whatever it is told.
    let sasl = dir.join("postfix/conf/sasl");
    std::fs::create_dir_all(&sasl).expect("a scratch directory");
    let db = sasl.join("sasldb2");
    let conf = format!(
        "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {}\n\
         mech_list: PLAIN LOGIN SCRAM-SHA-256\n",
        db.display()
    );
    std::fs::write(sasl.join("smtpd.conf"), conf).expect("a scratch file");
    let made = std::process::Command::new("sh")
        .args([
            "-c",
            "printf %s \"$1\" | saslpasswd2 -p -c -f \"$2\" -u postfix.test relay",
            "-",
            PASSWORD,
        ])
        .arg(&db)
        .output()
        .expect("saslpasswd2");
    assert!(made.status.success(), "{made:?}");
    let readable: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&db, readable).expect("ours");
    let settings = format!(
        "smtpd_sasl_auth_enable = yes\nsmtpd_sasl_path = smtpd\ncyrus_sasl_config_path = {}\n\
         smtpd_sasl_local_domain = postfix.test\nsmtpd_sasl_security_options = noanonymous\n\
         smtpd_sasl_authenticated_header = yes\n\
         smtpd_recipient_restrictions = permit_sasl_authenticated, reject\n",
        sasl.display()
    );
    Postfix::start(dir, [127, 0, 0, 1].into(), &settings)
}

pub(crate) fn courser_logs_in_at_postfix() {
    if !need(&["postfix", "saslpasswd2"]) || !need_root() {
        return;
    }
    if !sasl_plugin("libscram.so", "libsasl2-modules")
        || !sasl_plugin("libsasldb.so", "libsasl2-modules-db")
    {
        return;
    }
    let dir = scratch();
    let postfix = postfix(dir.path());
    let secret = password(dir.path(), PASSWORD);
    for (sent, mechanism) in (1..).zip(["SCRAM-SHA-256", "PLAIN", "LOGIN"]) {
        let more = format!(", without_tls = true, mechanisms = [\"{mechanism}\"]");
        let server = Server::start(&route(postfix.address, "relay", &secret, &more));
        courser_tests::client::submit(
            server.address,
            "<sender@sender.test>",
            &["<one@postfix.test>"],
            &small(mechanism),
        );
        server.wait_empty();
        let there = eventually(20, || (postfix.mailbox().len() == sent).then_some(()));
        assert!(
            there.is_some(),
            "{mechanism}:\n{}\n{}",
            postfix.log(),
            server.log()
        );
        let word = format!("sasl_method={mechanism}, sasl_username=relay");
        assert!(
            postfix.log().contains(&word),
            "{word} in\n{}",
            postfix.log()
        );
    }
    // The wrong password bounces nothing.
    let secret = password(dir.path(), "not the password");
    let server = Server::start(&route(
        postfix.address,
        "relay",
        &secret,
        ", without_tls = true",
    ));
    let id = send(&server);
    let deferred = server.wait_event("deferred", |e| e["message"] == id.as_str());
    assert_eq!(
        (&deferred["code"], &deferred["stage"]),
        (&535.into(), &"auth".into()),
        "{deferred:#}"
    );
    assert!(server.events_of("bounced").is_empty());
}

pub(crate) fn a_server_that_only_says_yes_gets_nothing() {
    let dir = scratch();
    let secret = password(dir.path(), PASSWORD);
    let mut offered: Vec<&str> = EXTENSIONS.to_vec();
    offered.push("AUTH SCRAM-SHA-256");
    let receiver = Receiver::start_at(([127, 0, 0, 1], 0).into(), &offered, |line| match line {
        l if l.starts_with("AUTH ") => Answer::say("235 2.7.0 Whatever you say"),
        _ => Answer::Usual,
    });
    let more = ", without_tls = true";
    let server = Server::start(&route(receiver.address, "ann", &secret, more));
    let id = send(&server);
    let deferred = server.wait_event("deferred", |e| e["message"] == id.as_str());
    let cause = deferred["cause"].as_str().unwrap_or_default();
    assert!(cause.contains("doesn't know the password"), "{deferred:#}");
    assert_eq!(receiver.count(), 0);
}

pub(crate) fn over_tls_a_login_is_bound_to_it() {
    let (dir, file) = users();
    let authority = courser_tests::tls::Authority::new();
    let issued = authority.issue(&["127.0.0.1", "courser.test"]);
    let receiver = Receiver::friendly();
    // Nothing else will do.
    let relay = Server::start(&format!(
        "tls.certificate = [{}]\n{}",
        issued.toml(dir.path(), "relay"),
        submission(
            &file,
            ", mechanisms = [\"SCRAM-SHA-256-PLUS\"]",
            &courser_tests::server::smart_host(receiver.address)
        )
    ));
    let secret = password(dir.path(), PASSWORD);
    let server = Server::start(&format!(
        "tls.ca_file = \"{}\"\n{}",
        authority.write(dir.path()).display(),
        route(relay.address, "ann", &secret, "")
    ));
    send(&server);
    let mails = receiver.wait(1);
    assert!(
        mails[0].text().contains("with ESMTPSA"),
        "{}",
        mails[0].text()
    );
    let received = relay.wait_event("received", |_| true);
    assert_eq!(received["client_user"], "ann", "{received:#}");
    assert_eq!(received["client_tls"]["version"], "TLSv1.3", "{received:#}");
}
