//! What the answers of receivers mean.

pub mod verdict;
