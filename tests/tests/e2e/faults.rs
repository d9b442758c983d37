//! A disk that fails: each write, sync, allocation, rename and so on is refused once, with EIO and
//! with ENOSPC. The server says so and what is to be done, nothing hangs, and what got 250 is
//! delivered.
//!
//! The disk is one of our own ([`courser_tests::disk`]); after a failed sync it also forgets what
//! was not synced, as real ones do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
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

fn segments(at: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(at.join("segments")).expect("segments");
    let mut files: Vec<_> = entries.map(|e| e.expect("a segment").path()).collect();
    files.sort();
    files
}

/// A segment that can't be read may hold an old copy of a message. What ended meanwhile doesn't come
/// back when it can be read again.
pub(crate) fn what_ends_while_a_segment_cannot_be_read() {
    let dir = scratch();
    let Some(disk) = Disk::mount(&dir.path().join("disk")) else {
        return;
    };
    let at = disk.path().join("spool");
    let open = || {
        let options = Options {
            settle: Duration::ZERO,
            ..without_sync()
        };
        Store::open(&at, options).expect("a spool")
    };
    let fill = |spool: &Spool| -> Vec<u64> {
        let (send, done) = channel();
        spool.register_sink(0, Box::new(Sink(send)));
        let one = |_| {
            let id = spool.next_id();
            let fields = EnvelopeFields {
                id,
                body_len: 9000,
                recipients: vec![RecipientFields {
                    address: "you@dest.test".into(),
                    ..RecipientFields::default()
                }],
                ..EnvelopeFields::default()
            };
            let envelope = fields.encode().expect("an envelope");
            let batch = Batch::new().message(envelope, vec![vec![b'x'; 9000].into()]);
            spool.append(batch, Some((0, id))).expect("an open spool");
            done.recv_timeout(Duration::from_secs(20))
                .expect("it is written");
            id
        };
        (0..30).map(one).collect()
    };
    let (spool, _) = open();
    let ids = fill(&spool);
    let first = segments(&at).remove(0);
    let before = std::fs::read(&first).expect("a segment");
    for id in &ids[1..] {
        spool.finish(*id).expect("an open spool");
    }
    let moved = eventually(20, || (!first.exists()).then_some(()));
    moved.expect("the first segment is copied forward");
    drop(spool);
    // As if the server had stopped before the segment was unlinked.
    std::fs::write(&first, before).expect("room");
    let name = first.file_name().and_then(|n| n.to_str()).expect("a name");
    disk.fail(fault(What::Read, name, 1, ALWAYS, libc::EIO, 0));
    let (spool, recovery) = open();
    let unread = |kind| matches!(kind, DamageKind::Unreadable);
    assert!(
        recovery.warnings.iter().any(|w| unread(w.kind)),
        "{:?}",
        recovery.warnings
    );
    let found = |recovery: &Recovery| recovery.messages.iter().any(|m| m.envelope.id() == ids[0]);
    assert!(found(&recovery), "its copy was there");
    spool.finish(ids[0]).expect("an open spool");
    // What says so is copied forward too.
    for _ in 0..2 {
        for id in fill(&spool) {
            spool.finish(id).expect("an open spool");
        }
    }
    let left = eventually(20, || (segments(&at).len() <= 2).then_some(()));
    assert!(left.is_some(), "{:?}", segments(&at));
    assert!(first.exists(), "what can't be read is left where it is");
    drop(spool);
    disk.mend();
    let (_spool, recovery) = open();
    assert!(!found(&recovery), "it had ended");
}

/// A real server on a disk that fails, what was handed in to it, and what came of it.
struct World {
    disk: Disk,
    server: Server,
    receiver: Receiver,
    client: Option<Client>,
    next: usize,
    /// Recipients, and whether their message got 250.
    handed_in: HashMap<String, bool>,
    last_reply: String,
    restarts: u64,
    struck: u64,
    refused: u64,
    /// The longest round and its faults.
    longest: (Duration, String),
}

