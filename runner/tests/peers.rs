//! `courser serve` between scripted peers: submitters and receivers that do what real ones do at
//! their worst. Each test has a server of its own.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that is killed at the end of its test.
struct Server {
    child: Child,
    dir: PathBuf,
    config: PathBuf,
    smtp: SocketAddr,
    starts: usize,
    _temp: Option<tempfile::TempDir>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Server {
    /// With `receivers` as the hosts of every domain, and more of configuration: keys of the
    /// listener, and whole sections.
    fn start(receivers: &[SocketAddr], listener: &str, sections: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().to_owned();
        let port = free_port();
        let to: Vec<String> = receivers.iter().map(|r| format!("{r}")).collect();
        let text = format!(
            r#"hostname = "mail.example.org"
[server]
shards = 2
control_socket = "{dir}/control.sock"
drain_timeout = "5s"
[spool]
dir = "{dir}/spool"
[events]
dir = "{dir}/events"
[[listener]]
address = ["127.0.0.1:{port}"]
{listener}
[delivery]
allow_private = ["127.0.0.0/8"]
[[route]]
domain = "*"
to = {to:?}
[dns]
servers = ["127.0.0.1:1"]
{sections}
"#,
            dir = dir.display(),
        );
        let config = dir.join("courser.toml");
        std::fs::write(&config, text).unwrap();
        let mut server = Self {
            child: spawn(&config, &dir),
            dir,
            config,
            smtp: ([127, 0, 0, 1], port).into(),
            starts: 1,
            _temp: Some(temp),
        };
        server.wait_until_up();
        server
    }

    fn wait_until_up(&mut self) {
        let began = Instant::now();
        // A port may still answer for a server that was killed; the log speaks for this one.
        let starts = |log: String| log.matches(" listening ").count();
        while starts(self.log()) < self.starts {
            assert!(began.elapsed() < PATIENCE, "{}", self.log());
            assert!(
                self.child.try_wait().unwrap().is_none(),
                "it ended: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn restart(&mut self) {
        self.child = spawn(&self.config, &self.dir);
        self.starts += 1;
        self.wait_until_up();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; how long it took to end.
    fn terminate(&mut self) -> Duration {
        let began = Instant::now();
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "it doesn't end: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        began.elapsed()
    }

    /// The events so far, as JSON lines.
    fn events(&self) -> Vec<String> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(self.dir.join("events"))
            .unwrap()
            .map(|f| f.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
            .collect();
        files.sort();
        let text = |p: &PathBuf| std::fs::read_to_string(p).unwrap_or_default();
        let all: String = files.iter().map(text).collect();
        all.lines().map(str::to_owned).collect()
    }

    fn count(&self, event: &str) -> usize {
        let marker = format!("\"kind\":\"{event}\"");
        self.events().iter().filter(|e| e.contains(&marker)).count()
    }

    /// The last events, for a test that fails.
    fn tail(&self) -> String {
        let events = self.events();
        events[events.len().saturating_sub(10)..].join("\n")
    }

    fn wait_for(&self, event: &str, count: usize) {
        let began = Instant::now();
        while self.count(event) < count {
            assert!(
                began.elapsed() < PATIENCE,
                "{} of {count} {event}: {}\n{}",
                self.count(event),
                self.tail(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn client(&self) -> Client {
        Client::connect(self.smtp)
    }

    /// Hands in one message for `recipients`.
    fn submit(&self, sender: &str, recipients: &[&str], body: &str) {
        let mut client = self.client();
        client.expect("220");
        client.ask("EHLO client.example", "250");
        client.hand_in(sender, recipients, body);
        client.ask("QUIT", "221");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(config: &Path, dir: &Path) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .unwrap();
    Command::new(env!("CARGO_BIN_EXE_courser"))
        .args(["serve", "--config"])
        .arg(config)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// A submitter, line by line.
struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            reader: BufReader::new(stream),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    /// The next whole reply.
    fn reply(&mut self) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).unwrap();
            all.push_str(&line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return all;
            }
        }
    }

    #[track_caller]
    fn expect(&mut self, code: &str) -> String {
        let reply = self.reply();
        assert!(reply.starts_with(code), "{reply:?} instead of {code}");
        reply
    }

    #[track_caller]
    fn ask(&mut self, command: &str, code: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        self.expect(code)
    }

    fn hand_in(&mut self, sender: &str, recipients: &[&str], body: &str) {
        self.ask(&format!("MAIL FROM:<{sender}>"), "250");
        for recipient in recipients {
            self.ask(&format!("RCPT TO:<{recipient}>"), "250");
        }
        self.ask("DATA", "354");
        self.send(format!("{body}\r\n.\r\n").as_bytes());
        self.expect("250");
    }

    /// Whether the connection ends in order, and not by a reset.
    fn ends(&mut self) -> bool {
        let mut rest = Vec::new();
        matches!(self.reader.read_to_end(&mut rest), Ok(0))
    }
}

/// One connection as a receiver sees it.
struct Guest {
    reader: BufReader<TcpStream>,
}

impl Guest {
    fn say(&mut self, reply: &str) {
        let _ = self
            .reader
            .get_mut()
            .write_all(format!("{reply}\r\n").as_bytes());
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(n) if n > 0 => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }

    /// Reads a body to its final dot.
    fn body(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let from = body.len();
            if self.reader.read_until(b'\n', &mut body).ok()? == 0 {
                return None;
            }
            if &body[from..] == b".\r\n" {
                body.truncate(from);
                return Some(body);
            }
        }
    }

    /// Serves ordinary transactions until the client goes or `messages` were taken.
    fn serve(&mut self, messages: usize, taken: &Mutex<Vec<Vec<u8>>>, extensions: &[&str]) {
        let mut left = messages;
        while let Some(line) = self.line() {
            let verb = line.split([' ', ':']).next().unwrap_or("").to_uppercase();
            match verb.as_str() {
                "EHLO" => {
                    for extension in extensions {
                        self.say(&format!("250-{extension}"));
                    }
                    self.say("250 ok");
                }
                "DATA" => {
                    self.say("354 go");
                    let Some(body) = self.body() else { return };
                    taken.lock().unwrap().push(body);
                    self.say("250 2.0.0 taken");
                    left -= 1;
                    if left == 0 {
                        return;
                    }
                }
                "QUIT" => return self.say("221 bye"),
                _ => self.say("250 ok"),
            }
        }
    }
}

/// A receiver that does `script` with each connection, numbered from 0.
fn receiver(script: impl Fn(usize, Guest) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script = Arc::new(script);
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let Ok(stream) = stream else { continue };
            let script = script.clone();
            std::thread::spawn(move || {
                let reader = BufReader::new(stream);
                script(n, Guest { reader });
            });
        }
    });
    address
}

/// Nobody listens there.
fn nowhere() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

const QUICK_RETRY: &str = "[[stream]]\nname = \"default\"\n[stream.retry]\nintervals = [\"1s\"]\n\
    [delivery.dead_host]\nfirst = \"1s\"\n[delivery.limits]\nconnections = 5\n\
    connection_rate = \"1000/s\"\nmessage_rate = \"10k/s\"\n";

/// With the sections above where `[delivery]` is already open.
fn quick_retry() -> &'static str {
    QUICK_RETRY
}

// -- submitters --

#[test]
fn the_greeting_may_be_late_and_the_session_goes_on() {
    let server = Server::start(&[nowhere()], "greeting_delay = \"300ms\"", "");
    let mut client = server.client();
    let began = Instant::now();
    client.expect("220");
    assert!(began.elapsed() >= Duration::from_millis(290));
    client.ask("EHLO client.example", "250");
    client.ask("QUIT", "221");
    assert!(client.ends());
    let mut early = server.client();
    early.send(b"EHLO client.example\r\nMAIL FROM:<a@b.example>\r\n");
    early.expect("554");
    assert!(early.ends());
}

#[test]
fn the_last_reply_is_read_though_more_was_sent() {
    let server = Server::start(&[nowhere()], "max_errors = 3", "");
    for _ in 0..20 {
        let mut client = server.client();
        client.expect("220");
        // Far more than is read before the server has had enough.
        let flood = "NONSENSE\r\n".repeat(20_000);
        client.send(flood.as_bytes());
        client.expect("500");
        client.expect("500");
        let last = client.expect("421");
        assert!(last.contains("errors"), "{last}");
        assert!(client.ends());
    }
}

#[test]
fn an_idle_session_ends_after_its_time_and_at_sigterm() {
    let mut server = Server::start(&[nowhere()], "command_timeout = \"1s\"", "");
    let mut client = server.client();
    client.expect("220");
    client.send(b"EHL");
    client.expect("421");
    assert!(client.ends());
    let mut idle = server.client();
    idle.expect("220");
    let mut inside = server.client();
    inside.expect("220");
    inside.ask("EHLO client.example", "250");
    inside.ask("MAIL FROM:<a@b.example>", "250");
    let ended = std::thread::spawn(move || (idle.reply(), idle.ends(), inside.reply()));
    let took = server.terminate();
    let (idle, in_order, inside) = ended.join().unwrap();
    assert!(
        idle.starts_with("421") && inside.starts_with("421"),
        "{idle}{inside}"
    );
    assert!(in_order);
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_body_under_way_at_sigterm_is_taken() {
    let mut server = Server::start(&[nowhere()], "", "");
    let mut client = server.client();
    client.expect("220");
    client.ask("EHLO client.example", "250");
    client.ask("MAIL FROM:<a@b.example>", "250");
    client.ask("RCPT TO:<c@d.example>", "250");
    client.ask("DATA", "354");
    client.send(b"Subject: x\r\n\r\nfirst half\r\n");
    let pid = server.child.id().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    client.send(b"second half\r\n.\r\n");
    client.expect("250");
    client.expect("421");
    assert!(client.ends());
    server.terminate_only_wait();
}

impl Server {
    fn terminate_only_wait(&mut self) {
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "it doesn't end: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn clients_that_reset_at_once_do_not_hold_up_others() {
    let server = Server::start(&[nowhere()], "", "");
    for _ in 0..100 {
        let stream = TcpStream::connect(server.smtp).unwrap();
        let socket = socket2::SockRef::from(&stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
    let began = Instant::now();
    let mut client = server.client();
    client.expect("220");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(!server.log().contains("can't accept"), "{}", server.log());
}

// -- receivers --

#[test]
fn a_peer_that_lies_about_pipelining_bounces_nothing() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let seen = taken.clone();
    let peer = receiver(move |_, mut guest| {
        guest.say("220 hi");
        // Takes one command per packet: of several, it runs the first and stumbles over the rest.
        let stream = guest.reader.get_mut().try_clone().unwrap();
        let mut stream = stream;
        let mut say = |s: &str| stream.write_all(s.as_bytes()).unwrap();
        let mut buf = [0; 4096];
        loop {
            let Ok(n) = guest.reader.get_mut().read(&mut buf) else {
                return;
            };
            if n == 0 {
                return;
            }
            let text = String::from_utf8_lossy(&buf[..n]).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            let several = lines.len() > 1;
            for (i, line) in lines.iter().enumerate() {
                if several && i > 0 {
                    say("503 5.5.1 bad sequence of commands\r\n");
                } else if line.starts_with("EHLO") {
                    say("250-hi\r\n250 PIPELINING\r\n");
                } else if line.starts_with("DATA") {
                    say("354 go\r\n");
                    let mut body = Vec::new();
                    while !body.ends_with(b"\r\n.\r\n") {
                        let n = guest.reader.get_mut().read(&mut buf).unwrap();
                        body.extend_from_slice(&buf[..n]);
                    }
                    seen.lock().unwrap().push(body);
                    say("250 taken\r\n");
                } else if line.starts_with("QUIT") {
                    return say("221 bye\r\n");
                } else {
                    say("250 ok\r\n");
                }
            }
        }
    });
    let server = Server::start(&[peer], "", quick_retry());
    server.submit(
        "a@b.example",
        &["c@d.example", "e@d.example"],
        "Subject: x\r\n\r\nhello",
    );
    server.wait_for("delivered", 2);
    assert_eq!(server.count("bounced"), 0, "{}", server.tail());
}

#[test]
fn a_refused_rset_bounces_nothing() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let seen = taken.clone();
    let peer = receiver(move |_, mut guest| {
        guest.say("220 hi");
        while let Some(line) = guest.line() {
            let verb = line.split([' ', ':']).next().unwrap_or("").to_uppercase();
            match verb.as_str() {
                "RSET" => guest.say("502 5.5.1 not here"),
                "RCPT" if line.contains("nobody") => guest.say("550 5.1.1 no such user"),
                "DATA" => {
                    guest.say("354 go");
                    let Some(body) = guest.body() else { return };
                    seen.lock().unwrap().push(body);
                    guest.say("250 taken");
                }
                "QUIT" => return guest.say("221 bye"),
                _ => guest.say("250 ok"),
            }
        }
    });
    let sections = quick_retry().replace("connections = 5", "connections = 1");
    let server = Server::start(&[peer], "", &sections);
    let mut client = server.client();
    client.expect("220");
    client.ask("EHLO client.example", "250");
    for i in 0..4 {
        let who = if i % 2 == 0 { "nobody" } else { "someone" };
        client.hand_in(
            "",
            &[&format!("{who}{i}@d.example")],
            "Subject: x\r\n\r\nhello",
        );
    }
    server.wait_for("delivered", 2);
    server.wait_for("bounced", 2);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.count("bounced"), 2, "{}", server.tail());
}

#[test]
fn a_connection_limit_slows_nothing_down() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let (seen, inside) = (taken.clone(), AtomicUsize::new(0));
    let peer = receiver(move |_, mut guest| {
        if inside.fetch_add(1, Ordering::SeqCst) >= 2 {
            guest.say("421 4.7.0 too many connections from you");
        } else {
            guest.say("220 hi");
            guest.serve(usize::MAX, &seen, &[]);
        }
        inside.fetch_sub(1, Ordering::SeqCst);
    });
    let server = Server::start(&[peer], "", &quick_retry().replace("1s\"]", "5m\"]"));
    let mut client = server.client();
    client.expect("220");
    client.ask("EHLO client.example", "250");
    for i in 0..200 {
        client.hand_in(
            "a@b.example",
            &[&format!("u{i}@d.example")],
            "Subject: x\r\n\r\nhello",
        );
    }
    server.wait_for("delivered", 150);
    let deferred = server.count("deferred");
    assert!(deferred < 50, "{deferred} deferred");
}

#[test]
fn a_receiver_that_leaves_after_each_message_is_not_dead() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let seen = taken.clone();
    let peer = receiver(move |_, mut guest| {
        guest.say("220 hi");
        // Closes without a word behind the second message.
        guest.serve(2, &seen, &["PIPELINING"]);
    });
    let server = Server::start(&[peer], "", &quick_retry().replace("1s\"]", "5m\"]"));
    let mut client = server.client();
    client.expect("220");
    client.ask("EHLO client.example", "250");
    for i in 0..40 {
        client.hand_in(
            "a@b.example",
            &[&format!("u{i}@d.example")],
            "Subject: x\r\n\r\nhello",
        );
    }
    server.wait_for("delivered", 40);
    assert_eq!(server.count("deferred"), 0, "{}", server.tail());
    assert_eq!(taken.lock().unwrap().len(), 40);
}

