//! Policies come from the web (RFC 8461 3.3), on the control plane.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use courser_core::dns::Name;
use courser_core::limits::MTA_STS_POLICY_BYTES_MAX;
use courser_core::route::mta_sts::{Cached, FetchFault, Mode, Policy, policy_host, read_response};
use courser_core::route::tlsrpt::ResultType;
use tokio::sync::{Semaphore, mpsc};

use super::policies::{FETCH_MAX, Job, Policies};
use crate::events::{Event, EventKind, TlsPolicy};
use crate::net::tls::Client;
use crate::net::{clock, https};
use crate::route::Router;
use crate::shard::Shared;

/// Where a policy is on its server (RFC 8461 3.3).
const PATH: &str = "/.well-known/mta-sts.txt";
/// Policies that are fetched at the same time for mail that waits for them.
const FETCHES_AT_ONCE: usize = 256;
/// Policies that are fetched again at the same time.
const REFRESHES_AT_ONCE: usize = 16;
/// How often it is looked which policies are to be fetched again, and the least time between.
const LOOK: Duration = Duration::from_secs(60);
/// See [`LOOK`].
const LOOK_MIN: Duration = Duration::from_secs(1);
/// Bytes more than a policy may have: enough to see that it is too long.
const BODY_BYTES_MAX: usize = MTA_STS_POLICY_BYTES_MAX + 1;

fn other(text: String) -> FetchFault {
    FetchFault {
        result: ResultType::StsPolicyFetchError,
        text,
    }
}

pub(super) fn late(limit: Duration) -> FetchFault {
    other(format!("it takes longer than {} s", limit.as_secs()))
}

impl From<https::Trouble> for FetchFault {
    fn from(trouble: https::Trouble) -> Self {
        match trouble {
            https::Trouble::Other(text) => other(text),
            https::Trouble::Tls(fault) => Self {
                result: ResultType::StsWebpkiInvalid,
                text: format!("the policy's server: {fault}"),
            },
        }
    }
}

/// Fetches what is wanted, for ever.
pub async fn run(shared: Arc<Shared>, mut wanted: mpsc::Receiver<Job>) {
    tokio::spawn(keep_fresh(shared.clone()));
    let places = Arc::new(Semaphore::new(FETCHES_AT_ONCE));
    while let Some(job) = wanted.recv().await {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            fetch(&shared, job).await;
            drop(place);
        });
    }
}

/// Fetches what a router wants that is no server's, for ever, and notes what came of it last.
pub async fn alone(
    client: &Client,
    router: &Router,
    policies: &Policies,
    mut wanted: mpsc::Receiver<Job>,
    last: &RefCell<Option<Result<Policy, FetchFault>>>,
) -> Infallible {
    while let Some(job) = wanted.recv().await {
        let host = policy_host(&job.domain);
        let asking = async {
            let name = Name::parse(&host).map_err(|e| e.to_string());
            let addresses = match name {
                Ok(name) => router.addresses(&name).await,
                Err(error) => Err(error),
            };
            let addresses = addresses.map_err(other)?;
            get(client, &host, &addresses, https::PORT, FETCH_MAX).await
        };
        let done = tokio::time::timeout(FETCH_MAX, asking).await;
        let done = done.unwrap_or_else(|_| Err(late(FETCH_MAX)));
        let now = clock::wall();
        match done.clone() {
            Ok(policy) => drop(policies.fetched(&job.domain, policy, job.id.clone(), now)),
            Err(error) => {
                drop(policies.failed(&job.domain, job.id.clone(), error, now));
            }
        }
        last.replace(Some(done));
    }
    std::future::pending().await
}

/// Fetches policies again before they expire, although nothing is delivered, and forgets those that
/// have.
async fn keep_fresh(shared: Arc<Shared>) {
    let policies = &shared.policies;
    let places = Arc::new(Semaphore::new(REFRESHES_AT_ONCE));
    loop {
        for (domain, cached) in policies.forget_spent(clock::wall()) {
            remove(policies, vec![domain.clone()]).await;
            if let Some(cached) = cached {
                tell(&shared, of_policy(&domain, "expired", &cached.policy)).await;
            }
        }
        let due = match shared.config().tls.mta_sts && !shared.is_draining() {
            true => policies.due(clock::wall()),
            false => Vec::new(),
        };
        for domain in due {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let Ok((job, _)) = policies.begin(&domain, None) else {
                continue;
            };
            let shared = shared.clone();
            tokio::spawn(async move {
                fetch(&shared, job).await;
                drop(place);
            });
        }
        tokio::time::sleep(LOOK_MIN).await;
        let _ = tokio::time::timeout(LOOK, policies.bell.notified()).await;
    }
}

