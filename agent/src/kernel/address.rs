//! This node's addresses on the tunnel device.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
};
use rtnetlink::Handle;

use super::KernelError;

/// The addresses of a device, without the link-local ones that the kernel makes.
pub(super) async fn list(handle: &Handle, device: u32) -> Result<BTreeSet<IpNet>, KernelError> {
    let messages = messages(handle, device).await?;
    Ok(messages.iter().filter_map(address).filter(|net| !link_local(net.addr())).collect())
}

async fn messages(handle: &Handle, device: u32) -> Result<Vec<AddressMessage>, KernelError> {
    let mut request = handle.address().get();
    request.message_mut().header.index = device;
    request
        .execute()
        .try_collect()
        .await
        .map_err(KernelError::netlink("listing the tunnel's addresses"))
}

fn address(message: &AddressMessage) -> Option<IpNet> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(local) => found = Some(*local),
            AddressAttribute::Address(address) => found = found.or(Some(*address)),
            _ => {}
        }
    }
    IpNet::new(found?, message.header.prefix_len).ok()
}

fn link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if Ipv6Addr::is_unicast_link_local(&v6))
}

pub(super) async fn add(handle: &Handle, device: u32, net: IpNet) -> Result<(), KernelError> {
    let mut request = handle.address().add(device, net.addr(), net.prefix_len());
    let header = &mut request.message_mut().header;
    if header.family == AddressFamily::Inet6 {
        // Nobody else can answer on a tunnel, and a tentative address sends nothing for a second.
        header.flags |= AddressHeaderFlags::Nodad;
    }
    let request = request.replace().execute();
    request.await.map_err(KernelError::netlink(format!("adding address {net}")))
}

pub(super) async fn remove(handle: &Handle, device: u32, net: IpNet) -> Result<(), KernelError> {
    let messages = messages(handle, device).await?;
    let Some(message) = messages.into_iter().find(|message| address(message) == Some(net)) else {
        return Ok(());
    };
    let request = handle.address().del(message).execute();
    request.await.map_err(KernelError::netlink(format!("removing address {net}")))
}
