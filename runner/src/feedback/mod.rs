//! Outcome → Event: what became of a delivery, and who is told.
//!
//! | file | does |
//! |---|---|
//! | [`settle`] | ends a delivery or dates it again |
//! | [`bounce`] | writes delivery status notifications |

pub mod bounce;
pub mod settle;
