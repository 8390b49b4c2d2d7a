//! `KeyRotation`: one change of the nodes' long-term keys, from plan to proof.

use std::fmt;

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
#[x_kube(validation = Rule::new("!oldSelf.aborted || self.aborted")
    .message("an aborted rotation stays aborted; make another"))]
#[x_kube(validation = Rule::new("!oldSelf.rollBack || self.rollBack")
    .message("a rotation that goes back does not go forth again; make another"))]
#[x_kube(validation = Rule::new("has(self.nodes) == has(oldSelf.nodes) && has(self.sites) == has(oldSelf.sites) && has(self.canaries) == has(oldSelf.canaries) && has(self.canarySites) == has(oldSelf.canarySites)")
    .message("a rotation keeps its nodes and canaries; make another"))]
pub struct KeyRotationSpec {
    /// The nodes to rotate; none here and no sites: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a rotation keeps its nodes; make another"))]
    pub nodes: Vec<String>,
    /// The sites whose nodes to rotate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 63)))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a rotation keeps its sites; make another"))]
    pub sites: Vec<String>,
    /// Nodes that go first, alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a rotation keeps its canaries; make another"))]
    pub canaries: Vec<String>,
    /// Sites whose nodes go first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 63)))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a rotation keeps its canaries; make another"))]
    pub canary_sites: Vec<String>,
    /// At most so many nodes change at once; unset: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub wave_size: Option<u32>,
    /// No new wave begins while more nodes than this are away; unset: a quarter of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_unavailable: Option<u32>,
    /// Stops before the next step until it is false again.
    #[serde(default)]
    pub paused: bool,
    /// Ends the rotation; nodes that have not switched keep their key.
    #[serde(default)]
    pub aborted: bool,
    /// Ends the rotation, and nodes that have switched go back to the key that they still hold.
    #[serde(default)]
    pub roll_back: bool,
    /// Begins also while the mesh is degraded.
    #[serde(default)]
    pub force: bool,
    /// The named nodes lost their keys: the old ones are refused at once and the nodes make new
    /// ones, as soon as their agents are back. Nobody is waited for.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a rotation stays what it is; make another"))]
    pub lost: bool,
    /// Until when the old epoch stays valid for nodes that are away (RFC 3339); unset: seven days
    /// from the start.
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
    /// What it will end as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<RotationOutcome>,
    /// The epoch that it moves to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub epoch: Option<u32>,
    /// The nodes that change now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<Wave>,
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
    /// When it ended (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub ended_at: Option<String>,
    /// Until when the old epoch stays valid for nodes that are away (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub deadline: Option<String>,
    /// Probes sent between live peers since it began, over all nodes; see MeshNode's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_000u64))]
    pub probes: Option<u64>,
    /// Those that were lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_000u64))]
    pub lost: Option<u64>,
    /// Progressing, Completed, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Nodes that change together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wave {
    /// Counts from 1.
    #[schemars(range(min = 1))]
    pub number: u32,
    /// Who is in it.
    #[schemars(length(max = 1000), inner(length(min = 1, max = 253)))]
    pub nodes: Vec<String>,
    /// The keys to confirm, as SHA-256 in hexadecimal; unset while nothing is to be confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub digest: Option<String>,
}

/// The steps of a rotation, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RotationPhase {
    /// It may not begin yet; the condition says why.
    Pending,
    /// The wave's nodes make and publish their new keys.
    Publishing,
    /// Everybody installs them for receiving.
    Accepting,
    /// Everybody sends with them.
    Switching,
    /// Until nobody uses a key that is to go.
    Draining,
    /// The keys that nobody uses are wiped.
    Forgetting,
    Completed,
    Aborted,
    RolledBack,
    /// It could not begin; the condition says why.
    Refused,
}

impl RotationPhase {
    /// True if nothing more will happen.
    pub fn is_over(self) -> bool {
        match self {
            Self::Completed | Self::Aborted | Self::RolledBack | Self::Refused => true,
            Self::Pending
            | Self::Publishing
            | Self::Accepting
            | Self::Switching
            | Self::Draining
            | Self::Forgetting => false,
        }
    }
}

impl fmt::Display for RotationPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "Pending",
            Self::Publishing => "Publishing",
            Self::Accepting => "Accepting",
            Self::Switching => "Switching",
            Self::Draining => "Draining",
            Self::Forgetting => "Forgetting",
            Self::Completed => "Completed",
            Self::Aborted => "Aborted",
            Self::RolledBack => "RolledBack",
            Self::Refused => "Refused",
        })
    }
}

/// What a rotation ends as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RotationOutcome {
    #[default]
    Completed,
    Aborted,
    RolledBack,
}
