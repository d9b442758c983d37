//! How subcommands find the running server.

use std::path::{Path, PathBuf};

use crate::config::{self, DEFAULT_PATH};
use crate::control::Client;

use super::Failure;

/// The control socket when nothing names one.
const DEFAULT_SOCKET: &str = "/run/courser/control.sock";

/// `--socket` and `--config`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConnectArgs {
    /// The control socket of the server
    #[arg(long, value_name = "PATH", env = "COURSER_SOCKET", global = true)]
    pub socket: Option<PathBuf>,
    /// The configuration of the server, which names its control socket
    #[arg(
        long,
        short,
        value_name = "FILE",
        env = "COURSER_CONFIG",
        global = true
    )]
    pub config: Option<PathBuf>,
}

impl ConnectArgs {
    /// The control socket: as `--socket` says, else as the configuration says, else the default.
    ///
    /// # Errors
    /// The configuration can't be read or has mistakes.
    pub fn socket(&self) -> Result<PathBuf, Failure> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let file = match &self.config {
            Some(file) => file,
            None if Path::new(DEFAULT_PATH).exists() => Path::new(DEFAULT_PATH),
            None => return Ok(DEFAULT_SOCKET.into()),
        };
        match config::load(file) {
            Ok(config) => Ok(config.server.control_socket),
            Err(error) => {
                let mut failure = Failure::from(error);
                failure
                    .message
                    .push_str("\n  --socket PATH finds the server without its configuration");
                Err(failure)
            }
        }
    }

    /// Connects to the server.
    ///
    /// # Errors
    /// The configuration is wrong, or the server can't be reached.
    pub fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect(&self.socket()?)?)
    }
}
