//! `courser tls`: what a delivery would do about TLS.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use courser_core::route::{FixedHost, MxLookup, Plan};

use super::connect::ConnectArgs;
use super::queue::unexpected;
use super::{Failure, Outcome, render};
use crate::config::{self, Config, DEFAULT_PATH};
use crate::control::protocol::{Request, Response};
use crate::net::{ring, tls};
use crate::route::Router;
use crate::route::dns::Dns;
use crate::route::mta_sts::Policies;
use crate::serve::dns_config;
use crate::session::probe::{OfSource, Probed, Prober, Report, Sts};

/// The options of `courser tls`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say what a delivery to a domain would do, and why: its route or its MX hosts, its MTA-STS policy,
    /// what DNSSEC says, TLS and certificates, for each source. No mail is sent
    Probe {
        /// A domain; or a host, as in mx.example.org:25 or [192.0.2.1]:25. A host is spoken to as the first
        /// route that leads there says; without one in SMTP, at port 465 over TLS from the first byte
        target: String,
        /// The stream that the mail would be of: how much TLS it wants, and from which sources it goes.
        /// Left out: of the only one, or of none that says anything, from any source
        #[arg(long)]
        stream: Option<String>,
        /// Which configuration says how
        #[arg(long, default_value = DEFAULT_PATH, env = "COURSER_CONFIG")]
        config: PathBuf,
        /// How long each host has to answer, in seconds
        #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=300))]
        wait: u64,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print what was counted today for TLS reports: a line of JSON for each domain, as it would be
    /// sent
    Report {
        /// Where the server is.
        #[command(flatten)]
        connect: ConnectArgs,
        /// Only about this domain
        #[arg(long)]
        domain: Option<String>,
        /// And send it now, to the domains that ask for reports; what is counted later today makes
        /// another one
        #[arg(long)]
        send: bool,
    },
}

/// Probes.
///
/// # Errors
/// A configuration that can't be used, or a domain to which nothing could be delivered.
pub fn run(args: Args, out: &mut dyn Write) -> Outcome {
    let (target, stream, config, wait, json) = match args.what {
        What::Probe {
            target,
            stream,
            config,
            wait,
            json,
        } => (target, stream, config, wait, json),
        What::Report {
            connect,
            domain,
            send,
        } => return report(&connect, domain, send, out),
    };
    let config = Arc::new(config::load(&config)?);
    let stream = match &stream {
        Some(name) => Some(stream_named(&config, name)?),
        None => None,
    };
    let client = tls::Client::load(config.tls.ca_file.as_deref())?;
    let dns = dns_config(&config)?;
    let report = ring::run(async {
        let prober = Prober {
            config: &config,
            dns: Dns::start(dns, || ())?,
            client: &client,
            patience: Duration::from_secs(wait),
            stream,
        };
        let (name, host) = read_target(&target)?;
        let plan = match host {
            Some(port) => Some(plan_of(&prober.dns, &config, &name, port).await?),
            None => None,
        };
        Ok::<Report, Failure>(prober.probe(&name, plan.as_ref()).await)
    })??;
    if json {
        let text = serde_json::to_string(&report).map_err(|e| Failure::new(e.to_string()))?;
        writeln!(out, "{text}")?;
    } else {
        show(&report, &config, out)?;
    }
    if let Some(error) = report.error {
        return Err(Failure::new(error));
    }
    let waiting = report.sources.iter().filter(|s| !s.delivers);
    let waiting: Vec<&str> = waiting.map(|s| &*s.source).collect();
    match waiting.len() {
        0 => Ok(()),
        n if n == report.sources.len() => Err(Failure::new(format!(
            "no host of {} would get mail",
            report.domain
        ))),
        _ => Err(Failure::new(format!(
            "no host of {} would get mail from {}",
            report.domain,
            waiting.join(", ")
        ))),
    }
}

fn stream_named<'a>(config: &'a Config, name: &str) -> Result<&'a config::Stream, Failure> {
    let found = config.stream_named(name).map(|at| &config.streams[at]);
    found.ok_or_else(|| {
        let names: Vec<&str> = config.streams.iter().map(|s| &*s.name).collect();
        let names = names.join(", ");
        Failure::new(format!("there is no stream {name:?}; there are {names}"))
    })
}

