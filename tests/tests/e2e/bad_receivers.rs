//! Receivers that stall, close, reset, shout or mumble at every step: mail for them waits, mail for
//! others goes out, memory stays within its bounds, and nothing is left open.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use courser_tests::bounds::{Bounds, MIB, RECEIVER_BYTES};
use courser_tests::client::{Client, small};
use courser_tests::eventually;
use courser_tests::receiver::Receiver;
use courser_tests::scripted::{Guest, Scripted};
use courser_tests::server::Server;
use serde_json::Value;

/// Where it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Greeting,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    /// In the middle of the body.
    Body,
    /// Behind the dot, or behind the last chunk.
    End,
}

/// How it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Reads on and says nothing.
    Stalls,
    /// Neither reads nor says anything: its window closes.
    Deaf,
    /// Closes in good order.
    Closes,
    Resets,
    /// Takes the message, and resets before its 250 arrives.
    TakesAndResets,
    /// Bytes that are no reply.
    Garbage,
    /// A multiline reply without an end.
    NoLastLine,
    /// A line without an end.
    NoLineEnd,
    /// 250 for DATA, 354 for everything else.
    WrongClass,
    /// A code that doesn't exist.
    NoClass,
    /// Its usual reply behind four NULs.
    Nuls,
    /// Its usual reply, a byte at a time, in time.
    Drips,
    /// The same, but not in time.
    DripsTooSlowly,
    /// A refusal for now, with control characters and bytes that are no UTF-8.
    Binary,
    /// Its usual reply with such characters behind the code.
    BinaryUsual,
    /// Its usual reply and two more that answer nothing.
    TooMany,
    /// 250 before the message is there.
    TooEarly,
}

/// What it offers, and so how the message goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// One command at a time, and DATA.
    Plain,
    /// Commands together, and DATA.
    Pipelined,
    /// Everything together, the body too (BDAT).
    Chunked,
}

const STEPS: [Step; 7] = [
    Step::Greeting,
    Step::Ehlo,
    Step::Mail,
    Step::Rcpt,
    Step::Data,
    Step::Body,
    Step::End,
];

const MOODS: [Mood; 17] = [
    Mood::Stalls,
    Mood::Deaf,
    Mood::Closes,
    Mood::Resets,
    Mood::TakesAndResets,
    Mood::Garbage,
    Mood::NoLastLine,
    Mood::NoLineEnd,
    Mood::WrongClass,
    Mood::NoClass,
    Mood::Nuls,
    Mood::Drips,
    Mood::DripsTooSlowly,
    Mood::Binary,
    Mood::BinaryUsual,
    Mood::TooMany,
    Mood::TooEarly,
];

const MANNERS: [Manner; 3] = [Manner::Plain, Manner::Pipelined, Manner::Chunked];

/// What one receiver does.
#[derive(Clone, Copy, Debug)]
struct Case {
    step: Step,
    mood: Mood,
    manner: Manner,
}

