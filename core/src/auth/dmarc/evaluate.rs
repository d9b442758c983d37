//! The evaluation: which policy applies, what is aligned, and what that comes to.
//!
//! ```text
//!  author ──▶ policy record ──▶ which of what passed is aligned ──▶ result, policy, disposition
//!             _dmarc.… TXT       _dmarc.… TXT of those domains
//! ```
//!
//! Two ways lead to the policy record and to organizational domains ([`Discovery`]):
//!
//! - **Tree walk** (RFC 9989 4.10), the default. `_dmarc` of the domain, then of its parents up to
//!   the top level; of more than eight labels those between the eighth and the first are skipped,
//!   so it is [`DMARC_WALK_QUERIES_MAX`] questions at most. It ends at `psd=n`, and above its start
//!   at `psd=y`. Of the records on the way, `psd=n` marks the organizational domain, `psd=y` the
//!   one above it, and else it is the shortest name that has one (4.10.2). The policy is the
//!   author domain's record, else the organizational domain's, else that of the public suffix
//!   (4.10.1). An authenticated domain walks its own way, unless it can't meet the author's.
//! - **Public suffix list** (RFC 7489 3.2, 6.6.3). The author domain's record, else that of the
//!   organizational domain by the list. Alignment asks nothing.
//!
//! What is decided here where the RFCs leave it open:
//! - A question about the policy that fails is `temperror`, whatever to do about it is the
//!   caller's (RFC 9989 4.10.1); if only the way above an author domain with a record of its own
//!   fails, what is equal to it still passes.
//! - If SPF or DKIM had a temporary error and nothing else passes, the result is `temperror` and
//!   no policy is applied (RFC 9989 5.3.5) only if that domain would have been aligned: otherwise
//!   a signature of anybody whose key can't be fetched would switch any policy off.
//! - A domain doesn't exist if DNS says NXDOMAIN (RFC 9989 3.2.13); a failure is no NXDOMAIN. It
//!   is asked only if `np` differs from what holds for existing subdomains.
//! - Several records at one name are none (RFC 9989 4.10 step 2). In the walk it goes on above;
//!   by the list it ends there (RFC 7489 6.6.3 step 5).

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::author::AuthorError;
use super::conclusion::{Conclusion, DmarcResult, Found, Reason};
use super::psl;
use super::record::{Alignment, Psd, Record};
use crate::auth::{Evaluate, Step};
use crate::dns::{Failure, Kind, Name, Outcome, Question, Records};
use crate::limits::{DMARC_IDENTIFIERS_MAX, DMARC_WALK_QUERIES_MAX};

/// What SPF or DKIM found of a domain, as far as DMARC cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checked {
    /// It passed.
    Pass,
    /// It might pass later.
    TempError,
    /// Anything else.
    Fail,
}

/// A domain that SPF or DKIM checked: of SPF that of MAIL FROM, or of HELO where MAIL FROM is
/// null (RFC 7208 2.4); of DKIM the `d=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier {
    /// The domain.
    pub domain: Name,
    /// What was found.
    pub checked: Checked,
}

/// How the policy and organizational domains are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Discovery {
    /// By asking DNS upwards (RFC 9989).
    #[default]
    TreeWalk,
    /// By the public suffix list (RFC 7489), with `pct` instead of `t`.
    PublicSuffixList,
}

/// How to evaluate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How the policy is found.
    pub discovery: Discovery,
    /// A number from 0 to 99, drawn for this message: `pct` applies its policy to those below it
    /// (RFC 7489 6.6.4). At 0 every `pct` but 0 does. The tree walk doesn't look at it.
    pub sample: u8,
}

/// What is at `_dmarc` of a domain.
#[derive(Clone, Debug)]
enum At {
    Record(Box<Found>),
    Nothing,
    Several,
    Failed(Failure),
}

/// An evaluation; ask it as [`Evaluate`] says.
///
/// Its questions are bounded by [`DMARC_QUESTIONS_MAX`](crate::limits::DMARC_QUESTIONS_MAX), and
/// none comes twice.
#[derive(Clone, Debug)]
pub struct Evaluation {
    options: Options,
    author: Result<Name, AuthorError>,
    spf: Vec<Identifier>,
    dkim: Vec<Identifier>,
    /// By domain.
    known: BTreeMap<Name, At>,
    /// Whether the author domain exists, once it is known.
    exists: Option<bool>,
    asked: Option<Question>,
}

