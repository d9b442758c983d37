//! What the spool keeps.

use courser::spool::{Envelope, EnvelopeFields, RecipientFields};

/// Length of a body, bytes.
pub const BODY: usize = 10_000;

/// To one recipient.
pub fn envelope(id: u64) -> Envelope {
    let address = "somebody.else@example.net".into();
    let fields = EnvelopeFields {
        id,
        sender: "bounces+4711@news.example.org".into(),
        tenant: "acme".into(),
        campaign: "spring".into(),
        stream: "bulk".into(),
        helo: "app.example.org".into(),
        body_len: BODY as u64,
        recipients: vec![RecipientFields {
            address,
            ..RecipientFields::default()
        }],
        ..EnvelopeFields::default()
    };
    fields.encode().expect("an envelope within its bounds")
}
