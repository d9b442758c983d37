//! The kinds `dkim` and `dkim-sign`.

use courser_core::auth::Evaluate;
use courser_core::auth::canon::Canon;
use courser_core::auth::dkim::{
    DEFAULT_FIELDS, HashedBody, PrivateKey, SignedField, SigningOptions, Verifier, sign,
};
use courser_core::dns::Name;
use courser_core::mail::header::Header;
use courser_core::time::Wall;
use serde_json::{Value, json};

use super::Kind;
use super::dns::Dns;
use super::fields::{Fields, Mistake};

/// Whether signatures of a message are good.
pub const VERIFY: Kind = Kind {
    name: "dkim",
    help: r#"
The DKIM signatures of a message (RFC 6376, RFC 8301, RFC 8463), from top to bottom.
in:  {message_b64, now, dns?}: the message in base64, with CRLF; now in unix time
out: {signatures: [{result, domain, selector, algorithm, reason}]}
     result  pass, fail, policy, neutral, temperror or permerror; a message without a
             signature has one entry with none"#,
    evaluate: verify,
};

/// Signs a message.
pub const SIGN: Kind = Kind {
    name: "dkim-sign",
    help: r#"
Signs a message with DKIM.
in:  {message_b64, now, domain, selector, key_pem, canonicalization?, headers?}
     key_pem           PKCS#1 or PKCS#8, at least 2048 bits of RSA; or an Ed25519 seed in base64
     canonicalization  "relaxed/relaxed" (the default), "simple/relaxed" ...; one word is the
                       header's, and the body's is simple then
     headers           names of the fields to sign; one that is given more than once is signed
                       once more often than it is there
out: {header}: the field with its line ends, to put on top of the message"#,
    evaluate: sign_message,
};

fn verify(fields: &Fields<'_>) -> Result<Value, Mistake> {
    let message = fields.base64("message_b64")?;
    let now = fields.time("now")?;
    let dns = Dns::of(fields)?;
    let (header, body) = cut(fields, &message)?;
    let mut verifier = Verifier::new(header, Wall::from_unix(now));
    verifier.update(body);
    let report = verifier.finish().run(|question| dns.answer(question));
    let mut signatures: Vec<Value> = report
        .signatures
        .iter()
        .map(|verdict| {
            json!({
                "result": verdict.status.to_string(),
                "domain": verdict.domain.as_deref(),
                "selector": verdict.selector.as_deref(),
                "algorithm": verdict.algorithm.map(|a| a.to_string()),
                "reason": verdict.reason.to_string(),
            })
        })
        .collect();
    if signatures.is_empty() {
        signatures.push(json!({
            "result": "none", "domain": null, "selector": null, "algorithm": null,
            "reason": "the message has no DKIM signature",
        }));
    }
    Ok(json!({ "signatures": signatures, "not_evaluated": report.not_evaluated }))
}

pub(super) fn cut<'a>(
    fields: &Fields<'_>,
    message: &'a [u8],
) -> Result<(Header<'a>, &'a [u8]), Mistake> {
    Header::of(message).map_err(|error| fields.mistake("message_b64", error))
}

/// Blinding keeps those off who time many signatures; nobody does that here.
pub(super) const SEED: [u8; 32] = [0; 32];

fn sign_message(fields: &Fields<'_>) -> Result<Value, Mistake> {
    let message = fields.base64("message_b64")?;
    let now = Wall::from_unix(fields.time("now")?);
    let (domain, selector) = (name(fields, "domain")?, name(fields, "selector")?);
    let key = PrivateKey::parse(fields.text("key_pem")?)
        .map_err(|error| fields.mistake("key_pem", error))?;
    let mut options = SigningOptions::new(&domain, &selector);
    if let Some(text) = fields.optional_text("canonicalization")? {
        (options.header, options.body) = canonicalization(text).ok_or_else(|| {
            let right = "expected simple or relaxed, for the header and after / for the body";
            fields.mistake("canonicalization", right)
        })?;
    }
    let names = fields.optional_texts("headers")?;
    let chosen = names.as_deref().map(signed_fields);
    options.fields = chosen.as_deref().unwrap_or(DEFAULT_FIELDS);
    let (header, body) = cut(fields, &message)?;
    let hashed = HashedBody::of(body, &[options.body]);
    let mut out = Vec::new();
    sign(header, &hashed, now, &options, &key.signer(SEED), &mut out)
        .map_err(|error| Mistake::new("", error))?;
    Ok(json!({ "header": String::from_utf8_lossy(&out) }))
}

/// A name that comes again is over-signed.
pub(super) fn signed_fields<'a>(names: &[&'a str]) -> Vec<SignedField<'a>> {
    let again = |name: &str| {
        names
            .iter()
            .filter(|n| n.eq_ignore_ascii_case(name))
            .count()
            > 1
    };
    names
        .iter()
        .map(|&name| SignedField {
            name,
            over: again(name),
        })
        .collect()
}

pub(super) fn name(fields: &Fields<'_>, field: &str) -> Result<Name, Mistake> {
    let text = fields.text(field)?;
    Name::from_domain(text).map_err(|error| fields.mistake(field, error))
}

fn canonicalization(text: &str) -> Option<(Canon, Canon)> {
    match text.split_once('/') {
        Some((header, body)) => Some((
            Canon::parse(header.as_bytes())?,
            Canon::parse(body.as_bytes())?,
        )),
        None => Some((Canon::parse(text.as_bytes())?, Canon::Simple)),
    }
}
