//! TLS reports (RFC 8460): what sessions came to is told to the domains that want to hear it, by mail
//! and by HTTPS, once, whatever ends in between.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use courser_tests::client::{small, submit};
use courser_tests::clock::CivilClock;
use courser_tests::dns::Nsd;
use courser_tests::eventually;
use courser_tests::need::{need, python};
use courser_tests::net::{free_port, free_port_on, wait_for};
use courser_tests::process::Process;
use courser_tests::receiver::{Answer, EXTENSIONS, Receiver};
use courser_tests::server::{Server, run, scratch};
use courser_tests::tls::{Authority, Issued, Valid};
use serde_json::{Value, json};

const DAY: i64 = 86_400;

/// What a receiver does about TLS, by the name of its domain, and how that is reported.
const KINDS: [(&str, &str); 6] = [
    ("good", ""),
    ("strange", "certificate-not-trusted"),
    ("misnamed", "certificate-host-mismatch"),
    ("expired", "certificate-expired"),
    ("stripped", "starttls-not-supported"),
    ("garbage", "validation-failure"),
];

fn ip(kind: usize) -> [u8; 4] {
    [127, 0, 3, 1 + kind as u8]
}

struct World {
    receivers: Vec<Receiver>,
    /// Settings that all servers have.
    common: String,
    authority: Authority,
    nsd: Nsd,
    dir: tempfile::TempDir,
}

/// A receiver of each kind, and a key that signs for sender.test. `records` gives what a domain
/// publishes at `_smtp._tls`.
fn world(records: impl Fn(&str) -> Option<String>) -> Option<World> {
    if !need(&["nsd"]) {
        return None;
    }
    let dir = scratch();
    let authority = Authority::new();
    let ips: Vec<IpAddr> = (0..KINDS.len()).map(|k| IpAddr::from(ip(k))).collect();
    let port = free_port_on(&ips);
    let receivers = KINDS.iter().enumerate().map(|(n, (kind, _))| {
        let own = format!("mx.{kind}.test");
        let address = (ip(n), port).into();
        let usual = |_: &str| Answer::Usual;
        let offered = [EXTENSIONS, &["STARTTLS"]].concat();
        let issued = match *kind {
            "strange" => Authority::new().issue(&[&own]),
            "misnamed" => authority.issue(&["mx.elsewhere.test"]),
            "expired" => authority.issue_valid(&[&own], Valid::Over),
            "stripped" => return Receiver::start_at(address, EXTENSIONS, usual),
            "garbage" => {
                return Receiver::start_at(address, &offered, |line| match line {
                    "STARTTLS" => Answer::say("220 2.0.0 Go ahead\r\n250 this is no TLS"),
                    _ => Answer::Usual,
                });
            }
            _ => authority.issue(&[&own]),
        };
        Receiver::start_tls(address, issued.server(), usual)
    });
    let receivers: Vec<Receiver> = receivers.collect();
    let keys = dir.path().join("keys");
    let key = keys.join("sender.test/s1.pem").display().to_string();
    let words = [
        "dkim",
        "keygen",
        "--domain",
        "sender.test",
        "--selector",
        "s1",
    ];
    let out = run(&[&words[..], &["--file", &key]].concat());
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{said}");
    let record = said.lines().find(|l| !l.starts_with(';'));
    let mut zones = vec![(
        "sender.test".to_owned(),
        format!("{}\nreports IN A 127.0.0.1\n", record.expect("a record")),
    )];
    for (n, (kind, _)) in KINDS.iter().enumerate() {
        let [a, b, c, d] = ip(n);
        let mut zone = format!("@ IN MX 10 mx\nmx IN A {a}.{b}.{c}.{d}\n");
        if let Some(record) = records(kind) {
            zone.push_str(&format!("_smtp._tls IN TXT \"{record}\"\n"));
        }
        zones.push((format!("{kind}.test"), zone));
    }
    let zones: Vec<(&str, &str)> = zones.iter().map(|(n, z)| (&**n, &**z)).collect();
    let nsd = Nsd::start(dir.path(), &zones);
    let common = format!(
        "dns = {{ servers = [\"{}\"] }}\ndkim.dir = \"{}\"\ndelivery.port = {port}\n\
         [tls]\nlevel = \"verified\"\nca_file = \"{}\"\n\
         [tls.report]\nenabled = true\norganization = \"Sender Inc.\"\nfrom = \"tls-reports@sender.test\"\n",
        nsd.address,
        keys.display(),
        authority.write(dir.path()).display()
    );
    Some(World {
        receivers,
        common,
        authority,
        nsd,
        dir,
    })
}

