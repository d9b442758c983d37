//! Hashes of a body while it comes: SHA-256 over its canonical forms (RFC 6376 3.7).

use crate::auth::canon::{Body, Canon};
use sha2::{Digest, Sha256};

/// One hash of a body.
#[derive(Clone, Debug)]
pub struct BodyHasher {
    body: Body,
    hash: Limited,
}

#[derive(Clone, Debug)]
struct Limited {
    sha256: Sha256,
    /// Octets that are still hashed (`l=`).
    left: u64,
    octets: u64,
}

impl Limited {
    fn update(&mut self, bytes: &[u8]) {
        self.octets = self.octets.saturating_add(bytes.len() as u64);
        let take = usize::try_from(self.left).unwrap_or(usize::MAX);
        let bytes = bytes.get(..take).unwrap_or(bytes);
        self.left = self.left.saturating_sub(bytes.len() as u64);
        self.sha256.update(bytes);
    }
}

/// What a [`BodyHasher`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyHash {
    /// The hash.
    pub sha256: [u8; 32],
    /// Octets of the canonical body, hashed or not.
    pub octets: u64,
}

impl BodyHasher {
    /// A hash of the first `limit` octets of the canonical form, or of all of it.
    pub fn new(canon: Canon, limit: Option<u64>) -> Self {
        Self {
            body: Body::new(canon),
            hash: Limited {
                sha256: Sha256::new(),
                left: limit.unwrap_or(u64::MAX),
                octets: 0,
            },
        }
    }

    /// Takes the next piece of the body.
    pub fn update(&mut self, piece: &[u8]) {
        let hash = &mut self.hash;
        self.body.update(piece, |bytes| hash.update(bytes));
    }

    /// The body is over.
    pub fn finish(mut self) -> BodyHash {
        let hash = &mut self.hash;
        self.body.finish(|bytes| hash.update(bytes));
        BodyHash {
            sha256: self.hash.sha256.finalize().into(),
            octets: self.hash.octets,
        }
    }
}

/// The hashes that signatures of one message need, made in one walk over its body.
///
/// Order of calls: [`new`](Self::new) with what the signatures will want,
/// [`update`](Self::update) with each piece of the body as it comes, [`finish`](Self::finish).
#[derive(Clone, Debug, Default)]
pub struct BodyHashes {
    simple: Option<BodyHasher>,
    relaxed: Option<BodyHasher>,
}

/// Hashes of a whole body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashedBody {
    simple: Option<[u8; 32]>,
    relaxed: Option<[u8; 32]>,
}

impl BodyHashes {
    /// Will make the hash of each of `canons`.
    pub fn new(canons: &[Canon]) -> Self {
        let want = |canon| {
            canons
                .contains(&canon)
                .then(|| BodyHasher::new(canon, None))
        };
        Self {
            simple: want(Canon::Simple),
            relaxed: want(Canon::Relaxed),
        }
    }

    /// Takes the next piece of the body.
    pub fn update(&mut self, piece: &[u8]) {
        for hasher in [&mut self.simple, &mut self.relaxed].into_iter().flatten() {
            hasher.update(piece);
        }
    }

    /// The body is over.
    pub fn finish(self) -> HashedBody {
        HashedBody {
            simple: self.simple.map(|hasher| hasher.finish().sha256),
            relaxed: self.relaxed.map(|hasher| hasher.finish().sha256),
        }
    }
}

impl HashedBody {
    /// The hashes of a body that is there as a whole.
    pub fn of(body: &[u8], canons: &[Canon]) -> Self {
        let mut hashes = BodyHashes::new(canons);
        hashes.update(body);
        hashes.finish()
    }

    /// The hash of this form, if it was made.
    pub const fn get(&self, canon: Canon) -> Option<[u8; 32]> {
        match canon {
            Canon::Simple => self.simple,
            Canon::Relaxed => self.relaxed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64ct::{Base64, Encoding};

    #[test]
    fn empty_bodies() {
        // RFC 6376 3.4.3 and 3.4.4 print these.
        let hashed = HashedBody::of(b"", &[Canon::Simple, Canon::Relaxed]);
        for (canon, printed) in [
            (
                Canon::Simple,
                "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=",
            ),
            (
                Canon::Relaxed,
                "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            ),
        ] {
            let hash = hashed.get(canon).unwrap();
            assert_eq!(Base64::encode_string(&hash), printed);
        }
        assert_eq!(HashedBody::of(b"", &[]).get(Canon::Simple), None);
    }

    #[test]
    fn limited() {
        let mut hasher = BodyHasher::new(Canon::Simple, Some(4));
        hasher.update(b"ab");
        hasher.update(b"\r\ncd\r\n\r\n");
        let hash = hasher.finish();
        assert_eq!(hash.octets, 8);
        assert_eq!(
            Some(hash.sha256),
            HashedBody::of(b"ab\r\n", &[Canon::Simple]).get(Canon::Simple)
        );
    }
}
