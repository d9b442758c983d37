//! The kind `auth-results`.

use courser_core::auth::results::{FIELD_NAME, MethodResult, Results};
use serde_json::{Value, json};

use super::Kind;
use super::fields::{Fields, Mistake};

/// What an Authentication-Results field says.
pub const KIND: Kind = Kind {
    name: "auth-results",
    help: r#"
What a field Authentication-Results says (RFC 8601).
in:  {header}: the field with or without its name, folded or not
out: {authserv_id, version, results: [{method, version, result, comment, reason,
      properties: [{ptype, property, value}]}]}, or {error}"#,
    evaluate,
};

fn evaluate(fields: &Fields<'_>) -> Result<Value, Mistake> {
    let value = value_of(fields.text("header")?);
    let results = Results::parse(value).map_err(|error| fields.mistake("header", error))?;
    Ok(json!({
        "authserv_id": results.authserv_id,
        "version": results.version,
        "results": results.results.iter().map(result).collect::<Vec<_>>(),
    }))
}

/// What follows the name of the field, if it is there.
fn value_of(header: &str) -> &str {
    match header.split_once(':') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case(FIELD_NAME) => value,
        _ => header,
    }
}

fn result(result: &MethodResult) -> Value {
    let properties = result.properties.iter().map(|p| {
        let ptype = (!p.ptype.is_empty()).then_some(&p.ptype);
        json!({ "ptype": ptype, "property": p.property, "value": p.value })
    });
    json!({
        "method": result.method,
        "version": result.method_version,
        "result": result.result,
        "comment": result.comment,
        "reason": result.reason,
        "properties": properties.collect::<Vec<_>>(),
    })
}
