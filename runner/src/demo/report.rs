//! The end: tables, numbers, and whether every recipient is accounted for.

use std::io::{self, Write};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use super::ledger::{ByClass, Ledger, State, Tally, sum};
use super::progress::grouped;
use super::server::Usage;
use super::submit::Submission;
use super::world::{self, World};
use crate::cli::render;
use crate::sink::Sink;

/// Recipients that are named in one complaint.
const NAMED: usize = 5;

/// All that is known at the end.
#[derive(Debug)]
pub struct Report<'a> {
    /// The providers.
    pub world: &'a World,
    /// What the events say.
    pub ledger: &'a Ledger,
    /// What the receivers counted.
    pub sink: &'a Sink,
    /// What was handed in.
    pub submission: &'a Submission,
    /// What the server used.
    pub usage: &'a Usage,
    /// Most delivery sessions at once.
    pub sessions_peak: u64,
    /// Deliveries that are queued still, by the server's word.
    pub queued: Option<u64>,
    /// From the first submission to the end.
    pub took: Duration,
}

/// What the receivers got, compared with the events.
#[derive(Debug, Default)]
struct Audit {
    /// Deliveries that arrived more than once: so many times too often.
    duplicates: u64,
    open: u64,
    complaints: Vec<String>,
}

impl Report<'_> {
    /// Writes it; whether everyone is accounted for.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<bool> {
        let audit = self.audit();
        writeln!(out, "\n{}\n\n{}\n", self.providers(), self.numbers(&audit))?;
        if audit.complaints.is_empty() {
            writeln!(
                out,
                "Every recipient is accounted for: {} delivered, of which the receivers have each; \
                 {} failed, of which the sender was told each; {} queued; {} duplicates.",
                grouped(self.ledger.delivered()),
                grouped(self.ledger.failed()),
                grouped(audit.open),
                grouped(audit.duplicates),
            )?;
        }
        for complaint in &audit.complaints {
            writeln!(out, "NOT ACCOUNTED FOR: {complaint}")?;
        }
        out.flush()?;
        Ok(audit.complaints.is_empty())
    }

    fn providers(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header([
            "provider",
            "recipients",
            "delivered",
            "over TLS",
            "bounced",
            "expired",
            "deferrals",
            "connections",
            "manners",
        ]);
        let mut all = Tally::default();
        let mut connections = 0;
        for (provider, tally) in self.world.providers.iter().zip(&self.ledger.tallies) {
            let counts = self.sink.receiver(provider.name).map(|r| r.counts());
            let counts = counts.unwrap_or_default();
            connections += counts.connections;
            table.add_row(row(
                provider.name,
                tally,
                counts.connections,
                provider.manners,
            ));
            add(&mut all, tally);
        }
        table.add_row(row("together", &all, connections, ""));
        for column in 1..=7 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    fn numbers(&self, audit: &Audit) -> Table {
        let ledger = self.ledger;
        let mut all = Tally::default();
        ledger.tallies.iter().for_each(|tally| add(&mut all, tally));
        let seconds = |d: Duration| format!("{:.1} s", d.as_secs_f64());
        let rate =
            |n: u64, d: Duration| grouped((n as f64 / d.as_secs_f64().max(0.001)).round() as u64);
        let submission = self.submission;
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        let mut line = |name: &str, text: String| {
            table.add_row([name.to_owned(), text]);
        };
        line(
            "accepted",
            format!(
                "{} recipients in {} messages in {}, {} messages/s; {} handed in again",
                grouped(submission.accepted()),
                grouped(submission.messages()),
                seconds(submission.took()),
                rate(submission.messages(), submission.took()),
                grouped(submission.repeated()),
            ),
        );
        let most = ledger.until(0.9).map(|d| {
            let n = u64::from(self.world.recipients()) * 9 / 10;
            format!(
                "; 90 % had ended after {}, {} deliveries/s",
                seconds(d),
                rate(n, d)
            )
        });
        line(
            "delivered",
            format!("{}{}", grouped(all.delivered), most.unwrap_or_default()),
        );
        line("deferred", because(&all.deferrals, "attempts"));
        line("bounced", because(&all.bounced, "recipients"));
        line("expired", because(&all.expired, "recipients"));
        let queued = |p| ledger.queued.value_at_quantile(p) as f64 / 1000.0;
        line(
            "time in queue",
            format!(
                "p50 {:.3} s, p90 {:.3} s, p99 {:.3} s, longest {:.3} s",
                queued(0.5),
                queued(0.9),
                queued(0.99),
                ledger.queued.max() as f64 / 1000.0
            ),
        );
        line(
            "notifications",
            format!(
                "{} for {} failed deliveries, {} arrived",
                grouped(ledger.notifications()),
                grouped(ledger.notified),
                grouped(self.notified()),
            ),
        );
        line(
            "sessions",
            format!(
                "{} at peak, {} in all, lanes slowed down {} times",
                grouped(self.sessions_peak),
                grouped(self.sink.total().connections),
                grouped(ledger.throttled)
            ),
        );
        let ended = ledger.ended().max(1);
        line(
            "server",
            format!(
                "{} memory at most; {} CPU, {:.0} µs a delivery",
                render::bytes(self.usage.memory_peak),
                seconds(self.usage.cpu),
                self.usage.cpu.as_secs_f64() * 1e6 / ended as f64
            ),
        );
        line("duplicates", grouped(audit.duplicates));
        line("took", seconds(self.took));
        table
    }

    fn notified(&self) -> u64 {
        self.sink
            .receiver(world::SENDER)
            .map_or(0, |r| r.counts().messages)
    }

    /// Compares what the server says with what the receivers got, recipient by recipient.
    fn audit(&self) -> Audit {
        let mut audit = Audit::default();
        let (mut lost, mut unsaid) = (Vec::new(), Vec::new());
        let mut delivered_by_receivers = 0;
        for i in 0..self.world.recipients() {
            let provider = &self.world.providers[self.world.home(i)];
            let address = self.world.address(i);
            let arrived = self
                .sink
                .receiver(provider.name)
                .map_or(0, |r| r.deliveries_to(&address));
            delivered_by_receivers += u64::from(arrived);
            audit.duplicates += u64::from(arrived.saturating_sub(1));
            match self.ledger.state(i) {
                State::Delivered if arrived == 0 => lost.push(address),
                State::Delivered => {}
                State::Open => audit.open += 1,
                // It has it, but the sender was told that it failed.
                _ if arrived > 0 => unsaid.push(address),
                _ => {}
            }
        }
        let mut complain = |holds: bool, what: String| {
            if !holds {
                audit.complaints.push(what);
            }
        };
        let ledger = self.ledger;
        let refused = self.submission.refused();
        let handed_in = self.submission.accepted() + refused.len() as u64;
        complain(
            handed_in == u64::from(self.world.recipients()),
            format!(
                "{handed_in} recipients were handed in of {}",
                self.world.recipients()
            ),
        );
        let refused: Vec<_> = refused
            .iter()
            .map(|(i, reply)| format!("{} ({reply})", self.world.address(*i)))
            .collect();
        complain(refused.is_empty(), some("refused at submission", &refused));
        complain(
            lost.is_empty(),
            some(
                "delivered by the events, and the receivers don't have them",
                &lost,
            ),
        );
        complain(
            unsaid.is_empty(),
            some("failed by the events, and the receivers have them", &unsaid),
        );
        complain(
            ledger.ended_twice.is_empty(),
            some("ended more than once", &ledger.ended_twice),
        );
        complain(
            ledger.unknown.is_empty(),
            some("in the events, and nobody's", &ledger.unknown),
        );
        let receivers = self.sink.total().recipients
            - self
                .sink
                .receiver(world::SENDER)
                .map_or(0, |r| r.counts().recipients);
        complain(
            receivers == delivered_by_receivers,
            format!(
                "the receivers took {receivers} deliveries, {delivered_by_receivers} of them for recipients"
            ),
        );
        complain(
            ledger.lost_events == 0,
            format!("{} events were lost", ledger.lost_events),
        );
        if audit.open > 0 {
            // What the server still has is accounted for; anything else is lost.
            let queued = self.queued.unwrap_or(0);
            complain(
                queued >= audit.open,
                format!(
                    "{} recipients have not ended, and {queued} are queued",
                    audit.open
                ),
            );
        }
        complain(
            ledger.not_notified == 0,
            format!(
                "the sender was not told of {} failures",
                ledger.not_notified
            ),
        );
        complain(
            ledger.notified == ledger.failed(),
            format!(
                "{} failures, and notifications of {}",
                ledger.failed(),
                ledger.notified
            ),
        );
        complain(
            self.notified() == ledger.notifications(),
            format!(
                "{} notifications were sent, and {} arrived",
                ledger.notifications(),
                self.notified()
            ),
        );
        audit
    }
}

