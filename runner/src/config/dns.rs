//! `[dns]`: whom to ask, for how long, and how long answers are kept.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use courser_core::limits::DNS_ATTEMPTS_MAX;
use toml::de::DeValue;

use super::tree::{Scalar, Section};
use super::units::{quoted, text};

/// A name server; port 53 unless another one is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameServer(pub SocketAddr);

impl Scalar for NameServer {
    const EXPECTED: &'static str =
        "a name server's address, such as \"192.0.2.53\" or \"[2001:db8::53]:5353\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = text(value)?;
        let at = text.parse::<SocketAddr>();
        at.or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)))
            .map(Self)
            .map_err(|_| format!("{text:?} is not an IP address"))
    }
    fn show(&self) -> String {
        if self.0.port() == 53 {
            quoted(self.0.ip())
        } else {
            quoted(self.0)
        }
    }
}

/// `[dns]`
#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    /// Recursive name servers, in order; empty: those of `resolv_conf`.
    pub servers: Vec<NameServer>,
    /// Where the system's name servers stand.
    pub resolv_conf: PathBuf,
    /// How long to wait for one answer before the next server is asked.
    pub timeout: Duration,
    /// How often a question is asked before it counts as failed.
    pub attempts: u32,
    /// Most answers kept, in each shard.
    pub cache_entries: usize,
    /// An answer is kept at least this long.
    pub ttl_min: Duration,
    /// An answer is kept at most this long.
    pub ttl_max: Duration,
    /// That there is nothing is kept at most this long (RFC 2308 5).
    pub negative_ttl_max: Duration,
    /// Mix upper and lower case in questions, so that answers are harder to forge (0x20).
    pub mixed_case: bool,
    /// Whether the servers validate DNSSEC and nobody can come between them and us, so that what they
    /// say of it (the AD bit) is believed. DANE needs it.
    pub trusted: bool,
}

impl Dns {
    pub(super) fn read(mut s: Section<'_, '_>) -> Self {
        let day = Duration::from_secs(86_400);
        let read = Self {
            servers: s.get("servers", Vec::new()),
            resolv_conf: s.get("resolv_conf", "/etc/resolv.conf".into()),
            timeout: s.bounded(
                "timeout",
                Duration::from_secs(3),
                Duration::from_millis(50)..=Duration::from_secs(60),
            ),
            attempts: s.bounded("attempts", 4, 1..=DNS_ATTEMPTS_MAX as u32),
            cache_entries: s.bounded("cache_entries", 100_000, 1..=100_000_000),
            ttl_min: s.bounded("ttl_min", Duration::from_secs(30), Duration::ZERO..=day),
            ttl_max: s.bounded("ttl_max", day, Duration::from_secs(1)..=day * 7),
            negative_ttl_max: s.bounded(
                "negative_ttl_max",
                Duration::from_secs(3600),
                Duration::ZERO..=day,
            ),
            mixed_case: s.get("mixed_case", true),
            trusted: s.get("trusted", false),
        };
        if read.ttl_max < read.ttl_min {
            s.wrong(
                "ttl_max",
                "is shorter than `ttl_min`",
                "make it at least `ttl_min`",
            );
        }
        s.finish();
        read
    }
}
