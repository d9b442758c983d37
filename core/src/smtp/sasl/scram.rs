//! The keys of SCRAM-SHA-256 (RFC 5802 3, RFC 7677).
//!
//! ```text
//! SaltedPassword  = PBKDF2-HMAC-SHA-256(password, salt, i)
//! ClientKey       = HMAC(SaltedPassword, "Client Key")     StoredKey = SHA-256(ClientKey)
//! ServerKey       = HMAC(SaltedPassword, "Server Key")
//! AuthMessage     = bare "," server-first "," client-final without ",p=…"
//! p               = ClientKey XOR HMAC(StoredKey, AuthMessage)
//! v               = HMAC(ServerKey, AuthMessage)
//! ```

use core::fmt::{self, Write};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::base64;
use crate::limits::{SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN, SCRAM_SALT_BYTES_MAX};

/// Octets of a key, a proof and a signature.
const KEY_BYTES: usize = 32;
/// Longest text that [`Keys::emit`] writes, octets.
pub const KEYS_TEXT_BYTES_MAX: usize = 256;

pub(super) type Salt = heapless::Vec<u8, SCRAM_SALT_BYTES_MAX, u8>;
pub(super) type Key = [u8; KEY_BYTES];

/// How many iterations and which salt keys are made with: no secret, and different for each user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recipe {
    salt: Salt,
    iterations: u32,
}

/// Why there is no such [`Recipe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRecipe {
    /// The salt is empty, or longer than [`SCRAM_SALT_BYTES_MAX`].
    Salt,
    /// Fewer iterations than [`SCRAM_ITERATIONS_MIN`].
    TooFew,
    /// More than [`SCRAM_ITERATIONS_MAX`].
    TooMany,
}

impl fmt::Display for BadRecipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Salt => write!(f, "a salt has 1 to {SCRAM_SALT_BYTES_MAX} octets"),
            Self::TooFew => write!(f, "at least {SCRAM_ITERATIONS_MIN} iterations are needed"),
            Self::TooMany => write!(f, "at most {SCRAM_ITERATIONS_MAX} iterations are made"),
        }
    }
}
impl core::error::Error for BadRecipe {}

impl Recipe {
    /// Of a salt, 16 octets of chance for new keys, and a number of iterations.
    ///
    /// # Errors
    /// [`BadRecipe`].
    pub fn new(salt: &[u8], iterations: u32) -> Result<Self, BadRecipe> {
        if iterations < SCRAM_ITERATIONS_MIN {
            return Err(BadRecipe::TooFew);
        }
        if iterations > SCRAM_ITERATIONS_MAX {
            return Err(BadRecipe::TooMany);
        }
        match heapless::Vec::from_slice(salt) {
            Ok(salt) if !salt.is_empty() => Ok(Self { salt, iterations }),
            _ => Err(BadRecipe::Salt),
        }
    }

    /// The salt.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// How many iterations.
    pub const fn iterations(&self) -> u32 {
        self.iterations
    }
}

/// What a server keeps of a password: enough to know who has it, too little to be him.
#[derive(Clone)]
pub struct Keys {
    recipe: Recipe,
    stored: Key,
    server: Key,
}

/// Why a text is no [`Keys`]; says nothing of what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKeys {
    /// It isn't `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
    Form,
    /// Salt or iterations.
    Recipe(BadRecipe),
}

impl fmt::Display for BadKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str(
                "SCRAM keys are written SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey, \
                 each of the last three in base64",
            ),
            Self::Recipe(bad) => bad.fmt(f),
        }
    }
}
impl core::error::Error for BadKeys {}

impl Keys {
    /// Of a password that was [prepared](super::prepare()). Takes as long as its iterations.
    pub fn derive(password: &[u8], recipe: Recipe) -> Self {
        let salted = salted(password, &recipe);
        let mut client = client_key(&salted);
        let stored = sha256(&client);
        client.zeroize();
        Self {
            stored,
            server: server_key(&salted),
            recipe,
        }
    }

    /// Keys that no password has, for a user who isn't there: the same for each `user` as long as
    /// `secret` is the same, so that nobody can tell by them who is there (RFC 5802 9). Whoever is
    /// there should have keys `like` these.
    pub fn made_up(secret: &[u8; 32], user: &[u8], like: &Recipe) -> Self {
        let part = |what: &[u8]| hmac(secret, &[what, b"\0", user]);
        let mut salt = Salt::new();
        for (&octet, _) in part(b"salt").iter().cycle().zip(&like.salt) {
            let _ = salt.push(octet);
        }
        Self {
            recipe: Recipe {
                salt,
                iterations: like.iterations,
            },
            stored: part(b"stored key"),
            server: part(b"server key"),
        }
    }

