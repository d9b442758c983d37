//! Reply → [`Verdict`]: class, scope, permanence, when to try again.
//!
//! How it is used:
//!
//! 1. Make [`Rules::new`] once, over the operator's own rules (or none). It borrows and costs
//!    nothing.
//! 2. Call [`Rules::judge`] with each reply that isn't what a session hoped for, the [`Stage`] it
//!    came at and the provider's name where one is known. [`Rules::explain`] also says which rule
//!    it was.
//! 3. For what went wrong without a reply, ask the [`Cause`].
//!
//! How a reply is judged, first match wins:
//!
//! 1. the operator's rules, in their order;
//! 2. the built-in rules of [`super::rules`]: markers and wordings of known receivers;
//! 3. the enhanced status code ([`super::status`], RFC 3463 and the IANA registry);
//! 4. the reply code and the stage it came at.
//!
//! Permanence is what the reply code says (RFC 5321 4.2.1): the enhanced code and the text only
//! say what it is about. Two exceptions:
//!
//! - A 5yz at [`Stage::Connect`], [`Stage::Greeting`] or [`Stage::Hello`] is about this host and
//!   this session, before any message was named. It is not permanent: one host that greets with
//!   554 must not bounce a whole queue. The next host is tried, then the schedule of retries goes
//!   on until the message expires. Only 521 and 556 (RFC 7504) say "never".
//! - 552 for too many recipients is what RFC 821 said for today's 452 (RFC 5321 4.5.3.1.10).
//!
//! Nothing here allocates.

use super::hint;
use super::rules;
use super::status::{self, Precision};
use super::text::{Folded, Probe};
use crate::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use core::fmt;
use core::time::Duration;

/// Whom a failure is about, so whom to slow down, retry or give up on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// This recipient only.
    Recipient,
    /// This message, whoever receives it.
    Message,
    /// This host; another MX may do.
    Host,
    /// The lane: this source toward this site.
    Lane,
    /// The source, wherever it sends.
    Source,
    /// A sending identity: From domain, MAIL FROM domain, DKIM domain or URL domain.
    Identity,
}

/// What a reply is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// Taken.
    Delivered,
    /// No such recipient, or disabled.
    UnknownRecipient,
    /// Mailbox full.
    MailboxFull,
    /// Temporarily refused to see whether we come back.
    Greylisted,
    /// The receiver is busy or broken; nothing to do with us.
    Busy,
    /// Too many recipients in this transaction.
    TooManyRecipients,
    /// Too fast, too many connections or messages.
    RateLimited,
    /// Deferred or refused because of reputation or complaints.
    Reputation,
    /// On a block list.
    Blocklisted,
    /// SPF, DKIM, DMARC, PTR or TLS is missing or wrong.
    Authentication,
    /// Content or URL refused as spam or malware.
    Content,
    /// Too large.
    TooLarge,
    /// Relaying denied or recipient's domain not served here.
    Relay,
    /// Protocol trouble: command, syntax or sequence.
    Protocol,
    /// Network trouble: connect, time-out, closed.
    Network,
    /// DNS trouble.
    Dns,
    /// Policy without a closer reason.
    Policy,
    /// Nothing more is known than success, 4yz or 5yz.
    Other,
}

/// What a reply means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What it is about.
    pub class: Class,
    /// Whom it is about.
    pub scope: Scope,
    /// True when trying again can't help.
    pub permanent: bool,
    /// Whether the receiver reacts to how or what we send; false for busy, greylisting, full
    /// mailboxes and unknown recipients.
    pub pressure: bool,
    /// How long to wait at least, where the reply or the rule says so.
    pub retry_after: Option<Duration>,
}

/// Where in a session a reply came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Before there was a connection.
    Connect,
    /// In place of the greeting.
    Greeting,
    /// To EHLO, HELO, LHLO, STARTTLS or AUTH: the session, not a message.
    Hello,
    /// To MAIL.
    Mail,
    /// To RCPT.
    Rcpt,
    /// To DATA or a BDAT that isn't the last.
    Data,
    /// To the end of the message.
    Body,
}

impl Stage {
    /// No message was named yet, so no message can be at fault.
    pub const fn is_session(self) -> bool {
        matches!(self, Self::Connect | Self::Greeting | Self::Hello)
    }

