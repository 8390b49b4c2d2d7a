//! One change of the nodes' keys, as a pure state machine: make before break, and a way back.
//!
//! ```text
//!              bad request, or another one is under way ──▶ Refused
//!                 ▲
//!   (new) ──▶ Pending ──▶ Publishing ──▶ Accepting ──▶ Switching ──┐   one wave:
//!         paused, mesh      the wave's    everybody     keyEpoch   │   canaries first,
//!         degraded          new keys      confirms      = E        │   then all others
//!                               ▲                                  │
//!                               ├───────── the next wave ◀─────────┤
//!                               └── who was away is back ◀──┐      │ everybody confirms
//!                                                           │      ▼
//!   Completed │ Aborted │ RolledBack ◀── Forgetting ◀────── Draining ◀── abort, roll back
//!                                        epochs = {keyEpoch}    nobody uses what is to go
//! ```
//!
//! Two rules carry it. A node that is to change **holds both keys** from the first step to the last
//! (`spec.epochs`), and what its peers send with (`spec.keyEpoch`) moves only after everybody who is
//! there has confirmed that he accepts both. And a key goes only when everybody who is there has
//! confirmed that no session uses it, and everybody who is away is back, or the deadline is over.
//!
//! A step either writes to nodes or moves the rotation, never both, and always on a fresh view and
//! under the versions read. So it may be repeated, raced and cut off anywhere. `keyEpoch` may go
//! back while both keys are held, that is until Forgetting; afterwards the way back is a new epoch.

mod away;
mod request;
pub mod schedule;
mod sight;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use api::{Confirmation, KeyRotationSpec, RotationOutcome, RotationPhase, Wave};
use jiff::Timestamp;
use keys::{KeyEpoch, PublicKey};

pub use away::away;
pub use request::{Refusal, targets};
pub use step::{next, tidy};

/// The mesh at one moment, as far as a rotation needs to know.
#[derive(Clone, Debug)]
pub struct World {
    pub nodes: BTreeMap<String, Node>,
    /// Plain WireGuard peers, and the nodes whose keys they know by heart (empty: of every node).
    /// They confirm nothing.
    pub plain_peers: BTreeMap<String, BTreeSet<String>>,
    /// What is wrong with the mesh, if anything is.
    pub degraded: Option<String>,
    /// The rotation that is under way (`Mesh.status.rotation`).
    pub running: Option<Running>,
    /// The newest epoch that any rotation ever moved to (`Mesh.status.newestEpoch`).
    pub newest: KeyEpoch,
}

/// The one rotation that holds the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub uid: String,
    /// For people.
    pub name: String,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub site: Option<String>,
    pub revoked: bool,
    /// What its peers send with.
    pub key_epoch: KeyEpoch,
    /// What it is told to hold; empty: it was never told.
    pub epochs: BTreeSet<KeyEpoch>,
    /// What it publishes, as far as others use it.
    pub keys: BTreeMap<KeyEpoch, PublicKey>,
    /// The newest epoch that it says it ever had a key of.
    pub newest: Option<KeyEpoch>,
    pub confirmed: Option<Confirmation>,
    /// Nodes that it has no tunnel to.
    pub unreachable: BTreeSet<String>,
}

impl Node {
    /// Its agent has been there.
    pub fn has_started(&self) -> bool {
        !self.keys.is_empty() && !self.revoked
    }
}

/// One KeyRotation.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    pub name: String,
    pub uid: String,
    pub spec: KeyRotationSpec,
    /// Somebody deleted it; it stays until its nodes are in order again.
    pub deleted: bool,
    pub progress: Option<Progress>,
}

/// How far it has come: what is kept between two steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub phase: RotationPhase,
    pub outcome: RotationOutcome,
    pub epoch: KeyEpoch,
    pub wave: Wave,
    pub started_at: Timestamp,
    pub deadline: Timestamp,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// To be written to the rotation's status only: it could not begin.
    Refuse(Refusal),
    /// It has not begun; why.
    Pend(Reason),
    /// To be claimed in the Mesh, in one conditional write, before the progress is kept.
    Begin(Progress),
    /// To be written to nodes.
    Write(Vec<Write>),
    /// To be kept.
    Move(Progress),
    /// Nothing, until something changes.
    Wait(Waiting),
    /// It is over.
    Rest,
}

/// What a node is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub node: String,
    pub key_epoch: KeyEpoch,
    pub epochs: BTreeSet<KeyEpoch>,
}

/// Whom a rotation waits for, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub nodes: Vec<String>,
    pub reason: Reason,
    /// Until when at most.
    pub until: Option<Timestamp>,
}

/// A condition's reason and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub word: &'static str,
    pub text: String,
}

impl Reason {
    fn new(word: &'static str, text: impl Into<String>) -> Self {
        Self { word, text: text.into() }
    }
}

/// How many of the nodes to rotate are on the new epoch, of all.
pub fn done(rotation: &Rotation, world: &World) -> (usize, usize) {
    let targets = targets(&rotation.spec, world);
    let epoch = rotation.progress.as_ref().map(|progress| progress.epoch);
    let on_it = |name: &&String| Some(world.nodes[*name].key_epoch) == epoch;
    (targets.iter().filter(on_it).count(), targets.len())
}
