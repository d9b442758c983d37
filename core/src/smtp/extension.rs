//! What an EHLO answer offers (RFC 5321 4.1.1.1).
//!
//! Fold every line after the first into [`Capabilities`] with [`Capabilities::from_line`]; lines
//! that the core doesn't know change nothing.
//!
//! ```
//! use courser_core::smtp::extension::Capabilities;
//! let mut peer = Capabilities::default();
//! for line in ["SIZE 35882577", "8bitmime", "AUTH PLAIN LOGIN", "X-WHATEVER"] {
//!     peer.from_line(line.as_bytes());
//! }
//! assert_eq!(peer.size, Some(35_882_577));
//! assert!(peer.eightbitmime && peer.auth.plain && !peer.chunking);
//! ```
//!
//! ```text
//! line = keyword *( SP param )          keywords in any case
//! ```
//!
//! `AUTH=` before the first mechanism, which old servers write, counts as `AUTH`. A number that
//! isn't one counts as not given.

use core::str::from_utf8;

/// The extensions of a peer, folded from the lines of its EHLO answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `PIPELINING` (RFC 2920).
    pub pipelining: bool,
    /// `CHUNKING` (RFC 3030).
    pub chunking: bool,
    /// `BINARYMIME` (RFC 3030).
    pub binarymime: bool,
    /// `8BITMIME` (RFC 6152).
    pub eightbitmime: bool,
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
    /// `DSN` (RFC 3461).
    pub dsn: bool,
    /// `ENHANCEDSTATUSCODES` (RFC 2034).
    pub enhanced_status_codes: bool,
    /// `STARTTLS` (RFC 3207).
    pub starttls: bool,
    /// `REQUIRETLS` (RFC 8689).
    pub requiretls: bool,
    /// `SIZE` (RFC 1870): `Some(0)` is "no fixed limit", octets otherwise.
    pub size: Option<u64>,
    /// `MT-PRIORITY` (RFC 6710).
    pub mt_priority: bool,
    /// `DELIVERBY` (RFC 2852): the smallest by-time in seconds, 0 if none was given.
    pub deliver_by: Option<u32>,
    /// `FUTURERELEASE` (RFC 4865): longest interval, seconds.
    pub future_release: Option<u32>,
    /// `LIMITS RCPTMAX=` (RFC 9422): most recipients in one transaction.
    pub rcpt_max: Option<u32>,
    /// `LIMITS MAILMAX=` (RFC 9422): most transactions in one session.
    pub mail_max: Option<u32>,
    /// `AUTH` mechanisms that the core knows.
    pub auth: AuthMechanisms,
}

/// SASL mechanisms that a peer offers (RFC 4954).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthMechanisms {
    /// `PLAIN` (RFC 4616).
    pub plain: bool,
    /// `LOGIN`.
    pub login: bool,
    /// `CRAM-MD5` (RFC 2195).
    pub cram_md5: bool,
    /// `SCRAM-SHA-256` (RFC 7677).
    pub scram_sha_256: bool,
    /// `SCRAM-SHA-256-PLUS` (RFC 7677): over TLS only.
    pub scram_sha_256_plus: bool,
    /// `XOAUTH2` or `OAUTHBEARER` (RFC 7628).
    pub oauth: bool,
}

impl Capabilities {
    /// Folds one line of an EHLO answer, without its code, into what is known.
    #[allow(clippy::wrong_self_convention)] // it folds; it makes nothing
    pub fn from_line(&mut self, line: &[u8]) {
        let mut words = line
            .split(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n'))
            .filter(|w| !w.is_empty());
        let Some(keyword) = words.next() else { return };
        let is = |name: &str| keyword.eq_ignore_ascii_case(name.as_bytes());
        if is("PIPELINING") {
            self.pipelining = true;
        } else if is("CHUNKING") {
            self.chunking = true;
        } else if is("BINARYMIME") {
            self.binarymime = true;
        } else if is("8BITMIME") {
            self.eightbitmime = true;
        } else if is("SMTPUTF8") {
            self.smtputf8 = true;
        } else if is("DSN") {
            self.dsn = true;
        } else if is("ENHANCEDSTATUSCODES") {
            self.enhanced_status_codes = true;
        } else if is("STARTTLS") {
            self.starttls = true;
        } else if is("REQUIRETLS") {
            self.requiretls = true;
        } else if is("SIZE") {
            self.size = Some(words.next().and_then(number).unwrap_or(0));
        } else if is("MT-PRIORITY") {
            self.mt_priority = true;
        } else if is("DELIVERBY") {
            self.deliver_by = Some(words.next().and_then(number32).unwrap_or(0));
        } else if is("FUTURERELEASE") {
            self.future_release = Some(words.next().and_then(number32).unwrap_or(0));
        } else if is("LIMITS") {
            words.for_each(|word| self.limit(word));
        } else if is("AUTH") {
            words.for_each(|word| self.auth.offer(word));
        } else if let Some((_, first)) = keyword
            .split_at_checked(5)
            .filter(|(head, _)| head.eq_ignore_ascii_case(b"AUTH="))
        {
            self.auth.offer(first);
            words.for_each(|word| self.auth.offer(word));
        }
    }

    /// One `name=value` of LIMITS (RFC 9422 3).
    fn limit(&mut self, word: &[u8]) {
        let mut halves = word.splitn(2, |&b| b == b'=');
        let (Some(name), Some(value)) = (halves.next(), halves.next().and_then(number32)) else {
            return;
        };
        // A limit of nothing can't be meant.
        let Some(value) = Some(value).filter(|&v| v > 0) else {
            return;
        };
        if name.eq_ignore_ascii_case(b"RCPTMAX") {
            self.rcpt_max = Some(value);
        } else if name.eq_ignore_ascii_case(b"MAILMAX") {
            self.mail_max = Some(value);
        }
    }
}

impl AuthMechanisms {
    fn offer(&mut self, mechanism: &[u8]) {
        let is = |name: &str| mechanism.eq_ignore_ascii_case(name.as_bytes());
        if is("PLAIN") {
            self.plain = true;
        } else if is("LOGIN") {
            self.login = true;
        } else if is("CRAM-MD5") {
            self.cram_md5 = true;
        } else if is("SCRAM-SHA-256") {
            self.scram_sha_256 = true;
        } else if is("SCRAM-SHA-256-PLUS") {
            self.scram_sha_256_plus = true;
        } else if is("XOAUTH2") || is("OAUTHBEARER") {
            self.oauth = true;
        }
    }

