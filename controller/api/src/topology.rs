//! Who speaks with whom: everybody with everybody, or the nodes of a site with others through its
//! gateways. Pure, and the one place that answers it: agents plan by it, the CLI draws it.
//!
//! ```text
//!   site a, without gateways      site b, gateways g1 and g2
//!     a1 ───────┬────────────────▶ g1 ──── b1
//!     a2 ───────┤ ╲                │  ╳
//!     a3 ───────┘  ╲─ ─ ─ ─ ─ ─ ─▶ g2 ──── b2       g2 stands by
//! ```
//! Inside of a site everybody speaks with everybody. A packet passes at most the gateway of the site
//! that it leaves and the one of the site that it enters.

use std::collections::{BTreeMap, BTreeSet};

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The nodes through which a site is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteGateways {
    /// As MeshNode.spec.site says it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub site: String,
    /// Nodes of this site, best first: the first that answers is used, and a silent one is left
    /// within 2 seconds. Those that are not of the site, or were revoked, are passed over; where
    /// none is left, the site has no gateways.
    #[schemars(
        length(min = 1, max = 8),
        inner(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))
    )]
    #[x_kube(validation = Rule::new("self.all(n, self.exists_one(o, o == n))").message("gateways repeats a node: name each once"))]
    pub gateways: Vec<String>,
}

