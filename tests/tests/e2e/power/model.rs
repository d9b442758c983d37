//! What must be, and what may be, in a spool after a power cut: read from the record of what was
//! written, without the code that recovers it.

use std::collections::{HashMap, HashSet};

use courser::spool::record::{HEADER_BYTES, Header, Kind, decode_outcomes};
use courser::spool::{EnvelopeView, OutcomeKind, Recovery, Spool};
use courser_tests::disk::Op;
use courser_tests::disk::power::Replay;
use courser_tests::disk::tree::ROOT;

/// The mark that a server is dead.
pub(super) const KILLED: u64 = u64::MAX - 1;
/// The mark that the next one is up: what it found at its start, it has acted on.
pub(super) const STARTED: u64 = u64::MAX;

/// A message that was handed in.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    pub(super) sender: String,
    pub(super) recipients: Vec<String>,
    /// As the client sent it; its subject is named after its number.
    pub(super) content: Vec<u8>,
}

/// A record of a segment, as it was written.
struct Written {
    end: usize,
    id: u64,
    what: What,
    durable: bool,
}

enum What {
    Message,
    /// Recipient, whether it ends, attempts so far.
    Outcomes(Vec<(u32, bool, u32)>),
    Tombstone,
    Other,
}

struct Segment {
    folder: u64,
    salt: u64,
    /// Where the next record begins.
    at: usize,
    synced: usize,
    /// What the last start found.
    found: usize,
    records: Vec<Written>,
    /// The records of a group that isn't whole yet.
    group: Vec<Written>,
}

struct Content {
    envelope: Vec<u8>,
    body: Vec<u8>,
}

/// What is known of a delivery.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    ends: bool,
    attempts: u32,
}

/// Everything that the record says up to a point.
#[derive(Default)]
pub(super) struct Model {
    segments: HashMap<u64, Segment>,
    /// Messages that were written, and those of which that is certain.
    written: HashMap<u64, Content>,
    durable: HashSet<u64>,
    /// What was written of deliveries, and what of it is certain.
    may: HashMap<(u64, u32), Known>,
    must: HashMap<(u64, u32), Known>,
    may_be_over: HashSet<u64>,
    must_be_over: HashSet<u64>,
    by_number: HashMap<usize, u64>,
    acknowledged: Vec<usize>,
    /// Ends of the records within the last write, as lengths of its data.
    pub(super) boundaries: Vec<usize>,
    pub(super) records: u64,
    pub(super) rolls: u64,
    pub(super) unlinked: u64,
    pub(super) moved: u64,
    pub(super) notifications: u64,
}

impl Model {
    /// The next thing that happened; `replay` has it already.
    ///
    /// # Panics
    /// When something was acknowledged that wasn't certain to be kept.
    pub(super) fn apply(&mut self, op: &Op, replay: &Replay, submissions: &[Submission]) {
        self.boundaries.clear();
        match op {
            Op::Create { file, folder, name } if *folder != ROOT => {
                let salt = name
                    .to_str()
                    .and_then(|n| n.strip_suffix(".log")?.split_once('-'))
                    .and_then(|(_, salt)| u64::from_str_radix(salt, 16).ok());
                if let Some(salt) = salt {
                    self.rolls += 1;
                    let segment = Segment {
                        folder: *folder,
                        salt,
                        at: 0,
                        synced: 0,
                        found: 0,
                        records: Vec::new(),
                        group: Vec::new(),
                    };
                    self.segments.insert(*file, segment);
                }
            }
            Op::Remove { name, .. } if name.to_string_lossy().ends_with(".log") => {
                self.unlinked += 1
            }
            Op::Write { file, at, .. } => self.read(*file, *at as usize, replay),
            Op::SetLen { file, len } => {
                if let Some(segment) = self.segments.get_mut(file) {
                    let len = *len as usize;
                    segment.group.clear();
                    segment.records.retain(|r| r.end <= len.next_multiple_of(8));
                    segment.at = segment.records.last().map_or(0, |r| r.end);
                    segment.synced = segment.synced.min(segment.at);
                }
            }
            Op::Sync { file } => {
                if let Some(segment) = self.segments.get_mut(file) {
                    segment.synced = segment.at;
                }
                self.settle(*file, replay, false);
            }
            Op::SyncFolder { .. } => {
                let files: Vec<u64> = self.segments.keys().copied().collect();
                files
                    .into_iter()
                    .for_each(|f| self.settle(f, replay, false));
            }
            Op::Note(KILLED) => self.segments.values_mut().for_each(|s| s.found = s.at),
            Op::Note(STARTED) => {
                let files: Vec<u64> = self.segments.keys().copied().collect();
                files.into_iter().for_each(|f| self.settle(f, replay, true));
            }
            Op::Note(number) => {
                let number = *number as usize;
                let id = self.by_number.get(&number);
                assert!(
                    id.is_some_and(|id| self.durable.contains(id)),
                    "250 was said to message {number}, {:?}, before it was synced",
                    submissions[number].recipients
                );
                self.acknowledged.push(number);
            }
            _ => {}
        }
    }

