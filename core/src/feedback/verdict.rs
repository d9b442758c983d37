//! Reply → [`Verdict`]: class, scope, permanence, when to try again.

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
