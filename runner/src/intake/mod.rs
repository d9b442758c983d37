//! bytes → Draft → Accepted → Spooled: mail comes in.
//!
//! | file | does |
//! |---|---|
//! | [`clients`] | what one client address may take |
//! | [`smtp`] | one SMTP or LMTP session, and who logs in there |
//! | [`draft`] | a message while it comes in |
//! | [`inbound`] | mail from strangers: SPF, DKIM, ARC, DMARC, Authentication-Results |
//! | [`accept`] | the 250: on disk and synced first |

pub mod accept;
pub mod clients;
pub mod draft;
pub mod inbound;
pub mod smtp;
