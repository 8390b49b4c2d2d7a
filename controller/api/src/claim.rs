//! `SubnetClaim`: the proof of who owns a subnet.
//!
//! The object is named after the subnet, so the API server itself keeps a second owner out: of two
//! controllers that create the same name, one fails. The owner stands in the spec, because a create
//! must say it in the same write; taking a rested claim over is an update with `resourceVersion`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Condition, PublishedKey};

/// Who owns the subnet, or since when nobody does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "hawser.dev",
    version = "v1alpha1",
    kind = "SubnetClaim",
    plural = "subnetclaims",
    shortname = "hwsc",
    category = "hawser",
    status = "SubnetClaimStatus",
    derive = "PartialEq",
    doc = "A SubnetClaim binds one subnet to one node. It is named after the subnet, so a subnet cannot have two owners.",
    printcolumn(name = "Subnet", type_ = "string", json_path = ".spec.subnet"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.node"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Generation", type_ = "integer", json_path = ".spec.generation"),
    printcolumn(name = "Released", type_ = "string", json_path = ".spec.releasedAt", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Bound")].reason"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.node) == has(self.nodeUID)")
    .message("an owner has a name and a UID"))]
#[x_kube(validation = Rule::new("!(has(self.node) && has(self.addresses))")
    .message("a subnet is a node's, or single addresses come out of it"))]
#[x_kube(validation = Rule::new("self.generation >= oldSelf.generation")
    .message("the generation of a claim never decreases"))]
#[x_kube(validation = Rule::new("!has(oldSelf.nodeUID) || !has(self.nodeUID) || self.nodeUID == oldSelf.nodeUID")
    .message("a bound claim is released before somebody else gets it"))]
#[x_kube(validation = Rule::new("has(oldSelf.nodeUID) || !has(self.nodeUID) || self.generation > oldSelf.generation")
    .message("a new owner gets a new generation"))]
pub struct SubnetClaimSpec {
    /// The subnet, such as 10.42.3.0/24.
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a claim stands for one subnet for ever"))]
    #[x_kube(validation = Rule::new("isCIDR(self) && string(cidr(self).masked()) == self")
        .message("a subnet is a prefix without host bits, such as 10.42.3.0/24"))]
    pub subnet: String,
    /// Counts the owners; a writer with an older generation is out of date.
    #[schemars(range(min = 1))]
    pub generation: i64,
    /// The owner's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub node: Option<String>,
    /// The owner's UID: a node that is deleted and made again is another owner.
    #[serde(default, rename = "nodeUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub node_uid: Option<String>,
    /// Since when nobody owns it (RFC 3339). It rests before it is bound again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub released_at: Option<String>,
    /// The single addresses that were given out of it, where no node owns it. Taken by an update
    /// under the version that was read: so no address is given out twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 250), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["address"]))]
    pub addresses: Vec<AddressOf>,
}

/// A single address and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressOf {
    /// Such as 10.42.255.2.
    #[schemars(length(min = 2, max = 45))]
    pub address: String,
    /// The MeshPeer's name.
    #[schemars(length(min = 1, max = 253))]
    pub peer: String,
}

/// The claim as people see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubnetClaimStatus {
    /// Bound, Resting or Free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ClaimPhase>,
    /// Who has the subnet, or had it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ClaimOwner>,
    /// Bound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A node by what outlives its object: one that comes back under this name with one of these keys is
/// the same machine, and gets the subnet back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimOwner {
    /// The MeshNode's name.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
    /// The generation of the claim that it had.
    pub generation: i64,
    /// The public keys that it published last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["epoch"]))]
    pub keys: Vec<PublishedKey>,
}

/// Where a claim stands in its life: `Bound → Resting → Free → Bound …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClaimPhase {
    Bound,
    Resting,
    Free,
}

/// A name that stands for no subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no claim's name; one looks like 10-42-3-0-24 or fd42-0-0-1-0-0-0-0-64")]
pub struct NotAClaimName(pub String);

/// The name of a subnet's claim: all groups written out, `10-42-3-0-24` or
/// `fd42-0-0-1-0-0-0-0-64`, so that one subnet has one name.
pub fn claim_name(subnet: &IpNet) -> String {
    let groups = match subnet.network() {
        IpAddr::V4(address) => address.octets().map(|o| o.to_string()).join("-"),
        IpAddr::V6(address) => address.segments().map(|s| format!("{s:x}")).join("-"),
    };
    format!("{groups}-{}", subnet.prefix_len())
}

/// The subnet that a claim's name stands for.
pub fn subnet_of_claim(name: &str) -> Result<IpNet, NotAClaimName> {
    let bad = || NotAClaimName(name.to_owned());
    let (groups, length) = name.rsplit_once('-').ok_or_else(bad)?;
    let groups: Vec<&str> = groups.split('-').collect();
    let address: IpAddr = match groups.len() {
        4 => groups.join(".").parse::<Ipv4Addr>().map_err(|_| bad())?.into(),
        8 => groups.join(":").parse::<Ipv6Addr>().map_err(|_| bad())?.into(),
        _ => return Err(bad()),
    };
    let subnet = IpNet::new(address, length.parse().map_err(|_| bad())?).map_err(|_| bad())?;
    if claim_name(&subnet) == name { Ok(subnet) } else { Err(bad()) }
}
