//! The modelled Internet: who has how many of the recipients, and what their receivers do.
//!
//! Everything is a function of the seed: recipient `i` has the same address each time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use courser_core::traffic::bucket::Rate;

use super::Options;
use crate::sink::{Behaviour, Config, Extension, Pipelining, ReceiverConfig, Share, Sink};

/// The receiver of the newsletter's sender, where notifications arrive.
pub const SENDER: &str = "sender";
/// Its domain.
pub const SENDER_DOMAIN: &str = "news.sender.test";
/// The network that the receivers are in: an address for each, all on one port.
pub const NETWORK: &str = "127.20.0.0/16";
/// Nobody listens here.
const DEAD: Ipv4Addr = Ipv4Addr::new(127, 20, 250, 1);
/// Ports that are tried: one has to be free on all addresses.
const PORT_TRIES: usize = 20;

/// How DNS names a provider's receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// An MX record.
    Mx,
    /// Two of them, and the better host is dead.
    DeadFirst,
    /// No MX record, but an address (RFC 5321 5.1).
    Implicit,
    /// A null MX (RFC 7505).
    NullMx,
    /// The domain doesn't exist.
    Nowhere,
}

/// One provider.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its name.
    pub name: &'static str,
    /// Its manners, in words.
    pub manners: &'static str,
    /// Its domains.
    pub domains: Vec<String>,
    /// How DNS names its receiver.
    pub naming: Naming,
    /// Its part of the recipients, thousandths.
    pub share: u32,
    /// What its receiver does; `None`: it has none.
    pub behaviour: Option<Behaviour>,
    /// What the server is told of it, TOML of `[provider.limits]`.
    pub limits: &'static str,
    address: Ipv4Addr,
}

/// What stands in the DNS.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// MX records: owner, preference, host.
    pub mx: Vec<(String, u16, String)>,
    /// A records: owner, address.
    pub a: Vec<(String, Ipv4Addr)>,
}

/// All of them.
#[derive(Debug)]
pub struct World {
    /// The providers; the first recipients don't belong to the first provider.
    pub providers: Vec<Provider>,
    seed: u64,
    /// The provider of each recipient.
    homes: Vec<u8>,
}

impl World {
    /// The world of this seed.
    pub fn new(recipients: u32, seed: u64) -> Self {
        let mut providers = providers();
        for (i, provider) in (1..).zip(&mut providers) {
            provider.address = Ipv4Addr::new(127, 20, i, 1);
        }
        let total: u32 = providers.iter().map(|p| p.share).sum();
        let homes = (0..recipients).map(|i| {
            let mut luck = (mix(seed, u64::from(i)) % u64::from(total)) as u32;
            let home = providers.iter().position(|p| {
                let is_here = luck < p.share;
                luck = luck.saturating_sub(p.share);
                is_here
            });
            home.unwrap_or_default() as u8
        });
        let homes = homes.collect();
        Self {
            providers,
            seed,
            homes,
        }
    }

    /// How many recipients there are.
    pub fn recipients(&self) -> u32 {
        self.homes.len() as u32
    }

    /// The provider of recipient `i`.
    pub fn home(&self, i: u32) -> usize {
        usize::from(self.homes[i as usize])
    }

    /// The name of recipient `i`.
    pub fn name(&self, i: u32) -> (&'static str, &'static str) {
        let luck = mix(self.seed ^ 1, u64::from(i)) as usize;
        (
            FIRST_NAMES[luck % FIRST_NAMES.len()],
            LAST_NAMES[luck / 256 % LAST_NAMES.len()],
        )
    }

    /// The address of recipient `i`; its number is in it.
    pub fn address(&self, i: u32) -> String {
        let (first, last) = self.name(i);
        let domains = &self.providers[self.home(i)].domains;
        let domain = &domains[mix(self.seed ^ 2, u64::from(i)) as usize % domains.len()];
        let name = format!("{first}.{last}").to_ascii_lowercase();
        format!("{name}.{i}@{domain}")
    }

    /// The recipient of this address.
    pub fn recipient(&self, address: &str) -> Option<u32> {
        let (local, _) = address.split_once('@')?;
        let (_, number) = local.rsplit_once('.')?;
        number.parse().ok().filter(|&i| i < self.recipients())
    }

