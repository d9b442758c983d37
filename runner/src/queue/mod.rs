//! The scheduler over the spool: what the core's integers stand for in this shard.
//!
//! | file | holds |
//! |---|---|
//! | [`last`] | what was said about deliveries last |
//! | [`message`] | messages and their bodies |
//! | [`names`] | domains, tenants and campaigns as numbers |
//! | [`sites`] | sites and gates |
//! | [`providers`] | which provider a domain belongs to, and its limits |
//! | this one | deliveries: who they are |

pub mod last;
pub mod message;
pub mod names;
pub mod providers;
pub mod sites;

use std::collections::HashMap;
use std::sync::Arc;

use courser_core::mail::address::{Domain, Mailbox};
use courser_core::route::tls::Demand;
use courser_core::time::Instant;
use courser_core::traffic::scheduler::{
    CampaignId, Class, DeliveryId, DestId, LaneView, Misuse, New, PoolId, Report, Scheduler,
    SiteId, SourceId, TenantId, View, Where,
};

use self::last::Lasts;
pub use self::last::{Last, Texts};
use self::message::Message;
use self::names::Names;
use self::sites::Sites;
use crate::config::{Config, Name};
use crate::route::Routed;
use crate::session::transaction::Leased;
use crate::spool::EnvelopeView;

/// Stands between a domain and a demand; no domain has it.
const MARK: char = '\u{1}';

/// A delivery on its way into a shard.
#[derive(Clone)]
pub struct Entry {
    /// Its message.
    pub message: Arc<Message>,
    /// Its recipient's position.
    pub recipient: u32,
    /// Attempts so far.
    pub attempts: u16,
    /// Not before then.
    pub due: Instant,
    /// The source it went over before.
    pub source: Option<SourceId>,
    /// An operator holds it.
    pub held: bool,
    /// What was said about it last.
    pub last: Option<Last>,
}

struct Here {
    message: Arc<Message>,
    deliveries: u32,
}

/// Where a domain's mail goes, as this shard knows it.
#[derive(Clone)]
pub enum Known {
    /// Another shard owns its lanes.
    Elsewhere {
        /// Which one.
        shard: usize,
        /// The route, to pass on.
        routed: Routed,
        /// Until when.
        until: Instant,
    },
    /// It has no route for now.
    Failed {
        /// Why.
        error: Arc<courser_core::route::RouteError>,
    },
}

/// The queue of one shard.
pub struct Queue {
    /// Decides.
    pub scheduler: Scheduler,
    /// What its sites and gates are.
    pub sites: Sites,
    messages: Vec<Option<Here>>,
    free: Vec<u32>,
    numbers: HashMap<u64, u32>,
    domains: Names,
    tenants: Names,
    campaigns: Names,
    /// A pool's number is its position here: a reload may move it in the configuration, or take it
    /// away.
    pools: Vec<Name>,
    known: HashMap<u32, Known>,
    site_of: HashMap<u32, SiteId>,
    last: Lasts,
    texts: Texts,
}

impl Queue {
    /// An empty queue.
    pub fn new(scheduler: Scheduler, sites: Sites) -> Self {
        Self {
            scheduler,
            sites,
            messages: Vec::new(),
            free: Vec::new(),
            numbers: HashMap::new(),
            domains: Names::default(),
            tenants: Names::default(),
            campaigns: Names::default(),
            pools: Vec::new(),
            known: HashMap::new(),
            site_of: HashMap::new(),
            last: Lasts::default(),
            texts: Texts::default(),
        }
    }

    /// Tells the scheduler of the configuration's pools. What was to go over one that is gone goes
    /// over the first.
    pub fn set_pools(&mut self, config: &Config) {
        for pool in &config.pools {
            if !self.pools.contains(&pool.name) {
                self.pools.push(pool.name.clone());
            }
        }
        for (i, name) in self.pools.iter().enumerate() {
            let position = config.pool_named(name).unwrap_or(0);
            let members: Vec<(SourceId, u32)> = config.pools[position]
                .members
                .iter()
                .map(|m| (SourceId(m.source as u16), m.weight))
                .collect();
            self.scheduler.set_pool(PoolId(i as u16), &members);
        }
    }

    /// The pool of a message: its own, or its stream's. A name that is gone since a reload falls
    /// back to the first.
    fn pool_of(&self, config: &Config, pool: &str, stream: &str) -> PoolId {
        let named = (!pool.is_empty())
            .then(|| config.pool_named(pool))
            .flatten();
        let of_stream = || config.stream_named(stream).map(|s| config.streams[s].pool);
        let name = &config.pools[named.or_else(of_stream).unwrap_or(0)].name;
        let number = self.pools.iter().position(|p| p == name).unwrap_or(0);
        PoolId(number as u16)
    }

