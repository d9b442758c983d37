//! DKIM against published vectors, and both ways against itself.

#[path = "common/vectors.rs"]
mod shared;

use base64ct::{Base64, Encoding};
use courser_core::auth::Evaluate;
use courser_core::auth::canon::{Canon, field as canonical_field};
use courser_core::auth::dkim::key::{KeyRecord, RecordError};
use courser_core::auth::dkim::signature::{Form, Signature, SignatureError};
use courser_core::auth::dkim::tags::TagError;
use courser_core::auth::dkim::{
    KeySigner, PrivateKey, Reason, Report, SignedField, Signer, SigningOptions, Status, Verifier,
    sign,
};
use courser_core::auth::hash::{BodyHashes, HashedBody};
use courser_core::dns::{Failure, Name, Outcome, Question, Records};
use courser_core::limits::DKIM_SIGNATURES_MAX;
use courser_core::mail::header::Header;
use courser_core::time::Wall;
use proptest::prelude::*;
use shared::vectors;
use std::collections::HashMap;
use std::fs;

/// Files have LF, messages CRLF.
fn crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in text.split_inclusive(|b| *b == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => {
                out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
                out.extend_from_slice(b"\r\n");
            }
            None => out.extend_from_slice(line),
        }
    }
    out
}

fn txt(text: &str) -> Outcome {
    Outcome::Found(Records::Txt([text.as_bytes().into()].into()))
}

fn verify(message: &[u8], now: Wall, ask: impl FnMut(&Question) -> Outcome) -> Report {
    let (header, body) = Header::of(message).unwrap();
    let mut verifier = Verifier::new(header, now);
    for piece in body.chunks(7) {
        verifier.update(piece);
    }
    verifier.finish().run(ask)
}

/// 2026-11-27.
const NOW: Wall = Wall::from_unix(1_795_780_000);

