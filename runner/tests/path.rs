//! DANE with real signatures: what rcgen signs, by the validator of the program. `core/tests/dane.rs`
//! has the rules.

use courser::net::path::WebPki;
use courser_core::dns::{Name, Tlsa};
use courser_core::route::dane::{
    Anchor, DaneFault, Path, PathFault, PathValidator, Peer, Verdict, judge,
};
use courser_core::time::Wall;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyPair, NameConstraints, PublicKeyData, date_time_ymd,
};
use sha2::{Digest, Sha256};

/// 2027-01-15.
const NOW: Wall = Wall::from_unix(1_800_000_000);
const HOST: &str = "mx.example.net";

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2027, 1, 1);
    params.not_after = date_time_ymd(2027, 2, 1);
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn server() -> CertificateParams {
    let mut params = params(HOST);
    params.subject_alt_names = CertificateParams::new([HOST.to_owned()])
        .unwrap()
        .subject_alt_names;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn root() -> Issuer {
    Issuer::self_signed(authority("root"), key()).unwrap()
}

fn below(issuer: &Issuer, params: CertificateParams) -> Issuer {
    Issuer::signed_by(params, key(), issuer).unwrap()
}

fn leaf(issuer: &Issuer, params: &CertificateParams) -> Vec<u8> {
    params.signed_by(&key(), issuer).unwrap().der().to_vec()
}

fn sha256(usage: u8, issuer: &Issuer) -> Tlsa {
    Tlsa {
        usage,
        selector: 0,
        matching: 1,
        data: Sha256::digest(issuer.der()).as_slice().into(),
    }
}

fn full_key(issuer: &Issuer) -> Tlsa {
    Tlsa {
        usage: 2,
        selector: 1,
        matching: 0,
        data: issuer.key().subject_public_key_info().into(),
    }
}

fn full(issuer: &Issuer) -> Tlsa {
    Tlsa {
        usage: 2,
        selector: 0,
        matching: 0,
        data: issuer.der().as_ref().into(),
    }
}

/// `None` if it passes.
fn fault(chain: &[&[u8]], record: &Tlsa, now: Wall) -> Option<DaneFault> {
    let names = [Name::parse(HOST).unwrap()];
    let peer = Peer {
        chain,
        names: &names,
        now,
    };
    match judge(&peer, std::slice::from_ref(record), &WebPki) {
        Verdict::Pass(by) => {
            assert_eq!(by, record);
            None
        }
        Verdict::Fail(fault) => Some(fault),
        other => panic!("{other:?}"),
    }
}

#[test]
fn chains_that_lead_to_their_anchor() {
    let root = root();
    let middle = below(&root, authority("middle"));
    let leaf = leaf(&middle, &server());
    let (middle_der, root_der) = (middle.der().as_ref(), root.der().as_ref());
    let whole = [&leaf, middle_der, root_der];
    for record in [
        sha256(2, &middle),
        sha256(2, &root),
        full(&root),
        full(&middle),
        full_key(&root),
        full_key(&middle),
    ] {
        assert_eq!(fault(&whole, &record, NOW), None, "{record:.20}");
        // In another order, and with what doesn't belong there.
        let other = root_der;
        let mixed = [&leaf[..], other, b"odd", middle_der];
        assert_eq!(fault(&mixed, &record, NOW), None, "{record:.20}");
    }
    // What the record has need not be sent.
    let short = [&leaf, middle_der];
    assert_eq!(fault(&short, &full(&root), NOW), None);
    assert_eq!(fault(&short, &full_key(&root), NOW), None);
    assert_eq!(fault(&short[..1], &full(&middle), NOW), None);
    assert_eq!(fault(&short[..1], &full_key(&middle), NOW), None);
    assert_eq!(
        fault(&short, &sha256(2, &root), NOW),
        Some(DaneFault::NoMatch)
    );
    // A gap.
    let not_trusted = Some(DaneFault::Path(PathFault::NotTrusted));
    assert_eq!(
        fault(&[&leaf, root_der], &sha256(2, &root), NOW),
        not_trusted
    );
    // The key of the root is not the one of the name that signed.
    let Some(DaneFault::Path(PathFault::Other(_))) = fault(&short[..1], &full_key(&root), NOW)
    else {
        panic!("another key");
    };
}

#[test]
fn dates_count_for_usage_2_only() {
    let root = root();
    let leaf_der = leaf(&root, &server());
    let chain = [&leaf_der, root.der().as_ref()];
    let own = Tlsa {
        usage: 3,
        selector: 0,
        matching: 1,
        data: Sha256::digest(&leaf_der).as_slice().into(),
    };
    for (now, expected) in [
        (NOW, None),
        (Wall::from_unix(1_900_000_000), Some(PathFault::Expired)),
        (Wall::from_unix(1_700_000_000), Some(PathFault::NotYetValid)),
        (Wall::from_unix(i64::MIN), Some(PathFault::NotYetValid)),
        (Wall::from_unix(i64::MAX), Some(PathFault::Expired)),
    ] {
        let expected = expected.map(DaneFault::Path);
        assert_eq!(fault(&chain, &sha256(2, &root), now), expected, "{now:?}");
        assert_eq!(fault(&chain, &own, now), None, "{now:?}");
    }
}

#[test]
fn what_the_anchor_did_not_sign() {
    // Another authority of the same name, whose certificate somebody sends with a chain that the
    // right one is not in.
    let (right, wrong) = (root(), root());
    let leaf = leaf(&wrong, &server());
    let says = |chain: &[&[u8]], record: &Tlsa| match fault(chain, record, NOW) {
        Some(DaneFault::Path(PathFault::Other(what))) => what.into_string(),
        other => format!("{other:?}"),
    };
    let chain = [&leaf, right.der().as_ref()];
    for record in [sha256(2, &right), full(&right), full_key(&right)] {
        let said = says(&chain, &record);
        assert!(said.contains("signature is not by"), "{said}");
    }
    assert_eq!(
        fault(&[&leaf, wrong.der().as_ref()], &sha256(2, &right), NOW),
        Some(DaneFault::NoMatch)
    );
}

#[test]
fn certificates_that_may_not() {
    let root = root();
    let refused = |chain: &[&[u8]]| match fault(chain, &sha256(2, &root), NOW) {
        Some(DaneFault::Path(fault)) => fault.to_string(),
        other => panic!("{other:?}"),
    };
    // For clients only.
    let mut client = server();
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let said = refused(&[&leaf(&root, &client), root.der()]);
    assert!(said.contains("not for TLS servers"), "{said}");
    // Signed by a server's.
    let middle = below(&root, server());
    let said = refused(&[&leaf(&middle, &server()), middle.der(), root.der()]);
    assert!(said.contains("no authority's"), "{said}");
    // Of an authority for other names.
    let mut narrow = authority("narrow");
    narrow.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("example.org".into())],
        excluded_subtrees: vec![],
    });
    let middle = below(&root, narrow);
    let said = refused(&[&leaf(&middle, &server()), middle.der(), root.der()]);
    assert!(said.contains("may not sign for these names"), "{said}");
    let said = refused(&[
        below(&root, {
            let mut own = authority("own");
            own.subject_alt_names = server().subject_alt_names;
            own
        })
        .der(),
        root.der(),
    ]);
    assert!(said.contains("is an authority's"), "{said}");
    // What is no certificate of a library's taste, and no key.
    let path = |anchor| {
        WebPki.validate(&Path {
            anchor,
            leaf: b"odd",
            between: &[],
            now: NOW,
        })
    };
    assert!(path(Anchor::Certificate(root.der())).is_err());
    let leaf = leaf(&root, &server());
    let anchor = Anchor::Key {
        subject: b"odd",
        public_key: b"",
    };
    let path = Path {
        anchor,
        leaf: &leaf,
        between: &[],
        now: NOW,
    };
    assert!(WebPki.validate(&path).is_err());
}
