//! Which hosts and addresses take mail for a domain.
//!
//! [`mx::MxLookup`] finds them; [`plan::Plan`] is what it finds; [`address`] says which addresses
//! mail never goes to.

pub mod address;
pub mod mx;
pub mod plan;
pub mod tls;

pub use mx::{FamilyOrder, FixedHost, MxLookup, Options, Step};
pub use plan::{Fault, Plan, PlanHost, RouteError, SiteKey};
