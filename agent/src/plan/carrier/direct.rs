//! Plain routes, where two nodes share a link: nothing is added to a packet, and nothing hidden.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Carrier, Pair};
use crate::{
    plan::{Facts, Refusal, Target},
    view::View,
};

pub(super) struct Direct;

impl Carrier for Direct {
    /// By the peer's endpoint of the prefix's family, if no router lies between.
    fn target(&self, pair: &Pair<'_>, prefix: &IpNet) -> Result<Target, Refusal> {
        let same = |address: &IpAddr| address.is_ipv4() == prefix.addr().is_ipv4();
        let endpoints = pair.node.endpoints.iter().map(|endpoint| endpoint.ip()).filter(same);
        let mut links = endpoints.filter_map(|at| Some((at, pair.facts.on_link.get(&at)?)));
        let (gateway, device) = links
            .next()
            .ok_or_else(|| Refusal::NotOnLink { peer: pair.peer.to_owned(), prefix: *prefix })?;
        Ok(Target::Via { gateway, device: device.clone(), source: pair.source(prefix) })
    }

    fn mtu(&self, _: &View, facts: &Facts) -> u16 {
        facts.underlay.mtu
    }
}
