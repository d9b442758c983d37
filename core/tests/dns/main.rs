//! The resolver against servers that answer, lie, cut, fold, fail and keep silent, and over a
//! network that loses, doubles, delays and forges, in virtual time.
#![cfg(feature = "alloc")]

mod network;
mod properties;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use courser_core::dns::query::parse_answer;
use courser_core::dns::{
    Answer, Asked, Config, Dnssec, Failure, Input, Kind, Mx, Name, Outcome, Output, QueryId,
    Question, Records, Resolver, Token,
};
use courser_core::limits::{DNS_QUERY_BYTES_MAX, DNS_UDP_PAYLOAD_BYTES};
use courser_core::time::Instant;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, PTR, SOA, TLSA, TXT};
use hickory_proto::rr::{DNSClass, Name as Wire, RData, Record};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn at(ms: u64) -> Instant {
    Instant::from_nanos(1 << 40) + Duration::from_millis(ms)
}
fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}
fn ask(text: &str, kind: Kind) -> Question {
    Question::new(name(text), kind)
}
fn server(n: u8) -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, n), 53).into()
}
fn wire(text: &str) -> Wire {
    Wire::from_ascii(format!("{}.", text.trim_end_matches('.'))).unwrap()
}
fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(wire(owner), ttl, data)
}
fn a(owner: &str, ttl: u32, last: u8) -> Record {
    record(owner, ttl, RData::A(A::new(20, 0, 0, last)))
}
fn cname(owner: &str, ttl: u32, target: &str) -> Record {
    record(owner, ttl, RData::CNAME(CNAME(wire(target))))
}
fn soa(owner: &str, ttl: u32, minimum: u32) -> Record {
    let soa = SOA::new(
        wire("ns.example"),
        wire("root.example"),
        1,
        1,
        1,
        1,
        minimum,
    );
    record(owner, ttl, RData::SOA(soa))
}

/// A response to `query`, with its id and question.
fn reply(query: &[u8], change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let query = Message::from_vec(query).unwrap();
    let mut message = Message::response(query.metadata.id, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    message.add_queries(query.queries);
    change(&mut message);
    message.to_vec().unwrap()
}

#[derive(Clone, Debug)]
struct Sent {
    to: SocketAddr,
    /// `None` for TCP.
    socket: Option<u16>,
    query: QueryId,
    bytes: Vec<u8>,
}

struct World {
    resolver: Resolver,
    answers: Vec<(u64, Arc<Answer>)>,
    wake: Option<Instant>,
}

impl World {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(vec![server(1), server(2), server(3)]);
        config.sockets = 4;
        change(&mut config);
        Self {
            resolver: Resolver::new(config, [1; 32]),
            answers: Vec::new(),
            wake: None,
        }
    }
    fn ask(&mut self, ms: u64, token: u64, question: Question) -> Asked {
        self.resolver.ask(at(ms), Token(token), question)
    }
    fn cached(&mut self, ms: u64, question: Question) -> Option<Arc<Answer>> {
        match self.ask(ms, 999, question) {
            Asked::Answered(answer) => Some(answer),
            _ => None,
        }
    }
    /// Polls until it waits; what was sent.
    fn poll(&mut self, ms: u64) -> Vec<Sent> {
        let mut sent = Vec::new();
        let mut out = [0; DNS_QUERY_BYTES_MAX];
        loop {
            match self.resolver.poll(at(ms), &mut out) {
                Output::SendUdp {
                    to,
                    socket,
                    len,
                    query,
                } => sent.push(Sent {
                    to,
                    socket: Some(socket),
                    query,
                    bytes: out[..len].to_vec(),
                }),
                Output::SendTcp { to, len, query } => sent.push(Sent {
                    to,
                    socket: None,
                    query,
                    bytes: out[..len].to_vec(),
                }),
                Output::Answer { token, answer, .. } => self.answers.push((token.0, answer)),
                Output::Wait(until) => {
                    self.wake = until;
                    return sent;
                }
            }
        }
    }
    fn one(&mut self, ms: u64) -> Sent {
        let mut sent = self.poll(ms);
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }
    fn give(&mut self, ms: u64, sent: &Sent, bytes: &[u8]) {
        let input = match sent.socket {
            Some(socket) => Input::Datagram {
                from: sent.to,
                socket,
                bytes,
            },
            None => Input::TcpReply {
                query: sent.query,
                bytes,
            },
        };
        self.resolver.handle(at(ms), input);
    }
    /// Asks, answers the one query that follows, and returns what came of it.
    fn resolve(
        &mut self,
        ms: u64,
        question: Question,
        change: impl FnOnce(&mut Message),
    ) -> Arc<Answer> {
        assert_eq!(self.ask(ms, 1, question), Asked::Pending);
        let sent = self.one(ms);
        self.give(ms, &sent, &reply(&sent.bytes, change));
        assert!(self.poll(ms).is_empty());
        self.answers.pop().unwrap().1
    }
    fn last(&self) -> &Outcome {
        &self.answers.last().unwrap().1.outcome
    }
}

