//! Certificates that rcgen makes against TLSA records. Whether signatures are good is the path
//! validator's, which here says what it is told to; `runner/tests/path.rs` has the real one.

use std::cell::RefCell;

use courser_core::dns::{Name, Tlsa};
use courser_core::limits::{DANE_CHAIN_MAX, DANE_PATHS_MAX, DANE_RECORDS_MAX};
use courser_core::route::dane::{
    Anchor, Certificate, DaneFault, Path, PathFault, PathValidator, Peer, Requirement, Unusable,
    Verdict, judge,
};
use courser_core::time::Wall;
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName,
    DnType, DnValue, IsCa, KeyPair, PublicKeyData, SanType,
};
use sha2::{Digest, Sha256, Sha512};

/// A root, an intermediate that it signed, and a server's that this one signed.
struct Chain {
    der: [Vec<u8>; 3],
    keys: [Vec<u8>; 3],
}

fn params(common_name: &str, names: &[&str], ca: bool) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "mx.example.net");
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

fn chain(leaf: CertificateParams) -> Chain {
    let keys = [(); 3].map(|()| KeyPair::generate().unwrap());
    let public = [0, 1, 2].map(|n: usize| keys[n].subject_public_key_info());
    let [leaf_key, middle_key, root_key] = keys;
    let root = CertifiedIssuer::self_signed(params("root", &[], true), root_key).unwrap();
    let middle =
        CertifiedIssuer::signed_by(params("middle", &[], true), middle_key, &root).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &middle).unwrap();
    Chain {
        der: [
            leaf.der().to_vec(),
            middle.der().to_vec(),
            root.der().to_vec(),
        ],
        keys: public,
    }
}

/// For mx.example.net, as most are.
fn usual() -> Chain {
    chain(params(
        "mx",
        &["mx.example.net", "*.mail.example.net"],
        false,
    ))
}

fn record(usage: u8, selector: u8, matching: u8, selected: &[u8]) -> Tlsa {
    let data: Box<[u8]> = match matching {
        1 => Sha256::digest(selected).as_slice().into(),
        2 => Sha512::digest(selected).as_slice().into(),
        _ => selected.into(),
    };
    Tlsa {
        usage,
        selector,
        matching,
        data,
    }
}

impl Chain {
    /// The record of the certificate at `n`.
    fn record(&self, n: usize, usage: u8, selector: u8, matching: u8) -> Tlsa {
        let selected = if selector == 0 {
            &self.der[n]
        } else {
            &self.keys[n]
        };
        record(usage, selector, matching, selected)
    }

    fn judge<'a>(&self, names: &[&str], records: &'a [Tlsa], paths: &Paths) -> Verdict<'a> {
        let chain: Vec<&[u8]> = self.der.iter().map(Vec::as_slice).collect();
        verdict(&chain, names, records, paths)
    }
}

fn verdict<'a>(chain: &[&[u8]], names: &[&str], records: &'a [Tlsa], paths: &Paths) -> Verdict<'a> {
    let names: Vec<Name> = names
        .iter()
        .map(|name| Name::parse(name).unwrap())
        .collect();
    let now = Wall::from_unix(1_800_000_000);
    let names = &names;
    judge(&Peer { chain, names, now }, records, paths)
}

/// Says the same of each path, and remembers what it was asked.
struct Paths {
    says: Result<(), PathFault>,
    asked: RefCell<Vec<(Vec<u8>, usize)>>,
}

impl Paths {
    fn say(says: Result<(), PathFault>) -> Self {
        Self {
            says,
            asked: RefCell::default(),
        }
    }

    fn asked(&self) -> usize {
        self.asked.borrow().len()
    }
}

impl PathValidator for Paths {
    fn validate(&self, path: &Path<'_>) -> Result<(), PathFault> {
        let anchor = match path.anchor {
            Anchor::Certificate(der) => der,
            Anchor::Key { public_key, .. } => public_key,
        };
        let asked = (anchor.to_vec(), path.between.len());
        self.asked.borrow_mut().push(asked);
        self.says.clone()
    }
}

