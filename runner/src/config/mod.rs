//! The configuration: one TOML file, read and checked once.
//!
//! [`load`] (or [`parse`]) gives a [`Config`], in which everything is typed and every name is
//! resolved, or every mistake of the file at once ([`Problems`]). [`reload_plan`] compares two
//! of them. [`EXAMPLE`] documents each option with its default.
//!
//! The file becomes a tree with positions; each section reads its options from it
//! (the `tree` module) with their defaults. There is no second, raw set of types.

mod delivery;
mod dkim;
mod dns;
mod egress;
mod feedback;
mod listener;
mod login;
mod names;
mod problem;
mod reload;
mod server;
mod tls;
mod tree;
mod units;
mod users;

use std::cell::RefCell;
use std::path::Path;

use toml::de::DeTable;

pub use courser_core::traffic::bucket::Rate;
pub use delivery::{
    AddressFamily, DeadHost, Delivery, EightBit, LaneLimits, Provider, Route, Timeouts,
};
pub use dkim::{Canonicalization, Dkim, DkimKey, When};
pub use dns::{Dns, NameServer};
pub use egress::{Alignment, Member, Pool, Priority, Retry, Source, Stream};
pub use feedback::{Dsn, Rule};
pub use listener::{Listener, ListenerKind};
pub use login::{ListenerAuth, LoginLimits, RouteAuth, mechanisms};
pub use names::{DomainName, DomainPattern, EmailAddress, Host, HostName, Name, Network, Target};
pub use problem::{Problem, Problems};
pub use reload::{Change, ReloadPlan, reload_plan};
pub use server::{Events, Limits, Log, LogFormat, LogLevel, SHARDS_MAX, Server, Spool};
pub use tls::{Certificate, DomainTls, ListenerTls, Tls, TlsReports, TlsVersion};
pub use tree::Option_;
pub use units::{ByteSize, Percent, parse_duration, show_duration};
pub use users::{Hidden, USERS_MAX, UserEntry, UserName, UsersFile, parse_users};

use tree::{Notes, Section};

/// The example configuration, with every option, its meaning and its default.
pub const EXAMPLE: &str = include_str!("../../courser.example.toml");

/// Where `courser` looks for its configuration.
pub const DEFAULT_PATH: &str = "/etc/courser/courser.toml";

/// A checked configuration. Positions in its lists stand for names: a stream's `pool` is an
/// index into `pools`. There is at least one listener, source, pool and stream, and the first
/// one is the default.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The server's full name in greetings, Received fields and DSNs.
    pub hostname: HostName,
    /// Whom to write to about this server.
    pub postmaster: EmailAddress,
    /// `[server]`
    pub server: Server,
    /// `[limits]`
    pub limits: Limits,
    /// `[spool]`
    pub spool: Spool,
    /// `[events]`
    pub events: Events,
    /// `[log]`
    pub log: Log,
    /// `[[listener]]`
    pub listeners: Vec<Listener>,
    /// `[logins]`
    pub logins: LoginLimits,
    /// `[[source]]`
    pub sources: Vec<Source>,
    /// `[[pool]]`
    pub pools: Vec<Pool>,
    /// `[[stream]]`
    pub streams: Vec<Stream>,
    /// `[dkim]`
    pub dkim: Dkim,
    /// `[tls]`
    pub tls: Tls,
    /// `[delivery]`
    pub delivery: Delivery,
    /// `[[provider]]`
    pub providers: Vec<Provider>,
    /// `[[route]]`
    pub routes: Vec<Route>,
    /// `[dns]`
    pub dns: Dns,
    /// `[[rule]]`
    pub rules: Vec<Rule>,
    /// `[dsn]`
    pub dsn: Dsn,
    options: Vec<Option_>,
}

impl Config {
    /// Every option with its value and its default, in the order of the sections.
    pub fn options(&self) -> &[Option_] {
        &self.options
    }

    /// The position of the stream called `name`.
    pub fn stream_named(&self, name: &str) -> Option<usize> {
        self.streams.iter().position(|s| &*s.name == name)
    }

    /// The position of the pool called `name`.
    pub fn pool_named(&self, name: &str) -> Option<usize> {
        self.pools.iter().position(|p| &*p.name == name)
    }

