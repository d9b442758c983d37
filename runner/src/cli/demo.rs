//! `courser demo`: the server at work, on one machine and in one minute.

use std::io::Write;

use super::{Failure, Outcome};
use crate::demo;

/// Send a newsletter to a small modelled Internet, and account for every recipient
///
/// On loopback addresses, without root: a name server, receivers with manners of all kinds, and
/// `courser serve` on a temporary spool. Exits with 1 if one recipient is not accounted for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recipients of the newsletter
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50_000)]
    recipients: u32,
    /// Of everything that looks random
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Leave spool, events, configuration and log, and say where
    #[arg(long)]
    keep: bool,
    /// Show what the receivers hear
    #[arg(long, short)]
    verbose: bool,
}

/// Runs it.
///
/// # Errors
/// It could not run, or someone is not accounted for.
pub fn run(args: Args, out: &mut dyn Write) -> Outcome {
    let options = demo::Options {
        recipients: args.recipients,
        seed: args.seed,
        keep: args.keep,
        verbose: args.verbose,
    };
    match demo::run(&options, out)? {
        true => Ok(()),
        false => Err(Failure::new("not every recipient is accounted for")),
    }
}
