//! The event log: what it writes, and what it does when the disk doesn't take it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use courser::control::{DeliverySelector, MessageId};
use courser::events::*;

fn sample(n: u64) -> Event {
    Event {
        time: Time(1_785_542_400_123 + n),
        kind: EventKind::Deferred(Box::new(delivery(n))),
    }
}

fn delivery(n: u64) -> DeliveryEvent {
    DeliveryEvent {
        message: Message {
            message: MessageId(n),
            sender: "news@example.com".into(),
            tenant: "acme".into(),
            campaign: "spring".into(),
            stream: "bulk".into(),
            tags: String::new(),
            envid: String::new(),
            size: 10_240,
        },
        delivery: Delivery {
            delivery: DeliverySelector {
                message: MessageId(n),
                recipient: Some(4),
            },
            recipient: "jörg@example.org".into(),
            domain: "example.org".into(),
        },
        lane: Some(Lane {
            source: "a1".into(),
            site: "mx.example.org".into(),
            provider: String::new(),
            source_address: Some("192.0.2.7".parse().unwrap()),
            ehlo_name: "out1.example.com".into(),
        }),
        peer: Some(Peer {
            peer_host: "mx1.example.org".into(),
            peer_address: Some("[2001:db8::1]:25".parse().unwrap()),
            tls: Some(Tls {
                version: "TLSv1.3".into(),
                cipher: "TLS_AES_256_GCM_SHA384".into(),
                verified: "authorities".into(),
                certificate: String::new(),
            }),
        }),
        reply: Some(Reply {
            code: 451,
            enhanced: "4.7.1".into(),
            text: "Greylisted,\n\"come back\"".into(),
            stage: "rcpt".into(),
        }),
        verdict: Some(Verdict {
            class: "greylisted".into(),
            scope: "recipient".into(),
            permanent: false,
            pressure: false,
            rule: String::new(),
        }),
        cause: String::new(),
        timing: Timing {
            attempt: 1,
            queued_ms: 12,
            connect_ms: 30,
            transfer_ms: 0,
        },
        next_attempt: Some(Time(1_785_542_700_123)),
    }
}