impl Evaluation {
    /// Evaluates a message of `author` for which SPF and DKIM found this. Of more identifiers than
    /// [`DMARC_IDENTIFIERS_MAX`] those count that are nearest to the author domain.
    pub fn new(
        author: Result<Name, AuthorError>,
        spf: Option<Identifier>,
        dkim: impl IntoIterator<Item = Identifier>,
        options: Options,
    ) -> Self {
        Self {
            spf: nearest(author.as_ref().ok(), spf),
            dkim: nearest(author.as_ref().ok(), dkim),
            options,
            author,
            known: BTreeMap::new(),
            exists: None,
            asked: None,
        }
    }

    /// The end, or the question that is in the way of it.
    fn conclude(&self) -> Result<Conclusion, Question> {
        let author = match &self.author {
            Ok(author) => author,
            Err(error) => return Ok(Conclusion::without(Reason::Author(*error))),
        };
        let policy = match self.options.discovery {
            Discovery::TreeWalk => self.policy_by_walk(author)?,
            Discovery::PublicSuffixList => self.policy_by_list(author)?,
        };
        let mut conclusion = Conclusion {
            author: Some(author.clone()),
            org_domain: policy.org.clone(),
            ..Conclusion::without(Reason::NoRecord)
        };
        let found = match policy.found {
            Ok(found) => found,
            Err(reason) => {
                if let Reason::Dns(..) = reason {
                    conclusion.result = DmarcResult::TempError;
                }
                conclusion.reason = reason;
                return Ok(conclusion);
            }
        };
        conclusion.found = Some(found.clone());
        let record = &found.record;
        let asked_for = if found.domain == *author {
            record.policy()
        } else if record.policy_below(true) == record.policy_below(false) {
            record.policy_below(true)
        } else {
            record.policy_below(self.exists(author)?)
        };
        let Some(asked_for) = asked_for else {
            conclusion.result = DmarcResult::PermError;
            conclusion.reason = Reason::NoPolicy(found.domain.clone());
            return Ok(conclusion);
        };
        conclusion.policy = Some(asked_for);

        let org = policy.org.as_ref();
        let spf = self.aligned(author, org, record.aspf, &self.spf)?;
        let dkim = self.aligned(author, org, record.adkim, &self.dkim)?;
        if spf.is_some() || dkim.is_some() {
            conclusion.result = DmarcResult::Pass;
            let (spf, dkim) = (spf.cloned(), dkim.cloned());
            conclusion.reason = Reason::Aligned { spf, dkim };
            return Ok(conclusion);
        }
        let unsure = match self.unsure(author, org, record.aspf, &self.spf)? {
            Some(domain) => Some(domain),
            None => self.unsure(author, org, record.adkim, &self.dkim)?,
        };
        if let Some(domain) = unsure {
            conclusion.result = DmarcResult::TempError;
            conclusion.reason = Reason::Unsure(domain.clone());
            return Ok(conclusion);
        }
        conclusion.result = DmarcResult::Fail;
        conclusion.reason = match self.options.discovery {
            Discovery::TreeWalk if record.t => Reason::Test,
            Discovery::PublicSuffixList
                if record.pct.is_some_and(|pct| pct <= self.options.sample) =>
            {
                Reason::Unsampled
            }
            _ => Reason::Unaligned,
        };
        conclusion.disposition = match conclusion.reason {
            Reason::Unaligned => asked_for,
            _ => asked_for.milder(),
        };
        Ok(conclusion)
    }

