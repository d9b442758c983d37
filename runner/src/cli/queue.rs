//! `courser queue`: what waits, why, and what to do with it.

use std::io::Write;

use crate::control::protocol::{
    DeliveryDetail, Filter, PAGE_ROWS_MAX, QueueRow, Request, Response, Time,
};
use crate::control::{Client, ClientError, DeliverySelector};

use super::connect::ConnectArgs;
use super::filter::FilterArgs;
use super::{Failure, Outcome, render};

/// `courser queue`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the server is.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do with the queue.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List deliveries
    List(List),
    /// Everything about a delivery, and why it hasn't gone yet
    Show(Show),
    /// Don't try deliveries until they are released
    Hold(Explained),
    /// Try held deliveries again
    Release(Change),
    /// Try deliveries now instead of at their retry time
    Retry(Change),
    /// End deliveries as bounced and tell their senders
    Bounce(Explained),
    /// End deliveries without telling their senders
    Drop(Change),
}

/// `courser queue list`
#[derive(Debug, clap::Args)]
pub struct List {
    /// Which ones.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Most deliveries to list; 0 is all
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// `courser queue show`
#[derive(Debug, clap::Args)]
pub struct Show {
    /// A delivery, or a message for all of its deliveries
    pub id: DeliverySelector,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// `courser queue hold`, `bounce`
#[derive(Debug, clap::Args)]
pub struct Explained {
    /// Which ones.
    #[command(flatten)]
    pub change: Change,
    /// Why; with `bounce`, what the senders read
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// `courser queue release`, `retry`, `drop`, and what they share with the others
#[derive(Debug, clap::Args)]
pub struct Change {
    /// A delivery, or a message for all of its deliveries
    #[arg(value_name = "ID", conflicts_with = "id")]
    pub which: Option<DeliverySelector>,
    /// Which ones.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Every delivery in the queue
    #[arg(long)]
    pub all: bool,
    /// A JSON object
    #[arg(long)]
    pub json: bool,
}

/// Does it.
///
/// # Errors
/// The server can't be reached, refuses, or has no such delivery.
pub fn run(args: Args, out: &mut dyn Write) -> Outcome {
    let connect = || args.connect.connect();
    match args.command {
        Command::List(list) => run_list(list, &mut connect()?, out),
        Command::Show(show) => run_show(show, &mut connect()?, out),
        Command::Hold(Explained { change, reason }) => {
            let reason = reason.unwrap_or_default();
            let request = |filter| Request::Hold { filter, reason };
            run_change(change, "hold", request, connect, out)
        }
        Command::Release(change) => {
            let request = |filter| Request::Release { filter };
            run_change(change, "release", request, connect, out)
        }
        Command::Retry(change) => {
            let request = |filter| Request::Retry { filter };
            run_change(change, "retry", request, connect, out)
        }
        Command::Bounce(Explained { change, reason }) => {
            let reason = reason.unwrap_or_else(|| "given up by the postmaster".to_owned());
            let request = |filter| Request::Bounce { filter, reason };
            run_change(change, "bounce", request, connect, out)
        }
        Command::Drop(change) => {
            let request = |filter| Request::Drop { filter };
            run_change(change, "drop", request, connect, out)
        }
    }
}

fn run_list(list: List, client: &mut Client, out: &mut dyn Write) -> Outcome {
    let filter = list.filter.filter();
    let most = match list.limit {
        0 => usize::MAX,
        n => n,
    };
    let mut cursor = None;
    let mut listed = 0;
    let mut total;
    let now = Time::now();
    loop {
        let request = Request::QueueList {
            filter: filter.clone(),
            limit: (most - listed).min(PAGE_ROWS_MAX),
            cursor,
        };
        let Response::Queue(page) = client.call(&request)? else {
            return Err(unexpected());
        };
        total = page.total;
        let first = listed == 0;
        listed += page.rows.len();
        if list.json {
            for row in &page.rows {
                writeln!(out, "{}", json(row)?)?;
            }
        } else if !page.rows.is_empty() {
            if !first {
                writeln!(out)?;
            }
            write!(out, "{}", rows(now, &page.rows))?;
        }
        cursor = page.next;
        if cursor.is_none() || listed >= most {
            break;
        }
    }
    if !list.json {
        let of = match total {
            Some(total) => format!(" of {}", render::count(total)),
            None => String::new(),
        };
        let more = match cursor {
            Some(_) => "; --limit 0 lists all",
            None => "",
        };
        writeln!(out, "{}{of} listed{more}", deliveries(listed as u64))?;
    }
    Ok(())
}

fn rows(now: Time, rows: &[QueueRow]) -> String {
    let mut table = render::table(&[
        "id",
        "recipient",
        "state",
        "tries",
        "age",
        "next try",
        "why it waits",
        "last reply",
    ]);
    for row in rows {
        table.add_row([
            row.id.to_string(),
            render::one_line(&row.recipient, 60),
            row.state.word().to_owned(),
            row.attempts.to_string(),
            render::rough(std::time::Duration::from_millis(
                row.received.until_ms(now).max(0).unsigned_abs(),
            )),
            render::next(now, &row.waiting),
            row.waiting.reason.word().to_owned(),
            render::one_line(row.last_reply.as_deref().unwrap_or("-"), 80),
        ]);
    }
    render::align_right(&mut table, &[3]);
    render::lines(&table)
}

fn run_show(show: Show, client: &mut Client, out: &mut dyn Write) -> Outcome {
    let request = Request::QueueShow { id: show.id };
    let Response::Deliveries { deliveries } = client.call(&request)? else {
        return Err(unexpected());
    };
    if deliveries.is_empty() {
        return Err(Failure::not_found(format!(
            "{} is not in the queue: it was delivered, bounced, expired or dropped, or never \
             came in; the event files tell which",
            show.id
        )));
    }
    let now = Time::now();
    for (i, delivery) in deliveries.iter().enumerate() {
        if show.json {
            writeln!(out, "{}", json(delivery)?)?;
            continue;
        }
        if i > 0 {
            writeln!(out)?;
        }
        write!(out, "{}", detail(now, delivery))?;
    }
    Ok(())
}

/// One delivery, a fact a line, first why it waits.
fn detail(now: Time, d: &DeliveryDetail) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        text.push_str(&format!("{name:<14}{}\n", render::one_line(&value, 1000)));
    };
    let when = |at: Time| format!("{at} ({})", render::relative(now, at));
    let row = &d.row;
    line("delivery", row.id.to_string());
    line("to", row.recipient.clone());
    line("state", row.state.word().to_owned());
    line("why it waits", row.waiting.reason.sentence().to_owned());
    if !row.waiting.text.is_empty() {
        line("", row.waiting.text.clone());
    }
    match row.waiting.until {
        Some(at) => line("next try", when(at)),
        None => line("next try", "when that changes".to_owned()),
    }
    if let Some(due) = d.due
        && row.waiting.until != Some(due)
    {
        line("due", when(due));
    }
    line("attempts", row.attempts.to_string());
    if let Some(attempt) = &d.last_attempt {
        line("last attempt", when(attempt.at));
        if let Some(source) = &attempt.source {
            line("  from", source.clone());
        }
        if let Some(peer) = &attempt.peer {
            line("  to", peer.clone());
        }
        line("  reply", attempt.reply.clone());
        if let Some(verdict) = &attempt.verdict {
            line("  means", verdict.clone());
        }
    } else if let Some(reply) = &row.last_reply {
        line("last reply", reply.clone());
    }
    let sender = match row.sender.as_str() {
        "" => "<> (a bounce)",
        sender => sender,
    };
    line("from", sender.to_owned());
    line("received", when(row.received));
    if let Some(client) = &d.client {
        line("  by", client.clone());
    }
    if let Some(expires) = d.expires {
        line("expires", when(expires));
    }
    line("size", render::bytes(row.size));
    for (name, value) in [
        ("tenant", Some(&row.tenant)),
        ("campaign", Some(&row.campaign)),
        ("stream", Some(&row.stream)),
        ("pool", d.pool.as_ref()),
        ("source", row.source.as_ref()),
        ("site", row.site.as_ref()),
        ("provider", row.provider.as_ref()),
    ] {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            line(name, value.clone());
        }
    }
    if !d.hosts.is_empty() {
        line("hosts", d.hosts.join(", "));
    }
    if d.delay_told {
        line("delay", "its sender was told".to_owned());
    }
    if let Some(lane) = &d.lane {
        line(
            "lane",
            format!(
                "{} → {}: {} ready, {} sending, {} of {} connections, {}",
                lane.source,
                lane.site,
                render::count(lane.ready),
                render::count(lane.in_flight),
                lane.connections,
                lane.connections_max,
                lane.message_rate
            ),
        );
    }
    text
}

