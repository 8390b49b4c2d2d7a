//! Prefixes behind a machine: which of those that are asked for the mesh carries, and why not the
//! others. Pure, and the one place that decides it: the gateway asks at the door, the controller
//! writes what comes of it, agents of a file ask for themselves.
//!
//! ```text
//! MeshNode.spec.prefixes ─▶ announced() ─▶ spec.routed: every node's routes, guard, allowed sources
//!                                └─▶ refused: the condition PrefixesRouted, or a machine at the door
//! ```
//! Who came first keeps a prefix: what is routed stays so, whatever others ask for or publish later,
//! until its node asks for it no more or the mesh itself takes it (a pool, a Service range, a node's
//! subnet, a plain peer).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use kube::ResourceExt;

use crate::{
    BadPrefix, MeshNode, MeshNodeSpec, MeshPeerSpec, MeshSpec, is_unicast, overlap, parse_prefix,
};

/// A range that the mesh has itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub prefix: IpNet,
    /// Such as `a pool of Mesh default`.
    pub by: String,
}

/// A node, as far as prefixes are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcer {
    pub name: String,
    /// When its object was made: of those that ask at once the oldest is heard first, then by name.
    pub since: String,
    /// `spec.prefixes`.
    pub asked: Vec<String>,
    /// `spec.routed`.
    pub routed: Vec<String>,
    pub subnets: Vec<IpNet>,
    /// The machine's own addresses.
    pub machine: Vec<IpAddr>,
    /// Where its tunnel port is reached, as it says itself.
    pub endpoints: Vec<IpAddr>,
}

/// What comes of one node's prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// In the order in which they were asked for, each once.
    pub routed: Vec<IpNet>,
    pub refused: Vec<NotRouted>,
}

/// Why a prefix is not carried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRouted {
    #[error(transparent)]
    Malformed(#[from] BadPrefix),
    #[error("{0} is the whole address space: announce what lies behind this machine")]
    Everything(IpNet),
    #[error("{0} is loopback, link-local, multicast, unspecified or IPv4-mapped space")]
    NotUnicast(IpNet),
    #[error(
        "{prefix} overlaps {with}, which is {by}: announce one that does not, or free that one"
    )]
    Overlap { prefix: IpNet, with: IpNet, by: String },
    #[error(
        "{0} holds every endpoint of this very node, which nobody could call any more: give it one \
         outside (--endpoint of its agent), or announce a smaller prefix"
    )]
    OwnEndpoint(IpNet),
}

impl Announcer {
    pub fn new(node: &MeshNode) -> Self {
        let created = node.metadata.creation_timestamp.as_ref();
        let since = created.map(|at| at.0.to_string()).unwrap_or_default();
        let endpoints = node.status.as_ref().map_or(&[][..], |status| &status.endpoints);
        Self { since, ..Self::of(&node.name_any(), &node.spec, endpoints) }
    }

    /// One whose age nobody knows.
    pub fn of(name: &str, spec: &MeshNodeSpec, endpoints: &[String]) -> Self {
        let endpoints = endpoints.iter().filter_map(|text| text.parse::<SocketAddr>().ok());
        Self {
            name: name.to_owned(),
            since: String::new(),
            asked: spec.prefixes.clone(),
            routed: spec.routed.clone(),
            subnets: spec.subnets.iter().filter_map(|net| parse_prefix(net).ok()).collect(),
            machine: spec.addresses.iter().filter_map(|at| at.parse().ok()).collect(),
            endpoints: endpoints.map(|at| at.ip().to_canonical()).collect(),
        }
    }
}

/// The ranges of a mesh and of its plain peers (by name). What cannot be read takes nothing.
pub fn taken<'a>(
    mesh: Option<&MeshSpec>,
    peers: impl IntoIterator<Item = (&'a str, &'a MeshPeerSpec)>,
) -> Vec<Taken> {
    let ranges = mesh.into_iter().flat_map(|mesh| {
        let pools = mesh.pools.iter().map(|pool| (&pool.cidr, "a pool of Mesh default"));
        pools.chain(mesh.service_cidrs.iter().map(|cidr| (cidr, "a Service range of Mesh default")))
    });
    let ranges = ranges.map(|(text, by)| (text, by.to_owned()));
    let peers = peers.into_iter().flat_map(|(name, peer)| {
        peer.addresses.iter().map(move |text| (text, format!("MeshPeer {name}'s")))
    });
    let read = |(text, by): (&String, String)| {
        Some(Taken { prefix: text.parse::<IpNet>().ok()?.trunc(), by })
    };
    ranges.chain(peers).filter_map(read).collect()
}

