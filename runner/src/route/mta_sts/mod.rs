//! Policies of MTA-STS (RFC 8461): who asks for them, fetches them, keeps them and goes by them.
//!
//! ```text
//!  shard                              control plane                        disk
//!  Router ──domain──▶ Policies ──job──▶ fetch ──addresses?──▶ a shard
//!     ▲                  ▲               │ HTTPS
//!     └──in force────────┴───policy──────┴──────────────────▶ SPOOL_DIR/mta-sts/DOMAIN
//! ```
//!
//! The rules are [`courser_core::route::mta_sts`]'s; this drives them.
//!
//! | file | does |
//! |---|---|
//! | [`policies`] | knows what all domains have, and lets one fetch for each domain go at a time |
//! | [`fetch`] | fetches policies, and keeps them fresh, on the control plane |
//! | [`store`] | keeps them over a restart |
//! | [`lanes`] | whose policies the mail of a site goes by |

pub mod fetch;
pub mod lanes;
pub mod policies;
pub mod store;

pub use lanes::{SitePolicies, SitePolicy};
pub use policies::{Asked, Job, Policies};
