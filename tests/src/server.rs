//! `courser serve` with a scratch spool, its control socket and its events.
//!
//! [`Server::start`] takes a piece of configuration that is laid over the harness's own: tables
//! are joined, arrays are replaced, and of `[[listener]]` and `[[stream]]` the first one is joined
//! with the harness's first one.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use toml::Table;

use crate::process::Process;
use crate::{eventually, net};

/// The `courser` program, built as the tests are.
///
/// # Panics
/// When it doesn't build.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        if let Some(given) = std::env::var_os("COURSER_PROGRAM") {
            return Ok(given.into());
        }
        let test = std::env::current_exe().expect("a test knows its program");
        // target/<profile>/deps/<test>
        let folder = test.ancestors().nth(2).expect("the folder of the profile");
        let mut build = Command::new(env!("CARGO"));
        // A test of the program's own builds it, and with the features that `cargo test --workspace` has
        // built it with: `cargo build` would choose others and build half of everything anew.
        build.args(["test", "--quiet", "--workspace", "--test", "options"]);
        build.arg("--no-run");
        build
            .arg("--manifest-path")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
        if let Some(target) = folder.parent() {
            build.arg("--target-dir").arg(target);
        }
        match folder.file_name().and_then(|f| f.to_str()) {
            Some("debug") | None => {}
            Some(profile) => {
                build.args(["--profile", profile]);
            }
        }
        let built = build.output().expect("cargo starts");
        if !built.status.success() {
            return Err(String::from_utf8_lossy(&built.stderr).into_owned());
        }
        Ok(folder.join("courser"))
    });
    match program {
        Ok(program) => program,
        Err(why) => panic!("courser doesn't build:\n{why}"),
    }
}

/// Runs `courser` with these words and waits for it.
///
/// # Panics
/// When it can't be started.
pub fn run(words: &[&str]) -> Output {
    Command::new(program())
        .args(words)
        .output()
        .expect("courser starts")
}

