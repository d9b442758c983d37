//! What is known of all domains, for all threads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use courser_core::dns::{Name, Outcome};
use courser_core::limits::MTA_STS_RETRY_S_MIN;
use courser_core::route::mta_sts::{Cache, Cached, Decision, FetchFault, Policy, PolicyId};
use courser_core::time::Wall;
use tokio::sync::{Notify, mpsc, watch};

use super::fetch;
use super::store::Store;
use crate::net::clock;

/// How long mail waits for a policy, and how long a fetch may take (RFC 8461 3.3).
pub const FETCH_MAX: Duration = Duration::from_secs(60);
/// Fetches that wait for their turn; more of them wait where they come up.
const JOBS_MAX: usize = 1024;

/// A policy to fetch. Whoever waits for it is told when this is dropped.
pub struct Job {
    /// Whose.
    pub domain: Name,
    /// The id that DNS has for it; `None`: it is fetched again, and has not changed as far as is known.
    pub id: Option<PolicyId>,
    _turn: Turn,
}

/// What there is to go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The policy in force.
    pub cached: Option<Cached>,
    /// Where there should be one and could not be had: when it is tried again.
    pub again: Option<Wall>,
    /// And why not.
    pub fault: Option<Arc<FetchFault>>,
}

/// The policies of all domains, and the fetches under way.
pub struct Policies {
    cache: Mutex<Cache>,
    /// Fetches that were begun and haven't ended.
    open: Mutex<HashMap<Name, watch::Receiver<()>>>,
    jobs: mpsc::Sender<Job>,
    /// How long mail waits.
    wait_max: Duration,
    /// Where they are kept.
    pub store: Store,
    /// Held by who changes what is kept.
    pub writing: tokio::sync::Mutex<()>,
    /// Rings when a policy is to be fetched again.
    pub bell: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Policies {
    /// Those that `store` has, and the fetches that will be wanted.
    pub fn load(store: Store, now: Wall) -> (Arc<Self>, mpsc::Receiver<Job>) {
        let (jobs, wanted) = mpsc::channel(JOBS_MAX);
        let mut cache = Cache::default();
        for (domain, cached) in store.load(now) {
            for forgotten in cache.restore(domain, cached, now) {
                store.remove(&forgotten);
            }
        }
        for (spent, _) in cache.forget_spent(now) {
            store.remove(&spent);
        }
        let this = Self {
            cache: Mutex::new(cache),
            open: Mutex::default(),
            jobs,
            wait_max: FETCH_MAX,
            store,
            writing: tokio::sync::Mutex::default(),
            bell: Notify::new(),
        };
        (Arc::new(this), wanted)
    }

    /// None, and none will be fetched.
    pub fn none() -> Arc<Self> {
        Self::load(Store::nowhere(), Wall::from_unix(0)).0
    }

    /// What mail for `domain` goes by, after the TXT question came to `dns`. Where a policy has to be
    /// fetched first, this waits until that has ended, [`FETCH_MAX`] at the most.
    pub async fn ask(self: &Arc<Self>, domain: &Name, dns: &Outcome) -> Asked {
        let id = match lock(&self.cache).decide(domain, dns, clock::wall()) {
            Decision::Without => None,
            Decision::Use { refresh, .. } => {
                if refresh {
                    self.bell.notify_one();
                }
                None
            }
            Decision::Fetch(id) => Some(id),
        };
        let mut late = false;
        if let Some(id) = id {
            let fetching = self.fetch(domain, id);
            late = tokio::time::timeout(self.wait_max, fetching).await.is_err();
        }
        let now = clock::wall();
        let cache = lock(&self.cache);
        let known = cache.known(domain);
        let failed = known.failure.as_ref().map(|failure| failure.retry_at());
        // The fetch goes on without us, and may bring one.
        let again = failed.or(late.then(|| now.plus_s(MTA_STS_RETRY_S_MIN.into())));
        let fault = known.failure.as_ref().map(|failure| failure.fault.clone());
        let late = late.then(|| Arc::new(fetch::late(self.wait_max)));
        Asked {
            cached: known.in_force(now).cloned(),
            again,
            fault: fault.or(late),
        }
    }

    /// Waits until a fetch of the domain's policy has ended: the one that is under way, or one of its
    /// own.
    async fn fetch(self: &Arc<Self>, domain: &Name, id: PolicyId) {
        let mut ended = match self.begin(domain, Some(id)) {
            Err(ended) => ended,
            Ok((job, ended)) => {
                // Nobody fetches any more where the server ends.
                if self.jobs.send(job).await.is_err() {
                    return;
                }
                ended
            }
        };
        // Nothing is ever sent: it is over when the sender is gone.
        let _ = ended.changed().await;
    }

    /// A job and its end, or the end of the one that is under way.
    pub fn begin(
        self: &Arc<Self>,
        domain: &Name,
        id: Option<PolicyId>,
    ) -> Result<(Job, watch::Receiver<()>), watch::Receiver<()>> {
        let mut open = lock(&self.open);
        if let Some(under_way) = open.get(domain) {
            return Err(under_way.clone());
        }
        let (ends, ended) = watch::channel(());
        open.insert(domain.clone(), ended.clone());
        let turn = Turn {
            domain: domain.clone(),
            policies: self.clone(),
            _ends: ends,
        };
        let job = Job {
            domain: domain.clone(),
            id,
            _turn: turn,
        };
        Ok((job, ended))
    }

    /// The policy of a domain that is in force.
    pub fn in_force(&self, domain: &Name, now: Wall) -> Option<Cached> {
        lock(&self.cache).known(domain).in_force(now).cloned()
    }

    /// Whether the domain has a policy, in force or not.
    pub fn is_cached(&self, domain: &Name) -> bool {
        lock(&self.cache).known(domain).cached.is_some()
    }

    /// A policy was fetched. Gives it as it is to be stored, and domains that are forgotten for it.
    pub fn fetched(
        &self,
        domain: &Name,
        policy: Policy,
        id: Option<PolicyId>,
        now: Wall,
    ) -> (Option<Cached>, Vec<Name>) {
        let mut cache = lock(&self.cache);
        let forgotten = cache.fetched(domain, policy, id, now);
        (cache.known(domain).cached.clone(), forgotten)
    }

    /// A fetch failed. Gives domains that are forgotten for it.
    pub fn failed(
        &self,
        domain: &Name,
        id: Option<PolicyId>,
        fault: FetchFault,
        now: Wall,
    ) -> Vec<Name> {
        lock(&self.cache).failed(domain, id, Arc::new(fault), now)
    }

    /// Domains whose policies are to be fetched again.
    pub fn due(&self, now: Wall) -> Vec<Name> {
        lock(&self.cache).due(now)
    }

    /// Forgets what is spent, and gives the domains with their last policies.
    pub fn forget_spent(&self, now: Wall) -> Vec<(Name, Option<Cached>)> {
        let spent = lock(&self.cache).forget_spent(now).into_iter();
        spent
            .map(|(domain, known)| (domain, known.cached))
            .collect()
    }
}

/// A domain's policy is being fetched; its drop ends that.
struct Turn {
    domain: Name,
    policies: Arc<Policies>,
    _ends: watch::Sender<()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.policies.open).remove(&self.domain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use courser_core::dns::Records;
    use courser_core::route::mta_sts::Mode;

    fn dns(id: &str) -> Outcome {
        let text = format!("v=STSv1; id={id}");
        Outcome::Found(Records::Txt([text.into_bytes().into()].into()))
    }

    fn policy(mode: &str) -> Policy {
        let text = format!("version: STSv1\nmode: {mode}\nmx: a.example\nmax_age: 86400\n");
        Policy::parse(text.as_bytes()).unwrap()
    }

    fn name() -> Name {
        Name::parse("example.net").unwrap()
    }

    struct World {
        policies: Arc<Policies>,
        wanted: mpsc::Receiver<Job>,
        dir: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (policies, wanted) = Policies::load(Store::beside(dir.path()), clock::wall());
            Self {
                policies,
                wanted,
                dir,
            }
        }

        /// So many ask at once.
        fn ask(&self, n: usize, dns: &Outcome) -> Vec<tokio::task::JoinHandle<Asked>> {
            let one = || {
                let (policies, dns) = (self.policies.clone(), dns.clone());
                tokio::spawn(async move { policies.ask(&name(), &dns).await })
            };
            (0..n).map(|_| one()).collect()
        }

        /// The fetch that is wanted ends so.
        async fn fetch(&mut self, done: Option<&str>) {
            let job = self.wanted.recv().await.expect("a job");
            let now = clock::wall();
            match done {
                Some(mode) => {
                    drop(
                        self.policies
                            .fetched(&job.domain, policy(mode), job.id.clone(), now),
                    )
                }
                None => {
                    let fault = fetch::late(FETCH_MAX);
                    let id = job.id.clone();
                    drop(self.policies.failed(&job.domain, id, fault, now));
                }
            }
        }
    }

