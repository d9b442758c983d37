//! Bytes that change on disk: what they spoil is told and set aside, the rest is delivered as it was
//! sent, and nothing is invented.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use courser::control::MessageId;
use courser::spool::EnvelopeView;
use courser::spool::record::{HEADER_BYTES, Header, Kind};
use courser_tests::client::{Client, small};
use courser_tests::disk::power::Seeded;
use courser_tests::receiver::{Answer, Receiver};
use courser_tests::server::{Server, scratch, smart_host};
use courser_tests::{eventually, say, setting, suite};
use serde_json::Value;

/// Rounds, unless `COURSER_DAMAGE_ROUNDS` says another number.
const ROUNDS: u64 = 6;
/// Messages of each round.
const MESSAGES: usize = 40;

/// A record of a segment, as it was before the damage.
struct Record {
    bytes: Range<usize>,
    /// Where its content begins.
    content: usize,
    kind: Kind,
    id: u64,
    /// The number of the message that was handed in, where the record is one.
    number: Option<usize>,
}

impl Record {
    fn head(&self) -> Range<usize> {
        self.bytes.start..self.content
    }
}

fn segments(spool: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(spool.join("segments"))
        .expect("segments")
        .map(|e| e.expect("a segment").path())
        .collect();
    files.sort();
    files
}

fn salt(file: &Path) -> u64 {
    let name = file.file_stem().and_then(|n| n.to_str()).expect("a name");
    let salt = name.split_once('-').expect("a salt").1;
    u64::from_str_radix(salt, 16).expect("a salt")
}

fn records(file: &Path, data: &[u8]) -> Vec<Record> {
    let salt = salt(file);
    let (mut records, mut at) = (Vec::new(), 0);
    while let Some(Ok(header)) = data.get(at..).map(|d| Header::decode(d, salt)) {
        let content = at + HEADER_BYTES + header.head_len as usize;
        let number = (header.kind == Kind::Message).then(|| {
            let view = EnvelopeView::parse(&data[at + HEADER_BYTES..content]);
            let view = view.expect("an envelope");
            let first = view.recipients().next().expect("a recipient");
            number(first.address)
        });
        records.push(Record {
            bytes: at..at + header.record_len() as usize,
            content,
            kind: header.kind,
            id: header.id,
            number,
        });
        at += header.record_len() as usize;
    }
    records
}

fn number(recipient: &str) -> usize {
    let digits: String = recipient
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().expect("a recipient with a number")
}

fn message(number: usize) -> Vec<u8> {
    let mut content = small(&format!("damage-{number}"));
    for line in 0..number % 11 * 30 {
        content.extend_from_slice(
            format!("{line:04} of {number:05}, and some more so that it is a line of mail\r\n")
                .as_bytes(),
        );
    }
    content
}

/// Takes `now…` at once and `later…` when the gate is open.
fn receiver(gate: &Arc<AtomicBool>) -> Receiver {
    let gate = gate.clone();
    Receiver::start(move |line| match line {
        l if l.starts_with("RCPT TO:<later") && !gate.load(Ordering::Acquire) => {
            Answer::say("451 4.2.1 Not now")
        }
        _ => Answer::Usual,
    })
}

fn server(dir: &Path, receiver: &Receiver) -> Server {
    Server::start_in(
        dir,
        &format!(
            "spool = {{ segment_size = \"64KiB\", reserve = \"64KiB\" }}\nlimits.body_memory = \"0B\"\n\
             delivery.limits = {{ connection_rate = \"1000/s\", message_rate = \"10000/s\" }}\n\
             [[stream]]\nretry = {{ intervals = [\"1h\"], life = \"2h\", jitter = \"0%\" }}\n{}",
            smart_host(receiver.address)
        ),
    )
}

/// Hands in `numbers` and waits until all that can be delivered now is.
fn hand_in(server: &Server, numbers: Range<usize>) {
    let mut client = Client::hello(server.address);
    for n in numbers.clone() {
        let to = [
            format!("<now{n}@d{}.test>", n % 3),
            format!("<later{n}@d{}.test>", n % 3),
        ];
        client.submit("<a@sender.test>", &to, &message(n));
    }
    let rested = eventually(20, || {
        let gauges = &server.ask(&["status", "--json"])[0]["gauges"];
        let rests = gauges["deferred"] == numbers.len() && server.queue().len() == numbers.len();
        rests.then_some(())
    });
    assert!(rested.is_some(), "{:#?}", server.queue());
}

/// The message of a row of the queue.
fn message_of(row: &Value) -> &str {
    let id = row["id"].as_str().expect("an id");
    id.split('.').next().expect("a message")
}

