//! What a receiver can be told to do: the same words as options of `courser sink` and in its file.
//!
//! ```toml
//! seed = 7                             # of everything that looks random
//! threads = 1
//!
//! [[receiver]]
//! name = "busy"
//! listen = ["127.0.0.2:2525", "127.0.0.3:2525"]
//! hostname = "mx.busy.test"            # what it greets with; the name if it isn't said
//! latency = "20ms"
//! greylist = "8s"
//! message_rate = "100/s burst 20"
//! unknown = "2%"
//! without = ["chunking", "dsn"]
//! replies.rate = "421 4.7.0 [TSS04] Messages from you temporarily deferred"
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use courser_core::smtp::reply::Reply;
use courser_core::traffic::bucket::Rate;
use serde::Deserialize;
use serde::de::Error as _;

use crate::config::parse_duration;

/// A whole sink.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Of everything that looks random: with one seed, the same recipients are unknown each time.
    pub seed: u64,
    /// Threads, each with its own listeners; at least one.
    pub threads: usize,
    /// Write each message to a file in this directory.
    pub save: Option<PathBuf>,
    /// Write a line for each recipient of each message taken to this file.
    pub list: Option<PathBuf>,
    /// Tell sessions on standard error.
    pub verbose: bool,
    /// The receivers.
    #[serde(rename = "receiver")]
    pub receivers: Vec<ReceiverConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            threads: 1,
            save: None,
            list: None,
            verbose: false,
            receivers: Vec::new(),
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// It can't be read, or has mistakes; the text says file, line and column.
    pub fn load(path: &Path) -> Result<Self, String> {
        let file = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| format!("{file}: {e}"))?;
        let config: Self = toml::from_str(&text).map_err(|e| format!("{file}: {e}"))?;
        config.check().map_err(|e| format!("{file}: {e}"))?;
        Ok(config)
    }

    /// What is wrong beyond single values.
    ///
    /// # Errors
    /// What that is.
    pub fn check(&self) -> Result<(), String> {
        if self.receivers.is_empty() {
            return Err("no [[receiver]]".into());
        }
        for (i, receiver) in self.receivers.iter().enumerate() {
            let name = &receiver.name;
            if receiver.listen.is_empty() {
                return Err(format!("receiver {name:?} listens nowhere"));
            }
            if self.receivers[..i].iter().any(|r| r.name == *name) {
                return Err(format!("two receivers are called {name:?}"));
            }
        }
        Ok(())
    }
}

/// One receiver.
#[derive(Clone, Debug, Default)]
pub struct ReceiverConfig {
    /// Its name in counts.
    pub name: String,
    /// Where it listens. Port 0 is any free one.
    pub listen: Vec<SocketAddr>,
    /// What it greets with; its name if empty.
    pub hostname: String,
    /// Its manners.
    pub behaviour: Behaviour,
}

impl<'de> Deserialize<'de> for ReceiverConfig {
    /// All in one table. (serde's own `flatten` would let misspelt options pass.)
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Names {
            name: String,
            listen: Vec<SocketAddr>,
            #[serde(default)]
            hostname: String,
        }
        let mut table = toml::Table::deserialize(d)?;
        let names: Names = table.clone().try_into().map_err(D::Error::custom)?;
        for name in ["name", "listen", "hostname"] {
            table.remove(name);
        }
        let behaviour = table.try_into().map_err(D::Error::custom)?;
        Ok(Self {
            name: names.name,
            listen: names.listen,
            hostname: names.hostname,
            behaviour,
        })
    }
}

