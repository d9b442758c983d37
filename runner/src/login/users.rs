//! The files of users: who may log in, as whom, and how much he may send.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use courser_core::auth::senders::Senders;
use courser_core::smtp::extension::AuthMechanisms;
use courser_core::smtp::sasl::scram::{Keys, Recipe};
use courser_core::smtp::sasl::{Mechanism, prepare};
use courser_core::time::Instant;
use courser_core::traffic::bucket::{Bucket, Rate};
use courser_core::traffic::logins::Claim;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::hash::{Hash, SCRAM_ITERATIONS};
use super::{LoginFault, random};
use crate::config::{Name, UserName, parse_users};
use crate::private::{self, Unread};

/// Bytes of a file of users at the most: the most users that it may have, with all that they can
/// say.
const USERS_FILE_BYTES_MAX: u64 = 128 << 20;

/// One user.
pub struct User {
    /// What it logs in with.
    pub name: UserName,
    /// The tenant of all its mail; `None`: as for mail of `relay_networks`.
    pub tenant: Option<Name>,
    /// As whom it may send in From.
    pub from: Senders,
    /// As whom it may send in MAIL FROM.
    pub mail_from: Senders,
    hash: Hash,
    limits: Vec<Rate>,
    used: Arc<Mutex<Vec<Bucket>>>,
}

impl User {
    /// Takes one message from what it may send.
    ///
    /// # Errors
    /// When it may send the next one.
    pub fn message(&self, now: Instant) -> Result<(), Instant> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.resize_with(self.limits.len(), Bucket::new);
        let pairs = || self.limits.iter().zip(used.iter());
        let next = pairs().map(|(rate, bucket)| bucket.next(*rate, now)).max();
        if let Some(next) = next.filter(|next| *next > now) {
            return Err(next);
        }
        for (rate, bucket) in self.limits.iter().zip(used.iter_mut()) {
            bucket.try_take(*rate, now, 1);
        }
        Ok(())
    }

    /// What is kept of its password.
    pub const fn hash(&self) -> &Hash {
        &self.hash
    }

    /// Its limits.
    pub fn limits(&self) -> &[Rate] {
        &self.limits
    }
}

/// Says who it is, and nothing of its password.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}

/// The users of one file.
#[derive(Debug)]
pub struct Users {
    file: PathBuf,
    users: Vec<Arc<User>>,
    /// Those that can use SCRAM.
    with_keys: Vec<Arc<User>>,
    by_name: HashMap<UserName, usize>,
    decoy: Zeroizing<[u8; 32]>,
    has_decoy: bool,
    /// Of the file's text.
    hash: [u8; 32],
}

/// Whom a name means: a user, or a made-up one that takes as long and looks as much like one.
pub struct Meant {
    user: Option<Arc<User>>,
    /// Whose hash is compared where there is no user.
    stand_in: Option<Arc<User>>,
    keys: Box<Keys>,
    claim: Claim,
}

impl Meant {
    /// The user, if there is one.
    pub const fn user(&self) -> Option<&Arc<User>> {
        self.user.as_ref()
    }

    /// What failures are counted for.
    pub const fn claim(&self) -> Claim {
        self.claim
    }

    /// Keys for SCRAM: nobody's, where there is no such user or it has none.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Whether there is a user and this is his password. It takes as long where there is none.
    pub fn has(&self, password: &[u8]) -> bool {
        let Some(user) = self.user.as_ref().or(self.stand_in.as_ref()) else {
            let _ = self.keys.are_of(password);
            return false;
        };
        // One that can't be typed again was never anybody's; the time goes by all the same.
        let text = std::str::from_utf8(password)
            .ok()
            .and_then(|t| prepare(t).ok());
        let right = match &text {
            Some(text) => user.hash.is_of(text.as_bytes()),
            None => user.hash.is_of(b"\0"),
        };
        right && text.is_some() && self.user.is_some()
    }
}

