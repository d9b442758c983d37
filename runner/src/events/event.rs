//! The facts, and what is known about each.
//!
//! Every event is one flat JSON object: `time`, `kind`, and the fields of that kind, under the
//! same name wherever they appear. What isn't known or is empty is left out.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use courser_core::feedback::verdict::{self, Class, Scope};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::control::{DeliverySelector, MessageId};
use crate::net::tls::Facts;
use crate::spool::EnvelopeView;

/// A point in time, milliseconds since 1970; RFC 3339 with milliseconds in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// The system's clock.
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }

    pub(super) fn timestamp(self) -> jiff::Timestamp {
        let ms = i64::try_from(self.0).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.timestamp())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(d)?;
        let time: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(u64::try_from(time.as_millisecond()).unwrap_or(0)))
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_false(b: &bool) -> bool {
    !*b
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: Time,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened. `kind` in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EventKind {
    /// A message was taken: it is on disk and synced.
    Received(Box<Received>),
    /// The receiver took it. Ends the delivery.
    Delivered(Box<DeliveryEvent>),
    /// An attempt failed; another will be made.
    Deferred(Box<DeliveryEvent>),
    /// Refused for good. Ends the delivery.
    Bounced(Box<DeliveryEvent>),
    /// Its time ran out. Ends the delivery.
    Expired(Box<DeliveryEvent>),
    /// Not to be sent: suppression list or operator. Ends the delivery.
    Suppressed(Box<DeliveryEvent>),
    /// Not to be tried until it is released.
    Held(Box<DeliveryEvent>),
    /// No longer held.
    Released(Box<DeliveryEvent>),
    /// The sender was told of a delivery's fate, or was not, and why.
    Dsn(Box<Dsn>),
    /// Intake refused a command, a message or a TLS handshake, or threw away what was slipped in
    /// ahead of one.
    Refused(Box<Refused>),
    /// Somebody could not log in.
    AuthFailed(Box<AuthFailed>),
    /// So many could not that no login is looked at for a time.
    AuthBlocked(Box<AuthBlocked>),
    /// A lane was slowed down or stopped for a time.
    Throttled(Box<Throttled>),
    /// A delivery session ended, or could not begin.
    Connection(Box<Connection>),
    /// There is no TLS with a host that should have it.
    TlsFailed(Box<TlsFailed>),
    /// A domain says how much TLS its mail wants, or no longer does (MTA-STS, RFC 8461).
    TlsPolicy(Box<TlsPolicy>),
    /// A report about TLS with its hosts was sent to a domain, or was not (RFC 8460).
    TlsReport(Box<TlsReport>),
    /// The spool takes no messages, or takes them again.
    Spool {
        /// `open`, `nearly-full`, `trouble`, `failed`.
        state: Cow<'static, str>,
        /// Why; empty for `open`.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Bytes of the spool are damaged.
    Damage(Box<Damage>),
    /// The configuration was read again.
    Reloaded {
        /// It is in force.
        applied: bool,
        /// Options that changed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        changed: Vec<String>,
        /// Options that need a restart, or errors.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        problems: Vec<String>,
    },
    /// The server has begun.
    Started {
        /// Of the program.
        version: String,
        /// Process.
        pid: u32,
        /// Messages found in the spool.
        messages: u64,
        /// Deliveries of them that haven't ended.
        deliveries: u64,
    },
    /// The server ends.
    Stopped {
        /// Why.
        reason: String,
        /// Deliveries that stay in the spool.
        deliveries: u64,
    },
    /// Events were dropped because they couldn't be written in time.
    Lost {
        /// How many.
        count: u64,
        /// The first of them.
        since: Time,
        /// The last of them.
        until: Time,
    },
}

/// What is known of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id.
    pub message: MessageId,
    /// Envelope sender; empty for the null reverse-path.
    pub sender: String,
    /// Whose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// Which campaign.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub campaign: String,
    /// Which stream.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stream: String,
    /// Further tags.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tags: String,
    /// `ENVID=`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub envid: String,
    /// Octets of content.
    pub size: u64,
}

impl Message {
    /// What the envelope says.
    pub fn of(envelope: EnvelopeView<'_>) -> Self {
        Self {
            message: MessageId(envelope.id()),
            sender: envelope.sender().into(),
            tenant: envelope.tenant().into(),
            campaign: envelope.campaign().into(),
            stream: envelope.stream().into(),
            tags: envelope.tags().into(),
            envid: envelope.envid().into(),
            size: envelope.body_len(),
        }
    }

    fn heap(&self) -> usize {
        self.sender.len()
            + self.tenant.len()
            + self.campaign.len()
            + self.stream.len()
            + self.tags.len()
            + self.envid.len()
    }
}

/// Which delivery of the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Message and index of the recipient.
    pub delivery: DeliverySelector,
    /// The recipient.
    pub recipient: String,
    /// Its domain, as it is looked up.
    pub domain: String,
}

