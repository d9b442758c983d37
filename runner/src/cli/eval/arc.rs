//! The kinds `arc` and `arc-seal`.

use courser_core::auth::Evaluate;
use courser_core::auth::arc::{ARC_FIELDS, ArcReport, ArcVerifier, seal};
use courser_core::auth::dkim::{HashedBody, PrivateKey, SigningOptions};
use courser_core::auth::results::{FIELD_NAME, MethodResult, Results};
use courser_core::mail::header::Header;
use courser_core::time::Wall;
use serde_json::{Value, json};

use super::Kind;
use super::dkim::{SEED, cut, name, signed_fields};
use super::dns::Dns;
use super::fields::{Fields, Mistake};

/// Whether the chain of a message is whole.
pub const VALIDATE: Kind = Kind {
    name: "arc",
    help: r#"
Whether the ARC chain of a message is whole (RFC 8617 5.2).
in:  {message_b64, now, dns?}
out: {result, instance, reason, sealers}
     result    none, pass or fail
     instance  the highest one; 0 without a chain
     sealers   d= of the seals that were verified, the latest first"#,
    evaluate: validate,
};

/// Adds to the chain of a message.
pub const SEAL: Kind = Kind {
    name: "arc-seal",
    help: r#"
Validates the ARC chain of a message and adds a set to it (RFC 8617 5.1).
in:  {message_b64, now, dns?, authserv_id, domain, selector, key_pem, headers?}
     authserv_id  what the message's fields Authentication-Results of this id say is sealed,
                  and arc= if none of them says it
     headers      as for dkim-sign
out: {headers: [ARC-Authentication-Results, ARC-Message-Signature, ARC-Seal]}: each with its
     line ends"#,
    evaluate: seal_message,
};

fn validate(fields: &Fields<'_>) -> Result<Value, Mistake> {
    let message = fields.base64("message_b64")?;
    let now = Wall::from_unix(fields.time("now")?);
    let dns = Dns::of(fields)?;
    let (header, body) = cut(fields, &message)?;
    let report = report(header, body, now, &dns);
    let sealers: Vec<&str> = report.sealers.iter().map(|name| name.as_str()).collect();
    Ok(json!({
        "result": report.result.to_string(),
        "instance": report.instance,
        "reason": report.reason.to_string(),
        "sealers": sealers,
    }))
}

fn report(header: Header<'_>, body: &[u8], now: Wall, dns: &Dns) -> ArcReport {
    let mut verifier = ArcVerifier::new(header, now);
    verifier.update(body);
    verifier.finish().run(|question| dns.answer(question))
}

fn seal_message(fields: &Fields<'_>) -> Result<Value, Mistake> {
    let message = fields.base64("message_b64")?;
    let now = Wall::from_unix(fields.time("now")?);
    let dns = Dns::of(fields)?;
    let authserv_id = fields.text("authserv_id")?;
    let (domain, selector) = (name(fields, "domain")?, name(fields, "selector")?);
    let key = PrivateKey::parse(fields.text("key_pem")?)
        .map_err(|error| fields.mistake("key_pem", error))?;
    let names = fields.optional_texts("headers")?;
    let chosen = names.as_deref().map(signed_fields);
    let mut options = SigningOptions::new(&domain, &selector);
    options.fields = chosen.as_deref().unwrap_or(ARC_FIELDS);
    let (header, body) = cut(fields, &message)?;
    let report = report(header, body, now, &dns);
    let results = found_here(header, authserv_id, &report);
    let set = seal(
        header,
        &HashedBody::of(body, &[options.body]),
        now,
        (authserv_id, &results),
        &report,
        &options,
        &key.signer(SEED),
    )
    .map_err(|error| Mistake::new("", error))?;
    let headers = [set.results, set.message, set.seal];
    let headers = headers.map(|field| String::from_utf8_lossy(&field).into_owned());
    Ok(json!({ "headers": headers }))
}

/// What our own fields say, behind the id (RFC 8617 4.1.1).
fn found_here(header: Header<'_>, authserv_id: &str, report: &ArcReport) -> String {
    let mut all = Results {
        authserv_id: "here".into(),
        ..Results::default()
    };
    for field in header.fields().filter(|field| field.is(FIELD_NAME)) {
        let value = std::str::from_utf8(field.value()).ok();
        let results = value.and_then(|value| Results::parse(value).ok());
        if let Some(results) = results.filter(|results| results.is_of(authserv_id)) {
            all.results.extend(results.results);
        }
    }
    if !all.results.iter().any(|result| result.method == "arc") {
        let arc = MethodResult::new("arc", report.result.to_string());
        all.results.push(arc);
    }
    let text = all.to_string();
    text.strip_prefix("here; ").unwrap_or("").to_owned()
}
