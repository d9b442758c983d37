//! Connections between the server's delivery sessions and the receivers, and who watches them.
//!
//! Bytes arrive in order, each after the way's latency and a little chance; they are cut where
//! chance says. The watch ([`Watch`]) stands at the server's end of the wire and counts on its own
//! what the limits are about: connections, MAIL and RCPT commands, by source and provider or site.

use std::collections::{BTreeMap, VecDeque};

use courser::config::{LaneLimits, Rate};
use courser_core::smtp::server;
use courser_core::time::Instant;

use crate::receivers::Current;

/// What travels.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    Bytes(Vec<u8>),
    End,
}

/// Who limits: a source, and the provider or else the site.
pub(crate) type Toward = (u16, String);

/// One connection.
pub(crate) struct Conn {
    pub(crate) host: usize,
    /// The session at the near end.
    pub(crate) session: u64,
    pub(crate) toward: Toward,
    pub(crate) up: VecDeque<Wire>,
    pub(crate) down: VecDeque<Wire>,
    /// When the last of what is under way arrives.
    pub(crate) up_until: u64,
    pub(crate) down_until: u64,
    pub(crate) near_open: bool,
    pub(crate) far_open: bool,
    // The receiver's end.
    pub(crate) machine: server::Session<std::sync::Arc<server::Options>>,
    pub(crate) input: Vec<u8>,
    pub(crate) current: Current,
    pub(crate) taken_mails: u32,
    pub(crate) stalled: bool,
    pub(crate) wakes: Option<Instant>,
    pub(crate) wake_set: bool,
    // What the watch has seen.
    pub(crate) mails: u32,
    pub(crate) rcpts: u32,
    pub(crate) rcpt_max: Option<u32>,
}

#[derive(Default)]
pub(crate) struct Network {
    pub(crate) conns: BTreeMap<u32, Conn>,
    pub(crate) next: u32,
    pub(crate) watch: Watch,
}

/// A token bucket by the book, counted in tokens of `count` per `period` seconds, in units of a
/// nanosecond × count so that nothing is rounded.
#[derive(Clone, Copy, Debug, Default)]
struct Tokens {
    /// What is missing from a full bucket.
    used: u128,
    at: u64,
}

impl Tokens {
    /// Takes one; false if there was none, nor any of `more` that the bucket might hold.
    fn take(&mut self, rate: Rate, more: u32, now: u64) -> bool {
        let per_token = rate.period().as_nanos();
        let refilled = u128::from(now - self.at) * u128::from(rate.count());
        self.used = self.used.saturating_sub(refilled) + per_token;
        self.at = now;
        self.used <= per_token * u128::from(rate.burst() + more)
    }
}

#[derive(Default)]
struct Seen {
    open: u32,
    connections: Tokens,
    given: Tokens,
    messages: Tokens,
    sessions: u32,
}

/// See the module's docs.
#[derive(Default)]
pub(crate) struct Watch {
    seen: BTreeMap<Toward, Seen>,
    /// Sessions that the scheduler has opened and not been told the end of, and most of them.
    pub(crate) sessions: u32,
    pub(crate) messages: u64,
    pub(crate) connections: u64,
}

impl Watch {
    /// The server was started again: it doesn't know what it used up before.
    pub(crate) fn forget(&mut self) {
        self.seen.clear();
        self.sessions = 0;
    }

    /// A session toward there begins: it will connect, to one address after the other.
    pub(crate) fn begins(
        &mut self,
        toward: &Toward,
        limits: &LaneLimits,
        now: u64,
    ) -> Result<(), String> {
        let seen = self.seen.entry(toward.clone()).or_default();
        seen.sessions += 1;
        self.sessions += 1;
        if seen.sessions > limits.connections {
            return Err(format!(
                "{} sessions toward {toward:?}, {} may be",
                seen.sessions, limits.connections
            ));
        }
        if !seen.connections.take(limits.connection_rate, 0, now) {
            return Err(format!(
                "connections toward {toward:?} faster than {:?}",
                limits.connection_rate
            ));
        }
        Ok(())
    }

    pub(crate) fn ends(&mut self, toward: &Toward) {
        if let Some(seen) = self.seen.get_mut(toward) {
            seen.sessions -= 1;
        }
        self.sessions -= 1;
    }

    pub(crate) fn connects(&mut self, toward: &Toward, limits: &LaneLimits) -> Result<(), String> {
        self.connections += 1;
        let seen = self.seen.entry(toward.clone()).or_default();
        seen.open += 1;
        if seen.open > limits.connections {
            return Err(format!(
                "{} connections toward {toward:?}, {} may be",
                seen.open, limits.connections
            ));
        }
        Ok(())
    }

    pub(crate) fn closes(&mut self, toward: &Toward) {
        if let Some(seen) = self.seen.get_mut(toward) {
            seen.open -= 1;
        }
    }

    /// A session is given a message to send.
    pub(crate) fn gives(
        &mut self,
        toward: &Toward,
        limits: &LaneLimits,
        now: u64,
    ) -> Result<(), String> {
        let rate = limits.message_rate;
        let seen = self.seen.entry(toward.clone()).or_default();
        match seen.given.take(rate, 0, now) {
            true => Ok(()),
            false => Err(format!(
                "messages toward {toward:?} faster than {rate:?}: {:?}",
                seen.given
            )),
        }
    }

    /// Commands go out.
    pub(crate) fn commands(
        &mut self,
        conn: &mut Conn,
        bytes: &[u8],
        limits: &LaneLimits,
        now: u64,
    ) -> Result<(), String> {
        for line in bytes.split(|&b| b == b'\n') {
            if line.starts_with(b"MAIL FROM:") {
                conn.mails += 1;
                conn.rcpts = 0;
                self.messages += 1;
                if conn.mails > limits.messages_per_connection {
                    return Err(format!(
                        "{} messages on one connection toward {:?}, {} may be",
                        conn.mails, conn.toward, limits.messages_per_connection
                    ));
                }
                let seen = self.seen.entry(conn.toward.clone()).or_default();
                // A session may have been given one a while ago, and begin it now.
                let given = seen.open;
                if !seen.messages.take(limits.message_rate, given, now) {
                    return Err(format!(
                        "messages on the wire toward {:?} faster than {:?}",
                        conn.toward, limits.message_rate
                    ));
                }
            } else if line.starts_with(b"RCPT TO:") {
                conn.rcpts += 1;
                let most = limits
                    .recipients_per_transaction
                    .min(conn.rcpt_max.unwrap_or(u32::MAX).max(1));
                if conn.rcpts > most {
                    return Err(format!(
                        "{} recipients in one transaction toward {:?}, {most} may be",
                        conn.rcpts, conn.toward
                    ));
                }
            }
        }
        Ok(())
    }
}
