//! Any octets are a certificate or not; its parts lie in it; and a chain of them is judged by any
//! records, with a bounded number of paths to look for.
#![no_main]

use std::cell::Cell;

use courser_core::dns::{Name, Tlsa};
use courser_core::limits::DANE_PATHS_MAX;
use courser_core::route::dane::{
    Certificate, Path, PathFault, PathValidator, Peer, Requirement, Verdict, contents, judge,
};
use courser_core::time::Wall;
use libfuzzer_sys::fuzz_target;

/// How often it was asked, and what it says.
struct Paths(Cell<usize>, u8);

impl PathValidator for Paths {
    fn validate(&self, _: &Path<'_>) -> Result<(), PathFault> {
        self.0.set(self.0.get() + 1);
        match self.1 {
            0 => Ok(()),
            1 => Err(PathFault::Expired),
            _ => Err(PathFault::NotTrusted),
        }
    }
}

fn certificate(der: &[u8]) {
    let Ok(certificate) = Certificate::parse(der) else {
        return;
    };
    assert_eq!(certificate.der, der);
    for part in [
        certificate.issuer,
        certificate.subject,
        certificate.public_key,
    ] {
        assert!(der.windows(part.len()).any(|window| window == part));
        assert!(contents(part).is_some_and(|contents| part.ends_with(contents)));
    }
    for name in certificate.identifiers() {
        assert!(name.bytes().all(|b| b.is_ascii_graphic()));
        if !name.contains('*') && !name.ends_with('.') && !name.is_empty() {
            assert!(certificate.names(name), "{name}");
        }
    }
}

/// Certificates one behind another, by the lengths that they begin with; the rest is the last.
fn cut(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let [0x30, 0x82, high, low, ..] = bytes {
        let length = 4 + usize::from(u16::from_be_bytes([*high, *low]));
        let Some((one, rest)) = bytes.split_at_checked(length) else {
            break;
        };
        all.push(one);
        bytes = rest;
    }
    if all.is_empty() || !bytes.is_empty() {
        all.push(bytes);
    }
    all
}

// Certificates, and two octets: what paths come to, and what is left out of the records.
fuzz_target!(|bytes: &[u8]| {
    certificate(bytes);
    let [bytes @ .., says, leave] = bytes else {
        return;
    };
    let chain = cut(bytes);
    chain.iter().copied().for_each(certificate);
    let mut records = Vec::new();
    for der in &chain {
        let key = Certificate::parse(der).map_or(*der, |certificate| certificate.public_key);
        for n in 0..16_u8 {
            let (usage, selector, matching) = (n >> 2, n >> 1 & 1, (n & 1) * (1 + leave % 3));
            if leave >> (n & 7) & 1 == 1 {
                continue;
            }
            let data = if selector == 0 { der } else { key };
            let length = [data.len(), 32, 64, data.len()][usize::from(matching)];
            let data = data.get(..length).unwrap_or(data).into();
            let record = Tlsa {
                usage,
                selector,
                matching,
                data,
            };
            let again = Tlsa::parse(&record.to_string());
            assert_eq!(again, (!record.data.is_empty()).then(|| record.clone()));
            records.push(record);
        }
    }
    let paths = Paths(Cell::new(0), says % 3);
    let names = [Name::parse("mx.example.net").expect("a name")];
    let peer = Peer {
        chain: &chain,
        names: &names,
        now: Wall::from_unix(0),
    };
    let verdict = judge(&peer, &records, &paths);
    assert!(paths.0.get() <= DANE_PATHS_MAX);
    let _ = verdict.to_string();
    match verdict {
        Verdict::NoRecords => assert_eq!(Requirement::of(&records), Requirement::Nothing),
        Verdict::Pass(_) => assert!(Certificate::parse(chain[0]).is_ok()),
        Verdict::Fail(_) | Verdict::Unusable(_) => {}
    }
});
