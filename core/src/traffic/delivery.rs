//! What the scheduler keeps of a delivery: 56 bytes.

use super::ids::{CampaignId, Class, DestId, PoolId, SourceId, TenantId};
use super::slab::{Link, Linked, NIL};
use super::wheel::Timed;
use crate::time::{Duration, Instant};

/// Where a delivery is. Each but `Held` and `Leased` with the runner is one list, and `place` says
/// which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// On the wheel until it is due; `place` is the wheel's.
    Waiting,
    /// At its destination, which has no route yet; `place` is the destination.
    Parked,
    /// At its pool, no source of which may be used; `place` is the pool.
    Stranded,
    /// In its lane; `place` is the campaign's flow there.
    Queued,
    /// Handed out; `place` is the session, or nothing when it was handed out to be settled.
    Leased,
    /// About to be handed out to be settled; `place` is the cause.
    Settling,
    /// On no list.
    Held,
}

/// One delivery.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) due: Instant,
    pub(super) message: u32,
    pub(super) recipient: u32,
    pub(super) link: Link,
    pub(super) place: u32,
    pub(super) dest: DestId,
    pub(super) tenant: TenantId,
    pub(super) campaign: CampaignId,
    expires_s: u32,
    source: u16,
    pub(super) pool: PoolId,
    pub(super) attempts: u16,
    pub(super) class: Class,
    pub(super) state: State,
    /// To be held as soon as it comes back.
    pub(super) hold: bool,
    /// `source` is the one not to take.
    pub(super) avoid: bool,
}

const NO_SOURCE: u16 = u16::MAX;

impl Delivery {
    /// A delivery that is on no list yet.
    pub(super) fn new(new: &super::scheduler::New) -> Self {
        let mut delivery = Self {
            due: new.due,
            message: new.message,
            recipient: new.recipient,
            link: Link::default(),
            place: NIL,
            dest: new.dest,
            tenant: new.tenant,
            campaign: new.campaign,
            expires_s: 0,
            source: NO_SOURCE,
            pool: new.pool,
            attempts: new.attempts,
            class: new.class,
            state: State::Held,
            hold: false,
            avoid: false,
        };
        delivery.set_source(new.source);
        delivery.expires_s =
            u32::try_from(new.expires.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX);
        delivery
    }

    /// The source that it went or goes over.
    pub(super) fn source(&self) -> Option<SourceId> {
        (self.source != NO_SOURCE).then_some(SourceId(self.source))
    }

    pub(super) fn set_source(&mut self, source: Option<SourceId>) {
        self.source = source.map_or(NO_SOURCE, |s| s.0);
        self.avoid = false;
    }

    /// The end of its life, to the second.
    pub(super) fn expires(&self) -> Instant {
        if self.expires_s == u32::MAX {
            Instant::FAR
        } else {
            Instant::ZERO + Duration::from_secs(u64::from(self.expires_s))
        }
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.expires() <= now
    }
}

impl Linked<0> for Delivery {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
    fn link_ref(&self) -> &Link {
        &self.link
    }
}

impl Timed<0> for Delivery {
    fn due(&self) -> Instant {
        self.due
    }
    fn place(&mut self) -> &mut u32 {
        &mut self.place
    }
}
