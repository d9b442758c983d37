//! AUTH: submitters log in, Courser logs in at smart hosts, and secrets stay where they are.

mod guessing;
mod keeping;
mod over_tls;
mod smart_host;

use std::path::{Path, PathBuf};
use std::process::Command;

use base64ct::{Base64, Encoding};
use courser_tests::client::{Client, small};
use courser_tests::eventually;
use courser_tests::need::need;
use courser_tests::receiver::Receiver;
use courser_tests::server::{Server, run, run_with_input, scratch, smart_host, succeeds};
use tempfile::TempDir;

pub(crate) use self::guessing::{
    a_block_of_a_user_spares_where_it_logged_in_from, many_passwords_at_once,
    nobody_learns_who_is_there, wrong_passwords_are_slowed_and_blocked,
};
pub(crate) use self::keeping::{
    secrets_are_nowhere, the_command_line_keeps_users, users_are_read_again,
};
pub(crate) use self::over_tls::{
    gsasl_scram_over_tls, no_login_is_offered_before_tls, openssl_s_client_logs_in,
    python_smtplib_over_tls, scramp_binds_to_the_certificate, swaks_over_tls,
};
pub(crate) use self::smart_host::{
    a_server_that_only_says_yes_gets_nothing, courser_logs_in_at_courser,
    courser_logs_in_at_postfix, mail_waits_where_the_password_would_be_overheard,
    mail_waits_while_the_password_is_refused, over_tls_a_login_is_bound_to_it,
};

const PASSWORD: &str = "correct horse, battery";
/// Umlauts, a fraction, and a comma, in a form that is not the usual one.
const AWKWARD: &str = "pa\u{308}ss\u{bd}, w\u{f6}rd=";

fn b64(text: &str) -> String {
    Base64::encode_string(text.as_bytes())
}

fn plain(user: &str, password: &str) -> String {
    b64(&format!("\0{user}\0{password}"))
}

