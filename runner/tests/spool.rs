//! The spool from outside: what it promises, with a healthy disk.

mod spool_support;

use std::time::Duration;

use courser::spool::{
    Batch, Deferral, Options, Outcome, OutcomeKind, RefusedWhy, SpoolError, Stepped, Store,
};
use courser_core::time::Wall;
use spool_support::*;

#[test]
fn a_message_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, recovery) = Store::open(dir.path(), small()).unwrap();
    assert!(recovery.messages.is_empty() && recovery.warnings.is_empty());
    let waiter = Waiter::register(&spool, 3);
    let envelope = envelope(spool.next_id(), 2, 11);
    let id = envelope.id();
    spool
        .append_message(
            3,
            77,
            envelope.clone(),
            vec!["hello ".into(), "world".into()],
        )
        .unwrap();
    assert_eq!(waiter.wait(1), vec![(77, Ok(()))]);
    assert_eq!(&spool.read_body(id).unwrap()[..], b"hello world");
    assert_eq!(spool.read_envelope(id).unwrap(), envelope);
    let deferral = Deferral {
        attempts: 2,
        at: Wall::from_unix(55),
        due: Wall::from_unix(99),
        text: "451 later".into(),
        source: "a1".into(),
    };
    spool
        .append_outcomes(
            id,
            &[
                Outcome {
                    recipient: 0,
                    kind: OutcomeKind::Delivered,
                },
                Outcome {
                    recipient: 1,
                    kind: OutcomeKind::Deferred(deferral.clone()),
                },
                Outcome {
                    recipient: 1,
                    kind: OutcomeKind::DelayDsnSent,
                },
                Outcome {
                    recipient: 1,
                    kind: OutcomeKind::Held,
                },
            ],
            None,
        )
        .unwrap();
    drop(spool);

    let (spool, recovery) = Store::open(dir.path(), small()).unwrap();
    assert_eq!(recovery.warnings, []);
    let [message] = &recovery.messages[..] else {
        panic!("one message, not {:?}", recovery.messages)
    };
    assert_eq!(message.envelope, envelope);
    let [open] = &message.open[..] else {
        panic!("one open delivery")
    };
    assert_eq!(
        (
            open.recipient,
            open.last.as_ref(),
            open.held,
            open.delay_dsn_sent
        ),
        (1, Some(&deferral), true, true)
    );
    assert_eq!(&spool.read_body(id).unwrap()[..], b"hello world");
    assert!(spool.next_id() > id);
    spool.finish(id).unwrap();
    drop(spool);

    let (spool, recovery) = Store::open(dir.path(), small()).unwrap();
    assert!(recovery.messages.is_empty());
    drop(spool);
}

#[test]
fn appends_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    // A disk whose sync takes a while, as real ones do.
    let options = Options {
        disk: std::sync::Arc::new(SlowSync(Duration::from_millis(5))),
        ..small()
    };
    let (spool, _) = Store::open(dir.path(), options).unwrap();
    std::thread::scope(|scope| {
        for shard in 0..16 {
            let spool = spool.clone();
            scope.spawn(move || {
                let waiter = Waiter::register(&spool, shard);
                for token in 0..20 {
                    let envelope = envelope(spool.next_id(), 1, 3);
                    spool
                        .append_message(shard, token, envelope, vec!["abc".into()])
                        .unwrap();
                    assert_eq!(waiter.wait(1), vec![(token, Ok(()))]);
                }
            });
        }
    });
    let status = spool.status();
    assert_eq!((status.messages, status.synced_records), (320, 320));
    assert!(
        status.commits <= 80,
        "{} syncs for 320 messages of 16 senders",
        status.commits
    );
}

#[test]
fn all_pending_records_go_out_when_it_closes() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Store::open(dir.path(), small()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    for token in 0..100 {
        spool
            .append_message(
                0,
                token,
                envelope(spool.next_id(), 1, 3),
                vec!["abc".into()],
            )
            .unwrap();
    }
    spool.close();
    assert_eq!(waiter.wait(100).len(), 100);
    let refused = spool
        .append_message(0, 1, envelope(5, 1, 3), vec!["abc".into()])
        .unwrap_err();
    assert_eq!(refused.why, RefusedWhy::Closed);
    let (_spool, recovery) = Store::open(dir.path(), small()).unwrap();
    assert_eq!(recovery.messages.len(), 100);
}

