//! Reports as JSON (RFC 8460 4.4), read as they come.
//!
//! What real reports have that the RFC doesn't is read as what it means: null and missing members, a
//! text or an object where a list of them should be, a list of one where a text should be, numbers
//! as texts, unknown members, `failure-error-code` of the drafts. Only a text that is no JSON or no
//! object, that has no `policies`, or has a member twice is no report. Addresses that are none and
//! times that can't be read are left out.
//!
//! Nothing is kept that is longer, and no more of anything, than [`limits`](crate::limits) says:
//! lists are read one by one, and what is too much is counted and passed over.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    DeserializeOwned, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde::{Deserialize, Serialize};

use super::carrier::ReadError;
use super::report::{
    AppliedPolicy, Failure, FailureDetail, PolicyReport, PolicyType, Report, ResultType,
};
use crate::limits::{
    TLSRPT_FAILURES_MAX, TLSRPT_JSON_BYTES_MAX, TLSRPT_LINES_MAX, TLSRPT_POLICIES_MAX,
    TLSRPT_TEXT_BYTES_MAX,
};
use crate::smtp::rfc3339;
use crate::time::Wall;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", expecting = "a TLS report, an object")]
struct WireReport {
    #[serde(default, skip_serializing_if = "Text::is_missing")]
    organization_name: Text,
    #[serde(default, deserialize_with = "or_default")]
    date_range: WireRange,
    #[serde(default, skip_serializing_if = "Text::is_missing")]
    contact_info: Text,
    #[serde(default)]
    report_id: Text,
    policies: List<WirePolicyReport, TLSRPT_POLICIES_MAX>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", expecting = "a range of dates, an object")]
struct WireRange {
    #[serde(default, skip_serializing_if = "Text::is_missing")]
    start_datetime: Text,
    #[serde(default, skip_serializing_if = "Text::is_missing")]
    end_datetime: Text,
}

#[derive(Serialize, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    expecting = "a policy with its sums, an object"
)]
struct WirePolicyReport {
    #[serde(default, deserialize_with = "or_default")]
    policy: WirePolicy,
    #[serde(default, deserialize_with = "or_default")]
    summary: WireSummary,
    #[serde(default, skip_serializing_if = "List::is_empty")]
    failure_details: List<WireFailure, TLSRPT_FAILURES_MAX>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", expecting = "a policy, an object")]
struct WirePolicy {
    #[serde(default)]
    policy_type: Text,
    #[serde(default, skip_serializing_if = "List::is_empty")]
    policy_string: List<Text, TLSRPT_LINES_MAX>,
    #[serde(default, skip_serializing_if = "Text::is_missing")]
    policy_domain: Text,
    #[serde(default, skip_serializing_if = "List::is_empty")]
    mx_host: List<Text, TLSRPT_LINES_MAX>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", expecting = "sums, an object")]
struct WireSummary {
    #[serde(default)]
    total_successful_session_count: Count,
    #[serde(default)]
    total_failure_session_count: Count,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", expecting = "a failure, an object")]
struct WireFailure {
    #[serde(default)]
    result_type: Text,
    #[serde(default, skip_serializing_if = "Text::is_missing")]
    sending_mta_ip: Text,
    #[serde(default, skip_serializing_if = "Text::is_missing")]
    receiving_mx_hostname: Text,
    #[serde(default, skip_serializing_if = "Text::is_missing")]
    receiving_mx_helo: Text,
    #[serde(default, skip_serializing_if = "Text::is_missing")]
    receiving_ip: Text,
    #[serde(default)]
    failed_session_count: Count,
    #[serde(default, skip_serializing_if = "Text::is_missing")]
    additional_information: Text,
    #[serde(
        default,
        skip_serializing_if = "Text::is_missing",
        alias = "failure-error-code"
    )]
    failure_reason_code: Text,
}

impl Report {
    /// The report as JSON, on one line.
    pub fn to_json(&self) -> String {
        // Nothing in it can fail to be written: all keys are texts.
        serde_json::to_string(&WireReport::from(self)).unwrap_or_default()
    }

