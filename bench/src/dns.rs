//! A resolver, and what its server answers.

use courser_core::dns::{Asked, Config, Input, Kind, Name, Output, Question, Resolver, Token};
use courser_core::limits::DNS_QUERY_BYTES_MAX;
use courser_core::time::Instant;

/// When everything begins.
pub const NOW: Instant = Instant::from_nanos(1 << 40);

/// With one server.
pub fn resolver() -> Resolver {
    let mut config = Config::new(vec!["192.0.2.1:53".parse().expect("an address")]);
    config.sockets = 16;
    config.in_flight_max = 60_000;
    Resolver::new(config, [5; 32])
}

/// For the MX records of `text`.
pub fn question(text: &str) -> Question {
    Question::new(Name::parse(text).expect("a name"), Kind::Mx)
}

/// The response to a query: five MX records, as a large provider has them, and an OPT record.
pub fn respond(query: &[u8], response: &mut Vec<u8>) {
    let question = query.len() - 11;
    response.clear();
    response.extend_from_slice(&query[..question]);
    response[2..4].copy_from_slice(&[0x81, 0x80]);
    response[6..8].copy_from_slice(&[0, 5]);
    for n in 0..5u8 {
        // Owner, MX, IN, 300 s, preference, "mxN" under the question's name.
        response.extend_from_slice(&[0xc0, 12, 0, 15, 0, 1, 0, 0, 1, 44, 0, 8, 0, n * 10]);
        response.extend_from_slice(&[3, b'm', b'x', b'0' + n, 0xc0, 12]);
    }
    response.extend_from_slice(&query[question..]);
}

/// Asks, answers, and takes the answer out.
pub fn lookup(resolver: &mut Resolver, now: Instant, question: Question, response: &mut Vec<u8>) {
    let mut out = [0; DNS_QUERY_BYTES_MAX];
    assert_eq!(resolver.ask(now, Token(1), question), Asked::Pending);
    loop {
        match resolver.poll(now, &mut out) {
            Output::SendUdp {
                to, socket, len, ..
            } => {
                respond(&out[..len], response);
                let bytes = &response[..];
                resolver.handle(
                    now,
                    Input::Datagram {
                        from: to,
                        socket,
                        bytes,
                    },
                );
            }
            Output::Answer { answer, .. } => {
                assert_eq!(answer.mx().len(), 5);
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}
