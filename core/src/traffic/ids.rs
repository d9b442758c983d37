//! The integers that stand for domains, sites, sources, tenants… in the scheduler.
//!
//! Whoever drives the scheduler interns the names and keeps them; here they are only compared.

use core::fmt;
use core::hash::{BuildHasher, Hasher};

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident($int:ty) $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    )*};
}

id! {
    /// A destination domain: what stands right of the @, or a smart host's route.
    DestId(u32) "dest-";
    /// The set of MX hosts that a destination resolved to.
    SiteId(u32) "site-";
    /// Who holds the limits: a provider where a rule names the site, else the site itself.
    GateId(u32) "gate-";
    /// One egress address with its EHLO name.
    SourceId(u16) "source-";
    /// A weighted set of sources.
    PoolId(u16) "pool-";
    /// Whose mail it is.
    TenantId(u32) "tenant-";
    /// What the mail belongs to, inside its tenant.
    CampaignId(u32) "campaign-";
    /// One recipient of one message, as long as the scheduler holds it; given by the scheduler and
    /// used again after the delivery ended.
    DeliveryId(u32) "delivery-";
    /// One source toward one site, as long as something happens there; given by the scheduler.
    LaneId(u32) "lane-";
    /// One connection, from the wish to open it until it closed; given by the scheduler and used
    /// again after that.
    SessionId(u32) "session-";
}

/// How urgent a delivery is. Of what waits for one lane, classes share the sending slots
/// [`Class::SHARES`] to one another, so the lower one is late but never starved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Somebody waits for it: a password, a receipt.
    Transactional = 0,
    /// Ordinary mail.
    #[default]
    Normal = 1,
    /// Newsletters and campaigns.
    Bulk = 2,
}

impl Class {
    /// All of them, most urgent first.
    pub const ALL: [Self; 3] = [Self::Transactional, Self::Normal, Self::Bulk];
    /// Slots per round where all classes wait, in the order of [`Class::ALL`].
    pub const SHARES: [u8; 3] = [16, 4, 1];

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// The key under which a lane, gate or flow is found: up to 16 bytes of ids.
pub(super) type Map<K> = hashbrown::HashMap<K, u32, Seeded>;

/// Hashes ids. They are counted up by the program itself and never chosen by a peer, so one
/// multiplication per word is enough, and a fixed seed keeps a simulated world the same each time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seeded;

impl BuildHasher for Seeded {
    type Hasher = Mix;
    fn build_hasher(&self) -> Mix {
        Mix(0)
    }
}

/// See [`Seeded`].
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        mix(self.0)
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_u64(u64::from(*b));
        }
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }
    fn write_u16(&mut self, n: u16) {
        self.write_u64(u64::from(n));
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Spreads `n` over all 64 bits (the finalizer of SplitMix64, Steele et al. 2014).
pub(super) const fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
