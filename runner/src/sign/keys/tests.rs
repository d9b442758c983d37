//! Which keys sign, what is wrong with files, and that receivers find the signatures right.

use super::*;
use courser_core::auth::Evaluate;
use courser_core::auth::dkim::{Status, Verifier};
use courser_core::dns::{Outcome, Records};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

const RSA: &str = include_str!("../../../../core/src/auth/dkim/test-rsa-2048.pem");
const RSA_PKCS1: &str = include_str!("../../../../core/src/auth/dkim/test-rsa-2048-pkcs1.pem");
const ED25519: &str = include_str!("../../../../core/src/auth/dkim/test-ed25519.pem");

fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A file with an RSA key, in a folder that is gone when the first of them is.
fn rsa() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.pem");
    write(&file, RSA, 0o600);
    (dir, file)
}

fn config(text: &str) -> Dkim {
    let text = format!("hostname = \"mail.example.org\"\n{text}");
    crate::config::parse(&text, "test").unwrap().dkim
}

fn load(text: &str) -> Keys {
    Keys::load(&config(text)).unwrap()
}

fn key(domain: &str, selector: &str, file: &Path, more: &str) -> String {
    format!(
        "[[dkim.key]]\ndomain = \"{domain}\"\nselector = \"{selector}\"\nfile = \"{}\"\n{more}\n",
        file.display()
    )
}

fn signing(keys: &Keys, author: &str, now: i64) -> Vec<String> {
    signing_of(keys, author, None, now)
}

fn signing_of(keys: &Keys, author: &str, tenant: Option<&str>, now: i64) -> Vec<String> {
    let author = Name::parse(author).unwrap();
    let keys = keys.for_author(&author, tenant, Wall::from_unix(now));
    keys.iter().map(|k| k.record_name()).collect()
}

#[test]
fn the_closest_domain_signs_and_whoever_names_it() {
    let (dir, file) = rsa();
    let ed = dir.path().join("b.pem");
    write(&ed, ED25519, 0o640);
    let text = [
        key("example.org", "s1", &file, ""),
        key("example.org", "ed", &ed, ""),
        key("news.example.org", "n", &file, ""),
        key("esp.example", "all", &file, "sign_for = [\"*\"]"),
    ]
    .concat();
    let keys = load(&text);
    let all = "all._domainkey.esp.example";
    assert_eq!(
        signing(&keys, "example.org", 0),
        [
            "s1._domainkey.example.org",
            "ed._domainkey.example.org",
            all
        ]
    );
    assert_eq!(
        signing(&keys, "a.news.example.org", 0),
        ["n._domainkey.news.example.org", all]
    );
    assert_eq!(
        signing(&keys, "shop.example.org", 0),
        [
            "s1._domainkey.example.org",
            "ed._domainkey.example.org",
            all
        ]
    );
    assert_eq!(signing(&keys, "badexample.org", 0), [all]);
    assert_eq!(signing(&keys, "esp.example", 0), [all]);
}

#[test]
fn keys_change_on_their_day() {
    let (_dir, file) = rsa();
    let text = [
        key("example.org", "old", &file, "until = \"2026-12-01\""),
        key("example.org", "new", &file, "from = 2026-12-01"),
    ]
    .concat();
    let keys = load(&text);
    let day = 1_796_083_200;
    assert_eq!(
        signing(&keys, "example.org", day - 1),
        ["old._domainkey.example.org"]
    );
    assert_eq!(
        signing(&keys, "example.org", day),
        ["new._domainkey.example.org"]
    );
}

#[test]
fn a_folder_of_keys() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("example.org/s1.pem"), RSA, 0o600);
    write(&dir.path().join("example.org/s2.pem"), ED25519, 0o600);
    write(&dir.path().join("example.org/s2.txt"), "a record", 0o644);
    write(&dir.path().join("example.net/k.pem"), RSA_PKCS1, 0o600);
    let text = format!("[dkim]\ndir = \"{}\"\n", dir.path().display());
    let keys = load(&text);
    let names: Vec<_> = keys.iter().map(Key::record_name).collect();
    assert_eq!(
        names,
        [
            "k._domainkey.example.net",
            "s1._domainkey.example.org",
            "s2._domainkey.example.org"
        ]
    );
}

