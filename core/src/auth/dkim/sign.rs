//! Signing (RFC 6376 5): from a header and the hash of its body to a `DKIM-Signature` field.
//!
//! A field that is *over-signed* stands in `h=` once more often than in the message: nobody can add
//! another of it without breaking the signature (5.4, 8.15). `l=` is never written: it would let
//! anybody append to the message (8.2).

use super::fields::Fields;
use super::signature::{Algorithm, Form, Signature, emit_signature};
use super::signer::{Signer, SignerError};
use crate::auth::canon::{Canon, signature_field};
use crate::auth::hash::HashedBody;
use crate::dns::Name;
use crate::limits::DKIM_SIGNED_NAMES_MAX;
use crate::mail::header::Header;
use crate::time::Wall;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A field that is to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedField<'a> {
    /// Its name.
    pub name: &'a str,
    /// Signed once more often than it is there, also where it is not there at all.
    pub over: bool,
}

const fn over(name: &'static str) -> SignedField<'static> {
    SignedField { name, over: true }
}

const fn once(name: &'static str) -> SignedField<'static> {
    SignedField { name, over: false }
}

/// What is signed by default (5.4.1): what readers see or programs act on. Over-signed is what a
/// second one of could mislead; not what mailing lists add on their way.
pub const DEFAULT_FIELDS: &[SignedField<'static>] = &[
    over("From"),
    over("To"),
    over("Cc"),
    over("Subject"),
    over("Date"),
    over("Message-ID"),
    over("Reply-To"),
    over("In-Reply-To"),
    over("References"),
    over("MIME-Version"),
    over("Content-Type"),
    over("Content-Transfer-Encoding"),
    over("List-Unsubscribe"),
    over("List-Unsubscribe-Post"),
    over("Feedback-ID"),
    once("Sender"),
    once("List-Id"),
    once("List-Help"),
    once("List-Subscribe"),
    once("List-Post"),
    once("List-Owner"),
    once("List-Archive"),
    once("Resent-From"),
    once("Resent-To"),
    once("Resent-Cc"),
    once("Resent-Date"),
    once("Resent-Message-ID"),
];

/// What one signature shall be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SigningOptions<'a> {
    /// `d=`.
    pub domain: &'a Name,
    /// `s=`.
    pub selector: &'a Name,
    /// `i=`, such as `@news.example.com`; must lie within the domain.
    pub identity: Option<&'a str>,
    /// Canonicalization of the header.
    pub header: Canon,
    /// Canonicalization of the body.
    pub body: Canon,
    /// What is signed; From is in any case.
    pub fields: &'a [SignedField<'a>],
    /// Whether to say when it was signed (`t=`).
    pub time: bool,
    /// How long it is valid, seconds (`x=`).
    pub valid_s: Option<u32>,
}

impl<'a> SigningOptions<'a> {
    /// Relaxed twice, [`DEFAULT_FIELDS`], with its time, without an end.
    pub const fn new(domain: &'a Name, selector: &'a Name) -> Self {
        Self {
            domain,
            selector,
            identity: None,
            header: Canon::Relaxed,
            body: Canon::Relaxed,
            fields: DEFAULT_FIELDS,
            time: true,
            valid_s: None,
        }
    }
}

