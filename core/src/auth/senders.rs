//! As whom a user who authenticated may send (RFC 6409 6.1): in the envelope, and in From.
//!
//! ```text
//! pattern = "*" / "<>" / address / ["*@"] domain / "*." domain
//! ```
//!
//! `*` is everything, `<>` the null reverse-path, a domain all its addresses but none below it.
//! Domains are compared as DNS does, U-labels as their A-labels. Local parts are compared without
//! regard to quotes and to the case of ASCII letters: who may be `Ann@` may be `ann@`, and quotes
//! change nobody.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use super::dmarc::{AuthorError, each_author};
use crate::dns::Name;
use crate::mail::address::{Domain, Mailbox, ReversePath};
use crate::mail::header::Header;

/// Which senders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderPattern {
    /// `*`: all, the null reverse-path too.
    Any,
    /// `<>`: the null reverse-path.
    Null,
    /// `ann@example.org`.
    Address {
        /// Without quotes, ASCII letters in lower case.
        local: String,
        /// The domain.
        domain: Name,
    },
    /// `example.org`.
    Domain(Name),
    /// `*.example.org`: every domain below.
    Below(Name),
}

/// A text that is no [`SenderPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPattern;

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "senders are written \"ann@example.org\", \"example.org\", \"*.example.org\", \"<>\" or \"*\"",
        )
    }
}
impl core::error::Error for BadPattern {}

impl FromStr for SenderPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let name = |text: &str| {
            let name = Name::from_domain(text).ok().filter(|name| !name.is_root());
            name.ok_or(BadPattern)
        };
        match text {
            "*" => return Ok(Self::Any),
            "<>" => return Ok(Self::Null),
            _ => {}
        }
        if let Some(below) = text.strip_prefix("*.") {
            return name(below).map(Self::Below);
        }
        // `*@` can only mean one thing, although there could be a mailbox of that name.
        if let Some(domain) = text
            .strip_prefix("*@")
            .or((!text.contains('@')).then_some(text))
        {
            return name(domain).map(Self::Domain);
        }
        let mailbox = Mailbox::parse(text).map_err(|_| BadPattern)?;
        match mailbox.domain() {
            Some(Domain::Name(domain)) => Ok(Self::Address {
                local: plain(mailbox.local()),
                domain: name(domain)?,
            }),
            _ => Err(BadPattern),
        }
    }
}

impl fmt::Display for SenderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Null => f.write_str("<>"),
            Self::Address { local, domain } => write!(f, "{local}@{domain}"),
            Self::Domain(name) => name.fmt(f),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

impl SenderPattern {
    fn is(&self, local: &str, domain: &Name) -> bool {
        match self {
            Self::Any => true,
            Self::Null => false,
            Self::Address {
                local: this,
                domain: of,
            } => of == domain && *this == plain(local),
            Self::Domain(of) => of == domain,
            Self::Below(of) => domain != of && domain.is_within(of),
        }
    }
}

/// The senders that a user may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Senders(pub Vec<SenderPattern>);

/// Why a message may not be sent so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAllowed {
    /// The user may not send as this one; the null reverse-path is `<>`.
    Sender(String),
    /// From can't be read, so nobody knows as whom it is.
    From(AuthorError),
}

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sender(sender) => write!(f, "you may not send as {sender}"),
            Self::From(error) => error.fmt(f),
        }
    }
}
impl core::error::Error for NotAllowed {}

impl Senders {
    /// Whether they are all there are.
    pub fn are_all(&self) -> bool {
        self.0.contains(&SenderPattern::Any)
    }

    /// Whether MAIL FROM may be `path`.
    ///
    /// # Errors
    /// [`NotAllowed::Sender`].
    pub fn may_be(&self, path: &ReversePath<'_>) -> Result<(), NotAllowed> {
        let allowed = self.are_all()
            || match path {
                ReversePath::Null => self.0.contains(&SenderPattern::Null),
                ReversePath::Mailbox(mailbox) => match mailbox.domain() {
                    Some(Domain::Name(domain)) => Name::from_domain(domain)
                        .is_ok_and(|domain| self.are(mailbox.local(), &domain)),
                    // Nobody's domain; only who may be anybody may be one of these.
                    Some(Domain::Literal(_)) | None => false,
                },
            };
        match (allowed, path) {
            (true, _) => Ok(()),
            (false, ReversePath::Null) => Err(NotAllowed::Sender(String::from("<>"))),
            (false, ReversePath::Mailbox(mailbox)) => {
                Err(NotAllowed::Sender(alloc::format!("{mailbox}")))
            }
        }
    }

    /// Whether From may be what it is: every address in it is one of these.
    ///
    /// # Errors
    /// [`NotAllowed`] for the first that isn't, or where From can't be read.
    pub fn may_write(&self, header: Header<'_>) -> Result<(), NotAllowed> {
        if self.are_all() {
            return Ok(());
        }
        let mut foreign = None;
        let read = each_author(header, |local, domain| {
            if foreign.is_none() && !self.are(local, &domain) {
                foreign = Some(alloc::format!("{local}@{domain}"));
            }
            Ok(())
        });
        match (read, foreign) {
            (Err(error), _) => Err(NotAllowed::From(error)),
            (Ok(()), Some(sender)) => Err(NotAllowed::Sender(sender)),
            (Ok(()), None) => Ok(()),
        }
    }

    fn are(&self, local: &str, domain: &Name) -> bool {
        self.0.iter().any(|pattern| pattern.is(local, domain))
    }
}

