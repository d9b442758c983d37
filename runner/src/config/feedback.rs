//! `[[rule]]` and `[dsn]`: what replies mean, and what senders are told.

use std::time::Duration;

use courser_core::feedback::verdict::{self, Class, Codes, Enhanced, Rules, Scope, Stage};
use courser_core::traffic::provider::BUILTIN_PROVIDERS;
use toml::de::DeValue;

use super::egress::{Stream, name_of, names};
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

words!(Stage {
    "greeting" => Greeting,
    "hello" => Hello,
    "mail" => Mail,
    "rcpt" => Rcpt,
    "data" => Data,
    "body" => Body,
});

impl Scalar for Codes {
    const EXPECTED: &'static str =
        "refusing reply codes such as 421, \"45x\", \"5xx\" or \"450-452\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = match value {
            DeValue::Integer(n) => n.to_string(),
            DeValue::String(s) => s.to_string(),
            other => return Err(format!("is {}, not a code", super::tree::described(other))),
        };
        match Self::parse(&text) {
            Some(codes) if codes.low >= Self::ANY.low => Ok(codes),
            Some(_) => Err(format!("{text} is not a refusal")),
            None => Err(format!("{text:?} is not a reply code")),
        }
    }
    fn show(&self) -> String {
        match (self.low, self.high) {
            _ if *self == Self::ANY => quoted("*"),
            (low, high) if low == high => low.to_string(),
            (low, high) if low % 10 == 0 && high == low + 9 => quoted(format!("{}x", low / 10)),
            (low, high) if low % 100 == 0 && high == low + 99 => quoted(format!("{}xx", low / 100)),
            (low, high) => quoted(format!("{low}-{high}")),
        }
    }
}

impl Scalar for Enhanced {
    const EXPECTED: &'static str =
        "enhanced status codes such as \"5.7.1\", \"4.7.*\", \"*.2.2\" or \"4.7.500-699\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = super::units::text(value)?;
        Self::parse(text).ok_or_else(|| format!("{text:?} is not an enhanced status code"))
    }
    fn show(&self) -> String {
        fn number<T: ToString>(n: Option<T>) -> String {
            n.map_or("*".to_owned(), |n| n.to_string())
        }
        quoted(match self {
            Self::Any => "*".to_owned(),
            Self::Vague => "vague".to_owned(),
            Self::Is {
                class,
                subject,
                low,
                high,
            } => {
                let detail = match (low, high) {
                    (0, 999) => "*".to_owned(),
                    (low, high) if low == high => low.to_string(),
                    (low, high) => format!("{low}-{high}"),
                };
                format!("{}.{}.{detail}", number(*class), number(*subject))
            }
        })
    }
}

/// `[[rule]]`: what a reply means. Rules are asked in order, before the built-in ones; every
/// condition must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name in events.
    pub name: Name,
    /// Only replies of this provider.
    pub provider: Option<Name>,
    /// Only replies at this stage of a session.
    pub stage: Option<Stage>,
    /// Only these codes.
    pub codes: Codes,
    /// Only these enhanced codes.
    pub enhanced: Enhanced,
    /// Only replies with one of these in their text, in upper or lower case; empty: any.
    pub text: Vec<String>,
    /// Only replies with all of these in their text, in upper or lower case.
    pub text_all: Vec<String>,
    /// What such a reply is about.
    pub class: Class,
    /// Whom it is about; `None`: whom the stage is about.
    pub scope: Option<Scope>,
    /// Whether trying again can't help; `None`: 5yz can't, 4yz can.
    pub permanent: Option<bool>,
    /// Whether the receiver reacts to what or how we send; `None`: as usual for the class.
    pub pressure: Option<bool>,
    /// Wait this long before the next try, where the text doesn't say.
    pub retry_after: Option<Duration>,
}

impl Rule {
    /// `providers` are the names of every `[[provider]]`; those that are built in count too.
    pub(super) fn read_all(sections: Vec<Section<'_, '_>>, providers: &[&str]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        let built_in = BUILTIN_PROVIDERS.iter().map(|p| p.name);
        let providers: Vec<&str> = providers.iter().copied().chain(built_in).collect();
        for mut s in sections {
            let name = name_of(&mut s, "rule", &names(&all, |r| &r.name));
            let provider: Option<Name> = s.optional("provider");
            if let Some(name) = &provider {
                s.position("provider", "provider", &providers, name);
            }
            let rule = Self {
                name,
                provider,
                stage: s.optional("stage"),
                codes: s.get("codes", Codes::ANY),
                enhanced: s.get("enhanced", Enhanced::Any),
                text: s.get("text", Vec::new()),
                text_all: s.get("text_all", Vec::new()),
                class: s
                    .required("class", "say what such replies are about: class = \"busy\"")
                    .unwrap_or(Class::Other),
                scope: s.optional("scope"),
                permanent: s.optional("permanent"),
                pressure: s.optional("pressure"),
                retry_after: s.optional("retry_after"),
            };
            let unconditional = rule.codes == Codes::ANY
                && rule.enhanced == Enhanced::Any
                && rule.text.is_empty()
                && rule.text_all.is_empty();
            if unconditional && !s.has_problems() {
                s.wrong(
                    "",
                    "the rule has no condition on the reply and would catch every one",
                    "give it `codes`, `enhanced`, `text` or `text_all`",
                );
            }
            for (key, list) in [("text", &rule.text), ("text_all", &rule.text_all)] {
                for (i, text) in list.iter().enumerate() {
                    if text.trim().is_empty() {
                        let right = "write what to look for";
                        s.wrong_item(key, i, "is empty and in every reply", right);
                    }
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

impl super::Config {
    /// Gives the rules, with the built-in ones behind them, to `judge`. It costs a few small
    /// allocations for each configured rule, once for each refusing reply.
    pub fn with_rules<R>(&self, judge: impl FnOnce(Rules<'_>) -> R) -> R {
        fn texts(list: &[String]) -> Vec<&str> {
            list.iter().map(String::as_str).collect()
        }
        let lists: Vec<_> = self
            .rules
            .iter()
            .map(|r| (texts(&r.text), texts(&r.text_all)))
            .collect();
        let rules: Vec<_> = self
            .rules
            .iter()
            .zip(&lists)
            .map(|(rule, (any, all))| verdict::Rule {
                name: &rule.name,
                provider: rule.provider.as_deref(),
                codes: rule.codes,
                enhanced: rule.enhanced,
                stage: rule.stage,
                all,
                any,
                class: rule.class,
                scope: rule.scope,
                permanent: rule.permanent,
                pressure: rule.pressure,
                retry_after: rule.retry_after,
            })
            .collect();
        judge(Rules::new(&rules))
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