    /// Starts the receivers on a port that is free on all their addresses.
    ///
    /// # Errors
    /// No port is.
    pub fn start(&self, options: &Options) -> io::Result<Sink> {
        let mut last = None;
        for _ in 0..PORT_TRIES {
            let first = SocketAddr::new(IpAddr::V4(self.sender_address()), 0);
            let port = TcpListener::bind(first)?.local_addr()?.port();
            match Sink::start(self.sink_config(port, options)) {
                Ok(sink) => return Ok(sink),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
    }

    fn sink_config(&self, port: u16, options: &Options) -> Config {
        let receiver = |name: &str, address: Ipv4Addr, behaviour: Behaviour| ReceiverConfig {
            name: name.into(),
            listen: vec![SocketAddr::new(IpAddr::V4(address), port)],
            hostname: format!("mx.{name}.test"),
            behaviour,
        };
        let sender = receiver(SENDER, self.sender_address(), Behaviour::default());
        let others = self.providers.iter().filter_map(|p| {
            let behaviour = p.behaviour.clone()?;
            Some(receiver(p.name, p.address, behaviour))
        });
        Config {
            seed: self.seed,
            verbose: options.verbose,
            receivers: std::iter::once(sender).chain(others).collect(),
            ..Config::default()
        }
    }

    fn sender_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, 20, 200, 1)
    }

    /// What DNS says.
    pub fn records(&self) -> Records {
        let Records { mut mx, mut a } = Records::default();
        mx.push((SENDER_DOMAIN.into(), 10, "mx.sender.test".into()));
        a.push(("mx.sender.test".into(), self.sender_address()));
        for provider in &self.providers {
            let host = format!("mx.{}.test", provider.name);
            for domain in &provider.domains {
                match provider.naming {
                    Naming::Mx => mx.push((domain.clone(), 10, host.clone())),
                    Naming::DeadFirst => {
                        let dead = format!("mx-old.{}.test", provider.name);
                        mx.push((domain.clone(), 5, dead));
                        mx.push((domain.clone(), 10, host.clone()));
                    }
                    Naming::Implicit => a.push((domain.clone(), provider.address)),
                    Naming::NullMx => mx.push((domain.clone(), 0, ".".into())),
                    Naming::Nowhere => {}
                }
            }
            match provider.naming {
                Naming::Mx => a.push((host, provider.address)),
                Naming::DeadFirst => {
                    a.push((format!("mx-old.{}.test", provider.name), DEAD));
                    a.push((host, provider.address));
                }
                Naming::Implicit | Naming::NullMx | Naming::Nowhere => {}
            }
        }
        Records { mx, a }
    }
}

/// The cast. What each is modelled on is in its manners; the names are nobody's.
fn providers() -> Vec<Provider> {
    let ms = Duration::from_millis;
    let rate = |count, burst| Some(Rate::new(count, 1).with_burst(burst));
    let reply = |name: &str, text: &str| vec![(name.into(), text.parse().expect("a reply"))];
    let provider = |name, share, manners, limits, behaviour| Provider {
        name,
        manners,
        domains: vec![format!("{name}.test")],
        naming: Naming::Mx,
        share,
        behaviour: Some(behaviour),
        limits,
        address: Ipv4Addr::UNSPECIFIED,
    };
    let plain = Behaviour::default;
    let mut all = vec![
        provider(
            "bigmail",
            300,
            "large and quick",
            "connections = 10",
            plain(),
        ),
        provider(
            "yonder",
            110,
            "150 messages/s from one address",
            "message_rate = \"240/s\"",
            Behaviour {
                message_rate: rate(150, 150),
                replies: reply(
                    "rate",
                    "421 4.7.0 [TSS04] Messages from you temporarily deferred due to unexpected \
                     volume, try again in 1 second",
                ),
                ..plain()
            },
        ),
        provider(
            "outward",
            120,
            "4 connections from one address",
            "connections = 5",
            Behaviour {
                connections_per_client: 4,
                replies: reply(
                    "connections",
                    "421 4.3.2 Too many concurrent connections, try again in 2 seconds",
                ),
                ..plain()
            },
        ),
        provider(
            "orchard",
            70,
            "5 messages in a connection",
            "messages_per_connection = 20",
            Behaviour {
                messages_per_connection: 5,
                ..plain()
            },
        ),
        provider(
            "greyhound",
            60,
            "greylists for 8 s",
            "",
            Behaviour {
                greylist: Some(Duration::from_secs(8)),
                replies: reply(
                    "greylisted",
                    "451 4.7.1 Greylisted, please try again in 8 seconds",
                ),
                ..plain()
            },
        ),
        provider(
            "campus",
            60,
            "2 % of the users are gone",
            "",
            Behaviour {
                unknown: Share::new(0.02),
                ..plain()
            },
        ),
        provider(
            "attic",
            40,
            "3 % of the mailboxes are full for 6 s",
            "",
            Behaviour {
                full: Share::new(0.03),
                full_for: Some(Duration::from_secs(6)),
                ..plain()
            },
        ),
        provider(
            "hoarder",
            10,
            "5 % of the mailboxes stay full",
            "",
            Behaviour {
                full: Share::new(0.05),
                ..plain()
            },
        ),
        provider(
            "shaky",
            50,
            "drops 10 % of the connections",
            "messages_per_connection = 20",
            Behaviour {
                drop: Share::new(0.1),
                ..plain()
            },
        ),
        provider(
            "turtle",
            10,
            "takes 200 ms for each reply",
            "",
            Behaviour {
                latency: ms(200),
                ..plain()
            },
        ),
        provider(
            "museum",
            20,
            "knows HELO only",
            "",
            Behaviour {
                without: vec![Extension::Ehlo],
                ..plain()
            },
        ),
        provider(
            "fibber",
            10,
            "offers PIPELINING and hangs up on it",
            "",
            Behaviour {
                pipelining: Pipelining::Closing,
                ..plain()
            },
        ),
        provider(
            "warden",
            40,
            "3 % is spam to it, one recipient in a transaction",
            "",
            Behaviour {
                spam: Share::new(0.03),
                recipients_per_transaction: 1,
                ..plain()
            },
        ),
        provider("spare", 30, "its first MX is dead", "", plain()),
        provider("plainold", 15, "has an address and no MX", "", plain()),
        provider("village", 45, "hosts 40 small domains", "", plain()),
        provider(
            "mute",
            5,
            "says that it takes no mail (null MX)",
            "",
            plain(),
        ),
        provider("nowhere", 5, "doesn't exist", "", plain()),
    ];
    for provider in &mut all {
        // Those who know better, as most do.
        if let Some(behaviour) = &mut provider.behaviour {
            behaviour.starttls =
                ["bigmail", "outward", "greyhound", "campus", "spare"].contains(&provider.name);
        }
        match provider.name {
            "spare" => provider.naming = Naming::DeadFirst,
            "plainold" => provider.naming = Naming::Implicit,
            "village" => {
                provider.domains = (1..=40).map(|n| format!("shop{n}.test")).collect();
            }
            "mute" => (provider.naming, provider.behaviour) = (Naming::NullMx, None),
            "nowhere" => (provider.naming, provider.behaviour) = (Naming::Nowhere, None),
            _ => {}
        }
    }
    all
}

