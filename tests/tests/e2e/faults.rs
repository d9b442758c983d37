//! A disk that fails: each write, sync, allocation, rename and so on is refused once, with EIO and
//! with ENOSPC. The server says so and what is to be done, nothing hangs, and what got 250 is
//! delivered.
//!
//! The disk is one of our own ([`courser_tests::disk`]); after a failed sync it also forgets what
//! was not synced, as real ones do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use courser::spool::{
    Batch, CommitSink, Committed, DamageKind, Deferral, EnvelopeFields, OpenDelivery, Options,
    Outcome, OutcomeKind, RecipientFields, Recovery, Spool, SpoolError, Store,
};
use courser_tests::client::{Client, small};
use courser_tests::disk::power::{Cut, Replay};
use courser_tests::disk::{Disk, Fault, Image, What};
use courser_tests::receiver::{Answer, Receiver};
use courser_tests::server::{Server, run, scratch, smart_host};
use courser_tests::{eventually, say};

/// How a disk refuses.
const ERRORS: &[(i32, &str)] = &[
    (libc::EIO, "Input/output error"),
    (libc::ENOSPC, "No space left on device"),
];

/// Everything that a disk is asked for.
const ALL: &[What] = &[
    What::Write,
    What::Sync,
    What::SyncFolder,
    What::Create,
    What::MakeFolder,
    What::Rename,
    What::SetLen,
    What::Allocate,
    What::Remove,
    What::Open,
    What::Read,
];

/// Files that are made anew at every start.
const LEFT_OUT: &[&str] = &["lock", "reserve"];

/// What a spool has to give back: content and open deliveries, by id.
type Kept = BTreeMap<u64, (Vec<u8>, Vec<OpenDelivery>)>;

struct Sink(std::sync::mpsc::Sender<Vec<Committed>>);

impl CommitSink for Sink {
    fn committed(&self, results: Vec<Committed>) {
        let _ = self.0.send(results);
    }
}

fn options() -> Options {
    Options {
        segment_bytes: 64 << 10,
        min_free_bytes: 0,
        min_free_percent: 0,
        reserve_bytes: 64 << 10,
        ..Options::default()
    }
}

fn without_sync() -> Options {
    Options {
        sync: false,
        reserve_bytes: 0,
        ..options()
    }
}

/// A spool with open, deferred and finished messages in several segments, a damaged record and a
/// torn end, and what a start must find in it.
fn spool_of_all_sorts(at: &Path) -> Kept {
    let (spool, _) = Store::open(at, without_sync()).expect("a new spool");
    let (send, done) = channel();
    spool.register_sink(0, Box::new(Sink(send)));
    let mut kept = Kept::new();
    let mut victim = 0;
    for n in 0..30_u32 {
        let id = spool.next_id();
        let body: Vec<u8> = (0..9000).map(|i| (i * 7 + n * 31) as u8).collect();
        let fields = EnvelopeFields {
            id,
            sender: format!("sender{n}@sender.test"),
            body_len: body.len() as u64,
            recipients: (0..2)
                .map(|r| RecipientFields {
                    address: format!("r{r}-{n}@dest.test"),
                    ..RecipientFields::default()
                })
                .collect(),
            ..EnvelopeFields::default()
        };
        let envelope = fields.encode().expect("an envelope");
        let batch = Batch::new().message(envelope, vec![body.clone().into()]);
        spool
            .append(batch, Some((0, u64::from(n))))
            .expect("an open spool");
        done.recv_timeout(Duration::from_secs(20))
            .expect("it is written");
        let ended = |recipient| Outcome {
            recipient,
            kind: OutcomeKind::Delivered,
        };
        let deferral = Deferral {
            attempts: n,
            text: "451 4.2.1 Not now".into(),
            ..Deferral::default()
        };
        let open = |recipient, last| OpenDelivery {
            recipient,
            last,
            ..OpenDelivery::default()
        };
        let append = |batch: Batch| spool.append(batch, None).expect("an open spool");
        match n % 5 {
            0 => {
                let deferred = Outcome {
                    recipient: 1,
                    kind: OutcomeKind::Deferred(deferral.clone()),
                };
                append(Batch::new().outcomes(id, &[ended(0), deferred]));
                kept.insert(id, (body, vec![open(1, Some(deferral))]));
            }
            1 => append(Batch::new().outcomes(id, &[ended(0), ended(1)]).finish(id)),
            _ if n == 12 => victim = id,
            // The last one is torn.
            _ if n == 29 => {}
            _ => drop(kept.insert(id, (body, vec![open(0, None), open(1, None)]))),
        }
    }
    drop(spool);
    let mut files: Vec<_> = std::fs::read_dir(at.join("segments"))
        .expect("segments")
        .map(|e| e.expect("a segment").path())
        .collect();
    files.sort();
    let needle = b"sender12@sender.test";
    for (i, file) in files.iter().enumerate() {
        let mut data = std::fs::read(file).expect("a segment");
        let hit = data.windows(needle.len()).position(|w| w == needle);
        if let Some(hit) = hit {
            data[hit] ^= 0x55;
        }
        if i + 1 == files.len() {
            data.truncate(data.len() - 100);
        }
        std::fs::write(file, data).expect("a segment");
    }
    assert!(files.len() > 4 && victim > 0);
    kept
}

