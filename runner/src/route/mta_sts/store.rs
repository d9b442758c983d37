//! Policies on disk: a small file for each domain, named after it, in a folder of their own.
//!
//! ```json
//! {"domain":"example.net","id":"20270101","fetched":1798761600,"policy":"version: STSv1\r\n…"}
//! ```
//!
//! A file is written beside its place and renamed, so that it is whole or not there. One that is
//! damaged all the same is passed over with a warning, and written anew with the next fetch.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use courser_core::dns::Name;
use courser_core::limits::MTA_STS_DOMAINS_MAX;
use courser_core::route::mta_sts::{Cached, Policy, PolicyId};
use courser_core::time::Wall;
use serde::{Deserialize, Serialize};

/// Bytes of a file at the most: the longest policy takes some 35,000.
const FILE_BYTES_MAX: u64 = 128 * 1024;
/// Files that are looked at, at the most; not so many are written.
const FILES_MAX: usize = 2 * MTA_STS_DOMAINS_MAX;

/// What a file says.
#[derive(Serialize, Deserialize)]
struct Stored {
    domain: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Unix time, seconds.
    fetched: i64,
    policy: String,
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Store {
    /// `None`: nothing is kept.
    dir: Option<PathBuf>,
}

impl Store {
    /// The folder of policies beside the spool in `spool`. It is made with the first policy.
    pub fn beside(spool: &Path) -> Self {
        Self {
            dir: Some(spool.join("mta-sts")),
        }
    }

    /// Keeps nothing.
    pub fn nowhere() -> Self {
        Self { dir: None }
    }

    /// The file of a domain. A name has letters, digits, `-` and `_` between single dots, so it can
    /// lead nowhere else.
    fn file(&self, domain: &Name) -> Option<PathBuf> {
        let dir = self.dir.as_deref().filter(|_| domain.is_hostname())?;
        Some(dir.join(domain.as_str()))
    }

    /// All policies that are there, whether they hold or not. What can't be read is logged.
    pub fn load(&self, now: Wall) -> Vec<(Name, Cached)> {
        let Some(dir) = &self.dir else {
            return Vec::new();
        };
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                tracing::warn!(%error, dir = %dir.display(), "the policies of MTA-STS can't be read; they are fetched anew");
                return Vec::new();
            }
        };
        let mut all = Vec::new();
        for entry in entries.flatten().take(FILES_MAX) {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if name.starts_with('.') {
                // Was being written when the server ended.
                let _ = fs::remove_file(&path);
                continue;
            }
            match read(&path, &name, now) {
                Ok(stored) => all.push(stored),
                Err(error) => {
                    tracing::warn!(%error, file = %path.display(), "this is no policy of MTA-STS; it is passed over");
                }
            }
        }
        all
    }

    /// Writes the policy of a domain.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, domain: &Name, cached: &Cached) -> io::Result<()> {
        let Some(dir) = &self.dir else {
            return Ok(());
        };
        let Some(file) = self.file(domain) else {
            return Err(io::Error::other("this is no name of a host"));
        };
        let stored = Stored {
            domain: domain.to_string(),
            id: cached.id.as_ref().map(ToString::to_string),
            fetched: cached.fetched.unix(),
            policy: cached.policy.to_string(),
        };
        fs::create_dir_all(dir)?;
        let beside = dir.join(format!(".{domain}"));
        let mut new = File::create(&beside)?;
        new.write_all(&serde_json::to_vec(&stored)?)?;
        // Or a power failure leaves an empty file.
        new.sync_data()?;
        fs::rename(&beside, &file)
    }

    /// Removes the policy of a domain, if there is one.
    pub fn remove(&self, domain: &Name) {
        if let Some(file) = self.file(domain)
            && let Err(error) = fs::remove_file(&file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, file = %file.display(), "a policy of MTA-STS that is no longer wanted can't be removed");
        }
    }
}