#[test]
fn dkim_verifier_cases() {
    let Some(dir) = vectors("dkim") else {
        return;
    };
    let expected: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("expected.json")).unwrap()).unwrap();
    let keys = |value: &serde_json::Value| -> HashMap<String, String> {
        let keys = value.as_object().unwrap().iter();
        keys.map(|(name, text)| (name.to_lowercase(), text.as_str().unwrap().to_owned()))
            .collect()
    };
    let common = keys(&expected["keys"]);
    let (mut cases, mut signatures) = (0, 0);
    let mut wrong = Vec::new();
    for case in expected["cases"].as_array().unwrap() {
        cases += 1;
        let message = crlf(&fs::read(dir.join(case["file"].as_str().unwrap())).unwrap());
        let mut dns = common.clone();
        dns.extend(keys(&case["dns"]));
        let report = verify(&message, NOW, |question| {
            dns.get(question.name.as_str())
                .map_or(Outcome::NoName, |text| txt(text))
        });
        if let Some(count) = case["nsig"].as_u64() {
            assert_eq!(report.signatures.len() as u64, count, "{}", case["name"]);
        }
        for (n, want) in case["results"].as_object().unwrap() {
            signatures += 1;
            let got = &report.signatures[n.parse::<usize>().unwrap()];
            let word = match got.status {
                Status::Pass => "SUCCESS",
                Status::TempError => "TEMPFAIL",
                _ => "PERMFAIL",
            };
            if want != word {
                wrong.push(format!("{}: {n}: {want}, {}", case["name"], got.reason));
            }
        }
    }
    println!(
        "dkim: {} of {signatures} signatures in {cases} cases as expected",
        signatures - wrong.len()
    );
    assert!(cases >= 26 && wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn keyed_messages() {
    let Some(dir) = vectors("dkim-keyed") else {
        return;
    };
    let (mut messages, mut signatures) = (0, 0);
    for n in 1..=6 {
        let text = fs::read(dir.join(format!("{n:03}.txt"))).unwrap();
        let text = crlf(&text);
        let split = text.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let keys = String::from_utf8(text[..split].to_vec()).unwrap();
        let keys: HashMap<_, _> = keys
            .lines()
            .filter_map(|line| line.split_once(' '))
            .collect();
        // 005 expired: at a time when it had not.
        let now = match n {
            5 => Wall::from_unix(1_667_900_000),
            _ => NOW,
        };
        let report = verify(&text[split..], now, |question| {
            keys.get(question.name.as_str())
                .map_or(Outcome::NoName, |text| txt(text))
        });
        messages += 1;
        assert!(!report.signatures.is_empty());
        for signature in &report.signatures {
            signatures += 1;
            assert_eq!(signature.reason, Reason::Verified, "{n:03}: {signature:?}");
        }
    }
    println!("dkim-keyed: {signatures} signatures in {messages} messages pass");
}

/// Where we don't agree with the list, and why.
const EXCEPTIONS: [(&str, &str); 3] = [
    (
        "v=DKIM1; p=; ",
        "white space behind the last semicolon: many records have it, and it says nothing else",
    ),
    (
        "i=m\u{f8}x@xn--tst-bma",
        "UTF-8 in i=: refused in the list for messages without SMTPUTF8 only; the reader of a field \
         can't know, and the domain is compared as an A-label either way (RFC 8616)",
    ),
    (
        "a=rsa-sha1; h=from; b=dGVzdAo=; bh=dGVzdAo=",
        "a bh= of the wrong length with rsa-sha1: it reads, so that the verdict can say that \
         rsa-sha1 is not valid (RFC 8301)",
    ),
];

#[test]
fn records_good_and_bad() {
    let Some(path) = vectors("records/goodbad.json") else {
        return;
    };
    let lists: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut right = 0;
    let mut wrong = Vec::new();
    for case in lists["dkim/txt_test.go"].as_array().unwrap() {
        let (input, line) = (
            case["input"].as_str().unwrap(),
            case["line"].as_str().unwrap(),
        );
        // test(text, record or nil, …): nil is a record that is refused.
        let Some(arguments) = line.split("\", ").last().filter(|_| line.contains("\", ")) else {
            continue;
        };
        let good = !arguments.starts_with("nil");
        let read = KeyRecord::parse(input.as_bytes());
        let usable = read
            .as_ref()
            .is_ok_and(|record| record.is_revoked() || record.key().is_ok());
        if usable == good {
            right += 1;
        } else {
            wrong.push(format!("{input:?}: {read:?}"));
        }
    }
    for case in lists["dkim/sig_test.go"].as_array().unwrap() {
        let (input, line) = (
            case["input"].as_str().unwrap(),
            case["line"].as_str().unwrap(),
        );
        let Some((header, _)) = Header::of(input.as_bytes()).ok() else {
            continue;
        };
        let Some(field) = header.find("dkim-signature") else {
            right += usize::from(line.contains("err"));
            continue;
        };
        let good = !line.contains("rr(") && !line.contains("errSig");
        let read = Signature::parse(Form::Dkim, field.value());
        if read.is_ok() == good {
            right += 1;
        } else {
            wrong.push(format!("{input:?}: {read:?}"));
        }
    }
    println!(
        "records: {right} of DKIM as in the list, {} not",
        wrong.len()
    );
    let mut unexplained = wrong.clone();
    unexplained.retain(|case| !EXCEPTIONS.iter().any(|(text, _)| case.contains(text)));
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    assert_eq!(wrong.len(), EXCEPTIONS.len());
    for (text, why) in EXCEPTIONS {
        println!("  {text:?}: {why}");
    }
    assert!(right >= 26);
}

// -- rules, one by one --

struct Keys {
    rsa: KeySigner,
    ed25519: KeySigner,
    rsa_record: String,
    ed25519_record: String,
}

fn keys() -> &'static Keys {
    static KEYS: std::sync::OnceLock<Keys> = std::sync::OnceLock::new();
    KEYS.get_or_init(|| {
        let rsa = PrivateKey::parse(include_str!("../src/auth/dkim/test-rsa-2048.pem")).unwrap();
        let ed25519 = PrivateKey::parse(include_str!("../src/auth/dkim/test-ed25519.pem")).unwrap();
        Keys {
            rsa: rsa.signer([1; 32]),
            ed25519: ed25519.signer([2; 32]),
            rsa_record: rsa.record().to_string(),
            ed25519_record: ed25519.record().to_string(),
        }
    })
}

