//! The spool on disks that fail, lie about writes, or run full.

mod spool_support;

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use courser::spool::disk::{Disk, Os};
use courser::spool::record::HEADER_BYTES;
use courser::spool::{
    AppendError, Batch, Deferral, Options, Outcome, OutcomeKind, RefusedWhy, Spool, SpoolState,
    Stepped, Store,
};
use spool_support::*;

fn faulty() -> (tempfile::TempDir, Arc<Faulty>, Options) {
    let disk = Arc::new(Faulty::default());
    let options = Options {
        disk: disk.clone(),
        ..small()
    };
    (tempfile::tempdir().unwrap(), disk, options)
}

/// Appends a message and waits for it.
fn append(spool: &Spool, waiter: &Waiter, body: &'static str) -> (u64, Result<(), AppendError>) {
    let id = spool.next_id();
    spool
        .append_message(0, id, envelope(id, 2, body.len() as u64), vec![body.into()])
        .unwrap();
    waiter.wait(1).remove(0)
}

fn deferred(recipient: u32, attempts: u32) -> Outcome {
    Outcome {
        recipient,
        kind: OutcomeKind::Deferred(Deferral {
            attempts,
            ..Deferral::default()
        }),
    }
}

#[test]
fn a_failed_sync_is_final() {
    let (dir, disk, options) = faulty();
    let (spool, _) = Store::open(dir.path(), options.clone()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let (good, result) = append(&spool, &waiter, "synced");
    assert_eq!(result, Ok(()));
    disk.sync_fails.store(true, Relaxed);
    let (_, result) = append(&spool, &waiter, "not synced");
    assert!(matches!(result, Err(AppendError::Failed(_))), "{result:?}");
    disk.sync_fails.store(false, Relaxed);
    // The disk works again, but what it lost can't be known.
    let refused = spool
        .append_message(0, 1, envelope(spool.next_id(), 1, 1), vec!["x".into()])
        .unwrap_err();
    assert!(matches!(refused.why, RefusedWhy::Failed(_)), "{refused:?}");
    assert_eq!(refused.batch.into_messages().count(), 1);
    assert!(matches!(
        spool
            .append_outcomes(good, &[deferred(0, 1)], None)
            .unwrap_err()
            .why,
        RefusedWhy::Failed(_)
    ));
    let SpoolState::Failed { reason } = spool.status().state else {
        panic!("failed")
    };
    assert!(reason.contains("Input/output error"), "{reason}");
    assert_eq!(&spool.read_body(good).unwrap()[..], b"synced");
    drop(spool);
    let (_spool, recovery) = Store::open(dir.path(), options).unwrap();
    assert!(recovery.messages.iter().any(|m| m.envelope.id() == good));
}

#[test]
fn everything_that_waits_hears_of_a_failed_sync() {
    let (dir, disk, options) = faulty();
    let (spool, _) = Store::open(dir.path(), options).unwrap();
    let waiter = Waiter::register(&spool, 0);
    disk.sync_fails.store(true, Relaxed);
    let mut taken = 0;
    for token in 0..200 {
        let id = spool.next_id();
        taken += usize::from(
            spool
                .append_message(0, token, envelope(id, 1, 3), vec!["abc".into()])
                .is_ok(),
        );
    }
    let heard = waiter.wait(taken);
    assert_eq!(heard.len(), taken);
    assert!(
        heard
            .iter()
            .all(|(_, result)| matches!(result, Err(AppendError::Failed(_)))),
        "{heard:?}"
    );
}

#[test]
fn short_writes_are_continued() {
    let (dir, disk, options) = faulty();
    disk.write_some.store(7, Relaxed);
    let (spool, _) = Store::open(dir.path(), options.clone()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let (id, result) = append(&spool, &waiter, "written in small pieces");
    assert_eq!(result, Ok(()));
    drop(spool);
    let (spool, recovery) = Store::open(dir.path(), options).unwrap();
    assert_eq!((recovery.warnings.len(), recovery.messages.len()), (0, 1));
    assert_eq!(
        &spool.read_body(id).unwrap()[..],
        b"written in small pieces"
    );
}

#[test]
fn a_failed_write_refuses_messages_and_keeps_outcomes() {
    for some in [0, 16] {
        let (dir, disk, options) = faulty();
        let (spool, _) = Store::open(dir.path(), options.clone()).unwrap();
        let waiter = Waiter::register(&spool, 0);
        let (first, result) = append(&spool, &waiter, "first");
        assert_eq!(result, Ok(()));
        disk.write_some.store(some, Relaxed);
        disk.write_error.store(5, Relaxed);
        let (_, result) = append(&spool, &waiter, "refused");
        assert!(matches!(result, Err(AppendError::Trouble(_))), "{result:?}");
        assert!(matches!(spool.accepting(), Err(RefusedWhy::Trouble(_))));
        spool
            .append_outcomes(first, &[deferred(0, 7)], None)
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30));
        disk.write_error.store(0, Relaxed);
        disk.write_some.store(0, Relaxed);
        until(|| spool.accepting().is_ok());
        let (second, result) = append(&spool, &waiter, "second");
        assert_eq!(result, Ok(()));
        drop(spool);
        let (spool, recovery) = Store::open(dir.path(), options).unwrap();
        assert_eq!(recovery.warnings, []);
        let ids: Vec<_> = recovery.messages.iter().map(|m| m.envelope.id()).collect();
        assert_eq!(ids, [first, second]);
        assert_eq!(
            recovery.messages[0].open[0].last.as_ref().unwrap().attempts,
            7
        );
        assert_eq!(&spool.read_body(second).unwrap()[..], b"second");
    }
}