    /// Reads `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, as PostgreSQL writes it.
    ///
    /// # Errors
    /// [`BadKeys`].
    pub fn parse(text: &str) -> Result<Self, BadKeys> {
        let parts = || {
            let rest = text.strip_prefix("SCRAM-SHA-256$")?;
            let (recipe, keys) = rest.split_once('$')?;
            let (iterations, salt) = recipe.split_once(':')?;
            let (stored, server) = keys.split_once(':')?;
            Some((
                number(iterations)?,
                base64::decode::<{ SCRAM_SALT_BYTES_MAX }>(salt.as_bytes())?,
                key(stored)?,
                key(server)?,
            ))
        };
        let (iterations, salt, stored, server) = parts().ok_or(BadKeys::Form)?;
        let recipe = Recipe::new(&salt, iterations).map_err(BadKeys::Recipe)?;
        Ok(Self {
            recipe,
            stored,
            server,
        })
    }

    /// Hands the text that [`parse`](Self::parse) reads to `write`. Whoever has it can guess the
    /// password offline, and stand in for this server.
    pub fn emit<R>(&self, write: impl FnOnce(&str) -> R) -> R {
        let mut text = Zeroizing::new([0; KEYS_TEXT_BYTES_MAX]);
        let mut room = super::super::Buffer::new(text.as_mut_slice());
        // The longest has 14 + 7 + 1 + 88 + 1 + 44 + 1 + 44 octets, so nothing can fail.
        let _ = write!(room, "SCRAM-SHA-256${}:", self.recipe.iterations);
        let _ = put_base64(&mut room, &self.recipe.salt);
        let _ = room.put(b"$");
        let _ = put_base64(&mut room, &self.stored);
        let _ = room.put(b":");
        let _ = put_base64(&mut room, &self.server);
        let written = room.written();
        let text = text.get(..written).unwrap_or_default();
        write(core::str::from_utf8(text).unwrap_or_default())
    }

    /// What they were made with.
    pub const fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Whether they are of this password, which was [prepared](super::prepare()): for PLAIN and
    /// LOGIN. Takes as long as [`derive`](Self::derive).
    pub fn are_of(&self, password: &[u8]) -> bool {
        let other = Self::derive(password, self.recipe.clone());
        (self.stored.ct_eq(&other.stored) & self.server.ct_eq(&other.server)).into()
    }

    /// Whether the proof of a client is that of one who has the password.
    pub(super) fn proves(&self, proof: &Key, auth_message: &[&[u8]]) -> bool {
        let mut client = hmac(&self.stored, auth_message);
        for (octet, of_proof) in client.iter_mut().zip(proof) {
            *octet ^= of_proof;
        }
        let is_good = sha256(&client).ct_eq(&self.stored).into();
        client.zeroize();
        is_good
    }

    /// What proves to the client that this server knows it.
    pub(super) fn signature(&self, auth_message: &[&[u8]]) -> Key {
        hmac(&self.server, auth_message)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stored.zeroize();
        self.server.zeroize();
    }
}

/// Says what they were made with, and nothing of the keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("iterations", &self.recipe.iterations)
            .finish_non_exhaustive()
    }
}

/// What a client makes of its password for one server. Worth keeping, since it takes long to make
/// (RFC 5802 5.1); with it one can be the user.
#[derive(Clone)]
pub struct ClientKeys {
    recipe: Recipe,
    client: Key,
    server: Key,
}

impl ClientKeys {
    /// Of a password that was [prepared](super::prepare()). Takes as long as its iterations.
    pub fn derive(password: &[u8], recipe: Recipe) -> Self {
        let salted = salted(password, &recipe);
        Self {
            client: client_key(&salted),
            server: server_key(&salted),
            recipe,
        }
    }

    /// What they were made with.
    pub const fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    pub(super) fn proof(&self, auth_message: &[&[u8]]) -> Key {
        let mut proof = hmac(&sha256(&self.client), auth_message);
        for (octet, of_key) in proof.iter_mut().zip(&self.client) {
            *octet ^= of_key;
        }
        proof
    }

    pub(super) fn signature(&self, auth_message: &[&[u8]]) -> Key {
        hmac(&self.server, auth_message)
    }
}

