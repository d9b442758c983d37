//! What a report says (RFC 8460 4.3, 4.4).

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use crate::dns::{Name, Tlsa};
use crate::limits::{TLSRPT_LINES_MAX, TLSRPT_TEXT_BYTES_MAX};
use crate::route::dane::{DaneFault, PathFault};
use crate::route::mta_sts::{Policy, ResponseError};
use crate::smtp::rfc3339::Utc;
use crate::time::Wall;

/// Which kind of policy sessions were judged by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyType {
    /// `tlsa`: DANE.
    Tlsa,
    /// `sts`: MTA-STS.
    Sts,
    /// `no-policy-found`.
    NoPolicyFound,
    /// What the RFC doesn't know, as it was written.
    Other(Box<str>),
}

impl PolicyType {
    /// By its word.
    pub fn parse(word: &str) -> Self {
        let known = [Self::Tlsa, Self::Sts, Self::NoPolicyFound];
        let found = known.into_iter().find(|known| known.as_str() == word);
        found.unwrap_or_else(|| Self::Other(word.into()))
    }

    /// Its word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tlsa => "tlsa",
            Self::Sts => "sts",
            Self::NoPolicyFound => "no-policy-found",
            Self::Other(word) => word,
        }
    }
}

impl fmt::Display for PolicyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a session failed (RFC 8460 4.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResultType {
    /// The host doesn't offer STARTTLS (4.3.1).
    StarttlsNotSupported,
    /// The certificate is for other names (4.3.1).
    CertificateHostMismatch,
    /// The certificate has expired (4.3.1).
    CertificateExpired,
    /// The certificate leads to nobody that is trusted (4.3.1).
    CertificateNotTrusted,
    /// Any other failure to negotiate TLS (4.3.1).
    ValidationFailure,
    /// No TLSA record could be used (4.3.2.1).
    TlsaInvalid,
    /// No DNSSEC answer could be validated (4.3.2.1).
    DnssecInvalid,
    /// The sender wants DANE of everybody, and the domain has none (4.3.2.1).
    DaneRequired,
    /// The policy could not be fetched (4.3.2.2).
    StsPolicyFetchError,
    /// The policy could not be read (4.3.2.2).
    StsPolicyInvalid,
    /// The policy's web server could not be authenticated (4.3.2.2).
    StsWebpkiInvalid,
    /// What the RFC doesn't know, as it was written.
    Other(Box<str>),
}

impl ResultType {
    /// All that the RFC knows.
    pub const KNOWN: [Self; 11] = [
        Self::StarttlsNotSupported,
        Self::CertificateHostMismatch,
        Self::CertificateExpired,
        Self::CertificateNotTrusted,
        Self::ValidationFailure,
        Self::TlsaInvalid,
        Self::DnssecInvalid,
        Self::DaneRequired,
        Self::StsPolicyFetchError,
        Self::StsPolicyInvalid,
        Self::StsWebpkiInvalid,
    ];

    /// By its word.
    pub fn parse(word: &str) -> Self {
        let found = Self::KNOWN.into_iter().find(|known| known.as_str() == word);
        found.unwrap_or_else(|| Self::Other(word.into()))
    }

    /// Its word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::StarttlsNotSupported => "starttls-not-supported",
            Self::CertificateHostMismatch => "certificate-host-mismatch",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateNotTrusted => "certificate-not-trusted",
            Self::ValidationFailure => "validation-failure",
            Self::TlsaInvalid => "tlsa-invalid",
            Self::DnssecInvalid => "dnssec-invalid",
            Self::DaneRequired => "dane-required",
            Self::StsPolicyFetchError => "sts-policy-fetch-error",
            Self::StsPolicyInvalid => "sts-policy-invalid",
            Self::StsWebpkiInvalid => "sts-webpki-invalid",
            Self::Other(word) => word,
        }
    }
}

impl fmt::Display for ResultType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Of a chain that DANE refuses. That no record is about it is no fault of the records, so it is not
/// `tlsa-invalid`.
impl From<&DaneFault> for ResultType {
    fn from(fault: &DaneFault) -> Self {
        match fault {
            DaneFault::Names { .. } => Self::CertificateHostMismatch,
            DaneFault::Path(PathFault::Expired) => Self::CertificateExpired,
            DaneFault::Path(_) => Self::CertificateNotTrusted,
            DaneFault::NoCertificate | DaneFault::Malformed | DaneFault::NoMatch => {
                Self::ValidationFailure
            }
        }
    }
}

