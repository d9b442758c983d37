//! `[[source]]`, `[[pool]]` and `[[stream]]`: from which address mail leaves, in which class,
//! and how often it is tried.

use std::net::IpAddr;
use std::time::Duration;

use courser_core::route::tls::Level;

use super::names::{HostName, Name, words};
use super::tree::{Section, Setting};
use super::units::Percent;

/// `[[source]]`: one egress address with its EHLO name.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Its name in events and pools.
    pub name: Name,
    /// The local address that connections are bound to; `None`: the system chooses.
    pub address: Option<IpAddr>,
    /// The name it says in EHLO; the address's PTR should say the same.
    pub ehlo: HostName,
    /// How much TLS mail from it wants; `None`: nothing is said here.
    pub tls: Option<Level>,
}

impl Source {
    pub(super) fn read_all(sections: Vec<Section<'_, '_>>, hostname: &HostName) -> Vec<Self> {
        let mut all = Vec::new();
        for mut s in sections {
            let name = name_of(&mut s, "source", &names(&all, |s: &Self| &s.name));
            let read = Self {
                name,
                address: s.optional("address"),
                ehlo: s.get("ehlo", hostname.clone()),
                tls: s.optional("tls"),
            };
            if let Some(ip) = read.address
                && (ip.is_unspecified() || ip.is_multicast())
            {
                let what = format!("{ip} is no address that a connection can come from");
                let right = "leave `address` out to let the system choose";
                s.wrong("address", what, right);
            }
            s.finish();
            all.push(read);
        }
        all
    }
}

/// A source in a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// A position in [`super::Config::sources`].
    pub source: usize,
    /// Its share of the pool's mail, relative to the others.
    pub weight: u32,
}

/// `[[pool]]`: sources that share mail by weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Its name in streams, listeners and `X-Courser-Pool`.
    pub name: Name,
    /// At least one.
    pub members: Vec<Member>,
}

impl Pool {
    pub(super) fn read_all(sections: Vec<Section<'_, '_>>, sources: &[Source]) -> Vec<Self> {
        let source_names = names(sources, |s| &s.name);
        let mut all = Vec::new();
        for mut s in sections {
            let name = name_of(&mut s, "pool", &names(&all, |p: &Self| &p.name));
            let mut members: Vec<Member> = Vec::new();
            for mut m in s.sections("members") {
                let source: Option<String> = m.required("source", "name a [[source]]");
                if let Some(name) = &source {
                    m.label(name);
                }
                let weight = m.bounded("weight", 1, 1..=1_000_000);
                let source = source.and_then(|n| m.position("source", "source", &source_names, &n));
                if let Some(source) = source {
                    if members.iter().any(|m| m.source == source) {
                        let what = format!("{:?} stands here twice", source_names[source]);
                        m.wrong("source", what, "add the weights up");
                    }
                    members.push(Member { source, weight });
                }
                m.finish();
            }
            if s.is_absent() {
                // Without pools, every source takes an equal part.
                members = (0..sources.len())
                    .map(|source| Member { source, weight: 1 })
                    .collect();
            } else if members.is_empty() && (!s.has("members") || s.is_empty_list("members")) {
                s.wrong(
                    "members",
                    format!("pool {:?} has no source", &*name),
                    "write members = [{ source = \"…\", weight = 1 }]",
                );
            }
            s.finish();
            all.push(Self { name, members });
        }
        all
    }
}

/// What goes first when not everything can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Someone waits for it: password resets, receipts.
    Transactional,
    /// Ordinary mail.
    Normal,
    /// Newsletters. Slower than the others, never starved.
    Bulk,
}
words!(Priority { "transactional" => Transactional, "normal" => Normal, "bulk" => Bulk });

/// When a delivery is tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Wait after the first failure.
    pub first: Duration,
    /// Each wait is this much longer than the one before.
    pub factor: f64,
    /// Longest wait.
    pub max: Duration,
    /// Waits differ by up to this much either way.
    pub jitter: Percent,
    /// After this time since acceptance a delivery expires.
    pub life: Duration,
    /// Waits one after the other, instead of `first` and `factor`; the last one repeats. Empty:
    /// not used.
    pub intervals: Vec<Duration>,
}