fn by_mail(_: &str) -> Option<String> {
    Some("v=TLSRPTv1; rua=mailto:rua@good.test".to_owned())
}

fn send(server: &Server, kind: &str) {
    let to = [format!("<you@{kind}.test>")];
    submit(server.address, "<me@sender.test>", &to, &small(kind));
}

/// Waits until so many sessions with the host of a kind have failed.
fn wait_failed(server: &Server, kind: &str) {
    let host = format!("mx.{kind}.test");
    server.wait_event("tls-failed", |e| e["peer_host"] == host.as_str());
    server.wait_event("deferred", |e| e["domain"] == format!("{kind}.test"));
}

fn failed_sessions(server: &Server, kind: &str) -> usize {
    let host = format!("mx.{kind}.test");
    let failed = server.events_of("tls-failed").into_iter();
    failed.filter(|e| e["peer_host"] == host.as_str()).count()
}

/// `courser tls report`, by domain.
fn reports(server: &Server, words: &[&str]) -> BTreeMap<String, Value> {
    let out = server.courser(&[&["tls", "report"], words].concat());
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    let lines = String::from_utf8(out.stdout).expect("text");
    let reports = lines.lines().map(|line| {
        let report: Value = serde_json::from_str(line).expect("JSON");
        let domain = report["policies"][0]["policy"]["policy-domain"].as_str();
        (domain.expect("a domain").to_owned(), report)
    });
    reports.collect()
}

fn summary(report: &Value) -> (u64, u64) {
    let summary = &report["policies"][0]["summary"];
    let count = |what: &str| summary[what].as_u64().expect("a count");
    (
        count("total-successful-session-count"),
        count("total-failure-session-count"),
    )
}

fn filter(command: &mut Command, input: &[u8]) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input).expect("it reads");
    drop(stdin);
    let out = child.wait_with_output().expect("it ends");
    assert!(out.status.success(), "it failed");
    String::from_utf8(out.stdout).expect("text")
}

/// What Python's own libraries find in a report by mail.
const READ: &str = "import sys, json, gzip, email, email.policy\n\
    m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.SMTP)\n\
    text, attached = m.iter_parts()\n\
    print(json.dumps({'type': m.get_content_type(), 'report_type': m['content-type'].params['report-type'],\n\
    \x20 'subject': m['subject'], 'from': m['from'], 'to': m['to'], 'domain': m['tls-report-domain'],\n\
    \x20 'submitter': m['tls-report-submitter'], 'tls_required': m['tls-required'],\n\
    \x20 'text': text.get_content_type(), 'attached': attached.get_content_type(),\n\
    \x20 'file': attached.get_filename(), 'defects': [str(d) for d in m.defects + attached.defects],\n\
    \x20 'report': json.loads(gzip.decompress(attached.get_content()))}))\n";

const VERIFY: &str = "import sys, dkim, dns.resolver\n\
    r = dns.resolver.Resolver(configure=False)\n\
    r.nameservers = ['127.0.0.1']; r.port = int(sys.argv[1])\n\
    def txt(name, timeout=5):\n\
    \x20   name = name.decode() if isinstance(name, bytes) else name\n\
    \x20   return b''.join(r.resolve(name, 'TXT')[0].strings)\n\
    print('pass' if dkim.DKIM(sys.stdin.buffer.read()).verify(dnsfunc=txt) else 'fail')\n";

