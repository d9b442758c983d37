//! `courser eval` about TLS: `dane`, `mta-sts`, `tlsrpt`.

#[path = "../../core/tests/common/vectors.rs"]
mod shared;

use base64ct::{Base64, Encoding};
use courser::cli::eval::{KINDS, answer};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData,
    date_time_ymd,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};
use shared::vectors;

fn eval(kind: &str, input: Value) -> Value {
    let kind = KINDS.iter().find(|k| k.name == kind).unwrap();
    answer(kind, input.to_string().as_bytes())
}

fn error(kind: &str, input: Value) -> String {
    let answer = eval(kind, input);
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    answer["error"].as_str().unwrap().to_owned()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn dane() {
    let key = || KeyPair::generate().unwrap();
    let params = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2027, 1, 1);
        params.not_after = date_time_ymd(2027, 2, 1);
        params
    };
    let mut authority = params(&[]);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(authority, key()).unwrap();
    let own = key();
    let leaf = params(&["example.net"]).signed_by(&own, &root).unwrap();
    let chain = leaf.pem() + &root.pem();
    let spki = own.subject_public_key_info();
    let own_key = format!("3 1 1 {}", hex(&Sha256::digest(&spki)));
    let anchor = format!("2 0 2 {}", hex(&Sha512::digest(root.der())));
    let (stale, unusable) = (format!("3 1 1 {}", "00".repeat(32)), "1 1 1 00");
    const NOW: i64 = 1_800_000_000;
    const LATER: i64 = 1_900_000_000;

    for (tlsa, now, names, result, matched, words) in [
        (
            json!([own_key]),
            LATER,
            json!([]),
            "pass",
            Some(&own_key),
            "is the one of 3 1 1 ",
        ),
        (
            json!([unusable, stale, own_key.to_uppercase()]),
            NOW,
            Value::Null,
            "pass",
            Some(&own_key),
            "",
        ),
        (
            json!([anchor]),
            NOW,
            json!(["Example.NET"]),
            "pass",
            Some(&anchor),
            "",
        ),
        (
            json!([anchor]),
            NOW,
            Value::Null,
            "fail",
            None,
            "is for example.net, and should be for mx.example.net",
        ),
        (
            json!([anchor]),
            LATER,
            json!(["example.net"]),
            "fail",
            None,
            "has expired",
        ),
        (
            json!([stale]),
            NOW,
            json!([]),
            "fail",
            None,
            "no TLSA record is about",
        ),
        (
            json!([unusable]),
            NOW,
            json!([]),
            "unusable",
            None,
            "usage 1 is not for SMTP",
        ),
        (
            json!(["3 1 1 00"]),
            NOW,
            json!([]),
            "unusable",
            None,
            "1 octets are no SHA-256",
        ),
        (json!([]), NOW, json!([]), "none", None, "no TLSA records"),
    ] {
        let got = eval(
            "dane",
            json!({"host": "mx.example.net", "tlsa": tlsa, "chain_pem": chain, "now": now, "names": names}),
        );
        assert_eq!(
            (&got["result"], &got["matched"]),
            (&json!(result), &json!(matched)),
            "{got}"
        );
        assert!(got["reason"].as_str().unwrap().contains(words), "{got}");
    }
    let input = json!({"host": "mx.example.net", "tlsa": [own_key], "chain_pem": "", "now": NOW});
    assert_eq!(
        eval("dane", input.clone())["result"],
        "fail",
        "no certificate at all"
    );
    for (at, value, words) in [
        ("host", Value::Null, "host: missing, should be a text"),
        (
            "host",
            json!("a..b"),
            "host: expected the name of a host: two dots",
        ),
        (
            "names",
            json!(["a b"]),
            "names: expected the name of a host",
        ),
        (
            "tlsa",
            Value::Null,
            "tlsa: missing, should be a list of texts",
        ),
        (
            "tlsa",
            json!(["3 1 1 00", "3 1 1"]),
            "tlsa[1]: expected a TLSA record as \"3 1 1 hex\"",
        ),
        (
            "chain_pem",
            json!("-----BEGIN CERTIFICATE-----\nx"),
            "chain_pem: expected certificates in PEM",
        ),
        ("now", json!("now"), "now: expected a unix time"),
    ] {
        let mut input = input.clone();
        input[at] = value;
        let got = error("dane", input);
        assert!(got.starts_with(words), "{got}");
    }
}

