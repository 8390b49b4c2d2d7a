//! Behind another plugin, whose pods these are: nothing is made and nothing taken away. ADD answers
//! what came before once the guard knows the device that the pod is behind, and refuses what the mesh
//! could not carry.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use serde_json::Value;

use super::{guarded, kernel_failure, node, open_netlink, state_failure, status};
use crate::{
    DeviceRecords,
    kernel::{self, Netlink},
    node_address,
    protocol::{Call, Code, Failure, NetworkConfig, PrevResult, Version},
};

/// The agent takes a tenth of a second for a device, and only the first pod behind it waits.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn call(call: &Call, config: &NetworkConfig) -> Result<String, Failure> {
    match call {
        Call::Add { .. } => add(config),
        Call::Check { .. } => check(config).map(|()| String::new()),
        Call::Status => status::ready(config).map(|_| String::new()),
        Call::Gc => config.version.at_least(Version::V1_1_0, "GC").map(|()| String::new()),
        // Their device goes with their own DEL, and its record with the device.
        Call::Del { .. } | Call::Version => Ok(String::new()),
    }
}

fn add(config: &NetworkConfig) -> Result<String, Failure> {
    let prev = before(config)?;
    let node = node(&config.state)?;
    let mut netlink = open_netlink()?;
    guarded(&mut netlink, &node, Code::TryAgainLater)?;
    belong(prev, &node.subnets)?;
    let devices = devices(prev, &mut netlink)?;
    announce(&config.state, &devices, Instant::now() + PATIENCE)?;
    let mut answer = prev.whole.clone();
    answer["cniVersion"] = Value::from(config.version.as_str());
    Ok(answer.to_string())
}

fn check(config: &NetworkConfig) -> Result<(), Failure> {
    config.version.at_least(Version::V0_4_0, "CHECK")?;
    let prev = before(config)?;
    let node = node(&config.state)?;
    let mut netlink = open_netlink()?;
    let drift = |failure: Failure| Failure { code: Code::Drift, ..failure };
    belong(prev, &node.subnets).map_err(drift)?;
    let devices = devices(prev, &mut netlink).map_err(drift)?;
    if let Some(device) = devices.difference(&node.devices).next() {
        let msg = format!("the guard does not know {device}, which the pod is behind");
        return Err(Failure::new(Code::Drift, msg));
    }
    guarded(&mut netlink, &node, Code::LimitedConnectivity)
}

fn before(config: &NetworkConfig) -> Result<&PrevResult, Failure> {
    config.prev_result.as_ref().ok_or_else(|| {
        let msg = "hawser-cni with \"chained\": true comes after another plugin, and prevResult is \
                   missing; is it the last of its list?";
        Failure::new(Code::InvalidConfig, msg)
    })
}

/// Only what other nodes seal to this one reaches a pod here.
fn belong(prev: &PrevResult, subnets: &[IpNet]) -> Result<(), Failure> {
    let given: Vec<IpAddr> = prev.ips.iter().map(|ip| ip.address.addr()).collect();
    if given.is_empty() {
        return Err(invalid("the plugins before hawser-cni gave the pod no address".into()));
    }
    if let Some(stranger) = given.iter().find(|ip| !subnets.iter().any(|net| net.contains(*ip))) {
        let subnets: Vec<String> = subnets.iter().map(IpNet::to_string).collect();
        return Err(invalid(format!(
            "the pod was given {stranger}, outside of what the mesh gave this node ({}); set ipam: \
             Kubernetes where that plugin uses the Node's podCIDRs, or give it this range",
            subnets.join(", ")
        )));
    }
    if let Some(own) = given.iter().find(|ip| subnets.iter().any(|net| node_address(net) == **ip)) {
        return Err(invalid(format!(
            "the pod was given {own}, the node's own address in the mesh; leave it out of that \
             plugin's range, or make it its gateway"
        )));
    }
    Ok(())
}

