//! Discovery, alignment and policy, on DNS in a table; the examples of RFC 7489 B and RFC 9989 B.

use super::*;
use crate::auth::results::MethodResult;
use crate::auth::{Evaluate, Step};
use crate::dns::{Failure, Kind, Name, Outcome, Question, Records};
use crate::limits::{DMARC_IDENTIFIERS_MAX, DMARC_QUESTIONS_MAX, DMARC_WALK_QUERIES_MAX};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use proptest::prelude::*;
use std::vec;

/// Names with their records; `*` of a name is a failure, an empty text is a name without records.
type Zone<'a> = &'a [(&'a str, &'a str)];

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn answer(zone: Zone<'_>, question: &Question) -> Outcome {
    let here: Vec<&str> = zone
        .iter()
        .filter(|(n, _)| *question.name == **n)
        .map(|(_, text)| *text)
        .collect();
    match here.as_slice() {
        [] => Outcome::NoName,
        ["*"] => Outcome::Failed(Failure::Timeout),
        [""] => Outcome::NoData,
        texts if question.kind == Kind::Txt => Outcome::Found(Records::Txt(
            texts.iter().map(|t| t.as_bytes().into()).collect(),
        )),
        _ => Outcome::NoData,
    }
}

fn passes(domain: &str) -> Identifier {
    Identifier {
        domain: name(domain),
        checked: Checked::Pass,
    }
}

fn checked(domain: &str, checked: Checked) -> Identifier {
    Identifier {
        domain: name(domain),
        checked,
    }
}

fn by_list(sample: u8) -> Options {
    Options {
        discovery: Discovery::PublicSuffixList,
        sample,
    }
}

struct Run {
    conclusion: Conclusion,
    asked: Vec<String>,
}

fn run_with(
    options: Options,
    from: &str,
    spf: Option<Identifier>,
    dkim: &[Identifier],
    zone: Zone<'_>,
) -> Run {
    let mut asked = Vec::new();
    let mut evaluation = Evaluation::new(author_of(from), spf, dkim.iter().cloned(), options);
    let conclusion = evaluation.run(|question| {
        let text = question.to_string();
        assert!(!asked.contains(&text), "{text} asked twice");
        asked.push(text);
        answer(zone, question)
    });
    Run { conclusion, asked }
}

fn run(from: &str, spf: Option<Identifier>, dkim: &[Identifier], zone: Zone<'_>) -> Run {
    run_with(Options::default(), from, spf, dkim, zone)
}

impl Run {
    /// result, policy, disposition, organizational domain
    fn short(&self) -> (&str, &str, &str, &str) {
        let c = &self.conclusion;
        (
            c.result.as_str(),
            c.policy.map_or("-", Policy::as_str),
            c.disposition.as_str(),
            c.org_domain.as_deref().unwrap_or("-"),
        )
    }
}

const REJECT: &str = "v=DMARC1; p=reject";

#[test]
fn rfc_7489_appendix_b_1() {
    let zone: Zone<'_> = &[("_dmarc.example.com", REJECT)];
    let list = by_list(0);
    for options in [Options::default(), list] {
        // B.1.1: SPF in alignment, the same domain; a parent; not.
        for (from, mail_from, result) in [
            ("example.com", "example.com", "pass"),
            ("child.example.com", "example.com", "pass"),
            ("example.com", "child.example.com", "pass"),
            ("child.example.com", "example.net", "fail"),
        ] {
            let from = std::format!("sender@{from}");
            let got = run_with(options, &from, Some(passes(mail_from)), &[], zone);
            assert_eq!(got.conclusion.result.as_str(), result, "{from} {mail_from}");
        }
        // B.1.2: DKIM in alignment, the same domain; a parent; not.
        for (from, d, result) in [
            ("example.com", "example.com", "pass"),
            ("child.example.com", "example.com", "pass"),
            ("child.example.com", "sample.net", "fail"),
        ] {
            let from = std::format!("sender@{from}");
            let got = run_with(options, &from, None, &[passes(d)], zone);
            assert_eq!(got.conclusion.result.as_str(), result, "{from} {d}");
        }
    }
}

