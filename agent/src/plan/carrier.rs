//! How packets for one peer travel: a carrier for each backend, behind one small trait, and the
//! choice among them.
//!
//! ```text
//! encryption, sites ───┐
//! backend, fallback ───┼─▶ the ways of a pair ─▶ one of them: wireguard | udp | vxlan | direct,
//! peer, link ──────────┘                         or why none
//! ```
//! Where there are several, `failover` says which of them answers; here it is only obeyed.
//!
//! Sessions of WireGuard are kept with every node, whatever carries: so a mesh leaves clear text
//! without a handshake to wait for.

mod direct;
mod relay;
mod udp;
mod vxlan;
mod wireguard;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

pub(super) use self::relay::call;
pub(crate) use self::relay::first;
pub use self::vxlan::{DEVICE as VXLAN_DEVICE, Mac, PORT as VXLAN_PORT, VNI, Vtep, Vxlan};
use self::{direct::Direct, udp::Frames, vxlan::Overlay, wireguard::Tunnel};
use super::{Facts, Open, Refusal, Route, SideTable, Target, Way, peers::reachable};
use crate::{
    datapath::{ClearPeer, Relayed, Relays, Shaped},
    view::{Backend, Encryption, Node, View},
};

/// One way to carry packets between two nodes.
pub(super) trait Carrier {
    /// Where packets for `prefix` of the peer go; a reason if this carrier can't reach the peer.
    fn target(&self, pair: &Pair<'_>, prefix: &IpNet) -> Result<Target, Refusal>;

    /// The largest packet that it takes, in bytes.
    fn mtu(&self, view: &View, facts: &Facts) -> u16;
}

/// This node and another.
pub(super) struct Pair<'a> {
    pub(super) facts: &'a Facts,
    pub(super) peer: &'a str,
    pub(super) node: &'a Node,
    /// Subnets of the nodes that it hands packets on to.
    pub(super) behind: Vec<IpNet>,
    /// What it and they announce.
    pub(super) announced: Vec<IpNet>,
    /// What holds between the two.
    pub(super) encryption: Encryption,
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
        self.node.subnets.iter().chain(&self.behind).chain(&self.announced).filter(usable)
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
    /// Where there are several, best first.
    pub(super) ways: BTreeMap<String, Vec<Way>>,
    pub(super) routes: BTreeSet<Route>,
    /// By device: what may cross it in clear.
    pub(super) open: BTreeMap<String, Open>,
    pub(super) vxlan: Option<Vxlan>,
    /// Whom the data path speaks to in clear, or hears.
    pub(super) clear: Vec<ClearPeer>,
    pub(super) in_shape: BTreeSet<String>,
    /// Whose sealed datagrams may travel in another shape, and whose do.
    pub(super) shaped: Option<Shaped>,
    /// Who may be reached through whom.
    pub(super) relays: Option<Relays>,
    /// Who is, and through whom.
    pub(super) relayed: BTreeMap<String, (u8, String)>,
    /// Who is reached in TLS over TCP.
    pub(super) bridged: BTreeSet<String>,
    /// Who cannot be reached otherwise, as far as is known.
    pub(super) apart: BTreeSet<String>,
    pub(super) refusals: Vec<Refusal>,
}

pub(super) fn of(view: &View, facts: &Facts, own: &BTreeSet<IpNet>) -> Carriers {
    let shaped = |port| Shaped { port, ..Shaped::default() };
    let shaped = view.vxlan_shaped_port.map(shaped);
    let candidates = relay::candidates(view);
    let relays = relay::none_yet(view, facts, &candidates);
    let mut carriers = Carriers { shaped, relays, ..Carriers::default() };
    for (peer, node) in view.spoken_to(&facts.node) {
        let encryption = view.encryption_between(&facts.node, peer);
        let behind = view.behind(peer).flat_map(|node| &node.subnets).copied().collect();
        let announcing = [node].into_iter().chain(view.behind(peer));
        let announced = announcing.flat_map(|node| &node.announced).copied().collect();
        let pair = Pair { facts, peer, node, behind, announced, encryption, own };
        let relays = relay::of(&candidates, &facts.node, peer);
        carriers.settle(view, &pair, &relays);
        for backend in heard(view, &pair) {
            carriers.accept(backend, &pair);
        }
    }
    carriers
}

/// The routes by a carrier; none where a session is wanted and there is no key.
fn way(backend: Backend, pair: &Pair<'_>) -> Result<Option<BTreeSet<Route>>, Refusal> {
    if backend.encrypts() && pair.node.keys.is_empty() {
        return Ok(None);
    }
    Ok(Some(routes(backend, pair)?).filter(|routes| !routes.is_empty()))
}

