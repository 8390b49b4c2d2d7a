//! Who passes on for whom: a few nodes of the mesh, and for each pair of nodes an order of them that
//! both ends come to by themselves. Pure.

use std::collections::BTreeMap;

use api::Topology;

use crate::{
    datapath::Relays,
    plan::Facts,
    view::{Node, Relay, View},
};

/// So many nodes pass on in the whole mesh, at most: each pair asks all of its own now and then.
const MESH: usize = 16;
/// So many for each pair: one, and who takes its place.
pub(super) const PAIR: usize = 3;
/// Bytes a second that a node passes on for each sender: 2 Gbit/s.
const QUOTA: u64 = 250_000_000;

/// The nodes that may pass on, and who speaks with whom.
pub(super) struct Candidates<'a> {
    names: Vec<&'a str>,
    /// Through whom alone some nodes are reached.
    through: BTreeMap<&'a str, &'a [String]>,
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
    let mut ranked: Vec<_> = nodes.map(|(name, node)| (rank(name, node), name.as_str())).collect();
    ranked.sort_unstable();
    ranked.truncate(MESH);
    let names = ranked.into_iter().map(|(_, name)| name).collect();
    let through = view.nodes.iter().filter(|(_, node)| !node.relays.is_empty());
    let through = through.map(|(name, node)| (name.as_str(), node.relays.as_slice())).collect();
    Candidates { names, through, topology: view.topology() }
}

fn rank(name: &str, node: &Node) -> (bool, bool, u64) {
    let public = |at: &std::net::SocketAddr| match at.ip() {
        std::net::IpAddr::V4(v4) => !v4.is_private() && !v4.is_link_local(),
        std::net::IpAddr::V6(v6) => !v6.is_unique_local() && !v6.is_unicast_link_local(),
    };
    (node.tls.is_none(), !node.endpoints.iter().any(public), crypto::relay::id(name))
}

/// Those that pass on between `me` and `peer`, best first; neither of the two, nobody that one of them
/// reaches through a gateway, and where one of them can only call, those that it is connected to.
pub(super) fn of<'a>(candidates: &Candidates<'a>, me: &str, peer: &str) -> Vec<&'a str> {
    let (first, second) = (me.min(peer), me.max(peer));
    let speaks = |a: &str, b: &str| candidates.topology.ways(a, b).is_empty();
    let reaches = |a: &str, relay: &str| {
        candidates.through.get(a).is_none_or(|through| through.iter().any(|one| one == relay))
    };
    let names = candidates.names.iter().copied();
    let between = names.filter(|relay| *relay != me && *relay != peer);
    let mut ranked: Vec<_> = between
        .filter(|relay| speaks(me, relay) && speaks(peer, relay))
        .filter(|relay| reaches(me, relay) && reaches(peer, relay))
        .map(|relay| (crypto::relay::id(&format!("{first}\n{second}\n{relay}")), relay))
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().take(PAIR).map(|(_, relay)| relay).collect()
}

/// With nobody in it yet; none where no node passes on.
pub(super) fn none_yet(view: &View, facts: &Facts, candidates: &Candidates<'_>) -> Option<Relays> {
    let relays = Relays {
        own: crypto::relay::id(&facts.node),
        quota: candidates.names.contains(&facts.node.as_str()).then_some(QUOTA),
        ..Relays::default()
    };
    view.has_detours().then_some(relays)
}