fn read(path: &Path, name: &str, now: Wall) -> Result<(Name, Cached), String> {
    let domain = Name::parse(name).map_err(|e| format!("its name is no domain: {e}"))?;
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut content))
        .map_err(|e| e.to_string())?;
    let stored: Stored = serde_json::from_slice(&content).map_err(|e| e.to_string())?;
    if stored.domain != name {
        return Err(format!("it is about {:.80}", stored.domain));
    }
    let id = match stored.id.as_deref().map(PolicyId::parse) {
        Some(None) => return Err("its id is none".to_owned()),
        id => id.flatten(),
    };
    let policy = Policy::parse(stored.policy.as_bytes()).map_err(|e| e.to_string())?;
    let cached = Cached {
        policy: policy.into(),
        id,
        // It doesn't hold for longer because the clock was wrong once.
        fetched: Wall::from_unix(stored.fetched).min(now),
    };
    Ok((domain, cached))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall::from_unix(1_800_000_000);

    fn cached(id: Option<&str>, fetched: i64) -> Cached {
        let text = b"version: STSv1\nmode: enforce\nmx: mx.example.net\nmx: *.example.org\nmax_age: 86400\n";
        Cached {
            policy: Policy::parse(text).unwrap().into(),
            id: id.and_then(PolicyId::parse),
            fetched: Wall::from_unix(fetched),
        }
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn loaded(store: &Store) -> Vec<(Name, Cached)> {
        let mut all = store.load(NOW);
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    #[test]
    fn what_is_written_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::beside(dir.path());
        assert_eq!(store.load(NOW), []);
        let long = format!("{}.example", vec!["a".repeat(60); 4].join("."));
        let (a, b) = (
            cached(Some("20270101"), 1_799_999_999),
            cached(None, 1_700_000_000),
        );
        for domain in ["example.net", &long, "x.tmp", "a_b.example"] {
            store.write(&name(domain), &a).unwrap();
        }
        store.write(&name("example.net"), &b).unwrap();
        store.remove(&name("x.tmp"));
        store.remove(&name("x.tmp"));
        let found = loaded(&store);
        let names: Vec<&str> = found.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["a_b.example", &long, "example.net"]);
        assert_eq!((&found[0].1, &found[2].1), (&a, &b));
        // By a clock that was wrong.
        store
            .write(&name("example.net"), &cached(None, 1_900_000_000))
            .unwrap();
        assert_eq!(loaded(&store)[2].1.fetched, NOW);
    }

    #[test]
    fn names_lead_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::beside(dir.path());
        for odd in [b"..".as_slice(), b"../up", b"a/b", b"", b"\0", b"192.0.2.1"] {
            let Ok(odd) = Name::from_bytes(odd) else {
                continue;
            };
            assert!(store.write(&odd, &cached(None, 0)).is_err(), "{odd}");
            store.remove(&odd);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn damaged_files_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::beside(dir.path());
        store
            .write(&name("good.example"), &cached(None, 1_799_999_999))
            .unwrap();
        let good = fs::read_to_string(dir.path().join("mta-sts/good.example")).unwrap();
        let at = |name: &str| dir.path().join("mta-sts").join(name);
        for (name, content) in [
            ("empty.example", String::new()),
            ("cut.example", good[..good.len() / 2].replace("good", "cut")),
            ("other.example", good.clone()),
            (
                "bad-id.example",
                good.replace("good", "bad-id")
                    .replace("\"fetched", "\"id\":\"?\",\"fetched"),
            ),
            (
                "bad-mode.example",
                good.replace("good", "bad-mode").replace("enforce", "force"),
            ),
            ("large.example", "x".repeat(200_000)),
            ("not a domain", good.clone()),
            (".left.example", good.replace("good", ".left")),
        ] {
            fs::write(at(name), content).unwrap();
        }
        fs::create_dir(at("folder.example")).unwrap();
        let found = loaded(&store);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, name("good.example"));
        assert!(!at(".left.example").exists() && at("cut.example").exists());
        // Written anew where it was damaged.
        store.write(&name("cut.example"), &cached(None, 0)).unwrap();
        assert_eq!(store.load(NOW).len(), 2);
        let nowhere = Store::nowhere();
        assert!(nowhere.write(&name("a.example"), &cached(None, 0)).is_ok());
        assert_eq!(nowhere.load(NOW), []);
        // A folder that is a file.
        let store = Store::beside(&at("good.example"));
        assert!(store.write(&name("a.example"), &cached(None, 0)).is_err());
        assert_eq!(store.load(NOW), []);
    }
}
