//! What has to be true, whatever happens: the world's own books, kept beside the server's.
//!
//! | checker | says |
//! |---|---|
//! | [`World::count`](crate::counting) | after every step, conservation: each open delivery is in exactly one place, and none that isn't |
//! | [`Watch`](crate::network::Watch) | no limit is exceeded, measured on the wire |
//! | [`World::check_order`] | first in, first out; classes, tenants and campaigns take their turns |
//! | [`Books::deferred`], [`Books::tried`] | retries as the schedule says, and not before |
//! | [`World::count`](crate::counting) | after every step: what is due isn't left waiting, and what waits in a lane has somebody who will come for it |
//! | [`Books::ended`], [`World::check_the_end`] | one end for each delivery, within its life and a bound |
//! | [`Books::received`] | no second copy but for what RFC 1047 or a crash excuses, and nothing that was not sent |
//! | [`Books::recovered`] | after a crash nothing that got 250 is lost, nothing comes back that was on disk as ended, nothing is invented |
//! | [`World::check_damage`] | a start reports damage only where the disk lost or tore a write |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use courser::config::Retry;
use courser::spool::{DamageKind, OutcomeKind, Recovery};
use courser_core::time::Instant;
use courser_core::traffic::scheduler::{Class, DeliveryId, LaneId, Where};

use crate::disk::Harm;
use crate::keeping::WALL_BEGINS_MS;
use crate::shape::How;
use crate::world::World;

/// Where a message is with its submitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum With {
    /// Not handed in, or refused for now.
    Submitter,
    /// Appended; no answer yet.
    Spool,
    /// It got 250.
    Server,
}

/// What became of one recipient.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recipient {
    pub(crate) ended: Option<&'static str>,
    pub(crate) attempts: u32,
    /// The next attempt, as it was decided.
    pub(crate) due: Option<Instant>,
    /// Copies that receivers took.
    pub(crate) copies: u32,
    /// Copies more than one that are excused.
    pub(crate) excuses: u32,
    /// A session has it now.
    pub(crate) in_flight: bool,
    /// The last [`Books::round`] in which it was found in the queue.
    pub(crate) counted: u64,
}

/// One message.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) with: With,
    pub(crate) tenant: u32,
    pub(crate) campaign: u32,
    pub(crate) class: Class,
    pub(crate) ids: Vec<u64>,
    pub(crate) body: bytes::Bytes,
    pub(crate) received: Instant,
    /// The end of its life.
    pub(crate) expires: Instant,
    /// After a restart it lives until then at the least.
    pub(crate) last_chance: Instant,
    /// It may not go before.
    pub(crate) held: Option<Instant>,
    pub(crate) recipients: Vec<Recipient>,
    /// A notification: whose ends it tells.
    pub(crate) tells: Option<(u32, Vec<u32>)>,
}

/// Records on their way to the disk.
pub(crate) type Changed = Vec<(u32, u32)>;

/// The world's books.
#[derive(Default)]
pub(crate) struct Books {
    pub(crate) mails: Vec<Mail>,
    pub(crate) by_id: BTreeMap<u64, u32>,
    /// Recipients of messages that got 250 and have not ended.
    pub(crate) open: u64,
    /// Of these, those on their way between shards.
    pub(crate) moving: u64,
    /// How often all was counted.
    pub(crate) round: u64,
    /// Changed, and the change is in memory only.
    pub(crate) in_memory: Changed,
    /// And those whose change is written and not synced.
    pub(crate) unsynced: Changed,
    /// And those whose change waits for a notification to be on disk.
    pub(crate) noticed: BTreeSet<(u32, u32)>,
    pub(crate) deliveries: u64,
    pub(crate) delivered: u64,
    pub(crate) bounced: u64,
    pub(crate) expired: u64,
    pub(crate) deferrals: u64,
    pub(crate) duplicates: u64,
    pub(crate) reopened: u64,
    /// Warnings of starts.
    pub(crate) damaged: u64,
}

