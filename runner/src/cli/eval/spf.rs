//! The kind `spf`.

use std::net::IpAddr;

use courser_core::auth::Evaluate;
use courser_core::auth::spf::{Check, Request};
use courser_core::time::Wall;
use serde_json::{Value, json};

use super::Kind;
use super::dns::Dns;
use super::fields::{Fields, Mistake};

/// What SPF makes of a client.
pub const KIND: Kind = Kind {
    name: "spf",
    help: r#"
SPF (RFC 7208) of a client that says MAIL FROM:<mail_from>.
in:  {ip, mail_from, helo, receiver?, dns?, now?}
     mail_from  "" for the null reverse-path: then helo is checked
     receiver   our name, for the macro %{r}
     now        for the macro %{t}, as with the kind dkim
out: {result, mechanism, explanation, lookups, void_lookups, error, domain, record_domain}
     result         none, neutral, pass, fail, softfail, temperror or permerror
     mechanism      which one matched, as it is written in the record of record_domain
     explanation    of a fail, where the domain gives one
     lookups        terms that asked DNS; 10 are allowed, and 2 void ones
     error          why none, temperror or permerror, in words
     domain         which one was checked"#,
    evaluate,
};

fn evaluate(fields: &Fields<'_>) -> Result<Value, Mistake> {
    let ip = fields.text("ip")?;
    let ip: IpAddr = ip.parse().map_err(|_| {
        fields.mistake(
            "ip",
            format_args!("{ip:?} is no IP address, such as \"192.0.2.1\""),
        )
    })?;
    let dns = Dns::of(fields)?;
    let request = Request {
        ip,
        mail_from: fields.text("mail_from")?,
        helo: fields.text("helo")?,
        receiver: fields.optional_text("receiver")?,
        now: fields.optional_time("now")?.unwrap_or(Wall::from_unix(0)),
        explain: true,
    };
    let report = Check::new(&request).run(|question| dns.answer(question));
    Ok(json!({
        "result": report.result.as_str(),
        "mechanism": report.mechanism.as_ref().map(|m| m.term.to_string()),
        "explanation": report.explanation,
        "lookups": report.lookups,
        "void_lookups": report.void_lookups,
        "error": report.error.as_ref().map(ToString::to_string),
        "domain": report.domain,
        "record_domain": report.mechanism.as_ref().map(|m| m.domain.to_string()),
    }))
}
