//! `MeshPeer`: a machine that speaks plain WireGuard, such as a laptop or a router.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::Condition;

/// What is known of a plain WireGuard peer.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema,
)]
#[kube(
    group = "hawser.dev",
    version = "v1alpha1",
    kind = "MeshPeer",
    plural = "meshpeers",
    shortname = "hwp",
    category = "hawser",
    status = "MeshPeerStatus",
    derive = "PartialEq",
    doc = "A MeshPeer is a machine that joins the mesh with any WireGuard implementation instead of Hawser's agent.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.addresses[0]"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".spec.endpoint", priority = 1),
    printcolumn(
        name = "Public-Key",
        type_ = "string",
        json_path = ".spec.publicKey",
        priority = 1
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.presharedKeyFile) && has(self.presharedKeySecretRef))")
    .message("a preshared key comes from a file or from a Secret, not from both"))]
pub struct MeshPeerSpec {
    /// The peer's public key, as `wg pubkey` prints it.
    #[schemars(length(min = 44, max = 44), regex(pattern = r"^[A-Za-z0-9+/]{43}=$"))]
    pub public_key: String,
    /// The addresses and prefixes that are the peer's, such as 10.42.200.7/32.
    #[schemars(length(min = 1, max = 32), inner(length(max = 64)))]
    #[x_kube(validation = Rule::new("self.all(s, isCIDR(s) && string(cidr(s).masked()) == s)")
        .message("each address is a prefix without host bits, such as 10.42.200.7/32"))]
    pub addresses: Vec<String>,
    /// Where the peer is reached, such as 198.51.100.4:51820; unset: it calls us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 64))]
    pub endpoint: Option<String>,
    /// The nodes that the peer calls, in order: packets of all others to it go through the one that
    /// it spoke to last, the first of them until then. Empty: it speaks to every node itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 253)), extend("x-kubernetes-list-type" = "set"))]
    pub entries: Vec<String>,
    /// A file on each node (mode 0600) with the preshared key, as `wg genpsk` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^/"))]
    pub preshared_key_file: Option<String>,
    /// A Secret with the preshared key, for agents that work with the API of a Kubernetes cluster.
    /// It lies in the agents' own namespace, and they must be allowed to `get` it by its name (the
    /// chart's `agent.presharedKeySecrets`). A changed key is taken over within a minute; a Secret
    /// that can't be read leaves the last key in force, and a peer without any gets no tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preshared_key_secret_ref: Option<SecretKeyRef>,
    /// Seconds between packets that keep a NAT's mapping alive; unset or 0: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 65535))]
    pub persistent_keepalive: Option<u16>,
}

/// A key in a Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's namespace: the one that the agents run in.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in its data, whose value is a line as `wg genpsk` prints it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What the controller judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshPeerStatus {
    /// The generation of the spec that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
