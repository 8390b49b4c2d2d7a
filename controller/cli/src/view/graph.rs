//! `hawser graph`: who speaks with whom. The answers are `api::Topology`'s, as the agents have them.
//!
//! Up to 40 nodes each is drawn; of more, the sites alone.

mod svg;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use api::{Encryption, Mesh, MeshNode, Topology, conditions};
use serde::Serialize;

use crate::{
    args::Drawing,
    output::{Item, Output},
    text,
};

/// Above so many nodes, sites are drawn.
const NODES: usize = 40;
/// Nodes without a site stand together.
const NOWHERE: &str = "(no site)";

/// The mesh as it is drawn.
#[derive(Debug, Serialize)]
pub(crate) struct Graph {
    sites: Vec<Site>,
    links: Vec<Link>,
    /// Named as gateways of a site that they are not of.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    strangers: BTreeSet<(String, String)>,
}

#[derive(Debug, Serialize)]
struct Site {
    name: String,
    /// Best first; empty: every node speaks for itself.
    gateways: Vec<String>,
    nodes: Vec<Node>,
}

#[derive(Debug, Serialize)]
struct Node {
    name: String,
    ready: bool,
    subnet: Option<String>,
    /// Prefixes that are reached through it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    behind: Vec<String>,
}

/// Between two sites.
#[derive(Debug, Serialize)]
struct Link {
    from: String,
    to: String,
    /// Pairs of nodes that speak with each other.
    pairs: BTreeSet<(String, String)>,
    encryption: Encryption,
}

impl Graph {
    pub(crate) fn new(mesh: &Mesh, nodes: &[MeshNode]) -> Self {
        let members: Vec<_> = nodes.iter().filter(|node| !node.spec.revoked).collect();
        let name = |node: &MeshNode| node.metadata.name.clone().unwrap_or_default();
        let names: Vec<String> = members.iter().map(|node| name(node)).collect();
        let sites = members.iter().map(|node| node.spec.site.as_deref());
        let stand = names.iter().map(String::as_str).zip(sites);
        let topology = Topology::new(&mesh.spec.site_gateways, stand);
        let site_of = |node: &str| topology.site_of(node).map(str::to_owned);
        let strangers = Topology::strangers(&mesh.spec.site_gateways, site_of);
        let mut by_site: BTreeMap<Option<&str>, Vec<Node>> = BTreeMap::new();
        for (node, name) in members.iter().zip(&names) {
            by_site.entry(topology.site_of(name)).or_default().push(Node::of(node, name));
        }
        let links = links(mesh, &topology, &by_site);
        let sites = by_site.into_iter().map(|(site, nodes)| {
            let gateways = site.and_then(|site| topology.gateways().get(site));
            Site {
                name: site.unwrap_or(NOWHERE).to_owned(),
                gateways: gateways.into_iter().flatten().map(ToString::to_string).collect(),
                nodes,
            }
        });
        Self { sites: sites.collect(), links, strangers }
    }

    pub(crate) fn draw(&self, drawing: Drawing) -> Output {
        let text = match drawing {
            Drawing::Text => self.text(),
            Drawing::Dot => self.dot(),
            Drawing::Svg => svg::draw(self),
        };
        Output::screen("Graph", text, Item::new("graph/mesh", self))
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for site in &self.sites {
            let how = match site.gateways.as_slice() {
                [] => "each speaks for itself".to_owned(),
                gateways => format!("through {}", text::list(gateways)),
            };
            writeln!(out, "{}  {}, {how}", text::printable(&site.name), nodes(site.nodes.len()))
                .ok();
            for node in &site.nodes {
                let subnet = node.subnet.as_deref().unwrap_or("-");
                let ready = if node.ready { "" } else { "  not ready" };
                let gateway = if site.gateways.contains(&node.name) { "  gateway" } else { "" };
                let name = text::printable(&node.name);
                let behind = match node.behind.as_slice() {
                    [] => String::new(),
                    prefixes => format!("  before {}", text::list(prefixes)),
                };
                writeln!(out, "    {name}  {subnet}{gateway}{behind}{ready}").ok();
            }
        }
        for Link { from, to, pairs, encryption } in &self.links {
            let [from, to] = [from, to].map(|site| text::printable(site));
            writeln!(out, "{from} ── {to}  {} tunnels, encryption {encryption}", pairs.len()).ok();
        }
        for (node, site) in &self.strangers {
            let [node, site] = [node, site].map(|name| text::printable(name));
            writeln!(out, "! {node} is named as a gateway of {site} and is no node of it").ok();
        }
        if self.sites.is_empty() { "the mesh has no nodes yet\n".to_owned() } else { out }
    }

