//! `JoinToken`: the permission for machines outside the cluster to join. It holds a hash only.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Condition;

/// What a token permits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "hawser.dev",
    version = "v1alpha1",
    kind = "JoinToken",
    plural = "jointokens",
    shortname = "hwjt",
    category = "hawser",
    status = "JoinTokenStatus",
    derive = "PartialEq",
    doc = "A JoinToken lets machines outside the cluster join the mesh. It holds the hash of the token, never the token.",
    printcolumn(
        name = "Valid",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Usable")].status"#
    ),
    printcolumn(
        name = "Uses",
        type_ = "string",
        json_path = ".status.uses",
        description = "uses so far, of those permitted"
    ),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt"),
    printcolumn(name = "Site", type_ = "string", json_path = ".spec.site"),
    printcolumn(
        name = "Created-By",
        type_ = "string",
        json_path = ".spec.createdBy",
        priority = 1
    ),
    printcolumn(
        name = "Last-Used",
        type_ = "string",
        json_path = ".status.lastUsedAt",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a token is made once; revoke it and make another"))]
pub struct JoinTokenSpec {
    /// SHA-256 of the token's secret part, in lower-case hexadecimal.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub hash: String,
    /// When it ends (RFC 3339).
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub expires_at: String,
    /// How many machines may use it.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 10000))]
    pub uses: u32,
    /// The site that the machines belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub site: Option<String>,
    /// The name of the Mesh's pools that the machines' subnets come from; unset: those without a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub pool: Option<String>,
    /// What the machines' names begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*)$"))]
    pub name_prefix: Option<String>,
    /// What machines may announce: prefixes inside of these, which lie behind them. None: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    #[x_kube(validation = Rule::new("self.all(p, isCIDR(p) && string(cidr(p).masked()) == p && cidr(p).prefixLength() > 0)")
        .message("each prefix is one without host bits, such as 192.168.7.0/24, and none is the whole address space"))]
    pub prefixes: Vec<String>,
    /// Whether somebody has to approve each machine.
    #[serde(default)]
    pub approve: bool,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub created_by: Option<String>,
}

fn once() -> u32 {
    1
}

/// How a token was used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct JoinTokenStatus {
    /// Uses so far, of those permitted, such as 0/1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub uses: Option<String>,
    /// Uses so far; one conditional write consumes one.
    #[serde(default)]
    pub used: u32,
    /// When it was last used (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub last_used_at: Option<String>,
    /// The machines that it let in, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub machines: Vec<Admitted>,
    /// The machines that wait for an approval, or were denied one, the oldest first.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub waiting: Vec<Waiting>,
    /// The last machine that presented this token and was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refusal: Option<Refused>,
    /// Usable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A machine that a token let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Admitted {
    /// Its MeshNode.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
    /// Where it came from, as the gateway saw it.
    #[schemars(length(max = 64))]
    pub from: String,
    /// When (RFC 3339).
    #[schemars(length(max = 64))]
    pub at: String,
    /// SHA-256 of the key that its certificate is for, in lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub key: Option<String>,
    /// The fingerprint of its WireGuard key: no other machine joins with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub fingerprint: Option<String>,
    /// True once its MeshNode has been seen. Until then the same machine may ask again without
    /// another use: the gateway may have ended between the use and the node.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub arrived: bool,
}

/// A machine that asked to be let in with a token that takes an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// The name that it gets if it is let in.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
    /// SHA-256 of the key that its certificate will be for, in lower-case hexadecimal.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub key: String,
    /// The fingerprint of its WireGuard key, which it prints as well: compare them.
    #[schemars(length(min = 1, max = 64))]
    pub fingerprint: String,
    /// What it asks to announce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub prefixes: Vec<String>,
    /// Where it came from, as the gateway saw it.
    #[schemars(length(max = 64))]
    pub from: String,
    /// Since when it waits (RFC 3339).
    #[schemars(length(max = 64))]
    pub at: String,
    /// What somebody decided; absent: nobody has yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub decided_by: Option<String>,
}

/// What became of a machine that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Decision {
    /// It gets in when it asks next.
    Approved,
    /// It is refused until the token ends.
    Denied,
}

/// An attempt that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// Why, in one CamelCase word.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// Where it came from, as the gateway saw it.
    #[schemars(length(max = 64))]
    pub from: String,
    /// When (RFC 3339).
    #[schemars(length(max = 64))]
    pub at: String,
}
