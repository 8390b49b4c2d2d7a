//! `Mesh`: what the whole mesh shares. There is one, named `default`.

use std::{fmt, time::Duration};

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Condition, Encryption, SiteEncryption, SiteGateways, encryption_between};

/// What the operator wants of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "hawser.dev",
    version = "v1alpha1",
    kind = "Mesh",
    plural = "meshes",
    shortname = "hwm",
    category = "hawser",
    status = "MeshStatus",
    derive = "PartialEq",
    doc = "A Mesh is an encrypted overlay network: its address pools, its backend and how strictly it encrypts. There is one, named default.",
    validation = Rule::new("self.metadata.name == 'default'").message("there is one Mesh, and its name is default"),
    validation = Rule::new("self.spec.encryption != 'Required' || self.spec.backend in ['wireguard', 'esp'] || (has(self.spec.siteEncryption) && self.spec.siteEncryption.exists(s, s.encryption != 'Required'))").message("backends udp, vxlan and direct send in clear, which encryption Required forbids: choose wireguard, or write encryption Preferred or None, for the mesh or in siteEncryption for a pair of sites"),
    validation = Rule::new("self.spec.encryption != 'Required' || !has(self.spec.fallback) || self.spec.fallback.all(b, b in ['wireguard', 'esp']) || (has(self.spec.siteEncryption) && self.spec.siteEncryption.exists(s, s.encryption != 'Required'))").message("fallback names a backend that sends in clear (udp, vxlan or direct), which encryption Required forbids: leave it out, or write encryption Preferred or None, for the mesh or in siteEncryption for a pair of sites"),
    validation = Rule::new("!has(self.spec.fallback) || self.spec.fallback.all(b, b != self.spec.backend)").message("fallback repeats spec.backend: name each once"),
    validation = Rule::new("!has(self.spec.vxlanShapedPort) || self.spec.vxlanShapedPort != 4789 || (self.spec.backend != 'vxlan' && (!has(self.spec.fallback) || self.spec.fallback.all(b, b != 'vxlan')))").message("backend vxlan listens on 4789 itself: write vxlanShapedPort 8472"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Backend", type_ = "string", json_path = ".spec.backend"),
    printcolumn(name = "Encryption", type_ = "string", json_path = ".spec.encryption"),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.nodes", description = "nodes that are ready, of all"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.keyEpoch"),
    printcolumn(name = "Pools", type_ = "string", json_path = ".spec.pools[*].cidr", priority = 1),
    printcolumn(name = "MTU", type_ = "integer", json_path = ".spec.mtu", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.removing) || !oldSelf.removing || (has(self.removing) && self.removing)")
    .message("a mesh that is being removed stays so; delete it and install it again"))]
