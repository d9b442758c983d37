//! DNS (RFC 1035) without sockets: questions, answers, retries and a cache.

pub mod lookup;
pub mod query;
