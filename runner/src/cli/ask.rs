//! DNS for subcommands that run without the server: the core's resolver over blocking sockets, one
//! question at a time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use courser_core::dns::{Answer, Asked, Config, Input, Output, Question, Resolver, Token};
use courser_core::limits::DNS_QUERY_BYTES_MAX;

use crate::net::clock;

/// Longest datagram and longest answer by TCP, bytes.
const MESSAGE_BYTES_MAX: usize = 65_535;

/// Asks name servers.
pub struct Asker {
    resolver: Resolver,
    tcp_timeout: Duration,
    /// For IPv4 and IPv6.
    sockets: [Option<UdpSocket>; 2],
}

impl Asker {
    /// Asks as `config` says, from one port.
    ///
    /// # Errors
    /// When there is no socket.
    pub fn new(mut config: Config) -> std::io::Result<Self> {
        config.sockets = 1;
        let mut sockets = [None, None];
        for server in &config.servers {
            let (slot, any) = match server {
                SocketAddr::V4(_) => (&mut sockets[0], "0.0.0.0:0"),
                SocketAddr::V6(_) => (&mut sockets[1], "[::]:0"),
            };
            if slot.is_none() {
                *slot = Some(UdpSocket::bind(any)?);
            }
        }
        let mut seed = [0; 32];
        for part in seed.chunks_exact_mut(8) {
            part.copy_from_slice(&clock::random_u64().to_ne_bytes());
        }
        Ok(Self {
            tcp_timeout: config.tcp_timeout,
            resolver: Resolver::new(config, seed),
            sockets,
        })
    }

    /// What comes of `question`, within the resolver's patience.
    pub fn ask(&mut self, question: Question) -> Arc<Answer> {
        let asked = self.resolver.ask(clock::now(), Token(0), question);
        if let Asked::Answered(answer) = asked {
            return answer;
        }
        let mut out = vec![0; DNS_QUERY_BYTES_MAX];
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        loop {
            match self.resolver.poll(clock::now(), &mut out) {
                Output::Answer { answer, .. } => return answer,
                Output::SendUdp { to, len, query, .. } => {
                    let socket = &self.sockets[usize::from(to.is_ipv6())];
                    let sent = socket.as_ref().map(|s| s.send_to(&out[..len], to));
                    if !matches!(sent, Some(Ok(_))) {
                        self.resolver
                            .handle(clock::now(), Input::SendFailed { query });
                    }
                }
                Output::SendTcp { to, len, query } => {
                    let reply = exchange(to, &out[..len], self.tcp_timeout);
                    let input = match &reply {
                        Ok(bytes) => Input::TcpReply { query, bytes },
                        Err(_) => Input::TcpFailed { query },
                    };
                    self.resolver.handle(clock::now(), input);
                }
                Output::Wait(until) => {
                    let wait = until.map_or(Duration::from_secs(1), |u| u.since(clock::now()));
                    self.listen(wait.max(Duration::from_millis(1)), &mut buffer);
                }
            }
        }
    }

    /// Takes a datagram, or the time passes.
    fn listen(&mut self, wait: Duration, buffer: &mut [u8]) {
        let open = self.sockets.iter().flatten().count().max(1) as u32;
        for socket in self.sockets.iter().flatten() {
            if socket.set_read_timeout(Some(wait / open)).is_err() {
                continue;
            }
            if let Ok((n, from)) = socket.recv_from(buffer) {
                let input = Input::Datagram {
                    from,
                    socket: 0,
                    bytes: &buffer[..n],
                };
                self.resolver.handle(clock::now(), input);
                return;
            }
        }
    }
}

/// One query by TCP (RFC 1035 4.2.2).
fn exchange(to: SocketAddr, query: &[u8], timeout: Duration) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&to, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let mut framed = (query.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}