#[test]
fn the_query_on_the_wire() {
    for dnssec in [Dnssec::Off, Dnssec::Ad, Dnssec::Do] {
        let mut world = World::new(|c| c.dnssec = dnssec);
        world.ask(0, 1, ask("example.com", Kind::Mx));
        let message = Message::from_vec(&world.one(0).bytes).unwrap();
        assert_eq!(message.metadata.message_type, MessageType::Query);
        assert!(message.metadata.recursion_desired);
        assert_eq!(message.metadata.authentic_data, dnssec != Dnssec::Off);
        let edns = message.edns.unwrap();
        assert_eq!(edns.max_payload(), DNS_UDP_PAYLOAD_BYTES);
        assert_eq!(edns.flags().dnssec_ok, dnssec == Dnssec::Do);
    }
}

#[test]
fn ids_sockets_and_case_vary() {
    let mut world = World::new(|c| c.in_flight_max = 5000);
    for n in 0..2000 {
        world.ask(0, n, ask(&format!("n{n}.some-long-name.example"), Kind::A));
    }
    let sent = world.poll(0);
    assert_eq!(sent.len(), 2000);
    let ids: BTreeSet<_> = sent.iter().map(|s| s.bytes[..2].to_vec()).collect();
    assert!(ids.len() > 1900);
    for socket in 0..4 {
        let n = sent.iter().filter(|s| s.socket == Some(socket)).count();
        assert!((400..600).contains(&n), "{n}");
    }
    let cases: BTreeSet<_> = sent.iter().map(|s| s.bytes[20..30].to_vec()).collect();
    assert!(cases.len() > 100, "{}", cases.len());
    // (id, socket, server) is never used twice at a time.
    let keys: BTreeSet<_> = sent
        .iter()
        .map(|s| (s.bytes[..2].to_vec(), s.socket, s.to))
        .collect();
    assert_eq!(keys.len(), 2000);
}

#[test]
fn every_kind_of_record() {
    let mut world = World::new(|_| {});
    let found = world.resolve(0, ask("example.com", Kind::Mx), |m| {
        m.add_answer(record(
            "Example.COM",
            300,
            RData::MX(MX::new(10, wire("MX1.Example.com"))),
        ));
        m.add_answer(record(
            "example.com",
            60,
            RData::MX(MX::new(0, Wire::root())),
        ));
    });
    assert_eq!(
        found.mx(),
        [
            Mx {
                preference: 10,
                exchange: name("mx1.example.com")
            },
            Mx {
                preference: 0,
                exchange: Name::root()
            }
        ]
    );
    assert_eq!(found.ttl(at(0)), Duration::from_secs(60));
    let found = world.resolve(0, ask("a.example", Kind::A), |m| {
        m.add_answers([a("a.example", 300, 1), a("a.example", 300, 2)]);
    });
    assert_eq!(
        found.a(),
        [Ipv4Addr::new(20, 0, 0, 1), Ipv4Addr::new(20, 0, 0, 2)]
    );
    let found = world.resolve(0, ask("a.example", Kind::Aaaa), |m| {
        let ip = AAAA::new(0x2a00, 0, 0, 0, 0, 0, 0, 1);
        m.add_answer(record("a.example", 300, RData::AAAA(ip)));
    });
    assert_eq!(
        found.aaaa(),
        ["2a00::1".parse::<std::net::Ipv6Addr>().unwrap()]
    );
    let found = world.resolve(0, ask("a.example", Kind::Txt), |m| {
        let txt = TXT::from_bytes(vec![b"v=spf1 ", b"-all"]);
        m.add_answer(record("a.example", 300, RData::TXT(txt)));
    });
    assert_eq!(&*found.txt()[0], b"v=spf1 -all");
    let ip: IpAddr = "20.0.0.1".parse().unwrap();
    let found = world.resolve(0, Question::reverse(ip), |m| {
        let ptr = RData::PTR(PTR(wire("a.example")));
        m.add_answer(record("1.0.0.20.in-addr.arpa", 300, ptr));
    });
    assert_eq!(found.ptr(), [name("a.example")]);
    let question = Question::tlsa(25, &name("mx.example")).unwrap();
    let found = world.resolve(0, question, |m| {
        let tlsa = TLSA::new(
            CertUsage::DaneEe,
            Selector::Spki,
            Matching::Sha256,
            vec![7; 32],
        );
        m.add_answer(record("_25._tcp.mx.example", 300, RData::TLSA(tlsa)));
    });
    let tlsa = &found.tlsa()[0];
    assert_eq!((tlsa.usage, tlsa.selector, tlsa.matching), (3, 1, 1));
    assert_eq!(&*tlsa.data, [7; 32]);
}

