//! Sends reports, on the control plane: each domain's at its own time after the day has ended, to all
//! destinations that its record names, with several attempts over a day (RFC 8460 5.5).

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use courser_core::dns::Name;
use courser_core::mail::address::Mailbox;
use courser_core::route::Published;
use courser_core::route::tlsrpt::{
    Report, ReportMail, Reporter, day_of, gzip, published, question,
};
use courser_core::time::Wall;
use serde_json::Value;

use super::book::{Book, Open, State};
use crate::config::TlsReports;
use crate::control::MessageId;
use crate::control::protocol::TlsReportSent;
use crate::events::{self, Event, EventKind};
use crate::feedback::own::{NotQueued, OwnMail};
use crate::net::clock;
use crate::net::https;
use crate::route;
use crate::shard::Shared;
use crate::spool::{EnvelopeFields, RecipientFields};

/// How often it is looked at what there is to do.
const LOOK: Duration = Duration::from_secs(1);
/// How often what was counted is written down: a crash loses no more.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// Domains that are dealt with at the same time.
const AT_ONCE: usize = 16;
/// A domain whose record can't be found out is asked again after this, seconds.
const ASK_AGAIN_S: i64 = 1800;
/// How long one HTTPS destination may take.
const HTTPS_MAX: Duration = Duration::from_secs(60);
/// Bytes of an answer by HTTPS that are looked at.
const ANSWER_MAX: usize = 4096;
/// Reports that one request on the control socket shows.
const SHOWN_MAX: usize = 10_000;
/// The media type of a report (RFC 8460 6.5).
const MEDIA_TYPE: &str = "application/tlsrpt+gzip";
const DAY_S: i64 = 86_400;

/// A day, and a domain.
type Case = (Wall, Name);

/// Where reports are made and sent.
pub struct Desk {
    book: Arc<Mutex<Book>>,
    /// Cases that somebody deals with.
    busy: Mutex<HashSet<Case>>,
    /// Cases whose record could not be found out, and when to ask again.
    again: Mutex<HashMap<Case, Wall>>,
}