    fn mode(asked: &Asked) -> Option<Mode> {
        asked.cached.as_ref().map(|cached| cached.policy.mode)
    }

    #[tokio::test]
    async fn one_fetch_for_all_that_ask() {
        let mut world = World::new();
        let asking = world.ask(5, &dns("a"));
        tokio::task::yield_now().await;
        world.fetch(Some("enforce")).await;
        for asked in asking {
            assert_eq!(mode(&asked.await.unwrap()), Some(Mode::Enforce));
        }
        assert!(world.wanted.try_recv().is_err(), "it is fetched once");
        // In force, whatever DNS says now, and nothing is fetched.
        for dns in [dns("a"), Outcome::NoName] {
            let asked = world.policies.ask(&name(), &dns).await;
            assert_eq!((mode(&asked), asked.again), (Some(Mode::Enforce), None));
        }
        assert!(world.wanted.try_recv().is_err());
        // Another id; the old policy goes on where that fails.
        let asking = world.ask(2, &dns("b"));
        world.fetch(None).await;
        for asked in asking {
            let asked = asked.await.unwrap();
            assert_eq!(mode(&asked), Some(Mode::Enforce));
            assert!(asked.again > Some(clock::wall()));
        }
        let asking = world.ask(1, &dns("c")).remove(0);
        world.fetch(Some("testing")).await;
        assert_eq!(mode(&asking.await.unwrap()), Some(Mode::Testing));
    }

