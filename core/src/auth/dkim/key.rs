//! Public keys in DNS (RFC 6376 3.6.1, RFC 8463 4): the TXT record at
//! `selector._domainkey.domain`.
//!
//! ```text
//! [ "v=DKIM1;" ] [ "h=" hash *(":" hash) ] [ "k=" ("rsa" / "ed25519") ] [ "n=" notes ]
//!   "p=" [ base64 ] [ "s=" service *(":" service) ] [ "t=" flag *(":" flag) ]
//! ```
//!
//! The tags may come in any order, but `v=` first where it is. RSA keys are a SubjectPublicKeyInfo,
//! as everyone publishes them, or the bare RSAPublicKey that the RFC speaks of.

use super::signature::Algorithm;
use super::tags::{TagError, Tags, base64, colons};
use crate::limits::{DKIM_VERIFY_RSA_BITS_MAX, DKIM_VERIFY_RSA_BITS_MIN};
use alloc::string::String;
use alloc::vec::Vec;
use base64ct::{Base64, Encoding};
use core::fmt;
use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, MontyForm, MontyMultiplier, Odd};
use rsa::pkcs1::RsaPublicKeyRef;
use rsa::pkcs1::der::Decode;
use rsa::pkcs8::SubjectPublicKeyInfoRef;

/// Which kind of key (`k=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// RSA.
    #[default]
    Rsa,
    /// Ed25519 (RFC 8463).
    Ed25519,
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
        })
    }
}

/// A key record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its kind.
    pub key_type: KeyType,
    /// The key; empty if it was revoked.
    pub public: Vec<u8>,
    /// Whether SHA-256 may be used with it (`h=`).
    pub sha256: bool,
    /// Whether it is for mail (`s=`).
    pub email: bool,
    /// The domain only tests DKIM (`t=y`): a failure means no more than no signature.
    pub testing: bool,
    /// The domain of `i=` must be that of `d=`, not one below it (`t=s`).
    pub strict: bool,
    /// Notes for people (`n=`), as written.
    pub notes: Option<String>,
}

/// Why a record is no key record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// It is no tag list.
    Tags(TagError),
    /// `v=` is there and isn't first, or isn't `DKIM1`: a record of something else.
    Version,
    /// An unknown `k=`.
    KeyType,
    /// There is no `p=`.
    NoKey,
    /// `p=` is not base64.
    Base64,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tags(error) => error.fmt(f),
            Self::Version => f.write_str("v= is not DKIM1, or does not come first"),
            Self::KeyType => f.write_str("k= names no kind of key that is known"),
            Self::NoKey => f.write_str("it has no p="),
            Self::Base64 => f.write_str("p= is not base64"),
        }
    }
}
impl core::error::Error for RecordError {}

impl From<TagError> for RecordError {
    fn from(error: TagError) -> Self {
        Self::Tags(error)
    }
}

impl KeyRecord {
    /// The record that publishes a key.
    pub fn new(key_type: KeyType, public: Vec<u8>) -> Self {
        Self {
            key_type,
            public,
            sha256: true,
            email: true,
            testing: false,
            strict: false,
            notes: None,
        }
    }

    /// Reads a record. What it doesn't know, it passes over, as 3.6.1 says.
    pub fn parse(record: &[u8]) -> Result<Self, RecordError> {
        let tags = Tags::parse(record)?;
        if let Some(version) = tags.find("v")
            && (version.value != "DKIM1" || tags.first() != Some(version))
        {
            return Err(RecordError::Version);
        }
        let key_type = match tags.get("k") {
            None => KeyType::Rsa,
            Some(k) if k.eq_ignore_ascii_case("rsa") => KeyType::Rsa,
            Some(k) if k.eq_ignore_ascii_case("ed25519") => KeyType::Ed25519,
            Some(_) => return Err(RecordError::KeyType),
        };
        let public = tags.get("p").ok_or(RecordError::NoKey)?;
        let listed = |name: &str, any: &[&str], absent: bool| {
            tags.get(name).map_or(absent, |list| {
                colons(list).any(|entry| any.iter().any(|a| entry.eq_ignore_ascii_case(a)))
            })
        };
        Ok(Self {
            key_type,
            public: base64(public).ok_or(RecordError::Base64)?,
            sha256: listed("h", &["sha256"], true),
            email: listed("s", &["email", "*"], true),
            testing: listed("t", &["y"], false),
            strict: listed("t", &["s"], false),
            notes: tags.get("n").filter(|n| !n.is_empty()).map(String::from),
        })
    }