/// Fetches one policy, and says what became of it.
async fn fetch(shared: &Shared, job: Job) {
    let (domain, id) = (job.domain.clone(), job.id.clone());
    let asking = tokio::time::timeout(FETCH_MAX, ask(shared, &domain)).await;
    let done = asking.unwrap_or_else(|_| Err(late(FETCH_MAX)));
    let (now, policies) = (clock::wall(), &shared.policies);
    let before = policies.in_force(&domain, now);
    match done {
        Ok(policy) => {
            let (cached, forgotten) = policies.fetched(&domain, policy, id, now);
            // Mail need not wait for the disk.
            drop(job);
            let Some(cached) = cached else { return };
            if let Some(what) = change(before.as_ref().map(|b| &*b.policy), &cached.policy) {
                tell(shared, of_policy(&domain, what, &cached.policy)).await;
            }
            keep(policies, domain, cached).await;
            forget(policies, forgotten).await;
        }
        Err(error) => {
            let forgotten = policies.failed(&domain, id, error.clone(), now);
            drop(job);
            let event = TlsPolicy {
                domain: domain.to_string(),
                what: "fetch-failed".into(),
                mode: before.map_or("", |c| c.policy.mode.as_str()).into(),
                result: error.result.as_str().to_owned().into(),
                cause: error.text,
                ..TlsPolicy::default()
            };
            tell(shared, event).await;
            forget(policies, forgotten).await;
        }
    }
}

/// The policy that the domain's web server has.
async fn ask(shared: &Shared, domain: &Name) -> Result<Policy, FetchFault> {
    let host = policy_host(domain);
    let addresses = shared.addresses(&host).await.map_err(other)?;
    get(&shared.tls(), &host, &addresses, https::PORT, FETCH_MAX).await
}

/// The same for who has no server around it.
///
/// # Errors
/// [`FetchFault`].
pub async fn policy_of(
    client: &crate::net::tls::Client,
    router: &crate::route::Router,
    domain: &Name,
    limit: Duration,
) -> Result<Policy, FetchFault> {
    let host = policy_host(domain);
    let name = Name::parse(&host).map_err(|e| other(e.to_string()))?;
    let addresses = router.addresses(&name).await.map_err(other)?;
    get(client, &host, &addresses, https::PORT, limit).await
}

/// The policy that the server `host` at `addresses` has.
async fn get(
    client: &Client,
    host: &str,
    addresses: &[IpAddr],
    port: u16,
    limit: Duration,
) -> Result<Policy, FetchFault> {
    let request = https::Request {
        host,
        addresses,
        port,
        path: PATH,
        accept: "text/plain",
        body_max: BODY_BYTES_MAX,
        limit,
    };
    let response = https::get(client, &request).await?;
    let content_type = response.content_type.as_deref();
    read_response(response.status, content_type, &response.body).map_err(|error| FetchFault {
        result: (&error).into(),
        text: error.to_string(),
    })
}

/// What a policy that was fetched is against the one that was in force; `None`: the same.
fn change(before: Option<&Policy>, now: &Policy) -> Option<&'static str> {
    match before {
        None => Some("new"),
        Some(before) if before != now => Some("changed"),
        Some(_) => None,
    }
}

fn of_policy(domain: &Name, what: &'static str, policy: &Policy) -> TlsPolicy {
    let cause = match policy.mode {
        Mode::Enforce => "mail goes to the hosts that it names, over verified TLS",
        Mode::Testing => "mail goes as without it, and what it would forbid is told",
        Mode::None => "mail goes as without it",
    };
    TlsPolicy {
        domain: domain.to_string(),
        what: what.into(),
        mode: policy.mode.as_str().into(),
        mx: policy.patterns(),
        max_age_s: policy.max_age_s.into(),
        cause: match what {
            "expired" => "it could not be fetched again; mail goes as without it".to_owned(),
            _ => cause.to_owned(),
        },
        ..TlsPolicy::default()
    }
}

async fn tell(shared: &Shared, event: TlsPolicy) {
    event.log();
    let event = Event::now(EventKind::TlsPolicy(Box::new(event)));
    shared.events.send(&mut vec![event]).await;
}

/// Writes a policy down. Where that fails it holds until the server ends.
async fn keep(policies: &Policies, domain: Name, cached: Cached) {
    let _one = policies.writing.lock().await;
    let (store, name) = (policies.store.clone(), domain.clone());
    let written = tokio::task::spawn_blocking(move || store.write(&name, &cached)).await;
    if let Ok(Err(error)) = written {
        tracing::warn!(%domain, %error, "its MTA-STS policy can't be written down; after a restart it is fetched anew");
    }
}

/// Domains were forgotten because there was no room for them.
async fn forget(policies: &Policies, domains: Vec<Name>) {
    if !domains.is_empty() {
        tracing::warn!(
            domains = domains.len(),
            "there is no room for the MTA-STS policies of so many domains; those that were used the longest ago are forgotten"
        );
        remove(policies, domains).await;
    }
}

/// Removes the files of domains that nothing is known of any more.
async fn remove(policies: &Policies, mut domains: Vec<Name>) {
    let _one = policies.writing.lock().await;
    domains.retain(|domain| !policies.is_cached(domain));
    let store = policies.store.clone();
    let removing = move || domains.iter().for_each(|domain| store.remove(domain));
    let _ = tokio::task::spawn_blocking(removing).await;
}

#[cfg(test)]
mod tests;