#[test]
fn mta_sts() {
    let policy =
        "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmax_age: 86400\n";
    let got = eval(
        "mta-sts",
        json!({"policy_text": policy, "mx": ["Mail.example.com", "mx.example.net", "a.mx.example.net", "b\u{fc}cher.example.net"]}),
    );
    let matches = |host: &str, matches: Value| json!({"host": host, "matches": matches});
    let expected = json!({
        "record": null,
        "policy": {"version": "STSv1", "mode": "enforce", "mx": ["mail.example.com", "*.example.net"], "max_age": 86400},
        "mx": [matches("Mail.example.com", json!(true)), matches("mx.example.net", json!(true)),
            matches("a.mx.example.net", json!(false)), matches("b\u{fc}cher.example.net", json!(true))],
    });
    assert_eq!(got, expected);
    let got = eval(
        "mta-sts",
        json!({"txt": "v=STSv1; id=20270115;", "mx": "a.example"}),
    );
    let expected = json!({"record": {"id": "20270115"}, "policy": null, "mx": [matches("a.example", Value::Null)]});
    assert_eq!(got, expected);
    let got = eval(
        "mta-sts",
        json!({"txt": "v=STSv1", "policy_text": "mode: enforce", "mx": ["a.example"]}),
    );
    assert_eq!(
        got["record"]["error"],
        "nothing stands where a field should"
    );
    assert_eq!(got["policy"]["error"], "there is no version");
    assert_eq!(
        got["mx"][0]["matches"], false,
        "no policy allows nothing: {got}"
    );
    for (input, words) in [
        (
            json!({"mx": ["a.example"]}),
            "expected policy_text, txt, or both",
        ),
        (
            json!({"txt": 1}),
            "txt: expected a text, found the number 1",
        ),
        (
            json!({"txt": "", "mx": 1}),
            "mx: expected a text or a list of texts",
        ),
        (
            json!({"txt": "", "mx": ["a..b"]}),
            "mx: expected the name of a host: two dots",
        ),
    ] {
        let got = error("mta-sts", input);
        assert!(got.starts_with(words), "{got}");
    }
}

#[test]
fn tlsrpt() {
    let got = eval(
        "tlsrpt",
        json!({"record": "v=TLSRPTv1; rua=mailto:a@b.example, https://b.example/t"}),
    );
    let rua = ["mailto:a@b.example", "https://b.example/t"];
    assert_eq!(got, json!({"record": {"version": "TLSRPTv1", "rua": rua}}));

    let report = json!({
        "organization-name": "Example", "report-id": "1", "date-range": {"start-datetime": "2027-01-15T00:00:00Z"},
        "policies": [{"policy": {"policy-type": "sts", "mx-host": "mx.example"}, "summary": {"total-failure-session-count": "3"}}],
    });
    let expected = json!({"omitted": 0, "report": {
        "organization-name": "Example", "report-id": "1", "date-range": {"start-datetime": "2027-01-15T00:00:00Z"},
        "policies": [{"policy": {"policy-type": "sts", "mx-host": ["mx.example"]},
            "summary": {"total-successful-session-count": 0, "total-failure-session-count": 3}}],
    }});
    for input in [
        json!({"report": report}),
        json!({"report": report.to_string()}),
        json!({"report_b64": Base64::encode_string(report.to_string().as_bytes())}),
    ] {
        assert_eq!(eval("tlsrpt", input), expected);
    }
    for (input, words) in [
        (json!({}), "expected one of record, report"),
        (
            json!({"record": "v=TLSRPTv1; rua=x"}),
            "record: rua has a value that it can't have",
        ),
        (
            json!({"report": {}}),
            "report: the report can't be read: missing field `policies`",
        ),
        (
            json!({"report": [1]}),
            "report: the report can't be read: expected an object",
        ),
        (
            json!({"report_b64": "H4sI"}),
            "report_b64: the report's gzip can't be read",
        ),
        (json!({"report_b64": "?"}), "report_b64: expected base64"),
        (
            json!({"message_b64": "QTogYg0KDQo="}),
            "message_b64: no TLS report in this message",
        ),
    ] {
        let got = error("tlsrpt", input);
        assert!(got.starts_with(words), "{got}");
    }
}

#[test]
fn reports_in_mails() {
    let Some(dir) = vectors("tlsrpt") else {
        return;
    };
    for (name, id) in [
        ("rpt01.eml", "5065427c-23d3-47ca-b6e0-946ea0e8c4be"),
        ("rpt02.eml", "2020-01-01T00:00:00Z_example.com"),
    ] {
        let mail = std::fs::read(dir.join(name)).unwrap();
        let got = eval(
            "tlsrpt",
            json!({"message_b64": Base64::encode_string(&mail)}),
        );
        assert_eq!(got["report"]["report-id"], id, "{got}");
    }
}
