//! RFC 7208 appendix A: the records of its examples, and which addresses of its zone they take.

use courser_core::auth::spf::Result::{self, Fail, Neutral, Pass, PermError};

use crate::zone::Zone;

/// Appendix A's zone, without the record of example.com.
const ZONE: &str = "
    example.com MX 10 mail-a.example.com
    example.com MX 20 mail-b.example.com
    example.com A 192.0.2.10
    example.com A 192.0.2.11
    amy.example.com A 192.0.2.65
    bob.example.com A 192.0.2.66
    mail-a.example.com A 192.0.2.129
    mail-b.example.com A 192.0.2.130
    example.org MX 10 mail-c.example.org
    mail-c.example.org A 192.0.2.140
    10.2.0.192.in-addr.arpa PTR example.com
    11.2.0.192.in-addr.arpa PTR example.com
    65.2.0.192.in-addr.arpa PTR amy.example.com
    66.2.0.192.in-addr.arpa PTR bob.example.com
    129.2.0.192.in-addr.arpa PTR mail-a.example.com
    130.2.0.192.in-addr.arpa PTR mail-b.example.com
    140.2.0.192.in-addr.arpa PTR mail-c.example.org
    4.0.0.10.in-addr.arpa PTR bob.example.com
";

fn check(record: &str, more: &str, ip: &str, sender: &str) -> Result {
    let mut zone = Zone::of(&format!("{ZONE}\n{more}"));
    zone.add("example.com", "TXT", record);
    zone.check(ip, sender, "helo.example.net").result
}

/// A.1.
#[test]
fn simple_examples() {
    let all = [
        "192.0.2.10",
        "192.0.2.11",
        "192.0.2.65",
        "192.0.2.66",
        "192.0.2.129",
        "192.0.2.130",
        "192.0.2.140",
        "10.0.0.4",
    ];
    for (record, passes) in [
        ("v=spf1 +all", all.as_slice()),
        ("v=spf1 a -all", &["192.0.2.10", "192.0.2.11"]),
        ("v=spf1 a:example.org -all", &[]),
        ("v=spf1 mx -all", &["192.0.2.129", "192.0.2.130"]),
        ("v=spf1 mx:example.org -all", &["192.0.2.140"]),
        (
            "v=spf1 mx mx:example.org -all",
            &["192.0.2.129", "192.0.2.130", "192.0.2.140"],
        ),
        (
            "v=spf1 mx/30 mx:example.org/30 -all",
            &["192.0.2.129", "192.0.2.130", "192.0.2.140"],
        ),
        (
            "v=spf1 ptr -all",
            &[
                "192.0.2.10",
                "192.0.2.11",
                "192.0.2.65",
                "192.0.2.66",
                "192.0.2.129",
                "192.0.2.130",
            ],
        ),
        (
            "v=spf1 ip4:192.0.2.128/28 -all",
            &["192.0.2.129", "192.0.2.130", "192.0.2.140"],
        ),
    ] {
        for ip in all {
            let expected = if passes.contains(&ip) { Pass } else { Fail };
            assert_eq!(
                check(record, "", ip, "a@example.com"),
                expected,
                "{record} {ip}"
            );
        }
    }
    for (ip, expected) in [
        ("192.0.2.131", Pass),
        ("192.0.2.132", Fail),
        ("192.0.2.143", Pass),
    ] {
        let record = "v=spf1 mx/30 mx:example.org/30 -all";
        assert_eq!(check(record, "", ip, "a@example.com"), expected, "{ip}");
    }
}

/// A.2.
#[test]
fn multiple_domain_example() {
    let more = "
        example.org TXT v=spf1 include:example.com include:example.net -all
        la.example.org TXT v=spf1 redirect=example.org
        example.net TXT v=spf1 ip4:198.51.100.0/24 -all
    ";
    let record = "v=spf1 a -all";
    for sender in ["a@example.org", "a@la.example.org"] {
        assert_eq!(check(record, more, "192.0.2.10", sender), Pass);
        assert_eq!(check(record, more, "198.51.100.7", sender), Pass);
        assert_eq!(check(record, more, "192.0.2.140", sender), Fail);
    }
    // Where an included domain has no record, all of it is broken (5.2).
    let broken = "example.org TXT v=spf1 include:example.com include:example.net -all";
    assert_eq!(
        check(record, broken, "192.0.2.140", "a@example.org"),
        PermError
    );
}

/// A.3: a list of addresses of one's own.
#[test]
fn dnsbl_style_example() {
    let more = "
        mary.mobile-users._spf.example.com A 127.0.0.2
        fred.mobile-users._spf.example.com A 127.0.0.2
        15.15.168.192.joel.remote-users._spf.example.com A 127.0.0.2
        16.15.168.192.joel.remote-users._spf.example.com A 127.0.0.2
    ";
    let record = "v=spf1 mx include:mobile-users._spf.%{d} include:remote-users._spf.%{d} -all";
    let more = format!(
        "{more}
        mobile-users._spf.example.com TXT v=spf1 exists:%{{l1r+}}.%{{d}}
        remote-users._spf.example.com TXT v=spf1 exists:%{{ir}}.%{{l1r+}}.%{{d}}"
    );
    for (ip, sender, expected) in [
        ("203.0.113.1", "mary@example.com", Pass),
        ("203.0.113.1", "fred+list@example.com", Pass),
        ("203.0.113.1", "joel@example.com", Fail),
        ("192.168.15.15", "joel@example.com", Pass),
        ("192.168.15.17", "joel@example.com", Fail),
        ("192.0.2.129", "anyone@example.com", Pass),
    ] {
        assert_eq!(check(record, &more, ip, sender), expected, "{ip} {sender}");
    }
}

/// A.4: only hosts that say who they are may say so.
#[test]
fn multiple_requirements_example() {
    let more = "
        ip4._spf.example.com TXT v=spf1 -ip4:192.0.2.0/24 +all
        ptr._spf.example.com TXT v=spf1 -ptr:example.com +all
        9.100.51.198.in-addr.arpa PTR outside.example.com
        outside.example.com A 198.51.100.9
    ";
    let record = "v=spf1 -include:ip4._spf.%{d} -include:ptr._spf.%{d} +all";
    assert_eq!(check(record, more, "192.0.2.65", "a@example.com"), Pass);
    // In the network, without a name; with a name, outside of the network.
    assert_eq!(check(record, more, "192.0.2.99", "a@example.com"), Fail);
    assert_eq!(check(record, more, "198.51.100.9", "a@example.com"), Fail);
    assert_eq!(check("v=spf1", "", "192.0.2.9", "a@example.com"), Neutral);
}
