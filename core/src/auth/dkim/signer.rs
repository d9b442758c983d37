//! Private keys, and what signs with them.
//!
//! [`Signer`] is the seam: this file has signers over the crates `rsa` and `ed25519-dalek`; others
//! may sign with a faster library or a device. RSA with PKCS#1 v1.5 and Ed25519 are deterministic,
//! so every right implementation gives the same octets for the same key and data.
//!
//! A key comes from text: [`PrivateKey::parse`] takes PKCS#1 and PKCS#8 in PEM, and an Ed25519 seed
//! in base64. Parsing an RSA key costs some 100 µs: keep it.

use super::key::{KeyRecord, KeyType};
use super::signature::Algorithm;
use super::tags::base64;
use crate::limits::{DKIM_SIGN_RSA_BITS_MAX, DKIM_SIGN_RSA_BITS_MIN};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use ed25519_dalek::Signer as _;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rsa::Pkcs1v15Sign;
use rsa::pkcs1::{DecodeRsaPrivateKey, EncodeRsaPrivateKey};
use rsa::pkcs8::{EncodePublicKey, ObjectIdentifier, PrivateKeyInfoRef, SecretDocument};
use rsa::traits::PublicKeyParts;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// What makes signatures with one key.
pub trait Signer {
    /// Its algorithm, [`Algorithm::RsaSha256`] or [`Algorithm::Ed25519Sha256`].
    fn algorithm(&self) -> Algorithm;

    /// The signature over `data`, the canonical header (RFC 6376 3.7). RSA: PKCS#1 v1.5 with
    /// SHA-256 over `data`. Ed25519: pure Ed25519 over the SHA-256 hash of `data` (RFC 8463 3).
    fn sign(&self, data: &[u8]) -> Result<Vec<u8>, SignerError>;
}

/// The key could not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignerError;

impl fmt::Display for SignerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the private key could not sign")
    }
}
impl core::error::Error for SignerError {}

/// Why a text is no private key that signs mail. The texts say what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrivateKeyError {
    /// Neither PEM nor a seed.
    NoKey,
    /// PEM that can't be read.
    Pem,
    /// PEM of something else; its label.
    Label(String),
    /// It is encrypted.
    Encrypted,
    /// PKCS#8 of another kind of key; its object identifier.
    Kind(String),
    /// The octets are no key.
    Malformed,
    /// An RSA key of so many bits, fewer than [`DKIM_SIGN_RSA_BITS_MIN`].
    TooShort(u32),
    /// An RSA key of so many bits, more than [`DKIM_SIGN_RSA_BITS_MAX`].
    TooLong(u32),
}

impl fmt::Display for PrivateKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = "a private key in PEM (\"BEGIN PRIVATE KEY\" or \"BEGIN RSA PRIVATE KEY\") is \
                      needed, or an Ed25519 seed of 32 octets in base64";
        match self {
            Self::NoKey => write!(f, "this is no key: {wanted}"),
            Self::Pem => f.write_str(
                "the PEM can't be read: base64 is needed between a BEGIN line and its END line",
            ),
            Self::Label(label) => write!(f, "this PEM holds a {label:?}: {wanted}"),
            Self::Encrypted => f.write_str(
                "the private key is encrypted, and nobody is there to type its password: write it \
                 without (openssl pkey -in key.pem -out plain.pem) into a file that only the \
                 server can read",
            ),
            Self::Kind(oid) => write!(
                f,
                "this is a private key of another kind ({oid}): RSA or Ed25519 is needed"
            ),
            Self::Malformed => f.write_str("the octets in the PEM are no RSA or Ed25519 key"),
            Self::TooShort(bits) => write!(
                f,
                "an RSA key of {bits} bits is too short to sign mail: {DKIM_SIGN_RSA_BITS_MIN} or \
                 more are needed (RFC 8301)"
            ),
            Self::TooLong(bits) => write!(
                f,
                "an RSA key of {bits} bits is longer than every receiver takes: \
                 {DKIM_SIGN_RSA_BITS_MAX} at most (RFC 8301)"
            ),
        }
    }
}
impl core::error::Error for PrivateKeyError {}

/// A private key that may sign mail.
#[derive(Clone)]
pub struct PrivateKey(Kind);

#[derive(Clone)]
enum Kind {
    Rsa(Box<rsa::PrivateKey>),
    Ed25519(Box<ed25519_dalek::SigningKey>),
}

