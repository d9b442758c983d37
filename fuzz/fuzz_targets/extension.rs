//! Any EHLO answer is folded: folding it again changes nothing, letters' case doesn't count, and
//! what isn't a known keyword has no effect.
#![no_main]

use courser_core::smtp::extension::Capabilities;
use libfuzzer_sys::fuzz_target;

fn fold(mut peer: Capabilities, answer: &[u8]) -> Capabilities {
    answer
        .split(|&b| b == b'\n')
        .for_each(|line| peer.from_line(line));
    peer
}

fuzz_target!(|answer: &[u8]| {
    let once = fold(Capabilities::default(), answer);
    assert_eq!(fold(once, answer), once);
    assert_eq!(fold(Capabilities::default(), &answer.to_ascii_lowercase()), once);
    assert_eq!(fold(Capabilities::default(), &answer.to_ascii_uppercase()), once);
    let mut strange = [b"X-", answer].concat();
    strange.iter_mut().filter(|b| **b == b'\n').for_each(|b| *b = b' ');
    assert_eq!(fold(Capabilities::default(), &strange), Capabilities::default());
});
