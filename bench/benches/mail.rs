//! What each message costs in header fields, and each bounce in reports.

use courser_core::mail::address::Mailbox;
use courser_core::mail::date::Date;
use courser_core::mail::dsn::{Action, Diagnostic, Recipient, Report, parse};
use courser_core::mail::header::{Header, Received, With};
use courser_core::smtp::command::Ret;
use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use courser_core::time::Wall;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

/// A header as newsletters have them: some 30 fields, 3 kB.
fn message() -> Vec<u8> {
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

fn header(c: &mut Criterion) {
    let message = message();
    let (header, _) = Header::of(&message).expect("a header");
    let mut group = c.benchmark_group("header");
    group.throughput(Throughput::Bytes(header.as_bytes().len() as u64));
    group.bench_function("cut and survey", |b| {
        b.iter(|| Header::of(black_box(&message)).map(|(header, _)| header.survey()));
    });
    group.bench_function("find the last field", |b| {
        b.iter(|| black_box(header).find("list-unsubscribe"));
    });
    group.finish();
    let received = Received {
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
        tls: Some("TLS_AES_256_GCM_SHA384"),
        date: Date::utc(Wall::from_unix(1_790_000_000)),
    };
    let mut out = [0; 2048];
    c.bench_function("received/emit", |b| {
        b.iter(|| black_box(&received).emit(&mut out));
    });
    c.bench_function("date/parse", |b| {
        b.iter(|| Date::parse(black_box(b"Mon, 23 Nov 2026 21:13:17 +0000 (UTC)")));
    });
}

fn dsn(c: &mut Criterion) {
    let message = message();
    let recipients = [Recipient {
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
    }];
    let report = Report {
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
        recipients: &recipients,
        original: &message,
        ret: Ret::Headers,
        utf8: false,
        seed: 1,
    };
    let mut out = Vec::with_capacity(16_384);
    let mut group = c.benchmark_group("dsn");
    group.bench_function("emit", |b| {
        b.iter(|| {
            out.clear();
            black_box(&report).emit(&mut out)
        });
    });
    out.clear();
    report.emit(&mut out);
    group.bench_function("parse", |b| {
        b.iter(|| parse(black_box(&out)).map(|n| n.recipients.len()));
    });
    group.finish();
}

criterion_group!(benches, header, dsn);
criterion_main!(benches);
