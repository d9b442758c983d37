//! What an operator does with a running server: look, hold, release, retry, bounce, drop, reload.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use courser_tests::client::{Client, small, submit};
use courser_tests::eventually;
use courser_tests::receiver::{Answer, Receiver};
use courser_tests::server::{Server, smart_host};
use serde_json::Value;

/// A receiver that says "later" to every recipient but the sender until the flag falls.
fn later() -> (Arc<AtomicBool>, Receiver) {
    let down = Arc::new(AtomicBool::new(true));
    let is_down = down.clone();
    let receiver = Receiver::start(move |line| match line {
        l if l.starts_with("RCPT TO:<sender@") => Answer::Usual,
        l if l.starts_with("RCPT") && is_down.load(Ordering::Acquire) => {
            Answer::say("451 4.2.1 Later")
        }
        _ => Answer::Usual,
    });
    (down, receiver)
}

fn tagged(subject: &str, tenant: &str, campaign: &str) -> Vec<u8> {
    [
        format!("X-Courser-Tenant: {tenant}\r\nX-Courser-Campaign: {campaign}\r\n").into_bytes(),
        small(subject),
    ]
    .concat()
}

fn count(server: &Server, words: &[&str]) -> u64 {
    server.ask(&[words, &["--json"]].concat())[0]["count"]
        .as_u64()
        .expect("a count")
}

pub(crate) fn hold_release_retry_bounce_and_drop() {
    let (down, receiver) = later();
    let mut server = Server::start(&smart_host(receiver.address));
    let mut client = Client::hello(server.address);
    let mut send = |to: &str, tenant: &str, campaign: &str| {
        client.submit(
            "<sender@sender.test>",
            &[format!("<{to}>")],
            &tagged(to, tenant, campaign),
        )
    };
    let a = send("a@one.test", "acme", "spring");
    let b = send("b@two.test", "acme", "summer");
    let c = send("c@sub.two.test", "bolt", "spring");
    let d = send("d@three.test", "bolt", "summer");
    server.wait_events("deferred", 4, |_| true);
    let ids = |words: &[&str], server: &Server| -> Vec<String> {
        let rows = server.ask(&[&["queue", "list", "--json"], words].concat());
        rows.iter()
            .map(|r| {
                r["id"]
                    .as_str()
                    .unwrap_or_default()
                    .trim_end_matches(".0")
                    .to_owned()
            })
            .collect()
    };
    assert_eq!(ids(&["--tenant", "acme"], &server), [a.clone(), b.clone()]);
    assert_eq!(
        ids(&["--campaign", "spring"], &server),
        [a.clone(), c.clone()]
    );
    assert_eq!(ids(&["--domain", "two.test"], &server), [b.as_str()]);
    assert_eq!(ids(&["--domain", "*.two.test"], &server), [c.as_str()]);
    assert_eq!(
        ids(&["--campaign", "spring", "--tenant", "bolt"], &server),
        [c.as_str()]
    );
    assert_eq!(ids(&["--recipient", "D@three.test"], &server), [d.as_str()]);
    assert_eq!(
        ids(&["--state", "deferred", "--limit", "2"], &server).len(),
        2
    );
    assert_eq!(ids(&["--state", "held"], &server).len(), 0);

    assert_eq!(
        count(&server, &["queue", "hold", "--campaign", "spring"]),
        2
    );
    assert_eq!(
        count(&server, &["queue", "hold", "--campaign", "spring"]),
        0
    );
    assert_eq!(ids(&["--state", "held"], &server), [a.clone(), c.clone()]);
    // A hold outlives the process.
    server.kill9();
    server.restart();
    assert_eq!(ids(&["--state", "held"], &server), [a.clone(), c.clone()]);
    assert_eq!(server.show(&b).expect("b is there")["attempts"], 1);

    down.store(false, Ordering::Release);
    // What is held isn't tried, whatever else is asked for.
    assert!(count(&server, &["queue", "retry", "--all"]) >= 2);
    receiver.wait(2);
    let gone = eventually(10, || (server.queue().len() == 2).then_some(()));
    assert!(gone.is_some(), "{:#?}", server.queue());
    assert_eq!(
        count(
            &server,
            &[
                "queue",
                "bounce",
                "--tenant",
                "acme",
                "--reason",
                "this list is closed"
            ]
        ),
        1
    );
    let bounce = receiver
        .wait(3)
        .into_iter()
        .find(|m| m.sender().is_empty())
        .expect("a bounce")
        .text();
    assert!(
        bounce.contains("this list is closed") && bounce.contains("a@one.test"),
        "{bounce}"
    );
    assert_eq!(
        server.wait_event("bounced", |_| true)["message"],
        a.as_str()
    );
    assert_eq!(count(&server, &["queue", "release", &c]), 1);
    server.wait_event("released", |e| e["message"] == c.as_str());
    // It was tried before it was held: what it waits for now is its retry time.
    server.wait_reason(&c, "retry-time");
    assert_eq!(count(&server, &["queue", "retry", &c]), 1);
    receiver.wait(4);
    server.wait_empty();

    down.store(true, Ordering::Release);
    let e = submit(
        server.address,
        "<sender@sender.test>",
        &["<e@one.test>"],
        &small("dropped"),
    );
    server.wait_reason(&e, "retry-time");
    assert_eq!(
        count(
            &server,
            &["queue", "drop", "--sender", "sender@sender.test"]
        ),
        1
    );
    server.wait_event("suppressed", |v| v["message"] == e.as_str());
    server.wait_empty();
    // Everything that ended stays ended.
    server.stop();
    server.restart();
    assert!(server.queue().is_empty());
    let outcomes = receiver
        .mails()
        .iter()
        .filter(|m| !m.sender().is_empty())
        .count();
    assert_eq!((outcomes, receiver.count()), (3, 4));
    // Nothing is meant unless it is said.
    assert_eq!(server.courser(&["queue", "drop"]).status.code(), Some(2));
}

