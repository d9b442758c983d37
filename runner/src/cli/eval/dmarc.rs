//! The kind `dmarc`.

use courser_core::auth::Evaluate;
use courser_core::auth::dmarc::{
    AuthorError, Checked, Discovery, Evaluation, Identifier, Options, Policy, Reason, author_of,
};
use courser_core::dns::Name;
use serde_json::{Value, json};

use super::Kind;
use super::dns::Dns;
use super::fields::{Fields, Mistake};

/// What DMARC makes of a message.
pub const KIND: Kind = Kind {
    name: "dmarc",
    help: r#"
DMARC (RFC 9989, RFC 7489) of a message for which SPF and DKIM found this.
in:  {from, spf?: {result, domain}, dkim?: [{result, domain}], dns?, discovery?, sample?}
     from       a domain, an address, or the value of a From field
     spf        the domain of MAIL FROM, or of HELO if that is null
     dkim       the d= of each signature
     result     none, neutral, pass, fail, softfail, policy, temperror or permerror
     discovery  "tree-walk" (RFC 9989, the default) or "psl": by the public suffix list, with
                pct instead of t (RFC 7489)
     sample     0 (the default) to 99: pct=N applies its policy to what is below N
out: {result, policy, disposition, org_domain, record, reason, record_domain, faults,
      spf_aligned, dkim_aligned}
     result       none, pass, fail, temperror or permerror
     policy       what the record asks for such mail, if it fails
     disposition  what it asks for this message
     faults       what in the record doesn't count"#,
    evaluate,
};

/// What SPF and DKIM can find (RFC 8601 2.7), as far as DMARC cares.
const RESULTS: [(&str, Checked); 9] = [
    ("pass", Checked::Pass),
    ("fail", Checked::Fail),
    ("none", Checked::Fail),
    ("neutral", Checked::Fail),
    ("softfail", Checked::Fail),
    ("hardfail", Checked::Fail),
    ("policy", Checked::Fail),
    ("temperror", Checked::TempError),
    ("permerror", Checked::Fail),
];

const DISCOVERIES: [(&str, Discovery); 2] = [
    ("tree-walk", Discovery::TreeWalk),
    ("psl", Discovery::PublicSuffixList),
];

fn evaluate(fields: &Fields<'_>) -> Result<Value, Mistake> {
    let author = author(fields)?;
    let spf = match fields.optional_object("spf")? {
        Some(spf) => identifier(&spf)?,
        None => None,
    };
    let mut dkim = Vec::new();
    for signature in fields.objects("dkim")? {
        dkim.extend(identifier(&signature)?);
    }
    let dns = Dns::of(fields)?;
    let discovery = fields.optional_word("discovery", &DISCOVERIES)?;
    let sample = fields.optional_number("sample", 99)?.unwrap_or(0);
    let options = Options {
        discovery: discovery.unwrap_or_default(),
        sample: u8::try_from(sample).unwrap_or(0),
    };
    let mut evaluation = Evaluation::new(author, spf, dkim, options);
    let conclusion = evaluation.run(|question| dns.answer(question));

    let (spf_aligned, dkim_aligned) = match &conclusion.reason {
        Reason::Aligned { spf, dkim } => (spf.is_some(), dkim.is_some()),
        _ => (false, false),
    };
    let found = conclusion.found.as_ref();
    let faults = found.map(|f| f.faults.iter().map(ToString::to_string).collect::<Vec<_>>());
    Ok(json!({
        "result": conclusion.result.as_str(),
        "policy": conclusion.policy.map(Policy::as_str),
        "disposition": conclusion.disposition.as_str(),
        "org_domain": conclusion.org_domain.as_deref(),
        "record": found.map(|f| &*f.text),
        "reason": conclusion.reason.to_string(),
        "record_domain": found.map(|f| f.domain.as_str()),
        "faults": faults.unwrap_or_default(),
        "spf_aligned": spf_aligned,
        "dkim_aligned": dkim_aligned,
    }))
}

/// A domain as it is, anything else as From has it.
fn author(fields: &Fields<'_>) -> Result<Result<Name, AuthorError>, Mistake> {
    let from = fields.text("from")?;
    Ok(match Name::from_domain(from.trim()) {
        Ok(name) if !name.is_root() => Ok(name),
        _ => author_of(from),
    })
}

/// `None` for a result without a domain, as SPF's none has.
fn identifier(fields: &Fields<'_>) -> Result<Option<Identifier>, Mistake> {
    let checked = fields.word("result", &RESULTS)?;
    let domain = fields.optional_text("domain")?.unwrap_or("");
    match Name::from_domain(domain) {
        Ok(domain) => Ok(Some(Identifier { domain, checked })),
        Err(_) if checked == Checked::Fail => Ok(None),
        Err(error) => {
            let what = format!("expected the domain that was checked: {error}");
            Err(fields.mistake("domain", what))
        }
    }
}
