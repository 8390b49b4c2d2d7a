//! What a node found while keys rotate: small packets through the tunnels, answered or lost.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Probes that a node sent through its tunnels during one rotation.
///
/// While a rotation moves, each agent sends one a second to each of up to ten other nodes. One that
/// is not answered within two seconds is lost. It counts if the peer is live: it has answered since
/// the rotation began, in the last fifteen seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.lost <= self.sent")
    .message("no more probes are lost than were sent"))]
pub struct Probes {
    /// The KeyRotation's UID.
    #[schemars(length(min = 1, max = 64))]
    pub rotation: String,
    /// Probes whose fate is known.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub sent: u64,
    /// Those without an answer.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub lost: u64,
}

impl Probes {
    /// As many as a node may claim.
    pub const MOST: u64 = 1_000_000_000;
}
