//! The functions that every message, reply or lookup goes through, each with input as it comes.

use std::hint::black_box;
use std::time::Duration;

use courser_core::auth::canon::{self, Canon};
use courser_core::auth::dkim::Status;
use courser_core::dns::query::parse_answer;
use courser_core::dns::{Output, Token};
use courser_core::feedback::verdict::{Rules, Stage};
use courser_core::limits::DNS_QUERY_BYTES_MAX;
use courser_core::mail::address::Mailbox;
use courser_core::mail::date::Date;
use courser_core::mail::dsn;
use courser_core::mail::header::Header;
use courser_core::smtp::client::TransactionId;
use courser_core::smtp::command::Command;
use courser_core::smtp::data::{BdatReader, Stuffer, Unstuffer};
use courser_core::smtp::extension::Capabilities;
use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode, ReplyReader};
use courser_core::smtp::server::Options;
use courser_core::time::{Instant, Wall};
use courser_core::traffic::bucket::{Bucket, Rate};
use courser_core::traffic::scheduler::{New, Report};

use crate::{client, dkim, dns, events, mail, scheduler, server, spf, spool, verdict};

/// A function that is counted.
pub struct Case {
    /// What it does, and with what.
    pub name: String,
    /// One call.
    pub run: Box<dyn FnMut()>,
}

fn case(name: impl Into<String>, run: impl FnMut() + 'static) -> Case {
    Case {
        name: name.into(),
        run: Box::new(run),
    }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    wire(&mut all);
    bodies(&mut all);
    submissions(&mut all);
    deliveries(&mut all);
    decisions(&mut all);
    lookups(&mut all);
    fields(&mut all);
    authentication(&mut all);
    all.push(case("spool/encode an envelope", || {
        black_box(spool::envelope(1));
    }));
    let (event, mut line) = (events::delivered(), Vec::new());
    all.push(case("events/a line", move || {
        line.clear();
        event.write_line(&mut line);
    }));
    all
}

fn wire(all: &mut Vec<Case>) {
    const LINES: [(&str, &[u8]); 3] = [
        (
            "mail",
            b"MAIL FROM:<bounces+123@news.example.org> SIZE=10240 BODY=8BITMIME",
        ),
        ("rcpt", b"RCPT TO:<somebody.else@customer.example.com>"),
        (
            "rcpt_dsn",
            b"RCPT TO:<a@b.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;a+2Bb@b.example",
        ),
    ];
    for (name, line) in LINES {
        all.push(case(format!("command/parse {name}"), move || {
            let _ = black_box(Command::parse(black_box(line)));
        }));
        let mut out = [0; 512];
        all.push(case(format!("command/parse and emit {name}"), move || {
            let command = Command::parse(black_box(line)).expect("a command");
            black_box(command.emit(&mut out)).expect("room");
        }));
    }
    let mut reader = ReplyReader::new();
    all.push(case("reply/read one line", move || {
        let _ = black_box(reader.push(black_box(b"250 2.1.5 Ok\r\n")));
    }));
    let mut out = [0; 512];
    all.push(case("reply/emit", move || {
        let code = ReplyCode::new(250).expect("a code");
        let reply = Reply::new(code, Some(EnhancedCode::new(2, 1, 5)), b"Ok");
        let _ = black_box(black_box(&reply).emit(&mut out));
    }));
    all.push(case("extension/EHLO response of eight", || {
        let mut peer = Capabilities::default();
        for line in black_box([
            "SIZE 157286400",
            "8BITMIME",
            "STARTTLS",
            "ENHANCEDSTATUSCODES",
            "PIPELINING",
            "CHUNKING",
            "SMTPUTF8",
            "AUTH PLAIN LOGIN XOAUTH2",
        ]) {
            peer.from_line(line.as_bytes());
        }
        black_box(peer);
    }));
    for (name, text) in [
        ("plain", "somebody.else@customer.example.com"),
        ("quoted, at a literal", "\"some body\"@[IPv6:2001:db8::1]"),
    ] {
        all.push(case(format!("address/{name}"), move || {
            let _ = black_box(Mailbox::parse(black_box(text)));
        }));
    }
}