/// RFC 8410 3.
const ED25519_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

impl PrivateKey {
    /// Reads a key from the text of its file.
    pub fn parse(text: &str) -> Result<Self, PrivateKeyError> {
        let key = Self::parse_any_length(text)?;
        if let Some(bits) = key.rsa_bits() {
            let size = bits as usize;
            if size < DKIM_SIGN_RSA_BITS_MIN {
                return Err(PrivateKeyError::TooShort(bits));
            }
            if size > DKIM_SIGN_RSA_BITS_MAX {
                return Err(PrivateKeyError::TooLong(bits));
            }
        }
        Ok(key)
    }

    fn parse_any_length(text: &str) -> Result<Self, PrivateKeyError> {
        let Some(begin) = text.find("-----BEGIN ") else {
            // RFC 8463 A.2 gives keys like this.
            let seed = Zeroizing::new(base64(text.trim()).ok_or(PrivateKeyError::NoKey)?);
            let seed =
                <&[u8; 32]>::try_from(seed.as_slice()).map_err(|_| PrivateKeyError::NoKey)?;
            return Ok(ed25519(ed25519_dalek::SigningKey::from_bytes(seed)));
        };
        let pem = text.get(begin..).unwrap_or(text);
        // Text before and after it is for people; a file may hold certificates, too.
        let end = pem.find("-----END ").and_then(|at| {
            let line = pem.get(at..)?;
            Some(at + line.find('\n').map_or(line.len(), |end| end + 1))
        });
        let pem = pem.get(..end.unwrap_or(pem.len())).unwrap_or(pem);
        if pem.contains("ENCRYPTED") {
            return Err(PrivateKeyError::Encrypted);
        }
        let (label, der) = SecretDocument::from_pem(pem).map_err(|_| PrivateKeyError::Pem)?;
        match label {
            "RSA PRIVATE KEY" => rsa_key(rsa::PrivateKey::from_pkcs1_der(der.as_bytes()).ok()),
            "PRIVATE KEY" => {
                let info = PrivateKeyInfoRef::try_from(der.as_bytes())
                    .map_err(|_| PrivateKeyError::Malformed)?;
                match info.algorithm.oid {
                    rsa::pkcs1::ALGORITHM_OID => rsa_key(rsa::PrivateKey::try_from(info).ok()),
                    ED25519_OID => ed25519_dalek::SigningKey::try_from(info)
                        .map(ed25519)
                        .map_err(|_| PrivateKeyError::Malformed),
                    oid => Err(PrivateKeyError::Kind(oid.to_string())),
                }
            }
            label => Err(PrivateKeyError::Label(label.to_string())),
        }
    }

    /// What it signs with.
    pub const fn algorithm(&self) -> Algorithm {
        match &self.0 {
            Kind::Rsa(_) => Algorithm::RsaSha256,
            Kind::Ed25519(_) => Algorithm::Ed25519Sha256,
        }
    }

    /// Bits of an RSA key.
    pub fn rsa_bits(&self) -> Option<u32> {
        match &self.0 {
            Kind::Rsa(key) => Some(key.n().bit_width_vartime()),
            Kind::Ed25519(_) => None,
        }
    }

    /// The record that publishes its public half; its `Display` is the text for DNS.
    pub fn record(&self) -> KeyRecord {
        match &self.0 {
            Kind::Rsa(key) => {
                // The octets of a key that was read can be written.
                let der = key.as_public_key().to_public_key_der();
                KeyRecord::new(
                    KeyType::Rsa,
                    der.map_or_else(|_| Vec::new(), |der| der.as_bytes().to_vec()),
                )
            }
            Kind::Ed25519(key) => {
                KeyRecord::new(KeyType::Ed25519, key.verifying_key().to_bytes().to_vec())
            }
        }
    }

    /// An RSA key in PKCS#1 DER, for signers over other libraries.
    pub fn rsa_pkcs1_der(&self) -> Option<SecretDocument> {
        match &self.0 {
            Kind::Rsa(key) => key.to_pkcs1_der().ok(),
            Kind::Ed25519(_) => None,
        }
    }

    /// The seed of an Ed25519 key (RFC 8032 5.1.5), for signers over other libraries.
    pub fn ed25519_seed(&self) -> Option<Zeroizing<[u8; 32]>> {
        match &self.0 {
            Kind::Rsa(_) => None,
            Kind::Ed25519(key) => Some(Zeroizing::new(key.to_bytes())),
        }
    }

