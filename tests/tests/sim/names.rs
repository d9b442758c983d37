//! The name servers: zones that change, and a way there that loses, delays, cuts and fails.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, MX, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::random::Random;
use crate::receivers::Receivers;
use crate::shape::Shape;

/// How a domain's zone is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    /// MX records for the hosts of this site.
    Site(usize),
    /// Answers too long for a datagram.
    Long(usize),
    /// It takes no mail (RFC 7505).
    NullMx,
    /// There is no such name.
    Missing,
    /// Its servers fail.
    Fails,
}

pub(crate) struct NameServers {
    pub(crate) zones: Vec<Zone>,
    homes: Vec<usize>,
    sites: usize,
    loss: u64,
    pub(crate) random: Random,
}

pub(crate) const SERVERS: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(20, 1, 1, 1)), 53),
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(20, 1, 1, 2)), 53),
];

pub(crate) fn domain(n: usize) -> String {
    format!("d{n}.example")
}

impl NameServers {
    pub(crate) fn new(shape: &Shape, random: Random) -> Self {
        Self {
            zones: shape.domains.iter().map(|site| Zone::Site(*site)).collect(),
            homes: shape.domains.clone(),
            sites: shape.sites.len(),
            loss: shape.dns_loss,
            random,
        }
    }

    /// A zone changes; for how long, seconds.
    pub(crate) fn change(&mut self, n: usize) -> u64 {
        let random = &mut self.random;
        if self.loss == 0 || random.per_mille(600) {
            self.zones[n] = Zone::Site(self.homes[n]);
            return random.scale(100, 20_000);
        }
        self.zones[n] = match random.below(8) {
            0 => Zone::NullMx,
            1 => Zone::Missing,
            2 | 3 => Zone::Fails,
            4 | 5 => Zone::Long(self.homes[n]),
            _ => {
                // It moves.
                self.homes[n] = random.below(self.sites as u64) as usize;
                Zone::Site(self.homes[n])
            }
        };
        random.scale(10, 3000)
    }

    /// What is sent back, and after how many nanoseconds each; nothing where it is lost.
    pub(crate) fn answer(
        &mut self,
        query: &[u8],
        tcp: bool,
        receivers: &Receivers,
    ) -> Vec<(u64, Option<Vec<u8>>)> {
        let random = &mut self.random;
        let delay = |random: &mut Random| {
            let most = if random.per_mille(30) {
                4_000_000_000
            } else {
                80_000_000
            };
            random.between(200_000, most)
        };
        let wait = delay(random);
        if random.per_mille(self.loss) {
            return if tcp && random.per_mille(700) {
                vec![(wait, None)]
            } else {
                Vec::new()
            };
        }
        let Ok(query) = Message::from_vec(query) else {
            panic!("the resolver sent what is no query");
        };
        let asked = query.queries[0].clone();
        let owner = asked.name().clone();
        let text = owner.to_ascii().to_lowercase();
        let text = text.trim_end_matches('.');
        let mut message = Message::response(query.metadata.id, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.recursion_available = true;
        message.add_queries(query.queries);
        let zone = (0..self.zones.len()).find(|n| text == domain(*n));
        let ttl = random.pick(&[5, 60, 900]);
        if let Some(host) = receivers.hosts.iter().find(|h| h.name == text) {
            if let (IpAddr::V4(ip), RecordType::A) = (host.address.ip(), asked.query_type()) {
                message.add_answer(Record::from_rdata(owner, ttl, RData::A(A(ip))));
            } else {
                message.add_authority(soa());
            }
        } else {
            match zone.map(|n| self.zones[n]) {
                Some(Zone::Fails) => message.metadata.response_code = ResponseCode::ServFail,
                Some(Zone::NullMx) if asked.query_type() == RecordType::MX => {
                    let none = RData::MX(MX::new(0, Name::root()));
                    message.add_answer(Record::from_rdata(owner, ttl, none));
                }
                Some(Zone::Long(_)) if !tcp => message.metadata.truncation = true,
                Some(Zone::Site(site) | Zone::Long(site))
                    if asked.query_type() == RecordType::MX =>
                {
                    for (i, host) in receivers.of_site[site].iter().enumerate() {
                        let name = format!("{}.", receivers.hosts[*host].name);
                        let name = Name::from_ascii(name).expect("a name");
                        let mx = RData::MX(MX::new(10 + (i as u16 / 2), name));
                        message.add_answer(Record::from_rdata(owner.clone(), ttl, mx));
                    }
                }
                Some(Zone::Missing) | None => {
                    message.metadata.response_code = ResponseCode::NXDomain;
                    message.add_authority(soa());
                }
                _ => {
                    message.add_authority(soa());
                }
            }
        }
        let bytes = message.to_vec().expect("it can be written");
        let mut sent = vec![(wait, Some(bytes.clone()))];
        if !tcp && random.per_mille(20) {
            sent.push((wait + delay(random), Some(bytes)));
        }
        sent
    }
}

fn soa() -> Record {
    let name = |text| Name::from_ascii(text).expect("a name");
    let soa = SOA::new(name("ns.example."), name("root.example."), 1, 1, 1, 1, 30);
    Record::from_rdata(name("example."), 30, RData::SOA(soa))
}
