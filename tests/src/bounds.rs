//! What a server under test may take of memory, by what its configuration allows.

use crate::server::Server;

/// Bytes.
pub const MIB: u64 = 1 << 20;

/// What a session with a sender may take beside the rest, bytes: so says the configuration's
/// reference under `[limits]`.
pub const SENDER_BYTES: u64 = 100 << 10;
/// What a session with a receiver may take beside the body, bytes: 8 KiB of commands, some kB of the
/// reply, its state, and as much again for the connection and the route.
pub const RECEIVER_BYTES: u64 = 32 << 10;
/// The allocator keeps some of what was freed; events that wait for the disk and the queue's records
/// lie here as well.
pub const SLACK_BYTES: u64 = 24 * MIB;

/// The bounds of memory that a configuration sets, bytes; small, so that a leak would show.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// `limits.intake_memory`
    pub intake: u64,
    /// `limits.body_memory`
    pub body: u64,
    /// `spool.pending`
    pub pending: u64,
}

impl Bounds {
    /// As the configuration has them. Tables that are written inline can't be written again.
    pub fn config(&self) -> String {
        format!(
            "limits = {{ intake_memory = \"{}B\", body_memory = \"{}B\" }}\nspool = {{ pending = \"{}B\" }}\n",
            self.intake, self.body, self.pending
        )
    }

    /// Most resident memory of a server that had `before` when it had nothing to do, and whose peers
    /// may need `peers` bytes more.
    pub fn most(&self, before: u64, peers: u64) -> u64 {
        before + self.intake + self.body + self.pending + peers + SLACK_BYTES
    }

    /// Says what `server` took at most since it started, and what it might.
    ///
    /// # Panics
    /// When it took more.
    pub fn check(&self, name: &str, server: &Server, before: u64, peers: u64) {
        let (peak, most) = (server.resident_peak(), self.most(before, peers));
        crate::say(&format!("{name}: {}\n", told(before, peak, most)));
        assert!(
            before > 0 && peak <= most,
            "{name}: {peak} bytes of {most}, {before} at first"
        );
    }
}

/// Resident memory in words, of bytes.
pub fn told(before: u64, peak: u64, most: u64) -> String {
    let [before, peak, most] = [before, peak, most].map(|bytes| bytes as f64 / MIB as f64);
    format!("{before:.1} MiB resident at first, {peak:.1} at most of {most:.1}")
}