/// The reports among what a receiver got, as Python reads them, by domain.
fn received(python: &Path, receiver: &Receiver) -> Vec<(Value, Vec<u8>)> {
    let mails = receiver.mails().into_iter();
    let reports = mails.filter(|m| m.recipients() == ["rua@good.test"]);
    let read = |m: courser_tests::receiver::Mail| {
        let said = filter(Command::new(python).args(["-c", READ]), &m.content);
        assert_eq!(m.sender(), "", "{}", m.mail);
        (serde_json::from_str(&said).expect("JSON"), m.content)
    };
    reports.map(read).collect()
}

pub(crate) fn what_is_told_is_what_happened() {
    let unwanted = |kind: &str| by_mail(kind).filter(|_| kind != "stripped");
    let Some(w) = world(unwanted) else { return };
    let Some(python) = python(&["dkimpy", "dnspython"]) else {
        return;
    };
    let server = Server::start(&format!(
        "{}[delivery.limits]\nmessages_per_connection = 1\n",
        w.common
    ));
    for (kind, result) in KINDS {
        send(&server, kind);
        match result {
            "" => {
                // A session for each of three messages.
                for _ in 0..2 {
                    send(&server, kind);
                }
                server.wait_events("delivered", 3, |_| true);
            }
            _ => wait_failed(&server, kind),
        }
    }
    let today = reports(&server, &[]);
    assert_eq!(today.len(), KINDS.len(), "{today:#?}");
    let expected = |kind: &str, result: &str| match result {
        "" => (3, 0),
        _ => (0, failed_sessions(&server, kind) as u64),
    };
    for (n, (kind, result)) in KINDS.iter().enumerate() {
        let report = &today[&format!("{kind}.test")];
        assert_eq!(summary(report), expected(kind, result), "{report:#}");
        let one = &report["policies"][0];
        assert_eq!(
            one["policy"]["policy-type"], "no-policy-found",
            "{report:#}"
        );
        if !result.is_empty() {
            let failure = &one["failure-details"][0];
            assert_eq!(failure["result-type"], *result, "{report:#}");
            assert_eq!(failure["receiving-mx-hostname"], format!("mx.{kind}.test"));
            assert_eq!(failure["receiving-ip"], IpAddr::from(ip(n)).to_string());
            assert_eq!(failure["failed-session-count"], summary(report).1);
            let words = failure["failure-reason-code"].as_str();
            assert!(words.is_some_and(|w| w.len() > 10), "{report:#}");
        }
    }
    let good = reports(&server, &["--domain", "good.test", "--send"]);
    assert_eq!(good.len(), 1);
    reports(&server, &["--send"]);
    // All but the one that wants none, and none twice. Reports are not reported about.
    let wanted = KINDS.len() - 1;
    server.wait_events("tls-report", wanted, |e| e["result"] == "queued");
    server.wait_events("delivered", 3 + wanted, |_| true);
    let mails = received(&python, &w.receivers[0]);
    assert_eq!(mails.len(), wanted);
    for (kind, result) in KINDS.iter().filter(|(kind, _)| *kind != "stripped") {
        let domain = format!("{kind}.test");
        let mut of_domain = mails.iter().filter(|(mail, _)| mail["domain"] == domain);
        let (Some((mail, content)), None) = (of_domain.next(), of_domain.next()) else {
            panic!("{domain} has not one report: {mails:#?}");
        };
        let mut whole = today[&domain].clone();
        let id = whole["report-id"].as_str().expect("an id").to_owned();
        // The day isn't over.
        let end = mail["report"]["date-range"]["end-datetime"].clone();
        assert!(end.as_str() < whole["date-range"]["end-datetime"].as_str());
        whole["date-range"]["end-datetime"] = end;
        let file = mail["file"].as_str().unwrap_or_default().to_owned();
        assert!(
            file.starts_with(&format!("sender.test!{domain}!")) && file.ends_with(".json.gz"),
            "{file}"
        );
        let expected = json!({
            "type": "multipart/report", "report_type": "tlsrpt",
            "subject": format!("Report Domain: {domain} Submitter: sender.test Report-ID: <{id}>"),
            "from": "tls-reports@sender.test", "to": "rua@good.test",
            "domain": domain, "submitter": "sender.test", "tls_required": "No",
            "text": "text/plain", "attached": "application/tlsrpt+gzip", "file": file,
            "defects": [], "report": whole,
        });
        let mut mail = mail.clone();
        for address in ["from", "to"] {
            let text = mail[address].as_str().unwrap_or_default();
            mail[address] = text.trim_matches(['<', '>']).into();
        }
        assert_eq!(mail, expected, "{result}");
        assert_eq!(mail["report"]["organization-name"], "Sender Inc.");
        let port = w.nsd.address.port().to_string();
        let said = filter(Command::new(&python).args(["-c", VERIFY, &port]), content);
        assert_eq!(said.trim(), "pass");
        // So does our own reader.
        let read = courser_tests::server::eval("tlsrpt", &json!({ "report": mail["report"] }));
        assert!(read.to_string().contains(&id), "{read:#}");
    }
    // What was sent is not there any more; who wants none is still counted.
    let left = reports(&server, &[]);
    assert_eq!(left.keys().collect::<Vec<_>>(), ["stripped.test"]);
}