impl Case {
    /// Every combination that means something.
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for manner in MANNERS {
            for step in STEPS {
                for mood in MOODS {
                    let case = Self { step, mood, manner };
                    if case.is_possible() {
                        all.push(case);
                    }
                }
            }
        }
        all
    }

    fn is_possible(self) -> bool {
        // Up to the answer to EHLO all manners are the same.
        if matches!(self.step, Step::Greeting | Step::Ehlo) && self.manner != Manner::Plain {
            return false;
        }
        match (self.step, self.mood) {
            // With BDAT there is no DATA.
            (Step::Data, _) if self.manner == Manner::Chunked => false,
            (Step::Body, mood) => matches!(
                mood,
                Mood::Deaf | Mood::Resets | Mood::Garbage | Mood::NoLastLine | Mood::TooEarly
            ),
            (_, Mood::TooEarly) => false,
            (step, Mood::TakesAndResets) => step == Step::End,
            // Two replies to EHLO are an answer to MAIL.
            (Step::Greeting | Step::Ehlo, Mood::TooMany) => false,
            _ => true,
        }
    }

    fn domain(self) -> String {
        format!("{:?}-{:?}-{:?}.test", self.manner, self.step, self.mood).to_lowercase()
    }

    /// Whether the message arrives in spite of it.
    fn delivers(self) -> bool {
        match self.mood {
            Mood::Drips | Mood::BinaryUsual | Mood::TooEarly => true,
            // What it says too much is behind the answer that counts, or can't be told from the
            // answers to what was pipelined.
            Mood::TooMany => self.step == Step::End || self.manner == Manner::Chunked,
            _ => false,
        }
    }

    /// What the event says of it: class and cause. None where the receiver answered in good form.
    fn trouble(self) -> Option<(&'static str, &'static str)> {
        Some(match self.mood {
            Mood::Stalls | Mood::Deaf | Mood::DripsTooSlowly => ("network", "no answer in time"),
            // Where the handshake itself is answered by a reset, connect says so.
            Mood::Resets if self.step == Step::Greeting => ("network", "connect"),
            Mood::Closes | Mood::Resets | Mood::TakesAndResets => {
                ("network", "the peer closed the connection")
            }
            Mood::Garbage | Mood::NoClass | Mood::Nuls => {
                ("protocol", "what the peer said is no reply")
            }
            Mood::NoLastLine | Mood::NoLineEnd => ("protocol", "the peer's reply is too long"),
            Mood::WrongClass | Mood::TooMany => ("protocol", "out of turn"),
            Mood::Drips | Mood::BinaryUsual | Mood::TooEarly | Mood::Binary => return None,
        })
    }

    /// Whether the whole message was out and nothing says that it wasn't taken.
    fn may_have_been_delivered(self) -> bool {
        match self.step {
            Step::End => true,
            Step::Mail | Step::Rcpt => self.manner == Manner::Chunked,
            // It read on.
            Step::Body => self.mood == Mood::Garbage,
            Step::Greeting | Step::Ehlo | Step::Data => false,
        }
    }

    /// What is wrong with the first event about it.
    fn misjudged(self, event: &Value) -> Option<String> {
        let cause = event["cause"].as_str().unwrap_or_default();
        let wrong = |what: &str| Some(format!("{}: {what}: {event}", self.domain()));
        if self.delivers() {
            return if event["kind"] == "delivered" {
                None
            } else {
                wrong("it arrives")
            };
        }
        if event["kind"] != "deferred" || event["permanent"] != false {
            return wrong("it has to wait");
        }
        let Some((class, why)) = self.trouble() else {
            let text = event["text"].as_str().unwrap_or_default();
            let clean = !text.chars().any(char::is_control) && text.contains("later");
            return if event["code"] == 450 && clean {
                None
            } else {
                wrong("what was said, without control characters")
            };
        };
        let says_unknown = cause.contains("it may have been delivered");
        if event["class"] != class || event["scope"] != "host" || !cause.contains(why) {
            return wrong(&format!("{class}, host, {why:?}"));
        }
        if says_unknown != self.may_have_been_delivered() {
            return wrong("may it have been delivered?");
        }
        None
    }
}

type Mailbox = Arc<Mutex<HashMap<String, usize>>>;

/// The pause between the bytes of a reply that comes in time, and of one that doesn't.
const DRIP: Duration = Duration::from_millis(40);
const SLOW_DRIP: Duration = Duration::from_millis(300);
/// How long we wait for each answer.
const TIMEOUT: &str = "3s";
/// Most that a receiver shouts.
const SHOUT_BYTES_MAX: u64 = 64 << 20;

/// What the configuration allows: the large message once while it comes in, and once for all to whom
/// it goes.
const BOUNDS: Bounds = Bounds {
    intake: 16 * MIB,
    body: 16 * MIB,
    pending: 16 * MIB,
};