#[test]
fn a_tenant_has_the_keys_that_are_for_it() {
    let (_dir, file) = rsa();
    let text = [
        key("example.org", "top", &file, ""),
        key(
            "shop.example.org",
            "s",
            &file,
            "tenants = [\"shop\", \"test\"]",
        ),
        key(
            "esp.example",
            "all",
            &file,
            "sign_for = [\"*\"]\ntenants = [\"shop\"]",
        ),
    ]
    .concat();
    let keys = load(&text);
    let of = |tenant| signing_of(&keys, "shop.example.org", tenant, 0);
    let (own, top) = (
        "s._domainkey.shop.example.org",
        "top._domainkey.example.org",
    );
    let all = "all._domainkey.esp.example";
    assert_eq!(of(Some("shop")), [own, all]);
    assert_eq!(of(Some("test")), [own]);
    assert_eq!(of(Some("other")), [top]);
    assert_eq!(of(None), [own, all]);
}

#[test]
fn patterns_are_found_as_they_match() {
    let (_dir, file) = rsa();
    let text = [
        key(
            "a.example",
            "below",
            &file,
            "sign_for = [\"*.example.org\", \"b.example\"]",
        ),
        key(
            "a.example",
            "exact",
            &file,
            "sign_for = [\"x.example.org\", \"example.org\"]",
        ),
        key("a.example", "any", &file, "sign_for = [\"*\"]"),
    ]
    .concat();
    let keys = load(&text);
    let (all, slow) = (keys.iter().collect::<Vec<_>>(), |author: &str| {
        let named = keys
            .iter()
            .filter(|k| k.sign_for.iter().any(|p| p.matches(author)));
        named.map(Key::record_name).collect::<Vec<_>>()
    });
    assert_eq!(all.len(), 3);
    for author in [
        "example.org",
        "x.example.org",
        "y.x.example.org",
        "badexample.org",
        "b.example",
        "c.b.example",
        "org",
    ] {
        assert_eq!(signing(&keys, author, 0), slow(author), "{author}");
    }
}

const MAIL: &[u8] =
    b"From: Ann <ann@example.org>\r\nSubject:  two  words \r\n\r\nHi \t there\r\n\r\n";

/// What a receiver finds who has the record of the key in `text`.
fn verified(message: &[u8], text: &str) -> Vec<Status> {
    let record = PrivateKey::parse(text).unwrap().record().to_string();
    let (header, body) = Header::of(message).unwrap();
    let mut verifier = Verifier::new(header, Wall::from_unix(1000));
    verifier.update(body);
    let report = verifier
        .finish()
        .run(|_| Outcome::Found(Records::Txt([record.clone().into_bytes().into()].into())));
    report.signatures.iter().map(|s| s.status).collect()
}

#[test]
fn every_canonicalization_verifies() {
    let (_dir, file) = rsa();
    for canon in [
        "relaxed/relaxed",
        "relaxed/simple",
        "simple/relaxed",
        "simple/simple",
    ] {
        let text = format!(
            "[dkim]\ncanonicalization = \"{canon}\"\n{}",
            key("example.org", "s", &file, "")
        );
        let keys = load(&text);
        let mut message = keys.signatures_of(MAIL, Wall::from_unix(1000)).0;
        let field = String::from_utf8(message.clone()).unwrap();
        assert!(field.contains(&format!("c={canon};")), "{field}");
        message.extend_from_slice(MAIL);
        assert_eq!(verified(&message, RSA), [Status::Pass], "{canon}");
    }
}

#[test]
fn what_can_not_be_signed_is_said() {
    let (_dir, file) = rsa();
    let keys = load(&key("example.org", "s", &file, ""));
    let signed = |message: &[u8], held_s| {
        let (header, body) = Header::of(message).unwrap();
        let hashed = HashedBody::of(body, &keys.body_canons());
        let mut out = Vec::new();
        let signed = keys.sign(
            header,
            &hashed,
            None,
            (Wall::from_unix(0), held_s),
            &mut out,
        );
        let faults: Vec<_> = signed.faults.iter().map(|(_, error)| *error).collect();
        (signed.author.clone(), signed.by.len(), faults, out.len())
    };
    let name = |text| Ok(Name::parse(text).unwrap());
    let (author, by, faults, octets) = signed(MAIL, 0);
    assert_eq!((author, by, faults), (name("example.org"), 1, vec![]));
    assert!(octets > 0);
    let two = b"From: a@example.org, b@example.net\r\n\r\n";
    assert_eq!(signed(two, 0), (Err(AuthorError::Domains), 0, vec![], 0));
    assert_eq!(
        signed(b"To: a@b.example\r\n\r\n", 0).0,
        Err(AuthorError::Missing)
    );
    let folded = [b"\tx\r\n", MAIL].concat();
    let fault = vec![SignError::Continuation];
    assert_eq!(signed(&folded, 0), (name("example.org"), 0, fault, 0));
}

