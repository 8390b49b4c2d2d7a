//! A prefix that another node announces and in which this machine itself stands: two networks of the
//! same addresses. Here they mean the one that it stands in; guarded, it could reach nothing any more,
//! not even who announces the other.

use std::borrow::Cow;
use std::net::IpAddr;

use super::{Facts, Refusal};
use crate::view::View;

/// The view without such prefixes, and a word on each.
pub(super) fn without<'a>(view: &'a View, facts: &Facts) -> (Cow<'a, View>, Vec<Refusal>) {
    let underlay = [facts.underlay.v4.map(IpAddr::V4), facts.underlay.v6.map(IpAddr::V6)];
    let mut refusals = Vec::new();
    for (name, node) in view.nodes.iter().filter(|(name, _)| **name != facts.node) {
        for prefix in &node.announced {
            let here = underlay.iter().flatten().find(|address| prefix.contains(*address));
            refusals.extend(here.map(|address| Refusal::StandsThere {
                peer: name.clone(),
                prefix: *prefix,
                address: *address,
            }));
        }
    }
    if refusals.is_empty() {
        return (Cow::Borrowed(view), refusals);
    }
    let mut fewer = view.clone();
    for node in fewer.nodes.iter_mut().filter(|(name, _)| **name != facts.node).map(|(_, n)| n) {
        node.announced.retain(|prefix| !underlay.iter().flatten().any(|at| prefix.contains(at)));
    }
    (Cow::Owned(fewer), refusals)
}
