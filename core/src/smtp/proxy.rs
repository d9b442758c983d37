//! PROXY protocol, versions 1 and 2: what a load balancer says in front of the SMTP session.
//!
//! [`parse`] is called with all bytes read so far until it says [`Parsed::Done`]; it reads
//! nothing behind the header. Only peers that are configured as proxies may send one.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::limits::{PROXY_V1_BYTES_MAX, PROXY_V2_BYTES_MAX};

/// How every version 2 header begins.
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const V2_HEADER_BYTES: usize = 16;

/// The original connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// The client, `None` for the proxy's own connections (health checks: `LOCAL`) and families
    /// that are not TCP over IP (`UNKNOWN`).
    pub client: Option<SocketAddr>,
    /// The address that the client connected to.
    pub server: Option<SocketAddr>,
}

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header; read more.
    More,
    /// A whole header of `consumed` bytes.
    Done {
        /// Bytes of the header; the SMTP session begins behind them.
        consumed: usize,
        /// What it says.
        proxied: Proxied,
    },
}

/// Not a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// The bytes begin like neither version.
    NotProxy,
    /// A header longer than the protocol allows.
    TooLong,
    /// A malformed field; says which.
    Malformed(&'static str),
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProxy => {
                f.write_str("no PROXY protocol header at the start of the connection")
            }
            Self::TooLong => f.write_str("PROXY protocol header too long"),
            Self::Malformed(what) => write!(f, "malformed PROXY protocol header: {what}"),
        }
    }
}
impl core::error::Error for ProxyError {}

/// Reads a header of either version from the start of `input`.
///
/// # Errors
/// As soon as the bytes can't become a header any more.
pub fn parse(input: &[u8]) -> Result<Parsed, ProxyError> {
    let common = input.len().min(V2_SIGNATURE.len());
    if input.get(..common) == V2_SIGNATURE.get(..common) {
        return v2(input);
    }
    let common = input.len().min(6);
    if input.get(..common) == b"PROXY ".get(..common) {
        return v1(input);
    }
    Err(ProxyError::NotProxy)
}

fn v1(input: &[u8]) -> Result<Parsed, ProxyError> {
    let within = input.get(..PROXY_V1_BYTES_MAX).unwrap_or(input);
    let Some(end) = within.windows(2).position(|w| w == b"\r\n") else {
        return if input.len() >= PROXY_V1_BYTES_MAX {
            Err(ProxyError::TooLong)
        } else {
            Ok(Parsed::More)
        };
    };
    let line = core::str::from_utf8(input.get(..end).unwrap_or_default())
        .map_err(|_| ProxyError::Malformed("not ASCII"))?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    let consumed = end + 2;
    if family == "UNKNOWN" {
        return Ok(Parsed::Done {
            consumed,
            proxied: Proxied {
                client: None,
                server: None,
            },
        });
    }
    let mut word = |name| words.next().ok_or(ProxyError::Malformed(name));
    let (from, to) = (word("source address")?, word("destination address")?);
    let (from_port, to_port) = (word("source port")?, word("destination port")?);
    if words.next().is_some() {
        return Err(ProxyError::Malformed("something behind the ports"));
    }
    let address = |text: &str, name| -> Result<IpAddr, ProxyError> {
        let wrong = ProxyError::Malformed(name);
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| wrong),
            "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| wrong),
            _ => Err(ProxyError::Malformed("family")),
        }
    };
    let port = |text: &str, name| text.parse::<u16>().map_err(|_| ProxyError::Malformed(name));
    let client = SocketAddr::new(
        address(from, "source address")?,
        port(from_port, "source port")?,
    );
    let server = SocketAddr::new(
        address(to, "destination address")?,
        port(to_port, "destination port")?,
    );
    Ok(Parsed::Done {
        consumed,
        proxied: Proxied {
            client: Some(client),
            server: Some(server),
        },
    })
}

