//! DKIM of the core and of mail-auth in one run: the same message, fields, key and canonicalization
//! (relaxed twice), and a table of medians, ratios and allocations at the end.
//!
//! Signing starts with the message and ends with the text of the field; verifying starts with the
//! signed message and ends with a result that says pass. Both sides read the message: they find its
//! fields and its body, and the signature in it. The key record comes from memory. The core is
//! given the text of the record and reads it each time. mail-auth caches keys that were read, which
//! is what it is timed with; a row more has it read the record each time, too.

use courser_core::auth::dkim::{PrivateKey, Signer, Status};
use courser_core::time::Wall;
use criterion::{Criterion, criterion_group};
use dkim::{ED25519, FIELDS, Hop, RSA, message};
use mail_auth::common::crypto::{DkimKey, Ed25519Key, RsaKey, Sha256};
use mail_auth::common::headers::HeaderWriter;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::dkim::{DkimSigner, Done};
use mail_auth::hickory_resolver::config::{ResolverConfig, ResolverOpts};
use mail_auth::{
    AuthenticatedMessage, DkimResult, MessageAuthenticator, Parameters, ResolverCache, Txt,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use std::alloc::{GlobalAlloc, Layout, System};
use std::borrow::Borrow;
use std::hash::Hash;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

// What the other benches sign, and the signer of the server.
#[allow(dead_code)]
#[path = "../../src/dkim.rs"]
mod dkim;
#[path = "../../../runner/src/sign/signer.rs"]
mod signer;

#[cfg(feature = "aws-lc-rs")]
const BACKEND: &str = "aws-lc-rs";
#[cfg(not(feature = "aws-lc-rs"))]
const BACKEND: &str = "rust-crypto";

// -- allocations --

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Those of Rust code; aws-lc's own, in C, are not seen.
fn allocations<T>(work: impl Fn() -> T) -> u64 {
    black_box(work());
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    black_box(work());
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

// -- mail-auth --

/// The same as [`Hop`], by mail-auth.
struct Other {
    signer: DkimSigner<DkimKey, Done>,
    authenticator: MessageAuthenticator,
}

impl Other {
    fn new(key: &str) -> Self {
        let key = if key == RSA {
            let der = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            let key = RsaKey::<Sha256>::from_key_der(PrivateKeyDer::Pkcs8(der));
            DkimKey::Rsa(key.expect("a key"))
        } else {
            let key = PrivateKey::parse(key).expect("a key");
            let (seed, public) = (key.ed25519_seed().expect("a seed"), key.record().public);
            let key = Ed25519Key::from_seed_and_public_key(seed.as_slice(), &public);
            DkimKey::Ed25519(key.expect("a key"))
        };
        // No name servers: what is not in the cache can't be had.
        let none = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        Self {
            signer: DkimSigner::from_key(key)
                .domain("example.com")
                .selector("one")
                .headers(FIELDS),
            authenticator: MessageAuthenticator::new(none, ResolverOpts::default())
                .expect("a resolver"),
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let signature = self.signer.sign(message).expect("a signature");
        signature.write_header(&mut out);
        out
    }

    fn verify(&self, message: &[u8], keys: &Keys) -> bool {
        let message = AuthenticatedMessage::parse(message).expect("a message");
        let parameters = Parameters::new(&message).with_txt_cache(keys);
        let results = pollster::block_on(self.authenticator.verify_dkim(parameters));
        !results.is_empty() && results.iter().all(|r| *r.result() == DkimResult::Pass)
    }
}

/// A cache that holds the one key: as it was read, or as a text that is read each time.
enum Keys {
    Read(Txt),
    Text(Vec<u8>),
}

impl Keys {
    fn read(text: &[u8]) -> Txt {
        Txt::from(DomainKey::parse(text).expect("a key record"))
    }
}

impl ResolverCache<Box<str>, Txt> for Keys {
    fn get<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Some(match self {
            Self::Read(key) => key.clone(),
            Self::Text(text) => Self::read(text),
        })
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: Instant) {}
}

// -- the comparison --

/// Who does it, and how.
type Work<'a> = (&'a str, &'a dyn Fn());

/// A row of the table.
struct Row {
    group: String,
    what: &'static str,
    who: String,
    /// Its time as a part of mail-auth's.
    ratio: f64,
    allocations: u64,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// The time of each as a part of the first's: all have their turn in each of many short rounds, and
/// it is the median over the rounds. Where a machine is at times slower than at others, the medians
/// of one bench after the other can't be compared.
fn in_turn<const N: usize>(works: &[Work; N]) -> [f64; N] {
    const ROUNDS: usize = 301;
    const TURN: Duration = Duration::from_millis(1);
    let times = works.map(|(_, work)| {
        let begun = Instant::now();
        let done = (1_u32..).find(|_| {
            work();
            begun.elapsed() > TURN
        });
        done.expect("an end")
    });
    let mut rounds = [(); N].map(|()| Vec::new());
    for _ in 0..ROUNDS {
        let turns: [f64; N] = std::array::from_fn(|n| {
            let begun = Instant::now();
            for _ in 0..times[n] {
                works[n].1();
            }
            begun.elapsed().as_secs_f64() / f64::from(times[n])
        });
        for (ratios, turn) in rounds.iter_mut().zip(turns) {
            ratios.push(turn / turns[0]);
        }
    }
    rounds.map(|mut ratios| {
        ratios.sort_by(f64::total_cmp);
        ratios[ROUNDS / 2]
    })
}

fn compare(c: &mut Criterion) {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_secs();
    let now = Wall::from_unix(now.try_into().expect("a time"));
    for (kind, key) in [("rsa-2048", RSA), ("ed25519", ED25519)] {
        let core = Hop::new(key, now);
        let fast = Hop::over(key, now, |key| {
            let signer = signer::FastSigner::new(key).expect("a key that aws-lc-rs takes");
            Box::new(signer) as Box<dyn Signer>
        });
        let other = Other::new(key);
        let text = PrivateKey::parse(key).expect("a key").record().to_string();
        let (read, text) = (
            Keys::Read(Keys::read(text.as_bytes())),
            Keys::Text(text.into_bytes()),
        );
        for kb in [10, 100] {
            let message = message(kb * 1000);
            let signed = |signature: Vec<u8>| [signature, message.clone()].concat();
            // Whatever one side signs, both take; and neither takes a message that was changed.
            for sign in [
                core.sign(&message),
                fast.sign(&message),
                other.sign(&message),
            ] {
                let mut signed = signed(sign);
                assert_eq!(core.verify(&signed).status(), Status::Pass);
                assert!(other.verify(&signed, &read) && other.verify(&signed, &text));
                let last = signed.len() - 10;
                signed[last] ^= 1;
                assert_eq!(core.verify(&signed).status(), Status::Fail);
                assert!(!other.verify(&signed, &read));
            }
            let signed = signed(fast.sign(&message));
            let core_passes = |message: &[u8]| {
                assert_eq!(core.verify(black_box(message)).status(), Status::Pass);
            };
            let other_passes = |message: &[u8], keys: &Keys| {
                assert!(other.verify(black_box(message), keys));
            };

            let name = format!("{kind} {kb} kB");
            let mut group = c.benchmark_group(&name);
            let mail_auth = format!("mail-auth, {BACKEND}");
            let reading = format!("{mail_auth}, key read each time");
            let (message, signed) = (message.as_slice(), signed.as_slice());
            let sign: [Work; 3] = [
                (&mail_auth, &|| {
                    drop(black_box(other.sign(black_box(message))))
                }),
                ("core", &|| drop(black_box(core.sign(black_box(message))))),
                ("core and aws-lc-rs", &|| {
                    drop(black_box(fast.sign(black_box(message))))
                }),
            ];
            let verify: [Work; 3] = [
                (&mail_auth, &|| other_passes(signed, &read)),
                (&reading, &|| other_passes(signed, &text)),
                ("core", &|| core_passes(signed)),
            ];
            for (what, works) in [("sign", sign), ("verify", verify)] {
                for (who, work) in works {
                    group.bench_function(format!("{what} {who}"), |b| b.iter(work));
                }
                let ratios = in_turn(&works);
                let mut rows = ROWS.lock().expect("rows");
                for ((who, work), ratio) in works.into_iter().zip(ratios) {
                    let count = allocations(work);
                    println!("allocations: {name} {what} {who}: {count}");
                    rows.push(Row {
                        group: name.clone(),
                        what,
                        who: who.to_owned(),
                        ratio,
                        allocations: count,
                    });
                }
            }
            group.finish();
        }
    }
}

/// The median that criterion wrote, nanoseconds; `None` where the bench was filtered out.
fn median(group: &str, bench: &str) -> Option<f64> {
    let home = std::env::var_os("CRITERION_HOME").map(PathBuf::from);
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map(|target| PathBuf::from(target).join("criterion"));
    let home = home
        .or(target)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/criterion"));
    let file = home.join(group).join(bench).join("new/estimates.json");
    let text = std::fs::read_to_string(file).ok()?;
    let estimates: serde_json::Value = serde_json::from_str(&text).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}

/// What was measured, as `bench/RESULTS.md` has it.
fn table() {
    println!("| key, body | | by | median, µs | time, mail-auth's is 1 | allocations |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for row in ROWS.lock().expect("rows").iter() {
        let Some(ns) = median(&row.group, &format!("{} {}", row.what, row.who)) else {
            continue;
        };
        println!(
            "| {} | {} | {} | {:.1} | {:.2} | {} |",
            row.group,
            row.what,
            row.who,
            ns / 1000.0,
            row.ratio,
            row.allocations,
        );
    }
}

criterion_group!(benches, compare);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // `cargo test --benches` measures nothing.
    if std::env::args().any(|arg| arg == "--bench") {
        table();
    }
}