    /// The route for `domain` (lower case A-labels): the exact one, else the longest suffix,
    /// else the smart host.
    pub fn route_for(&self, domain: &str) -> Option<&Route> {
        let closeness = |r: &&Route| match &r.domain {
            DomainPattern::Exactly(_) => usize::MAX,
            DomainPattern::Below(name) => name.len(),
            DomainPattern::Any => 0,
        };
        self.routes
            .iter()
            .filter(|r| r.domain.matches(domain))
            .max_by_key(closeness)
    }

    fn read(mut root: Section<'_, '_>) -> Self {
        let hostname: HostName = root
            .required(
                "hostname",
                "name this server as its address's PTR does: hostname = \"mail.example.org\"",
            )
            .unwrap_or_else(HostName::placeholder);
        let postmaster = root.get("postmaster", EmailAddress::at("postmaster", &hostname));
        let server = Server::read(root.section("server"));
        let limits = Limits::read(root.section("limits"));
        let spool = Spool::read(root.section("spool"));
        let events = Events::read(root.section("events"));
        let log = Log::read(root.section("log"));
        let sources = Source::read_all(root.sections_or_default("source"), &hostname);
        let pools = Pool::read_all(root.sections_or_default("pool"), &sources);
        let streams = Stream::read_all(root.sections_or_default("stream"), &pools);
        let routes = Route::read_all(root.sections("route"));
        let tls = Tls::read(root.section("tls"), &hostname, &postmaster);
        let listeners = root.sections_or_default("listener");
        let there = listener::There {
            hostname: &hostname,
            pools: &pools,
            streams: &streams,
            routes: &routes,
            certificates: !tls.certificates.is_empty(),
        };
        let listeners = Listener::read_all(listeners, &there);
        let logins = LoginLimits::read(root.section("logins"));
        let dkim = Dkim::read(root.section("dkim"));
        let delivery = Delivery::read(root.section("delivery"));
        let providers = Provider::read_all(root.sections("provider"), &delivery.limits);
        let dns = Dns::read(root.section("dns"));
        let provider_names: Vec<&str> = providers.iter().map(|p| &*p.name).collect();
        let rules = Rule::read_all(root.sections("rule"), &provider_names);
        let dsn = Dsn::read(root.section("dsn"), &hostname, &streams);
        root.finish();
        Self {
            hostname,
            postmaster,
            server,
            limits,
            spool,
            events,
            log,
            listeners,
            logins,
            sources,
            pools,
            streams,
            dkim,
            tls,
            delivery,
            providers,
            routes,
            dns,
            rules,
            dsn,
            options: Vec::new(),
        }
    }
}

/// Reads and checks `text`; `file` is its name in messages.
///
/// # Errors
/// Every mistake of the file.
pub fn parse(text: &str, file: &str) -> Result<Config, Problems> {
    let (config, notes) = read(text, file)?;
    Ok(Config {
        options: notes.options,
        ..config
    })
}

fn read(text: &str, file: &str) -> Result<(Config, Notes), Problems> {
    read_with(text, file, Config::read)
}

fn read_with<T>(
    text: &str,
    file: &str,
    read: impl FnOnce(Section<'_, '_>) -> T,
) -> Result<(T, Notes), Problems> {
    let (table, syntax) = DeTable::parse_recoverable(text);
    let notes = RefCell::new(Notes::default());
    if !syntax.is_empty() {
        // What the tree holds beyond a syntax error is guesswork; show the syntax errors alone.
        let list = syntax.iter().map(|e| {
            let span = e.span().unwrap_or(0..0);
            let right = "see https://toml.io for what a TOML file looks like";
            Problem::new(text, span, String::new(), e.message().into(), right.into())
        });
        return Err(Problems::new(file, list.collect()));
    }
    let config = read(Section::root(text, &notes, &table));
    let notes = notes.into_inner();
    if !notes.problems.is_empty() {
        return Err(Problems::new(file, notes.problems));
    }
    Ok((config, notes))
}

/// Why a configuration could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("can't read the configuration {path}: {error}{hint}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        error: std::io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// The file has mistakes.
    #[error(transparent)]
    Wrong(#[from] Problems),
}

/// Reads and checks the file `path`.
///
/// # Errors
/// The file can't be read, or has mistakes.
pub fn load(path: &Path) -> Result<Config, LoadError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| LoadError::Read {
        hint: match error.kind() {
            std::io::ErrorKind::NotFound => {
                "; `courser check-config --example` prints one to begin with"
            }
            _ => "",
        },
        path: file.clone(),
        error,
    })?;
    Ok(parse(&text, &file)?)
}

#[cfg(test)]
mod tests;
