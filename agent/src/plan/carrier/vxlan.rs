//! The kernel's VXLAN (RFC 7348), each entry put there by us: nothing is flooded, asked for or
//! learned.
//!
//! ```text
//! route     10.42.2.0/24 via 10.42.2.1 dev hawser-vx   the peer's own address (IPv6: from its MAC)
//! neighbour 10.42.2.1 ─▶ MAC of node-2                 from its name, so nobody publishes it
//! fdb       MAC of node-2 ─▶ 192.0.2.2                 its endpoint
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use api::first_host;
use ipnet::IpNet;

use super::{Carrier, Pair};
use crate::{
    plan::{Facts, Refusal, Target},
    view::View,
};

pub const DEVICE: &str = "hawser-vx";
/// As IANA assigned it.
pub const PORT: u16 = 4789;
pub const VNI: u32 = 72;

/// 14 Ethernet, 8 VXLAN, 8 UDP, and the outer IP header.
const OVERHEAD_V4: u16 = 30 + 20;
const OVERHEAD_V6: u16 = 30 + 40;

pub type Mac = [u8; 6];

/// The device as it should be, and whom it reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    pub local: IpAddr,
    pub mac: Mac,
    pub mtu: u16,
    pub others: BTreeMap<Mac, Vtep>,
}

/// The other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vtep {
    pub at: IpAddr,
    /// Next hops that are there.
    pub gateways: BTreeSet<IpAddr>,
}

pub(super) struct Overlay;

impl Carrier for Overlay {
    fn target(&self, pair: &Pair<'_>, prefix: &IpNet) -> Result<Target, Refusal> {
        if endpoint(pair).is_none() {
            return Err(Refusal::NoCommonFamily(pair.peer.to_owned()));
        }
        let (gateway, source) = (gateway(prefix, mac(pair.peer)), pair.source(prefix));
        Ok(Target::Via { gateway, device: DEVICE.to_owned(), source })
    }

    fn mtu(&self, _: &View, facts: &Facts) -> u16 {
        mtu(facts)
    }
}

fn mtu(facts: &Facts) -> u16 {
    let overhead = match local(facts) {
        Some(IpAddr::V6(_)) => OVERHEAD_V6,
        Some(IpAddr::V4(_)) | None => OVERHEAD_V4,
    };
    facts.underlay.mtu.saturating_sub(overhead)
}

impl Vxlan {
    pub(super) fn new(facts: &Facts) -> Option<Self> {
        let (local, mac, mtu) = (local(facts)?, mac(&facts.node), mtu(facts));
        Some(Self { local, mac, mtu, others: BTreeMap::new() })
    }

    pub(super) fn with(mut self, pair: &Pair<'_>) -> Self {
        if let Some(at) = endpoint(pair) {
            let mac = mac(pair.peer);
            let gateways = pair.prefixes().map(|prefix| gateway(prefix, mac)).collect();
            self.others.insert(mac, Vtep { at, gateways });
        }
        self
    }
}

/// Whom packets for `prefix` are handed to. In IPv6 a link-local address: Linux takes no other that
/// it has a route to by another device (ip6_route_check_nh_onlink), as while carriers change.
fn gateway(prefix: &IpNet, mac: Mac) -> IpAddr {
    match prefix {
        IpNet::V4(_) => first_host(*prefix),
        IpNet::V6(_) => {
            let mut octets = [0; 16];
            octets[..2].copy_from_slice(&[0xfe, 0x80]);
            octets[10..].copy_from_slice(&mac);
            IpAddr::from(octets)
        }
    }
}

/// One device has one family; IPv4 where there is a choice.
fn local(facts: &Facts) -> Option<IpAddr> {
    let (v4, v6) = (facts.underlay.v4.map(IpAddr::V4), facts.underlay.v6.map(IpAddr::V6));
    v4.or(v6)
}

fn endpoint(pair: &Pair<'_>) -> Option<IpAddr> {
    let local = local(pair.facts)?;
    let mut endpoints = pair.node.endpoints.iter().map(std::net::SocketAddr::ip);
    endpoints.find(|at| at.is_ipv4() == local.is_ipv4())
}

/// Unicast, locally administered, and from the node's name: 64-bit FNV-1a, folded to 46 bits.
fn mac(node: &str) -> Mac {
    let hash = node.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let folded = hash ^ (hash >> 46);
    let [_, _, mut mac @ ..] = folded.to_be_bytes();
    mac[0] = (mac[0] & 0b1111_1100) | 0b10;
    mac
}