/// Answers, in its mood if this is the step. `Err` ends the connection.
fn answer(guest: &mut Guest, mood: Option<Mood>, usual: &str) -> io::Result<()> {
    let Some(mood) = mood else {
        return guest.say(format!("{usual}\r\n"));
    };
    let over = || Err(io::ErrorKind::ConnectionAborted.into());
    match mood {
        Mood::Stalls => {
            guest.wait_end()?;
            over()
        }
        Mood::Deaf => {
            guest.deaf();
            over()
        }
        Mood::Closes => {
            guest.finish()?;
            over()
        }
        Mood::Resets | Mood::TakesAndResets => guest.reset(),
        Mood::Garbage => {
            let bytes: Vec<u8> = (0..600u32)
                .map(|i| ((i * 7919) >> 3) as u8 | 0x80)
                .collect();
            guest.say(bytes)?;
            guest.say("\r\n")?;
            guest.wait_end()?;
            over()
        }
        Mood::NoLastLine => guest.pump("250-and so on\r\n".repeat(1000), SHOUT_BYTES_MAX),
        Mood::NoLineEnd => {
            guest.say("250 ")?;
            guest.pump("and so on ".repeat(1000), SHOUT_BYTES_MAX)
        }
        Mood::WrongClass | Mood::NoClass => {
            guest.say(match mood {
                Mood::NoClass => "999 9.9.9 Ok\r\n",
                _ if usual.starts_with('3') => "250 2.0.0 Ok\r\n",
                _ => "354 Go on\r\n",
            })?;
            guest.wait_end()?;
            over()
        }
        Mood::Nuls => {
            guest.say(format!("\0\0\0\0{usual}\r\n"))?;
            guest.wait_end()?;
            over()
        }
        Mood::Drips => guest.drip(format!("{usual}\r\n"), DRIP),
        Mood::DripsTooSlowly => guest.drip(format!("{usual}\r\n"), SLOW_DRIP),
        Mood::Binary => {
            guest.say(b"450 4.2.1 \x1b[31m\xff\xfe \x07later\xc3\x28\x7f\r\n")?;
            guest.wait_end()?;
            over()
        }
        Mood::BinaryUsual => {
            guest.say(&usual[..4])?;
            guest.say(b"\x1b[2J\xff\xfe\x07\r\n")
        }
        Mood::TooMany => guest.say(format!("{usual}\r\n{usual}\r\n{usual}\r\n")),
        Mood::TooEarly => guest.say("250 2.0.0 I know what it says\r\n"),
    }
}

/// Speaks as a receiver does, up to the step of `case`; without one, all the way.
fn converse(
    guest: &mut Guest,
    manner: Manner,
    case: Option<Case>,
    mailbox: &Mailbox,
) -> io::Result<()> {
    let mood = |step| case.filter(|c| c.step == step).map(|c| c.mood);
    let take = |rcpt: &str| {
        let mut mailbox = mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        *mailbox.entry(rcpt.to_owned()).or_default() += 1;
    };
    let mut recipient = String::new();
    answer(guest, mood(Step::Greeting), "220 bad.test ESMTP")?;
    loop {
        let line = guest.line()?;
        match line.split([' ', ':']).next().unwrap_or_default() {
            "EHLO" if mood(Step::Ehlo) == Some(Mood::BinaryUsual) => {
                answer(guest, Some(Mood::BinaryUsual), "250 bad.test")?;
            }
            "EHLO" => {
                let usual = match manner {
                    Manner::Plain => "250 bad.test",
                    Manner::Pipelined => "250-bad.test\r\n250 PIPELINING",
                    Manner::Chunked => "250-bad.test\r\n250-PIPELINING\r\n250 CHUNKING",
                };
                answer(guest, mood(Step::Ehlo), usual)?;
            }
            "MAIL" => answer(guest, mood(Step::Mail), "250 2.1.0 Ok")?,
            "RCPT" => {
                recipient = line;
                answer(guest, mood(Step::Rcpt), "250 2.1.5 Ok")?;
            }
            "DATA" => {
                answer(guest, mood(Step::Data), "354 Go on")?;
                if let Some(mood) = mood(Step::Body) {
                    guest.bytes(1000)?;
                    answer(guest, Some(mood), "250 2.0.0 Taken")?;
                }
                guest.dotted()?;
                end(guest, mood(Step::End), || take(&recipient))?;
            }
            "BDAT" => {
                let size = line.split(' ').nth(1).and_then(|n| n.parse().ok());
                let mut size: usize = size.unwrap_or(0);
                if let Some(mood) = mood(Step::Body) {
                    guest.bytes(1000)?;
                    size -= 1000;
                    answer(guest, Some(mood), "250 2.0.0 Taken")?;
                }
                guest.bytes(size)?;
                end(guest, mood(Step::End), || take(&recipient))?;
            }
            "QUIT" => return guest.say("221 2.0.0 Bye\r\n"),
            _ => guest.say("250 2.0.0 Ok\r\n")?,
        }
    }
}

fn end(guest: &mut Guest, mood: Option<Mood>, take: impl FnOnce()) -> io::Result<()> {
    let takes = mood.is_none_or(|mood| {
        matches!(
            mood,
            Mood::TakesAndResets | Mood::Drips | Mood::BinaryUsual | Mood::TooMany
        )
    });
    // Before it says so, as a receiver that keeps its word.
    if takes {
        take();
    }
    answer(guest, mood, "250 2.0.0 Taken")
}

