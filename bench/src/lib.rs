//! Criterion benches and load runs for Courser.
//!
//! What is measured is made here, so that the benches, which measure time, and the program
//! `instructions`, which counts instructions, measure the same.
//!
//! | Module | What is in it |
//! |---|---|
//! | [`server`] | submission sessions |
//! | [`client`] | delivery sessions |
//! | [`scheduler`] | deliveries that wait for their turn |
//! | [`dkim`] | messages to sign and to verify |
//! | [`dns`] | a resolver and its server |
//! | [`mail`] | header fields and reports |
//! | [`spf`] | a record of a usual size, and the DNS around it |
//! | [`verdict`] | replies to judge |
//! | [`spool`] | envelopes |
//! | [`events`] | a delivery's event |
//! | [`cases`] | the functions whose instructions are counted |
//! | [`callgrind`] | counting them |

pub mod callgrind;
pub mod cases;
pub mod client;
pub mod dkim;
pub mod dns;
pub mod events;
pub mod mail;
pub mod scheduler;
pub mod server;
pub mod spf;
pub mod spool;
pub mod verdict;
