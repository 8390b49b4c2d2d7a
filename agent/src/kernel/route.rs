//! Our routes in the main table and beside it, told from others by their protocol number.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use cni::POD_DEVICE_PREFIX;
use futures::TryStreamExt;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_route::{
    AddressFamily,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol,
        RouteScope, RouteType,
    },
};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::{KernelError, ROUTE_PROTOCOL, link::Links};
use crate::plan::{Route, SideTable, Target};

/// The guard's: the last that anybody asks.
const GUARD_METRIC: u32 = u32::MAX;
/// What Linux gives an IPv6 route without one, so that both families look alike.
const METRIC: u32 = 1024;
/// Behind the one that the CNI plugin makes, which a pod has from its first moment: ours is there
/// for when that is flushed, and never in its way.
const POD_METRIC: u32 = 2048;
/// Tables beside the main one; [`super::rule`] sends packets there.
pub(super) const SIDE_TABLES: [(u8, SideTable); 3] =
    [(72, SideTable::Machines), (73, SideTable::Vxlan), (74, SideTable::Direct)];

pub(super) fn number(table: SideTable) -> u8 {
    match table {
        SideTable::Machines => 72,
        SideTable::Vxlan => 73,
        SideTable::Direct => 74,
    }
}

pub(super) fn side_table(number: u8) -> Option<SideTable> {
    SIDE_TABLES.into_iter().find(|(known, _)| *known == number).map(|(_, table)| table)
}

pub(super) async fn list(handle: &Handle, links: &Links) -> Result<BTreeSet<Route>, KernelError> {
    let mut found = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let side = SIDE_TABLES.map(|(number, _)| number);
        for table in side.into_iter().chain([RouteHeader::RT_TABLE_MAIN]) {
            let messages = dump(handle, family, table).await?;
            found.extend(messages.iter().filter_map(|message| parse(message, links)));
        }
    }
    Ok(found)
}

async fn dump(
    handle: &Handle,
    family: AddressFamily,
    table: u8,
) -> Result<Vec<RouteMessage>, KernelError> {
    const ENOENT: i32 = 2;
    let mut filter = RouteMessage::default();
    filter.header.address_family = family;
    filter.header.table = table;
    filter.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    match handle.route().get(filter).execute().try_collect().await {
        // A table is there from its first route on.
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -ENOENT => Ok(Vec::new()),
        result => result.map_err(KernelError::netlink("listing routes")),
    }
}

fn parse(message: &RouteMessage, links: &Links) -> Option<Route> {
    let header = &message.header;
    let table = side_table(header.table);
    let ours = header.table == RouteHeader::RT_TABLE_MAIN || table.is_some();
    if header.protocol != RouteProtocol::Other(ROUTE_PROTOCOL) || !ours {
        return None;
    }
    let mut address = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let (mut device, mut source, mut gateway) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(destination) => address = ip(destination)?,
            RouteAttribute::PrefSource(preferred) => source = ip(preferred),
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Gateway(next) => gateway = ip(next),
            _ => {}
        }
    }
    let name = || Some(links.name_of(device?)?.to_owned());
    let target = match (header.kind, table, gateway) {
        (RouteType::Unreachable, ..) => Target::Unreachable,
        (_, Some(SideTable::Machines), _) => Target::Machine { name: name()? },
        (_, Some(table), _) => Target::Probe { table, gateway: gateway?, device: name()?, source },
        (_, None, Some(gateway)) => Target::Via { gateway, device: name()?, source },
        (_, None, None) => Target::Device { name: name()?, source },
    };
    Some(Route { prefix: IpNet::new(address, header.destination_prefix_length).ok()?, target })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

async fn main_table(
    handle: &Handle,
    family: AddressFamily,
    doing: &'static str,
) -> Result<Vec<RouteMessage>, KernelError> {
    let mut filter = RouteMessage::default();
    filter.header.address_family = family;
    filter.header.table = RouteHeader::RT_TABLE_MAIN;
    let messages = handle.route().get(filter).execute().try_collect().await;
    messages.map_err(KernelError::netlink(doing))
}

/// Devices that default routes of the main table lead to.
pub(super) async fn ways_out(handle: &Handle) -> Result<BTreeSet<u32>, KernelError> {
    let mut devices = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let messages = main_table(handle, family, "listing default routes").await?;
        let defaults = messages.iter().filter(|m| m.header.destination_prefix_length == 0);
        for attribute in defaults.flat_map(|message| &message.attributes) {
            match attribute {
                RouteAttribute::Oif(index) => drop(devices.insert(*index)),
                RouteAttribute::MultiPath(hops) => {
                    devices.extend(hops.iter().map(|hop| hop.interface_index));
                }
                _ => {}
            }
        }
    }
    Ok(devices)
}

/// Routes of the main table that are not ours, by their device, without the default ones.
pub(super) async fn others(handle: &Handle) -> Result<Vec<(IpNet, u32)>, KernelError> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let messages = main_table(handle, family, "listing others' routes").await?;
        found.extend(messages.iter().filter_map(other).flatten());
    }
    Ok(found)
}

fn other(message: &RouteMessage) -> Option<Vec<(IpNet, u32)>> {
    let header = &message.header;
    let theirs = header.protocol != RouteProtocol::Other(ROUTE_PROTOCOL)
        && header.kind == RouteType::Unicast
        && header.table == RouteHeader::RT_TABLE_MAIN;
    let length = header.destination_prefix_length;
    if !theirs || length == 0 {
        return None;
    }
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(to) => ip(to),
        _ => None,
    });
    let prefix = IpNet::new(destination?, length).ok()?;
    let devices = message.attributes.iter().flat_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    });
    Some(devices.map(|device| (prefix, device)).collect())
}