/// Of a web server that has no policy.
impl From<&ResponseError> for ResultType {
    fn from(error: &ResponseError) -> Self {
        match error {
            ResponseError::Policy(_) => Self::StsPolicyInvalid,
            ResponseError::Status(_) | ResponseError::MediaType(_) => Self::StsPolicyFetchError,
        }
    }
}

/// The policy that sessions were judged by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppliedPolicy {
    /// Its kind.
    pub kind: PolicyType,
    /// Whose it is: of MTA-STS the domain, of DANE the TLSA base domain (RFC 8460 1.1); empty where
    /// a report doesn't say.
    pub domain: String,
    /// The policy itself: lines of MTA-STS, TLSA records as zone files have them.
    pub lines: Vec<String>,
    /// The patterns of hosts of MTA-STS.
    pub mx: Vec<String>,
}

impl AppliedPolicy {
    /// A policy of which nothing more is said.
    pub fn new(kind: PolicyType, domain: &Name) -> Self {
        Self {
            kind,
            domain: domain.to_string(),
            lines: Vec::new(),
            mx: Vec::new(),
        }
    }

    /// The MTA-STS policy of `domain`.
    pub fn sts(domain: &Name, policy: &Policy) -> Self {
        Self {
            lines: policy.lines(),
            mx: policy.patterns(),
            ..Self::new(PolicyType::Sts, domain)
        }
    }

    /// The TLSA records under `base`; of a whole certificate the first part.
    pub fn tlsa(base: &Name, records: &[Tlsa]) -> Self {
        let line = |record: &Tlsa| {
            let mut line = record.to_string();
            line.truncate(TLSRPT_TEXT_BYTES_MAX);
            line
        };
        Self {
            lines: records.iter().take(TLSRPT_LINES_MAX).map(line).collect(),
            ..Self::new(PolicyType::Tlsa, base)
        }
    }
}

/// How and where sessions failed. What is not known is left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Failure {
    /// How.
    pub result: ResultType,
    /// The sender's address.
    pub sending_mta_ip: Option<IpAddr>,
    /// The host by its name in the MX record.
    pub receiving_mx_hostname: Option<String>,
    /// The name that it has for itself in its greeting.
    pub receiving_mx_helo: Option<String>,
    /// Its address.
    pub receiving_ip: Option<IpAddr>,
    /// A URI that has more.
    pub additional_information: Option<String>,
    /// The TLS library's word for it.
    pub failure_reason_code: Option<String>,
}

impl Failure {
    /// A failure of which nothing more is known.
    pub fn new(result: ResultType) -> Self {
        Self {
            result,
            sending_mta_ip: None,
            receiving_mx_hostname: None,
            receiving_mx_helo: None,
            receiving_ip: None,
            additional_information: None,
            failure_reason_code: None,
        }
    }
}

/// Sessions that failed in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureDetail {
    /// How.
    pub failure: Failure,
    /// How many.
    pub sessions: u64,
}

/// What became of the sessions under one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyReport {
    /// The policy.
    pub policy: AppliedPolicy,
    /// Sessions that it let pass.
    pub successes: u64,
    /// Sessions that failed it.
    pub failures: u64,
    /// Of these, how and where.
    pub details: Vec<FailureDetail>,
}

/// A report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Who sends it.
    pub organization: Option<String>,
    /// Whom to ask about it, an address.
    pub contact: Option<String>,
    /// Tells it from all others of who sends it; empty where it doesn't say.
    pub id: String,
    /// The first second that it is about.
    pub start: Option<Wall>,
    /// The last one.
    pub end: Option<Wall>,
    /// Policies, at most [`TLSRPT_POLICIES_MAX`](crate::limits::TLSRPT_POLICIES_MAX).
    pub policies: Vec<PolicyReport>,
    /// Policies, failures and lines of policies that were too many to be read. Not written.
    pub omitted: u64,
}

