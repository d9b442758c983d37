//! `courser serve` as a process of its own, with a configuration made for this world.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::Options;
use super::world::{NETWORK, SENDER_DOMAIN, World};

/// A delivery expires after this, seconds; days in real life.
pub const LIFE_S: u64 = 25;
/// Addresses that mail goes out from.
const SOURCES: u8 = 3;
/// How long the server may take to start.
const START: Duration = Duration::from_secs(20);
/// How long it may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(15);
/// How much of its log is shown when it fails, bytes.
const LOG_SHOWN: u64 = 4000;

/// The running server. It is stopped when it is dropped.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    submission: SocketAddr,
    control: PathBuf,
    log: PathBuf,
}

/// What a process used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Most memory that it had at once, bytes.
    pub memory_peak: u64,
    /// CPU time, user and system.
    pub cpu: Duration,
}

impl ServerProcess {
    /// Writes the configuration into `folder`, starts the server and waits until it listens.
    ///
    /// # Errors
    /// It doesn't start; its log is in the error.
    pub fn start(
        folder: &Path,
        world: &World,
        receivers_port: u16,
        dns: SocketAddr,
        options: &Options,
    ) -> anyhow::Result<Self> {
        // Given back at once; nobody else takes ports of this address.
        let submission = TcpListener::bind("127.20.0.1:0")?.local_addr()?;
        let config = folder.join("courser.toml");
        let text = configuration(folder, world, submission, receivers_port, dns, options);
        fs::write(&config, text)?;
        let log = folder.join("serve.log");
        let program = std::env::current_exe().context("where is this program?")?;
        let child = Command::new(program)
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(File::create(folder.join("serve.out"))?)
            .stderr(File::create(&log)?)
            // Not the terminal's Ctrl-C: it is stopped in order.
            .process_group(0)
            .spawn()
            .context("can't start courser serve")?;
        let mut server = Self {
            child,
            submission,
            control: folder.join("control.sock"),
            log,
        };
        let started = Instant::now();
        while TcpStream::connect(submission).is_err() {
            server.check()?;
            if started.elapsed() > START {
                bail!(
                    "courser serve doesn't listen after {START:?}:\n{}",
                    server.last_words()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Where it takes mail.
    pub fn submission(&self) -> SocketAddr {
        self.submission
    }

    /// Its control socket.
    pub fn control_socket(&self) -> &Path {
        &self.control
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is still there.
    ///
    /// # Errors
    /// It isn't; its last words are in the error.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("courser serve ended ({status}):\n{}", self.last_words()),
        }
    }

    /// What it used so far.
    pub fn usage(&self) -> Usage {
        usage(self.pid()).unwrap_or_default()
    }

    /// Tells it to stop and waits for it.
    ///
    /// # Errors
    /// It had to be killed, or ended with an error.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.terminate();
        let asked = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                if status.success() {
                    return Ok(());
                }
                bail!("courser serve ended ({status}):\n{}", self.last_words());
            }
            if asked.elapsed() > STOP {
                self.child.kill()?;
                self.child.wait()?;
                bail!("courser serve didn't stop within {STOP:?} of SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn terminate(&self) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // If it is gone already, that shows elsewhere.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_SHOWN)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_else(|error| format!("(no log: {error})"))
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.stop();
        }
    }
}

fn usage(pid: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may have anything in it but stands in brackets; utime and stime are
    // the 14th and 15th field, so the 12th and 13th behind it (proc_pid_stat(5)).
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|t| t.parse::<u64>().ok()).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Usage {
        memory_peak: kib << 10,
        cpu: Duration::from_secs_f64(ticks as f64 / per_second as f64),
    })
}

/// The configuration: everything as usual but for times, which are seconds instead of hours, and
/// loopback addresses, which are allowed.
fn configuration(
    folder: &Path,
    world: &World,
    submission: SocketAddr,
    receivers_port: u16,
    dns: SocketAddr,
    options: &Options,
) -> String {
    let path = |name: &str| toml::Value::String(folder.join(name).display().to_string());
    let level = if options.verbose { "info" } else { "warn" };
    let mut text = format!(
        r#"# Made by `courser demo`.
hostname = "mail.{SENDER_DOMAIN}"

[server]
control_socket = {control}
drain_timeout = "5s"

[spool]
dir = {spool}
segment_size = "32MiB"
min_free = "64MiB"
min_free_percent = "0%"

[events]
dir = {events}
compress = false

[log]
level = "{level}"

[[listener]]
name = "submission"
address = ["{submission}"]
relay_networks = ["127.0.0.0/8"]

[[stream]]
name = "newsletter"
class = "bulk"
delay_dsn_after = "off"
[stream.retry]
first = "2s"
factor = 1.5
max = "6s"
jitter = "20%"
life = "{LIFE_S}s"

[delivery]
port = {receivers_port}
allow_private = ["{NETWORK}"]
idle_keepalive = "2s"
[delivery.timeouts]
connect = "5s"
greeting = "10s"
ehlo = "10s"
mail = "10s"
rcpt = "10s"
data = "10s"
data_end = "20s"
[delivery.dead_host]
first = "5s"
max = "30s"
[delivery.limits]
connections = 8
connection_rate = "100/s burst 20"
message_rate = "2k/s"
messages_per_connection = 1000

[dns]
servers = ["{dns}"]
timeout = "1s"

# A full mailbox is tried again in seconds, not in hours.
[[rule]]
name = "demo-full"
text = ["mailbox full"]
class = "mailbox-full"
retry_after = "4s"

[[rule]]
name = "demo-messages"
text = ["too many messages in this session"]
class = "busy"
scope = "host"
pressure = false
"#,
        control = path("control.sock"),
        spool = path("spool"),
        events = path("events"),
    );
    for n in 1..=SOURCES {
        let _ = write!(
            text,
            "\n[[source]]\nname = \"out{n}\"\naddress = \"127.20.100.{n}\"\nehlo = \"out{n}.{SENDER_DOMAIN}\"\n"
        );
    }
    for provider in world.providers.iter().filter(|p| p.behaviour.is_some()) {
        let domains: Vec<_> = provider.domains.iter().map(|d| format!("{d:?}")).collect();
        let _ = write!(
            text,
            "\n[[provider]]\nname = \"{}\"\ndomains = [{}]\n[provider.limits]\n{}\n",
            provider.name,
            domains.join(", "),
            provider.limits
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_configuration_is_right() {
        let options = Options {
            recipients: 10,
            seed: 1,
            keep: false,
            verbose: false,
        };
        let world = World::new(10, 1);
        let address: SocketAddr = "127.0.0.1:5353".parse().unwrap();
        let text = configuration(
            Path::new("/tmp/a b\"c"),
            &world,
            address,
            2525,
            address,
            &options,
        );
        let config = config::parse(&text, "courser.toml").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config.sources.len(), usize::from(SOURCES));
        assert_eq!(config.streams[0].retry.life, Duration::from_secs(LIFE_S));
        assert!(config.providers.len() >= 12);
    }

    #[test]
    fn the_usage_of_this_process_can_be_read() {
        let used = usage(std::process::id()).unwrap();
        assert!(used.memory_peak > 1 << 20);
    }
}
