//! How fast, over which source, in which order, and when again.

pub mod bucket;
pub mod hosts;
pub mod lane;
pub mod pool;
pub mod provider;
pub mod retry;
pub mod scheduler;
pub mod wheel;