#[test]
fn the_walk_of_rfc_9989_4_10() {
    let deep = "a.b.c.d.e.f.g.h.i.j.mail.example.com";
    let got = run(&std::format!("x@{deep}"), None, &[], &[]);
    let names = [
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
        "h.i.j.mail.example.com",
        "i.j.mail.example.com",
        "j.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    ];
    assert_eq!(names.len(), DMARC_WALK_QUERIES_MAX);
    let expected: Vec<String> = names
        .iter()
        .map(|n| std::format!("_dmarc.{n} TXT"))
        .collect();
    assert_eq!(got.asked, expected);
    assert_eq!(got.short(), ("none", "-", "none", deep));
    // Eight labels are walked one by one.
    let got = run("x@b.c.d.e.f.g.example.com", None, &[], &[]);
    assert_eq!(got.asked.len(), 8);
}

#[test]
fn organizational_domains_of_rfc_9989_4_10_2() {
    // The shortest name that has a record.
    let zone: Zone<'_> = &[
        ("_dmarc.mail.example.com", "v=DMARC1; p=none"),
        ("_dmarc.example.com", "v=DMARC1; p=reject; sp=quarantine"),
    ];
    let got = run("x@a.mail.example.com", None, &[], zone);
    assert_eq!(
        got.short(),
        ("fail", "quarantine", "quarantine", "example.com")
    );
    assert_eq!(got.asked.len(), 4, "np is not there, so nothing else");
    // One below a public suffix, which lends its policy.
    let suffix: Zone<'_> = &[("_dmarc.com", "v=DMARC1; p=reject; sp=none; psd=y")];
    let got = run(
        "x@a.mail.example.com",
        Some(passes("b.example.com")),
        &[],
        suffix,
    );
    assert_eq!(got.short(), ("pass", "none", "none", "example.com"));
    let got = run("x@example.com", Some(passes("other.com")), &[], suffix);
    assert_eq!(got.short(), ("fail", "none", "none", "example.com"));
    // Its organizational domain's own record is before it.
    let both: Zone<'_> = &[
        ("_dmarc.com", "v=DMARC1; p=reject; psd=y"),
        ("_dmarc.example.com", "v=DMARC1; p=quarantine"),
    ];
    let got = run("x@a.example.com", None, &[], both);
    assert_eq!(
        got.short(),
        ("fail", "quarantine", "quarantine", "example.com")
    );
    assert_eq!(got.conclusion.found.unwrap().domain, name("example.com"));
    // A record between the two is neither's.
    let between: Zone<'_> = &[
        ("_dmarc.com", "v=DMARC1; p=reject; psd=y"),
        ("_dmarc.b.example.com", "v=DMARC1; p=none"),
    ];
    let got = run("x@a.b.example.com", None, &[], between);
    assert_eq!(got.short(), ("fail", "reject", "reject", "example.com"));
    // psd=n ends it.
    let split: Zone<'_> = &[
        ("_dmarc.b.example.com", "v=DMARC1; p=none; psd=n"),
        ("_dmarc.example.com", REJECT),
    ];
    let got = run("x@a.b.example.com", Some(passes("example.com")), &[], split);
    assert_eq!(got.short(), ("fail", "none", "none", "b.example.com"));
    assert_eq!(got.asked.len(), 2);
    // psd=y at the start says nothing about the start.
    let got = run(
        "x@example.com",
        None,
        &[],
        &[("_dmarc.example.com", "v=DMARC1; p=reject; psd=y")],
    );
    assert_eq!(got.short(), ("fail", "reject", "reject", "example.com"));
    // A public suffix may send mail itself; below it is somebody else.
    let got = run("x@com", Some(passes("example.com")), &[], suffix);
    assert_eq!(got.short(), ("fail", "reject", "reject", "com"));
}

