//! Records of the RFCs, faults, and what is written is read.

use super::*;
use alloc::string::{String, ToString};
use proptest::prelude::*;
use std::vec;

fn kinds(text: &str) -> Vec<FaultKind> {
    let (_, faults) = Record::read(text).unwrap();
    faults.into_iter().map(|f| f.kind).collect()
}

#[test]
fn examples_of_the_rfcs() {
    // RFC 7489 B.2, RFC 9989 B.2: the records of the examples.
    for text in [
        "v=DMARC1; p=none; rua=mailto:dmarc-feedback@example.com",
        "v=DMARC1; p=none; rua=mailto:dmarc-feedback@example.com; ruf=mailto:auth-reports@example.com",
        "v=DMARC1; p=none; rua=mailto:dmarc-feedback@example.com; ruf=mailto:auth-reports@thirdparty.example.net",
        "v=DMARC1; p=quarantine; rua=mailto:dmarc-feedback@example.com,mailto:tld-test@thirdparty.example.net!10m; pct=25",
        "v=DMARC1; p=quarantine; t=y; rua=mailto:dmarc-feedback@example.com,mailto:tld-test@thirdparty.example.net",
        "v=DMARC1; p=reject; rua=mailto:dmarc-feedback@example.com,mailto:tld-test@thirdparty.example.net",
        "v=DMARC1; p=reject; sp=none; np=quarantine; adkim=s; aspf=s; psd=y; fo=1:d:s; rf=afrf; ri=3600",
    ] {
        assert_eq!(Record::parse(text).unwrap().to_string(), text);
    }
    let record = Record::parse(
        "v=DMARC1; p=quarantine; rua=mailto:a@example.com,mailto:b@example.net!10m; pct=25",
    )
    .unwrap();
    assert_eq!(record.p, Some(Policy::Quarantine));
    assert_eq!(record.pct, Some(25));
    assert_eq!(record.rua[1].size, Some(10 << 20));
    assert_eq!(record.rua[1].mailto().unwrap(), "b@example.net");
}

#[test]
fn version_first_and_exact() {
    for text in [
        "v=DMARC1",
        "V = DMARC1 ;p=none",
        "v=DMARC1;",
        "v\t=\tDMARC1\t;",
    ] {
        assert!(Record::is_dmarc(text.as_bytes()), "{text}");
    }
    for text in [
        "",
        "v=",
        "v=dmarc1; p=none",
        "v=DMARC12",
        "v=DMARC1 p=none",
        " v=DMARC1; p=none",
        "p=none; v=DMARC1",
        "v=DMARC1, p=none",
        "v=spf1 -all",
        "=DMARC1",
    ] {
        assert_eq!(Record::read(text), Err(RecordError::NotDmarc), "{text}");
    }
}

#[test]
fn a_fault_costs_its_tag_only() {
    use FaultKind as K;
    for (text, fault) in [
        ("v=DMARC1; p=none; adkim=x", K::Value),
        ("v=DMARC1; p=none; aspf=", K::NoValue),
        ("v=DMARC1; p=none;; aspf=s", K::Empty),
        ("v=DMARC1; p=none; foo", K::Tag),
        ("v=DMARC1; p=none; f1=x", K::Tag),
        ("v=DMARC1; p=none; future=\u{e9}", K::Character),
        ("v=DMARC1; p=none; pct=101", K::Value),
        ("v=DMARC1; p=none; ri=-1", K::Value),
        ("v=DMARC1; p=none; ri=4294967296", K::Value),
        ("v=DMARC1; p=none; rf=a-", K::Value),
        ("v=DMARC1; p=none; fo=01", K::Value),
        ("v=DMARC1; p=none; fo=d:d", K::Value),
        ("v=DMARC1; p=none; t=x", K::Value),
        ("v=DMARC1; p=none; psd=", K::NoValue),
        ("v=DMARC1; p=none; v=DMARC1", K::Twice),
        ("v=DMARC1; p=none; rua=bogus", K::Uri(UriError::Scheme)),
        ("v=DMARC1; p=none; t=y; T=y", K::Twice),
    ] {
        assert_eq!(kinds(text), [fault], "{text}");
        let (record, _) = Record::read(text).unwrap();
        assert_eq!(record.policy(), Some(Policy::None), "{text}");
    }
    let text = "v=DMARC1; p=reject; rua=bogus,mailto:a@example.org;";
    let (record, faults) = Record::read(text).unwrap();
    assert_eq!((record.rua.len(), faults.len()), (1, 1));
    assert!(!Record::read("v=DMARC1; p=none; t=y; t=y").unwrap().0.t);
}

