//! How packets for one peer travel: a carrier for each backend, behind one small trait, and the
//! choice among them.
//!
//! ```text
//! encryption ─┐
//! backend ────┼─▶ choose(pair) ─▶ wireguard | udp | vxlan | direct, or why none
//! peer, link ─┘
//! ```
//! Sessions of WireGuard are kept with every node, whatever carries: so a mesh leaves clear text
//! without a handshake to wait for.

mod direct;
mod udp;
mod vxlan;
mod wireguard;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

pub use self::vxlan::{DEVICE as VXLAN_DEVICE, Mac, PORT as VXLAN_PORT, VNI, Vtep, Vxlan};
use self::{direct::Direct, udp::Frames, vxlan::Overlay, wireguard::Tunnel};
use super::{Facts, Open, Refusal, Route, Target};
use crate::{
    datapath::ClearPeer,
    view::{Backend, Encryption, Node, View},
};

/// One way to carry packets between two nodes.
pub(super) trait Carrier {
    /// Where packets for `prefix` of the peer go; a reason if this carrier can't reach the peer.
    fn target(&self, pair: &Pair<'_>, prefix: &IpNet) -> Result<Target, Refusal>;

    /// The largest packet that it takes, in bytes.
    fn mtu(&self, facts: &Facts) -> u16;
}

/// This node and another.
pub(super) struct Pair<'a> {
    pub(super) facts: &'a Facts,
    pub(super) peer: &'a str,
    pub(super) node: &'a Node,
    /// This node's own addresses in the mesh, one a family.
    pub(super) own: &'a BTreeSet<IpNet>,
}

impl Pair<'_> {
    /// What this node is called when it speaks to `prefix`.
    pub(super) fn source(&self, prefix: &IpNet) -> Option<IpAddr> {
        let mut own = self.own.iter().map(IpNet::addr);
        own.find(|address| address.is_ipv4() == prefix.addr().is_ipv4())
    }

    fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        let usable = |net: &&IpNet| self.facts.ipv6 || net.addr().is_ipv4();
        self.node.subnets.iter().filter(usable)
    }

    /// The peer's addresses outside of the mesh.
    fn machine(&self) -> impl Iterator<Item = IpNet> {
        self.node.addresses.iter().copied().map(IpNet::from)
    }
}

/// What the choice comes to, for all peers that are nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Carriers {
    pub(super) chosen: BTreeMap<String, Backend>,
    pub(super) routes: BTreeSet<Route>,
    /// By device: what may cross it in clear.
    pub(super) open: BTreeMap<String, Open>,
    pub(super) vxlan: Option<Vxlan>,
    /// Whom the data path speaks to in clear, or hears.
    pub(super) clear: Vec<ClearPeer>,
    pub(super) refusals: Vec<Refusal>,
}

pub(super) fn of(view: &View, facts: &Facts, own: &BTreeSet<IpNet>) -> Carriers {
    let mut carriers = Carriers::default();
    let others = view.nodes.iter().filter(|(name, node)| **name != facts.node && !node.revoked);
    for (peer, node) in others {
        let pair = Pair { facts, peer, node, own };
        match choose(view, &pair) {
            Ok((_, routes)) if routes.is_empty() => {}
            Ok((backend, routes)) => carriers.take(backend, &pair, routes),
            Err(refusal) => carriers.refusals.push(refusal),
        }
        if view.encryption == Encryption::Preferred {
            carriers.accept(wanted(view, facts), &pair);
        }
    }
    carriers
}

/// The permitted backend, with its routes; none where a session is wanted and there is no key.
fn choose(view: &View, pair: &Pair<'_>) -> Result<(Backend, BTreeSet<Route>), Refusal> {
    let backend = permitted(view, pair.facts, (pair.peer, pair.node));
    if backend.encrypts() && pair.node.keys.is_empty() {
        return Ok((backend, BTreeSet::new()));
    }
    Ok((backend, routes(backend, pair)?))
}