impl Books {
    pub(crate) fn recipient(&mut self, key: u32, recipient: u32) -> &mut Recipient {
        &mut self.mails[key as usize].recipients[recipient as usize]
    }

    /// A message got 250.
    pub(crate) fn accepted(&mut self, key: u32) {
        let mail = &mut self.mails[key as usize];
        mail.with = With::Server;
        let open = mail.recipients.iter().filter(|r| r.ended.is_none()).count() as u64;
        self.open += open;
        self.deliveries += open;
    }

    /// A session was given a delivery.
    pub(crate) fn tried(
        &mut self,
        now: Instant,
        key: u32,
        recipient: u32,
        slack: Duration,
    ) -> Result<(), String> {
        let r = self.recipient(key, recipient);
        if let Some(end) = r.ended {
            return Err(format!("m{key}-{recipient} is tried although it has {end}"));
        }
        if r.in_flight {
            return Err(format!("m{key}-{recipient} is with two sessions"));
        }
        if let Some(due) = r.due
            && now + slack < due
        {
            return Err(format!(
                "m{key}-{recipient} is tried {:?} before its time",
                due.since(now)
            ));
        }
        r.in_flight = true;
        Ok(())
    }

    /// A delivery is to be tried again.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn deferred(
        &mut self,
        now: Instant,
        key: u32,
        recipient: u32,
        attempts: u32,
        wait: Duration,
        hint: Option<Duration>,
        retry: &Retry,
    ) -> Result<(), String> {
        self.deferrals += 1;
        let expires = self.mails[key as usize].expires;
        let r = self.recipient(key, recipient);
        if r.ended.is_some() {
            return Err(format!("m{key}-{recipient} is deferred after its end"));
        }
        if attempts != r.attempts + 1 {
            return Err(format!(
                "m{key}-{recipient}: attempt {attempts} after attempt {}",
                r.attempts
            ));
        }
        r.attempts = attempts;
        r.due = Some(now + wait);
        r.in_flight = false;
        // The schedule by the book.
        let n = attempts.max(1) as usize - 1;
        let plain = match retry.intervals.get(n).or(retry.intervals.last()) {
            Some(wait) => wait.as_secs_f64(),
            None => (retry.first.as_secs_f64() * retry.factor.powi(n as i32))
                .min(retry.max.as_secs_f64()),
        };
        let jitter = f64::from(retry.jitter.0) / 100.0;
        let (low, high) = (plain * (1.0 - jitter), plain * (1.0 + jitter));
        let hinted = hint.map_or(0.0, |h| h.as_secs_f64());
        // Each wait is the one before in whole milliseconds, times the factor.
        let rounded = 0.01 + plain * 0.002;
        let latest = high.max(hinted * (1.0 + jitter)).max(1.0) + rounded;
        let waits = wait.as_secs_f64();
        if waits + rounded < low || waits > latest {
            return Err(format!(
                "m{key}-{recipient} waits {waits} s after attempt {attempts}, not {low} to {latest} s"
            ));
        }
        // A wish is followed, unless the message's life is over by then. How long it was to be held is
        // kept in whole seconds, and its life may end so much earlier.
        let with_jitter = Duration::from_secs_f64(hinted * (1.0 + jitter) + 1.01);
        if waits + 0.01 < hinted && now + with_jitter < expires {
            return Err(format!(
                "m{key}-{recipient} waits {waits} s, and the receiver wants {hinted} s"
            ));
        }
        self.in_memory.push((key, recipient));
        Ok(())
    }

    /// A delivery has ended.
    pub(crate) fn ended(
        &mut self,
        now: Instant,
        key: u32,
        recipient: u32,
        kind: &OutcomeKind,
        slack: Duration,
    ) -> Result<(), String> {
        let mail = &mut self.mails[key as usize];
        let late = now.since(mail.expires.max(mail.last_chance) + slack);
        let r = &mut mail.recipients[recipient as usize];
        let word = match kind {
            OutcomeKind::Delivered => "been delivered",
            OutcomeKind::Bounced => "bounced",
            _ => "expired",
        };
        if mail.with != With::Server {
            return Err(format!(
                "m{key}-{recipient} has {word} and was never accepted"
            ));
        }
        if let Some(end) = r.ended {
            return Err(format!("m{key}-{recipient} has {word} after it has {end}"));
        }
        if !late.is_zero() {
            return Err(format!("m{key}-{recipient} has {word} {late:?} too late"));
        }
        let counted = match kind {
            OutcomeKind::Delivered => &mut self.delivered,
            OutcomeKind::Bounced => &mut self.bounced,
            _ => &mut self.expired,
        };
        *counted += 1;
        if *kind == OutcomeKind::Delivered {
            if r.copies == 0 {
                return Err(format!("m{key}-{recipient} has {word} and nobody has it"));
            }
        } else if r.copies > r.excuses {
            return Err(format!(
                "m{key}-{recipient} has {word} and a receiver has it"
            ));
        }
        if *kind == OutcomeKind::Expired && now + Duration::from_secs(1) < mail.received {
            return Err(format!("m{key}-{recipient} expired before it came"));
        }
        r.ended = Some(word);
        r.in_flight = false;
        self.open -= 1;
        Ok(())
    }

    /// A receiver has taken a message.
    pub(crate) fn received(
        &mut self,
        recipients: &[(u32, u32)],
        body: &[u8],
    ) -> Result<(), String> {
        for &(key, recipient) in recipients {
            let Some(mail) = self.mails.get_mut(key as usize) else {
                return Err(format!("m{key}-{recipient} arrived and was never sent"));
            };
            if mail.with == With::Submitter || mail.body != body {
                return Err(format!("m{key}-{recipient} arrived other than it was sent"));
            }
            let r = &mut mail.recipients[recipient as usize];
            r.copies += 1;
            self.duplicates += u64::from(r.copies > 1);
            if r.copies > 1 + r.excuses {
                return Err(format!(
                    "m{key}-{recipient} arrived {} times, {} excused",
                    r.copies, r.excuses
                ));
            }
        }
        Ok(())
    }

    /// Changes in memory are written.
    pub(crate) fn written(&mut self) {
        self.unsynced.append(&mut self.in_memory);
    }

    pub(crate) fn synced(&mut self) {
        self.unsynced.clear();
    }

    /// After a stop, what the spool found has to be what got 250 and had not ended.
    pub(crate) fn recovered(
        &mut self,
        now: Instant,
        how: How,
        recovery: &Recovery,
        appending: &[u32],
    ) -> Result<(), String> {
        let mut volatile: BTreeSet<(u32, u32)> = self.noticed.iter().copied().collect();
        if how != How::Close {
            volatile.extend(self.in_memory.drain(..));
        }
        if how == How::Power {
            volatile.extend(self.unsynced.drain(..));
        }
        self.in_memory.clear();
        if how != How::Kill {
            // What a kill leaves unsynced still is.
            self.unsynced.clear();
        }
        self.noticed.clear();
        self.moving = 0;

        let mut found: BTreeMap<u32, BTreeMap<u32, Option<(u32, i64)>>> = BTreeMap::new();
        for message in &recovery.messages {
            let id = message.envelope.id();
            let Some(&key) = self.by_id.get(&id) else {
                return Err(format!("message {id:x} was never handed in"));
            };
            let open = message
                .open
                .iter()
                .map(|o| {
                    let last = o.last.as_ref().map(|l| (l.attempts, l.due.unix()));
                    (o.recipient, last)
                })
                .collect();
            if found.insert(key, open).is_some() {
                return Err(format!("m{key} is there twice"));
            }
        }
        // Messages that got no answer are accepted if they are there.
        for (key, mail) in self.mails.iter_mut().enumerate() {
            if mail.with == With::Spool {
                mail.with = With::Submitter;
                if found.contains_key(&(key as u32)) {
                    mail.with = With::Server;
                    mail.received = now;
                    self.open += mail.recipients.len() as u64;
                    self.deliveries += mail.recipients.len() as u64;
                }
            }
        }
        // A notification and the ends that it tells of: both or neither. A power cut that takes one
        // record of a group leaves the message and not the end: in doubt twice rather than never.
        for &dsn in appending {
            let Some((of, recipients)) = self.mails[dsn as usize].tells.clone() else {
                continue;
            };
            let there = found.contains_key(&dsn);
            for recipient in recipients {
                let open = found.get(&of).is_some_and(|o| o.contains_key(&recipient));
                if !open && !there {
                    return Err(format!(
                        "m{of}-{recipient} has ended and its notification m{dsn} is lost"
                    ));
                }
                if open && there && how != How::Power {
                    return Err(format!(
                        "m{of}-{recipient} is open and its notification m{dsn} is there"
                    ));
                }
            }
        }
        for (key, mail) in self.mails.iter_mut().enumerate() {
            let key = key as u32;
            if mail.with != With::Server {
                if found.contains_key(&key) {
                    return Err(format!("m{key} came back and was given back before"));
                }
                continue;
            }
            let none = BTreeMap::new();
            let open = found.get(&key).unwrap_or(&none);
            for (n, r) in mail.recipients.iter_mut().enumerate() {
                let n = n as u32;
                let changing = volatile.contains(&(key, n));
                let excused = changing || r.in_flight;
                match (r.ended, open.get(&n)) {
                    (None, None) => return Err(format!("m{key}-{n} got 250 and is lost")),
                    (Some(_), None) => {}
                    (Some(end), Some(_)) if !changing => {
                        return Err(format!(
                            "m{key}-{n} has {end}, that was on disk, and it is back"
                        ));
                    }
                    (ended, Some(last)) => {
                        if ended.is_some() {
                            r.ended = None;
                            self.open += 1;
                            self.reopened += 1;
                        }
                        // What it was told last may be lost with it.
                        let (attempts, due) = last.unwrap_or((0, 0));
                        if !changing && attempts != r.attempts {
                            return Err(format!(
                                "m{key}-{n} was tried {} times, the spool says {attempts}",
                                r.attempts
                            ));
                        }
                        let due = (due * 1000 - WALL_BEGINS_MS).max(0) as u64 * 1_000_000;
                        let due = Instant::from_nanos(due);
                        if !changing
                            && last.is_some()
                            && let Some(was) = r.due
                            && (due + Duration::from_secs(3) < was
                                || was + Duration::from_secs(1) < due)
                        {
                            return Err(format!(
                                "m{key}-{n} was due at {was:?}, the spool says {due:?}"
                            ));
                        }
                        r.attempts = attempts;
                        r.due = match last {
                            Some(_) => Some(due),
                            None => mail.held,
                        };
                    }
                }
                r.excuses += u32::from(excused && open.contains_key(&n));
                r.in_flight = false;
            }
        }
        Ok(())
    }
}

