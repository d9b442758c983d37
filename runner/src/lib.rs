//! The Courser mail server.
