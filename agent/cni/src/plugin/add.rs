//! ADD: reserve, make the devices, answer. What fails half-way is taken back whole.

use std::{
    collections::HashSet,
    io,
    net::IpAddr,
    path::Path,
    time::{Duration, Instant},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    guarded, kernel_failure, node, open_netlink, open_netns, open_reservations, reclaim,
    state_failure, with_gateway,
};
use crate::{
    Attachment, NodeFile, Reservation, Reservations, ReserveError, SOURCE_NAT_CHAIN,
    kernel::{self, CreateError, Namespace, Netlink, Pair},
    protocol::{AddResult, Code, Failure, NetworkConfig, Route},
};

/// Of a node's first pod, for the agent. Others don't wait.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

pub(super) fn add(
    config: &NetworkConfig,
    who: &Attachment,
    netns: &Path,
) -> Result<String, Failure> {
    if config.prev_result.is_some() {
        let msg = "hawser-cni is the first plugin of its chain, but prevResult is not empty; behind \
                   another network it needs \"chained\": true";
        return Err(Failure::new(Code::InvalidConfig, msg));
    }
    let node = node(&config.state)?;
    let pod = open_netns(netns)?;
    let mut netlink = open_netlink()?;
    guarded(&mut netlink, &node, Code::TryAgainLater)?;
    let reservations = open_reservations(&config.state)?;

    let mut adding = Adding { config, who, node: &node, reservations: &reservations, netlink };
    let addresses = adding.attach(&pod)?;
    Ok(answer(config, who, &node, netns, &addresses))
}

struct Adding<'a> {
    config: &'a NetworkConfig,
    who: &'a Attachment,
    node: &'a NodeFile,
    reservations: &'a Reservations,
    netlink: Netlink,
}

/// How one attempt may end without success.
enum Setback {
    /// A pod that no record tells of has the address; others may be free.
    AddressInUse(Failure),
    Final(Failure),
}

