//! Whose message is next among those that wait for the same site over the same source.
//!
//! Three rules, one inside the other:
//!
//! 1. **Class**: of 21 turns where all wait, transactional mail has 16, normal 4, bulk 1
//!    ([`Class::SHARES`]); who doesn't wait leaves its turns to the others.
//! 2. **Tenant**, then **campaign**: round robin. A turn is one transaction; one with many
//!    recipients costs its tenant more: an extra turn for every
//!    [`LANE_RECIPIENTS_PER_TURN`](crate::limits::LANE_RECIPIENTS_PER_TURN) of them (deficit round
//!    robin, Shreedhar and Varghese 1995, with the deficit paid afterwards).
//! 3. First in, first out.
//!
//! So a tenant with one message behind another's campaign of a million waits for one transaction
//! of each tenant that is there, not for the campaign.

use super::delivery::{Delivery, State};
use super::gate::Block;
use super::ids::{CampaignId, Class, Map, SiteId, SourceId, TenantId};
use super::slab::{Link, Linked, List, NIL, Slab};
use crate::limits::LANE_RECIPIENTS_PER_TURN;

/// One source toward one site: what waits there and the sessions that serve it.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) source: SourceId,
    pub(super) site: SiteId,
    pub(super) gate: u32,
    pub(super) queue: Queue,
    /// Sessions, whatever their state.
    pub(super) sessions: u32,
    /// Of these, those that will ask for work soon: opening, woken, or waiting for a token.
    pub(super) unassigned: u32,
    /// Sessions without work.
    pub(super) idle: List<0>,
    /// Connections in a row that didn't come about.
    pub(super) failures: u8,
    pub(super) block: Option<Block>,
    /// Deliveries are being moved to other sources.
    pub(super) evacuating: bool,
    /// All that is queued is being handed back.
    pub(super) flushing: bool,
    /// On its gate's list of those that want a session, of this class.
    pub(super) wants: Option<Class>,
    pub(super) want_link: Link,
    /// On the scheduler's list of lanes to empty.
    pub(super) drain_link: Link,
    pub(super) alarm: u32,
}

impl Linked<0> for Lane {
    fn link(&mut self) -> &mut Link {
        &mut self.want_link
    }
    fn link_ref(&self) -> &Link {
        &self.want_link
    }
}

impl Linked<1> for Lane {
    fn link(&mut self) -> &mut Link {
        &mut self.drain_link
    }
    fn link_ref(&self) -> &Link {
        &self.drain_link
    }
}

/// Turns of the classes, [`Class::SHARES`] to one another.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shares {
    left: [u8; 3],
}

impl Shares {
    /// The class whose turn it is among those that wait.
    pub(super) fn pick(&mut self, waits: [bool; 3]) -> Option<usize> {
        let next = |left: &[u8; 3]| (0..3).find(|&c| waits[c] && left[c] > 0);
        next(&self.left).or_else(|| {
            self.left = Class::SHARES;
            next(&self.left)
        })
    }

    /// The class had a turn.
    pub(super) fn charge(&mut self, class: usize) {
        if let Some(left) = self.left.get_mut(class) {
            *left = left.saturating_sub(1);
        }
    }
}

/// What waits in one lane.
#[derive(Debug, Default)]
pub(super) struct Queue {
    tenants: [List<0>; 3],
    queued: [u32; 3],
    shares: Shares,
}

impl Queue {
    pub(super) fn len(&self) -> u32 {
        self.queued.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queued == [0; 3]
    }

    pub(super) fn of_class(&self, class: Class) -> u32 {
        self.queued[class.index()]
    }

    /// The most urgent class that waits.
    pub(super) fn first_class(&self) -> Option<Class> {
        Class::ALL.into_iter().find(|c| self.of_class(*c) > 0)
    }
}

/// A tenant's deliveries of one class in one lane.
#[derive(Debug)]
struct TenantFlow {
    lane: u32,
    tenant: TenantId,
    class: Class,
    /// Recipients not yet paid for.
    debt: u32,
    campaigns: List<0>,
    link: Link,
}