#[test]
fn strict_and_relaxed() {
    let strict: Zone<'_> = &[("_dmarc.example.com", "v=DMARC1; p=reject; adkim=s; aspf=s")];
    let below = [passes("a.example.com")];
    let got = run(
        "x@example.com",
        Some(passes("a.example.com")),
        &below,
        strict,
    );
    assert_eq!(got.short().0, "fail");
    assert_eq!(got.asked.len(), 2, "strict alignment asks nothing");
    for mixed in ["v=DMARC1; p=reject; adkim=s", "v=DMARC1; p=reject; aspf=s"] {
        let got = run(
            "x@example.com",
            Some(passes("a.example.com")),
            &below,
            &[("_dmarc.example.com", mixed)],
        );
        let Reason::Aligned { spf, dkim } = got.conclusion.reason else {
            panic!("{:?}", got.conclusion.reason);
        };
        assert_eq!(
            (spf.is_some(), dkim.is_some()),
            (mixed.contains("adkim"), mixed.contains("aspf"))
        );
    }
    // A subdomain with an organization of its own.
    let own: Zone<'_> = &[
        ("_dmarc.example.com", REJECT),
        ("_dmarc.a.example.com", "v=DMARC1; p=none; psd=n"),
    ];
    let got = run("x@example.com", None, &below, own);
    assert_eq!(got.short().0, "fail");
    // What failed is not aligned, and the second of the same domain counts.
    let zone: Zone<'_> = &[("_dmarc.example.com", REJECT)];
    let failed = checked("example.com", Checked::Fail);
    let got = run(
        "x@example.com",
        Some(failed.clone()),
        std::slice::from_ref(&failed),
        zone,
    );
    assert_eq!(got.short(), ("fail", "reject", "reject", "example.com"));
    let got = run(
        "x@example.com",
        None,
        &[failed, passes("EXAMPLE.com")],
        zone,
    );
    assert_eq!(got.short(), ("pass", "reject", "none", "example.com"));
    // The suffix of a name is not the end of its text.
    let got = run("x@example.com", Some(passes("notexample.com")), &[], zone);
    assert_eq!(got.short().0, "fail");
}

#[test]
fn others_hide_nothing_that_is_aligned() {
    let zone: Zone<'_> = &[("_dmarc.example.com", REJECT)];
    let others = |count: usize, how: Checked| {
        let other = move |n| checked(&std::format!("d{n}.evil.com"), how);
        (0..count).map(other).collect::<Vec<_>>()
    };
    for options in [Options::default(), by_list(0)] {
        for how in [Checked::Pass, Checked::TempError, Checked::Fail] {
            for aligned in ["a.example.com", "example.com", "b.example.com"] {
                let mut dkim = others(3 * DMARC_IDENTIFIERS_MAX, how);
                dkim.push(checked(aligned, Checked::TempError));
                let got = run_with(options, "x@a.example.com", None, &dkim, zone);
                assert_eq!(got.short().0, "temperror", "{aligned} {how:?}");
                dkim.push(passes(aligned));
                dkim.extend(others(DMARC_IDENTIFIERS_MAX, how));
                let got = run_with(options, "x@a.example.com", None, &dkim, zone);
                assert_eq!(got.short().0, "pass", "{aligned} {how:?}");
                let dkim = Some(name(aligned));
                let expected = Reason::Aligned { spf: None, dkim };
                assert_eq!(got.conclusion.reason, expected);
            }
        }
    }
    let got = run("x@example.com", None, &others(100, Checked::Pass), zone);
    assert_eq!(got.short().0, "fail");
}

#[test]
fn authors_with_an_underscore() {
    let zone: Zone<'_> = &[
        ("_dmarc.example.com", REJECT),
        ("_dmarc.a_b.example", "v=DMARC1; p=quarantine"),
    ];
    for options in [Options::default(), by_list(0)] {
        let got = run_with(options, "x@_x.example.com", None, &[], zone);
        assert_eq!(got.short(), ("fail", "reject", "reject", "example.com"));
        let got = run_with(options, "X <x@a_b.example>", None, &[], zone);
        assert_eq!(
            got.short(),
            ("fail", "quarantine", "quarantine", "a_b.example")
        );
    }
    let got = run("x@_x.example.com", Some(passes("example.com")), &[], zone);
    assert_eq!(got.short().0, "pass");
}

#[test]
fn policies_of_subdomains_and_of_what_does_not_exist() {
    let text = "v=DMARC1; p=none; sp=quarantine; np=reject";
    let zone: Zone<'_> = &[
        ("_dmarc.example.com", text),
        ("there.example.com", ""),
        ("unknown.example.com", "*"),
        ("_dmarc.below.example.com", ""),
    ];
    for options in [Options::default(), by_list(0)] {
        for (from, policy) in [
            ("example.com", "none"),
            ("there.example.com", "quarantine"),
            ("nowhere.example.com", "reject"),
            ("unknown.example.com", "quarantine"),
            // Something is there at _dmarc below it, so it exists (RFC 8020).
            ("below.example.com", "quarantine"),
        ] {
            let got = run_with(options, &std::format!("x@{from}"), None, &[], zone);
            assert_eq!(
                got.short(),
                ("fail", policy, policy, "example.com"),
                "{from}"
            );
            let a = got.asked.contains(&std::format!("{from} A"));
            assert_eq!(a, from != "example.com" && from != "below.example.com");
        }
    }
}

