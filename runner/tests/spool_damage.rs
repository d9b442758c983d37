//! What is damaged stays what the first start took it for, after it was copied forward too.

mod spool_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use courser::spool::record::{HEADER_BYTES, Header, Kind};
use courser::spool::{Batch, Options, Outcome, OutcomeKind, ReadError, Spool, Stepped, Store};
use spool_support::*;

/// Longer than sparse segments are left alone.
const SETTLED: Duration = Duration::from_secs(60);

/// Fills the spool until its first segment is no longer among those that may be unsynced.
fn fill(spool: &Spool, waiter: &Waiter) -> Vec<u64> {
    let ids = (0..60).map(|_| {
        let id = spool.next_id();
        spool
            .append_message(0, id, envelope(id, 1, 5000), vec![vec![b'x'; 5000].into()])
            .unwrap();
        waiter.wait(1);
        id
    });
    ids.collect()
}

fn first_segment(dir: &Path) -> PathBuf {
    let entries = fs::read_dir(dir.join("segments")).unwrap();
    entries.map(|e| e.unwrap().path()).min().unwrap()
}

/// Where the messages of a segment begin.
fn messages(path: &Path) -> Vec<(usize, Header)> {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let (_, salt) = stem.split_once('-').unwrap();
    let salt = u64::from_str_radix(salt, 16).unwrap();
    let data = fs::read(path).unwrap();
    let (mut found, mut begin) = (Vec::new(), 0);
    while let Some(Ok(header)) = data.get(begin..).map(|d| Header::decode(d, salt)) {
        found.push((begin, header));
        begin += header.record_len() as usize;
    }
    found.retain(|(_, header)| header.kind == Kind::Message);
    found
}

/// Changes a byte of the record of `id`, `at` from where it begins.
fn harm(dir: &Path, id: u64, at: impl Fn(&Header) -> usize) {
    let path = first_segment(dir);
    let of = messages(&path).into_iter().find(|(_, h)| h.id == id);
    let (begin, header) = of.unwrap();
    let mut data = fs::read(&path).unwrap();
    data[begin + at(&header)] ^= 1;
    fs::write(&path, data).unwrap();
}

/// Opens the spool three times, and copies forward what there is to copy; gives what each start
/// finds of `id`: how many of its deliveries are open, and its content.
fn starts(dir: &Path, id: u64) -> Vec<(usize, Result<Bytes, ReadError>)> {
    let mut copied = 0;
    let found = (0..3)
        .map(|_| {
            let mut now = Instant::now();
            let (spool, mut parts, recovery) = Stepped::open(dir, quick(), now, 1).unwrap();
            let of = recovery.messages.iter().find(|m| m.envelope.id() == id);
            let found = (of.map_or(0, |m| m.open.len()), spool.read_body(id));
            for _ in 0..2 {
                loop {
                    parts.write(now);
                    if !(parts.sync(now) | parts.reclaim()) {
                        break;
                    }
                }
                now += SETTLED;
            }
            copied += spool.status().compacted;
            parts.close(now);
            found
        })
        .collect();
    assert!(copied > 0, "nothing was copied");
    found
}

#[test]
fn an_outcome_whose_group_is_damaged_never_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Store::open(dir.path(), quick()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let bounced = spool.next_id();
    let body = || vec![Bytes::from_static(b"body")];
    spool
        .append_message(0, bounced, envelope(bounced, 1, 4), body())
        .unwrap();
    waiter.wait(1);
    // The notification is lost: so the delivery must be made again, or its sender would never hear.
    let notification = spool.next_id();
    let outcome = [Outcome {
        recipient: 0,
        kind: OutcomeKind::Bounced,
    }];
    let group = Batch::new()
        .message(envelope(notification, 1, 4), body())
        .outcomes(bounced, &outcome);
    spool.append(group, None).unwrap();
    fill(&spool, &waiter);
    drop(spool);
    harm(dir.path(), notification, |_| HEADER_BYTES + 3);
    for (start, (open, _)) in starts(dir.path(), bounced).into_iter().enumerate() {
        assert_eq!(open, 1, "start {start}");
    }
}

