//! The wire files: what one command, one reply and one body cost.

use courser_core::mail::address::Mailbox;
use courser_core::smtp::Buffer;
use courser_core::smtp::command::Command;
use courser_core::smtp::data::{BdatReader, Stuffer, Unstuffer};
use courser_core::smtp::extension::Capabilities;
use courser_core::smtp::proxy;
use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode, ReplyReader};
use courser_core::smtp::xtext::{Xtext, is_text};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

fn commands(c: &mut Criterion) {
    let mut group = c.benchmark_group("command");
    let lines: [(&str, &[u8]); 4] = [
        (
            "mail",
            b"MAIL FROM:<bounces+123@news.example.org> SIZE=10240 BODY=8BITMIME",
        ),
        ("rcpt", b"RCPT TO:<somebody.else@customer.example.com>"),
        (
            "rcpt_dsn",
            b"RCPT TO:<a@b.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;a+2Bb@b.example",
        ),
        ("bdat", b"BDAT 10240 LAST"),
    ];
    for (name, line) in lines {
        group.bench_function(format!("parse/{name}"), |b| {
            b.iter(|| Command::parse(black_box(line)));
        });
        let command = Command::parse(line).unwrap();
        let mut out = [0; 512];
        group.bench_function(format!("emit/{name}"), |b| {
            b.iter(|| black_box(&command).emit(&mut out));
        });
    }
}

fn replies(c: &mut Criterion) {
    let mut group = c.benchmark_group("reply");
    let mut reader = ReplyReader::new();
    let short = b"250 2.1.5 Ok\r\n";
    group.bench_function("read/one_line", |b| {
        b.iter(|| reader.push(black_box(short)))
    });
    let long = b"550-5.7.26 This mail has been blocked because the sender is unauthenticated.\r\n\
        550-5.7.26 Authentication results:\r\n550-5.7.26  DKIM = did not pass\r\n\
        550 5.7.26 For instructions, see https://support.example.com/mail/answer/81126\r\n";
    group.bench_function("read/four_lines", |b| {
        b.iter(|| {
            let mut rest = &black_box(long)[..];
            while !rest.is_empty() {
                rest = &rest[reader.push(rest).unwrap().consumed..];
            }
        });
    });
    let code = ReplyCode::new(250).unwrap();
    let reply = Reply::new(code, Some(EnhancedCode::new(2, 1, 5)), b"Ok");
    let mut out = [0; 512];
    group.bench_function("emit", |b| b.iter(|| black_box(&reply).emit(&mut out)));
}

fn extensions(c: &mut Criterion) {
    let lines = [
        "SIZE 157286400",
        "8BITMIME",
        "STARTTLS",
        "ENHANCEDSTATUSCODES",
        "PIPELINING",
        "CHUNKING",
        "SMTPUTF8",
        "AUTH PLAIN LOGIN XOAUTH2",
    ];
    c.bench_function("extension/ehlo_of_eight", |b| {
        b.iter(|| {
            let mut peer = Capabilities::default();
            black_box(&lines)
                .iter()
                .for_each(|l| peer.from_line(l.as_bytes()));
            peer
        });
    });
}

fn addresses(c: &mut Criterion) {
    let mut group = c.benchmark_group("address");
    for (name, text) in [
        ("plain", "somebody.else@customer.example.com"),
        ("quoted_literal", "\"some body\"@[IPv6:2001:db8::1]"),
        ("utf8", "用户@bücher.example"),
    ] {
        group.bench_function(name, |b| b.iter(|| Mailbox::parse(black_box(text))));
    }
    group.bench_function("xtext/check", |b| {
        b.iter(|| is_text(black_box(b"bounces+2B123@example.org")))
    });
    let mut out = [0; 128];
    group.bench_function("xtext/emit", |b| {
        b.iter(|| {
            Buffer::new(&mut out).put_fmt(format_args!("{}", Xtext(black_box(b"a+b@example.org"))))
        });
    });
}

fn proxy_headers(c: &mut Criterion) {
    let mut group = c.benchmark_group("proxy");
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    v2.extend([192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0, 25]);
    let v1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 25\r\n".to_vec();
    for (name, header) in [("version_1", v1), ("version_2", v2)] {
        assert!(matches!(
            proxy::parse(&header),
            Ok(proxy::Parsed::Done { .. })
        ));
        group.bench_function(name, |b| {
            b.iter(|| proxy::parse(black_box(&header)));
        });
    }
}

/// 10 kB of lines of 76 characters, one in `dots` starting with a dot (none for 0).
fn body(dots: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for i in 0_usize..131 {
        let dot = dots > 0 && i % dots == 0;
        body.push(if dot { b'.' } else { b'x' });
        body.extend((0..75).map(|j| b'a' + (i + j) as u8 % 26));
        body.extend_from_slice(b"\r\n");
    }
    body
}

fn data(c: &mut Criterion) {
    let mut group = c.benchmark_group("data");
    for (name, dots) in [("no_dots", 0), ("dot_every_10_lines", 10), ("all_dots", 1)] {
        let body = body(dots);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("stuff/{name}"), |b| {
            b.iter(|| Stuffer::new().walk(black_box(&body)).count());
        });
        let mut wire: Vec<u8> = Stuffer::new()
            .walk(&body)
            .flat_map(|chunk| chunk.bytes().to_vec())
            .collect();
        wire.extend_from_slice(b".\r\n");
        group.bench_function(format!("unstuff/{name}"), |b| {
            b.iter(|| {
                let mut unstuffer = Unstuffer::new();
                let mut rest = &black_box(&wire)[..];
                while !unstuffer.is_done() {
                    rest = &rest[unstuffer.push(rest).unwrap().consumed..];
                }
                unstuffer.findings()
            });
        });
    }
    let body = body(10);
    group.bench_function("bdat", |b| {
        b.iter(|| {
            let mut reader = BdatReader::new(false);
            reader.begin(body.len() as u64, true);
            reader.push(black_box(&body)).map(|part| part.done)
        });
    });
}

criterion_group!(
    wire,
    commands,
    replies,
    extensions,
    addresses,
    proxy_headers,
    data
);
criterion_main!(wire);