#[test]
fn test_mode_and_percent() {
    for (record, disposition) in [
        ("v=DMARC1; p=reject; t=y", "quarantine"),
        ("v=DMARC1; p=quarantine; t=y", "none"),
        ("v=DMARC1; p=none; t=y", "none"),
        ("v=DMARC1; p=reject; t=n", "reject"),
        // RFC 9989 C.5.2: pct is no more.
        ("v=DMARC1; p=reject; pct=0", "reject"),
    ] {
        let zone: Zone<'_> = &[("_dmarc.example.com", record)];
        let got = run("x@example.com", None, &[], zone);
        assert_eq!(got.short().2, disposition, "{record}");
    }
    for (record, sample, disposition) in [
        ("v=DMARC1; p=reject; pct=30", 29, "reject"),
        ("v=DMARC1; p=reject; pct=30", 30, "quarantine"),
        ("v=DMARC1; p=quarantine; pct=30", 99, "none"),
        ("v=DMARC1; p=reject; pct=0", 0, "quarantine"),
        ("v=DMARC1; p=reject; pct=100", 99, "reject"),
        ("v=DMARC1; p=reject", 99, "reject"),
        // RFC 7489 doesn't know t.
        ("v=DMARC1; p=reject; t=y", 0, "reject"),
    ] {
        let zone: Zone<'_> = &[("_dmarc.example.com", record)];
        let got = run_with(by_list(sample), "x@example.com", None, &[], zone);
        assert_eq!(got.short().2, disposition, "{record} {sample}");
        assert_eq!(
            got.conclusion.policy.unwrap(),
            got.conclusion.found.unwrap().record.p.unwrap()
        );
    }
}

#[test]
fn records_that_are_none() {
    let spf = "v=spf1 -all";
    let two: Zone<'_> = &[
        ("_dmarc.a.example.com", REJECT),
        ("_dmarc.a.example.com", "v=DMARC1; p=none"),
        ("_dmarc.example.com", REJECT),
        ("_dmarc.example.com", spf),
    ];
    // RFC 9989: on with the parent. RFC 7489: the end.
    let got = run("x@a.example.com", None, &[], two);
    assert_eq!(got.short(), ("fail", "reject", "reject", "example.com"));
    let got = run_with(by_list(0), "x@a.example.com", None, &[], two);
    assert_eq!(got.short(), ("none", "-", "none", "example.com"));
    assert_eq!(
        got.conclusion.reason,
        Reason::Several(name("a.example.com"))
    );
    // Without a usable policy and without rua.
    for bad in ["v=DMARC1", "v=DMARC1; p=x", "v=DMARC1; p=reject; sp=x"] {
        let zone: Zone<'_> = &[("_dmarc.example.com", bad)];
        for options in [Options::default(), by_list(0)] {
            let got = run_with(
                options,
                "x@example.com",
                Some(passes("example.com")),
                &[],
                zone,
            );
            assert_eq!(
                got.short(),
                ("permerror", "-", "none", "example.com"),
                "{bad}"
            );
        }
    }
    let zone: Zone<'_> = &[(
        "_dmarc.example.com",
        "v=DMARC1; p=x; rua=mailto:a@b.example",
    )];
    let got = run("x@example.com", None, &[], zone);
    assert_eq!(got.short(), ("fail", "none", "none", "example.com"));
    // The list asks the organizational domain, and nobody else.
    let got = run_with(by_list(0), "x@a.b.example.co.uk", None, &[], &[]);
    assert_eq!(
        got.asked,
        ["_dmarc.a.b.example.co.uk TXT", "_dmarc.example.co.uk TXT"]
    );
    assert_eq!(got.short(), ("none", "-", "none", "example.co.uk"));
}

