//! STARTTLS and AUTH.

use super::harness::{Caller, HELLO, hello, options, with_auth};
use crate::smtp::server::{Event, Output, Session};
use crate::time::Instant;
use std::format;

#[test]
fn starttls_throws_away_what_was_injected() {
    let mut options = options();
    options.offer.starttls = true;
    options.offer.requiretls = true;
    let mut c = hello(options);
    let injected = "MAIL FROM:<injected@evil>\r\nRSET\r\nEHLO ev";
    let answer = c.ask(&format!("STARTTLS\r\n{injected}"));
    assert_eq!(answer, "220 2.0.0 Ready to start TLS\r\n");
    let told = format!("Injected {{ octets: {} }}", injected.len());
    assert_eq!(c.log, [&*told, "STARTTLS"]);
    assert!(c.buffer.is_empty());
    // Nothing from before counts.
    assert_eq!(c.ask("MAIL FROM:<a@b>\r\n"), "503 5.5.1 Say EHLO first\r\n");
    let ehlo = c.ask(HELLO);
    assert!(
        ehlo.contains("250-REQUIRETLS\r\n") && !ehlo.contains("STARTTLS"),
        "{ehlo}"
    );
    // A refused STARTTLS makes nothing of what follows: it is a command as others are.
    c.forget();
    assert_eq!(
        c.ask("STARTTLS\r\nNOOP\r\n"),
        "503 5.5.1 TLS is active already\r\n250 2.0.0 Ok\r\n"
    );
    assert!(c.log.is_empty(), "{:?}", c.log);
}

#[test]
fn nothing_is_told_of_a_client_that_waits() {
    let mut options = options();
    options.offer.starttls = true;
    let mut c = hello(options);
    assert_eq!(c.ask("NOOP\r\nSTARTTLS\r\n").lines().count(), 2);
    assert_eq!(c.log, ["STARTTLS"]);
    // Of one octet, too, and of half a line.
    let mut options = super::harness::options();
    options.offer.starttls = true;
    let mut c = hello(options);
    c.ask("STARTTLS\r\n\n");
    assert_eq!(c.log, ["Injected { octets: 1 }", "STARTTLS"]);
}

#[test]
fn bytes_after_starttls_was_told_belong_to_the_handshake() {
    let mut options = options();
    options.offer.starttls = true;
    let mut session = Session::new(Instant::ZERO, options);
    let mut out = [0; 512];
    let mut poll = |input: &'static [u8]| {
        let (consumed, output) = session.poll(Instant::ZERO, input, &mut out);
        (consumed, output)
    };
    assert!(matches!(poll(b""), (0, Output::Send(_))));
    let injected = Output::Event(Event::Injected { octets: 4 });
    assert_eq!(poll(b"STARTTLS\r\nEVIL"), (14, injected));
    assert!(matches!(poll(b""), (0, Output::Send(30))));
    assert_eq!(poll(b"\x16\x03\x01"), (0, Output::StartTls));
    assert!(matches!(poll(b"\x16\x03\x01"), (0, Output::Wait(Some(_)))));
}

#[test]
fn tls_first_where_it_is_required() {
    let mut options = options();
    options.offer.starttls = true;
    options.require_tls = true;
    let mut c = hello(options);
    let no = "530 5.7.0 Must issue STARTTLS first\r\n";
    assert_eq!(c.ask("MAIL FROM:<>\r\n"), no);
    assert_eq!(
        c.ask("BDAT 6 LAST\r\nQUIT\r\nVRFY x\r\n"),
        format!("{no}{no}")
    );
    assert_eq!(c.ask("NOOP\r\n"), "250 2.0.0 Ok\r\n");
    c.ask("STARTTLS\r\n");
    c.ask(HELLO);
    assert_eq!(c.ask("MAIL FROM:<>\r\n"), "250 2.1.0 Sender ok\r\n");
}

#[test]
fn authentication() {
    let mut options = with_auth();
    options.require_auth = true;
    let mut c = hello(options);
    assert_eq!(
        c.ask("MAIL FROM:<>\r\n"),
        "530 5.7.0 Authentication required\r\n"
    );
    assert_eq!(
        c.ask("AUTH GSSAPI\r\n"),
        "504 5.5.4 Mechanism is not offered\r\n"
    );
    assert_eq!(c.ask("AUTH plain\r\n"), "334 Z28=\r\n");
    assert_eq!(c.ask("*\r\n"), "501 5.7.0 Authentication cancelled\r\n");
    assert_eq!(c.log.last().unwrap(), "AuthCancelled");
    assert_eq!(c.ask("AUTH PLAIN\r\n"), "334 Z28=\r\n");
    assert_eq!(c.ask("YmFk\r\n"), "535 5.7.8 Authentication failed\r\n");
    assert_eq!(c.ask("AUTH PLAIN\r\n"), "334 Z28=\r\n");
    assert_eq!(c.ask("Z29vZA==\r\n"), "235 2.7.0 Authenticated\r\n");
    assert!(c.session.is_authenticated());
    assert_eq!(
        c.ask("AUTH PLAIN x\r\n"),
        "503 5.5.1 You are authenticated already\r\n"
    );
    assert_eq!(c.ask("MAIL FROM:<>\r\n"), "250 2.1.0 Sender ok\r\n");
}

#[test]
fn authentication_has_its_place() {
    let mut c = Caller::greeted(with_auth());
    assert_eq!(c.ask("AUTH PLAIN\r\n"), "503 5.5.1 Say EHLO first\r\n");
    c.ask(&format!("{HELLO}MAIL FROM:<>\r\n"));
    assert_eq!(
        c.ask("AUTH PLAIN\r\n"),
        "503 5.5.1 Not within a transaction\r\n"
    );
    let mut options = with_auth();
    options.auth_needs_tls = true;
    let mut c = Caller::greeted(options);
    assert!(!c.ask(HELLO).contains("AUTH"));
    assert_eq!(
        c.ask("AUTH PLAIN\r\n"),
        "538 5.7.11 Encryption required for AUTH\r\n"
    );
    let mut c = hello(super::harness::options());
    assert_eq!(c.ask("AUTH PLAIN\r\n"), "502 5.5.1 AUTH is not offered\r\n");
}

#[test]
fn long_authentication_lines() {
    let mut c = hello(with_auth());
    let initial = "A".repeat(12_288 - "AUTH PLAIN \r\n".len());
    assert_eq!(
        c.ask(&format!("AUTH PLAIN {initial}\r\n")),
        "235 2.7.0 Authenticated\r\n"
    );
    let mut c = hello(with_auth());
    assert_eq!(
        c.ask(&format!("AUTH PLAIN {initial}A\r\n")),
        "500 5.5.2 Line too long\r\n"
    );
    c.ask("AUTH PLAIN\r\n");
    let line = "A".repeat(12_287);
    assert_eq!(
        c.ask(&format!("{line}\r\nNOOP\r\n")),
        "500 5.5.6 Authentication line too long\r\n250 2.0.0 Ok\r\n"
    );
}

#[test]
fn a_slow_handshake_is_closed_without_plaintext() {
    let mut options = options();
    options.offer.starttls = true;
    let mut session = Session::new(Instant::ZERO, options);
    let mut out = [0; 512];
    let mut input: &[u8] = b"STARTTLS\r\n";
    loop {
        let (n, output) = session.poll(Instant::ZERO, input, &mut out);
        input = &input[n..];
        if output == Output::StartTls {
            break;
        }
    }
    assert_eq!(
        session.poll(Instant::FAR, b"", &mut out),
        (0, Output::Close)
    );
}
