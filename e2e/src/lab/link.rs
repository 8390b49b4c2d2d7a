//! Links, addresses and routes of a namespace, through rtnetlink.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd as _;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder,
};

use super::namespace::Namespace;

/// An open netlink connection of one namespace.
pub struct Net {
    pub handle: Handle,
}

impl Net {
    pub(super) fn open() -> anyhow::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection().context("opening netlink")?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The index of a device.
    pub async fn index(&self, device: &str) -> anyhow::Result<u32> {
        let mut found = self.handle.link().get().match_name(device.to_owned()).execute();
        let link = found.try_next().await.with_context(|| format!("looking for {device}"))?;
        Ok(link.with_context(|| format!("there is no device {device}"))?.header.index)
    }

    /// The names of all devices.
    pub async fn devices(&self) -> anyhow::Result<Vec<String>> {
        let links: Vec<LinkMessage> =
            self.handle.link().get().execute().try_collect().await.context("listing devices")?;
        Ok(links.iter().filter_map(device_name).collect())
    }

    pub async fn up(&self, device: &str) -> anyhow::Result<()> {
        self.set(device, |link| link.up()).await
    }

    pub async fn down(&self, device: &str) -> anyhow::Result<()> {
        self.set(device, |link| link.down()).await
    }

    pub async fn mtu(&self, device: &str, mtu: u32) -> anyhow::Result<()> {
        self.set(device, |link| link.mtu(mtu)).await
    }

    pub async fn delete(&self, device: &str) -> anyhow::Result<()> {
        let index = self.index(device).await?;
        self.handle.link().del(index).execute().await.with_context(|| format!("deleting {device}"))
    }

    async fn set(
        &self,
        device: &str,
        change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> anyhow::Result<()> {
        let link = change(LinkUnspec::new_with_index(self.index(device).await?)).build();
        let request = self.handle.link().set(link).execute();
        request.await.with_context(|| format!("changing {device}"))
    }

    pub(super) async fn add_bridge(&self, name: &str) -> anyhow::Result<()> {
        let link = LinkBridge::new(name).up().build();
        self.handle.link().add(link).execute().await.with_context(|| format!("making {name}"))
    }

    pub(super) async fn enslave(&self, device: &str, bridge: &str) -> anyhow::Result<()> {
        let bridge = self.index(bridge).await?;
        self.set(device, |link| link.controller(bridge).up()).await
    }

    /// A cable: `near` here, `far` in another namespace.
    pub async fn add_cable(&self, near: &str, far: &str, to: &Namespace) -> anyhow::Result<()> {
        let file = to.file()?;
        let peer = LinkUnspec::new_with_name(far).setns_by_fd(file.as_raw_fd()).build();
        let link = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(near)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .up()
            .build();
        let request = self.handle.link().add(link).execute();
        request.await.with_context(|| format!("making the cable {near} to {far}"))
    }

    /// The kernel's VXLAN to one other machine.
    pub async fn add_vxlan(
        &self,
        name: &str,
        local: Ipv4Addr,
        remote: Ipv4Addr,
    ) -> anyhow::Result<()> {
        let link = LinkVxlan::new(name, 42).local(local).remote(remote).port(4789).build();
        self.handle.link().add(link).execute().await.with_context(|| format!("making {name}"))
    }

    pub async fn add_address(
        &self,
        device: &str,
        address: impl Into<IpAddr>,
        prefix: u8,
    ) -> anyhow::Result<()> {
        let (index, address) = (self.index(device).await?, address.into());
        let request = self.handle.address().add(index, address, prefix).execute();
        request.await.with_context(|| format!("adding {address}/{prefix} to {device}"))
    }

    /// A route to `destination` through `gateway`; the default route is 0.0.0.0/0 or ::/0.
    pub async fn add_route(
        &self,
        destination: ipnet::IpNet,
        gateway: IpAddr,
    ) -> anyhow::Result<()> {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination.network(), destination.prefix_len())
            .and_then(|route| route.gateway(gateway))
            .with_context(|| format!("forming the route to {destination}"))?
            .build();
        let request = self.handle.route().add(route).execute();
        request.await.with_context(|| format!("adding the route {destination} via {gateway}"))
    }

    pub(super) async fn default_routes(&self, gateway: super::Pair) -> anyhow::Result<()> {
        for (all, gateway) in ["0.0.0.0/0", "::/0"].into_iter().zip(gateway.both()) {
            self.add_route(all.parse().expect("a prefix"), gateway).await?;
        }
        Ok(())
    }
}

fn device_name(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}
