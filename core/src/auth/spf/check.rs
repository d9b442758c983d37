//! The evaluation of SPF records, check_host() (RFC 7208 4), as a machine.
//!
//! ```text
//!           ┌────────── include, redirect ──────────┐
//!           ▼                                       │
//!  new ─▶ Record ─▶ Next ─▶ Term ─────────────▶ (match?) ─▶ Explain ─▶ Text ─▶ Done
//!           │        ▲ │     │ ▲                    │         │
//!           │        │ └▶ End│ │ names for %{p}     │         │
//!           │        └───────┘ └── Ask ◀────────────┘         │
//!           └───────────────── none, errors ──────────────────┴──────────────▶ Done
//! ```
//!
//! A `Frame` is a domain whose record is under way; `include` puts one on top, `redirect` puts
//! another in its place. Since each of them counts as a term that asks DNS, there are never more
//! than [`SPF_LOOKUPS_MAX`](crate::limits::SPF_LOOKUPS_MAX) and one. A frame keeps its record as text and where it is in it: a term
//! that has to wait for an answer is read again when the answer is there.
//!
//! `answers` says what answers mean, `needs` gives terms what they need.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::{self, Vec};
use core::net::IpAddr;

use super::macros::{MacroString, Place};
use super::record::{Cidr, Mechanism, Qualifier, Record, TERMS_AT, Term, within, words};
use super::report::{Error, Match, Problem, Report, Result};
use crate::auth::{Evaluate, Step};
use crate::dns::{Kind, Name, Outcome, Question};
use crate::time::Wall;

mod answers;
mod needs;

use needs::pick;

/// What is checked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The client's address. An IPv4 address in IPv6's clothes is taken for what it is
    /// (RFC 7208 5).
    pub ip: IpAddr,
    /// The address in MAIL FROM, without brackets; empty for the null reverse-path, which checks
    /// the name in HELO instead (RFC 7208 2.4). So does a check of HELO for its own sake (2.3).
    pub mail_from: &'a str,
    /// The name in HELO or EHLO.
    pub helo: &'a str,
    /// Our own name, which explanations may use.
    pub receiver: Option<&'a str>,
    /// Now, which explanations may use.
    pub now: Wall,
    /// Whether a fail's explanation is asked for.
    pub explain: bool,
}

/// An evaluation. Its output is a [`Report`]; how it is driven stands at [`Evaluate`].
#[derive(Clone, Debug)]
pub struct Check {
    client: Client,
    frames: Vec<Frame>,
    state: State,
    lookups: u32,
    void_lookups: u32,
    /// Names of the client's address, once they were asked for.
    names: Option<Vec<ClientName>>,
    included: Option<Match>,
    /// The decision, while its explanation is sought.
    decided: Option<Match>,
}

/// What macros need of the session.
#[derive(Clone, Debug)]
struct Client {
    ip: IpAddr,
    local: String,
    sender_domain: String,
    helo: String,
    receiver: Option<String>,
    now: Wall,
    explain: bool,
}

/// A name of the client's address.
#[derive(Clone, Debug)]
struct ClientName {
    name: Name,
    /// Whether that name has the client's address; `None` before it was asked.
    valid: Option<bool>,
}

/// A domain whose record is under way.
#[derive(Clone, Debug)]
struct Frame {
    /// As `%{d}` gives it.
    domain: String,
    name: Name,
    /// The term that led here: `None` for the domain that is checked.
    by: Option<Match>,
    /// The record, once it is there.
    record: Arc<str>,
    /// Where the term that is evaluated lies in it, and what a match of it means.
    at: usize,
    end: usize,
    qualifier: Qualifier,
    /// Whether that term was counted as one that asks DNS, and as one with a void answer.
    counted: bool,
    void: bool,
    /// What `%{p}` gives here, once it is known.
    validated: Option<Arc<str>>,
}

impl Frame {
    fn new(domain: String, name: Name, by: Option<Match>) -> Self {
        Self {
            domain,
            name,
            by,
            record: Arc::from(""),
            at: TERMS_AT,
            end: TERMS_AT,
            qualifier: Qualifier::default(),
            counted: false,
            void: false,
            validated: None,
        }
    }

