//! Addresses, header fields, dates and reports.

pub mod address;
pub mod date;
#[cfg(feature = "alloc")]
pub mod dsn;
pub mod header;
#[cfg(feature = "alloc")]
pub(crate) mod part;