#[test]
fn parts_of_a_certificate() {
    let chain = usual();
    let [leaf, middle, root] = [0, 1, 2].map(|n: usize| Certificate::parse(&chain.der[n]).unwrap());
    for (n, certificate) in [leaf, middle, root].iter().enumerate() {
        assert_eq!(certificate.public_key, chain.keys[n]);
    }
    assert_eq!(leaf.issuer, middle.subject);
    assert_eq!((middle.issuer, root.issuer), (root.subject, root.subject));
    assert_ne!(middle.subject, root.subject);
    let names: Vec<&str> = leaf.identifiers().collect();
    assert_eq!(names, ["mx.example.net", "*.mail.example.net"]);
    // Certificates of every kind of key.
    for algorithm in [
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let der = params("x", &[], false).self_signed(&key).unwrap();
        let certificate = Certificate::parse(der.der()).unwrap();
        assert_eq!(certificate.public_key, key.subject_public_key_info());
    }
}

#[test]
fn names_of_a_certificate() {
    let parsed = |params: CertificateParams, check: &dyn Fn(Certificate<'_>)| {
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap();
        check(Certificate::parse(der.der()).unwrap());
    };
    parsed(
        params(
            "cn.example",
            &["MX.example.net", "*.mail.example.net"],
            false,
        ),
        &|c| {
            for (host, named) in [
                ("mx.example.net", true),
                ("a.mail.example.net", true),
                ("a.b.mail.example.net", false),
                ("mail.example.net", false),
                // The common name doesn't count beside DNS names.
                ("cn.example", false),
            ] {
                assert_eq!(c.names(host), named, "{host}");
            }
        },
    );
    // Without DNS names it does, an organization's name never.
    parsed(params("*.cn.example", &[], false), &|c| {
        assert!(c.names("a.cn.example") && !c.names("mx.example.net"));
    });
    let mut other = params("cn.example", &[], false);
    let address = SanType::IpAddress([192, 0, 2, 1].into());
    other.subject_alt_names.push(address);
    other
        .subject_alt_names
        .push(SanType::Rfc822Name("a@b.example".try_into().unwrap()));
    parsed(other, &|c| {
        assert!(c.names("cn.example") && !c.names("192.0.2.1"))
    });
    for (value, named) in [
        (
            DnValue::PrintableString("cn.example".try_into().unwrap()),
            true,
        ),
        (DnValue::Ia5String("cn.example".try_into().unwrap()), true),
        (
            DnValue::TeletexString("cn.example".try_into().unwrap()),
            true,
        ),
        (DnValue::BmpString("cn.example".try_into().unwrap()), false),
        (
            DnValue::Utf8String("cn.example\0.evil.example".into()),
            false,
        ),
    ] {
        let mut params = params("", &[], false);
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, value.clone());
        parsed(params, &|c| {
            assert_eq!(c.names("cn.example"), named, "{value:?}")
        });
    }
    // A SubjectAltName that can't be read names nobody, and the common name isn't taken for it.
    let mut broken = params("cn.example", &[], false);
    broken.custom_extensions = vec![CustomExtension::from_oid_content(
        &[2, 5, 29, 17],
        vec![0x30, 9],
    )];
    parsed(broken, &|c| assert_eq!(c.identifiers().count(), 0));
    parsed(CertificateParams::default(), &|c| {
        assert!(!c.names("") && !c.names("."))
    });
}

