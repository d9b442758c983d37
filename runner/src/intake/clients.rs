//! What one client address may take of a listener.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use courser_core::time::Instant;
use courser_core::traffic::bucket::Bucket;

use crate::config::Listener;

/// Client addresses that one listener remembers while none of them is connected. Beyond it, those
/// whose rates are at rest are forgotten.
pub const CLIENTS_REMEMBERED_MAX: usize = 100_000;

/// Connections of one listener that were refused, and are still open so that the client can read why
/// and close. Beyond it they are closed at once: what a flood holds open has a bound.
pub const REFUSED_LINGERING_MAX: usize = 256;

/// Why a client may not come in, or may not hand in another message now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The listener has all the sessions that it may have.
    Sessions,
    /// This client has.
    ClientSessions,
    /// It connects too fast.
    ConnectionRate,
    /// It hands in messages too fast.
    MessageRate,
}

impl Denied {
    /// What the client reads.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Sessions => "Too many sessions here, try again later",
            Self::ClientSessions => "Too many sessions from your address",
            Self::ConnectionRate => "You connect too fast, slow down",
            Self::MessageRate => "You send too fast, slow down",
        }
    }
}

#[derive(Default)]
struct Client {
    open: usize,
    connections: Option<Bucket>,
    messages: Option<Bucket>,
    last: Instant,
}

/// The clients of one listener, over all shards.
#[derive(Default)]
pub struct Clients {
    open: AtomicUsize,
    lingering: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, Client>>,
}

/// A session that was let in; leaves when dropped.
pub struct Admission {
    clients: Arc<Clients>,
    address: IpAddr,
}

/// A place among the refused that are still open; given back when dropped.
pub struct Lingering(Arc<Clients>);

impl Drop for Lingering {
    fn drop(&mut self) {
        self.0.lingering.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Clients {
    /// A place for a connection that was refused, if there is one.
    pub fn linger(self: &Arc<Self>) -> Option<Lingering> {
        let one_more = |n: usize| (n < REFUSED_LINGERING_MAX).then_some(n + 1);
        self.lingering
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()
            .map(|_| Lingering(self.clone()))
    }

    /// Sessions open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Lets a client in.
    ///
    /// # Errors
    /// Which limit forbids it.
    pub fn admit(
        self: &Arc<Self>,
        now: Instant,
        limits: &Listener,
        address: IpAddr,
    ) -> Result<Admission, Denied> {
        let mut clients = self
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if self.open() >= limits.max_connections {
            return Err(Denied::Sessions);
        }
        if clients.len() >= CLIENTS_REMEMBERED_MAX && !clients.contains_key(&address) {
            clients.retain(|_, c| c.open > 0 || now.since(c.last).as_secs() < 60);
        }
        let client = clients.entry(address).or_default();
        client.last = now;
        if client.open >= limits.max_connections_per_client {
            return Err(Denied::ClientSessions);
        }
        if let Some(rate) = limits.client_connection_rate {
            let bucket = client.connections.get_or_insert_default();
            if !bucket.try_take(rate, now, 1) {
                return Err(Denied::ConnectionRate);
            }
        }
        client.open += 1;
        self.open.fetch_add(1, Ordering::Relaxed);
        drop(clients);
        Ok(Admission {
            clients: self.clone(),
            address,
        })
    }
}

impl Admission {
    /// Takes one message from the client's rate.
    ///
    /// # Errors
    /// [`Denied::MessageRate`].
    pub fn message(&self, now: Instant, limits: &Listener) -> Result<(), Denied> {
        let Some(rate) = limits.client_message_rate else {
            return Ok(());
        };
        let mut clients = self
            .clients
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let client = clients.entry(self.address).or_default();
        client.last = now;
        let bucket = client.messages.get_or_insert_default();
        if bucket.try_take(rate, now, 1) {
            Ok(())
        } else {
            Err(Denied::MessageRate)
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.clients.open.fetch_sub(1, Ordering::Relaxed);
        let mut clients = self
            .clients
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get_mut(&self.address) {
            client.open = client.open.saturating_sub(1);
            if client.open == 0 && client.connections.is_none() && client.messages.is_none() {
                clients.remove(&self.address);
            }
        }
    }
}
