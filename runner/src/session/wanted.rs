//! How much TLS a connection has to have, and with whom.

use std::sync::Arc;

use courser_core::auth::Step;
use courser_core::dns::{Name, Tlsa};
use courser_core::route::PlanHost;
use courser_core::route::dane::{Requirement, TlsaLookup, Tlsas, reference_names};
use courser_core::route::tls::{Demand, Level};

use crate::config::Config;
use crate::net::tls::{Dane, Fault, FaultKind, Trust};
use crate::route::dns::Dns;

/// What a connection has to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How much TLS.
    pub level: Level,
    /// With whom.
    pub trust: Trust,
    /// The host's TLSA records and their base domain, where DNSSEC vouches for them.
    pub tlsa: Option<(Name, Box<[Tlsa]>)>,
}

impl Wanted {
    /// Plaintext.
    pub const NOTHING: Self = Self {
        level: Level::Off,
        trust: Trust::Anyone,
        tlsa: None,
    };
}

/// What a connection to a host has to be: by the level that is wanted, and by its TLSA records where
/// DNSSEC is believed.
///
/// # Errors
/// It can't be found out, so no mail may go there now (RFC 7672 2.1.2).
pub async fn wanted(
    dns: &Dns,
    config: &Config,
    (level, demand): (Level, &Demand),
    host: &PlanHost,
) -> Result<Wanted, Fault> {
    let by_level = Wanted {
        level,
        trust: match level {
            Level::Verified => Trust::Authorities,
            _ => Trust::Anyone,
        },
        tlsa: None,
    };
    let asks = config.dns.trusted && config.tls.dane && !demand.optional;
    if !asks || level == Level::Off {
        return Ok(by_level);
    }
    let mut lookup = TlsaLookup::new(host);
    let found = loop {
        match lookup.step() {
            Step::Ask(question) => lookup.answer(&*dns.ask_patiently(question).await),
            Step::Done(found) => break found,
        }
    };
    match found {
        Tlsas::None(_) => Ok(by_level),
        Tlsas::Found { base, records } => Ok(match Requirement::of(&records) {
            Requirement::Nothing => by_level,
            // Whoever it is; unless the level says more.
            Requirement::Encrypted => Wanted {
                level: by_level.level.max(Level::Required),
                tlsa: Some((base, records)),
                ..by_level
            },
            Requirement::Authenticated => Wanted {
                level: by_level.level.max(Level::Required),
                tlsa: Some((base.clone(), records.clone())),
                trust: Trust::Dane(Arc::new(Dane {
                    names: dane_names(base, host),
                    records,
                })),
            },
        }),
        Tlsas::Defer { question, failure } => Err(Fault::new(
            FaultKind::Dnssec,
            format!(
                "its TLSA records can't be found out, so nothing is sent: {question}: {failure}"
            ),
        )),
    }
}

/// Names of a host's certificate, for usage 2. The domain that mail is for is not among them: a
/// connection carries mail of many (RFC 7672 3.2.2 allows it, and doesn't demand it).
fn dane_names(base: Name, host: &PlanHost) -> Vec<Name> {
    match Name::parse(&host.name) {
        Ok(name) => reference_names(&base, &name),
        Err(_) => vec![base],
    }
}