/// What may carry to a node, best first, whether or not it can. Only encryption None, of the mesh or
/// of the two sites, sends in clear to a node that ever had a key: else whoever takes its key away, or
/// drops its packets, would choose clear text. With `allowDowngrade` he does, and the operator said so:
/// to one without a key by any plain carrier, to one with a key by those of `fallback`, where the tunnel
/// does not get through.
pub(super) fn permitted(view: &View, facts: &Facts, (name, node): (&str, &Node)) -> Vec<Backend> {
    let had_key = view.sealed.contains(name) || node.had_key();
    let sealed = !node.keys.is_empty() || (had_key && !view.allow_downgrade);
    let plain = |listed: Vec<Backend>| listed.into_iter().filter(|backend| !backend.encrypts());
    match view.encryption_between(&facts.node, name) {
        Encryption::Required => vec![Backend::Wireguard],
        Encryption::Preferred if sealed && !view.allow_downgrade => vec![Backend::Wireguard],
        Encryption::Preferred if sealed => {
            [Backend::Wireguard].into_iter().chain(plain(view.fallback.clone())).collect()
        }
        Encryption::Preferred => plain(listed(view, facts)).collect(),
        Encryption::None => listed(view, facts),
    }
}

/// The tunnel in TLS, where one of the two listens: if the other called, and then no datagram gets out
/// of it, so this comes before relays, which it would reach so as well.
fn in_tls(backend: Backend, view: &View, pair: &Pair<'_>) -> Option<Way> {
    let listens = |name: &str| view.nodes.get(name).is_some_and(|node| node.tls.is_some());
    let one = listens(pair.peer) || listens(&pair.facts.node);
    let may = backend == Backend::Wireguard && pair.facts.rotates;
    (may && one).then(|| Way { tls: true, ..Way::from(backend) })
}

/// What is taken in clear from a node, though it may be answered by another carrier.
fn heard(view: &View, pair: &Pair<'_>) -> Vec<Backend> {
    let listed = listed(view, pair.facts).into_iter().filter(|backend| !backend.encrypts());
    match pair.encryption {
        Encryption::Required => Vec::new(),
        Encryption::Preferred | Encryption::None => listed.collect(),
    }
}