/// `courser user add`.
fn add(file: &Path, name: &str, password: &str, more: &[&str]) {
    let file = file.display().to_string();
    let mut words = vec!["user", "add", name, "--users", &file];
    if !more.iter().any(|word| word.starts_with("--from")) {
        words.push("--from=*");
    }
    words.extend(more);
    let out = run_with_input(&words, &format!("{password}\n"));
    assert!(
        out.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// SCRAM keys that are made fast: tests log in often.
const SCRAM: [&str; 3] = ["--scram", "--iterations", "4096"];

/// A folder with users: `ann` with SCRAM keys, `jörg` with an awkward password, `bob` of shop.test
/// with an argon2 hash.
fn users() -> (TempDir, PathBuf) {
    let dir = scratch();
    let file = dir.path().join("users.toml");
    add(&file, "ann", PASSWORD, &SCRAM);
    add(&file, "j\u{f6}rg", AWKWARD, &SCRAM);
    let bob = [
        "--from=shop.test",
        "--mail-from=bounces.shop.test,<>",
        "--tenant=shop",
    ];
    add(&file, "bob", PASSWORD, &bob);
    (dir, file)
}

/// The configuration of a server whose users are in `file`, and that relays for nobody else.
fn submission(file: &Path, auth: &str, more: &str) -> String {
    format!(
        "[[listener]]\nrelay_networks = [\"192.0.2.1\"]\n\
         auth = {{ users = \"{}\", without_tls = true{auth} }}\n\
         [logins]\ndelay = \"0s\"\ndelay_max = \"0s\"\n{more}",
        file.display()
    )
}

/// One of these and where its mail goes; `more` goes on with `[logins]`.
fn server(file: &Path, more: &str) -> (Receiver, Server) {
    let receiver = Receiver::friendly();
    let more = format!("{more}{}", smart_host(receiver.address));
    let all = ", mechanisms = [\"PLAIN\", \"LOGIN\", \"SCRAM-SHA-256\"]";
    let server = Server::start(&submission(file, all, &more));
    (receiver, server)
}

pub(crate) fn swaks_plain_and_login() {
    if !need(&["swaks"]) {
        return;
    }
    let (_dir, file) = users();
    let (receiver, server) = server(&file, "");
    let swaks = |mechanism: &str, user: &str, password: &str| {
        let mut command = Command::new("swaks");
        command
            .args([
                "--server",
                &server.address.to_string(),
                "--helo",
                "swaks.test",
            ])
            .args(["--from", "a@bounces.shop.test", "--to", "one@dest.test"])
            .args(["--header", "From: a@shop.test", "--auth", mechanism])
            .args(["--auth-user", user, "--auth-password", password]);
        command
    };
    for mechanism in ["PLAIN", "LOGIN"] {
        for user in ["ann", "bob"] {
            succeeds(&mut swaks(mechanism, user, PASSWORD));
        }
        succeeds(&mut swaks(mechanism, "j\u{f6}rg", AWKWARD));
        let out = swaks(mechanism, "ann", "wrong password")
            .output()
            .expect("swaks");
        // Its own code for a failed AUTH.
        assert_eq!(out.status.code(), Some(28), "{out:?}");
    }
    assert_eq!(receiver.wait(6).len(), 6);
    let received = server.wait_events("received", 6, |_| true);
    let who: Vec<&str> = received
        .iter()
        .filter_map(|e| e["client_user"].as_str())
        .collect();
    assert_eq!(who, ["ann", "bob", "j\u{f6}rg", "ann", "bob", "j\u{f6}rg"]);
    assert_eq!(server.wait_events("auth-failed", 2, |_| true).len(), 2);
}

pub(crate) fn python_smtplib_plain_and_login() {
    if !need(&["python3"]) {
        return;
    }
    let (_dir, file) = users();
    let (receiver, server) = server(&file, "");
    let script = format!(
        "import smtplib\n\
         m = b'From: a@shop.test\\r\\nSubject: x\\r\\n\\r\\nhello\\r\\n'\n\
         def session(user, password, how=None):\n\
         \x20   s = smtplib.SMTP('127.0.0.1', {}, local_hostname='python.test')\n\
         \x20   s.ehlo()\n\
         \x20   s.user, s.password = user, password\n\
         \x20   if how is None: s.login(user, password)\n\
         \x20   else: s.auth(how, getattr(s, 'auth_' + how.lower()), initial_response_ok=(how == 'PLAIN'))\n\
         \x20   assert s.sendmail('a@bounces.shop.test', ['one@dest.test'], m) == {{}}\n\
         \x20   s.quit()\n\
         for user in ['ann', 'bob']:\n\
         \x20   for how in [None, 'PLAIN', 'LOGIN']: session(user, {PASSWORD:?}, how)\n\
         try: session('ann', 'wrong password')\n\
         except smtplib.SMTPAuthenticationError as e: assert e.smtp_code == 535, e\n\
         else: raise SystemExit('got in')\n",
        server.address.port(),
    );
    succeeds(Command::new("python3").arg("-c").arg(script));
    assert_eq!(receiver.wait(6).len(), 6);
}

pub(crate) fn msmtp_scram_plain_and_login() {
    if !need(&["msmtp"]) {
        return;
    }
    let (dir, file) = users();
    let (receiver, server) = server(&file, "");
    let msmtp = |mechanism: &str, user: &str, password: &str| {
        let secret = dir.path().join("password");
        std::fs::write(&secret, password).expect("a scratch file");
        let message = dir.path().join("message");
        std::fs::write(&message, "From: a@shop.test\n\nhello\n").expect("a scratch file");
        let mut command = Command::new("msmtp");
        command
            .args([
                "--host=127.0.0.1",
                &format!("--port={}", server.address.port()),
            ])
            .args([
                "--file=/dev/null",
                "--tls=off",
                "--from=a@bounces.shop.test",
            ])
            .args([format!("--auth={mechanism}"), format!("--user={user}")])
            .arg(format!("--passwordeval=cat {}", secret.display()))
            .arg("one@dest.test")
            .stdin(std::fs::File::open(message).expect("a scratch file"));
        command
    };
    for mechanism in ["scram-sha-256", "plain", "login"] {
        succeeds(&mut msmtp(mechanism, "ann", PASSWORD));
        let out = msmtp(mechanism, "ann", "wrong password")
            .output()
            .expect("msmtp");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains("535"), "{said}");
    }
    // GNU SASL prepares it as RFC 4013 says, and so do we.
    succeeds(&mut msmtp("scram-sha-256", "j\u{f6}rg", AWKWARD));
    // Without keys there is no SCRAM, and the operator is told why.
    let out = msmtp("scram-sha-256", "bob", PASSWORD)
        .output()
        .expect("msmtp");
    assert!(!out.status.success());
    assert_eq!(receiver.wait(4).len(), 4);
}

pub(crate) fn gsasl_scram() {
    if !need(&["gsasl"]) {
        return;
    }
    let dir = scratch();
    let file = dir.path().join("users.toml");
    add(&file, "ann", PASSWORD, &["--scram"]);
    add(&file, "a,n=n", AWKWARD, &SCRAM);
    // Where every user has keys, SCRAM is offered without being asked for.
    let server = Server::start(&submission(&file, "", ""));
    let gsasl = |mechanism: &str, user: &str, password: &str| {
        let mut command = Command::new("gsasl");
        command
            .args([
                "--smtp",
                "--no-starttls",
                "--quiet",
                "--mechanism",
                mechanism,
            ])
            .args(["-a", user, "-p", password])
            .arg(format!("--connect={}", server.address))
            .stdin(std::process::Stdio::null())
            .env("LC_ALL", "C.UTF-8");
        command
    };
    for (mechanism, user, password) in [
        ("SCRAM-SHA-256", "ann", PASSWORD),
        ("SCRAM-SHA-256", "a,n=n", AWKWARD),
        ("PLAIN", "ann", PASSWORD),
        ("LOGIN", "ann", PASSWORD),
    ] {
        succeeds(&mut gsasl(mechanism, user, password));
    }
    let out = gsasl("SCRAM-SHA-256", "ann", "wrong password")
        .output()
        .expect("gsasl");
    assert!(!out.status.success());
    let status = server.ask(&["status", "--json"]).swap_remove(0);
    assert_eq!(status["logins"]["good"], 4, "{status:#}");
    assert_eq!(status["logins"]["failed"], 1, "{status:#}");
}

pub(crate) fn keys_of_gsasl_and_hashes_of_argon2() {
    if !need(&["gsasl", "argon2", "sh"]) {
        return;
    }
    let mut made = Command::new("gsasl");
    made.args(["--mkpasswd", "--mechanism", "SCRAM-SHA-256", "--quiet"])
        .args(["--password", PASSWORD, "--iteration-count", "5000"]);
    let keys = String::from_utf8(succeeds(&mut made).stdout).expect("text");
    // {SCRAM-SHA-256}count,salt,stored,server
    let keys = keys
        .trim()
        .strip_prefix("{SCRAM-SHA-256}")
        .expect("its form");
    let keys: Vec<&str> = keys.split(',').collect();
    let [count, salt, stored, server_key] = keys[..] else {
        panic!("{keys:?}")
    };
    let mut made = Command::new("sh");
    made.args([
        "-c",
        "printf %s \"$1\" | argon2 somesalt -id -t 2 -m 12 -e",
        "-",
        PASSWORD,
    ]);
    let hash = String::from_utf8(succeeds(&mut made).stdout).expect("text");
    let dir = scratch();
    let file = dir.path().join("users.toml");
    let text = format!(
        "[[user]]\nname = \"gsasl\"\nhash = \"SCRAM-SHA-256${count}:{salt}${stored}:{server_key}\"\n\
         from = [\"*\"]\n[[user]]\nname = \"argon2\"\nhash = \"{}\"\nfrom = [\"*\"]\n",
        hash.trim()
    );
    std::fs::write(&file, text).expect("a scratch file");
    private(&file);
    let (_receiver, server) = server(&file, "");
    for user in ["gsasl", "argon2"] {
        let mut client = Client::hello(server.address);
        let said = client.command(&format!("AUTH PLAIN {}", plain(user, PASSWORD)));
        said.expect_code("235 2.7.0");
    }
}

fn private(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(file, mode).expect("a file of ours");
}

/// A session that has logged in.
fn logged_in(server: &Server, user: &str) -> Client {
    let mut client = Client::hello(server.address);
    let said = client.command(&format!("AUTH PLAIN {}", plain(user, PASSWORD)));
    said.expect_code("235 2.7.0");
    client
}

/// A message of this author.
fn letter(from: &str) -> Vec<u8> {
    format!("From: {from}\r\nSubject: x\r\n\r\nhello\r\n").into_bytes()
}

pub(crate) fn who_logged_in_relays_and_is_named() {
    let (_dir, file) = users();
    let (receiver, server) = server(&file, "");
    // A stranger may not.
    let mut stranger = Client::hello(server.address);
    stranger
        .command("MAIL FROM:<a@shop.test>")
        .expect_code("250");
    let said = stranger.command("RCPT TO:<one@dest.test>");
    assert_eq!(said, "530 5.7.0 Authentication required to send there");
    let mut bob = logged_in(&server, "bob");
    let tagged = [
        b"X-Courser-Tenant: other\r\nX-Courser-Campaign: spring\r\n".as_slice(),
        &letter("a@shop.test"),
    ];
    // AUTH= is taken and vouches for nobody (RFC 4954 5).
    let mail = "<x@bounces.shop.test> AUTH=ceo@bank.test";
    let id = bob.submit(mail, &["<one@dest.test>"], &tagged.concat());
    let mail = receiver.wait(1).swap_remove(0);
    assert!(!mail.mail.contains("AUTH="), "{}", mail.mail);
    let text = mail.text();
    let head = &text[..text.find("\r\nFrom:").expect("a header")];
    assert!(head.contains("with ESMTPA"), "{head}");
    assert!(!text.contains("X-Courser"), "{text}");
    server.wait_event("delivered", |_| true);
    for event in server.story(&id) {
        assert_eq!(
            (&event["tenant"], &event["campaign"]),
            (&"shop".into(), &"spring".into())
        );
    }
    assert_eq!(server.story(&id)[0]["client_user"], "bob");
    // Once is enough, and it ends with the session.
    let said = bob.command("AUTH PLAIN");
    said.expect_code("503 5.5.1");
    let again = bob.submit("<>", &["<one@dest.test>"], &letter("a@shop.test"));
    server.wait_event("delivered", |e| e["message"] == again.as_str());
    // Whoever logs in elsewhere at the same time is somebody else.
    let mut ann = logged_in(&server, "ann");
    let other = ann.submit(
        "<x@anything.test>",
        &["<one@dest.test>"],
        &letter("me@anything.test"),
    );
    server.wait_event("delivered", |e| e["message"] == other.as_str());
    assert_eq!(server.story(&other)[0]["tenant"], "default");
}

pub(crate) fn only_as_whom_the_file_says() {
    let (_dir, file) = users();
    let (receiver, server) = server(&file, "");
    let mut bob = logged_in(&server, "bob");
    for sender in [
        "<a@shop.test>",
        "<ceo@bank.test>",
        "<a@bounces.shop.test.bank.test>",
    ] {
        let said = bob.command(&format!("MAIL FROM:{sender}")).0;
        assert!(
            said.starts_with("550 5.7.1 you may not send as ") && said.contains("bob"),
            "{said}"
        );
    }
    for (message, words) in [
        (letter("ceo@bank.test"), "you may not send as ceo@bank.test"),
        (letter("\"a@shop.test\" <ceo@bank.test>"), "ceo@bank.test"),
        (letter("a@shop.test, ceo@bank.test"), "ceo@bank.test"),
        (
            letter("a@shop.test\r\nFrom: ceo@bank.test"),
            "several From fields",
        ),
        (b"Subject: x\r\n\r\nhello\r\n".to_vec(), "no From field"),
    ] {
        let said = bob
            .try_submit("<x@bounces.shop.test>", &["<one@dest.test>"], &message)
            .expect("an answer");
        assert!(
            said.starts_with("550 5.7.1 ") && said.contains(words),
            "{said}"
        );
    }
    bob.submit(
        "<x@bounces.shop.test>",
        &["<one@dest.test>"],
        &letter("A <A@Shop.test>"),
    );
    receiver.wait(1);
    assert_eq!(receiver.count(), 1);
    let refused = server.wait_events("refused", 8, |e| e["client_user"] == "bob");
    assert!(refused.iter().all(|e| e["code"] == 550), "{refused:#?}");
}

pub(crate) fn nobody_without_logging_in() {
    let (_dir, file) = users();
    let receiver = Receiver::friendly();
    let config = submission(&file, ", required = true", &smart_host(receiver.address))
        .replace("192.0.2.1", "127.0.0.0/8");
    let server = Server::start(&config);
    let mut client = Client::hello(server.address);
    let said = client.command("MAIL FROM:<a@shop.test>");
    assert_eq!(said, "530 5.7.0 Authentication required");
    let mut bob = logged_in(&server, "bob");
    bob.submit("<>", &["<one@dest.test>"], &letter("a@shop.test"));
    receiver.wait(1);
    // Where nothing is said of TLS, nothing is offered without it.
    let config = config.replace("without_tls = true, ", "");
    let server = Server::start(&config);
    let mut client = Client::open(server.address).expect("a connection");
    client.expect("220");
    let said = client.command("EHLO client.test").0;
    assert!(!said.contains("AUTH"), "{said}");
    let said = client.command(&format!("AUTH PLAIN {}", plain("bob", PASSWORD)));
    assert_eq!(said, "538 5.7.11 Encryption required for AUTH");
}

pub(crate) fn no_more_than_he_may() {
    let (_dir, file) = users();
    add(
        &file,
        "eve",
        PASSWORD,
        &["--messages-per-hour=3", "--messages-per-day=100"],
    );
    let (receiver, server) = server(&file, "");
    let mut eve = logged_in(&server, "eve");
    for _ in 0..3 {
        eve.submit("<a@b.test>", &["<one@dest.test>"], &letter("a@b.test"));
    }
    let said = eve.command("MAIL FROM:<a@b.test>");
    // A third of an hour.
    assert_eq!(
        said,
        "451 4.7.1 You have sent as much as you may, try again in 20 minutes"
    );
    // Over another session as well, and after the file was read again.
    server.ask(&["status", "--json"]);
    assert!(server.courser(&["reload"]).status.success());
    let said = logged_in(&server, "eve").command("MAIL FROM:<a@b.test>");
    said.expect_code("451 4.7.1");
    let mut ann = logged_in(&server, "ann");
    ann.submit("<a@b.test>", &["<one@dest.test>"], &letter("a@b.test"));
    assert_eq!(receiver.wait(4).len(), 4);
}

fn session_to(server: &Server) -> Client {
    Client::hello(server.address)
}
