//! Keeps peers that an API lost without deleting them: a restored, emptied or confused store must
//! not cut a running mesh.

use std::collections::BTreeSet;

use super::Kind;
use crate::view::View;

/// Removals that need no deletion seen: two, or a tenth of what there was.
fn allowed(peers: usize) -> usize {
    (peers / 10).max(2)
}

/// `next` with everybody of `last` who vanished, if too many did; and their names.
///
/// Who comes back takes nothing away from those who are there: a prefix that somebody else has by
/// now stays with them.
pub(super) fn hold(
    last: &View,
    mut next: View,
    deleted: &BTreeSet<(Kind, String)>,
) -> (View, Vec<String>) {
    let gone = |kind, name: &String| !deleted.contains(&(kind, name.clone()));
    let nodes = last.nodes.keys().filter(|n| !next.nodes.contains_key(*n) && gone(Kind::Node, n));
    let peers = last.peers.keys().filter(|n| !next.peers.contains_key(*n) && gone(Kind::Peer, n));
    let (nodes, peers): (Vec<_>, Vec<_>) = (nodes.cloned().collect(), peers.cloned().collect());
    if nodes.len() + peers.len() <= allowed(last.nodes.len() + last.peers.len()) {
        return (next, Vec::new());
    }
    let taken = next.prefixes();
    let free = |net: &ipnet::IpNet| !taken.iter().any(|t| t.contains(net) || net.contains(t));
    for name in &nodes {
        let mut node = last.nodes[name].clone();
        node.subnets.retain(free);
        node.announced.retain(free);
        next.nodes.insert(name.clone(), node);
    }
    for name in &peers {
        let mut peer = last.peers[name].clone();
        peer.addresses.retain(free);
        next.peers.insert(name.clone(), peer);
    }
    (next, nodes.into_iter().chain(peers).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use api::{Backend, Encryption};
    use keys::KeyEpoch;

    use super::*;
    use crate::view::Node;

    fn view(nodes: impl IntoIterator<Item = u8>) -> View {
        let node = |n: u8| {
            let subnets = vec![format!("10.42.{n}.0/24").parse().unwrap()];
            let (keys, endpoints, site, revoked) = (vec![], vec![], None, false);
            (
                format!("n{n}"),
                Node {
                    subnets,
                    addresses: vec![],
                    announced: vec![],
                    epoch: KeyEpoch(1),
                    epochs: BTreeSet::new(),
                    newest: None,
                    keys,
                    endpoints,
                    nat: None,
                    bare: false,
                    site,
                    revoked,
                    serves: BTreeMap::new(),
                    tls: None,
                    relays: Vec::new(),
                },
            )
        };
        View {
            pools: vec!["10.42.0.0/16".parse().unwrap()],
            backend: Backend::Wireguard,
            encryption: Encryption::Required,
            site_encryption: vec![],
            site_gateways: vec![],
            detours: BTreeMap::new(),
            behind: BTreeMap::new(),
            forwards: false,
            fallback: vec![],
            vxlan_shaped_port: None,
            relay: crate::view::Relay::Never,
            return_after: api::return_after(),
            allow_downgrade: false,
            sealed: BTreeSet::new(),
            mtu: None,
            nodes: nodes.into_iter().map(node).collect(),
            peers: BTreeMap::new(),
            revoked_keys: BTreeSet::new(),
            removing: false,
            max_age: None,
        }
    }

    fn seen_deleted(nodes: impl IntoIterator<Item = u8>) -> BTreeSet<(Kind, String)> {
        nodes.into_iter().map(|n| (Kind::Node, format!("n{n}"))).collect()
    }

    #[test]
    fn an_empty_list_removes_nobody() {
        let (held, names) = hold(&view(0..100), view([]), &BTreeSet::new());

        assert_eq!(held, view(0..100));
        assert_eq!(names.len(), 100);
    }

    #[test]
    fn a_tenth_or_two_may_vanish_unseen() {
        assert_eq!(hold(&view(0..100), view(10..100), &BTreeSet::new()).0, view(10..100));
        assert_eq!(hold(&view(0..100), view(11..100), &BTreeSet::new()).0, view(0..100));
        assert_eq!(hold(&view(0..3), view(2..3), &BTreeSet::new()).0, view(2..3));
        assert_eq!(hold(&view(0..3), view([]), &BTreeSet::new()).0, view(0..3));
    }

    #[test]
    fn seen_deletions_always_count() {
        assert_eq!(hold(&view(0..100), view([]), &seen_deleted(0..100)).0, view([]));
        assert_eq!(hold(&view(0..50), view([]), &seen_deleted(0..45)).0, view([]));
    }

    #[test]
    fn who_is_held_takes_no_subnet_from_somebody_else() {
        let mut next = view([200]);
        let reused = next.nodes.get_mut("n200").unwrap();
        reused.subnets = vec!["10.42.3.0/24".parse().unwrap()];

        let (held, _) = hold(&view(0..20), next.clone(), &BTreeSet::new());

        assert_eq!(held.nodes["n200"], next.nodes["n200"]);
        assert!(held.nodes["n3"].subnets.is_empty());
        assert_eq!(held.nodes["n4"], view([4]).nodes["n4"]);
    }
}