    /// Whom a reply at this stage is about when nothing else is known.
    pub const fn scope(self) -> Scope {
        match self {
            Self::Connect | Self::Greeting | Self::Hello => Scope::Host,
            Self::Mail | Self::Data | Self::Body => Scope::Message,
            Self::Rcpt => Scope::Recipient,
        }
    }
}

impl Class {
    /// Whether a receiver that says this reacts to how or what we send.
    pub const fn is_pressure(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::Reputation
                | Self::Blocklisted
                | Self::Authentication
                | Self::Content
                | Self::Policy
        )
    }

    /// Its name in configuration, logs and events: lower case with hyphens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::UnknownRecipient => "unknown-recipient",
            Self::MailboxFull => "mailbox-full",
            Self::Greylisted => "greylisted",
            Self::Busy => "busy",
            Self::TooManyRecipients => "too-many-recipients",
            Self::RateLimited => "rate-limited",
            Self::Reputation => "reputation",
            Self::Blocklisted => "blocklisted",
            Self::Authentication => "authentication",
            Self::Content => "content",
            Self::TooLarge => "too-large",
            Self::Relay => "relay",
            Self::Protocol => "protocol",
            Self::Network => "network",
            Self::Dns => "dns",
            Self::Policy => "policy",
            Self::Other => "other",
        }
    }

    /// The class of this [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|c| c.name() == name)
    }

    /// Every class.
    pub const ALL: &'static [Self] = &[
        Self::Delivered,
        Self::UnknownRecipient,
        Self::MailboxFull,
        Self::Greylisted,
        Self::Busy,
        Self::TooManyRecipients,
        Self::RateLimited,
        Self::Reputation,
        Self::Blocklisted,
        Self::Authentication,
        Self::Content,
        Self::TooLarge,
        Self::Relay,
        Self::Protocol,
        Self::Network,
        Self::Dns,
        Self::Policy,
        Self::Other,
    ];

    /// Subject and detail of the enhanced code that says this best (RFC 3463), for reports about
    /// replies that carried none.
    const fn subject_detail(self) -> (u16, u16) {
        match self {
            Self::Delivered | Self::Other => (0, 0),
            Self::UnknownRecipient => (1, 1),
            Self::MailboxFull => (2, 2),
            Self::Greylisted | Self::Reputation | Self::Blocklisted => (7, 1),
            Self::Busy => (3, 2),
            Self::TooManyRecipients => (5, 3),
            Self::RateLimited => (7, 28),
            Self::Authentication | Self::Policy => (7, 0),
            Self::Content => (7, 1),
            Self::TooLarge => (3, 4),
            Self::Relay => (7, 1),
            Self::Protocol => (5, 0),
            Self::Network => (4, 2),
            Self::Dns => (4, 3),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Scope {
    /// Its name in configuration, logs and events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recipient => "recipient",
            Self::Message => "message",
            Self::Host => "host",
            Self::Lane => "lane",
            Self::Source => "source",
            Self::Identity => "identity",
        }
    }

    /// The scope of this [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Recipient,
            Self::Message,
            Self::Host,
            Self::Lane,
            Self::Source,
            Self::Identity,
        ]
        .into_iter()
        .find(|s| s.name() == name)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Verdict {
    /// The verdict of this class, with the class's own pressure and no hint.
    pub const fn new(class: Class, scope: Scope, permanent: bool) -> Self {
        Self {
            class,
            scope,
            permanent,
            pressure: class.is_pressure(),
            retry_after: None,
        }
    }

    /// The status code for a report (RFC 3464 2.3.4): the reply's own where it has one that
    /// agrees with the outcome, else the one that fits the class.
    pub fn status(&self, reply: Option<&Reply<'_>>) -> EnhancedCode {
        let class = if matches!(self.class, Class::Delivered) {
            2
        } else if self.permanent {
            5
        } else {
            4
        };
        match reply.and_then(|r| r.enhanced) {
            Some(e) if e.class == class => e,
            _ => {
                let (subject, detail) = self.class.subject_detail();
                EnhancedCode::new(class, subject, detail)
            }
        }
    }
}

