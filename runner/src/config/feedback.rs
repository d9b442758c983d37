//! `[[rule]]` and `[dsn]`: what replies mean, and what senders are told.

use std::time::Duration;

use courser_core::feedback::verdict::{Class, Scope};
use toml::de::DeValue;

use super::egress::Stream;
use super::names::{EmailAddress, HostName, Name, words};
use super::tree::{Scalar, Section};
use super::units::{ByteSize, quoted};

words!(Class {
    "unknown-recipient" => UnknownRecipient,
    "mailbox-full" => MailboxFull,
    "greylisted" => Greylisted,
    "busy" => Busy,
    "too-many-recipients" => TooManyRecipients,
    "rate-limited" => RateLimited,
    "reputation" => Reputation,
    "blocklisted" => Blocklisted,
    "authentication" => Authentication,
    "content" => Content,
    "too-large" => TooLarge,
    "relay" => Relay,
    "protocol" => Protocol,
    "network" => Network,
    "dns" => Dns,
    "policy" => Policy,
    "other" => Other,
});

words!(Scope {
    "recipient" => Recipient,
    "message" => Message,
    "host" => Host,
    "lane" => Lane,
    "source" => Source,
    "identity" => Identity,
});

/// The command that a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleStage {
    /// The greeting.
    Greeting,
    /// EHLO, HELO or LHLO.
    Hello,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Recipient,
    /// DATA.
    Data,
    /// The end of the body.
    Body,
    /// RSET or QUIT.
    Other,
}
words!(RuleStage {
    "greeting" => Greeting,
    "hello" => Hello,
    "mail" => Mail,
    "rcpt" => Recipient,
    "data" => Data,
    "body" => Body,
    "other" => Other,
});

/// Codes from `from` to `to`, written `"421"`, `"45x"`, `"4xx"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodePattern {
    /// The lowest code meant.
    pub from: u16,
    /// The highest code meant.
    pub to: u16,
}

impl CodePattern {
    /// Whether `code` is meant.
    pub fn matches(self, code: u16) -> bool {
        (self.from..=self.to).contains(&code)
    }
}

impl Scalar for CodePattern {
    const EXPECTED: &'static str = "a refusing reply code such as 421, \"45x\" or \"5xx\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = match value {
            DeValue::Integer(n) => n.to_string(),
            DeValue::String(s) => s.to_ascii_lowercase(),
            other => return Err(format!("is {}", super::tree::described(other))),
        };
        let wrong = || format!("{text} is not a reply code");
        let digits = text.trim_end_matches('x');
        let open = text.len() - digits.len();
        if text.len() != 3 || open > 2 || !digits.starts_with(['4', '5']) {
            return Err(wrong());
        }
        let n: u16 = digits.parse().map_err(|_| wrong())?;
        let span = 10u16.pow(open as u32);
        let from = n * span;
        Ok(Self {
            from,
            to: from + (span - 1),
        })
    }
    fn show(&self) -> String {
        match self.to - self.from {
            0 => self.from.to_string(),
            9 => quoted(format!("{}x", self.from / 10)),
            _ => quoted(format!("{}xx", self.from / 100)),
        }
    }
}

/// Enhanced status codes (RFC 3463), written `"5.7.1"`, `"4.7.*"`, `"*.2.2"`, `"5.*.*"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnhancedPattern {
    /// Class, subject and detail; `None` is any.
    pub parts: [Option<u16>; 3],
}

impl EnhancedPattern {
    /// Whether `class.subject.detail` is meant.
    pub fn matches(self, class: u16, subject: u16, detail: u16) -> bool {
        let given = [class, subject, detail];
        let same = |(part, n): (Option<u16>, u16)| part.is_none_or(|p| p == n);
        self.parts.into_iter().zip(given).all(same)
    }
}

impl Scalar for EnhancedPattern {
    const EXPECTED: &'static str = "an enhanced status code such as \"5.7.1\" or \"4.7.*\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = super::units::text(value)?;
        let wrong = || format!("{text:?} is not an enhanced status code");
        let mut parts = [None; 3];
        let mut given = text.split('.');
        for (i, slot) in parts.iter_mut().enumerate() {
            let part = given.next().ok_or_else(wrong)?;
            if part != "*" {
                let n: u16 = part.parse().map_err(|_| wrong())?;
                if n > 999 || (i == 0 && !matches!(n, 4 | 5)) {
                    return Err(wrong());
                }
                *slot = Some(n);
            }
        }
        match given.next() {
            None => Ok(Self { parts }),
            Some(_) => Err(wrong()),
        }
    }
    fn show(&self) -> String {
        let part = |p: Option<u16>| p.map_or("*".to_owned(), |n| n.to_string());
        quoted(self.parts.map(part).join("."))
    }
}

