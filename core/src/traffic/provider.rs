//! Which provider a site belongs to, and its limits.