/// Reply codes that a rule is about: an inclusive range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codes {
    /// Lowest.
    pub low: u16,
    /// Highest.
    pub high: u16,
}

impl Codes {
    /// 400 to 599: every failure.
    pub const ANY: Self = Self {
        low: 400,
        high: 599,
    };
    /// 4yz.
    pub const TRANSIENT: Self = Self {
        low: 400,
        high: 499,
    };
    /// 5yz.
    pub const PERMANENT: Self = Self {
        low: 500,
        high: 599,
    };

    /// This code only.
    pub const fn one(code: u16) -> Self {
        Self {
            low: code,
            high: code,
        }
    }

    /// Reads `550`, `55x`, `5xx` (any letter `x` or `y`, `z`, or `*`), `450-452` or `*`.
    pub fn parse(s: &str) -> Option<Self> {
        if s == "*" {
            return Some(Self::ANY);
        }
        if let Some((low, high)) = s.split_once('-') {
            let (low, high) = (Self::parse(low)?, Self::parse(high)?);
            return (low.low <= high.high).then_some(Self {
                low: low.low,
                high: high.high,
            });
        }
        let digits = s.as_bytes();
        if digits.len() != 3 {
            return None;
        }
        let (mut low, mut high, mut open) = (0u16, 0u16, false);
        for (i, d) in digits.iter().enumerate() {
            let (l, h) = match d {
                b'0'..=b'9' if !open => (u16::from(d - b'0'), u16::from(d - b'0')),
                b'x' | b'X' | b'y' | b'Y' | b'z' | b'Z' | b'*' if i > 0 => {
                    open = true;
                    (0, 9)
                }
                _ => return None,
            };
            low = low * 10 + l;
            high = high * 10 + h;
        }
        (low >= 200 && high <= 599).then_some(Self { low, high })
    }

    const fn contains(self, code: ReplyCode) -> bool {
        self.low <= code.get() && code.get() <= self.high
    }
}

/// Enhanced codes that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enhanced {
    /// Any, or none.
    Any,
    /// None, or one that says too little to be trusted over the words: `x.y.0`, `x.7.1`, and
    /// those that no registry knows.
    Vague,
    /// One of these.
    Is {
        /// Class digit; `None` is any.
        class: Option<u8>,
        /// Subject; `None` is any.
        subject: Option<u16>,
        /// Lowest detail.
        low: u16,
        /// Highest detail.
        high: u16,
    },
}

impl Enhanced {
    /// `*.subject.detail`, whatever the class.
    pub const fn detail(subject: u16, detail: u16) -> Self {
        Self::details(subject, detail, detail)
    }

    /// `*.subject.low` to `*.subject.high`.
    pub const fn details(subject: u16, low: u16, high: u16) -> Self {
        Self::Is {
            class: None,
            subject: Some(subject),
            low,
            high,
        }
    }

    /// Reads `5.7.1`, `*.7.1`, `5.*.*`, `4.7.500-699`, `*` (any) or `vague`.
    pub fn parse(s: &str) -> Option<Self> {
        fn number(s: &str) -> Option<u16> {
            let plain = !s.is_empty() && s.len() <= 3 && s.bytes().all(|b| b.is_ascii_digit());
            if plain { s.parse().ok() } else { None }
        }
        match s {
            "*" => return Some(Self::Any),
            "vague" => return Some(Self::Vague),
            _ => {}
        }
        let mut parts = s.split('.');
        let class = match parts.next()? {
            "*" => None,
            "2" => Some(2),
            "4" => Some(4),
            "5" => Some(5),
            _ => return None,
        };
        let subject = match parts.next()? {
            "*" => None,
            n => Some(number(n)?),
        };
        let (low, high) = match parts.next()? {
            "*" => (0, 999),
            d => match d.split_once('-') {
                Some((low, high)) => (number(low)?, number(high)?),
                None => (number(d)?, number(d)?),
            },
        };
        (parts.next().is_none() && low <= high).then_some(Self::Is {
            class,
            subject,
            low,
            high,
        })
    }

