//! Options that a running server honours: the program itself between scripted peers.

mod server_support;

use std::time::{Duration, Instant};

use server_support::{Receiver, Server, Submitter};

#[test]
fn the_greeting_waits_and_the_session_goes_on() {
    let receiver = Receiver::start(|_| None);
    let server = Server::start(&receiver, "greeting_delay = \"300ms\"", "");
    let began = Instant::now();
    let mut client = Submitter::connect(&server);
    assert!(began.elapsed() >= Duration::from_millis(250));
    client.send_to(&["a@there.example"]);
    receiver.wait_for(1);
}

#[test]
fn a_session_is_over_after_its_time() {
    let receiver = Receiver::start(|_| None);
    let server = Server::start(&receiver, "session_timeout = \"1s\"", "");
    let mut client = Submitter::connect(&server);
    client.send_to(&["a@there.example"]);
    assert!(client.read_reply().starts_with("421"));
}

#[test]
fn what_fails_together_is_told_together_as_configured() {
    let receiver = Receiver::start(|recipient| {
        recipient
            .starts_with("bad")
            .then_some("550 5.1.1 no such user")
    });
    let more = r#"
[dsn]
from = "bounces@sender.example"
from_name = "The Post, Inc."
stream = "notices"
gather = "1s"
return_size = "0B"
[[stream]]
name = "default"
[[stream]]
name = "notices"
"#;
    let server = Server::start_with_shards(&receiver, "", more, 2);
    let mut client = Submitter::connect(&server);
    let all: Vec<String> = (0..60)
        .map(|i| match i % 2 {
            0 => format!("good{i}@d{}.example", i % 7),
            _ => format!("bad{i}@d{}.example", i % 7),
        })
        .collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    client.send_to(&all);
    let notice = receiver.wait_for_message(|m| m.sender.is_empty());
    assert_eq!(notice.recipients, ["news@sender.example"]);
    let text = &notice.content;
    assert!(
        text.contains("From: \"The Post, Inc.\" <bounces@sender.example>"),
        "{text}"
    );
    assert!(text.contains("text/rfc822-headers"), "{text}");
    for bad in all.iter().filter(|r| r.starts_with("bad")) {
        assert!(
            text.contains(&format!("Final-Recipient: rfc822; {bad}")),
            "{bad} in {text}"
        );
    }
    server.wait_until_empty();
    std::thread::sleep(Duration::from_millis(1500));
    let notices = receiver
        .messages()
        .iter()
        .filter(|m| m.sender.is_empty())
        .count();
    assert_eq!(notices, 1);
    let told = server.events("dsn");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["deliveries"].as_array().unwrap().len(), 30);
    let delivered = server.events("delivered");
    let dsn = delivered.iter().find(|e| e["sender"] == "").unwrap();
    assert_eq!(dsn["stream"], "notices");
}

#[test]
fn without_failures_only_the_events_say_so() {
    let receiver = Receiver::start(|_| Some("550 5.1.1 no such user"));
    let server = Server::start(&receiver, "", "[dsn]\nfailures = false\ngather = \"0s\"");
    Submitter::connect(&server).send_to(&["a@there.example"]);
    server.wait_until_empty();
    assert_eq!(server.events("bounced").len(), 1);
    assert!(server.events("dsn").is_empty());
}

#[test]
fn a_delivery_behind_a_rate_is_told_of_its_delay_once() {
    let receiver = Receiver::start(|_| None);
    let more = r#"
[delivery.limits]
message_rate = "1/h burst 1"
[[provider]]
name = "home"
domains = ["sender.example"]
[provider.limits]
message_rate = "100/s"
[[stream]]
name = "default"
delay_dsn_after = "1s"
[dsn]
gather = "0s"
"#;
    let server = Server::start(&receiver, "", more);
    let mut client = Submitter::connect(&server);
    for i in 0..3 {
        client.send_to(&[&format!("r{i}@there.example")]);
    }
    let first = receiver.wait_for_message(|m| m.sender.is_empty());
    assert!(
        first.content.contains("Action: delayed"),
        "{}",
        first.content
    );
    std::thread::sleep(Duration::from_secs(4));
    let notices = receiver
        .messages()
        .iter()
        .filter(|m| m.sender.is_empty())
        .count();
    assert_eq!(notices, 2, "one for each of those that wait");
}

