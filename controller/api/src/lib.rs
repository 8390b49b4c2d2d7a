//! The custom resources of Hawser (`hawser.dev/v1alpha1`) and their validation, nothing else.
//!
//! Agents, controller and CLI meet in these objects. Every text that comes from somebody else
//! stays a `String` on the wire, so that one malformed object cannot make a whole list unreadable;
//! the parsers beside the types turn it into a value or say what is wrong with it.

#![forbid(unsafe_code)]
#![allow(unreachable_pub, reason = "the schema derive repeats each type in an inner scope")]

pub mod announced;
mod claim;
pub mod conditions;
mod confirmation;
mod crds;
mod encryption;
pub mod join;
mod join_token;
mod mesh;
mod node;
mod peer;
mod probes;
pub mod published;
mod rotation;
mod text;
mod topology;

pub use claim::{
    AddressOf, ClaimOwner, ClaimPhase, NotAClaimName, SubnetClaim, SubnetClaimSpec,
    SubnetClaimStatus, claim_name, subnet_of_claim,
};
pub use conditions::Condition;
pub use confirmation::{Confirmation, ConfirmedStep, digest};
pub use crds::{crds, crds_yaml, manifests};
pub use encryption::{Encryption, SiteEncryption, encryption_between};
pub use join_token::{
    Admitted, Decision, JoinToken, JoinTokenSpec, JoinTokenStatus, Refused, Waiting,
};
pub use mesh::{
    Backend, Gateway, Ipam, Mesh, MeshSpec, MeshStatus, Pool, PoolUsage, Relay, RotationSchedule,
    return_after,
};
pub use node::{
    Joined, Machine, MeshNode, MeshNodeSpec, MeshNodeStatus, NO_NAT, PublishedKey, Served,
    TlsListener,
};
pub use peer::{MeshPeer, MeshPeerSpec, MeshPeerStatus, SecretKeyRef};
pub use probes::Probes;
pub use rotation::{
    KeyRotation, KeyRotationSpec, KeyRotationStatus, RotationOutcome, RotationPhase, Wave,
};
pub use text::{BadPrefix, duration, first_host, is_unicast, overlap, parse_prefix};
pub use topology::{SiteGateways, Topology};

/// The API group of every resource here.
pub const GROUP: &str = "hawser.dev";
/// Its only version.
pub const VERSION: &str = "v1alpha1";
/// The name of the one `Mesh`.
pub const MESH: &str = "default";

#[cfg(test)]
mod tests;
