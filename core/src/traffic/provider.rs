//! Which provider a site belongs to, and its limits.
//!
//! Use: build [`Providers`] from [`BUILTIN_PROVIDERS`] and the operator's own [`Rule`]s, in that
//! order (a later rule of the same name changes the earlier one; a later rule with the same
//! pattern takes it over). Ask [`Providers::find`] with a destination's domain and its MX hosts.
//!
//! A pattern is compared label by label, without case and without a final dot:
//!
//! | pattern | is | is not |
//! |---|---|---|
//! | `example.com` | `example.com`, `mx.example.com` | `badexample.com` |
//! | `.example.com` | `mx.example.com` | `example.com` |
//!
//! The longest pattern wins. A rule's domains are compared with the destination itself and win
//! over MX patterns. Of several MX hosts, the most preferred one that a rule names counts: a
//! backup MX elsewhere doesn't change who the provider is.

use super::bucket::Rate;
use super::gate::Limits;
use crate::time::Duration;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// What a provider's limits are where they differ from the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Differs {
    /// Connections at once, from one source.
    pub concurrency: Option<u32>,
    /// Connections opened per time.
    pub connection_rate: Option<Rate>,
    /// Messages per time.
    pub message_rate: Option<Rate>,
    /// Messages over one connection.
    pub messages_per_connection: Option<u32>,
    /// Recipients in one transaction.
    pub recipients_per_transaction: Option<u32>,
    /// How long a connection without work is kept open.
    pub idle: Option<Duration>,
    /// Whether a connection without TLS is refused.
    pub tls_required: Option<bool>,
}

impl Differs {
    /// Differs in nothing.
    pub const NOTHING: Self = Self {
        concurrency: None,
        connection_rate: None,
        message_rate: None,
        messages_per_connection: None,
        recipients_per_transaction: None,
        idle: None,
        tls_required: None,
    };

    const fn connections(self, n: u32) -> Self {
        Self {
            concurrency: Some(n),
            ..self
        }
    }

    const fn messages(self, per_connection: u32) -> Self {
        Self {
            messages_per_connection: Some(per_connection),
            ..self
        }
    }

    const fn rate(self, rate: Rate) -> Self {
        Self {
            message_rate: Some(rate),
            ..self
        }
    }

    const fn tls(self) -> Self {
        Self {
            tls_required: Some(true),
            ..self
        }
    }

    /// These limits with the differences.
    pub fn apply(&self, limits: &Limits) -> Limits {
        Limits {
            concurrency: self.concurrency.unwrap_or(limits.concurrency),
            connection_rate: self.connection_rate.or(limits.connection_rate),
            message_rate: self.message_rate.or(limits.message_rate),
            messages_per_connection: self
                .messages_per_connection
                .unwrap_or(limits.messages_per_connection),
            recipients_per_transaction: self
                .recipients_per_transaction
                .unwrap_or(limits.recipients_per_transaction),
            idle: self.idle.unwrap_or(limits.idle),
            ..*limits
        }
    }

    /// What `later` says, and this where it says nothing.
    fn or_later(&self, later: &Self) -> Self {
        Self {
            concurrency: later.concurrency.or(self.concurrency),
            connection_rate: later.connection_rate.or(self.connection_rate),
            message_rate: later.message_rate.or(self.message_rate),
            messages_per_connection: later
                .messages_per_connection
                .or(self.messages_per_connection),
            recipients_per_transaction: later
                .recipients_per_transaction
                .or(self.recipients_per_transaction),
            idle: later.idle.or(self.idle),
            tls_required: later.tls_required.or(self.tls_required),
        }
    }
}

/// Who a provider is, and what differs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// Its name, lower case.
    pub name: &'a str,
    /// Patterns of MX hosts.
    pub mx: &'a [&'a str],
    /// Destination domains, themselves only.
    pub domains: &'a [&'a str],
    /// Its limits.
    pub limits: Differs,
}

