//! Who owns which addresses: nodes and plain peers alike, from the API or from an agent.
//!
//! The data path decides by the most specific prefix, and so does this.

use std::net::IpAddr;

use api::{MeshNode, MeshPeer, conditions};
use ipnet::IpNet;
use keys::PublicKey;
use serde::Serialize;

use crate::state::State;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Node,
    Peer,
}

/// One member of the mesh, with what is needed to reach it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub name: String,
    pub kind: Kind,
    pub subnets: Vec<IpNet>,
    /// What is reached through it.
    pub behind: Vec<IpNet>,
    pub endpoint: Option<String>,
    /// Where it stands, if it is said.
    pub site: Option<String>,
    /// The epoch its peers send with; plain peers have none.
    pub epoch: Option<u32>,
    pub fingerprint: Option<String>,
    pub mtu: Option<u16>,
    pub revoked: bool,
    pub ready: Option<bool>,
}

/// Everybody in the mesh.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members(pub Vec<Member>);

impl Members {
    pub fn from_resources(nodes: &[MeshNode], peers: &[MeshPeer]) -> Self {
        Self(nodes.iter().map(of_node).chain(peers.iter().map(of_peer)).collect())
    }

    /// As one agent sees them: itself with its own subnets, and its peers.
    pub fn from_agent(state: &State, own: &[IpNet]) -> Self {
        let myself = Member {
            name: state.node.clone(),
            kind: Kind::Node,
            subnets: own.to_vec(),
            behind: Vec::new(),
            endpoint: None,
            site: None,
            epoch: None,
            fingerprint: None,
            mtu: state.mtu,
            revoked: false,
            ready: None,
        };
        let peers = state.peers.iter().map(|peer| Member {
            name: peer.name.clone(),
            subnets: peer.subnets.clone(),
            endpoint: peer.endpoint.clone(),
            site: peer.site.clone(),
            epoch: peer.epoch,
            mtu: peer.mtu,
            ..myself.clone()
        });
        Self(std::iter::once(myself.clone()).chain(peers).collect())
    }

    pub fn named(&self, name: &str) -> Option<&Member> {
        self.0.iter().find(|member| member.name == name)
    }

    /// Whose address this is: the most specific prefix wins.
    pub fn owner_of(&self, address: IpAddr) -> Option<(&Member, IpNet)> {
        self.0
            .iter()
            .flat_map(|member| {
                member.subnets.iter().chain(&member.behind).map(move |net| (member, *net))
            })
            .filter(|(_, net)| net.contains(&address))
            .max_by_key(|(_, net)| net.prefix_len())
    }
}

impl Member {
    /// The member's own address in each family, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = self.subnets.iter().map(|net| api::first_host(*net)).collect();
        all.sort_by_key(IpAddr::is_ipv6);
        all.dedup_by_key(|address| address.is_ipv6());
        all
    }
}

fn of_node(node: &MeshNode) -> Member {
    let status = node.status.clone().unwrap_or_default();
    let current = status.public_keys.iter().find(|key| key.epoch == node.spec.key_epoch);
    Member {
        name: node.metadata.name.clone().unwrap_or_default(),
        kind: Kind::Node,
        subnets: prefixes(&node.spec.subnets),
        behind: prefixes(&node.spec.routed),
        endpoint: status.endpoints.first().cloned(),
        site: node.spec.site.clone(),
        epoch: Some(node.spec.key_epoch),
        fingerprint: current.map(|key| fingerprint(&key.public_key)),
        mtu: status.mtu,
        revoked: node.spec.revoked,
        ready: conditions::get(&status.conditions, "Ready").map(|c| c.is_true()),
    }
}

fn of_peer(peer: &MeshPeer) -> Member {
    let status = peer.status.clone().unwrap_or_default();
    Member {
        name: peer.metadata.name.clone().unwrap_or_default(),
        kind: Kind::Peer,
        subnets: prefixes(&peer.spec.addresses),
        behind: Vec::new(),
        endpoint: peer.spec.endpoint.clone(),
        site: None,
        epoch: None,
        fingerprint: Some(fingerprint(&peer.spec.public_key)),
        mtu: None,
        revoked: false,
        ready: conditions::get(&status.conditions, "Ready").map(|c| c.is_true()),
    }
}

/// The prefixes that make sense; what does not owns nothing.
pub fn prefixes(texts: &[String]) -> Vec<IpNet> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// The short form of a key, or `<malformed>` where it is none.
pub fn fingerprint(public_key: &str) -> String {
    match public_key.parse::<PublicKey>() {
        Ok(key) => key.fingerprint().to_string(),
        Err(_) => "<malformed>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn the_most_specific_prefix_owns_an_address() {
        let members = Members::from_resources(&fixture::nodes(), &[fixture::laptop()]);

        let owner = |address: &str| {
            members.owner_of(address.parse().unwrap()).map(|(member, _)| member.name.as_str())
        };
        assert_eq!(owner("10.42.1.9"), Some("node-1"));
        assert_eq!(owner("10.42.1.200"), Some("laptop"));
        assert_eq!(owner("fd42:0:0:2::9"), Some("node-2"));
        assert_eq!(owner("10.42.99.1"), None);
    }

    #[test]
    fn a_nodes_own_address_is_the_first_host_of_each_family() {
        let members = Members::from_resources(&fixture::nodes(), &[]);

        let addresses = members.named("node-1").unwrap().addresses();

        assert_eq!(addresses, ["10.42.1.1", "fd42:0:0:1::1"].map(|a| a.parse::<IpAddr>().unwrap()));
    }

    #[test]
    fn a_malformed_prefix_owns_nothing() {
        assert!(prefixes(&["10.42.1.0".into(), "everything".into()]).is_empty());
        assert_eq!(fingerprint("not a key"), "<malformed>");
    }
}
