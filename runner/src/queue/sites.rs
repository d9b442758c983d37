//! Sites and gates: where lanes lead, and whose limits they are under.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use courser_core::route::tls::{Demand, Level};
use courser_core::route::{Plan, SiteKey};
use courser_core::traffic::scheduler::{GateId, Limits, SiteId};

use super::providers::Providers;
use crate::config::Config;
use crate::net::clock;
use crate::route::Routed;
use crate::route::mta_sts::{SitePolicies, SitePolicy};

/// A site as this shard knows it.
#[derive(Clone)]
pub struct Site {
    /// Hosts and addresses, as they were found last.
    pub plan: Arc<Plan>,
    /// Its hosts in short, for people.
    pub name: Arc<str>,
    /// The provider that a rule names.
    pub provider: Option<Arc<str>>,
    /// Its hosts speak LMTP.
    pub lmtp: bool,
    /// How much TLS is wanted toward it; `None`: nobody says.
    pub tls: Option<Level>,
    /// What its mail itself asks for.
    pub demand: Demand,
    /// The policies of the domains whose mail goes there.
    pub sts: Rc<SitePolicies>,
    /// TLS from the first byte.
    pub implicit_tls: bool,
    /// The route whose user and password we have there.
    pub login: Option<Arc<str>>,
    /// Whose limits it is under.
    pub gate: GateId,
}

/// What was learned of a domain's route.
pub struct Learned {
    /// Its site.
    pub site: SiteId,
    /// Its gate.
    pub gate: GateId,
    /// The gate's limits, where they are not the default ones.
    pub limits: Option<Limits>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Gate {
    Provider(Arc<str>),
    Site(SiteKey),
}

/// What makes two domains' sites one, so that mail for both may go over one connection. Mail of one
/// user never goes over a connection of another, and what DNSSEC vouches for never over one that was
/// made for a domain that it doesn't vouch for: DANE would not hold there.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    hosts: SiteKey,
    secure: bool,
    provider: Option<Arc<str>>,
    lmtp: bool,
    tls: Option<Level>,
    demand: Demand,
    implicit_tls: bool,
    login: Option<Arc<str>>,
}

/// Sites and gates of one shard, by number. They are few compared with deliveries (a site for each
/// set of MX hosts), and their numbers stand for the same ones as long as the server runs.
pub struct Sites {
    providers: Arc<Providers>,
    sites: Vec<Site>,
    by_key: HashMap<Key, u32>,
    gates: HashMap<Gate, u32>,
}

impl Sites {
    /// None yet; `providers` are those of the configuration and the built-in ones.
    pub fn new(providers: Arc<Providers>) -> Self {
        Self {
            providers,
            sites: Vec::new(),
            by_key: HashMap::new(),
            gates: HashMap::new(),
        }
    }

    /// Other providers from now on. Sites that are known keep their gate until their route is
    /// found anew.
    pub fn set_providers(&mut self, providers: Arc<Providers>) {
        self.providers = providers;
    }

    /// The shard that owns the lanes toward a plan: the same for all sites of a provider, since
    /// they share limits.
    pub fn owner(&self, _config: &Config, domain: &str, plan: &Plan, shards: usize) -> usize {
        let key = match self.providers.of(domain, plan) {
            Some(provider) => SiteKey::of_hosts([&*provider.name]),
            None => plan.site,
        };
        // The key is a cryptographic hash, so its low bits are evenly spread.
        (key.get() % shards.max(1) as u128) as usize
    }

    /// Takes a domain's route in, for mail that asks for this.
    pub fn learn(&mut self, domain: &str, routed: &Routed, demand: Demand) -> Learned {
        let provider = self.providers.of(domain, &routed.plan);
        let of_provider = provider.and_then(|p| p.tls);
        let tls = demand.level().max(routed.tls).max(of_provider);
        let (gate_key, limits) = match &provider {
            Some(p) => (Gate::Provider(p.name.clone()), Some(p.limits)),
            None => (Gate::Site(routed.plan.site), None),
        };
        let provider = provider.map(|p| p.name.clone());
        let next = self.gates.len() as u32;
        let gate = GateId(*self.gates.entry(gate_key).or_insert(next));
        let key = Key {
            hosts: routed.plan.site,
            secure: routed.plan.secure,
            provider: provider.clone(),
            lmtp: routed.lmtp,
            tls,
            demand,
            implicit_tls: routed.implicit_tls,
            login: routed.login.clone(),
        };
        let known = self.by_key.get(&key).copied();
        let known_site = known.and_then(|number| self.sites.get(number as usize));
        let sts = known_site.map_or_else(Rc::default, |site| site.sts.clone());
        sts.note(domain, SitePolicy::of(routed), clock::wall());
        let site = Site {
            plan: routed.plan.clone(),
            name: short_name(&routed.plan),
            provider,
            lmtp: routed.lmtp,
            tls,
            demand,
            sts,
            login: routed.login.clone(),
            implicit_tls: routed.implicit_tls,
            gate,
        };
        let number = match known {
            Some(number) => {
                self.sites[number as usize] = site;
                number
            }
            None => {
                self.sites.push(site);
                let number = (self.sites.len() - 1) as u32;
                self.by_key.insert(key, number);
                number
            }
        };
        Learned {
            site: SiteId(number),
            gate,
            limits,
        }
    }

    /// A site.
    pub fn get(&self, id: SiteId) -> Option<&Site> {
        self.sites.get(id.0 as usize)
    }

    /// The limits of every gate that has its own, after they changed.
    pub fn limits(&self) -> impl Iterator<Item = (GateId, Limits)> + '_ {
        self.gates.iter().filter_map(|(gate, number)| match gate {
            Gate::Provider(name) => Some((GateId(*number), self.providers.limits(name)?)),
            Gate::Site(_) => None,
        })
    }

    /// The provider of a domain whose site may not be known yet.
    pub fn provider_of(
        &self,
        _config: &Config,
        domain: &str,
        site: Option<SiteId>,
    ) -> Option<Arc<str>> {
        match site.and_then(|s| self.get(s)) {
            Some(site) => site.provider.clone(),
            None => self.providers.of_domain(domain).map(|p| p.name.clone()),
        }
    }
}

/// The first host, and how many more there are.
fn short_name(plan: &Plan) -> Arc<str> {
    let first = plan.hosts.first().map_or("?", |h| &h.name);
    match plan.mx_names.len() {
        0 | 1 => first.into(),
        n => format!("{first} and {} more", n - 1).into(),
    }
}
