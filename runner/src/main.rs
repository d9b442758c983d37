//! The `courser` program.
fn main() {}