#[test]
fn coalesces_and_caches_until_the_ttl() {
    let bounded = || {
        World::new(|c| {
            c.ttl_min = Duration::from_secs(10);
            c.ttl_max = Duration::from_secs(100);
        })
    };
    let mut world = bounded();
    for token in 0..3 {
        assert_eq!(
            world.ask(0, token, ask("a.example", Kind::A)),
            Asked::Pending
        );
    }
    let sent = world.one(0);
    assert_eq!(world.ask(0, 3, ask("A.Example.", Kind::A)), Asked::Pending);
    assert!(world.poll(0).is_empty());
    world.give(
        5,
        &sent,
        &reply(&sent.bytes, |m| {
            m.add_answer(a("a.example", 50, 1));
        }),
    );
    world.poll(5);
    let tokens: Vec<_> = world.answers.iter().map(|(token, _)| *token).collect();
    assert_eq!(tokens, [0, 1, 2, 3]);
    assert_eq!(world.resolver.stats().sent_udp, 1);
    assert_eq!(world.wake, None);
    let question = || ask("a.example", Kind::A);
    assert!(world.cached(50_004, question()).is_some());
    assert!(world.cached(50_005, question()).is_none());
    let mut world = bounded();
    for (n, (ttl, kept)) in [(0, 10), (u32::MAX, 10), (86_400, 100), (20, 20)]
        .into_iter()
        .enumerate()
    {
        let text = format!("t{n}.example");
        let answer = world.resolve(60_000, ask(&text, Kind::A), |m| {
            m.add_answer(a(&text, ttl, 1));
        });
        assert_eq!(answer.ttl(at(60_000)), Duration::from_secs(kept), "{ttl}");
    }
}

#[test]
fn silence_goes_to_the_next_server_and_late_answers_count() {
    let mut world = World::new(|_| {});
    world.ask(0, 1, ask("a.example", Kind::A));
    let first = world.one(0);
    assert_eq!(first.to, server(1));
    assert_eq!(world.wake, Some(at(1500)));
    assert!(world.poll(1499).is_empty());
    let second = world.one(1500);
    assert_eq!(second.to, server(2));
    assert_ne!(first.bytes, second.bytes);
    let late = reply(&first.bytes, |m| {
        m.add_answer(a("a.example", 300, 1));
    });
    world.give(1600, &first, &late);
    assert!(world.poll(1600).is_empty());
    assert!(matches!(world.last(), Outcome::Found(_)));
    // Again, and the other one's: nobody waits for them.
    world.give(1700, &first, &late);
    let other = reply(&second.bytes, |m| {
        m.add_answer(a("a.example", 300, 66));
    });
    world.give(1700, &second, &other);
    assert!(world.poll(1700).is_empty());
    assert_eq!(world.answers.len(), 1);
    assert_eq!(world.resolver.stats().unmatched, 2);
    assert_eq!(world.resolver.open(), 0);
}