pub struct MeshSpec {
    /// Where the nodes' subnets come from. Pools may be added at run time; they never overlap.
    #[schemars(length(min = 1, max = 16))]
    pub pools: Vec<Pool>,
    /// Who cuts the pools into the nodes' subnets.
    #[serde(default)]
    pub ipam: Ipam,
    /// How pod traffic is carried between nodes.
    #[serde(default)]
    pub backend: Backend,
    /// What carries where the backend does not get through, best first. Each pair of nodes uses the
    /// first that answers: it is left within 5 seconds of failing, and gone back to after returnAfter.
    /// Names no backend twice. With encryption Preferred, plain ones carry to nodes that never had a
    /// key, and with allowDowngrade also where the tunnel does not get through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(validation = Rule::new("self.all(b, self.exists_one(c, c == b))").message("fallback repeats a backend: name each once"))]
    pub fallback: Vec<Backend>,
    /// For how long a backend that failed must answer without a break before a pair goes back to it,
    /// such as 30s, which it is if unset. Doubled each time that it fails again, up to 32 times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 8), regex(pattern = r"^[1-9][0-9]{0,3}[smh]$"))]
    pub return_after: Option<String>,
    /// Where the tunnel's own UDP port is blocked, its sealed datagrams travel in the shape of VXLAN to
    /// this UDP port, still encrypted, and plain again when that works: within 5 seconds, and after
    /// returnAfter. Every node then listens there too, and packets in the tunnel are 50 bytes shorter.
    /// 4789 is VXLAN's own, 8472 what Linux and Flannel once took; unset: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 4789, max = 8472))]
    #[x_kube(validation = Rule::new("self == 4789 || self == 8472").message("VXLAN's ports are 4789 and 8472"))]
    pub vxlan_shaped_port: Option<u16>,
    /// Auto: where two nodes don't reach each other, a third that both reach passes on their sealed
    /// datagrams, which it cannot read; they go directly again when that works. Packets in the tunnel
    /// are 18 bytes shorter. Never: they stay apart.
    #[serde(default, skip_serializing_if = "Relay::is_never")]
    pub relay: Relay,
    /// Whether a plain backend is permitted. Required refuses it.
    #[serde(default)]
    pub encryption: Encryption,
    /// What holds between two sites, or inside of one, in the place of encryption: None within a data
    /// centre that is trusted, say, while what leaves it is sealed. Pairs for which Required holds are
    /// carried by wireguard, whatever backend and fallback are. Names no pair of sites twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.all(e, self.exists_one(o, (o.sites[0] == e.sites[0] && o.sites[o.sites.size() - 1] == e.sites[e.sites.size() - 1]) || (o.sites[0] == e.sites[e.sites.size() - 1] && o.sites[o.sites.size() - 1] == e.sites[0])))").message("siteEncryption repeats a pair of sites: name each once; the order of the two does not matter"))]
    pub site_encryption: Vec<SiteEncryption>,
    /// Sites whose nodes speak with those of other sites through gateways. Unset for a site: each of its
    /// nodes speaks with all others itself, or through their gateways. Pods notice nothing of it but a
    /// hop or two. What a gateway hands on, it opens and seals again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.all(e, self.exists_one(o, o.site == e.site))").message("siteGateways repeats a site: name each once"))]
    pub site_gateways: Vec<SiteGateways>,
    /// With encryption Preferred: a node whose key is gone is sent to in clear, though it was sealed to
    /// before. Whoever can take a key away then chooses clear text; unset, such a node is not sent to
    /// until it has a key again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_downgrade: bool,
    /// The largest packet inside the tunnel, in bytes; unset: the underlay's less the overhead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 65535))]
    pub mtu: Option<u16>,
    /// The cluster's Service ranges, which no pool may overlap.
    #[serde(default, rename = "serviceCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 64)))]
    #[x_kube(validation = Rule::new("self.all(c, isCIDR(c))").message("each entry is a prefix such as 10.96.0.0/12"))]
    pub service_cidrs: Vec<String>,
    /// When the nodes' keys rotate by themselves; unset: only when somebody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_rotation: Option<RotationSchedule>,
    /// The mesh is being taken away for good: every agent removes all that it made on its node and
    /// says so in the condition Removed of its MeshNode.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removing: bool,
    /// For how long a node may act on what it last heard of the API, such as 24h: one that heard
    /// nothing for longer carries nothing until the API answers again, so that it does not speak
    /// with somebody who was revoked meanwhile. Unset: for ever, and a mesh without its API runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^[1-9][0-9]{0,5}[mh]$"))]
    pub max_view_age: Option<String>,
}

/// Rotations that begin by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.windowStart) == has(self.windowEnd)")
    .message("a window has a start and an end"))]
pub struct RotationSchedule {
    /// From the end of one rotation to the start of the next, such as 720h; at least 1h.
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^[1-9][0-9]{0,5}h$"))]
    pub interval: String,
    /// Up to so much is added by chance, such as 12h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^[0-9]{1,5}[mh]$"))]
    pub jitter: Option<String>,
    /// The time of the day (UTC) before which none begins, such as 02:00.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 5, max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub window_start: Option<String>,
    /// The time of the day (UTC) from which none begins; before the start: of the next day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 5, max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub window_end: Option<String>,
}

/// A prefix that is cut into equal subnets, one per node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("isCIDR(self.cidr) && string(cidr(self.cidr).masked()) == self.cidr")
    .message("cidr is a prefix without host bits, such as 10.42.0.0/16 or fd42::/48"))]
#[x_kube(validation = Rule::new("!isCIDR(self.cidr) || (self.nodePrefixLength >= cidr(self.cidr).prefixLength() && self.nodePrefixLength <= (cidr(self.cidr).ip().family() == 4 ? 32 : 128))")
    .message("nodePrefixLength lies between the pool's own length and 32 (IPv4) or 128 (IPv6)"))]