pub(crate) fn once_a_day_whatever_ends_in_between() {
    if !need(&["faketime"]) {
        return;
    }
    let Some(w) = world(by_mail) else { return };
    let Some(python) = python(&["dkimpy", "dnspython"]) else {
        return;
    };
    let clock = CivilClock::new(w.dir.path());
    let mut server = Server::prepare(
        &w.dir.path().join("server"),
        &format!("{}send_after = \"0s\"\nspread = \"0s\"\n", w.common),
    );
    server.set_environment(clock.environment());
    server.restart();
    send(&server, "good");
    send(&server, "expired");
    wait_failed(&server, "expired");
    server.wait_events("delivered", 1, |_| true);
    let before = reports(&server, &[]);
    assert_eq!(before.len(), 2, "{before:#?}");
    // An end that is an end, and one that is a crash: what was written before is there.
    server.stop();
    server.restart();
    assert_eq!(
        reports(&server, &["--domain", "good.test"])["good.test"],
        before["good.test"]
    );
    send(&server, "good");
    server.wait_events("delivered", 2, |_| true);
    assert_eq!(summary(&reports(&server, &[])["good.test"]), (2, 0));
    server.kill9();
    server.restart();
    let after = reports(&server, &[]);
    assert_eq!(after["good.test"], before["good.test"]);
    // Midnight: reports go by themselves, and once, although the server is killed.
    clock.set(DAY);
    let mut queued = 0;
    while queued < 2 {
        let sent = || server.events_of("tls-report").len();
        let there = eventually(30, || (sent() > queued).then(sent));
        queued = there.unwrap_or_else(|| panic!("no report:\n{}", server.log()));
        server.kill9();
        server.restart();
    }
    // A kill between a receiver's answer and the outcome on disk sends the same mail again. Another
    // report would differ, in its Message-ID at least.
    let distinct = || {
        let mut mails = received(&python, &w.receivers[0]);
        mails.sort_by(|a, b| a.1.cmp(&b.1));
        mails.dedup_by(|a, b| a.1 == b.1);
        mails
    };
    let arrived = || {
        let mails = distinct();
        let domains = mails
            .iter()
            .map(|(mail, _)| mail["domain"].as_str().map(str::to_owned));
        domains.flatten().collect::<Vec<_>>()
    };
    let all = eventually(30, || Some(arrived()).filter(|all| all.len() >= 2));
    let mut all = all.unwrap_or_else(|| panic!("{:?}\n{}", arrived(), server.log()));
    all.sort();
    assert_eq!(all, ["expired.test", "good.test"]);
    // Nothing comes later, after another restart either.
    server.stop();
    server.restart();
    send(&server, "good");
    let late = server.wait_event("delivered", |e| {
        e["time"].as_str() > before["good.test"]["date-range"]["end-datetime"].as_str()
            && e["recipient"] == "you@good.test"
    });
    assert_eq!(late["domain"], "good.test");
    assert_eq!(arrived().len(), 2);
    // A new day has begun.
    assert_eq!(
        summary(&reports(&server, &["--domain", "good.test"])["good.test"]),
        (1, 0)
    );
    for (mail, _) in distinct() {
        let domain = mail["domain"].as_str().expect("a domain");
        assert_eq!(mail["report"]["policies"], after[domain]["policies"]);
        assert_eq!(mail["report"]["report-id"], after[domain]["report-id"]);
        assert_eq!(mail["report"]["date-range"], after[domain]["date-range"]);
    }
}

