//! What TLS costs the server: memory of idle sessions, handshakes with and without resumption, and
//! messages over TLS on both legs, beside the same in plaintext.
//!
//! ```text
//! cargo build --release -p courser
//! COURSER_PROGRAM=target/release/courser cargo run --release -p courser-bench --bin tls
//! ```
//!
//! CPU is that of the server's process alone, user and system, from `/proc`; the peers are threads of
//! this program. Ratios are of one run. `--only` runs one part, for a profiler to look at.
#![allow(missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use courser_tests::client::{Client, small};
use courser_tests::eventually;
use courser_tests::receiver::{Answer, EXTENSIONS, Receiver};
use courser_tests::server::{Server, scratch, smart_host};
use courser_tests::tls::{Authority, Issued};
use rustls::ClientConfig;
use rustls::client::Resumption;

/// What TLS costs the server
#[derive(Parser)]
struct Args {
    /// Idle sessions
    #[arg(long, default_value_t = 5000)]
    sessions: usize,
    /// Handshakes of each kind
    #[arg(long, default_value_t = 10_000)]
    handshakes: usize,
    /// Messages of each kind
    #[arg(long, default_value_t = 40_000)]
    messages: usize,
    /// Bytes of a message
    #[arg(long, default_value_t = 10_000)]
    bytes: usize,
    /// Only this part
    #[arg(long)]
    only: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Part {
    Idle,
    Inbound,
    Outbound,
    Load,
}

/// Sessions that hand in messages at once.
const SUBMITTERS: usize = 20;

/// User and system time of a process so far, seconds.
fn cpu(server: &Server) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap_or_default();
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: f64 = rest
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|t| t.parse::<f64>().ok())
        .sum();
    ticks / 100.0
}

/// A certificate with an RSA key of 2048 bits, as many servers have.
fn rsa(authority: &Authority) -> Issued {
    let out = std::process::Command::new("openssl")
        .args([
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
        ])
        .output()
        .expect("openssl starts");
    authority.issue_for_key(&["courser.test"], &String::from_utf8_lossy(&out.stdout))
}

fn server(issued: &Issued, dir: &std::path::Path, receiver: &Receiver, more: &str) -> Server {
    Server::start(&format!(
        "tls.certificate = [{}]\n{more}\n{}[[listener]]\nmax_connections = 20000\nmax_connections_per_client = 20000\n",
        issued.toml(dir, "bench"),
        smart_host(receiver.address)
    ))
}

/// Resident memory of each of so many idle sessions, bytes.
fn idle(args: &Args, authority: &Authority, issued: &Issued, secure: bool) -> f64 {
    let dir = scratch();
    let receiver = Receiver::friendly();
    let server = server(issued, dir.path(), &receiver, "");
    let config = authority.client(None);
    let open = || {
        let client = Client::hello(server.address);
        match secure {
            true => client.start_tls(config.clone(), "courser.test"),
            false => client,
        }
    };
    // What the first ones make grow is not theirs.
    let first: Vec<Client> = (0..100).map(|_| open()).collect();
    let before = server.resident();
    let clients: Vec<Client> = (0..args.sessions).map(|_| open()).collect();
    std::thread::sleep(Duration::from_millis(500));
    let bytes = server.resident().saturating_sub(before) as f64 / clients.len() as f64;
    drop((first, clients));
    bytes
}

/// Handshakes that the server did as server, for a second of its CPU.
fn inbound(args: &Args, authority: &Authority, issued: &Issued, resumed: bool) -> f64 {
    let dir = scratch();
    let receiver = Receiver::friendly();
    let server = server(issued, dir.path(), &receiver, "");
    let with = |on: bool| {
        let mut config = ClientConfig::clone(&authority.client(None));
        config.resumption = match on {
            true => Resumption::in_memory_sessions(100),
            false => Resumption::disabled(),
        };
        Arc::new(config)
    };
    let spend = |config: &Arc<ClientConfig>, n: usize, secure: bool| {
        let before = cpu(&server);
        for _ in 0..n {
            let client = Client::hello(server.address);
            if secure {
                client.start_tls(config.clone(), "courser.test");
            }
        }
        cpu(&server) - before
    };
    let config = with(resumed);
    spend(&config, 50, true);
    // The session around it is taken off.
    let around = spend(&config, args.handshakes, false);
    let all = spend(&config, args.handshakes, true);
    args.handshakes as f64 / (all - around).max(0.01)
}

/// CPU of a message in a session of its own toward a receiver, seconds.
fn outbound(args: &Args, issued: &Issued, tls: Option<&str>) -> f64 {
    let dir = scratch();
    let receiver = match tls {
        Some(_) => Receiver::start_tls(([127, 0, 0, 1], 0).into(), issued.server(), |_| {
            Answer::Usual
        }),
        None => Receiver::start_at(([127, 0, 0, 1], 0).into(), EXTENSIONS, |_| Answer::Usual),
    };
    let n = args.handshakes.min(1000);
    let server = server(
        issued,
        dir.path(),
        &receiver,
        &format!(
            "tls.level = \"opportunistic\"\ndelivery.limits = {{ messages_per_connection = 1, connections = 1, connection_rate = \"100k/s\", message_rate = \"100k/s\" }}\n{}",
            tls.unwrap_or_default()
        ),
    );
    let before = cpu(&server);
    let mut client = Client::hello(server.address);
    for _ in 0..n {
        client.submit("<a@sender.test>", &["<b@dest.test>"], &small("bench"));
    }
    let there = eventually(120, || (receiver.count() >= n).then_some(()));
    assert!(there.is_some(), "{} of {n} messages came", receiver.count());
    let resumed = receiver.mails().iter().filter(|m| m.resumed).count();
    if tls.is_some() {
        println!("  {resumed} of {n} sessions with the receiver went on from an earlier one");
    }
    (cpu(&server) - before) / n as f64
}

