//! One echo through the tunnel, by the kernel's ping sockets, which fill in what is tedious.

use std::{
    io::{self, Read},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

/// The round trip to an address.
pub fn once(to: IpAddr, limit: Duration) -> io::Result<Duration> {
    let (domain, protocol, kind) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.connect(&SocketAddr::new(to, 0).into())?;
    socket.set_read_timeout(Some(limit))?;
    let sent = Instant::now();
    socket.send(&[kind, 0, 0, 0, 0, 0, 0, 1, b'h', b'a', b'w', b's', b'e', b'r'])?;
    (&socket).read_exact(&mut [0; 14])?;
    Ok(sent.elapsed())
}