/// Which write is to fail.
type Fails = Box<dyn Fn(&[u8]) -> bool + Send>;

/// A disk that fails a write when all of it is in the file, and takes back what was cut off a file
/// and not synced when its power fails.
#[derive(Default)]
struct Forgetful {
    fails: Mutex<Option<Fails>>,
    cut_fails: AtomicBool,
    cuts: Mutex<Vec<Cut>>,
}

/// What was cut off a file, and where.
struct Cut {
    file: File,
    at: u64,
    lost: Vec<u8>,
}

impl Forgetful {
    /// The first write fails that this is true of.
    fn fail_once(&self, fails: impl Fn(&[u8]) -> bool + Send + 'static) {
        *self.fails.lock().unwrap() = Some(Box::new(fails));
    }

    fn has_failed(&self) -> bool {
        self.fails.lock().unwrap().is_none()
    }

    fn cut_power(&self) {
        for cut in self.cuts.lock().unwrap().drain(..) {
            cut.file.write_all_at(&cut.lost, cut.at).unwrap();
        }
    }
}

impl Disk for Forgetful {
    fn write_at(&self, file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let all: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).collect();
        file.write_all_at(&all, offset)?;
        let failed = self.fails.lock().unwrap().take_if(|fails| fails(&all));
        match failed {
            Some(_) => Err(io::Error::from_raw_os_error(5)),
            None => Ok(all.len()),
        }
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        let inode = file.metadata()?.ino();
        let is_other = |cut: &Cut| cut.file.metadata().unwrap().ino() != inode;
        self.cuts.lock().unwrap().retain(is_other);
        Ok(())
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        if self.cut_fails.load(Relaxed) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let mut lost = vec![0; (file.metadata()?.len() - len) as usize];
        file.read_exact_at(&mut lost, len)?;
        self.cuts.lock().unwrap().push(Cut {
            file: file.try_clone()?,
            at: len,
            lost,
        });
        file.set_len(len)
    }
}

/// A spool whose time goes by as told.
struct Driven {
    spool: Spool,
    stepped: Stepped,
    now: Instant,
}

impl Driven {
    fn open(dir: &Path, options: &Options) -> (Self, Vec<u64>) {
        let now = Instant::now();
        let (spool, stepped, recovery) = Stepped::open(dir, options.clone(), now, 0).unwrap();
        let ids = recovery.messages.iter().map(|m| m.envelope.id()).collect();
        let driven = Self {
            spool,
            stepped,
            now,
        };
        (driven, ids)
    }

    fn message(&self, body: Vec<u8>) -> (u64, Batch) {
        let id = self.spool.next_id();
        let envelope = envelope(id, 1, body.len() as u64);
        (id, Batch::new().message(envelope, vec![body.into()]))
    }

    fn put(&mut self, body: Vec<u8>) -> u64 {
        let (id, batch) = self.message(body);
        self.append(batch);
        id
    }

    fn append(&mut self, batch: Batch) {
        // Synced at once, before anything is moved: nothing else is left to be synced then.
        self.spool.append(batch, Some((0, 0))).unwrap();
        self.go_on();
    }

