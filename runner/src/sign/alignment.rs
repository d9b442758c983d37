//! Whether mail that goes out will pass at receivers, where a stream requires that: a key that is
//! aligned with From signs it (RFC 9989 4.4), and SPF of its sender includes every address that it
//! may leave from.
//!
//! What is aligned is judged relaxed, by the organizational domain. SPF is asked for a sender's
//! domain and not for each sender: a record that looks at the local part is judged for postmaster.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use courser_core::auth::dmarc::{AuthorError, psl};
use courser_core::auth::spf::{self, Check, Request};
use courser_core::auth::{Evaluate, Step};
use courser_core::dns::Name;
use courser_core::time::Instant;

use crate::config::{Config, Source};
use crate::net::clock;
use crate::shard::Shard;

/// How long it is believed what SPF said of a domain; what DNS doesn't say is asked again at once.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Domains of which it is remembered at the most; beyond it everything is forgotten.
const REMEMBERED_MAX: usize = 10_000;
/// How long the same warning isn't logged again.
const WARNED: Duration = Duration::from_secs(300);
/// Addresses that one text names at the most: an SMTP reply has 512 bytes.
const NAMED_MAX: usize = 3;

/// What of a message its stream's requirement looks at.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose message it says it is.
    pub author: Result<Name, AuthorError>,
    /// The domains whose keys signed it.
    pub signed_by: Vec<Name>,
}

/// What is missing for mail to pass, and what would make it pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Enhanced status code, but for its class.
    pub code: (u16, u16),
    /// It may be there and could not be looked up.
    pub temporary: bool,
    /// In words.
    pub text: String,
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
        if lack.as_ref().is_some_and(|l| l.temporary) {
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
    if let Some(lack) = signature_lack(claim) {
        return Some(lack);
    }
    let domain = sender.rsplit_once('@').map_or("", |(_, domain)| domain);
    let key = (domain.to_ascii_lowercase(), pool);
    let now = clock::now();
    if let Some(known) = shard.alignment().borrow().spf(&key, now) {
        return known;
    }
    let members = config.pools.get(pool).map_or(&[][..], |p| &p.members);
    let sources = members.iter().filter_map(|m| config.sources.get(m.source));
    let mut judged = Vec::new();
    for source in sources {
        // Without an address of its own it isn't known what receivers will see.
        if let Some(ip) = source.address {
            judged.push((ip, check(shard, domain, source, ip).await));
        }
    }
    let lack = spf_lack(domain, &judged);
    shard
        .alignment()
        .borrow_mut()
        .remember(key, now, lack.clone());
    lack
}

fn signature_lack(claim: &Claim) -> Option<Lack> {
    let lack = |text| {
        Some(Lack {
            // RFC 7372 3.1: no valid author-matched DKIM signature.
            code: (7, 22),
            temporary: false,
            text,
        })
    };
    let author = match &claim.author {
        Ok(author) => author,
        Err(error) => {
            return lack(format!(
                "{error}: no DKIM key can be chosen; write one author into From"
            ));
        }
    };
    let org = psl::organizational_domain(author);
    let aligned = |d: &Name| psl::organizational_domain(d) == org;
    if claim.signed_by.iter().any(aligned) {
        return None;
    }
    lack(format!(
        "No DKIM key here signs for {author}, so that DMARC would fail: make one with `courser dkim \
         keygen --domain {org}`, publish its record SELECTOR._domainkey.{org}, and name it in \
         [[dkim.key]]"
    ))
}

/// What SPF says of mail of this domain from this source.
async fn check(shard: &Shard, domain: &str, source: &Source, ip: IpAddr) -> spf::Report {
    let mail_from = match domain {
        "" => String::new(),
        domain => format!("postmaster@{domain}"),
    };
    let mut check = Check::new(&Request {
        ip,
        mail_from: &mail_from,
        helo: &source.ehlo,
        receiver: None,
        now: clock::wall(),
        explain: false,
    });
    loop {
        match check.step() {
            Step::Ask(question) => check.answer(&shard.ask_dns(question).await.outcome),
            Step::Done(report) => return report,
        }
    }
}