/// Whatever lane it is in.
const ANY: LaneId = LaneId(u32::MAX);

/// Who was served how often while who waited.
#[derive(Default)]
pub(crate) struct Turns {
    /// Lane, class, who waits, who was served: recipients.
    tenants: BTreeMap<(LaneId, u8, u32), BTreeMap<u32, u32>>,
    campaigns: BTreeMap<(LaneId, u8, u32, u32), BTreeMap<u32, u32>>,
    /// Lane, class that waits: transactions of others.
    classes: BTreeMap<(LaneId, u8), u32>,
    /// When a delivery was first seen in its lane; smaller is earlier.
    entered: BTreeMap<u32, (LaneId, i64)>,
    next: i64,
    front: i64,
}

impl Turns {
    /// Whatever left its lane otherwise than by its turn: what waits there starts anew.
    pub(crate) fn disturbed(&mut self) {
        self.tenants.clear();
        self.campaigns.clear();
        self.classes.clear();
    }

    pub(crate) fn comes_back(&mut self, id: DeliveryId) {
        // Before the others of its flow.
        self.front -= 1;
        self.entered.insert(id.0, (ANY, self.front));
    }

    pub(crate) fn leaves(&mut self, id: DeliveryId) {
        self.entered.remove(&id.0);
    }
}

