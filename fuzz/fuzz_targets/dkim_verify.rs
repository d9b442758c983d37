//! Any message with any key record has a verdict, however its body is cut; and what we sign of any
//! body verifies.
#![no_main]

use courser_core::auth::Evaluate;
use courser_core::auth::canon::Canon;
use courser_core::auth::dkim::{
    KeySigner, PrivateKey, Report, SigningOptions, Status, Verifier, sign,
};
use courser_core::auth::hash::{BodyHashes, HashedBody};
use courser_core::dns::{Name, Outcome, Records};
use courser_core::limits::DKIM_SIGNATURES_MAX;
use courser_core::mail::header::Header;
use courser_core::time::Wall;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

const NOW: Wall = Wall::from_unix(1_790_000_000);

/// RFC 8463 A.2.
static KEY: LazyLock<(KeySigner, String)> = LazyLock::new(|| {
    let key = PrivateKey::parse("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=").expect("a key");
    (key.signer([0; 32]), key.record().to_string())
});

fn verify(message: &[u8], record: &[u8], piece: usize) -> Option<Report> {
    let (header, body) = Header::of(message).ok()?;
    let mut verifier = Verifier::new(header, NOW);
    for piece in body.chunks(piece) {
        verifier.update(piece);
    }
    let outcome = Outcome::Found(Records::Txt([record.into()].into()));
    Some(verifier.finish().run(|_| outcome.clone()))
}

// The first octet says how bodies are cut; a line with "==" is between record and message.
fuzz_target!(|bytes: &[u8]| {
    let Some((cut, rest)) = bytes.split_first() else {
        return;
    };
    let piece = usize::from(*cut) + 1;
    let at = rest.windows(3).position(|w| w == b"==\n");
    let (record, message) = match at {
        Some(at) => (&rest[..at], &rest[at + 3..]),
        None => (KEY.1.as_bytes(), rest),
    };
    let Some(report) = verify(message, record, piece) else {
        return;
    };
    assert!(report.signatures.len() <= DKIM_SIGNATURES_MAX);
    assert_eq!(verify(message, record, usize::MAX).as_ref(), Some(&report));

    let canons = [Canon::Simple, Canon::Relaxed];
    let (header, body) = Header::of(message).expect("it was read before");
    let mut hashes = BodyHashes::new(&canons);
    for piece in body.chunks(piece) {
        hashes.update(piece);
    }
    let hashed = hashes.finish();
    assert_eq!(hashed, HashedBody::of(body, &canons));
    let name = Name::parse("a.example").expect("a name");
    for header_canon in canons {
        for body_canon in canons {
            let mut options = SigningOptions::new(&name, &name);
            (options.header, options.body) = (header_canon, body_canon);
            let mut out = Vec::new();
            if sign(header, &hashed, NOW, &options, &KEY.0, &mut out).is_err() {
                continue;
            }
            out.extend_from_slice(header.as_bytes());
            // A header that isn't ended takes no empty line.
            if !header.as_bytes().ends_with(b"\r\n") {
                continue;
            }
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(body);
            let Some(report) = verify(&out, KEY.1.as_bytes(), piece) else {
                continue;
            };
            assert_eq!(report.signatures[0].status, Status::Pass, "{report:?}");
        }
    }
});
