//! Messages to sign, and signing and verifying them.

use courser_core::auth::canon::{Body, Canon};
use courser_core::auth::dkim::{
    PrivateKey, Report, SignedField, Signer, SigningOptions, Verifier, sign,
};
use courser_core::auth::hash::HashedBody;
use courser_core::auth::{Evaluate, Step};
use courser_core::dns::{Name, Outcome, Records};
use courser_core::mail::header::Header;
use courser_core::time::Wall;

/// RSA, 2048 bits, PKCS#8.
pub const RSA: &str = include_str!("../../core/src/auth/dkim/test-rsa-2048.pem");
/// RFC 8463 A.2.
pub const ED25519: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
/// What is signed.
pub const FIELDS: [&str; 7] = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "MIME-Version",
    "Content-Type",
];

/// Bodies of about `bytes`: what they are called, and their octets.
pub fn bodies(bytes: usize) -> [(&'static str, Vec<u8>); 4] {
    let repeat = |lines: &[u8]| lines.repeat(bytes / lines.len() + 1);
    [
        (
            "text",
            repeat(b"The quick brown fox jumps over the lazy dog, again and again.\r\n\r\n"),
        ),
        (
            "html",
            repeat(
                b"<table>\r\n  <tr>\r\n    <td class=\"x\">Hello <b>World</b>, it has shipped.</td>\r\n\
                  \t  </tr>\r\n</table>\r\n",
            ),
        ),
        (
            "base64",
            repeat(b"VGhlIHF1aWNrIGJyb3duIGZveCBqdW1wcyBvdmVyIHRoZSBsYXp5IGRvZywgYWdhaW4gYW5kIGFn\r\n"),
        ),
        (
            "ragged",
            repeat(b"word\t\t  word   word \t\r\n   \t \r\n\r\n"),
        ),
    ]
}

/// A message with a text body of about `bytes`.
pub fn message(bytes: usize) -> Vec<u8> {
    let mut out = b"From: News <news@example.com>\r\nTo: <a@b.example>\r\nSubject: What is new\r\n\
        Date: Mon, 23 Nov 2026 21:13:17 +0000\r\nMessage-ID: <1@example.com>\r\n\
        MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
        List-Unsubscribe: <https://example.com/u/0123456789>\r\n\r\n"
        .to_vec();
    let [(_, text), ..] = bodies(bytes);
    out.extend_from_slice(&text);
    out
}

/// Canonicalizes without keeping anything; returns the octets.
pub fn canonicalize(canon: Canon, body: &[u8]) -> u64 {
    let mut octets = 0;
    let mut canonical = Body::new(canon);
    canonical.update(body, |bytes| {
        octets += std::hint::black_box(bytes).len() as u64;
    });
    canonical.finish(|bytes| octets += bytes.len() as u64);
    octets
}

/// Signs with one key for one domain.
pub struct Hop {
    domain: Name,
    selector: Name,
    fields: Vec<SignedField<'static>>,
    signer: Box<dyn Signer>,
    record: Outcome,
    now: Wall,
}

impl Hop {
    /// With this key and the core's signer, at this time.
    pub fn new(key: &str, now: Wall) -> Self {
        Self::over(key, now, |key| Box::new(key.signer([7; 32])))
    }

    /// With this key and what `signer` makes of it, at this time.
    pub fn over(key: &str, now: Wall, signer: impl FnOnce(&PrivateKey) -> Box<dyn Signer>) -> Self {
        let key = PrivateKey::parse(key).expect("a key");
        let record = key.record().to_string().into_bytes().into();
        Self {
            domain: Name::parse("example.com").expect("a name"),
            selector: Name::parse("one").expect("a name"),
            fields: FIELDS
                .iter()
                .map(|name| SignedField { name, over: false })
                .collect(),
            signer: signer(&key),
            record: Outcome::Found(Records::Txt([record].into())),
            now,
        }
    }

    /// The field that signs `message`.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let (header, body) = Header::of(message).expect("a header");
        let mut options = SigningOptions::new(&self.domain, &self.selector);
        options.fields = &self.fields;
        let hashed = HashedBody::of(body, &[options.body]);
        let mut out = Vec::new();
        let signer = self.signer.as_ref();
        sign(header, &hashed, self.now, &options, signer, &mut out).expect("a signature");
        out
    }

    /// What comes of the signatures of `message`.
    pub fn verify(&self, message: &[u8]) -> Report {
        let (header, body) = Header::of(message).expect("a header");
        let mut verifier = Verifier::new(header, self.now);
        verifier.update(body);
        let mut verification = verifier.finish();
        loop {
            match verification.step() {
                Step::Ask(_) => verification.answer(&self.record),
                Step::Done(report) => return report,
            }
        }
    }
}
