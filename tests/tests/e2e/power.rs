//! A power cut: whatever was written since the last completed sync may be there, torn, out of order
//! or not at all. What got 250 is there.
//!
//! A real server runs on a disk of our own ([`courser_tests::disk`]) that keeps a record of every
//! change. At each point of that record, and within long writes at the end of each record of the
//! spool, images are made of what a disk may hold after a power cut there, and the spool is opened on
//! each of them.

mod model;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use courser::spool::{DamageKind, Options, Recovery, Store};
use courser_tests::client::{Client, small};
use courser_tests::disk::power::{Cut, Replay, Seeded};
use courser_tests::disk::{Disk, Image, Op};
use courser_tests::receiver::{Answer, Receiver};
use courser_tests::server::{Server, scratch, smart_host};
use courser_tests::{eventually, setting, suite};
use model::{KILLED, Model, STARTED, Submission};

/// Messages that are handed in, unless `COURSER_POWER_MESSAGES` says another number.
const MESSAGES: u64 = 200;
/// Seeded images at each point, unless `COURSER_POWER_SEEDS` says another number.
const SEEDS: u64 = 3;
/// The power is cut once more while the spool of each so many-th image is opened, unless
/// `COURSER_POWER_AGAIN` says another number.
const AGAIN: u64 = 100;
/// Files that are made anew at every start.
const LEFT_OUT: &[&str] = &["lock", "reserve"];
/// Threads that recover images.
const THREADS: usize = 2;

fn submission(number: usize) -> Submission {
    let mut content = small(&format!("power-{number}"));
    let lines = match number % 20 {
        // Longer than a segment of the smallest size.
        7 => 900,
        n => n * 3,
    };
    for line in 0..lines {
        content.extend_from_slice(
            format!("{line:05} of {number:05}, and some more so that it is a line of mail\r\n")
                .as_bytes(),
        );
    }
    let mut recipients: Vec<String> = (0..1 + number % 4)
        .map(|r| format!("m{number}-{r}@d{}.test", (number + r) % 3))
        .collect();
    match number % 12 {
        3 => recipients.push(format!("later{number}@d0.test")),
        6 => recipients.push(format!("never{number}@d1.test")),
        9 => recipients.push(format!("stays{number}@d2.test")),
        _ => {}
    }
    Submission {
        sender: format!("s{}@sender.test", number % 5),
        recipients,
        content,
    }
}

/// One is deferred twice, one is refused, one is deferred always.
fn receiver() -> Receiver {
    let (tries, ends) = (Mutex::new(HashMap::<String, u32>::new()), AtomicU64::new(0));
    Receiver::start(move |line| match line {
        "." if ends.fetch_add(1, Ordering::Relaxed) % 15 == 4 => Answer::say("451 4.3.0 Not now"),
        l if l.starts_with("RCPT TO:<never") => Answer::say("550 5.1.1 No such user"),
        l if l.starts_with("RCPT TO:<stays") => Answer::say("451 4.2.1 Not ever"),
        l if l.starts_with("RCPT TO:<later") => {
            let mut tries = tries.lock().unwrap_or_else(PoisonError::into_inner);
            let tried = tries.entry(l.to_owned()).or_default();
            *tried += 1;
            if *tried < 3 {
                Answer::say("451 4.2.1 Not now")
            } else {
                Answer::Usual
            }
        }
        _ => Answer::Usual,
    })
}

/// Hands in the messages `of`, and marks each 250 in the disk's record.
fn hand_in(
    disk: &Disk,
    to: std::net::SocketAddr,
    of: &[Submission],
    next: &AtomicUsize,
    end: usize,
) {
    let mut client = Client::hello(to);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= end {
            return;
        }
        let s = &of[number];
        let recipients: Vec<String> = s.recipients.iter().map(|r| format!("<{r}>")).collect();
        match client.try_submit(&format!("<{}>", s.sender), &recipients, &s.content) {
            Ok(reply) => {
                assert!(reply.starts_with("250 "), "{reply}");
                disk.note(number as u64);
            }
            // It was killed.
            Err(_) => return,
        }
    }
}

