//! The control socket and the program's queue commands, over a real Unix socket, against a
//! backend that stands in for the shards.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use courser::control::protocol::{
    Attempt, DeliveryDetail, DeliveryState, Filter, Gauges, LaneRow, LoginCounts, Pong, QueuePage,
    QueueRow, REQUEST_BYTES_MAX, Request, Response, Status, Subject, Time, Totals, WaitReason,
    Waiting,
};
use courser::control::server::{BindError, BoxFuture, CLIENTS_MAX};
use courser::control::{Client, ClientError, ControlBackend, ControlServer};
use courser::control::{DeliverySelector, MessageId};
use tokio::sync::{mpsc, oneshot};

/// A queue of a few deliveries, one for each reason to wait.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<Request>>,
}

const HOUR_MS: i64 = 3_600_000;

fn row(i: usize) -> QueueRow {
    let reason = WaitReason::ALL[i % WaitReason::ALL.len()];
    let domain = if i.is_multiple_of(2) {
        "example.net"
    } else {
        "a.example.org"
    };
    QueueRow {
        id: DeliverySelector {
            message: MessageId(1000 + i as u64 / 2),
            recipient: Some(i as u32 % 2),
        },
        sender: if i == 3 {
            String::new()
        } else {
            "news@example.com".into()
        },
        recipient: format!("user{i}@{domain}"),
        domain: domain.into(),
        tenant: "acme".into(),
        campaign: if i < 5 {
            "spring".into()
        } else {
            String::new()
        },
        stream: "bulk".into(),
        provider: i.is_multiple_of(2).then(|| "google".into()),
        site: Some("mx.example.net".into()),
        source: Some("a".into()),
        state: match reason {
            WaitReason::InFlight => DeliveryState::InFlight,
            WaitReason::RetryTime | WaitReason::Scheduled => DeliveryState::Deferred,
            WaitReason::Held => DeliveryState::Held,
            _ => DeliveryState::Ready,
        },
        attempts: i as u32,
        received: Time::from_unix_ms(Time::now().unix_ms - 5 * HOUR_MS),
        size: 10_240,
        waiting: Waiting::new(
            reason,
            (reason != WaitReason::Held)
                .then(|| Time::from_unix_ms(Time::now().unix_ms + 2 * HOUR_MS + 5000)),
            format!("particulars of {}", reason.word()),
        ),
        last_reply: (i > 0).then(|| "451 4.7.1 \u{1b}[31mtry later".into()),
    }
}

fn all() -> Vec<QueueRow> {
    (0..WaitReason::ALL.len()).map(row).collect()
}

fn chosen(filter: &Filter) -> Vec<QueueRow> {
    let mut rows = all();
    rows.retain(|r| {
        filter.matches(&Subject {
            message: r.id.message.0,
            recipient_index: r.id.recipient.unwrap(),
            sender: &r.sender,
            recipient: &r.recipient,
            domain: &r.domain,
            tenant: &r.tenant,
            campaign: &r.campaign,
            stream: &r.stream,
            provider: r.provider.as_deref(),
            state: r.state,
        })
    });
    rows
}

fn lane() -> LaneRow {
    LaneRow {
        source: "a".into(),
        site: "mx.example.net".into(),
        provider: Some("google".into()),
        ready: 12_345,
        deferred: 6,
        in_flight: 7,
        connections: 5,
        connections_max: 5,
        message_rate: "100/s".into(),
        delivered: 1_000_000,
        deferrals: 8,
        bounced: 9,
        waiting: Some(Waiting::new(WaitReason::Concurrency, None, "")),
    }
}

fn detail(row: QueueRow) -> DeliveryDetail {
    DeliveryDetail {
        row,
        client: Some("127.0.0.1 (localhost)".into()),
        pool: Some("default".into()),
        expires: Some(Time::from_unix_ms(Time::now().unix_ms + 100 * HOUR_MS)),
        due: None,
        last_attempt: Some(Attempt {
            at: Time::from_unix_ms(Time::now().unix_ms - HOUR_MS),
            source: Some("a".into()),
            peer: Some("mx.example.net [192.0.2.1]:25".into()),
            reply: "451 4.7.1 try later".into(),
            verdict: Some("greylisted, recipient".into()),
        }),
        hosts: vec!["mx.example.net [192.0.2.1]".into()],
        lane: Some(lane()),
        delay_told: true,
        shard: 0,
    }
}