fn v2(input: &[u8]) -> Result<Parsed, ProxyError> {
    let Some(header) = input.first_chunk::<V2_HEADER_BYTES>() else {
        return Ok(Parsed::More);
    };
    let (command, family) = (header[12], header[13]);
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if command >> 4 != 2 {
        return Err(ProxyError::Malformed("version"));
    }
    let consumed = V2_HEADER_BYTES + length;
    if consumed > PROXY_V2_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let Some(body) = input.get(V2_HEADER_BYTES..consumed) else {
        return Ok(Parsed::More);
    };
    let nobody = Proxied {
        client: None,
        server: None,
    };
    let proxied = match (command & 0xf, family) {
        (0, _) => nobody,
        (1, 0x11) => {
            let b = body
                .first_chunk::<12>()
                .ok_or(ProxyError::Malformed("IPv4 addresses"))?;
            let ip = |at: usize| Ipv4Addr::new(b[at], b[at + 1], b[at + 2], b[at + 3]);
            let port = |at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
            Proxied {
                client: Some((ip(0), port(8)).into()),
                server: Some((ip(4), port(10)).into()),
            }
        }
        (1, 0x21) => {
            let b = body
                .first_chunk::<36>()
                .ok_or(ProxyError::Malformed("IPv6 addresses"))?;
            let ip = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&b[at..at + 16]);
                Ipv6Addr::from(octets)
            };
            let port = |at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
            Proxied {
                client: Some((ip(0), port(32)).into()),
                server: Some((ip(16), port(34)).into()),
            }
        }
        (1, _) => nobody,
        _ => return Err(ProxyError::Malformed("command")),
    };
    Ok(Parsed::Done { consumed, proxied })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn done(input: &[u8]) -> (usize, Proxied) {
        match parse(input) {
            Ok(Parsed::Done { consumed, proxied }) => (consumed, proxied),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn version_1_names_the_client() {
        let (n, p) = done(b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 25\r\nEHLO x\r\n");
        assert_eq!(n, 41);
        assert_eq!(p.client, Some("192.0.2.1:56324".parse().unwrap()));
        assert_eq!(p.server, Some("192.0.2.2:25".parse().unwrap()));
        assert_eq!(done(b"PROXY UNKNOWN\r\n").1.client, None);
        let (_, p) = done(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 25\r\n");
        assert_eq!(p.client, Some("[2001:db8::1]:1".parse().unwrap()));
    }

    fn v2_bytes() -> Vec<u8> {
        let mut b = V2_SIGNATURE.to_vec();
        b.extend([
            0x21, 0x11, 0, 15, 192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 0x04, 0, 25, 1, 2, 3,
        ]);
        b
    }

    #[test]
    fn version_2_names_the_client_and_skips_what_it_does_not_know() {
        let (n, p) = done(&v2_bytes());
        assert_eq!(
            (n, p.client),
            (31, Some("192.0.2.1:56324".parse().unwrap()))
        );
    }

    #[test]
    fn every_beginning_wants_more_and_only_a_beginning() {
        for whole in [
            b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 25\r\n".to_vec(),
            v2_bytes(),
        ] {
            for cut in 0..whole.len() {
                assert_eq!(parse(&whole[..cut]), Ok(Parsed::More), "{cut}");
            }
        }
        assert_eq!(parse(b"EHLO"), Err(ProxyError::NotProxy));
        assert_eq!(
            parse(&[b"PROXY TCP4 ".as_slice(), &[b'1'; 100]].concat()),
            Err(ProxyError::TooLong)
        );
    }

    #[test]
    fn wrong_fields_are_named() {
        let malformed = |b: &[u8]| match parse(b) {
            Err(ProxyError::Malformed(what)) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            malformed(b"PROXY TCP4 2001:db8::1 192.0.2.2 1 25\r\n"),
            "source address"
        );
        assert_eq!(
            malformed(b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 25\r\n"),
            "source port"
        );
        assert_eq!(
            malformed(b"PROXY TCP5 192.0.2.1 192.0.2.2 1 25\r\n"),
            "family"
        );
        assert_eq!(
            malformed(b"PROXY TCP4 192.0.2.1\r\n"),
            "destination address"
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), v2 in any::<bool>()) {
            let _ = parse(&bytes);
            let mut prefixed = if v2 { V2_SIGNATURE.to_vec() } else { b"PROXY ".to_vec() };
            prefixed.append(&mut bytes);
            let _ = parse(&prefixed);
        }
    }
}
