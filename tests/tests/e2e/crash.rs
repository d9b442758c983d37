//! The promise: what got 250 ends delivered, bounced or expired, or is still queued, whatever
//! crashes in between.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use courser::events::MADE_UP;
use courser_tests::client::{Client, small, submit};
use courser_tests::receiver::{Answer, Mail, Receiver};
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
/// How many messages a session may have brought after one that comes again: its record is written
/// while the next ones are under way, within a millisecond where the machine has time for it.
const BEHIND: usize = 20;
/// In how many of 100 cases no more than [`USUALLY_BEHIND`] came after it.
const USUAL: usize = 90;
/// A transaction that was under way, and one that had begun before the record was written.
const USUALLY_BEHIND: usize = 2;

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

/// A message at the receiver, for one of its recipients.
#[derive(Clone, Copy, Debug)]
struct Copied {
    /// How many kills came before the session that brought it.
    life: usize,
    /// How many messages the session brought after it.
    behind: usize,
    at: Instant,
}

/// The copies of each recipient's message, and of the notifications about each, in the order of their
/// coming. `begun`: for each kill, how many sessions there were.
fn copies(mails: &[Mail], begun: &[usize]) -> BTreeMap<String, Vec<Copied>> {
    let mut left: HashMap<usize, usize> = HashMap::new();
    for mail in mails {
        *left.entry(mail.session).or_default() += 1;
    }
    let mut found: BTreeMap<String, Vec<Copied>> = BTreeMap::new();
    for mail in mails {
        let left = left.entry(mail.session).or_default();
        *left -= 1;
        let it = Copied {
            life: begun.partition_point(|sessions| *sessions <= mail.session),
            behind: *left,
            at: mail.at,
        };
        let of: Vec<String> = match mail.sender() {
            "" => about(mail),
            _ => mail.recipients(),
        };
        for key in of {
            found.entry(key).or_default().push(it);
        }
    }
    found
}

/// What a notification is about, so that it isn't taken for the message itself.
fn about(mail: &Mail) -> Vec<String> {
    let text = mail.text();
    let lines = text
        .lines()
        .filter_map(|l| l.strip_prefix("Final-Recipient: rfc822; "));
    lines.map(|r| format!("{NOTICE}{}", r.trim_end())).collect()
}

/// What [`about`] puts before a recipient.
const NOTICE: &str = "notice of ";

/// The copies after which another came, and what isn't the window of a crash: a copy may come again
/// only after a kill, and only if it was among the last of the session that the kill ended.
fn explain(copies: &BTreeMap<String, Vec<Copied>>) -> (Vec<Copied>, Vec<String>) {
    let (mut again, mut unexplained) = (Vec::new(), Vec::new());
    for (key, copies) in copies {
        // A slow receiver may take a copy of the session before after the next one has begun.
        let mut copies = copies.clone();
        copies.sort_by_key(|c| c.life);
        for pair in copies.windows(2) {
            again.push(pair[0]);
            if pair[0].life == pair[1].life {
                unexplained.push(format!("{key} came twice without a kill in between"));
            } else if pair[0].behind > BEHIND {
                unexplained.push(format!(
                    "{key} came again although {} more came over the session of the first",
                    pair[0].behind
                ));
            }
        }
    }
    again.sort_by_key(|c| c.behind);
    (again, unexplained)
}

