//! What one world is made of, by its seed: the configuration, the receivers, the mail, the trouble.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use courser::config::{Config, LaneLimits, Percent, Rate};

use crate::random::Random;

/// The configuration before chance changes its numbers: three sources, a pool of all and one of
/// the first, three streams of different urgency, one provider.
const BASE: &str = r#"
hostname = "out.example.org"
[server]
shards = 1
[[source]]
name = "a"
ehlo = "a.example.org"
[[source]]
name = "b"
ehlo = "b.example.org"
[[source]]
name = "c"
ehlo = "c.example.org"
[[pool]]
name = "all"
members = [{ source = "a", weight = 1 }, { source = "b", weight = 2 }, { source = "c", weight = 1 }]
[[pool]]
name = "first"
members = [{ source = "a", weight = 1 }]
[[stream]]
name = "urgent"
class = "transactional"
pool = "all"
[[stream]]
name = "normal"
class = "normal"
pool = "all"
[[stream]]
name = "bulk"
class = "bulk"
pool = "all"
[[provider]]
name = "big"
mx = ["big.example"]
"#;

pub(crate) const STREAMS: [&str; 3] = ["urgent", "normal", "bulk"];
/// The name under which the provider's hosts are.
pub(crate) const BIG: &str = "big";

fn base() -> &'static Config {
    static PARSED: OnceLock<Config> = OnceLock::new();
    PARSED.get_or_init(|| courser::config::parse(BASE, "sim.toml").expect("the base is right"))
}

/// One message to be handed in.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    /// Nanoseconds after the start.
    pub(crate) at: u64,
    pub(crate) sender: bool,
    pub(crate) stream: usize,
    pub(crate) tenant: u64,
    pub(crate) campaign: u64,
    /// Numbers of the recipients' domains.
    pub(crate) to: Vec<usize>,
    pub(crate) body_bytes: usize,
    /// FUTURERELEASE: not before so many seconds.
    pub(crate) hold_s: u64,
}

/// A stop of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    /// Nanoseconds after the start.
    pub(crate) at: u64,
    pub(crate) how: How,
    /// In the middle of the disk operation that is so many from then on.
    pub(crate) in_ops: Option<u32>,
    pub(crate) down: Duration,
}

/// How a server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// `kill -9`: what was written stays.
    Kill,
    /// The power fails: what was synced stays.
    Power,
    /// In order.
    Close,
}

/// See the module's docs.
pub(crate) struct Shape {
    pub(crate) config: Config,
    pub(crate) shards: usize,
    /// The site of each domain.
    pub(crate) domains: Vec<usize>,
    /// Hosts of each site, and whether they belong to the provider.
    pub(crate) sites: Vec<(usize, bool)>,
    pub(crate) letters: Vec<Letter>,
    pub(crate) stops: Vec<Stop>,
    pub(crate) segment_bytes: u64,
    pub(crate) write_fails: u64,
    pub(crate) sync_fails: u64,
    pub(crate) short_writes: u64,
    /// Times at which the disk is full, nanoseconds.
    pub(crate) full: Option<(u64, u64)>,
    /// Loss of DNS datagrams, in 1000.
    pub(crate) dns_loss: u64,
    /// Trouble with receivers, in 1000 of the time.
    pub(crate) moods: u64,
    pub(crate) latency_us: u64,
}

const S: u64 = 1_000_000_000;

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn limits(random: &mut Random) -> LaneLimits {
    let rate = |random: &mut Random, low, high| {
        let (count, per) = random.pick(&[(1, 1), (1, 60), (10, 60), (60, 3600)]);
        let count = (count * random.scale(low, high)).clamp(1, 5000) as u32;
        let rate = Rate::new(count, per);
        match random.below(3) {
            0 => rate.with_burst(random.between(1, 5) as u32),
            _ => rate,
        }
    };
    LaneLimits {
        connections: random.scale(1, 12) as u32,
        connection_rate: rate(random, 2, 60),
        message_rate: rate(random, 2, 100),
        messages_per_connection: random.scale(1, 60) as u32,
        recipients_per_transaction: random.scale(1, 30) as u32,
    }
}

