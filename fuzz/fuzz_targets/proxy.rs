//! A PROXY header reads the same however it is cut: more bytes never change what was said, nothing
//! behind it is read, and no header is longer than its bound.
#![no_main]

use courser_core::limits::{PROXY_V1_BYTES_MAX, PROXY_V2_BYTES_MAX};
use courser_core::smtp::proxy::{Parsed, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut said = None;
    for end in 0..=bytes.len() {
        let now = parse(&bytes[..end]);
        match (said, now) {
            (None, Ok(Parsed::More)) => {
                assert!(end < PROXY_V2_BYTES_MAX.max(PROXY_V1_BYTES_MAX));
            }
            (None, Ok(Parsed::Done { consumed, proxied })) => {
                assert_eq!(consumed, end, "read too much or waited too long");
                // Both addresses are of one family, or neither is known.
                match (proxied.client, proxied.server) {
                    (Some(a), Some(b)) => assert_eq!(a.is_ipv4(), b.is_ipv4()),
                    (None, None) => {}
                    odd => panic!("{odd:?}"),
                }
                said = Some(now);
            }
            (None, Err(error)) => {
                assert!(!error.to_string().is_empty());
                said = Some(now);
            }
            (Some(Ok(_)), now) => assert_eq!(Some(now), said),
            (Some(Err(_)), now) => assert!(now.is_err(), "an error heals"),
        }
    }
});
