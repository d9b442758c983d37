//! Every bound of the core, with its unit and where it comes from.

/// Longest command line without parameters, bytes with CRLF (RFC 5321 4.5.3.1.4).
pub const COMMAND_LINE_BYTES: usize = 512;
/// Longest command line with the parameters of every extension that the core knows, bytes with
/// CRLF (RFC 5321 4.5.3.1.4 and the "maximum length" clause of each extension: 512 and what
/// SIZE, BODY, SMTPUTF8, RET, ENVID, AUTH, NOTIFY, ORCPT … add).
pub const COMMAND_LINE_BYTES_MAX: usize = 2048;
/// Longest local part, octets (RFC 5321 4.5.3.1.1).
pub const LOCAL_PART_BYTES_MAX: usize = 64;
/// Longest domain, octets (RFC 5321 4.5.3.1.2).
pub const DOMAIN_BYTES_MAX: usize = 255;
/// Longest path with its brackets, octets (RFC 5321 4.5.3.1.3).
pub const PATH_BYTES_MAX: usize = 256;
/// Longest reply line with CRLF that RFC 5321 4.5.3.1.5 allows, bytes.
pub const REPLY_LINE_BYTES: usize = 512;
/// Longest reply line that we read before we call the peer broken, bytes. Four times the RFC's,
/// because real receivers write long URLs.
pub const REPLY_LINE_BYTES_MAX: usize = 2048;
/// Most lines of one reply.
pub const REPLY_LINES_MAX: usize = 128;
/// Bytes of reply text that are kept; what is longer is read and cut.
pub const REPLY_TEXT_BYTES_MAX: usize = 1024;
/// Longest text line of a message, bytes with CRLF (RFC 5321 4.5.3.1.6).
pub const TEXT_LINE_BYTES_MAX: usize = 1000;
/// Recipients that every receiver must take in one transaction (RFC 5321 4.5.3.1.8).
pub const RECIPIENTS_MIN: usize = 100;

/// Longest PROXY protocol version 1 header, bytes with CRLF (its specification, section 2.1).
pub const PROXY_V1_BYTES_MAX: usize = 107;
/// Longest PROXY protocol version 2 header that we read, bytes; balancers add some hundred bytes
/// of TLVs.
pub const PROXY_V2_BYTES_MAX: usize = 1024;