#[test]
fn an_old_segment_stays_old_when_those_behind_it_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Store::open(dir.path(), quick()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let kept = fill(&spool, &waiter);
    // All of the first segment is kept, nothing of the others. No record behind its last message says
    // how far it is synced.
    let last = messages(&first_segment(dir.path())).pop().unwrap().1.id;
    for id in kept.into_iter().filter(|id| *id > last) {
        spool.finish(id).unwrap();
    }
    drop(spool);
    harm(dir.path(), last, |header| {
        HEADER_BYTES + header.head_len as usize + 3
    });
    for start in 0..3 {
        let (spool, recovery) = Store::open(dir.path(), quick()).unwrap();
        let found = recovery.messages.iter().any(|m| m.envelope.id() == last);
        assert!(found, "start {start}: {:?}", recovery.warnings);
        until(|| spool.status().segments <= 2);
    }
}

#[test]
fn a_damaged_body_is_told_after_every_start() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Store::open(dir.path(), quick()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let mut first = 0;
    for _ in 0..2 {
        let id = spool.next_id();
        let body = vec![Bytes::from_static(b"a body that is kept for some time")];
        spool
            .append_message(0, id, envelope(id, 1, 33), body)
            .unwrap();
        waiter.wait(1);
        first = if first == 0 { id } else { first };
    }
    drop(spool);
    harm(dir.path(), first, |header| {
        HEADER_BYTES + header.head_len as usize + 3
    });
    // Each start finds its copy in the newest segment, where it could be one that failed to reach the
    // disk.
    for (start, (open, body)) in starts(dir.path(), first).into_iter().enumerate() {
        assert_eq!(open, 1, "start {start}");
        assert!(
            matches!(body, Err(ReadError::Corrupt)),
            "start {start}: {body:?}"
        );
    }
}

/// In how many segments a message lies.
fn copies(dir: &Path, id: u64) -> usize {
    let entries = fs::read_dir(dir.join("segments")).unwrap();
    let lies = |path: &PathBuf| messages(path).iter().any(|(_, h)| h.id == id);
    entries.map(|e| e.unwrap().path()).filter(lies).count()
}

/// Ends all messages of the first segment but those that `keep`, and gives the ids of that segment.
fn thin_out(spool: &Spool, dir: &Path, keep: impl Fn(&[u64], u64) -> bool) -> Vec<u64> {
    let ids = messages(&first_segment(dir)).into_iter().map(|(_, h)| h.id);
    let ids: Vec<u64> = ids.collect();
    for id in ids.iter().filter(|id| !keep(&ids, **id)) {
        spool.finish(*id).unwrap();
    }
    ids
}

/// Ends a message and has everything removed that can be: a segment with its tombstone too.
fn finish_and_turn_over(spool: &Spool, waiter: &Waiter, id: u64, stay: u64) {
    spool.finish(id).unwrap();
    for _ in 0..2 {
        for id in fill(spool, waiter) {
            spool.finish(id).unwrap();
        }
    }
    // And the active one.
    until(|| spool.status().segments <= stay + 1);
}

fn is_found(dir: &Path, id: u64, options: Options) -> bool {
    let (_spool, recovery) = Store::open(dir, options).unwrap();
    recovery.messages.iter().any(|m| m.envelope.id() == id)
}

#[test]
fn what_was_moved_out_of_a_segment_that_stays_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Store::open(dir.path(), quick()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let others = fill(&spool, &waiter);
    // The end of the first segment is gone when it is copied forward.
    let first = first_segment(dir.path());
    let (last, _) = messages(&first).pop().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&first).unwrap();
    file.set_len(last as u64 + 200).unwrap();
    let ids = thin_out(&spool, dir.path(), |ids, id| {
        id == ids[0] || Some(&id) == ids.last()
    });
    let moved = ids[0];
    until(|| copies(dir.path(), moved) == 2);
    for id in others.into_iter().filter(|id| !ids.contains(id)) {
        spool.finish(id).unwrap();
    }
    finish_and_turn_over(&spool, &waiter, moved, 1);
    assert!(first.is_file() && copies(dir.path(), moved) == 1);
    drop(spool);
    assert!(!is_found(dir.path(), moved, quick()));
}

