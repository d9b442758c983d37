//! The program as a child process on loopback, with a receiver that answers as a test says.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A port that nobody else has now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Looks again and again until there is something.
pub(crate) fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A message that a receiver took.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    /// Its reverse-path.
    pub(crate) sender: String,
    /// Its recipients.
    pub(crate) recipients: Vec<String>,
    /// Its content.
    pub(crate) content: String,
}

type Answer = dyn Fn(&str) -> Option<&'static str> + Send + Sync;

/// A receiver that refuses recipients as a test says, and keeps what it takes.
pub(crate) struct Receiver {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    taken: Arc<Mutex<Vec<Taken>>>,
}

impl Receiver {
    /// `refuse` gives the reply to a RCPT that is refused.
    pub(crate) fn start(
        refuse: impl Fn(&str) -> Option<&'static str> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken: Arc<Mutex<Vec<Taken>>> = Arc::default();
        let (refuse, all): (Arc<Answer>, _) = (Arc::new(refuse), taken.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (refuse, all) = (refuse.clone(), all.clone());
                std::thread::spawn(move || drop(receive(&stream, &*refuse, &all)));
            }
        });
        Self { address, taken }
    }

    /// What it took so far.
    pub(crate) fn messages(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }

    /// Waits until it took `n` recipients.
    pub(crate) fn wait_for(&self, n: usize) {
        wait("deliveries", || {
            let got: usize = self.messages().iter().map(|m| m.recipients.len()).sum();
            (got >= n).then_some(())
        });
    }

    /// Waits for such a message.
    pub(crate) fn wait_for_message(&self, is_it: impl Fn(&Taken) -> bool) -> Taken {
        wait("a message", || {
            self.messages().iter().find(|m| is_it(m)).cloned()
        })
    }
}

fn path(line: &str) -> String {
    let start = line.find('<').unwrap() + 1;
    line[start..line.find('>').unwrap()].to_owned()
}

fn receive(stream: &TcpStream, refuse: &Answer, taken: &Mutex<Vec<Taken>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    out.write_all(b"220 receiver.test\r\n")?;
    let mut now = Taken {
        sender: String::new(),
        recipients: Vec::new(),
        content: String::new(),
    };
    let mut line = String::new();
    while {
        line.clear();
        lines.read_line(&mut line)? > 0
    } {
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => out.write_all(b"250-receiver.test\r\n250-8BITMIME\r\n250 PIPELINING\r\n")?,
            "MAIL" => {
                now.sender = path(&line);
                now.recipients.clear();
                out.write_all(b"250 2.1.0 fine\r\n")?;
            }
            "RCPT" => {
                let to = path(&line);
                match refuse(&to) {
                    Some(reply) => out.write_all(format!("{reply}\r\n").as_bytes())?,
                    None => {
                        now.recipients.push(to);
                        out.write_all(b"250 2.1.5 fine\r\n")?;
                    }
                }
            }
            "DATA" if now.recipients.is_empty() => out.write_all(b"554 5.5.1 nobody\r\n")?,
            "DATA" => {
                out.write_all(b"354 go\r\n")?;
                now.content.clear();
                loop {
                    let mut line = String::new();
                    lines.read_line(&mut line)?;
                    if line == ".\r\n" {
                        break;
                    }
                    now.content
                        .push_str(line.strip_prefix('.').unwrap_or(&line));
                }
                taken.lock().unwrap().push(now.clone());
                out.write_all(b"250 2.0.0 taken\r\n")?;
            }
            "QUIT" => {
                out.write_all(b"221 bye\r\n")?;
                break;
            }
            _ => out.write_all(b"250 fine\r\n")?,
        }
    }
    Ok(())
}

/// The program, serving; killed when dropped.
pub(crate) struct Server {
    dir: tempfile::TempDir,
    listen: SocketAddr,
    head: String,
    child: Child,
}

impl Server {
    /// All mail goes to `receiver`; `listener` are more options of the listener, `more` is the rest
    /// of the configuration.
    pub(crate) fn start(receiver: &Receiver, listener: &str, more: &str) -> Self {
        Self::start_with_shards(receiver, listener, more, 1)
    }

    /// With so many shards.
    pub(crate) fn start_with_shards(
        receiver: &Receiver,
        listener: &str,
        more: &str,
        shards: usize,
    ) -> Self {
        let route = format!(
            "[[route]]\ndomain = \"*\"\nto = [\"{}\"]\n",
            receiver.address
        );
        Self::start_alone(listener, &format!("{route}{more}"), shards)
    }