pub(crate) fn requests_about_a_queue_that_takes_many_steps() {
    // Bound and not listening: connections are refused, and nobody else takes the port.
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = closed.local_addr().expect("an address");
    drop(closed);
    let server = Server::start(&format!(
        "server.shards = 1\ndelivery.dead_host = {{ first = \"10m\" }}\n{}",
        smart_host(address)
    ));
    // More than a shard looks at in one step.
    let (messages, recipients) = (50, 100);
    let all = messages * recipients;
    let mut client = Client::hello(server.address);
    for m in 0..messages {
        let to: Vec<String> = (0..recipients)
            .map(|r| format!("<to{r}@d{}.test>", m % 7))
            .collect();
        client.submit("<>", &to, &small("many"));
    }
    let queued =
        |server: &Server| server.ask(&["status", "--json"])[0]["gauges"]["queued"].as_u64();
    assert_eq!(queued(&server), Some(all));
    assert_eq!(count(&server, &["queue", "hold", "--all"]), all);
    assert_eq!(count(&server, &["queue", "hold", "--all"]), 0);
    assert_eq!(count(&server, &["queue", "release", "--all"]), all);
    assert!(count(&server, &["queue", "retry", "--all"]) <= all);
    // Two at the same time and a look between: each delivery ends once.
    let ended: u64 = std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| count(&server, &["queue", "drop", "--all"])));
        assert!(queued(&server).is_some_and(|n| n <= all));
        both.into_iter()
            .map(|one| one.join().expect("an answer"))
            .sum()
    });
    assert_eq!(ended, all);
    assert_eq!(queued(&server), Some(0));
}

pub(crate) fn tags_do_not_leave_the_house() {
    let receiver = Receiver::friendly();
    let server = Server::start(&smart_host(receiver.address));
    let id = submit(
        server.address,
        "<a@sender.test>",
        &["<x@dest.test>"],
        &tagged("tags", "acme", "spring"),
    );
    let mail = &receiver.wait(1)[0];
    assert_eq!(mail.without_received(), small("tags"));
    let delivered = server.wait_event("delivered", |e| e["message"] == id.as_str());
    assert_eq!(
        (&delivered["tenant"], &delivered["campaign"]),
        (&"acme".into(), &"spring".into())
    );
    let mut client = Client::hello(server.address);
    let unknown = [b"X-Courser-Stream: nowhere\r\n".to_vec(), small("x")].concat();
    let reply = client
        .try_submit("<a@sender.test>", &["<x@dest.test>"], &unknown)
        .expect("a reply");
    assert!(
        reply.starts_with("554 5.7.1 There is no stream \"nowhere\" here"),
        "{reply}"
    );
}