    /// Two seconds: whatever is tried again was.
    fn go_on(&mut self) {
        for _ in 0..200 {
            self.now += Duration::from_millis(10);
            self.stepped.write(self.now);
            self.stepped.sync(self.now);
            self.stepped.reclaim();
        }
    }
}

#[test]
fn what_a_failed_write_left_never_comes_back() {
    const MARK: &[u8] = b"comes back?";
    // A copy of a message that is moved; a message in a batch with an outcome; and a copy that can't
    // even be cut off.
    for (moved, cut_fails) in [(true, false), (false, false), (true, true)] {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(Forgetful::default());
        let options = Options {
            disk: disk.clone(),
            reserve_bytes: 0,
            ..small()
        };
        let (mut driven, _) = Driven::open(dir.path(), &options);
        let large = || vec![b'x'; 40_000];
        let marked = |data: &[u8]| data.windows(MARK.len()).any(|w| w == MARK);
        disk.cut_fails.store(cut_fails, Relaxed);
        let (id, stays) = if moved {
            // Its segment has become sparse.
            let id = driven.put(MARK.to_vec());
            let ends = driven.put(large());
            let stays = driven.put(large());
            disk.fail_once(marked);
            driven.append(Batch::new().finish(ends));
            (id, stays)
        } else {
            let ends = driven.put(b"of it is told".to_vec());
            let stays = driven.put(large());
            disk.fail_once(marked);
            let (id, batch) = driven.message(MARK.to_vec());
            driven.append(batch.finish(ends));
            (id, stays)
        };
        assert!(disk.has_failed());
        assert_eq!(driven.spool.read_body(id).unwrap(), MARK);
        // It ends, and so does all that was written with it and behind it.
        driven.append(Batch::new().finish(id));
        for _ in 0..4 {
            let other = driven.put(large());
            driven.append(Batch::new().finish(other));
        }
        let status = driven.spool.status();
        assert_eq!((status.messages, status.segments), (1, 2), "{status:?}");
        drop(driven);
        disk.cut_power();
        let (_, found) = Driven::open(dir.path(), &options);
        assert_eq!(found, [stays], "moved {moved}, cut fails {cut_fails}");
    }
}

/// Of large writes it takes the first and the third, until it has room.
#[derive(Default)]
struct Grudging {
    large: AtomicUsize,
    has_room: AtomicBool,
}

impl Disk for Grudging {
    fn write_at(&self, file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let size: usize = bufs.iter().map(|b| b.len()).sum();
        if size > 256 << 10
            && !self.has_room.load(Relaxed)
            && !matches!(self.large.fetch_add(1, Relaxed), 0 | 2)
        {
            return Err(io::Error::from_raw_os_error(28));
        }
        Os.write_at(file, bufs, offset)
    }
    fn sync_data(&self, _: &File) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_was_moved_before_a_full_disk_is_moved_once() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Grudging::default());
    let options = Options {
        disk: disk.clone(),
        segment_bytes: 4 << 20,
        sparse_percent: 60,
        reserve_bytes: 0,
        ..small()
    };
    let (mut driven, _) = Driven::open(dir.path(), &options);
    let segment = |n: usize| {
        let entries = std::fs::read_dir(dir.path().join("segments")).unwrap();
        let mut files: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
        files.sort();
        files.get(n).cloned()
    };
    let put = |driven: &mut Driven, count: usize| -> Vec<u64> {
        let one = |_| {
            let (id, batch) = driven.message(vec![b'x'; 40_000]);
            driven.spool.append(batch, None).unwrap();
            driven.stepped.write(driven.now);
            id
        };
        (0..count).map(one).collect()
    };
    // A segment of messages that stay, and some that end. One goes to three, two of whom get it.
    let three = driven.spool.next_id();
    let body = vec![Bytes::from_static(b"to three")];
    let batch = Batch::new().message(envelope(three, 3, 8), body);
    driven.append(batch);
    let first = put(&mut driven, 2);
    let fill = |driven: &mut Driven, n: usize| {
        let mut ids = Vec::new();
        while segment(n).is_none() {
            ids.extend(put(driven, 1));
        }
        // The last one is the first of the next segment.
        let last = ids.pop().unwrap();
        (ids, last)
    };
    let (full, next) = fill(&mut driven, 1);
    // The next one says so at its begin and at its end, with much that stays in between. It is sparse.
    let got = |recipient| Outcome {
        recipient,
        kind: OutcomeKind::Delivered,
    };
    driven.append(Batch::new().outcomes(three, &[got(0)]).finish(first[0]));
    let stay = put(&mut driven, 50);
    let mut ends = put(&mut driven, 40);
    driven.append(Batch::new().outcomes(three, &[got(1)]).finish(first[1]));
    let (some, behind) = fill(&mut driven, 2);
    ends.extend(some);
    let sparse = segment(1).unwrap();
    for id in ends {
        driven.append(Batch::new().finish(id));
    }
    // It is begun twice, and refused twice.
    for _ in 0..4 {
        driven.go_on();
    }
    assert!(disk.large.load(Relaxed) > 4, "it was never copied forward");
    assert!(sparse.is_file());
    // What is left of it ends by itself.
    let rest = stay.into_iter().chain([next]);
    driven.append(rest.fold(Batch::new(), |batch, id| batch.finish(id)));
    disk.has_room.store(true, Relaxed);
    for _ in 0..4 {
        driven.go_on();
    }
    assert!(!sparse.exists(), "it is not needed any more");
    drop(driven);
    let now = Instant::now();
    let (_spool, _stepped, recovery) = Stepped::open(dir.path(), options, now, 0).unwrap();
    let found: Vec<u64> = recovery.messages.iter().map(|m| m.envelope.id()).collect();
    let expected: Vec<u64> = [three].into_iter().chain(full).chain([behind]).collect();
    assert_eq!(found, expected);
    let open = recovery.messages[0].open.iter().map(|o| o.recipient);
    assert_eq!(open.collect::<Vec<_>>(), [2]);
}

