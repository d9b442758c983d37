//! What goes and what stays of a header, what is written of the checks, and that it is read again.

use super::*;
use crate::auth::Evaluate;
use crate::auth::arc::{ArcReason, ArcVerifier};
use crate::auth::dkim::{Algorithm, Verifier};
use crate::auth::dmarc::{Evaluation, Options, author};
use crate::dns::{Failure, Outcome, Question, Records};
use crate::limits::{AUTH_RESULTS_MAX, DKIM_SIGNATURES_MAX, LINE_BYTES_WISHED};
use crate::time::Wall;
use alloc::string::String;
use proptest::prelude::*;
use std::vec;

const OURS: &[&str] = &["mx.example.net"];
const NOW: Wall = Wall::from_unix(1_790_000_000);

fn header(bytes: &[u8]) -> Header<'_> {
    Header::of(bytes).unwrap().0
}

fn text_of(header: Header<'_>) -> String {
    let bytes: Vec<u8> = kept(header, OURS).flatten().copied().collect();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn what_goes_and_what_stays() {
    let bytes = b" Authentication-Results: other.example; none\r\n\tdkim=pass\r\n\
        Received: x\r\n\
        Authentication-Results: mx.example.net/1;\r\n spf=pass\r\n\
        AUTHENTICATION-RESULTS : MX.example.net.\r\n\
        Authentication-Results: other.example; spf=pass\r\n\
        X: a\rauthentication-results \t: other.example; none\r\n\
        junk\rAuthentication-Results: other.example\r\n\
        Subject: a\rb Authentication-Results: c\r\n\
        Authentication-Results:\r\n";
    let header = header(bytes);
    let whys: Vec<Why> = dropped(header, OURS).map(|(_, why)| why).collect();
    assert_eq!(
        whys,
        [
            Why::Continuation,
            Why::Results,
            Why::Results,
            Why::Hidden,
            Why::Hidden,
            Why::Results
        ]
    );
    assert_eq!(
        text_of(header),
        "Received: x\r\n\
         Authentication-Results: other.example; spf=pass\r\n\
         Subject: a\rb Authentication-Results: c\r\n"
    );
    // Whose `mx.example.net/1` and nothing at all are is not clear, whoever we are.
    assert_eq!(dropped(header, &[]).count(), 5);
}

#[test]
fn the_first_line_continues_nothing_of_ours() {
    for first in [
        "\t; dkim=pass header.d=bank.example\r\n",
        " x\r\n",
        " \r\n",
        " Name: x\n",
    ] {
        let bytes = [first, "From: a@example.org\r\n"].concat();
        let kept = text_of(header(bytes.as_bytes()));
        assert_eq!(kept, "From: a@example.org\r\n");
        let results = Checks::default().results("mx.example.net");
        let mut field = String::new();
        results.write(&mut field).unwrap();
        field += &kept;
        let top = header(field.as_bytes()).find(FIELD_NAME).unwrap();
        assert_eq!(top.value(), b" mx.example.net; none");
    }
    assert_eq!(text_of(header(b"")), "");
    assert_eq!(text_of(header(b"A: b\r\n c\r\n")), "A: b\r\n c\r\n");
}

fn spf_report(result: spf::Result) -> spf::Report {
    spf::Report {
        result,
        domain: "example.org".into(),
        mechanism: None,
        included: None,
        explanation: Some("go away".into()),
        lookups: 1,
        void_lookups: 0,
        error: None,
    }
}

fn signature(status: dkim::Status) -> dkim::Verdict {
    dkim::Verdict {
        status,
        reason: dkim::Reason::KeyUnavailable(Failure::Timeout),
        domain: Some(Name::parse("example.org").unwrap()),
        selector: Some(Name::parse("s1").unwrap()),
        algorithm: Some(Algorithm::RsaSha256),
        identity: Some("@example.org".into()),
        testing: false,
        tag: "AbC/d+e=".into(),
    }
}

fn written(checks: &Checks<'_>) -> String {
    let results = checks.results("mx.example.net");
    let mut field = String::new();
    results.write(&mut field).unwrap();
    let value = field.strip_prefix("Authentication-Results:").unwrap();
    assert_eq!(Results::parse(value).as_ref(), Ok(&results), "{field}");
    assert!(
        field.lines().all(|l| l.len() <= LINE_BYTES_WISHED),
        "{field}"
    );
    field
}

#[test]
fn everything_in_one_field() {
    let mut spf = spf_report(spf::Result::Fail);
    spf.mechanism = Some(spf::Match {
        term: "-all".into(),
        domain: "example.org".into(),
    });
    let dkim = dkim::Report {
        signatures: vec![
            signature(dkim::Status::Pass),
            dkim::Verdict {
                testing: true,
                identity: None,
                tag: "".into(),
                ..signature(dkim::Status::TempError)
            },
        ],
        not_evaluated: 3,
    };
    let arc = ArcReport {
        result: Chain::Fail,
        instance: 2,
        reason: ArcReason::Missing(1),
        sealers: Vec::new(),
    };
    let mut checks = Checks {
        spf: Some(SpfChecked {
            report: &spf,
            mail_from: "bounce-ann=x@example.org",
            helo: "out.example.org",
        }),
        dkim: Some(&dkim),
        arc: Some(&arc),
        ..Checks::default()
    };
    let ask = |question: &Question| match question.name.as_str() {
        "_dmarc.example.org" => {
            Outcome::Found(Records::Txt([(*b"v=DMARC1; p=reject").into()].into()))
        }
        _ => Outcome::NoName,
    };
    let from = Header::of(b"From: ann@a.example.org\r\n\r\n").unwrap().0;
    let (by_spf, by_dkim) = checks.identifiers();
    let dmarc = Evaluation::new(author(from), by_spf, by_dkim, Options::default()).run(ask);
    checks.dmarc = Some(&dmarc);
    let unavailable = dkim::Reason::KeyUnavailable(Failure::Timeout);
    let expected = std::format!(
        "Authentication-Results: mx.example.net;\r\n\
         \tspf=fail (-all in the SPF record of example.org)\r\n\
         \tsmtp.mailfrom=bounce-ann=x@example.org;\r\n\
         \tdkim=pass header.d=example.org header.i=@example.org header.s=s1\r\n\
         \theader.a=rsa-sha256 header.b=\"AbC/d+e=\";\r\n\
         \tdkim=temperror (the domain only tests DKIM: t=y)\r\n\
         \treason=\"{unavailable}\"\r\n\
         \theader.d=example.org header.s=s1 header.a=rsa-sha256;\r\n\
         \tdkim=policy reason=\"3 more signatures were not looked at\";\r\n\
         \tarc=fail (i=2) reason=\"a field of ARC set 1 is missing\";\r\n\
         \tdmarc=pass (p=reject dis=none) header.from=a.example.org polrec.p=reject\r\n\
         \tpolrec.domain=example.org\r\n"
    );
    assert_eq!(written(&checks), expected);
}

#[test]
fn what_was_not_checked_is_not_written() {
    assert_eq!(
        written(&Checks::default()),
        "Authentication-Results: mx.example.net; none\r\n"
    );
    let message = b"Subject: x\r\n\r\n";
    let dkim = Verifier::new(header(message), NOW)
        .finish()
        .run(|_| Outcome::NoName);
    let arc = ArcVerifier::new(header(message), NOW)
        .finish()
        .run(|_| Outcome::NoName);
    let spf = spf_report(spf::Result::None);
    let mut checks = Checks {
        dkim: Some(&dkim),
        arc: Some(&arc),
        spf: Some(SpfChecked {
            report: &spf,
            mail_from: "",
            helo: "b\u{fc}cher.example",
        }),
        ..Checks::default()
    };
    assert_eq!(
        written(&checks),
        "Authentication-Results: mx.example.net;\r\n\
         \tspf=none;\r\n\
         \tdkim=none;\r\n\
         \tarc=none\r\n"
    );
    checks.utf8 = true;
    assert!(written(&checks).contains("smtp.helo=b\u{fc}cher.example;"));
    assert_eq!(dkim.signatures.len(), 0);
}

#[test]
fn errors_are_in_ascii_too() {
    let mut spf = spf_report(spf::Result::PermError);
    spf.error = Some(spf::Error {
        domain: "b\u{fc}cher".into(),
        term: None,
        problem: spf::Problem::NotADomain,
    });
    let checks = Checks {
        spf: Some(SpfChecked {
            report: &spf,
            mail_from: "a@example.org",
            helo: "",
        }),
        ..Checks::default()
    };
    assert!(written(&checks).contains("reason=\"\\\"b?cher\\\" is not a domain"));
}

#[test]
fn identifiers_for_dmarc() {
    for (result, checked) in [
        (spf::Result::Pass, Checked::Pass),
        (spf::Result::TempError, Checked::TempError),
        (spf::Result::SoftFail, Checked::Fail),
    ] {
        let spf = spf_report(result);
        let checks = Checks {
            spf: Some(SpfChecked {
                report: &spf,
                mail_from: "",
                helo: "",
            }),
            ..Checks::default()
        };
        assert_eq!(checks.identifiers().0.unwrap().checked, checked);
    }
    let report = dkim::Report {
        signatures: vec![
            signature(dkim::Status::Pass),
            signature(dkim::Status::TempError),
            signature(dkim::Status::Policy),
            dkim::Verdict {
                testing: true,
                ..signature(dkim::Status::Pass)
            },
            dkim::Verdict {
                domain: None,
                ..signature(dkim::Status::PermError)
            },
        ],
        not_evaluated: 0,
    };
    let checks = Checks {
        dkim: Some(&report),
        ..Checks::default()
    };
    let (spf, dkim) = checks.identifiers();
    assert_eq!(spf, None);
    let dkim: Vec<Checked> = dkim.map(|one| one.checked).collect();
    use Checked::{Fail, Pass, TempError};
    assert_eq!(dkim, [Pass, TempError, Fail, Fail]);
}

fn any_status() -> impl Strategy<Value = dkim::Status> {
    use dkim::Status::*;
    prop::sample::select(vec![Pass, Fail, Policy, Neutral, TempError, PermError])
}

proptest! {
    /// Kept and dropped are the header; of what is kept no line is ours, and taking out again
    /// takes out nothing, also below a field of ours.
    #[test]
    fn nothing_of_ours_stays(
        lines in prop::collection::vec(
            "(Authentication-Results|AUTHENTICATION-results ?|X|[ \t])[: ]{1,2}\
             (\\(c\\)|\r|\"|\r\n )?(mx\\.example\\.net|MX\\.Example\\.net\\.|other\\.example)\"?\
             ([/ ]1)?(\r|;|\r?\n[ \t])?(Authentication-Results:)?([ ;][ -~]{0,8})?\r?\n",
            0..6,
        ),
    ) {
        let text = lines.concat();
        let cut = header(text.as_bytes());
        let gone: Vec<_> = dropped(cut, OURS).collect();
        let mut all = text.clone().into_bytes();
        for (range, why) in gone.iter().rev() {
            let part: Vec<u8> = all.drain(range.clone()).collect();
            prop_assert!(part.ends_with(b"\n"));
            prop_assert_eq!(*why == Why::Continuation, part[0] == b' ' || part[0] == b'\t');
        }
        prop_assert_eq!(String::from_utf8(all.clone()).unwrap(), text_of(cut));
        let again = header(&all);
        prop_assert_eq!(dropped(again, OURS).count(), 0);
        // Whoever takes CR, LF or both for a line end finds nothing of ours.
        let readable = text_of(cut).replace("\r\n", "\n").replace('\r', "\n");
        let readable = readable.replace("\n ", " ").replace("\n\t", " ");
        for line in readable.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.trim_end().eq_ignore_ascii_case(FIELD_NAME) {
                let id = value.split(';').next().unwrap().to_ascii_lowercase();
                prop_assert!(!id.contains("mx.example.net"), "{}", text);
            }
        }
    }

    /// Whatever was found, and whatever strangers called themselves, it is one field that is read
    /// as it was meant.
    #[test]
    fn what_was_found_is_read_again(
        mail_from in "(\\PC{0,20}@)?[a-z.\u{e9}=\r\n]{0,20}",
        helo in "[ -~\r\n\u{e9}]{0,30}",
        statuses in prop::collection::vec((any_status(), any::<bool>()), 0..=DKIM_SIGNATURES_MAX),
        identity in prop::option::of("[ -~\u{e9}]{0,30}"),
        not_evaluated in 0usize..3,
        utf8 in any::<bool>(),
    ) {
        let spf = spf_report(spf::Result::Neutral);
        let with = |(status, testing): &(dkim::Status, bool)| dkim::Verdict {
            testing: *testing,
            identity: identity.as_deref().map(Into::into),
            ..signature(*status)
        };
        let dkim = dkim::Report {
            signatures: statuses.iter().map(with).collect(),
            not_evaluated,
        };
        let checks = Checks {
            spf: Some(SpfChecked { report: &spf, mail_from: &mail_from, helo: &helo }),
            dkim: Some(&dkim),
            utf8,
            ..Checks::default()
        };
        let results = checks.results("mx.example.net");
        prop_assert!(results.results.len() < AUTH_RESULTS_MAX);
        let mut field = String::new();
        results.write(&mut field).unwrap();
        prop_assert!(utf8 || field.is_ascii());
        let own = header(field.as_bytes());
        prop_assert_eq!(own.lines().count(), 1);
        prop_assert_eq!(dropped(own, OURS).count(), 1);
        let again = Results::parse(&field[FIELD_NAME.len() + 1..]).unwrap();
        prop_assert_eq!(again.results.len(), results.results.len());
        for (a, b) in again.results.iter().zip(&results.results) {
            prop_assert_eq!((&a.method, &a.result), (&b.method, &b.result));
            prop_assert_eq!(&a.comment, &b.comment);
            prop_assert_eq!(&a.reason, &b.reason);
            prop_assert_eq!(a.properties.len(), b.properties.len());
        }
    }
}