/// A campaign's part of them.
#[derive(Debug)]
struct CampaignFlow {
    tenant: u32,
    campaign: CampaignId,
    debt: u32,
    deliveries: List<0>,
    link: Link,
}

impl Linked<0> for TenantFlow {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
    fn link_ref(&self) -> &Link {
        &self.link
    }
}

impl Linked<0> for CampaignFlow {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
    fn link_ref(&self) -> &Link {
        &self.link
    }
}

trait Indebted {
    fn debt(&mut self) -> &mut u32;
}
impl Indebted for TenantFlow {
    fn debt(&mut self) -> &mut u32 {
        &mut self.debt
    }
}
impl Indebted for CampaignFlow {
    fn debt(&mut self) -> &mut u32 {
        &mut self.debt
    }
}

/// The flows of all lanes.
#[derive(Debug, Default)]
pub(super) struct Flows {
    tenants: Slab<TenantFlow>,
    campaigns: Slab<CampaignFlow>,
    tenant_of: Map<(u32, Class, TenantId)>,
    campaign_of: Map<(u32, CampaignId)>,
    /// Steps made to find whose turn it is, for the tests of what a decision costs.
    pub(super) steps: u64,
}

impl Flows {
    /// Bytes of the flows themselves.
    pub(super) fn bytes(&self) -> usize {
        self.tenants.bytes()
            + self.campaigns.bytes()
            + self.tenant_of.capacity() * size_of::<((u32, Class, TenantId), u32)>()
            + self.campaign_of.capacity() * size_of::<((u32, CampaignId), u32)>()
    }

    /// Queues a delivery that is on no list; `false` when there is no room for its flow.
    pub(super) fn push(
        &mut self,
        lane: u32,
        queue: &mut Queue,
        deliveries: &mut Slab<Delivery>,
        id: u32,
        front: bool,
    ) -> bool {
        let d = &deliveries[id];
        let (class, tenant, campaign) = (d.class, d.tenant, d.campaign);
        let Some(t) = self.tenant(lane, queue, class, tenant) else {
            return false;
        };
        let Some(c) = self.campaign(t, campaign) else {
            return false;
        };
        deliveries[id].state = State::Queued;
        deliveries[id].place = c;
        let list = &mut self.campaigns[c].deliveries;
        if front {
            list.push_front(deliveries, id);
        } else {
            list.push_back(deliveries, id);
        }
        queue.queued[class.index()] += 1;
        true
    }

    fn tenant(
        &mut self,
        lane: u32,
        queue: &mut Queue,
        class: Class,
        tenant: TenantId,
    ) -> Option<u32> {
        if let Some(t) = self.tenant_of.get(&(lane, class, tenant)) {
            return Some(*t);
        }
        let t = self.tenants.insert(TenantFlow {
            lane,
            tenant,
            class,
            debt: 0,
            campaigns: List::default(),
            link: Link::default(),
        })?;
        self.tenant_of.insert((lane, class, tenant), t);
        queue.tenants[class.index()].push_back(&mut self.tenants, t);
        Some(t)
    }

    fn campaign(&mut self, t: u32, campaign: CampaignId) -> Option<u32> {
        if let Some(c) = self.campaign_of.get(&(t, campaign)) {
            return Some(*c);
        }
        let c = self.campaigns.insert(CampaignFlow {
            tenant: t,
            campaign,
            debt: 0,
            deliveries: List::default(),
            link: Link::default(),
        })?;
        self.campaign_of.insert((t, campaign), c);
        self.tenants[t].campaigns.push_back(&mut self.campaigns, c);
        Some(c)
    }

    /// The lane that a queued delivery waits in.
    pub(super) fn lane_of(&self, delivery: &Delivery) -> u32 {
        self.tenants[self.campaigns[delivery.place].tenant].lane
    }