/// Most recipients of another that go between two turns of one that waits: its debt after its own
/// turn is less than a turn and one transaction, each turn that it misses is one transaction of the
/// other, and one more may be under way on either side.
fn most_between_turns(recipients: u32) -> u32 {
    const TURN: u32 = courser_core::limits::LANE_RECIPIENTS_PER_TURN;
    ((TURN + recipients).div_ceil(TURN) + 3) * recipients
}

impl World {
    /// Notes in which order deliveries come into their lanes.
    pub(crate) fn note_order(&mut self, shard: usize) {
        let Some(server) = &mut self.server else {
            return;
        };
        let shard = &mut server.shards[shard];
        let turns = &mut shard.turns;
        turns.next += 1;
        let old = std::mem::take(&mut turns.entered);
        for view in shard.queue.scheduler.deliveries(DeliveryId(0)) {
            let Where::Queued(lane) = view.state else {
                continue;
            };
            // One that came back to the front keeps its place, whatever lane it was.
            let at = match old.get(&view.id.0) {
                Some(&(was, at)) if was == lane || was == ANY => at,
                _ => turns.next,
            };
            turns.entered.insert(view.id.0, (lane, at));
        }
    }

    /// A batch is about to be taken from a lane: what waits there, before.
    pub(crate) fn waiting_in(&self, shard: usize, lane: LaneId) -> Vec<Waits> {
        let Some(server) = &self.server else {
            return Vec::new();
        };
        let shard = &server.shards[shard];
        let now = self.instant();
        shard
            .queue
            .scheduler
            .deliveries(DeliveryId(0))
            .filter(|v| v.state == Where::Queued(lane) && v.delivery.expires > now)
            .filter_map(|v| {
                // Whose it is, by the world's own books.
                let message = shard.queue.message(v.delivery.message)?;
                let mail = &self.books.mails[*self.books.by_id.get(&message.id())? as usize];
                Some(Waits {
                    id: v.id,
                    message: v.delivery.message,
                    class: mail.class,
                    tenant: mail.tenant,
                    campaign: mail.campaign,
                    entered: shard.turns.entered.get(&v.id.0).map_or(i64::MAX, |e| e.1),
                })
            })
            .collect()
    }