fn message(number: usize) -> Vec<u8> {
    let mut content = small(&format!("fault-{number}"));
    for line in 0..number % 9 * 45 {
        content.extend_from_slice(
            format!("{line:04} of {number:05}, and some more so that it is a line of mail\r\n")
                .as_bytes(),
        );
    }
    content
}

impl World {
    fn new(dir: &Path, disk: Disk) -> Self {
        let tried = Mutex::new(BTreeSet::new());
        let receiver = Receiver::start(move |line| match line {
            l if l.starts_with("RCPT TO:<later") => {
                let mut tried = tried.lock().unwrap_or_else(PoisonError::into_inner);
                match tried.insert(l.to_owned()) {
                    true => Answer::say("451 4.2.1 Not now"),
                    false => Answer::Usual,
                }
            }
            _ => Answer::Usual,
        });
        let server = Server::start_in(
            dir,
            &format!(
                "spool = {{ dir = \"{}/spool\", segment_size = \"64KiB\", reserve = \"64KiB\", min_free = \"0B\", min_free_percent = \"0%\" }}\n\
                 limits.body_memory = \"0B\"\n\
                 delivery.limits = {{ connection_rate = \"1000/s\", message_rate = \"10000/s\" }}\n\
                 [[stream]]\nretry = {{ intervals = [\"1s\"], life = \"1h\", jitter = \"0%\" }}\n{}",
                disk.path().display(),
                smart_host(receiver.address)
            ),
        );
        Self {
            disk,
            server,
            receiver,
            client: None,
            next: 0,
            handed_in: HashMap::new(),
            last_reply: String::new(),
            restarts: 0,
            struck: 0,
            refused: 0,
            longest: Default::default(),
        }
    }

    /// Hands in one message; whether it was taken.
    fn hand_in(&mut self) -> bool {
        let number = self.next;
        self.next += 1;
        let to = self.server.address;
        let client = self.client.get_or_insert_with(|| Client::hello(to));
        let recipients = [
            format!("at-once{number}@d{}.test", number % 3),
            format!("later{number}@d0.test"),
        ];
        let recipients = &recipients[..1 + usize::from(number.is_multiple_of(3))];
        let quoted: Vec<String> = recipients.iter().map(|r| format!("<{r}>")).collect();
        let reply = client.try_submit("<a@sender.test>", &quoted, &message(number));
        // No reply would be an error after half a minute.
        let reply = reply.unwrap_or_else(|e| panic!("message {number} got no reply: {e}"));
        let taken = reply.starts_with("250 ");
        assert!(
            taken
                || reply.starts_with("451 4.3.0 ")
                || reply.starts_with("452 4.3.1 ")
                // What ailed it has passed between the question and the answer.
                || reply.starts_with("451 4.3.2 "),
            "{reply}"
        );
        self.refused += u64::from(!taken);
        self.last_reply = reply;
        for recipient in recipients {
            self.handed_in.insert(recipient.clone(), taken);
        }
        taken
    }

    fn warnings(&self) -> String {
        self.server.ask(&["status", "--json"])[0]["warnings"].to_string()
    }

    fn has_failed(&self) -> bool {
        self.warnings().contains("the spool has failed")
    }

    /// The faults strike under load; then either it goes on by itself, or it has failed and says so.
    fn round(&mut self, faults: &[Fault], text: &str) {
        let name = format!("{faults:?}");
        let before = self.server.log().len();
        self.disk.fail_all(faults.to_vec());
        let began = Instant::now();
        let end = began + Duration::from_secs(30);
        let mut more = 3;
        while more > 0 && Instant::now() < end {
            if !self.hand_in() {
                std::thread::sleep(Duration::from_millis(20));
            }
            more -= u32::from(self.disk.struck() > 0);
        }
        self.disk.mend();
        if began.elapsed() > self.longest.0 {
            self.longest = (began.elapsed(), name.clone());
        }
        let struck = self.disk.struck();
        assert!(struck > 0, "{name} was not reached");
        self.struck += struck;
        let goes_on = eventually(20, || match self.has_failed() {
            true => Some(false),
            false => self.hand_in().then_some(true),
        });
        let goes_on = goes_on.unwrap_or_else(|| {
            panic!(
                "{name}: it neither takes mail again nor says that it has failed: {}",
                self.last_reply
            )
        });
        let told = eventually(10, || {
            self.server.log()[before..].contains(text).then_some(())
        });
        assert!(
            told.is_some(),
            "{name}: no word of {text:?} in\n{}",
            &self.server.log()[before..]
        );
        if !goes_on {
            self.restart(&name, text);
        }
    }

