//! DEL: the device first, then its addresses, so that none is given out while it still works.

use super::{kernel_failure, open_netlink, open_reservations, state_failure};
use crate::{
    Attachment, Reservation, Reservations,
    kernel::Netlink,
    protocol::{Failure, NetworkConfig},
};

/// Succeeds with nothing to do: DEL comes twice, without a namespace, without an ADD.
pub(super) fn del(config: &NetworkConfig, who: &Attachment) -> Result<(), Failure> {
    let mut netlink = open_netlink()?;
    if !config.state.exists() {
        return netlink.delete(&who.host_device()).map_err(kernel_failure);
    }
    let reservations = open_reservations(&config.state)?;
    match reservations.hold(who).map_err(|error| state_failure(&error))? {
        Some(held) if is_of_another_network(&held, config) => Ok(()),
        Some(held) => remove(&reservations, &mut netlink, who, held),
        None => netlink.delete(&who.host_device()).map_err(kernel_failure),
    }
}

/// Ends a held attachment.
pub(super) fn remove(
    reservations: &Reservations,
    netlink: &mut Netlink,
    who: &Attachment,
    held: Reservation,
) -> Result<(), Failure> {
    netlink.delete(&who.host_device()).map_err(kernel_failure)?;
    reservations.release(held).map_err(|error| state_failure(&error))
}

fn is_of_another_network(held: &Reservation, config: &NetworkConfig) -> bool {
    held.record.as_ref().is_some_and(|record| record.network != config.name)
}
