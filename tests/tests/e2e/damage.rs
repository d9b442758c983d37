//! Bytes that change on disk: what they spoil is told and set aside, the rest is delivered as it was
//! sent, and nothing is invented.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use courser::spool::EnvelopeView;
use courser::spool::record::{HEADER_BYTES, Header, Kind};
use courser_tests::client::{Client, small};
use courser_tests::disk::power::Seeded;
use courser_tests::receiver::{Answer, Receiver};
use courser_tests::server::{Server, scratch, smart_host};
use courser_tests::{eventually, say, setting, suite};

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

fn segments(spool: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(spool.join("segments"))
        .expect("segments")
        .map(|e| e.expect("a segment").path())
        .collect();
    files.sort();
    files
}

fn records(file: &Path, data: &[u8]) -> Vec<Record> {
    let name = file.file_stem().and_then(|n| n.to_str()).expect("a name");
    let salt = name.split_once('-').expect("a salt").1;
    let salt = u64::from_str_radix(salt, 16).expect("a salt");
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
fn message_of(row: &serde_json::Value) -> &str {
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

/// A segment that was damaged: the damaged bytes, if any, and what lay in it before.
struct Spoiled {
    hit: Range<usize>,
    records: Vec<Record>,
    len: usize,
}

/// Damages a few places of the segments.
fn spoil(files: &[PathBuf], random: &mut Seeded) -> Vec<Spoiled> {
    let clean: Vec<Vec<u8>> = files
        .iter()
        .map(|f| std::fs::read(f).expect("a segment"))
        .collect();
    let mut spoiled = vec![0..0; files.len()];
    for _ in 0..1 + random.below(4) {
        let which = random.below(files.len() as u64) as usize;
        if !spoiled[which].is_empty() {
            continue;
        }
        let mut data = clean[which].clone();
        let at = random.below(data.len() as u64) as usize;
        let len = match random.below(4) {
            0 => 1,
            1 => 1 + random.below(64),
            2 => 512,
            // A page of zeros, as some disks and file systems leave one.
            _ => 4096,
        };
        let hit = at..(at + len as usize).min(data.len());
        match len {
            4096 => data[hit.clone()].fill(0),
            _ => data[hit.clone()]
                .iter_mut()
                .for_each(|b| *b ^= 1 + random.below(255) as u8),
        }
        std::fs::write(&files[which], &data).expect("a segment");
        spoiled[which] = hit;
    }
    let all = files.iter().zip(&clean).zip(spoiled);
    all.map(|((file, data), hit)| Spoiled {
        hit,
        records: records(file, data),
        len: data.len(),
    })
    .collect()
}

/// Every event of damage names a file in which the bytes are.
fn set_aside(server: &Server) -> Vec<serde_json::Value> {
    let told = server.events_of("damage");
    for event in &told {
        let kept = event["kept_in"].as_str().expect("where it is kept");
        let len = event["to"].as_u64().zip(event["from"].as_u64());
        let len = len.map(|(to, from)| to - from);
        assert_eq!(
            std::fs::metadata(kept).ok().map(|m| m.len()),
            len,
            "{event}"
        );
    }
    told
}

pub(crate) fn while_it_is_stopped() {
    let rounds = setting("COURSER_DAMAGE_ROUNDS", ROUNDS);
    let seed = suite::seed().unwrap_or_else(|| setting("COURSER_SEED", 7));
    let mut random = Seeded::new(seed);
    let (mut records_hit, mut lost, mut kept_back, mut again, mut told) = (0, 0, 0, 0, 0);
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
        // What the damage may do to which message.
        let (mut hit_message, mut hit_outcomes) = (HashSet::new(), HashSet::new());
        let mut heads_hit = 0;
        let mut numbers = HashMap::new();
        for record in spoiled.iter().flat_map(|s| &s.records) {
            numbers.extend(record.number.map(|n| (record.id, n)));
        }
        for Spoiled { hit, records, len } in &spoiled {
            let end = records.last().map_or(0, |r| r.bytes.end);
            assert_eq!(end, len.next_multiple_of(8), "all of it is records");
            let hits = |b: &Range<usize>| b.start < hit.end && hit.start < b.end;
            for record in records.iter().filter(|r| hits(&r.bytes)) {
                records_hit += 1;
                let number = numbers.get(&record.id).copied();
                match record.kind {
                    Kind::Message => hit_message.extend(number),
                    Kind::Outcomes | Kind::Tombstone | Kind::Endings => hit_outcomes.extend(number),
                    Kind::Meta | Kind::Void => {}
                }
                heads_hit += u32::from(hits(&(record.bytes.start..record.content)));
            }
        }
        gate.store(true, Ordering::Release);
        server.restart();
        server.ask(&["queue", "retry", "--all", "--json"]);
        let whole: BTreeSet<usize> = (0..MESSAGES).filter(|n| !hit_message.contains(n)).collect();
        let there = eventually(30, || {
            let arrived = arrived(&receiver);
            let all = whole
                .iter()
                .all(|n| arrived.contains_key(&format!("later{n}@d{}.test", n % 3)));
            all.then_some(())
        });
        let context = || {
            format!(
                "round {round}, seed {seed}: {:?} of {files:?}\n{}",
                spoiled.iter().map(|s| &s.hit).collect::<Vec<_>>(),
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
            let stays = |d: &serde_json::Value| {
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
        let events = set_aside(&server);
        told += events.len();
        assert!(
            heads_hit == 0 || !events.is_empty(),
            "no event of the damage: {}",
            context()
        );
        if !events.is_empty() {
            let warnings = server.ask(&["status", "--json"])[0]["warnings"].to_string();
            assert!(
                warnings.contains("damaged records were found"),
                "{warnings}"
            );
        }
        kept_back += rest.len();
        let stays = |n: usize| {
            let to =
                |row: &serde_json::Value| number(row["recipient"].as_str().unwrap_or_default());
            rest.iter().any(|row| to(row) == n)
        };
        let came = |n: usize| arrived.contains_key(&format!("later{n}@d{}.test", n % 3));
        lost += hit_message
            .iter()
            .filter(|n| !came(**n) && !stays(**n))
            .count();
        server.stop();
        // The damage is out of the way, or told again; nothing comes back.
        server.restart();
        assert!(server.queue().len() <= rest.len(), "{}", context());
        server.kill9();
    }
    say(&format!(
        "damage while stopped, {rounds} rounds, seed {seed}: {records_hit} records hit, {told} events, {lost} messages lost with their records, {kept_back} kept back as unreadable, {again} copies too many; the rest delivered as it was sent\n"
    ));
    assert!(records_hit > 0 && told > 0);
}

pub(crate) fn while_it_runs() {
    let dir = scratch();
    let gate = Arc::new(AtomicBool::new(false));
    let receiver = receiver(&gate);
    let mut server = server(dir.path(), &receiver);
    hand_in(&server, 0..MESSAGES);
    let files = segments(&dir.path().join("spool"));
    let mut victims = BTreeSet::new();
    for file in &files {
        let data = std::fs::read(file).expect("a segment");
        let records = records(file, &data);
        // In the content of the first message of each, but of the last one, which is written to.
        let first = records.iter().find(|r| r.number.is_some());
        if let Some(first) = first {
            let at = (first.content + first.bytes.end) / 2;
            let open = std::fs::File::options().write(true).open(file);
            open.and_then(|f| f.write_all_at(&[data[at] ^ 0x20], at as u64))
                .expect("a byte is written");
            victims.extend(first.number);
        }
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
    let told = set_aside(&server);
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
