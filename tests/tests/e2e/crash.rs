//! The promise: what got 250 ends delivered, bounced or expired, or is still queued, whatever
//! crashes in between.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use courser_tests::client::{Client, small, submit};
use courser_tests::receiver::{Answer, Receiver};
use courser_tests::server::{Server, smart_host};
use courser_tests::{eventually, setting, suite};

/// Rounds of kill -9, unless `COURSER_KILL_ROUNDS` says another number.
const ROUNDS: u64 = 20;
/// Recipients of each message.
const RECIPIENTS: u64 = 3;
/// Domains that they are spread over.
const DOMAINS: u64 = 5;
/// The longest that the receiver takes over an answer.
const SLOW: Duration = Duration::from_millis(150);
/// How long before a kill a receiver may have answered 250 to a message that comes again. The record
/// is written within a millisecond; the rest is for a machine that stands still for a while.
const WINDOW: Duration = Duration::from_secs(2);
/// How long after a kill a receiver may answer what the dead server had sent.
const ANSWERED_LATE: Duration = Duration::from_secs(2);

/// A small generator, so that one seed is one run.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Hands in messages until `stop`; what got 250 is noted. Reconnects when the server dies.
fn load(
    to: std::net::SocketAddr,
    thread: u64,
    stop: &AtomicBool,
    taken: &Mutex<Vec<String>>,
    next: &AtomicU64,
) {
    while !stop.load(Ordering::Acquire) {
        let Ok(mut client) = Client::open(to) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        if !matches!(client.reply(), Ok(Some(r)) if r.starts_with("220"))
            || client.send(b"EHLO load.test\r\n").is_err()
        {
            continue;
        }
        if !matches!(client.reply(), Ok(Some(_))) {
            continue;
        }
        while !stop.load(Ordering::Acquire) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let mut body = small(&format!("crash-{n}"));
            body.resize(body.len() + (n % 7) as usize * 300, b'x');
            body.extend_from_slice(b"\r\n");
            let recipients: Vec<String> = (0..RECIPIENTS)
                .map(|r| format!("<m{n}-{r}@d{}.test>", (n + r) % DOMAINS))
                .collect();
            // So much that something is always under way, and no more.
            std::thread::sleep(Duration::from_millis(4));
            match client.try_submit(&format!("<load{thread}@sender.test>"), &recipients, &body) {
                Ok(reply) if reply.starts_with("250 ") => {
                    let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
                    taken.extend(
                        recipients
                            .iter()
                            .map(|r| r.trim_matches(['<', '>']).to_owned()),
                    );
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
}

/// A receiver where some answers take a while, some recipients and some messages must come again,
/// once or twice, and one message in 100 has an unknown recipient.
fn moody() -> Receiver {
    let (ends, tries) = (AtomicU64::new(0), Mutex::new(HashMap::<String, u32>::new()));
    Receiver::start(move |line| match line {
        "." => match ends.fetch_add(1, Ordering::Relaxed) % 60 {
            0 => Answer::slowly(SLOW),
            1 => Answer::slowly(SLOW / 8),
            2 | 3 => Answer::say("451 4.3.0 Try again"),
            _ => Answer::Usual,
        },
        l if l.starts_with("RCPT TO:<m") => {
            if l.contains("00-1@") {
                return Answer::say("550 5.1.1 No such user");
            }
            let again = if l.contains("3-0@") {
                1
            } else {
                u32::from(l.contains("51-2@")) * 2
            };
            let mut tries = tries.lock().unwrap_or_else(PoisonError::into_inner);
            let tried = if again > 0 {
                tries.entry(l.to_owned()).or_default()
            } else {
                return Answer::Usual;
            };
            *tried += 1;
            if *tried <= again {
                Answer::say("451 4.2.1 Not now")
            } else {
                Answer::Usual
            }
        }
        _ => Answer::Usual,
    })
}

/// For each copy too many: how long before a kill the copy before it was answered with 250, in
/// milliseconds; negative when the answer came after the kill. Each copy needs a kill of its own;
/// copies that have none are told in the second list.
fn explain(arrived: &BTreeMap<String, Vec<Instant>>, kills: &[Instant]) -> (Vec<f64>, Vec<String>) {
    let (mut before_kill, mut unexplained) = (Vec::new(), Vec::new());
    for (recipient, times) in arrived {
        let mut left = kills.to_vec();
        for pair in times.windows(2) {
            let apart = |kill: Instant| match kill.checked_duration_since(pair[0]) {
                Some(before) => before.as_secs_f64() * 1e3,
                None => -(pair[0] - kill).as_secs_f64() * 1e3,
            };
            let fits = |kill: Instant| {
                kill < pair[1] && kill < pair[0] + WINDOW && kill + ANSWERED_LATE > pair[0]
            };
            let nearest = (0..left.len())
                .filter(|i| fits(left[*i]))
                .min_by(|a, b| apart(left[*a]).abs().total_cmp(&apart(left[*b]).abs()));
            match nearest {
                Some(i) => before_kill.push(apart(left.remove(i))),
                None => unexplained.push(format!(
                    "{recipient} came again {:?} after it was taken",
                    pair[1] - pair[0]
                )),
            }
        }
    }
    before_kill.sort_by(f64::total_cmp);
    (before_kill, unexplained)
}

pub(crate) fn kill_9_at_random_moments_under_load() {
    let rounds = setting("COURSER_KILL_ROUNDS", ROUNDS);
    let seed = suite::seed().unwrap_or_else(|| setting("COURSER_SEED", 0x5eed_c0de));
    let mut random = Seeded(seed | 1);
    let receiver = moody();
    let mut server = Server::start(&format!(
        "server.shards = 2\nspool.segment_size = \"1MiB\"\nspool.compact_after = \"0s\"\n\
         [delivery.limits]\nmessage_rate = \"100k/s\"\nconnection_rate = \"10k/s\"\nconnections = 20\n\
         [[stream]]\nretry = {{ intervals = [\"1s\"], life = \"1h\", jitter = \"0%\" }}\n{}",
        smart_host(receiver.address)
    ));
    let (stop, taken, next) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(Mutex::new(Vec::new())),
        Arc::new(AtomicU64::new(0)),
    );
    let threads: Vec<_> = (0..3)
        .map(|thread| {
            let (to, stop, taken, next) =
                (server.address, stop.clone(), taken.clone(), next.clone());
            std::thread::spawn(move || load(to, thread, &stop, &taken, &next))
        })
        .collect();
    let mut kills = Vec::new();
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(50 + random.below(500)));
        server.kill9();
        // What was answered up to here went to a server that was dead or about to be.
        kills.push(Instant::now());
        server.restart();
    }
    std::thread::sleep(Duration::from_millis(200));
    stop.store(true, Ordering::Release);
    for thread in threads {
        thread.join().expect("a load thread");
    }
    let taken = std::mem::take(&mut *taken.lock().unwrap_or_else(PoisonError::into_inner));
    // Everything left is delivered or ends otherwise.
    let end = Instant::now() + Duration::from_secs(60);
    while !server.queue().is_empty() {
        assert!(
            Instant::now() < end,
            "{} deliveries are left: {:#?}",
            server.queue().len(),
            server.queue().first()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut arrived: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
    let mut notified: HashSet<String> = HashSet::new();
    for mail in receiver.mails() {
        if mail.sender().is_empty() {
            let text = mail.text();
            let about = text
                .lines()
                .filter_map(|l| l.strip_prefix("Final-Recipient: rfc822; "));
            notified.extend(about.map(|r| r.trim_end().to_owned()));
            continue;
        }
        for recipient in mail.recipients() {
            arrived.entry(recipient).or_default().push(mail.at);
        }
    }
    arrived.values_mut().for_each(|times| times.sort());
    // Events are written beside the outcomes, not before them: a kill may take the last ones.
    let (mut bounced, mut told_of) = (HashSet::new(), HashSet::new());
    let mut deferred = 0;
    server.each_event(|event| {
        let recipient = || event["recipient"].as_str().unwrap_or_default().to_owned();
        match event["kind"].as_str() {
            Some("bounced" | "expired") => {
                bounced.insert(recipient());
                told_of.insert(recipient());
            }
            Some("delivered") => drop(told_of.insert(recipient())),
            Some("deferred") => deferred += 1,
            _ => {}
        }
    });
    // Whoever got 250 has the mail at its receiver, or a notification in its hands.
    let lost: Vec<&String> = taken
        .iter()
        .filter(|r| !arrived.contains_key(*r) && !notified.contains(*r))
        .collect();
    let no_event = taken.iter().filter(|r| !told_of.contains(*r)).count();
    let not_told: Vec<&String> = bounced.iter().filter(|r| !notified.contains(*r)).collect();
    let copies: usize = arrived.values().map(Vec::len).sum();
    let twice = copies - arrived.len();
    let (before_kill, unexplained) = explain(&arrived, &kills);
    let late = before_kill.iter().filter(|ms| **ms < 0.0).count();
    let at = |part: f64| {
        let last = before_kill.len().saturating_sub(1);
        before_kill
            .get((last as f64 * part) as usize)
            .copied()
            .unwrap_or_default()
    };
    let told = format!(
        "kill -9, {rounds} rounds, seed {seed}: {} recipients got 250, {deferred} deferrals, {copies} copies \
         arrived, {} notified of a failure, {} lost, {no_event} without an event of their end, {twice} copies too many ({:.3} %), of them {} not explained by a kill; \
         the copy before was answered so many ms before its kill: least {:.1}, median {:.1}, 90 % {:.1}, \
         99 % {:.1}, most {:.1}; {late} after it\n",
        taken.len(),
        notified.len(),
        lost.len(),
        100.0 * twice as f64 / copies.max(1) as f64,
        unexplained.len(),
        at(0.0),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
    );
    courser_tests::say(&told);
    assert!(lost.is_empty(), "{told}{:#?}", &lost[..lost.len().min(20)]);
    assert!(
        unexplained.is_empty(),
        "{told}{:#?}",
        &unexplained[..unexplained.len().min(20)]
    );
    assert!(
        not_told.is_empty(),
        "{told}bounced without a notification: {:#?}",
        &not_told[..not_told.len().min(20)]
    );
    assert!(
        taken.len() as u64 > 20 * rounds && deferred > 0 && !notified.is_empty(),
        "{told}"
    );
}

pub(crate) fn sigterm_finishes_what_is_in_flight() {
    let receiver = Receiver::start(|line| match line {
        "." => Answer::slowly(Duration::from_millis(400)),
        _ => Answer::Usual,
    });
    let mut server = Server::start(&format!(
        "delivery.limits = {{ connections = 2, messages_per_connection = 1000 }}\n{}",
        smart_host(receiver.address)
    ));
    let mut client = Client::hello(server.address);
    for i in 0..30 {
        client.submit(
            "<a@sender.test>",
            &[format!("<r{i}@dest.test>")],
            &small(&format!("drain-{i}")),
        );
    }
    let begun = eventually(10, || (receiver.count_of("MAIL") >= 2).then_some(()));
    assert!(begun.is_some());
    // One that is half way in is told that it isn't taken.
    let mut half = Client::hello(server.address);
    half.command("MAIL FROM:<a@sender.test>").expect_code("250");
    server.signal(libc::SIGTERM);
    assert!(half.read().0.starts_with("421 4.3.2"));
    server.wait_end();
    let before = receiver.count();
    assert!((1..30).contains(&before), "{before} of 30 were finished");
    // Nobody was left without an answer: what arrived is known to be delivered.
    assert_eq!(server.events_of("delivered").len(), before);
    let stopped = server
        .events_of("stopped")
        .pop()
        .expect("the end is an event");
    assert_eq!(stopped["deliveries"], 30 - before);
    assert_eq!(stopped["reason"], "SIGTERM");
    assert!(Client::open(server.address).is_err(), "it listens no more");
    server.restart();
    receiver.wait(30);
    server.wait_empty();
    let mut all: Vec<String> = receiver
        .mails()
        .iter()
        .flat_map(|m| m.recipients())
        .collect();
    all.sort();
    all.dedup();
    assert_eq!((all.len(), receiver.count()), (30, 30));
    server.stop();
}

pub(crate) fn draining_ends_in_time_although_a_receiver_hangs() {
    let receiver = Receiver::start(|line| match line {
        "." => Answer::slowly(Duration::from_secs(30)),
        _ => Answer::Usual,
    });
    let mut server = Server::start(&format!(
        "server.drain_timeout = \"1s\"\n{}",
        smart_host(receiver.address)
    ));
    let id = submit(
        server.address,
        "<a@sender.test>",
        &["<one@dest.test>"],
        &small("hangs"),
    );
    server.wait_reason(&id, "in-flight");
    let began = Instant::now();
    server.stop();
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    server.restart();
    assert_eq!(server.queue().len(), 1, "it is tried again");
    server.kill9();
}

pub(crate) fn drain_over_the_control_socket() {
    let mut server = Server::start("");
    let out = server.courser(&["drain"]);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    server.wait_end();
}

pub(crate) fn two_servers_do_not_share_a_spool() {
    let server = Server::start("");
    let out =
        courser_tests::server::run(&["serve", "--config", &server.config().display().to_string()]);
    assert_eq!(
        out.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(
        server.courser(&["status"]).status.success(),
        "the first one is well"
    );
}
