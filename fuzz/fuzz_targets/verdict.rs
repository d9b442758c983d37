//! Any reply at any stage has a verdict, and permanence is never more than its code says.
#![no_main]

use courser_core::feedback::verdict::{Class, Rules, Stage};
use courser_core::smtp::reply::{EnhancedCode, Reply, ReplyCode};
use libfuzzer_sys::fuzz_target;

type Input = (u16, Option<(u8, u16, u16)>, u8, Vec<u8>);

fuzz_target!(|input: Input| {
    let (code, enhanced, stage, text) = input;
    let Some(code) = ReplyCode::new(code) else {
        return;
    };
    let reply = Reply {
        code,
        enhanced: enhanced.map(|(c, s, d)| EnhancedCode::new(c, s, d)),
        text: &text,
    };
    let stage = [
        Stage::Connect,
        Stage::Greeting,
        Stage::Hello,
        Stage::Mail,
        Stage::Rcpt,
        Stage::Data,
        Stage::Body,
    ][usize::from(stage) % 7];
    let verdict = Rules::built_in().judge(&reply, stage, None);
    assert_eq!(verdict.class == Class::Delivered, code.is_success());
    assert!(!verdict.permanent || code.is_permanent());
});