#[test]
fn when_dns_fails() {
    // Of the policy.
    for options in [Options::default(), by_list(0)] {
        let zone: Zone<'_> = &[("_dmarc.example.com", "*")];
        let got = run_with(
            options,
            "x@a.example.com",
            Some(passes("a.example.com")),
            &[],
            zone,
        );
        assert_eq!(got.short().0, "temperror");
        assert_eq!(
            got.conclusion.reason,
            Reason::Dns(name("example.com"), Failure::Timeout)
        );
    }
    // Above a record of its own: what is equal passes, the rest can't be known.
    let above: Zone<'_> = &[
        ("_dmarc.a.example.com", REJECT),
        ("_dmarc.example.com", "*"),
    ];
    for (domain, result) in [
        ("a.example.com", "pass"),
        ("b.example.com", "temperror"),
        ("example.net", "fail"),
    ] {
        let got = run("x@a.example.com", Some(passes(domain)), &[], above);
        assert_eq!(got.short().0, result, "{domain}");
    }
    // Of an authenticated domain.
    let zone: Zone<'_> = &[
        ("_dmarc.example.com", REJECT),
        ("_dmarc.b.example.com", "*"),
    ];
    let got = run("x@example.com", Some(passes("b.example.com")), &[], zone);
    assert_eq!(got.short(), ("temperror", "reject", "none", "example.com"));
    // Of SPF and DKIM: only what would be aligned matters.
    let zone: Zone<'_> = &[("_dmarc.example.com", REJECT)];
    for (domain, result) in [
        ("example.com", "temperror"),
        ("b.example.com", "temperror"),
        ("evil.example.net", "fail"),
    ] {
        let dkim = [checked(domain, Checked::TempError)];
        let got = run("x@example.com", None, &dkim, zone);
        assert_eq!(got.short().0, result, "{domain}");
        let got = run("x@example.com", Some(passes("example.com")), &dkim, zone);
        assert_eq!(got.short().0, "pass", "{domain}");
    }
}

#[test]
fn without_an_author() {
    for (from, error) in [
        ("", AuthorError::Empty),
        ("a@example.com, b@example.net", AuthorError::Domains),
        ("a@example.com <b@example.net", AuthorError::Malformed),
    ] {
        let got = run(from, Some(passes("example.com")), &[], &[]);
        assert_eq!(got.short(), ("none", "-", "none", "-"));
        assert_eq!(got.conclusion.reason, Reason::Author(error));
        assert!(got.asked.is_empty());
    }
}

#[test]
fn names_that_can_have_no_record() {
    let long = std::format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(58));
    for odd in [Name::root(), name(&long)] {
        for options in [Options::default(), by_list(0)] {
            let spf = Identifier {
                domain: odd.clone(),
                checked: Checked::Pass,
            };
            let mut evaluation = Evaluation::new(Ok(odd.clone()), Some(spf), [], options);
            let conclusion = evaluation.run(|_| Outcome::NoName);
            assert_eq!(conclusion.reason, Reason::NoRecord);
        }
    }
}

#[test]
fn asked_again_until_it_is_answered() {
    let mut evaluation = Evaluation::new(Ok(name("example.com")), None, [], Options::default());
    evaluation.answer(&Outcome::NoName);
    let first = evaluation.step();
    assert_eq!(first, evaluation.step());
    assert!(matches!(first, Step::Ask(_)));
    evaluation.answer(&Outcome::NoName);
    evaluation.answer(&Outcome::Failed(Failure::Timeout));
    assert_ne!(first, evaluation.step());
}

#[test]
fn as_authentication_results() {
    let zone: Zone<'_> = &[("_dmarc.example.com", "v=DMARC1; p=reject; sp=none")];
    let got = run("x@a.example.com", Some(passes("example.com")), &[], zone);
    let result = MethodResult::from(&got.conclusion);
    let expected = MethodResult::new("dmarc", "pass")
        .property("header", "from", "a.example.com")
        .property("polrec", "p", "reject")
        .property("polrec", "domain", "example.com");
    assert_eq!(result, expected);
    let got = run("x@example.com", None, &[], zone);
    let result = MethodResult::from(&got.conclusion);
    assert_eq!(result.find("polrec", "domain"), None);
    assert_eq!(result.reason.unwrap(), Reason::Unaligned.to_string());
}

#[test]
fn reasons_read_well() {
    for (reason, words) in [
        (
            Reason::Aligned {
                spf: Some(name("a.example")),
                dkim: Some(name("b.example")),
            },
            "SPF passed for a.example and DKIM passed for b.example, aligned with the author domain",
        ),
        (
            Reason::Test,
            "nothing that passed is aligned with the author domain; t=y asks for the next milder policy",
        ),
        (
            Reason::Dns(name("a.example"), Failure::Timeout),
            "_dmarc.a.example: no DNS server answered in time",
        ),
    ] {
        assert_eq!(reason.to_string(), words);
    }
}