#[test]
fn a_receiver_that_drops_some_connections_is_not_dead() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let counted = dropped.clone();
    let peer = receiver(move |n, mut guest| {
        guest.say("220 hi");
        while let Some(line) = guest.line() {
            match line.split([' ', ':']).next().unwrap_or("") {
                "RCPT" if n % 5 == 4 => {
                    counted.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                "DATA" => {
                    guest.say("354 go");
                    if guest.body().is_none() {
                        return;
                    }
                    // So that there are always others at work.
                    std::thread::sleep(Duration::from_millis(20));
                    guest.say("250 2.0.0 taken");
                }
                _ => guest.say("250 ok"),
            }
        }
    });
    let sections = quick_retry().replace("1s\"]", "5m\"]");
    let sections = sections.replace("first = \"1s\"", "first = \"5m\"");
    let server = Server::start(
        &[peer],
        "",
        &format!("{sections}messages_per_connection = 4\n"),
    );
    let mut client = server.client();
    client.expect("220");
    client.ask("EHLO client.example", "250");
    for i in 0..150 {
        client.hand_in(
            "a@b.example",
            &[&format!("u{i}@d.example")],
            "Subject: x\r\n\r\nhello",
        );
    }
    server.wait_for("delivered", 120);
    let deferred = server.count("deferred");
    let dropped = dropped.load(Ordering::SeqCst);
    assert!(dropped > 0);
    assert!(
        deferred <= dropped,
        "{deferred} deferred, {dropped} dropped"
    );
}

