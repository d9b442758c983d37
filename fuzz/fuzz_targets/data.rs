//! Bodies arrive as they were sent, and any stream reads the same however it is cut.
#![no_main]

use courser_core::smtp::data::{BdatReader, DataError, Findings, Stuffer, Unstuffer};
use libfuzzer_sys::fuzz_target;

type Read = Result<(Vec<u8>, Findings, bool), DataError>;

fn receive(wire: &[u8], size: usize) -> Read {
    let mut unstuffer = Unstuffer::new();
    let mut body = Vec::new();
    for mut piece in wire.chunks(size) {
        while !piece.is_empty() && !unstuffer.is_done() {
            let part = unstuffer.push(piece)?;
            assert!(part.consumed > 0);
            body.extend_from_slice(part.body);
            piece = &piece[part.consumed..];
        }
    }
    Ok((body, unstuffer.findings(), unstuffer.is_done()))
}

fn receive_chunk(wire: &[u8], size: usize) -> Result<Findings, DataError> {
    let mut reader = BdatReader::new(false);
    reader.begin(wire.len() as u64, true);
    for piece in wire.chunks(size) {
        reader.push(piece)?;
    }
    Ok(reader.findings())
}

fuzz_target!(|input: &[u8]| {
    let Some((&size, body)) = input.split_first() else {
        return;
    };
    let size = usize::from(size) + 1;
    assert_eq!(receive(body, size), receive(body, usize::MAX));
    // A body that BDAT takes arrives through DATA as well.
    let chunk = receive_chunk(body, size);
    assert_eq!(chunk.is_ok(), receive_chunk(body, usize::MAX).is_ok());
    if chunk.is_err() {
        return;
    }
    let mut stuffer = Stuffer::new();
    let mut wire = Vec::new();
    for piece in body.chunks(size) {
        wire.extend(stuffer.walk(piece).flat_map(|c| c.bytes().to_vec()));
    }
    wire.extend_from_slice(stuffer.terminator());
    let (mut arrived, _, done) = receive(&wire, size).unwrap();
    assert!(done);
    if !body.is_empty() && !body.ends_with(b"\r\n") {
        arrived.truncate(arrived.len() - 2);
    }
    assert_eq!(arrived, body);
});
