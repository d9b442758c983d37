//! Any message has a chain or not, however its body is cut; and where a chain may go on, the set
//! that is added is whole.
#![no_main]

use courser_core::auth::Evaluate;
use courser_core::auth::arc::{ARC_FIELDS, ArcReport, ArcVerifier, Chain, seal};
use courser_core::auth::canon::Canon;
use courser_core::auth::dkim::{KeySigner, PrivateKey, SigningOptions};
use courser_core::auth::hash::HashedBody;
use courser_core::dns::{Name, Outcome, Records};
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

fn validate(message: &[u8], piece: usize) -> Option<ArcReport> {
    let (header, body) = Header::of(message).ok()?;
    let mut verifier = ArcVerifier::new(header, NOW);
    for piece in body.chunks(piece) {
        verifier.update(piece);
    }
    let outcome = Outcome::Found(Records::Txt([KEY.1.as_bytes().into()].into()));
    Some(verifier.finish().run(|_| outcome.clone()))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, message)) = bytes.split_first() else {
        return;
    };
    let Some(report) = validate(message, usize::from(*cut) + 1) else {
        return;
    };
    assert_eq!(validate(message, usize::MAX).as_ref(), Some(&report));
    let (header, body) = Header::of(message).expect("it was read before");
    if !header.as_bytes().ends_with(b"\r\n") {
        return;
    }
    let name = Name::parse("a.example").expect("a name");
    let mut options = SigningOptions::new(&name, &name);
    options.fields = ARC_FIELDS;
    let hashed = HashedBody::of(body, &[Canon::Relaxed]);
    let results = ("a.example", "arc=none");
    if let Ok(set) = seal(header, &hashed, NOW, results, &report, &options, &KEY.0) {
        let mut out = Vec::new();
        set.emit(&mut out);
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
        let Some(after) = validate(&out, usize::MAX) else {
            return;
        };
        assert_eq!(after.instance, report.instance + 1);
        assert_eq!(after.result == Chain::Fail, report.result == Chain::Fail);
    }
});
