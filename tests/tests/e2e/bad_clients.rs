//! Submitters that stall, drip, flood and never listen: the server stays up, within its bounds, and
//! serves the others.
//!
//! The bounds are those that the configuration's reference gives under `[limits]`, and
//! `max_connections` of the listener with what `REFUSED_LINGERING_MAX` adds.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use courser::intake::clients::REFUSED_LINGERING_MAX;
use courser_tests::bounds::{Bounds, MIB, SENDER_BYTES, told};
use courser_tests::client::{Client, small};
use courser_tests::eventually;
use courser_tests::net::connect_from;
use courser_tests::receiver::Receiver;
use courser_tests::server::{Server, smart_host};

/// Bytes of a line without an end.
const LINE_BYTES: u64 = 1_000_000_000;
/// How much of it the server takes at most before it closes: the intake's memory, what it throws away
/// of a refused body and of a refused client, and what lies in the sockets' buffers.
const TAKEN_BYTES_MAX: u64 = BOUNDS.intake + 16 * MIB + 4 * MIB + 32 * MIB;

/// What the configuration allows.
const BOUNDS: Bounds = Bounds {
    intake: 32 * MIB,
    body: 8 * MIB,
    pending: 8 * MIB,
};
/// Descriptors that come and go: files of the spool and of events, the control socket's connections,
/// and connections that are accepted or closed in this moment.
const OTHER_DESCRIPTORS: u64 = 64;

struct World {
    receiver: Receiver,
    server: Server,
    /// Resident bytes and descriptors before anything happened.
    before: (u64, u64),
    most_descriptors: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    watch: Option<JoinHandle<()>>,
    max_connections: u64,
}