    /// Reads the records that became whole.
    fn read(&mut self, file: u64, wrote_at: usize, replay: &Replay) {
        let Some(segment) = self.segments.get_mut(&file) else {
            return;
        };
        let data = replay.now(file);
        let mut found = Vec::new();
        while let Some(Ok(header)) = data
            .get(segment.at..)
            .map(|d| Header::decode(d, segment.salt))
        {
            let head_at = segment.at + HEADER_BYTES;
            let body_at = head_at + header.head_len as usize;
            let end = body_at + header.body_len as usize;
            let Some(body) = data.get(body_at..end) else {
                break;
            };
            let head = &data[head_at..body_at];
            let what = match header.kind {
                Kind::Message => {
                    found.push((header.id, head.to_vec(), body.to_vec()));
                    What::Message
                }
                Kind::Outcomes => What::Outcomes(
                    decode_outcomes(head)
                        .expect("outcomes as they were written")
                        .into_iter()
                        .map(|o| match o.kind {
                            OutcomeKind::Deferred(d) => (o.recipient, false, d.attempts),
                            kind => (o.recipient, kind.ends(), 0),
                        })
                        .collect(),
                ),
                Kind::Tombstone => What::Tombstone,
                Kind::Meta | Kind::Void | Kind::Endings => What::Other,
            };
            self.records += 1;
            segment.at += header.record_len() as usize;
            self.boundaries.push(end.saturating_sub(wrote_at));
            segment.group.push(Written {
                end: segment.at,
                id: header.id,
                what,
                durable: false,
            });
            if !header.group_goes_on {
                for record in segment.group.drain(..) {
                    match &record.what {
                        What::Outcomes(outcomes) => {
                            learn(&mut self.may, record.id, outcomes);
                        }
                        What::Tombstone => drop(self.may_be_over.insert(record.id)),
                        What::Message | What::Other => {}
                    }
                    segment.records.push(record);
                }
            }
        }
        // The end of the write itself is the point after it.
        self.boundaries.pop();
        for (id, envelope, body) in found {
            let content = Content { envelope, body };
            if self.written.contains_key(&id) {
                self.moved += 1;
                continue;
            }
            if let Some(number) = number(&content.body) {
                self.by_number.insert(number, id);
            } else {
                self.notifications += 1;
            }
            self.written.insert(id, content);
        }
    }

    /// What is certain of a segment: what was synced, or what a start has found.
    fn settle(&mut self, file: u64, replay: &Replay, started: bool) {
        let Some(segment) = self.segments.get_mut(&file) else {
            return;
        };
        if !replay.is_named(segment.folder, file) {
            return;
        }
        for record in &mut segment.records {
            let certain = if started {
                segment.found
            } else {
                segment.synced
            };
            if record.durable || record.end > certain {
                continue;
            }
            record.durable = true;
            match &record.what {
                What::Message => drop(self.durable.insert(record.id)),
                What::Outcomes(outcomes) => learn(&mut self.must, record.id, outcomes),
                What::Tombstone => drop(self.must_be_over.insert(record.id)),
                What::Other => {}
            }
        }
    }

    fn may_have_ended(&self, id: u64, recipient: u32) -> bool {
        self.may_be_over.contains(&id) || self.may.get(&(id, recipient)).is_some_and(|k| k.ends)
    }

