//! What holds for every input, however it is cut.

use super::harness::{Caller, options, reply};
use crate::smtp::data::Stuffer;
use crate::smtp::extension::AuthMechanisms;
use crate::smtp::server::{Input, Options, Output, Session};
use crate::time::{Duration, Instant};
use proptest::prelude::*;
use std::format;
use std::string::String;
use std::vec::Vec;

/// Options of different kinds, with limits that scripts reach.
fn kinds() -> impl Strategy<Value = Options> {
    (any::<[bool; 6]>(), 1_u32..40, 1_u64..200).prop_map(|(flags, few, bytes)| {
        let mut options = options();
        options.lmtp = flags[0];
        options.offer.chunking = flags[1];
        options.offer.binarymime = flags[2];
        options.offer.enhanced_status_codes = flags[3];
        if flags[4] {
            options.auth = AuthMechanisms {
                plain: true,
                ..AuthMechanisms::default()
            };
            options.auth_needs_tls = false;
            options.limits.auth_line_bytes = 64;
        }
        if flags[5] {
            options.limits.message_bytes = bytes;
            options.limits.errors = few;
            options.limits.junk_commands = few;
            options.limits.recipients = few;
        }
        options
    })
}

/// A piece of a script: commands right and wrong, bodies, chunks, garbage.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let commands = prop::sample::select(
        &[
            "EHLO c\r\n",
            "LHLO c\r\n",
            "HELO c\r\n",
            "EHLO bad\r\n",
            "MAIL FROM:<a@b>\r\n",
            "MAIL FROM:<>\r\n",
            "MAIL FROM:<bad@b>\r\n",
            "MAIL FROM:<a@b> SIZE=100 BODY=8BITMIME\r\n",
            "MAIL FROM:<a@b> BODY=BINARYMIME\r\n",
            "MAIL FROM:<ä@b> SMTPUTF8\r\n",
            "RCPT TO:<a@b>\r\n",
            "RCPT TO:<c@d> NOTIFY=NEVER\r\n",
            "RCPT TO:<bad@b>\r\n",
            "RCPT TO:<ä@b>\r\n",
            "DATA\r\n",
            "DATA\r\nx\r\n..y\r\n.\r\n",
            "BDAT 0\r\n",
            "BDAT 4\r\na\r\nb",
            "BDAT 3 LAST\r\nc\r\n",
            "BDAT 3\r\na\nb",
            "BDAT 2\r\n",
            "BDAT\r\n",
            "RSET\r\n",
            "NOOP\r\n",
            "VRFY a\r\n",
            "AUTH PLAIN\r\n",
            "AUTH PLAIN Z29vZA==\r\n",
            "Z29vZA==\r\n",
            "*\r\n",
            "QUIT\r\n",
            "FOO\r\n",
            "GET / HTTP/1.1\r\n",
            "Host: x\r\n",
            "\r\n",
            ".\r\n",
            ".",
            "\r",
            "\n",
        ][..],
    );
    prop_oneof![
        20 => commands.prop_map(|c| c.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => (0_usize..3000).prop_map(|n| format!("{}\r\n", "x".repeat(n)).into_bytes()),
        1 => (0_usize..3000).prop_map(|n| format!("{}: x\r\n", "x".repeat(n)).into_bytes()),
    ]
}

/// A script that often gets somewhere.
fn script() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        Just(""),
        Just("EHLO c\r\n"),
        Just("EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\n"),
        Just("LHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@b>\r\n"),
    ];
    (start, prop::collection::vec(piece(), 0..20)).prop_map(|(start, pieces)| {
        let mut script = start.as_bytes().to_vec();
        script.extend(pieces.concat());
        script
    })
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(std::vec![1]),
        prop::collection::vec(1_usize..60, 1..20),
        prop::collection::vec(1_usize..2000, 1..20),
    ]
}

/// Sends `script` in pieces of these sizes, over and over.
fn play(options: Options, script: &[u8], sizes: &[usize], out: usize) -> Caller {
    let mut c = Caller::greeted(options);
    c.out = std::vec![0; out];
    let mut rest = script;
    for &size in sizes.iter().cycle() {
        if rest.is_empty() || c.closed {
            break;
        }
        let (piece, behind) = rest.split_at(size.min(rest.len()));
        c.send(piece);
        rest = behind;
    }
    c
}

/// Lines as a body has them, dots included.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just(String::new()),
        Just(String::from(".")),
        Just(String::from("..")),
        "[.a\\x00é]{0,40}",
    ];
    prop::collection::vec(line, 0..30).prop_map(|lines| {
        lines
            .iter()
            .flat_map(|l| format!("{l}\r\n").into_bytes())
            .collect()
    })
}

const ENVELOPE: &[u8] = b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\n";

/// One call of a caller that follows no rule.
#[derive(Clone, Debug)]
enum Call {
    Receive(Vec<u8>),
    Handle(usize),
    Pass(u64),
}

