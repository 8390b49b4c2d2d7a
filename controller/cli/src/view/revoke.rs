//! What it means to revoke a node, before it is done.

use api::{MeshNode, MeshPeer};
use ipnet::IpNet;
use serde::Serialize;

use crate::{
    member::prefixes,
    output::{Item, Output},
    text,
    view::nodes::name_of,
};

/// Everything that a revocation breaks.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    name: String,
    /// No packet reaches these any more; they rest before somebody else gets them.
    subnets: Vec<String>,
    /// Nodes that cut their session with it.
    peers: usize,
    /// Plain peers whose addresses lie in its subnets.
    plain_peers: Vec<String>,
    /// It is the last one of its site.
    last_of_site: Option<String>,
    already: bool,
}

impl Plan {
    pub fn new(node: &MeshNode, nodes: &[MeshNode], peers: &[MeshPeer]) -> Self {
        let name = name_of(node).to_owned();
        let others: Vec<&MeshNode> =
            nodes.iter().filter(|other| name_of(other) != name && !other.spec.revoked).collect();
        let own = prefixes(&node.spec.subnets);
        let inside = |peer: &&MeshPeer| {
            let addresses = prefixes(&peer.spec.addresses);
            addresses.iter().any(|address: &IpNet| own.iter().any(|net| net.contains(address)))
        };
        let site = node.spec.site.clone();
        let alone = !others.iter().any(|other| other.spec.site == site);
        Self {
            subnets: node.spec.subnets.clone(),
            peers: others.len(),
            plain_peers: (peers.iter().filter(inside))
                .filter_map(|peer| peer.metadata.name.clone())
                .collect(),
            last_of_site: site.filter(|_| alone),
            already: node.spec.revoked,
            name,
        }
    }

    pub fn is_done(&self) -> bool {
        self.already
    }

    pub fn question(&self) -> String {
        format!("Revoke {} for ever", text::printable(&self.name))
    }

    pub fn text(&self) -> String {
        let subnets = text::list(&self.subnets);
        let mut lines = vec![
            format!("Revoke {}:", text::printable(&self.name)),
            format!(
                "  {} nodes cut their session with it and refuse its keys for ever",
                self.peers
            ),
            format!("  its pods lose the mesh; {subnets} rest before another node gets them"),
            "  its credential for the API is withdrawn".to_owned(),
        ];
        if !self.plain_peers.is_empty() {
            lines.push(format!(
                "  plain peers inside its subnets: {}",
                text::list(&self.plain_peers)
            ));
        }
        if let Some(site) = &self.last_of_site {
            lines.push(format!("  it is the last node of site {}", text::cell(site)));
        }
        lines.push("There is no way back: the machine joins again only as a new node.".to_owned());
        lines.join("\n")
    }

    pub fn output(&self, verb: &str) -> Output {
        let text = format!("meshnode/{} {verb}\n", self.name);
        Output::screen("Revocation", text, Item::new(format!("meshnode/{}", self.name), self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn it_says_what_will_break() {
        let nodes = fixture::nodes();

        let plan = Plan::new(&nodes[0], &nodes, &[fixture::laptop()]);

        insta::assert_snapshot!(plan.text(), @r"
        Revoke node-1:
          2 nodes cut their session with it and refuse its keys for ever
          its pods lose the mesh; 10.42.1.0/24,fd42:0:0:1::/64 rest before another node gets them
          its credential for the API is withdrawn
          plain peers inside its subnets: laptop
          it is the last node of site aws
        There is no way back: the machine joins again only as a new node.
        ");
    }
}