fn kinds() -> Vec<EventKind> {
    let client = || Client {
        client_address: Some("127.0.0.1".parse().unwrap()),
        client_helo: "app".into(),
        client_user: "u".into(),
        client_tls: Some(Tls {
            version: "TLSv1.2".into(),
            cipher: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".into(),
            verified: "authorities".into(),
            certificate: "app.example.com".into(),
        }),
        listener: "submission".into(),
    };
    let bare = DeliveryEvent {
        lane: None,
        peer: None,
        reply: None,
        verdict: None,
        cause: "by operator".into(),
        next_attempt: None,
        ..delivery(1)
    };
    let plain_peer = Peer {
        tls: None,
        ..delivery(1).peer.unwrap()
    };
    vec![
        EventKind::Received(Box::new(Received {
            message: delivery(1).message,
            client: client(),
            recipients: 3,
            commit_ms: 2,
        })),
        EventKind::Delivered(Box::new(DeliveryEvent {
            peer: Some(plain_peer),
            ..delivery(1)
        })),
        EventKind::Deferred(Box::new(delivery(1))),
        EventKind::Bounced(Box::new(delivery(1))),
        EventKind::Expired(Box::new(delivery(1))),
        EventKind::Suppressed(Box::new(bare.clone())),
        EventKind::Held(Box::new(bare.clone())),
        EventKind::Released(Box::new(bare)),
        EventKind::Dsn(Box::new(Dsn {
            message: delivery(1).message,
            deliveries: vec![delivery(1).delivery.delivery],
            action: "failed".into(),
            dsn: Some(MessageId(9)),
            cause: String::new(),
        })),
        EventKind::Refused(Box::new(Refused {
            client: client(),
            sender: Some("a@b.example".into()),
            recipient: None,
            reply: Reply {
                code: 452,
                enhanced: "4.3.1".into(),
                text: "no room".into(),
                stage: "mail".into(),
            },
            cause: "the spool is nearly full".into(),
        })),
        EventKind::AuthFailed(Box::new(AuthFailed {
            client: client(),
            mechanism: "PLAIN".into(),
            cause: "wrong password".into(),
        })),
        EventKind::AuthBlocked(Box::new(AuthBlocked {
            client: client(),
            blocked: "address".into(),
            until: Time(1_785_542_700_000),
            cause: "too many wrong passwords from this address".into(),
        })),
        EventKind::Throttled(Box::new(Throttled {
            lane: delivery(1).lane.unwrap(),
            reply: None,
            verdict: delivery(1).verdict,
            cause: "window halved to 4".into(),
            until: Some(Time(1_785_542_700_000)),
        })),
        EventKind::Connection(Box::new(Connection {
            lane: delivery(1).lane.unwrap(),
            peer: delivery(1).peer.unwrap(),
            opened: true,
            cause: "quit".into(),
            reply: None,
            transactions: 5,
            delivered: 4,
            connect_ms: 10,
            open_ms: 400,
        })),
        EventKind::TlsPolicy(Box::new(TlsPolicy {
            domain: "example.org".into(),
            what: "not-allowed".into(),
            mode: "testing".into(),
            mx: vec!["mx1.example.org".into(), "*.mail.example.org".into()],
            hosts: vec!["mx2.example.org".into()],
            cause: "it is only tested".into(),
            ..TlsPolicy::default()
        })),
        EventKind::TlsPolicy(Box::new(TlsPolicy {
            domain: "example.org".into(),
            what: "new".into(),
            mode: "enforce".into(),
            mx: vec!["mx1.example.org".into()],
            max_age_s: 86_400,
            cause: "mail goes there".into(),
            ..TlsPolicy::default()
        })),
        EventKind::TlsPolicy(Box::new(TlsPolicy {
            domain: "example.org".into(),
            what: "fetch-failed".into(),
            result: "sts-webpki-invalid".into(),
            cause: "its certificate has expired".into(),
            ..TlsPolicy::default()
        })),
        EventKind::Spool {
            state: "nearly-full".into(),
            reason: "3 MB are free".into(),
        },
        EventKind::Damage(Box::new(Damage {
            path: "/spool/segments/x".into(),
            from: 8,
            to: 64,
            cause: "changed on disk".into(),
            message: Some(MessageId(7)),
            kept_in: None,
        })),
        EventKind::Reloaded {
            applied: true,
            changed: vec!["events.keep".into()],
            problems: vec![],
        },
        EventKind::Started {
            version: "0.1.0".into(),
            pid: 42,
            messages: 10,
            deliveries: 12,
        },
        EventKind::Stopped {
            reason: "SIGTERM".into(),
            deliveries: 3,
        },
        EventKind::Lost {
            count: 5,
            since: Time(0),
            until: Time(1000),
        },
    ]
}

#[test]
fn every_kind_has_its_line() {
    let mut text = Vec::new();
    for kind in kinds() {
        Event {
            time: Time(1_785_542_400_123),
            kind,
        }
        .write_line(&mut text);
    }
    insta::assert_snapshot!(String::from_utf8(text).unwrap());
}

#[test]
fn every_kind_reads_back() {
    for kind in kinds() {
        let event = Event {
            time: Time(1_785_542_400_123),
            kind,
        };
        let mut line = Vec::new();
        event.write_line(&mut line);
        assert_eq!(
            serde_json::from_slice::<Event>(&line).unwrap(),
            event,
            "{}",
            String::from_utf8_lossy(&line)
        );
        assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    files
}

/// All lines of all files.
fn lines(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for path in files(dir) {
        let mut text = String::new();
        let mut file = fs::File::open(&path).unwrap();
        if path.extension().unwrap() == "zst" {
            zstd::Decoder::new(file)
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
        } else {
            file.read_to_string(&mut text).unwrap();
        }
        assert!(
            text.ends_with('\n'),
            "{} ends in the middle of a line",
            path.display()
        );
        all.extend(text.lines().map(str::to_owned));
    }
    all
}

/// The ids of the deferred ones, sorted.
fn ids(lines: &[String]) -> Vec<u64> {
    let mut ids: Vec<u64> = lines
        .iter()
        .filter_map(|l| serde_json::from_str::<Event>(l).ok())
        .filter_map(|e| Some(e.message()?.message.0))
        .collect();
    ids.sort_unstable();
    ids
}

fn until(mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "it didn't become so within 20 s"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn files_rotate_by_size_and_are_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        rotate_bytes: 20_000,
        ..Options::default()
    };
    let log = EventLog::open(dir.path(), options.clone()).unwrap();
    let sink = log.sink();
    for n in 0..500 {
        let mut events = vec![sample(2 * n), sample(2 * n + 1)];
        sink.send_blocking(&mut events);
        if n % 10 == 0 {
            until(|| sink.status().queued == 0);
        }
    }
    log.close();
    assert_eq!(ids(&lines(dir.path())), (0..1000).collect::<Vec<_>>());
    let compressed = files(dir.path())
        .iter()
        .filter(|p| p.extension().unwrap() == "zst")
        .count();
    assert!(compressed > 3, "{:?}", files(dir.path()));
    // What is left open by one run is compressed by the next.
    EventLog::open(dir.path(), options).unwrap().close();
    assert!(
        files(dir.path())
            .iter()
            .all(|p| p.extension().unwrap() == "zst"),
        "{:?}",
        files(dir.path())
    );
    assert_eq!(ids(&lines(dir.path())), (0..1000).collect::<Vec<_>>());
}

