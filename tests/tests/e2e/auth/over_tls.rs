//! Other people's clients log in over TLS, behind STARTTLS and where TLS comes first.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::*;

use courser_tests::net::free_port;
use courser_tests::tls::Authority;

/// A server that takes logins over TLS only, and its certificate's authority.
struct World {
    server: Server,
    receiver: Receiver,
    /// Where TLS comes first.
    implicit: u16,
    /// The file of the authority.
    ca: String,
    authority: Authority,
    _dir: TempDir,
}

fn world() -> World {
    let (dir, file) = users();
    let authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1", "localhost", "courser.test"]);
    let receiver = Receiver::friendly();
    let implicit = free_port();
    let auth = format!(
        "relay_networks = [\"192.0.2.1\"]\nauth = {{ users = \"{}\"{ALL} }}\n",
        file.display()
    );
    let server = Server::start(&format!(
        "tls.certificate = [{}]\n{}[[listener]]\n{auth}\
         [[listener]]\nname = \"implicit\"\naddress = [\"127.0.0.1:{implicit}\"]\ntls = \"implicit\"\n{auth}\
         [logins]\ndelay = \"0s\"\ndelay_max = \"0s\"\n",
        issued.toml(dir.path(), "courser"),
        smart_host(receiver.address),
    ));
    let ca = authority.write(dir.path()).display().to_string();
    World {
        server,
        receiver,
        implicit,
        ca,
        authority,
        _dir: dir,
    }
}

const ALL: &str =
    ", mechanisms = [\"PLAIN\", \"LOGIN\", \"SCRAM-SHA-256\", \"SCRAM-SHA-256-PLUS\"]";

impl World {
    /// So many messages came, all of this user and over TLS.
    fn all_of(&self, user: &str, count: usize) {
        for mail in self.receiver.wait(count) {
            let text = mail.text();
            assert!(text.contains(" with ESMTPSA id "), "{text}");
        }
        let received = self.server.wait_events("received", count, |_| true);
        assert_eq!(received.len(), count, "{received:#?}");
        for event in received {
            assert_eq!(event["client_user"], user, "{event:#}");
            assert!(event["client_tls"]["cipher"].is_string(), "{event:#}");
        }
    }

    fn logins(&self, what: &str) -> u64 {
        let status = self.server.ask(&["status", "--json"]).swap_remove(0);
        status["logins"][what].as_u64().unwrap_or_default()
    }
}

pub(crate) fn no_login_is_offered_before_tls() {
    let w = world();
    let mut client = Client::open(w.server.address).expect("a connection");
    client.expect("220");
    for hello in ["EHLO client.test", "EHLO again.test"] {
        let said = client.command(hello).0;
        assert!(
            said.contains("250-STARTTLS") && !said.contains("AUTH"),
            "{said}"
        );
    }
    // Whoever sends a password all the same is told so before it is looked at.
    for command in [
        format!("AUTH PLAIN {}", plain("ann", PASSWORD)),
        "AUTH LOGIN".to_owned(),
        "AUTH SCRAM-SHA-256".to_owned(),
        "AUTH SCRAM-SHA-256-PLUS".to_owned(),
    ] {
        let said = client.command(&command);
        assert_eq!(said, "538 5.7.11 Encryption required for AUTH", "{command}");
    }
    let said = client.command("RCPT TO:<one@dest.test>");
    said.expect_code("503");
    let trusting = w.authority.client(None);
    client.command("STARTTLS").expect_code("220");
    let mut client = client.secure(trusting, "courser.test").expect("TLS");
    let said = client.command("EHLO client.test").0;
    let offer = "AUTH PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS";
    assert!(said.contains(offer), "{said}");
    let said = client.command(&format!("AUTH PLAIN {}", plain("ann", PASSWORD)));
    said.expect_code("235 2.7.0");
    assert_eq!((w.logins("good"), w.logins("failed")), (1, 0));
}