    /// Whether the key was revoked (3.6.1, `p=`).
    pub fn is_revoked(&self) -> bool {
        self.public.is_empty()
    }

    /// The key to verify with.
    pub fn key(&self) -> Result<PublicKey, KeyError> {
        match self.key_type {
            KeyType::Ed25519 => {
                let bytes = <&[u8; 32]>::try_from(self.public.as_slice())
                    .map_err(|_| KeyError::Malformed)?;
                ed25519_dalek::VerifyingKey::from_bytes(bytes)
                    .map(|key| PublicKey(Kind::Ed25519(key)))
                    .map_err(|_| KeyError::Malformed)
            }
            KeyType::Rsa => rsa_key(&self.public).map(|key| PublicKey(Kind::Rsa(key))),
        }
    }
}

/// The text of the TXT record.
impl fmt::Display for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("v=DKIM1; ")?;
        if !self.sha256 {
            f.write_str("h=; ")?;
        }
        write!(f, "k={}; ", self.key_type)?;
        if let Some(notes) = &self.notes {
            write!(f, "n={notes}; ")?;
        }
        if !self.email {
            f.write_str("s=; ")?;
        }
        match (self.testing, self.strict) {
            (true, true) => f.write_str("t=y:s; ")?,
            (true, false) => f.write_str("t=y; ")?,
            (false, true) => f.write_str("t=s; ")?,
            (false, false) => {}
        }
        write!(f, "p={}", Base64::encode_string(&self.public))
    }
}

/// Why a record's key can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// Its octets are no key of its kind.
    Malformed,
    /// An RSA key of fewer than [`DKIM_VERIFY_RSA_BITS_MIN`] bits (RFC 8301 3.2).
    TooShort,
    /// An RSA key of more than [`DKIM_VERIFY_RSA_BITS_MAX`] bits.
    TooLong,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("the octets of p= are no key of its kind"),
            Self::TooShort => write!(
                f,
                "the RSA key has fewer than {DKIM_VERIFY_RSA_BITS_MIN} bits"
            ),
            Self::TooLong => write!(
                f,
                "the RSA key has more than {DKIM_VERIFY_RSA_BITS_MAX} bits"
            ),
        }
    }
}
impl core::error::Error for KeyError {}

/// A public key that was checked. Keys that verify the same signatures are equal, however their
/// records wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Rsa(RsaKey),
    Ed25519(ed25519_dalek::VerifyingKey),
}

impl PublicKey {
    /// Whether `signature` by `algorithm` is of this key over data with this SHA-256 hash. For
    /// Ed25519 the hash is what is signed (RFC 8463 3).
    pub fn verifies(&self, algorithm: Algorithm, hash: &[u8; 32], signature: &[u8]) -> bool {
        match (&self.0, algorithm) {
            (Kind::Rsa(key), Algorithm::RsaSha256) => key.verifies(hash, signature),
            (Kind::Ed25519(key), Algorithm::Ed25519Sha256) => {
                ed25519_dalek::Signature::from_slice(signature)
                    .is_ok_and(|signature| key.verify_strict(hash, &signature).is_ok())
            }
            _ => false,
        }
    }
}

fn rsa_key(der: &[u8]) -> Result<RsaKey, KeyError> {
    let key = match SubjectPublicKeyInfoRef::try_from(der) {
        Ok(info) if info.algorithm.oid == rsa::pkcs1::ALGORITHM_OID => info
            .subject_public_key
            .as_bytes()
            .and_then(|der| RsaPublicKeyRef::from_der(der).ok()),
        Ok(_) => None,
        Err(_) => RsaPublicKeyRef::from_der(der).ok(),
    }
    .ok_or(KeyError::Malformed)?;
    // Checked before anything is computed of it: the record is a stranger's.
    let modulus = key.modulus.as_bytes();
    if modulus.len() > DKIM_VERIFY_RSA_BITS_MAX / 8 {
        return Err(KeyError::TooLong);
    }
    let bits = u32::try_from(modulus.len() * 8).map_err(|_| KeyError::TooLong)?;
    let modulus = BoxedUint::from_be_slice(modulus, bits).map_err(|_| KeyError::Malformed)?;
    if (modulus.bit_width_vartime() as usize) < DKIM_VERIFY_RSA_BITS_MIN {
        return Err(KeyError::TooShort);
    }
    RsaKey::new(modulus, key.public_exponent.as_bytes()).ok_or(KeyError::Malformed)
}