#[test]
fn two_servers_never_share_a_spool() {
    let dir = tempfile::tempdir().unwrap();
    let (_spool, _) = Store::open(dir.path(), small()).unwrap();
    let Err(SpoolError::Locked { pid, .. }) = Store::open(dir.path(), small()) else {
        panic!("opened twice")
    };
    assert_eq!(pid, std::process::id());
}

#[test]
fn ids_are_never_given_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for _ in 0..5 {
        let (spool, _) = Store::open(dir.path(), small()).unwrap();
        for _ in 0..10 {
            let id = spool.next_id();
            assert!(id > last);
            last = id;
        }
    }
}

/// What is on its way empties a segment without help: copied forward is only what is left after a
/// while, or at once when disk space is short.
#[test]
fn a_sparse_segment_settles_before_it_is_copied_forward() {
    for (max_bytes, settles) in [(u64::MAX, true), (700_000, false)] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            settle: Duration::from_secs(10),
            max_bytes,
            ..small()
        };
        let began = std::time::Instant::now();
        let (spool, mut parts, _) = Stepped::open(dir.path(), options, began, 1).unwrap();
        let drive = |parts: &mut Stepped, after_ms: u64| {
            let now = began + Duration::from_millis(after_ms);
            loop {
                parts.write(now);
                if !(parts.sync(now) | parts.reclaim()) {
                    return;
                }
            }
        };
        let body = vec![b'x'; 1000];
        let mut ids = Vec::new();
        for _ in 0..300 {
            let id = spool.next_id();
            let body = vec![body.clone().into()];
            spool
                .append_message(0, id, envelope(id, 1, 1000), body)
                .unwrap();
            drive(&mut parts, 0);
            ids.push(id);
        }
        let outcome = Outcome {
            recipient: 0,
            kind: OutcomeKind::Delivered,
        };
        for (i, id) in ids.iter().enumerate() {
            if i % 50 > 0 {
                let batch = Batch::new()
                    .outcomes(*id, std::slice::from_ref(&outcome))
                    .finish(*id);
                spool.append(batch, None).unwrap();
                drive(&mut parts, 100);
            }
        }
        drive(&mut parts, 9_999);
        let before = spool.status();
        assert_eq!(before.compacted == 0, settles, "{before:?}");
        drive(&mut parts, 10_000);
        drive(&mut parts, 10_001);
        let after = spool.status();
        assert!(after.compacted >= 3, "{after:?}");
        if settles {
            assert!(after.bytes < before.bytes / 2, "{before:?} {after:?}");
        }
        for id in ids.iter().step_by(50) {
            assert_eq!(spool.read_body(*id).unwrap().len(), 1000);
        }
    }
}

#[test]
fn finished_segments_are_removed_and_sparse_ones_copied_forward() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Store::open(dir.path(), small()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let body = vec![b'x'; 1000];
    let mut kept = Vec::new();
    for i in 0..3000u64 {
        let id = spool.next_id();
        spool
            .append_message(0, id, envelope(id, 1, 1000), vec![body.clone().into()])
            .unwrap();
        if i % 50 == 0 {
            kept.push(id);
        }
        if i % 64 == 63 {
            let done: Vec<u64> = waiter
                .wait(64)
                .into_iter()
                .map(|(id, result)| result.map(|()| id).unwrap())
                .collect();
            for id in done.into_iter().filter(|id| !kept.contains(id)) {
                let outcome = Outcome {
                    recipient: 0,
                    kind: OutcomeKind::Delivered,
                };
                spool
                    .append(Batch::new().outcomes(id, &[outcome]).finish(id), None)
                    .unwrap();
            }
        }
    }
    until(|| spool.status().bytes < 1_000_000);
    assert!(spool.status().compacted > 0);
    for id in &kept {
        assert_eq!(spool.read_body(*id).unwrap().len(), 1000);
    }
    drop(spool);
    let (spool, recovery) = Store::open(dir.path(), small()).unwrap();
    assert_eq!(recovery.warnings, []);
    let ids: Vec<u64> = recovery.messages.iter().map(|m| m.envelope.id()).collect();
    assert!(kept.iter().all(|id| ids.contains(id)));
    // The last few weren't finished.
    assert!(ids.len() <= kept.len() + 64, "{} came back", ids.len());
    for id in ids {
        assert_eq!(spool.read_body(id).unwrap().len(), 1000);
        spool.finish(id).unwrap();
    }
    until(|| spool.status().segments == 1);
}