const MESSAGE: &[u8] = b"From: Joe <joe@example.com>\r\nTo: Suzie <suzie@example.net>\r\n\
    Subject: dinner\r\n\r\nHi.  Are you\t hungry? \r\n\r\nJoe.\r\n";

fn signed(
    message: &[u8],
    signer: &KeySigner,
    change: impl FnOnce(&mut SigningOptions<'_>),
) -> Vec<u8> {
    let (header, body) = Header::of(message).unwrap();
    let (domain, selector) = (
        Name::parse("example.com").unwrap(),
        Name::parse("one").unwrap(),
    );
    let mut options = SigningOptions::new(&domain, &selector);
    change(&mut options);
    let hashed = HashedBody::of(body, &[Canon::Simple, Canon::Relaxed]);
    let mut out = Vec::new();
    sign(header, &hashed, NOW, &options, signer, &mut out).unwrap();
    out.extend_from_slice(message);
    out
}

fn reason(message: &[u8], now: Wall, record: Outcome) -> (Status, Reason) {
    let report = verify(message, now, |_| record.clone());
    assert_eq!(report.signatures.len(), 1);
    (report.signatures[0].status, report.signatures[0].reason)
}

#[test]
fn what_the_key_says() {
    let good = signed(MESSAGE, &keys().ed25519, |o| {
        o.identity = Some("joe@news.example.com");
    });
    let record = &*keys().ed25519_record;
    let public = record.split_once("p=").unwrap().1;
    let with = |tags: &str| txt(&format!("v=DKIM1; {tags}; p={public}"));
    let ed = "k=ed25519";
    for (outcome, status, want) in [
        (txt(record), Status::Pass, Reason::Verified),
        (
            with(&format!("{ed}; h=sha1:sha256; s=*")),
            Status::Pass,
            Reason::Verified,
        ),
        (with(&format!("{ed}; t=y")), Status::Pass, Reason::Verified),
        (
            with(&format!("{ed}; h=sha1")),
            Status::PermError,
            Reason::HashNotAllowed,
        ),
        (
            with(&format!("{ed}; s=tlsrpt")),
            Status::PermError,
            Reason::NotForEmail,
        ),
        (
            with(&format!("{ed}; t=s")),
            Status::PermError,
            Reason::IdentityNotDomain,
        ),
        (with("k=rsa"), Status::PermError, Reason::KeyType),
        (
            txt("v=DKIM1; k=ed25519; p="),
            Status::PermError,
            Reason::Revoked,
        ),
        (
            txt("v=DKIM1; k=x; p="),
            Status::PermError,
            Reason::Record(RecordError::KeyType),
        ),
        (
            txt("v=DKIM1; p"),
            Status::PermError,
            Reason::Record(RecordError::Tags(TagError::Syntax)),
        ),
        (txt("v=spf1 -all"), Status::PermError, Reason::NoKey),
        (Outcome::NoName, Status::PermError, Reason::NoKey),
        (Outcome::NoData, Status::PermError, Reason::NoKey),
        (
            Outcome::Failed(Failure::Timeout),
            Status::TempError,
            Reason::KeyUnavailable(Failure::Timeout),
        ),
        (
            Outcome::Failed(Failure::ServerFailure),
            Status::TempError,
            Reason::KeyUnavailable(Failure::ServerFailure),
        ),
        // Another key of the right kind.
        (
            txt("k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="),
            Status::Fail,
            Reason::WrongSignature,
        ),
        (
            txt("k=ed25519; t=y; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="),
            Status::Neutral,
            Reason::WrongSignature,
        ),
        // Several records: the first that is one.
        (
            Outcome::Found(Records::Txt(
                [b"v=spf1; x=y".as_slice().into(), record.as_bytes().into()].into(),
            )),
            Status::Pass,
            Reason::Verified,
        ),
    ] {
        let shown = format!("{outcome:?}");
        assert_eq!(reason(&good, NOW, outcome), (status, want), "{shown}");
    }
    // RSA of 512 bits.
    let weak = "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAJ+HqpNCLCoQf07E5hIg1mArrZPy76jienc+hVN2HxPE\
        hNuVC1Nwn4JrCeQr+7K6PlRmX2VSnl6io8Gi+kj+SJkCAwEAAQ==";
    let rsa = signed(MESSAGE, &keys().rsa, |_| {});
    assert_eq!(
        reason(&rsa, NOW, txt(&format!("v=DKIM1; p={weak}"))).0,
        Status::Policy
    );
    assert_eq!(
        reason(&rsa, NOW, txt(&keys().rsa_record)),
        (Status::Pass, Reason::Verified)
    );
}

#[test]
fn times() {
    let good = signed(MESSAGE, &keys().ed25519, |o| o.valid_s = Some(60));
    let at = |s| reason(&good, NOW.plus_s(s), txt(&keys().ed25519_record));
    assert_eq!(at(0), (Status::Pass, Reason::Verified));
    assert_eq!(at(60), (Status::Pass, Reason::Verified));
    assert_eq!(at(61), (Status::PermError, Reason::Expired));
    assert_eq!(at(-300), (Status::Pass, Reason::Verified));
    assert_eq!(at(-301), (Status::Policy, Reason::Future));
}

#[test]
fn what_was_changed() {
    let message = String::from_utf8(signed(MESSAGE, &keys().ed25519, |_| {})).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(message.contains(from));
        let message = message.replacen(from, to, 1);
        reason(message.as_bytes(), NOW, txt(&keys().ed25519_record))
    };
    let wrong = (Status::Fail, Reason::WrongSignature);
    let good = (Status::Pass, Reason::Verified);
    assert_eq!(changed("hungry", "angry"), (Status::Fail, Reason::BodyHash));
    assert_eq!(changed("dinner", "lunch"), wrong);
    // Over-signed, so nobody can add one.
    assert_eq!(changed("To: ", "Cc: x@example.org\r\nTo: "), wrong);
    assert_eq!(changed("From: ", "From: x@example.org\r\nFrom: "), wrong);
    // What relaxed lets through.
    assert_eq!(changed("you\t hungry? ", "you hungry?\t"), good);
    assert_eq!(changed("Subject: dinner", "SUBJECT:\r\n  dinner "), good);
    assert_eq!(changed("Joe.\r\n", "Joe.\r\n\r\n"), good);
    assert_eq!(changed("From: ", "X-Trace: 1\r\nFrom: "), good);
    // The signature itself.
    assert_eq!(
        changed("a=ed25519-sha256", "a=rsa-sha1"),
        (Status::PermError, Reason::RsaSha1)
    );
    assert_eq!(
        changed("v=1", "v=2"),
        (
            Status::PermError,
            Reason::Signature(SignatureError::Version)
        )
    );
    assert_eq!(
        changed("a=ed25519-sha256;", "a=ed25519-sha256; l=99999;"),
        (Status::PermError, Reason::LengthTooLong)
    );
    assert_eq!(
        changed("a=ed25519-sha256;", "a=ed25519-sha256; l=3;"),
        (Status::Fail, Reason::BodyHash)
    );
}

