//! Where mail goes when DNS says so: nsd has the zones.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use courser_tests::client::{Client, small};
use courser_tests::dns::Nsd;
use courser_tests::need::need;
use courser_tests::net::free_port_on;
use courser_tests::receiver::{Answer, EXTENSIONS, Receiver};
use courser_tests::server::{Server, scratch};
use serde_json::Value;

/// Addresses of their own, so that one port serves as the port of SMTP for all of them.
const FIRST: [u8; 4] = [127, 0, 1, 1];
const SECOND: [u8; 4] = [127, 0, 1, 2];
const DEAD: [u8; 4] = [127, 0, 1, 9];

struct World {
    first: Receiver,
    second: Receiver,
    port: u16,
    server: Server,
    _nsd: Nsd,
    _dir: tempfile::TempDir,
}

/// Two receivers, nsd with `zones`, and a server that asks it.
fn world(zones: &[(&str, &str)], more: impl FnOnce(SocketAddr) -> String) -> World {
    let ips = [FIRST, SECOND, DEAD].map(|ip| IpAddr::V4(Ipv4Addr::from(ip)));
    let port = free_port_on(&ips);
    let receiver =
        |ip: [u8; 4]| Receiver::start_at((ip, port).into(), EXTENSIONS, |_| Answer::Usual);
    let (first, second) = (receiver(FIRST), receiver(SECOND));
    let dir = scratch();
    let nsd = Nsd::start(dir.path(), zones);
    let more = more(nsd.address);
    let server = Server::start(&format!("{more}\ndelivery.port = {port}\n"));
    World {
        first,
        second,
        port,
        server,
        _nsd: nsd,
        _dir: dir,
    }
}

fn asking(nsd: SocketAddr) -> String {
    format!("dns = {{ servers = [\"{nsd}\"] }}\n")
}

impl World {
    /// Hands in one message to each recipient and gives the event that ends or defers it.
    fn fate(&self, recipient: &str) -> Value {
        let mut client = Client::hello(self.server.address);
        let id = client.submit(
            "<sender@sender.test>",
            &[format!("<{recipient}>")],
            &small("dns"),
        );
        self.server.fate(&id)
    }

    fn bounce_for(&self, recipient: &str) -> String {
        let found = courser_tests::eventually(15, || {
            let mails = self.second.mails();
            mails
                .into_iter()
                .find(|m| m.recipients() == ["sender@sender.test"] && m.text().contains(recipient))
        });
        found
            .unwrap_or_else(|| panic!("no notification about {recipient} came"))
            .text()
    }
}

const SENDER: (&str, &str) = ("sender.test", "@ IN MX 10 mx\nmx IN A 127.0.1.2");