/// One receiver's manners. The default takes everything at once.
///
/// Where a share of recipients or connections is concerned, a hash of the seed decides which.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[command(next_help_heading = "What the receiver does")]
pub struct Behaviour {
    /// Wait so long before each write of replies
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    #[serde(deserialize_with = "text::duration")]
    pub latency: Duration,
    /// Wait so long before the greeting
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    #[serde(deserialize_with = "text::duration")]
    pub delay_greeting: Duration,
    /// Wait so long between taking a message and saying so
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    #[serde(deserialize_with = "text::duration")]
    pub delay_accept: Duration,
    /// Wait so long for each refusal, in sessions that had one
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    #[serde(deserialize_with = "text::duration")]
    pub tarpit: Duration,
    /// Refuse each recipient with 451 until so much time has passed since it was first tried
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    #[serde(deserialize_with = "text::maybe_duration")]
    pub greylist: Option<Duration>,
    /// More messages than this from one client address get 421, as in "100/s burst 20"
    #[arg(long, value_name = "RATE")]
    #[serde(deserialize_with = "text::maybe_parsed")]
    pub message_rate: Option<Rate>,
    /// More connections than this from one client address get 421
    #[arg(long, value_name = "RATE")]
    #[serde(deserialize_with = "text::maybe_parsed")]
    pub connection_rate: Option<Rate>,
    /// This share of recipients is unknown: 550 5.1.1
    #[arg(long, value_name = "SHARE", default_value = "0")]
    #[serde(deserialize_with = "text::parsed")]
    pub unknown: Share,
    /// This share of recipients has a full mailbox: 452 4.2.2
    #[arg(long, value_name = "SHARE", default_value = "0")]
    #[serde(deserialize_with = "text::parsed")]
    pub full: Share,
    /// Full mailboxes have room again so long after they were first tried
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    #[serde(deserialize_with = "text::maybe_duration")]
    pub full_for: Option<Duration>,
    /// Messages whose first recipient is in this share are spam: 550 5.7.1 after the body
    #[arg(long, value_name = "SHARE", default_value = "0")]
    #[serde(deserialize_with = "text::parsed")]
    pub spam: Share,
    /// This share of messages gets 451 4.3.0 after the body
    #[arg(long, value_name = "SHARE", default_value = "0")]
    #[serde(deserialize_with = "text::parsed")]
    pub trouble: Share,
    /// This share of connections gets 421 4.3.2 instead of a greeting
    #[arg(long, value_name = "SHARE", default_value = "0")]
    #[serde(deserialize_with = "text::parsed")]
    pub busy: Share,
    /// This share of connections is closed without a word: where --close-after says, or anywhere
    #[arg(long, value_name = "SHARE", default_value = "0")]
    #[serde(deserialize_with = "text::parsed")]
    pub drop: Share,
    /// Close connections without a word after this; all of them, unless --drop says how many
    #[arg(long, value_name = "STAGE")]
    pub close_after: Option<Stage>,
    /// One more connection at once gets 421; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub connections: u32,
    /// One more connection at once from the same client address gets 421; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub connections_per_client: u32,
    /// One more message in a connection gets 421; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub messages_per_connection: u32,
    /// One more recipient in a transaction gets 452 4.5.3; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub recipients_per_transaction: u32,
    /// Say the two limits above in the answer to EHLO (LIMITS, RFC 9422)
    #[arg(long)]
    pub announce_limits: bool,
    /// Largest message, octets; 0 is no limit
    #[arg(long, value_name = "OCTETS", default_value_t = 0)]
    pub size_limit: u64,
    /// Don't offer these extensions; `ehlo` knows HELO only
    #[arg(long, value_name = "EXTENSION", value_delimiter = ',')]
    pub without: Vec<Extension>,
    /// What becomes of pipelined commands when PIPELINING is offered
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub pipelining: Pipelining,
    /// Offer STARTTLS, with a certificate of its own making
    #[arg(long)]
    pub starttls: bool,
    /// Speak LMTP
    #[arg(long)]
    pub lmtp: bool,
    /// Another reply for a refusal, as in rate="421 4.7.0 Too fast"; the counts have their names
    #[arg(long = "reply", value_name = "NAME=REPLY", value_parser = text::named_reply)]
    #[serde(deserialize_with = "text::replies")]
    pub replies: Vec<(String, ReplyText)>,
}

/// An SMTP extension that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub enum Extension {
    /// Every one of them: EHLO gets 502.
    Ehlo,
    /// RFC 2920.
    Pipelining,
    /// RFC 3030.
    Chunking,
    /// RFC 6152.
    #[serde(rename = "8bitmime")]
    #[value(name = "8bitmime")]
    EightBitMime,
    /// RFC 6531.
    Smtputf8,
    /// RFC 3461.
    Dsn,
    /// RFC 1870.
    Size,
    /// RFC 2034: no reply carries an enhanced code.
    EnhancedStatusCodes,
}

/// What becomes of commands that were pipelined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pipelining {
    /// They are answered in order.
    #[default]
    Honest,
    /// What came in the same packet behind a command is thrown away, as some old proxies do.
    Forgetful,
    /// The connection is closed when something comes behind a command.
    Closing,
}

/// A point in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Connected; nothing is said.
    Connect,
    /// EHLO or HELO came; it isn't answered.
    Hello,
    /// MAIL came.
    Mail,
    /// RCPT came.
    Rcpt,
    /// DATA came and has its 354, or BDAT came.
    Data,
    /// The whole message came; it isn't taken.
    Body,
    /// The whole message came and is taken, but the client isn't told: it will send it again.
    Accept,
    /// The client was told that its message is taken.
    Reply,
}

/// A share between none and all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share(u32);

impl Share {
    /// `part` of 1, cut to 0 to 1.
    pub fn new(part: f64) -> Self {
        Self((part.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32)
    }

    /// Whether it is none.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether `hash`, evenly spread, falls into this share.
    pub fn takes(self, hash: u64) -> bool {
        self.0 > 0 && (hash >> 32) as u32 <= self.0
    }
}

impl FromStr for Share {
    type Err = String;
    /// `2%`, `0.5%`, or a number from 0 to 1.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no share: write 2% or 0.02");
        let (number, scale) = match text.strip_suffix('%') {
            Some(number) => (number, 100.0),
            None => (text, 1.0),
        };
        let part = number.trim().parse::<f64>().map_err(|_| wrong())? / scale;
        match part {
            0.0..=1.0 => Ok(Self::new(part)),
            _ => Err(wrong()),
        }
    }
}