/// Compares what a start found with what it must find.
fn compare(kept: &Kept, spool: &Spool, recovery: &Recovery) -> Result<(), String> {
    let mut left: BTreeSet<u64> = kept.keys().copied().collect();
    for message in &recovery.messages {
        let id = message.envelope.id();
        let Some((body, open)) = kept.get(&id) else {
            return Err(format!("message {id:x} is invented, or had ended"));
        };
        left.remove(&id);
        if &message.open != open {
            return Err(format!(
                "message {id:x} has open {:?}, not {open:?}",
                message.open
            ));
        }
        match spool.read_body(id) {
            Ok(found) if found == body[..] => {}
            other => return Err(format!("message {id:x}: {:?}", other.map(|b| b.len()))),
        }
    }
    match left.first() {
        None => Ok(()),
        Some(id) => Err(format!("message {id:x} is lost ({} are)", left.len())),
    }
}

/// What is told of one start on a failing disk.
enum Start {
    Refused,
    Went,
    NotReached,
}

fn start_once(
    disk: &Disk,
    image: &Image,
    kept: &Kept,
    fault: &Fault,
    text: &str,
) -> Result<Start, String> {
    disk.load(image);
    disk.fail(fault.clone());
    let opened = Store::open(disk.path().join("spool"), options());
    let reached = disk.struck() > 0;
    let start = match opened {
        Err(error) => {
            let said = error.to_string();
            let SpoolError::Io { path, .. } = &error else {
                return Err(format!("refused with {said}"));
            };
            if !reached || !path.starts_with(disk.path()) || !said.contains(text) {
                return Err(format!("a start error that doesn't say what it is: {said}"));
            }
            Start::Refused
        }
        Ok((spool, recovery)) => {
            let unread = |kind| matches!(kind, DamageKind::Unreadable);
            if !recovery.warnings.iter().any(|w| unread(w.kind)) {
                // It may fail behind this, when it is read or reclaimed.
                let found: BTreeSet<u64> =
                    recovery.messages.iter().map(|m| m.envelope.id()).collect();
                if !found.iter().eq(kept.keys()) {
                    return Err(format!(
                        "{} messages were found and {} are there, without a word on it",
                        found.len(),
                        kept.len()
                    ));
                }
            }
            drop(spool);
            Start::Went
        }
    };
    disk.mend();
    let mut replay = Replay::default();
    for op in disk.record() {
        replay.apply(&op);
    }
    for cut in [Cut::Kept, Cut::Dropped, Cut::Seed(fault.nth)] {
        let dir = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .map_err(|e| e.to_string())?;
        let after = replay.cut(cut, LEFT_OUT);
        after.write(dir.path()).map_err(|e| e.to_string())?;
        let (spool, recovery) =
            Store::open(dir.path().join("spool"), without_sync()).map_err(|e| e.to_string())?;
        compare(kept, &spool, &recovery)
            .map_err(|why| format!("on the next start, {cut:?}: {why}"))?;
    }
    Ok(match reached {
        true => start,
        false => Start::NotReached,
    })
}

pub(crate) fn every_call_of_a_start_fails_once() {
    let dir = scratch();
    let Some(disk) = Disk::mount(&dir.path().join("disk")) else {
        return;
    };
    let kept = spool_of_all_sorts(&dir.path().join("made/spool"));
    let image = Image::read(&dir.path().join("made")).expect("the spool that was made");
    let began = Instant::now();
    let (mut refused, mut went) = (BTreeMap::new(), BTreeMap::new());
    for &what in ALL {
        for &(errno, text) in ERRORS {
            for nth in 1.. {
                let fault = Fault::once(what, nth, errno);
                match start_once(&disk, &image, &kept, &fault, text) {
                    Ok(Start::NotReached) => break,
                    Ok(Start::Refused) => *refused.entry(format!("{what:?}")).or_insert(0) += 1,
                    Ok(Start::Went) => *went.entry(format!("{what:?}")).or_insert(0) += 1,
                    Err(why) => panic!("{what:?} {nth} fails with {text}: {why}"),
                }
            }
        }
    }
    say(&format!(
        "starts on a failing disk: refused {refused:?}, went on {went:?}, in {:.1} s; nothing lost or invented on the start after it\n",
        began.elapsed().as_secs_f64()
    ));
    for what in [
        "Write",
        "Sync",
        "SyncFolder",
        "Create",
        "Rename",
        "Allocate",
        "SetLen",
        "Read",
    ] {
        assert!(
            refused.contains_key(what) || went.contains_key(what),
            "no start has reached {what}"
        );
    }
}
