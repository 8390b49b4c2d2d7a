//! CHECK: is everything that ADD made still as it was?

use std::path::Path;

use super::{guarded, kernel_failure, node, open_netlink, open_netns};
use crate::{
    Attachment, PodRecord, Reservations,
    kernel::Pair,
    protocol::{Code, Failure, NetworkConfig, PrevResult, Version},
};

pub(super) fn check(config: &NetworkConfig, who: &Attachment, netns: &Path) -> Result<(), Failure> {
    config.version.at_least(Version::V0_4_0, "CHECK")?;
    let Some(prev) = &config.prev_result else {
        return Err(Failure::new(Code::InvalidConfig, "CHECK needs the prevResult of ADD"));
    };
    let pod = open_netns(netns)?;
    let record = record_of(config, who)?;
    let mut netlink = open_netlink()?;
    let pair = Pair {
        host_device: &record.host_device,
        ifname: &who.ifname,
        macs: who.macs(),
        mtu: 0,
        addresses: &record.addresses,
    };
    // A later plugin of the chain may have taken our default routes away; then it told so.
    let routes = prev.routes.iter().any(|route| route.dst.prefix_len() == 0);
    let mut drift = strangers(prev, &record);
    drift.extend(pair.drift(&mut netlink, &pod, routes).map_err(kernel_failure)?);
    if !drift.is_empty() {
        return Err(Failure::new(Code::Drift, drift.join("; ")));
    }
    guarded(&mut netlink, &node(&config.state)?, Code::LimitedConnectivity)
}

fn record_of(config: &NetworkConfig, who: &Attachment) -> Result<PodRecord, Failure> {
    let records = Reservations::list(&config.state)
        .map_err(|error| Failure::because(Code::Io, "reading the reservations", &error))?;
    let is_it = |record: &PodRecord| record.attachment() == *who && record.network == config.name;
    records.into_iter().find(is_it).ok_or_else(|| {
        let Attachment { container_id, ifname } = who;
        let msg = format!("no address is reserved for {ifname} of container {container_id}");
        Failure::new(Code::UnknownContainer, msg)
    })
}

/// Addresses of our interface in `prev` that were not given by us.
fn strangers(prev: &PrevResult, record: &PodRecord) -> Vec<String> {
    let is_ours = |index: Option<usize>| {
        let interface = index.and_then(|index| prev.interfaces.get(index));
        interface.is_some_and(|i| i.name == record.ifname && !i.sandbox.is_empty())
    };
    let ips = prev.ips.iter().filter(|ip| is_ours(ip.interface));
    ips.map(|ip| ip.address.addr())
        .filter(|address| !record.addresses.contains(address))
        .map(|address| format!("prevResult names {address}, which is not reserved for the pod"))
        .collect()
}
