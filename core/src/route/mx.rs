//! MX selection (RFC 5321 5.1, RFC 7505).
