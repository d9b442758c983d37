//! Requests, responses and what is in them. All of it is JSON in `kebab-case` words and
//! `snake_case` fields; fields may be added, so readers ignore those that they don't know.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::id::DeliverySelector;

/// Longest request, bytes with its line feed.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Most rows of one page of the queue.
pub const PAGE_ROWS_MAX: usize = 1000;

/// A point in time, written as RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub unix_ms: i64,
}

impl Time {
    /// The time `unix_ms` milliseconds after 1970-01-01T00:00:00Z.
    pub const fn from_unix_ms(unix_ms: i64) -> Self {
        Self { unix_ms }
    }

    /// The clock's time.
    pub fn now() -> Self {
        Self::from_unix_ms(jiff::Timestamp::now().as_millisecond())
    }

    /// Milliseconds from `self` to `later`, negative if it is earlier.
    pub fn until_ms(self, later: Self) -> i64 {
        later.unix_ms.saturating_sub(self.unix_ms)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.unix_ms) {
            Ok(t) => write!(f, "{t:.3}"),
            Err(_) => write!(f, "never"),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let at: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self::from_unix_ms(at.as_millisecond()))
    }
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Are you there? → [`Response::Pong`]
    Ping,
    /// How is it going? → [`Response::Status`]
    Status,
    /// A page of deliveries, in the order of their ids. → [`Response::Queue`]
    QueueList {
        /// Which ones.
        #[serde(default)]
        filter: Filter,
        /// Most rows to give; at most [`PAGE_ROWS_MAX`].
        limit: usize,
        /// [`QueuePage::next`] of the page before; `None`: the first page.
        #[serde(default)]
        cursor: Option<String>,
    },
    /// Everything about a delivery, or about each delivery of a message.
    /// → [`Response::Deliveries`]
    QueueShow {
        /// Which one.
        id: DeliverySelector,
    },
    /// Don't try these until they are released. → [`Response::Changed`]
    Hold {
        /// Which ones.
        filter: Filter,
        /// Why, for who reads it later.
        #[serde(default)]
        reason: String,
    },
    /// Try those that were held again. → [`Response::Changed`]
    Release {
        /// Which ones.
        filter: Filter,
    },
    /// Try these now instead of at their retry time. → [`Response::Changed`]
    Retry {
        /// Which ones.
        filter: Filter,
    },
    /// End these as bounced and tell their senders. → [`Response::Changed`]
    Bounce {
        /// Which ones.
        filter: Filter,
        /// What their senders read.
        reason: String,
    },
    /// End these without telling anybody but the events. → [`Response::Changed`]
    Drop {
        /// Which ones.
        filter: Filter,
    },
    /// What happens from now on, until the client goes. → many [`Response::Event`]
    Events {
        /// Events of which deliveries.
        #[serde(default)]
        filter: Filter,
    },
    /// What was counted today for TLS reports; `send`: and send it now. → [`Response::TlsReports`]
    TlsReport {
        /// About which domain; `None`: about all.
        #[serde(default)]
        domain: Option<String>,
        /// Whether it is sent.
        #[serde(default)]
        send: bool,
    },
    /// Read the configuration again, as SIGHUP does. → [`Response::Reloaded`]
    Reload,
    /// Stop accepting, finish what is in flight and exit, as SIGTERM does.
    /// → [`Response::Draining`]
    Drain,
}

/// Which deliveries are meant: those for which everything that is given holds. Texts are compared
/// without case; a leading `*.` in `domain` means everything below.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// The recipient's domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The provider it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Whose mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Which campaign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<String>,
    /// Which stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The envelope sender; `<>` or empty for bounces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The envelope recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// A message or a delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<DeliverySelector>,
    /// The state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<DeliveryState>,
}

/// What a [`Filter`] looks at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The message.
    pub message: u64,
    /// The position of the recipient in its envelope.
    pub recipient_index: u32,
    /// The envelope sender without brackets; empty for the null sender.
    pub sender: &'a str,
    /// The envelope recipient without brackets.
    pub recipient: &'a str,
    /// The recipient's domain.
    pub domain: &'a str,
    /// Whose mail; empty: nobody's.
    pub tenant: &'a str,
    /// Which campaign; empty: none.
    pub campaign: &'a str,
    /// Which stream.
    pub stream: &'a str,
    /// The provider; `None`: no rule names it, or it isn't known yet.
    pub provider: Option<&'a str>,
    /// The state.
    pub state: DeliveryState,
}

