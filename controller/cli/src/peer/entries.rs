//! Through which nodes a plain peer comes in. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use api::{Mesh, MeshNode, conditions, published};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use keys::PublicKey;

use crate::{exit::Failure, text, view::nodes::name_of};

/// Every entry is one more configuration to keep.
const BY_DEFAULT: usize = 3;
/// As many as the schema takes.
const MOST: usize = 8;

/// A node that a peer calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub key: PublicKey,
    pub endpoint: SocketAddr,
    /// The largest packet that fits through its tunnels.
    pub mtu: Option<u16>,
}

/// The nodes named in `via`, in this order; else those with a public endpoint, by name.
pub fn choose(via: &[String], mesh: &Mesh, nodes: &[MeshNode]) -> Result<Vec<Entry>, Failure> {
    let ranges = mesh.spec.pools.iter().map(|pool| &pool.cidr).chain(&mesh.spec.service_cidrs);
    let ranges: Vec<IpNet> = ranges.filter_map(|text| text.parse().ok()).collect();
    if via.is_empty() { by_default(nodes, &ranges) } else { named(via, nodes, &ranges) }
}

fn named(via: &[String], nodes: &[MeshNode], ranges: &[IpNet]) -> Result<Vec<Entry>, Failure> {
    let twice = via.iter().enumerate().find(|(at, name)| via[..*at].contains(name));
    if let Some((_, name)) = twice {
        return Err(Failure::usage(format!("--via names {name:?} twice")));
    }
    if via.len() > MOST {
        return Err(Failure::usage(format!("--via takes at most {MOST} nodes")));
    }
    via.iter().map(|name| one(name, nodes, ranges)).collect()
}

fn one(name: &str, nodes: &[MeshNode], ranges: &[IpNet]) -> Result<Entry, Failure> {
    let Some(node) = nodes.iter().find(|node| name_of(node) == name) else {
        let known = text::list(nodes.iter().take(20).map(name_of));
        return Err(Failure::failed(format!("--via: no node is named {name:?}"))
            .check(format!("the nodes are {known}")));
    };
    if node.spec.revoked {
        return Err(Failure::failed(format!("--via: {name} is revoked")).check("hawser nodes"));
    }
    entry(node, ranges).ok_or_else(|| {
        Failure::failed(format!("--via: {name} has published no key or no endpoint yet"))
            .check(format!("does its agent run? hawser nodes show {name}"))
    })
}

fn by_default(nodes: &[MeshNode], ranges: &[IpNet]) -> Result<Vec<Entry>, Failure> {
    let fit = nodes.iter().filter(|node| !node.spec.revoked && !is_not_ready(node));
    let mut entries: Vec<Entry> = fit.filter_map(|node| entry(node, ranges)).collect();
    let some = text::list(entries.iter().take(5).map(|entry| &entry.name));
    let private = entries.len();
    entries.retain(|entry| is_public(entry.endpoint.ip()));
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries.truncate(BY_DEFAULT);
    match (entries.is_empty(), private) {
        (false, _) => Ok(entries),
        (true, 0) => Err(Failure::failed("no node is ready that a peer could call")
            .check("do the agents run? hawser nodes -o wide")),
        (true, _) => Err(Failure::failed("no node has a public endpoint that a peer could call")
            .check(format!(
                "which of {some} does its network reach? name them with --via NODE[,NODE]"
            ))),
    }
}

fn is_not_ready(node: &MeshNode) -> bool {
    let status = node.status.as_ref();
    let ready = status.and_then(|status| conditions::get(&status.conditions, "Ready"));
    ready.is_some_and(|condition| !condition.is_true())
}