#[test]
fn a_write_that_fails_at_the_start_is_tried_again() {
    let (dir, _, options) = faulty();
    let (spool, _) = Store::open(dir.path(), options.clone()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let (id, result) = append(&spool, &waiter, "delivered");
    assert_eq!(result, Ok(()));
    let ends = [0, 1].map(|recipient| Outcome {
        recipient,
        kind: OutcomeKind::Delivered,
    });
    spool.append_outcomes(id, &ends, None).unwrap();
    drop(spool);
    let disk = Arc::new(Forgetful::default());
    // The start ends it: a tombstone of eight bytes.
    disk.fail_once(|data| data.len() == HEADER_BYTES + 8);
    let options = Options {
        disk: disk.clone(),
        ..options
    };
    let (spool, recovery) = Store::open(dir.path(), options).unwrap();
    assert!(disk.has_failed());
    assert_eq!(recovery.messages, []);
    until(|| spool.status().messages == 0);
}

#[test]
fn states_of_a_moment_are_told() {
    let (dir, disk, options) = faulty();
    let (spool, _) = Store::open(dir.path(), options).unwrap();
    let waiter = Waiter::register(&spool, 0);
    assert_eq!(spool.state_changes(), []);
    disk.write_error.store(5, Relaxed);
    assert!(append(&spool, &waiter, "refused").1.is_err());
    disk.write_error.store(0, Relaxed);
    until(|| spool.accepting().is_ok());
    let changes = spool.state_changes();
    assert!(
        matches!(&changes[..], [SpoolState::Trouble { reason }, SpoolState::Open] if reason.contains("Input/output error")),
        "{changes:?}"
    );
    assert_eq!(spool.state_changes(), []);
}

#[test]
fn nothing_is_acknowledged_into_a_folder_that_was_removed() {
    for idle in [false, true] {
        let (dir, _, options) = faulty();
        let at = dir.path().join("spool");
        let (spool, _) = Store::open(&at, options).unwrap();
        let waiter = Waiter::register(&spool, 0);
        assert_eq!(append(&spool, &waiter, "kept").1, Ok(()));
        std::fs::remove_dir_all(&at).unwrap();
        // A new one of the same name is another one.
        std::fs::create_dir_all(at.join("segments")).unwrap();
        if !idle {
            let id = spool.next_id();
            let refused = match spool.append_message(0, id, envelope(id, 1, 1), vec!["x".into()]) {
                Ok(()) => waiter.wait(1).remove(0).1.is_err(),
                Err(_) => true,
            };
            assert!(refused);
        }
        until(|| matches!(spool.status().state, SpoolState::Failed { .. }));
        let SpoolState::Failed { reason } = spool.status().state else {
            panic!("failed")
        };
        assert!(
            reason.contains("removed") && reason.contains(&at.display().to_string()),
            "{reason}"
        );
    }
}

/// Notes which folders are synced.
#[derive(Default)]
struct Folders(std::sync::Mutex<Vec<std::path::PathBuf>>);

impl courser::spool::disk::Disk for Folders {
    fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
        self.0.lock().unwrap().push(dir.into());
        std::fs::File::open(dir)?.sync_all()
    }
}

