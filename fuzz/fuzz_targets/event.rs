//! Any line is an event or not; an event is written as one line that reads as the same event.
#![no_main]

use courser::events::Event;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    let Ok(event) = serde_json::from_slice::<Event>(line) else {
        return;
    };
    let written = serde_json::to_vec(&event).expect("an event can be written");
    assert!(!written.contains(&b'\n'));
    let again: Event = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again, event);
});