#[test]
fn dead_servers_end_in_time_and_are_left_alone() {
    let mut world = World::new(|c| c.give_up = Duration::from_secs(10));
    world.ask(0, 1, ask("a.example", Kind::A));
    let mut servers = Vec::new();
    let mut ms = 0;
    while world.answers.is_empty() {
        servers.extend(world.poll(ms).iter().map(|s| s.to));
        if let Some(wake) = world.wake {
            ms = wake.since(at(0)).as_millis() as u64;
        }
        assert!(ms <= 10_000);
    }
    assert_eq!(*world.last(), Outcome::Failed(Failure::Timeout));
    assert_eq!(servers[..4], [server(1), server(2), server(3), server(1)]);
    // RFC 9520: the failure is remembered, but not for long.
    assert!(
        world
            .cached(ms + 14_999, ask("a.example", Kind::A))
            .is_some()
    );
    assert!(
        world
            .cached(ms + 15_000, ask("a.example", Kind::A))
            .is_none()
    );

    let mut world = World::new(|_| {});
    for n in 0..3 {
        world.ask(0, n, ask(&format!("a{n}.example"), Kind::A));
        world.poll(0);
    }
    assert_eq!(world.poll(1500).len(), 3);
    world.ask(1500, 9, ask("later.example", Kind::A));
    assert_eq!(
        world.one(1500).to,
        server(2),
        "the first failed three times"
    );
    assert_eq!(world.resolver.servers().next().unwrap().failures, 3);
}

#[test]
fn failures_go_round_at_once() {
    let mut world = World::new(|_| {});
    world.ask(0, 1, ask("a.example", Kind::A));
    let codes = [
        ResponseCode::Refused,
        ResponseCode::ServFail,
        ResponseCode::ServFail,
    ];
    for (n, code) in (1..).zip(codes) {
        let sent = world.one(0);
        assert_eq!(sent.to, server(n));
        world.give(
            0,
            &sent,
            &reply(&sent.bytes, |m| m.metadata.response_code = code),
        );
    }
    assert!(world.poll(0).is_empty());
    assert_eq!(*world.last(), Outcome::Failed(Failure::ServerFailure));

    // A referral, and an answer that can't be read, are failures too.
    let mut world = World::new(|c| c.servers.truncate(2));
    world.ask(0, 1, ask("a.example", Kind::A));
    let sent = world.one(0);
    world.give(
        0,
        &sent,
        &reply(&sent.bytes, |m| {
            m.add_authority(record("example", 300, RData::NS(NS(wire("ns.example")))));
        }),
    );
    let sent = world.one(0);
    let mut cut = reply(&sent.bytes, |m| {
        m.add_answer(a("a.example", 300, 1));
    });
    cut.truncate(cut.len() - 2);
    world.give(0, &sent, &cut);
    assert!(world.poll(0).is_empty());
    assert_eq!(*world.last(), Outcome::Failed(Failure::Malformed));
    assert_eq!(world.resolver.stats().malformed, 1);

    let mut world = World::new(|c| c.servers.clear());
    world.ask(0, 1, ask("a.example", Kind::A));
    world.poll(0);
    assert!(matches!(world.last(), Outcome::Failed(_)));
}

#[test]
fn cut_answers_come_by_tcp() {
    let truncate = |m: &mut Message| m.metadata.truncation = true;
    let mut world = World::new(|_| {});
    world.ask(0, 1, ask("big.example", Kind::Txt));
    let udp = world.one(0);
    world.give(0, &udp, &reply(&udp.bytes, truncate));
    let tcp = world.one(0);
    assert_eq!((tcp.to, tcp.socket), (server(1), None));
    assert_eq!(world.wake, Some(at(5000)));
    // No datagram is an answer to it.
    let good = reply(&tcp.bytes, |m| {
        for n in 0..200 {
            let text = format!("record number {n} of a long set");
            m.add_answer(record("big.example", 300, RData::TXT(TXT::new(vec![text]))));
        }
    });
    world.resolver.handle(
        at(1),
        Input::Datagram {
            from: tcp.to,
            socket: 0,
            bytes: &good,
        },
    );
    assert!(world.poll(1).is_empty());
    assert!(world.answers.is_empty());
    world.give(2, &tcp, &good);
    world.poll(2);
    assert_eq!(world.answers[0].1.txt().len(), 200);
    assert_eq!(world.resolver.stats().truncated, 1);

    // TCP fails: the next server, by TCP, until there is none.
    let mut world = World::new(|_| {});
    world.ask(0, 1, ask("big.example", Kind::Txt));
    let udp = world.one(0);
    world.give(0, &udp, &reply(&udp.bytes, truncate));
    for n in 1..=3 {
        let tcp = world.one(0);
        assert_eq!((tcp.to, tcp.socket), (server(n), None));
        world
            .resolver
            .handle(at(0), Input::TcpFailed { query: tcp.query });
        world
            .resolver
            .handle(at(0), Input::TcpFailed { query: tcp.query });
    }
    world.poll(0);
    assert_eq!(*world.last(), Outcome::Failed(Failure::Timeout));
}

