//! Signatures by aws-lc-rs: the same octets as those of the core's signers, in a fifth of the time.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use courser_core::auth::dkim::{Algorithm, PrivateKey, Signer, SignerError};
use sha2::{Digest, Sha256};

/// A key that signs by aws-lc-rs.
pub struct FastSigner(Kind);

enum Kind {
    Rsa(Box<RsaKeyPair>, SystemRandom),
    Ed25519(Box<Ed25519KeyPair>),
}

impl FastSigner {
    /// What signs with `key`; `None` where aws-lc-rs doesn't take it.
    pub fn new(key: &PrivateKey) -> Option<Self> {
        Some(Self(match key.algorithm() {
            Algorithm::Ed25519Sha256 => {
                let seed = key.ed25519_seed()?;
                Kind::Ed25519(Box::new(
                    Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).ok()?,
                ))
            }
            _ => {
                let der = key.rsa_pkcs1_der()?;
                let pair = RsaKeyPair::from_der(der.as_bytes()).ok()?;
                Kind::Rsa(Box::new(pair), SystemRandom::new())
            }
        }))
    }
}

impl Signer for FastSigner {
    fn algorithm(&self) -> Algorithm {
        match &self.0 {
            Kind::Rsa(..) => Algorithm::RsaSha256,
            Kind::Ed25519(_) => Algorithm::Ed25519Sha256,
        }
    }

    fn sign(&self, data: &[u8]) -> Result<Vec<u8>, SignerError> {
        match &self.0 {
            Kind::Rsa(pair, random) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, random, data, &mut signature)
                    .map_err(|_| SignerError)?;
                Ok(signature)
            }
            Kind::Ed25519(pair) => Ok(pair.sign(&Sha256::digest(data)).as_ref().to_vec()),
        }
    }
}

/// Says which kind of key, never what is in it.
impl std::fmt::Debug for FastSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FastSigner({})", self.algorithm())
    }
}
