//! The examples against a scripted receiver.

// Both have the letter with them.
#![allow(clippy::duplicate_mod)]

#[path = "../examples/send_blocking.rs"]
#[allow(dead_code)]
mod send_blocking;
#[path = "../examples/send_tokio.rs"]
#[allow(dead_code)]
mod send_tokio;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the receiver waits for, and what it then says.
type Script = &'static [(&'static str, &'static str)];

const WITH_DATA: Script = &[
    ("", "220 mx.test ESMTP\r\n"),
    (
        "EHLO [127.0.0.1]\r\n",
        "250-mx.test\r\n250-PIPELINING\r\n250 SIZE\r\n",
    ),
    (
        "DATA\r\n",
        "250 ok\r\n250 ok\r\n550 5.1.1 no bob\r\n354 go\r\n",
    ),
    ("\r\n.\r\n", "250 2.0.0 queued as 1\r\n"),
    ("QUIT\r\n", "221 bye\r\n"),
];
const WITH_BDAT: Script = &[
    ("", "220 mx.test ESMTP\r\n"),
    (
        "EHLO [127.0.0.1]\r\n",
        "250-mx.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
    ),
    (
        "the end\r\n",
        "250 ok\r\n250 ok\r\n550 5.1.1 no bob\r\n250 2.0.0 queued as 1\r\n",
    ),
    ("QUIT\r\n", "221 bye\r\n"),
];
const HANGS_UP: Script = &[
    ("", "220 mx.test ESMTP\r\n"),
    ("EHLO [127.0.0.1]\r\n", "250 mx.test\r\n"),
    ("MAIL", ""),
];

/// Plays a script to one client, a few bytes at a time; gives what it received.
fn receiver(script: Script) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.set_nodelay(true).unwrap();
        play(&stream, script)
    });
    (address, thread)
}

fn play(mut stream: &TcpStream, script: Script) -> String {
    let (mut received, mut from) = (String::new(), 0);
    for (until, reply) in script {
        while !received[from..].contains(until) {
            let mut buffer = [0; 100];
            let n = stream.read(&mut buffer).unwrap();
            assert!(n > 0, "client left before {until:?}: {received}");
            received += std::str::from_utf8(&buffer[..n]).unwrap();
        }
        from = received.len();
        for part in reply.as_bytes().chunks(7) {
            stream.write_all(part).unwrap();
        }
    }
    received
}

/// A message with a dot to stuff; of several hundred kilobytes, so that writes are partial.
fn message() -> String {
    let lines = "A line of some length, and nothing to read in it at all.\n".repeat(4000);
    format!("Subject: hello\n\n.dot\n{lines}the end\n")
}

mod blocking {
    use super::*;

    fn send(script: Script) -> (Vec<String>, String) {
        let (address, receiver) = receiver(script);
        let to = ["ann@example.net", "bob@example.net"];
        let letter =
            send_blocking::letter::Letter::new("me@example.org", &to, message().as_bytes());
        let letter = letter.unwrap();
        let stream = TcpStream::connect(address).unwrap();
        let report = send_blocking::send(&stream, &letter).unwrap();
        assert!(!report.all_delivered());
        (report.lines(&letter), receiver.join().unwrap())
    }

    #[test]
    fn to_a_peer_with_data() {
        let (lines, received) = send(WITH_DATA);
        check_delivered(&lines);
        assert!(received.contains("\r\n..dot\r\n"), "stuffed");
    }

    #[test]
    fn to_a_peer_with_chunking() {
        let (lines, received) = send(WITH_BDAT);
        check_delivered(&lines);
        assert!(received.contains(" LAST\r\nSubject: hello\r\n\r\n.dot\r\n"));
    }

    #[test]
    fn to_a_peer_that_hangs_up() {
        let (lines, _) = send(HANGS_UP);
        assert_eq!(lines[0], "ann@example.net: not sent, Closed");
    }
}

mod tokio_ {
    use super::*;

    fn send(script: Script) -> (Vec<String>, String) {
        let (address, receiver) = receiver(script);
        let to = ["ann@example.net", "bob@example.net"];
        let letter = send_tokio::letter::Letter::new("me@example.org", &to, message().as_bytes());
        let letter = letter.unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let report = runtime.unwrap().block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            send_tokio::send(stream, &letter).await.unwrap()
        });
        assert!(!report.all_delivered());
        (report.lines(&letter), receiver.join().unwrap())
    }

    #[test]
    fn to_a_peer_with_data() {
        let (lines, received) = send(WITH_DATA);
        check_delivered(&lines);
        assert!(received.contains("\r\n..dot\r\n"), "stuffed");
    }

    #[test]
    fn to_a_peer_with_chunking() {
        let (lines, received) = send(WITH_BDAT);
        check_delivered(&lines);
        assert!(received.contains(" LAST\r\nSubject: hello\r\n\r\n.dot\r\n"));
    }

    #[test]
    fn to_a_peer_that_hangs_up() {
        let (lines, _) = send(HANGS_UP);
        assert_eq!(lines[0], "ann@example.net: not sent, Closed");
    }
}

fn check_delivered(lines: &[String]) {
    assert_eq!(
        lines,
        [
            "ann@example.net: delivered: 250 2.0.0 queued as 1",
            "bob@example.net: refused: 550 5.1.1 no bob",
        ]
    );
}