/// Numbers of an RSA key. They are no secret, so that nothing here takes care to hide them in time,
/// and the exponent is short, mostly 65537: to square and multiply takes half as long as the table
/// of powers does that the crate `rsa` makes, as for a private exponent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RsaKey {
    modulus: BoxedMontyParams,
    exponent: u64,
}

impl RsaKey {
    /// Takes what `rsa` takes: an odd modulus, and an odd exponent of at most 33 bits that is
    /// not 1.
    fn new(modulus: BoxedUint, exponent: &[u8]) -> Option<Self> {
        let exponent = exponent.iter().try_fold(0_u64, |sum, octet| {
            Some(sum.checked_mul(256)? | u64::from(*octet))
        })?;
        if !(3..1 << 33).contains(&exponent) || exponent % 2 == 0 {
            return None;
        }
        let modulus = Odd::new(modulus).into_option()?;
        Some(Self {
            modulus: BoxedMontyParams::new_vartime(modulus),
            exponent,
        })
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 8.2.2).
    fn verifies(&self, hash: &[u8; 32], signature: &[u8]) -> bool {
        let modulus = self.modulus.modulus().as_ref();
        // Step 1.
        let size = modulus.bit_width_vartime().div_ceil(8) as usize;
        if signature.len() != size {
            return false;
        }
        // Step 2, RSAVP1 (5.2.2).
        let signature = match BoxedUint::from_be_slice(signature, modulus.bits_precision()) {
            Ok(signature) if signature < *modulus => signature,
            _ => return false,
        };
        let message = self.power(signature).to_be_bytes();
        // Steps 3 and 4: the hash is encoded and compared, not looked for in the message.
        let Some(encoded) = encoded(hash, size) else {
            return false;
        };
        message
            .strip_suffix(encoded.as_slice())
            .is_some_and(|before| before.iter().all(|b| *b == 0))
    }

    fn power(&self, base: BoxedUint) -> BoxedUint {
        let base = BoxedMontyForm::new(base, &self.modulus);
        let mut power = base.clone();
        let mut multiplier = <BoxedMontyForm as MontyForm>::Multiplier::from(&self.modulus);
        // The highest bit of the exponent is the base itself.
        for bit in (0..self.exponent.ilog2()).rev() {
            multiplier.square_assign(&mut power);
            if self.exponent >> bit & 1 == 1 {
                multiplier.mul_assign(&mut power, &base);
            }
        }
        power.retrieve()
    }
}