/// The same server asked in another form isn't another attempt: the others get theirs.
#[test]
fn another_form_takes_no_attempt_from_the_others() {
    let mut world = World::new(|c| c.attempts_max = 2);
    world.ask(0, 1, ask("cut.example", Kind::Mx));
    let first = world.one(0);
    let cut = reply(&first.bytes, |m| m.metadata.truncation = true);
    world.give(1, &first, &cut);
    let tcp = world.one(1);
    assert_eq!((tcp.to, tcp.socket), (first.to, None));
    let query = tcp.query;
    world.resolver.handle(at(2), Input::TcpFailed { query });
    let query = {
        let second = world.one(2);
        assert_ne!(second.to, first.to);
        second.query
    };
    world.resolver.handle(at(3), Input::TcpFailed { query });
    assert!(world.poll(3).is_empty());
    assert_eq!(*world.last(), Outcome::Failed(Failure::Timeout));

    let mut world = World::new(|c| c.attempts_max = 2);
    world.ask(0, 1, ask("old.example", Kind::Mx));
    let first = world.one(0);
    let formerr = |m: &mut Message| m.metadata.response_code = ResponseCode::FormErr;
    world.give(1, &first, &reply(&first.bytes, formerr));
    let plain = world.one(1);
    assert_eq!(plain.to, first.to);
    world.give(2, &plain, &reply(&plain.bytes, formerr));
    assert_ne!(world.one(2).to, first.to);
}

#[test]
fn unsent_datagrams() {
    let mut world = World::new(|_| {});
    world.ask(0, 1, ask("a.example", Kind::A));
    for n in 1..=3 {
        let sent = world.one(0);
        assert_eq!(sent.to, server(n));
        world
            .resolver
            .handle(at(0), Input::SendFailed { query: sent.query });
    }
    // No server is left to try at once: the last counts as lost.
    assert!(world.poll(0).is_empty());
    assert_eq!(world.wake, Some(at(1500)));
    assert_eq!(world.one(1500).to, server(1));
}

#[test]
fn cname_chains() {
    let mut world = World::new(|_| {});
    let found = world.resolve(0, ask("a.example", Kind::A), |m| {
        m.add_answers([
            a("c.example", 300, 1),
            cname("b.example", 40, "C.example"),
            cname("A.example", 300, "b.example"),
            a("other.example", 300, 66),
        ]);
    });
    assert_eq!(found.a().len(), 1);
    assert_eq!(found.canonical, name("c.example"));
    assert_eq!(found.ttl(at(0)), Duration::from_secs(40));
    assert_eq!(world.resolver.stats().foreign_records, 1);
    // The records of other names have not come in.
    assert!(world.cached(0, ask("other.example", Kind::A)).is_none());

    // The server leaves the end to us; what the cache has of it is used.
    world.ask(0, 1, ask("x.example", Kind::A));
    let sent = world.poll(0).pop().unwrap();
    world.give(
        0,
        &sent,
        &reply(&sent.bytes, |m| {
            m.add_answer(cname("x.example", 30, "y.example"));
        }),
    );
    let sent = world.one(0);
    assert!(
        Message::from_vec(&sent.bytes).unwrap().queries[0].name() == &wire("y.example"),
        "asks on"
    );
    world.give(
        0,
        &sent,
        &reply(&sent.bytes, |m| {
            m.add_answer(cname("y.example", 300, "a.example"));
        }),
    );
    assert!(world.poll(0).is_empty());
    let answer = world.answers.last().unwrap().1.clone();
    assert_eq!(answer.a().len(), 1);
    assert_eq!(answer.ttl(at(0)), Duration::from_secs(30));

    // Loops, within an answer and over several.
    world.ask(0, 1, ask("l.example", Kind::A));
    let sent = world.one(0);
    world.give(
        0,
        &sent,
        &reply(&sent.bytes, |m| {
            m.add_answers([
                cname("l.example", 9, "m.example"),
                cname("m.example", 9, "l.example"),
            ]);
        }),
    );
    assert!(world.poll(0).is_empty());
    assert_eq!(*world.last(), Outcome::Failed(Failure::CnameChain));
    world.ask(0, 1, ask("p0.example", Kind::A));
    let before = world.answers.len();
    for n in 0.. {
        let Some(sent) = world.poll(0).pop() else {
            break;
        };
        assert!(n < 12);
        world.give(
            0,
            &sent,
            &reply(&sent.bytes, |m| {
                let (from, to) = (format!("p{n}.example"), format!("p{}.example", n + 1));
                m.add_answer(cname(&from, 9, &to));
            }),
        );
    }
    assert_eq!(world.answers.len(), before + 1);
    assert_eq!(*world.last(), Outcome::Failed(Failure::CnameChain));
}

