//! A name server for the modelled domains, made of hickory's parts.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hickory_proto::rr::rdata::{A, MX, SOA};
use hickory_proto::rr::{LowerName, Name, RData, Record};
use hickory_server::Server;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

use super::world::{Records, World};

/// How long records may be kept, seconds; longer than the demo runs.
const TTL_S: u32 = 300;
/// An idle TCP connection is closed after this.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Responses that may wait in one TCP connection.
const TCP_RESPONSES: usize = 16;
/// Ports that are tried: one has to be free for UDP and for TCP.
const PORT_TRIES: usize = 20;

/// A running name server. It ends when it is dropped.
pub struct Names {
    address: SocketAddr,
    _server: Server<Catalog>,
}

impl Names {
    /// Where it answers, by UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Starts a name server for this world on a free port of 127.0.0.1.
///
/// # Errors
/// A name is wrong, or there is no port.
pub async fn start(world: &World) -> anyhow::Result<Names> {
    let mut catalog = Catalog::new();
    let origin = Name::from_ascii("test.")?;
    let zone = Arc::new(zone(&origin, world)?);
    catalog.upsert(LowerName::from(origin), vec![zone]);
    let (udp, tcp) = sockets().await.context("no port for the name server")?;
    let address = udp.local_addr()?;
    let mut server = Server::new(catalog);
    server.register_socket(udp);
    server.register_listener(tcp, TCP_IDLE, TCP_RESPONSES);
    Ok(Names {
        address,
        _server: server,
    })
}

async fn sockets() -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = None;
    for _ in 0..PORT_TRIES {
        let udp = UdpSocket::bind("127.0.0.1:0").await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// One zone with everything, so that what isn't in it doesn't exist.
fn zone(origin: &Name, world: &World) -> anyhow::Result<InMemoryZoneHandler> {
    let mut zone = InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
    let name = |text: &str| -> anyhow::Result<Name> {
        let mut name = Name::from_ascii(text)?;
        name.set_fqdn(true);
        Ok(name)
    };
    let mut add = |owner: Name, data: RData| {
        zone.upsert_mut(Record::from_rdata(owner, TTL_S, data), 0);
    };
    let (primary, hostmaster) = (name("ns.test")?, name("hostmaster.test")?);
    let soa = SOA::new(primary, hostmaster, 1, 3600, 600, 86_400, TTL_S);
    add(origin.clone(), RData::SOA(soa));
    let Records { mx, a } = world.records();
    for (owner, preference, host) in mx {
        add(name(&owner)?, RData::MX(MX::new(preference, name(&host)?)));
    }
    for (owner, address) in a {
        add(name(&owner)?, RData::A(A(address)));
    }
    Ok(zone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
    use hickory_proto::rr::RecordType;

    #[test]
    fn answers_as_the_world_is() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let names = start(&World::new(10, 1)).await.unwrap();
            let ask = async |name: &str, kind| {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                let mut query = Message::new(7, MessageType::Query, OpCode::Query);
                query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
                let bytes = query.to_vec().unwrap();
                socket.send_to(&bytes, names.address()).await.unwrap();
                let mut buffer = [0; 1500];
                let n = socket.recv(&mut buffer).await.unwrap();
                Message::from_vec(&buffer[..n]).unwrap()
            };
            let mx = ask("Spare.test.", RecordType::MX).await;
            assert_eq!(mx.answers.len(), 2);
            let null = ask("mute.test.", RecordType::MX).await;
            assert_eq!(null.answers[0].data.to_string(), "0 .");
            let implicit = ask("plainold.test.", RecordType::MX).await;
            assert_eq!(implicit.metadata.response_code, ResponseCode::NoError);
            assert!(implicit.answers.is_empty());
            assert_eq!(ask("plainold.test.", RecordType::A).await.answers.len(), 1);
            let nowhere = ask("nowhere.test.", RecordType::MX).await;
            assert_eq!(nowhere.metadata.response_code, ResponseCode::NXDomain);
        });
    }
}
