//! From resources to what a rotation looks at. Pure.

use std::{collections::BTreeSet, sync::Arc};

use api::{KeyRotation, Mesh, MeshNode, MeshPeer, conditions, published};
use jiff::Timestamp;
use keys::KeyEpoch;
use kube::ResourceExt;

use super::FINALIZER;
use crate::rotate::{Node, Progress, Rotation, Running, World};

/// The resources at one moment.
#[derive(Clone, Default)]
pub(in crate::reconcile) struct SeenRotations {
    pub(in crate::reconcile) mesh: Option<Arc<Mesh>>,
    pub(in crate::reconcile) nodes: Vec<Arc<MeshNode>>,
    pub(in crate::reconcile) peers: Vec<Arc<MeshPeer>>,
    pub(in crate::reconcile) rotations: Vec<Arc<KeyRotation>>,
}

impl SeenRotations {
    pub(super) fn world(&self) -> World {
        let status = self.mesh.as_ref().and_then(|mesh| mesh.status.clone()).unwrap_or_default();
        let degraded = conditions::get(&status.conditions, "Degraded");
        let newest = status.newest_epoch.unwrap_or(KeyEpoch::FIRST.0);
        let used = self.rotations.iter().filter_map(|r| r.status.as_ref()?.epoch).max();
        World {
            nodes: self.nodes.iter().map(|node| (node.name_any(), read(node))).collect(),
            plain_peers: self.peers.iter().map(|peer| calls(peer.as_ref())).collect(),
            degraded: degraded.filter(|c| c.is_true()).map(|c| c.message.clone()),
            running: status.rotation.map(|uid| Running { name: self.name_of(&uid), uid }),
            newest: KeyEpoch(used.unwrap_or(newest).max(newest)),
        }
    }

    /// Rotations that are not over, the oldest first.
    pub(super) fn open(&self) -> Vec<&Arc<KeyRotation>> {
        let mut open: Vec<_> = self.rotations.iter().filter(|object| !is_over(object)).collect();
        open.sort_by_key(|object| (created(object), object.name_any()));
        open
    }

    /// What the nodes say they have sent and lost in that rotation, in all.
    pub(super) fn probes(&self, uid: &str) -> (u64, u64) {
        let told = self.nodes.iter().filter_map(|node| node.status.as_ref()?.probes.as_ref());
        let of_it = told.filter(|probes| probes.rotation == uid);
        of_it.fold((0, 0), |(sent, lost), probes| {
            (sent.saturating_add(probes.sent), lost.saturating_add(probes.lost))
        })
    }

    pub(super) fn over(&self) -> impl Iterator<Item = &Arc<KeyRotation>> {
        self.rotations.iter().filter(|object| is_over(object))
    }

    pub(super) fn over_and_held(&self) -> impl Iterator<Item = &Arc<KeyRotation>> {
        self.over().filter(|object| object.finalizers().iter().any(|held| held == FINALIZER))
    }

    /// When the last rotation ended, else when the mesh was made.
    pub(super) fn last_end(&self) -> Timestamp {
        let ends = self.rotations.iter().filter_map(|object| {
            object.status.as_ref()?.ended_at.as_ref()?.parse::<Timestamp>().ok()
        });
        let made = self.mesh.as_ref().and_then(|mesh| mesh.metadata.creation_timestamp.clone());
        ends.max().or(made.map(|time| time.0)).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn name_of(&self, uid: &str) -> String {
        let named =
            self.rotations.iter().find(|object| object.metadata.uid.as_deref() == Some(uid));
        named.map_or_else(|| uid.to_owned(), |object| object.name_any())
    }
}

fn created(object: &KeyRotation) -> Option<Timestamp> {
    object.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

fn is_over(object: &KeyRotation) -> bool {
    let phase = object.status.as_ref().and_then(|status| status.phase);
    phase.is_some_and(api::RotationPhase::is_over)
}

/// A plain peer, and the nodes that it calls.
fn calls(peer: &MeshPeer) -> (String, BTreeSet<String>) {
    (peer.name_any(), peer.spec.entries.iter().cloned().collect())
}

fn read(node: &MeshNode) -> Node {
    let status = node.status.clone().unwrap_or_default();
    let (keys, _) = published::public_keys(&status.public_keys);
    Node {
        site: node.spec.site.clone(),
        revoked: node.spec.revoked,
        key_epoch: KeyEpoch(node.spec.key_epoch),
        epochs: node.spec.epochs.iter().copied().map(KeyEpoch).collect(),
        keys: keys.into_iter().collect(),
        newest: status.newest_epoch.map(KeyEpoch),
        confirmed: status.confirmed,
        unreachable: status.unreachable.into_iter().collect(),
    }
}

/// A progress that says too little to go on from counts as none.
pub(super) fn rotation(object: &KeyRotation) -> Rotation {
    let status = object.status.clone().unwrap_or_default();
    let progress = || {
        Some(Progress {
            phase: status.phase?,
            outcome: status.outcome?,
            epoch: KeyEpoch(status.epoch?),
            wave: status.wave?,
            started_at: status.started_at?.parse().ok()?,
            deadline: status.deadline?.parse().ok()?,
        })
    };
    Rotation {
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        spec: object.spec.clone(),
        deleted: object.metadata.deletion_timestamp.is_some(),
        progress: progress(),
    }
}