    /// Whether the mechanism of this name, in any case, is among them.
    pub fn has(&self, mechanism: &str) -> bool {
        let mut one = Self::default();
        one.offer(mechanism.as_bytes());
        let both = [
            self.plain & one.plain,
            self.login & one.login,
            self.cram_md5 & one.cram_md5,
            self.scram_sha_256 & one.scram_sha_256,
            self.scram_sha_256_plus & one.scram_sha_256_plus,
            self.oauth & one.oauth,
        ];
        both.contains(&true)
    }

    /// Whether any mechanism is offered that the core knows.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

fn number(word: &[u8]) -> Option<u64> {
    let digits = word.iter().all(u8::is_ascii_digit);
    // Twenty digits may be more than 64 bits.
    let parse = |w| from_utf8(w).ok()?.parse().ok();
    (digits && !word.is_empty()).then(|| parse(word).unwrap_or(u64::MAX))
}

fn number32(word: &[u8]) -> Option<u32> {
    number(word).map(|n| u32::try_from(n).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn of(lines: &[&str]) -> Capabilities {
        let mut peer = Capabilities::default();
        lines
            .iter()
            .for_each(|line| peer.from_line(line.as_bytes()));
        peer
    }

    #[test]
    fn every_keyword() {
        let peer = of(&[
            "pipelining",
            "CHUNKING",
            "BINARYMIME",
            "8BITMIME",
            "SMTPUTF8",
            "DSN",
            "ENHANCEDSTATUSCODES",
            "STARTTLS",
            "REQUIRETLS",
            "SIZE 10240000",
            "MT-PRIORITY STANAG4406",
            "DELIVERBY 240",
            "FUTURERELEASE 864000 2026-12-31T00:00:00Z",
            "LIMITS RCPTMAX=20 MAILMAX=5 RCPTDOMAINMAX=1",
            "AUTH PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256 SCRAM-SHA-256-PLUS XOAUTH2",
        ]);
        let expected = Capabilities {
            pipelining: true,
            chunking: true,
            binarymime: true,
            eightbitmime: true,
            smtputf8: true,
            dsn: true,
            enhanced_status_codes: true,
            starttls: true,
            requiretls: true,
            size: Some(10_240_000),
            mt_priority: true,
            deliver_by: Some(240),
            future_release: Some(864_000),
            rcpt_max: Some(20),
            mail_max: Some(5),
            auth: AuthMechanisms {
                plain: true,
                login: true,
                cram_md5: true,
                scram_sha_256: true,
                scram_sha_256_plus: true,
                oauth: true,
            },
        };
        assert_eq!(peer, expected);
        assert!(peer.auth.any());
        let some = of(&["AUTH SCRAM-SHA-256 LOGIN"]).auth;
        assert!(some.has("scram-sha-256") && some.has("LOGIN"));
        assert!(!some.has("SCRAM-SHA-256-PLUS") && !some.has("PLAIN") && !some.has("GSSAPI"));
    }

    #[test]
    fn what_real_servers_write() {
        assert_eq!(of(&["SIZE"]).size, Some(0));
        assert_eq!(of(&["SIZE none"]).size, Some(0));
        assert_eq!(of(&["SIZE 99999999999999999999"]).size, Some(u64::MAX));
        assert!(of(&["AUTH=LOGIN PLAIN"]).auth.plain);
        assert!(of(&["auth=login"]).auth.login);
        assert!(of(&["AUTH OAUTHBEARER\r"]).auth.oauth);
        assert_eq!(of(&["DELIVERBY"]).deliver_by, Some(0));
        assert_eq!(of(&["LIMITS RCPTMAX=0 MAILMAX"]).rcpt_max, None);
        let nothing = [
            "",
            " ",
            "XCLIENT NAME",
            "AUTH",
            "AUTH=",
            "PIPELININGS",
            "8BITMIM",
            "LIMITS x",
        ];
        assert_eq!(of(&nothing), Capabilities::default());
    }

    proptest! {
        #[test]
        fn any_octets(line: Vec<u8>) {
            Capabilities::default().from_line(&line);
        }
    }

    #[test]
    fn order_and_case_are_nothing() {
        let lines = ["SIZE 5", "DSN", "AUTH PLAIN"];
        assert_eq!(of(&lines), of(&["auth plain", "dsn", "size 5"]));
    }
}
