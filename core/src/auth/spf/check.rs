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
//! A [`Frame`] is a domain whose record is under way; `include` puts one on top, `redirect` puts
//! another in its place. Since each of them counts as a term that asks DNS, there are never more
//! than [`SPF_LOOKUPS_MAX`] and one. A frame keeps its record as text and where it is in it: a term
//! that has to wait for an answer is read again when the answer is there.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::{self, Vec};
use core::net::IpAddr;

use super::macros::{Context, Letter, MacroString, Place};
use super::record::{Cidr, Mechanism, Qualifier, Record, TERMS_AT, Term, within, words};
use super::report::{Error, Match, Problem, Report, Result};
use crate::auth::{Evaluate, Step};
use crate::dns::{Kind, Name, Outcome, Question, Records};
use crate::limits::{SPF_LOOKUPS_MAX, SPF_MX_HOSTS_MAX, SPF_PTR_NAMES_MAX, SPF_VOID_LOOKUPS_MAX};
use crate::time::Wall;

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
    /// Where the term that is evaluated lies in it.
    at: usize,
    end: usize,
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
        // RFC 7208 2.4 and 4.3: the null reverse-path stands for postmaster at HELO's name.
        let sender = if request.mail_from.is_empty() {
            request.helo
        } else {
            request.mail_from
        };
        let (local, domain) = if request.mail_from.is_empty() {
            ("", sender)
        } else {
            sender.rsplit_once('@').unwrap_or(("", sender))
        };
        let local = if local.is_empty() {
            "postmaster"
        } else {
            local
        };
        let name = Name::from_domain(domain).ok().filter(multi_label);
        let text = domain.strip_suffix('.').unwrap_or(domain);
        // RFC 8616 4: U-labels as A-labels.
        let sender_domain = match &name {
            Some(name) if !text.is_ascii() => name.as_str(),
            _ => text,
        };
        let mut check = Self {
            client: Client {
                ip: request.ip.to_canonical(),
                local: local.into(),
                sender_domain: sender_domain.into(),
                helo: request.helo.into(),
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
        match name {
            Some(name) => {
                let domain = check.client.sender_domain.clone();
                check.frames.push(Frame::new(domain, name, None));
            }
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
        let Some(frame) = self.frames.last() else {
            return self.done(Result::None, None);
        };
        let record = frame.record.clone();
        let text = record.get(frame.at..frame.end).unwrap_or_default();
        let mechanism = match Term::parse(text) {
            Ok(Term::Directive(directive)) => directive.mechanism,
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
        let found = words(&record, TERMS_AT).find_map(|(at, word)| match Term::parse(word) {
            Ok(Term::Modifier(super::Modifier::Redirect(spec))) => Some((at, word, spec)),
            _ => None,
        });
        let Some((at, word, spec)) = found else {
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
        let spec = Record::parse(record.as_bytes())
            .ok()
            .and_then(Record::explanation);
        let Some(spec) = spec else {
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

    // -- answers --

    fn answered(&mut self, why: Why, question: Question, outcome: &Outcome) -> State {
        let failed = match outcome {
            Outcome::Failed(failure) => Some(*failure),
            _ => None,
        };
        let records = match outcome {
            Outcome::Found(records) => Some(records),
            _ => None,
        };
        // RFC 7208 5: a server failure or a timeout of a term's question is a temporary error,
        // except for names of the client (5.5) and explanations (6.2).
        match (&why, failed) {
            (Why::Names(_) | Why::Validate(..) | Why::Explanation, _) | (_, None) => {}
            (_, Some(failure)) => {
                let error =
                    self.error(Problem::Dns(question, failure), !matches!(why, Why::Record));
                return self.done(Result::TempError, Some(error));
            }
        }
        match why {
            Why::Record => self.got_record(records),
            Why::Exists => match records {
                Some(Records::A(_)) => self.decide(true),
                _ => self.nothing(),
            },
            Why::A(cidr) => match records {
                Some(Records::A(_) | Records::Aaaa(_)) => {
                    let matches = self.has_client(records, cidr);
                    self.decide(matches)
                }
                _ => self.nothing(),
            },
            Why::Mx(cidr) => {
                let Some(Records::Mx(list)) = records else {
                    return self.nothing();
                };
                if list.len() > SPF_MX_HOSTS_MAX {
                    return self
                        .permanent(Problem::MxHosts(question.name.as_str().into(), list.len()));
                }
                let mut hosts: Vec<_> = list
                    .iter()
                    .filter(|mx| !mx.exchange.is_root())
                    .map(|mx| (mx.preference, mx.exchange.clone()))
                    .collect();
                // So that the order of an answer does not decide what is asked.
                hosts.sort();
                let hosts: Vec<_> = hosts.into_iter().map(|(_, host)| host).collect();
                self.next_host(cidr, hosts.into_iter())
            }
            Why::MxHost(cidr, rest) => {
                if self.has_client(records, cidr) {
                    self.decide(true)
                } else {
                    self.next_host(cidr, rest)
                }
            }
            Why::Names(work) => {
                let names = match records {
                    Some(Records::Ptr(names)) => names
                        .iter()
                        .take(SPF_PTR_NAMES_MAX)
                        .map(|name| ClientName {
                            name: name.clone(),
                            valid: None,
                        })
                        .collect(),
                    _ => Vec::new(),
                };
                let void = records.is_none() && failed.is_none();
                self.names = Some(names);
                if void && matches!(work, Work::Term | Work::End) && !self.void() {
                    return self.permanent(Problem::VoidLookups);
                }
                State::Work(work)
            }
            Why::Validate(n, work) => {
                let valid = self.has_client(records, Cidr::WHOLE);
                if let Some(name) = self.names.as_mut().and_then(|names| names.get_mut(n)) {
                    name.valid = Some(valid);
                }
                State::Work(work)
            }
            Why::Explanation => match records {
                // RFC 7208 6.2: one record, in ASCII.
                Some(Records::Txt(texts)) => match texts.as_ref() {
                    [text] => match core::str::from_utf8(text) {
                        Ok(text) => State::Work(Work::Text(Arc::from(text))),
                        Err(_) => self.done(Result::Fail, None),
                    },
                    _ => self.done(Result::Fail, None),
                },
                _ => self.done(Result::Fail, None),
            },
        }
    }

    /// RFC 7208 4.5: there must be one record.
    fn got_record(&mut self, records: Option<&Records>) -> State {
        let texts: &[Box<[u8]>] = match records {
            Some(Records::Txt(texts)) => texts,
            _ => &[],
        };
        let mut found = texts.iter().filter(|text| Record::is_spf(text));
        let Some(text) = found.next() else {
            return self.no_record(records.is_none());
        };
        let more = found.count();
        if more > 0 {
            let error = self.error(Problem::ManyRecords(more + 1), false);
            return self.done(Result::PermError, Some(error));
        }
        match Record::parse(text) {
            Ok(record) => {
                if let Some(frame) = self.frames.last_mut() {
                    frame.record = Arc::from(record.as_str());
                }
                State::Work(Work::Next)
            }
            Err(error) => {
                let word = text
                    .split(|&b| b == b' ')
                    .scan(0, |end, word| {
                        *end += word.len() + 1;
                        Some((*end, word))
                    })
                    .find(|&(end, _)| end > error.at)
                    .map(|(_, word)| String::from_utf8_lossy(word).into_owned());
                let mut report = self.error(Problem::Syntax(error), false);
                report.term = word;
                self.done(Result::PermError, Some(report))
            }
        }
    }

    fn no_record(&mut self, void: bool) -> State {
        let Some(frame) = self.frames.pop() else {
            return self.done(Result::None, None);
        };
        let Some(by) = frame.by else {
            // RFC 7208 4.5: nothing to evaluate.
            self.frames.push(frame);
            return self.done(Result::None, None);
        };
        // RFC 7208 5.2, 6.1.
        self.void_lookups += u32::from(void);
        let error = Error {
            domain: by.domain,
            term: Some(by.term),
            problem: Problem::NoRecord(frame.domain),
        };
        self.done(Result::PermError, Some(error))
    }

    /// The term's answer is void.
    fn nothing(&mut self) -> State {
        if self.void() {
            self.decide(false)
        } else {
            self.permanent(Problem::VoidLookups)
        }
    }

    /// Asks for the addresses of the next MX host (RFC 7208 5.4).
    fn next_host(&mut self, cidr: Cidr, mut hosts: vec::IntoIter<Name>) -> State {
        match hosts.next() {
            Some(host) => State::Ask(
                Question::new(host, address_kind(self.client.ip)),
                Why::MxHost(cidr, hosts),
            ),
            None => self.decide(false),
        }
    }

    fn has_client(&self, records: Option<&Records>, cidr: Cidr) -> bool {
        let ip = self.client.ip;
        match records {
            Some(Records::A(all)) => all.iter().any(|&a| within(ip, a.into(), cidr.v4)),
            Some(Records::Aaaa(all)) => all.iter().any(|&a| within(ip, a.into(), cidr.v6)),
            _ => false,
        }
    }

    // -- decisions --

    /// The term matches, or doesn't.
    fn decide(&mut self, matches: bool) -> State {
        if !matches {
            return State::Work(Work::Next);
        }
        let here = self.here();
        let qualifier = match Term::parse(&here.term) {
            Ok(Term::Directive(directive)) => directive.qualifier,
            _ => Qualifier::Neutral,
        };
        let result = match qualifier {
            Qualifier::Pass => Result::Pass,
            Qualifier::Fail => Result::Fail,
            Qualifier::SoftFail => Result::SoftFail,
            Qualifier::Neutral => Result::Neutral,
        };
        self.leave(result, Some(here))
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

    // -- what terms need --

    /// The current term, and whose record it stands in.
    fn here(&self) -> Match {
        let (term, domain) = self
            .frames
            .last()
            .map_or(("", ""), |frame| (frame.term(), &frame.domain));
        Match {
            term: term.into(),
            domain: domain.into(),
        }
    }

    /// Counts a term that asks DNS, once (RFC 7208 4.6.4).
    fn count(&mut self) -> bool {
        if let Some(frame) = self.frames.last_mut()
            && !core::mem::replace(&mut frame.counted, true)
        {
            self.lookups += 1;
        }
        self.lookups <= SPF_LOOKUPS_MAX
    }

    /// Counts a term with a void answer, once (RFC 7208 4.6.4, 11.1: it is terms that are limited,
    /// so hosts of an MX and names of a client that have no address are not).
    fn void(&mut self) -> bool {
        if let Some(frame) = self.frames.last_mut()
            && !core::mem::replace(&mut frame.void, true)
        {
            self.void_lookups += 1;
        }
        self.void_lookups <= SPF_VOID_LOOKUPS_MAX
    }

    fn context(&self) -> Option<Context<'_>> {
        let frame = self.frames.last()?;
        Some(Context {
            ip: self.client.ip,
            local: &self.client.local,
            sender_domain: &self.client.sender_domain,
            domain: &frame.domain,
            helo: &self.client.helo,
            receiver: self.client.receiver.as_deref().unwrap_or("unknown"),
            validated: frame.validated.as_deref().unwrap_or("unknown"),
            now: self.client.now,
        })
    }

    /// What `spec` stands for, or the domain itself without one (RFC 7208 4.8). An error is what
    /// has to be waited for first.
    fn target(
        &mut self,
        spec: Option<MacroString<'_>>,
        back: Work,
    ) -> core::result::Result<Target, State> {
        let Some(spec) = spec else {
            return Ok(match self.frames.last() {
                Some(frame) => Target::Name(frame.domain.clone(), frame.name.clone()),
                None => Target::Never,
            });
        };
        if !self.client.local.is_ascii() && (spec.uses(Letter::Sender) || spec.uses(Letter::Local))
        {
            return Ok(Target::Never);
        }
        if let Some(wait) = self.validated(spec, &back) {
            return Err(wait);
        }
        let Some(context) = self.context() else {
            return Ok(Target::Never);
        };
        let domain = spec.domain(&context);
        Ok(match Name::from_bytes(domain.as_bytes()) {
            Ok(name) => Target::Name(domain, name),
            Err(_) => Target::Invalid(domain),
        })
    }

    /// What has to be done before `%{p}` is known, if `string` needs it (RFC 7208 7.3).
    fn validated(&mut self, string: MacroString<'_>, back: &Work) -> Option<State> {
        let frame = self.frames.last()?;
        if frame.validated.is_some() || !string.uses(Letter::Validated) {
            return None;
        }
        let domain = frame.name.clone();
        let Some(names) = &self.names else {
            // RFC 7208 4.6.4: the question for %{p} counts too, unless it is about an explanation.
            if matches!(back, Work::Term | Work::End) {
                self.lookups += 1;
                if self.lookups > SPF_LOOKUPS_MAX {
                    return Some(self.permanent(Problem::Lookups));
                }
            }
            return Some(State::Ask(
                Question::reverse(self.client.ip),
                Why::Names(back.clone()),
            ));
        };
        // The domain itself, then names under it, then others.
        let picks = [
            pick(names, |name| *name == domain),
            pick(names, |name| name.is_within(&domain)),
            pick(names, |_| true),
        ];
        let mut validated = None;
        for pick in picks {
            match pick {
                Pick::Valid(name) => {
                    validated = Some(name);
                    break;
                }
                Pick::Ask(n, name) => {
                    return Some(State::Ask(
                        Question::new(name, address_kind(self.client.ip)),
                        Why::Validate(n, back.clone()),
                    ));
                }
                Pick::Nothing => {}
            }
        }
        if let Some(frame) = self.frames.last_mut() {
            let text = validated.as_ref().map_or("unknown", Name::as_str);
            frame.validated = Some(Arc::from(text));
        }
        None
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

/// The first name that is kept and valid, or else the first that is kept and not yet known.
fn pick(names: &[ClientName], keep: impl Fn(&Name) -> bool) -> Pick {
    let kept = || names.iter().enumerate().filter(|(_, n)| keep(&n.name));
    if let Some((_, valid)) = kept().find(|(_, n)| n.valid == Some(true)) {
        return Pick::Valid(valid.name.clone());
    }
    match kept().find(|(_, n)| n.valid.is_none()) {
        Some((n, open)) => Pick::Ask(n, open.name.clone()),
        None => Pick::Nothing,
    }
}
