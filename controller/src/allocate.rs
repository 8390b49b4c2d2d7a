//! Who gets which subnet: a pure function from what the API says to the next writes.
//!
//! A subnet has one owner because its claim has one name. Four kinds of write, each guarded by the
//! API server alone, carry a subnet through its life; no lock and no leader is needed for safety:
//!
//! ```text
//!            Create (name is free)                Release (same version, node is gone)
//!   no claim ────────────────────▶ Bound(node) ──────────────────────────▶ Resting
//!                                    │    ▲                                   │ REST, watched
//!            Publish (node's version)│    │ Bind (same version, generation+1) ▼
//!                                    ▼    └──────────────────────────────── Rested
//!                            MeshNode.spec.subnets
//! ```
//! A node that is deleted and made again under its name is another owner. If its agent publishes a
//! key that the last owner had, it is the same machine, whose pods run on: it gets its subnet back
//! without a rest, at the next generation. Until its agent has said which key it has, it waits.
//!
//! Two controllers may race, stall and see old states. What holds it together:
//! * nodes are read before claims, and a node's subnets are written under the version read, so a
//!   stalled writer fails;
//! * a claim is published only if no claim that overlaps it is held (pools edited while two
//!   controllers look at different versions of them): of two such claims the later one sees both;
//! * a claim is released only after a fresh look: its owner is gone, or its spec stands with
//!   another subnet;
//! * what another node's spec names is never given out, claim or not.

mod occupied;
mod plan;
mod pools;
mod rest;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

pub use plan::{Assignment, NodeVerdict, Plan, Write, may_release, plan};
pub use pools::{Family, Pool, PoolProblem, Pools, overlap};
pub use rest::{REST, Rests};

/// What is read of the API for one plan.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub pools: Vec<Pool>,
    /// Names of those that have one, by their prefix: only nodes that name it get a block of it.
    pub names: BTreeMap<IpNet, Arc<str>>,
    pub nodes: Vec<Node>,
    pub claims: Vec<Claim>,
    /// After a restore: only what nodes are known to use may be claimed, nothing new.
    pub paused: bool,
}

/// A node as allocation sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: Arc<str>,
    pub uid: Arc<str>,
    /// `spec.subnets`, as far as it can be read.
    pub subnets: Vec<IpNet>,
    /// Whether `spec.subnets` is written exactly so.
    pub tidy: bool,
    /// What its agent says it uses.
    pub in_force: Vec<IpNet>,
    /// The node's own addresses on the underlay.
    pub underlay: Vec<IpAddr>,
    pub revoked: bool,
    /// The public keys that its agent publishes.
    pub keys: Vec<Arc<str>>,
    /// The name of the pools that it gets blocks of; none: those without a name.
    pub pool: Option<Arc<str>>,
    /// What the cluster says are its subnets (a Node's podCIDRs); none: the pools decide.
    pub assigned: Option<Vec<IpNet>>,
}

/// The claim of one subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub subnet: IpNet,
    pub generation: i64,
    pub state: State,
    /// Who has it, or had it last, as far as he told his keys.
    pub former: Option<Former>,
}

/// An owner by what outlives its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    pub node: Arc<str>,
    /// Public keys.
    pub keys: Vec<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// A node owns it.
    Bound(Owner),
    /// Released, and not yet for [`REST`] as far as this controller saw.
    Resting,
    /// Released long enough for another owner.
    Rested,
    /// Never given out: somebody set it aside, or it cannot be read.
    Reserved,
}

/// A node, told apart from a later one of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    pub node: Arc<str>,
    pub uid: Arc<str>,
}