/// The verdict over every node that asks for a prefix, by its name.
pub fn announced(taken: &[Taken], nodes: &[Announcer]) -> BTreeMap<String, Announced> {
    let mut wishes: Vec<Wish<'_>> = nodes.iter().flat_map(wishes_of).collect();
    wishes.sort_by_key(|wish| (wish.new, &wish.node.since, &wish.node.name, wish.place));
    let mut given: Vec<(IpNet, &str)> = Vec::new();
    let mut verdicts: BTreeMap<String, Vec<(usize, Verdict)>> = BTreeMap::new();
    for wish in &wishes {
        let verdict = wish.judge(taken, nodes, &given);
        if let Ok(prefix) = &verdict {
            given.push((*prefix, &wish.node.name));
        }
        verdicts.entry(wish.node.name.clone()).or_default().push((wish.place, verdict));
    }
    verdicts.into_iter().map(|(name, verdicts)| (name, in_order(verdicts))).collect()
}

/// The prefix, or why it is not routed.
type Verdict = Result<IpNet, NotRouted>;

/// One prefix that one node asks for.
struct Wish<'a> {
    node: &'a Announcer,
    place: usize,
    text: &'a str,
    /// It is not routed yet.
    new: bool,
}

fn wishes_of(node: &Announcer) -> impl Iterator<Item = Wish<'_>> {
    let all = node.asked.iter().enumerate();
    let once = all.filter(|(place, text)| !node.asked[..*place].contains(text));
    once.map(|(place, text)| Wish { node, place, text, new: !node.routed.contains(text) })
}

fn in_order(mut verdicts: Vec<(usize, Verdict)>) -> Announced {
    verdicts.sort_by_key(|(place, _)| *place);
    let mut out = Announced::default();
    for (_, verdict) in verdicts {
        match verdict {
            Ok(prefix) => out.routed.push(prefix),
            Err(why) => out.refused.push(why),
        }
    }
    out
}

impl Wish<'_> {
    fn judge(&self, taken: &[Taken], nodes: &[Announcer], given: &[(IpNet, &str)]) -> Verdict {
        let prefix = parse_prefix(self.text)?;
        if prefix.prefix_len() == 0 {
            return Err(NotRouted::Everything(prefix));
        }
        if !is_unicast(&prefix) {
            return Err(NotRouted::NotUnicast(prefix));
        }
        let mine = mesh_has(&prefix, taken, nodes).or_else(|| self.machine_has(&prefix, nodes));
        let others = || {
            let other =
                |(net, name): &&(IpNet, &str)| *name != self.node.name && overlap(net, &prefix);
            let found = given.iter().find(other);
            found.map(|(net, name)| (*net, format!("announced by node {name}")))
        };
        if let Some((with, by)) = mine.or_else(others) {
            return Err(NotRouted::Overlap { prefix, with, by });
        }
        let own = &self.node.endpoints;
        if !own.is_empty() && own.iter().all(|at| prefix.contains(at)) {
            return Err(NotRouted::OwnEndpoint(prefix));
        }
        Ok(prefix)
    }

    /// Addresses and endpoints are nodes' own words: they keep a new prefix out, and take none away
    /// that another node has.
    fn machine_has(&self, prefix: &IpNet, nodes: &[Announcer]) -> Option<(IpNet, String)> {
        nodes.iter().filter(|node| self.new || node.name == self.node.name).find_map(|node| {
            let machine = node.machine.iter().map(|at| (at, "address"));
            let others = node.endpoints.iter().filter(|_| node.name != self.node.name);
            let mut all = machine.chain(others.map(|at| (at, "endpoint")));
            let (at, what) = all.find(|(at, _)| prefix.contains(*at))?;
            Some((IpNet::from(*at), format!("node {}'s {what}", node.name)))
        })
    }
}

/// The mesh's own ranges come before everybody's prefixes, whenever they came.
fn mesh_has(prefix: &IpNet, taken: &[Taken], nodes: &[Announcer]) -> Option<(IpNet, String)> {
    if let Some(taken) = taken.iter().find(|taken| overlap(&taken.prefix, prefix)) {
        return Some((taken.prefix, taken.by.clone()));
    }
    nodes.iter().find_map(|node| {
        let subnet = node.subnets.iter().find(|subnet| overlap(subnet, prefix))?;
        Some((*subnet, format!("node {}'s subnet", node.name)))
    })
}

#[cfg(test)]
mod tests;
