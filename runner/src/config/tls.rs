//! `[tls]`: certificates, authorities, and how much TLS mail for single domains wants.

use std::path::PathBuf;
use std::time::Duration;

use courser_core::route::tls::{Demand, Level};

use super::names::{DomainPattern, EmailAddress, HostName, words};
use super::tree::Section;

words!(Level {
    "off" => Off, "opportunistic" => Opportunistic, "required" => Required, "verified" => Verified
});

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}
words!(TlsVersion { "1.2" => Tls12, "1.3" => Tls13 });

/// When a listener speaks TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerTls {
    /// Never.
    Off,
    /// After STARTTLS (RFC 3207).
    StartTls,
    /// From the first byte (RFC 8314 3.3).
    Implicit,
}
words!(ListenerTls { "off" => Off, "starttls" => StartTls, "implicit" => Implicit });

/// `[[tls.certificate]]`: a certificate of the server's, for clients that ask for one of its names.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    /// In PEM: the server's own first, then those that signed it.
    pub file: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
}

/// `[[tls.domain]]`: how much TLS mail for some domains wants.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainTls {
    /// The domains.
    pub domains: Vec<DomainPattern>,
    /// How much.
    pub level: Level,
}

/// `[tls.report]`: what domains hear of TLS with their hosts (RFC 8460).
#[derive(Clone, Debug, PartialEq)]
pub struct TlsReports {
    /// Sessions are counted, and reports sent to domains that ask for them.
    pub enabled: bool,
    /// Who reports, for people.
    pub organization: String,
    /// Whom to ask about a report.
    pub contact: EmailAddress,
    /// From whom the mail is. A DKIM key has to sign for its domain.
    pub from: EmailAddress,
    /// How long after the end of a day in UTC the first reports go.
    pub send_after: Duration,
    /// All go within so long after that, each domain's at a time of its own.
    pub spread: Duration,
    /// Reports go by HTTPS too, where domains ask for that.
    pub https: bool,
}

impl TlsReports {
    fn read(mut s: Section<'_, '_>, hostname: &HostName, postmaster: &EmailAddress) -> Self {
        let hours = |h: u64| Duration::from_secs(h * 3600);
        let read = Self {
            enabled: s.get("enabled", false),
            organization: s.get("organization", hostname.to_string()),
            contact: s.get("contact", postmaster.clone()),
            from: s.get("from", EmailAddress::at("tls-reports", hostname)),
            send_after: s.bounded(
                "send_after",
                Duration::from_secs(600),
                Duration::ZERO..=hours(12),
            ),
            spread: s.bounded("spread", hours(4), Duration::ZERO..=hours(12)),
            https: s.get("https", true),
        };
        if read.organization.trim().is_empty() {
            s.wrong(
                "organization",
                "is empty",
                "name who sends, such as \"Example Inc.\"",
            );
        }
        s.finish();
        read
    }

    /// The domain that reports are from.
    pub fn submitter(&self) -> &str {
        self.from.rsplit('@').next().unwrap_or_default()
    }
}

/// `[tls]`
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// Authorities whose signatures count, in PEM; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// The oldest version that listeners speak.
    pub min_version: TlsVersion,
    /// How much TLS mail wants of which nothing else is said.
    pub level: Level,
    /// Whether hosts with TLSA records are authenticated by them (RFC 7672), where `dns.trusted`.
    pub dane: bool,
    /// A host whose handshake failed gets mail in plaintext for so long, where that is allowed.
    pub retry_after: Duration,
    /// Domains' own policies (RFC 8461) are looked up and obeyed.
    pub mta_sts: bool,
    /// The server's certificates; the first one for clients that ask for no name.
    pub certificates: Vec<Certificate>,
    /// Levels of single domains.
    pub domains: Vec<DomainTls>,
    /// `[tls.report]`
    pub report: TlsReports,
}

impl Tls {
    pub(super) fn read(
        mut s: Section<'_, '_>,
        hostname: &HostName,
        postmaster: &EmailAddress,
    ) -> Self {
        let read = Self {
            ca_file: s.optional("ca_file"),
            min_version: s.get("min_version", TlsVersion::Tls12),
            level: s.get("level", Level::Opportunistic),
            dane: s.get("dane", true),
            retry_after: s.bounded(
                "retry_after",
                Duration::from_secs(3600),
                Duration::from_secs(1)..=Duration::from_secs(7 * 86_400),
            ),
            mta_sts: s.get("mta_sts", true),
            certificates: Vec::new(),
            domains: Vec::new(),
            report: TlsReports::read(s.section("report"), hostname, postmaster),
        };
        let mut certificates = Vec::new();
        for mut c in s.sections("certificate") {
            let file: Option<PathBuf> = c.required(
                "file",
                "name the certificate's PEM file, such as file = \"/etc/courser/mail.pem\"",
            );
            if let Some(file) = &file {
                c.label(&file.display().to_string());
            }
            let key: Option<PathBuf> = c.required("key", "name its private key's PEM file");
            if let (Some(file), Some(key)) = (file, key) {
                certificates.push(Certificate { file, key });
            }
            c.finish();
        }
        let mut domains: Vec<DomainTls> = Vec::new();
        for (i, mut d) in s.sections("domain").into_iter().enumerate() {
            d.label(&(i + 1).to_string());
            let one = DomainTls {
                domains: d
                    .required("domains", "say which: domains = [\"example.org\"]")
                    .unwrap_or_default(),
                level: d
                    .required("level", "say how much, such as level = \"verified\"")
                    .unwrap_or_default(),
            };
            for (n, domain) in one.domains.iter().enumerate() {
                if domains.iter().any(|other| other.domains.contains(domain)) {
                    let what = format!("{domain} has a level already");
                    d.wrong_item("domains", n, what, "name each domain once");
                }
            }
            d.finish();
            domains.push(one);
        }
        s.finish();
        Self {
            certificates,
            domains,
            ..read
        }
    }

    /// Whether a domain (lower case A-labels) is asked for a policy of its own: not where TLS is off,
    /// unless the message demands it, nor where its sender would rather have it delivered.
    pub fn asks_for_policy(&self, domain: &str, demand: &Demand) -> bool {
        let off = self.of_domain(domain).unwrap_or(self.level) == Level::Off;
        self.mta_sts && !demand.optional && (demand.required || !off)
    }

    /// What is said of a domain (lower case A-labels): of itself, else of the closest above it.
    pub fn of_domain(&self, domain: &str) -> Option<Level> {
        let closeness = |d: &DomainPattern| match d {
            DomainPattern::Exactly(_) => usize::MAX,
            DomainPattern::Below(name) => name.len(),
            DomainPattern::Any => 0,
        };
        let all = self.domains.iter().flat_map(|one| {
            let matching = one.domains.iter().filter(|d| d.matches(domain));
            matching.map(|d| (closeness(d), one.level))
        });
        all.max_by_key(|(close, _)| *close).map(|(_, level)| level)
    }
}
