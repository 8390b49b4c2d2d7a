//! How this node reaches others without the mesh: its source address per family, and the MTU of
//! the devices that they are on.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use cni::POD_DEVICE_PREFIX;
use futures::TryStreamExt;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressScope};

use super::{Kernel, KernelError, link};
use crate::plan::Underlay;

/// Where this node is to look for its own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The operator named the addresses.
    Addresses(Vec<IpAddr>),
    /// The addresses of this device.
    Device(String),
    /// Those that the default routes use.
    DefaultRoute,
}

const USUAL_MTU: u16 = 1500;

impl Kernel {
    /// `pods`: devices that other plugins' pods are behind, which lead nowhere else.
    pub async fn underlay(
        &self,
        choice: &Choice,
        pods: &BTreeSet<String>,
    ) -> Result<Underlay, KernelError> {
        let links = link::list(&self.handle).await?;
        let mut usable = Vec::new();
        for (index, address) in self.global_addresses().await? {
            if let Some(name) = links.name_of(index)
                && name != self.tun
                && !name.starts_with(POD_DEVICE_PREFIX)
                && !pods.contains(name)
            {
                usable.push((name.to_owned(), address));
            }
        }
        let (v4, v6) = pick(choice, &usable);
        let chosen = |address: &IpAddr| Some(*address) == v4 || Some(*address) == v6;
        let devices = usable.iter().filter(|(_, address)| chosen(address));
        let mtu = devices.filter_map(|(name, _)| links.by_name(name)).map(|link| link.mtu).min();
        Ok(Underlay {
            v4: v4.and_then(as_v4),
            v6: v6.and_then(as_v6),
            mtu: mtu.unwrap_or(USUAL_MTU),
        })
    }

    async fn global_addresses(&self) -> Result<Vec<(u32, IpAddr)>, KernelError> {
        let messages: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(KernelError::netlink("listing addresses"))?;
        let mut found = Vec::new();
        for message in messages {
            let header = &message.header;
            let lasting = !header.flags.contains(AddressHeaderFlags::Deprecated);
            if header.scope != AddressScope::Universe || !lasting {
                continue;
            }
            let mut address = None;
            for attribute in &message.attributes {
                match attribute {
                    AddressAttribute::Local(local) => address = Some(*local),
                    AddressAttribute::Address(other) => address = address.or(Some(*other)),
                    _ => {}
                }
            }
            found.extend(address.map(|address| (header.index, address)));
        }
        Ok(found)
    }
}

fn pick(choice: &Choice, usable: &[(String, IpAddr)]) -> (Option<IpAddr>, Option<IpAddr>) {
    let first = |v4: bool, device: Option<&str>| {
        let mut fitting = usable.iter().filter(|(name, _)| device.is_none_or(|d| d == name));
        fitting.find(|(_, address)| address.is_ipv4() == v4).map(|(_, address)| *address)
    };
    match choice {
        Choice::Addresses(addresses) => {
            let of = |v4: bool| addresses.iter().find(|a| a.is_ipv4() == v4).copied();
            (of(true), of(false))
        }
        Choice::Device(name) => (first(true, Some(name)), first(false, Some(name))),
        Choice::DefaultRoute => {
            let known = |address: &IpAddr| usable.iter().any(|(_, usable)| usable == address);
            let of = |v4: bool| default_source(v4).filter(known).or_else(|| first(v4, None));
            (of(true), of(false))
        }
    }
}

/// The address that a packet to far away would carry. Connecting a UDP socket asks the routing
/// table and sends nothing.
fn default_source(v4: bool) -> Option<IpAddr> {
    let (local, far): (SocketAddr, SocketAddr) = if v4 {
        ((Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::new(192, 0, 2, 1), 9).into())
    } else {
        let documentation = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        ((Ipv6Addr::UNSPECIFIED, 0).into(), (documentation, 9).into())
    };
    let socket = UdpSocket::bind(local).ok()?;
    socket.connect(far).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn as_v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    }
}

fn as_v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(v6),
    }
}
