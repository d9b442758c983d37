//! Hundreds of SIGHUPs while mail flows, with a configuration that is right, other and broken in
//! turn, and SIGTERM under load, again and again: nothing is lost, and nothing comes twice.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use courser_tests::client::{Client, small};
use courser_tests::eventually;
use courser_tests::receiver::{Answer, Receiver};
use courser_tests::server::{Server, smart_host};

/// SIGHUPs in one storm.
const HANGUPS: usize = 300;
/// Starts that end with SIGTERM.
const ROUNDS: usize = 6;
const SUBMITTERS: u64 = 3;
/// The wait before a delivery is tried again.
const RETRY: &str = "intervals = [\"1s\"], jitter = \"0%\"";

/// It is the server that is to be hurried, and not its lanes.
const RATES: &str = "connection_rate = \"1000/s\", message_rate = \"10000/s\"";

/// Takes everything, but one recipient in seven at the second try only; every fifth message is taken
/// after a while.
fn receiver() -> Receiver {
    let (seen, messages) = (
        Mutex::new(std::collections::HashSet::new()),
        AtomicU64::new(0),
    );
    Receiver::start(move |line| match line {
        l if l.starts_with("RCPT TO:<later") => {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.insert(l.to_owned()) {
                Answer::say("451 4.2.1 Later")
            } else {
                Answer::Usual
            }
        }
        "." if messages.fetch_add(1, Ordering::AcqRel).is_multiple_of(5) => {
            Answer::slowly(Duration::from_millis(100))
        }
        _ => Answer::Usual,
    })
}

