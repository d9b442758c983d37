//! `courser serve`: the mail server.

use std::io::Write;
use std::path::PathBuf;

use crate::config::{self, DEFAULT_PATH};
use crate::{logging, serve};

use super::Outcome;

/// `courser serve`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration
    #[arg(long, short, value_name = "FILE", env = "COURSER_CONFIG", default_value = DEFAULT_PATH)]
    config: PathBuf,
}

/// Runs the server until SIGTERM.
///
/// # Errors
/// Mistakes in the configuration, or what keeps the server from starting.
pub fn run(args: Args, _out: &mut dyn Write) -> Outcome {
    let config = config::load(&args.config)?;
    let log = logging::init(&config.log)?;
    serve::run(&args.config, config, log)?;
    Ok(())
}
