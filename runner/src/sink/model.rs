//! What a receiver's manners mean for each connection, message and recipient, and what it counts.
//!
//! Order of calls: [`Receiver::arrive`] for each connection, then [`Receiver::mail`],
//! [`Receiver::rcpt`], [`Receiver::body`], [`Receiver::took`] as they come, and [`Receiver::leave`]
//! at the end. Nothing here knows sockets or clocks.
//!
//! Everything that looks random is a hash of the seed and of what is asked about: the same
//! recipient is unknown each time, and two runs with one seed see the same world.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use courser_core::time::Instant;
use courser_core::traffic::bucket::Bucket;
use serde::Serialize;

use super::behaviour::{Behaviour, Share, Stage};

/// Recipients that one receiver remembers; beyond, further ones aren't greylisted, and neither
/// [`Receiver::deliveries_to`] nor duplicates know them.
pub const REMEMBERED_MAX: usize = 5_000_000;

/// Names of refusals, in [`Counts::refused`] and for replies of one's own.
pub const REFUSALS: [&str; 10] = [
    "greylisted",
    "unknown",
    "full",
    "spam",
    "trouble",
    "busy",
    "rate",
    "connections",
    "messages",
    "recipients",
];

/// What a receiver counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Connections that were accepted.
    pub connections: u64,
    /// Connections that are open.
    pub connections_open: u64,
    /// Most connections at once.
    pub connections_peak: u64,
    /// Messages taken.
    pub messages: u64,
    /// Recipients that a message was taken for.
    pub recipients: u64,
    /// Recipients that got a message, by its Message-ID, again.
    pub duplicates: u64,
    /// Octets of the messages taken.
    pub bytes: u64,
    /// Connections that were closed without a word.
    pub dropped: u64,
    /// Refusals by name.
    pub refused: BTreeMap<&'static str, u64>,
    /// From the first message to the last one, ms.
    pub span_ms: u64,
}

impl Counts {
    /// These and those.
    pub fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.connections_open += other.connections_open;
        self.connections_peak += other.connections_peak;
        self.messages += other.messages;
        self.recipients += other.recipients;
        self.duplicates += other.duplicates;
        self.bytes += other.bytes;
        self.dropped += other.dropped;
        for (name, n) in &other.refused {
            *self.refused.entry(name).or_default() += n;
        }
        self.span_ms = self.span_ms.max(other.span_ms);
    }

    /// Refusals of this name.
    pub fn refused(&self, name: &str) -> u64 {
        self.refused.get(name).copied().unwrap_or(0)
    }
}

/// A refusal; a 421 ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its name, one of [`REFUSALS`].
    pub name: &'static str,
    code: u16,
    enhanced: EnhancedCode,
    text: &'static str,
}

impl Refusal {
    const fn new(name: &'static str, code: u16, status: (u16, u16), text: &'static str) -> Self {
        let enhanced = EnhancedCode::new((code / 100) as u8, status.0, status.1);
        Self {
            name,
            code,
            enhanced,
            text,
        }
    }

    /// As a reply, in the words of `behaviour` if it has some.
    pub fn reply<'a>(&self, behaviour: &'a Behaviour) -> Option<Reply<'a>>
    where
        Self: 'a,
    {
        let own = behaviour.replies.iter().find(|(name, _)| name == self.name);
        own.and_then(|(_, text)| text.reply())
            .or_else(|| self.usual())
    }

    fn usual(&self) -> Option<Reply<'static>> {
        Some(Reply {
            code: ReplyCode::new(self.code)?,
            enhanced: Some(self.enhanced),
            text: self.text.as_bytes(),
        })
    }
}