    fn contains(self, code: Option<EnhancedCode>, vague: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Vague => vague,
            Self::Is {
                class,
                subject,
                low,
                high,
            } => code.is_some_and(|c| {
                class.is_none_or(|n| n == c.class)
                    && subject.is_none_or(|n| n == c.subject)
                    && low <= c.detail
                    && c.detail <= high
            }),
        }
    }
}

/// One rule: what a reply looks like, and what it then means.
///
/// Fields are public so that a configuration can be read into it; [`Rule::ANY`] has a default for
/// each. Words are found anywhere in the text, in any case; runs of white space and line ends
/// count as one space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// Its name in logs and events.
    pub name: &'a str,
    /// Only for replies of this provider, in any case; `None` is any. The built-in rules know
    /// `google` only; the other receivers' markers are their own proof.
    pub provider: Option<&'a str>,
    /// Only for these reply codes.
    pub codes: Codes,
    /// Only for these enhanced codes.
    pub enhanced: Enhanced,
    /// Only at this stage; `None` is any.
    pub stage: Option<Stage>,
    /// All of these must be in the text.
    pub all: &'a [&'a str],
    /// One of these must be in the text; empty is: nothing asked.
    pub any: &'a [&'a str],
    /// What it is about.
    pub class: Class,
    /// Whom it is about; `None` is whom the stage is about ([`Stage::scope`]).
    pub scope: Option<Scope>,
    /// Whether trying again can't help; `None` is what the reply code says.
    pub permanent: Option<bool>,
    /// Whether the receiver reacts to us; `None` is what the class says.
    pub pressure: Option<bool>,
    /// How long to wait where the text doesn't say.
    pub retry_after: Option<Duration>,
}

impl<'a> Rule<'a> {
    /// Matches every failure and says nothing about it: the start of any other rule.
    pub const ANY: Rule<'static> = Rule {
        name: "",
        provider: None,
        codes: Codes::ANY,
        enhanced: Enhanced::Any,
        stage: None,
        all: &[],
        any: &[],
        class: Class::Other,
        scope: None,
        permanent: None,
        pressure: None,
        retry_after: None,
    };

    fn matches(&self, seen: &Seen<'_>) -> bool {
        self.asks_of(seen)
            && self.all.iter().all(|word| seen.text.contains(word))
            && (self.any.is_empty() || self.any.iter().any(|word| seen.text.contains(word)))
    }

    /// Like [`matches`](Self::matches), with the probes of its words.
    fn matches_probed(&self, seen: &Seen<'_>, all: &[Probe], any: &[Probe]) -> bool {
        let text = &seen.text;
        let holds =
            |(word, probe): (&&str, &Probe)| text.may_contain(*probe) && text.contains(word);
        self.asks_of(seen)
            && self.all.iter().zip(all).all(holds)
            && (any.is_empty() || self.any.iter().zip(any).any(holds))
    }

    /// Whether everything but the words is right.
    fn asks_of(&self, seen: &Seen<'_>) -> bool {
        self.codes.contains(seen.code)
            && self.stage.is_none_or(|s| s == seen.stage)
            && self.enhanced.contains(seen.enhanced, seen.vague)
            && self.provider.is_none_or(|p| {
                let names = [seen.provider, seen.signature];
                names.iter().flatten().any(|n| n.eq_ignore_ascii_case(p))
            })
    }

    fn verdict(&self, code: ReplyCode, stage: Stage) -> Verdict {
        Verdict {
            class: self.class,
            scope: self.scope.unwrap_or(stage.scope()),
            permanent: self
                .permanent
                .unwrap_or_else(|| permanent_by_code(code, stage)),
            pressure: self.pressure.unwrap_or(self.class.is_pressure()),
            retry_after: self.retry_after,
        }
    }
}

/// A reply, made ready for many rules.
struct Seen<'r> {
    code: ReplyCode,
    enhanced: Option<EnhancedCode>,
    vague: bool,
    stage: Stage,
    provider: Option<&'r str>,
    signature: Option<&'static str>,
    text: Folded,
}

