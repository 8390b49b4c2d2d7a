//! Makes the sockets of a data path.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
};

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use rustix::{
    io::Errno,
    net::sockopt::{
        Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
    },
};
use socket2::{Domain, Protocol, Socket, Type};

/// Room for what arrives while a worker is busy: several TCP flows with full windows.
const RECEIVE: usize = 32 << 20;
/// Room for what the devices have not taken yet.
const SEND: usize = 8 << 20;

/// `count` sockets for IPv4, as many for IPv6, and the port they all have.
pub(super) fn groups(
    port: u16,
    mark: Option<u32>,
    count: usize,
) -> io::Result<(Vec<UdpSocket>, Vec<UdpSocket>, u16)> {
    let v4 = present(group((Ipv4Addr::UNSPECIFIED, port).into(), mark, count))?;
    let port = v4.first().map_or(Ok(port), local_port)?;
    let v6 = present(group((Ipv6Addr::UNSPECIFIED, port).into(), mark, count))?;
    let port = v6.first().map_or(Ok(port), local_port)?;
    if v4.is_empty() && v6.is_empty() {
        return Err(Errno::AFNOSUPPORT.into());
    }
    Ok((v4, v6, port))
}

/// The first is bound for itself alone: the port of another program's sockets is never shared,
/// which it would be if all of ours asked for sharing before they were bound.
fn group(address: SocketAddr, mark: Option<u32>, count: usize) -> io::Result<Vec<UdpSocket>> {
    let first = open(address, mark)?;
    first.bind(&address.into())?;
    let mut all: Vec<UdpSocket> = vec![first.into()];
    let address = all[0].local_addr()?;
    for _ in 1..count {
        socket2::SockRef::from(&all[0]).set_reuse_port(true)?;
        let next = open(address, mark)?;
        next.set_reuse_port(true)?;
        next.bind(&address.into())?;
        all.push(next.into());
    }
    Ok(all)
}

fn open(address: SocketAddr, mark: Option<u32>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // Without "don't fragment": a path with a smaller MTU costs speed instead of a black hole.
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DONT)?;
        socket.set_recv_tclass_v6(true)?;
    } else {
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
        socket.set_recv_tos_v4(true)?;
    }
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    // Since Linux 5.0; before, datagrams come one by one.
    let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
    enlarge(&socket)?;
    Ok(socket)
}

/// True where the kernel knows UDP_SEGMENT.
pub(super) fn takes_trains(socket: &UdpSocket) -> bool {
    getsockopt(socket, sockopt::UdpGsoSegment).is_ok()
}

/// Past the system's limit where we may (as root), else up to it.
fn enlarge(socket: &Socket) -> io::Result<()> {
    if setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &RECEIVE).is_err() {
        socket.set_recv_buffer_size(RECEIVE)?;
    }
    if setsockopt(&socket.as_fd(), sockopt::SndBufForce, &SEND).is_err() {
        socket.set_send_buffer_size(SEND)?;
    }
    Ok(())
}

/// A machine without this family is no error.
fn present(sockets: io::Result<Vec<UdpSocket>>) -> io::Result<Vec<UdpSocket>> {
    match sockets {
        Ok(sockets) => Ok(sockets),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => Ok(Vec::new()),
            _ => Err(error),
        },
    }
}

fn local_port(socket: &UdpSocket) -> io::Result<u16> {
    Ok(socket.local_addr()?.port())
}