fn run_change(
    change: Change,
    verb: &str,
    request: impl FnOnce(Filter) -> Request,
    connect: impl FnOnce() -> Result<Client, Failure>,
    out: &mut dyn Write,
) -> Outcome {
    let mut filter = change.filter.filter();
    filter.id = filter.id.or(change.which);
    if filter.is_everything() && !change.all {
        return Err(Failure {
            code: 2,
            message: format!(
                "say which deliveries to {verb}: an id, --domain, --campaign, …, or --all for \
                 every one; nothing was done"
            ),
        });
    }
    if !filter.is_everything() && change.all {
        return Err(Failure {
            code: 2,
            message: "--all means every delivery; leave out the other options, or --all; \
                      nothing was done"
                .into(),
        });
    }
    let Response::Changed { count } = connect()?.call(&request(filter))? else {
        return Err(unexpected());
    };
    if change.json {
        writeln!(
            out,
            "{}",
            serde_json::json!({ "did": verb, "count": count })
        )?;
    } else {
        writeln!(out, "{verb}: {}", deliveries(count))?;
    }
    Ok(())
}

fn deliveries(n: u64) -> String {
    match n {
        1 => "1 delivery".to_owned(),
        n => format!("{} deliveries", render::count(n)),
    }
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|e| Failure::new(e.to_string()))
}

pub(super) fn unexpected() -> Failure {
    ClientError::Unexpected("an answer to another question".into()).into()
}
