//! Network devices: ours by name, the pods' by prefix.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use cni::POD_DEVICE_PREFIX;
use futures::TryStreamExt;
use netlink_packet_route::link::{
    InfoData, InfoPortKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::{Handle, LinkUnspec};

use super::KernelError;
use crate::plan::{Mac, VXLAN_DEVICE};

/// Names of the pods' host side devices.
pub type PodDevices = BTreeSet<String>;

pub(super) struct Link {
    pub(super) index: u32,
    pub(super) up: bool,
    pub(super) mtu: u16,
    pub(super) mac: Option<Mac>,
    pub(super) bridge_port: bool,
    /// Of a VXLAN device: where it sends from.
    pub(super) vxlan_local: Option<IpAddr>,
}

pub(super) struct Links {
    by_name: BTreeMap<String, Link>,
}

impl Links {
    pub(super) fn by_name(&self, name: &str) -> Option<&Link> {
        self.by_name.get(name)
    }

    pub(super) fn name_of(&self, index: u32) -> Option<&str> {
        let mut links = self.by_name.iter();
        links.find(|(_, link)| link.index == index).map(|(name, _)| name.as_str())
    }

    pub(super) fn pod_devices(&self) -> PodDevices {
        let names = self.by_name.keys();
        names.filter(|name| name.starts_with(POD_DEVICE_PREFIX)).cloned().collect()
    }

    /// Others' devices that packets come in by: those of a bridge's port come in by the bridge.
    pub(super) fn foreign(&self, tun: &str) -> BTreeSet<String> {
        let ours =
            |name: &str| name == tun || name == VXLAN_DEVICE || name.starts_with(POD_DEVICE_PREFIX);
        let links = self.by_name.iter();
        let foreign =
            links.filter(|(name, link)| !ours(name) && *name != "lo" && !link.bridge_port);
        foreign.map(|(name, _)| name.clone()).collect()
    }
}

pub(super) async fn list(handle: &Handle) -> Result<Links, KernelError> {
    let messages: Vec<LinkMessage> = handle
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(KernelError::netlink("listing devices"))?;
    Ok(Links { by_name: messages.iter().filter_map(named).collect() })
}

fn named(message: &LinkMessage) -> Option<(String, Link)> {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        mtu: 0,
        mac: None,
        bridge_port: false,
        vxlan_local: None,
    };
    let mut name = None;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Mtu(mtu) => link.mtu = u16::try_from(*mtu).unwrap_or(u16::MAX),
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::LinkInfo(info) => {
                link.vxlan_local = vxlan_local(info);
                link.bridge_port = info.contains(&LinkInfo::PortKind(InfoPortKind::Bridge));
            }
            _ => {}
        }
    }
    Some((name?, link))
}

fn vxlan_local(info: &[LinkInfo]) -> Option<IpAddr> {
    let mut data = info.iter().filter_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
        _ => None,
    });
    data.next()?.iter().find_map(|attribute| match attribute {
        InfoVxlan::Local(v4) => Some(IpAddr::V4(*v4)),
        InfoVxlan::Local6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    })
}

pub(super) async fn index(handle: &Handle, name: &str) -> Result<Option<u32>, KernelError> {
    Ok(list(handle).await?.by_name(name).map(|link| link.index))
}

pub(super) async fn set_mtu(handle: &Handle, index: u32, mtu: u16) -> Result<(), KernelError> {
    let message = LinkUnspec::new_with_index(index).mtu(u32::from(mtu)).build();
    let request = handle.link().set(message).execute();
    request.await.map_err(KernelError::netlink(format!("setting the tunnel's MTU to {mtu}")))
}

pub(super) async fn set_up(handle: &Handle, index: u32) -> Result<(), KernelError> {
    let message = LinkUnspec::new_with_index(index).up().build();
    let request = handle.link().set(message).execute();
    request.await.map_err(KernelError::netlink("setting a device up"))
}

/// A device that is gone already counts as deleted.
pub(super) async fn delete(handle: &Handle, index: u32) -> Result<(), KernelError> {
    const ENODEV: i32 = 19;
    match handle.link().del(index).execute().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -ENODEV => Ok(()),
        result => result.map_err(KernelError::netlink("deleting a device")),
    }
}
