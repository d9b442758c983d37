//! The `courser` program. Each subcommand has a file in `cli/`; this is the table of contents.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use courser::cli::{self, EXIT_CODES, Outcome};

/// An outbound mail server for people who send a lot
#[derive(Debug, Parser)]
#[command(name = "courser", version, after_help = EXIT_CODES)]
struct Courser {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the mail server
    Serve(cli::serve::Args),
    /// Check a configuration, or print an example with every option
    CheckConfig(cli::check_config::Args),
    /// How the server is doing
    Status(cli::status::Args),
    /// What waits in the queue, why, and what to do with it
    Queue(cli::queue::Args),
    /// What happens from now on, one JSON object a line
    Events(cli::events::Args),
    /// Read the configuration again, as SIGHUP does
    Reload(cli::reload::Args),
    /// Stop accepting, finish what is in flight and exit, as SIGTERM does
    Drain(cli::drain::Args),
    /// Users who may hand in mail from anywhere, and their passwords
    User(cli::user::Args),
    /// Keys that sign mail, their DNS records, and whether they are published
    Dkim(cli::dkim::Args),
    /// What a delivery would do about TLS, and why
    Tls(cli::tls::Args),
    /// Send a newsletter to a small modelled Internet, and account for every recipient
    Demo(cli::demo::Args),
    /// A receiver for tests: takes mail, or refuses it as real providers do, and counts
    Sink(cli::sink::Args),
    /// Evaluate addresses, SMTP lines, authentication and TLS policies offline, one JSON object a line
    #[command(long_about = cli::eval::long_about())]
    Eval(cli::eval::Args),
}

fn main() -> ExitCode {
    let courser = Courser::parse();
    let mut out = BufWriter::new(std::io::stdout().lock());
    let outcome = run(courser.command, &mut out).and_then(|()| Ok(out.flush()?));
    cli::finish(outcome)
}

fn run(command: Command, out: &mut dyn Write) -> Outcome {
    match command {
        Command::Serve(args) => cli::serve::run(args, out),
        Command::CheckConfig(args) => cli::check_config::run(args, out),
        Command::Status(args) => cli::status::run(args, out),
        Command::Queue(args) => cli::queue::run(args, out),
        Command::Events(args) => cli::events::run(args, out),
        Command::Reload(args) => cli::reload::run(args, out),
        Command::Drain(args) => cli::drain::run(args, out),
        Command::User(args) => cli::user::run(args, out),
        Command::Dkim(args) => cli::dkim::run(args, out),
        Command::Tls(args) => cli::tls::run(args, out),
        Command::Demo(args) => cli::demo::run(args, out),
        Command::Sink(args) => cli::sink::run(args, out),
        Command::Eval(args) => cli::eval::run(args, out),
    }
}
