//! One source toward one site.