/// A refusal in words, as in `421 4.7.0 Come back later`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyText(Vec<u8>);

impl ReplyText {
    /// As a reply.
    pub fn reply(&self) -> Option<Reply<'_>> {
        Reply::parse(&self.0).ok()
    }
}

impl FromStr for ReplyText {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let lines: Vec<&str> = text.lines().collect();
        let it = Self(format!("{}\r\n", lines.join("\r\n")).into_bytes());
        match it.reply() {
            Some(reply) if reply.code.is_transient() || reply.code.is_permanent() => Ok(it),
            Some(_) => Err(format!("{text:?} is no refusal: write 4yz or 5yz")),
            None => Err(format!("{text:?} is no reply: write 421 4.7.0 Too fast")),
        }
    }
}

/// Values that are written as text.
mod text {
    use std::collections::BTreeMap;

    use serde::de::{Deserializer, Error};

    use super::super::model::REFUSALS;
    use super::*;

    pub(super) fn duration<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        parse_duration(&String::deserialize(d)?).map_err(D::Error::custom)
    }

    pub(super) fn maybe_duration<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Duration>, D::Error> {
        duration(d).map(Some)
    }

    pub(super) fn parsed<'de, D, T>(d: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: std::fmt::Display>,
    {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }

    pub(super) fn maybe_parsed<'de, D, T>(d: D) -> Result<Option<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: std::fmt::Display>,
    {
        parsed(d).map(Some)
    }

    pub(super) fn replies<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Vec<(String, ReplyText)>, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(d)?;
        let named = texts.iter().map(|(name, text)| reply(name, text));
        named.collect::<Result<_, _>>().map_err(D::Error::custom)
    }

    pub(super) fn named_reply(text: &str) -> Result<(String, ReplyText), String> {
        match text.split_once('=') {
            Some((name, text)) => reply(name, text),
            None => Err(format!("write NAME=REPLY; NAME is one of {}", known())),
        }
    }

    fn reply(name: &str, text: &str) -> Result<(String, ReplyText), String> {
        if !REFUSALS.contains(&name) {
            return Err(format!("there is no refusal {name:?}, only {}", known()));
        }
        Ok((name.into(), text.parse()?))
    }

    fn known() -> String {
        REFUSALS.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read() {
        let text = r#"
            seed = 7
            [[receiver]]
            name = "busy"
            listen = ["127.0.0.2:2525"]
            latency = "20ms"
            greylist = "8s"
            message_rate = "100/s burst 20"
            unknown = "2%"
            close_after = "accept"
            pipelining = "forgetful"
            without = ["chunking", "8bitmime"]
            replies.rate = "421 4.7.0 [TSS04] deferred"
        "#;
        let config: Config = toml::from_str(text).unwrap();
        config.check().unwrap();
        let b = &config.receivers[0].behaviour;
        assert_eq!(b.latency, Duration::from_millis(20));
        assert_eq!(b.greylist, Some(Duration::from_secs(8)));
        assert_eq!(b.message_rate.unwrap().burst(), 20);
        assert_eq!(b.close_after, Some(Stage::Accept));
        assert_eq!(b.without, [Extension::Chunking, Extension::EightBitMime]);
        assert_eq!(b.pipelining, Pipelining::Forgetful);
        let reply = b.replies[0].1.reply().unwrap();
        assert_eq!(
            (reply.code.get(), reply.text),
            (421, &b"[TSS04] deferred"[..])
        );
    }

    #[test]
    fn mistakes_are_told() {
        let told = |line: &str| {
            let text = format!("[[receiver]]\nname = \"a\"\nlisten = [\"127.0.0.1:1\"]\n{line}");
            let read = toml::from_str::<Config>(&text).map_err(|e| e.to_string());
            read.and_then(|c| c.check()).unwrap_err()
        };
        assert!(told("latensy = \"1s\"").contains("latensy"));
        assert!(told("unknown = \"120%\"").contains("write 2%"));
        assert!(told("latency = \"5\"").contains("no unit"));
        assert!(told("replies.rate = \"250 fine\"").contains("no refusal"));
        assert!(told("replies.slow = \"421 no\"").contains("there is no refusal \"slow\""));
        assert!(told("[[receiver]]\nname = \"a\"\nlisten = [\"127.0.0.1:1\"]").contains("two"));
        assert!(Config::default().check().is_err());
    }

    #[test]
    fn shares_are_read() {
        assert_eq!("2%".parse(), Ok(Share::new(0.02)));
        assert_eq!("0.5".parse(), Ok(Share::new(0.5)));
        assert!("120%".parse::<Share>().is_err() && "x".parse::<Share>().is_err());
        assert!(Share::new(1.0).takes(u64::MAX) && !Share::new(0.0).takes(0));
    }
}
