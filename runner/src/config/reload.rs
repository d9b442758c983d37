//! What changes between two configurations, and what of it takes a restart.

use super::{Config, Log, Option_, Server};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One option that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The option, such as `listener[default].max_recipients`.
    pub path: String,
    /// What it was; `None`: it wasn't there.
    pub old: Option<String>,
    /// What it is; `None`: it isn't there any more.
    pub new: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |v: &Option<String>| v.clone().unwrap_or_else(|| "nothing".into());
        write!(
            f,
            "{}: {} → {}",
            self.path,
            show(&self.old),
            show(&self.new)
        )
    }
}

/// What a reload does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadPlan {
    /// Changes that are in force after the reload.
    pub applied: Vec<Change>,
    /// Changes that wait for a restart.
    pub needs_restart: Vec<Change>,
}

impl ReloadPlan {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.needs_restart.is_empty()
    }

    /// What is in force after the reload that this is the plan of: `new`, but `old` where that
    /// takes a restart.
    pub fn merged(&self, old: &Config, new: Config) -> Config {
        let stays = |path: &str| stays(old, &new, path);
        let mut options: Vec<_> = new.options.clone();
        options.retain(|o| !stays(&o.path));
        options.extend(old.options.iter().filter(|o| stays(&o.path)).cloned());

        let mut next = Config {
            server: Server {
                drain_timeout: new.server.drain_timeout,
                ..old.server.clone()
            },
            limits: old.limits.clone(),
            spool: old.spool.clone(),
            events: old.events.clone(),
            log: Log {
                format: old.log.format,
                ..new.log.clone()
            },
            dns: old.dns.clone(),
            sources: old.sources.clone(),
            listeners: Vec::new(),
            options,
            ..new.clone()
        };
        if new.sources == old.sources {
            // The listeners that there are, as they are now.
            for was in &old.listeners {
                let is = new.listeners.iter().find(|l| l.name == was.name);
                let mut listener = is.unwrap_or(was).clone();
                listener.address.clone_from(&was.address);
                listener.kind = was.kind;
                if is.is_none() {
                    // Gone from the file; what it refers to may stand elsewhere, or be gone too.
                    let stream = &old.streams[was.stream].name;
                    listener.stream = new.stream_named(stream).unwrap_or(0);
                    let pool = was.pool.map(|p| &old.pools[p].name);
                    listener.pool = pool.and_then(|name| new.pool_named(name));
                }
                next.listeners.push(listener);
            }
        } else {
            next.pools.clone_from(&old.pools);
            next.streams.clone_from(&old.streams);
            next.listeners.clone_from(&old.listeners);
            next.dsn.stream = old.dsn.stream;
        }
        next
    }
}

impl fmt::Display for ReloadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing changed");
        }
        for (title, list) in [
            ("in force now", &self.applied),
            ("needs a restart", &self.needs_restart),
        ] {
            if !list.is_empty() {
                writeln!(f, "{title}:")?;
            }
            for change in list {
                writeln!(f, "  {change}")?;
            }
        }
        Ok(())
    }
}

/// Options, or whole sections, that are bound to sockets, files, threads and memory that exist
/// since the start. Everything else is in force for what begins after the reload.
pub(super) const NEEDS_RESTART: &[&str] = &[
    "server.shards",
    "server.control_socket",
    "limits",
    "spool",
    "events",
    "log.format",
    "listener.name",
    "listener.address",
    "listener.kind",
    "source",
    "dns",
];

/// What refers to sources, directly or through others, by position; it stays as it is when the
/// sources must.
const REFERS_TO_SOURCES: &[&str] = &["pool", "stream", "listener", "dsn.stream"];

/// Compares the configuration in force with one just read.
pub fn reload_plan(old: &Config, new: &Config) -> ReloadPlan {
    let by_path = |c: &Config| -> BTreeMap<String, Option_> {
        let all = c.options().iter();
        all.map(|o| (o.path.clone(), o.clone())).collect()
    };
    let (before, after) = (by_path(old), by_path(new));
    let mut plan = ReloadPlan::default();
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for path in paths {
        let (was, is) = (before.get(path), after.get(path));
        let change = Change {
            path: path.clone(),
            old: was.and_then(|o| o.value.clone()),
            new: is.and_then(|o| o.value.clone()),
        };
        // What comes or goes with its section, and says nothing of its own.
        let silent = |o: Option<&Option_>| o.is_none_or(|o| o.value == o.default);
        let section = was.is_none() || is.is_none();
        if change.old == change.new || (section && silent(was) && silent(is)) {
            continue;
        }
        if stays(old, new, path) {
            plan.needs_restart.push(change);
        } else {
            plan.applied.push(change);
        }
    }
    plan
}

/// Whether `path` stays as it is in `old` until a restart.
fn stays(old: &Config, new: &Config, path: &str) -> bool {
    let plain = without_names(path);
    if below(&plain, NEEDS_RESTART) {
        return true;
    }
    if new.sources != old.sources && below(&plain, REFERS_TO_SOURCES) {
        return true;
    }
    // A listener that comes or goes does so with a restart.
    path.starts_with("listener[") && {
        let has = |c: &Config| {
            let mut names = c.listeners.iter();
            names.any(|l| path.starts_with(&format!("listener[{}].", l.name)))
        };
        !(has(old) && has(new))
    }
}

/// Whether `path` is one of `options` or inside one of them.
pub(super) fn below(path: &str, options: &[&str]) -> bool {
    options.iter().any(|p| {
        path.strip_prefix(p)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// `listener[default].address` → `listener.address`. Names may hold dots, but no brackets.
pub(super) fn without_names(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            c if !inside => plain.push(c),
            _ => {}
        }
    }
    plain
}