/// How often each recipient got its message; each copy must be what was sent.
fn arrived(receiver: &Receiver) -> HashMap<String, usize> {
    let mut arrived = HashMap::new();
    for mail in receiver.mails().iter().filter(|m| !m.sender().is_empty()) {
        for recipient in mail.recipients() {
            assert!(
                mail.without_received() == message(number(&recipient)),
                "{recipient} got something else:\n{}",
                mail.text()
            );
            *arrived.entry(recipient).or_default() += 1;
        }
    }
    arrived
}

/// A segment and what was done to it.
struct Spoiled {
    file: PathBuf,
    clean: Vec<u8>,
    data: Vec<u8>,
    /// What lay in it before.
    records: Vec<Record>,
}

impl Spoiled {
    fn new(file: &Path, clean: Vec<u8>, data: Vec<u8>) -> Self {
        assert_eq!(clean.len(), data.len());
        let records = records(file, &clean);
        let end = records.last().map_or(0, |r| r.bytes.end);
        assert_eq!(end, clean.len().next_multiple_of(8), "all of it is records");
        Self {
            file: file.to_owned(),
            clean,
            data,
            records,
        }
    }

    /// Whether any of these bytes is another now. Zeros over zeros are no damage.
    fn hit(&self, bytes: &Range<usize>) -> bool {
        let bytes = bytes.start..bytes.end.min(self.data.len());
        self.clean[bytes.clone()] != self.data[bytes]
    }

    /// The first and the last byte that are others, for messages about it.
    fn place(&self) -> Option<(usize, usize)> {
        let differ = |i: &usize| self.clean[*i] != self.data[*i];
        let all = 0..self.data.len();
        all.clone().find(differ).zip(all.rev().find(differ))
    }

    /// The event that names this segment and a range with all of this record.
    fn told_of<'a>(&self, record: &Record, events: &'a [Value]) -> Option<&'a Value> {
        let end = record.bytes.end.min(self.data.len());
        events.iter().find(|event| {
            let told = range(event);
            segment(event) == self.file && told.start <= record.bytes.start && told.end >= end
        })
    }
}

/// The bytes that an event of damage names.
fn range(event: &Value) -> Range<usize> {
    let at = |key: &str| event[key].as_u64().expect("an offset") as usize;
    at("from")..at("to")
}

fn segment(event: &Value) -> &Path {
    Path::new(event["path"].as_str().expect("a segment"))
}

/// Damages a few places of the segments, every other one in a head: those are few of the bytes.
fn spoil(files: &[PathBuf], random: &mut Seeded) -> Vec<Spoiled> {
    let read = |file: &PathBuf| {
        let data = std::fs::read(file).expect("a segment");
        Spoiled::new(file, data.clone(), data)
    };
    let mut spoiled: Vec<Spoiled> = files.iter().map(read).collect();
    for _ in 0..1 + random.below(6) {
        let segment = &mut spoiled[random.below(files.len() as u64) as usize];
        if segment.place().is_some() {
            continue;
        }
        let within = match random.below(2) {
            0 => 0..segment.data.len(),
            _ => {
                let which = random.below(segment.records.len() as u64) as usize;
                segment.records[which].head()
            }
        };
        let at = within.start + random.below(within.len() as u64) as usize;
        let len = match random.below(4) {
            0 => 1,
            1 => 1 + random.below(64),
            2 => 512,
            // A page of zeros, as some disks and file systems leave one.
            _ => 4096,
        };
        let end = (at + len as usize).min(segment.data.len());
        match len {
            4096 => segment.data[at..end].fill(0),
            _ => segment.data[at..end]
                .iter_mut()
                .for_each(|b| *b ^= 1 + random.below(255) as u8),
        }
        std::fs::write(&segment.file, &segment.data).expect("a segment");
    }
    spoiled
}

/// The events of damage. Each is about bytes that were damaged, and names a file in which they are.
fn set_aside(server: &Server, spoiled: &[Spoiled]) -> Vec<Value> {
    let told = server.events_of("damage");
    for event in &told {
        let kept = event["kept_in"].as_str().expect("where it is kept");
        let kept = std::fs::read(kept).expect("what was set aside");
        let bytes = range(event);
        if let Some(lay) = spoiled.iter().find(|s| s.file == segment(event)) {
            assert!(lay.hit(&bytes), "nothing was damaged there: {event}");
            assert!(kept == lay.data[bytes], "other bytes are kept: {event}");
            continue;
        }
        // Moved before it was read: a header of its new segment, and the content as it was found.
        let header = Header::decode(&kept, salt(segment(event))).expect("a record of its segment");
        assert_eq!(kept.len(), bytes.len(), "{event}");
        let id = MessageId(header.id).to_string();
        assert!(event["message"] == *id, "{id}: {event}");
        let moved = &kept[HEADER_BYTES + header.head_len as usize..][..header.body_len as usize];
        let lay = |s: &Spoiled| {
            let mut same = s.records.iter().filter(|r| r.id == header.id);
            same.any(|r| {
                let content = s.data.get(r.content..r.content + moved.len());
                r.kind == Kind::Message && s.hit(&r.bytes) && content == Some(moved)
            })
        };
        assert!(spoiled.iter().any(lay), "it never lay there: {event}");
    }
    told
}