/// What may carry to a node, whether or not it can. Only `encryption: None` sends in clear to a node
/// that ever had a key: else whoever takes its key away, or drops its packets, would choose clear
/// text. With `allowDowngrade` he does, and the operator said so.
pub(super) fn permitted(view: &View, facts: &Facts, (name, node): (&str, &Node)) -> Backend {
    let had_key = view.sealed.contains(name) || node.had_key();
    let sealed = !node.keys.is_empty() || (had_key && !view.allow_downgrade);
    match view.encryption {
        Encryption::Required => Backend::Wireguard,
        Encryption::Preferred if sealed => Backend::Wireguard,
        Encryption::Preferred | Encryption::None => wanted(view, facts),
    }
}

fn wanted(view: &View, facts: &Facts) -> Backend {
    facts.backend.unwrap_or(view.backend)
}

fn routes(backend: Backend, pair: &Pair<'_>) -> Result<BTreeSet<Route>, Refusal> {
    let carrier = carrier(backend).ok_or(Refusal::Backend(backend))?;
    let route =
        |prefix: &IpNet| Ok(Route { prefix: *prefix, target: carrier.target(pair, prefix)? });
    pair.prefixes().map(route).collect()
}

fn carrier(backend: Backend) -> Option<Box<dyn Carrier>> {
    match backend {
        Backend::Wireguard => Some(Box::new(Tunnel)),
        Backend::Vxlan => Some(Box::new(Overlay)),
        Backend::Direct => Some(Box::new(Direct)),
        Backend::Udp => Some(Box::new(Frames)),
        Backend::Esp => None,
    }
}

/// True if this version can carry so.
pub(crate) fn is_available(backend: Backend) -> bool {
    carrier(backend).is_some()
}

/// The largest packet that the tunnel takes.
pub(super) fn tunnel_mtu(facts: &Facts) -> u16 {
    Tunnel.mtu(facts)
}

impl Carriers {
    fn take(&mut self, backend: Backend, pair: &Pair<'_>, routes: BTreeSet<Route>) {
        for (device, prefix) in in_clear(&routes) {
            let open = self.open.entry(device).or_default();
            open.to.insert(prefix);
            open.from.insert(prefix);
        }
        self.reach(backend, pair, true);
        self.chosen.insert(pair.peer.to_owned(), backend);
        self.routes.extend(routes);
    }

    /// Takes what a peer sends in clear, though it is answered encrypted: so whoever changes first
    /// loses nothing, from None to Preferred and back: not its machine's answers to pods either, which
    /// were asked through the tunnel. What can't be reached sends nothing.
    fn accept(&mut self, backend: Backend, pair: &Pair<'_>) {
        if backend.encrypts() {
            return;
        }
        let Ok(routes) = routes(backend, pair) else {
            return;
        };
        for (device, prefix) in in_clear(&routes) {
            let from = &mut self.open.entry(device).or_default().from;
            from.insert(prefix);
            from.extend(pair.machine());
        }
        if self.chosen.get(pair.peer) != Some(&backend) {
            self.reach(backend, pair, false);
        }
    }

    fn reach(&mut self, backend: Backend, pair: &Pair<'_>, send: bool) {
        if backend == Backend::Udp {
            self.clear.extend(udp::peer(pair, send));
        }
        if backend == Backend::Vxlan {
            let vxlan = self.vxlan.take().or_else(|| Vxlan::new(pair.facts));
            self.vxlan = vxlan.map(|vxlan| vxlan.with(pair));
        }
    }

    /// The largest packet that every carrier in use takes; the tunnel's if there is none yet.
    pub(super) fn mtu(&self, facts: &Facts) -> u16 {
        let used: BTreeSet<Option<u16>> =
            self.chosen.values().map(|backend| Some(carrier(*backend)?.mtu(facts))).collect();
        used.into_iter().flatten().min().unwrap_or_else(|| tunnel_mtu(facts))
    }
}

/// What crosses a device of others, where the guard must let it: frames of the data path don't.
fn in_clear(routes: &BTreeSet<Route>) -> impl Iterator<Item = (String, IpNet)> {
    routes.iter().filter_map(|route| match &route.target {
        Target::Via { device, .. } => Some((device.clone(), route.prefix)),
        Target::Device { .. } | Target::Machine { .. } | Target::Unreachable => None,
    })
}

#[cfg(test)]
mod tests;
