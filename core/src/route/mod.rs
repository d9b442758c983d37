//! Which hosts and addresses take mail for a domain, and how sure one can be that it is they.
//!
//! [`mx::MxLookup`] finds them; [`plan::Plan`] is what it finds; [`address`] says which addresses
//! mail never goes to. [`dane`] and [`mta_sts`] are what hosts and domains demand of the way to them, and
//! [`tlsrpt`] tells domains what came of it.

pub mod address;
pub mod dane;
mod fields;
pub mod mta_sts;
pub mod mx;
pub mod plan;
mod reference;
pub mod tls;
pub mod tlsrpt;

pub use fields::{FieldError, Published};
pub use mx::{FamilyOrder, FixedHost, MxLookup, Options, Step};
pub use plan::{Fault, Plan, PlanHost, RouteError, SiteKey};
