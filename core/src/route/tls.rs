//! How much TLS a delivery wants.
//!
//! A level may be set in several places: for a provider, a route, a source, a stream. Of those that
//! are, the [strictest](Level::decide) counts, so that nobody's wish is weakened by somebody
//! else's.

use core::fmt;

use crate::route::dane::Requirement;

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

/// By whom a session's peer has to be found to be the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verify {
    /// By nobody: it may be anyone.
    Nobody,
    /// By an authority that is trusted, for the name of the host (RFC 8461 4.1).
    Authorities,
    /// By its TLSA records (RFC 7672 2.2).
    Tlsa,
}

impl Level {
    /// What a session with a host has to be where mail wants this level, and DNSSEC vouches for
    /// records of the host that want `requirement`: DANE's come before the authorities', and are
    /// never less than TLS. Where the level is [`Off`](Self::Off), they aren't asked.
    pub fn toward(self, requirement: Requirement) -> (Self, Verify) {
        let usual = match self {
            Self::Verified => Verify::Authorities,
            _ => Verify::Nobody,
        };
        match (self, requirement) {
            (Self::Off, _) | (_, Requirement::Nothing) => (self, usual),
            (_, Requirement::Encrypted) => (self.max(Self::Required), usual),
            (_, Requirement::Authenticated) => (self.max(Self::Required), Verify::Tlsa),
        }
    }
}

/// What a message itself asks for, by its stream and its sender (RFC 8689).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Demand {
    /// How much TLS its stream wants.
    pub level: Option<Level>,
    /// Its sender wants TLS toward a verified host all the way (`REQUIRETLS`).
    pub required: bool,
    /// Its sender would rather have it delivered than encrypted (`TLS-Required: No`): what DANE and
    /// MTA-STS say for the receiver doesn't count.
    pub optional: bool,
}

impl Demand {
    /// The level that it comes to by itself.
    pub fn level(&self) -> Option<Level> {
        let required = self.required.then_some(Level::Verified);
        self.level.max(required)
    }

    /// A short text that says the same, for [`read`](Self::read); empty where nothing is asked for.
    pub const fn code(&self) -> &'static str {
        match (self.required, self.optional, self.level) {
            (true, ..) => "R",
            (_, false, None) => "",
            (_, false, Some(Level::Off)) => "0",
            (_, false, Some(Level::Opportunistic)) => "1",
            (_, false, Some(Level::Required)) => "2",
            (_, false, Some(Level::Verified)) => "3",
            (_, true, None) => "n",
            (_, true, Some(Level::Off)) => "n0",
            (_, true, Some(Level::Opportunistic)) => "n1",
            (_, true, Some(Level::Required)) => "n2",
            (_, true, Some(Level::Verified)) => "n3",
        }
    }

    /// What [`code`](Self::code) says; nothing of what it doesn't.
    pub fn read(code: &str) -> Self {
        let (optional, level) = match code.strip_prefix('n') {
            Some(level) => (true, level),
            None => (false, code),
        };
        Self {
            level: match level {
                "0" => Some(Level::Off),
                "1" => Some(Level::Opportunistic),
                "2" => Some(Level::Required),
                "3" => Some(Level::Verified),
                _ => None,
            },
            required: code == "R",
            optional,
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

    use super::Demand;
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
    fn records_of_a_host_raise_what_mail_wants() {
        use super::Requirement::{Authenticated, Encrypted, Nothing};
        use super::Verify::{Authorities, Nobody, Tlsa};
        for (level, requirement, session) in [
            (Off, Authenticated, (Off, Nobody)),
            (Opportunistic, Nothing, (Opportunistic, Nobody)),
            (Opportunistic, Encrypted, (Required, Nobody)),
            (Opportunistic, Authenticated, (Required, Tlsa)),
            (Required, Nothing, (Required, Nobody)),
            (Required, Authenticated, (Required, Tlsa)),
            (Verified, Nothing, (Verified, Authorities)),
            // TLS with anyone is less than what mail wants.
            (Verified, Encrypted, (Verified, Authorities)),
            (Verified, Authenticated, (Verified, Tlsa)),
        ] {
            assert_eq!(
                level.toward(requirement),
                session,
                "{level}, {requirement:?}"
            );
        }
    }

    #[test]
    fn demands_come_back() {
        let levels = [
            None,
            Some(Off),
            Some(Opportunistic),
            Some(Required),
            Some(Verified),
        ];
        for level in levels {
            for optional in [false, true] {
                let demand = Demand {
                    level,
                    required: false,
                    optional,
                };
                assert_eq!(Demand::read(demand.code()), demand);
                assert_eq!(demand.level(), level);
            }
        }
        let required = Demand {
            required: true,
            ..Demand::default()
        };
        assert_eq!(Demand::read(required.code()), required);
        assert_eq!(required.level(), Some(Verified));
        assert_eq!(Demand::read("else"), Demand::default());
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
