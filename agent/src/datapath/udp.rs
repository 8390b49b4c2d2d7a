//! The two UDP sockets, one a family, on one port.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::{
    io::Errno,
    net::{
        RecvFlags,
        sockopt::{
            Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
        },
    },
};
use socket2::{Domain, Protocol, Socket, Type};

/// Room for what arrives while a worker is busy.
const BUFFER: usize = 8 << 20;

/// Sockets on the same port for IPv4 and IPv6. A machine may lack one family, not both.
#[derive(Debug)]
pub(super) struct Udp {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    port: u16,
}

impl Udp {
    pub(super) fn bind(port: u16, mark: Option<u32>) -> io::Result<Self> {
        let v4 = present(open((Ipv4Addr::UNSPECIFIED, port).into(), mark))?;
        let port = v4.as_ref().map_or(Ok(port), local_port)?;
        let v6 = present(open((Ipv6Addr::UNSPECIFIED, port).into(), mark))?;
        let port = v6.as_ref().map_or(Ok(port), local_port)?;
        if v4.is_none() && v6.is_none() {
            return Err(Errno::AFNOSUPPORT.into());
        }
        Ok(Self { v4, v6, port })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The sockets that there are, to be read from.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        self.v4.iter().chain(self.v6.iter())
    }

    /// Waits while the socket's buffer is full: that slows down whoever sends.
    pub(super) fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let socket = match to {
            SocketAddr::V4(_) => &self.v4,
            SocketAddr::V6(_) => &self.v6,
        };
        let socket = socket.as_ref().ok_or(Errno::AFNOSUPPORT)?;
        socket.send_to(datagram, to).map(|_| ())
    }
}

/// Takes one datagram if one is there, without waiting.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
) -> Result<(usize, SocketAddr), Errno> {
    let (length, _, from) = rustix::net::recvfrom(socket, &mut *into, RecvFlags::DONTWAIT)?;
    let from = from.and_then(|from| SocketAddr::try_from(from).ok()).ok_or(Errno::AFNOSUPPORT)?;
    Ok((length, from))
}

fn open(address: SocketAddr, mark: Option<u32>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DONT)?;
    } else {
        // Without "don't fragment": a path with a smaller MTU costs speed instead of a black hole.
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
    }
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    enlarge(&socket)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Past the system's limit where we may (as root), else up to it.
fn enlarge(socket: &Socket) -> io::Result<()> {
    if setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &BUFFER).is_err() {
        socket.set_recv_buffer_size(BUFFER)?;
    }
    if setsockopt(&socket.as_fd(), sockopt::SndBufForce, &BUFFER).is_err() {
        socket.set_send_buffer_size(BUFFER)?;
    }
    Ok(())
}

/// A machine without this family is no error.
fn present(socket: io::Result<UdpSocket>) -> io::Result<Option<UdpSocket>> {
    match socket {
        Ok(socket) => Ok(Some(socket)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => Ok(None),
            _ => Err(error),
        },
    }
}

fn local_port(socket: &UdpSocket) -> io::Result<u16> {
    Ok(socket.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn both_families_share_a_port() {
        let udp = Udp::bind(0, None).unwrap();

        let ports: Vec<_> = udp.sockets().map(|s| s.local_addr().unwrap().port()).collect();

        assert!(ports.iter().all(|&port| port == udp.port()), "{ports:?}");
    }

    #[test]
    fn a_port_in_use_is_an_error_and_not_a_missing_family() {
        let first = Udp::bind(0, None).unwrap();

        let error = Udp::bind(first.port(), None).unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_datagram_arrives_with_its_sender() {
        let (a, b) = (Udp::bind(0, None).unwrap(), Udp::bind(0, None).unwrap());

        a.send((Ipv4Addr::LOCALHOST, b.port()).into(), b"hello").unwrap();

        let socket = b.v4.as_ref().unwrap();
        let mut buffer = [0; 64];
        let (length, from) = receive(socket.as_fd(), &mut buffer).unwrap();
        assert_eq!((&buffer[..length], from.port()), (&b"hello"[..], a.port()));
        assert_eq!(receive(socket.as_fd(), &mut buffer), Err(Errno::AGAIN));
    }
}