/// Who handed in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_address: Option<IpAddr>,
    /// What it called itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_helo: String,
    /// Who it authenticated as.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_user: String,
    /// How its session was encrypted; `None`: not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_tls: Option<Tls>,
    /// The listener it came to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub listener: String,
}

/// Where it goes through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// The source's name.
    pub source: String,
    /// The site.
    pub site: String,
    /// The provider, if a rule names one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub provider: String,
    /// The address it is sent from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_address: Option<IpAddr>,
    /// What we call ourselves there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ehlo_name: String,
}

/// The other side of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its host name, from MX or a route.
    pub peer_host: String,
    /// Its address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_address: Option<SocketAddr>,
    /// How the session was encrypted; `None`: not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// Encryption of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// `TLSv1.3`
    pub version: String,
    /// Cipher suite.
    pub cipher: String,
    /// By whom the other side was found to be the right one: `authorities`, of a client those of
    /// `client_ca`; `dane`. Empty: it may be anyone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub verified: String,
    /// Whose certificate a client showed that is verified: its first DNS name or mail address, else the
    /// common name of its subject, else the subject.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub certificate: String,
}

impl From<&Facts> for Tls {
    fn from(facts: &Facts) -> Self {
        Self {
            version: facts.version.to_owned(),
            cipher: facts.cipher.clone(),
            verified: match facts.client_certificate {
                Some(_) => "authorities".to_owned(),
                None => String::new(),
            },
            certificate: facts.client_certificate.clone().unwrap_or_default(),
        }
    }
}

/// There is no TLS with a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TlsFailed {
    /// On which lane.
    #[serde(flatten)]
    pub lane: Lane,
    /// With whom.
    #[serde(flatten)]
    pub peer: Peer,
    /// How much TLS was wanted.
    pub level: Cow<'static, str>,
    /// What went wrong: a result type of RFC 8460 4.3.
    pub result: Cow<'static, str>,
    /// The same in words.
    pub cause: String,
    /// Mail goes to the host in plaintext now.
    pub plaintext: bool,
}

/// Something is to be said about the policy by which a domain says how much TLS its mail wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsPolicy {
    /// The domain.
    pub domain: String,
    /// `new`: it had none before. `changed`: it had another one. `expired`: it could not be fetched
    /// again in time. `fetch-failed`: there should be one, or a newer one, that can't be had now.
    /// `not-allowed`: it doesn't allow hosts that the domain's MX records name.
    pub what: Cow<'static, str>,
    /// The mode of the policy in force, or that was: `enforce`, `testing`, `none`. Empty: there is
    /// none.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub mode: Cow<'static, str>,
    /// The hosts that it allows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mx: Vec<String>,
    /// How long it holds, seconds; left out where it isn't about the policy itself.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_age_s: u64,
    /// Hosts that it doesn't allow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Why it can't be fetched: a result type of RFC 8460 4.3.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub result: Cow<'static, str>,
    /// What that means, or why it is so, in words.
    pub cause: String,
}

impl TlsPolicy {
    /// Says it in the log.
    pub fn log(&self) {
        let (domain, what, mode, cause) = (&self.domain, &self.what, &self.mode, &self.cause);
        match &**what {
            "new" | "changed" => tracing::info!(%domain, %mode, "MTA-STS policy {what}: {cause}"),
            _ => tracing::warn!(%domain, %mode, "MTA-STS policy {what}: {cause}"),
        }
    }

    fn heap(&self) -> usize {
        let lists = self
            .mx
            .iter()
            .chain(&self.hosts)
            .map(|text| text.len() + 24);
        self.domain.len() + self.cause.len() + self.result.len() + lists.sum::<usize>()
    }
}

