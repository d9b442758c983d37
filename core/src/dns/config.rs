//! What the resolver can be told, and what it counts.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use crate::limits::{DNS_FAILURE_TTL_S_MAX, DNS_NEGATIVE_TTL_S_MAX};

/// What the servers are asked about DNSSEC. Only worth something toward a validating server on a
/// path that nobody else can write to, best on this machine (RFC 4035 4.9.3, RFC 7672 2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Dnssec {
    /// Nothing; no answer counts as secure.
    #[default]
    Off,
    /// Set AD in queries, and believe AD in answers (RFC 6840 5.7).
    Ad,
    /// Set DO as well, for servers that answer AD only then; answers get longer (RFC 3225).
    Do,
}

/// How the [`Resolver`](super::Resolver) works. [`Config::new`] has defaults for everything but
/// the servers.
#[derive(Clone, Debug)]
pub struct Config {
    /// Recursive servers, best first; those behind the first
    /// [`DNS_SERVERS_MAX`](crate::limits::DNS_SERVERS_MAX) are not used. With none, every
    /// question fails.
    pub servers: Vec<SocketAddr>,
    /// UDP sockets that the caller has, each bound to a port of its own that can't be guessed
    /// (RFC 5452 9.2). A query goes out on one of `0..sockets`, and only an answer that comes in
    /// there counts. At least one.
    pub sockets: u16,
    /// Mix upper and lower case in questions, and want them back that way
    /// (draft-vixie-dnsext-dns0x20). An answer in another case is asked again by TCP.
    pub case_randomisation: bool,
    /// What is asked about DNSSEC.
    pub dnssec: Dnssec,
    /// Spread questions over all healthy servers instead of preferring the first.
    pub rotate: bool,
    /// How long a UDP query waits before another server is asked; doubles with every round over
    /// the servers.
    pub udp_timeout: Duration,
    /// How long a TCP query waits, connecting included.
    pub tcp_timeout: Duration,
    /// Queries that are sent for one name of one question before it fails, at most
    /// [`DNS_ATTEMPTS_MAX`](crate::limits::DNS_ATTEMPTS_MAX). The same server asked again by TCP,
    /// because its answer didn't fit into a datagram, or without EDNS, which it doesn't know, doesn't
    /// count, but for that most.
    pub attempts_max: usize,
    /// How long a question may take in all. Every question is answered within this time.
    pub give_up: Duration,
    /// Questions that wait for a server at the same time; the others wait their turn.
    pub in_flight_max: usize,
    /// Different questions that are open at the same time, waiting their turn included.
    pub questions_max: usize,
    /// Tokens that wait for answers at the same time.
    pub waiters_max: usize,
    /// A positive answer is kept at least this long.
    pub ttl_min: Duration,
    /// A positive answer is kept no longer than this.
    pub ttl_max: Duration,
    /// A negative answer is kept no longer than this, and never over
    /// [`DNS_NEGATIVE_TTL_S_MAX`].
    pub negative_ttl_max: Duration,
    /// A failure is kept this long, and never over [`DNS_FAILURE_TTL_S_MAX`] (RFC 2308 7,
    /// RFC 9520 3.2).
    pub failure_ttl: Duration,
    /// Answers in the cache.
    pub cache_entries_max: usize,
    /// Bytes of the cache, counted roughly.
    pub cache_bytes_max: usize,
}

impl Config {
    /// The defaults, toward `servers`.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self {
            servers,
            sockets: 1,
            case_randomisation: true,
            dnssec: Dnssec::Off,
            rotate: false,
            udp_timeout: Duration::from_millis(1500),
            tcp_timeout: Duration::from_secs(5),
            attempts_max: crate::limits::DNS_ATTEMPTS_MAX,
            give_up: Duration::from_secs(30),
            in_flight_max: 1024,
            questions_max: 65_536,
            waiters_max: 262_144,
            ttl_min: Duration::from_secs(5),
            ttl_max: Duration::from_secs(86_400),
            negative_ttl_max: Duration::from_secs(900),
            failure_ttl: Duration::from_secs(15),
            cache_entries_max: 200_000,
            cache_bytes_max: 64 << 20,
        }
    }

    pub(super) fn negative_ttl_max(&self) -> Duration {
        self.negative_ttl_max
            .min(Duration::from_secs(u64::from(DNS_NEGATIVE_TTL_S_MAX)))
    }

    pub(super) fn failure_ttl(&self) -> Duration {
        self.failure_ttl
            .min(Duration::from_secs(u64::from(DNS_FAILURE_TTL_S_MAX)))
    }
}

/// What the resolver has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Questions asked by callers.
    pub asked: u64,
    /// Of them answered from the cache.
    pub cached: u64,
    /// Of them joined to a question that was already open.
    pub coalesced: u64,
    /// Of them turned away because too much was open.
    pub busy: u64,
    /// Queries sent by UDP.
    pub sent_udp: u64,
    /// Queries sent by TCP.
    pub sent_tcp: u64,
    /// Responses that fitted a query.
    pub responses: u64,
    /// Queries that nobody answered in time.
    pub timeouts: u64,
    /// Queries that could not be sent, and TCP queries that failed.
    pub send_failures: u64,
    /// Responses that were cut and asked for again by TCP.
    pub truncated: u64,
    /// Datagrams with an id, a sender or a socket that no open query has: late, doubled or
    /// forged.
    pub unmatched: u64,
    /// Datagrams with the right id, sender and socket but not our question: forged, or broken.
    pub wrong_question: u64,
    /// Responses that repeat the question in another case.
    pub wrong_case: u64,
    /// Records in answers that have nothing to do with the question.
    pub foreign_records: u64,
    /// Responses that can't be read.
    pub malformed: u64,
    /// SERVFAIL responses.
    pub server_failures: u64,
    /// REFUSED and its like.
    pub refused: u64,
    /// Questions that ended without an answer.
    pub failed: u64,
}
