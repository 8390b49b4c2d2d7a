//! STATUS: would an ADD succeed now, and are the pods that exist connected?

use super::{guarded, node, open_netlink, state_failure};
use crate::{
    Reservations,
    protocol::{Code, Failure, NetworkConfig, Version},
};

pub(super) fn status(config: &NetworkConfig) -> Result<(), Failure> {
    config.version.at_least(Version::V1_1_0, "STATUS")?;
    let node = node(&config.state).map_err(|failure| as_status(failure, Code::NotAvailable))?;
    if node.subnets.is_empty() {
        return Err(Failure::new(
            Code::NotAvailable,
            "this node has no subnet yet",
        ));
    }
    // Whoever flushed the guard has flushed the pods' routes too, or will soon.
    guarded(&mut open_netlink()?, &node, Code::LimitedConnectivity)?;
    let room = Reservations::open(&config.state)
        .and_then(|reservations| reservations.has_room(&node.subnets))
        .map_err(|error| as_status(state_failure(&error), Code::NotAvailable))?;
    if !room {
        return Err(Failure::new(
            Code::NotAvailable,
            "every address of the node's subnets is taken",
        ));
    }
    Ok(())
}

fn as_status(failure: Failure, code: Code) -> Failure {
    Failure { code, ..failure }
}
