//! The examples of RFC 8601 appendix B, what servers write, what is written is read, and forged
//! fields.

use super::*;
use crate::limits::AUTH_PROPERTIES_MAX;
use alloc::string::ToString;
use proptest::prelude::*;
use std::vec;

fn parse(value: &str) -> Results {
    match Results::parse(value) {
        Ok(results) => results,
        Err(error) => panic!("{value}: {error}"),
    }
}

/// method, result, reason, and the properties as text.
type Short<'a> = (&'a str, &'a str, Option<&'a str>, &'a str);

fn check(value: &str, id: &str, expected: &[Short<'_>]) {
    let results = parse(value);
    assert_eq!(results.authserv_id, id, "{value}");
    let properties = |r: &MethodResult| {
        let pair = |p: &Property| std::format!("{}.{}={}", p.ptype, p.property, p.value);
        r.properties.iter().map(pair).collect::<Vec<_>>().join(" ")
    };
    let all: Vec<_> = results.results.iter().map(|r| (r, properties(r))).collect();
    let got: Vec<Short<'_>> = all
        .iter()
        .map(|(r, p)| (&*r.method, &*r.result, r.reason.as_deref(), &**p))
        .collect();
    assert_eq!(got, expected, "{value}");
    let mut field = String::new();
    results.write(&mut field).unwrap();
    for line in field.split("\r\n") {
        assert!(line.len() <= 998, "{line}");
    }
    let again = parse(field.strip_prefix("Authentication-Results:").unwrap());
    assert_eq!(again, results, "{field}");
}

#[test]
fn rfc_8601_appendix_b() {
    // B.2 to B.7 in their order.
    check(" example.org 1; none", "example.org", &[]);
    check(
        " example.com;\r\n          spf=pass smtp.mailfrom=example.net",
        "example.com",
        &[("spf", "pass", None, "smtp.mailfrom=example.net")],
    );
    check(
        " example.com;\r\n  auth=pass (cram-md5) smtp.auth=sender@example.net;\r\n  \
         spf=pass smtp.mailfrom=example.net",
        "example.com",
        &[
            ("auth", "pass", None, "smtp.auth=sender@example.net"),
            ("spf", "pass", None, "smtp.mailfrom=example.net"),
        ],
    );
    let auth = parse(" example.com; auth=pass (cram-md5) smtp.auth=sender@example.net");
    assert_eq!(auth.results[0].comment.as_deref(), Some("cram-md5"));
    assert_eq!(
        auth.results[0].find("SMTP", "auth"),
        Some("sender@example.net")
    );
    check(
        " example.com; iprev=pass\r\n  policy.iprev=192.0.2.200",
        "example.com",
        &[("iprev", "pass", None, "policy.iprev=192.0.2.200")],
    );
    check(
        " example.com;\r\n dkim=pass (good signature) header.d=example.com",
        "example.com",
        &[("dkim", "pass", None, "header.d=example.com")],
    );
    check(
        " example.com;\r\n  dkim=pass reason=\"good signature\"\r\n    \
         header.i=@mail-router.example.net;\r\n  dkim=fail reason=\"bad signature\"\r\n    \
         header.i=@newyork.example.com",
        "example.com",
        &[
            (
                "dkim",
                "pass",
                Some("good signature"),
                "header.i=@mail-router.example.net",
            ),
            (
                "dkim",
                "fail",
                Some("bad signature"),
                "header.i=@newyork.example.com",
            ),
        ],
    );
    // B.7: comments in every place.
    check(
        " foo.example.net (foobar) 1 (baz);\r\n dkim (Because I like it) / 1 (One yay) = (wait \
         for it) fail\r\n  policy (A dot can go here) . (like that) expired\r\n  (this surprised \
         me) = (as I wasn't expecting it) 1362471462",
        "foo.example.net",
        &[("dkim", "fail", None, "policy.expired=1362471462")],
    );
    let odd = parse("foo.example.net (foobar) 1 (baz); dkim / 1 = fail");
    assert_eq!(
        (odd.version, odd.results[0].method_version),
        (Some(1), Some(1))
    );
}

#[test]
fn what_servers_write() {
    check(
        "mx.google.com; dkim=pass header.i=@example.org header.s=s1 header.b=\"AbC/d+e=\"; \
         dmarc=pass (p=REJECT sp=REJECT dis=NONE) header.from=example.org",
        "mx.google.com",
        &[
            (
                "dkim",
                "pass",
                None,
                "header.i=@example.org header.s=s1 header.b=AbC/d+e=",
            ),
            ("dmarc", "pass", None, "header.from=example.org"),
        ],
    );
}

#[test]
fn tolerated() {
    check(
        "mx.example; dkim=pass header.b=AbC/d+e=; dmarc=none action=none header.from=;",
        "mx.example",
        &[
            ("dkim", "pass", None, "header.b=AbC/d+e="),
            ("dmarc", "none", None, ".action=none header.from="),
        ],
    );
    check(
        "mx.example; spf=none smtp.mailfrom= smtp.helo=a.example",
        "mx.example",
        &[("spf", "none", None, "smtp.mailfrom= smtp.helo=a.example")],
    );
    check(
        "mx.example; spf=pass smtp.mailfrom=\"john doe\"@example.org; X-T_S = pass",
        "mx.example",
        &[
            (
                "spf",
                "pass",
                None,
                "smtp.mailfrom=\"john doe\"@example.org",
            ),
            ("x-t_s", "pass", None, ""),
        ],
    );
    check("mx.example", "mx.example", &[]);
    check("\"mx (1)\" ; none ;", "mx (1)", &[]);
    check("b\u{fc}cher.example; none", "b\u{fc}cher.example", &[]);
}

#[test]
fn refused() {
    use ResultsError as E;
    for (value, error) in [
        ("", E::AuthservId),
        ("; none", E::AuthservId),
        ("(only a comment)", E::AuthservId),
        ("a.example b.example; none", E::AuthservId),
        ("spf=fail (no id) smtp.mailfrom=a.example", E::AuthservId),
        ("a.example 2; none", E::Version),
        ("a.example; spf", E::Method),
        ("a.example; =pass", E::Method),
        ("a.example; spf=", E::Method),
        ("a.example; spf/x=pass", E::Method),
        ("a.example; none; spf=pass", E::Method),
        ("a.example; spf=pass smtp", E::Property),
        ("a.example; spf=pass smtp.=x", E::Property),
        ("a.example; spf=pass \"x\"", E::Property),
        ("a.example; spf=pass smtp.x=\"y", E::Value),
        ("a.example; spf=pass smtp.x=\"\u{1}\"", E::Value),
        ("a.example; spf=pass (x", E::Comment),
    ] {
        assert_eq!(Results::parse(value), Err(error), "{value}");
    }
    let many = "; spf=pass".repeat(AUTH_RESULTS_MAX + 1);
    assert_eq!(
        Results::parse(&std::format!("a.example{many}")),
        Err(E::TooMany)
    );
    let many = " a.b=c".repeat(AUTH_PROPERTIES_MAX + 1);
    assert_eq!(
        Results::parse(&std::format!("a.example; spf=pass{many}")),
        Err(E::TooMany)
    );
}

#[test]
fn written_quoted_and_folded() {
    let results = Results {
        authserv_id: "mx.example".into(),
        version: Some(1),
        results: vec![
            MethodResult::new("spf", "fail")
                .comment("not (really) ok")
                .reason("no \"mx\" at all")
                .property("smtp", "mailfrom", "ann@example.org")
                .property("smtp", "helo", "a-very-long-name-of-a-host.example.org"),
            MethodResult::new("dkim", "none"),
        ],
    };
    let mut field = String::new();
    results.write(&mut field).unwrap();
    assert_eq!(
        field,
        "Authentication-Results: mx.example 1;\r\n\
         \tspf=fail (not \\(really\\) ok) reason=\"no \\\"mx\\\" at all\"\r\n\
         \tsmtp.mailfrom=ann@example.org\r\n\
         \tsmtp.helo=a-very-long-name-of-a-host.example.org;\r\n\
         \tdkim=none\r\n"
    );
    let line = results.to_string();
    assert!(!line.contains('\r'));
    assert_eq!(parse(&line), results);
    // Nothing in a value starts a field of its own, and none is longer than a line.
    let long = "x\r\nEvil: y ".repeat(300);
    let results = Results {
        authserv_id: long.clone(),
        version: None,
        results: vec![MethodResult::new("s p\r\nf", "").property("a", "b", long)],
    };
    let mut field = String::new();
    results.write(&mut field).unwrap();
    let lines: Vec<&str> = field.strip_suffix("\r\n").unwrap().split("\r\n").collect();
    assert!(lines.iter().skip(1).all(|l| l.starts_with('\t')));
    assert!(
        lines
            .iter()
            .all(|l| l.len() <= 998 && !l.contains(['\r', '\n']))
    );
}

#[test]
fn forged_fields_are_found() {
    let message = b"Received: x\r\n\
        Authentication-Results: MX.example.net.; spf=pass\r\n\
        Authentication-Results: other.example.org; spf=pass\r\n\
        authentication-results : (a (b)) \"mx.\\example.net\" 1;\r\n spf=pass\r\n\
        Authentication-Results: xn--bcher-kva.example; none\r\n\
        Authentication-Results: notmx.example.net; none\r\n\
        Authentication-Results: (open comment\r\n\
        Authentication-Results: \xff\r\n\
        Authentication-Results: mx.example.net 7; x\r\n\
        X-Authentication-Results: mx.example.net; none\r\n\
        \r\n\
        Authentication-Results: mx.example.net; in the body\r\n";
    let (header, _) = Header::of(message).unwrap();
    let ours = ["mx.example.net", "b\u{fc}cher.example"];
    let found: Vec<usize> = forged(header, &ours)
        .map(|forged| header.fields().position(|f| f == forged).unwrap())
        .collect();
    assert_eq!(found, [1, 3, 4, 6, 7, 8]);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9.-]{1,20}",
        "[ -~\t\u{e9}]{0,20}",
        "(\"[a-z ]{0,5}\"|[a-z.]{0,5})@[a-z.]{0,8}",
    ]
}

