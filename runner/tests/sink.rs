//! What `courser sink` does to a client, one behaviour after the other, over real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use courser::sink::{Behaviour, Config, Extension, Pipelining, ReceiverConfig, Share, Sink, Stage};

fn start(behaviour: Behaviour) -> Sink {
    let receiver = ReceiverConfig {
        name: "mx.test".into(),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        behaviour,
        ..ReceiverConfig::default()
    };
    let config = Config {
        receivers: vec![receiver],
        ..Config::default()
    };
    Sink::start(config).unwrap()
}

struct Client(TcpStream);

impl Client {
    fn to(sink: &Sink) -> Self {
        Self::at(sink.receivers()[0].addresses()[0])
    }

    fn at(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        let patience = Some(Duration::from_secs(10));
        stream.set_read_timeout(patience).unwrap();
        Self(stream)
    }

    /// One reply, all its lines; empty when the connection is closed.
    fn reply(&mut self) -> String {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            while !line.ends_with('\n') {
                let mut byte = [0];
                match self.0.read(&mut byte) {
                    Ok(1) => line.push(char::from(byte[0])),
                    _ => return text,
                }
            }
            text.push_str(&line);
            if line.as_bytes()[3] == b' ' {
                return text;
            }
        }
    }

    fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    fn say(&mut self, line: &str) -> String {
        self.send(&format!("{line}\r\n"));
        self.reply()
    }

    /// Greeting and EHLO; the capabilities.
    fn hello(sink: &Sink) -> (Self, String) {
        let mut client = Self::to(sink);
        assert!(client.reply().starts_with("220 mx.test "));
        let capabilities = client.say("EHLO client.test");
        (client, capabilities)
    }

    /// A whole message to each of `to`; the last reply.
    fn message(&mut self, id: &str, to: &[&str]) -> String {
        let mail = self.say("MAIL FROM:<a@client.test>");
        if !mail.starts_with("250") {
            return mail;
        }
        let replies: Vec<_> = to
            .iter()
            .map(|to| self.say(&format!("RCPT TO:<{to}>")))
            .collect();
        if replies.iter().all(|reply| !reply.starts_with("250")) {
            self.say("RSET");
            return replies.concat();
        }
        assert!(self.say("DATA").starts_with("354"));
        self.say(&format!("Message-ID: <{id}>\r\n\r\nhello\r\n."))
    }
}

fn counts(sink: &Sink) -> courser::sink::Counts {
    sink.receivers()[0].counts()
}

/// What the sink counts of a connection may come a moment after the client's part of it.
fn wait_for(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(10), "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn takes_mail_and_counts() {
    let sink = start(Behaviour::default());
    let (mut client, capabilities) = Client::hello(&sink);
    for extension in [
        "PIPELINING",
        "CHUNKING",
        "8BITMIME",
        "SMTPUTF8",
        "DSN",
        "SIZE",
    ] {
        assert!(capabilities.contains(extension), "{capabilities}");
    }
    assert!(
        client
            .message("1@c", &["ann@mx.test", "bob@mx.test"])
            .starts_with("250 2.0.0")
    );
    assert!(client.message("1@c", &["Ann@mx.test"]).starts_with("250"));
    // Everything in one packet, with a body in BDAT, and the next message behind it.
    client.send(
        "MAIL FROM:<>\r\nRCPT TO:<c@mx.test>\r\nBDAT 6 LAST\r\nhello\n\
         MAIL FROM:<>\r\nRCPT TO:<c@mx.test>\r\nBDAT 7 LAST\r\nhello\r\nQUIT\r\n",
    );
    let replies: Vec<_> = (0..7).map(|_| client.reply()[..3].to_owned()).collect();
    // A bare LF is no line end.
    assert_eq!(replies, ["250", "250", "554", "250", "250", "250", "221"]);
    assert_eq!(client.reply(), "");
    let counts = counts(&sink);
    assert_eq!(
        (counts.messages, counts.recipients, counts.duplicates),
        (3, 4, 1)
    );
    let receiver = sink.receiver("mx.test").unwrap();
    assert_eq!(
        (
            receiver.deliveries_to("ann@mx.test"),
            receiver.deliveries_to("c@mx.test")
        ),
        (2, 1)
    );
    wait_for(|| self::counts(&sink).connections_open == 0);
}

