//! Addresses that a public mail exchanger can't have.
//!
//! A domain whose MX points to `127.0.0.1` or `10.0.0.1` would make us talk to ourselves or to
//! machines of our own network that trust us. The networks are those of the IANA special-purpose
//! address registries (RFC 6890) that are not globally reachable.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What `ip` is, if mail to the public must not go there; `None` for an ordinary address.
/// Addresses with an IPv4 address inside (NAT64, 6to4) are judged by that.
pub fn special(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    }
}

fn special_v4(ip: Ipv4Addr) -> Option<&'static str> {
    Some(match ip.octets() {
        [0, ..] => "\"this network\" (RFC 791)",
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "a private address (RFC 1918)",
        [100, 64..=127, ..] => "a carrier-grade NAT address (RFC 6598)",
        [127, ..] => "a loopback address (RFC 1122)",
        [169, 254, ..] => "a link-local address (RFC 3927)",
        [192, 0, 0, _] => "a protocol assignment (RFC 6890)",
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => {
            "a documentation address (RFC 5737)"
        }
        [192, 88, 99, _] => "a 6to4 relay anycast address (RFC 7526)",
        [198, 18..=19, ..] => "a benchmarking address (RFC 2544)",
        [224..=239, ..] => "a multicast address (RFC 5771)",
        [240..=255, ..] => "a reserved or broadcast address (RFC 1112, RFC 919)",
        _ => return None,
    })
}

fn special_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let embedded = |hi: u16, lo: u16| {
        let [a, b] = hi.to_be_bytes();
        let [c, d] = lo.to_be_bytes();
        special_v4(Ipv4Addr::new(a, b, c, d))
    };
    Some(match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0] => match (g, h) {
            (0, 0) => "the unspecified address (RFC 4291)",
            (0, 1) => "the loopback address (RFC 4291)",
            _ => "an IPv4-compatible address (RFC 4291)",
        },
        [0, 0, 0, 0, 0, 0xffff] => "an IPv4-mapped address (RFC 4291)",
        [0x64, 0xff9b, 0, 0, 0, 0] => return embedded(g, h),
        [0x64, 0xff9b, 1, ..] => "a local NAT64 address (RFC 8215)",
        [0x100, 0, 0, 0, ..] => "a discard-only address (RFC 6666)",
        [0x2001, 0, ..] => "a Teredo address (RFC 4380)",
        [0x2001, 2, 0, ..] => "a benchmarking address (RFC 5180)",
        [0x2001, 0x10..=0x1f, ..] => "an ORCHID, no address (RFC 4843)",
        [0x2001, 0x20..=0x2f, ..] => "an ORCHID, no address (RFC 7343)",
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => {
            "a documentation address (RFC 3849, RFC 9637)"
        }
        [0x2002, hi, lo, ..] => return embedded(hi, lo),
        [0x5f00, ..] => "a segment routing identifier (RFC 9602)",
        [0xfc00..=0xfdff, ..] => "a unique local address (RFC 4193)",
        [0xfe80..=0xfebf, ..] => "a link-local address (RFC 4291)",
        [0xfec0..=0xfeff, ..] => "a site-local address (RFC 3879)",
        [0xff00..=0xffff, ..] => "a multicast address (RFC 4291)",
        _ => return None,
    })
}

/// Whether `ip` lies in the network of this address and prefix length, bits.
pub fn within(ip: IpAddr, (network, bits): (IpAddr, u8)) -> bool {
    match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let host = 32 - u32::from(bits.min(32));
            (u64::from(a.to_bits() ^ b.to_bits()) >> host) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let differ = a.to_bits() ^ b.to_bits();
            match 128 - u32::from(bits.min(128)) {
                128 => true,
                host => differ >> host == 0,
            }
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_and_ordinary() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::10.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "3fff::1",
            "2002:7f00:1::1",
            "2002:a00:1::",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(special(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.0.3.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2001:4860:4860::8888",
            "2a00:1450:4001::1a",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2620:fe::fe",
            "3ffe::1",
        ] {
            assert_eq!(special(text.parse().unwrap()), None, "{text}");
        }
    }
}