impl Users {
    /// Reads a file. What users of `before` have used up of their limits stays used up.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(file: &Path, before: Option<&Self>) -> Result<Self, LoginFault> {
        let shown = file.display();
        let bytes = private::read(
            file,
            USERS_FILE_BYTES_MAX,
            "the file of the users",
            "log in as a user, or become one",
        );
        let bytes = bytes.map_err(|unread| match unread {
            Unread::Missing => LoginFault(format!(
                "the users {shown}: the file is not there; `courser user add NAME --users {shown}` \
                 makes one"
            )),
            Unread::Wrong(what) => LoginFault(format!("the users {shown}: {what}")),
        })?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| LoginFault(format!("the users {shown}: is no text in UTF-8")))?;
        Self::parse(text, file, before)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, file: &Path, before: Option<&Self>) -> Result<Self, LoginFault> {
        let shown = file.display().to_string();
        let read = parse_users(text, &shown).map_err(|e| LoginFault(e.to_string()))?;
        let mut users = Vec::with_capacity(read.users.len());
        let mut by_name = HashMap::with_capacity(read.users.len());
        for entry in read.users {
            let hash = entry.hash.0.parse().map_err(|bad| {
                let (line, name) = (entry.hash_line, &entry.name);
                LoginFault(format!(
                    "{shown}:{line}: the hash of user {name:?} {bad}",
                    name = &**name
                ))
            })?;
            let old = before.and_then(|b| b.get(&entry.name));
            // As many as in the whole time may come at once; they are given back evenly.
            let rate = |count: u32, per_s| Rate::new(count, per_s).with_burst(count);
            let limits: Vec<Rate> = [
                entry.messages_per_hour.map(|n| rate(n, 3600)),
                entry.messages_per_day.map(|n| rate(n, 86_400)),
            ]
            .into_iter()
            .flatten()
            .collect();
            let used = match old {
                Some(old) if old.limits == limits => old.used.clone(),
                _ => Arc::default(),
            };
            by_name.insert(entry.name.clone(), users.len());
            users.push(Arc::new(User {
                name: entry.name,
                tenant: entry.tenant,
                from: Senders(entry.from),
                mail_from: Senders(entry.mail_from),
                hash,
                limits,
                used,
            }));
        }
        let has_decoy = read.decoy.is_some();
        let decoy = read.decoy.or_else(|| before.map(|b| b.decoy.clone()));
        let with_keys = users
            .iter()
            .filter(|u: &&Arc<User>| u.hash.keys().is_some());
        Ok(Self {
            file: file.to_owned(),
            with_keys: with_keys.cloned().collect(),
            users,
            by_name,
            decoy: decoy.unwrap_or_else(|| Zeroizing::new(random())),
            has_decoy,
            hash: Sha256::digest(text.as_bytes()).into(),
        })
    }

    /// Whether the file says the same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.hash == other.hash
    }

    /// The user of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<User>> {
        // No user's name is longer, or in another form.
        let name: UserName = name.parse().ok()?;
        self.by_name.get(&name).and_then(|n| self.users.get(*n))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.iter()
    }

    /// Where they were read.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether the file says what the salts of users that aren't there are made of. Without it they
    /// change at each start, which tells who is there.
    pub const fn has_decoy(&self) -> bool {
        self.has_decoy
    }

    /// Those who can't use SCRAM.
    pub fn without_keys(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.iter().filter(|u| u.hash.keys().is_none())
    }

    /// What is offered: `wanted`, or without any wish what every user can do. A client that chose
    /// SCRAM because it is offered would fail where its user has no keys.
    pub fn mechanisms(&self, wanted: &[Mechanism]) -> AuthMechanisms {
        if !wanted.is_empty() {
            return crate::config::mechanisms(wanted);
        }
        let scram = !self.users.is_empty() && self.with_keys.len() == self.users.len();
        AuthMechanisms {
            plain: true,
            login: true,
            scram_sha_256: scram,
            scram_sha_256_plus: scram,
            ..AuthMechanisms::default()
        }
    }

    /// Whom a client means. Who isn't there is given the ways of somebody who is, always the same
    /// for the same name, so that neither salts nor times tell them apart.
    pub fn meant(&self, name: &str) -> Meant {
        let prepared = prepare(name);
        let name: &str = prepared.as_ref().map_or(name, |p| p.as_str());
        let user = self.get(name).cloned();
        // All is done for both, since what is left out would be seen.
        let stand_in = self.stand_in(name, &self.users);
        let like = self.stand_in(name, &self.with_keys);
        let like = like.as_ref().and_then(|u| u.hash.keys());
        let like = like.map_or_else(usual_recipe, |keys| keys.recipe().clone());
        let made_up = Keys::made_up(&self.decoy, name.as_bytes(), &like);
        let keys = user.as_ref().and_then(|u| u.hash.keys());
        Meant {
            claim: Claim::new(name, user.is_some()),
            keys: Box::new(keys.cloned().unwrap_or(made_up)),
            user,
            stand_in,
        }
    }

    /// One of `users`, by the name.
    fn stand_in(&self, name: &str, users: &[Arc<User>]) -> Option<Arc<User>> {
        let mut hash = Sha256::new();
        hash.update(*self.decoy);
        hash.update(name.as_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let chance = u64::from_le_bytes(hash[..8].try_into().expect("eight of 32"));
        let which = chance.checked_rem(users.len() as u64)?;
        users.get(which as usize).cloned()
    }
}

