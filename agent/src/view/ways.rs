//! Who is spoken to, and who is reached through a gateway.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use api::Topology;
use ipnet::IpNet;

use super::{Node, View};

/// How a node is reached that is not spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detour {
    /// The gateways that may be used, best first; never empty.
    pub ways: Vec<String>,
    /// The one that is.
    pub through: String,
}

impl View {
    /// The sites of all that take part, and their gateways.
    pub fn topology(&self) -> Topology<'_> {
        let members = self.nodes.iter().filter(|(_, node)| !node.revoked);
        let members = members.map(|(name, node)| (name.as_str(), node.site.as_deref()));
        Topology::new(&self.site_gateways, members)
    }

    /// As `me` uses it, passing over gateways that are `silent`, where there are others.
    pub fn seen_by<'a>(&'a self, me: &str, silent: &BTreeSet<String>) -> Cow<'a, Self> {
        if self.site_gateways.is_empty() {
            return Cow::Borrowed(self);
        }
        let topology = self.topology();
        let detour = |name: &String| {
            let ways = topology.ways(me, name);
            let through = ways.iter().find(|way| !silent.contains(**way)).or(ways.first())?;
            let ways = ways.iter().map(ToString::to_string).collect();
            Some((name.clone(), Detour { ways, through: (*through).to_owned() }))
        };
        let others = self.nodes.iter().filter(|(name, node)| *name != me && !node.revoked);
        let detours: BTreeMap<_, _> = others.filter_map(|(name, _)| detour(name)).collect();
        let mut behind: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, detour) in &detours {
            behind.entry(detour.through.clone()).or_default().push(name.clone());
        }
        Cow::Owned(Self { forwards: topology.is_gateway(me), detours, behind, ..self.clone() })
    }

    /// The nodes that `me` has a tunnel or another carrier to.
    pub fn spoken_to<'a>(&'a self, me: &'a str) -> impl Iterator<Item = (&'a String, &'a Node)> {
        let others = self.nodes.iter().filter(move |(name, node)| *name != me && !node.revoked);
        others.filter(|(name, _)| !self.detours.contains_key(*name))
    }

    /// Who hands on what is for `name`: itself, where it is spoken to.
    pub fn through<'a>(&'a self, name: &'a str) -> &'a str {
        self.detours.get(name).map_or(name, |detour| &detour.through)
    }

    /// The nodes behind `gateway`, as it is used.
    pub fn behind<'a>(&'a self, gateway: &'a str) -> impl Iterator<Item = &'a Node> {
        let names = self.behind.get(gateway).into_iter().flatten();
        names.filter_map(|name| self.nodes.get(name))
    }

    /// All that may be used.
    pub fn gateways(&self) -> BTreeSet<&str> {
        self.detours.values().flat_map(|detour| &detour.ways).map(String::as_str).collect()
    }

    /// Prefixes whose packets `gateway` may hand on to this node, used or not.
    pub fn handed_on_by<'a>(&'a self, gateway: &'a str) -> impl Iterator<Item = IpNet> + 'a {
        let may = move |name: &str| {
            self.detours
                .get(name)
                .is_some_and(|detour| detour.ways.iter().any(|way| way == gateway))
        };
        let nodes = self.nodes.iter().filter(move |(name, _)| may(name));
        let nodes = nodes.flat_map(|(_, node)| node.prefixes());
        let peers = self
            .peers
            .iter()
            .filter(move |(name, peer)| self.entry_of(name, peer).is_some_and(may));
        nodes.chain(peers.flat_map(|(_, peer)| peer.addresses.iter().copied()))
    }
}

impl Node {
    /// What it owns: subnets, the machine's own addresses, and what lies behind it.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> + '_ {
        let machine = self.addresses.iter().copied().map(IpNet::from);
        self.subnets.iter().copied().chain(machine).chain(self.announced.iter().copied())
    }
}
