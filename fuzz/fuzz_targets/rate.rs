//! Any text is a rate or an error; a rate is read as it is written, and its bucket keeps it.
#![no_main]

use courser_core::time::Instant;
use courser_core::traffic::bucket::{Bucket, Rate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, u64)| {
    let (text, at) = input;
    match text.parse::<Rate>() {
        Ok(rate) => {
            assert_eq!(rate.to_string().parse(), Ok(rate));
            let (mut bucket, now) = (Bucket::new(), Instant::from_nanos(at));
            assert!(bucket.try_take(rate, now, rate.burst()));
            assert_eq!(bucket.available(rate, now), 0);
            assert!(at == u64::MAX || bucket.next(rate, now) > now);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
