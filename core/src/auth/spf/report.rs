//! What comes of an evaluation: the result, what decided it, and errors that an operator
//! understands.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use super::record::SyntaxError;
use crate::dns::{Failure, Question};
use crate::limits::{SPF_LOOKUPS_MAX, SPF_MX_HOSTS_MAX, SPF_VOID_LOOKUPS_MAX};

/// Results of check_host() (RFC 7208 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Result {
    /// There is no domain, or it has no record (2.6.1).
    None,
    /// The domain says nothing about this client (2.6.2).
    Neutral,
    /// The client may send for the domain (2.6.3).
    Pass,
    /// It may not (2.6.4).
    Fail,
    /// It probably may not (2.6.5).
    SoftFail,
    /// DNS failed; later may be better (2.6.6).
    TempError,
    /// The domain's records can't be understood, or ask for too much (2.6.7).
    PermError,
}

impl Result {
    /// As it is written in header fields (RFC 7208 9.1, RFC 8601 2.7.2).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Neutral => "neutral",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }

    /// The result of this name, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::None,
            Self::Neutral,
            Self::Pass,
            Self::Fail,
            Self::SoftFail,
            Self::TempError,
            Self::PermError,
        ]
        .into_iter()
        .find(|result| text.eq_ignore_ascii_case(result.as_str()))
    }
}

impl fmt::Display for Result {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A mechanism that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// As it is written in the record, with its qualifier.
    pub term: String,
    /// The domain whose record that is.
    pub domain: String,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in the SPF record of {}", self.term, self.domain)
    }
}

/// What came of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The result.
    pub result: Result,
    /// The domain that was checked: that of MAIL FROM, or for a null reverse-path that of HELO
    /// (RFC 7208 2.4). What DMARC aligns.
    pub domain: String,
    /// The mechanism that decided; `None` where none matched. In the record of
    /// [`domain`](Self::domain), or of the one that `redirect` led to.
    pub mechanism: Option<Match>,
    /// Where [`mechanism`](Self::mechanism) is an `include`: the mechanism behind it that let the
    /// client pass.
    pub included: Option<Match>,
    /// The domain's own words about a fail, printable ASCII. They are a stranger's: say whose they
    /// are when you pass them on (RFC 7208 6.2, 11.5).
    pub explanation: Option<String>,
    /// Terms that ask DNS, up to and with the one that is too many (4.6.4).
    pub lookups: u32,
    /// Those whose answer was void, up to and with the one that is too many (4.6.4).
    pub void_lookups: u32,
    /// Why there is no better result than none, temperror or permerror.
    pub error: Option<Error>,
}

/// Why a check ended without a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The domain whose record is wrong, or the one that is none.
    pub domain: String,
    /// The term of it that is, if it is one.
    pub term: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// What should be a domain isn't one that can have a record (RFC 7208 4.3).
    NotADomain,
    /// The record has a mistake (4.6).
    Syntax(SyntaxError),
    /// There is more than one record (4.5).
    ManyRecords(usize),
    /// `include` or `redirect` lead to a domain without a record (5.2, 6.1).
    NoRecord(String),
    /// `include` or `redirect` lead to what is no domain (4.3).
    NoDomain(String),
    /// More terms that ask DNS than may be (4.6.4).
    Lookups,
    /// More void answers than may be (4.6.4).
    VoidLookups,
    /// This domain has more MX hosts than may be (4.6.4).
    MxHosts(Box<str>, usize),
    /// DNS failed.
    Dns(Question, Failure),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            term,
            problem,
        } = self;
        match problem {
            Problem::NotADomain => {
                return write!(f, "{domain:?} is not a domain that can have an SPF record");
            }
            Problem::ManyRecords(n) => {
                return write!(f, "{domain} has {n} SPF records, and may have one");
            }
            Problem::Dns(question, failure) if term.is_none() => {
                return write!(f, "{question}: {failure}");
            }
            _ => write!(f, "SPF record of {domain}")?,
        }
        if let Some(term) = term {
            write!(f, ", {term}")?;
        }
        f.write_str(": ")?;
        match problem {
            Problem::Syntax(error) => write!(f, "{error}"),
            Problem::NoRecord(target) => write!(f, "{target} has no SPF record"),
            Problem::NoDomain(target) => write!(f, "it leads to {target:?}, which is no domain"),
            Problem::Lookups => write!(
                f,
                "with this term more than {SPF_LOOKUPS_MAX} terms ask DNS, counting those of included records"
            ),
            Problem::VoidLookups => write!(
                f,
                "with this term more than {SPF_VOID_LOOKUPS_MAX} terms ask DNS for what does not exist"
            ),
            Problem::MxHosts(target, n) => write!(
                f,
                "{target} has {n} MX hosts, and may have {SPF_MX_HOSTS_MAX} here"
            ),
            Problem::Dns(question, failure) => write!(f, "{question}: {failure}"),
            Problem::NotADomain | Problem::ManyRecords(_) => Ok(()),
        }
    }
}
impl core::error::Error for Error {}