/// Runs a program that must succeed; what it prints is shown otherwise.
///
/// # Panics
/// When it doesn't.
pub fn succeeds(command: &mut Command) -> Output {
    let out = command.output().expect("a program that starts");
    assert!(
        out.status.success(),
        "{command:?}: {}\n{}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    out
}

/// As [`run`], with something on standard input.
///
/// # Panics
/// When it can't be started.
pub fn run_with_input(words: &[&str], input: &str) -> Output {
    let mut child = Command::new(program())
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("courser starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may have ended without reading it.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("courser ends")
}

/// A server. It is killed when dropped.
pub struct Server {
    /// Where its first listener is.
    pub address: SocketAddr,
    dir: PathBuf,
    overrides: String,
    environment: Vec<(String, String)>,
    process: Option<Process>,
    // After the process, so that it is deleted last.
    _scratch: Option<TempDir>,
}

/// What `courser eval` answers to one question.
///
/// # Panics
/// When it answers nothing that is JSON.
pub fn eval(kind: &str, question: &Value) -> Value {
    let mut child = Command::new(program())
        .args(["eval", kind])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("courser starts");
    let mut input = child.stdin.take().expect("a pipe");
    writeln!(input, "{question}").expect("courser reads");
    drop(input);
    let out = child.wait_with_output().expect("courser ends");
    serde_json::from_slice(&out.stdout).expect("an answer in JSON")
}

impl Server {
    /// Starts one in a scratch directory of its own.
    ///
    /// # Panics
    /// When it doesn't come up; what it printed is shown.
    pub fn start(overrides: &str) -> Self {
        let scratch = scratch();
        let dir = scratch.path().to_owned();
        Self {
            _scratch: Some(scratch),
            ..Self::start_in(&dir, overrides)
        }
    }

    /// Starts one whose files are in `dir`.
    ///
    /// # Panics
    /// When it doesn't come up; what it printed is shown.
    pub fn start_in(dir: &Path, overrides: &str) -> Self {
        let mut server = Self::prepare(dir, overrides);
        server.restart();
        server
    }

    /// Writes everything that is needed and starts nothing.
    ///
    /// # Panics
    /// When the files can't be written.
    pub fn prepare(dir: &Path, overrides: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], net::free_port()));
        let server = Self {
            address,
            dir: dir.to_owned(),
            overrides: String::new(),
            environment: Vec::new(),
            process: None,
            _scratch: None,
        };
        Self {
            overrides: overrides.to_owned(),
            ..server
        }
        .configured(overrides)
    }

    fn configured(mut self, overrides: &str) -> Self {
        self.configure(overrides);
        self
    }

    /// Writes another configuration; it is read at the next start or reload.
    ///
    /// # Panics
    /// When `overrides` is no TOML.
    pub fn configure(&mut self, overrides: &str) {
        let dir = self.dir.display();
        let base = format!(
            r#"
hostname = "courser.test"
postmaster = "postmaster@courser.test"
server = {{ shards = 1, drain_timeout = "10s", control_socket = "{dir}/control.sock" }}
spool = {{ dir = "{dir}/spool", segment_size = "16MiB", reserve = "1MiB" }}
events = {{ dir = "{dir}/events", compress = false }}
log = {{ level = "info" }}
delivery = {{ allow_private = ["127.0.0.0/8"], idle_keepalive = "2s" }}
dns = {{ servers = ["127.0.0.1:9"], timeout = "1s", ttl_min = "0s" }}
[[listener]]
name = "test"
address = ["{}"]
[[stream]]
name = "default"
[dsn]
gather = "0s"
"#,
            self.address
        );
        let mut all: Table = base.parse().expect("the harness's configuration is TOML");
        lay_over(
            &mut all,
            overrides.parse().expect("the test's configuration is TOML"),
        );
        std::fs::create_dir_all(&self.dir).expect("a scratch directory");
        let text = toml::to_string(&all).expect("what was read can be written");
        std::fs::write(self.config(), text).expect("courser.toml");
        overrides.clone_into(&mut self.overrides);
    }

    /// What its next starts have in their environment.
    pub fn set_environment(&mut self, environment: Vec<(String, String)>) {
        self.environment = environment;
    }

    /// Starts it again on the same spool.
    ///
    /// # Panics
    /// When it doesn't come up.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut command = Command::new(program());
        command.args(["serve", "--config"]).arg(self.config());
        command
            .env_remove("COURSER_LOG")
            .env_remove("COURSER_CONFIG")
            .envs(self.environment.iter().cloned());
        let mut process = Process::start("courser", &self.dir, &mut command);
        // The listener is bound before the spool is read, so a connection alone says too little.
        let up = eventually(30, || {
            if !process.is_running() {
                return Some(false);
            }
            let status = self.courser(&["status", "--json"]);
            status.status.success().then_some(true)
        });
        assert!(
            up == Some(true),
            "courser doesn't come up:\n{}",
            process.output()
        );
        self.process = Some(process);
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.join("courser.toml")
    }

    /// The directory of its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it printed so far, of all its starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("courser.log")).unwrap_or_default()
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").pid()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn signal(&self, signal: i32) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    /// Its open sockets: listeners, sessions, the resolver's and the control socket's.
    pub fn sockets(&self) -> usize {
        let links = std::fs::read_dir(format!("/proc/{}/fd", self.pid()));
        links.map_or(0, |links| {
            links
                .flatten()
                .filter_map(|fd| std::fs::read_link(fd.path()).ok())
                .filter(|to| to.to_string_lossy().starts_with("socket:"))
                .count()
        })
    }

    /// Waits until it has no more than so many sockets open.
    ///
    /// # Panics
    /// When it doesn't close the others within 20 seconds.
    pub fn wait_sockets(&self, most: usize) {
        let there = eventually(20, || (self.sockets() <= most).then_some(()));
        assert!(
            there.is_some(),
            "{} sockets are open, and {most} should be",
            self.sockets()
        );
    }

    /// Its resident memory, bytes.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory that it ever had, bytes.
    pub fn resident_peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix(field));
        let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// kill -9.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGTERM; it must end well within `limit`.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn stop_within(&mut self, limit: Duration) {
        if let Some(mut process) = self.process.take() {
            process.signal(libc::SIGTERM);
            let status = process.wait(limit);
            assert!(
                status.success(),
                "courser ended with {status}:\n{}",
                process.output()
            );
        }
    }

    /// SIGTERM; it must end well.
    ///
    /// # Panics
    /// When it doesn't.
    pub fn stop(&mut self) {
        self.stop_within(Duration::from_secs(20));
    }

    /// Waits until it has ended by itself after something asked it to.
    ///
    /// # Panics
    /// When it doesn't end, or not well.
    pub fn wait_end(&mut self) {
        if let Some(mut process) = self.process.take() {
            let status = process.wait(Duration::from_secs(20));
            assert!(
                status.success(),
                "courser ended with {status}:\n{}",
                process.output()
            );
        }
    }

    /// Runs `courser` with these words against this server's control socket.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn courser(&self, words: &[&str]) -> Output {
        Command::new(program())
            .args(words)
            .env("COURSER_SOCKET", self.dir.join("control.sock"))
            .env_remove("COURSER_CONFIG")
            .output()
            .expect("courser starts")
    }

    /// As [`Server::courser`]; it must succeed. Gives what it printed, line by line, as JSON.
    ///
    /// # Panics
    /// When it fails or prints something else.
    pub fn ask(&self, words: &[&str]) -> Vec<Value> {
        let out = self.courser(words);
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(
            out.status.success(),
            "courser {words:?}: {}\n{said}{}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        );
        said.lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect()
    }

    /// Every delivery in the queue.
    pub fn queue(&self) -> Vec<Value> {
        self.ask(&["queue", "list", "--json", "--limit", "0"])
    }

    /// One delivery; `None` when it is no longer there.
    ///
    /// # Panics
    /// When the server doesn't answer.
    pub fn show(&self, id: &str) -> Option<Value> {
        let out = self.courser(&["queue", "show", id, "--json"]);
        match out.status.code() {
            Some(0) => {
                let said = String::from_utf8_lossy(&out.stdout).into_owned();
                Some(serde_json::from_str(said.lines().next()?).expect("a line of JSON"))
            }
            Some(5) => None,
            _ => panic!(
                "courser queue show: {}\n{}",
                out.status,
                String::from_utf8_lossy(&out.stderr)
            ),
        }
    }

    /// Waits until `queue show` gives this reason for `id`.
    ///
    /// # Panics
    /// When it doesn't within 15 seconds; shows what it gave.
    pub fn wait_reason(&self, id: &str, reason: &str) -> Value {
        let mut last = None;
        let found = eventually(15, || {
            last = self.show(id);
            last.clone().filter(|d| d["waiting"]["reason"] == reason)
        });
        found.unwrap_or_else(|| panic!("{id} doesn't wait for {reason}: {last:#?}"))
    }

    /// Waits until the queue is empty.
    ///
    /// # Panics
    /// When it isn't after half a minute; shows what is left.
    pub fn wait_empty(&self) {
        let empty = eventually(30, || self.queue().is_empty().then_some(()));
        assert!(
            empty.is_some(),
            "the queue isn't empty: {:#?}",
            self.queue()
        );
    }

    /// Its events so far, of all its starts, oldest first.
    pub fn events(&self) -> Vec<Value> {
        let mut events = Vec::new();
        self.each_event(|event| events.push(event));
        events
    }

    /// As [`Server::events`], one by one: for runs of more events than fit into memory well.
    pub fn each_event(&self, mut what: impl FnMut(Value)) {
        let Ok(files) = std::fs::read_dir(self.dir.join("events")) else {
            return;
        };
        let mut files: Vec<PathBuf> = files
            .flatten()
            .map(|f| f.path())
            .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
            .collect();
        files.sort();
        for file in files {
            let text = std::fs::read(file).unwrap_or_default();
            for line in text
                .split_inclusive(|b| *b == b'\n')
                .filter(|l| l.ends_with(b"\n"))
            {
                // After kill -9 the end of a file may be torn.
                if let Ok(event) = serde_json::from_slice::<Value>(line) {
                    what(event);
                }
            }
        }
    }

    /// Its events of one kind.
    pub fn events_of(&self, kind: &str) -> Vec<Value> {
        self.events()
            .into_iter()
            .filter(|e| e["kind"] == kind)
            .collect()
    }

    /// Waits for an event of this kind that `is` means.
    ///
    /// # Panics
    /// When none comes within 20 seconds; shows the events.
    pub fn wait_event(&self, kind: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.wait_events(kind, 1, is).swap_remove(0)
    }

    /// Waits for `n` events of this kind that `is` means.
    ///
    /// # Panics
    /// When they don't come within 20 seconds; shows the events.
    pub fn wait_events(&self, kind: &str, n: usize, is: impl Fn(&Value) -> bool) -> Vec<Value> {
        let find =
            || -> Vec<Value> { self.events_of(kind).into_iter().filter(|e| is(e)).collect() };
        let found = eventually(20, || Some(find()).filter(|f| f.len() >= n));
        found.unwrap_or_else(|| {
            let all = self.events();
            let shown: Vec<String> = all
                .iter()
                .rev()
                .take(30)
                .rev()
                .map(Value::to_string)
                .collect();
            panic!(
                "{} of {n} events {kind:?} came; the last ones are\n{}",
                find().len(),
                shown.join("\n")
            )
        })
    }

    /// The first event that ends or defers the only delivery of a message.
    ///
    /// # Panics
    /// When none comes within 25 seconds; shows what it waits for.
    pub fn fate(&self, message: &str) -> Value {
        let fates = ["delivered", "bounced", "deferred", "expired"];
        let found = eventually(25, || {
            let mut story = self.story(message).into_iter();
            story.find(|e| fates.iter().any(|k| e["kind"] == *k))
        });
        found.unwrap_or_else(|| {
            panic!(
                "nothing became of it: {:?}\n{}",
                self.show(message),
                self.log()
            )
        })
    }

    /// Events about one message, oldest first.
    pub fn story(&self, message: &str) -> Vec<Value> {
        self.events()
            .into_iter()
            .filter(|e| e["message"] == message)
            .collect()
    }
}

/// A scratch directory, with a path short enough for a Unix socket.
///
/// # Panics
/// When there is no room for one.
pub fn scratch() -> TempDir {
    tempfile::Builder::new()
        .prefix("courser-test-")
        .tempdir()
        .expect("a scratch directory")
}

/// A route for every domain to one receiver.
pub fn smart_host(to: SocketAddr) -> String {
    format!("[[route]]\ndomain = \"*\"\nto = [\"{to}\"]\n")
}

fn lay_over(base: &mut Table, over: Table) {
    use toml::Value as Toml;
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Toml::Table(base)), Toml::Table(over)) => lay_over(base, over),
            (Some(Toml::Array(base)), Toml::Array(over))
                if key == "listener" || key == "stream" =>
            {
                let mut over = over.into_iter();
                if let (Some(Toml::Table(base)), Some(Toml::Table(over))) =
                    (base.first_mut(), over.next())
                {
                    lay_over(base, over);
                }
                base.extend(over);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}
