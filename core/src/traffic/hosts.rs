//! Memory of hosts that could not be reached, so that not every delivery finds it out anew.
//!
//! Use: [`Hosts::dead_until`] before connecting to an address; [`Hosts::failed`] when it could not
//! be reached, [`Hosts::reached`] when it could. The first failure is remembered for
//! [`Memory::first`], each further one in a row for twice as long as the one before, up to
//! [`Memory::max`]; once that is over, one may try again. One success forgets all.
//!
//! It holds [`Memory::hosts`] addresses; beyond that, the one that failed longest ago is forgotten.
//! Addresses come from strangers' DNS, so they are kept in trees, which nobody can make slow by
//! his choice of addresses.

use crate::time::{Duration, Instant};
use alloc::collections::BTreeMap;
use core::net::SocketAddr;

/// How much is remembered, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Addresses at most.
    pub hosts: usize,
    /// After a first failure.
    pub first: Duration,
    /// At most, after many in a row.
    pub max: Duration,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            hosts: crate::limits::DEAD_HOSTS_MAX,
            first: Duration::from_secs(30),
            max: Duration::from_secs(1800),
        }
    }
}

/// See the module's docs.
#[derive(Debug, Default)]
pub struct Hosts {
    memory: Memory,
    hosts: BTreeMap<SocketAddr, Host>,
    /// By the time of the last failure, oldest first.
    order: BTreeMap<u64, SocketAddr>,
    sequence: u64,
}

#[derive(Debug)]
struct Host {
    failures: u32,
    until: Instant,
    sequence: u64,
}

impl Hosts {
    /// Remembers nothing yet.
    pub fn new(memory: Memory) -> Self {
        Self {
            memory,
            ..Self::default()
        }
    }

    /// Remembers differently from now on; what is remembered stays until its time.
    pub fn set_memory(&mut self, memory: Memory) {
        self.memory = memory;
    }

    /// The address could not be reached; until when to leave it alone.
    ///
    /// Failures of several connections at once count once: another one while the address is dead
    /// changes nothing.
    pub fn failed(&mut self, now: Instant, address: SocketAddr) -> Instant {
        let failures = match self.hosts.get(&address) {
            Some(host) if host.until > now => return host.until,
            Some(host) => {
                self.order.remove(&host.sequence);
                host.failures.saturating_add(1)
            }
            None => 1,
        };
        let doublings = (failures - 1).min(31);
        let pause = self.memory.first.saturating_mul(1 << doublings);
        let until = now + pause.min(self.memory.max);
        self.sequence += 1;
        self.order.insert(self.sequence, address);
        self.hosts.insert(
            address,
            Host {
                failures,
                until,
                sequence: self.sequence,
            },
        );
        if self.hosts.len() > self.memory.hosts.max(1)
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.hosts.remove(&oldest);
        }
        until
    }

    /// The address answered.
    pub fn reached(&mut self, address: SocketAddr) {
        if let Some(host) = self.hosts.remove(&address) {
            self.order.remove(&host.sequence);
        }
    }

    /// Until when to leave an address alone; `None` when it may be tried.
    pub fn dead_until(&self, now: Instant, address: SocketAddr) -> Option<Instant> {
        let until = self.hosts.get(&address)?.until;
        (until > now).then_some(until)
    }

    /// Addresses remembered.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, Ipv4Addr};

    fn host(n: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(n)), 25)
    }

    #[test]
    fn twice_as_long_each_time_until_it_answers() {
        let mut hosts = Hosts::new(Memory::default());
        let mut now = Instant::ZERO;
        let mut pauses = std::vec::Vec::new();
        for _ in 0..9 {
            assert_eq!(hosts.dead_until(now, host(1)), None);
            let until = hosts.failed(now, host(1));
            // Others that fail meanwhile don't make it worse.
            assert_eq!(hosts.failed(now + Duration::from_secs(1), host(1)), until);
            assert_eq!(hosts.dead_until(now, host(1)), Some(until));
            pauses.push(until.since(now).as_secs());
            now = until;
        }
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1800, 1800, 1800]);
        hosts.reached(host(1));
        assert!(hosts.is_empty() && hosts.order.is_empty());
        assert_eq!(hosts.failed(now, host(1)).since(now).as_secs(), 30);
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let mut hosts = Hosts::new(Memory {
            hosts: 10,
            ..Memory::default()
        });
        for n in 0..100 {
            hosts.failed(Instant::ZERO, host(n));
            assert!(hosts.len() <= 10 && hosts.order.len() == hosts.len());
        }
        assert_eq!(hosts.dead_until(Instant::ZERO, host(89)), None);
        assert!(hosts.dead_until(Instant::ZERO, host(90)).is_some());
    }
}
