//! Delivery status notifications (RFC 3461, RFC 3464, RFC 6533): parse and emit.