/// What isn't the window of a crash is seen as such.
pub(crate) fn copies_without_a_reason_are_found() {
    let at = Instant::now();
    let of = |life, behind| Copied { life, behind, at };
    let judge = |copies: &[Copied]| {
        let one = BTreeMap::from([("a@d.test".to_owned(), copies.to_vec())]);
        let (again, unexplained) = explain(&one);
        (again.len(), unexplained.len())
    };
    assert_eq!(judge(&[of(3, 9)]), (0, 0));
    assert_eq!(judge(&[of(3, 0), of(4, 7)]), (1, 0));
    assert_eq!(judge(&[of(3, 0), of(4, 0), of(6, 7)]), (2, 0));
    assert_eq!(judge(&[of(3, 0), of(3, 0)]), (1, 1), "no kill");
    assert_eq!(
        judge(&[of(3, BEHIND + 1), of(4, 0)]),
        (1, 1),
        "recorded long since"
    );

    // As the receiver sees it: whoever sends all twice is caught.
    let receiver = Receiver::friendly();
    let mut begun = Vec::new();
    for life in 0..2 {
        let mut client = Client::hello(receiver.address);
        for n in 0..BEHIND + 5 {
            let to = [format!("<m{n}@d.test>")];
            let body = small(&format!("{life}-{n}"));
            let reply = client.try_submit("<a@sender.test>", &to, &body);
            assert!(matches!(reply, Ok(r) if r.starts_with("250 ")));
        }
        begun.push(receiver.sessions_by_now());
    }
    let (again, unexplained) = explain(&copies(&receiver.mails(), &begun));
    assert_eq!((again.len(), unexplained.len()), (BEHIND + 5, 4));
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
    let (mut kills, mut begun) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(50 + random.below(500)));
        kills.push(Instant::now());
        server.kill9();
        begun.push(receiver.sessions_by_now());
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
    let copies = copies(&receiver.mails(), &begun);
    let arrived = |r: &str| copies.contains_key(r);
    let notified = |r: &str| copies.contains_key(&format!("{NOTICE}{r}"));
    let notices = copies.keys().filter(|k| k.starts_with(NOTICE)).count();
    // Events are written beside the outcomes; those that a kill took, the next start makes up.
    let (mut bounced, mut told_of) = (HashSet::new(), HashSet::new());
    let (mut deferred, mut made_up) = (0, 0);
    server.each_event(|event| {
        let recipient = || event["recipient"].as_str().unwrap_or_default().to_owned();
        made_up += usize::from(event["cause"] == MADE_UP);
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
        .filter(|r| !arrived(r) && !notified(r))
        .collect();
    let no_event: Vec<&String> = taken.iter().filter(|r| !told_of.contains(*r)).collect();
    let not_told: Vec<&String> = bounced.iter().filter(|r| !notified(r)).collect();
    let all: usize = copies.values().map(Vec::len).sum();
    let (again, unexplained) = explain(&copies);
    let usual = again.iter().filter(|c| c.behind <= USUALLY_BEHIND).count();
    // How long before its kill a copy was taken, milliseconds; below zero: after it.
    let mut before: Vec<f64> = again
        .iter()
        .filter_map(|c| {
            let kill = kills.get(c.life)?;
            Some(match kill.checked_duration_since(c.at) {
                Some(before) => before.as_secs_f64() * 1e3,
                None => -(c.at - *kill).as_secs_f64() * 1e3,
            })
        })
        .collect();
    before.sort_by(f64::total_cmp);
    let at = |part: f64| {
        let last = before.len().saturating_sub(1);
        let at = before.get((last as f64 * part) as usize);
        at.copied().unwrap_or_default()
    };
    let told = format!(
        "kill -9, {rounds} rounds, seed {seed}: {} recipients got 250, {deferred} deferrals, {notices} notified \
         of a failure, {} lost, {} without an event of their end ({made_up} events made up); {all} copies arrived, {} too many \
         ({:.3} %), {} of them unexplained; {} taken after their kill, the others so many ms before it: median \
         {:.1}, 90 % {:.1}, 99 % {:.1}, most {:.1}; {usual} were among the last {} of their session, the others \
         had at most {} behind them\n",
        taken.len(),
        lost.len(),
        no_event.len(),
        again.len(),
        100.0 * again.len() as f64 / all.max(1) as f64,
        unexplained.len(),
        before.iter().filter(|ms| **ms < 0.0).count(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        USUALLY_BEHIND + 1,
        again.last().map_or(0, |c| c.behind),
    );
    courser_tests::say(&told);
    assert!(lost.is_empty(), "{told}{:#?}", &lost[..lost.len().min(20)]);
    assert!(
        no_event.is_empty(),
        "{told}{:#?}",
        &no_event[..no_event.len().min(20)]
    );
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
        usual * 100 >= again.len() * USUAL,
        "records are written late: {told}"
    );
    assert!(
        taken.len() as u64 > 20 * rounds && deferred > 0 && notices > 0,
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
