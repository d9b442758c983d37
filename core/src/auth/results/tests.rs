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

#[test]
fn ids_in_other_clothes_are_ours() {
    let ours = ["mx.example.net", "b\u{fc}cher.example"];
    for value in [
        "mx.example.net",
        " MX.Example.NET ; none",
        "mx.example.net.; none",
        "mx.example.net..; none",
        ".mx.example.net; none",
        "mx.example.net/1; none",
        "mx.example.net / 1; none",
        "mx.example.net 1; none",
        "mx.example.net 2; none",
        "mx.example.net (x) 1 (y); none",
        "(x)mx.example.net(y)/(z)1; none",
        "(\\)) (a (b)) mx.example.net; none",
        "\"mx.example.net\"; none",
        "\"mx.example.net\"1; none",
        "\"MX.\\example.net\"/1; none",
        "\"mx.example.net/1\"; none",
        "\" mx.example.net\"; none",
        "\"mx.\r\n example.net\"; none",
        "mx.example\\.net; none",
        "mx.example.net\"\"; none",
        "mx.example.net@x; none",
        "mx.example.net=; none",
        "mx.example.net, none",
        "mx.example.net: none",
        "<mx.example.net>; none",
        "mx.example.net spf=pass",
        "mx.\r\n example.net; none",
        "mx.exam\u{0}ple.net; none",
        "mx.exa\u{ad}mple.net; none",
        "\u{ff4d}x.example.net; none",
        "mx\u{3002}example\u{3002}net\u{3002}; none",
        "=?utf-8?q?mx.example.net?=; none",
        "=?utf-8?q?other.example?=; none",
        "XN--BCHER-KVA.example.; none",
        "B\u{dc}CHER.example; none",
        "; none",
        "",
        "(mx.example.net",
        "\"mx.example.net; none",
        "spf=pass smtp.mailfrom=ann@example.org",
        "\u{200d}.example; none",
    ] {
        assert!(may_be_of(value.as_bytes(), &ours), "{value:?}");
    }
    assert!(may_be_of(b" mx\xff.example.net; none", &ours));
    for value in [
        " other.example; spf=pass",
        "other.example 1; none",
        "other.example (x) 1 (mx.example.net); none",
        "(mx.example.net) other.example; none",
        "\"other.example\"; none",
        "notmx.example.net; none",
        "mx.example.net.other.example; none",
        "example.net; none",
        "xn--other-kva.example; none",
        "m\u{fc}x.example.net; none",
        "other.example",
        "other.example; x=\"; mx.example.net\"",
    ] {
        assert!(!may_be_of(value.as_bytes(), &ours), "{value:?}");
    }
}

#[test]
fn addresses_behind_a_blank() {
    for address in [
        "ann@example.org",
        "bounce-ann=example.org@lists.example",
        "bounces.ann=example.org@lists.example",
        "prvs=123456=ann@example.org",
        "SRS0=a1b2=TT=example.org=ann@fwd.example",
        "bounce+ann=example.org@lists.example",
        "\"ann=x\"@example.org",
        "@example.org",
    ] {
        for before in ["", " ", "\r\n\t", " (a comment) "] {
            let expected = std::format!("smtp.mailfrom={address} smtp.helo=a.example");
            let value = expected.replace("mailfrom=", &std::format!("mailfrom={before}"));
            check(
                &std::format!("mx.example; spf=pass {value}"),
                "mx.example",
                &[("spf", "pass", None, &expected)],
            );
        }
    }
    // The next property, however it looks.
    for (value, expected) in [
        (
            "smtp.helo= smtp.mailfrom=ann@example.org",
            "smtp.helo= smtp.mailfrom=ann@example.org",
        ),
        (
            "smtp.mailfrom= SMTP.helo = a.example",
            "smtp.mailfrom= smtp.helo=a.example",
        ),
        (
            "smtp.mailfrom= x.y=a.example",
            "smtp.mailfrom= x.y=a.example",
        ),
        ("header.from= action=none", "header.from= .action=none"),
    ] {
        check(
            &std::format!("mx.example; spf=none {value}"),
            "mx.example",
            &[("spf", "none", None, expected)],
        );
    }
}

#[test]
fn long_comments_and_reasons_are_folded() {
    let results = Results {
        authserv_id: "mx.example".into(),
        version: None,
        results: vec![
            MethodResult::new("dmarc", "fail")
                .comment("p=reject sp=none dis=none, and more words than there is room for on one line")
                .reason("nothing that passed is aligned with the author domain; t=y asks for the next milder policy")
                .property("header", "from", "a.example"),
        ],
    };
    let mut field = String::new();
    results.write(&mut field).unwrap();
    assert_eq!(
        field,
        "Authentication-Results: mx.example;\r\n\
         \tdmarc=fail\r\n\
         \t(p=reject sp=none dis=none, and more words than there is room for on one\r\n\
         \x20line)\r\n\
         \treason=\"nothing that passed is aligned with the author domain; t=y asks for\r\n\
         \x20the next milder policy\" header.from=a.example\r\n"
    );
    assert_eq!(parse(&field[FIELD_NAME.len() + 1..]), results);
    assert!(!results.to_string().contains(['\r', '\n', '\t']));
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
        // Only a property makes a line long, and what has no place to fold it at; none is blank.
        for line in field.trim_end().split("\r\n").skip(1) {
            let blank = |b: u8| matches!(b, b' ' | b'\t');
            let mut pairs = line.as_bytes().windows(2);
            let place = pairs.any(|pair| !blank(pair[0]) && pair[1] == b' ');
            let name = line.split('=').next().unwrap();
            let property = name.starts_with('\t') && name.contains('.') && !name.contains('(');
            prop_assert!(line.len() <= LINE_BYTES_WISHED || !place || property, "{}", field);
            prop_assert!(!line.trim().is_empty());
        }
    }

    /// However our own id is written, and whatever stands around it, the field goes; and one that
    /// is plainly another's stays.
    #[test]
    fn no_clothes_hide_our_id(
        cases in prop::collection::vec(any::<bool>(), 14),
        before in "(\\((mx|\\\\\\)| )?\\)|\r\n |[ \t]){0,3}",
        quoted in any::<bool>(),
        dot in any::<bool>(),
        after in "([ /@,:=<>\\[\\]?\\\\(\"\u{1}]{1,3}[0-9a-z/. \"]{0,5})?(;.{0,20})?",
        other in "[a-z0-9-]{1,8}(\\.[a-z0-9]{1,8}){0,2}",
        version in "( 1)?( \\(mx[.]example[.]net\\))?(; .{0,20})?",
    ) {
        let upper = |(c, upper): (char, &bool)| if *upper { c.to_ascii_uppercase() } else { c };
        let mut id: String = "mx.example.net".chars().zip(&cases).map(upper).collect();
        if dot {
            id.push('.');
        }
        if quoted {
            id = std::format!("\"{id}\"");
        }
        let value = std::format!("{before}{id}{after}");
        prop_assert!(may_be_of(value.as_bytes(), &["mx.example.net"]), "{:?}", value);
        prop_assume!(other != "mx.example.net");
        let other = if quoted { std::format!("\"{other}\"") } else { other };
        let value = std::format!("{before}{other}{version}");
        prop_assert!(!may_be_of(value.as_bytes(), &["mx.example.net"]), "{:?}", value);
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
