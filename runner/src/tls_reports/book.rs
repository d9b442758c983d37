//! Days: what was counted, which reports were made of it, and what became of them.
//!
//! | file in `SPOOL_DIR/tls-reports/` | holds |
//! |---|---|
//! | `20270115.results` | a line with what was lost, then for each domain its name, how many reports about it were sealed, and its results as the JSON of a report |
//! | `20270115/DOMAIN` | the reports about a domain that were sealed, where they go, and what came of that |
//!
//! Files are written beside their place and renamed, so that they are whole or not there. A report is
//! sealed before it is sent: its results leave the day, so that none is sent twice, and its text and
//! id stay the same however often it is tried and whatever ends in between. After a crash, results
//! that are older than a sealed report are in it, and are dropped.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use courser_core::dns::Name;
use courser_core::route::tlsrpt::{Collector, Report, Reporter, Sts, day_of};
use courser_core::time::Wall;
use serde::{Deserialize, Serialize};

use super::Counted;
use crate::route::mta_sts::SitePolicy;

const DAY_S: i64 = 86_400;
/// A report is tried for so long (RFC 8460 5.5), and a day is known for twice as long.
pub const TRY_S: i64 = DAY_S;
/// Days that are known at the same time: today, those that are being reported, and one more where
/// the clock is set forward.
const DAYS_MAX: usize = 4;
/// Waits between attempts, seconds; the last one repeats.
const WAITS_S: [i64; 5] = [300, 900, 3600, 7200, 14_400];

/// What became of a report at one of its destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// It is to be sent.
    Waiting,
    /// It is being put into the spool as this message. If it is there after a crash, it was sent.
    Queueing {
        /// The message.
        message: u64,
    },
    /// It was sent: it is in the spool, or was taken by HTTPS.
    Sent,
    /// Nobody took it in time, or nobody can.
    GivenUp,
}

/// Where a report goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// `mailto:` or `https:`.
    pub uri: String,
    /// What came of it.
    #[serde(flatten)]
    pub state: State,
    /// Attempts that failed.
    #[serde(default)]
    pub attempts: u32,
    /// No attempt before this, Unix time in seconds.
    #[serde(default)]
    pub next: i64,
}

/// A report that has its text and its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Its id.
    pub id: String,
    /// When that was, Unix time in seconds.
    pub sealed: i64,
    /// Sessions that succeeded.
    pub successes: u64,
    /// Sessions that failed.
    pub failures: u64,
    /// Its JSON; empty when nobody waits for it any more.
    pub json: String,
    /// Where it goes.
    pub to: Vec<Destination>,
}

impl Sealed {
    fn is_over(&self) -> bool {
        let over = |d: &Destination| matches!(d.state, State::Sent | State::GivenUp);
        self.to.iter().all(over)
    }
}

#[derive(Debug)]
struct Day {
    results: Collector,
    /// Results that there was no room for.
    lost: u64,
    changed: bool,
    sealed: BTreeMap<Name, Vec<Sealed>>,
}

impl Day {
    fn new(day: Wall) -> Self {
        Self {
            results: Collector::new(day),
            lost: 0,
            changed: false,
            sealed: BTreeMap::new(),
        }
    }
}

/// All that is known.
#[derive(Debug)]
pub struct Book {
    dir: PathBuf,
    days: BTreeMap<Wall, Day>,
}

/// A report that has to be sent now.
#[derive(Clone, Debug)]
pub struct Open {
    /// Which of its domain's.
    pub part: usize,
    /// Which of its destinations.
    pub destination: usize,
    /// Where that is.
    pub uri: String,
    /// Attempts that failed.
    pub attempts: u32,
    /// The report.
    pub report: Sealed,
}

/// `20270115`
fn stamp(day: Wall) -> String {
    let text = jiff::Timestamp::from_second(day.unix()).map(|t| t.strftime("%Y%m%d").to_string());
    text.unwrap_or_else(|_| day.unix().to_string())
}

fn day_of_stamp(stamp: &str) -> Option<Wall> {
    let date = jiff::civil::Date::strptime("%Y%m%d", stamp).ok()?;
    let at = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Wall::from_unix(at.timestamp().as_second()))
}

/// For what is stored; who reports doesn't matter there.
fn nobody(submitter: &Name) -> Reporter<'_> {
    Reporter {
        organization: "",
        contact: "",
        submitter,
    }
}