impl Filter {
    /// Whether nothing is given, so that every delivery is meant.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this delivery is meant.
    pub fn matches(&self, it: &Subject<'_>) -> bool {
        let same = |wanted: &Option<String>, is: &str| match wanted {
            Some(wanted) => wanted.eq_ignore_ascii_case(is),
            None => true,
        };
        let domain = |wanted: &str| match wanted.strip_prefix("*.").or(wanted.strip_prefix('.')) {
            // Byte-wise, since a domain may be UTF-8 and a cut may fall inside a character.
            Some(above) => {
                let (is, above) = (it.domain.as_bytes(), above.as_bytes());
                is.len() > above.len() + 1
                    && is[is.len() - above.len()..].eq_ignore_ascii_case(above)
                    && is[is.len() - above.len() - 1] == b'.'
            }
            None => wanted.eq_ignore_ascii_case(it.domain),
        };
        let sender = |wanted: &str| {
            let wanted = wanted.strip_prefix('<').unwrap_or(wanted);
            let wanted = wanted.strip_suffix('>').unwrap_or(wanted);
            wanted.eq_ignore_ascii_case(it.sender)
        };
        self.id.is_none_or(|id| {
            id.message.0 == it.message && id.recipient.is_none_or(|r| r == it.recipient_index)
        }) && self.state.is_none_or(|s| s == it.state)
            && self.domain.as_deref().is_none_or(domain)
            && same(&self.provider, it.provider.unwrap_or_default())
            && same(&self.tenant, it.tenant)
            && same(&self.campaign, it.campaign)
            && same(&self.stream, it.stream)
            && same(&self.recipient, it.recipient)
            && self.sender.as_deref().is_none_or(sender)
    }
}

/// What the server says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "kebab-case")]
pub enum Response {
    /// Here I am.
    Pong(Pong),
    /// How it is going.
    Status(Box<Status>),
    /// A page of the queue.
    Queue(QueuePage),
    /// Deliveries with everything known about them.
    Deliveries {
        /// In the order of their recipients.
        deliveries: Vec<DeliveryDetail>,
    },
    /// So many deliveries were changed.
    Changed {
        /// How many.
        count: u64,
    },
    /// TLS reports.
    TlsReports {
        /// What was counted today and not sent, a report for each domain, as its JSON.
        reports: Vec<serde_json::Value>,
        /// Sessions of today that there was no room for.
        lost: u64,
        /// What became of those that were sent.
        sent: Vec<TlsReportSent>,
    },
    /// The configuration was read again.
    Reloaded {
        /// Options in force now, with old and new values.
        applied: Vec<String>,
        /// Options that wait for a restart.
        needs_restart: Vec<String>,
    },
    /// The server finishes what is in flight and exits.
    Draining,
    /// Something happened.
    Event {
        /// The event as it stands in the event files.
        event: serde_json::Value,
    },
    /// It could not be done.
    Error {
        /// What went wrong.
        message: String,
        /// What to do about it; may be empty.
        #[serde(default)]
        hint: String,
    },
}

impl Response {
    /// An error that says what to do.
    pub fn error(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Error {
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// What became of a TLS report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsReportSent {
    /// The domain that it is about.
    pub domain: String,
    /// Where it goes; empty: nowhere.
    pub to: String,
    /// Its id; empty: none was made.
    pub report: String,
    /// `queued`, `sent`, `failed`, `given-up` as in events; `not-wanted`.
    pub result: String,
    /// Why not.
    pub cause: String,
}

/// Who is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// Version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Its name.
    pub hostname: String,
    /// Since when it runs.
    pub started: Time,
}

/// Where a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryState {
    /// It could go now and waits for its turn or for its lane.
    Ready,
    /// A session has it.
    InFlight,
    /// It waits for its retry time.
    Deferred,
    /// An operator holds it.
    Held,
}

impl DeliveryState {
    /// As it stands in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::InFlight => "in-flight",
            Self::Deferred => "deferred",
            Self::Held => "held",
        }
    }
}

/// Why a delivery hasn't gone yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitReason {
    /// It is going right now.
    InFlight,
    /// Others are before it; it goes when its lane comes to it.
    Turn,
    /// It was tried and waits for its retry time.
    RetryTime,
    /// Its sender asked for a later time (FUTURERELEASE, RFC 4865).
    Scheduled,
    /// Its lane sends as many messages in a time as it may.
    MessageRate,
    /// Its lane opens as many connections in a time as it may.
    ConnectionRate,
    /// Its lane has as many connections as it may.
    Concurrency,
    /// The server has as many sessions as it may.
    Sessions,
    /// An operator holds it.
    Held,
    /// No host of its site answers.
    DeadHost,
    /// The receiver asked the lane, or the whole source, to stay away.
    Blocked,
    /// Its domain is being looked up, or could not be.
    Dns,
    /// The server stops.
    Stopping,
}