#[test]
fn a_recovered_delivery_shows_its_last_reply_and_when_it_came() {
    let receiver = Receiver::start(|_| Some("451 4.3.0 come back"));
    let rule = r#"
[[rule]]
name = "patience"
codes = "451"
text = ["come back"]
class = "busy"
"#;
    let mut server = Server::start(&receiver, "", rule);
    let id = Submitter::connect(&server).send_to(&["a@there.example"]);
    server_support::wait("a deferral", || {
        (server.gauge("deferred") == 1).then_some(())
    });
    let deferred = server.events("deferred");
    assert_eq!(deferred[0]["rule"], "patience", "{}", deferred[0]);
    server.crash_and_restart();
    let shown = server.json(&["queue", "show", &id]);
    assert_eq!(shown["last_attempt"]["reply"], "451 4.3.0 come back");
    let at = shown["last_attempt"]["at"].as_str().unwrap().to_owned();
    assert!(!at.starts_with("1970"), "{at}");
    assert_eq!(shown["attempts"], 1);
    assert_eq!(shown["waiting"]["reason"], "retry-time");
}

#[test]
fn what_an_operator_asks_for_is_done_in_each_state_over_all_shards() {
    let receiver = Receiver::start(|_| Some("451 4.3.0 come back"));
    let server = Server::start_with_shards(&receiver, "", "[dsn]\ngather = \"0s\"", 3);
    let mut client = Submitter::connect(&server);
    let mut ids = Vec::new();
    for i in 0..40 {
        ids.push(client.send_to(&[&format!("a@d{i}.example")]));
    }
    server_support::wait("deferrals", || {
        (server.gauge("deferred") == 40).then_some(())
    });
    // Pages hold everything once, in order.
    let listed = server.courser(&["queue", "list", "--limit", "0", "--json"]);
    let listed: Vec<String> = listed
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap())
        .map(|r| r["id"].as_str().unwrap().to_owned())
        .collect();
    let wanted: Vec<String> = ids.iter().map(|id| format!("{id}.0")).collect();
    assert_eq!(listed, wanted);

    server.courser(&["queue", "hold", &ids[0]]);
    assert_eq!(server.gauge("held"), 1);
    assert_eq!(
        server.json(&["queue", "show", &ids[0]])["waiting"]["reason"],
        "held"
    );
    server.courser(&["queue", "release", &ids[0]]);
    assert_eq!(server.gauge("held"), 0);
    server.courser(&["queue", "retry", &ids[1]]);
    server_support::wait("the second attempt", || {
        (server.json(&["queue", "show", &ids[1]])["attempts"] == 2).then_some(())
    });
    server.courser(&["queue", "drop", &ids[2]]);
    server.courser(&["queue", "hold", &ids[3]]);
    server.courser(&["queue", "drop", &ids[3]]);
    assert_eq!(server.gauge("queued"), 38);
    server.courser(&["queue", "bounce", "--all", "--reason", "enough"]);
    assert_eq!(server.events("bounced").len(), 38);
    assert_eq!(server.events("bounced")[0]["attempt"], 1);
    // Their notifications are all that is left; what is in flight could not be dropped.
    server_support::wait("notifications", || {
        (server.gauge("deferred") == 38).then_some(())
    });
    server.courser(&["queue", "drop", "--all"]);
    server.wait_until_empty();
}

#[test]
fn a_reload_keeps_each_queued_delivery_in_its_pool() {
    let receiver = Receiver::start(|_| Some("451 4.3.0 come back"));
    let pools = |order: [&str; 2]| {
        let mut text = String::new();
        for name in ["one", "two"] {
            text += &format!("[[source]]\nname = \"{name}\"\nehlo = \"{name}.sender.example\"\n");
        }
        for name in order {
            text +=
                &format!("[[pool]]\nname = \"{name}\"\nmembers = [{{ source = \"{name}\" }}]\n");
        }
        let address = receiver.address;
        text + &format!("[[route]]\ndomain = \"*\"\nto = [\"{address}\"]\n")
    };
    let server = Server::start_alone("", &pools(["one", "two"]), 1);
    let mut client = Submitter::connect(&server);
    let id = client.send("X-Courser-Pool: two\r\n", &["a@there.example"]);
    server_support::wait("a deferral", || {
        (server.gauge("deferred") == 1).then_some(())
    });
    server.reload(&pools(["two", "one"]));
    server.courser(&["queue", "retry", &id]);
    server_support::wait("the second attempt", || {
        (server.json(&["queue", "show", &id])["attempts"] == 2).then_some(())
    });
    let shown = server.json(&["queue", "show", &id]);
    assert_eq!(
        (&shown["pool"], &shown["source"]),
        (&"two".into(), &"two".into())
    );
    // Sessions that began before the reload and after it both know their stream.
    client.send_to(&["b@there.example"]);
    Submitter::connect(&server).send_to(&["c@there.example"]);
}