impl Drop for ClientKeys {
    fn drop(&mut self) {
        self.client.zeroize();
        self.server.zeroize();
    }
}

/// Says what they were made with, and nothing of the keys.
impl fmt::Debug for ClientKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientKeys")
            .field("iterations", &self.recipe.iterations)
            .finish_non_exhaustive()
    }
}

fn salted(password: &[u8], recipe: &Recipe) -> Zeroizing<Key> {
    let mut salted = Zeroizing::new([0; KEY_BYTES]);
    pbkdf2::pbkdf2_hmac::<Sha256>(password, &recipe.salt, recipe.iterations, &mut *salted);
    salted
}

fn client_key(salted: &Key) -> Key {
    hmac(salted, &[b"Client Key"])
}

fn server_key(salted: &Key) -> Key {
    hmac(salted, &[b"Server Key"])
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    // HMAC has keys of any length (RFC 2104 3).
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; KEY_BYTES];
    };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn sha256(bytes: &[u8]) -> Key {
    Sha256::digest(bytes).into()
}

/// A key in base64.
pub(super) fn key(text: &str) -> Option<Key> {
    let bytes = base64::decode::<KEY_BYTES>(text.as_bytes())?;
    Key::try_from(&*bytes).ok()
}

/// Digits that don't begin with 0 (RFC 5802 7, posit-number).
pub(super) fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    digits.then(|| text.parse().ok())?
}

fn put_base64(room: &mut super::super::Buffer<'_>, bytes: &[u8]) -> fmt::Result {
    let mut text = [0; 4 * SCRAM_SALT_BYTES_MAX.div_ceil(3)];
    let n = base64::encode(bytes, &mut text).ok_or(fmt::Error)?;
    let text = text.get(..n).unwrap_or_default();
    room.put(text).map_err(|_| fmt::Error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::ToString;

    const PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn keys_as_postgresql_writes_them() {
        let keys = Keys::parse(PENCIL).unwrap();
        assert!(keys.are_of(b"pencil"));
        assert!(!keys.are_of(b"pencils") && !keys.are_of(b""));
        assert_eq!(keys.emit(ToString::to_string), PENCIL);
        let again = Keys::derive(b"pencil", keys.recipe().clone());
        assert_eq!(again.emit(ToString::to_string), PENCIL);
        let shown = format!("{keys:?}");
        assert_eq!(shown, "Keys { iterations: 4096, .. }");
        for bad in [
            "",
            "hunter2",
            "SCRAM-SHA-1$4096:W22ZaJ0SNY7soEsUEjb6gQ==$a:b",
            &PENCIL.replace("$4096", "$04096"),
            &PENCIL.replace("$4096", "$+4096"),
            &PENCIL.replace("gQ==", "gQ"),
            &PENCIL.replace("WG5d", "WG5"),
            &format!("{PENCIL} "),
        ] {
            assert_eq!(Keys::parse(bad).unwrap_err(), BadKeys::Form, "{bad:?}");
        }
        for (bad, why) in [
            (PENCIL.replace("$4096", "$4095"), BadRecipe::TooFew),
            (PENCIL.replace("$4096", "$2000001"), BadRecipe::TooMany),
            (
                PENCIL.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
                BadRecipe::Salt,
            ),
        ] {
            assert_eq!(Keys::parse(&bad).unwrap_err(), BadKeys::Recipe(why));
        }
    }

    #[test]
    fn the_longest_keys_have_room() {
        let recipe = Recipe::new(&[7; SCRAM_SALT_BYTES_MAX], SCRAM_ITERATIONS_MIN).unwrap();
        let keys = Keys::made_up(&[1; 32], b"x", &recipe);
        let text = keys.emit(ToString::to_string);
        assert_eq!(Keys::parse(&text).unwrap().emit(ToString::to_string), text);
    }

    #[test]
    fn made_up_keys_are_the_same_each_time_and_nobodys() {
        let like = Recipe::new(&[9; 20], 5000).unwrap();
        let made = |secret: u8, user: &str| {
            let keys = Keys::made_up(&[secret; 32], user.as_bytes(), &like);
            assert_eq!(
                (keys.recipe().salt().len(), keys.recipe().iterations()),
                (20, 5000)
            );
            keys.emit(ToString::to_string)
        };
        assert_eq!(made(1, "ann"), made(1, "ann"));
        assert_ne!(made(1, "ann"), made(1, "bob"));
        assert_ne!(made(1, "ann"), made(2, "ann"));
    }
}