#[test]
fn files_rotate_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::open(
        dir.path(),
        Options {
            rotate_every: Duration::from_millis(20),
            compress: false,
            ..Options::default()
        },
    )
    .unwrap();
    for n in 0..3 {
        log.sink().send_blocking(&mut vec![sample(n)]);
        std::thread::sleep(Duration::from_millis(60));
    }
    log.close();
    assert_eq!(files(dir.path()).len(), 3);
    assert_eq!(ids(&lines(dir.path())), [0, 1, 2]);
}

#[test]
fn the_oldest_files_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..12 {
        fs::write(
            dir.path().join(format!("events-20200101T000000-{n}.jsonl")),
            "{}\n",
        )
        .unwrap();
    }
    fs::write(dir.path().join("other.txt"), "mine").unwrap();
    let names = |dir: &Path| {
        files(dir)
            .iter()
            .map(|p| p.file_name().unwrap().to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    EventLog::open(
        dir.path(),
        Options {
            keep_files: 3,
            ..Options::default()
        },
    )
    .unwrap()
    .close();
    let kept = [
        "events-20200101T000000-10.jsonl.zst",
        "events-20200101T000000-11.jsonl.zst",
        "events-20200101T000000-9.jsonl.zst",
        "other.txt",
    ];
    assert_eq!(names(dir.path()), kept);
    EventLog::open(
        dir.path(),
        Options {
            keep_bytes: 30,
            ..Options::default()
        },
    )
    .unwrap()
    .close();
    assert_eq!(names(dir.path()).len(), 3);
    EventLog::open(
        dir.path(),
        Options {
            keep: Some(Duration::ZERO),
            ..Options::default()
        },
    )
    .unwrap()
    .close();
    assert_eq!(names(dir.path()), ["other.txt"]);
}

#[test]
fn a_cut_line_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events-20200101T000000-0.jsonl");
    let mut text = Vec::new();
    sample(1).write_line(&mut text);
    text.extend(b"{\"time\":\"20");
    fs::write(&path, text).unwrap();
    fs::write(
        dir.path().join("events-20190101T000000-0.jsonl.zst.part"),
        "x",
    )
    .unwrap();
    let log = EventLog::open(
        dir.path(),
        Options {
            compress: false,
            keep: None,
            ..Options::default()
        },
    )
    .unwrap();
    log.sink().send_blocking(&mut vec![sample(2)]);
    log.close();
    let lines = lines(dir.path());
    assert_eq!((lines.len(), ids(&lines)), (3, vec![1, 2]));
}

/// A log whose folder has become a file: nothing can be written.
fn broken(options: Options) -> (tempfile::TempDir, EventLog) {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::open(dir.path().join("log"), options).unwrap();
    log.sink().send_blocking(&mut vec![sample(0)]);
    until(|| log.sink().status().written == 1);
    fs::remove_dir_all(dir.path().join("log")).unwrap();
    fs::write(dir.path().join("log"), "in the way").unwrap();
    (dir, log)
}

fn mend(dir: &tempfile::TempDir) {
    fs::remove_file(dir.path().join("log")).unwrap();
}