/// A run of a real server with a kill -9 in the middle.
fn recorded_run(disk: &Disk, dir: &Path, submissions: &[Submission]) -> Vec<Op> {
    let receiver = receiver();
    let mut server = Server::start_in(
        dir,
        &format!(
            "spool = {{ dir = \"{}/spool\", segment_size = \"64KiB\", reserve = \"64KiB\", min_free_percent = \"0%\", compact_after = \"0s\" }}\n\
             [[stream]]\nretry = {{ intervals = [\"1s\"], life = \"1h\", jitter = \"0%\" }}\n{}",
            disk.path().display(),
            smart_host(receiver.address)
        ),
    );
    let (next, to) = (AtomicUsize::new(0), server.address);
    let half = submissions.len() * 2 / 3;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| hand_in(disk, to, submissions, &next, submissions.len()));
        }
        while next.load(Ordering::Relaxed) < half {
            std::thread::sleep(Duration::from_millis(1));
        }
        server.kill9();
        disk.note(KILLED);
    });
    server.restart();
    disk.note(STARTED);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| hand_in(disk, to, submissions, &next, submissions.len()));
        }
    });
    // What stays is moved out of sparse segments, and the rest of them unlinked.
    let stays = submissions
        .iter()
        .filter(|s| s.recipients.iter().any(|r| r.starts_with("stays")))
        .count();
    let rested = eventually(20, || (server.queue().len() <= stays).then_some(()));
    assert!(
        rested.is_some(),
        "more than what stays is left: {:#?}",
        server.queue()
    );
    std::thread::sleep(Duration::from_millis(1500));
    server.kill9();
    disk.record()
}

fn options() -> Options {
    Options {
        segment_bytes: 64 << 10,
        min_free_bytes: 0,
        min_free_percent: 0,
        reserve_bytes: 0,
        // The images are not the disk that is tested.
        sync: false,
        ..Options::default()
    }
}

/// Opens the spool of an image and compares it with the model.
fn recover(
    image: &Image,
    model: &Model,
    submissions: &[Submission],
    again: bool,
) -> Result<(), String> {
    let dir = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .map_err(|e| e.to_string())?;
    image.write(dir.path()).map_err(|e| e.to_string())?;
    let at = dir.path().join("spool");
    // What a power cut leaves is no damage of the disk, to a later start either.
    let alarm = |recovery: &Recovery| {
        let wrong = |kind| matches!(kind, DamageKind::Corrupt | DamageKind::Unreadable);
        match recovery.warnings.iter().find(|w| wrong(w.kind)) {
            Some(damage) => Err(format!("taken for damage: {damage}")),
            None => Ok(()),
        }
    };
    let (spool, recovery) = Store::open(&at, options()).map_err(|e| e.to_string())?;
    model.check(&spool, &recovery, submissions)?;
    alarm(&recovery)?;
    drop(spool);
    // Older segments are read less closely than the newest.
    for _ in 0..if again { 2 } else { 0 } {
        let (spool, later) = Store::open(&at, options()).map_err(|e| e.to_string())?;
        model.check(&spool, &later, submissions)?;
        alarm(&later)?;
        if later.messages != recovery.messages {
            return Err("a later start finds something else than the first".into());
        }
    }
    Ok(())
}

/// The cuts at one point.
fn cuts(op: &Op, index: usize, boundaries: &[usize], seed: u64, seeds: u64) -> Vec<Cut> {
    let mut cuts: Vec<Cut> = boundaries.iter().map(|b| Cut::Until(*b)).collect();
    let mut random = Seeded::new(seed ^ (index as u64) << 20);
    cuts.extend([Cut::Kept, Cut::Dropped]);
    cuts.extend((0..seeds).map(|_| Cut::Seed(random.below(u64::MAX))));
    if matches!(op, Op::Note(_)) {
        cuts.clear();
    }
    cuts
}

