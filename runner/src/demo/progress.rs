//! What is shown while it runs: a bar for each provider in a terminal, else a line now and then.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::ledger::{Ledger, sum};
use super::submit::Submission;
use super::world::World;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// The display, on standard error.
#[derive(Debug)]
pub struct Progress {
    bars: Option<Bars>,
    last_line: Duration,
}

#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    submitted: ProgressBar,
    providers: Vec<ProgressBar>,
}

impl Progress {
    /// Bars if standard error is a terminal.
    pub fn new(world: &World) -> Self {
        Self {
            bars: std::io::stderr().is_terminal().then(|| Bars::new(world)),
            last_line: Duration::ZERO,
        }
    }

    /// Shows how things are.
    pub fn show(
        &mut self,
        passed: Duration,
        ledger: &Ledger,
        submission: &Submission,
        queued: Option<u64>,
    ) {
        match &self.bars {
            Some(bars) => bars.show(ledger, submission, queued),
            None if passed - self.last_line >= LINE_EVERY => {
                self.last_line = passed;
                let deferrals: u64 = ledger.tallies.iter().map(|t| sum(&t.deferrals)).sum();
                eprintln!(
                    "{:5.1} s  accepted {}  delivered {}  failed {}  deferrals {}  queued {}",
                    passed.as_secs_f64(),
                    grouped(submission.accepted()),
                    grouped(ledger.delivered()),
                    grouped(ledger.failed()),
                    grouped(deferrals),
                    queued.map_or("?".into(), grouped),
                );
            }
            None => {}
        }
    }

    /// Leaves the terminal to the report.
    pub fn finish(&self) {
        if let Some(bars) = &self.bars {
            // A terminal that is gone needs no clearing.
            let _ = bars.all.clear();
        }
    }
}

impl Bars {
    fn new(world: &World) -> Self {
        let style = |template: &str| {
            let style = ProgressStyle::with_template(template);
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            style.progress_chars("━╸─")
        };
        let all = MultiProgress::new();
        let submitted = all.add(ProgressBar::new(u64::from(world.recipients())));
        submitted.set_style(style("{prefix:>10} {bar:30.green} {pos:>6}/{len:6} {msg}"));
        submitted.set_prefix("submitted");
        let line = style("{prefix:>10} {bar:30.cyan} {pos:>6}/{len:6} {wide_msg}");
        let providers = world.providers.iter().map(|provider| {
            let bar = all.add(ProgressBar::new(0));
            bar.set_style(line.clone());
            bar.set_prefix(provider.name);
            bar
        });
        let providers = providers.collect();
        Self {
            all,
            submitted,
            providers,
        }
    }

    fn show(&self, ledger: &Ledger, submission: &Submission, queued: Option<u64>) {
        self.submitted.set_position(submission.accepted());
        if let Some(queued) = queued {
            self.submitted
                .set_message(format!("{} in the queue", grouped(queued)));
        }
        for (bar, tally) in self.providers.iter().zip(&ledger.tallies) {
            bar.set_length(tally.recipients);
            bar.set_position(tally.ended());
            let mut notes = Vec::new();
            let mut note = |n: u64, what: &str| {
                if n > 0 {
                    notes.push(format!("{} {what}", grouped(n)));
                }
            };
            note(sum(&tally.deferrals), "deferrals");
            note(sum(&tally.bounced), "bounced");
            note(sum(&tally.expired), "expired");
            bar.set_message(notes.join(", "));
        }
    }
}

/// `1234567` as `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let shown: Vec<_> = [0, 999, 1000, 1_234_567].map(grouped).into();
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }
}