    /// A batch was taken from a lane where `before` waited.
    pub(crate) fn check_order(
        &mut self,
        shard: usize,
        lane: LaneId,
        before: &[Waits],
        batch: &[DeliveryId],
    ) -> Result<(), String> {
        let Some(first) = before.iter().find(|w| w.id == batch[0]) else {
            return Err(format!(
                "{} was taken and didn't wait in its lane",
                batch[0]
            ));
        };
        let same = |w: &&Waits| {
            (w.class, w.tenant, w.campaign) == (first.class, first.tenant, first.campaign)
        };
        if let Some(earlier) = before
            .iter()
            .filter(same)
            .find(|w| w.entered < first.entered)
        {
            return Err(format!(
                "{} was taken before {}, which came to the lane before it",
                first.id, earlier.id
            ));
        }
        if batch.len() > 1
            && before
                .iter()
                .any(|w| batch.contains(&w.id) && w.message != first.message)
        {
            return Err(format!(
                "{} shares a transaction with another message",
                first.id
            ));
        }
        let most = self.shape.config.delivery.limits.recipients_per_transaction;
        let most = most.max(
            self.shape.config.providers[0]
                .limits
                .recipients_per_transaction,
        );
        let bound = most_between_turns(most.min(self.most_recipients));
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let turns = &mut server.shards[shard].turns;
        let n = batch.len() as u32;
        let class = first.class as u8;
        // Tenants of the class, then campaigns of the tenant.
        let tenants: BTreeSet<u32> = before
            .iter()
            .filter(|w| w.class == first.class)
            .map(|w| w.tenant)
            .collect();
        turns
            .tenants
            .retain(|k, _| (k.0, k.1) != (lane, class) || tenants.contains(&k.2));
        for &tenant in &tenants {
            let missed = turns.tenants.entry((lane, class, tenant)).or_default();
            if tenant == first.tenant {
                missed.clear();
                continue;
            }
            let served = missed.entry(first.tenant).or_default();
            *served += n;
            if *served > bound {
                return Err(format!(
                    "{served} recipients of tenant {} in a row in {lane} while tenant {tenant} waited",
                    first.tenant
                ));
            }
        }
        let campaigns: BTreeSet<u32> = before
            .iter()
            .filter(|w| (w.class, w.tenant) == (first.class, first.tenant))
            .map(|w| w.campaign)
            .collect();
        turns.campaigns.retain(|k, _| {
            (k.0, k.1, k.2) != (lane, class, first.tenant) || campaigns.contains(&k.3)
        });
        for &campaign in &campaigns {
            let key = (lane, class, first.tenant, campaign);
            let missed = turns.campaigns.entry(key).or_default();
            if campaign == first.campaign {
                missed.clear();
                continue;
            }
            let served = missed.entry(first.campaign).or_default();
            *served += n;
            if *served > bound {
                return Err(format!(
                    "{served} recipients of campaign {} in a row in {lane} while campaign {campaign} waited",
                    first.campaign
                ));
            }
        }
        for other in Class::ALL {
            let key = (lane, other as u8);
            if other == first.class || !before.iter().any(|w| w.class == other) {
                turns.classes.remove(&key);
                continue;
            }
            let missed = turns.classes.entry(key).or_default();
            *missed += 1;
            // Two rounds of shares: a class may have used up its turns of the one.
            let all: u32 = Class::SHARES.iter().map(|s| u32::from(*s)).sum();
            if *missed > 2 * all {
                return Err(format!(
                    "{missed} transactions in {lane} while class {other:?} waited"
                ));
            }
        }
        for id in batch {
            turns.leaves(*id);
        }
        Ok(())
    }

