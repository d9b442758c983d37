//! Which server is asked next.
//!
//! A server that fails [`FAILURES_MAX`] times in a row is left alone, for a second first and
//! twice as long after each further failure, up to a minute. Then one query goes there to see,
//! and the others only when it was answered. When all servers are left alone, the one whose time
//! is up first is asked all the same: a query that is lost costs less than none.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use crate::limits::DNS_SERVERS_MAX;
use crate::time::Instant;

/// Failures in a row after which a server is left alone.
const FAILURES_MAX: u32 = 3;
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How long we remember that a server does not know EDNS.
const PLAIN_FOR: Duration = Duration::from_secs(600);

/// Set of servers, one bit for each.
pub(super) type Mask = u16;
const _: () = assert!(DNS_SERVERS_MAX <= Mask::BITS as usize);

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) failures: u32,
    /// Not before then, when it has failed too often.
    pub(super) retry_at: Instant,
    /// Smoothed round trip, once one was seen.
    pub(super) round_trip: Option<Duration>,
    plain_until: Instant,
}

pub(super) struct Servers {
    list: Vec<Server>,
    turn: usize,
    rotate: bool,
}

impl Servers {
    pub(super) fn new(addresses: &[SocketAddr], rotate: bool) -> Self {
        Self {
            list: addresses
                .iter()
                .take(DNS_SERVERS_MAX)
                .map(|&address| Server {
                    address: canonical(address),
                    failures: 0,
                    retry_at: Instant::ZERO,
                    round_trip: None,
                    plain_until: Instant::ZERO,
                })
                .collect(),
            turn: 0,
            rotate,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Server> {
        self.list.iter()
    }

    pub(super) fn find(&self, address: SocketAddr) -> Option<usize> {
        let address = canonical(address);
        self.list.iter().position(|s| s.address == address)
    }

    pub(super) fn address(&self, index: usize) -> Option<SocketAddr> {
        self.list.get(index).map(|s| s.address)
    }

    /// The server to ask, none of `not`, and better none of `rather_not`. A server that is tried
    /// again after failures gets no second query within `probe`.
    pub(super) fn pick(
        &mut self,
        now: Instant,
        not: Mask,
        rather_not: Mask,
        probe: Duration,
    ) -> Option<usize> {
        let count = self.list.len();
        let start = if self.rotate {
            self.turn % count.max(1)
        } else {
            0
        };
        self.turn = self.turn.wrapping_add(1);
        // Smaller is better: asked before for this, left alone, until when, order.
        let best = (0..count).filter(|&i| not & bit(i) == 0).min_by_key(|&i| {
            let resting = self
                .list
                .get(i)
                .filter(|s| s.failures >= FAILURES_MAX && now < s.retry_at)
                .map(|s| s.retry_at);
            let asked = rather_not & bit(i) != 0;
            (
                resting.is_some(),
                asked,
                resting,
                (i + count - start) % count,
            )
        })?;
        let server = self.list.get_mut(best)?;
        if server.failures >= FAILURES_MAX && now >= server.retry_at {
            server.retry_at = now + probe;
        }
        Some(best)
    }

    pub(super) fn succeeded(&mut self, index: usize, took: Option<Duration>) {
        if let Some(server) = self.list.get_mut(index) {
            server.failures = 0;
            if let Some(took) = took {
                // An eighth of the new, as in RFC 6298.
                server.round_trip = Some(match server.round_trip {
                    Some(old) => old.saturating_mul(7).saturating_add(took) / 8,
                    None => took,
                });
            }
        }
    }

    pub(super) fn failed(&mut self, index: usize, now: Instant) {
        if let Some(server) = self.list.get_mut(index) {
            // Many queries that were on their way together fail together: that is one failure
            // more, not a hundred.
            if server.failures >= FAILURES_MAX && now < server.retry_at {
                return;
            }
            server.failures = server.failures.saturating_add(1);
            if let Some(times) = server.failures.checked_sub(FAILURES_MAX) {
                let rest = BACKOFF_FIRST.saturating_mul(1 << times.min(6));
                server.retry_at = now + rest.min(BACKOFF_MAX);
            }
        }
    }

    /// Notes that the server does not know EDNS.
    pub(super) fn no_edns(&mut self, index: usize, now: Instant) {
        if let Some(server) = self.list.get_mut(index) {
            server.plain_until = now + PLAIN_FOR;
        }
    }

    pub(super) fn knows_edns(&self, index: usize, now: Instant) -> bool {
        self.list.get(index).is_none_or(|s| now >= s.plain_until)
    }
}

pub(super) fn bit(index: usize) -> Mask {
    1u16.checked_shl(index as u32).unwrap_or(0)
}

/// A server behind a socket for both families may be reported as `::ffff:192.0.2.1`.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    const PROBE: Duration = Duration::from_secs(2);

    fn servers(n: u8, rotate: bool) -> Servers {
        let list: Vec<_> = (1..=n)
            .map(|i| SocketAddr::from((Ipv4Addr::new(192, 0, 2, i), 53)))
            .collect();
        Servers::new(&list, rotate)
    }
    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn prefers_the_first_until_it_fails() {
        let mut s = servers(3, false);
        for _ in 0..3 {
            assert_eq!(s.pick(at(0), 0, 0, PROBE), Some(0));
            s.failed(0, at(0));
        }
        assert_eq!(s.pick(at(0), 0, 0, PROBE), Some(1));
        // One query goes to see; the next ones don't until it was answered.
        assert_eq!(s.pick(at(1000), 0, 0, PROBE), Some(0));
        assert_eq!(s.pick(at(1001), 0, 0, PROBE), Some(1));
        s.succeeded(0, Some(Duration::from_millis(3)));
        assert_eq!(s.pick(at(1002), 0, 0, PROBE), Some(0));
    }

    #[test]
    fn rests_grow_and_end() {
        let mut s = servers(1, false);
        let mut now = at(0);
        let mut rests = Vec::new();
        for n in 0..12 {
            s.failed(0, now);
            if n >= 2 {
                rests.push(s.list[0].retry_at.since(now).as_secs());
                now = s.list[0].retry_at;
            }
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        // The only server is asked however bad it is.
        assert_eq!(s.pick(at(0), 0, 0, PROBE), Some(0));
        assert_eq!(s.pick(at(0), 1, 0, PROBE), None);
    }

    #[test]
    fn asks_another_and_rotates() {
        let mut s = servers(3, false);
        assert_eq!(s.pick(at(0), 0, 0b001, PROBE), Some(1));
        assert_eq!(s.pick(at(0), 0b010, 0b001, PROBE), Some(2));
        assert_eq!(s.pick(at(0), 0, 0b111, PROBE), Some(0));
        let mut s = servers(3, true);
        let order: Vec<_> = (0..4).filter_map(|_| s.pick(at(0), 0, 0, PROBE)).collect();
        assert_eq!(order, [0, 1, 2, 0]);
        assert_eq!(servers(0, true).pick(at(0), 0, 0, PROBE), None);
    }
}