/// Spreads numbers evenly (the finisher of SplitMix64).
fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed
        .wrapping_mul(0xd134_2543_de82_ef95)
        .wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const FIRST_NAMES: [&str; 24] = [
    "Ada", "Amir", "Anna", "Bo", "Carla", "Chen", "Dora", "Emil", "Fatima", "Finn", "Grace",
    "Hana", "Ivo", "Jonas", "Kai", "Lena", "Mina", "Noor", "Olga", "Paul", "Rosa", "Sami", "Tara",
    "Yuki",
];
const LAST_NAMES: [&str; 16] = [
    "Adler", "Bauer", "Costa", "Diaz", "Evans", "Fischer", "Garcia", "Haas", "Ito", "Jensen",
    "Kaya", "Lopez", "Moreau", "Novak", "Okafor", "Silva",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_are_found_by_their_addresses() {
        let world = World::new(5000, 3);
        for i in 0..5000 {
            assert_eq!(world.recipient(&world.address(i)), Some(i));
        }
        assert_eq!(world.recipient("bounces@news.sender.test"), None);
        assert_eq!(world.recipient("a.b.5000@x.test"), None);
        assert_eq!(World::new(9, 3).address(8), world.address(8));
    }

    #[test]
    fn each_provider_has_its_share_and_its_records() {
        let world = World::new(20_000, 1);
        let total: u32 = world.providers.iter().map(|p| p.share).sum();
        assert_eq!(total, 1000);
        let Records { mx, a } = world.records();
        for (index, provider) in world.providers.iter().enumerate() {
            let here = (0..20_000).filter(|&i| world.home(i) == index).count();
            let expected = provider.share as usize * 20;
            assert!(
                here.abs_diff(expected) < expected / 2 + 40,
                "{} {here}",
                provider.name
            );
            for domain in &provider.domains {
                let hosts: Vec<_> = mx.iter().filter(|r| r.0 == *domain).collect();
                let expected = match provider.naming {
                    Naming::Mx | Naming::NullMx => 1,
                    Naming::DeadFirst => 2,
                    Naming::Implicit | Naming::Nowhere => 0,
                };
                assert_eq!(hosts.len(), expected, "{domain}");
                let known = |host: &str| host == "." || a.iter().any(|r| r.0 == host);
                assert!(hosts.iter().all(|r| known(&r.2)));
            }
        }
    }
}
