//! The file of users: one `[[user]]` for each.
//!
//! Its problems show no line of it: a password hash, or a password that somebody wrote in its
//! place, would go into the log.

use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use courser_core::auth::senders::SenderPattern;
use courser_core::limits::SASL_USER_BYTES_MAX;
use courser_core::smtp::sasl::prepare;
use toml::de::DeValue;
use zeroize::Zeroizing;

use super::Name;
use super::problem::Problems;
use super::tree::Scalar;
use super::units::{quoted, text};

/// Users of one file, at most.
pub const USERS_MAX: usize = 100_000;
/// Messages of a user in an hour or a day, at most.
const MESSAGES_MAX: u32 = 100_000_000;

/// What a user logs in with: 1 to 255 bytes without white space and control characters, in the one
/// form that RFC 4013 leaves of it. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(Arc<str>);

impl FromStr for UserName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |c: char| c.is_whitespace() || c.is_control();
        if text.is_empty() || text.len() > SASL_USER_BYTES_MAX || text.contains(bad) {
            return Err(format!("{text:?} is no name of a user"));
        }
        match prepare(text) {
            Ok(prepared) if *prepared == *text => Ok(Self(text.into())),
            Ok(prepared) => Err(format!(
                "{text:?} is the same as {:?}; write that",
                &**prepared
            )),
            Err(_) => Err(format!(
                "{text:?} has a character that can't be told by eye"
            )),
        }
    }
}

impl Deref for UserName {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl UserName {
    /// The name as shared text.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl Scalar for UserName {
    const EXPECTED: &'static str =
        "a name of 1 to 255 bytes without white space, such as \"shop\" or \"shop@example.org\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        text(value)?.parse()
    }
    fn show(&self) -> String {
        quoted(self)
    }
}

/// A text that is never shown, and wiped when it is dropped.
#[derive(Clone, PartialEq)]
pub struct Hidden(pub Zeroizing<String>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

impl Scalar for Hidden {
    const EXPECTED: &'static str = "a hash in quotes, as `courser user passwd` writes it";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().ok_or("is no string")?;
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
    fn show(&self) -> String {
        quoted("hidden")
    }
}

impl Scalar for SenderPattern {
    const EXPECTED: &'static str =
        "\"ann@example.org\", \"example.org\", \"*.example.org\", \"<>\" or \"*\"";
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let text = text(value)?;
        text.parse().map_err(|_| format!("{text:?} is no sender"))
    }
    fn show(&self) -> String {
        quoted(self)
    }
}

/// `[[user]]`
#[derive(Clone, Debug, PartialEq)]
pub struct UserEntry {
    /// What it logs in with.
    pub name: UserName,
    /// What is kept of its password.
    pub hash: Hidden,
    /// The line of `hash`, for messages about it.
    pub hash_line: usize,
    /// The tenant of all its mail; `None`: as for mail of `relay_networks`.
    pub tenant: Option<Name>,
    /// Addresses that its From may have.
    pub from: Vec<SenderPattern>,
    /// Addresses that its MAIL FROM may have.
    pub mail_from: Vec<SenderPattern>,
    /// Messages in an hour; `None`: any number.
    pub messages_per_hour: Option<u32>,
    /// Messages in a day; `None`: any number.
    pub messages_per_day: Option<u32>,
}

/// A file of users.
#[derive(Clone, Debug, PartialEq)]
pub struct UsersFile {
    /// What the salts of users that aren't there are made of; `None`: the file has none.
    pub decoy: Option<Zeroizing<[u8; 32]>>,
    /// The users.
    pub users: Vec<UserEntry>,
}

/// Reads and checks the text of a file of users; `file` is its name in messages.
///
/// # Errors
/// Every mistake of the file; none of them shows a line of it.
pub fn parse_users(text: &str, file: &str) -> Result<UsersFile, Problems> {
    let read = super::read_with(text, file, |mut root| {
        let decoy: Option<Hidden> = root.optional("decoy");
        let decoded = decoy.as_ref().map(|Hidden(text)| {
            let mut bytes = Zeroizing::new([0; 32]);
            let whole = Base64::decode(&**text, &mut *bytes).is_ok_and(|b| b.len() == 32);
            whole.then_some(bytes)
        });
        if let Some(None) = decoded {
            let right = "leave the line out; `courser user add` writes a new one";
            root.wrong("decoy", "is not 32 bytes in base64", right);
        }
        let sections = root.sections("user");
        if sections.len() > USERS_MAX {
            let what = format!("{} users are too many", sections.len());
            root.wrong(
                "user",
                what,
                format!("{USERS_MAX} are possible in one file"),
            );
        }
        let mut taken = HashSet::new();
        let mut users = Vec::new();
        for mut s in sections.into_iter().take(USERS_MAX) {
            let name: Option<UserName> =
                s.required("name", "say what the user logs in with: name = \"shop\"");
            let hash: Option<Hidden> = s.required("hash", "`courser user passwd` writes it");
            let tenant = s.optional("tenant");
            let from: Option<Vec<SenderPattern>> = s.required(
                "from",
                "say as whom the user may send: from = [\"example.org\"], or [\"*\"] for anybody",
            );
            let mail_from: Option<Vec<SenderPattern>> = s.optional("mail_from");
            let limit = |s: &mut super::tree::Section<'_, '_>, key| {
                let limit: Option<u32> = s.optional(key);
                if limit.is_some_and(|n| !(1..=MESSAGES_MAX).contains(&n)) {
                    let right = format!("write 1 to {MESSAGES_MAX}, or leave it out for no limit");
                    s.wrong(key, "is no limit", right);
                }
                limit
            };
            let messages_per_hour = limit(&mut s, "messages_per_hour");
            let messages_per_day = limit(&mut s, "messages_per_day");
            if let Some(name) = &name
                && !taken.insert(name.clone())
            {
                let what = format!("there is another user {:?}", &**name);
                s.wrong("name", what, "give each its own name");
            }
            if let (Some(name), Some(hash), Some(from)) = (name, hash, from) {
                users.push(UserEntry {
                    name,
                    hash,
                    hash_line: s.line_of("hash"),
                    tenant,
                    mail_from: mail_from.unwrap_or_else(|| from.clone()),
                    from,
                    messages_per_hour,
                    messages_per_day,
                });
            }
            s.finish();
        }
        root.finish();
        UsersFile {
            decoy: decoded.flatten(),
            users,
        }
    });
    read.map(|(file, _)| file)
        .map_err(Problems::without_excerpts)
}