fn entry(node: &MeshNode, ranges: &[IpNet]) -> Option<Entry> {
    let status = node.status.as_ref()?;
    let (keys, _) = published::public_keys(&status.public_keys);
    let (_, key) = keys.into_iter().find(|(epoch, _)| epoch.0 == node.spec.key_epoch)?;
    let usable = status.endpoints.iter().filter_map(|e| published::endpoint(e, ranges).ok());
    let usable: Vec<SocketAddr> = usable.collect();
    let public = usable.iter().find(|endpoint| is_public(endpoint.ip()));
    let endpoint = *public.or(usable.first())?;
    Some(Entry { name: name_of(node).to_owned(), key, endpoint, mtu: status.mtu })
}

/// Whether a machine anywhere could have a route to it.
fn is_public(address: IpAddr) -> bool {
    /// Shared between a carrier's customers (RFC 6598).
    const SHARED: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
    /// All that is given out (RFC 4291, section 2.4).
    const GLOBAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
    match address {
        IpAddr::V4(a) => {
            let local = a.is_private() || a.is_loopback() || a.is_link_local();
            !(local || a.is_unspecified() || a.is_multicast() || SHARED.contains(&a))
        }
        IpAddr::V6(a) => GLOBAL.contains(&a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    /// node-1 and node-2 with these endpoints; node-3 is new and has none.
    fn nodes(endpoints: [&[&str]; 2]) -> Vec<MeshNode> {
        let mut nodes = fixture::nodes();
        for (node, endpoints) in nodes.iter_mut().zip(endpoints) {
            let status = node.status.as_mut().unwrap();
            status.endpoints = endpoints.iter().map(|&text| text.to_owned()).collect();
        }
        nodes
    }

    fn names(entries: Result<Vec<Entry>, Failure>) -> Vec<String> {
        entries.unwrap().into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn by_default_the_nodes_with_a_public_endpoint_are_called() {
        let nodes = nodes([&["10.0.0.1:51820"], &["10.0.0.2:51820", "203.0.113.2:51820"]]);

        let entries = choose(&[], &fixture::mesh(), &nodes).unwrap();

        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].endpoint.to_string(), "203.0.113.2:51820");
        assert_eq!(entries[0].key.to_string(), fixture::key(2));
    }

    #[test]
    fn without_one_the_operator_is_asked_to_choose() {
        let private = ["100.64.9.9:1", "[fd00::1]:1", "169.254.1.1:1", "192.168.1.1:51820"];
        for endpoint in private {
            let nodes = nodes([&["10.0.0.1:51820"], &[endpoint]]);

            let failure = choose(&[], &fixture::mesh(), &nodes).unwrap_err().to_string();

            assert!(failure.contains("no node has a public endpoint"), "{failure}");
            assert!(failure.contains("node-1") && failure.contains("--via"), "{failure}");
        }
        let failure = choose(&[], &fixture::mesh(), &[]).unwrap_err().to_string();
        assert!(failure.contains("no node is ready"), "{failure}");
    }

    #[test]
    fn those_that_are_named_are_called_in_their_order() {
        let nodes = nodes([&["10.0.0.1:51820"], &["[2001:db8::2]:51820"]]);
        let via = ["node-2".to_owned(), "node-1".to_owned()];

        assert_eq!(names(choose(&via, &fixture::mesh(), &nodes)), via);
    }

    #[test]
    fn a_node_that_cannot_be_called_is_refused_by_name() {
        let mut nodes = nodes([&["10.0.0.1:51820"], &["10.42.7.7:51820"]]);
        nodes[0].spec.revoked = true;
        let why = |via: &[&str]| {
            let via: Vec<String> = via.iter().map(|&name| name.to_owned()).collect();
            choose(&via, &fixture::mesh(), &nodes).unwrap_err().to_string()
        };

        assert!(why(&["node-1"]).contains("node-1 is revoked"));
        assert!(why(&["node-2"]).contains("no endpoint"), "it lies inside the mesh");
        assert!(why(&["node-3"]).contains("no key"));
        assert!(why(&["nod-1"]).contains("the nodes are node-1,node-2,node-3"));
        assert!(why(&["node-9", "node-9"]).contains("twice"));
    }
}