    /// The name of a pool.
    pub fn pool_name(&self, pool: PoolId) -> Option<&str> {
        self.pools.get(usize::from(pool.0)).map(|name| &**name)
    }

    /// The domain of a recipient, in lower case: what routes are for.
    pub fn domain(address: &str) -> String {
        match Mailbox::parse(address).ok().and_then(|m| m.domain()) {
            Some(Domain::Name(name)) => name.to_lowercase(),
            Some(literal @ Domain::Literal(_)) => literal.to_string(),
            None => String::new(),
        }
    }

    /// What a recipient of this message is queued under: its domain, and behind a mark how much TLS
    /// the message wants, so that mail that wants more has lanes of its own.
    pub fn dest_key(config: &Config, view: &EnvelopeView<'_>, address: &str) -> String {
        let mut key = Self::domain(address);
        let stream = config.stream_named(view.stream());
        let demand = Demand {
            level: stream.and_then(|s| config.streams[s].tls),
            required: view.requiretls(),
            optional: view.tls_optional(),
        };
        if demand != Demand::default() {
            key.push(MARK);
            key.push_str(demand.code());
        }
        key
    }

    /// The domain and the demand of a [`dest_key`](Self::dest_key).
    pub fn split_key(key: &str) -> (&str, Demand) {
        match key.split_once(MARK) {
            None => (key, Demand::default()),
            Some((domain, code)) => (domain, Demand::read(code)),
        }
    }

    /// Puts a delivery into the scheduler.
    ///
    /// # Errors
    /// [`Misuse::Full`].
    pub fn enqueue(
        &mut self,
        config: &Config,
        now: Instant,
        entry: Entry,
        expires: Instant,
    ) -> Result<DeliveryId, Misuse> {
        let view = entry.message.envelope();
        let address = view
            .recipient(entry.recipient as usize)
            .map_or("", |r| r.address);
        let domain = Self::dest_key(config, &view, address);
        let (known, site_of, scheduler) = (&mut self.known, &mut self.site_of, &mut self.scheduler);
        let dest = self.domains.take(&domain, |old| {
            known.remove(&old);
            site_of.remove(&old);
            scheduler.forget_route(DestId(old));
        });
        let tenant = self.tenants.take(view.tenant(), |_| {});
        let campaign = self.campaigns.take(view.campaign(), |_| {});
        let number = self.hold_message(&entry.message);
        let new = New {
            message: number,
            recipient: entry.recipient,
            dest: DestId(dest),
            pool: self.pool_of(config, view.pool(), view.stream()),
            source: entry.source,
            tenant: TenantId(tenant),
            campaign: CampaignId(campaign),
            class: class(view.class()),
            attempts: entry.attempts,
            due: entry.due,
            expires,
            hold: entry.held,
        };
        let added = self.scheduler.enqueue(now, new);
        match added {
            Ok(id) => {
                if let Some(mut last) = entry.last {
                    last.text = self.texts.share(&last.text);
                    self.last.put(id, last);
                }
            }
            Err(_) => self.forget(&new),
        }
        added
    }

    fn hold_message(&mut self, message: &Arc<Message>) -> u32 {
        if let Some(&number) = self.numbers.get(&message.id()) {
            if let Some(Some(here)) = self.messages.get_mut(number as usize) {
                here.deliveries += 1;
            }
            return number;
        }
        let here = Some(Here {
            message: message.clone(),
            deliveries: 1,
        });
        let number = match self.free.pop() {
            Some(number) => {
                self.messages[number as usize] = here;
                number
            }
            None => {
                self.messages.push(here);
                (self.messages.len() - 1) as u32
            }
        };
        self.numbers.insert(message.id(), number);
        number
    }

    fn forget(&mut self, gone: &New) {
        self.domains.give(gone.dest.0);
        self.tenants.give(gone.tenant.0);
        self.campaigns.give(gone.campaign.0);
        let Some(slot) = self.messages.get_mut(gone.message as usize) else {
            return;
        };
        if let Some(here) = slot {
            here.deliveries -= 1;
            if here.deliveries == 0 {
                self.numbers.remove(&here.message.id());
                *slot = None;
                self.free.push(gone.message);
            }
        }
    }

    /// Takes a delivery out: it ended, or goes to another shard.
    ///
    /// # Errors
    /// When there is none, or a session has it.
    pub fn remove(&mut self, now: Instant, id: DeliveryId) -> Result<(New, Option<Last>), Misuse> {
        let new = self.scheduler.remove(now, id)?;
        self.forget(&new);
        Ok((new, self.last.take(id)))
    }

