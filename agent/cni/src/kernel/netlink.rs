//! A blocking rtnetlink socket.

use std::{io, net::IpAddr};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_ERROR, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkFlags, LinkMessage},
    route::{RouteAttribute, RouteType},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::io::Errno;

use super::message;

/// Larger than any datagram that the kernel makes of a dump.
const BUFFER: usize = 64 << 10;

/// One request with the flags that it needs beside REQUEST and ACK.
pub(super) struct Request {
    pub(super) message: RouteNetlinkMessage,
    pub(super) flags: u16,
    /// Said when it fails.
    pub(super) doing: String,
}

/// A device as far as we look at it.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) up: bool,
    /// Packets really go out.
    pub(crate) running: bool,
    pub(crate) mac: Vec<u8>,
}

/// The socket stays in the namespace in which it was opened.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Kernels before 4.20 don't know it: they send more, and we pick ours all the same.
        let _ = socket.set_netlink_get_strict_chk(true);
        let _ = socket.set_cap_ack(true);
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends all requests at once. The first that the kernel refuses is the error.
    pub(super) fn all(&mut self, requests: Vec<Request>) -> io::Result<()> {
        let mut batch = Vec::new();
        let first = self.sequence + 1;
        let doing: Vec<String> = requests.iter().map(|request| request.doing.clone()).collect();
        for request in requests {
            self.append(request.message, request.flags | NLM_F_ACK, &mut batch);
        }
        self.socket.send(&batch, 0)?;
        let mut outcome = Ok(());
        let mut open = doing.len();
        while open > 0 {
            for (header, payload) in self.receive()? {
                let NetlinkPayload::Error(error) = payload else {
                    continue;
                };
                let Some(at) = header.sequence_number.checked_sub(first) else {
                    continue;
                };
                open -= 1;
                if error.code.is_some() && outcome.is_ok() {
                    outcome = Err(saying(error.to_io(), &doing[at as usize]));
                }
            }
        }
        outcome
    }

    /// The device of that name.
    pub(crate) fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.get(RouteNetlinkMessage::GetLink(message)) {
            Ok(RouteNetlinkMessage::NewLink(link)) => Ok(Some(facts(&link))),
            Ok(_) => Ok(None),
            Err(error) if is(&error, Errno::NODEV) => Ok(None),
            Err(error) => Err(saying(error, name)),
        }
    }

    /// Whether packets to `address` are delivered in this namespace.
    pub(super) fn is_local(&mut self, address: IpAddr) -> io::Result<bool> {
        match self.get(message::lookup(address)) {
            Ok(RouteNetlinkMessage::NewRoute(route)) => Ok(route.header.kind == RouteType::Local),
            Ok(_) => Ok(false),
            Err(error) if is(&error, Errno::NETUNREACH) => Ok(false),
            Err(error) => Err(saying(error, "looking up the pod's own address")),
        }
    }

    /// The device that packets to `address` leave this namespace by; none if they don't.
    pub(crate) fn device_to(&mut self, address: IpAddr) -> io::Result<Option<u32>> {
        let unreachable = [Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::ACCESS, Errno::INVAL];
        let route = match self.get(message::lookup(address)) {
            Ok(RouteNetlinkMessage::NewRoute(route)) => route,
            Ok(_) => return Ok(None),
            Err(error) if unreachable.iter().any(|errno| is(&error, *errno)) => return Ok(None),
            Err(error) => return Err(saying(error, &format!("looking up the way to {address}"))),
        };
        if route.header.kind != RouteType::Unicast {
            return Ok(None);
        }
        Ok(route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        }))
    }

    /// The one answer to `message`, a GET.
    fn get(&mut self, message: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        let mut request = Vec::new();
        self.append(message, 0, &mut request);
        self.socket.send(&request, 0)?;
        loop {
            for (header, payload) in self.receive()? {
                if header.sequence_number != self.sequence {
                    continue;
                }
                match payload {
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(inner) => return Ok(inner),
                    _ => (),
                }
            }
        }
    }

    /// Everything that answers `message`, a GET. What can't be decoded is left out.
    pub(super) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
        mut each: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        let mut request = Vec::new();
        self.append(message, NLM_F_DUMP, &mut request);
        self.socket.send(&request, 0)?;
        loop {
            for (header, payload) in self.receive()? {
                if header.sequence_number != self.sequence {
                    continue;
                }
                match payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(inner) => each(inner),
                    _ => (),
                }
            }
        }
    }

    fn append(&mut self, message: RouteNetlinkMessage, flags: u16, batch: &mut Vec<u8>) {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let start = batch.len();
        batch.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut batch[start..]);
    }

    fn receive(&self) -> io::Result<Vec<(NetlinkHeader, NetlinkPayload<RouteNetlinkMessage>)>> {
        let mut datagram = Vec::with_capacity(BUFFER);
        self.socket.recv(&mut datagram, 0)?;
        let mut messages = Vec::new();
        let mut rest = datagram.as_slice();
        while rest.len() >= 16 {
            let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            if !(16..=rest.len()).contains(&length) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a netlink message cut off",
                ));
            }
            if let Ok(message) = NetlinkMessage::deserialize(&rest[..length]) {
                messages.push(message.into_parts());
            } else if u16::from_ne_bytes([rest[4], rest[5]]) == NLMSG_ERROR {
                // An acknowledgement is never passed over: its sender would wait for ever.
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a netlink error garbled"));
            }
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
        Ok(messages)
    }
}

fn facts(link: &LinkMessage) -> Link {
    let mut facts = Link {
        index: link.header.index,
        up: link.header.flags.contains(LinkFlags::Up),
        running: link.header.flags.contains(LinkFlags::Running),
        mac: Vec::new(),
    };
    for attribute in &link.attributes {
        if let LinkAttribute::Address(mac) = attribute {
            facts.mac.clone_from(mac);
        }
    }
    facts
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// Keeps the kind (and with it what callers decide by), adds what was being done.
fn saying(error: io::Error, doing: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{doing}: {error}"))
}