    /// RFC 9989 4.10.1.
    fn policy_by_walk(&self, author: &Name) -> Result<Discovered<'_>, Question> {
        let walk = self.walk(author)?;
        let own = walk.found.first().filter(|f| f.domain == *author);
        if let Some((name, failure)) = walk.failed {
            let reason = Reason::Dns(name, failure);
            let found = own.copied().ok_or(reason);
            return Ok(Discovered { org: None, found });
        }
        let org = walk.organizational_domain(author);
        let at_org = || walk.found.iter().find(|f| f.domain == org);
        let suffix = || walk.found.last().filter(|f| f.record.psd == Psd::Yes);
        let found = own.or_else(at_org).or_else(suffix).copied();
        let none = || walk.several.map_or(Reason::NoRecord, Reason::Several);
        Ok(Discovered {
            org: Some(org),
            found: found.ok_or_else(none),
        })
    }

    /// RFC 7489 6.6.3.
    fn policy_by_list(&self, author: &Name) -> Result<Discovered<'_>, Question> {
        let org = psl::organizational_domain(author);
        let mut found = Err(Reason::NoRecord);
        for domain in [author, &org] {
            found = match self.at(domain)? {
                At::Record(found) => Ok(&**found),
                At::Several => Err(Reason::Several(domain.clone())),
                At::Failed(failure) => Err(Reason::Dns(domain.clone(), *failure)),
                At::Nothing => continue,
            };
            break;
        }
        Ok(Discovered {
            org: Some(org),
            found,
        })
    }

    /// RFC 9989 4.10.
    fn walk(&self, start: &Name) -> Result<Walk<'_>, Question> {
        let mut walk = Walk::default();
        for domain in targets(start) {
            match self.at(&domain)? {
                At::Record(found) => {
                    walk.found.push(found);
                    match found.record.psd {
                        Psd::No => break,
                        Psd::Yes if domain != *start => break,
                        _ => {}
                    }
                }
                At::Nothing => {}
                At::Several => walk.several = walk.several.or(Some(domain)),
                At::Failed(failure) => {
                    walk.failed = Some((domain, *failure));
                    break;
                }
            }
        }
        Ok(walk)
    }

    /// What is at `_dmarc` of `domain`.
    fn at(&self, domain: &Name) -> Result<&At, Question> {
        if let Some(at) = self.known.get(domain) {
            return Ok(at);
        }
        match domain.under("_dmarc") {
            Ok(name) if !domain.is_root() => Err(Question::new(name, Kind::Txt)),
            // The root has no policy, and so long a name can't be.
            _ => Ok(&At::Nothing),
        }
    }

    fn exists(&self, author: &Name) -> Result<bool, Question> {
        let ask = || Question::new(author.clone(), Kind::A);
        self.exists.ok_or_else(ask)
    }

    /// The first domain that passed and is aligned (RFC 9989 4.4).
    fn aligned<'a>(
        &self,
        author: &Name,
        org: Option<&Name>,
        mode: Alignment,
        all: &'a [Identifier],
    ) -> Result<Option<&'a Name>, Question> {
        for one in all.iter().filter(|one| one.checked == Checked::Pass) {
            if self.near(author, org, mode, &one.domain)? == Some(true) {
                return Ok(Some(&one.domain));
            }
        }
        Ok(None)
    }

    /// The first domain that might have passed or might be aligned.
    fn unsure<'a>(
        &self,
        author: &Name,
        org: Option<&Name>,
        mode: Alignment,
        all: &'a [Identifier],
    ) -> Result<Option<&'a Name>, Question> {
        for one in all {
            match self.near(author, org, mode, &one.domain)? {
                None => return Ok(Some(&one.domain)),
                Some(true) if one.checked == Checked::TempError => return Ok(Some(&one.domain)),
                Some(_) => {}
            }
        }
        Ok(None)
    }

    /// Whether `domain` is aligned with the author domain; `None` if that can't be found out.
    fn near(
        &self,
        author: &Name,
        org: Option<&Name>,
        mode: Alignment,
        domain: &Name,
    ) -> Result<Option<bool>, Question> {
        if domain == author {
            return Ok(Some(true));
        }
        if mode == Alignment::Strict {
            return Ok(Some(false));
        }
        let Some(org) = org else {
            // Names that share not even the top level have nothing in common.
            let top = |name: &Name| name.rsplit('.').next() == author.rsplit('.').next();
            return Ok(if top(domain) { None } else { Some(false) });
        };
        // An organizational domain is the name itself or above it.
        if !domain.is_within(org) {
            return Ok(Some(false));
        }
        if self.options.discovery == Discovery::PublicSuffixList {
            return Ok(Some(psl::organizational_domain(domain) == *org));
        }
        let walk = self.walk(domain)?;
        Ok(match walk.failed {
            Some(_) => None,
            None => Some(walk.organizational_domain(domain) == *org),
        })
    }
}

impl Evaluate for Evaluation {
    type Output = Conclusion;

    fn step(&mut self) -> Step<Conclusion> {
        match self.conclude() {
            Ok(conclusion) => {
                self.asked = None;
                Step::Done(conclusion)
            }
            Err(question) => {
                self.asked = Some(question.clone());
                Step::Ask(question)
            }
        }
    }

    fn answer(&mut self, outcome: &Outcome) {
        let (Some(question), Ok(author)) = (self.asked.take(), &self.author) else {
            return;
        };
        if question.kind == Kind::A {
            self.exists = Some(*outcome != Outcome::NoName);
            return;
        }
        let Some(domain) = parent(&question.name) else {
            return;
        };
        // RFC 8020: above a name that exists there is none that doesn't.
        let there = matches!(outcome, Outcome::Found(_) | Outcome::NoData);
        if domain == *author && there {
            self.exists = Some(true);
        }
        let at = At::of(&domain, outcome);
        self.known.insert(domain, at);
    }
}

