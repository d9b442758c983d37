//! Questions and answers, and how they stand on the wire (RFC 1035 4, over hickory-proto).
//!
//! [`Question`] is what is asked, [`Answer`] what comes of it. The rest of this file is for the
//! [`Resolver`](super::Resolver): `encode` writes a query, `decode` reads a response and keeps of
//! it only what answers the question: records of the asked type at the end of the CNAME chain
//! that starts at the asked name. Whatever else a server adds is not looked at, so it can't
//! poison anything.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use hickory_proto::op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name as WireName, RData, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, Restrict};

use super::name::{Name, NameError};
use crate::limits::{
    DNS_CNAME_CHAIN_MAX, DNS_QUERY_BYTES_MAX, DNS_RECORDS_MAX, DNS_UDP_PAYLOAD_BYTES,
};
use crate::time::Instant;

/// Which records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// IPv4 addresses (RFC 1035 3.4.1).
    A,
    /// IPv6 addresses (RFC 3596).
    Aaaa,
    /// Mail exchangers (RFC 1035 3.3.9).
    Mx,
    /// Text: SPF, DKIM keys, DMARC, MTA-STS (RFC 1035 3.3.14).
    Txt,
    /// The name of an address (RFC 1035 3.3.12).
    Ptr,
    /// Certificates of a service (RFC 6698).
    Tlsa,
}

impl Kind {
    fn wire(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Mx => RecordType::MX,
            Self::Txt => RecordType::TXT,
            Self::Ptr => RecordType::PTR,
            Self::Tlsa => RecordType::TLSA,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Mx => "MX",
            Self::Txt => "TXT",
            Self::Ptr => "PTR",
            Self::Tlsa => "TLSA",
        })
    }
}

/// One question, class IN.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// Whose records.
    pub name: Name,
    /// Which records.
    pub kind: Kind,
}

impl Question {
    /// The `kind` records of `name`.
    pub fn new(name: Name, kind: Kind) -> Self {
        Self { name, kind }
    }

    /// The name of the host at `ip`.
    pub fn reverse(ip: core::net::IpAddr) -> Self {
        Self::new(Name::reverse(ip), Kind::Ptr)
    }

    /// The certificates of the service on TCP port `port` of `host` (RFC 6698 3).
    pub fn tlsa(port: u16, host: &Name) -> Result<Self, NameError> {
        Ok(Self::new(
            host.under(&alloc::format!("_{port}._tcp"))?,
            Kind::Tlsa,
        ))
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.kind)
    }
}

/// One mail exchanger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mx {
    /// Lower is tried first.
    pub preference: u16,
    /// The host; the root in a null MX (RFC 7505).
    pub exchange: Name,
}

/// One TLSA record (RFC 6698 2.1), with its numbers as they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tlsa {
    /// Certificate usage; SMTP uses 2 and 3 (RFC 7672 3.1).
    pub usage: u8,
    /// Selector: 0 whole certificate, 1 public key.
    pub selector: u8,
    /// Matching type: 0 exact, 1 SHA-256, 2 SHA-512.
    pub matching: u8,
    /// Certificate association data.
    pub data: Box<[u8]>,
}

impl Tlsa {
    /// Reads what [`Display`](fmt::Display) writes (RFC 6698 2.2): three numbers and hexadecimal
    /// digits, which may be in groups; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let mut number = || -> Option<u8> {
            let digits = |word: &&str| word.bytes().all(|b| b.is_ascii_digit());
            words.next().filter(digits)?.parse().ok()
        };
        let (usage, selector, matching) = (number()?, number()?, number()?);
        let digit = |c: char| c.to_digit(16).and_then(|d| u8::try_from(d).ok());
        let mut digits = words.flat_map(str::chars).map(digit);
        let mut data = Vec::with_capacity(32);
        while let Some(high) = digits.next() {
            data.push(high? << 4 | digits.next()??);
        }
        (!data.is_empty()).then(|| Self {
            usage,
            selector,
            matching,
            data: data.into(),
        })
    }
}

/// As zone files have it (RFC 6698 2.2).
impl fmt::Display for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.usage, self.selector, self.matching)?;
        self.data
            .iter()
            .try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// The records of an answer, in the order of the server; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Records {
    /// IPv4 addresses.
    A(Box<[Ipv4Addr]>),
    /// IPv6 addresses.
    Aaaa(Box<[Ipv6Addr]>),
    /// Mail exchangers.
    Mx(Box<[Mx]>),
    /// Texts, the character-strings of each joined (RFC 7208 3.3, RFC 6376 3.6.2.2).
    Txt(Box<[Box<[u8]>]>),
    /// Names.
    Ptr(Box<[Name]>),
    /// Certificates.
    Tlsa(Box<[Tlsa]>),
}

