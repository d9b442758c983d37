//! Failed logins: who is slowed down, and who is blocked.
//!
//! Use: [`Logins::check`] before a login is looked at, [`Logins::failed`] when it was wrong, and
//! hold the answer back as long as that says; [`Logins::succeeded`] when it was right, and let the
//! client in only if that agrees.
//!
//! Failures are counted for the client's network (an IPv4 address, or the /64 of an IPv6 one, which
//! is what one client has) and for the user. Each failure in a row holds its answer back for twice as
//! long as the one before. [`Limits::per_network`] or [`Limits::per_user`] failures in a row block
//! for [`Limits::block`], and each further time for twice as long, up to [`Limits::block_max`]. A
//! row ends with a success of that user, or when nothing has failed for as long as a block lasts.
//! A success doesn't end a network's row, or whoever has one good password could guess others
//! without end.
//!
//! **Guessing in parallel gains nothing:** a right password that comes while its network or user
//! is blocked by the others doesn't count.
//!
//! **Nobody is locked out by others:** a block of a user doesn't hit the networks that the user
//! logged in from of late, and what fails there isn't counted for the user.
//!
//! **Nobody learns who is there:** a name that no user has is treated as if it were one. Such names
//! are remembered apart, so that inventing names makes none be forgotten that are real.
//!
//! What is remembered is bounded; beyond it, what failed longest ago is forgotten. Names are kept
//! as hashes: people type passwords there.

use alloc::collections::BTreeMap;
use core::net::IpAddr;

use sha2::{Digest, Sha256};

use crate::limits::{LOGIN_GOOD_NETWORKS_MAX, LOGIN_NETWORKS_MAX, LOGIN_USERS_MAX};
use crate::time::{Duration, Instant};

/// How much may fail, and what happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Failures in a row of one network that block it.
    pub per_network: u32,
    /// Failures in a row for one user that block it.
    pub per_user: u32,
    /// How long the first block lasts, and how long a failure is remembered.
    pub block: Duration,
    /// How long a block lasts at most.
    pub block_max: Duration,
    /// How long the answer to a first failure is held back.
    pub delay: Duration,
    /// How long an answer is held back at most.
    pub delay_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_network: 20,
            per_user: 10,
            block: Duration::from_secs(15 * 60),
            block_max: Duration::from_secs(4 * 3600),
            delay: Duration::from_secs(1),
            delay_max: Duration::from_secs(10),
        }
    }
}

/// Where a client comes from: an IPv4 address, or the /64 of an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Network {
    V4(u32),
    V6(u64),
}

impl From<IpAddr> for Network {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.to_bits()),
            IpAddr::V6(ip) => Self::V6((ip.to_bits() >> 64) as u64),
        }
    }
}

/// Whom a client says that it is, as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    name: [u8; 16],
    is_user: bool,
}

impl Claim {
    /// Of a name; `is_user` says whether there is such a user.
    pub fn new(name: &str, is_user: bool) -> Self {
        let hash: [u8; 32] = Sha256::digest(name.as_bytes()).into();
        let mut half = [0; 16];
        half.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        Self {
            name: half,
            is_user,
        }
    }
}

/// Who is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The client's network, whoever it says that it is.
    Network,
    /// The user, wherever the client is.
    User,
}

/// Nothing is looked at until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Whose block it is.
    pub whose: Whose,
    /// When it ends.
    pub until: Instant,
}

/// What a failure leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Hold the answer back for so long.
    pub delay: Duration,
    /// The block that it began.
    pub blocked: Option<Blocked>,
}

/// A row of failures.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    failures: u32,
    blocks: u32,
    last: Instant,
    until: Instant,
}

impl Row {
    fn blocked(&self, now: Instant) -> Option<Instant> {
        (self.until > now).then_some(self.until)
    }

    /// Counts one; until when it blocks, if it begins to.
    fn fail(&mut self, now: Instant, most: u32, limits: &Limits) -> Option<Instant> {
        let lasts = |blocks: u32| {
            let doubled = limits.block.saturating_mul(1 << blocks.min(31));
            doubled.min(limits.block_max.max(limits.block))
        };
        // The time after a block counts from its end.
        if now.since(self.last.max(self.until)) >= lasts(self.blocks) {
            *self = Self::default();
        }
        self.last = now;
        self.failures = self.failures.saturating_add(1);
        // Those that were under way when it began.
        if self.until > now || self.failures < most.max(1) {
            return None;
        }
        self.until = now + lasts(self.blocks);
        self.blocks = self.blocks.saturating_add(1);
        self.failures = 0;
        Some(self.until)
    }

