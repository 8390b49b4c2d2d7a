//! The rtnetlink messages that we send, and nothing else.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope},
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol,
        RouteScope, RouteType,
    },
};

use super::netlink::Request;
use crate::attachment::Mac;

pub(super) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// One end of a veth pair, before it exists.
pub(super) struct End<'a> {
    pub(super) name: &'a str,
    pub(super) mac: Mac,
    pub(super) mtu: u16,
}

impl End<'_> {
    fn message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(self.name.to_owned()),
            LinkAttribute::Mtu(self.mtu.into()),
            LinkAttribute::Address(self.mac.to_vec()),
        ];
        message
    }
}

/// Both ends at once; the pod's is born in its namespace.
pub(super) fn new_pair(host: &End<'_>, pod: &End<'_>, netns: i32) -> Request {
    let mut peer = pod.message();
    peer.attributes.push(LinkAttribute::NetNsFd(netns));
    let mut message = host.message();
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    Request {
        message: RouteNetlinkMessage::NewLink(message),
        flags: NLM_F_CREATE | NLM_F_EXCL,
        doing: format!("creating the devices {} and {}", host.name, pod.name),
    }
}

pub(super) fn link_up(index: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    Request {
        message: RouteNetlinkMessage::SetLink(message),
        flags: 0,
        doing: "setting it up".into(),
    }
}

pub(super) fn delete_link(name: &str) -> Request {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    Request {
        message: RouteNetlinkMessage::DelLink(message),
        flags: 0,
        doing: format!("deleting the device {name}"),
    }
}

/// The pod's own address, usable at once: nobody else can have it, so nobody is asked.
pub(super) fn new_address(index: u32, address: IpAddr) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = IpNet::from(address).prefix_len();
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    if address.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    Request {
        message: RouteNetlinkMessage::NewAddress(message),
        flags: NLM_F_CREATE | NLM_F_EXCL,
        doing: format!("adding the address {address}"),
    }
}

/// linux/rtnetlink.h
const RT_TABLE_LOCAL: u8 = 255;

/// Makes packets to a pod's own IPv6 address deliverable at once. Linux does so itself, but on a
/// work queue that waits for the same lock as everybody's requests; its own route comes beside it.
pub(super) fn new_local_route(index: u32, address: IpAddr) -> Request {
    let Request { message, flags, .. } = new_route(index, address.into(), None);
    let RouteNetlinkMessage::NewRoute(mut message) = message else {
        unreachable!("a route is made by the message for routes");
    };
    message.header.table = RT_TABLE_LOCAL;
    message.header.kind = RouteType::Local;
    message.header.scope = RouteScope::Host;
    let doing = format!("making {address} the pod's own");
    Request { message: RouteNetlinkMessage::NewRoute(message), flags, doing }
}

/// An entry that never expires and never asks.
pub(super) fn new_neighbour(index: u32, address: IpAddr, mac: Mac) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        NeighbourAttribute::Destination(address.into()),
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
    ];
    Request {
        message: RouteNetlinkMessage::NewNeighbour(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
        doing: format!("adding the neighbour {address}"),
    }
}

/// `gateway` None: the destination is on the device itself.
pub(super) fn new_route(index: u32, dst: IpNet, gateway: Option<IpAddr>) -> Request {
    let mut message = main_table(family(dst.addr()));
    message.header.destination_prefix_length = dst.prefix_len();
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Oif(index));
    if dst.prefix_len() > 0 {
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(dst.addr())));
    }
    match gateway {
        Some(gateway) => {
            message.header.flags = RouteFlags::Onlink;
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
        }
        None if dst.addr().is_ipv4() => message.header.scope = RouteScope::Link,
        None => (),
    }
    Request {
        message: RouteNetlinkMessage::NewRoute(message),
        flags: NLM_F_CREATE | NLM_F_EXCL,
        doing: format!("adding the route to {dst}"),
    }
}

/// Asks which route a packet to `address` would take.
pub(super) fn lookup(address: IpAddr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = IpNet::from(address).prefix_len();
    message.attributes.push(RouteAttribute::Destination(RouteAddress::from(address)));
    RouteNetlinkMessage::GetRoute(message)
}

pub(super) fn main_table(family: AddressFamily) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message
}
