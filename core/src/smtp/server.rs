//! A submission session (RFC 5321, RFC 6409).
