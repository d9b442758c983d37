//! Certificates and keys in files.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// Bytes of a file at the most; all authorities of a system take some 250 kB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What is wrong with a file, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("TLS {}: {what}", file.display())]
pub struct FileFault {
    /// The file.
    pub file: PathBuf,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl FileFault {
    pub(super) fn new(file: &Path, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            what: what.into(),
        }
    }
}

/// Reads a file whole; one with a `secret` must be its owner's alone.
fn read(file: &Path, secret: bool) -> Result<Zeroizing<Vec<u8>>, FileFault> {
    let fault = |what: String| FileFault::new(file, what);
    // Without waiting, should it be a pipe.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(file)
        .map_err(|e| fault(format!("can't be opened: {e}")))?;
    let facts = opened
        .metadata()
        .map_err(|e| fault(format!("can't be read: {e}")))?;
    if !facts.is_file() {
        return Err(fault("is no file".to_owned()));
    }
    let mode = facts.permissions().mode();
    if secret && mode & 0o027 != 0 {
        return Err(fault(format!(
            "others may read or change this key (mode {:03o}); chmod 600 it, or 640 for a group",
            mode & 0o777
        )));
    }
    let mut content = Zeroizing::new(Vec::with_capacity(
        usize::try_from(facts.len().min(FILE_BYTES_MAX)).unwrap_or(0) + 1,
    ));
    opened
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut content)
        .map_err(|e| fault(format!("can't be read: {e}")))?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(fault(format!("is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(content)
}

/// The certificates of a PEM file, in its order; at least one.
///
/// # Errors
/// What is wrong with it.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    let content = read(file, false)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    let all = all.map_err(|e| FileFault::new(file, format!("is no right PEM: {e}")))?;
    if all.is_empty() {
        let right = "has no certificate: \"-----BEGIN CERTIFICATE-----\" is missing";
        return Err(FileFault::new(file, right));
    }
    Ok(all)
}

/// The first private key of a PEM file.
///
/// # Errors
/// What is wrong with it.
pub fn key(file: &Path) -> Result<PrivateKeyDer<'static>, FileFault> {
    let content = read(file, true)?;
    PrivateKeyDer::from_pem_slice(&content).map_err(|e| {
        let why = match e {
            rustls::pki_types::pem::Error::NoItemsFound => {
                "has no private key; an encrypted one (\"BEGIN ENCRYPTED PRIVATE KEY\") has to be \
                 decrypted first"
                    .to_owned()
            }
            // Nothing of what is in the file.
            _ => "is no right PEM of a private key".to_owned(),
        };
        FileFault::new(file, why)
    })
}
