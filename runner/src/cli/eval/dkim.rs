//! The kinds `dkim` and `dkim-sign`.

use courser_core::auth::Evaluate;
use courser_core::auth::canon::Canon;
use courser_core::auth::dkim::{
    DEFAULT_FIELDS, PrivateKey, SignedField, SigningOptions, Verifier, sign,
};
use courser_core::auth::hash::HashedBody;
use courser_core::dns::Name;
use courser_core::mail::header::Header;
use serde_json::{Value, json};

use super::Kind;
use super::dns::Dns;
use super::fields::{Fields, Mistake};
use crate::sign::signer::FastSigner;

/// What DKIM makes of a message.
pub const VERIFY: Kind = Kind {
    name: "dkim",
    help: r#"
The DKIM signatures (RFC 6376, 8301, 8463) of a message, from the top, ten at most.
in:  {message_b64, now, dns?}
     message_b64  the message as it went over the wire, in base64
     now          seconds since 1970, or a time such as "2026-12-01T08:00:00Z"
out: {signatures: [{result, domain, selector, algorithm, reason, identity, testing}]}
     result   pass, fail, policy, neutral, temperror or permerror; of a message without a
              signature, one with "none"
     testing  the key says t=y"#,
    evaluate: verify,
};

/// A signature.
pub const SIGN: Kind = Kind {
    name: "dkim-sign",
    help: r#"
A DKIM signature for a message.
in:  {message_b64, now, domain, selector, key_pem, canonicalization?, headers?}
     key_pem           PKCS#1 or PKCS#8, RSA of 2048 to 4096 bits or Ed25519
     canonicalization  header and body, "relaxed/relaxed" (the default), "simple/relaxed" …
     headers           the fields to sign, each as often as it is there; without them the usual
                       ones, those that could be forged once more often
out: {header}          to go before the message, with its line end"#,
    evaluate: sign_it,
};

pub(super) fn message(fields: &Fields<'_>) -> Result<Vec<u8>, Mistake> {
    fields.base64("message_b64")
}

pub(super) fn header_of<'a>(
    fields: &Fields<'_>,
    message: &'a [u8],
) -> Result<(Header<'a>, &'a [u8]), Mistake> {
    Header::of(message).map_err(|e| fields.mistake("message_b64", e))
}

fn verify(fields: &Fields<'_>) -> Result<Value, Mistake> {
    let message = message(fields)?;
    let (header, body) = header_of(fields, &message)?;
    let dns = Dns::of(fields)?;
    let mut verifier = Verifier::new(header, fields.time("now")?);
    verifier.update(body);
    let report = verifier.finish().run(|question| dns.answer(question));
    let mut signatures: Vec<Value> = report
        .signatures
        .iter()
        .map(|s| {
            json!({
                "result": s.status.to_string(),
                "domain": s.domain.as_deref(),
                "selector": s.selector.as_deref(),
                "algorithm": s.algorithm.map(|a| a.to_string()),
                "reason": s.reason.to_string(),
                "identity": s.identity.as_deref(),
                "testing": s.testing,
            })
        })
        .collect();
    if signatures.is_empty() {
        signatures.push(json!({
            "result": "none", "domain": null, "selector": null, "algorithm": null,
            "reason": "the message has no DKIM-Signature field",
        }));
    }
    Ok(json!({ "signatures": signatures }))
}

/// Key, domain, selector and fields of the kinds that sign.
pub(super) struct Signing<'a> {
    pub(super) signer: FastSigner,
    pub(super) domain: Name,
    pub(super) selector: Name,
    pub(super) fields: Option<Vec<SignedField<'a>>>,
}

impl<'a> Signing<'a> {
    pub(super) fn of(fields: &Fields<'a>) -> Result<Self, Mistake> {
        let name = |field: &str| {
            let text = fields.text(field)?;
            Name::from_domain(text).map_err(|e| fields.mistake(field, e))
        };
        let key =
            PrivateKey::parse(fields.text("key_pem")?).map_err(|e| fields.mistake("key_pem", e))?;
        let signer = FastSigner::new(&key).ok_or_else(|| {
            fields.mistake("key_pem", "the numbers in it are no key that can sign")
        })?;
        let names = fields.optional_texts("headers")?;
        Ok(Self {
            signer,
            domain: name("domain")?,
            selector: name("selector")?,
            fields: names.map(|names| {
                let once = |name| SignedField { name, over: false };
                names.into_iter().map(once).collect()
            }),
        })
    }
}

fn canons(fields: &Fields<'_>) -> Result<(Canon, Canon), Mistake> {
    let word = fields.optional_word(
        "canonicalization",
        &[
            ("relaxed/relaxed", (Canon::Relaxed, Canon::Relaxed)),
            ("relaxed/simple", (Canon::Relaxed, Canon::Simple)),
            ("simple/relaxed", (Canon::Simple, Canon::Relaxed)),
            ("simple/simple", (Canon::Simple, Canon::Simple)),
            ("relaxed", (Canon::Relaxed, Canon::Simple)),
            ("simple", (Canon::Simple, Canon::Simple)),
        ],
    )?;
    Ok(word.unwrap_or((Canon::Relaxed, Canon::Relaxed)))
}

fn sign_it(fields: &Fields<'_>) -> Result<Value, Mistake> {
    let message = message(fields)?;
    let (header, body) = header_of(fields, &message)?;
    let signing = Signing::of(fields)?;
    let (header_canon, body_canon) = canons(fields)?;
    let hashed = HashedBody::of(body, &[body_canon]);
    let mut options = SigningOptions::new(&signing.domain, &signing.selector);
    options.header = header_canon;
    options.body = body_canon;
    options.fields = signing.fields.as_deref().unwrap_or(DEFAULT_FIELDS);
    let mut out = Vec::new();
    sign(
        header,
        &hashed,
        fields.time("now")?,
        &options,
        &signing.signer,
        &mut out,
    )
    .map_err(|e| Mistake::new("", e))?;
    Ok(json!({ "header": String::from_utf8_lossy(&out) }))
}
