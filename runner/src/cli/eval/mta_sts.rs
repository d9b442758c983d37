//! The kind `mta-sts`.

use courser_core::dns::Name;
use courser_core::route::mta_sts::{Policy, Record};
use serde_json::{Value, json};

use super::Kind;
use super::fields::{Fields, Mistake};

/// What a policy or its record says, and which hosts it allows.
pub const KIND: Kind = Kind {
    name: "mta-sts",
    help: r#"
What an MTA-STS policy or its record says, and which hosts it allows (RFC 8461).
in:  {policy_text?, txt?, mx?}: one of policy_text and txt, or both
     policy_text  the policy as it is served
     txt          the record at _mta-sts
     mx           host names, or one
out: {record, policy, mx}: null for what was not given
     record  {id}, or {error}
     policy  {version, mode, mx, max_age}, or {error}; max_age in seconds
     mx      [{host, matches}]: whether the policy allows the host, whatever its mode"#,
    evaluate,
};

fn evaluate(fields: &Fields<'_>) -> Result<Value, Mistake> {
    let txt = fields.optional_text("txt")?;
    let text = fields.optional_text("policy_text")?;
    if txt.is_none() && text.is_none() {
        return Err(Mistake::new("", "expected policy_text, txt, or both"));
    }
    let record = txt.map(|txt| match Record::parse(txt.as_bytes()) {
        Ok(record) => json!({ "id": record.id.as_str() }),
        Err(error) => json!({ "error": error.to_string() }),
    });
    let policy = text.map(|text| Policy::parse(text.as_bytes()));
    let mut hosts = Vec::new();
    for host in fields.optional_text_or_texts("mx")?.unwrap_or_default() {
        // As DNS and SMTP have it.
        let name = Name::from_domain(host).map_err(|error| {
            fields.mistake("mx", format_args!("expected the name of a host: {error}"))
        })?;
        let matches = policy.as_ref().map(|policy| {
            let allows = |policy: &Policy| policy.allows(&name);
            policy.as_ref().is_ok_and(allows)
        });
        hosts.push(json!({ "host": host, "matches": matches }));
    }
    let policy = policy.map(|policy| match policy {
        Ok(policy) => json!({
            "version": "STSv1",
            "mode": policy.mode.as_str(),
            "mx": policy.patterns(),
            "max_age": policy.max_age_s,
        }),
        Err(error) => json!({ "error": error.to_string() }),
    });
    Ok(json!({ "record": record, "policy": policy, "mx": hosts }))
}
