//! A node that is deleted and made again at once is the same machine: its peers wait a moment for it
//! before they forget its tunnel, so that flows to its pods go on. Pure.
//!
//! ```text
//!   deleted ─▶ gone for GONE at most ─▶ forgotten
//!       └─▶ there again, without keys or subnets: for BACK at most ─▶ forgotten
//!             ├─▶ with a key and subnets: as it says now
//!             └─▶ revoked, or with other keys: as it says now, at once
//! ```
//! Nobody else gets its subnets meanwhile: they rest for longer.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::view::{Node, View};

/// Less than a revoked node may go on speaking.
const GONE: Duration = Duration::from_secs(1);
/// Its agent has to publish its keys, and the controller to find its subnets.
const BACK: Duration = Duration::from_secs(10);

/// Nodes whose deletion was seen, and when.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    since: BTreeMap<String, Instant>,
}

impl Lingering {
    /// Was seen to be deleted.
    pub(super) fn deleted(&mut self, name: String, now: Instant) {
        self.since.entry(name).or_insert(now);
    }

    /// `next`, with those of `last` that may come back; and when to look again.
    pub(super) fn keep(
        &mut self,
        last: &View,
        mut next: View,
        now: Instant,
    ) -> (View, Option<Instant>) {
        self.since.retain(|name, since| {
            let old = last.nodes.get(name).filter(|node| node.is_peer());
            let limit = old.and_then(|old| patience(old, next.nodes.get(name)));
            limit.is_some_and(|limit| now.saturating_duration_since(*since) < limit)
        });
        let taken = next.prefixes();
        let free = |net: &ipnet::IpNet| !taken.iter().any(|t| t.contains(net) || net.contains(t));
        let mut wake: Option<Instant> = None;
        for (name, since) in &self.since {
            let mut node = last.nodes[name].clone();
            let limit = patience(&node, next.nodes.get(name)).unwrap_or_default();
            wake = Some(wake.map_or(*since + limit, |wake| wake.min(*since + limit)));
            node.subnets.retain(free);
            node.announced.retain(free);
            next.nodes.insert(name.clone(), node);
        }
        (next, wake)
    }

    /// Those that are not to count as gone without a deletion.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.since.keys()
    }
}

/// How long to wait for it; none if what it says now counts.
fn patience(old: &Node, now: Option<&Node>) -> Option<Duration> {
    let Some(now) = now else { return Some(GONE) };
    let same = now.keys.is_empty() || now.keys.iter().any(|key| old.keys.contains(key));
    let complete = !now.keys.is_empty() && !now.subnets.is_empty();
    (same && !complete && !now.revoked).then_some(BACK)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use api::{Backend, Encryption};
    use keys::{KeyEpoch, PublicKey};

    use super::*;

    fn node(subnet: Option<&str>, key: Option<u8>) -> Node {
        Node {
            subnets: subnet.map(|subnet| subnet.parse().unwrap()).into_iter().collect(),
            addresses: vec![],
            announced: vec![],
            epoch: KeyEpoch(1),
            epochs: BTreeSet::new(),
            newest: None,
            keys: key
                .map(|byte| (KeyEpoch(1), PublicKey::from_bytes([byte; 32])))
                .into_iter()
                .collect(),
            endpoints: vec![],
            nat: None,
            bare: false,
            site: None,
            revoked: false,
            serves: BTreeMap::new(),
            tls: None,
            relays: Vec::new(),
        }
    }

    fn view(nodes: &[(&str, Node)]) -> View {
        View {
            pools: vec!["10.42.0.0/16".parse().unwrap()],
            backend: Backend::Wireguard,
            fallback: vec![],
            vxlan_shaped_port: None,
            relay: crate::view::Relay::Never,
            return_after: api::return_after(),
            encryption: Encryption::Required,
            site_encryption: vec![],
            site_gateways: vec![],
            detours: BTreeMap::new(),
            behind: BTreeMap::new(),
            forwards: false,
            allow_downgrade: false,
            sealed: BTreeSet::new(),
            mtu: None,
            nodes: nodes.iter().map(|(name, node)| ((*name).to_owned(), node.clone())).collect(),
            peers: BTreeMap::new(),
            revoked_keys: BTreeSet::new(),
            removing: false,
            max_age: None,
        }
    }

    fn before() -> Node {
        node(Some("10.42.1.0/24"), Some(7))
    }

    /// What is left of `a` so long after its deletion.
    fn after(seconds: u64, now: Option<Node>) -> Option<Node> {
        let (start, mut lingering) = (Instant::now(), Lingering::default());
        lingering.deleted("a".to_owned(), start);
        let nodes: Vec<_> = now.into_iter().map(|node| ("a", node)).collect();
        let last = view(&[("a", before())]);
        let (view, _) = lingering.keep(&last, view(&nodes), start + Duration::from_secs(seconds));
        view.nodes.get("a").cloned()
    }

    #[test]
    fn a_node_that_is_deleted_is_forgotten_within_a_second() {
        assert_eq!(after(0, None), Some(before()));
        assert_eq!(after(1, None), None);
    }

    #[test]
    fn a_node_that_is_made_again_keeps_its_tunnel_until_it_has_said_who_it_is() {
        let key_alone = node(None, Some(7));
        let whole = node(Some("10.42.1.0/24"), Some(7));

        assert_eq!(after(9, Some(node(None, None))), Some(before()));
        assert_eq!(after(9, Some(key_alone.clone())), Some(before()));
        assert_eq!(after(9, Some(whole.clone())), Some(whole));
        assert_eq!(after(10, Some(key_alone.clone())), Some(key_alone));
    }

    #[test]
    fn another_key_and_a_revocation_count_at_once() {
        let other = node(None, Some(8));
        let revoked = Node { revoked: true, ..node(None, None) };

        assert_eq!(after(0, Some(other.clone())), Some(other));
        assert_eq!(after(0, Some(revoked.clone())), Some(revoked));
    }

    #[test]
    fn a_subnet_that_somebody_else_has_by_now_stays_with_him() {
        let (start, mut lingering) = (Instant::now(), Lingering::default());
        lingering.deleted("a".to_owned(), start);
        let next = view(&[("b", node(Some("10.42.1.0/24"), Some(9)))]);

        let (view, wake) = lingering.keep(&view(&[("a", before())]), next, start);

        assert_eq!(view.nodes["a"].subnets, []);
        assert_eq!(wake, Some(start + GONE));
        assert_eq!(lingering.names().collect::<Vec<_>>(), ["a"]);
    }
}