#[test]
fn a_second_from_that_is_not_signed() {
    let message = signed(MESSAGE, &keys().ed25519, |o| {
        o.fields = &[SignedField {
            name: "From",
            over: false,
        }];
    });
    let record = || txt(&keys().ed25519_record);
    assert_eq!(
        reason(&message, NOW, record()),
        (Status::Pass, Reason::Verified)
    );
    let mut second = message;
    second.splice(0..0, *b"From: x@example.org\r\n");
    assert_eq!(
        reason(&second, NOW, record()),
        (Status::Policy, Reason::UnsignedFrom)
    );
}

/// `l=` is never written by us, so this one is signed by hand.
#[test]
fn a_body_that_goes_on_behind_what_is_signed() {
    let body = "Hi.\r\n";
    let hash = HashedBody::of(body.as_bytes(), &[Canon::Simple])
        .get(Canon::Simple)
        .unwrap();
    let field = format!(
        "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed; d=example.com; s=one; h=from; l={}; \
         bh={}; b=",
        body.len(),
        Base64::encode_string(&hash)
    );
    let mut data = Vec::new();
    for raw in ["From: a@example.com\r\n", &field] {
        canonical_field(Canon::Relaxed, raw.as_bytes(), |b| {
            data.extend_from_slice(b);
        });
    }
    data.truncate(data.len() - 2);
    let signature = Base64::encode_string(&keys().ed25519.sign(&data).unwrap());
    let head = format!("{field}{signature}\r\nFrom: a@example.com\r\n\r\n{body}");
    let with = |tail: &str| {
        let message = format!("{head}{tail}");
        reason(message.as_bytes(), NOW, txt(&keys().ed25519_record))
    };
    assert_eq!(with(""), (Status::Pass, Reason::Verified));
    assert_eq!(with("\r\n\r\n"), (Status::Pass, Reason::Verified));
    assert_eq!(with("More.\r\n"), (Status::Policy, Reason::UnsignedTail));
}