/// Somebody deals with a case until this is dropped.
struct Turn<'a>(&'a Desk, Case);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.0.busy).remove(&self.1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reporter<'a>(config: &'a TlsReports, submitter: &'a Name) -> Reporter<'a> {
    Reporter {
        organization: &config.organization,
        contact: &config.contact,
        submitter,
    }
}

impl Desk {
    /// With what is known from before.
    pub fn new(book: Book) -> Self {
        Self {
            book: Arc::new(Mutex::new(book)),
            busy: Mutex::default(),
            again: Mutex::default(),
        }
    }

    /// Works until the server ends.
    pub async fn run(self: Arc<Self>, shared: Arc<Shared>) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut saved = tokio::time::Instant::now();
        loop {
            looks.tick().await;
            self.take_in(&shared).await;
            if saved.elapsed() >= SAVE_EVERY {
                saved = tokio::time::Instant::now();
                self.save().await;
            }
            if shared.config().tls.report.enabled && !shared.is_draining() {
                self.send_due(&shared).await;
            }
        }
    }

    /// The server ends, and its shards have: what they brought is written down.
    pub fn finish(&self, shared: &Shared) {
        let (results, lost) = shared.tls_results.take();
        let mut book = lock(&self.book);
        book.add(results, lost, clock::wall());
        complain(book.save());
    }

    /// Does something with the book where waiting for a disk keeps nobody up.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Book) -> T + Send + 'static,
    ) -> Option<T> {
        let book = self.book.clone();
        let done = tokio::task::spawn_blocking(move || work(&mut lock(&book))).await;
        done.ok()
    }

    async fn take_in(&self, shared: &Shared) {
        let (results, lost) = shared.tls_results.take();
        if !results.is_empty() || lost > 0 {
            let now = clock::wall();
            self.with(move |book| book.add(results, lost, now)).await;
        }
    }

    async fn save(&self) {
        self.with(|book| complain(book.save())).await;
    }

    async fn send_due(self: &Arc<Self>, shared: &Arc<Shared>) {
        let (now, config) = (clock::wall(), shared.config());
        let room = AT_ONCE.saturating_sub(lock(&self.busy).len());
        if room == 0 {
            return;
        }
        let desk = self.clone();
        let due = self.with(move |book| {
            let (busy, again) = (lock(&desk.busy), lock(&desk.again));
            let report = &config.tls.report;
            let unsealed = book.unsealed().filter(|(day, domain)| {
                due_at(report, *day, domain) <= now
                    && again
                        .get(&(*day, (*domain).clone()))
                        .is_none_or(|at| *at <= now)
            });
            let all = unsealed.chain(book.waiting(now));
            let all = all.map(|(day, domain)| (day, domain.clone()));
            let free: Vec<Case> = all.filter(|case| !busy.contains(case)).take(room).collect();
            free
        });
        for (day, domain) in due.await.unwrap_or_default() {
            let (desk, shared) = (self.clone(), shared.clone());
            tokio::spawn(async move { desk.deal_with(&shared, day, &domain).await });
        }
    }

    fn turn(&self, case: Case) -> Option<Turn<'_>> {
        let mine = lock(&self.busy).insert(case.clone());
        mine.then(|| Turn(self, case))
    }

    /// Makes the report about a domain, if it wants one, and sends what is to be sent now.
    async fn deal_with(
        &self,
        shared: &Arc<Shared>,
        day: Wall,
        domain: &Name,
    ) -> Vec<TlsReportSent> {
        let Some(_turn) = self.turn((day, domain.clone())) else {
            return Vec::new();
        };
        let asked = self.ask_and_seal(shared, day, domain).await;
        let mut all: Vec<_> = asked.into_iter().collect();
        let (name, now) = (domain.clone(), clock::wall());
        let open = self.with(move |book| book.open(day, &name, now)).await;
        for open in open.unwrap_or_default() {
            all.push(self.send(shared, day, domain, &open).await);
        }
        all
    }

    /// Asks whether the domain wants a report, and makes it then; says so if it doesn't.
    async fn ask_and_seal(
        &self,
        shared: &Arc<Shared>,
        day: Wall,
        domain: &Name,
    ) -> Option<TlsReportSent> {
        let config = shared.config();
        let said = |result: &str, cause: String| {
            Some(TlsReportSent {
                domain: domain.to_string(),
                to: String::new(),
                report: String::new(),
                result: result.to_owned(),
                cause,
            })
        };
        let name = domain.clone();
        let there = self.with(move |book| book.has(day, &name));
        if there.await != Some(true) {
            return None;
        }
        let record = match question(domain) {
            Ok(question) => match shared.ask_dns(question).await {
                Some(answer) => published(&answer.outcome),
                None => return None,
            },
            Err(_) => Published::Nothing,
        };
        let (name, now) = (domain.clone(), clock::wall());
        let is_over = day.plus_s(DAY_S) <= now;
        let none = match record {
            Published::Record(record) => {
                let mut uris: Vec<String> = Vec::new();
                for uri in &record.rua {
                    let uri = uri.as_str().to_owned();
                    let is_mail = uri
                        .get(..7)
                        .is_some_and(|s| s.eq_ignore_ascii_case("mailto:"));
                    if (is_mail || config.tls.report.https) && !uris.contains(&uri) {
                        uris.push(uri);
                    }
                }
                if uris.is_empty() {
                    "it wants reports by HTTPS, and tls.report.https is false".to_owned()
                } else {
                    let submitter = submitter(&config.tls.report);
                    let sealed = self.with(move |book| {
                        let reporter = reporter(&config.tls.report, &submitter);
                        book.seal(day, &name, &reporter, uris, now)
                    });
                    return match sealed.await {
                        Some(Err(error)) => {
                            let cause = format!("it can't be written down: {error}");
                            complain(Err(error));
                            self.ask_again(day, domain, now.plus_s(ASK_AGAIN_S));
                            said("failed", cause)
                        }
                        _ => None,
                    };
                }
            }
            Published::Unknown(failure) => {
                self.ask_again(day, domain, now.plus_s(ASK_AGAIN_S));
                return said("failed", format!("its record at _smtp._tls: {failure}"));
            }
            Published::Nothing => "it publishes no record at _smtp._tls".to_owned(),
            Published::Several => "it publishes several records at _smtp._tls".to_owned(),
            Published::Faulty(error) => format!("its record at _smtp._tls is wrong: {error}"),
        };
        if is_over {
            self.with(move |book| book.forget(day, &name)).await;
        }
        said("not-wanted", none)
    }

    fn ask_again(&self, day: Wall, domain: &Name, at: Wall) {
        let mut again = lock(&self.again);
        // Those of days that are forgotten.
        again.retain(|(day, _), _| day.plus_s(4 * DAY_S) > at);
        again.insert((day, domain.clone()), at);
    }

    /// Sends a report to one destination, and tells what came of it.
    async fn send(
        &self,
        shared: &Arc<Shared>,
        day: Wall,
        domain: &Name,
        open: &Open,
    ) -> TlsReportSent {
        let is_https = open
            .uri
            .get(..6)
            .is_some_and(|s| s.eq_ignore_ascii_case("https:"));
        let mut message = None;
        let done = match is_https {
            true => self.post(shared, open).await,
            false => self
                .mail(shared, day, domain, open)
                .await
                .map(|id| message = id),
        };
        let (name, copy, now) = (domain.clone(), open.clone(), clock::wall());
        let (result, cause) = match done {
            // Noted already.
            Ok(()) if message.is_some() => ("queued", String::new()),
            Ok(()) => {
                let noted = self.with(move |book| book.note(day, &name, &copy, State::Sent));
                complain(noted.await.unwrap_or(Ok(())));
                ("sent", String::new())
            }
            Err(Failed {
                cause,
                then: Then::Unsure,
            }) => ("failed", cause),
            Err(Failed { cause, then }) => {
                let noted = self.with(move |book| match then {
                    Then::Never => book
                        .note(day, &name, &copy, State::GivenUp)
                        .map(|()| State::GivenUp),
                    Then::Again | Then::Unsure => book.failed(day, &name, &copy, now),
                });
                match noted.await {
                    Some(Ok(State::GivenUp)) => ("given-up", cause),
                    Some(Err(error)) => {
                        complain(Err(error));
                        ("failed", cause)
                    }
                    _ => ("failed", cause),
                }
            }
        };
        let report = &open.report;
        match cause.is_empty() {
            true => {
                tracing::info!(%domain, to = open.uri, report = report.id, "TLS report {result}")
            }
            false => {
                tracing::warn!(%domain, to = open.uri, report = report.id, "TLS report {result}: {cause}");
            }
        }
        let event = events::TlsReport {
            domain: domain.to_string(),
            to: open.uri.clone(),
            report: report.id.clone(),
            successes: report.successes,
            failures: report.failures,
            result: result.into(),
            message: message.map(MessageId),
            cause: cause.clone(),
        };
        let event = Event::now(EventKind::TlsReport(Box::new(event)));
        shared.events.send(&mut vec![event]).await;
        TlsReportSent {
            domain: domain.to_string(),
            to: open.uri.clone(),
            report: report.id.clone(),
            result: result.to_owned(),
            cause,
        }
    }

    /// Puts a report into the spool as mail; gives the message.
    async fn mail(
        &self,
        shared: &Arc<Shared>,
        day: Wall,
        domain: &Name,
        open: &Open,
    ) -> Result<Option<u64>, Failed> {
        let config = shared.config();
        let from = &config.tls.report.from;
        let address = open.uri.get(7..).unwrap_or_default();
        let uri = courser_core::auth::dmarc::ReportUri::parse(&open.uri).ok();
        let address = uri
            .as_ref()
            .and_then(|uri| uri.mailto())
            .unwrap_or(address.into());
        let wrong = |what: &str| Failed::for_good(format!("{address} is {what}"));
        let to = Mailbox::parse(&address).map_err(|_| wrong("no mail address"))?;
        if !to.is_ascii() {
            return Err(wrong("an address that needs SMTPUTF8"));
        }
        let report = read(&open.report.json)?;
        let id = shared.spool.next_id();
        let submitter = submitter(&config.tls.report);
        let mut content = Vec::new();
        ReportMail {
            report: &report,
            gzip: &gzip(&open.report.json),
            domain,
            submitter: &submitter,
            from: Mailbox::parse(from).map_err(|_| wrong("not what tls.report.from may be"))?,
            to,
            message_id: &MessageId(id).to_string(),
            host: &config.hostname,
            date: clock::wall(),
        }
        .emit(&mut content);
        let stream = &config.streams[config.dsn.stream];
        let fields = EnvelopeFields {
            id,
            received_ms: clock::wall_ms().max(0) as u64,
            // Null: what becomes of it is nobody's business (RFC 8460 5.3), and nobody answers.
            sender: String::new(),
            // RFC 8460 3: delivered whatever TLS comes to, and that is not reported again.
            tls_optional: true,
            stream: stream.name.to_string(),
            class: stream.class as u8,
            recipients: vec![RecipientFields {
                address: to.to_string(),
                ..RecipientFields::default()
            }],
            ..EnvelopeFields::default()
        };
        // First of all, so that after a crash it is known which message it would be.
        let (name, copy) = (domain.clone(), open.clone());
        let noted =
            self.with(move |book| book.note(day, &name, &copy, State::Queueing { message: id }));
        if let Some(Err(error)) = noted.await {
            return Err(Failed::now(format!("it can't be noted as sent: {error}")));
        }
        let (mail, kept, go) = OwnMail::new(fields, content);
        shared.queue_own(mail);
        match kept.await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => {
                let then = match why {
                    NotQueued::Unsure(_) => Then::Unsure,
                    _ => Then::Again,
                };
                let cause = why.to_string();
                return Err(Failed { cause, then });
            }
            Err(_) => {
                return Err(Failed {
                    cause: "the server ends".to_owned(),
                    then: Then::Unsure,
                });
            }
        }
        let (name, copy) = (domain.clone(), open.clone());
        let noted = self.with(move |book| book.note(day, &name, &copy, State::Sent));
        complain(noted.await.unwrap_or(Ok(())));
        // Only now, so that it can't have left the spool before it was noted.
        let _ = go.send(());
        Ok(Some(id))
    }

    /// Sends a report by HTTPS (RFC 8460 5.4).
    async fn post(&self, shared: &Arc<Shared>, open: &Open) -> Result<(), Failed> {
        let target = Target::of(&open.uri)
            .ok_or_else(|| Failed::for_good(format!("{} is no address of HTTPS", open.uri)))?;
        let addresses = match target.host.trim_matches(['[', ']']).parse() {
            Ok(ip) => {
                let options = route::options(&shared.config(), &[]);
                route::allowed(&options, ip).map_err(Failed::for_good)?;
                vec![ip]
            }
            Err(_) => shared.addresses(target.host).await.map_err(Failed::now)?,
        };
        let body = gzip(&open.report.json);
        let request = https::Request {
            host: target.host,
            addresses: &addresses,
            port: target.port,
            path: &target.path,
            accept: "*/*",
            body_max: ANSWER_MAX,
            limit: HTTPS_MAX,
        };
        let answer = https::post(&shared.tls(), &request, MEDIA_TYPE, body.into())
            .await
            .map_err(|trouble| Failed::now(trouble.to_string()))?;
        match answer.status {
            200..=299 => Ok(()),
            status => Err(Failed::now(format!("{} answered {status}", target.host))),
        }
    }

    /// The reports about what was counted today, about all domains (the first [`SHOWN_MAX`]) or one,
    /// as JSON, and how many results of today were lost.
    pub async fn today(&self, shared: &Shared, only: Option<Name>) -> (Vec<Value>, u64) {
        self.take_in(shared).await;
        let (now, config) = (clock::wall(), shared.config());
        let found = self.with(move |book| {
            let (today, submitter) = (day_of(now), submitter(&config.tls.report));
            let reporter = reporter(&config.tls.report, &submitter);
            let of_today = book.unsealed().filter(|(day, domain)| {
                *day == today && only.as_ref().is_none_or(|only| only == *domain)
            });
            let reports = of_today.take(SHOWN_MAX).filter_map(|(day, domain)| {
                let json = book.report(day, domain, &reporter)?.to_json();
                serde_json::from_str(&json).ok()
            });
            (reports.collect(), book.lost(now))
        });
        found.await.unwrap_or_default()
    }

    /// Sends now what was counted, of today and of days that are over, about all domains or one.
    pub async fn send_now(&self, shared: &Arc<Shared>, only: Option<Name>) -> Vec<TlsReportSent> {
        self.take_in(shared).await;
        let now = clock::wall();
        let cases = self.with(move |book| {
            let all = book.unsealed().chain(book.waiting(now));
            let meant = all.filter(|(_, domain)| only.as_ref().is_none_or(|only| only == *domain));
            let cases: HashSet<Case> = meant.map(|(day, domain)| (day, domain.clone())).collect();
            cases
        });
        let mut cases: Vec<Case> = cases.await.unwrap_or_default().into_iter().collect();
        cases.sort();
        let mut all = Vec::new();
        for (day, domain) in cases {
            all.extend(self.deal_with(shared, day, &domain).await);
        }
        all
    }
}

