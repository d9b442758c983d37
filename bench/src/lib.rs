//! Criterion benches and load runs for Courser.
