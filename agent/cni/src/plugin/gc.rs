//! GC: the runtime names what is alive on this network, all else is removed.

use std::collections::HashSet;

use super::{open_netlink, open_reservations, reclaim, remove, state_failure};
use crate::{
    Attachment, Reservations,
    kernel::Netlink,
    protocol::{Code, Failure, NetworkConfig, Version},
};

/// Goes on after an error, so that one stuck device does not keep all others; tells the first.
pub(super) fn gc(config: &NetworkConfig) -> Result<(), Failure> {
    config.version.at_least(Version::V1_1_0, "GC")?;
    let Some(valid) = &config.valid else {
        let msg = "GC needs cni.dev/valid-attachments; nothing was removed";
        return Err(Failure::new(Code::InvalidConfig, msg));
    };
    let reservations = open_reservations(&config.state)?;
    let mut netlink = open_netlink()?;
    let valid: HashSet<&Attachment> = valid.iter().collect();

    let mut outcome = Ok(());
    for record in reservations.records().map_err(|error| state_failure(&error))? {
        let who = record.attachment();
        if record.network == config.name && !valid.contains(&who) {
            outcome = outcome.and(collect(&reservations, &mut netlink, &who));
        }
    }
    outcome.and(reclaim(&reservations, &mut netlink).map(|_| ()))
}

fn collect(
    reservations: &Reservations,
    netlink: &mut Netlink,
    who: &Attachment,
) -> Result<(), Failure> {
    match reservations.try_hold(who).map_err(|error| state_failure(&error))? {
        Some(held) => remove::remove(reservations, netlink, who, held),
        None => Ok(()),
    }
}