    #[tokio::test]
    async fn no_policy() {
        let mut world = World::new();
        let asked = world.policies.ask(&name(), &Outcome::NoName).await;
        assert_eq!(asked, Asked::default());
        // It fails, and is not tried again at once.
        let asking = world.ask(1, &dns("a")).remove(0);
        world.fetch(None).await;
        let asked = asking.await.unwrap();
        assert!(asked.cached.is_none() && asked.again > Some(clock::wall()));
        let asked = world.policies.ask(&name(), &dns("a")).await;
        assert!(asked.cached.is_none());
        assert!(world.wanted.try_recv().is_err());
        // The job gets lost.
        let asking = world.ask(2, &dns("b"));
        tokio::task::yield_now().await;
        drop(world.wanted.recv().await);
        for asked in asking {
            assert_eq!(asked.await.unwrap().cached, None);
        }
        // Nobody fetches any more.
        world.wanted.close();
        let asked = world.policies.ask(&name(), &dns("c")).await;
        assert_eq!(asked.cached, None);
        assert!(lock(&world.policies.open).is_empty());
    }

    #[tokio::test]
    async fn mail_waits_no_longer_than_it_may() {
        let soon = |world: &mut World| {
            let policies = Arc::get_mut(&mut world.policies).expect("nobody else has it");
            policies.wait_max = Duration::from_millis(50);
        };
        let mut world = World::new();
        soon(&mut world);
        let asked = world.policies.ask(&name(), &dns("a")).await;
        // There may be one, so nothing is said for good.
        assert!(asked.cached.is_none() && asked.again > Some(clock::wall()));
        // The fetch goes on, and the next one waits for the same.
        let asking = world.ask(1, &dns("a")).remove(0);
        tokio::task::yield_now().await;
        world.fetch(Some("enforce")).await;
        assert_eq!(mode(&asking.await.unwrap()), Some(Mode::Enforce));
        assert!(world.wanted.try_recv().is_err());
        // So it does where too many others wait to be fetched.
        let mut world = World::new();
        soon(&mut world);
        for n in 0..JOBS_MAX {
            let domain = Name::parse(&format!("d{n}.example")).unwrap();
            let Ok((job, _)) = world.policies.begin(&domain, None) else {
                panic!("none is under way")
            };
            assert!(world.policies.jobs.try_send(job).is_ok());
        }
        let asked = world.policies.ask(&name(), &dns("a")).await;
        // There may be one, so nothing is said for good.
        assert!(asked.cached.is_none() && asked.again > Some(clock::wall()));
        assert!(!lock(&world.policies.open).contains_key(&name()));
    }

    #[tokio::test]
    async fn what_was_kept_is_in_force_after_a_restart() {
        let world = World::new();
        let now = clock::wall();
        let long_ago = now.plus_s(-100_000);
        let spent = Name::parse("spent.example").unwrap();
        for (domain, fetched) in [(name(), now.plus_s(-10)), (spent.clone(), long_ago)] {
            let (cached, _) = world
                .policies
                .fetched(&domain, policy("enforce"), None, fetched);
            world
                .policies
                .store
                .write(&domain, &cached.unwrap())
                .unwrap();
        }
        let (policies, _) = Policies::load(Store::beside(world.dir.path()), now);
        assert_eq!(
            mode(&policies.ask(&name(), &Outcome::NoName).await),
            Some(Mode::Enforce)
        );
        assert!(!policies.is_cached(&spent));
        assert_eq!(policies.store.load(now).len(), 1, "the spent one is gone");
    }
}