pub(crate) fn reload() {
    let receiver = Receiver::friendly();
    let mut server = Server::start(&smart_host(receiver.address));
    let two = "[[listener]]\nmax_recipients = 100\nmax_message_size = \"2MB\"\n[events]\nrotate_size = \"1MiB\"\n";
    server.configure(&format!("{two}{}", smart_host(receiver.address)));
    server.signal(libc::SIGHUP);
    let event = server.wait_event("reloaded", |_| true);
    let said = |field: &str, word: &str, event: &Value| {
        let all = event[field].as_array().cloned().unwrap_or_default();
        assert!(
            all.iter()
                .any(|l| l.as_str().unwrap_or_default().contains(word)),
            "{word} is not in {field}: {event:#}"
        );
    };
    assert_eq!(event["applied"], true);
    said("changed", "max_message_size", &event);
    said("problems", "rotate_size", &event);
    let mut client = Client::open(server.address).expect("a connection");
    client.expect("220");
    let hello = client.command("EHLO client.test").0;
    assert!(hello.contains("SIZE 2000000"), "{hello}");

    // Over the control socket, with what waits for a restart.
    let out = server.courser(&["reload"]);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let words = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(words.contains("rotate_size"), "{words}");

    // A mistake changes nothing.
    std::fs::write(server.config(), "hostname = 7\n").expect("courser.toml");
    let out = server.courser(&["reload"]);
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("hostname"));
    submit(
        server.address,
        "<a@sender.test>",
        &["<x@dest.test>"],
        &small("still-well"),
    );
    receiver.wait(1);
}

pub(crate) fn a_route_that_changes() {
    let (first, second) = (Receiver::friendly(), Receiver::friendly());
    let mut server = Server::start(&smart_host(first.address));
    submit(
        server.address,
        "<a@sender.test>",
        &["<x@dest.test>"],
        &small("first"),
    );
    first.wait(1);
    server.configure(&smart_host(second.address));
    assert!(server.courser(&["reload"]).status.success());
    submit(
        server.address,
        "<a@sender.test>",
        &["<x@dest.test>"],
        &small("second"),
    );
    second.wait(1);
    assert_eq!(first.count(), 1);
}

pub(crate) fn status_adds_up() {
    let receiver = Receiver::start(|line| match line {
        l if l.starts_with("RCPT TO:<unknown") => Answer::say("550 5.1.1 No such user"),
        l if l.starts_with("RCPT TO:<later") => Answer::say("451 4.2.1 Later"),
        _ => Answer::Usual,
    });
    let server = Server::start(&format!(
        "server.shards = 2\n{}",
        smart_host(receiver.address)
    ));
    let recipients = [
        "<one@dest.test>",
        "<unknown@dest.test>",
        "<later@dest.test>",
    ];
    submit(server.address, "<>", &recipients, &small("status"));
    server.wait_event("deferred", |_| true);
    server.wait_event("bounced", |_| true);
    let status = eventually(10, || {
        let status = server.ask(&["status", "--json"]).swap_remove(0);
        (status["totals"]["delivered"] == 1).then_some(status)
    });
    let status = status.expect("one was delivered");
    let totals = &status["totals"];
    for (name, n) in [
        ("messages_received", 1),
        ("deliveries_received", 3),
        ("bounced", 1),
        ("deferrals", 1),
    ] {
        assert_eq!(totals[name], n, "{name}: {status:#}");
    }
    assert_eq!(
        (&status["gauges"]["queued"], &status["gauges"]["deferred"]),
        (&1.into(), &1.into()),
        "{status:#}"
    );
    assert_eq!(status["shards"], 2);
    assert!(
        status["gauges"]["memory_bytes"].as_u64().unwrap_or(0) > 1 << 20,
        "{status:#}"
    );
    let words = server.courser(&["status"]);
    assert!(words.status.success());
    assert!(String::from_utf8_lossy(&words.stdout).contains("courser.test"));
}