impl Records {
    /// Bytes on the heap, roughly; what the cache counts.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::A(r) => r.len() * 4,
            Self::Aaaa(r) => r.len() * 16,
            Self::Mx(r) => r.iter().map(|mx| 40 + mx.exchange.len()).sum(),
            Self::Txt(r) => r.iter().map(|t| 16 + t.len()).sum(),
            Self::Ptr(r) => r.iter().map(|n| 32 + n.len()).sum(),
            Self::Tlsa(r) => r.iter().map(|t| 32 + t.data.len()).sum(),
        }
    }
}

/// Why a question has no answer. All of it may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// No server answered in time.
    Timeout,
    /// The servers could not find out: SERVFAIL. Often the domain's own servers, or its DNSSEC.
    ServerFailure,
    /// The servers refuse to work for us: REFUSED, NOTIMP, FORMERR, or a referral from a server
    /// that does not recurse.
    Refused,
    /// The answers can't be read, or are about something else.
    Malformed,
    /// A CNAME chain that is too long or circular.
    CnameChain,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "no DNS server answered in time",
            Self::ServerFailure => "the DNS servers report a failure (SERVFAIL)",
            Self::Refused => "the DNS servers refuse to answer",
            Self::Malformed => "the DNS answer can't be read",
            Self::CnameChain => "the CNAME chain is too long or circular",
        })
    }
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// These records.
    Found(Records),
    /// The name exists, or may exist, but has no such records (NODATA, RFC 2308 2.2).
    NoData,
    /// The name does not exist (NXDOMAIN, RFC 2308 2.1).
    NoName,
    /// Nobody knows, for now.
    Failed(Failure),
}

/// An answer, shared by everyone who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What came of it.
    pub outcome: Outcome,
    /// The name that the records belong to: the end of the CNAME chain, or the asked name.
    pub canonical: Name,
    /// Whether the server says that it checked DNSSEC for all of it (the AD bit, RFC 4035 3.2.3).
    /// Worth as much as the way to that server; always false with
    /// [`Dnssec::Off`](super::Dnssec::Off).
    pub secure: bool,
    /// When it stops being true.
    pub expires: Instant,
}

impl Answer {
    /// How much longer it may be used.
    pub fn ttl(&self, now: Instant) -> Duration {
        self.expires.since(now)
    }

    /// IPv4 addresses, none if it has none.
    pub fn a(&self) -> &[Ipv4Addr] {
        match &self.outcome {
            Outcome::Found(Records::A(records)) => records,
            _ => &[],
        }
    }

    /// IPv6 addresses, none if it has none.
    pub fn aaaa(&self) -> &[Ipv6Addr] {
        match &self.outcome {
            Outcome::Found(Records::Aaaa(records)) => records,
            _ => &[],
        }
    }

    /// Mail exchangers, none if it has none.
    pub fn mx(&self) -> &[Mx] {
        match &self.outcome {
            Outcome::Found(Records::Mx(records)) => records,
            _ => &[],
        }
    }

    /// Texts, none if it has none.
    pub fn txt(&self) -> &[Box<[u8]>] {
        match &self.outcome {
            Outcome::Found(Records::Txt(records)) => records,
            _ => &[],
        }
    }

    /// Names, none if it has none.
    pub fn ptr(&self) -> &[Name] {
        match &self.outcome {
            Outcome::Found(Records::Ptr(records)) => records,
            _ => &[],
        }
    }

    /// Certificates, none if it has none.
    pub fn tlsa(&self) -> &[Tlsa] {
        match &self.outcome {
            Outcome::Found(Records::Tlsa(records)) => records,
            _ => &[],
        }
    }
}

// -- the wire, for the resolver --

/// What a query asks of the server beside the question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flags {
    /// With an OPT record (RFC 6891).
    pub(crate) edns: bool,
    /// AD in the query: tell us whether you checked (RFC 6840 5.7).
    pub(crate) ad: bool,
    /// DO in the OPT record: DNSSEC records too (RFC 3225).
    pub(crate) dnssec_ok: bool,
}

/// Where the question starts in every message.
const HEADER_BYTES: usize = 12;