fn route(domain: &str, to: SocketAddr) -> String {
    format!("[[route]]\ndomain = \"{domain}\"\nto = [\"{to}\"]\n")
}

/// Short times, one attempt, and no limits that hold anything up.
fn impatient() -> String {
    let mut timeouts = String::from("delivery.timeouts = {");
    for key in [
        "connect",
        "greeting",
        "ehlo",
        "mail",
        "rcpt",
        "data",
        "data_block",
        "data_end",
        "quit",
    ] {
        timeouts.push_str(&format!(" {key} = \"{TIMEOUT}\","));
    }
    timeouts.pop();
    timeouts.push_str(" }\n");
    timeouts
        + "delivery.dead_host = { first = \"1s\", max = \"1s\" }\n\
           delivery.limits = { connection_rate = \"1000/s\", message_rate = \"1000/s\" }\n\
           [[stream]]\nretry = { intervals = [\"1h\"], life = \"2h\", jitter = \"0%\" }\n"
}

/// Mail to a healthy receiver, all the while.
struct Others {
    receiver: Receiver,
    /// What it had before.
    warm: usize,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<()>,
}

impl Others {
    const DOMAIN: &str = "well.test";

    fn begin(receiver: Receiver, to: SocketAddr) -> Self {
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (stopping, sending) = (stop.clone(), sent.clone());
        let thread = std::thread::spawn(move || {
            let mut client = Client::hello(to);
            while !stopping.load(Ordering::Acquire) {
                let n = sending.fetch_add(1, Ordering::AcqRel);
                client.submit(
                    "<sender@sender.test>",
                    &[format!("<n{n}@{}>", Self::DOMAIN)],
                    &small(&format!("well-{n}")),
                );
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self {
            warm: receiver.count(),
            receiver,
            stop,
            sent,
            thread,
        }
    }

    /// All of it arrived, each once and at the first attempt, and some of it while the others still
    /// waited for theirs.
    fn end(self, server: &Server) {
        let before = self.receiver.count();
        assert!(before > 5, "{before} messages to others went through");
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("others are served");
        let sent = self.sent.load(Ordering::Acquire);
        let all = self.warm + sent;
        self.receiver.wait(all);
        assert_eq!(self.receiver.count(), all);
        let disturbed: Vec<Value> = server
            .events()
            .into_iter()
            .filter(|e| e["domain"] == Self::DOMAIN && e["kind"] != "delivered")
            .collect();
        assert!(disturbed.is_empty(), "{disturbed:#?}");
    }
}

/// The event that ends or defers each delivery, by domain.
fn fates(server: &Server) -> HashMap<String, Value> {
    let mut fates = HashMap::new();
    for event in server.events() {
        let ends = ["delivered", "deferred", "bounced", "expired"];
        if let Some(domain) = event["domain"].as_str()
            && ends.iter().any(|k| event["kind"] == *k)
        {
            fates.entry(domain.to_owned()).or_insert(event);
        }
    }
    fates
}

pub(crate) fn every_mood_at_every_step() {
    let cases = Case::all();
    let mailbox = Mailbox::default();
    let well = Arc::new(AtomicBool::new(false));
    let mut config = BOUNDS.config() + &impatient();
    let mut peers = Vec::new();
    for &case in &cases {
        let (mailbox, well) = (mailbox.clone(), well.clone());
        let peer = Scripted::start(move |_, guest| {
            let case = Some(case).filter(|_| !well.load(Ordering::Acquire));
            let manner = case.map_or(Manner::Chunked, |c| c.manner);
            converse(guest, manner, case, &mailbox)
        });
        config.push_str(&route(&case.domain(), peer.address));
        peers.push(peer);
    }
    let friendly = Receiver::friendly();
    config.push_str(&route(Others::DOMAIN, friendly.address));
    config.push_str(&route("warm.test", friendly.address));
    let server = Server::start(&config);
    let mut client = Client::hello(server.address);
    client.submit("<>", &["<warm@warm.test>"], &small("warm"));
    friendly.wait(1);
    let resident = server.resident();
    let others = Others::begin(friendly, server.address);

    // One message for all that go wrong between commands, and one that is larger than what the
    // kernel takes off our hands.
    let (large, little): (Vec<Case>, Vec<Case>) = cases.iter().partition(|c| c.step == Step::Body);
    let recipients = |cases: &[Case]| -> Vec<String> {
        cases
            .iter()
            .map(|c| format!("<x@{}>", c.domain()))
            .collect()
    };
    client.submit("<>", &recipients(&little), &small("little"));
    let mut body = small("large");
    body.extend(
        format!("{}\r\n", "0123456789abcdef".repeat(4))
            .repeat(128 << 10)
            .bytes(),
    );
    client.submit("<>", &recipients(&large), &body);

    let all = eventually(40, || {
        let fates = fates(&server);
        let all = cases.iter().all(|c| fates.contains_key(&c.domain()));
        all.then_some(fates)
    });
    let fates = all.unwrap_or_else(|| fates(&server));
    let misjudged: Vec<String> = cases
        .iter()
        .filter_map(|case| match fates.get(&case.domain()) {
            Some(event) => case.misjudged(event),
            None => Some(format!("{}: nothing came of it", case.domain())),
        })
        .collect();
    assert!(misjudged.is_empty(), "{}", misjudged.join("\n"));
    assert!(server.events_of("bounced").is_empty());

    // All of them are at it still, or were: this is the most that it ever took.
    let sessions = cases.len() as u64 * RECEIVER_BYTES;
    BOUNDS.check("bad receivers, at work", &server, resident, sessions);

    // They recover, and nothing was lost.
    well.store(true, Ordering::Release);
    let waiting = cases.iter().filter(|c| !c.delivers()).count();
    let delivered = eventually(20, || {
        server.ask(&["queue", "retry", "--all", "--json"]);
        std::thread::sleep(Duration::from_millis(300));
        server
            .queue()
            .iter()
            .all(|d| d["domain"] == Others::DOMAIN)
            .then_some(())
    });
    assert!(delivered.is_some(), "{:#?}", server.queue());
    let mailbox = mailbox.lock().unwrap_or_else(PoisonError::into_inner);
    for case in &cases {
        let copies = mailbox.get(&format!("RCPT TO:<x@{}>", case.domain()));
        let copies = copies.copied().unwrap_or(0);
        let right = match case.mood {
            Mood::TakesAndResets => copies == 2,
            // It goes on with what it had already read.
            Mood::DripsTooSlowly => copies >= 1,
            _ => copies == 1,
        };
        assert!(right, "{} took {copies}", case.domain());
    }
    others.end(&server);
    drop(client);
    let pumped: u64 = peers.iter().map(Scripted::pumped).sum();
    assert!(pumped > 1 << 20, "{pumped} bytes were shouted");
    BOUNDS.check("bad receivers, at the end", &server, resident, sessions);
    server.wait_sockets(idle_sockets(&impatient()));
    courser_tests::say(&format!(
        "bad receivers: {} kinds, {waiting} made mail wait, none lost any; {} kB shouted\n",
        cases.len(),
        pumped >> 10
    ));
}

/// Sockets of a server with this configuration that has nothing to do.
fn idle_sockets(config: &str) -> usize {
    Server::start(config).sockets()
}

/// What a receiver does when nobody expects it: behind the answer to a whole message, or at QUIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Untimely {
    Between(Mood),
    Closing421,
    AtQuit(Mood),
}

pub(crate) fn between_transactions_and_at_quit() {
    let untimely = [
        Untimely::Between(Mood::Closes),
        Untimely::Between(Mood::Resets),
        Untimely::Between(Mood::Garbage),
        Untimely::Between(Mood::NoLastLine),
        Untimely::Between(Mood::NoLineEnd),
        Untimely::Between(Mood::WrongClass),
        Untimely::Between(Mood::BinaryUsual),
        Untimely::Between(Mood::Stalls),
        Untimely::Closing421,
        Untimely::AtQuit(Mood::Stalls),
        Untimely::AtQuit(Mood::Deaf),
        Untimely::AtQuit(Mood::Closes),
        Untimely::AtQuit(Mood::Resets),
        Untimely::AtQuit(Mood::Garbage),
        Untimely::AtQuit(Mood::NoLastLine),
        Untimely::AtQuit(Mood::NoLineEnd),
        Untimely::AtQuit(Mood::DripsTooSlowly),
    ];
    let taken: Mailbox = Mailbox::default();
    // Both messages are queued when the first connection goes on, so that it takes both.
    let go = Arc::new(AtomicBool::new(false));
    let mut config = impatient().replace("[\"1h\"]", "[\"1s\"]");
    config = config.replace(
        "delivery.limits = {",
        "delivery.idle_keepalive = \"300ms\"\ndelivery.limits = { connections = 1,",
    );
    let domain = |i: usize| format!("untimely-{i}.test");
    let mut peers = Vec::new();
    for (i, how) in untimely.into_iter().enumerate() {
        let (taken, go) = (taken.clone(), go.clone());
        let peer = Scripted::start(move |_, guest| {
            while !go.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(5));
            }
            guest.say("220 hi\r\n")?;
            let mut recipient = String::new();
            loop {
                let line = guest.line()?;
                match line.split([' ', ':']).next().unwrap_or_default() {
                    "DATA" => {
                        guest.say("354 go\r\n")?;
                        guest.dotted()?;
                        *taken
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .entry(recipient.clone())
                            .or_default() += 1;
                        guest.say("250 2.0.0 Taken\r\n")?;
                        match how {
                            Untimely::Between(mood) => answer(guest, Some(mood), "250 2.0.0 Ok")?,
                            Untimely::Closing421 => {
                                guest.say("421 4.3.2 Going down\r\n")?;
                                guest.finish()?;
                            }
                            Untimely::AtQuit(_) => {}
                        }
                    }
                    "QUIT" => {
                        let mood = match how {
                            Untimely::AtQuit(mood) => Some(mood),
                            _ => None,
                        };
                        return answer(guest, mood, "221 2.0.0 Bye");
                    }
                    verb => {
                        if verb == "RCPT" {
                            recipient = line;
                        }
                        guest.say("250 2.0.0 Ok\r\n")?;
                    }
                }
            }
        });
        config.push_str(&route(&domain(i), peer.address));
        peers.push(peer);
    }
    let server = Server::start(&config);
    let mut client = Client::hello(server.address);
    for n in ["first", "second"] {
        let to: Vec<String> = (0..untimely.len())
            .map(|i| format!("<{n}@{}>", domain(i)))
            .collect();
        client.submit("<>", &to, &small(n));
    }
    go.store(true, Ordering::Release);
    drop(client);
    server.wait_events("delivered", 2 * untimely.len(), |_| true);
    server.wait_empty();
    let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    for (i, how) in untimely.into_iter().enumerate() {
        for n in ["first", "second"] {
            let copies = taken.get(&format!("RCPT TO:<{n}@{}>", domain(i)));
            assert_eq!(copies, Some(&1), "{how:?}: {n}");
        }
        // At QUIT all is said; before, the one in flight may need a second connection.
        let deferred = server
            .events_of("deferred")
            .into_iter()
            .filter(|e| e["domain"] == domain(i).as_str())
            .collect::<Vec<_>>();
        let most = usize::from(matches!(how, Untimely::Between(_)));
        assert!(deferred.len() <= most, "{how:?}: {deferred:#?}");
        let unsure = deferred
            .iter()
            .any(|e| e.to_string().contains("may have been delivered"));
        assert!(!unsure, "{how:?}: {deferred:#?}");
    }
    assert!(server.events_of("bounced").is_empty());
    server.wait_sockets(idle_sockets(&config));
}

