//! What an evaluation comes to, and why.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;

use super::author::AuthorError;
use super::record::{Fault, Policy, Record};
use crate::auth::results::MethodResult;
use crate::dns::{Failure, Name};

/// Results as RFC 8601 2.7 and RFC 9989 9.3 name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DmarcResult {
    /// There is no policy, or no author domain to have one.
    None,
    /// Something that passed is aligned.
    Pass,
    /// Nothing that passed is aligned.
    Fail,
    /// It may come out otherwise later.
    TempError,
    /// The record is of no use.
    PermError,
}

impl DmarcResult {
    /// `none`, `pass`, `fail`, `temperror` or `permerror`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

impl fmt::Display for DmarcResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A record and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The domain that it is of, without `_dmarc`.
    pub domain: Name,
    /// As published.
    pub text: Box<str>,
    /// As read.
    pub record: Record,
    /// What in it doesn't count.
    pub faults: Vec<Fault>,
}

/// Why the result is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// There is no author domain.
    Author(AuthorError),
    /// No domain that could have one has a record.
    NoRecord,
    /// This domain has several records, which count as none.
    Several(Name),
    /// The record of this domain could not be asked for.
    Dns(Name, Failure),
    /// The record of this domain has no policy that can be read, and asks for no reports.
    NoPolicy(Name),
    /// What passed and is aligned.
    Aligned {
        /// By SPF.
        spf: Option<Name>,
        /// By DKIM.
        dkim: Option<Name>,
    },
    /// Nothing passed that is aligned, but this domain might have, or might be.
    Unsure(Name),
    /// Nothing that passed is aligned.
    Unaligned,
    /// Nothing that passed is aligned, and `t=y` asks for the next milder policy.
    Test,
    /// Nothing that passed is aligned, and `pct` leaves this message out.
    Unsampled,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Author(error) => error.fmt(f),
            Self::NoRecord => f.write_str("no DMARC record applies to the author domain"),
            Self::Several(name) => write!(f, "_dmarc.{name} has several DMARC records"),
            Self::Dns(name, failure) => write!(f, "_dmarc.{name}: {failure}"),
            Self::NoPolicy(name) => write!(
                f,
                "the record at _dmarc.{name} has no policy that can be read, and no rua"
            ),
            Self::Aligned { spf, dkim } => {
                let mut separator = "";
                for (method, domain) in [("SPF", spf), ("DKIM", dkim)] {
                    if let Some(domain) = domain {
                        write!(f, "{separator}{method} passed for {domain}")?;
                        separator = " and ";
                    }
                }
                f.write_str(", aligned with the author domain")
            }
            Self::Unsure(name) => write!(
                f,
                "a temporary error keeps {name} from passing or being aligned"
            ),
            Self::Unaligned => f.write_str("nothing that passed is aligned with the author domain"),
            Self::Test => write!(
                f,
                "{}; t=y asks for the next milder policy",
                Self::Unaligned
            ),
            Self::Unsampled => write!(f, "{}; pct leaves this message out", Self::Unaligned),
        }
    }
}

/// What the evaluation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conclusion {
    /// The result.
    pub result: DmarcResult,
    /// What the record asks for mail of this author domain that fails; `None` without a record
    /// that can be used.
    pub policy: Option<Policy>,
    /// What the domain wants done with this message. What is done is the receiver's own choice
    /// (RFC 9989 5.4).
    pub disposition: Policy,
    /// The author domain.
    pub author: Option<Name>,
    /// Its organizational domain; `None` if it could not be found out.
    pub org_domain: Option<Name>,
    /// The record that applies.
    pub found: Option<Found>,
    /// Why.
    pub reason: Reason,
}

impl Conclusion {
    pub(super) fn without(reason: Reason) -> Self {
        Self {
            result: DmarcResult::None,
            policy: None,
            disposition: Policy::None,
            author: None,
            org_domain: None,
            found: None,
            reason,
        }
    }
}

/// For the field Authentication-Results (RFC 9989 9.1 and 9.2).
impl From<&Conclusion> for MethodResult {
    fn from(conclusion: &Conclusion) -> Self {
        let mut result = Self::new("dmarc", conclusion.result.as_str());
        match conclusion.reason {
            Reason::Aligned { .. } | Reason::NoRecord => {}
            ref reason => result = result.reason(reason.to_string()),
        }
        if let Some(author) = &conclusion.author {
            result = result.property("header", "from", author.as_str());
        }
        let Some(found) = &conclusion.found else {
            return result;
        };
        if let Some(p) = found.record.p {
            result = result.property("polrec", "p", p.as_str());
        }
        match &conclusion.author {
            Some(author) if *author == found.domain => result,
            _ => result.property("polrec", "domain", found.domain.as_str()),
        }
    }
}
