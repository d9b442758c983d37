//! What parses as a date is written as a date that parses to the same.
#![no_main]

use courser_core::mail::date::Date;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(date) = Date::parse(bytes) {
        let text = date.to_string();
        // Years under 1000 are written with zeros, and read as RFC 5322 4.3 wants.
        if date.wall().unix() > -30_000_000_000 {
            assert_eq!(Date::parse(text.as_bytes()), Ok(date), "{text}");
        }
    }
});