#[test]
fn several_signatures_and_no_more_than_the_bound() {
    let mut message = signed(MESSAGE, &keys().ed25519, |_| {});
    let (header, body) = Header::of(&message).unwrap();
    let (domain, selector) = (
        Name::parse("esp.example").unwrap(),
        Name::parse("two").unwrap(),
    );
    let mut out = Vec::new();
    sign(
        header,
        &HashedBody::of(body, &[Canon::Relaxed]),
        NOW,
        &SigningOptions::new(&domain, &selector),
        &keys().rsa,
        &mut out,
    )
    .unwrap();
    message.splice(0..0, out);
    let ask = |question: &Question| match question.name.as_str() {
        "one._domainkey.example.com" => txt(&keys().ed25519_record),
        "two._domainkey.esp.example" => txt(&keys().rsa_record),
        name => panic!("{name}"),
    };
    let report = verify(&message, NOW, ask);
    let passed: Vec<_> = report
        .signatures
        .iter()
        .map(|s| (s.status, s.domain.clone().unwrap().to_string()))
        .collect();
    assert_eq!(
        passed,
        [
            (Status::Pass, "esp.example".to_owned()),
            (Status::Pass, "example.com".to_owned())
        ]
    );
    for _ in 0..DKIM_SIGNATURES_MAX {
        message.splice(0..0, *b"DKIM-Signature: v=1\r\n");
    }
    let report = verify(&message, NOW, ask);
    assert_eq!(report.signatures.len(), DKIM_SIGNATURES_MAX);
    assert_eq!(report.not_evaluated, 2);
    assert_eq!(report.status(), Status::PermError);
    assert_eq!(
        verify(MESSAGE, NOW, ask).status(),
        Status::None,
        "no signature"
    );
}

// -- properties --

fn line() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => "[a-zA-Z0-9.,=<>@]{1,30}".prop_map(String::into_bytes),
        2 => Just(b" ".to_vec()),
        1 => Just(b"\t".to_vec()),
        1 => Just("\u{fc}\u{4e16}".as_bytes().to_vec()),
        1 => Just(vec![b'x'; 1200]),
    ];
    proptest::collection::vec(token, 0..6).prop_map(|tokens| tokens.concat())
}

