//! The keys of the configuration, read and parsed once.
//!
//! [`Keys::load`] reads every key or says everything that is wrong with them; [`Keys::sign`] gives
//! the signatures of one message. A key that every user of the machine can read is refused: it is
//! a secret no longer.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use courser_core::auth::canon::Canon;
use courser_core::auth::dkim::{
    Algorithm, DEFAULT_FIELDS, KeyRecord, PrivateKey, SignError, SignedField, Signer,
    SigningOptions, sign,
};
use courser_core::auth::dmarc;
use courser_core::auth::hash::HashedBody;
use courser_core::dns::Name;
use courser_core::mail::header::Header;
use courser_core::time::Wall;

use super::signer::FastSigner;
use crate::config::{Canonicalization, Dkim, DkimKey, DomainPattern, When};

/// Bytes of a key file at the most; an RSA key of 4096 bits takes 3.3 kB.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;
/// Keys at the most, files of the folder included.
pub const KEYS_MAX: usize = 100_000;
/// Signatures of one message at the most: receivers look at the first few only.
pub const SIGNATURES_MAX: usize = 5;
/// What a signature takes of a message, bytes, where the key has 2048 bits.
const SIGNATURE_BYTES: usize = 1280;

/// One key.
pub struct Key {
    /// The `d=` of its signatures.
    pub domain: Name,
    /// The `s=` of its signatures.
    pub selector: Name,
    /// Where it was read.
    pub file: PathBuf,
    /// What its record has to say.
    pub record: KeyRecord,
    /// From when on it signs.
    pub from: Option<When>,
    /// Until when it signs.
    pub until: Option<When>,
    sign_for: Vec<DomainPattern>,
    signer: FastSigner,
}

impl Key {
    /// Where its record stands: `SELECTOR._domainkey.DOMAIN`.
    pub fn record_name(&self) -> String {
        format!("{}._domainkey.{}", self.selector, self.domain)
    }

    /// What it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.signer.algorithm()
    }

    /// Whether it signs then.
    pub fn is_active(&self, now: Wall) -> bool {
        self.from.is_none_or(|from| from.0 <= now) && self.until.is_none_or(|until| now < until.0)
    }
}

/// Says whose key it is, and nothing of what is in it.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.record_name())
    }
}

/// What is wrong with a key, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("DKIM key {}: {what}", file.display())]
pub struct KeyFault {
    /// The file or folder.
    pub file: PathBuf,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// Everything that is wrong with the keys of a configuration; a line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFaults(pub Vec<KeyFault>);

impl fmt::Display for KeyFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}
impl std::error::Error for KeyFaults {}

/// The keys of a configuration.
#[derive(Debug, Default)]
pub struct Keys {
    keys: Vec<Key>,
    headers: Vec<String>,
    canon: Option<(Canon, Canon)>,
    valid_s: Option<u32>,
}