    /// The text of the term that is evaluated.
    fn term(&self) -> &str {
        self.record.get(self.at..self.end).unwrap_or_default()
    }
}

#[derive(Clone, Debug)]
enum State {
    Work(Work),
    Ask(Question, Why),
    Done(Box<Report>),
}

/// What can be done without an answer.
#[derive(Clone, Debug)]
enum Work {
    /// Ask for the record of the frame on top.
    Record,
    /// Go to its next term.
    Next,
    /// Evaluate its term, from the start or again.
    Term,
    /// No mechanism matched.
    End,
    /// The result is fail: find out why.
    Explain,
    /// Expand this explanation.
    Text(Arc<str>),
}

/// What a question is for.
#[derive(Clone, Debug)]
enum Why {
    Record,
    A(Cidr),
    Exists,
    Mx(Cidr),
    /// The addresses of one MX host; the rest of them.
    MxHost(Cidr, vec::IntoIter<Name>),
    /// Names of the client, for this work.
    Names(Work),
    /// Whether the client's name with this number is right, for this work.
    Validate(usize, Work),
    Explanation,
}

/// What a domain-spec stands for.
enum Target {
    Name(String, Name),
    /// No valid name (RFC 7208 4.8).
    Invalid(String),
    /// It has a local part in it that can't be part of a name (RFC 8616 4).
    Never,
}

/// Which of the client's names to look at.
enum Pick {
    Valid(Name),
    Ask(usize, Name),
    Nothing,
}

impl Check {
    /// A check of this request.
    pub fn new(request: &Request<'_>) -> Self {
        // RFC 7208 2.4: the null reverse-path stands for postmaster at HELO's name.
        let (local, domain) = match request.mail_from {
            "" => ("", request.helo),
            sender => sender.rsplit_once('@').unwrap_or(("", sender)),
        };
        // RFC 7208 4.3.
        let local = if local.is_empty() {
            "postmaster"
        } else {
            local
        };
        let (name, sender_domain) = spelled(domain);
        let mut check = Self {
            client: Client {
                ip: request.ip.to_canonical(),
                local: local.into(),
                sender_domain: sender_domain.clone(),
                helo: spelled(request.helo).1,
                receiver: request.receiver.map(Into::into),
                now: request.now,
                explain: request.explain,
            },
            frames: Vec::with_capacity(1),
            state: State::Work(Work::Record),
            lookups: 0,
            void_lookups: 0,
            names: None,
            included: None,
            decided: None,
        };
        match name.filter(multi_label) {
            Some(name) => check.frames.push(Frame::new(sender_domain, name, None)),
            // RFC 7208 4.3.
            None => {
                let problem = Error {
                    domain: domain.into(),
                    term: None,
                    problem: Problem::NotADomain,
                };
                check.state = check.done(Result::None, Some(problem));
            }
        }
        check
    }

    // -- states --

    fn work(&mut self, work: Work) -> State {
        let Some(frame) = self.frames.last_mut() else {
            return self.done(Result::None, None);
        };
        match work {
            Work::Record => State::Ask(Question::new(frame.name.clone(), Kind::Txt), Why::Record),
            Work::Next => {
                (frame.counted, frame.void) = (false, false);
                match words(&frame.record, frame.end).next() {
                    Some((at, word)) => {
                        (frame.at, frame.end) = (at, at + word.len());
                        State::Work(Work::Term)
                    }
                    None => State::Work(Work::End),
                }
            }
            Work::Term => self.term(),
            Work::End => self.end(),
            Work::Explain => self.explain(),
            Work::Text(text) => self.text(text),
        }
    }

