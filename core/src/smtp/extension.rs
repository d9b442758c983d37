//! What an EHLO answer offers (RFC 5321 4.1.1.1).

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
    /// `XOAUTH2` or `OAUTHBEARER` (RFC 7628).
    pub oauth: bool,
}