pub(crate) fn where_mail_is_taken() {
    if !need(&["nsd"]) {
        return;
    }
    let w = world(
        &[
            SENDER,
            (
                "pref.test",
                "@ IN MX 20 second\n@ IN MX 10 first\n@ IN MX 30 dead\nfirst IN A 127.0.1.1\n\
                 second IN A 127.0.1.2\ndead IN A 127.0.1.9",
            ),
            (
                "failover.test",
                "@ IN MX 10 dead\n@ IN MX 20 second\ndead IN A 127.0.1.9\nsecond IN A 127.0.1.2",
            ),
            (
                "addresses.test",
                "@ IN MX 10 many\nmany IN A 127.0.1.9\nmany IN A 127.0.1.1",
            ),
            ("implicit.test", "@ IN A 127.0.1.1"),
            (
                "cname-mx.test",
                "@ IN MX 10 alias\nalias IN CNAME mx.implicit-host.test.",
            ),
            ("implicit-host.test", "mx IN A 127.0.1.1"),
            (
                "cname.test",
                "www IN CNAME implicit.test.\nwww2 IN CNAME www",
            ),
        ],
        asking,
    );
    let peer = |recipient: &str| {
        let event = w.fate(recipient);
        assert_eq!(event["kind"], "delivered", "{recipient}: {event:#}");
        (
            event["peer_host"].as_str().unwrap_or_default().to_owned(),
            event["peer_address"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    let at = |ip: [u8; 4]| SocketAddr::from((ip, w.port)).to_string();
    assert_eq!(peer("a@pref.test"), ("first.pref.test".into(), at(FIRST)));
    assert_eq!(
        peer("a@failover.test"),
        ("second.failover.test".into(), at(SECOND))
    );
    assert_eq!(
        peer("a@addresses.test"),
        ("many.addresses.test".into(), at(FIRST))
    );
    assert_eq!(peer("a@implicit.test"), ("implicit.test".into(), at(FIRST)));
    assert_eq!(
        peer("a@cname-mx.test"),
        ("alias.cname-mx.test".into(), at(FIRST))
    );
    assert_eq!(peer("a@www2.cname.test").1, at(FIRST));
    assert_eq!(peer("a@PREF.Test").1, at(FIRST));
    assert_eq!(peer("a@[127.0.1.2]").1, at(SECOND));
    assert_eq!(
        w.first
            .mails()
            .iter()
            .flat_map(|m| m.recipients())
            .filter(|r| r == "a@pref.test")
            .count(),
        1
    );
    w.server.wait_empty();
}

pub(crate) fn where_no_mail_is_taken() {
    if !need(&["nsd"]) {
        return;
    }
    let w = world(
        &[
            SENDER,
            ("null.test", "@ IN MX 0 ."),
            ("nowhere.test", "@ IN MX 10 missing"),
            ("empty.test", "other IN A 127.0.1.1"),
            (
                "self.test",
                "@ IN MX 10 courser.test.\n@ IN MX 20 other\nother IN A 127.0.1.1",
            ),
            (
                "better.test",
                "@ IN MX 20 courser.test.\n@ IN MX 10 other\nother IN A 127.0.1.1",
            ),
            ("courser.test", "@ IN A 127.0.0.1"),
            ("loop.test", "a IN CNAME b\nb IN CNAME a"),
        ],
        asking,
    );
    for (recipient, status, word) in [
        ("x@null.test", "5.1.10", "null MX"),
        ("x@missing.empty.test", "5.1.2", "does not exist"),
        (
            "x@empty.test",
            "5.1.2",
            "neither an MX record nor an address",
        ),
        ("x@nowhere.test", "5.4.4", "none of its MX hosts"),
        ("x@self.test", "5.4.6", "which is us"),
    ] {
        let event = w.fate(recipient);
        assert_eq!(event["kind"], "bounced", "{recipient}: {event:#}");
        let cause = event["cause"].as_str().unwrap_or_default();
        assert!(
            cause.to_lowercase().contains(&word.to_lowercase()),
            "{recipient}: {cause}"
        );
        let report = w.bounce_for(recipient);
        assert!(
            report.contains(&format!("Status: {status}\r\n")),
            "{recipient}: {report}"
        );
        assert!(
            report.contains(&format!("Final-Recipient: rfc822; {recipient}\r\n")),
            "{report}"
        );
    }
    // A host that is better than we are may have it.
    assert_eq!(w.fate("x@better.test")["kind"], "delivered");
    // Going round in circles is the zone's mistake, and may be corrected: never a bounce at once.
    let event = w.fate("x@a.loop.test");
    assert!(
        event["kind"] == "deferred" || event["kind"] == "bounced",
        "{event:#}"
    );
    w.first.wait(1);
    assert_eq!(w.first.count(), 1);
}

pub(crate) fn dns_that_fails_defers() {
    if !need(&["nsd"]) {
        return;
    }
    let w = world(&[SENDER, ("broken.test", "@ IN THIS IS NO RECORD")], asking);
    // SERVFAIL for the zone that nsd can't read, REFUSED for one that it doesn't have.
    for recipient in ["x@broken.test", "x@elsewhere.example"] {
        let id = Client::hello(w.server.address).submit(
            "<sender@sender.test>",
            &[format!("<{recipient}>")],
            &small("broken"),
        );
        // While it is asked there is no time; when it failed there is.
        let shown = courser_tests::eventually(15, || {
            w.server
                .show(&id)
                .filter(|d| d["waiting"]["reason"] == "dns" && d["waiting"]["until"].is_string())
        });
        let shown = shown.unwrap_or_else(|| panic!("{recipient}: {:#?}", w.server.show(&id)));
        assert!(
            shown["waiting"]["text"]
                .as_str()
                .unwrap_or_default()
                .contains(&recipient[2..]),
            "{shown:#}"
        );
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(w.server.events_of("bounced").is_empty());
    assert_eq!(w.second.count(), 0);
}

pub(crate) fn answers_too_long_for_udp() {
    if !need(&["nsd"]) {
        return;
    }
    use std::fmt::Write as _;
    let mut records = String::new();
    for i in 0..60 {
        let name = format!("a-rather-long-name-for-a-mail-exchanger-number-{i}");
        let _ = write!(
            records,
            "@ IN MX {} {name}\n{name} IN A 127.0.1.{}\n",
            100 + i,
            if i == 0 { 1 } else { 9 }
        );
    }
    let w = world(&[SENDER, ("big.test", &records)], asking);
    let event = w.fate("x@big.test");
    assert_eq!(event["kind"], "delivered", "{event:#}");
    assert_eq!(
        event["peer_address"],
        SocketAddr::from((FIRST, w.port)).to_string()
    );
}

/// Passes questions on to `to`, and answers back after `delay`; `answers` off: it swallows them.
fn relay(to: SocketAddr, delay: Duration, answers: Arc<AtomicBool>) -> SocketAddr {
    let front = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = front.local_addr().expect("an address");
    let front = Arc::new(front);
    std::thread::spawn(move || {
        let mut buf = [0; 2048];
        while let Ok((n, client)) = front.recv_from(&mut buf) {
            let (question, front, answers) = (buf[..n].to_vec(), front.clone(), answers.clone());
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                if !answers.load(Ordering::Acquire) {
                    return;
                }
                let back = UdpSocket::bind("127.0.0.1:0").expect("a port");
                let _ = back.set_read_timeout(Some(Duration::from_secs(2)));
                let mut buf = [0; 4096];
                let asked = back
                    .send_to(&question, to)
                    .and_then(|_| back.recv_from(&mut buf));
                if let Ok((n, _)) = asked {
                    let _ = front.send_to(&buf[..n], client);
                }
            });
        }
    });
    address
}

pub(crate) fn slow_and_silent_name_servers() {
    if !need(&["nsd"]) {
        return;
    }
    let zones = [SENDER, ("slow.test", "@ IN A 127.0.1.1")];
    // Slow, but within the time.
    let w = world(&zones, |nsd| {
        asking(relay(
            nsd,
            Duration::from_millis(400),
            Arc::new(AtomicBool::new(true)),
        ))
    });
    assert_eq!(w.fate("x@slow.test")["kind"], "delivered");
    drop(w);
    // The first one is silent: the second one is asked.
    let w = world(&zones, |nsd| {
        let silent = relay(nsd, Duration::ZERO, Arc::new(AtomicBool::new(false)));
        format!("dns = {{ servers = [\"{silent}\", \"{nsd}\"], timeout = \"300ms\" }}\n")
    });
    assert_eq!(w.fate("x@slow.test")["kind"], "delivered");
    drop(w);
    // All are silent, and answer again later.
    let answers = Arc::new(AtomicBool::new(false));
    let w = world(&zones, |nsd| {
        let relay = relay(nsd, Duration::ZERO, answers.clone());
        format!("dns = {{ servers = [\"{relay}\"], timeout = \"200ms\", attempts = 2 }}\n")
    });
    let id = Client::hello(w.server.address).submit(
        "<a@sender.test>",
        &["<x@slow.test>"],
        &small("silent"),
    );
    let shown = w.server.wait_reason(&id, "dns");
    assert!(
        shown["waiting"]["text"]
            .as_str()
            .unwrap_or_default()
            .contains("slow.test"),
        "{shown:#}"
    );
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(w.first.count(), 0);
    answers.store(true, Ordering::Release);
    // An operator who knows that need not wait.
    w.server
        .ask(&["queue", "retry", "--domain", "slow.test", "--json"]);
    w.first.wait(1);
    w.server.wait_empty();
}

pub(crate) fn inner_addresses_are_refused_unless_allowed() {
    if !need(&["nsd"]) {
        return;
    }
    let zones = [
        ("sender.test", "@ IN MX 10 mx\nmx IN A 127.0.1.2"),
        ("inside.test", "@ IN MX 10 mx\nmx IN A 127.0.1.1"),
        ("ten.test", "@ IN A 10.1.2.3"),
        ("linklocal.test", "@ IN A 169.254.169.254"),
    ];
    let w = world(&zones, |nsd| {
        format!("dns = {{ servers = [\"{nsd}\"] }}\ndelivery.allow_private = [\"127.0.1.2/32\"]\n")
    });
    for recipient in ["x@inside.test", "x@ten.test", "x@linklocal.test"] {
        let event = w.fate(recipient);
        assert_eq!(event["kind"], "bounced", "{event:#}");
        assert!(w.bounce_for(recipient).contains("Status: 5.4.4\r\n"));
    }
    assert_eq!(w.first.sessions(), 0);
}