#[test]
fn negative_answers() {
    let mut world = World::new(|_| {});
    let nxdomain = |m: &mut Message| {
        m.metadata.response_code = ResponseCode::NXDomain;
        m.add_authority(soa("example", 200, 100));
    };
    let answer = world.resolve(0, ask("no.example", Kind::Mx), nxdomain);
    assert_eq!(answer.outcome, Outcome::NoName);
    // For every kind, for the smaller of the SOA's TTL and minimum.
    assert!(world.cached(99_999, ask("no.example", Kind::Txt)).is_some());
    assert!(
        world
            .cached(100_000, ask("no.example", Kind::Txt))
            .is_none()
    );
    world.poll(100_000);

    let answer = world.resolve(200_000, ask("empty.example", Kind::Mx), |m| {
        m.add_authority(soa("example", 50, 100));
    });
    assert_eq!(answer.outcome, Outcome::NoData);
    assert!(
        world
            .cached(249_999, ask("empty.example", Kind::Mx))
            .is_some()
    );
    assert!(
        world
            .cached(250_000, ask("empty.example", Kind::Mx))
            .is_none()
    );
    assert!(
        world
            .cached(201_000, ask("empty.example", Kind::A))
            .is_none()
    );

    // Without SOA, or with that of another zone, it is not kept; and never for too long.
    let mut world = World::new(|_| {});
    let answer = world.resolve(0, ask("a.example", Kind::Mx), |_| {});
    assert_eq!(answer.outcome, Outcome::NoData);
    assert!(world.cached(0, ask("a.example", Kind::Mx)).is_none());
    let mut world = World::new(|_| {});
    world.resolve(0, ask("a.example", Kind::Mx), |m| {
        m.add_authority(soa("elsewhere", 200, 100));
    });
    assert!(world.cached(0, ask("a.example", Kind::Mx)).is_none());
    let mut world = World::new(|c| c.negative_ttl_max = Duration::MAX);
    let answer = world.resolve(0, ask("a.example", Kind::Mx), |m| {
        m.add_authority(soa("example", 1 << 30, 1 << 30));
    });
    assert_eq!(answer.ttl(at(0)), Duration::from_secs(10_800));

    // NXDOMAIN at the end of a chain is that of the asked name (RFC 6604).
    let answer = world.resolve(0, ask("alias.example", Kind::Mx), |m| {
        m.metadata.response_code = ResponseCode::NXDomain;
        m.add_answer(cname("alias.example", 20, "gone.other"));
        m.add_authority(soa("other", 200, 100));
    });
    assert_eq!(answer.outcome, Outcome::NoName);
    assert_eq!(answer.ttl(at(0)), Duration::from_secs(20));
}