fn add(all: &mut Tally, tally: &Tally) {
    all.recipients += tally.recipients;
    all.delivered += tally.delivered;
    all.encrypted += tally.encrypted;
    all.suppressed += tally.suppressed;
    let pairs = [
        (&mut all.bounced, &tally.bounced),
        (&mut all.expired, &tally.expired),
        (&mut all.deferrals, &tally.deferrals),
    ];
    for (all, some) in pairs {
        for (class, n) in some {
            *all.entry(class.clone()).or_default() += n;
        }
    }
}

fn row(name: &str, tally: &Tally, connections: u64, manners: &str) -> [String; 9] {
    [
        name.to_owned(),
        grouped(tally.recipients),
        grouped(tally.delivered),
        grouped(tally.encrypted),
        grouped(sum(&tally.bounced)),
        grouped(sum(&tally.expired)),
        grouped(sum(&tally.deferrals)),
        grouped(connections),
        manners.to_owned(),
    ]
}

/// `12 attempts: 10 busy, 2 greylisted`
fn because(counts: &ByClass, what: &str) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    let total: u64 = counts.iter().map(|(_, n)| **n).sum();
    let each: Vec<_> = counts
        .iter()
        .map(|(class, n)| format!("{} {class}", grouped(**n)))
        .collect();
    match each.is_empty() {
        true => "none".to_owned(),
        false => format!("{} {what}: {}", grouped(total), each.join(", ")),
    }
}

/// `7 what: a, b, …`
fn some(what: &str, who: &[String]) -> String {
    let named = who
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let more = if who.len() > NAMED { ", …" } else { "" };
    format!("{} {what}: {named}{more}", who.len())
}
