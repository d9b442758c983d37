//! `courser dkim`: keys, the records that publish them, and whether they are published.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, RsaKeyPair};
use base64ct::{Base64, Encoding};
use courser_core::auth::dkim::{KeyRecord, PrivateKey};
use courser_core::dns::Name;

use super::ask::Asker;
use super::{Failure, Outcome};
use crate::config::{self, DEFAULT_PATH};
use crate::net::clock;
use crate::serve::dns_config;
use crate::sign::published::{Published, REVOKED, published, question};
use crate::sign::{Key, Keys};

/// A character-string of DNS holds so many bytes (RFC 1035 3.3).
const TXT_STRING_BYTES_MAX: usize = 255;
/// Characters of a line in PEM (RFC 7468 2).
const PEM_LINE: usize = 64;

/// `courser dkim`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make a key, and print the DNS record that publishes it
    Keygen {
        /// Whose signatures it makes
        #[arg(long)]
        domain: String,
        /// The name of its record: SELECTOR._domainkey.DOMAIN
        #[arg(long)]
        selector: String,
        /// Where to write it; nothing that is there is overwritten
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// What it signs with. Every receiver checks rsa; few check ed25519, which is for a second
        /// signature
        #[arg(long = "type", value_enum, default_value_t = KeyType::Rsa)]
        kind: KeyType,
        /// Bits of an RSA key; records of more than 2048 don't fit every DNS provider's form
        #[arg(long, default_value_t = 2048, value_parser = bits)]
        bits: u32,
    },
    /// Print the DNS records of the keys in the configuration, or of one file
    Record {
        #[command(flatten)]
        which: Which,
        /// The key in this file instead; the record's name is then up to you
        #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "domain"])]
        file: Option<PathBuf>,
    },
    /// Ask DNS whether the keys in the configuration are published, and whether their records are right
    Check {
        #[command(flatten)]
        which: Which,
        /// As JSON, a line for each key
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The configuration
    #[arg(long, value_name = "FILE", env = "COURSER_CONFIG", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// Only keys of this domain
    #[arg(long)]
    domain: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum KeyType {
    /// rsa-sha256
    Rsa,
    /// ed25519-sha256 (RFC 8463)
    Ed25519,
}

fn bits(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(n @ (2048 | 3072 | 4096)) => Ok(n),
        _ => Err("2048, 3072 or 4096; receivers refuse shorter keys, and some longer ones".into()),
    }
}

/// Does what was asked for.
///
/// # Errors
/// A file that can't be read or written, mistakes in the configuration, a record that is not right.
pub fn run(args: Args, out: &mut dyn Write) -> Outcome {
    match args.what {
        What::Keygen {
            domain,
            selector,
            file,
            kind,
            bits,
        } => keygen(&domain, &selector, &file, kind, bits, out),
        What::Record { which, file } => match file {
            Some(file) => {
                let text = std::fs::read_to_string(&file)
                    .map_err(|e| Failure::new(format!("{}: {e}", file.display())))?;
                let key = PrivateKey::parse(&text)
                    .map_err(|e| Failure::new(format!("{}: {e}", file.display())))?;
                Ok(writeln!(out, "{}", key.record())?)
            }
            None => {
                let (_, keys) = which.keys()?;
                for key in keys.iter().filter(|k| which.wants(k)) {
                    publish(&key.record_name(), &key.record, out)?;
                }
                Ok(())
            }
        },
        What::Check { which, json } => check(&which, json, out),
    }
}

impl Which {
    fn keys(&self) -> Result<(config::Config, Keys), Failure> {
        let config = config::load(&self.config)?;
        let keys = Keys::load(&config.dkim)?;
        if !keys.iter().any(|k| self.wants(k)) {
            let of = self
                .domain
                .as_deref()
                .map_or(String::new(), |d| format!(" of {d}"));
            return Err(Failure::new(format!(
                "{} names no key{of}; see [dkim] in `courser check-config --example`",
                self.config.display()
            )));
        }
        Ok((config, keys))
    }

    fn wants(&self, key: &Key) -> bool {
        self.domain
            .as_ref()
            .is_none_or(|d| d.trim_end_matches('.').eq_ignore_ascii_case(&key.domain))
    }
}

