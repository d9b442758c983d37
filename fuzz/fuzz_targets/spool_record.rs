//! Records of the spool: any bytes decode or don't, and what decodes comes back the same.
#![no_main]

use courser::spool::record::{
    Header, Meta, decode_outcomes, decode_tombstone, encode_outcomes, encode_tombstone,
};
use courser::spool::{Envelope, EnvelopeView};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(header) = Header::decode(data, 0) {
        assert_eq!(Header::decode(&header.encode(), 0), Ok(header));
        assert!(header.record_len() % 8 == 0);
    }
    let _ = Meta::decode(data);
    if let Some(segment) = decode_tombstone(data) {
        assert_eq!(encode_tombstone(segment), data);
    }
    if let Some(outcomes) = decode_outcomes(data) {
        // Texts may be cut the first time; after that nothing changes.
        let mut out = Vec::new();
        encode_outcomes(&outcomes, &mut out);
        let once = decode_outcomes(&out).expect("what was encoded decodes");
        let mut again = Vec::new();
        encode_outcomes(&once, &mut again);
        assert_eq!(out, again);
    }
    if let Ok(view) = EnvelopeView::parse(data) {
        let fields = view.to_fields();
        assert_eq!(view.recipients().len(), fields.recipients.len());
        if let Ok(envelope) = fields.encode() {
            assert_eq!(envelope.view().to_fields(), fields);
            assert_eq!(Envelope::from_bytes(envelope.as_bytes()), Ok(envelope));
        }
    }
});