/// What keys of nobody look like where nobody has any.
fn usual_recipe() -> Recipe {
    Recipe::new(&[0; 16], SCRAM_ITERATIONS).expect("16 octets are a salt")
}

#[cfg(test)]
mod tests {
    use super::*;
    use courser_core::time::Duration;

    fn entry(name: &str, hash: &str, more: &str) -> String {
        format!("[[user]]\nname = \"{name}\"\nhash = \"{hash}\"\nfrom = [\"*\"]\n{more}\n")
    }

    fn scram(password: &str) -> Zeroizing<String> {
        Hash::scram(password.as_bytes(), 4096).unwrap()
    }

    fn parse(text: &str) -> Result<Users, LoginFault> {
        Users::parse(text, Path::new("users.toml"), None)
    }

    #[test]
    fn who_is_there_and_who_is_not() {
        let text = entry("ann", &scram("sesame"), "") + &entry("bob", &Hash::argon2(b"hello"), "");
        let users = parse(&text).unwrap();
        let ann = users.meant("ann");
        assert!(ann.has(b"sesame") && !ann.has(b"hello") && !ann.has(b""));
        assert_eq!(ann.user().map(|u| &*u.name), Some("ann"));
        assert!(ann.keys().are_of(b"sesame"));
        let bob = users.meant("bob");
        assert!(bob.has(b"hello") && !bob.has(b"\xff\xfe"));
        assert!(!bob.keys().are_of(b"hello"), "he has no keys");
        for name in ["eve", "", "an", "ann ", "ANN", "a\u{0}b", &"x".repeat(300)] {
            let eve = users.meant(name);
            assert!(eve.user().is_none(), "{name:?}");
            assert!(!eve.has(b"sesame") && !eve.has(b"hello"), "{name:?}");
            // She looks like one of them, and always the same.
            assert_eq!(eve.keys().recipe().iterations(), 4096);
            assert_eq!(
                eve.keys().recipe().salt(),
                users.meant(name).keys().recipe().salt()
            );
        }
        assert_ne!(
            users.meant("eve").keys().recipe().salt(),
            users.meant("eva").keys().recipe().salt()
        );
        // Where nobody is, too.
        let nobody = parse("").unwrap();
        assert!(!nobody.meant("ann").has(b"sesame"));
        assert!(!nobody.mechanisms(&[]).scram_sha_256);
    }

    #[test]
    fn salts_of_nobody_last_as_long_as_the_decoy() {
        let decoy = format!("decoy = \"{}=\"\n", "A".repeat(43));
        let text = decoy + &entry("ann", &scram("sesame"), "");
        let salt = |users: &Users| users.meant("eve").keys().recipe().salt().to_vec();
        let (one, two) = (parse(&text).unwrap(), parse(&text).unwrap());
        assert_eq!(salt(&one), salt(&two));
        assert!(one.has_decoy());
        let without = entry("ann", &scram("sesame"), "");
        let one = parse(&without).unwrap();
        assert_ne!(salt(&one), salt(&parse(&without).unwrap()));
        let two = Users::parse(&without, Path::new("users.toml"), Some(&one)).unwrap();
        assert_eq!(salt(&one), salt(&two), "a reload changes nothing");
    }

