//! STATUS: would an ADD succeed now, and are the pods that exist connected?

use super::{guarded, node, open_netlink, open_reservations, reclaim, state_failure};
use crate::{
    NodeFile,
    kernel::Netlink,
    protocol::{Code, Failure, NetworkConfig, Version},
};

pub(super) fn status(config: &NetworkConfig) -> Result<(), Failure> {
    let (node, mut netlink) = ready(config)?;
    if has_room(config, &node, &mut netlink)
        .map_err(|failure| as_status(failure, Code::NotAvailable))?
    {
        return Ok(());
    }
    Err(Failure::new(Code::NotAvailable, "every address of the node's subnets is taken"))
}

/// Whether the node is in the mesh, behind its guard.
pub(super) fn ready(config: &NetworkConfig) -> Result<(NodeFile, Netlink), Failure> {
    config.version.at_least(Version::V1_1_0, "STATUS")?;
    let node = node(&config.state).map_err(|failure| as_status(failure, Code::NotAvailable))?;
    if node.subnets.is_empty() {
        return Err(Failure::new(Code::NotAvailable, "this node has no subnet yet"));
    }
    // Whoever flushed the guard has flushed the pods' routes too, or will soon.
    let mut netlink = open_netlink()?;
    guarded(&mut netlink, &node, Code::LimitedConnectivity)?;
    Ok((node, netlink))
}

/// Leftovers must not count: a runtime that is told "full" calls no ADD that would clear them.
fn has_room(
    config: &NetworkConfig,
    node: &NodeFile,
    netlink: &mut Netlink,
) -> Result<bool, Failure> {
    let reservations = open_reservations(&config.state)?;
    let room = || reservations.has_room(&node.subnets).map_err(|error| state_failure(&error));
    Ok(room()? || (reclaim(&reservations, netlink)? > 0 && room()?))
}

fn as_status(failure: Failure, code: Code) -> Failure {
    Failure { code, ..failure }
}
