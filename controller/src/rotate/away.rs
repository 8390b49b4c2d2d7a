//! Who is away: a node that nobody of the majority has a tunnel to.
//!
//! Nothing in the API says that a node is dead: a status changes only when its agent writes. But
//! its peers notice. Two nodes are connected unless one of them says that it has no tunnel to the
//! other. If one connected part holds more than half of the nodes, everybody outside of it is away;
//! else nobody is, and whoever waits goes on waiting: of two halves neither may decide.

use std::collections::{BTreeMap, BTreeSet};

use super::{Node, World};

/// The started nodes that are away.
pub fn away(world: &World) -> BTreeSet<String> {
    let nodes: BTreeMap<&String, &Node> =
        world.nodes.iter().filter(|(_, node)| node.has_started()).collect();
    if nodes.values().all(|node| node.unreachable.is_empty()) {
        return BTreeSet::new();
    }
    let apart = apart(&nodes);
    let mut left: BTreeSet<&String> = nodes.keys().copied().collect();
    while let Some(first) = left.pop_first() {
        let part = part(first, &mut left, &apart);
        if part.len() * 2 > nodes.len() {
            let outside = nodes.keys().filter(|name| !part.contains(*name));
            return outside.map(|name| (*name).clone()).collect();
        }
    }
    BTreeSet::new()
}

type Apart<'a> = BTreeMap<&'a String, BTreeSet<&'a String>>;

/// Pairs without a tunnel, both ways.
fn apart<'a>(nodes: &BTreeMap<&'a String, &'a Node>) -> Apart<'a> {
    let mut apart = Apart::new();
    for (name, node) in nodes {
        for other in &node.unreachable {
            apart.entry(name).or_default().insert(other);
            apart.entry(other).or_default().insert(name);
        }
    }
    apart
}

/// The connected part around `first`, taken out of `left`. Each node is looked at once, and each
/// pair that is apart twice.
fn part<'a>(
    first: &'a String,
    left: &mut BTreeSet<&'a String>,
    apart: &Apart<'a>,
) -> BTreeSet<&'a String> {
    let none = BTreeSet::new();
    let mut part = BTreeSet::from([first]);
    let mut open = vec![first];
    while let Some(node) = open.pop() {
        let without = apart.get(node).unwrap_or(&none);
        let (near, far): (Vec<_>, Vec<_>) =
            std::mem::take(left).into_iter().partition(|other| !without.contains(other));
        left.extend(far);
        part.extend(&near);
        open.extend(near);
    }
    part
}