#[test]
fn what_a_receiver_says_inside_the_body_counts() {
    let peer = receiver(move |_, mut guest| {
        guest.say("220 hi");
        while let Some(line) = guest.line() {
            match line.split([' ', ':']).next().unwrap_or("") {
                "DATA" => {
                    guest.say("354 go");
                    let mut some = [0; 1000];
                    let _ = guest.reader.read_exact(&mut some);
                    guest.say("552 5.3.4 too large for this mailbox");
                    return;
                }
                _ => guest.say("250 ok"),
            }
        }
    });
    let server = Server::start(&[peer], "", quick_retry());
    let line = format!("{}\r\n", "x".repeat(900));
    server.submit(
        "a@b.example",
        &["c@d.example"],
        &format!("Subject: x\r\n\r\n{}", line.repeat(5000)),
    );
    server.wait_for("bounced", 1);
    let events = server.events();
    assert!(
        events
            .iter()
            .any(|e| e.contains("too large for this mailbox")),
        "{events:#?}"
    );
}

#[test]
fn one_host_that_never_takes_mail_does_not_speak_for_the_others() {
    let never = receiver(|_, mut guest| {
        guest.say("521 5.3.2 this host takes no mail");
        guest.line();
    });
    let server = Server::start(&[nowhere(), never], "", quick_retry());
    server.submit("a@b.example", &["c@d.example"], "Subject: x\r\n\r\nhello");
    server.wait_for("deferred", 1);
    assert_eq!(server.count("bounced"), 0, "{}", server.tail());
}