    /// RFC 7208 4.6, one term.
    fn term(&mut self) -> State {
        let Some(frame) = self.frames.last_mut() else {
            return self.done(Result::None, None);
        };
        let record = frame.record.clone();
        let text = record.get(frame.at..frame.end).unwrap_or_default();
        let mechanism = match Term::parse(text) {
            Ok(Term::Directive(directive)) => {
                frame.qualifier = directive.qualifier;
                directive.mechanism
            }
            // What a modifier says is asked for elsewhere; mistakes were found before.
            Ok(Term::Modifier(_)) | Err(_) => return State::Work(Work::Next),
        };
        let ip = self.client.ip;
        let (spec, asks) = match mechanism {
            Mechanism::All => return self.decide(true),
            Mechanism::Ip4 { network, bits } => {
                return self.decide(within(ip, network.into(), bits));
            }
            Mechanism::Ip6 { network, bits } => {
                return self.decide(within(ip, network.into(), bits));
            }
            Mechanism::Include(spec) => (Some(spec), None),
            Mechanism::Exists(spec) => (Some(spec), Some((Kind::A, Why::Exists))),
            Mechanism::A { domain, cidr } => (domain, Some((address_kind(ip), Why::A(cidr)))),
            Mechanism::Mx { domain, cidr } => (domain, Some((Kind::Mx, Why::Mx(cidr)))),
            Mechanism::Ptr(domain) => (domain, Some((Kind::Ptr, Why::Names(Work::Term)))),
        };
        if !self.count() {
            return self.permanent(Problem::Lookups);
        }
        let target = match self.target(spec, Work::Term) {
            Ok(target) => target,
            Err(wait) => return wait,
        };
        match (target, asks) {
            (Target::Never, _) => self.decide(false),
            (Target::Name(domain, name), None) if multi_label(&name) => {
                let by = self.here();
                self.frames.push(Frame::new(domain, name, Some(by)));
                State::Work(Work::Record)
            }
            // RFC 7208 4.3 and 5.2: check_host() gives none, and that is a permanent error.
            (Target::Name(domain, _) | Target::Invalid(domain), None) => {
                self.permanent(Problem::NoDomain(domain))
            }
            // RFC 7208 4.8 leaves open what an invalid name means. As one that does not exist, it
            // does not match.
            (Target::Invalid(_), Some(_)) => self.decide(false),
            (Target::Name(_, name), Some((Kind::Ptr, _))) => self.ptr(&name),
            (Target::Name(_, name), Some((kind, why))) => {
                State::Ask(Question::new(name, kind), why)
            }
        }
    }

    /// RFC 7208 5.5: whether one of the client's validated names is this one or lies under it.
    fn ptr(&mut self, target: &Name) -> State {
        let Some(names) = &self.names else {
            return State::Ask(Question::reverse(self.client.ip), Why::Names(Work::Term));
        };
        match pick(names, |name| name.is_within(target)) {
            Pick::Valid(_) => self.decide(true),
            Pick::Ask(n, name) => State::Ask(
                Question::new(name, address_kind(self.client.ip)),
                Why::Validate(n, Work::Term),
            ),
            Pick::Nothing => self.decide(false),
        }
    }

    /// RFC 7208 4.7: no mechanism matched.
    fn end(&mut self) -> State {
        let Some(frame) = self.frames.last_mut() else {
            return self.done(Result::None, None);
        };
        let record = frame.record.clone();
        let Some((at, word, spec)) = Record::parsed(&record).redirect_at() else {
            return self.leave(Result::Neutral, None);
        };
        // RFC 7208 6.1.
        (frame.at, frame.end) = (at, at + word.len());
        if !self.count() {
            return self.permanent(Problem::Lookups);
        }
        let (domain, name) = match self.target(Some(spec), Work::End) {
            Ok(Target::Name(domain, name)) if multi_label(&name) => (domain, name),
            Ok(Target::Name(domain, _) | Target::Invalid(domain)) => {
                return self.permanent(Problem::NoDomain(domain));
            }
            Ok(Target::Never) => return self.permanent(Problem::NoDomain(spec.as_str().into())),
            Err(wait) => return wait,
        };
        let by = self.here();
        self.frames.pop();
        self.frames.push(Frame::new(domain, name, Some(by)));
        State::Work(Work::Record)
    }

    /// RFC 7208 6.2: asks for the text that explains a fail. Nothing that goes wrong here matters,
    /// nor is it counted (4.6.4).
    fn explain(&mut self) -> State {
        let Some(frame) = self.frames.last() else {
            return self.done(Result::Fail, None);
        };
        let record = frame.record.clone();
        let Some(spec) = Record::parsed(&record).explanation() else {
            return self.done(Result::Fail, None);
        };
        match self.target(Some(spec), Work::Explain) {
            Ok(Target::Name(_, name)) => {
                State::Ask(Question::new(name, Kind::Txt), Why::Explanation)
            }
            Ok(_) => self.done(Result::Fail, None),
            Err(wait) => wait,
        }
    }