pub(crate) fn what_ends_the_second_transaction_leaves_the_first_alone() {
    let moods = [
        Mood::Stalls,
        Mood::Closes,
        Mood::Resets,
        Mood::TakesAndResets,
        Mood::Garbage,
        Mood::NoLastLine,
        Mood::NoLineEnd,
        Mood::WrongClass,
        Mood::NoClass,
    ];
    let taken = Mailbox::default();
    let go = Arc::new(AtomicBool::new(false));
    let mut config = impatient().replace(
        "delivery.limits = {",
        "delivery.limits = { connections = 1,",
    );
    config = config.replace("[\"1h\"]", "[\"1s\"]");
    let domain = |i: usize| format!("second-{i}.test");
    let mut peers = Vec::new();
    for (i, mood) in moods.into_iter().enumerate() {
        let (taken, go) = (taken.clone(), go.clone());
        let peer = Scripted::start(move |session, guest| {
            if session > 0 {
                return converse(guest, Manner::Chunked, None, &taken);
            }
            while !go.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(5));
            }
            guest.say("220 hi\r\n")?;
            guest.line()?;
            guest.say("250-hi\r\n250-PIPELINING\r\n250 CHUNKING\r\n")?;
            // Both are there before the first is answered.
            let (mut transactions, mut recipient) = (Vec::new(), String::new());
            while transactions.len() < 2 {
                let line = guest.line()?;
                if line.starts_with("RCPT") {
                    recipient = line;
                } else if line.starts_with("BDAT") {
                    let size = line.split(' ').nth(1).and_then(|n| n.parse().ok());
                    guest.bytes(size.unwrap_or(0))?;
                    transactions.push(recipient.clone());
                }
            }
            let take = |recipient: &str| {
                let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
                *taken.entry(recipient.to_owned()).or_default() += 1;
            };
            take(&transactions[0]);
            if mood == Mood::TakesAndResets {
                take(&transactions[1]);
            }
            guest.say("250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n250 2.0.0 Taken\r\n")?;
            answer(guest, Some(mood), "250 2.1.0 Ok")
        });
        config.push_str(&route(&domain(i), peer.address));
        peers.push(peer);
    }
    let server = Server::start(&config);
    let mut client = Client::hello(server.address);
    for n in ["first", "second"] {
        let to: Vec<String> = (0..moods.len())
            .map(|i| format!("<{n}@{}>", domain(i)))
            .collect();
        client.submit("<>", &to, &small(n));
    }
    go.store(true, Ordering::Release);
    server.wait_events("delivered", 2 * moods.len(), |_| true);
    let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    for (i, mood) in moods.into_iter().enumerate() {
        let about = |n: &str| -> Vec<Value> {
            let recipient = format!("{n}@{}", domain(i));
            let mut events = server.events();
            events.retain(|e| e["recipient"] == recipient.as_str());
            events
        };
        // Which of them is the first is the scheduler's choice.
        let mut stories = [about("first"), about("second")];
        stories.sort_by_key(Vec::len);
        assert_eq!(stories[0].len(), 1, "{mood:?}: {stories:#?}");
        let [deferred, delivered] = &stories[1][..] else {
            panic!("{mood:?}: {stories:#?}")
        };
        assert_eq!(deferred["kind"], "deferred", "{mood:?}: {stories:#?}");
        assert_eq!(delivered["kind"], "delivered", "{mood:?}: {stories:#?}");
        let cause = deferred["cause"].as_str().unwrap_or_default();
        assert!(
            cause.contains("it may have been delivered"),
            "{mood:?}: {stories:#?}"
        );
        for (story, copies) in stories
            .iter()
            .zip([1, 1 + usize::from(mood == Mood::TakesAndResets)])
        {
            let recipient = story[0]["recipient"].as_str().unwrap_or_default();
            let got = taken.get(&format!("RCPT TO:<{recipient}>"));
            assert_eq!(got, Some(&copies), "{mood:?}: {recipient}");
        }
    }
}