pub(crate) fn the_story_of_a_message() {
    let (down, receiver) = later();
    let server = Server::start(&format!(
        "[[listener]]\nname = \"in\"\n[[source]]\nname = \"out\"\nehlo = \"out.courser.test\"\naddress = \"127.0.0.5\"\n{}",
        smart_host(receiver.address)
    ));
    let id = submit(
        server.address,
        "<sender@sender.test> ENVID=story",
        &["<x@dest.test>"],
        &tagged("story", "acme", "spring"),
    );
    server.wait_event("deferred", |e| e["message"] == id.as_str());
    down.store(false, Ordering::Release);
    server.ask(&["queue", "retry", &id, "--json"]);
    server.wait_event("delivered", |e| e["message"] == id.as_str());
    assert_eq!(receiver.mails()[0].hello, "out.courser.test");
    let story = server.story(&id);
    let kinds: Vec<&str> = story
        .iter()
        .map(|e| e["kind"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(kinds, ["received", "deferred", "delivered"], "{story:#?}");
    for event in &story {
        assert_eq!(event["sender"], "sender@sender.test", "{event:#}");
        assert_eq!(event["tenant"], "acme");
        assert_eq!(event["campaign"], "spring");
        assert_eq!(event["stream"], "default");
        assert_eq!(event["envid"], "story");
        assert!(
            event["time"].as_str().is_some_and(|t| t.ends_with('Z')),
            "{event:#}"
        );
    }
    let received = &story[0];
    assert_eq!(received["recipients"], 1);
    assert_eq!(received["client_address"], "127.0.0.1");
    assert_eq!(received["client_helo"], "client.test");
    assert_eq!(received["listener"], "in");
    for event in &story[1..] {
        assert_eq!(event["delivery"], format!("{id}.0"), "{event:#}");
        assert_eq!(event["recipient"], "x@dest.test");
        assert_eq!(event["domain"], "dest.test");
        assert_eq!(event["source"], "out");
        assert_eq!(event["source_address"], "127.0.0.5");
        assert_eq!(event["ehlo_name"], "out.courser.test");
        assert!(event["site"].is_string(), "{event:#}");
        assert_eq!(event["peer_address"], receiver.address.to_string());
    }
    let deferred = &story[1];
    assert_eq!(deferred["code"], 451);
    assert_eq!(deferred["enhanced"], "4.2.1");
    assert_eq!(deferred["text"], "Later");
    assert_eq!(deferred["stage"], "rcpt");
    assert_eq!(deferred["attempt"], 1);
    assert_eq!(deferred["permanent"], false);
    assert!(
        deferred["class"].is_string() && deferred["scope"].is_string(),
        "{deferred:#}"
    );
    assert!(deferred["next_attempt"].is_string(), "{deferred:#}");
    let delivered = &story[2];
    assert_eq!(delivered["code"], 250);
    assert_eq!(delivered["attempt"], 2);
    assert!(
        delivered["queued_ms"].is_u64() && delivered["size"].is_u64(),
        "{delivered:#}"
    );
}

pub(crate) fn events_as_they_happen() {
    let receiver = Receiver::friendly();
    let server = Server::start(&smart_host(receiver.address));
    let out = server.dir().join("tail.log");
    let mut tail = std::process::Command::new(courser_tests::server::program());
    tail.arg("events")
        .arg("--socket")
        .arg(server.dir().join("control.sock"))
        .args(["--domain", "dest.test"]);
    let tail = courser_tests::process::Process::start("tail", server.dir(), &mut tail);
    let seen = eventually(15, || {
        submit(
            server.address,
            "<a@sender.test>",
            &["<x@dest.test>", "<y@other.test>"],
            &small("tail"),
        );
        let text = std::fs::read_to_string(&out).unwrap_or_default();
        text.contains("\"kind\":\"delivered\"").then_some(text)
    });
    let seen = seen.unwrap_or_else(|| panic!("nothing was told: {}", tail.output()));
    assert!(!seen.contains("y@other.test"), "{seen}");
    for line in seen.lines() {
        let _: Value = serde_json::from_str(line).expect("a line of JSON");
    }
}