prop_compose! {
    fn any_result()(
        method in "[a-z][a-z0-9-]{0,8}",
        method_version in prop::option::of(any::<u32>()),
        result in "[a-z]{1,8}",
        comment in prop::option::of(text()),
        reason in prop::option::of(text()),
        properties in prop::collection::vec(("[a-z]{1,6}", "[a-z]{1,8}", text()), 0..5),
    ) -> MethodResult {
        let properties = properties.into_iter().map(|(ptype, property, value)| Property {
            ptype: ptype.into(), property: property.into(), value,
        });
        MethodResult {
            method: method.into(),
            method_version,
            result: result.into(),
            comment,
            reason,
            properties: properties.collect(),
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        authserv_id in text(),
        version in prop::option::of(Just(1)),
        results in prop::collection::vec(any_result(), 0..4),
    ) {
        prop_assume!(!authserv_id.is_empty());
        let results = Results { authserv_id, version, results };
        let mut field = String::new();
        results.write(&mut field).unwrap();
        let (header, _) = Header::of(field.as_bytes()).unwrap();
        prop_assert_eq!(header.fields().count(), 1);
        prop_assert_eq!(header.lines().count(), 1);
        let value = field.strip_prefix("Authentication-Results:").unwrap();
        let again = Results::parse(value);
        prop_assert_eq!(again.as_ref(), Ok(&results), "{}", field);
        prop_assert_eq!(Results::parse(&results.to_string()), again);
        prop_assert_eq!(forged(header, &[&results.authserv_id]).count(), 1);
    }

    #[test]
    fn any_value_is_read_or_refused(value in "[a-z0-9=;.()\"\\\\ \r\n@/_\u{e9}\u{1}]{0,60}") {
        if let Ok(results) = Results::parse(&value) {
            let mut field = String::new();
            results.write(&mut field).unwrap();
            let written = field.strip_prefix("Authentication-Results:").unwrap();
            prop_assert_eq!(Results::parse(written), Ok(results), "{}", field);
        }
    }
}