fn spf_lack(domain: &str, judged: &[(IpAddr, spf::Report)]) -> Option<Lack> {
    let failing: Vec<_> = judged
        .iter()
        .filter(|(_, report)| report.result != spf::Result::Pass)
        .collect();
    let (_, first) = failing.first()?;
    // The name that was checked: for the null reverse-path it is that of EHLO.
    let checked = if domain.is_empty() {
        &*first.domain
    } else {
        domain
    };
    let terms = failing.iter().map(|(ip, _)| match ip {
        IpAddr::V4(ip) => format!("ip4:{ip}"),
        IpAddr::V6(ip) => format!("ip6:{ip}"),
    });
    let more = failing.len().saturating_sub(NAMED_MAX);
    let mut add = terms.take(NAMED_MAX).collect::<Vec<_>>().join(" ");
    if more > 0 {
        add.push_str(&format!(" and {more} more"));
    }
    let unknown = failing
        .iter()
        .find(|(_, report)| report.result == spf::Result::TempError);
    let error = |report: &spf::Report| report.error.as_ref().map(ToString::to_string);
    let (code, text) = if let Some((_, report)) = unknown {
        let why = error(report).unwrap_or_default();
        // RFC 7372 3.2: SPF validation error.
        (
            24,
            format!("SPF of {checked} can't be looked up now: {why}"),
        )
    } else {
        match first.result {
            spf::Result::None => (
                23,
                format!(
                    "{checked} has no SPF record: publish TXT \"v=spf1 {add} ~all\" there, or use \
                     a sender whose record has these addresses"
                ),
            ),
            spf::Result::PermError => (
                24,
                format!("SPF: {}; mend it", error(first).unwrap_or_default()),
            ),
            result => (
                23,
                format!(
                    "SPF of {checked} gives {result} for addresses that this mail would leave \
                     from: add {add} to its record, before its \"all\""
                ),
            ),
        }
    };
    Some(Lack {
        code: (7, code),
        temporary: unknown.is_some(),
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use courser_core::dns::{Failure, Outcome, Records};
    use courser_core::time::Wall;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_key_of_the_authors_organization_is_needed() {
        let lack = |author: &str, signed_by: &[&str]| {
            signature_lack(&Claim {
                author: Ok(name(author)),
                signed_by: signed_by.iter().map(|d| name(d)).collect(),
            })
        };
        assert_eq!(lack("news.example.com", &["example.com"]), None);
        assert_eq!(
            lack("example.com", &["esp.example", "shop.example.com"]),
            None
        );
        for signed_by in [&[][..], &["esp.example"], &["example.org"], &["com"]] {
            let lack = lack("news.example.com", signed_by).unwrap();
            assert_eq!((lack.code, lack.temporary), ((7, 22), false));
            assert!(lack.text.contains("for news.example.com"), "{}", lack.text);
            assert!(lack.text.contains("SELECTOR._domainkey.example.com"));
        }
        // Neighbours below a public suffix are strangers.
        assert!(lack("a.co.uk", &["b.co.uk"]).is_some());
        let unreadable = Claim {
            author: Err(AuthorError::Domains),
            signed_by: vec![name("example.com")],
        };
        let lack = signature_lack(&unreadable).unwrap();
        assert!(lack.text.contains("several domains"), "{}", lack.text);
    }

    fn report(ip: &str, outcome: Outcome) -> (IpAddr, spf::Report) {
        let ip = ip.parse().unwrap();
        let request = Request {
            ip,
            mail_from: "postmaster@example.com",
            helo: "mta.example.org",
            receiver: None,
            now: Wall::from_unix(0),
            explain: false,
        };
        (ip, Check::new(&request).run(|_| outcome.clone()))
    }

    fn txt(text: &str) -> Outcome {
        Outcome::Found(Records::Txt([text.as_bytes().into()].into()))
    }

    #[test]
    fn every_source_must_be_in_the_record() {
        let of = |ips: &[&str], outcome: Outcome| {
            let judged: Vec<_> = ips.iter().map(|ip| report(ip, outcome.clone())).collect();
            spf_lack("example.com", &judged)
        };
        let two = ["192.0.2.1", "2001:db8::1"];
        assert_eq!(
            of(&two, txt("v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 -all")),
            None
        );
        assert_eq!(of(&[], Outcome::NoName), None);
        let lack = |outcome| of(&two, outcome).unwrap();
        let one = lack(txt("v=spf1 ip4:192.0.2.1 ~all"));
        assert_eq!((one.code, one.temporary), ((7, 23), false));
        assert!(one.text.contains("softfail"), "{}", one.text);
        assert!(
            one.text.contains("add ip6:2001:db8::1 to its record"),
            "{}",
            one.text
        );
        let none = lack(Outcome::NoName);
        assert!(
            none.text
                .contains("\"v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 ~all\"")
        );
        let wrong = lack(txt("v=spf1 ip4:192.0.2 -all"));
        assert_eq!((wrong.code, wrong.temporary), ((7, 24), false));
        assert!(wrong.text.contains("ip4:192.0.2"), "{}", wrong.text);
        let late = lack(Outcome::Failed(Failure::Timeout));
        assert_eq!((late.code, late.temporary), ((7, 24), true));
        let many: Vec<String> = (0..200)
            .map(|n| format!("2001:db8:1111:2222:3333:4444:5555:{n:x}"))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let lack = of(&many, txt("v=spf1 -all")).unwrap();
        assert!(lack.text.contains("and 197 more"), "{}", lack.text);
        assert!(lack.text.len() < 400);
    }

    #[test]
    fn what_is_remembered_has_its_time_and_its_bound() {
        let mut memory = Findings::default();
        let at = |s: u64| Instant::from_nanos(s * 1_000_000_000);
        let lack = |temporary| Lack {
            code: (7, 23),
            temporary,
            text: String::new(),
        };
        let key = |n: usize| (n.to_string(), n);
        memory.remember(key(1), at(0), Some(lack(false)));
        memory.remember(key(2), at(0), Some(lack(true)));
        memory.remember(key(3), at(0), None);
        assert_eq!(memory.spf(&key(1), at(299)), Some(Some(lack(false))));
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