#[test]
fn offers_what_it_is_told_to() {
    use Extension::{Chunking, Dsn, EightBitMime, EnhancedStatusCodes, Size, Smtputf8};
    let sink = start(Behaviour {
        without: vec![
            Extension::Pipelining,
            Chunking,
            Dsn,
            EightBitMime,
            EnhancedStatusCodes,
            Size,
            Smtputf8,
        ],
        ..Behaviour::default()
    });
    let (mut client, capabilities) = Client::hello(&sink);
    assert_eq!(capabilities, "250-mx.test\r\n250 HELP\r\n");
    assert_eq!(client.say("BDAT 0"), "502 BDAT is not offered\r\n");

    let sink = start(Behaviour {
        without: vec![Extension::Ehlo],
        ..Behaviour::default()
    });
    let (mut client, capabilities) = Client::hello(&sink);
    assert_eq!(capabilities, "502 5.5.1 EHLO is not implemented\r\n");
    assert_eq!(client.say("HELO client.test"), "250 mx.test\r\n");
    assert!(client.message("1@c", &["a@mx.test"]).starts_with("250"));

    let sink = start(Behaviour {
        size_limit: 1000,
        announce_limits: true,
        recipients_per_transaction: 3,
        messages_per_connection: 2,
        ..Behaviour::default()
    });
    let (mut client, capabilities) = Client::hello(&sink);
    assert!(capabilities.contains("SIZE 1000\r\n"), "{capabilities}");
    assert!(capabilities.contains("RCPTMAX=3") && capabilities.contains("MAILMAX=2"));
    assert!(
        client
            .say("MAIL FROM:<> SIZE=1001")
            .starts_with("552 5.3.4")
    );
}

#[test]
fn speaks_lmtp() {
    let sink = start(Behaviour {
        lmtp: true,
        ..Behaviour::default()
    });
    let mut client = Client::to(&sink);
    client.reply();
    assert!(client.say("LHLO client.test").starts_with("250"));
    assert!(
        client
            .message("1@c", &["a@mx.test", "b@mx.test"])
            .starts_with("250")
    );
    assert!(client.reply().starts_with("250"), "one for each recipient");
    let counts = counts(&sink);
    assert_eq!(
        (counts.messages, counts.recipients, counts.duplicates),
        (1, 2, 0)
    );
}

#[test]
fn refuses_recipients_and_messages() {
    let sink = start(Behaviour {
        unknown: Share::new(1.0),
        ..Behaviour::default()
    });
    let (mut client, _) = Client::hello(&sink);
    assert!(
        client
            .message("1@c", &["a@mx.test"])
            .starts_with("550 5.1.1")
    );
    assert_eq!(counts(&sink).refused("unknown"), 1);

    let sink = start(Behaviour {
        spam: Share::new(1.0),
        replies: vec![("spam".into(), "554 5.7.1 [CS01] no".parse().unwrap())],
        ..Behaviour::default()
    });
    let (mut client, _) = Client::hello(&sink);
    assert_eq!(
        client.message("1@c", &["a@mx.test"]),
        "554 5.7.1 [CS01] no\r\n"
    );
    assert_eq!(counts(&sink).messages, 0);

    let sink = start(Behaviour {
        greylist: Some(Duration::from_millis(200)),
        ..Behaviour::default()
    });
    let (mut client, _) = Client::hello(&sink);
    assert!(
        client
            .message("1@c", &["a@mx.test"])
            .starts_with("451 4.7.1")
    );
    std::thread::sleep(Duration::from_millis(220));
    assert!(client.message("1@c", &["a@mx.test"]).starts_with("250"));

    let sink = start(Behaviour {
        recipients_per_transaction: 1,
        ..Behaviour::default()
    });
    let (mut client, _) = Client::hello(&sink);
    assert!(
        client
            .message("1@c", &["a@mx.test", "b@mx.test"])
            .starts_with("250")
    );
    assert_eq!(counts(&sink).refused("recipients"), 1);
    assert_eq!(counts(&sink).recipients, 1);
}

