//! Any message is a delivery report or not; what a report says can be judged; and a report that we
//! write about any words reads back.
#![no_main]

use courser_core::feedback::verdict::Rules;
use courser_core::mail::address::Mailbox;
use courser_core::mail::dsn::{Action, Diagnostic, Recipient, Report, parse};
use courser_core::smtp::command::Ret;
use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use courser_core::time::Wall;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8], u64)| {
    let (message, text, seed) = input;
    if let Ok(seen) = parse(message) {
        for recipient in &seen.recipients {
            let _ = recipient.verdict(&Rules::built_in());
        }
    }
    let (Some(code), Ok(mailbox)) = (ReplyCode::new(550), Mailbox::parse("a@b.example")) else {
        return;
    };
    let recipients = [Recipient {
        mailbox,
        original: Some((text, text)),
        action: Action::Failed,
        status: EnhancedCode::new(5, 1, 1),
        remote: None,
        diagnostic: Diagnostic::Smtp(Reply {
            code,
            enhanced: None,
            text,
        }),
        last_attempt: None,
        retry_until: None,
        log_id: None,
    }];
    let mut out = Vec::new();
    let emitted = Report {
        reporting_mta: "out.example",
        from: "",
        from_name: "Mail Delivery System",
        return_max: courser_core::limits::DSN_RETURN_BYTES_MAX,
        header_max: courser_core::limits::DSN_HEADER_BYTES_MAX,
        sender: mailbox,
        id: "1",
        date: Wall::from_unix(0),
        envid: Some(text),
        arrival: None,
        received_from: None,
        recipients: &recipients,
        original: message,
        ret: Ret::Full,
        utf8: true,
        seed,
    }
    .emit(&mut out);
    assert_eq!(emitted.eight_bit, !out.is_ascii());
    assert!(out.split(|b| *b == b'\n').all(|line| line.len() <= 999));
    let back = parse(&out).expect("our own report");
    assert_eq!(back.recipients.len(), 1);
    assert_eq!(back.recipients[0].status, Some(EnhancedCode::new(5, 1, 1)));
});
