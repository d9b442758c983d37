//! What a server says to a stream, and what comes out behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use courser_tests::peers::Postfix;
use courser_tests::receiver::Receiver;
use courser_tests::{eventually, net};

use super::streams::Stream;

/// Streams at once.
const LANES: usize = 8;

/// A message as it came out at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) from: String,
    pub(super) to: BTreeSet<String>,
    /// Without the trace field of the server.
    pub(super) content: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Without the greeting.
    pub(super) replies: Vec<String>,
    /// In the order of their ids in the replies.
    pub(super) messages: Vec<Taken>,
}

/// Whether the reply says that a message was taken, and its id.
pub(super) fn queued(reply: &str) -> Option<&str> {
    let reply = reply.strip_prefix("250 2.0.0 ")?;
    reply
        .strip_prefix("Queued as ")
        .or_else(|| reply.strip_prefix("Ok: queued as "))
        .or_else(|| {
            let (_, id) = reply.split_once("bytes queued as ")?;
            Some(id)
        })
}

/// Greeting, then the whole stream at once, then the end; all replies.
fn play(from: IpAddr, to: SocketAddr, stream: &[u8]) -> Vec<String> {
    let mut tcp = net::connect_from(from, to).expect("a connection");
    tcp.set_read_timeout(Some(Duration::from_secs(180)))
        .expect("a time-out");
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(b"\n") {
        assert_eq!(tcp.read(&mut byte).expect("a greeting"), 1);
        said.push(byte[0]);
    }
    assert!(
        said.starts_with(b"220 "),
        "{}",
        String::from_utf8_lossy(&said)
    );
    said.clear();
    let mut writer = tcp.try_clone().expect("a second handle");
    let stream = stream.to_vec();
    // A server that has closed doesn't read on; that is its right.
    let writing = std::thread::spawn(move || {
        let _ = writer.write_all(&stream);
        let _ = writer.shutdown(Shutdown::Write);
    });
    let mut buffer = [0; 4096];
    loop {
        match tcp.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => said.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(e) => panic!("no end: {e}, so far {}", String::from_utf8_lossy(&said)),
        }
    }
    let _ = writing.join();
    let said = String::from_utf8_lossy(&said).into_owned();
    let (mut replies, mut reply) = (Vec::new(), String::new());
    for line in said.lines() {
        reply.push_str(line);
        if line.as_bytes().get(3) == Some(&b'-') {
            reply.push('\n');
        } else {
            replies.push(std::mem::take(&mut reply));
        }
    }
    replies
}

/// A server under test and the receiver behind it.
pub(super) struct Side {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) receiver: Receiver,
    pub(super) postfix: Option<Postfix>,
}

impl Side {
    /// Plays all streams, waits until everything that was taken has come out, and sorts it.
    pub(super) fn play(&self, streams: &[Stream], block: u8) -> Vec<Seen> {
        let next = AtomicUsize::new(0);
        let mut seen: Vec<(usize, Seen)> = std::thread::scope(|scope| {
            let lanes: Vec<_> = (0..LANES)
                .map(|_| {
                    scope.spawn(|| {
                        let mut mine = Vec::new();
                        loop {
                            let n = next.fetch_add(1, Ordering::Relaxed);
                            let Some(stream) = streams.get(n) else {
                                return mine;
                            };
                            let from = Ipv4Addr::new(
                                127,
                                block + (n >> 16) as u8,
                                (n >> 8) as u8,
                                n as u8,
                            );
                            let replies = play(from.into(), self.address, &stream.bytes);
                            mine.push((
                                n,
                                Seen {
                                    replies,
                                    messages: Vec::new(),
                                },
                            ));
                        }
                    })
                })
                .collect();
            lanes
                .into_iter()
                .flat_map(|l| l.join().expect("a lane ends"))
                .collect()
        });
        seen.sort_by_key(|(n, _)| *n);
        let mut seen: Vec<Seen> = seen.into_iter().map(|(_, s)| s).collect();
        let ids: Vec<&str> = seen
            .iter()
            .flat_map(|s| &s.replies)
            .filter_map(|r| queued(r))
            .collect();
        let mut out = BTreeMap::new();
        let all = eventually(180, || {
            out = self.out();
            ids.iter().all(|id| out.contains_key(*id)).then_some(())
        });
        let missing: Vec<_> = ids.iter().filter(|id| !out.contains_key(**id)).collect();
        // Why Postfix has not sent what it took.
        let log: Vec<String> = match &self.postfix {
            Some(postfix) => {
                let log = postfix.log();
                let of = |line: &&str| missing.iter().any(|id| line.contains(**id));
                log.lines().filter(of).take(20).map(str::to_owned).collect()
            }
            None => Vec::new(),
        };
        assert!(
            all.is_some(),
            "{}: {} of {} messages never came out: {:?}\n{log:#?}",
            self.name,
            missing.len(),
            ids.len(),
            &missing[..missing.len().min(5)]
        );
        let count = ids.len();
        for s in &mut seen {
            s.messages = s
                .replies
                .iter()
                .filter_map(|r| queued(r))
                .map(|id| out[id].clone())
                .collect();
        }
        // Nothing came out that nobody was told of.
        let told: BTreeSet<String> = seen
            .iter()
            .flat_map(|s| &s.replies)
            .filter_map(|r| queued(r))
            .map(str::to_owned)
            .collect();
        assert_eq!(told.len(), count);
        let untold: Vec<_> = out
            .iter()
            .filter(|(id, m)| !told.contains(*id) && !m.from.is_empty())
            .collect();
        assert!(
            untold.is_empty(),
            "{}: came out, but nobody was told: {untold:#?}",
            self.name
        );
        seen
    }

    /// What came out so far, by the id in the trace field.
    fn out(&self) -> BTreeMap<String, Taken> {
        let mut out: BTreeMap<String, Taken> = BTreeMap::new();
        for mail in self.receiver.mails() {
            let (trace, rest) = split_trace(&mail.content);
            let id = trace
                .split(" id ")
                .nth(1)
                .and_then(|t| t.split(['\r', '\n', ';', ' ']).next())
                .unwrap_or_default();
            let taken = Taken {
                from: mail.sender().to_owned(),
                to: mail.recipients().into_iter().collect(),
                content: rest.to_vec(),
            };
            // Recipients may go in several transactions.
            match out.get_mut(id) {
                Some(there) => {
                    assert_eq!(
                        (&there.from, &there.content),
                        (&taken.from, &taken.content),
                        "{id}: two contents"
                    );
                    there.to.extend(taken.to);
                }
                None => drop(out.insert(id.to_owned(), taken)),
            }
        }
        out
    }
}

/// The trace field that the server added, which ends with a date, and the content behind it, which
/// may begin with a space.
fn split_trace(content: &[u8]) -> (String, &[u8]) {
    let end = |line: &[u8]| line.ends_with(b" +0000\r\n") || line.ends_with(b" +0000 (UTC)\r\n");
    let mut at = 0;
    for line in content.split_inclusive(|b| *b == b'\n').take(10) {
        at += line.len();
        if end(line) {
            break;
        }
    }
    let (trace, rest) = content.split_at(at);
    (String::from_utf8_lossy(trace).into_owned(), rest)
}
