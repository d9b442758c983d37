//! The kind `tlsrpt`.

use courser_core::route::tlsrpt::{ReadError, Record, Report};
use serde_json::{Value, json};

use super::Kind;
use super::fields::{Fields, Mistake};

/// What a TLS report or its record says.
pub const KIND: Kind = Kind {
    name: "tlsrpt",
    help: r#"
What a TLS report, or the record that asks for reports, says (RFC 8460). One of:
in:  {record}: the TXT record at _smtp._tls
out: {record: {version, rua: [URI]}}, or {error}
in:  {report}: an object, or its JSON as a text
     {report_b64}: its file in base64, gzipped or not
     {message_b64}: a mail that has it, in base64
out: {report: {organization-name, date-range, contact-info, report-id, policies}, omitted}, or
     {error}: as in RFC 8460 4.4, with one form for what senders write in several
     omitted  policies, failures and lines that were too many to be read"#,
    evaluate,
};

fn evaluate(fields: &Fields<'_>) -> Result<Value, Mistake> {
    if let Some(text) = fields.optional_text("record")? {
        let record = Record::parse(text.as_bytes());
        let record = record.map_err(|error| fields.mistake("record", error))?;
        let rua: Vec<&str> = record.rua.iter().map(|uri| uri.as_str()).collect();
        return Ok(json!({ "record": { "version": "TLSRPTv1", "rua": rua } }));
    }
    let (name, report) = match fields.get("report") {
        Some(Value::String(text)) => ("report", Report::read(text.as_bytes())),
        Some(value) => ("report", Report::read(value.to_string().as_bytes())),
        None if fields.get("report_b64").is_some() => {
            ("report_b64", Report::read(&fields.base64("report_b64")?))
        }
        None if fields.get("message_b64").is_some() => (
            "message_b64",
            Report::of_mail(&fields.base64("message_b64")?),
        ),
        None => {
            let right = "expected one of record, report, report_b64, message_b64";
            return Err(Mistake::new("", right));
        }
    };
    let report = report.map_err(|error: ReadError| fields.mistake(name, error))?;
    shown(&report).map_err(|error| fields.mistake(name, error))
}

/// The very JSON that a report of ours is.
fn shown(report: &Report) -> Result<Value, serde_json::Error> {
    let json: Value = serde_json::from_str(&report.to_json())?;
    Ok(json!({ "report": json, "omitted": report.omitted }))
}
