//! The encrypted tunnel: packets go to the data path's device, which knows the peer by its prefix.

use ipnet::IpNet;

use super::{Carrier, Pair};
use crate::{
    datapath::{RELAY, SHAPE},
    plan::{Facts, Refusal, Target},
    view::{Relay, View},
};

/// What a WireGuard record costs over IPv6: 40 IP, 8 UDP, 32 record, and 80 in all on IPv4 too, so
/// that a path may change its family.
const OVERHEAD: u16 = 80;

pub(super) struct Tunnel;

impl Carrier for Tunnel {
    fn target(&self, pair: &Pair<'_>, prefix: &IpNet) -> Result<Target, Refusal> {
        Ok(Target::Device { name: pair.facts.tun.clone(), source: pair.source(prefix) })
    }

    /// As in the shape of VXLAN or by a relay, where datagrams may travel so: a packet fits whichever way is next.
    fn mtu(&self, view: &View, facts: &Facts) -> u16 {
        let shape = view.vxlan_shaped_port.map_or(0, |_| SHAPE as u16);
        let relay = if view.relay == Relay::Auto { RELAY as u16 } else { 0 };
        facts.underlay.mtu.saturating_sub(OVERHEAD + shape.max(relay))
    }
}