    /// What signs with it. RSA is blinded with numbers that are drawn from `seed`, which must be
    /// random octets that nobody can guess; they have no part in the signature. Ed25519 needs none.
    pub fn signer(&self, seed: [u8; 32]) -> KeySigner {
        KeySigner {
            key: self.clone(),
            seed: Zeroizing::new(seed),
            count: AtomicUsize::new(0),
        }
    }
}

fn rsa_key(key: Option<rsa::PrivateKey>) -> Result<PrivateKey, PrivateKeyError> {
    key.map(|key| PrivateKey(Kind::Rsa(Box::new(key))))
        .ok_or(PrivateKeyError::Malformed)
}

fn ed25519(key: ed25519_dalek::SigningKey) -> PrivateKey {
    PrivateKey(Kind::Ed25519(Box::new(key)))
}

/// Says which kind of key, never what is in it.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.algorithm())
    }
}

/// Signs with a [`PrivateKey`] in this process.
pub struct KeySigner {
    key: PrivateKey,
    seed: Zeroizing<[u8; 32]>,
    count: AtomicUsize,
}

impl fmt::Debug for KeySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySigner({})", self.key.algorithm())
    }
}

impl Signer for KeySigner {
    fn algorithm(&self) -> Algorithm {
        self.key.algorithm()
    }