pub(crate) fn a_host_that_takes_no_connection() {
    use std::os::fd::AsRawFd;
    // Its backlog is full, so that the handshake is never answered.
    let full = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    // SAFETY: the descriptor is open and listens already; this only shortens its backlog.
    unsafe { libc::listen(full.as_raw_fd(), 0) };
    let address = full.local_addr().expect("a bound socket has an address");
    let filling: Vec<_> = (0..4)
        .map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)))
        .collect();
    assert!(filling.iter().any(Result::is_err), "the backlog isn't full");
    let friendly = Receiver::friendly();
    let server = Server::start(&format!(
        "{}[[route]]\ndomain = \"alone.test\"\nto = [\"{address}\"]\n\
         [[route]]\ndomain = \"backed.test\"\nto = [\"{address}\", \"{}\"]\n",
        impatient(),
        friendly.address
    ));
    Client::hello(server.address).submit(
        "<>",
        &["<x@alone.test>", "<x@backed.test>"],
        &small("full"),
    );
    let deferred = server.wait_event("deferred", |e| e["domain"] == "alone.test");
    let cause = deferred["cause"].as_str().unwrap_or_default();
    assert!(cause.contains("no connection within 3s"), "{deferred:#}");
    assert_eq!(
        (&deferred["class"], &deferred["scope"]),
        (&"network".into(), &"host".into()),
        "{deferred:#}"
    );
    assert_eq!(friendly.wait(1)[0].recipients(), ["x@backed.test"]);
}
