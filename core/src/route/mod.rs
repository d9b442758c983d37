//! Which hosts and addresses take mail for a domain.

pub mod mx;
