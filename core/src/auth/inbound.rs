//! Mail that comes in: what a message must not bring along, and what is written on top of it.
//!
//! The order: [`dropped`] (or [`kept`]) takes out of the header what passes itself off as ours;
//! SPF, DKIM and ARC are checked as their modules say, on the message as it came; DMARC with the
//! [`Checks::identifiers`] of the first two; [`Checks::results`] says all of it in one field.
//!
//! ```
//! use courser_core::auth::inbound::{Checks, SpfChecked, kept};
//! use courser_core::auth::{Evaluate, dkim, dmarc, spf};
//! use courser_core::dns::{Name, Outcome, Question, Records};
//! use courser_core::mail::header::Header;
//! use courser_core::time::Wall;
//!
//! let message = b"Authentication-Results: MX.example.net; dkim=pass header.d=bank.example\r\n\
//!     From: ann@example.org\r\n\
//!     \r\n\
//!     Hello\r\n";
//! let ask = |question: &Question| match question.name.as_str() {
//!     "example.org" => Outcome::Found(Records::Txt([(*b"v=spf1 ip4:192.0.2.7").into()].into())),
//!     "_dmarc.example.org" => Outcome::Found(Records::Txt([(*b"v=DMARC1; p=reject").into()].into())),
//!     _ => Outcome::NoName,
//! };
//! let now = Wall::from_unix(1_790_000_000);
//! let (header, body) = Header::of(message).unwrap();
//!
//! let request = spf::Request {
//!     ip: [192, 0, 2, 7].into(),
//!     mail_from: "ann@example.org",
//!     helo: "out.example.org",
//!     receiver: None,
//!     now,
//!     explain: false,
//! };
//! let spf = spf::Check::new(&request).run(ask);
//! let mut verifier = dkim::Verifier::new(header, now);
//! verifier.update(body);
//! let dkim = verifier.finish().run(ask);
//! let mut checks = Checks {
//!     spf: Some(SpfChecked { report: &spf, mail_from: request.mail_from, helo: request.helo }),
//!     dkim: Some(&dkim),
//!     ..Checks::default()
//! };
//! let (by_spf, by_dkim) = checks.identifiers();
//! let options = dmarc::Options::default();
//! let dmarc = dmarc::Evaluation::new(dmarc::author(header), by_spf, by_dkim, options).run(ask);
//! checks.dmarc = Some(&dmarc);
//!
//! let mut field = String::new();
//! checks.results("mx.example.net").write(&mut field).unwrap();
//! assert_eq!(
//!     field,
//!     "Authentication-Results: mx.example.net;\r\n\
//!      \tspf=pass (ip4:192.0.2.7 in the SPF record of example.org)\r\n\
//!      \tsmtp.mailfrom=ann@example.org;\r\n\
//!      \tdkim=none;\r\n\
//!      \tdmarc=pass (p=reject dis=none) header.from=example.org polrec.p=reject\r\n"
//! );
//! let header: Vec<u8> = kept(header, &["mx.example.net"]).flatten().copied().collect();
//! assert_eq!(header, b"From: ann@example.org\r\n");
//! ```

use alloc::string::ToString;
use alloc::vec::Vec;
use core::ops::Range;

use super::arc::{ArcReport, Chain};
use super::dmarc::{Checked, Conclusion, Identifier};
use super::results::{FIELD_NAME, MethodResult, Results, may_be_of};
use super::{dkim, spf};
use crate::dns::Name;
use crate::mail::header::{Header, Line};

// -- what must go --

/// Why a part of a header must go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Why {
    /// Authentication-Results that may be taken for ours (RFC 8601 5); see
    /// [`may_be_of`].
    Results,
    /// The first line begins with a blank: it would go on with the field that we put on top of
    /// it.
    Continuation,
    /// Authentication-Results behind a CR without LF, where some readers see a line end
    /// (RFC 5322 2.3 forbids it).
    Hidden,
}

