//! Sessions with receivers that connections to come may go on from.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Tickets of TLS 1.3 of one host. Most servers send two, and each has a copy of the host's chain.
const TICKETS_MAX: usize = 2;

#[derive(Default)]
struct Kept {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tls13: VecDeque<Tls13ClientSessionValue>,
}

/// Those of the hosts that were spoken to last: rustls' own store forgets the host that came first,
/// which is the one with the most mail.
pub(super) struct Sessions {
    /// Each half has so many hosts at most.
    half: usize,
    hosts: Mutex<Hosts>,
}

/// The hosts of the present turn, and those of the one before that weren't asked for since. When the
/// present one is full, those before it go.
#[derive(Default)]
struct Hosts {
    now: HashMap<ServerName<'static>, Kept>,
    before: HashMap<ServerName<'static>, Kept>,
}

impl Sessions {
    /// Of so many hosts at most.
    pub(super) fn of(hosts: usize) -> Self {
        Self {
            half: hosts.div_ceil(2).max(1),
            hosts: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        host: &ServerName<'static>,
        change: impl FnOnce(&mut Kept) -> T,
    ) -> Option<T> {
        let mut hosts = self.lock();
        if let Some(kept) = hosts.now.get_mut(host) {
            return Some(change(kept));
        }
        let (host, kept) = hosts.before.remove_entry(host)?;
        Some(change(self.put(&mut hosts, host, kept)))
    }

    fn or_new(&self, host: ServerName<'static>, change: impl FnOnce(&mut Kept)) {
        let mut change = Some(change);
        self.with(&host, |kept| change.take().map(|change| change(kept)));
        if let Some(change) = change {
            change(self.put(&mut self.lock(), host, Kept::default()));
        }
    }

    fn put<'h>(&self, hosts: &'h mut Hosts, host: ServerName<'static>, kept: Kept) -> &'h mut Kept {
        if hosts.now.len() >= self.half {
            hosts.before = std::mem::take(&mut hosts.now);
        }
        hosts.now.entry(host).or_insert(kept)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.lock();
        write!(f, "Sessions({})", hosts.now.len() + hosts.before.len())
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, host: ServerName<'static>, group: NamedGroup) {
        self.or_new(host, |kept| kept.group = Some(group));
    }

    fn kx_hint(&self, host: &ServerName<'_>) -> Option<NamedGroup> {
        self.with(&host.to_owned(), |kept| kept.group).flatten()
    }

    fn set_tls12_session(&self, host: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.or_new(host, |kept| kept.tls12 = Some(session));
    }

    fn tls12_session(&self, host: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.with(&host.to_owned(), |kept| kept.tls12.clone())
            .flatten()
    }

    fn remove_tls12_session(&self, host: &ServerName<'static>) {
        self.with(host, |kept| kept.tls12 = None);
    }

    fn insert_tls13_ticket(&self, host: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.or_new(host, |kept| {
            if kept.tls13.len() >= TICKETS_MAX {
                kept.tls13.pop_front();
            }
            kept.tls13.push_back(ticket);
        });
    }

    fn take_tls13_ticket(&self, host: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.with(host, |kept| kept.tls13.pop_back()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: usize) -> ServerName<'static> {
        ServerName::try_from(format!("mx{n}.example")).unwrap()
    }

    #[test]
    fn who_is_spoken_to_stays() {
        let all = Sessions::of(10);
        all.set_kx_hint(host(0), NamedGroup::secp256r1);
        for n in 1..1000 {
            all.set_kx_hint(host(n), NamedGroup::X25519);
            assert_eq!(all.kx_hint(&host(n)), Some(NamedGroup::X25519));
            // A large one, between many small ones.
            assert_eq!(all.kx_hint(&host(0)), Some(NamedGroup::secp256r1));
            let hosts = all.lock();
            assert!(hosts.now.len() + hosts.before.len() <= 10);
        }
        assert_eq!(all.kx_hint(&host(500)), None);
        assert_eq!(all.kx_hint(&host(999)), Some(NamedGroup::X25519));
    }
}