fn report(
    connect: &ConnectArgs,
    domain: Option<String>,
    send: bool,
    out: &mut dyn Write,
) -> Outcome {
    let answer = connect
        .connect()?
        .call(&Request::TlsReport { domain, send })?;
    let Response::TlsReports {
        reports,
        lost,
        sent,
    } = answer
    else {
        return Err(unexpected());
    };
    for report in &reports {
        writeln!(out, "{report}")?;
    }
    if lost > 0 {
        eprintln!("{lost} sessions of today are in no report: there was no room for them");
    }
    let mut failed = 0;
    for one in &sent {
        let to = match &*one.to {
            "" => String::new(),
            to => format!(" to {to}"),
        };
        let cause = match &*one.cause {
            "" => String::new(),
            cause => format!(": {cause}"),
        };
        eprintln!("{}: {}{to}{cause}", one.domain, one.result);
        failed += usize::from(matches!(&*one.result, "failed" | "given-up"));
    }
    match failed {
        0 => Ok(()),
        n => Err(Failure::new(format!("{n} were not sent"))),
    }
}

/// A domain; or a host, where a port or brackets say that it is one.
fn read_target(target: &str) -> Result<(String, Option<u16>), Failure> {
    let wrong = || {
        Failure::new(format!(
            "{target:?} is neither a domain nor a host: write example.org, mx.example.org:25 or \
             [192.0.2.1]:25"
        ))
    };
    let (name, port) = match target.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && (!name.contains(':') || name.ends_with(']')) => {
            (name, Some(port.parse().map_err(|_| wrong())?))
        }
        Some(_) if !target.ends_with(']') => return Err(wrong()),
        _ => (target, None),
    };
    match (name.strip_prefix('['), port) {
        (Some(_), port) => Ok((name.to_owned(), Some(port.unwrap_or(25)))),
        (None, port) => Ok((name.to_owned(), port)),
    }
}

async fn plan_of(
    dns: &std::rc::Rc<Dns>,
    config: &Arc<Config>,
    name: &str,
    port: u16,
) -> Result<Plan, Failure> {
    let inner = name.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = inner.parse::<IpAddr>() {
        return Ok(Plan::fixed(SocketAddr::new(ip, port)));
    }
    let host = courser_core::dns::Name::parse(name)
        .map_err(|e| Failure::new(format!("{name:?} is no name of a host: {e}")))?;
    let options = Arc::new(crate::route::options(config, &[]));
    let fixed = FixedHost::Name {
        name: host,
        port,
        preference: 0,
    };
    let router = Router::new(
        dns.clone(),
        options.clone(),
        config.clone(),
        Policies::none(),
    );
    let lookup = MxLookup::fixed(name, [fixed], options, 0);
    let plan = router.drive(lookup).await;
    plan.map_err(|error| Failure::new(error.text))
}

fn show(report: &Report, config: &Config, out: &mut dyn Write) -> std::io::Result<()> {
    let dnssec = match (config.dns.trusted, report.secure) {
        (true, true) => "DNSSEC vouches for its MX",
        (true, false) => "DNSSEC doesn't vouch for its MX",
        (false, _) => "DNSSEC is not looked at (dns.trusted = false)",
    };
    match &*report.level {
        "" => writeln!(out, "{}:", report.domain)?,
        level => writeln!(
            out,
            "{}: TLS is {level} here ({}); {dnssec}",
            report.domain, report.asked_by
        )?,
    }
    if let Some(sts) = &report.mta_sts {
        show_policy(sts, out)?;
    }
    if let Some(error) = &report.error {
        let fate = match report.bounces {
            true => "bounced",
            false => "deferred",
        };
        return writeln!(out, "  mail: {fate}: {error}");
    }
    show_way(report, out)?;
    show_fates(report, out)?;
    let mut table = render::table(&[
        "pref",
        "host",
        "address",
        "tls",
        "certificate",
        "until",
        "authorities",
        "dane",
    ]);
    for host in &report.hosts {
        let leaf = host.chain.first();
        let dash = |text: &str| match text {
            "" => "-".to_owned(),
            text => text.to_owned(),
        };
        table.add_row([
            host.preference.to_string(),
            host.host.clone(),
            host.address.map_or("-".to_owned(), |a| a.to_string()),
            dash(&host.version),
            leaf.map_or("-".to_owned(), |l| dash(&l.names.join(" "))),
            leaf.map_or("-".to_owned(), |l| dash(&l.not_after)),
            dash(short(&host.authorities)),
            dash(short(&host.dane)),
        ]);
    }
    write!(out, "{}", render::lines(&table))?;
    for host in &report.hosts {
        detail(host, out)?;
    }
    Ok(())
}

