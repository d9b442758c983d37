//! The civil clock is set forward and back while mail waits, is on its way, and over a restart:
//! nothing is lost, nothing is parked, nothing expires before its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use courser_tests::client::{small, submit};
use courser_tests::clock::{CivilClock, unix_and, unix_of};
use courser_tests::need::need;
use courser_tests::receiver::{Answer, Receiver};
use courser_tests::server::{Server, scratch, smart_host};
use serde_json::Value;

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;

/// How far off the right time the clock is set, seconds.
const JUMPS: [i64; 4] = [DAY, -DAY, 10 * YEAR, -60 * YEAR];

/// A server whose civil clock can be set, and a receiver that says "later" to `later@` until
/// `recovers`, and to `never@` always; `slow@` waits for its answer.
struct World {
    server: Server,
    receiver: Receiver,
    recovers: Arc<AtomicBool>,
    clock: CivilClock,
    _dir: tempfile::TempDir,
}

/// How long `slow@` waits.
const SLOW: Duration = Duration::from_millis(1500);

fn world() -> World {
    let recovers = Arc::new(AtomicBool::new(false));
    let recovered = recovers.clone();
    let slow = AtomicBool::new(false);
    let receiver = Receiver::start(move |line| match line {
        l if l.starts_with("RCPT TO:<never@") => Answer::say("451 4.2.1 Never"),
        l if l.starts_with("RCPT TO:<later@") && !recovered.load(Ordering::Acquire) => {
            Answer::say("451 4.2.1 Later")
        }
        l if l.starts_with("RCPT TO:<slow@") => {
            slow.store(true, Ordering::Release);
            Answer::Usual
        }
        "." if slow.swap(false, Ordering::AcqRel) => Answer::slowly(SLOW),
        _ => Answer::Usual,
    });
    let dir = scratch();
    let clock = CivilClock::new(dir.path());
    let mut server = Server::prepare(
        dir.path(),
        &format!(
            "[[stream]]\nretry = {{ intervals = [\"2s\"], life = \"1h\", jitter = \"0%\" }}\ndelay_dsn_after = \"30m\"\n\
             [[stream]]\nname = \"short\"\nretry = {{ intervals = [\"1s\"], life = \"4s\", jitter = \"0%\" }}\ndelay_dsn_after = \"off\"\n{}",
            smart_host(receiver.address)
        ),
    );
    server.set_environment(clock.environment());
    server.restart();
    World {
        server,
        receiver,
        recovers,
        clock,
        _dir: dir,
    }
}

impl World {
    fn submit(&self, to: &str, subject: &str) -> String {
        let to = format!("<{to}@dest.test>");
        submit(
            self.server.address,
            "<sender@sender.test>",
            &[to],
            &small(subject),
        )
    }

    fn count(&self, kind: &str, message: &str) -> usize {
        let story = self.server.story(message);
        story.iter().filter(|e| e["kind"] == kind).count()
    }

    fn wait(&self, kind: &str, message: &str) -> Value {
        self.server.wait_event(kind, |e| e["message"] == message)
    }

    /// What was handed in for these arrived as it was, each once, and no other mail of a sender.
    fn arrived_once(&self, off_s: i64, handed_in: &[(&str, &str)]) {
        let shown = |to: Vec<String>, mail: &[u8]| (to, String::from_utf8_lossy(mail).into_owned());
        let mut right: Vec<_> = handed_in
            .iter()
            .map(|(to, subject)| shown(vec![format!("{to}@dest.test")], &small(subject)))
            .collect();
        let mails = self.receiver.mails();
        // Notices have no sender.
        let sent = mails.iter().filter(|m| !m.sender().is_empty());
        let mut arrived: Vec<_> = sent
            .map(|m| shown(m.recipients(), m.without_received()))
            .collect();
        right.sort();
        arrived.sort();
        assert_eq!(arrived, right, "{off_s}");
    }
}

/// Whether an event was stamped by a clock that is so far off; before 1970 it stands still there.
fn is_stamped(event: &Value, off_s: i64) -> bool {
    let right = unix_and(off_s).max(0);
    let time = event["time"].as_str().and_then(unix_of);
    time.is_some_and(|t| (right - 60..=right + 1).contains(&t))
}

