//! DNS (RFC 1035) without sockets: questions, answers, retries and a cache.
//!
//! Use: make a [`Resolver`] with its [`Config`] and a random seed, [`ask`](Resolver::ask), and
//! carry datagrams between it and its servers as the type says. It is a stub resolver: it asks
//! recursive servers that the operator chose, and believes them as far as their answers fit the
//! question.
//!
//! | file | holds |
//! |---|---|
//! | [`name`] | domain names, U-labels to A-labels |
//! | [`query`] | questions and answers, and their wire form |
//! | [`lookup`] | the resolver |
//! | [`io`] | what goes into it and comes out |
//! | [`config`] | its settings and counters |
//! | `cache` | answers until they expire, bounded by number and bytes |
//! | `servers` | which server is asked next |

mod cache;
pub mod config;
pub mod io;
pub mod lookup;
pub mod name;
pub mod query;
mod servers;

pub use config::{Config, Dnssec, Stats};
pub use io::{Asked, Input, Output, QueryId, ServerStatus, Token};
pub use lookup::Resolver;
pub use name::{Name, NameError, to_ascii};
pub use query::{Answer, Failure, Kind, Mx, Outcome, Question, Records, Tlsa};