fn show_policy(sts: &Sts, out: &mut dyn Write) -> std::io::Result<()> {
    if !sts.trouble.is_empty() {
        return writeln!(
            out,
            "  its MTA-STS policy can't be fetched: {}",
            sts.trouble
        );
    }
    writeln!(
        out,
        "  its MTA-STS policy: {} for {} s; {}",
        sts.mode,
        sts.max_age_s,
        sts.mx.join(", ")
    )?;
    match sts.not_allowed.is_empty() {
        true => Ok(()),
        false => writeln!(out, "  which doesn't allow {}", sts.not_allowed.join(", ")),
    }
}

fn show_way(report: &Report, out: &mut dyn Write) -> std::io::Result<()> {
    let mut how = Vec::new();
    if report.lmtp {
        how.push("LMTP");
    }
    if report.implicit_tls {
        how.push("TLS from the first byte");
    }
    if report.login {
        how.push("a login, which is left out here");
    }
    match (&*report.route, how.join(", ")) {
        ("", how) if how.is_empty() => Ok(()),
        ("", how) => writeln!(out, "  {how}, because of its port"),
        (route, how) if how.is_empty() => writeln!(out, "  by the route for {route}"),
        (route, how) => writeln!(out, "  by the route for {route}: {how}"),
    }
}

/// What becomes of mail: in one line, unless it depends on the source.
fn show_fates(report: &Report, out: &mut dyn Write) -> std::io::Result<()> {
    let whose = match &*report.stream {
        "" => "mail".to_owned(),
        stream => format!("mail of stream {stream}"),
    };
    let all = &report.sources;
    let alike = |a: &OfSource, b: &OfSource| (&a.level, &a.verdict) == (&b.level, &b.verdict);
    match &all[..] {
        [first, others @ ..] if others.iter().all(|one| alike(first, one)) => {
            writeln!(out, "  {whose}: {}", first.verdict)?;
        }
        all => {
            for one in all {
                writeln!(
                    out,
                    "  {whose} from source {}: {} (TLS is {}, {})",
                    one.source, one.verdict, one.level, one.asked_by
                )?;
            }
        }
    }
    for one in &report.streams {
        writeln!(
            out,
            "  not looked at: mail of stream {0}, for which TLS is {1}; --stream {0} does",
            one.stream, one.level
        )?;
    }
    Ok(())
}

/// `valid`, or that it isn't: why stands below.
fn short(said: &str) -> &str {
    match said {
        "" | "valid" => said,
        _ => "WRONG",
    }
}

fn detail(host: &Probed, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "\n{}: {}", host.host, host.verdict)?;
    if !host.cipher.is_empty() {
        writeln!(
            out,
            "  {} with {} and {}",
            host.version, host.cipher, host.group
        )?;
    }
    for (what, said) in [
        ("authorities", &host.authorities),
        ("dane", &host.dane),
        ("trouble", &host.trouble),
    ] {
        if !said.is_empty() {
            writeln!(out, "  {what}: {said}")?;
        }
    }
    for record in &host.tlsa {
        writeln!(out, "  TLSA {record}")?;
    }
    for certificate in &host.chain {
        writeln!(out, "  certificate of {:?}", certificate.subject)?;
        writeln!(
            out,
            "    signed by {:?}, valid {} to {}",
            certificate.issuer, certificate.not_before, certificate.not_after
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (target, read) in [
            ("example.org", Some(("example.org", None))),
            ("mx.example.org:25", Some(("mx.example.org", Some(25)))),
            ("[192.0.2.1]", Some(("[192.0.2.1]", Some(25)))),
            ("[2001:db8::1]:2525", Some(("[2001:db8::1]", Some(2525)))),
            ("mx.example.org:smtp", None),
            ("2001:db8::1", None),
            (":25", None),
        ] {
            let got = read_target(target).ok();
            let got = got.as_ref().map(|(name, port)| (&**name, *port));
            assert_eq!(got, read, "{target}");
        }
    }
}