pub(crate) fn swaks_over_tls() {
    if !need(&["swaks"]) {
        return;
    }
    let w = world();
    let swaks = |port: u16, tls: &[&str], mechanism: &str, password: &str| {
        let mut command = Command::new("swaks");
        command
            .args(["--server", &format!("127.0.0.1:{port}")])
            .args(["--helo", "swaks.test", "--timeout", "20"])
            .args(["--from", "a@sender.test", "--to", "one@dest.test"])
            .args(["--header", "From: a@sender.test", "--auth", mechanism])
            .args(["--auth-user", "ann", "--auth-password", password])
            .args(tls);
        command
    };
    let verified = |how| [how, "--tls-verify", "--tls-ca-path", w.ca.as_str()];
    let port = w.server.address.port();
    let mut sent = 0;
    for mechanism in ["PLAIN", "LOGIN"] {
        for (port, tls) in [
            (port, verified("--tls")),
            (w.implicit, verified("--tls-on-connect")),
        ] {
            succeeds(&mut swaks(port, &tls, mechanism, PASSWORD));
            sent += 1;
            let out = swaks(port, &tls, mechanism, "wrong password")
                .output()
                .expect("swaks");
            // Its own code for a failed AUTH.
            assert_eq!(out.status.code(), Some(28), "{out:?}");
        }
        // Without TLS it finds nothing to log in with.
        let out = swaks(port, &[], mechanism, PASSWORD)
            .output()
            .expect("swaks");
        assert_eq!(out.status.code(), Some(28), "{out:?}");
    }
    w.all_of("ann", sent);
    assert_eq!((w.logins("good"), w.logins("failed")), (4, 4));
}

pub(crate) fn python_smtplib_over_tls() {
    if !need(&["python3"]) {
        return;
    }
    let w = world();
    let script = format!(
        "import smtplib, ssl\n\
         context = ssl.create_default_context(cafile={:?})\n\
         m = b'From: a@shop.test\\r\\nSubject: x\\r\\n\\r\\nhello\\r\\n'\n\
         def behind_starttls():\n\
         \x20   s = smtplib.SMTP('127.0.0.1', {}, local_hostname='python.test', timeout=20)\n\
         \x20   s.ehlo()\n\
         \x20   assert not s.has_extn('auth'), s.esmtp_features\n\
         \x20   try: s.login('ann', {PASSWORD:?})\n\
         \x20   except smtplib.SMTPNotSupportedError: pass\n\
         \x20   else: raise SystemExit('logged in without TLS')\n\
         \x20   s.starttls(context=context)\n\
         \x20   return s\n\
         def implicit():\n\
         \x20   return smtplib.SMTP_SSL('127.0.0.1', {}, local_hostname='python.test', timeout=20, context=context)\n\
         for session in [behind_starttls, implicit]:\n\
         \x20   for how in [None, 'PLAIN', 'LOGIN']:\n\
         \x20       s = session()\n\
         \x20       s.ehlo()\n\
         \x20       s.user, s.password = 'ann', {PASSWORD:?}\n\
         \x20       if how is None: s.login('ann', {PASSWORD:?})\n\
         \x20       else: s.auth(how, getattr(s, 'auth_' + how.lower()), initial_response_ok=(how == 'PLAIN'))\n\
         \x20       assert s.sendmail('a@bounces.shop.test', ['one@dest.test'], m) == {{}}\n\
         \x20       s.quit()\n\
         \x20   try: session().login('ann', 'wrong password')\n\
         \x20   except smtplib.SMTPAuthenticationError as e: assert e.smtp_code == 535, e\n\
         \x20   else: raise SystemExit('got in')\n",
        w.ca,
        w.server.address.port(),
        w.implicit,
    );
    succeeds(Command::new("python3").arg("-c").arg(script));
    w.all_of("ann", 6);
}

/// `openssl s_client`, to which the test types.
struct Typed {
    child: Child,
    keys: ChildStdin,
    screen: BufReader<ChildStdout>,
}

