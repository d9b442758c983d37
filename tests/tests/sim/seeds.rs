//! Seeds that found something. Each is run again and again.

/// The seed, and what it found.
pub(crate) const FOUND: &[(u64, &str)] = &[];