/// Why nothing was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignError {
    /// The message has no From, which must be signed (5.4).
    NoFrom,
    /// The message begins with a space or a tab: that line would continue the signature field that
    /// is put before it.
    Continuation,
    /// This hash of the body was not made: give it to
    /// [`BodyHashes::new`](crate::auth::hash::BodyHashes::new).
    NoBodyHash(Canon),
    /// There are more fields to sign than [`DKIM_SIGNED_NAMES_MAX`].
    TooManyFields,
    /// The name of a field to sign is none, or one that can't be signed here.
    FieldName,
    /// `i=` is no identity within the domain.
    Identity,
    /// The signer's algorithm is not for signing.
    Algorithm(Algorithm),
    /// The key could not sign.
    Signer(SignerError),
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFrom => f.write_str("the message has no From field, which must be signed"),
            Self::Continuation => f.write_str(
                "the message begins with a space or a tab; its first line must begin a field",
            ),
            Self::NoBodyHash(canon) => write!(f, "the {canon} hash of the body was not made"),
            Self::TooManyFields => {
                write!(f, "more than {DKIM_SIGNED_NAMES_MAX} fields to sign")
            }
            Self::FieldName => f.write_str("a name of a field to sign can't stand in h="),
            Self::Identity => f.write_str("the identity (i=) does not lie within the domain (d=)"),
            Self::Algorithm(algorithm) => write!(f, "nothing is signed with {algorithm}"),
            Self::Signer(error) => error.fmt(f),
        }
    }
}
impl core::error::Error for SignError {}

impl From<SignerError> for SignError {
    fn from(error: SignerError) -> Self {
        Self::Signer(error)
    }
}

/// Signs a message: appends a `DKIM-Signature` field with its line end to `out`; put it before the
/// header. Several signatures of one message: call it for each, all with the same `body`.
///
/// # Errors
/// [`SignError`]; then `out` is as it was.
pub fn sign(
    header: Header<'_>,
    body: &HashedBody,
    now: Wall,
    options: &SigningOptions<'_>,
    signer: &dyn Signer,
    out: &mut Vec<u8>,
) -> Result<(), SignError> {
    if begins_folded(header) {
        return Err(SignError::Continuation);
    }
    let fields = Fields::of(header);
    if fields.named("from").next().is_none() {
        return Err(SignError::NoFrom);
    }
    let signed = names(&fields, options.fields, &["dkim-signature"])?;
    let signature = unsigned(Form::Dkim, body, now, options, signer, &signed)?;
    emit(&fields, &signature, signer, out)
}

/// Whether the first line would continue a field that is put before it.
pub(crate) fn begins_folded(header: Header<'_>) -> bool {
    header.as_bytes().starts_with(b" ") || header.as_bytes().starts_with(b"\t")
}

/// The value of `h=`: each name as often as it is there, and once more if it is over-signed.
pub(crate) fn names(
    fields: &Fields<'_>,
    wanted: &[SignedField<'_>],
    forbidden: &[&str],
) -> Result<String, SignError> {
    let mut signed = String::with_capacity(512);
    let mut left = DKIM_SIGNED_NAMES_MAX;
    let from = [over("From")];
    let lacks_from = !wanted.iter().any(|f| f.name.eq_ignore_ascii_case("from"));
    let from = if lacks_from { from.as_slice() } else { &[] };
    for (at, wanted_field) in from.iter().chain(wanted).enumerate() {
        let name = wanted_field.name;
        let text = |b: u8| b.is_ascii_graphic() && !matches!(b, b':' | b';');
        if name.is_empty()
            || !name.bytes().all(text)
            || forbidden.iter().any(|f| name.eq_ignore_ascii_case(f))
        {
            return Err(SignError::FieldName);
        }
        // A name that comes twice is signed as often as its first says.
        let before = from.iter().chain(wanted).take(at);
        if before
            .into_iter()
            .any(|f| f.name.eq_ignore_ascii_case(name))
        {
            continue;
        }
        let times = fields.named(name).count() + usize::from(wanted_field.over);
        left = left.checked_sub(times).ok_or(SignError::TooManyFields)?;
        for _ in 0..times {
            if !signed.is_empty() {
                signed.push(':');
            }
            signed.push_str(name);
        }
    }
    Ok(signed)
}

/// All of a signature but `b=`.
pub(crate) fn unsigned<'a>(
    form: Form,
    body: &HashedBody,
    now: Wall,
    options: &SigningOptions<'a>,
    signer: &dyn Signer,
    signed: &'a str,
) -> Result<Signature<'a>, SignError> {
    let algorithm = signer.algorithm();
    if algorithm == Algorithm::RsaSha1 {
        return Err(SignError::Algorithm(algorithm));
    }
    if let Some(identity) = options.identity {
        let (local, domain) = identity.rsplit_once('@').ok_or(SignError::Identity)?;
        let within = Name::from_domain(domain).is_ok_and(|d| d.is_within(options.domain));
        // 3.5: dkim-quoted-printable; whoever needs more writes it encoded.
        if !within || !local.bytes().all(|b| b.is_ascii_graphic() && b != b';') {
            return Err(SignError::Identity);
        }
    }
    Ok(Signature {
        form,
        algorithm,
        signature: Vec::new(),
        body_hash: body
            .get(options.body)
            .ok_or(SignError::NoBodyHash(options.body))?
            .to_vec(),
        header_canon: options.header,
        body_canon: options.body,
        domain: options.domain.clone(),
        selector: options.selector.clone(),
        signed,
        identity: options.identity,
        instance: 0,
        chain: super::signature::Chain::None,
        length: None,
        time: options.time.then_some(now),
        expires: options.valid_s.map(|s| now.plus_s(s.max(1).into())),
    })
}

