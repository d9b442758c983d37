//! A newsletter, the trace field that is put before it, and the report when it bounces.

use courser_core::mail::address::Mailbox;
use courser_core::mail::date::Date;
use courser_core::mail::dsn::{Action, Diagnostic, Recipient, Report};
use courser_core::mail::header::{Received, With};
use courser_core::smtp::command::Ret;
use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use courser_core::time::Wall;

/// A header as newsletters have them: some 30 fields, 3 kB.
pub fn message() -> Vec<u8> {
    let mut out = Vec::new();
    for n in 0..4 {
        out.extend_from_slice(
            format!(
                "Received: from host{n}.example (host{n}.example [192.0.2.{n}])\r\n\
                 \tby mx{n}.example with ESMTPS id 0123456789abc;\r\n\
                 \tMon, 23 Nov 2026 21:13:17 +0000\r\n"
            )
            .as_bytes(),
        );
    }
    for n in 0..20 {
        out.extend_from_slice(
            format!("X-Campaign-Field-{n}: some value that is neither short nor long, {n}\r\n")
                .as_bytes(),
        );
    }
    out.extend_from_slice(
        b"From: News <news@s.example>\r\nTo: <a@b.example>\r\nSubject: What is new\r\n\
          Date: Mon, 23 Nov 2026 21:13:17 +0000\r\nMessage-ID: <1@s.example>\r\n\
          List-Unsubscribe: <https://s.example/u/0123456789>\r\n\r\n",
    );
    out.extend_from_slice(&b"Hello, this is the body of a newsletter.\r\n".repeat(500));
    out
}

/// What a submission over TLS gets.
pub fn received() -> Received<'static> {
    Received {
        hello: "client.example",
        peer: Some([192, 0, 2, 1].into()),
        peer_name: Some("client.example"),
        by: "mx.example",
        with: With {
            extended: true,
            tls: true,
            ..With::default()
        },
        id: "0123456789abc",
        recipient: None,
        tls: Some(("TLS_AES_256_GCM_SHA384", "TLSv1.3")),
        date: Date::utc(Wall::from_unix(1_790_000_000)),
    }
}

/// One whom the mail couldn't be delivered to.
pub fn recipient() -> Recipient<'static> {
    Recipient {
        mailbox: Mailbox::parse("a@b.example").expect("an address"),
        original: Some((b"rfc822", b"a@b.example")),
        action: Action::Failed,
        status: EnhancedCode::new(5, 1, 1),
        remote: None,
        diagnostic: Diagnostic::Smtp(Reply {
            code: ReplyCode::new(550).expect("a code"),
            enhanced: Some(EnhancedCode::new(5, 1, 1)),
            text: b"The email account that you tried to reach does not exist.",
        }),
        last_attempt: Some(Wall::from_unix(1_790_000_000)),
        retry_until: None,
        log_id: Some("0123456789abc.0"),
    }
}

/// The report on them.
pub fn report<'a>(message: &'a [u8], recipients: &'a [Recipient<'a>]) -> Report<'a> {
    Report {
        reporting_mta: "out.example",
        from: "",
        from_name: "Mail Delivery System",
        return_max: courser_core::limits::DSN_RETURN_BYTES_MAX,
        header_max: courser_core::limits::DSN_HEADER_BYTES_MAX,
        sender: Mailbox::parse("news@s.example").expect("an address"),
        id: "0123456789abc",
        date: Wall::from_unix(1_790_000_000),
        envid: None,
        arrival: Some(Wall::from_unix(1_790_000_000)),
        received_from: Some("client.example"),
        recipients,
        original: message,
        ret: Ret::Headers,
        utf8: false,
        seed: 1,
    }
}
