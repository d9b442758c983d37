//! Any text is an address or an error, and an address is read as it is written.
#![no_main]

use courser_core::mail::address::{Domain, Mailbox, ReversePath};
use courser_core::smtp::xtext;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(mailbox) = Mailbox::parse(text) {
        assert_eq!(Mailbox::parse(&mailbox.to_string()), Ok(mailbox));
    }
    if let Ok(path) = ReversePath::parse(text) {
        assert_eq!(ReversePath::parse(&path.to_string()), Ok(path));
    }
    if let Ok(domain) = Domain::parse(text) {
        assert_eq!(Domain::parse(&domain.to_string()), Ok(domain));
    }
    if let Some(octets) = xtext::decode(text.as_bytes()) {
        let raw: Vec<u8> = octets.collect();
        let again = xtext::Xtext(&raw).to_string();
        assert!(xtext::decode(again.as_bytes()).unwrap().eq(raw));
    }
    if let Some(chars) = xtext::decode_utf8_addr(text) {
        let raw: String = chars.collect();
        let again = xtext::Utf8AddrXtext(&raw).to_string();
        assert!(xtext::decode_utf8_addr(&again).unwrap().eq(raw.chars()));
    }
});