    /// It has failed: it says why and what to do, and takes nothing. The disk loses what was not
    /// synced, and a restart finds the rest.
    fn restart(&mut self, name: &str, text: &str) {
        let warnings = self.warnings();
        let at = self.disk.path().display().to_string();
        assert!(
            warnings.contains("until a restart")
                && warnings.contains(text)
                && warnings.contains(&at),
            "{name}: {warnings}"
        );
        assert!(!self.hand_in(), "{name}: it takes mail after it has failed");
        assert!(
            self.last_reply.starts_with("451 4.3.0 "),
            "{}",
            self.last_reply
        );
        let failed = self.restarts as usize + 1;
        let events = self
            .server
            .wait_events("spool", failed, |e| e["state"] == "failed");
        let reason = events[failed - 1]["reason"].to_string();
        assert!(
            reason.contains(text) && reason.contains(&at),
            "{name}: {reason}"
        );
        self.client = None;
        match self.restarts % 2 {
            0 => self.server.stop(),
            _ => self.server.kill9(),
        }
        let mut replay = Replay::default();
        for op in self.disk.record() {
            replay.apply(&op);
        }
        let cut = match self.restarts % 3 {
            0 => Cut::Dropped,
            1 => Cut::Seed(self.restarts),
            _ => Cut::Kept,
        };
        self.disk.load(&replay.cut(cut, LEFT_OUT));
        self.server.restart();
        self.restarts += 1;
    }

    /// Everything ends, and each has what was sent to it; gives how many copies came too many.
    fn all_is_delivered(&self) -> usize {
        self.server.wait_empty();
        let mut arrived: HashMap<String, usize> = HashMap::new();
        for mail in self.receiver.mails() {
            for recipient in mail.recipients() {
                let digits: String = recipient
                    .chars()
                    .skip_while(|c| !c.is_ascii_digit())
                    .take_while(char::is_ascii_digit)
                    .collect();
                let number = digits.parse().expect("a recipient with a number");
                assert!(
                    mail.without_received() == message(number),
                    "{recipient} got something else:\n{}",
                    mail.text()
                );
                *arrived.entry(recipient).or_default() += 1;
            }
        }
        let lost: Vec<&String> = self
            .handed_in
            .iter()
            .filter(|(r, taken)| **taken && !arrived.contains_key(*r))
            .map(|(r, _)| r)
            .collect();
        assert!(lost.is_empty(), "lost: {lost:?}\n{}", self.server.log());
        if self.restarts == 0 {
            // What was refused was not kept: its sender hands it in again.
            let kept = |r: &String| self.handed_in.get(r) == Some(&true);
            let refused: Vec<&String> = arrived.keys().filter(|r| !kept(r)).collect();
            assert!(refused.is_empty(), "refused and delivered: {refused:?}");
        }
        arrived.values().map(|n| n - 1).sum()
    }
}

fn fault(what: What, path: &str, nth: u64, times: u64, errno: i32, some: usize) -> Fault {
    Fault {
        what,
        path: path.into(),
        nth,
        times,
        errno,
        some,
    }
}

const ALWAYS: u64 = u64::MAX;

