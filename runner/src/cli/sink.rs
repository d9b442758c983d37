//! `courser sink`: a receiver for tests.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::{Failure, Outcome};
use crate::sink::{Behaviour, Config, ReceiverConfig, Sink};

/// How often the file of counts is written.
const STATS_EVERY: Duration = Duration::from_secs(1);

/// A receiver for tests: it takes mail, or refuses it as real providers do, and counts
///
/// The counts are printed as JSON when it ends (SIGTERM, SIGINT) and on SIGUSR1.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen; can be given several times. Port 0 is any free one
    #[arg(
        long,
        short,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:2626"
    )]
    listen: Vec<SocketAddr>,
    /// Several receivers, from a file; see the documentation of courser::sink::behaviour
    #[arg(long, short, value_name = "FILE", conflicts_with = "listen")]
    config: Option<PathBuf>,
    /// Its name in counts
    #[arg(long, value_name = "NAME", default_value = "sink")]
    name: String,
    /// What it greets with
    #[arg(long, value_name = "NAME", default_value = "sink.test")]
    hostname: String,
    /// Of everything that looks random
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Threads, each with its own listeners
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Write each message to a file in this directory, its envelope in front as X-Sink lines
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Write "receiver recipient message-id" for each recipient of each message taken
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Write the counts to this file every second and at the end
    #[arg(long, value_name = "FILE")]
    stats: Option<PathBuf>,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
    /// Show sessions on standard error
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    behaviour: Behaviour,
}

impl Args {
    fn config(self) -> Result<Config, Failure> {
        let mut config = match &self.config {
            Some(file) => Config::load(file).map_err(|message| Failure { code: 3, message })?,
            None => Config {
                receivers: vec![ReceiverConfig {
                    name: self.name,
                    listen: self.listen,
                    hostname: self.hostname,
                    behaviour: self.behaviour,
                }],
                ..Config::default()
            },
        };
        config.seed = self.seed.unwrap_or(config.seed);
        config.threads = self.threads.unwrap_or(config.threads);
        config.save = self.save.or(config.save);
        config.list = self.list.or(config.list);
        config.verbose |= self.verbose;
        Ok(config)
    }
}

/// Runs it.
///
/// # Errors
/// The configuration is wrong, or an address can't be listened on.
pub fn run(args: Args, out: &mut dyn Write) -> Outcome {
    let (stats, messages) = (args.stats.clone(), args.messages);
    let config = args.config()?;
    more_descriptors();
    // Before it listens, so that who waits for that can signal.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])?;
    let sink = Sink::start(config)?;
    for receiver in sink.receivers() {
        for address in receiver.addresses() {
            eprintln!("{} listens on {address}", receiver.name());
        }
    }
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || signals.forever().try_for_each(|signal| tell.send(signal)));

    let step = match messages {
        Some(_) => Duration::from_millis(20),
        None => STATS_EVERY,
    };
    let mut written = Instant::now();
    write_stats(&sink, stats.as_deref())?;
    loop {
        match told.recv_timeout(step) {
            Ok(SIGUSR1) => print_stats(&sink, out)?,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            _ => break,
        }
        if messages.is_some_and(|n| sink.total().messages >= n) {
            break;
        }
        if written.elapsed() >= STATS_EVERY {
            written = Instant::now();
            write_stats(&sink, stats.as_deref())?;
        }
    }
    write_stats(&sink, stats.as_deref())?;
    print_stats(&sink, out)
}

fn print_stats(sink: &Sink, out: &mut dyn Write) -> Outcome {
    serde_json::to_writer(&mut *out, &sink.stats()).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Replaces the file at once, so that nobody reads half of it.
fn write_stats(sink: &Sink, file: Option<&Path>) -> Outcome {
    sink.flush()?;
    let Some(file) = file else { return Ok(()) };
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let text = serde_json::to_vec(&sink.stats()).map_err(std::io::Error::from)?;
    std::fs::write(&part, text)?;
    Ok(std::fs::rename(&part, file)?)
}

/// Asks for as many open files as the system gives: each connection needs one.
fn more_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // With fewer it works too, just not for as many clients.
    let _ = setrlimit(Resource::Nofile, most);
}
