//! From the view to the data path's peers: who is spoken to, with which keys, and where.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crypto::PeerConfig;
use ipnet::IpNet;
use keys::KeyEpoch;

use super::{Facts, Refusal, Underlay};
use crate::{
    datapath::{ClearPeer, Relays, Shaped},
    rotation::sending,
    view::{Node, PlainPeer, View},
};

/// Holds a NAT's mapping open, which some forget after 30 s.
const KEEPALIVE: Duration = Duration::from_secs(25);
/// Where there is no mapping to hold, a session is renewed before it ends, so that every tunnel is up
/// before the first packet needs it, and one that is down is known. The one who began it renews it when
/// something is sent after 120 s.
const RENEWAL: Duration = Duration::from_secs(130);

/// What the data path is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// This node's own prefixes: no peer may send from them.
    pub own: Vec<IpNet>,
    pub others: Vec<PeerConfig>,
    /// Nodes that packets may be in clear to and from, by the data path's own frames.
    pub clear: Vec<ClearPeer>,
    /// Whose sealed datagrams may travel in another shape; none where nobody's may.
    pub shaped: Option<Shaped>,
    /// Who may be reached through whom; none where nobody may.
    pub relays: Option<Relays>,
}

impl Peers {
    /// The same with nobody to speak with: who was revoked meanwhile must not be among them.
    pub(super) fn silent(self) -> Self {
        Self { others: Vec::new(), clear: Vec::new(), shaped: None, relays: None, ..self }
    }
}

/// Everybody but ourselves, and the plain peers that must stay out.
pub(super) fn configure(view: &View, facts: &Facts) -> (Peers, Vec<Refusal>) {
    let others = view.spoken_to(&facts.node).filter(|(_, node)| node.is_peer());
    let bare = view.nodes.get(&facts.node).is_some_and(|node| node.bare);
    let mut peers: Vec<_> = others
        .map(|(name, node)| PeerConfig {
            relayed: view.has_detours() && facts.rotates,
            keepalive: Some(facts.keepalive.unwrap_or_else(|| keepalive(bare, node.bare))),
            ..mesh_node(name, node, facts)
        })
        .collect();
    let mut refused = Vec::new();
    for (name, peer) in &view.peers {
        let calls_us = peer.entries.is_empty() || peer.entries.contains(&facts.node);
        let ours =
            peer.entries.is_empty() || view.entry_of(name, peer) == Some(facts.node.as_str());
        if calls_us && peer.preshared_key_file.is_some() && !facts.preshared.contains_key(name) {
            refused.push(Refusal::NoPresharedKey(name.clone()));
            continue;
        }
        if calls_us {
            // Another entry's is listened for: it may come back.
            let allowed = if ours { peer.addresses.clone() } else { Vec::new() };
            peers.push(PeerConfig { allowed, ..plain_peer(name, peer, facts) });
        }
        let entry = view.entry_of(name, peer).filter(|_| !ours).map(|entry| view.through(entry));
        if let Some(entry) = peers.iter_mut().find(|node| Some(&*node.name) == entry) {
            entry.allowed.extend(&peer.addresses);
        }
    }
    let gateways = view.gateways();
    for gateway in peers.iter_mut().filter(|peer| gateways.contains(peer.name.as_str())) {
        gateway.allowed.extend(view.behind(&gateway.name).flat_map(Node::prefixes));
        gateway.forwards.extend(view.handed_on_by(&gateway.name));
    }
    let own = view.nodes.get(&facts.node).map(|node| node.subnets.clone()).unwrap_or_default();
    (Peers { own, others: peers, ..Peers::default() }, refused)
}

/// After how long of silence something is sent, by whether each end knows that no NAT is before it: who
/// does not know may be behind one.
fn keepalive(own_bare: bool, peer_bare: bool) -> Duration {
    if own_bare && peer_bare { RENEWAL } else { KEEPALIVE }
}

/// All keys are listened to; the one to send with is the controller's word.
fn mesh_node(name: &str, node: &Node, facts: &Facts) -> PeerConfig {
    let known = |epoch: &KeyEpoch| facts.rotates || *epoch <= node.epoch;
    let mut keys: Vec<_> = node.keys.iter().filter(|(epoch, _)| known(epoch)).copied().collect();
    keys.sort_by_key(|(epoch, _)| *epoch);
    let send_to = sending(node.epoch, &keys.iter().map(|(epoch, _)| *epoch).collect());
    PeerConfig {
        name: name.to_owned(),
        send_to: Some(send_to),
        follows: true,
        keys,
        preshared_key: None,
        endpoint: reachable(&node.endpoints, facts.underlay),
        others: others(&node.endpoints, facts.underlay),
        keepalive: None,
        allowed: node.prefixes().collect(),
        forwards: Vec::new(),
        relayed: false,
    }
}

fn plain_peer(name: &str, peer: &PlainPeer, facts: &Facts) -> PeerConfig {
    let keepalive = peer.keepalive.filter(|seconds| *seconds > 0);
    PeerConfig {
        name: name.to_owned(),
        keys: vec![(KeyEpoch::FIRST, peer.key)],
        send_to: None,
        follows: false,
        preshared_key: facts.preshared.get(name).cloned(),
        endpoint: peer.endpoint,
        keepalive: keepalive.map(|seconds| Duration::from_secs(u64::from(seconds))),
        allowed: peer.addresses.clone(),
        others: Vec::new(),
        forwards: Vec::new(),
        relayed: false,
    }
}

/// Its other endpoints of that family: such as where a NAT shows it.
pub(super) fn others(endpoints: &[SocketAddr], underlay: Underlay) -> Vec<SocketAddr> {
    let Some(first) = reachable(endpoints, underlay) else {
        return Vec::new();
    };
    let same = |other: &&SocketAddr| **other != first && other.is_ipv4() == first.is_ipv4();
    endpoints.iter().filter(same).copied().collect()
}

/// The first endpoint of a family that this node has; if it knows of none, the first.
pub(super) fn reachable(endpoints: &[SocketAddr], underlay: Underlay) -> Option<SocketAddr> {
    let ours = |endpoint: &&SocketAddr| match endpoint.ip() {
        IpAddr::V4(_) => underlay.v4.is_some(),
        IpAddr::V6(_) => underlay.v6.is_some(),
    };
    endpoints.iter().find(ours).or(endpoints.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_both_know_that_there_is_no_nat_no_mapping_is_held_open() {
        for (own, peer, kept) in [
            (true, true, RENEWAL),
            (true, false, KEEPALIVE),
            (false, true, KEEPALIVE),
            (false, false, KEEPALIVE),
        ] {
            assert_eq!(keepalive(own, peer), kept, "{own} {peer}");
        }
    }
}