/// Writes a query; its id is the first two bytes. `None` if the name can't be written.
pub(crate) fn encode(
    id: u16,
    name: &Name,
    kind: Kind,
    flags: Flags,
    upper: impl FnMut() -> bool,
) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.authentic_data = flags.ad;
    message.add_query(Query::query(name.to_wire(upper)?, kind.wire()));
    if flags.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(DNS_UDP_PAYLOAD_BYTES);
        edns.set_version(0);
        edns.set_dnssec_ok(flags.dnssec_ok);
        message.set_edns(edns);
    }
    message
        .to_vec()
        .ok()
        .filter(|bytes| bytes.len() <= DNS_QUERY_BYTES_MAX)
}

/// The question section of a query that [`encode`] wrote: name, type, class.
pub(crate) fn question_of(query: &[u8]) -> &[u8] {
    let rest = query.get(HEADER_BYTES..).unwrap_or(&[]);
    let mut end = 0;
    while let Some(&length) = rest.get(end) {
        end += 1 + usize::from(length);
        if length == 0 {
            break;
        }
    }
    rest.get(..end + 4).unwrap_or(rest)
}

/// What a message has to do with a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// A response to it.
    Response,
    /// A response that repeats the question in another case: no proof that it saw our query.
    OtherCase,
    /// A response without a question that says that the query was not understood.
    NotUnderstood,
    /// Not a response to it.
    Foreign,
}

/// Compares id, direction and question (RFC 5452 9.1). `question` is [`question_of`] the query.
pub(crate) fn fit(id: u16, question: &[u8], message: &[u8]) -> Fit {
    let Some(header) = message.first_chunk::<HEADER_BYTES>() else {
        return Fit::Foreign;
    };
    let response = header[2] & 0x80 != 0 && header[2] & 0x78 == 0;
    if header[..2] != id.to_be_bytes() || !response {
        return Fit::Foreign;
    }
    match u16::from_be_bytes([header[4], header[5]]) {
        // FORMERR and NOTIMP may come without the question that the server could not read.
        0 if matches!(header[3] & 0x0f, 1 | 4) => Fit::NotUnderstood,
        1 => match message.get(HEADER_BYTES..HEADER_BYTES + question.len()) {
            Some(got) if got == question => Fit::Response,
            Some(got) if got.eq_ignore_ascii_case(question) => Fit::OtherCase,
            _ => Fit::Foreign,
        },
        _ => Fit::Foreign,
    }
}

/// What a response says, before anything is cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Cut to fit UDP: ask by TCP (RFC 2181 9).
    Truncated,
    /// An answer.
    Answer(Decoded),
    /// The CNAME chain leaves what this server put in: ask on for its end.
    AskOn(Decoded),
    /// The server failed.
    Failure(Failure),
    /// The server does not know EDNS (RFC 6891 7).
    NoEdns,
}

/// What [`decode`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// Found, NoData or NoName.
    pub(crate) outcome: Outcome,
    /// End of the CNAME chain, where there was one.
    pub(crate) canonical: Option<Name>,
    /// Links of the chain.
    pub(crate) links: usize,
    /// Smallest TTL of what was used, seconds; for a negative answer that of RFC 2308 5, and
    /// `None` where no SOA gives one.
    pub(crate) ttl_s: Option<u32>,
    /// The AD bit.
    pub(crate) secure: bool,
    /// Records that had nothing to do with the question.
    pub(crate) foreign: usize,
}

/// A record that may matter: where its data lies.
struct Raw {
    owner: WireName,
    kind: RecordType,
    ttl_s: u32,
    at: usize,
    end: usize,
}