#[test]
fn a_removed_folder_loses_nothing_that_is_sent_after() {
    let (dir, log) = broken(Options::default());
    let sink = log.sink();
    for n in 1..=50 {
        sink.send_blocking(&mut vec![sample(n)]);
    }
    until(|| sink.status().trouble.is_some());
    assert_eq!(sink.status().lost, 0);
    mend(&dir);
    until(|| sink.status().written == 51);
    assert_eq!(sink.status().trouble, None);
    log.close();
    assert_eq!(
        ids(&lines(&dir.path().join("log"))),
        (1..=50).collect::<Vec<_>>()
    );
}

#[test]
fn a_full_queue_gives_events_back_then_drops_them_loudly() {
    let (dir, log) = broken(Options {
        queue_events: 10,
        block: Duration::from_millis(100),
        ..Options::default()
    });
    let sink = log.sink();
    let mut events: Vec<_> = (1..=25).map(sample).collect();
    assert!(!sink.try_send(&mut events));
    assert_eq!(
        (events.len(), events[0].message().unwrap().message),
        (15, MessageId(11))
    );
    let started = Instant::now();
    sink.send_blocking(&mut events);
    assert!(events.is_empty() && started.elapsed() >= Duration::from_millis(100));
    assert_eq!(sink.status().lost, 15);
    mend(&dir);
    until(|| sink.status().queued == 0);
    log.close();
    let lines = lines(&dir.path().join("log"));
    assert_eq!(ids(&lines), (1..=10).collect::<Vec<_>>());
    let lost = lines
        .iter()
        .map(|l| serde_json::from_str::<Event>(l).unwrap())
        .find(|e| matches!(e.kind, EventKind::Lost { .. }));
    assert_eq!(
        lost.unwrap().kind,
        EventKind::Lost {
            count: 15,
            since: sample(11).time,
            until: sample(25).time
        }
    );
}

#[test]
fn the_queue_is_bounded_by_bytes() {
    let (_dir, log) = broken(Options {
        queue_bytes: 10_000,
        ..Options::default()
    });
    let sink = log.sink();
    let mut events: Vec<_> = (1..=100).map(sample).collect();
    assert!(!sink.try_send(&mut events));
    let status = sink.status();
    assert!(
        status.queued >= 5 && status.queued_bytes <= 10_000,
        "{status:?}"
    );
    assert_eq!(status.queued as usize + events.len(), 100);
}

#[test]
fn a_task_waits_for_room_and_finds_it() {
    let (dir, log) = broken(Options {
        queue_events: 4,
        block: Duration::from_secs(20),
        ..Options::default()
    });
    let sink = log.sink();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut events: Vec<_> = (1..=4).map(sample).collect();
        sink.send(&mut events).await;
        let sender = sink.clone();
        let waiting = tokio::spawn(async move { sender.send(&mut vec![sample(5)]).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!waiting.is_finished());
        mend(&dir);
        waiting.await.unwrap();
    });
    log.close();
    assert_eq!(ids(&lines(&dir.path().join("log"))), [1, 2, 3, 4, 5]);
}

#[test]
fn closing_writes_what_is_queued_and_refuses_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::open(dir.path(), Options::default()).unwrap();
    let sink = log.sink();
    assert!(sink.try_send(&mut (0..5000).map(sample).collect()));
    log.close();
    assert_eq!(ids(&lines(dir.path())), (0..5000).collect::<Vec<_>>());
    let mut late = vec![sample(1)];
    assert!(!sink.try_send(&mut late) && late.len() == 1);
    sink.send_blocking(&mut late);
    assert_eq!(sink.status().lost, 1);
}

#[test]
fn a_subscriber_sees_events_as_they_pass() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::open(dir.path(), Options::default()).unwrap();
    let mut tap = log.sink().subscribe();
    log.sink().send_blocking(&mut vec![sample(3)]);
    assert_eq!(*tap.blocking_recv().unwrap(), sample(3));
}

#[test]
fn many_senders_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::open(
        dir.path(),
        Options {
            queue_events: 100,
            rotate_bytes: 100_000,
            ..Options::default()
        },
    )
    .unwrap();
    std::thread::scope(|scope| {
        for t in 0..4 {
            let sink = log.sink();
            scope.spawn(move || {
                for n in 0..50 {
                    sink.send_blocking(
                        &mut (0..20).map(|i| sample(t * 1000 + n * 20 + i)).collect(),
                    );
                }
            });
        }
    });
    assert_eq!(log.sink().status().lost, 0);
    log.close();
    assert_eq!(ids(&lines(dir.path())), (0..4000).collect::<Vec<_>>());
}