#[test]
fn a_greeting_of_554_defers_and_does_not_bounce() {
    let peer = receiver(|_, mut guest| {
        guest.say("554 5.7.1 go away");
        guest.line();
    });
    let server = Server::start(&[peer], "", quick_retry());
    server.submit("a@b.example", &["c@d.example"], "Subject: x\r\n\r\nhello");
    server.wait_for("deferred", 2);
    assert_eq!(server.count("bounced"), 0, "{}", server.tail());
}

#[test]
fn a_listed_source_does_not_bounce_the_whole_queue() {
    let peer = receiver(|_, mut guest| {
        guest.say("220 hi");
        while let Some(line) = guest.line() {
            match line.split([' ', ':']).next().unwrap_or("") {
                "RCPT" => guest.say(
                    "550 5.7.1 Service unavailable; client [192.0.2.1] blocked using zen.spamhaus.org",
                ),
                "QUIT" => return guest.say("221 bye"),
                _ => guest.say("250 ok"),
            }
        }
    });
    let server = Server::start(&[peer], "", quick_retry());
    let mut client = server.client();
    client.expect("220");
    client.ask("EHLO client.example", "250");
    for i in 0..100 {
        client.hand_in("", &[&format!("u{i}@d.example")], "Subject: x\r\n\r\nhello");
    }
    server.wait_for("throttled", 1);
    std::thread::sleep(Duration::from_secs(1));
    let bounced = server.count("bounced");
    assert!(bounced <= 10, "{bounced} bounced");
}

