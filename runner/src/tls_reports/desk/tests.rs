use super::*;
use crate::config;

#[test]
fn where_https_leads() {
    for (uri, host, port, path) in [
        ("https://a.example", "a.example", 443, "/"),
        ("HTTPS://a.example/", "a.example", 443, "/"),
        (
            "https://a.example:8443/v1/t?x=1#y",
            "a.example",
            8443,
            "/v1/t?x=1",
        ),
        ("https://a.example?x", "a.example", 443, "/?x"),
        ("https://[2001:db8::1]/x", "[2001:db8::1]", 443, "/x"),
        ("https://[2001:db8::1]:8443", "[2001:db8::1]", 8443, "/"),
    ] {
        let path = path.to_owned();
        assert_eq!(Target::of(uri), Some(Target { host, port, path }), "{uri}");
    }
    for uri in [
        "https://",
        "https:a.example",
        "https://a:b@c.example/",
        "https://a.example:0/",
        "https://a.example:x/",
        "http://a.example",
        "ü",
    ] {
        assert_eq!(Target::of(uri), None, "{uri}");
    }
}

#[test]
fn each_domain_has_its_time() {
    let config = config::parse("hostname = \"mail.example.org\"", "x").unwrap();
    let report = &config.tls.report;
    let day = Wall::from_unix(1_799_971_200);
    let after = |n: u32| {
        let domain = Name::parse(&format!("d{n}.example")).unwrap();
        let due = due_at(report, day, &domain);
        assert_eq!(due, due_at(report, day, &domain));
        due.unix() - day.unix() - DAY_S
    };
    let all: Vec<i64> = (0..1000).map(after).collect();
    assert!(all.iter().all(|s| (600..600 + 4 * 3600).contains(s)));
    // They are spread over the four hours.
    for hour in 0..4 {
        let within = (600 + hour * 3600)..(600 + (hour + 1) * 3600);
        let count = all.iter().filter(|s| within.contains(*s)).count();
        assert!((150..350).contains(&count), "{hour}: {count}");
    }
    let mut at_once = report.clone();
    (at_once.send_after, at_once.spread) = (Duration::ZERO, Duration::ZERO);
    let domain = Name::parse("a.example").unwrap();
    assert_eq!(due_at(&at_once, day, &domain), day.plus_s(DAY_S));
}