/// EMSA-PKCS1-v1_5 of a SHA-256 hash (RFC 8017 9.2) in `size` octets.
fn encoded(hash: &[u8; 32], size: usize) -> Option<Vec<u8>> {
    // Its DigestInfo (note 1).
    const SHA256: [u8; 19] = [
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
        0x05, 0x00, 0x04, 0x20,
    ];
    let padding = size.checked_sub(3 + SHA256.len() + hash.len())?;
    if padding < 8 {
        return None;
    }
    let mut out = Vec::with_capacity(size);
    out.extend_from_slice(&[0x00, 0x01]);
    out.resize(2 + padding, 0xff);
    out.push(0x00);
    out.extend_from_slice(&SHA256);
    out.extend_from_slice(hash);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::dkim::signer::tests::{RFC_6376_KEY, RSA_2048, RSA_2048_PKCS1};
    use alloc::string::ToString;
    use proptest::prelude::*;
    use rsa::traits::{PrivateKeyParts, PublicKeyParts};

    const ED25519: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    #[test]
    fn records() {
        let key = KeyRecord::parse(ED25519.as_bytes()).unwrap();
        assert_eq!(key.key_type, KeyType::Ed25519);
        assert!(key.sha256 && key.email && !key.testing && !key.strict && key.key().is_ok());
        assert_eq!(key.to_string(), ED25519);
        let odd = KeyRecord::parse(
            b"v = DKIM1 ; h = sha1 : SHA256:x ; s= tlsrpt : * ; t = y\t: s; n = a note; k=ED25519; \
              p = 11qYAYKxCrfVS/7TyWQHO g7hcvPapiMlrwIaaPcHURo= ; unknown = x; ",
        )
        .unwrap();
        assert!(odd.sha256 && odd.email && odd.testing && odd.strict);
        assert_eq!(odd.public, key.public);
        assert_eq!(KeyRecord::parse(odd.to_string().as_bytes()), Ok(odd));
        let other = KeyRecord::parse(b"h=sha1; s=other; p=").unwrap();
        assert!(!other.sha256 && !other.email && other.is_revoked());
    }

    #[test]
    fn records_that_are_none() {
        for (record, error) in [
            ("", RecordError::Tags(TagError::Empty)),
            ("p=; p=", RecordError::Tags(TagError::Duplicate)),
            ("v=DKIM1", RecordError::NoKey),
            ("p=; v=DKIM1", RecordError::Version),
            ("v=dkim1; p=", RecordError::Version),
            ("v=spf1; p=", RecordError::Version),
            ("k=dsa; p=", RecordError::KeyType),
            ("p=!", RecordError::Base64),
        ] {
            assert_eq!(KeyRecord::parse(record.as_bytes()), Err(error), "{record}");
        }
    }

    #[test]
    fn keys_that_are_none() {
        let key =
            |key_type, public: &[u8]| KeyRecord::new(key_type, public.to_vec()).key().map(|_| ());
        assert_eq!(key(KeyType::Ed25519, &[1; 16]), Err(KeyError::Malformed));
        assert_eq!(key(KeyType::Rsa, &[1; 32]), Err(KeyError::Malformed));
        // RSAPublicKey of 512 bits.
        let mut short = Vec::from([0x30, 0x48, 0x02, 0x41, 0x00]);
        short.extend([0xff; 64]);
        short.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
        assert_eq!(key(KeyType::Rsa, &short), Err(KeyError::TooShort));
        // Of one octet more than the bound, and of the bound.
        for (octets, error) in [(1025_u16, Err(KeyError::TooLong)), (1024, Ok(()))] {
            let [high, low] = (octets + 1).to_be_bytes();
            let [all_high, all_low] = (octets + 10).to_be_bytes();
            let mut long = Vec::from([0x30, 0x82, all_high, all_low, 0x02, 0x82, high, low, 0x00]);
            long.extend([0xff; 2000].iter().take(octets.into()));
            long.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
            assert_eq!(key(KeyType::Rsa, &long), error, "{octets}");
        }
    }

    /// Keys of several sizes and exponents, made of the primes of two.
    fn keys() -> Vec<rsa::PrivateKey> {
        use rsa::pkcs1::DecodeRsaPrivateKey;
        let [short, long] =
            [RFC_6376_KEY, RSA_2048_PKCS1].map(|pem| rsa::PrivateKey::from_pkcs1_pem(pem).unwrap());
        let primes = |a: &rsa::PrivateKey, b: &rsa::PrivateKey| {
            let prime = |key: &rsa::PrivateKey, n: usize| key.primes()[n].as_ref().clone();
            (prime(a, 0), prime(b, 1))
        };
        let mut keys = Vec::new();
        for (p, q) in [
            primes(&short, &short),
            primes(&long, &long),
            primes(&short, &long),
        ] {
            for e in [
                3_u64,
                5,
                17,
                257,
                65_537,
                65_539,
                0xffff_fffb,
                0x1_0000_000f,
            ] {
                keys.extend(rsa::PrivateKey::from_p_q(p.clone(), q.clone(), e.into()));
            }
        }
        keys
    }

    /// By the crate `rsa`.
    fn plain(key: &rsa::PublicKey, hash: &[u8; 32], signature: &[u8]) -> bool {
        key.pkcs1v15_verify_prehash::<sha2::Sha256>(hash, signature)
            .is_ok()
    }

    #[test]
    fn exponents_and_moduli_as_rsa_takes_them() {
        let odd = BoxedUint::from_be_slice(&[0xff; 128], 1024).unwrap();
        let even = odd.wrapping_sub(BoxedUint::one());
        for n in [odd, even] {
            let top = (1_u64 << 33) - 1;
            for e in [
                0,
                1,
                2,
                3,
                4,
                17,
                65_536,
                65_537,
                top - 1,
                top,
                top + 1,
                top + 2,
                u64::MAX,
            ] {
                let theirs = rsa::PublicKey::new(n.clone(), e.into());
                let own = RsaKey::new(n.clone(), &e.to_be_bytes());
                assert_eq!(own.is_some(), theirs.is_ok(), "{e}");
            }
            assert_eq!(RsaKey::new(n, &[1; 9]), None);
        }
    }

    #[test]
    fn verifies_as_rsa_does() {
        let keys = keys();
        assert!(keys.len() >= 12, "{}", keys.len());
        for (n, key) in keys.iter().enumerate() {
            let hash = [n as u8; 32];
            let padding = || rsa::Pkcs1v15Sign::new::<sha2::Sha256>();
            let good = key.sign(padding(), &hash).unwrap();
            let public = key.as_public_key();
            let exponent = public.e().to_be_bytes();
            let own = RsaKey::new(public.n().as_ref().clone(), &exponent).unwrap();
            let both = |hash: &[u8; 32], signature: &[u8]| {
                let found = own.verifies(hash, signature);
                assert_eq!(found, plain(public, hash, signature), "{n}");
                found
            };
            assert!(both(&hash, &good));
            assert!(!both(&[0xaa; 32], &good));
            // Another padding of the same hash, and a hash that calls itself another.
            let bare = rsa::Pkcs1v15Sign::new_unprefixed();
            assert!(!both(&hash, &key.sign(bare, &hash).unwrap()));
            for at in [0, 1, good.len() / 2, good.len() - 1] {
                let mut bad = good.clone();
                bad[at] ^= 1;
                assert!(!both(&hash, &bad));
            }
            // Too short, too long, and the same number modulo n where there is room for it.
            assert!(!both(&hash, &good[1..]) && !both(&hash, &[]));
            assert!(!both(&hash, &[&[0], good.as_slice()].concat()));
            let modulus = public.n().to_be_bytes();
            let modulus = &modulus[modulus.len() - public.size()..];
            assert!(!both(&hash, modulus) && !both(&hash, &alloc::vec![0xff; good.len()]));
            let mut more = good.clone();
            let carry = (0..more.len()).rev().fold(0, |carry, at| {
                let sum = u16::from(more[at]) + u16::from(modulus[at]) + carry;
                more[at] = sum as u8;
                sum >> 8
            });
            assert!(carry == 1 || !both(&hash, &more));
        }
    }

    proptest! {
        #[test]
        fn signatures_of_any_octets(
            octets in proptest::collection::vec(any::<u8>(), 0..300),
            hash in any::<[u8; 32]>(),
        ) {
            let key = crate::auth::dkim::signer::PrivateKey::parse(RSA_2048).unwrap();
            let Kind::Rsa(key) = key.record().key().unwrap().0 else { panic!() };
            let mut octets = octets;
            prop_assert!(octets.len() == 256 || !key.verifies(&hash, &octets));
            octets.resize(256, 0);
            prop_assert!(!key.verifies(&hash, &octets));
        }

        #[test]
        fn any_octets(record in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut tagged = b"p=".to_vec();
            tagged.extend_from_slice(&record);
            for record in [&record, &tagged] {
                if let Ok(key) = KeyRecord::parse(record) {
                    let _ = key.key();
                }
            }
            for kind in [KeyType::Rsa, KeyType::Ed25519] {
                let _ = KeyRecord::new(kind, record.clone()).key();
            }
        }

        #[test]
        fn reads_what_it_writes(
            public in proptest::collection::vec(any::<u8>(), 0..80),
            flags in any::<[bool; 5]>(),
        ) {
            let record = KeyRecord {
                key_type: if flags[0] { KeyType::Rsa } else { KeyType::Ed25519 },
                public,
                sha256: flags[1],
                email: flags[2],
                testing: flags[3],
                strict: flags[4],
                notes: flags[0].then(|| "a note".into()),
            };
            prop_assert_eq!(KeyRecord::parse(record.to_string().as_bytes()), Ok(record));
        }
    }
}
