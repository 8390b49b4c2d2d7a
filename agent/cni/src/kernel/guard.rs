//! What the main routing tables say: is the mesh guarded, and which addresses have pods.

use std::{collections::HashSet, io, net::IpAddr};

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage},
    route::{RouteAttribute, RouteType},
};

use super::{message::main_table, netlink::Netlink, veth::destination};
use crate::POD_DEVICE_PREFIX;

/// The pools without an `unreachable` route under them: what is sent there could leave in clear.
pub(crate) fn unguarded(netlink: &mut Netlink, pools: &[IpNet]) -> io::Result<Vec<IpNet>> {
    let mut guarded = HashSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = main_table(family);
        message.header.kind = RouteType::Unreachable;
        netlink.dump(RouteNetlinkMessage::GetRoute(message), |answer| {
            let RouteNetlinkMessage::NewRoute(route) = answer else {
                return;
            };
            if route.header.kind == RouteType::Unreachable {
                guarded.extend(destination(&route));
            }
        })?;
    }
    Ok(pools.iter().filter(|pool| !guarded.contains(&pool.trunc())).copied().collect())
}

/// The single addresses that are routed to pod devices.
pub(crate) fn routed_addresses(netlink: &mut Netlink) -> io::Result<HashSet<IpAddr>> {
    let devices = pod_devices(netlink)?;
    let mut addresses = HashSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        netlink.dump(RouteNetlinkMessage::GetRoute(main_table(family)), |answer| {
            let RouteNetlinkMessage::NewRoute(route) = answer else {
                return;
            };
            let to_pod = route.attributes.iter().any(|attribute| {
                matches!(attribute, RouteAttribute::Oif(index) if devices.contains(index))
            });
            let Some(dst) = destination(&route) else {
                return;
            };
            if to_pod && dst.prefix_len() == dst.max_prefix_len() {
                addresses.insert(dst.addr());
            }
        })?;
    }
    Ok(addresses)
}

/// Devices by which default routes leave the node: never a pod's.
pub(crate) fn ways_out(netlink: &mut Netlink) -> io::Result<HashSet<u32>> {
    let mut devices = HashSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        netlink.dump(RouteNetlinkMessage::GetRoute(main_table(family)), |answer| {
            let RouteNetlinkMessage::NewRoute(route) = answer else {
                return;
            };
            if route.header.destination_prefix_length > 0 {
                return;
            }
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Oif(index) => drop(devices.insert(*index)),
                    RouteAttribute::MultiPath(hops) => {
                        devices.extend(hops.iter().map(|hop| hop.interface_index));
                    }
                    _ => (),
                }
            }
        })?;
    }
    Ok(devices)
}

fn pod_devices(netlink: &mut Netlink) -> io::Result<HashSet<u32>> {
    let mut devices = HashSet::new();
    let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
    netlink.dump(message, |answer| {
        let RouteNetlinkMessage::NewLink(link) = answer else {
            return;
        };
        let ours = link.attributes.iter().any(|attribute| {
            matches!(attribute, LinkAttribute::IfName(name) if name.starts_with(POD_DEVICE_PREFIX))
        });
        if ours {
            devices.insert(link.header.index);
        }
    })?;
    Ok(devices)
}
