//! What one connection to a host came to, as reports count it (RFC 8460 4.3).
//!
//! Which policy it is counted under depends on the domain that mail is for: by DANE where the host
//! has TLSA records, else by the domain's MTA-STS policy, else by none (RFC 8461 2: DANE isn't
//! weakened by it).

use alloc::boxed::Box;
use alloc::string::String;
use core::net::IpAddr;

use super::report::{AppliedPolicy, Failure, PolicyType, ResultType};
use crate::dns::{Name, Tlsa};
use crate::route::dane::Requirement;
use crate::route::mta_sts::{FetchFault, Mode, Policy};

/// What there is to go by of a domain's MTA-STS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sts<'a> {
    /// Nothing: it has none.
    Without,
    /// A policy in force, to enforce or to test.
    Policy(&'a Policy),
    /// There should be one, and it can't be had.
    Unfetched(&'a FetchFault),
}

/// A connection on which TLS was tried, or would have been if the host offered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The host by its name in the MX record; an address in brackets where a route names one.
    pub host: Box<str>,
    /// Its address; `None` if it wasn't connected to.
    pub receiving_ip: Option<IpAddr>,
    /// Our own address.
    pub sending_ip: Option<IpAddr>,
    /// The host's TLSA records that DNSSEC vouches for, and their base domain. Without records:
    /// they could not be found out.
    pub tlsa: Option<(Name, Box<[Tlsa]>)>,
    /// Why there is no TLS, or none with the right host, and in words.
    pub fault: Option<(ResultType, String)>,
    /// The same as a policy that is only tested would find, where there is one.
    pub fault_by_test: Option<(ResultType, String)>,
}

impl Session {
    /// The policy that it is counted under for mail of `domain`, which may have a policy of MTA-STS,
    /// and how it failed that, if it did.
    pub fn result(&self, domain: &Name, sts: Sts<'_>) -> (AppliedPolicy, Option<Failure>) {
        let fault = |fault: &(ResultType, String)| self.failure(fault.0.clone(), &fault.1);
        let failed = self.fault.as_ref().map(fault);
        if let Some((base, records)) = &self.tlsa {
            // Encrypted all the same (RFC 7672 2.2), but not with whom the domain says.
            let unusable = Requirement::of(records) == Requirement::Encrypted;
            let unusable = unusable.then(|| {
                self.failure(
                    ResultType::TlsaInvalid,
                    "none of the TLSA records can be used",
                )
            });
            return (AppliedPolicy::tlsa(base, records), failed.or(unusable));
        }
        let policy = match sts {
            Sts::Policy(policy) => policy,
            Sts::Without => {
                let none = AppliedPolicy::new(PolicyType::NoPolicyFound, domain);
                return (none, failed);
            }
            Sts::Unfetched(why) => {
                let unknown = AppliedPolicy::new(PolicyType::Sts, domain);
                let why = self.failure(why.result.clone(), &why.text);
                return (unknown, failed.or(Some(why)));
            }
        };
        let tested = (policy.mode == Mode::Testing).then(|| match policy.allows(&self.host) {
            true => self.fault_by_test.as_ref().map(fault),
            false => Some(self.failure(
                ResultType::ValidationFailure,
                "the policy doesn't allow this host",
            )),
        });
        (
            AppliedPolicy::sts(domain, policy),
            failed.or(tested.flatten()),
        )
    }

