//! `courser reload`: read the configuration again, as SIGHUP does, and say what came of it.

use std::io::Write;

use crate::control::protocol::{Request, Response};

use super::Outcome;
use super::connect::ConnectArgs;
use super::queue::unexpected;

/// `courser reload`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the server is.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// Asks and prints.
///
/// # Errors
/// The server can't be reached, or its configuration has mistakes (the old one stays in force).
pub fn run(args: Args, out: &mut dyn Write) -> Outcome {
    let answer = args.connect.connect()?.call(&Request::Reload)?;
    let Response::Reloaded {
        applied,
        needs_restart,
    } = answer
    else {
        return Err(unexpected());
    };
    if applied.is_empty() && needs_restart.is_empty() {
        writeln!(out, "nothing changed")?;
    }
    for (title, list) in [
        ("in force now:", applied),
        ("needs a restart:", needs_restart),
    ] {
        if !list.is_empty() {
            writeln!(out, "{title}")?;
        }
        for change in list {
            writeln!(out, "  {change}")?;
        }
    }
    Ok(())
}
