//! Paths and mailboxes (RFC 5321 4.1.2, RFC 6531 3.3).

/// A checked mailbox `local@domain`, borrowed. Only [`Mailbox::parse`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mailbox<'a> {
    local: &'a str,
    domain: Option<Domain<'a>>,
}

/// A checked domain or address literal, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Domain<'a> {
    /// A domain name without a trailing dot, ASCII or UTF-8 (U-labels), as it was written.
    Name(&'a str),
    /// `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
    Literal(core::net::IpAddr),
}

/// The path of `MAIL FROM:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReversePath<'a> {
    /// `<>`: bounces; nothing is ever sent back to it.
    Null,
    /// An ordinary sender.
    Mailbox(Mailbox<'a>),
}

impl<'a> Mailbox<'a> {
    /// The local part as written, quotes included.
    pub fn local(&self) -> &'a str {
        self.local
    }
    /// The domain; `None` only for `<Postmaster>` (RFC 5321 4.1.1.3).
    pub fn domain(&self) -> Option<Domain<'a>> {
        self.domain
    }
}