/// What a verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis<'a> {
    /// The operator's rule of this name.
    Configured(&'a str),
    /// The built-in rule of this name.
    BuiltIn(&'static str),
    /// The enhanced status code.
    Enhanced,
    /// The reply code and the stage.
    Code,
}

/// The operator's rules and the built-in ones.
///
/// ```
/// use courser_core::feedback::verdict::{Class, Rules, Stage};
/// use courser_core::smtp::reply::{Reply, ReplyCode};
///
/// let reply = Reply {
///     code: ReplyCode::new(451).unwrap(),
///     enhanced: None,
///     text: b"Greylisted, please try again in 300 seconds",
/// };
/// let verdict = Rules::built_in().judge(&reply, Stage::Rcpt, None);
/// assert_eq!(verdict.class, Class::Greylisted);
/// assert!(!verdict.permanent && !verdict.pressure);
/// assert_eq!(verdict.retry_after.unwrap().as_secs(), 300);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules<'a> {
    configured: &'a [Rule<'a>],
}

impl<'a> Rules<'a> {
    /// The built-in rules behind `configured`, which come first.
    pub const fn new(configured: &'a [Rule<'a>]) -> Self {
        Self { configured }
    }

    /// The built-in rules only.
    pub const fn built_in() -> Rules<'static> {
        Rules { configured: &[] }
    }

    /// What `reply`, come at `stage` from a host of `provider`, means.
    pub fn judge(&self, reply: &Reply<'_>, stage: Stage, provider: Option<&str>) -> Verdict {
        self.explain(reply, stage, provider).0
    }

    /// Like [`judge`](Self::judge), and what the verdict rests on.
    pub fn explain(
        &self,
        reply: &Reply<'_>,
        stage: Stage,
        provider: Option<&str>,
    ) -> (Verdict, Basis<'a>) {
        if reply.code.is_success() {
            let verdict = Verdict::new(Class::Delivered, stage.scope(), false);
            return (verdict, Basis::Code);
        }
        let meaning = reply.enhanced.and_then(status::meaning);
        let text = Folded::new(reply.text);
        let seen = Seen {
            code: reply.code,
            enhanced: reply.enhanced,
            vague: meaning.is_none_or(|m| m.precision == Precision::Vague),
            stage,
            provider,
            signature: provider_by_signature(&text),
            text,
        };
        let (mut verdict, basis) = self.decide(&seen, meaning);
        if verdict.permanent {
            verdict.retry_after = None;
        } else if let Some(hint) = hint::retry_after(seen.text.as_bytes()) {
            verdict.retry_after = Some(hint);
        }
        (verdict, basis)
    }

    fn decide(
        &self,
        seen: &Seen<'_>,
        meaning: Option<&'static status::Meaning>,
    ) -> (Verdict, Basis<'a>) {
        if let Some(rule) = self.configured.iter().find(|r| r.matches(seen)) {
            let verdict = rule.verdict(seen.code, seen.stage);
            return (verdict, Basis::Configured(rule.name));
        }
        let found = rules::built_in().find(|(r, all, any)| r.matches_probed(seen, all, any));
        if let Some((rule, ..)) = found {
            let verdict = rule.verdict(seen.code, seen.stage);
            return (verdict, Basis::BuiltIn(rule.name));
        }
        if let Some(verdict) = meaning.and_then(|m| m.verdict(seen.code, seen.stage)) {
            return (verdict, Basis::Enhanced);
        }
        (by_code(seen.code, seen.stage), Basis::Code)
    }
}

/// Google signs its replies, so that its own meanings of registered codes are known even where the
/// site is grouped under another name, or none.
fn provider_by_signature(text: &Folded) -> Option<&'static str> {
    text.contains("gsmtp").then_some("google")
}

/// See the module's docs on permanence.
pub(super) const fn permanent_by_code(code: ReplyCode, stage: Stage) -> bool {
    match code.get() {
        // RFC 7504: "this host never accepts mail", "this domain never accepts mail".
        521 | 556 => true,
        _ => code.is_permanent() && !stage.is_session(),
    }
}

