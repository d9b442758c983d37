//! How much TLS a connection has to have, and with whom.

use std::sync::Arc;

use courser_core::auth::Step;
use courser_core::dns::{Name, Tlsa};
use courser_core::route::PlanHost;
use courser_core::route::dane::{Requirement, TlsaLookup, Tlsas, reference_names};
use courser_core::route::tls::{Demand, Level, Verify};
use courser_core::route::tlsrpt::ResultType;

use crate::config::Config;
use crate::net::tls::{Dane, Fault, Trust};
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
    let asks = config.dns.trusted && config.tls.dane && !demand.optional && level != Level::Off;
    let found = match asks {
        true => tlsa(dns, host).await?,
        false => None,
    };
    let records = found.as_ref().map_or(&[][..], |(_, records)| records);
    let (level, verify) = level.toward(Requirement::of(records));
    let trust = match (verify, &found) {
        (Verify::Tlsa, Some((base, records))) => Trust::Dane(Arc::new(Dane {
            names: dane_names(base, host),
            records: records.clone(),
        })),
        (Verify::Authorities, _) => Trust::Authorities,
        _ => Trust::Anyone,
    };
    Ok(Wanted {
        level,
        trust,
        tlsa: found,
    })
}

/// The TLSA records of a host, where DNSSEC vouches for them.
async fn tlsa(dns: &Dns, host: &PlanHost) -> Result<Option<(Name, Box<[Tlsa]>)>, Fault> {
    let mut lookup = TlsaLookup::new(host);
    loop {
        match lookup.step() {
            Step::Ask(question) => lookup.answer(&*dns.ask_patiently(question).await),
            Step::Done(Tlsas::None(_)) => return Ok(None),
            Step::Done(Tlsas::Found { base, records }) => return Ok(Some((base, records))),
            Step::Done(Tlsas::Defer { question, failure }) => {
                return Err(Fault::new(
                    ResultType::DnssecInvalid,
                    format!(
                        "its TLSA records can't be found out, so nothing is sent: {question}: {failure}"
                    ),
                ));
            }
        }
    }
}

/// Names of a host's certificate, for usage 2. The domain that mail is for is not among them: a
/// connection carries mail of many (RFC 7672 3.2.2 allows it, and doesn't demand it).
fn dane_names(base: &Name, host: &PlanHost) -> Vec<Name> {
    match Name::parse(&host.name) {
        Ok(name) => reference_names(base, &name),
        Err(_) => vec![base.clone()],
    }
}