#[test]
fn usage_3_is_the_servers_own_certificate_whatever_it_says() {
    let chain = usual();
    let paths = Paths::say(Err(PathFault::Expired));
    for selector in [0, 1] {
        for matching in [0, 1, 2] {
            let right = [chain.record(0, 3, selector, matching)];
            let verdict = chain.judge(&["other.example"], &right, &paths);
            assert_eq!(verdict, Verdict::Pass(&right[0]));
            assert!(verdict.to_string().len() < 180, "{verdict}");
            // That of another in the chain is not the server's.
            let wrong = [chain.record(1, 3, selector, matching)];
            let verdict = chain.judge(&["mx.example.net"], &wrong, &paths);
            assert_eq!(verdict, Verdict::Fail(DaneFault::NoMatch));
        }
    }
    assert_eq!(paths.asked(), 0, "names and dates do not matter");
}

#[test]
fn one_record_that_matches_is_enough() {
    let (old, new) = (usual(), usual());
    let records = [
        old.record(0, 3, 1, 1),
        new.record(0, 3, 1, 1),
        old.record(1, 2, 0, 1),
    ];
    let paths = Paths::say(Ok(()));
    assert_eq!(old.judge(&[], &records, &paths), Verdict::Pass(&records[0]));
    assert_eq!(new.judge(&[], &records, &paths), Verdict::Pass(&records[1]));
    assert_eq!(
        usual().judge(&[], &records, &paths),
        Verdict::Fail(DaneFault::NoMatch)
    );
}

#[test]
fn the_strongest_digest_counts() {
    // RFC 7671 9, within a usage and a selector.
    let (own, other) = (usual(), usual());
    let paths = Paths::say(Ok(()));
    for (records, passes) in [
        ([own.record(0, 3, 1, 1), other.record(0, 3, 1, 2)], None),
        ([own.record(0, 3, 1, 2), other.record(0, 3, 1, 1)], Some(0)),
        ([own.record(0, 3, 1, 1), other.record(0, 3, 0, 2)], Some(0)),
        ([own.record(0, 3, 1, 1), other.record(0, 2, 1, 2)], Some(0)),
        ([own.record(0, 3, 1, 0), other.record(0, 3, 1, 2)], Some(0)),
        // SHA-512 of another length is no record.
        (
            [
                own.record(0, 3, 1, 1),
                Tlsa {
                    data: [7; 63].into(),
                    ..other.record(0, 3, 1, 2)
                },
            ],
            Some(0),
        ),
    ] {
        let expected = match passes {
            Some(n) => Verdict::Pass(&records[n]),
            None => Verdict::Fail(DaneFault::NoMatch),
        };
        assert_eq!(own.judge(&[], &records, &paths), expected, "{records:?}");
    }
}

#[test]
fn usage_2_is_a_trust_anchor() {
    let chain = usual();
    let hosts = ["other.example", "mx.example.net"];
    for n in [1, 2] {
        for selector in [0, 1] {
            for matching in [0, 1, 2] {
                let records = [chain.record(n, 2, selector, matching)];
                let good = Paths::say(Ok(()));
                assert_eq!(
                    chain.judge(&hosts, &records, &good),
                    Verdict::Pass(&records[0])
                );
                // The anchor is the certificate, and doesn't stand between.
                assert_eq!(*good.asked.borrow(), [(chain.der[n].clone(), 1)]);
                let bad = Paths::say(Err(PathFault::Expired));
                let fault = DaneFault::Path(PathFault::Expired);
                assert_eq!(chain.judge(&hosts, &records, &bad), Verdict::Fail(fault));
                let verdict = chain.judge(&["mx.example.com"], &records, &good);
                let Verdict::Fail(DaneFault::Names { has, wants }) = verdict else {
                    panic!("{verdict:?}");
                };
                assert_eq!(&*has, "mx.example.net, *.mail.example.net");
                assert_eq!(&*wants, "mx.example.com");
            }
        }
    }
    // The server's own is none.
    let records = [[0, 0], [0, 1], [1, 1]].map(|[s, m]| chain.record(0, 2, s, m));
    let paths = Paths::say(Ok(()));
    assert_eq!(
        chain.judge(&hosts, &records, &paths),
        Verdict::Fail(DaneFault::NoMatch)
    );
}

