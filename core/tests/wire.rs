//! The wire files against published vectors, and commands read back as they were written.

#[path = "common/vectors.rs"]
mod shared;

use courser_core::limits::COMMAND_LINE_BYTES_MAX;
use courser_core::mail::address::{Mailbox, ReversePath};
use courser_core::smtp::command::{
    BodyType, Command, DeliverBy, FutureRelease, MailParams, Notify, RcptParams, Ret,
};
use courser_core::smtp::extension::Capabilities;
use courser_core::smtp::reply::{ReplyReader, ReplyState};
use courser_core::smtp::xtext::{Utf8AddrXtext, Xtext};
use courser_core::time::Wall;
use proptest::option::of;
use proptest::prelude::*;
use shared::vectors;
use std::fs;

/// Where we don't agree with isemail, and why.
const EXCEPTIONS: [(&str, &str); 1] = [(
    "test@[IPv6:1111:2222:3333:4444:5555:6666::8888]",
    "\"::\" for one group: RFC 4291 2.2 allows it, and isemail calls the same valid elsewhere",
)];

#[test]
fn isemail_addresses() {
    let Some(path) = vectors("addresses/isemail.json") else {
        return;
    };
    let cases: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let cases = cases.as_array().unwrap();
    assert!(cases.len() > 400);
    let mut disagreements = Vec::new();
    for case in cases {
        let address = case["address"].as_str().unwrap();
        let valid = case["smtp_mailbox_valid"].as_bool().unwrap();
        let excepted = EXCEPTIONS.iter().any(|(a, _)| *a == address);
        let got = Mailbox::parse(address);
        if (got.is_ok() == valid) == excepted {
            disagreements.push(format!("{address:?}: {got:?}, {}", case["diagnosis"]));
        }
    }
    assert!(disagreements.is_empty(), "{disagreements:#?}");
}

#[test]
fn replies_seen_in_the_wild() {
    let Some(dir) = vectors("replies") else {
        return;
    };
    let mut ehlos = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "txt") {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let wire = fs::read(&path).unwrap();
        let mut input = &wire[..];
        let mut reader = ReplyReader::new();
        let (mut peer, mut replies, mut lines) = (Capabilities::default(), 0, 0);
        while !input.is_empty() {
            let pushed = reader.push(input).unwrap_or_else(|e| panic!("{name}: {e}"));
            input = &input[pushed.consumed..];
            lines += 1;
            if lines > 1 {
                peer.from_line(reader.line());
            }
            assert_ne!(pushed.state, ReplyState::Incomplete, "{name}");
            replies += usize::from(pushed.state == ReplyState::Complete);
        }
        assert!(replies > 0, "{name}");
        if name.starts_with("comcast-ehlo") {
            ehlos += 1;
            assert!(
                peer.eightbitmime && peer.enhanced_status_codes,
                "{name}: {peer:?}"
            );
            assert_eq!(peer.size, Some(36_700_160), "{name}");
            // One of them has X-EXPS, Exchange's word, in its place.
            assert_eq!(peer.auth.plain, !name.contains("x-exps"), "{name}");
        }
    }
    assert!(ehlos > 3);
}

/// What the parts of a command borrow.
#[derive(Debug, Clone)]
struct Owned {
    address: String,
    envid: Option<String>,
    auth: Option<String>,
    /// Whether it is utf-8, and the encoded address.
    orcpt: Option<(bool, String)>,
}

fn address() -> impl Strategy<Value = String> {
    let local = prop_oneof![
        "[a-zA-Z0-9!#-'*+/=?^_`{|}~-]{1,20}(\\.[a-z]{1,9})?",
        "\"([a-z <>@,;:.]|\\\\[ -~]){0,15}\"",
        "[ü-ǿЀ-я一-十]{1,9}",
    ];
    let domain = prop_oneof![
        "[a-z0-9]{1,9}(\\.[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])){0,3}",
        any::<std::net::Ipv4Addr>().prop_map(|ip| format!("[{ip}]")),
        any::<std::net::Ipv6Addr>().prop_map(|ip| format!("[IPv6:{ip}]")),
        Just("bücher.example".to_owned()),
    ];
    (local, domain).prop_map(|(local, domain)| format!("{local}@{domain}"))
}

fn owned() -> impl Strategy<Value = Owned> {
    let text = || "[ -~]{1,30}".prop_map(|s| Xtext(s.as_bytes()).to_string());
    let original = prop_oneof![
        text().prop_map(|t| (false, t)),
        "\\PC{1,20}".prop_map(|s| (true, Utf8AddrXtext(&s).to_string())),
    ];
    (address(), of(text()), of(text()), of(original)).prop_map(|(address, envid, auth, orcpt)| {
        Owned {
            address,
            envid,
            auth,
            orcpt,
        }
    })
}

