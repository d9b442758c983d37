//! Any text is a key record, a signature, a private key, or none of them; and what is one reads back
//! as it was written.
#![no_main]

use courser_core::auth::dkim::key::KeyRecord;
use courser_core::auth::dkim::signature::{Form, Signature};
use courser_core::auth::dkim::tags::Tags;
use courser_core::auth::dkim::{Algorithm, PrivateKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tags) = Tags::parse(bytes) {
        for tag in tags.iter() {
            assert!(bytes.get(tag.span.clone()).is_some());
        }
        let shown = tags.to_string();
        let again = Tags::parse(shown.as_bytes()).expect("our own list");
        assert_eq!(again.to_string(), shown);
    }
    if let Ok(record) = KeyRecord::parse(bytes) {
        if let Ok(key) = record.key() {
            for algorithm in [Algorithm::RsaSha256, Algorithm::Ed25519Sha256] {
                assert!(!key.verifies(algorithm, &[0; 32], bytes));
            }
        }
        let again = KeyRecord::parse(record.to_string().as_bytes()).expect("our own record");
        assert_eq!(again, record);
    }
    for form in [Form::Dkim, Form::ArcMessage, Form::ArcSeal] {
        if let Ok(signature) = Signature::parse(form, bytes) {
            let _ = (signature.key_name(), signature.to_string());
        }
    }
    if let Ok(text) = core::str::from_utf8(bytes)
        && let Ok(key) = PrivateKey::parse(text)
    {
        assert!(key.record().key().is_ok());
    }
});