#[test]
fn a_trust_anchor_that_is_only_in_its_record() {
    let chain = usual();
    let sent: Vec<&[u8]> = chain.der[..2].iter().map(Vec::as_slice).collect();
    let paths = Paths::say(Ok(()));
    let judge = |records| verdict(&sent, &["mx.example.net"], records, &paths);
    let certificate = [chain.record(2, 2, 0, 0)];
    assert_eq!(judge(&certificate), Verdict::Pass(&certificate[0]));
    assert_eq!(*paths.asked.borrow(), [(chain.der[2].clone(), 1)]);
    // A bare key may have issued any of them.
    let key = [chain.record(2, 2, 1, 0)];
    let refuses = Paths::say(Err(PathFault::NotTrusted));
    let refused = verdict(&sent, &["mx.example.net"], &key, &refuses);
    assert_eq!(
        refused,
        Verdict::Fail(DaneFault::Path(PathFault::NotTrusted))
    );
    let asked = (chain.keys[2].clone(), 1);
    assert_eq!(*refuses.asked.borrow(), [asked.clone(), asked]);
    // Of a digest nothing can be made.
    let digests = [chain.record(2, 2, 0, 1), chain.record(2, 2, 1, 2)];
    assert_eq!(judge(&digests), Verdict::Fail(DaneFault::NoMatch));
}

#[test]
fn records_that_are_unusable() {
    let chain = usual();
    let good = chain.record(0, 3, 1, 1);
    let with = |change: fn(&mut Tlsa)| {
        let mut record = good.clone();
        change(&mut record);
        record
    };
    let paths = Paths::say(Ok(()));
    for (record, why) in [
        (with(|r| r.usage = 0), Unusable::Usage(0)),
        (with(|r| r.usage = 1), Unusable::Usage(1)),
        (with(|r| r.usage = 255), Unusable::Usage(255)),
        (with(|r| r.selector = 2), Unusable::Selector(2)),
        (with(|r| r.matching = 3), Unusable::Matching(3)),
        (with(|r| r.matching = 2), Unusable::Length(32)),
        (with(|r| r.data = [0; 31].into()), Unusable::Length(31)),
        (with(|r| r.data = [0; 33].into()), Unusable::Length(33)),
        (with(|r| r.matching = 0), Unusable::Malformed),
        (
            with(|r| (r.matching, r.selector) = (0, 0)),
            Unusable::Malformed,
        ),
        // A certificate where a key should be, and a key where a certificate should.
        (record(3, 1, 0, &chain.der[0]), Unusable::Malformed),
        (record(2, 0, 0, &chain.keys[0]), Unusable::Malformed),
    ] {
        let alone = std::slice::from_ref(&record);
        assert_eq!(chain.judge(&[], alone, &paths), Verdict::Unusable(why));
        assert!(chain.judge(&[], alone, &paths).allows());
        assert_eq!(Requirement::of(alone), Requirement::Encrypted);
        // It doesn't stand in the way of others, nor help them.
        let both = [record.clone(), good.clone()];
        assert_eq!(chain.judge(&[], &both, &paths), Verdict::Pass(&both[1]));
        assert_eq!(Requirement::of(&both), Requirement::Authenticated);
        let both = [record, usual().record(0, 3, 1, 1)];
        assert_eq!(
            chain.judge(&[], &both, &paths),
            Verdict::Fail(DaneFault::NoMatch)
        );
    }
    assert_eq!(chain.judge(&[], &[], &paths), Verdict::NoRecords);
    assert_eq!(Requirement::of(&[]), Requirement::Nothing);
}

#[test]
fn peers_without_a_certificate() {
    let records = [usual().record(0, 3, 1, 1)];
    let paths = Paths::say(Ok(()));
    let empty: [&[u8]; 0] = [];
    assert_eq!(
        verdict(&empty, &[], &records, &paths),
        Verdict::Fail(DaneFault::NoCertificate)
    );
    assert_eq!(
        verdict(&[b"\x30\x00"], &[], &records, &paths),
        Verdict::Fail(DaneFault::Malformed)
    );
}

