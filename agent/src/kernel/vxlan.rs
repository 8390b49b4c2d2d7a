//! The kernel's VXLAN device with its neighbours and forwarding entries, all of them permanent.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use futures::TryStreamExt;
use netlink_packet_route::{
    AddressFamily,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
};
use rtnetlink::{Handle, LinkVxlan};

use super::{KernelError, link, link::Links};
use crate::plan::{Mac, VNI, VXLAN_DEVICE, VXLAN_PORT, Vtep, Vxlan};

/// As it is; none if there is no such device, it is down, or it is another kind of device.
pub(super) async fn read(handle: &Handle, links: &Links) -> Result<Option<Vxlan>, KernelError> {
    let Some(link) = links.by_name(VXLAN_DEVICE).filter(|link| link.up) else {
        return Ok(None);
    };
    let (Some(local), Some(mac)) = (link.vxlan_local, link.mac) else {
        return Ok(None);
    };
    let mut others: BTreeMap<Mac, Vtep> = BTreeMap::new();
    for entry in entries(handle, link.index, AddressFamily::Bridge).await? {
        if let (Some(mac), Some(at)) = entry {
            others.insert(mac, Vtep { at, gateways: BTreeSet::new() });
        }
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for entry in entries(handle, link.index, family).await? {
            if let (Some(mac), Some(gateway)) = entry
                && let Some(vtep) = others.get_mut(&mac)
            {
                vtep.gateways.insert(gateway);
            }
        }
    }
    Ok(Some(Vxlan { local, mac, mtu: link.mtu, others }))
}

/// Makes the device, if it is another or none, and its entries.
pub(super) async fn put(handle: &Handle, wanted: &Vxlan) -> Result<(), KernelError> {
    let links = link::list(handle).await?;
    let present = read(handle, &links).await?;
    let same = |is: &Vxlan| (is.local, is.mac, is.mtu) == (wanted.local, wanted.mac, wanted.mtu);
    let present = present.filter(same);
    if present.is_none() {
        if let Some(link) = links.by_name(VXLAN_DEVICE) {
            link::delete(handle, link.index).await?;
        }
        create(handle, wanted).await?;
    }
    let index = link::index(handle, VXLAN_DEVICE).await?;
    let index = index.ok_or_else(|| KernelError::NoDevice(VXLAN_DEVICE.to_owned()))?;
    let has = present.map(|vxlan| vxlan.others).unwrap_or_default();
    for (mac, vtep) in wanted.others.iter().filter(|(mac, vtep)| has.get(*mac) != Some(*vtep)) {
        add(handle, index, *mac, vtep).await?;
    }
    for (mac, vtep) in has.iter().filter(|(mac, _)| !wanted.others.contains_key(*mac)) {
        remove(handle, index, *mac, vtep).await?;
    }
    Ok(())
}

/// Nothing is flooded: there is no default entry. Nothing is learned from what comes in.
async fn create(handle: &Handle, wanted: &Vxlan) -> Result<(), KernelError> {
    let builder = LinkVxlan::new(VXLAN_DEVICE, VNI).port(VXLAN_PORT).learning(false);
    let builder = match wanted.local {
        IpAddr::V4(local) => builder.local(local),
        IpAddr::V6(local) => builder.local6(local).udp_zero_csum6_rx(true),
    };
    let link = builder.address(wanted.mac.to_vec()).mtu(u32::from(wanted.mtu)).build();
    let made = handle.link().add(link).execute().await;
    made.map_err(KernelError::netlink(format!("making the device {VXLAN_DEVICE}")))?;
    super::sysctl::prepare_device(VXLAN_DEVICE, false)?;
    let index = link::index(handle, VXLAN_DEVICE).await?.unwrap_or_default();
    link::set_up(handle, index).await
}

async fn add(handle: &Handle, index: u32, mac: Mac, vtep: &Vtep) -> Result<(), KernelError> {
    let what = || format!("adding the VXLAN entries of {}", vtep.at);
    let request = handle.neighbours().add_bridge(index, &mac).destination(vtep.at);
    let request = request.flags(NeighbourFlags::Own).replace().execute();
    request.await.map_err(KernelError::netlink(what()))?;
    for gateway in &vtep.gateways {
        let request = handle.neighbours().add(index, *gateway).link_layer_address(&mac);
        let request = request.state(NeighbourState::Permanent).replace().execute();
        request.await.map_err(KernelError::netlink(what()))?;
    }
    Ok(())
}

/// The neighbours first. What is gone already counts as removed.
async fn remove(handle: &Handle, index: u32, mac: Mac, vtep: &Vtep) -> Result<(), KernelError> {
    const ENOENT: i32 = 2;
    let neighbours = vtep.gateways.iter().map(|gateway| (family(*gateway), *gateway));
    let entry = (AddressFamily::Bridge, vtep.at);
    for (family, address) in neighbours.chain([entry]) {
        let message = message(index, family, mac, address);
        match handle.neighbours().del(message).execute().await {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -ENOENT => {}
            result => {
                let what = format!("removing the VXLAN entries of {}", vtep.at);
                result.map_err(KernelError::netlink(what))?;
            }
        }
    }
    Ok(())
}

fn message(index: u32, family: AddressFamily, mac: Mac, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    if family == AddressFamily::Bridge {
        message.header.flags = NeighbourFlags::Own;
    }
    message.attributes = vec![
        NeighbourAttribute::Destination(address.into()),
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
    ];
    message
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// MAC and address of each permanent entry.
async fn entries(
    handle: &Handle,
    index: u32,
    family: AddressFamily,
) -> Result<Vec<(Option<Mac>, Option<IpAddr>)>, KernelError> {
    let request = handle.neighbours().get().set_address_family(family).execute();
    let all: Vec<NeighbourMessage> =
        request.try_collect().await.map_err(KernelError::netlink("listing VXLAN entries"))?;
    let ours = all.into_iter().filter(|entry| {
        entry.header.ifindex == index && entry.header.state == NeighbourState::Permanent
    });
    Ok(ours.map(|entry| parse(&entry)).collect())
}

fn parse(entry: &NeighbourMessage) -> (Option<Mac>, Option<IpAddr>) {
    let (mut mac, mut address) = (None, None);
    for attribute in &entry.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            NeighbourAttribute::Destination(to) => address = ip(to),
            _ => {}
        }
    }
    (mac, address)
}

/// A forwarding entry has an address of either family, which its own family doesn't tell.
fn ip(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        NeighbourAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        NeighbourAddress::Other(bytes) => {
            let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from)).ok()
        }
        _ => None,
    }
}