/// A local part without its quotes, ASCII letters in lower case.
fn plain(local: &str) -> String {
    let inner = local.strip_prefix('"').and_then(|l| l.strip_suffix('"'));
    let mut plain = String::with_capacity(local.len());
    match inner {
        None => plain.push_str(local),
        Some(inner) => {
            let mut chars = inner.chars();
            while let Some(c) = chars.next() {
                plain.extend(if c == '\\' { chars.next() } else { Some(c) });
            }
        }
    }
    plain.make_ascii_lowercase();
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::string::ToString;

    fn senders(patterns: &[&str]) -> Senders {
        Senders(patterns.iter().map(|p| p.parse().unwrap()).collect())
    }

    fn envelope(senders: &Senders, path: &str) -> bool {
        let path = ReversePath::parse(path).unwrap();
        senders.may_be(&path).is_ok()
    }

    fn from(senders: &Senders, value: &str) -> Result<(), NotAllowed> {
        let message = format!("To: x@y.example\r\nFrom: {value}\r\n\r\n");
        senders.may_write(Header::of(message.as_bytes()).unwrap().0)
    }

    #[test]
    fn envelopes() {
        let all = senders(&["*"]);
        let some = senders(&["Ann@Example.org", "shop.example", "*.b\u{fc}cher.example"]);
        for (path, is_some) in [
            ("ann@example.org", true),
            ("ANN@EXAMPLE.ORG", true),
            ("\"ann\"@example.org", true),
            ("\"a\\nn\"@example.org", true),
            ("bob@example.org", false),
            ("ann@example.org.evil.example", false),
            ("anyone@shop.example", true),
            ("anyone@www.shop.example", false),
            ("anyone@badshop.example", false),
            ("x@news.xn--bcher-kva.example", true),
            ("x@news.B\u{fc}cher.example", true),
            ("x@b\u{fc}cher.example", false),
            ("x@[192.0.2.1]", false),
            ("", false),
        ] {
            assert_eq!(envelope(&some, path), is_some, "{path}");
            assert!(envelope(&all, path), "{path}");
            assert!(!envelope(&senders(&[]), path), "{path}");
        }
        assert!(envelope(&senders(&["<>"]), ""));
        assert!(!envelope(&senders(&["<>"]), "a@b.example"));
        let why = some.may_be(&ReversePath::Null).unwrap_err();
        assert_eq!(why.to_string(), "you may not send as <>");
    }

    #[test]
    fn from_fields() {
        let some = senders(&["ann@example.org", "shop.example", "<>"]);
        for value in [
            "ann@example.org",
            "Ann <ann@example.org>",
            "\"ceo@bank.example\" <ann@example.org>",
            "a@shop.example, Ann <Ann@example.org>",
            "Team: a@shop.example, b@shop.example;",
            "\"a b\"@shop.example",
        ] {
            assert_eq!(from(&some, value), Ok(()), "{value}");
        }
        for (value, who) in [
            ("ceo@bank.example", "ceo@bank.example"),
            ("ann@example.org, ceo@bank.example", "ceo@bank.example"),
            ("bob@example.org", "bob@example.org"),
            ("ann@example.org <bob@example.org>", "bob@example.org"),
            ("\"ann\\@x\"@example.org", "\"ann\\@x\"@example.org"),
        ] {
            let why = NotAllowed::Sender(who.to_string());
            assert_eq!(from(&some, value), Err(why), "{value}");
        }
        for (value, why) in [
            ("", AuthorError::Empty),
            (
                "ann@example.org\r\nFrom: a@shop.example",
                AuthorError::Fields,
            ),
            (
                "<ann@example.org> <ceo@bank.example>",
                AuthorError::Malformed,
            ),
            // What can't be read to its end can't be let through for its beginning.
            ("ceo@bank.example, <", AuthorError::Malformed),
        ] {
            assert_eq!(from(&some, value), Err(NotAllowed::From(why)), "{value}");
        }
        let nobody = Header::of(b"To: x@y.example\r\n\r\n").unwrap().0;
        let missing = NotAllowed::From(AuthorError::Missing);
        assert_eq!(some.may_write(nobody), Err(missing));
        assert_eq!(senders(&["*"]).may_write(nobody), Ok(()));
    }

    #[test]
    fn patterns() {
        for text in ["*", "<>", "ann@example.org", "example.org", "*.example.org"] {
            let pattern: SenderPattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), text);
        }
        assert_eq!(
            "*@Example.org".parse(),
            "example.org".parse::<SenderPattern>()
        );
        for bad in [
            "",
            "@",
            "ann@",
            "@example.org",
            "ann@[192.0.2.1]",
            "a b",
            "*.",
            ".",
            "<ann@example.org>",
            "ann@*.example.org",
            "example..org",
            "**",
        ] {
            assert_eq!(bad.parse::<SenderPattern>(), Err(BadPattern), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text(text in "[ -~\u{fc}]{0,40}") {
            if let Ok(pattern) = text.parse::<SenderPattern>() {
                let senders = Senders(alloc::vec![pattern]);
                let _ = from(&senders, &text);
                if let Ok(path) = ReversePath::parse(&text) {
                    let _ = senders.may_be(&path);
                }
            }
        }

        /// An address is allowed in From just where it is in the envelope.
        #[test]
        fn both_the_same(
            local in "[a-cA-C]{1,2}|\"[a-c ]{1,3}\"",
            domain in "(x\\.)?(shop|example)\\.(org|example)",
        ) {
            let some = senders(&["a@example.org", "shop.example", "*.shop.example"]);
            let address = format!("{local}@{domain}");
            prop_assert_eq!(envelope(&some, &address), from(&some, &address).is_ok());
        }
    }
}