#[test]
fn the_time_that_the_sender_wants_it_held_does_not_count() {
    let (_dir, file) = rsa();
    let text = format!(
        "[dkim]\nexpire_after = \"7d\"\n{}",
        key("example.org", "s", &file, "")
    );
    let keys = load(&text);
    let (header, body) = Header::of(MAIL).unwrap();
    let hashed = HashedBody::of(body, &keys.body_canons());
    for (held_s, expires) in [(0, 1_000_000 + 604_800), (86_400, 1_000_000 + 691_200)] {
        let mut out = Vec::new();
        keys.sign(
            header,
            &hashed,
            None,
            (Wall::from_unix(1_000_000), held_s),
            &mut out,
        );
        let field = String::from_utf8(out).unwrap();
        assert!(
            field.contains(&format!("t=1000000; x={expires};")),
            "{field}"
        );
    }
}

#[test]
fn every_fault_says_what_would_be_right() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write(&at("open.pem"), RSA, 0o644);
    write(&at("group.pem"), RSA, 0o660);
    write(&at("none.pem"), "hello", 0o600);
    write(&at("cut.pem"), &RSA[..RSA.len() / 2], 0o600);
    write(&at("long.pem"), &RSA.repeat(50), 0o600);
    fs::write(at("der.pem"), [0x30, 0x82, 0xff]).unwrap();
    fs::set_permissions(at("der.pem"), Permissions::from_mode(0o600)).unwrap();
    write(&at("good.pem"), RSA, 0o600);
    let pipe = at("pipe.pem");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    fs::create_dir(at("folder.pem")).unwrap();
    let faulty = [
        ("open.pem", "chmod 600"),
        ("group.pem", "chmod 600"),
        ("none.pem", "PEM"),
        ("cut.pem", "END line"),
        ("long.pem", "name the file with the private key"),
        ("der.pem", "-inform DER"),
        ("not-there.pem", "courser dkim keygen"),
        ("pipe.pem", "name the file"),
        ("folder.pem", "name the file"),
    ];
    let files = faulty.iter().map(|(name, _)| *name).chain(["good.pem"]);
    let text: String = files
        .enumerate()
        .map(|(n, name)| key(&format!("d{n}.example"), "s", &at(name), ""))
        .collect();
    let KeyFaults(faults) = Keys::load(&config(&text)).unwrap_err();
    let said: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), faulty.len(), "{said:?}");
    let secret = |text: &str| {
        RSA.lines()
            .any(|l| !l.starts_with('-') && text.contains(&l[..8]))
    };
    assert!(secret(RSA));
    for (said, (name, words)) in said.iter().zip(faulty) {
        assert!(said.contains(name) && said.contains(words), "{said}");
        // No word of what is in a key.
        assert!(!secret(said), "{said}");
    }
}

#[test]
fn a_folder_of_keys_with_faults() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("stray.pem"), RSA, 0o600);
    write(&dir.path().join("not a domain/s1.pem"), RSA, 0o600);
    write(
        &dir.path().join("example.org/not a selector.pem"),
        RSA,
        0o600,
    );
    write(&dir.path().join("example.org/good.pem"), RSA, 0o600);
    std::os::unix::fs::symlink("nowhere", dir.path().join("example.net")).unwrap();
    let load = |dir: &Path| {
        let text = format!("[dkim]\ndir = \"{}\"\n", dir.display());
        Keys::load(&config(&text)).unwrap_err().0
    };
    let said: Vec<String> = load(dir.path()).iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 4, "{said:?}");
    for (said, words) in said.iter().zip([
        "must be able to search the folder",
        "SELECTOR.pem",
        "name the folder after the domain",
        "named after its domain",
    ]) {
        assert!(said.contains(words), "{said}");
    }
    let none = load(&dir.path().join("none"));
    assert!(none[0].what.contains("must be a folder"), "{none:?}");
}

#[test]
fn the_same_octets_as_the_core() {
    for text in [RSA, RSA_PKCS1, ED25519] {
        let key = PrivateKey::parse(text).unwrap();
        let fast = FastSigner::new(&key).unwrap();
        let slow = key.signer([7; 32]);
        assert_eq!(fast.algorithm(), slow.algorithm());
        for data in [&b""[..], b"a", &[0xff; 5000]] {
            assert_eq!(fast.sign(data), slow.sign(data));
        }
    }
}