impl Keys {
    /// Reads the keys that `config` names.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(config: &Dkim) -> Result<Self, KeyFaults> {
        let mut faults = Vec::new();
        let mut keys: Vec<Key> = Vec::new();
        let mut named: Vec<DkimKey> = config.keys.clone();
        if let Some(dir) = &config.dir {
            match folder(dir) {
                Ok(found) => named.extend(found),
                Err(mut wrong) => faults.append(&mut wrong),
            }
        }
        if named.len() > KEYS_MAX {
            faults.push(KeyFault {
                file: config.dir.clone().unwrap_or_default(),
                what: format!("{} keys are more than {KEYS_MAX}", named.len()),
            });
            return Err(KeyFaults(faults));
        }
        for key in named {
            let wrong = |what: String| KeyFault {
                file: key.file.clone(),
                what,
            };
            match read(&key) {
                Ok(read) => {
                    let twice = keys
                        .iter()
                        .find(|k| k.domain == read.domain && k.selector == read.selector);
                    match twice {
                        None => keys.push(read),
                        Some(other) => faults.push(wrong(format!(
                            "{} has a key already, {}; give each its own selector",
                            read.record_name(),
                            other.file.display()
                        ))),
                    }
                }
                Err(what) => faults.push(wrong(what)),
            }
        }
        if !faults.is_empty() {
            return Err(KeyFaults(faults));
        }
        let canon = match config.canonicalization {
            Canonicalization::RelaxedRelaxed => (Canon::Relaxed, Canon::Relaxed),
            Canonicalization::RelaxedSimple => (Canon::Relaxed, Canon::Simple),
            Canonicalization::SimpleRelaxed => (Canon::Simple, Canon::Relaxed),
            Canonicalization::SimpleSimple => (Canon::Simple, Canon::Simple),
        };
        Ok(Self {
            keys,
            headers: config.headers.clone(),
            canon: Some(canon),
            valid_s: config
                .expire_after
                .map(|x| u32::try_from(x.as_secs()).unwrap_or(u32::MAX)),
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// The body hashes that signatures need.
    pub fn body_canons(&self) -> Vec<Canon> {
        match self.canon {
            Some((_, body)) if !self.is_empty() => vec![body],
            _ => Vec::new(),
        }
    }

    /// What is best left free before a message for its signatures, bytes.
    pub fn room(&self) -> usize {
        self.keys.len().min(2) * SIGNATURE_BYTES
    }

    /// The keys that sign mail from `author` now, at most [`SIGNATURES_MAX`]: those that name it,
    /// and of the others those of the closest domain.
    pub fn for_author(&self, author: &Name, now: Wall) -> Vec<&Key> {
        let active = || self.keys.iter().filter(|k| k.is_active(now));
        let implied = || active().filter(|k| k.sign_for.is_empty() && author.is_within(&k.domain));
        let closest = implied().map(|k| k.domain.len()).max();
        let own = implied().filter(|k| Some(k.domain.len()) == closest);
        let named = active().filter(|k| k.sign_for.iter().any(|p| p.matches(author)));
        own.chain(named).take(SIGNATURES_MAX).collect()
    }

    /// Appends the signatures of a message to `out`: they go before it. None where no key is its
    /// author's.
    ///
    /// # Errors
    /// Why it couldn't be signed; `out` has the signatures that could be made.
    pub fn sign(
        &self,
        header: Header<'_>,
        body: &HashedBody,
        now: Wall,
        out: &mut Vec<u8>,
    ) -> Result<usize, SignError> {
        let (Some((header_canon, body_canon)), Ok(author)) = (self.canon, dmarc::author(header))
        else {
            return Ok(0);
        };
        let mut fields = DEFAULT_FIELDS.to_vec();
        fields.extend(
            self.headers
                .iter()
                .map(|name| SignedField { name, over: false }),
        );
        let mut made = 0;
        for key in self.for_author(&author, now) {
            let options = SigningOptions {
                header: header_canon,
                body: body_canon,
                fields: &fields,
                valid_s: self.valid_s,
                ..SigningOptions::new(&key.domain, &key.selector)
            };
            sign(header, body, now, &options, &key.signer, out)?;
            made += 1;
        }
        Ok(made)
    }

    /// The signatures of a message that is there as a whole.
    pub fn signatures_of(&self, message: &[u8], now: Wall) -> Vec<u8> {
        let mut out = Vec::new();
        if self.is_empty() {
            return out;
        }
        if let Ok((header, body)) = Header::of(message) {
            let hashed = HashedBody::of(body, &self.body_canons());
            if let Err(error) = self.sign(header, &hashed, now, &mut out) {
                tracing::warn!(%error, "a message of our own could not be signed");
            }
        }
        out
    }
}

/// Reads a key.
fn read(key: &DkimKey) -> Result<Key, String> {
    let name = |text: &str, what: &str| {
        Name::parse(text).map_err(|e| format!("{what} {text:?} can't stand in DNS: {e}"))
    };
    let (domain, selector) = (
        name(&key.domain, "the domain")?,
        name(&key.selector, "the selector")?,
    );
    let metadata = std::fs::metadata(&key.file).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => format!(
            "the file is not there; `courser dkim keygen --domain {domain} --selector {selector} --file {}` makes one",
            key.file.display()
        ),
        _ => e.to_string(),
    })?;
    if !metadata.is_file() {
        return Err("is no file; name the file with the private key".into());
    }
    let mode = metadata.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(format!(
            "every user of this machine may read or change it (mode {:03o}), and could sign as \
             {domain}: chmod 600 it, or 640 with a group of the server's own",
            mode & 0o777
        ));
    }
    if metadata.len() > KEY_FILE_BYTES_MAX {
        return Err(format!("{} bytes are too many for a key", metadata.len()));
    }
    let text = std::fs::read_to_string(&key.file).map_err(|e| e.to_string())?;
    let private = PrivateKey::parse(&text).map_err(|e| e.to_string())?;
    let signer = FastSigner::new(&private)
        .ok_or("the numbers in it are no key that can sign; make a new one")?;
    Ok(Key {
        domain,
        selector,
        file: key.file.clone(),
        record: private.record(),
        from: key.from,
        until: key.until,
        sign_for: key.sign_for.clone(),
        signer,
    })
}