/// A domain was told what came of TLS with its hosts in a day, or was not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsReport {
    /// The domain.
    pub domain: String,
    /// Where the report goes: `mailto:` or `https:`.
    pub to: String,
    /// The report's id.
    pub report: String,
    /// Sessions that succeeded.
    pub successes: u64,
    /// Sessions that failed.
    pub failures: u64,
    /// `queued`: it is in the spool as a mail. `sent`: it was taken by HTTPS. `failed`: it will be
    /// tried again. `given-up`: it will not.
    pub result: Cow<'static, str>,
    /// The mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageId>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
}

/// What the other side answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Reply code.
    pub code: u16,
    /// Enhanced status code (RFC 3463), as text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub enhanced: String,
    /// Text; lines joined by newlines.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// What it answered: `connect`, `ehlo`, `mail`, `rcpt`, `data`, …
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub stage: Cow<'static, str>,
}

/// What it was taken to mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What it is about, as [`Class`] in lower case with hyphens.
    pub class: Cow<'static, str>,
    /// Whom it is about.
    pub scope: Cow<'static, str>,
    /// Trying again can't help.
    pub permanent: bool,
    /// The receiver reacts to how or what we send.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pressure: bool,
    /// The configured rule that says so; empty: it is built in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rule: String,
}

impl From<&verdict::Verdict> for Verdict {
    fn from(v: &verdict::Verdict) -> Self {
        Self {
            class: class_name(v.class).into(),
            scope: scope_name(v.scope).into(),
            permanent: v.permanent,
            pressure: v.pressure,
            rule: String::new(),
        }
    }
}

/// A class as it stands in events.
pub fn class_name(class: Class) -> &'static str {
    match class {
        Class::Delivered => "delivered",
        Class::UnknownRecipient => "unknown-recipient",
        Class::MailboxFull => "mailbox-full",
        Class::Greylisted => "greylisted",
        Class::Busy => "busy",
        Class::TooManyRecipients => "too-many-recipients",
        Class::RateLimited => "rate-limited",
        Class::Reputation => "reputation",
        Class::Blocklisted => "blocklisted",
        Class::Authentication => "authentication",
        Class::Content => "content",
        Class::TooLarge => "too-large",
        Class::Relay => "relay",
        Class::Protocol => "protocol",
        Class::Network => "network",
        Class::Dns => "dns",
        Class::Policy => "policy",
        _ => "other",
    }
}

/// A scope as it stands in events.
pub fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Recipient => "recipient",
        Scope::Message => "message",
        Scope::Host => "host",
        Scope::Lane => "lane",
        Scope::Source => "source",
        Scope::Identity => "identity",
        _ => "other",
    }
}

/// How long things took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// The how many-th attempt this was, from 1; 0: none was made.
    pub attempt: u32,
    /// Since the message was received, ms.
    pub queued_ms: u64,
    /// To connect, greet and encrypt, ms; left out when an open session was used.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub connect_ms: u64,
    /// From MAIL to the last answer, ms.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub transfer_ms: u64,
}

/// Something became of a delivery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryEvent {
    /// The message.
    #[serde(flatten)]
    pub message: Message,
    /// The delivery.
    #[serde(flatten)]
    pub delivery: Delivery,
    /// Through which lane; `None`: it had none yet.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// To whom; `None`: no session.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
    /// The answer; `None`: a cause of our own.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// What it means.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The cause where there was no answer, or who did it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// How long it took.
    #[serde(flatten)]
    pub timing: Timing,
    /// When it will be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Time>,
}

/// A message was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Received {
    /// The message.
    #[serde(flatten)]
    pub message: Message,
    /// Who handed it in.
    #[serde(flatten)]
    pub client: Client,
    /// How many recipients.
    pub recipients: u32,
    /// From the end of its content to its being synced, ms.
    pub commit_ms: u64,
}

/// A sender was told, or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dsn {
    /// The message that it is about.
    #[serde(flatten)]
    pub message: Message,
    /// The deliveries that it is about.
    pub deliveries: Vec<DeliverySelector>,
    /// `failed`, `delayed`, `delivered`, `relayed`, `expanded` (RFC 3464 2.3.3).
    pub action: Cow<'static, str>,
    /// The notification's own id; `None`: none was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dsn: Option<MessageId>,
    /// Why none was sent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
}

/// Intake refused something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// Who wanted it.
    #[serde(flatten)]
    pub client: Client,
    /// Envelope sender, if it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// Recipient, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// What we answered, and to what: nothing in stage `tls`, which is a handshake that came to
    /// nothing, or plaintext behind STARTTLS, which was thrown away.
    #[serde(flatten)]
    pub reply: Reply,
    /// Why, for the operator.
    pub cause: String,
}