fn bodies(all: &mut Vec<Case>) {
    let body = server::body();
    let mut wire: Vec<u8> = Stuffer::new()
        .walk(&body)
        .flat_map(|chunk| chunk.bytes().to_vec())
        .collect();
    wire.extend_from_slice(b".\r\n");
    let stuffed = body.clone();
    all.push(case("data/stuff 10 kB", move || {
        black_box(Stuffer::new().walk(black_box(&stuffed)).count());
    }));
    all.push(case("data/unstuff 10 kB", move || {
        let mut unstuffer = Unstuffer::new();
        let mut rest = &black_box(&wire)[..];
        while !unstuffer.is_done() {
            rest = &rest[unstuffer.push(rest).expect("clean").consumed..];
        }
        black_box(unstuffer.findings());
    }));
    all.push(case("data/BDAT 10 kB", move || {
        let mut reader = BdatReader::new(false);
        reader.begin(body.len() as u64, true);
        let _ = black_box(reader.push(black_box(&body)));
    }));
}

fn submissions(all: &mut Vec<Case>) {
    for (name, script, packet) in [
        ("10 kB, DATA", server::with_data(1), usize::MAX),
        ("10 kB, BDAT", server::with_bdat(1), usize::MAX),
        ("10 kB, DATA, packets", server::with_data(1), 1448),
        (
            "10 kB, DATA, 100 recipients",
            server::with_data(100),
            usize::MAX,
        ),
    ] {
        // The session borrows its options for as long as the program runs.
        let mut options = Options::new("mx.example").expect("a name");
        options.limits.commands = u32::MAX;
        let mut session = server::greeted(Box::leak(Box::new(options)));
        let mut out = [0; 4096];
        all.push(case(format!("server/{name}"), move || {
            let octets = server::play(&mut session, black_box(&script), packet, &mut out);
            assert!(octets >= server::BODY_BYTES);
        }));
    }
}

fn deliveries(all: &mut Vec<Case>) {
    for recipients in [1, 100] {
        let rcpt = client::OK.repeat(recipients);
        let data = vec![
            format!("{}{rcpt}{}", client::OK, client::GO),
            client::QUEUED.to_owned(),
        ];
        let bdat = vec![format!("{}{rcpt}{}", client::OK, client::QUEUED)];
        for (name, ehlo, replies) in [
            ("DATA", client::PIPELINING, data),
            ("BDAT", client::CHUNKING, bdat),
        ] {
            let mut out = [0; 16384];
            let letter = client::Letter(recipients);
            let mut session = client::ready(&letter, ehlo, &mut out);
            all.push(case(format!("client/{name} to {recipients}"), move || {
                session.begin(TransactionId(1)).expect("ready");
                client::drain(&mut session, &letter, &mut out);
                let mut told = 0;
                for reply in &replies {
                    told += client::hear(&mut session, &letter, reply.as_bytes(), &mut out);
                }
                assert_eq!(told, 1);
            }));
        }
    }
}

fn authentication(all: &mut Vec<Case>) {
    for (name, body) in dkim::bodies(10_000) {
        let relaxed = format!("canon/relaxed body of 10 kB, {name}");
        all.push(case(relaxed, move || {
            black_box(dkim::canonicalize(Canon::Relaxed, black_box(&body)));
        }));
    }
    // What a stranger could make slow: a line of very many words, and very many fields.
    let words = [b"X: " as &[u8], &b"a  ".repeat(20_000), b"\r\n"].concat();
    all.push(case("canon/relaxed field of 20,000 words", move || {
        canon::field(Canon::Relaxed, black_box(&words), |bytes| {
            black_box(bytes);
        });
    }));
    let now = Wall::from_unix(1_790_000_000);
    let hop = dkim::Hop::new(dkim::ED25519, now);
    let fields: String = (0..5000).map(|n| format!("X-{n}: x\r\n")).collect();
    let many = [fields.as_bytes(), &dkim::message(10)].concat();
    all.push(case("dkim/sign Ed25519, 5,000 fields", move || {
        black_box(hop.sign(black_box(&many)));
    }));
    for (kind, key) in [("Ed25519", dkim::ED25519), ("RSA", dkim::RSA)] {
        let hop = dkim::Hop::new(key, now);
        let message = dkim::message(10_000);
        let signed = [hop.sign(&message), message].concat();
        all.push(case(format!("dkim/verify {kind}, 10 kB"), move || {
            assert_eq!(hop.verify(black_box(&signed)).status(), Status::Pass);
        }));
    }
    all.push(case("spf/a check of seven questions", || {
        black_box(spf::check(black_box([192, 0, 2, 1])));
    }));
}