/// A web server: `/flaky` says 503 at first. What it gets is a line of JSON in `got`.
const HTTPS: &str = "import sys, ssl, json, gzip, http.server\n\
    seen = set()\n\
    class H(http.server.BaseHTTPRequestHandler):\n\
    \x20 def do_POST(self):\n\
    \x20   body = self.rfile.read(int(self.headers['content-length']))\n\
    \x20   flaky = self.path.startswith('/flaky') and self.path not in seen\n\
    \x20   seen.add(self.path)\n\
    \x20   with open(sys.argv[3], 'a') as f:\n\
    \x20     f.write(json.dumps({'path': self.path, 'type': self.headers['content-type'], 'host': self.headers['host'],\n\
    \x20       'report': json.loads(gzip.decompress(body)), 'taken': not flaky}) + '\\n')\n\
    \x20   self.send_response(503 if flaky else 201); self.send_header('Content-Length', '0'); self.end_headers()\n\
    s = http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), H)\n\
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain(sys.argv[2])\n\
    s.socket = c.wrap_socket(s.socket, server_side=True)\n\
    s.serve_forever()\n";

fn web_server(dir: &Path, name: &str, port: u16, issued: &Issued) -> (Process, PathBuf) {
    let pem = dir.join(format!("{name}.pem"));
    std::fs::write(&pem, format!("{}{}", issued.key, issued.chain)).expect("a scratch file");
    let got = dir.join(format!("{name}.got"));
    let mut command = Command::new("python3");
    command
        .args(["-c", HTTPS, &port.to_string()])
        .arg(pem)
        .arg(&got);
    let process = Process::start(name, dir, &mut command);
    let up = wait_for(([127, 0, 0, 1], port).into(), 20);
    assert!(up, "{}", process.output());
    (process, got)
}

fn got(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().map(|l| serde_json::from_str(l).expect("JSON"));
    lines.collect()
}