const GREYLISTED: Refusal = Refusal::new(
    "greylisted",
    451,
    (7, 1),
    "Greylisted, please try again later",
);
const UNKNOWN: Refusal = Refusal::new("unknown", 550, (1, 1), "No such user here");
const FULL: Refusal = Refusal::new("full", 452, (2, 2), "Mailbox full");
const SPAM: Refusal = Refusal::new("spam", 550, (7, 1), "Message rejected as spam");
const TROUBLE: Refusal = Refusal::new("trouble", 451, (3, 0), "Temporary local problem");
const BUSY: Refusal = Refusal::new("busy", 421, (3, 2), "Service busy, try again later");
const RATE: Refusal = Refusal::new(
    "rate",
    421,
    (7, 28),
    "Unusual rate of mail from your address, try again later",
);
const CONNECTIONS: Refusal = Refusal::new(
    "connections",
    421,
    (7, 0),
    "Too many concurrent connections from your address",
);
const MESSAGES: Refusal =
    Refusal::new("messages", 421, (7, 0), "Too many messages in this session");
const RECIPIENTS: Refusal = Refusal::new("recipients", 452, (5, 3), "Too many recipients");

/// One receiver: its manners, its memory and its counts.
#[derive(Debug)]
pub struct Receiver {
    behaviour: Behaviour,
    seed: u64,
    clients: HashMap<IpAddr, Client>,
    serial: u64,
    bodies: u64,
    first_seen: Map<Instant>,
    taken: Map<u32>,
    seen: HashSet<u64, BuildHasherDefault<Mixed>>,
    first_message: Option<Instant>,
    counts: Counts,
}

/// What is known of a client address.
#[derive(Debug, Default)]
struct Client {
    open: u32,
    messages: Bucket,
    connections: Bucket,
}

/// One connection to a receiver.
#[derive(Debug)]
pub struct Visit {
    client: IpAddr,
    /// Its number, from 1.
    pub serial: u64,
    drop: Option<Dropping>,
    commands: u32,
    messages: u32,
    recipients: u32,
    refused: bool,
}

/// When a connection is closed without a word.
#[derive(Clone, Copy, Debug)]
enum Dropping {
    At(Stage),
    AfterCommands(u32),
}

impl Receiver {
    /// A receiver that hasn't seen anything.
    pub fn new(behaviour: Behaviour, seed: u64) -> Self {
        Self {
            behaviour,
            seed,
            clients: HashMap::new(),
            serial: 0,
            bodies: 0,
            first_seen: Map::default(),
            taken: Map::default(),
            seen: HashSet::default(),
            first_message: None,
            counts: Counts::default(),
        }
    }

    /// What it counted so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How often it took a message for this recipient.
    pub fn deliveries_to(&self, recipient: &str) -> u32 {
        let key = self.recipient_key(recipient);
        self.taken.get(&key).copied().unwrap_or(0)
    }

    /// A client connects. A refusal stands in the place of the greeting.
    pub fn arrive(&mut self, now: Instant, client: IpAddr) -> (Visit, Option<Refusal>) {
        self.serial += 1;
        let counts = &mut self.counts;
        counts.connections += 1;
        counts.connections_open += 1;
        counts.connections_peak = counts.connections_peak.max(counts.connections_open);
        let known = self.clients.entry(client).or_default();
        known.open += 1;

        let manners = &self.behaviour;
        let over = |limit: u32, n: u64| limit > 0 && n > u64::from(limit);
        let luck = |salt: u64| hash(self.seed ^ salt, &self.serial.to_le_bytes());
        let rate = manners.connection_rate;
        let refusal = if over(manners.connections, counts.connections_open)
            || over(manners.connections_per_client, u64::from(known.open))
        {
            Some(CONNECTIONS)
        } else if rate.is_some_and(|rate| !known.connections.try_take(rate, now, 1)) {
            Some(RATE)
        } else if manners.busy.takes(luck(3)) {
            Some(BUSY)
        } else {
            None
        };
        let visit = Visit {
            client,
            serial: self.serial,
            drop: drop_of(manners, luck(0)),
            commands: 0,
            messages: 0,
            recipients: 0,
            refused: refusal.is_some(),
        };
        (visit, refusal.map(|refusal| self.refuse(refusal)))
    }

