//! A TLS handshake that gets so far and no further: at each of its steps the peer, or somebody in
//! between, stalls or closes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use courser_tests::client::{Client, small, submit};
use courser_tests::cut::{End, Proxy, STEPS, Step};
use courser_tests::eventually;
use courser_tests::net::free_port;
use courser_tests::receiver::{Answer, Receiver};
use courser_tests::server::{Server, run, scratch, smart_host};
use courser_tests::tls::{Authority, Issued};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use serde_json::Value;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
const ENDS: [End; 2] = [End::Stalls, End::Closes];

/// A receiver of this version, in records so small that no two messages of a handshake come whole in
/// one.
fn receiver(
    issued: &Issued,
    version: &'static SupportedProtocolVersion,
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> Receiver {
    let mut config = issued.server_of(&[version]);
    Arc::make_mut(&mut config).max_fragment_size = Some(128);
    Receiver::start_tls((Ipv4Addr::LOCALHOST, 0).into(), config, answer)
}

/// A receiver that speaks TLS well, and somebody in front of it.
struct Path {
    domain: String,
    step: Step,
    end: End,
    version: &'static SupportedProtocolVersion,
    proxy: Proxy,
}

impl Path {
    /// Courser is through with its handshake, and the receiver isn't, or says nothing that arrives.
    fn shows_in_the_first_answer(&self) -> bool {
        match self.step {
            Step::WithoutClientFinished => *self.version == TLS13,
            step => step == Step::WithinFirstAnswer,
        }
    }

    fn cause(&self) -> &'static str {
        match (self.shows_in_the_first_answer(), self.end) {
            (true, End::Stalls) => "no answer in time (in answer to EHLO)",
            (true, End::Closes) => "the peer closed the connection (in answer to EHLO)",
            (false, End::Stalls) => "no TLS handshake within 1 s",
            (false, End::Closes) => "within the TLS handshake",
        }
    }
}

