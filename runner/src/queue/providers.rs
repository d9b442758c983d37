//! Providers, limits and retry schedules: the configuration in the core's words.

use std::sync::Arc;
use std::time::Duration;

use courser_core::route::Plan;
use courser_core::route::tls::Level;
use courser_core::traffic::provider::{BUILTIN_PROVIDERS, Differs, Providers as Known, Rule};
use courser_core::traffic::retry::{Schedule, Waits};
use courser_core::traffic::scheduler::{Counts, Limits};

use crate::config::{Config, DomainPattern, LaneLimits, Retry};

/// The scheduler's limits of a lane.
pub fn limits(l: &LaneLimits, idle: Duration) -> Limits {
    Limits {
        concurrency: l.connections,
        connection_rate: Some(l.connection_rate),
        message_rate: Some(l.message_rate),
        counts: Counts::Messages,
        messages_per_connection: l.messages_per_connection,
        recipients_per_transaction: l.recipients_per_transaction,
        idle,
        ..Limits::default()
    }
}

/// The core's schedule of a stream's retries.
pub fn schedule(retry: &Retry) -> Schedule {
    let waits = if retry.intervals.is_empty() {
        Waits::Growing {
            first: retry.first,
            factor_percent: (retry.factor * 100.0).round() as u32,
            max: retry.max,
        }
    } else {
        Waits::List(retry.intervals.clone())
    };
    Schedule {
        waits,
        jitter_percent: retry.jitter.0,
        life: retry.life,
    }
}

/// One provider.
#[derive(Clone)]
pub struct Provider {
    /// Its name.
    pub name: Arc<str>,
    /// Limits of each lane toward it.
    pub limits: Limits,
    /// How much TLS mail to it wants; `None`: nobody says.
    pub tls: Option<Level>,
}

/// The configuration's providers, before the built-in ones.
pub struct Providers {
    known: Known,
    all: Vec<Provider>,
    patterns: Vec<(DomainPattern, usize)>,
}

impl Providers {
    /// Those of the configuration and the built-in ones. A provider of the configuration with the
    /// name of a built-in one adds to its hosts and has the limits that the configuration says.
    pub fn new(config: &Config) -> Self {
        let idle = config.delivery.idle_keepalive;
        let default = limits(&config.delivery.limits, idle);
        let texts: Vec<(&str, Vec<&str>, Differs)> = config
            .providers
            .iter()
            .map(|p| {
                let l = &p.limits;
                let differs = Differs {
                    concurrency: Some(l.connections),
                    connection_rate: Some(l.connection_rate),
                    message_rate: Some(l.message_rate),
                    messages_per_connection: Some(l.messages_per_connection),
                    recipients_per_transaction: Some(l.recipients_per_transaction),
                    ..Differs::NOTHING
                };
                (&*p.name, p.mx.iter().map(|m| &**m).collect(), differs)
            })
            .collect();
        let configured = texts.iter().map(|(name, mx, limits)| Rule {
            name,
            mx,
            domains: &[],
            limits: *limits,
        });
        let known = Known::new(BUILTIN_PROVIDERS.iter().copied().chain(configured));
        let all: Vec<Provider> = known
            .all()
            .iter()
            .map(|p| Provider {
                name: p.name.as_str().into(),
                limits: p.limits.apply(&default),
                tls: config
                    .providers
                    .iter()
                    .find(|c| c.name.eq_ignore_ascii_case(p.name.as_str()))
                    .and_then(|c| c.tls),
            })
            .collect();
        let position = |name: &str| all.iter().position(|p| p.name.eq_ignore_ascii_case(name));
        let patterns = config
            .providers
            .iter()
            .flat_map(|p| {
                p.domains
                    .iter()
                    .filter_map(move |d| Some((d.clone(), position(&p.name)?)))
            })
            .collect();
        Self {
            known,
            all,
            patterns,
        }
    }

    /// The provider of a domain with this plan.
    pub fn of(&self, domain: &str, plan: &Plan) -> Option<&Provider> {
        self.of_pattern(domain).or_else(|| {
            let hosts = plan.hosts.iter().map(|h| &*h.name);
            self.all.get(self.known.find(domain, hosts)?)
        })
    }

    /// The provider that names this domain.
    pub fn of_domain(&self, domain: &str) -> Option<&Provider> {
        self.of_pattern(domain)
            .or_else(|| self.all.get(self.known.find(domain, [])?))
    }

    fn of_pattern(&self, domain: &str) -> Option<&Provider> {
        self.patterns
            .iter()
            .find(|(p, _)| p.matches(domain))
            .and_then(|(_, n)| self.all.get(*n))
    }

    /// The limits of a provider by name.
    pub fn limits(&self, name: &str) -> Option<Limits> {
        self.all.iter().find(|p| &*p.name == name).map(|p| p.limits)
    }
}
