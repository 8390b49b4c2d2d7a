//! `MeshNode`: one machine in the mesh. The controller writes its spec, its agent the status.

use keys::KeyEpoch;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Condition, Confirmation, Probes};

/// `status.nat` of a node that peers see at its own address.
pub const NO_NAT: &str = "none";

/// What the controller decided about a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "hawser.dev",
    version = "v1alpha1",
    kind = "MeshNode",
    plural = "meshnodes",
    shortname = "hwn",
    category = "hawser",
    status = "MeshNodeStatus",
    derive = "PartialEq",
    doc = "A MeshNode is a machine in the mesh: the subnets it was given, and the keys and endpoints that its agent publishes.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Site", type_ = "string", json_path = ".spec.site"),
    printcolumn(name = "Subnet", type_ = "string", json_path = ".spec.subnets[0]"),
    printcolumn(
        name = "Peers",
        type_ = "string",
        json_path = ".status.peers",
        description = "peers with a live tunnel, of all"
    ),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".spec.keyEpoch"),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        json_path = ".status.endpoints[0]",
        priority = 1
    ),
    printcolumn(name = "NAT", type_ = "string", json_path = ".status.nat", priority = 1),
    printcolumn(name = "MTU", type_ = "integer", json_path = ".status.mtu", priority = 1),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!oldSelf.revoked || self.revoked")
    .message("a revoked node stays revoked; delete it and let the machine join with a new identity"))]
#[x_kube(validation = Rule::new("!has(self.epochs) || self.keyEpoch in self.epochs")
    .message("keyEpoch is one of epochs: peers send with a key that the node holds"))]
#[x_kube(validation = Rule::new("self.keyEpoch >= oldSelf.keyEpoch || (has(oldSelf.epochs) && self.keyEpoch in oldSelf.epochs)")
    .message("keyEpoch goes back only to an epoch that the node still holds; rotate to a new one instead"))]
pub struct MeshNodeSpec {
    /// The node's subnets, one per pool family. The node's own address is the first host of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    #[x_kube(validation = Rule::new("self.all(s, isCIDR(s) && string(cidr(s).masked()) == s)")
        .message("each subnet is a prefix without host bits, such as 10.42.1.0/24"))]
    pub subnets: Vec<String>,
    /// The machine's own addresses, such as a Kubernetes Node's InternalIPs: packets of other nodes'
    /// pods to them go through the tunnel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 45)))]
    #[x_kube(validation = Rule::new("self.all(a, isIP(a))")
        .message("each address is an IP address such as 10.0.0.1"))]
    pub addresses: Vec<String>,
    /// Prefixes behind the machine that it is to announce to the mesh, such as the LAN of a site whose
    /// gateway it is. An administrator's word, or what a JoinToken granted; never the node's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    #[x_kube(validation = Rule::new("self.all(p, isCIDR(p) && string(cidr(p).masked()) == p && cidr(p).prefixLength() > 0)")
        .message("each prefix is one without host bits, such as 192.168.7.0/24, and none is the whole address space"))]
    pub prefixes: Vec<String>,
    /// Those of prefixes that overlap nothing: every node sends them through this node's tunnel, and
    /// takes them from no other. The controller's word; the condition PrefixesRouted says why one is
    /// missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    #[x_kube(validation = Rule::new("self.all(p, isCIDR(p) && string(cidr(p).masked()) == p && cidr(p).prefixLength() > 0)")
        .message("each prefix is one without host bits, such as 192.168.7.0/24, and none is the whole address space"))]
    pub routed: Vec<String>,
    /// The key epoch that the node's peers send with. Counts from 1.
    #[serde(default = "first_epoch")]
    #[schemars(range(min = 1))]
    pub key_epoch: u32,
    /// The key epochs that the node holds: it makes those it lacks, and wipes those that are not
    /// named. Empty: it keeps what it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(range(min = 1)))]
    pub epochs: Vec<u32>,
    /// Where the machine stands, such as a cloud region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub site: Option<String>,
    /// The name of the Mesh's pools that its subnets come from; unset: those without a name. What it
    /// has stays when this changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub pool: Option<String>,
    /// The node is thrown out: every peer refuses its keys for ever.
    #[serde(default)]
    pub revoked: bool,
    /// How a machine outside of the cluster came in; absent for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<Joined>,
}

/// How a machine came in through the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// The JoinToken that it presented.
    #[schemars(length(min = 1, max = 253))]
    pub token: String,
    /// SHA-256 of the key that its first certificate is made for, in lower-case hexadecimal: the
    /// same machine may ask again if the answer did not reach it.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub key: String,
    /// The WireGuard key that it joined with: nobody else joins with it, even before the node has
    /// published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub public_key: Option<String>,
}

