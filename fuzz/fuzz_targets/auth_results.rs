//! Any value is read or refused; what was read is written as one field that says the same, and
//! that is recognised as its writer's. What must go of a header and what stays are all of it, and
//! in what stays nothing must go.
#![no_main]

use courser_core::auth::inbound::{dropped, kept};
use courser_core::auth::results::{FIELD_NAME, Results, forged};
use courser_core::mail::header::Header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((header, _)) = Header::of(bytes) {
        for field in forged(header, &["mx.example"]) {
            assert!(field.is(FIELD_NAME));
        }
        let ours = ["mx.example"];
        let gone: usize = dropped(header, &ours).map(|(range, _)| range.len()).sum();
        let stays: Vec<u8> = kept(header, &ours).flatten().copied().collect();
        assert_eq!(gone + stays.len(), header.as_bytes().len());
        let (again, _) = Header::of(&stays).unwrap();
        assert_eq!(dropped(again, &ours).count(), 0);
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