pub(crate) fn by_https() {
    if !need(&["faketime", "python3"]) {
        return;
    }
    let (right, wrong) = (free_port(), free_port());
    let records = |kind: &str| {
        let at = |port: u16, path: &str| format!("https://reports.sender.test:{port}/{path}");
        let uris = match kind {
            "good" => [at(right, "t?x=1"), "mailto:rua@good.test".to_owned()].join(","),
            "expired" => at(right, "flaky"),
            "misnamed" => at(wrong, "t"),
            _ => return None,
        };
        Some(format!("v=TLSRPTv1; rua={uris}"))
    };
    let Some(w) = world(records) else { return };
    let names = ["reports.sender.test"];
    let (_server, taken) = web_server(w.dir.path(), "right", right, &w.authority.issue(&names));
    let strange = Authority::new().issue(&names);
    let (_other, untaken) = web_server(w.dir.path(), "wrong", wrong, &strange);
    let clock = CivilClock::new(w.dir.path());
    let mut server = Server::prepare(
        &w.dir.path().join("server"),
        &format!("{}send_after = \"0s\"\nspread = \"0s\"\n", w.common),
    );
    server.set_environment(clock.environment());
    server.restart();
    for kind in ["good", "expired", "misnamed", "strange"] {
        send(&server, kind);
        match kind {
            "good" => drop(server.wait_events("delivered", 1, |_| true)),
            _ => wait_failed(&server, kind),
        }
    }
    let before = reports(&server, &[]);
    clock.set(DAY);
    // To each of several destinations; and not to one who can't show who he is.
    let of = |domain: &str, result: &str| {
        let (domain, result) = (domain.to_owned(), result.to_owned());
        move |e: &Value| e["domain"] == domain.as_str() && e["result"] == result.as_str()
    };
    server.wait_events("tls-report", 1, of("good.test", "sent"));
    server.wait_events("tls-report", 1, of("good.test", "queued"));
    let failed = server.wait_event("tls-report", of("expired.test", "failed"));
    assert!(
        failed["cause"].as_str().is_some_and(|c| c.contains("503")),
        "{failed:#}"
    );
    let failed = server.wait_event("tls-report", of("misnamed.test", "failed"));
    let cause = failed["cause"].as_str().unwrap_or_default();
    assert!(
        cause.contains("no certificate authority that is trusted"),
        "{failed:#}"
    );
    // It is tried again, over a restart too.
    server.stop();
    server.restart();
    clock.set(DAY + 310);
    let sent = server.wait_event("tls-report", of("expired.test", "sent"));
    let sums = (&sent["successes"], &sent["failures"]);
    let failures = summary(&before["expired.test"]).1;
    assert_eq!(sums, (&json!(0), &json!(failures)), "{sent:#}");
    let all = got(&taken);
    let paths: Vec<_> = all
        .iter()
        .map(|g| (g["path"].clone(), g["taken"].clone()))
        .collect();
    let count = |path: &str, taken: bool| {
        let is = |(p, t): &&(Value, Value)| *p == path && *t == taken;
        paths.iter().filter(is).count()
    };
    assert_eq!(
        (
            count("/t?x=1", true),
            count("/flaky", false),
            count("/flaky", true),
            all.len()
        ),
        (1, 1, 1, 3),
        "{all:#?}"
    );
    for one in &all {
        assert_eq!(one["type"], "application/tlsrpt+gzip");
        let domain = one["report"]["policies"][0]["policy"]["policy-domain"].as_str();
        assert_eq!(one["report"], before[domain.expect("a domain")], "{one:#}");
    }
    assert_eq!(got(&untaken), Vec::<Value>::new());
    let mail = eventually(20, || {
        let mails = w.receivers[0].mails();
        mails
            .into_iter()
            .find(|m| m.recipients() == ["rua@good.test"])
    });
    assert!(mail.is_some(), "{}", server.log());
}

pub(crate) fn off_until_it_is_wanted_and_never_unsigned() {
    let Some(w) = world(by_mail) else { return };
    let off = w.common.replace("enabled = true", "enabled = false");
    let server = Server::start(&off);
    send(&server, "good");
    server.wait_events("delivered", 1, |_| true);
    let out = server.courser(&["tls", "report"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        !out.status.success() && said.contains("tls.report.enabled = true"),
        "{said}"
    );
    drop(server);
    // No key signs for the address: said where the configuration is checked, and nothing is sent.
    let other = w
        .common
        .replace("tls-reports@sender.test", "tls-reports@other.test");
    let server = Server::start(&other);
    let out = run(&["check-config", &server.config().display().to_string()]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success() && said.contains("no DKIM key signs for other.test"),
        "{said}"
    );
    assert!(
        server.log().contains("no DKIM key signs for other.test"),
        "{}",
        server.log()
    );
    send(&server, "good");
    server.wait_events("delivered", 1, |_| true);
    let out = server.courser(&["tls", "report", "--send"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        !out.status.success() && said.contains("no DKIM key signs"),
        "{said}"
    );
    let event = server.wait_event("tls-report", |e| e["domain"] == "good.test");
    assert_eq!(event["result"], "failed", "{event:#}");
    let right = run(&[
        "check-config",
        &Server::prepare(w.dir.path(), &w.common)
            .config()
            .display()
            .to_string(),
    ]);
    let said = String::from_utf8_lossy(&right.stdout).into_owned();
    assert!(
        right.status.success() && !said.contains("no DKIM key signs"),
        "{said}"
    );
    let to_us = w.receivers[0]
        .mails()
        .into_iter()
        .filter(|m| m.recipients() == ["rua@good.test"]);
    assert_eq!(to_us.count(), 0);
}
