//! What the program says about itself, on standard error: lines for a terminal, or JSON.
//!
//! [`init`] once, early. `COURSER_LOG` in the environment overrides the configured level and may
//! name parts of the program: `COURSER_LOG=warn,courser::session=debug`.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{Log, LogFormat, LogLevel};

/// The variable that overrides the configured level.
pub const VARIABLE: &str = "COURSER_LOG";

/// Changes the level of a running program.
#[derive(Clone, Debug)]
pub struct LogHandle(reload::Handle<EnvFilter, Registry>);

impl LogHandle {
    /// From now on log at `level`, unless the environment says otherwise.
    pub fn set_level(&self, level: LogLevel) {
        // Fails only when the subscriber is gone, and then there is nothing to set.
        let _ = self.0.reload(filter(level));
    }
}

/// Starts logging.
///
/// # Errors
/// Logging was started before.
pub fn init(log: &Log) -> anyhow::Result<LogHandle> {
    let (filter, handle) = reload::Layer::new(filter(log.level));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let start = Registry::default().with(filter);
    match log.format {
        LogFormat::Text => start
            .with(
                lines
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_target(false),
            )
            .try_init()?,
        LogFormat::Json => start.with(lines.json().flatten_event(true)).try_init()?,
    }
    Ok(LogHandle(handle))
}

fn filter(level: LogLevel) -> EnvFilter {
    let word = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logging_starts_once() {
        let log = Log {
            level: LogLevel::Error,
            format: LogFormat::Json,
        };
        let handle = init(&log).unwrap();
        handle.set_level(LogLevel::Warn);
        assert!(init(&log).is_err());
    }
}
