//! The spool after crashes and damage: what was acknowledged is there, what wasn't isn't
//! invented, and what is damaged spoils nothing else.

mod spool_support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use courser::spool::disk::Disk;
use courser::spool::record::{HEADER_BYTES, Header, Kind};
use courser::spool::{
    Batch, DamageKind, Deferral, Options, Outcome, OutcomeKind, ReadError, Recovery, Spool,
    SpoolError, Store,
};
use proptest::prelude::*;
use spool_support::*;

fn delivered(recipient: u32) -> Outcome {
    Outcome {
        recipient,
        kind: OutcomeKind::Delivered,
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir.join("segments"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    paths
}

/// Header, offset, and end without padding, of each record of an undamaged segment.
fn records(path: &Path) -> Vec<(Header, usize, usize)> {
    let name = path.file_stem().unwrap().to_str().unwrap();
    let salt = u64::from_str_radix(name.split_once('-').unwrap().1, 16).unwrap();
    let data = fs::read(path).unwrap();
    let mut at = 0;
    let mut found = Vec::new();
    while at < data.len() {
        let header = Header::decode(&data[at..], salt).unwrap();
        found.push((
            header,
            at,
            at + HEADER_BYTES + (header.head_len + header.body_len) as usize,
        ));
        at += header.record_len() as usize;
    }
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("segments")).unwrap();
    for path in segments(from) {
        fs::copy(&path, to.join("segments").join(path.file_name().unwrap())).unwrap();
    }
}

fn ids(recovery: &Recovery) -> Vec<u64> {
    recovery.messages.iter().map(|m| m.envelope.id()).collect()
}

fn body(id: u64, len: usize) -> Bytes {
    (0..len)
        .map(|i| (id as usize).wrapping_mul(31).wrapping_add(i * 7) as u8)
        .collect::<Vec<_>>()
        .into()
}

/// Appends a message of one recipient and waits for the sync.
fn put(spool: &Spool, waiter: &Waiter, len: usize) -> u64 {
    let id = spool.next_id();
    spool
        .append_message(0, id, envelope(id, 1, len as u64), vec![body(id, len)])
        .unwrap();
    assert_eq!(waiter.wait(1), [(id, Ok(()))]);
    id
}

#[test]
fn a_tail_cut_at_any_byte_loses_only_what_was_cut() {
    let dir = quick_dir();
    let (spool, _) = Store::open(dir.path(), quick()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    for len in [0, 5, 64, 100] {
        put(&spool, &waiter, len);
    }
    let gone = put(&spool, &waiter, 30);
    spool.finish(gone).unwrap();
    let bounced = put(&spool, &waiter, 10);
    let dsn = spool.next_id();
    let bounce = Outcome {
        recipient: 0,
        kind: OutcomeKind::Bounced,
    };
    let group = Batch::new()
        .message(envelope(dsn, 1, 20), vec![body(dsn, 20)])
        .outcomes(bounced, &[bounce])
        .finish(bounced);
    spool.append(group, None).unwrap();
    put(&spool, &waiter, 9);
    drop(spool);

    let path = segments(dir.path()).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    let all = records(&path);
    let group_end = all
        .iter()
        .filter(|(h, ..)| h.group_began)
        .map(|(.., end)| *end)
        .max()
        .unwrap();
    for cut in 0..=whole.len() {
        let to = quick_dir();
        copy(dir.path(), to.path());
        fs::write(
            to.path().join("segments").join(path.file_name().unwrap()),
            &whole[..cut],
        )
        .unwrap();
        let (spool, recovery) = Store::open(to.path(), quick()).unwrap();

        let mut expected = Vec::new();
        for (header, _, end) in &all {
            let in_group = header.group_began || header.group_goes_on;
            if *end <= cut && !(in_group && cut < group_end) {
                match header.kind {
                    Kind::Message => expected.push(header.id),
                    Kind::Tombstone => expected.retain(|id| *id != header.id),
                    _ => {}
                }
            }
        }
        assert_eq!(ids(&recovery), expected, "cut at {cut}");
        for id in expected {
            let len = spool.read_envelope(id).unwrap().view().body_len() as usize;
            assert_eq!(spool.read_body(id).unwrap(), body(id, len), "cut at {cut}");
        }
        // Only between two groups (padding aside) there is nothing to warn of.
        let clean = cut == 0
            || all.iter().any(|(h, at, end)| {
                !h.group_goes_on && (*end..=*at + h.record_len() as usize).contains(&cut)
            });
        assert_eq!(
            recovery.warnings.is_empty(),
            clean,
            "cut at {cut}: {:?}",
            recovery.warnings
        );
        assert!(
            recovery
                .warnings
                .iter()
                .all(|w| w.kind == DamageKind::TornTail)
        );
        drop(spool);
        // It is mended: the next start has nothing to say.
        let (_, again) = Store::open(to.path(), quick()).unwrap();
        assert_eq!(
            (ids(&again), again.warnings),
            (ids(&recovery), vec![]),
            "cut at {cut}, opened again"
        );
    }
}

#[test]
fn a_write_that_lost_pages_in_a_power_failure_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Store::open(dir.path(), quick()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let first = put(&spool, &waiter, 5000);
    let second = put(&spool, &waiter, 5000);
    drop(spool);
    let path = segments(dir.path()).pop().unwrap();
    let (_, at, end) = records(&path)[2];
    let mut data = fs::read(&path).unwrap();
    data[at + 1000..end].fill(0);
    fs::write(&path, data).unwrap();
    let kept = dir.path().join("kept");
    fs::hard_link(&path, &kept).unwrap();
    let (spool, recovery) = Store::open(dir.path(), quick()).unwrap();
    assert_eq!(ids(&recovery), [first]);
    assert_eq!(
        (recovery.warnings[0].kind, recovery.warnings[0].id),
        (DamageKind::NotSynced, Some(second))
    );
    assert!(recovery.warnings[0].set_aside.as_ref().unwrap().exists());
    assert!(matches!(spool.read_body(second), Err(ReadError::Unknown)));
    drop(spool);

    // Nor does it come back when its segment is no longer among the newest.
    let again = tempfile::tempdir().unwrap();
    fs::create_dir(again.path().join("segments")).unwrap();
    fs::hard_link(
        &kept,
        again
            .path()
            .join("segments")
            .join(path.file_name().unwrap()),
    )
    .unwrap();
    let still = again.path().join("still");
    for start in 0..4 {
        // Whether or not it was reclaimed meanwhile.
        let segment = again
            .path()
            .join("segments")
            .join(path.file_name().unwrap());
        if !segment.exists() {
            fs::hard_link(&still, segment).unwrap();
        } else if start == 0 {
            fs::hard_link(segment, &still).unwrap();
        }
        let (_spool, recovery) = Store::open(again.path(), quick()).unwrap();
        assert_eq!(
            (ids(&recovery), recovery.warnings),
            (vec![first], vec![]),
            "start {start}"
        );
    }
}

#[test]
fn what_one_start_finds_behind_a_torn_tail_the_next_ones_find_too() {
    let dir = quick_dir();
    let (spool, _) = Store::open(dir.path(), quick()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let first = put(&spool, &waiter, 500);
    let group = |of: u64| {
        let dsn = spool.next_id();
        let group = Batch::new().message(envelope(dsn, 1, 20), vec![body(dsn, 20)]);
        spool.append(group.finish(of), None).unwrap();
        dsn
    };
    let [one, two] = [10, 10].map(|len| put(&spool, &waiter, len));
    let second = group(one);
    let last = put(&spool, &waiter, 10);
    group(two);
    drop(spool);
    let path = segments(dir.path()).pop().unwrap();
    let all = records(&path);
    let (whole, ends) = (fs::read(&path).unwrap(), |n: usize| all[n].2);
    // Meta, first, one, two; second and the tombstone of one; last; a message and a tombstone.
    assert_eq!(all.len(), 9);
    let cases: [(&str, usize, usize, &[u64]); 2] = [
        // Only the torn group knew that the body before it was synced.
        (
            "a body",
            ends(6) - 1,
            ends(8) - 1,
            &[first, two, second, last],
        ),
        // The end of a group, and what is behind it is torn.
        (
            "a tombstone",
            all[5].1,
            ends(6) - 1,
            &[first, one, two, second],
        ),
    ];
    for (what, harmed, cut, expected) in cases {
        let mut data = whole.clone();
        data[harmed] ^= 1;
        data.truncate(cut);
        for start in 0..3 {
            // Alone, as the newest segment.
            for other in segments(dir.path()) {
                fs::remove_file(other).unwrap();
            }
            fs::write(&path, &data).unwrap();
            let (_spool, recovery) = Store::open(dir.path(), quick()).unwrap();
            data = fs::read(&path).unwrap();
            assert_eq!(ids(&recovery), expected, "{what}, start {start}");
            let torn = |w: &&courser::spool::Damage| w.kind == DamageKind::TornTail;
            let count = recovery.warnings.iter().filter(torn).count();
            assert_eq!(count, usize::from(start == 0), "{what}, start {start}");
        }
    }
}

/// Notes which files are synced.
#[derive(Default)]
struct Noting(std::sync::Mutex<Vec<u64>>);

impl Disk for Noting {
    fn sync_data(&self, file: &fs::File) -> std::io::Result<()> {
        self.0.lock().unwrap().push(file.metadata()?.ino());
        file.sync_data()
    }
}

#[test]
fn what_a_start_finds_is_synced_before_it_is_acted_on() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing is synced, and the end of it is torn: what kill -9 leaves.
    let (spool, _) = Store::open(dir.path(), quick()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let ids: Vec<u64> = (0..20).map(|_| put(&spool, &waiter, 5000)).collect();
    drop(spool);
    let last = segments(dir.path()).pop().unwrap();
    let torn = fs::metadata(&last).unwrap().len() - 100;
    fs::File::options()
        .write(true)
        .open(&last)
        .and_then(|f| f.set_len(torn))
        .unwrap();
    let before: Vec<u64> = segments(dir.path())
        .iter()
        .map(|p| fs::metadata(p).unwrap().ino())
        .collect();
    assert!(before.len() > 1);

    let disk = Arc::new(Noting::default());
    let options = Options {
        disk: disk.clone(),
        ..quick()
    };
    let (_spool, recovery) = Store::open(dir.path(), options).unwrap();
    assert_eq!(recovery.messages.len(), ids.len() - 1);
    let synced = disk.0.lock().unwrap().clone();
    // Older ones were synced before the segment after the next was begun.
    for ino in &before[before.len() - 2..] {
        assert!(
            synced.contains(ino),
            "a power failure would undo what was found"
        );
    }
}

#[test]
fn a_damaged_body_is_told_to_its_reader_and_set_aside_once() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Store::open(dir.path(), quick()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let id = put(&spool, &waiter, 500);
    let path = segments(dir.path()).pop().unwrap();
    let (_, _, end) = records(&path)[1];
    let mut data = fs::read(&path).unwrap();
    data[end - 1] ^= 1;
    fs::write(&path, data).unwrap();
    for _ in 0..2 {
        assert!(matches!(spool.read_body(id), Err(ReadError::Corrupt)));
        let location = spool.locate_body(id).unwrap();
        let mut read = vec![0; location.len as usize];
        std::os::unix::fs::FileExt::read_exact_at(&*location.file, &mut read, location.offset)
            .unwrap();
        assert!(!location.matches(&read));
        assert_eq!(
            (
                fs::read_dir(dir.path().join("corrupt")).unwrap().count(),
                spool.status().damaged
            ),
            (1, 1)
        );
    }
    let told = spool.new_damage();
    assert!(
        matches!(&told[..], [d] if d.id == Some(id) && d.path == path && d.kind == DamageKind::Corrupt
            && d.set_aside.as_ref().is_some_and(|p| p.exists())),
        "{told:?}"
    );
    assert_eq!(spool.new_damage(), []);
}

#[test]
fn records_of_a_later_version_are_not_taken_for_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Store::open(dir.path(), quick()).unwrap();
    put(&spool, &Waiter::register(&spool, 0), 5);
    drop(spool);
    let path = segments(dir.path()).pop().unwrap();
    let (_, at, _) = records(&path)[1];
    let mut data = fs::read(&path).unwrap();
    data[at + 4] = 9;
    let crc = crc32c::crc32c(&data[at..at + 52]).to_le_bytes();
    data[at + 52..at + 56].copy_from_slice(&crc);
    fs::write(&path, &data).unwrap();
    let Err(SpoolError::Version { version: 9, .. }) = Store::open(dir.path(), quick()) else {
        panic!("opened")
    };
    assert_eq!(fs::read(&path).unwrap(), data);
}

#[test]
fn content_that_looks_like_records_is_not_taken_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Store::open(dir.path(), quick()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let victim = put(&spool, &waiter, 5);
    // Everything right but the salt, at every alignment.
    let forged = Header {
        kind: Kind::Tombstone,
        group_goes_on: false,
        group_began: false,
        salt: 0,
        id: victim,
        seq: 1 << 40,
        head_len: 8,
        body_len: 0,
        head_crc: crc32c::crc32c(&[0; 8]),
        body_crc: 0,
        body_damaged: false,
        synced: 0,
    };
    let mut content = Vec::new();
    for shift in 0..8 {
        content.extend(vec![b' '; shift]);
        content.extend(forged.encode());
        content.extend([0; 8]);
    }
    let id = spool.next_id();
    spool
        .append_message(
            0,
            id,
            envelope(id, 1, content.len() as u64),
            vec![content.into()],
        )
        .unwrap();
    waiter.wait(1);
    let last = put(&spool, &waiter, 5);
    drop(spool);
    // Lose the header that says how long it is.
    let path = segments(dir.path()).pop().unwrap();
    let (_, at, _) = records(&path)[2];
    let mut data = fs::read(&path).unwrap();
    data[at] ^= 1;
    fs::write(&path, &data).unwrap();
    let (_spool, recovery) = Store::open(dir.path(), quick()).unwrap();
    assert_eq!(ids(&recovery), [victim, last]);
    assert_eq!(recovery.warnings.len(), 1);
}

/// Thirty messages in several segments, without anything that reclaims them.
fn base() -> (tempfile::TempDir, Vec<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Store::open(dir.path(), quick()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let ids = (0..30).map(|_| put(&spool, &waiter, 5000)).collect();
    (dir, ids)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn damage_anywhere_spoils_only_what_it_hits(hits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..200usize, 1..=255u8), 1..6)) {
        static BASE: std::sync::OnceLock<(tempfile::TempDir, Vec<u64>)> = std::sync::OnceLock::new();
        let (base, _) = BASE.get_or_init(base);
        let dir = quick_dir();
        copy(base.path(), dir.path());
        let paths = segments(dir.path());
        let clean: Vec<_> = paths.iter().map(|p| records(p)).collect();
        let mut spoiled = vec![Vec::new(); paths.len()];
        for (which, at, len, with) in hits {
            let which = which.index(paths.len());
            let mut data = fs::read(&paths[which]).unwrap();
            let at = at.index(data.len());
            let end = (at + len).min(data.len());
            data[at..end].iter_mut().for_each(|b| *b ^= with);
            fs::write(&paths[which], data).unwrap();
            spoiled[which].push(at..end);
        }
        let mut whole = Vec::new();
        let mut lost_heads = 0;
        for (records, spoiled) in clean.iter().zip(&spoiled) {
            for (header, at, end) in records {
                let hit = |from: usize, to: usize| spoiled.iter().any(|s| s.start < to && from < s.end);
                lost_heads += usize::from(hit(*at, *at + HEADER_BYTES + header.head_len as usize));
                if header.kind == Kind::Message && !hit(*at, *end) {
                    whole.push(header.id);
                }
            }
        }
        for round in 0..2 {
            let (spool, recovery) = Store::open(dir.path(), quick()).unwrap();
            let found = ids(&recovery);
            for id in &whole {
                prop_assert!(found.contains(id), "round {round}: {id} is gone");
                prop_assert_eq!(spool.read_body(*id).unwrap(), body(*id, 5000));
            }
            if round == 0 {
                // Two flips of the same byte may undo one another, so this is not exact.
                prop_assert!(lost_heads == 0 || !recovery.warnings.is_empty() || found.len() == 30);
                prop_assert!(recovery.warnings.iter().all(|w| w.set_aside.as_ref().is_some_and(|p| p.exists())));
            }
            for id in found {
                if !whole.contains(&id) {
                    prop_assert!(matches!(spool.read_body(id), Ok(_) | Err(ReadError::Corrupt)));
                }
            }
        }
        // Copying forward has put the damage out of the way.
        let (spool, _) = Store::open(dir.path(), quick()).unwrap();
        drop(spool);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Append {
        recipients: usize,
        len: usize,
    },
    Outcome {
        message: prop::sample::Index,
        recipient: u32,
        what: u8,
    },
    Finish {
        message: prop::sample::Index,
    },
    Dsn {
        message: prop::sample::Index,
    },
    Read {
        message: prop::sample::Index,
    },
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..4usize, 0..9000usize).prop_map(|(recipients, len)| Op::Append { recipients, len }),
        6 => (any::<prop::sample::Index>(), 0..4u32, 0..8u8).prop_map(|(message, recipient, what)| Op::Outcome { message, recipient, what }),
        5 => any::<prop::sample::Index>().prop_map(|message| Op::Finish { message }),
        1 => any::<prop::sample::Index>().prop_map(|message| Op::Dsn { message }),
        2 => any::<prop::sample::Index>().prop_map(|message| Op::Read { message }),
        1 => Just(Op::Reopen),
    ]
}

