//! What an operator reads: which mechanism decided, what it cost, and what is wrong, in words.

use courser_core::auth::spf::{Match, Result};

use crate::zone::Zone;

const ZONE: &str = "
    example.com TXT v=spf1 mx a:none.example.com include:one.example.com ?ip4:203.0.113.0/24 -all
    example.com MX 10 mx.example.com
    mx.example.com A 192.0.2.1
    one.example.com TXT v=spf1 include:two.example.com ~all
    two.example.com TXT v=spf1 +IP4:198.51.100.0/24 -ip4:0.0.0.0/0
    redirected.example.com TXT v=spf1 redirect=two.example.com
    lost.example.com TXT v=spf1 a:none.example.com include:none.example.com -all
";

fn found(term: &str, domain: &str) -> Option<Match> {
    Some(Match {
        term: term.into(),
        domain: domain.into(),
    })
}

#[test]
fn who_decided_and_what_it_cost() {
    let zone = Zone::of(ZONE);
    let check = |ip, from| zone.check(ip, from, "h.example.com");

    let report = check("192.0.2.1", "a@example.com");
    assert_eq!(
        (report.result, report.lookups, report.void_lookups),
        (Result::Pass, 1, 0)
    );
    assert_eq!(report.mechanism, found("mx", "example.com"));
    assert_eq!(report.included, None);

    let report = check("198.51.100.9", "a@Example.com");
    assert_eq!(
        (report.result, report.lookups, report.void_lookups),
        (Result::Pass, 4, 1)
    );
    assert_eq!(
        report.mechanism,
        found("include:one.example.com", "Example.com")
    );
    assert_eq!(
        report.included,
        found("+IP4:198.51.100.0/24", "two.example.com")
    );
    assert_eq!(report.domain, "Example.com");

    let report = check("203.0.113.1", "a@example.com");
    assert_eq!(report.result, Result::Neutral);
    assert_eq!(
        report.mechanism,
        found("?ip4:203.0.113.0/24", "example.com")
    );

    let report = check("192.0.2.2", "a@example.com");
    assert_eq!(report.result, Result::Fail);
    assert_eq!(report.mechanism, found("-all", "example.com"));
    assert_eq!(report.included, None);
    assert_eq!(
        report.mechanism.unwrap().to_string(),
        "-all in the SPF record of example.com"
    );

    let report = check("192.0.2.2", "a@redirected.example.com");
    assert_eq!(report.mechanism, found("-ip4:0.0.0.0/0", "two.example.com"));

    // A record that is not there, beside another void answer.
    let report = check("192.0.2.2", "a@lost.example.com");
    assert_eq!(
        (report.result, report.lookups, report.void_lookups),
        (Result::PermError, 2, 2)
    );

    // No mechanism: neutral by default.
    let report = check("2001:db8::1", "a@redirected.example.com");
    assert_eq!((report.result, report.mechanism), (Result::Neutral, None));

    // The null reverse-path: HELO's domain.
    let report = zone.check("198.51.100.9", "", "two.example.com");
    assert_eq!(
        (report.result, &*report.domain),
        (Result::Pass, "two.example.com")
    );
}

#[test]
fn errors_in_words() {
    let many = (1..=11).map(|n| format!("x.example.com MX {n} m{n}.example.com\n"));
    let many: String = many.collect();
    let terms = "a:mx.example.com ".repeat(11);
    for (lines, from, result, words) in [
        (
            "",
            "a@localhost",
            "none",
            "\"localhost\" is not a domain that can have an SPF record",
        ),
        (
            "x.example.com TXT v=spf1 ip4:10.0.0.256 -all",
            "a@x.example.com",
            "permerror",
            "SPF record of x.example.com, ip4:10.0.0.256: not an IPv4 address (character 12)",
        ),
        (
            "x.example.com TXT v=spf1 ipv4:10.0.0.2 -all",
            "a@x.example.com",
            "permerror",
            "SPF record of x.example.com, ipv4:10.0.0.2: no mechanism has this name (character 8)",
        ),
        (
            "x.example.com TXT v=spf1 a\nx.example.com TXT v=spf1 mx",
            "a@x.example.com",
            "permerror",
            "x.example.com has 2 SPF records, and may have one",
        ),
        (
            "x.example.com TXT v=spf1 include:y.example.com -all",
            "a@x.example.com",
            "permerror",
            "SPF record of x.example.com, include:y.example.com: y.example.com has no SPF record",
        ),
        (
            "x.example.com TXT v=spf1 redirect=%{d1r}.%{d}",
            "a@x.example.com",
            "permerror",
            "SPF record of x.example.com, redirect=%{d1r}.%{d}: x.x.example.com has no SPF record",
        ),
        (
            "x.example.com TXT v=spf1 include:%{h} -all",
            "a@x.example.com",
            "permerror",
            "SPF record of x.example.com, include:%{h}: it leads to \"pc\", which is no domain",
        ),
        (
            "x.example.com TXT v=spf1 a:1.y.example.com a:2.y.example.com a:3.y.example.com -all",
            "a@x.example.com",
            "permerror",
            "SPF record of x.example.com, a:3.y.example.com: with this term more than 2 terms ask DNS \
          for what does not exist",
        ),
        (
            &format!("x.example.com TXT v=spf1 mx -all\n{many}"),
            "a@x.example.com",
            "permerror",
            "SPF record of x.example.com, mx: x.example.com has 11 MX hosts, and may have 10 here",
        ),
        (
            &format!("mx.example.com A 192.0.2.9\nx.example.com TXT v=spf1 {terms}-all"),
            "a@x.example.com",
            "permerror",
            "SPF record of x.example.com, a:mx.example.com: with this term more than 10 terms ask \
          DNS, counting those of included records",
        ),
        (
            "x.example.com TIMEOUT",
            "a@x.example.com",
            "temperror",
            "x.example.com TXT: no DNS server answered in time",
        ),
        (
            "x.example.com TXT v=spf1 mx -all",
            "a@x.example.com",
            "fail",
            "",
        ),
        (
            "x.example.com TXT v=spf1 mx:y.example.com -all\ny.example.com SERVFAIL",
            "a@x.example.com",
            "temperror",
            "SPF record of x.example.com, mx:y.example.com: y.example.com MX: the DNS servers report \
          a failure (SERVFAIL)",
        ),
    ] {
        let report = Zone::of(lines).check("192.0.2.1", from, "pc");
        assert_eq!(report.result.as_str(), result, "{lines}");
        let error = report.error.map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(error, words, "{lines}");
    }
}

#[test]
fn results_have_names() {
    for name in [
        "none",
        "neutral",
        "pass",
        "fail",
        "softfail",
        "temperror",
        "permerror",
    ] {
        let result = Result::parse(name).unwrap();
        assert_eq!(result.to_string(), name);
        assert_eq!(Result::parse(&name.to_uppercase()), Some(result));
    }
    assert_eq!(Result::parse("hardfail"), None);
}