/// What a reply code alone says at each stage (RFC 5321 4.2.2, 4.3.2).
fn by_code(code: ReplyCode, stage: Stage) -> Verdict {
    use Class::*;
    let (class, scope) = match (code.get(), stage) {
        // RFC 7504.
        (521, _) => (Policy, Scope::Host),
        (556, _) => (UnknownRecipient, Scope::Recipient),
        // "Service not available, closing channel": at any point, about nobody's mail.
        (421, _) => (Busy, Scope::Lane),
        (500..=504, s) if s.is_session() => (Protocol, Scope::Host),
        (432 | 530 | 534 | 535 | 538, _) => (Authentication, Scope::Lane),
        (454, _) => (Busy, Scope::Host),
        (400..=499, s) if s.is_session() => (Busy, Scope::Host),
        (_, s) if s.is_session() && code.is_permanent() => (Policy, Scope::Host),
        (450 | 451, s) => (Busy, s.scope()),
        (452, Stage::Rcpt) => (TooManyRecipients, Scope::Message),
        (452, _) => (Busy, Scope::Host),
        (455, _) => (Protocol, Scope::Message),
        (500..=504 | 555, s) => (Protocol, s.scope()),
        (550 | 551 | 553, Stage::Rcpt) => (UnknownRecipient, Scope::Recipient),
        (550 | 553, Stage::Mail) => (Policy, Scope::Identity),
        (552, Stage::Rcpt) => (MailboxFull, Scope::Recipient),
        (552, _) => (TooLarge, Scope::Message),
        (554, Stage::Data) => (Protocol, Scope::Message),
        (550 | 554 | 571, s) => (Policy, s.scope()),
        (_, s) if code.is_intermediate() => (Protocol, s.scope()),
        (_, s) => (Other, s.scope()),
    };
    Verdict::new(class, scope, permanent_by_code(code, stage))
}

/// What went wrong without a reply of the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Nobody listens: connection refused.
    Refused,
    /// No route to the host or its network.
    Unreachable,
    /// No answer to the connect.
    ConnectTimeout,
    /// The peer said nothing in time at this stage (RFC 5321 4.5.3.2).
    Timeout(Stage),
    /// The peer closed or reset the connection at this stage.
    Closed(Stage),
    /// What the peer said is no reply, or too long for one.
    Garbled(Stage),
    /// The TLS handshake failed.
    TlsFailed,
    /// TLS is required, and the peer offers none or can't prove who it is (MTA-STS, DANE).
    TlsPolicy,
    /// We are to authenticate, and the peer offers no way that may be used, or can't prove that it
    /// knows us.
    AuthPolicy,
    /// REQUIRETLS was asked for, and the peer doesn't offer it (RFC 8689 4.2.1).
    RequireTls,
    /// Larger than the SIZE that the peer announced (RFC 1870 6.1).
    TooLarge,
    /// The message needs SMTPUTF8, and the peer doesn't offer it (RFC 6531 3.2).
    NeedsSmtpUtf8,
    /// The message needs 8BITMIME or BINARYMIME, and the peer doesn't offer it (RFC 6152 3).
    NeedsEightBit,
    /// The domain doesn't exist (NXDOMAIN).
    NoSuchDomain,
    /// The domain exists and has neither MX nor address.
    NoMailHost,
    /// The domain accepts no mail (RFC 7505).
    NullMx,
    /// DNS gave no answer, or an error that may pass.
    DnsTemporary,
    /// The best MX is ourselves (RFC 5321 5.1).
    MailLoop,
    /// Every address of the hosts is one that we don't send to: loopback, private, reserved.
    ForbiddenAddress,
    /// Too many Received fields (RFC 5321 6.3).
    TooManyHops,
    /// The message's life in the queue is over.
    Expired,
    /// Our own trouble: disk, memory, configuration.
    Local,
}

impl Cause {
    /// What it means.
    pub const fn verdict(self) -> Verdict {
        use Class::*;
        let (class, scope, permanent) = match self {
            Self::Refused | Self::Unreachable | Self::ConnectTimeout => {
                (Network, Scope::Host, false)
            }
            Self::Timeout(_) | Self::Closed(_) => (Network, Scope::Host, false),
            Self::Garbled(_) => (Protocol, Scope::Host, false),
            Self::TlsFailed | Self::TlsPolicy | Self::AuthPolicy => {
                (Authentication, Scope::Host, false)
            }
            Self::RequireTls => (Authentication, Scope::Message, true),
            Self::TooLarge => (TooLarge, Scope::Message, true),
            Self::NeedsSmtpUtf8 | Self::NeedsEightBit => (Protocol, Scope::Message, true),
            Self::NoSuchDomain | Self::NoMailHost | Self::NullMx => {
                (UnknownRecipient, Scope::Recipient, true)
            }
            Self::DnsTemporary => (Dns, Scope::Recipient, false),
            Self::MailLoop => (Dns, Scope::Recipient, true),
            Self::ForbiddenAddress => (Dns, Scope::Recipient, true),
            Self::TooManyHops => (Protocol, Scope::Message, true),
            Self::Expired => (Network, Scope::Message, true),
            Self::Local => (Busy, Scope::Message, false),
        };
        Verdict {
            class,
            scope,
            permanent,
            // Nothing that no reply told us is a receiver's reaction.
            pressure: false,
            retry_after: None,
        }
    }