    #[test]
    fn passwords_that_look_the_same_are_the_same() {
        let password = prepare("p\u{e4}ss\u{a0}w\u{f6}rd").unwrap();
        let users = parse(&entry("j\u{f6}rg", &scram(&password), "")).unwrap();
        let joerg = users.meant("jo\u{308}rg");
        assert!(joerg.has("pa\u{308}ss wo\u{308}rd".as_bytes()));
        assert!(!joerg.has("pass word".as_bytes()));
    }

    #[test]
    fn what_is_offered_by_itself() {
        let ann = entry("ann", &scram("sesame"), "");
        let bob = entry("bob", &Hash::argon2(b"hello"), "");
        let offered = parse(&ann).unwrap().mechanisms(&[]);
        assert!(offered.plain && offered.scram_sha_256 && offered.scram_sha_256_plus);
        let both = parse(&(ann + &bob)).unwrap();
        let offered = both.mechanisms(&[]);
        assert!(offered.plain && offered.login && !offered.scram_sha_256);
        let wanted = both.mechanisms(&[Mechanism::ScramSha256]);
        assert!(wanted.scram_sha_256 && !wanted.plain);
        assert_eq!(both.without_keys().count(), 1);
    }

    #[test]
    fn limits_and_what_is_used_of_them() {
        let text = entry(
            "ann",
            &scram("x"),
            "messages_per_hour = 2\nmessages_per_day = 3",
        );
        let users = parse(&text).unwrap();
        let ann = users.get("ann").unwrap();
        let at = |s: u64| Instant::ZERO + Duration::from_secs(s);
        assert_eq!(ann.message(at(0)), Ok(()));
        assert_eq!(ann.message(at(0)), Ok(()));
        assert_eq!(ann.message(at(0)), Err(at(1800)));
        assert_eq!(ann.message(at(1800)), Ok(()));
        // Now the day is used up, of which a third has to pass.
        assert_eq!(ann.message(at(7200)), Err(at(28_800)));
        let again = Users::parse(&text, Path::new("users.toml"), Some(&users)).unwrap();
        assert_eq!(again.get("ann").unwrap().message(at(7200)), Err(at(28_800)));
        let other = text.replace("per_day = 3", "per_day = 4");
        let changed = Users::parse(&other, Path::new("users.toml"), Some(&users)).unwrap();
        assert_eq!(changed.get("ann").unwrap().message(at(7200)), Ok(()));
        let free = parse(&entry("ann", &scram("x"), "")).unwrap();
        assert!((0..1000).all(|_| free.get("ann").unwrap().message(at(0)).is_ok()));
    }

    #[test]
    fn faults_name_the_line_and_show_no_hash() {
        let good = scram("sesame");
        for (text, words) in [
            (
                entry("ann", "hunter2", ""),
                &["users.toml:3", "\"ann\"", "courser user passwd"][..],
            ),
            (
                entry("ann", &good.replace("4096", "1000"), ""),
                &[":3", "4096"],
            ),
            (entry("a b", &good, ""), &["users.toml:2", "name"]),
            (
                entry("ann", &good, "") + &entry("ann", &good, ""),
                &[":7", "another user"],
            ),
            (
                entry("ann", &good, "password = \"hunter2\""),
                &[":5", "password"],
            ),
            (
                entry("ann", &good, "messages_per_hour = 0"),
                &[":5", "limit"],
            ),
            (
                entry("ann", &good, "mail_from = [\"@\"]"),
                &[":5", "sender"],
            ),
            (
                format!("[[user]]\nname = \"ann\"\nhash = \"{}\n", *good),
                &[":3"],
            ),
            (
                format!("[[user]]\nname = \"ann\"\nhash = {}\n", *good),
                &[":3"],
            ),
            (
                format!("[[user]]\nname = \"ann\"\nhash = [\"{}\"]\n", *good),
                &["is no string"],
            ),
            ("decoy = \"hunter2\"".into(), &[":1", "32 bytes"]),
            ("[[users]]\n".into(), &[":1", "user"]),
            ("[[user]]\n".into(), &["name", "hash", "from"]),
        ] {
            let said = parse(&text).unwrap_err().to_string();
            for word in words {
                assert!(said.contains(word), "{word} in {said}");
            }
            for secret in ["hunter2", &good[24..40]] {
                assert!(!said.contains(secret), "{secret} in {said}");
            }
        }
    }
}