/// The devices by which packets into `prefix` go: those of the routes inside of it, and of the
/// longest one around it.
pub(super) fn leading(prefix: &IpNet, table: &[(IpNet, u32)]) -> BTreeSet<u32> {
    let around = table.iter().filter(|(to, _)| to.contains(prefix));
    let longest = around.clone().map(|(to, _)| to.prefix_len()).max();
    let around = around.filter(|(to, _)| Some(to.prefix_len()) == longest);
    let inside = table.iter().filter(|(to, _)| prefix.contains(to));
    around.chain(inside).map(|(_, device)| *device).collect()
}

/// The device that `address` is reached on without a router; none if there is one between, or no
/// way at all.
pub(super) async fn link_to(handle: &Handle, address: IpAddr) -> Option<u32> {
    let mut question = RouteMessage::default();
    question.header.address_family =
        if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    question.header.destination_prefix_length = IpNet::from(address).prefix_len();
    question.attributes.push(RouteAttribute::Destination(RouteAddress::from(address)));
    let mut answers = handle.route().get(question).execute();
    let answer = answers.try_next().await.ok()??;
    if answer.header.kind != RouteType::Unicast {
        return None;
    }
    let mut device = None;
    for attribute in &answer.attributes {
        match attribute {
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => return None,
            RouteAttribute::Oif(index) => device = Some(*index),
            _ => {}
        }
    }
    device
}

pub(super) async fn add(
    handle: &Handle,
    route: &Route,
    device: Option<u32>,
) -> Result<(), KernelError> {
    let request = handle.route().add(message(route, device)).replace().execute();
    request.await.map_err(KernelError::netlink(format!("adding the route to {}", route.prefix)))
}

/// A route that is gone already counts as removed.
pub(super) async fn remove(
    handle: &Handle,
    route: &Route,
    device: Option<u32>,
) -> Result<(), KernelError> {
    const ESRCH: i32 = 3;
    match handle.route().del(message(route, device)).execute().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -ESRCH => Ok(()),
        result => {
            let what = format!("removing the route to {}", route.prefix);
            result.map_err(KernelError::netlink(what))
        }
    }
}

fn message(route: &Route, device: Option<u32>) -> RouteMessage {
    let mut message = match route.prefix {
        IpNet::V4(net) => message_v4(net, route),
        IpNet::V6(net) => message_v6(net, route),
    };
    message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    let metric = match route.target {
        Target::Unreachable => {
            message.header.kind = RouteType::Unreachable;
            GUARD_METRIC
        }
        Target::Device { ref name, .. } if name.starts_with(POD_DEVICE_PREFIX) => POD_METRIC,
        Target::Via { gateway, .. } | Target::Probe { gateway, .. } => {
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
            message.header.flags |= RouteFlags::Onlink;
            METRIC
        }
        Target::Device { .. } | Target::Machine { .. } => METRIC,
    };
    if let Some(table) = route.table() {
        message.header.table = number(table);
    }
    message.attributes.push(RouteAttribute::Priority(metric));
    message.attributes.extend(device.map(RouteAttribute::Oif));
    message
}

fn message_v4(net: Ipv4Net, route: &Route) -> RouteMessage {
    let mut builder = RouteMessageBuilder::<Ipv4Addr>::new();
    builder = builder.destination_prefix(net.addr(), net.prefix_len());
    match &route.target {
        Target::Device { source: Some(IpAddr::V4(source)), .. } => {
            builder.pref_source(*source).scope(RouteScope::Link).build()
        }
        Target::Device { .. } | Target::Machine { .. } => builder.scope(RouteScope::Link).build(),
        Target::Via { source: Some(IpAddr::V4(source)), .. }
        | Target::Probe { source: Some(IpAddr::V4(source)), .. } => {
            builder.pref_source(*source).build()
        }
        Target::Via { .. } | Target::Probe { .. } | Target::Unreachable => builder.build(),
    }
}

fn message_v6(net: Ipv6Net, route: &Route) -> RouteMessage {
    let builder = RouteMessageBuilder::<Ipv6Addr>::new();
    let builder = builder.destination_prefix(net.addr(), net.prefix_len());
    match &route.target {
        Target::Device { source: Some(IpAddr::V6(source)), .. }
        | Target::Via { source: Some(IpAddr::V6(source)), .. }
        | Target::Probe { source: Some(IpAddr::V6(source)), .. } => {
            builder.pref_source(*source).build()
        }
        Target::Device { .. }
        | Target::Via { .. }
        | Target::Probe { .. }
        | Target::Machine { .. }
        | Target::Unreachable => builder.build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_where_its_routes_lead_and_never_where_the_default_one_does() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let table = [
            (net("10.0.0.0/8"), 2),
            (net("10.88.0.0/24"), 3),
            (net("10.88.1.128/25"), 4),
            (net("fd88::/64"), 5),
        ];
        let by = |prefix| leading(&net(prefix), &table).into_iter().collect::<Vec<_>>();

        assert_eq!(by("10.88.0.0/24"), [3]);
        assert_eq!(by("10.88.0.0/25"), [3], "the longest around it");
        assert_eq!(by("10.88.1.0/24"), [2, 4], "and those inside of it");
        assert_eq!(by("fd88::/64"), [5]);
        assert_eq!(by("192.168.0.0/16"), [0; 0]);
    }
}