/// Opens the spool of an image on `disk`, and cuts the power at each point of that. Gives how many
/// images were recovered.
fn cut_while_opening(
    disk: &Disk,
    image: &Image,
    model: &Model,
    submissions: &[Submission],
    seed: u64,
) -> Result<u64, String> {
    disk.load(image);
    let loaded = disk.record().len();
    let options = Options {
        sync: true,
        ..options()
    };
    let opened = Store::open(disk.path().join("spool"), options).map_err(|e| e.to_string())?;
    drop(opened);
    let (mut replay, mut images) = (Replay::default(), 0);
    for (index, op) in disk.record().iter().enumerate() {
        replay.apply(op);
        if index < loaded {
            continue;
        }
        for cut in cuts(op, index, &[], seed, 1) {
            images += 1;
            recover(&replay.cut(cut, LEFT_OUT), model, submissions, false)
                .map_err(|why| format!("{cut:?} at {} while it was opened: {why}", brief(op)))?;
        }
    }
    Ok(images)
}

pub(crate) fn at_every_record_boundary() {
    let dir = scratch();
    let Some(disk) = Disk::mount(&dir.path().join("disk")) else {
        return;
    };
    let messages = setting("COURSER_POWER_MESSAGES", MESSAGES);
    let seeds = setting("COURSER_POWER_SEEDS", SEEDS);
    let seed = suite::seed().unwrap_or_else(|| setting("COURSER_SEED", 1));
    let submissions: Vec<Submission> = (0..messages as usize).map(submission).collect();
    let again_every = setting("COURSER_POWER_AGAIN", AGAIN).max(1);
    let record = recorded_run(&disk, dir.path(), &submissions);
    let disk = Mutex::new(disk);
    let began = Instant::now();
    let (images, again, open_most) = (AtomicU64::new(0), AtomicU64::new(0), AtomicUsize::new(0));
    let last = std::thread::scope(|scope| {
        let sweeps: Vec<_> =
            (0..THREADS)
                .map(|thread| {
                    let (record, submissions, disk) = (&record, &submissions, &disk);
                    let (images, again, open_most) = (&images, &again, &open_most);
                    scope.spawn(move || {
                    let (mut replay, mut model) = (Replay::default(), Model::default());
                    for (index, op) in record.iter().enumerate() {
                        replay.apply(op);
                        model.apply(op, &replay, submissions);
                        if index % THREADS != thread {
                            continue;
                        }
                        for cut in cuts(op, index, &model.boundaries, seed, seeds) {
                            let image = replay.cut(cut, LEFT_OUT);
                            let number = images.fetch_add(1, Ordering::Relaxed);
                            let mut done = recover(&image, &model, submissions, number % 8 == 0);
                            if done.is_ok() && number % again_every == 0 {
                                let disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
                                done =
                                    cut_while_opening(&disk, &image, &model, submissions, number)
                                        .map(|n| {again.fetch_add(n, Ordering::Relaxed);});
                            }
                            if let Err(why) = done {
                                let around = &record[index.saturating_sub(3)..=index];
                                let around: Vec<String> = around.iter().map(brief).collect();
                                panic!(
                                    "power cut {cut:?} at point {index} of {}: {why}; {around:#?}",
                                    record.len()
                                );
                            }
                        }
                        open_most.fetch_max(model.open(), Ordering::Relaxed);
                    }
                    model
                })
                })
                .collect();
        sweeps
            .into_iter()
            .map(|s| s.join().expect("a sweep"))
            .next_back()
            .expect("some sweeps")
    });
    let told = format!(
        "power cut, seed {seed}: {} points, {} records in {} segments ({} unlinked, {} messages moved, \
         {} notifications), up to {} messages open; {} images recovered, {} more after a cut while one was opened, in {:.1} s; nothing lost, nothing invented\n",
        record.len(),
        last.records,
        last.rolls,
        last.unlinked,
        last.moved,
        last.notifications,
        open_most.into_inner(),
        images.into_inner(),
        again.into_inner(),
        began.elapsed().as_secs_f64()
    );
    courser_tests::say(&told);
    assert!(
        last.rolls > 4 && last.unlinked > 2 && last.moved > 0 && last.notifications > 0,
        "{told}"
    );
}

/// An operation without its data.
fn brief(op: &Op) -> String {
    match op {
        Op::Write { file, at, data } => {
            format!("Write {{ file: {file}, at: {at}, bytes: {} }}", data.len())
        }
        other => format!("{other:?}"),
    }
}
