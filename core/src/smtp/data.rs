//! The message body on the wire (RFC 5321 4.5.2, RFC 3030): dots out, dots in, line checks.