/// Why a report was not taken.
struct Failed {
    cause: String,
    then: Then,
}

/// What is done about it.
#[derive(Clone, Copy)]
enum Then {
    Again,
    Never,
    /// Nothing: the next start looks whether it is in the spool.
    Unsure,
}

impl Failed {
    fn now(cause: String) -> Self {
        Self {
            cause,
            then: Then::Again,
        }
    }

    fn for_good(cause: String) -> Self {
        Self {
            cause,
            then: Then::Never,
        }
    }
}

fn read(json: &str) -> Result<Report, Failed> {
    Report::read(json.as_bytes()).map_err(|e| Failed::for_good(e.to_string()))
}

fn submitter(config: &TlsReports) -> Name {
    // A mail address of the configuration has a domain.
    Name::parse(config.submitter()).unwrap_or_else(|_| Name::root())
}

/// When the report about a domain goes: always the same of the same day.
fn due_at(config: &TlsReports, day: Wall, domain: &Name) -> Wall {
    let mut hasher = DefaultHasher::new();
    (day, domain, config.submitter()).hash(&mut hasher);
    let spread = config.spread.as_secs().max(1);
    let after = config.send_after.as_secs() + hasher.finish() % spread;
    day.plus_s(DAY_S + after as i64)
}

fn complain(done: std::io::Result<()>) {
    if let Err(error) = done {
        tracing::error!(%error, "what TLS reports are made of can't be written beside the spool; a crash would lose it, or send reports twice");
    }
}

/// Where HTTPS leads.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target<'a> {
    host: &'a str,
    port: u16,
    path: String,
}

impl<'a> Target<'a> {
    /// `https://host[:port][/path][?query]`, without a user and without the fragment.
    fn of(uri: &'a str) -> Option<Self> {
        let rest = uri
            .get(8..)
            .filter(|_| uri[..8].eq_ignore_ascii_case("https://"))?;
        let rest = rest.split('#').next()?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, https::PORT),
        };
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        };
        let right = !host.is_empty() && !host.contains('@') && port != 0;
        right.then_some(Self { host, port, path })
    }
}

#[cfg(test)]
mod tests;