fn jump_while_mail_waits(off_s: i64) {
    let w = world();
    let deferred = w.submit("later", "deferred");
    let first = w.wait("deferred", &deferred);
    assert!(is_stamped(&first, 0), "{first:#}");
    let short = [b"X-Courser-Stream: short\r\n".to_vec(), small("short")].concat();
    let short = submit(w.server.address, "<>", &["<never@dest.test>"], &short);
    w.wait("deferred", &short);
    let slow = w.submit("slow", "in-flight");
    w.server.wait_reason(&slow, "in-flight");

    w.clock.set(off_s);
    let new = w.submit("anyone", "after the jump");
    let received = w.wait("received", &new);
    assert!(is_stamped(&received, off_s), "{off_s}: {received:#}");
    // What was in flight comes through, and what waits is tried again: in seconds, not in days.
    w.wait("delivered", &slow);
    w.wait("delivered", &new);
    let before = w.count("deferred", &deferred);
    let again = w.server.wait_events("deferred", before + 2, |e| {
        e["message"] == deferred.as_str()
    });
    let again = again.last().expect("there are some");
    assert!(is_stamped(again, off_s), "{off_s}: {again:#}");
    let next = again["next_attempt"]
        .as_str()
        .and_then(unix_of)
        .unwrap_or(i64::MIN);
    let right = unix_and(off_s).max(0);
    assert!(
        (right - 60..=right + 5).contains(&next),
        "{off_s}: {again:#}"
    );
    // Its life is an hour, and it has lived for some seconds.
    let shown = w.server.show(&deferred).expect("it is in the queue");
    let expires = shown["expires"]
        .as_str()
        .and_then(unix_of)
        .unwrap_or(i64::MIN);
    assert!(
        (right + 3500..=right + 3601).contains(&expires),
        "{off_s}: {shown:#}"
    );
    // Where life is four seconds, it ends after four seconds.
    let expired = w.wait("expired", &short);
    let waited = expired["queued_ms"].as_u64().unwrap_or(0);
    assert!((2_000..60_000).contains(&waited), "{off_s}: {expired:#}");
    w.recovers.store(true, Ordering::Release);
    w.wait("delivered", &deferred);
    w.server.wait_empty();
    for kind in ["bounced", "dsn"] {
        assert!(w.server.events_of(kind).is_empty(), "{off_s}: {kind}");
    }
    w.arrived_once(
        off_s,
        &[
            ("later", "deferred"),
            ("slow", "in-flight"),
            ("anyone", "after the jump"),
        ],
    );
    // It was stamped when it came, by the clock as it was.
    let mails = w.receiver.mails();
    let of = |subject: &str| {
        let mail = mails.iter().find(|m| m.text().contains(subject));
        let text = mail.expect("it arrived").text();
        let end = text.find("\r\nFrom:").unwrap_or(text.len());
        text[..end].replace("\r\n", " ")
    };
    let year = |unix: i64| format!(" {} ", 1970 + unix.max(0) / (YEAR + DAY / 4));
    for (subject, off_s) in [("<deferred@", 0), ("<after the jump@", off_s)] {
        let (received, year) = (of(subject), year(unix_and(off_s)));
        assert!(received.contains(&year), "{off_s}: {year:?} in {received}");
    }
}

pub(crate) fn jumps_while_mail_waits() {
    if need(&["faketime"]) {
        beside_each_other(jump_while_mail_waits);
    }
}

fn jump_over_a_restart(off_s: i64) {
    let mut w = world();
    let later = w.submit("later", "later");
    let never = w.submit("never", "never");
    w.wait("deferred", &later);
    w.wait("deferred", &never);
    let tries = |w: &World| w.receiver.count_of("RCPT TO:<never@");
    w.server.kill9();
    w.clock.set(off_s);
    w.recovers.store(true, Ordering::Release);
    let before = tries(&w);
    w.server.restart();
    let started = w.server.wait_events("started", 2, |_| true).remove(1);
    assert!(is_stamped(&started, off_s), "{off_s}: {started:#}");
    // Its next try was two seconds away, and its life may seem to be long over.
    let delivered = w.wait("delivered", &later);
    assert!(is_stamped(&delivered, off_s), "{off_s}: {delivered:#}");
    // Ids go on, so that the events of two messages are never mixed up.
    let new = w.submit("anyone", "new");
    assert!(new > later && new > never, "{off_s}: {new} after {later}");
    w.wait("delivered", &new);
    if off_s > 3600 {
        // It has had its last chance.
        let expired = w.wait("expired", &never);
        assert_eq!(expired["code"], 451, "{off_s}: {expired:#}");
        assert_eq!(tries(&w), before + 1, "{off_s}");
        w.wait("dsn", &never);
        w.server.wait_empty();
    } else {
        let more = w.count("deferred", &never) + 2;
        w.server
            .wait_events("deferred", more, |e| e["message"] == never.as_str());
        assert_eq!(w.count("expired", &never), 0);
    }
    // And back again, while it runs and over another restart.
    w.clock.set(0);
    let last = w.submit("anyone", "last");
    assert!(last > new, "{off_s}: {last} after {new}");
    w.wait("delivered", &last);
    w.server.stop();
    w.server.restart();
    let again = w.submit("anyone", "again");
    assert!(again > last, "{off_s}: {again} after {last}");
    w.wait("delivered", &again);
    w.arrived_once(
        off_s,
        &[
            ("later", "later"),
            ("anyone", "new"),
            ("anyone", "last"),
            ("anyone", "again"),
        ],
    );
}

pub(crate) fn jumps_over_a_restart() {
    if need(&["faketime"]) {
        beside_each_other(jump_over_a_restart);
    }
}

/// Each jump with a server of its own, all at the same time.
fn beside_each_other(test: fn(i64)) {
    let all = JUMPS.map(|off_s| {
        let named = std::thread::Builder::new().name(format!("{off_s:+} s"));
        named.spawn(move || test(off_s)).expect("a thread")
    });
    let failed = all.into_iter().filter_map(|t| t.join().err()).count();
    assert_eq!(failed, 0, "jumps that went wrong");
}