prop_compose! {
    fn message()(
        fields in proptest::collection::vec(("[A-Z][a-z-]{0,12}", line(), line()), 0..6),
        from in line(),
        body in proptest::collection::vec(line(), 0..12),
        last in line(),
    ) -> Vec<u8> {
        let mut out = b"From: ".to_vec();
        out.extend_from_slice(&from);
        for (name, first, second) in fields {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(&first);
            out.extend_from_slice(b"\r\n ");
            out.extend_from_slice(&second);
        }
        out.extend_from_slice(b"\r\n\r\n");
        for line in body {
            out.extend_from_slice(&line);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(&last);
        out
    }
}

fn canon() -> impl Strategy<Value = Canon> {
    prop_oneof![Just(Canon::Simple), Just(Canon::Relaxed)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_signed_verifies(message in message(), header in canon(), body in canon(), rsa: bool) {
        let keys = keys();
        let (signer, record) = if rsa {
            (&keys.rsa, &keys.rsa_record)
        } else {
            (&keys.ed25519, &keys.ed25519_record)
        };
        let signed = signed(&message, signer, |o| {
            o.header = header;
            o.body = body;
        });
        prop_assert_eq!(reason(&signed, NOW, txt(record)), (Status::Pass, Reason::Verified));
    }

    /// With simple twice, every octet of what is signed counts.
    #[test]
    fn any_changed_octet_fails(
        message in message(),
        at in any::<prop::sample::Index>(),
        by in 1_u8..=255,
    ) {
        let mut signed = signed(&message, &keys().ed25519, |o| {
            o.header = Canon::Simple;
            o.body = Canon::Simple;
            o.fields = &[SignedField { name: "From", over: true }];
        });
        // The From field, and the body that isn't line ends at the end.
        let from = signed.len() - message.len();
        let from_ends = from + message.windows(2).position(|w| w == b"\r\n").unwrap();
        let body = from + message.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let mut places: Vec<usize> = (from..from_ends).collect();
        places.extend(body..signed.len());
        while places.last().is_some_and(|at| matches!(signed[*at], b'\r' | b'\n')) {
            places.pop();
        }
        let at = places[at.index(places.len())];
        signed[at] ^= by;
        let report = verify(&signed, NOW, |_| txt(&keys().ed25519_record));
        prop_assert!(report.status() != Status::Pass, "{}", at);
    }

    /// Nor may an octet of the signature field change, but for what no signature covers.
    #[test]
    fn any_changed_octet_of_the_signature_fails(at in any::<prop::sample::Index>(), by in 1_u8..=255) {
        let mut signed = signed(MESSAGE, &keys().ed25519, |o| o.header = Canon::Simple);
        let len = signed.len() - MESSAGE.len() - 2;
        let at = at.index(len);
        let before = signed[at];
        signed[at] ^= by;
        let report = verify(&signed, NOW, |_| txt(&keys().ed25519_record));
        // The value of b= is not in what it signs, so white space there may be other white space.
        let value = signed.windows(5).position(|w| w == b"\r\n b=").unwrap_or(len) + 5;
        let blank = |b| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
        let same = at >= value && blank(before) && blank(signed[at]);
        prop_assert!(report.status() != Status::Pass || same, "{} {} {}", at, before, signed[at]);
    }

    #[test]
    fn any_pieces_give_the_same_hash(
        message in message(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let canons = [Canon::Simple, Canon::Relaxed];
        let whole = HashedBody::of(&message, &canons);
        let mut cuts: Vec<usize> = cuts.iter().map(|i| i.index(message.len() + 1)).collect();
        cuts.extend([0, message.len()]);
        cuts.sort_unstable();
        let mut hashes = BodyHashes::new(&canons);
        for pair in cuts.windows(2) {
            hashes.update(&message[pair[0]..pair[1]]);
        }
        prop_assert_eq!(hashes.finish(), whole);
    }

    #[test]
    fn no_octets_panic(
        header in proptest::collection::vec(any::<u8>(), 0..300),
        record in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut message = b"DKIM-Signature: v=1; a=rsa-sha256; d=a.b; s=c; h=from; bh=\
            47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=".to_vec();
        message.extend_from_slice(&header);
        let outcome = Outcome::Found(Records::Txt([record.into()].into()));
        let _ = verify(&message, NOW, |_| outcome.clone());
        let _ = verify(&header, NOW, |_| outcome.clone());
    }
}