#[test]
fn an_old_copy_in_a_segment_that_stays_does_not_come_back() {
    // Damage that there is no room to set aside keeps its segment where it is.
    let options = || Options {
        corrupt_bytes: 0,
        ..quick()
    };
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Store::open(dir.path(), options()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let others = fill(&spool, &waiter);
    let first = first_segment(dir.path());
    let whole = fs::read(&first).unwrap();
    let ids = thin_out(&spool, dir.path(), |ids, id| id == ids[0]);
    let moved = ids[0];
    until(|| !first.exists());
    for id in others.into_iter().filter(|id| !ids.contains(id)) {
        spool.finish(id).unwrap();
    }
    drop(spool);
    // As if the server had stopped before the segment was unlinked.
    fs::write(&first, whole).unwrap();
    harm(dir.path(), ids[1], |_| HEADER_BYTES + 3);
    let (spool, recovery) = Store::open(dir.path(), options()).unwrap();
    let found: Vec<u64> = recovery.messages.iter().map(|m| m.envelope.id()).collect();
    assert!(found.contains(&moved), "{found:?}");
    let waiter = Waiter::register(&spool, 0);
    for id in found.into_iter().filter(|id| *id != moved) {
        spool.finish(id).unwrap();
    }
    finish_and_turn_over(&spool, &waiter, moved, 1);
    assert!(first.is_file() && copies(dir.path(), moved) == 1);
    drop(spool);
    // What a start counted up is kept as well.
    for start in 0..2 {
        assert!(!is_found(dir.path(), moved, options()), "start {start}");
        let (spool, _) = Store::open(dir.path(), options()).unwrap();
        let waiter = Waiter::register(&spool, 0);
        let another = fill(&spool, &waiter);
        another
            .iter()
            .skip(1)
            .for_each(|id| spool.finish(*id).unwrap());
        finish_and_turn_over(&spool, &waiter, another[0], 1);
    }
    assert!(!is_found(dir.path(), moved, options()));
}

#[test]
fn a_copy_behind_its_tombstone_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Store::open(dir.path(), quick()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let ids = fill(&spool, &waiter);
    let ended = ids[0];
    spool.finish(ended).unwrap();
    drop(spool);
    let first = first_segment(dir.path());
    let entries = fs::read_dir(dir.path().join("segments")).unwrap();
    let tombstone = entries.map(|e| e.unwrap().path()).max().unwrap();
    // At this start that segment looks empty: the message is there again, and is moved.
    let whole = fs::read(&tombstone).unwrap();
    fs::write(&tombstone, b"").unwrap();
    let (spool, recovery) = Store::open(dir.path(), quick()).unwrap();
    assert!(recovery.messages.iter().any(|m| m.envelope.id() == ended));
    let waiter = Waiter::register(&spool, 0);
    let stay = fill(&spool, &waiter);
    thin_out(&spool, dir.path(), |_, id| id == ended);
    until(|| !first.exists());
    drop(spool);
    // Then it is readable again, and what says that the message has ended is no longer needed
    // for the segment in which it lay.
    fs::write(&tombstone, whole).unwrap();
    let (spool, recovery) = Store::open(dir.path(), quick()).unwrap();
    let found: Vec<u64> = recovery.messages.iter().map(|m| m.envelope.id()).collect();
    assert!(!found.contains(&ended), "{found:?}");
    for id in found.into_iter().filter(|id| !stay.contains(id)) {
        spool.finish(id).unwrap();
    }
    until(|| !tombstone.exists());
    drop(spool);
    assert!(!is_found(dir.path(), ended, quick()));
}