impl Shape {
    pub(crate) fn new(random: &mut Random) -> Self {
        let mut config = base().clone();
        let large = random.per_mille(15);
        let quiet = random.per_mille(250);

        config.delivery.limits = limits(random);
        config.providers[0].limits = limits(random);
        config.limits.max_delivery_sessions = random.scale(1, 40) as usize;
        config.delivery.idle_keepalive = secs(random.scale(1, 60));
        config.delivery.max_hosts = random.between(1, 4) as usize;
        config.delivery.pipelining = random.per_mille(850);
        config.delivery.chunking = random.per_mille(700);
        config.delivery.dead_host.first = secs(random.scale(5, 120));
        config.delivery.dead_host.max = secs(random.scale(120, 3600));
        config.dsn.gather = Duration::from_millis(random.pick(&[0, 50, 2000]));
        config.dsn.failures = random.per_mille(800);
        let t = &mut config.delivery.timeouts;
        t.connect = secs(random.scale(2, 30));
        t.greeting = secs(random.scale(5, 300));
        t.ehlo = secs(random.scale(5, 300));
        t.mail = secs(random.scale(5, 300));
        t.rcpt = secs(random.scale(5, 300));
        t.data = secs(random.scale(5, 120));
        t.data_block = secs(random.scale(5, 180));
        t.data_end = secs(random.scale(10, 600));
        for stream in &mut config.streams {
            let retry = &mut stream.retry;
            retry.first = secs(random.scale(2, 600));
            retry.factor = random.pick(&[1.0, 1.5, 2.0, 3.0]);
            retry.max = secs(random.scale(300, 4 * 3600));
            retry.jitter = Percent(random.pick(&[0, 10, 30]));
            let mut longest = if retry.factor > 1.0 {
                retry.max
            } else {
                retry.first
            };
            if random.per_mille(200) {
                retry.intervals = (0..random.between(1, 4))
                    .map(|_| secs(random.scale(1, 3600)))
                    .collect();
                longest = retry.intervals[retry.intervals.len() - 1];
            }
            // Some dozen attempts at most.
            let most = longest.as_secs() * 24;
            retry.life = secs(random.scale(60, 2 * 86_400).min(most.max(60)));
        }
        let sources = random.between(1, 3) as usize;
        for pool in &mut config.pools {
            pool.members.truncate(sources);
        }

        let sites: Vec<(usize, bool)> = (0..random.between(1, 4))
            .map(|_| (random.between(1, 3) as usize, random.per_mille(400)))
            .collect();
        let domains: Vec<usize> = (0..random.between(1, 6))
            .map(|_| random.below(sites.len() as u64) as usize)
            .collect();

        let count = if large {
            random.between(150, 400)
        } else {
            random.scale(3, 60)
        };
        let window = random.pick(&[0, 1, 30, 600]) * S;
        let (tenants, campaigns) = (random.between(1, 4), random.between(1, 3));
        // One tenant's campaign in front of everybody else's mail.
        let flood = random.per_mille(300);
        let most = random.pick(&[1, 2, 3, 12]);
        let letters: Vec<Letter> = (0..count)
            .map(|i| {
                let first = flood && i < count * 3 / 4;
                let one = random
                    .per_mille(500)
                    .then(|| random.below(domains.len() as u64));
                Letter {
                    at: if flood && !first {
                        window + S
                    } else {
                        random.below(window + 1)
                    },
                    sender: random.per_mille(800),
                    stream: random.below(3) as usize,
                    tenant: if first { 0 } else { random.below(tenants) },
                    campaign: random.below(campaigns),
                    to: (0..random.between(1, most))
                        .map(|_| one.unwrap_or_else(|| random.below(domains.len() as u64)) as usize)
                        .collect(),
                    body_bytes: random.scale(20, 3000) as usize,
                    hold_s: if random.per_mille(40) {
                        random.scale(1, 900)
                    } else {
                        0
                    },
                }
            })
            .collect();

        let stops = if random.per_mille(400) {
            Vec::new()
        } else {
            let mut at = 0;
            (0..random.between(1, 3))
                .map(|_| {
                    at += random.scale(S / 200, 400 * S);
                    let stop = Stop {
                        at,
                        how: random.pick(&[
                            How::Kill,
                            How::Kill,
                            How::Power,
                            How::Power,
                            How::Close,
                        ]),
                        in_ops: random
                            .per_mille(600)
                            .then(|| random.below(if large { 400 } else { 60 }) as u32),
                        down: Duration::from_millis(random.scale(10, 600_000)),
                    };
                    at += stop.down.as_nanos() as u64;
                    stop
                })
                .collect()
        };
        let full = random.per_mille(80).then(|| {
            let from = random.scale(S / 100, 100 * S);
            (from, from + random.scale(S, 300 * S))
        });
        Self {
            shards: if random.per_mille(250) { 2 } else { 1 },
            config,
            domains,
            sites,
            letters,
            stops,
            segment_bytes: 64 << 10,
            write_fails: if random.per_mille(100) { 20 } else { 0 },
            sync_fails: if random.per_mille(60) { 4 } else { 0 },
            short_writes: if random.per_mille(200) { 100 } else { 0 },
            full,
            dns_loss: if quiet { 0 } else { random.pick(&[0, 30, 300]) },
            moods: if quiet {
                0
            } else {
                random.pick(&[100, 300, 600])
            },
            latency_us: random.scale(50, 400_000),
        }
    }

    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::new(self.config.clone())
    }
}
