use super::*;
use alloc::string::String;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;

fn read(json: &str) -> Report {
    Report::read(json.as_bytes()).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// RFC 8460 B.
const EXAMPLE: &str = r#"{
  "organization-name": "Company-X",
  "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"},
  "contact-info": "sts-reporting@company-x.example",
  "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
  "policies": [{
    "policy": {"policy-type": "sts", "policy-domain": "company-y.example",
      "policy-string": ["version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"],
      "mx-host": ["*.mail.company-y.example"]},
    "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
    "failure-details": [
      {"result-type": "certificate-expired", "sending-mta-ip": "2001:db8:abcd:0012::1",
       "receiving-mx-hostname": "mx1.mail.company-y.example", "failed-session-count": 100},
      {"result-type": "validation-failure", "sending-mta-ip": "198.51.100.62",
       "receiving-ip": "203.0.113.58", "receiving-mx-hostname": "mx-backup.mail.company-y.example",
       "failed-session-count": 3, "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"}]
  }]
}"#;

#[test]
fn example_of_the_rfc() {
    let report = read(EXAMPLE);
    assert_eq!(report.organization.as_deref(), Some("Company-X"));
    assert_eq!(report.start, Some(Wall::from_unix(1_459_468_800)));
    assert_eq!(report.end, Some(Wall::from_unix(1_459_555_199)));
    let policy = &report.policies[0];
    assert_eq!((policy.successes, policy.failures), (5326, 303));
    assert_eq!(
        (&policy.policy.kind, policy.policy.lines.len()),
        (&PolicyType::Sts, 4)
    );
    let [expired, other] = &policy.details[..] else {
        panic!("{policy:?}");
    };
    assert_eq!(
        (&expired.failure.result, expired.sessions),
        (&ResultType::CertificateExpired, 100)
    );
    let ip: IpAddr = "2001:db8:abcd:12::1".parse().unwrap();
    assert_eq!(expired.failure.sending_mta_ip, Some(ip));
    let code = other.failure.failure_reason_code.as_deref();
    assert_eq!(code, Some("X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"));
    // Ours says the same in fewer bytes.
    let ours = report.to_json();
    let value = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
    assert_eq!(value(&ours), value(&EXAMPLE.replace(":0012:", ":12:")));
    assert_eq!(read(&ours), report);
}

#[test]
fn what_others_write() {
    let report = read(
        r#"{"policies": {"policy": {"policy-type": ["tlsa"], "policy-string": "3 1 1 00",
        "mx-host": "mx.example", "policy-domain": null, "new": [{}]},
        "summary": {"total-successful-session-count": "7", "total-failure-session-count": 2.0},
        "failure-details": {"result-type": "new-failure", "sending-mta-ip": "unknown",
          "receiving-ip": " 192.0.2.1 ", "receiving-mx-helo": "", "failed-session-count": -1,
          "failure-error-code": 17, "additional-information": {"a": [1, {}]}}},
        "date-range": {"start-datetime": "2027-01-15T00:00:00", "end-datetime": "soon"},
        "report-id": 12, "contact-info": true, "x": null}"#,
    );
    assert_eq!(report.id, "12");
    assert_eq!((report.organization, report.contact), (None, None));
    assert_eq!(
        (report.start, report.end),
        (Some(Wall::from_unix(1_799_971_200)), None)
    );
    let [policy] = &report.policies[..] else {
        panic!("{:?}", report.policies);
    };
    assert_eq!(policy.policy.kind, PolicyType::Tlsa);
    assert_eq!(
        (&policy.policy.lines[..], &policy.policy.mx[..]),
        (&["3 1 1 00".into()][..], &["mx.example".into()][..])
    );
    assert_eq!((policy.successes, policy.failures), (7, 2));
    let detail = &policy.details[0];
    assert_eq!(detail.sessions, 0);
    assert_eq!(
        detail.failure.result,
        ResultType::Other("new-failure".into())
    );
    assert_eq!(detail.failure.sending_mta_ip, None);
    assert_eq!(
        detail.failure.receiving_ip,
        Some(Ipv4Addr::new(192, 0, 2, 1).into())
    );
    assert_eq!(detail.failure.receiving_mx_helo.as_deref(), Some(""));
    assert_eq!(detail.failure.failure_reason_code.as_deref(), Some("17"));
    assert_eq!(detail.failure.additional_information, None);

    for nothing in [
        r#"{"policies": []}"#,
        r#"{"policies": null, "date-range": null}"#,
        "\u{feff}{\"policies\": []}",
    ] {
        assert_eq!(read(nothing).policies, []);
    }
    let bare =
        read(r#"{"policies": [{}, {"policy": null, "summary": null, "failure-details": null}]}"#);
    assert_eq!(bare.policies[0], bare.policies[1]);
    assert_eq!(bare.policies[0].policy.kind, PolicyType::Other("".into()));
}