#[test]
fn everything_is_bounded() {
    let chain = usual();
    let paths = Paths::say(Err(PathFault::NotTrusted));
    let mut records = vec![usual().record(0, 3, 1, 1); DANE_RECORDS_MAX];
    records.push(chain.record(0, 3, 1, 1));
    assert_eq!(
        chain.judge(&[], &records, &paths),
        Verdict::Fail(DaneFault::NoMatch)
    );
    // As many anchors as records.
    let anchors = vec![chain.record(1, 2, 0, 1); DANE_RECORDS_MAX];
    chain.judge(&["mx.example.net"], &anchors, &paths);
    assert_eq!(paths.asked(), DANE_PATHS_MAX);
    // A long chain is cut.
    let mut long: Vec<&[u8]> = vec![&chain.der[0]; DANE_CHAIN_MAX];
    long.push(&chain.der[2]);
    let anchor = [chain.record(2, 2, 0, 1)];
    let cut = verdict(&long, &["mx.example.net"], &anchor, &paths);
    assert_eq!(cut, Verdict::Fail(DaneFault::NoMatch));
    // What can't be read stands in no path.
    let odd: [&[u8]; 3] = [&chain.der[0], b"odd", &chain.der[2]];
    let paths = Paths::say(Ok(()));
    assert_eq!(
        verdict(&odd, &["mx.example.net"], &anchor, &paths),
        Verdict::Pass(&anchor[0])
    );
    assert_eq!(paths.asked.borrow()[0].1, 0);
}

#[test]
fn a_certificate_has_one_length() {
    let der = usual().der[0].clone();
    for length in 0..der.len() {
        assert!(Certificate::parse(&der[..length]).is_err(), "{length}");
    }
    assert!(Certificate::parse(&[&der[..], &[0]].concat()).is_err());
    // BER: the same length in more octets, and an open one.
    assert_eq!(der[..2], [0x30, 0x82]);
    let longer = [&[0x30, 0x83, 0], &der[2..]].concat();
    let open = [&[0x30, 0x80], &der[4..], &[0, 0]].concat();
    assert!(Certificate::parse(&longer).is_err() && Certificate::parse(&open).is_err());
}

proptest! {
    #[test]
    fn any_octets(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Certificate::parse(&octets);
        let records = [record(3, 0, 1, &octets), record(2, 1, 0, &octets)];
        for chain in [&[&octets[..]][..], &[&octets, &octets]] {
            let said = verdict(chain, &["mx.example.net"], &records, &Paths::say(Ok(())));
            // Even what is no certificate has a digest, but a chain begins with a certificate.
            prop_assert_eq!(said.allows(), Certificate::parse(&octets).is_ok());
        }
        let text = records[1].to_string();
        let again = Tlsa::parse(&text);
        prop_assert_eq!(again, (!octets.is_empty()).then(|| records[1].clone()), "{}", text);
    }

    #[test]
    fn damaged_certificates(at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>()) {
        use std::sync::LazyLock;
        static DER: LazyLock<Vec<u8>> = LazyLock::new(|| usual().der[0].clone());
        let mut der = DER.clone();
        let at = at.index(der.len());
        der[at] = to;
        if let Ok(certificate) = Certificate::parse(&der) {
            let names: Vec<&str> = certificate.identifiers().collect();
            prop_assert!(names.iter().all(|name| name.is_ascii()));
            prop_assert_eq!(certificate.names("mx.example.net"), names.contains(&"mx.example.net")
                || names.iter().any(|n| n.eq_ignore_ascii_case("mx.example.net") || *n == "*.example.net"));
        }
        der.truncate(cut.index(der.len()));
        prop_assert!(Certificate::parse(&der).is_err());
    }
}
