//! The server in a deterministic world: the scheduler, the client machine, the DNS lookup and the
//! spool are the real ones, time is virtual, and everything else (receivers, name servers, the
//! network, the disk, crashes) comes out of one number, the seed.
//!
//! | file | has |
//! |---|---|
//! | [`world`] | the heap of events, and who handles them |
//! | [`shape`] | what a seed's world is made of |
//! | [`shard`], [`session`], [`keeping`] | what the runner's threads do between the real parts |
//! | [`receivers`], [`names`], [`network`], [`disk`] | the outside |
//! | [`checkers`], [`counting`] | what has to be true, after every step |
//! | [`mutations`] | faults on purpose, which the checkers have to find |
//! | [`seeds`] | seeds that found something once |
//!
//! ```text
//! cargo test -p courser-tests sim                                # what CI runs
//! cargo test -p courser-tests sim -- --seed N                    # replays one world, with its trace
//! cargo test --release -p courser-tests --test sim -- --seeds 0..1000000
//! ```
//!
//! **What is modelled, and not the runner's own:** the glue between the parts (the runner's is
//! tied to io_uring), submission (messages are appended as `intake` appends them), the content of
//! notifications, delay notifications, operators and reloads.
#![allow(missing_docs)]

mod checkers;
mod counting;
mod disk;
mod keeping;
mod mutations;
mod names;
mod network;
mod random;
mod receivers;
mod runs;
mod seeds;
mod session;
mod shape;
mod shard;
mod trace;
mod world;

use std::process::ExitCode;

use courser_tests::{suite, tests};

// `cargo test sim` asks for tests of this name.
use runs as sim;

fn main() -> ExitCode {
    runs::main(
        tests! {
            sim: {
                a_thousand_seeds,
                seeds_that_found_something,
                the_same_seed_is_the_same_world,
                every_fault_is_found,
            }
        },
        &tests! { sim: { replay } }[0],
    )
}

/// Which test is run when.
type Tests = &'static [suite::Test];
