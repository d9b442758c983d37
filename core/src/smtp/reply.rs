//! Replies (RFC 5321 4.2) with enhanced status codes (RFC 2034, RFC 3463).

use core::fmt;

/// A three-digit reply code, 200 to 599.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyCode(u16);

impl ReplyCode {
    /// The code `n`, if its digits are ones that RFC 5321 4.2 allows.
    pub const fn new(n: u16) -> Option<Self> {
        if n >= 200 && n <= 599 {
            Some(Self(n))
        } else {
            None
        }
    }
    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
    /// 2yz.
    pub const fn is_success(self) -> bool {
        self.0 / 100 == 2
    }
    /// 3yz.
    pub const fn is_intermediate(self) -> bool {
        self.0 / 100 == 3
    }
    /// 4yz.
    pub const fn is_transient(self) -> bool {
        self.0 / 100 == 4
    }
    /// 5yz.
    pub const fn is_permanent(self) -> bool {
        self.0 / 100 == 5
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
impl fmt::Debug for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An enhanced status code `class.subject.detail` (RFC 3463 2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnhancedCode {
    /// 2 success, 4 transient, 5 permanent.
    pub class: u8,
    /// 0 to 999.
    pub subject: u16,
    /// 0 to 999.
    pub detail: u16,
}

impl EnhancedCode {
    /// `class.subject.detail`; a table of constants reads better with a short name.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self {
            class,
            subject,
            detail,
        }
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}
impl fmt::Debug for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One whole reply, borrowed from where it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The reply code.
    pub code: ReplyCode,
    /// The enhanced status code of the first line, where there is one.
    pub enhanced: Option<EnhancedCode>,
    /// The text of all lines without codes, joined by `\n`, cut at
    /// [`REPLY_TEXT_BYTES_MAX`](crate::limits::REPLY_TEXT_BYTES_MAX). Whatever the peer sent:
    /// printable or not.
    pub text: &'a [u8],
}