fn any_name() -> impl Strategy<Value = String> {
    let label = prop::sample::select(vec!["a", "b", "example", "com", "co", "uk", "github", "io"]);
    prop::collection::vec(label, 1..12).prop_map(|labels| labels.join("."))
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let text = prop::sample::select(vec![
        "v=DMARC1; p=reject",
        "v=DMARC1; p=none; psd=y",
        "v=DMARC1; p=quarantine; psd=n",
        "v=DMARC1; p=none; np=reject; aspf=s; t=y",
        "v=DMARC1; p=none; p=none",
        "v=DMARC1",
        "other",
        "",
    ]);
    let found = prop::collection::vec(text, 1..3).prop_map(|texts| {
        Outcome::Found(Records::Txt(
            texts.iter().map(|t| t.as_bytes().into()).collect(),
        ))
    });
    prop_oneof![
        4 => found,
        2 => Just(Outcome::NoName),
        2 => Just(Outcome::NoData),
        1 => Just(Outcome::Failed(Failure::ServerFailure)),
    ]
}

fn any_identifier() -> impl Strategy<Value = Identifier> {
    let how = prop::sample::select(vec![Checked::Pass, Checked::TempError, Checked::Fail]);
    (any_name(), how).prop_map(|(domain, how)| checked(&domain, how))
}

proptest! {
    #[test]
    fn it_ends_and_pass_needs_something_aligned(
        from in any_name(),
        spf in prop::option::of(any_identifier()),
        dkim in prop::collection::vec(any_identifier(), 0..14),
        answers in prop::collection::vec(any_outcome(), 1..40),
        list in any::<bool>(),
        sample in 0u8..100,
    ) {
        let options = if list { by_list(sample) } else { Options::default() };
        let any_pass = spf.iter().chain(&dkim).any(|i| i.checked == Checked::Pass);
        let author = name(&from);
        let mut evaluation =
            Evaluation::new(Ok(author.clone()), spf, dkim, options);
        let mut asked = Vec::new();
        let conclusion = loop {
            match evaluation.step() {
                Step::Done(conclusion) => break conclusion,
                Step::Ask(question) => {
                    prop_assert!(!asked.contains(&question));
                    let outcome = &answers[asked.len() % answers.len()];
                    asked.push(question);
                    prop_assert!(asked.len() <= DMARC_QUESTIONS_MAX);
                    evaluation.answer(outcome);
                }
            }
        };
        prop_assert!(conclusion.disposition <= conclusion.policy.unwrap_or_default());
        match conclusion.result {
            DmarcResult::Pass => {
                prop_assert!(any_pass);
                prop_assert_eq!(conclusion.disposition, Policy::None);
                prop_assert!(conclusion.found.is_some());
            }
            DmarcResult::Fail => prop_assert!(conclusion.found.is_some()),
            _ => prop_assert_eq!(conclusion.disposition, Policy::None),
        }
        if let Some(org) = &conclusion.org_domain {
            prop_assert!(author.is_within(org));
        }
        let _ = MethodResult::from(&conclusion);
    }

    /// What strangers signed changes nothing, wherever it stands.
    #[test]
    fn strangers_count_for_nothing(
        from in any_name(),
        dkim in prop::collection::vec(any_identifier(), 0..DMARC_IDENTIFIERS_MAX),
        strangers in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..40),
        answers in prop::collection::vec(any_outcome(), 1..40),
        list in any::<bool>(),
    ) {
        let options = if list { by_list(0) } else { Options::default() };
        let evaluate = |dkim: &[Identifier]| {
            let dkim = dkim.iter().cloned();
            Evaluation::new(Ok(name(&from)), None, dkim, options).run(|question| {
                let at = question.to_string().bytes().map(usize::from).sum::<usize>();
                answers[at % answers.len()].clone()
            })
        };
        let mut with = dkim.clone();
        for (n, (pass, at)) in strangers.into_iter().enumerate() {
            let how = if pass { Checked::Pass } else { Checked::TempError };
            let stranger = checked(&std::format!("d{n}.stranger"), how);
            with.insert(at.index(with.len() + 1), stranger);
        }
        prop_assert_eq!(evaluate(&with), evaluate(&dkim));
    }
}