/// Writes the field and signs it.
pub(crate) fn emit(
    fields: &Fields<'_>,
    signature: &Signature<'_>,
    signer: &dyn Signer,
    out: &mut Vec<u8>,
) -> Result<(), SignError> {
    let mut data = Vec::with_capacity(4096);
    fields.canonical(signature.names(), signature.header_canon, None, |bytes| {
        data.extend_from_slice(bytes);
    });
    emit_over(data, signature, signer, out)
}

/// Writes the field and signs it behind `data`.
pub(crate) fn emit_over(
    mut data: Vec<u8>,
    signature: &Signature<'_>,
    signer: &dyn Signer,
    out: &mut Vec<u8>,
) -> Result<(), SignError> {
    let before = out.len();
    signature.emit_unsigned(out);
    let own = out.get(before..).unwrap_or(&[]);
    signature_field(signature.header_canon, own, 0..0, |bytes| {
        data.extend_from_slice(bytes);
    });
    match signer.sign(&data) {
        Ok(signed) => {
            emit_signature(out, &signed);
            Ok(())
        }
        Err(error) => {
            out.truncate(before);
            Err(error.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::dkim::fields::canonical_signature;
    use crate::auth::dkim::signature::signature_span;
    use crate::auth::dkim::signer::PrivateKey;
    use crate::auth::dkim::signer::tests::{ED25519, RFC_6376_KEY, RFC_8463_SEED, short_key};
    use crate::auth::dkim::tags::Tags;
    use crate::auth::dkim::tests::{RFC_6376_MESSAGE, RFC_8463_MESSAGE};
    use alloc::string::ToString;
    use alloc::{format, vec};

    /// What `key` signs of the `n`th signature field of `message`, against what it holds.
    fn signs_again(message: &[u8], n: usize, key: &PrivateKey) {
        let (header, body) = Header::of(message).unwrap();
        let fields = Fields::of(header);
        let (own, field) = fields.named("dkim-signature").nth(n).unwrap();
        let tags = Tags::parse(field.value()).unwrap();
        let signature = Signature::of(Form::Dkim, &tags).unwrap();
        let hashed = HashedBody::of(body, &[signature.body_canon]);
        assert_eq!(
            hashed.get(signature.body_canon).unwrap().as_slice(),
            signature.body_hash
        );
        let mut data = Vec::new();
        fields.canonical(signature.names(), signature.header_canon, Some(own), |b| {
            data.extend_from_slice(b);
        });
        canonical_signature(signature.header_canon, &field, signature_span(&tags), |b| {
            data.extend_from_slice(b)
        });
        let signed = key.signer([0; 32]).sign(&data).unwrap();
        assert_eq!(signed, signature.signature);
    }

    #[test]
    fn examples_of_the_rfcs_sign_to_the_same_octets() {
        signs_again(RFC_6376_MESSAGE, 0, &short_key(RFC_6376_KEY));
        let key = PrivateKey::parse(RFC_8463_SEED).unwrap();
        signs_again(RFC_8463_MESSAGE, 0, &key);
    }

    fn signed(options: impl FnOnce(&mut SigningOptions<'_>)) -> Result<String, SignError> {
        let message = b"From: a@example.com\r\nTo: b@example.net\r\nto: c@example.net\r\n\
            Subject: hello\r\n\r\nHi\r\n";
        let (header, body) = Header::of(message).unwrap();
        let (domain, selector) = (
            Name::parse("example.com").unwrap(),
            Name::parse("one").unwrap(),
        );
        let mut wanted = SigningOptions::new(&domain, &selector);
        options(&mut wanted);
        let signer = PrivateKey::parse(ED25519).unwrap().signer([0; 32]);
        let mut out = vec![b'X'];
        let result = sign(
            header,
            &HashedBody::of(body, &[Canon::Relaxed]),
            Wall::from_unix(1_790_000_000),
            &wanted,
            &signer,
            &mut out,
        );
        if result.is_err() {
            assert_eq!(out, b"X");
        }
        result.map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_a_field_looks_like() {
        let field = signed(|options| {
            options.identity = Some("@news.example.com");
            options.valid_s = Some(60);
        })
        .unwrap();
        let (unsigned, _) = field.split_once(" b=").unwrap();
        assert_eq!(
            unsigned,
            "XDKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.com;\r\n \
             s=one; i=@news.example.com; t=1790000000; x=1790000060; h=From:From:To:To:To:\r\n \
             Cc:Subject:Subject:Date:Message-ID:Reply-To:In-Reply-To:References:\r\n \
             MIME-Version:Content-Type:Content-Transfer-Encoding:List-Unsubscribe:\r\n \
             List-Unsubscribe-Post:Feedback-ID;\r\n \
             bh=j+uJ1+KwQjMpdNiCngwvlv2FTzZnzkokoCYASnN36NE=;\r\n"
        );
        assert!(field.ends_with("==\r\n"));
        assert!(!field.contains("l="));
    }

    #[test]
    fn what_is_not_signed() {
        assert_eq!(
            signed(|o| o.body = Canon::Simple),
            Err(SignError::NoBodyHash(Canon::Simple))
        );
        for identity in ["example.com", "@example.net", "a;b@example.com"] {
            assert_eq!(
                signed(|o| o.identity = Some(identity)),
                Err(SignError::Identity)
            );
        }
        static BAD: [[SignedField<'static>; 1]; 4] = [
            [once("")],
            [once("a:b")],
            [once("a b")],
            [once("DKIM-Signature")],
        ];
        for fields in &BAD {
            let result = signed(|options| options.fields = fields);
            assert_eq!(result, Err(SignError::FieldName), "{fields:?}");
        }
        let (header, _) = Header::of(b"To: b@example.net\r\n\r\n").unwrap();
        let name = Name::parse("example.com").unwrap();
        let signer = PrivateKey::parse(ED25519).unwrap().signer([0; 32]);
        let options = SigningOptions::new(&name, &name);
        let sign = |header, body| {
            sign(
                header,
                &body,
                Wall::from_unix(0),
                &options,
                &signer,
                &mut Vec::new(),
            )
        };
        let body = HashedBody::of(b"", &[Canon::Relaxed]);
        assert_eq!(sign(header, body), Err(SignError::NoFrom));
        for folded in [
            " x\r\nFrom: a@b.example\r\n\r\n",
            "\tx: y\r\nFrom: a@b.example\r\n\r\n",
        ] {
            let (header, _) = Header::of(folded.as_bytes()).unwrap();
            assert_eq!(sign(header, body), Err(SignError::Continuation));
        }
        let many = format!("From: a@b.example\r\n{}\r\n", "To: x\r\n".repeat(300));
        let (header, _) = Header::of(many.as_bytes()).unwrap();
        assert_eq!(sign(header, body), Err(SignError::TooManyFields));
        assert!(SignError::NoFrom.to_string().contains("From"));
    }
}