/// Reads a response that [`fit`]s, with its question of `question_bytes` bytes about `name`.
pub(crate) fn decode(
    message: &[u8],
    question_bytes: usize,
    name: &Name,
    kind: Kind,
    edns: bool,
) -> Said {
    let mut decoder = BinDecoder::new(message);
    let Ok(header) = Header::read(&mut decoder) else {
        return Said::Failure(Failure::Malformed);
    };
    if header.metadata.truncation {
        return Said::Truncated;
    }
    match header.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        ResponseCode::FormErr | ResponseCode::NotImp if edns => return Said::NoEdns,
        ResponseCode::ServFail => return Said::Failure(Failure::ServerFailure),
        _ => return Said::Failure(Failure::Refused),
    }
    if decoder.read_slice(question_bytes).is_err() {
        return Said::Failure(Failure::Malformed);
    }
    let wanted = kind.wire();
    let mut of_other_class = 0;
    let (Some(answers), Some(authorities)) = (
        records(&mut decoder, header.counts.answers, &mut |k, inside| {
            let relevant = k == wanted || k == RecordType::CNAME;
            of_other_class += usize::from(relevant && !inside);
            relevant && inside
        }),
        records(&mut decoder, header.counts.authorities, &mut |k, inside| {
            inside && matches!(k, RecordType::SOA | RecordType::NS)
        }),
    ) else {
        return Said::Failure(Failure::Malformed);
    };
    // What remains is of no use but for the upper bits of the response code (RFC 6891 6.1.3).
    if let Some(additionals) = records(&mut decoder, header.counts.additionals, &mut |k, _| {
        k == RecordType::OPT
    }) {
        match additionals.first().map(|opt| opt.ttl_s >> 24) {
            None | Some(0) => {}
            Some(1) if edns => return Said::NoEdns,
            Some(_) => return Said::Failure(Failure::Refused),
        }
    }

    // The chain (RFC 1034 3.6.2). Several CNAMEs of one name break the rules; the first counts.
    let mut canonical: Option<Name> = None;
    let mut links = 0;
    let mut ttl_s = u32::MAX;
    let mut used = 0;
    loop {
        let at = canonical.as_ref().unwrap_or(name);
        let Some(cname) = answers
            .iter()
            .find(|r| r.kind == RecordType::CNAME && at.matches_wire(&r.owner))
        else {
            break;
        };
        links += 1;
        if links > DNS_CNAME_CHAIN_MAX {
            return Said::Failure(Failure::CnameChain);
        }
        let Some(RData::CNAME(target)) = data(message, cname) else {
            return Said::Failure(Failure::Malformed);
        };
        canonical = Some(Name::from_wire(&target.0));
        ttl_s = ttl_s.min(cname.ttl_s);
        used += 1;
    }
    let end = canonical.as_ref().unwrap_or(name);

    let mut found = Vec::new();
    for record in answers
        .iter()
        .filter(|r| r.kind == wanted && end.matches_wire(&r.owner))
    {
        let Some(data) = data(message, record) else {
            return Said::Failure(Failure::Malformed);
        };
        found.push(data);
        ttl_s = ttl_s.min(record.ttl_s);
        used += 1;
    }
    let foreign = answers.len() - used + of_other_class;

    let exists = header.metadata.response_code == ResponseCode::NoError;
    if exists && used == 0 && foreign > 0 {
        // Records such as were asked for, all of them of another name or class. That says nothing
        // about this name, least of all that it has none.
        return Said::Failure(Failure::Malformed);
    }
    let collected = if exists { collect(kind, found) } else { None };
    let positive = collected.is_some();
    let mut decoded = Decoded {
        outcome: match collected {
            Some(records) => Outcome::Found(records),
            None if exists => Outcome::NoData,
            None => Outcome::NoName,
        },
        canonical: None,
        links,
        ttl_s: Some(ttl_s),
        secure: header.metadata.authentic_data,
        foreign,
    };
    if !positive {
        // RFC 2308 3 and 5: the SOA of a zone that the name lies in.
        let soa = authorities.iter().find_map(|record| {
            if record.kind != RecordType::SOA || !end.is_within(&Name::from_wire(&record.owner)) {
                return None;
            }
            match data(message, record) {
                Some(RData::SOA(soa)) => Some(record.ttl_s.min(soa.minimum)),
                _ => None,
            }
        });
        decoded.ttl_s = soa.map(|soa| soa.min(ttl_s));
        if exists && soa.is_none() {
            if links > 0 {
                decoded.ttl_s = Some(ttl_s);
                decoded.canonical = canonical;
                return Said::AskOn(decoded);
            }
            if authorities.iter().any(|r| r.kind == RecordType::NS) {
                // A referral: this server does not recurse for us.
                return Said::Failure(Failure::Refused);
            }
        }
    }
    decoded.canonical = canonical;
    Said::Answer(decoded)
}

/// Reads `count` records and keeps the first [`DNS_RECORDS_MAX`] that `keep` wants: it is told the
/// type, and whether the class is IN. `None` if they can't be read.
fn records(
    decoder: &mut BinDecoder<'_>,
    count: u16,
    keep: &mut dyn FnMut(RecordType, bool) -> bool,
) -> Option<Vec<Raw>> {
    let mut kept = Vec::with_capacity(usize::from(count).min(8));
    for _ in 0..count {
        let owner = WireName::read(decoder).ok()?;
        let kind = RecordType::read(decoder).ok()?;
        let class = decoder.read_u16().ok()?.unverified();
        let ttl_s = decoder.read_u32().ok()?.unverified();
        let length = usize::from(decoder.read_u16().ok()?.unverified());
        let at = decoder.index();
        decoder.read_slice(length).ok()?;
        let opt = kind == RecordType::OPT;
        if keep(kind, class == u16::from(DNSClass::IN)) && kept.len() < DNS_RECORDS_MAX {
            kept.push(Raw {
                owner,
                kind,
                // RFC 2181 8: a TTL with its highest bit set is zero. An OPT's is no TTL.
                ttl_s: if opt || ttl_s < 1 << 31 { ttl_s } else { 0 },
                at,
                end: at + length,
            });
        }
    }
    Some(kept)
}

