//! `courser events`: what happens from now on, one JSON object a line.

use std::io::Write;

use super::Outcome;
use super::connect::ConnectArgs;
use super::filter::FilterArgs;

/// `courser events`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the server is.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Of which deliveries.
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// Prints events until the server ends.
///
/// # Errors
/// The server can't be reached, or ended the stream.
pub fn run(args: Args, out: &mut dyn Write) -> Outcome {
    let client = args.connect.connect()?;
    for event in client.events(args.filter.filter())? {
        writeln!(out, "{}", event?)?;
        out.flush()?;
    }
    Ok(())
}