    /// The connection ended.
    pub fn leave(&mut self, visit: &Visit) {
        self.counts.connections_open = self.counts.connections_open.saturating_sub(1);
        let keeps =
            self.behaviour.message_rate.is_some() || self.behaviour.connection_rate.is_some();
        if let Some(client) = self.clients.get_mut(&visit.client) {
            client.open = client.open.saturating_sub(1);
            if client.open == 0 && !keeps {
                self.clients.remove(&visit.client);
            }
        }
    }

    /// The session is at this stage; `true` if the connection is dropped here without a word.
    pub fn drops(&mut self, visit: &mut Visit, stage: Stage) -> bool {
        visit.commands += 1;
        let drops = match visit.drop {
            Some(Dropping::At(at)) => at == stage,
            // Taken and not told would be a duplicate each time; that is asked for by name.
            Some(Dropping::AfterCommands(n)) => visit.commands > n && stage < Stage::Accept,
            None => false,
        };
        self.counts.dropped += u64::from(drops);
        drops
    }

    /// How long to wait before replies of which so many are refusals, and whether one says that a
    /// message is taken.
    pub fn delay(&self, visit: &Visit, refusals: u32, accepted: bool) -> Duration {
        let mut delay = self.behaviour.latency;
        if visit.refused {
            delay += self.behaviour.tarpit * refusals;
        }
        if accepted {
            delay += self.behaviour.delay_accept;
        }
        delay
    }

    /// MAIL.
    pub fn mail(&mut self, now: Instant, visit: &mut Visit) -> Option<Refusal> {
        visit.recipients = 0;
        let limit = self.behaviour.messages_per_connection;
        let refusal = if limit > 0 && visit.messages >= limit {
            MESSAGES
        } else if self.is_too_fast(now, visit.client) {
            RATE
        } else {
            visit.messages += 1;
            return None;
        };
        visit.refused = true;
        Some(self.refuse(refusal))
    }

    /// RCPT.
    pub fn rcpt(&mut self, now: Instant, visit: &mut Visit, recipient: &str) -> Option<Refusal> {
        let key = self.recipient_key(recipient);
        let lucky = |share: Share, salt: u64| {
            !share.is_none() && share.takes(hash(self.seed ^ salt, &key.to_le_bytes()))
        };
        let limit = self.behaviour.recipients_per_transaction;
        let refusal = if lucky(self.behaviour.unknown, 1) {
            UNKNOWN
        } else if lucky(self.behaviour.full, 2)
            && self.is_within(now, key, self.behaviour.full_for.unwrap_or(Duration::MAX))
        {
            FULL
        } else if let Some(wait) = self.behaviour.greylist
            && self.is_within(now, key, wait)
        {
            GREYLISTED
        } else if limit > 0 && visit.recipients >= limit {
            RECIPIENTS
        } else {
            visit.recipients += 1;
            return None;
        };
        visit.refused = true;
        Some(self.refuse(refusal))
    }

    /// The whole body came; whether it is taken.
    pub fn body(&mut self, visit: &mut Visit, first_recipient: &str) -> Option<Refusal> {
        self.bodies += 1;
        let manners = &self.behaviour;
        let refusal = if !manners.spam.is_none() && {
            let key = self.recipient_key(first_recipient);
            manners.spam.takes(hash(self.seed ^ 4, &key.to_le_bytes()))
        } {
            SPAM
        } else if manners
            .trouble
            .takes(hash(self.seed ^ 5, &self.bodies.to_le_bytes()))
        {
            TROUBLE
        } else {
            return None;
        };
        visit.refused = true;
        Some(self.refuse(refusal))
    }

    /// A message of so many octets was taken; then [`Receiver::took_for`] for its recipients.
    pub fn took(&mut self, now: Instant, bytes: u64) {
        let first = *self.first_message.get_or_insert(now);
        self.counts.span_ms = u64::try_from(now.since(first).as_millis()).unwrap_or(u64::MAX);
        self.counts.messages += 1;
        self.counts.bytes += bytes;
    }