#[test]
fn a_stalled_receiver_does_not_hold_up_sigterm() {
    let stalled = receiver(|_, mut guest| {
        guest.say("220 hi");
        guest.line();
        guest.say("250 ok");
        while guest.line().is_some() {}
    });
    let mut server = Server::start(&[stalled], "", "");
    server.submit("a@b.example", &["c@d.example"], "Subject: x\r\n\r\nhello");
    std::thread::sleep(Duration::from_millis(300));
    let took = server.terminate();
    assert!(took < Duration::from_secs(9), "{took:?}");
    server.restart();
    assert!(server.count("bounced") == 0);
}

#[test]
fn notifications_survive_a_kill() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let seen = taken.clone();
    let refuses = receiver(move |_, mut guest| {
        guest.say("220 hi");
        while let Some(line) = guest.line() {
            match line.split([' ', ':']).next().unwrap_or("") {
                "RCPT" if !line.contains("<s@") => guest.say("550 5.1.1 no such user"),
                "DATA" => {
                    guest.say("354 go");
                    let Some(body) = guest.body() else { return };
                    seen.lock().unwrap().push(body);
                    guest.say("250 taken");
                }
                "QUIT" => return guest.say("221 bye"),
                _ => guest.say("250 ok"),
            }
        }
    });
    let mut server = Server::start(&[refuses], "", quick_retry());
    let names: Vec<String> = (0..50).map(|i| format!("u{i}@d.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    server.submit("s@b.example", &names, "Subject: x\r\n\r\nhello");
    server.wait_for("bounced", 1);
    server.kill();
    server.restart();
    // Every recipient is told of; no notification is lost with its message.
    let told = || -> HashSet<String> {
        let bodies = taken.lock().unwrap();
        let texts: Vec<_> = bodies.iter().map(|b| String::from_utf8_lossy(b)).collect();
        texts
            .iter()
            .flat_map(|t| t.lines())
            .filter_map(|l| {
                Some(
                    l.strip_prefix("Final-Recipient: rfc822;")?
                        .trim()
                        .to_owned(),
                )
            })
            .collect()
    };
    let began = Instant::now();
    while told().len() < 50 {
        assert!(
            began.elapsed() < PATIENCE,
            "{} told; {}\n{}",
            told().len(),
            server.tail(),
            server.log()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn sigterm_with_a_pipelined_body_unanswered() {
    let stalled = receiver(|_, mut guest| {
        guest.say("220 hi");
        guest.line();
        guest.say("250-hi\r\n250-PIPELINING\r\n250 CHUNKING");
        // Reads all of it and says nothing.
        while guest.line().is_some() {}
    });
    let mut server = Server::start(&[stalled], "", "");
    server.submit("a@b.example", &["c@d.example"], "Subject: x\r\n\r\nhello");
    std::thread::sleep(Duration::from_millis(500));
    let took = server.terminate();
    assert!(took < Duration::from_secs(9), "{took:?}");
    assert_eq!(server.count("stopped"), 1);
}

#[test]
fn a_receiver_that_takes_one_message_per_connection_gets_one() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let seen = taken.clone();
    let peer = receiver(move |_, mut guest| {
        guest.say("220 hi");
        guest.serve(usize::MAX, &seen, &["LIMITS MAILMAX=1"]);
    });
    let sections = quick_retry().replace("connections = 5", "connections = 1");
    let server = Server::start(&[peer], "", &sections);
    let mut client = server.client();
    client.expect("220");
    client.ask("EHLO client.example", "250");
    for i in 0..10 {
        client.hand_in("", &[&format!("u{i}@d.example")], "Subject: x\r\n\r\nhello");
    }
    server.wait_for("delivered", 10);
    assert_eq!(server.count("deferred"), 0, "{}", server.tail());
}