fn keygen(
    domain: &str,
    selector: &str,
    file: &Path,
    kind: KeyType,
    bits: u32,
    out: &mut dyn Write,
) -> Outcome {
    let name = format!("{selector}._domainkey.{domain}");
    let name = Name::parse(&name)
        .map_err(|e| Failure::new(format!("{name:?} can't be the name of a record: {e}")))?;
    let failed = || Failure::new("the key could not be made");
    let der: Vec<u8> = match kind {
        KeyType::Rsa => {
            let size = match bits {
                2048 => KeySize::Rsa2048,
                3072 => KeySize::Rsa3072,
                _ => KeySize::Rsa4096,
            };
            let pair = RsaKeyPair::generate(size).map_err(|_| failed())?;
            let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(|_| failed())?;
            der.as_ref().to_vec()
        }
        KeyType::Ed25519 => {
            let random = aws_lc_rs::rand::SystemRandom::new();
            let der = Ed25519KeyPair::generate_pkcs8v1(&random).map_err(|_| failed())?;
            der.as_ref().to_vec()
        }
    };
    let pem = pem(&der);
    // What is written is what can be read.
    let key = PrivateKey::parse(&pem).map_err(|e| Failure::new(e.to_string()))?;
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)
            .map_err(|e| Failure::new(format!("{}: {e}", dir.display())))?;
    }
    let mut opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => Failure::new(format!(
                "{} is there already and may be in use; name another file, and another selector",
                file.display()
            )),
            _ => Failure::new(format!("{}: {e}", file.display())),
        })?;
    let written = opened
        .write_all(pem.as_bytes())
        .and_then(|()| opened.sync_all());
    if let Err(error) = written {
        // Half a key would only be in the way of the next attempt.
        let _ = std::fs::remove_file(file);
        return Err(Failure::new(format!("{}: {error}", file.display())));
    }
    writeln!(
        out,
        "; {} is written; only its owner can read it: the server's user must be its owner.",
        file.display()
    )?;
    writeln!(out, "; Publish this record:")?;
    publish(&name, &key.record(), out)?;
    let file = std::path::absolute(file)?;
    writeln!(
        out,
        "; then, when `courser dkim check` finds it, sign with it:"
    )?;
    writeln!(out, ";   [[dkim.key]]")?;
    writeln!(out, ";   domain = {domain:?}")?;
    writeln!(out, ";   selector = {selector:?}")?;
    writeln!(out, ";   file = {:?}", file.display().to_string())?;
    Ok(())
}

/// The record as it stands in a zone, and as a form of a DNS provider wants it.
fn publish(name: &str, record: &KeyRecord, out: &mut dyn Write) -> Outcome {
    let text = record.to_string();
    let strings: Vec<String> = text
        .as_bytes()
        .chunks(TXT_STRING_BYTES_MAX)
        .map(|c| format!("\"{}\"", String::from_utf8_lossy(c)))
        .collect();
    writeln!(out, "{name}. IN TXT ( {} )", strings.join(" "))?;
    Ok(())
}

fn pem(der: &[u8]) -> String {
    let text = Base64::encode_string(der);
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in text.as_bytes().chunks(PEM_LINE) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}

fn check(which: &Which, json: bool, out: &mut dyn Write) -> Outcome {
    let (config, keys) = which.keys()?;
    let mut asker = Asker::new(dns_config(&config)?)?;
    let now = clock::wall();
    let (mut bad, mut unknown) = (0, 0);
    for key in keys.iter().filter(|k| which.wants(k)) {
        let said = match question(key) {
            Some(question) => published(key, &asker.ask(question).outcome),
            None => Published::Unknown("its name is too long".into()),
        };
        // A key that ended may be gone.
        let over = key.until.is_some_and(|until| until.0 <= now);
        let fine = match said {
            Published::Right => true,
            Published::Missing | Published::Revoked => over,
            Published::Wrong(_) | Published::Unknown(_) => false,
        };
        match said {
            Published::Unknown(_) => unknown += 1,
            _ => bad += usize::from(!fine),
        }
        if json {
            let (state, why) = match &said {
                Published::Right => ("right", ""),
                Published::Missing => ("missing", ""),
                Published::Revoked => ("revoked", ""),
                Published::Wrong(why) => ("wrong", &**why),
                Published::Unknown(why) => ("unknown", &**why),
            };
            let line = serde_json::json!({
                "name": key.record_name(), "domain": key.domain.as_str(),
                "selector": key.selector.as_str(), "algorithm": key.algorithm().to_string(),
                "active": key.is_active(now), "state": state, "reason": why,
            });
            writeln!(out, "{line}")?;
            continue;
        }
        let name = key.record_name();
        match said {
            Published::Right => writeln!(out, "{name}: right")?,
            Published::Revoked if over => writeln!(out, "{name}: revoked, as it should be")?,
            Published::Revoked => writeln!(out, "{name}: WRONG: {REVOKED}")?,
            Published::Missing if over => writeln!(out, "{name}: gone, as it should be")?,
            Published::Missing => {
                writeln!(out, "{name}: NOT PUBLISHED. Publish:")?;
                publish(&name, &key.record, out)?;
            }
            Published::Wrong(why) => writeln!(out, "{name}: WRONG: {why}")?,
            Published::Unknown(why) => writeln!(out, "{name}: can't tell: {why}")?,
        }
    }
    match (bad, unknown) {
        (0, 0) => Ok(()),
        (0, n) => Err(Failure::new(format!(
            "DNS does not say how {n} of the keys stand; try again, and look at [dns]"
        ))),
        (n, _) => Err(Failure::new(format!(
            "{n} of the keys can't be checked by receivers"
        ))),
    }
}