/// Those that the pod's addresses are routed to: of a bridge with its ports, the bridge.
fn devices(prev: &PrevResult, netlink: &mut Netlink) -> Result<BTreeSet<String>, Failure> {
    let mut known = BTreeMap::new();
    for interface in prev.interfaces.iter().filter(|interface| interface.sandbox.is_empty()) {
        let link = netlink.link(&interface.name).map_err(kernel_failure)?;
        known.extend(link.map(|link| (link.index, interface.name.clone())));
    }
    let ways_out = kernel::ways_out(netlink).map_err(kernel_failure)?;
    let mut devices = BTreeSet::new();
    for ip in &prev.ips {
        let address = ip.address.addr();
        let index = netlink.device_to(address).map_err(kernel_failure)?;
        let Some((index, name)) = index.and_then(|index| Some((index, known.get(&index)?))) else {
            return Err(invalid(format!(
                "this node has no route to {address} by a device of the plugins before hawser-cni; \
                 a bridge needs isGateway"
            )));
        };
        if ways_out.contains(&index) {
            return Err(invalid(format!(
                "the pod is behind {name}, which is this node's way out too: nothing could tell \
                 what stays here from what leaves in clear"
            )));
        }
        devices.insert(name.clone());
    }
    Ok(devices)
}

/// Leaves the devices for the agent, and waits until the guard knows them.
fn announce(state: &Path, devices: &BTreeSet<String>, until: Instant) -> Result<(), Failure> {
    let records = DeviceRecords::open(state).map_err(|error| state_failure(&error))?;
    for device in devices {
        records.add(device).map_err(|error| state_failure(&error))?;
    }
    drop(records);
    loop {
        let unknown: Vec<String> =
            devices.difference(&node(state)?.devices).map(String::clone).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        if Instant::now() >= until {
            let unknown = unknown.join(", ");
            let msg = format!("the guard does not know {unknown} yet; is hawser-agent running?");
            return Err(Failure::new(Code::TryAgainLater, msg));
        }
        std::thread::sleep(PAUSE);
    }
}

fn invalid(msg: String) -> Failure {
    Failure::new(Code::InvalidConfig, msg)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::NodeFile;

    fn judge(addresses: &[&str]) -> Result<(), Failure> {
        let ips: Vec<Value> =
            addresses.iter().map(|address| json!({"address": address, "interface": 2})).collect();
        let text = json!({"cniVersion": "1.0.0", "name": "n", "chained": true,
            "prevResult": {"ips": ips}});
        let config = NetworkConfig::parse(text.to_string().as_bytes()).unwrap();
        let subnets = ["10.42.1.0/24", "fd42:0:0:1::/64"].map(|net| net.parse().unwrap());
        belong(before(&config).unwrap(), &subnets)
    }

    #[test]
    fn a_pod_has_addresses_of_its_node_and_not_the_nodes_own() {
        judge(&["10.42.1.7/24", "fd42:0:0:1::7/64"]).unwrap();

        let stranger = judge(&["10.42.1.7/24", "fd42:0:0:2::7/64"]).unwrap_err();
        assert_eq!(stranger.code, Code::InvalidConfig);
        assert!(stranger.msg.contains("10.42.1.0/24, fd42:0:0:1::/64"), "{stranger}");
        assert!(stranger.msg.contains("ipam: Kubernetes"), "{stranger}");
        assert!(judge(&["10.42.1.1/24"]).unwrap_err().msg.contains("the node's own"));
        assert!(judge(&[]).unwrap_err().msg.contains("no address"));
    }

    #[test]
    fn without_a_plugin_before_it_there_is_no_pod_and_a_delete_goes_well() {
        let state = tempfile::tempdir().unwrap();
        let text = json!({"cniVersion": "1.0.0", "name": "n", "chained": true,
            "state": state.path().join("gone")});
        let config = NetworkConfig::parse(text.to_string().as_bytes()).unwrap();
        let who = crate::Attachment::new("c1", "eth0");

        let refused = add(&config).unwrap_err();

        assert_eq!(refused.code, Code::InvalidConfig);
        assert!(refused.msg.contains("prevResult is missing"), "{refused}");
        assert_eq!(call(&Call::Del { who }, &config).unwrap(), "");
    }

    #[test]
    fn what_the_guard_never_comes_to_know_is_refused_in_time() {
        let state = tempfile::tempdir().unwrap();
        let mut file = NodeFile {
            version: NodeFile::VERSION,
            node: "n".into(),
            subnets: Vec::new(),
            mtu: 1420,
            pools: Vec::new(),
            devices: BTreeSet::new(),
        };
        let bridge = BTreeSet::from(["cni0".to_owned()]);
        file.write(state.path()).unwrap();

        let late = announce(state.path(), &bridge, Instant::now()).unwrap_err();

        assert_eq!(late.code, Code::TryAgainLater);
        let records = DeviceRecords::look(state.path()).unwrap().unwrap();
        assert_eq!(records.names().unwrap(), bridge);
        drop(records);
        file.devices = bridge.clone();
        file.write(state.path()).unwrap();
        announce(state.path(), &bridge, Instant::now()).unwrap();
    }
}