#[test]
fn what_is_no_report() {
    let deep = alloc::format!("{{\"policies\": {}", "[".repeat(1000));
    for (json, words) in [
        ("", "expected an object"),
        ("[]", "expected an object"),
        ("{}", "missing field `policies`"),
        (r#"{"policies": ["x"]}"#, "expected a policy with its sums"),
        (r#"{"policies": 1}"#, "a list"),
        (r#"{"policies": [], "policies": []}"#, "duplicate field"),
        (r#"{"policies": []} x"#, "trailing"),
        (
            r#"{"policies": [{"summary": {"total-failure-session-count": []}}]}"#,
            "a number",
        ),
        (r#"{"policies": [], "x": "#, "EOF"),
        (&deep, "recursion limit"),
    ] {
        let error = Report::read(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{json:.60}: {error}");
    }
}

#[test]
fn everything_is_bounded() {
    let many = |item: &str, n: usize| {
        alloc::format!("[{item}{}]", alloc::format!(",{item}").repeat(n - 1))
    };
    let lines = many("\"x\"", TLSRPT_LINES_MAX + 2);
    let details = many("{}", TLSRPT_FAILURES_MAX + 3);
    let policy = alloc::format!(
        r#"{{"policy": {{"policy-string": {lines}, "mx-host": {lines}}}, "failure-details": {details}}}"#
    );
    let policies = many("{}", TLSRPT_POLICIES_MAX + 3);
    let report = read(&alloc::format!(
        r#"{{"policies": [{policy},{}}}"#,
        &policies[1..]
    ));
    assert_eq!(report.policies.len(), TLSRPT_POLICIES_MAX);
    assert_eq!(report.policies[0].details.len(), TLSRPT_FAILURES_MAX);
    assert_eq!(report.policies[0].policy.lines.len(), TLSRPT_LINES_MAX);
    assert_eq!(report.policies[0].policy.mx.len(), TLSRPT_LINES_MAX);
    assert_eq!(report.omitted, 2 + 2 + 3 + 4);
    // Cut between characters.
    let long = alloc::format!("x{}", "\u{e9}".repeat(TLSRPT_TEXT_BYTES_MAX));
    let report = read(&alloc::format!(
        r#"{{"policies": [], "report-id": "{long}"}}"#
    ));
    assert_eq!(report.id.len(), TLSRPT_TEXT_BYTES_MAX - 1);
}

fn text() -> impl Strategy<Value = String> {
    "[ -~\u{e9}\n]{0,12}"
}

fn failure() -> impl Strategy<Value = FailureDetail> {
    let optional = || proptest::option::of(text());
    let known = (0..ResultType::KNOWN.len()).prop_map(|n| ResultType::KNOWN[n].clone());
    let result = prop_oneof![known, text().prop_map(|word| ResultType::parse(&word))];
    let ip = proptest::option::of(prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| IpAddr::from(Ipv4Addr::from(ip))),
        any::<[u8; 16]>().prop_map(|ip| IpAddr::from(Ipv6Addr::from(ip))),
    ]);
    let fields = (
        result,
        ip.clone(),
        optional(),
        optional(),
        ip,
        optional(),
        optional(),
        any::<u64>(),
    );
    fields.prop_map(
        |(result, from, host, helo, to, more, code, sessions)| FailureDetail {
            failure: Failure {
                result,
                sending_mta_ip: from,
                receiving_mx_hostname: host,
                receiving_mx_helo: helo,
                receiving_ip: to,
                additional_information: more,
                failure_reason_code: code,
            },
            sessions,
        },
    )
}

fn policy() -> impl Strategy<Value = PolicyReport> {
    let lists = || proptest::collection::vec(text(), 0..3);
    let details = proptest::collection::vec(failure(), 0..3);
    let fields = (
        text(),
        text(),
        lists(),
        lists(),
        any::<(u64, u64)>(),
        details,
    );
    fields.prop_map(
        |(kind, domain, lines, mx, (successes, failures), details)| PolicyReport {
            policy: AppliedPolicy {
                kind: PolicyType::parse(&kind),
                domain,
                lines,
                mx,
            },
            successes,
            failures,
            details,
        },
    )
}

proptest! {
    #[test]
    fn reads_what_it_writes(
        organization in proptest::option::of(text()),
        contact in proptest::option::of(text()),
        id in text(),
        range in proptest::option::of(-62_167_219_200..253_402_300_799_i64),
        policies in proptest::collection::vec(policy(), 0..4),
    ) {
        let (start, end) = (range.map(Wall::from_unix), range.map(|s| Wall::from_unix(s + 1)));
        let report = Report { organization, contact, id, start, end, policies, omitted: 0 };
        prop_assert_eq!(Report::read(report.to_json().as_bytes()), Ok(report));
    }

    #[test]
    fn any_text(
        text in ".{0,200}",
        value in r#"(null|true|-?[0-9]{1,25}|[0-9]e[0-9]{1,3}|"[a-z]{0,3}"|\[\]|\{\}|\["a"\]|\[1,null\])"#,
        at in any::<prop::sample::Index>(),
    ) {
        let _ = Report::read(text.as_bytes());
        // A value of another kind anywhere.
        let places: alloc::vec::Vec<usize> = EXAMPLE.match_indices(": ").map(|(at, _)| at + 2).collect();
        let (before, behind) = EXAMPLE.split_at(places[at.index(places.len())]);
        let end = behind.find([',', '}', ']']).unwrap();
        if let Ok(report) = Report::read(alloc::format!("{before}{value}{}", &behind[end..]).as_bytes()) {
            prop_assert_eq!(Report::read(report.to_json().as_bytes()), Ok(report));
        }
    }
}
