//! Any value is read or refused; what was read is written as one field that says the same, and
//! that is recognised as its writer's.
#![no_main]

use courser_core::auth::results::{FIELD_NAME, Results, forged};
use courser_core::mail::header::Header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((header, _)) = Header::of(bytes) {
        for field in forged(header, &["mx.example"]) {
            assert!(field.is(FIELD_NAME));
        }
    }
    let Some(results) = std::str::from_utf8(bytes).ok().and_then(|v| Results::parse(v).ok()) else {
        return;
    };
    // Longer values are cut when they are written.
    let short = |text: &str| text.len() <= 60;
    let all_short = short(&results.authserv_id)
        && results.results.iter().all(|r| {
            short(&r.method)
                && short(&r.result)
                && r.comment.as_deref().is_none_or(short)
                && r.reason.as_deref().is_none_or(short)
                && r.properties
                    .iter()
                    .all(|p| short(&p.ptype) && short(&p.property) && short(&p.value))
        });
    let mut field = String::new();
    results.write(&mut field).unwrap();
    assert!(field.split("\r\n").all(|line| line.len() <= 998));
    let (header, body) = Header::of(field.as_bytes()).unwrap();
    assert!(body.is_empty());
    assert_eq!(header.lines().count(), 1);
    let value = field[FIELD_NAME.len() + 1..].to_owned();
    let again = Results::parse(&value).unwrap();
    if all_short {
        assert_eq!(again, results);
        assert_eq!(Results::parse(&results.to_string()), Ok(again));
    }
    if short(&results.authserv_id) {
        assert_eq!(forged(header, &[&results.authserv_id]).count(), 1);
    }
});