/// CPU of a message, accepted and delivered, seconds.
fn load(
    args: &Args,
    authority: &Authority,
    issued: &Issued,
    (inbound, outbound): (bool, bool),
) -> f64 {
    let dir = scratch();
    let receiver = match outbound {
        true => Receiver::start_tls(([127, 0, 0, 1], 0).into(), issued.server(), |_| {
            Answer::Usual
        }),
        false => Receiver::friendly(),
    };
    let server = server(
        issued,
        dir.path(),
        &receiver,
        "delivery.limits = { messages_per_connection = 100000, connections = 20, connection_rate = \"100k/s\", message_rate = \"1M/s\" }",
    );
    let mut body = small("load");
    while body.len() < args.bytes {
        body.extend_from_slice(format!("{}\r\n", "x".repeat(70)).as_bytes());
    }
    let each = args.messages / SUBMITTERS;
    let run = |each: usize| {
        std::thread::scope(|scope| {
            for _ in 0..SUBMITTERS {
                scope.spawn(|| {
                    let mut client = Client::hello(server.address);
                    if inbound {
                        client = client.start_tls(authority.client(None), "courser.test");
                    }
                    for _ in 0..each {
                        client.submit("<a@sender.test>", &["<b@dest.test>"], &body);
                    }
                });
            }
        });
    };
    run(5);
    receiver.wait(5 * SUBMITTERS);
    let before = cpu(&server);
    run(each);
    let all = (each + 5) * SUBMITTERS;
    let there = eventually(300, || (receiver.count() >= all).then_some(()));
    assert!(
        there.is_some(),
        "{} of {all} messages came",
        receiver.count()
    );
    (cpu(&server) - before) / (each * SUBMITTERS) as f64
}

fn memory(args: &Args, authority: &Authority, issued: &Issued) {
    let plain = idle(args, authority, issued, false);
    let secure = idle(args, authority, issued, true);
    println!(
        "memory of an idle session with a submitter, at {}:",
        args.sessions
    );
    println!(
        "  plaintext {:.1} KiB, TLS {:.1} KiB",
        plain / 1024.0,
        secure / 1024.0
    );
}

fn handshakes_in(args: &Args, authority: &Authority, keys: &[(&str, &Issued)]) {
    println!(
        "handshakes as server, for a second of CPU, {} of each kind:",
        args.handshakes
    );
    for (name, issued) in keys {
        let full = inbound(args, authority, issued, false);
        let resumed = inbound(args, authority, issued, true);
        println!("  {name}: {full:.0} full, {resumed:.0} resumed");
    }
}

fn handshakes_out(args: &Args, issued: &Issued) {
    println!("handshakes as client, with ECDSA P-256: CPU of a message in a session of its own:");
    let none = outbound(args, issued, None);
    let resumed = outbound(args, issued, Some(""));
    println!(
        "  plaintext {:.0} µs, TLS {:.0} µs: {:.0} µs for TLS with resumption",
        none * 1e6,
        resumed * 1e6,
        (resumed - none) * 1e6
    );
}

fn loads(args: &Args, authority: &Authority, issued: &Issued) {
    println!(
        "CPU of a message of {} bytes, accepted and delivered, {SUBMITTERS} sessions, {} messages:",
        args.bytes, args.messages
    );
    let base = load(args, authority, issued, (false, false));
    for (name, legs) in [
        ("submission over TLS", (true, false)),
        ("delivery over TLS", (false, true)),
        ("both", (true, true)),
    ] {
        let spent = load(args, authority, issued, legs);
        println!(
            "  {name}: {:.0} µs, {:.2} times the {:.0} µs in plaintext",
            spent * 1e6,
            spent / base,
            base * 1e6
        );
    }
}

fn main() {
    let args = Args::parse();
    let authority = Authority::new();
    let ecdsa = authority.issue(&["courser.test", "127.0.0.1"]);
    let rsa = rsa(&authority);
    let wanted = |part| args.only.is_none_or(|only| only == part);
    if wanted(Part::Idle) {
        memory(&args, &authority, &ecdsa);
    }
    if wanted(Part::Inbound) {
        let keys = [("ECDSA P-256", &ecdsa), ("RSA-2048", &rsa)];
        handshakes_in(&args, &authority, &keys);
    }
    if wanted(Part::Outbound) {
        handshakes_out(&args, &ecdsa);
    }
    if wanted(Part::Load) {
        loads(&args, &authority, &ecdsa);
    }
}