#[test]
fn a_power_failure_takes_no_folder_that_was_made_on_the_way() {
    let disk = Arc::new(Folders::default());
    let options = Options {
        disk: disk.clone(),
        ..small()
    };
    let top = tempfile::tempdir().unwrap();
    let dir = top.path().join("none/of/these");
    drop(Store::open(&dir, options.clone()).unwrap());
    let synced = std::mem::take(&mut *disk.0.lock().unwrap());
    for folder in [
        top.path().to_owned(),
        top.path().join("none"),
        top.path().join("none/of"),
        dir.clone(),
        dir.join("segments"),
    ] {
        assert!(synced.contains(&folder), "{folder:?} is not in {synced:?}");
    }
    drop(Store::open(&dir, options).unwrap());
    let above = top.path().join("none");
    assert!(!disk.0.lock().unwrap().contains(&above), "it was there");
}

#[test]
fn a_start_on_a_full_disk_takes_the_reserve() {
    let (dir, _, options) = faulty();
    let (spool, _) = Store::open(dir.path(), options.clone()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let (id, result) = append(&spool, &waiter, "kept");
    assert_eq!(result, Ok(()));
    drop(spool);
    let reserve = dir.path().join("reserve");
    std::fs::write(&reserve, [0; 64]).unwrap();
    let disk = Arc::new(FullWith(reserve.clone()));
    let options = Options { disk, ..options };
    let (spool, recovery) = Store::open(dir.path(), options.clone()).unwrap();
    assert_eq!(recovery.messages[0].envelope.id(), id);
    assert!(matches!(
        spool.status().state,
        SpoolState::NearlyFull { .. }
    ));
    drop(spool);
}

/// No room but what the reserve holds.
struct FullWith(std::path::PathBuf);

impl courser::spool::disk::Disk for FullWith {
    fn write_at(
        &self,
        file: &std::fs::File,
        bufs: &[std::io::IoSlice<'_>],
        offset: u64,
    ) -> std::io::Result<usize> {
        if self.0.exists() {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        courser::spool::disk::Os.write_at(file, bufs, offset)
    }

    fn allocate(&self, _: &std::fs::File, _: u64) -> std::io::Result<()> {
        Err(std::io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn messages_are_refused_before_the_disk_is_full() {
    let (dir, disk, mut options) = faulty();
    options.min_free_bytes = 10 << 20;
    disk.free.store(100 << 20, Relaxed);
    let (spool, _) = Store::open(dir.path(), options.clone()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let (id, result) = append(&spool, &waiter, "taken");
    assert_eq!(result, Ok(()));
    disk.free.store(9 << 20, Relaxed);
    until(|| matches!(spool.accepting(), Err(RefusedWhy::Full(_))));
    let refused = spool
        .append_message(0, 1, envelope(1, 1, 1), vec!["x".into()])
        .unwrap_err();
    assert!(refused.to_string().contains("9 MB are free"), "{refused}");
    spool
        .append_outcomes(id, &[deferred(1, 3)], Some((0, 5)))
        .unwrap();
    assert_eq!(waiter.wait(1), [(5, Ok(()))]);
    disk.free.store(100 << 20, Relaxed);
    until(|| spool.accepting().is_ok());
    assert_eq!(append(&spool, &waiter, "taken again").1, Ok(()));
}

#[test]
fn the_spool_stays_within_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        max_bytes: 1 << 20,
        ..small()
    };
    let (spool, _) = Store::open(dir.path(), options).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let body = bytes::Bytes::from(vec![b'x'; 10_000]);
    let mut ids = Vec::new();
    loop {
        let id = spool.next_id();
        match spool.append_message(0, id, envelope(id, 1, 10_000), vec![body.clone()]) {
            Ok(()) => match waiter.wait(1).remove(0) {
                (id, Ok(())) => ids.push(id),
                (_, Err(e)) => break assert!(matches!(e, AppendError::Full(_)), "{e:?}"),
            },
            Err(refused) => {
                break assert!(matches!(refused.why, RefusedWhy::Full(_)), "{refused:?}");
            }
        }
        assert!(ids.len() < 200, "it never said that it is full");
    }
    assert!(spool.status().bytes <= 1 << 20);
    assert!(ids.len() > 60, "full after {}", ids.len());
    for id in ids.drain(..40) {
        spool.finish(id).unwrap();
    }
    until(|| spool.accepting().is_ok());
    assert_eq!(append(&spool, &waiter, "room again").1, Ok(()));
    for id in ids {
        assert_eq!(spool.read_body(id).unwrap().len(), 10_000);
    }
}

/// A file system of its own, gone with the value.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(out) if out.status.success() => Some(Self(dir)),
            Ok(out) => {
                println!(
                    "skipped: a small file system can't be mounted: {}",
                    String::from_utf8_lossy(&out.stderr).trim()
                );
                None
            }
            Err(e) => {
                println!("skipped: mount can't be run: {e}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[test]
fn a_really_full_disk_refuses_messages_and_still_takes_outcomes() {
    let Some(tmpfs) = Tmpfs::mount("4m") else {
        return;
    };
    let path = tmpfs.path().join("spool");
    let options = Options {
        reserve_bytes: 512 << 10,
        ..small()
    };
    let (spool, _) = Store::open(&path, options.clone()).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let body = bytes::Bytes::from(vec![b'x'; 20_000]);
    let mut ids = Vec::new();
    let mut refusals = 0;
    while refusals < 50 {
        let id = spool.next_id();
        match spool.append_message(0, id, envelope(id, 1, 20_000), vec![body.clone()]) {
            Ok(()) => match waiter.wait(1).remove(0) {
                (id, Ok(())) => ids.push(id),
                (_, Err(AppendError::Full(_))) => refusals += 1,
                (_, other) => panic!("{other:?}"),
            },
            Err(refused) => {
                assert!(matches!(refused.why, RefusedWhy::Full(_)), "{refused:?}");
                refusals += 1;
            }
        }
    }
    assert!(ids.len() > 100, "{}", ids.len());
    // Now somebody else takes the rest.
    let _ = std::fs::write(tmpfs.path().join("other"), vec![0; 4 << 20]);
    for (i, id) in ids.iter().enumerate() {
        spool
            .append_outcomes(*id, &[deferred(0, 5)], Some((0, i as u64)))
            .unwrap();
    }
    let heard = waiter.wait(ids.len());
    assert!(heard.iter().all(|(_, result)| result.is_ok()), "{heard:?}");
    // Half of it goes, room comes back, and messages are taken again.
    std::fs::remove_file(tmpfs.path().join("other")).unwrap();
    let half = ids.split_off(ids.len() / 2);
    for id in ids {
        spool.finish(id).unwrap();
    }
    until(|| spool.accepting().is_ok());
    assert_eq!(append(&spool, &waiter, "room again").1, Ok(()));
    drop(spool);
    let (spool, recovery) = Store::open(&path, options).unwrap();
    assert_eq!(recovery.warnings, []);
    assert_eq!(recovery.messages.len(), half.len() + 1);
    for (message, id) in recovery.messages.iter().zip(half) {
        assert_eq!(message.envelope.id(), id);
        assert_eq!(message.open[0].last.as_ref().unwrap().attempts, 5);
        assert_eq!(spool.read_body(id).unwrap(), body);
    }
}

#[test]
fn a_full_queue_gives_the_message_back() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        pending_bytes: 50_000,
        disk: Arc::new(SlowWrite),
        ..small()
    };
    let (spool, _) = Store::open(dir.path(), options).unwrap();
    let waiter = Waiter::register(&spool, 0);
    let body = bytes::Bytes::from(vec![b'x'; 10_000]);
    let mut taken = 0;
    let refused = loop {
        let id = spool.next_id();
        match spool.append_message(0, id, envelope(id, 1, 10_000), vec![body.clone()]) {
            Ok(()) => taken += 1,
            Err(refused) => break refused,
        }
        assert!(taken < 1000, "the queue has no bound");
    };
    assert_eq!(refused.why, RefusedWhy::Busy);
    let (given_back, content) = refused.batch.into_messages().next().unwrap();
    assert_eq!(
        (given_back.view().body_len(), content),
        (10_000, vec![body])
    );
    assert!(waiter.wait(taken).iter().all(|(_, result)| result.is_ok()));
}