impl Report {
    /// What the file of the report about `domain` by `submitter` is called, gzipped (RFC 8460 5.1).
    /// The id stands in it as far as it is made of letters, digits, `.`, `-` and `_`.
    pub fn file_name(&self, submitter: &Name, domain: &Name) -> String {
        let unix = |time: Option<Wall>| time.map_or(0, Wall::unix);
        let (start, end) = (unix(self.start), unix(self.end));
        let id = self.id.split('@').next().unwrap_or("");
        let right = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let id: String = id.chars().filter(right).collect();
        let separator = if id.is_empty() { "" } else { "!" };
        alloc::format!("{submitter}!{domain}!{start}!{end}{separator}{id}.json.gz")
    }

    /// The first and the last second, as JSON has them.
    pub(super) fn utc(time: Wall) -> String {
        Utc(time).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::mta_sts::read_response;
    use alloc::borrow::ToOwned;

    #[test]
    fn words() {
        for known in ResultType::KNOWN {
            assert_eq!(ResultType::parse(known.as_str()), known);
        }
        for known in [PolicyType::Tlsa, PolicyType::Sts, PolicyType::NoPolicyFound] {
            assert_eq!(PolicyType::parse(known.as_str()), known);
        }
        assert_eq!(ResultType::parse("x").to_string(), "x");
        assert_eq!(PolicyType::parse("STS").to_string(), "STS");
    }

    #[test]
    fn what_failures_are_called() {
        let names = DaneFault::Names {
            has: "a".into(),
            wants: "b".into(),
        };
        for (fault, expected) in [
            (names, "certificate-host-mismatch"),
            (DaneFault::Path(PathFault::Expired), "certificate-expired"),
            (
                DaneFault::Path(PathFault::NotYetValid),
                "certificate-not-trusted",
            ),
            (
                DaneFault::Path(PathFault::NotTrusted),
                "certificate-not-trusted",
            ),
            (DaneFault::NoMatch, "validation-failure"),
        ] {
            assert_eq!(ResultType::from(&fault).as_str(), expected);
        }
        for (status, kind, expected) in [
            (404, "text/plain", "sts-policy-fetch-error"),
            (200, "text/html", "sts-policy-fetch-error"),
            (200, "text/plain", "sts-policy-invalid"),
        ] {
            let error = read_response(status, Some(kind), b"").unwrap_err();
            assert_eq!(ResultType::from(&error).as_str(), expected);
        }
    }

    #[test]
    fn policies() {
        let domain = Name::parse("Example.net").unwrap();
        let policy =
            Policy::parse(b"version: STSv1\nmode: testing\nmx: *.example.net\nmax_age: 60");
        let sts = AppliedPolicy::sts(&domain, &policy.unwrap());
        assert_eq!(sts.domain, "example.net");
        let lines = [
            "version: STSv1",
            "mode: testing",
            "mx: *.example.net",
            "max_age: 60",
        ];
        assert_eq!(
            (sts.lines.len(), &sts.mx[..]),
            (4, &["*.example.net".to_owned()][..])
        );
        assert_eq!(sts.lines, lines);
        let long = Tlsa {
            usage: 2,
            selector: 0,
            matching: 0,
            data: [0xab; 3000].into(),
        };
        let records = [Tlsa::parse("3 1 1 0A").unwrap(), long];
        let tlsa = AppliedPolicy::tlsa(&domain, &records);
        assert_eq!(tlsa.lines[0], "3 1 1 0a");
        assert_eq!(tlsa.lines[1].len(), TLSRPT_TEXT_BYTES_MAX);
    }

    #[test]
    fn file_names() {
        let name = |text| Name::parse(text).unwrap();
        let mut report = Report {
            organization: None,
            contact: None,
            id: "20270115.a_b@x".into(),
            start: Some(Wall::from_unix(1_800_000_000)),
            end: Some(Wall::from_unix(1_800_086_399)),
            policies: Vec::new(),
            omitted: 0,
        };
        let called =
            |report: &Report| report.file_name(&name("mail.example.org"), &name("example.net"));
        let expected = "mail.example.org!example.net!1800000000!1800086399!20270115.a_b.json.gz";
        assert_eq!(called(&report), expected);
        report.id = "../x/!\"\n".into();
        (report.start, report.end) = (None, None);
        assert_eq!(
            called(&report),
            "mail.example.org!example.net!0!0!..x.json.gz"
        );
        report.id.clear();
        assert_eq!(called(&report), "mail.example.org!example.net!0!0.json.gz");
    }
}
