//! Replies read the same however they are cut, and what was read can be written.
#![no_main]

use courser_core::smtp::reply::{Reply, ReplyError, ReplyReader, ReplyState};
use libfuzzer_sys::fuzz_target;

type Read = (Vec<(ReplyState, Vec<u8>)>, Option<ReplyError>);

fn read(wire: &[u8], size: usize) -> Read {
    let mut reader = ReplyReader::new();
    let mut lines = Vec::new();
    for mut piece in wire.chunks(size) {
        while !piece.is_empty() {
            match reader.push(piece) {
                Ok(pushed) => {
                    assert!(pushed.consumed > 0);
                    if pushed.state != ReplyState::Incomplete {
                        lines.push((pushed.state, reader.line().to_vec()));
                    }
                    piece = &piece[pushed.consumed..];
                }
                Err(error) => return (lines, Some(error)),
            }
            if let Some(reply) = reader.reply() {
                let mut out = [0; 16384];
                let n = reply.emit(&mut out).unwrap();
                assert!(read_code(&out[..n]) == Some(reply.code.get()));
            }
        }
    }
    (lines, None)
}

fn read_code(wire: &[u8]) -> Option<u16> {
    let mut reader = ReplyReader::new();
    let mut rest = wire;
    while !rest.is_empty() {
        rest = &rest[reader.push(rest).ok()?.consumed..];
    }
    reader.reply().map(|r| r.code.get())
}

fuzz_target!(|input: &[u8]| {
    let Some((&size, wire)) = input.split_first() else {
        return;
    };
    assert_eq!(read(wire, usize::from(size) + 1), read(wire, usize::MAX));
    let _ = Reply::parse(wire).map(|r| r.to_string());
});
