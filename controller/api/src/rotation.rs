//! `KeyRotation`: one change of the nodes' long-term keys, from plan to proof.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Condition;

/// What is to be rotated, and how carefully.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema,
)]
#[kube(
    group = "hawser.dev",
    version = "v1alpha1",
    kind = "KeyRotation",
    plural = "keyrotations",
    shortname = "hwkr",
    category = "hawser",
    status = "KeyRotationStatus",
    derive = "PartialEq",
    doc = "A KeyRotation moves nodes to a new key epoch: published, confirmed by every live peer, then used, then the old one forgotten.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.epoch"),
    printcolumn(
        name = "Done",
        type_ = "string",
        json_path = ".status.done",
        description = "nodes on the new epoch, of all"
    ),
    printcolumn(name = "Started", type_ = "string", json_path = ".status.startedAt", priority = 1),
    printcolumn(name = "Lost", type_ = "integer", json_path = ".status.lost", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Progressing")].reason"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct KeyRotationSpec {
    /// The nodes to rotate; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a rotation keeps its nodes; make another"))]
    pub nodes: Vec<String>,
    /// Stops before the next step until it is false again.
    #[serde(default)]
    pub paused: bool,
    /// Ends the rotation; nodes that have not switched keep their key.
    #[serde(default)]
    pub aborted: bool,
    /// Until when the old epoch stays valid for nodes that are away (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub deadline: Option<String>,
}

/// How far a rotation has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRotationStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<RotationPhase>,
    /// The epoch that it moves to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// Nodes on the new epoch, of all, such as 4/6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub done: Option<String>,
    /// Who is waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 253)))]
    pub waiting_for: Vec<String>,
    /// When it began (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub started_at: Option<String>,
    /// Probes lost between live peers since it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Progressing, Completed, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The steps of a rotation, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RotationPhase {
    Publishing,
    Accepting,
    Switching,
    Draining,
    Completed,
    Aborted,
}
