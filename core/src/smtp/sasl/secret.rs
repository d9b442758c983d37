//! Octets that are wiped when they are dropped, and never shown.

use core::fmt;
use core::ops::Deref;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Up to `N` octets. Compared in constant time; only their number can be told.
#[derive(Clone)]
pub struct Secret<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Secret<N> {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
        }
    }

    /// A copy of `bytes`; `None` if they are more than `N`.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let mut secret = Self::new();
        secret.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        secret.len = bytes.len();
        Some(secret)
    }

    /// Lets `fill` write into all of the room; it says how much of it counts.
    pub(super) fn filled(fill: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<Self> {
        let mut secret = Self::new();
        secret.len = fill(&mut secret.bytes)?.min(N);
        Some(secret)
    }
}

impl<const N: usize> Default for Secret<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Deref for Secret<N> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}
impl<const N: usize> Eq for Secret<N> {}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} octets)", self.len)
    }
}