impl Book {
    /// Reads what is kept beside the spool in `spool`; what can't be read is logged. `is_spooled`
    /// says whether a message is in the spool.
    pub fn load(spool: &Path, now: Wall, is_spooled: impl Fn(u64) -> bool) -> Self {
        let mut book = Self {
            dir: spool.join("tls-reports"),
            days: BTreeMap::new(),
        };
        let entries = match fs::read_dir(&book.dir) {
            Ok(entries) => entries,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    let dir = book.dir.display();
                    tracing::warn!(%error, %dir, "the TLS reports that were being made can't be read; they begin anew");
                }
                return book;
            }
        };
        let mut results = Vec::new();
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            match name.strip_suffix(".results") {
                Some(stamp) => results.extend(day_of_stamp(stamp).map(|day| (day, path))),
                None => {
                    if let Some(day) = day_of_stamp(&name) {
                        book.load_sealed(day, &path, &is_spooled);
                    }
                }
            }
        }
        // They are dropped where a sealed report has them.
        for (day, path) in results {
            if let Err(error) = book.load_results(day, &path) {
                tracing::warn!(%error, file = %path.display(), "results for TLS reports can't be read, and are not reported");
            }
        }
        book.forget_old(now);
        book
    }

    fn load_results(&mut self, at: Wall, path: &Path) -> io::Result<()> {
        let day = self.days.entry(at).or_insert_with(|| Day::new(at));
        let mut lines = BufReader::new(File::open(path)?).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        day.lost = first
            .strip_prefix("lost ")
            .and_then(|n| n.parse().ok())
            .ok_or_else(|| io::Error::other("its first line is not \"lost N\""))?;
        for line in lines {
            let line = line?;
            let wrong = || io::Error::other(format!("this is no domain's results: {line:.80}"));
            let mut words = line.splitn(3, ' ');
            let (Some(domain), Some(parts), Some(json)) =
                (words.next(), words.next(), words.next())
            else {
                return Err(wrong());
            };
            let (Ok(domain), Ok(parts)) = (Name::parse(domain), parts.parse::<usize>()) else {
                return Err(wrong());
            };
            if day.sealed.get(&domain).map_or(0, Vec::len) > parts {
                continue;
            }
            let report = Report::read(json.as_bytes()).map_err(|_| wrong())?;
            day.results
                .add_report(&domain, &report)
                .map_err(|_| wrong())?;
        }
        Ok(())
    }

    fn load_sealed(&mut self, at: Wall, dir: &Path, is_spooled: &impl Fn(u64) -> bool) {
        let day = self.days.entry(at).or_insert_with(|| Day::new(at));
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if name.starts_with('.') {
                // Was being written when the server ended.
                let _ = fs::remove_file(&path);
                continue;
            }
            let read = fs::read(&path).map_err(|e| e.to_string());
            let read = read.and_then(|text| {
                serde_json::from_slice::<Vec<Sealed>>(&text).map_err(|e| e.to_string())
            });
            let (mut sealed, domain) = match (read, Name::parse(&name)) {
                (Ok(sealed), Ok(domain)) => (sealed, domain),
                (Err(error), _) => {
                    tracing::warn!(%error, file = %path.display(), "this is no TLS report; it is passed over");
                    continue;
                }
                _ => continue,
            };
            let mut changed = false;
            for to in sealed.iter_mut().flat_map(|s| &mut s.to) {
                if let State::Queueing { message } = to.state {
                    changed = true;
                    to.state = match is_spooled(message) {
                        true => State::Sent,
                        false => State::Waiting,
                    };
                }
            }
            if changed && let Err(error) = keep(&path, &sealed) {
                tracing::warn!(%error, file = %path.display(), "a TLS report can't be written");
            }
            day.sealed.insert(domain, sealed);
        }
    }

    /// Counts these, and those that were lost.
    pub fn add(&mut self, results: Vec<Counted>, lost: u64, now: Wall) {
        if lost > 0 {
            let day = day_of(now);
            let day = self.days.entry(day).or_insert_with(|| Day::new(day));
            day.lost = day.lost.saturating_add(lost);
            day.changed = true;
        }
        for one in results {
            let sts = one.sts.as_ref();
            let sts = sts.map_or(Sts::Without, SitePolicy::for_report);
            let (policy, failure) = one.session.result(&one.domain, sts);
            let at = day_of(one.at);
            let day = self.days.entry(at).or_insert_with(|| Day::new(at));
            // It is of this day.
            let _ = day
                .results
                .add(one.at, &one.domain, &policy, failure.as_ref());
            day.changed = true;
        }
        self.forget_old(now);
    }

    /// Forgets days that are long over, and their files. Where a clock was wrong for a while, its
    /// days go first.
    fn forget_old(&mut self, now: Wall) {
        let today = day_of(now);
        while let Some((&day, _)) = self.days.first_key_value() {
            let old = day.plus_s(DAY_S + 2 * TRY_S) <= now;
            if !old && self.days.len() <= DAYS_MAX {
                break;
            }
            // Those that lie in the future are of no use sooner than those of yesterday.
            let gone = match self.days.last_key_value() {
                Some((&last, _)) if !old && last > today.plus_s(DAY_S) => last,
                _ => day,
            };
            self.days.remove(&gone);
            let _ = fs::remove_file(self.results_file(gone));
            let _ = fs::remove_dir_all(self.dir.join(stamp(gone)));
        }
    }

    fn results_file(&self, day: Wall) -> PathBuf {
        self.dir.join(format!("{}.results", stamp(day)))
    }

    /// Writes the results of all days that have changed.
    ///
    /// # Errors
    /// The disk's; it is tried again the next time.
    pub fn save(&mut self) -> io::Result<()> {
        let changed = self.days.iter().filter(|(_, day)| day.changed);
        let changed: Vec<Wall> = changed.map(|(at, _)| *at).collect();
        for at in changed {
            self.save_day(at)?;
        }
        Ok(())
    }

    fn save_day(&mut self, at: Wall) -> io::Result<()> {
        let file = self.results_file(at);
        fs::create_dir_all(&self.dir)?;
        let Some(day) = self.days.get_mut(&at) else {
            return Ok(());
        };
        let submitter = Name::root();
        write_whole(&file, |out| {
            writeln!(out, "lost {}", day.lost)?;
            for domain in day.results.domains() {
                if let Some(report) = day.results.report(domain, &nobody(&submitter)) {
                    let parts = day.sealed.get(domain).map_or(0, Vec::len);
                    writeln!(out, "{domain} {parts} {}", report.to_json())?;
                }
            }
            Ok(())
        })?;
        day.changed = false;
        Ok(())
    }

    /// Results that there was no room for on the day that `at` lies in.
    pub fn lost(&self, at: Wall) -> u64 {
        let day = self.days.get(&day_of(at));
        day.map_or(0, |day| day.lost.saturating_add(day.results.unreported()))
    }

    /// The report about `domain` of what was counted on a day and not sealed, as it is now.
    pub fn report(&self, day: Wall, domain: &Name, reporter: &Reporter<'_>) -> Option<Report> {
        self.days.get(&day)?.results.report(domain, reporter)
    }

    /// Whether something was counted of `domain` on a day and isn't sealed.
    pub fn has(&self, day: Wall, domain: &Name) -> bool {
        let day = self.days.get(&day);
        day.is_some_and(|day| day.results.has(domain))
    }

    /// Days, and domains that something was counted of and isn't sealed, in order.
    pub fn unsealed(&self) -> impl Iterator<Item = (Wall, &Name)> {
        self.days
            .iter()
            .flat_map(|(at, day)| day.results.domains().map(|domain| (*at, domain)))
    }

    /// Days, and domains about which a report is to be sent now, in order.
    pub fn waiting(&self, now: Wall) -> impl Iterator<Item = (Wall, &Name)> {
        let waits = move |d: &Destination| d.state == State::Waiting && d.next <= now.unix();
        self.days.iter().flat_map(move |(at, day)| {
            let domains = day.sealed.iter().filter(move |(_, sealed)| {
                let mut to = sealed.iter().flat_map(|s| &s.to);
                to.any(waits)
            });
            domains.map(|(domain, _)| (*at, domain))
        })
    }

    /// The domain wants no report: what was counted is forgotten.
    pub fn forget(&mut self, day: Wall, domain: &Name) {
        if let Some(day) = self.days.get_mut(&day) {
            day.results.forget(domain);
            day.changed = true;
        }
    }

    /// Makes a report of what was counted of `domain`, for these destinations, and keeps it. Its id is
    /// one of its own.
    ///
    /// # Errors
    /// The disk's; nothing has changed then.
    pub fn seal(
        &mut self,
        at: Wall,
        domain: &Name,
        reporter: &Reporter<'_>,
        uris: impl IntoIterator<Item = String>,
        now: Wall,
    ) -> io::Result<()> {
        let Some(day) = self.days.get_mut(&at) else {
            return Ok(());
        };
        let Some(mut report) = day.results.report(domain, reporter) else {
            return Ok(());
        };
        let before = day.sealed.get(domain).map_or(0, Vec::len);
        if before > 0
            && let Some((left, right)) = report.id.split_once('@')
        {
            report.id = format!("{left}.{}@{right}", before + 1);
        }
        // Of a day that isn't over it can't say more.
        report.end = report.end.map(|end| end.min(now));
        let sum = |count: fn(&courser_core::route::tlsrpt::PolicyReport) -> u64| {
            report
                .policies
                .iter()
                .map(count)
                .fold(0, u64::saturating_add)
        };
        let to = uris.into_iter().map(|uri| Destination {
            uri,
            state: State::Waiting,
            attempts: 0,
            next: now.unix(),
        });
        let sealed = Sealed {
            id: report.id.clone(),
            sealed: now.unix(),
            successes: sum(|p| p.successes),
            failures: sum(|p| p.failures),
            json: report.to_json(),
            to: to.collect(),
        };
        day.sealed.entry(domain.clone()).or_default().push(sealed);
        if let Err(error) = self.keep(at, domain) {
            if let Some(sealed) = self
                .days
                .get_mut(&at)
                .and_then(|day| day.sealed.get_mut(domain))
            {
                sealed.pop();
            }
            return Err(error);
        }
        // Results that are written with fewer parts sealed than there are count for nothing, so
        // the next turn of the others writes this one too.
        self.forget(at, domain);
        Ok(())
    }

    /// What is to be sent about `domain` now.
    pub fn open(&self, day: Wall, domain: &Name, now: Wall) -> Vec<Open> {
        let sealed = self.days.get(&day).and_then(|day| day.sealed.get(domain));
        let mut open = Vec::new();
        for (part, report) in sealed.into_iter().flatten().enumerate() {
            for (destination, to) in report.to.iter().enumerate() {
                if to.state == State::Waiting && to.next <= now.unix() {
                    open.push(Open {
                        part,
                        destination,
                        uri: to.uri.clone(),
                        attempts: to.attempts,
                        report: report.clone(),
                    });
                }
            }
        }
        open
    }

    /// Notes what became of a report at a destination.
    ///
    /// # Errors
    /// The disk's; it is noted all the same, until a restart.
    pub fn note(&mut self, day: Wall, domain: &Name, open: &Open, state: State) -> io::Result<()> {
        let parts = self.days.get_mut(&day).map(|day| &mut day.sealed);
        let parts = parts.and_then(|sealed| sealed.get_mut(domain));
        let Some(sealed) = parts.and_then(|parts| parts.get_mut(open.part)) else {
            return Ok(());
        };
        if let Some(to) = sealed.to.get_mut(open.destination) {
            to.state = state;
        }
        if sealed.is_over() {
            sealed.json = String::new();
        }
        self.keep(day, domain)
    }

    /// An attempt failed: there will be another one, or it is given up. Gives what it is now.
    ///
    /// # Errors
    /// The disk's; it is noted all the same, until a restart.
    pub fn failed(
        &mut self,
        day: Wall,
        domain: &Name,
        open: &Open,
        now: Wall,
    ) -> io::Result<State> {
        let wait = WAITS_S[(open.attempts as usize).min(WAITS_S.len() - 1)];
        let next = now.unix().saturating_add(wait);
        let state = match next < open.report.sealed.saturating_add(TRY_S) {
            true => State::Waiting,
            false => State::GivenUp,
        };
        let parts = self.days.get_mut(&day).map(|day| &mut day.sealed);
        let parts = parts.and_then(|sealed| sealed.get_mut(domain));
        if let Some(to) = parts
            .and_then(|parts| parts.get_mut(open.part))
            .and_then(|sealed| sealed.to.get_mut(open.destination))
        {
            to.attempts = to.attempts.saturating_add(1);
            to.next = next;
        }
        self.note(day, domain, open, state.clone())?;
        Ok(state)
    }

    fn keep(&self, at: Wall, domain: &Name) -> io::Result<()> {
        let sealed = self.days.get(&at).and_then(|day| day.sealed.get(domain));
        let Some(sealed) = sealed.filter(|_| domain.is_hostname()) else {
            return Err(io::Error::other("this is no name of a host"));
        };
        let dir = self.dir.join(stamp(at));
        fs::create_dir_all(&dir)?;
        keep(&dir.join(domain.as_str()), sealed)
    }
}

fn keep(file: &Path, sealed: &[Sealed]) -> io::Result<()> {
    write_whole(file, |out| Ok(serde_json::to_writer(out, sealed)?))
}

/// Writes a file so that it is whole or as it was.
fn write_whole(
    file: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    // One at a time: the book is locked.
    let beside = file.with_file_name(".new");
    let mut out = BufWriter::new(File::create(&beside)?);
    write(&mut out)?;
    // Or a power failure leaves an empty file.
    out.into_inner().map_err(|e| e.into_error())?.sync_data()?;
    fs::rename(&beside, file)
}

#[cfg(test)]
mod tests;