    fn sign(&self, data: &[u8]) -> Result<Vec<u8>, SignerError> {
        let hash: [u8; 32] = Sha256::digest(data).into();
        match &self.key.0 {
            Kind::Ed25519(key) => Ok(key.sign(&hash).to_bytes().to_vec()),
            Kind::Rsa(key) => {
                // Other numbers for every signature, also for the same data signed twice.
                let count = self.count.fetch_add(1, Ordering::Relaxed) as u64;
                let seed = Sha256::new()
                    .chain_update(self.seed.as_slice())
                    .chain_update(count.to_le_bytes())
                    .chain_update(hash)
                    .finalize();
                let mut random = StdRng::from_seed(seed.into());
                key.sign_with_rng(&mut random, Pkcs1v15Sign::new::<Sha256>(), &hash)
                    .map_err(|_| SignerError)
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::auth::dkim::key::PublicKey;

    /// RFC 6376 C: the key of brisbane._domainkey.example.com, 1024 bits.
    pub(crate) const RFC_6376_KEY: &str = "-----BEGIN RSA PRIVATE KEY-----
MIICXwIBAAKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFC
jxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gb
to/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB
AoGBALmn+XwWk7akvkUlqb+dOxyLB9i5VBVfje89Teolwc9YJT36BGN/l4e0l6QX
/1//6DWUTB3KI6wFcm7TWJcxbS0tcKZX7FsJvUz1SbQnkS54DJck1EZO/BLa5ckJ
gAYIaqlA9C0ZwM6i58lLlPadX/rtHb7pWzeNcZHjKrjM461ZAkEA+itss2nRlmyO
n1/5yDyCluST4dQfO8kAB3toSEVc7DeFeDhnC1mZdjASZNvdHS4gbLIA1hUGEF9m
3hKsGUMMPwJBAPW5v/U+AWTADFCS22t72NUurgzeAbzb1HWMqO4y4+9Hpjk5wvL/
eVYizyuce3/fGke7aRYw/ADKygMJdW8H/OcCQQDz5OQb4j2QDpPZc0Nc4QlbvMsj
7p7otWRO5xRa6SzXqqV3+F0VpqvDmshEBkoCydaYwc2o6WQ5EBmExeV8124XAkEA
qZzGsIxVP+sEVRWZmW6KNFSdVUpk3qzK0Tz/WjQMe5z0UunY9Ax9/4PVhp/j61bf
eAYXunajbBSOLlx4D+TunwJBANkPI5S9iylsbLs6NkaMHV6k5ioHBBmgCak95JGX
GMot/L2x0IYyMLAz6oLWh2hm7zwtb0CgOrPo1ke44hFYnfc=
-----END RSA PRIVATE KEY-----
";
    /// RFC 8463 A.2: the key of brisbane._domainkey.football.example.com.
    pub(crate) const RFC_8463_SEED: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
    /// RSA, 2048 bits, PKCS#8, made for these tests.
    pub(crate) const RSA_2048: &str = include_str!("test-rsa-2048.pem");
    /// The same in PKCS#1.
    pub(crate) const RSA_2048_PKCS1: &str = include_str!("test-rsa-2048-pkcs1.pem");
    /// Ed25519 in PKCS#8, made for these tests.
    pub(crate) const ED25519: &str = include_str!("test-ed25519.pem");

    /// A key of the RFC, which is too short today.
    pub(crate) fn short_key(text: &str) -> PrivateKey {
        PrivateKey::parse_any_length(text).unwrap()
    }

    fn public(key: &PrivateKey) -> PublicKey {
        key.record().key().unwrap()
    }

    #[test]
    fn keys_of_every_form_sign() {
        let hash: [u8; 32] = Sha256::digest(b"data").into();
        let bundle = alloc::format!("for two\n{ED25519}{RSA_2048}");
        let noted = alloc::format!("{RSA_2048}a note\n");
        for (text, algorithm) in [
            (bundle.as_str(), Algorithm::Ed25519Sha256),
            (noted.as_str(), Algorithm::RsaSha256),
            (RSA_2048, Algorithm::RsaSha256),
            (RSA_2048_PKCS1, Algorithm::RsaSha256),
            (ED25519, Algorithm::Ed25519Sha256),
            (RFC_8463_SEED, Algorithm::Ed25519Sha256),
        ] {
            let key = PrivateKey::parse(text).unwrap();
            assert_eq!(key.algorithm(), algorithm);
            let signer = key.signer([1; 32]);
            let signature = signer.sign(b"data").unwrap();
            assert!(public(&key).verifies(algorithm, &hash, &signature));
            assert!(!public(&key).verifies(algorithm, &[0; 32], &signature));
            assert!(!public(&key).verifies(Algorithm::RsaSha1, &hash, &signature));
            // Blinding leaves no trace.
            assert_eq!(signer.sign(b"data"), Ok(signature.clone()));
            assert_eq!(key.signer([2; 32]).sign(b"data"), Ok(signature));
        }
        assert_eq!(
            PrivateKey::parse(RSA_2048).unwrap().record(),
            PrivateKey::parse(RSA_2048_PKCS1).unwrap().record()
        );
    }

    #[test]
    fn records_of_the_rfcs() {
        assert_eq!(
            short_key(RFC_6376_KEY).record().to_string(),
            "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3\
             /DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR\
             +Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"
        );
        assert_eq!(
            PrivateKey::parse(RFC_8463_SEED)
                .unwrap()
                .record()
                .to_string(),
            "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
        );
    }

    #[test]
    fn keys_that_do_not_sign() {
        use PrivateKeyError::*;
        let error = |text: &str| PrivateKey::parse(text).unwrap_err();
        assert_eq!(error(RFC_6376_KEY), TooShort(1024));
        assert_eq!(error(""), NoKey);
        assert_eq!(error("YWJj"), NoKey);
        assert_eq!(error("-----BEGIN PRIVATE KEY-----\n!\n"), Pem);
        assert_eq!(
            error("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"),
            Malformed
        );
        assert_eq!(
            error("-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n"),
            Label("PUBLIC KEY".into())
        );
        assert_eq!(
            error(
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"
            ),
            Encrypted
        );
        // P-256.
        let ec = "-----BEGIN PRIVATE KEY-----\n\
            MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgfmerdW04mwXjhqTN\n\
            kh7nFP/Yc8UNn5R7NCPoqYzThL6hRANCAAQcLV7sVUtEr8igdBVMgoWK2E7mcfjG\n\
            9JjIndhlSWDykB41lguPEZus1Qyf7euUkYMcSb2jNt6UfkPbNwAwPRl2\n\
            -----END PRIVATE KEY-----\n";
        assert_eq!(error(ec), Kind("1.2.840.10045.2.1".into()));
        for (error, hint) in [
            (NoKey, "BEGIN PRIVATE KEY"),
            (Label("PUBLIC KEY".into()), "BEGIN PRIVATE KEY"),
            (Pem, "between a BEGIN line and its END line"),
            (Encrypted, "openssl pkey -in"),
            (Kind("1.2".into()), "RSA or Ed25519 is needed"),
            (TooShort(1024), "2048 or more"),
            (TooLong(8192), "4096 at most"),
        ] {
            assert!(error.to_string().contains(hint), "{error}");
        }
    }
}
