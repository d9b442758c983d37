//! The keys of the configuration, read and parsed once.
//!
//! [`Keys::load`] reads every key or says everything that is wrong with them; [`Keys::sign`] gives
//! the signatures of one message. A key that every user of the machine can read is refused: it is
//! a secret no longer.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use courser_core::auth::canon::Canon;
use courser_core::auth::dkim::{
    Algorithm, DEFAULT_FIELDS, KeyRecord, PrivateKey, SignError, SignedField, Signer,
    SigningOptions, sign,
};
use courser_core::auth::dmarc::{self, AuthorError};
use courser_core::auth::hash::HashedBody;
use courser_core::dns::Name;
use courser_core::mail::header::Header;
use courser_core::time::Wall;

use super::signer::FastSigner;
use crate::config::{self, Canonicalization, Dkim, DkimKey, DomainPattern, When};
use crate::private::{self, Unread};

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
    tenants: Vec<config::Name>,
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

    /// Whether it signs mail of this tenant; the server's own has none.
    fn is_for(&self, tenant: Option<&str>) -> bool {
        self.tenants.is_empty()
            || tenant.is_none_or(|tenant| self.tenants.iter().any(|t| **t == *tenant))
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

/// What came of signing a message.
#[derive(Debug)]
pub struct Signed<'k> {
    /// Whose message it is, or why that can't be told; then nothing signs it.
    pub author: Result<Name, AuthorError>,
    /// Those that signed.
    pub by: Vec<&'k Key>,
    /// Those that could not, and why.
    pub faults: Vec<(&'k Key, SignError)>,
}

/// Which keys sign for which domains.
#[derive(Debug, Default)]
struct ByDomain {
    /// Keys that name nobody, by their own domain.
    own: HashMap<String, Vec<u32>>,
    /// Keys by the domains that they name.
    exactly: HashMap<String, Vec<u32>>,
    /// Keys by the domains below which they sign.
    below: HashMap<String, Vec<u32>>,
    /// Keys that sign for everybody.
    any: Vec<u32>,
}

impl ByDomain {
    fn of(keys: &[Key]) -> Self {
        let mut this = Self::default();
        for (n, key) in (0..).zip(keys) {
            if key.sign_for.is_empty() {
                let domain = key.domain.to_string();
                this.own.entry(domain).or_default().push(n);
            }
            for pattern in &key.sign_for {
                match pattern {
                    DomainPattern::Any => this.any.push(n),
                    DomainPattern::Exactly(name) => {
                        this.exactly.entry(name.to_string()).or_default().push(n);
                    }
                    DomainPattern::Below(name) => {
                        this.below.entry(name.to_string()).or_default().push(n);
                    }
                }
            }
        }
        this
    }

    /// The keys that name `author`, in the order of the configuration.
    fn naming(&self, author: &Name) -> Vec<u32> {
        let listed = |map: &HashMap<String, Vec<u32>>, name: &str| {
            map.get(name).cloned().unwrap_or_default()
        };
        let mut found = self.any.clone();
        found.extend(listed(&self.exactly, author.as_str()));
        for above in parents(author.as_str()) {
            found.extend(listed(&self.below, above));
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// The names above `name`, the closest first.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    memchr::memchr_iter(b'.', name.as_bytes()).map(|dot| &name[dot + 1..])
}

/// The keys of a configuration.
#[derive(Debug, Default)]
pub struct Keys {
    keys: Vec<Key>,
    by_domain: ByDomain,
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
        let mut taken: HashMap<String, PathBuf> = HashMap::new();
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
                Ok(read) => match taken.insert(read.record_name(), read.file.clone()) {
                    None => keys.push(read),
                    Some(other) => faults.push(wrong(format!(
                        "{} has a key already, {}; give each its own selector",
                        read.record_name(),
                        other.display()
                    ))),
                },
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
            by_domain: ByDomain::of(&keys),
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

    /// The keys that sign mail of this tenant from `author` now, at most [`SIGNATURES_MAX`]: of
    /// those that name nobody those of the closest domain, and all that name the author.
    pub fn for_author(&self, author: &Name, tenant: Option<&str>, now: Wall) -> Vec<&Key> {
        let signing = |listed: &[u32]| -> Vec<&Key> {
            let keys = listed.iter().filter_map(|n| self.keys.get(*n as usize));
            keys.filter(|k| k.is_active(now) && k.is_for(tenant))
                .collect()
        };
        let own = std::iter::once(author.as_str())
            .chain(parents(author.as_str()))
            .filter_map(|name| self.by_domain.own.get(name))
            .map(|listed| signing(listed))
            .find(|own| !own.is_empty())
            .unwrap_or_default();
        let named = signing(&self.by_domain.naming(author));
        own.into_iter().chain(named).take(SIGNATURES_MAX).collect()
    }

    /// Appends the signatures of a message of `tenant` to `out`: they go before it. None where no
    /// key is its author's. The message goes out at `now`, or later by `held_s`.
    pub fn sign(
        &self,
        header: Header<'_>,
        body: &HashedBody,
        tenant: Option<&str>,
        (now, held_s): (Wall, u32),
        out: &mut Vec<u8>,
    ) -> Signed<'_> {
        let mut signed = Signed {
            author: dmarc::author(header),
            by: Vec::new(),
            faults: Vec::new(),
        };
        let (Some((header_canon, body_canon)), Ok(author)) = (self.canon, &signed.author) else {
            return signed;
        };
        let mut fields = DEFAULT_FIELDS.to_vec();
        fields.extend(
            self.headers
                .iter()
                .map(|name| SignedField { name, over: false }),
        );
        for key in self.for_author(author, tenant, now) {
            let options = SigningOptions {
                header: header_canon,
                body: body_canon,
                fields: &fields,
                // The time in a queue that the sender asked for doesn't count.
                valid_s: self.valid_s.map(|s| s.saturating_add(held_s)),
                ..SigningOptions::new(&key.domain, &key.selector)
            };
            match sign(header, body, now, &options, &key.signer, out) {
                Ok(()) => signed.by.push(key),
                Err(error) => signed.faults.push((key, error)),
            }
        }
        signed
    }

    /// The signatures of a message of ours that is there as a whole, and how many they are.
    pub fn signatures_of(&self, message: &[u8], now: Wall) -> (Vec<u8>, u32) {
        let (mut out, mut made) = (Vec::new(), 0);
        if let Ok((header, body)) = Header::of(message) {
            let hashed = HashedBody::of(body, &self.body_canons());
            let signed = self.sign(header, &hashed, None, (now, 0), &mut out);
            signed.tell_faults("a notification");
            made = signed.by.len() as u32;
        }
        (out, made)
    }
}

impl Signed<'_> {
    /// Logs what should have been signed and isn't; `message` says which it is.
    pub fn tell_faults(&self, message: impl fmt::Display) {
        for (key, error) in &self.faults {
            tracing::warn!(
                key = key.record_name(), %error,
                "{message} goes out without a signature that it should have"
            );
        }
        if let Err(error) = self.author {
            tracing::warn!(
                %error,
                "{message} goes out unsigned, as no key can be chosen: its From must have one \
                 address, or several of one domain"
            );
        }
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
    let bytes = private::read(
        &key.file,
        KEY_FILE_BYTES_MAX,
        "the file with the private key, in PEM",
        &format!("sign as {domain}"),
    );
    let bytes = bytes.map_err(|unread| match unread {
        Unread::Missing => format!(
            "the file is not there; `courser dkim keygen --domain {domain} --selector {selector} --file {}` makes one",
            key.file.display()
        ),
        Unread::Wrong(what) => what,
    })?;
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        "is no text; a private key in PEM is needed: `openssl pkey -in FILE -inform DER -out \
         NEW.pem` makes it of one in DER"
            .to_owned()
    })?;
    let private = PrivateKey::parse(text).map_err(|e| e.to_string())?;
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
        tenants: key.tenants.clone(),
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
        let failed = |e: std::io::Error| {
            let right = "it must be a folder that the server's user can read and search";
            wrong(dir, format!("{e}; {right}"))
        };
        let all = std::fs::read_dir(dir).map_err(failed)?;
        let mut paths = Vec::new();
        for entry in all {
            paths.push(entry.map_err(failed)?.path());
        }
        paths.sort();
        Ok(paths)
    };
    let named = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
    let mut faults = Vec::new();
    let mut keys = Vec::new();
    let domains = entries(dir).map_err(|e| vec![e])?;
    for path in domains {
        let Some(name) = named(&path).filter(|n| !n.starts_with('.')) else {
            continue;
        };
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) if name.ends_with(".pem") => {
                let right = "move it into a folder that is named after its domain";
                faults.push(wrong(&path, format!("no domain's; {right}")));
                continue;
            }
            Ok(_) => continue,
            Err(e) => {
                let right = "the server's user must be able to search the folder";
                faults.push(wrong(&path, format!("{e}; {right}")));
                continue;
            }
        }
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
                    tenants: Vec::new(),
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
mod tests;