pub(crate) fn while_it_is_stopped() {
    let rounds = setting("COURSER_DAMAGE_ROUNDS", ROUNDS);
    let seed = suite::seed().unwrap_or_else(|| setting("COURSER_SEED", 7));
    let mut random = Seeded::new(seed);
    let (mut records_hit, mut heads_hit, mut told) = (0, 0, 0);
    let (mut lost, mut kept_back, mut again) = (0, 0, 0);
    for round in 0..rounds {
        let dir = scratch();
        let gate = Arc::new(AtomicBool::new(false));
        let receiver = receiver(&gate);
        let mut server = server(dir.path(), &receiver);
        hand_in(&server, 0..MESSAGES);
        match round % 2 {
            0 => server.stop(),
            _ => server.kill9(),
        }
        let files = segments(&dir.path().join("spool"));
        let spoiled = spoil(&files, &mut random);
        let all = || {
            spoiled
                .iter()
                .flat_map(|s| s.records.iter().map(move |r| (s, r)))
        };
        // What the damage may do to which message.
        let (mut hit_message, mut hit_outcomes) = (BTreeSet::new(), BTreeSet::new());
        let numbers: HashMap<u64, usize> =
            all().filter_map(|(_, r)| Some((r.id, r.number?))).collect();
        for (_, record) in all().filter(|(s, r)| s.hit(&r.bytes)) {
            records_hit += 1;
            let number = numbers.get(&record.id).copied();
            match record.kind {
                Kind::Message => hit_message.extend(number),
                Kind::Outcomes | Kind::Tombstone | Kind::Endings => hit_outcomes.extend(number),
                Kind::Meta | Kind::Void => {}
            }
        }
        gate.store(true, Ordering::Release);
        server.restart();
        server.ask(&["queue", "retry", "--all", "--json"]);
        let came = |arrived: &HashMap<String, usize>, who: &str, n: usize| {
            arrived.contains_key(&format!("{who}{n}@d{}.test", n % 3))
        };
        let whole: BTreeSet<usize> = (0..MESSAGES).filter(|n| !hit_message.contains(n)).collect();
        let there = eventually(30, || {
            let arrived = arrived(&receiver);
            let all = whole.iter().all(|n| came(&arrived, "later", *n));
            all.then_some(())
        });
        let context = || {
            format!(
                "round {round}, seed {seed}: {:?} of {files:?}\n{}",
                spoiled.iter().map(Spoiled::place).collect::<Vec<_>>(),
                std::fs::read_to_string(dir.path().join("courser.log")).unwrap_or_default()
            )
        };
        assert!(
            there.is_some(),
            "not all of what is whole arrives: {}",
            context()
        );
        // What can't be read stays, and says why.
        let rest = eventually(20, || {
            let queue = server.queue();
            let stays = |d: &Value| {
                d["attempts"].as_u64() > Some(0)
                    && hit_message.contains(&number(d["recipient"].as_str().unwrap_or_default()))
            };
            queue.iter().all(stays).then_some(queue)
        });
        let rest = rest.unwrap_or_else(|| panic!("{:#?} {}", server.queue(), context()));
        let arrived = arrived(&receiver);
        for (recipient, copies) in &arrived {
            let number = number(recipient);
            again += copies - 1;
            assert!(
                *copies == 1 || hit_outcomes.contains(&number) || hit_message.contains(&number),
                "{recipient} got {copies}: {}",
                context()
            );
        }
        // Events of what was found by reading come a moment later.
        let told_of_all = eventually(20, || {
            let events = server.events_of("damage");
            let told = |row| events.iter().any(|e| e["message"] == message_of(row));
            rest.iter().all(told).then_some(())
        });
        assert!(
            told_of_all.is_some(),
            "{rest:#?} are kept back without an event of their damage: {}",
            context()
        );
        let events = set_aside(&server, &spoiled);
        told += events.len();
        // No head is stepped over in silence.
        for (segment, record) in all().filter(|(s, r)| s.hit(&r.head())) {
            heads_hit += 1;
            assert!(
                segment.told_of(record, &events).is_some(),
                "no event of the damage at {:?} of {:?}, message {:?}: {events:#?} {}",
                record.bytes,
                segment.file,
                record.number,
                context()
            );
        }
        if !events.is_empty() {
            let warnings = server.ask(&["status", "--json"])[0]["warnings"].to_string();
            assert!(
                warnings.contains("damaged records were found"),
                "{warnings}"
            );
        }
        kept_back += rest.len();
        // Each message arrives, or stays with its reason, or each record of it is told as damaged.
        for n in 0..MESSAGES {
            assert!(came(&arrived, "now", n), "now{n}: {}", context());
            let to = |row: &Value| number(row["recipient"].as_str().unwrap_or_default());
            if came(&arrived, "later", n) || rest.iter().any(|row| to(row) == n) {
                continue;
            }
            lost += 1;
            for (segment, record) in all().filter(|(_, r)| r.number == Some(n)) {
                let told = segment.told_of(record, &events);
                assert!(
                    segment.hit(&record.bytes) && told.is_some(),
                    "message {n} at {:?} of {:?} is lost without a word: {events:#?} {}",
                    record.bytes,
                    segment.file,
                    context()
                );
            }
        }
        server.stop();
        // The damage is out of the way, or told again; nothing comes back.
        server.restart();
        assert!(server.queue().len() <= rest.len(), "{}", context());
        server.kill9();
    }
    say(&format!(
        "damage while stopped, {rounds} rounds, seed {seed}: {records_hit} records hit, {heads_hit} of them in their heads, {told} events, {lost} messages lost with their records, {kept_back} kept back as unreadable, {again} copies too many; the rest delivered as it was sent\n"
    ));
    assert!(records_hit > 0 && heads_hit > 0 && told > 0);
}

