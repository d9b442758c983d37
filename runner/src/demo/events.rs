//! Reads the server's event files as they grow: complete, unlike the stream on the control socket.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

use super::ledger::Ledger;

/// What of an event the demo looks at.
#[derive(Debug, Deserialize)]
pub struct Line<'a> {
    /// What happened.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// To whom.
    #[serde(borrow, default)]
    pub recipient: Cow<'a, str>,
    /// What the answer was taken to mean.
    #[serde(borrow, default)]
    pub class: Cow<'a, str>,
    /// How the session was encrypted, if it was.
    #[serde(default)]
    pub tls: serde_json::Value,
    /// Since the message was received, ms.
    #[serde(default)]
    pub queued_ms: u64,
    /// What a notification says.
    #[serde(borrow, default)]
    pub action: Cow<'a, str>,
    /// Deliveries that a notification is about; in other events a number of them.
    #[serde(default)]
    pub deliveries: serde_json::Value,
    /// The notification; none was sent if it isn't there.
    #[serde(borrow, default)]
    pub dsn: Option<Cow<'a, str>>,
    /// Events that weren't written.
    #[serde(default)]
    pub count: u64,
}

/// How far each file was read.
#[derive(Debug)]
pub struct Follower {
    dir: PathBuf,
    read: BTreeMap<PathBuf, u64>,
}

impl Follower {
    /// Of the files in this directory.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            read: BTreeMap::new(),
        }
    }

    /// Tells the ledger what is new.
    ///
    /// # Errors
    /// A file can't be read, or a line is no event.
    pub fn read(&mut self, ledger: &mut Ledger) -> anyhow::Result<()> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            // The server makes it a moment after it began to listen.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "jsonl") {
                let from = self.read.entry(path.clone()).or_default();
                *from += read_file(&path, *from, ledger)
                    .with_context(|| format!("the events in {}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// Reads whole lines from `from` on; how many bytes they were.
fn read_file(path: &Path, from: u64, ledger: &mut Ledger) -> anyhow::Result<u64> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e.into()),
    };
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = bytes
        .iter()
        .rposition(|&b| b == b'\n')
        .map_or(0, |at| at + 1);
    for line in bytes[..whole]
        .split(|&b| b == b'\n')
        .filter(|l| !l.is_empty())
    {
        let line: Line<'_> = serde_json::from_slice(line)
            .with_context(|| String::from_utf8_lossy(line).into_owned())?;
        ledger.apply(&line);
    }
    Ok(whole as u64)
}
