//! The data path's own frames in UDP, readable: the tunnel's device, routes and port, without keys.

use ipnet::IpNet;

use super::{Carrier, Pair, Tunnel};
use crate::{
    datapath::ClearPeer,
    plan::{Facts, Refusal, Target, peers::reachable},
    view::View,
};

pub(super) struct Frames;

impl Carrier for Frames {
    fn target(&self, pair: &Pair<'_>, prefix: &IpNet) -> Result<Target, Refusal> {
        match endpoint(pair) {
            Some(_) => Tunnel.target(pair, prefix),
            None => Err(Refusal::NoEndpoint(pair.peer.to_owned())),
        }
    }

    /// The device is the tunnel's, where others may be sealed to.
    fn mtu(&self, view: &View, facts: &Facts) -> u16 {
        Tunnel.mtu(view, facts)
    }
}

/// What the data path is told of a peer. One that is sealed to and still answers in clear may do so
/// from its machine's addresses: pods ask those through the tunnel.
pub(super) fn peer(pair: &Pair<'_>, send: bool) -> Option<ClearPeer> {
    let mut prefixes = pair.node.subnets.clone();
    prefixes.extend(&pair.node.announced);
    if !send {
        prefixes.extend(pair.machine());
    }
    Some(ClearPeer { endpoint: endpoint(pair)?, prefixes, send })
}

fn endpoint(pair: &Pair<'_>) -> Option<std::net::SocketAddr> {
    reachable(&pair.node.endpoints, pair.facts.underlay)
}
