//! Who hands mail in, and who we are to smart hosts.
//!
//! | file | does |
//! |---|---|
//! | [`users`] | the files of users |
//! | [`hash`] | what is kept of a password, and whether one is it |
//! | [`checker`] | compares passwords on threads of its own |
//! | [`smart_host`] | users and passwords of ours at other servers |
//! | this one | reads all of them, and keeps what all shards share |

pub mod checker;
pub mod hash;
pub mod smart_host;
pub mod users;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use courser_core::traffic::logins::{self, Blocked, Claim, Failed};

pub use self::checker::{Busy, Checker};
pub use self::smart_host::SmartHost;
pub use self::users::{User, Users};
use crate::config::Config;
use crate::control::protocol::LoginCounts;
use crate::net::clock;

/// What is wrong with a file of users or a password, and what would be right. It says nothing of
/// what stands there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LoginFault(pub String);

/// Everything that is wrong with them; a line or a few for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginFaults(pub Vec<LoginFault>);

impl fmt::Display for LoginFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}
impl std::error::Error for LoginFaults {}

/// The users and passwords of a configuration.
#[derive(Debug, Default)]
pub struct Loaded {
    users: HashMap<PathBuf, Arc<Users>>,
    smart_hosts: HashMap<String, Arc<SmartHost>>,
}

impl Loaded {
    /// Reads what `config` names. What users of `before` have used up of their limits stays used
    /// up.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(config: &Config, before: Option<&Self>) -> Result<Self, LoginFaults> {
        let mut faults = Vec::new();
        let mut loaded = Self::default();
        for auth in config.listeners.iter().filter_map(|l| l.auth.as_ref()) {
            if loaded.users.contains_key(&auth.users) {
                continue;
            }
            let old = before.and_then(|b| b.users.get(&auth.users));
            match Users::load(&auth.users, old.map(|u| &**u)) {
                Ok(users) => drop(loaded.users.insert(auth.users.clone(), Arc::new(users))),
                Err(fault) => faults.push(fault),
            }
        }
        for route in &config.routes {
            let Some(auth) = &route.auth else { continue };
            let domain = route.domain.to_string();
            let old = before.and_then(|b| b.smart_hosts.get(&domain));
            match SmartHost::load(&domain, auth, old.map(|h| &**h)) {
                Ok(host) => drop(loaded.smart_hosts.insert(domain, Arc::new(host))),
                Err(fault) => faults.push(fault),
            }
        }
        // One file that several listeners name is wrong once.
        faults.dedup();
        if faults.is_empty() {
            Ok(loaded)
        } else {
            Err(LoginFaults(faults))
        }
    }

    /// What is other than `before`, for people: files of users that are new or changed.
    pub fn changes(&self, before: &Self) -> Vec<String> {
        let changed = self.users.iter().filter(|(file, users)| {
            let old = before.users.get(*file);
            !old.is_some_and(|old| users.is_same(old))
        });
        let mut lines: Vec<String> = changed
            .map(|(file, users)| format!("{} users of {}", users.iter().count(), file.display()))
            .collect();
        lines.sort();
        lines
    }

    /// The users of a file that the configuration names.
    pub fn users(&self, file: &Path) -> Option<&Arc<Users>> {
        self.users.get(file)
    }

    /// Who we are to the hosts of the route for `domain`, as the route writes it.
    pub fn smart_host(&self, domain: &str) -> Option<&Arc<SmartHost>> {
        self.smart_hosts.get(domain)
    }
}

/// What all shards share of logins.
pub struct Logins {
    loaded: RwLock<Arc<Loaded>>,
    failures: Mutex<logins::Logins>,
    /// Compares passwords.
    pub checker: Checker,
    good: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    /// Routes whose hosts don't take us, and what they said.
    refusals: Mutex<BTreeMap<Arc<str>, String>>,
}

impl Logins {
    /// With these users and passwords, and limits for those who fail.
    pub fn new(loaded: Arc<Loaded>, limits: logins::Limits) -> Self {
        Self {
            loaded: RwLock::new(loaded),
            failures: Mutex::new(logins::Logins::new(limits)),
            checker: Checker::start(),
            good: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            refusals: Mutex::default(),
        }
    }

    /// The users and passwords in force.
    pub fn loaded(&self) -> Arc<Loaded> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        loaded.clone()
    }

    /// Puts others in force.
    pub fn reload(&self, loaded: Arc<Loaded>, limits: logins::Limits) {
        // Of routes that have no user any more nothing is to be said.
        self.refusals()
            .retain(|route, _| loaded.smart_host(route).is_some());
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        self.failures().set_limits(limits);
    }

    fn failures(&self) -> MutexGuard<'_, logins::Logins> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a login may be looked at.
    ///
    /// # Errors
    /// [`Blocked`].
    pub fn check(&self, client: IpAddr, claim: Option<Claim>) -> Result<(), Blocked> {
        let checked = self.failures().check(clock::now(), client, claim);
        if checked.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        checked
    }

    /// A login was wrong.
    pub fn failed(&self, client: IpAddr, claim: Option<Claim>) -> Failed {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.failures().failed(clock::now(), client, claim)
    }

    /// A login was right.
    ///
    /// # Errors
    /// [`Blocked`] if it doesn't count all the same.
    pub fn succeeded(&self, client: IpAddr, claim: Claim) -> Result<(), Blocked> {
        let succeeded = self.failures().succeeded(clock::now(), client, claim);
        let count = match succeeded {
            Ok(()) => &self.good,
            Err(_) => &self.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
        succeeded
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, String>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A host of a route doesn't take us, so that its mail waits. What is news is logged.
    pub fn smart_host_refuses(&self, route: &Arc<str>, trouble: &str) {
        let before = self.refusals().insert(route.clone(), trouble.to_owned());
        if before.as_deref() != Some(trouble) {
            tracing::error!(%route, "mail waits, and `courser reload` puts another password in force: {trouble}");
        }
    }

    /// A host of a route took us.
    pub fn smart_host_takes_us(&self, route: &str) {
        if self.refusals().remove(route).is_some() {
            tracing::info!(%route, "our user and password are taken again");
        }
    }

    /// What an operator should look at.
    pub fn warnings(&self) -> Vec<String> {
        let refusals = self.refusals();
        let lines = refusals
            .iter()
            .map(|(route, trouble)| format!("mail for route {route} waits: {trouble}"));
        lines.collect()
    }

    /// What logins came to.
    pub fn counts(&self) -> LoginCounts {
        let (networks, users) = self.failures().blocked(clock::now());
        LoginCounts {
            good: self.good.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            blocked_addresses: networks as u64,
            blocked_users: users as u64,
        }
    }
}

/// So many octets of chance.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    for part in bytes.chunks_mut(8) {
        let chance = clock::random_u64().to_ne_bytes();
        part.copy_from_slice(&chance[..part.len()]);
    }
    bytes
}