/// A server with so many places, as many of them for one client, and these words in its listener,
/// under watch.
fn world(max_connections: u64, per_client: usize, listener: &str) -> World {
    let receiver = Receiver::friendly();
    let server = Server::start(&format!(
        "{}[[listener]]\nmax_connections = {max_connections}\nmax_connections_per_client = {per_client}\n{listener}\n{}",
        BOUNDS.config(),
        smart_host(receiver.address)
    ));
    // What it needs once is there from the first message on.
    Client::hello(server.address).submit("<a@good.test>", &["<b@dest.test>"], &small("first"));
    receiver.wait(1);
    server.wait_empty();
    let stop = Arc::new(AtomicBool::new(false));
    let most_descriptors = Arc::new(AtomicU64::new(0));
    let (watched, most, ended) = (server.pid(), most_descriptors.clone(), stop.clone());
    let watch = std::thread::spawn(move || {
        while !ended.load(Ordering::Acquire) {
            most.fetch_max(descriptors(watched), Ordering::AcqRel);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    World {
        before: (server.resident(), descriptors(server.pid())),
        receiver,
        server,
        most_descriptors,
        stop,
        watch: Some(watch),
        max_connections,
    }
}

fn descriptors(pid: u32) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |d| d.count() as u64)
}

impl World {
    fn open(&self) -> Client {
        Client::open(self.server.address).expect("a connection")
    }

    fn stream(&self, from: Ipv4Addr) -> io::Result<TcpStream> {
        let stream = connect_from(IpAddr::V4(from), self.server.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        Ok(stream)
    }

    /// Somebody who behaves is served, on a connection of his own.
    fn others_are_served(&self, how: &str) {
        // Who is told to come again later does so.
        let taken = eventually(15, || {
            let mut client = Client::hello(self.server.address);
            let reply = client.try_submit("<a@good.test>", &["<b@dest.test>"], &small(how));
            let reply = reply.expect("an answer");
            assert!(
                reply.starts_with("250 2.0.0") || reply.starts_with("452 4.3.1"),
                "{how}: {reply}"
            );
            reply.starts_with("250").then_some(())
        });
        assert!(taken.is_some(), "{how}: nothing was taken");
        let subject = format!("Subject: {how}\r\n");
        let there = eventually(15, || {
            let mails = self.receiver.mails();
            mails
                .iter()
                .any(|m| m.text().contains(&subject))
                .then_some(())
        });
        assert!(there.is_some(), "{how}: nothing was delivered");
    }

    /// All bad clients have gone: it is as before, and it was within its bounds all the time.
    fn end(mut self, name: &str) {
        let gone = eventually(20, || {
            let status = self.server.ask(&["status", "--json"]).swap_remove(0);
            (status["gauges"]["intake_sessions"] == 0).then_some(())
        });
        assert!(gone.is_some(), "{name}: sessions are left");
        self.others_are_served("after");
        self.server.wait_empty();
        let (resident, open) = self.before;
        let back = eventually(15, || {
            (descriptors(self.server.pid()) <= open + OTHER_DESCRIPTORS / 4).then_some(())
        });
        let now = descriptors(self.server.pid());
        assert!(
            back.is_some(),
            "{name}: {now} descriptors are open, {open} were"
        );
        self.stop.store(true, Ordering::Release);
        if let Some(watch) = self.watch.take() {
            watch.join().expect("the watch");
        }
        let most = self.most_descriptors.load(Ordering::Acquire);
        let may = open + self.max_connections + REFUSED_LINGERING_MAX as u64 + OTHER_DESCRIPTORS;
        let peak = self.server.resident_peak();
        let bound = BOUNDS.most(resident, self.max_connections * SENDER_BYTES);
        courser_tests::say(&format!(
            "bad_clients, {name}: {}; {open} descriptors at first, {most} at most of {may}\n",
            told(resident, peak, bound)
        ));
        assert!(peak <= bound && most <= may, "{name}");
        self.server.stop();
    }
}

/// What a client has said when it stops talking.
const STALLS: &[&str] = &[
    "",
    "E",
    "EHLO bad.test",
    "EHLO bad.test\r",
    "EHLO bad.test\r\n",
    "EHLO bad.test\r\nMAIL FROM:<a@bad.test",
    "EHLO bad.test\r\nMAIL FROM:<a@bad.test>\r\n",
    "EHLO bad.test\r\nMAIL FROM:<a@bad.test>\r\nRCPT TO:<b@dest.test>",
    "EHLO bad.test\r\nMAIL FROM:<a@bad.test>\r\nRCPT TO:<b@dest.test>\r\n",
    "EHLO bad.test\r\nMAIL FROM:<a@bad.test>\r\nRCPT TO:<b@dest.test>\r\nDATA\r",
    "EHLO bad.test\r\nMAIL FROM:<a@bad.test>\r\nRCPT TO:<b@dest.test>\r\nDATA\r\n",
    "EHLO bad.test\r\nMAIL FROM:<a@bad.test>\r\nRCPT TO:<b@dest.test>\r\nDATA\r\nSubject: half",
    "EHLO bad.test\r\nMAIL FROM:<a@bad.test>\r\nRCPT TO:<b@dest.test>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.",
    "EHLO bad.test\r\nMAIL FROM:<a@bad.test>\r\nRCPT TO:<b@dest.test>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r",
    "EHLO bad.test\r\nMAIL FROM:<a@bad.test>\r\nRCPT TO:<b@dest.test>\r\nBDAT 100 LAST\r\nhalf",
    "EHLO bad.test\r\nMAIL FROM:<a@bad.test>\r\nRCPT TO:<b@dest.test>\r\nBDAT 4\r\nhalf",
    "EHLO bad.test\r\nMAIL FROM:<a@bad.test>\r\nRCPT TO:<b@dest.test>\r\nBDAT 4 LAS",
];

pub(crate) fn stalls_at_every_step() {
    let w = world(200, 200, "command_timeout = \"2s\"\ndata_timeout = \"2s\"");
    let clients: Vec<_> = STALLS
        .iter()
        .cycle()
        .take(4 * STALLS.len())
        .map(|said| {
            let mut client = w.open();
            client.send(said.as_bytes()).expect("sent");
            (said, client)
        })
        .collect();
    w.others_are_served("while they stall");
    for (said, mut client) in clients {
        let mut last = String::new();
        while let Ok(Some(reply)) = client.reply() {
            last = reply;
        }
        assert_eq!(last, "421 4.4.2 Timed out waiting for you", "{said:?}");
    }
    let received = w.server.events_of("received");
    assert!(
        received.iter().all(|e| e["sender"] == "a@good.test"),
        "{received:#?}"
    );
    w.end("stalls");
}

pub(crate) fn one_byte_per_second() {
    let w = world(200, 200, "command_timeout = \"3s\"\ndata_timeout = \"3s\"");
    // A command must be whole in time, however busily it comes.
    let commands: Vec<_> = (0..20)
        .map(|_| {
            let mut client = w.open();
            std::thread::spawn(move || {
                client.expect("220");
                for byte in b"EHLO bad.test\r\n" {
                    if client.send(&[*byte]).is_err() {
                        break;
                    }
                    std::thread::sleep(Duration::from_secs(1));
                    // What was sent into a closed connection shows at the next byte.
                }
                client.reply().ok().flatten()
            })
        })
        .collect();
    // A body need not be, as long as each piece comes in time.
    let bodies: Vec<_> = (0..5)
        .map(|_| {
            let mut client = Client::hello(w.server.address);
            std::thread::spawn(move || {
                client
                    .command("MAIL FROM:<slow@good.test>")
                    .expect_code("250");
                client.command("RCPT TO:<b@dest.test>").expect_code("250");
                client.command("DATA").expect_code("354");
                for byte in b"A:\r\n.\r\n" {
                    client.send(&[*byte]).expect("it is listened to");
                    std::thread::sleep(Duration::from_secs(1));
                }
                client.expect("250 2.0.0 Queued as ");
            })
        })
        .collect();
    w.others_are_served("while they drip");
    for client in commands {
        let said = client.join().expect("a client");
        assert!(
            said.as_deref()
                .is_none_or(|s| s == "421 4.4.2 Timed out waiting for you"),
            "{said:?}"
        );
    }
    bodies
        .into_iter()
        .for_each(|b| b.join().expect("a slow client"));
    let slow = w.receiver.mails();
    assert_eq!(
        slow.iter()
            .filter(|m| m.sender() == "slow@good.test")
            .count(),
        5
    );
    w.end("drips");
}

pub(crate) fn floods_of_connections() {
    const PER_CLIENT: usize = 60;
    const FLOODERS: u8 = 3;
    const EACH: usize = 600;
    // Three times sixty are more than all may have.
    let w = world(150, PER_CLIENT, "");
    let mut inside = Client::hello(w.server.address);
    let flood = |last: u8| -> Vec<TcpStream> {
        // They neither read nor close.
        (0..EACH)
            .filter_map(|_| w.stream(Ipv4Addr::new(127, 0, 4, last)).ok())
            .collect()
    };
    let first = flood(1);
    w.others_are_served("beside one flood");
    let more: Vec<_> = (2..=FLOODERS).map(flood).collect();
    // All places are taken. Who was inside is served.
    inside.submit("<a@good.test>", &["<b@dest.test>"], &small("inside"));
    let mut late = w.open();
    late.expect("421 4.7.0 Too many sessions here, try again later");
    // What each of them reads in the end: a greeting, or why not.
    let mut greeted = Vec::new();
    for flood in std::iter::once(first).chain(more) {
        let mut here = 0;
        for mut stream in flood {
            let _ = stream.shutdown(Shutdown::Write);
            let mut said = String::new();
            let _ = stream.read_to_string(&mut said);
            here += usize::from(said.starts_with("220 "));
            // One that was cut off at once may have heard nothing.
            assert!(
                said.starts_with("220 ")
                    || said.starts_with("421 4.7.0 Too many sessions")
                    || said.is_empty(),
                "{said:?}"
            );
        }
        greeted.push(here);
    }
    let all: usize = greeted.iter().sum();
    assert!(greeted.iter().all(|n| *n <= PER_CLIENT), "{greeted:?}");
    assert_eq!((greeted[0], all), (PER_CLIENT, 149), "{greeted:?}");
    drop(inside);
    w.end("floods of connections");
}

pub(crate) fn floods_of_recipients() {
    let w = world(200, 200, "max_recipients = 1000");
    // As long as they may be.
    let recipient = |n: usize| {
        let (local, label) = (format!("{n:0>64}"), "d".repeat(59));
        let domain = format!("{label}.{label}.{label}.test");
        let orcpt = "o".repeat(480);
        format!("RCPT TO:<{local}@{domain}> ORCPT=rfc822;{orcpt}\r\n")
    };
    let commands: String = (0..1100).map(recipient).collect();
    let flood = |n: usize| -> Vec<(Client, Vec<String>)> {
        let begun: Vec<_> = (0..n)
            .map(|_| {
                let mut client = Client::hello(w.server.address);
                let commands = commands.clone();
                std::thread::spawn(move || {
                    client.command("MAIL FROM:<a@bad.test>").expect_code("250");
                    let mut said = Vec::new();
                    for line in commands
                        .split_inclusive('\n')
                        .collect::<Vec<_>>()
                        .chunks(20)
                    {
                        if client.send(line.concat().as_bytes()).is_err() {
                            break;
                        }
                        for _ in line {
                            match client.reply() {
                                Ok(Some(reply)) => said.push(reply),
                                _ => return (client, said),
                            }
                        }
                    }
                    (client, said)
                })
            })
            .collect();
        begun
            .into_iter()
            .map(|t| t.join().expect("a client"))
            .collect()
    };
    let count = |all: &[(Client, Vec<String>)], code: &str| -> usize {
        all.iter()
            .flat_map(|(_, s)| s)
            .filter(|s| s.starts_with(code))
            .count()
    };
    let few = flood(4);
    assert_eq!(count(&few, "250 2.1.5"), 4000);
    assert!(count(&few, "452 4.5.3 Too many recipients in one transaction") > 0);
    w.others_are_served("beside four thousand recipients");
    // More than there is memory for: they are told so, and what is held stays within it.
    let many = flood(60);
    let (taken, full) = (
        count(&many, "250 2.1.5"),
        count(&many, "452 4.3.1 Too much mail"),
    );
    assert!(
        full > 0 && taken < 60_000,
        "{taken} were taken, {full} were not"
    );
    drop((few, many));
    w.end("floods of recipients");
}

/// Sends `begin` and then a line that has no end, until the server closes. Gives
/// how many did, and what it said.
fn endless(w: &World, begin: &str) -> (u64, String) {
    let mut stream = w.stream(Ipv4Addr::LOCALHOST).expect("a connection");
    let mut listening = stream.try_clone().expect("the same connection");
    let listener = std::thread::spawn(move || {
        let mut said = Vec::new();
        let mut buf = [0; 4096];
        while let Ok(n @ 1..) = listening.read(&mut buf) {
            said.extend_from_slice(&buf[..n]);
        }
        String::from_utf8_lossy(&said).into_owned()
    });
    let block = vec![b'x'; 1 << 20];
    let mut sent = 0;
    if stream.write_all(begin.as_bytes()).is_ok() {
        while sent < LINE_BYTES {
            match stream.write(&block) {
                Ok(n) => sent += n as u64,
                Err(_) => break,
            }
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    (sent, listener.join().expect("a listener"))
}

pub(crate) fn lines_without_an_end() {
    // Large messages are allowed here: it is the memory that ends them.
    let w = world(
        100,
        100,
        "max_message_size = \"1GiB\"\ncommand_timeout = \"5s\"\ndata_timeout = \"5s\"",
    );
    let begun = "EHLO bad.test\r\nMAIL FROM:<a@bad.test>\r\nRCPT TO:<b@dest.test>\r\n";
    let ways = [
        ("a command", String::new(), "500 5.5."),
        ("EHLO", "EHLO ".to_owned(), "500 5.5."),
        (
            "a sender",
            "EHLO bad.test\r\nMAIL FROM:<".to_owned(),
            "500 5.5.",
        ),
        (
            "a parameter",
            "EHLO bad.test\r\nMAIL FROM:<a@bad.test> SIZE=".to_owned(),
            "500 5.5.",
        ),
        (
            "DATA",
            format!("{begun}DATA\r\nSubject: "),
            "452 4.3.1 Too much mail",
        ),
        (
            "the text",
            format!("{begun}DATA\r\nSubject: x\r\n\r\n"),
            "452 4.3.1 Too much mail",
        ),
        (
            "BDAT",
            format!("{begun}BDAT {LINE_BYTES} LAST\r\n"),
            "452 4.3.1 Too much mail",
        ),
    ];
    let mut told = Vec::new();
    std::thread::scope(|scope| {
        let all: Vec<_> = ways
            .iter()
            .map(|(name, begin, reply)| {
                let w = &w;
                scope.spawn(move || (name, reply, endless(w, begin)))
            })
            .collect();
        w.others_are_served("beside lines without an end");
        for client in all {
            let (name, reply, (sent, said)) = client.join().expect("a client");
            let last = said.lines().last().unwrap_or_default().to_owned();
            assert!(
                said.lines().any(|l| l.starts_with(reply)) || said.is_empty(),
                "{name}: {said:?}"
            );
            assert!(sent <= TAKEN_BYTES_MAX, "{name}: it took {sent} bytes");
            told.push(format!("{name} {sent} ({last})"));
        }
    });
    courser_tests::say(&format!(
        "bad_clients, of lines of {LINE_BYTES} bytes the server took: {}\n",
        told.join(", ")
    ));
    w.end("lines without an end");
}

pub(crate) fn zeros_everywhere() {
    let w = world(100, 100, "max_errors = 5");
    let nul = "\0".repeat(100);
    let begun = "EHLO bad.test\r\nMAIL FROM:<a@bad.test>\r\nRCPT TO:<b@dest.test>\r\n";
    for bytes in [
        format!("{nul}\r\n"),
        format!("EHLO {nul}\r\n"),
        format!("EHLO bad.test\r\nMAIL FROM:<{nul}@bad.test>\r\n"),
        format!("EHLO bad.test\r\nMAIL FROM:<\"{nul}\"@bad.test>\r\n"),
        format!("EHLO bad.test\r\nMAIL FROM:<a@bad.test> ENVID={nul}\r\n"),
        format!("{begun}{nul}\r\n"),
        nul.repeat(1000),
    ] {
        let mut client = w.open();
        client.send(bytes.as_bytes()).expect("sent");
        let _ = client.send(b"\r\nQUIT\r\n");
        let mut replies = Vec::new();
        while let Ok(Some(reply)) = client.reply() {
            replies.push(reply);
        }
        assert!(
            replies.iter().any(|r| r.starts_with('5')),
            "{bytes:?}: {replies:?}"
        );
    }
    // In a message they are content, which isn't ours to change.
    for chunked in [false, true] {
        let text = format!("Subject: {nul}\r\n\r\n{nul}\r\n");
        let mut client = w.open();
        client.send(begun.as_bytes()).expect("sent");
        let data = if chunked {
            format!("BDAT {} LAST\r\n{text}", text.len())
        } else {
            format!("DATA\r\n{text}.\r\n")
        };
        client.send(data.as_bytes()).expect("sent");
        client.send(b"QUIT\r\n").expect("sent");
        let mut replies = Vec::new();
        while let Ok(Some(reply)) = client.reply() {
            replies.push(reply);
        }
        assert!(
            replies
                .iter()
                .any(|r| r.starts_with("250 2.0.0 Queued as ")),
            "{replies:?}"
        );
        let there = eventually(10, || {
            let mails = w.receiver.mails();
            let zeros = mails
                .iter()
                .filter(|m| m.without_received() == text.as_bytes())
                .count();
            (zeros == 1 + usize::from(chunked)).then_some(())
        });
        assert!(there.is_some(), "{:#?}", w.receiver.mails().last());
    }
    w.end("zeros");
}

pub(crate) fn never_listens() {
    let w = world(200, 200, "command_timeout = \"2s\"\ndata_timeout = \"2s\"");
    // A mail, and as many long answers as one may ask for before the next.
    let message = small("unheard");
    let transaction = format!(
        "{}MAIL FROM:<a@bad.test>\r\nRCPT TO:<b@dest.test>\r\nBDAT {} LAST\r\n{}",
        "EHLO bad.test\r\n".repeat(90),
        message.len(),
        String::from_utf8_lossy(&message)
    );
    // The first ones are told to go after some of it. The last does nothing wrong, and is never told:
    // its answers fill every buffer on the way.
    let endless = [
        "NOOP\r\n".repeat(10_000),
        "EHLO bad.test\r\n".repeat(5_000),
        "HELP\r\nVRFY a@b.test\r\nFOO\r\n".repeat(3_000),
        format!(
            "EHLO bad.test\r\n{}",
            "MAIL FROM:<a@bad.test>\r\nRCPT TO:<b@dest.test>\r\nRSET\r\n".repeat(2_000)
        ),
        transaction.repeat(2_000),
    ];
    let clients: Vec<_> = (0..30)
        .map(|n| {
            let mut stream = w.stream(Ipv4Addr::LOCALHOST).expect("a connection");
            let least: i32 = 1;
            // SAFETY: `least` outlives the call, and its size is given.
            unsafe {
                libc::setsockopt(
                    stream.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_RCVBUF,
                    (&raw const least).cast(),
                    size_of::<i32>() as libc::socklen_t,
                );
            }
            let commands = endless[if n == 0 { 4 } else { n % 4 }].clone();
            std::thread::spawn(move || {
                let began = Instant::now();
                let mut sent = 0;
                // It ends when the server has closed.
                while began.elapsed() < Duration::from_secs(30) {
                    match stream.write(&commands.as_bytes()[sent % commands.len()..]) {
                        Ok(n) => sent += n,
                        Err(_) => return true,
                    }
                }
                false
            })
        })
        .collect();
    w.others_are_served("while nobody listens");
    for client in clients {
        assert!(
            client.join().expect("a client"),
            "one was listened to for half a minute"
        );
    }
    w.end("never listens");
}