    fn is_small(&self) -> bool {
        self.sites.iter().map(|site| site.nodes.len()).sum::<usize>() <= NODES
    }

    fn dot(&self) -> String {
        let mut out = "graph mesh {\n  compound=true;\n  node [shape=box];\n".to_owned();
        for (place, site) in self.sites.iter().enumerate() {
            let label = quoted(&site.name);
            if !self.is_small() {
                let count = quoted(&format!("{}, {}", site.name, nodes(site.nodes.len())));
                writeln!(out, "  {label} [label={count}];").ok();
                continue;
            }
            writeln!(out, "  subgraph cluster_{place} {{\n    label={label};").ok();
            for node in &site.nodes {
                let bold = if site.gateways.contains(&node.name) { ",bold" } else { "" };
                let line = if node.ready { "solid" } else { "dashed" };
                writeln!(out, "    {} [style=\"{line}{bold}\"];", quoted(&node.name)).ok();
            }
            out.push_str("  }\n");
        }
        for Link { from, to, pairs, encryption } in &self.links {
            let colour = if *encryption == Encryption::None { " [color=red]" } else { "" };
            let ends: Vec<_> = if self.is_small() {
                pairs.iter().map(|(a, b)| (a, b)).collect()
            } else {
                vec![(from, to)]
            };
            for (a, b) in ends {
                writeln!(out, "  {} -- {}{colour};", quoted(a), quoted(b)).ok();
            }
        }
        out + "}\n"
    }
}

impl Node {
    fn of(node: &MeshNode, name: &str) -> Self {
        let conditions = node.status.as_ref().map(|status| status.conditions.as_slice());
        let ready = conditions::get(conditions.unwrap_or_default(), "Ready");
        Self {
            name: name.to_owned(),
            ready: ready.is_some_and(api::Condition::is_true),
            subnet: node.spec.subnets.first().cloned(),
            behind: node.spec.routed.clone(),
        }
    }
}

fn links(
    mesh: &Mesh,
    topology: &Topology<'_>,
    sites: &BTreeMap<Option<&str>, Vec<Node>>,
) -> Vec<Link> {
    let mut links = Vec::new();
    for (place, (from, of_one)) in sites.iter().enumerate() {
        for (to, of_other) in sites.iter().skip(place + 1) {
            let all = of_one.iter().flat_map(|a| of_other.iter().map(move |b| (&a.name, &b.name)));
            let speak = all.filter(|(a, b)| topology.ways(a, b).is_empty());
            links.push(Link {
                from: from.unwrap_or(NOWHERE).to_owned(),
                to: to.unwrap_or(NOWHERE).to_owned(),
                pairs: speak.map(|(a, b)| (a.clone(), b.clone())).collect(),
                encryption: mesh.spec.encryption_between(*from, *to),
            });
        }
    }
    links
}

fn nodes(count: usize) -> String {
    format!("{count} node{}", if count == 1 { "" } else { "s" })
}

/// As DOT takes a name: quotes and backslashes of others end nothing.
fn quoted(name: &str) -> String {
    let clean = text::printable(name).replace('"', "'").replace('\\', "/");
    format!("\"{clean}\"")
}

#[cfg(test)]
mod tests;
