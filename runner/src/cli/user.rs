//! `courser user`: who may hand in mail from anywhere.
//!
//! The file of users is changed as a whole: a new one is written beside it and takes its place, so
//! that a server which reads it meanwhile sees the old one or the new one. What else stands there,
//! comments included, stays as it is.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, IsTerminal, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use courser_core::auth::senders::{SenderPattern, Senders};
use courser_core::limits::SASL_PASSWORD_BYTES_MAX;
use courser_core::smtp::sasl::prepare;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};
use zeroize::Zeroizing;

use super::{Failure, Outcome, render};
use crate::config::{self, DEFAULT_PATH, Name, UserName};
use crate::login::hash::{Hash, SCRAM_ITERATIONS};
use crate::login::{Users, random};
use crate::private::{self, Unread};

/// Shorter passwords are guessed.
const PASSWORD_CHARS_MIN: usize = 8;
/// What a new file begins with.
const NEW_FILE: &str = "\
# Who may hand in mail, from anywhere. `courser user` changes this file and keeps what you write into
# it; `courser reload` puts it in force. Only the server's user may be able to read it.

# What the salts of names that nobody has are made of. Without it, they change at each start, and show
# who is there.
";

/// `courser user`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Add a user; asks for the password, or reads it from standard input
    Add {
        /// What it logs in with
        name: UserName,
        /// As whom it may send: ann@example.org, example.org, *.example.org, or * for anybody
        #[arg(long, value_name = "SENDER", required = true, value_delimiter = ',')]
        from: Vec<SenderPattern>,
        /// As whom it may send in the envelope, where that is another: as --from, and <> for none
        #[arg(long, value_name = "SENDER", value_delimiter = ',')]
        mail_from: Vec<SenderPattern>,
        /// The tenant of all its mail
        #[arg(long)]
        tenant: Option<Name>,
        /// Messages in an hour at most
        #[arg(long, value_name = "N")]
        messages_per_hour: Option<u32>,
        /// Messages in a day at most
        #[arg(long, value_name = "N")]
        messages_per_day: Option<u32>,
        #[command(flatten)]
        kind: Kind,
        #[command(flatten)]
        place: Place,
    },
    /// Remove a user
    Remove {
        /// What it logs in with
        name: UserName,
        #[command(flatten)]
        place: Place,
    },
    /// List the users
    List {
        /// A JSON object for each
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Give a user another password
    Passwd {
        /// What it logs in with
        name: UserName,
        #[command(flatten)]
        kind: Kind,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The file of users; otherwise the one that the configuration names
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// The configuration
    #[arg(long, value_name = "FILE", env = "COURSER_CONFIG", default_value = DEFAULT_PATH)]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Kind {
    /// Keep keys for SCRAM-SHA-256, which PLAIN and LOGIN can use as well
    #[arg(long)]
    scram: bool,
    /// Keep an argon2id hash, which is harder to guess from, but not for SCRAM (the default)
    #[arg(long, conflicts_with = "scram")]
    argon2: bool,
    /// Iterations of SCRAM's keys: each login takes client and server so long
    #[arg(long, value_name = "N", default_value_t = SCRAM_ITERATIONS, requires = "scram")]
    iterations: u32,
}

/// Does what was asked for.
///
/// # Errors
/// A file that can't be read or written, or has mistakes; a user that is there already, or isn't.
pub fn run(args: Args, out: &mut dyn Write) -> Outcome {
    match args.what {
        What::Add {
            name,
            from,
            mail_from,
            tenant,
            messages_per_hour,
            messages_per_day,
            kind,
            place,
        } => {
            let file = place.file()?;
            let _lock = Lock::take(&file)?;
            let mut users = Opened::open(&file, true)?;
            if users.table(&name).is_some() {
                return Err(Failure::new(format!(
                    "user {name} is there already; `courser user passwd {name}` gives it another \
                     password"
                )));
            }
            let hash = kind.hash(&ask_for_password(&name)?, None)?;
            let mut table = Table::new();
            table["name"] = value(&*name);
            table["hash"] = value(&**hash);
            let list = |all: &[SenderPattern]| {
                value(toml_edit::Array::from_iter(
                    all.iter().map(ToString::to_string),
                ))
            };
            if let Some(tenant) = &tenant {
                table["tenant"] = value(&**tenant);
            }
            table["from"] = list(&from);
            if !mail_from.is_empty() {
                table["mail_from"] = list(&mail_from);
            }
            for (key, limit) in [
                ("messages_per_hour", messages_per_hour),
                ("messages_per_day", messages_per_day),
            ] {
                if let Some(limit) = limit {
                    table[key] = value(i64::from(limit));
                }
            }
            users.add_decoy();
            users.all()?.push(table);
            users.save()?;
            writeln!(out, "user {name} is added to {}", file.display())?;
            if users.owner.is_none() {
                writeln!(
                    out,
                    "only its owner can read it: the server's user must be its owner"
                )?;
            }
            in_force(out)
        }
        What::Remove { name, place } => {
            let file = place.file()?;
            let _lock = Lock::take(&file)?;
            let mut users = Opened::open(&file, false)?;
            users.remove(&name)?;
            users.save()?;
            writeln!(out, "user {name} is removed from {}", file.display())?;
            in_force(out)
        }
        What::Passwd { name, kind, place } => {
            let file = place.file()?;
            let _lock = Lock::take(&file)?;
            let mut users = Opened::open(&file, false)?;
            let missing = || Failure::new(format!("there is no user {name} in {}", file.display()));
            let old = users.table(&name).ok_or_else(missing)?;
            let old: Option<Hash> = old
                .get("hash")
                .and_then(Item::as_str)
                .and_then(|h| h.parse().ok());
            let hash = kind.hash(&ask_for_password(&name)?, old)?;
            users.add_decoy();
            if let Some(table) = users.table(&name) {
                table["hash"] = value(&**hash);
            }
            users.save()?;
            writeln!(
                out,
                "user {name} has another password in {}",
                file.display()
            )?;
            in_force(out)
        }
        What::List { json, place } => list(&place.file()?, json, out),
    }
}

fn in_force(out: &mut dyn Write) -> Outcome {
    Ok(writeln!(out, "`courser reload` puts it in force")?)
}

impl Place {
    fn file(&self) -> Result<PathBuf, Failure> {
        if let Some(file) = &self.users {
            return Ok(file.clone());
        }
        let config = config::load(&self.config)?;
        let mut files: Vec<&PathBuf> = Vec::new();
        for auth in config.listeners.iter().filter_map(|l| l.auth.as_ref()) {
            if !files.contains(&&auth.users) {
                files.push(&auth.users);
            }
        }
        match files[..] {
            [file] => Ok(file.clone()),
            [] => Err(Failure::new(format!(
                "{} names no file of users; write [listener.auth] with users = \"…\" into it, or \
                 give --users FILE",
                self.config.display()
            ))),
            _ => Err(Failure::new(format!(
                "{} names several files of users; give one of them with --users",
                self.config.display()
            ))),
        }
    }
}

impl Kind {
    /// What is kept of a password: as asked for, else as before.
    fn hash(&self, password: &str, before: Option<Hash>) -> Result<Zeroizing<String>, Failure> {
        let as_before = before.as_ref().is_some_and(|h| h.keys().is_some());
        if self.scram || (as_before && !self.argon2) {
            let hash = Hash::scram(password.as_bytes(), self.iterations);
            return hash.map_err(|e| Failure::new(format!("--iterations: {e}")));
        }
        Ok(Hash::argon2(password.as_bytes()))
    }
}

/// Asks twice without showing it, or reads a line from what isn't a terminal.
fn ask_for_password(name: &UserName) -> Result<Zeroizing<String>, Failure> {
    let typed = if std::io::stdin().is_terminal() {
        let ask = |what: &str| rpassword::prompt_password(what).map(Zeroizing::new);
        let first = ask(&format!("Password of {name}: "))?;
        if *ask("Once more: ")? != *first {
            return Err(Failure::new("these are two different passwords"));
        }
        first
    } else {
        let mut line = Zeroizing::new(String::with_capacity(SASL_PASSWORD_BYTES_MAX + 3));
        let most = SASL_PASSWORD_BYTES_MAX as u64 + 2;
        std::io::stdin().lock().take(most).read_line(&mut line)?;
        let end = line.trim_end_matches(['\r', '\n']).len();
        line.truncate(end);
        line
    };
    let password = prepare(&typed).map_err(|e| Failure::new(format!("the password has {e}")))?;
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(Failure::new(format!(
            "a password needs {PASSWORD_CHARS_MIN} characters at least"
        )));
    }
    if password.len() > SASL_PASSWORD_BYTES_MAX {
        return Err(Failure::new(format!(
            "a password has {SASL_PASSWORD_BYTES_MAX} bytes at most"
        )));
    }
    Ok(password)
}

