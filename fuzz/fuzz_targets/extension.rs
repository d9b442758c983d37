//! Any EHLO line is folded, and folding it again changes nothing.
#![no_main]

use courser_core::smtp::extension::Capabilities;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|answer: &[u8]| {
    let fold = |mut peer: Capabilities| {
        answer
            .split(|&b| b == b'\n')
            .for_each(|line| peer.from_line(line));
        peer
    };
    let once = fold(Capabilities::default());
    assert_eq!(fold(once), once);
});