/// `[[rule]]`: what a reply means. Rules are asked in order, before the built-in ones; each
/// condition that is given must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name in events; `None`: it has none.
    pub name: Option<Name>,
    /// Only replies of this provider.
    pub provider: Option<Name>,
    /// Only replies to these commands; empty: any.
    pub stages: Vec<RuleStage>,
    /// Only these codes; empty: any.
    pub codes: Vec<CodePattern>,
    /// Only these enhanced codes; empty: any or none.
    pub enhanced: Vec<EnhancedPattern>,
    /// Only replies with one of these in their text, in upper or lower case; empty: any.
    pub text: Vec<String>,
    /// What such a reply is about.
    pub class: Class,
    /// Whom it is about; `None`: as usual for the class.
    pub scope: Option<Scope>,
    /// Whether trying again can't help; `None`: 5yz can't, 4yz can.
    pub permanent: Option<bool>,
    /// Wait at least this long before the next try.
    pub retry_after: Option<Duration>,
}

impl Rule {
    /// `providers` are the names of every `[[provider]]`.
    pub(super) fn read_all(sections: Vec<Section<'_, '_>>, providers: &[&str]) -> Vec<Self> {
        let mut all = Vec::new();
        for mut s in sections {
            let name: Option<Name> = s.optional("name");
            if let Some(name) = &name {
                s.label(name);
            }
            let provider: Option<Name> = s.optional("provider");
            if let Some(name) = &provider {
                s.position("provider", "provider", providers, name);
            }
            let rule = Self {
                name,
                provider,
                stages: s.get("stages", Vec::new()),
                codes: s.get("codes", Vec::new()),
                enhanced: s.get("enhanced", Vec::new()),
                text: s.get("text", Vec::new()),
                class: s
                    .required("class", "say what such replies are about: class = \"busy\"")
                    .unwrap_or(Class::Other),
                scope: s.optional("scope"),
                permanent: s.optional("permanent"),
                retry_after: s.optional("retry_after"),
            };
            if ["codes", "enhanced", "text"]
                .iter()
                .all(|k| s.is_empty_list(k))
            {
                s.wrong(
                    "",
                    "the rule has no condition on the reply and would catch every one",
                    "give it `codes`, `enhanced` or `text`",
                );
            }
            for (i, text) in rule.text.iter().enumerate() {
                if text.trim().is_empty() {
                    s.wrong_item(
                        "text",
                        i,
                        "is empty and in every reply",
                        "write what to look for",
                    );
                }
            }
            if rule.permanent == Some(true) && rule.retry_after.is_some() {
                s.wrong(
                    "retry_after",
                    "a permanent failure is never tried again",
                    "leave out `retry_after`, or set permanent = false",
                );
            }
            s.finish();
            all.push(rule);
        }
        all
    }
}

/// `[dsn]`: delivery status notifications to senders (RFC 3464).
#[derive(Clone, Debug, PartialEq)]
pub struct Dsn {
    /// The From of the notification; its envelope sender is always null.
    pub from: EmailAddress,
    /// The name beside it.
    pub from_name: String,
    /// Whether failures are told at all. Receipts by request (NOTIFY=SUCCESS) always are.
    pub failures: bool,
    /// Messages up to this size are returned whole when the sender didn't say; of larger ones,
    /// the header.
    pub return_size: ByteSize,
    /// Most of a header that is returned.
    pub header_size: ByteSize,
    /// The stream they are sent in: a position in [`super::Config::streams`].
    pub stream: usize,
    /// Deliveries of one message that fail within this time are told in one notification.
    pub gather: Duration,
}

impl Dsn {
    pub(super) fn read(mut s: Section<'_, '_>, hostname: &HostName, streams: &[Stream]) -> Self {
        let stream_names: Vec<&str> = streams.iter().map(|s| &*s.name).collect();
        let read = Self {
            from: s.get("from", EmailAddress::at("MAILER-DAEMON", hostname)),
            from_name: s.get("from_name", "Mail Delivery System".to_owned()),
            failures: s.get("failures", true),
            return_size: s.bounded(
                "return_size",
                ByteSize::kib(16),
                ByteSize(0)..=ByteSize::gib(1),
            ),
            header_size: s.bounded(
                "header_size",
                ByteSize::kib(16),
                ByteSize::kib(1)..=ByteSize::mib(1),
            ),
            stream: s.reference("stream", "stream", &stream_names, 0),
            gather: s.bounded(
                "gather",
                Duration::from_secs(5),
                Duration::ZERO..=Duration::from_secs(3600),
            ),
        };
        if read.from_name.chars().any(|c| c.is_control()) {
            s.wrong(
                "from_name",
                "has control characters",
                "write it in one line",
            );
        }
        s.finish();
        read
    }
}