impl Fake {
    fn answer(&self, request: &Request) -> Response {
        match request {
            Request::Ping | Request::Status => {
                let server = Pong {
                    version: "0.1.0".into(),
                    pid: 1,
                    hostname: "mail.example.org".into(),
                    started: Time::from_unix_ms(Time::now().unix_ms - 26 * HOUR_MS),
                };
                if matches!(request, Request::Ping) {
                    return Response::Pong(server);
                }
                Response::Status(Box::new(Status {
                    server,
                    now: Time::now(),
                    draining: false,
                    shards: 2,
                    totals: Totals {
                        delivered: 1_000_000,
                        ..Totals::default()
                    },
                    gauges: Gauges {
                        queued: 13,
                        memory_bytes: 64 << 20,
                        ..Gauges::default()
                    },
                    logins: Some(LoginCounts {
                        failed: 3,
                        blocked_users: 1,
                        ..LoginCounts::default()
                    }),
                    lanes: vec![lane()],
                    warnings: vec!["the spool's disk is nearly full".into()],
                }))
            }
            Request::QueueList {
                filter,
                limit,
                cursor,
            } => {
                // Pages of five at most, so that clients must ask again.
                let from: usize = cursor.as_deref().unwrap_or("0").parse().unwrap();
                let rows = chosen(filter);
                let to = (from + limit.min(&5)).min(rows.len());
                Response::Queue(QueuePage {
                    rows: rows[from..to].to_vec(),
                    next: (to < rows.len()).then(|| to.to_string()),
                    total: Some(rows.len() as u64),
                })
            }
            Request::QueueShow { id } => {
                let filter = Filter {
                    id: Some(*id),
                    ..Filter::default()
                };
                let deliveries = chosen(&filter).into_iter().map(detail).collect();
                Response::Deliveries { deliveries }
            }
            Request::TlsReport { .. } => Response::TlsReports {
                reports: Vec::new(),
                lost: 0,
                sent: Vec::new(),
            },
            Request::Hold { filter, .. }
            | Request::Release { filter }
            | Request::Retry { filter }
            | Request::Bounce { filter, .. }
            | Request::Drop { filter } => Response::Changed {
                count: chosen(filter).len() as u64,
            },
            Request::Reload => Response::Reloaded {
                applied: vec!["log.level: \"info\" → \"debug\"".into()],
                needs_restart: vec!["server.shards: 0 → 2".into()],
            },
            Request::Drain => Response::Draining,
            Request::Events { .. } => Response::error("not here", ""),
        }
    }
}

impl ControlBackend for Fake {
    fn call(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let response = self.answer(&request);
            self.asked.lock().unwrap().push(request);
            response
        })
    }

    fn events(&self, _: Filter) -> mpsc::Receiver<serde_json::Value> {
        let (send, receive) = mpsc::channel(8);
        for n in 0..3 {
            send.try_send(serde_json::json!({ "event": "delivered", "n": n }))
                .unwrap();
        }
        receive
    }
}

struct Running {
    socket: PathBuf,
    fake: Arc<Fake>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

fn start() -> Running {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("run/control.sock");
    let server = ControlServer::bind(&socket).unwrap();
    let fake = Arc::new(Fake::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let backend = fake.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let stopped = async {
            let _ = stopped.await;
        };
        runtime.block_on(server.run(backend, stopped)).unwrap();
    });
    Running {
        socket,
        fake,
        stop: Some(stop),
        thread: Some(thread),
        _dir: dir,
    }
}

impl Running {
    fn courser(&self, args: &[&str]) -> Output {
        courser(&self.socket, args)
    }

    fn last(&self) -> Request {
        self.fake.asked.lock().unwrap().last().unwrap().clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().unwrap().join();
    }
}

