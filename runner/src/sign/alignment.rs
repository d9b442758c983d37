//! Whether a stream's mail will be found authenticated, where the stream requires that: the rules are
//! the core's, what SPF says is asked here and remembered for a while.
//!
//! SPF is asked for a sender's domain and not for each sender: a record that looks at the local part
//! is judged for postmaster.

use std::collections::HashMap;
use std::time::Duration;

use courser_core::auth::alignment::{Lack, signature_lack, spf_lack};
use courser_core::auth::dmarc::AuthorError;
use courser_core::auth::spf::{self, Check, Request};
use courser_core::dns::Name;
use courser_core::time::Instant;

use crate::config::Config;
use crate::net::clock;
use crate::shard::Shard;

/// How long it is believed what SPF said of a domain; what DNS doesn't say is asked again at once.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Domains of which it is remembered at the most; beyond it everything is forgotten.
const REMEMBERED_MAX: usize = 10_000;
/// How long the same warning isn't logged again.
const WARNED: Duration = Duration::from_secs(300);
/// How long DNS is asked for one sender, all addresses together: the client waits for its answer.
const ASKED_WITHIN: Duration = Duration::from_secs(60);

/// What of a message its stream's requirement looks at.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose message it says it is.
    pub author: Result<Name, AuthorError>,
    /// The domains whose keys signed it.
    pub signed_by: Vec<Name>,
}

/// What was found of late.
#[derive(Debug, Default)]
pub struct Findings {
    spf: HashMap<(String, usize), (Instant, Option<Lack>)>,
    warned: HashMap<String, Instant>,
}

impl Findings {
    /// Forgets everything: sources and pools may be others now.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn spf(&self, key: &(String, usize), now: Instant) -> Option<Option<Lack>> {
        let (until, lack) = self.spf.get(key)?;
        (now < *until).then(|| lack.clone())
    }

    fn remember(&mut self, key: (String, usize), now: Instant, lack: Option<Lack>) {
        if lack.as_ref().is_some_and(|l| l.is_temporary()) {
            return;
        }
        if self.spf.len() >= REMEMBERED_MAX {
            self.spf.clear();
        }
        self.spf.insert(key, (now + REMEMBERED, lack));
    }

    /// Whether this wasn't logged of late.
    pub fn is_news(&mut self, text: &str, now: Instant) -> bool {
        if self.warned.get(text).is_some_and(|until| now < *until) {
            return false;
        }
        if self.warned.len() >= REMEMBERED_MAX {
            self.warned.clear();
        }
        self.warned.insert(text.to_owned(), now + WARNED);
        true
    }
}

/// What is missing for a message of `sender` that leaves from `pool`, a position in
/// [`Config::pools`].
pub async fn lack(
    shard: &Shard,
    config: &Config,
    pool: usize,
    sender: &str,
    claim: &Claim,
) -> Option<Lack> {
    let lack = signature_lack(&claim.author, &claim.signed_by);
    if lack.is_some() {
        return lack;
    }
    let domain = sender.rsplit_once('@').map_or("", |(_, domain)| domain);
    let key = (domain.to_ascii_lowercase(), pool);
    let now = clock::now();
    if let Some(known) = shard.alignment().borrow().spf(&key, now) {
        return known;
    }
    let mail_from = match domain {
        "" => String::new(),
        domain => format!("postmaster@{domain}"),
    };
    let members = config.pools.get(pool).map_or(&[][..], |p| &p.members);
    let sources = members.iter().filter_map(|m| config.sources.get(m.source));
    let mut judged = Vec::new();
    for source in sources {
        // Without an address of its own it isn't known what receivers will see.
        let Some(ip) = source.address else { continue };
        let check = Check::new(&Request {
            ip,
            mail_from: &mail_from,
            helo: &source.ehlo,
            receiver: None,
            now: clock::wall(),
            explain: false,
        });
        let report = shard.evaluate(check, now + ASKED_WITHIN).await;
        let is_known = report.result != spf::Result::TempError;
        judged.push((ip, report));
        if !is_known {
            // The others decide nothing any more, and would be waited for as long.
            break;
        }
    }
    let lack = spf_lack(&judged);
    shard
        .alignment()
        .borrow_mut()
        .remember(key, now, lack.clone());
    lack
}

#[cfg(test)]
mod tests {
    use super::*;
    use courser_core::auth::Evaluate;
    use courser_core::dns::{Failure, Outcome};
    use courser_core::time::Wall;

    /// What is missing where DNS says this.
    fn lack(outcome: Outcome) -> Lack {
        let ip = [192, 0, 2, 1].into();
        let request = Request {
            ip,
            mail_from: "postmaster@example.com",
            helo: "mta.example.org",
            receiver: None,
            now: Wall::from_unix(0),
            explain: false,
        };
        let report = Check::new(&request).run(|_| outcome.clone());
        spf_lack(&[(ip, report)]).unwrap()
    }

    #[test]
    fn what_is_remembered_has_its_time_and_its_bound() {
        let mut memory = Findings::default();
        let at = |s: u64| Instant::from_nanos(s * 1_000_000_000);
        let (none, late) = (
            lack(Outcome::NoName),
            lack(Outcome::Failed(Failure::Timeout)),
        );
        let key = |n: usize| (n.to_string(), n);
        memory.remember(key(1), at(0), Some(none.clone()));
        memory.remember(key(2), at(0), Some(late));
        memory.remember(key(3), at(0), None);
        assert_eq!(memory.spf(&key(1), at(299)), Some(Some(none.clone())));
        assert_eq!(memory.spf(&key(1), at(300)), None);
        assert_eq!(memory.spf(&key(2), at(0)), None);
        assert_eq!(memory.spf(&key(3), at(1)), Some(None));
        for n in 0..2 * REMEMBERED_MAX {
            memory.remember(key(n), at(0), None);
            memory.is_news(&n.to_string(), at(0));
        }
        assert!(memory.spf.len() <= REMEMBERED_MAX && memory.warned.len() <= REMEMBERED_MAX);
        memory.clear();
        assert!(memory.is_news("a", at(0)) && !memory.is_news("a", at(299)));
        assert!(memory.is_news("b", at(0)) && memory.is_news("a", at(300)));
    }
}
