//! A sans-IO resolver.
