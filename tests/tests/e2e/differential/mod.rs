//! The same bytes to Courser's server and to Postfix's: what each takes, and whether every
//! difference is one that we know and stand by.
//!
//! Each stream is sent whole, over a connection of its own from an address of its own, which the
//! trace field of each message that comes out at the other end names. Three things are compared:
//!
//! 1. **Courser with the stream itself.** [`strict::read_strictly`] reads the stream as RFC 5321 has it,
//!    with nothing but Courser's replies to go by: lines end with CRLF, a message ends with
//!    CRLF.CRLF or after as many octets as BDAT says. Each reply must belong to one command or one
//!    message of that reading, and what the receiver got must be those messages, octet by octet. So
//!    Courser never takes more than what is honestly there, whatever Postfix does.
//! 2. **What is passed on** has no line end but CRLF, so the next server can't split it elsewhere.
//! 3. **Courser with Postfix**: replies in order until the first one of another class; the
//!    messages before it are the same but for what [`known::BODIES`] lists, and the difference itself
//!    must stand in [`known::REPLIES`], each with our judgement. What isn't listed fails the test.
//!    Behind most of them the two are in different places (Courser closes after 521, or one is in a
//!    transaction and the other isn't), and replies can't be laid beside each other any more. What
//!    both accept can: the messages behind it are compared as sets. Those that only Postfix takes
//!    are what comes of refusing; those that only Courser takes need a reason as well, and where it
//!    has closed there may be none at all.
//!
//! Postfix runs as Debian has it (`smtpd_forbid_bare_newline = no`) and as later versions do
//! (`normalize`). Before bodies are compared, the trace field that each server adds is taken off;
//! Postfix is told to add no other fields. `DIFFERENTIAL=20000` plays so many mutations.

mod chance;
mod found;
mod known;
mod side;
mod streams;
mod strict;

use std::fmt::Write as _;

use courser_tests::need::need;
use courser_tests::peers::Postfix;
use courser_tests::receiver::Receiver;
use courser_tests::server::{Server, scratch, smart_host};
use courser_tests::{need_root, say};

use found::{Found, table};
use side::{Seen, Side};
use strict::{lines_are_whole, read_strictly, readable};

/// Mutations that are played when nobody says how many.
const MUTATIONS: usize = 400;

pub(crate) fn postfix_and_courser_take_the_same() {
    if !need_root() || !need(&["postfix"]) {
        return;
    }
    let count = std::env::var("DIFFERENTIAL")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(MUTATIONS);
    let streams = streams::all(count);

    let scratch = [scratch(), scratch()];
    let postfix = |dir: &std::path::Path, receiver: &Receiver, bare: &str| {
        let to = receiver.address.port();
        // As many mistakes as Courser allows; no waiting, no fields added, nothing converted.
        let settings = format!(
            "mydestination =\nrelayhost = [127.0.0.1]:{to}\nsmtpd_forbid_bare_newline = {bare}\n\
             smtpd_forbid_bare_newline_exclusions =\nlocal_header_rewrite_clients =\n\
             smtpd_error_sleep_time = 0\nsmtpd_soft_error_limit = 1000\nsmtpd_hard_error_limit = 1000\n\
             smtpd_junk_command_limit = 1000\nsmtp_line_length_limit = 0\ndisable_mime_output_conversion = yes\n\
             initial_destination_concurrency = 20\nsmtpd_client_connection_count_limit = 0\n\
             smtp_connection_cache_on_demand = no\nenable_long_queue_ids = yes\nlocal_transport = smtp:[127.0.0.1]:{to}\n"
        );
        Postfix::start(dir, [127, 0, 0, 1].into(), &settings)
    };
    let receivers = [
        Receiver::friendly(),
        Receiver::friendly(),
        Receiver::friendly(),
    ];
    let lax = postfix(scratch[0].path(), &receivers[0], "no");
    let normal = postfix(scratch[1].path(), &receivers[1], "normalize");
    let more = format!(
        "[[listener]]\nmax_errors = 1000\n{}",
        smart_host(receivers[2].address)
    );
    let server = Server::start(&more);
    let [a, b, c] = receivers;
    let sides = [
        Side {
            name: "Courser",
            address: server.address,
            receiver: c,
            postfix: None,
        },
        Side {
            name: "Postfix, no",
            address: lax.address,
            receiver: a,
            postfix: Some(lax),
        },
        Side {
            name: "Postfix, normalize",
            address: normal.address,
            receiver: b,
            postfix: Some(normal),
        },
    ];
    let seen: Vec<Vec<Seen>> = sides
        .iter()
        .zip([10, 30, 50])
        .map(|(side, block)| side.play(&streams, block))
        .collect();

    // Courser, with the streams themselves.
    let mut wrong = String::new();
    for (stream, seen) in streams.iter().zip(&seen[0]) {
        let (name, stream) = (&stream.name, &stream.bytes);
        let taken: Vec<(Vec<u8>, usize)> = seen
            .messages
            .iter()
            .map(|m| (m.content.clone(), m.to.len()))
            .collect();
        match read_strictly(stream, &seen.replies) {
            Ok(honest)
                if honest.len() == taken.len()
                    && honest
                        .iter()
                        .zip(&taken)
                        .all(|(h, t)| h.0 == t.0 && h.1 >= t.1) => {}
            other => {
                let _ = writeln!(
                    wrong,
                    "{name}: {:?}\n  read strictly: {:?}\n  taken: {:?}\n  replies: {:?}",
                    String::from_utf8_lossy(&stream[..stream.len().min(400)]),
                    other.map(|m| readable(&m)),
                    readable(&taken),
                    seen.replies
                );
            }
        }
        for message in &seen.messages {
            if !lines_are_whole(&message.content) {
                let _ = writeln!(wrong, "{name}: a bare CR or LF is passed on");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");

    for (n, side) in sides.iter().enumerate().skip(1) {
        let mut found = Found::default();
        for (stream, (postfix, courser)) in streams.iter().zip(seen[n].iter().zip(&seen[0])) {
            found.compare(stream, postfix, courser);
        }
        say(&format!(
            "\n{}: {} streams, {} messages (Courser: {}); {} streams it reads otherwise than RFC 5321\n\n{}\n{}",
            side.name,
            streams.len(),
            seen[n].iter().map(|s| s.messages.len()).sum::<usize>(),
            seen[0].iter().map(|s| s.messages.len()).sum::<usize>(),
            found.misread(),
            found.counts(),
            table(&found.known),
        ));
        // For each that isn't listed, the first stream that showed it and what both said to it.
        let mut streams_too = table(&found.unknown);
        for (_, name) in found.unknown.values() {
            let at = streams.iter().position(|s| s.name == *name).unwrap_or(0);
            let stream = &streams[at].bytes;
            let stream = &stream[..stream.len().min(1000)];
            let _ = writeln!(
                streams_too,
                "\n{name}: {:?}\n  {}: {:?}\n  Courser: {:?}",
                String::from_utf8_lossy(stream),
                side.name,
                seen[n][at].replies,
                seen[0][at].replies
            );
        }
        if !found.unknown.is_empty() {
            let _ = writeln!(wrong, "{}: not listed:\n{streams_too}", side.name);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