const fn rule(name: &'static str, mx: &'static [&'static str], limits: Differs) -> Rule<'static> {
    Rule {
        name,
        mx,
        domains: &[],
        limits,
    }
}

const USUAL: Differs = Differs::NOTHING;

/// Large receivers, and the limits that senders commonly start from there.
pub const BUILTIN_PROVIDERS: &[Rule<'static>] = &[
    rule(
        "google",
        &[".google.com", ".googlemail.com"],
        USUAL.connections(5).messages(50).tls(),
    ),
    // And AOL, Verizon, AT&T, Sky, Rogers…
    rule("yahoo", &[".yahoodns.net"], USUAL.messages(20)),
    rule(
        "yahoo-japan",
        &[".yahoo.co.jp"],
        USUAL.connections(2).messages(20).rate(Rate::new(10, 1)),
    ),
    // Outlook.com, Hotmail, Live, MSN.
    rule(
        "outlook",
        &[".olc.protection.outlook.com"],
        USUAL.connections(5).messages(50),
    ),
    // Domains of companies.
    rule(
        "office365",
        &[
            ".mail.protection.outlook.com",
            ".protection.outlook.com",
            ".mx.microsoft",
        ],
        USUAL.connections(5).messages(50),
    ),
    rule(
        "apple",
        &[".mail.icloud.com", ".apple.com"],
        USUAL.connections(10).messages(5),
    ),
    rule(
        "comcast",
        &[".comcast.net"],
        USUAL.connections(25).messages(1000).tls(),
    ),
    rule(
        "mimecast",
        &[".mimecast.com", ".mimecast.co.za", ".mimecast-offshore.com"],
        USUAL.connections(10).messages(100),
    ),
    rule(
        "orange",
        &[".orange.fr", ".wanadoo.fr"],
        USUAL.connections(2).messages(100).tls(),
    ),
    // GMX, web.de, 1&1, IONOS.
    rule(
        "gmx",
        &[
            ".gmx.net",
            ".web.de",
            ".kundenserver.de",
            ".ionos.de",
            ".ionos.com",
            ".ionos.co.uk",
            ".1and1.com",
        ],
        USUAL.connections(4).messages(20).tls(),
    ),
    rule("mail.com", &[".mail.com"], USUAL.messages(100)),
    rule("qq", &[".qq.com"], USUAL.connections(4).messages(8)),
    rule(
        "netease",
        &[".netease.com", ".163.com"],
        USUAL.connections(4).messages(7),
    ),
    rule(
        "barracuda",
        &[".barracudanetworks.com"],
        USUAL.connections(10).messages(15),
    ),
    rule(
        "netvigator",
        &[".netvigator.com"],
        USUAL.connections(5).messages(10),
    ),
    rule("kpn", &[".kpnmail.nl"], USUAL.connections(10).messages(10)),
    // Many customers behind the same machines.
    rule("proofpoint", &[".pphosted.com", ".ppe-hosted.com"], USUAL),
    rule("t-online", &[".t-online.de"], USUAL),
    rule("mail.ru", &[".mail.ru"], USUAL),
    rule("yandex", &[".yandex.ru", ".yandex.net"], USUAL),
    rule("proton", &[".protonmail.ch"], USUAL),
];

/// A provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its name.
    pub name: String,
    /// Its limits where they differ from the default.
    pub limits: Differs,
}

/// All rules, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Providers {
    providers: Vec<Provider>,
    domains: BTreeMap<String, usize>,
    /// Without the leading dot.
    exact_and_below: BTreeMap<String, usize>,
    below: BTreeMap<String, usize>,
}

impl Providers {
    /// Of these rules; later ones win.
    pub fn new<'a>(rules: impl IntoIterator<Item = Rule<'a>>) -> Self {
        let mut all = Self::default();
        for rule in rules {
            all.add(&rule);
        }
        all
    }

    /// The built-in ones only.
    pub fn builtin() -> Self {
        Self::new(BUILTIN_PROVIDERS.iter().copied())
    }

    fn add(&mut self, rule: &Rule<'_>) {
        let known = |p: &Provider| p.name.eq_ignore_ascii_case(rule.name);
        let n = match self.providers.iter().position(known) {
            Some(n) => {
                let old = self.providers[n].limits;
                self.providers[n].limits = old.or_later(&rule.limits);
                n
            }
            None => {
                self.providers.push(Provider {
                    name: rule.name.into(),
                    limits: rule.limits,
                });
                self.providers.len() - 1
            }
        };
        for domain in rule.domains {
            self.domains.insert(plain(domain), n);
        }
        for pattern in rule.mx {
            let pattern = plain(pattern);
            match pattern.strip_prefix('.') {
                Some(rest) => self.below.insert(rest.into(), n),
                None => self.exact_and_below.insert(pattern, n),
            };
        }
    }

    /// All providers, in the order of their first rules.
    pub fn all(&self) -> &[Provider] {
        &self.providers
    }

    /// The index in [`Providers::all`] of the provider of `domain`, whose MX hosts are `hosts`,
    /// best first.
    pub fn find<'h>(
        &self,
        domain: &str,
        hosts: impl IntoIterator<Item = &'h str>,
    ) -> Option<usize> {
        self.domains
            .get(&plain(domain))
            .copied()
            .or_else(|| hosts.into_iter().find_map(|host| self.of_host(host)))
    }

    /// The index in [`Providers::all`] of the provider of an MX host.
    pub fn of_host(&self, host: &str) -> Option<usize> {
        let host = plain(host);
        let mut suffix = host.as_str();
        let mut whole = true;
        loop {
            // `.a.b` is longer than `a.b`.
            let found = if whole { None } else { self.below.get(suffix) };
            if let Some(n) = found.or_else(|| self.exact_and_below.get(suffix)) {
                return Some(*n);
            }
            suffix = suffix.split_once('.')?.1;
            whole = false;
        }
    }
}

fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name<'a>(p: &'a Providers, host: &str) -> Option<&'a str> {
        p.of_host(host).map(|n| p.providers[n].name.as_str())
    }

    #[test]
    fn known_hosts() {
        let p = Providers::builtin();
        for (host, provider) in [
            ("aspmx.l.google.com", Some("google")),
            ("ASPMX2.GOOGLEMAIL.COM.", Some("google")),
            ("smtp.google.com", Some("google")),
            ("mta5.am0.yahoodns.net", Some("yahoo")),
            ("mx1.mail.yahoo.co.jp", Some("yahoo-japan")),
            ("hotmail-com.olc.protection.outlook.com", Some("outlook")),
            ("example-org.mail.protection.outlook.com", Some("office365")),
            ("example-org.q-v1.mx.microsoft", Some("office365")),
            ("mx01.mail.icloud.com", Some("apple")),
            ("mx01.emig.gmx.net", Some("gmx")),
            ("mx00.mail.com", Some("mail.com")),
            ("gmail.com", None),
            ("google.com", None),
            ("notgoogle.com", None),
            ("mx.hotmail.com", None),
            ("google.com.example.org", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(name(&p, host), provider, "{host}");
        }
    }

    #[test]
    fn the_longest_wins_and_later_rules_change_earlier_ones() {
        let own = Rule {
            name: "special",
            mx: &["mx.example.com", ".example.com."],
            domains: &["Example.NET"],
            limits: Differs::NOTHING,
        };
        let more = Rule {
            name: "google",
            mx: &["example.com"],
            domains: &[],
            limits: Differs::NOTHING.connections(7),
        };
        let p = Providers::new(BUILTIN_PROVIDERS.iter().copied().chain([own, more]));
        assert_eq!(name(&p, "mx.example.com"), Some("special"));
        assert_eq!(name(&p, "a.mx.example.com"), Some("special"));
        assert_eq!(name(&p, "b.example.com"), Some("special"));
        assert_eq!(name(&p, "example.com"), Some("google"));
        let google = &p.all()[p.of_host("x.google.com").unwrap()];
        let limits = google.limits.apply(&Limits::default());
        assert_eq!(
            (limits.concurrency, limits.messages_per_connection),
            (7, 50)
        );
        assert_eq!(google.limits.tls_required, Some(true));

        let find = |domain, hosts: &[&str]| {
            p.find(domain, hosts.iter().copied())
                .map(|n| p.all()[n].name.as_str())
        };
        assert_eq!(find("example.net", &["x.google.com"]), Some("special"));
        assert_eq!(find("sub.example.net", &["x.google.com"]), Some("google"));
        assert_eq!(
            find(
                "example.org",
                &["own.example.org", "a.yahoodns.net", "x.google.com"]
            ),
            Some("yahoo")
        );
        assert_eq!(find("example.org", &["own.example.org"]), None);
    }

    #[test]
    fn each_name_and_pattern_is_built_in_once() {
        let p = Providers::builtin();
        assert_eq!(p.all().len(), BUILTIN_PROVIDERS.len());
        let patterns: usize = BUILTIN_PROVIDERS.iter().map(|r| r.mx.len()).sum();
        assert_eq!(p.below.len() + p.exact_and_below.len(), patterns);
    }

    proptest! {
        #[test]
        fn any_host_is_looked_up(host in "\\PC{0,80}", sub in "[a-z]{1,9}") {
            let p = Providers::builtin();
            let _ = p.of_host(&host);
            for rule in BUILTIN_PROVIDERS {
                for mx in rule.mx {
                    prop_assert!(p.of_host(&(sub.clone() + mx)).is_some());
                }
            }
        }
    }
}