/// The data of one record; `None` if it can't be read.
fn data(message: &[u8], record: &Raw) -> Option<RData> {
    let length = u16::try_from(record.end.checked_sub(record.at)?).ok()?;
    if length == 0 {
        return None;
    }
    // The decoder sees nothing behind the record, so no string can run over its end.
    let mut decoder =
        BinDecoder::new(message.get(..record.end)?).clone(u16::try_from(record.at).ok()?);
    RData::read(&mut decoder, record.kind, Restrict::new(length)).ok()
}

/// The records as ours; `None` if there are none.
fn collect(kind: Kind, found: Vec<RData>) -> Option<Records> {
    if found.is_empty() {
        return None;
    }
    let found = found.into_iter();
    Some(match kind {
        Kind::A => Records::A(
            found
                .filter_map(|data| match data {
                    RData::A(a) => Some(a.0),
                    _ => None,
                })
                .collect(),
        ),
        Kind::Aaaa => Records::Aaaa(
            found
                .filter_map(|data| match data {
                    RData::AAAA(aaaa) => Some(aaaa.0),
                    _ => None,
                })
                .collect(),
        ),
        Kind::Mx => Records::Mx(
            found
                .filter_map(|data| match data {
                    RData::MX(mx) => Some(Mx {
                        preference: mx.preference,
                        exchange: Name::from_wire(&mx.exchange),
                    }),
                    _ => None,
                })
                .collect(),
        ),
        Kind::Txt => Records::Txt(
            found
                .filter_map(|data| match data {
                    RData::TXT(txt) => Some(txt.txt_data.concat().into_boxed_slice()),
                    _ => None,
                })
                .collect(),
        ),
        Kind::Ptr => Records::Ptr(
            found
                .filter_map(|data| match data {
                    RData::PTR(ptr) => Some(Name::from_wire(&ptr.0)),
                    _ => None,
                })
                .collect(),
        ),
        Kind::Tlsa => Records::Tlsa(
            found
                .filter_map(|data| match data {
                    RData::TLSA(tlsa) => Some(Tlsa {
                        usage: tlsa.cert_usage.into(),
                        selector: tlsa.selector.into(),
                        matching: tlsa.matching.into(),
                        data: tlsa.cert_data.into_boxed_slice(),
                    }),
                    _ => None,
                })
                .collect(),
        ),
    })
}

/// Reads `message` as a response to `question`, whatever it is; for fuzzing and for tools that
/// have no resolver. `None` if it is not a response to it, or one that gives no answer.
pub fn parse_answer(now: Instant, question: &Question, message: &[u8]) -> Option<Answer> {
    let id = u16::from_be_bytes(*message.first_chunk()?);
    let flags = Flags {
        edns: true,
        ad: false,
        dnssec_ok: false,
    };
    let query = encode(id, &question.name, question.kind, flags, || false)?;
    let wire = question_of(&query);
    if !matches!(fit(id, wire, message), Fit::Response | Fit::OtherCase) {
        return None;
    }
    match decode(message, wire.len(), &question.name, question.kind, true) {
        Said::Answer(decoded) => Some(Answer {
            outcome: decoded.outcome,
            canonical: decoded.canonical.unwrap_or_else(|| question.name.clone()),
            secure: decoded.secure,
            expires: now + Duration::from_secs(u64::from(decoded.ttl_s.unwrap_or(0))),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn tlsa_as_zone_files_have_it() {
        for (text, again) in [
            ("3 1 1 00fF", "3 1 1 00ff"),
            (" 255\t0 0  0 1 2 3 ", "255 0 0 0123"),
        ] {
            let record = Tlsa::parse(text).unwrap();
            assert_eq!(record.to_string(), again);
            assert_eq!(Tlsa::parse(again), Some(record));
        }
        for text in [
            "",
            "3 1 1",
            "3 1 1 0",
            "3 1 1 0g",
            "256 1 1 00",
            "3 1 +1 00",
            "3 1 00",
        ] {
            assert_eq!(Tlsa::parse(text), None, "{text}");
        }
    }
}