const ANYTHING: usize = 14;

fn anything(which: usize) -> Input<'static> {
    [
        Input::Accept,
        Input::Accept,
        Input::AcceptWith(reply(250, (2, 0, 0), "yes\nyes")),
        Input::AcceptWith(reply(550, (2, 0, 0), "no")),
        Input::Refuse(reply(550, (5, 0, 0), "no")),
        Input::Refuse(reply(421, (4, 0, 0), "no")),
        Input::RefuseAndClose(reply(451, (4, 0, 0), "no")),
        Input::AuthChallenge(b"eA=="),
        Input::AuthDone,
        Input::AuthFailed,
        Input::TlsEstablished,
        Input::Closed,
        Input::DeadlinePassed,
        Input::Shutdown,
    ][which % ANYTHING]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        6 => piece().prop_map(Call::Receive),
        1 => Just(Call::Receive(b"STARTTLS\r\nEHLO x\r\n".to_vec())),
        // Mostly yes, or no script would get anywhere.
        6 => Just(Call::Handle(0)),
        2 => (0..ANYTHING).prop_map(Call::Handle),
        1 => (0_u64..200_000_000_000).prop_map(Call::Pass),
    ]
}

proptest! {
    #[test]
    fn any_order_of_calls_is_survived(
        options in kinds(), starttls in any::<bool>(), out in 1_usize..600,
        calls in prop::collection::vec(call(), 0..60),
    ) {
        let mut options = options;
        options.offer.starttls = starttls;
        let mut session = Session::new(Instant::ZERO, options);
        let (mut now, mut buffer, mut out) = (Instant::ZERO, Vec::new(), std::vec![0; out]);
        for call in calls {
            match call {
                Call::Receive(bytes) => buffer.extend(bytes),
                Call::Handle(which) => {
                    // Misuse is an error, not a panic.
                    let _ = session.handle(now, anything(which));
                }
                Call::Pass(ns) => now = now + Duration::from_nanos(ns),
            }
            let bound = 4 * (buffer.len() + 2000);
            for polls in 0.. {
                prop_assert!(polls < bound, "polls without end: {:?}", session);
                let (consumed, output) = session.poll(now, &buffer, &mut out);
                let pauses = matches!(output, Output::Wait(_) | Output::Close);
                buffer.drain(..consumed).for_each(drop);
                if pauses {
                    break;
                }
            }
        }
    }

    #[test]
    fn any_cutting_gives_the_same_session(
        options in kinds(), script in script(), sizes in cuts(), out in 1_usize..600,
    ) {
        let whole = play(options.clone(), &script, &[usize::MAX], 512);
        let cut = play(options, &script, &sizes, out);
        prop_assert_eq!(cut.replies(), whole.replies());
        prop_assert_eq!(cut.log, whole.log);
        prop_assert_eq!(cut.messages, whole.messages);
        prop_assert_eq!(cut.closed, whole.closed);
    }

    #[test]
    fn any_bytes_never_panic(
        options in kinds(),
        start in prop::sample::select(&["", "EHLO c\r\n", "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n"][..]),
        bytes in prop::collection::vec(any::<u8>(), 0..4000),
        sizes in cuts(),
    ) {
        let mut script = start.as_bytes().to_vec();
        script.extend(bytes);
        // The harness stops a session that polls without end.
        play(options, &script, &sizes, 64);
    }

    #[test]
    fn no_octet_of_a_body_is_lost_in_data(body in body(), sizes in cuts()) {
        let mut script = ENVELOPE.to_vec();
        script.extend_from_slice(b"DATA\r\n");
        let mut stuffer = Stuffer::new();
        for chunk in stuffer.walk(&body) {
            script.extend_from_slice(chunk.bytes());
        }
        script.extend_from_slice(stuffer.terminator());
        script.extend_from_slice(b"QUIT\r\n");
        let c = play(options(), &script, &sizes, 64);
        prop_assert!(c.closed);
        prop_assert_eq!(c.messages, [body]);
    }

    #[test]
    fn no_octet_of_a_body_is_lost_in_bdat(
        body in body(), chunks in prop::collection::vec(0_usize..50, 0..10), sizes in cuts(),
    ) {
        let mut script = ENVELOPE.to_vec();
        let mut rest = &body[..];
        for size in chunks {
            let (chunk, behind) = rest.split_at(size.min(rest.len()));
            script.extend_from_slice(format!("BDAT {}\r\n", chunk.len()).as_bytes());
            script.extend_from_slice(chunk);
            rest = behind;
        }
        script.extend_from_slice(format!("BDAT {} LAST\r\n", rest.len()).as_bytes());
        script.extend_from_slice(rest);
        script.extend_from_slice(b"QUIT\r\n");
        let c = play(options(), &script, &sizes, 64);
        prop_assert!(c.closed);
        prop_assert_eq!(c.messages, [body]);
    }
}