    /// The message was taken for this recipient.
    pub fn took_for(&mut self, recipient: &str, message_id: Option<&[u8]>) {
        self.counts.recipients += 1;
        let key = self.recipient_key(recipient);
        if self.taken.len() >= REMEMBERED_MAX && !self.taken.contains_key(&key) {
            return;
        }
        *self.taken.entry(key).or_default() += 1;
        if let Some(id) = message_id
            && !self.seen.insert(hash(key, id))
        {
            self.counts.duplicates += 1;
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> Refusal {
        *self.counts.refused.entry(refusal.name).or_default() += 1;
        refusal
    }

    fn is_too_fast(&mut self, now: Instant, client: IpAddr) -> bool {
        self.behaviour.message_rate.is_some_and(|rate| {
            let client = self.clients.entry(client).or_default();
            !client.messages.try_take(rate, now, 1)
        })
    }

    /// Whether this recipient was first tried less than `wait` ago.
    fn is_within(&mut self, now: Instant, key: u64, wait: Duration) -> bool {
        if self.first_seen.len() >= REMEMBERED_MAX && !self.first_seen.contains_key(&key) {
            return false;
        }
        let first = *self.first_seen.entry(key).or_insert(now);
        now.since(first) < wait
    }

    fn recipient_key(&self, recipient: &str) -> u64 {
        hash_lower(self.seed, recipient.as_bytes())
    }
}

fn drop_of(manners: &Behaviour, luck: u64) -> Option<Dropping> {
    let is_chosen = match (manners.close_after, manners.drop) {
        (Some(_), share) if share.is_none() => true,
        (_, share) => share.takes(luck),
    };
    let anywhere = Dropping::AfterCommands(2 + (luck % 8) as u32);
    is_chosen.then(|| manners.close_after.map_or(anywhere, Dropping::At))
}

/// FNV-1a, finished with a mixer so that the high bits are evenly spread.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(start(seed), |h, &b| step(h, b)))
}

fn hash_lower(seed: u64, bytes: &[u8]) -> u64 {
    let lower = bytes.iter().map(u8::to_ascii_lowercase);
    mix(lower.fold(start(seed), step))
}

fn start(seed: u64) -> u64 {
    0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn step(h: u64, b: u8) -> u64 {
    (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
}

fn mix(mut h: u64) -> u64 {
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

/// A map over keys that are hashes already.
type Map<V> = HashMap<u64, V, BuildHasherDefault<Mixed>>;

/// Takes a number that is evenly spread as its own hash.
#[derive(Clone, Copy, Debug, Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(self.0, bytes);
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn at(s: u64) -> Instant {
        Instant::from_nanos(s * 1_000_000_000)
    }

    fn receiver(behaviour: Behaviour) -> (Receiver, Visit) {
        let mut r = Receiver::new(behaviour, 7);
        let (v, refused) = r.arrive(at(0), CLIENT);
        assert!(refused.is_none());
        (r, v)
    }

    fn name(refusal: Option<Refusal>) -> &'static str {
        refusal.map_or("", |r| r.name)
    }

    #[test]
    fn shares_are_shares_and_the_same_each_time() {
        let (mut r, mut v) = receiver(Behaviour {
            unknown: Share::new(0.1),
            ..Behaviour::default()
        });
        let unknown = |r: &mut Receiver, v: &mut Visit| -> Vec<usize> {
            let users = 0..10_000;
            users
                .filter(|i| r.rcpt(at(0), v, &format!("user{i}@a.test")).is_some())
                .collect()
        };
        let first = unknown(&mut r, &mut v);
        assert!((900..1100).contains(&first.len()), "{}", first.len());
        assert_eq!(first, unknown(&mut r, &mut v));
    }

    #[test]
    fn greylisting_and_full_mailboxes_pass_after_their_time() {
        let (mut r, mut v) = receiver(Behaviour {
            greylist: Some(Duration::from_secs(10)),
            ..Behaviour::default()
        });
        let mut try_at = |s| name(r.rcpt(at(s), &mut v, "A@a.test"));
        assert_eq!(
            (try_at(0), try_at(9), try_at(10)),
            ("greylisted", "greylisted", "")
        );

        let (mut r, mut v) = receiver(Behaviour {
            full: Share::new(1.0),
            full_for: Some(Duration::from_secs(5)),
            ..Behaviour::default()
        });
        let mut try_at = |s| name(r.rcpt(at(s), &mut v, "A@a.test"));
        assert_eq!((try_at(0), try_at(5)), ("full", ""));
    }

    #[test]
    fn limits_are_kept_and_counted() {
        let (mut r, mut v) = receiver(Behaviour {
            connections_per_client: 1,
            messages_per_connection: 1,
            recipients_per_transaction: 1,
            ..Behaviour::default()
        });
        let (second, refused) = r.arrive(at(0), CLIENT);
        assert_eq!(name(refused), "connections");
        let (third, refused) = r.arrive(at(0), [127, 0, 0, 9].into());
        assert_eq!(name(refused), "");
        r.leave(&second);
        r.leave(&third);
        assert!(r.mail(at(0), &mut v).is_none());
        assert!(r.rcpt(at(0), &mut v, "a@a.test").is_none());
        assert_eq!(name(r.rcpt(at(0), &mut v, "b@a.test")), "recipients");
        assert_eq!(name(r.mail(at(0), &mut v)), "messages");
        for (s, id) in [(0, "<1@a>"), (2, "<2@a>"), (3, "<2@a>")] {
            r.took(at(s), 10);
            r.took_for("A@a.test", Some(id.as_bytes()));
        }
        let counts = r.counts();
        assert_eq!(
            (counts.messages, counts.duplicates, counts.span_ms),
            (3, 1, 3000)
        );
        assert_eq!((counts.connections_peak, counts.connections_open), (3, 1));
        assert_eq!(r.deliveries_to("a@a.test"), 3);
    }

    #[test]
    fn rates_are_for_each_client() {
        let (mut r, mut v) = receiver(Behaviour {
            message_rate: Some("1/s".parse().unwrap()),
            ..Behaviour::default()
        });
        let (mut other, _) = r.arrive(at(0), [127, 0, 0, 9].into());
        assert!(r.mail(at(0), &mut v).is_none());
        assert_eq!(name(r.mail(at(0), &mut v)), "rate");
        assert!(r.mail(at(0), &mut other).is_none());
        assert!(r.mail(at(1), &mut v).is_none());
    }

    #[test]
    fn connections_are_dropped_where_they_should_be() {
        let (mut r, mut v) = receiver(Behaviour {
            close_after: Some(Stage::Accept),
            ..Behaviour::default()
        });
        assert!(!r.drops(&mut v, Stage::Body));
        assert!(r.drops(&mut v, Stage::Accept));
        assert_eq!(r.counts().dropped, 1);

        let (mut r, _) = receiver(Behaviour {
            drop: Share::new(0.25),
            ..Behaviour::default()
        });
        let dropped = (0..1000).filter(|_| {
            let (mut v, _) = r.arrive(at(0), CLIENT);
            (0..20).any(|_| r.drops(&mut v, Stage::Mail))
        });
        assert!((200..300).contains(&dropped.count()));
    }

    #[test]
    fn replies_can_be_ones_own() {
        let mut behaviour = Behaviour::default();
        let usual = RATE.reply(&behaviour).map(|r| r.to_string());
        assert_eq!(
            usual.as_deref(),
            Some("421 4.7.28 Unusual rate of mail from your address, try again later")
        );
        behaviour.replies = vec![("rate".into(), "451 4.7.0 [TSS04] later".parse().unwrap())];
        assert_eq!(RATE.reply(&behaviour).map(|r| r.code.get()), Some(451));
        for refusal in [
            GREYLISTED,
            UNKNOWN,
            FULL,
            SPAM,
            TROUBLE,
            BUSY,
            RATE,
            CONNECTIONS,
            MESSAGES,
            RECIPIENTS,
        ] {
            assert!(REFUSALS.contains(&refusal.name) && refusal.usual().is_some());
        }
    }
}