/// Who is where, and which gateways each site has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology<'a> {
    sites: BTreeMap<&'a str, &'a str>,
    gateways: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Topology<'a> {
    /// `members`: each node that takes part, and its site. Of two entries for one site the first counts.
    pub fn new(
        declared: &'a [SiteGateways],
        members: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Self {
        let sites: BTreeMap<_, _> =
            members.into_iter().filter_map(|(node, site)| Some((node, site?))).collect();
        let mut gateways: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for SiteGateways { site, gateways: named } in declared {
            let theirs = |node: &&str| sites.get(node) == Some(&site.as_str());
            let named: Vec<&str> = named.iter().map(String::as_str).filter(theirs).collect();
            if !named.is_empty() {
                gateways.entry(site).or_insert(named);
            }
        }
        Self { sites, gateways }
    }

    /// Through whom `me` reaches `other`, best first; empty: by itself.
    pub fn ways(&self, me: &str, other: &str) -> &[&'a str] {
        let [own, theirs] = [me, other].map(|node| self.sites.get(node).copied());
        if own.is_some() && own == theirs {
            return &[];
        }
        [(own, me), (theirs, other)]
            .into_iter()
            .filter_map(|(site, node)| Some((self.gateways.get(site?)?, node)))
            .find(|(gateways, node)| !gateways.contains(node))
            .map_or(&[], |(gateways, _)| gateways)
    }

    /// True if others are reached through this node, now or when another one falls silent.
    pub fn is_gateway(&self, node: &str) -> bool {
        self.gateways.values().any(|gateways| gateways.contains(&node))
    }

    pub fn site_of(&self, node: &str) -> Option<&'a str> {
        self.sites.get(node).copied()
    }

    /// The gateways of each site that has any.
    pub fn gateways(&self) -> &BTreeMap<&'a str, Vec<&'a str>> {
        &self.gateways
    }

    /// Named as gateways, and not of the site that they were named for.
    pub fn strangers(
        declared: &[SiteGateways],
        site_of: impl Fn(&str) -> Option<String>,
    ) -> BTreeSet<(String, String)> {
        let named =
            declared.iter().flat_map(|of| of.gateways.iter().map(move |node| (node, &of.site)));
        let strangers = named.filter(|(node, site)| site_of(node).as_ref() != Some(*site));
        strangers.map(|(node, site)| (node.clone(), site.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn of(site: &str, gateways: &[&str]) -> SiteGateways {
        let gateways = gateways.iter().map(|&node| node.to_owned()).collect();
        SiteGateways { site: site.to_owned(), gateways }
    }

    const MEMBERS: [(&str, Option<&str>); 8] = [
        ("a1", Some("a")),
        ("a2", Some("a")),
        ("b1", Some("b")),
        ("b2", Some("b")),
        ("b3", Some("b")),
        ("c1", Some("c")),
        ("c2", Some("c")),
        ("x", None),
    ];

    #[test]
    fn a_site_is_left_and_entered_by_its_gateways_and_inside_everybody_speaks_with_everybody() {
        let declared = [of("b", &["b2", "b1"]), of("c", &["c1"])];
        let topology = Topology::new(&declared, MEMBERS);

        for (me, other, ways) in [
            ("a1", "a2", &[][..]),
            ("a1", "b2", &[]),
            ("a1", "b1", &[]),
            ("a1", "b3", &["b2", "b1"]),
            ("b3", "a1", &["b2", "b1"]),
            ("b3", "b1", &[]),
            ("b3", "c2", &["b2", "b1"]),
            ("b1", "c2", &["c1"]),
            ("b1", "a1", &[]),
            ("c1", "b3", &["b2", "b1"]),
            ("x", "c2", &["c1"]),
            ("c2", "x", &["c1"]),
            ("x", "a1", &[]),
        ] {
            assert_eq!(topology.ways(me, other), ways, "{me} to {other}");
        }
        assert!(topology.is_gateway("b1") && !topology.is_gateway("b3"));
    }

    #[test]
    fn whoever_is_not_of_the_site_is_no_gateway_of_it_and_a_site_without_one_is_meshed() {
        let declared = [of("b", &["a1", "gone"]), of("c", &["c2"]), of("c", &["c1"])];
        let topology = Topology::new(&declared, MEMBERS);

        assert_eq!(topology.ways("a1", "b3"), [""; 0]);
        assert_eq!(topology.ways("a1", "c1"), ["c2"]);
        let site = |node: &str| topology.site_of(node).map(str::to_owned);
        let strangers = Topology::strangers(&declared, site);
        let pair = |node: &str| (node.to_owned(), "b".to_owned());
        assert_eq!(strangers, [pair("a1"), pair("gone")].into());
    }

    proptest! {
        #[test]
        fn every_packet_arrives_after_two_gateways_at_most_and_comes_from_whom_it_may(
            sites in vec(0..4_u8, 2..12), named in vec((0..4_u8, vec(0..12_usize, 1..3)), 0..4),
            choice in vec(0..8_usize, 4),
        ) {
            let nodes: Vec<String> = (0..sites.len()).map(|n| format!("n{n}")).collect();
            let names = ["", "a", "b", "c"];
            let declared: Vec<_> = named.iter().map(|(site, gateways)| SiteGateways {
                site: names[usize::from(*site)].to_owned(),
                gateways: gateways.iter().map(|n| format!("n{n}")).collect(),
            }).collect();
            let members = nodes.iter().zip(&sites).map(|(node, site)| {
                (node.as_str(), Some(names[usize::from(*site)]).filter(|site| !site.is_empty()))
            });
            let topology = Topology::new(&declared, members);
            for from in &nodes {
                for to in nodes.iter().filter(|to| *to != from) {
                    let (mut at, mut hops) = (from.as_str(), 0);
                    while at != to {
                        let ways = topology.ways(at, to);
                        let next = match ways { [] => to.as_str(), ways => ways[choice[hops] % ways.len()] };
                        prop_assert_eq!(topology.ways(at, next), [""; 0], "{} and {} speak", at, next);
                        prop_assert_eq!(topology.ways(next, at), [""; 0]);
                        if next != to || at != from {
                            let back = topology.ways(next, from);
                            prop_assert!(back.contains(&at) || (back.is_empty() && at == from));
                        }
                        (at, hops) = (next, hops + 1);
                        prop_assert!(hops <= 3);
                    }
                }
            }
        }
    }
}