impl WaitReason {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::InFlight,
        Self::Turn,
        Self::RetryTime,
        Self::Scheduled,
        Self::MessageRate,
        Self::ConnectionRate,
        Self::Concurrency,
        Self::Sessions,
        Self::Held,
        Self::DeadHost,
        Self::Blocked,
        Self::Dns,
        Self::Stopping,
    ];

    /// As it stands in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::InFlight => "in-flight",
            Self::Turn => "turn",
            Self::RetryTime => "retry-time",
            Self::Scheduled => "scheduled",
            Self::MessageRate => "message-rate",
            Self::ConnectionRate => "connection-rate",
            Self::Concurrency => "concurrency",
            Self::Sessions => "sessions",
            Self::Held => "held",
            Self::DeadHost => "dead-host",
            Self::Blocked => "blocked",
            Self::Dns => "dns",
            Self::Stopping => "stopping",
        }
    }

    /// As a person reads it.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::InFlight => "it is being delivered right now",
            Self::Turn => "other deliveries are before it in its lane",
            Self::RetryTime => "the last attempt failed and its retry time has not come",
            Self::Scheduled => "its sender asked for a later time",
            Self::MessageRate => "its lane has sent as many messages as its rate allows",
            Self::ConnectionRate => "its lane has opened as many connections as its rate allows",
            Self::Concurrency => "its lane has as many connections open as it may",
            Self::Sessions => "the server has as many sessions open as it may",
            Self::Held => "an operator holds it; `courser queue release` lets it go",
            Self::DeadHost => "no host of its site answered lately",
            Self::Blocked => "the receiver asked this source to stay away for a while",
            Self::Dns => "where its domain takes mail is not known yet",
            Self::Stopping => "the server is stopping",
        }
    }
}

/// Why a delivery hasn't gone yet, and when it will be tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Why.
    pub reason: WaitReason,
    /// When it will be tried, as far as is known; `None`: when something else happens (a
    /// release, an answer, a session that ends).
    pub until: Option<Time>,
    /// The particulars: which lane, which limit, which host, which reply; may be empty.
    pub text: String,
}

impl Waiting {
    /// With its particulars.
    pub fn new(reason: WaitReason, until: Option<Time>, text: impl Into<String>) -> Self {
        Self {
            reason,
            until,
            text: text.into(),
        }
    }
}

/// A delivery in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueRow {
    /// Its id, `<message>.<recipient index>`.
    pub id: DeliverySelector,
    /// The envelope sender without brackets; empty for the null sender.
    pub sender: String,
    /// The envelope recipient without brackets.
    pub recipient: String,
    /// The recipient's domain.
    pub domain: String,
    /// Whose mail; empty: nobody's.
    pub tenant: String,
    /// Which campaign; empty: none.
    pub campaign: String,
    /// Which stream.
    pub stream: String,
    /// The provider; `None`: no rule names it, or it isn't known yet.
    pub provider: Option<String>,
    /// The site: its MX hosts in short; `None`: not known yet.
    pub site: Option<String>,
    /// The source that it goes out from; `None`: not chosen yet.
    pub source: Option<String>,
    /// Where it is.
    pub state: DeliveryState,
    /// Attempts so far.
    pub attempts: u32,
    /// When it was accepted.
    pub received: Time,
    /// The size of its message, bytes.
    pub size: u64,
    /// Why it hasn't gone yet, and when it will be tried.
    pub waiting: Waiting,
    /// The reply or failure that ended its last attempt; `None`: it hasn't been tried.
    pub last_reply: Option<String>,
}

/// A page of deliveries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueuePage {
    /// In the order of their ids.
    pub rows: Vec<QueueRow>,
    /// Where the next page begins; `None`: this is the last one.
    pub next: Option<String>,
    /// How many deliveries the filter means in all, if that was cheap to say.
    pub total: Option<u64>,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it ended.
    pub at: Time,
    /// From which source.
    pub source: Option<String>,
    /// To which host and address.
    pub peer: Option<String>,
    /// What came of it: a reply or a local cause.
    pub reply: String,
    /// What that means: class and scope.
    pub verdict: Option<String>,
}

/// A delivery with everything known about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryDetail {
    /// What the list shows.
    #[serde(flatten)]
    pub row: QueueRow,
    /// Who handed it in.
    pub client: Option<String>,
    /// The pool whose sources it may go out from.
    pub pool: Option<String>,
    /// When it expires.
    pub expires: Option<Time>,
    /// When its next attempt is due by its retry schedule, whatever its lane says.
    pub due: Option<Time>,
    /// The last attempt.
    pub last_attempt: Option<Attempt>,
    /// Hosts that take the domain's mail, in order, as far as they are known.
    pub hosts: Vec<String>,
    /// The lane it waits in; `None`: not known yet.
    pub lane: Option<LaneRow>,
    /// Whether its sender was told about the delay.
    pub delay_told: bool,
    /// The shard that has it.
    pub shard: u32,
}