#[test]
fn sends_clients_away() {
    let sink = start(Behaviour {
        message_rate: Some("1/h".parse().unwrap()),
        ..Behaviour::default()
    });
    let (mut client, _) = Client::hello(&sink);
    assert!(client.message("1@c", &["a@mx.test"]).starts_with("250"));
    assert!(
        client
            .message("2@c", &["a@mx.test"])
            .starts_with("421 4.7.28")
    );
    assert_eq!(client.reply(), "", "and closes");

    let sink = start(Behaviour {
        messages_per_connection: 1,
        ..Behaviour::default()
    });
    let (mut client, _) = Client::hello(&sink);
    assert!(client.message("1@c", &["a@mx.test"]).starts_with("250"));
    assert!(client.message("2@c", &["a@mx.test"]).starts_with("421"));

    let sink = start(Behaviour {
        connections: 1,
        ..Behaviour::default()
    });
    let (first, _) = Client::hello(&sink);
    let mut second = Client::to(&sink);
    assert!(second.reply().starts_with("421"));
    assert_eq!(second.reply(), "");
    drop((first, second));
    wait_for(|| counts(&sink).connections_open == 0);
    Client::hello(&sink);

    let sink = start(Behaviour {
        busy: Share::new(1.0),
        ..Behaviour::default()
    });
    assert!(Client::to(&sink).reply().starts_with("421 4.3.2"));
}

#[test]
fn closes_without_a_word() {
    let dropping = |close_after| {
        start(Behaviour {
            close_after: Some(close_after),
            ..Behaviour::default()
        })
    };
    let sink = dropping(Stage::Connect);
    assert_eq!(Client::to(&sink).reply(), "");
    let sink = dropping(Stage::Hello);
    assert_eq!(Client::hello(&sink).1, "");
    for (stage, taken) in [(Stage::Body, 0), (Stage::Accept, 1)] {
        let sink = dropping(stage);
        let (mut client, _) = Client::hello(&sink);
        assert_eq!(client.message("1@c", &["a@mx.test"]), "", "{stage:?}");
        assert_eq!(counts(&sink).messages, taken);
        assert_eq!(counts(&sink).dropped, 1);
    }
    // What was answered before it is said.
    let sink = dropping(Stage::Rcpt);
    let (mut client, _) = Client::hello(&sink);
    client.send("MAIL FROM:<>\r\nRCPT TO:<a@mx.test>\r\nNOOP\r\n");
    assert!(client.reply().starts_with("250 2.1.0"));
    assert_eq!(client.reply(), "");
    let sink = dropping(Stage::Reply);
    let (mut client, _) = Client::hello(&sink);
    assert!(client.message("1@c", &["a@mx.test"]).starts_with("250"));
    assert_eq!(client.reply(), "");
}

#[test]
fn takes_its_time() {
    let time = Duration::from_millis(60);
    let timed = |what: &mut dyn FnMut()| {
        let start = Instant::now();
        what();
        start.elapsed()
    };
    let sink = start(Behaviour {
        latency: time,
        ..Behaviour::default()
    });
    let mut client = None;
    assert!(timed(&mut || client = Some(Client::hello(&sink))) >= 2 * time);

    let sink = start(Behaviour {
        delay_accept: time,
        ..Behaviour::default()
    });
    let (mut client, _) = Client::hello(&sink);
    assert!(timed(&mut || drop(client.message("1@c", &["a@mx.test"]))) >= time);

    let sink = start(Behaviour {
        unknown: Share::new(1.0),
        tarpit: time,
        ..Behaviour::default()
    });
    let (mut client, _) = Client::hello(&sink);
    assert!(timed(&mut || drop(client.message("1@c", &["a@mx.test", "b@mx.test"]))) >= 2 * time);
}