/// The backend and what may stand in for it, best first.
pub(crate) fn listed(view: &View, facts: &Facts) -> Vec<Backend> {
    view.carriers(facts.backend)
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
pub(super) fn tunnel_mtu(view: &View, facts: &Facts) -> u16 {
    Tunnel.mtu(view, facts)
}

impl Carriers {
    /// What is used to a node, of what may be and can; refused only if nothing can.
    fn settle(&mut self, view: &View, pair: &Pair<'_>, relays: &[&str]) {
        let (mut ways, mut refused) = (Vec::new(), None);
        for backend in permitted(view, pair.facts, (pair.peer, pair.node)) {
            match way(backend, pair) {
                Ok(None) => {}
                Ok(Some(routes)) => {
                    ways.push((Way::from(backend), routes.clone()));
                    ways.extend(self.shape(backend, pair).map(|way| (way, routes.clone())));
                    let by_relay = self.relay(backend, pair, relays);
                    ways.extend(in_tls(backend, view, pair).map(|way| (way, routes.clone())));
                    ways.extend(by_relay.into_iter().map(|way| (way, routes.clone())));
                }
                Err(refusal) => drop(refused.get_or_insert(refusal)),
            }
        }
        let first = self.begin(view, pair, ways.iter().map(|(way, _)| *way));
        let told = pair.facts.chosen.get(pair.peer);
        if ways.is_empty() {
            self.refusals.extend(refused);
            return;
        }
        let listed: Vec<Way> = ways.iter().map(|(way, _)| *way).collect();
        let place = told.map_or(first, |told| told.place_among(&listed));
        let (way, routes) = ways.remove(place);
        if !ways.is_empty() {
            self.probe(&routes, pair, true);
            for (_, routes) in &ways {
                self.probe(routes, pair, false);
            }
            self.ways.insert(pair.peer.to_owned(), listed);
        }
        if let Some(shaped) = self.shaped.as_mut().filter(|_| way.shaped) {
            self.in_shape.insert(pair.peer.to_owned());
            shaped.used.extend(reachable(&pair.node.endpoints, pair.facts.underlay));
        }
        self.pass_on(way, pair, relays);
        self.take(way.backend, pair, routes);
    }

    /// Where nothing was told yet: the best that can be.
    fn begin(&mut self, view: &View, pair: &Pair<'_>, ways: impl Iterator<Item = Way>) -> usize {
        let ways: Vec<Way> = ways.collect();
        let me = view.nodes.get(&pair.facts.node);
        let apart = relay::apart(pair.facts.underlay, me, pair.node);
        let first = first(&ways, apart);
        if apart && first > 0 {
            self.apart.insert(pair.peer.to_owned());
        }
        first
    }

    /// And as many more as there are relays.
    fn relay(&mut self, backend: Backend, pair: &Pair<'_>, relays: &[&str]) -> Vec<Way> {
        let table = self.relays.as_mut().filter(|_| backend == Backend::Wireguard);
        let Some(table) = table else { return Vec::new() };
        let relayed = Relayed {
            places: relay::places(pair.facts.underlay, &pair.node.endpoints),
            relays: relays.iter().map(|relay| crypto::relay::id(relay)).collect(),
            used: None,
            bridged: false,
        };
        table.peers.insert(crypto::relay::id(pair.peer), relayed);
        let places = (0..).zip(relays).map(|(place, _)| Some(place));
        places.map(|relay| Way { relay, ..Way::from(backend) }).collect()
    }

    fn pass_on(&mut self, way: Way, pair: &Pair<'_>, relays: &[&str]) {
        let peers = self.relays.as_mut().map(|relays| &mut relays.peers);
        let peer = peers.and_then(|peers| peers.get_mut(&crypto::relay::id(pair.peer)));
        let Some(peer) = peer else { return };
        if way.tls {
            peer.bridged = true;
            self.bridged.insert(pair.peer.to_owned());
        }
        let relay = way.relay.and_then(|place| Some((place, relays.get(usize::from(place))?)));
        if let Some((place, relay)) = relay {
            peer.used = Some(place.into());
            self.relayed.insert(pair.peer.to_owned(), (place, (*relay).to_owned()));
        }
    }

    /// The tunnel has two ways, where the Mesh says so.
    fn shape(&mut self, backend: Backend, pair: &Pair<'_>) -> Option<Way> {
        let shaped = self.shaped.as_mut().filter(|_| backend == Backend::Wireguard)?;
        let endpoint = reachable(&pair.node.endpoints, pair.facts.underlay)?;
        shaped.peers.insert(endpoint);
        Some(Way { shaped: true, ..Way::from(backend) })
    }

    /// Probes reach the peer's own addresses this way, which are in none of the prefixes behind it. One
    /// that waits lets nothing else out.
    fn probe(&mut self, routes: &BTreeSet<Route>, pair: &Pair<'_>, in_use: bool) {
        for route in routes.iter().filter(|route| !pair.announced.contains(&route.prefix)) {
            let Target::Via { gateway, device, source } = route.target.clone() else {
                continue;
            };
            let prefix = IpNet::from(api::first_host(route.prefix));
            if !in_use {
                self.open.entry(device.clone()).or_default().to.insert(prefix);
            }
            let direct = device != VXLAN_DEVICE;
            let table = if direct { SideTable::Direct } else { SideTable::Vxlan };
            let source = source.or_else(|| pair.source(&prefix));
            let target = Target::Probe { table, gateway, device, source };
            self.routes.insert(Route { prefix, target });
        }
    }

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

    /// Takes what a peer sends in clear, though it is answered otherwise: so whoever changes first
    /// loses nothing, from None to Preferred and back, or to another carrier of the list: not its
    /// machine's answers to pods either, which were asked through the tunnel. What can't be reached
    /// sends nothing.
    fn accept(&mut self, backend: Backend, pair: &Pair<'_>) {
        let in_use = self.chosen.get(pair.peer) == Some(&backend);
        if in_use && pair.encryption == Encryption::None {
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
        if !in_use {
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

    /// The largest packet that every carrier takes that is in use, or may be at the next moment; the
    /// tunnel's if there is none yet.
    pub(super) fn mtu(&self, view: &View, facts: &Facts) -> u16 {
        let waiting = self.ways.values().flatten().map(|way| &way.backend);
        let used = self.chosen.values().chain(waiting);
        let used: BTreeSet<Option<u16>> =
            used.map(|backend| Some(carrier(*backend)?.mtu(view, facts))).collect();
        used.into_iter().flatten().min().unwrap_or_else(|| tunnel_mtu(view, facts))
    }
}

/// What crosses a device of others, where the guard must let it: frames of the data path don't.
fn in_clear(routes: &BTreeSet<Route>) -> impl Iterator<Item = (String, IpNet)> {
    routes.iter().filter_map(|route| match &route.target {
        Target::Via { device, .. } => Some((device.clone(), route.prefix)),
        Target::Device { .. }
        | Target::Machine { .. }
        | Target::Probe { .. }
        | Target::Unreachable => None,
    })
}

#[cfg(test)]
mod tests;
