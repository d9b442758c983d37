//! Weighted sets of sources.
