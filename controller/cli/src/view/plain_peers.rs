//! `hawser peer list`: the machines that speak plain WireGuard, and through which node each comes.

use api::{MeshNode, MeshPeer};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    output::{Item, Output, Table},
    text::{self, NONE},
    view::{nodes, or},
};

const COLUMNS: &[&str] = &["NAME", "ADDRESS", "VIA", "AGE", "ENTRIES", "ENDPOINT", "PUBLIC-KEY"];
const NARROW: usize = 4;

/// A peer in JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Peer<'a> {
    name: &'a str,
    addresses: &'a [String],
    /// The entry that it called last; null: none yet.
    via: Option<&'a str>,
    /// Empty: it speaks to every node itself.
    entries: &'a [String],
    endpoint: Option<&'a str>,
    public_key: &'a str,
    created: Option<Timestamp>,
}

/// One row a peer.
pub fn list(peers: &[MeshPeer], nodes: &[MeshNode], now: Timestamp) -> Output {
    let mut table = Table::new(COLUMNS, NARROW, "no peers; make one: hawser peer create NAME");
    let mut items = Vec::new();
    for peer in peers {
        let created = peer.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let (spec, via) = (&peer.spec, via(peer, nodes));
        let addresses = spec
            .addresses
            .iter()
            .map(|net| net.strip_suffix("/32").or(net.strip_suffix("/128")).unwrap_or(net));
        table.push(vec![
            name_of(peer).to_owned(),
            text::list(addresses),
            via.map_or_else(|| never(peer).to_owned(), str::to_owned),
            text::age(created, now),
            text::list(&spec.entries),
            or(spec.endpoint.as_ref(), NONE),
            spec.public_key.clone(),
        ]);
        let object = Peer {
            name: name_of(peer),
            addresses: &spec.addresses,
            via,
            entries: &spec.entries,
            endpoint: spec.endpoint.as_deref(),
            public_key: &spec.public_key,
            created,
        };
        items.push(Item::new(format!("meshpeer/{}", name_of(peer)), &object));
    }
    Output::list("MeshPeer", table, items)
}

pub fn name_of(peer: &MeshPeer) -> &str {
    peer.metadata.name.as_deref().unwrap_or_default()
}

/// The entry that it called last, by the nodes' own word.
fn via<'a>(peer: &MeshPeer, nodes: &'a [MeshNode]) -> Option<&'a str> {
    let entries = peer.spec.entries.iter().rev();
    let members = entries.filter_map(|entry| nodes.iter().find(|n| nodes::name_of(n) == *entry));
    let turns = members.filter(|node| !node.spec.revoked).filter_map(|node| {
        let served = node.status.as_ref()?.serves.iter().find(|s| s.peer == name_of(peer))?;
        Some((served.turn, nodes::name_of(node)))
    });
    turns.max_by_key(|(turn, _)| *turn).map(|(_, name)| name)
}

fn never(peer: &MeshPeer) -> &'static str {
    if peer.spec.entries.is_empty() { "all" } else { "never" }
}

#[cfg(test)]
mod tests {
    use api::Served;

    use super::*;
    use crate::{args::Format, fixture};

    #[test]
    fn a_peer_says_through_which_node_it_came_last() {
        let direct = fixture::laptop();
        let mut phone = fixture::laptop();
        phone.metadata.name = Some("phone".into());
        phone.spec.entries = vec!["node-1".into(), "node-2".into()];
        phone.spec.addresses = vec!["10.42.255.2/32".into(), "fd42:0:0:ffff::2/128".into()];
        let mut nodes = fixture::nodes();
        let row = |nodes: &[MeshNode]| {
            list(&[direct.clone(), phone.clone()], nodes, fixture::now()).render(Format::Table)
        };
        assert!(row(&nodes).contains("never"), "{}", row(&nodes));

        for (node, turn) in nodes.iter_mut().zip([1, 2]) {
            let served = Served { peer: "phone".into(), turn };
            node.status.as_mut().unwrap().serves = vec![served];
        }

        insta::assert_snapshot!(row(&nodes), @r"
        NAME    ADDRESS                       VIA     AGE
        laptop  10.42.1.200                   all     3d4h
        phone   10.42.255.2,fd42:0:0:ffff::2  node-2  3d4h
        ");
    }
}