    fn delay(&self, limits: &Limits) -> Duration {
        // The failure that blocks begins a new row, and is the worst of its own.
        let doublings = match self.failures {
            0 => 31,
            n => (n - 1).min(31),
        };
        limits
            .delay
            .saturating_mul(1 << doublings)
            .min(limits.delay_max.max(limits.delay))
    }
}

#[derive(Clone, Debug, Default)]
struct User {
    row: Row,
    good: heapless::Deque<Network, LOGIN_GOOD_NETWORKS_MAX>,
}

/// Entries by key, and by when they were touched last.
#[derive(Debug)]
struct Table<K, V> {
    entries: BTreeMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
    sequence: u64,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            order: BTreeMap::new(),
            sequence: 0,
        }
    }
}

impl<K: Copy + Ord, V: Default> Table<K, V> {
    fn get(&self, key: K) -> Option<&V> {
        self.entries.get(&key).map(|(_, value)| value)
    }

    /// The entry of `key`, a new one if there is none; the oldest goes where there are too many.
    fn touch(&mut self, key: K, most: usize) -> &mut V {
        self.sequence += 1;
        let sequence = self.sequence;
        let entry = self.entries.entry(key).or_default();
        self.order.remove(&entry.0);
        self.order.insert(sequence, key);
        entry.0 = sequence;
        if self.entries.len() > most.max(1)
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
        &mut self.entries.entry(key).or_default().1
    }
}

/// See the module's docs.
#[derive(Debug, Default)]
pub struct Logins {
    limits: Limits,
    networks: Table<Network, Row>,
    users: Table<Claim, User>,
    strangers: Table<Claim, User>,
}

impl Logins {
    /// Remembers nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Counts differently from now on; blocks last as long as they were to.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether a login may be looked at; without a claim, only the network is.
    ///
    /// # Errors
    /// [`Blocked`].
    pub fn check(&self, now: Instant, client: IpAddr, claim: Option<Claim>) -> Result<(), Blocked> {
        let network = Network::from(client);
        let row = self.networks.get(network);
        if let Some(until) = row.and_then(|row| row.blocked(now)) {
            let whose = Whose::Network;
            return Err(Blocked { whose, until });
        }
        let Some(claim) = claim else { return Ok(()) };
        let user = self.table(claim).get(claim);
        match user.and_then(|user| user.row.blocked(now)) {
            Some(until) if !user.is_some_and(|u| u.good.iter().any(|n| *n == network)) => {
                let whose = Whose::User;
                Err(Blocked { whose, until })
            }
            _ => Ok(()),
        }
    }

    /// A login was wrong, or without a claim, was no login.
    pub fn failed(&mut self, now: Instant, client: IpAddr, claim: Option<Claim>) -> Failed {
        let (network, limits) = (Network::from(client), self.limits);
        let row = self.networks.touch(network, LOGIN_NETWORKS_MAX);
        let block = row.fail(now, limits.per_network, &limits);
        let mut failed = Failed {
            delay: row.delay(&limits),
            blocked: block.map(|until| Blocked {
                whose: Whose::Network,
                until,
            }),
        };
        let Some(claim) = claim else { return failed };
        let user = self.table_mut(claim).touch(claim, LOGIN_USERS_MAX);
        if user.good.iter().any(|n| *n == network) {
            return failed;
        }
        let block = user.row.fail(now, limits.per_user, &limits);
        failed.delay = failed.delay.max(user.row.delay(&limits));
        if let Some(until) = block {
            let whose = Whose::User;
            failed.blocked.get_or_insert(Blocked { whose, until });
        }
        failed
    }

    /// A login was right.
    ///
    /// # Errors
    /// [`Blocked`] if others that failed meanwhile led to that; then it doesn't count.
    pub fn succeeded(&mut self, now: Instant, client: IpAddr, claim: Claim) -> Result<(), Blocked> {
        self.check(now, client, Some(claim))?;
        let network = Network::from(client);
        let user = self.table_mut(claim).touch(claim, LOGIN_USERS_MAX);
        if user.row.blocked(now).is_none() {
            user.row = Row::default();
        }
        if !user.good.iter().any(|n| *n == network) {
            if user.good.is_full() {
                user.good.pop_front();
            }
            let _ = user.good.push_back(network);
        }
        Ok(())
    }