/// One `courser user` at a time changes the files of a folder.
struct Lock(#[allow(dead_code)] File);

impl Lock {
    fn take(file: &Path) -> Result<Self, Failure> {
        let folder = folder(file);
        let failed = |e: std::io::Error| Failure::new(format!("{}: {e}", folder.display()));
        std::fs::create_dir_all(folder).map_err(failed)?;
        let folder = File::open(folder).map_err(failed)?;
        // SAFETY: the descriptor is open as long as `folder`.
        if unsafe { libc::flock(folder.as_raw_fd(), libc::LOCK_EX) } != 0 {
            return Err(failed(std::io::Error::last_os_error()));
        }
        Ok(Self(folder))
    }
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A file of users that is being changed.
struct Opened {
    /// Itself, not a link to it.
    file: PathBuf,
    document: DocumentMut,
    /// Owner, group and mode; `None`: it is new.
    owner: Option<(u32, u32, u32)>,
}

impl Opened {
    /// Reads a file that is right; one that isn't there can be made.
    fn open(file: &Path, make: bool) -> Result<Self, Failure> {
        let users = Users::load(file, None);
        let metadata = std::fs::metadata(file);
        if make && matches!(&metadata, Err(e) if e.kind() == std::io::ErrorKind::NotFound) {
            return Ok(Self {
                file: file.to_owned(),
                document: DocumentMut::new(),
                owner: None,
            });
        }
        users.map_err(|fault| Failure {
            code: 3,
            message: fault.to_string(),
        })?;
        let failed = |e: std::io::Error| Failure::new(format!("{}: {e}", file.display()));
        let metadata = metadata.map_err(failed)?;
        let bytes = match private::read(file, u64::MAX - 1, "the file of the users", "log in") {
            Ok(bytes) => bytes,
            Err(Unread::Missing) => {
                return Err(Failure::new(format!("{} is gone", file.display())));
            }
            Err(Unread::Wrong(what)) => return Err(Failure::new(what)),
        };
        let text = String::from_utf8_lossy(&bytes);
        let document = text
            .parse()
            .map_err(|_| Failure::new(format!("{}: is no TOML", file.display())))?;
        Ok(Self {
            file: std::fs::canonicalize(file).map_err(failed)?,
            document,
            owner: Some((
                metadata.uid(),
                metadata.gid(),
                metadata.permissions().mode() & 0o777,
            )),
        })
    }

    fn all(&mut self) -> Result<&mut ArrayOfTables, Failure> {
        let item = self
            .document
            .entry("user")
            .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        item.as_array_of_tables_mut().ok_or_else(|| {
            Failure::new("write each user as a [[user]] of its own, with its options below it")
        })
    }

    fn table(&mut self, name: &UserName) -> Option<&mut Table> {
        let mut all = self
            .document
            .get_mut("user")?
            .as_array_of_tables_mut()?
            .iter_mut();
        all.find(|table| table.get("name").and_then(Item::as_str) == Some(&**name))
    }

    fn remove(&mut self, name: &UserName) -> Outcome {
        let file = self.file.display().to_string();
        let all = self.all()?;
        let is = |table: &Table| table.get("name").and_then(Item::as_str) == Some(&**name);
        let at = all.iter().position(is);
        let at = at.ok_or_else(|| Failure::new(format!("there is no user {name} in {file}")))?;
        // What is written right above a user goes with it; what stands apart stays.
        let above = |table: &Table| {
            let text = table
                .decor()
                .prefix()
                .and_then(|p| p.as_str())
                .unwrap_or_default();
            text.to_owned()
        };
        let text = all.get(at).map(above).unwrap_or_default();
        let stays = text.rfind("\n\n").map_or("", |end| &text[..=end]);
        let stays = if stays.trim().is_empty() { "" } else { stays };
        all.remove(at);
        match all.get_mut(at) {
            Some(next) if !stays.is_empty() => {
                let prefix = format!("{stays}{}", above(next));
                next.decor_mut().set_prefix(prefix);
            }
            None if !stays.is_empty() => {
                let rest = self.document.trailing().as_str().unwrap_or_default();
                let rest = format!("{stays}{rest}");
                self.document.set_trailing(rest);
            }
            _ => {}
        }
        Ok(())
    }

    /// A file without a decoy gets one.
    fn add_decoy(&mut self) {
        if self.document.contains_key("decoy") {
            return;
        }
        let decoy: Zeroizing<[u8; 32]> = Zeroizing::new(random());
        let text = Zeroizing::new(Base64::encode_string(&*decoy));
        self.document["decoy"] = value(&**text);
        if self.owner.is_none()
            && let Some(mut key) = self.document.key_mut("decoy")
        {
            key.leaf_decor_mut().set_prefix(NEW_FILE);
        }
    }

    /// Writes it, if it is right.
    fn save(&mut self) -> Outcome {
        let text = Zeroizing::new(self.document.to_string());
        Users::parse(&text, &self.file, None).map_err(|fault| Failure {
            code: 3,
            message: format!("nothing is written, since the file would be wrong:\n{fault}"),
        })?;
        let failed = |e: std::io::Error| Failure::new(format!("{}: {e}", self.file.display()));
        let mut name = std::ffi::OsString::from(".");
        name.push(self.file.file_name().unwrap_or_default());
        name.push(format!(".{}.new", std::process::id()));
        let new = folder(&self.file).join(name);
        let written = self.write(&new, text.as_bytes());
        let moved = written.and_then(|()| std::fs::rename(&new, &self.file));
        if let Err(error) = moved {
            let _ = std::fs::remove_file(&new);
            return Err(failed(error));
        }
        let synced = File::open(folder(&self.file)).and_then(|folder| folder.sync_all());
        synced.map_err(failed)
    }

    fn write(&self, new: &Path, text: &[u8]) -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(new)?;
        file.write_all(text)?;
        if let Some((owner, group, mode)) = self.owner {
            let now = file.metadata()?;
            if (now.uid(), now.gid()) != (owner, group) {
                // Otherwise the server could not read it any more.
                std::os::unix::fs::fchown(&file, Some(owner), Some(group))?;
            }
            file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        }
        file.sync_all()
    }
}

fn list(file: &Path, json: bool, out: &mut dyn Write) -> Outcome {
    let users = Users::load(file, None).map_err(|fault| Failure {
        code: 3,
        message: fault.to_string(),
    })?;
    let senders =
        |all: &Senders| -> Vec<String> { all.0.iter().map(ToString::to_string).collect() };
    if json {
        for user in users.iter() {
            let limits: Vec<String> = user.limits().iter().map(ToString::to_string).collect();
            let line = serde_json::json!({
                "name": &*user.name, "hash": user.hash().kind(), "tenant": user.tenant.as_deref(),
                "from": senders(&user.from), "mail_from": senders(&user.mail_from), "limits": limits,
            });
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    let mut table = render::table(&["user", "password", "tenant", "from", "mail from", "limits"]);
    for user in users.iter() {
        let limit = |rate: &courser_core::traffic::bucket::Rate| {
            let period = if rate.period().as_secs() == 3600 {
                "h"
            } else {
                "d"
            };
            format!("{}/{period}", rate.count())
        };
        let limits: Vec<String> = user.limits().iter().map(limit).collect();
        table.add_row([
            user.name.to_string(),
            user.hash().kind().to_owned(),
            user.tenant.as_deref().unwrap_or_default().to_owned(),
            senders(&user.from).join(", "),
            if user.mail_from == user.from {
                String::new()
            } else {
                senders(&user.mail_from).join(", ")
            },
            limits.join(", "),
        ]);
    }
    Ok(write!(out, "{}", render::lines(&table))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# Our users.
decoy = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"

# The shop and its friends.

# Ann writes newsletters.
[[user]]
name = \"ann\" # the first
hash = \"HASH\"
from = [\"*\"]

# Bob writes too.
[[user]]
hash = \"HASH\"
from = [ \"b.example\" ]
name = \"bob\"
# The end.
";

    fn made(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("users.toml");
        let hash = Hash::scram(b"long enough", 4096).unwrap();
        std::fs::write(&file, text.replace("HASH", &hash)).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        (dir, file)
    }

    fn read(file: &Path) -> String {
        std::fs::read_to_string(file).unwrap()
    }

    fn name(text: &str) -> UserName {
        text.parse().unwrap()
    }

    #[test]
    fn what_stands_beside_a_user_stays() {
        let (_dir, file) = made(FILE);
        let before = read(&file);
        let remove = |who: &str| {
            let mut users = Opened::open(&file, false).unwrap();
            users.remove(&name(who))?;
            users.save()
        };
        assert!(remove("eve").unwrap_err().message.contains("no user eve"));
        assert_eq!(read(&file), before);
        remove("ann").unwrap();
        let after = read(&file);
        let bob = &before[before.find("# Bob").unwrap()..];
        let head = &before[..before.find("\n# Ann").unwrap()];
        assert_eq!(after, format!("{head}\n{bob}"));
        remove("bob").unwrap();
        assert_eq!(read(&file), format!("{head}# The end.\n"));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(
            std::fs::read_dir(file.parent().unwrap()).unwrap().count(),
            1
        );
    }

    #[test]
    fn a_file_that_would_be_wrong_is_not_written() {
        let (_dir, file) = made(FILE);
        let before = read(&file);
        let mut users = Opened::open(&file, false).unwrap();
        users.table(&name("ann")).unwrap()["from"] = value(5);
        let failure = users.save().unwrap_err();
        assert!(
            failure.message.contains("nothing is written"),
            "{failure:?}"
        );
        assert_eq!(read(&file), before);
        // Nor is one touched that is wrong already.
        std::fs::write(&file, before.replace("name = \"bob\"", "")).unwrap();
        let failure = Opened::open(&file, true).err().unwrap();
        assert!(
            failure.message.contains("[[user]]") || failure.message.contains("name"),
            "{failure:?}"
        );
        let (_dir, file) = made("user = [{ name = \"ann\", hash = \"HASH\", from = [] }]\n");
        let mut users = Opened::open(&file, true).unwrap();
        assert!(users.all().unwrap_err().message.contains("[[user]]"));
    }

    #[test]
    fn a_link_stays_one() {
        let (dir, file) = made(FILE);
        let link = dir.path().join("link.toml");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mut users = Opened::open(&link, false).unwrap();
        users.remove(&name("ann")).unwrap();
        users.save().unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(!read(&file).contains("ann\""));
    }
}