pub(crate) fn while_it_runs() {
    let dir = scratch();
    let gate = Arc::new(AtomicBool::new(false));
    let receiver = receiver(&gate);
    let mut server = server(dir.path(), &receiver);
    hand_in(&server, 0..MESSAGES);
    let files = segments(&dir.path().join("spool"));
    let (mut victims, mut spoiled) = (BTreeSet::new(), Vec::new());
    for file in &files {
        let clean = std::fs::read(file).expect("a segment");
        let mut data = clean.clone();
        // In the content of the first message of each, but of the last one, which is written to.
        let records = records(file, &data);
        let first = records.iter().find(|r| r.number.is_some());
        if let Some(first) = first {
            let at = (first.content + first.bytes.end) / 2;
            data[at] ^= 0x20;
            let open = std::fs::File::options().write(true).open(file);
            open.and_then(|f| f.write_all_at(&data[at..=at], at as u64))
                .expect("a byte is written");
            victims.extend(first.number);
        }
        spoiled.push(Spoiled::new(file, clean, data));
    }
    assert!(victims.len() > 1, "{victims:?}");
    gate.store(true, Ordering::Release);
    server.ask(&["queue", "retry", "--all", "--json"]);
    receiver.wait(2 * MESSAGES - victims.len());
    let rest = eventually(20, || {
        let queue = server.queue();
        (queue.len() == victims.len()).then_some(queue)
    });
    let rest = rest.unwrap_or_else(|| panic!("{:#?}\n{}", server.queue(), server.log()));
    let arrived = arrived(&receiver);
    assert!(arrived.values().all(|n| *n == 1));
    for row in &rest {
        let recipient = row["recipient"].as_str().unwrap_or_default();
        assert!(
            victims.contains(&number(recipient)) && !arrived.contains_key(recipient),
            "{row}"
        );
        let id = message_of(row);
        server.wait_event("damage", |e| e["message"] == id);
        let event = server.wait_event("deferred", |e| {
            e["message"] == id && e.to_string().contains("damaged on disk")
        });
        assert_eq!(event["recipient"], row["recipient"]);
    }
    // One that is moved before it is read is set aside where it lay, and again where it lies now.
    let told = set_aside(&server, &spoiled);
    let about: BTreeSet<&str> = told.iter().filter_map(|e| e["message"].as_str()).collect();
    assert_eq!(about.len(), victims.len(), "{told:#?}");
    let warnings = server.ask(&["status", "--json"])[0]["warnings"].to_string();
    assert!(
        warnings.contains("damaged records were found"),
        "{warnings}"
    );
    // Whoever looks at it can do away with it.
    server.ask(&["queue", "bounce", "--all", "--json"]);
    server.wait_empty();
    let notified = eventually(20, || {
        let notices = receiver
            .mails()
            .iter()
            .filter(|m| m.sender().is_empty())
            .count();
        (notices == victims.len()).then_some(())
    });
    assert!(notified.is_some());
    server.stop();
}
