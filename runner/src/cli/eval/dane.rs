//! The kind `dane`.

use courser_core::dns::{Name, Tlsa};
use courser_core::route::dane::{Peer, Verdict, judge};
use courser_core::time::Wall;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::Kind;
use super::fields::{Fields, Mistake};
use crate::net::path::WebPki;

/// Whether a chain is that of a host's TLSA records.
pub const KIND: Kind = Kind {
    name: "dane",
    help: r#"
Whether the certificates of a mail host are those of its TLSA records (RFC 7672, RFC 7671), which
DNSSEC is taken to vouch for.
in:  {host, tlsa, chain_pem, now, names?}
     host       the TLSA base domain: the name that the records are under, without _25._tcp
     tlsa       ["3 1 1 hex...", ...]
     chain_pem  certificates as the host sends them, its own first
     now        unix time at which they must be valid, for usage 2
     names      other names that its certificate may have, for usage 2: the domain that the mail
                is for
out: {result, matched, reason}
     result   pass, fail, unusable (no record can be used: TLS is enough, whoever the host is) or
              none (there are no records)
     matched  the record that it passed by, or null"#,
    evaluate,
};

fn evaluate(fields: &Fields<'_>) -> Result<Value, Mistake> {
    let host = name(fields, "host", fields.text("host")?)?;
    let mut records = Vec::new();
    for (n, text) in fields.texts("tlsa")?.into_iter().enumerate() {
        let right = "expected a TLSA record as \"3 1 1 hex\": usage, selector, matching type, data";
        let record = Tlsa::parse(text);
        records.push(record.ok_or_else(|| fields.mistake(&format!("tlsa[{n}]"), right))?);
    }
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(fields.text("chain_pem")?.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| {
                fields.mistake(
                    "chain_pem",
                    format_args!("expected certificates in PEM: {error}"),
                )
            })?;
    let now = Wall::from_unix(fields.time("now")?);
    let mut names = vec![host];
    for text in fields.optional_texts("names")?.unwrap_or_default() {
        names.push(name(fields, "names", text)?);
    }
    let chain: Vec<&[u8]> = chain.iter().map(|der| der.as_ref()).collect();
    let peer = Peer {
        chain: &chain,
        names: &names,
        now,
    };
    let verdict = judge(&peer, &records, &WebPki);
    let (result, matched) = match &verdict {
        Verdict::Pass(record) => ("pass", Some(record.to_string())),
        Verdict::Fail(_) => ("fail", None),
        Verdict::Unusable(_) => ("unusable", None),
        Verdict::NoRecords => ("none", None),
    };
    Ok(json!({ "result": result, "matched": matched, "reason": verdict.to_string() }))
}

fn name(fields: &Fields<'_>, field: &str, text: &str) -> Result<Name, Mistake> {
    Name::from_domain(text).map_err(|error| {
        fields.mistake(field, format_args!("expected the name of a host: {error}"))
    })
}