#[test]
fn lies_about_pipelining() {
    let sink = start(Behaviour {
        pipelining: Pipelining::Forgetful,
        ..Behaviour::default()
    });
    let (mut client, capabilities) = Client::hello(&sink);
    assert!(capabilities.contains("PIPELINING"));
    client.send("MAIL FROM:<>\r\nRCPT TO:<a@mx.test>\r\n");
    assert!(client.reply().starts_with("250 2.1.0"));
    assert!(
        client.say("NOOP").starts_with("250 2.0.0"),
        "RCPT is forgotten"
    );
    client.say("RSET");
    assert!(
        client.message("1@c", &["a@mx.test"]).starts_with("250"),
        "in step it works"
    );

    let sink = start(Behaviour {
        pipelining: Pipelining::Closing,
        ..Behaviour::default()
    });
    let (mut client, _) = Client::hello(&sink);
    client.send("MAIL FROM:<>\r\nRCPT TO:<a@mx.test>\r\n");
    assert!(client.reply().starts_with("250"));
    assert_eq!(client.reply(), "");
}

#[test]
fn takes_thousands_of_connections() {
    let sink = start(Behaviour::default());
    let mut clients: Vec<_> = (0..400).map(|_| Client::to(&sink)).collect();
    for client in &mut clients {
        assert!(client.reply().starts_with("220"));
    }
    assert_eq!(counts(&sink).connections_peak, 400);
}

#[test]
fn as_a_program() {
    let dir = tempfile::tempdir().unwrap();
    let (stats, list, save) = (
        dir.path().join("stats"),
        dir.path().join("list"),
        dir.path().join("mail"),
    );
    let mut sink = Command::new(env!("CARGO_BIN_EXE_courser"))
        .args([
            "sink",
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "127.0.0.1:0",
            "--threads",
            "2",
        ])
        .arg("--stats")
        .arg(&stats)
        .arg("--list")
        .arg(&list)
        .arg("--save")
        .arg(&save)
        .args(["--messages", "2", "--without", "chunking,dsn"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let read = || -> Option<serde_json::Value> {
        serde_json::from_slice(&std::fs::read(&stats).ok()?).ok()
    };
    wait_for(|| read().is_some());
    let listen = read().unwrap()["receivers"]["sink"]["listen"].clone();
    for i in 0..2 {
        let mut client = Client::at(listen[i].as_str().unwrap().parse().unwrap());
        client.reply();
        assert!(!client.say("EHLO client.test").contains("CHUNKING"));
        assert!(client.message("1@c", &["ann@a.test"]).starts_with("250"));
    }
    let mut printed = String::new();
    sink.stdout
        .take()
        .unwrap()
        .read_to_string(&mut printed)
        .unwrap();
    assert!(sink.wait().unwrap().success());
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed, read().unwrap());
    assert_eq!(printed["total"]["messages"], 2);
    assert_eq!(printed["total"]["duplicates"], 1);
    let listed = std::fs::read_to_string(list).unwrap();
    assert_eq!(listed, "sink ann@a.test <1@c>\n".repeat(2));
    let saved = std::fs::read_dir(save).unwrap().map(|f| f.unwrap().path());
    let saved: Vec<_> = saved.map(|f| std::fs::read_to_string(f).unwrap()).collect();
    assert_eq!(saved.len(), 2);
    assert!(
        saved[0].contains("X-Sink-Mail-From: <a@client.test>\r\nX-Sink-Rcpt-To: <ann@a.test>\r\n")
    );
    assert!(saved[0].ends_with("\r\nMessage-ID: <1@c>\r\n\r\nhello\r\n"));
}
