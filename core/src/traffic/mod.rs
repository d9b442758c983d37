//! How fast, over which source, in which order, and when again.
//!
//! Start with [`scheduler`]: it joins the others. What each of them decides:
//!
//! | module | decides |
//! |---|---|
//! | [`scheduler`] | what to do next, and when |
//! | [`lane`] | whose message is next among those that wait for the same site |
//! | [`gate`] | whether one more connection or message may go there now |
//! | [`bucket`] | rates: messages and connections per time |
//! | [`pool`] | which source takes a delivery |
//! | [`provider`] | which provider a site belongs to, and its limits |
//! | [`retry`] | when to try again |
//! | [`hosts`] | which hosts could not be reached of late |
//! | [`logins`] | who fails to log in, and is slowed down or blocked |
//! | [`wheel`], [`slab`] | timers and queues whose cost does not grow with what they hold |

pub mod bucket;
mod delivery;
pub mod gate;
pub mod hosts;
pub mod ids;
pub mod lane;
pub mod logins;
pub mod pool;
pub mod provider;
pub mod retry;
pub mod scheduler;
pub mod slab;
pub mod wheel;
