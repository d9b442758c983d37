//! What stands in a certificate, for people.

use courser_core::time::Wall;
use serde::Serialize;
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::When;

/// What stands in one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Leaf {
    /// Whose it is.
    pub subject: String,
    /// The hosts that it names.
    pub names: Vec<String>,
    /// Who signed it.
    pub issuer: String,
    /// From when on it is valid.
    pub not_before: String,
    /// Until when.
    pub not_after: String,
}

impl Leaf {
    /// Of a certificate in DER; empty where that is damaged.
    pub fn of(der: &[u8]) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return Self::default();
        };
        let validity = certificate.validity();
        let show = |at: i64| When(Wall::from_unix(at)).to_string();
        Self {
            subject: printable(&certificate.subject().to_string()),
            names: names(&certificate),
            issuer: printable(&certificate.issuer().to_string()),
            not_before: show(validity.not_before.timestamp()),
            not_after: show(validity.not_after.timestamp()),
        }
    }
}

/// The hash of a certificate in DER to which logins are bound (`tls-server-end-point`, RFC 5929 4.1):
/// by the hash of its signature, or by SHA-256 where that is an old one. Empty where it is damaged, or
/// its signature has no hash of its own (Ed25519).
pub fn end_point(der: &[u8]) -> Vec<u8> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return Vec::new();
    };
    match certificate
        .signature_algorithm
        .algorithm
        .to_id_string()
        .as_str()
    {
        // RSA and ECDSA with SHA-384 and SHA-512.
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Sha384::digest(der).to_vec(),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Sha512::digest(der).to_vec(),
        // RSA and ECDSA with SHA-256, SHA-1, MD5.
        "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.3.2"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1"
        | "1.2.840.113549.1.1.4" => Sha256::digest(der).to_vec(),
        _ => Vec::new(),
    }
}

/// The host names of a certificate, in lower case.
pub fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(san)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = san.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(printable(&name.to_ascii_lowercase())),
            _ => None,
        })
        .collect()
}

/// What a stranger wrote, without what could play with a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