/// The parts of the header of a message from outside that must go before our own fields are put on
/// top, in order: where they lie in [`Header::as_bytes`], whole lines with their continuations, and
/// why. `ours` are the authserv-ids that readers of our results trust.
///
/// Signatures are verified on the message as it came: they may cover what goes.
pub fn dropped<'a>(
    header: Header<'a>,
    ours: &'a [&'a str],
) -> impl Iterator<Item = (Range<usize>, Why)> + 'a {
    let mut end = 0;
    header.lines().filter_map(move |line| {
        let raw = match &line {
            Line::Field(field) => field.raw(),
            Line::Junk(raw) => raw,
        };
        let start = end;
        end += raw.len();
        let why = match &line {
            _ if start == 0 && raw.starts_with(b" ") => Why::Continuation,
            _ if start == 0 && raw.starts_with(b"\t") => Why::Continuation,
            Line::Field(f) if f.is(FIELD_NAME) && may_be_of(f.value(), ours) => Why::Results,
            _ if hides_results(raw) => Why::Hidden,
            _ => return None,
        };
        Some((start..end, why))
    })
}

/// What [`dropped`] leaves of the header, in pieces that lie apart.
pub fn kept<'a>(header: Header<'a>, ours: &'a [&'a str]) -> impl Iterator<Item = &'a [u8]> + 'a {
    let bytes = header.as_bytes();
    let end = bytes.len()..bytes.len();
    let gaps = dropped(header, ours).map(|(range, _)| range);
    let mut from = 0;
    gaps.chain([end]).filter_map(move |gap| {
        let piece = bytes.get(from..gap.start)?;
        from = gap.end;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Whether behind a bare CR there is a field Authentication-Results, whoever's.
fn hides_results(raw: &[u8]) -> bool {
    raw.split(|b| *b == b'\r').skip(1).any(|rest| {
        let name = rest.split_at_checked(FIELD_NAME.len());
        name.is_some_and(|(name, rest)| {
            name.eq_ignore_ascii_case(FIELD_NAME.as_bytes())
                && rest.trim_ascii_start().first() == Some(&b':')
        })
    })
}

// -- what is written --

/// An SPF check and what it was of.
#[derive(Clone, Copy, Debug)]
pub struct SpfChecked<'a> {
    /// What came of it.
    pub report: &'a spf::Report,
    /// The address in MAIL FROM, without brackets; empty for the null reverse-path.
    pub mail_from: &'a str,
    /// The name in HELO or EHLO.
    pub helo: &'a str,
}

/// What was found of a message; what is `None` was not checked, and isn't written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checks<'a> {
    /// By SPF.
    pub spf: Option<SpfChecked<'a>>,
    /// By DKIM.
    pub dkim: Option<&'a dkim::Report>,
    /// By ARC.
    pub arc: Option<&'a ArcReport>,
    /// By DMARC.
    pub dmarc: Option<&'a Conclusion>,
    /// Whether the message may have a header beyond ASCII (RFC 6532): it came with SMTPUTF8. If
    /// not, values beyond ASCII are left out.
    pub utf8: bool,
}

impl<'a> Checks<'a> {
    /// What SPF and DKIM found, for [`Evaluation::new`](super::dmarc::Evaluation::new).
    ///
    /// A signature whose key says that the domain only tests DKIM counts as none (RFC 6376 3.6.1).
    pub fn identifiers(
        &self,
    ) -> (
        Option<Identifier>,
        impl Iterator<Item = Identifier> + use<'a>,
    ) {
        let spf = self.spf.and_then(|spf| {
            let checked = match spf.report.result {
                spf::Result::Pass => Checked::Pass,
                spf::Result::TempError => Checked::TempError,
                _ => Checked::Fail,
            };
            let domain = Name::from_domain(&spf.report.domain).ok()?;
            Some(Identifier { domain, checked })
        });
        let signatures = self.dkim.into_iter().flat_map(|dkim| &dkim.signatures);
        let dkim = signatures.filter_map(|signature| {
            let checked = match signature.status {
                _ if signature.testing => Checked::Fail,
                dkim::Status::Pass => Checked::Pass,
                dkim::Status::TempError => Checked::TempError,
                _ => Checked::Fail,
            };
            let domain = signature.domain.clone()?;
            Some(Identifier { domain, checked })
        });
        (spf, dkim)
    }

    /// The field that says all of it (RFC 8601), of `authserv_id`; see [`Results::write`].
    pub fn results(&self, authserv_id: &str) -> Results {
        let mut results: Vec<MethodResult> = Vec::new();
        results.extend(self.spf.map(|checked| of_spf(&checked)));
        if let Some(report) = self.dkim {
            results.extend(of_dkim(report));
        }
        results.extend(self.arc.map(of_arc));
        results.extend(self.dmarc.map(of_dmarc));
        if !self.utf8 {
            results.iter_mut().for_each(to_ascii);
        }
        Results {
            authserv_id: authserv_id.into(),
            results,
            ..Results::default()
        }
    }
}

/// RFC 8601 2.7.2. A domain's own explanation is a stranger's words, and has no place here.
fn of_spf(checked: &SpfChecked<'_>) -> MethodResult {
    let report = checked.report;
    let mut result = MethodResult::new("spf", report.result.as_str());
    if let Some(mechanism) = &report.mechanism {
        result = result.comment(mechanism.to_string());
    }
    if let Some(error) = &report.error {
        result = result.reason(error.to_string());
    }
    match checked.mail_from {
        "" => result.property("smtp", "helo", checked.helo),
        mail_from => result.property("smtp", "mailfrom", mail_from),
    }
}

/// RFC 8601 2.7.1, one for each signature.
fn of_dkim(report: &dkim::Report) -> impl Iterator<Item = MethodResult> {
    let none = report.signatures.is_empty() && report.not_evaluated == 0;
    let rest = (report.not_evaluated > 0).then(|| {
        let reason = alloc::format!(
            "{} more signatures were not looked at",
            report.not_evaluated
        );
        MethodResult::new("dkim", dkim::Status::Policy.to_string()).reason(reason)
    });
    let signatures = report.signatures.iter().map(of_signature);
    let none = none.then(|| MethodResult::new("dkim", dkim::Status::None.to_string()));
    signatures.chain(rest).chain(none)
}

fn of_signature(signature: &dkim::Verdict) -> MethodResult {
    let mut result = MethodResult::new("dkim", signature.status.to_string());
    if signature.testing {
        result = result.comment("the domain only tests DKIM: t=y");
    }
    if signature.status != dkim::Status::Pass {
        result = result.reason(signature.reason.to_string());
    }
    let algorithm = signature.algorithm.map(|a| a.to_string());
    for (property, value) in [
        ("d", signature.domain.as_deref()),
        ("i", signature.identity.as_deref()),
        ("s", signature.selector.as_deref()),
        ("a", algorithm.as_deref()),
        // RFC 6008: it tells signatures apart.
        ("b", Some(&*signature.tag).filter(|tag| !tag.is_empty())),
    ] {
        if let Some(value) = value {
            result = result.property("header", property, value);
        }
    }
    result
}

/// RFC 8617 10.2.
fn of_arc(report: &ArcReport) -> MethodResult {
    let mut result = MethodResult::new("arc", report.result.to_string());
    if report.instance > 0 {
        result = result.comment(alloc::format!("i={}", report.instance));
    }
    match report.result {
        Chain::Fail => result.reason(report.reason.to_string()),
        _ => result,
    }
}

/// RFC 9989 9.1, with what its policy asks for such mail and for this message.
fn of_dmarc(conclusion: &Conclusion) -> MethodResult {
    let result = MethodResult::from(conclusion);
    match conclusion.policy {
        Some(p) => result.comment(alloc::format!("p={p} dis={}", conclusion.disposition)),
        None => result,
    }
}

/// Leaves out what only a header in UTF-8 may have.
fn to_ascii(result: &mut MethodResult) {
    let plain = |c: char| if c.is_ascii() { c } else { '?' };
    for text in [&mut result.comment, &mut result.reason] {
        if let Some(text) = text.as_mut().filter(|text| !text.is_ascii()) {
            *text = text.chars().map(plain).collect();
        }
    }
    result.properties.retain(|p| p.value.is_ascii());
}

#[cfg(test)]
mod tests;
