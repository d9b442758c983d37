//! `courser check-config`: is this configuration right, and what does it come to?

use std::io::Write;
use std::path::PathBuf;

use courser_core::smtp::sasl::Mechanism;

use crate::config::{self, Config, DEFAULT_PATH, EXAMPLE, When};

use super::{Failure, Outcome};
use crate::login::Loaded;
use crate::net::{clock, tls};
use crate::sign::Keys;

/// `courser check-config`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration
    #[arg(value_name = "FILE", env = "COURSER_CONFIG", default_value = DEFAULT_PATH)]
    pub file: PathBuf,
    /// Print an example with every option, its meaning and its default, and check nothing
    #[arg(long)]
    pub example: bool,
    /// Also print every option with its value
    #[arg(long)]
    pub options: bool,
}

/// A certificate that ends within so long is warned of: 14 days.
const EXPIRES_SOON_S: i64 = 14 * 86_400;

/// Checks, or prints the example.
///
/// # Errors
/// The configuration has mistakes.
pub fn run(args: Args, out: &mut dyn Write) -> Outcome {
    if args.example {
        return Ok(out.write_all(EXAMPLE.as_bytes())?);
    }
    let config = config::load(&args.file).map_err(Failure::from)?;
    let keys = Keys::load(&config.dkim)?;
    let now = clock::wall();
    let certificates = tls::Certificates::load(&config.tls.certificates, now)?;
    tls::servers(&config, now)?;
    tls::Client::load(config.tls.ca_file.as_deref())?;
    let logins = Loaded::load(&config, None)?;
    writeln!(out, "{}: right", args.file.display())?;
    summary(&config, out)?;
    users(&config, &logins, out)?;
    signatures(&config, &keys, out)?;
    for one in &certificates.all {
        let (names, until) = (one.names.join(", "), When(one.not_after));
        writeln!(out, "  speaks TLS as {names} until {until}")?;
        if one.not_after.unix() - now.unix() < EXPIRES_SOON_S {
            let file = one.file.display();
            writeln!(
                out,
                "  warning: {file} expires soon; renew it, then send SIGHUP"
            )?;
        }
    }
    if args.options {
        writeln!(out)?;
        for option in config.options() {
            let Some(value) = &option.value else { continue };
            let mark = if option.default.as_ref() == Some(value) {
                "  (default)"
            } else {
                ""
            };
            writeln!(out, "{} = {value}{mark}", option.path)?;
        }
    }
    Ok(())
}

/// Who may log in, and what would keep him from it.
fn users(config: &Config, logins: &Loaded, out: &mut dyn Write) -> std::io::Result<()> {
    for listener in &config.listeners {
        let Some(auth) = &listener.auth else { continue };
        let Some(users) = logins.users(&auth.users) else {
            continue;
        };
        let offered = users.mechanisms(&auth.mechanisms);
        let names = Mechanism::BEST_FIRST
            .into_iter()
            .filter(|m| m.is_in(offered));
        let names: Vec<&str> = names.map(Mechanism::name).collect();
        let file = users.file().display();
        writeln!(
            out,
            "  {} users of {file} may log in at listener {:?}, with {}",
            users.iter().count(),
            &*listener.name,
            names.join(", ")
        )?;
        let bare: Vec<&str> = users.without_keys().map(|u| &*u.name).take(5).collect();
        if offered.scram_sha_256 && !bare.is_empty() {
            let who = bare.join(", ");
            writeln!(
                out,
                "  warning: SCRAM is offered, which users without its keys can't use: {who}; \
                 `courser user passwd --scram` makes keys, or leave `mechanisms` empty"
            )?;
        }
        if !users.has_decoy() {
            writeln!(
                out,
                "  warning: {file} has no `decoy`, so that the salts of made-up names change at \
                 each start; `courser user add` writes one"
            )?;
        }
    }
    Ok(())
}

fn signatures(config: &Config, keys: &Keys, out: &mut dyn Write) -> std::io::Result<()> {
    let now = clock::wall();
    if keys.is_empty() {
        writeln!(
            out,
            "  signs nothing: there is no DKIM key, see [dkim] in --example"
        )?;
    }
    for key in keys.iter() {
        let when = match (key.is_active(now), key.from, key.until) {
            (true, _, Some(until)) => format!("until {until}"),
            (true, ..) => "now".to_owned(),
            (false, Some(from), _) if now < from.0 => format!("from {from}"),
            _ => "no more".to_owned(),
        };
        let what = key.record_name();
        writeln!(out, "  signs {when} with {what} ({})", key.algorithm())?;
    }
    for warning in crate::tls_reports::warnings(config, keys, now) {
        writeln!(out, "  warning: {warning}")?;
    }
    for stream in &config.streams {
        if let Some(x) = config.dkim.expire_after
            && !keys.is_empty()
            && x <= stream.retry.life
        {
            let (name, x, life) = (&*stream.name, x.as_secs(), stream.retry.life.as_secs());
            writeln!(
                out,
                "  warning: mail of stream {name:?} may be sent after its signatures expired: \
                 dkim.expire_after is {x} s, and the stream's retry.life {life} s"
            )?;
        }
    }
    Ok(())
}

/// What an operator wants to see at a glance: who may send, from where it goes out, where to.
fn summary(config: &Config, out: &mut dyn Write) -> std::io::Result<()> {
    fn list<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
        let all: Vec<String> = all.into_iter().map(|x| x.to_string()).collect();
        if all.is_empty() {
            "nobody".to_owned()
        } else {
            all.join(", ")
        }
    }
    writeln!(out, "  this is {}", config.hostname)?;
    for listener in &config.listeners {
        let at = list(&listener.address);
        let relays = list(&listener.relay_networks);
        writeln!(out, "  listens on {at}, relays for {relays}")?;
    }
    for source in &config.sources {
        let from = match source.address {
            Some(ip) => ip.to_string(),
            None => "the address that the system chooses".to_owned(),
        };
        writeln!(out, "  sends from {from} as {}", source.ehlo)?;
    }
    for route in &config.routes {
        let to = list(&route.to);
        match &route.auth {
            Some(auth) => writeln!(out, "  {} goes to {to} as {}", route.domain, auth.user)?,
            None => writeln!(out, "  {} goes to {to}", route.domain)?,
        }
    }
    writeln!(out, "  keeps mail in {}", config.spool.dir.display())?;
    writeln!(out, "  writes events to {}", config.events.dir.display())?;
    if &*config.hostname == "localhost" {
        let why = "receivers refuse a server that greets with it";
        writeln!(out, "  warning: hostname = \"localhost\": {why}")?;
    }
    Ok(())
}