pub struct Pool {
    /// The prefix, such as 10.42.0.0/16 or fd42::/48.
    #[schemars(length(max = 64))]
    pub cidr: String,
    /// The length of each node's subnet. It never changes: a claim's name stands for one block. 32 or
    /// 128 is one address, for machines without pods.
    #[schemars(range(min = 8, max = 128))]
    pub node_prefix_length: u8,
    /// A pool with a name is for the machines that a JoinToken or MeshNode.spec.pool names it for, and
    /// for no other. One of each family may have the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: Option<String>,
}

/// Who decides which block of a pool is whose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Ipam {
    /// Hawser's controller.
    #[default]
    Mesh,
    /// The cluster: a Node's podCIDRs are its subnets, and a pool that holds any is the cluster's
    /// alone; machines outside of it need a pool of their own.
    Kubernetes,
}

/// Whether nodes pass on what others send to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Relay {
    #[default]
    Never,
    /// Where two nodes don't reach each other.
    Auto,
}

impl Relay {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    fn is_never(&self) -> bool {
        *self == Self::Never
    }
}

/// A carrier of pod traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    #[default]
    Wireguard,
    Esp,
    Udp,
    Vxlan,
    Direct,
}

impl Backend {
    /// True if what it carries cannot be read on the underlay.
    pub fn encrypts(self) -> bool {
        match self {
            Self::Wireguard | Self::Esp => true,
            Self::Udp | Self::Vxlan | Self::Direct => false,
        }
    }
}

/// `MeshSpec.returnAfter`, where it is unset.
pub fn return_after() -> Duration {
    Duration::from_secs(30)
}

impl MeshSpec {
    /// What may carry, best first.
    pub fn carriers(&self) -> impl Iterator<Item = Backend> + '_ {
        [self.backend].into_iter().chain(self.fallback.iter().copied())
    }

    /// What holds between machines of these two sites.
    pub fn encryption_between(&self, a: Option<&str>, b: Option<&str>) -> Encryption {
        encryption_between(self.encryption, &self.site_encryption, (a, b))
    }

    /// True if some pair may be in clear, as far as this says: `encryption` or that of two sites does.
    pub fn permits_clear(&self) -> bool {
        let of_sites = self.site_encryption.iter().map(|of| of.encryption);
        of_sites.chain([self.encryption]).any(|one| one != Encryption::Required)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wireguard => "wireguard",
            Self::Esp => "esp",
            Self::Udp => "udp",
            Self::Vxlan => "vxlan",
            Self::Direct => "direct",
        })
    }
}

/// What the controller sees of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready nodes of all nodes, such as 5/6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub nodes: Option<String>,
    /// The key epoch that every node uses; absent while nodes differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_epoch: Option<u32>,
    /// The newest epoch that any rotation ever moved to; no number is used twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub newest_epoch: Option<u32>,
    /// The UID of the one rotation that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub rotation: Option<String>,
    /// When the next rotation begins by itself (RFC 3339), or why it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub next_rotation: Option<String>,
    /// The keys of revoked nodes, refused for ever, also when the node's object is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10_000), inner(length(min = 44, max = 44)))]
    pub revoked_keys: Vec<String>,
    /// Where machines outside of the cluster join, if the controller has a gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Gateway>,
    /// When the API was found to be older than what the controller had read of it (RFC 3339): its
    /// store was restored from a backup. Nothing new is given out until the Mesh is annotated with
    /// `hawser.dev/restore-settled=` and this very time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub restored: Option<String>,
    /// How full each pool is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub pools: Vec<PoolUsage>,
    /// Ready, Encrypted, Degraded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// How many of a pool's subnets are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolUsage {
    /// The pool's prefix.
    #[schemars(length(max = 64))]
    pub cidr: String,
    /// Subnets it can be cut into (at most 2^53, as JSON numbers go).
    pub total: u64,
    /// Subnets bound to a node.
    pub bound: u64,
    /// Subnets released a short while ago, which rest before somebody else gets them.
    pub resting: u64,
}

/// How the gateway is reached, and what join tokens pin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// Its addresses, best first, such as https://192.0.2.1:8444.
    #[serde(default)]
    #[schemars(length(max = 8), inner(length(min = 1, max = 300)))]
    pub urls: Vec<String>,
    /// SHA-256 of its authority's certificate (DER), in lower-case hexadecimal.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub authority: String,
}
