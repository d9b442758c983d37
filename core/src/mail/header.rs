//! Header fields (RFC 5322 2.2): an iterator over them, and the ones that we write.
