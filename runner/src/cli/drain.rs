//! `courser drain`: stop accepting, finish what is in flight and exit, as SIGTERM does.

use std::io::Write;

use crate::control::protocol::{Request, Response};

use super::Outcome;
use super::connect::ConnectArgs;
use super::queue::unexpected;

/// `courser drain`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the server is.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// Asks and prints.
///
/// # Errors
/// The server can't be reached.
pub fn run(args: Args, out: &mut dyn Write) -> Outcome {
    match args.connect.connect()?.call(&Request::Drain)? {
        Response::Draining => Ok(writeln!(out, "draining")?),
        _ => Err(unexpected()),
    }
}
