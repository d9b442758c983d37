//! The lines of a header are all of its bytes, in order.
#![no_main]

use courser_core::mail::header::{Header, Line};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok((header, body)) = Header::of(bytes) else {
        return;
    };
    assert!(header.as_bytes().len() + body.len() <= bytes.len());
    let mut rest = header.as_bytes();
    for line in header.lines() {
        let raw = match line {
            Line::Field(field) => field.raw(),
            Line::Junk(raw) => raw,
        };
        rest = rest.strip_prefix(raw).expect("in order");
    }
    assert!(rest.is_empty());
    let _ = header.survey();
});
