//! Outcome → Event: what became of a delivery, and who is told.
//!
//! | file | does |
//! |---|---|
//! | [`settle`] | ends a delivery or dates it again |
//! | [`bounce`] | writes delivery status notifications |
//! | [`own`] | queues mail of our own that is about no other message |

pub mod bounce;
pub mod own;
pub mod settle;
