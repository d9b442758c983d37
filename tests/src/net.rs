//! Loopback ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// A port that nothing uses on 127.0.0.1, for TCP and UDP.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    free_port_on(&[Ipv4Addr::LOCALHOST.into()])
}

/// A port that is free on all of `addresses`.
///
/// # Panics
/// When there is none after many tries.
pub fn free_port_on(addresses: &[IpAddr]) -> u16 {
    for _ in 0..200 {
        let first = TcpListener::bind((addresses[0], 0)).expect("a loopback address");
        let port = first
            .local_addr()
            .expect("a bound socket has an address")
            .port();
        // Outside of what the kernel hands to connecting sockets nothing takes it meanwhile; inside
        // the chance is small.
        let all = addresses[1..]
            .iter()
            .all(|a| TcpListener::bind((*a, port)).is_ok())
            && addresses
                .iter()
                .all(|a| UdpSocket::bind((*a, port)).is_ok());
        if all {
            return port;
        }
    }
    panic!("no port is free on {addresses:?}");
}

/// Waits until something listens at `address`.
#[must_use]
pub fn wait_for(address: SocketAddr, seconds: u64) -> bool {
    crate::eventually(seconds, || {
        TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()
    })
    .is_some()
}

/// Connects to `to` from the address `from`.
///
/// # Errors
/// The system's.
pub fn connect_from(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    use std::os::fd::FromRawFd;
    let (IpAddr::V4(from), SocketAddr::V4(to)) = (from, to) else {
        return Err(std::io::ErrorKind::Unsupported.into());
    };
    let name = |ip: Ipv4Addr, port: u16| libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(ip).to_be(),
        },
        sin_zero: [0; 8],
    };
    let check = |result: i32| {
        if result < 0 {
            Err(std::io::Error::last_os_error())
        } else {
            Ok(result)
        }
    };
    let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: the descriptor is new and belongs to the stream alone; the addresses outlive the calls.
    unsafe {
        let fd = check(libc::socket(
            libc::AF_INET,
            libc::SOCK_STREAM | libc::SOCK_CLOEXEC,
            0,
        ))?;
        let stream = TcpStream::from_raw_fd(fd);
        let (from, to) = (name(from, 0), name(*to.ip(), to.port()));
        check(libc::bind(fd, (&raw const from).cast(), size))?;
        check(libc::connect(fd, (&raw const to).cast(), size))?;
        Ok(stream)
    }
}