    /// Takes a queued delivery off, wherever it stands.
    pub(super) fn unlink(&mut self, queue: &mut Queue, deliveries: &mut Slab<Delivery>, id: u32) {
        let c = deliveries[id].place;
        self.campaigns[c].deliveries.unlink(deliveries, id);
        self.drop_if_empty(queue, c);
        let class = deliveries[id].class.index();
        queue.queued[class] = queue.queued[class].saturating_sub(1);
        deliveries[id].place = NIL;
        deliveries[id].state = State::Held;
    }

    fn drop_if_empty(&mut self, queue: &mut Queue, c: u32) {
        if !self.campaigns[c].deliveries.is_empty() {
            return;
        }
        let t = self.campaigns[c].tenant;
        self.tenants[t].campaigns.unlink(&mut self.campaigns, c);
        self.campaign_of.remove(&(t, self.campaigns[c].campaign));
        self.campaigns.remove(c);
        let flow = &self.tenants[t];
        if flow.campaigns.is_empty() {
            let (lane, class, tenant) = (flow.lane, flow.class, flow.tenant);
            queue.tenants[class.index()].unlink(&mut self.tenants, t);
            self.tenant_of.remove(&(lane, class, tenant));
            self.tenants.remove(t);
        }
    }

    /// The first delivery of the flow whose turn it is; it stays where it is.
    pub(super) fn pick(&mut self, queue: &mut Queue) -> Option<u32> {
        let waits = queue.queued.map(|n| n > 0);
        let class = queue.shares.pick(waits)?;
        let t = turn(
            &mut queue.tenants[class],
            &mut self.tenants,
            &mut self.steps,
        )?;
        let c = turn(
            &mut self.tenants[t].campaigns,
            &mut self.campaigns,
            &mut self.steps,
        )?;
        self.campaigns[c].deliveries.front()
    }

    /// The delivery behind `id` in its flow.
    pub(super) fn behind(&self, deliveries: &Slab<Delivery>, id: u32) -> Option<u32> {
        let next = deliveries[id].link.next;
        (next != NIL).then_some(next)
    }

    /// The flow of the delivery `first` has its turn with `n` recipients: to be called before they
    /// are taken off.
    pub(super) fn charge(&mut self, queue: &mut Queue, first: &Delivery, n: u32) {
        let c = first.place;
        let t = self.campaigns[c].tenant;
        let class = self.tenants[t].class.index();
        queue.shares.charge(class);
        let extra = n.saturating_sub(1);
        let debt = self.tenants[t].debt();
        *debt = debt.saturating_add(extra);
        let debt = self.campaigns[c].debt();
        *debt = debt.saturating_add(extra);
        self.tenants[t].campaigns.rotate(&mut self.campaigns);
        queue.tenants[class].rotate(&mut self.tenants);
    }

    /// How many stand before a queued delivery in its own flow, counted up to `max`.
    pub(super) fn ahead(&self, deliveries: &Slab<Delivery>, id: u32, max: u32) -> u32 {
        let (mut at, mut n) = (deliveries[id].link.prev, 0);
        while at != NIL && n < max {
            n += 1;
            at = deliveries[at].link.prev;
        }
        n
    }
}

/// Whose turn it is on a ring: the first that owes no whole turn. Each step forgives a turn, and
/// each turn was one transaction's recipients, so the steps are paid for by transactions.
fn turn<T: Linked<0> + Indebted>(
    ring: &mut List<0>,
    slab: &mut Slab<T>,
    steps: &mut u64,
) -> Option<u32> {
    loop {
        *steps += 1;
        let id = ring.front()?;
        if ring.is_single() {
            *slab[id].debt() = 0;
            return Some(id);
        }
        let debt = slab[id].debt();
        if *debt < LANE_RECIPIENTS_PER_TURN {
            return Some(id);
        }
        *debt -= LANE_RECIPIENTS_PER_TURN;
        ring.rotate(slab);
    }
}