    /// A delivery ended; it was handed out.
    pub fn ended(&mut self, now: Instant, id: DeliveryId, report: Report) {
        let Some(view) = self.scheduler.get(id) else {
            return;
        };
        let gone = view.delivery;
        if self.scheduler.report(now, id, report).is_ok() {
            self.forget(&gone);
            self.last.take(id);
        }
    }

    /// The message with this number.
    pub fn message(&self, number: u32) -> Option<&Arc<Message>> {
        self.messages
            .get(number as usize)?
            .as_ref()
            .map(|h| &h.message)
    }

    /// A delivery's message and recipient.
    pub fn leased(&self, id: DeliveryId) -> Option<(Arc<Message>, Leased)> {
        let new = self.scheduler.get(id)?.delivery;
        let message = self.message(new.message)?.clone();
        Some((
            message,
            Leased {
                delivery: id,
                recipient: new.recipient,
            },
        ))
    }

    /// What was said about a delivery last.
    pub fn last(&self, id: DeliveryId) -> Option<Last> {
        self.last.get(id)
    }

    /// Notes what was said about a delivery.
    pub fn note(&mut self, id: DeliveryId, text: &str, at_ms: i64) {
        let text = self.texts.share(text);
        let delay_told = self.last.get(id).is_some_and(|l| l.delay_told);
        let last = Last {
            text,
            at_ms,
            delay_told,
        };
        self.last.put(id, last);
    }

    /// Notes that the sender was told of the delay; `false` if it was before.
    pub fn note_delay_told(&mut self, id: DeliveryId) -> bool {
        let mut last = self.last.get(id).unwrap_or_else(|| Last {
            text: Arc::from(""),
            at_ms: 0,
            delay_told: false,
        });
        let before = std::mem::replace(&mut last.delay_told, true);
        self.last.put(id, last);
        !before
    }

    /// The [`dest_key`](Self::dest_key) of a destination.
    pub fn key_of(&self, dest: DestId) -> Arc<str> {
        self.domains.name(dest.0)
    }

    /// The domain of a destination.
    pub fn domain_name(&self, dest: DestId) -> Arc<str> {
        let key = self.key_of(dest);
        match Self::split_key(&key) {
            (domain, _) if domain.len() == key.len() => key,
            (domain, _) => Arc::from(domain),
        }
    }

    /// What is known of a domain that isn't in the lanes of this shard.
    pub fn known(&self, dest: DestId) -> Option<&Known> {
        self.known.get(&dest.0)
    }

    /// The same by its key, as long as it holds.
    pub fn known_elsewhere(&self, key: &str, now: Instant) -> Option<(usize, Routed)> {
        let number = self.domains.number(key)?;
        match self.known.get(&number)? {
            Known::Elsewhere {
                shard,
                routed,
                until,
            } if *until > now => Some((*shard, routed.clone())),
            _ => None,
        }
    }

    /// Notes where a domain's mail goes instead.
    pub fn know(&mut self, dest: DestId, known: Option<Known>) {
        match known {
            Some(known) => drop(self.known.insert(dest.0, known)),
            None => drop(self.known.remove(&dest.0)),
        }
    }

    /// The site of a domain whose lanes are in this shard.
    pub fn site_of(&self, dest: DestId) -> Option<SiteId> {
        self.site_of.get(&dest.0).copied()
    }

    /// Notes the site of a domain.
    pub fn set_site(&mut self, dest: DestId, site: SiteId) {
        self.site_of.insert(dest.0, site);
    }

    /// Routes are found anew: the configuration changed.
    pub fn forget_routes(&mut self) {
        self.known.clear();
        for dest in self.site_of.keys() {
            self.scheduler.forget_route(DestId(*dest));
        }
    }

    /// The lane that a delivery goes or went through.
    pub fn lane_of(&self, view: &View) -> Option<LaneView> {
        if let Where::Queued(lane) = view.state {
            return self.scheduler.lane_view(lane);
        }
        let site = self.site_of(view.delivery.dest)?;
        let gate = self.sites.get(site)?.gate;
        let lane = self
            .scheduler
            .find_lane(view.delivery.source?, site, gate)?;
        self.scheduler.lane_view(lane)
    }

    /// The number of a destination that something in the queue has, by its key.
    pub fn dest(&self, key: &str) -> Option<DestId> {
        self.domains.number(key).map(DestId)
    }
}

fn class(n: u8) -> Class {
    match n {
        0 => Class::Transactional,
        1 => Class::Normal,
        _ => Class::Bulk,
    }
}