#[test]
fn forgeries_change_nothing() {
    let mut world = World::new(|_| {});
    world.ask(0, 1, ask("bank.example", Kind::A));
    let sent = world.one(0);
    let socket = sent.socket.unwrap();
    let good = reply(&sent.bytes, |m| {
        m.add_answer(a("bank.example", 300, 1));
    });
    let evil = reply(&sent.bytes, |m| {
        m.add_answer(a("bank.example", 300, 66));
    });
    let mut give = |from, socket, bytes: &[u8]| {
        world.resolver.handle(
            at(1),
            Input::Datagram {
                from,
                socket,
                bytes,
            },
        );
        assert!(world.poll(1).is_empty());
        assert!(world.answers.is_empty());
    };
    for id in 0..=u8::MAX {
        let mut wrong = evil.clone();
        wrong[0] ^= id;
        wrong[1] ^= 1;
        give(sent.to, socket, &wrong);
    }
    give(sent.to, socket ^ 1, &evil);
    give(server(2), socket, &evil);
    give(server(9), socket, &evil);
    give((Ipv4Addr::new(192, 0, 2, 1), 5353).into(), socket, &evil);
    // Not a response, another operation, other questions.
    for (byte, change) in [(2, 0x80), (2, 0x10), (13, 1), (5, 1), (5, 3)] {
        let mut wrong = evil.clone();
        wrong[byte] ^= change;
        give(sent.to, socket, &wrong);
    }
    for len in 0..24 {
        give(sent.to, socket, &evil[..len]);
    }
    let stats = world.resolver.stats();
    assert!(
        stats.unmatched >= 260 && stats.wrong_question >= 5,
        "{stats:?}"
    );
    world.give(2, &sent, &good);
    world.poll(2);
    assert_eq!(world.answers[0].1.a(), [Ipv4Addr::new(20, 0, 0, 1)]);

    // ::ffff:192.0.2.1 is 192.0.2.1.
    world.ask(3, 1, ask("mapped.example", Kind::A));
    let mut sent = world.one(3);
    sent.to = "[::ffff:192.0.2.1]:53".parse().unwrap();
    world.give(
        3,
        &sent,
        &reply(&sent.bytes, |m| {
            m.add_answer(a("mapped.example", 300, 1));
        }),
    );
    world.poll(3);
    assert_eq!(world.answers.len(), 2);
}

/// Records about others, or of another class, don't say that the name has none.
#[test]
fn an_answer_to_something_else_is_no_answer() {
    let of_class = |class| {
        let mut record = a("bank.example", 300, 66);
        record.dns_class = class;
        record
    };
    for (record, fits) in [
        (of_class(DNSClass::IN), true),
        (of_class(DNSClass::CH), false),
        (of_class(DNSClass::HS), false),
        (a("other.example", 300, 66), false),
        (a("example", 300, 66), false),
        (cname("other.example", 300, "bank.example"), false),
    ] {
        for with_soa in [false, true] {
            let mut world = World::new(|_| {});
            world.ask(0, 1, ask("bank.example", Kind::A));
            let sent = world.one(0);
            let answer = reply(&sent.bytes, |m| {
                m.add_answer(record.clone());
                if with_soa {
                    m.add_authority(soa("example", 200, 100));
                }
            });
            world.give(1, &sent, &answer);
            // Another server may know better.
            assert_eq!(world.poll(1).len(), usize::from(!fits), "{record}");
            assert_eq!(world.answers.len(), usize::from(fits), "{record}");
        }
    }
    // Beside a right one they are nothing.
    let mut world = World::new(|_| {});
    let answer = world.resolve(0, ask("bank.example", Kind::A), |m| {
        m.add_answer(of_class(DNSClass::CH));
        m.add_answer(a("other.example", 300, 66));
        m.add_answer(a("bank.example", 300, 1));
    });
    assert_eq!(answer.a(), [Ipv4Addr::new(20, 0, 0, 1)]);
    assert_eq!(world.resolver.stats().foreign_records, 2);
}

#[test]
fn a_folded_question_is_asked_again_by_tcp() {
    let mut world = World::new(|_| {});
    world.ask(0, 1, ask("some.long.name.example", Kind::A));
    let udp = world.one(0);
    let mut folded = reply(&udp.bytes, |m| {
        m.add_answer(a("some.long.name.example", 300, 66));
    });
    folded[12..36].make_ascii_lowercase();
    world.give(0, &udp, &folded);
    let tcp = world.one(0);
    assert_eq!(tcp.socket, None);
    let mut folded = reply(&tcp.bytes, |m| {
        m.add_answer(a("some.long.name.example", 300, 1));
    });
    folded[12..36].make_ascii_lowercase();
    world.give(0, &tcp, &folded);
    world.poll(0);
    assert_eq!(world.answers[0].1.a(), [Ipv4Addr::new(20, 0, 0, 1)]);
    assert_eq!(world.resolver.stats().wrong_case, 1);
}

