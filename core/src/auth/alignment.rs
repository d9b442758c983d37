//! Whether mail that goes out will be found authenticated: a key that is aligned with From signs it
//! (RFC 9989 4.4), and SPF of its sender includes every address that it may leave from.
//!
//! What is aligned is judged relaxed, by the organizational domain. Ask for the SPF reports of all
//! addresses with [`spf::Check`], and show them to [`spf_lack`]; [`Lack`] says in words which record
//! would help.

use super::dmarc::{AuthorError, psl};
use super::spf;
use crate::dns::Name;
use crate::limits::ALIGNMENT_ADDRESSES_NAMED_MAX;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

/// What is missing for mail to be found authenticated. `Display` says it, and what would help.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lack {
    /// Whose message it is can't be told, so that no key is aligned with it.
    Author(AuthorError),
    /// No key of the author's organization signs.
    Signature {
        /// The domain in From.
        author: Name,
    },
    /// SPF does not let it pass from everywhere.
    Spf {
        /// The domain that was checked.
        domain: Box<str>,
        /// The addresses for which it gives something else than pass.
        addresses: Vec<IpAddr>,
        /// What it gives, and why: of a check that DNS cut short if there is one, else of the first.
        report: Box<spf::Report>,
    },
}

impl Lack {
    /// Subject and detail of an enhanced status code (RFC 7372 3.1, 3.2).
    pub const fn code(&self) -> (u16, u16) {
        match self {
            Self::Author(_) | Self::Signature { .. } => (7, 22),
            Self::Spf { report, .. } => match report.result {
                spf::Result::TempError | spf::Result::PermError => (7, 24),
                _ => (7, 23),
            },
        }
    }

    /// Whether it may be there, and could not be looked up.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Spf { report, .. } if report.result == spf::Result::TempError)
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (domain, addresses, report) = match self {
            Self::Author(error) => {
                return write!(
                    f,
                    "{error}: no DKIM key can be chosen; write one author into From"
                );
            }
            Self::Signature { author } => {
                let org = psl::organizational_domain(author);
                return write!(
                    f,
                    "No DKIM key here signs for {author}, so that DMARC would fail: {org} needs a \
                     key, and its record at SELECTOR._domainkey.{org}"
                );
            }
            Self::Spf {
                domain,
                addresses,
                report,
            } => (domain, Terms(addresses), report),
        };
        match (&report.result, &report.error) {
            (spf::Result::TempError, Some(error)) => {
                write!(f, "SPF of {domain} can't be looked up now: {error}")
            }
            (spf::Result::PermError, Some(error)) => write!(f, "SPF: {error}; mend it"),
            (spf::Result::None, _) => write!(
                f,
                "{domain} has no SPF record: publish TXT \"v=spf1 {addresses} ~all\" there, or use a \
                 sender whose record has these addresses"
            ),
            (result, _) => write!(
                f,
                "SPF of {domain} gives {result} for addresses that this mail would leave from: add \
                 {addresses} to its record, before its \"all\""
            ),
        }
    }
}

/// Addresses as terms of an SPF record, the first few: a line of a reply has room for no more.
struct Terms<'a>(&'a [IpAddr]);

impl fmt::Display for Terms<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, ip) in self
            .0
            .iter()
            .take(ALIGNMENT_ADDRESSES_NAMED_MAX)
            .enumerate()
        {
            let space = if n == 0 { "" } else { " " };
            let version = if ip.is_ipv4() { 4 } else { 6 };
            write!(f, "{space}ip{version}:{ip}")?;
        }
        match self.0.len().saturating_sub(ALIGNMENT_ADDRESSES_NAMED_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// What is missing of a message from `author` that is signed for these domains (`d=`).
pub fn signature_lack<'a>(
    author: &Result<Name, AuthorError>,
    signed_for: impl IntoIterator<Item = &'a Name>,
) -> Option<Lack> {
    let author = match author {
        Ok(author) => author,
        Err(error) => return Some(Lack::Author(*error)),
    };
    let org = psl::organizational_domain(author);
    let aligned = |domain: &Name| psl::organizational_domain(domain) == org;
    (!signed_for.into_iter().any(aligned)).then(|| Lack::Signature {
        author: author.clone(),
    })
}

