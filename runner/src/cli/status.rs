//! `courser status`: how it is going, once or again and again.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::config::parse_duration;
use crate::control::Client;
use crate::control::protocol::{Request, Response, Status};

use super::connect::ConnectArgs;
use super::queue::{json, unexpected};
use super::{Failure, Outcome, render};

/// `courser status`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the server is.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Again every so often, until interrupted
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "2s", value_parser = parse_duration)]
    pub watch: Option<Duration>,
    /// Most lanes to list, the fullest first; 0 is all
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub lanes: usize,
    /// A JSON object
    #[arg(long)]
    pub json: bool,
}

/// Asks and prints.
///
/// # Errors
/// The server can't be reached.
pub fn run(args: Args, out: &mut dyn Write) -> Outcome {
    let mut client = args.connect.connect()?;
    let clear = args.watch.is_some() && !args.json && std::io::stdout().is_terminal();
    let mut before = None;
    loop {
        let status = ask(&mut client)?;
        if clear {
            // Cursor home, clear the screen.
            write!(out, "\x1b[H\x1b[2J")?;
        }
        if args.json {
            writeln!(out, "{}", json(&status)?)?;
        } else {
            write!(out, "{}", text(&status, before.as_ref(), args.lanes))?;
        }
        out.flush()?;
        let Some(every) = args.watch else {
            return Ok(());
        };
        before = Some(status);
        std::thread::sleep(every.max(Duration::from_millis(100)));
    }
}

fn ask(client: &mut Client) -> Result<Status, Failure> {
    match client.call(&Request::Status)? {
        Response::Status(status) => Ok(*status),
        _ => Err(unexpected()),
    }
}

/// The status as a person reads it; with the one `before`, rates since then.
fn text(status: &Status, before: Option<&Status>, lanes: usize) -> String {
    let Status { totals, gauges, .. } = status;
    let now = status.now;
    let n = render::count;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        text.push_str(&format!("{name:<11}{value}\n"));
    };
    let up = Duration::from_millis(status.server.started.until_ms(now).max(0).unsigned_abs());
    line(
        "courser",
        format!(
            "{} on {}, process {}, up {}, {} shards{}",
            status.server.version,
            status.server.hostname,
            status.server.pid,
            render::rough(up),
            status.shards,
            if status.draining { ", draining" } else { "" },
        ),
    );
    for warning in &status.warnings {
        line("WARNING", render::one_line(warning, 500));
    }
    line(
        "received",
        format!(
            "{} messages, {} deliveries; {} refused",
            n(totals.messages_received),
            n(totals.deliveries_received),
            n(totals.messages_refused)
        ),
    );
    line(
        "ended",
        format!(
            "{} delivered, {} bounced, {} expired, {} suppressed; {} deferrals",
            n(totals.delivered),
            n(totals.bounced),
            n(totals.expired),
            n(totals.suppressed),
            n(totals.deferrals)
        ),
    );
    if let Some(before) = before {
        let seconds = before.now.until_ms(now).max(1) as f64 / 1000.0;
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        line(
            "rates",
            format!(
                "{:.0} deliveries/s in, {:.0}/s out",
                rate(
                    totals.deliveries_received,
                    before.totals.deliveries_received
                ),
                rate(totals.delivered, before.totals.delivered)
            ),
        );
    }
    line(
        "queue",
        format!(
            "{} deliveries: {} ready, {} sending, {} deferred, {} held",
            n(gauges.queued),
            n(gauges.ready),
            n(gauges.in_flight),
            n(gauges.deferred),
            n(gauges.held)
        ),
    );
    line(
        "sessions",
        format!(
            "{} in, {} out",
            n(gauges.intake_sessions),
            n(gauges.delivery_sessions)
        ),
    );
    line(
        "resources",
        format!(
            "{} memory, {} spool, {} free on its disk",
            render::bytes(gauges.memory_bytes),
            render::bytes(gauges.spool_bytes),
            render::bytes(gauges.spool_free_bytes)
        ),
    );
    if let Some(logins) = &status.logins {
        let blocked = (logins.blocked_addresses, logins.blocked_users);
        line(
            "logins",
            format!(
                "{} right, {} wrong, {} refused; blocked now: {} addresses, {} users",
                n(logins.good),
                n(logins.failed),
                n(logins.refused),
                n(blocked.0),
                n(blocked.1)
            ),
        );
    }
    if status.lanes.is_empty() {
        return text;
    }
    let shown = match lanes {
        0 => status.lanes.len(),
        n => n.min(status.lanes.len()),
    };
    text.push('\n');
    text.push_str(&render::lanes(now, &status.lanes[..shown]));
    if shown < status.lanes.len() {
        let more = status.lanes.len() - shown;
        text.push_str(&format!("and {more} more lanes; --lanes 0 lists all\n"));
    }
    text
}
