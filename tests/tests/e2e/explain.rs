//! `courser queue show` on a delivery that waits for each possible reason: the reason, and the
//! time where there is one.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use courser_tests::client::{Client, small, submit};
use courser_tests::eventually;
use courser_tests::receiver::{Answer, Receiver};
use courser_tests::server::{Server, smart_host};
use serde_json::Value;

/// Seconds from now to what stands in `at`, an RFC 3339 time.
fn seconds_until(server: &Server, at: &Value) -> f64 {
    let at = at.as_str().unwrap_or_else(|| panic!("no time but {at}"));
    let status = server.ask(&["status", "--json"]).swap_remove(0);
    let now = status["now"]
        .as_str()
        .expect("the server's clock")
        .to_owned();
    unix_ms(at) - unix_ms(&now)
}

/// Seconds of an RFC 3339 time within the year 2000 and later, UTC.
fn unix_ms(text: &str) -> f64 {
    let n = |r: std::ops::Range<usize>| text[r].parse::<i64>().expect("digits of an RFC 3339 time");
    let (y, m, d) = (n(0..4), n(5..7), n(8..10));
    // Days from civil, Howard Hinnant's way, with March as the first month.
    let (y, m) = if m <= 2 { (y - 1, m + 9) } else { (y, m - 3) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + d - 1;
    let seconds: f64 = text[17..].trim_end_matches('Z').parse().expect("seconds");
    (days * 86_400 + n(11..13) * 3600 + n(14..16) * 60) as f64 + seconds
}

fn send(server: &Server, to: &str, subject: &str) -> String {
    submit(
        server.address,
        "<sender@sender.test>",
        &[format!("<{to}>")],
        &small(subject),
    )
}

/// `until` must lie between these seconds from now.
fn due_in(server: &Server, shown: &Value, from: f64, to: f64) {
    let left = seconds_until(server, &shown["waiting"]["until"]);
    assert!(
        (from..=to).contains(&left),
        "{left} s, not {from}..{to}: {shown:#}"
    );
}

/// The text that `queue show` prints for people has the same in words.
fn in_words(server: &Server, id: &str, words: &[&str]) {
    let out = server.courser(&["queue", "show", id]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    for word in words {
        assert!(said.contains(word), "{word:?} is not in\n{said}");
    }
}

pub(crate) fn retry_time() {
    let receiver = Receiver::start(|line| match line {
        l if l.starts_with("RCPT") => Answer::say("451 4.2.1 Mailbox busy, later please"),
        _ => Answer::Usual,
    });
    let server = Server::start(&smart_host(receiver.address));
    let id = send(&server, "one@dest.test", "retry");
    let shown = server.wait_reason(&id, "retry-time");
    due_in(&server, &shown, 240.0, 360.0);
    assert_eq!(shown["state"], "deferred");
    assert_eq!(shown["attempts"], 1);
    assert!(
        shown["last_reply"]
            .as_str()
            .unwrap_or_default()
            .contains("451 4.2.1 Mailbox busy, later please"),
        "{shown:#}"
    );
    assert!(
        shown["last_attempt"]["reply"]
            .as_str()
            .unwrap_or_default()
            .contains("Mailbox busy")
    );
    assert!(seconds_until(&server, &shown["expires"]) > 4.9 * 86_400.0);
    in_words(
        &server,
        &id,
        &["retry time has not come", "Mailbox busy", "one@dest.test"],
    );
}

pub(crate) fn message_rate() {
    let receiver = Receiver::friendly();
    let server = Server::start(&format!(
        "delivery.limits.message_rate = \"2/h\"\n{}",
        smart_host(receiver.address)
    ));
    for i in 0..2 {
        send(&server, "one@dest.test", &format!("rate-{i}"));
    }
    let first = eventually(5, || (receiver.count() >= 1).then_some(()));
    assert!(first.is_some());
    let id = send(&server, "one@dest.test", "rate-last");
    let shown = server.wait_reason(&id, "message-rate");
    // Half an hour for each before it and itself.
    due_in(&server, &shown, 60.0, 7200.0);
    assert!(
        shown["waiting"]["text"]
            .as_str()
            .unwrap_or_default()
            .contains("2/h"),
        "{shown:#}"
    );
    assert!(receiver.count() <= 2);
}

pub(crate) fn connection_rate() {
    let receiver = Receiver::friendly();
    let limits = "delivery.limits = { connection_rate = \"1/h\", messages_per_connection = 1, connections = 5 }";
    let server = Server::start(&format!("{limits}\n{}", smart_host(receiver.address)));
    send(&server, "one@dest.test", "first");
    receiver.wait(1);
    let id = send(&server, "one@dest.test", "second");
    let shown = server.wait_reason(&id, "connection-rate");
    due_in(&server, &shown, 1800.0, 3700.0);
    assert!(
        shown["waiting"]["text"]
            .as_str()
            .unwrap_or_default()
            .contains("1/h"),
        "{shown:#}"
    );
    assert_eq!(receiver.sessions(), 1);
}

/// A receiver that keeps each message waiting until the flag falls.
fn stuck() -> (Arc<AtomicBool>, Receiver) {
    let held = Arc::new(AtomicBool::new(true));
    let holding = held.clone();
    let receiver = Receiver::start(move |line| {
        if line == "." {
            while holding.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Answer::Usual
    });
    (held, receiver)
}

pub(crate) fn in_flight_turn_and_concurrency() {
    let (held, receiver) = stuck();
    let server = Server::start(&format!(
        "delivery.limits.connections = 1\n{}",
        smart_host(receiver.address)
    ));
    let first = send(&server, "one@dest.test", "first");
    let shown = server.wait_reason(&first, "in-flight");
    assert_eq!(shown["state"], "in-flight");
    assert_eq!(shown["waiting"]["until"], Value::Null);
    // With CHUNKING a second one may be on the wire already; of several, the last ones wait.
    let waiting: Vec<String> = (0..6)
        .map(|i| send(&server, "one@dest.test", &format!("next-{i}")))
        .collect();
    let mut reasons = Vec::new();
    let found = eventually(10, || {
        reasons = waiting
            .iter()
            .filter_map(|id| server.show(id))
            .map(|d| {
                d["waiting"]["reason"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect();
        reasons.iter().any(|r| r == "concurrency").then_some(())
    });
    assert!(found.is_some(), "{reasons:?}");
    assert!(
        reasons
            .iter()
            .all(|r| ["concurrency", "turn", "in-flight"].contains(&&**r)),
        "{reasons:?}"
    );
    in_words(
        &server,
        waiting.last().expect("there are some"),
        &["1 of 1 connections"],
    );
    held.store(false, Ordering::Release);
    receiver.wait(7);
    server.wait_empty();
}

pub(crate) fn sessions() {
    let (held, receiver) = stuck();
    let other = Receiver::friendly();
    let server = Server::start(&format!(
        "limits = {{ max_delivery_sessions = 1 }}\n[[route]]\ndomain = \"other.test\"\nto = [\"{}\"]\n{}",
        other.address,
        smart_host(receiver.address)
    ));
    let first = send(&server, "one@dest.test", "first");
    server.wait_reason(&first, "in-flight");
    let id = send(&server, "one@other.test", "second");
    let shown = server.wait_reason(&id, "sessions");
    assert_eq!(shown["waiting"]["until"], Value::Null, "{shown:#}");
    assert_eq!(other.count(), 0);
    held.store(false, Ordering::Release);
    other.wait(1);
    server.wait_empty();
}

pub(crate) fn held_by_an_operator() {
    let receiver = Receiver::start(|line| match line {
        l if l.starts_with("RCPT") => Answer::say("451 4.2.1 Later"),
        _ => Answer::Usual,
    });
    let server = Server::start(&smart_host(receiver.address));
    let id = send(&server, "one@dest.test", "held");
    server.wait_reason(&id, "retry-time");
    let changed = server.ask(&[
        "queue",
        "hold",
        &id,
        "--reason",
        "looking into it",
        "--json",
    ]);
    assert_eq!(changed[0]["count"], 1);
    let shown = server.wait_reason(&id, "held");
    assert_eq!(shown["state"], "held");
    assert_eq!(shown["waiting"]["until"], Value::Null);
    in_words(&server, &id, &["an operator holds it", "queue release"]);
    server.wait_event("held", |e| {
        e["message"] == id.as_str() && e["cause"] == "looking into it"
    });
}

pub(crate) fn a_dead_host() {
    // Bound and not listening: connections are refused, and nobody else takes the port.
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address: SocketAddr = closed.local_addr().expect("an address");
    drop(closed);
    let server = Server::start(&format!(
        "delivery.dead_host = {{ first = \"10m\" }}\n{}",
        smart_host(address)
    ));
    let id = send(&server, "one@dest.test", "dead");
    let reason = eventually(10, || {
        let shown = server.show(&id)?;
        (shown["waiting"]["reason"] == "dead-host" || shown["attempts"] == 1).then_some(shown)
    });
    assert!(reason.is_some());
    // One that comes now finds out without a connection.
    let second = send(&server, "two@dest.test", "dead-too");
    let shown = server.wait_reason(&second, "dead-host");
    due_in(&server, &shown, 60.0, 660.0);
    assert!(
        shown["waiting"]["text"]
            .as_str()
            .unwrap_or_default()
            .contains("127.0.0.1"),
        "{shown:#}"
    );
}

pub(crate) fn dns_that_does_not_answer() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let server = Server::start(&format!(
        "dns = {{ servers = [\"{address}\"], timeout = \"500ms\" }}\n"
    ));
    let id = send(&server, "one@dest.test", "dns");
    // While it is being asked, and after that.
    let shown = server.wait_reason(&id, "dns");
    assert!(
        shown["waiting"]["text"]
            .as_str()
            .unwrap_or_default()
            .contains("dest.test"),
        "{shown:#}"
    );
    let failed = eventually(15, || {
        server
            .show(&id)
            .filter(|d| d["waiting"]["until"].is_string())
    });
    let failed = failed.unwrap_or_else(|| panic!("{:#?}", server.show(&id)));
    assert_eq!(failed["waiting"]["reason"], "dns", "{failed:#}");
    due_in(&server, &failed, 1.0, 600.0);
    drop(silent);
}

pub(crate) fn a_receiver_that_wants_less() {
    let receiver = Receiver::start(|line| match line {
        l if l.starts_with("MAIL") => Answer::SayAndClose(
            "421 4.7.28 Our system has detected an unusual rate of mail from your IP address"
                .into(),
        ),
        _ => Answer::Usual,
    });
    let server = Server::start(&smart_host(receiver.address));
    let first = send(&server, "one@dest.test", "pressure");
    let deferred = server.wait_event("deferred", |e| e["message"] == first.as_str());
    assert_eq!(deferred["class"], "rate-limited", "{deferred:#}");
    assert_eq!(deferred["pressure"], true);
    let id = send(&server, "two@dest.test", "pressure-too");
    let shown = server.wait_reason(&id, "blocked");
    due_in(&server, &shown, 10.0, 3700.0);
    let throttled = server.wait_event("throttled", |_| true);
    assert!(throttled["until"].is_string(), "{throttled:#}");
    assert_eq!(receiver.sessions(), 1, "it was left alone");
}

pub(crate) fn scheduled_by_its_sender() {
    let receiver = Receiver::friendly();
    let server = Server::start(&smart_host(receiver.address));
    let hello = {
        let mut client = Client::open(server.address).expect("a connection");
        client.expect("220");
        client.command("EHLO client.test").0
    };
    assert!(hello.contains("FUTURERELEASE"), "{hello}");
    let id = submit(
        server.address,
        "<sender@sender.test> HOLDFOR=3600",
        &["<one@dest.test>"],
        &small("later"),
    );
    let shown = server.wait_reason(&id, "scheduled");
    due_in(&server, &shown, 3500.0, 3600.0);
    let soon = submit(
        server.address,
        "<sender@sender.test> HOLDFOR=2",
        &["<two@dest.test>"],
        &small("soon"),
    );
    assert!(server.show(&soon).is_some());
    let mails = receiver.wait(1);
    assert_eq!(mails[0].recipients(), ["two@dest.test"]);
    // An operator may want it now.
    server.ask(&["queue", "retry", &id, "--json"]);
    receiver.wait(2);
}

pub(crate) fn stopping() {
    let (held, receiver) = stuck();
    let mut server = Server::start(&format!(
        "delivery.limits.connections = 1\nserver.drain_timeout = \"20s\"\n{}",
        smart_host(receiver.address)
    ));
    let first = send(&server, "one@dest.test", "first");
    server.wait_reason(&first, "in-flight");
    let ids: Vec<String> = (0..4)
        .map(|i| send(&server, "one@dest.test", &format!("next-{i}")))
        .collect();
    server.signal(libc::SIGTERM);
    server.wait_reason(ids.last().expect("some"), "stopping");
    held.store(false, Ordering::Release);
    server.wait_end();
}

pub(crate) fn nothing_to_show() {
    let server = Server::start("");
    let out = server.courser(&["queue", "show", "0000000000000"]);
    assert_eq!(out.status.code(), Some(5));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("is not in the queue"), "{said}");
    assert_eq!(
        server.courser(&["queue", "show", "nonsense"]).status.code(),
        Some(2)
    );
    let gone =
        courser_tests::server::run(&["queue", "list", "--socket", "/nonexistent/control.sock"]);
    assert_eq!(gone.status.code(), Some(4));
}