#[test]
fn servers_without_edns() {
    for with_question in [true, false] {
        let mut world = World::new(|c| c.servers.truncate(1));
        world.ask(0, 1, ask("a.example", Kind::A));
        let sent = world.one(0);
        let formerr = reply(&sent.bytes, |m| {
            m.metadata.response_code = ResponseCode::FormErr;
            if !with_question {
                m.queries.clear();
            }
        });
        world.give(0, &sent, &formerr);
        let sent = world.one(0);
        let query = Message::from_vec(&sent.bytes).unwrap();
        assert!(query.edns.is_none());
        world.give(
            0,
            &sent,
            &reply(&sent.bytes, |m| {
                m.add_answer(a("a.example", 300, 1));
            }),
        );
        world.poll(0);
        assert!(matches!(world.last(), Outcome::Found(_)));
        // It is remembered, for a while.
        world.ask(0, 2, ask("b.example", Kind::A));
        assert!(
            Message::from_vec(&world.one(0).bytes)
                .unwrap()
                .edns
                .is_none()
        );
    }
}

#[test]
fn secure_needs_every_link_and_the_will() {
    let link = |ad| {
        move |m: &mut Message| {
            m.metadata.authentic_data = ad;
            m.add_answer(cname("a.example", 300, "b.example"));
        }
    };
    for (dnssec, first, second, secure) in [
        (Dnssec::Ad, true, true, true),
        (Dnssec::Do, true, true, true),
        (Dnssec::Ad, false, true, false),
        (Dnssec::Ad, true, false, false),
        (Dnssec::Off, true, true, false),
    ] {
        let mut world = World::new(|c| c.dnssec = dnssec);
        world.ask(0, 1, ask("a.example", Kind::A));
        let sent = world.one(0);
        world.give(0, &sent, &reply(&sent.bytes, link(first)));
        let sent = world.one(0);
        world.give(
            0,
            &sent,
            &reply(&sent.bytes, |m| {
                m.metadata.authentic_data = second;
                m.add_answer(a("b.example", 300, 1));
            }),
        );
        world.poll(0);
        assert_eq!(world.answers[0].1.secure, secure);
    }
}

#[test]
fn bounds_hold() {
    let mut world = World::new(|c| {
        c.in_flight_max = 2;
        c.questions_max = 4;
        c.waiters_max = 6;
    });
    for n in 0..4 {
        assert_eq!(
            world.ask(0, n, ask(&format!("a{n}.example"), Kind::A)),
            Asked::Pending
        );
    }
    assert_eq!(world.ask(0, 4, ask("a4.example", Kind::A)), Asked::Busy);
    for n in 5..7 {
        assert_eq!(world.ask(0, n, ask("a0.example", Kind::A)), Asked::Pending);
    }
    assert_eq!(world.ask(0, 7, ask("a0.example", Kind::A)), Asked::Busy);
    let sent = world.poll(0);
    assert_eq!(sent.len(), 2);
    world.give(
        1,
        &sent[0],
        &reply(&sent[0].bytes, |m| {
            m.add_answer(a("a0.example", 300, 1));
        }),
    );
    assert_eq!(world.poll(1).len(), 1, "the next one's turn");
    assert_eq!(world.answers.len(), 3);
    // Those that never get their turn are answered in time as well.
    for s in (0..=30).map(|s| s * 1000 + 2) {
        world.poll(s);
    }
    assert_eq!(world.answers.len(), 6);
    assert_eq!(world.resolver.open(), 0);
    assert_eq!(world.resolver.stats().busy, 2);
}

#[test]
fn a_small_buffer_loses_queries_but_not_answers() {
    let mut world = World::new(|_| {});
    world.ask(0, 1, ask("a.example", Kind::A));
    for s in 0..=30 {
        let mut out = [0; 20];
        if let Output::Answer { answer, .. } = world.resolver.poll(at(s * 1000), &mut out) {
            assert_eq!(answer.outcome, Outcome::Failed(Failure::Timeout));
            return;
        }
    }
    panic!("no answer");
}

#[test]
fn the_question_of_a_reply_must_be_ours() {
    let question = ask("a.example", Kind::A);
    let mut message = Message::response(7, OpCode::Query);
    message.add_query(Query::query(
        wire("b.example"),
        hickory_proto::rr::RecordType::A,
    ));
    message.add_answer(a("a.example", 300, 1));
    assert_eq!(
        parse_answer(at(0), &question, &message.to_vec().unwrap()),
        None
    );
}