    /// Damage is reported where the disk lost or tore a write, and nowhere else; none of it is of
    /// what was synced.
    pub(crate) fn check_damage(
        &mut self,
        harms: &[Harm],
        recovery: &Recovery,
    ) -> Result<(), String> {
        self.books.damaged += recovery.warnings.len() as u64;
        for damage in &recovery.warnings {
            if self.stopped == How::Close {
                return Err(format!("damage after a stop in order: {damage}"));
            }
            let (from, to) = (damage.from, damage.to);
            if !harms.iter().any(|h| h.touches(&damage.path, from, to)) {
                return Err(format!("damage where nothing was lost: {damage}"));
            }
            if matches!(damage.kind, DamageKind::Corrupt | DamageKind::Unreadable) {
                return Err(format!("an unfinished write is taken for worse: {damage}"));
            }
        }
        Ok(())
    }

    /// The world has run out of events.
    pub(crate) fn check_the_end(&self) -> Result<(), String> {
        for (key, mail) in self.books.mails.iter().enumerate() {
            if mail.with == With::Spool {
                return Err(format!("the submitter of m{key} never hears"));
            }
            if mail.with != With::Server {
                continue;
            }
            for (n, r) in mail.recipients.iter().enumerate() {
                if r.ended.is_none() {
                    return Err(format!("m{key}-{n} got 250 and never ends"));
                }
            }
        }
        let Some(server) = &self.server else {
            return Err("the server never came back".into());
        };
        let left = server.spool.status().messages;
        if left != 0 {
            return Err(format!("{left} messages in the spool, all have ended"));
        }
        Ok(())
    }
}

/// A delivery that waits in a lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    pub(crate) id: DeliveryId,
    message: u32,
    class: Class,
    tenant: u32,
    campaign: u32,
    entered: i64,
}