    fn text(&mut self, text: Arc<str>) -> State {
        let Ok(string) = MacroString::parse(&text, Place::Explanation) else {
            return self.done(Result::Fail, None);
        };
        if let Some(wait) = self.validated(string, &Work::Text(text.clone())) {
            return wait;
        }
        let explanation = self
            .context()
            .and_then(|context| string.explanation(&context));
        let mut report = self.report(Result::Fail, None);
        report.explanation = explanation;
        State::Done(Box::new(report))
    }

    // -- decisions --

    /// The term matches, or doesn't.
    fn decide(&mut self, matches: bool) -> State {
        if !matches {
            return State::Work(Work::Next);
        }
        let qualifier = self.frames.last().map(|frame| frame.qualifier);
        let result = match qualifier.unwrap_or_default() {
            Qualifier::Pass => Result::Pass,
            Qualifier::Fail => Result::Fail,
            Qualifier::SoftFail => Result::SoftFail,
            Qualifier::Neutral => Result::Neutral,
        };
        self.leave(result, Some(self.here()))
    }

    /// The record on top is done.
    fn leave(&mut self, result: Result, mechanism: Option<Match>) -> State {
        if self.frames.len() > 1 {
            self.frames.pop();
            // RFC 7208 5.2: only a pass makes include match.
            if result == Result::Pass {
                if self.included.is_none() {
                    self.included = mechanism;
                }
                return self.decide(true);
            }
            self.included = None;
            return self.decide(false);
        }
        self.decided = mechanism;
        if result == Result::Fail && self.client.explain {
            return State::Work(Work::Explain);
        }
        self.done(result, None)
    }

    fn done(&mut self, result: Result, error: Option<Error>) -> State {
        State::Done(Box::new(self.report(result, error)))
    }

    fn report(&mut self, result: Result, error: Option<Error>) -> Report {
        let mechanism = self.decided.take();
        Report {
            result,
            domain: self.client.sender_domain.clone(),
            included: self.included.take().filter(|_| mechanism.is_some()),
            mechanism,
            explanation: None,
            lookups: self.lookups,
            void_lookups: self.void_lookups,
            error,
        }
    }

    /// A permanent error of the current term.
    fn permanent(&mut self, problem: Problem) -> State {
        let error = self.error(problem, true);
        self.done(Result::PermError, Some(error))
    }

    fn error(&self, problem: Problem, of_term: bool) -> Error {
        let here = self.here();
        Error {
            domain: here.domain,
            term: of_term.then_some(here.term),
            problem,
        }
    }
}

impl Evaluate for Check {
    type Output = Report;

    fn step(&mut self) -> Step<Report> {
        loop {
            match &self.state {
                State::Ask(question, _) => return Step::Ask(question.clone()),
                State::Done(report) => return Step::Done((**report).clone()),
                State::Work(work) => {
                    let work = work.clone();
                    self.state = self.work(work);
                }
            }
        }
    }

    fn answer(&mut self, outcome: &Outcome) {
        match core::mem::replace(&mut self.state, State::Work(Work::Record)) {
            State::Ask(question, why) => self.state = self.answered(why, question, outcome),
            other => self.state = other,
        }
    }
}

/// The name that a peer called a domain by, if it is one, and how macros give it: without a final
/// dot, U-labels as A-labels (RFC 8616 4).
fn spelled(domain: &str) -> (Option<Name>, String) {
    let name = Name::from_domain(domain).ok();
    let text = match &name {
        Some(name) if !domain.is_ascii() => name.as_str(),
        _ => domain.strip_suffix('.').unwrap_or(domain),
    };
    let text = text.into();
    (name, text)
}

/// RFC 7208 4.3: a domain that can have a record has more than one label.
fn multi_label(name: &Name) -> bool {
    name.as_str().contains('.')
}

fn address_kind(ip: IpAddr) -> Kind {
    match ip {
        IpAddr::V4(_) => Kind::A,
        IpAddr::V6(_) => Kind::Aaaa,
    }
}
