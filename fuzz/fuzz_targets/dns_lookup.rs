//! The resolver driven by bytes: asks, answers that are good, mutated or foreign, failures and
//! time. Never panics, keeps its bounds, and answers every token exactly once.
#![no_main]

use std::collections::BTreeSet;
use std::time::Duration;

use courser_core::dns::{
    Asked, Config, Input, Kind, Name, Output, QueryId, Question, Resolver, Token,
};
use courser_core::limits::DNS_QUERY_BYTES_MAX;
use courser_core::time::Instant;
use libfuzzer_sys::fuzz_target;

const TOKENS_MAX: usize = 20;

fuzz_target!(|steps: Vec<(u8, u8, &[u8])>| {
    let servers = vec![
        "192.0.2.1:53".parse().expect("an address"),
        "192.0.2.2:53".parse().expect("an address"),
    ];
    let mut config = Config::new(servers);
    config.in_flight_max = 3;
    config.questions_max = 8;
    config.waiters_max = TOKENS_MAX;
    config.cache_entries_max = 4;
    let give_up = config.give_up;
    let mut resolver = Resolver::new(config, [3; 32]);
    let mut now = Instant::ZERO;
    let mut open = BTreeSet::new();
    let mut next = 0;
    let mut sent: Vec<(QueryId, std::net::SocketAddr, Option<u16>, Vec<u8>)> = Vec::new();
    let mut out = [0; DNS_QUERY_BYTES_MAX];

    for (step, arg, bytes) in steps {
        match step % 8 {
            0 | 1 => {
                let name = Name::parse(&format!("n{}.example", arg % 16)).expect("a name");
                let kind = [Kind::A, Kind::Mx, Kind::Txt][usize::from(arg) % 3];
                next += 1;
                if resolver.ask(now, Token(next), Question::new(name, kind)) == Asked::Pending {
                    open.insert(next);
                }
            }
            2 => now = now + Duration::from_millis(u64::from(arg) * 20),
            which => {
                let count = sent.len().max(1);
                if let Some((query, to, socket, wire)) = sent.get(usize::from(arg) % count).cloned()
                {
                    // The query as a response, with what the fuzzer wants behind the question.
                    let question = wire.len().saturating_sub(11).max(12);
                    let mut message = wire.get(..question).unwrap_or(&wire).to_vec();
                    if let Some(flags) = message.get_mut(2..4) {
                        flags.copy_from_slice(&[0x81, arg & 0x0f]);
                    }
                    if let Some(counts) = message.get_mut(6..12) {
                        counts.copy_from_slice(&[0, 3, 0, 2, 0, 1]);
                    }
                    message.extend(bytes);
                    let bytes = if which == 3 { bytes } else { &message };
                    let input = match (which, socket) {
                        (4, _) => Input::SendFailed { query },
                        (5, None) => Input::TcpFailed { query },
                        (_, None) => Input::TcpReply { query, bytes },
                        (_, Some(socket)) => Input::Datagram {
                            from: to,
                            socket,
                            bytes,
                        },
                    };
                    resolver.handle(now, input);
                }
            }
        }
        drain(&mut resolver, now, &mut out, &mut open, &mut sent);
        assert!(open.len() <= TOKENS_MAX && resolver.open() <= 8);
        assert!(resolver.cached().0 <= 4);
    }
    drain(&mut resolver, now + give_up, &mut out, &mut open, &mut sent);
    assert!(open.is_empty(), "{open:?}");
    assert_eq!(resolver.open(), 0);
});

fn drain(
    resolver: &mut Resolver,
    now: Instant,
    out: &mut [u8],
    open: &mut BTreeSet<u64>,
    sent: &mut Vec<(QueryId, std::net::SocketAddr, Option<u16>, Vec<u8>)>,
) {
    loop {
        match resolver.poll(now, out) {
            Output::SendUdp {
                to,
                socket,
                len,
                query,
            } => sent.push((query, to, Some(socket), out[..len].to_vec())),
            Output::SendTcp { to, len, query } => sent.push((query, to, None, out[..len].to_vec())),
            Output::Answer { token, .. } => assert!(open.remove(&token.0), "answered twice"),
            Output::Wait(_) => return,
        }
    }
}
