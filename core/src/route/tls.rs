//! How much TLS a delivery wants.
//!
//! A level may be set in several places: for a provider, a route, a source, a stream. Of those that
//! are, the [strictest](Level::decide) counts, so that nobody's wish is weakened by somebody
//! else's.

use core::fmt;

/// How much TLS a delivery wants, in rising order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// None: STARTTLS is not used even where it is offered.
    Off,
    /// TLS where the peer offers it, whoever it is; plaintext where it doesn't, or where the
    /// handshake fails (RFC 7435).
    #[default]
    Opportunistic,
    /// TLS, whoever the peer is: no mail goes out in plaintext.
    Required,
    /// TLS, and the peer's certificate is valid and names the host that was looked for.
    Verified,
}

impl Level {
    /// The strictest of the levels that are set, else `usual`.
    pub fn decide(set: impl IntoIterator<Item = Option<Self>>, usual: Self) -> Self {
        set.into_iter().flatten().max().unwrap_or(usual)
    }

    /// Whether mail may go out in plaintext where there is no TLS to be had.
    pub const fn allows_plaintext(self) -> bool {
        matches!(self, Self::Off | Self::Opportunistic)
    }

    /// The word of the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Opportunistic => "opportunistic",
            Self::Required => "required",
            Self::Verified => "verified",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::Level::{self, Off, Opportunistic, Required, Verified};

    #[test]
    fn the_strictest_that_is_set_counts() {
        let usual = Opportunistic;
        for (set, level) in [
            (&[][..], Opportunistic),
            (&[None, None], Opportunistic),
            (&[Some(Off), None], Off),
            (&[Some(Off), Some(Opportunistic)], Opportunistic),
            (&[Some(Required), Some(Off)], Required),
            (&[Some(Required), None, Some(Verified)], Verified),
        ] {
            assert_eq!(Level::decide(set.iter().copied(), usual), level, "{set:?}");
        }
        assert_eq!(Level::decide([None], Verified), Verified);
    }

    #[test]
    fn plaintext_is_for_the_weak_ones() {
        let weak: Vec<Level> = [Off, Opportunistic, Required, Verified]
            .into_iter()
            .filter(|l| l.allows_plaintext())
            .collect();
        assert_eq!(weak, [Off, Opportunistic]);
    }
}