fn by() -> impl Strategy<Value = DeliverBy> {
    (-999_999_999..=999_999_999_i32, any::<bool>(), any::<bool>()).prop_map(
        |(seconds, returns, trace)| DeliverBy {
            seconds,
            returns: returns && seconds > 0,
            trace,
        },
    )
}

fn hold() -> impl Strategy<Value = FutureRelease> {
    prop_oneof![
        (0_u32..1_000_000_000).prop_map(FutureRelease::HoldFor),
        (0_i64..253_402_300_799).prop_map(|s| FutureRelease::HoldUntil(Wall::from_unix(s))),
    ]
}

fn mail_params() -> impl Strategy<Value = MailParams<'static>> {
    let body = prop_oneof![
        Just(BodyType::SevenBit),
        Just(BodyType::EightBitMime),
        Just(BodyType::BinaryMime)
    ];
    let ret = prop_oneof![Just(Ret::Full), Just(Ret::Headers)];
    let flags = (any::<bool>(), any::<bool>());
    let fields = (of(any::<u64>()), of(body), flags, of(ret), of(-9_i8..=9));
    (fields, of(by()), of(hold())).prop_map(|((size, body, flags, ret, mt_priority), by, hold)| {
        MailParams {
            size,
            body,
            smtputf8: flags.0,
            ret,
            envid: None,
            auth: None,
            requiretls: flags.1,
            mt_priority,
            by,
            hold,
        }
    })
}

fn notify() -> impl Strategy<Value = Notify> {
    (1_u8..9).prop_map(|bits| Notify {
        never: bits == 8,
        success: bits & 1 != 0,
        failure: bits & 2 != 0,
        delay: bits & 4 != 0,
    })
}

fn there_and_back(command: &Command<'_>) -> Result<(), TestCaseError> {
    let mut line = [0; 2 * COMMAND_LINE_BYTES_MAX];
    let n = command.emit(&mut line).unwrap();
    let line = line[..n].strip_suffix(b"\r\n").unwrap();
    prop_assert_eq!(Command::parse(line), Ok(*command));
    Ok(())
}

proptest! {
    #[test]
    fn mail_is_read_as_written(owned in owned(), params in mail_params(), null: bool) {
        let sender = match null {
            true => ReversePath::Null,
            false => ReversePath::parse(&owned.address).unwrap(),
        };
        let params = MailParams {
            envid: owned.envid.as_deref().map(str::as_bytes),
            auth: owned.auth.as_deref().map(str::as_bytes),
            ..params
        };
        there_and_back(&Command::Mail(sender, params))?;
    }

    #[test]
    fn rcpt_is_read_as_written(owned in owned(), notify in of(notify())) {
        let orcpt = owned.orcpt.as_ref().map(|(utf8, text)| {
            let kind: &[u8] = if *utf8 { b"utf-8" } else { b"rfc822" };
            (kind, text.as_bytes())
        });
        let recipient = Mailbox::parse(&owned.address).unwrap();
        there_and_back(&Command::Rcpt(recipient, RcptParams { notify, orcpt }))?;
    }

    #[test]
    fn the_rest_is_read_as_written(
        size: u64,
        last: bool,
        word in "[!-~]{1,60}",
        mechanism in "[A-Z0-9_-]{1,20}",
        initial in of("=|[A-Za-z0-9+/]{4,90}={0,2}"),
    ) {
        there_and_back(&Command::Bdat { size, last })?;
        there_and_back(&Command::Ehlo(&word))?;
        there_and_back(&Command::Vrfy(word.as_bytes()))?;
        let initial = initial.as_deref().map(str::as_bytes);
        there_and_back(&Command::Auth { mechanism: &mechanism, initial })?;
    }

    #[test]
    fn any_octets_are_a_command_or_an_error(line: Vec<u8>, verb in 0_usize..7) {
        let verbs: [&[u8]; 7] = [
            b"", b"MAIL FROM:<a@b> ", b"RCPT TO:<a@b> ", b"MAIL FROM:<", b"RCPT TO:<@", b"AUTH ", b"BDAT ",
        ];
        for tail in [line.clone(), line.iter().map(|b| b & 0x7f).collect()] {
            let line = [verbs[verb], &tail].concat();
            match Command::parse(&line) {
                // What is taken is written in a form that is taken again, as the same.
                Ok(command) => there_and_back(&command)?,
                Err(error) => prop_assert!(error.reply().0.is_permanent()),
            }
        }
    }
}
