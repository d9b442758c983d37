//! TLS reports (RFC 8460): domains hear once a day what came of TLS with their hosts.
//!
//! ```text
//!  shard                       control plane                              disk (SPOOL_DIR/tls-reports/)
//!  session ──Sessions──▶ Results ──every second──▶ Book ──every minute──▶ 20270115.results
//!                                                   │ the day is over, and DNS names who wants to hear
//!                                                   ▼
//!                                                 sealed ─────────────▶ 20270115/DOMAIN
//!                                                   └──▶ mail into the spool, or HTTPS
//! ```
//!
//! What is counted, and how a report says it, is [`courser_core::route::tlsrpt`]'s.
//!
//! | file | does |
//! |---|---|
//! | [`book`] | adds up, keeps it over a restart, and knows what was sent |
//! | [`desk`] | sends reports, on the control plane |
//! | this one | takes what sessions came to from the shards |

pub mod book;
pub mod desk;

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use courser_core::dns::Name;
use courser_core::route::tlsrpt::Session;
use courser_core::time::Wall;

use crate::config::Config;
use crate::route::mta_sts::SitePolicy;
use crate::sign::Keys;

pub use desk::Desk;

/// Results that wait for the control plane, at most; it takes them every second.
const WAITING_MAX: usize = 200_000;
/// Domains of one delivery session that are counted; a connection seldom has so many.
const DOMAINS_MAX: usize = 10_000;

/// A session came to this, with mail for this domain.
#[derive(Clone, Debug)]
pub struct Counted {
    /// When.
    pub at: Wall,
    /// The domain.
    pub domain: Name,
    /// The session.
    pub session: Arc<Session>,
    /// The domain's policy of MTA-STS, or why it can't be had.
    pub sts: Option<SitePolicy>,
}

/// What the shards bring and the control plane takes.
#[derive(Debug, Default)]
pub struct Results {
    waiting: Mutex<Vec<Counted>>,
    dropped: AtomicU64,
}

impl Results {
    /// Brings these, as many as there is room for; the others are counted as lost.
    pub fn put(&self, mut more: Vec<Counted>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let room = WAITING_MAX.saturating_sub(waiting.len());
        let lost = more.len().saturating_sub(room);
        more.truncate(room);
        waiting.append(&mut more);
        drop(waiting);
        self.lost(lost as u64);
    }

    /// So many could not be counted.
    pub fn lost(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes all, and how many were lost since this was asked last.
    pub fn take(&self) -> (Vec<Counted>, u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::take(&mut *waiting);
        (taken, self.dropped.swap(0, Ordering::Relaxed))
    }
}

/// What the connections of one delivery session came to: those to hosts whose TLS failed, and the one
/// that takes mail. They count once for each domain that there was mail for.
#[derive(Debug, Default)]
pub struct Sessions {
    all: Vec<Arc<Session>>,
    domains: RefCell<HashSet<Box<str>>>,
}

impl Sessions {
    /// One more connection.
    pub fn push(&mut self, session: Session) {
        self.all.push(Arc::new(session));
    }

    /// Whether there is nothing to count.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All connections, if they have not been counted for `domain` yet.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn for_domain(&self, domain: &str) -> Result<&[Arc<Session>], TooMany> {
        let mut domains = self.domains.borrow_mut();
        if self.is_empty() || domains.contains(domain) {
            return Ok(&[]);
        }
        if domains.len() >= DOMAINS_MAX {
            return Err(TooMany);
        }
        domains.insert(domain.into());
        Ok(&self.all)
    }
}

/// A session has mail for more domains than are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// What is wrong with how reports are sent, for the operator.
pub fn warnings(config: &Config, keys: &Keys, now: Wall) -> Vec<String> {
    let report = &config.tls.report;
    if !report.enabled {
        return Vec::new();
    }
    let submitter = report.submitter();
    let signs =
        Name::parse(submitter).is_ok_and(|author| !keys.for_author(&author, None, now).is_empty());
    let unsigned = (!signs).then(|| {
        format!(
            "tls.report is enabled, but no DKIM key signs for {submitter}: reports are not sent by \
             mail, since unsigned ones are ignored (RFC 8460 3); make one with `courser dkim keygen \
             --domain {submitter}`, or name another address in tls.report.from"
        )
    });
    unsigned.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session {
            host: "mx.example.net".into(),
            receiving_ip: None,
            sending_ip: None,
            tlsa: None,
            fault: None,
            fault_by_test: None,
        }
    }

    #[test]
    fn once_for_each_domain() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.for_domain("a.example"), Ok(&[][..]));
        sessions.push(session());
        sessions.push(session());
        let count = |domain: &str| sessions.for_domain(domain).map(<[_]>::len);
        assert_eq!(count("a.example"), Ok(2));
        assert_eq!(count("b.example"), Ok(2));
        assert_eq!(count("a.example"), Ok(0));
        for n in 2..DOMAINS_MAX {
            assert_eq!(count(&n.to_string()), Ok(2));
        }
        assert_eq!(count("c.example"), Err(TooMany));
        assert_eq!(count("b.example"), Ok(0));
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let results = Results::default();
        let one = Counted {
            at: Wall::from_unix(0),
            domain: Name::parse("a.example").unwrap(),
            session: Arc::new(session()),
            sts: None,
        };
        results.put(vec![one.clone(); WAITING_MAX - 1]);
        results.put(vec![one; 5]);
        results.lost(2);
        let (taken, lost) = results.take();
        assert_eq!((taken.len(), lost), (WAITING_MAX, 6));
        assert_eq!(results.take().1, 0);
    }
}
