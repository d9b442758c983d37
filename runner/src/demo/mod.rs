//! `courser demo`: a newsletter to a small modelled Internet, on loopback addresses.
//!
//! ```text
//!             submit ──SMTP──► courser serve (a child process, a spool of its own)
//!                                  │   │
//!                    dns ◄──MX, A──┘   └──SMTP──► world: a dozen receivers, each with its manners
//!                                  │                            │
//!              event files ◄───────┘                            │ counts
//!                    └──► ledger ──► progress, report ◄─────────┘
//! ```
//!
//! | file | has |
//! |---|---|
//! | [`world`] | the providers: domains, how DNS names them, what their receivers do |
//! | [`dns`] | a name server for them |
//! | [`server`] | the configuration and process of `courser serve` |
//! | [`letter`] | the newsletter |
//! | [`submit`] | hands it in, over many pipelined sessions |
//! | [`events`] | reads the event files as they grow |
//! | [`ledger`] | what became of each recipient |
//! | [`progress`] | what is shown meanwhile |
//! | [`report`] | what is shown at the end, and whether everything is accounted for |

pub mod dns;
pub mod events;
pub mod ledger;
pub mod letter;
pub mod progress;
pub mod report;
pub mod server;
pub mod submit;
pub mod world;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::control::{Client, protocol::Request, protocol::Response};
use crate::sink::Sink;
use events::Follower;
use ledger::Ledger;
use progress::Progress;
use server::ServerProcess;
use submit::Submission;
use world::World;

/// How often the loop looks around.
const STEP: Duration = Duration::from_millis(100);
/// How long after the last submission everything may take: the life of a delivery, and what its
/// last attempt and its notification may need.
const PATIENCE: Duration = Duration::from_secs(server::LIFE_S + 30);
/// How often the server is asked how it is.
const ASK_EVERY: u32 = 3;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Recipients of the newsletter.
    pub recipients: u32,
    /// Of everything that looks random.
    pub seed: u64,
    /// Leave spool, events, configuration and log there.
    pub keep: bool,
    /// Show what the receivers hear, and more of the server's log.
    pub verbose: bool,
}

/// Runs it; `Ok(false)`: someone isn't accounted for.
///
/// # Errors
/// What kept it from running.
pub fn run(options: &Options, out: &mut dyn Write) -> anyhow::Result<bool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    let folder = Folder::new(options.keep)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("demo")
        .enable_all()
        .build()?;
    let world = Arc::new(World::new(options.recipients, options.seed));
    let sink = world.start(options)?;
    let port = sink.receivers()[0].addresses()[0].port();
    let names = runtime.block_on(dns::start(&world))?;
    let mut server = ServerProcess::start(&folder.path, &world, port, names.address(), options)?;
    writeln!(
        out,
        "{} recipients at {} providers on 127.20.x.1 port {port}, DNS on {}, courser serve is \
         process {} and listens on {}",
        progress::grouped(u64::from(options.recipients)),
        world.providers.len(),
        names.address(),
        server.pid(),
        server.submission(),
    )?;
    out.flush()?;

    let submission = Submission::new(world.clone(), server.submission());
    let began = Instant::now();
    let handing_in = {
        let submission = submission.clone();
        runtime.spawn(async move { submission.run().await })
    };
    let mut watch = Watch {
        ledger: Ledger::new(world.clone()),
        follower: Follower::new(&folder.path.join("events")),
        control: None,
        sessions_peak: 0,
        queued: None,
        progress: Progress::new(&world),
        began,
    };
    let ended = watch.run(&mut server, &submission, &sink, &interrupted)?;
    handing_in.abort();
    let usage = server.usage();
    watch.progress.finish();
    server.stop()?;
    // What happened while it stopped.
    watch.follower.read(&mut watch.ledger)?;
    if ended == Ended::Interrupted {
        anyhow::bail!("interrupted");
    }
    if ended == Ended::OutOfTime {
        writeln!(
            out,
            "\nTime is up; {} deliveries are still queued.",
            watch.queued.unwrap_or(0)
        )?;
    }
    let report = report::Report {
        world: &world,
        ledger: &watch.ledger,
        sink: &sink,
        submission: &submission,
        usage: &usage,
        sessions_peak: watch.sessions_peak,
        queued: watch.queued,
        took: began.elapsed(),
    };
    let is_fine = report.write(out)?;
    if options.keep {
        writeln!(
            out,
            "Spool, events, configuration and log: {}",
            folder.path.display()
        )?;
    } else if !is_fine {
        writeln!(out, "Run it with --keep to look into its events.")?;
    }
    Ok(is_fine)
}

/// Why the watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Complete,
    OutOfTime,
    Interrupted,
}

/// What is looked at while it runs.
struct Watch {
    ledger: Ledger,
    follower: Follower,
    control: Option<Client>,
    sessions_peak: u64,
    queued: Option<u64>,
    progress: Progress,
    began: Instant,
}

impl Watch {
    /// Until every recipient has reached a final state and every notification has arrived.
    fn run(
        &mut self,
        server: &mut ServerProcess,
        submission: &Submission,
        sink: &Sink,
        interrupted: &AtomicBool,
    ) -> anyhow::Result<Ended> {
        let mut deadline = None;
        for round in 0.. {
            if interrupted.load(Ordering::Relaxed) {
                return Ok(Ended::Interrupted);
            }
            server.check()?;
            self.follower.read(&mut self.ledger)?;
            if round % ASK_EVERY == 0 {
                self.ask(server.control_socket());
            }
            self.progress
                .show(self.began.elapsed(), &self.ledger, submission, self.queued);
            if submission.is_done() {
                let notified = sink
                    .receiver(world::SENDER)
                    .map_or(0, |r| r.counts().messages);
                if self.ledger.is_complete() && notified >= self.ledger.notifications() {
                    // The server's last word about them, for the report.
                    self.ask(server.control_socket());
                    return Ok(Ended::Complete);
                }
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
                if Instant::now() >= deadline {
                    self.ask(server.control_socket());
                    return Ok(Ended::OutOfTime);
                }
            }
            std::thread::sleep(STEP);
        }
        unreachable!("the loop has no end of its own")
    }

    /// How the server is. A server that doesn't answer is found out elsewhere.
    fn ask(&mut self, socket: &Path) {
        if self.control.is_none() {
            self.control = Client::connect(socket).ok();
        }
        let Some(control) = &mut self.control else {
            return;
        };
        match control.call(&Request::Status) {
            Ok(Response::Status(status)) => {
                self.queued = Some(status.gauges.queued);
                self.sessions_peak = self.sessions_peak.max(status.gauges.delivery_sessions);
            }
            _ => self.control = None,
        }
    }
}

/// A directory that goes away.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    fn new(keep: bool) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("courser-demo-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("can't make {}", path.display()))?;
        Ok(Self { path, keep })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            // It lies in the system's folder for temporary files; that will be cleaned one day.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
