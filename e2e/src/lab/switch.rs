//! A switch: a namespace with a bridge, and the "rest of the world" behind its own address.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use super::address::{GATEWAY, PREFIX_V4, PREFIX_V6};
use super::{Capture, Namespace, Pair, until};

const BRIDGE: &str = "bridge";
const SETTLING: Duration = Duration::from_secs(5);

/// Machines on one switch reach each other, and the switch itself, which stands for the world.
#[derive(Clone)]
pub struct Switch {
    namespace: Namespace,
    number: u32,
    ports: Arc<AtomicU16>,
}

impl Switch {
    /// A switch that is also its machines' default gateway.
    pub(super) fn new(namespace: Namespace, number: u32) -> anyhow::Result<Self> {
        let switch = Self::bare(namespace, number)?;
        let own = switch.gateway();
        switch.namespace.netlink(async move |net| {
            net.add_address(BRIDGE, own.v4, PREFIX_V4).await?;
            net.add_address(BRIDGE, own.v6, PREFIX_V6).await
        })?;
        Ok(switch)
    }

    /// A switch without an address of its own: a router on it is the gateway.
    pub(super) fn bare(namespace: Namespace, number: u32) -> anyhow::Result<Self> {
        namespace.netlink(async |net| net.add_bridge(BRIDGE).await)?;
        Ok(Self { namespace, number, ports: Arc::new(AtomicU16::new(1)) })
    }

    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Where machines of this switch send what they have no route for.
    pub fn gateway(&self) -> Pair {
        Pair::on_switch(self.number, GATEWAY)
    }

    /// Plugs a device named `device` of `machine` in and returns its addresses.
    pub(super) fn plug(&self, machine: &Namespace, device: &'static str) -> anyhow::Result<Pair> {
        let host = self.ports.fetch_add(1, Ordering::Relaxed);
        self.plug_as(machine, device, Pair::on_switch(self.number, host), host)
    }

    pub(super) fn plug_gateway(
        &self,
        machine: &Namespace,
        device: &'static str,
    ) -> anyhow::Result<Pair> {
        self.plug_as(machine, device, self.gateway(), GATEWAY)
    }

    fn plug_as(
        &self,
        machine: &Namespace,
        device: &'static str,
        own: Pair,
        host: u16,
    ) -> anyhow::Result<Pair> {
        let (port, far) = (format!("port{host}"), machine.clone());
        self.namespace.netlink(async move |net| {
            net.add_cable(&port, device, &far).await?;
            net.enslave(&port, BRIDGE).await
        })?;
        machine.netlink(async move |net| {
            net.add_address(device, own.v4, PREFIX_V4).await?;
            net.add_address(device, own.v6, PREFIX_V6).await?;
            net.up(device).await
        })?;
        until(SETTLING, || settled(machine, device).then_some(()))
            .with_context(|| format!("{device} has no usable IPv6 address"))?;
        Ok(own)
    }

    /// Everything that crosses the switch, each frame once.
    pub fn capture(&self, markers: &[&[u8]]) -> anyhow::Result<Capture> {
        Capture::incoming(&self.namespace, markers)
    }
}

/// The kernel gives a device its link-local address and finishes our own a moment after `up`.
fn settled(machine: &Namespace, device: &str) -> bool {
    const TENTATIVE: u32 = 0x40; // IFA_F_TENTATIVE
    let addresses = machine.read("/proc/net/if_inet6").unwrap_or_default();
    let mine = addresses.lines().filter(|line| line.split_whitespace().last() == Some(device));
    let usable = mine.filter(|line| {
        let flags = line.split_whitespace().nth(4);
        flags
            .and_then(|flags| u32::from_str_radix(flags, 16).ok())
            .is_some_and(|flags| flags & TENTATIVE == 0)
    });
    usable.count() == 2
}