/// The keys of a folder: `DOMAIN/SELECTOR.pem`.
fn folder(dir: &Path) -> Result<Vec<DkimKey>, Vec<KeyFault>> {
    let wrong = |file: &Path, what: String| KeyFault {
        file: file.to_owned(),
        what,
    };
    let entries = |dir: &Path| -> Result<Vec<PathBuf>, KeyFault> {
        let all = std::fs::read_dir(dir).map_err(|e| wrong(dir, e.to_string()))?;
        let mut paths = Vec::new();
        for entry in all {
            paths.push(entry.map_err(|e| wrong(dir, e.to_string()))?.path());
        }
        paths.sort();
        Ok(paths)
    };
    let named = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
    let mut faults = Vec::new();
    let mut keys = Vec::new();
    let domains = entries(dir).map_err(|e| vec![e])?;
    for path in domains {
        let Some(name) = named(&path).filter(|n| !n.starts_with('.') && path.is_dir()) else {
            continue;
        };
        let domain = match name.parse() {
            Ok(domain) => domain,
            Err(what) => {
                faults.push(wrong(
                    &path,
                    format!("{what}; name the folder after the domain"),
                ));
                continue;
            }
        };
        let files = match entries(&path) {
            Ok(files) => files,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        for file in files {
            let Some(name) = named(&file) else { continue };
            let Some(stem) = name.strip_suffix(".pem").filter(|s| !s.starts_with('.')) else {
                continue;
            };
            match stem.parse() {
                Ok(selector) => keys.push(DkimKey {
                    domain: Clone::clone(&domain),
                    selector,
                    file,
                    sign_for: Vec::new(),
                    from: None,
                    until: None,
                }),
                Err(what) => {
                    faults.push(wrong(&file, format!("{what}; name the file SELECTOR.pem")));
                }
            }
        }
    }
    if faults.is_empty() {
        Ok(keys)
    } else {
        Err(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};

    const RSA: &str = include_str!("../../../core/src/auth/dkim/test-rsa-2048.pem");
    const RSA_PKCS1: &str = include_str!("../../../core/src/auth/dkim/test-rsa-2048-pkcs1.pem");
    const ED25519: &str = include_str!("../../../core/src/auth/dkim/test-ed25519.pem");

    fn write(path: &Path, text: &str, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn config(text: &str) -> Dkim {
        let text = format!("hostname = \"mail.example.org\"\n{text}");
        crate::config::parse(&text, "test").unwrap().dkim
    }

    fn key(domain: &str, selector: &str, file: &Path, more: &str) -> String {
        format!(
            "[[dkim.key]]\ndomain = \"{domain}\"\nselector = \"{selector}\"\nfile = \"{}\"\n{more}\n",
            file.display()
        )
    }

    fn signing(keys: &Keys, author: &str, now: i64) -> Vec<String> {
        let author = Name::parse(author).unwrap();
        let keys = keys.for_author(&author, Wall::from_unix(now));
        keys.iter().map(|k| k.record_name()).collect()
    }

    #[test]
    fn the_closest_domain_signs_and_whoever_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.pem");
        write(&file, RSA, 0o600);
        let ed = dir.path().join("b.pem");
        write(&ed, ED25519, 0o640);
        let text = [
            key("example.org", "s1", &file, ""),
            key("example.org", "ed", &ed, ""),
            key("news.example.org", "n", &file, ""),
            key("esp.example", "all", &file, "sign_for = [\"*\"]"),
        ]
        .concat();
        let keys = Keys::load(&config(&text)).unwrap();
        let all = "all._domainkey.esp.example";
        assert_eq!(
            signing(&keys, "example.org", 0),
            [
                "s1._domainkey.example.org",
                "ed._domainkey.example.org",
                all
            ]
        );
        assert_eq!(
            signing(&keys, "a.news.example.org", 0),
            ["n._domainkey.news.example.org", all]
        );
        assert_eq!(
            signing(&keys, "shop.example.org", 0),
            [
                "s1._domainkey.example.org",
                "ed._domainkey.example.org",
                all
            ]
        );
        assert_eq!(signing(&keys, "badexample.org", 0), [all]);
        assert_eq!(signing(&keys, "esp.example", 0), [all]);
    }

    #[test]
    fn keys_change_on_their_day() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.pem");
        write(&file, RSA, 0o600);
        let text = [
            key("example.org", "old", &file, "until = \"2026-12-01\""),
            key("example.org", "new", &file, "from = 2026-12-01"),
        ]
        .concat();
        let keys = Keys::load(&config(&text)).unwrap();
        let day = 1_796_083_200;
        assert_eq!(
            signing(&keys, "example.org", day - 1),
            ["old._domainkey.example.org"]
        );
        assert_eq!(
            signing(&keys, "example.org", day),
            ["new._domainkey.example.org"]
        );
    }

    #[test]
    fn a_folder_of_keys() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("example.org/s1.pem"), RSA, 0o600);
        write(&dir.path().join("example.org/s2.pem"), ED25519, 0o600);
        write(&dir.path().join("example.org/s2.txt"), "a record", 0o644);
        write(&dir.path().join("example.net/k.pem"), RSA_PKCS1, 0o600);
        let text = format!("[dkim]\ndir = \"{}\"\n", dir.path().display());
        let keys = Keys::load(&config(&text)).unwrap();
        let names: Vec<_> = keys.iter().map(Key::record_name).collect();
        assert_eq!(
            names,
            [
                "k._domainkey.example.net",
                "s1._domainkey.example.org",
                "s2._domainkey.example.org"
            ]
        );
    }

    #[test]
    fn every_fault_says_what_would_be_right() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write(&at("open.pem"), RSA, 0o644);
        write(&at("none.pem"), "hello", 0o600);
        write(&at("good.pem"), RSA, 0o600);
        let text = [
            key("a.example", "s", &at("open.pem"), ""),
            key("b.example", "s", &at("none.pem"), ""),
            key("c.example", "s", &at("not-there.pem"), ""),
            key("d.example", "s", &at("good.pem"), ""),
        ]
        .concat();
        let KeyFaults(faults) = Keys::load(&config(&text)).unwrap_err();
        let said: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        for (said, words) in said.iter().zip(["chmod 600", "PEM", "courser dkim keygen"]) {
            assert!(said.contains(words), "{said}");
            // No word of what is in a key.
            assert!(!said.contains("MII"), "{said}");
        }
    }

    #[test]
    fn the_same_octets_as_the_core() {
        for text in [RSA, RSA_PKCS1, ED25519] {
            let key = PrivateKey::parse(text).unwrap();
            let fast = FastSigner::new(&key).unwrap();
            let slow = key.signer([7; 32]);
            assert_eq!(fast.algorithm(), slow.algorithm());
            for data in [&b""[..], b"a", &[0xff; 5000]] {
                assert_eq!(fast.sign(data), slow.sign(data));
            }
            assert!(!format!("{fast:?}").contains("MII"));
        }
    }
}