impl Typed {
    fn start(port: u16, words: &[&str]) -> Self {
        // What never comes is not waited for.
        let mut child = Command::new("timeout")
            .args(["30", "openssl", "s_client", "-connect"])
            .arg(format!("127.0.0.1:{port}"))
            // Quiet also takes their meaning from the letters Q and R.
            .args(["-quiet", "-crlf", "-verify_return_error"])
            .args(["-verify_ip", "127.0.0.1"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl starts");
        let keys = child.stdin.take().expect("a pipe");
        let screen = BufReader::new(child.stdout.take().expect("a pipe"));
        Self {
            child,
            keys,
            screen,
        }
    }

    /// Types a line, and reads until a line that begins so.
    fn types(&mut self, line: &str, answer: &str) {
        writeln!(self.keys, "{line}").expect("openssl reads");
        self.reads(answer);
    }

    fn reads(&mut self, answer: &str) {
        let mut all = String::new();
        loop {
            let before = all.len();
            let n = self.screen.read_line(&mut all).expect("text");
            assert!(n > 0, "no {answer} in\n{all}");
            if all[before..].starts_with(answer) {
                return;
            }
        }
    }
}

impl Drop for Typed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn openssl_s_client_logs_in() {
    if !need(&["openssl"]) {
        return;
    }
    let w = world();
    for (count, (implicit, flag, version)) in (1..).zip([
        (false, "-tls1_3", "TLSv1.3"),
        (false, "-tls1_2", "TLSv1.2"),
        (true, "-tls1_3", "TLSv1.3"),
        (true, "-tls1_2", "TLSv1.2"),
    ]) {
        let mut words = vec!["-CAfile", &*w.ca, flag];
        let mut typed = if implicit {
            Typed::start(w.implicit, &words)
        } else {
            words.extend(["-starttls", "smtp"]);
            Typed::start(w.server.address.port(), &words)
        };
        if implicit {
            typed.reads("220 ");
        }
        typed.types("EHLO typed.test", "250 ");
        let wrong = plain("ann", "wrong password");
        typed.types(&format!("AUTH PLAIN {wrong}"), "535 5.7.8");
        typed.types("AUTH PLAIN", "334");
        typed.types(&plain("ann", PASSWORD), "235 2.7.0");
        typed.types("MAIL FROM:<a@sender.test>", "250 2.1.0");
        typed.types("RCPT TO:<one@dest.test>", "250 2.1.5");
        typed.types("DATA", "354");
        typed.types("From: a@sender.test\n\nHello.\n.", "250 2.0.0 Queued as ");
        typed.types("QUIT", "221 2.0.0");
        let received = w.server.wait_events("received", count, |_| true);
        let last = &received[count - 1];
        assert_eq!(last["client_tls"]["version"], version, "{last:#}");
    }
    w.all_of("ann", 4);
    assert_eq!((w.logins("good"), w.logins("failed")), (4, 4));
}

pub(crate) fn gsasl_scram_over_tls() {
    if !need(&["gsasl"]) {
        return;
    }
    let w = world();
    let gsasl = |mechanism: &str, user: &str, password: &str, more: &[&str]| {
        let mut command = Command::new("gsasl");
        command
            .args(["--smtp", "--starttls", "--quiet", "--mechanism", mechanism])
            .args(["-a", user, "-p", password])
            .arg(format!("--connect={}", w.server.address))
            .arg(format!("--x509-ca-file={}", w.ca))
            .args(more)
            .stdin(Stdio::null())
            .env("LC_ALL", "C.UTF-8");
        command
    };
    let fails = |mut command: Command| {
        let out = command.output().expect("gsasl");
        assert!(!out.status.success(), "{command:?}: {out:?}");
    };
    let old = "--priority=NORMAL:-VERS-TLS1.3";
    // Over TLS 1.3 it binds to tls-exporter (RFC 9266).
    let right: [(&str, &str, &str, &[&str]); 6] = [
        ("SCRAM-SHA-256-PLUS", "ann", PASSWORD, &[]),
        ("SCRAM-SHA-256-PLUS", "j\u{f6}rg", AWKWARD, &[]),
        ("SCRAM-SHA-256", "ann", PASSWORD, &["--no-cb"]),
        ("SCRAM-SHA-256", "ann", PASSWORD, &["--no-cb", old]),
        ("PLAIN", "ann", PASSWORD, &[]),
        ("LOGIN", "ann", PASSWORD, &[old]),
    ];
    for (mechanism, user, password, more) in right {
        succeeds(&mut gsasl(mechanism, user, password, more));
    }
    assert_eq!((w.logins("good"), w.logins("failed")), (6, 0));
    let wrong: [(&str, &[&str]); 2] =
        [("SCRAM-SHA-256-PLUS", &[]), ("SCRAM-SHA-256", &["--no-cb"])];
    for (mechanism, more) in wrong {
        fails(gsasl(mechanism, "ann", "wrong password", more));
    }
    let failed = w.server.wait_events("auth-failed", 2, |_| true);
    let mechanisms = failed.iter().filter_map(|e| e["mechanism"].as_str());
    let mechanisms: Vec<&str> = mechanisms.collect();
    assert_eq!(mechanisms, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
    // Over TLS 1.2 it knows tls-unique alone, which rustls doesn't tell: it isn't offered there.
    fails(gsasl("SCRAM-SHA-256-PLUS", "ann", PASSWORD, &[old]));
    assert_eq!((w.logins("good"), w.logins("failed")), (6, 2));
}

pub(crate) fn scramp_binds_to_the_certificate() {
    let Some(python) = courser_tests::need::python(&["scramp==1.5.0"]) else {
        return;
    };
    let w = world();
    let script = "
import base64, hashlib, smtplib, ssl, sys
from scramp import ScramClient
port, ca, password = int(sys.argv[1]), sys.argv[2], sys.argv[3]
b64 = lambda text: base64.b64encode(text.encode()).decode()
plain = lambda text: base64.b64decode(text).decode()
def login(version, mechanism, other=b''):
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = context.maximum_version = version
    s = smtplib.SMTP('127.0.0.1', port, local_hostname='python.test', timeout=20)
    s.starttls(context=context)
    s.ehlo()
    offered = s.esmtp_features['auth'].split()
    assert mechanism in offered, offered
    assert ('SCRAM-SHA-256-PLUS' in offered) == (version == ssl.TLSVersion.TLSv1_3), offered
    seen = hashlib.sha256(s.sock.getpeercert(binary_form=True) + other).digest()
    c = ScramClient([mechanism], 'ann', password, channel_binding=('tls-server-end-point', seen))
    code, said = s.docmd('AUTH', mechanism + ' ' + b64(c.get_client_first()))
    if code == 334:
        c.set_server_first(plain(said))
        code, said = s.docmd(b64(c.get_client_final()))
    if code == 334:
        c.set_server_final(plain(said))
        code, said = s.docmd('')
    if code == 235:
        m = 'From: a@sender.test\\r\\n\\r\\nHello.\\r\\n'
        assert s.sendmail('a@sender.test', ['one@dest.test'], m) == {}
    s.quit()
    return code
old, new = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
assert login(new, 'SCRAM-SHA-256-PLUS') == 235
# Somebody between shows it another certificate.
assert login(new, 'SCRAM-SHA-256-PLUS', b'other') == 535
# Somebody between took the mechanism that binds out of the offer, it says (RFC 5802 6).
assert login(new, 'SCRAM-SHA-256') == 535
# Over TLS 1.2 there was none.
assert login(old, 'SCRAM-SHA-256') == 235
";
    let port = w.server.address.port().to_string();
    succeeds(Command::new(python).args(["-c", script, &port, &w.ca, PASSWORD]));
    w.all_of("ann", 2);
    let received = w.server.events_of("received");
    let versions = received.iter().map(|e| e["client_tls"]["version"].clone());
    let versions: Vec<_> = versions.collect();
    assert_eq!(versions, ["TLSv1.3", "TLSv1.2"]);
    let failed = w.server.wait_events("auth-failed", 2, |_| true);
    let words = "sees another TLS connection";
    assert!(
        failed
            .iter()
            .all(|e| e["cause"].as_str().is_some_and(|c| c.contains(words))),
        "{failed:#?}"
    );
}