#[test]
fn what_ended_of_late_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let since = |ms| Options {
        endings_since_ms: Some(ms),
        ..small()
    };
    let ended = |recipient, kind| Outcome { recipient, kind };
    let (spool, recovery) = Store::open(dir.path(), since(0)).unwrap();
    assert_eq!(recovery.ended, []);
    let waiter = Waiter::register(&spool, 0);
    let mut ids = Vec::new();
    for recipients in [1, 3] {
        let id = spool.next_id();
        let envelope = envelope(id, recipients, 4);
        spool
            .append_message(0, id, envelope, vec!["body".into()])
            .unwrap();
        ids.push(id);
    }
    waiter.wait(2);
    // One is over, the other has an open delivery.
    let one = [ended(0, OutcomeKind::Delivered)];
    let of = Batch::new().endings(ids[0], 5000, &one).finish(ids[0]);
    spool.append(of, None).unwrap();
    for (at, recipient, kind) in [
        (4000, 0, OutcomeKind::Bounced),
        (6000, 2, OutcomeKind::Expired),
    ] {
        let one = [ended(recipient, kind)];
        let of = Batch::new()
            .endings(ids[1], at, &one)
            .outcomes(ids[1], &one);
        spool.append(of, None).unwrap();
    }
    drop(spool);
    let found = |options| {
        let (_, recovery) = Store::open(dir.path(), options).unwrap();
        assert_eq!(recovery.warnings, []);
        let [message] = &recovery.messages[..] else {
            panic!("one message, not {:?}", recovery.messages)
        };
        assert_eq!((message.envelope.id(), message.open.len()), (ids[1], 1));
        let ended = recovery.ended.into_iter();
        ended
            .map(|e| (e.envelope.id(), e.at_ms, e.outcome))
            .collect::<Vec<_>>()
    };
    let first = (ids[0], 5000, ended(0, OutcomeKind::Delivered));
    let old = (ids[1], 4000, ended(0, OutcomeKind::Bounced));
    let last = (ids[1], 6000, ended(2, OutcomeKind::Expired));
    assert_eq!(found(since(0)), [first.clone(), old, last.clone()]);
    assert_eq!(found(since(5000)), [first, last]);
    assert_eq!(found(since(6001)), []);
    assert_eq!(found(small()), []);
}

#[test]
fn segments_go_only_when_the_events_of_their_ends_are_on_disk() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    let dir = tempfile::tempdir().unwrap();
    let (asked, gate) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (asked_too, gate_too) = (asked.clone(), gate.clone());
    let options = Options {
        before_unlink: Some(Arc::new(move || {
            asked_too.fetch_add(1, Ordering::AcqRel);
            while !gate_too.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
        })),
        ..small()
    };
    let (spool, _) = Store::open(dir.path(), options).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let mut ids = Vec::new();
    for _ in 0..300 {
        let id = spool.next_id();
        let body = vec![vec![b'x'; 1000].into()];
        spool
            .append_message(0, id, envelope(id, 1, 1000), body)
            .unwrap();
        ids.push(id);
    }
    waiter.wait(300);
    let before = spool.status().segments;
    assert!(before > 2, "{before}");
    for id in ids {
        spool.finish(id).unwrap();
    }
    until(|| asked.load(Ordering::Acquire) > 0);
    assert_eq!(spool.status().segments, before);
    gate.store(true, Ordering::Release);
    until(|| spool.status().segments == 1);
}