    /// Reads JSON.
    pub(super) fn of_json(json: &[u8]) -> Result<Self, ReadError> {
        if json.len() > TLSRPT_JSON_BYTES_MAX {
            return Err(ReadError::TooLong);
        }
        // Some begin with a byte order mark.
        let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
        // What serde makes of a list is no report.
        if !json.trim_ascii_start().starts_with(b"{") {
            return Err(ReadError::Json("expected an object".into()));
        }
        let wire = serde_json::from_slice::<WireReport>(json);
        wire.map(Self::from)
            .map_err(|error| ReadError::Json(error.to_string().into()))
    }
}

// -- what JSON has to what a report says --

impl From<WireReport> for Report {
    fn from(wire: WireReport) -> Self {
        let mut omitted = wire.policies.omitted;
        let policies = wire.policies.items.into_iter().map(|policy| {
            omitted += policy.failure_details.omitted;
            omitted += policy.policy.policy_string.omitted + policy.policy.mx_host.omitted;
            PolicyReport::from(policy)
        });
        Self {
            policies: policies.collect(),
            organization: wire.organization_name.0,
            contact: wire.contact_info.0,
            id: wire.report_id.0.unwrap_or_default(),
            start: wire.date_range.start_datetime.time(),
            end: wire.date_range.end_datetime.time(),
            omitted,
        }
    }
}

impl From<WirePolicyReport> for PolicyReport {
    fn from(wire: WirePolicyReport) -> Self {
        let texts = |list: Vec<Text>| list.into_iter().filter_map(|text| text.0).collect();
        Self {
            policy: AppliedPolicy {
                kind: PolicyType::parse(wire.policy.policy_type.as_str()),
                domain: wire.policy.policy_domain.0.unwrap_or_default(),
                lines: texts(wire.policy.policy_string.items),
                mx: texts(wire.policy.mx_host.items),
            },
            successes: wire.summary.total_successful_session_count.0,
            failures: wire.summary.total_failure_session_count.0,
            details: wire
                .failure_details
                .items
                .into_iter()
                .map(FailureDetail::from)
                .collect(),
        }
    }
}

impl From<WireFailure> for FailureDetail {
    fn from(wire: WireFailure) -> Self {
        let ip = |text: Text| text.as_str().trim().parse().ok();
        Self {
            failure: Failure {
                result: ResultType::parse(wire.result_type.as_str()),
                sending_mta_ip: ip(wire.sending_mta_ip),
                receiving_mx_hostname: wire.receiving_mx_hostname.0,
                receiving_mx_helo: wire.receiving_mx_helo.0,
                receiving_ip: ip(wire.receiving_ip),
                additional_information: wire.additional_information.0,
                failure_reason_code: wire.failure_reason_code.0,
            },
            sessions: wire.failed_session_count.0,
        }
    }
}

// -- and back --

impl From<&Report> for WireReport {
    fn from(report: &Report) -> Self {
        let time = |time: Option<Wall>| Text(time.map(Report::utc));
        Self {
            organization_name: Text(report.organization.clone()),
            date_range: WireRange {
                start_datetime: time(report.start),
                end_datetime: time(report.end),
            },
            contact_info: Text(report.contact.clone()),
            report_id: Text(Some(report.id.clone())),
            policies: report.policies.iter().map(WirePolicyReport::from).collect(),
        }
    }
}

impl From<&PolicyReport> for WirePolicyReport {
    fn from(report: &PolicyReport) -> Self {
        let texts = |list: &[String]| list.iter().cloned().map(Some).map(Text).collect();
        let policy = &report.policy;
        let domain = Some(policy.domain.clone()).filter(|domain| !domain.is_empty());
        Self {
            policy: WirePolicy {
                policy_type: policy.kind.as_str().into(),
                policy_string: texts(&policy.lines),
                policy_domain: Text(domain),
                mx_host: texts(&policy.mx),
            },
            summary: WireSummary {
                total_successful_session_count: Count(report.successes),
                total_failure_session_count: Count(report.failures),
            },
            failure_details: report.details.iter().map(WireFailure::from).collect(),
        }
    }
}

impl From<&FailureDetail> for WireFailure {
    fn from(detail: &FailureDetail) -> Self {
        let failure = &detail.failure;
        Self {
            result_type: failure.result.as_str().into(),
            sending_mta_ip: Text(failure.sending_mta_ip.map(|ip| ip.to_string())),
            receiving_mx_hostname: Text(failure.receiving_mx_hostname.clone()),
            receiving_mx_helo: Text(failure.receiving_mx_helo.clone()),
            receiving_ip: Text(failure.receiving_ip.map(|ip| ip.to_string())),
            failed_session_count: Count(detail.sessions),
            additional_information: Text(failure.additional_information.clone()),
            failure_reason_code: Text(failure.failure_reason_code.clone()),
        }
    }
}

// -- values, read tolerantly --

/// An object, or null.
fn or_default<'de, T, D>(from: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// A text, or none.
#[derive(Default, Serialize)]
#[serde(transparent)]
struct Text(Option<String>);

impl Text {
    fn is_missing(&self) -> bool {
        self.0.is_none()
    }

    fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }

    /// The time that it says; without a zone it is UTC.
    fn time(&self) -> Option<Wall> {
        let text = self.as_str().trim();
        rfc3339::parse(text).or_else(|| rfc3339::parse(&alloc::format!("{text}Z")))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Some(text.into()))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                let mut cut = text.len().min(TLSRPT_TEXT_BYTES_MAX);
                while !text.is_char_boundary(cut) {
                    cut -= 1;
                }
                Ok(text.get(..cut).unwrap_or("").into())
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Text, E> {
                Ok(Text(Some(number.to_string())))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Text, E> {
                Ok(Text(Some(number.to_string())))
            }
            fn visit_f64<E: Error>(self, _: f64) -> Result<Text, E> {
                Ok(Text(None))
            }
            fn visit_bool<E: Error>(self, _: bool) -> Result<Text, E> {
                Ok(Text(None))
            }
            fn visit_unit<E: Error>(self) -> Result<Text, E> {
                Ok(Text(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Text, A::Error> {
                let first = list.next_element::<Text>()?.unwrap_or_default();
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(first)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }
        from.deserialize_any(Read)
    }
}

/// A number of sessions; zero where there is none.
#[derive(Default, Serialize)]
#[serde(transparent)]
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Count, E> {
                Ok(Count(number))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Count, E> {
                Ok(Count(u64::try_from(number).unwrap_or(0)))
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Count, E> {
                // Saturates; NaN, which JSON doesn't have, is zero.
                Ok(Count(number as u64))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Count, E> {
                Ok(Count(text.trim().parse().unwrap_or(0)))
            }
            fn visit_unit<E: Error>(self) -> Result<Count, E> {
                Ok(Count(0))
            }
        }
        from.deserialize_any(Read)
    }
}

/// A list of which the first `MAX` are kept.
#[derive(Serialize)]
#[serde(transparent)]
struct List<T, const MAX: usize> {
    items: Vec<T>,
    #[serde(skip)]
    omitted: u64,
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        core::iter::empty().collect()
    }
}

impl<T, const MAX: usize> FromIterator<T> for List<T, MAX> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self {
            items: items.into_iter().collect(),
            omitted: 0,
        }
    }
}

impl<T, const MAX: usize> List<T, MAX> {
    fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl<'de, T: DeserializeOwned, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: DeserializeOwned, const MAX: usize> Visitor<'de> for Read<T, MAX> {
            type Value = List<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List<T, MAX>, A::Error> {
                let mut read = List::default();
                while read.items.len() < MAX {
                    match list.next_element()? {
                        Some(item) => read.items.push(item),
                        None => return Ok(read),
                    }
                }
                while list.next_element::<IgnoredAny>()?.is_some() {
                    read.omitted += 1;
                }
                Ok(read)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<List<T, MAX>, A::Error> {
                let only = T::deserialize(MapAccessDeserializer::new(map))?;
                Ok(core::iter::once(only).collect())
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<List<T, MAX>, E> {
                let only = T::deserialize(text.into_deserializer())?;
                Ok(core::iter::once(only).collect())
            }
            fn visit_unit<E: Error>(self) -> Result<List<T, MAX>, E> {
                Ok(List::default())
            }
        }
        from.deserialize_any(Read(PhantomData))
    }
}

#[cfg(test)]
mod tests;