    fn failure(&self, result: ResultType, words: &str) -> Failure {
        Failure {
            sending_mta_ip: self.sending_ip,
            receiving_mx_hostname: Some(self.host.as_ref().into()),
            receiving_ip: self.receiving_ip,
            failure_reason_code: Some(words.into()),
            ..Failure::new(result)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;

    fn session() -> Session {
        Session {
            host: "mx.example.net".into(),
            receiving_ip: "192.0.2.1".parse().ok(),
            sending_ip: "192.0.2.25".parse().ok(),
            tlsa: None,
            fault: None,
            fault_by_test: None,
        }
    }

    fn policy(mode: &str, mx: &str) -> Policy {
        let text = alloc::format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 60\n");
        Policy::parse(text.as_bytes()).unwrap()
    }

    /// Under which policy, whose, and how it failed.
    fn came_to(session: &Session, sts: Sts<'_>) -> (String, String, String) {
        let domain = Name::parse("example.net").unwrap();
        let (policy, failure) = session.result(&domain, sts);
        let failed = failure.map(|failure| {
            assert_eq!(
                failure.receiving_mx_hostname.as_deref(),
                Some("mx.example.net")
            );
            assert!(failure.receiving_ip.is_some() && failure.sending_mta_ip.is_some());
            assert!(failure.failure_reason_code.is_some());
            failure.result.as_str().to_owned()
        });
        let kind = policy.kind.as_str().to_owned();
        (kind, policy.domain, failed.unwrap_or_default())
    }

    #[test]
    fn what_sessions_are_counted_as() {
        let good = session();
        let expired = Session {
            fault: Some((ResultType::CertificateExpired, "it has expired".into())),
            ..session()
        };
        let by_test = Session {
            fault_by_test: Some((ResultType::CertificateNotTrusted, "by nobody".into())),
            ..session()
        };
        let tlsa = |record: &str| {
            let base = Name::parse("mx.example.net").unwrap();
            Some((base, [Tlsa::parse(record).unwrap()].into()))
        };
        let dane = |fault: &Session, record: &str| Session {
            tlsa: tlsa(record),
            ..fault.clone()
        };
        let usable = "3 1 1 0000000000000000000000000000000000000000000000000000000000000000";
        let enforce = policy("enforce", "mx.example.net");
        let testing = policy("testing", "mx.example.net");
        let elsewhere = policy("testing", "mx.example.org");
        let unfetched = FetchFault {
            result: ResultType::StsPolicyFetchError,
            text: "it answers 404".into(),
        };
        let lost = Sts::Unfetched(&unfetched);
        let cases = [
            (&good, Sts::Without, "no-policy-found", ""),
            (
                &expired,
                Sts::Without,
                "no-policy-found",
                "certificate-expired",
            ),
            (&by_test, Sts::Without, "no-policy-found", ""),
            (&good, Sts::Policy(&enforce), "sts", ""),
            (
                &expired,
                Sts::Policy(&enforce),
                "sts",
                "certificate-expired",
            ),
            (&by_test, Sts::Policy(&enforce), "sts", ""),
            (&good, Sts::Policy(&testing), "sts", ""),
            (
                &by_test,
                Sts::Policy(&testing),
                "sts",
                "certificate-not-trusted",
            ),
            (&good, Sts::Policy(&elsewhere), "sts", "validation-failure"),
            (
                &expired,
                Sts::Policy(&elsewhere),
                "sts",
                "certificate-expired",
            ),
            (&dane(&good, usable), Sts::Policy(&elsewhere), "tlsa", ""),
            (
                &dane(&expired, usable),
                Sts::Without,
                "tlsa",
                "certificate-expired",
            ),
            (&good, lost, "sts", "sts-policy-fetch-error"),
            (&expired, lost, "sts", "certificate-expired"),
            (&dane(&good, usable), lost, "tlsa", ""),
            // PKIX-EE: not for mail (RFC 7672 3.1.3).
            (
                &dane(&good, "1 1 1 00"),
                Sts::Without,
                "tlsa",
                "tlsa-invalid",
            ),
        ];
        for (session, sts, kind, failed) in cases {
            let whose = if kind == "tlsa" {
                "mx.example.net"
            } else {
                "example.net"
            };
            let expected = (kind.to_owned(), whose.to_owned(), failed.to_owned());
            assert_eq!(came_to(session, sts), expected, "{session:?} {sts:?}");
        }
    }
}
