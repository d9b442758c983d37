//! What is kept of a password, and whether one is it.

use std::fmt;
use std::str::FromStr;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params};
use courser_core::smtp::sasl::scram::{Keys, Recipe};
use zeroize::Zeroizing;

use super::random;

/// Memory of one comparison at most, KiB: 1 GiB.
const ARGON2_MEMORY_KIB_MAX: u32 = 1 << 20;
/// Passes over it at most.
const ARGON2_PASSES_MAX: u32 = 100;
/// Lanes at most.
const ARGON2_LANES_MAX: u32 = 64;
/// Iterations of new SCRAM keys: about 25 ms of a processor, for client and server. RFC 7677 4 asks
/// for at least 4096.
pub const SCRAM_ITERATIONS: u32 = 100_000;

/// What is kept of a password.
pub enum Hash {
    /// Argon2 (RFC 9106): for PLAIN and LOGIN.
    Argon2(Box<PasswordHash>),
    /// Keys of SCRAM (RFC 5802): for all mechanisms.
    Scram(Box<Keys>),
}

/// Why a text is no [`Hash`]; says nothing of what stands there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHash {
    /// It is none of the forms.
    #[error(
        "is neither \"$argon2id$…\" (a PHC string) nor \"SCRAM-SHA-256$…\"; \
         `courser user passwd` writes one"
    )]
    Form,
    /// A form of Argon2 that is not for passwords.
    #[error("is of another algorithm than argon2id; `courser user passwd` writes a new one")]
    Algorithm,
    /// Argon2 would take too long.
    #[error(
        "would take more than {ARGON2_MEMORY_KIB_MAX} KiB (m), {ARGON2_PASSES_MAX} passes (t) or \
         {ARGON2_LANES_MAX} lanes (p) to check"
    )]
    Cost,
    /// Keys of SCRAM with something wrong.
    #[error("{0}")]
    Scram(#[from] courser_core::smtp::sasl::scram::BadKeys),
}

impl FromStr for Hash {
    type Err = BadHash;

    fn from_str(text: &str) -> Result<Self, BadHash> {
        if text.starts_with("SCRAM-") {
            return Ok(Self::Scram(Box::new(Keys::parse(text)?)));
        }
        if !text.starts_with('$') {
            return Err(BadHash::Form);
        }
        let hash = PasswordHash::new(text).map_err(|_| BadHash::Form)?;
        if hash.algorithm.as_str() != Algorithm::Argon2id.as_str() {
            return Err(BadHash::Algorithm);
        }
        let params = Params::try_from(&hash).map_err(|_| BadHash::Form)?;
        if hash.hash.is_none() || hash.salt.is_none() {
            return Err(BadHash::Form);
        }
        if params.m_cost() > ARGON2_MEMORY_KIB_MAX
            || params.t_cost() > ARGON2_PASSES_MAX
            || params.p_cost() > ARGON2_LANES_MAX
        {
            return Err(BadHash::Cost);
        }
        Ok(Self::Argon2(Box::new(hash)))
    }
}

impl Hash {
    /// Of a password, for PLAIN and LOGIN. It takes some 20 ms, and 19 MiB.
    ///
    /// # Panics
    /// When the library has no argon2id, which it is there for.
    pub fn argon2(password: &[u8]) -> Zeroizing<String> {
        let salt: [u8; 16] = random();
        let hash = Argon2::default().hash_password_with_salt(password, &salt);
        let hash = hash.expect("a salt of 16 octets and a bounded password are possible");
        Zeroizing::new(hash.to_string())
    }

    /// Of a password, for all mechanisms.
    ///
    /// # Errors
    /// Too few or too many iterations, in words.
    pub fn scram(password: &[u8], iterations: u32) -> Result<Zeroizing<String>, String> {
        let salt: [u8; 16] = random();
        let recipe = Recipe::new(&salt, iterations).map_err(|e| e.to_string())?;
        let keys = Keys::derive(password, recipe);
        Ok(keys.emit(|text| Zeroizing::new(text.to_owned())))
    }

    /// Whether it is of this password, which was prepared. Takes as long as its parameters say.
    pub fn is_of(&self, password: &[u8]) -> bool {
        match self {
            // Its own parameters count.
            Self::Argon2(hash) => Argon2::default().verify_password(password, &**hash).is_ok(),
            Self::Scram(keys) => keys.are_of(password),
        }
    }

    /// The keys for SCRAM, if it has any.
    pub fn keys(&self) -> Option<&Keys> {
        match self {
            Self::Argon2(_) => None,
            Self::Scram(keys) => Some(keys),
        }
    }

    /// What it is, for people: `argon2id` or `scram-sha-256`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Argon2(_) => "argon2id",
            Self::Scram(_) => "scram-sha-256",
        }
    }
}

/// Says of which kind it is, and nothing else.
impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({})", self.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_read_and_compared() {
        for text in [
            Hash::argon2(b"sesame"),
            Hash::scram(b"sesame", 4096).unwrap(),
        ] {
            let hash: Hash = text.parse().unwrap();
            assert!(hash.is_of(b"sesame") && !hash.is_of(b"Sesame") && !hash.is_of(b""));
            assert_ne!(*text, *Hash::argon2(b"sesame"), "another salt each time");
            let shown = format!("{hash:?}");
            assert!(shown.len() < 25, "{shown}");
        }
        assert!(Hash::scram(b"sesame", 1).is_err());
    }

    #[test]
    fn hashes_of_others() {
        // Debian's argon2: echo -n password | argon2 somesalt -id -t 2 -m 10 -p 4 -l 24 -e
        let theirs = "$argon2id$v=19$m=1024,t=2,p=4$c29tZXNhbHQ$MfdjzcytEeXZM5ijm4z8Gut8QmpjPY4o";
        let hash: Hash = theirs.parse().unwrap();
        assert!(hash.is_of(b"password") && !hash.is_of(b"passwort"));
        let good = Hash::argon2(b"x");
        for (text, why) in [
            ("hunter2".to_owned(), BadHash::Form),
            (String::new(), BadHash::Form),
            ("$".to_owned(), BadHash::Form),
            (
                "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ".to_owned(),
                BadHash::Form,
            ),
            ("$6$salt$hash".to_owned(), BadHash::Algorithm),
            (good.replace("argon2id", "argon2d"), BadHash::Algorithm),
            (good.replace("m=19456", "m=1048577"), BadHash::Cost),
            (good.replace("t=2", "t=101"), BadHash::Cost),
        ] {
            let error = text.parse::<Hash>().unwrap_err();
            // What can't be read at all is refused, too.
            assert!(error == why || error == BadHash::Form, "{text}: {error:?}");
            assert!(!error.to_string().contains("hunter2"));
        }
        assert!(matches!(
            "SCRAM-SHA-256$x".parse::<Hash>(),
            Err(BadHash::Scram(_))
        ));
    }
}