pub(crate) fn what_fails_under_load_and_then_works_again() {
    let dir = scratch();
    let Some(disk) = Disk::mount(&dir.path().join("disk")) else {
        return;
    };
    let mut world = World::new(dir.path(), disk);
    let began = Instant::now();
    let errors = ERRORS.iter().chain(&[
        (libc::EROFS, "Read-only file system"),
        (libc::EACCES, "Permission denied"),
    ]);
    let mut rounds = 0;
    for &(errno, text) in errors {
        let f = |what, path: &str, nth, times, some| fault(what, path, nth, times, errno, some);
        let writes = |nth, times, some| f(What::Write, ".log", nth, times, some);
        let sets = [
            vec![writes(1, 1, 0)],
            vec![writes(4, 1, 100)],
            vec![writes(2, 6, 0)],
            vec![writes(1, ALWAYS, 0)],
            // What a failed write has left can't be cut off, and no other segment can be made.
            vec![
                writes(3, 1, 1000),
                f(What::SetLen, ".log", 1, 2, 0),
                f(What::Create, ".log", 1, 2, 0),
            ],
            // Outcomes go into the reserve, which isn't given back at once.
            vec![writes(2, 8, 0), f(What::Allocate, "reserve", 1, 3, 0)],
            vec![f(What::Create, ".log", 1, 1, 0)],
            vec![f(What::Create, ".log", 1, ALWAYS, 0)],
            vec![f(What::Remove, ".log", 1, 2, 0)],
            vec![f(What::Read, ".log", 1, 1, 0)],
            vec![f(What::Read, ".log", 1, ALWAYS, 0)],
            vec![f(What::Open, ".log", 1, 2, 0)],
        ];
        let own = errno == libc::EIO || errno == libc::ENOSPC;
        let sets = sets.into_iter().enumerate();
        // Of the other errors those that are told apart.
        for (_, set) in sets.filter(|(i, _)| own || matches!(i, 3 | 7)) {
            world.round(&set, text);
            rounds += 1;
        }
    }
    assert_eq!(
        world.restarts,
        0,
        "it has failed for good:\n{}",
        world.server.log()
    );
    let twice = world.all_is_delivered();
    say(&format!(
        "{rounds} faults under load that pass: {} calls failed, {} of {} messages were refused, the rest was delivered, {twice} copies too many, in {:.1} s; the longest was {:?}\n",
        world.struck,
        world.refused,
        world.next,
        began.elapsed().as_secs_f64(),
        world.longest
    ));
    assert_eq!(twice, 0);
    world.server.stop();
}

pub(crate) fn syncs_that_fail_under_load() {
    let dir = scratch();
    let Some(disk) = Disk::mount(&dir.path().join("disk")) else {
        return;
    };
    let mut world = World::new(dir.path(), disk);
    let began = Instant::now();
    let mut rounds = 0;
    for &(errno, text) in ERRORS {
        for (what, path, nth) in [
            (What::Sync, ".log", 1),
            (What::Sync, ".log", 3),
            (What::Sync, ".log", 9),
            (What::SyncFolder, "segments", 1),
            (What::SyncFolder, "segments", 2),
        ] {
            world.round(&[fault(what, path, nth, 1, errno, 0)], text);
            rounds += 1;
        }
    }
    let twice = world.all_is_delivered();
    say(&format!(
        "{rounds} failed syncs under load: {} restarts after what was not synced was lost, {} of {} messages were refused, the rest was delivered, {twice} copies too many, in {:.1} s\n",
        world.restarts,
        world.refused,
        world.next,
        began.elapsed().as_secs_f64()
    ));
    assert!(world.restarts >= 6, "{} restarts", world.restarts);
    world.server.stop();
}

pub(crate) fn a_start_on_a_failing_disk_says_what_would_be_right() {
    let dir = scratch();
    let Some(disk) = Disk::mount(&dir.path().join("disk")) else {
        return;
    };
    let spool = disk.path().join("spool");
    let server = Server::prepare(dir.path(), &format!("spool.dir = \"{}\"", spool.display()));
    let config = server.config().display().to_string();
    for (what, errno, says) in [
        (What::Sync, libc::EIO, "Input/output error"),
        (What::Write, libc::ENOSPC, "make room on its file system"),
        (What::SyncFolder, libc::EIO, "Input/output error"),
        (What::Create, libc::EROFS, "mounted writable"),
        (What::MakeFolder, libc::EACCES, "must own the folder"),
    ] {
        disk.load(&Image::default());
        disk.fail(fault(what, "", 1, ALWAYS, errno, 0));
        let out = run(&["serve", "--config", &config]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{what:?}: {said}");
        assert!(
            said.contains(&disk.path().display().to_string()) && said.contains(says),
            "{what:?}: {said}"
        );
    }
}
