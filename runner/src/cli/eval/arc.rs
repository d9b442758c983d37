//! The kinds `arc` and `arc-seal`.

use courser_core::auth::Evaluate;
use courser_core::auth::arc::{ARC_FIELDS, ArcReport, ArcVerifier, seal};
use courser_core::auth::canon::Canon;
use courser_core::auth::dkim::{SigningOptions, Verifier};
use courser_core::auth::hash::HashedBody;
use courser_core::auth::results::Results;
use courser_core::mail::header::Header;
use courser_core::time::Wall;
use serde_json::{Value, json};

use super::Kind;
use super::dkim::{Signing, header_of, message};
use super::dns::Dns;
use super::fields::{Fields, Mistake};

/// Whether a chain is whole.
pub const VALIDATE: Kind = Kind {
    name: "arc",
    help: r#"
The ARC chain (RFC 8617) of a message.
in:  {message_b64, now, dns?}   as with the kind dkim
out: {result, instance, reason, sealers}
     result    none, pass or fail
     instance  of the latest set; 0 without one
     sealers   the domains whose seals were verified, the latest first"#,
    evaluate: validate,
};

/// One set more.
pub const SEAL: Kind = Kind {
    name: "arc-seal",
    help: r#"
One ARC set more for a message: its chain is validated first.
in:  {message_b64, now, dns?, authserv_id, domain, selector, key_pem, headers?, results?}
     results  what stands behind the authserv-id; without it what the message's own
              Authentication-Results of authserv_id say, or else what DKIM and ARC find
     headers  the fields that the message signature covers; without them the usual ones
out: {headers: [ARC-Authentication-Results, ARC-Message-Signature, ARC-Seal]}"#,
    evaluate: seal_it,
};

fn report(header: Header<'_>, body: &[u8], now: Wall, dns: &Dns) -> ArcReport {
    let mut verifier = ArcVerifier::new(header, now);
    verifier.update(body);
    verifier.finish().run(|question| dns.answer(question))
}

fn validate(fields: &Fields<'_>) -> Result<Value, Mistake> {
    let message = message(fields)?;
    let (header, body) = header_of(fields, &message)?;
    let dns = Dns::of(fields)?;
    let report = report(header, body, fields.time("now")?, &dns);
    let sealers: Vec<&str> = report.sealers.iter().map(|s| s.as_str()).collect();
    Ok(json!({
        "result": report.result.to_string(),
        "instance": report.instance,
        "reason": report.reason.to_string(),
        "sealers": sealers,
    }))
}

/// What the message's own fields say that `authserv_id` wrote.
fn own_results(header: Header<'_>, authserv_id: &str) -> Option<String> {
    let mut all = Vec::new();
    for field in header.fields().filter(|f| f.is("authentication-results")) {
        let value: Vec<u8> = field.unfolded().collect();
        let value = String::from_utf8_lossy(&value).into_owned();
        if let Ok(parsed) = Results::parse(&value)
            && parsed.is_of(authserv_id)
            && let Some((_, results)) = value.split_once(';')
        {
            all.push(results.trim().trim_end_matches(';').to_owned());
        }
    }
    (!all.is_empty()).then(|| all.join("; "))
}

fn seal_it(fields: &Fields<'_>) -> Result<Value, Mistake> {
    let message = message(fields)?;
    let (header, body) = header_of(fields, &message)?;
    let dns = Dns::of(fields)?;
    let now = fields.time("now")?;
    let authserv_id = fields.text("authserv_id")?;
    let signing = Signing::of(fields)?;
    let report = report(header, body, now, &dns);
    let results = match fields.optional_text("results")? {
        Some(given) => given.to_owned(),
        None => own_results(header, authserv_id).unwrap_or_else(|| {
            let mut verifier = Verifier::new(header, now);
            verifier.update(body);
            let dkim = verifier.finish().run(|question| dns.answer(question));
            let mut parts: Vec<String> = dkim
                .signatures
                .iter()
                .map(|s| {
                    let domain = s
                        .domain
                        .as_deref()
                        .map_or(String::new(), |d| format!(" header.d={d}"));
                    format!("dkim={}{domain}", s.status)
                })
                .collect();
            parts.push(format!("arc={}", report.result));
            parts.join("; ")
        }),
    };
    let hashed = HashedBody::of(body, &[Canon::Relaxed]);
    let mut options = SigningOptions::new(&signing.domain, &signing.selector);
    options.fields = signing.fields.as_deref().unwrap_or(ARC_FIELDS);
    let set = seal(
        header,
        &hashed,
        now,
        (authserv_id, &results),
        &report,
        &options,
        &signing.signer,
    )
    .map_err(|e| Mistake::new("", e))?;
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    Ok(json!({ "headers": [text(&set.results), text(&set.message), text(&set.seal)] }))
}