#[test]
fn what_can_not_be_read_of_a_policy() {
    for (text, here, below) in [
        ("v=DMARC1; p=reject", Some("reject"), Some("reject")),
        ("v=DMARC1; p=reject; sp=none", Some("reject"), Some("none")),
        (
            "v=DMARC1; rua=mailto:a@b.example",
            Some("none"),
            Some("none"),
        ),
        (
            "v=DMARC1; sp=reject; rua=mailto:a@b.example",
            Some("none"),
            Some("none"),
        ),
        (
            "v=DMARC1; p=reject; sp=x; rua=mailto:a@b.example",
            Some("none"),
            Some("none"),
        ),
        (
            "v=DMARC1; p=reject; np=x; rua=mailto:a@b.example",
            Some("none"),
            Some("none"),
        ),
        (
            "v=DMARC1; p=reject; p=none; rua=mailto:a@b.example",
            Some("none"),
            Some("none"),
        ),
        ("v=DMARC1", None, None),
        ("v=DMARC1; p=reject; sp=x", None, None),
        ("v=DMARC1; p=x; rua=bogus", None, None),
        ("v=DMARC1; p=reject; p=reject", None, None),
    ] {
        let (record, _) = Record::read(text).unwrap();
        assert_eq!(record.policy().map(Policy::as_str), here, "{text}");
        assert_eq!(
            record.policy_below(true).map(Policy::as_str),
            below,
            "{text}"
        );
    }
    let (record, _) = Record::read("v=DMARC1; p=none; sp=quarantine; np=reject").unwrap();
    assert_eq!(record.policy_below(true), Some(Policy::Quarantine));
    assert_eq!(record.policy_below(false), Some(Policy::Reject));
}

fn any_policy() -> impl Strategy<Value = Option<Policy>> {
    prop::option::of(prop::sample::select(vec![
        Policy::None,
        Policy::Quarantine,
        Policy::Reject,
    ]))
}

fn any_uris() -> impl Strategy<Value = Vec<ReportUri>> {
    let uri = (
        "mailto:[a-z]{1,8}@[a-z]{1,8}\\.example",
        any::<Option<u64>>(),
    );
    let uri = uri.prop_map(|(uri, size)| {
        let mut uri = ReportUri::parse(&uri).unwrap();
        uri.size = size;
        uri
    });
    prop::collection::vec(uri, 0..3)
}

prop_compose! {
    fn any_record()(
        (p, sp, np) in (any_policy(), any_policy(), any_policy()),
        (strict_dkim, strict_spf, t) in any::<(bool, bool, bool)>(),
        (all, any, dkim, spf) in any::<(bool, bool, bool, bool)>(),
        psd in prop::sample::select(vec![Psd::Yes, Psd::No, Psd::Unknown]),
        (rua, ruf) in (any_uris(), any_uris()),
        pct in prop::option::of(0u8..=100),
        ri in any::<Option<u32>>(),
        rf in prop::collection::vec("[a-z]([a-z-]{0,5}[a-z0-9])?", 0..3),
    ) -> Record {
        let alignment = |strict| if strict { Alignment::Strict } else { Alignment::Relaxed };
        Record {
            p, sp, np, t, psd, rua, ruf, pct, ri,
            adkim: alignment(strict_dkim),
            aspf: alignment(strict_spf),
            fo: FailureOptions { all, any, dkim, spf },
            rf: rf.iter().map(|f| ReportFormat::parse(f).unwrap()).collect(),
            policy_unread: false,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(record in any_record()) {
        let text = record.to_string();
        let (again, faults) = Record::read(&text).unwrap();
        prop_assert_eq!(&again, &record);
        let useless = record.p.is_none() && record.rua.is_empty();
        prop_assert_eq!(faults.len(), usize::from(useless));
        prop_assert_eq!(record.policy().is_none(), useless);
    }

    #[test]
    fn any_text_is_read(rest in ".{0,80}", tags in prop::collection::vec(
        ("v|p|sp|np|adkim|aspf|fo|t|psd|rua|ruf|pct|ri|rf|x", "[ -~\t]{0,12}"), 0..6)) {
        let _ = Record::read(&rest);
        let mut text = String::from("v=DMARC1");
        for (tag, value) in &tags {
            text.push_str(&std::format!("; {tag}={value}"));
        }
        text.push_str(&std::format!("; {rest}"));
        let (record, faults) = Record::read(&text).unwrap();
        // What was understood says the same when it is written.
        if record.policy().is_some() && !record.policy_unread {
            let (again, _) = Record::read(&record.to_string()).unwrap();
            prop_assert_eq!(again, record);
        }
        prop_assert_eq!(Record::parse(&text).is_ok(), faults.is_empty());
    }
}