impl Retry {
    fn read(mut s: Section<'_, '_>) -> Self {
        let second = Duration::from_secs(1);
        let year = Duration::from_secs(366 * 86_400);
        let read = Self {
            first: s.bounded("first", Duration::from_secs(300), second..=year),
            factor: s.bounded("factor", 2.0, 1.0..=100.0),
            max: s.bounded("max", Duration::from_secs(4 * 3600), second..=year),
            jitter: s.bounded("jitter", Percent(10), Percent(0)..=Percent(90)),
            life: s.bounded("life", Duration::from_secs(5 * 86_400), second..=year),
            intervals: s.get("intervals", Vec::new()),
        };
        if read.max < read.first {
            s.wrong(
                "max",
                format!(
                    "the longest wait {} is shorter than the first one {}",
                    Setting::show(&read.max),
                    Setting::show(&read.first)
                ),
                "make `max` at least `first`",
            );
        }
        for (i, wait) in read.intervals.iter().enumerate() {
            if *wait < second {
                let what = format!("{} is too short", Setting::show(wait));
                s.wrong_item("intervals", i, what, "wait at least \"1s\"");
            }
        }
        s.finish();
        read
    }
}

/// What becomes of mail that receivers would find unauthenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alignment {
    /// It goes out; nothing is looked up.
    Off,
    /// It goes out, and the log says what is missing.
    Warn,
    /// It is kept, and goes out when an operator releases it.
    Hold,
    /// It is refused.
    Refuse,
}
words!(Alignment { "off" => Off, "warn" => Warn, "hold" => Hold, "refuse" => Refuse });

/// `[[stream]]`: mail of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// Its name in listeners and `X-Courser-Stream`.
    pub name: Name,
    /// What goes first.
    pub class: Priority,
    /// From where it goes out: a position in [`super::Config::pools`].
    pub pool: usize,
    /// When deliveries are tried again.
    pub retry: Retry,
    /// A delivery that waits this long tells its sender, once; `None`: never.
    pub delay_dsn_after: Option<Duration>,
    /// What becomes of mail that no key aligned with its From signs, or whose sender's SPF leaves
    /// out a source of its pool.
    pub require_alignment: Alignment,
    /// How much TLS its mail wants; `None`: nothing is said here.
    pub tls: Option<Level>,
}

impl Stream {
    pub(super) fn read_all(sections: Vec<Section<'_, '_>>, pools: &[Pool]) -> Vec<Self> {
        let pool_names = names(pools, |p| &p.name);
        let mut all = Vec::new();
        for mut s in sections {
            let read = Self {
                name: name_of(&mut s, "stream", &names(&all, |s: &Self| &s.name)),
                class: s.get("class", Priority::Normal),
                pool: s.reference("pool", "pool", &pool_names, 0),
                retry: Retry::read(s.section("retry")),
                delay_dsn_after: s.get("delay_dsn_after", Some(Duration::from_secs(4 * 3600))),
                require_alignment: s.get("require_alignment", Alignment::Off),
                tls: s.optional("tls"),
            };
            s.finish();
            all.push(read);
        }
        all
    }
}

/// The names of `all`, to refer to.
pub(super) fn names<T>(all: &[T], name: impl Fn(&T) -> &Name) -> Vec<&str> {
    all.iter().map(|x| &**name(x)).collect()
}

/// Reads `name`, which must be there and be its own; a section that isn't there is called
/// `default`.
pub(super) fn name_of(s: &mut Section<'_, '_>, what: &str, taken: &[&str]) -> Name {
    let read = if s.is_absent() {
        Some(s.get("name", Name::default_name()))
    } else {
        let right = format!("give the {what} a name: name = \"…\"");
        s.required("name", &right)
    };
    let Some(name) = read else {
        return Name::default_name();
    };
    if taken.contains(&&*name) {
        let said = format!("there is another {what} {:?}", &*name);
        s.wrong("name", said, "give each its own `name`");
    }
    s.label(&name);
    name
}
