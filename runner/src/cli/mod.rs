//! The command line: one file per subcommand, and what they share.
//!
//! Every subcommand has `Args` (clap reads them) and `run(args, out)`, which writes what was
//! asked for to `out` and gives a [`Failure`] if it could not. `main.rs` is the table of
//! contents.
//!
//! | exit code | means |
//! |---|---|
//! | 0 | done |
//! | 1 | it failed; standard error says why |
//! | 2 | the command line is wrong |
//! | 3 | the configuration has mistakes, or can't be read |
//! | 4 | the server can't be reached |
//! | 5 | there is no such delivery |

pub mod ask;
pub mod check_config;
pub mod connect;
pub mod demo;
pub mod dkim;
pub mod drain;
pub mod eval;
pub mod events;
pub mod filter;
pub mod queue;
pub mod reload;
pub mod render;
pub mod serve;
pub mod sink;
pub mod status;
pub mod tls;
pub mod user;

use std::io;
use std::process::ExitCode;

use crate::config::LoadError;
use crate::control::ClientError;
use crate::login::LoginFaults;
use crate::net::tls::FileFault;
use crate::sign::KeyFaults;

/// Exit codes, for `--help`.
pub const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong command line, \
    3 mistakes in the configuration, 4 server not reachable, 5 no such delivery";

/// Why a subcommand ends without having done its work.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What to say on standard error; empty: nothing.
    pub message: String,
}

impl Failure {
    /// It failed for a reason of its own.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            code: 1,
            message: message.into(),
        }
    }

    /// There is no such delivery.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self {
            code: 5,
            message: message.into(),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self {
            code: 3,
            message: error.to_string(),
        }
    }
}

impl From<KeyFaults> for Failure {
    fn from(faults: KeyFaults) -> Self {
        Self {
            code: 3,
            message: faults.to_string(),
        }
    }
}

impl From<FileFault> for Failure {
    fn from(fault: FileFault) -> Self {
        Self {
            code: 3,
            message: fault.to_string(),
        }
    }
}

impl From<LoginFaults> for Failure {
    fn from(faults: LoginFaults) -> Self {
        Self {
            code: 3,
            message: faults.to_string(),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match error {
            ClientError::Connect { .. } => 4,
            _ => 1,
        };
        Self {
            code,
            message: error.to_string(),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(format!("{error:#}"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // `courser queue list | head` is no failure.
            io::ErrorKind::BrokenPipe => Self {
                code: 0,
                message: String::new(),
            },
            _ => Self::new(error.to_string()),
        }
    }
}

/// What a subcommand comes to.
pub type Outcome = Result<(), Failure>;

/// Says what went wrong and gives the exit code.
pub fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let code = failure.code;
            match failure {
                Failure { message, .. } if message.is_empty() => {}
                // Mistakes begin with file and line, as editors like it.
                Failure { code: 3, message } => eprintln!("{message}"),
                Failure { message, .. } => eprintln!("courser: {message}"),
            }
            ExitCode::from(code)
        }
    }
}
