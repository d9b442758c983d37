//! The kind `spf`.

use std::net::IpAddr;

use courser_core::auth::Evaluate;
use courser_core::auth::spf::{Check, Request};
use courser_core::time::Wall;
use serde_json::{Value, json};

use super::Kind;
use super::dns::Dns;
use super::fields::{Fields, Mistake};

/// Whether a client may send for a domain.
pub const KIND: Kind = Kind {
    name: "spf",
    help: r#"
Whether a client may send for a domain (RFC 7208).
in:  {ip, mail_from, helo, receiver?, now?, dns?}
     mail_from  without angle brackets; "" or null is the null reverse-path: helo counts then
     receiver   who asks, for the macro r of explanations
     now        unix time, for the macro t of explanations
out: {result, mechanism, explanation, lookups, void_lookups, error, domain, mechanism_domain,
      included, included_domain}
     result     none, neutral, pass, fail, softfail, temperror or permerror
     mechanism  the one that decided, as written, in the record of mechanism_domain
     error      why it is temperror or permerror, or none for what is no domain
     domain     what was checked
     included   the mechanism that passed behind an include, in the record of included_domain"#,
    evaluate,
};

fn evaluate(fields: &Fields<'_>) -> Result<Value, Mistake> {
    let ip: IpAddr = match fields.text("ip")?.parse() {
        Ok(ip) => ip,
        Err(_) => return Err(fields.mistake("ip", "expected an IPv4 or IPv6 address")),
    };
    let dns = Dns::of(fields)?;
    let request = Request {
        ip,
        mail_from: fields.optional_text("mail_from")?.unwrap_or(""),
        helo: fields.optional_text("helo")?.unwrap_or(""),
        receiver: fields.optional_text("receiver")?,
        now: Wall::from_unix(fields.optional_time("now")?.unwrap_or(0)),
        explain: true,
    };
    let report = Check::new(&request).run(|question| dns.answer(question));
    let (mechanism, included) = (report.mechanism.as_ref(), report.included.as_ref());
    Ok(json!({
        "result": report.result.as_str(),
        "mechanism": mechanism.map(|m| &m.term),
        "explanation": report.explanation,
        "lookups": report.lookups,
        "void_lookups": report.void_lookups,
        "error": report.error.map(|error| error.to_string()),
        "domain": report.domain,
        "mechanism_domain": mechanism.map(|m| &m.domain),
        "included": included.map(|m| &m.term),
        "included_domain": included.map(|m| &m.domain),
    }))
}