/// What a delivery should be: attempts, held, told; `None` when it has ended.
type Model = BTreeMap<u64, (usize, Vec<Option<(u32, bool, bool)>>)>;

fn check(spool: &Spool, recovery: &Recovery, model: &mut Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(&recovery.warnings, &[]);
    // Messages whose deliveries have all ended are finished by the recovery.
    model.retain(|_, (_, deliveries)| deliveries.iter().any(Option::is_some));
    prop_assert_eq!(ids(recovery), model.keys().copied().collect::<Vec<_>>());
    for message in &recovery.messages {
        let id = message.envelope.id();
        let (len, deliveries) = &model[&id];
        let found: Vec<_> = message
            .open
            .iter()
            .map(|o| {
                (
                    o.recipient,
                    o.last.as_ref().map_or(0, |d| d.attempts),
                    o.held,
                    o.delay_dsn_sent,
                )
            })
            .collect();
        let expected: Vec<_> = deliveries
            .iter()
            .enumerate()
            .filter_map(|(i, d)| d.map(|(n, held, told)| (i as u32, n, held, told)))
            .collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(spool.read_body(id).unwrap(), body(id, *len));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn it_behaves_like_a_map(ops in prop::collection::vec(op(), 1..250)) {
        let dir = quick_dir();
        // Copies forward whenever it can.
        let options = Options { sparse_percent: 90, open_files: 2, ..quick() };
        let (mut spool, _) = Store::open(dir.path(), options.clone()).unwrap();
        let mut waiter = Waiter::register(&spool, 0);
        let mut model = Model::new();
        let mut attempts = 0;
        for op in ops {
            let pick = |index: prop::sample::Index| model.keys().nth(index.index(model.len().max(1))).copied();
            match op {
                Op::Append { recipients, len } => {
                    let id = spool.next_id();
                    prop_assert!(model.last_key_value().is_none_or(|(last, _)| *last < id));
                    spool.append_message(0, id, envelope(id, recipients, len as u64), vec![body(id, len)]).unwrap();
                    prop_assert_eq!(waiter.wait(1), [(id, Ok(()))]);
                    model.insert(id, (len, vec![Some((0, false, false)); recipients]));
                }
                Op::Outcome { message, recipient, what } => {
                    let Some(id) = pick(message) else { continue };
                    attempts += 1;
                    let kind = match what {
                        0..=2 => OutcomeKind::Deferred(Deferral { attempts, ..Deferral::default() }),
                        3 => OutcomeKind::Held,
                        4 => OutcomeKind::Released,
                        5 => OutcomeKind::DelayDsnSent,
                        6 => OutcomeKind::Delivered,
                        _ => OutcomeKind::Expired,
                    };
                    spool.append_outcomes(id, &[Outcome { recipient, kind }], None).unwrap();
                    let Some(slot) = model.get_mut(&id).unwrap().1.get_mut(recipient as usize) else { continue };
                    let Some(state) = slot else { continue };
                    match what {
                        0..=2 => state.0 = attempts,
                        3 => state.1 = true,
                        4 => state.1 = false,
                        5 => state.2 = true,
                        _ => *slot = None,
                    }
                }
                Op::Finish { message } => {
                    let Some(id) = pick(message) else { continue };
                    spool.finish(id).unwrap();
                    model.remove(&id);
                }
                Op::Dsn { message } => {
                    let Some(of) = pick(message) else { continue };
                    let id = spool.next_id();
                    let batch = Batch::new().message(envelope(id, 1, 50), vec![body(id, 50)]).outcomes(of, &[delivered(0)]).finish(of);
                    spool.append(batch, Some((0, id))).unwrap();
                    prop_assert_eq!(waiter.wait(1), [(id, Ok(()))]);
                    model.remove(&of);
                    model.insert(id, (50, vec![Some((0, false, false))]));
                }
                Op::Read { message } => {
                    let Some(id) = pick(message) else { continue };
                    prop_assert_eq!(spool.read_body(id).unwrap(), body(id, model[&id].0));
                }
                Op::Reopen => {
                    drop(spool);
                    let (opened, recovery) = Store::open(dir.path(), options.clone()).unwrap();
                    check(&opened, &recovery, &mut model)?;
                    spool = opened;
                    waiter = Waiter::register(&spool, 0);
                }
            }
        }
        drop(spool);
        for _ in 0..2 {
            let (spool, recovery) = Store::open(dir.path(), options.clone()).unwrap();
            check(&spool, &recovery, &mut model)?;
            // Everything that was in the old segments has moved or gone; open once more after that.
            let all = model.values().map(|(len, _)| *len as u64 + 400).sum::<u64>();
            until(|| spool.status().bytes < all * 3 + (256 << 10));
        }
    }
}

/// Not a test: what [`what_was_acknowledged_outlives_kill_9`] runs and kills.
#[test]
fn child() {
    let Some(dir) = std::env::var_os("SPOOL_CHILD") else {
        return;
    };
    let (spool, _) = Store::open(dir, small()).unwrap();
    let say = |word: &str, id: u64| {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{word} {id}");
        let _ = out.flush();
    };
    std::thread::scope(|scope| {
        for shard in 0..4 {
            let spool = spool.clone();
            scope.spawn(move || {
                let waiter = Waiter::register(&spool, shard);
                for n in 0u64.. {
                    let id = spool.next_id();
                    let len = (id % 3000) as usize;
                    spool
                        .append_message(shard, id, envelope(id, 1, len as u64), vec![body(id, len)])
                        .unwrap();
                    assert_eq!(waiter.wait(1), [(id, Ok(()))]);
                    say("kept", id);
                    if n % 3 != 0 {
                        say("ending", id);
                        spool
                            .append(Batch::new().outcomes(id, &[delivered(0)]).finish(id), None)
                            .unwrap();
                    }
                }
            });
        }
    });
}

#[test]
fn what_was_acknowledged_outlives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = std::collections::BTreeSet::new();
    let mut ending = std::collections::BTreeSet::new();
    for round in 0..6u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env("SPOOL_CHILD", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            // The last line may be cut.
            let lines = out.lines().map_while(Result::ok);
            lines
                .filter_map(|l| {
                    l.split_once(' ')
                        .and_then(|(w, id)| Some((w.to_owned(), id.parse::<u64>().ok()?)))
                })
                .collect::<Vec<_>>()
        });
        std::thread::sleep(Duration::from_millis(150 + round * 67));
        child.kill().unwrap();
        child.wait().unwrap();
        for (word, id) in reader.join().unwrap() {
            match &*word {
                "kept" => drop(kept.insert(id)),
                "ending" => drop(ending.insert(id)),
                _ => {}
            }
        }
        let (spool, recovery) = Store::open(dir.path(), small()).unwrap();
        let found = ids(&recovery);
        assert!(
            recovery
                .warnings
                .iter()
                .all(|w| w.kind == DamageKind::TornTail),
            "{:?}",
            recovery.warnings
        );
        for id in kept.difference(&ending) {
            assert!(
                found.contains(id),
                "round {round}: {id} was acknowledged and is gone"
            );
        }
        for id in found {
            let len = spool.read_envelope(id).unwrap().view().body_len() as usize;
            assert_eq!(spool.read_body(id).unwrap(), body(id, len));
        }
    }
    assert!(kept.len() > 50, "only {} were acknowledged", kept.len());
}
