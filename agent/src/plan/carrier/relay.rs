//! Who passes on for whom: a few nodes of the mesh, and for each pair of nodes an order of them that
//! both ends come to by themselves; and which pairs begin so, as no direct way can be. Pure.

use std::net::SocketAddr;

use api::Topology;

use crate::{
    datapath::Relays,
    plan::{
        Facts, Peers, Underlay, Way,
        peers::{others, reachable},
    },
    view::{Node, Relay, View},
};

/// So many nodes pass on in the whole mesh, at most.
const MESH: usize = 16;
/// So many for each pair: one, and who takes its place.
pub(super) const PAIR: usize = 3;
/// Bytes a second that a node passes on for each sender: 2 Gbit/s.
const QUOTA: u64 = 250_000_000;

/// The nodes that may pass on, and who speaks with whom.
pub(super) struct Candidates<'a> {
    relays: Vec<(&'a str, &'a Node)>,
    view: &'a View,
    topology: Topology<'a>,
}

/// Empty where no node passes on. Nodes that are called over TLS come first: whoever can only call is
/// reached through them alone. Then those that are reachable from everywhere, before those that are
/// perhaps behind a NAT. One that can only call itself is none.
pub(super) fn candidates(view: &View) -> Candidates<'_> {
    let wanted = view.relay == Relay::Auto;
    let able = |node: &Node| {
        wanted && node.is_peer() && !node.endpoints.is_empty() && node.relays.is_empty()
    };
    let nodes = view.nodes.iter().filter(|(_, node)| able(node));
    let mut ranked: Vec<_> =
        nodes.map(|(name, node)| (rank(name, node), (name.as_str(), node))).collect();
    ranked.sort_unstable_by_key(|(rank, _)| *rank);
    ranked.truncate(MESH);
    let relays = ranked.into_iter().map(|(_, relay)| relay).collect();
    Candidates { relays, view, topology: view.topology() }
}

/// Those that everybody reaches come first: called over TLS, without a NAT, at public addresses, of
/// both families.
fn rank(name: &str, node: &Node) -> (bool, u8, bool, bool, u64) {
    let public = |at: &SocketAddr| match at.ip() {
        std::net::IpAddr::V4(v4) => !v4.is_private() && !v4.is_link_local(),
        std::net::IpAddr::V6(v6) => !v6.is_unique_local() && !v6.is_unicast_link_local(),
    };
    let [v4, v6] = families(&node.endpoints);
    let private = !node.endpoints.iter().any(public);
    let nat = behind(node.nat.as_deref());
    (node.tls.is_none(), nat, private, !(v4 && v6), crypto::relay::id(name))
}

/// How hard it is to be reached from elsewhere.
fn behind(nat: Option<&str>) -> u8 {
    match nat {
        None => 0,
        Some("symmetric") => 2,
        Some(_) => 1,
    }
}

fn families(endpoints: &[SocketAddr]) -> [bool; 2] {
    [true, false].map(|v4| endpoints.iter().any(|at| at.is_ipv4() == v4))
}

/// Those that pass on between `me` and `peer`, best first; neither of the two, and nobody that one of
/// them reaches through a gateway, or not at all. Where one of them can only call, those that it is
/// connected to.
pub(super) fn of<'a>(candidates: &Candidates<'a>, me: &str, peer: &str) -> Vec<&'a str> {
    let (first, second) = (me.min(peer), me.max(peer));
    let speaks = |a: &str, b: &str| candidates.topology.ways(a, b).is_empty();
    let meets = |(relay, at): (&str, &Node), name: &str| match candidates.view.nodes.get(name) {
        Some(node) if !node.relays.is_empty() => node.relays.iter().any(|one| one == relay),
        Some(node) => share_a_family(&at.endpoints, &node.endpoints),
        None => true,
    };
    let relays = candidates.relays.iter().copied();
    let others = relays.filter(|(relay, _)| *relay != me && *relay != peer);
    let mut ranked: Vec<_> = others
        .filter(|(relay, _)| speaks(me, relay) && speaks(peer, relay))
        .filter(|relay| meets(*relay, me) && meets(*relay, peer))
        .map(|(name, relay)| {
            let lot = crypto::relay::id(&format!("{first}\n{second}\n{name}"));
            (behind(relay.nat.as_deref()), lot, name)
        })
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().take(PAIR).map(|(_, _, relay)| relay).collect()
}

/// Nothing is known of one that has published no endpoint.
fn share_a_family(a: &[SocketAddr], b: &[SocketAddr]) -> bool {
    let both = families(a).into_iter().zip(families(b));
    a.is_empty() || b.is_empty() || { both }.any(|(a, b)| a && b)
}

/// True if no datagram gets from one to the other by itself, as far as they have published: not
/// between a NAT that shows each receiver another port and one that lets in only whom it sent to,
/// not without an endpoint, and not between families. They are tried all the same, now and then: a
/// NAT may let everybody in, and two may stand behind the same.
pub(super) fn apart(underlay: Underlay, me: Option<&Node>, peer: &Node) -> bool {
    let nats = (me.and_then(|me| me.nat.as_deref()), peer.nat.as_deref());
    let between = match nats {
        (Some(a), Some(b)) => a == "symmetric" || b == "symmetric",
        (_, _) => false,
    };
    between || !reaches(underlay, &peer.endpoints)
}

fn reaches(underlay: Underlay, endpoints: &[SocketAddr]) -> bool {
    let ours = [underlay.v4.is_some(), underlay.v6.is_some()];
    let theirs = families(endpoints);
    let unknown = ours == [false; 2] && !endpoints.is_empty();
    unknown || ours.into_iter().zip(theirs).any(|(ours, theirs)| ours && theirs)
}

/// Where it may be sent to, the likeliest first.
pub(super) fn places(underlay: Underlay, endpoints: &[SocketAddr]) -> Vec<SocketAddr> {
    let first = reachable(endpoints, underlay).filter(|_| reaches(underlay, endpoints));
    let others = first.map(|_| others(endpoints, underlay)).unwrap_or_default();
    first.into_iter().chain(others).collect()
}

/// The place of the way that a pair begins with.
pub(crate) fn first(ways: &[Way], apart: bool) -> usize {
    let relayed = ways.iter().position(|way| way.relay.is_some());
    relayed.filter(|_| apart).unwrap_or(0)
}

/// Who has no endpoint that this node can send to is called by its first relay.
pub(in crate::plan) fn call(peers: &mut Peers, underlay: Underlay) {
    let Some(relays) = &peers.relays else { return };
    for peer in &mut peers.others {
        let id = crypto::relay::id(&peer.name);
        let relayed = relays.peers.get(&id).is_some_and(|peer| !peer.relays.is_empty());
        let told: Vec<SocketAddr> = peer.endpoint.iter().chain(&peer.others).copied().collect();
        if peer.relayed && relayed && !reaches(underlay, &told) {
            peer.endpoint = Some(crypto::relay::address(id, 0));
            peer.others.clear();
        }
    }
}

/// With nobody in it yet; none where no node passes on. boringtun's engine takes no part.
pub(super) fn none_yet(view: &View, facts: &Facts, candidates: &Candidates<'_>) -> Option<Relays> {
    let passes_on = candidates.relays.iter().any(|(name, _)| *name == facts.node);
    let relays = Relays {
        own: crypto::relay::id(&facts.node),
        quota: passes_on.then_some(QUOTA),
        ..Relays::default()
    };
    (view.has_detours() && facts.rotates).then_some(relays)
}

#[cfg(test)]
mod tests;
