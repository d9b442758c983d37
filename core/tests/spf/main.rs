//! SPF (RFC 7208) from outside: the examples of the RFC, a table of cases clause by clause, other
//! people's vectors, and what holds under any records and answers.

mod cases;
mod properties;
mod reports;
mod rfc;
#[path = "../common/vectors.rs"]
mod shared;
mod vectors;
mod zone;