/// Somebody could not log in. A name that no user has isn't written down: people type passwords
/// there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthFailed {
    /// Who tried; `client_user` only where there is such a user.
    #[serde(flatten)]
    pub client: Client,
    /// The mechanism.
    pub mechanism: Cow<'static, str>,
    /// What was wrong, for the operator: the client heard less.
    pub cause: String,
}

/// No login is looked at for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthBlocked {
    /// Whose failure was the last.
    #[serde(flatten)]
    pub client: Client,
    /// What is blocked: `address` (of IPv6, its /64), or `user`.
    pub blocked: Cow<'static, str>,
    /// Until when.
    pub until: Time,
    /// Why.
    pub cause: Cow<'static, str>,
}

/// A lane was slowed down or stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Throttled {
    /// Which.
    #[serde(flatten)]
    pub lane: Lane,
    /// The answer that led to it.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// What it means.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Why, in words.
    pub cause: String,
    /// Nothing is sent through it before then; `None`: it is only slower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// A delivery session ended or couldn't begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// For which lane.
    #[serde(flatten)]
    pub lane: Lane,
    /// With whom.
    #[serde(flatten)]
    pub peer: Peer,
    /// It came to EHLO and its answer.
    pub opened: bool,
    /// Why it ended: `quit`, `closed by peer`, `timeout`, …
    pub cause: String,
    /// The answer that ended it.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// Transactions.
    pub transactions: u32,
    /// Recipients delivered.
    pub delivered: u32,
    /// To connect, greet and encrypt, ms.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub connect_ms: u64,
    /// From connecting to the end, ms.
    pub open_ms: u64,
}

/// Bytes of the spool are damaged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Damage {
    /// The file.
    pub path: String,
    /// First byte.
    pub from: u64,
    /// Behind the last byte.
    pub to: u64,
    /// What is wrong.
    pub cause: String,
    /// The message, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageId>,
    /// Where the bytes were copied to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_in: Option<String>,
}

/// What [`Event::made_up`] gives as the cause.
pub const MADE_UP: &str =
    "found in the spool: the server died before it could write what it knew about this";

impl DeliveryEvent {
    /// Of a delivery of which no attempt is known, with its cause.
    pub fn untried(view: EnvelopeView<'_>, index: u32, address: &str, cause: &str) -> Self {
        Self {
            message: Message::of(view),
            delivery: Delivery {
                delivery: DeliverySelector {
                    message: MessageId(view.id()),
                    recipient: Some(index),
                },
                recipient: address.to_owned(),
                domain: crate::queue::Queue::domain(address),
            },
            lane: None,
            peer: None,
            reply: None,
            verdict: None,
            cause: cause.to_owned(),
            timing: Timing::default(),
            next_attempt: None,
        }
    }
}

impl From<&crate::spool::Damage> for Damage {
    fn from(d: &crate::spool::Damage) -> Self {
        use crate::spool::DamageKind;
        let cause = match d.kind {
            DamageKind::TornTail => "an unfinished write was cut off",
            DamageKind::NotSynced => "a write didn't reach the disk whole",
            DamageKind::Corrupt => "changed on disk",
            DamageKind::Unreadable => "the disk can't read it",
        };
        Self {
            path: d.path.display().to_string(),
            from: d.from,
            to: d.to,
            cause: cause.into(),
            message: d.id.map(MessageId),
            kept_in: d.set_aside.as_ref().map(|p| p.display().to_string()),
        }
    }
}

impl Event {
    /// Of a delivery that ended before a crash that took its event.
    pub fn made_up(ended: &crate::spool::EndedDelivery) -> Option<Self> {
        use crate::spool::OutcomeKind;
        let view = ended.envelope.view();
        let index = ended.outcome.recipient;
        let address = view.recipient(index as usize)?.address;
        let event = Box::new(DeliveryEvent::untried(view, index, address, MADE_UP));
        let kind = match ended.outcome.kind {
            OutcomeKind::Delivered => EventKind::Delivered(event),
            OutcomeKind::Bounced => EventKind::Bounced(event),
            OutcomeKind::Expired => EventKind::Expired(event),
            OutcomeKind::Suppressed => EventKind::Suppressed(event),
            _ => return None,
        };
        Some(Self {
            time: Time(ended.at_ms),
            kind,
        })
    }