impl Adding<'_> {
    /// Twice at most: the second time around what the kernel routes already.
    fn attach(&mut self, pod: &Namespace) -> Result<Vec<IpAddr>, Failure> {
        match self.attempt(pod, &HashSet::new()) {
            Ok(addresses) => Ok(addresses),
            Err(Setback::Final(failure)) => Err(failure),
            Err(Setback::AddressInUse(_)) => {
                let routed = kernel::routed_addresses(&mut self.netlink).map_err(kernel_failure)?;
                self.attempt(pod, &routed).map_err(|setback| match setback {
                    Setback::AddressInUse(failure) | Setback::Final(failure) => failure,
                })
            }
        }
    }

    fn attempt(
        &mut self,
        pod: &Namespace,
        avoid: &HashSet<IpAddr>,
    ) -> Result<Vec<IpAddr>, Setback> {
        let reservation = self.reserve(avoid).map_err(Setback::Final)?;
        let addresses =
            reservation.record.as_ref().map(|record| record.addresses.clone()).unwrap_or_default();
        let host_device = self.who.host_device();
        let pair = Pair {
            host_device: &host_device,
            ifname: &self.who.ifname,
            macs: self.who.macs(),
            mtu: self.node.mtu,
            addresses: &addresses,
        };
        if let Err(error) = pair.create(&mut self.netlink, pod) {
            return Err(self.take_back(&host_device, reservation, error));
        }
        match translated(Instant::now() + PATIENCE) {
            Ok(()) => Ok(addresses),
            Err(failure) => {
                self.undo(&host_device, reservation);
                Err(Setback::Final(failure))
            }
        }
    }

    fn reserve(&mut self, avoid: &HashSet<IpAddr>) -> Result<Reservation, Failure> {
        let mut outcome = self.try_reserve(avoid);
        match outcome {
            Err(ReserveError::Attached { .. }) if self.is_abandoned()? => {
                outcome = self.try_reserve(avoid);
            }
            Err(ReserveError::Exhausted { .. })
                if reclaim(self.reservations, &mut self.netlink)? > 0 =>
            {
                outcome = self.try_reserve(avoid);
            }
            _ => (),
        }
        outcome.map_err(|error| {
            let code = match error {
                ReserveError::Attached { .. } => Code::Attached,
                ReserveError::Busy | ReserveError::NoSubnet => Code::TryAgainLater,
                ReserveError::Exhausted { .. } => Code::Exhausted,
                ReserveError::Io(_) => Code::Io,
            };
            Failure::because(code, "reserving an address", &error)
        })
    }

    fn try_reserve(&self, avoid: &HashSet<IpAddr>) -> Result<Reservation, ReserveError> {
        self.reservations.reserve(self.who, &self.config.name, &self.node.subnets, avoid)
    }

    /// A record without a device is what a killed ADD leaves. Frees it.
    fn is_abandoned(&mut self) -> Result<bool, Failure> {
        let held = self.reservations.hold(self.who).map_err(|e| state_failure(&e))?;
        let Some(held) = held else { return Ok(true) };
        let device = self.netlink.link(&self.who.host_device()).map_err(kernel_failure)?;
        if device.is_some() {
            return Ok(false);
        }
        self.reservations.release(held).map_err(|e| state_failure(&e))?;
        Ok(true)
    }

    /// While the device can't be deleted its address stays reserved: garbage collection's.
    fn undo(&mut self, host_device: &str, reservation: Reservation) {
        if self.netlink.delete(host_device).is_ok() {
            let _ = self.reservations.release(reservation);
        }
    }

    /// Deletes what this call made, frees what it reserved. The first error is the one to tell.
    fn take_back(
        &mut self,
        host_device: &str,
        reservation: Reservation,
        error: CreateError,
    ) -> Setback {
        let (error, ours) = match error {
            CreateError::Pair(error) => (error, false),
            CreateError::Setup(error) => (error, true),
        };
        if ours {
            self.undo(host_device, reservation);
        } else {
            let _ = self.reservations.release(reservation);
        }
        let exists = error.kind() == io::ErrorKind::AlreadyExists;
        match (exists, ours) {
            (true, false) => Setback::Final(Failure::because(
                Code::Attached,
                format!("the interface {} exists already; DEL comes first", self.who.ifname),
                &error,
            )),
            (true, true) => Setback::AddressInUse(kernel_failure(error)),
            (false, _) => Setback::Final(kernel_failure(error)),
        }
    }
}

/// Waits until pods' packets to the world get the node's address, which the agent sees to as soon as
/// it sees a node's first pod.
fn translated(until: Instant) -> Result<(), Failure> {
    loop {
        let missing = kernel::missing_chains(&[SOURCE_NAT_CHAIN]).map_err(kernel_failure)?;
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() >= until {
            let msg = format!(
                "this is the node's first pod, and the nftables chain {SOURCE_NAT_CHAIN} of the table \
                 inet hawser, which gives its packets to the world the node's address, does not \
                 come; is hawser-agent running?"
            );
            return Err(Failure::new(Code::TryAgainLater, msg));
        }
        std::thread::sleep(PAUSE);
    }
}

fn answer(
    config: &NetworkConfig,
    who: &Attachment,
    node: &NodeFile,
    netns: &Path,
    addresses: &[IpAddr],
) -> String {
    let (host_mac, pod_mac) = who.macs();
    let route = |address: &IpAddr| Route {
        dst: match address {
            IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
            IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
        },
        gateway: kernel::gateway(*address),
    };
    let result = AddResult {
        host_device: who.host_device(),
        host_mac: shown(host_mac),
        ifname: who.ifname.clone(),
        pod_mac: shown(pod_mac),
        netns: netns.display().to_string(),
        mtu: node.mtu,
        addresses: addresses.iter().copied().map(with_gateway).collect(),
        routes: addresses.iter().map(route).collect(),
        dns: config.dns.clone().unwrap_or_default(),
    };
    result.to_json(config.version)
}

fn shown(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
