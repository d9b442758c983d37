//! Whole sessions against scripted peers.

mod auth;
mod harness;
mod opening;
mod pipelining;
mod properties;
mod table;
mod transactions;

use super::*;
use harness::Run;

#[test]
fn the_session_is_small() {
    let session = size_of::<Session>();
    let reader = size_of::<ReplyReader>();
    std::println!("Session {session} bytes, of them ReplyReader {reader}");
    assert!(session - reader < 2048, "{session} with {reader}");
}