    /// This, now.
    pub fn now(kind: EventKind) -> Self {
        Self {
            time: Time::now(),
            kind,
        }
    }

    /// The message that it is about.
    pub fn message(&self) -> Option<&Message> {
        match &self.kind {
            EventKind::Received(e) => Some(&e.message),
            EventKind::Dsn(e) => Some(&e.message),
            _ => self.delivery().map(|e| &e.message),
        }
    }

    /// The facts of a delivery's event.
    pub fn delivery(&self) -> Option<&DeliveryEvent> {
        match &self.kind {
            EventKind::Delivered(e)
            | EventKind::Deferred(e)
            | EventKind::Bounced(e)
            | EventKind::Expired(e)
            | EventKind::Suppressed(e)
            | EventKind::Held(e)
            | EventKind::Released(e) => Some(e),
            _ => None,
        }
    }

    /// About how much memory it takes, bytes.
    pub fn weight(&self) -> usize {
        let reply = |r: &Reply| r.enhanced.len() + r.text.len();
        let lane = |l: &Lane| l.source.len() + l.site.len() + l.provider.len() + l.ehlo_name.len();
        let client = |c: &Client| {
            let certificate = c.client_tls.as_ref().map_or(0, |tls| tls.certificate.len());
            c.client_helo.len() + c.client_user.len() + c.listener.len() + certificate
        };
        let heap = match &self.kind {
            EventKind::Received(e) => size_of::<Received>() + e.message.heap() + client(&e.client),
            EventKind::Dsn(e) => {
                size_of::<Dsn>() + e.message.heap() + e.deliveries.len() * 16 + e.cause.len()
            }
            EventKind::Refused(e) => {
                let addresses = e.sender.as_ref().map_or(0, String::len)
                    + e.recipient.as_ref().map_or(0, String::len);
                size_of::<Refused>()
                    + client(&e.client)
                    + addresses
                    + reply(&e.reply)
                    + e.cause.len()
            }
            EventKind::AuthFailed(e) => size_of::<AuthFailed>() + client(&e.client) + e.cause.len(),
            EventKind::AuthBlocked(e) => size_of::<AuthBlocked>() + client(&e.client),
            EventKind::Throttled(e) => {
                size_of::<Throttled>()
                    + lane(&e.lane)
                    + e.reply.as_ref().map_or(0, reply)
                    + e.cause.len()
            }
            EventKind::Connection(e) => {
                size_of::<Connection>()
                    + lane(&e.lane)
                    + e.peer.peer_host.len()
                    + e.reply.as_ref().map_or(0, reply)
            }
            EventKind::TlsFailed(e) => {
                size_of::<TlsFailed>() + lane(&e.lane) + e.peer.peer_host.len() + e.cause.len()
            }
            EventKind::TlsPolicy(e) => size_of::<TlsPolicy>() + e.heap(),
            EventKind::TlsReport(e) => {
                let texts = [&e.domain, &e.to, &e.report, &e.cause];
                size_of::<TlsReport>() + texts.iter().map(|text| text.len()).sum::<usize>()
            }
            EventKind::Damage(e) => size_of::<Damage>() + e.path.len(),
            EventKind::Reloaded {
                changed, problems, ..
            } => changed.iter().chain(problems).map(|s| s.len() + 24).sum(),
            _ => self.delivery().map_or(0, |e| {
                size_of::<DeliveryEvent>()
                    + e.message.heap()
                    + e.delivery.recipient.len()
                    + e.delivery.domain.len()
                    + e.lane.as_ref().map_or(0, lane)
                    + e.peer.as_ref().map_or(0, |p| p.peer_host.len() + 32)
                    + e.reply.as_ref().map_or(0, reply)
                    + e.cause.len()
            }),
        };
        size_of::<Self>() + heap
    }

    /// Appends the event as a line of JSON, with its newline.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match serde_json::to_writer(&mut *out, self) {
            Ok(()) => out.push(b'\n'),
            // Strings and numbers always serialize; were it otherwise, the reader must know.
            Err(error) => {
                out.truncate(start);
                out.extend(
                    format!(
                        "{{\"kind\":\"unwritable\",\"cause\":\"{}\"}}\n",
                        error.to_string().escape_default()
                    )
                    .bytes(),
                );
            }
        }
    }
}