/// A lane: one source toward one site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaneRow {
    /// The source.
    pub source: String,
    /// The site: its MX hosts in short.
    pub site: String,
    /// The provider; `None`: no rule names it.
    pub provider: Option<String>,
    /// Deliveries that could go now.
    pub ready: u64,
    /// Deliveries that wait for their retry time.
    pub deferred: u64,
    /// Deliveries that sessions have.
    pub in_flight: u64,
    /// Connections now.
    pub connections: u32,
    /// Connections at most.
    pub connections_max: u32,
    /// Messages in a time at most, such as `100/s`.
    pub message_rate: String,
    /// Delivered since the start.
    pub delivered: u64,
    /// Failed attempts that will be repeated, since the start.
    pub deferrals: u64,
    /// Bounced since the start.
    pub bounced: u64,
    /// Why it doesn't send now; `None`: it does, or has nothing to send.
    pub waiting: Option<Waiting>,
}

/// How it is going.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Who is there.
    #[serde(flatten)]
    pub server: Pong,
    /// When this was said.
    pub now: Time,
    /// Whether it stops.
    pub draining: bool,
    /// Number of shards.
    pub shards: u32,
    /// Since the start.
    pub totals: Totals,
    /// Now.
    pub gauges: Gauges,
    /// Logins of submitters; `None`: nobody can log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logins: Option<LoginCounts>,
    /// Every lane that has something to do, the fullest first.
    pub lanes: Vec<LaneRow>,
    /// What an operator should look at: no space, spool errors, corrupt records.
    pub warnings: Vec<String>,
}

/// What logins of submitters came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoginCounts {
    /// Right, since the start.
    pub good: u64,
    /// Wrong, since the start.
    pub failed: u64,
    /// Not looked at because of a block, since the start.
    pub refused: u64,
    /// Addresses that are blocked now (of IPv6, each /64).
    pub blocked_addresses: u64,
    /// Users that are blocked now.
    pub blocked_users: u64,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Messages accepted.
    pub messages_received: u64,
    /// Deliveries of these.
    pub deliveries_received: u64,
    /// Messages refused at intake.
    pub messages_refused: u64,
    /// Deliveries that receivers took.
    pub delivered: u64,
    /// Attempts that failed and will be repeated.
    pub deferrals: u64,
    /// Deliveries that bounced.
    pub bounced: u64,
    /// Deliveries that expired.
    pub expired: u64,
    /// Deliveries that were suppressed or dropped.
    pub suppressed: u64,
}

impl Totals {
    /// Adds another shard's counts.
    pub fn add(&mut self, other: &Self) {
        self.messages_received += other.messages_received;
        self.deliveries_received += other.deliveries_received;
        self.messages_refused += other.messages_refused;
        self.delivered += other.delivered;
        self.deferrals += other.deferrals;
        self.bounced += other.bounced;
        self.expired += other.expired;
        self.suppressed += other.suppressed;
    }
}

/// What there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gauges {
    /// Deliveries in the queue, of any state.
    pub queued: u64,
    /// Of these, ready to go.
    pub ready: u64,
    /// Of these, waiting for their retry time.
    pub deferred: u64,
    /// Of these, held.
    pub held: u64,
    /// Of these, in a session.
    pub in_flight: u64,
    /// Sessions with senders.
    pub intake_sessions: u64,
    /// Sessions with receivers.
    pub delivery_sessions: u64,
    /// Bytes of the spool's files.
    pub spool_bytes: u64,
    /// Bytes free on the spool's file system.
    pub spool_free_bytes: u64,
    /// Resident memory of the process, bytes.
    pub memory_bytes: u64,
}

impl Gauges {
    /// Adds another shard's; what belongs to the process (spool, memory) must be given by one
    /// of them only.
    pub fn add(&mut self, other: &Self) {
        self.queued += other.queued;
        self.ready += other.ready;
        self.deferred += other.deferred;
        self.held += other.held;
        self.in_flight += other.in_flight;
        self.intake_sessions += other.intake_sessions;
        self.delivery_sessions += other.delivery_sessions;
        self.spool_bytes += other.spool_bytes;
        self.spool_free_bytes += other.spool_free_bytes;
        self.memory_bytes += other.memory_bytes;
    }
}