pub(crate) fn receivers_that_stall_and_close_at_every_step() {
    let dir = scratch();
    let authority = Authority::new();
    let count = u8::try_from(STEPS.len() * ENDS.len() * VERSIONS.len()).expect("few");
    // An address for each: what is known of one is not of the others.
    let ips: Vec<IpAddr> = (1..=count).map(|n| [127, 0, 4, n].into()).collect();
    let names: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let issued = authority.issue(&names);
    let receivers = VERSIONS.map(|version| receiver(&issued, version, |_| Answer::Usual));
    let mut ips = ips.into_iter();
    let mut paths = Vec::new();
    for (version, receiver) in VERSIONS.into_iter().zip(&receivers) {
        for step in STEPS {
            for end in ENDS {
                let ip = ips.next().expect("one for each");
                let proxy = Proxy::start_at((ip, 0).into(), receiver.address, step, end);
                let domain = format!("{step:?}-{end:?}-{:?}.test", version.version);
                paths.push(Path {
                    domain: domain.to_lowercase().replace('_', "-"),
                    step,
                    end,
                    version,
                    proxy,
                });
            }
        }
    }
    let routes: String = paths
        .iter()
        .map(|p| {
            format!(
                "[[route]]\ndomain = \"{}\"\nto = [\"{}\"]\n",
                p.domain, p.proxy.address
            )
        })
        .collect();
    let mails_to = |domain: &str| {
        let to = format!("you@{domain}");
        let mails = receivers.iter().flat_map(Receiver::mails);
        mails
            .filter(|mail| mail.recipients() == [&*to])
            .collect::<Vec<_>>()
    };
    for level in ["required", "verified", "opportunistic"] {
        let server = Server::start(&format!(
            "delivery.timeouts.ehlo = \"1s\"\n\
             tls = {{ level = \"{level}\", ca_file = \"{}\" }}\n{routes}",
            authority.write(dir.path()).display()
        ));
        let before: Vec<(usize, usize)> = paths
            .iter()
            .map(|p| (p.proxy.sessions(), p.proxy.held()))
            .collect();
        let ids: Vec<String> = paths
            .iter()
            .map(|p| {
                let to = format!("<you@{}>", p.domain);
                submit(server.address, "<me@sender.test>", &[to], &small(level))
            })
            .collect();
        for ((path, id), (sessions, held)) in paths.iter().zip(&ids).zip(before) {
            let event = server.fate(id);
            let what = format!("{level}, {}: {event:#}", path.domain);
            let address = path.proxy.address.to_string();
            let failures: Vec<Value> = server
                .events_of("tls-failed")
                .into_iter()
                .filter(|e| e["peer_address"] == *address)
                .collect();
            let [failure] = &failures[..] else {
                panic!("{what}\n{failures:#?}");
            };
            let falls_back = level == "opportunistic";
            assert_eq!(failure["level"], level, "{what}\n{failure:#}");
            assert_eq!(failure["plaintext"], falls_back, "{what}\n{failure:#}");
            assert_eq!(
                failure["result"], "validation-failure",
                "{what}\n{failure:#}"
            );
            let cause = failure["cause"].as_str().unwrap_or_default();
            assert!(cause.contains(path.cause()), "{what}\n{failure:#}");
            // It was held where it should be, once; what falls back comes again.
            let sessions = path.proxy.sessions() - sessions;
            assert_eq!(path.proxy.held() - held, 1, "{what}");
            assert_eq!(sessions, 1 + usize::from(falls_back), "{what}");
            let mails = mails_to(&path.domain);
            assert_eq!(mails.len(), usize::from(falls_back), "{what}");
            if falls_back {
                assert_eq!(event["kind"], "delivered", "{what}");
                assert!(!mails[0].tls && event["tls"].is_null(), "{what}");
            } else {
                assert_eq!(event["kind"], "deferred", "{what}");
                assert!(event.to_string().contains(path.cause()), "{what}");
            }
        }
        // A probe says the same, also where TLS seems to be up.
        for path in paths.iter().filter(|p| p.shows_in_the_first_answer()) {
            let address = path.proxy.address;
            let target = format!("[{}]:{}", address.ip(), address.port());
            let config = server.config().display().to_string();
            let words = ["tls", "probe", &target, "--config", &config];
            let out = run(&[&words[..], &["--json", "--wait", "1"]].concat());
            let said = String::from_utf8_lossy(&out.stdout).into_owned();
            let report: Value = serde_json::from_str(&said).expect("JSON");
            let host = &report["hosts"][0];
            let verdict = host["verdict"].as_str().unwrap_or_default();
            let words = match level {
                "opportunistic" => "in plaintext: ",
                _ => "no delivery: ",
            };
            assert!(
                verdict.starts_with(words) && host["delivers"] == (level == "opportunistic"),
                "{level}, {}: {report:#}",
                path.domain
            );
        }
    }
    // Each step is further than the one before, or two of them are the same. In TLS 1.2 the client's
    // Finished comes before the server's.
    for version in VERSIONS {
        for end in ENDS {
            let mine = paths.iter().filter(|p| {
                *p.version == *version && p.end == end && p.step != Step::WithoutClientFinished
            });
            let passed: Vec<(usize, Step)> = mine.map(|p| (p.proxy.passed(), p.step)).collect();
            let rises = passed.windows(2).all(|two| two[0].0 < two[1].0);
            assert!(rises, "{:?}, {end:?}: {passed:?}", version.version);
        }
    }
    // Nobody saw an envelope but those who fell back.
    let mail_commands: usize = receivers.iter().map(|r| r.count_of("MAIL")).sum();
    assert_eq!(mail_commands, paths.len());
}