    /// Without a receiver.
    pub(crate) fn start_alone(listener: &str, more: &str, shards: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let at = dir.path().display();
        let head = format!(
            r#"
hostname = "mail.sender.example"
[server]
shards = {shards}
control_socket = "{at}/control.sock"
drain_timeout = "5s"
[spool]
dir = "{at}/spool"
min_free = "1MiB"
min_free_percent = "0%"
reserve = "64KiB"
[events]
dir = "{at}/events"
compress = false
[log]
level = "warn"
[[listener]]
address = ["{listen}"]
{listener}
"#
        );
        std::fs::write(dir.path().join("courser.toml"), format!("{head}{more}")).unwrap();
        let child = Self::child(&dir);
        let server = Self {
            dir,
            listen,
            head,
            child,
        };
        server.wait_until_up();
        server
    }

    fn child(dir: &tempfile::TempDir) -> Child {
        Command::new(env!("CARGO_BIN_EXE_courser"))
            .arg("serve")
            .arg("--config")
            .arg(dir.path().join("courser.toml"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn wait_until_up(&self) {
        wait("the server", || {
            TcpStream::connect(self.listen)
                .is_ok()
                .then_some(())
                .filter(|()| self.try_courser(&["status", "--json"]).is_some())
        });
    }

    /// Another configuration behind the same listener, read by a reload.
    pub(crate) fn reload(&self, more: &str) -> String {
        let text = format!("{}{more}", self.head);
        std::fs::write(self.dir.path().join("courser.toml"), text).unwrap();
        self.courser(&["reload"])
    }

    /// Kills it and starts it again.
    pub(crate) fn crash_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::child(&self.dir);
        self.wait_until_up();
    }

    /// Where it takes mail.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listen
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    fn try_courser(&self, args: &[&str]) -> Option<String> {
        let output = Command::new(env!("CARGO_BIN_EXE_courser"))
            .args(args)
            .arg("--socket")
            .arg(self.socket())
            .output()
            .unwrap();
        output
            .status
            .success()
            .then(|| String::from_utf8(output.stdout).unwrap())
    }

    /// Runs a subcommand against it.
    pub(crate) fn courser(&self, args: &[&str]) -> String {
        self.try_courser(args)
            .unwrap_or_else(|| panic!("courser {args:?} failed"))
    }

    /// The same, as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let mut args = args.to_vec();
        args.push("--json");
        serde_json::from_str(&self.courser(&args)).unwrap()
    }

    /// A number of the status.
    pub(crate) fn gauge(&self, name: &str) -> u64 {
        self.json(&["status"])["gauges"][name].as_u64().unwrap()
    }

    /// Waits until no delivery is left.
    pub(crate) fn wait_until_empty(&self) {
        wait("an empty queue", || {
            (self.gauge("queued") == 0).then_some(())
        });
    }

    /// All events of a kind, after those that are on their way.
    pub(crate) fn events(&self, kind: &str) -> Vec<serde_json::Value> {
        std::thread::sleep(Duration::from_millis(300));
        let mut all = Vec::new();
        for file in std::fs::read_dir(self.dir.path().join("events")).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap_or_default();
            for line in text.lines() {
                let event: serde_json::Value = serde_json::from_str(line).unwrap();
                if event["kind"] == kind {
                    all.push(event);
                }
            }
        }
        all
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that hands in mail.
pub(crate) struct Submitter {
    lines: BufReader<TcpStream>,
}

impl Submitter {
    /// Connects and greets.
    pub(crate) fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self {
            lines: BufReader::new(stream),
        };
        assert!(client.read_reply().starts_with("220"));
        client.command("EHLO client.example", "250");
        client
    }

    /// One reply, whole.
    pub(crate) fn read_reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let from = reply.len();
            self.lines.read_line(&mut reply).unwrap();
            if reply.as_bytes()[from..].get(3) != Some(&b'-') {
                return reply;
            }
        }
    }

    /// Sends a line and expects such a reply.
    pub(crate) fn command(&mut self, line: &str, code: &str) -> String {
        self.lines
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())
            .unwrap();
        let reply = self.read_reply();
        assert!(reply.starts_with(code), "{line}: {reply}");
        reply
    }

    /// Hands in a message; its id.
    pub(crate) fn send_to(&mut self, recipients: &[&str]) -> String {
        self.send("", recipients)
    }

    /// The same with more header fields, each with its CRLF.
    pub(crate) fn send(&mut self, header: &str, recipients: &[&str]) -> String {
        self.command("MAIL FROM:<news@sender.example>", "250");
        for to in recipients {
            self.command(&format!("RCPT TO:<{to}>"), "250");
        }
        self.command("DATA", "354");
        let reply = self.command(&format!("{header}Subject: hi\r\n\r\nhello\r\n."), "250");
        reply.trim_end().rsplit(' ').next().unwrap().to_owned()
    }
}