    /// The status code that says so in reports (RFC 3463 3).
    pub const fn status(self) -> EnhancedCode {
        let (subject, detail) = match self {
            Self::Refused | Self::Unreachable | Self::ConnectTimeout => (4, 1),
            Self::Timeout(_) | Self::Closed(_) => (4, 2),
            Self::Garbled(_) => (5, 0),
            Self::TlsFailed => (7, 5),
            Self::TlsPolicy => (7, 10),
            Self::AuthPolicy => (7, 4),
            Self::RequireTls => (7, 30),
            Self::TooLarge => (3, 4),
            Self::NeedsSmtpUtf8 => (6, 7),
            Self::NeedsEightBit => (6, 3),
            Self::NoSuchDomain => (1, 2),
            Self::NoMailHost => (4, 4),
            Self::NullMx => (1, 10),
            Self::DnsTemporary => (4, 3),
            Self::MailLoop | Self::TooManyHops => (4, 6),
            Self::ForbiddenAddress => (4, 4),
            Self::Expired => (4, 7),
            Self::Local => (3, 0),
        };
        let class = if self.verdict().permanent { 5 } else { 4 };
        EnhancedCode::new(class, subject, detail)
    }
}

impl fmt::Display for Cause {
    /// What a person reads in a report.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::Unreachable => "host or network unreachable",
            Self::ConnectTimeout => "no answer to the connection attempt",
            Self::Timeout(Stage::Connect | Stage::Greeting) => "no greeting in time",
            Self::Timeout(Stage::Hello) => "no answer to EHLO in time",
            Self::Timeout(Stage::Mail) => "no answer to MAIL in time",
            Self::Timeout(Stage::Rcpt) => "no answer to RCPT in time",
            Self::Timeout(Stage::Data) => "no answer to DATA in time",
            Self::Timeout(Stage::Body) => "no answer to the end of the message in time",
            Self::Closed(Stage::Connect | Stage::Greeting) => "connection closed before a greeting",
            Self::Closed(Stage::Hello) => "connection closed after EHLO",
            Self::Closed(Stage::Mail) => "connection closed after MAIL",
            Self::Closed(Stage::Rcpt) => "connection closed after RCPT",
            Self::Closed(Stage::Data) => "connection closed after DATA",
            Self::Closed(Stage::Body) => "connection closed at the end of the message",
            Self::Garbled(_) => "the answer is no SMTP reply",
            Self::TlsFailed => "TLS handshake failed",
            Self::TlsPolicy => "TLS is required and could not be had or verified",
            Self::AuthPolicy => "the next host offers no way to authenticate that may be used",
            Self::RequireTls => "REQUIRETLS is not offered by the next host",
            Self::TooLarge => "message larger than the next host takes",
            Self::NeedsSmtpUtf8 => "SMTPUTF8 is not offered by the next host",
            Self::NeedsEightBit => "8BITMIME is not offered by the next host",
            Self::NoSuchDomain => "the domain does not exist",
            Self::NoMailHost => "the domain has no host for mail",
            Self::NullMx => "the domain accepts no mail (null MX)",
            Self::DnsTemporary => "DNS gave no answer",
            Self::MailLoop => "mail for the domain loops back to this host",
            Self::ForbiddenAddress => "the domain's hosts have no public address",
            Self::TooManyHops => "too many hops, the message loops",
            Self::Expired => "could not be delivered in time",
            Self::Local => "local trouble of the sending system",
        })
    }
}