/// The connection ends in the middle of an answer, and nothing says that it should (RFC 8446 6.1).
pub(crate) fn answers_cut_short_over_tls_are_none() {
    let dir = scratch();
    let authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1"]);
    for version in VERSIONS {
        for (to, cut) in [
            ("MAIL", "250 2.1.0 O"),
            ("RCPT", "250 2.1.5 Ok\r"),
            (".", "2"),
            (".", "250 2.0.0 Taken"),
            // A whole line, and not the last one.
            (".", "250-2.0.0 Taken\r\n"),
        ] {
            let first = AtomicBool::new(true);
            let receiver = receiver(&issued, version, move |line| {
                match line.starts_with(to) && first.swap(false, Ordering::AcqRel) {
                    true => Answer::Bytes(vec![(Duration::ZERO, cut.into())]),
                    false => Answer::Usual,
                }
            });
            let server = Server::start(&format!(
                "tls = {{ level = \"verified\", ca_file = \"{}\" }}\n{}\
                 [[stream]]\nname = \"default\"\n[stream.retry]\nintervals = [\"1s\"]\n\
                 [delivery.dead_host]\nfirst = \"1s\"\nmax = \"1s\"\n",
                authority.write(dir.path()).display(),
                smart_host(receiver.address)
            ));
            let to_whom = ["<you@dest.test>".to_owned()];
            let id = submit(server.address, "<me@sender.test>", &to_whom, &small("cut"));
            let what = format!("{:?}, {cut:?}", version.version);
            let event = server.fate(&id);
            assert_eq!(event["kind"], "deferred", "{what}: {event:#}");
            server.wait_event("delivered", |e| e["message"] == *id);
            let mails = receiver.wait(1);
            assert!(mails.len() == 1 && mails[0].tls, "{what}: {mails:#?}");
            let failed = server.events_of("tls-failed");
            assert!(failed.is_empty(), "{what}: {failed:#?}");
        }
    }
}

/// The other direction: a submitter whose handshake never ends.
pub(crate) fn submitters_that_never_finish() {
    /// One after the other they would keep everybody waiting longer than a client waits.
    const STALLED: usize = 10;
    let dir = scratch();
    let authority = Authority::new();
    let receiver = Receiver::friendly();
    let port = free_port();
    let server = Server::start(&format!(
        "tls.certificate = [{}]\n{}[[listener]]\ncommand_timeout = \"3s\"\n\
         [[listener]]\nname = \"other\"\naddress = [\"127.0.0.1:{port}\"]\n",
        authority.issue(&["one.test"]).toml(dir.path(), "one"),
        smart_host(receiver.address)
    ));
    let anywhere: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let start = |step, end| Proxy::start_at(anywhere, server.address, step, end);
    for version in VERSIONS {
        let before = server.events_of("refused").len();
        let (stalls, closes) = (
            start(Step::WithoutClientFinished, End::Stalls),
            start(Step::WithoutClientFinished, End::Closes),
        );
        let config = authority.client_of(&[version], None);
        let come = |to: SocketAddr| {
            let config = config.clone();
            std::thread::spawn(move || {
                let mut client = Client::hello(to);
                client.command("STARTTLS").expect_code("220");
                // In TLS 1.3 it is through, as far as it knows.
                client
                    .secure(config, "one.test")
                    .is_ok_and(|mut client| matches!(client.reply(), Ok(Some(_))))
            })
        };
        let mut there: Vec<_> = (0..STALLED).map(|_| come(stalls.address)).collect();
        there.push(come(closes.address));
        let held = eventually(20, || (stalls.held() == STALLED).then_some(()));
        assert!(held.is_some(), "{} are held", stalls.held());
        // One that goes away in the middle of its first record.
        let mut gone = Client::hello(server.address);
        gone.command("STARTTLS").expect_code("220");
        gone.send(&[22, 3, 1, 2, 0, 1]).expect("it reads");
        drop(gone);
        // Others are served meanwhile, here and next door.
        for to in [server.address, ([127, 0, 0, 1], port).into()] {
            let mut client = Client::hello(to).start_tls(config.clone(), "one.test");
            client.submit("<a@sender.test>", &["<b@dest.test>"], &small("others"));
        }
        let mut mine = Vec::new();
        let all = STALLED + 2;
        let found = eventually(40, || {
            mine = server.events_of("refused").split_off(before);
            (mine.len() >= all).then_some(())
        });
        assert!(found.is_some(), "{mine:#?}");
        let count = |words: &str| {
            let cause = |e: &&Value| e["cause"].as_str().is_some_and(|c| c.contains(words));
            mine.iter()
                .filter(cause)
                .filter(|e| e["stage"] == "tls")
                .count()
        };
        assert_eq!(count("no TLS handshake within 3 s"), STALLED, "{mine:#?}");
        assert_eq!(count("within the TLS handshake"), 2, "{mine:#?}");
        for client in there {
            let got_an_answer = client.join().expect("a client that ends");
            assert!(!got_an_answer, "{:?}", version.version);
        }
    }
    receiver.wait(4);
}
