//! What changes between two configurations, and what of it takes a restart.

use super::Config;
use std::collections::BTreeMap;
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
const NEEDS_RESTART: &[&str] = &[
    "server.shards",
    "server.control_socket",
    "limits",
    "spool.dir",
    "spool.segment_size",
    "spool.commit_bytes",
    "spool.sync",
    "events.dir",
    "events.buffer",
    "log.format",
    "listener.name",
    "listener.address",
    "listener.kind",
    "source",
    "dns",
];

/// Compares the configuration in force with one just read.
pub fn reload_plan(old: &Config, new: &Config) -> ReloadPlan {
    let by_path = |c: &Config| -> BTreeMap<String, Option<String>> {
        let all = c.options().iter();
        all.map(|o| (o.path.clone(), o.value.clone())).collect()
    };
    let (before, after) = (by_path(old), by_path(new));
    let mut plan = ReloadPlan::default();
    let mut paths: Vec<&String> = before.keys().chain(after.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        let value = |m: &BTreeMap<String, Option<String>>| m.get(path).cloned().flatten();
        let change = Change {
            path: path.clone(),
            old: value(&before),
            new: value(&after),
        };
        if change.old == change.new {
            continue;
        }
        if needs_restart(path) {
            plan.needs_restart.push(change);
        } else {
            plan.applied.push(change);
        }
    }
    plan
}

/// Whether a change of `path` takes a restart.
fn needs_restart(path: &str) -> bool {
    let path = without_names(path);
    NEEDS_RESTART.iter().any(|p| {
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