fn decisions(all: &mut Vec<Case>) {
    for n in [1_000, 30_000] {
        let (mut s, sessions) = scheduler::due(n);
        let mut now = Instant::from_nanos(1);
        let (mut turn, mut out) = (0, Vec::new());
        all.push(case(
            format!("scheduler/take, report, poll with {n}"),
            move || {
                now = now + Duration::from_micros(10);
                turn = (turn + 1) % sessions.len();
                out.clear();
                black_box(s.take(now, sessions[turn], 100, &mut out));
                for id in &out {
                    let report = Report::Deferred {
                        due: now,
                        exclude_source: false,
                    };
                    let _ = s.report(now, *id, report);
                }
                black_box(s.poll(now));
            },
        ));
        let mut s = scheduler::scheduler();
        let at = |i: u32| Instant::ZERO + Duration::from_millis(u64::from(i) * 7919 % 14_400_000);
        let later = move |i: u32| New {
            due: at(i) + Duration::from_secs(1),
            ..scheduler::new(i)
        };
        for i in 0..n {
            let _ = s.enqueue(Instant::ZERO, later(i));
        }
        let mut i = n;
        all.push(case(
            format!("scheduler/enqueue for later, remove with {n}"),
            move || {
                i += 1;
                let id = s.enqueue(Instant::ZERO, later(i)).expect("room");
                let _ = black_box(s.remove(Instant::ZERO, id));
            },
        ));
    }
    let rate = Rate::new(5000, 3600).with_burst(50);
    let mut bucket = Bucket::new();
    let mut now = Instant::from_nanos(1);
    all.push(case("bucket/try_take", move || {
        now = now + Duration::from_millis(700);
        black_box(bucket.try_take(rate, now, 1));
    }));
    for (name, reply) in verdict::replies() {
        all.push(case(format!("verdict/{name}"), move || {
            black_box(Rules::built_in().judge(black_box(&reply), Stage::Rcpt, None));
        }));
    }
}

fn lookups(all: &mut Vec<Case>) {
    let mut response = Vec::new();
    let mut out = [0; DNS_QUERY_BYTES_MAX];
    let mut resolver = dns::resolver();
    resolver.ask(dns::NOW, Token(1), dns::question("example.com"));
    let Output::SendUdp { len, .. } = resolver.poll(dns::NOW, &mut out) else {
        panic!("no query")
    };
    dns::respond(&out[..len], &mut response);
    let asked = dns::question("example.com");
    all.push(case("dns/parse an answer with 5 MX", move || {
        let _ = black_box(parse_answer(
            dns::NOW,
            black_box(&asked),
            black_box(&response),
        ));
    }));
    let mut resolver = dns::resolver();
    let (mut now, mut response) = (dns::NOW, Vec::new());
    all.push(case("dns/whole lookup", move || {
        resolver.clear_cache();
        now = now + Duration::from_nanos(1);
        dns::lookup(
            &mut resolver,
            now,
            dns::question("example.com"),
            &mut response,
        );
    }));
}

fn fields(all: &mut Vec<Case>) {
    let message = mail::message();
    all.push(case("header/cut and survey", move || {
        let (header, _) = Header::of(black_box(&message)).expect("a header");
        black_box(header.survey());
    }));
    let mut out = [0; 2048];
    all.push(case("received/emit", move || {
        black_box(black_box(&mail::received()).emit(&mut out)).expect("room");
    }));
    all.push(case("date/parse", || {
        black_box(Date::parse(black_box(
            b"Mon, 23 Nov 2026 21:13:17 +0000 (UTC)",
        )))
        .expect("a date");
    }));
    let message = mail::message();
    let recipients = [mail::recipient()];
    let mut report = Vec::with_capacity(16_384);
    mail::report(&message, &recipients).emit(&mut report);
    let mut out = Vec::with_capacity(16_384);
    all.push(case("dsn/emit", move || {
        out.clear();
        mail::report(black_box(&message), black_box(&recipients)).emit(&mut out);
    }));
    all.push(case("dsn/parse", move || {
        let parsed = dsn::parse(black_box(&report)).map(|n| n.recipients.len());
        black_box(parsed).expect("a report");
    }));
}
