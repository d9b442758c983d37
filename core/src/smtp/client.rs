//! A delivery session (RFC 5321): greeting, EHLO, transactions, QUIT.