    fn must_have_ended(&self, id: u64, recipient: u32) -> bool {
        self.must_be_over.contains(&id) || self.must.get(&(id, recipient)).is_some_and(|k| k.ends)
    }

    /// How many messages are certain to be there, with a delivery that is certain to be open.
    pub(super) fn open(&self) -> usize {
        let open = |id: &&u64| {
            let view = EnvelopeView::parse(&self.written[*id].envelope).expect("an envelope");
            (0..view.recipients_len() as u32).any(|r| !self.may_have_ended(**id, r))
        };
        self.durable.iter().filter(open).count()
    }

    /// Compares what was recovered with what must and what may be there.
    ///
    /// # Errors
    /// The first difference, in words.
    pub(super) fn check(
        &self,
        spool: &Spool,
        recovery: &Recovery,
        submissions: &[Submission],
    ) -> Result<(), String> {
        let found: HashMap<u64, _> = recovery
            .messages
            .iter()
            .map(|m| (m.envelope.id(), m))
            .collect();
        for id in &self.durable {
            let view = EnvelopeView::parse(&self.written[id].envelope).expect("an envelope");
            for recipient in 0..view.recipients_len() as u32 {
                let open = found
                    .get(id)
                    .and_then(|m| m.open.iter().find(|o| o.recipient == recipient));
                if !self.may_have_ended(*id, recipient) && open.is_none() {
                    let number = number(&self.written[id].body);
                    return Err(format!(
                        "recipient {recipient} of message {id:x} ({number:?}) is lost"
                    ));
                }
            }
        }
        for number in &self.acknowledged {
            let id = self.by_number[number];
            let (content, sent) = (&self.written[&id], &submissions[*number]);
            let view = EnvelopeView::parse(&content.envelope).expect("an envelope");
            let recipients: Vec<&str> = view.recipients().map(|r| r.address).collect();
            if view.sender() != sent.sender
                || recipients != sent.recipients
                || !content.body.ends_with(&sent.content)
            {
                return Err(format!("message {number} is kept other than it was sent"));
            }
        }
        for (id, message) in found {
            let Some(content) = self.written.get(&id) else {
                return Err(format!("message {id:x} was never handed in"));
            };
            if message.envelope.as_bytes() != content.envelope {
                return Err(format!("message {id:x} has another envelope"));
            }
            match spool.read_body(id) {
                Ok(body) if body == content.body => {}
                Ok(_) => return Err(format!("message {id:x} has another content")),
                Err(error) => return Err(format!("message {id:x}: {error}")),
            }
            for open in &message.open {
                if self.must_have_ended(id, open.recipient) {
                    let recipient = open.recipient;
                    return Err(format!(
                        "recipient {recipient} of message {id:x} had ended and comes back"
                    ));
                }
                let attempts = open.last.as_ref().map_or(0, |d| d.attempts);
                let key = (id, open.recipient);
                let of = |map: &HashMap<_, Known>| map.get(&key).map_or(0, |k| k.attempts);
                if !(of(&self.must)..=of(&self.may)).contains(&attempts) {
                    return Err(format!(
                        "recipient {} of message {id:x} has {attempts} attempts, not {} to {}",
                        open.recipient,
                        of(&self.must),
                        of(&self.may)
                    ));
                }
            }
        }
        Ok(())
    }
}

fn learn(of: &mut HashMap<(u64, u32), Known>, id: u64, outcomes: &[(u32, bool, u32)]) {
    for (recipient, ends, attempts) in outcomes {
        let known = of.entry((id, *recipient)).or_default();
        known.ends |= ends;
        known.attempts = known.attempts.max(*attempts);
    }
}

/// The number in the subject of a message that was handed in.
fn number(body: &[u8]) -> Option<usize> {
    const FIELD: &[u8] = b"\nSubject: power-";
    let at = body.windows(FIELD.len()).position(|w| w == FIELD)? + FIELD.len();
    let digits = body[at..].split(|b| !b.is_ascii_digit()).next()?;
    // A notification quotes what it is about.
    let quoted = body.starts_with(b"From:") || !body.starts_with(b"Received:");
    (!quoted)
        .then(|| std::str::from_utf8(digits).ok()?.parse().ok())
        .flatten()
}