/// What is missing for mail from one sender, of which SPF says this for each address that it may
/// leave from.
pub fn spf_lack(judged: &[(IpAddr, spf::Report)]) -> Option<Lack> {
    let failing = || {
        judged
            .iter()
            .filter(|(_, report)| report.result != spf::Result::Pass)
    };
    let unknown = failing().find(|(_, report)| report.result == spf::Result::TempError);
    let (_, report) = unknown.or(failing().next())?;
    Some(Lack::Spf {
        domain: report.domain.as_str().into(),
        addresses: failing().map(|(ip, _)| *ip).collect(),
        report: Box::new(report.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Evaluate;
    use crate::dns::{Failure, Outcome, Records};
    use crate::time::Wall;
    use alloc::string::{String, ToString};

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_key_of_the_authors_organization_is_needed() {
        let lack = |author: &str, signed_for: &[&str]| {
            let signed_for: Vec<_> = signed_for.iter().map(|d| name(d)).collect();
            signature_lack(&Ok(name(author)), &signed_for)
        };
        assert_eq!(lack("news.example.com", &["example.com"]), None);
        assert_eq!(
            lack("example.com", &["esp.example", "shop.example.com"]),
            None
        );
        for signed_for in [&[][..], &["esp.example"], &["example.org"], &["com"]] {
            let lack = lack("news.example.com", signed_for).unwrap();
            assert_eq!((lack.code(), lack.is_temporary()), ((7, 22), false));
            let text = lack.to_string();
            assert!(text.contains("for news.example.com"), "{text}");
            assert!(text.contains("SELECTOR._domainkey.example.com"), "{text}");
        }
        // Neighbours below a public suffix are strangers.
        assert!(lack("a.co.uk", &["b.co.uk"]).is_some());
        let unreadable =
            signature_lack(&Err(AuthorError::Domains), &[name("example.com")]).unwrap();
        assert_eq!(unreadable.code(), (7, 22));
        let text = unreadable.to_string();
        assert!(text.contains("several domains"), "{text}");
    }

    fn report(ip: IpAddr, outcome: &Outcome) -> (IpAddr, spf::Report) {
        let request = spf::Request {
            ip,
            mail_from: "postmaster@example.com",
            helo: "mta.example.org",
            receiver: None,
            now: Wall::from_unix(0),
            explain: false,
        };
        (ip, spf::Check::new(&request).run(|_| outcome.clone()))
    }

    fn txt(text: &str) -> Outcome {
        Outcome::Found(Records::Txt([text.as_bytes().into()].into()))
    }

    #[test]
    fn every_address_must_be_in_the_record() {
        let of = |ips: &[IpAddr], outcome: Outcome| {
            let judged: Vec<_> = ips.iter().map(|ip| report(*ip, &outcome)).collect();
            spf_lack(&judged)
        };
        let two = ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().unwrap());
        let both = txt("v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 -all");
        assert_eq!(of(&two, both), None);
        assert_eq!(of(&[], Outcome::NoName), None);
        for (outcome, detail, temporary, words) in [
            (
                txt("v=spf1 ip4:192.0.2.1 ~all"),
                23,
                false,
                "gives softfail for addresses that this mail would leave from: add ip6:2001:db8::1 to",
            ),
            (
                Outcome::NoName,
                23,
                false,
                "\"v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 ~all\"",
            ),
            (txt("v=spf1 ip4:192.0.2 -all"), 24, false, "ip4:192.0.2"),
            (
                Outcome::Failed(Failure::Timeout),
                24,
                true,
                "can't be looked up now",
            ),
        ] {
            let lack = of(&two, outcome).unwrap();
            assert_eq!((lack.code(), lack.is_temporary()), ((7, detail), temporary));
            let text = lack.to_string();
            assert!(
                text.contains(words) && text.contains("example.com"),
                "{text}"
            );
        }
        let many: Vec<IpAddr> = (0..200)
            .map(|n| [0x2001, 0xdb8, 0x1111, 0x2222, 0x3333, 0x4444, 0x5555, n].into())
            .collect();
        let text: String = of(&many, txt("v=spf1 -all")).unwrap().to_string();
        assert!(text.contains("and 197 more"), "{text}");
        assert!(text.len() < 400);
    }

    #[test]
    fn what_dns_does_not_say_makes_it_temporary() {
        let [one, two] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        let late = Outcome::Failed(Failure::Timeout);
        let judged = [report(one, &txt("v=spf1 -all")), report(two, &late)];
        let lack = spf_lack(&judged).unwrap();
        assert!(lack.is_temporary() && lack.code() == (7, 24));
    }
}