fn courser(socket: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_courser"))
        .args(args)
        .env("COURSER_SOCKET", socket)
        .env_remove("COURSER_CONFIG")
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_socket_is_ours_alone() {
    let server = start();
    let mode = std::fs::metadata(&server.socket)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = ControlServer::bind(&server.socket);
    assert!(matches!(second, Err(BindError::Taken { .. })), "{second:?}");
    // Even when somebody removed the lock.
    std::fs::remove_file(server.socket.with_extension("sock.lock")).unwrap();
    let second = ControlServer::bind(&server.socket);
    assert!(matches!(second, Err(BindError::Taken { .. })), "{second:?}");
    assert!(Client::connect(&server.socket).is_ok());
}

#[test]
fn a_stale_socket_is_replaced_and_another_file_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let refused = Client::connect(&path).unwrap_err();
    assert!(refused.to_string().contains("has ended"), "{refused}");
    drop(ControlServer::bind(&path).unwrap());
    assert!(!path.exists(), "removed at the end");

    std::fs::write(&path, "precious").unwrap();
    // A program that another test starts just now holds what is locked here until it has begun.
    let mut error = ControlServer::bind(&path).unwrap_err();
    for _ in 0..100 {
        if !matches!(error, BindError::Taken { .. }) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        error = ControlServer::bind(&path).unwrap_err();
    }
    assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_socket_that_is_not_there_says_what_to_do() {
    let output = courser(Path::new("/nonexistent/control.sock"), &["status"]);
    let text = err(&output, 4);
    assert!(text.contains("is `courser serve` running"), "{text}");
    assert!(text.contains("/nonexistent/control.sock"), "{text}");
}

#[test]
fn the_configuration_names_the_socket() {
    let server = start();
    let file = server.socket.with_file_name("courser.toml");
    let text = format!(
        "hostname = \"mail.example.org\"\n[server]\ncontrol_socket = {:?}\n",
        server.socket.display().to_string()
    );
    std::fs::write(&file, text).unwrap();
    let run = |file: &Path| {
        Command::new(env!("CARGO_BIN_EXE_courser"))
            .args(["queue", "list", "--config"])
            .arg(file)
            .env_remove("COURSER_SOCKET")
            .output()
            .unwrap()
    };
    assert!(out(&run(&file)).contains("13 deliveries"));
    std::fs::write(&file, "hostname = 7").unwrap();
    assert!(err(&run(&file), 3).contains("--socket PATH"));
}

#[test]
fn list_shows_each_reason_and_all_pages() {
    let server = start();
    let text = out(&server.courser(&["queue", "list"]));
    for reason in WaitReason::ALL {
        assert!(text.contains(reason.word()), "{} in\n{text}", reason.word());
    }
    assert!(text.contains("in 2h"), "{text}");
    assert!(text.contains("13 deliveries of 13 listed\n"), "{text}");
    assert!(
        !text.contains('\u{1b}'),
        "a reply must not drive the terminal"
    );

    let text = out(&server.courser(&["queue", "list", "--limit", "3"]));
    assert!(
        text.contains("3 deliveries of 13 listed; --limit 0 lists all"),
        "{text}"
    );

    let text = out(&server.courser(&["queue", "list", "--json", "--limit", "0"]));
    let rows: Vec<QueueRow> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(rows.len(), 13);
}

#[test]
fn filters_reach_the_server() {
    let server = start();
    let count = |args: &[&str]| {
        let mut all = vec!["queue", "list", "--json", "--limit", "0"];
        all.extend(args);
        out(&server.courser(&all)).lines().count()
    };
    assert_eq!(count(&["--domain", "EXAMPLE.net."]), 7);
    assert_eq!(count(&["--domain", "*.example.org"]), 6);
    assert_eq!(count(&["--domain", "*.a.example.org"]), 0);
    assert_eq!(count(&["--provider", "google", "--campaign", "spring"]), 3);
    assert_eq!(count(&["--tenant", "acme"]), 13);
    assert_eq!(count(&["--tenant", "other"]), 0);
    assert_eq!(count(&["--sender", "<>"]), 1);
    assert_eq!(count(&["--sender", "news@example.com"]), 12);
    assert_eq!(count(&["--recipient", "user4@example.net"]), 1);
    assert_eq!(count(&["--state", "held"]), 1);
    assert_eq!(count(&["--id", &MessageId(1000).to_string()]), 2);
    assert_eq!(count(&["--id", &format!("{}.1", MessageId(1000))]), 1);
    let wrong = server.courser(&["queue", "list", "--id", "x"]);
    assert!(err(&wrong, 2).contains("13 characters"));
}

#[test]
fn show_says_why_and_when() {
    let server = start();
    for (i, row) in all().iter().enumerate() {
        let text = out(&server.courser(&["queue", "show", &row.id.to_string()]));
        let reason = WaitReason::ALL[i];
        assert!(text.contains(reason.sentence()), "{text}");
        assert!(
            text.contains(&format!("particulars of {}", reason.word())),
            "{text}"
        );
        if reason == WaitReason::Held {
            assert!(text.contains("when that changes"), "{text}");
        } else {
            assert!(text.contains("(in 2h"), "{text}");
        }
    }
    let text = out(&server.courser(&["queue", "show", &MessageId(1000).to_string()]));
    assert!(text.contains("user0@") && text.contains("user1@"), "{text}");
    let missing = server.courser(&["queue", "show", &MessageId(7).to_string()]);
    assert!(err(&missing, 5).contains("is not in the queue"));
    let json = out(&server.courser(&["queue", "show", "--json", &MessageId(1000).to_string()]));
    for line in json.lines() {
        let detail: DeliveryDetail = serde_json::from_str(line).unwrap();
        assert_eq!(detail.row.id.message, MessageId(1000));
    }
}

#[test]
fn changes_need_a_filter_or_all() {
    let server = start();
    for verb in ["hold", "release", "retry", "bounce", "drop"] {
        let text = err(&server.courser(&["queue", verb]), 2);
        assert!(text.contains("nothing was done"), "{text}");
        let both = err(
            &server.courser(&["queue", verb, "--all", "--tenant", "x"]),
            2,
        );
        assert!(both.contains("nothing was done"), "{both}");
        assert!(server.fake.asked.lock().unwrap().is_empty());
    }
    for verb in ["hold", "release", "retry", "bounce", "drop"] {
        let text = out(&server.courser(&["queue", verb, "--provider", "google"]));
        assert_eq!(text, format!("{verb}: 7 deliveries\n"));
        let text = out(&server.courser(&["queue", verb, "--all", "--json"]));
        assert_eq!(text, format!("{{\"count\":13,\"did\":\"{verb}\"}}\n"));
        let one = format!("{}.1", MessageId(1000));
        assert_eq!(
            out(&server.courser(&["queue", verb, &one])),
            format!("{verb}: 1 delivery\n")
        );
    }
    out(&server.courser(&[
        "queue",
        "bounce",
        "--tenant",
        "acme",
        "--reason",
        "we stopped it",
    ]));
    let Request::Bounce { filter, reason } = server.last() else {
        panic!("{:?}", server.last());
    };
    assert_eq!(
        (filter.tenant.as_deref(), reason.as_str()),
        (Some("acme"), "we stopped it")
    );
}

#[test]
fn status_reload_drain_and_events() {
    let server = start();
    let text = out(&server.courser(&["status"]));
    for part in [
        "up 1d 2h",
        "WARNING    the spool's disk is nearly full",
        "1 000 000 delivered",
        "64.0 MiB memory",
        "0 right, 3 wrong, 0 refused; blocked now: 0 addresses, 1 users",
        "concurrency",
        "12 345",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let json = out(&server.courser(&["status", "--json"]));
    let status: Status = serde_json::from_str(&json).unwrap();
    assert_eq!(status.lanes, [lane()]);

    let text = out(&server.courser(&["reload"]));
    assert!(text.contains("in force now:\n  log.level"), "{text}");
    assert!(text.contains("needs a restart:\n  server.shards"), "{text}");
    assert_eq!(out(&server.courser(&["drain"])), "draining\n");

    let ended = server.courser(&["events"]);
    assert_eq!(String::from_utf8_lossy(&ended.stdout).lines().count(), 3);
    assert!(err(&ended, 1).contains("the stream of events ended"));
}

#[test]
fn nonsense_is_answered_and_long_lines_are_cut() {
    let server = start();
    let mut stream = UnixStream::connect(&server.socket).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    for nonsense in [
        "",
        "{}",
        "[1]",
        "{\"request\":\"dance\"}",
        "\u{0}",
        "{\"request\":\"queue-list\"}",
    ] {
        writeln!(stream, "{nonsense}").unwrap();
        line.clear();
        answers.read_line(&mut line).unwrap();
        assert!(line.contains("not a request"), "{nonsense}: {line}");
    }
    // The connection is still good.
    writeln!(stream, "{{\"request\":\"ping\"}}").unwrap();
    line.clear();
    answers.read_line(&mut line).unwrap();
    assert!(line.contains("pong"), "{line}");

    let _ = stream.write_all(&vec![b'x'; REQUEST_BYTES_MAX + 1]);
    let mut rest = String::new();
    let _ = answers.read_to_string(&mut rest);
    assert!(rest.contains("too long"), "{rest}");
}

#[test]
fn clients_are_bounded() {
    let server = start();
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..CLIENTS_MAX {
        let mut client = Client::connect(&server.socket).unwrap();
        client.call(&Request::Ping).unwrap();
        clients.push(client);
    }
    let refused = Client::connect(&server.socket)
        .unwrap()
        .call(&Request::Ping);
    assert!(
        matches!(refused, Err(ClientError::Refused { .. })),
        "{refused:?}"
    );
    clients.clear();
    // A place is free as soon as the server has seen one of them go.
    let deadline = Instant::now() + Duration::from_secs(5);
    while Client::connect(&server.socket)
        .unwrap()
        .call(&Request::Ping)
        .is_err()
    {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_silent_client_holds_up_nobody_at_the_end() {
    let server = start();
    let _silent = Client::connect(&server.socket).unwrap();
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < Duration::from_secs(5));
}