/// The identifiers of use, one for each domain, the nearest first, so that what is equal needs no
/// questions, and no signatures of others push out the one that is aligned: a domain that shares
/// more labels with the author's than the aligned one does is of the same organization.
fn nearest(author: Option<&Name>, all: impl IntoIterator<Item = Identifier>) -> Vec<Identifier> {
    let rank = |one: &Identifier| {
        let shared = author.map_or(0, |author| shared_labels(author, &one.domain));
        let equal = author == Some(&one.domain);
        (!equal, Reverse(shared), one.checked != Checked::Pass)
    };
    let mut kept: Vec<Identifier> = Vec::new();
    for one in all.into_iter().filter(|one| one.checked != Checked::Fail) {
        if let Some(at) = kept.iter().position(|k| k.domain == one.domain) {
            if one.checked != Checked::Pass {
                continue;
            }
            kept.remove(at);
        }
        let at = kept.partition_point(|k| rank(k) <= rank(&one));
        kept.insert(at, one);
        kept.truncate(DMARC_IDENTIFIERS_MAX);
    }
    kept
}

/// The record that applies, or why there is none.
struct Discovered<'a> {
    org: Option<Name>,
    found: Result<&'a Found, Reason>,
}

/// What a walk found, the longest name first.
#[derive(Default)]
struct Walk<'a> {
    found: Vec<&'a Found>,
    /// The first name with several records.
    several: Option<Name>,
    /// Where it ended before its end.
    failed: Option<(Name, Failure)>,
}

impl Walk<'_> {
    /// RFC 9989 4.10.2.
    fn organizational_domain(&self, start: &Name) -> Name {
        for found in &self.found {
            match found.record.psd {
                Psd::No => return found.domain.clone(),
                Psd::Yes if found.domain != *start => {
                    return last_labels(start, labels(&found.domain) + 1);
                }
                _ => {}
            }
        }
        self.found.last().map_or(start, |f| &f.domain).clone()
    }
}

impl At {
    fn of(domain: &Name, outcome: &Outcome) -> Self {
        let texts = match outcome {
            Outcome::Found(Records::Txt(texts)) => texts,
            Outcome::Failed(failure) => return Self::Failed(*failure),
            _ => return Self::Nothing,
        };
        // RFC 9989 4.10 step 2: what is no DMARC record is discarded, and so are several.
        let mut records = texts.iter().filter(|text| Record::is_dmarc(text));
        match (records.next(), records.next()) {
            (None, _) => Self::Nothing,
            (Some(_), Some(_)) => Self::Several,
            (Some(text), None) => {
                let text: Cow<'_, str> = String::from_utf8_lossy(text);
                let (record, faults) = Record::read_tags(&text);
                Self::Record(Box::new(Found {
                    domain: domain.clone(),
                    text: text.into(),
                    record,
                    faults,
                }))
            }
        }
    }
}

fn labels(name: &Name) -> usize {
    match name.is_root() {
        true => 0,
        false => name.split('.').count(),
    }
}

/// How many labels at the end two names have in common.
fn shared_labels(a: &Name, b: &Name) -> usize {
    let pairs = a.rsplit('.').zip(b.rsplit('.'));
    pairs.take_while(|(a, b)| a == b && !a.is_empty()).count()
}

fn parent(name: &Name) -> Option<Name> {
    let (_, rest) = name.split_once('.')?;
    Name::parse(rest).ok()
}

/// The last `n` labels of `name`.
fn last_labels(name: &Name, n: usize) -> Name {
    let mut name = name.clone();
    for _ in n..labels(&name) {
        match parent(&name) {
            Some(parent) => name = parent,
            None => break,
        }
    }
    name
}

/// The domains of a walk (RFC 9989 4.10): itself, then its parents from the seventh label on.
fn targets(start: &Name) -> impl Iterator<Item = Name> {
    let first = (!start.is_root()).then(|| start.clone());
    let next = |name: &Name| match labels(name) {
        n if n > DMARC_WALK_QUERIES_MAX => Some(last_labels(name, DMARC_WALK_QUERIES_MAX - 1)),
        _ => parent(name),
    };
    core::iter::successors(first, next).take(DMARC_WALK_QUERIES_MAX)
}
