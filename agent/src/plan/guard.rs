//! What must never cross a wire in clear, and which devices may carry it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{Facts, carrier};
use crate::view::{Backend, Node, View};

/// Both layers of the guard: an unreachable route for each range, and a table that drops what is
/// addressed to or from a range on any device but the tunnel and this node's pods', those of a
/// backend in clear for what it is permitted to carry, and those of a network behind this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Aggregated: no range contains or touches another in a way that one prefix could say.
    pub ranges: BTreeSet<IpNet>,
    pub tun: String,
    /// Sources that are masqueraded on their way out of the mesh: this node's pods. Empty while it has
    /// none: then the kernel tracks no connection on our account, and no packet is asked whether a pod
    /// forged it.
    pub masquerade: BTreeSet<IpNet>,
    /// Addresses of other nodes that are sealed to: pods' packets to them take the tunnel or none.
    pub machines: BTreeSet<IpNet>,
    /// Other plugins' pods are behind these: bridges, or a device for each.
    pub devices: BTreeSet<String>,
    /// This node hands on what others' pods send to machines.
    pub forwards: bool,
    /// What it announces: its pods reach that by the devices that lead there, or not at all.
    pub behind: BTreeSet<IpNet>,
    /// What a backend in clear may carry, by device, and what is this node's to hand on to a network
    /// behind it. Empty wherever encryption is required and nothing is announced.
    pub open: BTreeMap<String, Open>,
}

/// Prefixes of others whose packets may cross a device in clear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// On their way out.
    pub to: BTreeSet<IpNet>,
    /// On their way in.
    pub from: BTreeSet<IpNet>,
}

impl Guard {
    pub fn covers(&self, prefix: &IpNet) -> bool {
        self.ranges.iter().any(|range| range.contains(prefix))
    }

    /// This guard, which also holds for everything that `other` holds for, and lets through what
    /// either lets through: for as long as packets still go the old way.
    pub fn joined(&self, other: &Self) -> Self {
        let both = self.ranges.union(&other.ranges).copied().collect();
        let devices = self.devices.union(&other.devices).cloned().collect();
        let mut open = self.open.clone();
        for (device, others) in &other.open {
            let ours = open.entry(device.clone()).or_default();
            ours.to.extend(&others.to);
            ours.from.extend(&others.from);
        }
        let forwards = self.forwards || other.forwards;
        let behind = self.behind.union(&other.behind).copied().collect();
        Self { ranges: aggregate(both), devices, open, forwards, behind, ..self.clone() }
    }
}

/// The pools, and what plain peers and other nodes have outside them; with what carries to each node, and what that
/// opens.
pub(super) fn of(
    view: &View,
    facts: &Facts,
    (chosen, open): (&BTreeMap<String, Backend>, BTreeMap<String, Open>),
) -> Guard {
    let pools = view.pools.iter().copied();
    let nodes = view.nodes.values().flat_map(|node| &node.subnets).copied();
    let others = view.nodes.iter().filter(|(name, _)| **name != facts.node);
    let announced = others.flat_map(|(_, node)| &node.announced).copied();
    let peers = view.peers.values().flat_map(|peer| &peer.addresses).copied();
    let own = view.nodes.get(&facts.node).filter(|_| facts.has_pods);
    let own = own.map(|node| node.subnets.clone()).unwrap_or_default();
    Guard {
        ranges: aggregate(pools.chain(nodes).chain(announced).chain(peers).collect()),
        tun: facts.tun.clone(),
        masquerade: own.into_iter().collect(),
        machines: machines(view, facts, chosen),
        forwards: view.forwards,
        behind: own_networks(view, facts).iter().copied().collect(),
        devices: facts.devices.iter().filter(|name| **name != facts.tun).cloned().collect(),
        open: with_own_networks(open, view, facts),
    }
}

/// What lies behind this node is no tunnel's, and no range of the guard: the machine itself lives
/// there. What others and it say to each other crosses the devices that lead there and no other one.
fn with_own_networks(
    mut open: BTreeMap<String, Open>,
    view: &View,
    facts: &Facts,
) -> BTreeMap<String, Open> {
    let own = own_networks(view, facts);
    for (device, leads_to) in &facts.networks {
        for prefix in own.iter().filter(|prefix| leads_to.contains(*prefix)) {
            let open = open.entry(device.clone()).or_default();
            open.to.insert(*prefix);
            open.from.insert(*prefix);
        }
    }
    open
}

fn own_networks<'a>(view: &'a View, facts: &Facts) -> &'a [IpNet] {
    let own = view.nodes.get(&facts.node).filter(|node| !node.revoked);
    own.map_or(&[], |node| &node.announced)
}

/// What has been asked of nobody yet goes on as it did: a node without a key has no tunnel. Where a
/// pair may be in clear, so may what its pods say to the machines.
fn machines(view: &View, facts: &Facts, chosen: &BTreeMap<String, Backend>) -> BTreeSet<IpNet> {
    let carrier = |name: &str, node: &Node| {
        let permitted = || carrier::permitted(view, facts, (name, node)).first().copied();
        chosen.get(view.through(name)).copied().or_else(permitted)
    };
    let sealed = |name: &str, node: &Node| {
        node.is_peer() && carrier(name, node).is_none_or(Backend::encrypts)
    };
    let others =
        view.nodes.iter().filter(|(name, node)| **name != facts.node && sealed(name, node));
    let underlay = [facts.underlay.v4.map(IpAddr::V4), facts.underlay.v6.map(IpAddr::V6)];
    let others = others.flat_map(|(_, node)| &node.addresses);
    let foreign = others.filter(|address| !underlay.contains(&Some(**address)));
    foreign.filter(|address| facts.ipv6 || address.is_ipv4()).copied().map(IpNet::from).collect()
}

fn aggregate(ranges: Vec<IpNet>) -> BTreeSet<IpNet> {
    IpNet::aggregate(&ranges).into_iter().collect()
}
