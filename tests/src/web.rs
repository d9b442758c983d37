//! A web server by HTTPS on port 443, for policies of MTA-STS; Python's.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::net;
use crate::process::Process;
use crate::tls::Issued;

const PROGRAM: &str = include_str!("web.py");

/// A running server. It is stopped when dropped.
pub struct Web {
    /// Where it is.
    pub ip: IpAddr,
    folder: PathBuf,
    process: Process,
}

impl Web {
    /// Starts one at `ip`, whose files are below `dir`. Needs root and python3.
    ///
    /// # Panics
    /// When it doesn't come up; what it printed is shown.
    pub fn start(dir: &Path, ip: IpAddr) -> Self {
        let folder = dir.join(format!("web-{ip}"));
        std::fs::create_dir_all(&folder).expect("a scratch directory");
        let program = dir.join("web.py");
        std::fs::write(&program, PROGRAM).expect("a file of the scratch directory");
        let mut command = Command::new("python3");
        command.arg(program).arg(ip.to_string()).arg(&folder);
        let process = Process::start(&format!("web-{ip}"), dir, &mut command);
        assert!(
            net::wait_for((ip, 443).into(), 20),
            "the web server doesn't listen:\n{}",
            process.output()
        );
        Self {
            ip,
            folder,
            process,
        }
    }

    /// What `host` answers from now on.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn answer(
        &self,
        host: &str,
        issued: &Issued,
        status: u16,
        headers: &[(&str, &str)],
        body: &str,
    ) {
        issued.write(&self.folder, host);
        let headers: serde_json::Map<_, _> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let answer = json!({"status": status, "headers": headers, "body": body});
        let (file, new) = (format!("{host}.json"), self.folder.join("new"));
        std::fs::write(&new, answer.to_string()).expect("a file of the scratch directory");
        std::fs::rename(new, self.folder.join(file)).expect("it is there");
    }

    /// Every request so far: host and path.
    pub fn requests(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.join("requests.log"));
        log.unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// How many requests came for `host`.
    pub fn requests_of(&self, host: &str) -> usize {
        let to = format!("{host}/");
        self.requests()
            .iter()
            .filter(|r| r.starts_with(&to))
            .count()
    }

    /// Ends it; its address refuses connections then.
    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// What it printed.
    pub fn output(&self) -> String {
        self.process.output()
    }
}
