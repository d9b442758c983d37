//! Seeds that found something. Each is run again and again.

/// The seed, and what it found.
pub(crate) const FOUND: &[(u64, &str)] = &[(
    18157,
    "two shards whose answers of DNS differed handed a domain's mail to each other without end",
)];