/// Submitters that go on until they are told to stop, and come back when the server does.
struct Load {
    stop: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(to: SocketAddr) -> Self {
        let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let next = Arc::new(AtomicU64::new(0));
        let threads = (0..SUBMITTERS)
            .map(|_| {
                let (stop, taken, next) = (stop.clone(), Arc::clone(&taken), next.clone());
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Acquire) {
                        if let Ok(client) = Client::open(to) {
                            let _ = talk(client, &stop, &taken, &next);
                        }
                        std::thread::sleep(Duration::from_millis(5));
                    }
                })
            })
            .collect();
        Self {
            stop,
            taken,
            threads,
        }
    }

    fn taken(&self) -> usize {
        self.taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Ends it, and gives every recipient whose message got 250.
    fn end(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.join().expect("a submitter");
        }
        std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn talk(
    mut client: Client,
    stop: &AtomicBool,
    taken: &Mutex<Vec<String>>,
    next: &AtomicU64,
) -> std::io::Result<()> {
    client.reply()?;
    client.send(b"EHLO load.test\r\n")?;
    client.reply()?;
    while !stop.load(Ordering::Acquire) {
        let n = next.fetch_add(1, Ordering::AcqRel);
        let to = if n.is_multiple_of(7) { "later" } else { "one" };
        let recipients = [
            format!("{to}{n}@d{}.test", n % 5),
            format!("two{n}@dest.test"),
        ];
        let bracketed = recipients.each_ref().map(|r| format!("<{r}>"));
        let reply =
            client.try_submit("<sender@sender.test>", &bracketed, &small(&format!("m{n}")))?;
        if reply.starts_with("250") {
            let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.extend(recipients);
        } else if reply.starts_with("421") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Everything that got 250 is there, once.
fn check(taken: Vec<String>, receiver: &Receiver, server: &Server) -> String {
    server.wait_empty();
    let mut arrived: Vec<String> = receiver
        .mails()
        .iter()
        .flat_map(|m| m.recipients())
        .collect();
    arrived.sort();
    let copies = arrived.len();
    arrived.dedup();
    let lost: Vec<_> = taken
        .iter()
        .filter(|r| arrived.binary_search(r).is_err())
        .collect();
    let told = format!(
        "{} recipients got 250, {copies} copies arrived, {} too many, {} lost\n",
        taken.len(),
        copies - arrived.len(),
        lost.len()
    );
    assert!(
        lost.is_empty() && copies == arrived.len(),
        "{told}{lost:#?}"
    );
    for kind in ["bounced", "expired", "dsn"] {
        let events = server.events_of(kind);
        assert!(events.is_empty(), "{told}{:#?}", events.first());
    }
    assert!(taken.iter().any(|r| r.starts_with("later")), "{told}");
    told
}

pub(crate) fn hangups_while_mail_flows() {
    let receiver = receiver();
    let route = smart_host(receiver.address);
    let first = format!(
        "delivery = {{ limits = {{ {RATES} }} }}\nstream = [{{ retry = {{ {RETRY} }} }}]\n"
    );
    let mut server = Server::start(&format!("{first}{route}"));
    let file = server.config();
    let mut text = |more: &str| {
        server.configure(&format!("{more}\n{route}"));
        std::fs::read_to_string(&file).expect("courser.toml")
    };
    let usual = text(&first);
    // Each changes something else: listeners, limits, lanes, streams, providers, what needs a restart.
    let right = [
        usual.clone(),
        text(&format!(
            "delivery = {{ idle_keepalive = \"1s\", chunking = false, limits = {{ connections = 1, {RATES} }} }}\n\
             stream = [{{ retry = {{ {RETRY} }} }}, {{ name = \"second\", class = \"bulk\" }}]\n"
        )),
        text(&format!(
            "limits = {{ body_memory = \"0B\", intake_memory = \"1MiB\" }}\n\
             events = {{ rotate_size = \"1MiB\" }}\n\
             stream = [{{ retry = {{ {RETRY} }} }}]\n\
             [[listener]]\nmax_recipients = 100\nmax_message_size = \"1MiB\"\npipelining = false\n\
             [[provider]]\nname = \"dest\"\ndomains = [\"dest.test\", \"*.test\"]\n\
             [provider.limits]\nconnections = 3\nmessages_per_connection = 2\nconnection_rate = \"1000/s\"\n\
             message_rate = \"10000/s\"\n"
        )),
    ];
    let broken = [
        String::new(),
        usual.replace("hostname", "hostnam"),
        usual[..usual.len() / 2].to_owned() + "\n[[[",
        usual.clone() + "\n[limits]\nbody_memory = 7\n",
        "\0\u{fffd}".repeat(1000),
    ];
    let put = |text: &str| {
        let new = file.with_extension("new");
        std::fs::write(&new, text).expect("a new courser.toml");
        std::fs::rename(&new, &file).expect("courser.toml");
    };
    let load = Load::start(server.address);
    for n in 0..HANGUPS {
        match n % 4 {
            0 | 2 => put(&right[n / 2 % right.len()]),
            1 => put(&broken[n / 4 % broken.len()]),
            _ => std::fs::remove_file(&file).expect("it was there"),
        }
        server.signal(libc::SIGHUP);
        std::thread::sleep(Duration::from_millis(10));
    }
    // The last word counts, although hangups that come together are one.
    put(&right[2]);
    server.signal(libc::SIGHUP);
    let obeyed = eventually(10, || {
        let mut client = Client::open(server.address).ok()?;
        client.expect("220");
        let hello = client.command("EHLO client.test").0;
        hello.contains("SIZE 1048576").then_some(())
    });
    assert!(obeyed.is_some());
    let before = load.taken();
    let flows = eventually(10, || (load.taken() > before + 50).then_some(()));
    assert!(flows.is_some(), "{before} were taken, and then no more");
    let told = check(load.end(), &receiver, &server);
    let reloads = server.events_of("reloaded");
    let applied = reloads.iter().filter(|e| e["applied"] == true).count();
    assert!(
        applied > 20 && reloads.len() - applied > 20,
        "{applied} of {}",
        reloads.len()
    );
    assert_eq!(server.events_of("started").len(), 1);
    server.stop();
    courser_tests::say(&format!(
        "{HANGUPS} SIGHUPs, {} reloads of them {applied} applied: {told}",
        reloads.len()
    ));
}

pub(crate) fn sigterm_under_load() {
    let receiver = receiver();
    let more = format!(
        "delivery = {{ limits = {{ {RATES} }} }}\n\
         stream = [{{ retry = {{ {RETRY} }} }}]\n{}",
        smart_host(receiver.address)
    );
    let mut server = Server::start(&more);
    let load = Load::start(server.address);
    let mut left = Vec::new();
    for round in 0..ROUNDS {
        let before = (load.taken(), receiver.count());
        let flows = eventually(20, || {
            let flows = load.taken() > before.0 + 100 && receiver.count() > before.1 + 50;
            flows.then_some(())
        });
        assert!(flows.is_some(), "round {round}: nothing flows");
        if round % 2 == 1 {
            // A reload on the way out doesn't hold it up.
            server.signal(libc::SIGTERM);
            server.signal(libc::SIGHUP);
            server.wait_end();
        } else {
            server.stop();
        }
        let stopped = server.events_of("stopped");
        assert_eq!(stopped.len(), round + 1);
        assert_eq!(stopped[round]["reason"], "SIGTERM");
        left.push(stopped[round]["deliveries"].as_u64().expect("a number"));
        server.restart();
    }
    let told = check(load.end(), &receiver, &server);
    assert!(left.iter().any(|n| *n > 0), "{told}");
    server.stop();
    courser_tests::say(&format!(
        "{ROUNDS} SIGTERMs under load, {left:?} deliveries left for the next start: {told}"
    ));
}