impl Default for MeshNodeSpec {
    fn default() -> Self {
        Self {
            subnets: Vec::new(),
            addresses: Vec::new(),
            prefixes: Vec::new(),
            routed: Vec::new(),
            key_epoch: first_epoch(),
            epochs: Vec::new(),
            site: None,
            pool: None,
            revoked: false,
            joined: None,
        }
    }
}

fn first_epoch() -> u32 {
    KeyEpoch::FIRST.0
}

/// What the node's agent publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshNodeStatus {
    /// The generation of the spec that the agent acts on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The node's public keys, one per live epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["epoch"]))]
    pub public_keys: Vec<PublishedKey>,
    /// The newest epoch that the node ever had a key of; no number is used twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub newest_epoch: Option<u32>,
    /// How far the node is in the rotation that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<Confirmation>,
    /// What was lost on the way to other nodes in the last rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
    /// Nodes that it has no tunnel to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 253)))]
    pub unreachable: Vec<String>,
    /// Where the node's tunnel port is reached, such as 10.0.0.1:51820, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 3, max = 64)))]
    pub endpoints: Vec<String>,
    /// Where the node takes sealed datagrams in TLS over TCP, for nodes that no UDP gets out of; absent
    /// unless its agent listens so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsListener>,
    /// Nodes whose TLS listeners this node is connected to, as no UDP gets out of it: others reach it
    /// through them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), inner(length(min = 1, max = 253)))]
    pub relays: Vec<String>,
    /// Peers with a live tunnel, of all, such as 4/5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub peers: Option<String>,
    /// The address translation found in front of the node: none, present (of which kind, a single peer
    /// cannot tell), endpoint-independent or symmetric. Absent until peers have said where they see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub nat: Option<String>,
    /// The largest packet that fits through the node's tunnels, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// The agent's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
    /// Changes with every boot of the machine.
    #[serde(default, rename = "bootID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub boot_id: Option<String>,
    /// The machine that speaks for this node: the first one with its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Machine>,
    /// Another machine with this node's key, which asks whether the holder still runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimant: Option<Machine>,
    /// The last one that the holder answered: a clone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Machine>,
    /// The subnets that the agent has put into force. After a restore of the control plane, they
    /// tell which subnets are in use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub subnets: Vec<String>,
    /// Plain peers that came to this node, one of their entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["peer"]))]
    pub serves: Vec<Served>,
    /// Ready, SubnetAllocated, TunnelsUp, KeyCurrent, EndpointReachable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Where a node takes sealed datagrams in TLS over TCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsListener {
    /// Such as 198.51.100.7:443, best first.
    #[schemars(length(min = 1, max = 8), inner(length(min = 3, max = 64)))]
    pub endpoints: Vec<String>,
    /// SHA-256 of the certificate that it shows, in lower-case hexadecimal: no other is taken.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub fingerprint: String,
}

/// A plain peer that came to a node. Of its entries the one with the highest turn has it; so it
/// takes no clocks that agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Served {
    /// The MeshPeer's name.
    #[schemars(length(min = 1, max = 253))]
    pub peer: String,
    /// Counts from 1: one more than its other entries had when it came here.
    #[schemars(range(min = 1))]
    pub turn: i64,
}

/// A machine, as far as it can be told from its clones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Changes with every boot: of two that run at the same time, no two have the same.
    #[serde(rename = "bootID")]
    #[schemars(length(min = 1, max = 64))]
    pub boot_id: String,
    /// A digest of what the machine is known by, which outlives a boot.
    #[serde(default, rename = "machineID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub machine_id: Option<String>,
    /// Where it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub endpoint: Option<String>,
    /// Since when (RFC 3339).
    #[schemars(length(min = 1, max = 64))]
    pub since: String,
}

impl Machine {
    /// What may be told of a machine's secret identifiers, such as /etc/machine-id.
    pub fn digest(identifiers: &[&str]) -> String {
        let mut hash = Sha256::new();
        for text in identifiers {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// True if both are the same boot of the same machine.
    pub fn is(&self, other: &Self) -> bool {
        self.boot_id == other.boot_id
    }

    /// True if one may be a later boot of the other.
    pub fn may_be(&self, other: &Self) -> bool {
        self.machine_id.is_some() && self.machine_id == other.machine_id
    }
}

/// A public key and the epoch it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublishedKey {
    /// Counts from 1 and only grows.
    #[schemars(range(min = 1))]
    pub epoch: u32,
    /// 32 bytes in base64.
    #[schemars(length(min = 44, max = 44), regex(pattern = r"^[A-Za-z0-9+/]{43}=$"))]
    pub public_key: String,
}
