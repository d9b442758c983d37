//! What stands in a certificate, for people.

use courser_core::time::Wall;
use serde::Serialize;
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::When;

/// Bytes of a [`name`]: what DNS names and mail addresses have at most (RFC 1035 2.3.4, RFC 5321
/// 4.5.3.1.3), while a subject has no limit.
const NAME_BYTES_MAX: usize = 256;

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

/// Whose a certificate in DER is, for events: the first DNS name or mail address in subjectAltName, else
/// the common name, else the whole subject. What isn't printable is escaped as in Rust, so that two
/// names never look alike; a name that is too long ends in `…`.
pub fn name(der: &[u8]) -> String {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return String::new();
    };
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative.and_then(|san| {
        san.value.general_names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) => Some((*name).to_owned()),
            _ => None,
        })
    });
    let common = || {
        let mut common = certificate.subject().iter_common_name();
        common.next()?.as_str().ok().map(str::to_owned)
    };
    let name = alternative.or_else(common);
    escaped(&name.unwrap_or_else(|| certificate.subject().to_string()))
}

fn escaped(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        let before = name.len();
        match c {
            // Nobody is misled by them.
            '"' | '\'' => name.push(c),
            c => name.extend(c.escape_debug()),
        }
        if name.len() > NAME_BYTES_MAX {
            name.truncate(before);
            while name.len() > NAME_BYTES_MAX - '…'.len_utf8() {
                name.pop();
            }
            name.push('…');
            break;
        }
    }
    name
}

/// What a stranger wrote, without what could play with a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn made(common: Option<&str>, alternative: &[SanType]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Example Inc.");
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        params.subject_alt_names = alternative.to_vec();
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn whose_it_is() {
        let dns = SanType::DnsName("client.example.org".try_into().unwrap());
        let mail = SanType::Rfc822Name("ann@example.org".try_into().unwrap());
        let address = SanType::IpAddress([192, 0, 2, 1].into());
        for (common, alternative, whose) in [
            (Some("Ann"), &[dns.clone()][..], "client.example.org"),
            (Some("Ann"), &[mail, dns], "ann@example.org"),
            (Some("Ann O'Hara"), &[address], "Ann O'Hara"),
            (None, &[], "O=Example Inc."),
        ] {
            assert_eq!(name(&made(common, alternative)), whose);
        }
        assert_eq!(name(b"no certificate"), "");
    }

    #[test]
    fn what_a_stranger_calls_himself_is_short_and_harmless() {
        let evil = "a\r\n\u{1b}[2Jb\u{202e}c\\n";
        let shown = r"a\r\n\u{1b}[2Jb\u{202e}c\\n";
        assert_eq!(name(&made(Some(evil), &[])), shown);
        for (long, kept) in [("x", NAME_BYTES_MAX - 3), ("ü", NAME_BYTES_MAX - 4)] {
            let shown = name(&made(Some(&long.repeat(1000)), &[]));
            let names = shown.strip_suffix('…').unwrap();
            assert_eq!(names, long.repeat(kept / long.len()));
        }
        // Just as long as it may be.
        let whole = "x".repeat(NAME_BYTES_MAX);
        assert_eq!(escaped(&whole), whole);
    }
}