    /// How many networks and how many users are blocked now; names that no user has don't count.
    pub fn blocked(&self, now: Instant) -> (usize, usize) {
        let networks = self.networks.entries.values();
        let users = self.users.entries.values();
        (
            networks
                .filter(|(_, row)| row.blocked(now).is_some())
                .count(),
            users.filter(|(_, u)| u.row.blocked(now).is_some()).count(),
        )
    }

    fn table(&self, claim: Claim) -> &Table<Claim, User> {
        match claim.is_user {
            true => &self.users,
            false => &self.strangers,
        }
    }

    fn table_mut(&mut self, claim: Claim) -> &mut Table<Claim, User> {
        match claim.is_user {
            true => &mut self.users,
            false => &mut self.strangers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use proptest::prelude::*;
    use std::vec::Vec;

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn other(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))
    }

    fn ann() -> Option<Claim> {
        Some(Claim::new("ann", true))
    }

    fn limits() -> Limits {
        Limits {
            per_network: 4,
            per_user: 3,
            block: Duration::from_secs(60),
            block_max: Duration::from_secs(200),
            delay: Duration::from_secs(1),
            delay_max: Duration::from_secs(3),
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn answers_get_slower_until_nothing_is_looked_at() {
        let mut logins = Logins::new(limits());
        let mut fail = |n: u32| logins.failed(at(0), HOME, Some(Claim::new(&n.to_string(), false)));
        let delays: Vec<u64> = (0..3).map(|n| fail(n).delay.as_secs()).collect();
        assert_eq!(delays, [1, 2, 3]);
        let last = fail(3);
        let blocked = Blocked {
            whose: Whose::Network,
            until: at(60),
        };
        assert_eq!((last.delay.as_secs(), last.blocked), (3, Some(blocked)));
        assert_eq!(logins.check(at(59), HOME, ann()), Err(blocked));
        assert_eq!(logins.check(at(59), HOME, None), Err(blocked));
        assert_eq!(logins.check(at(59), other(1), ann()), Ok(()));
        assert_eq!(logins.blocked(at(59)), (1, 0));
        assert_eq!(logins.check(at(60), HOME, ann()), Ok(()));
        assert_eq!(logins.blocked(at(60)), (0, 0));
    }

    #[test]
    fn blocks_get_longer_and_are_forgotten() {
        let mut logins = Logins::new(limits());
        let mut now = at(0);
        let mut lasts = Vec::new();
        for _ in 0..4 {
            let block = (0..4).find_map(|_| logins.failed(now, HOME, None).blocked);
            let until = block.expect("four are too many").until;
            lasts.push(until.since(now).as_secs());
            now = until;
        }
        assert_eq!(lasts, [60, 120, 200, 200]);
        // After as long without a failure as a block would last, the next is the first.
        let now = now + Duration::from_secs(200);
        assert_eq!(logins.failed(now, HOME, None).delay.as_secs(), 1);
        let block = (0..3).find_map(|_| logins.failed(now, HOME, None).blocked);
        assert_eq!(block.unwrap().until.since(now).as_secs(), 60);
    }

    #[test]
    fn a_user_is_blocked_wherever_the_guesses_come_from() {
        let mut logins = Logins::new(limits());
        let blocks: Vec<_> = (0..3)
            .map(|n| logins.failed(at(0), other(n), ann()).blocked)
            .collect();
        let blocked = Blocked {
            whose: Whose::User,
            until: at(60),
        };
        assert_eq!(blocks, [None, None, Some(blocked)]);
        assert_eq!(logins.check(at(1), other(9), ann()), Err(blocked));
        assert_eq!(
            logins.check(at(1), other(9), Some(Claim::new("bob", true))),
            Ok(())
        );
        assert_eq!(logins.blocked(at(1)), (0, 1));
        // And a name that nobody has is blocked just so.
        let eve = Some(Claim::new("eve", false));
        let blocks: Vec<_> = (10..13)
            .map(|n| logins.failed(at(0), other(n), eve).blocked)
            .collect();
        assert_eq!(blocks, [None, None, Some(blocked)]);
        assert_eq!(logins.check(at(1), other(9), eve), Err(blocked));
        assert_eq!(logins.blocked(at(1)), (0, 1));
    }

    #[test]
    fn nobody_is_locked_out_by_others() {
        let mut logins = Logins::new(limits());
        assert_eq!(logins.succeeded(at(0), HOME, ann().unwrap()), Ok(()));
        for n in 0..3 {
            logins.failed(at(1), other(n), ann());
        }
        assert!(logins.check(at(2), other(9), ann()).is_err());
        assert_eq!(logins.check(at(2), HOME, ann()), Ok(()));
        assert_eq!(logins.succeeded(at(2), HOME, ann().unwrap()), Ok(()));
        // That opens nothing for the others.
        assert!(logins.check(at(2), other(9), ann()).is_err());
        // And there only the network's own failures count.
        let blocks: Vec<_> = (0..4)
            .map(|_| logins.failed(at(2), HOME, ann()).blocked)
            .collect();
        assert!(matches!(
            blocks[..],
            [
                None,
                None,
                None,
                Some(Blocked {
                    whose: Whose::Network,
                    ..
                })
            ]
        ));
    }

    #[test]
    fn a_success_ends_the_users_row_and_not_the_networks() {
        let mut logins = Logins::new(limits());
        for _ in 0..2 {
            logins.failed(at(0), HOME, ann());
        }
        logins.succeeded(at(0), HOME, ann().unwrap()).unwrap();
        let bob = Some(Claim::new("bob", true));
        assert_eq!(logins.failed(at(0), HOME, bob).blocked, None);
        assert_eq!(
            logins.failed(at(0), HOME, bob).blocked.map(|b| b.whose),
            Some(Whose::Network)
        );
    }

    #[test]
    fn a_right_guess_among_many_at_once_does_not_count() {
        let mut logins = Logins::new(limits());
        for _ in 0..3 {
            logins.failed(at(0), HOME, ann());
        }
        let right = logins.succeeded(at(0), HOME, ann().unwrap());
        assert_eq!(right.map_err(|b| b.whose), Err(Whose::User));
        // Those that were under way don't make it longer.
        logins.failed(at(1), HOME, ann());
        assert_eq!(logins.check(at(1), HOME, ann()).unwrap_err().until, at(61));
    }

    #[test]
    fn networks_of_ipv6_are_64_bits_wide() {
        let mut logins = Logins::new(limits());
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        for host in [
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8::ffff:1:2:3",
            "2001:db8:0:0:8000::",
        ] {
            logins.failed(at(0), ip(host), None);
        }
        assert!(logins.check(at(1), ip("2001:db8::9"), None).is_err());
        assert_eq!(logins.check(at(1), ip("2001:db8:0:1::9"), None), Ok(()));
        // An IPv4 address in IPv6 is the IPv4 address.
        for _ in 0..4 {
            logins.failed(at(0), ip("::ffff:192.0.2.1"), None);
        }
        assert!(logins.check(at(1), HOME, None).is_err());
    }

    #[test]
    fn memory_is_bounded_and_made_up_names_drive_no_user_out() {
        let mut logins = Logins::new(limits());
        for _ in 0..3 {
            logins.failed(at(0), HOME, ann());
        }
        for n in 0..LOGIN_NETWORKS_MAX as u32 + 10 {
            let claim = Claim::new(&n.to_string(), false);
            logins.failed(at(0), other(n), Some(claim));
        }
        assert_eq!(logins.networks.entries.len(), LOGIN_NETWORKS_MAX);
        assert_eq!(logins.networks.order.len(), LOGIN_NETWORKS_MAX);
        assert_eq!(logins.strangers.entries.len(), LOGIN_USERS_MAX);
        assert!(logins.check(at(1), other(1), ann()).is_err());
        for n in 0..10 {
            logins
                .succeeded(at(100), other(n + 1000), ann().unwrap())
                .unwrap();
        }
        let user = logins.users.get(ann().unwrap()).unwrap();
        assert_eq!(user.good.len(), LOGIN_GOOD_NETWORKS_MAX);
    }

    proptest! {
        /// However they come, no more than the limit are looked at in a row from one network.
        #[test]
        fn no_more_than_the_limit_are_looked_at(
            steps in proptest::collection::vec((0..40_u64, 0..3_usize), 1..200),
        ) {
            let mut logins = Logins::new(limits());
            let (mut now, mut row) = (at(0), Vec::<Instant>::new());
            for (wait, name) in steps {
                now = now + Duration::from_secs(wait);
                let claim = Claim::new(["a", "b", "c"][name], false);
                if logins.check(now, HOME, Some(claim)).is_ok() {
                    logins.failed(now, HOME, Some(claim));
                    row.push(now);
                }
                row.retain(|at| now.since(*at) < Duration::from_secs(60));
                prop_assert!(row.len() <= 4, "{:?}", row);
            }
        }
    }

    use std::string::ToString;
}
