//! Tests of the session. `harness` plays the caller and the application.

mod behaviour;
mod harness;
mod properties;
mod security;
mod smuggling;
mod tables;
