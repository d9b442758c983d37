//! What the answers of receivers mean.
//!
//! | file | is |
//! |---|---|
//! | [`verdict`] | reply → verdict, and verdicts on what has no reply |
//! | [`rules`] | markers and wordings of known receivers, as data |
//! | [`status`] | the registry of enhanced status codes, as data |

mod hint;
pub mod rules;
pub mod status;
mod text;
pub mod verdict;

#[cfg(test)]
mod tests;
