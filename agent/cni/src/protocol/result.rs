//! What ADD and VERSION answer, in the form of the version that was asked for.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Version;

/// Passed on from the configuration as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Dns {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) nameservers: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) domain: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) search: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) options: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) dst: IpNet,
    pub(crate) gateway: IpAddr,
}

/// A pod's attachment as it was made.
#[derive(Clone, Debug)]
pub(crate) struct AddResult {
    pub(crate) host_device: String,
    pub(crate) host_mac: String,
    pub(crate) ifname: String,
    pub(crate) pod_mac: String,
    pub(crate) netns: String,
    pub(crate) mtu: u16,
    /// Each with the gateway of its family.
    pub(crate) addresses: Vec<(IpNet, IpAddr)>,
    pub(crate) routes: Vec<Route>,
    pub(crate) dns: Dns,
}

impl AddResult {
    /// Up to 0.4.0 an address says its family; from 1.1.0 on an interface says its MTU.
    pub(crate) fn to_json(&self, version: Version) -> String {
        let mut host = json!({"name": self.host_device, "mac": self.host_mac});
        let mut pod = json!({"name": self.ifname, "mac": self.pod_mac, "sandbox": self.netns});
        if version >= Version::V1_1_0 {
            host["mtu"] = self.mtu.into();
            pod["mtu"] = self.mtu.into();
        }
        let ips: Vec<Value> = self.addresses.iter().map(|one| ip(*one, version)).collect();
        let route = |route: &Route| json!({"dst": route.dst, "gw": route.gateway});
        json!({
            "cniVersion": version.as_str(),
            "interfaces": [host, pod],
            "ips": ips,
            "routes": self.routes.iter().map(route).collect::<Vec<_>>(),
            "dns": self.dns,
        })
        .to_string()
    }
}

/// `interface` is the pod's, the second of the list.
fn ip((address, gateway): (IpNet, IpAddr), version: Version) -> Value {
    let mut ip = json!({"interface": 1, "address": address, "gateway": gateway});
    if version < Version::V1_0_0 {
        ip["version"] = if gateway.is_ipv4() { "4" } else { "6" }.into();
    }
    ip
}

/// The answer to VERSION, whose own version is the asker's.
pub(crate) fn versions(asked: &str) -> String {
    let supported = Version::ALL.map(Version::as_str);
    json!({"cniVersion": asked, "supportedVersions": supported}).to_string()
}
