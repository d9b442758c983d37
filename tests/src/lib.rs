//! Harness for the tests against real peers.
