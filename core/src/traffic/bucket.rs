//! Integer GCRA token bucket.
